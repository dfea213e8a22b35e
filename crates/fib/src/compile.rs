//! Checks a configuration and turns it into a [`Fib`].

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;
use types::{EthPortId, MacAddr};

use crate::config::{Address, FibConfig, FibError, Interface, Role, Route, RouteKind};
use crate::next_hop::INTERFACE_MAX;
use crate::number::sealed::Family;
use crate::number::{IpNumber, Match};
use crate::owners::{Owner, Owners};
use crate::snapshot::{Connected, Fib, Link, LinkPart, Part, RouteEntry};

/// What routes are looked up in, the entries that it leads to, and that of the default route.
type Built<A> = (<A as Family>::Routes, Box<[RouteEntry<A>]>, Option<RouteEntry<A>>);

pub(crate) fn compile(config: &FibConfig, generation: u16) -> Result<Fib, FibError> {
    let links = links(config)?;
    for Route { prefix, via, src, .. } in &config.routes {
        let other = |address: &&IpAddr| address.is_ipv4() != prefix.addr().is_ipv4();
        if let Some(address) = via.iter().chain(src).find(other) {
            return Err(FibError::OtherFamily { prefix: *prefix, address: *address });
        }
    }
    let v4 = Compiling::<u32>::new(config, &links).compile()?;
    let v6 = Compiling::<u128>::new(config, &links).compile()?;
    Ok(Fib { generation, links: links.into(), v4, v6 })
}

fn links(config: &FibConfig) -> Result<Vec<Option<Link>>, FibError> {
    let mut links: Vec<Option<Link>> = Vec::new();
    for interface in &config.interfaces {
        let id = interface.id;
        if id.0 > INTERFACE_MAX {
            return Err(FibError::InterfaceNumber { id, max: INTERFACE_MAX });
        }
        check_mtu::<u32>(interface.mtu, || format!("interface `{}`", interface.name))?;
        let index = usize::from(id.0);
        if links.len() <= index {
            links.resize_with(index + 1, || None);
        }
        let link = Link { name: interface.name.clone(), mtu: interface.mtu };
        if let Some(place) = links.get_mut(index)
            && let Some(other) = place.replace(link)
        {
            let (name, other) = (interface.name.clone(), other.name);
            return Err(FibError::DuplicateInterface { id, name, other });
        }
    }
    Ok(links)
}

fn check_mtu<A: Family>(mtu: u16, what: impl FnOnce() -> String) -> Result<(), FibError> {
    let least = A::MTU_MIN;
    if mtu < least { Err(FibError::MtuTooSmall { what: what(), mtu, least }) } else { Ok(()) }
}

/// The link-local address of an Ethernet address: fe80::/64 and its modified EUI-64 (RFC 4291 appendix A).
fn link_local_of(mac: MacAddr) -> u128 {
    let [a, b, c, d, e, f] = mac.0;
    let id = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
    0xfe80 << 112 | u128::from(id)
}

/// An address of one family; a link-local one together with its interface.
type Key<A> = (Option<EthPortId>, A);

/// An address of one family, as configured.
#[derive(Clone, Copy)]
struct Entry<A> {
    address: IpAddr,
    number: A,
    prefix_len: u8,
    iface: EthPortId,
    role: Role,
}

/// One family on its way.
struct Compiling<'a, A: IpNumber> {
    config: &'a FibConfig,
    links: &'a [Option<Link>],
    addresses: Vec<Entry<A>>,
    /// The roles of our addresses, each address once.
    owned: HashMap<Key<A>, Owner>,
    parts: Vec<LinkPart<A>>,
    routes: Routes<A>,
}

impl<'a, A: IpNumber> Compiling<'a, A> {
    fn new(config: &'a FibConfig, links: &'a [Option<Link>]) -> Self {
        let entry = |address: &Address| {
            let Address { address, prefix_len, iface, role } = *address;
            Some(Entry { address, number: A::of(address)?, prefix_len, iface, role })
        };
        Self {
            config,
            links,
            addresses: config.addresses.iter().filter_map(entry).collect(),
            owned: HashMap::new(),
            parts: links.iter().map(|_| LinkPart::default()).collect(),
            routes: Routes::default(),
        }
    }

    fn compile(mut self) -> Result<Part<A>, FibError> {
        self.own()?;
        self.own_link_local()?;
        self.connect()?;
        self.check_hosts()?;
        self.choose_primaries()?;
        self.add_own();
        self.add_connected();
        let config = self.config;
        let of_family = |route: &&Route| A::of(route.prefix.addr()).is_some();
        for route in config.routes.iter().filter(of_family) {
            self.add_static(route)?;
        }
        let mut gateways = std::mem::take(&mut self.routes.gateways);
        gateways.sort_unstable();
        gateways.dedup();
        let interfaces = self.links.iter().flatten().map(|link| link.mtu);
        let mtu_floor = self.routes.entries.iter().map(|entry| entry.mtu).chain(interfaces).min();
        let is_local = |route: &Route| route.kind == RouteKind::Local;
        let local_prefixes = config.routes.iter().filter(of_family).any(is_local);
        let (routes, entries, default) = self.routes.build()?;
        let everywhere = self.owned.into_iter().filter(|((zone, _), _)| zone.is_none());
        let everywhere: Vec<_> = everywhere.map(|((_, number), owner)| (number, owner)).collect();
        Ok(Part {
            owners: Owners::new(everywhere.into_iter()),
            routes,
            entries,
            default,
            local_prefixes,
            links: self.parts.into(),
            gateways: gateways.into(),
            mtu_floor: mtu_floor.unwrap_or(A::MTU_MIN),
        })
    }

    fn link(&self, iface: EthPortId) -> Option<&'a Link> {
        self.links.get(usize::from(iface.0))?.as_ref()
    }

    fn name(&self, iface: EthPortId) -> String {
        self.link(iface).map(|link| link.name.clone()).unwrap_or_default()
    }

    fn mtu(&self, iface: EthPortId) -> u16 {
        self.link(iface).map_or(0, |link| link.mtu)
    }

    fn own(&mut self) -> Result<(), FibError> {
        self.owned.reserve(self.addresses.len());
        for Entry { address, number, prefix_len, iface, role } in self.addresses.clone() {
            if self.link(iface).is_none() {
                return Err(FibError::AddressOnUnknownInterface { address, iface });
            }
            if !(1..=A::BITS).contains(&prefix_len) {
                return Err(FibError::PrefixLength { address, prefix_len });
            }
            if let Some(what) = number.unusable() {
                return Err(FibError::UnusableAddress { address, what });
            }
            check_mtu::<A>(self.mtu(iface), || {
                format!("interface `{}`, which has {address}", self.name(iface))
            })?;
            let local = role == Role::Local;
            let answers = role != Role::RoutedWanIp;
            let role = if answers { role } else { Role::WanIp };
            let new = Owner { role, iface, local, answers };
            let key = key(iface, number);
            let merged = match self.owned.get(&key) {
                None => new,
                Some(first) if first.iface == iface && first.local != local && !both(*first) => {
                    let role = if local { first.role } else { role };
                    Owner { role, iface, local: true, answers: true }
                }
                Some(first) => {
                    return Err(FibError::DuplicateAddress {
                        address,
                        first: first.role,
                        first_iface: self.name(first.iface),
                        second: role,
                        second_iface: self.name(iface),
                    });
                }
            };
            self.owned.insert(key, merged);
        }
        Ok(())
    }

    /// Gives the links their link-local addresses: those configured, else one where any IPv6 is.
    fn own_link_local(&mut self) -> Result<(), FibError> {
        for interface in &self.config.interfaces {
            let id = interface.id;
            let here = self.addresses.iter().filter(|entry| entry.iface == id);
            let numbers: Vec<A> = here.map(|entry| entry.number).collect();
            let routed = self.config.routes.iter().any(|route| {
                let gateway = route.via.and_then(A::of);
                route.iface == id && gateway.is_some_and(A::is_link_local)
            });
            let mut own: Vec<A> =
                numbers.iter().copied().filter(|number| number.is_link_local()).collect();
            own.dedup();
            let made = A::of(IpAddr::V6(link_local_of(interface.mac).into()));
            if own.is_empty() && (!numbers.is_empty() || routed) {
                let owner = Owner { role: Role::Local, iface: id, local: true, answers: true };
                own.extend(made);
                self.owned.extend(made.map(|made| (key(id, made), owner)));
            }
            if !own.is_empty() {
                self.check_link_mtu(interface)?;
            }
            let owned = &self.owned;
            let with_owner = |number: A| Some((number, *owned.get(&key(id, number))?));
            let link_local = own.into_iter().filter_map(with_owner).collect();
            if let Some(part) = self.parts.get_mut(usize::from(id.0)) {
                part.link_local = link_local;
            }
        }
        Ok(())
    }

    fn check_link_mtu(&self, interface: &Interface) -> Result<(), FibError> {
        check_mtu::<A>(interface.mtu, || format!("interface `{}` with IPv6", interface.name))
    }

    /// Gives the links their connected prefixes.
    fn connect(&mut self) -> Result<(), FibError> {
        let mut seen: HashMap<(A, u8), EthPortId> = HashMap::new();
        for Entry { number, prefix_len, iface, role, .. } in self.addresses.clone() {
            // fe80::/64 is on every link, and no route leads there.
            if number.is_link_local() {
                continue;
            }
            let Some(part) = self.parts.get_mut(usize::from(iface.0)) else { continue };
            if role != Role::RoutedWanIp {
                part.any = part.any.or(Some(number));
            }
            if prefix_len == A::BITS {
                continue;
            }
            let network = number.prefix(prefix_len);
            let first = *seen.entry((network, prefix_len)).or_insert(iface);
            if first != iface {
                let (first, second) = (self.name(first), self.name(iface));
                let prefix = net(network, prefix_len);
                return Err(FibError::PrefixOnTwoInterfaces { prefix, first, second });
            }
            let new = Connected { network, prefix_len, address: number, role };
            let same = |known: &&mut Connected<A>| {
                (known.network, known.prefix_len) == (network, prefix_len)
            };
            match part.connected.iter_mut().find(same) {
                None => part.connected.push(new),
                Some(known) if known.role != Role::Local && role == Role::Local => *known = new,
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Refuses addresses that are broadcasts of their own link.
    fn check_hosts(&self) -> Result<(), FibError> {
        for entry in &self.addresses {
            let part = self.parts.get(usize::from(entry.iface.0));
            if part.is_some_and(|part| part.is_broadcast(entry.number)) {
                let what = "the first or last address of a prefix on its interface";
                return Err(FibError::UnusableAddress { address: entry.address, what });
            }
        }
        Ok(())
    }

    fn choose_primaries(&mut self) -> Result<(), FibError> {
        let own = |entry: &&Entry<A>| entry.role == Role::Local && !entry.number.is_link_local();
        for entry in self.addresses.iter().filter(own) {
            if let Some(part) = self.parts.get_mut(usize::from(entry.iface.0)) {
                let mut connected = part.connected.iter();
                let first = connected.find(|connected| connected.role == Role::Local);
                let chosen = first.map_or(entry.number, |connected| connected.address);
                part.primary = part.primary.or(Some(chosen));
            }
        }
        for interface in &self.config.interfaces {
            let Some(primary) = interface.primary.and_then(A::of) else { continue };
            let owner = self.owned.get(&(None, primary));
            if !owner.is_some_and(|owner| owner.local && owner.iface == interface.id) {
                let (address, iface) = (primary.to_ip(), interface.name.clone());
                return Err(FibError::Primary { address, iface });
            }
            if let Some(part) = self.parts.get_mut(usize::from(interface.id.0)) {
                part.primary = Some(primary);
            }
        }
        Ok(())
    }

    fn add_own(&mut self) {
        for ((zone, number), Owner { iface, .. }) in &self.owned {
            if zone.is_some() {
                continue;
            }
            let mtu = self.mtu(*iface);
            let entry =
                RouteEntry { kind: RouteKind::Local, iface: *iface, mtu, gateway: None, src: None };
            self.routes.add(*number, A::BITS, false, 0, entry);
        }
    }

    fn add_connected(&mut self) {
        for (part, iface) in self.parts.iter().zip(0..) {
            let iface = EthPortId(iface);
            for Connected { network, prefix_len, address, .. } in &part.connected {
                let (src, mtu) = (part.source(*address), self.mtu(iface));
                let kind = RouteKind::Unicast;
                let entry = RouteEntry { kind, iface, mtu, gateway: None, src };
                self.routes.add(*network, *prefix_len, true, 0, entry);
            }
        }
    }

    fn add_static(&mut self, route: &Route) -> Result<(), FibError> {
        let Route { prefix, kind, via, iface, metric, src, mtu, on_link } = *route;
        let part = self.parts.get(usize::from(iface.0));
        let (Some(link), Some(part)) = (self.link(iface), part) else {
            return Err(FibError::RouteByUnknownInterface { prefix, iface });
        };
        if prefix.trunc() != prefix {
            return Err(FibError::HostBits { prefix });
        }
        if let Some(mtu) = mtu {
            check_mtu::<A>(mtu, || format!("the route to {prefix}"))?;
        }
        if let Some(src) = src.filter(|src| !self.owns(iface, *src)) {
            return Err(FibError::SourceNotOurs { prefix, src });
        }
        if let Some(via) = via {
            if kind == RouteKind::Local {
                return Err(FibError::LocalRouteVia { prefix, via });
            }
            self.check_gateway(prefix, via, iface, on_link)?;
        }
        // The family has been looked at.
        let (via, src) = (via.and_then(A::of), src.and_then(A::of));
        let Some(network) = A::of(prefix.addr()) else { return Ok(()) };
        let src = src.or_else(|| part.source(via.unwrap_or(network)));
        let mtu = mtu.unwrap_or(link.mtu).min(link.mtu);
        let entry = RouteEntry { kind, iface, mtu, gateway: via, src };
        self.routes.gateways.extend(via.map(|via| (iface, via)));
        self.routes.add(network, prefix.prefix_len(), true, metric, entry);
        Ok(())
    }

    fn owns(&self, iface: EthPortId, address: IpAddr) -> bool {
        A::of(address).is_some_and(|number| self.owned.contains_key(&key(iface, number)))
    }

    /// A gateway has to be on link. Where an interface has no connected prefix at all (nothing but
    /// addresses alone), whatever is reached by it is on link, as there is nothing that could say so.
    fn check_gateway(
        &self,
        prefix: IpNet,
        via: IpAddr,
        iface: EthPortId,
        on_link: bool,
    ) -> Result<(), FibError> {
        let Some(number) = A::of(via) else { return Ok(()) };
        let Some(part) = self.parts.get(usize::from(iface.0)) else { return Ok(()) };
        let what = if self.owns(iface, via) {
            Some("an address of ours")
        } else if part.is_broadcast(number) {
            Some("a broadcast address")
        } else {
            number.unusable()
        };
        if let Some(what) = what {
            return Err(FibError::UnusableGateway { prefix, via, what });
        }
        let reached = on_link
            || number.is_link_local()
            || part.connected.is_empty()
            || part.connected(number).is_some();
        if reached {
            return Ok(());
        }
        Err(FibError::GatewayNotOnLink { prefix, via, iface: self.name(iface) })
    }
}

fn key<A: IpNumber>(iface: EthPortId, number: A) -> Key<A> {
    (number.is_link_local().then_some(iface), number)
}

fn net<A: IpNumber>(network: A, prefix_len: u8) -> IpNet {
    let address = network.to_ip();
    IpNet::new(address, prefix_len).unwrap_or_else(|_| address.into())
}

/// True if the address is an interface's own and has another role besides.
fn both(owner: Owner) -> bool {
    owner.local && owner.role != Role::Local
}

/// A route on its way into the lookup. The order of the fields is the order of insertion: shorter
/// prefixes first, and of equal ones the one that counts first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate<A> {
    prefix_len: u8,
    network: A,
    /// Our own addresses come before all routes to them, as in Linux's local table.
    is_route: bool,
    metric: u32,
    leaf: u32,
}

struct Routes<A> {
    candidates: Vec<Candidate<A>>,
    entries: Vec<RouteEntry<A>>,
    known: HashMap<RouteEntry<A>, u32>,
    gateways: Vec<(EthPortId, A)>,
}

impl<A> Default for Routes<A> {
    fn default() -> Self {
        let (candidates, entries, gateways) = (Vec::new(), Vec::new(), Vec::new());
        Self { candidates, entries, known: HashMap::new(), gateways }
    }
}

impl<A: IpNumber> Routes<A> {
    fn leaf(&mut self, entry: RouteEntry<A>) -> u32 {
        // Routes come in runs with one gateway, as in a full table from one peer.
        if self.entries.last() == Some(&entry) {
            return self.entries.len() as u32;
        }
        *self.known.entry(entry).or_insert_with(|| {
            self.entries.push(entry);
            self.entries.len() as u32
        })
    }

    fn add(
        &mut self,
        network: A,
        prefix_len: u8,
        is_route: bool,
        metric: u32,
        entry: RouteEntry<A>,
    ) {
        let leaf = self.leaf(entry);
        self.candidates.push(Candidate { prefix_len, network, is_route, metric, leaf });
    }

    /// Keeps the best route of each prefix.
    fn build(mut self) -> Result<Built<A>, FibError> {
        self.candidates.sort_unstable();
        let mut best: Vec<(u8, A, u32)> = Vec::with_capacity(self.candidates.len());
        let mut last: Option<Candidate<A>> = None;
        for new in self.candidates {
            let Candidate { prefix_len, network, is_route, metric, leaf } = new;
            match last {
                Some(last) if (last.prefix_len, last.network) == (prefix_len, network) => {
                    if (last.is_route, last.metric) == (is_route, metric) {
                        let prefix = net(network, prefix_len);
                        return Err(FibError::DuplicateRoute { prefix, metric });
                    }
                }
                _ => best.push((prefix_len, network, leaf)),
            }
            last = Some(new);
        }
        let all = best.first().filter(|(prefix_len, ..)| *prefix_len == 0);
        let default = all.and_then(|(.., leaf)| self.entries.get((*leaf as usize).wrapping_sub(1)));
        let default = default.copied();
        Ok((A::Routes::build(&best), self.entries.into(), default))
    }
}

#[cfg(test)]
mod tests;
