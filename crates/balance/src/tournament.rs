//! A tournament tree: the smallest of many ratios, kept current at the cost of one path a change.

/// What takes part: `num / weight` is compared without division.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The numerator.
    pub(crate) num: u64,
    /// The denominator; 0 does not take part.
    pub(crate) weight: u32,
    /// For the user to tell what it is of.
    pub(crate) tag: u32,
}

impl Entry {
    /// Is this one ahead of a later one? The earlier wins a tie.
    #[inline]
    fn beats(&self, later: &Self) -> bool {
        self.weight != 0
            && (later.weight == 0
                || u128::from(self.num) * u128::from(later.weight)
                    <= u128::from(later.num) * u128::from(self.weight))
    }
}

/// The tree; its capacity is fixed when it is made.
#[derive(Debug, Default)]
pub(crate) struct Tournament {
    entries: Box<[Entry]>,
    /// `winners[1]` is the root, the children of `i` are `2i` and `2i + 1`; from `len` on come the entries.
    winners: Box<[u32]>,
}

impl Tournament {
    /// Room for at least `capacity` entries.
    pub(crate) fn new(capacity: usize) -> Self {
        if capacity == 0 {
            return Self::default();
        }
        let size = capacity.next_power_of_two().max(2);
        let mut tree =
            Self { entries: vec![Entry::default(); size].into(), winners: vec![0; size].into() };
        tree.rebuild();
        tree
    }

    pub(crate) fn capacity(&self) -> usize {
        self.entries.len()
    }

    #[inline]
    pub(crate) fn entry(&self, place: usize) -> Entry {
        self.entries.get(place).copied().unwrap_or_default()
    }

    /// Changes an entry without looking who wins; [`Tournament::rebuild`] has to follow.
    pub(crate) fn place(&mut self, place: usize, entry: Entry) {
        if let Some(here) = self.entries.get_mut(place) {
            *here = entry;
        }
    }

    /// Finds all winners anew.
    pub(crate) fn rebuild(&mut self) {
        for node in (1..self.winners.len()).rev() {
            self.play(node);
        }
    }

    /// Changes an entry.
    #[inline]
    pub(crate) fn set(&mut self, place: usize, entry: Entry) {
        self.place(place, entry);
        let mut node = (place + self.entries.len()) / 2;
        while node > 0 {
            self.play(node);
            node /= 2;
        }
    }

    /// The place with the smallest ratio, if any takes part.
    #[inline]
    pub(crate) fn winner(&self) -> Option<usize> {
        let place = *self.winners.get(1)? as usize;
        (self.entry(place).weight != 0).then_some(place)
    }

    #[inline]
    fn play(&mut self, node: usize) {
        let (left, right) = (self.winner_below(2 * node), self.winner_below(2 * node + 1));
        let left_wins = self.entry(left).beats(&self.entry(right)) || self.entry(right).weight == 0;
        if let Some(winner) = self.winners.get_mut(node) {
            *winner = if left_wins { left } else { right } as u32;
        }
    }

    #[inline]
    fn winner_below(&self, node: usize) -> usize {
        match node.checked_sub(self.entries.len()) {
            Some(place) => place,
            None => self.winners.get(node).map_or(0, |&winner| winner as usize),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn finds_what_a_scan_finds(
            capacity in 1usize..40,
            changes in proptest::collection::vec((0usize..40, 0u64..50, 0u32..4), 1..200),
        ) {
            let mut tree = Tournament::new(capacity);
            let mut model = vec![Entry::default(); capacity];
            prop_assert_eq!(tree.winner(), None);
            for (place, num, weight) in changes {
                let place = place % capacity;
                model[place] = Entry { num, weight, tag: 0 };
                tree.set(place, model[place]);
                let best = model
                    .iter()
                    .enumerate()
                    .filter(|(_, entry)| entry.weight > 0)
                    .min_by(|(_, a), (_, b)| {
                        (a.num * u64::from(b.weight)).cmp(&(b.num * u64::from(a.weight)))
                    })
                    .map(|(place, _)| place);
                prop_assert_eq!(tree.winner(), best);
            }
        }
    }
}
