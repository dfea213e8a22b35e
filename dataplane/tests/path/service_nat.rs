//! Services in NAT mode: servers see their clients, and answer them by way of us.

use balance::Mode;
use nat::gateway::Forwarding;
use nat::rules::{Action, Match, Rule};
use testkit::{Decoded, ip};
use types::{EthPortId, Verdict};

use crate::bed::{CLIENT, GatewayPlan, RS1, RS2, RULE, Setup, Testbed, VIP, WANS};

fn setup() -> Setup {
    let nat = |plan: &mut crate::bed::Plan| {
        plan.spec.mode = Mode::Nat;
        plan.spec.lips = [].into();
    };
    Setup::default().shop(nat).dns(nat)
}

fn bed() -> Testbed {
    setup().gateway(&GatewayPlan::default())
}

/// A SYN to the service; as a server gets it.
fn syn(bed: &mut Testbed, sport: u16) -> Decoded {
    let packet = bed.by_client().tcp(sport, 80).syn();
    bed.through(bed.wan, packet, bed.lan)
}

#[test]
fn a_server_sees_its_client_and_answers_by_us() {
    let mut bed = bed();
    let there = syn(&mut bed, 40_000);
    let key = there.key();
    assert_eq!((key.src, key.sport), (ip(CLIENT), 40_000));
    assert!([RS1, RS2].map(ip).contains(&key.dst));
    assert_eq!(key.dport, 8080);
    bed.expect("received+1 sent+1 conn.opened+1 conns+1 half-open+1");
    let server = if key.dst == ip(RS1) { RS1 } else { RS2 };
    let answer = bed.by_inside(server, CLIENT).tcp(8080, 40_000).flags(0x12);
    let back = bed.through(bed.lan, answer, bed.wan).key();
    assert_eq!((back.src, back.sport), (ip(VIP), 80));
    assert_eq!((back.dst, back.dport), (ip(CLIENT), 40_000));
    assert_eq!(bed.mappings(), 0);
}

#[test]
fn datagrams_have_no_lease_and_come_back() {
    let mut bed = bed();
    let question = bed.by_client().udp(5_000, 53).payload("question");
    let there = bed.through(bed.wan, question, bed.lan).key();
    assert_eq!((there.src, there.dport), (ip(CLIENT), 53));
    let server = if there.dst == ip(RS1) { RS1 } else { RS2 };
    let answer = bed.by_inside(server, CLIENT).udp(53, 5_000).payload("answer");
    let back = bed.through(bed.lan, answer, bed.wan).key();
    assert_eq!((back.src, back.sport, back.dport), (ip(VIP), 53, 5_000));
    bed.live_ms(310_000, 10_000);
    assert_eq!(bed.workers[0].core.leases.totals().taken, 0);
    assert_eq!(bed.workers[0].core.table.len(), 0);
}

/// What the server opens by itself is SNAT's, not the service's.
#[test]
fn a_server_that_opens_a_conn_itself_gets_a_wan_ip() {
    let mut bed = bed();
    let packet = bed.by_inside(RS1, CLIENT).tcp(8080, 443).syn();
    let sent = bed.through(bed.lan, packet, bed.wan).key();
    assert_eq!(sent.src, ip(WANS[0]));
}

#[test]
fn an_answer_to_nobody_is_dropped_and_a_repeated_syn_is_of_its_conn() {
    let mut bed = bed();
    let first = syn(&mut bed, 40_000).key();
    bed.settled();
    assert_eq!(syn(&mut bed, 40_000).key(), first);
    bed.receive(bed.lan, bed.by_inside(RS1, "198.51.100.99").tcp(8080, 40_000).flags(0x12));
    bed.expect("received+2 sent+1 drop.not-syn+1");
}

/// A port forward to several servers, which is a service on a WAN IP.
fn forwarded(forwarding: Forwarding) -> Testbed {
    let mut bed = setup().gateway(&GatewayPlan { forwarding, ..GatewayPlan::default() });
    let shop = bed.shop.clone();
    let key = balance::ServiceKey { address: WANS[0].parse().unwrap(), ..shop.key() };
    bed.update(|snapshot| {
        snapshot.services = snapshot.services.with([(key, Some(shop.compiled()))]);
    });
    bed.settled();
    bed
}

fn connect(bed: &mut Testbed, sport: u16) {
    let syn = bed.by_client().ipv4(CLIENT, WANS[0]).tcp(sport, 80).syn();
    bed.receive(bed.wan, syn);
}

/// Rules of forwarding are asked for the server that was chosen, as for that of a forward to one.
#[test]
fn forwarding_is_asked_for_forwards_to_several_servers() {
    let to = |server: &str| Rule {
        slot: RULE,
        matching: Match {
            destinations: vec![ip(server)..=ip(server)],
            destination_ports: vec![8080..=8080],
            out_dev: Some(EthPortId(1)),
            ..Match::default()
        },
        except: Match::default(),
        action: Action::Accept,
    };
    let rules = vec![to(RS1)];
    let mut bed = forwarded(Forwarding { rules, policy: Action::Drop });
    let mut seen = Vec::new();
    for sport in 1_000..1_004 {
        connect(&mut bed, sport);
        seen.extend(bed.sent(bed.lan).iter().map(|sent| sent.key().dst));
    }
    assert_eq!(seen, [ip(RS1); 2]);
    bed.expect("received+4 sent+2 drop.forward-denied+2 conn.opened+2 conns+2 half-open+2");

    // Nobody is accepted, or a rule refuses one and says so.
    let mut bed = forwarded(Forwarding { rules: Vec::new(), policy: Action::Drop });
    connect(&mut bed, 1_000);
    bed.expect("received+1 drop.forward-denied+1");
    let reject = Rule { action: Action::Reject, ..to(RS2) };
    let mut bed = forwarded(Forwarding { rules: vec![reject], policy: Action::Accept });
    for sport in 1_000..1_002 {
        connect(&mut bed, sport);
    }
    let told = bed.sent(bed.wan);
    assert_eq!((told.len(), told[0].icmp().icmp_type, told[0].icmp().code), (1, 3, 13));
    assert_eq!(bed.sent(bed.lan).len(), 1);
    assert_eq!((bed.rule_counts().dropped, bed.values().verdict(Verdict::ForwardDenied)), (1, 0));

    // A service of its own needs no rule.
    let mut bed = forwarded(Forwarding { rules: Vec::new(), policy: Action::Drop });
    syn(&mut bed, 40_000);
}
