//! IPv6: every way in which the parser refuses a frame, by name, and every packet of our own making as
//! etherparse reads it.

use proptest::prelude::*;
use testkit::{Buf, Decoded, PacketBuilder, ip6, key6, mac, pkt};
use types::{MacAddr, Packet, Verdict};
use wire::reply::{self, ErrorMessage};
use wire::{
    Ipv6, Kind, ParseError, Parsed6, Piece, extension, icmpv6, ipv6, mld, ndp, parse6, tcp,
    verify_icmp6,
};

const A: &str = "2001:db8::1";
const B: &str = "2001:db8:1::2";

fn base() -> PacketBuilder {
    pkt().ipv6(A, B)
}

fn outcome(frame: &[u8]) -> Result<Kind, ParseError> {
    let mut parsed = Parsed6::default();
    parse6(frame, frame.len(), &mut parsed).map(|()| parsed.kind)
}

#[track_caller]
fn assert_dropped(packet: &PacketBuilder, verdict: Verdict) {
    assert_eq!(outcome(&packet.frame()), Err(ParseError::Drop(verdict)), "{packet:?}");
}

#[test]
fn headers_that_lie() {
    let frame = base().tcp(1, 2).frame();
    for len in 0..54 {
        assert_eq!(outcome(&frame[..len]), Err(ParseError::Drop(Verdict::Malformed)), "{len}");
    }
    assert_dropped(&pkt().tcp(1, 2), Verdict::UnknownEtherType);
    let tcp = || base().tcp(1, 2).payload(b"data");
    assert_dropped(&tcp().ip_version(4), Verdict::BadIpHeader);
    assert_dropped(&tcp().ip6_payload_len(25), Verdict::BadIpHeader);
    assert_dropped(&tcp().ip6_payload_len(65_535), Verdict::BadIpHeader);
    // A jumbogram's length is 0, and then there is nothing in it.
    assert_dropped(&tcp().ip6_payload_len(0), Verdict::BadTransport);
    for source in ["ff02::1", "::1", "::", "::ffff:10.0.0.1"] {
        assert_dropped(&pkt().ipv6(source, B).tcp(1, 2), Verdict::BadSource);
        let options = pkt().ipv6(source, B).options_header(extension::DESTINATION_OPTIONS, &[]);
        assert_dropped(&options.tcp(1, 2), Verdict::BadSource);
    }
    assert_dropped(&pkt().ipv6("::", B).echo_request6(1, 2), Verdict::BadSource);
}

#[test]
fn transports_that_lie() {
    for packet in [
        base().tcp(1, 2).tcp_header_words(4),
        base().tcp(1, 2).flags(tcp::SYN | tcp::FIN),
        base().tcp(0, 2),
        base().udp(1, 2).udp_len(9),
        base().udp(1, 0),
        base().protocol(17).payload_len(7),
        base().protocol(58).payload_len(7),
    ] {
        assert_dropped(&packet, Verdict::BadTransport);
    }
    // RFC 8200 §8.1.
    assert_dropped(&base().udp(1, 2).no_checksum(), Verdict::NoChecksum);
    assert_dropped(&base().icmp6(100, 0, 0).payload_len(60), Verdict::BadIcmp);
    assert_dropped(&base().ttl(254).icmp6(136, 0, 0).payload_len(16), Verdict::BadNdp);
}

#[test]
fn chains_that_lie() {
    use extension::{AUTHENTICATION, DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, ROUTING};
    let one = |number, bytes: &[u8]| base().extension(number, bytes).udp(1, 2);
    for packet in [
        // Longer than the packet, and cut off.
        one(HOP_BY_HOP, &[0, 5, 1, 4, 0, 0, 0, 0]),
        one(AUTHENTICATION, &[0, 200, 0, 0, 0, 0, 0, 0]),
        base().protocol(HOP_BY_HOP).payload_len(7),
        base().protocol(ROUTING),
        // Shorter than its fixed part.
        one(AUTHENTICATION, &[0; 8]),
        // An option longer than its header, and one without a length.
        one(DESTINATION_OPTIONS, &[0, 0, 1, 5, 0, 0, 0, 0]),
        one(HOP_BY_HOP, &[0, 0, 1, 3, 0, 0, 0, 9]),
        // In the wrong place, and twice.
        base().options_header(DESTINATION_OPTIONS, &[]).options_header(HOP_BY_HOP, &[]).udp(1, 2),
        base().fragment6(0, false, 1).fragment6(0, false, 1).udp(1, 2),
        (0..9).fold(base(), |packet, _| packet.options_header(DESTINATION_OPTIONS, &[])).udp(1, 2),
        one(DESTINATION_OPTIONS, &[&[0, 64][..], &[0; 518]].concat()),
    ] {
        assert_dropped(&packet, Verdict::BadExtension);
    }
    assert_dropped(&base().routing_header(0, 1).udp(1, 2), Verdict::SourceRouted);
    let eight = (0..8).fold(base(), |packet, _| packet.options_header(DESTINATION_OPTIONS, &[]));
    assert_eq!(outcome(&eight.udp(1, 2).frame()), Ok(Kind::Udp));
    assert_eq!(outcome(&base().extension(FRAGMENT, &[0; 8]).udp(1, 2).frame()), Ok(Kind::Udp));
}

#[test]
fn chains_are_walked() {
    let chain = || {
        base()
            .options_header(extension::HOP_BY_HOP, &[5, 2, 0, 0])
            .routing_header(4, 0)
            .fragment6(0, false, 7)
            .options_header(extension::DESTINATION_OPTIONS, &[1, 4, 0, 0, 0, 0])
    };
    let mut buf = chain().tos(0xb8).ttl(9).tcp(40_000, 80).syn().vlan(5).build();
    let parsed = buf.parsed6();
    assert_eq!(parsed.key, key6(6, "[2001:db8::1]:40000", "[2001:db8:1::2]:80"));
    assert_eq!((parsed.kind, parsed.tos, parsed.ttl, parsed.vlan), (Kind::Tcp, 0xb8, 9, 5));
    assert_eq!(usize::from(parsed.l4), 18 + 40 + 8 + 24 + 8 + 8);
    assert_eq!(Decoded::check(&buf).key6(), parsed.key);
    // What is authenticated or encrypted passes as what it is, and has no ports.
    let ah = [0, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let parsed = base().extension(extension::AUTHENTICATION, &ah).udp(1, 2).build().parsed6();
    assert_eq!((parsed.kind, parsed.key.sport), (Kind::OtherIp, 0));
    let parsed = base().protocol(extension::ESP).payload_len(32).build().parsed6();
    assert_eq!((parsed.kind, parsed.key.proto), (Kind::OtherIp, 50));
    for (first, needed) in [(54, 62), (62, 70), (70, 86), (86, 94), (94, 102), (102, 122)] {
        let frame = chain().tcp(1, 2).frame();
        let mut parsed = Parsed6::default();
        let outcome = parse6(&frame[..first], frame.len(), &mut parsed);
        assert_eq!(outcome, Err(ParseError::Pull(needed)), "{first}");
    }
}

#[test]
fn fragments_are_told_and_bad_ones_refused() {
    let part = |offset, more| base().fragment6(offset, more, 0x0102_0304);
    let mut first = part(0, true).udp(7, 8).udp_len(4000).payload_len(1224).build();
    let parsed = first.parsed_fragment6();
    assert_eq!((parsed.kind, parsed.key.sport, parsed.key.dport), (Kind::Udp, 7, 8));
    let mut later = part(1232, true).protocol(17).payload_len(1232).build();
    let parsed = later.parsed_fragment6();
    assert_eq!((parsed.kind, parsed.key.sport, parsed.key.proto), (Kind::Fragment, 0, 17));
    let piece = Piece { ident: 0x0102_0304, offset: 1232, more: true };
    assert_eq!(Piece::at(&later, 54), Some(piece));
    let options = part(0, true).options_header(extension::DESTINATION_OPTIONS, &[]);
    let mut with_options = options.udp(7, 8).udp_len(4000).payload_len(16).build();
    assert_eq!(with_options.parsed_fragment6().key.dport, 8);
    for bad in [
        part(0, true).udp(1, 2).payload_len(7),
        part(8, false).protocol(17),
        part(65_528, false).protocol(17).payload_len(8),
        part(0, true).protocol(6).payload_len(16),
        part(8, false).protocol(6).payload_len(8),
        // RFC 6980: neighbour discovery in fragments.
        part(0, true).ttl(255).icmp6(135, 0, 0).payload_len(16),
    ] {
        assert_dropped(&bad, Verdict::BadFragment);
    }
}

#[test]
fn errors_that_do_not_pass() {
    let inner = || pkt().ipv6(B, A).udp(1, 2);
    let quoted = |packet: &PacketBuilder, len: usize| {
        base().icmp6(1, 0, 0).payload(&packet.ip_packet()[..len])
    };
    for packet in [
        base().icmp6(1, 0, 0),
        quoted(&inner(), 39),
        quoted(&inner(), 47),
        quoted(&inner(), 47).padded(),
        base().icmp6(3, 0, 0).quote(&inner().ip_version(4)),
        base().icmp6(3, 0, 0).quote(&pkt().ipv6(B, A).fragment6(8, true, 1).udp(1, 2)),
        base().icmp6(3, 0, 0).quote(&pkt().ipv6(B, A).routing_header(0, 1).udp(1, 2)),
        base().icmp6(4, 0, 0).quote(&pkt().ipv6(B, A).icmp6(1, 0, 0).quote(&inner())),
        base().icmp6(4, 0, 0).quote(&pkt().ipv6(B, A).icmp6(135, 0, 0)),
    ] {
        assert_dropped(&packet, Verdict::BadIcmp);
    }
    let inner = pkt().ipv6(B, A).options_header(extension::HOP_BY_HOP, &[]).udp(1, 2);
    let mut too_big = base().icmp6(2, 0, 1400).quote_short(&inner).build();
    let parsed = too_big.parsed6();
    assert_eq!(parsed.inner, key6(17, "[2001:db8::1]:2", "[2001:db8:1::2]:1"));
    assert_eq!(parsed.lookup_key(), parsed.inner);
    assert_eq!((parsed.inner_l3, parsed.inner_l4), (14 + 40 + 8, 14 + 40 + 8 + 40 + 8));
    assert_eq!(Decoded::check(&too_big).quoted6().key, parsed.inner.reversed());
    assert_eq!(verify_icmp6(&too_big, &parsed), Ok(()));
    let mut wrong = base().icmp6(2, 0, 1400).quote_short(&inner).bad_checksum().build();
    let parsed = wrong.parsed6();
    let drop = Err(ParseError::Drop(Verdict::BadIcmp));
    assert_eq!(verify_icmp6(&wrong, &parsed), drop);
}

fn all_frames(packet: PacketBuilder) -> [PacketBuilder; 3] {
    [packet.clone(), packet.clone().vlan(100), packet.padded()]
}

#[test]
fn pings_are_answered_in_place() {
    let ping = base().eth(9, 2).ttl(3).tos(0x20).flow_label(5).echo_request6(7, 8).payload(b"odd");
    for request in all_frames(ping.clone()) {
        let mut buf = request.build();
        let parsed = buf.parsed6();
        assert!(reply::echo_reply6(buf.bytes_mut(), &parsed, ip6(B)));
        let decoded = Decoded::check(&buf);
        assert_eq!((decoded.eth_src, decoded.eth_dst), (mac(2), mac(9)));
        assert_eq!(decoded.key6(), parsed.key.reversed());
        assert_eq!((decoded.ipv6().hop_limit, decoded.ipv6().traffic_class), (64, 0x20));
        let icmp = decoded.icmp6();
        assert_eq!((icmp.icmp_type, icmp.ident(), icmp.seq()), (129, 7, 8));
        let parsed = buf.parsed6();
        assert!(!reply::echo_reply6(buf.bytes_mut(), &parsed, ip6(B)), "a reply");
    }
    let mut to_group = ping.clone().ipv6(A, "ff02::1").build();
    let parsed = to_group.parsed6();
    assert!(reply::echo_reply6(to_group.bytes_mut(), &parsed, ip6(B)));
    assert_eq!(Decoded::check(&to_group).key6().src, ip6(B));
    let mut wrong = ping.bad_checksum().build();
    let parsed = wrong.parsed6();
    assert!(reply::echo_reply6(wrong.bytes_mut(), &parsed, ip6(B)));
    assert!(!Decoded::of(&wrong).unwrap().icmp6().checksum_ok, "stays wrong");
}

#[test]
fn fragments_of_pings_are_answered_each_by_itself() {
    let mut piece = base().eth(9, 2).ttl(3).echo_request6(7, 8).payload(b"a middle piece").build();
    let mut parsed = piece.parsed6();
    // As one but the first is known by the first: what it carries is no header.
    (parsed.kind, parsed.icmp_type) = (Kind::Fragment, icmpv6::ECHO_REQUEST);
    let before = piece.bytes()[usize::from(parsed.l4)..].to_vec();
    assert!(reply::echo_reply6(piece.bytes_mut(), &parsed, ip6(B)));
    let ip = Ipv6::at(piece.bytes(), usize::from(parsed.l3)).unwrap();
    assert_eq!((ip.source(), ip.destination(), ip.hop_limit()), (ip6(B), ip6(A), 64));
    assert_eq!(piece.bytes()[usize::from(parsed.l4)..], before);
    parsed.icmp_type = icmpv6::ECHO_REPLY;
    assert!(!reply::echo_reply6(piece.bytes_mut(), &parsed, ip6(B)), "of a reply");
}

#[test]
fn rfc4443_2_4_errors_quote_up_to_1280_bytes() {
    for payload_len in [0, 1, 1211, 1212, 1213, 1440] {
        for question in all_frames(base().eth(9, 2).tcp(1, 2).payload_len(payload_len)) {
            let mut buf = question.build();
            let parsed = buf.parsed6();
            let message = ErrorMessage::packet_too_big(1400);
            assert!(reply::may_answer_with_error6(&buf, &parsed, message));
            assert!(reply::icmp6_error(&mut buf, &parsed, message, ip6("2001:db8:1::9")));
            let decoded = Decoded::check(&buf);
            assert_eq!((decoded.key6().src, decoded.key6().dst), (ip6("2001:db8:1::9"), ip6(A)));
            assert_eq!(usize::from(decoded.ipv6().payload_len), (8 + 60 + payload_len).min(1240));
            assert_eq!((decoded.icmp6().icmp_type, decoded.icmp6().rest), (2, 1400));
            assert_eq!(decoded.quoted6().key, parsed.key);
            let parsed = buf.parsed6();
            assert!(!reply::may_answer_with_error6(&buf, &parsed, message), "about an error");
        }
    }
}

/// A neighbour solicitation without options.
fn solicitation(source: &str) -> PacketBuilder {
    let group = ipv6::solicited_node(ip6(B));
    let asked = pkt().ipv6(ip6(source), group).ttl(255);
    asked.icmp6(icmpv6::NEIGHBOUR_SOLICITATION, 0, 0).payload(ip6(B).to_be_bytes())
}

#[test]
fn rfc4443_2_4_no_error_about_these() {
    let (too_big, other) = (ErrorMessage::packet_too_big(1400), ErrorMessage::HOP_LIMIT_EXCEEDED);
    let may = |packet: &PacketBuilder, message| {
        let mut buf = packet.build();
        let parsed = buf.parsed6();
        reply::may_answer_with_error6(&buf, &parsed, message)
    };
    for never in [
        base().icmp6(1, 0, 0).quote(&pkt().ipv6(B, A).udp(1, 2)),
        base().icmp6(200, 0, 0),
        solicitation(A),
        solicitation("::"),
    ] {
        assert!(!may(&never, too_big) && !may(&never, other), "{never:?}");
    }
    for group in [pkt().ipv6(A, "ff0e::1").udp(1, 2), base().eth(9, MacAddr::BROADCAST).udp(1, 2)] {
        assert!(may(&group, too_big) && !may(&group, other), "{group:?}");
    }
    for one in [base().udp(1, 2), base().echo_request6(1, 2), base()] {
        assert!(may(&one, too_big) && may(&one, other), "{one:?}");
    }
    let mut later = base().fragment6(8, true, 1).protocol(17).payload_len(8).build();
    let parsed = later.parsed_fragment6();
    assert!(!reply::may_answer_with_error6(&later, &parsed, other));
}

#[test]
fn resets_answer_as_rfc_9293_says() {
    let segment = || base().eth(9, 2).tcp(1, 2).seq(1000);
    for (question, seq, ack) in [
        (segment().syn().mss(1440), 0, Some(1001)),
        (segment().flags(tcp::FIN).payload_len(10), 0, Some(1011)),
        (segment().ack(5000).payload_len(10), 5000, None),
    ] {
        for question in all_frames(question) {
            let mut buf = question.build();
            let parsed = buf.parsed6();
            assert!(reply::reset_reply6(&mut buf, &parsed));
            let decoded = Decoded::check(&buf);
            assert_eq!(decoded.key6(), parsed.key.reversed());
            assert_eq!((decoded.tcp().seq, decoded.tcp().ack), (seq, ack.unwrap_or(0)));
            let parsed = buf.parsed6();
            assert!(!reply::reset_reply6(&mut buf, &parsed), "a reset about a reset");
        }
    }
    let key = key6(6, "[2001:db8::1]:1", "[2001:db8::2]:2");
    let reset = reply::Reset {
        eth_destination: mac(1),
        eth_source: mac(2),
        vlan: 5,
        key,
        seq: 7,
        ack: Some(8),
    };
    let mut bytes = [0xa5; reply::RESET6_MAX_LEN];
    assert_eq!(reply::write_reset6(&mut bytes, &reset), Some(bytes.len()));
    assert_eq!(Decoded::check(&bytes).key6(), key);
    for short in 0..bytes.len() {
        assert_eq!(reply::write_reset6(&mut bytes[..short], &reset), None);
    }
}

/// Any well-formed IPv6 packet that the path parses.
fn any_packet() -> impl Strategy<Value = PacketBuilder> {
    let address = any::<u128>().prop_map(|bits| bits >> 4 | 0x2 << 124);
    let frame = (address.clone(), address, any::<u8>(), any::<u8>(), any::<u32>());
    let l4 = (0u8..5, 1u16.., 1u16.., any::<u32>(), any::<u32>());
    let rest = (0usize..300, any::<bool>(), 0u8..8, proptest::option::of(1u16..4095));
    (frame, l4, rest).prop_map(|(frame, l4, rest)| {
        let (source, destination, hop_limit, class, label) = frame;
        let (kind, sport, dport, seq, ack) = l4;
        let (payload_len, padded, chain, vlan) = rest;
        let mut packet =
            pkt().ipv6(source, destination).ttl(hop_limit).tos(class).flow_label(label);
        if chain & 1 != 0 {
            packet = packet.options_header(extension::HOP_BY_HOP, &[5, 2, 0, 0, 1, 0]);
        }
        if chain & 2 != 0 {
            packet = packet.routing_header(4, 0);
        }
        if chain & 4 != 0 {
            packet = packet.options_header(extension::DESTINATION_OPTIONS, &[0, 30, 3, 1, 2, 3, 0]);
        }
        packet = match kind {
            0 => packet.udp(sport, dport),
            1 => packet.echo_request6(sport, dport),
            2 => packet.echo_reply6(sport, dport),
            _ => packet.tcp(sport, dport).seq(seq).ack(ack).timestamps(seq, ack),
        };
        packet = packet.payload_len(payload_len);
        packet = if padded { packet.padded() } else { packet };
        vlan.into_iter().fold(packet, PacketBuilder::vlan)
    })
}

proptest! {
    #[test]
    fn parse_agrees_with_etherparse(packet in any_packet()) {
        let mut buf = packet.build();
        let decoded = Decoded::check(&buf);
        let parsed = buf.parsed6();
        let header = decoded.ipv6();
        prop_assert_eq!(parsed.key, header.key());
        prop_assert_eq!((parsed.ttl, parsed.tos), (header.hop_limit, header.traffic_class));
        prop_assert_eq!(parsed.ip_total_len, header.payload_len + 40);
        prop_assert_eq!(parsed.vlan, decoded.vlan.unwrap_or(0));
        prop_assert_eq!(&buf[usize::from(parsed.payload)..parsed.ip_end()], &header.payload[..]);
        if matches!(parsed.kind, Kind::IcmpQuery | Kind::IcmpReply) {
            prop_assert_eq!(verify_icmp6(&buf, &parsed), Ok(()));
        }
    }

    /// Cut anywhere, a frame is dropped by name; in segments of any size, it is pulled and parsed.
    #[test]
    fn truncation_is_a_verdict_and_segments_are_pulled(packet in any_packet()) {
        let frame = packet.frame();
        let whole = packet.build().parsed6();
        for len in 0..frame.len() {
            match outcome(&frame[..len]) {
                Ok(_) => prop_assert!(len >= whole.ip_end(), "{len} of {}", frame.len()),
                Err(ParseError::Drop(Verdict::Malformed | Verdict::BadIpHeader)) => {}
                Err(error) => prop_assert!(false, "{error:?} at {len}"),
            }
            prop_assert_eq!(Buf::new(&frame).segmented(len).parsed6(), whole);
        }
    }

    #[test]
    fn no_bytes_make_the_parser_panic(
        packet in any_packet(),
        edits in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..8),
        cut in any::<usize>(),
        beyond in 0usize..100,
    ) {
        let mut frame = packet.frame();
        for (at, byte) in edits {
            let at = at % frame.len();
            frame[at] = byte;
        }
        let first = &frame[..cut % (frame.len() + 1)];
        let mut parsed = Parsed6::default();
        let _ = parse6(first, first.len() + beyond, &mut parsed);
        if parse6(&frame, frame.len(), &mut parsed).is_ok() {
            prop_assert!(parsed.ip_end() <= frame.len());
            prop_assert!(parsed.l3 < parsed.l4 && parsed.l4 <= parsed.payload);
            prop_assert!(usize::from(parsed.payload) <= parsed.ip_end());
            let _ = (verify_icmp6(&frame, &parsed), ndp::read(&frame, &parsed), mld::read_query(&frame, &parsed));
        }
    }

    /// RFC 8200 §8.1: over pseudo header, header and data, however they are cut.
    #[test]
    fn an_unfinished_checksum_is_finished(
        payload in proptest::collection::vec(any::<u8>(), 0..300), first in 74_usize..400, udp: bool,
    ) {
        let whole = if udp { base().udp(1, 2) } else { base().tcp(1, 2) }.payload(&payload).build();
        let mut unfinished = whole.clone().with_unfinished_checksum();
        let parsed = unfinished.parsed6();
        let mut unfinished = unfinished.segmented(first);
        wire::finish_l4_checksum6(&mut unfinished, &parsed);
        prop_assert_eq!(unfinished.frame(), whole.frame());
    }
}

/// RFC 9868 §5: what is behind the datagram is in the packet, but not in its checksum.
#[test]
fn a_datagrams_checksum_ends_with_it() {
    let whole = base().udp(1, 2).payload([0xa5; 9]).build();
    let mut longer = base().udp(1, 2).payload([0xa5; 20]).udp_len(17).no_checksum().build();
    let parsed = {
        let mut parsed = Parsed6::default();
        // IPv6 lets none pass without a checksum (RFC 8200 §8.1), but in an unfinished one.
        let filled = base().udp(1, 2).payload([0xa5; 20]).udp_len(17).frame();
        parse6(&filled, filled.len(), &mut parsed).unwrap();
        parsed
    };
    wire::finish_l4_checksum6(&mut longer, &parsed);
    assert_eq!(longer.frame()[60..62], whole.frame()[60..62]);
}
