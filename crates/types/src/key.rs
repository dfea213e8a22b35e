//! What identifies a flow.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::{Address, map_v4, unmap_v4};

/// A TCP or UDP port. The bare word port is not used: an `EthPort` is a NIC's.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct L4Port(pub u16);

impl fmt::Display for L4Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The identifier of an ICMP query (RFC 792), leased like a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IcmpId(pub u16);

/// A VLAN or tenant in which addresses are unique; 0 where there is but one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Zone(pub u16);

/// An IP protocol that conns are tracked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Proto {
    /// ICMP queries (RFC 792), protocol number 1.
    Icmp = 1,
    /// TCP (RFC 9293), protocol number 6.
    Tcp = 6,
    /// UDP (RFC 768), protocol number 17.
    Udp = 17,
}

impl Proto {
    /// The protocol of an IANA number, if conns are tracked for it.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Icmp),
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            _ => None,
        }
    }

    /// The IANA number.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The name in lower case, as in configuration files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Icmp => "icmp",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Which way a packet of a conn goes, counted from the one who opened it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dir {
    /// From the opener.
    Forward,
    /// To the opener.
    Reverse,
}

/// One direction of a conn as it arrives: what the flow table is asked for.
///
/// `A` is `u32` for conns of IPv4, and `u128` for those that have an IPv6 side. All numbers are in
/// host order. For ICMP queries both ports hold the identifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowKey<A = u32> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// Zone of both addresses.
    pub zone: u16,
    /// IANA protocol number.
    pub proto: u8,
}

/// The key of a conn that has an IPv6 side.
///
/// Where it is translated between families, the key of its IPv4 side has IPv4-mapped addresses
/// (`::ffff:192.0.2.1`, RFC 4291 §2.5.5.2), which no packet carries.
pub type FlowKey6 = FlowKey<u128>;

impl<A: Address> FlowKey<A> {
    /// The key of a packet that answers one of this key, without any rewriting.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self { src: self.dst, dst: self.src, sport: self.dport, dport: self.sport, ..self }
    }

    /// All but the addresses, each another number.
    #[inline(always)]
    pub const fn rest_to_bits(&self) -> u64 {
        (self.sport as u64)
            | (self.dport as u64) << 16
            | (self.zone as u64) << 32
            | (self.proto as u64) << 48
    }
}

impl FlowKey {
    /// The key in 128 bits, each key another number: what the table hashes and compares.
    #[inline(always)]
    pub const fn to_bits(self) -> u128 {
        (self.src as u128)
            | (self.dst as u128) << 32
            | (self.sport as u128) << 64
            | (self.dport as u128) << 80
            | (self.zone as u128) << 96
            | (self.proto as u128) << 112
    }
}

impl FlowKey6 {
    /// The IPv4 key with its addresses mapped.
    #[inline(always)]
    pub const fn mapped(key: FlowKey) -> Self {
        let FlowKey { src, dst, sport, dport, zone, proto } = key;
        Self { src: map_v4(src), dst: map_v4(dst), sport, dport, zone, proto }
    }

    /// The IPv4 key that this one was mapped from; `None` if either address is an IPv6 one.
    #[inline(always)]
    pub const fn unmapped(self) -> Option<FlowKey> {
        let Self { src, dst, sport, dport, zone, proto } = self;
        match (unmap_v4(src), unmap_v4(dst)) {
            (Some(src), Some(dst)) => Some(FlowKey { src, dst, sport, dport, zone, proto }),
            _ => None,
        }
    }
}

impl From<FlowKey> for FlowKey6 {
    fn from(key: FlowKey) -> Self {
        Self::mapped(key)
    }
}

impl<A: Address> fmt::Display for FlowKey<A> {
    /// As people write it: mapped addresses as the IPv4 ones that they are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Proto::from_number(self.proto) {
            Some(proto) => write!(f, "{proto}")?,
            None => write!(f, "proto-{}", self.proto)?,
        }
        let source = SocketAddr::new(self.src.to_ip(), self.sport);
        let destination = SocketAddr::new(self.dst.to_ip(), self.dport);
        write!(f, " {source} > {destination}")?;
        if self.zone != 0 {
            write!(f, " zone {}", self.zone)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_differ_in_every_field() {
        let base = FlowKey { src: 1, dst: 2, sport: 3, dport: 4, zone: 5, proto: 6 };
        let others = [
            FlowKey { src: 9, ..base },
            FlowKey { dst: 9, ..base },
            FlowKey { sport: 9, ..base },
            FlowKey { dport: 9, ..base },
            FlowKey { zone: 9, ..base },
            FlowKey { proto: 9, ..base },
        ];
        for other in others {
            assert_ne!(other.to_bits(), base.to_bits(), "{other:?}");
        }
        assert_eq!(base.reversed().reversed(), base);
    }

    #[test]
    fn keys_are_written_as_people_write_them() {
        let key: FlowKey = FlowKey {
            src: 0xcb00_7164_u32,
            dst: 0xcb00_710a,
            sport: 9,
            dport: 80,
            zone: 0,
            proto: 6,
        };
        assert_eq!(key.to_string(), "tcp 203.0.113.100:9 > 203.0.113.10:80");
        let mapped = FlowKey6::from(FlowKey { zone: 7, proto: 47, ..key });
        assert_eq!(mapped.to_string(), "proto-47 203.0.113.100:9 > 203.0.113.10:80 zone 7");
        let dst = 0x2001_0db8 << 96 | 1;
        let key = FlowKey6 { dst, proto: 17, zone: 0, ..mapped };
        assert_eq!(key.to_string(), "udp 203.0.113.100:9 > [2001:db8::1]:80");
    }

    #[test]
    fn only_mapped_addresses_are_ipv4() {
        let key: FlowKey = FlowKey { src: 1, dst: u32::MAX, sport: 3, dport: 4, zone: 5, proto: 6 };
        let mapped = FlowKey6::mapped(key);
        assert_eq!(mapped.unmapped(), Some(key));
        assert_eq!(mapped.reversed().unmapped(), Some(key.reversed()));
        assert_eq!(FlowKey6 { src: 1, ..mapped }.unmapped(), None);
        assert_eq!(FlowKey6 { dst: map_v4(1) | 1 << 48, ..mapped }.unmapped(), None);
    }

    #[test]
    fn protocols_round_trip() {
        for proto in [Proto::Icmp, Proto::Tcp, Proto::Udp] {
            assert_eq!(Proto::from_number(proto.number()), Some(proto));
        }
        assert_eq!(Proto::from_number(2), None);
    }
}
