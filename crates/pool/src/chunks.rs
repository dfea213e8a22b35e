//! Bit maps of ports in chunks that exist only while a bit in them is set.

use std::num::NonZeroU16;

use crate::hash::Secrets;
use crate::table::Table;

/// Chunk numbers of a group's resting ports come after those of all its occupied ones.
pub(crate) const RESTING: u16 = 512;

/// 128 ports of one class of one group.
pub(crate) struct Chunk {
    bits: [u64; 2],
    owner: u32,
    /// The chunk's number + 1: what is not zero leaves room to tell a free place.
    number: NonZeroU16,
}

impl Chunk {
    #[inline(always)]
    const fn bits(&self) -> u128 {
        self.bits[0] as u128 | (self.bits[1] as u128) << 64
    }

    #[inline(always)]
    const fn set_bits(&mut self, bits: u128) {
        self.bits = [bits as u64, (bits >> 64) as u64];
    }
}

#[inline(always)]
const fn stored(number: u16) -> NonZeroU16 {
    NonZeroU16::MIN.saturating_add(number)
}

/// The chunks of all groups.
pub(crate) struct Chunks {
    pub(crate) table: Table<Chunk>,
    secrets: Secrets,
}

impl Chunks {
    pub(crate) fn new(capacity: usize, secrets: Secrets) -> Self {
        Self { table: Table::new(capacity), secrets }
    }

    #[inline]
    fn find(&self, owner: u32, number: u16) -> (u64, Option<u32>) {
        let hash = self.secrets.chunk(owner, number);
        let number = stored(number);
        (hash, self.table.find(hash, |chunk| chunk.owner == owner && chunk.number == number))
    }

    /// The bits of a chunk; none are set if it is not there.
    #[inline]
    pub(crate) fn bits(&self, owner: u32, number: u16) -> u128 {
        let (_, place) = self.find(owner, number);
        place.and_then(|place| self.table.entry(place)).map_or(0, Chunk::bits)
    }

    /// Sets a bit; the chunk's bits after it, or `None` if there is no memory for a new chunk.
    pub(crate) fn set(&mut self, owner: u32, number: u16, bit: u8) -> Option<u128> {
        let (hash, place) = self.find(owner, number);
        let Some(place) = place else {
            let mut chunk = Chunk { bits: [0; 2], owner, number: stored(number) };
            chunk.set_bits(1 << bit);
            return self.table.insert(hash, chunk).map(|_| 1 << bit);
        };
        let chunk = self.table.entry_mut(place)?;
        chunk.set_bits(chunk.bits() | 1 << bit);
        Some(chunk.bits())
    }

    /// Clears a bit; the chunk goes with its last one.
    pub(crate) fn clear(&mut self, owner: u32, number: u16, bit: u8) {
        let (hash, place) = self.find(owner, number);
        let Some(place) = place else { return };
        let Some(chunk) = self.table.entry_mut(place) else { return };
        chunk.set_bits(chunk.bits() & !(1 << bit));
        if chunk.bits() == 0 {
            self.table.remove(hash, place);
        }
    }
}
