//! Which interface is behind which tag, and how frames of an interface are tagged.

use types::EthPortId;

use super::Interface;

/// VLAN identifiers there are, those that no VLAN has among them (IEEE 802.1Q table 9-2).
const IDS: usize = 4096;
/// In a table: no interface.
const NOBODY: u16 = u16::MAX;

/// Where the frames of an interface go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire {
    /// The device among the worker's queues; that of its link for a VLAN.
    pub port: u16,
    /// The VLAN's identifier; 0 for an interface that is none.
    pub vid: u16,
    /// The NIC puts the tag into the frame.
    pub nic_tags: bool,
}

impl Wire {
    /// Of an interface that is gone.
    pub const NONE: Self = Self { port: u16::MAX, vid: 0, nic_tags: false };

    /// Frames without tag by a device.
    pub const fn untagged(port: u16) -> Self {
        Self { port, vid: 0, nic_tags: false }
    }
}

/// The interfaces of VLANs by device and identifier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vlans {
    by_port: Box<[Option<Box<[u16; IDS]>>]>,
}

impl Vlans {
    /// Those of a list of interfaces.
    pub fn of(interfaces: &[Interface]) -> Self {
        let tagged = || (0..).zip(interfaces).filter(|(_, interface)| interface.wire.vid != 0);
        let ports = tagged().map(|(_, interface)| usize::from(interface.wire.port) + 1).max();
        let mut by_port = vec![None; ports.unwrap_or(0)];
        for (id, interface) in tagged() {
            let table = by_port.get_mut(usize::from(interface.wire.port)).map(
                |table: &mut Option<Box<[u16; IDS]>>| {
                    table.get_or_insert_with(|| Box::new([NOBODY; IDS]))
                },
            );
            let place = table.and_then(|table| table.get_mut(usize::from(interface.wire.vid)));
            if let Some(place) = place {
                *place = id;
            }
        }
        Self { by_port: by_port.into() }
    }

    /// The interface of a tag that came by a device.
    #[inline]
    pub fn find(&self, port: u16, vid: u16) -> Option<EthPortId> {
        let table = self.by_port.get(usize::from(port))?.as_ref()?;
        let id = table.get(usize::from(vid)).copied().filter(|id| *id != NOBODY)?;
        Some(EthPortId(id))
    }
}

#[cfg(test)]
mod tests {
    use types::MacAddr;

    use super::*;

    fn interface(port: u16, vid: u16) -> Interface {
        let wire = Wire { vid, ..Wire::untagged(port) };
        Interface {
            name: "x".into(),
            mac: MacAddr::default(),
            mtu: 1500,
            up: true,
            kni: false,
            silent: false,
            wire,
        }
    }

    #[test]
    fn each_device_has_its_own_tags() {
        let interfaces = [interface(0, 0), interface(1, 0), interface(1, 7), interface(1, 4094)];
        let vlans = Vlans::of(&interfaces);
        assert_eq!(vlans.find(1, 7), Some(EthPortId(2)));
        assert_eq!(vlans.find(1, 4094), Some(EthPortId(3)));
        for (port, vid) in [(0, 7), (1, 8), (1, 0), (2, 7), (1, 4095), (1, 9999)] {
            assert_eq!(vlans.find(port, vid), None, "{port} {vid}");
        }
        assert_eq!(Vlans::of(&interfaces[..2]), Vlans::default());
    }
}
