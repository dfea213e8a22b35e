//! The table of our addresses, asked for every packet.

use types::EthPortId;

use crate::config::Role;

/// Who an address of ours belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// What the address is for.
    pub role: Role,
    /// The interface that has it, and alone answers ARP for it.
    pub iface: EthPortId,
    /// True if it is an interface address too; always with [`Role::Local`].
    pub local: bool,
}

const LOCAL: u64 = 1 << 8;

impl Owner {
    /// Never 0: the low four bits hold the role, from 1.
    const fn to_bits(self) -> u64 {
        let role = match self.role {
            Role::Local => 1,
            Role::Vip => 2,
            Role::Lip => 3,
            Role::WanIp => 4,
            Role::Leaving => 5,
        };
        role | if self.local { LOCAL } else { 0 } | (self.iface.0 as u64) << 16
    }

    #[inline(always)]
    const fn from_bits(bits: u64) -> Self {
        let role = match bits & 0xf {
            1 => Role::Local,
            2 => Role::Vip,
            3 => Role::Lip,
            4 => Role::WanIp,
            _ => Role::Leaving,
        };
        Self { role, iface: EthPortId((bits >> 16) as u16), local: bits & LOCAL != 0 }
    }
}

/// Open addressing with linear probing, at most half full; an entry is address, interface, flags and
/// role in eight bytes, 0 if empty.
#[derive(Debug)]
pub(crate) struct Owners {
    entries: Box<[u64]>,
    shift: u32,
}

impl Owners {
    /// The table of these addresses; each may come once.
    pub(crate) fn new(addresses: impl ExactSizeIterator<Item = (u32, Owner)>) -> Self {
        let bits = (addresses.len() * 2).next_power_of_two().max(16).trailing_zeros();
        let mut table = Self { entries: vec![0; 1 << bits].into(), shift: 32 - bits };
        for (address, owner) in addresses {
            let home = table.home(address);
            let mask = table.entries.len() - 1;
            let place = (0..=mask).map(|step| (home + step) & mask);
            for index in place {
                if let Some(entry @ 0) = table.entries.get_mut(index) {
                    *entry = u64::from(address) << 32 | owner.to_bits();
                    break;
                }
            }
        }
        table
    }

    /// Multiplies by 2^32 over the golden ratio: neighbouring addresses land far apart.
    #[inline(always)]
    fn home(&self, address: u32) -> usize {
        (address.wrapping_mul(0x9e37_79b9) >> self.shift) as usize
    }

    #[inline(always)]
    pub(crate) fn find(&self, address: u32) -> Option<Owner> {
        let mask = self.entries.len() - 1;
        let home = self.home(address);
        for step in 0..=mask {
            let entry = *self.entries.get((home + step) & mask)?;
            if entry == 0 {
                return None;
            }
            if (entry >> 32) as u32 == address {
                return Some(Owner::from_bits(entry));
            }
        }
        None
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, Owner)> + '_ {
        let used = self.entries.iter().filter(|entry| **entry != 0);
        used.map(|entry| ((entry >> 32) as u32, Owner::from_bits(*entry)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn owner() -> impl Strategy<Value = Owner> {
        let roles =
            prop_oneof![Just(Role::Vip), Just(Role::Lip), Just(Role::WanIp), Just(Role::Leaving)];
        (roles, any::<u16>(), any::<bool>()).prop_map(|(role, iface, local)| Owner {
            role,
            iface: EthPortId(iface),
            local,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn is_a_map(
            model in proptest::collection::hash_map(0u32..2000, owner(), 0..500),
            base in any::<u32>(),
        ) {
            let model: HashMap<_, _> =
                model.into_iter().map(|(k, v)| (k.wrapping_add(base), v)).collect();
            let table = Owners::new(model.iter().map(|(k, v)| (*k, *v)));
            for offset in 0..2500 {
                let address = base.wrapping_add(offset);
                prop_assert_eq!(table.find(address), model.get(&address).copied());
            }
            prop_assert_eq!(table.iter().collect::<HashMap<_, _>>(), model);
        }
    }

    #[test]
    fn the_empty_table_owns_nothing() {
        let table = Owners::new(std::iter::empty::<(u32, Owner)>().collect::<Vec<_>>().into_iter());
        assert_eq!(table.find(0), None);
        assert_eq!(table.find(u32::MAX), None);
    }
}
