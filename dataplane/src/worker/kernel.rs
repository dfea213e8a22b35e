//! Rings between a worker and the pump that serves the kernel's interfaces (KNIs).
//!
//! Up there are two of them: whatever else the kernel is sent, VRRP, routing protocols and ARP do not
//! wait behind it.

use rtrb::{Consumer, Producer, RingBuffer};
use types::{EthPortId, Now};

use crate::worker::bucket::Bucket;

/// Packets of what keeps the node in its network that wait for the pump, at most.
pub const URGENT: usize = 256;
/// Other packets for the kernel that wait for the pump, at most.
pub const BULK: usize = 1024;
/// Packets of the kernel that wait for a worker, at most.
pub const DOWN: usize = 1024;

/// What a packet is to the kernel. Each kind has a limit of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PuntClass {
    /// VRRP, routing protocols, BFD: without them the node is taken for dead.
    Protocol,
    /// ARP.
    Neighbour,
    /// To an address that the kernel holds.
    Local,
    /// To a group or to all.
    Group,
    /// Of a real server that is checked, to the check.
    Check,
}

impl PuntClass {
    /// Packets of the kind a millisecond, for each worker. Of `Local` it is half a gigabit a second of
    /// full packets, and so is it of `Check`; of the others, far more than sound networks have.
    const fn a_ms(self) -> u32 {
        match self {
            Self::Protocol => 10,
            Self::Neighbour => 5,
            Self::Local | Self::Check => 50,
            Self::Group => 2,
        }
    }

    const fn is_urgent(self) -> bool {
        matches!(self, Self::Protocol | Self::Neighbour)
    }
}

/// A packet on its way to or from the kernel.
#[derive(Debug)]
pub struct KernelPacket<P> {
    /// The interface of ours whose KNI it is for or from.
    pub interface: EthPortId,
    /// The frame.
    pub packet: P,
}

/// The worker's ends.
#[derive(Debug)]
pub struct KernelEnd<P> {
    urgent: Producer<KernelPacket<P>>,
    bulk: Producer<KernelPacket<P>>,
    down: Consumer<KernelPacket<P>>,
    limits: [Bucket; 5],
}

/// The pump's ends of the rings of one worker.
#[derive(Debug)]
pub struct PumpEnd<P> {
    /// What goes up first.
    pub urgent: Consumer<KernelPacket<P>>,
    /// What goes up after that.
    pub bulk: Consumer<KernelPacket<P>>,
    /// What the kernel sends.
    pub down: Producer<KernelPacket<P>>,
}

/// Both ends. Without a KNI there is nothing to wait in them.
pub fn kernel_link<P>(has_kni: bool) -> (KernelEnd<P>, PumpEnd<P>) {
    let ring = |len: usize| RingBuffer::new(if has_kni { len } else { 0 });
    let (urgent_in, urgent) = ring(URGENT);
    let (bulk_in, bulk) = ring(BULK);
    let (down, down_out) = ring(DOWN);
    let limits = Default::default();
    let worker = KernelEnd { urgent: urgent_in, bulk: bulk_in, down: down_out, limits };
    (worker, PumpEnd { urgent, bulk, down })
}

impl<P> KernelEnd<P> {
    /// Takes the right to give the kernel one packet of a kind.
    #[inline]
    pub fn may_punt(&mut self, class: PuntClass, now: Now) -> bool {
        let limit = self.limits.get_mut(class as usize);
        limit.is_some_and(|limit| limit.take(class.a_ms(), now))
    }

    /// Gives a packet to the pump, or back if its ring is full.
    #[inline]
    pub fn punt(&mut self, class: PuntClass, packet: KernelPacket<P>) -> Result<(), P> {
        let ring = if class.is_urgent() { &mut self.urgent } else { &mut self.bulk };
        ring.push(packet).map_err(|rtrb::PushError::Full(back)| back.packet)
    }

    /// The next packet that the kernel sends.
    #[inline]
    pub fn receive(&mut self) -> Option<KernelPacket<P>> {
        self.down.pop().ok()
    }
}
