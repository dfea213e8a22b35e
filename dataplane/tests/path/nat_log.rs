//! What a worker tells the log of NAT.

use dataplane::snapshot::{NatEvents, Policy};
use dataplane::worker::link::{Command, Import, Refused};
use dataplane::worker::nat_log::{Kind, NatRecord, RECORDS};
use flow::Local;
use nat::gateway::MappingKind;
use nat::mapping::Endpoint32;
use testkit::ip;

use crate::bed::{GatewayPlan, RS1, RULE, Setup, TIMEOUT_CLASS, Testbed, WANS};

const REMOTE: &str = "192.0.2.80";
const OTHER: &str = "192.0.2.81";

fn bed(nat_log: NatEvents, mapping: MappingKind) -> Testbed {
    let policy = Policy { nat_log, ..Policy::default() };
    let plan = GatewayPlan::default().settings(|settings| settings.mapping = mapping);
    Setup { policy, ..Setup::default() }.gateway(&plan)
}

fn out(bed: &mut Testbed, remote: &str) -> Endpoint32 {
    let packet = bed.by_inside(RS1, remote).udp(5_000, 53).payload("question");
    let sent = bed.through(bed.lan, packet, bed.wan).key();
    Endpoint32::new(sent.src, sent.sport)
}

fn told(bed: &mut Testbed) -> Vec<NatRecord> {
    std::iter::from_fn(|| bed.control[0].nat_log.pop().ok()).collect()
}

fn inside() -> Endpoint32 {
    Endpoint32::new(ip(RS1), 5_000)
}

/// RFC 6888 REQ-12: no remote is named.
#[test]
fn rfc6888_req12_mappings_are_told_as_they_come_and_go() {
    let mut bed = bed(NatEvents::Mappings, MappingKind::EndpointIndependent);
    let outside = out(&mut bed, REMOTE);
    assert_eq!(out(&mut bed, OTHER), outside);
    bed.live_ms(310_000, 10_000);
    let told = told(&mut bed);
    let kinds: Vec<_> = told.iter().map(|record| record.kind).collect();
    assert_eq!(kinds, [Kind::MappingCreated, Kind::MappingDeleted]);
    for record in &told {
        assert_eq!((record.inside, record.outside), (inside(), outside));
        assert_eq!((record.remote, record.proto), (Endpoint32::default(), 17));
    }
    assert!(told[1].tick_ms.wrapping_sub(told[0].tick_ms) >= 300_000);
}

#[test]
fn a_port_for_one_remote_is_told_like_a_mapping() {
    let mut bed = bed(NatEvents::Mappings, MappingKind::AddressAndPortDependent);
    let outside = [out(&mut bed, REMOTE), out(&mut bed, OTHER)];
    let created = told(&mut bed);
    assert_eq!(created.iter().map(|record| record.outside).collect::<Vec<_>>(), outside);
    assert!(created.iter().all(|record| record.remote == Endpoint32::default()));
    bed.live_ms(310_000, 10_000);
    let gone = told(&mut bed);
    assert_eq!(gone.len(), 2);
    assert!(gone.iter().all(|record| record.kind == Kind::MappingDeleted));
}

#[test]
fn sessions_are_told_with_all_that_they_sent() {
    let mut bed = bed(NatEvents::Sessions, MappingKind::EndpointIndependent);
    let outside = out(&mut bed, REMOTE);
    // Longer than the sweep's round, which would take the counts away.
    (0..20).for_each(|_| bed.after_ms(1_000));
    out(&mut bed, REMOTE);
    let answer = bed.by_outside(REMOTE, WANS[0]).udp(53, outside.l4_port).payload("answer");
    bed.through(bed.wan, answer, bed.lan);
    bed.live_ms(310_000, 10_000);
    let told = told(&mut bed);
    let [created, deleted] = told[..] else { panic!("{told:?}") };
    assert_eq!((created.kind, deleted.kind), (Kind::SessionCreated, Kind::SessionDeleted));
    let remote = Endpoint32::new(ip(REMOTE), 53);
    for record in [created, deleted] {
        assert_eq!((record.inside, record.outside, record.remote), (inside(), outside, remote));
    }
    assert_eq!((deleted.sent.0, deleted.received.0), (2, 1));
    assert_eq!((deleted.sent.1, deleted.received.1), (2 * 36, 34));
    assert_eq!(bed.rule_counts().forward_packets, 2);
}

/// Whoever takes over logs what it has from then on.
#[test]
fn what_comes_from_elsewhere_is_told_where_it_comes() {
    for events in [NatEvents::Mappings, NatEvents::Sessions] {
        let mut old = bed(events, MappingKind::EndpointIndependent);
        out(&mut old, REMOTE);
        out(&mut old, OTHER);
        let mut new = bed(events, MappingKind::EndpointIndependent);
        for record in old.records() {
            let local = Local { service: RULE, timeout_class: TIMEOUT_CLASS, ..Local::default() };
            let import = Import { record, local, result: Err(Refused::Pending) };
            new.command(0, Command::Import(Box::new(import)));
        }
        new.live_ms(310_000, 10_000);
        let told: Vec<Kind> = told(&mut new).iter().map(|record| record.kind).collect();
        use Kind::{MappingCreated, MappingDeleted, SessionCreated, SessionDeleted};
        match events {
            NatEvents::Mappings => assert_eq!(told, [MappingCreated, MappingDeleted]),
            _ => assert_eq!(told, [[SessionCreated; 2], [SessionDeleted; 2]].concat()),
        }
    }
}

#[test]
fn what_finds_no_room_is_counted() {
    let mut bed = bed(NatEvents::Sessions, MappingKind::EndpointIndependent);
    let remotes = |n: usize| format!("192.0.2.{}", n % 250 + 1);
    let free = bed.control[0].nat_log.buffer().capacity() - bed.control[0].nat_log.slots();
    assert_eq!(free, RECORDS);
    let lost =
        |bed: &Testbed| bed.workers[0].core.counters.values().event(counters::Event::NatLogLost);
    // Each conn comes and goes.
    let mut n = 0;
    while lost(&bed) == 0 && n < 2 * RECORDS {
        let conns = 1_000;
        for _ in 0..conns {
            let port = (n / 250 + 1_024) as u16;
            let packet = bed.by_inside(RS1, &remotes(n)).udp(port, 53).build();
            bed.arrive_raw(0, bed.lan, packet);
            n += 1;
        }
        (0..40).for_each(|_| bed.turn());
        bed.settled();
        bed.live_ms(310_000, 10_000);
    }
    assert!(lost(&bed) > 0);
    assert_eq!(told(&mut bed).len(), RECORDS);
}
