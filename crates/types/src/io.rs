//! What a worker asks of interfaces: bursts in, bursts out, empty packets.

use crate::Packet;

/// The queues that one worker polls, one receive and one transmit queue an interface.
///
/// The daemon's body is DPDK, that of tests and benches plain memory.
pub trait Io {
    /// The packets that come and go.
    type Packet: Packet;

    /// Takes waiting packets of an interface into a prefix of `into`, whose entries are all `None`.
    /// Returns how many. An interface that does not exist has none.
    fn receive(&mut self, interface: usize, into: &mut [Option<Self::Packet>]) -> usize;

    /// Gives a dense prefix of `packets` to the interface and returns how many it took; those are
    /// `None` afterwards, the others are still the caller's.
    fn transmit(&mut self, interface: usize, packets: &mut [Option<Self::Packet>]) -> usize;

    /// An empty packet with headroom for headers; `None` if there is no memory left.
    fn allocate(&mut self) -> Option<Self::Packet>;
}
