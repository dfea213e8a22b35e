//! A worker's ranking of a service's servers, for the schedulers that compare them.
//!
//! `wlc` and `lc` rank by load over weight. `wrr` ranks by the time of each server's next turn: its turns come
//! at `(k + place / servers) / weight`, so that each cycle of time 1 holds exactly `weight` of them, and
//! servers of equal weight take turns in order.

use types::{Now, Slot};

use crate::cells::{Place, ServerTable};
use crate::scheduler::Scheduler;
use crate::service::{Server, Service};
use crate::tournament::{Entry, Tournament};

/// The weight of all servers under `lc`: slow start has so many steps.
const LC_WEIGHT: u32 = 256;

/// Servers looked at again for each conn: those at their limit, and those warming up.
const REVISITS: usize = 16;

/// The same when no other server is left.
const REVISITS_MAX: usize = 256;

/// What `wlc` and `lc` compare, as LVS: an inactive conn costs a 256th of an active one.
#[inline]
pub(crate) fn load(active: u32, inactive: u32) -> u64 {
    u64::from(active) * 256 + u64::from(inactive)
}

/// The weight that counts under a scheduler.
#[inline]
pub(crate) fn weight(scheduler: Scheduler, server: &Server, warm: Option<u32>, now: Now) -> u32 {
    let full = if scheduler == Scheduler::Lc { LC_WEIGHT } else { u32::from(server.weight) };
    server.warmed(full, warm, now)
}

/// A moment of the `wrr` cycle, in 2^-32 of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Phase(u64);

impl Phase {
    /// Each worker starts at another moment.
    pub(crate) fn of_worker(place: Place) -> Self {
        Self((u64::from(place.worker) << 32) / u64::from(place.workers.max(1)))
    }

    /// The number of a server's first turn from this moment on; `index` is its remainder by `servers`.
    pub(crate) fn first_turn(self, index: u64, weight: u32, servers: u64) -> u64 {
        let span = u128::from(weight) * u128::from(servers) * u128::from(self.0);
        let earliest = span.div_ceil(1 << 32) as u64;
        index + earliest.saturating_sub(index).div_ceil(servers.max(1)) * servers
    }
}

/// The ranking; its room is fixed when it is made.
#[derive(Debug, Default)]
pub(crate) struct Ranking {
    scheduler: Scheduler,
    tree: Tournament,
    /// Servers ranked; 0 if there is no room for the service's.
    len: usize,
    /// Ties go to the server that has this index, or follows.
    first: usize,
    /// Places to look at again, in a ring; each at most once.
    queue: Box<[u32]>,
    queued: Box<[bool]>,
    head: usize,
    waiting: usize,
    /// The moment of `wrr`'s cycle at which this ranking began.
    phase: Phase,
    /// The last turn of `wrr` since: its number and weight.
    last: Option<(u64, u64)>,
}

impl Ranking {
    pub(crate) fn new(capacity: usize, place: Place) -> Self {
        let tree = Tournament::new(capacity);
        let capacity = tree.capacity();
        Self {
            tree,
            queue: vec![0; capacity].into(),
            queued: vec![false; capacity].into(),
            phase: Phase::of_worker(place),
            ..Self::default()
        }
    }

    /// Are this service's servers ranked here? Not if its cell has no room for them.
    #[inline]
    pub(crate) fn holds(&self, service: &Service) -> bool {
        self.len == service.servers().len() && self.scheduler == service.spec().scheduler
    }

    /// Is there room for this service's servers?
    pub(crate) fn has_room(&self, service: &Service) -> bool {
        service.spec().scheduler.is_ranked() && service.servers().len() <= self.tree.capacity()
    }

    /// Goes on at the moment of another ranking.
    pub(crate) fn follow(&mut self, other: &Self) {
        self.phase = other.current_phase();
    }

    fn current_phase(&self) -> Phase {
        let Some((num, weight)) = self.last else { return self.phase };
        let turns = (u128::from(weight) * self.len as u128).max(1);
        // One further than the last turn, which is not to come again.
        Phase((((u128::from(num) << 32) / turns) as u64 & u64::from(u32::MAX)) + 1)
    }

    /// Ranks all servers anew: the service has changed.
    pub(crate) fn rebuild(
        &mut self,
        service: &Service,
        servers: &ServerTable,
        place: Place,
        now: Now,
    ) {
        self.phase = self.current_phase();
        self.last = None;
        self.scheduler = service.spec().scheduler;
        self.len = service.servers().len();
        (self.head, self.waiting) = (0, 0);
        self.queued.fill(false);
        if !self.has_room(service) {
            self.len = 0;
            return;
        }
        self.first = match self.scheduler {
            Scheduler::Wrr => 0,
            _ => self.len * usize::from(place.worker) / usize::from(place.workers.max(1)),
        };
        for at in 0..self.tree.capacity() {
            self.tree.place(at, Entry::default());
        }
        for (index, server) in service.servers().iter().enumerate() {
            let Some(cell) = servers.of(server.slot) else { continue };
            let at = self.place_of(index);
            let full = weight(self.scheduler, server, None, now);
            let num = match self.scheduler {
                Scheduler::Wrr => self.phase.first_turn(index as u64, full, self.len as u64),
                _ => cell.load(),
            };
            let weight = if server.takes_new() { full } else { 0 };
            self.tree.place(at, Entry { num, weight, tag: server.slot.to_bits() });
            if weight != 0 && server.warming(cell.warm, now).is_some() {
                self.look_again(at);
            }
        }
        self.tree.rebuild();
    }

    fn place_of(&self, index: usize) -> usize {
        if index >= self.first { index - self.first } else { index + self.len - self.first }
    }

    /// Which server a place is of.
    #[inline]
    pub(crate) fn index_of(&self, place: usize) -> usize {
        let index = place + self.first;
        if index >= self.len { index - self.len } else { index }
    }

    /// The place of the best server.
    #[inline]
    pub(crate) fn best(&self) -> Option<usize> {
        self.tree.winner()
    }

    /// What ranks the server of an index.
    pub(crate) fn entry(&self, index: usize) -> Entry {
        if index < self.len { self.tree.entry(self.place_of(index)) } else { Entry::default() }
    }

    /// The server of a place got a conn.
    #[inline]
    pub(crate) fn taken(&mut self, place: usize) {
        if self.scheduler == Scheduler::Wrr {
            let entry = self.tree.entry(place);
            self.last = Some((entry.num, u64::from(entry.weight)));
            self.tree.set(place, Entry { num: entry.num + self.len as u64, ..entry });
        }
    }

    /// The load of a server has changed.
    #[inline]
    pub(crate) fn loaded(&mut self, index: usize, slot: Slot, load: u64) {
        if index >= self.len || !matches!(self.scheduler, Scheduler::Wlc | Scheduler::Lc) {
            return;
        }
        let place = self.place_of(index);
        let entry = self.tree.entry(place);
        if entry.tag == slot.to_bits() {
            self.tree.set(place, Entry { num: load, ..entry });
        }
    }

    /// The server of a place is at its limit: out, until it is looked at again.
    pub(crate) fn block(&mut self, place: usize) {
        let entry = self.tree.entry(place);
        self.tree.set(place, Entry { weight: 0, ..entry });
        self.look_again(place);
    }

    fn look_again(&mut self, place: usize) {
        let Some(queued) = self.queued.get_mut(place).filter(|queued| !**queued) else { return };
        *queued = true;
        let tail = (self.head + self.waiting) & (self.queue.len() - 1);
        if let Some(slot) = self.queue.get_mut(tail) {
            *slot = place as u32;
            self.waiting += 1;
        }
    }

    /// Looks again at some servers that were at their limit or are warming up.
    #[inline]
    pub(crate) fn revisit(&mut self, service: &Service, servers: &ServerTable, now: Now) {
        if self.waiting > 0 {
            self.revisit_some(REVISITS, service, servers, now);
            if self.best().is_none() {
                self.revisit_some(REVISITS_MAX, service, servers, now);
            }
        }
    }

    fn revisit_some(&mut self, budget: usize, service: &Service, servers: &ServerTable, now: Now) {
        for _ in 0..budget.min(self.waiting) {
            let Some(&place) = self.queue.get(self.head) else { return };
            let place = place as usize;
            self.head = (self.head + 1) & (self.queue.len() - 1);
            self.waiting -= 1;
            if let Some(queued) = self.queued.get_mut(place) {
                *queued = false;
            }
            let Some(server) = service.servers().get(self.index_of(place)) else { continue };
            let Some(cell) = servers.of(server.slot) else { continue };
            let admits = cell.lease.admits(server.limits);
            let full = weight(self.scheduler, server, cell.warm, now);
            self.reweigh(place, if admits { full } else { 0 });
            if !admits || server.warming(cell.warm, now).is_some() {
                self.look_again(place);
            }
        }
    }

    fn reweigh(&mut self, place: usize, weight: u32) {
        let entry = self.tree.entry(place);
        if entry.weight == weight {
            return;
        }
        let num = match (self.scheduler, weight) {
            (Scheduler::Wrr, 1..) => self.next_turn(entry, weight),
            _ => entry.num,
        };
        self.tree.set(place, Entry { num, weight, ..entry });
    }

    /// The next turn of `wrr` under another weight: what was left to wait, in turns, is left still. A
    /// server that was out is due at once.
    pub(crate) fn next_turn(&self, entry: Entry, weight: u32) -> u64 {
        let (num, of) = self.last.unwrap_or((self.phase.0 * self.len as u64, 1 << 32));
        let (num, of) = (i128::from(num), i128::from(of.max(1)));
        let (from, turn) = match entry.weight {
            0 => (0, 0),
            from => (i128::from(from), i128::from(entry.num)),
        };
        let passed = (num * (i128::from(weight) - from) + of / 2).div_euclid(of);
        (turn + passed).max(0) as u64
    }
}
