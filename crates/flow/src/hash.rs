//! The keyed hash of flow keys.

use types::FlowKey;

/// A hash of 128 bits to 64 by two folded multiplications with secrets.
///
/// It is not linear in the key: which keys collide depends on the seed, so that nobody who does
/// not know it can choose keys that meet in one bucket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyHasher {
    low: u64,
    high: u64,
    last: u64,
}

impl KeyHasher {
    pub(crate) fn new(seed: [u64; 2]) -> Self {
        let [a, b] = seed;
        let mut state = a;
        let mut secret = || {
            state = mix(state ^ b).wrapping_add(0x9e37_79b9_7f4a_7c15);
            state
        };
        // The last one is a factor, and must have no small one in common with 2^64.
        Self { low: secret(), high: secret(), last: secret() | 1 }
    }

    /// The hash of a key; all its bits are good.
    #[inline(always)]
    pub(crate) const fn hash(&self, key: &FlowKey) -> u64 {
        let bits = key.to_bits();
        let half = fold(bits as u64 ^ self.low, (bits >> 64) as u64 ^ self.high);
        fold(half ^ self.high, self.last)
    }

    /// Another 64 bits of secret.
    pub(crate) const fn secret(&self) -> u64 {
        mix(self.low ^ self.last.rotate_left(32))
    }
}

/// The product's halves, one over the other.
#[inline(always)]
const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

/// The finaliser of SplitMix64: a bijection in which each bit of the input changes half the output.
const fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> FlowKey {
        FlowKey {
            src: 0x0a00_0000 + n,
            dst: 0xc612_0001,
            sport: 1024,
            dport: 80,
            zone: 0,
            proto: 6,
        }
    }

    #[test]
    fn one_bit_of_the_key_changes_half_of_the_hash() {
        let hasher = KeyHasher::new([1, 2]);
        for bit in 0..120 {
            let (mut changed, rounds) = (0, 200);
            for n in 0..rounds {
                let base = key(n * 77);
                let bits = base.to_bits() ^ 1 << bit;
                let other = FlowKey {
                    src: bits as u32,
                    dst: (bits >> 32) as u32,
                    sport: (bits >> 64) as u16,
                    dport: (bits >> 80) as u16,
                    zone: (bits >> 96) as u16,
                    proto: (bits >> 112) as u8,
                };
                changed += (hasher.hash(&base) ^ hasher.hash(&other)).count_ones();
            }
            let mean = changed / rounds;
            assert!((27..=37).contains(&mean), "bit {bit}: {mean} of 64");
        }
    }

    #[test]
    fn neighbouring_keys_spread_evenly_over_high_and_low_bits() {
        for seed in 0..8 {
            let hasher = KeyHasher::new([seed, 0]);
            let (mut high, mut low) = ([0u32; 256], [0u32; 256]);
            for n in 0..65_536 {
                let hash = hasher.hash(&key(n));
                high[(hash >> 56) as usize] += 1;
                low[hash as u8 as usize] += 1;
            }
            for count in high.iter().chain(&low) {
                assert!((160..360).contains(count), "{count} of 256 expected");
            }
        }
    }

    #[test]
    fn which_keys_collide_depends_on_the_seed() {
        let collisions = |seed| {
            let hasher = KeyHasher::new(seed);
            let mut seen = std::collections::HashMap::new();
            let mut pairs = std::collections::BTreeSet::new();
            for n in 0..2000 {
                if let Some(other) = seen.insert(hasher.hash(&key(n)) >> 44, n) {
                    pairs.insert((other, n));
                }
            }
            pairs
        };
        let (one, two) = (collisions([1, 1]), collisions([2, 1]));
        assert!(one.intersection(&two).count() <= 1);
    }
}
