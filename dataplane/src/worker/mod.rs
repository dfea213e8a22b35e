//! A worker: the loop on one lcore, and all that it owns.

pub(crate) mod bucket;
pub mod clock;
mod commands;
mod gateway;
pub mod handoff;
pub mod headers;
pub mod held;
pub mod idle;
pub mod kernel;
pub mod link;
pub mod nat;
pub mod nat_log;
mod scan;
mod sweep;
pub mod wide;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ::nat::fragments::Fragments;
use ::nat::{NatState, Secrets};
use balance::Cells;
use counters::{Event as Counted, Gauge, WorkerCounters};
use flow::FlowTable;
use pool::Leases;
use rtrb::Producer;
use types::{ClassSet, EthPortId, Io, Now, Packet, WorkerId};

use crate::path::burst::{Burst, Meta};
use crate::path::lane::Pools;
use crate::path::transmit::{GATHERED_MAX, TxBuffer, transmit};
use crate::path::{self, ReplyLimit, egress, receive};
use crate::snapshot::Snapshot;
use clock::Clock;
use handoff::Handoff;
use headers::Headers;
use held::Held;
use idle::{Idle, Idler};
use kernel::KernelEnd;
use link::{Event, WorkerEnd};
use nat_log::NatRecord;
use wide::{Wide, WideConfig};

/// What a worker is made of.
pub struct WorkerConfig<P> {
    /// Which worker this is.
    pub id: WorkerId,
    /// The configuration that it starts with.
    pub snapshot: Arc<Snapshot>,
    /// Its conns.
    pub table: FlowTable,
    /// Its leases of LIP ports.
    pub leases: Leases,
    /// What it has of conns with an IPv6 side.
    pub wide: WideConfig<P>,
    /// Its cells of services and real servers.
    pub cells: Cells,
    /// The node's secrets.
    pub secrets: Secrets,
    /// Its ends of the rings between workers.
    pub handoff: Handoff<P>,
    /// Its ends of the rings to and from the kernel.
    pub kernel: KernelEnd<P>,
    /// Its counters, whose published side control has.
    pub counters: WorkerCounters,
    /// Its end of the link to control.
    pub link: WorkerEnd,
    /// Its clock.
    pub clock: Clock,
    /// What it does with empty polls.
    pub idle: Idle,
}

/// All that the path reads and writes. Nobody else writes any of it.
pub struct Core<P> {
    /// Which worker this is.
    pub id: WorkerId,
    /// The configuration that it runs.
    pub snapshot: Arc<Snapshot>,
    /// Its conns of IPv4.
    pub table: FlowTable,
    /// Its leases of IPv4 LIPs' ports.
    pub leases: Leases,
    /// What it has of conns with an IPv6 side.
    pub wide: Wide<P>,
    /// The classes of ports that it leases.
    pub classes: ClassSet,
    /// Counts the LIPs tried, by services' slots modulo the length: where the next conn's search begins.
    pub next_lip: [u32; LIP_CURSORS],
    /// Its cells of services and real servers.
    pub cells: Cells,
    /// What conns of SNAT and port forwards hold; none until there is a rule.
    pub nat: Option<Box<NatState>>,
    /// Its counters.
    pub counters: WorkerCounters,
    /// The node's secrets.
    pub secrets: Secrets,
    /// Packets that leave with the next flush, by interface.
    pub tx: Vec<TxBuffer<P>>,
    /// Packets that wait for their next hop.
    pub held: Held<P>,
    /// The fragments of IPv4 that are under way, and those that wait for their first one.
    pub fragments: Fragments<(P, Meta)>,
    /// The headers of the PROXY protocol that are on their way.
    pub headers: Headers,
    /// Rings to and from the other workers.
    pub handoff: Handoff<P>,
    /// Rings to and from the kernel.
    pub kernel: KernelEnd<P>,
    /// Bounds what we answer by ourselves.
    pub replies: ReplyLimit,
    events: Producer<Event>,
    nat_log: Producer<NatRecord>,
}

impl<P: Packet> Core<P> {
    /// Tells control; false if it has not read for so long that the ring is full.
    #[inline]
    pub fn told(&mut self, event: Event) -> bool {
        self.events.push(event).is_ok()
    }

    /// Tells the log of NAT. What finds no room is lost and counted.
    pub(crate) fn log_nat(&mut self, record: NatRecord) {
        if self.nat_log.push(record).is_err() {
            self.counters.add(Counted::NatLogLost, 1);
        }
    }

    /// Packets that are here and have no verdict yet: a term of the ledger.
    pub fn held_now(&self) -> u64 {
        let gathered: usize = self.tx.iter().map(TxBuffer::len).sum();
        (self.held.len() + self.fragments.len() + self.wide.fragments.len() + gathered) as u64
    }

    /// The ports that it leases.
    #[inline]
    pub fn pools(&mut self) -> Pools<'_> {
        Pools { v4: &mut self.leases, v6: &mut self.wide.leases, classes: self.classes }
    }
}

/// A worker with its interfaces.
pub struct Worker<I: Io> {
    /// What the path works on.
    pub core: Core<I::Packet>,
    /// Its queues.
    pub io: I,
    link: Link,
    burst: Box<Burst<I::Packet>>,
    clock: Clock,
    idler: Idler,
    sweep: sweep::Sweep,
}

/// The link to control without the events, which the path writes.
#[derive(Debug)]
struct Link {
    commands: rtrb::Consumer<link::Command>,
    done: Producer<link::Command>,
    scans: rtrb::Consumer<Box<link::Scan>>,
    scanned: Producer<Box<link::Scan>>,
    scan: Option<Box<link::Scan>>,
    published_at: u32,
}

/// Services that are open at once each go round their own LIPs.
pub const LIP_CURSORS: usize = 64;
/// Counters are published this often.
const PUBLISH_MS: u32 = 10;
/// Packets that wait for a neighbour are looked at this often.
const HELD_MS: u32 = 1;

impl<I: Io> Worker<I> {
    /// A worker with `interfaces` interfaces, which does nothing yet.
    pub fn new(config: WorkerConfig<I::Packet>, io: I, interfaces: usize) -> Self {
        let WorkerEnd { commands, done, scans, scanned, events, nat_log } = config.link;
        let fragments = [config.secrets.isn[1], config.secrets.timestamp[0]];
        let core = Core {
            id: config.id,
            classes: config.snapshot.steering.classes_of(config.id),
            snapshot: config.snapshot,
            table: config.table,
            leases: config.leases,
            next_lip: [0; LIP_CURSORS],
            cells: config.cells,
            nat: None,
            counters: config.counters,
            secrets: config.secrets,
            tx: (0..interfaces).map(|_| TxBuffer::default()).collect(),
            held: Held::default(),
            headers: Headers::default(),
            fragments: Fragments::new(fragments),
            wide: Wide::new(config.wide, fragments),
            handoff: config.handoff,
            kernel: config.kernel,
            replies: ReplyLimit::default(),
            events,
            nat_log,
        };
        Self {
            core,
            io,
            link: Link { commands, done, scans, scanned, scan: None, published_at: 0 },
            burst: Box::default(),
            clock: config.clock,
            idler: Idler::new(config.idle),
            sweep: sweep::Sweep::default(),
        }
    }

    /// Runs until `stop` is set.
    pub fn run(&mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let now = self.clock.now();
            let packets = self.turn(now);
            let end = self.clock.now();
            self.core.counters.looped(packets > 0, end.burst_tsc.wrapping_sub(now.burst_tsc));
            self.idler.looped(packets > 0 || self.link.scan.is_some());
        }
        self.publish();
    }

    /// One round: what control wants, a burst from each interface and from the rings, what has
    /// expired. Returns how many packets it handled.
    pub fn turn(&mut self, now: Now) -> usize {
        self.commands(now);
        let mut packets = 0;
        for interface in 0..self.core.tx.len() {
            let interface = EthPortId(interface as u16);
            let count = receive::receive(&mut self.core, &mut self.io, &mut self.burst, interface);
            if count > 0 {
                path::process(&mut self.core, &mut self.io, &mut self.burst, now);
                packets += count;
            }
        }
        if self.core.snapshot.steering.workers() > 1 || self.core.nat.is_some() {
            let count = receive::receive_handed(&mut self.core, &mut self.burst);
            if count > 0 {
                path::process_steered(&mut self.core, &mut self.io, &mut self.burst, now);
                packets += count;
            }
            packets += path::process_wide_handed(&mut self.core, &mut self.io, now);
        }
        packets += self.waited_fragments(now);
        packets += path::send_for_kernel::<I>(&mut self.core);
        if !self.core.held.is_empty() && self.sweep.held_due(now, HELD_MS) {
            egress::retry_held(&mut self.core, &mut self.io, now);
        }
        self.expire(now);
        self.scan(now);
        self.flush();
        if sweep::is_due(&mut self.link.published_at, now, PUBLISH_MS) {
            self.publish();
        }
        packets
    }

    /// Goes on with fragments whose first one has come, and ends those that waited in vain.
    #[inline]
    fn waited_fragments(&mut self, now: Now) -> usize {
        let Core { fragments, wide, .. } = &mut self.core;
        if fragments.is_empty() && wide.fragments.is_empty() {
            return 0;
        }
        fragments.expire(now);
        wide.fragments.expire(now);
        let mut packets = 0;
        // Nothing that comes out makes others come out.
        while self.core.fragments.has_ended() || self.core.wide.fragments.has_ended() {
            packets += path::process_waited(&mut self.core, &mut self.io, &mut self.burst, now);
        }
        packets
    }

    /// Sends what commands, expiry and released packets have put to the interfaces.
    fn flush(&mut self) {
        if self.core.tx.iter().any(|buffer| !buffer.is_empty()) {
            transmit(&mut self.core, &mut self.io);
        }
    }

    /// Shows control the counters as they are now.
    pub fn publish(&mut self) {
        let core = &mut self.core;
        core.counters.set(Gauge::Held, core.held_now());
        let (narrow, wide) = (&core.table, &core.wide.table);
        let both = |narrow: u32, wide: u32| u64::from(narrow) + u64::from(wide);
        core.counters.set(Gauge::Conns, both(narrow.len(), wide.len()));
        core.counters.set(Gauge::Ipv6Conns, wide.len().into());
        core.counters.set(Gauge::Redirects, both(narrow.redirects(), wide.redirects()));
        core.counters.set(Gauge::HalfOpen, both(narrow.half_open(), wide.half_open()));
        let leases = [core.leases.totals(), core.wide.leases.totals()];
        let leases = leases.map(|leases| both(leases.taken, leases.resting));
        core.counters.set(Gauge::Leases, leases.iter().sum());
        core.counters.publish();
    }
}

/// What leaves in one round besides forwarded packets must fit the buffers.
const _: () = assert!(GATHERED_MAX >= 2 * types::BURST_MAX);
