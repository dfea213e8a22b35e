//! Stage `finish`: frees what ended and counts why.

use types::Packet;

use crate::path::burst::Burst;
use crate::worker::Core;

/// Counts the verdict of each packet that ended in this burst.
#[inline]
pub fn finish<P: Packet>(core: &mut Core<P>, burst: &mut Burst<P>) {
    burst.drain_ended(|_, verdict| core.counters.ended(verdict, 1));
}
