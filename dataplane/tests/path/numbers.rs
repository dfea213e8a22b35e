//! Sequence numbers, SACK edges, timestamps and checksums on their way through.

use testkit::{Decoded, ip};
use wire::tcp;

use crate::bed::{RS1, SECRETS, Setup, Testbed};
use crate::conn::{CLIENT_ISN, Conn};

#[test]
fn sack_edges_are_the_clients_own() {
    let mut bed = Testbed::usual();
    let mut conn = Conn::open(&mut bed, 40_000);
    let (client, seen) = (conn.client_next, conn.client_next.wrapping_add(conn.offset));
    conn.client_next += 500;
    // The first block repeats what was acknowledged: a D-SACK (RFC 2883 §4).
    let blocks = [(seen, seen.wrapping_add(100)), (seen.wrapping_add(900), seen.wrapping_add(950))];
    let packet = conn.by_server(&bed).sack(&blocks).timestamps(1, 2);
    let sent = conn.to_client(&mut bed, packet);
    assert_eq!(sent.tcp().sack, [(client, client + 100), (client + 900, client + 950)]);
    assert_eq!(sent.tcp().timestamps, Some((1, 2)), "the client offered none");

    let own = [(conn.server_next.wrapping_sub(90), conn.server_next)];
    let packet = conn.by_client(&bed).sack(&own);
    assert_eq!(
        conn.to_server(&mut bed, packet).tcp().sack,
        own,
        "the server's numbers are its own"
    );
}

#[test]
fn timestamps_go_to_our_clock_and_come_back() {
    let mut bed = Testbed::usual();
    let conn = Conn::syn_with(&mut bed, 40_000, |syn| syn.timestamps(u32::MAX, 0));
    let ours = SECRETS.initial_timestamp(conn.lip.0, conn.rs.0, bed.now());
    let syn_ack = conn.by_server(&bed).syn().timestamps(700, ours);
    assert_eq!(conn.to_client(&mut bed, syn_ack).tcp().timestamps, Some((700, u32::MAX)));

    let ack = conn.by_client(&bed).ack(conn.server_next.wrapping_add(1)).timestamps(4, 700);
    let sent = conn.to_server(&mut bed, ack);
    assert_eq!(sent.tcp().timestamps, Some((ours.wrapping_add(5), 700)));

    // TSecr means nothing without ACK (RFC 7323 §3.2) and is left alone.
    let reset = conn.by_server(&bed).flags(tcp::RST).timestamps(701, 9);
    assert_eq!(conn.to_client(&mut bed, reset).tcp().timestamps, Some((701, 9)));
}

#[test]
fn sequence_numbers_wrap() {
    let mut bed = Testbed::usual();
    let mut conn = Conn::syn_with(&mut bed, 40_000, |syn| syn.seq(u32::MAX - 10));
    conn.syn_ack(&mut bed);
    conn.ack(&mut bed);
    for _ in 0..20 {
        conn.client_sends(&mut bed, 1000);
        conn.server_sends(&mut bed, 1000);
    }
    assert!(conn.client_next < CLIENT_ISN);
    conn.close(&mut bed);
}

#[test]
fn urgent_data_and_ecn_pass_unchanged() {
    let mut bed = Testbed::usual();
    let conn = Conn::open(&mut bed, 40_000);
    let packet = conn.by_client(&bed).urgent(3).payload(b"abc").tos(0x2b).ident(77).df();
    conn.to_server(&mut bed, packet);
    let packet = conn.by_server(&bed).flags(tcp::ACK | 0xc0).tos(0x03).window(1);
    conn.to_client(&mut bed, packet);
}

/// Checksums are changed by the difference only, so that the end that checks them finds it.
#[test]
fn a_wrong_transport_checksum_stays_wrong() {
    let mut bed = Testbed::usual();
    let conn = Conn::open(&mut bed, 40_000);
    bed.receive(bed.wan, conn.by_client(&bed).payload(b"damaged").bad_checksum());
    let sent = bed.take(bed.lan);
    let decoded = Decoded::of(sent[0].frame()).unwrap();
    assert!(decoded.ipv4().checksum_ok && !decoded.tcp().checksum_ok);

    bed.receive(bed.wan, bed.by_client().udp(5000, 53).payload(b"damaged").bad_checksum());
    let sent = bed.take(bed.lan);
    let decoded = Decoded::of(sent[0].frame()).unwrap();
    assert!(decoded.ipv4().checksum_ok && !decoded.udp().checksum_ok);
}

#[test]
fn padding_of_ethernet_is_no_payload() {
    let mut bed = Testbed::usual();
    let conn = Conn::open(&mut bed, 40_000);
    let packet = conn.by_client(&bed).padded();
    assert!(conn.to_server(&mut bed, packet).payload().is_empty());
    let packet = conn.by_server(&bed).payload(b"x").trailer(30);
    assert_eq!(conn.to_client(&mut bed, packet).payload(), b"x");
}

#[test]
fn headers_over_several_segments_are_pulled_together() {
    let mut bed = Testbed::usual();
    let conn = Conn::open(&mut bed, 40_000);
    for first_len in [1, 13, 14, 20, 34, 40, 53] {
        bed.settled();
        let packet = conn.by_client(&bed).timestamps(1, 2).payload_len(900).segmented(first_len);
        conn.to_server(&mut bed, packet);
        bed.expect("received+1 sent+1 packet.copied+1 toa.inserted+1");
    }
    bed.settled();
    let packet = conn.by_client(&bed).payload_len(1000).segmented(200);
    conn.to_server(&mut bed, packet);
    bed.expect("received+1 sent+1 toa.inserted+1");
}

/// A virtual machine on the same host leaves the checksum to an interface that the packet never meets.
#[test]
fn a_checksum_that_was_left_to_the_interface_is_finished() {
    let mut bed = Testbed::usual();
    let conn = Conn::open(&mut bed, 40_000);
    for (first_len, len) in [(60, 0), (60, 1), (61, 1000), (200, 1001), (1054, 1000)] {
        bed.settled();
        let segment = conn.by_client(&bed).payload_len(len).build();
        bed.arrive_raw(0, bed.wan, segment.with_unfinished_checksum().segmented(first_len));
        bed.turn();
        assert!(bed.one(bed.lan).tcp().checksum_ok);
        bed.expect("received+1 sent+1 packet.checksum-finished+1 toa.inserted+1");
    }
    let datagram = bed.by_client().udp(5000, 53).payload(b"odd").build();
    bed.arrive_raw(0, bed.wan, datagram.with_unfinished_checksum());
    bed.turn();
    assert!(bed.one(bed.lan).udp().checksum_ok);
}

#[test]
fn one_arm_is_the_same() {
    let mut bed = Setup { one_arm: true, ..Setup::default() }.build();
    let mut conn = Conn::syn(&mut bed, 40_000);
    assert_eq!(conn.rs.0, ip(RS1));
    conn.syn_ack(&mut bed);
    conn.ack(&mut bed);
    bed.expect("received+3 sent+3 conns+1 leases+1 conn.opened+1 toa.inserted+1");
    conn.client_sends(&mut bed, 1000);
    conn.server_sends(&mut bed, 1000);
    conn.close(&mut bed);
    bed.after_ms(5_000);
    bed.expect("received+5 sent+5 conns-1 leases-1 toa.inserted+1 conn.closed+1");
}
