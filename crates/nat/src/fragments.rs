//! Fragments, followed without being put together (RFC 4787 REQ-14, RFC 6146 §3.4).
//!
//! The first fragment of a packet has the ports; the others get them from here. Those that come before it
//! wait. What is kept is bounded three ways: packets in sets of [`WAYS`], chosen by the pair of addresses,
//! so that who floods us with first fragments pushes out his own; pieces that wait in [`WAITING_MAX`]
//! places, of which one set has a part and an old one makes way; and both by [`TIMEOUT_MS`].
//!
//! No piece that overlaps another passes, and after one no further of its packet (RFC 5722, RFC 3128): so
//! the receiver never puts together what was not looked at here.

use types::{KeyedHash, Now, Verdict};
use wire::{Kind, Piece};

/// Sets of packets.
const SETS: usize = 256;
/// Packets of one set: so many may be under way at once between two addresses.
pub const WAYS: usize = 8;
/// Pieces that wait for their first one, at most, over all packets.
pub const WAITING_MAX: usize = 256;
/// Pieces of one set that wait, at most: a packet of 64 KiB has 45 over Ethernet.
const WAITING_OF_SET: u8 = 64;
/// How long a packet is remembered and a piece waits: RFC 6146 §4 asks for 2 s at least.
pub const TIMEOUT_MS: u32 = 2_000;
/// Gaps between pieces that came, at most; more are nobody's but an attacker's.
const RANGES: usize = 8;
/// Places looked at in one call, for a free one or for a piece that has waited too long.
const LOOKED_AT: usize = 16;

/// No place.
const NONE: u16 = u16::MAX;

const _: () = assert!(WAITING_MAX < NONE as usize && SETS.is_power_of_two());

/// Which packet a fragment is of. IPv4 addresses are IPv4-mapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacketKey {
    /// Source address.
    pub src: u128,
    /// Destination address.
    pub dst: u128,
    /// Identification.
    pub ident: u32,
    /// Protocol, which is part of the name in IPv4 (RFC 791 §3.2) and 0 in IPv6 (RFC 8200 §4.5).
    pub proto: u8,
    /// Zone of the addresses.
    pub zone: u16,
}

/// What the first fragment says for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct First {
    /// What it is.
    pub kind: Kind,
    /// Its protocol.
    pub proto: u8,
    /// Source port, or the identifier.
    pub sport: u16,
    /// Destination port, or the identifier.
    pub dport: u16,
    /// Type of ICMP.
    pub icmp_type: u8,
}

/// What is to be done with a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It goes on, as a part of what the first one said.
    Pass(First),
    /// It is to be kept: give it to [`Fragments::keep`].
    Wait(Waiting),
    /// It ends here.
    Drop(Verdict),
}

/// Names the packet that a piece waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting(u16);

/// What has become of a piece that waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The first one has come.
    Pass(First),
    /// It ends here.
    Drop(Verdict),
}

/// The fragments that a worker sees. `T` is a packet and what is known of it.
#[derive(Debug)]
pub struct Fragments<T> {
    packets: Box<[Entry]>,
    places: Box<[Place<T>]>,
    /// Pieces that wait, set by set.
    sets: Box<[u8]>,
    /// Where the next free place is looked for.
    next: usize,
    /// Where the next piece is looked for that has waited too long.
    expired: usize,
    /// Pieces that have an end and were not taken yet, first to last.
    ended: (u16, u16),
    waiting: usize,
    hash: KeyedHash,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: PacketKey,
    used: bool,
    since_ms: u32,
    first: Option<First>,
    /// Pieces that came, in units of 8 bytes, from and before; none touches another.
    ranges: [(u16, u16); RANGES],
    count: u8,
    /// Where the packet ends, in the same units; 0 until its last piece came.
    end: u16,
    /// Two pieces have overlapped.
    bad: bool,
    /// The first piece that waits.
    waiting: u16,
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            key: PacketKey::default(),
            used: false,
            since_ms: 0,
            first: None,
            ranges: [(0, 0); RANGES],
            count: 0,
            end: 0,
            bad: false,
            waiting: NONE,
        }
    }
}

#[derive(Debug)]
struct Place<T> {
    item: Option<T>,
    end: Option<End>,
    since_ms: u32,
    entry: u16,
    next: u16,
}

/// How a piece stands to those that came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    New,
    /// All of it was there: the network has doubled it (RFC 8200 §4.5), or somebody tries what passes. It
    /// does not, and so does no harm to the others.
    Double,
    Overlaps,
    /// There are too many gaps to remember one more.
    Scattered,
}

impl<T> Fragments<T> {
    /// Nothing yet. All memory is taken now.
    pub fn new(seed: [u64; 2]) -> Self {
        let place = || Place { item: None, end: None, since_ms: 0, entry: NONE, next: NONE };
        Self {
            packets: vec![Entry::default(); SETS * WAYS].into_boxed_slice(),
            places: (0..WAITING_MAX).map(|_| place()).collect(),
            sets: vec![0; SETS].into_boxed_slice(),
            next: 0,
            expired: 0,
            ended: (NONE, NONE),
            waiting: 0,
            hash: KeyedHash::new(seed),
        }
    }

    /// Takes note of a fragment of `len` bytes behind its headers; `first` is what it says if it is the
    /// first one of its packet.
    pub fn track(
        &mut self,
        key: &PacketKey,
        piece: Piece,
        len: usize,
        first: Option<First>,
        now: Now,
    ) -> Step {
        let at = self.find(key, now).unwrap_or_else(|| self.begin(key, now));
        let Some(entry) = self.packets.get_mut(usize::from(at)) else {
            return Step::Drop(Verdict::Internal);
        };
        if entry.bad {
            return Step::Drop(Verdict::BadFragment);
        }
        let from = piece.offset >> 3;
        let to = from.saturating_add(len.div_ceil(8).min(8192) as u16);
        match entry.add(from, to, !piece.more) {
            Fit::New => {}
            Fit::Double => return Step::Drop(Verdict::BadFragment),
            Fit::Scattered => return Step::Drop(Verdict::NoFirstFragment),
            Fit::Overlaps => {
                entry.bad = true;
                self.end_all(at, End::Drop(Verdict::BadFragment));
                return Step::Drop(Verdict::BadFragment);
            }
        }
        if let Some(first) = first {
            entry.first = Some(first);
            self.end_all(at, End::Pass(first));
        }
        let Some(entry) = self.packets.get_mut(usize::from(at)) else {
            return Step::Drop(Verdict::Internal);
        };
        match entry.first {
            None => Step::Wait(Waiting(at)),
            Some(first) => {
                // All of it has passed: there is nothing left to be remembered.
                entry.used = !entry.is_whole();
                Step::Pass(first)
            }
        }
    }

    /// Keeps a piece that waits. Gives back what finds no place: itself, if too many of its set wait, or an
    /// older one that it takes the place of, since a first fragment comes soon or never.
    pub fn keep(&mut self, waiting: Waiting, item: T, now: Now) -> Option<T> {
        let Some(count) = self.sets.get_mut(usize::from(waiting.0) / WAYS) else {
            return Some(item);
        };
        if *count >= WAITING_OF_SET {
            return Some(item);
        }
        *count += 1;
        let index = self.place(now);
        let replaced = self.remove(index);
        let (Some(place), Some(entry)) =
            (self.places.get_mut(index), self.packets.get_mut(usize::from(waiting.0)))
        else {
            return Some(item);
        };
        if place.item.is_some() {
            // It has an end and was not taken out; nobody is asked to wait as long.
            if let Some(count) = self.sets.get_mut(usize::from(waiting.0) / WAYS) {
                *count -= 1;
            }
            return Some(item);
        }
        place.item = Some(item);
        place.since_ms = now.tick_ms;
        place.entry = waiting.0;
        place.next = std::mem::replace(&mut entry.waiting, index as u16);
        self.waiting += 1;
        replaced
    }

    /// A free place, or that of the piece that has waited longest, among the next few.
    fn place(&mut self, now: Now) -> usize {
        let begin = self.next;
        let looked_at = (begin..begin + LOOKED_AT).map(|index| index % WAITING_MAX);
        let age = |index: &usize| match self.places.get(*index) {
            Some(place) if place.item.is_none() => u32::MAX,
            Some(place) if place.end.is_none() => now.since(place.since_ms),
            _ => 0,
        };
        // The first of those that are as old.
        let index = looked_at.rev().max_by_key(age).unwrap_or(begin);
        self.next = (index + 1) % WAITING_MAX;
        index
    }

    /// Takes a piece that waits out of its place, if one is there.
    fn remove(&mut self, index: usize) -> Option<T> {
        let waits = |place: &&Place<T>| place.item.is_some() && place.end.is_none();
        self.places.get(index).filter(waits)?;
        self.unlink(index);
        let place = self.places.get_mut(index)?;
        self.waiting -= 1;
        place.item.take()
    }

    /// Takes out a piece that has waited, as long as there is one whose end is known.
    pub fn take(&mut self) -> Option<(T, End)> {
        let index = self.ended.0;
        let place = self.places.get_mut(usize::from(index))?;
        let (item, end) = (place.item.take()?, place.end.take()?);
        self.ended.0 = place.next;
        place.next = NONE;
        if self.ended.0 == NONE {
            self.ended.1 = NONE;
        }
        self.waiting -= 1;
        Some((item, end))
    }

    /// Ends what has waited too long, a bounded number of pieces in a call.
    pub fn expire(&mut self, now: Now) {
        for _ in 0..LOOKED_AT {
            let index = self.expired;
            self.expired = (index + 1) % WAITING_MAX;
            let Some(place) = self.places.get(index) else { return };
            let waits = place.item.is_some() && place.end.is_none();
            if waits && now.since(place.since_ms) > TIMEOUT_MS {
                self.unlink(index);
                self.append_ended(index as u16, End::Drop(Verdict::NoFirstFragment));
            }
        }
    }

    /// True if a piece can be taken out.
    #[inline]
    pub fn has_ended(&self) -> bool {
        self.ended.0 != NONE
    }

    /// Pieces that are here.
    #[inline]
    pub fn len(&self) -> usize {
        self.waiting
    }

    /// True if no piece is here.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    fn set_of(&self, key: &PacketKey) -> usize {
        let half = |address: u128| (address >> 64) as u64 ^ (address as u64).rotate_left(32);
        let pair = half(key.src) ^ half(key.dst).rotate_left(16) ^ u64::from(key.zone);
        let low = (key.src as u64).wrapping_add((key.dst as u64).rotate_left(24));
        (self.hash.hash(pair, low) >> 56) as usize % SETS * WAYS
    }

    fn find(&mut self, key: &PacketKey, now: Now) -> Option<u16> {
        let set = self.set_of(key);
        let ways = self.packets.get(set..set + WAYS)?;
        let way = ways.iter().position(|entry| entry.used && entry.key == *key)?;
        let at = (set + way) as u16;
        if now.since(ways.get(way)?.since_ms) > TIMEOUT_MS {
            self.end_all(at, End::Drop(Verdict::NoFirstFragment));
            self.packets.get_mut(usize::from(at))?.used = false;
            return None;
        }
        Some(at)
    }

    /// Takes the free way of the key's set, or the one that began first.
    fn begin(&mut self, key: &PacketKey, now: Now) -> u16 {
        let set = self.set_of(key);
        let ways = self.packets.get(set..set + WAYS).unwrap_or(&[]);
        let age = |entry: &Entry| if entry.used { now.since(entry.since_ms) } else { u32::MAX };
        let way = (0..ways.len()).max_by_key(|way| ways.get(*way).map_or(0, age)).unwrap_or(0);
        let at = (set + way) as u16;
        self.end_all(at, End::Drop(Verdict::NoFirstFragment));
        if let Some(entry) = self.packets.get_mut(usize::from(at)) {
            *entry = Entry { key: *key, used: true, since_ms: now.tick_ms, ..Entry::default() };
        }
        at
    }

    /// Ends all pieces that wait for a packet.
    fn end_all(&mut self, at: u16, end: End) {
        let Some(entry) = self.packets.get_mut(usize::from(at)) else { return };
        let mut index = std::mem::replace(&mut entry.waiting, NONE);
        // As many as wait for one set, at most.
        while let Some(place) = self.places.get_mut(usize::from(index)) {
            let next = place.next;
            self.uncount(at);
            self.append_ended(index, end);
            index = next;
        }
    }

    /// Takes one piece out of those that wait for its packet.
    fn unlink(&mut self, index: usize) {
        let Some(place) = self.places.get(index) else { return };
        let (at, after) = (place.entry, place.next);
        self.uncount(at);
        let Some(entry) = self.packets.get_mut(usize::from(at)) else { return };
        if usize::from(entry.waiting) == index {
            entry.waiting = after;
            return;
        }
        let mut before = entry.waiting;
        while let Some(place) = self.places.get_mut(usize::from(before)) {
            if usize::from(place.next) == index {
                place.next = after;
                return;
            }
            before = place.next;
        }
    }

    fn uncount(&mut self, at: u16) {
        if let Some(count) = self.sets.get_mut(usize::from(at) / WAYS) {
            *count = count.saturating_sub(1);
        }
    }

    fn append_ended(&mut self, index: u16, end: End) {
        let Some(place) = self.places.get_mut(usize::from(index)) else { return };
        place.end = Some(end);
        place.next = NONE;
        match self.places.get_mut(usize::from(self.ended.1)) {
            Some(last) => last.next = index,
            None => self.ended.0 = index,
        }
        self.ended.1 = index;
    }
}

impl Entry {
    /// Adds a piece from one unit to before another; `is_last` says that the packet ends with it.
    fn add(&mut self, from: u16, to: u16, is_last: bool) -> Fit {
        let beyond = self.end != 0 && (to > self.end || is_last && to != self.end);
        let ranges = self.ranges.get(..usize::from(self.count)).unwrap_or(&[]);
        let before_others = is_last && ranges.iter().any(|range| range.1 > to);
        if beyond || before_others {
            return Fit::Overlaps;
        }
        if ranges.iter().any(|range| range.0 <= from && to <= range.1) {
            return Fit::Double;
        }
        if ranges.iter().any(|range| from < range.1 && range.0 < to) {
            return Fit::Overlaps;
        }
        if !self.insert(from, to) {
            return Fit::Scattered;
        }
        if is_last {
            self.end = to;
        }
        Fit::New
    }

    /// Enters a range that overlaps none, joined with those that it touches. False without room.
    fn insert(&mut self, mut from: u16, mut to: u16) -> bool {
        let mut kept = [(0, 0); RANGES];
        let mut count = 0;
        for range in self.ranges.iter().take(self.count.into()) {
            if range.1 == from {
                from = range.0;
            } else if range.0 == to {
                to = range.1;
            } else if let Some(place) = kept.get_mut(count) {
                *place = *range;
                count += 1;
            }
        }
        let Some(place) = kept.get_mut(count) else { return false };
        *place = (from, to);
        self.ranges = kept;
        self.count = count as u8 + 1;
        true
    }

    fn is_whole(&self) -> bool {
        self.count == 1 && self.end != 0 && self.ranges.first() == Some(&(0, self.end))
    }
}

#[cfg(test)]
mod tests;
