//! The ports of one WAN IP and protocol that one worker owns, as bit maps.

use types::{BlockSet, PORT_BLOCK_LEN, PORT_BLOCKS, port_block};

/// Ports of one parity in a block.
const HALF_BLOCK: u32 = PORT_BLOCK_LEN as u32 / 2;
/// Words of a half of all blocks, in words of a summary.
const SUMMARY_WORDS: usize = PORT_BLOCKS * HALF_BLOCK as usize / 64 / 64;

/// Where a port stands in the bit maps: even and odd ports apart, and only those of owned blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) odd: bool,
    pub(crate) at: u32,
}

/// Which blocks there are, and which one comes how manieth.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    blocks: BlockSet,
    /// How many owned blocks are below each.
    ranks: [u8; PORT_BLOCKS + 1],
    /// The owned blocks in their order.
    owned: [u8; PORT_BLOCKS],
}

impl Layout {
    pub(crate) fn new(blocks: BlockSet) -> Self {
        let (mut ranks, mut owned) = ([0; PORT_BLOCKS + 1], [0; PORT_BLOCKS]);
        let mut rank = 0u8;
        for (block, below) in ranks.iter_mut().enumerate() {
            *below = rank;
            if blocks.0.checked_shr(block as u32).is_some_and(|bits| bits & 1 != 0) {
                if let Some(place) = owned.get_mut(usize::from(rank)) {
                    *place = block as u8;
                }
                rank += 1;
            }
        }
        Self { blocks, ranks, owned }
    }

    pub(crate) const fn blocks(&self) -> BlockSet {
        self.blocks
    }

    #[inline]
    fn rank(&self, block: usize) -> u32 {
        self.ranks.get(block).copied().unwrap_or(0).into()
    }

    /// Where a port stands; `None` if its block is another worker's.
    #[inline]
    pub(crate) fn place(&self, l4_port: u16) -> Option<Place> {
        if !self.blocks.contains_port(l4_port) {
            return None;
        }
        let within = u32::from(l4_port % PORT_BLOCK_LEN) / 2;
        let at = self.rank(port_block(l4_port).into()) * HALF_BLOCK + within;
        Some(Place { odd: l4_port & 1 != 0, at })
    }

    #[inline]
    pub(crate) fn l4_port(&self, place: Place) -> u16 {
        let block = self.owned.get((place.at / HALF_BLOCK) as usize).copied().unwrap_or(0);
        let within = (place.at % HALF_BLOCK) as u16 * 2 + u16::from(place.odd);
        u16::from(block) * PORT_BLOCK_LEN + within
    }

    /// How many owned ports of a parity are below this one, which may be 65,536.
    #[inline]
    pub(crate) fn below(&self, l4_port: u32, odd: bool) -> u32 {
        let len = u32::from(PORT_BLOCK_LEN);
        let (block, within) = (l4_port / len, l4_port % len);
        let whole = self.rank(block as usize) * HALF_BLOCK;
        if self.blocks.0.checked_shr(block).is_none_or(|bits| bits & 1 == 0) {
            return whole;
        }
        whole + if odd { within / 2 } else { within.div_ceil(2) }
    }
}

/// 64 ports of one parity.
#[derive(Clone, Copy, Debug, Default)]
struct Word {
    taken: u64,
    resting: u64,
    /// Not to be taken by mappings at all.
    reserved: u64,
}

impl Word {
    const fn free(self) -> u64 {
        !(self.taken | self.resting | self.reserved)
    }
}

/// The ports of one parity.
#[derive(Clone, Debug)]
struct Half {
    words: Box<[Word]>,
    /// Bit n: word n has a free port.
    summary: [u64; SUMMARY_WORDS],
}

impl Half {
    fn new(words: usize) -> Self {
        let mut summary = [0; SUMMARY_WORDS];
        for word in 0..words {
            if let Some(bits) = summary.get_mut(word / 64) {
                *bits |= 1 << (word % 64);
            }
        }
        Self { words: vec![Word::default(); words].into_boxed_slice(), summary }
    }

    #[inline]
    fn free(&self, word: usize) -> Option<u64> {
        self.words.get(word).map(|word| word.free())
    }

    /// The first free port of `from..to`.
    #[inline]
    fn next_free(&self, from: u32, to: u32) -> Option<u32> {
        if from >= to {
            return None;
        }
        let (word, bit) = (from as usize / 64, from % 64);
        let here = self.free(word)? >> bit << bit;
        let (word, bits) = if here != 0 {
            (word, here)
        } else {
            let word = self.next_word(word + 1)?;
            (word, self.free(word)?)
        };
        let found = word as u32 * 64 + bits.trailing_zeros();
        (found < to).then_some(found)
    }

    /// The first word at or after `from` with a free port.
    #[inline]
    fn next_word(&self, from: usize) -> Option<usize> {
        let mut below = from % 64;
        for (at, bits) in self.summary.iter().enumerate().skip(from / 64) {
            let bits = bits >> below << below;
            if bits != 0 {
                return Some(at * 64 + bits.trailing_zeros() as usize);
            }
            below = 0;
        }
        None
    }

    /// Changes what is known of a port.
    #[inline]
    fn change(&mut self, at: u32, change: impl FnOnce(&mut Word, u64)) {
        let (index, bit) = (at as usize / 64, 1u64 << (at % 64));
        let (Some(word), Some(summary)) =
            (self.words.get_mut(index), self.summary.get_mut(index / 64))
        else {
            return;
        };
        change(word, bit);
        let bit = 1 << (index % 64);
        *summary = if word.free() == 0 { *summary & !bit } else { *summary | bit };
    }
}

/// The ports of one protocol.
#[derive(Clone, Debug)]
pub(crate) struct Map {
    halves: [Half; 2],
    pub(crate) taken: u32,
    pub(crate) resting: u32,
    reserved: u32,
    owned: u32,
    /// The port after the last one that was taken in order.
    pub(crate) cursor: u32,
}

impl Map {
    pub(crate) fn new(blocks: BlockSet) -> Self {
        let words = (blocks.count() * HALF_BLOCK / 64) as usize;
        let owned = blocks.count() * u32::from(PORT_BLOCK_LEN);
        let halves = [Half::new(words), Half::new(words)];
        Self { halves, taken: 0, resting: 0, reserved: 0, owned, cursor: 0 }
    }

    pub(crate) const fn capacity(&self) -> u32 {
        self.owned - self.reserved
    }

    #[inline]
    fn half(&self, odd: bool) -> &Half {
        let [even_half, odd_half] = &self.halves;
        if odd { odd_half } else { even_half }
    }

    #[inline]
    fn half_mut(&mut self, odd: bool) -> &mut Half {
        let [even_half, odd_half] = &mut self.halves;
        if odd { odd_half } else { even_half }
    }

    /// The first free port of a parity in `from..to`, counted as [`Layout::below`] does.
    #[inline]
    pub(crate) fn next_free(&self, odd: bool, from: u32, to: u32) -> Option<Place> {
        let at = self.half(odd).next_free(from, to)?;
        Some(Place { odd, at })
    }

    /// Asks for what is known of a place.
    #[inline]
    pub(crate) fn prefetch(&self, place: Place) {
        if let Some(word) = self.half(place.odd).words.get(place.at as usize / 64) {
            arch::prefetch_write(word);
        }
    }

    #[inline]
    fn word(&self, place: Place) -> (Word, u64) {
        let word = self.half(place.odd).words.get(place.at as usize / 64);
        (word.copied().unwrap_or_default(), 1 << (place.at % 64))
    }

    pub(crate) fn is_taken(&self, place: Place) -> bool {
        let (word, bit) = self.word(place);
        word.taken & bit != 0
    }

    pub(crate) fn is_resting(&self, place: Place) -> bool {
        let (word, bit) = self.word(place);
        word.resting & bit != 0
    }

    pub(crate) fn is_reserved(&self, place: Place) -> bool {
        let (word, bit) = self.word(place);
        word.reserved & bit != 0
    }

    /// A port that is neither taken nor resting is taken.
    #[inline]
    pub(crate) fn occupy(&mut self, place: Place) {
        self.half_mut(place.odd).change(place.at, |word, bit| word.taken |= bit);
        self.taken += 1;
    }

    /// A taken port is free, or rests.
    #[inline]
    pub(crate) fn give_back(&mut self, place: Place, rests: bool) {
        self.half_mut(place.odd).change(place.at, |word, bit| {
            word.taken &= !bit;
            word.resting |= if rests { bit } else { 0 };
        });
        self.taken = self.taken.saturating_sub(1);
        self.resting += u32::from(rests);
    }

    /// A resting port is free.
    pub(crate) fn end_rest(&mut self, place: Place) {
        self.half_mut(place.odd).change(place.at, |word, bit| word.resting &= !bit);
        self.resting = self.resting.saturating_sub(1);
    }

    pub(crate) fn reserve(&mut self, place: Place, reserved: bool) {
        if self.is_reserved(place) == reserved {
            return;
        }
        self.half_mut(place.odd).change(place.at, |word, bit| word.reserved ^= bit);
        self.reserved = if reserved { self.reserved + 1 } else { self.reserved.saturating_sub(1) };
    }
}
