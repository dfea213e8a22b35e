//! Conns that move: all records of one worker into another of another seed, and packets of both
//! directions are translated alike (DESIGN 4.4).

use dataplane::worker::link::{Command, Import};
use flow::{Local, Record};
use testkit::PacketBuilder;
use types::{Slot, Verdict};

use crate::bed::{Setup, Testbed};
use crate::conn::Conn;

fn local(bed: &Testbed, record: &Record) -> Local {
    let plan = [&bed.shop, &bed.dns].into_iter().find(|plan| plan.spec.proto == record.proto);
    let plan = plan.expect("a service of this protocol");
    let rs = record.rs.expect("a real server");
    let server = plan
        .servers
        .iter()
        .find(|server| types::Endpoint::v4(server.address, server.l4_port) == rs);
    let rs = server.map_or(Slot::NONE, |server| server.slot);
    Local { service: plan.spec.slot, rs, timeout_class: 0 }
}

fn import(bed: &mut Testbed, worker: usize, record: &Record) -> Result<(), Verdict> {
    let local = local(bed, record);
    let import = Import { record: record.clone(), local, result: Err(Verdict::Internal) };
    match bed.command(worker, Command::Import(Box::new(import))) {
        Command::Import(import) => import.result,
        other => panic!("{other:?}"),
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
    for workers in [1, 2, 3] {
        let mut old = Setup { workers, ..Setup::default() }.build();
        let packets = conns(&mut old);
        let records = old.records();
        assert_eq!(records.len(), 80);

        let mut new = Setup { seed: 99, start_ms: 5, ..Setup::default() }.build();
        for record in &records {
            let text = serde_json::to_string(record).unwrap();
            assert_eq!(import(&mut new, 0, &serde_json::from_str(&text).unwrap()), Ok(()));
        }
        let (mut before, mut after) = (records, new.records());
        let key = |record: &Record| record.forward.source;
        before.sort_by_key(key);
        after.sort_by_key(key);
        assert_eq!(before, after);
        assert_eq!(played(&mut old, &packets), played(&mut new, &packets), "{workers} workers");
    }
}

#[test]
fn a_conn_is_imported_once_and_has_its_lease() {
    let mut old = Testbed::usual();
    let mut conn = Conn::open(&mut old, 40_000);
    let record = old.records().remove(0);
    let mut new = Setup { seed: 3, ..Setup::default() }.build();
    assert_eq!(import(&mut new, 0, &record), Ok(()));
    new.expect("conns+1 leases+1");
    assert_eq!(import(&mut new, 0, &record), Err(Verdict::NoLease));
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
    assert_eq!(import(&mut bed, 0, &other(lport, 40_000)), Err(Verdict::BadState), "the same key");
    let no_state = Record { state: flow::State::Udp, ..other(lport, 1) };
    assert_eq!(import(&mut bed, 0, &no_state), Err(Verdict::Malformed));
    assert_eq!(import(&mut bed, 0, &other(80, 1)), Err(Verdict::NoLease), "not of the range");
    bed.expect("");
    assert_eq!(import(&mut bed, 0, &other(lport, 1)), Ok(()));
    assert_eq!(import(&mut bed, 0, &other(lport ^ 2, 2)), Err(Verdict::NoLease), "no room");
    bed.expect("conns+1 leases+1");
}

#[test]
fn a_conn_of_one_packet_scheduling_finds_its_client_after_the_move() {
    let setup = || Setup::default().dns(|dns| dns.spec.one_packet = true);
    let mut old = setup().build();
    let question = old.by_client().udp(5000, 53).payload(b"?");
    let key = old.through(old.wan, question, old.lan).key();
    let mut new = Setup { seed: 3, ..setup() }.build();
    let records = old.records();
    assert_eq!(import(&mut new, 0, &records[0]), Ok(()));
    let answer = new.by_server(key.dst).udp(key.dport, key.sport).payload(b"!");
    assert_eq!(new.through(new.lan, answer, new.wan).key().dport, 5000);
}
