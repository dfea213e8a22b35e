//! What the kernel has on its interfaces to ours (KNIs): what comes for that goes up to it.

use std::net::IpAddr;
use std::sync::Arc;

use types::{Address, EthPortId, FlowKey, MacAddr, Proto};

/// Addresses that the kernel holds and Ethernet groups that it listens to, by interface of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelSide {
    /// IPv4 addresses in host order; sorted.
    addresses: Box<[(EthPortId, u32)]>,
    /// The others; sorted.
    others: Box<[(EthPortId, IpAddr)]>,
    /// Sorted.
    groups: Box<[(EthPortId, MacAddr)]>,
    /// IPv4 addresses and ports that the kernel checks, in host order; sorted.
    checked: Arc<[Checked]>,
}

/// What the kernel checks by a KNI: the interface, the protocol, the address and the port, 0 for ICMP.
pub type Checked = (EthPortId, u8, u32, u16);

impl KernelSide {
    /// Of these addresses and groups, in any order.
    pub fn new<A: Address>(
        addresses: impl IntoIterator<Item = (EthPortId, A)>,
        groups: impl IntoIterator<Item = (EthPortId, MacAddr)>,
    ) -> Self {
        Self::of(addresses.into_iter().map(|(on, address)| (on, address.to_ip())), groups)
    }

    fn of(
        held: impl IntoIterator<Item = (EthPortId, IpAddr)>,
        groups: impl IntoIterator<Item = (EthPortId, MacAddr)>,
    ) -> Self {
        let (mut addresses, mut others) = (Vec::new(), Vec::new());
        for (on, address) in held {
            match address {
                IpAddr::V4(v4) => addresses.push((on, v4.to_bits())),
                IpAddr::V6(_) => others.push((on, address)),
            }
        }
        let mut groups: Vec<_> = groups.into_iter().collect();
        addresses.sort_unstable();
        addresses.dedup();
        others.sort_unstable();
        others.dedup();
        groups.sort_unstable_by_key(group_key);
        groups.dedup();
        Self {
            addresses: addresses.into(),
            others: others.into(),
            groups: groups.into(),
            checked: Arc::default(),
        }
    }

    /// The same with others on these interfaces.
    pub fn with(
        &self,
        interfaces: &[EthPortId],
        addresses: impl IntoIterator<Item = (EthPortId, IpAddr)>,
        groups: impl IntoIterator<Item = (EthPortId, MacAddr)>,
    ) -> Self {
        let elsewhere = |interface: EthPortId| !interfaces.contains(&interface);
        let old_addresses = self.addresses().filter(|(on, _)| elsewhere(*on));
        let old_groups = self.groups.iter().copied().filter(|(on, _)| elsewhere(*on));
        let other = Self::of(old_addresses.chain(addresses), old_groups.chain(groups));
        Self { checked: Arc::clone(&self.checked), ..other }
    }

    /// The same with other targets of checks, in any order.
    pub fn checking(&self, targets: impl IntoIterator<Item = Checked>) -> Self {
        let mut checked: Vec<_> = targets.into_iter().collect();
        checked.sort_unstable();
        checked.dedup();
        Self { checked: checked.into(), ..self.clone() }
    }

    /// Whether a packet that came in by an interface is from what the kernel checks by it.
    #[inline]
    pub fn checks(&self, interface: EthPortId, key: &FlowKey) -> bool {
        let l4_port = if key.proto == Proto::Icmp.number() { 0 } else { key.sport };
        let target = (interface, key.proto, key.src, l4_port);
        !self.checked.is_empty() && self.checked.binary_search(&target).is_ok()
    }

    /// True if the kernel holds no IPv4 address: nothing goes up but what is for a group.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// Whether the kernel holds an address on the KNI of an interface.
    #[inline]
    pub fn holds(&self, interface: EthPortId, address: u32) -> bool {
        self.addresses.binary_search(&(interface, address)).is_ok()
    }

    /// The same for an address of either family.
    pub fn holds_ip(&self, interface: EthPortId, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => self.holds(interface, v4.to_bits()),
            IpAddr::V6(_) => self.others.binary_search(&(interface, address)).is_ok(),
        }
    }

    /// Whether the kernel listens to an Ethernet group there. Broadcasts it always hears.
    #[inline]
    pub fn hears(&self, interface: EthPortId, group: MacAddr) -> bool {
        let wanted = group_key(&(interface, group));
        group == MacAddr::BROADCAST || self.groups.binary_search_by_key(&wanted, group_key).is_ok()
    }

    /// All addresses that the kernel holds, with the interfaces of ours.
    pub fn addresses(&self) -> impl Iterator<Item = (EthPortId, IpAddr)> + '_ {
        let v4 = self.addresses.iter().map(|(on, address)| (*on, address.to_ip()));
        v4.chain(self.others.iter().copied())
    }
}

fn group_key((interface, group): &(EthPortId, MacAddr)) -> (EthPortId, [u8; 6]) {
    (*interface, group.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAN: EthPortId = EthPortId(1);
    const LAN: EthPortId = EthPortId(0);
    const VRRP: MacAddr = MacAddr([1, 0, 0x5e, 0, 0, 18]);

    #[test]
    fn what_the_kernel_has_is_by_interface() {
        let kernel = KernelSide::new([(WAN, 9u32), (LAN, 7), (WAN, 9)], [(WAN, VRRP)]);
        assert!(kernel.holds(WAN, 9) && kernel.holds(LAN, 7));
        assert!(!kernel.holds(LAN, 9) && !kernel.holds(WAN, 7));
        assert!(kernel.hears(WAN, VRRP) && !kernel.hears(LAN, VRRP));
        assert!(kernel.hears(LAN, MacAddr::BROADCAST));
        assert_eq!(kernel.addresses().count(), 2);
        let after = kernel.with(&[WAN], [(WAN, 8u32.to_ip())], []);
        assert_eq!(after, KernelSide::new([(LAN, 7u32), (WAN, 8)], []));
        assert!(!kernel.is_empty() && KernelSide::default().is_empty());
    }
}
