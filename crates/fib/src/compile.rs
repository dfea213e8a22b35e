//! Checks a configuration and turns it into a [`Fib`].

use std::collections::HashMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use types::EthPortId;

use crate::config::{Address, FibConfig, FibError, Role, Route, RouteKind, unusable};
use crate::next_hop::INTERFACE_MAX;
use crate::owners::{Owner, Owners};
use crate::snapshot::{Connected, Fib, Link, RouteEntry};
use crate::trie::Trie;

/// The smallest MTU that a host may have (RFC 791 §3.2).
const MTU_MIN: u16 = 68;

pub(crate) fn compile(config: &FibConfig, generation: u16) -> Result<Fib, FibError> {
    let mut links = links(config)?;
    let owned = owned(config, &links)?;
    connect(config, &mut links)?;
    check_hosts(config, &links)?;
    choose_primaries(config, &mut links, &owned)?;
    let mut routes = Routes::default();
    routes.add_own(&owned, &links);
    routes.add_connected(&links);
    for route in &config.routes {
        routes.add_static(route, &links, &owned)?;
    }
    let mut gateways = std::mem::take(&mut routes.gateways);
    gateways.sort_unstable();
    gateways.dedup();
    let interfaces = links.iter().flatten().map(|link| link.mtu);
    let mtu_floor = routes.entries.iter().map(|entry| entry.mtu).chain(interfaces).min();
    let (trie, entries) = routes.build()?;
    Ok(Fib {
        generation,
        owners: Owners::new(owned.into_iter()),
        trie,
        entries,
        local_prefixes: config.routes.iter().any(|route| route.kind == RouteKind::Local),
        links: links.into(),
        gateways: gateways.into(),
        mtu_floor: mtu_floor.unwrap_or(MTU_MIN),
    })
}

fn links(config: &FibConfig) -> Result<Vec<Option<Link>>, FibError> {
    let mut links: Vec<Option<Link>> = Vec::new();
    for interface in &config.interfaces {
        let id = interface.id;
        if id.0 > INTERFACE_MAX {
            return Err(FibError::InterfaceNumber { id, max: INTERFACE_MAX });
        }
        if interface.mtu < MTU_MIN {
            let what = format!("interface `{}`", interface.name);
            return Err(FibError::MtuTooSmall { what, mtu: interface.mtu });
        }
        let index = usize::from(id.0);
        if links.len() <= index {
            links.resize_with(index + 1, || None);
        }
        let name = interface.name.clone();
        let link = Link { name, mtu: interface.mtu, ..Link::default() };
        if let Some(place) = links.get_mut(index)
            && let Some(other) = place.replace(link)
        {
            let (name, other) = (interface.name.clone(), other.name);
            return Err(FibError::DuplicateInterface { id, name, other });
        }
    }
    Ok(links)
}

fn link(links: &[Option<Link>], iface: EthPortId) -> Option<&Link> {
    links.get(usize::from(iface.0))?.as_ref()
}

fn name(links: &[Option<Link>], iface: EthPortId) -> String {
    link(links, iface).map(|link| link.name.clone()).unwrap_or_default()
}

/// The roles of our addresses, each address once.
fn owned(config: &FibConfig, links: &[Option<Link>]) -> Result<HashMap<u32, Owner>, FibError> {
    let mut owned: HashMap<u32, Owner> = HashMap::with_capacity(config.addresses.len());
    for Address { address, prefix_len, iface, role } in config.addresses.iter().copied() {
        let shown = Ipv4Addr::from(address);
        if link(links, iface).is_none() {
            return Err(FibError::AddressOnUnknownInterface { address: shown, iface });
        }
        if !(1..=32).contains(&prefix_len) {
            return Err(FibError::PrefixLength { address: shown, prefix_len });
        }
        if let Some(what) = unusable(address) {
            return Err(FibError::UnusableAddress { address: shown, what });
        }
        let local = role == Role::Local;
        let new = Owner { role, iface, local };
        let merged = match owned.get(&address) {
            None => new,
            Some(first) if first.iface == iface && first.local != local && !both(*first) => {
                Owner { role: if local { first.role } else { role }, iface, local: true }
            }
            Some(first) => {
                return Err(FibError::DuplicateAddress {
                    address: shown,
                    first: first.role,
                    first_iface: name(links, first.iface),
                    second: role,
                    second_iface: name(links, iface),
                });
            }
        };
        owned.insert(address, merged);
    }
    Ok(owned)
}

/// True if the address is an interface's own and has another role besides.
fn both(owner: Owner) -> bool {
    owner.local && owner.role != Role::Local
}

/// Gives the links their connected prefixes.
fn connect(config: &FibConfig, links: &mut [Option<Link>]) -> Result<(), FibError> {
    let mut seen: HashMap<Ipv4Net, EthPortId> = HashMap::new();
    for Address { address, prefix_len, iface, role } in config.addresses.iter().copied() {
        let Some(link) = links.get_mut(usize::from(iface.0)).and_then(Option::as_mut) else {
            continue;
        };
        link.any = link.any.or(Some(address));
        if prefix_len == 32 {
            continue;
        }
        let prefix = Ipv4Net::new_assert(address.into(), prefix_len).trunc();
        let first = *seen.entry(prefix).or_insert(iface);
        if first != iface {
            let (first, second) = (name(links, first), name(links, iface));
            return Err(FibError::PrefixOnTwoInterfaces { prefix, first, second });
        }
        match link.connected.iter_mut().find(|connected| connected.prefix == prefix) {
            None => link.connected.push(Connected { prefix, address, role }),
            Some(connected) if connected.role != Role::Local && role == Role::Local => {
                *connected = Connected { prefix, address, role };
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Refuses addresses that are broadcasts of their own link.
fn check_hosts(config: &FibConfig, links: &[Option<Link>]) -> Result<(), FibError> {
    for address in &config.addresses {
        if link(links, address.iface).is_some_and(|link| link.is_broadcast(address.address)) {
            let what = "the first or last address of a prefix on its interface";
            return Err(FibError::UnusableAddress { address: address.address.into(), what });
        }
    }
    Ok(())
}

fn choose_primaries(
    config: &FibConfig,
    links: &mut [Option<Link>],
    owned: &HashMap<u32, Owner>,
) -> Result<(), FibError> {
    for address in config.addresses.iter().filter(|address| address.role == Role::Local) {
        if let Some(Some(link)) = links.get_mut(usize::from(address.iface.0)) {
            let mut connected = link.connected.iter();
            let first = connected.find(|connected| connected.role == Role::Local);
            let chosen = first.map_or(address.address, |connected| connected.address);
            link.primary = link.primary.or(Some(chosen));
        }
    }
    for interface in &config.interfaces {
        let Some(primary) = interface.primary else { continue };
        if !owned.get(&primary).is_some_and(|owner| owner.local && owner.iface == interface.id) {
            let (address, iface) = (primary.into(), interface.name.clone());
            return Err(FibError::Primary { address, iface });
        }
        if let Some(Some(link)) = links.get_mut(usize::from(interface.id.0)) {
            link.primary = Some(primary);
        }
    }
    Ok(())
}

/// A route on its way into the trie. The order of the fields is the order of insertion: shorter
/// prefixes first, and of equal ones the one that counts first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    prefix_len: u8,
    network: u32,
    /// Our own addresses come before all routes to them, as in Linux's local table.
    is_route: bool,
    metric: u32,
    leaf: u32,
}

#[derive(Default)]
struct Routes {
    candidates: Vec<Candidate>,
    entries: Vec<RouteEntry>,
    known: HashMap<RouteEntry, u32>,
    gateways: Vec<(EthPortId, u32)>,
}

impl Routes {
    fn leaf(&mut self, entry: RouteEntry) -> u32 {
        // Routes come in runs with one gateway, as in a full table from one peer.
        if self.entries.last() == Some(&entry) {
            return self.entries.len() as u32;
        }
        *self.known.entry(entry).or_insert_with(|| {
            self.entries.push(entry);
            self.entries.len() as u32
        })
    }

    fn add(&mut self, prefix: Ipv4Net, is_route: bool, metric: u32, entry: RouteEntry) {
        let leaf = self.leaf(entry);
        let (network, prefix_len) = (prefix.addr().to_bits(), prefix.prefix_len());
        self.candidates.push(Candidate { prefix_len, network, is_route, metric, leaf });
    }

    fn add_own(&mut self, owned: &HashMap<u32, Owner>, links: &[Option<Link>]) {
        for (address, Owner { iface, .. }) in owned {
            let mtu = link(links, *iface).map_or(0, |link| link.mtu);
            let entry =
                RouteEntry { kind: RouteKind::Local, iface: *iface, mtu, gateway: None, src: None };
            self.add(Ipv4Net::from(Ipv4Addr::from(*address)), false, 0, entry);
        }
    }

    fn add_connected(&mut self, links: &[Option<Link>]) {
        for (index, link) in links.iter().enumerate() {
            let Some(link) = link else { continue };
            let iface = EthPortId(index as u16);
            for Connected { prefix, address, .. } in &link.connected {
                let src = link.source(*address);
                let kind = RouteKind::Unicast;
                let entry = RouteEntry { kind, iface, mtu: link.mtu, gateway: None, src };
                self.add(*prefix, true, 0, entry);
            }
        }
    }

    fn add_static(
        &mut self,
        route: &Route,
        links: &[Option<Link>],
        owned: &HashMap<u32, Owner>,
    ) -> Result<(), FibError> {
        let Route { prefix, kind, via, iface, metric, src, mtu, on_link } = *route;
        let Some(link) = link(links, iface) else {
            return Err(FibError::RouteByUnknownInterface { prefix, iface });
        };
        if prefix.trunc() != prefix {
            return Err(FibError::HostBits { prefix });
        }
        if let Some(mtu) = mtu.filter(|mtu| *mtu < MTU_MIN) {
            return Err(FibError::MtuTooSmall { what: format!("the route to {prefix}"), mtu });
        }
        if let Some(src) = src.filter(|src| !owned.contains_key(src)) {
            return Err(FibError::SourceNotOurs { prefix, src: src.into() });
        }
        if let Some(via) = via {
            if kind == RouteKind::Local {
                return Err(FibError::LocalRouteVia { prefix, via: via.into() });
            }
            check_gateway(prefix, via, link, on_link, owned)?;
            self.gateways.push((iface, via));
        }
        let src = src.or_else(|| link.source(via.unwrap_or(prefix.addr().to_bits())));
        let mtu = mtu.unwrap_or(link.mtu).min(link.mtu);
        self.add(prefix, true, metric, RouteEntry { kind, iface, mtu, gateway: via, src });
        Ok(())
    }

    /// Puts the best route of each prefix into a trie.
    fn build(mut self) -> Result<(Trie, Box<[RouteEntry]>), FibError> {
        self.candidates.sort_unstable();
        let mut trie = Trie::new();
        let mut last: Option<Candidate> = None;
        for new in self.candidates {
            let Candidate { prefix_len, network, is_route, metric, leaf } = new;
            match last {
                Some(last) if (last.prefix_len, last.network) == (prefix_len, network) => {
                    if (last.is_route, last.metric) == (is_route, metric) {
                        let prefix = Ipv4Net::new_assert(network.into(), prefix_len);
                        return Err(FibError::DuplicateRoute { prefix, metric });
                    }
                }
                _ => trie.insert(network, prefix_len, leaf),
            }
            last = Some(new);
        }
        Ok((trie, self.entries.into()))
    }
}

/// A gateway has to be on link. Where an interface has no connected prefix at all (nothing but /32s),
/// whatever is reached by it is on link, as there is nothing that could say so.
fn check_gateway(
    prefix: Ipv4Net,
    via: u32,
    link: &Link,
    on_link: bool,
    owned: &HashMap<u32, Owner>,
) -> Result<(), FibError> {
    let what = if owned.contains_key(&via) {
        Some("an address of ours")
    } else if link.is_broadcast(via) {
        Some("a broadcast address")
    } else {
        unusable(via)
    };
    let via_shown = Ipv4Addr::from(via);
    if let Some(what) = what {
        return Err(FibError::UnusableGateway { prefix, via: via_shown, what });
    }
    if !on_link && !link.connected.is_empty() && link.connected(via).is_none() {
        return Err(FibError::GatewayNotOnLink {
            prefix,
            via: via_shown,
            iface: link.name.clone(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;
    use crate::config::Interface;

    const WAN: EthPortId = EthPortId(0);
    const LAN: EthPortId = EthPortId(1);

    fn ip(text: &str) -> u32 {
        text.parse::<Ipv4Addr>().unwrap().to_bits()
    }

    fn address(text: &str, iface: EthPortId, role: Role) -> Address {
        let net: Ipv4Net = text.parse().unwrap();
        Address { address: net.addr().to_bits(), prefix_len: net.prefix_len(), iface, role }
    }

    fn route(to: &str, via: Option<&str>, iface: EthPortId) -> Route {
        Route {
            prefix: to.parse().unwrap(),
            kind: RouteKind::Unicast,
            via: via.map(ip),
            iface,
            metric: 0,
            src: None,
            mtu: None,
            on_link: false,
        }
    }

    fn interfaces() -> Vec<Interface> {
        let interface =
            |id, name: &str, mtu| Interface { id, name: name.into(), mtu, primary: None };
        vec![interface(LAN, "lan0", 9000), interface(WAN, "wan0", 1500)]
    }

    fn two_arm() -> FibConfig {
        FibConfig {
            interfaces: interfaces(),
            addresses: vec![
                address("203.0.113.10/32", WAN, Role::Vip),
                address("203.0.113.2/24", WAN, Role::Local),
                address("198.18.0.10/32", LAN, Role::Lip),
                address("198.18.0.1/24", LAN, Role::Local),
            ],
            routes: vec![
                route("0.0.0.0/0", Some("203.0.113.1"), WAN),
                route("10.0.0.0/8", Some("198.18.0.254"), LAN),
            ],
        }
    }

    fn error(change: impl FnOnce(&mut FibConfig)) -> String {
        let mut config = two_arm();
        change(&mut config);
        Fib::new(&config, 1).unwrap_err().to_string()
    }

    #[test]
    fn two_arms() {
        let fib = Fib::new(&two_arm(), 7).unwrap();
        assert_eq!(fib.generation(), 7);
        let vip = Owner { role: Role::Vip, iface: WAN, local: false };
        assert_eq!(fib.owner(ip("203.0.113.10")), Some(vip));
        assert_eq!(fib.owner(ip("203.0.113.11")), None);
        assert!(fib.answers_arp(WAN, ip("203.0.113.10")));
        assert!(!fib.answers_arp(LAN, ip("203.0.113.10")));

        let default = fib.route(ip("192.0.2.1")).unwrap();
        assert_eq!((default.iface, default.gateway), (WAN, Some(ip("203.0.113.1"))));
        assert_eq!(default.src, Some(ip("203.0.113.2")));
        let connected = fib.route(ip("198.18.0.77")).unwrap();
        assert_eq!((connected.iface, connected.gateway, connected.mtu), (LAN, None, 9000));
        assert_eq!(connected.target(5), 5);
        assert_eq!(fib.route(ip("10.1.2.3")).unwrap().target(5), ip("198.18.0.254"));
        assert_eq!(fib.route(ip("198.18.0.10")).unwrap().kind, RouteKind::Local);

        assert!(fib.is_broadcast(LAN, ip("198.18.0.255")));
        assert!(fib.is_broadcast(LAN, ip("198.18.0.0")));
        assert!(fib.is_broadcast(LAN, u32::MAX));
        assert!(!fib.is_broadcast(WAN, ip("198.18.0.255")));
        assert!(fib.is_on_link(LAN, ip("198.18.0.77")));
        assert!(!fib.is_on_link(WAN, ip("198.18.0.77")));
        assert!(!fib.is_on_link(LAN, ip("198.18.0.10")), "ours");
        assert!(!fib.is_on_link(WAN, ip("192.0.2.1")), "behind a gateway");
        assert_eq!(fib.mtu_floor(), 1500);
        assert_eq!(fib.icmp_source(LAN), Some(ip("198.18.0.1")));
        assert_eq!(fib.arp_source(WAN, ip("203.0.113.1")), Some(ip("203.0.113.2")));
    }

    #[test]
    fn nothing_but_a_vip_and_a_gateway() {
        let config = FibConfig {
            interfaces: interfaces(),
            addresses: vec![address("203.0.113.10/32", WAN, Role::Vip)],
            routes: vec![route("0.0.0.0/0", Some("203.0.113.1"), WAN)],
        };
        let fib = Fib::new(&config, 1).unwrap();
        assert!(fib.is_on_link(WAN, ip("203.0.113.1")));
        assert!(!fib.is_on_link(WAN, ip("203.0.113.7")));
        assert_eq!(fib.arp_source(WAN, ip("203.0.113.1")), Some(ip("203.0.113.10")));
        assert_eq!(fib.icmp_source(WAN), None, "a VIP is no source of errors");
        assert_eq!(fib.route(ip("8.8.8.8")).unwrap().src, None);
    }

    #[test]
    fn the_interface_address_may_serve_as_well() {
        for other in [Role::Vip, Role::Lip, Role::WanIp] {
            for first in [Role::Local, other] {
                let mut config = two_arm();
                let second = if first == Role::Local { other } else { Role::Local };
                config.addresses = vec![
                    address("198.18.0.1/24", LAN, first),
                    address("198.18.0.1/24", LAN, second),
                ];
                config.routes.clear();
                let fib = Fib::new(&config, 1).unwrap();
                let owner = Owner { role: other, iface: LAN, local: true };
                assert_eq!(fib.owner(ip("198.18.0.1")), Some(owner));
                assert_eq!(fib.primary(LAN), Some(ip("198.18.0.1")));
            }
        }
    }

    #[test]
    fn the_lowest_metric_counts_and_local_routes_are_ours() {
        let mut config = two_arm();
        config.routes = vec![
            Route { metric: 20, ..route("10.0.0.0/8", Some("198.18.0.2"), LAN) },
            Route { metric: 10, ..route("10.0.0.0/8", Some("198.18.0.3"), LAN) },
            Route { metric: 5, ..route("198.18.0.0/24", Some("203.0.113.1"), WAN) },
            Route { kind: RouteKind::Local, ..route("203.0.113.64/26", None, WAN) },
            Route {
                mtu: Some(1400),
                src: Some(ip("198.18.0.10")),
                ..route("10.1.0.0/16", None, LAN)
            },
        ];
        let fib = Fib::new(&config, 1).unwrap();
        assert_eq!(fib.route(ip("10.2.3.4")).unwrap().gateway, Some(ip("198.18.0.3")));
        assert_eq!(fib.route(ip("198.18.0.7")).unwrap().iface, LAN, "connected has metric 0");
        let any = Owner { role: Role::Local, iface: WAN, local: true };
        assert_eq!(fib.owner(ip("203.0.113.65")), Some(any));
        assert!(fib.answers_arp(WAN, ip("203.0.113.65")));
        let hinted = fib.route(ip("10.1.2.3")).unwrap();
        assert_eq!((hinted.mtu, hinted.src), (1400, Some(ip("198.18.0.10"))));
        assert!(fib.is_on_link(LAN, ip("10.1.2.3")));
        assert_eq!(fib.mtu_floor(), 1400);
    }

    #[test]
    fn addresses_that_came_are_announced() {
        let old = Fib::new(&two_arm(), 1).unwrap();
        let mut config = two_arm();
        config.addresses.push(address("203.0.113.11/32", WAN, Role::Vip));
        config.addresses[0].iface = LAN;
        let new = Fib::new(&config, 2).unwrap();
        let mut came: Vec<_> = new.addresses_since(&old).collect();
        came.sort_unstable();
        assert_eq!(came, [(ip("203.0.113.10"), LAN), (ip("203.0.113.11"), WAN)]);
        assert_eq!(old.addresses_since(&old).count(), 0);
    }

    #[test]
    fn wrong_addresses_are_named() {
        let with = |text, iface, role| error(|c| c.addresses.push(address(text, iface, role)));
        assert_eq!(
            with("203.0.113.10/32", WAN, Role::Lip),
            "203.0.113.10 is given twice: as VIP on `wan0` and as LIP on `wan0`"
        );
        assert_eq!(
            with("198.18.0.1/24", WAN, Role::Vip),
            "198.18.0.1 is given twice: as interface address on `lan0` and as VIP on `wan0`"
        );
        assert_eq!(
            with("198.18.0.9/24", WAN, Role::Vip),
            "prefix 198.18.0.0/24 is on two interfaces, `lan0` and `wan0`"
        );
        assert_eq!(
            with("192.0.2.1/24", EthPortId(9), Role::Vip),
            "address 192.0.2.1 is on an unknown interface (number 9)"
        );
        assert_eq!(
            with("127.0.0.1/8", LAN, Role::Local),
            "127.0.0.1 cannot be an address of ours: it is a loopback address"
        );
        assert_eq!(
            with("198.18.0.255/32", LAN, Role::Lip),
            "198.18.0.255 cannot be an address of ours: it is the first or last address of a prefix \
             on its interface"
        );
        assert_eq!(
            with("192.0.2.1/0", LAN, Role::Lip),
            "prefix length 0 of address 192.0.2.1 is not between 1 and 32"
        );
        assert_eq!(
            error(|c| c.interfaces[0].primary = Some(ip("198.18.0.10"))),
            "primary address 198.18.0.10 of `lan0` is not one of its own addresses"
        );
        assert_eq!(
            error(|c| c.interfaces[0].id = WAN),
            "interface `wan0` has number 0, which `lan0` has already"
        );
        assert_eq!(
            error(|c| c.interfaces[0].mtu = 67),
            "an MTU of 67 for interface `lan0` is below 68"
        );
        assert_eq!(
            error(|c| c.interfaces[0].id = EthPortId(16384)),
            "interface number 16384 is above 16383"
        );
    }

    #[test]
    fn wrong_routes_are_named() {
        let with = |route: Route| error(|config| config.routes.push(route));
        assert_eq!(
            with(route("192.0.2.0/24", Some("198.18.1.1"), LAN)),
            "gateway 198.18.1.1 of the route to 192.0.2.0/24 is not on link of `lan0`"
        );
        let trusted = Route { on_link: true, ..route("192.0.2.0/24", Some("198.18.1.1"), LAN) };
        let mut config = two_arm();
        config.routes.push(trusted);
        assert!(Fib::new(&config, 1).unwrap().is_on_link(LAN, ip("198.18.1.1")));
        assert_eq!(
            with(route("192.0.2.0/24", Some("203.0.113.10"), WAN)),
            "gateway 203.0.113.10 of the route to 192.0.2.0/24 cannot be one: it is an address of ours"
        );
        assert_eq!(
            with(route("192.0.2.0/24", Some("203.0.113.255"), WAN)),
            "gateway 203.0.113.255 of the route to 192.0.2.0/24 cannot be one: it is a broadcast address"
        );
        assert_eq!(
            with(route("192.0.2.0/24", None, EthPortId(3))),
            "route to 192.0.2.0/24 goes by an unknown interface (number 3)"
        );
        assert_eq!(
            with(route("192.0.2.7/24", None, LAN)),
            "route to 192.0.2.7/24 has host bits set; write 192.0.2.0/24"
        );
        assert_eq!(
            with(route("10.0.0.0/8", Some("198.18.0.253"), LAN)),
            "two routes to 10.0.0.0/8 have metric 0"
        );
        assert_eq!(
            with(Route { src: Some(ip("192.0.2.1")), ..route("192.0.2.0/24", None, LAN) }),
            "source 192.0.2.1 of the route to 192.0.2.0/24 is not an address of ours"
        );
        assert_eq!(
            with(Route {
                kind: RouteKind::Local,
                ..route("192.0.2.0/24", Some("203.0.113.1"), WAN)
            }),
            "local route to 192.0.2.0/24 cannot have a gateway (203.0.113.1)"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn routes_agree_with_a_linear_model(
            routes in proptest::collection::vec((0u32..64, 8u8..=32, 0u32..3, 2u32..6), 0..60),
            probes in proptest::collection::vec(0u32..64, 30),
        ) {
            let mut config = two_arm();
            config.routes.clear();
            let mut model: Vec<(Ipv4Net, u32, u32)> = Vec::new();
            for (bits, len, metric, via) in routes {
                let network = Ipv4Addr::from(0x0a00_0000 | bits << 18 | bits << 6 | bits);
                let prefix = Ipv4Net::new_assert(network, len).trunc();
                if model.iter().any(|known| (known.0, known.1) == (prefix, metric)) {
                    continue;
                }
                let via = ip("198.18.0.0") + via;
                model.push((prefix, metric, via));
                let gateway = Ipv4Addr::from(via).to_string();
                config.routes.push(Route {
                    metric,
                    ..route(&prefix.to_string(), Some(&gateway), LAN)
                });
            }
            let fib = Fib::new(&config, 1).unwrap();
            for bits in probes {
                let dst = 0x0a00_0000 | bits << 18 | bits << 6 | bits;
                let best = model
                    .iter()
                    .filter(|(prefix, ..)| prefix.contains(&Ipv4Addr::from(dst)))
                    .max_by_key(|(prefix, metric, _)| (prefix.prefix_len(), u32::MAX - metric));
                let found = fib.route(dst).and_then(|route| route.gateway);
                prop_assert_eq!(found, best.map(|best| best.2));
            }
        }
    }

    fn build_time(routes: u32) -> Duration {
        let mut config = two_arm();
        config.routes.clear();
        for number in 0..routes {
            let prefix = Ipv4Net::new_assert((0x0100_0000 + (number << 8)).into(), 24);
            let via = ip("198.18.0.20") + number % 200;
            config.routes.push(Route { prefix, via: Some(via), ..route("0.0.0.0/0", None, LAN) });
        }
        let start = Instant::now();
        let fib = Fib::new(&config, 1).unwrap();
        let took = start.elapsed();
        let last = 0x0100_0000 + ((routes - 1) << 8) + 9;
        let gateway = fib.route(last).and_then(|route| route.gateway);
        assert_eq!(gateway, Some(ip("198.18.0.20") + (routes - 1) % 200));
        took
    }

    #[test]
    fn big_tables_build_fast() {
        // Generous bounds: an unoptimised build on a busy machine is to pass as well.
        let (small, full) = (build_time(10_000), build_time(1_000_000));
        println!("10k routes: {small:?}, 1M routes: {full:?}");
        assert!(small < Duration::from_millis(250), "{small:?}");
        assert!(full < Duration::from_secs(10), "{full:?}");
    }
}
