//! From etherparse's slices to [`Decoded`](super::Decoded).

use etherparse::checksum::Sum16BitWords;
use etherparse::{
    ArpEthIpv4Packet, IpNumber, Ipv4HeaderSlice, TcpOptionElement, TcpOptionsIterator, TcpSlice,
    TransportSlice, UdpSlice,
};
use types::{FlowKey, MacAddr, Proto};

use super::{Arp, Icmp, Ipv4, L4, Quoted, Tcp, Udp};

pub(super) fn arp(packet: &ArpEthIpv4Packet) -> Arp {
    Arp {
        operation: packet.operation.0,
        sender_mac: MacAddr(packet.sender_mac),
        sender_ip: u32::from_be_bytes(packet.sender_ipv4),
        target_mac: MacAddr(packet.target_mac),
        target_ip: u32::from_be_bytes(packet.target_ipv4),
    }
}

pub(super) fn ipv4(
    header: &Ipv4HeaderSlice<'_>,
    body: &[u8],
    transport: Option<&TransportSlice<'_>>,
) -> Ipv4 {
    let sum_ok = transport_sum_ok(header, body);
    let (l4, payload) = match transport {
        Some(TransportSlice::Tcp(slice)) => (L4::Tcp(tcp(slice, sum_ok)), slice.payload()),
        Some(TransportSlice::Udp(slice)) => (L4::Udp(udp(slice, sum_ok)), slice.payload()),
        Some(TransportSlice::Icmpv4(_)) => (L4::Icmp(icmp(body)), &body[8..]),
        _ => (L4::Other, body),
    };
    Ipv4 {
        src: u32::from_be_bytes(header.source()),
        dst: u32::from_be_bytes(header.destination()),
        protocol: header.protocol().0,
        ttl: header.ttl(),
        tos: header.dcp().value() << 2 | header.ecn().value(),
        ident: header.identification(),
        df: header.dont_fragment(),
        total_len: header.total_len(),
        options: header.options().to_vec(),
        checksum_ok: header_sum_ok(header),
        l4,
        payload: payload.to_vec(),
    }
}

/// The sum over the bytes as they are is right: etherparse's own is over the fields that it knows.
fn header_sum_ok(header: &Ipv4HeaderSlice<'_>) -> bool {
    Sum16BitWords::new().add_slice(header.slice()).ones_complement() == 0
}

/// The sum over pseudo header, header and data is right.
fn transport_sum_ok(header: &Ipv4HeaderSlice<'_>, body: &[u8]) -> bool {
    let sum = Sum16BitWords::new()
        .add_4bytes(header.source())
        .add_4bytes(header.destination())
        .add_2bytes([0, header.protocol().0])
        .add_2bytes((body.len() as u16).to_be_bytes())
        .add_slice(body);
    sum.ones_complement() == 0
}

pub(super) fn tcp(tcp: &TcpSlice<'_>, checksum_ok: bool) -> Tcp {
    let bits =
        [tcp.fin(), tcp.syn(), tcp.rst(), tcp.psh(), tcp.ack(), tcp.urg(), tcp.ece(), tcp.cwr()];
    let flags = bits.iter().rev().fold(0, |flags, bit| flags << 1 | u8::from(*bit));
    let mut decoded = Tcp {
        sport: tcp.source_port(),
        dport: tcp.destination_port(),
        seq: tcp.sequence_number(),
        ack: tcp.acknowledgment_number(),
        flags,
        window: tcp.window_size(),
        urgent: tcp.urgent_pointer(),
        mss: None,
        window_scale: None,
        sack_permitted: false,
        timestamps: None,
        sack: Vec::new(),
        toa: find_toa(tcp.options()),
        options: tcp.options().to_vec(),
        checksum_ok,
    };
    // etherparse ends at an option that it does not know, as 254 is; what it knows stands before.
    for element in known_options(tcp.options()) {
        match element {
            TcpOptionElement::MaximumSegmentSize(mss) => decoded.mss = Some(mss),
            TcpOptionElement::WindowScale(shift) => decoded.window_scale = Some(shift),
            TcpOptionElement::SelectiveAcknowledgementPermitted => decoded.sack_permitted = true,
            TcpOptionElement::SelectiveAcknowledgement(first, rest) => {
                decoded.sack = std::iter::once(first).chain(rest.into_iter().flatten()).collect();
            }
            TcpOptionElement::Timestamp(value, echo) => decoded.timestamps = Some((value, echo)),
            TcpOptionElement::Noop => {}
        }
    }
    decoded
}

/// The options that etherparse knows, those it does not left out.
fn known_options(options: &[u8]) -> Vec<TcpOptionElement> {
    let mut found = Vec::new();
    let mut rest = options;
    while let [kind, ..] = rest {
        let len = match (kind, rest.get(1)) {
            (0, _) => break,
            (1, _) => 1,
            (_, Some(len)) if *len >= 2 => usize::from(*len),
            _ => break,
        };
        let Some((option, after)) = rest.split_at_checked(len) else { break };
        found.extend(TcpOptionsIterator::from_slice(option).flatten());
        rest = after;
    }
    found
}

fn find_toa(options: &[u8]) -> Option<(u32, u16)> {
    let mut rest = options;
    while let [kind, after @ ..] = rest {
        rest = match (kind, after) {
            (0, _) => return None,
            (1, _) => after,
            (254, [8, a, b, c, d, e, f, ..]) => {
                return Some((u32::from_be_bytes([*c, *d, *e, *f]), u16::from_be_bytes([*a, *b])));
            }
            (_, [len, ..]) if *len >= 2 => rest.get(usize::from(*len)..)?,
            _ => return None,
        };
    }
    None
}

pub(super) fn udp(udp: &UdpSlice<'_>, sum_ok: bool) -> Udp {
    Udp {
        sport: udp.source_port(),
        dport: udp.destination_port(),
        len: udp.length(),
        checksum: udp.checksum(),
        checksum_ok: udp.checksum() == 0 || sum_ok,
    }
}

fn icmp(message: &[u8]) -> Icmp {
    let icmp_type = message[0];
    Icmp {
        icmp_type,
        code: message[1],
        rest: u32::from_be_bytes([message[4], message[5], message[6], message[7]]),
        checksum_ok: Sum16BitWords::new().add_slice(message).ones_complement() == 0,
        quoted: if matches!(icmp_type, 3 | 4 | 5 | 11 | 12) { quoted(&message[8..]) } else { None },
    }
}

fn quoted(packet: &[u8]) -> Option<Quoted> {
    let header = Ipv4HeaderSlice::from_slice(packet).ok()?;
    let whole_len = usize::from(header.total_len());
    let l4 = packet.get(header.slice().len()..packet.len().min(whole_len))?;
    let [a, b, c, d, e, f, g, h, ..] = *l4 else { return None };
    let (first, second) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    let proto = Proto::from_number(header.protocol().0);
    let ident = u16::from_be_bytes([e, f]);
    let (sport, dport) = match proto {
        Some(Proto::Icmp) => (ident, ident),
        Some(Proto::Tcp | Proto::Udp) => (first, second),
        None => (0, 0),
    };
    let udp_without = header.protocol() == IpNumber::UDP && (g, h) == (0, 0);
    let l4_checksum_ok = (packet.len() >= whole_len && !udp_without).then(|| match proto {
        Some(Proto::Icmp) => Sum16BitWords::new().add_slice(l4).ones_complement() == 0,
        _ => transport_sum_ok(&header, l4),
    });
    Some(Quoted {
        key: FlowKey {
            src: u32::from_be_bytes(header.source()),
            dst: u32::from_be_bytes(header.destination()),
            sport,
            dport,
            zone: 0,
            proto: header.protocol().0,
        },
        ttl: header.ttl(),
        total_len: header.total_len(),
        ip_checksum_ok: header_sum_ok(&header),
        seq: u32::from_be_bytes([e, f, g, h]),
        l4: l4.to_vec(),
        l4_checksum_ok,
    })
}
