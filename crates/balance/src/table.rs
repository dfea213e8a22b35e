//! Tables that map a client's hash to a server's rank, shared by equal sets of servers.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use crate::hash::{Use, hash, reduce};
use crate::scheduler::Scheduler;
use crate::tournament::{Entry, Tournament};

/// Sizes of Maglev tables: the first with 100 places a server, or else the last.
const MAGLEV_SIZES: [usize; 9] = [251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65537];
const MAGLEV_PLACES_PER_SERVER: usize = 100;

/// Sizes of the source-hash table; 256 is LVS's only one.
const SOURCE_HASH_SIZE: std::ops::RangeInclusive<usize> = 256..=65_536;
const SOURCE_HASH_PLACES_PER_SERVER: usize = 8;

/// Points on the ring of the server with the largest weight (as ketama and DPVS); others have their part.
const RING_POINTS: u32 = 160;

/// The low bits of a ring point are its server's rank.
const RANK_MASK: u64 = 0xffff;

/// What a table knows of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Member {
    /// Address and port.
    pub(crate) identity: u64,
    /// Configured weight, at least 1.
    pub(crate) weight: u16,
}

/// The compiled form of a hashing scheduler.
#[derive(Debug)]
pub(crate) enum Table {
    /// `sh` and `mh`: ranks by place.
    Places { client: Use, ranks: Box<[u16]> },
    /// `conhash`: hash in the upper 48 bits, rank in the lower 16, sorted.
    Ring(Box<[u64]>),
}

impl Table {
    /// `None` without members or for a scheduler that needs no table.
    fn new(scheduler: Scheduler, members: &[Member]) -> Option<Self> {
        if members.is_empty() {
            return None;
        }
        match scheduler {
            Scheduler::Sh => {
                let size = (members.len() * SOURCE_HASH_PLACES_PER_SERVER).next_power_of_two();
                let size = size.clamp(*SOURCE_HASH_SIZE.start(), *SOURCE_HASH_SIZE.end());
                let ranks = Turns::new(members).take(size).collect();
                Some(Self::Places { client: Use::SourceHash, ranks })
            }
            Scheduler::Mh => {
                Some(Self::Places { client: Use::MaglevClient, ranks: maglev(members) })
            }
            Scheduler::Conhash => Some(Self::Ring(ring(members))),
            Scheduler::Rr | Scheduler::Wrr | Scheduler::Wlc | Scheduler::Lc => None,
        }
    }

    /// A client's hash, and the ranks to try for it: its own, then others, without end.
    #[inline]
    pub(crate) fn ranks(&self, client: u64) -> (u64, impl Iterator<Item = u16> + '_) {
        let (hash, first, len, step) = match self {
            Self::Places { client: purpose, ranks } => {
                let hash = hash(client, *purpose);
                // Neighbours of `sh` are the same everywhere, so clients of one place part by an odd step;
                // those of Maglev are any.
                let step = if ranks.len().is_power_of_two() { hash as usize | 1 } else { 1 };
                (hash, reduce(hash, ranks.len()), ranks.len(), step % ranks.len())
            }
            Self::Ring(points) => {
                let hash = hash(client, Use::RingClient);
                let first = points.partition_point(|&point| point < hash & !RANK_MASK);
                (hash, first, points.len(), 1)
            }
        };
        let mut at = if first == len { 0 } else { first };
        let next = move || {
            let rank = match self {
                Self::Places { ranks, .. } => ranks.get(at).copied(),
                Self::Ring(points) => points.get(at).map(|point| (point & RANK_MASK) as u16),
            };
            at = if at + step >= len { at + step - len } else { at + step };
            rank
        };
        (hash, std::iter::from_fn(next))
    }
}

/// Ranks in turn by weight, interleaved: each has had its exact share after as many turns as the weights'
/// sum, and is never far from it before.
struct Turns {
    tree: Tournament,
    members: u64,
}

impl Turns {
    fn new(members: &[Member]) -> Self {
        let mut tree = Tournament::new(members.len());
        for (rank, member) in members.iter().enumerate() {
            let entry = Entry { num: rank as u64, weight: u32::from(member.weight), tag: 0 };
            tree.place(rank, entry);
        }
        tree.rebuild();
        Self { tree, members: members.len() as u64 }
    }
}

impl Iterator for Turns {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        let rank = self.tree.winner()?;
        let entry = self.tree.entry(rank);
        self.tree.set(rank, Entry { num: entry.num + self.members, ..entry });
        Some(rank as u16)
    }
}

/// Fills a Maglev table (Eisenbud et al., NSDI 2016, section 3.4): in turn, each server takes the next free
/// place of its own permutation. Turns are by weight.
fn maglev(members: &[Member]) -> Box<[u16]> {
    let wanted = members.len() * MAGLEV_PLACES_PER_SERVER;
    let [.., largest] = MAGLEV_SIZES;
    let size = MAGLEV_SIZES.into_iter().find(|&size| size >= wanted).unwrap_or(largest);
    let mut walks: Vec<_> = members
        .iter()
        .map(|member| {
            let offset = reduce(hash(member.identity, Use::MaglevOffset), size);
            let skip = reduce(hash(member.identity, Use::MaglevSkip), size - 1) + 1;
            (offset, skip)
        })
        .collect();
    let mut ranks = vec![None; size];
    for rank in Turns::new(members).take(size) {
        let Some((at, skip)) = walks.get_mut(usize::from(rank)) else { continue };
        // The size is prime, so the walk comes to every place, and one is free.
        for _ in 0..size {
            let here = *at;
            *at = (*at + *skip) % size;
            if let Some(place @ None) = ranks.get_mut(here) {
                *place = Some(rank);
                break;
            }
        }
    }
    ranks.into_iter().map(Option::unwrap_or_default).collect()
}

/// Points of a member depend on its own weight and the largest one only, so that others do not move.
fn ring(members: &[Member]) -> Box<[u64]> {
    let largest = members.iter().map(|member| u32::from(member.weight)).max().unwrap_or(1);
    let mut points: Vec<u64> = (0u64..)
        .zip(members)
        .flat_map(|(rank, member)| {
            let count = (RING_POINTS * u32::from(member.weight) + largest / 2) / largest;
            (0..u64::from(count.max(1))).map(move |number| {
                // 48 bits of identity and 16 of number: no two points have the same input.
                hash(member.identity << 16 | number, Use::RingServer) & !RANK_MASK | rank
            })
        })
        .collect();
    points.sort_unstable();
    points.into()
}

/// Hash tables in use, by scheduler and servers; control's.
#[derive(Debug, Default)]
pub struct TableCache {
    tables: HashMap<(Scheduler, Vec<Member>), Weak<Table>>,
    prune_at: usize,
}

impl TableCache {
    /// Tables that a service still uses.
    pub fn in_use(&self) -> usize {
        self.tables.values().filter(|table| table.strong_count() > 0).count()
    }

    pub(crate) fn table(
        &mut self,
        scheduler: Scheduler,
        members: Vec<Member>,
    ) -> Option<Arc<Table>> {
        let key = (scheduler, members);
        if let Some(table) = self.tables.get(&key).and_then(Weak::upgrade) {
            return Some(table);
        }
        let table = Arc::new(Table::new(scheduler, &key.1)?);
        if self.tables.len() >= self.prune_at {
            self.tables.retain(|_, table| table.strong_count() > 0);
            self.prune_at = (2 * self.tables.len()).max(64);
        }
        self.tables.insert(key, Arc::downgrade(&table));
        Some(table)
    }
}
