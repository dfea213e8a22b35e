//! Stable places of objects with a life (services, real servers, LIPs, next hops).

use std::fmt;

/// A place and its generation in 32 bits: 20 bits of index, 12 of generation.
///
/// Conns and flows name slots, never pointers. When an object goes, its place gets the next
/// generation, so that an old name is seen to be old. 0 (generation 0) names nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Slot(u32);

const INDEX_BITS: u32 = 20;
const INDEX_MASK: u32 = (1 << INDEX_BITS) - 1;
const GENERATION_MASK: u32 = (1 << (32 - INDEX_BITS)) - 1;

impl Slot {
    /// Names nothing.
    pub const NONE: Self = Self(0);

    /// How many places there can be.
    pub const MAX: usize = 1 << INDEX_BITS;

    /// The slot of a place and its generation; the excess bits of both are cut off.
    pub const fn new(index: u32, generation: u32) -> Self {
        Self((generation & GENERATION_MASK) << INDEX_BITS | (index & INDEX_MASK))
    }

    /// The place.
    #[inline(always)]
    pub const fn index(self) -> usize {
        (self.0 & INDEX_MASK) as usize
    }

    /// The generation, from 1.
    #[inline(always)]
    pub const fn generation(self) -> u32 {
        self.0 >> INDEX_BITS
    }

    /// True for [`Slot::NONE`].
    #[inline(always)]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Both in one number.
    pub const fn to_bits(self) -> u32 {
        self.0
    }

    /// From [`Slot::to_bits`].
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({}#{})", self.index(), self.generation())
    }
}

/// Gives out slots; control's, never a worker's.
#[derive(Debug, Default)]
pub struct SlotAllocator {
    generations: Vec<u32>,
    free: std::collections::VecDeque<u32>,
}

impl SlotAllocator {
    /// A slot that no one holds; `None` if all [`Slot::MAX`] are held. The one that has been free
    /// for longest comes first, so that generations are used up slowly.
    pub fn take(&mut self) -> Option<Slot> {
        if let Some(index) = self.free.pop_front() {
            let generation = self.generations.get_mut(index as usize)?;
            *generation = if *generation == GENERATION_MASK { 1 } else { *generation + 1 };
            return Some(Slot::new(index, *generation));
        }
        if self.generations.len() == Slot::MAX {
            return None;
        }
        let index = self.generations.len() as u32;
        self.generations.push(1);
        Some(Slot::new(index, 1))
    }

    /// Gives a slot back. What is not held (twice given back, old generation) is ignored: false.
    pub fn give_back(&mut self, slot: Slot) -> bool {
        let held = self.generations.get(slot.index()) == Some(&slot.generation())
            && !self.free.contains(&(slot.index() as u32));
        if held {
            self.free.push_back(slot.index() as u32);
        }
        held
    }

    /// Places ever used: every slot's index is below it.
    pub fn high_water(&self) -> usize {
        self.generations.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_back_with_another_generation() {
        let mut slots = SlotAllocator::default();
        let first = slots.take().unwrap();
        assert!(!first.is_none());
        assert!(slots.give_back(first));
        assert!(!slots.give_back(first), "twice");
        let second = slots.take().unwrap();
        assert_eq!(second.index(), first.index());
        assert_ne!(second, first);
        assert!(!slots.give_back(first), "old generation");
        assert_eq!(Slot::from_bits(second.to_bits()), second);
    }

    #[test]
    fn generations_wrap_past_none() {
        let mut slots = SlotAllocator::default();
        for _ in 0..=GENERATION_MASK + 1 {
            let slot = slots.take().unwrap();
            assert!(!slot.is_none());
            assert_ne!(slot.generation(), 0);
            slots.give_back(slot);
        }
    }
}
