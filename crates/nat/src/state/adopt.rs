//! Restores what a conn held elsewhere: on another node, or before a restart.

use flow::LeaseKind;
use pool::LeaseError;
use pool::wan::WanError;
use types::{FlowKey, Now, Proto, Slot};

use super::source::lease_group;
use super::{Held, NatState};
use crate::gateway::Gateway;
use crate::mapping::{Endpoint32, Mapping, MappingId};
use crate::subscribers::{Limits, SubscriberId};

/// Why a conn's ports cannot be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdoptError {
    /// The outside endpoint is another inside endpoint's, or the other way round.
    #[error("the mapping contradicts one that is there")]
    Conflict,
    /// The address is no WAN IP here.
    #[error("the address is no WAN IP here")]
    NoAddress,
    /// No rule here is the one that the conn belongs to.
    #[error("there is no such rule here")]
    NoRule,
    /// It is of a mapping that is not here: that has to be restored before.
    #[error("the conn leads to a mapping that is not here")]
    NoMapping,
    /// No room for another mapping, lease or subscriber.
    #[error("no room for another mapping")]
    Full,
    /// The port is not free.
    #[error(transparent)]
    Port(#[from] WanError),
    /// The port is not free towards this remote.
    #[error(transparent)]
    Lease(#[from] LeaseError),
}

impl NatState {
    /// Takes what a conn holds, to the port, whatever limits say; `held.slot` is of a rule or port
    /// forward here. Its port must be of this worker's classes.
    ///
    /// # Errors
    /// Nothing has changed then.
    pub fn adopt(&mut self, gateway: &Gateway, held: &Held, now: Now) -> Result<(), AdoptError> {
        let (key, new_key) = (&held.key, &held.new_key);
        if held.lease == LeaseKind::Unanswered {
            return self.adopt_unanswered(held);
        }
        let to_mapping = held.lease != LeaseKind::None
            && key.dst != new_key.dst
            && !gateway.has_forward(key.dst, key.dport, key.proto);
        let target = if to_mapping {
            let inside = Endpoint32::new(new_key.dst, new_key.dport);
            let outside = Endpoint32::new(key.dst, key.dport);
            Some(self.restore(gateway, held.slot, (inside, outside), (key, new_key.src), now)?)
        } else {
            None
        };
        // Another inside host's conn is not of the one that it leads to.
        let sessions = u32::from(key.src == new_key.src);
        if let Some(mapping) = target.and_then(|id| self.mappings.get(id)).filter(|_| sessions == 0)
        {
            self.subscribers.leave(mapping.subscriber, 1, 0);
        }
        let source = self.adopt_source(gateway, held, now);
        match (source, target) {
            (Ok(()), _) => {
                self.pending += u32::from(held.pending);
                if let Some(counts) = self.counts_mut(held.slot) {
                    counts.sessions += 1;
                }
                Ok(())
            }
            (Err(error), target) => {
                if let Some(id) = target {
                    self.release_mapping(id, (new_key.src, sessions), false, now);
                }
                Err(error)
            }
        }
    }

    fn adopt_source(&mut self, gateway: &Gateway, held: &Held, now: Now) -> Result<(), AdoptError> {
        let (key, new_key) = (&held.key, &held.new_key);
        match held.lease {
            LeaseKind::Mapping if key.src != new_key.src => {
                let endpoints = (Endpoint32::new(key.src, key.sport), held.outside_source());
                self.restore(gateway, held.slot, endpoints, (key, key.dst), now).map(|_| ())
            }
            LeaseKind::Wan => {
                let place = gateway.place_of(new_key.src).ok_or(AdoptError::NoAddress)?;
                let id = self.enter_freely(key.src, key.zone, held.slot, true, now)?;
                if let Err(error) = self.adopt_lease(new_key, place) {
                    self.subscribers.leave(id, 1, 1);
                    return Err(error);
                }
                self.subscribers.pair(id, place);
                Ok(())
            }
            // Of a protocol without ports.
            LeaseKind::None if key.src != new_key.src => {
                gateway.place_of(new_key.src).ok_or(AdoptError::NoAddress)?;
                self.enter_freely(key.src, key.zone, held.slot, false, now).map(|_| ())
            }
            _ => Ok(()),
        }
    }

    /// The port of a conn that is for its remote alone.
    fn adopt_lease(&mut self, new_key: &FlowKey, place: u16) -> Result<(), AdoptError> {
        let outside = Endpoint32::new(new_key.src, new_key.sport);
        let proto = Proto::from_number(new_key.proto).ok_or(AdoptError::Conflict)?;
        if !self.wan.is_open(place, proto, outside.l4_port) {
            return Err(WanError::Taken.into());
        }
        let group = lease_group(new_key);
        self.leases.take_exact(&group, outside.l4_port)?;
        if !self.share(outside, proto, place) {
            self.leases.give_back(&group, outside.l4_port, None);
            return Err(AdoptError::Full);
        }
        Ok(())
    }

    /// A conn from outside that was not answered yet: it has its share here, too.
    fn adopt_unanswered(&mut self, held: &Held) -> Result<(), AdoptError> {
        let id = self.target_of(held).ok_or(AdoptError::NoMapping)?;
        let mapping = *self.mappings.get(id).ok_or(AdoptError::NoMapping)?;
        self.count_unanswered(id, &mapping, true);
        if let Some(counts) = self.counts_mut(held.slot) {
            counts.sessions += 1;
        }
        Ok(())
    }

    /// A subscriber with a conn more, and perhaps a port, whatever its limits.
    fn enter_freely(
        &mut self,
        address: u32,
        zone: u16,
        rule: Slot,
        port: bool,
        now: Now,
    ) -> Result<SubscriberId, AdoptError> {
        let none = Limits::default();
        let id = self.subscribers.enter(address, zone, rule, &none, now).ok_or(AdoptError::Full)?;
        self.subscribers.admit(id, &none, port, now).map_err(|_| AdoptError::Full)?;
        Ok(id)
    }

    /// The mapping of these endpoints, made if it is not there, and held by one conn more.
    fn restore(
        &mut self,
        gateway: &Gateway,
        rule: Slot,
        (inside, outside): (Endpoint32, Endpoint32),
        (key, remote): (&FlowKey, u32),
        now: Now,
    ) -> Result<MappingId, AdoptError> {
        let (proto, zone) = (key.proto, key.zone);
        if let Some(id) = self.mappings.find_outside(outside, proto) {
            let mapping = *self.mappings.get(id).ok_or(AdoptError::Conflict)?;
            if mapping.inside != inside || mapping.zone != zone {
                return Err(AdoptError::Conflict);
            }
            let none = Limits::default();
            let admitted = self.subscribers.admit(mapping.subscriber, &none, false, now);
            admitted.map_err(|_| AdoptError::Full)?;
            if !self.mappings.hold(id, remote) {
                self.subscribers.leave(mapping.subscriber, 1, 0);
                return Err(AdoptError::Full);
            }
            return Ok(id);
        }
        let terms = gateway.terms_of(rule).ok_or(AdoptError::NoRule)?;
        let settings = terms.settings();
        let place = gateway.place_of(outside.address).ok_or(AdoptError::NoAddress)?;
        let excludes = |there| terms.excludes(there, place);
        if self.mappings.find_inside(inside, proto, zone, rule, excludes).is_some() {
            return Err(AdoptError::Conflict);
        }
        let leased = Proto::from_number(proto).ok_or(AdoptError::Conflict)?;
        let subscriber = self.enter_freely(inside.address, zone, rule, true, now)?;
        if let Err(error) = self.wan.take_exact(place, leased, outside.l4_port) {
            self.subscribers.leave(subscriber, 1, 1);
            return Err(error.into());
        }
        self.subscribers.pair(subscriber, place);
        let mapping = Mapping {
            inside,
            outside,
            rule,
            conns: 0,
            unanswered: 0,
            created_ms: now.tick_ms,
            subscriber,
            rest_ms: settings.rest_ms,
            zone,
            place,
            proto,
            filtering: settings.filtering,
            leads_in: terms.leads_in,
        };
        let inserted = self.mappings.insert(mapping);
        let held = inserted.filter(|&id| self.mappings.hold(id, remote));
        if held.is_some()
            && let Some(counts) = self.counts_mut(rule)
        {
            counts.mappings += 1;
        }
        if held.is_some() && terms.leads_in {
            self.wan.count_led_in(place, leased, true);
        }
        held.ok_or_else(|| {
            if let Some(id) = inserted {
                self.mappings.drop_unused(id);
            }
            self.wan.give_back(place, leased, outside.l4_port, None);
            self.subscribers.leave(subscriber, 1, 1);
            AdoptError::Full
        })
    }
}
