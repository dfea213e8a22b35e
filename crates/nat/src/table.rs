//! A hash table of fixed capacity whose entries never move and may be found by several keys.

/// Ends a chain.
const NIL: u32 = 0;

struct Node<E, const KEYS: usize> {
    /// The next of each chain, or of the free list (first): its place + 1.
    next: [u32; KEYS],
    entry: Option<E>,
}

/// Entries found by 64-bit hashes and a comparison. Nothing is allocated after `new`, and memory
/// that was never used is never touched.
pub(crate) struct Table<E, const KEYS: usize> {
    /// First of each chain: its place + 1.
    heads: [Box<[u32]>; KEYS],
    nodes: Vec<Node<E, KEYS>>,
    capacity: usize,
    free: u32,
    live: u32,
}

impl<E, const KEYS: usize> Table<E, KEYS> {
    /// A table of up to `capacity` entries.
    pub(crate) fn new(capacity: u32) -> Self {
        let capacity = capacity as usize;
        let heads = || {
            let heads = vec![NIL; capacity.max(1)].into_boxed_slice();
            arch::advise_huge(&heads);
            heads
        };
        let mut nodes = Vec::with_capacity(capacity);
        arch::advise_huge(nodes.spare_capacity_mut());
        Self { heads: std::array::from_fn(|_| heads()), nodes, capacity, free: NIL, live: 0 }
    }

    /// Bytes that `new` reserves.
    pub(crate) const fn reserved_bytes(capacity: u32) -> u64 {
        capacity as u64 * (size_of::<Node<E, KEYS>>() + KEYS * size_of::<u32>()) as u64
    }

    /// How many entries there are.
    pub(crate) const fn len(&self) -> u32 {
        self.live
    }

    /// Places ever used: every entry's is below it.
    pub(crate) fn high_water(&self) -> u32 {
        self.nodes.len() as u32
    }

    #[inline(always)]
    fn head(&self, key: usize, hash: u64) -> Option<&u32> {
        let heads = self.heads.get(key)?;
        heads.get((((hash >> 32) * heads.len() as u64) >> 32) as usize)
    }

    #[inline(always)]
    fn head_mut(&mut self, key: usize, hash: u64) -> Option<&mut u32> {
        let heads = self.heads.get_mut(key)?;
        heads.get_mut((((hash >> 32) * heads.len() as u64) >> 32) as usize)
    }

    /// Asks the head of a chain into the cache.
    #[inline]
    pub(crate) fn prefetch(&self, key: usize, hash: u64) {
        if let Some(head) = self.head(key, hash) {
            arch::prefetch_read(head);
        }
    }

    /// Asks the first entry of a chain into the cache, whose head should have come before.
    #[inline]
    pub(crate) fn prefetch_first(&self, key: usize, hash: u64) {
        if let Some(node) = self.head(key, hash).and_then(|head| self.node(*head)) {
            arch::prefetch_write(node);
        }
    }

    #[inline]
    fn node(&self, link: u32) -> Option<&Node<E, KEYS>> {
        self.nodes.get((link as usize).wrapping_sub(1))
    }

    /// The place of the entry that `wanted` knows, by one of its keys.
    #[inline]
    pub(crate) fn find(&self, key: usize, hash: u64, wanted: impl Fn(&E) -> bool) -> Option<u32> {
        let mut link = *self.head(key, hash)?;
        while let Some(node) = self.node(link) {
            if node.entry.as_ref().is_some_and(&wanted) {
                return Some(link - 1);
            }
            link = node.next.get(key).copied().unwrap_or(NIL);
        }
        None
    }

    /// The entry at a place.
    #[inline]
    pub(crate) fn get(&self, place: u32) -> Option<&E> {
        self.nodes.get(place as usize)?.entry.as_ref()
    }

    /// The entry at a place, to change it; what its hashes come from must stay as it is.
    #[inline]
    pub(crate) fn get_mut(&mut self, place: u32) -> Option<&mut E> {
        self.nodes.get_mut(place as usize)?.entry.as_mut()
    }

    /// Adds an entry; `None` if the table is full. Others may have the same keys: what is looked for tells them apart.
    pub(crate) fn insert(&mut self, hashes: [u64; KEYS], entry: E) -> Option<u32> {
        let link = if self.free != NIL {
            self.free
        } else if self.nodes.len() < self.capacity {
            self.nodes.len() as u32 + 1
        } else {
            return None;
        };
        let mut next = [NIL; KEYS];
        for ((key, hash), next) in hashes.into_iter().enumerate().zip(&mut next) {
            *next = std::mem::replace(self.head_mut(key, hash)?, link);
        }
        let node = Node { next, entry: Some(entry) };
        if let Some(free) = self.nodes.get_mut(link as usize - 1) {
            self.free = free.next.first().copied().unwrap_or(NIL);
            *free = node;
        } else {
            // Within what `new` reserved, so this does not allocate.
            self.nodes.push(node);
        }
        self.live += 1;
        Some(link - 1)
    }

    /// Takes the entry at a place out; the hashes are those of its insert.
    pub(crate) fn remove(&mut self, hashes: [u64; KEYS], place: u32) -> Option<E> {
        self.get(place)?;
        for (key, hash) in hashes.into_iter().enumerate() {
            self.unchain(key, hash, place + 1);
        }
        let node = self.nodes.get_mut(place as usize)?;
        if let Some(next) = node.next.first_mut() {
            *next = self.free;
        }
        let entry = node.entry.take();
        self.free = place + 1;
        self.live -= 1;
        entry
    }

    fn unchain(&mut self, key: usize, hash: u64, link: u32) {
        let after = |node: &Node<E, KEYS>| node.next.get(key).copied().unwrap_or(NIL);
        let next = self.node(link).map_or(NIL, after);
        let mut at = self.head(key, hash).copied().unwrap_or(NIL);
        if at == link {
            if let Some(head) = self.head_mut(key, hash) {
                *head = next;
            }
            return;
        }
        while let Some(node) = self.nodes.get_mut((at as usize).wrapping_sub(1)) {
            let Some(follows) = node.next.get_mut(key) else { return };
            if *follows == link {
                *follows = next;
                return;
            }
            at = *follows;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_as_two_maps_to_the_last_place(
            steps in prop::collection::vec((any::<bool>(), 0_u64..24), 0..400),
        ) {
            let mut table = Table::<u64, 2>::new(16);
            let mut model: HashMap<u64, u32> = HashMap::new();
            for (add, key) in steps {
                // Few chains, so that they grow.
                let hashes = [(key % 3) << 62, (key % 5) << 61];
                let found = table.find(0, hashes[0], |entry| *entry == key);
                prop_assert_eq!(found, model.get(&key).copied());
                prop_assert_eq!(table.find(1, hashes[1], |entry| *entry == key), found);
                match (add, found) {
                    (true, None) => {
                        let place = table.insert(hashes, key);
                        prop_assert_eq!(place.is_some(), model.len() < 16);
                        if let Some(place) = place {
                            model.insert(key, place);
                        }
                    }
                    (false, Some(place)) => {
                        prop_assert_eq!(table.remove(hashes, place), Some(key));
                        model.remove(&key);
                    }
                    _ => {}
                }
                prop_assert_eq!(table.len() as usize, model.len());
            }
        }
    }
}
