//! Longest prefix match for 128 bits: a binary search among the lengths that there are.
//!
//! For each length there is a map of the prefixes of that length. What is found at a length sends the search
//! to longer ones, what is not to shorter ones. For that to be right, a longer prefix leaves *markers*
//! at the shorter lengths at which a search for it looks, and a marker has the leaf of the longest prefix
//! that it is in itself, so that a search that is led on in vain has its result already (Waldvogel,
//! Varghese, Turner, Plattner, 1997). Of `n` lengths it looks at no more than log2(n + 1): seven maps at the very
//! most, two where there are subnets, our own addresses and a default route.

use std::cmp::Ordering;
use std::collections::HashMap;

use types::Address as _;

use crate::map::Map;
use crate::number::Match;

/// The prefixes of one length, and markers of longer ones.
#[derive(Debug)]
struct Level {
    len: u8,
    /// Leaf and 1, so that a marker in no prefix is not 0.
    prefixes: Map<u128>,
}

/// Maps destinations to leaves.
#[derive(Debug)]
pub struct Lengths {
    /// By ascending length.
    levels: Box<[Level]>,
}

impl Match<u128> for Lengths {
    fn build(prefixes: &[(u8, u128, u32)]) -> Self {
        let mut lengths: Vec<u8> = prefixes.iter().map(|(len, ..)| *len).collect();
        lengths.dedup();
        let mut maps: Vec<HashMap<u128, u32>> = vec![HashMap::new(); lengths.len()];
        // A prefix comes right behind those that it is in.
        let mut ordered = prefixes.to_vec();
        ordered.sort_unstable_by_key(|(len, network, _)| (*network, *len));
        let mut around: Vec<(u8, u128, u32)> = Vec::new();
        for (len, network, leaf) in ordered {
            while around.last().is_some_and(|(len, outer, _)| network.prefix(*len) != *outer) {
                around.pop();
            }
            around.push((len, network, leaf));
            let (mut low, mut high) = (0, lengths.len());
            while low < high {
                let middle = (low + high) / 2;
                let Some(here) = lengths.get(middle) else { break };
                let order = here.cmp(&len);
                if order == Ordering::Greater {
                    high = middle;
                    continue;
                }
                let best = around.iter().rev().find(|(outer, ..)| outer <= here);
                let best = best.map_or(0, |(.., leaf)| *leaf);
                if let Some(map) = maps.get_mut(middle) {
                    map.entry(network.prefix(*here)).or_insert(best + 1);
                }
                if order == Ordering::Equal {
                    break;
                }
                low = middle + 1;
            }
        }
        let level = |(len, map): (u8, HashMap<u128, u32>)| Level {
            len,
            prefixes: Map::new(map.into_iter()),
        };
        Self { levels: lengths.into_iter().zip(maps).map(level).collect() }
    }

    #[inline]
    fn find(&self, address: u128) -> u32 {
        let (mut low, mut high) = (0, self.levels.len());
        let mut best = 0;
        while low < high {
            let middle = (low + high) / 2;
            let Some(level) = self.levels.get(middle) else { break };
            match level.prefixes.find(address.prefix(level.len)) {
                0 => high = middle,
                found => {
                    best = found - 1;
                    low = middle + 1;
                }
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Prefixes that nest and touch, in one corner of the address space and all over it.
    fn prefixes() -> impl Strategy<Value = Vec<(u128, u8)>> {
        let near = (0u128..4, 0u128..8, 0u128..8, 0u8..=128)
            .prop_map(|(b, c, d, len)| (0x2001_0db8 << 96 | b << 80 | c << 64 | d, len));
        let far = (any::<u128>(), 0u8..=128);
        proptest::collection::vec(prop_oneof![3 => near, 1 => far], 0..80)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn agrees_with_a_linear_search(
            prefixes in prefixes(),
            probes in proptest::collection::vec(any::<u128>(), 20),
        ) {
            let mut list: Vec<_> =
                prefixes.into_iter().map(|(address, len)| (len, address.prefix(len))).collect();
            list.sort_unstable();
            list.dedup();
            let numbered: Vec<_> =
                (1..).zip(&list).map(|(leaf, (len, network))| (*len, *network, leaf)).collect();
            let lengths = Lengths::build(&numbered);
            let edges = list.iter().flat_map(|(len, network)| {
                let last = network | !u128::MAX.prefix(*len);
                [*network, last, network.wrapping_sub(1), last.wrapping_add(1)]
            });
            for address in edges.chain(probes) {
                let expected = list.iter().rposition(|(len, net)| address.prefix(*len) == *net);
                prop_assert_eq!(lengths.find(address), expected.map_or(0, |i| i as u32 + 1));
            }
        }
    }

    #[test]
    fn nothing_is_found_in_nothing() {
        assert_eq!(Lengths::build(&[]).find(1), 0);
        assert_eq!(Lengths::build(&[(0, 0, 7)]).find(u128::MAX), 7);
    }
}
