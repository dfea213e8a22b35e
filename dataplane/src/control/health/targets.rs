//! What is checked, as it follows from the configuration and from what the kernel has.

#[cfg(feature = "dpdk")]
use std::collections::BTreeMap;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
#[cfg(feature = "dpdk")]
use std::net::Ipv4Addr;
use std::sync::Arc;

use ::health::{Target, Way};
use config::{
    CheckType, Config, DnatTarget, Health as Check, Initial, Model, Server, Service, Towards,
};
use ipnet::IpNet;
use types::{Endpoint, EthPortId, Proto};

use super::{Checked, Health, Watched};
use crate::control::State;
use crate::control::engine::InterfaceInfo;
use crate::snapshot::Checked as Asked;

impl State {
    /// The services that have changed are checked as they are now; all of them, if the ways have. True if the
    /// workers have to be told.
    pub(super) fn retarget(&mut self, before: &Arc<Model>, touched: Vec<String>) -> bool {
        if self.health.checker.is_none() {
            return false;
        }
        let (old, new) = (before.config(), self.config.config());
        if old.addresses != new.addresses || old.routes != new.routes {
            return self.retarget_all();
        }
        self.retarget_these(touched)
    }

    /// The same for all services.
    pub(super) fn retarget_all(&mut self) -> bool {
        if self.health.checker.is_none() {
            return false;
        }
        let config = Arc::clone(&self.config);
        let rules = config.dnat.keys().map(|name| format!("dnat/{name}"));
        let gone = self.health.services.keys().cloned();
        let names: BTreeSet<_> = config.services.keys().cloned().chain(rules).chain(gone).collect();
        self.retarget_these(names.into_iter().collect())
    }

    fn retarget_these(&mut self, names: Vec<String>) -> bool {
        let config = Arc::clone(&self.config);
        let towards = Towards::new(&config);
        let (mut left, mut came) = (Vec::new(), false);
        for name in &names {
            let watched = self.watched(&config, &towards, name);
            let old = match watched {
                Some(mut watched) => {
                    let targets = watched.servers.iter().flat_map(|server| &server.targets);
                    for target in targets {
                        let users = self.health.users.entry(Arc::clone(target));
                        let users = users.or_insert_with(|| {
                            came = true;
                            BTreeSet::new()
                        });
                        users.insert(name.clone());
                    }
                    let known = self.health.services.get(name);
                    watched.lost = known.is_some_and(|known| known.lost);
                    self.health.services.insert(name.clone(), watched)
                }
                None => self.health.services.remove(name),
            };
            left.extend(old.map(|old| (name, old)));
        }
        for (name, old) in left {
            came |= self.health.leave(name, &old);
        }
        if came {
            self.health.take_over();
        }
        let before = Arc::clone(&self.health.rulings);
        self.health.judge(&names);
        let kernel = self.kernel.checking(self.asked());
        let asks = kernel != *self.kernel;
        if asks {
            self.kernel = Arc::new(kernel);
        }
        asks || *before != *self.health.rulings
    }

    /// What of a service is checked; `None` if nothing is, and nothing depends on it.
    fn watched(&self, config: &Config, towards: &Towards<'_>, name: &str) -> Option<Watched> {
        if let Some(rule) = name.strip_prefix("dnat/") {
            let rule = config.dnat.get(rule)?;
            let DnatTarget::Servers(servers) = &rule.to else { return None };
            let service = Service::new(Vec::new(), rule.protocol);
            return self.watched_servers(config, towards, &service, servers);
        }
        let service = config.services.get(name)?;
        self.watched_servers(config, towards, service, service.resolved_servers(config))
    }

    fn watched_servers(
        &self,
        config: &Config,
        towards: &Towards<'_>,
        service: &Service,
        servers: &[Server],
    ) -> Option<Watched> {
        let any = service.sorry_server.is_some()
            || service.quorum.is_some()
            || servers.iter().any(|server| !service.checks_of(server, config).is_empty());
        let checked = |server: &Server| {
            let target = |check: &Arc<Check>| {
                let asked = check.address.unwrap_or(server.address.address);
                let way = match check.kind {
                    CheckType::Script => Way::default(),
                    _ => self.way(towards, service.check_source, asked),
                };
                Arc::new(Target { server: server.address, check: Arc::clone(check), way })
            };
            Checked {
                server: server.address,
                weight: server.weight,
                admin: server.admin,
                targets: service.checks_of(server, config).iter().map(target).collect(),
            }
        };
        any.then(|| Watched {
            servers: servers.iter().map(checked).collect(),
            quorum: service.quorum(),
            lost: false,
        })
    }

    /// By the KNI of the interface that leads there, if the kernel can answer by it; else as the kernel likes.
    fn way(&self, towards: &Towards<'_>, source: Option<IpAddr>, asked: IpAddr) -> Way {
        let source = source.filter(|source| source.is_ipv4() == asked.is_ipv4());
        let plain = Way { source, ..Way::default() };
        let leg = towards.leg(asked).filter(|_| asked.is_ipv4());
        let Some(info) = leg.and_then(|(dev, _)| self.interface_named(dev)) else { return plain };
        let Some(kni) = &info.kni else { return plain };
        let implied = self.health.is_implied(&info.name);
        let has = |source| self.kernel_has(info.id, source);
        let own = implied.then(|| self.own_address(&info.name, asked)).flatten();
        let source = match source {
            Some(source) if has(Some(source)) => Some(source),
            None if own.is_some() => own,
            None if !implied && has(None) => None,
            _ => return plain,
        };
        Way { source, device: Some(kni.name.clone()), netns: kni.netns.clone() }
    }

    fn interface_named(&self, dev: &str) -> Option<&InterfaceInfo> {
        self.engine.interfaces().iter().find(|info| info.name == dev)
    }

    /// The IPv4 address of the node's own on an interface: that in whose subnet `asked` is, if there is one.
    fn own_address(&self, dev: &str, asked: IpAddr) -> Option<IpAddr> {
        let nets = || self.own_nets(dev);
        let near = nets().find(|net| net.contains(&asked)).or_else(|| nets().next());
        near.map(|net| net.addr())
    }

    /// IPv4 addresses with a subnet on an interface.
    fn own_nets(&self, dev: &str) -> impl Iterator<Item = IpNet> {
        let here = self.config.addresses.iter().filter(move |entry| entry.dev == dev);
        let always = here.filter(|entry| entry.active == config::Active::Always);
        let nets = always.map(|entry| entry.address.net());
        nets.filter(|net| net.addr().is_ipv4() && net.prefix_len() < net.max_prefix_len())
    }

    /// What the kernel asks by KNIs, as the path sees its answers.
    fn asked(&self) -> HashSet<Asked> {
        let of_device = |name: &str| {
            let mut all = self.engine.interfaces().iter();
            all.find(|info| info.kni.as_ref().is_some_and(|kni| kni.name == name))
                .map(|info| info.id)
        };
        let asked = |target: &Arc<Target>| -> Option<Asked> {
            let interface: EthPortId = of_device(target.way.device.as_deref()?)?;
            let proto = match target.check.kind {
                CheckType::Tcp | CheckType::Http | CheckType::Https => Proto::Tcp,
                CheckType::Udp | CheckType::Dns => Proto::Udp,
                CheckType::Icmp => Proto::Icmp,
                CheckType::Script => return None,
            };
            let asked = target.asked();
            let IpAddr::V4(address) = asked.address else { return None };
            Some((interface, proto.number(), address.to_bits(), asked.l4_port.0))
        };
        self.health.users.keys().filter_map(asked).collect()
    }

    /// What the kernel needs on the KNI of an interface that is there for checks only: addresses, and to whom
    /// it leads, each by which router.
    #[cfg(feature = "dpdk")]
    pub(in crate::control) fn of_checks(
        &self,
        dev: &str,
    ) -> (BTreeSet<Ipv4Addr>, BTreeMap<Ipv4Addr, Option<Ipv4Addr>>) {
        let v4 = |address| match address {
            IpAddr::V4(v4) => Some(v4),
            IpAddr::V6(_) => None,
        };
        let kni = self.interface_named(dev).and_then(|info| info.kni.as_ref());
        let own = self.own_nets(dev).filter_map(|net| v4(net.addr())).collect();
        let towards = Towards::new(&self.config);
        let targets = self.health.users.keys().filter(|target| {
            target.way.device.is_some() && target.way.device.as_ref() == kni.map(|kni| &kni.name)
        });
        let leads = targets.filter_map(|target| {
            let asked = target.asked().address;
            let (_, via) = towards.leg(asked)?;
            Some((v4(asked)?, via.and_then(v4)))
        });
        (own, leads.collect())
    }
}

impl Health {
    /// A service does not check any more what it did, but for what it does again. True if a target has nobody
    /// left.
    fn leave(&mut self, name: &str, old: &Watched) -> bool {
        let now = self.services.get(name);
        let now = now.into_iter().flat_map(|watched| &watched.servers);
        let kept: HashSet<_> = now.flat_map(|server| &server.targets).collect();
        let mut gone = false;
        for target in old.servers.iter().flat_map(|server| &server.targets) {
            if kept.contains(target) {
                continue;
            }
            let Some(users) = self.users.get_mut(target) else { continue };
            users.remove(name);
            if users.is_empty() {
                self.users.remove(target);
                gone = true;
            }
        }
        gone
    }

    /// Has the checker check what is wanted now. A target that takes the place of another of the same server is
    /// as that was.
    fn take_over(&mut self) {
        let Some(checker) = &self.checker else { return };
        let wanted: HashSet<_> = self.users.keys().cloned().collect();
        let mut replaced: HashMap<Endpoint, bool> = HashMap::new();
        for old in self.known.difference(&wanted) {
            *replaced.entry(old.server).or_insert(true) &= !self.down.contains(old);
        }
        let is_up = |target: &Arc<Target>| match self.known.contains(target) {
            true => !self.down.contains(target),
            false => replaced
                .get(&target.server)
                .copied()
                .unwrap_or_else(|| target.check.initial == Initial::Up),
        };
        let states: HashMap<_, _> = wanted.iter().map(|t| (Arc::clone(t), is_up(t))).collect();
        self.down = wanted.iter().filter(|target| !states[*target]).cloned().collect();
        self.known = wanted;
        checker.check(states);
    }
}
