//! Addresses, routes, neighbours and links: shown and changed.

use std::collections::HashSet;
use std::net::IpAddr;

use api::{
    AddressInfo, AddressKey, DevQuery, Duplex, ErrorBody, ErrorCode, KniInfo, LinkInfo, LinkStats,
    NeighbourInfo, NeighbourKey, NeighbourState, RouteInfo, RouteKey, RouteOrigin, VlanInfo,
    VlanTags, Warnings,
};
use config::{Active, Address, InterfaceAddress, Model, Neighbour, Prefix, Route, RouteType, Vlan};
use counters::InterfaceCounters;
use ipnet::{IpNet, Ipv6Net};
use types::EthPortId;

use super::engine::{InterfaceInfo, Kni};
use super::{Control, Reply, State, not_found};
use crate::snapshot::{Interface, Wire};

impl Control {
    /// Addresses of ours: those configured, VIPs and LIPs.
    ///
    /// # Errors
    /// If there is no such interface.
    pub fn addresses(&self, query: &DevQuery) -> Reply<Vec<AddressInfo>> {
        let state = self.state();
        let dev = state.selected(query)?;
        let mut all: Vec<AddressInfo> = Vec::new();
        let fib = &state.snapshot.fib;
        for entry in &state.config.addresses {
            let iface = state.interface(&entry.dev).unwrap_or(EthPortId(u16::MAX));
            let owner = fib.owner_of(iface, entry.address.address());
            let role = owner.map_or("absent", |owner| role_name(owner.role));
            all.push(AddressInfo {
                address: entry.address,
                dev: entry.dev.clone(),
                active: entry.active,
                role: role.to_owned(),
            });
        }
        let configured: HashSet<(IpAddr, &str)> =
            all.iter().map(|info| (info.address.address(), info.dev.as_str())).collect();
        let mut implied: Vec<_> = fib
            .addresses()
            .filter(|(address, owner)| !configured.contains(&(*address, state.name(owner.iface))))
            .collect();
        implied.sort_unstable_by_key(|(address, owner)| (*address, owner.iface));
        all.extend(implied.into_iter().map(|(address, owner)| AddressInfo {
            address: InterfaceAddress::new(with_subnet(address)),
            dev: state.name(owner.iface).to_owned(),
            active: Active::Always,
            role: role_name(owner.role).to_owned(),
        }));
        all.retain(|info| dev.is_none() || dev == state.interface(&info.dev));
        Ok(all)
    }

    /// Adds an address to an interface.
    ///
    /// # Errors
    /// If it is there already, or cannot be.
    pub async fn add_address(&self, address: Address) -> Reply<Warnings> {
        self.edit(move |model| model.add_address(address).map_err(ErrorBody::from_config)).await
    }

    /// Removes an address.
    ///
    /// # Errors
    /// If there is none, or something needs it.
    pub async fn delete_address(&self, key: AddressKey) -> Reply<Warnings> {
        self.edit(move |model| {
            let AddressKey { address, dev } = key;
            model.delete_address(address, dev.as_deref()).map_err(ErrorBody::from_config)
        })
        .await
    }

    /// Routes: those configured, and those that follow from addresses.
    ///
    /// # Errors
    /// If there is no such interface.
    pub fn routes(&self, query: &DevQuery) -> Reply<Vec<RouteInfo>> {
        let state = self.state();
        let dev = state.selected(query)?;
        let mut all: Vec<_> =
            state.config.routes.iter().map(|route| state.static_route(route)).collect();
        all.extend(state.connected_routes());
        all.retain(|info| dev.is_none() || dev == state.interface(&info.dev));
        Ok(all)
    }

    /// Adds a route.
    ///
    /// # Errors
    /// If there is one with the same destination and metric, or it cannot be.
    pub async fn add_route(&self, route: Route) -> Reply<Warnings> {
        self.edit(move |model| model.add_route(route).map_err(ErrorBody::from_config)).await
    }

    /// Adds a route, or takes the place of the one with the same destination and metric.
    ///
    /// # Errors
    /// If it cannot be.
    pub async fn set_route(&self, route: Route) -> Reply<Warnings> {
        self.edit(move |model| model.set_route(route).map_err(ErrorBody::from_config)).await
    }

    /// Removes a route.
    ///
    /// # Errors
    /// If there is none, or more than one.
    pub async fn delete_route(&self, key: RouteKey) -> Reply<Warnings> {
        self.edit(move |model| {
            model.delete_route(key.to, key.metric).map_err(ErrorBody::from_config)
        })
        .await
    }

    /// Neighbours, learned and configured.
    ///
    /// # Errors
    /// If there is no such interface.
    pub fn neighbours(&self, query: &DevQuery) -> Reply<Vec<NeighbourInfo>> {
        let now_ms = self.now_ms();
        let state = self.state();
        let dev = state.selected(query)?;
        let known = state.neighbours.iter();
        let mut all: Vec<_> =
            known.filter(|entry| dev.is_none_or(|dev| dev == entry.iface)).collect();
        all.sort_unstable_by_key(|entry| (entry.iface, entry.address));
        let info = |entry: &fib::Neighbour| NeighbourInfo {
            address: entry.address,
            dev: state.name(entry.iface).to_owned(),
            mac: entry.mac,
            state: neighbour_state(entry.state),
            confirmed_ms_ago: (entry.mac.is_some()
                && entry.state != fib::NeighbourState::Permanent)
                .then(|| now_ms.saturating_sub(entry.confirmed_ms)),
        };
        Ok(all.into_iter().map(info).collect())
    }

    /// Adds a static neighbour.
    ///
    /// # Errors
    /// If there is one already, or it cannot be.
    pub async fn add_neighbour(&self, neighbour: Neighbour) -> Reply<Warnings> {
        self.edit(move |model| model.add_neighbour(neighbour).map_err(ErrorBody::from_config)).await
    }

    /// Adds a static neighbour, or takes the place of the one with the same address.
    ///
    /// # Errors
    /// If it cannot be.
    pub async fn set_neighbour(&self, neighbour: Neighbour) -> Reply<Warnings> {
        self.edit(move |model| model.set_neighbour(neighbour).map_err(ErrorBody::from_config)).await
    }

    /// Removes a static neighbour, or forgets a learned one.
    ///
    /// # Errors
    /// If there is none, or it is known on several interfaces.
    pub async fn delete_neighbour(&self, key: NeighbourKey) -> Reply<Warnings> {
        let is_static = {
            let state = self.state();
            let same = |entry: &Neighbour| {
                entry.address == key.address && key.dev.as_ref().is_none_or(|dev| *dev == entry.dev)
            };
            state.config.neighbours.iter().any(same)
        };
        if is_static {
            let edit = move |model: &mut Model| {
                let NeighbourKey { address, dev } = key;
                model.delete_neighbour(address, dev.as_deref()).map_err(ErrorBody::from_config)
            };
            return self.edit(edit).await;
        }
        let mut state = self.state();
        let dev = state.selected(&DevQuery { dev: key.dev.clone() })?;
        let found: Vec<EthPortId> = state
            .neighbours
            .iter()
            .filter(|entry| entry.address == key.address)
            .filter(|entry| dev.is_none_or(|dev| dev == entry.iface))
            .map(|entry| entry.iface)
            .collect();
        match found.as_slice() {
            [iface] => {
                state.neighbours.forget(*iface, key.address);
                Ok(Warnings { warnings: Vec::new(), generation: state.snapshot.generation })
            }
            [_, _, ..] => {
                let message = format!("{} is known on several interfaces; name one", key.address);
                Err(ErrorBody::new(ErrorCode::Conflict, message))
            }
            [] => {
                let message = format!("there is no neighbour {}", key.address);
                Err(not_found("address", key.address, message))
            }
        }
    }

    /// Interfaces with their state and statistics.
    pub fn links(&self) -> Vec<LinkInfo> {
        let state = self.state();
        state.here().map(|(id, interface)| state.link_info(id, interface)).collect()
    }

    /// One interface.
    ///
    /// # Errors
    /// If there is none of this name.
    pub fn link(&self, name: &str) -> Reply<LinkInfo> {
        let state = self.state();
        let found = state.here().find(|(_, interface)| *interface.name == *name);
        let (id, interface) = found.ok_or_else(|| no_interface(name))?;
        Ok(state.link_info(id, interface))
    }

    /// Adds a VLAN to an interface.
    ///
    /// # Errors
    /// If there is an interface of its name already, or it cannot be.
    pub async fn add_vlan(&self, name: String, vlan: Vlan) -> Reply<Warnings> {
        self.edit(move |model| model.add_vlan(&name, vlan).map_err(ErrorBody::from_config)).await
    }

    /// Removes a VLAN.
    ///
    /// # Errors
    /// If there is none, or something needs it.
    pub async fn delete_vlan(&self, name: String) -> Reply<Warnings> {
        self.edit(move |model| model.delete_vlan(&name).map_err(ErrorBody::from_config)).await
    }
}

/// An address that follows from others: alone, but for a link-local one, which has its link around it.
fn with_subnet(address: IpAddr) -> IpNet {
    match address {
        IpAddr::V6(local) if local.is_unicast_link_local() => Ipv6Net::new_assert(local, 64).into(),
        _ => IpNet::from(address),
    }
}

fn no_interface(name: &str) -> ErrorBody {
    not_found("dev", name, format!("there is no interface `{name}`"))
}

const fn role_name(role: fib::Role) -> &'static str {
    match role {
        fib::Role::Local => "local",
        fib::Role::Vip => "vip",
        fib::Role::Lip => "lip",
        fib::Role::WanIp | fib::Role::RoutedWanIp => "wan",
        fib::Role::Leaving => "leaving",
    }
}

const fn neighbour_state(state: fib::NeighbourState) -> NeighbourState {
    match state {
        fib::NeighbourState::Incomplete => NeighbourState::Incomplete,
        fib::NeighbourState::Reachable => NeighbourState::Reachable,
        fib::NeighbourState::Stale => NeighbourState::Stale,
        fib::NeighbourState::Delay => NeighbourState::Delay,
        fib::NeighbourState::Probe => NeighbourState::Probe,
        fib::NeighbourState::Failed => NeighbourState::Failed,
        fib::NeighbourState::Permanent => NeighbourState::Permanent,
    }
}

impl State {
    /// The interface of a name.
    pub(super) fn interface(&self, name: &str) -> Option<EthPortId> {
        let place = self.snapshot.interfaces.iter().position(|known| *known.name == *name)?;
        Some(EthPortId(place as u16))
    }

    /// The interface of a query; `None` if it names none.
    fn selected(&self, query: &DevQuery) -> Reply<Option<EthPortId>> {
        let Some(name) = &query.dev else { return Ok(None) };
        self.interface(name).map(Some).ok_or_else(|| no_interface(name))
    }

    /// The name of an interface.
    pub(super) fn name(&self, interface: EthPortId) -> &str {
        let known = self.snapshot.interfaces.get(usize::from(interface.0));
        known.map_or("", |known| &known.name)
    }

    fn mtu(&self, name: &str) -> u16 {
        let id = self.interface(name);
        id.and_then(|id| self.snapshot.fib.mtu(id)).unwrap_or_default()
    }

    fn static_route(&self, route: &Route) -> RouteInfo {
        let mtu = self.mtu(&route.dev);
        RouteInfo {
            to: route.to,
            via: route.via,
            dev: route.dev.clone(),
            metric: route.metric,
            src: route.src,
            mtu: route.mtu.map_or(mtu, |own| own.min(mtu)),
            route_type: route.route_type,
            origin: RouteOrigin::Static,
        }
    }

    /// The subnets of our addresses, and the addresses themselves.
    fn connected_routes(&self) -> impl Iterator<Item = RouteInfo> {
        self.config.addresses.iter().flat_map(|entry| {
            let net = entry.address.net();
            let info = |to: IpNet, origin| RouteInfo {
                to: Prefix::new(to),
                via: None,
                dev: entry.dev.clone(),
                metric: 0,
                src: Some(entry.address.address()),
                mtu: self.mtu(&entry.dev),
                route_type: match origin {
                    RouteOrigin::Local => RouteType::Local,
                    RouteOrigin::Static | RouteOrigin::Connected => RouteType::Unicast,
                },
                origin,
            };
            let connected = (net.prefix_len() < net.max_prefix_len())
                .then(|| info(net.trunc(), RouteOrigin::Connected));
            let local = info(IpNet::from(entry.address.address()), RouteOrigin::Local);
            connected.into_iter().chain([local])
        })
    }

    fn kni_info(&self, interface: EthPortId, kni: &Kni) -> KniInfo {
        let held = self.kernel.addresses().filter(|(on, _)| *on == interface);
        KniInfo {
            name: kni.name.clone(),
            netns: kni.netns.clone(),
            addresses: held.map(|(_, address)| address).collect(),
            stats: self.engine.kni_statistics(interface),
        }
    }

    /// The interfaces that are there, with their numbers.
    pub(super) fn here(&self) -> impl Iterator<Item = (EthPortId, &Interface)> {
        let all = (0..).map(EthPortId).zip(self.snapshot.interfaces.iter());
        // Of VLANs that went, those that workers or the kernel name leave a place.
        all.filter(|(_, interface)| interface.wire != Wire::NONE)
    }

    /// What passed an interface: as its driver counts, or for a VLAN the workers.
    pub(super) fn link_stats(&self, id: EthPortId) -> LinkStats {
        let is_port = |started: &Interface| started.wire.vid == 0;
        if self.started.get(usize::from(id.0)).is_some_and(is_port) {
            return self.engine.statistics(id);
        }
        let InterfaceCounters { rx_packets, rx_bytes, tx_packets, tx_bytes } =
            self.merged().interface(id);
        LinkStats { rx_packets, rx_bytes, tx_packets, tx_bytes, ..LinkStats::default() }
    }

    fn link_info(&self, id: EthPortId, interface: &Interface) -> LinkInfo {
        let port = EthPortId(interface.wire.port);
        let link = self.engine.link(port);
        let find = |id: EthPortId| self.engine.interfaces().iter().find(|info| info.id == id);
        let device = find(port).cloned().unwrap_or_else(InterfaceInfo::default);
        let kni = find(id).and_then(|info| info.kni.as_ref());
        let vlan = self.config.vlans.get(&*interface.name);
        LinkInfo {
            name: interface.name.to_string(),
            vlan: vlan.map(|vlan| VlanInfo { link: vlan.link.clone(), id: vlan.id }),
            device: device.device,
            driver: device.driver,
            mac: interface.mac,
            mtu: interface.mtu,
            up: link.up,
            speed_mbps: link.speed_mbps,
            duplex: link.full_duplex.map(|full| if full { Duplex::Full } else { Duplex::Half }),
            rx_queues: device.rx_queues,
            tx_queues: device.tx_queues,
            rx_descriptors: device.rx_descriptors,
            tx_descriptors: device.tx_descriptors,
            socket: device.numa_node,
            vlan_tags: VlanTags { taken_by_nic: device.takes_tags, put_by_nic: device.puts_tags },
            steering: device.steering,
            kni: kni.map(|kni| self.kni_info(id, kni)),
            stats: self.link_stats(id),
        }
    }
}
