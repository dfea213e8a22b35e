//! Who uses which address: what makes a check of one change cheap among many services.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use types::Endpoint;

use crate::schema::{Config, LocalPool};
use crate::service::{Pool, Protocol, Servers, Service};

/// Cross references of a configuration, kept in step with it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    vips: HashMap<(Protocol, Endpoint), String>,
    vip_addresses: HashMap<IpAddr, u32>,
    lips: HashMap<IpAddr, LipUse>,
    addresses: HashSet<IpAddr>,
    group_users: HashMap<String, BTreeSet<String>>,
    pool_users: HashMap<String, BTreeSet<String>>,
}

/// Who has a LIP.
#[derive(Clone, Debug)]
pub(crate) struct LipUse {
    /// Its interface; the same for all who have it.
    pub dev: Arc<str>,
    /// The path of the first pool with it.
    pub owner: Arc<str>,
    count: u32,
}

impl Index {
    /// The service that has this VIP and port.
    pub fn vip_owner(&self, protocol: Protocol, vip: Endpoint) -> Option<&str> {
        self.vips.get(&(protocol, vip)).map(String::as_str)
    }

    /// True if some service has this VIP.
    pub fn is_vip(&self, address: IpAddr) -> bool {
        self.vip_addresses.contains_key(&address)
    }

    /// Who has this LIP.
    pub fn lip(&self, address: IpAddr) -> Option<&LipUse> {
        self.lips.get(&address)
    }

    /// True if `addresses` has it.
    pub fn is_configured(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
    }

    /// The services that use a server group.
    pub fn users_of_group(&self, group: &str) -> impl Iterator<Item = &str> {
        self.group_users.get(group).into_iter().flatten().map(String::as_str)
    }

    /// The services that use a pool.
    pub fn users_of_pool(&self, pool: &str) -> impl Iterator<Item = &str> {
        self.pool_users.get(pool).into_iter().flatten().map(String::as_str)
    }

    /// Takes the addresses of the configuration anew.
    pub fn set_addresses(&mut self, config: &Config) {
        self.addresses = config.addresses.iter().map(|entry| entry.address.address()).collect();
    }

    pub fn add_address(&mut self, address: IpAddr) {
        self.addresses.insert(address);
    }

    pub fn remove_address(&mut self, address: IpAddr) {
        self.addresses.remove(&address);
    }

    pub fn add_service(&mut self, name: &str, service: &Service) {
        for vip in &service.vips {
            self.vips.insert((service.protocol, *vip), name.to_owned());
            *self.vip_addresses.entry(vip.address).or_default() += 1;
        }
        if let Servers::Group(group) = &service.servers {
            self.group_users.entry(group.clone()).or_default().insert(name.to_owned());
        }
        match &service.local_pool {
            Some(Pool::Named(pool)) => {
                self.pool_users.entry(pool.clone()).or_default().insert(name.to_owned());
            }
            Some(Pool::Inline(pool)) => self.add_pool(&format!("services.{name}.local_pool"), pool),
            None => {}
        }
    }

    pub fn remove_service(&mut self, name: &str, service: &Service) {
        for vip in &service.vips {
            self.vips.remove(&(service.protocol, *vip));
            if let Some(count) = self.vip_addresses.get_mut(&vip.address) {
                *count -= 1;
                if *count == 0 {
                    self.vip_addresses.remove(&vip.address);
                }
            }
        }
        if let Servers::Group(group) = &service.servers {
            forget(&mut self.group_users, group, name);
        }
        match &service.local_pool {
            Some(Pool::Named(pool)) => forget(&mut self.pool_users, pool, name),
            Some(Pool::Inline(pool)) => self.remove_pool(pool),
            None => {}
        }
    }

    pub fn add_pool(&mut self, owner: &str, pool: &LocalPool) {
        let (owner, dev): (Arc<str>, Arc<str>) = (owner.into(), pool.dev.as_str().into());
        for address in pool.addresses.iter().flat_map(|range| range.addresses()) {
            self.lips
                .entry(address)
                .or_insert_with(|| LipUse { dev: dev.clone(), owner: owner.clone(), count: 0 })
                .count += 1;
        }
    }

    pub fn remove_pool(&mut self, pool: &LocalPool) {
        for address in pool.addresses.iter().flat_map(|range| range.addresses()) {
            if let Some(usage) = self.lips.get_mut(&address) {
                usage.count -= 1;
                if usage.count == 0 {
                    self.lips.remove(&address);
                }
            }
        }
    }
}

fn forget(users: &mut HashMap<String, BTreeSet<String>>, used: &str, user: &str) {
    if let Some(set) = users.get_mut(used) {
        set.remove(user);
        if set.is_empty() {
            users.remove(used);
        }
    }
}
