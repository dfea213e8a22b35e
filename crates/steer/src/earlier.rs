//! How keys were steered before: conns that were opened so go on where they are.

use std::collections::BTreeMap;

use types::FlowKey;

use crate::Role;

/// Where packets go: what steering is changed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Destination {
    /// VLAN or tenant.
    pub zone: u16,
    /// IANA protocol number.
    pub proto: u8,
    /// IPv4 address in host order.
    pub address: u32,
    /// Port.
    pub l4_port: u16,
}

impl From<&FlowKey> for Destination {
    fn from(key: &FlowKey) -> Self {
        let FlowKey { dst, dport, zone, proto, .. } = *key;
        Self { zone, proto, address: dst, l4_port: dport }
    }
}

/// The destinations that were steered otherwise, with the roles that they had.
///
/// A worker that finds no conn for a key asks the owners that these roles give before it opens one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Earlier(BTreeMap<Destination, Changes>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Changes {
    /// Oldest first, none twice: there are no more than roles.
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
    pub fn of(&self, key: &FlowKey) -> &[Role] {
        self.0.get(&key.into()).map_or(&[], |changes| &changes.roles)
    }

    /// A destination had this role until the snapshot of generation `since`. Roles are added behind those
    /// that are there, so that packets under way between workers meet each in its place.
    pub fn add(&mut self, destination: Destination, role: Role, since: u64) {
        let none = Changes { roles: Vec::new(), since };
        let changes = self.0.entry(destination).or_insert(none);
        changes.since = since;
        if !changes.roles.contains(&role) {
            changes.roles.push(role);
        }
    }

    /// The destinations, with the snapshot that changed each last.
    pub fn iter(&self) -> impl Iterator<Item = (Destination, u64)> {
        self.0.iter().map(|(destination, changes)| (*destination, changes.since))
    }

    /// Forgets a destination if it has not been changed after `since`. False if there is nothing to forget.
    pub fn forget(&mut self, destination: Destination, since: u64) -> bool {
        let same = self.0.get(&destination).is_some_and(|changes| changes.since == since);
        same && self.0.remove(&destination).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_kept_in_order_and_once_until_forgotten() {
        let key = FlowKey { dst: 1, dport: 80, proto: 6, src: 9, ..FlowKey::default() };
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
}
