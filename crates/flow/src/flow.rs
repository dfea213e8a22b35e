//! One direction of a conn, in one cache line.

use std::mem::offset_of;

use arch::{Zeroable, zero, zeroable_struct};
use types::{Address, Dir, FlowKey, Now, WorkerId};

use crate::State;

/// A conn: the place of its two flows in the slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u32);

impl ConnId {
    /// The flow of the opener's packets.
    #[inline(always)]
    pub const fn forward(self) -> FlowId {
        FlowId(self.0 << 1)
    }

    /// The flow of the packets to the opener.
    #[inline(always)]
    pub const fn reverse(self) -> FlowId {
        FlowId(self.0 << 1 | 1)
    }
}

/// A flow: its place in the slab. The two flows of a conn are neighbours, the forward one first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowId(pub u32);

impl FlowId {
    /// The other direction.
    #[inline(always)]
    pub const fn twin(self) -> Self {
        Self(self.0 ^ 1)
    }

    /// The conn that it belongs to.
    #[inline(always)]
    pub const fn conn(self) -> ConnId {
        ConnId(self.0 >> 1)
    }

    /// Which direction it is.
    #[inline(always)]
    pub const fn dir(self) -> Dir {
        if self.0 & 1 == 0 { Dir::Forward } else { Dir::Reverse }
    }
}

/// The bits of [`Flow::flags`].
pub mod flags {
    /// Insert the client's address (TCP option 254): from the handshake's ACK until the server's
    /// first data is acknowledged; tracking clears it then. The reverse flow's is cleared by that data. Of UDP: IP
    /// option 31, on every datagram.
    pub const TOA: u8 = 1 << 0;
    /// Add [`Flow::seq_offset`](crate::Flow::seq_offset) to the sequence number.
    pub const ADJUST_SEQ: u8 = 1 << 1;
    /// Subtract [`Flow::seq_offset`](crate::Flow::seq_offset) from the ACK number and SACK edges.
    pub const ADJUST_ACK: u8 = 1 << 2;
    /// Add [`Flow::ts_offset`](crate::Flow::ts_offset) to TSval (forward), or subtract it from
    /// TSecr (reverse).
    pub const ADJUST_TS: u8 = 1 << 3;
    /// This is the flow of the packets to the opener. The table sets it.
    pub const REVERSE: u8 = 1 << 4;
    /// No rewrite: another worker has the conn, see [`Flow::redirect`](crate::Flow::redirect).
    pub const REDIRECT: u8 = 1 << 5;
    /// The conn has more than its flows say, and takes the slower body: a header of the PROXY protocol that is
    /// to come, or that the server has not acknowledged for long. Of UDP, forward only: one goes with the next datagram.
    pub const EXT: u8 = 1 << 6;
    /// Of UDP, with [`EXT`]: one goes with each datagram.
    pub const EACH: u8 = ADJUST_SEQ;
    /// How the conn ended, as far as its lease is concerned. Forward: by a RST, so that the other
    /// side remembers nothing. Reverse: with a timestamp ahead of our clock.
    pub const ENDED: u8 = 1 << 7;
}

zeroable_struct! {
    /// What is known of one direction: its key, its rewrite, its state and its counts.
    ///
    /// Of IPv4 64 bytes, one cache line, no byte left; with wide addresses 128 bytes, two lines. All
    /// numbers are in host order.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[repr(C, align(64))]
    pub struct Flow<A = u32> {
        /// Source address of arriving packets.
        pub src: A,
        /// Destination address of arriving packets.
        pub dst: A,
        /// Source port of arriving packets; the identifier of an ICMP query.
        pub sport: u16,
        /// Destination port of arriving packets; the identifier of an ICMP query.
        pub dport: u16,
        /// VLAN or tenant.
        pub zone: u16,
        /// IANA protocol number.
        pub proto: u8,
        /// State of the conn, the same in both flows.
        pub state: State,
        /// Source address to write.
        pub new_src: A,
        /// Destination address to write.
        pub new_dst: A,
        /// Source port to write.
        pub new_sport: u16,
        /// Destination port to write.
        pub new_dport: u16,
        /// One's-complement sum to add to the complemented IPv4 header checksum, for the
        /// addresses (RFC 1624 §3, equation 3).
        pub l3_delta: u16,
        /// The same for the transport checksum: addresses and ports.
        pub l4_delta: u16,
        /// What to add to sequence numbers, or to subtract from ACK numbers; see [`flags`].
        pub seq_offset: u32,
        /// What to add to TSval, or to subtract from TSecr; see [`flags`].
        pub ts_offset: u32,
        /// Highest ACK number that arrived in this direction, as it arrived. From the twin's SYN
        /// or FIN on, the number that will acknowledge it.
        pub last_ack: u32,
        /// Tick of the last packet, milliseconds.
        pub last_seen: u32,
        /// Packets since the last [`Flow::take_counts`].
        pub packets: u32,
        /// Low 32 bits of [`Flow::bytes`].
        pub bytes_low: u32,
        /// High 16 bits of [`Flow::bytes`].
        pub bytes_high: u16,
        /// Next hop, valid while `fib_generation` is the fib's.
        pub next_hop: u16,
        /// Generation of the fib that `next_hop` came from; 0 for none.
        pub fib_generation: u16,
        /// See [`flags`].
        pub flags: u8,
        /// Index into [`Timeouts`](crate::Timeouts).
        pub timeout_class: u8,
    }
}

/// An address that flows of a table have: `u32` in the table of IPv4, `u128` in the one of all
/// conns that have an IPv6 side.
pub trait FlowAddress: Address + Zeroable {}

impl<A: Address + Zeroable> FlowAddress for A {}

const _: () = {
    assert!(size_of::<Flow<u128>>() == 128);
    assert!(size_of::<Flow>() == 64);
    assert!(offset_of!(Flow, state) == 15);
    assert!(offset_of!(Flow, new_src) == 16);
    assert!(offset_of!(Flow, seq_offset) == 32);
    assert!(offset_of!(Flow, packets) == 48);
    assert!(offset_of!(Flow, timeout_class) == 63);
};

impl<A: Zeroable> Default for Flow<A> {
    fn default() -> Self {
        zero()
    }
}

impl<A: FlowAddress> Flow<A> {
    /// A flow of this key, all else zero.
    pub fn with_key(key: FlowKey<A>) -> Self {
        let FlowKey { src, dst, sport, dport, zone, proto } = key;
        Self { src, dst, sport, dport, zone, proto, ..Self::default() }
    }

    /// The key of arriving packets.
    #[inline(always)]
    pub const fn key(&self) -> FlowKey<A> {
        FlowKey {
            src: self.src,
            dst: self.dst,
            sport: self.sport,
            dport: self.dport,
            zone: self.zone,
            proto: self.proto,
        }
    }

    /// The key of the packets as they leave.
    #[inline(always)]
    pub const fn new_key(&self) -> FlowKey<A> {
        FlowKey {
            src: self.new_src,
            dst: self.new_dst,
            sport: self.new_sport,
            dport: self.new_dport,
            zone: self.zone,
            proto: self.proto,
        }
    }

    /// Whether this is the flow of packets with `key`.
    #[inline(always)]
    pub fn is_of(&self, key: &FlowKey<A>) -> bool {
        A::same(&self.key(), key)
    }

    /// True if all bits of `flags` are set.
    #[inline(always)]
    pub const fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// The worker that packets with this key go to, if they do not belong here.
    #[inline(always)]
    pub fn redirect(&self) -> Option<WorkerId> {
        self.has(flags::REDIRECT).then_some(WorkerId(self.new_dport))
    }

    /// Which direction it is.
    #[inline(always)]
    pub const fn dir(&self) -> Dir {
        if self.has(flags::REVERSE) { Dir::Reverse } else { Dir::Forward }
    }

    /// Bytes since the last [`Flow::take_counts`], counted from the IP header; wraps at 2^48.
    #[inline(always)]
    pub const fn bytes(&self) -> u64 {
        self.bytes_low as u64 | (self.bytes_high as u64) << 32
    }

    /// Counts a packet of `ip_len` bytes and notes when it came.
    #[inline(always)]
    pub fn count(&mut self, ip_len: u16, now: Now) {
        let bytes = self.bytes() + u64::from(ip_len);
        self.bytes_low = bytes as u32;
        self.bytes_high = (bytes >> 32) as u16;
        self.packets = self.packets.saturating_add(1);
        self.last_seen = now.tick_ms;
    }

    /// Packets and bytes since this was called last, to be added where they are summed up.
    #[inline]
    pub fn take_counts(&mut self) -> (u32, u64) {
        let counts = (self.packets, self.bytes());
        self.packets = 0;
        self.bytes_low = 0;
        self.bytes_high = 0;
        counts
    }

    /// A sequence number of an arriving packet as the receiver sees it.
    #[inline(always)]
    pub const fn translated_seq(&self, seq: u32) -> u32 {
        if self.has(flags::ADJUST_SEQ) { seq.wrapping_add(self.seq_offset) } else { seq }
    }
}

impl Flow<u128> {
    /// The flow of IPv4 that this one's addresses were mapped from; `None` if one is an IPv6 one.
    #[inline]
    pub fn narrow(&self) -> Option<Flow> {
        let (key, new_key) = (self.key().unmapped()?, self.new_key().unmapped()?);
        let Self { state, l3_delta, l4_delta, seq_offset, ts_offset, last_ack, .. } = *self;
        let Self { last_seen, packets, bytes_low, bytes_high, .. } = *self;
        let Self { next_hop, fib_generation, flags, timeout_class, .. } = *self;
        Some(Flow {
            state,
            new_src: new_key.src,
            new_dst: new_key.dst,
            new_sport: new_key.sport,
            new_dport: new_key.dport,
            l3_delta,
            l4_delta,
            seq_offset,
            ts_offset,
            last_ack,
            last_seen,
            packets,
            bytes_low,
            bytes_high,
            next_hop,
            fib_generation,
            flags,
            timeout_class,
            ..Flow::with_key(key)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twins_are_neighbours() {
        let conn = ConnId(7);
        assert_eq!(conn.forward().twin(), conn.reverse());
        assert_eq!(conn.reverse().twin(), conn.forward());
        assert_eq!(conn.reverse().conn(), conn);
        assert_eq!((conn.forward().dir(), conn.reverse().dir()), (Dir::Forward, Dir::Reverse));
    }

    #[test]
    fn bytes_count_past_32_bits_and_are_taken_once() {
        let mut flow = Flow { bytes_low: u32::MAX - 1, ..<Flow>::default() };
        flow.count(100, Now::from_ms(5));
        assert_eq!(flow.bytes(), u64::from(u32::MAX) + 99);
        assert_eq!((flow.packets, flow.last_seen), (1, 5));
        assert_eq!(flow.take_counts(), (1, u64::from(u32::MAX) + 99));
        assert_eq!(flow.take_counts(), (0, 0));
    }

    #[test]
    fn only_a_flow_between_ipv4_addresses_is_one_of_ipv4() {
        let narrow = Flow {
            new_src: 5,
            new_dst: u32::MAX,
            new_sport: 6,
            l4_delta: 7,
            seq_offset: 8,
            packets: 9,
            flags: flags::TOA,
            timeout_class: 10,
            state: State::Udp,
            ..Flow::with_key(FlowKey { src: 1_u32, dst: 2, sport: 3, dport: 4, zone: 5, proto: 17 })
        };
        let key = types::FlowKey6::mapped(narrow.key());
        let wide = Flow {
            new_src: types::map_v4(narrow.new_src),
            new_dst: types::map_v4(narrow.new_dst),
            new_sport: 6,
            l4_delta: 7,
            seq_offset: 8,
            packets: 9,
            flags: flags::TOA,
            timeout_class: 10,
            state: State::Udp,
            ..Flow::with_key(key)
        };
        assert_eq!(wide.narrow(), Some(narrow));
        assert_eq!(Flow { new_dst: 1, ..wide }.narrow(), None);
        assert_eq!(Flow { src: 1, ..wide }.narrow(), None);
    }

    #[test]
    fn a_flow_is_of_its_key_only_whatever_its_state() {
        let key = FlowKey { src: 1_u128 << 64, dst: 2, sport: 3, dport: 4, zone: 5, proto: 6 };
        let flow = Flow { state: State::Closed, ..Flow::with_key(key) };
        assert_eq!(flow.key(), key);
        assert!(flow.is_of(&key));
        assert!(!flow.is_of(&FlowKey { zone: 6, ..key }));
        assert!(!flow.is_of(&FlowKey { src: key.src + 1, ..key }));
        assert!(!flow.is_of(&key.reversed()));
    }
}
