//! How large a pool is, and what that costs.

use std::ops::RangeInclusive;

use crate::leases::Resting;
use crate::records::{needed, record_bytes};

/// Leases and rests of a pool together, at most: places are numbered in 32 bits.
const CAPACITY_MAX: u64 = 1 << 30;

/// The size of one worker's pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseConfig {
    /// Ports taken at once, in all groups together: the worker's `max_connections`.
    pub max_leases: u32,
    /// Ports that rest at once; if there are more, the oldest ends its rest early.
    pub max_resting: u32,
    /// Ports to lease. ICMP identifiers come from the same range.
    pub l4_ports: RangeInclusive<u16>,
    /// Secret of the hash and of where a group begins its round (RFC 6056 §3.3 asks that the first
    /// port be hard to guess).
    pub seed: [u64; 2],
}

impl LeaseConfig {
    /// For so many conns, from ports 1024 to 65535. A quarter as many ports may rest: resting is
    /// the exception, for servers whose clocks a new conn would not be ahead of.
    pub fn new(max_leases: u32, seed: [u64; 2]) -> Self {
        Self { max_leases, max_resting: max_leases.div_ceil(4), l4_ports: 1_024..=65_535, seed }
    }

    pub(crate) fn check(&self) -> Result<(), LeaseConfigError> {
        if self.l4_ports.is_empty() {
            return Err(LeaseConfigError::NoPorts(*self.l4_ports.start(), *self.l4_ports.end()));
        }
        let capacity = u64::from(self.max_leases) + u64::from(self.max_resting);
        if capacity > CAPACITY_MAX {
            return Err(LeaseConfigError::TooMany(capacity));
        }
        Ok(())
    }

    /// Ports that are taken or rest, at most.
    const fn ports(&self) -> usize {
        self.max_leases as usize + self.max_resting as usize
    }

    /// Groups and chunks that these can need.
    pub(crate) fn records(&self) -> usize {
        needed(self.ports(), self.l4_ports.len())
    }

    /// Remembered cursors: a power of two.
    pub(crate) fn cursors(&self) -> usize {
        self.ports().next_power_of_two().clamp(64, 65_536)
    }
}

/// Why there can be no such pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseConfigError {
    /// The range of ports has none.
    #[error("ports {0}-{1}: there are none in it")]
    NoPorts(u16, u16),
    /// More leases and rests than a pool can number.
    #[error("{0} leases and rests: a pool has at most {CAPACITY_MAX}")]
    TooMany(u64),
}

/// Bytes of address space that a pool reserves, for the worst case of ports in groups of five, each
/// in another chunk. Memory is touched as it is used first; at density a port takes three bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Groups and bit maps, and their hash heads.
    pub records_bytes: usize,
    /// The queue of resting ports.
    pub resting_bytes: usize,
    /// Where groups that are gone left off.
    pub cursors_bytes: usize,
}

impl MemoryPlan {
    /// All of it.
    pub const fn total_bytes(&self) -> usize {
        self.records_bytes + self.resting_bytes + self.cursors_bytes
    }
}

/// What a pool of this size reserves, for groups of addresses of this family.
pub fn plan<A>(config: &LeaseConfig) -> MemoryPlan {
    MemoryPlan {
        records_bytes: config.records() * record_bytes::<A>(),
        resting_bytes: config.max_resting as usize * size_of::<Resting>(),
        cursors_bytes: config.cursors() * size_of::<u16>(),
    }
}
