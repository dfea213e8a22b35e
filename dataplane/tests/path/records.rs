//! Conns that move: all records of one worker into another of another seed, and packets of both
//! directions are translated alike (DESIGN 4.4).

use std::collections::BTreeMap;

use dataplane::worker::link::{Command, Explain, Import, Redirect, Redirects, Refused};
use flow::{ImportError, InsertError, Local, Record};
use pool::LeaseError;
use testkit::PacketBuilder;
use types::{EthPortId, FlowKey6, Slot, WorkerId};

use crate::bed::{Setup, Testbed};
use crate::conn::Conn;

fn local(bed: &Testbed, record: &Record) -> Local {
    let plan = [&bed.shop, &bed.dns].into_iter().find(|plan| plan.spec.proto == record.proto);
    let plan = plan.expect("a service of this protocol");
    let rs = record.rs.expect("a real server");
    let server = plan.servers.iter().find(|server| server.endpoint() == rs);
    let rs = server.map_or(Slot::NONE, |server| server.slot);
    Local { service: plan.spec.slot, rs, timeout_class: 0 }
}

pub fn import(bed: &mut Testbed, worker: usize, record: &Record) -> Result<Redirects, Refused> {
    let local = local(bed, record);
    let import = Import { record: record.clone(), local, result: Err(Refused::Pending) };
    match bed.command(worker, Command::Import(Box::new(import))) {
        Command::Import(import) => import.result,
        other => panic!("{other:?}"),
    }
}

fn redirect(bed: &mut Testbed, redirect: Redirect) -> Result<(), Refused> {
    let at = redirect.at.0.into();
    match bed.command(at, Command::Redirect(Box::new(redirect))) {
        Command::Redirect(redirect) => redirect.result,
        other => panic!("{other:?}"),
    }
}

/// Opens the conn of a record where it belongs, with a redirect where that is needed.
fn import_anywhere(bed: &mut Testbed, record: &Record) {
    let home = bed.snapshot.home(record).unwrap();
    let wanted = import(bed, home.worker.0.into(), record).unwrap();
    assert!(wanted.iter().map(|redirect| redirect.at).eq(home.redirect));
    for wanted in wanted.iter() {
        assert_eq!(redirect(bed, wanted), Ok(()));
    }
}

/// Conns in all the states that a conn can be in, each with what its two ends might send next.
fn conns(bed: &mut Testbed) -> Vec<(usize, PacketBuilder)> {
    let mut packets = Vec::new();
    for (n, state) in (0..60).map(|n| (n, n % 10)) {
        let mut conn = Conn::syn_with(bed, 10_000 + n, |syn| syn.timestamps(u32::from(n) * 99, 0));
        if state >= 1 {
            conn.syn_ack(bed);
        }
        if state >= 2 {
            conn.ack(bed);
        }
        match state {
            3 => _ = conn.client_sends(bed, 100),
            4 => _ = conn.server_sends(bed, 100),
            5 => _ = conn.client_fin(bed),
            6 => _ = conn.server_fin(bed),
            7 => conn.close(bed),
            8 => {
                conn.server_sends(bed, 10);
                conn.ack(bed);
            }
            9 => {
                let reset = conn.by_client(bed).rst();
                conn.to_server(bed, reset);
            }
            _ => {}
        }
        let client = conn.by_client(bed).timestamps(1_000_000, 5).payload_len(30);
        let server = conn.by_server(bed).timestamps(7, 0x1234_5678).sack(&[(9, 10)]);
        packets.extend([(bed.wan, client), (bed.lan, server)]);
    }
    for n in 0..20 {
        let question = bed.by_client().udp(10_000 + n, 53).payload(b"?");
        let key = bed.through(bed.wan, question.clone(), bed.lan).key();
        let answer = bed.by_server(key.dst).udp(key.dport, key.sport).payload(b"!");
        if n % 2 == 0 {
            bed.through(bed.lan, answer.clone(), bed.wan);
        }
        packets.extend([(bed.wan, question), (bed.lan, answer)]);
    }
    packets
}

/// What leaves on each interface when these packets arrive, one after the other, at these workers.
fn played(bed: &mut Testbed, packets: &[(usize, PacketBuilder)]) -> Vec<Vec<Vec<u8>>> {
    let workers = bed.workers.len();
    let mut left = Vec::new();
    for (n, (interface, packet)) in packets.iter().enumerate() {
        bed.arrive_raw(n % workers, *interface, packet.build());
        bed.turn();
        let frames = |bed: &mut Testbed, interface| {
            bed.take(interface).iter().map(|frame| frame.frame().to_vec()).collect::<Vec<_>>()
        };
        left.push([frames(bed, bed.wan), frames(bed, bed.lan)].concat());
    }
    left
}

#[test]
fn all_conns_move_and_packets_are_translated_alike() {
    for (workers, others) in [(1, 1), (2, 1), (3, 1), (1, 2), (1, 3), (2, 4), (4, 3)] {
        let mut old = Setup { workers, ..Setup::default() }.build();
        let packets = conns(&mut old);
        let records = old.records();
        assert_eq!(records.len(), 80);

        let setup = Setup { workers: others, seed: 99, start_ms: 5, ..Setup::default() };
        let mut new = setup.build();
        for record in &records {
            let text = serde_json::to_string(record).unwrap();
            import_anywhere(&mut new, &serde_json::from_str(&text).unwrap());
        }
        let by_key = |records: Vec<Record>| -> BTreeMap<_, Record> {
            records.into_iter().map(|it| ((it.proto.number(), it.forward.source), it)).collect()
        };
        let (before, after) = (by_key(records), by_key(new.records()));
        assert_eq!(before.len(), 80);
        for (key, record) in &before {
            assert_eq!(Some(record), after.get(key));
        }
        let redirects: u32 = new.workers.iter().map(|worker| worker.core.table.redirects()).sum();
        let expected = 80 - 80 / u32::from(others);
        assert!(redirects.abs_diff(expected) <= expected / 2, "{redirects} redirects");
        assert_eq!(played(&mut old, &packets), played(&mut new, &packets), "{workers} to {others}");
    }
}

#[test]
fn a_conn_is_imported_once_and_has_its_lease() {
    let mut old = Testbed::usual();
    let mut conn = Conn::open(&mut old, 40_000);
    let record = old.records().remove(0);
    let mut new = Setup { seed: 3, ..Setup::default() }.build();
    assert_eq!(import(&mut new, 0, &record), Ok(Redirects::default()));
    new.expect("conns+1 leases+1");
    assert_eq!(import(&mut new, 0, &record), Err(Refused::Lease(LeaseError::Taken)));
    new.expect("");

    // It goes on, counts against its server, and gives all back at its end.
    conn.client_sends(&mut new, 100);
    conn.server_sends(&mut new, 100);
    conn.close(&mut new);
    new.settled();
    new.after_ms(5_000);
    new.expect("conns-1 leases-1 conn.closed+1");
}

#[test]
fn what_cannot_be_is_refused_and_leaves_nothing() {
    let mut bed = Setup { max_connections: 2, ..Setup::default() }.build();
    Conn::open(&mut bed, 40_000);
    let record = bed.records().remove(0);
    bed.settled();
    let other = |lport: u16, client_port: u16| {
        let mut record = record.clone();
        record.reverse.destination.l4_port.0 = lport;
        record.forward.new_source.l4_port.0 = lport;
        record.forward.source.l4_port.0 = client_port;
        record.reverse.new_destination.l4_port.0 = client_port;
        record
    };
    let lport = record.reverse.destination.l4_port.0 ^ 1;
    let refused = import(&mut bed, 0, &other(lport, 40_000)).unwrap_err();
    let exists = matches!(refused, Refused::Record(ImportError::Insert(InsertError::Exists(_))));
    assert!(exists, "the same key: {refused}");
    let no_state = Record { state: flow::State::Udp, ..other(lport, 1) };
    let refused = import(&mut bed, 0, &no_state).unwrap_err();
    assert!(matches!(refused, Refused::Record(ImportError::State { .. })), "{refused}");
    let out_of_range = Err(Refused::Lease(LeaseError::OutOfRange));
    assert_eq!(import(&mut bed, 0, &other(80, 1)), out_of_range);
    bed.expect("");
    assert_eq!(import(&mut bed, 0, &other(lport, 1)), Ok(Redirects::default()));
    assert_eq!(import(&mut bed, 0, &other(lport ^ 2, 2)), Err(Refused::Lease(LeaseError::Full)));
    bed.expect("conns+1 leases+1");
}

#[test]
fn a_conn_of_one_packet_scheduling_finds_its_client_after_the_move() {
    for workers in [1, 2, 3] {
        let setup = || Setup::default().dns(|dns| dns.spec.one_packet = true);
        let mut old = setup().build();
        let question = old.by_client().udp(5000, 53).payload(b"?");
        let key = old.through(old.wan, question, old.lan).key();
        let mut new = Setup { seed: 3, workers, ..setup() }.build();
        let records = old.records();
        import_anywhere(&mut new, &records[0]);
        assert_eq!(new.records(), records);
        new.expect("conns+1 leases+1");
        let answer = new.by_server(key.dst).udp(key.dport, key.sport).payload(b"!");
        assert_eq!(new.through(new.lan, answer, new.wan).key().dport, 5000);
        // It is still one: the answer does not make it live longer.
        assert_eq!(new.records()[0].state, flow::State::UdpOneway);
    }
}

/// A conn of another node's that needs a redirect: the testbed with it, the conn, its worker and the
/// owner of the client's packets.
fn moved() -> (Testbed, Conn, usize, usize) {
    let mut old = Testbed::usual();
    let mut new = Setup { workers: 3, seed: 99, ..Setup::default() }.build();
    for client_port in 40_000.. {
        let conn = Conn::open(&mut old, client_port);
        let record = old.records().pop().unwrap();
        let home = new.snapshot.home(&record).unwrap();
        let Some(other) = home.redirect else { continue };
        import_anywhere(&mut new, &record);
        new.expect("conns+1 leases+1 redirects+1");
        return (new, conn, home.worker.0.into(), other.0.into());
    }
    unreachable!("every third conn needs none")
}

#[test]
fn a_redirect_leads_to_the_conn_from_every_worker() {
    let (mut bed, conn, home, owner) = moved();
    for worker in 0..3 {
        bed.settled();
        bed.arrive_raw(worker, bed.wan, conn.by_client(&bed).build());
        bed.turn();
        conn.judge_to_server(
            &testkit::Decoded::check(&conn.by_client(&bed).build()),
            &bed.one(bed.lan),
        );
        // By the owner, whoever gets it, and from there by the redirect.
        let hops = if worker == owner { 1 } else { 2 };
        bed.expect(&format!(
            "received+1 handed+{hops} from-ring+{hops} packet.redirected+1 sent+1 toa.inserted+1"
        ));
        bed.arrive_raw(worker, bed.lan, conn.by_server(&bed).build());
        bed.turn();
        bed.one(bed.wan);
    }
    // What the client's way sends back goes by the redirect, too.
    let quoted = testkit::pkt().ipv4("203.0.113.10", "198.51.100.7").tcp(80, conn.client.1);
    let error = bed.by_client().icmp(3, 1, 0).quote(&quoted);
    assert_eq!(bed.through(bed.wan, error, bed.lan).quoted().key.dport, conn.lip.1);
    let totals: Vec<_> = bed.shop.servers.iter().map(|s| s.slot).collect();
    let active =
        |slot: &Slot| bed.workers[home].core.cells.server_totals(*slot).map_or(0, |t| t.active);
    assert_eq!(
        totals.iter().map(active).sum::<u32>(),
        1,
        "its server counts it, and was never seen"
    );
}

#[test]
fn explain_follows_a_redirect() {
    let (mut bed, conn, home, owner) = moved();
    let frame = conn.by_client(&bed).build().frame().to_vec();
    let interface = EthPortId(bed.wan as u16);
    let (mut worker, mut asked, mut way) = ((owner + 1) % 3, None, Vec::new());
    let told = loop {
        way.push(worker);
        let ask = Explain { interface, frame: frame.clone(), asked, explanation: None };
        let Command::Explain(answer) = bed.command(worker, Command::Explain(Box::new(ask))) else {
            panic!()
        };
        let told = answer.explanation.unwrap();
        let Some(onward) = told.onward else { break told };
        (worker, asked) = (onward.0.0.into(), Some(onward.1));
    };
    assert_eq!(way, [(owner + 1) % 3, owner, home]);
    assert_eq!(usize::from(told.owner.0), owner);
    assert_eq!(told.conn.unwrap().forward.source.l4_port.0, conn.client.1);
    bed.expect("");
}

/// The packet that comes back tells that the conn is gone: a new one opens where it belongs.
#[test]
fn a_redirect_goes_with_its_conn() {
    let (mut bed, mut conn, home, owner) = moved();
    conn.close(&mut bed);
    bed.after_ms(5_000);
    bed.settled();
    let stray = conn.by_client(&bed);
    bed.arrive_raw(owner, bed.wan, stray.build());
    bed.turn();
    bed.expect("received+1 handed+2 from-ring+2 packet.redirected+2 drop.not-syn+1 redirects-1");
    let again = Conn::open(&mut bed, conn.client.1);
    assert_eq!(bed.workers[owner].core.table.len(), 1);
    assert_eq!(bed.workers[home].core.table.len(), 0);
    assert_eq!(again.client, conn.client);
}

/// Two packets of one burst: the first comes back and takes the redirect with it, the second must not take
/// what was its place for a flow.
#[test]
fn a_burst_survives_the_end_of_its_redirect() {
    let (mut bed, mut conn, _, owner) = moved();
    conn.close(&mut bed);
    bed.after_ms(5_000);
    bed.settled();
    for _ in 0..3 {
        bed.arrive_raw(owner, bed.wan, conn.by_client(&bed).build());
    }
    let syn = bed.by_client().tcp(conn.client.1, 80).syn().seq(7);
    bed.arrive_raw(owner, bed.wan, syn.build());
    bed.turn();
    bed.expect(
        "received+4 handed+8 from-ring+8 packet.redirected+8 drop.not-syn+3 redirects-1 sent+1 \
         conns+1 half-open+1 leases+1 conn.opened+1",
    );
}

#[test]
fn a_redirect_that_is_not_used_goes() {
    let (mut bed, mut conn, ..) = moved();
    let longest = u64::from(flow::TimeoutSet::default().longest());
    bed.after_ms(longest / 2);
    conn.ack(&mut bed);
    bed.after_ms(longest / 2 + 1_000);
    bed.settled();
    conn.ack(&mut bed);
    bed.settled();
    // Both have seen no packet for so long.
    for _ in 0..6 {
        bed.after_ms(longest / 2);
    }
    for interface in [bed.wan, bed.lan] {
        bed.take(interface);
    }
    assert_eq!(bed.workers.iter().map(|worker| worker.core.table.redirects()).sum::<u32>(), 0);
    assert!(bed.records().is_empty());
}

/// Redirects that contradict each other cannot make a packet go round.
#[test]
fn no_packet_goes_round() {
    let mut bed = Setup { workers: 2, ..Setup::default() }.build();
    let syn = bed.by_client().tcp(40_000, 80).syn();
    let key = testkit::Decoded::check(&syn.build()).key();
    for (at, to) in [(0, 1), (1, 0)] {
        let wanted = Redirect {
            at: WorkerId(at),
            to: WorkerId(to),
            key: FlowKey6::mapped(key),
            wide: false,
            timeout_class: 0,
            result: Err(Refused::Pending),
        };
        assert_eq!(redirect(&mut bed, wanted), Ok(()));
    }
    bed.settled();
    let owner = bed.snapshot.owner_of(&key).0;
    bed.arrive_raw(owner.into(), bed.wan, bed.by_client().tcp(40_000, 80).ack(9).build());
    bed.turn();
    bed.expect("received+1 handed+2 from-ring+2 packet.redirected+2 drop.not-syn+1 redirects-1");
    Conn::open(&mut bed, 40_000);
    assert_eq!(bed.workers[usize::from(owner)].core.table.len(), 1);
}

#[test]
fn what_is_given_to_the_wrong_worker_is_refused() {
    let (mut bed, _, home, other) = moved();
    let record = bed.records().remove(0);
    for worker in (0..3).filter(|worker| *worker != home) {
        let refused = import(&mut bed, worker, &record);
        assert_eq!(refused, Err(Refused::BelongsTo(home as u16)), "worker {worker}");
    }
    let [key, _] = record.keys().unwrap();
    let to = |at: u16, to: u16| Redirect {
        at: WorkerId(at),
        to: WorkerId(to),
        key,
        wide: false,
        timeout_class: 0,
        result: Err(Refused::Pending),
    };
    let other = other as u16;
    assert_eq!(redirect(&mut bed, to(other, other)), Err(Refused::NoWorker(other)), "to itself");
    assert_eq!(redirect(&mut bed, to(other, 3)), Err(Refused::NoWorker(3)));
    let refused = redirect(&mut bed, to(home as u16, other));
    assert!(matches!(refused, Err(Refused::Redirect(InsertError::Exists(_)))), "{refused:?}");
    bed.expect("");
}
