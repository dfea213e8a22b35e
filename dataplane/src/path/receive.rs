//! Stage `receive`: takes what waits in the interfaces' queues and in the rings of other workers.

use counters::Source;
use types::{BURST_MAX, EthPortId, Io, Packet};

use crate::path::burst::Burst;
use crate::path::lane::Lane;
use crate::worker::Core;

/// Rings of other workers that are looked at in one loop, at most.
const RINGS: usize = 4;

/// Takes a burst from an interface. Returns how many packets it holds.
#[inline]
pub fn receive<I: Io>(
    core: &mut Core<I::Packet>,
    io: &mut I,
    burst: &mut Burst<I::Packet>,
    interface: EthPortId,
) -> usize {
    let count = io.receive(usize::from(interface.0), burst.places());
    if count > 0 {
        burst.begin(count, interface);
        let bytes = burst.bytes();
        core.counters.began(Source::Received, count as u64);
        core.counters.received(interface, count as u64, bytes);
        core.counters.burst(count);
    }
    count
}

/// Takes a burst of packets that other workers have parsed and that this one owns.
#[inline]
pub fn receive_handed<P: Packet, A: Lane>(core: &mut Core<P>, burst: &mut Burst<P, A>) -> usize {
    let count = A::handoff_mut(core).receive(RINGS, BURST_MAX, |handed| {
        burst.push(handed.packet, handed.meta);
    });
    core.counters.began(Source::FromRing, count as u64);
    count
}
