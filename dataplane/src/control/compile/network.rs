//! From the configuration's addresses, routes, VIPs and LIPs to what the fib is compiled from.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use config::{Active, Config, ConfigError, ErrorKind, Path, RouteType, Warning};
use fib::{Fib, FibConfig, FibError, Role, RouteKind};
use ipnet::IpNet;
use types::{Address as _, EthPortId};

use super::lingering::{Lingering, is_alone, is_link_local};
use super::links::is_vacant;
use super::{Facts, FibPlan};

/// A configuration error made here.
pub fn refuse(kind: ErrorKind, path: Path, value: impl ToString, message: String) -> ConfigError {
    ConfigError { kind, path, value: Some(value.to_string()), message, hint: None, location: None }
}

/// An IPv4 address in host order.
///
/// # Errors
/// If it is none.
pub fn v4(address: IpAddr, path: impl FnOnce() -> Path) -> Result<u32, ConfigError> {
    match address {
        IpAddr::V4(address) => Ok(address.to_bits()),
        IpAddr::V6(_) => {
            let message = format!("{address} is no IPv4 address");
            Err(refuse(ErrorKind::Invalid, path(), address, message))
        }
    }
}

/// Adds up what is ours, each address once in each role.
struct Ours<'a> {
    config: &'a Config,
    facts: &'a Facts,
    addresses: Vec<fib::Address>,
    /// Configured addresses but link-local ones: interface and place in `addresses`.
    configured: HashMap<IpAddr, (EthPortId, usize)>,
    /// Addresses with a role beside that of an interface's own.
    roles: HashMap<IpAddr, (Role, EthPortId)>,
    /// Addresses that are ours while the kernel holds them, and it does not: another node's, perhaps.
    withheld: HashSet<IpAddr>,
}

/// What the fib is compiled from: what is configured, and of the addresses that linger those that are
/// nothing else now.
///
/// # Errors
/// If an interface is not there, or there are too many addresses in a pool.
pub fn fib_plan(
    config: &Config,
    facts: &Facts,
    mut lingering: Lingering,
) -> Result<FibPlan, ConfigError> {
    let mut ours = Ours {
        config,
        facts,
        addresses: Vec::new(),
        configured: HashMap::new(),
        roles: HashMap::new(),
        withheld: HashSet::new(),
    };
    ours.add_configured()?;
    ours.add_lips()?;
    ours.add_wans()?;
    ours.add_vips();
    lingering.retain(|address, iface, role| ours.linger(address, iface, role));
    let interfaces = facts.interfaces.iter().zip(0..);
    let interfaces = interfaces.filter(|(interface, _)| !is_vacant(interface));
    let interfaces = interfaces.map(|(interface, id)| fib::Interface {
        id: EthPortId(id),
        name: interface.name.to_string(),
        mac: interface.mac,
        mtu: interface.mtu,
        primary: None,
    });
    let interfaces = interfaces.collect();
    let addresses = ours.addresses;
    let config = FibConfig { interfaces, addresses, routes: routes(config, facts)? };
    Ok(FibPlan { config, lingering })
}

impl Ours<'_> {
    fn add_configured(&mut self) -> Result<(), ConfigError> {
        let section = Path::of("addresses");
        for (index, entry) in self.config.addresses.iter().enumerate() {
            let path = || section.index(index);
            let address = entry.address.address();
            let iface = self.facts.interface(&entry.dev, || path().key("dev"))?;
            let with_kernel = entry.active == Active::WithKernel;
            if with_kernel && !self.facts.kernel.holds_ip(iface, address) {
                self.withheld.insert(address);
                continue;
            }
            let prefix_len = entry.address.prefix_len();
            if !is_link_local(address) {
                self.configured.insert(address, (iface, self.addresses.len()));
            }
            self.addresses.push(fib::Address { address, prefix_len, iface, role: Role::Local });
        }
        Ok(())
    }

    /// An address in a role of its own. One that is configured with no subnet around it is nothing
    /// else then; one with a subnet stays the interface's own as well.
    fn add(&mut self, address: IpAddr, iface: EthPortId, role: Role) {
        if self.withheld.contains(&address) {
            return;
        }
        if self.roles.insert(address, (role, iface)) == Some((role, iface)) {
            return;
        }
        let here = self.configured.get(&address).filter(|(on, _)| *on == iface);
        let entry = here.and_then(|(_, place)| self.addresses.get_mut(*place));
        match entry.filter(|entry| is_alone(entry)) {
            Some(entry) => entry.role = role,
            None => {
                let prefix_len = IpNet::from(address).prefix_len();
                self.addresses.push(fib::Address { address, prefix_len, iface, role });
            }
        }
    }

    fn add_lips(&mut self) -> Result<(), ConfigError> {
        let config = self.config;
        for (name, pool) in &config.local_address_pools {
            self.add_pool(pool, || Path::of("local_address_pools").key(name))?;
        }
        for (name, service) in &config.services {
            if let Some(config::Pool::Inline(pool)) = &service.local_pool {
                self.add_pool(pool, || Path::of("services").key(name).key("local_pool"))?;
            }
        }
        Ok(())
    }

    fn add_pool(
        &mut self,
        pool: &config::LocalPool,
        path: impl Fn() -> Path,
    ) -> Result<(), ConfigError> {
        let iface = self.facts.interface(&pool.dev, || path().key("dev"))?;
        for address in pool_addresses(pool, &path)? {
            self.add(address, iface, Role::Lip);
        }
        Ok(())
    }

    /// Adds a LIP or VIP that open conns may name. False if it is nobody's place any more.
    fn linger(&mut self, address: IpAddr, iface: EthPortId, role: Role) -> bool {
        let other = match self.configured.get(&address) {
            // A LIP was the interface's own beside, and is so still.
            Some((on, place)) => {
                let is_alone = self.addresses.get(*place).is_none_or(is_alone);
                role != Role::Lip || *on != iface || is_alone
            }
            // No conn is worth a second answer.
            None if self.withheld.contains(&address) => true,
            None => !self.facts.is_there(iface),
        };
        let free = !other && !self.roles.contains_key(&address);
        if free {
            self.add(address, iface, role);
        }
        free
    }

    /// WAN IPs and addresses of port forwards: on the interface that they are configured on. One that is not
    /// configured is routed to us, or another node has it: nobody on the link is told of it, and it is on the interface
    /// of its subnet, else on that which the rule or the route to it names.
    fn add_wans(&mut self) -> Result<(), ConfigError> {
        let (config, facts) = (self.config, self.facts);
        for (address, named) in super::gateway::wan_addresses(config, facts)? {
            let address = address.to_ip();
            let configured = self.configured.get(&address).map(|(iface, ..)| *iface);
            let iface = configured
                .or_else(|| self.subnet_of(address))
                .or(named)
                .or_else(|| self.routed(address));
            let role = if configured.is_some() { Role::WanIp } else { Role::RoutedWanIp };
            if let Some(iface) = iface {
                self.add(address, iface, role);
            }
        }
        Ok(())
    }

    /// The interface whose subnet an address is in.
    fn subnet_of(&self, address: IpAddr) -> Option<EthPortId> {
        let within = |entry: &&fib::Address| {
            let net = IpNet::new(entry.address, entry.prefix_len);
            entry.role == Role::Local
                && !is_alone(entry)
                && net.is_ok_and(|net| net.contains(&address))
        };
        let longest = self.addresses.iter().filter(within).max_by_key(|entry| entry.prefix_len);
        longest.map(|entry| entry.iface)
    }

    /// The interface that the route to an address leaves by.
    fn routed(&self, address: IpAddr) -> Option<EthPortId> {
        let fits = self.config.routes.iter().filter(|route| route.to.net().contains(&address));
        let best =
            fits.max_by_key(|route| (route.to.prefix_len(), std::cmp::Reverse(route.metric)));
        best.and_then(|route| self.facts.interface(&route.dev, Path::root).ok())
    }

    /// A VIP that is none of the addresses is nobody's: the configuration warns of it.
    fn add_vips(&mut self) {
        let config = self.config;
        for service in config.services.values() {
            for vip in &service.vips {
                let address = vip.address;
                let is_wan = |role: &(Role, EthPortId)| role.0 == Role::WanIp;
                let is_wan = self.roles.get(&address).is_some_and(is_wan);
                if let Some((iface, ..)) = self.configured.get(&address).filter(|_| !is_wan) {
                    self.add(address, *iface, Role::Vip);
                }
            }
        }
    }
}

/// LIPs that one pool may have.
const LIPS_MAX: u128 = 65_536;

/// The addresses of a pool, as configured.
///
/// # Errors
/// If there are too many.
pub fn pool_addresses(
    pool: &config::LocalPool,
    path: impl Fn() -> Path,
) -> Result<Vec<IpAddr>, ConfigError> {
    let count = pool.addresses.iter().fold(0u128, |sum, range| sum.saturating_add(range.count()));
    if count > LIPS_MAX {
        let message = format!("{count} local addresses are more than {LIPS_MAX}");
        return Err(refuse(ErrorKind::Invalid, path().key("addresses"), count, message));
    }
    Ok(pool.addresses.iter().flat_map(|range| range.addresses()).collect())
}

fn routes(config: &Config, facts: &Facts) -> Result<Vec<fib::Route>, ConfigError> {
    let section = Path::of("routes");
    let mut routes = Vec::with_capacity(config.routes.len());
    for (index, route) in config.routes.iter().enumerate() {
        if is_connected(config, route) {
            continue;
        }
        let path = || section.index(index);
        routes.push(fib::Route {
            prefix: route.to.net(),
            kind: match route.route_type {
                RouteType::Unicast => RouteKind::Unicast,
                RouteType::Local => RouteKind::Local,
            },
            via: route.via,
            iface: facts.interface(&route.dev, || path().key("dev"))?,
            metric: route.metric,
            src: route.src,
            mtu: route.mtu,
            // A gateway in no subnet of ours is a warning of the configuration's, not an error.
            on_link: true,
        });
    }
    Ok(routes)
}

/// True for a route that is there by itself, as it leads to the subnet of an address of ours: whoever
/// configures both means one.
fn is_connected(config: &Config, route: &config::Route) -> bool {
    let config::Route { to: _, dev: _, via, metric, src, mtu, route_type } = route;
    let is_plain = via.is_none() && *metric == 0 && src.is_none() && mtu.is_none();
    is_plain
        && *route_type == RouteType::Unicast
        && config
            .addresses
            .iter()
            .any(|entry| entry.dev == route.dev && entry.address.net().trunc() == route.to.net())
}

/// Static neighbours that have no effect, as no subnet or route leads to them.
pub fn off_link(config: &Config, facts: &Facts, fib: &Fib) -> Vec<Warning> {
    let idle = |(index, entry): (usize, &config::Neighbour)| {
        let address = entry.address;
        let path = Path::of("neighbours").index(index);
        let iface = facts.interface(&entry.dev, || path.clone()).ok()?;
        let message = format!("{address} is not on the link of `{}`: it has no effect", entry.dev);
        let is_idle = !fib.has_neighbour(iface, address);
        is_idle.then(|| Warning { path: path.to_string(), message })
    };
    config.neighbours.iter().enumerate().filter_map(idle).collect()
}

/// What the fib refuses, as an error of the configuration.
pub fn refused(error: &FibError) -> ConfigError {
    use FibError::{
        AddressOnUnknownInterface, DuplicateAddress, DuplicateInterface, DuplicateRoute,
        GatewayNotOnLink, HostBits, InterfaceNumber, LocalRouteVia, MtuTooSmall, OtherFamily,
        PrefixLength, PrefixOnTwoInterfaces, Primary, RouteByUnknownInterface, SourceNotOurs,
        UnusableAddress, UnusableGateway,
    };
    let kind = match error {
        DuplicateAddress { .. } | DuplicateRoute { .. } | PrefixOnTwoInterfaces { .. } => {
            ErrorKind::Conflict
        }
        _ => ErrorKind::Invalid,
    };
    let (section, value) = match error {
        DuplicateInterface { name, .. } => ("interfaces", name.clone()),
        InterfaceNumber { id, .. } => ("interfaces", id.0.to_string()),
        MtuTooSmall { mtu, .. } => ("interfaces", mtu.to_string()),
        AddressOnUnknownInterface { address, .. }
        | PrefixLength { address, .. }
        | UnusableAddress { address, .. }
        | Primary { address, .. }
        | DuplicateAddress { address, .. } => ("addresses", address.to_string()),
        PrefixOnTwoInterfaces { prefix, .. } => ("addresses", prefix.to_string()),
        RouteByUnknownInterface { prefix, .. }
        | HostBits { prefix }
        | DuplicateRoute { prefix, .. } => ("routes", prefix.to_string()),
        GatewayNotOnLink { via, .. } | UnusableGateway { via, .. } | LocalRouteVia { via, .. } => {
            ("routes", via.to_string())
        }
        SourceNotOurs { src, .. } => ("routes", src.to_string()),
        OtherFamily { address, .. } => ("routes", address.to_string()),
    };
    refuse(kind, Path::of(section), value, error.to_string())
}
