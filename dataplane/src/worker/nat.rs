//! What control reads of a worker's NAT state, between bursts.

use ::nat::NatState;
use ::nat::mapping::Mapping;
use ::nat::state::RuleCounts;
use ::nat::subscribers::Subscriber;
use flow::Cursor;
use types::{Io, Proto, Slot};

use super::Worker;
use super::link::Scan;

/// Protocols whose ports WAN IPs have, in the order of [`Reading::wans`].
pub const PROTOS: [Proto; 3] = [Proto::Tcp, Proto::Udp, Proto::Icmp];

/// What is to be read: at most [`super::link::ITEMS_MAX`] of each, for a worker's loop to stay short. All
/// is as it came if the worker has no NAT state.
#[derive(Debug, Default)]
pub struct Reading {
    /// Rules and port forwards, with their counts once it has been done. What open conns have sent is in
    /// them up to the sweep's last round.
    pub rules: Vec<(Slot, RuleCounts)>,
    /// Places of WAN IPs, with their ports by protocol.
    pub wans: Vec<(u16, [WanUsage; PROTOS.len()])>,
    /// An inside address in host order.
    pub subscriber: u32,
    /// Rules, with what that address has of each.
    pub usage: Vec<(Slot, Option<Subscriber>)>,
}

/// The ports of a WAN IP that are one worker's, of one protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WanUsage {
    /// All of them that mappings may have.
    pub capacity: u32,
    /// Taken.
    pub taken: u32,
    /// Given back, but not yet to be taken again.
    pub resting: u32,
    /// Taken or resting at the worker that has most of them.
    pub fullest: u32,
    /// Workers that share them.
    pub workers: u32,
}

impl WanUsage {
    /// Percent of its ports that the fullest worker has in use: there an inside host is refused first.
    pub fn percent(&self) -> u32 {
        let used = u64::from(self.fullest) * u64::from(self.workers) * 100;
        used.checked_div(self.capacity.into()).unwrap_or(0).min(100) as u32
    }
}

impl std::ops::AddAssign for WanUsage {
    fn add_assign(&mut self, other: Self) {
        self.capacity += other.capacity;
        self.taken += other.taken;
        self.resting += other.resting;
        self.fullest = self.fullest.max(other.fullest);
        self.workers += other.workers;
    }
}

/// Which mappings a scan is about: all conditions that are given hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MappingFilter {
    /// Of this rule.
    pub rule: Option<Slot>,
    /// Of this inside address.
    pub inside: Option<u32>,
    /// With this WAN IP.
    pub outside: Option<u32>,
    /// Of this protocol.
    pub proto: Option<Proto>,
}

impl MappingFilter {
    fn matches(&self, mapping: &Mapping) -> bool {
        self.rule.is_none_or(|rule| rule == mapping.rule)
            && self.inside.is_none_or(|address| address == mapping.inside.address)
            && self.outside.is_none_or(|address| address == mapping.outside.address)
            && self.proto.is_none_or(|proto| proto.number() == mapping.proto)
    }
}

impl<I: Io> Worker<I> {
    /// Fills in what is asked for.
    pub(super) fn read_nat(&self, reading: &mut Reading) {
        let Some(nat) = &self.core.nat else { return };
        let Reading { rules, wans, subscriber, usage } = reading;
        for (slot, counts) in rules {
            *counts = nat.counts(*slot);
        }
        for (place, ports) in wans {
            for (proto, ports) in PROTOS.iter().zip(ports) {
                let usage = nat.wan().usage(*place, *proto);
                let capacity = nat.wan().capacity(*place, *proto);
                let (taken, resting) = (usage.taken, usage.resting);
                let fullest = taken + resting;
                *ports = WanUsage { capacity, taken, resting, fullest, workers: 1 };
            }
        }
        for (slot, found) in usage {
            let subscribers = nat.subscribers();
            let id = subscribers.find(*subscriber, 0, *slot);
            *found = id.and_then(|id| subscribers.get(id)).copied();
        }
    }
}

/// Goes on with a walk over mappings. True if it goes back: it is finished, or its room is full.
pub(super) fn scan_some(
    nat: Option<&NatState>,
    scan: &mut Scan,
    filter: MappingFilter,
    mut places: u32,
) -> bool {
    let Some(nat) = nat else {
        scan.finished = true;
        return true;
    };
    let mut cursor = scan.cursor.to_bits();
    while scan.mappings.len() < scan.mappings.capacity() {
        let Some(mapping) = nat.mappings().next(&mut cursor, &mut places) else {
            // Places are left if there was nothing more to look at.
            scan.finished = places > 0;
            break;
        };
        if filter.matches(&mapping) {
            scan.matched += 1;
            scan.mappings.push(mapping);
        }
    }
    scan.cursor = Cursor::from_bits(cursor);
    scan.finished || scan.mappings.len() == scan.mappings.capacity()
}
