//! A hash table of fixed capacity whose entries never move: chains through a slab.
//!
//! An insert fails only if the slab is full, and what it returns names the entry until it is
//! removed. Nothing is allocated after `new`, and memory that was never used is never touched.

#[cfg(test)]
use std::cell::Cell;

/// Ends a chain.
const NIL: u32 = 0;

struct Node<E> {
    /// The next of its chain, or of the free list: its place + 1.
    next: u32,
    entry: Option<E>,
}

/// Entries found by a 64-bit hash and a comparison.
pub(crate) struct Table<E> {
    /// First of each chain: its place + 1.
    heads: Box<[u32]>,
    nodes: Vec<Node<E>>,
    capacity: usize,
    free: u32,
    live: usize,
    /// Nodes looked at, for tests of cost.
    #[cfg(test)]
    pub(crate) probes: Cell<u64>,
}

impl<E> Table<E> {
    /// A table of up to `capacity` entries, which must be below 2^32 - 1.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            heads: vec![NIL; capacity.max(1)].into_boxed_slice(),
            nodes: Vec::with_capacity(capacity),
            capacity,
            free: NIL,
            live: 0,
            #[cfg(test)]
            probes: Cell::new(0),
        }
    }

    /// Bytes that one entry takes with its share of the heads.
    pub(crate) const fn entry_bytes() -> usize {
        size_of::<Node<E>>() + size_of::<u32>()
    }

    /// How many entries there are.
    pub(crate) const fn len(&self) -> usize {
        self.live
    }

    /// Places ever used: every entry's is below it.
    pub(crate) fn high_water(&self) -> u32 {
        self.nodes.len() as u32
    }

    #[inline(always)]
    fn chain(&self, hash: u64) -> usize {
        (((hash >> 32) * self.heads.len() as u64) >> 32) as usize
    }

    /// The head of the chain that the hash leads to, to ask it into the cache.
    #[inline]
    pub(crate) fn head(&self, hash: u64) -> Option<&u32> {
        self.heads.get(self.chain(hash))
    }

    #[inline]
    fn node(&self, link: u32) -> Option<&Node<E>> {
        #[cfg(test)]
        self.probes.set(self.probes.get() + 1);
        self.nodes.get((link as usize).wrapping_sub(1))
    }

    /// The place of the entry that `wanted` knows.
    #[inline]
    pub(crate) fn find(&self, hash: u64, wanted: impl Fn(&E) -> bool) -> Option<u32> {
        let mut link = *self.head(hash)?;
        while let Some(node) = self.node(link) {
            if node.entry.as_ref().is_some_and(&wanted) {
                return Some(link - 1);
            }
            link = node.next;
        }
        None
    }

    /// The entry at a place.
    #[inline]
    pub(crate) fn entry(&self, place: u32) -> Option<&E> {
        self.nodes.get(place as usize)?.entry.as_ref()
    }

    /// The entry at a place, writable; what the hash comes from must stay as it is.
    #[inline]
    pub(crate) fn entry_mut(&mut self, place: u32) -> Option<&mut E> {
        self.nodes.get_mut(place as usize)?.entry.as_mut()
    }

    /// Adds an entry that is not in the table; `None` if the table is full.
    pub(crate) fn insert(&mut self, hash: u64, entry: E) -> Option<u32> {
        let chain = self.chain(hash);
        let head = self.heads.get_mut(chain)?;
        let node = Node { next: *head, entry: Some(entry) };
        let link = if let Some(free) = self.nodes.get_mut((self.free as usize).wrapping_sub(1)) {
            let link = self.free;
            self.free = free.next;
            *free = node;
            link
        } else if self.nodes.len() < self.capacity {
            // Within what `new` reserved, so this does not allocate.
            self.nodes.push(node);
            self.nodes.len() as u32
        } else {
            return None;
        };
        *head = link;
        self.live += 1;
        Some(link - 1)
    }

    /// Takes the entry at a place out; the hash is that of its insert, or nothing happens.
    pub(crate) fn remove(&mut self, hash: u64, place: u32) -> Option<E> {
        let chain = self.chain(hash);
        let link = place + 1;
        let next = self.nodes.get(place as usize)?.next;
        let head = self.heads.get_mut(chain)?;
        if *head == link {
            *head = next;
        } else {
            let mut at = *head;
            loop {
                let before = self.nodes.get_mut((at as usize).wrapping_sub(1))?;
                if before.next == link {
                    before.next = next;
                    break;
                }
                at = before.next;
            }
        }
        let node = self.nodes.get_mut(place as usize)?;
        node.next = self.free;
        self.free = link;
        self.live -= 1;
        node.entry.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn behaves_as_a_map_to_the_last_place(
            steps in prop::collection::vec((any::<bool>(), 0_u64..24), 0..400),
        ) {
            let mut table = Table::new(16);
            let mut model: HashMap<u64, u32> = HashMap::new();
            for (add, key) in steps {
                // Few chains, so that they grow.
                let hash = (key % 3) << 62;
                let found = table.find(hash, |entry| *entry == key);
                prop_assert_eq!(found, model.get(&key).copied());
                match (add, found) {
                    (true, None) => {
                        let place = table.insert(hash, key);
                        prop_assert_eq!(place.is_some(), model.len() < 16);
                        if let Some(place) = place {
                            prop_assert!(model.insert(key, place).is_none());
                        }
                    }
                    (false, Some(place)) => {
                        prop_assert_eq!(table.remove(hash, place), Some(key));
                        model.remove(&key);
                    }
                    _ => {}
                }
                prop_assert_eq!(table.len(), model.len());
            }
        }
    }
}
