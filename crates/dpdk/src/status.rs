//! What an interface says of itself: device, link, addresses and statistics.

use std::ffi::c_int;

use types::MacAddr;

use crate::ffi::{array_text, owned_text};
use crate::{Error, EthPort};

/// What a device is and can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// DPDK's driver.
    pub driver: String,
    /// The NUMA node that it is attached to, if it says so.
    pub numa_node: Option<u16>,
    /// Largest number of RX queues.
    pub max_rx_queues: u16,
    /// Largest number of TX queues.
    pub max_tx_queues: u16,
    /// Smallest MTU, in bytes.
    pub min_mtu: u16,
    /// Largest MTU, in bytes.
    pub max_mtu: u16,
    /// Longest frame that it receives, in bytes.
    pub max_rx_frame: u32,
    /// DPDK's `RTE_ETH_RX_OFFLOAD_*` bits.
    pub rx_offloads: u64,
    /// DPDK's `RTE_ETH_TX_OFFLOAD_*` bits.
    pub tx_offloads: u64,
    /// DPDK's `RTE_ETH_RSS_*` bits; none if it does not hash.
    pub rss_fields: u64,
    /// Entries of its redirection table.
    pub reta_size: u16,
    /// Length of its hash key, in bytes.
    pub hash_key_size: u8,
}

impl DeviceInfo {
    /// Whether the device takes VLAN tags out of frames that it receives.
    pub fn takes_vlan_tags(&self) -> bool {
        self.rx_offloads & dpdk_sys::DPNAT_RX_OFFLOAD_VLAN_STRIP != 0
    }

    /// Whether the device puts VLAN tags into frames that it sends.
    pub fn puts_vlan_tags(&self) -> bool {
        self.tx_offloads & dpdk_sys::DPNAT_TX_OFFLOAD_VLAN_INSERT != 0
    }
}

/// The state of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// Whether it carries frames.
    pub up: bool,
    /// Its speed in Mbit/s, if known.
    pub speed_mbps: Option<u32>,
    /// Both directions at once.
    pub full_duplex: bool,
}

/// The basic statistics of a device, since its start or their last reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStatistics {
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets lost by the device because nobody took them in time.
    pub rx_missed: u64,
    /// Packets that arrived broken.
    pub rx_errors: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Packets lost for want of an mbuf.
    pub rx_no_mbuf: u64,
}

/// DPDK's device under an interface.
pub(crate) fn device_of(id: u16) -> Option<*mut dpdk_sys::rte_device> {
    Some(raw_info(id).ok()?.device).filter(|device| !device.is_null())
}

fn raw_info(id: u16) -> Result<dpdk_sys::rte_eth_dev_info, c_int> {
    let mut info = dpdk_sys::rte_eth_dev_info::default();
    // SAFETY: `info` is written; DPDK refuses an id that it does not know.
    match unsafe { dpdk_sys::rte_eth_dev_info_get(id, &raw mut info) } {
        0 => Ok(info),
        code => Err(code),
    }
}

impl EthPort {
    /// What the device is and can do.
    pub fn info(&self) -> Result<DeviceInfo, Error> {
        let mut info = dpdk_sys::rte_eth_dev_info::default();
        match raw_info(self.id().0) {
            Ok(filled) => info = filled,
            Err(code) => self.result("cannot be asked for its abilities", code)?,
        }
        // SAFETY: reads a number.
        let node = unsafe { dpdk_sys::rte_eth_dev_socket_id(self.id().0) };
        Ok(DeviceInfo {
            // SAFETY: the driver's name is a constant of the driver, which stays loaded.
            driver: unsafe { owned_text(info.driver_name) },
            numa_node: u16::try_from(node).ok(),
            max_rx_queues: info.max_rx_queues,
            max_tx_queues: info.max_tx_queues,
            min_mtu: info.min_mtu,
            max_mtu: info.max_mtu,
            max_rx_frame: info.max_rx_pktlen,
            rx_offloads: info.rx_offload_capa,
            tx_offloads: info.tx_offload_capa,
            rss_fields: info.flow_type_rss_offloads,
            reta_size: info.reta_size,
            hash_key_size: info.hash_key_size,
        })
    }

    /// The link as the device knows it now.
    pub fn link(&self) -> Result<LinkState, Error> {
        let mut link = dpdk_sys::dpnat_link::default();
        // SAFETY: `link` is written on success.
        let code = unsafe { dpdk_sys::dpnat_link(self.id().0, &raw mut link) };
        self.result("cannot be asked for its link", code)?;
        Ok(LinkState {
            up: link.up != 0,
            speed_mbps: Some(link.speed_mbps).filter(|&speed| speed != 0 && speed != u32::MAX),
            full_duplex: link.full_duplex != 0,
        })
    }

    /// The MAC address.
    pub fn mac(&self) -> Result<MacAddr, Error> {
        let mut octets = [0_u16; 3];
        // SAFETY: DPDK's address is six bytes, aligned to two.
        let code =
            unsafe { dpdk_sys::rte_eth_macaddr_get(self.id().0, octets.as_mut_ptr().cast()) };
        self.result("cannot be asked for its MAC address", code)?;
        let mut mac = [0; 6];
        for (pair, half) in mac.chunks_exact_mut(2).zip(octets) {
            pair.copy_from_slice(&half.to_ne_bytes());
        }
        Ok(MacAddr(mac))
    }

    /// The largest IP packet, in bytes.
    pub fn mtu(&self) -> Result<u16, Error> {
        let mut mtu = 0;
        // SAFETY: `mtu` is written on success.
        let code = unsafe { dpdk_sys::rte_eth_dev_get_mtu(self.id().0, &raw mut mtu) };
        self.result("cannot be asked for its MTU", code)?;
        Ok(mtu)
    }

    /// Whether it receives what is for other MAC addresses too.
    pub fn is_promiscuous(&self) -> bool {
        // SAFETY: reads a flag.
        unsafe { dpdk_sys::rte_eth_promiscuous_get(self.id().0) == 1 }
    }

    /// The basic statistics.
    pub fn statistics(&self) -> Result<PortStatistics, Error> {
        let mut stats = dpdk_sys::rte_eth_stats::default();
        // SAFETY: `stats` is written.
        let code = unsafe { dpdk_sys::rte_eth_stats_get(self.id().0, &raw mut stats) };
        self.result("cannot be asked for its statistics", code)?;
        Ok(PortStatistics {
            rx_packets: stats.ipackets,
            tx_packets: stats.opackets,
            rx_bytes: stats.ibytes,
            tx_bytes: stats.obytes,
            rx_missed: stats.imissed,
            rx_errors: stats.ierrors,
            tx_errors: stats.oerrors,
            rx_no_mbuf: stats.rx_nombuf,
        })
    }

    /// The driver's own statistics, by its names for them.
    pub fn extended_statistics(&self) -> Result<Vec<(String, u64)>, Error> {
        const WHAT: &str = "cannot be asked for its extended statistics";
        let id = self.id().0;
        let none = std::ptr::null_mut();
        // SAFETY: with no room DPDK only counts.
        let count = unsafe { dpdk_sys::rte_eth_xstats_get_names(id, none, 0) };
        self.result(WHAT, count)?;
        let mut names = vec![dpdk_sys::rte_eth_xstat_name::default(); count as usize];
        // SAFETY: DPDK writes at most as many names as there is room for.
        let named =
            unsafe { dpdk_sys::rte_eth_xstats_get_names(id, names.as_mut_ptr(), count as u32) };
        self.result(WHAT, named)?;
        let mut values = vec![dpdk_sys::rte_eth_xstat::default(); count as usize];
        // SAFETY: DPDK writes at most as many values as there is room for.
        let valued = unsafe { dpdk_sys::rte_eth_xstats_get(id, values.as_mut_ptr(), count as u32) };
        self.result(WHAT, valued)?;
        // If there are more than a moment ago, DPDK says their number and writes none.
        let written = if named.max(valued) > count { 0 } else { named.min(valued) as usize };
        let name = |value: &dpdk_sys::rte_eth_xstat| {
            let name = names.get(value.id as usize)?;
            Some((array_text(&name.name), value.value))
        };
        Ok(values.iter().take(written).filter_map(name).collect())
    }

    /// Sets all statistics to zero.
    pub fn reset_statistics(&mut self) -> Result<(), Error> {
        // SAFETY: the interface is ours.
        let code = unsafe { dpdk_sys::rte_eth_stats_reset(self.id().0) };
        self.result("cannot reset its statistics", code)?;
        // SAFETY: as above. Devices without statistics of their own refuse, which is as good.
        unsafe { dpdk_sys::rte_eth_xstats_reset(self.id().0) };
        Ok(())
    }
}
