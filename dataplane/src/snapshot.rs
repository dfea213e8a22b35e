//! The immutable configuration that workers read.

use std::sync::Arc;

use balance::{ServiceKey, Services};
use fib::{Fib, NextHops};
use flow::{ImportError, LeaseKind, Record};
use nat::Gateway;
use steer::{Earlier, Role, Steering};
use types::{EthPortId, FlowKey, MacAddr, Proto, WorkerId};

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
    /// What holds for all services.
    pub policy: Policy,
}

/// Which worker a record's conn belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Home {
    /// The worker that imports it: what is leased for it leads there.
    pub worker: WorkerId,
    /// The worker that owns the key of the opener's packets, if that is another one: it needs a redirect.
    pub redirect: Option<WorkerId>,
}

impl Snapshot {
    /// The worker that owns a key, as it arrives by an interface at an address of this role; `None` is
    /// an address that is not ours.
    #[inline]
    pub fn owner(&self, role: Option<fib::Role>, key: &FlowKey, in_dev: EthPortId) -> WorkerId {
        let role = match (role, &self.gateway) {
            (Some(fib::Role::Lip), _) => Role::Lip,
            (Some(fib::Role::WanIp), Some(gateway)) => {
                let served = self.services.lookup(key).is_some();
                if served { vip_role(&self.services, key) } else { wan_role(gateway, key, in_dev) }
            }
            (None, Some(gateway)) => transit_role(gateway, key),
            _ => vip_role(&self.services, key),
        };
        self.steering.owner(role, key)
    }

    /// The worker that owns a key, by the role that its destination has, wherever it arrives.
    pub fn owner_of(&self, key: &FlowKey) -> WorkerId {
        let role = self.fib.owner(key.dst).map(|owner| owner.role);
        self.owner(role, key, EthPortId(u16::MAX))
    }

    /// What of earlier steering its successor has to remember: with these services, of which those at these
    /// keys may be others than here.
    pub fn earlier_after(
        &self,
        services: &Services,
        changed: impl IntoIterator<Item = ServiceKey>,
    ) -> Arc<Earlier> {
        // With one worker no key can move, and before the first configuration there are no conns.
        if self.steering.workers() == 1 || self.generation == 0 {
            return Arc::clone(&self.earlier);
        }
        let mut earlier = None;
        for key in changed {
            let ServiceKey { zone, proto, address: dst, l4_port: dport } = key;
            let key = FlowKey { dst, dport, zone, proto: proto.number(), ..FlowKey::default() };
            let before = vip_role(&self.services, &key);
            if before != vip_role(services, &key) {
                let earlier = earlier.get_or_insert_with(|| Earlier::clone(&self.earlier));
                earlier.add((&key).into(), before, self.generation + 1);
            }
        }
        earlier.map_or_else(|| Arc::clone(&self.earlier), Arc::new)
    }

    /// Where a record's conn is to be imported.
    ///
    /// # Errors
    /// If it has addresses of a family that the tables do not hold.
    pub fn home(&self, record: &Record) -> Result<Home, ImportError> {
        let [forward, reverse] = record.keys()?;
        let opener = self.owner_of(&forward);
        let worker = match record.lease {
            LeaseKind::Lip => self.steering.owner(Role::Lip, &reverse),
            LeaseKind::None | LeaseKind::Mapping | LeaseKind::Wan => opener,
        };
        let redirect = (record.has_forward() && opener != worker).then_some(opener);
        Ok(Home { worker, redirect })
    }
}

/// By what the owner of a key to a WAN IP is found: what comes from inside goes to the worker of its
/// sender's mappings, and so does what a port forward takes; other things go by the port, and so do
/// the replies of a port forward's server to an inside client, whom it knows by that port.
fn wan_role(gateway: &Gateway, key: &FlowKey, in_dev: EthPortId) -> Role {
    let by_source = Proto::from_number(key.proto).is_none()
        || gateway.has_forward(key.dst, key.dport, key.proto)
        || gateway.is_inside(key.src, in_dev) && !gateway.is_server(key.src, key.sport, key.proto);
    if by_source { Role::Source } else { Role::Wan }
}

/// By what the owner of a key to nobody of ours is found: its source, whose mappings are there. Replies of
/// servers that know their clients go where the clients' packets go, and so does what has no ports.
fn transit_role(gateway: &Gateway, key: &FlowKey) -> Role {
    let by_destination =
        Proto::from_number(key.proto).is_none() || gateway.is_server(key.src, key.sport, key.proto);
    if by_destination { Role::Destination } else { Role::Source }
}

/// By what the owner of a key to a VIP is found.
#[inline]
pub fn vip_role(services: &Services, key: &FlowKey) -> Role {
    let Some(spec) = services.lookup(key).map(|service| service.spec()) else { return Role::Vip };
    match spec.persistence {
        // Replies name nobody but the client: they go by it, too.
        _ if spec.mode == balance::Mode::Nat => Role::Source,
        Some(persistence) => Role::VipPersistent { prefix_len: persistence.prefix_len },
        None => Role::Vip,
    }
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
