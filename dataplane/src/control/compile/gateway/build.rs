//! One compilation of a gateway: what keeps its slot and place, and what gets a new one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::{Config, ConfigError, DnatTarget, ErrorKind, Path};
use flow::TimeoutSet;
use nat::Gateway;
use nat::gateway::{ForwardConfig, Forwarding, Settings, Wan, WanSource};
use nat::mapping::Endpoint32;
use nat::rules::{Action, Rule};
use pool::Within;
use types::{ClassSet, Proto, Slot, SlotAllocator, WorkerId};

use super::names::{GatewayNames, RuleKind, RuleName, WanName};
use super::rules::{self, Configured};
use super::{Kept, Known, Next, RULES_MAX, Running, forwards_by_default};
use crate::control::compile::Facts;
use crate::control::compile::classes::{Classes, timeout_set};
use crate::control::compile::network::refuse;

/// A gateway to be compiled.
pub(super) struct Build<'a> {
    pub(super) config: &'a Config,
    pub(super) facts: &'a Facts,
    pub(super) slots: &'a mut SlotAllocator,
    pub(super) classes: &'a mut Classes,
    pub(super) taken: &'a mut Vec<Slot>,
    pub(super) old: &'a Running,
    pub(super) rules: BTreeMap<RuleName, Known>,
    pub(super) places: BTreeMap<u32, u16>,
    /// Places that no WAN IP has.
    pub(super) free: Box<dyn Iterator<Item = u16>>,
    /// The WAN IPs that rules have now.
    pub(super) used: BTreeMap<u32, Vec<RuleName>>,
    pub(super) wanted: BTreeSet<Kept>,
    pub(super) names: GatewayNames,
    /// WAN IPs that are not here now.
    pub(super) withheld: BTreeSet<u32>,
}

impl Build<'_> {
    pub(super) fn snat(&mut self) -> Result<Vec<(Rule, Settings)>, ConfigError> {
        let (config, section) = (self.config, Path::of("snat"));
        let mut rules = Vec::with_capacity(config.snat.len());
        for (name, rule) in &config.snat {
            let path = section.key(name);
            let (matching, except) =
                rules::matching(&rule.matches, self.facts, &path.key("match"))?;
            let wans = rules::wans((config, rule), self.facts, &self.withheld, &path)?;
            let name = RuleName { kind: RuleKind::Snat, name: name.as_str().into() };
            self.place_all(&wans, &name, &path)?;
            let refresh = rules::refresh(rule.refresh);
            let timeouts = TimeoutSet { refresh, ..timeout_set(&(&rule.timeouts).into()) };
            let known = self.known(name, Some(timeouts), &path)?;
            let source = rules::wan_source(&wans, |address| self.places.get(&address).copied());
            let class = known.timeout_class.unwrap_or_default();
            let action = rules::snat_action(rule.action);
            let settings = rules::settings(rule, source, class);
            if action == Action::Translate {
                self.ports_for_all(&settings, rule.ports, &path)?;
            }
            rules.push((Rule { slot: known.slot, matching, except, action }, settings));
        }
        Ok(rules)
    }

    /// Port forwards to one server; those to several are services.
    pub(super) fn dnat(&mut self) -> Result<Vec<ForwardConfig>, ConfigError> {
        let (config, section) = (self.config, Path::of("dnat"));
        let mut forwards = Vec::with_capacity(config.dnat.len());
        for (name, rule) in &config.dnat {
            let path = section.key(name);
            let (address, l4_ports) = rules::endpoints(rule.on, &path.key("on"))?;
            let proto = Proto::from(rule.protocol).number();
            let name = RuleName { kind: RuleKind::Dnat, name: name.as_str().into() };
            let wan = Configured::new(address, &self.withheld);
            self.place_all(&[wan], &name, &path)?;
            let place = self.places.get(&address).copied().unwrap_or_default();
            let (first, last) = (*l4_ports.start(), *l4_ports.end());
            self.wanted.insert(Kept { place, proto, first, last });
            let DnatTarget::One(to) = &rule.to else { continue };
            let (to_address, to_ports) = rules::endpoints(*to, &path.key("to"))?;
            let timeouts = Some(timeout_set(&(&rule.timeouts).into()));
            let known = self.known(name, timeouts, &path)?;
            let in_dev = rule.in_dev.as_ref();
            let in_dev = in_dev.map(|dev| self.facts.interface(dev, || path.key("in_dev")));
            let wan = Wan { place, address, weight: 1, draining: false, withheld: wan.withheld };
            forwards.push(ForwardConfig {
                slot: known.slot,
                address,
                l4_ports,
                proto,
                to: Endpoint32::new(to_address, *to_ports.start()),
                sources: rules::ranges(&rule.source, &path.key("source"))?,
                in_dev: in_dev.transpose()?,
                source: rules::source_address(rule),
                settings: Settings {
                    wans: WanSource::Addresses(vec![wan]),
                    timeout_class: known.timeout_class.unwrap_or_default(),
                    ..self.settings_on(address)
                },
            });
        }
        Ok(forwards)
    }

    /// Inside hosts are divided among the workers, and each worker has ports of its own: every one needs some.
    fn ports_for_all(
        &self,
        settings: &Settings,
        l4_ports: config::PortRange,
        path: &Path,
    ) -> Result<(), ConfigError> {
        let within = Within::new(&settings.l4_ports);
        let kinds: &[(ClassSet, &str)] = match settings.keep_parity {
            false => &[(ClassSet::ALL, "ports")],
            true => &[(ClassSet::EVEN, "even ports"), (ClassSet::ODD, "odd ports")],
        };
        let steering = &self.facts.steering;
        let workers = steering.workers();
        for worker in (0..workers).map(WorkerId) {
            let own = steering.wan_classes_of(worker);
            let none = kinds.iter().find(|(classes, _)| within.count(own.and(*classes)) == 0);
            if let Some((classes, kind)) = none.filter(|_| workers > 1) {
                let count = within.count(*classes);
                let message = format!(
                    "{l4_ports} has {count} {kind} for {workers} workers, of which worker {} gets none",
                    worker.0
                );
                let hint = Some(format!("{} ports are enough, as are fewer workers", 2 * workers));
                let refused = refuse(ErrorKind::Invalid, path.key("ports"), l4_ports, message);
                return Err(ConfigError { hint, ..refused });
            }
        }
        Ok(())
    }

    /// What holds for sources that a port forward translates to a WAN IP: as the first rule of `snat` that has
    /// the address says, whose ports they are. Both kinds of mapping cannot share them.
    fn settings_on(&self, address: u32) -> Settings {
        let rules = self.used.get(&address).into_iter().flatten();
        let snat = rules.filter(|name| name.kind == RuleKind::Snat);
        let mut rules = snat.filter_map(|name| self.config.snat.get(&*name.name));
        let of_rule = |rule: &Arc<config::SnatRule>| {
            let rule = rules::settings(rule, WanSource::Addresses(Vec::new()), 0);
            let Settings { mapping, l4_ports, keep_range, rest_ms, mss_clamp, .. } = rule;
            Settings { mapping, l4_ports, keep_range, rest_ms, mss_clamp, ..Settings::default() }
        };
        rules.next().map_or_else(Settings::default, of_rule)
    }

    pub(super) fn forwarding(&mut self) -> Result<Forwarding, ConfigError> {
        let path = Path::of("forwarding").key("rules");
        let mut rules = Vec::with_capacity(self.config.forwarding.rules.len());
        for (name, rule) in &self.config.forwarding.rules {
            let path = path.key(name);
            let (matching, except) =
                rules::matching(&rule.matches, self.facts, &path.key("match"))?;
            let action = rules::forwarding_action(rule.action);
            let name = RuleName { kind: RuleKind::Forwarding, name: name.as_str().into() };
            let slot = self.known(name, None, &path)?.slot;
            rules.push(Rule { slot, matching, except, action });
        }
        let accepts = forwards_by_default(self.config);
        Ok(Forwarding { rules, policy: if accepts { Action::Accept } else { Action::Drop } })
    }

    /// Slot and class of timeouts of a rule: those that it has, or new ones.
    fn known(
        &mut self,
        name: RuleName,
        timeouts: Option<TimeoutSet>,
        path: &Path,
    ) -> Result<Known, ConfigError> {
        let timeouts = timeouts.map(|set| TimeoutSet { gateway: true, ..set });
        let timeout_class = timeouts.map(|set| self.classes.take(set)).transpose();
        let timeout_class = timeout_class.map_err(|error| {
            refuse(ErrorKind::Invalid, path.key("timeouts"), &name.name, error.to_string())
        })?;
        let slot = match self.old.rules.get(&name) {
            Some(known) => known.slot,
            None => {
                let slot = self.slots.take();
                if let Some(slot) = slot {
                    self.taken.push(slot);
                }
                slot.filter(|slot| slot.index() < RULES_MAX as usize).ok_or_else(|| {
                    let message = format!("there are {RULES_MAX} rules of NAT, and no more room");
                    refuse(ErrorKind::Invalid, path.clone(), RULES_MAX, message)
                })?
            }
        };
        self.names.add_rule(slot, name.clone());
        let known = Known { slot, timeout_class };
        self.rules.insert(name, known);
        Ok(known)
    }

    /// Gives WAN IPs places, where they have none.
    fn place_all(
        &mut self,
        wans: &[Configured],
        name: &RuleName,
        path: &Path,
    ) -> Result<(), ConfigError> {
        for wan in wans {
            self.used.entry(wan.address).or_default().push(name.clone());
            if self.places.contains_key(&wan.address) {
                continue;
            }
            let free = self.free.next().ok_or_else(|| {
                let message = format!("there are {} WAN IPs, and no more room", u16::MAX);
                refuse(ErrorKind::Invalid, path.clone(), u16::MAX, message)
            })?;
            self.places.insert(wan.address, free);
        }
        Ok(())
    }

    pub(super) fn finish(self, gateway: Gateway, servers: BTreeMap<Slot, (u32, u16, u8)>) -> Next {
        let Self { old, rules, places, used, wanted, mut names, classes, .. } = self;
        for class in old.rules.values().filter_map(|known| known.timeout_class) {
            classes.give_back(class);
        }
        let slots: BTreeSet<Slot> = rules.values().map(|known| known.slot).collect();
        let before: BTreeSet<Slot> = old.rules.values().map(|known| known.slot).collect();
        let new = places.iter().filter(|(address, _)| !old.places.contains_key(address));
        let added = new.map(|(_, place)| *place).collect();
        let leaving: BTreeSet<u32> =
            places.keys().filter(|address| !used.contains_key(address)).copied().collect();
        for (address, place) in &places {
            let rules = used.get(address).cloned().unwrap_or_default();
            names.add_wan(WanName { address: *address, place: *place, rules });
        }
        let kept: Vec<Kept> = wanted.difference(&old.kept).cloned().collect();
        Next {
            gateway: Arc::new(gateway),
            begun: slots.difference(&before).copied().collect(),
            gone: before.difference(&slots).copied().collect(),
            added,
            starts: !old.started,
            running: Running {
                rules,
                places,
                leaving,
                kept: old.kept.union(&wanted).cloned().collect(),
                doubtful: old.doubtful.difference(&wanted).cloned().collect(),
                wanted,
                servers,
                names: Arc::new(names),
                started: old.started,
            },
            kept,
        }
    }
}
