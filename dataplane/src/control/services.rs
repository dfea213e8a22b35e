//! Services, their real servers and LIPs: shown and changed.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use api::{
    ErrorBody, LipInfo, NewLip, Removal, RemovedConns, ServerHealth, ServerInfo, ServerSettings,
    ServiceInfo, ServiceQuery, Traffic, Warnings,
};
use balance::ServiceKey;
use config::{Admin, Config, Model, OnFailure, Pool, Protocol, Servers, Service, Warning};
use types::{Endpoint, Proto, Slot};

use super::compile::{Rulings, as_service};
use super::retire::Leaving;
use super::{Control, Reply, State, blocking, not_found};
use crate::snapshot::Snapshot;
use crate::worker::link::ConnFilter;

impl Control {
    /// Services with their real servers, LIPs and traffic.
    ///
    /// # Errors
    /// If a worker does not answer.
    pub async fn services(&self, query: &ServiceQuery) -> Reply<Vec<ServiceInfo>> {
        let running = self.state().running();
        let names = running.chosen(query);
        self.service_infos(running, names).await
    }

    /// One service.
    ///
    /// # Errors
    /// If there is none of this name, or a worker does not answer.
    pub async fn service(&self, name: &str) -> Reply<ServiceInfo> {
        let running = self.state().running();
        if !running.config.services.contains_key(name) {
            return Err(no_service(name));
        }
        let infos = self.service_infos(running, vec![name.to_owned()]).await?;
        infos.into_iter().next().ok_or_else(|| no_service(name))
    }

    /// Adds a service.
    ///
    /// # Errors
    /// If there is one of this name, or it cannot be.
    pub async fn add_service(&self, name: String, service: Service) -> Reply<Warnings> {
        self.edit(move |model| model.add_service(&name, service).map_err(ErrorBody::from_config))
            .await
    }

    /// Changes a service by a JSON merge patch (RFC 7396). Its established conns go on.
    ///
    /// # Errors
    /// If there is none, or it cannot be.
    pub async fn set_service(&self, name: String, patch: serde_json::Value) -> Reply<Warnings> {
        self.edit(move |model| {
            let current = model.services.get(&name).ok_or_else(|| no_service(&name))?;
            let service = api::merge_patch(&**current, patch)?;
            model.set_service(&name, service).map_err(ErrorBody::from_config)
        })
        .await
    }

    /// Removes a service; its conns go on or are closed.
    ///
    /// # Errors
    /// If there is none.
    pub async fn delete_service(&self, name: String, removal: Removal) -> Reply<Warnings> {
        let slot = self.state().compiled(&name).map(|service| service.spec().slot);
        let path = format!("services.{name}");
        let mut warnings = self
            .edit(move |model| model.delete_service(&name).map_err(ErrorBody::from_config))
            .await?;
        if let (Some(slot), RemovedConns::Reset) = (slot, removal.connections) {
            let filter = ConnFilter { service: Some(slot), ..ConnFilter::default() };
            warnings.warnings.extend(self.close_removed(filter, &path).await);
        }
        Ok(warnings)
    }

    /// Real servers of a service.
    ///
    /// # Errors
    /// If there is no such service, or a worker does not answer.
    pub async fn servers(&self, name: &str) -> Reply<Vec<ServerInfo>> {
        Ok(self.service(name).await?.servers)
    }

    /// Adds a real server; to the group, if the service has one.
    ///
    /// # Errors
    /// If it is there already, or cannot be.
    pub async fn add_server(
        &self,
        name: String,
        address: Endpoint,
        settings: ServerSettings,
    ) -> Reply<Warnings> {
        self.edit(move |model| {
            model.add_server(&name, settings.at(address)).map_err(ErrorBody::from_config)
        })
        .await
    }

    /// Changes a real server by a JSON merge patch (RFC 7396).
    ///
    /// # Errors
    /// If there is none, or it cannot be.
    pub async fn set_server(
        &self,
        name: String,
        address: Endpoint,
        patch: serde_json::Value,
    ) -> Reply<Warnings> {
        self.edit(move |model| {
            let server = model.server(&name, address)?;
            let current = ServerSettings {
                weight: server.weight,
                admin: server.admin,
                limits: server.limits.clone(),
                health: server.health.clone(),
            };
            let server = api::merge_patch(&current, patch)?.at(address);
            model.set_server(&name, server).map_err(ErrorBody::from_config)
        })
        .await
    }

    /// Removes a real server; its conns go on or are closed.
    ///
    /// # Errors
    /// If there is none.
    pub async fn delete_server(
        &self,
        name: String,
        address: Endpoint,
        removal: Removal,
    ) -> Reply<Warnings> {
        // A group's server is one of each service that has the group.
        let slots = self.state().server_slots(&name, address);
        let path = format!("services.{name}.servers[{address}]");
        let mut warnings = self
            .edit(move |model| model.delete_server(&name, address).map_err(ErrorBody::from_config))
            .await?;
        if removal.connections == RemovedConns::Reset {
            for slot in slots {
                let filter = ConnFilter { server: Some(slot), ..ConnFilter::default() };
                warnings.warnings.extend(self.close_removed(filter, &path).await);
            }
        }
        Ok(warnings)
    }

    /// Local addresses of a service, with the conns that use them.
    ///
    /// # Errors
    /// If there is no such service, or a worker does not answer.
    pub async fn lips(&self, name: &str) -> Reply<Vec<LipInfo>> {
        let config = self.config();
        let service = config.services.get(name).ok_or_else(|| no_service(name))?;
        let mut lips = lips_of(service, &config);
        let mut counts: HashMap<IpAddr, u64> = HashMap::new();
        self.for_each_conn(ConnFilter::default(), |record| {
            *counts.entry(record.reverse.destination.address).or_default() += 1;
        })
        .await?;
        for lip in &mut lips {
            lip.connections = counts.get(&lip.address).copied().unwrap_or(0);
        }
        Ok(lips)
    }

    /// Adds local addresses; to the pool, if the service has one by name.
    ///
    /// # Errors
    /// If they are there already, or cannot be.
    pub async fn add_lips(&self, name: String, new: NewLip) -> Reply<Warnings> {
        self.edit(move |model| {
            let NewLip { addresses, dev } = new;
            model.add_lip(&name, addresses, dev.as_deref()).map_err(ErrorBody::from_config)
        })
        .await
    }

    /// Removes a local address; from the pool, if the service has one by name.
    ///
    /// # Errors
    /// If there is none.
    pub async fn delete_lip(&self, name: String, address: IpAddr) -> Reply<Warnings> {
        self.edit(move |model| model.delete_lip(&name, address).map_err(ErrorBody::from_config))
            .await
    }

    /// Closes the conns of what has been removed. The removal stands, so a failure is a warning.
    pub(super) async fn close_removed(&self, filter: ConnFilter, path: &str) -> Option<Warning> {
        let error = self.close_all(filter).await.err()?;
        let message = format!("it is removed, but not all of its conns are closed: {error}");
        Some(Warning { path: path.to_owned(), message })
    }

    /// Closes all conns that a filter chooses; both ends of established TCP conns are told.
    async fn close_all(&self, filter: ConnFilter) -> Reply<u64> {
        let workers: Vec<_> = self.state().workers.ids().collect();
        let mut closed = 0;
        for worker in workers {
            closed += self.close_chosen(worker, filter).await?;
        }
        Ok(closed)
    }

    /// Services by name; a port forward to several servers is one of the name `dnat/NAME`.
    pub(super) async fn service_infos(
        &self,
        running: Running,
        names: Vec<String>,
    ) -> Reply<Vec<ServiceInfo>> {
        let (found, services, servers) = blocking(move || {
            let found: Vec<_> = names.into_iter().filter_map(|name| running.find(name)).collect();
            let services = found.iter().map(|found| found.compiled.spec().slot).collect();
            let servers = found.iter().flat_map(Found::server_slots).collect();
            Ok(((running, found), services, servers))
        })
        .await?;
        let mut totals = self.totals(services, servers).await?;
        self.state().zeroed.take_off(&mut totals);
        blocking(move || {
            let (running, found) = found;
            Ok(found.into_iter().map(|found| found.info(&running, &totals)).collect())
        })
        .await
    }
}

pub(super) fn no_service(name: &str) -> ErrorBody {
    not_found("service", name, format!("there is no service `{name}`"))
}

/// A service as it runs.
struct Found {
    name: String,
    configured: Arc<Service>,
    compiled: Arc<balance::Service>,
    leaving: Vec<Leaving>,
}

/// Counts over all workers, by slot.
#[derive(Debug, Default)]
pub(super) struct SlotTotals {
    pub services: HashMap<Slot, balance::Totals>,
    pub servers: HashMap<Slot, balance::Totals>,
}

/// Counts as the API has them.
pub(super) fn traffic(totals: Option<&balance::Totals>) -> Traffic {
    let totals = totals.copied().unwrap_or_default();
    Traffic {
        active: totals.active.into(),
        inactive: totals.inactive.into(),
        connections: totals.opened,
        in_packets: totals.traffic.forward_packets,
        in_bytes: totals.traffic.forward_bytes,
        out_packets: totals.traffic.reverse_packets,
        out_bytes: totals.traffic.reverse_bytes,
        refused: totals.refused,
    }
}

impl Found {
    fn server_slots(&self) -> impl Iterator<Item = Slot> {
        let leaving = self.leaving.iter().map(|leaving| leaving.slot);
        self.compiled.servers().iter().map(|server| server.slot).chain(leaving)
    }

    fn info(self, running: &Running, totals: &SlotTotals) -> ServiceInfo {
        let config = &running.config;
        let group = match &self.configured.servers {
            Servers::Group(name) => Some(name.clone()),
            Servers::Inline(_) => None,
        };
        let configured: HashMap<Endpoint, &config::Server> = self
            .configured
            .resolved_servers(config)
            .iter()
            .map(|server| (server.address, server))
            .collect();
        let ruling = running.rulings.get(&self.name);
        let health = |server: &config::Server| match ruling
            .and_then(|ruling| ruling.down.get(&server.address))
        {
            Some(OnFailure::Inhibit) => ServerHealth::Inhibited,
            Some(OnFailure::Remove) => ServerHealth::Removed,
            None if self.configured.checks_of(server, config).is_empty() => ServerHealth::Unchecked,
            None => ServerHealth::Up,
        };
        let runs = self.compiled.servers().iter().map(|server| {
            let address = server.endpoint();
            let configured = configured.get(&address);
            ServerInfo {
                address,
                weight: server.weight,
                effective_weight: effective_weight(server, running.now),
                admin: configured.map_or(Admin::Enabled, |server| server.admin),
                health: configured.map_or(ServerHealth::Unchecked, |server| health(server)),
                sorry: configured.is_none(),
                limits: configured.map(|server| server.limits.clone()).unwrap_or_default(),
                group: group.clone().filter(|_| configured.is_some()),
                leaving: false,
                traffic: traffic(totals.servers.get(&server.slot)),
            }
        });
        let there: HashSet<_> = self.compiled.servers().iter().map(|s| s.endpoint()).collect();
        let out = self.configured.resolved_servers(config).iter();
        let out = out.filter(|server| !there.contains(&server.address)).map(|server| ServerInfo {
            address: server.address,
            weight: server.weight,
            effective_weight: 0,
            admin: server.admin,
            health: health(server),
            sorry: false,
            limits: server.limits.clone(),
            group: group.clone(),
            leaving: false,
            traffic: Traffic::default(),
        });
        let leaving = self.leaving.iter().map(|leaving| ServerInfo {
            address: leaving.address,
            weight: 0,
            effective_weight: 0,
            admin: Admin::Disabled,
            limits: config::ServerLimits::default(),
            health: ServerHealth::Unchecked,
            sorry: false,
            group: None,
            leaving: true,
            traffic: traffic(totals.servers.get(&leaving.slot)),
        });
        let servers = runs.chain(out).chain(leaving).collect();
        let slot = self.compiled.spec().slot;
        ServiceInfo {
            servers,
            lips: lips_of(&self.configured, config),
            traffic: traffic(totals.services.get(&slot)),
            config: Service::clone(&self.configured),
            name: self.name,
        }
    }
}

/// The share that a server gets now.
fn effective_weight(server: &balance::Server, now: types::Now) -> u16 {
    if !server.takes_new() {
        return 0;
    }
    let Some(start) = server.slow_start else { return server.weight };
    let elapsed = now.since(start.from_tick_ms);
    if elapsed >= start.duration_ms {
        return server.weight;
    }
    let part = u64::from(server.weight) * u64::from(elapsed) / u64::from(start.duration_ms.max(1));
    (part as u16).max(1)
}

/// The LIPs of a service, without counts.
pub(super) fn lips_of(service: &Service, config: &Config) -> Vec<LipInfo> {
    let Some(pool) = service.resolved_pool(config) else { return Vec::new() };
    let name = match &service.local_pool {
        Some(Pool::Named(name)) => Some(name.clone()),
        _ => None,
    };
    let addresses = pool.addresses.iter().flat_map(|range| range.addresses());
    let info =
        |address| LipInfo { address, dev: pool.dev.clone(), pool: name.clone(), connections: 0 };
    addresses.map(info).collect()
}

/// Where clients find a service.
pub(super) fn keys(service: &Service) -> impl Iterator<Item = ServiceKey> {
    service.vips.iter().map(|vip| key(service.protocol, *vip))
}

fn key(protocol: Protocol, vip: Endpoint) -> ServiceKey {
    let proto = Proto::from(protocol);
    ServiceKey { zone: 0, proto, address: vip.address, l4_port: vip.l4_port.0 }
}

fn compiled<'a>(
    config: &Model,
    snapshot: &'a Snapshot,
    name: &str,
) -> Option<&'a Arc<balance::Service>> {
    let key = match name.strip_prefix("dnat/") {
        Some(rule) => {
            let rule = config.dnat.get(rule)?;
            key(rule.protocol, rule.on.first())
        }
        None => keys(config.services.get(name)?).next()?,
    };
    snapshot.services.find(key)
}

/// What runs at one moment, to be looked at on any thread.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub config: Arc<Model>,
    pub snapshot: Arc<Snapshot>,
    /// By the name of their service.
    leaving: Arc<HashMap<Arc<str>, Vec<Leaving>>>,
    rulings: Arc<Rulings>,
    now: types::Now,
}

impl Running {
    /// The service of a name as workers have it; a rule of destination NAT has the name `dnat/NAME`.
    pub fn compiled(&self, name: &str) -> Option<&Arc<balance::Service>> {
        compiled(&self.config, &self.snapshot, name)
    }

    /// The names of the services that a query chooses.
    pub(super) fn chosen(&self, query: &ServiceQuery) -> Vec<String> {
        let of = |protocol| protocol == query.protocol.unwrap_or(protocol);
        if let Some(vip) = query.vip {
            // One for each protocol at most, found without a look at all of them.
            let protocols = [Protocol::Tcp, Protocol::Udp].into_iter().filter(|p| of(*p));
            let found = protocols.filter_map(|protocol| self.config.service_at(protocol, vip));
            return found.map(str::to_owned).collect();
        }
        let services = self.config.services.iter();
        services.filter(|(_, service)| of(service.protocol)).map(|(name, _)| name.clone()).collect()
    }

    fn find(&self, name: String) -> Option<Found> {
        let configured = match name.strip_prefix("dnat/") {
            Some(rule) => Arc::new(as_service(self.config.dnat.get(rule)?)?),
            None => Arc::clone(self.config.services.get(&name)?),
        };
        Some(Found {
            configured,
            compiled: Arc::clone(self.compiled(&name)?),
            leaving: self.leaving.get(&*name).cloned().unwrap_or_default(),
            name,
        })
    }
}

impl State {
    /// What runs now.
    pub(super) fn running(&self) -> Running {
        let mut leaving: HashMap<_, Vec<_>> = HashMap::new();
        for server in self.retiring.leaving() {
            leaving.entry(Arc::clone(&server.service)).or_default().push(server.clone());
        }
        Running {
            config: Arc::clone(&self.config),
            snapshot: Arc::clone(&self.snapshot),
            leaving: Arc::new(leaving),
            rulings: Arc::clone(self.health.rulings()),
            now: self.clock.now(),
        }
    }

    /// The service of a name as workers have it; a rule of destination NAT has the name `dnat/NAME`.
    pub(super) fn compiled(&self, name: &str) -> Option<&Arc<balance::Service>> {
        compiled(&self.config, &self.snapshot, name)
    }

    /// The slots of a real server in all services that lose it if one of them does.
    fn server_slots(&self, name: &str, address: Endpoint) -> Vec<Slot> {
        let sharing = self.config.sharing_servers(name);
        let compiled = sharing.iter().filter_map(|name| self.compiled(name));
        let servers = compiled.flat_map(|service| service.servers());
        let same = |server: &&balance::Server| server.endpoint() == address;
        servers.filter(same).map(|server| server.slot).collect()
    }
}
