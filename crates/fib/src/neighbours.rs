//! Control's record of neighbours: when to ask, whom to believe, whom to forget.
//!
//! The states are those of RFC 4861 §7.3.2, used for ARP as Linux does, with two differences: a
//! neighbour that answers no unicast probe is asked by broadcast before it fails, while packets
//! still go to its last address (so that a new network card loses none), and only a reply to a
//! question of ours confirms a neighbour.

use std::collections::HashMap;
use std::sync::Arc;

use types::{EthPortId, MacAddr};

use crate::neighbour::{
    ArpKind, Learned, Neighbour, NeighbourAction, NeighbourConfig, NeighbourError, NeighbourState,
};
use crate::next_hop::{NextHopId, NextHopState, NextHops, NextHopsWriter};
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

/// For so long after a confirmation another Ethernet address is believed by gratuitous ARP only: of
/// several stations that answer one question the first counts.
const LOCK_MS: u64 = 1000;

impl Neighbours {
    /// No neighbours yet.
    pub fn new(config: NeighbourConfig) -> Self {
        let next_hops = NextHopsWriter::new(config.capacity);
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
    pub fn find(&self, iface: EthPortId, address: u32) -> Option<&Neighbour> {
        let id = self.next_hops.find(iface, address);
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
        address: u32,
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
        let id = self.next_hops.insert(iface, address)?;
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

    /// An ARP packet told us of a neighbour. New ones are believed only if they ask for an address of
    /// ours; what is not on link never.
    pub fn learned(
        &mut self,
        fib: &Fib,
        learned: Learned,
        now_ms: u64,
        actions: &mut Vec<NeighbourAction>,
    ) {
        let Learned { iface, address, mac, kind } = learned;
        if mac.is_multicast() || mac.is_zero() {
            return;
        }
        if let Some(owner) = fib.owner(address) {
            if owner.iface == iface {
                actions.push(NeighbourAction::Conflict { iface, address, mac });
            }
            return;
        }
        if !fib.is_on_link(iface, address) {
            return;
        }
        match self.find(iface, address).copied() {
            Some(known) => self.heard(known, mac, kind, now_ms, actions),
            // The last quarter is for those that packets are waiting for.
            None if kind == ArpKind::Request && !self.is_crowded(iface) => {
                let Ok(id) = self.next_hops.insert(iface, address) else { return };
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
        kind: ArpKind,
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
        if changed && locked && kind != ArpKind::Gratuitous {
            return;
        }
        if asked && kind == ArpKind::Reply {
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
        address: u32,
        mac: MacAddr,
        now_ms: u64,
    ) -> Result<NextHopId, NeighbourError> {
        if mac.is_multicast() || mac.is_zero() {
            return Err(NeighbourError::Mac(mac));
        }
        self.check(fib, iface, address)?;
        let id = self.next_hops.insert(iface, address)?;
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
    pub fn remove(&mut self, iface: EthPortId, address: u32) -> bool {
        let found = self.find(iface, address).copied();
        found.map(|entry| self.forget(entry)).is_some()
    }

    /// Forgets the learned neighbours of an interface, as when its link went down.
    pub fn flush(&mut self, iface: EthPortId) {
        self.forget_learned(|entry| entry.iface == iface);
    }

    /// Forgets the learned neighbours that are not on link any more.
    pub fn fib_changed(&mut self, fib: &Fib) {
        self.forget_learned(|entry| !fib.is_on_link(entry.iface, entry.address));
    }

    fn forget_learned(&mut self, which: impl Fn(&Neighbour) -> bool) {
        let learned = self.iter().filter(|entry| entry.state != NeighbourState::Permanent);
        let gone: Vec<_> = learned.filter(|entry| which(entry)).copied().collect();
        for entry in gone {
            self.forget(entry);
        }
    }

    fn forget(&mut self, entry: Neighbour) {
        self.next_hops.remove(entry.iface, entry.address);
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

    fn check(&self, fib: &Fib, iface: EthPortId, address: u32) -> Result<(), NeighbourError> {
        if fib.is_on_link(iface, address) {
            Ok(())
        } else {
            Err(NeighbourError::NotOnLink { iface, address: address.into() })
        }
    }

    fn check_limit(&self, iface: EthPortId, address: u32) -> Result<(), NeighbourError> {
        let (limit, address) = (self.config.per_interface, address.into());
        if self.counts(iface).learned < limit {
            return Ok(());
        }
        Err(NeighbourError::Limit { iface, address, limit, what: "neighbours" })
    }

    fn check_unresolved(&self, iface: EthPortId, address: u32) -> Result<(), NeighbourError> {
        let (limit, address) = (self.config.unresolved_per_interface, address.into());
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
        let source = fib.arp_source(iface, target).unwrap_or(0);
        actions.push(NeighbourAction::Ask { iface, target, source, to });
        entry.probes = probes.saturating_add(1);
        entry.deadline_ms = now_ms + self.config.retrans_ms;
    }

    fn confirm_entry(&self, entry: &mut Neighbour, now_ms: u64) {
        // Spread over 0.5 to 1.5 of the base (RFC 4861 §6.3.2), so that neighbours learned together
        // are not asked together for ever.
        let mixed = (now_ms as u32 ^ entry.address).wrapping_mul(0x9e37_79b9) >> 16;
        let reachable_ms = self.config.base_reachable_ms * u64::from(32_768 + mixed) / 65_536;
        entry.state = NeighbourState::Reachable;
        entry.confirmed_ms = now_ms;
        entry.deadline_ms = now_ms + reachable_ms;
        entry.probes = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::{Address, FibConfig, Interface, Role, Route, RouteKind};
    use crate::next_hop::NextHop;

    const LAN: EthPortId = EthPortId(1);
    const OURS: u32 = 0xc612_0001;
    const RS: u32 = 0xc612_0079;
    const GATEWAY: u32 = 0xc612_00fe;
    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

    fn fib() -> Fib {
        let route = Route {
            prefix: "0.0.0.0/0".parse().unwrap(),
            kind: RouteKind::Unicast,
            via: Some(GATEWAY),
            iface: LAN,
            metric: 0,
            src: None,
            mtu: None,
            on_link: false,
        };
        let (id, name) = (LAN, "lan0".to_owned());
        let config = FibConfig {
            interfaces: vec![Interface { id, name, mtu: 1500, primary: None }],
            addresses: vec![Address {
                address: OURS,
                prefix_len: 24,
                iface: LAN,
                role: Role::Local,
            }],
            routes: vec![route],
        };
        Fib::new(&config, 1).unwrap()
    }

    /// Neighbours with a clock, the actions of each call kept apart.
    struct Bench {
        fib: Fib,
        neighbours: Neighbours,
        shared: Arc<NextHops>,
        now_ms: u64,
    }

    impl Bench {
        fn new() -> Self {
            Self::with(NeighbourConfig { capacity: 1000, ..NeighbourConfig::default() })
        }

        fn with(config: NeighbourConfig) -> Self {
            let neighbours = Neighbours::new(config);
            let shared = neighbours.next_hops();
            Self { fib: fib(), neighbours, shared, now_ms: 10_000 }
        }

        fn needed(&mut self, address: u32) -> Result<Vec<NeighbourAction>, NeighbourError> {
            let mut actions = Vec::new();
            self.neighbours.needed(&self.fib, LAN, address, self.now_ms, &mut actions)?;
            Ok(actions)
        }

        fn learned(&mut self, address: u32, mac: MacAddr, kind: ArpKind) -> Vec<NeighbourAction> {
            let mut actions = Vec::new();
            let learned = Learned { iface: LAN, address, mac, kind };
            self.neighbours.learned(&self.fib, learned, self.now_ms, &mut actions);
            actions
        }

        /// Lets time pass in steps of 100 ms; what was done, with the time since the call.
        fn pass(&mut self, ms: u64) -> Vec<(u64, NeighbourAction)> {
            let (start, mut all) = (self.now_ms, Vec::new());
            while self.now_ms < start + ms {
                self.now_ms += 100;
                let mut actions = Vec::new();
                self.neighbours.tick(&self.fib, self.now_ms, &mut actions);
                all.extend(actions.into_iter().map(|action| (self.now_ms - start, action)));
            }
            all
        }

        fn pass_in_use(&mut self, ms: u64) -> Vec<(u64, NeighbourAction)> {
            let (start, mut all) = (self.now_ms, Vec::new());
            while self.now_ms < start + ms {
                let id = self.shared.find(LAN, RS);
                self.shared.mark_used(id);
                let offset = self.now_ms - start;
                all.extend(self.pass(100).into_iter().map(|(at, action)| (at + offset, action)));
            }
            all
        }

        fn state(&self) -> NeighbourState {
            self.neighbours.find(LAN, RS).unwrap().state
        }

        fn slot(&self) -> NextHop {
            self.shared.read(self.shared.find(LAN, RS))
        }
    }

    fn ask(to: Option<MacAddr>) -> NeighbourAction {
        NeighbourAction::Ask { iface: LAN, target: RS, source: OURS, to }
    }

    #[test]
    fn three_questions_then_failed_then_again_when_wanted() {
        let mut bench = Bench::new();
        assert_eq!(bench.needed(RS).unwrap(), [ask(None)]);
        assert_eq!(bench.needed(RS).unwrap(), [], "asked already");
        assert_eq!(bench.slot().state, NextHopState::Unresolved);
        let id = bench.shared.find(LAN, RS);
        let failed = NeighbourAction::Failed { id, iface: LAN, address: RS };
        assert_eq!(bench.pass(3000), [(1000, ask(None)), (2000, ask(None)), (3000, failed)]);
        assert_eq!(bench.slot().state, NextHopState::Failed);
        assert_eq!(bench.pass(5000), [], "nobody wants it");
        bench.shared.mark_used(id);
        let again = bench.pass(1100);
        assert_eq!(again.first().unwrap().1, ask(None));
        assert_eq!(bench.slot().state, NextHopState::Unresolved);
        assert_eq!(bench.learned(RS, MAC, ArpKind::Reply).len(), 1);
        assert_eq!(bench.slot(), NextHop { mac: MAC, iface: LAN, state: NextHopState::Resolved });
    }

    #[test]
    fn the_unused_are_forgotten() {
        let mut bench = Bench::new();
        bench.needed(RS).unwrap();
        bench.learned(RS, MAC, ArpKind::Reply);
        assert_eq!(bench.state(), NeighbourState::Reachable);
        assert_eq!(bench.pass(130_000), []);
        assert_eq!(bench.neighbours.find(LAN, RS), None);
        assert_eq!(bench.slot().state, NextHopState::Vacant);
        assert_eq!(bench.neighbours.counts(LAN).learned, 0);
    }

    #[test]
    fn the_used_are_asked_and_stay() {
        let mut bench = Bench::new();
        bench.needed(RS).unwrap();
        bench.learned(RS, MAC, ArpKind::Reply);
        for _ in 0..5 {
            let mut asked = None;
            while asked.is_none() {
                asked = bench.pass_in_use(100).pop();
                assert_eq!(bench.slot().state, NextHopState::Resolved);
            }
            assert_eq!(asked.unwrap().1, ask(Some(MAC)));
            assert_eq!(bench.state(), NeighbourState::Probe);
            assert_eq!(bench.learned(RS, MAC, ArpKind::Reply), []);
            assert_eq!(bench.state(), NeighbourState::Reachable);
        }
    }

    #[test]
    fn one_that_went_silent_is_asked_by_broadcast_before_it_fails() {
        let mut bench = Bench::new();
        bench.learned(RS, MAC, ArpKind::Request);
        assert_eq!(bench.state(), NeighbourState::Stale);
        let mut actions = bench.pass_in_use(12_000).into_iter().map(|(_, action)| action);
        for to in [Some(MAC), Some(MAC), Some(MAC), None, None, None] {
            assert_eq!(actions.next(), Some(ask(to)));
        }
        assert!(matches!(actions.next(), Some(NeighbourAction::Failed { .. })));
    }

    #[test]
    fn a_new_card_answers_the_broadcast_and_no_packet_is_lost() {
        let mut bench = Bench::new();
        bench.learned(RS, MAC, ArpKind::Request);
        while bench.pass_in_use(100).last().is_none_or(|(_, action)| *action != ask(None)) {
            assert_eq!(bench.slot().state, NextHopState::Resolved);
        }
        let id = bench.shared.find(LAN, RS);
        let resolved = NeighbourAction::Resolved { id, iface: LAN, address: RS, mac: OTHER };
        assert_eq!(bench.learned(RS, OTHER, ArpKind::Reply), [resolved]);
        assert_eq!(bench.slot().mac, OTHER);
    }

    #[test]
    fn gratuitous_arp_changes_the_known_and_makes_no_new_ones() {
        let mut bench = Bench::new();
        assert_eq!(bench.learned(RS, MAC, ArpKind::Gratuitous), []);
        assert_eq!(bench.learned(RS, MAC, ArpKind::Reply), [], "nobody asked");
        assert_eq!(bench.neighbours.iter().count(), 0);
        bench.needed(RS).unwrap();
        bench.learned(RS, MAC, ArpKind::Reply);
        assert_eq!(bench.learned(RS, OTHER, ArpKind::Reply), [], "the first answer counts");
        assert_eq!(bench.learned(RS, OTHER, ArpKind::Gratuitous).len(), 1);
        assert_eq!((bench.slot().mac, bench.state()), (OTHER, NeighbourState::Stale));
    }

    #[test]
    fn the_permanent_stay_as_they_are() {
        let mut bench = Bench::new();
        let set = bench.neighbours.set_permanent(&bench.fib, LAN, RS, MAC, bench.now_ms);
        assert!(set.is_ok());
        assert_eq!(bench.learned(RS, OTHER, ArpKind::Gratuitous), []);
        assert_eq!(bench.pass(200_000), []);
        bench.neighbours.flush(LAN);
        assert_eq!(bench.slot().mac, MAC);
        assert!(bench.neighbours.remove(LAN, RS));
        assert!(!bench.neighbours.remove(LAN, RS));
        assert_eq!(bench.slot().state, NextHopState::Vacant);
        let set =
            bench.neighbours.set_permanent(&bench.fib, LAN, RS, MacAddr::BROADCAST, bench.now_ms);
        assert_eq!(set, Err(NeighbourError::Mac(MacAddr::BROADCAST)));
    }

    #[test]
    fn strangers_and_impostors_are_not_believed() {
        let mut bench = Bench::new();
        let stranger = 0x0808_0808;
        assert_eq!(bench.learned(stranger, MAC, ArpKind::Request), []);
        let error = bench.needed(stranger).unwrap_err().to_string();
        assert_eq!(error, "8.8.8.8 is not on link of interface 1");
        assert!(bench.needed(OURS).is_err());
        assert!(bench.needed(0xc612_00ff).is_err(), "broadcast");
        let conflict = NeighbourAction::Conflict { iface: LAN, address: OURS, mac: MAC };
        assert_eq!(bench.learned(OURS, MAC, ArpKind::Gratuitous), [conflict]);
        assert_eq!(bench.learned(RS, MacAddr::BROADCAST, ArpKind::Request), []);
        assert_eq!(bench.learned(RS, MacAddr::default(), ArpKind::Request), []);
        assert_eq!(bench.neighbours.iter().count(), 0);
    }

    #[test]
    fn limits_hold_and_the_last_quarter_is_for_the_wanted() {
        let mut bench = Bench::with(NeighbourConfig {
            capacity: 1000,
            per_interface: 40,
            unresolved_per_interface: 4,
            ..NeighbourConfig::default()
        });
        for host in 2..100 {
            bench.learned(OURS + host, MAC, ArpKind::Request);
        }
        assert_eq!(bench.neighbours.counts(LAN).learned, 30);
        for host in 100..104 {
            bench.needed(OURS + host).unwrap();
        }
        assert_eq!(
            bench.needed(OURS + 104).unwrap_err().to_string(),
            "no room for neighbour 198.18.0.105: interface 1 has 4 neighbours that do not answer"
        );
        bench.pass(2000);
        assert!(bench.neighbours.counts(LAN).learned < 40, "the unused went early");
    }

    #[test]
    fn what_is_off_link_after_a_change_is_forgotten() {
        let mut bench = Bench::new();
        bench.learned(RS, MAC, ArpKind::Request);
        bench.learned(GATEWAY, MAC, ArpKind::Request);
        bench.neighbours.fib_changed(&bench.fib);
        assert_eq!(bench.neighbours.iter().count(), 2);
        let empty = Fib::new(&FibConfig::default(), 2).unwrap();
        bench.neighbours.fib_changed(&empty);
        assert_eq!(bench.neighbours.iter().count(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn slots_and_counts_agree_with_the_record(
            steps in proptest::collection::vec((0u8..7, 2u32..40, 0u64..4000), 0..150),
        ) {
            let mut bench = Bench::with(NeighbourConfig {
                capacity: 64,
                per_interface: 20,
                unresolved_per_interface: 5,
                ..NeighbourConfig::default()
            });
            let mut generation = 1;
            for (what, host, ms) in steps {
                let address = OURS + host;
                match what {
                    0 => { let _ = bench.needed(address); }
                    1 => { bench.learned(address, MAC, ArpKind::Request); }
                    2 => { bench.learned(address, OTHER, ArpKind::Reply); }
                    3 => { bench.learned(address, OTHER, ArpKind::Gratuitous); }
                    4 => { bench.neighbours.remove(LAN, address); }
                    5 => bench.shared.mark_used(bench.shared.find(LAN, address)),
                    _ => { bench.pass(ms); }
                }
                if bench.neighbours.wants_generation() {
                    generation += 1;
                    bench.neighbours.publish(generation);
                    bench.neighbours.confirm(generation);
                }
                let entries: Vec<_> = bench.neighbours.iter().copied().collect();
                for entry in &entries {
                    prop_assert_eq!(bench.shared.find(entry.iface, entry.address), entry.id);
                    let slot = bench.shared.read(entry.id);
                    let resolved = slot.state == NextHopState::Resolved;
                    prop_assert_eq!(resolved.then_some(slot.mac), entry.mac);
                }
                let incomplete =
                    entries.iter().filter(|entry| entry.state == NeighbourState::Incomplete);
                let counts = bench.neighbours.counts(LAN);
                prop_assert_eq!(counts.learned, entries.len());
                prop_assert_eq!(counts.incomplete, incomplete.count());
                prop_assert!(counts.learned <= 20 && counts.incomplete <= 5);
            }
        }
    }
}
