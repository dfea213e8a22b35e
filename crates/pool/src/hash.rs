//! Which groups and chunks are meant, as hashes: who does not know the seed cannot make them collide.

use types::{Address, FlowKey, KeyedHash};

use crate::group::GroupKey;

/// The secrets of one pool.
#[derive(Clone, Copy)]
pub(crate) struct Secrets(KeyedHash);

impl Secrets {
    pub(crate) fn new(seed: [u64; 2]) -> Self {
        Self(KeyedHash::new(seed))
    }

    #[inline(always)]
    pub(crate) fn group<A: Address>(self, key: &GroupKey<A>) -> u64 {
        let GroupKey { lip, rs, rport, proto } = *key;
        self.0.hash_key(&FlowKey { src: lip, dst: rs, sport: rport, dport: 0, zone: 0, proto })
    }

    #[inline(always)]
    pub(crate) fn chunk(self, owner: u32, number: u16) -> u64 {
        self.0.hash(u64::from(owner), u64::from(number))
    }
}
