//! A keyed hash of 128 bits: who does not know the seed cannot make keys that collide.

use crate::{Address, FlowKey};

/// A hash of 128 bits to 64 by two folded multiplications, with secrets on both sides.
///
/// It is not linear in the key, unlike a CRC or Toeplitz: which keys collide depends on the seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyedHash([u64; 4]);

impl KeyedHash {
    /// Spreads a seed (SplitMix64), so that even a zero in it does not make a zero multiplier.
    pub fn new(seed: [u64; 2]) -> Self {
        let [mut state, other] = seed;
        Self(std::array::from_fn(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state ^ other;
            z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ z >> 31
        }))
    }

    /// The hash of two halves of a key.
    #[inline(always)]
    pub const fn hash(&self, x: u64, y: u64) -> u64 {
        let [a, b, c, d] = self.0;
        fold(fold(x ^ a, y ^ b) ^ c, d)
    }

    /// The hash of a flow key of either family.
    #[inline(always)]
    pub fn hash_key<A: Address>(&self, key: &FlowKey<A>) -> u64 {
        let [x, y] = A::halves(key, |x, y| self.hash(x, y));
        self.hash(x, y)
    }
}

/// The product's halves, one over the other.
#[inline(always)]
const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_keys_collide_depends_on_the_seed() {
        let hashes = |seed| (0..4_096).map(move |n| KeyedHash::new(seed).hash(n, !n) >> 56);
        let (one, other) = (hashes([1, 2]), hashes([1, 3]));
        let alike = one.zip(other).filter(|(one, other)| one == other).count();
        assert!(alike < 64, "{alike} of 4096 in the same of 256 places");
    }

    #[test]
    fn every_bit_of_a_key_counts() {
        let hash = KeyedHash::new([5, 6]);
        let key = FlowKey { src: 7_u128 << 90, dst: 9, sport: 1, dport: 2, zone: 3, proto: 6 };
        let mut hashes = std::collections::BTreeSet::from([hash.hash_key(&key)]);
        for bit in 0..128 {
            hashes.insert(hash.hash_key(&FlowKey { src: key.src ^ 1 << bit, ..key }));
            hashes.insert(hash.hash_key(&FlowKey { dst: key.dst ^ 1 << bit, ..key }));
        }
        for bit in 0..16 {
            hashes.insert(hash.hash_key(&FlowKey { sport: key.sport ^ 1 << bit, ..key }));
            hashes.insert(hash.hash_key(&FlowKey { dport: key.dport ^ 1 << bit, ..key }));
            hashes.insert(hash.hash_key(&FlowKey { zone: key.zone ^ 1 << bit, ..key }));
        }
        hashes.insert(hash.hash_key(&FlowKey { proto: 17, ..key }));
        hashes.insert(hash.hash_key(&key.reversed()));
        assert_eq!(hashes.len(), 1 + 256 + 48 + 2);
        assert!(A_NARROW.into_iter().all(|key| {
            let bits = key.to_bits();
            hash.hash_key(&key) == hash.hash(bits as u64, (bits >> 64) as u64)
        }));
    }

    const A_NARROW: [FlowKey; 1] =
        [FlowKey { src: 1, dst: 2, sport: 3, dport: 4, zone: 5, proto: 6 }];

    #[test]
    fn a_seed_of_zeros_spreads_too() {
        let hash = KeyedHash::new([0; 2]);
        let places: std::collections::BTreeSet<_> =
            (0..4_096).map(|n| hash.hash(n, 0) >> 52).collect();
        // Of 4096 places, 63 in 100 are hit by as many random ones.
        assert!((2_400..2_800).contains(&places.len()), "{}", places.len());
    }
}
