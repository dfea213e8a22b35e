//! Compiles rules of NAT and forwarding, with the slots and places of WAN IPs that they have or new ones.

mod build;
mod names;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use config::{Config, ConfigError, ErrorKind, ForwardingPolicy, Path};
use fib::RouteKind;
use nat::gateway::{GatewayConfig, Topology};
use nat::state::NatConfig;
use nat::{Gateway, NatState};
use pool::wan::AddressPorts;
use steer::Steering;
use types::{Address, ClassSet, Proto, Slot, WorkerId};

use super::lingering::Lingering;
use super::network::{self, refuse};
use super::services::Changes;
use super::{Compiler, Facts};
use crate::snapshot::{NatEvents, Policy, ReversePath};
use crate::worker::link::{GatewayWork, ITEMS_MAX, PortsKept};
use build::Build;
pub use names::{GatewayNames, RuleKind, RuleName, WanName};

/// Slots of rules are below it: rules that run and those whose conns go on.
const RULES_MAX: u32 = 1 << 15;
/// SYNs from outside that nobody expected, on each worker.
const HELD_SYNS: u32 = 1024;
/// Ports that one command keeps or gives free.
const PORTS_MAX: u16 = 2048;

/// What a worker's NAT state is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Conns of each worker.
    pub max_connections: u32,
    /// Secret, the same on all workers.
    pub seed: [u64; 2],
}

impl Sizes {
    /// The size of a worker's state: whatever its conns may be.
    pub fn of(&self, steering: &Steering, worker: WorkerId) -> NatConfig {
        self.with(steering.wan_classes_of(worker), worker)
    }

    const fn with(&self, classes: ClassSet, worker: WorkerId) -> NatConfig {
        NatConfig {
            classes,
            max_addresses: u16::MAX,
            max_mappings: self.max_connections,
            max_peers: self.max_connections,
            max_subscribers: self.max_connections,
            max_leases: self.max_connections,
            max_resting: self.max_connections,
            max_rules: RULES_MAX,
            max_held_syns: HELD_SYNS,
            seed: self.seed,
            worker: worker.0,
        }
    }

    /// Bytes that a worker's state reserves, without the ports of WAN IPs.
    pub fn reserved_bytes(&self) -> u64 {
        NatState::reserved_bytes(&self.with(ClassSet::ALL, WorkerId(0)))
    }
}

/// Ports of a WAN IP that are kept for a port forward.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kept {
    /// The WAN IP's place.
    pub place: u16,
    /// IANA protocol number.
    pub(super) proto: u8,
    pub(super) first: u16,
    pub(super) last: u16,
}

impl Kept {
    /// The protocol; `None` if it has no ports.
    pub const fn proto(&self) -> Option<Proto> {
        Proto::from_number(self.proto)
    }

    /// The ports.
    pub const fn l4_ports(&self) -> RangeInclusive<u16> {
        self.first..=self.last
    }

    /// What tells a worker to keep the ports, or not to, in portions.
    pub fn work(&self, reserved: bool) -> Vec<GatewayWork> {
        let (Some(proto), place) = (self.proto(), self.place) else { return Vec::new() };
        let starts = (self.first..=self.last).step_by(usize::from(PORTS_MAX));
        let portion = |first: u16| {
            let l4_ports = first..=self.last.min(first.saturating_add(PORTS_MAX - 1));
            let ports = Some(PortsKept { place, proto, l4_ports, reserved });
            GatewayWork { ports, ..GatewayWork::default() }
        };
        starts.map(portion).collect()
    }

    /// What is left of it without others.
    pub fn without(&self, others: &[Self]) -> Vec<Self> {
        let mut left = vec![(u32::from(self.first), u32::from(self.last))];
        for other in others.iter().filter(|other| self.overlaps(other)) {
            let (first, last) = (u32::from(other.first), u32::from(other.last));
            let pieces = left.iter().flat_map(|&(from, to)| {
                [(from, to.min(first.saturating_sub(1))), (from.max(last + 1), to)]
            });
            left = pieces.filter(|(from, to)| from <= to).collect();
        }
        let piece = |(first, last): (u32, u32)| Self {
            first: first as u16,
            last: last as u16,
            ..self.clone()
        };
        left.into_iter().map(piece).collect()
    }

    const fn overlaps(&self, other: &Self) -> bool {
        self.place == other.place
            && self.proto == other.proto
            && self.first <= other.last
            && other.first <= self.last
    }
}

/// A rule or port forward that runs.
#[derive(Clone, Copy, Debug)]
struct Known {
    slot: Slot,
    timeout_class: Option<u8>,
}

/// What is remembered of the gateway that runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Running {
    rules: BTreeMap<RuleName, Known>,
    /// WAN IPs that workers have.
    places: BTreeMap<u32, u16>,
    /// Those of them that no rule has.
    leaving: BTreeSet<u32>,
    /// What workers keep for port forwards.
    kept: BTreeSet<Kept>,
    /// What of it is wanted.
    wanted: BTreeSet<Kept>,
    /// What some workers may keep for port forwards that were refused because others did not answer.
    doubtful: BTreeSet<Kept>,
    /// Endpoints whose replies name clients' own addresses, with those that are gone but may have conns.
    servers: BTreeMap<Slot, (u32, u16, u8)>,
    names: Arc<GatewayNames>,
    /// Workers have a NAT state.
    started: bool,
}

/// What a plan makes of it, if it is another.
#[derive(Clone, Debug)]
pub(super) struct Next {
    pub gateway: Arc<Gateway>,
    running: Running,
    /// What workers need before.
    begun: Vec<Slot>,
    added: Vec<u16>,
    kept: Vec<Kept>,
    starts: bool,
    /// Slots that rules had.
    pub gone: Vec<Slot>,
}

impl Running {
    pub fn names(&self) -> &Arc<GatewayNames> {
        &self.names
    }

    /// WAN IPs and their places that no rule has any more, and that workers still have.
    pub fn leaving(&self) -> Vec<(u32, u16)> {
        let place = |address: &u32| Some((*address, *self.places.get(address)?));
        self.leaving.iter().filter_map(place).collect()
    }

    /// No worker has this WAN IP any more.
    pub fn removed(&mut self, address: u32) {
        if self.leaving.remove(&address)
            && let Some(place) = self.places.remove(&address)
        {
            self.kept.retain(|kept| kept.place != place);
            self.doubtful.retain(|kept| kept.place != place);
        }
    }

    /// Workers may have what this asked of them, and it does not come to be. (A WAN IP that is new in it has no place
    /// here, and whoever gets that place begins with all its ports.)
    pub fn abandoned(&mut self, next: &Next) {
        let there: BTreeSet<u16> = self.places.values().copied().collect();
        let kept = next.kept.iter().filter(|kept| there.contains(&kept.place));
        self.doubtful.extend(kept.cloned());
    }

    /// What workers still keep for port forwards that are gone, each with what they shall keep of it.
    pub fn given_up(&self) -> Vec<(Kept, Vec<Kept>)> {
        let all = self.kept.union(&self.doubtful);
        let gone = all.filter(|kept| !self.wanted.contains(*kept));
        let still = |gone: &Kept| -> Vec<Kept> {
            self.wanted.iter().filter(|kept| kept.overlaps(gone)).cloned().collect()
        };
        gone.map(|gone| (gone.clone(), still(gone))).collect()
    }

    /// No worker keeps these any more.
    pub fn freed(&mut self, kept: &Kept) {
        self.kept.remove(kept);
        self.doubtful.remove(kept);
    }

    /// No conn names these real servers any more.
    pub fn forget_servers(&mut self, servers: &[Slot]) {
        for slot in servers {
            self.servers.remove(slot);
        }
    }
}

impl Next {
    pub fn commit(self) -> Running {
        Running { started: true, ..self.running }
    }

    /// What a worker needs before it runs this, in portions.
    ///
    /// # Errors
    /// If it cannot have a NAT state of this size.
    pub fn prepare(
        &self,
        sizes: &Sizes,
        steering: &Steering,
        worker: WorkerId,
    ) -> Result<Vec<GatewayWork>, ConfigError> {
        let mut portions = Vec::new();
        let mut portion = |work| portions.push(work);
        if self.starts {
            let state = NatState::new(&sizes.of(steering, worker)).map_err(|error| {
                let path = Path::of("conntrack").key("max_connections");
                refuse(ErrorKind::Invalid, path, sizes.max_connections, error.to_string())
            })?;
            portion(GatewayWork { state: Some(Box::new(state)), ..GatewayWork::default() });
        }
        for slots in self.begun.chunks(ITEMS_MAX) {
            portion(GatewayWork { begun: slots.to_vec(), ..GatewayWork::default() });
        }
        let classes = steering.wan_classes_of(worker);
        for places in self.added.chunks(ITEMS_MAX) {
            let ports = |place: &u16| (*place, Some(Box::new(AddressPorts::new(classes))));
            let wans = places.iter().map(ports).collect();
            portion(GatewayWork { wans, ..GatewayWork::default() });
        }
        portions.extend(self.kept.iter().flat_map(|kept| kept.work(true)));
        Ok(portions)
    }
}

/// What holds for all services by the configuration.
pub fn policy(config: &Config, policy: Policy) -> Policy {
    let reverse_path = match config.forwarding.reverse_path {
        config::ReversePath::Off => ReversePath::Off,
        config::ReversePath::Loose => ReversePath::Loose,
        config::ReversePath::Strict => ReversePath::Strict,
    };
    let nat_log = match config.nat_log.events {
        config::NatEvents::Off => NatEvents::Off,
        config::NatEvents::Mappings => NatEvents::Mappings,
        config::NatEvents::Sessions => NatEvents::Sessions,
    };
    let rs_time_wait_ms = config.conntrack.rs_time_wait.as_ms();
    let rs_time_wait_ms = u32::try_from(rs_time_wait_ms).unwrap_or(u32::MAX);
    Policy { reverse_path, nat_log, rs_time_wait_ms, ..policy }
}

/// Whether the gateway has to be compiled anew.
fn is_touched(compiler: &Compiler, config: &Config, facts: &Facts, changes: &Changes) -> bool {
    let before = &compiler.config;
    let has_nat = |name: &str| {
        let old = compiler.entries.get(name).map(|entry| entry.service.spec().mode);
        old == Some(balance::Mode::Nat)
    };
    let new_nat = |entry: &Option<super::Entry>| {
        entry.as_ref().is_some_and(|entry| entry.service.spec().mode == balance::Mode::Nat)
    };
    before.snat != config.snat
        || before.dnat != config.dnat
        || before.forwarding != config.forwarding
        || before.addresses != config.addresses
        || before.routes != config.routes
        || compiler.snapshot.kernel != facts.kernel
        || !super::links::route_alike(&compiler.snapshot.interfaces, &facts.interfaces)
        || changes.services.iter().any(|(name, entry)| has_nat(name) || new_nat(entry))
}

/// What becomes of packets that no rule of forwarding matches.
pub fn forwards_by_default(config: &Config) -> bool {
    match config.forwarding.policy {
        ForwardingPolicy::Accept => true,
        ForwardingPolicy::Drop => false,
        ForwardingPolicy::Auto => {
            !config.snat.is_empty()
                || !config.dnat.is_empty()
                || !config.forwarding.rules.is_empty()
        }
    }
}

/// Whether the configuration asks for a gateway, services in NAT mode aside.
pub fn has_gateway(config: &Config) -> bool {
    !config.snat.is_empty()
        || !config.dnat.is_empty()
        || !config.forwarding.rules.is_empty()
        || config.forwarding.policy == ForwardingPolicy::Accept
}

/// Compiles the gateway; `None` if it is as before. What is taken is in `taken`.
///
/// # Errors
/// If something cannot be.
pub(super) fn compile(
    compiler: &mut Compiler,
    config: &Config,
    facts: &Facts,
    changes: &mut Changes,
    taken: &mut Vec<Slot>,
) -> Result<Option<Next>, ConfigError> {
    if !is_touched(compiler, config, facts, changes) {
        return Ok(None);
    }
    let servers = nat_servers(compiler, changes);
    let wanted = has_gateway(config) || !servers.is_empty();
    if !wanted && compiler.snapshot.gateway.is_none() {
        return Ok(None);
    }
    let old = compiler.gateway.clone();
    let taken_places: BTreeSet<u16> = old.places.values().copied().collect();
    let mut build = Build {
        config,
        facts,
        slots: &mut compiler.rule_slots,
        classes: &mut changes.classes,
        taken,
        old: &old,
        rules: BTreeMap::new(),
        places: old.places.clone(),
        free: Box::new((0..u16::MAX).filter(move |place| !taken_places.contains(place))),
        used: BTreeMap::new(),
        wanted: BTreeSet::new(),
        names: GatewayNames::default(),
        withheld: rules::withheld(config, facts),
    };
    let rules = build.snat()?;
    let forwards = build.dnat()?;
    let forwarding = build.forwarding()?;
    let endpoints = servers.values().copied().collect();
    let topology = topology(config, facts)?;
    let gateway =
        Gateway::new(GatewayConfig { rules, forwards, servers: endpoints, forwarding, topology });
    let gateway = gateway.map_err(|error| {
        refuse(ErrorKind::Invalid, Path::of("snat"), config.snat.len(), error.to_string())
    })?;
    Ok(Some(build.finish(gateway, servers)))
}

/// What of IPv4 lies on which interface.
fn topology(config: &Config, facts: &Facts) -> Result<Topology, ConfigError> {
    let fib = network::fib_plan(config, facts, Lingering::default())?.config;
    let ours = fib.addresses.iter();
    let wans = ours.filter_map(|entry| Some((u32::from_ip(entry.address)?, entry.iface))).collect();
    let subnet = |address: IpAddr, prefix_len: u8| {
        let hosts = u32::MAX.checked_shr(prefix_len.into()).unwrap_or(0);
        u32::from_ip(address).map(|address| (address & !hosts)..=(address | hosts))
    };
    let own = fib.addresses.iter().filter(|entry| entry.prefix_len < 32);
    let own = own.filter_map(|entry| Some((subnet(entry.address, entry.prefix_len)?, entry.iface)));
    let unicast = fib.routes.iter().filter(|route| route.kind == RouteKind::Unicast);
    let routes = unicast.filter_map(|route| {
        let prefix = route.prefix;
        Some((subnet(prefix.network(), prefix.prefix_len())?, route.iface))
    });
    Ok(Topology { wans, networks: own.chain(routes).collect() })
}

/// The real servers of services in NAT mode, by slot, and those that conns may still name.
fn nat_servers(compiler: &Compiler, changes: &Changes) -> BTreeMap<Slot, (u32, u16, u8)> {
    let changed: BTreeMap<_, _> =
        changes.services.iter().map(|(name, entry)| (name.as_str(), entry.as_ref())).collect();
    let same = compiler.entries.iter().filter(|(name, _)| !changed.contains_key(name.as_str()));
    let all = same.map(|(_, entry)| entry).chain(changed.values().copied().flatten());
    let mut servers = compiler.gateway.servers.clone();
    for entry in all.filter(|entry| entry.service.spec().mode == balance::Mode::Nat) {
        let proto = entry.service.spec().proto.number();
        let servers_of = entry.service.servers().iter();
        servers.extend(servers_of.filter_map(|server| {
            let address = u32::from_ip(server.address)?;
            Some((server.slot, (address, server.l4_port, proto)))
        }));
    }
    servers
}

/// The addresses that rules translate to or lead on from, each with the interface that a rule names.
///
/// # Errors
/// If an interface is not there, or an address is no IPv4 address.
pub(super) fn wan_addresses(
    config: &Config,
    facts: &Facts,
) -> Result<BTreeMap<u32, Option<types::EthPortId>>, ConfigError> {
    let mut all = BTreeMap::new();
    for (name, rule) in &config.snat {
        let path = Path::of("snat").key(name);
        let out_dev = rule.matches.out_dev.as_ref();
        let out_dev = out_dev
            .map(|dev| facts.interface(dev, || path.key("match").key("out_dev")))
            .transpose()?;
        for wan in rules::wans((config, rule), facts, &BTreeSet::new(), &path)? {
            let dev = all.entry(wan.address).or_insert(None);
            *dev = dev.or(wan.iface).or(out_dev);
        }
    }
    for (name, rule) in &config.dnat {
        let path = Path::of("dnat").key(name).key("on");
        all.entry(rules::endpoints(rule.on, &path)?.0).or_insert(None);
    }
    Ok(all)
}
