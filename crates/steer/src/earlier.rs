//! How keys were steered before: conns that were opened so go on where they are.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use types::{Address, FlowKey};

use crate::Role;

/// Where packets go: what steering is changed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Destination {
    /// VLAN or tenant.
    pub zone: u16,
    /// IANA protocol number.
    pub proto: u8,
    /// Address.
    pub address: IpAddr,
    /// Port.
    pub l4_port: u16,
}

impl<A: Address> From<&FlowKey<A>> for Destination {
    fn from(key: &FlowKey<A>) -> Self {
        let FlowKey { dst, dport, zone, proto, .. } = *key;
        Self { zone, proto, address: dst.to_ip(), l4_port: dport }
    }
}

/// The destinations that were steered otherwise, with the roles that they had.
///
/// A worker that finds no conn for a key asks the owners that these roles give before it opens one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Earlier(BTreeMap<Destination, Changes>);

/// What is known of the ports of one address from that of the map's key on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Changes {
    /// The last of the ports.
    last: u16,
    /// Oldest first, none twice: there are no more than roles that such a port has had.
    roles: Vec<Role>,
    since: u64,
}

impl Earlier {
    /// True without any.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The roles that a key's destination had, oldest first. One may be what it has again.
    #[inline]
    pub fn of<A: Address>(&self, key: &FlowKey<A>) -> &[Role] {
        if self.is_empty() {
            return &[];
        }
        self.span(&key.into()).map_or(&[], |(_, changes)| &changes.roles)
    }

    #[inline]
    fn span(&self, of: &Destination) -> Option<(&Destination, &Changes)> {
        let (first, changes) = self.0.range(..=*of).next_back()?;
        let same = Destination { l4_port: of.l4_port, ..*first } == *of;
        (same && of.l4_port <= changes.last).then_some((first, changes))
    }

    /// A destination had this role until the snapshot of generation `since`. Roles are added behind those
    /// that are there, so that packets under way between workers meet each in its place.
    pub fn add(&mut self, destination: Destination, role: Role, since: u64) {
        let l4_ports = destination.l4_port..=destination.l4_port;
        self.add_ports(destination, &l4_ports, role, since);
    }

    /// The same for several ports of an address.
    pub fn add_ports(
        &mut self,
        address: Destination,
        l4_ports: &RangeInclusive<u16>,
        role: Role,
        since: u64,
    ) {
        let (mut next, last) = (*l4_ports.start(), *l4_ports.end());
        let at = |l4_port| Destination { l4_port, ..address };
        self.cut(at(next));
        if let Some(behind) = last.checked_add(1) {
            self.cut(at(behind));
        }
        while next <= last {
            // The next span of these ports begins here, or there is a gap before it.
            let known = self.0.range(at(next)..=at(last)).next();
            let known = known.map(|(first, changes)| (first.l4_port, changes.last));
            let (end, roles) = match known {
                Some((first, end)) if first == next => (end, None),
                Some((first, _)) => (first - 1, Some(Vec::new())),
                None => (last, Some(Vec::new())),
            };
            if let Some(roles) = roles {
                self.0.insert(at(next), Changes { last: end, roles, since });
            }
            if let Some(changes) = self.0.get_mut(&at(next)) {
                changes.since = since;
                if !changes.roles.contains(&role) {
                    changes.roles.push(role);
                }
            }
            let Some(behind) = end.checked_add(1) else { return };
            next = behind;
        }
    }

    /// Makes one span of ports two, if it goes on across this one: so that one begins here.
    fn cut(&mut self, here: Destination) {
        let Some((&first, changes)) = self.span(&here).filter(|(first, _)| **first != here) else {
            return;
        };
        let behind = changes.clone();
        if let Some(changes) = self.0.get_mut(&first) {
            changes.last = here.l4_port - 1;
        }
        self.0.insert(here, behind);
    }

    /// The destinations, by the first port of each, with the snapshot that changed each last.
    pub fn iter(&self) -> impl Iterator<Item = (Destination, u64)> {
        self.0.iter().map(|(destination, changes)| (*destination, changes.since))
    }

    /// The first port of those that are remembered together with this one.
    pub fn first(&self, of: &Destination) -> Option<Destination> {
        self.span(of).map(|(first, _)| *first)
    }

    /// Forgets a destination, by the first port of its span, if it has not been changed after `since`. False
    /// if there is nothing to forget.
    pub fn forget(&mut self, destination: Destination, since: u64) -> bool {
        let same = self.0.get(&destination).is_some_and(|changes| changes.since == since);
        same && self.0.remove(&destination).is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn roles_are_kept_in_order_and_once_until_forgotten() {
        let key = FlowKey { dst: 1_u32, dport: 80, proto: 6, src: 9, ..FlowKey::default() };
        let destination = Destination::from(&key);
        let by = |prefix_len| Role::VipPersistent { prefix_len };
        let mut earlier = Earlier::default();
        assert!(earlier.is_empty() && earlier.of(&key).is_empty());
        for (role, since) in [(Role::Vip, 5), (by(24), 6), (Role::Vip, 7)] {
            earlier.add(destination, role, since);
        }
        assert_eq!(earlier.of(&key), [Role::Vip, by(24)]);
        for other in [
            FlowKey { dst: 2, ..key },
            FlowKey { dport: 81, ..key },
            FlowKey { dport: 79, ..key },
            FlowKey { zone: 1, ..key },
            FlowKey { proto: 17, ..key },
        ] {
            assert!(earlier.of(&other).is_empty(), "{other:?}");
        }
        assert_eq!(earlier.iter().collect::<Vec<_>>(), [(destination, 7)]);
        assert!(!earlier.forget(destination, 6), "it has changed since");
        assert!(earlier.forget(destination, 7));
        assert!(!earlier.forget(destination, 7));
        assert!(earlier.is_empty());
    }

    proptest! {
        /// Spans are as if each port were remembered for itself, up to the last one.
        #[test]
        fn ports_are_remembered_together(
            steps in prop::collection::vec((0..40_u16, 0..40_u16, 0..4_u32), 1..12),
            top in any::<bool>(),
        ) {
            let base = if top { u16::MAX - 39 } else { 0 };
            let key = |dport| FlowKey { dst: 1_u32, dport, proto: 6, ..FlowKey::default() };
            let (mut earlier, mut model) = (Earlier::default(), HashMap::<u16, (Vec<Role>, u64)>::new());
            for (since, (one, other, address)) in (1..).zip(steps) {
                let l4_ports = base + one.min(other)..=base + one.max(other);
                let role = Role::Of(address);
                earlier.add_ports((&key(0)).into(), &l4_ports, role, since);
                for l4_port in l4_ports {
                    let (roles, latest) = model.entry(l4_port).or_default();
                    *latest = since;
                    if !roles.contains(&role) {
                        roles.push(role);
                    }
                }
                for l4_port in (0..40).map(|n| base + n) {
                    let wanted = model.get(&l4_port);
                    let roles = wanted.map_or(&[][..], |(roles, _)| roles);
                    prop_assert_eq!(earlier.of(&key(l4_port)), roles);
                    let first = earlier.first(&(&key(l4_port)).into());
                    let since = first.and_then(|first| earlier.iter().find(|it| it.0 == first));
                    prop_assert_eq!(since.map(|it| it.1), wanted.map(|it| it.1));
                }
            }
            for (first, since) in earlier.clone().iter() {
                prop_assert!(earlier.forget(first, since));
            }
            prop_assert!(earlier.is_empty());
        }
    }
}
