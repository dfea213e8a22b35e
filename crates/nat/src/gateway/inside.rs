//! Which packets to a WAN IP come from inside: their senders want to be translated, too (RFC 4787 REQ-9).
//!
//! What a rule asks of packets that leave says who is inside, by these in order:
//!
//! - `in_dev`: what comes in by it, and from the rule's sources if it names any;
//! - the interface: WAN IPs and ways out stand on the *outer* interfaces, and what comes in by another one and from
//!   the rule's sources is from inside;
//! - the sources, if the rule names any: with one arm, inside and outside share the outer interface. That is so
//!   unless a network of the rule's sources lies on another interface: inside is there then, and what comes in by
//!   the outer one is from outside, whatever its source.

use std::ops::RangeInclusive;

use types::EthPortId;

use super::{Settings, WanSource};
use crate::rules::{Action, Match, Query, Rule, Rules};

/// What lies on which interface, as far as rules ask for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// Interfaces of WAN IPs, by address.
    pub wans: Vec<(u32, EthPortId)>,
    /// Networks that are reached by an interface, the one of all addresses among them.
    pub networks: Vec<(RangeInclusive<u32>, EthPortId)>,
}

impl Topology {
    fn of_address(&self, wanted: u32) -> impl Iterator<Item = EthPortId> {
        self.wans.iter().filter(move |(address, _)| *address == wanted).map(|(_, dev)| *dev)
    }

    /// Ways out of a rule.
    fn outer_of(&self, rule: &Rule, settings: &Settings) -> Vec<EthPortId> {
        match (&settings.wans, rule.matching.out_dev) {
            (_, Some(dev)) => vec![dev],
            (WanSource::Addresses(wans), None) => {
                wans.iter().flat_map(|wan| self.of_address(wan.address)).collect()
            }
            // It may leave by any; most of it by where everything else is.
            (WanSource::Interface(_), None) => {
                let all = |network: &RangeInclusive<u32>| *network == (0..=u32::MAX);
                self.networks.iter().filter(|(net, _)| all(net)).map(|(_, dev)| *dev).collect()
            }
        }
    }

    /// True if a network of these sources lies on an interface that is no outer one.
    fn has_inner(&self, sources: &[RangeInclusive<u32>], outer: &[EthPortId]) -> bool {
        let overlaps = |network: &RangeInclusive<u32>| {
            *network != (0..=u32::MAX)
                && sources.iter().any(|s| s.start() <= network.end() && network.start() <= s.end())
        };
        let inner = self.networks.iter().filter(|(_, dev)| !outer.contains(dev));
        inner.into_iter().any(|(network, _)| overlaps(network))
    }
}

/// Sources and interfaces of what is translated.
#[derive(Clone, Debug)]
pub(super) struct Inside {
    /// Of packets that come by an outer interface.
    by_outer: Rules,
    /// Of packets that come by another one.
    by_inner: Rules,
    outer: Box<[EthPortId]>,
    /// The outer interfaces, and those of the WAN IPs of port forwards.
    doors: Box<[EthPortId]>,
    one_arm: bool,
}

impl Inside {
    pub(super) fn new(
        rules: &[(Rule, Settings)],
        forwards: impl Iterator<Item = u32>,
        topology: &Topology,
    ) -> Self {
        let translating = || rules.iter().filter(|(rule, _)| rule.action == Action::Translate);
        let mut outer: Vec<EthPortId> =
            translating().flat_map(|(rule, settings)| topology.outer_of(rule, settings)).collect();
        outer.sort_unstable();
        outer.dedup();
        let mut by_outer = Vec::new();
        let mut by_inner = Vec::new();
        for Match { sources, in_dev, .. } in translating().map(|(rule, _)| &rule.matching) {
            let asked = Match { sources: sources.clone(), in_dev: *in_dev, ..Match::default() };
            let asked = Rule { matching: asked, ..Rule::default() };
            let one_arm = in_dev.is_some() || !topology.has_inner(sources, &outer);
            if one_arm && !sources.is_empty() {
                by_outer.push(asked.clone());
            }
            by_inner.push(asked);
        }
        let mut doors = outer.clone();
        doors.extend(forwards.flat_map(|address| topology.of_address(address)));
        let one_arm = !topology.has_inner(&[0..=u32::MAX], &outer);
        // Each stands for a rule that was compiled, so they are not too many.
        let compile = |rules: &[Rule]| Rules::new(rules).unwrap_or_else(|_| Rules::none());
        let (by_outer, by_inner) = (compile(&by_outer), compile(&by_inner));
        Self { by_outer, by_inner, outer: outer.into(), doors: doors.into(), one_arm }
    }

    /// True if no network lies on another interface than the outer ones.
    pub(super) const fn has_one_arm(&self) -> bool {
        self.one_arm
    }

    /// True if remotes come in by an interface.
    #[inline]
    pub(super) fn is_door(&self, dev: EthPortId) -> bool {
        self.doors.contains(&dev)
    }

    /// Whether a packet of this source that came by `in_dev` is from inside; `wan_dev` is the interface of the WAN
    /// IP that it is for.
    #[inline]
    pub(super) fn has(&self, src: u32, in_dev: EthPortId, wan_dev: Option<EthPortId>) -> bool {
        let query = Query { src, dst: 0, sport: 0, dport: 0, proto: 0, in_dev, out_dev: None };
        let by_outer = Some(in_dev) == wan_dev || self.outer.contains(&in_dev);
        let rules = if by_outer { &self.by_outer } else { &self.by_inner };
        rules.find(&query).is_some()
    }
}
