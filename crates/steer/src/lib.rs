//! Which worker owns a key: one pure function of the snapshot, the same on every worker.
//!
//! A worker writes only what it owns, so both directions of a conn must come to one worker. Forward
//! packets go by a hash of their key; the worker that opens the conn leases a port of its own
//! classes, and replies go by the class of that port.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

use types::{ClassSet, FlowKey, PORT_CLASSES, WorkerId, port_class};

/// Workers that keys can be divided among: each needs a port class of its own.
pub const MAX_WORKERS: u16 = PORT_CLASSES as u16;

/// By what the destination of a packet decides who owns it.
///
/// What is sent to our other addresses (echo, ARP) is answered where it arrives and is not steered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A VIP: a hash of the whole key.
    Vip,
    /// A VIP of a service with persistence: the source prefix, so that all conns of a client
    /// meet the same template. A length above 32 counts as 32.
    VipPersistent {
        /// Length of the source prefix in bits.
        prefix_len: u8,
    },
    /// A LIP: the class of the destination port.
    Lip,
}

/// Why there is no steering among so many workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} workers: there must be 1 to {MAX_WORKERS}")]
pub struct WorkerCountError(pub u16);

/// The division of all keys among the workers; immutable, a part of the snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steering {
    workers: u16,
    secrets: [u64; 4],
    class_owners: [u8; PORT_CLASSES],
}

impl Steering {
    /// Divides among `workers`. The same numbers give the same division in every process; the seed
    /// is secret, so that nobody can aim all of a VIP's conns at one worker.
    ///
    /// # Errors
    /// No worker at all, or more than [`MAX_WORKERS`].
    pub fn new(workers: u16, seed: [u64; 2]) -> Result<Self, WorkerCountError> {
        if workers == 0 || workers > MAX_WORKERS {
            return Err(WorkerCountError(workers));
        }
        // Class modulo workers: for a power of two it is a mask of the port, one flow rule each.
        let class_owners = std::array::from_fn(|class| (class as u16 % workers) as u8);
        Ok(Self { workers, secrets: spread(seed), class_owners })
    }

    /// How many workers there are.
    pub const fn workers(&self) -> u16 {
        self.workers
    }

    /// The worker that owns `key`, as it arrives. For an ICMP error it is the inner packet's key,
    /// turned so that it reads as if it arrived.
    #[inline]
    pub fn owner(&self, role: Role, key: &FlowKey) -> WorkerId {
        if self.workers == 1 {
            return WorkerId(0);
        }
        match role {
            Role::Vip => self.share(self.hash(key.to_bits())),
            Role::VipPersistent { prefix_len } => {
                let host_bits = 32_u32.saturating_sub(prefix_len.into());
                let prefix = u64::from(key.src) >> host_bits << host_bits;
                self.share(self.hash(u128::from(prefix) | u128::from(key.zone) << 64))
            }
            Role::Lip => self.owner_of_class(port_class(key.dport)),
        }
    }

    /// The classes whose ports this worker leases; none if there is no such worker.
    pub fn classes_of(&self, worker: WorkerId) -> ClassSet {
        (0..PORT_CLASSES as u8)
            .filter(|&class| self.owner_of_class(class) == worker)
            .fold(ClassSet::NONE, ClassSet::with)
    }

    #[inline(always)]
    fn owner_of_class(&self, class: u8) -> WorkerId {
        WorkerId(self.class_owners.get(usize::from(class)).copied().unwrap_or(0).into())
    }

    /// Multiply and fold, twice, with secrets on both sides: not linear, unlike a CRC or Toeplitz.
    #[inline(always)]
    fn hash(&self, bits: u128) -> u64 {
        let [a, b, c, d] = self.secrets;
        fold(fold(bits as u64 ^ a, (bits >> 64) as u64 ^ b) ^ c, d)
    }

    /// The upper half of a hash, scaled to the number of workers.
    #[inline(always)]
    fn share(&self, hash: u64) -> WorkerId {
        WorkerId((((hash >> 32) * u64::from(self.workers)) >> 32) as u16)
    }
}

#[inline(always)]
const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

/// Four secrets from two, none of them zero in practice (SplitMix64), so that a weak seed does not
/// make a weak multiplier.
fn spread(seed: [u64; 2]) -> [u64; 4] {
    let [mut state, other] = seed;
    std::array::from_fn(|_| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state ^ other;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    })
}
