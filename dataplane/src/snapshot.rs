//! The immutable configuration that workers read.

use std::sync::Arc;

use balance::Services;
use fib::{Fib, NextHops};
use steer::Steering;
use types::MacAddr;

/// What a worker knows of the configuration, swapped whole between bursts.
///
/// Its parts are shared: a change builds the parts that it touches and takes over the others.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Counts the snapshots; each worker reports the one that it runs.
    pub generation: u64,
    /// Services by VIP.
    pub services: Services,
    /// Addresses of ours, routes and the generation that flows cache next hops under.
    pub fib: Arc<Fib>,
    /// MAC addresses of next hops, which change without a new snapshot.
    pub next_hops: Arc<NextHops>,
    /// Which worker owns which key.
    pub steering: Arc<Steering>,
    /// Interfaces by [`types::EthPortId`].
    pub interfaces: Arc<[Interface]>,
    /// What holds for all services.
    pub policy: Policy,
}

/// What the path needs to know of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// The largest IP packet that it takes, in bytes.
    pub mtu: u16,
    /// Whether its link carries.
    pub up: bool,
}

/// What holds for all services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The daemon is stopping: no new conns, the others drain.
    pub stopping: bool,
    /// Answer TCP and UDP to a VIP or an address of ours that nobody serves with a reset or a
    /// port unreachable, as a host does; drop it silently otherwise.
    pub reject_unserved: bool,
}
