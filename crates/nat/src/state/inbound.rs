//! Conns that remotes open to mappings and through port forwards: until the inside host answers, they have a bounded
//! share of their own.
//!
//! Anybody may send to a mapping whose filtering is endpoint-independent. So that nobody outside can
//! exhaust what an inside address may have, or keep its mappings alive (RFC 4787 REQ-6, §12), such a conn
//! counts against no limit of the subscriber's and holds no mapping before a packet comes back.

use flow::LeaseKind;
use types::{FlowKey, Now, Proto, Verdict};

use super::{Held, NatState};
use crate::gateway::{Filtering, Gateway};
use crate::mapping::{Endpoint32, Mapping, MappingId};
use crate::subscribers::Limits;

/// Conns from outside that one inside address may leave unanswered at once: enough for a host that many find at the
/// same time, and a hundredth of what its mappings could hold.
pub const UNANSWERED_MAX: u16 = 64;
/// All of them together have this part of a worker's mappings, and those through port forwards as much again.
pub(super) const UNANSWERED_SHARE: u32 = 8;

impl NatState {
    /// Whether a packet from outside to a WAN IP may open a conn; changes nothing.
    ///
    /// # Errors
    /// [`Verdict::NoMapping`], [`Verdict::Filtered`] and [`Verdict::Unanswered`].
    #[inline]
    pub fn may_accept(&self, key: &FlowKey) -> Result<MappingId, Verdict> {
        self.may_enter(key, key.src)
    }

    /// The same for a packet that comes from `remote`, as the mapping sees it.
    #[inline]
    fn may_enter(&self, key: &FlowKey, remote: u32) -> Result<MappingId, Verdict> {
        let outside = Endpoint32::new(key.dst, key.dport);
        let id = self.mappings.find_outside(outside, key.proto).ok_or(Verdict::NoMapping)?;
        let mapping = self.mappings.get(id).ok_or(Verdict::Internal)?;
        if mapping.conns == 0 {
            // It has ended but for what outsiders tried.
            return Err(Verdict::NoMapping);
        }
        self.passes(id, mapping, remote)?;
        let of_subscriber = self.subscribers.get(mapping.subscriber).map_or(0, |s| s.unanswered);
        if of_subscriber >= UNANSWERED_MAX || self.unanswered >= self.max_unanswered {
            return Err(Verdict::Unanswered);
        }
        Ok(id)
    }

    /// The inside endpoint that a packet to a WAN IP goes to by a mapping.
    #[inline]
    pub fn inside_of(&self, key: &FlowKey) -> Option<Endpoint32> {
        let outside = Endpoint32::new(key.dst, key.dport);
        let id = self.mappings.find_outside(outside, key.proto)?;
        self.mappings.get(id).map(|mapping| mapping.inside)
    }

    /// Whether a mapping is for this remote.
    #[inline]
    fn passes(&self, id: MappingId, mapping: &Mapping, remote: u32) -> Result<(), Verdict> {
        match mapping.filtering {
            Filtering::EndpointIndependent => Ok(()),
            Filtering::AddressDependent if self.mappings.has_peer(id, remote) => Ok(()),
            Filtering::AddressDependent | Filtering::AddressAndPortDependent => {
                Err(Verdict::Filtered)
            }
        }
    }

    /// Counts a packet that [`NatState::may_accept`] has refused with the rule of its mapping.
    pub fn refused_in(&mut self, key: &FlowKey, verdict: Verdict) {
        let outside = Endpoint32::new(key.dst, key.dport);
        let id = self.mappings.find_outside(outside, key.proto);
        if let Some(rule) = id.and_then(|id| self.mappings.get(id)).map(|mapping| mapping.rule) {
            self.count_refused(rule, verdict);
        }
    }

    /// Opens a conn from outside to a mapping.
    ///
    /// # Errors
    /// As [`NatState::may_accept`]. Nothing has changed then but the rule's counts.
    pub fn accept_in(&mut self, key: &FlowKey) -> Result<Held, Verdict> {
        self.accept(key, key.src)
    }

    /// Opens a conn for an ICMP query of an inside host to the mapping of another one's (RFC 7857 §12). There is one
    /// identifier for both ends, the other host's own: so it is asked by the WAN IP, and by one host at a time. It
    /// counts as one from outside that is not answered, and is opened anew as long as it is asked.
    ///
    /// # Errors
    /// As [`NatState::accept_in`].
    pub fn accept_query(&mut self, key: &FlowKey) -> Result<Held, Verdict> {
        self.accept(key, key.dst)
    }

    fn accept(&mut self, key: &FlowKey, remote: u32) -> Result<Held, Verdict> {
        let id = match self.may_enter(key, remote) {
            Ok(id) => id,
            Err(verdict) => {
                self.refused_in(key, verdict);
                return Err(verdict);
            }
        };
        let mapping = *self.mappings.get(id).ok_or(Verdict::Internal)?;
        let inside = mapping.inside;
        let is_query = key.proto == Proto::Icmp.number();
        let sport = if is_query { inside.l4_port } else { key.sport };
        let (src, dst, dport) = (remote, inside.address, inside.l4_port);
        let new_key = FlowKey { src, sport, dst, dport, ..*key };
        self.count_unanswered(id, &mapping, true);
        let held = Held {
            key: *key,
            new_key,
            slot: mapping.rule,
            lease: LeaseKind::Unanswered,
            pending: false,
        };
        self.counted(mapping.rule, Ok(held))
    }

    pub(super) fn count_unanswered(&mut self, id: MappingId, mapping: &Mapping, more: bool) {
        self.unanswered = match more {
            true => self.unanswered + 1,
            false => self.unanswered.saturating_sub(1),
        };
        self.mappings.count_unanswered(id, more);
        self.subscribers.count_unanswered(mapping.subscriber, more);
    }

    /// The inside host answers a conn that a remote has opened: from now on it holds its mapping, as
    /// [`LeaseKind::Mapping`] says, and counts among the subscriber's sessions.
    ///
    /// # Errors
    /// [`Verdict::SubscriberLimit`] and [`Verdict::TableFull`]: it is still unanswered then.
    pub fn answered(&mut self, gateway: &Gateway, held: &Held, now: Now) -> Result<(), Verdict> {
        let id = self.target_of(held).ok_or(Verdict::Internal)?;
        let mapping = *self.mappings.get(id).ok_or(Verdict::Internal)?;
        let limits = gateway.terms_of(mapping.rule).map(|terms| terms.settings().limits);
        // It has not opened the conn.
        let limits = Limits { new_sessions_per_second: 0, ..limits.unwrap_or_default() };
        let admitted = self.subscribers.admit(mapping.subscriber, &limits, false, now);
        if let Err(verdict) = admitted {
            self.count_refused(mapping.rule, verdict);
            return Err(verdict);
        }
        if !self.mappings.hold(id, held.key.src) {
            self.subscribers.leave(mapping.subscriber, 1, 0);
            return Err(Verdict::TableFull);
        }
        self.count_unanswered(id, &mapping, false);
        Ok(())
    }

    /// A conn through a port forward is answered: it is one as others are.
    pub fn forward_answered(&mut self) {
        self.pending = self.pending.saturating_sub(1);
    }

    /// An unanswered conn ends; true if its mapping is gone with it.
    pub(super) fn give_unanswered(&mut self, held: &Held, now: Now) -> bool {
        let Some((id, mapping)) =
            self.target_of(held).and_then(|id| Some((id, *self.mappings.get(id)?)))
        else {
            debug_assert!(false, "a mapping is there as long as conns lead to it");
            return false;
        };
        self.count_unanswered(id, &mapping, false);
        let gone = self.mappings.drop_unused(id);
        self.subscribers.leave(mapping.subscriber, 0, u32::from(gone.is_some()));
        self.mapping_gone(gone, true, now)
    }
}
