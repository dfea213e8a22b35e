//! Addresses, routes, neighbours and links.

use std::net::IpAddr;

use config::{Active, InterfaceAddress, Prefix, RouteType};
use serde::{Deserialize, Serialize};
use types::MacAddr;
use utoipa::{IntoParams, ToSchema};

/// Chooses what is on one interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DevQuery {
    /// The interface; all if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<String>,
}

/// Names an address of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AddressKey {
    /// The address; the length of its prefix may be left out.
    #[param(value_type = String)]
    pub address: InterfaceAddress,
    /// The interface; it may be left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<String>,
}

/// An address of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AddressInfo {
    /// The address with the length of its subnet's prefix.
    pub address: InterfaceAddress,
    /// The interface that answers for it.
    pub dev: String,
    /// When it is ours.
    pub active: Active,
    /// What it is for: `vip`, `lip`, `wan` or `local`; `leaving` if it was a VIP and open conns still name
    /// it; `absent` if it is not ours now, as the kernel does not hold it.
    pub role: String,
}

/// Names a static route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RouteKey {
    /// Its destination.
    #[param(value_type = String)]
    pub to: Prefix,
    /// Its metric; needed if there are several routes to the destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
}

/// Where a route comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RouteOrigin {
    /// It is configured.
    Static,
    /// It leads to the subnet of an address of ours.
    Connected,
    /// It leads to an address of ours.
    Local,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RouteInfo {
    /// Its destination.
    pub to: Prefix,
    /// The router; without one, destinations are on the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "203.0.113.1")]
    pub via: Option<IpAddr>,
    /// The interface.
    pub dev: String,
    /// Of several routes to one destination, that with the lowest is taken.
    pub metric: u32,
    /// The source of packets made here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "203.0.113.2")]
    pub src: Option<IpAddr>,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// Whether it leads to others or to us.
    #[serde(default, rename = "type")]
    pub route_type: RouteType,
    /// Where it comes from.
    pub origin: RouteOrigin,
}

/// Names a neighbour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct NeighbourKey {
    /// Its IP address.
    #[param(value_type = String)]
    #[schema(value_type = String, example = "203.0.113.1")]
    pub address: IpAddr,
    /// The interface; it may be left out if the address is known on one only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<String>,
}

/// What is known of a neighbour, in the words of RFC 4861.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum NeighbourState {
    /// Asked for, and no answer yet.
    Incomplete,
    /// Answered lately.
    Reachable,
    /// Answered some time ago, and not used since.
    Stale,
    /// Used, and soon asked again.
    Delay,
    /// Asked again.
    Probe,
    /// Did not answer.
    Failed,
    /// Configured: never asked.
    Permanent,
}

/// A neighbour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NeighbourInfo {
    /// Its IP address.
    #[schema(value_type = String, example = "203.0.113.1")]
    pub address: IpAddr,
    /// The interface behind which it is.
    pub dev: String,
    /// Its Ethernet address, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "02:00:00:00:00:01")]
    pub mac: Option<MacAddr>,
    /// What is known of it.
    pub state: NeighbourState,
    /// Milliseconds since it was last heard of; nothing for a permanent one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed_ms_ago: Option<u64>,
}

/// Whether both ends of a link may send at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Duplex {
    /// Only one.
    Half,
    /// Both.
    Full,
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LinkInfo {
    /// Its name.
    pub name: String,
    /// What it is on and under which tag, if it is a VLAN; device, queues and steering are its link's then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<VlanInfo>,
    /// The PCI address or device string that it was made from.
    pub device: String,
    /// DPDK's driver.
    pub driver: String,
    /// Its Ethernet address.
    #[schema(value_type = String, example = "02:00:00:00:00:01")]
    pub mac: MacAddr,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// Whether there is a link.
    pub up: bool,
    /// Speed in Mbit/s, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed_mbps: Option<u32>,
    /// Duplex, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duplex: Option<Duplex>,
    /// Receive queues.
    pub rx_queues: u16,
    /// Transmit queues.
    pub tx_queues: u16,
    /// Descriptors of each receive queue.
    pub rx_descriptors: u16,
    /// Descriptors of each transmit queue.
    pub tx_descriptors: u16,
    /// The NUMA node, if the device is on one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<u16>,
    /// What the device does with the tags of VLANs; the workers do the rest.
    #[serde(default)]
    pub vlan_tags: VlanTags,
    /// How packets find the worker that owns their conn, and why so.
    pub steering: String,
    /// The kernel's interface to it, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kni: Option<KniInfo>,
    /// What passed.
    pub stats: LinkStats,
}

/// What a VLAN is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VlanInfo {
    /// The interface that carries its frames.
    pub link: String,
    /// Its identifier.
    pub id: u16,
}

/// What a device does with the tags of VLANs (IEEE 802.1Q).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VlanTags {
    /// It takes them out of frames that it receives.
    pub taken_by_nic: bool,
    /// It puts them into frames that it sends.
    pub put_by_nic: bool,
}

/// The kernel's interface to one of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KniInfo {
    /// Its name in the kernel.
    pub name: String,
    /// Its network namespace; the daemon's own if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<String>,
    /// The addresses that the kernel holds there.
    #[schema(value_type = Vec<String>, example = json!(["203.0.113.5"]))]
    pub addresses: Vec<IpAddr>,
    /// What passed.
    pub stats: KniStats,
}

/// What passed a kernel interface since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KniStats {
    /// Frames that the kernel got.
    pub to_kernel_packets: u64,
    /// Frames for the kernel that it did not take, as the interface is down or it had no room.
    pub to_kernel_dropped: u64,
    /// Frames of the kernel that a worker got to send.
    pub from_kernel_packets: u64,
    /// Frames of the kernel for which there was no room.
    pub from_kernel_dropped: u64,
}

/// What passed an interface since the start, as its driver counts; for a VLAN, as the workers do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LinkStats {
    /// Frames received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames that the NIC lost because its queues were full.
    pub rx_missed: u64,
    /// Frames that arrived broken.
    pub rx_errors: u64,
    /// Frames lost because there was no buffer.
    pub rx_no_buffer: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames that could not be sent.
    pub tx_errors: u64,
}
