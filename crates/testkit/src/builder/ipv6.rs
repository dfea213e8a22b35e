//! IPv6 headers.

use wire::{Piece, extension, icmpv6};

use super::{Icmp, L4, PacketBuilder};
use crate::ToIp6;

#[derive(Clone, Debug)]
pub(super) struct Ip6 {
    pub source: u128,
    pub destination: u128,
    flow_label: u32,
    payload_len: Option<u16>,
    /// Number and whole bytes of each extension header; their next headers are written at the end.
    extensions: Vec<(u8, Vec<u8>)>,
}

/// IPv6 in place of IPv4. Time to live and TOS stand for hop limit and traffic class, `ip_version` and
/// `protocol` work for both.
impl PacketBuilder {
    /// An IPv6 packet from here to there.
    pub fn ipv6(mut self, source: impl ToIp6, destination: impl ToIp6) -> Self {
        let (source, destination) = (source.to_ip6(), destination.to_ip6());
        if self.ip6.is_none() {
            self.ip.version = 6;
        }
        let old = self.ip6.take();
        self.ip6 = Some(Ip6 {
            source,
            destination,
            flow_label: old.as_ref().map_or(0, |ip| ip.flow_label),
            payload_len: old.as_ref().and_then(|ip| ip.payload_len),
            extensions: old.map(|ip| ip.extensions).unwrap_or_default(),
        });
        self
    }

    fn in_ip6(mut self, edit: impl FnOnce(&mut Ip6)) -> Self {
        match &mut self.ip6 {
            Some(ip6) => edit(ip6),
            None => panic!("call .ipv6(source, destination) first"),
        }
        self
    }

    /// Flow label.
    pub fn flow_label(self, label: u32) -> Self {
        self.in_ip6(|ip6| ip6.flow_label = label)
    }

    /// A payload length that may be wrong.
    pub fn ip6_payload_len(self, len: u16) -> Self {
        self.in_ip6(|ip6| ip6.payload_len = Some(len))
    }

    /// One more extension header. Of `bytes` the first is overwritten by the next header's number.
    pub fn extension(self, number: u8, bytes: &[u8]) -> Self {
        self.in_ip6(|ip6| ip6.extensions.push((number, bytes.to_vec())))
    }

    /// Hop-by-hop options, destination options: these, padded to a multiple of 8.
    pub fn options_header(self, number: u8, options: &[u8]) -> Self {
        let mut bytes = [&[0, 0], options].concat();
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes[1] = (bytes.len() / 8 - 1) as u8;
        self.extension(number, &bytes)
    }

    /// A routing header of this type with so many segments left, and one address.
    pub fn routing_header(self, routing_type: u8, segments_left: u8) -> Self {
        let mut bytes = [0; 24];
        bytes[1..4].copy_from_slice(&[2, routing_type, segments_left]);
        self.extension(extension::ROUTING, &bytes)
    }

    /// A fragment header: from byte `offset`, a multiple of 8, whether `more` follow, identification.
    pub fn fragment6(self, offset: u16, more: bool, ident: u32) -> Self {
        assert_eq!(offset % 8, 0, "fragments begin at multiples of 8");
        let mut bytes = [0; extension::FRAGMENT_LEN];
        Piece { ident, offset, more }.write(&mut bytes, 0, 0);
        self.extension(extension::FRAGMENT, &bytes)
    }

    /// Any ICMPv6 message: type, code and the four bytes behind the checksum.
    pub fn icmp6(mut self, icmp_type: u8, code: u8, rest: u32) -> Self {
        self.l4 = L4::Icmp6(Icmp { icmp_type, code, rest, bad_checksum: false });
        self
    }

    /// An ICMPv6 echo request.
    pub fn echo_request6(self, ident: u16, seq: u16) -> Self {
        self.icmp6(icmpv6::ECHO_REQUEST, 0, u32::from(ident) << 16 | u32::from(seq))
    }

    /// An ICMPv6 echo reply.
    pub fn echo_reply6(self, ident: u16, seq: u16) -> Self {
        self.icmp6(icmpv6::ECHO_REPLY, 0, u32::from(ident) << 16 | u32::from(seq))
    }

    /// Length of the IP headers in bytes.
    pub(super) fn l3_len(&self) -> usize {
        match &self.ip6 {
            Some(ip6) => 40 + ip6.extensions.iter().map(|(_, bytes)| bytes.len()).sum::<usize>(),
            None => self.ip_header_len(),
        }
    }

    /// The IPv6 packet as bytes, without Ethernet.
    pub(super) fn ip6_packet(&self, ip6: &Ip6) -> Vec<u8> {
        let (l4_number, l4) = self.l4_packet();
        let l4_number = self.ip.protocol.unwrap_or(l4_number);
        let payload_len = self.l3_len() - 40 + l4.len();
        assert!(payload_len <= 65_535, "an IPv6 payload of {payload_len} bytes");
        let first_word = u32::from(self.ip.version) << 28
            | u32::from(self.ip.tos) << 20
            | ip6.flow_label & 0x000f_ffff;
        let mut packet = first_word.to_be_bytes().to_vec();
        packet.extend(ip6.payload_len.unwrap_or(payload_len as u16).to_be_bytes());
        let mut numbers = ip6.extensions.iter().map(|(number, _)| *number).chain([l4_number]);
        packet.extend([numbers.next().unwrap_or(l4_number), self.ip.ttl]);
        packet.extend(ip6.source.to_be_bytes());
        packet.extend(ip6.destination.to_be_bytes());
        for ((_, bytes), next) in ip6.extensions.iter().zip(numbers) {
            packet.push(next);
            packet.extend(&bytes[1..]);
        }
        packet.extend(l4);
        packet
    }
}
