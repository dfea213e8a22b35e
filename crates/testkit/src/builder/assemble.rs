//! From a description to bytes: lengths and checksums.

use types::Packet as _;
use wire::{ethernet, tcp, tcp_options};

use super::{Icmp, L4, PacketBuilder, Tcp, Udp};
use crate::Buf;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

impl PacketBuilder {
    /// The frame as a packet.
    pub fn build(&self) -> Buf {
        let mut buf = Buf::new(&self.frame());
        if let Some(hash) = self.rss_hash {
            buf = buf.with_rss_hash(hash);
        }
        let total_len = buf.total_len();
        buf.segmented(self.first_len.unwrap_or(total_len))
    }

    /// The frame as bytes.
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = [self.destination.0, self.source.0].concat();
        if let Some(id) = self.vlan {
            frame.extend(ethernet::VLAN.to_be_bytes());
            frame.extend(id.to_be_bytes());
        }
        let (own_type, packet) = match &self.l4 {
            L4::Arp(packet) => (ethernet::ARP, packet.to_vec()),
            _ if self.ip6.is_some() => (ethernet::IPV6, self.ip_packet()),
            _ => (ethernet::IPV4, self.ip_packet()),
        };
        frame.extend(self.ether_type.unwrap_or(own_type).to_be_bytes());
        frame.extend(packet);
        frame.resize(frame.len().max(self.min_len), 0);
        frame.resize(frame.len() + self.trailer, 0x5a);
        frame
    }

    pub(super) fn ip_header_len(&self) -> usize {
        20 + self.ip.options.len()
    }

    /// The IP packet as bytes, without Ethernet.
    pub fn ip_packet(&self) -> Vec<u8> {
        if let Some(ip6) = &self.ip6 {
            return self.ip6_packet(ip6);
        }
        let ip = &self.ip;
        let (protocol, l4) = self.l4_packet();
        let total_len = self.ip_header_len() + l4.len();
        assert!(total_len <= 65_535, "an IPv4 packet of {total_len} bytes");
        let words = ip.header_words.unwrap_or((self.ip_header_len() / 4) as u8);
        let mut packet = vec![ip.version << 4 | words & 0x0f, ip.tos];
        packet.extend(ip.total_len.unwrap_or(total_len as u16).to_be_bytes());
        packet.extend(ip.ident.to_be_bytes());
        packet.extend(ip.fragment.to_be_bytes());
        packet.extend([ip.ttl, ip.protocol.unwrap_or(protocol), 0, 0]);
        packet.extend(ip.source.to_be_bytes());
        packet.extend(ip.destination.to_be_bytes());
        packet.extend(&ip.options);
        let checksum = !sum(&packet) ^ u16::from(ip.bad_checksum);
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        packet.extend(l4);
        packet
    }

    /// Protocol number, and header with payload.
    pub(super) fn l4_packet(&self) -> (u8, Vec<u8>) {
        match &self.l4 {
            L4::None => (253, self.payload.clone()),
            L4::Arp(packet) => panic!("ARP is not carried by IP: {packet:?}"),
            L4::Tcp(tcp) => (TCP, self.tcp_segment(tcp)),
            L4::Udp(udp) => (UDP, self.udp_datagram(udp)),
            L4::Icmp(icmp) => (ICMP, self.icmp_message(icmp)),
            L4::Icmp6(icmp) => (ICMPV6, self.icmp6_message(icmp)),
        }
    }

    fn tcp_segment(&self, tcp: &Tcp) -> Vec<u8> {
        let mut options = tcp.options.clone();
        options.resize(options.len().next_multiple_of(4), tcp_options::NOP);
        assert!(options.len() <= 40, "{} bytes of TCP options", options.len());
        let words = tcp.header_words.unwrap_or(5 + (options.len() / 4) as u8);
        let mut segment = [tcp.sport.to_be_bytes(), tcp.dport.to_be_bytes()].concat();
        segment.extend(tcp.seq.to_be_bytes());
        segment.extend(tcp.ack.to_be_bytes());
        segment.extend([words << 4, tcp.flags.unwrap_or(tcp::ACK)]);
        segment.extend(tcp.window.to_be_bytes());
        segment.extend([0, 0]);
        segment.extend(tcp.urgent.to_be_bytes());
        segment.extend(options);
        segment.extend(&self.payload);
        let checksum = self.transport_checksum(TCP, &segment) ^ u16::from(tcp.bad_checksum);
        segment[16..18].copy_from_slice(&checksum.to_be_bytes());
        segment
    }

    fn udp_datagram(&self, udp: &Udp) -> Vec<u8> {
        let len = udp.len.unwrap_or(8 + self.payload.len() as u16);
        let mut datagram = [udp.sport, udp.dport, len, 0].map(u16::to_be_bytes).concat();
        datagram.extend(&self.payload);
        if !udp.no_checksum {
            let checksum = match self.transport_checksum(UDP, &datagram) {
                0 => 0xffff,
                checksum => checksum,
            };
            // Bit 1, so that a right 1 does not become the 0 that says none.
            let checksum = checksum ^ u16::from(udp.bad_checksum) << 1;
            datagram[6..8].copy_from_slice(&checksum.to_be_bytes());
        }
        datagram
    }

    fn icmp_message(&self, icmp: &Icmp) -> Vec<u8> {
        let mut message = self.icmp_unsummed(icmp);
        let checksum = !sum(&message) ^ u16::from(icmp.bad_checksum);
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
        message
    }

    fn icmp6_message(&self, icmp: &Icmp) -> Vec<u8> {
        let mut message = self.icmp_unsummed(icmp);
        let checksum = self.transport_checksum(ICMPV6, &message) ^ u16::from(icmp.bad_checksum);
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
        message
    }

    fn icmp_unsummed(&self, icmp: &Icmp) -> Vec<u8> {
        let mut message = vec![icmp.icmp_type, icmp.code, 0, 0];
        message.extend(icmp.rest.to_be_bytes());
        message.extend(&self.payload);
        message
    }

    fn transport_checksum(&self, protocol: u8, bytes: &[u8]) -> u16 {
        let (source, destination) = match &self.ip6 {
            Some(ip6) => {
                (ip6.source.to_be_bytes().to_vec(), ip6.destination.to_be_bytes().to_vec())
            }
            None => {
                (self.ip.source.to_be_bytes().to_vec(), self.ip.destination.to_be_bytes().to_vec())
            }
        };
        let mut summed = [source, destination].concat();
        summed.extend([0, protocol]);
        summed.extend((bytes.len() as u16).to_be_bytes());
        summed.extend(bytes);
        !sum(&summed)
    }
}

/// RFC 1071 by the letter: `wire::checksum` is what these packets test.
fn sum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
