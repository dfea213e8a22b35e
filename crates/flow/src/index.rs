//! From a hash to the flows that may have it: buckets of one cache line, two for each hash.
//!
//! An entry stands in the bucket that its hash names, its home, or away from home: in the bucket
//! that home and tag name together, or in the stash. Home counts its entries away, so that a miss
//! ends there while that count is 0. `other` is its own inverse, therefore an entry can be moved
//! between its two buckets without looking at its flow.

use arch::{HugeSlab, PageRequest, SlabError, prefetch_read, tag_match, zeroable_struct};
use types::{Address, FlowKey};

use crate::hash::KeyHasher;

/// Entries of a bucket: what a cache line holds. One compare covers eight tags; two more are
/// worth theirs, because with them one entry in 40 is away in a full table, without one in 12.
const LANES: usize = 10;
/// Share of lanes in use when the table is full: 17/25, or 18.8 bytes a conn. Two buckets of ten
/// work up to about 0.99, but a look at the second costs more than the memory.
const FULL_LOAD: (u64, u64) = (17, 25);
/// Buckets above that share: a table for a handful of conns needs more room than the average says.
const SPARE_BUCKETS: u64 = 4;
/// Entries without a place in either bucket. At full load none is expected in 2^40 inserts.
const STASH_MAX: usize = 64;

zeroable_struct! {
    /// One cache line of the index.
    #[derive(Clone, Copy, Debug)]
    #[repr(C, align(64))]
    struct Bucket {
        /// 0 is a free lane.
        tags: [u16; 8],
        last_tags: [u16; 2],
        flows: [u32; LANES],
        /// Entries of this home that stand elsewhere. Sticks at its maximum.
        overflow: u16,
        /// Bit n: lane n holds an entry of another home.
        away: u16,
    }
}

const _: () = assert!(size_of::<Bucket>() == 64);

#[derive(Clone, Copy, Debug)]
struct Stashed {
    hash: u64,
    flow: u32,
}

/// What a look at a hash's home tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    /// A flow whose tag fits, else `u32::MAX`.
    pub(crate) flow: u32,
    /// No tag fits here, but the entry may be away.
    pub(crate) away: bool,
}

/// The index.
#[derive(Debug)]
pub(crate) struct Index {
    buckets: HugeSlab<Bucket>,
    hasher: KeyHasher,
    tag_secret: u64,
    stash: Vec<Stashed>,
}

/// The low bits of a hash; the highest of them is set, because 0 is a free lane.
#[inline(always)]
const fn tag_of(hash: u64) -> u16 {
    hash as u16 | 0x8000
}

/// `hash / 2^64 * count`: uses the high bits, the tag has the low ones.
#[inline(always)]
const fn reduce(hash: u64, count: usize) -> usize {
    ((hash as u128 * count as u128) >> 64) as usize
}

/// The lanes of a mask.
fn lanes(mut mask: u16) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lane = mask.trailing_zeros() as usize;
        mask &= mask.wrapping_sub(1);
        (lane < LANES).then_some(lane)
    })
}

impl Bucket {
    /// A mask of the lanes with this tag.
    #[inline(always)]
    fn tagged(&self, tag: u16) -> u16 {
        let [ninth, tenth] = self.last_tags;
        u16::from(tag_match(&self.tags, tag))
            | u16::from(ninth == tag) << 8
            | u16::from(tenth == tag) << 9
    }

    #[inline(always)]
    fn is_full(&self) -> bool {
        self.tagged(0) == 0
    }

    #[inline(always)]
    fn tag_mut(&mut self, lane: usize) -> Option<&mut u16> {
        self.tags.iter_mut().chain(&mut self.last_tags).nth(lane)
    }

    fn all_tags(&self) -> [u16; LANES] {
        let [a, b, c, d, e, f, g, h] = self.tags;
        let [i, j] = self.last_tags;
        [a, b, c, d, e, f, g, h, i, j]
    }

    #[inline(always)]
    fn flow(&self, lane: usize) -> u32 {
        self.flows.get(lane).copied().unwrap_or(u32::MAX)
    }

    /// The flow of the mask's first lane, else `u32::MAX`, without a branch.
    #[inline(always)]
    fn first_flow(&self, mask: u16) -> u32 {
        let lane = (mask | 1 << (LANES - 1)).trailing_zeros() as usize;
        self.flow(lane) | u32::from(mask == 0).wrapping_neg()
    }

    fn put(&mut self, tag: u16, flow: u32, away: bool) -> bool {
        let Some(lane) = lanes(self.tagged(0)).next() else { return false };
        if let Some(place) = self.flows.get_mut(lane) {
            *place = flow;
        }
        if let Some(place) = self.tag_mut(lane) {
            *place = tag;
        }
        self.away = self.away & !(1 << lane) | u16::from(away) << lane;
        true
    }

    fn take(&mut self, lane: usize) -> Option<(u16, u32, bool)> {
        let flow = *self.flows.get(lane)?;
        let tag = std::mem::take(self.tag_mut(lane)?);
        Some((tag, flow, self.away & 1 << lane != 0))
    }

    fn find(&self, tag: u16, flow: u32) -> Option<usize> {
        lanes(self.tagged(tag)).find(|&lane| self.flow(lane) == flow)
    }
}

impl Index {
    pub(crate) fn buckets_for(entries: u64) -> u64 {
        let (used, of) = FULL_LOAD;
        (entries * of).div_ceil(LANES as u64 * used) + SPARE_BUCKETS
    }

    pub(crate) fn bytes_for(entries: u64) -> u64 {
        Self::buckets_for(entries) * size_of::<Bucket>() as u64
    }

    pub(crate) fn new(entries: u64, seed: [u64; 2], pages: PageRequest) -> Result<Self, SlabError> {
        let buckets = HugeSlab::new(Self::buckets_for(entries) as usize, pages)?;
        let hasher = KeyHasher::new(seed);
        let tag_secret = hasher.secret() | 1;
        Ok(Self { buckets, hasher, tag_secret, stash: Vec::with_capacity(STASH_MAX) })
    }

    pub(crate) fn pages(&self) -> arch::Pages {
        self.buckets.pages()
    }

    #[inline(always)]
    pub(crate) fn hash<A: Address>(&self, key: &FlowKey<A>) -> u64 {
        self.hasher.hash(key)
    }

    #[inline(always)]
    fn home(&self, hash: u64) -> usize {
        reduce(hash, self.buckets.len())
    }

    /// The other bucket of an entry that stands in `bucket`; may be the same.
    #[inline(always)]
    fn other(&self, bucket: usize, tag: u16) -> usize {
        let count = self.buckets.len();
        let sum = reduce(u64::from(tag).wrapping_mul(self.tag_secret), count);
        if sum >= bucket { sum - bucket } else { sum + count - bucket }
    }

    #[inline(always)]
    pub(crate) fn prefetch(&self, hash: u64) {
        self.buckets.prefetch(self.home(hash));
    }

    #[inline(always)]
    pub(crate) fn prefetch_away(&self, hash: u64) {
        self.buckets.prefetch(self.other(self.home(hash), tag_of(hash)));
    }

    /// One look at the home. No branch depends on what is there: a wrong guess would wait for the
    /// memory.
    #[inline(always)]
    pub(crate) fn probe(&self, hash: u64) -> Probe {
        let Some(home) = self.buckets.get(self.home(hash)) else {
            return Probe { flow: u32::MAX, away: false };
        };
        let mask = home.tagged(tag_of(hash));
        Probe { flow: home.first_flow(mask), away: (mask == 0) & (home.overflow != 0) }
    }

    /// One look at the other bucket, then at the stash.
    #[inline]
    pub(crate) fn probe_away(&self, hash: u64) -> Option<u32> {
        let tag = tag_of(hash);
        let bucket = self.buckets.get(self.other(self.home(hash), tag))?;
        let mask = bucket.tagged(tag);
        if mask != 0 {
            return Some(bucket.first_flow(mask));
        }
        self.stash.iter().find(|each| each.hash == hash).map(|each| each.flow)
    }

    /// The flow with this hash that `is_it` accepts.
    #[inline]
    pub(crate) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let tag = tag_of(hash);
        let first = self.home(hash);
        let home = self.buckets.get(first)?;
        for lane in lanes(home.tagged(tag)) {
            if is_it(home.flow(lane)) {
                return Some(home.flow(lane));
            }
        }
        if home.overflow == 0 {
            return None;
        }
        let bucket = self.buckets.get(self.other(first, tag))?;
        for lane in lanes(bucket.tagged(tag)) {
            if is_it(bucket.flow(lane)) {
                return Some(bucket.flow(lane));
            }
        }
        let fits = |each: &&Stashed| each.hash == hash && is_it(each.flow);
        self.stash.iter().find(fits).map(|each| each.flow)
    }

    /// Adds an entry; false if there is no place for it.
    pub(crate) fn insert(&mut self, hash: u64, flow: u32) -> bool {
        let tag = tag_of(hash);
        let home = self.home(hash);
        if self.put(home, tag, flow, false) {
            return true;
        }
        let other = self.other(home, tag);
        if self.put(other, tag, flow, true) {
            self.add_overflow(home);
            return true;
        }
        if self.make_room(home) {
            return self.put(home, tag, flow, false);
        }
        if self.make_room(other) && self.put(other, tag, flow, true) {
            self.add_overflow(home);
            return true;
        }
        if self.stash.len() < STASH_MAX {
            self.stash.push(Stashed { hash, flow });
            self.add_overflow(home);
            return true;
        }
        false
    }

    /// Takes an entry out; false if it is not there.
    pub(crate) fn remove(&mut self, hash: u64, flow: u32) -> bool {
        let tag = tag_of(hash);
        let home = self.home(hash);
        if !self.take(home, tag, flow) {
            if !self.take(self.other(home, tag), tag, flow) {
                let fits = |each: &Stashed| each.hash == hash && each.flow == flow;
                let Some(at) = self.stash.iter().position(fits) else { return false };
                self.stash.swap_remove(at);
            }
            self.drop_overflow(home);
        }
        if let Some(last) = self.stash.last().copied() {
            self.unstash(last);
        }
        true
    }

    /// Puts the last stashed entry into one of its buckets if there is a place now.
    fn unstash(&mut self, last: Stashed) {
        let tag = tag_of(last.hash);
        let home = self.home(last.hash);
        if self.put(home, tag, last.flow, false) {
            self.drop_overflow(home);
            self.stash.pop();
        } else if self.put(self.other(home, tag), tag, last.flow, true) {
            self.stash.pop();
        }
    }

    fn put(&mut self, bucket: usize, tag: u16, flow: u32, away: bool) -> bool {
        self.buckets.get_mut(bucket).is_some_and(|bucket| bucket.put(tag, flow, away))
    }

    fn take(&mut self, bucket: usize, tag: u16, flow: u32) -> bool {
        let Some(bucket) = self.buckets.get_mut(bucket) else { return false };
        let Some(lane) = bucket.find(tag, flow) else { return false };
        bucket.take(lane).is_some()
    }

    fn add_overflow(&mut self, bucket: usize) {
        if let Some(bucket) = self.buckets.get_mut(bucket) {
            bucket.overflow = bucket.overflow.saturating_add(1);
        }
    }

    fn drop_overflow(&mut self, bucket: usize) {
        if let Some(bucket) = self.buckets.get_mut(bucket)
            && bucket.overflow != u16::MAX
        {
            bucket.overflow = bucket.overflow.saturating_sub(1);
        }
    }

    /// The tags of a bucket, if all its lanes are in use.
    fn full(&self, bucket: usize) -> Option<[u16; LANES]> {
        self.buckets.get(bucket).filter(|bucket| bucket.is_full()).map(Bucket::all_tags)
    }

    /// Frees a lane of a full bucket: an entry moves to its other bucket, if need be after an
    /// entry there has moved to its own. Looks at 10 + 100 buckets at most.
    fn make_room(&mut self, bucket: usize) -> bool {
        let Some(tags) = self.full(bucket) else { return true };
        let others = tags.map(|tag| self.other(bucket, tag));
        for other in others {
            if let Some(line) = self.buckets.get(other) {
                prefetch_read(line);
            }
        }
        for (lane, &other) in others.iter().enumerate() {
            if self.full(other).is_none() {
                return self.shift(bucket, lane, other);
            }
        }
        for (lane, &other) in others.iter().enumerate() {
            let Some(tags) = self.full(other).filter(|_| other != bucket) else { continue };
            for (second_lane, &tag) in tags.iter().enumerate() {
                let third = self.other(other, tag);
                if self.full(third).is_none() && self.shift(other, second_lane, third) {
                    return self.shift(bucket, lane, other);
                }
            }
        }
        false
    }

    /// Moves an entry from one of its buckets to the other, which has a free lane.
    fn shift(&mut self, from: usize, lane: usize, to: usize) -> bool {
        let Some((tag, flow, away)) = self.buckets.get_mut(from).and_then(|b| b.take(lane)) else {
            return false;
        };
        if away {
            self.drop_overflow(to);
        } else {
            self.add_overflow(from);
        }
        self.put(to, tag, flow, !away)
    }
}

#[cfg(test)]
impl Index {
    /// Entries in buckets and stash, and the sum of all overflow counts.
    pub(crate) fn entries(&self) -> (usize, usize) {
        let buckets = self.buckets.as_slice();
        let used = |bucket: &Bucket| bucket.all_tags().iter().filter(|&&tag| tag != 0).count();
        let overflow = buckets.iter().map(|bucket| usize::from(bucket.overflow)).sum();
        (buckets.iter().map(used).sum::<usize>() + self.stash.len(), overflow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(entries: u64) -> Index {
        Index::new(entries, [3, 4], PageRequest::Off).unwrap()
    }

    #[test]
    fn other_is_its_own_inverse() {
        for entries in [1, 10, 1000, 77_777] {
            let index = index(entries);
            for tag in (1..=u16::MAX).step_by(97) {
                for bucket in (0..index.buckets.len()).step_by(1 + index.buckets.len() / 9) {
                    let other = index.other(bucket, tag);
                    assert!(other < index.buckets.len());
                    assert_eq!(index.other(other, tag), bucket);
                }
            }
        }
    }

    #[test]
    fn entries_of_one_hash_fill_both_buckets_and_the_stash_and_go_again() {
        let mut index = index(10_000);
        let hash = 0x1234_5678_9abc_def0;
        // All have the same two buckets, so that nothing can be moved out of their way.
        let room = 2 * LANES as u32 + STASH_MAX as u32;
        for flow in 0..room {
            assert!(index.insert(hash, flow), "{flow}");
        }
        assert!(!index.insert(hash, room));
        assert_eq!(index.entries(), (room as usize, LANES + STASH_MAX));
        for flow in 0..room {
            assert_eq!(index.find(hash, |each| each == flow), Some(flow));
        }
        for flow in 0..room {
            assert!(index.remove(hash, flow));
            assert!(!index.remove(hash, flow), "twice");
            assert_eq!(index.find(hash, |each| each == flow), None);
            assert_eq!(index.entries().0, (room - flow - 1) as usize);
        }
        assert_eq!(index.entries(), (0, 0));
    }

    #[test]
    fn few_are_away_and_none_is_stashed_in_a_full_index() {
        for seed in 0..4 {
            let entries = 100_000;
            let mut index = Index::new(entries, [seed, 9], PageRequest::Off).unwrap();
            for n in 0..entries as u32 {
                let key = FlowKey { src: n, dst: 5, sport: 6, dport: 7, zone: 0, proto: 6 };
                assert!(index.insert(index.hash(&key), n));
            }
            let (all, away) = index.entries();
            assert_eq!((all as u64, index.stash.len()), (entries, 0));
            assert!(away < all / 25, "{away} of {all} are away");
        }
    }
}
