//! Any bytes as a frame: what `wire::parse` says of it, and the replies that are made of it.

use nat::proxy::{self, Found, Place};
use testkit::decoded::{L4, Net};
use testkit::{Buf, Decoded};
use types::{MacAddr, Packet, Proto};
use wire::reply::{self, ErrorMessage};
use wire::{Kind, ParseError, Parsed, Piece, ipv4, tcp, tcp_options};

use crate::choices::Choices;

/// Where our errors come from.
const OURS: u32 = 0xc000_0201;
const OUR_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

/// A frame: headroom, length of the first segment and whether the IPv4 checksum is mended, a byte
/// each; then its bytes.
pub fn parse(input: &[u8]) {
    let mut choices = Choices::new(input);
    let (headroom, first_len, mended) = (choices.byte(), choices.byte(), choices.byte());
    let mut frame = choices.rest().to_vec();
    if mended & 1 != 0 {
        mend(&mut frame);
    }
    let buf = Buf::with_room(&frame, headroom.into(), 64);
    let whole = parsed(&frame, frame.len());
    if whole == Err(ParseError::Ipv6) {
        return crate::parse6::parse(&buf, first_len.into());
    }
    let mut pulled = buf.clone().segmented(first_len.into());
    assert_eq!(parse_pulling(&mut pulled), whole, "in segments");
    for len in 0..frame.len() {
        if let Ok(parsed) = parsed(&frame[..len], len) {
            within(&frame[..len], &parsed);
        }
    }
    let Ok(parsed) = whole else { return };
    within(&frame, &parsed);
    if is_fragment(&frame, &parsed) {
        // Etherparse does not look into one.
        return;
    }
    same_as_decoded(&frame, &parsed);
    options(&frame, &parsed);
    headers(&buf, &parsed);
    replies(&buf, &parsed);
    replies(&pulled, &parsed);
}

/// A header of the PROXY protocol is looked for, and taken out of a segment.
fn headers(buf: &Buf, parsed: &Parsed) {
    let payload = &buf.frame()[usize::from(parsed.payload)..parsed.ip_end()];
    let found = proxy::find(payload);
    if let Found::Whole(len) = found {
        assert!(len <= payload.len(), "{found:?}");
    }
    if parsed.kind == Kind::Tcp {
        let len = payload.len().min(37);
        let mut less = buf.clone();
        proxy::cut(&mut less, Place::from(parsed), Proto::Tcp, len).unwrap();
        let after = self::parsed(less.frame(), less.total_len()).unwrap();
        let left = &less.frame()[usize::from(after.payload)..after.ip_end()];
        assert_eq!((after.key, left), (parsed.key, &payload[len..]));
        proxy::hide(less.bytes_mut(), after.l4.into(), len as u32).unwrap();
        proxy::strip_fast_open(less.bytes_mut(), after.l4.into()).unwrap();
    }
}

/// Makes the IPv4 header checksum right, so that what is behind it is looked at.
pub(crate) fn mend(frame: &mut [u8]) {
    let l3 = if frame.get(12..14) == Some(&[0x81, 0]) { 18 } else { 14 };
    let Some(&version_ihl) = frame.get(l3) else { return };
    let len = usize::from(version_ihl & 15) * 4;
    let Some(header) = frame.get_mut(l3..l3 + len).filter(|header| header.len() >= 20) else {
        return;
    };
    header[10..12].fill(0);
    let sum = wire::checksum::checksum(header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

fn parsed(bytes: &[u8], total_len: usize) -> Result<Parsed, ParseError> {
    let mut parsed = Parsed::default();
    match wire::parse(bytes, total_len, &mut parsed) {
        // Whatever is known of a fragment is right, too.
        Ok(()) | Err(ParseError::Fragment) => Ok(parsed),
        Err(error) => Err(error),
    }
}

/// As the path does it. Each turn asks for more than there is, and never for more than the frame.
fn parse_pulling(packet: &mut Buf) -> Result<Parsed, ParseError> {
    loop {
        match parsed(packet.bytes(), packet.total_len()) {
            Err(ParseError::Pull(len)) => {
                assert!(usize::from(len) > packet.bytes().len(), "{len} bytes are there");
                assert!(packet.pull(len.into()), "there are no {len} bytes");
            }
            other => return other,
        }
    }
}

fn is_fragment(frame: &[u8], parsed: &Parsed) -> bool {
    let header = wire::Ipv4::at(frame, parsed.l3.into());
    parsed.kind != Kind::Arp && header.is_some_and(|header| Piece::of_ipv4(header).is_part())
}

/// Every offset is in the frame, and in order.
fn within(frame: &[u8], parsed: &Parsed) {
    let [l3, l4, payload] = [parsed.l3, parsed.l4, parsed.payload].map(usize::from);
    assert_eq!(l3, if frame[12..14] == [0x81, 0] { 18 } else { 14 });
    assert!(l3 <= l4 && l4 <= payload && payload <= frame.len(), "{parsed:?}");
    if parsed.kind == Kind::Arp {
        assert!(l3 + wire::arp::LEN <= frame.len());
        return;
    }
    let end = parsed.ip_end();
    assert!(l4 >= l3 + ipv4::LEN && payload <= end && end <= frame.len(), "{parsed:?}");
    assert_eq!(parsed.payload_len(), end - payload);
    let header = match parsed.kind {
        Kind::Tcp => tcp::LEN,
        Kind::Udp | Kind::IcmpQuery | Kind::IcmpReply | Kind::IcmpError => 8,
        Kind::OtherIp | Kind::Arp | Kind::Ndp | Kind::Fragment => 0,
    };
    assert!(payload - l4 >= header, "{parsed:?}");
    if parsed.kind == Kind::IcmpError {
        let [inner_l3, inner_l4] = [parsed.inner_l3, parsed.inner_l4].map(usize::from);
        assert!(inner_l3 == payload && inner_l4 >= inner_l3 + ipv4::LEN);
        assert!(inner_l4 + 8 <= end, "{parsed:?}");
    }
}

/// What etherparse can read it reads as we do.
fn same_as_decoded(frame: &[u8], parsed: &Parsed) {
    let Ok(decoded) = Decoded::of(frame) else { return };
    assert_eq!(decoded.vlan.unwrap_or(0), parsed.vlan);
    match &decoded.net {
        Net::Arp(arp) => {
            assert_eq!((arp.sender_ip, arp.target_ip), (parsed.key.src, parsed.key.dst));
        }
        Net::Ipv6(_) => panic!("not told to be IPv6: {decoded}"),
        Net::Ipv4(ip) => {
            assert!(ip.checksum_ok, "{decoded}");
            assert_eq!((ip.ttl, ip.tos, ip.df), (parsed.ttl, parsed.tos, parsed.dont_fragment));
            // Etherparse looks behind extension headers, which have no ports for us.
            if parsed.kind != Kind::OtherIp {
                assert_eq!(ip.key(), parsed.key, "{decoded}");
            }
            if parsed.key.proto == Proto::Icmp.number() && parsed.kind != Kind::OtherIp {
                let verified = wire::verify_icmp(frame, parsed).is_ok();
                // Of an error the quoted header, too (RFC 5508 REQ-3 a).
                let quoted = match &ip.l4 {
                    L4::Icmp(icmp) if parsed.kind == Kind::IcmpError => icmp.quoted.as_ref(),
                    _ => None,
                };
                match quoted {
                    Some(quoted) => {
                        let right = ip.l4_checksum_ok() && quoted.ip_checksum_ok;
                        assert_eq!(verified, right, "{decoded}");
                    }
                    // Etherparse does not read every quote that we do.
                    None if parsed.kind == Kind::IcmpError => {
                        assert!(!verified || ip.l4_checksum_ok(), "{decoded}");
                    }
                    None => assert_eq!(verified, ip.l4_checksum_ok(), "{decoded}"),
                }
            }
        }
    }
}

/// Whatever is found in TCP's options is in them.
fn options(frame: &[u8], parsed: &Parsed) {
    if parsed.kind != Kind::Tcp {
        return;
    }
    let options = &frame[usize::from(parsed.l4) + tcp::LEN..usize::from(parsed.payload)];
    let mut end = 0;
    for option in tcp_options::iter(options) {
        assert!(option.offset >= end, "options overlap");
        end = option.offset + 2 + option.data.len();
        assert!(end <= options.len());
    }
    let timestamps = tcp_options::find_timestamps(options);
    assert!(timestamps.is_none_or(|found| found.offset + 8 <= options.len()));
    let mss = tcp_options::find_mss(options);
    assert!(mss.is_none_or(|found| found.offset + 2 <= options.len()));
}

/// A reply that is made is right in all that we compute; one that is refused is not looked at.
fn replies(buf: &Buf, parsed: &Parsed) {
    let before = Decoded::of(buf.frame());
    let right = before.as_ref().is_ok_and(Decoded::checksums_ok);

    let mut packet = buf.clone();
    if reply::arp_reply(packet.bytes_mut(), parsed, OUR_MAC) {
        let reply = Decoded::check(&packet);
        assert_eq!((reply.arp().operation, reply.arp().sender_mac), (2, OUR_MAC), "{reply}");
        assert_eq!(reply.arp().target_ip, parsed.key.src, "{reply}");
    }
    let mut packet = buf.clone();
    if reply::echo_reply(packet.bytes_mut(), parsed)
        && let Ok(reply) = Decoded::of(&packet)
    {
        assert_eq!(reply.checksums_ok(), right, "{reply}");
        assert_eq!(reply.key(), parsed.key.reversed());
    }
    let mut packet = buf.clone();
    if reply::reset_reply(&mut packet, parsed) {
        let reply = Decoded::check(&packet);
        assert_eq!(reply.key(), parsed.key.reversed());
        assert!(reply.tcp().flags & tcp::RST != 0 && reply.payload().is_empty(), "{reply}");
    }
    if reply::may_answer_with_error(buf.bytes(), parsed) {
        let mut packet = buf.clone();
        if reply::icmp_error(&mut packet, parsed, ErrorMessage::TIME_EXCEEDED, OURS) {
            let reply = Decoded::check(&packet);
            assert_eq!((reply.ipv4().src, reply.ipv4().dst), (OURS, parsed.key.src), "{reply}");
            assert!(reply.ipv4().total_len <= 576, "{reply}");
            // What is about a packet of a few bytes quotes too little to be read here.
            if let Ok(again) = self::parsed(&packet, packet.len()) {
                assert!(!reply::may_answer_with_error(&packet, &again), "an error about an error");
                assert_eq!(wire::verify_icmp(&packet, &again), Ok(()));
            }
        }
    }
}
