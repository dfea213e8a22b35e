//! Classes of timeouts: services with equal timeouts share one.

use config::Timeouts as Configured;
use flow::{Refresh, TimeoutSet, Timeouts};

/// How many classes there are for services and rules; class 0 has the timeouts of `conntrack`.
const CLASSES: usize = Timeouts::UNANSWERED as usize;

/// Which class has which timeouts, and how many services use it.
///
/// A conn keeps the class in which it was opened. So a class that is free again is not used for
/// other timeouts before all those that never were in use.
#[derive(Clone, Debug)]
pub struct Classes {
    sets: Vec<Class>,
}

#[derive(Clone, Copy, Debug)]
struct Class {
    set: TimeoutSet,
    users: u32,
    /// The higher, the later it was given up.
    freed: u64,
}

/// More different timeouts than there are classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("services have more than {} different sets of timeouts", CLASSES - 1)]
pub struct OutOfClasses;

impl Classes {
    /// With class 0 only.
    pub fn new(conntrack: TimeoutSet) -> Self {
        Self { sets: vec![Class { set: conntrack, users: 1, freed: 0 }] }
    }

    /// Changes class 0.
    pub fn set_default(&mut self, conntrack: TimeoutSet) {
        if let Some(first) = self.sets.first_mut() {
            first.set = conntrack;
        }
    }

    /// The class of a service with these timeouts, which is one more user of it.
    ///
    /// # Errors
    /// If all classes are in use for other timeouts.
    pub fn take(&mut self, set: TimeoutSet) -> Result<u8, OutOfClasses> {
        let used = self.sets.iter().position(|class| class.users > 0 && class.set == set);
        let same = || self.sets.iter().position(|class| class.set == set);
        let place = match used.or_else(same) {
            Some(place) => place,
            None if self.sets.len() < CLASSES => {
                self.sets.push(Class { set, users: 0, freed: 0 });
                self.sets.len() - 1
            }
            None => {
                let free = self.sets.iter().enumerate().filter(|(_, class)| class.users == 0);
                free.min_by_key(|(_, class)| class.freed)
                    .map(|(place, _)| place)
                    .ok_or(OutOfClasses)?
            }
        };
        if let Some(class) = self.sets.get_mut(place) {
            class.set = set;
            class.users += 1;
        }
        Ok(place as u8)
    }

    /// A service does not use its class any more.
    pub fn give_back(&mut self, class: u8) {
        let last = self.sets.iter().map(|class| class.freed).max().unwrap_or(0);
        if let Some(class) = self.sets.get_mut(usize::from(class)) {
            class.users = class.users.saturating_sub(1);
            if class.users == 0 {
                class.freed = last + 1;
            }
        }
    }

    /// What differs from before, for the workers.
    pub fn since(&self, before: &Self) -> Vec<(u8, TimeoutSet)> {
        let old = before.sets.iter().map(|class| Some(class.set)).chain(std::iter::repeat(None));
        let classes = (0u8..=255).zip(self.sets.iter().zip(old));
        let changed = classes.filter(|(_, (new, old))| Some(new.set) != *old);
        changed.map(|(number, (new, _))| (number, new.set)).collect()
    }
}

/// Configured timeouts as the flow table has them.
pub fn timeout_set(configured: &Configured) -> TimeoutSet {
    let ms = |duration: config::Duration| {
        u32::try_from(duration.as_ms()).unwrap_or(u32::MAX).min(TimeoutSet::MAX_MS)
    };
    TimeoutSet {
        tcp_syn_ms: ms(configured.tcp_syn),
        tcp_established_ms: ms(configured.tcp_established),
        tcp_closing_ms: ms(configured.tcp_closing),
        tcp_closed_ms: ms(configured.tcp_closed),
        udp_oneway_ms: ms(configured.udp_oneway),
        udp_ms: ms(configured.udp),
        icmp_ms: ms(configured.icmp),
        gateway: false,
        refresh: Refresh::Both,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(udp_ms: u32) -> TimeoutSet {
        TimeoutSet { udp_ms, ..TimeoutSet::default() }
    }

    #[test]
    fn equal_timeouts_share_a_class() {
        let mut classes = Classes::new(set(0));
        assert_eq!(classes.take(set(0)), Ok(0));
        assert_eq!(classes.take(set(1)), Ok(1));
        assert_eq!(classes.take(set(2)), Ok(2));
        assert_eq!(classes.take(set(1)), Ok(1));
        assert_eq!(classes.since(&Classes::new(set(0))), [(1, set(1)), (2, set(2))]);
        let before = classes.clone();
        classes.set_default(set(9));
        assert_eq!(classes.since(&before), [(0, set(9))]);
    }

    #[test]
    fn a_free_class_rests_until_all_others_were_used() {
        let mut classes = Classes::new(set(0));
        for number in 1..=254 {
            assert_eq!(classes.take(set(number)), Ok(number as u8));
        }
        assert_eq!(classes.take(set(256)), Err(OutOfClasses));
        classes.give_back(7);
        classes.give_back(3);
        assert_eq!(classes.take(set(3)), Ok(3), "the same again");
        assert_eq!(classes.take(set(300)), Ok(7));
        assert_eq!(classes.take(set(301)), Err(OutOfClasses));
    }
}
