//! What a worker has taken for the conns of a NAT gateway: mappings, ports, and who has how much.

mod adopt;
mod counts;
mod held;
mod inbound;
mod kept;
mod source;
#[cfg(test)]
mod tests;

use flow::{Cold, Flow, LeaseKind, Timeouts};
use pool::wan::{WanConfig, WanPorts};
use pool::{LeaseConfig, LeaseConfigError, Leases};
use types::{ClassSet, EthPortId, FlowKey, Now, Proto, Slot, Verdict};

use crate::gateway::{Filtering, Forward, Gateway, Terms};
use crate::mapping::{Endpoint32, Mapping, MappingId, Mappings};
use crate::shared::SharedPorts;
use crate::subscribers::Subscribers;
pub use adopt::AdoptError;
use counts::RuleCell;
pub use counts::{RuleCounts, Traffic};
use held::HeldSyns;
pub use held::{HeldSyn, QUOTE_MAX};
pub use inbound::UNANSWERED_MAX;
pub use kept::Kept;

/// The size of one worker's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatConfig {
    /// The classes of WAN IPs' ports that are this worker's.
    pub classes: ClassSet,
    /// Places for WAN IPs.
    pub max_addresses: u16,
    /// Mappings at once.
    pub max_mappings: u32,
    /// Remotes of mappings with address-dependent filtering at once.
    pub max_peers: u32,
    /// Inside addresses at once, for each rule.
    pub max_subscribers: u32,
    /// Ports leased for one remote each, of address-and-port-dependent mapping.
    pub max_leases: u32,
    /// Ports that rest at once.
    pub max_resting: u32,
    /// Slots of rules are below it.
    pub max_rules: u32,
    /// SYNs from outside that nobody expected, until they are answered.
    pub max_held_syns: u32,
    /// Secret, the same on all workers, so that an inside address draws the same WAN IP on each.
    pub seed: [u64; 2],
    /// Number of the worker: its ports come in another order.
    pub worker: u16,
}

/// What a conn of the gateway holds, and how it translates: from [`NatState::open_out`] and its
/// sisters to [`NatState::release`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The opener's packets as they arrive.
    pub key: FlowKey,
    /// The opener's packets as they leave.
    pub new_key: FlowKey,
    /// The rule or port forward.
    pub slot: Slot,
    /// What is held.
    pub lease: LeaseKind,
    /// It leads in by a port forward, and has a share of what is not answered yet.
    pub pending: bool,
}

impl Held {
    /// What a conn holds that was opened earlier.
    pub const fn of(forward: &Flow, cold: &Cold) -> Self {
        Self {
            key: forward.key(),
            new_key: forward.new_key(),
            slot: cold.service(),
            lease: cold.lease(),
            pending: forward.timeout_class == Timeouts::UNANSWERED
                && !matches!(cold.lease(), LeaseKind::Unanswered),
        }
    }

    /// The source as it leaves, and as the outside knows it.
    const fn outside_source(&self) -> Endpoint32 {
        Endpoint32::new(self.new_key.src, self.new_key.sport)
    }
}

/// A packet that is to be translated on its way out.
#[derive(Clone, Copy, Debug)]
pub struct Out<'a> {
    /// Its key as it arrives.
    pub key: &'a FlowKey,
    /// The index of the rule that matched.
    pub rule: usize,
    /// The interface that it leaves by.
    pub out_dev: Option<EthPortId>,
}

/// One worker's NAT state. Control makes it; on the path nothing is allocated.
pub struct NatState {
    mappings: Mappings,
    subscribers: Subscribers,
    wan: WanPorts,
    /// Ports for one remote each.
    leases: Leases,
    /// Which ports they are.
    shared: SharedPorts,
    rules: Box<[RuleCell]>,
    held: HeldSyns,
    /// Counts draws of WAN IPs for arbitrary pooling.
    drawn: u64,
    /// Conns from outside that nobody has answered, and how many there may be.
    unanswered: u32,
    max_unanswered: u32,
    /// Those through port forwards, of which there may be as many.
    pending: u32,
}

impl NatState {
    /// Reserves all memory; WAN IPs come later, by [`NatState::wan_mut`].
    ///
    /// # Errors
    /// More leases than a pool can number.
    pub fn new(config: &NatConfig) -> Result<Self, LeaseConfigError> {
        let seed = config.seed;
        let own_seed = [seed.iter().fold(0, |a, b| a ^ b), u64::from(config.worker) + 1];
        let leases = Self::leases_of(config, own_seed);
        let wan = WanConfig {
            classes: config.classes,
            max_addresses: config.max_addresses,
            max_resting: config.max_resting,
            seed: own_seed,
        };
        Ok(Self {
            mappings: Mappings::new(config.max_mappings, config.max_peers, seed),
            subscribers: Subscribers::new(config.max_subscribers, seed),
            wan: WanPorts::new(&wan),
            leases: Leases::new(&leases)?,
            shared: SharedPorts::new(config.max_leases, seed),
            rules: vec![RuleCell::default(); config.max_rules as usize].into(),
            held: HeldSyns::new(config.max_held_syns),
            drawn: 0,
            unanswered: 0,
            pending: 0,
            max_unanswered: (config.max_mappings / inbound::UNANSWERED_SHARE).max(1),
        })
    }

    /// Leases for one remote each; they do not rest.
    fn leases_of(config: &NatConfig, seed: [u64; 2]) -> LeaseConfig {
        let l4_ports = 1..=65_535;
        LeaseConfig { max_resting: 0, l4_ports, ..LeaseConfig::new(config.max_leases, seed) }
    }

    /// Bytes that [`NatState::new`] reserves, without those of the WAN IPs.
    pub fn reserved_bytes(config: &NatConfig) -> u64 {
        let leases = Self::leases_of(config, config.seed);
        Mappings::reserved_bytes(config.max_mappings, config.max_peers)
            + Subscribers::reserved_bytes(config.max_subscribers)
            + pool::plan::<u32>(&leases).total_bytes() as u64
            + SharedPorts::reserved_bytes(config.max_leases)
            + WanPorts::reserved_bytes(config.max_resting)
            + u64::from(config.max_rules) * size_of::<RuleCell>() as u64
            + HeldSyns::reserved_bytes(config.max_held_syns)
    }

    /// The mappings.
    pub const fn mappings(&self) -> &Mappings {
        &self.mappings
    }

    /// The subscribers.
    pub const fn subscribers(&self) -> &Subscribers {
        &self.subscribers
    }

    /// The ports of WAN IPs.
    pub const fn wan(&self) -> &WanPorts {
        &self.wan
    }

    /// The ports of WAN IPs, so that addresses come and go and ports are reserved.
    pub const fn wan_mut(&mut self) -> &mut WanPorts {
        &mut self.wan
    }

    /// The ports that are leased for one remote each.
    pub const fn leases(&self) -> &Leases {
        &self.leases
    }

    /// Ends the rests of ports that are over, at most `budget` of them.
    pub fn tick(&mut self, now: Now, budget: usize) {
        self.wan.tick(now, budget);
    }

    /// Opens a conn from inside: its source gets a WAN IP. To the outside endpoint of a mapping that
    /// is here and takes packets from anybody it goes straight to its inside endpoint, in the same
    /// conn (RFC 4787 REQ-9). To one that filters, and to a port of another worker's, it goes as if to
    /// the outside: what is kept from coming in there has still gone out, and lets the answer in.
    ///
    /// `is_taken` tells whether the flow table has a key; protocols without ports need it.
    ///
    /// # Errors
    /// Nothing has changed then but the rule's counts: [`Verdict::WanExhausted`],
    /// [`Verdict::SubscriberLimit`], [`Verdict::NoMapping`], [`Verdict::TableFull`], and
    /// [`Verdict::Filtered`] without hairpinning.
    pub fn open_out(
        &mut self,
        gateway: &Gateway,
        out: &Out<'_>,
        is_taken: impl Fn(&FlowKey) -> bool,
        now: Now,
    ) -> Result<Held, Verdict> {
        let terms = gateway.terms(out.rule).ok_or(Verdict::Internal)?;
        let key = out.key;
        let Some(proto) = Proto::from_number(key.proto) else {
            let opened = self.open_portless(gateway, terms, out, is_taken, now);
            return self.counted(terms.slot(), opened);
        };
        let target = self.hairpin_target(gateway, terms, key);
        let opened = target.and_then(|target| {
            let to = target.and_then(|id| self.mappings.get(id)).map(|mapping| mapping.inside);
            let to = to.unwrap_or(Endpoint32::new(key.dst, key.dport));
            self.open_towards(terms, key, (target, to), (proto, out.out_dev), now)
        });
        self.counted(terms.slot(), opened)
    }

    /// The mapping that a packet from inside to a WAN IP leads to in one conn.
    fn hairpin_target(
        &self,
        gateway: &Gateway,
        terms: &Terms,
        key: &FlowKey,
    ) -> Result<Option<MappingId>, Verdict> {
        if gateway.place_of(key.dst).is_none() {
            return Ok(None);
        }
        if !terms.settings().hairpin {
            return Err(Verdict::Filtered);
        }
        let found = self.mappings.find_outside(Endpoint32::new(key.dst, key.dport), key.proto);
        let mapping = found.and_then(|id| self.mappings.get(id)).filter(|found| found.conns != 0);
        match mapping.map(|mapping| mapping.filtering) {
            Some(Filtering::EndpointIndependent) => Ok(found),
            Some(Filtering::AddressDependent | Filtering::AddressAndPortDependent) => Ok(None),
            None if self.wan.classes().contains_port(key.dport) => Err(Verdict::NoMapping),
            None => Ok(None),
        }
    }

    /// Leases a source, and holds the mapping that is the target.
    fn open_towards(
        &mut self,
        terms: &Terms,
        key: &FlowKey,
        (target, to): (Option<MappingId>, Endpoint32),
        (proto, out_dev): (Proto, Option<EthPortId>),
        now: Now,
    ) -> Result<Held, Verdict> {
        let (outside, lease) = self.take_source(terms, key, to, (proto, out_dev), now)?;
        let is_query = proto == Proto::Icmp;
        let new_key = FlowKey {
            src: outside.address,
            sport: outside.l4_port,
            dst: to.address,
            // The identifier of a query stands in both places (RFC 5508 REQ-1).
            dport: if is_query { outside.l4_port } else { to.l4_port },
            ..*key
        };
        let held = Held { key: *key, new_key, slot: terms.slot(), lease, pending: false };
        if let Some(id) = target {
            // It counts against what this host may open alone: to whom the mapping belongs has not opened it.
            if !self.mappings.hold(id, outside.address) {
                self.give_source(&held, false, now);
                return Err(Verdict::TableFull);
            }
        }
        Ok(held)
    }

    /// Opens a conn through a port forward. With `translate_source` the server sees a port of the
    /// WAN IP, else the client.
    ///
    /// # Errors
    /// [`Verdict::Unanswered`], [`Verdict::WanExhausted`] and [`Verdict::TableFull`]; nothing has changed then but
    /// the counts.
    pub fn open_forward(
        &mut self,
        forward: &Forward,
        key: &FlowKey,
        translate_source: bool,
        now: Now,
    ) -> Result<Held, Verdict> {
        let terms = forward.terms();
        let new_key = forward.translated(key);
        let to = Endpoint32::new(new_key.dst, new_key.dport);
        let (slot, lease) = (terms.slot(), LeaseKind::None);
        let held = Held { key: *key, new_key, slot, lease, pending: true };
        if self.pending >= self.max_unanswered {
            return self.counted(slot, Err(Verdict::Unanswered));
        }
        let opened = match Proto::from_number(key.proto).filter(|_| translate_source) {
            None => Ok(held),
            Some(proto) => {
                let taken = self.take_source(terms, key, to, (proto, None), now);
                taken.map(|(outside, lease)| {
                    let (src, sport) = (outside.address, outside.l4_port);
                    Held { new_key: FlowKey { src, sport, ..new_key }, lease, ..held }
                })
            }
        };
        self.pending += u32::from(opened.is_ok());
        self.counted(slot, opened)
    }

    /// Gives back all that a conn holds, as it closes. True if a mapping is gone with it.
    pub fn release(&mut self, held: &Held, now: Now) -> bool {
        self.give_back(held, true, now)
    }

    /// Gives back all that a conn holds which does not come to be: no port rests, and its subscriber may
    /// open another one at once.
    pub fn abandon(&mut self, held: &Held, now: Now) {
        self.give_back(held, false, now);
        if let Some(counts) = self.counts_mut(held.slot) {
            counts.opened = counts.opened.saturating_sub(1);
        }
    }

    fn give_back(&mut self, held: &Held, was_open: bool, now: Now) -> bool {
        if let Some(counts) = self.counts_mut(held.slot) {
            counts.sessions = counts.sessions.saturating_sub(1);
        }
        if held.lease == LeaseKind::Unanswered {
            return self.give_unanswered(held, now);
        }
        // Nothing but its server could send to the port of one that was never answered: it does not rest.
        let was_open = was_open && !held.pending;
        self.pending = self.pending.saturating_sub(u32::from(held.pending));
        let mut gone = false;
        let (key, new_key) = (&held.key, &held.new_key);
        if held.lease != LeaseKind::None && key.dst != new_key.dst {
            // A port forward's has no mapping.
            if let Some(id) = self.target_of(held) {
                // Another inside host's conn is that one's alone.
                let sessions = u32::from(key.src == new_key.src);
                gone |= self.release_mapping(id, (new_key.src, sessions), was_open, now);
            }
        }
        gone | self.give_source(held, was_open, now)
    }

    /// The mapping that a conn leads to: of the port that it came to, and of the endpoint that it goes to.
    fn target_of(&self, held: &Held) -> Option<MappingId> {
        let outside = Endpoint32::new(held.key.dst, held.key.dport);
        let id = self.mappings.find_outside(outside, held.key.proto)?;
        let inside = self.mappings.get(id)?.inside;
        let same_port =
            held.key.proto == Proto::Icmp.number() || inside.l4_port == held.new_key.dport;
        (inside.address == held.new_key.dst && same_port).then_some(id)
    }

    /// One conn less uses a mapping. With `was_open` its port rests if it was the last one.
    /// `sessions` tells whether it counts among those of the mapping's host.
    fn release_mapping(
        &mut self,
        id: MappingId,
        (remote, sessions): (u32, u32),
        was_open: bool,
        now: Now,
    ) -> bool {
        let Some(subscriber) = self.mappings.get(id).map(|mapping| mapping.subscriber) else {
            return false;
        };
        if !was_open && sessions != 0 {
            self.subscribers.refund(subscriber);
        }
        let gone = self.mappings.release(id, remote);
        self.subscribers.leave(subscriber, sessions, u32::from(gone.is_some()));
        self.mapping_gone(gone, was_open, now)
    }

    /// Counts a mapping that is gone, and gives back its port.
    fn mapping_gone(&mut self, gone: Option<Mapping>, rests: bool, now: Now) -> bool {
        if let Some(mapping) = &gone {
            if let Some(counts) = self.counts_mut(mapping.rule) {
                counts.mappings = counts.mappings.saturating_sub(1);
            }
            self.give_port(mapping, rests, now);
        }
        gone.is_some()
    }

    /// Adds what a conn has sent since the last time to its rule's counts.
    pub fn add_traffic(&mut self, slot: Slot, traffic: &Traffic) {
        let Some(counts) = self.counts_mut(slot) else { return };
        let (forward, reverse) = (traffic.forward, traffic.reverse);
        counts.forward_packets = counts.forward_packets.wrapping_add(forward.0.into());
        counts.forward_bytes = counts.forward_bytes.wrapping_add(forward.1);
        counts.reverse_packets = counts.reverse_packets.wrapping_add(reverse.0.into());
        counts.reverse_bytes = counts.reverse_bytes.wrapping_add(reverse.1);
    }

    /// Counts a packet of so many bytes that a rule let pass unchanged, or dropped by its action.
    pub fn decided(&mut self, slot: Slot, passed: bool, bytes: u16) {
        let Some(counts) = self.counts_mut(slot) else { return };
        let (packets, sum) = match passed {
            true => (&mut counts.accepted, &mut counts.accepted_bytes),
            false => (&mut counts.dropped, &mut counts.dropped_bytes),
        };
        *packets = packets.wrapping_add(1);
        *sum = sum.wrapping_add(bytes.into());
    }

    /// What was counted for a rule or port forward.
    pub fn counts(&self, slot: Slot) -> RuleCounts {
        let cell = self.rules.get(slot.index()).filter(|cell| cell.slot == slot);
        cell.map(|cell| cell.counts).unwrap_or_default()
    }

    /// The counts of a slot, if it is not an older one's than those that are there.
    fn counts_mut(&mut self, slot: Slot) -> Option<&mut RuleCounts> {
        let cell = self.rules.get_mut(slot.index()).filter(|cell| cell.slot == slot)?;
        Some(&mut cell.counts)
    }

    /// Begins the counts of a rule or port forward, unless they are there: control calls it for those
    /// of a new snapshot. False if the slot is too large.
    pub fn begin(&mut self, slot: Slot) -> bool {
        let Some(cell) = self.rules.get_mut(slot.index()) else { return false };
        if cell.slot != slot {
            *cell = RuleCell { slot, ..RuleCell::default() };
        }
        true
    }

    fn counted(&mut self, slot: Slot, opened: Result<Held, Verdict>) -> Result<Held, Verdict> {
        match opened {
            Ok(_) => {
                if let Some(counts) = self.counts_mut(slot) {
                    counts.sessions += 1;
                    counts.opened += 1;
                }
            }
            Err(verdict) => self.count_refused(slot, verdict),
        }
        opened
    }

    /// Counts what a rule or port forward has refused.
    pub fn count_refused(&mut self, slot: Slot, verdict: Verdict) {
        let Some(counts) = self.counts_mut(slot) else { return };
        match verdict {
            Verdict::WanExhausted => counts.exhausted += 1,
            Verdict::Filtered => counts.filtered += 1,
            Verdict::SubscriberLimit | Verdict::Unanswered | Verdict::ForwardTaken => {
                counts.limited += 1;
            }
            _ => {}
        }
    }

    /// Notes a SYN from outside that has no conn: it is answered only if, six seconds later, there is
    /// still none (RFC 5382 REQ-4). `quote` is the packet from its IP header on. False if there are
    /// too many, which are then dropped silently.
    pub fn hold_syn(&mut self, key: &FlowKey, quote: &[u8], now: Now) -> bool {
        self.held.hold(key, quote, now)
    }

    /// The next SYN that is due and has no conn by now, as `is_answered` tells: to be answered by
    /// ICMP 3/3. To be called until `None`, with a budget of SYNs to look at.
    pub fn next_due_syn(
        &mut self,
        now: Now,
        budget: &mut u32,
        is_answered: impl Fn(&FlowKey) -> bool,
    ) -> Option<HeldSyn> {
        self.held.next_due(now, budget, is_answered)
    }
}
