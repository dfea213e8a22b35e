//! Which worker owns a key, and who else is asked for its conn.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use balance::{ServiceKey, Services};
use flow::{ImportError, LeaseKind, Record};
use nat::Gateway;
use nat::gateway::{Decision, Forward};
use nat::rules::Query;
use steer::{Destination, Earlier, Role};
use types::{Address, EthPortId, FlowKey, FlowKey6, Proto, WorkerId, unmap_v4};

use super::Snapshot;
use crate::path::lane::Lane;

/// Which worker a record's conn belongs to, and who sends it packets that it owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Home {
    /// The worker that imports it: what is leased for it leads there.
    pub worker: WorkerId,
    /// The worker that owns the key of the opener's packets, if that is another one: it needs a redirect.
    pub redirect: Option<WorkerId>,
    /// The same of the packets to the opener.
    pub answers: Option<WorkerId>,
    /// The worker that owns the inside endpoint of its mapping, if that is another one, and the key of that
    /// endpoint ([`from_endpoint`]): what else the endpoint sends belongs to the mapping, too.
    pub inside: Option<(WorkerId, FlowKey)>,
}

/// The key of all that an endpoint sends: no packet's is the same.
pub const fn from_endpoint(key: &FlowKey) -> FlowKey {
    FlowKey { dst: 0, dport: 0, ..*key }
}

/// Who may have the conn that the owner of a packet's key has not: the owner of its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Second {
    /// That worker.
    pub worker: WorkerId,
    /// If nobody has the conn it opens there; else at the owner.
    pub opens: bool,
}

impl Snapshot {
    /// The worker that owns a key, as it arrives by an interface at an address of this role; `None` is
    /// an address that is not ours.
    #[inline]
    pub fn owner<A: Address>(
        &self,
        role: Option<fib::Role>,
        key: &FlowKey<A>,
        in_dev: EthPortId,
    ) -> WorkerId {
        self.steering.owner(self.role(role, key, in_dev), key)
    }

    /// The worker that owns a key, by the role that its destination has, wherever it arrives.
    pub fn owner_of<A: Lane>(&self, key: &FlowKey<A>) -> WorkerId {
        let role = A::owner(&self.fib, key.dst).map(|owner| owner.role);
        self.owner(role, key, EthPortId(u16::MAX))
    }

    #[inline]
    fn role<A: Address>(
        &self,
        role: Option<fib::Role>,
        key: &FlowKey<A>,
        in_dev: EthPortId,
    ) -> Role {
        // The gateway is one of IPv4.
        match (role, &self.gateway, A::narrow(key)) {
            (Some(fib::Role::Lip), ..) => Role::Lip,
            (Some(fib::Role::WanIp), Some(gateway), Some(v4)) => {
                let served = self.services.lookup(key).is_some();
                if served { vip_role(&self.services, key) } else { wan_role(gateway, &v4, in_dev) }
            }
            (None, Some(gateway), Some(v4)) => transit_role(gateway, &v4),
            _ => vip_role(&self.services, key),
        }
    }

    /// Who is asked for a conn that the owner of this key has not.
    ///
    /// - To a port of a WAN IP comes an answer, whose conn the owner has; or an inside host speaks to another one by
    ///   it, and has a mapping of its own for that, where its address belongs.
    /// - An endpoint of a service in NAT mode answers a client, where the client's address belongs; or it opens a conn
    ///   by itself, and has a mapping as other hosts have.
    #[inline]
    pub fn second(
        &self,
        role: Option<fib::Role>,
        key: &FlowKey,
        in_dev: EthPortId,
    ) -> Option<Second> {
        let gateway = self.gateway.as_ref()?;
        let opens = match (role, Proto::from_number(key.proto)?) {
            (None, _) if gateway.is_server(key.src, key.sport, key.proto) => true,
            // An ICMP query is for who has its identifier.
            (Some(fib::Role::WanIp), Proto::Tcp | Proto::Udp)
                if self.role(role, key, in_dev) == Role::Wan =>
            {
                let out_dev = self.fib.owner(key.dst).map(|owner| owner.iface);
                if !gateway.is_inside(key.src, in_dev, out_dev) {
                    return None;
                }
                let FlowKey { src, dst, sport, dport, proto, .. } = *key;
                let query = Query { src, dst, sport, dport, proto, in_dev, out_dev };
                !matches!(gateway.decide_source(&query), Decision::Forward(_))
            }
            _ => return None,
        };
        Some(Second { worker: self.steering.owner(Role::Source, key), opens })
    }

    /// What of earlier steering its successor has to remember: with these services, of which those at these
    /// keys may be others than here, and with this gateway.
    pub fn earlier_after(
        &self,
        services: &Services,
        changed: impl IntoIterator<Item = ServiceKey>,
        gateway: Option<&Arc<Gateway>>,
    ) -> Arc<Earlier> {
        // With one worker no key can move, and before the first configuration there are no conns.
        if self.steering.workers() == 1 || self.generation == 0 {
            return Arc::clone(&self.earlier);
        }
        let (before, after) = (self.gateway.as_ref(), gateway);
        let mut earlier = None;
        let mut add =
            |destination: Destination, l4_ports: RangeInclusive<u16>, roles: Vec<Role>| {
                let earlier = earlier.get_or_insert_with(|| Earlier::clone(&self.earlier));
                for role in roles {
                    earlier.add_ports(destination, &l4_ports, role, self.generation + 1);
                }
            };
        for key in changed {
            let ServiceKey { zone, proto, address, l4_port: dport } = key;
            // A mapped address is found as what it was mapped from.
            let dst = u128::from_ip(address).unwrap_or_default();
            let key = FlowKey { dst, dport, zone, proto: proto.number(), ..FlowKey::default() };
            let had = roles(&self.services, before, &key);
            if had != roles(services, after, &key) {
                add((&key).into(), dport..=dport, had);
            }
        }
        let same = before.zip(after).is_some_and(|(before, after)| Arc::ptr_eq(before, after));
        if let Some(before) = before.filter(|_| !same) {
            for (destination, last, had) in changed_forwards(before, after.map(|after| &**after)) {
                add(destination, destination.l4_port..=last, had);
            }
        }
        earlier.map_or_else(|| Arc::clone(&self.earlier), Arc::new)
    }

    /// Where a record's conn is to be imported.
    ///
    /// # Errors
    /// If it has addresses of a family that the tables do not hold.
    pub fn home(&self, record: &Record) -> Result<Home, ImportError> {
        let [forward, reverse] = record.keys::<u128>()?;
        let opener = self.owner_of(&forward);
        let leaves_as_wan = record.forward.new_source != record.forward.source;
        let worker = match record.lease {
            LeaseKind::Lip => self.steering.owner(Role::Lip, &reverse),
            LeaseKind::Mapping | LeaseKind::Wan if leaves_as_wan => {
                self.steering.owner(Role::Wan, &reverse)
            }
            LeaseKind::None | LeaseKind::Mapping | LeaseKind::Wan | LeaseKind::Unanswered => opener,
        };
        let other = |owner: WorkerId| (owner != worker).then_some(owner);
        let redirect = other(opener).filter(|_| record.has_forward());
        if record.rs.is_some() {
            return Ok(Home { worker, redirect, answers: None, inside: None });
        }
        let answers = other(self.owner_of(&reverse));
        let [forward, reverse] = record.keys::<u32>()?;
        let has_mapping = matches!(record.lease, LeaseKind::Mapping | LeaseKind::Unanswered)
            && !self.gateway.as_ref().is_some_and(|gateway| {
                gateway.has_forward(forward.dst, forward.dport, forward.proto)
            });
        let inside = if leaves_as_wan { &forward } else { &reverse };
        let owner = other(self.steering.owner(Role::Source, inside)).filter(|_| has_mapping);
        Ok(Home {
            worker,
            redirect,
            answers,
            inside: owner.map(|owner| (owner, from_endpoint(inside))),
        })
    }
}

/// By what the owner of a key to a WAN IP is found: a port that is forwarded is the inside server's, whose mappings
/// are there; another one is whose mapping has it. What has no ports goes where the remote's packets go.
fn wan_role(gateway: &Gateway, key: &FlowKey, in_dev: EthPortId) -> Role {
    if Proto::from_number(key.proto).is_none() {
        return Role::Source;
    }
    gateway.leads_to(key, in_dev).map_or(Role::Wan, Role::Of)
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
pub fn vip_role<A: Address>(services: &Services, key: &FlowKey<A>) -> Role {
    let Some(spec) = services.lookup(key).map(|service| service.spec()) else { return Role::Vip };
    match spec.persistence {
        // Replies name nobody but the client: they go by it, too.
        _ if spec.mode == balance::Mode::Nat => Role::Source,
        Some(persistence) => {
            // Clients of a VIP are of its own family.
            Role::VipPersistent { prefix_len: persistence.prefix_len(key.dst.to_ip()) }
        }
        None => Role::Vip,
    }
}

/// All roles that packets to an endpoint have, whoever sends them.
fn roles(services: &Services, gateway: Option<&Arc<Gateway>>, key: &FlowKey6) -> Vec<Role> {
    match (gateway, unmap_v4(key.dst)) {
        (Some(gateway), Some(dst))
            if services.lookup(key).is_none() && gateway.place_of(dst).is_some() =>
        {
            forward_roles(&gateway.forwards_on(dst, key.dport, key.proto))
        }
        _ => vec![vip_role(services, key)],
    }
}

/// The roles of packets to a port of a WAN IP that these forwards are on.
fn forward_roles(forwards: &[&Forward]) -> Vec<Role> {
    match forwards {
        [] => vec![Role::Wan],
        forwards => forwards.iter().map(|forward| Role::Of(forward.inside())).collect(),
    }
}

/// Ports that other forwards are on than before: each with the last one of its kind, and the roles that it had.
fn changed_forwards(
    before: &Gateway,
    after: Option<&Gateway>,
) -> Vec<(Destination, u16, Vec<Role>)> {
    let mut cuts = BTreeSet::new();
    for (address, proto, l4_ports) in
        [Some(before), after].into_iter().flatten().flat_map(Gateway::forwarded)
    {
        cuts.insert((address, proto, u32::from(*l4_ports.start())));
        cuts.insert((address, proto, u32::from(*l4_ports.end()) + 1));
    }
    let pieces = cuts.iter().zip(cuts.iter().skip(1));
    let pieces = pieces.filter(|(from, to)| (from.0, from.1) == (to.0, to.1));
    let changed = pieces.filter_map(|(&(address, proto, first), &(.., end))| {
        let (first, last) = (first as u16, (end - 1) as u16);
        let had = before.forwards_on(address, first, proto);
        let has = after.map(|after| after.forwards_on(address, first, proto)).unwrap_or_default();
        let alike =
            had.len() == has.len() && had.iter().zip(&has).all(|(had, has)| had.leads_as(has));
        let address = address.to_ip();
        let destination = Destination { zone: 0, proto, address, l4_port: first };
        (!alike).then(|| (destination, last, forward_roles(&had)))
    });
    changed.collect()
}
