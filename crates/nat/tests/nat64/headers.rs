//! Headers, extension headers and fragments, each way.

use super::*;

#[test]
fn rfc7915_5_1_headers_of_ipv6() {
    let syn =
        six().vlan(0).eth(5, 6).ttl(9).tos(0xb9).flow_label(77).tcp(40_000, 80).syn().mss(1440);
    let (buf, outcome) = to_four(&syn, PLAIN).unwrap();
    let told = Decoded::check(&buf);
    assert_eq!(told.key(), keys(6).1);
    let ip = told.ipv4();
    assert_eq!((ip.ttl, ip.tos, ip.df, ip.ident, ip.total_len), (8, 0xb9, false, IDENT, 44));
    assert_eq!((told.eth_src, told.eth_dst), (testkit::mac(5), testkit::mac(6)));
    assert_eq!(told.tcp().mss, Some(1440), "what it asks for fits the way back");
    assert_eq!(outcome.layout, Layout { l3: 18, l4: 38, ip_len: 44 });

    // §5.1: DF tells the sender of what is larger than IPv6's smallest MTU allows.
    for (payload_len, df, ident) in [(1220, false, IDENT), (1221, true, 0)] {
        let (buf, _) = to_four(&six().tcp(40_000, 80).payload_len(payload_len), PLAIN).unwrap();
        let told = Decoded::check(&buf);
        assert_eq!((told.ipv4().df, told.ipv4().ident), (df, ident), "{payload_len}");
        assert_eq!(told.payload().len(), payload_len);
    }
    let (buf, _) = to_four(&syn, Settings { tos: Some(0x20), ..PLAIN }).unwrap();
    assert_eq!(Decoded::check(&buf).ipv4().tos, 0x20);
    assert_eq!(to_four(&syn.clone().ttl(1), PLAIN).unwrap_err(), Verdict::TtlExceeded);
    let tight = syn.build();
    let mut tight = Buf::with_room(&tight, 0, 0);
    let parsed = tight.parsed6();
    let translated = six_to_four::translate(&mut tight, layout(&parsed), &keys(6).1, 0, 0, PLAIN);
    assert!(translated.is_ok(), "it gets shorter");
}

#[test]
fn rfc7915_5_1_extension_headers_are_skipped() {
    let packet = six()
        .options_header(extension::HOP_BY_HOP, &[5, 2, 0, 0])
        .routing_header(4, 0)
        .fragment6(0, false, 7)
        .options_header(extension::DESTINATION_OPTIONS, &[])
        .udp(40_000, 80)
        .payload(b"odd");
    let (buf, _) = to_four(&packet, PLAIN).unwrap();
    let told = Decoded::check(&buf);
    assert_eq!((told.key(), told.payload()), (keys(17).1, &b"odd"[..]));
    assert_eq!((told.ipv4().total_len, told.ipv4().options.len()), (31, 0));
    let ah = [0, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for untranslatable in [
        six().extension(extension::AUTHENTICATION, &ah).udp(40_000, 80),
        six().protocol(extension::ESP).payload_len(32),
        six().protocol(132).payload_len(32),
        six().icmp6(200, 0, 0),
        six().fragment6(0, true, 9).echo_request6(1, 2).payload_len(16),
    ] {
        assert_eq!(to_four(&untranslatable, PLAIN).unwrap_err(), Verdict::Untranslatable);
    }
    // Segments left end in the parser; who gets here nevertheless is not translated.
    let mut routed = six().routing_header(0, 0).udp(40_000, 80).build();
    let parsed = routed.parsed6();
    routed.frame_mut()[14 + 40 + 3] = 1;
    let translated = six_to_four::translate(&mut routed, layout(&parsed), &keys(17).1, 0, 0, PLAIN);
    assert_eq!(translated, Err(Verdict::SourceRouted));
}

#[test]
fn rfc7915_5_1_1_fragments_of_ipv6() {
    let part = |offset, more| six().fragment6(offset, more, 0xaaaa_4242);
    let first = part(0, true).udp(40_000, 80).udp_len(2008).payload_len(1224);
    let (buf, outcome) = to_four(&first, PLAIN).unwrap();
    let ip = wire::Ipv4::at(&buf, 14).unwrap();
    assert_eq!((ip.ident(), ip.fragment(), ip.total_len()), (0x4242, 0x2000, 1252));
    assert_eq!(wire::Udp::at(&buf, outcome.layout.l4).unwrap().dport(), 8080);
    let later = part(1232, false).protocol(17).payload_len(776);
    let (buf, _) = to_four(&later, PLAIN).unwrap();
    let ip = wire::Ipv4::at(&buf, 14).unwrap();
    assert_eq!((ip.ident(), ip.fragment(), ip.total_len()), (0x4242, 1232 / 8, 796));
    assert_eq!((ip.source(), ip.destination()), (keys(17).1.src, keys(17).1.dst));
    assert_eq!(wire::checksum::sum(&buf[14..34]), 0xffff);
    let expected: Vec<u8> = (0..776).map(|index| (index % 251) as u8).collect();
    assert_eq!(buf[34..], expected);
}

#[test]
fn rfc7915_4_1_headers_of_ipv4() {
    let answer =
        four().ttl(9).tos(0xb9).ip_options(&[148, 4, 0, 0]).tcp(8080, 1025).syn().ack(1).mss(1460);
    let (buf, outcome) = to_six(&answer, PLAIN).unwrap();
    let told = Decoded::check(&buf);
    assert_eq!(told.key6(), keys(6).0.reversed());
    let ip = told.ipv6();
    assert_eq!((ip.hop_limit, ip.traffic_class, ip.flow_label, ip.payload_len), (8, 0xb9, 0, 24));
    assert_eq!((ip.extensions, told.tcp().mss), (0, Some(1440)), "less the longer header");
    assert_eq!(outcome, Outcome { layout: Layout { l3: 14, l4: 54, ip_len: 64 }, summed: false });
    let (buf, _) = to_six(&answer, Settings { tos: Some(0), ..PLAIN }).unwrap();
    assert_eq!(Decoded::check(&buf).ipv6().traffic_class, 0);
    assert_eq!(to_six(&answer.clone().ttl(1), PLAIN).unwrap_err(), Verdict::TtlExceeded);

    for untranslatable in [
        four().protocol(50).payload_len(32),
        four().protocol(132).payload_len(32),
        four().icmp(13, 0, 0),
        four().fragment(0, true).echo_request(1, 2).payload_len(16),
    ] {
        assert_eq!(to_six(&untranslatable, PLAIN).unwrap_err(), Verdict::Untranslatable);
    }
    let mut tight = Buf::with_room(&four().tcp(8080, 1025).frame(), 19, 0);
    let parsed = tight.parsed();
    let translated =
        four_to_six::translate(&mut tight, layout(&parsed), &keys(6).0.reversed(), 0, PLAIN);
    assert_eq!(translated, Err(Verdict::NoRoom));
}

#[test]
fn rfc7915_4_1_fragments_of_ipv4() {
    let part = |offset, more| four().fragment(offset, more).ident(0x4242);
    let first = part(0, true).udp(8080, 1025).udp_len(2008).payload_len(1472);
    let (buf, _) = to_six(&first, PLAIN).unwrap();
    let told = Decoded::of(&buf).unwrap();
    assert_eq!(told.ipv6().fragment, Some((0x4242, 0, true)));
    assert_eq!((told.ipv6().payload_len, told.ipv6().protocol), (1488, 17));
    let (buf, _) = to_six(&part(1480, false).protocol(17).payload_len(528), PLAIN).unwrap();
    let told = Decoded::of(&buf).unwrap();
    assert_eq!(told.ipv6().fragment, Some((0x4242, 1480, false)));
    assert_eq!((told.payload().len(), told.ipv6().src), (528, keys(17).0.dst));
}

#[test]
fn rfc7915_4_what_is_to_be_cut_gets_a_fragment_header() {
    let with_header = Settings { fragment_header: true, ..PLAIN };
    let whole = four().ident(0x4242).udp(8080, 1025).payload_len(1472);
    for packet in [whole.clone(), whole.no_checksum()] {
        let (buf, outcome) = to_six(&packet, with_header).unwrap();
        let told = Decoded::of(&buf).unwrap();
        assert_eq!(told.ipv6().fragment, Some((0x4242, 0, false)));
        assert_eq!((told.ipv6().payload_len, told.ipv6().protocol), (1488, 17));
        assert_eq!(outcome.layout, Layout { l3: 14, l4: 62, ip_len: 1528 });
        assert!(told.udp().checksum_ok && told.udp().checksum != 0);
    }
    // A fragment has one already.
    let part = four().fragment(1480, true).ident(0x4242).protocol(17).payload_len(528);
    let [a, b] = [PLAIN, with_header].map(|settings| to_six(&part, settings).unwrap().0);
    assert_eq!(a, b);
}

#[test]
fn rfc7915_4_5_a_datagram_without_checksum_gets_one() {
    for payload_len in [0, 1, 700] {
        let packet = four().udp(8080, 1025).no_checksum().payload_len(payload_len);
        for packet in [packet.clone(), packet.clone().padded(), packet.segmented(50)] {
            let (buf, outcome) = to_six(&packet, PLAIN).unwrap();
            let told = Decoded::check(&buf);
            assert!(outcome.summed && told.udp().checksum != 0);
            assert_eq!(told.key6(), keys(17).0.reversed());
        }
    }
    let part = four().udp(8080, 1025).udp_len(80).no_checksum().payload_len(16).fragment(0, true);
    assert_eq!(to_six(&part, PLAIN).unwrap_err(), Verdict::Untranslatable);
}

#[test]
fn rfc7915_4_2_and_5_2_echoes() {
    let ping = six().echo_request6(40_000, 3).payload(b"abc");
    let (buf, _) = to_four(&ping, PLAIN).unwrap();
    let told = Decoded::check(&buf);
    let icmp = told.icmp();
    assert_eq!(
        (icmp.icmp_type, icmp.ident(), icmp.seq(), told.payload()),
        (8, 1025, 3, &b"abc"[..])
    );
    let (buf, _) = to_four(&six().echo_reply6(40_000, 3), PLAIN).unwrap();
    assert_eq!(Decoded::check(&buf).icmp().icmp_type, 0);
    let into = |packet: &PacketBuilder| {
        let mut buf = packet.build();
        let parsed = buf.parsed();
        let into = FlowKey6 { sport: 40_000, ..keys(58).0.reversed() };
        four_to_six::translate(&mut buf, layout(&parsed), &into, 0, PLAIN).unwrap();
        Decoded::check(&buf)
    };
    let told = into(&four().echo_reply(1025, 3).payload(b"abc"));
    assert_eq!(
        (told.icmp6().icmp_type, told.icmp6().ident(), told.payload()),
        (129, 40_000, &b"abc"[..])
    );
    assert_eq!(into(&four().echo_request(1025, 3)).icmp6().icmp_type, 128);
    let (wrong, _) = to_four(&ping.bad_checksum(), PLAIN).unwrap();
    assert!(!Decoded::of(&wrong).unwrap().icmp().checksum_ok, "stays wrong");
}
