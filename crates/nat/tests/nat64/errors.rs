//! ICMP errors and what they quote, each way.

use super::*;

/// An error about a packet that went to the server, from a router behind us.
pub fn error_to_six(icmp_type: u8, code: u8, rest: u32, payload: &[u8]) -> Result<Buf, Verdict> {
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
pub fn error_to_four(icmp_type: u8, code: u8, rest: u32, payload: &[u8]) -> Result<Buf, Verdict> {
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
pub fn sent4() -> PacketBuilder {
    pkt().ipv4(LIP4, RS4).ttl(1).tcp(1025, 8080).seq(99).payload(b"data")
}

/// What went to the client.
pub fn sent6() -> PacketBuilder {
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
