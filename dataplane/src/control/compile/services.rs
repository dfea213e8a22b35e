//! Compiles the services that a change touches, with the slots that they have or new ones.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use balance::{
    Admin, ClientAddress, ClientHeader, HashBy, Limits, Mode, OnNotSyn, Persistence, Refusal,
    Remembered, Scheduler, Server, Service, ServiceKey, ServiceSpec, Services, SlowStart,
};
use config::{Config, ConfigError, DnatRule, DnatTarget, ErrorKind, OnFailure, Path};
use flow::TimeoutSet;
use health::Ruling;
use types::{Address, Endpoint, Now, Proto, SlotAllocator, map_v4};

use super::classes::{Classes, timeout_set};
use super::network::{pool_addresses, refuse, v4};
use super::wide::has_ipv6;
use super::{Compiler, Entry, Gone, GoneServer, Rulings, Taken};

/// Clients that a service with persistence remembers on each worker.
const PERSISTENCE_CAPACITY: u32 = 65_536;

/// The services that are not as before.
#[derive(Debug)]
pub(super) struct Changes {
    /// By name; `None`: gone.
    pub services: Vec<(String, Option<Entry>)>,
    /// What needs a new cell on each worker.
    pub cells: Vec<Arc<Service>>,
    /// What nobody has any more.
    pub gone: Gone,
    /// The classes of timeouts after it.
    pub classes: Classes,
    /// Whether VIPs or LIPs may be others than before.
    pub addresses: bool,
    /// Whether a service that is new or another has an IPv6 side.
    pub ipv6: bool,
}

impl Changes {
    /// Where services may be others than before.
    pub fn keys(&self, entries: &HashMap<String, Entry>) -> Vec<ServiceKey> {
        let old = self.services.iter().filter_map(|(name, _)| entries.get(name));
        let new = self.services.iter().filter_map(|(_, entry)| entry.as_ref());
        old.chain(new).flat_map(|entry| &entry.keys).copied().collect()
    }

    /// The map of services after it.
    pub fn apply(&self, before: &Services, entries: &HashMap<String, Entry>) -> Services {
        // A VIP may go from one service to another, so all that go do so first.
        let old = self.services.iter().filter_map(|(name, _)| entries.get(name));
        let removed = old.flat_map(|entry| entry.keys.iter().map(|key| (*key, None)));
        let new = self.services.iter().filter_map(|(_, entry)| entry.as_ref());
        let put = new.flat_map(|entry| {
            entry.keys.iter().map(|key| (*key, Some(Arc::clone(&entry.service))))
        });
        before.with(removed.chain(put))
    }
}

/// Pairs of what both maps have by a name, in the order of names.
fn pairs<'a, T>(
    old: &'a BTreeMap<String, Arc<T>>,
    new: &'a BTreeMap<String, Arc<T>>,
) -> impl Iterator<Item = (&'a String, Option<&'a Arc<T>>, Option<&'a Arc<T>>)> {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    std::iter::from_fn(move || {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return None,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some((a, _)), Some((b, _))) => a.cmp(b),
        };
        let before = if order.is_le() { old.next() } else { None };
        let after = if order.is_ge() { new.next() } else { None };
        let name = before.or(after).map(|(name, _)| name)?;
        Some((name, before.map(|(_, value)| value), after.map(|(_, value)| value)))
    })
}

/// Names whose values differ. Values that are shared are not looked into.
fn changed<'a, T: PartialEq>(
    old: &'a BTreeMap<String, Arc<T>>,
    new: &'a BTreeMap<String, Arc<T>>,
) -> HashSet<&'a str> {
    let differ = |(_, old, new): &(_, Option<&Arc<T>>, Option<&Arc<T>>)| !same(*old, *new);
    pairs(old, new).filter(differ).map(|(name, ..)| name.as_str()).collect()
}

fn same<T: PartialEq>(old: Option<&Arc<T>>, new: Option<&Arc<T>>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => Arc::ptr_eq(old, new) || old == new,
        (None, None) => true,
        _ => false,
    }
}

/// Compiles what differs from what runs.
///
/// # Errors
/// If something cannot be. What has been taken is in `taken`.
pub(super) fn compile(
    compiler: &mut Compiler,
    (config, rulings): (&Config, &Rulings),
    now: Now,
    taken: &mut Taken,
) -> Result<Changes, ConfigError> {
    let before = Arc::clone(&compiler.config);
    let groups = changed(&before.server_groups, &config.server_groups);
    let pools = changed(&before.local_address_pools, &config.local_address_pools);
    let running = Arc::clone(&compiler.rulings);
    let ruled = changed(&running, rulings);
    let ruling = |name: &str| rulings.get(name).map(Arc::as_ref);
    let timeouts = before.conntrack.timeouts != config.conntrack.timeouts;
    let mut classes = compiler.classes.clone();
    if timeouts {
        classes.set_default(timeout_set(&config.conntrack.timeouts));
    }
    let mut changes = Changes {
        services: Vec::new(),
        cells: Vec::new(),
        gone: Gone::default(),
        classes,
        addresses: !pools.is_empty(),
        ipv6: false,
    };
    for (name, old, new) in pairs(&before.services, &config.services) {
        let Some(service) = new else {
            remove(compiler, name, &mut changes);
            continue;
        };
        let touched = !same(old, new)
            || ruled.contains(name.as_str())
            || matches!(&service.servers, config::Servers::Group(group) if groups.contains(&**group))
            || matches!(&service.local_pool, Some(config::Pool::Named(pool)) if pools.contains(&**pool))
            || (timeouts && service.timeouts != config::ServiceTimeouts::default());
        if touched {
            changes.addresses |= old
                .is_none_or(|old| old.vips != service.vips || old.local_pool != service.local_pool);
            changes.ipv6 |= has_ipv6(service, config);
            let ruling = ruling(name);
            let forward = None;
            let mut build = Build { compiler, config, name, service, ruling, forward, now, taken };
            build.build(&mut changes)?;
        }
    }
    for (name, old, new) in pairs(&before.dnat, &config.dnat) {
        let name = &format!("dnat/{name}");
        if same(old, new) && !ruled.contains(name.as_str()) {
            continue;
        }
        let Some((rule, service)) = new.and_then(|rule| Some((rule, as_service(rule)?))) else {
            remove(compiler, name, &mut changes);
            continue;
        };
        changes.addresses = true;
        let (service, ruling, forward) = (&service, ruling(name), Some(&**rule));
        let mut build = Build { compiler, config, name, service, ruling, forward, now, taken };
        build.narrow()?;
        build.build(&mut changes)?;
    }
    Ok(changes)
}

/// A port forward to several servers is a service in NAT mode; `None` if it has one.
pub fn as_service(rule: &DnatRule) -> Option<config::Service> {
    let DnatTarget::Servers(servers) = &rule.to else { return None };
    let protocol = rule.protocol;
    Some(config::Service {
        scheduler: rule.scheduler,
        mode: config::Mode::Nat,
        servers: config::Servers::Inline(servers.clone()),
        ..config::Service::new(vec![rule.on.first()], protocol)
    })
}

fn remove(compiler: &Compiler, name: &str, changes: &mut Changes) {
    let Some(entry) = compiler.entries.get(name) else { return };
    let spec = entry.service.spec();
    changes.addresses = true;
    changes.classes.give_back(spec.timeout_class);
    changes.gone.services.push(spec.slot);
    let servers = entry.service.servers().iter().map(|server| gone(&spec.name, server));
    changes.gone.servers.extend(servers);
    changes.services.push((name.to_owned(), None));
}

fn gone(service: &Arc<str>, server: &Server) -> GoneServer {
    GoneServer { service: Arc::clone(service), address: server.endpoint(), slot: server.slot }
}

/// One service to be compiled.
pub(super) struct Build<'a> {
    pub compiler: &'a mut Compiler,
    config: &'a Config,
    name: &'a str,
    pub service: &'a config::Service,
    /// What the state of its real servers makes of it.
    pub ruling: Option<&'a Ruling>,
    /// The port forward that it is, if it is one.
    forward: Option<&'a DnatRule>,
    now: Now,
    pub taken: &'a mut Taken,
}

impl Build<'_> {
    pub(super) fn path(&self) -> Path {
        match (self.forward, self.name.strip_prefix("dnat/")) {
            (Some(_), Some(name)) => Path::of("dnat").key(name),
            _ => Path::of("services").key(self.name),
        }
    }

    /// Refuses what a port forward to one server can, and a service cannot.
    fn narrow(&self) -> Result<(), ConfigError> {
        let Some(rule) = self.forward else { return Ok(()) };
        let source = rule.source.first().map(|source| ("source", source.to_string()));
        let in_dev = rule.in_dev.as_ref().map(|dev| ("in_dev", dev.to_string()));
        let translate = rule.source_address == config::SourceAddress::Translate;
        let translate = translate.then(|| ("source_address", "translate".to_owned()));
        match source.or(in_dev).or(translate) {
            Some((key, value)) => {
                let message = format!("a port forward to several servers has no `{key}`");
                let refused = refuse(ErrorKind::Invalid, self.path().key(key), value, message);
                let hint = format!("leave `{key}` out, or lead to one server");
                Err(ConfigError { hint: Some(hint), ..refused })
            }
            None => Ok(()),
        }
    }

    fn build(&mut self, changes: &mut Changes) -> Result<(), ConfigError> {
        let old = self.compiler.entries.get(self.name).cloned();
        let before = old.as_ref().map(|entry| entry.service.as_ref());
        let keys = self.keys()?;
        let servers = self.servers(before)?;
        let spec = self.spec(before, &mut changes.classes)?;
        let kept: HashSet<_> = servers.iter().map(|server| server.slot).collect();
        let service = Service::new(spec, servers, &mut self.compiler.tables).map_err(|error| {
            refuse(ErrorKind::Invalid, self.path(), self.name, error.to_string())
        })?;
        if let Some(before) = before {
            changes.classes.give_back(before.spec().timeout_class);
            let left = before.servers().iter().filter(|server| !kept.contains(&server.slot));
            changes.gone.servers.extend(left.map(|server| gone(&before.spec().name, server)));
        }
        let service = Arc::new(service);
        if before.is_none_or(|before| before.shape() != service.shape()) {
            changes.cells.push(Arc::clone(&service));
        }
        changes.services.push((self.name.to_owned(), Some(Entry { service, keys })));
        Ok(())
    }

    fn keys(&self) -> Result<Vec<ServiceKey>, ConfigError> {
        let proto = Proto::from(self.service.protocol);
        let key = |(index, vip): (usize, &Endpoint)| {
            let path = || match self.forward {
                Some(_) => self.path().key("on"),
                None => self.path().key("vips").index(index),
            };
            let address = self.address(vip.address, path)?.to_ip();
            Ok(ServiceKey { zone: 0, proto, address, l4_port: vip.l4_port.0 })
        };
        self.service.vips.iter().enumerate().map(key).collect()
    }

    /// The number of an address; a port forward has those of IPv4 only.
    pub(super) fn address(
        &self,
        address: IpAddr,
        path: impl FnOnce() -> Path,
    ) -> Result<u128, ConfigError> {
        match self.forward {
            Some(_) => v4(address, path).map(map_v4),
            None => Ok(u128::from_ip(address).unwrap_or_default()),
        }
    }

    fn servers(&mut self, before: Option<&Service>) -> Result<Vec<Server>, ConfigError> {
        let config = self.config;
        let configured = self.service.resolved_servers(config);
        let known: HashMap<Endpoint, &Server> = before
            .map(Service::servers)
            .unwrap_or_default()
            .iter()
            .map(|server| (server.endpoint(), server))
            .collect();
        let mut servers = Vec::with_capacity(configured.len());
        for (index, wanted) in configured.iter().enumerate() {
            let (service, own) = (self.service, self.path());
            let key = if self.forward.is_some() { "to" } else { "servers" };
            let path = || match &service.servers {
                config::Servers::Group(group) => {
                    Path::of("server_groups").key(group).key("servers").index(index)
                }
                config::Servers::Inline(_) => own.key(key).index(index),
            };
            if self.down(wanted.address) == Some(OnFailure::Remove) {
                continue;
            }
            let address = self.address(wanted.address.address, || path().key("address"))?;
            let known = known.get(&wanted.address).copied();
            let slot = match known {
                Some(server) => server.slot,
                None => take(&mut self.compiler.server_slots, &mut self.taken.servers, path)?,
            };
            servers.push(self.server(wanted, address, slot, known, before.is_some()));
        }
        servers.extend(self.sorry(&known)?);
        Ok(servers)
    }

    fn server(
        &self,
        wanted: &config::Server,
        address: u128,
        slot: types::Slot,
        known: Option<&Server>,
        runs: bool,
    ) -> Server {
        let upper = wanted.limits.upper.unwrap_or(0);
        let mut server = Server::new(slot, address, wanted.address.l4_port.0);
        server.weight = wanted.weight;
        server.healthy = self.is_healthy(wanted.address);
        server.admin = match wanted.admin {
            config::Admin::Enabled => Admin::Enabled,
            config::Admin::Drain => Admin::Drain,
            config::Admin::Disabled => Admin::Disabled,
        };
        server.limits = Limits { upper, lower: wanted.limits.lower.unwrap_or(upper) };
        let duration_ms = u32::try_from(self.service.slow_start.as_ms()).unwrap_or(u32::MAX);
        if let Some(known) = known {
            server.quota = Arc::clone(&known.quota);
            server.slow_start = known.slow_start.filter(|_| duration_ms != 0);
        }
        // All servers of a new service are equally new.
        let came = runs && server.takes_new() && known.is_none_or(|known| !known.takes_new());
        if came && duration_ms != 0 {
            let from_tick_ms = self.now.tick_ms;
            server.slow_start = Some(SlowStart { from_tick_ms, duration_ms });
        }
        server
    }

    fn spec(
        &mut self,
        before: Option<&Service>,
        classes: &mut Classes,
    ) -> Result<ServiceSpec, ConfigError> {
        let (service, config) = (self.service, self.config);
        let before = before.map(Service::spec);
        let path = self.path();
        let (slot, name) = match before {
            Some(spec) => (spec.slot, Arc::clone(&spec.name)),
            None => {
                let slots = &mut self.compiler.service_slots;
                (take(slots, &mut self.taken.services, || path.clone())?, self.name.into())
            }
        };
        let timeouts = match self.forward {
            Some(rule) => TimeoutSet { gateway: true, ..timeout_set(&(&rule.timeouts).into()) },
            None => timeout_set(&service.resolved_timeouts(&config.conntrack.timeouts)),
        };
        let timeout_class = classes.take(timeouts).map_err(|error| {
            refuse(ErrorKind::Invalid, path.key("timeouts"), self.name, error.to_string())
        })?;
        let lips = match service.resolved_pool(config) {
            Some(pool) => pool_addresses(pool, || path.key("local_pool"))?,
            None => Vec::new(),
        };
        let (lips, lips_v6) = (lips_of(&lips), lips_of(&lips));
        let (lips, lips_v6) = match before {
            Some(spec) => (same_or(&spec.lips, lips), same_or(&spec.lips_v6, lips_v6)),
            None => (lips.into(), lips_v6.into()),
        };
        Ok(ServiceSpec {
            mode: match service.mode {
                config::Mode::Fullnat => Mode::FullNat,
                config::Mode::Nat => Mode::Nat,
            },
            scheduler: scheduler(service.scheduler),
            hash_by: match service.hash_by {
                config::HashBy::Source => HashBy::Source,
                config::HashBy::SourceAndPort => HashBy::SourceAndPort,
            },
            lips,
            lips_v6,
            on_not_syn: match service.on_not_syn {
                config::OnNotSyn::Drop => OnNotSyn::Drop,
                config::OnNotSyn::Reset => OnNotSyn::Reset,
            },
            on_no_server: refusal(service.on_no_server),
            on_limit: refusal(service.on_limit),
            client_address: match service.client_address() {
                config::ClientAddress::Toa => ClientAddress::Toa,
                config::ClientAddress::Option => ClientAddress::Option,
                config::ClientAddress::ProxyV1 => ClientAddress::ProxyV1,
                config::ClientAddress::ProxyV2 => ClientAddress::ProxyV2,
                config::ClientAddress::None => ClientAddress::None,
            },
            client_header: match service.proxy_protocol.client_header {
                config::ClientHeader::Replace => ClientHeader::Replace,
                config::ClientHeader::Trust => ClientHeader::Trust,
            },
            each_datagram: service.proxy_protocol.datagrams == config::Datagrams::Each,
            timeout_class,
            persistence: service.persistence.as_ref().map(persistence),
            one_packet: service.one_packet,
            reset_on_expiry: service.reset_on_expiry,
            evict_idle: service.evict_idle,
            max_connections: service.limits.max_connections.unwrap_or(0),
            quota: before.map_or_else(Arc::default, |spec| Arc::clone(&spec.quota)),
            ..ServiceSpec::new(slot, name, service.protocol.into())
        })
    }
}

/// The LIPs of one family.
fn lips_of<A: Address>(all: &[IpAddr]) -> Vec<A> {
    let of_family = |lip: &&IpAddr| lip.is_ipv4() == (A::BITS == u32::BITS as u8);
    all.iter().filter(of_family).filter_map(|lip| A::from_ip(*lip)).collect()
}

/// What was there if it is the same.
fn same_or<A: PartialEq>(before: &Arc<[A]>, now: Vec<A>) -> Arc<[A]> {
    if **before == *now { Arc::clone(before) } else { now.into() }
}

pub(super) fn take(
    slots: &mut SlotAllocator,
    taken: &mut Vec<types::Slot>,
    path: impl FnOnce() -> Path,
) -> Result<types::Slot, ConfigError> {
    let slot = slots.take().ok_or_else(|| {
        let message = format!("there are {} already, and no room for more", types::Slot::MAX);
        refuse(ErrorKind::Invalid, path(), types::Slot::MAX, message)
    })?;
    taken.push(slot);
    Ok(slot)
}

fn scheduler(configured: config::Scheduler) -> Scheduler {
    match configured {
        config::Scheduler::Rr => Scheduler::Rr,
        config::Scheduler::Wrr => Scheduler::Wrr,
        config::Scheduler::Wlc => Scheduler::Wlc,
        config::Scheduler::Lc => Scheduler::Lc,
        config::Scheduler::Conhash => Scheduler::Conhash,
        config::Scheduler::Mh => Scheduler::Mh,
        config::Scheduler::Sh => Scheduler::Sh,
    }
}

fn refusal(configured: config::Refusal) -> Refusal {
    match configured {
        config::Refusal::Drop => Refusal::Drop,
        config::Refusal::Reset => Refusal::Reset,
        config::Refusal::Unreachable => Refusal::Unreachable,
    }
}

fn persistence(configured: &config::Persistence) -> Persistence {
    Persistence {
        timeout_ms: u32::try_from(configured.timeout.as_ms()).unwrap_or(u32::MAX),
        v4: Remembered {
            prefix_len: u8::try_from(configured.prefix).unwrap_or(u8::MAX),
            capacity: PERSISTENCE_CAPACITY,
        },
        v6: Remembered {
            prefix_len: u8::try_from(configured.prefix_ipv6).unwrap_or(u8::MAX),
            capacity: PERSISTENCE_CAPACITY,
        },
    }
}
