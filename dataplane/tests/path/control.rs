//! What control asks of a running worker: other configurations, walks over conns, records.

use std::sync::Arc;

use balance::Retired;
use dataplane::path::explain::Outcome;
use dataplane::worker::link::{
    Command, ConnFilter, Explain, Outgoing, Retire, Scan, ScanAction, Totals,
};
use flow::State;
use testkit::{PacketBuilder, ip, mac, pkt};
use types::{Address, EthPortId, MacAddr, Proto, Slot, Verdict};

use crate::bed::{CLIENT, DNS, GatewayPlan, LIP, RS1, RS2, SHOP, Setup, Testbed, WAN_IP, WANS};
use crate::conn::Conn;

#[test]
fn the_conns_of_a_removed_service_live_on() {
    let mut bed = Testbed::usual();
    let mut conn = Conn::open(&mut bed, 40_000);
    bed.remove_shop();
    conn.client_sends(&mut bed, 100);
    conn.server_sends(&mut bed, 100);
    bed.settled();
    bed.receive(bed.wan, bed.by_client().tcp(40_001, 80).syn());
    bed.expect("received+1 drop.no-service+1");

    // Its cells stay for as long as a conn names them.
    let servers: Vec<Slot> = bed.shop.servers.iter().map(|server| server.slot).collect();
    let ask = || Retire {
        services: vec![SHOP],
        servers: servers.clone(),
        cells: Vec::with_capacity(1),
        retired: Vec::with_capacity(2),
    };
    let Command::Retire(answer) = bed.command(0, Command::Retire(Box::new(ask()))) else {
        panic!()
    };
    assert_eq!((answer.services, answer.servers), (vec![SHOP], vec![servers[0]]));
    conn.close(&mut bed);
    bed.after_ms(5_000);
    let Command::Retire(answer) = bed.command(0, Command::Retire(Box::new(ask()))) else {
        panic!()
    };
    assert_eq!((answer.services, answer.servers), (vec![], vec![]));
    assert_eq!(answer.cells.len(), 1);
    let [(slot, Retired { totals, .. })] = &answer.retired[..] else { panic!() };
    assert_eq!((*slot, totals.opened, totals.conns()), (servers[0], 1, 0));
}

#[test]
fn a_changed_service_keeps_its_conns() {
    let mut bed = Testbed::usual();
    let mut conns: Vec<_> = (0..4).map(|n| Conn::open(&mut bed, 40_000 + n)).collect();
    bed.change_shop(|shop| _ = shop.servers.remove(0));
    for conn in &mut conns {
        conn.client_sends(&mut bed, 10);
        conn.server_sends(&mut bed, 10);
    }
    assert_eq!(Conn::open(&mut bed, 41_000).rs.0, ip(RS2));
    assert_eq!(bed.workers[0].core.snapshot.generation, 2);
}

#[test]
fn a_list_comes_in_portions_and_misses_none() {
    let mut bed = Testbed::usual();
    for n in 0..300 {
        Conn::open(&mut bed, 10_000 + n);
    }
    bed.settled();
    let mut seen = Vec::new();
    let mut scan = Scan { records: Vec::with_capacity(7), ..Scan::default() };
    while !scan.finished {
        scan = bed.scan(0, scan);
        assert_eq!(scan.records.capacity(), 7, "what it brought along is enough");
        seen.extend(scan.records.drain(..).map(|record| record.forward.source.l4_port.0));
    }
    bed.expect("");
    seen.sort_unstable();
    assert_eq!(seen, (10_000..10_300).collect::<Vec<_>>());
}

#[test]
fn every_condition_of_a_filter_holds() {
    let mut bed = Testbed::usual();
    for n in 0..10 {
        Conn::open(&mut bed, 10_000 + n);
        bed.through(bed.wan, bed.by_client().udp(10_000 + n, 53), bed.lan);
    }
    Conn::syn(&mut bed, 20_000);
    let first = bed.shop.servers[0].slot;
    let all = ConnFilter::default();
    let client = |address: &str, len| address.parse().ok().map(|address| (address, len));
    let filters = [
        (all, 21),
        (ConnFilter { service: Some(SHOP), ..all }, 11),
        (ConnFilter { service: Some(DNS), ..all }, 10),
        (ConnFilter { server: Some(first), ..all }, 6),
        (ConnFilter { client: client(CLIENT, 32), ..all }, 21),
        (ConnFilter { client: client("198.51.100.0", 24), ..all }, 21),
        (ConnFilter { client: client("0.0.0.0", 0), ..all }, 21),
        (ConnFilter { client: client("198.51.100.8", 32), ..all }, 0),
        (ConnFilter { lip: LIP.parse().ok(), ..all }, 21),
        (ConnFilter { lip: "198.18.0.250".parse().ok(), ..all }, 0),
        (ConnFilter { client_port: Some(10_003), ..all }, 2),
        (ConnFilter { proto: Some(Proto::Udp), client_port: Some(10_003), ..all }, 1),
        (ConnFilter { state: Some(State::SynSent), ..all }, 1),
        (ConnFilter { state: Some(State::UdpOneway), ..all }, 10),
    ];
    for (filter, expected) in filters {
        let scan = Scan { filter, action: ScanAction::Count, ..Scan::default() };
        assert_eq!(bed.scan(0, scan).matched, expected, "{filter:?}");
    }
}

#[test]
fn conns_are_closed_on_request_and_both_ends_are_told() {
    for reset in [true, false] {
        let mut bed = Testbed::usual();
        let conns: Vec<_> = (0..100).map(|n| Conn::open(&mut bed, 10_000 + n)).collect();
        bed.settled();
        let server = Some(bed.shop.servers[0].slot);
        let filter = ConnFilter { server, ..ConnFilter::default() };
        let scan = Scan { filter, action: ScanAction::Close { reset }, ..Scan::default() };
        assert_eq!(bed.scan(0, scan).matched, 50);
        if reset {
            bed.expect("conns-50 leases-50 generated+100 sent+100 answer.reset+100");
            assert_eq!((bed.sent(bed.wan).len(), bed.sent(bed.lan).len()), (50, 50));
        } else {
            bed.expect("conns-50 leases-50 resting+50 lease.rested+50");
        }
        let other = &conns[1];
        assert_eq!(other.rs.0, ip(RS2));
        let packet = other.by_client(&bed);
        other.to_server(&mut bed, packet);
    }
}

#[track_caller]
fn explained(bed: &mut Testbed, interface: usize, packet: PacketBuilder) -> Outcome {
    bed.settled();
    let frame = packet.build().frame().to_vec();
    let ask =
        Explain { interface: EthPortId(interface as u16), frame, asked: None, explanation: None };
    let Command::Explain(answer) = bed.command(0, Command::Explain(Box::new(ask))) else {
        panic!()
    };
    bed.expect("");
    bed.nothing_sent();
    answer.explanation.expect("a buffer for it").outcome
}

/// What is explained is what then happens, and to explain changes nothing.
#[test]
fn explain_says_what_would_happen_and_changes_nothing() {
    let mut bed = Testbed::usual();
    let (wan, lan) = (bed.wan, bed.lan);
    for n in 0..4 {
        let syn = bed.by_client().tcp(40_000 + n, 80).syn();
        let Outcome::Opens { service, server_slot, .. } = explained(&mut bed, wan, syn.clone())
        else {
            panic!()
        };
        assert_eq!(service, SHOP);
        let chosen = bed.shop.servers.iter().find(|server| server.slot == server_slot);
        let expected = chosen.and_then(|server| u32::from_ip(server.address));
        assert_eq!(Some(Conn::syn(&mut bed, 40_000 + n).rs.0), expected);
        assert_eq!(explained(&mut bed, wan, syn), Outcome::Translated);
    }
    let by_client = bed.by_client();
    let refused = [
        (by_client.clone().tcp(50_000, 80).ack(1), Verdict::NotSyn),
        (by_client.clone().tcp(50_000, 81).syn(), Verdict::NoService),
        (by_client.clone().ipv4(CLIENT, "203.0.113.99").udp(1, 1), Verdict::NotOurs),
        (by_client.clone().bad_ip_checksum().udp(1, 53), Verdict::BadIpChecksum),
        (by_client.clone().echo_reply(1, 1), Verdict::NoConn),
        (by_client.clone().protocol(89), Verdict::UnknownProtocol),
    ];
    for (packet, expected) in refused {
        let outcome = explained(&mut bed, wan, packet);
        let Outcome::Refused { verdict, .. } = outcome else { panic!("{expected}: {outcome:?}") };
        assert_eq!(verdict, expected);
    }
    assert_eq!(explained(&mut bed, wan, by_client.echo_request(1, 1)), Outcome::Answered);
    let to_lip = bed.by_server(RS1).tcp(8080, 1).ack(1);
    assert!(matches!(explained(&mut bed, lan, to_lip), Outcome::Refused { .. }));
}

/// Also what the reverse path refuses, to whomever it is.
#[test]
fn explain_knows_the_reverse_path() {
    use dataplane::snapshot::ReversePath;
    let mut bed = Setup::default().gateway(&GatewayPlan::default());
    bed.update(|snapshot| snapshot.policy.reverse_path = ReversePath::Strict);
    let wan = bed.wan;
    for to in [CLIENT, WANS[0]] {
        let forged = bed.by_outside(RS1, to);
        for packet in
            [forged.clone().udp(1, 2), forged.clone().echo_request(1, 1), forged.protocol(47)]
        {
            let outcome = explained(&mut bed, wan, packet.clone());
            let Outcome::Refused { verdict, .. } = outcome else { panic!("{outcome:?}") };
            assert_eq!(verdict, Verdict::ReversePath);
            bed.receive(wan, packet);
            bed.expect("received+1 drop.reverse-path+1");
        }
    }
}

#[test]
fn a_frame_of_controls_leaves_as_it_is() {
    let mut bed = Testbed::usual();
    let ask = pkt().eth(mac(7), MacAddr::BROADCAST).arp_request(WAN_IP, "203.0.113.254").build();
    let outgoing = Outgoing { interface: EthPortId(0), frame: ask.frame().to_vec() };
    bed.command(0, Command::Transmit(Box::new(outgoing)));
    bed.expect("generated+1 sent+1");
    assert_eq!(bed.take(0)[0].frame(), ask.frame());
}

#[test]
fn totals_are_read_by_slot() {
    let mut bed = Testbed::usual();
    for n in 0..4 {
        Conn::open(&mut bed, 40_000 + n);
    }
    let server = bed.shop.servers[0].slot;
    let ask = Totals {
        services: vec![(SHOP, Default::default()), (Slot::new(9, 1), Default::default())],
        servers: vec![(server, Default::default())],
    };
    let Command::Totals(answer) = bed.command(0, Command::Totals(Box::new(ask))) else { panic!() };
    assert_eq!((answer.services[0].1.active, answer.services[1].1.conns()), (4, 0));
    assert_eq!((answer.servers[0].1.active, answer.servers[0].1.opened), (2, 2));
}

#[test]
fn counters_are_shown_every_few_milliseconds() {
    let mut bed = Setup::default().build();
    let conn = Conn::open(&mut bed, 40_000);
    bed.after_ms(10);
    let published = Arc::clone(&bed.control[0].published);
    let shown = published.read().values;
    assert_eq!(&shown.verdict(Verdict::Sent), &3);
    assert_eq!(shown.gauge(counters::Gauge::Conns), 1);
    assert_eq!(shown.gauge(counters::Gauge::Leases), 1);
    let packet = conn.by_client(&bed);
    conn.to_server(&mut bed, packet);
    assert_eq!(published.read().values.verdict(Verdict::Sent), 3, "not for each burst");
    bed.after_ms(10);
    assert_eq!(published.read().values.verdict(Verdict::Sent), 4);
}
