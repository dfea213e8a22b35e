//! ICMP: echo, errors that pass through the translation, errors that we make.

use testkit::{Decoded, PacketBuilder, ip, pkt};
use types::Proto;

use crate::bed::{CLIENT, LAN_IP, LIP, RS1, Setup, Testbed, VIP, WAN_IP};
use crate::conn::Conn;

/// A router beyond either side's gateway.
const ROUTER: &str = "192.0.2.77";

#[test]
fn echo_is_answered_for_every_address_of_ours() {
    let mut bed = Testbed::usual();
    for (interface, address) in
        [(bed.wan, VIP), (bed.wan, WAN_IP), (bed.lan, LIP), (bed.lan, LAN_IP)]
    {
        for ttl in [1, 64] {
            let from = if interface == bed.wan { bed.by_client() } else { bed.by_server(RS1) };
            let packet = from.ipv4(CLIENT, address).ttl(ttl).tos(0x10).echo_request(9, 3);
            bed.receive(interface, packet.payload(b"ping"));
            bed.expect("received+1 answered+1 generated+1 sent+1 answer.echo+1");
            let sent = bed.one(interface);
            assert_eq!((sent.ipv4().src, sent.ipv4().dst), (ip(address), ip(CLIENT)));
            assert_eq!((sent.ipv4().ttl, sent.ipv4().tos), (64, 0x10));
            assert_eq!((sent.icmp().icmp_type, sent.icmp().rest), (0, 9 << 16 | 3));
            assert_eq!(sent.payload(), b"ping");
        }
    }
    bed.receive(bed.wan, bed.by_client().ipv4(CLIENT, "203.0.113.99").echo_request(1, 1));
    bed.expect("received+1 drop.not-ours+1");
    bed.receive(bed.wan, bed.by_client().echo_reply(1, 1));
    bed.expect("received+1 drop.no-conn+1");
}

#[test]
fn a_flood_of_pings_is_no_flood_of_answers() {
    let mut bed = Testbed::usual();
    for _ in 0..200 {
        for _ in 0..64 {
            bed.arrive(bed.wan, bed.by_client().echo_request(1, 1));
        }
        bed.turn();
    }
    let values = bed.values();
    let answered = values.verdict(types::Verdict::Answered);
    assert!((1..=10_000).contains(&answered), "{answered}");
    assert_eq!(values.verdict(types::Verdict::ReplyLimit), 12_800 - answered);
    bed.settled();
    bed.after_ms(1);
    bed.receive(bed.wan, bed.by_client().echo_request(1, 1));
    bed.expect("received+1 answered+1 generated+1 sent+1 answer.echo+1");
    bed.one(bed.wan);
}

/// The quoted packet as it left us or reached us, built anew from what was decoded.
fn again(sent: &Decoded) -> PacketBuilder {
    let (key, ip) = (sent.key(), sent.ipv4());
    let packet = pkt().ipv4(key.src, key.dst).ttl(ip.ttl).payload(&ip.payload);
    match &ip.l4 {
        testkit::decoded::L4::Tcp(tcp) => packet
            .tcp(key.sport, key.dport)
            .seq(tcp.seq)
            .ack(tcp.ack)
            .flags(tcp.flags)
            .tcp_options(&tcp.options),
        _ => packet.udp(key.sport, key.dport),
    }
}

#[test]
fn a_servers_port_unreachable_reaches_the_client() {
    let mut bed = Testbed::usual();
    let question = bed.by_client().udp(5000, 53).payload(b"?");
    let sent = bed.through(bed.wan, question.clone(), bed.lan);
    bed.settled();
    let error = bed.by_server(RS1).icmp(3, 3, 0).quote(&again(&sent));
    let told = bed.through(bed.lan, error, bed.wan);
    bed.expect("received+1 sent+1 icmp.translated+1");
    assert_eq!((told.ipv4().src, told.ipv4().dst), (ip(VIP), ip(CLIENT)));
    assert_eq!((told.icmp().icmp_type, told.icmp().code), (3, 3));
    let quoted = told.quoted();
    assert_eq!(quoted.key, Decoded::check(&question.build()).key());
    assert!(quoted.ip_checksum_ok);
    assert_eq!(quoted.l4_checksum_ok, Some(true));
}

#[test]
fn path_mtu_discovery_works_in_both_directions() {
    let mut bed = Testbed::usual();
    let mut conn = Conn::syn(&mut bed, 40_000);
    conn.syn_ack(&mut bed);
    let large = conn.by_client(&bed).df().payload_len(1400);
    let sent = conn.to_server(&mut bed, large);
    bed.settled();
    // A router on the servers' side: 8 bytes of what does not pass were ours.
    let error = bed.by_server(RS1).ipv4(ROUTER, LIP).icmp(3, 4, 1300).quote_short(&again(&sent));
    let told = bed.through(bed.lan, error, bed.wan);
    bed.expect("received+1 sent+1 icmp.translated+1");
    assert_eq!(told.icmp().seq(), 1292);
    assert_eq!(told.quoted().seq, conn.client_next, "as the client counts");
    assert_eq!(
        told.quoted().key,
        testkit::key(Proto::Tcp, "198.51.100.7:40000", "203.0.113.10:80")
    );

    // A router on the clients' side, about the server's answer.
    let answer = conn.server_sends(&mut bed, 1400);
    bed.settled();
    let error = bed.by_client().ipv4(ROUTER, VIP).icmp(3, 4, 1280).quote(&again(&answer));
    let told = bed.through(bed.wan, error, bed.lan);
    bed.expect("received+1 sent+1 icmp.translated+1");
    assert_eq!((told.ipv4().src, told.ipv4().dst), (ip(LIP), conn.rs.0));
    assert_eq!((told.icmp().seq(), told.quoted().seq), (1280, answer.tcp().seq));
    let key = told.quoted().key;
    assert_eq!(((key.src, key.sport), (key.dst, key.dport)), (conn.rs, conn.lip));
    assert_eq!(told.quoted().l4_checksum_ok, Some(true));
}

/// RFC 5508 REQ-6, RFC 5382 REQ-10.
#[test]
fn an_error_neither_ends_nor_refreshes_a_conn() {
    let mut bed = Testbed::usual();
    let sent = bed.through(bed.wan, bed.by_client().udp(5000, 53), bed.lan);
    bed.clock.advance_ms(29_000);
    let error = bed.by_server(RS1).icmp(3, 1, 0).quote(&again(&sent));
    bed.through(bed.lan, error, bed.wan);
    bed.settled();
    bed.after_ms(1_000);
    bed.expect("conns-1 leases-1 conn.expired+1");
}

#[test]
fn errors_that_do_not_pass() {
    let mut bed = Testbed::usual();
    let question = bed.by_client().udp(5000, 53).payload(b"?");
    let sent = bed.through(bed.wan, question, bed.lan);
    bed.settled();
    let quoted = again(&sent);
    let lan = |packet: PacketBuilder| packet.quote(&quoted);
    let error = |bed: &Testbed| bed.by_server(RS1);

    bed.receive(bed.lan, lan(error(&bed).icmp(3, 3, 0)).bad_checksum());
    bed.expect("received+1 drop.bad-icmp+1");
    for icmp_type in [4, 5] {
        bed.receive(bed.lan, lan(error(&bed).icmp(icmp_type, 0, 0)));
        bed.expect("received+1 drop.bad-icmp+1");
    }
    let other = quoted.clone().udp(53, 9);
    bed.receive(bed.lan, error(&bed).icmp(3, 3, 0).quote(&other));
    bed.expect("received+1 drop.icmp-no-conn+1");
    // Whoever sent what is quoted gets the error, not another address of ours.
    bed.receive(bed.wan, lan(bed.by_client().icmp(3, 3, 0)));
    bed.expect("received+1 drop.bad-icmp+1");
    bed.receive(bed.wan, bed.by_client().icmp(3, 3, 0).payload([0x45; 12]));
    bed.expect("received+1 drop.bad-icmp+1");
    bed.nothing_sent();
}

/// Traceroute shows the node: by the address of the interface that the probe came in by.
#[test]
fn a_used_up_ttl_is_told_by_the_interfaces_own_address() {
    let mut bed = Testbed::usual();
    let conn = Conn::open(&mut bed, 40_000);
    bed.settled();
    let probe = conn.by_client(&bed).ttl(1).payload(b"probe");
    bed.receive(bed.wan, probe.clone());
    bed.expect("received+1 answered+1 generated+1 sent+1 answer.icmp-error+1");
    let told = bed.one(bed.wan);
    assert_eq!((told.ipv4().src, told.ipv4().dst), (ip(WAN_IP), ip(CLIENT)));
    assert_eq!((told.icmp().icmp_type, told.icmp().code), (11, 0));
    assert_eq!(told.quoted().key, Decoded::check(&probe.build()).key());
    assert_eq!((told.quoted().seq, told.quoted().ttl), (conn.client_next, 1), "as it came");

    bed.receive(bed.lan, conn.by_server(&bed).ttl(1));
    bed.expect("received+1 answered+1 generated+1 sent+1 answer.icmp-error+1");
    let told = bed.one(bed.lan);
    assert_eq!((told.ipv4().src, told.ipv4().dst), (ip(LAN_IP), conn.rs.0));

    let last = conn.by_client(&bed).ttl(2);
    conn.to_server(&mut bed, last);
    bed.expect("received+1 sent+1 toa.inserted+1");
}

#[test]
fn no_error_is_told_about_an_error() {
    let mut bed = Testbed::usual();
    let sent = bed.through(bed.wan, bed.by_client().udp(5000, 53), bed.lan);
    bed.settled();
    let error = bed.by_server(RS1).ttl(1).icmp(3, 3, 0).quote(&again(&sent));
    bed.receive(bed.lan, error);
    bed.expect("received+1 drop.ttl-exceeded+1");
    bed.nothing_sent();
}

#[test]
fn what_is_too_big_is_told_with_the_size_that_passes() {
    let mut bed = Setup { lan_mtu: 1400, ..Setup::default() }.build();
    let mut conn = Conn::syn(&mut bed, 40_000);
    conn.syn_ack(&mut bed);
    bed.settled();
    bed.receive(bed.wan, conn.by_client(&bed).df().payload_len(1361));
    bed.expect("received+1 answered+1 generated+1 sent+1 half-open-1 answer.icmp-error+1");
    let told = bed.one(bed.wan);
    assert_eq!((told.icmp().icmp_type, told.icmp().code), (3, 4));
    assert_eq!((told.icmp().seq(), told.ipv4().src), (1392, ip(WAN_IP)));
    assert!(told.ipv4().total_len <= 576);

    // Who may be fragmented is told nothing, and shown to the server later.
    bed.receive(bed.wan, conn.by_client(&bed).payload_len(1361));
    assert_eq!(bed.take(bed.lan).len(), 2);
    bed.expect("received+1 generated+1 sent+2 packet.fragmented+1 toa.left-out+1");
    let fits = conn.by_client(&bed).df().payload_len(1352);
    assert!(conn.to_server(&mut bed, fits).tcp().toa.is_some());

    // Without the option all of the link is the packet's.
    conn.server_sends(&mut bed, 1);
    conn.ack(&mut bed);
    let full = conn.by_client(&bed).df().payload_len(1360);
    conn.to_server(&mut bed, full);
    bed.settled();
    bed.receive(bed.wan, conn.by_client(&bed).df().payload_len(1361));
    assert_eq!(bed.one(bed.wan).icmp().seq(), 1400);
}

/// Resets and errors that we make have a common limit, so that nobody uses us as an amplifier.
#[test]
fn errors_are_limited() {
    let mut bed = Testbed::usual();
    for _ in 0..40 {
        for _ in 0..64 {
            bed.arrive(bed.wan, bed.by_client().ttl(1).udp(5000, 53));
        }
        bed.turn();
    }
    let values = bed.values();
    let answered = values.verdict(types::Verdict::Answered);
    assert!((1..=1_000).contains(&answered), "{answered}");
    assert_eq!(values.verdict(types::Verdict::TtlExceeded), 2_560 - answered);
}
