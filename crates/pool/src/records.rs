//! Groups and chunks in one memory: a port needs a place for its group, or for its chunk.

use types::Address;

use crate::chunks::{Chunk, FULL};
use crate::group::{Group, GroupKey, LISTED_AGAIN, LISTED_MAX, Place, State};
use crate::hash::Secrets;
use crate::positions::{self, Positions};
use crate::table::Table;

/// What the table holds.
enum Record<A> {
    Group(Group<A>),
    Chunk { number: u16, chunk: Chunk },
}

/// Bytes that a group or a chunk takes.
pub(crate) const fn record_bytes<A>() -> usize {
    Table::<Record<A>>::entry_bytes()
}

const _: () = assert!(record_bytes::<u32>() == 48);

/// A chunk, or where it would be.
#[derive(Clone, Copy)]
struct Spot {
    hash: u64,
    place: Option<u32>,
    number: u16,
}

/// Records that so many ports, taken or resting, can need.
///
/// A group without chunks has a port at least. One with chunks has more than
/// [`LISTED_AGAIN`] ports, a chunk for each at the most, and one that says which classes are
/// full: if a class of two ports or more is, then these share a chunk and make up for it.
pub(crate) fn needed(ports: usize, range: usize) -> usize {
    let beside_chunks = if range < 2 * 128 { 2 } else { 1 };
    ports + ports * beside_chunks / (LISTED_AGAIN as usize + 1)
}

/// Groups with their chunks.
pub(crate) struct Records<A> {
    table: Table<Record<A>>,
    secrets: Secrets,
    pub(crate) range: Positions,
    groups: usize,
}

impl<A: Address> Records<A> {
    pub(crate) fn new(capacity: usize, secrets: Secrets, range: Positions) -> Self {
        Self { table: Table::new(capacity), secrets, range, groups: 0 }
    }

    pub(crate) const fn group_count(&self) -> usize {
        self.groups
    }

    pub(crate) const fn bytes_in_use(&self) -> usize {
        self.table.len() * record_bytes::<A>()
    }

    /// Places ever used.
    pub(crate) fn places(&self) -> u32 {
        self.table.high_water()
    }

    /// Entries looked at since the start.
    #[cfg(test)]
    pub(crate) fn probes(&self) -> u64 {
        self.table.probes.get()
    }

    #[inline(always)]
    pub(crate) fn hash(&self, key: &GroupKey<A>) -> u64 {
        self.secrets.group(key)
    }

    /// Asks for what finding a group of this hash reads first.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        if let Some(head) = self.table.head(hash) {
            arch::prefetch_read(head);
        }
    }

    #[inline]
    pub(crate) fn find(&self, hash: u64, key: &GroupKey<A>) -> Option<u32> {
        self.table.find(hash, |record| matches!(record, Record::Group(group) if group.is_of(key)))
    }

    #[inline]
    pub(crate) fn group(&self, place: u32) -> Option<&Group<A>> {
        match self.table.entry(place) {
            Some(Record::Group(group)) => Some(group),
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn group_mut(&mut self, place: u32) -> Option<&mut Group<A>> {
        match self.table.entry_mut(place) {
            Some(Record::Group(group)) => Some(group),
            _ => None,
        }
    }

    /// Adds a group; false if there is no memory for it.
    pub(crate) fn open(&mut self, hash: u64, group: Group<A>) -> bool {
        let opened = self.table.insert(hash, Record::Group(group)).is_some();
        self.groups += usize::from(opened);
        opened
    }

    /// Removes a group that has no ports.
    pub(crate) fn close(&mut self, hash: u64, place: u32) {
        self.table.remove(hash, place);
        self.groups -= 1;
    }

    #[inline]
    fn spot(&self, owner: u32, number: u16) -> Spot {
        let hash = self.secrets.chunk(owner, number);
        let place = self.table.find(hash, |record| {
            matches!(record, Record::Chunk { number: its, chunk }
                if *its == number && chunk.owner() == owner)
        });
        Spot { hash, place, number }
    }

    #[inline]
    fn chunk(&self, spot: Spot) -> Option<&Chunk> {
        match self.table.entry(spot.place?) {
            Some(Record::Chunk { chunk, .. }) => Some(chunk),
            _ => None,
        }
    }

    #[inline]
    fn chunk_mut(&mut self, spot: Spot) -> Option<&mut Chunk> {
        match self.table.entry_mut(spot.place?) {
            Some(Record::Chunk { chunk, .. }) => Some(chunk),
            _ => None,
        }
    }

    /// What is occupied there; nothing if there is no chunk.
    #[inline]
    fn occupied(&self, spot: Spot) -> u128 {
        self.chunk(spot).map_or(0, Chunk::occupied)
    }

    /// Sets a bit; what is occupied then, or `None` if there is no memory for a new chunk.
    #[inline]
    fn set(&mut self, owner: u32, spot: Spot, bit: u8) -> Option<u128> {
        if let Some(chunk) = self.chunk_mut(spot) {
            return Some(chunk.set(bit));
        }
        let record = Record::Chunk { number: spot.number, chunk: Chunk::new(owner, bit) };
        self.table.insert(spot.hash, record).map(|_| 1 << bit)
    }

    /// Clears a bit; the chunk goes with its last one. What was occupied, and what is still.
    fn clear(&mut self, spot: Spot, bit: u8) -> (u128, u128) {
        let Some(chunk) = self.chunk_mut(spot) else { return (0, 0) };
        let before = chunk.occupied();
        let after = chunk.clear(bit);
        if after == 0
            && let Some(place) = spot.place
        {
            self.table.remove(spot.hash, place);
        }
        (before, after)
    }

    /// What the port at a position is.
    pub(crate) fn state(&self, place: u32, position: u16) -> State {
        let Some(group) = self.group(place) else { return State::Free };
        if let Place::Listed(_) = group.place() {
            return group.listed_state(position);
        }
        let spot = self.spot(place, positions::chunk(position));
        let bit = 1 << positions::bit(position);
        match self.chunk(spot) {
            Some(chunk) if chunk.resting() & bit != 0 => State::Resting,
            Some(chunk) if chunk.occupied() & bit != 0 => State::Taken,
            _ => State::Free,
        }
    }

    /// Occupies the first free port at or after the group's cursor, cyclically, in these classes and this
    /// range, which is a part of all there are. `Ok(None)` if there is none, an error if there is no memory
    /// for it.
    #[inline]
    pub(crate) fn occupy_next(
        &mut self,
        place: u32,
        classes: u128,
        range: &Positions,
    ) -> Result<Option<u16>, NoRoom> {
        let group = self.group(place).ok_or(NoRoom)?;
        let from = group.cursor;
        if let Place::Listed(len) = group.place() {
            let Some(position) = next_unlisted(group, len, from, classes, range) else {
                return Ok(None);
            };
            return if self.occupy(place, position) { Ok(Some(position)) } else { Err(NoRoom) };
        }
        let open = classes & !self.full_classes(place, group);
        if open == 0 {
            return Ok(None);
        }
        let here = positions::class(from);
        let found =
            if open >> here & 1 != 0 { self.free_in_class(place, from, range) } else { None };
        let found = found.or_else(|| {
            let (mut left, mut class) = (open, here);
            // A class that is open has a free port; in a narrower range it may be another one's.
            while left != 0 {
                class = positions::class_after(left, class);
                let start = positions::chunks_of(class).start;
                let found = self.free_in_class(place, positions::at(start, 0), range);
                if found.is_some() {
                    return found;
                }
                left &= !(1 << class);
            }
            None
        });
        let Some((spot, position)) = found else { return Ok(None) };
        if self.mark(place, spot, position) { Ok(Some(position)) } else { Err(NoRoom) }
    }

    /// The classes of which no port is free.
    #[inline]
    fn full_classes(&self, place: u32, group: &Group<A>) -> u128 {
        match group.place() {
            Place::MappedWithFull => self.occupied(self.spot(place, FULL)),
            _ => 0,
        }
    }

    /// The first free port of the class at or after `from` in a range, with its chunk.
    #[inline]
    fn free_in_class(&self, owner: u32, from: u16, range: &Positions) -> Option<(Spot, u16)> {
        positions::chunks_from(from).find_map(|(number, wanted)| {
            let spot = self.spot(owner, number);
            let free = range.valid(number) & wanted & !self.occupied(spot);
            (free != 0).then(|| (spot, positions::at(number, free.trailing_zeros())))
        })
    }

    /// Occupies a free port; false if there is no memory for it.
    pub(crate) fn occupy(&mut self, place: u32, position: u16) -> bool {
        let Some(group) = self.group_mut(place) else { return false };
        if let Place::Listed(len) = group.place() {
            if usize::from(len) < LISTED_MAX {
                group.list(position, false);
                return true;
            }
            self.map(place);
        }
        let spot = self.spot(place, positions::chunk(position));
        self.mark(place, spot, position)
    }

    /// From the full list to chunks.
    fn map(&mut self, place: u32) {
        let Some(group) = self.group_mut(place) else { return };
        let (listed, rests) = (group.positions(), group.rests());
        group.map();
        for (index, position) in listed.into_iter().enumerate() {
            let spot = self.spot(place, positions::chunk(position));
            let mut marked = self.mark(place, spot, position);
            if rests >> index & 1 != 0 {
                marked &= self.rest(place, position);
            }
            debug_assert!(marked, "a chunk for every port is reserved");
        }
    }

    /// Sets a port's bit, and its class's.
    #[inline]
    fn mark(&mut self, place: u32, spot: Spot, position: u16) -> bool {
        let Some(occupied) = self.set(place, spot, positions::bit(position)) else { return false };
        let class = positions::class(position);
        if spot.place.is_none()
            && let Some(group) = self.group_mut(place)
        {
            group.set_class(class, true);
        }
        if self.range.valid(spot.number) & !occupied == 0 && self.is_full(place, class) {
            let marked = self.set(place, self.spot(place, FULL), class).is_some();
            debug_assert!(marked, "a chunk for the full classes is reserved");
            if let Some(group) = self.group_mut(place) {
                group.set_any_full(true);
            }
        }
        true
    }

    fn is_full(&self, owner: u32, class: u8) -> bool {
        positions::chunks_of(class)
            .all(|number| self.range.valid(number) & !self.occupied(self.spot(owner, number)) == 0)
    }

    /// A taken port rests from now on; false if it is not taken.
    pub(crate) fn rest(&mut self, place: u32, position: u16) -> bool {
        let Some(group) = self.group_mut(place) else { return false };
        if let Place::Listed(_) = group.place() {
            group.rest(position);
            return true;
        }
        let spot = self.spot(place, positions::chunk(position));
        let Some(chunk) = self.chunk_mut(spot) else { return false };
        chunk.rest(positions::bit(position));
        true
    }

    /// Frees a port, taken or resting, that its group does not count any more.
    pub(crate) fn free(&mut self, place: u32, position: u16) {
        let Some(group) = self.group_mut(place) else { return };
        if let Place::Listed(_) = group.place() {
            group.unlist(position);
            return;
        }
        let (number, class) = (positions::chunk(position), positions::class(position));
        let spot = self.spot(place, number);
        let (before, after) = self.clear(spot, positions::bit(position));
        if self.range.valid(number) & !before == 0 {
            self.set_not_full(place, class);
        }
        if after == 0 {
            let populated =
                positions::chunks_of(class).any(|number| self.spot(place, number).place.is_some());
            if let Some(group) = self.group_mut(place) {
                group.set_class(class, populated);
            }
        }
        let few = |group: &Group<A>| group.usage().taken + group.usage().resting <= LISTED_AGAIN;
        if self.group(place).is_some_and(few) {
            self.unmap(place);
        }
    }

    fn set_not_full(&mut self, place: u32, class: u8) {
        if self.group(place).is_some_and(|group| group.place() == Place::MappedWithFull) {
            let (_, full) = self.clear(self.spot(place, FULL), class);
            if let Some(group) = self.group_mut(place) {
                group.set_any_full(full != 0);
            }
        }
    }

    /// From chunks to the list: of few ports, so that there are few classes to look at.
    fn unmap(&mut self, place: u32) {
        let Some(group) = self.group_mut(place) else { return };
        let mut classes = group.classes();
        let any_full = group.place() == Place::MappedWithFull;
        group.unmap();
        while classes != 0 {
            let class = classes.trailing_zeros() as u8;
            classes &= classes - 1;
            for number in positions::chunks_of(class) {
                self.unmap_chunk(place, number);
            }
        }
        if any_full {
            self.remove(self.spot(place, FULL));
        }
    }

    fn unmap_chunk(&mut self, place: u32, number: u16) {
        let spot = self.spot(place, number);
        let Some(Record::Chunk { chunk, .. }) = self.remove(spot) else { return };
        let mut left = chunk.occupied();
        while left != 0 {
            let bit = left.trailing_zeros();
            left &= left - 1;
            if let Some(group) = self.group_mut(place) {
                group.list(positions::at(number, bit), chunk.resting() >> bit & 1 != 0);
            }
        }
    }

    fn remove(&mut self, spot: Spot) -> Option<Record<A>> {
        self.table.remove(spot.hash, spot.place?)
    }
}

/// There is no memory for another record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoRoom;

/// The first free port of a group that lists its ports.
#[inline]
fn next_unlisted<A: Address>(
    group: &Group<A>,
    len: u8,
    from: u16,
    classes: u128,
    range: &Positions,
) -> Option<u16> {
    // One more candidate than there are occupied: one of them is free, or none is.
    let mut at = from;
    for _ in 0..=len {
        at = range.next(at, classes)?;
        if group.index_of(at).is_none() {
            return Some(at);
        }
        at = at.wrapping_add(1);
    }
    None
}
