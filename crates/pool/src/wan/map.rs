//! The ports of one WAN IP and protocol that one worker owns, as bit maps.

use types::{ClassSet, PORT_CLASSES};

/// Ports of one class.
const CLASS_PORTS: u32 = 65_536 / PORT_CLASSES as u32;
/// Classes of one parity.
const HALF: usize = PORT_CLASSES / 2;
/// Words of all ports of one parity, in words of a summary.
const SUMMARY_WORDS: usize = HALF * CLASS_PORTS as usize / 64 / 64;

/// Where a port stands in the bit maps: even and odd ports apart, and only those of owned classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) odd: bool,
    pub(crate) at: u32,
}

/// The owned classes of one parity.
#[derive(Clone, Debug)]
struct Parity {
    /// How many there are below each.
    ranks: [u8; HALF + 1],
    /// Which ones they are, in their order.
    owned: [u8; HALF],
    count: u32,
}

impl Parity {
    fn new(classes: ClassSet, odd: bool) -> Self {
        let (mut ranks, mut owned) = ([0; HALF + 1], [0; HALF]);
        let mut rank = 0u8;
        for (half, below) in ranks.iter_mut().enumerate() {
            *below = rank;
            let class = half * 2 + usize::from(odd);
            if half < HALF && classes.contains_port(class as u16) {
                if let Some(place) = owned.get_mut(usize::from(rank)) {
                    *place = class as u8;
                }
                rank += 1;
            }
        }
        Self { ranks, owned, count: rank.into() }
    }

    /// How many owned classes are below a number, of both parities' classes.
    #[inline]
    fn rank(&self, number: u32, odd: bool) -> u32 {
        let half = if odd { number / 2 } else { number.div_ceil(2) };
        self.ranks.get(half as usize).copied().unwrap_or(0).into()
    }
}

/// Which classes there are, and which one comes how manieth.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    classes: ClassSet,
    parities: [Parity; 2],
}

impl Layout {
    pub(crate) fn new(classes: ClassSet) -> Self {
        Self { classes, parities: [false, true].map(|odd| Parity::new(classes, odd)) }
    }

    pub(crate) const fn classes(&self) -> ClassSet {
        self.classes
    }

    #[inline]
    fn parity(&self, odd: bool) -> &Parity {
        let [evens, odds] = &self.parities;
        if odd { odds } else { evens }
    }

    /// Where a port stands; `None` if its class is another worker's.
    #[inline]
    pub(crate) fn place(&self, l4_port: u16) -> Option<Place> {
        if !self.classes.contains_port(l4_port) {
            return None;
        }
        let odd = l4_port & 1 != 0;
        Some(Place { odd, at: self.below(l4_port.into(), odd) })
    }

    #[inline]
    pub(crate) fn l4_port(&self, place: Place) -> u16 {
        let parity = self.parity(place.odd);
        let (Some(round), Some(rank)) =
            (place.at.checked_div(parity.count), place.at.checked_rem(parity.count))
        else {
            return 0;
        };
        let class = parity.owned.get(rank as usize).copied().unwrap_or(0);
        (round * PORT_CLASSES as u32) as u16 + u16::from(class)
    }

    /// How many owned ports of a parity are below this one, which may be 65,536.
    #[inline]
    pub(crate) fn below(&self, l4_port: u32, odd: bool) -> u32 {
        let (round, within) = (l4_port / PORT_CLASSES as u32, l4_port % PORT_CLASSES as u32);
        let parity = self.parity(odd);
        round * parity.count + parity.rank(within, odd)
    }
}

/// 64 ports of one parity.
#[derive(Clone, Copy, Debug, Default)]
struct Word {
    taken: u64,
    resting: u64,
    /// Not to be taken by mappings at all.
    reserved: u64,
    /// Leased for remotes, each for itself.
    shared: u64,
}

impl Word {
    const fn free(self) -> u64 {
        !(self.taken | self.resting | self.reserved | self.shared)
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
    /// Of those that are taken.
    pub(crate) led_in: u32,
    reserved: u32,
    owned: u32,
    /// The port after the last one that was taken in order.
    pub(crate) cursor: u32,
}

impl Map {
    pub(crate) fn new(classes: ClassSet) -> Self {
        let of_parity =
            |odd| Half::new((Parity::new(classes, odd).count * CLASS_PORTS / 64) as usize);
        let halves = [false, true].map(of_parity);
        let owned = classes.count() * CLASS_PORTS;
        Self { halves, taken: 0, resting: 0, led_in: 0, reserved: 0, owned, cursor: 0 }
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

    pub(crate) fn is_shared(&self, place: Place) -> bool {
        let (word, bit) = self.word(place);
        word.shared & bit != 0
    }

    /// True if no mapping has the port or may have meant it, and no port forward does.
    #[inline]
    pub(crate) fn is_open(&self, place: Place) -> bool {
        let (word, bit) = self.word(place);
        (word.taken | word.resting | word.reserved) & bit == 0
    }

    #[inline]
    pub(crate) fn share(&mut self, place: Place, shared: bool) {
        self.half_mut(place.odd).change(place.at, |word, bit| {
            word.shared = if shared { word.shared | bit } else { word.shared & !bit };
        });
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
