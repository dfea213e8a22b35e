//! Which server gets which conn.

use std::collections::BTreeMap;

use balance::Scheduler;
use testkit::{Decoded, ip};

use crate::bed::{self, CLIENT, RS1, RS2, SHOP, Setup, Testbed, VIP};
use crate::conn::Conn;

/// How many of the packets that have left for the servers went to each.
fn by_server(sent: &[Decoded]) -> BTreeMap<u32, usize> {
    let mut counts = BTreeMap::new();
    sent.iter().for_each(|packet| *counts.entry(packet.key().dst).or_default() += 1);
    counts
}

fn counts(first: usize, second: usize) -> BTreeMap<u32, usize> {
    BTreeMap::from([(ip(RS1), first), (ip(RS2), second)])
}

#[test]
fn rr_is_exact_one_by_one_and_in_one_burst() {
    let mut bed = Testbed::usual();
    let servers: Vec<_> = (0..100).map(|n| Conn::syn(&mut bed, 40_000 + n).rs.0).collect();
    for pair in servers.chunks(2) {
        assert_eq!(pair, [ip(RS1), ip(RS2)]);
    }
    for client_port in 50_000..50_064 {
        bed.arrive(bed.wan, bed.by_client().tcp(client_port, 80).syn());
    }
    bed.settled();
    bed.turn();
    bed.expect("received+64 sent+64 conns+64 half-open+64 leases+64 conn.opened+64");
    assert_eq!(by_server(&bed.sent(bed.lan)), counts(32, 32));
}

/// The same SYN several times in one burst opens one conn.
#[test]
fn a_syn_twice_in_a_burst_opens_once() {
    let mut bed = Testbed::usual();
    for _ in 0..3 {
        bed.arrive(bed.wan, bed.by_client().tcp(40_000, 80).syn().seq(5));
    }
    bed.turn();
    bed.expect("received+3 sent+3 conns+1 half-open+1 leases+1 conn.opened+1");
    let sent = bed.sent(bed.lan);
    assert!(sent.iter().all(|packet| packet.tcp() == sent[0].tcp()));
}

#[test]
fn wrr_is_exact_by_weight() {
    let setup = Setup::default().shop(|shop| {
        shop.spec.scheduler = Scheduler::Wrr;
        shop.servers[0].weight = 3;
    });
    let mut bed = setup.build();
    for client_port in 40_000..40_040 {
        bed.arrive(bed.wan, bed.by_client().tcp(client_port, 80).syn());
    }
    bed.turn();
    assert_eq!(by_server(&bed.sent(bed.lan)), counts(30, 10));
}

#[test]
fn a_server_of_weight_0_drains() {
    let mut bed = Testbed::usual();
    let mut conns: Vec<_> = (0..4).map(|n| Conn::open(&mut bed, 40_000 + n)).collect();
    bed.change_shop(|shop| shop.servers[0].weight = 0);
    for conn in &mut conns {
        conn.client_sends(&mut bed, 10);
        conn.server_sends(&mut bed, 10);
    }
    for n in 0..4 {
        assert_eq!(Conn::open(&mut bed, 41_000 + n).rs.0, ip(RS2));
    }
    conns[0].close(&mut bed);
    bed.change_shop(|shop| shop.servers[0].weight = 1);
    let servers: Vec<_> = (0..4).map(|n| Conn::open(&mut bed, 42_000 + n).rs.0).collect();
    assert_eq!(servers.iter().filter(|server| **server == ip(RS1)).count(), 2);
}

#[test]
fn a_client_comes_back_to_its_server() {
    let persistence = bed::persistence(24);
    let setup = Setup::default().shop(|shop| shop.spec.persistence = Some(persistence));
    let mut bed = setup.build();
    let mut server_of = |client: u32, client_port| {
        let syn = bed.by_client().ipv4(client, VIP).tcp(client_port, 80).syn();
        bed.through(bed.wan, syn, bed.lan).key().dst
    };
    let neighbour = ip(CLIENT) ^ 1;
    let first = server_of(ip(CLIENT), 1000);
    for client_port in 1001..1010 {
        assert_eq!(server_of(ip(CLIENT), client_port), first);
        assert_eq!(server_of(neighbour, client_port), first, "of the same prefix");
    }
    assert_ne!(server_of(ip("192.0.2.1"), 1000), first, "another client takes its turn");
}

/// Each packet of its own, to the next server; every answer finds the client.
#[test]
fn one_packet_udp_spreads_a_clients_packets() {
    let mut bed = Setup::default().dns(|dns| dns.spec.one_packet = true).build();
    for _ in 0..10 {
        bed.arrive(bed.wan, bed.by_client().udp(5000, 53).payload(b"?"));
    }
    bed.turn();
    bed.expect("received+10 sent+10 conns+10 leases+10 conn.opened+10");
    let asked = bed.sent(bed.lan);
    assert_eq!(by_server(&asked), counts(5, 5));
    for question in asked {
        let key = question.key();
        let answer = bed.by_server(key.dst).udp(53, key.sport).payload(b"!");
        let sent = bed.through(bed.lan, answer, bed.wan);
        assert_eq!(
            sent.key(),
            testkit::key(types::Proto::Udp, "203.0.113.10:53", "198.51.100.7:5000")
        );
    }
    bed.expect("received+10 sent+10");
    // Each conn goes as soon as one that was never answered.
    bed.after_ms(30_001);
    bed.expect("conns-10 leases-10 conn.expired+10");
}

#[test]
fn totals_are_folded_when_conns_close() {
    let mut bed = Testbed::usual();
    let mut conn = Conn::open(&mut bed, 40_000);
    conn.client_sends(&mut bed, 100);
    let reset = conn.by_server(&bed).rst();
    conn.to_client(&mut bed, reset);
    bed.after_ms(5_000);
    let totals = bed.workers[0].core.cells.service_totals(SHOP).unwrap();
    assert_eq!((totals.active, totals.inactive, totals.opened), (0, 0, 1));
    let traffic = totals.traffic;
    assert_eq!((traffic.forward_packets, traffic.forward_bytes), (3, 44 + 40 + 140));
    assert_eq!((traffic.reverse_packets, traffic.reverse_bytes), (2, 44 + 40));
}
