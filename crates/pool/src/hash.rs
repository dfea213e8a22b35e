//! Which groups and chunks are meant, as hashes: who does not know the seed cannot make them collide.

use types::KeyedHash;

use crate::group::GroupKey;

/// The secrets of one pool.
#[derive(Clone, Copy)]
pub(crate) struct Secrets(KeyedHash);

impl Secrets {
    pub(crate) fn new(seed: [u64; 2]) -> Self {
        Self(KeyedHash::new(seed))
    }

    #[inline(always)]
    pub(crate) fn group(self, key: &GroupKey) -> u64 {
        let addresses = u64::from(key.lip) << 32 | u64::from(key.rs);
        let rest = u64::from(key.rport) << 8 | u64::from(key.proto);
        self.0.hash(addresses, rest)
    }

    #[inline(always)]
    pub(crate) fn chunk(self, owner: u32, number: u16) -> u64 {
        self.0.hash(u64::from(owner), u64::from(number))
    }
}
