//! Several workers: whichever one a packet arrives at, the one that owns its key handles it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use balance::Persistence;
use dataplane::worker::handoff::RING;
use dataplane::worker::link::ConnFilter;
use testkit::{Decoded, PacketBuilder, ip, pkt};
use types::Verdict;

use crate::bed::{self, RS1, RS2, Setup, Testbed};
use crate::conn::Conn;

fn several(workers: u16) -> Testbed {
    Setup { workers, ..Setup::default() }.build()
}

/// A packet arrives at one of the workers, in turn, and must leave by `out`.
#[track_caller]
fn anywhere(
    bed: &mut Testbed,
    n: usize,
    (from, out): (usize, usize),
    packet: PacketBuilder,
) -> Decoded {
    let worker = n % bed.workers.len();
    bed.arrive_raw(worker, from, packet.build());
    bed.turn();
    bed.one(out)
}

#[test]
fn both_directions_of_a_conn_meet_at_one_worker() {
    for workers in [2, 3, 5] {
        let mut bed = several(workers);
        let (to_server, to_client) = ((bed.wan, bed.lan), (bed.lan, bed.wan));
        let mut counts: BTreeMap<u32, i32> = BTreeMap::new();
        for n in 0..200 {
            let client_port = 10_000 + n as u16;
            let syn = bed.by_client().tcp(client_port, 80).syn().seq(100);
            let sent = anywhere(&mut bed, n, to_server, syn);
            let (key, isn) = (sent.key(), sent.tcp().seq);
            *counts.entry(key.dst).or_default() += 1;
            let answer = bed.by_server(key.dst).tcp(8080, key.sport).syn().seq(7).ack(isn + 1);
            let sent = anywhere(&mut bed, n / 2, to_client, answer);
            assert_eq!((sent.key().dport, sent.tcp().ack), (client_port, 101));
            let ack = bed.by_client().tcp(client_port, 80).seq(101).ack(8);
            let sent = anywhere(&mut bed, n / 3, to_server, ack);
            assert_eq!(sent.key(), key);
            assert_eq!(sent.tcp().toa.map(|(_, l4_port)| l4_port), Some(client_port));
        }
        let values = bed.values();
        assert_eq!(values.verdict(Verdict::Handed), values.source(counters::Source::FromRing));
        assert!(values.verdict(Verdict::Handed) > 0);
        let conns: Vec<u32> = bed.workers.iter().map(|worker| worker.core.table.len()).collect();
        assert_eq!(conns.iter().sum::<u32>(), 200, "each on one worker: {conns:?}");
        assert!(conns.iter().all(|conns| *conns >= 200 / 2 / u32::from(workers)), "{conns:?}");
        let keys: HashSet<_> = bed.records().iter().map(|record| record.forward.source).collect();
        assert_eq!(keys.len(), 200);
        // rr over N workers: the servers' counts differ by N at most.
        let difference = counts[&ip(RS1)].abs_diff(counts[&ip(RS2)]);
        assert!(difference <= u32::from(workers), "{counts:?}");
    }
}

#[test]
fn a_packet_that_is_handed_is_counted_at_both() {
    let mut bed = several(2);
    let mut conn = Conn::open(&mut bed, 40_000);
    let owner = bed.workers.iter().position(|worker| worker.core.table.len() == 1).unwrap();
    bed.settled();
    for (worker, expected) in [
        (owner, "received+1 sent+1 toa.inserted+1"),
        (1 - owner, "received+1 handed+1 from-ring+1 sent+1 toa.inserted+1"),
    ] {
        bed.arrive_raw(worker, bed.wan, conn.by_client(&bed).build());
        bed.turn();
        bed.expect(expected);
        bed.one(bed.lan);
    }
    conn.server_sends(&mut bed, 10);
}

/// An error goes by the packet that it quotes, to the worker of that packet's conn.
#[test]
fn icmp_errors_go_to_the_conns_worker() {
    let mut bed = several(3);
    let (to_server, to_client) = ((bed.wan, bed.lan), (bed.lan, bed.wan));
    for n in 0..30 {
        let client_port = 5_000 + n as u16;
        let question = bed.by_client().udp(client_port, 53).payload(b"?");
        let key = anywhere(&mut bed, n, to_server, question).key();
        let quoted = pkt().ipv4(key.src, key.dst).udp(key.sport, key.dport).payload(b"?");
        let error = bed.by_server(key.dst).icmp(3, 3, 0).quote(&quoted);
        let told = anywhere(&mut bed, n + 1, to_client, error);
        assert_eq!(told.quoted().key.sport, client_port);

        let quoted = pkt().ipv4("203.0.113.10", "198.51.100.7").udp(53, client_port);
        let error = bed.by_client().icmp(3, 3, 0).quote(&quoted);
        let told = anywhere(&mut bed, n + 2, to_server, error);
        assert_eq!((told.quoted().key.src, told.quoted().key.dport), (key.dst, key.sport));
    }
}

#[test]
fn a_client_with_persistence_is_one_workers() {
    let persistence = bed::persistence(24);
    let setup = Setup { workers: 4, ..Setup::default() };
    let mut bed = setup.shop(|shop| shop.spec.persistence = Some(persistence)).build();
    let to_server = (bed.wan, bed.lan);
    let servers: HashSet<u32> = (0..40)
        .map(|n| {
            let client = ip("198.51.100.0") + n as u32;
            let syn = bed.by_client().ipv4(client, "203.0.113.10").tcp(1000, 80).syn();
            anywhere(&mut bed, n, to_server, syn).key().dst
        })
        .collect();
    assert_eq!(servers.len(), 1);
}

#[test]
fn a_full_ring_is_a_counted_drop() {
    let mut bed = several(2);
    let conn = Conn::open(&mut bed, 40_000);
    let owner = bed.workers.iter().position(|worker| worker.core.table.len() == 1).unwrap();
    let other = 1 - owner;
    bed.settled();
    let now = bed.now();
    for _ in 0..RING + 10 {
        bed.arrive_raw(other, bed.wan, conn.by_client(&bed).build());
        bed.workers[other].turn(now);
    }
    // Its bell counts in eight bits and may show what it showed before: the ring is found all the
    // same, as each one is looked into now and then, and is then emptied.
    for _ in 0..100 {
        bed.turn();
    }
    let (received, ring) = (RING + 10, RING);
    bed.expect(&format!(
        "received+{received} handed+{ring} drop.handoff-full+10 from-ring+{ring} sent+{ring} \
         toa.inserted+{ring}"
    ));
    assert_eq!(bed.take(bed.lan).len(), RING);
}

#[test]
fn each_worker_leases_ports_of_its_own_classes() {
    let mut bed = Setup { workers: 2, l4_ports: 5000..=5255, ..Setup::default() }.build();
    for client_port in 10_000..10_400 {
        bed.receive(bed.wan, bed.by_client().udp(client_port, 53));
    }
    let mut seen = HashSet::new();
    for packet in bed.sent(bed.lan) {
        assert!(seen.insert(packet.key()), "{packet}");
    }
    for (id, worker) in bed.workers.iter().enumerate() {
        let classes = bed.snapshot.steering.classes_of(worker.core.id);
        assert_eq!(worker.core.classes, classes, "worker {id}");
    }
    assert_eq!(bed.values().verdict(Verdict::Internal), 0);
}

fn persistent(prefix_len: u8) -> Option<Persistence> {
    Some(bed::persistence(prefix_len))
}

/// Packets of both directions of established conns, each at another worker; none may be lost.
#[track_caller]
fn all_go_on(bed: &mut Testbed, conns: &[Conn], turn: usize) {
    for (n, conn) in conns.iter().enumerate() {
        let before = Decoded::check(&conn.by_client(bed).build());
        let packet = conn.by_client(bed);
        let sent = anywhere(bed, n + turn, (bed.wan, bed.lan), packet);
        conn.judge_to_server(&before, &sent);
        let before = Decoded::check(&conn.by_server(bed).build());
        let packet = conn.by_server(bed);
        let sent = anywhere(bed, n + turn + 1, (bed.lan, bed.wan), packet);
        conn.judge_to_client(&before, &sent);
    }
}

/// Conns that only earlier steering leads to.
fn strays(bed: &mut Testbed) -> u64 {
    bed.count(ConnFilter { stray: true, ..ConnFilter::default() })
}

#[test]
fn conns_go_on_when_the_steering_of_their_vip_changes() {
    for workers in [2, 3, 4] {
        let mut bed = several(workers);
        let mut conns: Vec<Conn> = (0..24).map(|n| Conn::open(&mut bed, 10_000 + n)).collect();
        assert_eq!(strays(&mut bed), 0);
        let changes = [persistent(32), persistent(8), None, persistent(8), persistent(32), None];
        for (turn, persistence) in changes.into_iter().enumerate() {
            bed.change_shop_each(
                |shop| shop.spec.persistence = persistence,
                // While some workers run it and others do not.
                |bed| all_go_on(bed, &conns, turn),
            );
            all_go_on(&mut bed, &conns, turn);
            let fresh = 11_000 + 100 * turn as u16;
            conns.extend((0..8).map(|n| Conn::open(&mut bed, fresh + n)));
            all_go_on(&mut bed, &conns, turn + 1);
        }
        assert!(strays(&mut bed) > 0, "some are where they were");
        bed.remove_shop();
        all_go_on(&mut bed, &conns, 0);
        bed.change_shop(|shop| shop.spec.persistence = persistent(24));
        all_go_on(&mut bed, &conns, 1);
        let lost: Vec<_> = Verdict::ALL.iter().filter(|verdict| verdict.is_drop()).collect();
        assert!(lost.iter().all(|verdict| bed.values().verdict(**verdict) == 0));
        let values = bed.values();
        assert_eq!(values.verdict(Verdict::Handed), values.source(counters::Source::FromRing));

        // At their ends nothing of it is left.
        for conn in &mut conns {
            conn.close(&mut bed);
        }
        bed.after_ms(5_000);
        assert_eq!((strays(&mut bed), bed.records().len()), (0, 0));
        bed.update(|snapshot| snapshot.earlier = Arc::default());
        let conns: Vec<Conn> = (0..24).map(|n| Conn::open(&mut bed, 10_000 + n)).collect();
        all_go_on(&mut bed, &conns, 0);
        assert_eq!(strays(&mut bed), 0, "they are opened where they belong");
        let at: Vec<_> =
            bed.workers.iter().filter(|worker| !worker.core.table.is_empty()).collect();
        assert_eq!(at.len(), 1, "one client, one worker");
    }
}

#[test]
fn whoever_owned_the_key_before_is_asked_once() {
    let mut bed = several(2);
    bed.change_shop(|shop| shop.spec.persistence = persistent(0));
    let key = |client_port| Decoded::check(&bed.by_client().tcp(client_port, 80).build()).key();
    let owner = bed.snapshot.owner_of(&key(10_000)).0;
    let before = |client_port| {
        let role = steer::Role::Vip;
        bed.snapshot.steering.owner(role, &key(client_port)).0
    };
    let same = (10_000..).find(|client_port| before(*client_port) == owner).unwrap();
    let other = (10_000..).find(|client_port| before(*client_port) != owner).unwrap();
    bed.settled();
    for (client_port, hops) in [(same, 0), (other, 2)] {
        let syn = bed.by_client().tcp(client_port, 80).syn();
        bed.arrive_raw(owner.into(), bed.wan, syn.build());
        bed.turn();
        bed.one(bed.lan);
        bed.expect(&format!(
            "received+1 handed+{hops} from-ring+{hops} packet.redirected+{hops} sent+1 \
             conn.opened+1 conns+1 half-open+1 leases+1"
        ));
        assert_eq!(bed.workers[usize::from(owner)].core.table.half_open(), 1 + u32::from(hops > 0));
    }
    let stray = bed.by_client().tcp(other + 1000, 80).ack(1);
    bed.receive(bed.wan, stray);
    assert_eq!(bed.values().verdict(Verdict::NotSyn), 1);
}
