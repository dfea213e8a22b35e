//! TCP resets.

use types::{FlowKey, MacAddr, Packet, Proto};

use crate::{Kind, Parsed, Tcp, checksum, ethernet, ipv4, tcp};

/// Longest frame that is written here, in bytes.
pub const RESET_MAX_LEN: usize = 58;

/// IPv4 and TCP header, which are all of a reset.
const HEADERS: u16 = 40;

/// A reset that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reset {
    /// Ethernet destination.
    pub eth_destination: MacAddr,
    /// Ethernet source.
    pub eth_source: MacAddr,
    /// VLAN identifier, 0 for none.
    pub vlan: u16,
    /// The tuple of the reset itself.
    pub key: FlowKey,
    /// Sequence number: what the receiver expects next, or it ignores the reset (RFC 5961 §3.2).
    pub seq: u32,
    /// The number that is acknowledged, if any is.
    pub ack: Option<u32>,
}

/// Writes a reset and returns the frame's length in bytes; `None` if `bytes` are shorter.
pub fn write_reset(bytes: &mut [u8], reset: &Reset) -> Option<usize> {
    let Reset { eth_destination, eth_source, vlan, key, seq, ack } = *reset;
    let l3 = ethernet::write(bytes, eth_destination, eth_source, vlan, ethernet::IPV4)?;
    let protocol = Proto::Tcp.number();
    let (source, destination) = (key.src, key.dst);
    ipv4::Repr { source, destination, protocol, tos: 0, total_len: HEADERS }.write(bytes, l3)?;
    let l4 = l3.wrapping_add(ipv4::LEN);
    let mut header = Tcp::at_mut(bytes, l4)?;
    header.set_sport(key.sport);
    header.set_dport(key.dport);
    header.set_seq(seq);
    header.set_ack(ack.unwrap_or(0));
    header.set_data_offset(5 << 4);
    header.set_flags(if ack.is_some() { tcp::RST | tcp::ACK } else { tcp::RST });
    header.set_window(0);
    header.set_checksum(0);
    header.set_urgent(0);
    let pseudo = checksum::pseudo_header(source, destination, protocol, tcp::LEN as u16);
    let sum = checksum::add(pseudo, checksum::sum(header.as_bytes()));
    header.set_checksum(!sum);
    Some(l4.wrapping_add(tcp::LEN))
}

/// Turns a TCP segment that no conn expects into the reset that answers it (RFC 9293 §3.10.7.1).
///
/// False, and the packet is spoilt, if it is itself a reset, or was sent to an Ethernet group.
#[must_use]
pub fn reset_reply<P: Packet>(packet: &mut P, parsed: &Parsed) -> bool {
    turn_into_reset(packet, parsed).is_some()
}

fn turn_into_reset<P: Packet>(packet: &mut P, parsed: &Parsed) -> Option<()> {
    if parsed.kind != Kind::Tcp || parsed.tcp_flags & tcp::RST != 0 {
        return None;
    }
    let (eth_destination, eth_source) = super::answer_stations(packet.bytes())?;
    let segment = Tcp::at(packet.bytes(), usize::from(parsed.l4))?;
    let (seq, ack) = if parsed.tcp_flags & tcp::ACK != 0 {
        (segment.ack(), None)
    } else {
        // SYN and FIN take a number each (RFC 9293 §3.4).
        let syn = u32::from(parsed.tcp_flags & tcp::SYN != 0);
        let fin = u32::from(parsed.tcp_flags & tcp::FIN != 0);
        let len = (parsed.payload_len() as u32).wrapping_add(syn).wrapping_add(fin);
        (0, Some(segment.seq().wrapping_add(len)))
    };
    let key = parsed.key.reversed();
    let reset = Reset { eth_destination, eth_source, vlan: parsed.vlan, key, seq, ack };
    // A segment is never shorter than its reset, so that nothing has to grow.
    super::reshape(packet, parsed, 0, usize::from(HEADERS))?;
    write_reset(packet.bytes_mut(), &reset)?;
    Some(())
}
