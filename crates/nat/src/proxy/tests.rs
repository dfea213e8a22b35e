use proptest::prelude::*;
use testkit::{Buf, Decoded, PacketBuilder, pkt};
use types::{Packet, Verdict};

use super::*;

const V4: [(IpAddr, u16); 2] = [
    (IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 40_000),
    (IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 10)), 443),
];

fn v6() -> [(IpAddr, u16); 2] {
    [("2001:db8::1".parse().unwrap(), 1), ("2001:db8:ffff::a".parse().unwrap(), 65_535)]
}

fn header(version: Version, proto: Proto, [client, vip]: [(IpAddr, u16); 2]) -> Vec<u8> {
    let header = Header::new(version, proto, client, vip);
    assert_eq!(usize::from(header.len()), header.as_bytes().len());
    assert!(!header.is_empty());
    header.as_bytes().to_vec()
}

#[test]
fn version_1_is_a_line() {
    let line = header(Version::V1, Proto::Tcp, V4);
    assert_eq!(line, b"PROXY TCP4 192.0.2.1 203.0.113.10 40000 443\r\n");
    let line = header(Version::V1, Proto::Tcp, v6());
    assert_eq!(line, b"PROXY TCP6 2001:db8::1 2001:db8:ffff::a 1 65535\r\n");
    let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap();
    let line = header(Version::V1, Proto::Tcp, [(longest, u16::MAX); 2]);
    assert_eq!(line.len(), LEN_MAX);
    let line = header(Version::V1, Proto::Tcp, [V4[0], v6()[1]]);
    assert_eq!(line, b"PROXY UNKNOWN\r\n");
}

#[test]
fn version_2_is_binary() {
    let signature = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a";
    let v4 = b"\xc0\x00\x02\x01\xcb\x00\x71\x0a\x9c\x40\x01\xbb";
    let v6_bytes = b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\
        \x20\x01\x0d\xb8\xff\xff\0\0\0\0\0\0\0\0\0\x0a\x00\x01\xff\xff";
    for (proto, ends, fixed, rest) in [
        (Proto::Tcp, V4, b"\x21\x11\x00\x0c", &v4[..]),
        (Proto::Udp, V4, b"\x21\x12\x00\x0c", &v4[..]),
        (Proto::Tcp, v6(), b"\x21\x21\x00\x24", &v6_bytes[..]),
        (Proto::Udp, v6(), b"\x21\x22\x00\x24", &v6_bytes[..]),
        (Proto::Tcp, [V4[0], v6()[1]], b"\x21\x00\x00\x00", &[]),
    ] {
        let expected = [&signature[..], fixed, rest].concat();
        assert_eq!(header(Version::V2, proto, ends), expected, "{proto} {ends:?}");
    }
}

#[test]
fn ours_are_found_whole_with_what_is_attached() {
    for (version, ends) in
        [(Version::V1, V4), (Version::V1, v6()), (Version::V2, V4), (Version::V2, v6())]
    {
        let bytes = header(version, Proto::Tcp, ends);
        let len = bytes.len();
        assert_eq!(find(&bytes), Found::Whole(len));
        assert_eq!(find(&[&bytes[..], b"GET /"].concat()), Found::Whole(len));
        let sure = if version == Version::V1 { WORD.len() } else { SIGNATURE.len() };
        for cut in 0..len {
            let expected = if cut < sure { Found::Nothing } else { Found::Begun };
            assert_eq!(find(&bytes[..cut]), expected, "{version:?} {cut}");
        }
    }
    // A TLV counts to the header.
    let mut with_tlv = header(Version::V2, Proto::Tcp, V4);
    with_tlv[15] += 7;
    with_tlv.extend(b"\x02\x00\x04name");
    assert_eq!(find(&with_tlv), Found::Whole(35));
    assert_eq!(find(&with_tlv[..34]), Found::Begun);
    for local in [&b"\x20\x00\x00\x00"[..], b"\x21\x00\x00\x00"] {
        assert_eq!(find(&[&SIGNATURE[..], local].concat()), Found::Whole(16));
    }
    for unknown in [&b"PROXY UNKNOWN\r\n"[..], b"PROXY UNKNOWN ff::1 a b c d e\r\n"] {
        assert_eq!(find(unknown), Found::Whole(unknown.len()));
    }
}

#[test]
fn garbage_is_none() {
    let v2 = |rest: &[u8]| [&SIGNATURE[..], rest, &[0; 300]].concat();
    let lines = [
        "PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n",
        "PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n",
        "PROXY TCP4 ::1 ::2 1 2\r\n",
        "PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY SCTP 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY \u{fc} 1.2.3.4 5.6.7.8 1 2\r\n",
        "GET / HTTP/1.1\r\n",
        "",
    ];
    let long = [b"PROXY UNKNOWN".to_vec(), vec![b' '; 120], b"\r\n".to_vec()].concat();
    let binary = [&[0x11, 0x11, 0, 12][..], &[0x22, 0x11, 0, 12], &[0x21, 0x13, 0, 12]];
    let short = [&[0x21, 0x11, 0, 11][..], &[0x21, 0x22, 0, 35], &[0x21, 0x31, 0, 215]];
    let binary = binary.into_iter().chain(short).map(v2);
    for bytes in lines.map(|line| line.as_bytes().to_vec()).into_iter().chain(binary).chain([long])
    {
        assert_eq!(find(&bytes), Found::Nothing, "{}", bytes.escape_ascii());
    }
}

fn place(packet: &mut Buf) -> Place {
    let v6 = packet.frame()[14] >> 4 == 6;
    if v6 { Place::from(&packet.parsed6()) } else { Place::from(&packet.parsed()) }
}

/// The same packet of either family and protocol.
fn each(payload: &[u8]) -> [(Proto, PacketBuilder); 4] {
    let v4 = || pkt().eth(1, 2).ipv4("192.0.2.1", "203.0.113.10");
    let v6 = || pkt().eth(1, 2).ipv6("2001:db8::1", "2001:db8::2");
    let tcp = |packet: PacketBuilder| packet.tcp(1, 2).seq(7).ack(8).timestamps(3, 4);
    [
        (Proto::Tcp, tcp(v4()).payload(payload)),
        (Proto::Tcp, tcp(v6()).payload(payload)),
        (Proto::Udp, v4().udp(1, 2).payload(payload)),
        (Proto::Udp, v6().udp(1, 2).payload(payload)),
    ]
}

proptest! {
    #[test]
    fn any_bytes_are_looked_through(payload: Vec<u8>, sign in 0usize..3) {
        let lead = [&b""[..], WORD, &SIGNATURE][sign];
        let payload = [lead, &payload[..]].concat();
        if let Found::Whole(len) = find(&payload) {
            prop_assert!(len <= payload.len() && len >= 15);
        }
    }

    #[test]
    fn bytes_are_cut_out_and_put_in_and_every_sum_is_right(
        payload in proptest::collection::vec(any::<u8>(), 0..200),
        len in 0usize..200,
        data in proptest::collection::vec(any::<[u8; 2]>(), 0..20),
    ) {
        let len = len.min(payload.len());
        for (proto, packet) in each(&payload) {
            let mut packet = packet.padded().build();
            let old = place(&mut packet);
            cut(&mut packet, old, proto, len).unwrap();
            let decoded = Decoded::check(&packet);
            prop_assert_eq!(decoded.payload(), &payload[len..]);
            let new = place(&mut packet);
            prop_assert_eq!(new, Place { end: old.end - len, ..old });
            insert(&mut packet, new, proto, data.as_flattened()).unwrap();
            let expected = [data.as_flattened(), &payload[len..]].concat();
            let decoded = Decoded::check(&packet);
            prop_assert_eq!(decoded.payload(), &expected);
        }
    }

    #[test]
    fn hidden_numbers_stay_behind_the_edge(
        ack: u32, edge: u32, window: u16, blocks in proptest::collection::vec(any::<[u32; 2]>(), 0..4),
    ) {
        let blocks: Vec<_> = blocks.into_iter().map(|[left, right]| (left, right)).collect();
        let packet = pkt().eth(1, 2).ipv4("192.0.2.1", "203.0.113.10").tcp(1, 2).ack(ack);
        let packet = packet.window(window).sack(&blocks).payload(b"x");
        let mut packet = packet.build();
        let l4 = place(&mut packet).l4;
        hide(packet.bytes_mut(), l4, edge).unwrap();
        let decoded = Decoded::check(&packet);
        prop_assert!(decoded.tcp().ack.wrapping_sub(edge) as i32 >= 0);
        for (left, right) in &decoded.tcp().sack {
            prop_assert!(left.wrapping_sub(edge) as i32 >= 0 && right.wrapping_sub(edge) as i32 >= 0);
        }
    }
}

#[test]
fn a_wrong_checksum_stays_wrong() {
    for (proto, packet) in each(b"0123456789") {
        let mut packet = packet.bad_checksum().build();
        let place = place(&mut packet);
        cut(&mut packet, place, proto, 3).unwrap();
        assert!(!Decoded::of(&packet).unwrap().checksums_ok(), "{proto}");
    }
}

#[test]
fn without_room_nothing_is_put_in() {
    let built = each(b"data")[2].1.build();
    let mut tight = Buf::with_room(built.frame(), 3, 0);
    let place = place(&mut tight);
    assert_eq!(insert(&mut tight, place, Proto::Udp, b"four"), Err(Verdict::NoRoom));
    assert_eq!(tight.frame(), built.frame());
}

#[test]
fn blocks_within_the_header_go() {
    let packet = pkt().eth(1, 2).ipv4("192.0.2.1", "203.0.113.10").tcp(1, 2).ack(1_010).window(50);
    for (sack, left) in [
        (&[(1_000, 1_028)][..], vec![]),
        (&[(1_000, 1_028), (1_100, 1_200)], vec![(1_100, 1_200)]),
        (&[(1_020, 1_040)], vec![(1_028, 1_040)]),
    ] {
        let mut packet = packet.clone().sack(sack).build();
        let l4 = place(&mut packet).l4;
        hide(packet.bytes_mut(), l4, 1_028).unwrap();
        let decoded = Decoded::check(&packet);
        let tcp = decoded.tcp();
        assert_eq!((tcp.ack, tcp.window, &tcp.sack), (1_028, 32, &left));
    }
}

#[test]
fn fast_open_is_stripped() {
    let packet = pkt().eth(1, 2).ipv4("192.0.2.1", "203.0.113.10").tcp(1, 2).syn().mss(1_460);
    let options = [34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 34, 2, 4, 2];
    let mut packet = packet.tcp_options(&options).build();
    let l4 = place(&mut packet).l4;
    strip_fast_open(packet.bytes_mut(), l4).unwrap();
    let decoded = Decoded::check(&packet);
    assert_eq!(decoded.tcp().mss, Some(1_460));
    assert!(!decoded.tcp().options.contains(&34));
}
