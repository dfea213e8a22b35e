//! Ports in class order: where a port stands, and which positions hold a port of the range.

use std::ops::RangeInclusive;

use types::ClassSet;

/// Ports of one chunk.
pub(crate) const CHUNK_PORTS: u16 = 128;

/// Chunks of one class: 65,536 ports / 128 classes / 128 ports.
pub(crate) const CLASS_CHUNKS: u16 = 4;

/// Positions of one class.
const CLASS_PORTS: u16 = CHUNK_PORTS * CLASS_CHUNKS;

/// The position of a port in class order: class by class, ascending in each.
#[inline(always)]
pub(crate) const fn position(l4_port: u16) -> u16 {
    l4_port.rotate_right(7)
}

/// The port at a position.
#[inline(always)]
pub(crate) const fn l4_port(position: u16) -> u16 {
    position.rotate_left(7)
}

/// The class of the port at a position.
#[inline(always)]
pub(crate) const fn class(position: u16) -> u8 {
    (position / CLASS_PORTS) as u8
}

/// The number of the chunk that a position is in; those of one class follow each other.
#[inline(always)]
pub(crate) const fn chunk(position: u16) -> u16 {
    position / CHUNK_PORTS
}

/// The bit of a position in its chunk.
#[inline(always)]
pub(crate) const fn bit(position: u16) -> u8 {
    (position % CHUNK_PORTS) as u8
}

/// The class of a non-empty set that comes after `class`, cyclically; `class` itself comes last.
#[inline(always)]
pub(crate) const fn class_after(set: u128, class: u8) -> u8 {
    let start = (class as u32 + 1) % 128;
    ((start + set.rotate_right(start).trailing_zeros()) % 128) as u8
}

/// The ports that are there to be leased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Positions {
    first: u16,
    last: u16,
    populated: u128,
}

impl Positions {
    pub(crate) fn new(l4_ports: &RangeInclusive<u16>) -> Self {
        let mut positions = Self { first: *l4_ports.start(), last: *l4_ports.end(), populated: 0 };
        for class in 0..128 {
            if positions.bounds(class).is_some() {
                positions.populated |= 1 << class;
            }
        }
        positions
    }

    /// The ports that both have, of which `within` is the smaller one; `None` if it reaches beyond.
    #[inline(always)]
    pub(crate) const fn and(&self, within: Self) -> Option<Self> {
        if self.first <= within.first && within.last <= self.last { Some(within) } else { None }
    }

    /// Classes of the set that have ports at all.
    #[inline(always)]
    pub(crate) const fn populated(&self, classes: ClassSet) -> u128 {
        self.populated & classes.0
    }

    pub(crate) const fn contains(&self, l4_port: u16) -> bool {
        self.first <= l4_port && l4_port <= self.last
    }

    /// How many ports the classes have.
    pub(crate) fn capacity(&self, classes: ClassSet) -> u32 {
        (0..128)
            .filter(|class| classes.0 >> class & 1 != 0)
            .filter_map(|class| self.bounds(class))
            .map(|(low, high)| u32::from(high - low) + 1)
            .sum()
    }

    /// First and last place, within its class, of a port of the range.
    #[inline]
    fn bounds(&self, class: u8) -> Option<(u16, u16)> {
        let class = u16::from(class);
        let low = self.first.saturating_sub(class).div_ceil(128);
        let high = self.last.checked_sub(class)? / 128;
        (low <= high).then_some((low, high))
    }

    /// The bits of a chunk that stand for ports of the range.
    #[inline]
    pub(crate) fn valid(&self, chunk: u16) -> u128 {
        let base = chunk % CLASS_CHUNKS * CHUNK_PORTS;
        let Some((low, high)) = self.bounds((chunk / CLASS_CHUNKS) as u8) else { return 0 };
        if high < base || low >= base + CHUNK_PORTS {
            return 0;
        }
        let low = low.saturating_sub(base);
        let high = (high - base).min(CHUNK_PORTS - 1);
        u128::MAX << low & u128::MAX >> (CHUNK_PORTS - 1 - high)
    }

    /// The first position at or after `from`, cyclically, that holds a port of these classes.
    #[inline]
    pub(crate) fn next(&self, from: u16, classes: u128) -> Option<u16> {
        let classes = classes & self.populated;
        if classes == 0 {
            return None;
        }
        let here = class(from);
        if classes >> here & 1 != 0 {
            let (low, high) = self.bounds(here)?;
            let place = (from % CLASS_PORTS).max(low);
            if place <= high {
                return Some(u16::from(here) * CLASS_PORTS + place);
            }
        }
        let class = class_after(classes, here);
        let (low, _) = self.bounds(class)?;
        Some(u16::from(class) * CLASS_PORTS + low)
    }
}

/// The chunks of a class from that of `position` on, and the bits of the first that count.
#[inline(always)]
pub(crate) fn chunks_from(position: u16) -> impl Iterator<Item = (u16, u128)> {
    let first = chunk(position);
    let end = (first / CLASS_CHUNKS + 1) * CLASS_CHUNKS;
    (first..end).map(move |number| {
        let bits = if number == first { u128::MAX << bit(position) } else { u128::MAX };
        (number, bits)
    })
}

/// All chunks of a class.
#[inline(always)]
pub(crate) fn chunks_of(class: u8) -> std::ops::Range<u16> {
    let first = u16::from(class) * CLASS_CHUNKS;
    first..first + CLASS_CHUNKS
}

/// The position of a bit of a chunk.
#[inline(always)]
pub(crate) const fn at(chunk: u16, bit: u32) -> u16 {
    chunk * CHUNK_PORTS + bit as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::port_class;

    #[test]
    fn every_port_has_one_position_in_its_class() {
        let mut seen = vec![false; 65_536];
        for number in 0..=u16::MAX {
            let position = position(number);
            assert_eq!(l4_port(position), number);
            assert_eq!(class(position), port_class(number));
            assert_eq!(at(chunk(position), bit(position).into()), position);
            assert!(!std::mem::replace(&mut seen[usize::from(position)], true));
        }
    }

    #[test]
    fn valid_bits_are_exactly_the_range() {
        for range in [
            1_024..=65_535,
            1..=65_535,
            0..=65_535,
            1..=1,
            65_535..=65_535,
            5_000..=5_130,
            127..=128,
        ] {
            let positions = Positions::new(&range);
            for number in 0..=u16::MAX {
                let at = position(number);
                let valid = positions.valid(chunk(at)) >> bit(at) & 1 != 0;
                assert_eq!(valid, range.contains(&number), "{number} in {range:?}");
            }
            assert_eq!(positions.capacity(ClassSet::ALL) as usize, range.len());
        }
    }

    #[test]
    fn next_goes_round_through_the_range_and_the_classes() {
        let range = 5_000..=5_300;
        let positions = Positions::new(&range);
        let set = ClassSet::NONE.with(3).with(8).with(100);
        let wanted: Vec<u16> = (0..=u16::MAX)
            .filter(|&at| range.contains(&l4_port(at)) && set.contains_port(l4_port(at)))
            .collect();
        for from in 0..=u16::MAX {
            let expected = wanted.iter().find(|&&at| at >= from).or(wanted.first()).copied();
            assert_eq!(positions.next(from, set.0), expected, "from {from}");
        }
        assert_eq!(positions.next(0, 0), None);
    }
}
