//! Addresses as tests like to write them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

use types::{FlowKey, FlowKey6, MacAddr, Proto};

/// What can stand for an IPv4 address: a number, text, four bytes.
pub trait ToIp {
    /// The address in host order.
    fn to_ip(self) -> u32;
}

impl ToIp for u32 {
    fn to_ip(self) -> u32 {
        self
    }
}

impl ToIp for Ipv4Addr {
    fn to_ip(self) -> u32 {
        self.into()
    }
}

impl ToIp for [u8; 4] {
    fn to_ip(self) -> u32 {
        u32::from_be_bytes(self)
    }
}

impl ToIp for &str {
    fn to_ip(self) -> u32 {
        match self.parse::<Ipv4Addr>() {
            Ok(address) => address.into(),
            Err(_) => panic!("`{self}` is no IPv4 address"),
        }
    }
}

/// What can stand for an IPv6 address: a number, text.
pub trait ToIp6 {
    /// The address in host order.
    fn to_ip6(self) -> u128;
}

impl ToIp6 for u128 {
    fn to_ip6(self) -> u128 {
        self
    }
}

impl ToIp6 for Ipv6Addr {
    fn to_ip6(self) -> u128 {
        self.into()
    }
}

impl ToIp6 for &str {
    fn to_ip6(self) -> u128 {
        match self.parse::<Ipv6Addr>() {
            Ok(address) => address.into(),
            Err(_) => panic!("`{self}` is no IPv6 address"),
        }
    }
}

/// What can stand for an Ethernet address: text, six bytes, or `n` for `02:00:00:00:00:n`.
pub trait ToMac {
    /// The address.
    fn to_mac(self) -> MacAddr;
}

impl ToMac for MacAddr {
    fn to_mac(self) -> MacAddr {
        self
    }
}

impl ToMac for [u8; 6] {
    fn to_mac(self) -> MacAddr {
        MacAddr(self)
    }
}

impl ToMac for u8 {
    fn to_mac(self) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, self])
    }
}

impl ToMac for &str {
    fn to_mac(self) -> MacAddr {
        self.parse().unwrap_or_else(|error| panic!("{error}"))
    }
}

/// An IPv4 address in host order: `ip("10.0.0.1")`.
pub fn ip(address: impl ToIp) -> u32 {
    address.to_ip()
}

/// An IPv6 address in host order: `ip6("2001:db8::1")`.
pub fn ip6(address: impl ToIp6) -> u128 {
    address.to_ip6()
}

/// An Ethernet address: `mac("02:00:00:00:00:01")` or `mac(1)`.
pub fn mac(address: impl ToMac) -> MacAddr {
    address.to_mac()
}

/// A flow key of zone 0: `key(Proto::Tcp, "10.0.0.1:1000", "10.0.0.2:80")`.
pub fn key(proto: Proto, from: &str, to: &str) -> FlowKey {
    let parse = |text: &str| match text.parse::<SocketAddrV4>() {
        Ok(end) => (u32::from(*end.ip()), end.port()),
        Err(_) => panic!("`{text}` is no IPv4 address and port"),
    };
    let ((src, sport), (dst, dport)) = (parse(from), parse(to));
    FlowKey { src, dst, sport, dport, zone: 0, proto: proto.number() }
}

/// A flow key of zone 0: `key6(6, "[2001:db8::1]:1000", "[2001:db8::2]:80")`. The protocol is a number,
/// since ICMPv6 has another than ICMP.
pub fn key6(proto: u8, from: &str, to: &str) -> FlowKey6 {
    let parse = |text: &str| match text.parse::<SocketAddrV6>() {
        Ok(end) => (u128::from(*end.ip()), end.port()),
        Err(_) => panic!("`{text}` is no IPv6 address and port"),
    };
    let ((src, sport), (dst, dport)) = (parse(from), parse(to));
    FlowKey6 { src, dst, sport, dport, zone: 0, proto }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings_agree() {
        assert_eq!(ip("10.0.0.1"), 0x0a00_0001);
        assert_eq!(ip([10, 0, 0, 1]), ip(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(mac(7), mac("02:00:00:00:00:07"));
        assert_eq!(mac([2, 0, 0, 0, 0, 7]), mac(MacAddr([2, 0, 0, 0, 0, 7])));
        assert_eq!(
            key(Proto::Tcp, "10.0.0.1:1000", "10.0.0.2:80").to_string(),
            "tcp 10.0.0.1:1000 > 10.0.0.2:80"
        );
        assert_eq!(ip6("::1"), ip6(Ipv6Addr::LOCALHOST));
        assert_eq!(
            key6(17, "[2001:db8::1]:1000", "[2001:db8::2]:53").to_string(),
            "udp [2001:db8::1]:1000 > [2001:db8::2]:53"
        );
    }
}
