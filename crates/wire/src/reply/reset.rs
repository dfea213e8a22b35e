//! TCP resets.

use types::{Address, FlowKey, MacAddr, Packet, Proto};

use crate::{Kind, Parsed, Parsed6, Tcp, checksum, ethernet, ipv4, ipv6, tcp};

/// Longest frame of an IPv4 reset, in bytes.
pub const RESET_MAX_LEN: usize = 58;
/// Longest frame of an IPv6 reset, in bytes.
pub const RESET6_MAX_LEN: usize = 78;

/// IPv4 and TCP header, which are all of a reset.
const HEADERS: u16 = 40;
/// IPv6 and TCP header, which are all of a reset.
const HEADERS6: u16 = 60;

/// A reset that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reset<A = u32> {
    /// Ethernet destination.
    pub eth_destination: MacAddr,
    /// Ethernet source.
    pub eth_source: MacAddr,
    /// VLAN identifier, 0 for none.
    pub vlan: u16,
    /// The tuple of the reset itself.
    pub key: FlowKey<A>,
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
    let pseudo = checksum::pseudo_header(source, destination, protocol, tcp::LEN as u16);
    write_tcp(bytes, l4, (key.sport, key.dport), seq, ack, pseudo)
}

/// [`write_reset`] for IPv6.
pub fn write_reset6(bytes: &mut [u8], reset: &Reset<u128>) -> Option<usize> {
    let Reset { eth_destination, eth_source, vlan, key, seq, ack } = *reset;
    let l3 = ethernet::write(bytes, eth_destination, eth_source, vlan, ethernet::IPV6)?;
    let protocol = Proto::Tcp.number();
    ipv6::Repr::new(key.src, key.dst, protocol, tcp::LEN as u16).write(bytes, l3)?;
    let l4 = l3.wrapping_add(ipv6::LEN);
    let pseudo = checksum::pseudo_header_v6(key.src, key.dst, protocol, tcp::LEN as u32);
    write_tcp(bytes, l4, (key.sport, key.dport), seq, ack, pseudo)
}

/// The segment, of which `pseudo` is the sum of the pseudo header. Returns its end.
fn write_tcp(
    bytes: &mut [u8],
    l4: usize,
    (sport, dport): (u16, u16),
    seq: u32,
    ack: Option<u32>,
    pseudo: u16,
) -> Option<usize> {
    let mut header = Tcp::at_mut(bytes, l4)?;
    header.set_sport(sport);
    header.set_dport(dport);
    header.set_seq(seq);
    header.set_ack(ack.unwrap_or(0));
    header.set_data_offset(5 << 4);
    header.set_flags(if ack.is_some() { tcp::RST | tcp::ACK } else { tcp::RST });
    header.set_window(0);
    header.set_checksum(0);
    header.set_urgent(0);
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

/// [`reset_reply`] for IPv6.
#[must_use]
pub fn reset_reply6<P: Packet>(packet: &mut P, parsed: &Parsed6) -> bool {
    turn_into_reset6(packet, parsed).is_some()
}

fn turn_into_reset<P: Packet>(packet: &mut P, parsed: &Parsed) -> Option<()> {
    let reset = answering(packet, parsed)?;
    // A segment is never shorter than its reset, so that nothing has to grow.
    super::reshape(packet, parsed, 0, usize::from(HEADERS))?;
    write_reset(packet.bytes_mut(), &reset)?;
    Some(())
}

fn turn_into_reset6<P: Packet>(packet: &mut P, parsed: &Parsed6) -> Option<()> {
    let reset = answering(packet, parsed)?;
    super::reshape(packet, parsed, 0, usize::from(HEADERS6))?;
    write_reset6(packet.bytes_mut(), &reset)?;
    Some(())
}

/// The reset that answers a segment; `None` if none may.
fn answering<P: Packet, A: Address>(packet: &P, parsed: &Parsed<A>) -> Option<Reset<A>> {
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
    Some(Reset { eth_destination, eth_source, vlan: parsed.vlan, key, seq, ack })
}
