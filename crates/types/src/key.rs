//! What identifies a flow.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

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

/// One direction of an IPv4 conn as it arrives: what the flow table is asked for.
///
/// All numbers are in host order. For ICMP queries both ports hold the identifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowKey {
    /// Source address.
    pub src: u32,
    /// Destination address.
    pub dst: u32,
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// Zone of both addresses.
    pub zone: u16,
    /// IANA protocol number.
    pub proto: u8,
}

impl FlowKey {
    /// The key of a packet that answers one of this key, without any rewriting.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self { src: self.dst, dst: self.src, sport: self.dport, dport: self.sport, ..self }
    }

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

impl fmt::Display for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (src, dst) = (Ipv4Addr::from(self.src), Ipv4Addr::from(self.dst));
        let ends = [SocketAddr::from((src, self.sport)), SocketAddr::from((dst, self.dport))];
        write_key(f, self.proto, ends, self.zone)
    }
}

/// One direction of a conn that has an IPv6 side, as it arrives.
///
/// All numbers are in host order. Where the conn is translated between families, the key of its
/// IPv4 side has IPv4-mapped addresses (`::ffff:192.0.2.1`, RFC 4291 §2.5.5.2), which no packet carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowKey6 {
    /// Source address.
    pub src: u128,
    /// Destination address.
    pub dst: u128,
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// Zone of both addresses.
    pub zone: u16,
    /// IANA protocol number.
    pub proto: u8,
}

/// What the high 96 bits of an IPv4-mapped address are.
const MAPPED: u128 = 0xffff << 32;

impl FlowKey6 {
    /// The key of a packet that answers one of this key, without any rewriting.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self { src: self.dst, dst: self.src, sport: self.dport, dport: self.sport, ..self }
    }

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

impl From<FlowKey> for FlowKey6 {
    fn from(key: FlowKey) -> Self {
        Self::mapped(key)
    }
}

impl fmt::Display for FlowKey6 {
    /// As people write it: mapped addresses as the IPv4 ones that they are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ends = [(self.src, self.sport), (self.dst, self.dport)];
        let ends = ends.map(|(address, l4_port)| {
            let address = match unmap_v4(address) {
                Some(address) => IpAddr::V4(Ipv4Addr::from(address)),
                None => IpAddr::V6(Ipv6Addr::from(address)),
            };
            SocketAddr::new(address, l4_port)
        });
        write_key(f, self.proto, ends, self.zone)
    }
}

fn write_key(
    f: &mut fmt::Formatter<'_>,
    proto: u8,
    [src, dst]: [SocketAddr; 2],
    zone: u16,
) -> fmt::Result {
    match Proto::from_number(proto) {
        Some(proto) => write!(f, "{proto}")?,
        None => write!(f, "proto-{proto}")?,
    }
    write!(f, " {src} > {dst}")?;
    if zone != 0 {
        write!(f, " zone {zone}")?;
    }
    Ok(())
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
        let key =
            FlowKey { src: 0xcb00_7164, dst: 0xcb00_710a, sport: 9, dport: 80, zone: 0, proto: 6 };
        assert_eq!(key.to_string(), "tcp 203.0.113.100:9 > 203.0.113.10:80");
        let mapped = FlowKey6::from(FlowKey { zone: 7, proto: 47, ..key });
        assert_eq!(mapped.to_string(), "proto-47 203.0.113.100:9 > 203.0.113.10:80 zone 7");
        let dst = 0x2001_0db8 << 96 | 1;
        let key = FlowKey6 { dst, proto: 17, zone: 0, ..mapped };
        assert_eq!(key.to_string(), "udp 203.0.113.100:9 > [2001:db8::1]:80");
    }

    #[test]
    fn only_mapped_addresses_are_ipv4() {
        let key = FlowKey { src: 1, dst: u32::MAX, sport: 3, dport: 4, zone: 5, proto: 6 };
        let mapped = FlowKey6::mapped(key);
        assert_eq!(mapped.unmapped(), Some(key));
        assert_eq!(mapped.reversed().unmapped(), Some(key.reversed()));
        assert_eq!(FlowKey6 { src: 1, ..mapped }.unmapped(), None);
        assert_eq!(FlowKey6 { dst: map_v4(1) | 1 << 48, ..mapped }.unmapped(), None);
        assert_eq!(unmap_v4(map_v4(0)), Some(0));
    }

    #[test]
    fn protocols_round_trip() {
        for proto in [Proto::Icmp, Proto::Tcp, Proto::Udp] {
            assert_eq!(Proto::from_number(proto.number()), Some(proto));
        }
        assert_eq!(Proto::from_number(2), None);
    }
}
