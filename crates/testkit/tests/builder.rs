//! The builder's frames as etherparse and `wire` read them.

use proptest::prelude::*;
use testkit::decoded::{L4, Net};
use testkit::{Decoded, PacketBuilder, ip, key, mac, pkt};
use types::{FlowKey, Packet, Proto, Verdict};
use wire::{Kind, ParseError, Parsed, parse};

#[test]
fn a_syn_as_linux_sends_it() {
    let frame = pkt()
        .eth(3, 4)
        .ipv4("10.0.0.1", "10.0.0.2")
        .ttl(63)
        .tos(0x12)
        .ident(7)
        .df()
        .tcp(40_000, 80)
        .syn()
        .seq(5)
        .window(1024)
        .mss(1460)
        .sack_permitted()
        .timestamps(11, 0)
        .window_scale(7)
        .build();
    let decoded = Decoded::check(&frame);
    assert_eq!((decoded.eth_src, decoded.eth_dst), (mac(3), mac(4)));
    assert_eq!(decoded.key(), key(Proto::Tcp, "10.0.0.1:40000", "10.0.0.2:80"));
    let header = decoded.ipv4();
    assert_eq!((header.ttl, header.tos, header.ident, header.df), (63, 0x12, 7, true));
    let tcp = decoded.tcp();
    assert_eq!((tcp.seq, tcp.flags, tcp.window), (5, wire::tcp::SYN, 1024));
    assert_eq!((tcp.mss, tcp.timestamps, tcp.window_scale), (Some(1460), Some((11, 0)), Some(7)));
    assert!(tcp.sack_permitted);
    assert_eq!(tcp.options.len(), 20, "as Linux packs them");
}

#[test]
fn a_segment_with_every_option_of_data() {
    let frame = pkt()
        .vlan(100)
        .tcp(1, 2)
        .psh()
        .ack(9)
        .seq(8)
        .timestamps(1, 2)
        .sack(&[(10, 20), (30, 40)])
        .toa("198.51.100.7", 40_000)
        .payload(b"hello")
        .build();
    let decoded = Decoded::check(&frame);
    assert_eq!(decoded.vlan, Some(100));
    let tcp = decoded.tcp();
    assert_eq!(tcp.timestamps, Some((1, 2)));
    assert_eq!(tcp.sack, [(10, 20), (30, 40)]);
    assert_eq!(tcp.toa, Some((ip("198.51.100.7"), 40_000)));
    assert_eq!(decoded.payload(), b"hello");
    assert!(decoded.to_string().ends_with("[P.] seq 8 ack 9 len 5"), "{decoded}");
}

#[test]
fn datagrams_echoes_and_arp() {
    let udp = Decoded::check(&pkt().udp(53, 54).payload_len(33).padded().frame());
    assert_eq!((udp.udp().len, udp.payload().len()), (41, 33));
    let none = Decoded::check(&pkt().udp(53, 54).no_checksum().frame());
    assert_eq!(none.udp().checksum, 0);
    let echo = Decoded::check(&pkt().echo_request(7, 8).payload(b"ping!").frame());
    assert_eq!((echo.icmp().ident(), echo.icmp().seq(), echo.payload()), (7, 8, &b"ping!"[..]));
    let arp = Decoded::check(&pkt().eth(9, 1).arp_request("10.0.0.1", "10.0.0.2").frame());
    assert_eq!(arp.eth_dst, types::MacAddr::BROADCAST);
    assert_eq!(arp.to_string(), "arp who-has 10.0.0.2 tell 10.0.0.1");
    let arp = Decoded::check(&pkt().eth(9, 1).arp_reply("10.0.0.2", "10.0.0.1").frame());
    assert_eq!((arp.arp().sender_mac, arp.arp().target_mac), (mac(9), mac(1)));
}

#[test]
fn what_is_strange_is_decoded() {
    let mut frame = pkt().udp(1, 2).frame();
    frame[20] |= 0x80;
    frame[24..26].fill(0);
    let sum = wire::checksum::checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    assert!(Decoded::check(&frame).ipv4().checksum_ok, "with the reserved flag");

    let inner = pkt().udp(1, 2).ip_total_len(0);
    let error = Decoded::check(&pkt().icmp(3, 4, 1400).quote(&inner).frame());
    assert_eq!(error.icmp().quoted, None, "a length that is less than the header's");
}

#[test]
fn errors_quote_other_packets() {
    let inner = pkt().ipv4("10.0.0.1", "10.0.0.2").tcp(1, 2).seq(77).payload(b"data");
    let whole = Decoded::check(&pkt().icmp(3, 4, 1400).quote(&inner).frame());
    assert_eq!(whole.icmp().seq(), 1400);
    let quoted = whole.quoted();
    assert_eq!(quoted.key, key(Proto::Tcp, "10.0.0.1:1", "10.0.0.2:2"));
    assert_eq!((quoted.seq, quoted.ip_checksum_ok, quoted.l4_checksum_ok), (77, true, Some(true)));
    let short = Decoded::check(&pkt().icmp(11, 0, 0).quote_short(&inner).frame());
    assert_eq!((short.quoted().l4.len(), short.quoted().l4_checksum_ok), (8, None));
}

#[test]
fn lies_are_told_when_asked_for() {
    for wrong in [
        pkt().tcp(1, 2).bad_ip_checksum(),
        pkt().tcp(1, 2).bad_checksum(),
        pkt().udp(1, 2).bad_checksum(),
        pkt().echo_request(1, 2).bad_checksum(),
    ] {
        assert!(!Decoded::of(&wrong.frame()).unwrap().checksums_ok(), "{wrong:?}");
    }
    assert!(Decoded::of(&pkt().tcp(1, 2).ip_total_len(200).frame()).is_err());
    assert!(Decoded::of(&pkt().tcp(1, 2).tcp_header_words(4).frame()).is_err());
    let buf = pkt().tcp(1, 2).rss_hash(5).segmented(20).build();
    assert_eq!((buf.rss_hash(), buf.bytes().len(), buf.total_len()), (Some(5), 20, 54));
}

/// Any well-formed packet that the path parses.
fn any_packet() -> impl Strategy<Value = PacketBuilder> {
    let source = (1u32..=126, any::<u32>()).prop_map(|(first, rest)| first << 24 | rest >> 8);
    let frame = (source, any::<u32>(), any::<u8>(), any::<u8>(), proptest::option::of(1u16..4095));
    let l4 = (0u8..5, 1u16.., 1u16.., any::<u32>(), any::<u32>());
    let flags = any::<u8>().prop_filter("sane", |flags| wire::tcp::flags_are_sane(*flags));
    let rest = (flags, 0usize..300, any::<bool>(), 0usize..3, any::<bool>());
    (frame, l4, rest).prop_map(|(frame, l4, rest)| {
        let (source, destination, ttl, tos, vlan) = frame;
        let (kind, sport, dport, seq, ack) = l4;
        let (flags, payload_len, df, options, padded) = rest;
        let mut packet = pkt().ipv4(source, destination).ttl(ttl).tos(tos);
        packet = match kind {
            0 => packet.udp(sport, dport).payload_len(payload_len),
            1 => packet.echo_request(sport, dport).payload_len(payload_len),
            2 => packet.echo_reply(sport, dport).payload_len(payload_len),
            _ => {
                let tcp = packet.tcp(sport, dport).seq(seq).ack(ack).flags(flags);
                let tcp = if kind == 3 { tcp.timestamps(seq, ack).toa(ack, sport) } else { tcp };
                tcp.payload_len(payload_len)
            }
        };
        // None, router alert, or that and a record route of one address.
        packet = packet.ip_options(&[148, 4, 0, 0, 1, 7, 7, 4, 0, 0, 0, 0][..[0, 4, 12][options]]);
        packet = if df { packet.df() } else { packet };
        packet = if padded { packet.padded() } else { packet };
        vlan.into_iter().fold(packet, PacketBuilder::vlan)
    })
}

/// What `wire::parse` ought to say, from etherparse.
fn expected_kind(l4: &L4) -> Kind {
    match l4 {
        L4::Tcp(_) => Kind::Tcp,
        L4::Udp(_) => Kind::Udp,
        L4::Icmp(icmp) if icmp.icmp_type == 8 => Kind::IcmpQuery,
        L4::Icmp(icmp) if icmp.icmp_type == 0 => Kind::IcmpReply,
        L4::Icmp(_) => Kind::IcmpError,
        L4::Icmp6(_) | L4::Other => Kind::OtherIp,
    }
}

proptest! {
    #[test]
    fn parse_agrees_with_etherparse(packet in any_packet()) {
        let frame = packet.frame();
        let decoded = Decoded::check(&frame);
        let mut parsed = Parsed::default();
        prop_assert_eq!(parse(&frame, frame.len(), &mut parsed), Ok(()));
        let Net::Ipv4(header) = &decoded.net else { unreachable!() };
        prop_assert_eq!(parsed.key, header.key());
        prop_assert_eq!(parsed.lookup_key(), header.key());
        prop_assert_eq!(parsed.kind, expected_kind(&header.l4));
        prop_assert_eq!(parsed.vlan, decoded.vlan.unwrap_or(0));
        prop_assert_eq!((parsed.ttl, parsed.tos), (header.ttl, header.tos));
        prop_assert_eq!(parsed.ip_total_len, header.total_len);
        prop_assert_eq!(parsed.dont_fragment, header.df);
        let payload = &frame[usize::from(parsed.payload)..parsed.ip_end()];
        prop_assert_eq!(payload, &header.payload[..]);
        prop_assert_eq!(parsed.payload_len(), payload.len());
        if let L4::Tcp(tcp) = &header.l4 {
            prop_assert_eq!(parsed.tcp_flags, tcp.flags);
        }
        if let L4::Icmp(_) = &header.l4 {
            prop_assert_eq!(wire::verify_icmp(&frame, &parsed), Ok(()));
        }
    }

    #[test]
    fn an_error_is_keyed_by_the_reply_to_what_it_quotes(inner in any_packet(), short: bool) {
        let inner_key = Decoded::check(&inner.frame()).key();
        let error = pkt().icmp(3, 4, 1400);
        let error = if short { error.quote_short(&inner) } else { error.quote(&inner) };
        let frame = error.frame();
        let decoded = Decoded::check(&frame);
        let mut parsed = Parsed::default();
        prop_assert_eq!(parse(&frame, frame.len(), &mut parsed), Ok(()));
        prop_assert_eq!(parsed.kind, Kind::IcmpError);
        prop_assert_eq!(parsed.inner, inner_key.reversed());
        prop_assert_eq!(parsed.lookup_key(), inner_key.reversed());
        prop_assert_eq!(parsed.key, FlowKey { sport: 0, dport: 0, ..decoded.key() });
        prop_assert_eq!(&frame[usize::from(parsed.inner_l4)..], &decoded.quoted().l4[..]);
    }

    /// Cut anywhere, a frame is dropped by name; in segments of any size, it is pulled and parsed.
    #[test]
    fn truncation_is_a_verdict_and_segments_are_pulled(packet in any_packet()) {
        let frame = packet.frame();
        let mut whole = Parsed::default();
        prop_assert_eq!(parse(&frame, frame.len(), &mut whole), Ok(()));
        for len in 0..frame.len() {
            let mut parsed = Parsed::default();
            match parse(&frame[..len], len, &mut parsed) {
                Ok(()) => prop_assert!(len >= whole.ip_end(), "{len} of {}", frame.len()),
                Err(ParseError::Drop(Verdict::Malformed | Verdict::BadIpHeader)) => {}
                Err(error) => prop_assert!(false, "{error:?} at {len}"),
            }
            let mut buf = testkit::Buf::new(&frame).segmented(len);
            prop_assert_eq!(buf.parsed(), whole);
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
        let mut parsed = Parsed::default();
        let _ = parse(first, first.len() + beyond, &mut parsed);
        if parse(&frame, frame.len(), &mut parsed).is_ok() && parsed.kind != Kind::Arp {
            prop_assert!(parsed.ip_end() <= frame.len());
            prop_assert!(parsed.l3 < parsed.l4 && parsed.l4 <= parsed.payload);
            prop_assert!(usize::from(parsed.payload) <= parsed.ip_end());
            let _ = wire::verify_icmp(&frame, &parsed);
        }
    }

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..128), total: u16) {
        let mut parsed = Parsed::default();
        let _ = parse(&bytes, bytes.len().max(total.into()), &mut parsed);
    }
}
