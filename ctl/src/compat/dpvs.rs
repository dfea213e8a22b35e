//! What of DPVS's inside its commands show: error codes, numbers of messages, orders of its tables.

use std::net::IpAddr;

/// The number of a message to the daemon, which DPVS names when it refuses one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message(pub(super) u8);

impl Message {
    pub(super) const LADDR_ADD: Self = Self(0);
    pub(super) const LADDR_DEL: Self = Self(1);
    pub(super) const SERVICE_FLUSH: Self = Self(8);
    pub(super) const SERVICE_ZERO: Self = Self(9);
    pub(super) const SERVICE_ADD: Self = Self(10);
    pub(super) const SERVICE_EDIT: Self = Self(11);
    pub(super) const SERVICE_DEL: Self = Self(12);
    pub(super) const SERVER_ADD: Self = Self(13);
    pub(super) const SERVER_EDIT: Self = Self(14);
    pub(super) const SERVER_DEL: Self = Self(15);
    pub(super) const SERVICE_GET: Self = Self(20);
    pub(super) const ROUTE_ADD: Self = Self(28);
    pub(super) const ROUTE_DEL: Self = Self(29);
    pub(super) const ROUTE_SET: Self = Self(30);
    pub(super) const ROUTE_FLUSH: Self = Self(31);
    pub(super) const ROUTE6: Self = Self(33);
    pub(super) const ROUTE6_FLUSH: Self = Self(34);
    pub(super) const ADDRESS_ADD: Self = Self(47);
    pub(super) const ADDRESS_DEL: Self = Self(48);
    pub(super) const ADDRESS_SET: Self = Self(49);
    pub(super) const ADDRESS_FLUSH: Self = Self(50);
    pub(super) const LINK_GET: Self = Self(61);
    pub(super) const NEIGHBOUR_ADD: Self = Self(70);
    pub(super) const NEIGHBOUR_DEL: Self = Self(71);
    pub(super) const VLAN_ADD: Self = Self(81);
    pub(super) const VLAN_DEL: Self = Self(82);
}

/// An error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    /// It cannot be.
    Inval,
    /// There is one already.
    Exist,
    /// There is none.
    NotExist,
    /// There is no such device.
    NoDev,
}

impl Code {
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Inval => "invalid parameter",
            Self::Exist => "already exist",
            Self::NotExist => "not exist",
            Self::NoDev => "no such device",
        }
    }

    pub(super) const fn number(self) -> i8 {
        match self {
            Self::Inval => -1,
            Self::Exist => -3,
            Self::NotExist => -4,
            Self::NoDev => -27,
        }
    }

    /// What is left of it as a process's exit status.
    pub(super) const fn exit_code(self) -> u8 {
        self.number().cast_unsigned()
    }
}

/// An address folded to 32 bits, in the order of its bytes in a packet.
fn folded(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(v4) => u32::from_be_bytes(v4.octets()),
        IpAddr::V6(v6) => {
            let word = |chunk: &[u8]| chunk.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
            v6.octets().chunks_exact(4).map(word).fold(0, |fold, word| fold ^ word)
        }
    }
}

/// Where an address stands in the table of addresses: `dpip addr show` walks it in this order, and
/// those with the same number from the newest to the oldest.
pub(super) fn address_bucket(address: IpAddr) -> u8 {
    // Knuth's multiplicative hash of the word as a little-endian machine reads it.
    (folded(address).swap_bytes().wrapping_mul(0x61c8_8647) >> 24) as u8
}

/// Where a service stands in the table of services: `ipvsadm -G` walks it in this order.
pub(super) fn service_bucket(vip: IpAddr, protocol: u8) -> u8 {
    (folded(vip) as u8) ^ protocol
}

/// Where an address of ours stands in the table of IPv4 routes to ourselves.
pub(super) fn route_bucket(address: IpAddr) -> u8 {
    folded(address) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(addresses: &[&str], bucket: impl Fn(IpAddr) -> u8) -> Vec<u8> {
        addresses.iter().map(|address| bucket(address.parse().unwrap())).collect()
    }

    #[test]
    fn addresses_stand_as_dpvs_shows_them() {
        // `dpip addr show` of a running DPVS 1.10.2, from top to bottom.
        let shown = [
            "2001:db8:1::64",
            "10.0.0.1",
            "192.168.100.201",
            "192.168.100.202",
            "2001:db8:2::200",
            "2001:db8:1::100",
            "10.0.0.100",
            "192.168.100.1",
            "fe80::94ca:c3ff:fe07:a8a",
            "2001:db8:2::201",
            "192.168.100.200",
            "fe80::20b3:2ff:fe66:d676",
        ];
        let buckets = buckets(&shown, address_bucket);
        assert!(buckets.is_sorted(), "{buckets:?}");
    }

    #[test]
    fn services_stand_as_dpvs_shows_them() {
        // `ipvsadm -G` of the same.
        let shown = [
            ("10.0.0.100", 6),
            ("10.0.0.100", 17),
            ("2001:db8:1::100", 17),
            ("2001:db8:1::100", 6),
            ("2001:db8:1::64", 17),
            ("2001:db8:1::64", 6),
        ];
        let bucket = |(vip, protocol): &(&str, u8)| service_bucket(vip.parse().unwrap(), *protocol);
        assert!(shown.iter().map(bucket).is_sorted());
    }
}
