//! From IPv4 to IPv6 (RFC 7915 §4).

use types::{FlowKey, FlowKey6, Packet, Verdict};
use wire::ipv6::{self, Repr};
use wire::{Ipv4, Piece, checksum, ethernet, icmpv4, icmpv6, tcp};

use super::icmp::{self, Said};
use super::{
    DIFFERENCE, ErrorLayout, FRAGMENT, ICMP_HEADER, ICMPV4, IPV4, IPV6, Mtus, Outcome, Quote,
    Settings, TCP, UDP, UNTRANSLATABLE,
};
use crate::options::{self, Edits};
use crate::rewrite::Layout;

/// What turning packets of key `from` into packets of key `into` does to the checksum of TCP and UDP: the
/// pseudo headers differ by the addresses only.
pub fn l4_delta(from: &FlowKey, into: &FlowKey6) -> u16 {
    let l4_ports = checksum::add(
        checksum::delta_u16(from.sport, into.sport),
        checksum::delta_u16(from.dport, into.dport),
    );
    checksum::add(addresses_delta((from.src, from.dst), (into.src, into.dst)), l4_ports)
}

fn addresses_delta(old: (u32, u32), new: (u128, u128)) -> u16 {
    let came = checksum::add(checksum::sum_u128(new.0), checksum::sum_u128(new.1));
    checksum::add(!checksum::pseudo_header(old.0, old.1, 0, 0), came)
}

/// The fields of an IPv4 header that a translation needs. Options are passed over (§4.1).
struct Header {
    source: u32,
    destination: u32,
    tos: u8,
    ttl: u8,
    proto: u8,
    total_len: u16,
    header_len: usize,
    piece: Piece,
}

impl Header {
    /// What fragment it is of its packet, if it is not the whole.
    fn part(&self) -> Option<Piece> {
        Some(self.piece).filter(|piece| piece.is_part())
    }
}

fn read_header(bytes: &[u8], l3: usize) -> Result<Header, Verdict> {
    let ip = Ipv4::at(bytes, l3).ok_or(Verdict::Internal)?;
    Ok(Header {
        source: ip.source(),
        destination: ip.destination(),
        tos: ip.tos(),
        ttl: ip.ttl(),
        proto: ip.protocol(),
        total_len: ip.total_len(),
        header_len: ip.header_len(),
        piece: Piece::of_ipv4(ip),
    })
}

/// The protocol's number in IPv6 of what can be translated.
fn protocol(proto: u8) -> Result<u8, Verdict> {
    match proto {
        TCP | UDP => Ok(proto),
        ICMPV4 => Ok(icmpv6::PROTOCOL),
        _ => Err(UNTRANSLATABLE),
    }
}

/// Translates a packet in place: it gets the tuple `into`, and becomes an IPv6 packet behind its Ethernet
/// header. `layout` says where its headers are, `l4_delta` what [`l4_delta`] said of its key. The MSS that a
/// SYN asks for is lowered by what the header grows.
///
/// §4: what gets longer than the way out takes, and may be fragmented, is given a fragment header by
/// `settings`; whoever sends it cuts it.
///
/// # Errors
/// [`Verdict::TtlExceeded`] and [`Verdict::Untranslatable`] with the packet unchanged;
/// [`Verdict::NoRoom`] or [`Verdict::Internal`] if it could not be changed: it is good for dropping only.
#[inline]
pub fn translate<P: Packet>(
    packet: &mut P,
    layout: Layout,
    into: &FlowKey6,
    l4_delta: u16,
    settings: Settings,
) -> Result<Outcome, Verdict> {
    let Layout { l3, l4, ip_len } = layout;
    let bytes = packet.bytes_mut();
    let header = read_header(bytes, l3)?;
    if header.ttl <= 1 {
        return Err(Verdict::TtlExceeded);
    }
    let proto = protocol(header.proto)?;
    let is_first = header.piece.offset == 0;
    let end = l3 + ip_len;
    let payload_len = end.saturating_sub(l4);
    let mut summed = false;
    if proto == icmpv6::PROTOCOL {
        translate_query(bytes, &header, l4, payload_len, into)?;
    } else if is_first {
        summed = proto == UDP && has_no_checksum(bytes, l4);
        // §4.5: of a fragmented datagram nobody here has seen all.
        if summed && header.part().is_some() {
            return Err(UNTRANSLATABLE);
        }
        let transport = bytes.get_mut(l4..).ok_or(Verdict::Internal)?;
        super::translate_ports(transport, proto, (into.sport, into.dport), l4_delta)
            .ok_or(Verdict::Internal)?;
        if proto == TCP {
            lower_mss(bytes, l4);
        }
    }
    let piece = header.part().or(settings.fragment_header.then_some(header.piece));
    if !super::replace_headers(packet, l3, l4, new_len(piece)) {
        return Err(Verdict::NoRoom);
    }
    let fields = Fields {
        ip: Repr {
            traffic_class: settings.tos.unwrap_or(header.tos),
            hop_limit: header.ttl - 1,
            ..Repr::new(into.src, into.dst, proto, payload_len as u16)
        },
        piece,
    };
    let bytes = packet.bytes_mut();
    super::set_ether_type(bytes, l3, ethernet::IPV6).ok_or(Verdict::Internal)?;
    let new_l4 = fields.write(bytes, l3).ok_or(Verdict::Internal)?;
    if summed {
        sum_datagram(packet, new_l4, payload_len, into).ok_or(Verdict::Internal)?;
    }
    let layout = Layout { l3, l4: new_l4, ip_len: new_l4 - l3 + payload_len };
    Ok(Outcome { layout, summed })
}

/// §4.1: a fragment header for what is a fragment or becomes several, and for nothing else.
fn new_len(piece: Option<Piece>) -> usize {
    IPV6 + piece.map_or(0, |_| FRAGMENT)
}

/// RFC 7915 §1.2: the checksum of a fragmented message cannot be brought up to date, since the pseudo
/// header that it gets has the length of the whole.
fn translate_query(
    bytes: &mut [u8],
    header: &Header,
    l4: usize,
    len: usize,
    into: &FlowKey6,
) -> Result<(), Verdict> {
    let icmp_type = *bytes.get(l4).ok_or(Verdict::Internal)?;
    if header.part().is_some() {
        return Err(UNTRANSLATABLE);
    }
    let icmp_type = echo_type(icmp_type).ok_or(UNTRANSLATABLE)?;
    let pseudo = pseudo_header(into.src, into.dst, len);
    let message = bytes.get_mut(l4..).ok_or(Verdict::Internal)?;
    super::translate_echo(message, icmp_type, into.sport, pseudo).ok_or(Verdict::Internal)
}

fn pseudo_header(source: u128, destination: u128, len: usize) -> u16 {
    checksum::pseudo_header_v6(source, destination, icmpv6::PROTOCOL, len as u32)
}

const fn echo_type(icmp_type: u8) -> Option<u8> {
    match icmp_type {
        icmpv4::ECHO_REQUEST => Some(icmpv6::ECHO_REQUEST),
        icmpv4::ECHO_REPLY => Some(icmpv6::ECHO_REPLY),
        _ => None,
    }
}

fn has_no_checksum(bytes: &[u8], l4: usize) -> bool {
    wire::Udp::at(bytes, l4).is_some_and(|header| header.checksum() == 0)
}

/// §4.5: IPv6 has no UDP without a checksum. This is the one case in which all of the data are read.
#[cold]
fn sum_datagram<P: Packet>(
    packet: &mut P,
    l4: usize,
    payload_len: usize,
    into: &FlowKey6,
) -> Option<()> {
    let parsed = wire::Parsed6 {
        key: *into,
        kind: wire::Kind::Udp,
        l3: (l4 - IPV6) as u16,
        l4: l4 as u16,
        ip_total_len: (IPV6 + payload_len) as u16,
        ..wire::Parsed6::default()
    };
    wire::finish_l4_checksum6(packet, &parsed);
    wire::Udp::at(packet.bytes(), l4).filter(|header| header.checksum() != 0).map(|_| ())
}

/// The MSS of an IPv4 host counts on 40 bytes of headers; the segments of its peer have 60 (RFC 7915 says
/// nothing of it; path MTU discovery would find it out later, and not everywhere).
fn lower_mss(bytes: &mut [u8], l4: usize) {
    let Some(header) = wire::Tcp::at(bytes, l4) else { return };
    if header.flags() & tcp::SYN == 0 {
        return;
    }
    let (at, end) = (l4 + tcp::LEN, l4 + header.header_len());
    let Some(tcp_options) = bytes.get_mut(at..end) else { return };
    let edits = Edits { mss_less: DIFFERENCE, ..Edits::default() };
    let delta = options::edit(tcp_options, &edits).fold();
    if let Some(mut header) = wire::Tcp::at_mut(bytes, l4) {
        header.adjust_checksum(delta);
    }
}

/// An IPv6 header, with a fragment header if there is a piece, to be written. The length is that of what
/// follows both.
struct Fields {
    ip: Repr,
    piece: Option<Piece>,
}

impl Fields {
    /// Returns where the transport begins.
    fn write(&self, bytes: &mut [u8], at: usize) -> Option<usize> {
        let Some(piece) = self.piece else {
            self.ip.write(bytes, at)?;
            return Some(at + IPV6);
        };
        // §4.1: the identification is the same, with zeros before it.
        let ip = Repr {
            next_header: wire::extension::FRAGMENT,
            payload_len: self.ip.payload_len.checked_add(FRAGMENT as u16)?,
            ..self.ip
        };
        ip.write(bytes, at)?;
        piece.write(bytes, at + IPV6, self.ip.next_header)?;
        Some(at + IPV6 + FRAGMENT)
    }
}

/// Translates an ICMP error in place, from `source` to `destination`: the packet that it quotes gets the
/// tuple `quoted`. Returns where the headers stand then.
///
/// The checksum is to have been verified, and the message to be wholly in the first segment; the checksum is
/// changed by the difference. What gets longer than 1280 bytes is cut (RFC 4443 §2.4 c).
///
/// # Errors
/// As [`translate`].
pub fn translate_error<P: Packet>(
    packet: &mut P,
    layout: ErrorLayout,
    (source, destination): (u128, u128),
    quoted: &FlowKey6,
    mtus: Mtus,
    settings: Settings,
) -> Result<ErrorLayout, Verdict> {
    let ErrorLayout { outer: Layout { l3, l4, ip_len }, inner_l3, inner_l4 } = layout;
    let end = l3 + ip_len;
    if !layout.is_sound(IPV4) {
        return Err(Verdict::Internal);
    }
    let bytes = packet.bytes();
    let outer = read_header(bytes, l3)?;
    let inner = read_header(bytes, inner_l3)?;
    if outer.ttl <= 1 {
        return Err(Verdict::TtlExceeded);
    }
    let proto = protocol(inner.proto)?;
    let said = read_error(bytes, l4).ok_or(Verdict::BadIcmp)?;
    let told = icmp::error_to_v6(said, inner.total_len, mtus).ok_or(UNTRANSLATABLE)?;
    let quote = extended(bytes, said, l4, inner_l4, new_len(inner.part()), end);
    let inner_len = usize::from(inner.total_len).saturating_sub(inner.header_len);
    let old = super::changed_sum(bytes, l4, inner_l4, end).ok_or(Verdict::Internal)?;

    let bytes = packet.bytes_mut();
    translate_quoted(
        bytes.get_mut(inner_l4..end).ok_or(Verdict::BadIcmp)?,
        &inner,
        quoted,
        inner_len,
    )
    .ok_or(Verdict::BadIcmp)?;
    super::pad_quote(bytes, inner_l4, quote).ok_or(Verdict::Internal)?;
    let kept = inner_l4 - quote.padding;
    let headers = IPV6 + ICMP_HEADER + new_len(inner.part());
    if !super::replace_headers(packet, l3, kept, headers) {
        return Err(Verdict::NoRoom);
    }
    let (cut, total_len) = cut_off(packet, l3, headers + (end - kept));
    let fields = [
        Fields {
            ip: Repr {
                traffic_class: settings.tos.unwrap_or(outer.tos),
                hop_limit: outer.ttl - 1,
                ..Repr::new(source, destination, icmpv6::PROTOCOL, (total_len - IPV6) as u16)
            },
            piece: None,
        },
        // §4.3: the quoted packet is translated as any, but its time to live stays.
        Fields {
            ip: Repr {
                traffic_class: settings.tos.unwrap_or(inner.tos),
                hop_limit: inner.ttl,
                ..Repr::new(quoted.src, quoted.dst, proto, inner_len as u16)
            },
            piece: inner.part(),
        },
    ];
    let bytes = packet.bytes_mut();
    let old = checksum::add(old, cut);
    write_error(bytes, l3, &fields, told, quote, old, l3 + total_len).ok_or(Verdict::Internal)?;
    let outer = Layout { l3, l4: l3 + IPV6, ip_len: total_len };
    Ok(ErrorLayout { outer, inner_l3: l3 + IPV6 + ICMP_HEADER, inner_l4: l3 + headers })
}

/// Cuts an IPv6 packet of so many bytes to the smallest MTU. Returns the sum of what was cut, and the
/// length that is left.
fn cut_off<P: Packet>(packet: &mut P, l3: usize, len: usize) -> (u16, usize) {
    let most = usize::from(ipv6::MIN_MTU);
    if len <= most {
        return (0, len);
    }
    let cut = packet.bytes().get(l3 + most..l3 + len).map_or(0, checksum::sum);
    packet.truncate(l3 + most);
    (cut, most)
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
    super::set_ether_type(bytes, l3, ethernet::IPV6)?;
    let l4 = headers[0].write(bytes, l3)?;
    let inner_l4 = headers[1].write(bytes, l4 + ICMP_HEADER)?;
    let mut message = wire::Icmpv6::at_mut(bytes, l4)?;
    message.set_icmp_type(told.icmp_type);
    message.set_code(told.code);
    message.set_checksum(0);
    // RFC 4884 §4.3: the length in 8 bytes, in the first byte.
    message.set_rest(told.rest | ((quote.told / 8) as u32) << 24);
    let ip = &headers[0].ip;
    let pseudo = pseudo_header(ip.source, ip.destination, end - l4);
    let new = super::changed_sum(bytes, l4, inner_l4, end)?;
    let sum = super::replaced_checksum(old, checksum::add(new, pseudo));
    wire::Icmpv6::at_mut(bytes, l4)?.set_checksum(sum);
    Some(())
}

fn read_error(bytes: &[u8], at: usize) -> Option<Said> {
    let message = wire::Icmpv4::at(bytes, at)?;
    let (icmp_type, code) = (message.icmp_type(), message.code());
    Some(Said { icmp_type, code, rest: message.rest() })
}

/// Whether extensions follow the quote, and where it ends then (RFC 4884 §4.1, §4.2: in words). In IPv6 its
/// length is told in 8 bytes. `new_len` is that of the quoted header.
fn extended(
    bytes: &[u8],
    said: Said,
    l4: usize,
    inner_l4: usize,
    new_len: usize,
    end: usize,
) -> Quote {
    let whole = Quote { end, padding: 0, told: 0 };
    let words = (said.rest >> 16 & 0xff) as usize;
    // What ICMPv6 has no place for a length in loses its extensions' place (RFC 4884 §4.3, §4.4).
    let has_length = match said.icmp_type {
        icmpv4::UNREACHABLE => !matches!(said.code, 2 | icmpv4::FRAGMENTATION_NEEDED),
        icmp_type => icmp_type == icmpv4::TIME_EXCEEDED,
    };
    let quote_end = l4 + ICMP_HEADER + words * 4;
    if words == 0 || !has_length || quote_end >= end.min(bytes.len()) || quote_end < inner_l4 + 20 {
        return whole;
    }
    let left = new_len + (quote_end - inner_l4);
    let padding = left.next_multiple_of(8) - left;
    // What a length cannot tell is cut off anyway.
    let told = left + padding;
    let fits = IPV6 + ICMP_HEADER + told <= usize::from(ipv6::MIN_MTU);
    if fits { Quote { end: quote_end, padding, told } } else { whole }
}

/// The transport header of the quoted packet, as much as there is of it. `len` is that of transport
/// header and data as the quoted header says.
fn translate_quoted(bytes: &mut [u8], header: &Header, into: &FlowKey6, len: usize) -> Option<()> {
    if header.proto == ICMPV4 {
        let icmp_type = echo_type(*bytes.first()?)?;
        let pseudo = pseudo_header(into.src, into.dst, len);
        return super::translate_echo(bytes, icmp_type, into.sport, pseudo);
    }
    let l4_ports = (into.sport, into.dport);
    let addresses = addresses_delta((header.source, header.destination), (into.src, into.dst));
    let delta = checksum::add(addresses, super::ports_delta(bytes, l4_ports)?);
    super::translate_ports(bytes, header.proto, l4_ports, delta)
}
