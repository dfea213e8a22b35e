//! What a rule applies to: addresses, protocols, ports and interfaces.

use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use types::Endpoint;
use utoipa::ToSchema;

use crate::defaults::is_default;
use crate::text::{AddressRange, ParseTextError, as_text};

/// What a rule applies to. A packet has to meet every condition that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// Its source is one of these; any if empty.
    #[serde(default, skip_serializing_if = "is_default")]
    pub source: Vec<AddressMatch>,
    /// Its destination is one of these; any if empty.
    #[serde(default, skip_serializing_if = "is_default")]
    pub destination: Vec<AddressMatch>,
    /// Its protocol is one of these; any if empty.
    #[serde(default, skip_serializing_if = "is_default")]
    pub protocol: Vec<IpProtocol>,
    /// Its source port is in one of these; any if empty.
    #[serde(default, skip_serializing_if = "is_default")]
    pub source_ports: Vec<PortRange>,
    /// Its destination port is in one of these; any if empty.
    #[serde(default, skip_serializing_if = "is_default")]
    pub destination_ports: Vec<PortRange>,
    /// It came in by this interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_dev: Option<String>,
    /// Its route leaves by this interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_dev: Option<String>,
    /// What is excepted from the rule, and from all that follow it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub except: Except,
}

/// What is excepted: a packet that meets any one of these is routed unchanged, as by `-j RETURN`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Except {
    /// Sources.
    #[serde(default, skip_serializing_if = "is_default")]
    pub source: Vec<AddressMatch>,
    /// Destinations.
    #[serde(default, skip_serializing_if = "is_default")]
    pub destination: Vec<AddressMatch>,
    /// Protocols.
    #[serde(default, skip_serializing_if = "is_default")]
    pub protocol: Vec<IpProtocol>,
    /// Source ports.
    #[serde(default, skip_serializing_if = "is_default")]
    pub source_ports: Vec<PortRange>,
    /// Destination ports.
    #[serde(default, skip_serializing_if = "is_default")]
    pub destination_ports: Vec<PortRange>,
}

as_text!(AddressMatch, "an address, a range or a prefix", "10.0.0.0/8");
as_text!(IpProtocol, "the name or number of an IP protocol", "tcp");
as_text!(PortRange, "a port or a range of ports", "1024-65535");
as_text!(EndpointRange, "an address with a port or a range of ports", "203.0.113.20:6000-6099");

/// Addresses that a rule applies to: one, a range or a prefix, written as a prefix if it is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressMatch(AddressRange);

impl From<AddressRange> for AddressMatch {
    fn from(range: AddressRange) -> Self {
        Self(range)
    }
}

impl From<IpAddr> for AddressMatch {
    fn from(address: IpAddr) -> Self {
        Self(address.into())
    }
}

impl Deref for AddressMatch {
    type Target = AddressRange;

    fn deref(&self) -> &AddressRange {
        &self.0
    }
}

impl fmt::Display for AddressMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.0.first(), self.0.last());
        let bits = if first.is_ipv4() { 32 } else { 128 };
        let is_whole = |net: &IpNet| net.network() == first && net.broadcast() == last;
        let prefix =
            (0..bits).filter_map(|len| IpNet::new(first, len).ok()).find(|net| is_whole(net));
        if let Some(prefix) = prefix { f.pad(&prefix.to_string()) } else { self.0.fmt(f) }
    }
}

impl FromStr for AddressMatch {
    type Err = ParseTextError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(net) = text.parse::<IpNet>()
            && net.trunc() != net
        {
            return Err(ParseTextError::new(format!(
                "`{text}` has bits set beyond its length; did you mean `{}`?",
                net.trunc()
            )));
        }
        let range: AddressRange = text.parse().map_err(|error: ParseTextError| {
            if text.contains('-') && text.split('-').all(|end| end.trim().parse::<IpAddr>().is_ok())
            {
                return error;
            }
            ParseTextError::new(format!(
                "`{text}` is not an address, a range such as `192.168.1.5-192.168.1.9` or a prefix \
                 such as `10.0.0.0/8`"
            ))
        })?;
        Ok(Self(range))
    }
}

/// An IP protocol, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IpProtocol(u8);

/// Names of protocols, as in `/etc/protocols`.
const PROTOCOLS: [(&str, u8); 16] = [
    ("icmp", 1),
    ("igmp", 2),
    ("ipip", 4),
    ("tcp", 6),
    ("udp", 17),
    ("dccp", 33),
    ("ipv6", 41),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("eigrp", 88),
    ("ospf", 89),
    ("pim", 103),
    ("vrrp", 112),
    ("l2tp", 115),
    ("sctp", 132),
];

impl IpProtocol {
    /// ICMP.
    pub const ICMP: Self = Self(1);
    /// TCP.
    pub const TCP: Self = Self(6);
    /// UDP.
    pub const UDP: Self = Self(17);

    /// By number.
    pub const fn new(number: u8) -> Self {
        Self(number)
    }

    /// Its number in the IP header.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Its name, if it is well known.
    pub fn name(self) -> Option<&'static str> {
        PROTOCOLS.iter().find(|(_, number)| *number == self.0).map(|(name, _)| *name)
    }

    /// True if its ports are known here: TCP and UDP.
    pub const fn has_ports(self) -> bool {
        matches!(self, Self::TCP | Self::UDP)
    }
}

impl fmt::Display for IpProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => self.0.fmt(f),
        }
    }
}

impl FromStr for IpProtocol {
    type Err = ParseTextError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = PROTOCOLS.iter().find(|(name, _)| *name == text).map(|(_, number)| *number);
        named.or_else(|| text.parse().ok()).map(Self).ok_or_else(|| {
            let names = PROTOCOLS.map(|(name, _)| name).join(", ");
            ParseTextError::new(format!(
                "`{text}` is no protocol; write a number from 0 to 255 or one of {names}"
            ))
        })
    }
}

/// Ports in a row, from 1 to 65535: `80`, `1024-65535`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// The ports from `first` to `last`, both in it; `None` if they are not in that order or 0.
    pub const fn new(first: u16, last: u16) -> Option<Self> {
        if first == 0 || first > last { None } else { Some(Self { first, last }) }
    }

    /// What is not a system port (RFC 6335 section 6): 1024 to 65535.
    pub const fn unprivileged() -> Self {
        Self { first: 1024, last: u16::MAX }
    }

    /// The lowest.
    pub const fn first(self) -> u16 {
        self.first
    }

    /// The highest.
    pub const fn last(self) -> u16 {
        self.last
    }

    /// How many there are: at least 1.
    pub const fn count(self) -> u32 {
        self.last as u32 - self.first as u32 + 1
    }

    /// True if the port is in it.
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// True if some port is in both.
    pub const fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            self.first.fmt(f)
        } else {
            f.pad(&format!("{}-{}", self.first, self.last))
        }
    }
}

impl FromStr for PortRange {
    type Err = ParseTextError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |port: &str| {
            let port = port.trim();
            if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(ParseTextError::new(format!(
                    "`{text}` is not a port or a range of ports such as `1024-65535`"
                )));
            }
            match port.parse::<u16>() {
                Ok(0) | Err(_) => Err(ParseTextError::new(format!(
                    "`{text}`: {port} is no port; ports go from 1 to 65535"
                ))),
                Ok(port) => Ok(port),
            }
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (number(first)?, number(last)?);
        Self::new(first, last).ok_or_else(|| {
            ParseTextError::new(format!(
                "`{text}` ends before it begins; did you mean `{last}-{first}`?"
            ))
        })
    }
}

/// An address with ports in a row: `203.0.113.20:22`, `203.0.113.20:6000-6099`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointRange {
    /// The address.
    pub address: IpAddr,
    /// The ports.
    pub ports: PortRange,
}

impl EndpointRange {
    /// The lowest port, with the address.
    pub fn first(self) -> Endpoint {
        Endpoint { address: self.address, l4_port: types::L4Port(self.ports.first) }
    }

    /// True if some address and port is in both.
    pub fn overlaps(self, other: Self) -> bool {
        self.address == other.address && self.ports.overlaps(other.ports)
    }
}

impl fmt::Display for EndpointRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, ports } = self;
        match address {
            IpAddr::V4(_) => f.pad(&format!("{address}:{ports}")),
            IpAddr::V6(_) => f.pad(&format!("[{address}]:{ports}")),
        }
    }
}

impl FromStr for EndpointRange {
    type Err = ParseTextError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || {
            ParseTextError::new(format!(
                "`{text}` is not an address with a port or a range of ports, such as \
                 `203.0.113.20:22` or `203.0.113.20:6000-6099`"
            ))
        };
        let (address, ports) = text.rsplit_once(':').ok_or_else(error)?;
        let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let address = match bare {
            Some(bare) => IpAddr::V6(bare.parse().map_err(|_| error())?),
            None => IpAddr::V4(address.parse().map_err(|_| error())?),
        };
        let ports = ports
            .parse()
            .map_err(|why: ParseTextError| ParseTextError::new(format!("`{text}`: {why}")))?;
        Ok(Self { address, ports })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::tests::{refused, same};

    #[test]
    fn addresses() {
        same::<AddressMatch>("10.0.0.0/8", "10.0.0.0/8");
        same::<AddressMatch>("10.0.0.0-10.255.255.255", "10.0.0.0/8");
        same::<AddressMatch>("192.168.1.5-192.168.1.9", "192.168.1.5-192.168.1.9");
        same::<AddressMatch>("192.168.1.1-192.168.1.2", "192.168.1.1-192.168.1.2");
        same::<AddressMatch>("10.1.2.3/32", "10.1.2.3");
        same::<AddressMatch>("0.0.0.0/0", "0.0.0.0/0");
        same::<AddressMatch>("::/0", "::/0");
        refused::<AddressMatch>(&["", "any", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.9-10.0.0.1"]);
        let error = "10.0.0.1/8".parse::<AddressMatch>().unwrap_err().to_string();
        assert!(error.contains("did you mean `10.0.0.0/8`"), "{error}");
    }

    #[test]
    fn protocols() {
        same::<IpProtocol>("vrrp", "vrrp");
        same::<IpProtocol>("112", "vrrp");
        same::<IpProtocol>("200", "200");
        refused::<IpProtocol>(&["", "256", "-1", "TCP", "tpc"]);
        for (name, number) in PROTOCOLS {
            assert_eq!(IpProtocol::new(number).to_string(), name);
        }
    }

    #[test]
    fn ports() {
        same::<PortRange>("80", "80");
        same::<PortRange>("1024-65535", "1024-65535");
        same::<PortRange>("80-80", "80");
        refused::<PortRange>(&["", "0", "0-9", "65536", "1-70000", "9-1", "-", "1-", "a-b", "+1"]);
        let range: PortRange = "10-19".parse().unwrap();
        assert_eq!(range.count(), 10);
        assert!(range.contains(10) && range.contains(19) && !range.contains(20));
        assert!(range.overlaps("19-30".parse().unwrap()));
        assert!(!range.overlaps("20-30".parse().unwrap()));
    }

    #[test]
    fn endpoints() {
        same::<EndpointRange>("203.0.113.20:22", "203.0.113.20:22");
        same::<EndpointRange>("203.0.113.20:6000-6099", "203.0.113.20:6000-6099");
        same::<EndpointRange>("[2001:db8::1]:22", "[2001:db8::1]:22");
        let bad = ["", "203.0.113.20", "203.0.113.20:", "203.0.113.20:0", "203.0.113.20:9-1", ":1"];
        refused::<EndpointRange>(&bad);
        refused::<EndpointRange>(&["host:22", "203.0.113.20:1-70000", "2001:db8::1:22"]);
    }
}
