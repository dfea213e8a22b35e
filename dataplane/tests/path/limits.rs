//! What a client gets that cannot be served, and who goes when the table is full.

use balance::{Admin, Limits, OnNotSyn, Refusal};
use dataplane::snapshot::Policy;
use testkit::{PacketBuilder, ip};
use wire::tcp;

use crate::bed::{CLIENT, Setup, Testbed, VIP, WAN_IP};
use crate::conn::Conn;

const REFUSALS: [Refusal; 3] = [Refusal::Drop, Refusal::Reset, Refusal::Unreachable];

/// Sends what must be refused with this verdict, in the manner that the service wants.
#[track_caller]
fn refused(bed: &mut Testbed, packet: PacketBuilder, verdict: &str, refusal: Refusal) {
    bed.settled();
    bed.receive(bed.wan, packet.clone());
    match refusal {
        Refusal::Drop => bed.expect(&format!("received+1 {verdict}+1")),
        Refusal::Reset => {
            bed.expect("received+1 answered+1 generated+1 sent+1 answer.reset+1");
            let sent = bed.one(bed.wan);
            assert_eq!(sent.tcp().flags, tcp::RST | tcp::ACK, "{sent}");
            assert_eq!((sent.key().src, sent.key().dst), (ip(VIP), ip(CLIENT)));
        }
        Refusal::Unreachable => {
            bed.expect("received+1 answered+1 generated+1 sent+1 answer.icmp-error+1");
            let sent = bed.one(bed.wan);
            assert_eq!((sent.ipv4().src, sent.ipv4().dst), (ip(WAN_IP), ip(CLIENT)));
            assert_eq!((sent.icmp().icmp_type, sent.icmp().code), (3, 3));
            assert_eq!(sent.quoted().key, testkit::Decoded::check(&packet.build()).key());
        }
    }
    bed.nothing_sent();
}

#[test]
fn a_first_packet_that_is_no_syn() {
    let mut bed = Testbed::usual();
    let by_client = bed.by_client();
    let flags = [tcp::ACK, tcp::SYN | tcp::ACK, tcp::FIN | tcp::ACK, tcp::RST, tcp::PSH | tcp::ACK];
    for flags in flags {
        let packet = by_client.clone().tcp(40_000, 80).flags(flags);
        refused(&mut bed, packet, "drop.not-syn", Refusal::Drop);
    }

    let mut bed = Setup::default().shop(|shop| shop.spec.on_not_syn = OnNotSyn::Reset).build();
    bed.receive(bed.wan, by_client.clone().tcp(40_000, 80).seq(5).ack(77).payload(b"lost"));
    bed.expect("received+1 answered+1 generated+1 sent+1 answer.reset+1");
    // RFC 9293 §3.10.7.1: the number that the segment acknowledges.
    let sent = bed.one(bed.wan);
    assert_eq!((sent.tcp().flags, sent.tcp().seq), (tcp::RST, 77));
    let reset = by_client.tcp(40_000, 80).rst();
    refused(&mut bed, reset, "drop.not-syn", Refusal::Drop);
}

#[test]
fn no_server_is_left() {
    for refusal in REFUSALS {
        let setup = Setup::default()
            .shop(|shop| {
                shop.spec.on_no_server = refusal;
                shop.servers[0].weight = 0;
                shop.servers[1].admin = Admin::Drain;
            })
            .dns(|dns| {
                dns.spec.on_no_server = refusal;
                dns.servers.iter_mut().for_each(|server| server.healthy = false);
            });
        let mut bed = setup.build();
        let syn = bed.by_client().tcp(40_000, 80).syn();
        refused(&mut bed, syn, "drop.no-real-server", refusal);
        let udp_refusal = if refusal == Refusal::Reset { Refusal::Drop } else { refusal };
        let query = bed.by_client().udp(5000, 53).payload(b"?");
        refused(&mut bed, query, "drop.no-real-server", udp_refusal);
    }
}

#[test]
fn a_limit_is_reached() {
    for refusal in REFUSALS {
        let on_servers = Setup::default().shop(|shop| {
            shop.spec.on_limit = refusal;
            shop.servers.iter_mut().for_each(|server| server.limits = Limits::plain(2));
        });
        let on_service = Setup::default().shop(|shop| {
            shop.spec.on_limit = refusal;
            shop.spec.max_connections = 4;
        });
        for setup in [on_servers, on_service] {
            let mut bed = setup.build();
            let mut conns: Vec<_> = (0..4).map(|n| Conn::open(&mut bed, 40_000 + n)).collect();
            let syn = bed.by_client().tcp(50_000, 80).syn();
            refused(&mut bed, syn, "drop.conn-limit", refusal);
            // One goes, and the next one may come.
            let reset = conns[0].by_client(&bed).rst();
            conns[0].to_server(&mut bed, reset);
            bed.after_ms(5_000);
            conns[1].ack(&mut bed);
            Conn::open(&mut bed, 50_000);
        }
    }
}

#[test]
fn no_port_is_left() {
    for refusal in REFUSALS {
        let setup = Setup { l4_ports: 5000..=5003, ..Setup::default() };
        let mut bed = setup.shop(|shop| shop.spec.on_limit = refusal).build();
        for client_port in 40_000..40_008 {
            Conn::syn(&mut bed, client_port);
        }
        let syn = bed.by_client().tcp(50_000, 80).syn();
        refused(&mut bed, syn, "drop.no-lease", refusal);
    }
}

#[test]
fn further_lips_are_further_ports() {
    let lips: Vec<u32> = (0..3).map(|n| ip("198.18.0.10") + n).collect();
    let setup = Setup { l4_ports: 5000..=5000, ..Setup::default() };
    let mut bed = setup.shop(|shop| shop.spec.lips = lips.into()).build();
    let mut seen: Vec<_> =
        (0..6).map(|n| Conn::syn(&mut bed, 40_000 + n)).map(|conn| (conn.lip, conn.rs)).collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 6, "three LIPs towards each of two servers");
    let syn = bed.by_client().tcp(50_000, 80).syn();
    refused(&mut bed, syn, "drop.no-lease", Refusal::Drop);
}

#[test]
fn a_stopping_daemon_takes_no_new_conns() {
    let mut bed = Testbed::usual();
    let mut conn = Conn::open(&mut bed, 40_000);
    bed.update(|snapshot| snapshot.policy.stopping = true);
    bed.settled();
    let syn = bed.by_client().tcp(40_001, 80).syn();
    refused(&mut bed, syn, "drop.stopping", Refusal::Drop);
    conn.client_sends(&mut bed, 100);
    conn.server_sends(&mut bed, 100);
    conn.close(&mut bed);
}

#[test]
fn a_port_that_nobody_serves() {
    for reject_unserved in [false, true] {
        let policy = Policy { reject_unserved, ..Policy::default() };
        let mut bed = Setup { policy, ..Setup::default() }.build();
        let (tcp, udp) = match reject_unserved {
            true => (Refusal::Reset, Refusal::Unreachable),
            false => (Refusal::Drop, Refusal::Drop),
        };
        let syn = bed.by_client().tcp(40_000, 81).syn();
        refused(&mut bed, syn, "drop.no-service", tcp);
        let query = bed.by_client().udp(5000, 54);
        refused(&mut bed, query, "drop.no-service", udp);
        bed.settled();
        bed.receive(bed.wan, bed.by_client().ipv4(CLIENT, WAN_IP).udp(5000, 53));
        assert_eq!(bed.take(bed.wan).len(), usize::from(reject_unserved));
    }
}

/// Half-open first, then closed and closing ones, long idle ones where their service allows it.
#[test]
fn a_full_table_evicts_in_order() {
    let setup = Setup { max_connections: 4, ..Setup::default() };
    let mut bed = setup.shop(|shop| shop.spec.evict_idle = true).build();
    Conn::open(&mut bed, 40_000);
    bed.after_ms(230_000);
    let mut closing = Conn::open(&mut bed, 40_001);
    closing.client_fin(&mut bed);
    let closed = Conn::open(&mut bed, 40_002);
    let reset = closed.by_client(&bed).rst();
    closed.to_server(&mut bed, reset);
    Conn::syn(&mut bed, 40_003);
    bed.settled();

    const OPENED: &str = "received+3 sent+3 conn.opened+1 conn.evicted+1 toa.inserted+1";
    Conn::open(&mut bed, 50_000);
    bed.expect(&format!("{OPENED} half-open-1"));
    Conn::open(&mut bed, 50_001);
    bed.expect(OPENED);
    for client_port in [50_002, 50_003] {
        // Both ends of what is not over yet are told.
        bed.receive(bed.wan, bed.by_client().tcp(client_port, 80).syn());
        bed.expect(
            "received+1 sent+3 generated+2 conn.opened+1 conn.evicted+1 half-open+1 answer.reset+2",
        );
        let syn = bed.sent(bed.lan).pop().unwrap();
        let key = syn.key();
        let answer = bed.by_server(key.dst).tcp(8080, key.sport).syn();
        bed.receive(bed.lan, answer.seq(1).ack(syn.tcp().seq.wrapping_add(1)));
        bed.receive(bed.wan, bed.by_client().tcp(client_port, 80).seq(1).ack(2));
        bed.settled();
    }
    let left: Vec<_> = bed.records().iter().map(|record| record.forward.source.l4_port.0).collect();
    assert!(left.iter().all(|client_port| *client_port >= 50_000), "{left:?}");

    let syn = bed.by_client().tcp(60_000, 80).syn();
    refused(&mut bed, syn, "drop.table-full", Refusal::Drop);
}

/// The victim's own packet comes in the burst that evicts it: it must not go by the conn that takes
/// its place.
#[test]
fn the_victims_packet_in_the_same_burst_is_dropped() {
    let mut bed = Setup { max_connections: 1, ..Setup::default() }.build();
    let mut victim = Conn::syn(&mut bed, 40_000);
    victim.syn_ack(&mut bed);
    bed.settled();
    bed.arrive(bed.wan, bed.by_client().tcp(50_000, 80).syn());
    bed.arrive(bed.wan, victim.by_client(&bed).payload(b"for the first server"));
    bed.turn();
    bed.expect(
        "received+2 sent+2 drop.table-full+1 conn.opened+1 conn.evicted+1 generated+1 answer.reset+1",
    );
    let flags: Vec<_> = bed.sent(bed.lan).iter().map(|packet| packet.tcp().flags).collect();
    assert_eq!(flags, [tcp::RST, tcp::SYN]);
    bed.sent(bed.wan);
}
