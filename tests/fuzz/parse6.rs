//! Any bytes as an IPv6 frame: what `wire::parse6` says of it, and the replies that are made of it.

use testkit::decoded::Net;
use testkit::{Buf, Decoded};
use types::{MacAddr, Packet};
use wire::ndp::{self, Message};
use wire::reply::{self, ErrorMessage};
use wire::{Kind, ParseError, Parsed6, extension, icmpv6, ipv6, mld, tcp};

/// Where our errors come from.
const OURS: u128 = 0x2001_0db8 << 96 | 1;
const OUR_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

/// A frame that `wire::parse` takes for IPv6, in one segment, and the length of the first one in several.
pub(crate) fn parse(buf: &Buf, first_len: usize) {
    let frame = buf.frame();
    let whole = parsed(frame, frame.len());
    let mut pulled = buf.clone().segmented(first_len);
    assert_eq!(parse_pulling(&mut pulled), whole, "in segments");
    for len in 0..frame.len() {
        if let Ok((parsed, _)) = parsed(&frame[..len], len) {
            within(&frame[..len], &parsed);
        }
    }
    let Ok((parsed, is_fragment)) = whole else { return };
    within(frame, &parsed);
    if !is_fragment {
        same_as_decoded(frame, &parsed);
        replies(buf, &parsed);
        replies(&pulled, &parsed);
    }
}

/// What is known of a frame, and whether it is a fragment.
fn parsed(bytes: &[u8], total_len: usize) -> Result<(Parsed6, bool), ParseError> {
    let mut parsed = Parsed6::default();
    match wire::parse6(bytes, total_len, &mut parsed) {
        Ok(()) => Ok((parsed, false)),
        Err(ParseError::Fragment) => Ok((parsed, true)),
        Err(error) => Err(error),
    }
}

fn parse_pulling(packet: &mut Buf) -> Result<(Parsed6, bool), ParseError> {
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

/// Every offset is in the frame, and in order.
fn within(frame: &[u8], parsed: &Parsed6) {
    let [l3, l4, payload] = [parsed.l3, parsed.l4, parsed.payload].map(usize::from);
    assert_eq!(l3, if frame[12..14] == [0x81, 0] { 18 } else { 14 });
    let end = parsed.ip_end();
    assert!(l4 >= l3 + ipv6::LEN && l4 <= l3 + ipv6::LEN + extension::BYTES_MAX, "{parsed:?}");
    assert!(l4 <= payload && payload <= end && end <= frame.len(), "{parsed:?}");
    let header = match parsed.kind {
        Kind::Tcp => tcp::LEN,
        Kind::Udp | Kind::IcmpQuery | Kind::IcmpReply | Kind::IcmpError | Kind::Ndp => 8,
        Kind::OtherIp | Kind::Arp | Kind::Fragment => 0,
    };
    assert!(payload - l4 >= header, "{parsed:?}");
    if parsed.kind == Kind::IcmpError {
        let [inner_l3, inner_l4] = [parsed.inner_l3, parsed.inner_l4].map(usize::from);
        assert!(inner_l3 == payload && inner_l4 >= inner_l3 + ipv6::LEN);
        assert!(inner_l4 + 8 <= end, "{parsed:?}");
    }
}

/// What etherparse can read it reads as we do.
fn same_as_decoded(frame: &[u8], parsed: &Parsed6) {
    let Ok(decoded) = Decoded::of(frame) else { return };
    assert_eq!(decoded.vlan.unwrap_or(0), parsed.vlan);
    let Net::Ipv6(ip) = &decoded.net else { panic!("no IPv6: {decoded}") };
    assert_eq!((ip.hop_limit, ip.traffic_class), (parsed.ttl, parsed.tos));
    assert_eq!((ip.src, ip.dst), (parsed.key.src, parsed.key.dst));
    if parsed.kind == Kind::OtherIp {
        return;
    }
    assert_eq!(ip.key(), parsed.key, "{decoded}");
    if parsed.key.proto == icmpv6::PROTOCOL {
        let verified = wire::verify_icmp6(frame, parsed).is_ok();
        assert_eq!(verified, decoded.icmp6().checksum_ok, "{decoded}");
        if let Some(quoted) = &decoded.icmp6().quoted {
            assert_eq!(quoted.key, parsed.inner.reversed(), "{decoded}");
        }
    }
}

/// A reply that is made is right in all that we compute; one that is refused is not looked at.
fn replies(buf: &Buf, parsed: &Parsed6) {
    let right = Decoded::of(buf.frame()).is_ok_and(|before| before.checksums_ok());
    let _ = mld::read_query(buf.frame(), parsed);
    if let Ok(message) = ndp::read(buf.frame(), parsed) {
        let mut packet = buf.clone();
        if reply::neighbour_advertisement(&mut packet, parsed, &message, OUR_MAC) {
            let again = self::parsed(&packet, packet.len()).expect("a frame of ours").0;
            let Ok(Message::NeighbourAdvertisement { target_mac, .. }) = ndp::read(&packet, &again)
            else {
                panic!("{}", Decoded::check(&packet));
            };
            assert_eq!(target_mac, Some(OUR_MAC));
        }
    }
    let mut packet = buf.clone();
    if reply::echo_reply6(packet.bytes_mut(), parsed, parsed.key.dst)
        && let Ok(reply) = Decoded::of(&packet)
    {
        assert_eq!(reply.checksums_ok(), right, "{reply}");
        assert_eq!(reply.key6(), parsed.key.reversed());
    }
    let mut packet = buf.clone();
    if reply::reset_reply6(&mut packet, parsed) {
        let reply = Decoded::check(&packet);
        assert_eq!(reply.key6(), parsed.key.reversed());
        assert!(reply.tcp().flags & tcp::RST != 0 && reply.payload().is_empty(), "{reply}");
    }
    let message = ErrorMessage::HOP_LIMIT_EXCEEDED;
    if reply::may_answer_with_error6(buf.bytes(), parsed, message) {
        let mut packet = buf.clone();
        if reply::icmp6_error(&mut packet, parsed, message, OURS) {
            let reply = Decoded::check(&packet);
            assert_eq!((reply.key6().src, reply.key6().dst), (OURS, parsed.key.src), "{reply}");
            assert!(reply.ipv6().payload_len <= ipv6::MIN_MTU - 40, "{reply}");
            // What is about a packet of a few bytes quotes too little to be read here.
            if let Ok((again, _)) = self::parsed(&packet, packet.len()) {
                assert!(!reply::may_answer_with_error6(&packet, &again, message));
                assert_eq!(wire::verify_icmp6(&packet, &again), Ok(()));
            }
        }
    }
}
