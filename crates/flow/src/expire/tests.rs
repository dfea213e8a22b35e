//! The table against a map with naive timers, and the bounds of expiry.

use std::collections::HashMap;

use proptest::prelude::*;
use types::{Dir, Proto, WorkerId};

use super::*;
use crate::testing::{TestAddress, pair, table, table_of_seed};
use crate::track::{Track, icmp, udp};
use crate::{Flow, InsertError, LeaseKind, NewCold, State, Timeouts};

const ALL: Budget = Budget { heads: u32::MAX, places: u32::MAX };
/// The model looks for what is due after each step of this length at most.
const STEP_MS: u32 = 1_500;
const MAX: u32 = 24;

fn small_timeouts(class: u8) -> TimeoutSet {
    let ms = 1_000 + 2_000 * u32::from(class);
    TimeoutSet {
        tcp_syn_ms: 3 * ms,
        tcp_established_ms: 9 * ms,
        tcp_closing_ms: 5 * ms,
        tcp_closed_ms: ms,
        udp_oneway_ms: 3 * ms,
        udp_ms: 7 * ms,
        icmp_ms: 2 * ms,
        gateway: false,
        refresh: Refresh::Both,
    }
}

fn small_table<A: TestAddress>() -> FlowTable<A> {
    let mut table = table_of_seed(MAX, 1);
    for class in 0..3 {
        table.set_timeouts(class, small_timeouts(class));
    }
    table
}

#[derive(Clone, Debug)]
enum Op {
    Open(u32, Proto, u8),
    Packet(u32, bool),
    State(u32, usize),
    Close(u32),
    Redirect(u32, u16, u8),
    Follow(u32),
    RemoveRedirect(u32),
    Wait(u32),
    Evict,
}

fn op() -> impl Strategy<Value = Op> {
    let n = 0..40u32;
    let proto = prop_oneof![Just(Proto::Tcp), Just(Proto::Udp), Just(Proto::Icmp)];
    prop_oneof![
        4 => (n.clone(), proto, 0..3u8).prop_map(|(n, proto, class)| Op::Open(n, proto, class)),
        6 => (n.clone(), any::<bool>()).prop_map(|(n, forward)| Op::Packet(n, forward)),
        4 => (n.clone(), 1..10usize).prop_map(|(n, state)| Op::State(n, state)),
        1 => n.clone().prop_map(Op::Close),
        3 => (n.clone(), 1..9u16, 0..3u8).prop_map(|(n, to, class)| Op::Redirect(n, to, class)),
        2 => n.clone().prop_map(Op::Follow),
        1 => n.prop_map(Op::RemoveRedirect),
        6 => (1..STEP_MS).prop_map(Op::Wait),
        1 => Just(Op::Evict),
    ]
}

struct Entry {
    conn: ConnId,
    proto: Proto,
    class: u8,
    state: State,
    last_ms: u32,
    packets: u64,
}

/// A redirect for the forward key of the TCP conn of a number.
struct Redirect {
    to: WorkerId,
    class: u8,
    last_ms: u32,
}

/// The table and what it should hold.
struct Model<A: TestAddress> {
    table: FlowTable<A>,
    conns: HashMap<u32, Entry>,
    redirects: HashMap<u32, Redirect>,
    now_ms: u32,
}

impl<A: TestAddress> Model<A> {
    fn now(&self) -> Now {
        Now { tick_ms: self.now_ms, ..Now::default() }
    }

    fn open(&mut self, n: u32, proto: Proto, class: u8) {
        let (forward, reverse) = pair::<A>(proto, n);
        let forward = Flow { timeout_class: class, ..forward };
        let opened = self.table.insert(forward, reverse, NewCold::default(), self.now());
        match self.conns.get(&n) {
            Some(entry) if entry.proto == proto => {
                assert_eq!(opened, Err(InsertError::Exists(Some(entry.conn.forward()))));
            }
            _ if proto == Proto::Tcp && self.redirects.contains_key(&n) => {
                let redirect = self.find(&pair::<A>(proto, n).0.key());
                assert_eq!(opened, Err(InsertError::Exists(redirect)));
            }
            _ if self.is_full() => assert_eq!(opened, Err(InsertError::Full)),
            Some(_) => {
                self.table.remove(opened.unwrap()).unwrap();
            }
            None => {
                let (state, last_ms) = (State::opening(proto.number()), self.now_ms);
                let conn = opened.unwrap();
                let entry = Entry { conn, proto, class, state, last_ms, packets: 0 };
                self.conns.insert(n, entry);
            }
        }
    }

    fn is_full(&self) -> bool {
        (self.conns.len() + self.redirects.len()) as u32 == MAX
    }

    fn find(&self, key: &types::FlowKey<A>) -> Option<crate::FlowId> {
        self.table.lookup(key, self.table.hash(key))
    }

    fn redirect(&mut self, n: u32, to: u16, class: u8) {
        let (to, last_ms, key) = (WorkerId(to), self.now_ms, pair::<A>(Proto::Tcp, n).0.key());
        let (there, full) = (self.redirects.contains_key(&n), self.is_full());
        let inserted = self.table.insert_redirect(key, to, class, self.now());
        match self.conns.get(&n).filter(|entry| entry.proto == Proto::Tcp) {
            Some(entry) => {
                assert_eq!(inserted, Err(InsertError::Exists(Some(entry.conn.forward()))));
            }
            None if full && !there => assert_eq!(inserted, Err(InsertError::Full)),
            None => {
                assert_eq!(inserted, Ok(()));
                self.redirects.insert(n, Redirect { to, class, last_ms });
            }
        }
    }

    fn follow(&mut self, n: u32) {
        let now = self.now();
        let Some(id) = self.find(&pair::<A>(Proto::Tcp, n).0.key()) else { return };
        let redirect = self.redirects.get_mut(&n);
        assert_eq!(self.table.follow_redirect(id, now), redirect.as_ref().map(|it| it.to));
        if let Some(redirect) = redirect {
            redirect.last_ms = self.now_ms;
        }
    }

    fn remove_redirect(&mut self, n: u32) {
        let Some(id) = self.find(&pair::<A>(Proto::Tcp, n).0.key()) else { return };
        assert_eq!(self.table.remove_redirect(id), self.redirects.remove(&n).is_some());
    }

    fn packet(&mut self, n: u32, forward: bool) {
        let now = self.now();
        let Some(entry) = self.conns.get_mut(&n) else { return };
        let id = if forward { entry.conn.forward() } else { entry.conn.reverse() };
        let track = match entry.proto {
            Proto::Udp => udp::on_packet(&mut self.table, id, 100, now),
            Proto::Icmp => icmp::on_packet(&mut self.table, id, 100, now),
            Proto::Tcp => {
                self.table.flow_mut(id).unwrap().count(100, now);
                Track::Pass
            }
        };
        entry.last_ms = now.tick_ms;
        entry.packets += 1;
        let to = match entry.state {
            State::UdpOneway if id.dir() == Dir::Reverse => State::Udp,
            State::IcmpOneway if id.dir() == Dir::Reverse => State::Icmp,
            state => state,
        };
        let moved = Track::Moved { from: entry.state, to };
        assert_eq!(track, if to == entry.state { Track::Pass } else { moved });
        entry.state = to;
    }

    fn state(&mut self, n: u32, state: usize) {
        let now = self.now();
        let Some(entry) = self.conns.get_mut(&n).filter(|entry| entry.proto == Proto::Tcp) else {
            return;
        };
        entry.state = State::ALL[state];
        self.table.flow_mut(entry.conn.forward()).unwrap().count(100, now);
        entry.last_ms = now.tick_ms;
        entry.packets += 1;
        self.table.set_state(entry.conn, entry.state, now);
    }

    fn close(&mut self, n: u32) -> Option<Entry> {
        let entry = self.conns.remove(&n)?;
        let removed = self.table.remove(entry.conn).unwrap();
        assert_eq!(removed.forward.state, entry.state);
        let counted = removed.forward.packets + removed.reverse.packets;
        assert_eq!(u64::from(counted), entry.packets);
        Some(entry)
    }

    fn name_of(&self, conn: ConnId) -> u32 {
        *self.conns.iter().find(|(_, entry)| entry.conn == conn).unwrap().0
    }

    fn expire(&mut self) {
        let now = self.now();
        let mut budget = ALL;
        while let Some(due) = self.table.next_due(now, &mut budget) {
            match due {
                Due::Expired(conn) => {
                    let entry = self.close(self.name_of(conn)).unwrap();
                    let timeout_ms = small_timeouts(entry.class).of(entry.state);
                    assert!(now.tick_ms.wrapping_sub(entry.last_ms) >= timeout_ms, "early");
                }
                Due::Counted(conn) => {
                    let name = self.name_of(conn);
                    let entry = self.conns.get_mut(&name).unwrap();
                    for id in [conn.forward(), conn.reverse()] {
                        let (packets, bytes) = self.table.flow_mut(id).unwrap().take_counts();
                        assert_eq!(bytes, u64::from(packets) * 100);
                        entry.packets -= u64::from(packets);
                    }
                    assert_eq!(entry.packets, 0);
                }
            }
        }
        let table = &self.table;
        self.redirects.retain(|n, redirect| {
            let idle_ms = now.tick_ms.wrapping_sub(redirect.last_ms);
            let timeout_ms = small_timeouts(redirect.class).tcp_established_ms;
            let key = pair::<A>(Proto::Tcp, *n).0.key();
            let there = table.lookup(&key, table.hash(&key)).is_some();
            assert!(there || idle_ms >= timeout_ms, "early: it is of use");
            assert!(!there || idle_ms < 2 * timeout_ms + 2 * STEP_MS, "late");
            there
        });
        for entry in self.conns.values() {
            let timeout_ms = small_timeouts(entry.class).of(entry.state);
            let late_ms = match entry.state.list() {
                Some(_) => timeout_ms,
                None => SWEEP_MS as u32,
            };
            let idle_ms = now.tick_ms.wrapping_sub(entry.last_ms);
            assert!(idle_ms < timeout_ms + late_ms + 2 * STEP_MS, "late: {:?}", entry.state);
        }
    }

    fn evict(&mut self) {
        let Some(conn) = self.table.victim(self.now(), |_| true) else { return };
        let entry = self.close(self.name_of(conn)).unwrap();
        let rank = |state: State| match state.list() {
            Some(List::HalfOpen) => 0,
            Some(List::UdpOneway) => 1,
            Some(List::IcmpOneway) => 2,
            Some(List::Closed) => 3,
            Some(List::Closing) => 4,
            Some(List::HalfClosed) => 5,
            Some(List::Redirect) | None => 6,
        };
        assert!(self.conns.values().all(|other| rank(other.state) >= rank(entry.state)));
    }

    fn check(&self) {
        assert_eq!(self.table.len() as usize, self.conns.len());
        assert_eq!(self.table.redirects() as usize, self.redirects.len());
        assert_eq!(self.table.is_full(), self.is_full());
        let (mut cursor, mut budget) = (crate::Cursor::default(), u32::MAX);
        while let Some(conn) = self.table.next_conn(&mut cursor, &mut budget) {
            self.name_of(conn);
            assert!(self.table.export(conn, self.now()).is_some());
        }
        for n in 0..40 {
            let conn = self.conns.get(&n);
            for proto in [Proto::Tcp, Proto::Udp, Proto::Icmp] {
                let expected = conn.filter(|entry| entry.proto == proto).map(|entry| entry.conn);
                let (forward, reverse) = pair::<A>(proto, n);
                for (key, id) in [
                    (forward.key(), expected.map(ConnId::forward)),
                    (reverse.key(), expected.map(ConnId::reverse)),
                ] {
                    let found = self.find(&key);
                    let to = found.and_then(|id| self.table.flow(id)?.redirect());
                    if let Some(to) = to {
                        assert_eq!(self.redirects.get(&n).map(|redirect| redirect.to), Some(to));
                        assert_eq!((proto, id), (Proto::Tcp, None));
                        assert!(self.table.export(found.unwrap().conn(), self.now()).is_none());
                        assert!(self.table.flow(found.unwrap().twin()).is_none());
                    } else {
                        assert_eq!(found, id);
                    }
                }
            }
        }
        let half_open = |entry: &&Entry| entry.state.list() == Some(List::HalfOpen);
        let expected = self.conns.values().filter(half_open).count();
        assert_eq!(self.table.half_open() as usize, expected);
    }
}

/// The table does as the model does.
fn run<A: TestAddress>(ops: Vec<Op>, start_ms: u32) {
    let (conns, redirects) = (HashMap::new(), HashMap::new());
    let mut model = Model::<A> { table: small_table(), conns, redirects, now_ms: start_ms };
    model.expire();
    for op in ops {
        match op {
            Op::Open(n, proto, class) => model.open(n, proto, class),
            Op::Packet(n, forward) => model.packet(n, forward),
            Op::State(n, state) => model.state(n, state),
            Op::Close(n) => drop(model.close(n)),
            Op::Redirect(n, to, class) => model.redirect(n, to, class),
            Op::Follow(n) => model.follow(n),
            Op::RemoveRedirect(n) => model.remove_redirect(n),
            Op::Evict => model.evict(),
            Op::Wait(ms) => {
                model.now_ms = model.now_ms.wrapping_add(ms);
                model.expire();
            }
        }
        model.check();
    }
    for _ in 0..90 {
        model.now_ms = model.now_ms.wrapping_add(STEP_MS);
        model.expire();
    }
    assert!(model.conns.is_empty(), "all expire if nothing comes");
    assert!(model.redirects.is_empty(), "so do redirects");
    assert_eq!(model.table.index.entries(), (0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn it_holds_what_a_map_with_naive_timers_holds(
        ops in proptest::collection::vec(op(), 1..250),
        start_ms in prop_oneof![Just(0), Just(u32::MAX - 20_000)],
        wide in any::<bool>(),
    ) {
        if wide { run::<u128>(ops, start_ms) } else { run::<u32>(ops, start_ms) }
    }
}

fn open(table: &mut FlowTable, n: u32, class: u8, state: State, now: Now) -> ConnId {
    let (forward, reverse) = pair(state.proto().unwrap(), n);
    let forward = Flow { timeout_class: class, state, ..forward };
    table.insert(forward, reverse, NewCold::default(), now).unwrap()
}

#[test]
fn a_turn_looks_at_no_more_than_its_budget() {
    let mut table = table(1000);
    for n in 0..500 {
        open(&mut table, n, 0, State::SynSent, Now::from_ms(0));
        open(&mut table, 500 + n, 0, State::Established, Now::from_ms(0));
    }
    let now = Now::from_ms(2_000_000);
    let mut expired = 0;
    let mut turns = 0;
    while !table.is_empty() {
        let mut budget = Budget { heads: 10, places: 20 };
        let mut of_turn = 0;
        while let Some(Due::Expired(conn)) = table.next_due(now, &mut budget) {
            table.remove(conn).unwrap();
            of_turn += 1;
        }
        assert!((1..=30).contains(&of_turn));
        expired += of_turn;
        turns += 1;
    }
    assert_eq!((expired, turns), (1000, 50));
}

#[test]
fn a_long_list_does_not_keep_others_waiting() {
    let mut table = table(2000);
    for n in 0..1000 {
        open(&mut table, n, 0, State::SynSent, Now::from_ms(0));
    }
    let closed = open(&mut table, 1000, 9, State::Closed, Now::from_ms(0));
    for turn in 0.. {
        let mut budget = Budget { heads: 4, places: 0 };
        while let Some(Due::Expired(conn)) = table.next_due(Now::from_ms(40_000), &mut budget) {
            table.remove(conn).unwrap();
        }
        if table.flow(closed.forward()).is_none() {
            assert!(turn < 3, "{turn}");
            return;
        }
    }
}

#[test]
fn the_sweep_takes_four_seconds_or_more() {
    let mut table = table(1000);
    for n in 0..1000 {
        let conn = open(&mut table, n, 0, State::Udp, Now::from_ms(0));
        table.flow_mut(conn.forward()).unwrap().count(1, Now::from_ms(0));
    }
    // What had gathered before there were conns is used up first.
    let mut budget = ALL;
    assert_eq!(table.next_due(Now::from_ms(0), &mut budget), None);
    let mut seen = Vec::new();
    for ms in (0..=4_000).step_by(10) {
        let mut budget = ALL;
        let before = seen.len();
        while let Some(Due::Counted(conn)) = table.next_due(Now::from_ms(ms), &mut budget) {
            table.flow_mut(conn.forward()).unwrap().take_counts();
            seen.push(conn.0);
        }
        assert!(seen.len() - before <= 3);
    }
    assert_eq!(seen, (0..1000).collect::<Vec<_>>());
}

#[test]
fn a_class_with_other_timeouts_is_due_at_its_own_time() {
    let mut table = table(10);
    table.set_timeouts(3, TimeoutSet { tcp_syn_ms: 1_000, ..TimeoutSet::default() });
    let slow = open(&mut table, 0, 0, State::SynSent, Now::from_ms(0));
    let quick = open(&mut table, 1, 3, State::SynSent, Now::from_ms(500));
    let due = |table: &mut FlowTable, ms| table.next_due(Now::from_ms(ms), &mut ALL.clone());
    assert_eq!(due(&mut table, 1_499), None);
    assert_eq!(due(&mut table, 1_500), Some(Due::Expired(quick)));
    table.remove(quick).unwrap();
    assert_eq!(due(&mut table, 20_000), None);
    table.set_timeouts(0, TimeoutSet { tcp_syn_ms: 20_000, ..TimeoutSet::default() });
    assert_eq!(due(&mut table, 20_000), Some(Due::Expired(slow)), "open conns too");
}

#[test]
fn only_services_that_allow_it_lose_idle_conns() {
    let mut table = table(100);
    let now = Now::from_ms(800_000);
    for n in 0..10u32 {
        let (forward, reverse) = pair(Proto::Tcp, n);
        let dport = 80 + (n % 2) as u16;
        let forward = Flow { state: State::Established, dport, ..forward };
        let opened = Now::from_ms(u64::from(n) * 60_000);
        table.insert(forward, reverse, NewCold::default(), opened).unwrap();
    }
    assert_eq!(table.victim(now, |_| false), None);
    let of_second = |forward: &Flow| forward.dport == 81;
    assert_eq!(table.victim(now, of_second), Some(ConnId(1)), "the one idle for longest");
    assert_eq!(table.victim(Now::from_ms(600_000 + 224_999), |_| true), Some(ConnId(0)));
    let fresh = Now::from_ms(60_000);
    assert_eq!(table.victim(fresh, of_second), None, "none is idle for long");
    let half_open = open(&mut table, 50, 0, State::SynSent, now);
    assert_eq!(table.victim(now, |_| true), Some(half_open));
}

/// A datagram's conn whose opener, or whose other side, has another source when it leaves.
fn translated(table: &mut FlowTable, inside_opens: bool, class: u8) -> ConnId {
    let (mut forward, mut reverse) = pair(Proto::Udp, 0);
    (forward.new_src, reverse.new_dst) = (forward.src, reverse.dst);
    (forward.new_dst, reverse.new_src) = (forward.dst, reverse.src);
    let outbound = if inside_opens { &mut forward } else { &mut reverse };
    outbound.new_src ^= 1;
    forward.timeout_class = class;
    table.insert(forward, reverse, NewCold::default(), Now::from_ms(0)).unwrap()
}

/// RFC 4787 REQ-6 and 6 a: packets from outside keep a conn alive only if they are to.
#[test]
fn rfc4787_req6_packets_from_inside_refresh_and_others_by_option() {
    for (refresh, from_inside, lives) in [
        (Refresh::Both, true, true),
        (Refresh::Both, false, true),
        (Refresh::Outbound, true, true),
        (Refresh::Outbound, false, false),
        (Refresh::Never, true, false),
        (Refresh::Never, false, false),
    ] {
        for inside_opens in [true, false] {
            let mut table = table(4);
            table.set_timeouts(
                1,
                TimeoutSet { refresh, udp_oneway_ms: 1_000, ..TimeoutSet::GATEWAY },
            );
            let conn = translated(&mut table, inside_opens, 1);
            let by_opener = inside_opens == from_inside;
            let id = if by_opener { conn.forward() } else { conn.reverse() };
            // Without a change of its state it is told by its list.
            table.flow_mut(id).unwrap().count(100, Now::from_ms(900));
            let due = table.next_due(Now::from_ms(1_100), &mut ALL.clone());
            let expired = matches!(due, Some(Due::Expired(_)));
            assert_eq!(expired, !lives, "{refresh:?}, inside {from_inside}, {inside_opens}");
        }
    }
}

#[test]
fn an_answered_conn_goes_on_with_other_timeouts() {
    let mut table = table(4);
    let conn = translated(&mut table, false, Timeouts::UNANSWERED);
    table.resettle(conn, LeaseKind::Mapping, 1, Now::from_ms(20_000));
    assert_eq!(table.cold(conn).unwrap().lease(), LeaseKind::Mapping);
    assert_eq!(table.timeout_ms(conn), TimeoutSet::default().udp_oneway_ms);
    for id in [conn.forward(), conn.reverse()] {
        assert_eq!(table.flow(id).unwrap().timeout_class, 1);
    }
    table.flow_mut(conn.forward()).unwrap().count(100, Now::from_ms(40_000));
    let due = |table: &mut FlowTable, ms| table.next_due(Now::from_ms(ms), &mut ALL.clone());
    assert!(!matches!(due(&mut table, 60_000), Some(Due::Expired(_))));
    assert_eq!(due(&mut table, 90_000), Some(Due::Expired(conn)));
}
