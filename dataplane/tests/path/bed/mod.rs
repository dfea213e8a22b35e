//! The testbed: workers on interfaces in memory, a clock moved by hand, and a ledger of all that a
//! test can cause. A failing test leaves its packets and state in `target/tmp/path/`.

mod evidence;
mod gateway;
mod lanes;
mod setup;

use std::collections::VecDeque;
use std::sync::Arc;

use balance::{Service, ServiceCell};
use counters::{Event, Source, Values};
use dataplane::snapshot::{Snapshot, Wire};
use dataplane::worker::Worker;
use dataplane::worker::headers::Owner;
use dataplane::worker::kernel::PumpEnd;
use dataplane::worker::link::{
    self, Command, ConnFilter, ControlEnd, Prepare, Scan, ScanAction, Update,
};
use fib::{Fib, FibConfig, Heard, Learned, Neighbours, next_generation};
use flow::{LeaseKind, Record};
use testkit::{Buf, Decoded, FakeClock, FakePorts, Ledger, PacketBuilder, ToIp, pkt};
use types::{EthPortId, MacAddr, Now, Verdict};

use lanes::{both, conn_ids, conns, leases};

pub use gateway::*;
pub use setup::*;

/// Everything that a test sees. With one arm `wan` and `lan` are the same interface.
pub struct Testbed {
    pub workers: Vec<Worker<FakePorts>>,
    pub control: Vec<ControlEnd>,
    /// The kernel's side of the rings of the workers.
    pub pumps: Vec<PumpEnd<Buf>>,
    pub clock: FakeClock,
    pub neighbours: Neighbours,
    pub snapshot: Arc<Snapshot>,
    pub fib_config: FibConfig,
    pub shop: Plan,
    pub dns: Plan,
    pub wan: usize,
    pub lan: usize,
    /// What the workers told control, in order.
    pub told: Vec<link::Event>,
    sent: Vec<VecDeque<Buf>>,
    arrived: u64,
    left: u64,
    before: Ledger,
    capture: Vec<(Now, Vec<u8>)>,
}

/// Packets of a failing test's capture, the last ones.
const CAPTURE_MAX: usize = 10_000;
/// Up to so many conns the tables are compared with the counts after every turn.
const COMPARED_MAX: u32 = 64;

impl Testbed {
    pub(self) fn new(
        (workers, control, pumps): (Vec<Worker<FakePorts>>, Vec<ControlEnd>, Vec<PumpEnd<Buf>>),
        neighbours: Neighbours,
        snapshot: Arc<Snapshot>,
        fib_config: FibConfig,
        (wan, lan): (usize, usize),
        (shop, dns): (Plan, Plan),
    ) -> Self {
        let sent = snapshot.interfaces.iter().map(|_| VecDeque::new()).collect();
        let mut bed = Self {
            workers,
            control,
            pumps,
            clock: FakeClock::new(),
            neighbours,
            snapshot,
            fib_config,
            shop,
            dns,
            wan,
            lan,
            told: Vec::new(),
            sent,
            arrived: 0,
            left: 0,
            before: Ledger::default(),
            capture: Vec::new(),
        };
        bed.before = bed.ledger();
        bed
    }

    /// The usual testbed.
    pub fn usual() -> Self {
        Setup::default().build()
    }

    // Packets in.

    /// A packet of the usual client to the VIP, as its gateway sends it.
    pub fn by_client(&self) -> PacketBuilder {
        let gateway = if self.wan == self.lan { ONE_ARM_GATEWAY } else { GATEWAY };
        pkt().eth(station(gateway), self.snapshot.interfaces[self.wan].mac).ipv4(CLIENT, VIP)
    }

    /// A packet of a server to the LIP.
    pub fn by_server(&self, server: impl ToIp) -> PacketBuilder {
        let server = server.to_ip();
        let station = testkit::mac(server as u8);
        pkt().eth(station, self.snapshot.interfaces[self.lan].mac).ipv4(server, LIP)
    }

    /// Lets a packet arrive at the first worker; [`Testbed::turn`] handles it.
    pub fn arrive(&mut self, interface: usize, packet: PacketBuilder) {
        self.arrive_raw(0, interface, packet.build());
    }

    pub fn arrive_raw(&mut self, worker: usize, interface: usize, packet: Buf) {
        self.record(packet.frame());
        self.arrived += 1;
        self.workers[worker].io.arrive(interface, packet);
    }

    /// Lets a packet arrive and be handled.
    pub fn receive(&mut self, interface: usize, packet: PacketBuilder) {
        self.arrive(interface, packet);
        self.turn();
    }

    /// Handles a packet that must leave at once on `out`, as nothing else does; what must pass
    /// unchanged is compared. The packet as it leaves.
    #[track_caller]
    pub fn through(&mut self, interface: usize, packet: PacketBuilder, out: usize) -> Decoded {
        let arrived = packet.build();
        let before = Decoded::of(&arrived).expect("a packet that can be decoded");
        self.arrive_raw(0, interface, arrived);
        self.turn();
        let sent = self.one(out);
        let (old, new) = (before.ipv4(), sent.ipv4());
        assert_eq!(new.ttl, old.ttl - 1, "TTL of {sent}");
        assert_eq!((new.tos, new.ident, new.df), (old.tos, old.ident, old.df), "{sent}");
        assert_eq!(new.options, old.options, "{sent}");
        assert_eq!(sent.eth_src, self.snapshot.interfaces[out].mac, "{sent}");
        sent
    }

    // Time.

    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// One round of every worker, and what must hold after each.
    #[track_caller]
    pub fn turn(&mut self) {
        let now = self.now();
        // What a worker hands to one that had its turn is handled in the next round: by way of the owner,
        // redirects, earlier owners and back, no test's packet goes over more rings.
        let rounds = match (self.workers.len(), &self.snapshot.gateway) {
            (2.., _) => 8,
            // Its own ring is read last.
            (_, Some(_)) => 2,
            _ => 1,
        };
        for _ in 0..rounds {
            self.workers.iter_mut().for_each(|worker| _ = worker.turn(now));
        }
        self.collect();
        self.check();
    }

    /// Moves the clock and turns.
    #[track_caller]
    pub fn after_ms(&mut self, ms: u64) {
        self.clock.advance_ms(ms);
        self.turn();
    }

    /// Rounds for so long, one each `step_ms`, with control at work as the daemon has it.
    #[track_caller]
    pub fn live_ms(&mut self, ms: u64, step_ms: u64) {
        for _ in 0..ms / step_ms {
            self.clock.advance_ms(step_ms);
            self.turn();
            self.control_turn();
        }
    }

    fn collect(&mut self) {
        for worker in 0..self.workers.len() {
            for interface in 0..self.sent.len() {
                for packet in self.workers[worker].io.take_sent(interface) {
                    self.record(packet.frame());
                    self.left += 1;
                    self.sent[interface].push_back(packet);
                }
            }
            while let Ok(event) = self.control[worker].events.pop() {
                self.told.push(event);
            }
        }
    }

    fn record(&mut self, frame: &[u8]) {
        if self.capture.len() < CAPTURE_MAX {
            self.capture.push((self.clock.now(), frame.to_vec()));
        }
    }

    // Packets out.

    /// The frames that have left on an interface since they were asked for last.
    pub fn take(&mut self, interface: usize) -> Vec<Buf> {
        self.sent[interface].drain(..).collect()
    }

    /// The same, decoded; everything in them must be right.
    #[track_caller]
    pub fn sent(&mut self, interface: usize) -> Vec<Decoded> {
        self.take(interface).iter().map(|frame| Decoded::check(frame)).collect()
    }

    /// The one packet that has left, on this interface.
    #[track_caller]
    pub fn one(&mut self, interface: usize) -> Decoded {
        let mut sent = self.sent(interface);
        assert_eq!(sent.len(), 1, "packets on interface {interface}: {sent:#?}");
        self.nothing_sent();
        sent.remove(0)
    }

    #[track_caller]
    pub fn nothing_sent(&mut self) {
        for interface in 0..self.sent.len() {
            let sent: Vec<_> = self.sent(interface).iter().map(Decoded::to_string).collect();
            assert!(sent.is_empty(), "left on interface {interface}: {sent:#?}");
        }
    }

    // What has changed.

    /// The counters of all workers together.
    pub fn values(&self) -> Values {
        let mut all = Values::new(self.snapshot.interfaces.len());
        self.workers.iter().for_each(|worker| all.merge(worker.core.counters.values()));
        all
    }

    fn ledger(&self) -> Ledger {
        let values = self.values();
        let sum = |of: fn(&Worker<FakePorts>) -> u64| self.workers.iter().map(of).sum::<u64>();
        let tables = [
            ("conns", sum(|it| both(it.core.table.len(), it.core.wide.table.len()))),
            (
                "redirects",
                sum(|it| both(it.core.table.redirects(), it.core.wide.table.redirects())),
            ),
            (
                "half-open",
                sum(|it| both(it.core.table.half_open(), it.core.wide.table.half_open())),
            ),
            ("leases", sum(|it| leases(it).taken.into())),
            ("resting", sum(|it| leases(it).resting.into())),
            ("held", sum(|worker| worker.core.held_now())),
            ("told", self.told.len() as u64),
        ];
        let verdicts =
            Verdict::ALL.iter().map(|verdict| (verdict.name(), values.verdict(*verdict)));
        let sources = Source::ALL.iter().map(|source| (source.name(), values.source(*source)));
        let events = Event::ALL.iter().map(|event| (event.name(), values.event(*event)));
        verdicts.chain(sources).chain(events).chain(tables).collect()
    }

    /// Asserts that exactly these have changed since the last time, and so much.
    #[track_caller]
    pub fn expect(&mut self, changes: &str) {
        self.ledger().expect(&mut self.before, changes);
    }

    /// Takes what has happened so far as given.
    pub fn settled(&mut self) {
        self.before = self.ledger();
        self.sent.iter_mut().for_each(VecDeque::clear);
    }

    /// What holds whatever a test does: every packet has ended once or is held, no buffer has stayed
    /// anywhere else, each conn has its lease, and the servers' counts are those of the table.
    #[track_caller]
    fn check(&self) {
        for (worker, held) in self.workers.iter().map(|worker| (worker, worker.core.held_now())) {
            let ledger = counters::Ledger::of(worker.core.counters.values());
            let ledger = counters::Ledger { held, ..ledger };
            assert!(ledger.closes(), "worker {:?}: {ledger}", worker.core.id);
            let conns = worker.core.table.len() + worker.core.wide.table.len();
            let sessions = worker.core.nat.as_ref().map_or(0, |nat| {
                [RULE, FORWARD, ALSO].map(|slot| nat.counts(slot).sessions).iter().sum()
            });
            let leases = leases(worker).taken;
            // In NAT mode a service's conns lease nothing.
            if self.shop.spec.mode == balance::Mode::FullNat {
                assert_eq!(leases + sessions, conns, "leases and conns");
            }
            if conns <= COMPARED_MAX {
                self.check_counts(worker);
            }
        }
        let values = self.values();
        let sum = |of: fn(&counters::InterfaceCounters) -> u64| {
            // What passes a VLAN passes its link.
            let ports = self.snapshot.interfaces.iter().zip(values.interfaces());
            let is_port = |wire: Wire| wire.vid == 0 && wire != Wire::NONE;
            let ports = ports.filter(|(interface, _)| is_port(interface.wire));
            ports.map(|(_, counted)| of(counted)).sum::<u64>()
        };
        let waiting: usize = self.workers.iter().map(|worker| worker.io.waiting()).sum();
        assert_eq!(sum(|interface| interface.rx_packets) + waiting as u64, self.arrived);
        assert_eq!(sum(|interface| interface.tx_packets), self.left);
        assert_eq!(values.verdict(Verdict::Internal), 0, "a fault of ours");
    }

    #[track_caller]
    fn check_counts(&self, worker: &Worker<FakePorts>) {
        let core = &worker.core;
        let (mut active, mut inactive) = ([0; 64], [0; 64]);
        for (cold, state) in conns::<u32>(core).chain(conns::<u128>(core)) {
            if cold.rs().is_none() {
                assert_ne!(cold.lease(), LeaseKind::Lip);
                continue;
            }
            let leased = self.shop.spec.mode == balance::Mode::FullNat;
            assert_eq!(cold.lease() == LeaseKind::Lip, leased);
            let counts = if state.is_established() { &mut active } else { &mut inactive };
            counts[cold.rs().index()] += 1;
        }
        for server in self.snapshot.services.iter().flat_map(|(_, service)| service.servers()) {
            let Some(totals) = core.cells.server_totals(server.slot) else { continue };
            let at = server.slot.index();
            assert_eq!((totals.active, totals.inactive), (active[at], inactive[at]), "{server:?}");
        }
    }

    /// The records of all conns, worker by worker.
    pub fn records(&self) -> Vec<Record> {
        let now = self.now();
        let mut records = Vec::new();
        for worker in &self.workers {
            let core = &worker.core;
            let header = |conn, wide| core.headers.find(Owner { conn, wide }).map(|it| it.state);
            let narrow = conn_ids::<u32>(core).filter_map(|conn| {
                let record = core.table.export(conn, now)?;
                Some(Record { header: header(conn, false), ..record })
            });
            let wide = conn_ids::<u128>(core).filter_map(|conn| {
                let record = core.wide.table.export(conn, now)?;
                Some(Record { header: header(conn, true), ..record })
            });
            records.extend(narrow.chain(wide));
        }
        records
    }

    // Control.

    /// What control would do with what it was told: neighbours are asked for and learned.
    pub fn control_turn(&mut self) {
        let now_ms = self.clock.ms();
        let (fib, mut actions) = (Arc::clone(&self.snapshot.fib), Vec::new());
        for event in std::mem::take(&mut self.told) {
            match event {
                // Reports are for routers, of which there is none.
                link::Event::Queried { .. } => {}
                link::Event::Needed { interface, address } => {
                    let _refused =
                        self.neighbours.needed(&fib, interface, address, now_ms, &mut actions);
                }
                link::Event::Learned { interface, address, mac, how } => {
                    let learned = Learned { iface: interface, address, mac, heard: how };
                    self.neighbours.learned(&fib, learned, now_ms, &mut actions);
                }
            }
        }
        self.neighbours.tick(&fib, now_ms, &mut actions);
    }

    /// Control hears of a station.
    pub fn learn(&mut self, interface: usize, address: &str, mac: MacAddr) {
        let (iface, address) = (EthPortId(interface as u16), address.parse().unwrap());
        let heard = match self.neighbours.find(iface, address) {
            Some(_) => Heard::Gratuitous,
            None => Heard::Request,
        };
        let learned = Learned { iface, address, mac, heard };
        let fib = Arc::clone(&self.snapshot.fib);
        self.neighbours.learned(&fib, learned, self.clock.ms(), &mut Vec::new());
    }

    /// Gives a worker a command and takes it back when it has been done.
    pub fn command(&mut self, worker: usize, command: Command) -> Command {
        self.control[worker].commands.push(command).expect("room for a command");
        self.turn();
        self.control[worker].done.pop().expect("done in one round")
    }

    /// Runs another snapshot on all workers.
    pub fn update(&mut self, change: impl FnOnce(&mut Snapshot)) {
        self.update_each(change, |_| ());
    }

    /// Runs another snapshot on one worker after the other, and what happens `between`.
    pub fn update_each(
        &mut self,
        change: impl FnOnce(&mut Snapshot),
        mut between: impl FnMut(&mut Self),
    ) {
        let mut snapshot = Snapshot::clone(&self.snapshot);
        snapshot.generation += 1;
        change(&mut snapshot);
        self.snapshot = Arc::new(snapshot);
        for worker in 0..self.workers.len() {
            self.update_worker(worker);
            between(self);
        }
    }

    /// Has a worker run the snapshot that is there.
    pub fn update_worker(&mut self, worker: usize) {
        let snapshot = Arc::clone(&self.snapshot);
        let update = Update { snapshot, timeouts: Vec::new() };
        self.command(worker, Command::Update(Box::new(update)));
    }

    /// Changes the service on `VIP:80` as control does: cells first, then the snapshot.
    pub fn change_shop(&mut self, change: impl FnOnce(&mut Plan)) {
        self.change_shop_each(change, |_| ());
    }

    /// Changes it on one worker after the other, and what happens `between`.
    pub fn change_shop_each(
        &mut self,
        change: impl FnOnce(&mut Plan),
        between: impl FnMut(&mut Self),
    ) {
        change(&mut self.shop);
        let service = self.shop.compiled();
        let workers = self.workers.len() as u16;
        for worker in 0..workers {
            let cell = ServiceCell::new(&service, worker, workers);
            let prepare = Prepare { cells: vec![Some(cell)], ..Prepare::default() };
            self.command(worker.into(), Command::Prepare(Box::new(prepare)));
        }
        self.put_shop(Some(service), between);
    }

    /// Takes the service on `VIP:80` out of the snapshot.
    pub fn remove_shop(&mut self) {
        self.put_shop(None, |_| ());
    }

    fn put_shop(&mut self, service: Option<Arc<Service>>, between: impl FnMut(&mut Self)) {
        let key = self.shop.key();
        let services = self.snapshot.services.with([(key, service)]);
        let gateway = self.snapshot.gateway.as_ref();
        let earlier = self.snapshot.earlier_after(&services, [key], gateway);
        let change = |snapshot: &mut Snapshot| {
            (snapshot.services, snapshot.earlier) = (services, earlier);
        };
        self.update_each(change, between);
    }

    /// Runs a snapshot with other addresses and routes.
    pub fn update_fib(&mut self, change: impl FnOnce(&mut FibConfig)) {
        change(&mut self.fib_config);
        let generation = next_generation(self.snapshot.fib.generation());
        let fib = Arc::new(Fib::new(&self.fib_config, generation).unwrap());
        self.update(|snapshot| snapshot.fib = fib);
    }

    /// How many conns on all workers a filter chooses.
    pub fn count(&mut self, filter: ConnFilter) -> u64 {
        let count = || Scan { filter, action: ScanAction::Count, ..Scan::default() };
        (0..self.workers.len()).map(|worker| self.scan(worker, count()).matched).sum()
    }

    /// Runs a scan to its end on one worker, with room for so many records at a time.
    pub fn scan(&mut self, worker: usize, scan: Scan) -> Scan {
        self.control[worker].scans.push(Box::new(scan)).expect("room for a scan");
        loop {
            self.turn();
            if let Ok(scan) = self.control[worker].scanned.pop() {
                return *scan;
            }
        }
    }
}
