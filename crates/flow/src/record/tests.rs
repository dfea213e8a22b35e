//! Conns that move to other tables go on as they were.

use proptest::prelude::*;
use types::WorkerId;

use super::*;
use crate::testing::{TestAddress, pair, table, table_of_seed};
use crate::track::{tcp, udp};
use crate::{Cursor, TimeoutSet};

/// What a table does to a packet with this key: its flow, without what belongs to one node.
fn translate<A: FlowAddress>(table: &FlowTable<A>, key: &FlowKey<A>) -> Option<Flow<A>> {
    let flow = *table.flow(table.lookup(key, table.hash(key))?)?;
    Some(Flow { last_seen: 0, next_hop: 0, fib_generation: 0, timeout_class: 0, ..flow })
}

fn records<A: FlowAddress>(table: &FlowTable<A>, now: Now) -> Vec<Record> {
    let (mut cursor, mut budget) = (Cursor::default(), u32::MAX);
    std::iter::from_fn(|| table.next_conn(&mut cursor, &mut budget))
        .map(|conn| table.export(conn, now).unwrap())
        .collect()
}

fn local(service: bool) -> Local {
    let slot = |index| if service { Slot::new(index, 3) } else { Slot::NONE };
    Local { service: slot(1), rs: slot(2), timeout_class: 5 }
}

#[derive(Clone, Debug)]
struct Conn {
    proto: Proto,
    state: usize,
    numbers: [u32; 6],
    deltas: [u16; 4],
    flags: u8,
    service: bool,
    /// No packet of the opener's is to find it.
    hidden: bool,
    opened_ms: u32,
    seen_ms: u32,
}

fn conn() -> impl Strategy<Value = Conn> {
    let proto = prop_oneof![Just(Proto::Tcp), Just(Proto::Udp), Just(Proto::Icmp)];
    let numbers = (any::<[u32; 6]>(), any::<[u16; 4]>(), any::<u8>());
    let kind = (any::<bool>(), prop::bool::weighted(0.2));
    (proto, any::<prop::sample::Index>(), numbers, kind, 0..50_000u32, 0..5_000u32).prop_map(
        |(proto, state, (numbers, deltas, flags), (service, hidden), opened_ms, seen)| Conn {
            proto,
            state: state.index(State::ALL.len()),
            numbers,
            deltas,
            flags,
            service,
            hidden,
            opened_ms,
            seen_ms: opened_ms + seen,
        },
    )
}

/// Both flows of the n-th conn of a test.
fn flows<A: TestAddress>(n: u32, conn: &Conn) -> (Flow<A>, Flow<A>) {
    let (forward, reverse) = pair(conn.proto, n);
    (Flow { zone: if conn.hidden { 99 } else { forward.zone }, ..forward }, reverse)
}

/// Who owns a packet's key: for the n-th conn by its client's or its own port, so that both seldom agree.
fn owner<A: FlowAddress>(key: &FlowKey<A>, workers: usize) -> usize {
    let by_client = key.dport == 80;
    if by_client { usize::from(key.sport) / 3 % workers } else { usize::from(key.dport) % workers }
}

fn open<A: TestAddress>(table: &mut FlowTable<A>, n: u32, conn: &Conn) {
    let (forward, reverse) = flows(n, conn);
    let state = State::ALL[conn.state];
    let state = if state.proto() == Some(conn.proto) { state } else { forward.state };
    let [a, b, c, d, e, f] = conn.numbers;
    let [g, h, i, j] = conn.deltas;
    let flags = conn.flags & PORTABLE_FLAGS;
    let forward = Flow { state, l3_delta: g, l4_delta: h, seq_offset: a, flags, ..forward };
    let forward = Flow { ts_offset: b, last_ack: c, ..forward };
    let reverse = Flow { l3_delta: i, l4_delta: j, seq_offset: d, flags, ..reverse };
    let reverse = Flow { ts_offset: e, last_ack: f, ..reverse };
    let Local { service, rs, .. } = local(conn.service);
    let new = NewCold { service, rs, lease: LeaseKind::Lip };
    let opened = Now::from_ms(conn.opened_ms.into());
    let id = table.insert(forward, reverse, new, opened).unwrap();
    let seen = Now::from_ms(conn.seen_ms.into());
    table.flow_mut(id.reverse()).unwrap().count(conn.numbers[0] as u16, seen);
}

/// All conns of one table go on in others, packets of both directions translated alike.
fn move_all<A: TestAddress>(conns: &[Conn], seed: u64, workers: usize, room: u32) {
    let now = Now::from_ms(60_000);
    let mut old = table_of_seed::<A>(80, 1);
    for (n, conn) in conns.iter().enumerate() {
        open(&mut old, n as u32, conn);
    }
    let records = records(&old, now);
    let text = serde_json::to_string(&records).unwrap();
    let read: Vec<Record> = serde_json::from_str(&text).unwrap();
    assert_eq!(read, records);
    let mut new: Vec<FlowTable<A>> =
        (0..workers as u64).map(|n| table_of_seed(room, seed.wrapping_add(n))).collect();
    let later = Now::from_ms(7_000_000);
    let mut redirects = 0;
    for record in &read {
        let [forward, reverse] = record.keys().unwrap();
        let (home, other) = (owner(&reverse, workers), owner(&forward, workers));
        let local = local(record.vip.is_some());
        let conn = new[home].import(record, local, later).unwrap();
        assert_eq!(&new[home].export(conn, later).unwrap(), record);
        assert_eq!(record.is_ipv4(), A::BITS == 32);
        if home != other && record.has_forward() {
            new[other].insert_redirect(forward, WorkerId(home as u16), 0, later).unwrap();
            redirects += 1;
        }
    }
    assert_eq!(new.iter().map(FlowTable::redirects).sum::<u32>(), redirects);
    let exported: usize = new.iter().map(|table| self::records(table, later).len()).sum();
    assert_eq!(exported, conns.len());
    for (n, conn) in conns.iter().enumerate() {
        let (forward, reverse) = flows(n as u32, conn);
        for key in [forward.key(), reverse.key()] {
            let by = if conn.hidden { reverse.key() } else { key };
            let mut at = owner(&by, workers);
            let found = translate(&new[at], &key);
            if let Some(to) = found.and_then(|flow| flow.redirect()) {
                at = to.0.into();
            }
            let there = translate(&new[at], &key);
            assert!(there.is_some_and(|flow| flow.redirect().is_none()));
            assert_eq!(there, translate(&old, &key));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn packets_of_both_directions_translate_alike_in_other_tables(
        conns in proptest::collection::vec(conn(), 1..80),
        seed in any::<u64>(),
        workers in 1..4usize,
        room in 80..500u32,
    ) {
        move_all::<u32>(&conns, seed, workers, room);
        move_all::<u128>(&conns, seed, workers, room);
    }
}

#[test]
fn a_wide_table_takes_what_a_narrow_one_refuses() {
    let mut wide = table_of_seed::<u128>(10, 1);
    for n in 0..3 {
        let (forward, reverse) = pair(Proto::Udp, n);
        let now = Now::from_ms(0);
        let conn = wide.insert(forward, reverse, NewCold::default(), now).unwrap();
        let record = wide.export(conn, now).unwrap();
        assert!(!record.is_ipv4());
        let refused = table(1).import(&record, Local::default(), now);
        assert!(
            matches!(refused, Err(ImportError::Family(endpoint)) if endpoint.address.is_ipv6())
        );
    }
}

#[test]
fn a_handshake_goes_on_on_another_node() {
    let mut old = table(10);
    let (forward, reverse) = pair(Proto::Tcp, 0);
    let conn = old.insert(forward, reverse, NewCold::default(), Now::from_ms(0)).unwrap();
    let view = |flags, seq, ack| tcp::TcpView { flags, seq, ack, payload_len: 0, ip_len: 40 };
    tcp::on_packet(&mut old, conn.forward(), &view(2, 100, 0), Now::from_ms(1));
    tcp::on_packet(&mut old, conn.reverse(), &view(0x12, 500, 101), Now::from_ms(2));
    let record = old.export(conn, Now::from_ms(3)).unwrap();
    assert_eq!((record.version, record.age_ms, record.timeout_left_ms), (2, 3, 29_999));
    let mut new: FlowTable = table_of_seed(99, 5);
    let there = new.import(&record, Local::default(), Now::from_ms(9_000)).unwrap();
    assert_eq!(new.flow(there.forward()).unwrap().fib_generation, 0);
    let track =
        tcp::on_packet(&mut new, there.forward(), &view(0x10, 101, 501), Now::from_ms(9_001));
    let (from, to) = (State::SynReceived, State::Established);
    assert_eq!(track, crate::Track::Moved { from, to });
    assert_eq!(new.export(there, Now::from_ms(9_001)).unwrap().version, 3);
}

#[test]
fn an_imported_conn_lives_no_longer_than_its_class_allows() {
    let mut old = table(10);
    let (forward, reverse) = pair(Proto::Udp, 0);
    let conn = old.insert(forward, reverse, NewCold::default(), Now::from_ms(0)).unwrap();
    udp::on_packet(&mut old, conn.reverse(), 60, Now::from_ms(0));
    let record = old.export(conn, Now::from_ms(100_000)).unwrap();
    assert_eq!(record.timeout_left_ms, 200_000);
    let mut new = table(10);
    new.set_timeouts(5, TimeoutSet { udp_ms: 10_000, ..TimeoutSet::default() });
    let there = new.import(&record, local(false), Now::from_ms(5)).unwrap();
    assert!(!new.is_due(there, Now::from_ms(10_004)));
    assert!(new.is_due(there, Now::from_ms(10_005)));
}

#[test]
fn what_contradicts_itself_is_refused() {
    let mut table = table(10);
    let (forward, reverse) = pair(Proto::Udp, 0);
    let conn = table.insert(forward, reverse, NewCold::default(), Now::from_ms(0)).unwrap();
    let good = table.export(conn, Now::from_ms(0)).unwrap();
    let now = Now::from_ms(1);
    let mut import = |record: &Record| table.import(record, Local::default(), now).unwrap_err();
    let exists = InsertError::Exists(Some(conn.forward()));
    assert_eq!(import(&good), ImportError::Insert(exists));
    for state in [State::Free, State::Established] {
        let error = import(&Record { state, ..good.clone() });
        assert_eq!(error, ImportError::State { proto: Proto::Udp, state });
    }
    let six = Endpoint { address: "2001:db8::1".parse().unwrap(), ..good.forward.source };
    let mut other = good.clone();
    other.reverse.new_destination = six;
    assert_eq!(import(&other), ImportError::Family(six));
    let mut twice = good;
    twice.forward.source.l4_port.0 = 9;
    twice.reverse = twice.forward.clone();
    assert_eq!(import(&twice), ImportError::Insert(InsertError::Exists(None)));
    assert_eq!(table.len(), 1);
}

#[test]
fn a_header_is_of_a_tcp_conn_that_is_extended() {
    let mut old = table(10);
    let (mut forward, mut reverse) = pair(Proto::Tcp, 0);
    forward.flags |= flags::EXT;
    reverse.flags |= flags::EXT;
    let conn = old.insert(forward, reverse, NewCold::default(), Now::from_ms(0)).unwrap();
    let mut record = old.export(conn, Now::from_ms(0)).unwrap();
    let with = |version| Some(HeaderState { version, ..HeaderState::default() });
    let import = |record: &Record| table(10).import(record, Local::default(), Now::from_ms(1));
    for version in [1, 2] {
        record.header = with(version);
        assert!(import(&record).is_ok());
    }
    for version in [0, 3] {
        record.header = with(version);
        assert_eq!(import(&record), Err(ImportError::Header(version)));
    }
    record.header = with(2);
    record.reverse.flags &= !flags::EXT;
    assert_eq!(import(&record), Err(ImportError::Header(2)));
}

#[test]
fn flags_of_one_node_do_not_travel() {
    let mut table = table(10);
    let (forward, reverse) = pair(Proto::Tcp, 0);
    let forward = Flow { flags: 0xff, ..forward };
    let conn = table.insert(forward, reverse, NewCold::default(), Now::from_ms(0)).unwrap();
    let record = table.export(conn, Now::from_ms(0)).unwrap();
    assert_eq!(record.forward.flags, PORTABLE_FLAGS);
    table.remove(conn).unwrap();
    let mut hostile = record;
    hostile.reverse.flags = 0xff;
    let conn = table.import(&hostile, Local::default(), Now::from_ms(0)).unwrap();
    let flags = table.flow(conn.reverse()).unwrap().flags;
    assert_eq!(flags, PORTABLE_FLAGS | flags::REVERSE);
}

#[test]
fn a_protocol_without_ports_keeps_its_number() {
    let mut old = table(1);
    let (mut forward, mut reverse) = pair(Proto::Udp, 0);
    (forward.proto, reverse.proto) = (47, 47);
    let now = Now::from_ms(5);
    let conn = old.insert(forward, reverse, NewCold::default(), now).unwrap();
    let record = old.export(conn, now).unwrap();
    assert_eq!((record.proto, record.portless, record.protocol()), (Proto::Udp, Some(47), 47));
    let text = serde_json::to_string(&record).unwrap();
    assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    let mut new = table(1);
    let conn = new.import(&record, Local::default(), now).unwrap();
    assert_eq!(new.flow(conn.forward()).unwrap().key(), forward.key());
    for portless in [6, 17] {
        let record = Record { portless: Some(portless), ..record.clone() };
        assert!(table(1).import(&record, Local::default(), now).is_err());
    }
}
