//! The configuration that runs: always valid, changed one thing at a time or as a whole.

mod addresses;
mod links;
mod nat;

use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use types::Endpoint;

use crate::error::{ConfigError, Path, Warning};
use crate::index::Index;
use crate::schema::{Config, LocalPool, Neighbour, Route, ServerGroup};
use crate::service::{Pool, Protocol, Server, Servers, Service};
use crate::text::{AddressRange, InterfaceAddress, Prefix};
use crate::validate::{Checker, Subnets};

pub use nat::Place;

/// A configuration that has been checked. What would make it invalid is refused and changes nothing.
#[derive(Clone, Debug)]
pub struct Model {
    config: Config,
    index: Index,
}

/// Warnings, or all that is wrong with a change.
pub type Outcome = Result<Vec<Warning>, Vec<ConfigError>>;

impl Deref for Model {
    type Target = Config;

    fn deref(&self) -> &Config {
        &self.config
    }
}

impl PartialEq for Model {
    fn eq(&self, other: &Self) -> bool {
        self.config == other.config
    }
}

fn refuse<T>(error: ConfigError) -> Result<T, Vec<ConfigError>> {
    Err(vec![error])
}

impl Model {
    /// Checks a configuration.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn new(config: Config) -> Result<(Self, Vec<Warning>), Vec<ConfigError>> {
        let (index, warnings) = config.indexed()?;
        Ok((Self { config, index }, warnings))
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The configuration, on its own.
    pub fn into_config(self) -> Config {
        self.config
    }

    /// The service that has this VIP and port.
    pub fn service_at(&self, protocol: Protocol, vip: Endpoint) -> Option<&str> {
        self.index.vip_owner(protocol, vip)
    }

    /// The services that a change of this service's real servers changes: those of its group, or the
    /// service alone.
    pub fn sharing_servers(&self, service: &str) -> Vec<String> {
        match self.services.get(service).map(|found| &found.servers) {
            Some(Servers::Group(group)) => {
                self.index.users_of_group(group).map(str::to_owned).collect()
            }
            Some(Servers::Inline(_)) => vec![service.to_owned()],
            None => Vec::new(),
        }
    }

    /// The services that a change of this service's local addresses changes.
    pub fn sharing_pool(&self, service: &str) -> Vec<String> {
        match self.services.get(service).map(|found| &found.local_pool) {
            Some(Some(Pool::Named(pool))) => {
                self.index.users_of_pool(pool).map(str::to_owned).collect()
            }
            Some(_) => vec![service.to_owned()],
            None => Vec::new(),
        }
    }

    /// Sets the level of the log.
    pub fn set_log_level(&mut self, level: crate::LogLevel) {
        self.config.log.level = level;
    }

    /// Adds a route.
    ///
    /// # Errors
    /// Conflict if there is one with its destination and metric, and what is wrong with it.
    pub fn add_route(&mut self, route: Route) -> Outcome {
        if self.route_position(&route).is_some() {
            let message = format!("there is a route to {} with metric {}", route.to, route.metric);
            return refuse(ConfigError::conflict(Path::of("routes").key("to"), route.to, message));
        }
        self.set_route(route)
    }

    /// Adds a route, or takes the place of the one with its destination and metric.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn set_route(&mut self, route: Route) -> Outcome {
        let position = self.route_position(&route);
        let path = Path::of("routes").index(position.unwrap_or(self.routes.len()));
        let mut checker = Checker::new(&self.config);
        checker.route(&path, &route, &Subnets::of(&self.config), &self.index);
        let warnings = checker.finish()?;
        match position {
            Some(position) => self.config.routes[position] = route,
            None => self.config.routes.push(route),
        }
        Ok(warnings)
    }

    fn route_position(&self, route: &Route) -> Option<usize> {
        let same = |other: &Route| other.to == route.to && other.metric == route.metric;
        self.routes.iter().position(same)
    }

    /// Removes a route.
    ///
    /// # Errors
    /// Not found; conflict if there are several to the destination and no metric is given.
    pub fn delete_route(&mut self, to: Prefix, metric: Option<u32>) -> Outcome {
        let path = Path::of("routes");
        let wanted =
            |route: &Route| route.to == to && metric.is_none_or(|metric| metric == route.metric);
        let mut found = self.routes.iter().enumerate().filter(|(_, route)| wanted(route));
        let Some((position, _)) = found.next() else {
            let with = metric.map(|metric| format!(" with metric {metric}")).unwrap_or_default();
            let message = format!("there is no configured route to {to}{with}");
            return refuse(ConfigError::not_found(path, to, message));
        };
        if found.next().is_some() {
            let message = format!("there are several routes to {to}");
            let error = ConfigError::conflict(path, to, message).hint("name the metric");
            return refuse(error);
        }
        self.config.routes.remove(position);
        Ok(Vec::new())
    }

    /// Adds a static neighbour.
    ///
    /// # Errors
    /// Conflict if there is one with its address, and what is wrong with it.
    pub fn add_neighbour(&mut self, neighbour: Neighbour) -> Outcome {
        if self.neighbour_position(&neighbour).is_some() {
            let address = neighbour.address;
            let message = format!("there is a static neighbour {address} on `{}`", neighbour.dev);
            let path = Path::of("neighbours").key("address");
            return refuse(ConfigError::conflict(path, address, message));
        }
        self.set_neighbour(neighbour)
    }

    /// Adds a static neighbour, or takes the place of the one with its address.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn set_neighbour(&mut self, neighbour: Neighbour) -> Outcome {
        let position = self.neighbour_position(&neighbour);
        let path = Path::of("neighbours").index(position.unwrap_or(self.neighbours.len()));
        let mut checker = Checker::new(&self.config);
        checker.neighbour(&path, &neighbour);
        let warnings = checker.finish()?;
        match position {
            Some(position) => self.config.neighbours[position] = neighbour,
            None => self.config.neighbours.push(neighbour),
        }
        Ok(warnings)
    }

    fn neighbour_position(&self, neighbour: &Neighbour) -> Option<usize> {
        let same =
            |other: &Neighbour| other.address == neighbour.address && other.dev == neighbour.dev;
        self.neighbours.iter().position(same)
    }

    /// Removes a static neighbour.
    ///
    /// # Errors
    /// Not found.
    pub fn delete_neighbour(&mut self, address: IpAddr, dev: Option<&str>) -> Outcome {
        let found = self.neighbours.iter().position(|neighbour| {
            neighbour.address == address && dev.is_none_or(|dev| dev == neighbour.dev)
        });
        let Some(position) = found else {
            let on = dev.map(|dev| format!(" on `{dev}`")).unwrap_or_default();
            let message = format!("there is no static neighbour {address}{on}");
            let path = Path::of("neighbours");
            return refuse(ConfigError::not_found(path, address, message));
        };
        self.config.neighbours.remove(position);
        Ok(Vec::new())
    }

    /// Adds a service.
    ///
    /// # Errors
    /// Conflict if there is one of that name, and what is wrong with it.
    pub fn add_service(&mut self, name: &str, service: Service) -> Outcome {
        if self.services.contains_key(name) {
            let path = Path::of("services").key(name);
            let error = ConfigError::conflict(path, name, format!("there is a service `{name}`"));
            return refuse(error.hint("change it with `set`"));
        }
        self.put_service(name, service)
    }

    /// Puts another in the place of a service.
    ///
    /// # Errors
    /// Not found, and what is wrong with it.
    pub fn set_service(&mut self, name: &str, service: Service) -> Outcome {
        self.service_named(name)?;
        self.put_service(name, service)
    }

    fn put_service(&mut self, name: &str, service: Service) -> Outcome {
        let old = self.services.get(name).cloned();
        if let Some(old) = &old {
            self.index.remove_service(name, old);
        }
        let mut checker = Checker::new(&self.config);
        checker.service(name, &service, &self.index);
        match checker.finish() {
            Ok(warnings) => {
                self.index.add_service(name, &service);
                self.config.services.insert(name.to_owned(), Arc::new(service));
                Ok(warnings)
            }
            Err(errors) => {
                if let Some(old) = &old {
                    self.index.add_service(name, old);
                }
                Err(errors)
            }
        }
    }

    /// Removes a service. Its group and pool stay.
    ///
    /// # Errors
    /// Not found.
    pub fn delete_service(&mut self, name: &str) -> Outcome {
        let service = self.service_named(name)?;
        self.index.remove_service(name, &service);
        self.config.services.remove(name);
        Ok(Vec::new())
    }

    fn service_named(&self, name: &str) -> Result<Arc<Service>, Vec<ConfigError>> {
        match self.services.get(name) {
            Some(service) => Ok(service.clone()),
            None => {
                let message = format!("there is no service `{name}`");
                refuse(ConfigError::not_found(Path::of("services"), name, message))
            }
        }
    }

    /// Adds a real server to a service; to its group, if it has one.
    ///
    /// # Errors
    /// Not found (the service), conflict (the server), and what is wrong with it.
    pub fn add_server(&mut self, service: &str, server: Server) -> Outcome {
        self.change_servers(service, |servers, path| {
            if servers.iter().any(|other| other.address == server.address) {
                let message = format!("there is a real server {}", server.address);
                return Err(ConfigError::conflict(path.key("address"), server.address, message));
            }
            servers.push(server);
            Ok(())
        })
    }

    /// Puts another in the place of the real server with its address.
    ///
    /// # Errors
    /// Not found, and what is wrong with it.
    pub fn set_server(&mut self, service: &str, server: Server) -> Outcome {
        self.change_servers(service, |servers, path| {
            let address = server.address;
            let found = servers.iter_mut().find(|other| other.address == address);
            *found.ok_or_else(|| no_server(path, address))? = server;
            Ok(())
        })
    }

    /// Removes a real server.
    ///
    /// # Errors
    /// Not found.
    pub fn delete_server(&mut self, service: &str, address: Endpoint) -> Outcome {
        self.change_servers(service, |servers, path| {
            let found = servers.iter().position(|server| server.address == address);
            servers.remove(found.ok_or_else(|| no_server(path, address))?);
            Ok(())
        })
    }

    /// A real server of a service or of its group.
    ///
    /// # Errors
    /// Not found.
    pub fn server(&self, service: &str, address: Endpoint) -> Result<&Server, ConfigError> {
        let Some(found) = self.services.get(service) else {
            let message = format!("there is no service `{service}`");
            return Err(ConfigError::not_found(Path::of("services"), service, message));
        };
        let path = Path::of("services").key(service).key("servers");
        let servers = found.resolved_servers(&self.config);
        let server = servers.iter().find(|server| server.address == address);
        server.ok_or_else(|| no_server(&path, address))
    }

    fn change_servers(
        &mut self,
        name: &str,
        change: impl FnOnce(&mut Vec<Server>, &Path) -> Result<(), ConfigError>,
    ) -> Outcome {
        let service = self.service_named(name)?;
        let path = match &service.servers {
            Servers::Inline(_) => Path::of("services").key(name),
            Servers::Group(group) => Path::of("server_groups").key(group),
        };
        let path = path.key("servers");
        let mut servers = service.resolved_servers(&self.config).to_vec();
        change(&mut servers, &path).map_err(|error| vec![error])?;
        let Servers::Group(group) = &service.servers else {
            let servers = Servers::Inline(servers);
            return self.put_service(name, Service { servers, ..Service::clone(&service) });
        };
        let mut checker = Checker::new(&self.config);
        checker.servers(&path, &servers);
        for user in self.index.users_of_group(group) {
            let path = Path::of("services").key(user);
            checker.enough(&path, &self.config.services[user], &servers);
        }
        let warnings = checker.finish()?;
        let health = self.server_groups.get(group).and_then(|group| group.health.clone());
        self.config.server_groups.insert(group.clone(), Arc::new(ServerGroup { servers, health }));
        Ok(warnings)
    }

    /// Adds local addresses to a service; to its pool, if it has one by name. Without `dev`, the
    /// interface is that of the LIPs which it has, or that in whose subnet they are.
    ///
    /// # Errors
    /// Not found (the service), conflict (a LIP), and what is wrong with them.
    pub fn add_lip(&mut self, name: &str, lips: AddressRange, dev: Option<&str>) -> Outcome {
        let service = self.service_named(name)?;
        let path = Path::of("services").key(name).key("local_pool");
        let old = service.resolved_pool(&self.config);
        let of_pool = old.map(|pool| pool.dev.as_str());
        let links = Subnets::of(&self.config);
        let Some(dev) = dev.or(of_pool).or_else(|| links.dev_of(lips.first())) else {
            let message = format!("{lips} is in the subnet of no interface, or of several");
            let error = ConfigError::invalid(path.key("dev"), "", message);
            return refuse(error.hint("name the interface with `dev`"));
        };
        if let Some(other) = of_pool.filter(|of_pool| *of_pool != dev) {
            let message = format!("the LIPs of this service are on `{other}`, not on `{dev}`");
            return refuse(ConfigError::invalid(path.key("dev"), dev, message));
        }
        let mut pool = old.cloned().unwrap_or(LocalPool { addresses: vec![], dev: dev.to_owned() });
        pool.addresses.push(lips);
        self.put_pool(name, &service, Some(pool))
    }

    /// Removes a local address from a service; from its pool, if it has one by name.
    ///
    /// # Errors
    /// Not found; conflict if it is the last of a pool that has a name.
    pub fn delete_lip(&mut self, name: &str, lip: IpAddr) -> Outcome {
        let service = self.service_named(name)?;
        let path = Path::of("services").key(name).key("local_pool");
        let old = service.resolved_pool(&self.config);
        let Some(old) = old.filter(|pool| pool.addresses.iter().any(|r| r.contains(lip))) else {
            let message = format!("service `{name}` has no LIP {lip}");
            return refuse(ConfigError::not_found(path, lip, message));
        };
        let addresses: Vec<_> = old.addresses.iter().flat_map(|r| r.without(lip)).collect();
        if let (true, Some(Pool::Named(pool))) = (addresses.is_empty(), &service.local_pool) {
            let message = format!("{lip} is the last LIP of the pool `{pool}`");
            return refuse(ConfigError::conflict(path, lip, message));
        }
        let pool = LocalPool { addresses, dev: old.dev.clone() };
        self.put_pool(name, &service, (!pool.addresses.is_empty()).then_some(pool))
    }

    fn put_pool(&mut self, name: &str, service: &Service, pool: Option<LocalPool>) -> Outcome {
        if let (Some(Pool::Named(named)), Some(pool)) = (&service.local_pool, &pool) {
            let path = Path::of("local_address_pools").key(named);
            let mut checker = Checker::new(&self.config);
            checker.pool(&path, pool, &self.index);
            let warnings = checker.finish()?;
            if let Some(old) = self.config.local_address_pools.get(named) {
                self.index.remove_pool(old);
            }
            self.index.add_pool(&path.to_string(), pool);
            self.config.local_address_pools.insert(named.clone(), Arc::new(pool.clone()));
            return Ok(warnings);
        }
        let local_pool = pool.map(Pool::Inline);
        self.put_service(name, Service { local_pool, ..service.clone() })
    }
}

fn no_server(path: &Path, address: Endpoint) -> ConfigError {
    ConfigError::not_found(path.clone(), address, format!("there is no real server {address}"))
}

/// Without the prefix length if it is that of one address.
fn shortest(key: InterfaceAddress) -> String {
    let whole = key.prefix_len() == key.net().max_prefix_len();
    if whole { key.address().to_string() } else { key.to_string() }
}
