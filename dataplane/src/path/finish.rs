//! Stage `finish`: frees what ended and counts why.

use types::{Address, Packet};

use crate::path::burst::Burst;
use crate::worker::Core;

/// Counts the verdict of each packet that ended in this burst.
#[inline]
pub fn finish<P: Packet, A: Address>(core: &mut Core<P>, burst: &mut Burst<P, A>) {
    burst.drain_ended(|_, verdict| core.counters.ended(verdict, 1));
}
