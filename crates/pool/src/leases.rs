//! One worker's leases: taking, giving back, and rest.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use types::{Address, ClassSet, Now};

use crate::config::{LeaseConfig, LeaseConfigError};
use crate::group::{Group, GroupKey, State, Usage};
use crate::hash::Secrets;
use crate::positions::{self, Positions};
use crate::records::{NoRoom, Records};

/// Why a port is not leased.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// Every port of these classes is taken or rests, in this group: another LIP may have one.
    #[error("no free port in the group")]
    Exhausted,
    /// The pool has as many leases as it was made for, in all groups together.
    #[error("no room for another lease")]
    Full,
    /// The port asked for is taken.
    #[error("the port is taken")]
    Taken,
    /// The port asked for rests.
    #[error("the port rests")]
    Resting,
    /// The port asked for is not in the range.
    #[error("the port is not in the range")]
    OutOfRange,
}

/// A port that rests, in the queue.
pub(crate) struct Resting {
    group: u32,
    until_ms: u32,
    position: u16,
}

/// Some of a pool's ports, to lease of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Within(Positions);

impl Within {
    /// The ports of a range.
    pub fn new(l4_ports: &RangeInclusive<u16>) -> Self {
        Self(Positions::new(l4_ports))
    }

    /// How many of these ports are of these classes.
    pub fn count(&self, classes: ClassSet) -> u32 {
        self.0.capacity(classes)
    }
}

/// The ports that one worker has leased.
pub struct Leases<A = u32> {
    records: Records<A>,
    resting: VecDeque<Resting>,
    /// Where groups that are gone left off, by hash; two of one hash share a place, which at worst
    /// moves where the next one begins.
    cursors: Box<[u16]>,
    max_leases: u32,
    max_resting: usize,
    taken: u32,
    rests_cut_short: u64,
}

impl<A> std::fmt::Debug for Leases<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (taken, resting) = (self.taken, self.resting.len());
        f.debug_struct("Leases").field("taken", &taken).field("resting", &resting).finish()
    }
}

impl<A: Address> Leases<A> {
    /// An empty pool; all its memory is reserved here.
    ///
    /// # Errors
    /// A range without ports, or more leases than a pool can number.
    pub fn new(config: &LeaseConfig) -> Result<Self, LeaseConfigError> {
        config.check()?;
        let secrets = Secrets::new(config.seed);
        let range = Positions::new(&config.l4_ports);
        Ok(Self {
            records: Records::new(config.records(), secrets, range),
            resting: VecDeque::with_capacity(config.max_resting as usize),
            cursors: vec![0; config.cursors()].into_boxed_slice(),
            max_leases: config.max_leases,
            max_resting: config.max_resting as usize,
            taken: 0,
            rests_cut_short: 0,
        })
    }

    #[inline]
    fn find(&self, key: &GroupKey<A>) -> (u64, Option<u32>) {
        let hash = self.records.hash(key);
        (hash, self.records.find(hash, key))
    }

    /// Asks what a later call for this key reads first into the cache.
    #[inline]
    pub fn prefetch(&self, key: &GroupKey<A>) {
        self.records.prefetch(self.records.hash(key));
    }

    /// Leases the next free port of these classes.
    ///
    /// The cost is the same for the first port and the last one.
    ///
    /// # Errors
    /// [`LeaseError::Exhausted`] and [`LeaseError::Full`].
    #[inline]
    pub fn take(&mut self, key: &GroupKey<A>, classes: ClassSet) -> Result<u16, LeaseError> {
        let all = self.records.range;
        self.take_in(key, classes, &all)
    }

    /// The same of some ports only.
    ///
    /// # Errors
    /// As [`Leases::take`].
    #[inline]
    pub fn take_within(
        &mut self,
        key: &GroupKey<A>,
        classes: ClassSet,
        within: &Within,
    ) -> Result<u16, LeaseError> {
        let range = self.records.range.and(within.0);
        self.take_in(key, classes, &range.ok_or(LeaseError::Exhausted)?)
    }

    #[inline(always)]
    fn take_in(
        &mut self,
        key: &GroupKey<A>,
        classes: ClassSet,
        range: &Positions,
    ) -> Result<u16, LeaseError> {
        if self.taken >= self.max_leases {
            return Err(LeaseError::Full);
        }
        let classes = range.populated(classes);
        let (hash, place) = self.find(key);
        let position = match place {
            Some(place) => {
                let found = self.records.occupy_next(place, classes, range).map_err(no_room)?;
                let position = found.ok_or(LeaseError::Exhausted)?;
                self.taken += 1;
                if let Some(group) = self.records.group_mut(place) {
                    group.taken += 1;
                    group.cursor = position.wrapping_add(1);
                    group.moved = true;
                }
                position
            }
            None => {
                let from = self.recall(hash);
                let first = range.next(from, classes);
                let position = first.ok_or(LeaseError::Exhausted)?;
                let cursor = position.wrapping_add(1);
                self.open(hash, key, position, cursor)?;
                self.remember(hash, cursor);
                position
            }
        };
        Ok(positions::l4_port(position))
    }

    /// Leases this very port, whatever its class: for a conn that comes from elsewhere. The cursor
    /// stays where it is.
    ///
    /// # Errors
    /// [`LeaseError::Taken`], [`LeaseError::Resting`], [`LeaseError::OutOfRange`] and
    /// [`LeaseError::Full`].
    pub fn take_exact(&mut self, key: &GroupKey<A>, l4_port: u16) -> Result<(), LeaseError> {
        if !self.records.range.contains(l4_port) {
            return Err(LeaseError::OutOfRange);
        }
        let position = positions::position(l4_port);
        let (hash, place) = self.find(key);
        let state = place.map_or(State::Free, |place| self.records.state(place, position));
        match state {
            State::Taken => Err(LeaseError::Taken),
            State::Resting => Err(LeaseError::Resting),
            State::Free if self.taken >= self.max_leases => Err(LeaseError::Full),
            State::Free => match place {
                Some(place) => self.occupy(place, position),
                None => {
                    let cursor = self.recall(hash);
                    self.open(hash, key, position, cursor)
                }
            },
        }
    }

    /// A new group with this port taken.
    fn open(
        &mut self,
        hash: u64,
        key: &GroupKey<A>,
        position: u16,
        cursor: u16,
    ) -> Result<(), LeaseError> {
        if !self.records.open(hash, Group::new(key, position, cursor)) {
            return Err(no_room(NoRoom));
        }
        self.taken += 1;
        Ok(())
    }

    /// A free port of a group is taken.
    #[inline]
    fn occupy(&mut self, place: u32, position: u16) -> Result<(), LeaseError> {
        if !self.records.occupy(place, position) {
            return Err(no_room(NoRoom));
        }
        if let Some(group) = self.records.group_mut(place) {
            group.taken += 1;
        }
        self.taken += 1;
        Ok(())
    }

    /// Gives a port back, to be leased again at once or, with `rest_until_ms`, from that tick on.
    /// Rests end in the order in which they began, so all should be equally long.
    ///
    /// False if the port is not taken; nothing has changed then.
    #[inline]
    pub fn give_back(
        &mut self,
        key: &GroupKey<A>,
        l4_port: u16,
        rest_until_ms: Option<u32>,
    ) -> bool {
        let position = positions::position(l4_port);
        let (hash, Some(place)) = self.find(key) else { return false };
        if self.records.state(place, position) != State::Taken {
            return false;
        }
        match rest_until_ms {
            Some(until_ms) if self.max_resting != 0 => {
                if self.resting.len() >= self.max_resting {
                    self.end_oldest_rest();
                    self.rests_cut_short += 1;
                }
                if !self.records.rest(place, position) {
                    debug_assert!(false, "a taken port has its bit");
                    return false;
                }
                let Some(group) = self.records.group_mut(place) else { return false };
                group.taken -= 1;
                group.resting += 1;
                self.resting.push_back(Resting { group: place, until_ms, position });
            }
            _ => {
                let Some(group) = self.records.group_mut(place) else { return false };
                group.taken -= 1;
                self.records.free(place, position);
                self.close_if_empty(hash, place);
            }
        }
        self.taken -= 1;
        true
    }

    /// Ends the rests that are over, at most `budget` of them; how many there were.
    pub fn tick(&mut self, now: Now, budget: usize) -> usize {
        let mut ended = 0;
        while ended < budget && self.resting.front().is_some_and(|rest| is_over(rest, now)) {
            self.end_oldest_rest();
            ended += 1;
        }
        ended
    }

    fn end_oldest_rest(&mut self) {
        let Some(rest) = self.resting.pop_front() else { return };
        let Some(group) = self.records.group_mut(rest.group) else { return };
        group.resting -= 1;
        let key = group.key();
        self.records.free(rest.group, rest.position);
        let hash = self.records.hash(&key);
        self.close_if_empty(hash, rest.group);
    }

    /// A group without ports goes; where it left off is remembered.
    fn close_if_empty(&mut self, hash: u64, place: u32) {
        let Some(group) = self.records.group(place) else { return };
        if group.taken == 0 && group.resting == 0 {
            // The cursor after a first lease is remembered at once: groups of one hash that have
            // but one conn each then begin one after the other, however they end.
            if group.moved {
                let cursor = group.cursor;
                self.remember(hash, cursor);
            }
            self.records.close(hash, place);
        }
    }

    /// What a group adds to the remembered cursor: each begins its first round elsewhere.
    #[inline(always)]
    const fn offset(hash: u64) -> u16 {
        (hash >> 16) as u16
    }

    #[inline]
    fn cursor_mut(&mut self, hash: u64) -> Option<&mut u16> {
        let mask = self.cursors.len() - 1;
        self.cursors.get_mut(hash as usize & mask)
    }

    /// Where a group of this hash goes on.
    fn recall(&mut self, hash: u64) -> u16 {
        self.cursor_mut(hash).map_or(0, |cursor| cursor.wrapping_add(Self::offset(hash)))
    }

    /// Keeps the cursor of a group for the next one of this hash.
    fn remember(&mut self, hash: u64, cursor: u16) {
        if let Some(kept) = self.cursor_mut(hash) {
            *kept = cursor.wrapping_sub(Self::offset(hash));
        }
    }

    /// What is taken and rests in a group.
    pub fn usage(&self, key: &GroupKey<A>) -> Usage {
        let (_, place) = self.find(key);
        place.and_then(|place| self.records.group(place)).map(Group::usage).unwrap_or_default()
    }

    /// What is taken and rests in all groups together.
    pub fn totals(&self) -> Usage {
        Usage { taken: self.taken, resting: self.resting.len() as u32 }
    }

    /// Ports that a group has in these classes, free or not.
    pub fn capacity(&self, classes: ClassSet) -> u32 {
        self.records.range.capacity(classes)
    }

    /// Groups with a port taken or resting.
    pub const fn group_count(&self) -> usize {
        self.records.group_count()
    }

    /// Places of groups, used or not: what [`Leases::group_at`] is asked for.
    pub fn group_places(&self) -> u32 {
        self.records.places()
    }

    /// The group at a place, so that all can be walked in portions.
    pub fn group_at(&self, place: u32) -> Option<(GroupKey<A>, Usage)> {
        self.records.group(place).map(|group| (group.key(), group.usage()))
    }

    /// Rests that ended before their time because too many ports rested.
    pub const fn rests_cut_short(&self) -> u64 {
        self.rests_cut_short
    }

    /// Entries looked at since the start.
    #[cfg(test)]
    pub(crate) fn probes(&self) -> u64 {
        self.records.probes()
    }

    /// Bytes that the groups, bit maps and rests of this moment take.
    pub fn bytes_in_use(&self) -> usize {
        self.records.bytes_in_use() + self.resting.len() * size_of::<Resting>()
    }
}

/// As many records are reserved as the ports can need.
#[cold]
fn no_room(_: NoRoom) -> LeaseError {
    debug_assert!(false, "a record for every port is reserved");
    LeaseError::Full
}

/// True from the tick of its end on, also across the wrap of the ticks.
#[inline(always)]
const fn is_over(rest: &Resting, now: Now) -> bool {
    now.tick_ms.wrapping_sub(rest.until_ms) <= i32::MAX as u32
}
