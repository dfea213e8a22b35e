//! Control's record of neighbours: when to ask, whom to believe, whom to forget.
//!
//! The states are those of RFC 4861 §7.3.2, used for ARP as well, as Linux does, with two differences: a
//! neighbour that answers no unicast probe is asked by broadcast (of IPv6, at its solicited-node group) before
//! it fails, while packets still go to its last address (so that a new network card loses none), and
//! only a reply to a question of ours confirms a neighbour.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use types::{Address as _, EthPortId, MacAddr};

use crate::neighbour::{
    Heard, Learned, Neighbour, NeighbourAction, NeighbourConfig, NeighbourError, NeighbourState,
};
use crate::next_hop::{NextHopError, NextHopId, NextHopState, NextHops, NextHopsWriter};
use crate::number::by_family;
use crate::snapshot::Fib;

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    /// All but permanent ones.
    learned: usize,
    incomplete: usize,
}

/// The neighbours of all interfaces, and the only writer of their [`NextHops`].
#[derive(Debug)]
pub struct Neighbours {
    config: NeighbourConfig,
    next_hops: NextHopsWriter,
    /// By slot number.
    entries: Vec<Option<Neighbour>>,
    counts: HashMap<EthPortId, Counts>,
    used_scan_ms: u64,
}

/// How often the workers' marks of use are read and cleared.
const USED_SCAN_MS: u64 = 1000;

/// For so long after a confirmation another Ethernet address is believed by announcement only: of
/// several stations that answer one question the first counts.
const LOCK_MS: u64 = 1000;

impl Neighbours {
    /// No neighbours yet.
    pub fn new(config: NeighbourConfig) -> Self {
        let next_hops = NextHopsWriter::new(config.capacity, config.secret);
        let (entries, counts) = (Vec::new(), HashMap::new());
        Self { config, next_hops, entries, counts, used_scan_ms: 0 }
    }

    /// What the workers get.
    pub fn next_hops(&self) -> Arc<NextHops> {
        self.next_hops.shared()
    }

    /// See [`NextHopsWriter::publish`].
    pub fn publish(&mut self, generation: u16) {
        self.next_hops.publish(generation);
    }

    /// See [`NextHopsWriter::confirm`].
    pub fn confirm(&mut self, generation: u16) {
        self.next_hops.confirm(generation);
    }

    /// See [`NextHopsWriter::wants_generation`].
    pub fn wants_generation(&self) -> bool {
        self.next_hops.wants_generation()
    }

    /// All neighbours, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Neighbour> {
        self.entries.iter().flatten()
    }

    /// One neighbour.
    pub fn find(&self, iface: EthPortId, address: IpAddr) -> Option<&Neighbour> {
        let id = self.next_hops.find_any(iface, address);
        self.entries.get(usize::from(id.0))?.as_ref()
    }

    /// A worker has a packet for a neighbour that it found no slot for.
    ///
    /// # Errors
    /// If there is and can be no such neighbour, or a limit is reached. The packet is not to wait then.
    pub fn needed(
        &mut self,
        fib: &Fib,
        iface: EthPortId,
        address: IpAddr,
        now_ms: u64,
        actions: &mut Vec<NeighbourAction>,
    ) -> Result<NextHopId, NeighbourError> {
        if let Some(known) = self.find(iface, address).copied() {
            self.used(fib, known, now_ms, actions);
            return Ok(known.id);
        }
        self.check(fib, iface, address)?;
        self.check_limit(iface, address)?;
        self.check_unresolved(iface, address)?;
        let id = self.insert(iface, address)?;
        let state = NeighbourState::Incomplete;
        let mut entry = Neighbour {
            id,
            iface,
            address,
            mac: None,
            state,
            used_ms: now_ms,
            confirmed_ms: now_ms,
            deadline_ms: now_ms,
            probes: 0,
        };
        self.ask(fib, &mut entry, now_ms, actions);
        self.put(entry);
        Ok(id)
    }

    /// A packet told us of a neighbour. New ones are believed only if they ask for an address of
    /// ours; what is not on link never.
    pub fn learned(
        &mut self,
        fib: &Fib,
        learned: Learned,
        now_ms: u64,
        actions: &mut Vec<NeighbourAction>,
    ) {
        let Learned { iface, address, mac, heard } = learned;
        if mac.is_multicast() || mac.is_zero() {
            return;
        }
        if let Some(owner) = fib.owner_of(iface, address) {
            if owner.iface == iface {
                actions.push(NeighbourAction::Conflict { iface, address, mac });
            }
            return;
        }
        if !fib.has_neighbour(iface, address) {
            return;
        }
        match self.find(iface, address).copied() {
            Some(known) => self.heard(known, mac, heard, now_ms, actions),
            // The last quarter is for those that packets are waiting for.
            None if heard == Heard::Request && !self.is_crowded(iface) => {
                let Ok(id) = self.insert(iface, address) else { return };
                let state = NeighbourState::Stale;
                self.put(Neighbour {
                    id,
                    iface,
                    address,
                    mac: Some(mac),
                    state,
                    used_ms: now_ms,
                    confirmed_ms: now_ms,
                    deadline_ms: now_ms,
                    probes: 0,
                });
                actions.push(NeighbourAction::Resolved { id, iface, address, mac });
            }
            None => {}
        }
    }

    fn heard(
        &mut self,
        mut entry: Neighbour,
        mac: MacAddr,
        heard: Heard,
        now_ms: u64,
        actions: &mut Vec<NeighbourAction>,
    ) {
        use NeighbourState::{Failed, Incomplete, Permanent, Probe, Stale};
        if entry.state == Permanent {
            return;
        }
        let asked = matches!(entry.state, Incomplete | Probe);
        let usable = !matches!(entry.state, Incomplete | Failed);
        let changed = entry.mac != Some(mac) || !usable;
        let locked = usable && now_ms.saturating_sub(entry.confirmed_ms) < LOCK_MS;
        if changed && locked && heard != Heard::Gratuitous {
            return;
        }
        if heard == Heard::WeakReply && changed && usable {
            // Not believed, but one of both is wrong: whoever uses it next asks.
            if entry.state == NeighbourState::Reachable {
                entry.state = Stale;
                self.put(entry);
            }
            return;
        }
        if asked && matches!(heard, Heard::Reply | Heard::WeakReply) {
            self.confirm_entry(&mut entry, now_ms);
        } else if changed {
            entry.state = Stale;
            entry.confirmed_ms = now_ms;
        }
        entry.mac = Some(mac);
        let Neighbour { id, iface, address, .. } = entry;
        self.put(entry);
        if changed {
            actions.push(NeighbourAction::Resolved { id, iface, address, mac });
        }
    }

    /// Time passes; to be called about ten times a second.
    pub fn tick(&mut self, fib: &Fib, now_ms: u64, actions: &mut Vec<NeighbourAction>) {
        let scan_used = now_ms >= self.used_scan_ms;
        if scan_used {
            self.used_scan_ms = now_ms + USED_SCAN_MS;
        }
        for index in 0..self.entries.len() {
            let Some(mut entry) = self.entries.get(index).copied().flatten() else { continue };
            if scan_used && self.next_hops.take_used(entry.id) {
                self.used(fib, entry, now_ms, actions);
                let Some(used) = self.entries.get(index).copied().flatten() else { continue };
                entry = used;
            }
            self.age(fib, entry, now_ms, actions);
        }
    }

    /// Packets go to this neighbour, or would.
    fn used(
        &mut self,
        fib: &Fib,
        mut entry: Neighbour,
        now_ms: u64,
        actions: &mut Vec<NeighbourAction>,
    ) {
        entry.used_ms = now_ms;
        match entry.state {
            NeighbourState::Stale => {
                entry.state = NeighbourState::Delay;
                entry.deadline_ms = now_ms + self.config.delay_ms;
            }
            NeighbourState::Failed if self.check_unresolved(entry.iface, entry.address).is_ok() => {
                entry.state = NeighbourState::Incomplete;
                entry.probes = 0;
                self.ask(fib, &mut entry, now_ms, actions);
            }
            _ => {}
        }
        self.put(entry);
    }

    /// What happens to a neighbour by time alone.
    fn age(
        &mut self,
        fib: &Fib,
        mut entry: Neighbour,
        now_ms: u64,
        actions: &mut Vec<NeighbourAction>,
    ) {
        use NeighbourState::{Delay, Failed, Incomplete, Permanent, Probe, Reachable, Stale};
        if matches!(entry.state, Stale | Failed) {
            let unused_ms = now_ms.saturating_sub(entry.used_ms.max(entry.confirmed_ms));
            let crowded = self.is_crowded(entry.iface) && unused_ms > USED_SCAN_MS;
            if unused_ms >= self.config.gc_stale_ms || crowded {
                self.forget(entry);
            }
            return;
        }
        if now_ms < entry.deadline_ms || entry.state == Permanent {
            return;
        }
        let (unicast, broadcast) = (self.config.unicast_probes, self.config.broadcast_probes);
        match entry.state {
            Reachable => entry.state = Stale,
            Delay => {
                entry.state = Probe;
                entry.probes = 0;
                self.ask(fib, &mut entry, now_ms, actions);
            }
            Incomplete if entry.probes < broadcast => self.ask(fib, &mut entry, now_ms, actions),
            Probe if entry.probes < unicast.saturating_add(broadcast) => {
                self.ask(fib, &mut entry, now_ms, actions);
            }
            Incomplete | Probe => {
                let Neighbour { id, iface, address, .. } = entry;
                entry.state = Failed;
                entry.mac = None;
                entry.used_ms = now_ms;
                actions.push(NeighbourAction::Failed { id, iface, address });
                // Marks made for packets that were dropped with this do not call for another round.
                self.next_hops.take_used(id);
            }
            Stale | Failed | Permanent => {}
        }
        self.put(entry);
    }

    /// Sets a permanent neighbour.
    ///
    /// # Errors
    /// If there can be no such neighbour, or all next hops are in use.
    pub fn set_permanent(
        &mut self,
        fib: &Fib,
        iface: EthPortId,
        address: IpAddr,
        mac: MacAddr,
        now_ms: u64,
    ) -> Result<NextHopId, NeighbourError> {
        if mac.is_multicast() || mac.is_zero() {
            return Err(NeighbourError::Mac(mac));
        }
        self.check(fib, iface, address)?;
        let id = self.insert(iface, address)?;
        self.put(Neighbour {
            id,
            iface,
            address,
            mac: Some(mac),
            state: NeighbourState::Permanent,
            used_ms: now_ms,
            confirmed_ms: now_ms,
            deadline_ms: now_ms,
            probes: 0,
        });
        Ok(id)
    }

    /// Forgets a neighbour, permanent or not; false if there is none.
    pub fn remove(&mut self, iface: EthPortId, address: IpAddr) -> bool {
        let found = self.find(iface, address).copied();
        found.map(|entry| self.forget(entry)).is_some()
    }

    /// Forgets the learned neighbours of an interface, as when its link went down.
    pub fn flush(&mut self, iface: EthPortId) {
        self.forget_learned(|entry| entry.iface == iface);
    }

    /// Forgets the learned neighbours that are not on link any more.
    pub fn fib_changed(&mut self, fib: &Fib) {
        self.forget_learned(|entry| !fib.has_neighbour(entry.iface, entry.address));
    }

    fn forget_learned(&mut self, which: impl Fn(&Neighbour) -> bool) {
        let learned = self.iter().filter(|entry| entry.state != NeighbourState::Permanent);
        let gone: Vec<_> = learned.filter(|entry| which(entry)).copied().collect();
        for entry in gone {
            self.forget(entry);
        }
    }

    fn forget(&mut self, entry: Neighbour) {
        by_family!(entry.address, number => self.next_hops.remove(entry.iface, number));
        if let Some(place) = self.entries.get_mut(usize::from(entry.id.0))
            && let Some(old) = place.take()
        {
            self.count(&old, usize::wrapping_sub);
        }
    }

    /// Stores an entry, its slot and the counts.
    fn put(&mut self, entry: Neighbour) {
        let index = usize::from(entry.id.0);
        if self.entries.len() <= index {
            self.entries.resize(index + 1, None);
        }
        let Some(place) = self.entries.get_mut(index) else { return };
        if let Some(old) = place.replace(entry) {
            self.count(&old, usize::wrapping_sub);
        }
        self.count(&entry, usize::wrapping_add);
        let state = match entry.state {
            NeighbourState::Incomplete => NextHopState::Unresolved,
            NeighbourState::Failed => NextHopState::Failed,
            _ => NextHopState::Resolved,
        };
        self.next_hops.set(entry.id, entry.iface, state, entry.mac.unwrap_or_default());
    }

    fn count(&mut self, entry: &Neighbour, change: fn(usize, usize) -> usize) {
        let counts = self.counts.entry(entry.iface).or_default();
        let learned = entry.state != NeighbourState::Permanent;
        let incomplete = entry.state == NeighbourState::Incomplete;
        counts.learned = change(counts.learned, usize::from(learned));
        counts.incomplete = change(counts.incomplete, usize::from(incomplete));
    }

    fn counts(&self, iface: EthPortId) -> Counts {
        self.counts.get(&iface).copied().unwrap_or_default()
    }

    fn is_crowded(&self, iface: EthPortId) -> bool {
        self.counts(iface).learned >= self.config.per_interface.div_ceil(4) * 3
    }

    fn insert(&mut self, iface: EthPortId, address: IpAddr) -> Result<NextHopId, NextHopError> {
        by_family!(address, number => self.next_hops.insert(iface, number))
    }

    fn check(&self, fib: &Fib, iface: EthPortId, address: IpAddr) -> Result<(), NeighbourError> {
        if fib.has_neighbour(iface, address) {
            Ok(())
        } else {
            Err(NeighbourError::NotOnLink { iface, address })
        }
    }

    fn check_limit(&self, iface: EthPortId, address: IpAddr) -> Result<(), NeighbourError> {
        let limit = self.config.per_interface;
        if self.counts(iface).learned < limit {
            return Ok(());
        }
        Err(NeighbourError::Limit { iface, address, limit, what: "neighbours" })
    }

    fn check_unresolved(&self, iface: EthPortId, address: IpAddr) -> Result<(), NeighbourError> {
        let limit = self.config.unresolved_per_interface;
        if self.counts(iface).incomplete < limit {
            return Ok(());
        }
        Err(NeighbourError::Limit { iface, address, limit, what: "neighbours that do not answer" })
    }

    /// Asks for the neighbour: those whose address is known by that first, then all.
    fn ask(
        &self,
        fib: &Fib,
        entry: &mut Neighbour,
        now_ms: u64,
        actions: &mut Vec<NeighbourAction>,
    ) {
        let Neighbour { iface, address: target, mac, probes, .. } = *entry;
        let to = mac.filter(|_| probes < self.config.unicast_probes);
        let source = by_family!(target, number => {
            fib.asking_source(iface, number).map(|source| source.to_ip())
        });
        actions.push(NeighbourAction::Ask { iface, target, source, to });
        entry.probes = probes.saturating_add(1);
        entry.deadline_ms = now_ms + self.config.retrans_ms;
    }

    fn confirm_entry(&self, entry: &mut Neighbour, now_ms: u64) {
        // Spread over 0.5 to 1.5 of the base (RFC 4861 §6.3.2), so that neighbours learned together
        // are not asked together for ever.
        let low = by_family!(entry.address, number => number as u32);
        let mixed = (now_ms as u32 ^ low).wrapping_mul(0x9e37_79b9) >> 16;
        let reachable_ms = self.config.base_reachable_ms * u64::from(32_768 + mixed) / 65_536;
        entry.state = NeighbourState::Reachable;
        entry.confirmed_ms = now_ms;
        entry.deadline_ms = now_ms + reachable_ms;
        entry.probes = 0;
    }
}

#[cfg(test)]
mod tests;
