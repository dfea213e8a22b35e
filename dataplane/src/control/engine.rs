//! What control asks of the interfaces and of the memory behind them: the seam to DPDK.

use std::fmt;

use types::{EthPortId, MacAddr};

/// An interface, as it was started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceInfo {
    /// Its number: its place among the configured ones in the order of their names. VLANs with a kernel interface
    /// come behind all others; those without are not known here.
    pub id: EthPortId,
    /// Its name in the configuration.
    pub name: String,
    /// The PCI address or device string that it was made from.
    pub device: String,
    /// DPDK's driver.
    pub driver: String,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// The largest IP packet that it takes, in bytes.
    pub mtu: u16,
    /// Receive queues.
    pub rx_queues: u16,
    /// Transmit queues.
    pub tx_queues: u16,
    /// Descriptors of each receive queue.
    pub rx_descriptors: u16,
    /// Descriptors of each transmit queue.
    pub tx_descriptors: u16,
    /// The NUMA node, if the device is on one.
    pub numa_node: Option<u16>,
    /// Its VLAN and the number of its link, if it is one.
    pub vlan: Option<(u16, EthPortId)>,
    /// The device takes tags of VLANs out of frames that it receives.
    pub takes_tags: bool,
    /// The device puts tags of VLANs into frames that it sends.
    pub puts_tags: bool,
    /// How packets find the worker that owns their conn, and why so.
    pub steering: String,
    /// The kernel's interface to it, if there is one.
    pub kni: Option<Kni>,
}

/// A kernel interface, as it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kni {
    /// Its name.
    pub name: String,
    /// Its network namespace; the daemon's own if not given.
    pub netns: Option<String>,
    /// The kernel's number of it in that namespace.
    pub index: u32,
}

/// The state of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Whether it carries.
    pub up: bool,
    /// Its speed in Mbit/s, if known.
    pub speed_mbps: Option<u32>,
    /// Whether both ends may send at once, if known.
    pub full_duplex: Option<bool>,
}

/// The packet buffers of all mempools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Buffers {
    /// How many there are.
    pub total: u64,
    /// How many are in use: in queues, in rings, held.
    pub in_use: u64,
}

/// The running interfaces and workers.
pub trait Engine: fmt::Debug + Send {
    /// The interfaces, by number.
    fn interfaces(&self) -> &[InterfaceInfo];

    /// The CPU of each worker.
    fn cpus(&self) -> &[u16];

    /// The version of what drives the interfaces, as in `DPDK 24.11.3`.
    fn version(&self) -> String;

    /// The state of an interface's link; down for one that does not exist.
    fn link(&self, interface: EthPortId) -> Link;

    /// What an interface's driver has counted since the start.
    fn statistics(&self, interface: EthPortId) -> api::LinkStats;

    /// Tells the kernel whether an interface of ours with a KNI has a link.
    fn set_carrier(&self, interface: EthPortId, carrier: bool);

    /// What passed the KNI of an interface; nothing where there is none.
    fn kni_statistics(&self, interface: EthPortId) -> api::KniStats;

    /// The packet buffers.
    fn buffers(&self) -> Buffers;

    /// Ends the workers and closes the interfaces. Nothing is left behind; a second call does nothing.
    fn stop(&mut self);
}
