//! How conns end, and how a client begins again from the same port.

use flow::State;
use testkit::Decoded;
use wire::tcp;

use crate::bed::{Setup, Testbed};
use crate::conn::{CLIENT_ISN, Conn};

#[track_caller]
fn state(bed: &Testbed, conn: &Conn) -> State {
    let records = bed.records();
    let found = records.iter().find(|record| record.forward.source.l4_port.0 == conn.client.1);
    found.unwrap_or_else(|| panic!("{} has no conn", conn.lip_text())).state
}

#[test]
fn a_reset_of_either_side_ends_it() {
    for by_client in [true, false] {
        let mut bed = Testbed::usual();
        let conn = Conn::open(&mut bed, 40_000);
        bed.settled();
        if by_client {
            let reset = conn.by_client(&bed).flags(tcp::RST);
            conn.to_server(&mut bed, reset);
        } else {
            let reset = conn.by_server(&bed).flags(tcp::RST);
            conn.to_client(&mut bed, reset);
        }
        assert_eq!(state(&bed, &conn), State::Closed);
        bed.after_ms(5_000);
        bed.expect("received+1 sent+1 conns-1 leases-1 conn.closed+1");
    }
}

/// It is passed on for the receiver to judge, but ends nothing here (RFC 5961 §3).
#[test]
fn a_reset_out_of_the_window_changes_nothing() {
    let mut bed = Testbed::usual();
    let conn = Conn::open(&mut bed, 40_000);
    for seq in [conn.client_next.wrapping_add(100_000_000), conn.client_next.wrapping_sub(100_000)]
    {
        let reset = conn.by_client(&bed).flags(tcp::RST).seq(seq);
        conn.to_server(&mut bed, reset);
        assert_eq!(state(&bed, &conn), State::Established);
    }
}

#[test]
fn a_refused_conn_is_closed() {
    let mut bed = Testbed::usual();
    let conn = Conn::syn(&mut bed, 40_000);
    bed.settled();
    let reset = conn.by_server(&bed).seq(0).rst();
    conn.to_client(&mut bed, reset);
    bed.expect("received+1 sent+1 half-open-1");
    assert_eq!(state(&bed, &conn), State::Closed);
}

/// One side has nothing more to say, the other talks on for as long as it does.
#[test]
fn a_half_closed_conn_lives_on() {
    let mut bed = Testbed::usual();
    let mut conn = Conn::open(&mut bed, 40_000);
    conn.client_sends(&mut bed, 100);
    conn.client_fin(&mut bed);
    conn.server_acks(&mut bed);
    bed.settled();
    for _ in 0..10 {
        bed.after_ms(50_000);
        conn.server_sends(&mut bed, 1000);
        conn.ack(&mut bed);
    }
    bed.expect("received+20 sent+20");
    assert_eq!(state(&bed, &conn), State::ForwardFin);
    conn.server_fin(&mut bed);
    conn.ack(&mut bed);
    assert_eq!(state(&bed, &conn), State::Closed);

    let mut conn = Conn::open(&mut bed, 40_001);
    conn.server_fin(&mut bed);
    bed.after_ms(50_000);
    conn.client_sends(&mut bed, 1000);
    bed.after_ms(50_000);
    conn.client_sends(&mut bed, 1000);
    bed.settled();
    bed.after_ms(60_000);
    bed.expect("conns-1 leases-1 conn.expired+1 resting+1 lease.rested+1");
}

#[test]
fn both_may_close_at_once() {
    let mut bed = Testbed::usual();
    let mut conn = Conn::open(&mut bed, 40_000);
    let (client, server) = (conn.by_client(&bed).fin(), conn.by_server(&bed).fin());
    conn.to_server(&mut bed, client);
    conn.to_client(&mut bed, server);
    assert_eq!(state(&bed, &conn), State::BothFin);
    conn.client_next += 1;
    conn.server_next = conn.server_next.wrapping_add(1);
    conn.ack(&mut bed);
    conn.server_acks(&mut bed);
    assert_eq!(state(&bed, &conn), State::Closed);
}

#[test]
fn a_client_may_begin_again_from_the_same_port() {
    let mut bed = Testbed::usual();
    let mut old = Conn::open(&mut bed, 40_000);
    old.close(&mut bed);
    bed.settled();
    bed.after_ms(10);
    let mut new = Conn::syn(&mut bed, 40_000);
    bed.expect("received+1 sent+1 half-open+1 conn.reopened+1 conn.opened+1");
    assert_ne!((new.lip, new.rs), (old.lip, old.rs), "another turn of the scheduler");
    new.syn_ack(&mut bed);
    new.ack(&mut bed);
    new.client_sends(&mut bed, 10);

    // What the old server sends late is of no conn any more: it is told so, with the number it expects.
    let late = old.by_server(&bed).payload(b"late");
    bed.receive(bed.lan, late.clone());
    let reset = bed.one(bed.lan);
    assert_eq!(reset.tcp().flags, tcp::RST);
    assert_eq!(reset.tcp().seq, Decoded::check(&late.build()).tcp().ack);
    bed.nothing_sent();
    bed.expect(
        "received+4 sent+4 half-open-1 toa.inserted+2 answered+1 generated+1 answer.reset+1",
    );
}

#[test]
fn a_syn_on_a_living_conn_is_the_servers_to_answer() {
    let mut bed = Testbed::usual();
    let conn = Conn::open(&mut bed, 40_000);
    bed.settled();
    let syn = conn.by_client(&bed).flags(tcp::SYN).seq(CLIENT_ISN + 9_999);
    conn.to_server(&mut bed, syn);
    bed.expect("received+1 sent+1");
    assert_eq!(state(&bed, &conn), State::Established);
}

#[test]
fn a_syn_after_the_timeout_begins_anew_before_the_sweep_came_round() {
    let mut bed = Testbed::usual();
    Conn::open(&mut bed, 40_000);
    bed.settled();
    bed.clock.advance_s(900);
    Conn::syn(&mut bed, 40_000);
    bed.expect(
        "received+1 sent+1 half-open+1 conn.opened+1 conn.reopened+1 resting+1 lease.rested+1",
    );
}

/// The last ACK and the SYN that follows it come in one burst: each goes with its own conn or not
/// at all, never the one with the other.
#[test]
fn the_last_ack_and_the_next_syn_in_one_burst() {
    let mut bed = Testbed::usual();
    let mut old = Conn::open(&mut bed, 40_000);
    old.client_fin(&mut bed);
    old.server_fin(&mut bed);
    bed.settled();
    bed.arrive(bed.wan, old.by_client(&bed));
    let syn = bed.by_client().tcp(40_000, 80).syn().seq(old.client_next.wrapping_add(1_000));
    bed.arrive(bed.wan, syn);
    bed.turn();
    let sent = bed.sent(bed.lan);
    let syns: Vec<_> = sent.iter().filter(|packet| packet.tcp().flags == tcp::SYN).collect();
    assert_eq!(syns.len(), 1);
    for packet in sent.iter().filter(|packet| packet.tcp().flags != tcp::SYN) {
        assert_eq!((packet.key().src, packet.key().sport), old.lip, "{packet}");
        assert_eq!((packet.key().dst, packet.key().dport), old.rs, "{packet}");
    }
}

#[test]
fn flags_that_no_tcp_sends_are_dropped_on_a_conn() {
    let mut bed = Setup::default().build();
    let conn = Conn::syn(&mut bed, 40_000);
    bed.settled();
    let packet = conn.by_client(&bed).syn();
    bed.receive(bed.wan, packet);
    bed.expect("received+1 drop.bad-state+1");
    bed.receive(bed.wan, conn.by_client(&bed).flags(tcp::FIN));
    bed.expect("received+1 drop.bad-state+1");
    bed.nothing_sent();
}
