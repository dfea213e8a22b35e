//! The numbers that addresses are where packets are concerned: one type a family.

use std::fmt::Debug;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::FlowKey;

mod sealed {
    pub trait Sealed {}
    impl Sealed for u32 {}
    impl Sealed for u128 {}
}

/// An address in host order: `u32` where all is IPv4, `u128` where an IPv6 side is.
///
/// What is generic over it is compiled once for each, so that IPv4 pays nothing for IPv6. Among the
/// wide ones an IPv4 address is an IPv4-mapped one (RFC 4291 §2.5.5.2), which no packet carries.
pub trait Address:
    sealed::Sealed + Copy + Debug + Default + Eq + Hash + Ord + Send + Sync + 'static
{
    /// Bits of an address of the family that packets carry.
    const BITS: u8;

    /// The address as people know it; a mapped one is IPv4.
    fn to_ip(self) -> IpAddr;

    /// The number of an address; IPv6 has none among the narrow ones.
    fn from_ip(address: IpAddr) -> Option<Self>;

    /// The first `len` bits; all from [`Address::BITS`] on.
    #[must_use]
    fn prefix(self, len: u8) -> Self;

    /// The number with zeros before it.
    fn to_bits(self) -> u128;

    /// The IPv4 key that this one is or was mapped from; `None` if an address is an IPv6 one.
    fn narrow(key: &FlowKey<Self>) -> Option<FlowKey>;

    /// Whether two keys are the same, by few compares.
    fn same(key: &FlowKey<Self>, other: &FlowKey<Self>) -> bool;

    /// A key in two words, for a keyed hash: as they are if it fits, else mixed into them by a keyed
    /// `mix`, so that nobody without the secret finds keys that meet.
    fn halves(key: &FlowKey<Self>, mix: impl Fn(u64, u64) -> u64) -> [u64; 2];
}

impl Address for u32 {
    const BITS: u8 = 32;

    fn to_ip(self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(self))
    }

    fn from_ip(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(address) => Some(Self::from(address)),
            IpAddr::V6(_) => None,
        }
    }

    #[inline(always)]
    fn prefix(self, len: u8) -> Self {
        let host_bits = Self::BITS.saturating_sub(len.into());
        self & Self::MAX.checked_shl(host_bits).unwrap_or(0)
    }

    #[inline(always)]
    fn to_bits(self) -> u128 {
        self.into()
    }

    #[inline(always)]
    fn narrow(key: &FlowKey) -> Option<FlowKey> {
        Some(*key)
    }

    #[inline(always)]
    fn same(key: &FlowKey, other: &FlowKey) -> bool {
        key.to_bits() == other.to_bits()
    }

    #[inline(always)]
    fn halves(key: &FlowKey, _mix: impl Fn(u64, u64) -> u64) -> [u64; 2] {
        let bits = key.to_bits();
        [bits as u64, (bits >> 64) as u64]
    }
}

impl Address for u128 {
    const BITS: u8 = 128;

    fn to_ip(self) -> IpAddr {
        match unmap_v4(self) {
            Some(address) => address.to_ip(),
            None => IpAddr::V6(Ipv6Addr::from(self)),
        }
    }

    fn from_ip(address: IpAddr) -> Option<Self> {
        Some(match address {
            IpAddr::V4(address) => map_v4(address.into()),
            IpAddr::V6(address) => address.into(),
        })
    }

    #[inline(always)]
    fn prefix(self, len: u8) -> Self {
        let host_bits = Self::BITS.saturating_sub(len.into());
        self & Self::MAX.checked_shl(host_bits).unwrap_or(0)
    }

    #[inline(always)]
    fn to_bits(self) -> u128 {
        self
    }

    #[inline(always)]
    fn narrow(key: &FlowKey<Self>) -> Option<FlowKey> {
        key.unmapped()
    }

    #[inline(always)]
    fn same(key: &FlowKey<Self>, other: &FlowKey<Self>) -> bool {
        (key.src ^ other.src) | (key.dst ^ other.dst) == 0
            && key.rest_to_bits() == other.rest_to_bits()
    }

    #[inline(always)]
    fn halves(key: &FlowKey<Self>, mix: impl Fn(u64, u64) -> u64) -> [u64; 2] {
        let src = mix(key.src as u64, (key.src >> 64) as u64);
        // The other way round, so that exchanging both addresses is no exchange of the halves.
        let dst = mix((key.dst >> 64) as u64, key.dst as u64);
        [src ^ key.rest_to_bits(), dst]
    }
}

/// The high bits of IPv4-mapped addresses.
const MAPPED: u128 = 0xffff << 32;

/// The IPv4-mapped IPv6 address.
#[inline(always)]
pub const fn map_v4(address: u32) -> u128 {
    MAPPED | address as u128
}

/// The IPv4 address of an IPv4-mapped one; `None` of any other.
#[inline(always)]
pub const fn unmap_v4(address: u128) -> Option<u32> {
    if address >> 32 == MAPPED >> 32 { Some(address as u32) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_their_family() {
        let four: IpAddr = "203.0.113.10".parse().unwrap();
        let six: IpAddr = "2001:db8::1".parse().unwrap();
        assert_eq!(u32::from_ip(four).map(Address::to_ip), Some(four));
        assert_eq!(u32::from_ip(six), None);
        for address in [four, six] {
            assert_eq!(u128::from_ip(address).map(Address::to_ip), Some(address));
        }
        assert_eq!(u128::from_ip(four), Some(map_v4(0xcb00_710a)));
        assert_eq!(map_v4(0xcb00_710a), "::ffff:203.0.113.10".parse::<Ipv6Addr>().unwrap().into());
        assert_eq!(
            (unmap_v4(map_v4(0)), unmap_v4(1), unmap_v4(1 << 48 | MAPPED)),
            (Some(0), None, None)
        );
    }

    #[test]
    fn prefixes_are_of_any_length() {
        assert_eq!(
            [0, 8, 32, 40].map(|len| 0x0a01_0203_u32.prefix(len)),
            [0, 0x0a00_0000, 0x0a01_0203, 0x0a01_0203]
        );
        let address = 0x2001_0db8_u128 << 96 | 5;
        assert_eq!(
            [0, 16, 128, 200].map(|len| address.prefix(len)),
            [0, 0x2001 << 112, address, address]
        );
    }
}
