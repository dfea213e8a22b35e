//! The flow table of a worker: conns by key, in slabs whose size is fixed at the start.

use arch::{HugeSlab, PageRequest, Pages, SlabError};
use types::{BURST_MAX, FlowKey, Now};

use crate::cold::{Cold, LeaseKind, NewCold};
use crate::dirty::Dirty;
use crate::expire::Sweep;
use crate::flow::{ConnId, Flow, FlowAddress, FlowId, flags};
use crate::index::Index;
use crate::lists::Lists;
use crate::state::{State, Timeouts};

/// No place of a slab.
pub(crate) const NONE: u32 = u32::MAX;

/// The numbers of the bits that are set.
fn bits(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = mask.trailing_zeros() as usize;
        mask &= mask.wrapping_sub(1);
        (bit < 64).then_some(bit)
    })
}

/// What a table is made of.
#[derive(Clone, Debug)]
pub struct TableConfig {
    /// How many conns it holds, 1 to [`TableConfig::MAX_CONNECTIONS`].
    pub max_connections: u32,
    /// Secret of the hash; random, another one in each process.
    pub seed: [u64; 2],
    /// How long conns may be idle.
    pub timeouts: Timeouts,
    /// The pages to ask for.
    pub pages: PageRequest,
}

impl TableConfig {
    /// The most conns of one table: indices have 32 bits, and two flows a conn.
    pub const MAX_CONNECTIONS: u32 = 1 << 30;
}

/// A table that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The number is not within the bounds.
    #[error("max_connections {0} is not within 1 to {max}", max = TableConfig::MAX_CONNECTIONS)]
    MaxConnections(u32),
    /// The kernel does not give the memory.
    #[error(transparent)]
    Memory(#[from] SlabError),
}

/// A conn that the table does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InsertError {
    /// It holds `max_connections` already.
    #[error("the flow table is full")]
    Full,
    /// One of the keys is another conn's, or both are the same.
    #[error("there is a conn with this key")]
    Exists(Option<FlowId>),
}

/// The memory that a table reserves, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// The index from keys to flows.
    pub index: u64,
    /// Two flows a conn.
    pub flows: u64,
    /// The cold parts.
    pub cold: u64,
}

impl MemoryPlan {
    /// All of it.
    pub const fn total(&self) -> u64 {
        self.index + self.flows + self.cold
    }
}

/// A conn to be opened: what its insert touches is on its way into the cache.
#[derive(Clone, Copy, Debug)]
pub struct Prepared<A = u32> {
    forward: Flow<A>,
    reverse: Flow<A>,
    cold: NewCold,
    hashes: [u64; 2],
}

/// What is left of a conn that was removed.
#[derive(Clone, Copy, Debug)]
pub struct Removed<A = u32> {
    /// Its forward flow.
    pub forward: Flow<A>,
    /// Its reverse flow.
    pub reverse: Flow<A>,
    /// Its cold part.
    pub cold: Cold,
}

/// A walk through the conns in slab order. Conns that are opened meanwhile may be missed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor(u32);

impl Cursor {
    /// In one number, for who goes on later.
    pub const fn to_bits(self) -> u32 {
        self.0
    }

    /// From [`Cursor::to_bits`]. Any number is a place, if perhaps behind the last conn.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }
}

/// All conns of a worker. A number of operations is fixed for each call; nothing is allocated.
#[derive(Debug)]
pub struct FlowTable<A: FlowAddress = u32> {
    pub(crate) index: Index,
    pub(crate) flows: HugeSlab<Flow<A>>,
    pub(crate) cold: HugeSlab<Cold>,
    pub(crate) timeouts: Timeouts,
    pub(crate) lists: Lists,
    pub(crate) dirty: Dirty,
    pub(crate) sweep: Sweep,
    /// Places that were used at least once.
    pub(crate) fresh: u32,
    free: u32,
    live: u32,
    pub(crate) redirects: u32,
    max: u32,
}

impl<A: FlowAddress> FlowTable<A> {
    /// Reserves the memory of [`FlowTable::plan`].
    ///
    /// # Errors
    /// The number of conns is out of bounds, or the kernel refuses the memory.
    pub fn new(config: TableConfig) -> Result<Self, TableError> {
        let max = config.max_connections;
        if max == 0 || max > TableConfig::MAX_CONNECTIONS {
            return Err(TableError::MaxConnections(max));
        }
        Ok(Self {
            index: Index::new(u64::from(max) * 2, config.seed, config.pages)?,
            flows: HugeSlab::new(max as usize * 2, config.pages)?,
            cold: HugeSlab::new(max as usize, config.pages)?,
            timeouts: config.timeouts,
            lists: Lists::new(),
            dirty: Dirty::new(),
            sweep: Sweep::default(),
            fresh: 0,
            free: NONE,
            live: 0,
            redirects: 0,
            max,
        })
    }

    /// The memory that a table for so many conns reserves.
    pub fn plan(max_connections: u32) -> MemoryPlan {
        let conns = u64::from(max_connections);
        MemoryPlan {
            index: Index::bytes_for(conns * 2),
            flows: conns * 2 * size_of::<Flow<A>>() as u64,
            cold: conns * size_of::<Cold>() as u64,
        }
    }

    /// The pages of index, flows and cold parts.
    pub fn pages(&self) -> [Pages; 3] {
        [self.index.pages(), self.flows.pages(), self.cold.pages()]
    }

    /// How many conns there are.
    #[inline]
    pub const fn len(&self) -> u32 {
        self.live
    }

    /// True if there is none.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Places for other conns and redirects.
    #[inline]
    pub const fn room(&self) -> u32 {
        self.max.saturating_sub(self.live + self.redirects)
    }

    /// True if there is no place for another conn: redirects take places, too.
    #[inline]
    pub const fn is_full(&self) -> bool {
        self.live + self.redirects >= self.max
    }

    /// How many there can be, if there is no redirect.
    #[inline]
    pub const fn max_connections(&self) -> u32 {
        self.max
    }

    /// The keyed hash of a key, which the calls below want.
    #[inline(always)]
    pub fn hash(&self, key: &FlowKey<A>) -> u64 {
        self.index.hash(key)
    }

    /// Asks for the bucket of a hash.
    #[inline(always)]
    pub fn prefetch_bucket(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// Asks for a flow.
    #[inline(always)]
    pub fn prefetch_flow(&self, id: FlowId) {
        self.flows.prefetch_write(id.0 as usize);
    }

    /// Asks for the cold part of a conn.
    #[inline(always)]
    pub fn prefetch_cold(&self, conn: ConnId) {
        self.cold.prefetch_write(conn.0 as usize);
    }

    /// A flow that may be the one, by its hash alone: right but for one in about 8000.
    #[inline]
    pub fn candidate(&self, hash: u64) -> Option<FlowId> {
        let probe = self.index.probe(hash);
        let flow = if probe.away { self.index.probe_away(hash) } else { Some(probe.flow) };
        flow.filter(|&flow| flow != NONE).map(FlowId)
    }

    /// The flow with this key.
    #[inline]
    pub fn lookup(&self, key: &FlowKey<A>, hash: u64) -> Option<FlowId> {
        let is_it = |flow| self.flows.get(flow as usize).is_some_and(|flow| flow.is_of(key));
        self.index.find(hash, is_it).map(FlowId)
    }

    /// A flow of a live conn, or a redirect.
    #[inline(always)]
    pub fn flow(&self, id: FlowId) -> Option<&Flow<A>> {
        self.flows.get(id.0 as usize).filter(|flow| flow.state != State::Free)
    }

    /// A flow of a live conn, to change it. Its key, state and timeout class are the table's.
    #[inline(always)]
    pub fn flow_mut(&mut self, id: FlowId) -> Option<&mut Flow<A>> {
        self.flows.get_mut(id.0 as usize).filter(|flow| flow.state != State::Free)
    }

    /// The cold part of a live conn.
    #[inline]
    pub fn cold(&self, conn: ConnId) -> Option<&Cold> {
        self.is_conn(conn).then(|| self.cold.get(conn.0 as usize))?
    }

    /// Looks up a burst: the keys and hashes of [`BURST_MAX`] packets at most, whose buckets were
    /// asked for by [`FlowTable::prefetch_bucket`] some time before. Flows come prefetched.
    #[inline]
    pub fn lookup_burst(&self, keys: &[FlowKey<A>], hashes: &[u64], out: &mut [Option<FlowId>]) {
        let mut maybe = [NONE; BURST_MAX];
        let mut away = 0u64;
        for (n, (maybe, &hash)) in maybe.iter_mut().zip(hashes).enumerate() {
            let probe = self.index.probe(hash);
            self.prefetch_flow(FlowId(probe.flow));
            *maybe = probe.flow;
            away |= u64::from(probe.away) << n;
        }
        self.candidates_away(away, hashes, &mut maybe);
        let packets = keys.iter().zip(hashes).zip(&maybe);
        for (out, ((key, &hash), &flow)) in out.iter_mut().zip(packets) {
            *out = match self.flows.get(flow as usize) {
                Some(found) if found.is_of(key) => Some(FlowId(flow)),
                // Another flow with the same tag stood first.
                Some(_) => self.lookup(key, hash),
                None => None,
            };
        }
    }

    /// Asks for the other buckets of those whose bits are set, then for the flows found there.
    #[inline]
    fn candidates_away(&self, away: u64, hashes: &[u64], maybe: &mut [u32; BURST_MAX]) {
        for n in bits(away) {
            if let Some(&hash) = hashes.get(n) {
                self.index.prefetch_away(hash);
            }
        }
        for n in bits(away) {
            if let (Some(maybe), Some(&hash)) = (maybe.get_mut(n), hashes.get(n))
                && let Some(flow) = self.index.probe_away(hash)
            {
                self.prefetch_flow(FlowId(flow));
                *maybe = flow;
            }
        }
    }

    /// Opens a conn. Both flows get the state and class of `forward`, the time, and
    /// [`flags::REVERSE`] as is right for each.
    ///
    /// # Errors
    /// [`InsertError::Full`] at `max_connections`, [`InsertError::Exists`] if a key is taken.
    pub fn insert(
        &mut self,
        forward: Flow<A>,
        reverse: Flow<A>,
        cold: NewCold,
        now: Now,
    ) -> Result<ConnId, InsertError> {
        let hash = self.hash(&forward.key());
        self.insert_prepared(&self.prepare(forward, reverse, cold, hash), now)
    }

    /// Asks for what [`FlowTable::insert_prepared`] touches. `hash` is that of the forward flow's
    /// key, whose bucket was asked for before.
    #[inline]
    pub fn prepare(
        &self,
        forward: Flow<A>,
        reverse: Flow<A>,
        cold: NewCold,
        hash: u64,
    ) -> Prepared<A> {
        let reverse_hash = self.hash(&reverse.key());
        self.prefetch_bucket(reverse_hash);
        Prepared { forward, reverse, cold, hashes: [hash, reverse_hash] }
    }

    /// [`FlowTable::insert`] of what was prepared some time before.
    ///
    /// # Errors
    /// As [`FlowTable::insert`].
    pub fn insert_prepared(
        &mut self,
        prepared: &Prepared<A>,
        now: Now,
    ) -> Result<ConnId, InsertError> {
        let Prepared { mut forward, mut reverse, cold, hashes: [hash, reverse_hash] } = *prepared;
        let (key, reverse_key) = (forward.key(), reverse.key());
        debug_assert_eq!(hash, self.hash(&key));
        let taken = self.lookup(&key, hash).or_else(|| self.lookup(&reverse_key, reverse_hash));
        if taken.is_some() || key == reverse_key {
            return Err(InsertError::Exists(taken));
        }
        let conn = self.take_place().ok_or(InsertError::Full)?;
        if !self.index.insert(hash, conn.forward().0) {
            self.give_place(conn);
            return Err(InsertError::Full);
        }
        if !self.index.insert(reverse_hash, conn.reverse().0) {
            self.index.remove(hash, conn.forward().0);
            self.give_place(conn);
            return Err(InsertError::Full);
        }
        forward.flags &= !(flags::REVERSE | flags::REDIRECT);
        reverse.flags = reverse.flags & !flags::REDIRECT | flags::REVERSE;
        reverse.state = forward.state;
        reverse.timeout_class = forward.timeout_class;
        for (id, mut flow) in [(conn.forward(), forward), (conn.reverse(), reverse)] {
            flow.last_seen = now.tick_ms;
            if let Some(place) = self.flows.get_mut(id.0 as usize) {
                *place = flow;
            }
        }
        if let Some(place) = self.cold.get_mut(conn.0 as usize) {
            place.open(cold, now);
        }
        self.live += 1;
        self.enlist(conn, forward.state.list(), now);
        self.mark_dirty(conn);
        Ok(conn)
    }

    /// Removes a conn; `None` if there is none.
    pub fn remove(&mut self, conn: ConnId) -> Option<Removed<A>> {
        let forward = *self.flow(conn.forward())?;
        let reverse = *self.flow(conn.reverse())?;
        let hashes = [&forward, &reverse].map(|flow| self.hash(&flow.key()));
        for hash in hashes {
            self.prefetch_bucket(hash);
        }
        let cold = *self.cold.get(conn.0 as usize)?;
        self.delist(conn);
        for (id, hash) in [conn.forward(), conn.reverse()].into_iter().zip(hashes) {
            let found = self.index.remove(hash, id.0);
            debug_assert!(found, "a live flow is in the index");
            if let Some(place) = self.flows.get_mut(id.0 as usize) {
                place.state = State::Free;
            }
        }
        self.give_place(conn);
        self.live -= 1;
        Some(Removed { forward, reverse, cold })
    }

    /// Puts a conn into a state: both flows, its list, its version and the dirty FIFO.
    pub fn set_state(&mut self, conn: ConnId, state: State, now: Now) {
        let Some(from) = self.flow(conn.forward()).map(|flow| flow.state) else { return };
        if from == state || state == State::Free {
            return;
        }
        for id in [conn.forward(), conn.reverse()] {
            if let Some(flow) = self.flow_mut(id) {
                flow.state = state;
            }
        }
        if from.list() != state.list() {
            self.enlist(conn, state.list(), now);
        }
        self.mark_dirty(conn);
    }

    /// A conn holds something else from now on, and has other timeouts.
    pub fn resettle(&mut self, conn: ConnId, lease: LeaseKind, timeout_class: u8, now: Now) {
        let Some(state) = self.flow(conn.forward()).map(|flow| flow.state) else { return };
        self.delist(conn);
        for id in [conn.forward(), conn.reverse()] {
            if let Some(flow) = self.flow_mut(id) {
                flow.timeout_class = timeout_class;
            }
        }
        if let Some(cold) = self.cold.get_mut(conn.0 as usize) {
            cold.set_lease(lease);
        }
        self.enlist(conn, state.list(), now);
        self.mark_dirty(conn);
    }

    /// The next conn in slab order from the cursor on; `None` when `budget` places were looked
    /// at, which counts down, or at the end, see [`FlowTable::is_end`].
    pub fn next_conn(&self, cursor: &mut Cursor, budget: &mut u32) -> Option<ConnId> {
        while *budget > 0 && cursor.0 < self.fresh {
            *budget -= 1;
            let conn = ConnId(cursor.0);
            cursor.0 += 1;
            if self.is_conn(conn) {
                return Some(conn);
            }
        }
        None
    }

    /// True if a conn, and not a redirect, stands in this place.
    #[inline]
    pub(crate) fn is_conn(&self, conn: ConnId) -> bool {
        self.flow(conn.forward()).is_some_and(|forward| !forward.has(flags::REDIRECT))
    }

    /// True if no conn comes after the cursor.
    pub const fn is_end(&self, cursor: &Cursor) -> bool {
        cursor.0 >= self.fresh
    }

    /// The place that was freed last, else one that was never used: few pages are touched.
    pub(crate) fn take_place(&mut self) -> Option<ConnId> {
        let place = self.free;
        if place != NONE {
            self.free = self.cold.get(place as usize)?.next;
            return Some(ConnId(place));
        }
        (self.fresh < self.max).then(|| {
            self.fresh += 1;
            ConnId(self.fresh - 1)
        })
    }

    pub(crate) fn give_place(&mut self, conn: ConnId) {
        if let Some(cold) = self.cold.get_mut(conn.0 as usize) {
            cold.next = self.free;
            self.free = conn.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TestAddress, for_both, pair, table, table_of_seed};
    use types::Proto;

    fn open<A: TestAddress>(table: &mut FlowTable<A>, n: u32) -> Result<ConnId, InsertError> {
        let (forward, reverse) = pair(Proto::Tcp, n);
        table.insert(forward, reverse, NewCold::default(), Now::default())
    }

    fn find<A: TestAddress>(table: &FlowTable<A>, key: &FlowKey<A>) -> Option<FlowId> {
        let found = table.lookup(key, table.hash(key));
        let mut burst = [None];
        table.lookup_burst(&[*key], &[table.hash(key)], &mut burst);
        assert_eq!(burst, [found]);
        if let Some(found) = found {
            assert_eq!(table.flow(found).unwrap().key(), *key);
            assert!(table.candidate(table.hash(key)).is_some());
        }
        found
    }

    for_both! {
        it_fills_to_the_last_slot_whatever_the_seed
        it_stays_full_while_conns_come_and_go
        a_key_is_taken_once
        bursts_find_each_packet_its_flow
        what_is_removed_is_gone
    }

    fn it_fills_to_the_last_slot_whatever_the_seed<A: TestAddress>() {
        for max in [1, 2, 3, 7, 10, 33, 100, 1000, 50_000] {
            for seed in 0..if max < 1000 { 64 } else { 4 } {
                let mut table = table_of_seed::<A>(max, seed);
                for n in 0..max {
                    open(&mut table, n).unwrap();
                }
                assert_eq!(open(&mut table, max), Err(InsertError::Full));
                assert_eq!(table.len(), max);
                for n in 0..max {
                    let (forward, reverse) = pair(Proto::Tcp, n);
                    let conn = find(&table, &forward.key()).unwrap().conn();
                    assert_eq!(find(&table, &reverse.key()), Some(conn.reverse()));
                }
                assert_eq!(find(&table, &pair(Proto::Tcp, max).0.key()), None);
            }
        }
    }

    fn it_stays_full_while_conns_come_and_go<A: TestAddress>() {
        let max = 20_000;
        let mut table = table_of_seed::<A>(max, 1);
        for n in 0..max {
            open(&mut table, n).unwrap();
        }
        for n in max..5 * max {
            let conn = ConnId(n.wrapping_mul(2_654_435_761) % max);
            let removed = table.remove(conn).unwrap();
            assert_eq!(find(&table, &removed.forward.key()), None);
            assert_eq!(open(&mut table, n), Ok(conn), "the place freed last comes first");
        }
        let (mut cursor, mut budget) = (Cursor::default(), u32::MAX);
        while let Some(conn) = table.next_conn(&mut cursor, &mut budget) {
            table.remove(conn).unwrap();
        }
        assert!(table.is_empty() && table.is_end(&cursor));
        assert_eq!(table.index.entries(), (0, 0), "nothing left, no overflow counted");
    }

    fn a_key_is_taken_once<A: TestAddress>() {
        let mut table = table_of_seed::<A>(10, 1);
        let conn = open(&mut table, 1).unwrap();
        let (forward, reverse) = pair(Proto::Tcp, 1);
        let (other, other_reverse) = pair(Proto::Tcp, 2);
        let mut insert = |a, b| table.insert(a, b, NewCold::default(), Now::default());
        assert_eq!(insert(forward, other), Err(InsertError::Exists(Some(conn.forward()))));
        assert_eq!(insert(other, reverse), Err(InsertError::Exists(Some(conn.reverse()))));
        assert_eq!(insert(other, other), Err(InsertError::Exists(None)));
        assert!(insert(other, other_reverse).is_ok());
        assert_eq!(table.len(), 2);
    }

    fn what_is_removed_is_gone<A: TestAddress>() {
        let mut table = table_of_seed::<A>(10, 1);
        let conn = open(&mut table, 1).unwrap();
        let removed = table.remove(conn).unwrap();
        assert_eq!(removed.forward.key(), pair(Proto::Tcp, 1).0.key());
        assert_eq!(removed.reverse.flags, flags::REVERSE);
        assert!(table.remove(conn).is_none());
        assert!(table.flow(conn.forward()).is_none());
        assert!(table.flow_mut(conn.reverse()).is_none());
        assert!(table.cold(conn).is_none());
        assert!(table.remove(ConnId(u32::MAX >> 1)).is_none());
    }

    #[test]
    fn a_walk_is_bounded_and_sees_all() {
        let mut table = table(100);
        for n in 0..100 {
            open(&mut table, n).unwrap();
        }
        for n in 0..100 {
            if n % 3 != 0 {
                table.remove(ConnId(n)).unwrap();
            }
        }
        let (mut cursor, mut seen, mut calls) = (Cursor::default(), 0, 0);
        while !table.is_end(&cursor) {
            let mut budget = 7;
            while let Some(conn) = table.next_conn(&mut cursor, &mut budget) {
                assert_eq!(conn.0 % 3, 0);
                seen += 1;
            }
            calls += 1;
        }
        assert_eq!((seen, calls), (34, 15));
    }

    fn bursts_find_each_packet_its_flow<A: TestAddress>() {
        let mut table = table_of_seed::<A>(1000, 1);
        for n in 0..1000 {
            open(&mut table, n).unwrap();
        }
        for start in 0..40 {
            let keys: Vec<_> =
                (0..BURST_MAX as u32).map(|n| pair(Proto::Tcp, start * 31 + n).0.key()).collect();
            let hashes: Vec<_> = keys.iter().map(|key| table.hash(key)).collect();
            let mut out = [Some(FlowId(7)); BURST_MAX];
            table.lookup_burst(&keys, &hashes, &mut out);
            for ((key, &hash), found) in keys.iter().zip(&hashes).zip(out) {
                assert_eq!(found, table.lookup(key, hash));
            }
        }
    }

    #[test]
    fn dirty_conns_come_once_and_in_order() {
        let mut table = table(10);
        let conns = [0, 1, 2].map(|n| open(&mut table, n).unwrap());
        table.set_state(conns[0], State::SynReceived, Now::default());
        table.set_state(conns[0], State::SynReceived, Now::default());
        assert_eq!(table.cold(conns[0]).unwrap().version(), 2);
        assert_eq!(table.pop_dirty(), Some(conns[0]));
        table.set_state(conns[0], State::Established, Now::default());
        table.remove(conns[1]).unwrap();
        assert_eq!(table.dirty_len(), 3);
        assert_eq!(table.pop_dirty(), Some(conns[2]), "the one that is gone is skipped");
        assert_eq!(table.pop_dirty(), Some(conns[0]));
        assert_eq!((table.pop_dirty(), table.dirty_len()), (None, 0));
        // A place that is in the FIFO and taken again stands there for its new conn, once.
        let again = open(&mut table, 5).unwrap();
        table.remove(again).unwrap();
        assert_eq!(open(&mut table, 6), Ok(again));
        assert_eq!((table.pop_dirty(), table.pop_dirty()), (Some(again), None));
    }

    #[test]
    fn the_plan_is_what_is_reserved() {
        let plan = FlowTable::<u32>::plan(1_000_000);
        assert!(plan.total() <= 180_000_000, "{plan:?}");
        assert_eq!((plan.flows, plan.cold), (128_000_000, 32_000_000));
        let wide = FlowTable::<u128>::plan(1_000_000);
        assert_eq!((wide.index, wide.flows, wide.cold), (plan.index, 2 * plan.flows, plan.cold));
        for max in [0, TableConfig::MAX_CONNECTIONS + 1] {
            let timeouts = Timeouts::default();
            let pages = PageRequest::Off;
            let config = TableConfig { max_connections: max, seed: [0; 2], timeouts, pages };
            assert!(matches!(FlowTable::<u32>::new(config), Err(TableError::MaxConnections(_))));
        }
    }
}
