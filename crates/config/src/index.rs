//! Who uses which address: what makes a check of one change cheap among many services.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use types::Endpoint;

use crate::matching::PortRange;
use crate::schema::{Config, LocalPool};
use crate::service::{Pool, Protocol, Servers, Service};
use crate::snat::SnatAction;
use crate::text::AddressRange;
use crate::validate::is_link_local;

/// Cross references of a configuration, kept in step with it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    vips: HashMap<(Protocol, Endpoint), String>,
    vip_addresses: HashMap<IpAddr, u32>,
    lips: HashMap<IpAddr, LipUse>,
    addresses: HashSet<IpAddr>,
    /// WAN IPs, disjoint and ascending, each with the first rule that has them.
    wans: Vec<(AddressRange, Arc<str>)>,
    /// What leads inside, by protocol and address, each with its rule.
    dnat: HashMap<(Protocol, IpAddr), PortOwners>,
    group_users: HashMap<String, BTreeSet<String>>,
    pool_users: HashMap<String, BTreeSet<String>>,
}

/// Ports of an address, each with the rule that leads them inside.
type PortOwners = Vec<(PortRange, Arc<str>)>;

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

    /// The rule of source NAT that has this WAN IP.
    pub fn wan_owner(&self, address: IpAddr) -> Option<&str> {
        let next = self.wans.partition_point(|(range, _)| range.first() <= address);
        let (range, owner) = self.wans.get(next.checked_sub(1)?)?;
        range.contains(address).then_some(owner)
    }

    /// The rule of destination NAT that leads this address and port inside.
    pub fn dnat_owner(&self, protocol: Protocol, on: Endpoint) -> Option<&str> {
        let rules = self.dnat.get(&(protocol, on.address))?;
        let found = rules.iter().find(|(ports, _)| ports.contains(on.l4_port.0))?;
        Some(&found.1)
    }

    /// A rule of destination NAT that leads some port of this address inside.
    pub fn dnat_on(&self, address: IpAddr) -> Option<&str> {
        let of = |protocol| self.dnat.get(&(protocol, address)).and_then(|rules| rules.first());
        of(Protocol::Tcp).or_else(|| of(Protocol::Udp)).map(|(_, owner)| &**owner)
    }

    /// Takes the WAN IPs of the configuration anew.
    pub fn set_wan_addresses(&mut self, config: &Config) {
        let translating = config.snat.iter().filter(|(_, r)| r.action == SnatAction::Translate);
        let mut all: Vec<(AddressRange, Arc<str>)> = translating
            .flat_map(|(name, rule)| {
                let owner: Arc<str> = name.as_str().into();
                config.wan_ranges(rule).into_iter().map(move |range| (range, Arc::clone(&owner)))
            })
            .collect();
        all.sort_by_key(|(range, _)| (range.first(), range.last()));
        self.wans.clear();
        for (range, owner) in all {
            match self.wans.last_mut() {
                Some((last, _)) if last.contains(range.first()) => {
                    let end = last.last().max(range.last());
                    *last = AddressRange::new(last.first(), end).unwrap_or(*last);
                }
                _ => self.wans.push((range, owner)),
            }
        }
    }

    /// Takes what leads inside of the configuration anew.
    pub fn set_dnat(&mut self, config: &Config) {
        self.dnat.clear();
        for (name, rule) in &config.dnat {
            let of_address = self.dnat.entry((rule.protocol, rule.on.address)).or_default();
            of_address.push((rule.on.ports, name.as_str().into()));
        }
    }

    /// True if `addresses` has it. Link-local ones, which may be on several interfaces, do not count.
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
        let all = config.addresses.iter().map(|entry| entry.address.address());
        self.addresses = all.filter(|address| !is_link_local(*address)).collect();
    }

    pub fn add_address(&mut self, address: IpAddr) {
        if !is_link_local(address) {
            self.addresses.insert(address);
        }
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
