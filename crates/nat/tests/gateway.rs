//! Packets of SNAT, DNAT and hairpinned conns through the rewrite, judged by etherparse.

use flow::Flow;
use nat::icmp;
use nat::rewrite::{Layout, apply, clamp_mss};
use nat::translate::flows;
use testkit::{Buf, Decoded, PacketBuilder, ip, key, pkt};
use types::{FlowKey, Proto, Verdict};
use wire::{ParseError, verify_icmp};

const INSIDE: &str = "10.0.0.5";
const WAN: &str = "203.0.113.20";
const REMOTE: &str = "198.51.100.7";
const ROUTER: &str = "192.0.2.1";

/// A conn from inside: source 10.0.0.5:5000 leaves as 203.0.113.20:30001.
fn snat(proto: Proto) -> (Flow, Flow) {
    let key = match proto {
        Proto::Icmp => key(proto, "10.0.0.5:5000", "198.51.100.7:5000"),
        _ => key(proto, "10.0.0.5:5000", "198.51.100.7:53"),
    };
    let dport = if proto == Proto::Icmp { 30_001 } else { key.dport };
    flows(key, FlowKey { src: ip(WAN), sport: 30_001, dport, ..key })
}

fn portless(proto: u8) -> (Flow, Flow) {
    let key = FlowKey { src: ip(INSIDE), dst: ip(REMOTE), proto, ..FlowKey::default() };
    flows(key, FlowKey { src: ip(WAN), ..key })
}

fn layout(packet: &mut Buf) -> Layout {
    let parsed = packet.parsed();
    Layout {
        l3: usize::from(parsed.l3),
        l4: usize::from(parsed.l4),
        ip_len: usize::from(parsed.ip_total_len),
    }
}

fn sent(builder: PacketBuilder, flow: &Flow) -> Decoded {
    let mut packet = builder.build();
    let layout = layout(&mut packet);
    apply(&mut packet, layout, flow, false, 1500).unwrap();
    Decoded::check(packet.frame())
}

fn error(builder: PacketBuilder, flow: &Flow) -> Decoded {
    let mut packet = builder.build();
    let layout = layout(&mut packet);
    icmp::translate(&mut packet, layout, flow, 0).unwrap();
    Decoded::check(packet.frame())
}

#[test]
fn tcp_and_udp_go_out_and_come_back() {
    for proto in [Proto::Tcp, Proto::Udp] {
        let (forward, reverse) = snat(proto);
        let (out, back) = (pkt().ipv4(INSIDE, REMOTE).ttl(9), pkt().ipv4(REMOTE, WAN).ttl(9));
        let (out, back) = match proto {
            Proto::Tcp => (
                out.tcp(5_000, 53).seq(7).ack(8).timestamps(1, 2),
                back.tcp(53, 30_001).seq(8).ack(7).timestamps(3, 4).sack(&[(1, 2)]),
            ),
            _ => (out.udp(5_000, 53).payload("q"), back.udp(53, 30_001).payload("a")),
        };
        let out = sent(out, &forward);
        assert_eq!(out.key(), key(proto, "203.0.113.20:30001", "198.51.100.7:53"));
        assert_eq!(out.ipv4().ttl, 8);
        let back = sent(back, &reverse);
        assert_eq!(back.key(), key(proto, "198.51.100.7:53", "10.0.0.5:5000"));
        if proto == Proto::Tcp {
            let tcp = back.tcp();
            assert_eq!((tcp.seq, tcp.ack, tcp.timestamps), (8, 7, Some((3, 4))));
            assert_eq!(tcp.sack, [(1, 2)], "the ends' own numbers, as they are");
        }
    }
}

/// RFC 5508 REQ-1: queries and their replies pass, under another identifier.
#[test]
fn rfc5508_req1_queries_get_the_mapped_identifier() {
    let (forward, reverse) = snat(Proto::Icmp);
    let out = sent(pkt().ipv4(INSIDE, REMOTE).echo_request(5_000, 9).payload("data"), &forward);
    assert_eq!((out.ipv4().src, out.icmp().ident(), out.icmp().seq()), (ip(WAN), 30_001, 9));
    let back = sent(pkt().ipv4(REMOTE, WAN).echo_reply(30_001, 9).payload("data"), &reverse);
    assert_eq!((back.ipv4().dst, back.icmp().ident(), back.icmp().seq()), (ip(INSIDE), 5_000, 9));
    assert_eq!(back.payload(), b"data");
}

#[test]
fn a_wrong_checksum_of_a_query_stays_wrong() {
    let (forward, _) = snat(Proto::Icmp);
    let mut packet = pkt().ipv4(INSIDE, REMOTE).echo_request(5_000, 9).bad_checksum().build();
    let at = layout(&mut packet);
    apply(&mut packet, at, &forward, false, 1500).unwrap();
    let sent = Decoded::of(packet.frame()).unwrap();
    assert!(sent.ipv4().checksum_ok && !sent.checksums_ok());
}

#[test]
fn protocols_without_ports_have_their_addresses_exchanged_only() {
    for proto in [47, 50, 132] {
        let (forward, reverse) = portless(proto);
        let body: Vec<u8> = (1..=40).collect();
        let out = sent(pkt().ipv4(INSIDE, REMOTE).protocol(proto).payload(&body), &forward);
        assert_eq!((out.ipv4().src, out.ipv4().protocol), (ip(WAN), proto));
        assert_eq!(out.payload(), body);
        let back = sent(pkt().ipv4(REMOTE, WAN).protocol(proto).payload(&body), &reverse);
        assert_eq!((back.ipv4().dst, back.payload()), (ip(INSIDE), &body[..]));
    }
}

/// RFC 4787 REQ-9 a, RFC 5382 REQ-8: both ends see each other's outside endpoint only.
#[test]
fn rfc4787_req9a_hairpinned_packets_exchange_both_ends() {
    let from = key(Proto::Udp, "10.0.0.5:5000", "203.0.113.20:40000");
    let into = key(Proto::Udp, "203.0.113.20:30001", "10.0.0.6:6000");
    let (forward, reverse) = flows(from, into);
    let out = sent(pkt().ipv4(INSIDE, WAN).udp(5_000, 40_000).payload("hello"), &forward);
    assert_eq!(out.key(), into);
    let back = sent(pkt().ipv4("10.0.0.6", WAN).udp(6_000, 30_001).payload("hi"), &reverse);
    assert_eq!(back.key(), from.reversed());
}

/// RFC 5508 REQ-4, RFC 4787 REQ-12, RFC 5382 REQ-9: an error from outside reaches the inside host, with
/// the packet that it sent; and from the router that sent it, so that traceroute shows the way.
#[test]
fn rfc5508_req4_errors_from_outside_come_in() {
    for proto in [Proto::Tcp, Proto::Udp, Proto::Icmp] {
        let (_, reverse) = snat(proto);
        let quoted = pkt().ipv4(WAN, REMOTE);
        let (quoted, expected) = match proto {
            Proto::Tcp => (quoted.tcp(30_001, 53).seq(77), "198.51.100.7:53"),
            Proto::Udp => (quoted.udp(30_001, 53).payload("question"), "198.51.100.7:53"),
            Proto::Icmp => (quoted.echo_request(30_001, 3), "198.51.100.7:5000"),
        };
        for (kind, code, rest) in [(11, 0, 0), (3, 1, 0), (3, 4, 1400), (12, 0, 0)] {
            for short in [false, true] {
                let sender = pkt().ipv4(ROUTER, WAN).icmp(kind, code, rest);
                let sender =
                    if short { sender.quote_short(&quoted) } else { sender.quote(&quoted) };
                let told = error(sender, &reverse);
                assert_eq!((told.ipv4().src, told.ipv4().dst), (ip(ROUTER), ip(INSIDE)));
                assert_eq!((told.icmp().icmp_type, told.icmp().code), (kind, code));
                assert_eq!(told.icmp().rest, rest);
                assert_eq!(told.quoted().key, key(proto, "10.0.0.5:5000", expected));
                assert!(told.quoted().ip_checksum_ok);
                assert_ne!(told.quoted().l4_checksum_ok, Some(false));
            }
        }
    }
}

/// RFC 5508 REQ-5: an error from inside about what came from outside goes out with the WAN IP as its
/// source (c), whoever inside it comes from.
#[test]
fn rfc5508_req5_errors_from_inside_go_out() {
    for proto in [Proto::Tcp, Proto::Udp, Proto::Icmp] {
        let (forward, _) = snat(proto);
        let quoted = pkt().ipv4(REMOTE, INSIDE);
        let (quoted, expected) = match proto {
            Proto::Tcp => (quoted.tcp(53, 5_000).seq(77), "203.0.113.20:30001"),
            Proto::Udp => (quoted.udp(53, 5_000).payload("late answer"), "203.0.113.20:30001"),
            Proto::Icmp => (quoted.echo_reply(5_000, 3), "203.0.113.20:30001"),
        };
        for sender in [INSIDE, "10.0.0.254"] {
            let told = error(pkt().ipv4(sender, REMOTE).icmp(3, 3, 0).quote(&quoted), &forward);
            assert_eq!((told.ipv4().src, told.ipv4().dst), (ip(WAN), ip(REMOTE)));
            let from = if proto == Proto::Icmp { "198.51.100.7:30001" } else { "198.51.100.7:53" };
            assert_eq!(told.quoted().key, key(proto, from, expected));
            assert_ne!(told.quoted().l4_checksum_ok, Some(false));
        }
    }
}

/// RFC 5508 REQ-7 a: an error about a hairpinned packet goes to the outside endpoint of its sender.
#[test]
fn rfc5508_req7_errors_about_hairpinned_packets_are_hairpinned() {
    let from = key(Proto::Udp, "10.0.0.5:5000", "203.0.113.20:40000");
    let (_, reverse) = flows(from, key(Proto::Udp, "203.0.113.20:30001", "10.0.0.6:6000"));
    let quoted = pkt().ipv4(WAN, "10.0.0.6").udp(30_001, 6_000).payload("hello");
    let told = error(pkt().ipv4("10.0.0.6", WAN).icmp(3, 3, 0).quote(&quoted), &reverse);
    assert_eq!((told.ipv4().src, told.ipv4().dst), (ip(WAN), ip(INSIDE)));
    assert_eq!(told.quoted().key, from);
}

#[test]
fn errors_about_protocols_without_ports_come_in() {
    let (_, reverse) = portless(50);
    let quoted = pkt().ipv4(WAN, REMOTE).protocol(50).payload([7; 60]);
    let told = error(pkt().ipv4(ROUTER, WAN).icmp(3, 4, 1400).quote(&quoted), &reverse);
    assert_eq!((told.ipv4().src, told.ipv4().dst), (ip(ROUTER), ip(INSIDE)));
    assert_eq!((told.quoted().key.src, told.quoted().key.dst), (ip(INSIDE), ip(REMOTE)));
    assert!(told.quoted().l4.iter().all(|byte| *byte == 7));
}

/// RFC 5508 REQ-3: a wrong checksum (a: of the quoted header) is not passed on; the quoted packet's
/// own is not looked at (c).
#[test]
fn rfc5508_req3_broken_errors_are_refused() {
    let verified = |builder: PacketBuilder| {
        let mut packet = builder.build();
        let parsed = packet.parsed();
        verify_icmp(packet.frame(), &parsed)
    };
    let quoted = || pkt().ipv4(WAN, REMOTE).udp(30_001, 53).payload("question");
    let sender = || pkt().ipv4(ROUTER, WAN).icmp(3, 1, 0);
    let bad = Err(ParseError::Drop(Verdict::BadIcmp));
    assert_eq!(verified(sender().quote(&quoted())), Ok(()));
    assert_eq!(verified(sender().quote(&quoted()).bad_checksum()), bad);
    assert_eq!(verified(sender().quote(&quoted().bad_ip_checksum())), bad);
    assert_eq!(verified(sender().quote(&quoted().bad_checksum())), Ok(()));
}

/// RFC 5508 REQ-3 b: what is quoted may have options before its ports.
#[test]
fn rfc5508_req3b_options_in_the_quote_are_walked_past() {
    let (_, reverse) = snat(Proto::Udp);
    let record_route = [7, 7, 4, 0, 0, 0, 0, 1];
    let quoted = pkt().ipv4(WAN, REMOTE).ip_options(&record_route).udp(30_001, 53).payload("q");
    let told = error(pkt().ipv4(ROUTER, WAN).icmp(3, 1, 0).quote(&quoted), &reverse);
    assert_eq!(told.ipv4().dst, ip(INSIDE));
    assert_eq!(told.quoted().key, key(Proto::Udp, "10.0.0.5:5000", "198.51.100.7:53"));
    assert!(told.quoted().ip_checksum_ok);
}

/// RFC 5508 REQ-3 d: extensions behind the quote (RFC 4884) stay as they are, even if they name our endpoint.
#[test]
fn rfc5508_req3d_extensions_are_left_out_of_it() {
    let (_, reverse) = snat(Proto::Udp);
    let wan = WAN.parse::<std::net::Ipv4Addr>().unwrap().octets();
    let extensions = [&[0x20, 0, 0, 0, 0, 12, 2, 1][..], &wan, &30_001_u16.to_be_bytes(), &[0; 2]];
    let extensions = extensions.concat();
    let mut payload = pkt().ipv4(WAN, REMOTE).udp(30_001, 53).payload_len(200).ip_packet();
    payload.truncate(128);
    payload.extend(&extensions);
    let told = error(pkt().ipv4(ROUTER, WAN).icmp(11, 0, 32 << 16).payload(&payload), &reverse);
    assert_eq!((told.ipv4().dst, told.icmp().rest), (ip(INSIDE), 32 << 16));
    assert_eq!(told.quoted().key, key(Proto::Udp, "10.0.0.5:5000", "198.51.100.7:53"));
    assert_eq!(told.payload()[128..], extensions);
}

#[test]
fn the_mss_of_a_syn_is_lowered_to_the_way_out() {
    let syn = || pkt().ipv4(INSIDE, REMOTE).tcp(5_000, 53).syn().seq(7);
    let clamped = |builder: PacketBuilder, most: u16| {
        let mut packet = builder.build();
        let at = layout(&mut packet);
        let changed = clamp_mss(&mut packet, at, most);
        (changed, Decoded::check(packet.frame()).tcp().mss)
    };
    assert_eq!(clamped(syn().mss(1_460), 1_412), (true, Some(1_412)));
    assert_eq!(clamped(syn().window_scale(7).mss(1_460).ack(1), 1_412), (true, Some(1_412)));
    assert_eq!(clamped(syn().mss(1_400), 1_412), (false, Some(1_400)));
    assert_eq!(clamped(syn(), 1_412), (false, None));
    let data = pkt().ipv4(INSIDE, REMOTE).tcp(5_000, 53).ack(1).mss(1_460);
    assert_eq!(clamped(data, 1_412), (false, Some(1_460)));
}

proptest::proptest! {
    /// No bytes make it panic.
    #[test]
    fn any_bytes_are_survived(
        bytes in proptest::collection::vec(proptest::arbitrary::any::<u8>(), 0..120),
        l3 in 0usize..130, l4 in 0usize..130, ip_len: usize,
    ) {
        let at = Layout { l3, l4, ip_len };
        for (forward, reverse) in [snat(Proto::Icmp), snat(Proto::Tcp), portless(47)] {
            for flow in [forward, reverse] {
                let _ = apply(&mut Buf::new(&bytes), at, &flow, false, 1500);
                let _ = icmp::translate(&mut Buf::new(&bytes), at, &flow, 0);
                let _ = clamp_mss(&mut Buf::new(&bytes), at, 1_000);
            }
        }
    }
}
