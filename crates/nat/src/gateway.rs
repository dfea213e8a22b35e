//! The part of a NAT gateway that workers read: rules and what they say, WAN IPs, port forwards.

mod forwards;
mod inside;
#[cfg(test)]
mod tests;
mod wan;

use std::ops::RangeInclusive;

use pool::Within;
use pool::wan::Order;
use types::{EthPortId, FlowKey, Proto, Slot, Verdict};

use crate::rules::{Action, Query, Rule, RuleMatch, Rules, TooManyRules};
use crate::subscribers::Limits;
pub use forwards::{Forward, ForwardConfig, SourceAddress};
use forwards::{Forwards, Servers};
use inside::Inside;
pub use inside::Topology;
pub use wan::{Wan, WanSource};

/// Whether an inside endpoint has one outside endpoint for all remotes (RFC 4787 §4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MappingKind {
    /// One for all (RFC 4787 REQ-1, RFC 5382 REQ-1).
    #[default]
    EndpointIndependent,
    /// Another one for each remote address and port: more conns for each WAN IP.
    AddressAndPortDependent,
}

/// Which remotes may send to a mapping (RFC 4787 §5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Filtering {
    /// All.
    #[default]
    EndpointIndependent,
    /// Those addresses that the inside endpoint speaks with.
    AddressDependent,
    /// Those endpoints that the inside endpoint speaks with.
    AddressAndPortDependent,
}

/// Whether all mappings of an inside address have one WAN IP (RFC 4787 §4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Pooling {
    /// They have (RFC 4787 REQ-2, RFC 6888 REQ-2).
    #[default]
    Paired,
    /// Each may have another.
    Arbitrary,
}

/// What a sender is told if there is no free port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnExhausted {
    /// Nothing.
    #[default]
    Drop,
    /// ICMP 3/13, communication administratively prohibited (RFC 5508 REQ-8, RFC 6888 REQ-11).
    Prohibited,
}

/// What becomes of the MSS in SYNs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MssClamp {
    /// It stays.
    #[default]
    Off,
    /// At most what the way out takes.
    Path,
    /// At most so many bytes.
    Bytes(u16),
}

/// What a rule says of the conns that it translates.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where WAN IPs come from.
    pub wans: WanSource,
    /// See [`MappingKind`].
    pub mapping: MappingKind,
    /// See [`Filtering`].
    pub filtering: Filtering,
    /// See [`Pooling`].
    pub pooling: Pooling,
    /// In what order ports are taken.
    pub order: Order,
    /// The ports and identifiers to take; not below 1.
    pub l4_ports: RangeInclusive<u16>,
    /// Even ports for even ones (RFC 4787 REQ-4).
    pub keep_parity: bool,
    /// Ports below 1024 for such ones (RFC 4787 REQ-3 a).
    pub keep_range: bool,
    /// How long a port rests after its last conn, milliseconds (RFC 6888 REQ-8).
    pub rest_ms: u32,
    /// For each inside address.
    pub limits: Limits,
    /// What a sender is told if there is no free port.
    pub on_exhausted: OnExhausted,
    /// What becomes of the MSS in SYNs.
    pub mss_clamp: MssClamp,
    /// Inside hosts may reach each other by their outside endpoints (RFC 4787 REQ-9).
    pub hairpin: bool,
    /// Class of the conns' timeouts.
    pub timeout_class: u8,
}

impl Default for Settings {
    /// No address yet; all else as the RFCs recommend.
    fn default() -> Self {
        Self {
            wans: WanSource::Addresses(Vec::new()),
            mapping: MappingKind::default(),
            filtering: Filtering::default(),
            pooling: Pooling::default(),
            order: Order::default(),
            l4_ports: 1_024..=65_535,
            keep_parity: false,
            keep_range: false,
            rest_ms: 120_000,
            limits: Limits::default(),
            on_exhausted: OnExhausted::default(),
            mss_clamp: MssClamp::default(),
            hairpin: true,
            timeout_class: 0,
        }
    }
}

/// A rule's settings, compiled.
#[derive(Clone, Debug)]
pub struct Terms {
    slot: Slot,
    settings: Settings,
    /// By place, to tell which are there.
    by_place: Box<[Wan]>,
    /// Those that get new mappings, and the sums of their weights up to each.
    open: Box<[(u32, Wan)]>,
    /// The ports of the range, for leases.
    within: Within,
    /// Of a port forward: whose sources it exchanges are remotes.
    pub(crate) leads_in: bool,
}

impl Terms {
    /// Compiles.
    pub fn new(slot: Slot, settings: Settings) -> Self {
        let mut wans = match &settings.wans {
            WanSource::Addresses(wans) => wans.clone(),
            WanSource::Interface(wans) => wans.iter().map(|(_, wan)| *wan).collect(),
        };
        wans.sort_by_key(|wan| wan.place);
        let mut sum = 0;
        let open = wans.iter().filter(|wan| wan.takes_new()).map(|wan| {
            sum += u32::from(wan.weight);
            (sum, *wan)
        });
        let open = open.collect();
        let within = Within::new(&settings.l4_ports);
        Self { slot, settings, by_place: wans.into(), open, within, leads_in: false }
    }

    /// Names the rule for as long as it lives.
    #[inline]
    pub const fn slot(&self) -> Slot {
        self.slot
    }

    /// As configured.
    #[inline]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The ports that may be taken.
    #[inline]
    pub(crate) const fn within(&self) -> &Within {
        &self.within
    }

    /// The WAN IP at a place, if the rule gives new mappings on it.
    #[inline]
    pub(crate) fn open_at(&self, place: u16) -> Option<Wan> {
        let at = self.by_place.binary_search_by_key(&place, |wan| wan.place).ok()?;
        self.by_place.get(at).copied().filter(Wan::takes_new)
    }

    /// The WAN IP that a subscriber has, if it may go on with it.
    #[inline]
    pub(crate) fn paired(&self, place: u16, out_dev: Option<EthPortId>) -> Option<Wan> {
        match &self.settings.wans {
            WanSource::Addresses(_) => self.open_at(place),
            // One subscriber may leave by several interfaces.
            WanSource::Interface(_) => self.candidates(0, out_dev).next(),
        }
    }

    /// Whether the WAN IP at a place may stand for what leaves by an interface: it is the rule's and here, and of that
    /// interface if each has its own. Mappings that are there go on while it is draining.
    #[inline]
    pub(crate) fn serves(&self, place: u16, out_dev: Option<EthPortId>) -> bool {
        let of_device = match &self.settings.wans {
            WanSource::Addresses(_) => true,
            WanSource::Interface(wans) => {
                wans.iter().any(|(dev, wan)| Some(*dev) == out_dev && wan.place == place)
            }
        };
        of_device && self.has(place)
    }

    /// Whether an inside endpoint that has a mapping on one place's WAN IP can have none on the other's.
    pub(crate) fn excludes(&self, there: u16, place: u16) -> bool {
        match &self.settings.wans {
            WanSource::Addresses(_) => self.has(there),
            WanSource::Interface(_) => there == place,
        }
    }

    #[inline]
    fn has(&self, place: u16) -> bool {
        let at = self.by_place.binary_search_by_key(&place, |wan| wan.place);
        at.is_ok_and(|at| self.by_place.get(at).is_some_and(|wan| !wan.withheld))
    }

    /// WAN IPs for new mappings, beginning with the one that a number draws by weight.
    #[inline]
    pub(crate) fn candidates(
        &self,
        drawn: u64,
        out_dev: Option<EthPortId>,
    ) -> impl Iterator<Item = Wan> + '_ {
        let total = self.open.last().map_or(0, |open| open.0);
        let point = (((drawn >> 32) * u64::from(total)) >> 32) as u32;
        let start = self.open.partition_point(|open| open.0 <= point);
        let (before, from) = self.open.split_at_checked(start).unwrap_or((&[], &[]));
        let of_device = match &self.settings.wans {
            WanSource::Addresses(_) => None,
            WanSource::Interface(wans) => {
                Some(wans.iter().find(|wan| Some(wan.0) == out_dev).map(|wan| wan.1))
            }
        };
        let any = of_device.is_none();
        let pooled = from.iter().chain(before).map(|open| open.1).filter(move |_| any);
        of_device.flatten().filter(Wan::takes_new).into_iter().chain(pooled)
    }
}

/// What is to be done with a packet that leaves, or that only passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Its source is exchanged, by this rule.
    Translate(RuleMatch),
    /// It is routed as it is; by this rule, if one says so.
    Forward(Option<RuleMatch>),
    /// It is dropped.
    Drop(Verdict),
    /// It is dropped, and its sender told (ICMP 3/13).
    Reject(Verdict),
}

/// What may be forwarded.
#[derive(Clone, Debug)]
pub struct Forwarding {
    /// First match wins; [`Action::Translate`] counts as [`Action::Accept`].
    pub rules: Vec<Rule>,
    /// What no rule matches.
    pub policy: Action,
}

/// What a [`Gateway`] is made of.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// Of `snat`, in their order, each with its settings if it translates.
    pub rules: Vec<(Rule, Settings)>,
    /// Of `dnat`, in their order.
    pub forwards: Vec<ForwardConfig>,
    /// Servers of services in NAT mode: address, port, protocol.
    pub servers: Vec<(u32, u16, u8)>,
    /// Of `forwarding`.
    pub forwarding: Forwarding,
    /// What lies on which interface.
    pub topology: Topology,
}

/// What the snapshot has of a NAT gateway; immutable.
#[derive(Clone, Debug)]
pub struct Gateway {
    rules: Rules,
    terms: Box<[Terms]>,
    by_slot: Box<[(Slot, u32)]>,
    forwards: Forwards,
    servers: Servers,
    inside: Inside,
    /// WAN IPs and their places, by address.
    wans: Box<[(u32, u16)]>,
    filter: Rules,
    policy: Action,
}

impl Gateway {
    /// Compiles.
    ///
    /// # Errors
    /// Too many rules.
    pub fn new(config: GatewayConfig) -> Result<Self, TooManyRules> {
        let inside = Inside::new(
            &config.rules,
            config.forwards.iter().map(|forward| forward.address),
            &config.topology,
        );
        let (rules, settings): (Vec<Rule>, Vec<Settings>) = config.rules.into_iter().unzip();
        let terms: Box<[Terms]> = rules
            .iter()
            .zip(settings)
            .map(|(rule, settings)| Terms::new(rule.slot, settings))
            .collect();
        let forwards = Forwards::new(config.forwards);
        let servers = config.servers;
        let by_slot = |terms: &mut dyn Iterator<Item = Slot>| {
            let mut slots: Vec<_> = terms.enumerate().map(|(n, slot)| (slot, n as u32)).collect();
            slots.sort_unstable();
            slots.into_boxed_slice()
        };
        let all = terms.iter().chain(forwards.all().iter().map(|forward| &forward.terms));
        let mut wans: Vec<_> = all
            .flat_map(|terms| terms.by_place.iter().map(|wan| (wan.address, wan.place)))
            .collect();
        wans.sort_unstable();
        wans.dedup();
        Ok(Self {
            by_slot: by_slot(&mut terms.iter().map(|terms| terms.slot)),
            servers: Servers::new(servers),
            rules: Rules::new(&rules)?,
            terms,
            forwards,
            inside,
            wans: wans.into(),
            filter: Rules::new(&config.forwarding.rules)?,
            policy: config.forwarding.policy,
        })
    }

    /// What is to be done with a packet that is of no conn and not to an address of ours. Changes
    /// nothing. (A packet to a WAN IP that comes from inside is to be asked for, too.)
    #[inline]
    pub fn decide_out(&self, query: &Query) -> Decision {
        self.denied(query).unwrap_or_else(|| self.decide_source(query))
    }

    /// What `forwarding` does with a packet that it does not let pass; `None` if it does.
    #[inline]
    pub fn denied(&self, query: &Query) -> Option<Decision> {
        match self.filter_rule(query).map_or(self.policy, |found| found.action) {
            Action::Accept | Action::Translate => None,
            Action::Drop => Some(Decision::Drop(Verdict::ForwardDenied)),
            Action::Reject => Some(Decision::Reject(Verdict::ForwardDenied)),
        }
    }

    /// True if nothing is kept from passing by `forwarding`.
    #[inline]
    pub fn forwards_all(&self) -> bool {
        self.filter.is_empty() && self.policy == Action::Accept
    }

    /// True if there are rules of `forwarding`.
    #[inline]
    pub fn has_filter(&self) -> bool {
        !self.filter.is_empty()
    }

    /// The rule of `forwarding` that decides about a packet; what a rule excepts the policy decides on.
    #[inline]
    pub fn filter_rule(&self, query: &Query) -> Option<RuleMatch> {
        self.filter.find(query).filter(|found| !found.excepted)
    }

    /// The rule of `snat` that a packet meets.
    #[inline]
    pub fn source_rule(&self, query: &Query) -> Option<RuleMatch> {
        self.rules.find(query)
    }

    /// The same as [`Gateway::decide_out`], but for the policy and rules of `forwarding`.
    #[inline]
    pub fn decide_source(&self, query: &Query) -> Decision {
        match self.rules.find(query) {
            None => Decision::Forward(None),
            Some(found) => match found.action {
                Action::Translate => Decision::Translate(found),
                Action::Accept => Decision::Forward(Some(found)),
                Action::Drop => Decision::Drop(Verdict::NatDenied),
                Action::Reject => Decision::Reject(Verdict::NatDenied),
            },
        }
    }

    /// What the rule at an index says.
    #[inline]
    pub fn terms(&self, index: usize) -> Option<&Terms> {
        self.terms.get(index)
    }

    /// What the rule or port forward of a slot says.
    #[inline]
    pub fn terms_of(&self, slot: Slot) -> Option<&Terms> {
        match self.by_slot.binary_search_by_key(&slot, |entry| entry.0) {
            Ok(at) => self.by_slot.get(at).and_then(|entry| self.terms.get(entry.1 as usize)),
            Err(_) => self.forwards.of(slot).map(|forward| &forward.terms),
        }
    }

    /// The port forward of a packet to a WAN IP.
    #[inline]
    pub fn forward(&self, key: &FlowKey, in_dev: EthPortId) -> Option<&Forward> {
        self.forwards.find(key, in_dev)
    }

    /// The port forward of a slot.
    pub fn forward_of(&self, slot: Slot) -> Option<&Forward> {
        self.forwards.of(slot)
    }

    /// True if there is a port forward on this endpoint, whoever may use it.
    #[inline]
    pub fn has_forward(&self, address: u32, l4_port: u16, proto: u8) -> bool {
        self.forwards.is_on(address, l4_port, proto)
    }

    /// The inside address that a port forward leads to: by that one, what is to a port of ours belongs to a worker.
    #[inline]
    pub fn leads_to(&self, key: &FlowKey, in_dev: EthPortId) -> Option<u32> {
        self.forwards.towards(key, in_dev).map(Forward::inside)
    }

    /// The port forwards on an endpoint in their order, whoever may use them.
    pub fn forwards_on(&self, address: u32, l4_port: u16, proto: u8) -> Vec<&Forward> {
        self.forwards.on_all(address, l4_port, proto).collect()
    }

    /// Ports that forwards are on, by address and protocol: the same ones are on all ports of a range. Without those
    /// of protocols that have no ports.
    pub fn forwarded(&self) -> impl Iterator<Item = (u32, u8, RangeInclusive<u16>)> + '_ {
        self.forwards.ranges().filter(|(_, proto, _)| Proto::from_number(*proto).is_some())
    }

    /// The first port forward on this endpoint, whoever may use it.
    pub fn forward_on(&self, address: u32, l4_port: u16, proto: u8) -> Option<&Forward> {
        self.forwards.on(address, l4_port, proto)
    }

    /// True if this is a server of a service in NAT mode: replies come from it that name a client's own address.
    #[inline]
    pub fn is_server(&self, address: u32, l4_port: u16, proto: u8) -> bool {
        self.servers.has(address, l4_port, proto)
    }

    /// True if a packet to a WAN IP comes from inside, by its source and the interface that it came by; `wan_dev` is
    /// the one that the WAN IP stands on.
    #[inline]
    pub fn is_inside(&self, src: u32, in_dev: EthPortId, wan_dev: Option<EthPortId>) -> bool {
        self.inside.has(src, in_dev, wan_dev)
    }

    /// True if inside hosts and remotes come in by the same interfaces: no network that we know of lies on another one.
    #[inline]
    pub const fn has_one_arm(&self) -> bool {
        self.inside.has_one_arm()
    }

    /// True if remotes come in by an interface: a WAN IP of a rule or port forward, or a rule's way out, is there.
    #[inline]
    pub fn is_outer(&self, dev: EthPortId) -> bool {
        self.inside.is_door(dev)
    }

    /// The place of a WAN IP.
    #[inline]
    pub fn place_of(&self, address: u32) -> Option<u16> {
        let at = self.wans.binary_search_by_key(&address, |wan| wan.0).ok()?;
        self.wans.get(at).map(|wan| wan.1)
    }

    /// The ports of a WAN IP that port forwards have, for [`pool::WanPorts::reserve`].
    pub fn reserved(
        &self,
        address: u32,
    ) -> impl Iterator<Item = (Proto, RangeInclusive<u16>)> + '_ {
        self.forwards.all().iter().filter(move |forward| forward.address == address).filter_map(
            |forward| Some((Proto::from_number(forward.proto)?, forward.l4_ports.clone())),
        )
    }
}
