//! What rules of NAT and forwarding have counted.

pub(super) mod log;
#[cfg(test)]
mod tests;
mod usage;
mod watch;

use std::collections::HashMap;

use api::{DnatInfo, ForwardingInfo, ForwardingRuleInfo, SnatInfo, Traffic};
use config::{DnatRule, DnatTarget, ForwardingRule, SnatRule};
use counters::Event;
use nat::state::RuleCounts;
use types::{Slot, Verdict};

use super::change::answer;
use super::compile::{RuleKind, forwards_by_default};
use super::rules::no_rule;
use super::{Control, Reply, State};
use crate::worker::link::{Command, ITEMS_MAX};
use crate::worker::nat::Reading;
pub(super) use watch::WanWatch;

impl Control {
    /// Rules of source NAT in order, with what passed them.
    ///
    /// # Errors
    /// If a worker does not answer.
    pub async fn snat_rules(&self) -> Reply<Vec<SnatInfo>> {
        let config = self.config();
        let names: Vec<_> = config.snat.names().collect();
        let counts = self.rule_counts(RuleKind::Snat, &names).await?;
        let rules = config.snat.into_iter().zip(counts).zip(1..);
        Ok(rules.map(|(((name, rule), counts), at)| snat_info(name, at, rule, counts)).collect())
    }

    /// One rule of source NAT.
    ///
    /// # Errors
    /// If there is none of this name, or a worker does not answer.
    pub async fn snat_rule(&self, name: &str) -> Reply<SnatInfo> {
        let config = self.config();
        let at = config.snat.names().position(|rule| rule == name);
        let (Some(at), Some(rule)) = (at, config.snat.get(name)) else {
            return Err(no_rule("snat", name));
        };
        let counts = self.rule_counts(RuleKind::Snat, &[name]).await?;
        Ok(snat_info(name, at as u32 + 1, rule, counts.first().copied().unwrap_or_default()))
    }

    /// Rules of destination NAT, with what passed them.
    ///
    /// # Errors
    /// If a worker does not answer.
    pub async fn dnat_rules(&self) -> Reply<Vec<DnatInfo>> {
        let config = self.config();
        let names: Vec<_> = config.dnat.keys().map(String::as_str).collect();
        let counts = self.rule_counts(RuleKind::Dnat, &names).await?;
        let rules = config.dnat.iter().zip(counts);
        let rules = rules.map(|((name, rule), counts)| dnat_info(name, rule, counts)).collect();
        self.with_servers(rules).await
    }

    /// One rule of destination NAT.
    ///
    /// # Errors
    /// If there is none of this name, or a worker does not answer.
    pub async fn dnat_rule(&self, name: &str) -> Reply<DnatInfo> {
        let config = self.config();
        let rule = config.dnat.get(name).ok_or_else(|| no_rule("dnat", name))?;
        let counts = self.rule_counts(RuleKind::Dnat, &[name]).await?;
        let info = dnat_info(name, rule, counts.first().copied().unwrap_or_default());
        self.with_servers(vec![info]).await?.pop().ok_or_else(|| no_rule("dnat", name))
    }

    /// The same rules; those that lead to several servers with these, and with what passed them as services.
    async fn with_servers(&self, mut rules: Vec<DnatInfo>) -> Reply<Vec<DnatInfo>> {
        let several = rules.iter().filter(|rule| matches!(rule.config.to, DnatTarget::Servers(_)));
        let names: Vec<_> = several.map(|rule| format!("dnat/{}", rule.name)).collect();
        if names.is_empty() {
            return Ok(rules);
        }
        let running = self.state().running();
        let services = self.service_infos(running, names).await?;
        let mut services: HashMap<_, _> =
            services.into_iter().map(|service| (service.name.clone(), service)).collect();
        for rule in &mut rules {
            if let Some(service) = services.remove(&format!("dnat/{}", rule.name)) {
                (rule.servers, rule.traffic) = (service.servers, service.traffic);
            }
        }
        Ok(rules)
    }

    /// Routing between interfaces, and its rules in order.
    ///
    /// # Errors
    /// If a worker does not answer.
    pub async fn forwarding(&self) -> Reply<ForwardingInfo> {
        let config = self.config();
        let names: Vec<_> = config.forwarding.rules.names().collect();
        let counts = self.rule_counts(RuleKind::Forwarding, &names).await?;
        Ok(self.state().forwarding(counts))
    }

    /// What was counted for rules, over all workers, in the order of the names.
    async fn rule_counts(&self, kind: RuleKind, names: &[&str]) -> Reply<Vec<RuleCounts>> {
        let slots: Vec<Option<Slot>> = {
            let state = self.state();
            names.iter().map(|name| state.gateway_names.slot(kind, name)).collect()
        };
        let known: Vec<Slot> = slots.iter().flatten().copied().collect();
        let mut counts: HashMap<Slot, RuleCounts> = HashMap::new();
        for slots in known.chunks(ITEMS_MAX) {
            let rules = || slots.iter().map(|slot| (*slot, RuleCounts::default())).collect();
            let reading = || Reading { rules: rules(), ..Reading::default() };
            for reading in self.read_nat(reading).await? {
                for (slot, counted) in reading.rules {
                    *counts.entry(slot).or_default() += counted;
                }
            }
        }
        let count = |slot: Option<Slot>| slot.and_then(|slot| counts.get(&slot)).copied();
        Ok(slots.into_iter().map(|slot| count(slot).unwrap_or_default()).collect())
    }

    /// Has the same read by all workers.
    pub(super) async fn read_nat(&self, reading: impl Fn() -> Reading) -> Reply<Vec<Reading>> {
        let workers: Vec<_> = self.state().workers.ids().collect();
        let mut waiting = Vec::with_capacity(workers.len());
        for worker in workers {
            let asked = self.ask(worker, Command::ReadNat(Box::new(reading()))).await?;
            waiting.push((worker, asked));
        }
        let mut read = Vec::with_capacity(waiting.len());
        for (worker, asked) in waiting {
            if let Command::ReadNat(reading) = answer(worker, asked).await? {
                read.push(*reading);
            }
        }
        Ok(read)
    }
}

impl State {
    fn forwarding(&self, counts: Vec<RuleCounts>) -> ForwardingInfo {
        let (config, values) = (&self.config, self.merged());
        let rules = config.forwarding.rules.into_iter().zip(counts).zip(1..);
        let rules = rules.map(|(((name, rule), counts), position)| ForwardingRuleInfo {
            name: name.clone(),
            position,
            config: ForwardingRule::clone(rule),
            packets: counts.accepted + counts.dropped,
            bytes: counts.accepted_bytes + counts.dropped_bytes,
        });
        ForwardingInfo {
            policy: config.forwarding.policy,
            accepts: forwards_by_default(config),
            reverse_path: config.forwarding.reverse_path,
            silent: config.forwarding.silent.clone(),
            rules: rules.collect(),
            forwarded: values.event(Event::Forwarded),
            denied: values.verdict(Verdict::ForwardDenied),
            reverse_path_drops: values.verdict(Verdict::ReversePath),
        }
    }
}

/// Counts as the API has them.
fn traffic(counts: &RuleCounts) -> Traffic {
    Traffic {
        active: counts.sessions.into(),
        inactive: 0,
        connections: counts.opened,
        in_packets: counts.forward_packets,
        in_bytes: counts.forward_bytes,
        out_packets: counts.reverse_packets,
        out_bytes: counts.reverse_bytes,
        refused: counts.exhausted + counts.limited,
    }
}

fn snat_info(name: &str, position: u32, rule: &SnatRule, counts: RuleCounts) -> SnatInfo {
    SnatInfo {
        name: name.to_owned(),
        position,
        config: rule.clone(),
        mappings: counts.mappings.into(),
        traffic: traffic(&counts),
        accepted: counts.accepted,
        dropped: counts.dropped,
        exhausted: counts.exhausted,
        limited: counts.limited,
        filtered: counts.filtered,
    }
}

fn dnat_info(name: &str, rule: &DnatRule, counts: RuleCounts) -> DnatInfo {
    DnatInfo {
        name: name.to_owned(),
        config: rule.clone(),
        servers: Vec::new(),
        traffic: traffic(&counts),
        exhausted: counts.exhausted,
        limited: counts.limited,
        filtered: counts.filtered,
    }
}
