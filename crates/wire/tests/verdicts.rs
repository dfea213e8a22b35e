//! Every way in which the parser refuses a frame, by name, and what it must not refuse.

use testkit::{Buf, PacketBuilder, pkt};
use types::{MacAddr, Packet, Verdict};
use wire::{Kind, ParseError, Parsed, Piece, parse, tcp};

#[track_caller]
fn outcome(frame: &[u8]) -> Result<Kind, ParseError> {
    let mut parsed = Parsed::default();
    parse(frame, frame.len(), &mut parsed).map(|()| parsed.kind)
}

#[track_caller]
fn assert_dropped(packet: &PacketBuilder, verdict: Verdict) {
    assert_eq!(outcome(&packet.frame()), Err(ParseError::Drop(verdict)), "{packet:?}");
}

/// A frame of which some bytes are overwritten.
fn edited(packet: PacketBuilder, at: usize, bytes: &[u8]) -> Buf {
    let mut buf = packet.build();
    buf.frame_mut()[at..][..bytes.len()].copy_from_slice(bytes);
    buf
}

#[test]
fn frames_of_no_use() {
    let frame = pkt().tcp(1, 2).frame();
    for len in 0..34 {
        assert_eq!(outcome(&frame[..len]), Err(ParseError::Drop(Verdict::Malformed)), "{len}");
    }
    let tagged = pkt().vlan(5).tcp(1, 2).frame();
    assert_eq!(outcome(&tagged[..17]), Err(ParseError::Drop(Verdict::Malformed)));
    assert_eq!(outcome(&pkt().ether_type(0x86dd).tcp(1, 2).frame()), Err(ParseError::Ipv6));
    for ether_type in [0x88a8, 0x8847, 0x0001, 0x9000] {
        assert_dropped(&pkt().ether_type(ether_type).tcp(1, 2), Verdict::UnknownEtherType);
    }
    // Two tags: the second is an EtherType that nobody knows.
    assert_dropped(&pkt().vlan(5).ether_type(0x8100).tcp(1, 2), Verdict::UnknownEtherType);
}

#[test]
fn ipv4_headers_that_lie() {
    let base = || pkt().tcp(1, 2).payload(b"data");
    for packet in [
        base().ip_version(5),
        base().ip_version(0),
        base().ip_header_words(4),
        base().ip_header_words(0),
        base().ip_total_len(19),
        base().ip_total_len(0),
        base().ip_total_len(45),
        base().ip_total_len(65_535),
        base().ip_options(&[7, 1, 0, 0]),
        base().ip_options(&[7, 5, 0, 0]),
        base().ip_options(&[1, 1, 1, 7]),
        pkt().ip_header_words(15),
    ] {
        assert_dropped(&packet, Verdict::BadIpHeader);
    }
    assert_dropped(&base().bad_ip_checksum(), Verdict::BadIpChecksum);
    assert_dropped(&base().ip_options(&[1, 1, 0]).bad_ip_checksum(), Verdict::BadIpChecksum);
    assert_dropped(&base().ip_options(&[131, 7, 4, 10, 0, 0, 1]), Verdict::SourceRouted);
    assert_dropped(&base().ip_options(&[1, 137, 7, 4, 10, 0, 0, 1]), Verdict::SourceRouted);
    for source in ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.5", "255.255.255.255"] {
        assert_dropped(&base().ipv4(source, "10.0.0.1"), Verdict::BadSource);
    }
}

#[test]
fn fragments_are_told_and_bad_ones_refused() {
    let part = |offset, more| pkt().fragment(offset, more);
    let mut first = part(0, true).udp(7, 8).udp_len(4000).payload_len(1464).build();
    let parsed = first.parsed_fragment();
    assert_eq!((parsed.kind, parsed.key.sport, parsed.key.dport), (Kind::Udp, 7, 8));
    let mut later = part(1472, true).ident(9).protocol(17).payload_len(1472).build();
    let parsed = later.parsed_fragment();
    assert_eq!((parsed.kind, parsed.key.sport, parsed.key.proto), (Kind::Fragment, 0, 17));
    let header = wire::Ipv4::at(&later, 14).unwrap();
    assert_eq!(Piece::of_ipv4(header), Piece { ident: 9, offset: 1472, more: true });
    let mut echo = part(0, true).echo_request(5, 6).payload_len(16).build();
    assert_eq!(echo.parsed_fragment().kind, Kind::IcmpQuery);
    assert_eq!(
        part(0, true).protocol(47).payload_len(8).build().parsed_fragment().kind,
        Kind::OtherIp
    );
    for bad in [
        // Not in units of eight, empty, beyond 65,535.
        part(0, true).udp(1, 2).payload_len(7),
        part(8, false).protocol(17),
        part(65_528, false).protocol(17).payload_len(8),
        // The transport header is not whole, or its flags come with another (RFC 1858).
        part(0, true).protocol(6).payload_len(16),
        part(8, false).protocol(6).payload_len(8),
        part(0, true).tcp(1, 2).payload_len(4).tcp_header_words(7),
        // Errors quote no more than a frame takes.
        part(0, true).icmp(3, 1, 0).quote(&pkt().udp(1, 2).payload_len(4)),
    ] {
        assert_dropped(&bad, Verdict::BadFragment);
    }
}

#[test]
fn transport_headers_that_lie() {
    let tcp = || pkt().tcp(1, 2);
    let short = |protocol, len| pkt().protocol(protocol).payload_len(len).padded();
    for packet in [
        tcp().tcp_header_words(4),
        tcp().tcp_header_words(0),
        tcp().tcp_header_words(6),
        tcp().payload_len(39).tcp_header_words(15),
        tcp().flags(0),
        tcp().flags(tcp::SYN | tcp::FIN),
        tcp().flags(tcp::SYN | tcp::RST),
        tcp().flags(tcp::ECE | tcp::CWR),
        pkt().tcp(0, 2),
        pkt().tcp(1, 0),
        pkt().udp(0, 2),
        pkt().udp(1, 0),
        pkt().udp(1, 2).udp_len(7),
        pkt().udp(1, 2).udp_len(0),
        pkt().udp(1, 2).udp_len(9),
        // What Ethernet padded does not count.
        pkt().udp(1, 2).udp_len(9).padded(),
        tcp().tcp_header_words(6).padded(),
        short(6, 19),
        short(17, 7),
        short(1, 7),
        short(6, 0),
    ] {
        assert_dropped(&packet, Verdict::BadTransport);
    }
}

#[test]
fn icmp_errors_that_do_not_pass() {
    let inner = || pkt().ipv4("10.0.0.1", "10.0.0.2").udp(1, 2);
    let quoted = |packet: &PacketBuilder, len: usize| {
        pkt().icmp(3, 1, 0).payload(&packet.ip_packet()[..len])
    };
    for packet in [
        pkt().icmp(4, 0, 0).quote(&inner()),
        pkt().icmp(5, 0, 0).quote(&inner()),
        pkt().icmp(3, 1, 0),
        quoted(&inner(), 19),
        quoted(&inner(), 27),
        quoted(&inner(), 27).padded(),
        quoted(&inner().ip_options(&[1, 1, 1, 0]), 28),
        pkt().icmp(11, 0, 0).quote(&inner().ip_version(6)),
        pkt().icmp(11, 0, 0).quote(&inner().ip_header_words(4)),
        pkt().icmp(11, 0, 0).quote(&inner().fragment(8, false)),
        pkt().icmp(12, 0, 0).quote(&pkt().icmp(3, 1, 0).quote(&inner())),
        pkt().icmp(12, 0, 0).quote(&pkt().icmp(13, 0, 0)),
    ] {
        assert_dropped(&packet, Verdict::BadIcmp);
    }
    // The first fragment has ports; an unknown protocol has none, and so no conn.
    let mut parsed = pkt().icmp(11, 1, 0).quote(&inner().fragment(0, true)).build().parsed();
    assert_eq!((parsed.inner.sport, parsed.inner.dport), (2, 1));
    parsed = pkt().icmp(11, 1, 0).quote(&pkt().payload_len(8)).build().parsed();
    assert_eq!((parsed.inner.proto, parsed.inner.sport, parsed.inner.dport), (253, 0, 0));
}

#[test]
fn icmp_checksums_are_for_those_who_ask() {
    let mut wrong = pkt().echo_request(1, 2).payload_len(99).bad_checksum().build();
    let parsed = wrong.parsed();
    let drop = Err(ParseError::Drop(Verdict::BadIcmp));
    assert_eq!(wire::verify_icmp(wrong.bytes(), &parsed), drop);
    let mut right = pkt().echo_request(1, 2).payload_len(99).padded().segmented(60).build();
    let parsed = right.parsed();
    let needed = parsed.ip_end() as u16;
    assert_eq!(wire::verify_icmp(right.bytes(), &parsed), Err(ParseError::Pull(needed)));
    assert!(right.pull(needed.into()));
    assert_eq!(wire::verify_icmp(right.bytes(), &parsed), Ok(()));
}

#[test]
fn arp_that_is_none() {
    let arp = || pkt().arp_request("10.0.0.1", "10.0.0.2");
    assert_eq!(outcome(&arp().frame()[..41]), Err(ParseError::Drop(Verdict::Malformed)));
    for (at, bytes) in [
        (14, &[0, 6][..]),
        (16, &[0x86, 0xdd]),
        (18, &[8]),
        (19, &[16]),
        (20, &[0, 0]),
        (20, &[0, 3]),
        (22, &[1, 0, 0x5e, 0, 0, 1]),
        (22, &MacAddr::BROADCAST.0),
        (22, &[0; 6]),
        (28, &[224, 0, 0, 1]),
        (28, &[255; 4]),
    ] {
        let frame = edited(arp(), at, bytes);
        assert_eq!(outcome(&frame), Err(ParseError::Drop(Verdict::BadArp)), "{frame:?}");
    }
    for frame in [arp(), arp().vlan(9), arp().padded(), pkt().arp_request("0.0.0.0", "10.0.0.2")] {
        assert_eq!(outcome(&frame.frame()), Ok(Kind::Arp));
    }
    let parsed = arp().vlan(9).build().parsed();
    assert_eq!((parsed.l3, parsed.vlan), (18, 9));
    assert_eq!((parsed.key.src, parsed.key.dst), (0x0a00_0001, 0x0a00_0002));
}

#[test]
fn what_passes() {
    for (packet, kind) in [
        (pkt().tcp(1, 2).bad_checksum(), Kind::Tcp),
        (pkt().udp(1, 2).bad_checksum(), Kind::Udp),
        (pkt().udp(1, 2).payload_len(20).udp_len(12), Kind::Udp),
        (pkt().udp(1, 2).no_checksum(), Kind::Udp),
        (pkt().tcp(1, 2).ip_options(&[148, 4, 0, 0]), Kind::Tcp),
        (pkt().tcp(1, 2).tcp_options(&[2, 0, 9, 9]).syn(), Kind::Tcp),
        (pkt().tcp(1, 2).ttl(0), Kind::Tcp),
        (pkt().tcp(1, 2).ipv4("240.0.0.1", "10.0.0.1"), Kind::Tcp),
        (pkt().vlan(0xe005).tcp(1, 2), Kind::Tcp),
        (pkt().trailer(1000).tcp(1, 2), Kind::Tcp),
        (pkt().echo_request(0, 0), Kind::IcmpQuery),
        (pkt().echo_reply(0, 0), Kind::IcmpReply),
        (pkt().icmp(13, 0, 0), Kind::OtherIp),
        (pkt(), Kind::OtherIp),
        (pkt().tcp(1, 2).protocol(132), Kind::OtherIp),
    ] {
        assert_eq!(outcome(&packet.frame()), Ok(kind), "{packet:?}");
    }
    assert_eq!(pkt().vlan(0xe005).tcp(1, 2).build().parsed().vlan, 5, "without priority");
}

#[test]
fn headers_in_later_segments_are_asked_for() {
    let frame = pkt().vlan(5).tcp(1, 2).mss(1460).payload_len(100).frame();
    let mut parsed = Parsed::default();
    for (first, needed) in [(0, 14), (13, 14), (14, 18), (18, 38), (37, 38), (38, 58), (58, 62)] {
        let outcome = parse(&frame[..first], frame.len(), &mut parsed);
        assert_eq!(outcome, Err(ParseError::Pull(needed)), "{first}");
    }
    assert_eq!(parse(&frame[..62], frame.len(), &mut parsed), Ok(()));

    let error = pkt().icmp(3, 1, 0).quote(&pkt().udp(1, 2).ip_options(&[1, 0])).frame();
    for (first, needed) in [(34, 42), (42, 62), (62, 74), (73, 74)] {
        let outcome = parse(&error[..first], error.len(), &mut parsed);
        assert_eq!(outcome, Err(ParseError::Pull(needed)), "{first}");
    }
    let options = pkt().udp(1, 2).ip_options(&[1, 0]).frame();
    let outcome = parse(&options[..37], options.len(), &mut parsed);
    assert_eq!(outcome, Err(ParseError::Pull(38)));
}
