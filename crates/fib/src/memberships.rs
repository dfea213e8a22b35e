//! When to report to which groups we listen (RFC 3810): to the solicited-node groups of our addresses, or a
//! switch that snoops (RFC 4541) would not let neighbours' questions through.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use types::EthPortId;

use crate::snapshot::Fib;

/// How often a change is told, as a report is easily lost: the robustness variable (RFC 3810 §9.1).
const TIMES: u8 = 2;

/// Between two reports of one change (RFC 3810 §9.11).
const INTERVAL_MS: u64 = 1000;

/// An answer may be put off so long at most; no querier asks for more than its interval of 125 s
/// (RFC 3810 §9.2).
const DELAY_MAX_MS: u64 = 125_000;

/// What a report says of its groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Membership {
    /// We listen: the answer to a query.
    Listening,
    /// We listen from now on.
    Joined,
    /// We listen no longer.
    Left,
}

/// A report that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Where.
    pub iface: EthPortId,
    /// What it says.
    pub membership: Membership,
    /// Of which groups.
    pub groups: Vec<u128>,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    membership: Membership,
    due_ms: u64,
    left: u8,
}

/// The groups of all interfaces, and what is to be told of them.
#[derive(Debug, Default)]
pub struct Memberships {
    groups: BTreeSet<(EthPortId, u128)>,
    /// No group has more than one report before it: a change counts more than an answer.
    pending: BTreeMap<(EthPortId, u128), Pending>,
    /// When all groups of an interface are to be told.
    queried: HashMap<EthPortId, u64>,
}

impl Memberships {
    /// The addresses are those of this fib from now on.
    pub fn follow(&mut self, fib: &Fib, now_ms: u64) {
        let groups = fib.groups();
        let joined = groups.difference(&self.groups).map(|key| (*key, Membership::Joined));
        let left = self.groups.difference(&groups).map(|key| (*key, Membership::Left));
        for (key, membership) in joined.chain(left) {
            self.pending.insert(key, Pending { membership, due_ms: now_ms, left: TIMES });
        }
        self.groups = groups;
    }

    /// An interface's link has come: nobody beyond it need know of us.
    pub fn came_up(&mut self, iface: EthPortId, now_ms: u64) {
        let pending = Pending { membership: Membership::Joined, due_ms: now_ms, left: TIMES };
        let here = self.groups.range((iface, 0)..=(iface, u128::MAX));
        self.pending.extend(here.map(|key| (*key, pending)));
    }

    /// A router asks who listens: to a group, or with 0 to any. The answer comes some time before
    /// `max_delay_ms` (RFC 3810 §6.2).
    pub fn queried(&mut self, iface: EthPortId, group: u128, max_delay_ms: u32, now_ms: u64) {
        let delay_ms = spread(iface, group, now_ms) % (u64::from(max_delay_ms) + 1);
        let due_ms = now_ms + delay_ms.min(DELAY_MAX_MS);
        if group == 0 {
            let due = self.queried.entry(iface).or_insert(due_ms);
            *due = due_ms.min(*due);
        } else if self.groups.contains(&(iface, group)) {
            let pending = Pending { membership: Membership::Listening, due_ms, left: 1 };
            self.pending.entry((iface, group)).or_insert(pending);
        }
    }

    /// Reports that are due, one for each interface and kind, with at most `budget` groups in all; the others
    /// stay due.
    pub fn tick(&mut self, now_ms: u64, mut budget: usize) -> Vec<Report> {
        for (iface, _) in self.queried.extract_if(|_, due_ms| *due_ms <= now_ms) {
            let answer = Pending { membership: Membership::Listening, due_ms: now_ms, left: 1 };
            for key in self.groups.range((iface, 0)..=(iface, u128::MAX)) {
                self.pending.entry(*key).or_insert(answer);
            }
        }
        let mut due: BTreeMap<(EthPortId, Membership), Vec<u128>> = BTreeMap::new();
        self.pending.retain(|(iface, group), pending| {
            if pending.due_ms > now_ms || budget == 0 {
                return true;
            }
            budget -= 1;
            due.entry((*iface, pending.membership)).or_default().push(*group);
            pending.due_ms = now_ms + INTERVAL_MS;
            pending.left -= 1;
            pending.left > 0
        });
        let report = |((iface, membership), groups)| Report { iface, membership, groups };
        due.into_iter().map(report).collect()
    }
}

/// A number that differs from one question to the next, and among nodes that are asked together.
fn spread(iface: EthPortId, group: u128, now_ms: u64) -> u64 {
    let mixed = now_ms ^ u64::from(iface.0) << 48 ^ group as u64;
    mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Address, FibConfig, Interface, Role};

    const LAN: EthPortId = EthPortId(1);
    const ONE: u128 = 0xff02_0000_0000_0000_0000_0001_ff00_0001;
    const LOCAL: u128 = 0xff02_0000_0000_0000_0000_0001_ff00_0009;

    fn fib(addresses: &[&str]) -> Fib {
        let address = |text: &&str| Address {
            address: text.parse().unwrap(),
            prefix_len: 64,
            iface: LAN,
            role: Role::Local,
        };
        let mac = types::MacAddr([2, 0, 0, 0, 0, 9]);
        let interface = Interface { id: LAN, name: "lan0".into(), mac, mtu: 1500, primary: None };
        let config = FibConfig {
            interfaces: vec![interface],
            addresses: addresses.iter().map(address).collect(),
            routes: Vec::new(),
        };
        Fib::new(&config, 1).unwrap()
    }

    fn report(membership: Membership, groups: &[u128]) -> Report {
        Report { iface: LAN, membership, groups: groups.into() }
    }

    /// All that is due is told by then.
    fn settle(memberships: &mut Memberships, now_ms: u64) {
        for before_ms in [9000, 6000, 3000, 0] {
            memberships.tick(now_ms.saturating_sub(before_ms), 99);
        }
        assert_eq!(memberships.tick(now_ms, 99), []);
    }

    #[test]
    fn changes_are_told_twice_and_queries_answered_once() {
        let mut memberships = Memberships::default();
        memberships.follow(&fib(&["fd00::1"]), 0);
        let joined = [report(Membership::Joined, &[ONE, LOCAL])];
        assert_eq!(memberships.tick(0, 99), joined);
        assert_eq!(memberships.tick(999, 99), []);
        assert_eq!(memberships.tick(1000, 99), joined);
        assert_eq!(memberships.tick(9000, 99), []);

        memberships.queried(LAN, 0, 0, 10_000);
        assert_eq!(memberships.tick(10_000, 99), [report(Membership::Listening, &[ONE, LOCAL])]);
        memberships.queried(LAN, ONE, 0, 11_000);
        memberships.queried(LAN, 0xff02 << 112 | 0xfb, 0, 11_000);
        assert_eq!(memberships.tick(11_000, 99), [report(Membership::Listening, &[ONE])]);
        assert_eq!(memberships.tick(20_000, 99), []);

        memberships.follow(&fib(&[]), 30_000);
        assert_eq!(memberships.tick(30_000, 99), [report(Membership::Left, &[ONE, LOCAL])]);
        memberships.follow(&fib(&["fd00::1"]), 30_500);
        assert_eq!(memberships.tick(30_500, 99), joined, "it is back before that was told twice");
        memberships.came_up(LAN, 40_000);
        assert_eq!(memberships.tick(40_000, 99), joined);
    }

    #[test]
    fn under_a_budget_all_have_their_turn() {
        let mut memberships = Memberships::default();
        memberships.follow(&fib(&["fd00::1", "fd00::2", "fd00::3"]), 0);
        let mut told: Vec<u128> = Vec::new();
        for now_ms in (0..5000).step_by(100) {
            told.extend(memberships.tick(now_ms, 1).into_iter().flat_map(|report| report.groups));
        }
        told.sort_unstable();
        let expected = [ONE, ONE + 1, ONE + 2, LOCAL];
        assert_eq!(told, expected.map(|group| [group, group]).concat());
    }

    #[test]
    fn one_group_of_two_addresses_stays_as_long_as_one_of_them() {
        let mut memberships = Memberships::default();
        memberships.follow(&fib(&["fd00::1", "fd01::1"]), 0);
        settle(&mut memberships, 100_000);
        memberships.follow(&fib(&["fd01::1"]), 200_000);
        assert_eq!(memberships.tick(200_000, 99), []);
    }

    #[test]
    fn answers_are_put_off_within_bounds_and_not_all_alike() {
        let mut delays = BTreeSet::new();
        for start in (1..50u64).map(|n| n * 1_000_003) {
            let mut memberships = Memberships::default();
            memberships.follow(&fib(&["fd00::1"]), 0);
            settle(&mut memberships, start);
            memberships.queried(LAN, 0, 1000, start);
            let sent = (0..=1000).find(|ms| !memberships.tick(start + ms, 99).is_empty());
            delays.insert(sent.unwrap());
        }
        assert!(delays.len() > 10, "{delays:?}");
    }
}
