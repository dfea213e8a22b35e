//! Conns with an IPv6 side on several workers, as records, in fragments, and with persistence.

use dataplane::worker::link::{Command, ConnFilter, Import, Refused};
use flow::{Local, Record};
use types::Slot;
use wire::{Ipv4, Piece};

use crate::bed::{CLIENT6, GATEWAY6, RS1, RS1_6, RS2_6, Setup, Testbed, persistence, station_of};
use crate::wide::{
    FOUR_TO_SIX, KINDS, Kind, SIX, SIX_TO_FOUR, WideConn, at, between, ends, inward, outward,
};

/// All workers' packets, whichever they arrive at, meet their conn.
#[test]
fn conns_spread_over_workers_and_all_of_their_packets_find_them() {
    for kind in KINDS {
        let mut bed = Setup { workers: 3, ..kind.setup() }.build();
        for n in 0..30 {
            let question = kind.by_client(&bed).udp(40_000 + n, 53).payload(b"?");
            bed.arrive_raw(usize::from(n) % 3, bed.wan, question.build());
            bed.turn();
            let (lip, rs) = ends(&bed.one(bed.lan));
            let answer = kind.by_server(&bed, &rs.ip().to_string()).udp(53, lip.port());
            bed.arrive_raw(usize::from(n / 3) % 3, bed.lan, answer.build());
            bed.turn();
            let sent = bed.one(bed.wan);
            assert_eq!(ends(&sent), (at(kind.vip(), 53), at(kind.client(), 40_000 + n)));
        }
        let shares = bed.workers.iter().map(|worker| worker.core.wide.table.len());
        let shares: Vec<_> = shares.collect();
        assert_eq!(shares.iter().sum::<u32>(), 30, "{kind:?}");
        assert!(shares.iter().all(|share| *share > 3), "{kind:?}: {shares:?}");
        assert_eq!(bed.count(ConnFilter::default()), 30);
    }
}

#[test]
fn filters_choose_conns_of_either_family() {
    let mut bed = SIX.bed();
    for n in 0..4 {
        let question = SIX.by_client(&bed).udp(40_000 + n, 53);
        inward(&mut bed, question);
    }
    let all = ConnFilter::default();
    let client = |address: &str, len| Some((address.parse().unwrap(), len));
    for (filter, expected) in [
        (ConnFilter { client: client(CLIENT6, 128), ..all }, 4),
        (ConnFilter { client: client("2001:db8::", 32), ..all }, 4),
        (ConnFilter { client: client("2001:db9::", 32), ..all }, 0),
        (ConnFilter { client: client("0.0.0.0", 0), ..all }, 0),
        (ConnFilter { lip: SIX.lip().parse().ok(), ..all }, 4),
        (ConnFilter { vip: SIX.vip().parse().ok(), client_port: Some(40_002), ..all }, 1),
    ] {
        assert_eq!(bed.count(filter), expected, "{filter:?}");
    }
}

fn local(bed: &Testbed, record: &Record) -> Local {
    let plan = [&bed.shop, &bed.dns].into_iter().find(|plan| plan.spec.proto == record.proto);
    let plan = plan.expect("a service of this protocol");
    let server = plan.servers.iter().find(|server| Some(server.endpoint()) == record.rs);
    let rs = server.map_or(Slot::NONE, |server| server.slot);
    Local { service: plan.spec.slot, rs, timeout_class: 0 }
}

fn import(bed: &mut Testbed, record: &Record) {
    let home = bed.snapshot.home(record).unwrap();
    let local = local(bed, record);
    let import = Import { record: record.clone(), local, result: Err(Refused::Pending) };
    let done = bed.command(home.worker.0.into(), Command::Import(Box::new(import)));
    let Command::Import(import) = done else { panic!("{done:?}") };
    let wanted = import.result.unwrap();
    assert_eq!(wanted.iter().map(|redirect| redirect.at).next(), home.redirect);
    for wanted in wanted.iter() {
        let done = bed.command(wanted.at.0.into(), Command::Redirect(Box::new(wanted)));
        assert!(matches!(done, Command::Redirect(redirect) if redirect.result == Ok(())));
    }
}

/// A record opens the conn on another node, of another seed and count of workers.
#[test]
fn conns_move_as_records() {
    for kind in KINDS {
        for (workers, others) in [(1, 1), (3, 1), (1, 3), (2, 4)] {
            let mut old = Setup { workers, ..kind.setup() }.build();
            let mut conns = Vec::new();
            for n in 0..20 {
                let mut conn = WideConn::open(&mut old, kind, 40_000 + n);
                conn.server_sends(&mut old, 10);
                conns.push(conn);
            }
            let setup = Setup { workers: others, seed: 99, start_ms: 5, ..kind.setup() };
            let mut new = setup.build();
            let records = old.records();
            assert_eq!(records.len(), 20);
            for record in &records {
                let text = serde_json::to_string(record).unwrap();
                import(&mut new, &serde_json::from_str(&text).unwrap());
            }
            assert_eq!(new.count(ConnFilter::default()), 20);
            for conn in &mut conns {
                conn.client_sends(&mut new, 100);
                conn.server_sends(&mut new, 100);
            }
        }
    }
}

/// What a frame says of itself as a fragment.
fn piece_of(frame: &[u8]) -> Piece {
    match frame[12..14] {
        [0x86, 0xdd] => Piece::at(frame, 54).unwrap(),
        _ => Piece::of_ipv4(Ipv4::at(frame, 14).unwrap()),
    }
}

/// RFC 8200 §4.5, RFC 7915 §5.1.1: later fragments follow the first one, in whatever order they come.
#[test]
fn fragments_of_ipv6_follow_their_first_one() {
    for kind in [SIX, SIX_TO_FOUR] {
        let mut bed = kind.bed();
        let piece = |bed: &Testbed, offset: u16, more: bool| {
            kind.by_client(bed).fragment6(offset, more, 0x0001_0002)
        };
        let first = |bed: &Testbed| piece(bed, 0, true).udp(40_000, 53).udp_len(24);
        let first = first(&bed).payload_len(8);
        let later = piece(&bed, 16, false).protocol(17).payload_len(8);
        bed.receive(bed.wan, later);
        bed.expect("received+1 held+1");
        bed.receive(bed.wan, first);
        bed.expect("received+1 held-1 sent+2 conn.opened+1 conns+1 leases+1");
        let sent = bed.take(bed.lan);
        let seen: Vec<_> = sent.iter().map(|frame| piece_of(frame.frame())).collect();
        let ident = if kind == SIX { 0x0001_0002 } else { 2 };
        let expected = [(0, true), (16, false)].map(|(offset, more)| Piece { ident, offset, more });
        assert_eq!(seen, expected, "{kind:?}");
    }
}

#[test]
fn fragments_that_overlap_or_come_alone_end_here() {
    let mut bed = SIX.bed();
    let piece =
        |bed: &Testbed, offset: u16, more: bool| SIX.by_client(bed).fragment6(offset, more, 7);
    let first = piece(&bed, 0, true).udp(40_000, 53).udp_len(64).payload_len(24);
    bed.receive(bed.wan, first);
    bed.settled();
    let overlapping = piece(&bed, 24, false).protocol(17).payload_len(40);
    bed.receive(bed.wan, overlapping);
    bed.expect("received+1 drop.bad-fragment+1");
    let alone = SIX.by_client(&bed).fragment6(64, false, 8).protocol(17).payload_len(8);
    bed.receive(bed.wan, alone);
    bed.expect("received+1 held+1");
    bed.after_ms(2_100);
    bed.live_ms(100, 1);
    bed.expect("held-1 drop.no-first-fragment+1");
}

/// RFC 7915 §4.1: fragments of IPv4 get a fragment header.
#[test]
fn fragments_of_ipv4_reach_a_server_of_ipv6() {
    let mut bed = FOUR_TO_SIX.bed();
    let piece = |bed: &Testbed, offset: u16, more| {
        FOUR_TO_SIX.by_client(bed).ident(5).fragment(offset, more)
    };
    let later = piece(&bed, 16, false).protocol(17).payload_len(8);
    bed.receive(bed.wan, later);
    let first = piece(&bed, 0, true).udp(40_000, 53).udp_len(24).payload_len(8);
    bed.receive(bed.wan, first);
    bed.expect("received+2 sent+2 conn.opened+1 conns+1 leases+1");
    let sent = bed.take(bed.lan);
    let pieces: Vec<_> = sent.iter().map(|frame| piece_of(frame.frame())).collect();
    let expected = [(0, true), (16, false)];
    assert_eq!(pieces, expected.map(|(offset, more)| Piece { ident: 5, offset, more }));
}

/// A client that comes back from another address of its prefix meets its server.
#[test]
fn clients_of_a_prefix_come_back_to_their_server() {
    let setup = SIX.setup().dns(|dns| {
        let mut by_prefix = persistence(32);
        by_prefix.v6.prefix_len = 64;
        dns.spec.persistence = Some(by_prefix);
    });
    let mut bed = Setup { workers: 2, ..setup }.build();
    let from = |bed: &Testbed, client: &str, l4_port: u16| {
        let gateway = station_of(GATEWAY6);
        let packet = testkit::pkt().eth(gateway, bed.snapshot.interfaces[bed.wan].mac);
        between(packet, client, SIX.vip()).udp(l4_port, 53)
    };
    let mut servers = Vec::new();
    for n in 0..8 {
        let question = from(&bed, &format!("2001:db8:51::{n}"), 40_000 + n);
        servers.push(ends(&inward(&mut bed, question)).1.ip().to_string());
    }
    assert!(servers.iter().all(|server| *server == servers[0]), "{servers:?}");
    let others: std::collections::BTreeSet<_> = (0..8)
        .map(|n| {
            let question = from(&bed, &format!("2001:db8:{n}::1"), 40_000);
            ends(&inward(&mut bed, question)).1.ip().to_string()
        })
        .collect();
    assert_eq!(others.len(), 2, "{others:?} of {RS1_6} and {RS2_6}");
}

/// An open conn outlives the removal of the last server of its family: it is found where it stands.
#[test]
fn conns_go_on_when_their_service_has_no_ipv6_any_more() {
    let kind = FOUR_TO_SIX;
    let mut bed = kind.bed();
    let mut conn = WideConn::open(&mut bed, kind, 40_000);
    bed.change_shop(|shop| {
        let vip = kind.vip();
        shop.between(vip, &[RS1]);
    });
    conn.client_sends(&mut bed, 100);
    conn.server_sends(&mut bed, 100);
    let next = Kind { client6: false, server6: false };
    let syn = next.by_client(&bed).tcp(40_001, 80).syn();
    assert_eq!(ends(&inward(&mut bed, syn)).1, at(RS1, 8080));
    let answer = conn.by_server(&bed);
    outward(&mut bed, answer);
}
