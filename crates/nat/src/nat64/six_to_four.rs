//! From IPv6 to IPv4 (RFC 7915 §5).

use types::{FlowKey, FlowKey6, Packet, Verdict};
use wire::ipv6::Ipv6;
use wire::{Ipv4, Piece, checksum, ethernet, extension, icmpv4, icmpv6, ipv4};

use super::icmp::{self, Said};
use super::{
    ErrorLayout, ICMP_HEADER, ICMPV4, IPV4, IPV6, Mtus, Outcome, Quote, Settings, TCP, UDP,
    UNTRANSLATABLE,
};
use crate::rewrite::Layout;

/// Translated packets of no more bytes may be fragmented on their way: their sender is never told to send
/// less than IPv6's smallest MTU, of which this is left (RFC 7915 §5.1).
pub(crate) const MAY_BE_FRAGMENTED_MAX: usize = 1260;

/// What turning packets of key `from` into packets of key `into` does to the checksum of TCP and UDP: the
/// pseudo headers differ by the addresses only.
pub fn l4_delta(from: &FlowKey6, into: &FlowKey) -> u16 {
    let l4_ports = checksum::add(
        checksum::delta_u16(from.sport, into.sport),
        checksum::delta_u16(from.dport, into.dport),
    );
    checksum::add(addresses_delta((from.src, from.dst), (into.src, into.dst)), l4_ports)
}

fn addresses_delta(old: (u128, u128), new: (u32, u32)) -> u16 {
    let gone = checksum::add(checksum::sum_u128(old.0), checksum::sum_u128(old.1));
    checksum::add(!gone, checksum::pseudo_header(new.0, new.1, 0, 0))
}

/// The fields of an IPv6 header and its chain that a translation needs.
struct Header {
    source: u128,
    destination: u128,
    traffic_class: u8,
    hop_limit: u8,
    proto: u8,
    piece: Option<Piece>,
}

/// Reads the header at `l3` of a packet whose transport begins at `l4` and which ends at `end`, which may
/// be beyond what is there of it.
fn read_header(bytes: &[u8], l3: usize, l4: usize, end: usize) -> Result<Header, Verdict> {
    let ip = Ipv6::at(bytes, l3).ok_or(Verdict::Internal)?;
    let mut header = Header {
        source: ip.source(),
        destination: ip.destination(),
        traffic_class: ip.traffic_class(),
        hop_limit: ip.hop_limit(),
        proto: ip.next_header(),
        piece: None,
    };
    if l4 != l3 + IPV6 {
        // §5.1: hop-by-hop and destination options and routing headers without segments left are skipped.
        let chain = extension::chain(bytes, l3, end, header.proto)?;
        if chain.authenticated {
            return Err(UNTRANSLATABLE);
        }
        header.proto = chain.proto;
        header.piece =
            chain.fragment.and_then(|at| Piece::at(bytes, at)).filter(|piece| piece.is_part());
    }
    Ok(header)
}

/// The protocol's number in IPv4 of what can be translated (RFC 6146 §1.1: TCP, UDP and ICMP queries).
fn protocol(proto: u8) -> Result<u8, Verdict> {
    match proto {
        TCP | UDP => Ok(proto),
        icmpv6::PROTOCOL => Ok(ICMPV4),
        _ => Err(UNTRANSLATABLE),
    }
}

/// Translates a packet in place: it gets the tuple `into`, and becomes an IPv4 packet behind its Ethernet
/// header. `layout` says where its headers are, `l4_delta` what [`l4_delta`] said of its key, `ident` is
/// the identification that it gets if it may be fragmented and is no fragment.
///
/// # Errors
/// [`Verdict::TtlExceeded`] and [`Verdict::Untranslatable`] with the packet unchanged;
/// [`Verdict::NoRoom`] or [`Verdict::Internal`] if it could not be changed: it is good for dropping only.
#[inline]
pub fn translate<P: Packet>(
    packet: &mut P,
    layout: Layout,
    into: &FlowKey,
    l4_delta: u16,
    ident: u16,
    settings: Settings,
) -> Result<Outcome, Verdict> {
    let Layout { l3, l4, ip_len } = layout;
    let bytes = packet.bytes_mut();
    let header = read_header(bytes, l3, l4, l3 + ip_len)?;
    if header.hop_limit <= 1 {
        return Err(Verdict::TtlExceeded);
    }
    let proto = protocol(header.proto)?;
    let is_first = header.piece.is_none_or(|piece| piece.offset == 0);
    if proto == ICMPV4 {
        translate_query(bytes, &header, l4, l3 + ip_len, into.sport)?;
    } else if is_first {
        let transport = bytes.get_mut(l4..).ok_or(Verdict::Internal)?;
        super::translate_ports(transport, proto, (into.sport, into.dport), l4_delta)
            .ok_or(Verdict::Internal)?;
    }
    let total_len = (IPV4 + (l3 + ip_len).saturating_sub(l4)) as u16;
    if !super::replace_headers(packet, l3, l4, IPV4) {
        return Err(Verdict::NoRoom);
    }
    let fields = Fields {
        source: into.src,
        destination: into.dst,
        protocol: proto,
        tos: settings.tos.unwrap_or(header.traffic_class),
        total_len,
        ttl: header.hop_limit - 1,
        piece: header.piece,
        ident,
    };
    let bytes = packet.bytes_mut();
    super::set_ether_type(bytes, l3, ethernet::IPV4).ok_or(Verdict::Internal)?;
    fields.write(bytes, l3).ok_or(Verdict::Internal)?;
    let layout = Layout { l3, l4: l3 + IPV4, ip_len: total_len.into() };
    Ok(Outcome { layout, summed: false })
}

/// RFC 7915 §1.2: the checksum of a fragmented message cannot be brought up to date, since the pseudo
/// header that it loses has the length of the whole.
fn translate_query(
    bytes: &mut [u8],
    header: &Header,
    l4: usize,
    end: usize,
    ident: u16,
) -> Result<(), Verdict> {
    let icmp_type = *bytes.get(l4).ok_or(Verdict::Internal)?;
    if header.piece.is_some() || !super::is_echo6(icmp_type) {
        return Err(UNTRANSLATABLE);
    }
    let pseudo = pseudo_header(header, end.saturating_sub(l4));
    let message = bytes.get_mut(l4..).ok_or(Verdict::Internal)?;
    super::translate_echo(message, echo_type(icmp_type), ident, !pseudo).ok_or(Verdict::Internal)
}

fn pseudo_header(header: &Header, len: usize) -> u16 {
    checksum::pseudo_header_v6(header.source, header.destination, icmpv6::PROTOCOL, len as u32)
}

const fn echo_type(icmp_type: u8) -> u8 {
    if icmp_type == icmpv6::ECHO_REQUEST { icmpv4::ECHO_REQUEST } else { icmpv4::ECHO_REPLY }
}

/// An IPv4 header, to be written.
struct Fields {
    source: u32,
    destination: u32,
    protocol: u8,
    tos: u8,
    total_len: u16,
    ttl: u8,
    piece: Option<Piece>,
    ident: u16,
}

impl Fields {
    /// §5.1 and §5.1.1: fragments keep the low half of their identification and may be fragmented further;
    /// so may small packets, whose sender would not be told. Others are of a sender that finds the path's
    /// MTU.
    fn write(&self, bytes: &mut [u8], at: usize) -> Option<()> {
        let (ident, fragment) = match self.piece {
            Some(piece) => {
                let more = if piece.more { ipv4::MORE_FRAGMENTS } else { 0 };
                (piece.ident as u16, piece.offset >> 3 | more)
            }
            None if usize::from(self.total_len) <= MAY_BE_FRAGMENTED_MAX => (self.ident, 0),
            None => (0, ipv4::DONT_FRAGMENT),
        };
        let mut ip = Ipv4::at_mut(bytes, at)?;
        ip.set_version_ihl(0x45);
        ip.set_tos(self.tos);
        ip.set_total_len(self.total_len);
        ip.set_ident(ident);
        ip.set_fragment(fragment);
        ip.set_ttl(self.ttl);
        ip.set_protocol(self.protocol);
        ip.set_checksum(0);
        ip.set_source(self.source);
        ip.set_destination(self.destination);
        let sum = checksum::sum_20(ip.as_bytes());
        ip.set_checksum(!sum);
        Some(())
    }
}

/// Translates an ICMPv6 error in place, from `source` to `destination`: the packet that it quotes gets the
/// tuple `quoted`. Returns where the headers stand then.
///
/// The checksum is to have been verified, and the message to be wholly in the first segment; the checksum is
/// changed by the difference.
///
/// # Errors
/// As [`translate`].
pub fn translate_error<P: Packet>(
    packet: &mut P,
    layout: ErrorLayout,
    (source, destination): (u32, u32),
    quoted: &FlowKey,
    mtus: Mtus,
    settings: Settings,
) -> Result<ErrorLayout, Verdict> {
    let ErrorLayout { outer: Layout { l3, l4, ip_len }, inner_l3, inner_l4 } = layout;
    let end = l3 + ip_len;
    if !layout.is_sound(IPV6) {
        return Err(Verdict::Internal);
    }
    let bytes = packet.bytes();
    let outer = read_header(bytes, l3, l4, end)?;
    let inner = read_header(bytes, inner_l3, inner_l4, end)?;
    if outer.hop_limit <= 1 {
        return Err(Verdict::TtlExceeded);
    }
    let proto = protocol(inner.proto)?;
    let said = read_error(bytes, l4).ok_or(Verdict::BadIcmp)?;
    let told = icmp::error_to_v4(said, mtus).ok_or(UNTRANSLATABLE)?;
    let quote = extended(bytes, said, l4, inner_l4, end);
    let inner_len = Ipv6::at(bytes, inner_l3).ok_or(Verdict::BadIcmp)?.payload_len();
    let inner_len = usize::from(inner_len).saturating_sub(inner_l4 - inner_l3 - IPV6);
    let old = super::changed_sum(bytes, l4, inner_l4, end).ok_or(Verdict::Internal)?;
    let old = checksum::add(old, pseudo_header(&outer, end - l4));

    let bytes = packet.bytes_mut();
    translate_quoted(
        bytes.get_mut(inner_l4..end).ok_or(Verdict::BadIcmp)?,
        &inner,
        proto,
        quoted,
        inner_len,
    )
    .ok_or(Verdict::BadIcmp)?;
    super::pad_quote(bytes, inner_l4, quote).ok_or(Verdict::Internal)?;
    let kept = inner_l4 - quote.padding;
    if !super::replace_headers(packet, l3, kept, IPV4 + ICMP_HEADER + IPV4) {
        return Err(Verdict::NoRoom);
    }
    let (new_l4, new_inner) = (l3 + IPV4, l3 + IPV4 + ICMP_HEADER);
    let total_len = new_inner + IPV4 - l3 + (end - kept);
    let headers = [
        Fields {
            source,
            destination,
            protocol: ICMPV4,
            tos: settings.tos.unwrap_or(outer.traffic_class),
            total_len: total_len as u16,
            ttl: outer.hop_limit - 1,
            piece: None,
            ident: 0,
        },
        // §5.3: the quoted packet is translated as any, but its hop limit stays.
        Fields {
            source: quoted.src,
            destination: quoted.dst,
            protocol: proto,
            tos: settings.tos.unwrap_or(inner.traffic_class),
            total_len: (IPV4 + inner_len) as u16,
            ttl: inner.hop_limit,
            piece: inner.piece,
            ident: 0,
        },
    ];
    let bytes = packet.bytes_mut();
    write_error(bytes, l3, &headers, told, quote, old, l3 + total_len).ok_or(Verdict::Internal)?;
    let outer = Layout { l3, l4: new_l4, ip_len: total_len };
    Ok(ErrorLayout { outer, inner_l3: new_inner, inner_l4: new_inner + IPV4 })
}

/// Writes both headers and the error between them. `old` is the sum of what they replace.
fn write_error(
    bytes: &mut [u8],
    l3: usize,
    headers: &[Fields; 2],
    told: Said,
    quote: Quote,
    old: u16,
    end: usize,
) -> Option<()> {
    let l4 = l3 + IPV4;
    let inner_l3 = l4 + ICMP_HEADER;
    super::set_ether_type(bytes, l3, ethernet::IPV4)?;
    headers[0].write(bytes, l3)?;
    headers[1].write(bytes, inner_l3)?;
    let mut message = wire::Icmpv4::at_mut(bytes, l4)?;
    message.set_icmp_type(told.icmp_type);
    message.set_code(told.code);
    message.set_checksum(0);
    // RFC 4884 §4.1: the length in words, in the second byte.
    message.set_rest(told.rest | ((quote.told / 4) as u32) << 16);
    let new = super::changed_sum(bytes, l4, inner_l3 + IPV4, end)?;
    let sum = super::replaced_checksum(old, new);
    wire::Icmpv4::at_mut(bytes, l4)?.set_checksum(sum);
    Some(())
}

fn read_error(bytes: &[u8], at: usize) -> Option<Said> {
    let message = wire::Icmpv6::at(bytes, at)?;
    let (icmp_type, code) = (message.icmp_type(), message.code());
    Some(Said { icmp_type, code, rest: message.rest() })
}

/// Whether extensions follow the quote, and where it ends then (RFC 4884 §4.3, §4.4: destination
/// unreachable and time exceeded tell its length in 8 bytes). In IPv4 it has 128 bytes at least.
fn extended(bytes: &[u8], said: Said, l4: usize, inner_l4: usize, end: usize) -> Quote {
    const QUOTE_MIN: usize = 128;
    let whole = Quote { end, padding: 0, told: 0 };
    let units = (said.rest >> 24) as usize;
    if units == 0 || !matches!(said.icmp_type, icmpv6::UNREACHABLE | icmpv6::TIME_EXCEEDED) {
        return whole;
    }
    let begin = l4 + ICMP_HEADER;
    let quote_end = begin + units * 8;
    // 20 bytes of the transport may be changed; a quote that ends before has no extension of sense.
    if quote_end >= end.min(bytes.len()) || quote_end < inner_l4 + 20 {
        return whole;
    }
    let left = IPV4 + (quote_end - inner_l4);
    let padding = QUOTE_MIN.saturating_sub(left);
    Quote { end: quote_end, padding, told: left + padding }
}

/// The transport header of the quoted packet, as much as there is of it. `len` is that of transport
/// header and data as the quoted header says.
fn translate_quoted(
    bytes: &mut [u8],
    header: &Header,
    proto: u8,
    into: &FlowKey,
    len: usize,
) -> Option<()> {
    if proto == ICMPV4 {
        let icmp_type = *bytes.first().filter(|icmp_type| super::is_echo6(**icmp_type))?;
        let pseudo = pseudo_header(header, len);
        return super::translate_echo(bytes, echo_type(icmp_type), into.sport, !pseudo);
    }
    let l4_ports = (into.sport, into.dport);
    let addresses = addresses_delta((header.source, header.destination), (into.src, into.dst));
    let delta = checksum::add(addresses, super::ports_delta(bytes, l4_ports)?);
    super::translate_ports(bytes, proto, l4_ports, delta)
}
