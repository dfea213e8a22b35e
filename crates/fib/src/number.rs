//! IP addresses as numbers in host order, of either family.

use std::fmt::Debug;
use std::net::IpAddr;

use types::{Address, EthPortId};

use crate::lengths::Lengths;
use crate::next_hop::NextHops;
use crate::snapshot::{Fib, Part};
use crate::trie::Trie;

/// An address that a [`Fib`] and [`NextHops`] can be asked for: `u32` is IPv4, `u128` is IPv6, and an
/// IPv4-mapped one is nobody's.
///
/// What workers ask is generic over it, so that a path that is made for one family pays nothing for the
/// other.
pub trait IpNumber: Address + sealed::Family {}

impl IpNumber for u32 {}
impl IpNumber for u128 {}

/// Does the same with an address of either family.
macro_rules! by_family {
    ($address:expr, $number:ident => $body:expr) => {
        match $address {
            std::net::IpAddr::V4(address) => {
                let $number = address.to_bits();
                $body
            }
            std::net::IpAddr::V6(address) => {
                let $number = address.to_bits();
                $body
            }
        }
    };
}

pub(crate) use by_family;

/// Longest prefix match of one family.
pub trait Match<A>: Debug {
    /// Of prefixes, each once, in order of ascending length: length, network and leaf, from 1 below 2^31.
    fn build(prefixes: &[(u8, A, u32)]) -> Self;

    /// The leaf of the longest prefix that holds `address`; 0 if there is none.
    fn find(&self, address: A) -> u32;
}

/// What the crate needs to know of a family; private, so that there are two and no more.
pub mod sealed {
    use super::{Debug, EthPortId, Fib, IpAddr, Match, NextHops, Part};

    pub trait Family: Copy {
        /// Smallest MTU in bytes that a link of this family may have.
        const MTU_MIN: u16;

        /// How its routes are looked up.
        type Routes: Match<Self> + Debug;

        /// What the fib has of it.
        fn part(fib: &Fib) -> &Part<Self>;

        /// A number of 64 bits whose upper ones differ for addresses near one another.
        fn spread(self) -> u64;

        /// The number of an address, if it is of this family.
        fn of(address: IpAddr) -> Option<Self>;

        /// True if the address means another station on each link (RFC 4007).
        fn is_link_local(self) -> bool;

        /// True for the highest and the lowest address of a prefix, if they mean all its stations.
        fn is_broadcast_of(self, network: Self, len: u8) -> bool;

        /// True for the address that means all stations of a link.
        fn is_limited_broadcast(self) -> bool;

        /// Why no station may have this address, if so.
        fn unusable(self) -> Option<&'static str>;

        /// The slot of a neighbour; 0 without one.
        fn find_slot(self, next_hops: &NextHops, iface: EthPortId) -> u16;

        /// Enters a neighbour's slot; false if there is no room.
        fn enter(self, next_hops: &NextHops, iface: EthPortId, slot: u16) -> bool;

        /// Takes a neighbour's slot out; false if it is not in.
        fn leave(self, next_hops: &NextHops, iface: EthPortId, slot: u16) -> bool;
    }
}

impl sealed::Family for u32 {
    /// RFC 791 §3.2.
    const MTU_MIN: u16 = 68;

    type Routes = Trie;

    #[inline(always)]
    fn part(fib: &Fib) -> &Part<Self> {
        &fib.v4
    }

    /// Multiplies by 2^32 over the golden ratio: neighbouring addresses land far apart.
    #[inline(always)]
    fn spread(self) -> u64 {
        u64::from(self.wrapping_mul(0x9e37_79b9)) << 32
    }

    fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(address) => Some(address.to_bits()),
            IpAddr::V6(_) => None,
        }
    }

    #[inline(always)]
    fn is_link_local(self) -> bool {
        // 169.254.0.0/16 has no zones in IPv4.
        false
    }

    /// RFC 1122 §3.3.6 takes both for broadcasts. Prefixes of 31 bits have none (RFC 3021 §2.2).
    #[inline]
    fn is_broadcast_of(self, network: Self, len: u8) -> bool {
        len < 31 && (self == network || self == network | !Self::MAX.prefix(len))
    }

    #[inline(always)]
    fn is_limited_broadcast(self) -> bool {
        self == Self::MAX
    }

    /// RFC 1122 §3.2.1.3.
    fn unusable(self) -> Option<&'static str> {
        match self >> 24 {
            0 => Some("in 0.0.0.0/8"),
            127 => Some("a loopback address"),
            224..=239 => Some("a multicast address"),
            255 if self == Self::MAX => Some("the broadcast address"),
            _ => None,
        }
    }

    #[inline(always)]
    fn find_slot(self, next_hops: &NextHops, iface: EthPortId) -> u16 {
        next_hops.find_v4(iface, self)
    }

    fn enter(self, next_hops: &NextHops, iface: EthPortId, slot: u16) -> bool {
        next_hops.enter_v4(iface, self, slot)
    }

    fn leave(self, next_hops: &NextHops, iface: EthPortId, slot: u16) -> bool {
        next_hops.leave_v4(iface, self, slot)
    }
}

impl sealed::Family for u128 {
    /// RFC 8200 §5.
    const MTU_MIN: u16 = 1280;

    type Routes = Lengths;

    #[inline(always)]
    fn part(fib: &Fib) -> &Part<Self> {
        &fib.v6
    }

    /// The folded product of both halves: not linear, and of addresses that differ in a few bits only
    /// the upper bits differ.
    #[inline(always)]
    fn spread(self) -> u64 {
        let (high, low) = ((self >> 64) as u64, self as u64);
        let product = Self::from(low ^ 0x9e37_79b9_7f4a_7c15)
            .wrapping_mul(Self::from(high ^ 0xbf58_476d_1ce4_e5b9));
        (product as u64 ^ (product >> 64) as u64).wrapping_mul(0x94d0_49bb_1331_11eb)
    }

    fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(address.to_bits()),
        }
    }

    /// fe80::/10 (RFC 4291 §2.5.6).
    #[inline(always)]
    fn is_link_local(self) -> bool {
        self >> 118 == 0xfe80 >> 6
    }

    #[inline(always)]
    fn is_broadcast_of(self, _: Self, _: u8) -> bool {
        false
    }

    #[inline(always)]
    fn is_limited_broadcast(self) -> bool {
        false
    }

    /// RFC 4291 §2.5 and §2.7.
    fn unusable(self) -> Option<&'static str> {
        if self == 0 {
            Some("the unspecified address")
        } else if self == 1 {
            Some("the loopback address")
        } else if self >> 120 == 0xff {
            Some("a multicast address")
        } else if self >> 32 == 0xffff {
            Some("an IPv4 address in IPv6 form")
        } else {
            None
        }
    }

    #[inline]
    fn find_slot(self, next_hops: &NextHops, iface: EthPortId) -> u16 {
        next_hops.find_v6(iface, self)
    }

    fn enter(self, next_hops: &NextHops, iface: EthPortId, slot: u16) -> bool {
        next_hops.enter_v6(iface, self, slot)
    }

    fn leave(self, next_hops: &NextHops, iface: EthPortId, slot: u16) -> bool {
        next_hops.leave_v6(iface, self, slot)
    }
}
