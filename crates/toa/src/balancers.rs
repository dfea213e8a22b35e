//! The addresses whose word about a client is believed.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, IpSubnets, Ipv4Subnets, Ipv6Subnets};

/// One entry as people write it: an address, a prefix, or a range, as the balancer's local address pools have
/// it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balancers(Vec<IpNet>);

/// Why a text names no addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BalancersError {
    /// No address at all.
    Address(String),
    /// A prefix with bits behind its length: the text, and the prefix without them.
    HostBits(String, IpNet),
    /// A range of two families, or whose end is before its beginning.
    Range(String),
}

impl fmt::Display for BalancersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(text) => write!(
                f,
                "{text} is no address: give a LIP of the balancer as 198.18.0.10, 198.18.0.0/24, \
                 198.18.0.10-198.18.0.13 or 2001:db8::10"
            ),
            Self::HostBits(text, net) => {
                write!(f, "{text} has bits behind its length: the prefix is {net}")
            }
            Self::Range(text) => write!(
                f,
                "{text} is no range: both ends must be of one family, the lower one first"
            ),
        }
    }
}

impl std::error::Error for BalancersError {}

impl Balancers {
    /// The prefixes that hold exactly these addresses.
    pub fn prefixes(&self) -> &[IpNet] {
        &self.0
    }
}

impl FromStr for Balancers {
    type Err = BalancersError;

    fn from_str(text: &str) -> Result<Self, BalancersError> {
        let unreadable = |_| BalancersError::Address(text.to_owned());
        if let Some((first, last)) = text.split_once('-') {
            let first: IpAddr = first.parse().map_err(unreadable)?;
            let last: IpAddr = last.parse().map_err(unreadable)?;
            return range(first, last).ok_or_else(|| BalancersError::Range(text.to_owned()));
        }
        if !text.contains('/') {
            return Ok(Self(vec![IpNet::from(text.parse::<IpAddr>().map_err(unreadable)?)]));
        }
        let net: IpNet = text.parse().map_err(|_| BalancersError::Address(text.to_owned()))?;
        if net != net.trunc() {
            return Err(BalancersError::HostBits(text.to_owned(), net.trunc()));
        }
        Ok(Self(vec![net]))
    }
}

fn range(first: IpAddr, last: IpAddr) -> Option<Balancers> {
    let subnets = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) if first <= last => {
            IpSubnets::from(Ipv4Subnets::new(first, last, 0))
        }
        (IpAddr::V6(first), IpAddr::V6(last)) if first <= last => {
            IpSubnets::from(Ipv6Subnets::new(first, last, 0))
        }
        _ => return None,
    };
    Some(Balancers(subnets.collect()))
}

/// A prefix as the kernel's table has it: IPv4 is ::ffff:a.b.c.d, as in a socket of both families.
#[cfg_attr(not(feature = "agent"), expect(dead_code, reason = "the grammar needs no table"))]
pub(crate) fn key(net: IpNet) -> (u32, [u8; 16]) {
    match net {
        IpNet::V4(net) => {
            (u32::from(net.prefix_len()) + 96, net.network().to_ipv6_mapped().octets())
        }
        IpNet::V6(net) => (u32::from(net.prefix_len()), net.network().octets()),
    }
}

/// The prefix of a key of the kernel's table.
#[cfg_attr(not(feature = "agent"), expect(dead_code, reason = "the grammar needs no table"))]
pub(crate) fn prefix(len: u32, address: [u8; 16]) -> Option<IpNet> {
    let address = Ipv6Addr::from(address);
    let len = u8::try_from(len).ok()?;
    match (address.to_ipv4_mapped(), len.checked_sub(96)) {
        (Some(address), Some(len)) => IpNet::new(IpAddr::V4(address), len).ok(),
        _ => IpNet::new(IpAddr::V6(address), len).ok(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn prefixes(text: &str) -> Vec<String> {
        let all: Balancers = text.parse().unwrap();
        all.prefixes().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn addresses_prefixes_and_ranges() {
        assert_eq!(prefixes("198.18.0.10"), ["198.18.0.10/32"]);
        assert_eq!(prefixes("198.18.0.0/24"), ["198.18.0.0/24"]);
        assert_eq!(prefixes("0.0.0.0/0"), ["0.0.0.0/0"]);
        assert_eq!(prefixes("198.18.0.10-198.18.0.13"), ["198.18.0.10/31", "198.18.0.12/31"]);
        assert_eq!(prefixes("198.18.0.10-198.18.0.10"), ["198.18.0.10/32"]);
        assert_eq!(prefixes("2001:db8::10"), ["2001:db8::10/128"]);
        assert_eq!(prefixes("2001:db8::-2001:db8::1"), ["2001:db8::/127"]);
    }

    #[test]
    fn an_error_names_the_text_and_the_way_out() {
        for (text, way) in [
            ("lan0", "198.18.0.10"),
            ("", "198.18.0.10"),
            ("198.18.0.10/33", "198.18.0.0/24"),
            ("198.18.0.10/24", "198.18.0.0/24"),
            ("2001:db8::1/64", "2001:db8::/64"),
            ("198.18.0.13-198.18.0.10", "lower one first"),
            ("198.18.0.13-2001:db8::1", "one family"),
            ("198.18.0.10-13", "198.18.0.10-198.18.0.13"),
        ] {
            let error = text.parse::<Balancers>().unwrap_err().to_string();
            assert!(error.contains(text) && error.contains(way), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_key_is_its_prefix(address: [u8; 16], four: bool, len in 0u8..=128) {
            let net = if four {
                let [a, b, c, d, ..] = address;
                IpNet::new(Ipv4Addr::new(a, b, c, d).into(), len.min(32)).unwrap().trunc()
            } else {
                // What looks like IPv4 in IPv6 is IPv4 to the kernel, too.
                let mut address = address;
                address[0] |= 0x20;
                IpNet::new(Ipv6Addr::from(address).into(), len.max(3)).unwrap().trunc()
            };
            let (len, address) = key(net);
            prop_assert_eq!(prefix(len, address), Some(net));
        }
    }
}
