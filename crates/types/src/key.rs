//! What identifies a flow.

use std::fmt;
use std::net::Ipv4Addr;

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
        match Proto::from_number(self.proto) {
            Some(proto) => write!(f, "{proto}")?,
            None => write!(f, "proto-{}", self.proto)?,
        }
        write!(f, " {src}:{} > {dst}:{}", self.sport, self.dport)?;
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
    fn protocols_round_trip() {
        for proto in [Proto::Icmp, Proto::Tcp, Proto::Udp] {
            assert_eq!(Proto::from_number(proto.number()), Some(proto));
        }
        assert_eq!(Proto::from_number(2), None);
    }
}
