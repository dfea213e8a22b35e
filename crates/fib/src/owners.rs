//! The table of our addresses, asked for every packet.

use types::EthPortId;

use crate::config::Role;
use crate::map::Map;
use crate::number::IpNumber;

/// Who an address of ours belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// What the address is for.
    pub role: Role,
    /// The interface that has it, and alone may answer ARP or neighbour solicitations for it.
    pub iface: EthPortId,
    /// True if it is an interface address too; always with [`Role::Local`].
    pub local: bool,
    /// False if nobody on the link is told that it is ours.
    pub answers: bool,
}

const LOCAL: u32 = 1 << 8;
const ANSWERS: u32 = 1 << 9;

impl Owner {
    /// Never 0: the low four bits hold the role, from 1.
    const fn to_bits(self) -> u32 {
        let role = match self.role {
            Role::Local => 1,
            Role::Vip => 2,
            Role::Lip => 3,
            Role::WanIp | Role::RoutedWanIp => 4,
            Role::Leaving => 5,
        };
        let local = if self.local { LOCAL } else { 0 };
        let answers = if self.answers { ANSWERS } else { 0 };
        role | local | answers | (self.iface.0 as u32) << 16
    }

    #[inline(always)]
    const fn from_bits(bits: u32) -> Self {
        let role = match bits & 0xf {
            1 => Role::Local,
            2 => Role::Vip,
            3 => Role::Lip,
            4 => Role::WanIp,
            _ => Role::Leaving,
        };
        let (local, answers) = (bits & LOCAL != 0, bits & ANSWERS != 0);
        Self { role, iface: EthPortId((bits >> 16) as u16), local, answers }
    }
}

/// Our addresses of one family.
#[derive(Debug)]
pub struct Owners<A>(Map<A>);

impl<A: IpNumber> Owners<A> {
    /// The table of these addresses; each may come once.
    pub fn new(addresses: impl ExactSizeIterator<Item = (A, Owner)>) -> Self {
        Self(Map::new(addresses.map(|(address, owner)| (address, owner.to_bits()))))
    }

    #[inline(always)]
    pub fn find(&self, address: A) -> Option<Owner> {
        match self.0.find(address) {
            0 => None,
            bits => Some(Owner::from_bits(bits)),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (A, Owner)> + '_ {
        self.0.iter().map(|(address, bits)| (address, Owner::from_bits(bits)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_one_number() {
        for role in [Role::Local, Role::Vip, Role::Lip, Role::WanIp, Role::Leaving] {
            for (iface, local) in [(0, false), (u16::MAX, true)] {
                let owner = Owner { role, iface: EthPortId(iface), local, answers: !local };
                assert_ne!(owner.to_bits(), 0);
                assert_eq!(Owner::from_bits(owner.to_bits()), owner);
            }
        }
    }
}
