//! Turns a configuration into the snapshot that workers run.
//!
//! A compilation has two halves. [`Compiler::plan`] builds what is new, shares what is not, and may be
//! refused; nothing has changed then. [`Compiler::commit`] makes the plan what the next one starts
//! from, and cannot fail. In between, control gives the workers what they need.

mod classes;
mod facts;
mod gateway;
mod lingering;
mod links;
mod network;
mod prepare;
mod ruled;
mod services;
mod wide;

use std::collections::HashMap;
use std::sync::Arc;

use balance::{ServiceKey, Services, TableCache};
use config::{Config, ConfigError, ErrorKind, Model, Path, Warning};
use fib::{Fib, FibConfig, NextHops};
use flow::TimeoutSet;
use steer::{Destination, Earlier, Steering};
use types::{Endpoint, Now, Slot, SlotAllocator};

use crate::snapshot::{INTERFACES_SPARE, Interface, KernelSide, Policy, Snapshot, Vlans};
use classes::Classes;
use lingering::Lingering;

pub use classes::timeout_set;
pub use facts::Facts;
pub use gateway::{
    GatewayNames, Kept, RuleKind, RuleName, Sizes, WanName, forwards_by_default, has_gateway,
    policy,
};
pub use lingering::Lingerer;
pub use network::refuse;
pub use ruled::Rulings;
pub use services::as_service;
pub use wide::{WideSizes, has_ipv6_service};

/// What a compilation starts from beside the configuration.
#[derive(Clone, Debug)]
pub struct Request {
    /// The configuration.
    pub config: Arc<Model>,
    /// The interfaces that were started, with the state of their links.
    pub started: Arc<[Interface]>,
    /// What the kernel has on their KNIs.
    pub kernel: Arc<KernelSide>,
    /// What holds for all services.
    pub policy: Policy,
    /// What the state of real servers makes of services.
    pub rulings: Arc<Rulings>,
    /// Gives the fib another generation, even if nothing of it has changed.
    pub renew_fib: bool,
    /// The workers' time, for slow starts.
    pub now: Now,
}

/// A compiled configuration that does not run yet.
#[derive(Debug)]
pub struct Plan {
    /// The configuration.
    pub config: Arc<Model>,
    /// What the workers shall run.
    pub snapshot: Arc<Snapshot>,
    /// Timeouts of the classes that change.
    pub timeouts: Vec<(u8, TimeoutSet)>,
    /// Whether the snapshot has another fib than its predecessor.
    pub fib_changed: bool,
    /// What no service has any more.
    pub gone: Gone,
    /// What is allowed, but has no effect.
    pub warnings: Vec<Warning>,
    rulings: Arc<Rulings>,
    /// Services that need a new cell on each worker.
    cells: Vec<Arc<balance::Service>>,
    service_chunks: std::ops::Range<usize>,
    server_chunks: std::ops::Range<usize>,
    fib_plan: Option<FibPlan>,
    started: Arc<[Interface]>,
    classes: Classes,
    services: Vec<(String, Option<Entry>)>,
    gateway: Option<gateway::Next>,
    /// The workers need tables for conns with an IPv6 side, and have none.
    wide: Option<WideSizes>,
    sizes: Sizes,
    taken: Taken,
}

/// Slots whose objects the plan leaves out.
#[derive(Debug, Default)]
pub struct Gone {
    /// Slots of services.
    pub services: Vec<Slot>,
    /// Real servers.
    pub servers: Vec<GoneServer>,
    /// Slots of rules of NAT.
    pub rules: Vec<Slot>,
}

/// A real server that its service has no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoneServer {
    /// The service.
    pub service: Arc<str>,
    /// Address and port.
    pub address: Endpoint,
    /// Its slot, which conns may still name.
    pub slot: Slot,
}

/// What workers have of a gateway that is not so any more.
#[derive(Clone, Debug, Default)]
pub struct Leftovers {
    /// WAN IPs in host order, with their places. Their conns are to be closed.
    pub wans: Vec<(u32, u16)>,
    /// Ports that are not kept any more, each with those of them that are.
    pub kept: Vec<(Kept, Vec<Kept>)>,
}

/// Slots taken for a plan, to be given back if it comes to nothing.
#[derive(Debug, Default)]
struct Taken {
    services: Vec<Slot>,
    servers: Vec<Slot>,
    rules: Vec<Slot>,
}

/// What a fib is compiled from.
#[derive(Clone, Debug)]
struct FibPlan {
    config: FibConfig,
    /// The LIPs among its addresses that are not configured any more.
    lingering: Lingering,
}

/// What is remembered of a service that runs.
#[derive(Clone, Debug)]
struct Entry {
    service: Arc<balance::Service>,
    keys: Vec<ServiceKey>,
}

/// What runs, and what is needed to build on it.
#[derive(Debug)]
pub struct Compiler {
    steering: Arc<Steering>,
    config: Arc<Model>,
    snapshot: Arc<Snapshot>,
    started: Arc<[Interface]>,
    /// Interfaces that the workers count for.
    interfaces_max: usize,
    fib_plan: FibPlan,
    rulings: Arc<Rulings>,
    entries: HashMap<String, Entry>,
    service_slots: SlotAllocator,
    server_slots: SlotAllocator,
    rule_slots: SlotAllocator,
    gateway: gateway::Running,
    sizes: Sizes,
    /// Of the tables for conns with an IPv6 side.
    wide: WideSizes,
    /// The workers have none yet.
    wide_pending: bool,
    /// Chunks of cells that the workers have room for.
    chunks: (usize, usize),
    tables: TableCache,
    classes: Classes,
    /// Destinations without conns of earlier steering, by the snapshot that changed it: the next plan
    /// forgets them.
    idle: Vec<(Destination, u64)>,
}

impl Compiler {
    /// Nothing but interfaces; `config` gives what cannot change before the next start.
    ///
    /// # Errors
    /// If the interfaces themselves cannot be.
    pub fn new(
        config: &Config,
        facts: Facts,
        next_hops: Arc<NextHops>,
    ) -> Result<Self, ConfigError> {
        let empty = Config {
            addresses: Vec::new(),
            routes: Vec::new(),
            neighbours: Vec::new(),
            local_address_pools: Default::default(),
            server_groups: Default::default(),
            services: Default::default(),
            snat: Default::default(),
            dnat: Default::default(),
            forwarding: Default::default(),
            ..config.clone()
        };
        let conntrack = timeout_set(&empty.conntrack.timeouts);
        let fib_plan = network::fib_plan(&empty, &facts, Lingering::default())?;
        let (model, _) = Model::new(empty).map_err(first)?;
        let interfaces_max = facts.interfaces.len() + INTERFACES_SPARE;
        let fib = Fib::new(&fib_plan.config, 1).map_err(|error| network::refused(&error))?;
        let snapshot = Snapshot {
            generation: 0,
            services: Services::default(),
            fib: Arc::new(fib),
            next_hops,
            steering: Arc::clone(&facts.steering),
            earlier: Arc::default(),
            gateway: None,
            vlans: Arc::new(Vlans::of(&facts.interfaces)),
            interfaces: facts.interfaces,
            kernel: facts.kernel,
            policy: Policy::default(),
        };
        Ok(Self {
            steering: facts.steering,
            classes: Classes::new(conntrack),
            config: Arc::new(model),
            snapshot: Arc::new(snapshot),
            started: facts.started,
            interfaces_max,
            fib_plan,
            rulings: Arc::default(),
            entries: HashMap::new(),
            service_slots: SlotAllocator::default(),
            server_slots: SlotAllocator::default(),
            rule_slots: SlotAllocator::default(),
            gateway: gateway::Running::default(),
            sizes: Sizes {
                max_connections: config.conntrack.max_connections,
                seed: facts.nat_seed,
            },
            wide: WideSizes::of(config),
            wide_pending: true,
            chunks: (0, 0),
            tables: TableCache::default(),
            idle: Vec::new(),
        })
    }

    /// What runs.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// The interfaces that were started, with the state of their links that runs.
    pub fn started(&self) -> &Arc<[Interface]> {
        &self.started
    }

    /// What runs, as configured.
    pub fn config(&self) -> &Arc<Model> {
        &self.config
    }

    /// Builds what the request asks for on top of what runs.
    ///
    /// # Errors
    /// If it cannot be; nothing has changed.
    pub fn plan(&mut self, request: Request) -> Result<Plan, ConfigError> {
        let mut taken = Taken::default();
        let plan = self.try_plan(request, &mut taken);
        match plan {
            Ok(plan) => Ok(Plan { taken, ..plan }),
            Err(error) => {
                self.release(taken);
                Err(error)
            }
        }
    }

    fn try_plan(&mut self, request: Request, taken: &mut Taken) -> Result<Plan, ConfigError> {
        let Request { config, started, kernel, policy, rulings, renew_fib, now } = request;
        let interfaces =
            links::with_vlans(&started, &config, &self.snapshot.interfaces, self.interfaces_max)?;
        let mut changes = services::compile(self, (&config, &rulings), now, taken)?;
        let (steering, nat_seed) = (Arc::clone(&self.steering), self.sizes.seed);
        let facts = Facts { started, interfaces, steering, nat_seed, kernel };
        let gateway = gateway::compile(self, &config, &facts, &mut changes, &mut taken.rules)?;
        let addresses = changes.addresses || gateway.is_some();
        let (fib_plan, fib) = self.fib(&config, &facts, addresses, renew_fib)?;
        let after = fib.as_ref().unwrap_or(&self.snapshot.fib);
        let warnings = network::off_link(&config, &facts, after);
        let before = &self.snapshot;
        let (interfaces, vlans) = match facts.interfaces == before.interfaces {
            true => (Arc::clone(&before.interfaces), Arc::clone(&before.vlans)),
            false => {
                let vlans = Vlans::of(&facts.interfaces);
                (facts.interfaces, Arc::new(vlans))
            }
        };
        let services = changes.apply(&before.services, &self.entries);
        let gateway_after = match &gateway {
            Some(next) => Some(Arc::clone(&next.gateway)),
            None => before.gateway.clone(),
        };
        let changed = changes.keys(&self.entries);
        let earlier = before.earlier_after(&services, changed, gateway_after.as_ref());
        let snapshot = Snapshot {
            generation: before.generation + 1,
            services,
            fib: fib.clone().unwrap_or_else(|| Arc::clone(&before.fib)),
            next_hops: Arc::clone(&before.next_hops),
            steering: Arc::clone(&self.steering),
            earlier: self.without_idle(earlier),
            gateway: gateway_after,
            interfaces,
            vlans,
            kernel: facts.kernel,
            policy: gateway::policy(&config, policy),
        };
        let (services, servers) = self.chunks;
        let wide = (self.wide_pending && changes.ipv6).then_some(self.wide);
        Ok(Plan {
            config,
            snapshot: Arc::new(snapshot),
            timeouts: changes.classes.since(&self.classes),
            fib_changed: fib.is_some(),
            gone: Gone {
                rules: gateway.as_ref().map(|next| next.gone.clone()).unwrap_or_default(),
                ..changes.gone
            },
            warnings,
            rulings,
            cells: changes.cells,
            service_chunks: services..chunks(&self.service_slots).max(services),
            server_chunks: servers..chunks(&self.server_slots).max(servers),
            fib_plan,
            wide,
            started: facts.started,
            classes: changes.classes,
            services: changes.services,
            gateway,
            sizes: self.sizes,
            taken: Taken::default(),
        })
    }

    /// What the fib is to be compiled from, `None` if that is as before; and the fib, if it is
    /// another.
    fn fib(
        &self,
        config: &Config,
        facts: &Facts,
        addresses: bool,
        renew: bool,
    ) -> Result<(Option<FibPlan>, Option<Arc<Fib>>), ConfigError> {
        let (before, running) = (&self.config, &self.fib_plan);
        let untouched = !addresses
            && before.addresses == config.addresses
            && before.routes == config.routes
            && links::route_alike(&facts.interfaces, &self.snapshot.interfaces)
            && facts.kernel == self.snapshot.kernel
            && !running.lingering.has_idle();
        let generation = fib::next_generation(self.snapshot.fib.generation());
        let compile = |config: &FibConfig| Fib::new(config, generation).map(Arc::new);
        let refused = |error: fib::FibError| network::refused(&error);
        if untouched {
            let fib = renew.then(|| compile(&running.config)).transpose().map_err(refused)?;
            return Ok((None, fib));
        }
        let lingering = running.lingering.next(&running.config, self.snapshot.generation + 1);
        let wanted = network::fib_plan(config, facts, lingering)?;
        if wanted.config == running.config && !renew {
            return Ok((Some(wanted), None));
        }
        let (wanted, fib) = match compile(&wanted.config) {
            // What is gone cannot be why something new is refused.
            Err(_) if !wanted.lingering.is_empty() => {
                let wanted = network::fib_plan(config, facts, Lingering::default())?;
                let fib = compile(&wanted.config);
                (wanted, fib)
            }
            fib => (wanted, fib),
        };
        Ok((Some(wanted), Some(fib.map_err(refused)?)))
    }

    /// Makes a plan, whose parts the workers have, what the next one starts from. What is gone is
    /// to be given back once no worker has it: [`Compiler::give_back`].
    pub fn commit(&mut self, plan: Plan) -> Gone {
        for (name, entry) in plan.services {
            match entry {
                Some(entry) => _ = self.entries.insert(name, entry),
                None => _ = self.entries.remove(&name),
            }
        }
        if let Some(fib_plan) = plan.fib_plan {
            self.fib_plan = fib_plan;
        }
        self.chunks = (plan.service_chunks.end, plan.server_chunks.end);
        if let Some(gateway) = plan.gateway {
            self.gateway = gateway.commit();
        }
        self.wide_pending &= plan.wide.is_none();
        self.classes = plan.classes;
        self.config = plan.config;
        self.rulings = plan.rulings;
        self.started = plan.started;
        self.snapshot = plan.snapshot;
        self.idle.clear();
        plan.gone
    }

    /// Forgets a plan.
    pub fn abandon(&mut self, plan: Plan) {
        if let Some(next) = &plan.gateway {
            self.gateway.abandoned(next);
        }
        self.release(plan.taken);
    }

    /// Slots that no worker and no conn names any more.
    pub fn give_back(&mut self, services: &[Slot], servers: &[Slot]) {
        for slot in services {
            self.service_slots.give_back(*slot);
        }
        for slot in servers {
            self.server_slots.give_back(*slot);
        }
        self.gateway.forget_servers(servers);
    }

    /// Slots of rules that no worker and no conn names any more.
    pub fn give_back_rules(&mut self, rules: &[Slot]) {
        for slot in rules {
            self.rule_slots.give_back(*slot);
        }
    }

    /// The rules of NAT that run with their slots, and the WAN IPs with their places.
    pub fn gateway_names(&self) -> &Arc<GatewayNames> {
        self.gateway.names()
    }

    /// What workers still have of the gateway that nobody wants any more.
    pub fn gateway_leftovers(&self) -> Leftovers {
        Leftovers { wans: self.gateway.leaving(), kept: self.gateway.given_up() }
    }

    /// No worker has this WAN IP any more.
    pub fn wan_removed(&mut self, address: u32) {
        self.gateway.removed(address);
    }

    /// No worker keeps these ports any more.
    pub fn ports_freed(&mut self, kept: &Kept) {
        self.gateway.freed(kept);
    }

    /// No conn of earlier steering goes to these any more: the next plan forgets it.
    pub fn forget_earlier(&mut self, idle: Vec<(Destination, u64)>) {
        self.idle = idle;
    }

    /// True if the next plan forgets something even if nothing is changed.
    pub fn forgets(&self) -> bool {
        !self.idle.is_empty()
    }

    /// What is left to remember of earlier steering.
    fn without_idle(&self, earlier: Arc<Earlier>) -> Arc<Earlier> {
        if self.idle.is_empty() {
            return earlier;
        }
        let mut left = Earlier::clone(&earlier);
        for (destination, since) in &self.idle {
            left.forget(*destination, *since);
        }
        Arc::new(left)
    }

    fn release(&mut self, taken: Taken) {
        self.give_back(&taken.services, &taken.servers);
        self.give_back_rules(&taken.rules);
    }
}

/// The first of several errors; there is one.
fn first(errors: Vec<ConfigError>) -> ConfigError {
    let none =
        || refuse(ErrorKind::Invalid, Path::root(), "", "refused without a reason".to_owned());
    errors.into_iter().next().unwrap_or_else(none)
}

/// Chunks of cells for all slots that an allocator has given out.
fn chunks(slots: &SlotAllocator) -> usize {
    slots.high_water().div_ceil(balance::CHUNK_LEN)
}

#[cfg(test)]
mod tests;
