//! IPv6, from etherparse's slices.

use etherparse::checksum::Sum16BitWords;
use etherparse::{
    Icmpv6Slice, Ipv6ExtensionSlice, Ipv6HeaderSlice, Ipv6Slice, LaxIpv6Slice, TcpSlice,
    TransportSlice, UdpSlice,
};
use types::FlowKey6;

use super::{L4, read};

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// An IPv6 packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ipv6 {
    /// Source.
    pub src: u128,
    /// Destination.
    pub dst: u128,
    /// Number of the header behind all extension headers.
    pub protocol: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Flow label.
    pub flow_label: u32,
    /// Length in bytes of what follows the fixed header, as that says.
    pub payload_len: u16,
    /// How many extension headers there are.
    pub extensions: usize,
    /// Fragment header: identification, offset in bytes, whether more follow.
    pub fragment: Option<(u32, u16, bool)>,
    /// What IPv6 carries.
    pub l4: L4,
    /// What the innermost header carries.
    pub payload: Vec<u8>,
}

/// An ICMPv6 header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Icmp6 {
    /// Type.
    pub icmp_type: u8,
    /// Code.
    pub code: u8,
    /// The four bytes behind the checksum.
    pub rest: u32,
    /// The checksum is right.
    pub checksum_ok: bool,
    /// Errors only: the quoted packet.
    pub quoted: Option<Quoted6>,
}

impl Icmp6 {
    /// Identifier of an echo.
    pub fn ident(&self) -> u16 {
        (self.rest >> 16) as u16
    }

    /// Sequence number of an echo.
    pub fn seq(&self) -> u16 {
        self.rest as u16
    }
}

/// The packet that an ICMPv6 error quotes, as far as it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quoted6 {
    /// The tuple of the quoted packet, as it was sent; ports are both the identifier for ICMPv6 echo.
    pub key: FlowKey6,
    /// Hop limit.
    pub hop_limit: u8,
    /// Payload length in bytes as the quoted header says.
    pub payload_len: u16,
    /// Fragment header: identification, offset in bytes, whether more follow.
    pub fragment: Option<(u32, u16, bool)>,
    /// The quoted transport header and data, as much as there is.
    pub l4: Vec<u8>,
    /// Whether the quoted transport checksum is right; `None` if the quote is cut, or is of a fragment.
    pub l4_checksum_ok: Option<bool>,
}

impl Ipv6 {
    /// The packet's own tuple, zone 0; both ports are the identifier for ICMPv6 echo.
    pub fn key(&self) -> FlowKey6 {
        let (sport, dport) = match &self.l4 {
            L4::Tcp(tcp) => (tcp.sport, tcp.dport),
            L4::Udp(udp) => (udp.sport, udp.dport),
            L4::Icmp6(icmp) if matches!(icmp.icmp_type, 128 | 129) => (icmp.ident(), icmp.ident()),
            L4::Icmp6(_) | L4::Icmp(_) | L4::Other => (0, 0),
        };
        FlowKey6 { src: self.src, dst: self.dst, sport, dport, zone: 0, proto: self.protocol }
    }
}

pub(super) fn read(ip: &Ipv6Slice<'_>, transport: Option<&TransportSlice<'_>>) -> Ipv6 {
    let header = ip.header();
    let protocol = ip.payload().ip_number.0;
    let body = ip.payload().payload;
    let sum_ok = transport_sum_ok(&header, protocol, body);
    let (extensions, fragment) = extensions(ip.extensions().clone().into_iter());
    let is_part = fragment.is_some_and(|(_, offset, more)| more || offset != 0);
    // Etherparse takes reserved bits of a fragment header for an offset, and then reads no transport.
    let behind = fragment.and_then(|_| transport_behind(protocol, body));
    let (l4, payload) = match transport.or(behind.as_ref()).filter(|_| !is_part) {
        Some(TransportSlice::Tcp(slice)) => (L4::Tcp(read::tcp(slice, sum_ok)), slice.payload()),
        Some(TransportSlice::Udp(slice)) => {
            // RFC 8200 §8.1: none is wrong here.
            let mut udp = read::udp(slice, sum_ok);
            udp.checksum_ok = sum_ok && slice.checksum() != 0;
            (L4::Udp(udp), slice.payload())
        }
        Some(TransportSlice::Icmpv6(_)) => (L4::Icmp6(icmp(body, sum_ok)), &body[8..]),
        _ => (L4::Other, body),
    };
    Ipv6 {
        src: header.source_addr().into(),
        dst: header.destination_addr().into(),
        protocol,
        hop_limit: header.hop_limit(),
        traffic_class: header.traffic_class(),
        flow_label: header.flow_label().value(),
        payload_len: header.payload_length(),
        extensions,
        fragment,
        l4,
        payload: payload.to_vec(),
    }
}

fn transport_behind(protocol: u8, body: &[u8]) -> Option<TransportSlice<'_>> {
    match protocol {
        TCP => TcpSlice::from_slice(body).ok().map(TransportSlice::Tcp),
        UDP => UdpSlice::from_slice(body).ok().map(TransportSlice::Udp),
        ICMPV6 => Icmpv6Slice::from_slice(body).ok().map(TransportSlice::Icmpv6),
        _ => None,
    }
}

fn extensions<'a>(
    each: impl Iterator<Item = Ipv6ExtensionSlice<'a>>,
) -> (usize, Option<(u32, u16, bool)>) {
    let (mut count, mut fragment) = (0, None);
    for extension in each {
        count += 1;
        if let Ipv6ExtensionSlice::Fragment(header) = extension {
            // By RFC 8200 §4.5 and not by etherparse, which has the bits elsewhere (its issue 150).
            let bytes = header.slice();
            let field = u16::from_be_bytes([bytes[2], bytes[3]]);
            fragment = Some((header.identification(), field & !7, field & 1 != 0));
        }
    }
    (count, fragment)
}

/// The sum over pseudo header, header and data is right.
fn transport_sum_ok(header: &Ipv6HeaderSlice<'_>, protocol: u8, body: &[u8]) -> bool {
    let sum = Sum16BitWords::new()
        .add_16bytes(header.source())
        .add_16bytes(header.destination())
        .add_4bytes((body.len() as u32).to_be_bytes())
        .add_2bytes([0, protocol])
        .add_slice(body);
    sum.ones_complement() == 0
}

fn icmp(message: &[u8], checksum_ok: bool) -> Icmp6 {
    let icmp_type = message[0];
    Icmp6 {
        icmp_type,
        code: message[1],
        rest: u32::from_be_bytes([message[4], message[5], message[6], message[7]]),
        checksum_ok,
        quoted: if matches!(icmp_type, 1..=4) { quoted(&message[8..]) } else { None },
    }
}

fn quoted(packet: &[u8]) -> Option<Quoted6> {
    let header = Ipv6HeaderSlice::from_slice(packet.get(..40)?).ok()?;
    let (lax, _) = LaxIpv6Slice::from_slice(packet).ok()?;
    let payload = lax.payload();
    let (_, fragment) = extensions(lax.extensions().clone().into_iter());
    let protocol = payload.ip_number.0;
    let l4 = payload.payload;
    let [a, b, c, d, e, f, ..] = *l4 else { return None };
    let ident = u16::from_be_bytes([e, f]);
    let (sport, dport) = match protocol {
        ICMPV6 => (ident, ident),
        TCP | UDP => (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])),
        _ => (0, 0),
    };
    let is_part = fragment.is_some_and(|(_, offset, more)| more || offset != 0);
    let whole = packet.len() >= 40 + usize::from(header.payload_length()) && !is_part;
    Some(Quoted6 {
        key: FlowKey6 {
            src: header.source_addr().into(),
            dst: header.destination_addr().into(),
            sport,
            dport,
            zone: 0,
            proto: protocol,
        },
        hop_limit: header.hop_limit(),
        payload_len: header.payload_length(),
        fragment,
        l4: l4.to_vec(),
        l4_checksum_ok: whole.then(|| transport_sum_ok(&header, protocol, l4)),
    })
}
