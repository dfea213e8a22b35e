//! When to announce addresses that have come to an interface: gratuitous ARP, unsolicited neighbour
//! advertisements.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use types::EthPortId;

/// How often an address is announced: what keepalived does, as one frame is easily lost while a
/// switch learns.
const TIMES: u8 = 5;

/// Between two announcements of one address.
const INTERVAL_MS: u64 = 1000;

type Key = (EthPortId, IpAddr);

/// The schedule of announcements: at once, then once a second, five times in all.
#[derive(Debug, Default)]
pub struct Announcements {
    pending: HashMap<Key, Pending>,
    /// By the time at which they are due, so that under a budget nobody starves.
    queue: BTreeSet<(u64, Key)>,
}

/// An address that is to be announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Where.
    pub iface: EthPortId,
    /// The address.
    pub address: IpAddr,
    /// It has just come.
    pub is_first: bool,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    due_ms: u64,
    left: u8,
}

impl Announcements {
    /// An address has come; one that is being announced begins anew.
    pub fn add(&mut self, iface: EthPortId, address: IpAddr, now_ms: u64) {
        self.cancel(iface, address);
        self.schedule((iface, address), Pending { due_ms: now_ms, left: TIMES });
    }

    /// An address has gone.
    pub fn cancel(&mut self, iface: EthPortId, address: IpAddr) {
        let key = (iface, address);
        if let Some(pending) = self.pending.remove(&key) {
            self.queue.remove(&(pending.due_ms, key));
        }
    }

    /// Addresses to be announced now, at most `budget`; the others stay due.
    pub fn tick(&mut self, now_ms: u64, budget: usize) -> Vec<Announcement> {
        let mut due = Vec::new();
        while due.len() < budget {
            let Some((due_ms, key)) = self.queue.first().copied() else { break };
            if due_ms > now_ms {
                break;
            }
            self.queue.pop_first();
            let left = self.pending.remove(&key).map_or(0, |pending| pending.left);
            let (iface, address) = key;
            due.push(Announcement { iface, address, is_first: left == TIMES });
            if left > 1 {
                self.schedule(key, Pending { due_ms: now_ms + INTERVAL_MS, left: left - 1 });
            }
        }
        due
    }

    /// When the next one is due.
    pub fn next_due_ms(&self) -> Option<u64> {
        self.queue.first().map(|(due_ms, _)| *due_ms)
    }

    fn schedule(&mut self, key: Key, pending: Pending) {
        self.pending.insert(key, pending);
        self.queue.insert((pending.due_ms, key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAN: EthPortId = EthPortId(0);

    fn ip(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    #[test]
    fn five_times_a_second_apart() {
        let mut schedule = Announcements::default();
        schedule.add(WAN, ip(1), 100);
        let sent: Vec<u64> =
            (0..100).map(|n| n * 100).filter(|now| !schedule.tick(*now, 9).is_empty()).collect();
        assert_eq!(sent, [100, 1100, 2100, 3100, 4100]);
        assert_eq!(schedule.next_due_ms(), None);
        assert!(schedule.pending.is_empty());
    }

    #[test]
    fn what_has_gone_is_not_announced_and_what_comes_again_begins_anew() {
        let mut schedule = Announcements::default();
        schedule.add(WAN, ip(1), 0);
        schedule.add(WAN, ip(2), 0);
        assert_eq!(schedule.tick(0, 9).len(), 2);
        schedule.cancel(WAN, ip(1));
        schedule.cancel(WAN, ip(1));
        schedule.add(WAN, ip(2), 500);
        let again = Announcement { iface: WAN, address: ip(2), is_first: true };
        assert_eq!(schedule.tick(500, 9), [again]);
        assert_eq!(schedule.next_due_ms(), Some(1500));
    }

    #[test]
    fn under_a_budget_all_have_their_turn() {
        let mut schedule = Announcements::default();
        for address in 0..100 {
            schedule.add(WAN, ip(address), 0);
        }
        let mut counts = HashMap::new();
        for now in 0..100 {
            for Announcement { address, .. } in schedule.tick(now * 100, 10) {
                *counts.entry(address).or_insert(0) += 1;
            }
        }
        assert_eq!(counts.len(), 100);
        assert!(counts.values().all(|count| *count == 5), "{counts:?}");
    }
}
