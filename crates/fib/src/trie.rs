//! Longest prefix match for 32 bits: a multibit trie of strides 16, 8 and 8 with leaves pushed down.

use crate::number::Match;

const ROOT_BITS: u32 = 16;
const STRIDE: u32 = 8;
const NODE_LEN: usize = 1 << STRIDE;
/// Marks an entry that names a node; without it, it is a leaf, 0 for none.
const NODE: u32 = 1 << 31;

/// Maps destinations to leaves, numbers from 1 below 2^31; three loads at most.
#[derive(Debug)]
pub struct Trie {
    root: Box<[u32]>,
    nodes: Vec<u32>,
}

impl Trie {
    /// Adds a prefix. They must come in order of ascending length, each prefix once.
    fn insert(&mut self, network: u32, prefix_len: u8, leaf: u32) {
        debug_assert!(leaf != 0 && leaf & NODE == 0);
        let prefix_len = u32::from(prefix_len);
        let top = (network >> ROOT_BITS) as usize;
        if prefix_len <= ROOT_BITS {
            fill(&mut self.root, top, 1 << (ROOT_BITS - prefix_len), leaf);
            return;
        }
        let Some(entry) = self.root.get_mut(top) else { return };
        let node = child(&mut self.nodes, entry);
        let middle = node + ((network >> STRIDE) as usize & (NODE_LEN - 1));
        if prefix_len <= ROOT_BITS + STRIDE {
            fill(&mut self.nodes, middle, 1 << (ROOT_BITS + STRIDE - prefix_len), leaf);
            return;
        }
        let Some(mut entry) = self.nodes.get(middle).copied() else { return };
        let node = child(&mut self.nodes, &mut entry);
        fill(&mut self.nodes, middle, 1, entry);
        let low = node + (network as usize & (NODE_LEN - 1));
        fill(&mut self.nodes, low, 1 << (32 - prefix_len), leaf);
    }

    #[inline(always)]
    fn node_entry(&self, node: u32, bits: u32) -> u32 {
        let index = ((node & !NODE) as usize) << STRIDE | (bits as usize & (NODE_LEN - 1));
        self.nodes.get(index).copied().unwrap_or(0)
    }
}

impl Match<u32> for Trie {
    fn build(prefixes: &[(u8, u32, u32)]) -> Self {
        let mut trie = Self { root: vec![0; 1 << ROOT_BITS].into(), nodes: Vec::new() };
        for (len, network, leaf) in prefixes {
            trie.insert(*network, *len, *leaf);
        }
        trie
    }

    #[inline]
    fn find(&self, address: u32) -> u32 {
        let entry = self.root.get((address >> ROOT_BITS) as usize).copied().unwrap_or(0);
        if entry & NODE == 0 {
            return entry;
        }
        let entry = self.node_entry(entry, address >> STRIDE);
        if entry & NODE == 0 {
            return entry;
        }
        self.node_entry(entry, address)
    }
}

fn fill(entries: &mut [u32], from: usize, len: usize, leaf: u32) {
    if let Some(range) = entries.get_mut(from..from + len) {
        range.fill(leaf);
    }
}

/// Where the node below `entry` begins; made, with the entry's leaf all over, if there is none.
fn child(nodes: &mut Vec<u32>, entry: &mut u32) -> usize {
    if *entry & NODE == 0 {
        let index = nodes.len() >> STRIDE;
        nodes.resize(nodes.len() + NODE_LEN, *entry);
        *entry = NODE | index as u32;
    }
    ((*entry & !NODE) as usize) << STRIDE
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mask(len: u8) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0)
    }

    /// Prefixes that nest and touch, in one corner of the address space and all over it.
    fn prefixes() -> impl Strategy<Value = Vec<(u32, u8)>> {
        let near = (0u32..4, 0u32..8, 0u32..8, 0u8..=32)
            .prop_map(|(b, c, d, len)| (0x0a00_0000 | b << 14 | c << 6 | d, len));
        let far = (any::<u32>(), 0u8..=32);
        proptest::collection::vec(prop_oneof![3 => near, 1 => far], 0..80)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn agrees_with_a_linear_search(
            prefixes in prefixes(),
            probes in proptest::collection::vec(any::<u32>(), 20),
        ) {
            let mut list: Vec<_> =
                prefixes.into_iter().map(|(address, len)| (len, address & mask(len))).collect();
            list.sort_unstable();
            list.dedup();
            let numbered: Vec<_> =
                (1..).zip(&list).map(|(leaf, (len, network))| (*len, *network, leaf)).collect();
            let trie = Trie::build(&numbered);
            let edges = list.iter().flat_map(|(len, network)| {
                let last = network | !mask(*len);
                [*network, last, network.wrapping_sub(1), last.wrapping_add(1)]
            });
            for address in edges.chain(probes) {
                let expected = list.iter().rposition(|(len, net)| address & mask(*len) == *net);
                prop_assert_eq!(trie.find(address), expected.map_or(0, |i| i as u32 + 1));
            }
        }
    }
}
