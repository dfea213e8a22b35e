//! From the configuration's addresses, routes, VIPs and LIPs to what the fib is compiled from.

use std::collections::HashMap;
use std::net::IpAddr;

use config::{Active, Config, ConfigError, ErrorKind, Path, RouteType, Warning};
use fib::{Fib, FibConfig, FibError, Role, RouteKind};
use ipnet::IpNet;
use types::EthPortId;

use super::lingering::Lingering;
use super::{Facts, FibPlan};

/// A configuration error made here.
pub fn refuse(kind: ErrorKind, path: Path, value: impl ToString, message: String) -> ConfigError {
    ConfigError { kind, path, value: Some(value.to_string()), message, hint: None, location: None }
}

/// What the format of the file has and this version does not do.
fn unsupported(path: Path, value: &str) -> ConfigError {
    let message = format!("`{value}` is not supported by this version");
    refuse(ErrorKind::Invalid, path, value, message)
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
    /// Configured addresses: interface, prefix length and place in `addresses`.
    configured: HashMap<u32, (EthPortId, u8, usize)>,
    /// Addresses with a role beside that of an interface's own.
    roles: HashMap<u32, (Role, EthPortId)>,
}

/// What the fib is compiled from: what is configured, and of the addresses that linger those that are
/// nothing else now.
///
/// # Errors
/// If an interface is not there, or an address is no IPv4 address.
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
    };
    ours.add_configured()?;
    ours.add_lips()?;
    ours.add_wans()?;
    ours.add_vips()?;
    lingering.retain(|address, iface, role| ours.linger(address, iface, role));
    let interfaces = facts.interfaces.iter().zip(0..).map(|(interface, id)| fib::Interface {
        id: EthPortId(id),
        name: interface.name.to_string(),
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
            if entry.active != Active::Always {
                return Err(unsupported(path().key("active"), "with-kernel"));
            }
            let address = v4(entry.address.address(), || path().key("address"))?;
            let iface = self.facts.interface(&entry.dev, || path().key("dev"))?;
            let prefix_len = entry.address.prefix_len();
            self.configured.insert(address, (iface, prefix_len, self.addresses.len()));
            self.addresses.push(fib::Address { address, prefix_len, iface, role: Role::Local });
        }
        Ok(())
    }

    /// An address in a role of its own. One that is configured with no subnet around it is nothing
    /// else then; one with a subnet stays the interface's own as well.
    fn add(&mut self, address: u32, iface: EthPortId, role: Role) {
        if self.roles.insert(address, (role, iface)) == Some((role, iface)) {
            return;
        }
        match self.configured.get(&address) {
            Some((on, 32, place)) if *on == iface => {
                if let Some(entry) = self.addresses.get_mut(*place) {
                    entry.role = role;
                }
            }
            _ => self.addresses.push(fib::Address { address, prefix_len: 32, iface, role }),
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
    fn linger(&mut self, address: u32, iface: EthPortId, role: Role) -> bool {
        let other = match self.configured.get(&address) {
            // A LIP was the interface's own beside, and is so still.
            Some((on, prefix_len, _)) => role != Role::Lip || *on != iface || *prefix_len == 32,
            None => usize::from(iface.0) >= self.facts.interfaces.len(),
        };
        let free = !other && !self.roles.contains_key(&address);
        if free {
            self.add(address, iface, role);
        }
        free
    }

    /// WAN IPs and addresses of port forwards: on the interface that they are configured on, else on that of
    /// their subnet, else on that which the rule or the route to them names. One without is nobody's.
    fn add_wans(&mut self) -> Result<(), ConfigError> {
        let (config, facts) = (self.config, self.facts);
        for (address, named) in super::gateway::wan_addresses(config, facts)? {
            let configured = self.configured.get(&address).map(|(iface, ..)| *iface);
            let iface = configured
                .or_else(|| self.subnet_of(address))
                .or(named)
                .or_else(|| self.routed(address));
            if let Some(iface) = iface {
                self.add(address, iface, Role::WanIp);
            }
        }
        Ok(())
    }

    /// The interface whose subnet an address is in.
    fn subnet_of(&self, address: u32) -> Option<EthPortId> {
        let within = |entry: &&fib::Address| {
            entry.role == Role::Local
                && entry.prefix_len < 32
                && (entry.address ^ address) >> (32 - u32::from(entry.prefix_len)) == 0
        };
        let longest = self.addresses.iter().filter(within).max_by_key(|entry| entry.prefix_len);
        longest.map(|entry| entry.iface)
    }

    /// The interface that the route to an address leaves by.
    fn routed(&self, address: u32) -> Option<EthPortId> {
        let address = IpAddr::V4(address.into());
        let fits = self.config.routes.iter().filter(|route| route.to.net().contains(&address));
        let best =
            fits.max_by_key(|route| (route.to.prefix_len(), std::cmp::Reverse(route.metric)));
        best.and_then(|route| self.facts.interface(&route.dev, Path::root).ok())
    }

    /// A VIP that is none of the addresses is nobody's: the configuration warns of it.
    fn add_vips(&mut self) -> Result<(), ConfigError> {
        let config = self.config;
        for (name, service) in &config.services {
            for (index, vip) in service.vips.iter().enumerate() {
                let path = || Path::of("services").key(name).key("vips").index(index);
                let address = v4(vip.address, path)?;
                let is_wan = self.roles.get(&address).is_some_and(|role| role.0 == Role::WanIp);
                if let Some((iface, ..)) = self.configured.get(&address).filter(|_| !is_wan) {
                    self.add(address, *iface, Role::Vip);
                }
            }
        }
        Ok(())
    }
}

/// LIPs that one pool may have.
const LIPS_MAX: u128 = 65_536;

/// The addresses of a pool in host order, as configured.
///
/// # Errors
/// If there is one that is no IPv4 address, or there are too many.
pub fn pool_addresses(
    pool: &config::LocalPool,
    path: impl Fn() -> Path,
) -> Result<Vec<u32>, ConfigError> {
    let count = pool.addresses.iter().fold(0u128, |sum, range| sum.saturating_add(range.count()));
    if count > LIPS_MAX {
        let message = format!("{count} local addresses are more than {LIPS_MAX}");
        return Err(refuse(ErrorKind::Invalid, path().key("addresses"), count, message));
    }
    let mut addresses = Vec::with_capacity(count as usize);
    for (index, range) in pool.addresses.iter().enumerate() {
        for address in range.addresses() {
            addresses.push(v4(address, || path().key("addresses").index(index))?);
        }
    }
    Ok(addresses)
}

fn routes(config: &Config, facts: &Facts) -> Result<Vec<fib::Route>, ConfigError> {
    let section = Path::of("routes");
    let mut routes = Vec::with_capacity(config.routes.len());
    for (index, route) in config.routes.iter().enumerate() {
        if is_connected(config, route) {
            continue;
        }
        let path = || section.index(index);
        let IpNet::V4(prefix) = route.to.net() else {
            let message = format!("{} is no IPv4 prefix", route.to);
            return Err(refuse(ErrorKind::Invalid, path().key("to"), route.to, message));
        };
        let via = route.via.map(|via| v4(via, || path().key("via"))).transpose()?;
        let src = route.src.map(|src| v4(src, || path().key("src"))).transpose()?;
        routes.push(fib::Route {
            prefix,
            kind: match route.route_type {
                RouteType::Unicast => RouteKind::Unicast,
                RouteType::Local => RouteKind::Local,
            },
            via,
            iface: facts.interface(&route.dev, || path().key("dev"))?,
            metric: route.metric,
            src,
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
        let IpAddr::V4(address) = entry.address else { return None };
        let path = Path::of("neighbours").index(index);
        let iface = facts.interface(&entry.dev, || path.clone()).ok()?;
        let message = format!("{address} is not on the link of `{}`: it has no effect", entry.dev);
        let is_idle = !fib.is_on_link(iface, address.to_bits());
        is_idle.then(|| Warning { path: path.to_string(), message })
    };
    config.neighbours.iter().enumerate().filter_map(idle).collect()
}

/// What the fib refuses, as an error of the configuration.
pub fn refused(error: &FibError) -> ConfigError {
    use FibError::{
        AddressOnUnknownInterface, DuplicateAddress, DuplicateInterface, DuplicateRoute,
        GatewayNotOnLink, HostBits, InterfaceNumber, LocalRouteVia, MtuTooSmall, PrefixLength,
        PrefixOnTwoInterfaces, Primary, RouteByUnknownInterface, SourceNotOurs, UnusableAddress,
        UnusableGateway,
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
    };
    refuse(kind, Path::of(section), value, error.to_string())
}
