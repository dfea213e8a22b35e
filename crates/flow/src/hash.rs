//! The keyed hash of flow keys.

use types::{Address, FlowKey};

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
    pub(crate) fn hash<A: Address>(&self, key: &FlowKey<A>) -> u64 {
        let mix = |low: u64, high: u64| fold(low ^ self.low, high ^ self.high);
        let [low, high] = A::halves(key, mix);
        fold(mix(low, high) ^ self.high, self.last)
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

    fn wide_key(n: u32) -> FlowKey<u128> {
        let src = 0x2001_0db8 << 96 | u128::from(n);
        FlowKey { src, dst: src ^ 1 << 70, sport: 1024, dport: 80, zone: 0, proto: 6 }
    }

    #[test]
    fn one_bit_of_a_wide_key_changes_half_of_the_hash() {
        let hasher = KeyHasher::new([1, 2]);
        for bit in 0..256 {
            let (mut changed, rounds) = (0, 200);
            for n in 0..rounds {
                let base = wide_key(n * 77);
                let (src, dst) = if bit < 128 { (1 << bit, 0) } else { (0, 1 << (bit - 128)) };
                let other = FlowKey { src: base.src ^ src, dst: base.dst ^ dst, ..base };
                changed += (hasher.hash(&base) ^ hasher.hash(&other)).count_ones();
            }
            let mean = changed / rounds;
            assert!((27..=37).contains(&mean), "bit {bit}: {mean} of 64");
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
            let narrow = |n| hasher.hash(&key(n));
            let wide = |n| hasher.hash(&wide_key(n));
            for hash_of in [&narrow as &dyn Fn(u32) -> u64, &wide] {
                let (mut high, mut low) = ([0u32; 256], [0u32; 256]);
                for hash in (0..65_536).map(hash_of) {
                    high[(hash >> 56) as usize] += 1;
                    low[hash as u8 as usize] += 1;
                }
                for count in high.iter().chain(&low) {
                    assert!((160..360).contains(count), "{count} of 256 expected");
                }
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
