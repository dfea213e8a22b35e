//! Addresses, told apart by the role that they play.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Address, L4Port};

macro_rules! role {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub IpAddr);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<IpAddr> for $name {
            fn from(address: IpAddr) -> Self {
                Self(address)
            }
        }
    };
}

role!(
    /// Virtual IP: the address that clients connect to.
    Vip
);
role!(
    /// Local IP: the address of ours that FullNAT uses as source towards the real server.
    Lip
);
role!(
    /// The address of ours that SNAT uses as source towards the outside.
    WanIp
);
role!(
    /// The address of a real server.
    RsAddr
);

/// An address and a port, as in `203.0.113.10:80` or `[2001:db8::1]:80`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// The address.
    pub address: IpAddr,
    /// The port.
    pub l4_port: L4Port,
}

impl Endpoint {
    /// An endpoint from numbers in host order.
    pub fn new<A: Address>(address: A, l4_port: u16) -> Self {
        Self { address: address.to_ip(), l4_port: L4Port(l4_port) }
    }

    /// The numbers in host order; `None` if the address is not of this family.
    pub fn to_numbers<A: Address>(self) -> Option<(A, u16)> {
        Some((A::from_ip(self.address)?, self.l4_port.0))
    }

    /// An IPv4 endpoint from host-order numbers.
    pub fn v4(address: u32, l4_port: u16) -> Self {
        Self { address: IpAddr::V4(Ipv4Addr::from(address)), l4_port: L4Port(l4_port) }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        std::net::SocketAddr::new(self.address, self.l4_port.0).fmt(f)
    }
}

/// What is not an address and a port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an address and a port such as 203.0.113.10:80 or [2001:db8::1]:80")]
pub struct ParseEndpointError(pub String);

impl FromStr for Endpoint {
    type Err = ParseEndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let socket: std::net::SocketAddr =
            text.parse().map_err(|_| ParseEndpointError(text.to_owned()))?;
        Ok(Self { address: socket.ip(), l4_port: L4Port(socket.port()) })
    }
}

impl Serialize for Endpoint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// An Ethernet address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// `ff:ff:ff:ff:ff:ff`.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// The group bit: broadcast and multicast addresses have it.
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// True for `00:00:00:00:00:00`, which no station may use.
    pub const fn is_zero(self) -> bool {
        matches!(self.0, [0, 0, 0, 0, 0, 0])
    }

    /// The address in the low 48 bits, first octet highest.
    pub const fn to_bits(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }

    /// The address from the low 48 bits, first octet highest.
    pub const fn from_bits(bits: u64) -> Self {
        let [_, _, a, b, c, d, e, f] = bits.to_be_bytes();
        Self([a, b, c, d, e, f])
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// What is not six pairs of hexadecimal digits with colons between them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a MAC address such as 02:00:00:00:00:01")]
pub struct ParseMacError(pub String);

impl FromStr for MacAddr {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseMacError(text.to_owned());
        let mut octets = [0u8; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().ok_or_else(error)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(error());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| error())?;
        }
        if parts.next().is_some() { Err(error()) } else { Ok(Self(octets)) }
    }
}

impl Serialize for MacAddr {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacAddr {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_round_trips_as_text_and_bits() {
        let mac: MacAddr = "02:00:5e:0a:ff:01".parse().unwrap();
        assert_eq!(mac.to_string(), "02:00:5e:0a:ff:01");
        assert_eq!(MacAddr::from_bits(mac.to_bits()), mac);
        assert!(!mac.is_multicast());
        assert!(MacAddr::BROADCAST.is_multicast());
    }

    #[test]
    fn mac_refuses_what_is_none() {
        for text in [
            "",
            "02:00:00:00:00",
            "02:00:00:00:00:01:02",
            "2:0:0:0:0:1",
            "zz:00:00:00:00:01",
            "+2:00:00:00:00:01",
        ] {
            assert_eq!(text.parse::<MacAddr>(), Err(ParseMacError(text.to_owned())));
        }
    }

    #[test]
    fn endpoints_are_written_as_people_write_them() {
        assert_eq!(Endpoint::v4(0xcb00_710a, 80).to_string(), "203.0.113.10:80");
        let v6 = Endpoint { address: "2001:db8::1".parse().unwrap(), l4_port: L4Port(443) };
        assert_eq!(v6.to_string(), "[2001:db8::1]:443");
        assert_eq!("[2001:db8::1]:443".parse(), Ok(v6));
        for text in ["", "203.0.113.10", "203.0.113.10:", "203.0.113.10:65536", "a:1", ":80"] {
            assert_eq!(text.parse::<Endpoint>(), Err(ParseEndpointError(text.to_owned())));
        }
    }
}
