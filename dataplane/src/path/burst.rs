//! The packets that pass the stages together, and what is known of each.

use flow::{ConnId, FlowId};
use types::{Address, BURST_MAX, EthPortId, Packet, Verdict};
use wire::Parsed;

use crate::path::steer::Asked;

/// Which of the burst's packets a stage is to look at: one bit a packet.
pub type Mask = u64;

/// What the stages have found out about a packet. `A` is the address of the flows of its lane.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub struct Meta<A = u32> {
    /// What `parse` read from the headers.
    pub parsed: Parsed<A>,
    /// Keyed hash of the flow key, from `lookup` on.
    pub hash: u64,
    /// The flow that the packet belongs to, from `lookup` or `open` on.
    pub flow: Option<FlowId>,
    /// Where the packet came in.
    pub interface: u16,
    /// Where it goes out, from `egress` on.
    pub out: u16,
    /// The role of the destination address, from `admit` on.
    pub role: Option<fib::Role>,
    /// Which other workers have been asked for its conn, from `steer` on if there are several.
    pub asked: Asked,
    /// It was translated by one of our workers already and comes from a port of a WAN IP.
    pub looped: bool,
}

impl Meta {
    /// What is known of a packet of IPv4, as the wide lane has it. Its flow is another one there.
    pub fn mapped(&self) -> Meta<u128> {
        let Self { ref parsed, interface, role, asked, .. } = *self;
        Meta { parsed: parsed.mapped(), interface, role, asked, ..Meta::default() }
    }
}

/// Up to [`BURST_MAX`] packets on their way through the stages.
///
/// A packet is *live* until a stage ends it with a verdict or takes it away.
#[derive(Debug)]
pub struct Burst<P, A = u32> {
    packets: [Option<P>; BURST_MAX],
    meta: [Meta<A>; BURST_MAX],
    verdicts: [Verdict; BURST_MAX],
    live: Mask,
    ended: Mask,
    oversized: Mask,
    followed: Mask,
    known: Mask,
}

impl<P, A: Address> Default for Burst<P, A> {
    fn default() -> Self {
        Self {
            packets: [const { None }; BURST_MAX],
            meta: [Meta::default(); BURST_MAX],
            verdicts: [Verdict::Internal; BURST_MAX],
            live: 0,
            ended: 0,
            oversized: 0,
            followed: 0,
            known: 0,
        }
    }
}

// Indices are cut to the arrays' power-of-two length, so that no access can be out of bounds and
// none is checked twice.
const WITHIN: usize = BURST_MAX - 1;
const _: () = assert!(BURST_MAX == Mask::BITS as usize && BURST_MAX.is_power_of_two());

#[allow(clippy::indexing_slicing, reason = "the index is cut to the array's length")]
impl<P, A: Address> Burst<P, A> {
    /// The places for `receive`; all are `None` between bursts.
    #[inline]
    pub fn places(&mut self) -> &mut [Option<P>; BURST_MAX] {
        debug_assert!(self.live == 0 && self.ended == 0);
        &mut self.packets
    }

    /// Makes the first `count` places live, as received on `interface`.
    #[inline]
    pub fn begin(&mut self, count: usize, interface: EthPortId) {
        self.live = if count >= BURST_MAX { Mask::MAX } else { (1 << count) - 1 };
        for meta in self.meta.iter_mut().take(count) {
            meta.interface = interface.0;
            meta.flow = None;
            meta.looped = false;
        }
    }

    /// Puts a packet with what is known of it into the next place. The burst must not be full.
    #[inline]
    pub fn push(&mut self, packet: P, meta: Meta<A>) {
        let at = self.put(packet);
        self.meta[at] = meta;
    }

    /// Makes the next place live; what is known of the packet there is another's yet.
    #[inline]
    fn put(&mut self, packet: P) -> usize {
        let at = (self.live | self.ended).trailing_ones() as usize & WITHIN;
        debug_assert!(self.packets[at].is_none(), "a full burst takes no more");
        self.packets[at] = Some(packet);
        self.live |= 1 << at;
        at
    }

    /// Puts a packet whose flow has been looked up.
    #[inline]
    pub fn push_known(&mut self, packet: P, meta: Meta<A>) {
        let at = self.put(packet);
        self.meta[at] = meta;
        self.known |= 1 << at;
    }

    /// The packets of which that is true; none is any more.
    #[inline]
    pub fn take_known(&mut self) -> Mask {
        std::mem::take(&mut self.known)
    }

    /// Puts a packet that came in on `interface`, and of which nothing is known, into the next place.
    #[inline]
    pub fn push_received(&mut self, packet: P, interface: u16) {
        let at = self.put(packet);
        let meta = &mut self.meta[at];
        meta.interface = interface;
        meta.flow = None;
        meta.looped = false;
    }

    /// True if no packet is here.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.live | self.ended == 0
    }

    /// Bytes of all packets that are here.
    #[inline]
    pub fn bytes(&self) -> u64
    where
        P: Packet,
    {
        self.packets.iter().flatten().map(|packet| packet.total_len() as u64).sum()
    }

    /// The packets that are still on their way.
    #[inline]
    pub fn live(&self) -> Mask {
        self.live
    }

    /// What is known of a packet.
    #[inline]
    pub fn meta(&self, at: usize) -> &Meta<A> {
        &self.meta[at & WITHIN]
    }

    /// The same, to write.
    #[inline]
    pub fn meta_mut(&mut self, at: usize) -> &mut Meta<A> {
        &mut self.meta[at & WITHIN]
    }

    /// A packet, if it is still here.
    #[inline]
    pub fn packet(&self, at: usize) -> Option<&P> {
        self.packets[at & WITHIN].as_ref()
    }

    /// A packet and what is known of it, both to write.
    #[inline]
    pub fn both(&mut self, at: usize) -> Option<(&mut P, &mut Meta<A>)> {
        let meta = &mut self.meta[at & WITHIN];
        self.packets[at & WITHIN].as_mut().map(|packet| (packet, meta))
    }

    /// Ends a packet here; `finish` frees and counts it.
    #[inline]
    pub fn end(&mut self, at: usize, verdict: Verdict) {
        let at = at & WITHIN;
        self.verdicts[at] = verdict;
        self.live &= !(1 << at);
        self.ended |= 1 << at;
    }

    /// Marks a packet that `egress` is to cut into fragments.
    #[cold]
    pub fn mark_oversized(&mut self, at: usize) {
        self.oversized |= 1 << (at & WITHIN);
    }

    /// The packets that are marked so; none is any more.
    #[inline]
    pub fn take_oversized(&mut self) -> Mask {
        std::mem::take(&mut self.oversized)
    }

    /// Marks a packet that one of ours is to follow.
    #[cold]
    pub fn mark_followed(&mut self, at: usize) {
        self.followed |= 1 << (at & WITHIN);
    }

    /// The packets that are marked so; none is any more.
    #[inline]
    pub fn take_followed(&mut self) -> Mask {
        std::mem::take(&mut self.followed)
    }

    /// Takes a packet away; who takes it answers for its verdict.
    #[inline]
    pub fn take(&mut self, at: usize) -> Option<P> {
        let at = at & WITHIN;
        self.live &= !(1 << at);
        self.packets[at].take()
    }

    /// Ends the live packets of a conn that is gone: what comes to stand in its place is another's.
    #[cold]
    pub fn end_of(&mut self, conn: ConnId, verdict: Verdict) {
        for at in ones(self.live) {
            if self.meta[at].flow.is_some_and(|flow| flow.conn() == conn) {
                self.end(at, verdict);
            }
        }
    }

    /// The flow of these packets is gone; they are of no conn.
    #[cold]
    pub fn forget(&mut self, flow: FlowId) {
        for at in ones(self.live) {
            if self.meta[at].flow == Some(flow) {
                self.meta[at].flow = None;
            }
        }
    }

    /// Frees all that ended and gives each one's verdict to `count`.
    #[inline]
    pub fn drain_ended(&mut self, mut count: impl FnMut(&Meta<A>, Verdict)) {
        for at in ones(self.ended) {
            self.packets[at] = None;
            count(&self.meta[at], self.verdicts[at]);
        }
        self.ended = 0;
    }
}

/// The numbers of the bits that are set, lowest first.
#[inline]
pub fn ones(mut mask: Mask) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        if mask == 0 {
            return None;
        }
        let at = mask.trailing_zeros() as usize;
        mask &= mask - 1;
        Some(at)
    })
}
