//! The immutable configuration that workers read.

mod kernel;
mod owners;
mod vlans;

use std::sync::Arc;

use balance::Services;
use fib::{Fib, NextHops};
use nat::Gateway;
use steer::{Earlier, Steering};
use types::{EthPortId, MacAddr};

pub use kernel::{Checked, KernelSide};
pub use owners::{Home, Second, from_endpoint, vip_role};
pub use vlans::{Vlans, Wire};

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
    /// What was steered otherwise before and may have conns from then.
    pub earlier: Arc<Earlier>,
    /// Rules of SNAT, port forwards and forwarding, if there are any.
    pub gateway: Option<Arc<Gateway>>,
    /// Interfaces by [`types::EthPortId`].
    pub interfaces: Arc<[Interface]>,
    /// Those of them that are VLANs, by their tags.
    pub vlans: Arc<Vlans>,
    /// What the kernel wants of them.
    pub kernel: Arc<KernelSide>,
    /// What holds for all services.
    pub policy: Policy,
}

impl Snapshot {
    /// Whether senders are not told by this interface why their packets were dropped.
    #[inline]
    pub fn is_silent(&self, interface: EthPortId) -> bool {
        self.interfaces.get(usize::from(interface.0)).is_some_and(|interface| interface.silent)
    }
}

/// VLANs may be added while the daemon runs until there are so many; it starts with any number.
pub const INTERFACES_SPARE: usize = 256;

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
    /// Whether the kernel has an interface to it (KNI).
    pub kni: bool,
    /// Whether senders are not told by it why their packets were dropped.
    pub silent: bool,
    /// Where its frames go.
    pub wire: Wire,
}

/// What holds for all services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The daemon is stopping: no new conns, the others drain.
    pub stopping: bool,
    /// Answer TCP and UDP to a VIP or an address of ours that nobody serves with a reset or a
    /// port unreachable, as a host does; drop it silently otherwise.
    pub reject_unserved: bool,
    /// Which sources are taken for forged.
    pub reverse_path: ReversePath,
    /// What of the gateway is logged.
    pub nat_log: NatEvents,
    /// How long a port rests after an unsafe close, in ms.
    pub rs_time_wait_ms: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            stopping: false,
            reject_unserved: false,
            reverse_path: ReversePath::default(),
            nat_log: NatEvents::default(),
            rs_time_wait_ms: 60_000,
        }
    }
}

/// What of the gateway is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NatEvents {
    /// Nothing.
    #[default]
    Off,
    /// Mappings as they come and go.
    Mappings,
    /// Conns as they begin and end.
    Sessions,
}

/// Whether a packet that is to be forwarded must come from where its source is (RFC 3704).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReversePath {
    /// No.
    #[default]
    Off,
    /// There must be a route to its source.
    Loose,
    /// The route to its source must lead by the interface that it came by.
    Strict,
}
