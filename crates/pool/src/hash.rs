//! Keyed hashes: who does not know the seed cannot make keys that collide.

use crate::group::GroupKey;

/// The secrets of one pool.
#[derive(Clone, Copy)]
pub(crate) struct Secrets([u64; 4]);

impl Secrets {
    /// Spreads the seed (SplitMix64), so that even a zero in it does not make a zero multiplier.
    pub(crate) fn new(seed: [u64; 2]) -> Self {
        let [mut state, other] = seed;
        Self(std::array::from_fn(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state ^ other;
            z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ z >> 31
        }))
    }

    #[inline(always)]
    pub(crate) fn group(self, key: &GroupKey) -> u64 {
        let addresses = u64::from(key.lip) << 32 | u64::from(key.rs);
        let rest = u64::from(key.rport) << 8 | u64::from(key.proto);
        self.mix(addresses, rest)
    }

    #[inline(always)]
    pub(crate) fn chunk(self, owner: u32, number: u16) -> u64 {
        self.mix(u64::from(owner), u64::from(number))
    }

    /// Multiply and fold, twice, with secrets on both sides: not linear in the key.
    #[inline(always)]
    fn mix(self, x: u64, y: u64) -> u64 {
        let [a, b, c, d] = self.0;
        fold(fold(x ^ a, y ^ b) ^ c, d)
    }
}

#[inline(always)]
const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}
