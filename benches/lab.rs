//! A worker whose interfaces are memory, and whose clock counts measured time only.

use dataplane::worker::Worker;
use dataplane::worker::clock::Clock;
use dataplane::worker::link::ControlEnd;
use types::{Packet, Verdict};

use crate::bed::{self, BedConfig};
use crate::frame::{Frame, Wire};
use crate::traffic::{Fields, Form, Template, check, ident};

/// Packets that are prepared together and measured together: eight bursts for each interface. What they
/// take in the cache, packet paths with a NIC take there, too.
pub const CHUNK: usize = 256;

/// The worker with its packets.
pub struct Lab {
    /// The worker.
    pub worker: Worker<Wire>,
    _control: ControlEnd,
    clock: Clock,
    tsc: u64,
    free: Vec<Frame>,
    put: usize,
    /// What the worker does.
    pub form: Form,
    /// Whether callgrind is to count what happens from now on.
    pub counted: bool,
}

impl Lab {
    /// A worker without conns.
    pub fn new(config: &BedConfig) -> Self {
        let (worker, control, clock) = bed::worker(config, Wire::new(2 * CHUNK));
        let free = (0..2 * CHUNK).map(|_| Frame::new()).collect();
        let (tsc, form) = (arch::tsc(), config.form);
        Self { worker, _control: control, clock, tsc, free, put: 0, form, counted: false }
    }

    /// Lets a packet arrive.
    #[inline]
    pub fn put(&mut self, interface: usize, template: &Template, fields: &Fields) {
        let mut frame = self.free.pop().expect("at most two chunks are under way");
        template.write(frame.reset(template.len()), fields);
        self.worker.io.arrived[interface].push(frame);
        self.put += 1;
    }

    /// Handles all that has arrived; returns the cycles that it took.
    pub fn run(&mut self) -> u64 {
        let turns = if self.counted { counted_turns } else { turns };
        let cycles = turns(&mut self.worker, &self.clock, self.tsc);
        self.tsc += cycles;
        cycles
    }

    /// Lets time pass in which nothing arrives.
    pub fn pass_ms(&mut self, ms: u32) {
        self.tsc += arch::tsc_hz() / 1_000 * u64::from(ms);
    }

    /// Takes what was transmitted and gives each frame to `look`, with its identification.
    pub fn collect(&mut self, interface: usize, mut look: impl FnMut(u16, &[u8])) {
        for frame in self.worker.io.sent[interface].drain(..) {
            self.put -= 1;
            look(ident(frame.bytes(), self.form), frame.bytes());
            self.free.push(frame);
        }
    }

    /// How many conns there are.
    pub fn conns(&self) -> u32 {
        self.worker.core.table.len() + self.worker.core.wide.table.len()
    }

    /// Panics unless all that was put has come out and been collected.
    pub fn all_through(&self) {
        if self.put == 0 {
            return;
        }
        let values = self.worker.core.counters.values();
        for verdict in Verdict::ALL.iter().filter(|verdict| values.verdict(**verdict) > 0) {
            eprintln!("{}: {}", verdict.name(), values.verdict(*verdict));
        }
        panic!("{} packets did not come through", self.put);
    }

    /// As [`Lab::collect`] of both, with a full check of every frame.
    pub fn collect_checked(&mut self) {
        for interface in [bed::WAN, bed::LAN] {
            self.collect(interface, |_, frame| check(frame));
        }
    }
}

/// [`turns`] under a name by which callgrind knows it.
#[inline(never)]
fn counted_turns(worker: &mut Worker<Wire>, clock: &Clock, tsc: u64) -> u64 {
    turns(worker, clock, tsc)
}

/// What the worker's loop does, until nothing waits.
#[inline(never)]
fn turns(worker: &mut Worker<Wire>, clock: &Clock, tsc: u64) -> u64 {
    let start = arch::tsc();
    let at = || clock.at(tsc + (arch::tsc() - start));
    while worker.io.is_waiting() {
        let now = at();
        let packets = worker.turn(now);
        let end = at();
        worker.core.counters.looped(packets > 0, end.burst_tsc.wrapping_sub(now.burst_tsc));
    }
    arch::tsc() - start
}
