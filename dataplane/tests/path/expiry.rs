//! Idle conns go, and both of their ends are told where the service wants it.

use flow::TimeoutSet;
use testkit::ip;
use wire::tcp;

use crate::bed::{CLIENT, Setup, Testbed, VIP};
use crate::conn::Conn;

/// Each reset carries the number that its receiver expects next, or it would be ignored.
#[test]
fn both_ends_of_an_idle_conn_are_reset() {
    let mut bed = Testbed::usual();
    let mut conn = Conn::open(&mut bed, 40_000);
    conn.client_sends(&mut bed, 100);
    conn.server_sends(&mut bed, 200);
    conn.ack(&mut bed);
    conn.server_acks(&mut bed);
    bed.after_ms(899_999);
    bed.settled();
    // The sweep goes through the table in four seconds.
    bed.after_ms(4_000);
    bed.expect("conns-1 leases-1 conn.expired+1 generated+2 sent+2 answer.reset+2");

    let (to_client, to_server) = (bed.sent(bed.wan), bed.sent(bed.lan));
    let ([to_client], [to_server]) = (&to_client[..], &to_server[..]) else { panic!() };
    let key = to_client.key();
    assert_eq!((key.src, key.sport, key.dst, key.dport), (ip(VIP), 80, ip(CLIENT), 40_000));
    assert_eq!((to_client.tcp().flags, to_client.tcp().seq), (tcp::RST, conn.server_next));
    let key = to_server.key();
    assert_eq!(((key.src, key.sport), (key.dst, key.dport)), (conn.lip, conn.rs));
    let expected = conn.client_next.wrapping_add(conn.offset);
    assert_eq!((to_server.tcp().flags, to_server.tcp().seq), (tcp::RST, expected));
}

#[test]
fn a_service_may_let_them_go_silently() {
    let mut bed = Setup::default().shop(|shop| shop.spec.reset_on_expiry = false).build();
    Conn::open(&mut bed, 40_000);
    bed.settled();
    bed.after_ms(900_000);
    bed.expect("conns-1 leases-1 conn.expired+1 resting+1 lease.rested+1");
    bed.nothing_sent();
}

#[test]
fn every_packet_of_either_side_keeps_it_alive() {
    let mut bed = Testbed::usual();
    let mut conn = Conn::open(&mut bed, 40_000);
    bed.settled();
    for _ in 0..3 {
        bed.after_ms(899_000);
        conn.server_acks(&mut bed);
        bed.after_ms(899_000);
        conn.ack(&mut bed);
    }
    bed.expect("received+6 sent+6 toa.inserted+3");
}

#[test]
fn of_a_half_open_conn_only_the_server_is_told() {
    let mut bed = Testbed::usual();
    Conn::syn(&mut bed, 40_000);
    let mut answered = Conn::syn(&mut bed, 40_001);
    answered.syn_ack(&mut bed);
    bed.settled();
    bed.after_ms(29_999);
    bed.expect("");
    bed.after_ms(1);
    // The server of the second one holds a half-open conn; a reset frees both sides' places. The client
    // may be a forged one, and hears nothing.
    bed.expect("conns-2 leases-2 half-open-2 conn.expired+2 generated+1 sent+1 answer.reset+1");
    let reset = bed.sent(bed.lan).pop().unwrap();
    assert_eq!(reset.tcp().flags, tcp::RST);
    bed.nothing_sent();
}

#[test]
fn udp_goes_silently_sooner_before_an_answer() {
    let mut bed = Testbed::usual();
    bed.through(bed.wan, bed.by_client().udp(5000, 53).payload(b"?"), bed.lan);
    let asked = bed.through(bed.wan, bed.by_client().udp(5001, 53).payload(b"?"), bed.lan);
    let key = asked.key();
    let answer = bed.by_server(key.dst).ipv4(key.dst, key.src).udp(53, key.sport);
    bed.through(bed.lan, answer.payload(b"!"), bed.wan);
    bed.settled();
    bed.after_ms(30_000);
    bed.expect("conns-1 leases-1 conn.expired+1");
    bed.after_ms(270_000);
    bed.expect("conns-1 leases-1 conn.expired+1");
    bed.nothing_sent();
}

#[test]
fn a_class_of_timeouts_is_the_services_own() {
    let mut bed = Setup::default().shop(|shop| shop.spec.timeout_class = 9).build();
    let short = TimeoutSet { tcp_established_ms: 1_000, ..TimeoutSet::default() };
    bed.workers[0].core.table.set_timeouts(9, short);
    Conn::open(&mut bed, 40_000);
    bed.settled();
    bed.after_ms(4_000);
    bed.expect("conns-1 leases-1 conn.expired+1 generated+2 sent+2 answer.reset+2");
    bed.sent(bed.wan);
}

/// Many that are idle since the same moment: all ends are told, none is lost to a full buffer.
#[test]
fn a_thousand_at_once_are_all_told() {
    let mut bed = Testbed::usual();
    for client_port in 10_000..11_000 {
        Conn::open(&mut bed, client_port);
    }
    bed.settled();
    bed.clock.advance_s(900);
    for _ in 0..1000 {
        bed.after_ms(1);
    }
    bed.expect(
        "conns-1000 leases-1000 conn.expired+1000 generated+2000 sent+2000 answer.reset+2000",
    );
    assert_eq!((bed.take(bed.wan).len(), bed.take(bed.lan).len()), (1000, 1000));
}

#[test]
fn without_a_buffer_the_conn_goes_all_the_same() {
    let mut bed = Testbed::usual();
    Conn::open(&mut bed, 40_000);
    bed.settled();
    bed.workers[0].io.buffers = 1;
    bed.after_ms(900_000);
    bed.expect(
        "conns-1 leases-1 conn.expired+1 generated+2 sent+1 answer.reset+1 drop.no-buffer+1",
    );
    assert_eq!(bed.sent(bed.wan).len(), 1);
}
