//! Translation between the families, as etherparse and tshark read what comes out of it.

use std::process::Command;

use nat::nat64::{ErrorLayout, Mtus, Outcome, Settings, four_to_six, six_to_four};
use nat::rewrite::Layout;
use proptest::prelude::*;
use testkit::decoded::L4;
use testkit::{Buf, Decoded, PacketBuilder, PcapWriter, key, key6, pkt};
use types::{Address, FlowKey, FlowKey6, Now, Packet, Proto, Verdict};
use wire::{Kind, Parsed, extension};

const CLIENT6: &str = "2001:db8:c::7";
const VIP6: &str = "2001:db8:a::10";
const LIP4: &str = "198.18.0.10";
const RS4: &str = "198.18.0.121";
const MTUS: Mtus = Mtus { v4: 1500, v6: 1500 };
const PLAIN: Settings = Settings { tos: None };
const IDENT: u16 = 0x4321;

/// The key of packets from the client to the VIP, and what becomes of it.
fn keys(proto: u8) -> (FlowKey6, FlowKey) {
    let six = key6(proto, "[2001:db8:c::7]:40000", "[2001:db8:a::10]:80");
    let four = key(Proto::Tcp, "198.18.0.10:1025", "198.18.0.121:8080");
    let four_proto = if proto == 58 { 1 } else { proto };
    (six, FlowKey { proto: four_proto, ..four })
}

fn layout<A: Address>(parsed: &Parsed<A>) -> Layout {
    Layout { l3: parsed.l3.into(), l4: parsed.l4.into(), ip_len: parsed.ip_total_len.into() }
}

fn six() -> PacketBuilder {
    pkt().ipv6(CLIENT6, VIP6)
}

fn four() -> PacketBuilder {
    pkt().ipv4(RS4, LIP4)
}

/// What etherparse does not look into: fragments are parsed as such.
fn parsed6(buf: &mut Buf) -> Parsed<u128> {
    let is_part = Decoded::of(buf).is_ok_and(|decoded| {
        decoded.ipv6().fragment.is_some_and(|(_, offset, more)| offset != 0 || more)
    });
    if is_part { buf.parsed_fragment6() } else { buf.parsed6() }
}

fn parsed4(buf: &mut Buf) -> Parsed {
    let fragment = u16::from_be_bytes([buf[20], buf[21]]) & 0x3fff;
    if fragment != 0 { buf.parsed_fragment() } else { buf.parsed() }
}

fn to_four(packet: &PacketBuilder, settings: Settings) -> Result<(Buf, Outcome), Verdict> {
    let mut buf = packet.build();
    let parsed = parsed6(&mut buf);
    let (from, into) = keys(parsed.key.proto);
    let delta = six_to_four::l4_delta(&from, &into);
    six_to_four::translate(&mut buf, layout(&parsed), &into, delta, IDENT, settings)
        .map(|outcome| (buf, outcome))
}

/// From the server to its client.
fn to_six(packet: &PacketBuilder, settings: Settings) -> Result<(Buf, Outcome), Verdict> {
    let mut buf = packet.build();
    let parsed = parsed4(&mut buf);
    let six_proto = if parsed.key.proto == 1 { 58 } else { parsed.key.proto };
    let (into, from) = keys(six_proto);
    let (from, into) = (from.reversed(), into.reversed());
    let delta = four_to_six::l4_delta(&from, &into);
    four_to_six::translate(&mut buf, layout(&parsed), &into, delta, settings)
        .map(|outcome| (buf, outcome))
}

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
    let (buf, _) = to_four(&syn, Settings { tos: Some(0x20) }).unwrap();
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
    let (buf, _) = to_six(&answer, Settings { tos: Some(0) }).unwrap();
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

/// An error about a packet that went to the server, from a router behind us.
fn error_to_six(icmp_type: u8, code: u8, rest: u32, payload: &[u8]) -> Result<Buf, Verdict> {
    let packet = pkt().ipv4("198.18.9.9", LIP4).ttl(7).tos(0xc0).icmp(icmp_type, code, rest);
    let mut buf = packet.payload(payload).build();
    let parsed = buf.parsed();
    assert_eq!(parsed.kind, Kind::IcmpError);
    let proto = match parsed.inner.proto {
        1 => 58,
        other => other,
    };
    let quoted = keys(proto).0;
    let outer = (quoted.dst, quoted.src);
    let layout = ErrorLayout::from(&parsed);
    let now = four_to_six::translate_error(&mut buf, layout, outer, &quoted, MTUS, PLAIN)?;
    let parsed = buf.parsed6();
    assert_eq!(ErrorLayout::from(&parsed), now);
    assert_eq!(wire::verify_icmp6(&buf, &parsed), Ok(()));
    Ok(buf)
}

/// An error about a packet that went to the client, from a router on the way there.
fn error_to_four(icmp_type: u8, code: u8, rest: u32, payload: &[u8]) -> Result<Buf, Verdict> {
    let packet = pkt().ipv6("2001:db8:f::1", VIP6).ttl(7).tos(0xc0).icmp6(icmp_type, code, rest);
    let mut buf = packet.payload(payload).build();
    let parsed = buf.parsed6();
    assert_eq!(parsed.kind, Kind::IcmpError);
    let quoted = keys(parsed.inner.proto).1.reversed();
    let outer = (quoted.dst, quoted.src);
    let layout = ErrorLayout::from(&parsed);
    let now = six_to_four::translate_error(&mut buf, layout, outer, &quoted, MTUS, PLAIN)?;
    let parsed = buf.parsed();
    assert_eq!(ErrorLayout::from(&parsed), now);
    assert_eq!(wire::verify_icmp(&buf, &parsed), Ok(()));
    Ok(buf)
}

/// What went to the server.
fn sent4() -> PacketBuilder {
    pkt().ipv4(LIP4, RS4).ttl(1).tcp(1025, 8080).seq(99).payload(b"data")
}

/// What went to the client.
fn sent6() -> PacketBuilder {
    pkt().ipv6(VIP6, CLIENT6).ttl(1).tcp(80, 40_000).seq(99).payload(b"data")
}

#[test]
fn rfc7915_4_3_quoted_packets_of_ipv4() {
    for inner in [
        sent4(),
        sent4().udp(1025, 8080).payload(b"odd"),
        sent4().ip_options(&[148, 4, 0, 0]),
        sent4().echo_request(1025, 9).payload(b"odd"),
    ] {
        let whole = inner.ip_packet();
        let decoded = Decoded::check(&error_to_six(3, 3, 0, &whole).unwrap());
        assert_eq!((decoded.icmp6().icmp_type, decoded.icmp6().code), (1, 4));
        let (quoted, ip) = (decoded.quoted6(), decoded.ipv6());
        assert_eq!((quoted.key.src, quoted.key.dst), (keys(6).0.src, keys(6).0.dst));
        assert_eq!((quoted.hop_limit, quoted.l4_checksum_ok), (1, Some(true)), "{decoded}");
        assert_eq!((ip.hop_limit, ip.traffic_class, ip.src), (6, 0xc0, keys(6).0.dst));
        // As little as RFC 792 asks for, and any length between.
        let header = usize::from(whole[0] & 15) * 4;
        for len in header + 8..whole.len() {
            let decoded = Decoded::check(&error_to_six(11, 0, 0, &whole[..len]).unwrap());
            assert_eq!(decoded.quoted6().key, quoted.key);
            assert_eq!(decoded.quoted6().l4[..4], quoted.l4[..4]);
            assert_eq!(decoded.quoted6().l4.len(), len - header);
            assert_eq!(decoded.quoted6().payload_len, quoted.payload_len);
        }
    }
    let part = pkt()
        .ipv4(LIP4, RS4)
        .udp(1025, 8080)
        .udp_len(999)
        .payload_len(24)
        .ident(7)
        .fragment(0, true);
    let decoded = Decoded::check(&error_to_six(11, 1, 0, &part.ip_packet()).unwrap());
    assert_eq!(decoded.quoted6().fragment, Some((7, 0, true)));
    assert_eq!(decoded.icmp6().code, 1);
}

#[test]
fn rfc7915_5_3_quoted_packets_of_ipv6() {
    for inner in [
        sent6(),
        sent6().udp(80, 40_000).payload(b"odd"),
        sent6().options_header(extension::DESTINATION_OPTIONS, &[]),
        sent6().echo_reply6(80, 9).payload(b"odd"),
    ] {
        let whole = inner.ip_packet();
        let decoded = Decoded::check(&error_to_four(1, 4, 0, &whole).unwrap());
        assert_eq!((decoded.icmp().icmp_type, decoded.icmp().code), (3, 3));
        let (quoted, ip) = (decoded.quoted(), decoded.ipv4());
        assert_eq!((quoted.key.src, quoted.key.dst), (keys(6).1.dst, keys(6).1.src));
        assert_eq!((quoted.ttl, quoted.l4_checksum_ok), (1, Some(true)), "{decoded}");
        assert!(quoted.ip_checksum_ok);
        assert_eq!((ip.ttl, ip.tos, ip.src), (6, 0xc0, keys(6).1.src));
        let headers = if inner.ip_packet()[6] == 60 { 48 } else { 40 };
        for len in headers + 8..whole.len() {
            let decoded = Decoded::check(&error_to_four(3, 0, 0, &whole[..len]).unwrap());
            assert_eq!(decoded.quoted().key, quoted.key);
            assert_eq!(
                (decoded.quoted().l4.len(), decoded.quoted().total_len),
                (len - headers, quoted.total_len)
            );
        }
    }
    let part = pkt()
        .ipv6(VIP6, CLIENT6)
        .fragment6(0, true, 0xbbbb_0007)
        .udp(80, 40_000)
        .udp_len(999)
        .payload_len(24);
    let buf = error_to_four(3, 1, 0, &part.ip_packet()).unwrap();
    let inner = wire::Ipv4::at(&buf, 14 + 28).unwrap();
    assert_eq!((inner.ident(), inner.fragment()), (7, wire::ipv4::MORE_FRAGMENTS));
}

#[test]
fn errors_without_words_in_the_other_family() {
    let inner = sent4().ip_packet();
    for (icmp_type, code) in [(3, 14), (3, 16), (12, 1)] {
        assert_eq!(error_to_six(icmp_type, code, 0, &inner).unwrap_err(), Verdict::Untranslatable);
    }
    let inner = sent6().ip_packet();
    for (icmp_type, code, rest) in [(1, 5, 0), (4, 2, 0), (4, 0, 2), (4, 0, 40)] {
        let translated = error_to_four(icmp_type, code, rest, &inner);
        assert_eq!(translated.unwrap_err(), Verdict::Untranslatable);
    }
    let mtu = |buf: Buf| Decoded::check(&buf).icmp6().rest;
    assert_eq!(mtu(error_to_six(3, 4, 1400, &sent4().ip_packet()).unwrap()), 1420);
    let told = Decoded::check(&error_to_four(2, 0, 1400, &inner).unwrap());
    assert_eq!((told.icmp().icmp_type, told.icmp().code, told.icmp().seq()), (3, 4, 1380));
}

/// RFC 4443 §2.4 c: an error is no longer than 1280 bytes.
#[test]
fn a_long_quote_is_cut() {
    let inner = sent4().payload_len(1300).ip_packet();
    for len in [1180, 1212, 1213, 1280, 1340] {
        let decoded = Decoded::check(&error_to_six(3, 1, 0, &inner[..len]).unwrap());
        let expected = (len + 20 + 8 + 40).min(1280);
        assert_eq!(usize::from(decoded.ipv6().payload_len) + 40, expected);
    }
}

/// RFC 7915 §4.2, §5.2: the length by which RFC 4884 finds extensions is that of the translated quote.
#[test]
fn rfc4884_extensions_are_found_behind_the_translated_quote() {
    let extensions = [0x20, 0, 0xdf, 0xff, 0, 8, 1, 1, 1, 2, 3, 4];
    let mut inner = sent4().payload_len(300).ip_packet();
    for words in [32_usize, 33, 40] {
        inner.resize(words * 4, 0);
        let payload = [&inner[..], &extensions].concat();
        let buf = error_to_six(11, 0, (words as u32) << 16, &payload).unwrap();
        let decoded = Decoded::check(&buf);
        let told = (decoded.icmp6().rest >> 24) as usize * 8;
        let padded = (words * 4 + 20).next_multiple_of(8);
        assert_eq!((told, decoded.payload().len()), (padded, padded + extensions.len()));
        assert_eq!(decoded.payload()[told..], extensions);
        assert_eq!(decoded.quoted6().key.sport, 40_000);
    }
    let mut inner = sent6().payload_len(300).ip_packet();
    for units in [16_usize, 17, 30] {
        inner.resize(units * 8, 0);
        let payload = [&inner[..], &extensions].concat();
        let buf = error_to_four(3, 0, (units as u32) << 24, &payload).unwrap();
        let decoded = Decoded::check(&buf);
        let told = (decoded.icmp().rest >> 16 & 0xff) as usize * 4;
        assert_eq!(told, (units * 8 - 20).max(128));
        assert_eq!(decoded.payload()[told..], extensions);
        assert_eq!(decoded.quoted().key.dport, 1025);
    }
    // A length that cannot be is none.
    let buf = error_to_four(3, 0, 200 << 24, &sent6().ip_packet()).unwrap();
    assert_eq!(Decoded::check(&buf).icmp().rest, 0);
}

/// TCP, UDP or echo of any content, without options that a translation changes.
fn transport(kind: u8, packet: PacketBuilder, l4_ports: (u16, u16), six: bool) -> PacketBuilder {
    let (sport, dport) = l4_ports;
    match (kind, six) {
        (0, _) => packet.tcp(sport, dport).timestamps(1, 2),
        (1, _) => packet.udp(sport, dport),
        (2, true) => packet.echo_request6(sport, 7),
        (_, true) => packet.echo_reply6(sport, 7),
        (2, false) => packet.echo_request(sport, 7),
        (_, false) => packet.echo_reply(sport, 7),
    }
}

/// There and back: the tuple of the other family in between is `through`.
fn there_and_back6(buf: &mut Buf, through: &FlowKey) {
    let parsed = parsed6(buf);
    let from = parsed.key;
    let delta = six_to_four::l4_delta(&from, through);
    let there = six_to_four::translate(buf, layout(&parsed), through, delta, IDENT, PLAIN).unwrap();
    let delta = four_to_six::l4_delta(through, &from);
    four_to_six::translate(buf, there.layout, &from, delta, PLAIN).unwrap();
}

fn there_and_back4(buf: &mut Buf, through: &FlowKey6) {
    let parsed = parsed4(buf);
    let from = parsed.key;
    let delta = four_to_six::l4_delta(&from, through);
    let there = four_to_six::translate(buf, layout(&parsed), through, delta, PLAIN).unwrap();
    let delta = six_to_four::l4_delta(through, &from);
    six_to_four::translate(buf, there.layout, &from, delta, IDENT, PLAIN).unwrap();
}

proptest! {
    #[test]
    fn six_to_four_to_six_is_the_identity(
        kind in 0u8..4, src: u32, dst: u32, l4_ports: [u16; 4],
        payload in proptest::collection::vec(any::<u8>(), 0..300), hop_limit in 3u8.., tos: u8,
    ) {
        let [sport, dport, new_sport, new_dport] = l4_ports.map(|l4_port| l4_port.max(1));
        let packet = |hop_limit| {
            transport(kind, six().ttl(hop_limit).tos(tos), (sport, dport), true).payload(&payload)
        };
        let mut buf = packet(hop_limit).build();
        let through = FlowKey { src, dst, sport: new_sport, dport: new_dport, zone: 0, proto: 0 };
        there_and_back6(&mut buf, &through);
        prop_assert_eq!(buf.frame(), packet(hop_limit - 2).frame());
    }

    #[test]
    fn four_to_six_to_four_is_the_identity(
        kind in 0u8..4, src: u128, dst: u128, l4_ports: [u16; 4],
        payload in proptest::collection::vec(any::<u8>(), 0..300), ttl in 3u8.., tos: u8,
    ) {
        let [sport, dport, new_sport, new_dport] = l4_ports.map(|l4_port| l4_port.max(1));
        let packet = |ttl| {
            let ip = four().ttl(ttl).tos(tos).ident(IDENT);
            transport(kind, ip, (sport, dport), false).payload(&payload)
        };
        let mut buf = packet(ttl).build();
        let through = FlowKey6 { src, dst, sport: new_sport, dport: new_dport, zone: 0, proto: 0 };
        there_and_back4(&mut buf, &through);
        prop_assert_eq!(buf.frame(), packet(ttl - 2).frame());
    }

    /// Fragments keep what makes them one packet: both ways, first and later ones.
    #[test]
    fn fragments_come_back_as_they_were(ident: u16, offset in 0u16..1000, more: bool, units in 2usize..40) {
        let (offset, more) = (offset * 8, more || offset == 0);
        let packet = |ttl| {
            let ip = four().ttl(ttl).ident(ident).fragment(offset, more);
            let part = match offset {
                0 => ip.udp(8080, 1025).udp_len(9000),
                _ => ip.protocol(17),
            };
            part.payload_len(units * 8)
        };
        let mut buf = packet(9).build();
        there_and_back4(&mut buf, &keys(17).0.reversed());
        prop_assert_eq!(buf.frame(), packet(7).frame());
    }

    #[test]
    fn no_packet_makes_a_translation_panic(
        mut frame in proptest::collection::vec(any::<u8>(), 100..400),
        offsets: [u16; 5], v6: bool, icmp_type: u8, edits: [u8; 8],
    ) {
        frame[0] = if v6 { 0x60 } else { 0x45 };
        let base = if v6 { error_of(&sent6(), true) } else { error_of(&sent4(), false) };
        let mut edited = base.clone();
        for (at, byte) in edits.iter().enumerate() {
            let at = 14 + (usize::from(offsets[at % 5]) + at * 13) % (edited.len() - 14);
            edited[at] = *byte;
        }
        edited[if v6 { 54 } else { 34 }] = icmp_type;
        for bytes in [frame, edited] {
            let [l3, l4, inner_l3, inner_l4, _] = offsets.map(|offset| usize::from(offset) % bytes.len());
            let mut order = [l3, l4, inner_l3, inner_l4];
            order.sort_unstable();
            let [l3, l4, inner_l3, inner_l4] = order;
            let ip_len = bytes.len() - l3;
            for outer in [Layout { l3, l4, ip_len }, Layout { l3: 14, l4: if v6 { 54 } else { 34 }, ip_len: bytes.len() - 14 }] {
                let (inner_l3, inner_l4) = if outer.l3 == 14 { (outer.l4 + 8, outer.l4 + if v6 { 48 } else { 28 }) } else { (inner_l3, inner_l4) };
                let error = ErrorLayout { outer, inner_l3, inner_l4 };
                let (six, four) = keys(6);
                let _ = six_to_four::translate(&mut Buf::new(&bytes), outer, &four, 0, 0, PLAIN);
                let _ = four_to_six::translate(&mut Buf::new(&bytes), outer, &six, 0, PLAIN);
                let _ = six_to_four::translate_error(&mut Buf::new(&bytes), error, (1, 2), &four, MTUS, PLAIN);
                let _ = four_to_six::translate_error(&mut Buf::new(&bytes), error, (1, 2), &six, MTUS, PLAIN);
            }
        }
    }
}

fn error_of(inner: &PacketBuilder, v6: bool) -> Vec<u8> {
    if v6 {
        six().icmp6(1, 0, 0).quote(inner).frame()
    } else {
        four().icmp(3, 1, 0).quote(inner).frame()
    }
}

/// Wireshark's own code, which knows nothing of ours, finds every checksum right: IP, TCP, UDP, ICMP and
/// those of packets that are quoted whole.
#[test]
fn tshark_finds_every_checksum_right() {
    let mut frames = Vec::new();
    for payload_len in [0, 1, 2, 33, 1200] {
        for kind in 0..4 {
            let packet = transport(kind, six(), (40_000, 80), true).payload_len(payload_len);
            frames.push(to_four(&packet, PLAIN).unwrap().0);
            let packet = transport(kind, four(), (8080, 1025), false).payload_len(payload_len);
            frames.push(to_six(&packet, PLAIN).unwrap().0);
        }
        frames.push(
            to_six(&four().udp(8080, 1025).no_checksum().payload_len(payload_len), PLAIN)
                .unwrap()
                .0,
        );
        for code in [0, 3, 4, 13] {
            frames.push(
                error_to_six(
                    3,
                    code,
                    1400,
                    &sent4().payload_len(payload_len.min(1000)).ip_packet(),
                )
                .unwrap(),
            );
        }
        for (icmp_type, code) in [(1, 0), (1, 4), (2, 0), (3, 0)] {
            let inner = sent6().payload_len(payload_len.min(1000)).ip_packet();
            frames.push(error_to_four(icmp_type, code, 1400, &inner).unwrap());
        }
    }
    let folder = std::env::temp_dir().join(format!("dpnat-nat64-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("translated.pcap");
    let mut pcap = PcapWriter::create(&path).unwrap();
    for frame in &frames {
        pcap.write(Now::default(), frame).unwrap();
    }
    pcap.finish().unwrap();
    let fields = ["ip", "tcp", "udp", "icmp", "icmpv6"];
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(&path).args(["-T", "fields"]);
    for field in fields {
        tshark.args(["-e", &format!("{field}.checksum.status")]);
    }
    for protocol in ["ip", "tcp", "udp"] {
        tshark.args(["-o", &format!("{protocol}.check_checksum:TRUE")]);
    }
    let said = tshark.output();
    std::fs::remove_dir_all(&folder).unwrap();
    let said = match said {
        Ok(said) => said,
        Err(error) => return eprintln!("SKIPPED: no tshark: {error}"),
    };
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let text = String::from_utf8(said.stdout).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), frames.len());
    let mut good = 0;
    for (line, frame) in lines.iter().zip(&frames) {
        // 0 is wrong, 1 right, 2 not looked at: of what is quoted in part.
        assert!(!line.contains('0'), "{line}: {}", Decoded::of(frame).unwrap());
        good += line.matches('1').count();
    }
    assert!(good >= 2 * frames.len(), "only {good} checksums in {} frames", frames.len());
}

/// What a decoder says of L4 is used nowhere else.
#[test]
fn other_protocols_have_no_transport_to_translate() {
    assert!(matches!(Decoded::check(&six().frame()).l4(), L4::Other));
    let mut buf = six().build();
    let parsed = buf.parsed6();
    assert!(buf.pull(parsed.ip_end()));
    let translated = six_to_four::translate(&mut buf, layout(&parsed), &keys(6).1, 0, 0, PLAIN);
    assert_eq!(translated, Err(Verdict::Untranslatable));
    assert_eq!(buf, six().build(), "unchanged");
}
