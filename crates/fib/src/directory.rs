//! Where the slot of a neighbour is looked up, by many while one changes it.

use std::sync::atomic::{AtomicU64, Ordering};

/// An entry lies at most so far from its home. At half load the longest run of 131,072 places is
/// about 60; what does not fit is refused as if the table were full.
const PROBE_MAX: usize = 128;

/// No entry's upper 48 bits: keys are below 2^47.
const TOMBSTONE: u64 = 0xffff_ffff_ffff_0000;

/// Keys are below this.
pub const KEY_MASK: u64 = (1 << 47) - 1;

/// Open addressing with linear probing; an entry is a word of a key's 47 bits and a slot's 16, so that a
/// reader sees it whole or not at all. 0 is empty. What is removed leaves a tombstone, so that a reader
/// that walks past finds what lies behind.
#[derive(Debug)]
pub struct Directory {
    entries: Box<[AtomicU64]>,
    shift: u32,
}

impl Directory {
    /// With room for so many.
    pub fn new(capacity: u16) -> Self {
        let bits = (usize::from(capacity) * 2).next_power_of_two().max(16).trailing_zeros();
        let entries = (0..1usize << bits).map(|_| AtomicU64::new(0)).collect();
        Self { entries, shift: 64 - bits }
    }

    /// The slot of a key for which `is_it` holds; 0 without one.
    #[inline(always)]
    pub fn find(&self, key: u64, is_it: impl Fn(u16) -> bool) -> u16 {
        for index in self.places(key) {
            match self.load(index) {
                0 => break,
                entry if entry >> 16 == key && is_it(entry as u16) => return entry as u16,
                _ => {}
            }
        }
        0
    }

    /// Enters a slot; false if there is no place for it.
    pub fn enter(&self, key: u64, slot: u16) -> bool {
        let place = self.places(key).find(|index| self.load(*index) as u16 == 0);
        place.map(|place| self.store(place, key << 16 | u64::from(slot))).is_some()
    }

    /// Takes a slot out; false if it is not in.
    pub fn leave(&self, key: u64, slot: u16) -> bool {
        let entry = key << 16 | u64::from(slot);
        let Some(place) = self.places(key).find(|index| self.load(*index) == entry) else {
            return false;
        };
        self.store(place, TOMBSTONE);
        self.sweep_tombstones(place);
        true
    }

    /// Empties the tombstones from `place` backwards if no run goes on behind it.
    fn sweep_tombstones(&self, place: usize) {
        let mask = self.entries.len() - 1;
        if self.load((place + 1) & mask) != 0 {
            return;
        }
        for step in 0..=mask {
            let index = place.wrapping_sub(step) & mask;
            if self.load(index) != TOMBSTONE {
                return;
            }
            self.store(index, 0);
        }
    }

    /// The places where an entry of this key may be, in order.
    #[inline(always)]
    fn places(&self, key: u64) -> impl Iterator<Item = usize> + use<> {
        let mask = self.entries.len() - 1;
        let home = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize;
        (0..PROBE_MAX.min(mask + 1)).map(move |step| (home + step) & mask)
    }

    #[inline(always)]
    fn load(&self, index: usize) -> u64 {
        self.entries.get(index).map_or(0, |entry| entry.load(Ordering::Acquire))
    }

    fn store(&self, index: usize, entry: u64) {
        if let Some(place) = self.entries.get(index) {
            place.store(entry, Ordering::Release);
        }
    }

    /// How many entries name a slot.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.entries.iter().filter(|entry| entry.load(Ordering::Relaxed) as u16 != 0).count()
    }
}
