//! The ports of one destination: few are listed in the group itself, more are in bit maps.

use crate::chunks::{Chunks, RESTING};
use crate::positions::{self, Positions};

/// Ports that a group lists before it needs bit maps.
const LISTED_MAX: usize = 8;

/// What ports are taken for. Each key has all ports of the range to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupKey {
    /// The address of ours that the ports belong to, in host order.
    pub lip: u32,
    /// The real server's address, in host order.
    pub rs: u32,
    /// The real server's port.
    pub rport: u16,
    /// IANA protocol number.
    pub proto: u8,
}

/// How many ports of a group are not free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Taken.
    pub taken: u32,
    /// Given back, but not yet to be taken again.
    pub resting: u32,
}

/// What a port of a group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Free,
    Taken,
    Resting,
}

pub(crate) enum Ports {
    /// Positions that are not free, and which of them rest.
    Listed { positions: [u16; LISTED_MAX], len: u8, resting: u8 },
    /// In the chunks of this group. Bit n is set if all ports of class n are occupied.
    Mapped { full: [u32; 4] },
}

/// A destination with at least one port taken or resting.
pub(crate) struct Group {
    pub(crate) key: GroupKey,
    pub(crate) taken: u16,
    pub(crate) resting: u16,
    /// The position after the last one that was searched for.
    pub(crate) cursor: u16,
    /// The cursor moved after the first lease.
    pub(crate) moved: bool,
    pub(crate) ports: Ports,
}

impl Group {
    /// A group with its first port taken.
    pub(crate) fn new(key: GroupKey, position: u16, cursor: u16) -> Self {
        let mut positions = [0; LISTED_MAX];
        if let Some(first) = positions.first_mut() {
            *first = position;
        }
        let ports = Ports::Listed { positions, len: 1, resting: 0 };
        Self { key, taken: 1, resting: 0, cursor, moved: false, ports }
    }

    pub(crate) fn usage(&self) -> Usage {
        Usage { taken: self.taken.into(), resting: self.resting.into() }
    }
}

/// Where a position stands in the list.
#[inline]
fn find(positions: &[u16; LISTED_MAX], len: u8, position: u16) -> Option<usize> {
    positions.iter().take(len.into()).position(|&listed| listed == position)
}

impl Ports {
    /// The first free port at or after `from`, cyclically, in these classes.
    #[inline]
    pub(crate) fn next_free(
        &self,
        owner: u32,
        from: u16,
        classes: u128,
        chunks: &Chunks,
        range: &Positions,
    ) -> Option<u16> {
        match self {
            Self::Listed { positions, len, .. } => {
                // One more candidate than there are occupied: one of them is free, or none is.
                let mut at = from;
                for _ in 0..=*len {
                    at = range.next(at, classes)?;
                    if find(positions, *len, at).is_none() {
                        return Some(at);
                    }
                    at = at.wrapping_add(1);
                }
                None
            }
            Self::Mapped { full } => {
                let open = classes & !join(full);
                if open == 0 {
                    return None;
                }
                let here = positions::class(from);
                if open >> here & 1 != 0
                    && let Some(found) = free_in_class(owner, from, chunks, range)
                {
                    return Some(found);
                }
                let start = positions::chunks_of(positions::class_after(open, here)).start;
                free_in_class(owner, positions::at(start, 0), chunks, range)
            }
        }
    }

    /// What the port at a position is.
    pub(crate) fn state(&self, owner: u32, position: u16, chunks: &Chunks) -> State {
        let (occupied, resting) = match self {
            Self::Listed { positions, len, resting } => match find(positions, *len, position) {
                Some(place) => (true, resting >> place & 1 != 0),
                None => (false, false),
            },
            Self::Mapped { .. } => {
                let (chunk, bit) = (positions::chunk(position), positions::bit(position));
                let occupied = chunks.bits(owner, chunk) >> bit & 1 != 0;
                (occupied, occupied && chunks.bits(owner, RESTING + chunk) >> bit & 1 != 0)
            }
        };
        match (occupied, resting) {
            (false, _) => State::Free,
            (true, false) => State::Taken,
            (true, true) => State::Resting,
        }
    }

    /// Occupies a free port; false if there is no memory for it.
    pub(crate) fn occupy(
        &mut self,
        owner: u32,
        position: u16,
        chunks: &mut Chunks,
        range: &Positions,
    ) -> bool {
        if let Self::Listed { positions, len, .. } = self {
            if let Some(free) = positions.get_mut(usize::from(*len)) {
                *free = position;
                *len += 1;
                return true;
            }
            self.map(owner, chunks, range);
        }
        self.mark(owner, position, chunks, range)
    }

    /// From the full list to bit maps.
    fn map(&mut self, owner: u32, chunks: &mut Chunks, range: &Positions) {
        let listed = std::mem::replace(self, Self::Mapped { full: [0; 4] });
        let Self::Listed { positions, len, resting } = listed else { return };
        for (place, position) in positions.into_iter().take(len.into()).enumerate() {
            let mut marked = self.mark(owner, position, chunks, range);
            if resting >> place & 1 != 0 {
                marked &= self.rest(owner, position, chunks);
            }
            debug_assert!(marked, "a chunk for every port is reserved");
        }
    }

    fn mark(&mut self, owner: u32, position: u16, chunks: &mut Chunks, range: &Positions) -> bool {
        let number = positions::chunk(position);
        let Some(bits) = chunks.set(owner, number, positions::bit(position)) else { return false };
        if range.valid(number) & !bits == 0 {
            let class = positions::class(position);
            let is_full = positions::chunks_of(class)
                .all(|number| range.valid(number) & !chunks.bits(owner, number) == 0);
            if is_full && let Self::Mapped { full } = self {
                *full = split(join(full) | 1 << class);
            }
        }
        true
    }

    /// A taken port rests from now on; false if there is no memory to say so.
    pub(crate) fn rest(&mut self, owner: u32, position: u16, chunks: &mut Chunks) -> bool {
        match self {
            Self::Listed { positions, len, resting } => find(positions, *len, position)
                .is_some_and(|place| {
                    *resting |= 1 << place;
                    true
                }),
            Self::Mapped { .. } => chunks
                .set(owner, RESTING + positions::chunk(position), positions::bit(position))
                .is_some(),
        }
    }

    /// Frees a port, taken or (`rested`) resting.
    pub(crate) fn free(&mut self, owner: u32, position: u16, rested: bool, chunks: &mut Chunks) {
        match self {
            Self::Listed { positions, len, resting } => {
                let Some(place) = find(positions, *len, position) else { return };
                let last = usize::from(*len) - 1;
                positions.swap(place, last);
                let last_rests = *resting >> last & 1;
                *resting &= !(1 << last);
                if place != last {
                    *resting = *resting & !(1 << place) | last_rests << place;
                }
                *len -= 1;
            }
            Self::Mapped { full } => {
                let (chunk, bit) = (positions::chunk(position), positions::bit(position));
                *full = split(join(full) & !(1 << positions::class(position)));
                chunks.clear(owner, chunk, bit);
                if rested {
                    chunks.clear(owner, RESTING + chunk, bit);
                }
            }
        }
    }
}

/// The first free port of the class at or after `from`.
#[inline]
fn free_in_class(owner: u32, from: u16, chunks: &Chunks, range: &Positions) -> Option<u16> {
    positions::chunks_from(from).find_map(|(number, wanted)| {
        let free = range.valid(number) & wanted & !chunks.bits(owner, number);
        (free != 0).then(|| positions::at(number, free.trailing_zeros()))
    })
}

#[inline(always)]
const fn join(words: &[u32; 4]) -> u128 {
    let [a, b, c, d] = *words;
    a as u128 | (b as u128) << 32 | (c as u128) << 64 | (d as u128) << 96
}

#[inline(always)]
const fn split(bits: u128) -> [u32; 4] {
    [bits as u32, (bits >> 32) as u32, (bits >> 64) as u32, (bits >> 96) as u32]
}
