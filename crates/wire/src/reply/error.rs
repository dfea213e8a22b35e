//! ICMP errors about packets that came here.

use types::{Packet, Proto};

use crate::{Ethernet, Icmpv4, Ipv4, Kind, Parsed, checksum, ethernet, icmpv4, icmpv6, ipv4};

/// Bytes of the offending packet that an error quotes, at most: the error is at most 576 bytes long
/// (RFC 1812 §4.3.2.3).
pub const QUOTE_MAX: usize = 576 - HEADERS;

/// IPv4 and ICMP header before the quote.
const HEADERS: usize = ipv4::LEN + icmpv4::LEN;

/// Precedence of ICMP errors: internetwork control (RFC 1812 §4.3.2.5).
const TOS: u8 = 6 << 5;

/// What an ICMP error says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorMessage {
    /// Type.
    pub icmp_type: u8,
    /// Code.
    pub code: u8,
    /// The four bytes behind the checksum.
    pub rest: u32,
}

impl ErrorMessage {
    /// The TTL was used up here.
    pub const TIME_EXCEEDED: Self = Self { icmp_type: icmpv4::TIME_EXCEEDED, code: 0, rest: 0 };

    /// The destination cannot be reached, for the reason of a code such as
    /// [`icmpv4::HOST_UNREACHABLE`].
    pub const fn unreachable(code: u8) -> Self {
        Self { icmp_type: icmpv4::UNREACHABLE, code, rest: 0 }
    }

    /// The packet is too big for a link of so many bytes and must not be fragmented (RFC 1191 §4).
    pub const fn fragmentation_needed(mtu: u16) -> Self {
        let code = icmpv4::FRAGMENTATION_NEEDED;
        Self { icmp_type: icmpv4::UNREACHABLE, code, rest: mtu as u32 }
    }

    /// Whether it says that a packet was too big, in either family.
    pub const fn is_too_big(self) -> bool {
        matches!(
            (self.icmp_type, self.code),
            (icmpv4::UNREACHABLE, icmpv4::FRAGMENTATION_NEEDED) | (icmpv6::PACKET_TOO_BIG, 0)
        )
    }
}

/// False for packets about which no ICMP error may be sent (RFC 1122 §3.2.2, RFC 1812 §4.3.2.7):
/// ICMP errors, to a group or broadcast of IP or of the link, from what is no single host, and
/// fragments but the first. The broadcast address of a subnet is for the caller to know.
pub fn may_answer_with_error(bytes: &[u8], parsed: &Parsed) -> bool {
    let is_about_packet = match parsed.kind {
        Kind::Arp | Kind::IcmpError | Kind::Ndp | Kind::Fragment => false,
        // An ICMP type that nobody knows may be an error's.
        Kind::OtherIp => parsed.key.proto != Proto::Icmp.number(),
        Kind::Tcp | Kind::Udp | Kind::IcmpQuery | Kind::IcmpReply => true,
    };
    let is_first_fragment = Ipv4::at(bytes, usize::from(parsed.l3))
        .is_some_and(|header| header.fragment() & ipv4::FRAGMENT_OFFSET == 0);
    let is_to_one_station =
        Ethernet::new_checked(bytes).is_some_and(|header| !header.destination().is_multicast());
    is_about_packet
        && is_first_fragment
        && is_to_one_station
        && !ipv4::is_multicast_or_broadcast(parsed.key.dst)
        && !ipv4::is_bad_source(parsed.key.src)
}

/// Turns a packet into an ICMP error about it, from `source`; see [`may_answer_with_error`].
///
/// False, and the packet is spoilt, if it was sent to an Ethernet group or has too little headroom.
#[must_use]
pub fn icmp_error<P: Packet>(
    packet: &mut P,
    parsed: &Parsed,
    message: ErrorMessage,
    source: u32,
) -> bool {
    turn_into_error(packet, parsed, message, source).is_some()
}

fn turn_into_error<P: Packet>(
    packet: &mut P,
    parsed: &Parsed,
    message: ErrorMessage,
    source: u32,
) -> Option<()> {
    let (eth_destination, eth_source) = super::answer_stations(packet.bytes())?;
    let l3 = usize::from(parsed.l3);
    let wanted = usize::from(parsed.ip_total_len).min(QUOTE_MAX);
    // Without room to make the quote contiguous, what is so already will do.
    let quote_len = if packet.pull(l3.wrapping_add(wanted)) {
        wanted
    } else {
        packet.bytes().len().checked_sub(l3)?.min(wanted)
    };
    let l3 = super::reshape(packet, parsed, HEADERS, quote_len)?;

    let bytes = packet.bytes_mut();
    ethernet::write(bytes, eth_destination, eth_source, parsed.vlan, ethernet::IPV4)?;
    let header = ipv4::Repr {
        source,
        destination: parsed.key.src,
        protocol: Proto::Icmp.number(),
        tos: TOS,
        total_len: HEADERS.wrapping_add(quote_len) as u16,
    };
    header.write(bytes, l3)?;
    let l4 = l3.wrapping_add(ipv4::LEN);
    let mut icmp = Icmpv4::at_mut(bytes, l4)?;
    icmp.set_icmp_type(message.icmp_type);
    icmp.set_code(message.code);
    icmp.set_checksum(0);
    icmp.set_rest(message.rest);
    let sum = checksum::checksum(bytes.get(l4..)?);
    Icmpv4::at_mut(bytes, l4)?.set_checksum(sum);
    Some(())
}
