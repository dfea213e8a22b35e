//! Whole packets through the rewrite, judged by etherparse and by what DPVS sent.

use flow::{Flow, flags};
use nat::fullnat::{ClientAddress, Opening, flows};
use nat::reuse::Pair;
use nat::rewrite::{Layout, apply};
use nat::{Secrets, icmp, toa};
use testkit::{Buf, Decoded, PacketBuilder, ip, key, pkt};
use types::{Now, Proto, Verdict};

const SECRETS: Secrets = Secrets { isn: [1, 2], timestamp: [3, 4] };
const CLIENT: &str = "10.0.0.2";
const VIP: &str = "10.0.0.100";
const LIP: &str = "192.168.100.200";
const RS: &str = "192.168.100.2";

fn pair() -> Pair {
    Pair { lip: ip(LIP), lport: 1027, rs: ip(RS), rport: 8080 }
}

/// The flows of a conn whose client began with sequence number 1000 and timestamp 50.
fn conn(proto: Proto) -> (Flow, Flow) {
    let key = key(proto, "10.0.0.2:60942", "10.0.0.100:80");
    let opening = Opening { key, sequence: 1000, timestamp: Some(50) };
    let (forward, mut reverse) =
        flows(&opening, pair(), ClientAddress::Toa, &SECRETS, Now::from_ms(77_000));
    reverse.flags |= flags::REVERSE;
    (forward, reverse)
}

fn layout(packet: &mut Buf) -> Layout {
    let parsed = packet.parsed();
    Layout {
        l3: usize::from(parsed.l3),
        l4: usize::from(parsed.l4),
        ip_len: usize::from(parsed.ip_total_len),
    }
}

fn forwarded(builder: PacketBuilder, flow: &Flow, show_client: bool) -> Decoded {
    let mut packet = builder.build();
    let layout = layout(&mut packet);
    apply(&mut packet, layout, flow, show_client, 1500).unwrap();
    Decoded::check(packet.frame())
}

fn from_client() -> PacketBuilder {
    pkt().ipv4(CLIENT, VIP).ttl(64).df()
}

fn from_server() -> PacketBuilder {
    pkt().ipv4(RS, LIP).ttl(64).df()
}

#[test]
fn a_syn_gets_our_numbers_and_no_client_address() {
    let (forward, _) = conn(Proto::Tcp);
    let syn = from_client().tcp(60_942, 80).syn().seq(1000).mss(1460).sack_permitted();
    let sent = forwarded(syn.timestamps(50, 0).window_scale(10), &forward, true);
    let tcp = sent.tcp();
    assert_eq!((sent.ipv4().src, sent.ipv4().dst, sent.ipv4().ttl), (ip(LIP), ip(RS), 63));
    assert_eq!((tcp.sport, tcp.dport), (1027, 8080));
    assert_eq!(tcp.seq, SECRETS.initial_sequence(pair(), Now::from_ms(77_000)));
    let first = SECRETS.initial_timestamp(ip(LIP), ip(RS), Now::from_ms(77_000));
    assert_eq!(tcp.timestamps, Some((first, 0)));
    assert_eq!((tcp.mss, tcp.window_scale, tcp.toa), (Some(1460), Some(10), None));
}

#[test]
fn a_clients_own_option_254_is_blanked() {
    let (forward, _) = conn(Proto::Tcp);
    let syn = from_client().tcp(60_942, 80).syn().seq(1000).toa("6.6.6.6", 666);
    assert_eq!(forwarded(syn, &forward, true).tcp().options, [1; 8]);
    let ack = from_client().tcp(60_942, 80).seq(1001).ack(5).toa("6.6.6.6", 666);
    let sent = forwarded(ack, &forward, true);
    assert_eq!(sent.tcp().toa, Some((ip(CLIENT), 60_942)));
    assert_eq!(sent.tcp().options.get(8..), Some(&[1; 8][..]));
}

/// The handshake's ACK and the first data of `reference/pcaps/rs-v4-fnat-tcp-toa.pcap`, options and
/// length as DPVS sent them: 20 bytes of TCP header, then `fe 08 port address`.
#[test]
fn the_clients_address_stands_where_dpvs_puts_it() {
    let (forward, _) = conn(Proto::Tcp);
    let flow = Flow { flags: flags::TOA, ..forward };
    for payload in [0, 74] {
        let packet = from_client().tcp(60_942, 80).seq(1001).ack(5).payload_len(payload);
        let mut packet = packet.build();
        let at = layout(&mut packet);
        let outcome = apply(&mut packet, at, &flow, true, 1500).unwrap();
        assert_eq!(outcome.toa, Some(toa::Inserted::Yes));
        let frame = packet.frame();
        assert_eq!(frame[46] >> 4, 7, "data offset of 28 bytes");
        assert_eq!(frame[54..62], [0xfe, 0x08, 0xee, 0x0e, 0x0a, 0x00, 0x00, 0x02]);
        assert_eq!(usize::from(Decoded::check(frame).ipv4().total_len), 48 + payload);
    }
}

#[test]
fn the_clients_address_stays_out_without_room() {
    let (forward, _) = conn(Proto::Tcp);
    let full = from_client().tcp(60_942, 80).seq(1001).ack(5).tcp_options(&[1; 36]);
    let large = from_client().tcp(60_942, 80).seq(1001).ack(5).payload_len(1453);
    for builder in [full, large] {
        let mut packet = builder.build();
        let at = layout(&mut packet);
        let outcome = apply(&mut packet, at, &forward, true, 1500).unwrap();
        assert_eq!(outcome.toa, Some(toa::Inserted::NoRoom));
        assert_eq!(Decoded::check(packet.frame()).tcp().toa, None);
    }
    let mut packet = Buf::with_room(from_client().tcp(60_942, 80).ack(5).build().frame(), 4, 0);
    let at = layout(&mut packet);
    let outcome = apply(&mut packet, at, &forward, true, 1500).unwrap();
    assert_eq!(outcome.toa, Some(toa::Inserted::NoRoom));
}

#[test]
fn a_reset_shows_no_client() {
    let (forward, _) = conn(Proto::Tcp);
    let sent = forwarded(from_client().tcp(60_942, 80).rst().seq(1001), &forward, true);
    assert_eq!(sent.tcp().toa, None);
}

#[test]
fn answers_get_the_clients_numbers_back() {
    let (_, reverse) = conn(Proto::Tcp);
    let ours = reverse.seq_offset;
    let ts = reverse.ts_offset;
    let builder = from_server()
        .tcp(8080, 1027)
        .seq(9_000)
        .ack(ours.wrapping_add(1_500))
        .timestamps(4_000, ts.wrapping_add(60))
        .sack(&[(ours.wrapping_add(1_600), ours.wrapping_add(1_700))]);
    let sent = forwarded(builder, &reverse, false);
    let tcp = sent.tcp();
    assert_eq!((sent.ipv4().src, sent.ipv4().dst), (ip(VIP), ip(CLIENT)));
    assert_eq!((tcp.sport, tcp.dport, tcp.seq, tcp.ack), (80, 60_942, 9_000, 1_500));
    assert_eq!(tcp.timestamps, Some((4_000, 60)));
    assert_eq!(tcp.sack, [(1_600, 1_700)]);
}

#[test]
fn numbers_without_ack_are_left_alone() {
    let (_, reverse) = conn(Proto::Tcp);
    let builder = from_server().tcp(8080, 1027).rst().seq(9_000).timestamps(4_000, 7);
    let sent = forwarded(builder, &reverse, false);
    assert_eq!((sent.tcp().ack, sent.tcp().timestamps), (0, Some((4_000, 7))));
}

#[test]
fn the_servers_mss_leaves_room_for_the_clients_address() {
    let (_, reverse) = conn(Proto::Tcp);
    let ack = reverse.seq_offset.wrapping_add(1_001);
    let builder = from_server().tcp(8080, 1027).syn().ack(ack).mss(1460).sack_permitted();
    assert_eq!(forwarded(builder, &reverse, false).tcp().mss, Some(1452));
    let none = Flow { flags: reverse.flags & !flags::TOA, ..reverse };
    let builder = from_server().tcp(8080, 1027).syn().ack(ack).mss(1460);
    assert_eq!(forwarded(builder, &none, false).tcp().mss, Some(1460));
}

#[test]
fn a_wrong_checksum_stays_wrong() {
    for proto in [Proto::Tcp, Proto::Udp] {
        let (forward, _) = conn(proto);
        let builder = match proto {
            Proto::Tcp => from_client().tcp(60_942, 80).ack(5).timestamps(60, 1).bad_checksum(),
            _ => from_client().udp(60_942, 80).payload("data").bad_checksum(),
        };
        let mut packet = builder.build();
        let at = layout(&mut packet);
        apply(&mut packet, at, &forward, true, 1500).unwrap();
        let sent = Decoded::of(packet.frame()).unwrap();
        assert!(sent.ipv4().checksum_ok);
        assert!(!sent.checksums_ok(), "{proto}");
    }
}

#[test]
fn udp_without_checksum_stays_without() {
    let (forward, reverse) = conn(Proto::Udp);
    let builder = from_client().udp(60_942, 80).payload("data").no_checksum();
    let mut packet = builder.build();
    let at = layout(&mut packet);
    apply(&mut packet, at, &forward, true, 1500).unwrap();
    assert_eq!(packet.frame()[40..42], [0, 0]);
    let sent = forwarded(from_server().udp(8080, 1027).payload("x"), &reverse, false);
    assert_eq!((sent.udp().sport, sent.udp().dport), (80, 60_942));
}

#[test]
fn a_used_up_ttl_leaves_the_packet_as_it_was() {
    let (forward, _) = conn(Proto::Udp);
    for ttl in [0, 1] {
        let mut packet = from_client().ttl(ttl).udp(60_942, 80).build();
        let before = packet.frame().to_vec();
        let at = layout(&mut packet);
        assert_eq!(apply(&mut packet, at, &forward, false, 1500), Err(Verdict::TtlExceeded));
        assert_eq!(packet.frame(), before);
    }
}

fn translated_error(builder: PacketBuilder, flow: &Flow, inserted: u16) -> Decoded {
    let mut packet = builder.build();
    let at = layout(&mut packet);
    icmp::translate(&mut packet, at, flow, inserted).unwrap();
    Decoded::check(packet.frame())
}

/// A router behind us cannot pass what we sent to the real server on.
#[test]
fn an_error_about_what_we_sent_reaches_the_client() {
    let (forward, reverse) = conn(Proto::Tcp);
    let quoted = pkt().ipv4(LIP, RS).tcp(1027, 8080).ack(5);
    let quoted = quoted.seq(forward.seq_offset.wrapping_add(1_001)).payload_len(100);
    for inner_len in [true, false] {
        let error = pkt().ipv4("192.168.100.254", LIP).icmp(3, 4, 1400);
        let error = if inner_len { error.quote(&quoted) } else { error.quote_short(&quoted) };
        let sent = translated_error(error, &reverse, 8);
        assert_eq!((sent.ipv4().src, sent.ipv4().dst), (ip(VIP), ip(CLIENT)));
        let quoted = sent.quoted();
        assert_eq!(quoted.key, key(Proto::Tcp, "10.0.0.2:60942", "10.0.0.100:80"));
        assert_eq!(quoted.seq, 1_001);
        assert!(quoted.ip_checksum_ok);
        assert_ne!(quoted.l4_checksum_ok, Some(false));
        assert_eq!(sent.icmp().seq(), 1392, "room for what we insert");
    }
}

/// The client's network cannot pass on what the server sent.
#[test]
fn an_error_about_an_answer_reaches_the_server() {
    for proto in [Proto::Tcp, Proto::Udp] {
        let (forward, _) = conn(proto);
        let quoted = match proto {
            Proto::Tcp => pkt().ipv4(VIP, CLIENT).tcp(80, 60_942).seq(9_000).ack(1_500),
            _ => pkt().ipv4(VIP, CLIENT).udp(80, 60_942).payload("answer"),
        };
        let error = pkt().ipv4("172.16.0.1", VIP).icmp(3, 4, 1280).quote(&quoted);
        let sent = translated_error(error, &forward, 0);
        assert_eq!((sent.ipv4().src, sent.ipv4().dst), (ip(LIP), ip(RS)));
        let quoted = sent.quoted();
        assert_eq!(quoted.key, key(proto, "192.168.100.2:8080", "192.168.100.200:1027"));
        assert_eq!(sent.icmp().seq(), 1280);
        assert_ne!(quoted.l4_checksum_ok, Some(false));
        if proto == Proto::Tcp {
            let ack = u32::from_be_bytes(quoted.l4[8..12].try_into().unwrap());
            assert_eq!(ack, forward.seq_offset.wrapping_add(1_500));
            assert_eq!(quoted.seq, 9_000);
        }
    }
}

#[test]
fn errors_that_cannot_be_translated_say_so() {
    let (_, reverse) = conn(Proto::Udp);
    let quoted = pkt().ipv4(LIP, RS).udp(1027, 8080);
    let mut packet = pkt().ipv4(RS, LIP).icmp(3, 3, 0).quote_short(&quoted).build();
    let at = layout(&mut packet);
    let cut = Layout { ip_len: at.ip_len - 1, ..at };
    assert_eq!(icmp::translate(&mut packet, cut, &reverse, 0), Err(Verdict::BadIcmp));
    let mut packet = pkt().ipv4(RS, LIP).ttl(1).icmp(3, 3, 0).quote(&quoted).build();
    let at = layout(&mut packet);
    assert_eq!(icmp::translate(&mut packet, at, &reverse, 0), Err(Verdict::TtlExceeded));
}

proptest::proptest! {
    /// There and back again: what the server would answer reaches the client as it was sent.
    #[test]
    fn forward_and_back_is_the_identity(
        seq: u32, acknowledged: u32, val: u32, echo: u32, payload in 0usize..200,
    ) {
        let (forward, reverse) = conn(Proto::Tcp);
        let builder = from_client().tcp(60_942, 80).seq(seq).ack(acknowledged);
        let sent = forwarded(builder.timestamps(val, echo).payload_len(payload), &forward, false);
        let (there, ts) = (sent.tcp().seq, sent.tcp().timestamps.unwrap().0);
        let builder = from_server().tcp(8080, 1027).seq(acknowledged).ack(there);
        let back = forwarded(builder.timestamps(echo, ts), &reverse, false);
        proptest::prop_assert_eq!(back.tcp().ack, seq);
        proptest::prop_assert_eq!(back.tcp().timestamps, Some((echo, val)));
    }

    /// No bytes make it panic.
    #[test]
    fn any_bytes_are_survived(
        bytes in proptest::collection::vec(proptest::arbitrary::any::<u8>(), 0..120),
        l3 in 0usize..130, l4 in 0usize..130, ip_len: usize, show: bool,
    ) {
        for proto in [Proto::Tcp, Proto::Udp] {
            let (forward, reverse) = conn(proto);
            for flow in [forward, reverse] {
                let _ = apply(&mut Buf::new(&bytes), Layout { l3, l4, ip_len }, &flow, show, 1500);
                let _ = icmp::translate(&mut Buf::new(&bytes), Layout { l3, l4, ip_len }, &flow, 8);
            }
        }
    }
}

/// A flow of UDP that shows its client to the real server.
fn shown(client: &str) -> Flow {
    let opening =
        Opening { key: key(Proto::Udp, client, "10.0.0.100:53"), sequence: 0, timestamp: None };
    let pair = Pair { rport: 53, ..pair() };
    flows(&opening, pair, ClientAddress::Option, &SECRETS, Now::default()).0
}

/// Translates a client's datagram and shows its client; the frame, and what became of the option.
fn with_option(builder: PacketBuilder, mtu: usize) -> (Vec<u8>, toa::Inserted) {
    let flow = shown("10.0.0.2:51673");
    let mut packet = builder.build();
    // By hand: the parser takes no fragment, and not every option.
    let frame = packet.frame();
    let ip_len = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    let at = Layout { l3: 14, l4: 14 + usize::from(frame[14] & 15) * 4, ip_len };
    if nat::uoa::has_options(packet.frame(), at) {
        nat::uoa::blank(&mut packet, at).unwrap();
    }
    assert_eq!(apply(&mut packet, at, &flow, true, mtu).unwrap().toa, None);
    let inserted = nat::uoa::insert(&mut packet, at, (flow.src, flow.sport), mtu).unwrap();
    (packet.frame().to_vec(), inserted)
}

fn datagram() -> PacketBuilder {
    from_client().udp(51_673, 53)
}

/// The first and third datagram of `reference/pcaps/rs-v4-udp-uoa-ipo.pcap`, from the IPv4 header on as DPVS
/// sent it; DPVS leaves the TTL as it was.
#[test]
fn a_datagrams_client_stands_where_dpvs_puts_it() {
    for (ident, ip_sum, udp_sum, payload) in
        [(0xdcc1_u16, 0x1f03_u16, 0xa2af_u16, b"ping0"), (0xdcc3, 0x1f01, 0xa0af, b"ping2")]
    {
        let builder = datagram().ttl(65).ident(ident).payload(payload);
        let (frame, inserted) = with_option(builder, 1500);
        assert_eq!(inserted, toa::Inserted::Yes);
        let mut expected = vec![0x47, 0, 0, 0x29];
        expected.extend(ident.to_be_bytes());
        expected.extend([0x40, 0, 0x40, 0x11]);
        expected.extend(ip_sum.to_be_bytes());
        expected.extend([192, 168, 100, 200, 192, 168, 100, 2]);
        expected.extend([0x1f, 0x08, 0xc9, 0xd9, 0x0a, 0x00, 0x00, 0x02]);
        expected.extend([0x04, 0x03, 0x00, 0x35, 0x00, 0x0d]);
        expected.extend(udp_sum.to_be_bytes());
        expected.extend(payload);
        assert_eq!(frame[14..], expected);
        assert!(Decoded::check(&frame).udp().checksum_ok);
    }
}

#[test]
fn a_datagrams_client_stays_out_without_room() {
    let options = |frame: &[u8]| frame[34..14 + usize::from(frame[14] & 15) * 4].to_vec();
    for (builder, mtu) in [
        (datagram().payload_len(100), 135),
        (datagram().ip_options(&[1; 36]), 1500),
        // Option 31 is not for fragments: it is not copied, and only whole datagrams have ports.
        (datagram().payload_len(64).fragment(0, true), 1500),
    ] {
        let (frame, inserted) = with_option(builder, mtu);
        assert_eq!(inserted, toa::Inserted::NoRoom);
        assert!(!options(&frame).contains(&31));
    }
    assert_eq!(with_option(datagram().payload_len(100), 136).1, toa::Inserted::Yes);
}

#[test]
fn a_clients_own_option_31_is_blanked() {
    let own = [1, 31, 8, 2, 154, 6, 6, 6, 6, 148, 4, 0, 0];
    for (builder, mtu, ours) in
        [(datagram(), 1500, &[31, 8, 0xc9, 0xd9, 10, 0, 0, 2][..]), (datagram(), 28, &[])]
    {
        let (frame, _) = with_option(builder.ip_options(&own), mtu);
        let options = &frame[34..14 + usize::from(frame[14] & 15) * 4];
        assert_eq!(options[..ours.len()], *ours);
        assert_eq!(options[ours.len()..], [1, 1, 1, 1, 1, 1, 1, 1, 1, 148, 4, 0, 0, 0, 0, 0]);
        // The checksum of the header is right still, though the option began at an odd place.
        Decoded::check(&frame);
    }
    for malformed in [&[31][..], &[31, 0, 0, 0], &[31, 1, 0, 0], &[31, 9, 0, 0], &[7, 1, 31, 4]] {
        with_option(datagram().ip_options(malformed), 1500);
    }
}
