//! Leasing a source: the mapping of an inside endpoint, or a port for one remote.

use flow::LeaseKind;
use pool::wan::{Order, WanError, Want};
use pool::{GroupKey, LeaseError, Leases, Within};
use types::{ClassSet, EthPortId, FlowKey, Now, Proto, Slot, Verdict};

use super::{Held, NatState, Out};
use crate::gateway::{Gateway, MappingKind, Pooling, Settings, Terms, Wan};
use crate::mapping::{Endpoint32, Mapping, MappingId};
use crate::subscribers::SubscriberId;

impl NatState {
    /// Asks what opening a conn of this key reads first into the cache, and where its port may come from if
    /// `ahead` others open before.
    #[inline]
    pub fn prefetch_out(&self, terms: &Terms, key: &FlowKey, ahead: u32) {
        let (rule, inside) = (terms.slot(), Endpoint32::new(key.src, key.sport));
        self.mappings.prefetch_inside(inside, key.proto, key.zone, rule);
        let subscriber = self.subscribers.find(key.src, key.zone, rule);
        let known = subscriber.and_then(|id| self.subscribers.get(id));
        if let (Some(known), Some(proto)) = (known, Proto::from_number(key.proto)) {
            self.wan.prefetch(known.place, proto, &wanted(terms.settings(), key), ahead);
        }
    }

    /// Asks for where the mapping of this key will be entered if `ahead` others open before: some time after
    /// [`NatState::prefetch_out`], by the port that it is likely to get.
    #[inline]
    pub fn prefetch_made(
        &self,
        terms: &Terms,
        key: &FlowKey,
        out_dev: Option<EthPortId>,
        ahead: u32,
    ) {
        let settings = terms.settings();
        if settings.order != Order::Random || settings.pooling != Pooling::Paired {
            return;
        }
        let subscriber = self.subscribers.find(key.src, key.zone, terms.slot());
        let known = subscriber.and_then(|id| self.subscribers.get(id));
        let wan = known.and_then(|known| terms.paired(known.place, out_dev));
        let (Some(wan), Some(proto)) = (wan, Proto::from_number(key.proto)) else { return };
        if let Some(l4_port) = self.wan.peek(wan.place, proto, &wanted(settings, key), ahead) {
            self.mappings.prefetch_outside(Endpoint32::new(wan.address, l4_port), key.proto);
        }
    }

    /// Asks what [`NatState::release`] of this reads first into the cache.
    #[inline]
    pub fn prefetch_release(&self, gateway: &Gateway, held: &Held) {
        if held.lease == LeaseKind::Mapping {
            let Held { key, new_key, slot, .. } = held;
            let inside = Endpoint32::new(key.src, key.sport);
            self.mappings.prefetch_inside(inside, key.proto, key.zone, *slot);
            let outside = held.outside_source();
            self.mappings.prefetch_outside(outside, key.proto);
            let place = gateway.place_of(new_key.src);
            if let Some((place, proto)) = place.zip(Proto::from_number(key.proto)) {
                self.wan.prefetch_port(place, proto, outside.l4_port);
            }
        }
    }

    /// Asks for the mapping itself, some time after [`NatState::prefetch_release`].
    #[inline]
    pub fn prefetch_mapping(&self, held: &Held) {
        if held.lease == LeaseKind::Mapping {
            self.mappings.prefetch_mapping(held.outside_source(), held.key.proto);
        }
    }

    /// True if an inside endpoint has a mapping here under a rule.
    pub fn has_mapping(&self, key: &FlowKey, rule: Slot) -> bool {
        let inside = Endpoint32::new(key.src, key.sport);
        self.mappings.find_inside(inside, key.proto, key.zone, rule, |_| true).is_some()
    }

    /// Leases a source for a packet that goes to `to`, and says what is held.
    pub(super) fn take_source(
        &mut self,
        terms: &Terms,
        key: &FlowKey,
        to: Endpoint32,
        (proto, out_dev): (Proto, Option<EthPortId>),
        now: Now,
    ) -> Result<(Endpoint32, LeaseKind), Verdict> {
        let inside = Endpoint32::new(key.src, key.sport);
        if terms.settings().mapping == MappingKind::AddressAndPortDependent {
            let outside = self.take_lease(terms, key, to, (proto, out_dev), now)?;
            return Ok((outside, LeaseKind::Wan));
        }
        let will_do = |place| terms.serves(place, out_dev);
        let known = self.mappings.find_inside(inside, key.proto, key.zone, terms.slot(), will_do);
        let id = match known.and_then(|id| Some((id, *self.mappings.get(id)?))) {
            Some((id, mapping)) => {
                let limits = &terms.settings().limits;
                self.subscribers.admit(mapping.subscriber, limits, false, now)?;
                if !self.mappings.hold(id, key.dst) {
                    self.subscribers.leave(mapping.subscriber, 1, 0);
                    return Err(Verdict::TableFull);
                }
                id
            }
            None => self.make_mapping(terms, key, (proto, out_dev), now)?,
        };
        let mapping = self.mappings.get(id).ok_or(Verdict::Internal)?;
        Ok((mapping.outside, LeaseKind::Mapping))
    }

    /// A new mapping, held by one conn.
    fn make_mapping(
        &mut self,
        terms: &Terms,
        key: &FlowKey,
        (proto, out_dev): (Proto, Option<EthPortId>),
        now: Now,
    ) -> Result<MappingId, Verdict> {
        let subscriber = self.enter(terms, key, now)?;
        let settings = terms.settings();
        let want = wanted(settings, key);
        let half = terms.leads_in.then(|| terms.within().count(self.wan.classes()).div_ceil(2));
        let wan = &mut self.wan;
        let draw = (self.drawn, &self.subscribers);
        let found = first_open(terms, subscriber, draw, out_dev, |at| {
            // Nobody outside takes the last port of the inside hosts.
            if half.is_some_and(|half| wan.led_in(at.place, proto) >= half) {
                return None;
            }
            match wan.take(at.place, proto, &want) {
                Ok(l4_port) => Some(Ok(l4_port)),
                Err(WanError::Exhausted | WanError::NoAddress) => None,
                Err(_) => Some(Err(Verdict::Internal)),
            }
        });
        self.drawn = self.drawn.wrapping_add(1);
        let (wan, l4_port) = match found {
            Ok(found) => found,
            Err(verdict) => {
                self.unenter(subscriber);
                return Err(verdict);
            }
        };
        self.subscribers.pair(subscriber, wan.place);
        let mapping = Mapping {
            inside: Endpoint32::new(key.src, key.sport),
            outside: Endpoint32::new(wan.address, l4_port),
            rule: terms.slot(),
            conns: 0,
            unanswered: 0,
            created_ms: now.tick_ms,
            subscriber,
            rest_ms: settings.rest_ms,
            zone: key.zone,
            place: wan.place,
            proto: key.proto,
            filtering: settings.filtering,
            leads_in: terms.leads_in,
        };
        let inserted = self.mappings.insert(mapping);
        let held = inserted.filter(|&id| self.mappings.hold(id, key.dst));
        if held.is_some()
            && let Some(counts) = self.counts_mut(mapping.rule)
        {
            counts.mappings += 1;
        }
        if held.is_some() && terms.leads_in {
            self.wan.count_led_in(wan.place, proto, true);
        }
        held.ok_or_else(|| {
            if let Some(id) = inserted {
                self.mappings.drop_unused(id);
            }
            self.wan.give_back(wan.place, proto, l4_port, None);
            self.unenter(subscriber);
            Verdict::TableFull
        })
    }

    /// The subscriber of a new port, with that and its first conn counted.
    fn enter(&mut self, terms: &Terms, key: &FlowKey, now: Now) -> Result<SubscriberId, Verdict> {
        let (limits, slot) = (&terms.settings().limits, terms.slot());
        let entered = self.subscribers.enter(key.src, key.zone, slot, limits, now);
        let subscriber = entered.ok_or(Verdict::TableFull)?;
        if let Err(verdict) = self.subscribers.admit(subscriber, limits, true, now) {
            self.subscribers.leave(subscriber, 0, 0);
            return Err(verdict);
        }
        Ok(subscriber)
    }

    /// Takes back what [`NatState::enter`] has counted.
    fn unenter(&mut self, subscriber: SubscriberId) {
        self.subscribers.refund(subscriber);
        self.subscribers.leave(subscriber, 1, 1);
    }

    /// A port for one remote: others have the same port towards theirs.
    fn take_lease(
        &mut self,
        terms: &Terms,
        key: &FlowKey,
        to: Endpoint32,
        (proto, out_dev): (Proto, Option<EthPortId>),
        now: Now,
    ) -> Result<Endpoint32, Verdict> {
        let subscriber = self.enter(terms, key, now)?;
        let (classes, within) = (self.wan.classes(), terms.within());
        let rport = if proto == Proto::Icmp { 0 } else { to.l4_port };
        let group = GroupKey { lip: 0, rs: to.address, rport, proto: key.proto };
        let (leases, ports) = (&mut self.leases, &self.wan);
        let draw = (self.drawn, &self.subscribers);
        let found = first_open(terms, subscriber, draw, out_dev, |wan| {
            let group = GroupKey { lip: wan.address, ..group };
            let is_open = |l4_port| ports.is_open(wan.place, proto, l4_port);
            match lease_open(leases, &group, (classes, within), is_open) {
                Ok(l4_port) => Some(Ok(l4_port)),
                Err(LeaseError::Exhausted) => None,
                Err(_) => Some(Err(Verdict::TableFull)),
            }
        });
        self.drawn = self.drawn.wrapping_add(1);
        match found {
            Ok((wan, l4_port)) => {
                let outside = Endpoint32::new(wan.address, l4_port);
                if !self.share(outside, proto, wan.place) {
                    self.leases.give_back(&GroupKey { lip: wan.address, ..group }, l4_port, None);
                    self.unenter(subscriber);
                    return Err(Verdict::TableFull);
                }
                self.subscribers.pair(subscriber, wan.place);
                Ok(outside)
            }
            Err(verdict) => {
                self.unenter(subscriber);
                Err(verdict)
            }
        }
    }

    /// A port is leased for one remote more: no mapping may have it now. False without room to count it.
    pub(super) fn share(&mut self, outside: Endpoint32, proto: Proto, place: u16) -> bool {
        let added = self.shared.add(outside, proto, place);
        if added {
            self.wan.share(place, proto, outside.l4_port, true);
        }
        added
    }

    /// A lease is given back; with the last one mappings may have its port again.
    fn unshare(&mut self, outside: Endpoint32, proto: u8) {
        let Some(proto) = Proto::from_number(proto) else { return };
        if let Some(place) = self.shared.remove(outside, proto) {
            self.wan.share(place, proto, outside.l4_port, false);
        }
    }

    /// Gives a conn's source back; true if its mapping is gone. Unless the conn `was_open`, its port does
    /// not rest.
    pub(super) fn give_source(&mut self, held: &Held, was_open: bool, now: Now) -> bool {
        let (key, new_key) = (&held.key, &held.new_key);
        if key.src == new_key.src && key.sport == new_key.sport {
            return false;
        }
        match held.lease {
            LeaseKind::Mapping if key.src != new_key.src => {
                let id = self.mappings.find_outside(held.outside_source(), key.proto);
                id.is_some_and(|id| self.release_mapping(id, (key.dst, 1), was_open, now))
            }
            LeaseKind::Wan => {
                let group = lease_group(new_key);
                let returned = self.leases.give_back(&group, new_key.sport, None);
                debug_assert!(returned, "a conn's port is leased");
                self.unshare(held.outside_source(), key.proto);
                self.leave_one(held, 1, was_open);
                false
            }
            LeaseKind::None if key.src != new_key.src => {
                self.leave_one(held, 0, was_open);
                false
            }
            _ => false,
        }
    }

    /// The subscriber of a conn without a mapping has it no more, and so many ports less.
    fn leave_one(&mut self, held: &Held, ports: u32, was_open: bool) {
        let Some(id) = self.subscribers.find(held.key.src, held.key.zone, held.slot) else {
            return;
        };
        if !was_open {
            self.subscribers.refund(id);
        }
        self.subscribers.leave(id, 1, ports);
    }

    /// The port of a mapping that is gone rests.
    pub(super) fn give_port(&mut self, mapping: &Mapping, rests: bool, now: Now) {
        let Some(proto) = Proto::from_number(mapping.proto) else { return };
        let rests = rests && mapping.rest_ms != 0;
        let rest = rests.then(|| now.tick_ms.wrapping_add(mapping.rest_ms));
        self.wan.give_back(mapping.place, proto, mapping.outside.l4_port, rest);
        if mapping.leads_in {
            self.wan.count_led_in(mapping.place, proto, false);
        }
    }

    /// A protocol without ports: a WAN IP towards one remote can serve one inside address only. To a
    /// WAN IP of ours it leads nowhere.
    pub(super) fn open_portless(
        &mut self,
        gateway: &Gateway,
        terms: &Terms,
        out: &Out<'_>,
        is_taken: impl Fn(&FlowKey) -> bool,
        now: Now,
    ) -> Result<Held, Verdict> {
        let key = out.key;
        if gateway.place_of(key.dst).is_some() {
            return Err(Verdict::NoMapping);
        }
        let paired = terms.settings().pooling == Pooling::Paired;
        let slot = terms.slot();
        let drawn = self.subscribers.draw(key.src, key.zone);
        let known = self.subscribers.find(key.src, key.zone, slot);
        let has_ports = known.and_then(|id| self.subscribers.get(id)).filter(|s| s.ports > 0);
        let own = has_ports.filter(|_| paired).and_then(|s| terms.paired(s.place, out.out_dev));
        let tried = if own.is_some() { 1 } else { usize::MAX };
        let keys = own
            .into_iter()
            .chain(terms.candidates(drawn, out.out_dev))
            .take(tried)
            .map(|wan| FlowKey { src: wan.address, ..*key });
        let free = keys.into_iter().find(|new_key| !is_taken(&new_key.reversed()));
        let new_key = free.ok_or(Verdict::WanExhausted)?;
        let limits = &terms.settings().limits;
        let subscriber = self.subscribers.enter(key.src, key.zone, slot, limits, now);
        let subscriber = subscriber.ok_or(Verdict::TableFull)?;
        if let Err(verdict) = self.subscribers.admit(subscriber, limits, false, now) {
            self.subscribers.leave(subscriber, 0, 0);
            return Err(verdict);
        }
        Ok(Held { key: *key, new_key, slot, lease: LeaseKind::None, pending: false })
    }
}

/// The next free port towards a remote that neither a port forward nor a mapping has. Another one is given back: the
/// cursor has passed it, and comes to it again when it has gone round.
#[inline]
fn lease_open(
    leases: &mut Leases,
    group: &GroupKey,
    (classes, within): (ClassSet, &Within),
    is_open: impl Fn(u16) -> bool,
) -> Result<u16, LeaseError> {
    /// Ports that are passed over for one conn, at most.
    const PASSED_MAX: usize = 512;
    for _ in 0..=PASSED_MAX {
        let l4_port = leases.take_within(group, classes, within)?;
        if is_open(l4_port) {
            return Ok(l4_port);
        }
        leases.give_back(group, l4_port, None);
    }
    Err(LeaseError::Exhausted)
}

/// The port that a mapping of this key wants.
#[inline]
pub(super) fn wanted(settings: &Settings, key: &FlowKey) -> Want {
    Want {
        like: key.sport,
        range: settings.l4_ports.clone(),
        order: settings.order,
        keep_parity: settings.keep_parity,
        keep_range: settings.keep_range,
    }
}

/// Who shares the ports of a WAN IP towards a remote. An ICMP query's other port is the identifier
/// again, and names no one.
pub(super) fn lease_group(new_key: &FlowKey) -> GroupKey {
    let rport = if new_key.proto == Proto::Icmp.number() { 0 } else { new_key.dport };
    GroupKey { lip: new_key.src, rs: new_key.dst, rport, proto: new_key.proto }
}

/// The first of a rule's WAN IPs that has a port, and the port: nobody is refused while one of them has. With paired pooling a subscriber that has others
/// keeps its WAN IP, as long as that one is there and not draining.
fn first_open(
    terms: &Terms,
    subscriber: SubscriberId,
    (drawn, subscribers): (u64, &crate::subscribers::Subscribers),
    out_dev: Option<EthPortId>,
    mut take: impl FnMut(&Wan) -> Option<Result<u16, Verdict>>,
) -> Result<(Wan, u16), Verdict> {
    let entry = subscribers.get(subscriber).ok_or(Verdict::Internal)?;
    let paired = terms.settings().pooling == Pooling::Paired;
    // The new port is counted already.
    if paired
        && entry.ports > 1
        && let Some(wan) = terms.paired(entry.place, out_dev)
    {
        let taken = take(&wan).ok_or(Verdict::WanExhausted)?;
        return taken.map(|l4_port| (wan, l4_port));
    }
    let own = subscribers.draw(entry.address, entry.zone);
    let drawn = if paired { own } else { own ^ drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15) };
    for wan in terms.candidates(drawn, out_dev) {
        if let Some(taken) = take(&wan) {
            return taken.map(|l4_port| (wan, l4_port));
        }
    }
    Err(Verdict::WanExhausted)
}
