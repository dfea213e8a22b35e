//! ICMPv6 errors about packets that came here (RFC 4443 §2.4).

use types::Packet;

use super::ErrorMessage;
use crate::icmpv6::{self, Icmpv6};
use crate::ipv6::{self, Repr};
use crate::{Ethernet, Kind, Parsed6, ethernet, ndp};

/// Bytes of the offending packet that an error quotes, at most: the error is at most 1280 bytes long
/// (RFC 4443 §2.4 c).
pub const QUOTE6_MAX: usize = ipv6::MIN_MTU as usize - HEADERS;

/// IPv6 and ICMPv6 header before the quote.
const HEADERS: usize = ipv6::LEN + icmpv6::LEN;

impl ErrorMessage {
    /// The hop limit was used up here.
    pub const HOP_LIMIT_EXCEEDED: Self =
        Self { icmp_type: icmpv6::TIME_EXCEEDED, code: 0, rest: 0 };

    /// The destination cannot be reached, for the reason of a code such as
    /// [`icmpv6::ADDRESS_UNREACHABLE`].
    pub const fn unreachable6(code: u8) -> Self {
        Self { icmp_type: icmpv6::UNREACHABLE, code, rest: 0 }
    }

    /// The packet is too big for a link of so many bytes (RFC 8201 §4).
    pub const fn packet_too_big(mtu: u16) -> Self {
        Self { icmp_type: icmpv6::PACKET_TOO_BIG, code: 0, rest: mtu as u32 }
    }

    /// A field of the packet is wrong, so many bytes from its beginning; `code` as
    /// [`icmpv6::WRONG_FIELD`].
    pub const fn parameter_problem6(code: u8, pointer: u32) -> Self {
        Self { icmp_type: icmpv6::PARAMETER_PROBLEM, code, rest: pointer }
    }
}

/// False for packets about which no ICMPv6 error may be sent (RFC 4443 §2.4 e): errors and what might be
/// one, neighbour discovery, to a group of IP or of the link but for "packet too big", from what is no
/// single host, and fragments but the first.
pub fn may_answer_with_error6(bytes: &[u8], parsed: &Parsed6, message: ErrorMessage) -> bool {
    let is_about_packet = match parsed.kind {
        Kind::Arp | Kind::IcmpError | Kind::Ndp | Kind::Fragment => false,
        Kind::OtherIp => parsed.key.proto != icmpv6::PROTOCOL,
        Kind::Tcp | Kind::Udp | Kind::IcmpQuery | Kind::IcmpReply => true,
    };
    let too_big = message.icmp_type == icmpv6::PACKET_TOO_BIG;
    let is_to_one = !ipv6::is_multicast(parsed.key.dst)
        && Ethernet::new_checked(bytes).is_some_and(|header| !header.destination().is_multicast());
    let source = parsed.key.src;
    is_about_packet && (is_to_one || too_big) && source != 0 && !ipv6::is_bad_source(source)
}

/// Turns a packet into an ICMPv6 error about it, from `source`; see [`may_answer_with_error6`].
///
/// False, and the packet is spoilt, if it was sent to an Ethernet group or has too little headroom.
#[must_use]
pub fn icmp6_error<P: Packet>(
    packet: &mut P,
    parsed: &Parsed6,
    message: ErrorMessage,
    source: u128,
) -> bool {
    turn_into_error(packet, parsed, message, source).is_some()
}

fn turn_into_error<P: Packet>(
    packet: &mut P,
    parsed: &Parsed6,
    message: ErrorMessage,
    source: u128,
) -> Option<()> {
    let (eth_destination, eth_source) = super::answer_stations(packet.bytes())?;
    let l3 = usize::from(parsed.l3);
    let wanted = usize::from(parsed.ip_total_len).min(QUOTE6_MAX);
    // Without room to make the quote contiguous, what is so already will do.
    let quote_len = if packet.pull(l3.wrapping_add(wanted)) {
        wanted
    } else {
        packet.bytes().len().checked_sub(l3)?.min(wanted)
    };
    let l3 = super::reshape(packet, parsed, HEADERS, quote_len)?;

    let bytes = packet.bytes_mut();
    ethernet::write(bytes, eth_destination, eth_source, parsed.vlan, ethernet::IPV6)?;
    let destination = parsed.key.src;
    let len = icmpv6::LEN.wrapping_add(quote_len);
    Repr::new(source, destination, icmpv6::PROTOCOL, len as u16).write(bytes, l3)?;
    let l4 = l3.wrapping_add(ipv6::LEN);
    let mut icmp = Icmpv6::at_mut(bytes, l4)?;
    icmp.set_icmp_type(message.icmp_type);
    icmp.set_code(message.code);
    icmp.set_checksum(0);
    icmp.set_rest(message.rest);
    ndp::finish(bytes, l4, l4.wrapping_add(len), source, destination)
}
