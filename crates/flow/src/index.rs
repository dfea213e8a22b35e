//! From a hash to the flows that may have it: buckets of one cache line, two for each hash.
//!
//! An entry stands in the bucket that its hash names, its home, or away from home: in the bucket
//! that home and tag name together, or in the stash. Home counts its entries away, so that a miss
//! ends there while that count is 0. `other` is its own inverse, therefore an entry can be moved
//! between its two buckets without looking at its flow.

use arch::{HugeSlab, PageRequest, SlabError, prefetch_read, tag_match, zeroable_struct};
use types::FlowKey;

use crate::hash::KeyHasher;

/// Entries of a bucket.
const LANES: usize = 8;
/// Share of places in use when the table is full: 17/20. Two buckets of eight work up to about
/// 0.99; below 0.85 moving an entry once is enough nearly always.
const FULL_LOAD: (u64, u64) = (17, 20);
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
        tags: [u16; LANES],
        flows: [u32; LANES],
        /// Entries of this home that stand elsewhere. Sticks at its maximum.
        overflow: u16,
        /// Bit n: lane n holds an entry of another home.
        away: u8,
    }
}

const _: () = assert!(size_of::<Bucket>() == 64);

#[derive(Clone, Copy, Debug)]
struct Stashed {
    hash: u64,
    flow: u32,
}

/// What the first look at a hash's home tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// A flow whose tag fits.
    Maybe(u32),
    /// Nothing, and nothing elsewhere.
    Nothing,
    /// Nothing here; it may be away.
    Away,
}

/// The index.
#[derive(Debug)]
pub(crate) struct Index {
    buckets: HugeSlab<Bucket>,
    hasher: KeyHasher,
    tag_secret: u64,
    stash: Vec<Stashed>,
}

#[inline(always)]
const fn tag_of(hash: u64) -> u16 {
    let tag = hash as u16;
    if tag == 0 { 1 } else { tag }
}

/// `hash / 2^64 * count`: uses the high bits, the tag has the low ones.
#[inline(always)]
const fn reduce(hash: u64, count: usize) -> usize {
    ((hash as u128 * count as u128) >> 64) as usize
}

/// The lanes of a mask.
fn lanes(mut mask: u8) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lane = mask.trailing_zeros() as usize;
        mask &= mask.wrapping_sub(1);
        (lane < LANES).then_some(lane)
    })
}

impl Bucket {
    #[inline(always)]
    fn flow(&self, lane: usize) -> u32 {
        self.flows.get(lane & (LANES - 1)).copied().unwrap_or_default()
    }

    fn free_lane(&self) -> Option<usize> {
        lanes(tag_match(&self.tags, 0)).next()
    }

    fn put(&mut self, lane: usize, tag: u16, flow: u32, away: bool) {
        if let (Some(t), Some(f)) = (self.tags.get_mut(lane), self.flows.get_mut(lane)) {
            *t = tag;
            *f = flow;
            self.away = self.away & !(1 << lane) | u8::from(away) << lane;
        }
    }

    fn take(&mut self, lane: usize) -> Option<(u16, u32, bool)> {
        let (tag, flow) = (self.tags.get_mut(lane)?, self.flows.get(lane)?);
        let away = self.away & 1 << lane != 0;
        self.away &= !(1 << lane);
        Some((std::mem::take(tag), *flow, away))
    }

    fn find(&self, tag: u16, flow: u32) -> Option<usize> {
        lanes(tag_match(&self.tags, tag)).find(|&lane| self.flow(lane) == flow)
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
    pub(crate) fn hash(&self, key: &FlowKey) -> u64 {
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

    /// One look at the home.
    #[inline(always)]
    pub(crate) fn probe(&self, hash: u64) -> Probe {
        let Some(home) = self.buckets.get(self.home(hash)) else { return Probe::Nothing };
        let mask = tag_match(&home.tags, tag_of(hash));
        if mask != 0 {
            Probe::Maybe(home.flow(mask.trailing_zeros() as usize))
        } else if home.overflow != 0 {
            Probe::Away
        } else {
            Probe::Nothing
        }
    }

    /// One look at the other bucket, then at the stash.
    #[inline]
    pub(crate) fn probe_away(&self, hash: u64) -> Option<u32> {
        let tag = tag_of(hash);
        let bucket = self.buckets.get(self.other(self.home(hash), tag))?;
        let mask = tag_match(&bucket.tags, tag);
        if mask != 0 {
            return Some(bucket.flow(mask.trailing_zeros() as usize));
        }
        self.stash.iter().find(|each| each.hash == hash).map(|each| each.flow)
    }

    /// The flow with this hash that `is_it` accepts.
    #[inline]
    pub(crate) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let tag = tag_of(hash);
        let first = self.home(hash);
        let home = self.buckets.get(first)?;
        for lane in lanes(tag_match(&home.tags, tag)) {
            if is_it(home.flow(lane)) {
                return Some(home.flow(lane));
            }
        }
        if home.overflow == 0 {
            return None;
        }
        let bucket = self.buckets.get(self.other(first, tag))?;
        for lane in lanes(tag_match(&bucket.tags, tag)) {
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
        let Some(bucket) = self.buckets.get_mut(bucket) else { return false };
        let Some(lane) = bucket.free_lane() else { return false };
        bucket.put(lane, tag, flow, away);
        true
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
        self.buckets.get(bucket).map(|b| b.tags).filter(|tags| tag_match(tags, 0) == 0)
    }

    /// Frees a lane of a full bucket: an entry moves to its other bucket, if need be after an
    /// entry there has moved to its own. Looks at 8 + 64 buckets at most.
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
