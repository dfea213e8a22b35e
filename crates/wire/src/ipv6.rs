//! The IPv6 header (RFC 8200 §3) and its addresses (RFC 4291).

use types::MacAddr;

/// Version 6 in the top nibble of the first word.
pub const VERSION: u32 = 6 << 28;
/// Flow label in the first word.
pub const FLOW_LABEL: u32 = 0x000f_ffff;
/// Hop limit of packets of our own.
pub const DEFAULT_HOP_LIMIT: u8 = 64;
/// What every IPv6 link carries (RFC 8200 §5).
pub const MIN_MTU: u16 = 1280;

/// All nodes on the link (RFC 4291 §2.7.1).
pub const ALL_NODES: u128 = 0xff02 << 112 | 1;
/// All routers on the link (RFC 4291 §2.7.1).
pub const ALL_ROUTERS: u128 = 0xff02 << 112 | 2;
/// All routers that understand MLDv2 (RFC 3810 §5.2.14).
pub const ALL_MLDV2_ROUTERS: u128 = 0xff02 << 112 | 0x16;
/// ff02::1:ff00:0/104: the group of those whose addresses end in the same 24 bits.
const SOLICITED_NODE: u128 = 0xff02 << 112 | 0x1_ff00_0000;

view! {
    /// The fixed IPv6 header.
    Ipv6[40] {
        /// Version, traffic class and flow label.
        first_word, set_first_word: u32 @ 0;
        /// Length in bytes of all that follows the fixed header.
        payload_len, set_payload_len: u16 @ 4;
        /// IANA number of the header that follows.
        next_header, set_next_header: u8 @ 6;
        /// Hop limit.
        hop_limit, set_hop_limit: u8 @ 7;
        /// Source address.
        source, set_source: u128 @ 8;
        /// Destination address.
        destination, set_destination: u128 @ 24;
    }
}

impl<B: std::ops::Deref<Target = [u8; LEN]>> Ipv6<B> {
    /// DSCP and ECN.
    #[inline(always)]
    pub fn traffic_class(&self) -> u8 {
        (self.first_word() >> 20) as u8
    }

    /// Flow label (RFC 6437).
    #[inline(always)]
    pub fn flow_label(&self) -> u32 {
        self.first_word() & FLOW_LABEL
    }
}

/// A header to be written, without extension headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Source address.
    pub source: u128,
    /// Destination address.
    pub destination: u128,
    /// IANA number of the header that follows.
    pub next_header: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Flow label; only its low 20 bits count.
    pub flow_label: u32,
    /// Length in bytes of all that follows the fixed header.
    pub payload_len: u16,
    /// Hop limit.
    pub hop_limit: u8,
}

impl Repr {
    /// A header of ours: hop limit 64, no flow label.
    pub const fn new(source: u128, destination: u128, next_header: u8, payload_len: u16) -> Self {
        Self {
            source,
            destination,
            next_header,
            traffic_class: 0,
            flow_label: 0,
            payload_len,
            hop_limit: DEFAULT_HOP_LIMIT,
        }
    }

    /// Writes the header at `offset`; `None` if it does not fit.
    #[inline]
    pub fn write(&self, bytes: &mut [u8], offset: usize) -> Option<()> {
        let mut header = Ipv6::at_mut(bytes, offset)?;
        let class = u32::from(self.traffic_class) << 20;
        header.set_first_word(VERSION | class | self.flow_label & FLOW_LABEL);
        header.set_payload_len(self.payload_len);
        header.set_next_header(self.next_header);
        header.set_hop_limit(self.hop_limit);
        header.set_source(self.source);
        header.set_destination(self.destination);
        Some(())
    }
}

/// True for an address that no packet of a host's can come from: multicast, loopback, and IPv4-mapped
/// ones, which stand for IPv4 inside a host (RFC 4291 §2.5.3, §2.5.5.2, §2.7). The unspecified address
/// is another matter: see [`is_unspecified`].
#[inline(always)]
pub const fn is_bad_source(address: u128) -> bool {
    is_multicast(address) || address == 1 || address >> 32 == 0xffff
}

/// True for `::`, which a host has until it has another (RFC 4291 §2.5.2).
#[inline(always)]
pub const fn is_unspecified(address: u128) -> bool {
    address == 0
}

/// True for ff00::/8.
#[inline(always)]
pub const fn is_multicast(address: u128) -> bool {
    address >> 120 == 0xff
}

/// True for fe80::/10.
#[inline(always)]
pub const fn is_link_local(address: u128) -> bool {
    address >> 118 == 0xfe80 >> 6
}

/// The group in which neighbours ask for this address (RFC 4291 §2.7.1).
#[inline(always)]
pub const fn solicited_node(address: u128) -> u128 {
    SOLICITED_NODE | address & 0x00ff_ffff
}

/// The Ethernet address of a group (RFC 2464 §7).
#[inline(always)]
pub const fn multicast_mac(group: u128) -> MacAddr {
    MacAddr::from_bits(0x3333 << 32 | group as u32 as u64)
}

/// The link-local address that an interface makes of its Ethernet address (RFC 2464 §4, RFC 4291
/// appendix A).
pub const fn link_local(mac: MacAddr) -> u128 {
    let [a, b, c, d, e, f] = mac.0;
    let id = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
    0xfe80 << 112 | id as u128
}

#[cfg(test)]
mod tests {
    use super::*;

    view_tests!(Ipv6 {
        first_word, set_first_word = 0x6123_4567_u32;
        payload_len, set_payload_len = 0x0102_u16;
        next_header, set_next_header = 58_u8;
        hop_limit, set_hop_limit = 64_u8;
        source, set_source = 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10_u128;
        destination, set_destination = 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10_u128;
    });

    fn address(text: &str) -> u128 {
        text.parse::<std::net::Ipv6Addr>().unwrap().into()
    }

    #[test]
    fn a_header_is_written_whole() {
        let repr = Repr {
            traffic_class: 0xb8,
            flow_label: 0xfff1_2345,
            hop_limit: 255,
            ..Repr::new(address("2001:db8::1"), address("2001:db8::2"), 17, 8)
        };
        let mut bytes = [0xa5; 44];
        repr.write(&mut bytes, 4).unwrap();
        let header = Ipv6::at(&bytes, 4).unwrap();
        assert_eq!((header.traffic_class(), header.flow_label()), (0xb8, 0x1_2345));
        assert_eq!(bytes[4] >> 4, 6);
        assert_eq!((header.source(), header.destination()), (repr.source, repr.destination));
        assert_eq!((header.next_header(), header.hop_limit()), (17, 255));
        assert_eq!(bytes[..4], [0xa5; 4]);
        assert_eq!(repr.write(&mut bytes, 5), None);
    }

    #[test]
    fn addresses_are_what_they_look_like() {
        for bad in ["ff02::1", "::1", "::ffff:10.0.0.1"] {
            assert!(is_bad_source(address(bad)), "{bad}");
        }
        for good in ["::", "fe80::1", "2001:db8::1", "64:ff9b::a00:1", "fd00::1", "::2"] {
            assert!(!is_bad_source(address(good)), "{good}");
        }
        assert!(is_link_local(address("febf::1")) && !is_link_local(address("fec0::1")));
        assert_eq!(solicited_node(address("2001:db8::12:3456")), address("ff02::1:ff12:3456"));
        assert_eq!(multicast_mac(ALL_NODES).to_string(), "33:33:00:00:00:01");
        assert_eq!(multicast_mac(address("ff02::1:ff12:3456")).to_string(), "33:33:ff:12:34:56");
        let mac = "34:56:78:9a:bc:de".parse().unwrap();
        assert_eq!(link_local(mac), address("fe80::3656:78ff:fe9a:bcde"));
        assert_eq!((ALL_ROUTERS, ALL_MLDV2_ROUTERS), (address("ff02::2"), address("ff02::16")));
    }
}
