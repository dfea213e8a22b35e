//! Conns of the gateway that move to another node: their mappings and ports come along.

use dataplane::worker::link::{Command, Import, Redirects, Refused};
use flow::{LeaseKind, Local, Record, State};
use nat::gateway::{MappingKind, SourceAddress};
use nat::state::AdoptError;
use pool::wan::WanError;
use testkit::ip;
use types::{Endpoint, L4Port, Proto};

use crate::bed::{
    CLIENT, FORWARD, GatewayPlan, RS1, RS2, RULE, Setup, TIMEOUT_CLASS, Testbed, WANS,
    inside_endpoint,
};

const REMOTE: &str = "192.0.2.80";

fn plan() -> GatewayPlan {
    GatewayPlan {
        forward: Some((Proto::Tcp, 10_106..=10_106, inside_endpoint(22))),
        source: SourceAddress::Keep,
        ..GatewayPlan::default()
    }
}

fn import(bed: &mut Testbed, record: &Record) -> Result<Redirects, Refused> {
    let of_forward = record.forward.destination == Endpoint::v4(ip(WANS[0]), 10_106);
    let service = if of_forward { FORWARD } else { RULE };
    let local = Local { service, timeout_class: TIMEOUT_CLASS, ..Local::default() };
    let import = Import { record: record.clone(), local, result: Err(Refused::Pending) };
    match bed.command(0, Command::Import(Box::new(import))) {
        Command::Import(import) => import.result,
        other => panic!("{other:?}"),
    }
}

/// From inside by UDP and GRE, from outside answered and not, hairpinned, and through a port forward.
fn conns(bed: &mut Testbed) -> u16 {
    let sent = bed.by_inside(RS1, REMOTE).udp(5_000, 53);
    let mapped = bed.through(bed.lan, sent, bed.wan).key().sport;
    bed.through(bed.lan, bed.by_inside(RS1, REMOTE).protocol(47).payload("gre"), bed.wan);
    for sport in [1_000, 1_001] {
        bed.through(bed.wan, bed.by_outside(CLIENT, WANS[0]).udp(sport, mapped), bed.lan);
    }
    bed.through(bed.lan, bed.by_inside(RS1, CLIENT).udp(5_000, 1_000), bed.wan);
    bed.through(bed.lan, bed.by_inside(RS2, WANS[0]).udp(6_000, mapped), bed.lan);
    let syn = bed.by_outside(CLIENT, WANS[0]).tcp(1_000, 10_106).syn().seq(1);
    bed.through(bed.wan, syn, bed.lan);
    mapped
}

#[test]
fn what_a_gateway_has_goes_on_elsewhere() {
    let mut old = Setup::default().gateway(&plan());
    let mapped = conns(&mut old);
    let mut records = old.records();
    // A conn that was not answered needs the mapping that others hold.
    records.sort_by_key(|record| record.lease == LeaseKind::Unanswered);
    assert_eq!(records.len(), 6);
    let mut new = Setup { seed: 77, ..Setup::default() }.gateway(&plan());
    for record in &records {
        assert_eq!(import(&mut new, record), Ok(Redirects::default()), "{record:?}");
    }
    assert_eq!((new.mappings(), new.rule_counts().sessions), (2, 5));
    assert_eq!(new.counts_of(FORWARD).sessions, 1);
    let answer = new.by_outside(REMOTE, WANS[0]).udp(53, mapped);
    assert_eq!(new.through(new.wan, answer, new.lan).key().dport, 5_000);
    let more = new.by_inside(RS1, REMOTE).udp(5_000, 54);
    assert_eq!(new.through(new.lan, more, new.wan).key().sport, mapped, "the mapping itself");
    let gre = new.by_outside(REMOTE, WANS[0]).protocol(47).payload("gre");
    assert_eq!(new.through(new.wan, gre, new.lan).ipv4().dst, ip(RS1));
    for sport in [1_000, 1_001] {
        let packet = new.by_outside(CLIENT, WANS[0]).udp(sport, mapped);
        assert_eq!(new.through(new.wan, packet, new.lan).key().dst, ip(RS1));
    }
    let hello = new.by_inside(RS2, WANS[0]).udp(6_000, mapped);
    assert_eq!(new.through(new.lan, hello, new.lan).key().dst, ip(RS1));
    let reply = new.by_inside(RS1, CLIENT).tcp(22, 1_000).syn().seq(9).ack(2);
    assert_eq!(new.through(new.lan, reply, new.wan).key().sport, 10_106);
    new.live_ms(900_000, 10_000);
    assert_eq!((new.mappings(), new.rule_counts().sessions), (0, 0), "and ends as others do");
}

#[test]
fn a_record_that_contradicts_what_is_here_is_refused_by_name() {
    let mut old = Setup::default().gateway(&plan());
    conns(&mut old);
    let records = old.records();
    let out = |record: &&Record| {
        record.lease == LeaseKind::Mapping && record.forward.source == Endpoint::v4(ip(RS1), 5_000)
    };
    let record = records.iter().find(out).unwrap();
    let unanswered = records.iter().find(|r| r.lease == LeaseKind::Unanswered).unwrap();
    let mut new = Setup::default().gateway(&plan());
    let early = import(&mut new, unanswered);
    assert_eq!(early, Err(Refused::Nat(AdoptError::NoMapping)));
    assert_eq!(import(&mut new, record), Ok(Redirects::default()));
    // Another inside endpoint cannot have the same port.
    let mut stolen = record.clone();
    stolen.forward.source.l4_port = L4Port(5_001);
    stolen.reverse.new_destination.l4_port = L4Port(5_001);
    stolen.forward.destination.l4_port = L4Port(99);
    stolen.forward.new_destination.l4_port = L4Port(99);
    stolen.reverse.source.l4_port = L4Port(99);
    stolen.reverse.new_source.l4_port = L4Port(99);
    assert_eq!(import(&mut new, &stolen), Err(Refused::Nat(AdoptError::Conflict)));
    // A port that leads inside is no mapping's.
    let mut kept = stolen.clone();
    kept.proto = Proto::Tcp;
    kept.state = State::Established;
    kept.forward.new_source.l4_port = L4Port(10_106);
    kept.reverse.destination.l4_port = L4Port(10_106);
    let refused = Err(Refused::Nat(AdoptError::Port(WanError::Reserved)));
    assert_eq!(import(&mut new, &kept), refused);
    let mut elsewhere = stolen.clone();
    elsewhere.forward.new_source = Endpoint::v4(ip("203.0.113.99"), 4_000);
    elsewhere.reverse.destination = elsewhere.forward.new_source;
    assert_eq!(import(&mut new, &elsewhere), Err(Refused::Nat(AdoptError::NoAddress)));
    assert_eq!((new.mappings(), new.rule_counts().sessions), (1, 1), "nothing of them stays");
    let mut none = Setup::default().build();
    assert_eq!(import(&mut none, record), Err(Refused::Nat(AdoptError::NoRule)));
}

#[test]
fn a_port_for_one_remote_comes_along() {
    let plan = plan().settings(|s| s.mapping = MappingKind::AddressAndPortDependent);
    let mut old = Setup::default().gateway(&plan);
    let sent = old.by_inside(RS1, REMOTE).udp(5_000, 53);
    let l4_port = old.through(old.lan, sent, old.wan).key().sport;
    let record = old.records().remove(0);
    let mut new = Setup::default().gateway(&plan);
    assert_eq!(import(&mut new, &record), Ok(Redirects::default()));
    let answer = new.by_outside(REMOTE, WANS[0]).udp(53, l4_port);
    assert_eq!(new.through(new.wan, answer, new.lan).key().dport, 5_000);
    new.live_ms(900_000, 10_000);
    assert_eq!(new.rule_counts().sessions, 0);
}
