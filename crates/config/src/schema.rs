//! The configuration's sections, but for services.
//!
//! What is left out of a file has the default given here, and what has its default is left out when
//! a configuration is written.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use types::MacAddr;
use utoipa::ToSchema;

use crate::defaults::{is_default, is_ms, is_u16, is_u32, ms, u16_of, u32_of};
use crate::dnat::DnatRule;
use crate::forwarding::{Forwarding, NatLog};
use crate::health::{Checks, Health};
use crate::kni::Kni;
use crate::link::Vlan;
use crate::named::{self, Ordered};
use crate::service::{Server, Service};
use crate::snat::SnatRule;
use crate::text::{AddressRange, CpuSet, Duration, InterfaceAddress, Prefix, Size};

/// A configuration: what a file holds, and what runs.
///
/// Sections of named things are kept by name, in shared parts, so that a copy is cheap.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Version of the format; 1 is the only one.
    #[serde(default = "u32_of::<1>")]
    pub version: u32,
    /// Memory for DPDK itself (packet buffers, rings), in bytes; tables come on top.
    #[serde(default = "default_memory", skip_serializing_if = "is_default_memory")]
    pub memory: Size,
    /// Whether huge pages are used.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hugepages: HugePages,
    /// Arguments that are passed on to DPDK's `rte_eal_init` as they are.
    #[serde(default, skip_serializing_if = "is_default")]
    pub eal_args: Vec<String>,
    /// The poll loops.
    #[serde(default, skip_serializing_if = "is_default")]
    pub workers: Workers,
    /// Tracking of conns.
    #[serde(default, skip_serializing_if = "is_default")]
    pub conntrack: Conntrack,
    /// What is logged, and how.
    #[serde(default, skip_serializing_if = "is_default")]
    pub log: Log,
    /// How the daemon stops.
    #[serde(default, skip_serializing_if = "is_default")]
    pub shutdown: Shutdown,
    /// The log of what NAT does.
    #[serde(default, skip_serializing_if = "is_default")]
    pub nat_log: NatLog,
    /// Interfaces by name.
    #[serde(default, deserialize_with = "named::map")]
    #[schema(value_type = BTreeMap<String, Interface>)]
    pub interfaces: BTreeMap<String, Arc<Interface>>,
    /// VLANs by name.
    #[serde(default, deserialize_with = "named::map")]
    #[schema(value_type = BTreeMap<String, Vlan>)]
    pub vlans: BTreeMap<String, Arc<Vlan>>,
    /// Addresses of ours on interfaces.
    #[serde(default, deserialize_with = "named::list")]
    pub addresses: Vec<Address>,
    /// Static routes; those to the subnets of our addresses come by themselves.
    #[serde(default, deserialize_with = "named::list")]
    pub routes: Vec<Route>,
    /// Static neighbours, which are never asked for.
    #[serde(default, deserialize_with = "named::list")]
    pub neighbours: Vec<Neighbour>,
    /// Pools of local addresses (LIPs) by name.
    #[serde(default, deserialize_with = "named::map")]
    #[schema(value_type = BTreeMap<String, LocalPool>)]
    pub local_address_pools: BTreeMap<String, Arc<LocalPool>>,
    /// Groups of real servers by name.
    #[serde(default, deserialize_with = "named::map")]
    #[schema(value_type = BTreeMap<String, ServerGroup>)]
    pub server_groups: BTreeMap<String, Arc<ServerGroup>>,
    /// Services by name.
    #[serde(default, deserialize_with = "named::map")]
    #[schema(value_type = BTreeMap<String, Service>)]
    pub services: BTreeMap<String, Arc<Service>>,
    /// Rules of source NAT by name; the first that a packet meets decides.
    #[serde(default, deserialize_with = "named::ordered")]
    #[schema(value_type = BTreeMap<String, SnatRule>)]
    pub snat: Ordered<SnatRule>,
    /// Rules of destination NAT by name.
    #[serde(default, deserialize_with = "named::map")]
    #[schema(value_type = BTreeMap<String, DnatRule>)]
    pub dnat: BTreeMap<String, Arc<DnatRule>>,
    /// Routing between interfaces.
    #[serde(default, skip_serializing_if = "is_default")]
    pub forwarding: Forwarding,
}

const DEFAULT_MEMORY: Size = Size::from_mib(512);

fn default_memory() -> Size {
    DEFAULT_MEMORY
}

fn is_default_memory(size: &Size) -> bool {
    *size == DEFAULT_MEMORY
}

/// Whether huge pages are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum HugePages {
    /// If there are any; a warning if not.
    #[default]
    Auto,
    /// Start-up is refused without them.
    Required,
    /// Never.
    Off,
}

/// The poll loops.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Workers {
    /// The CPUs that they run on, one worker each.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cpus: CpuSet,
    /// What a worker does when there is nothing to do.
    #[serde(default, skip_serializing_if = "is_default")]
    pub idle: Idle,
}

/// What a worker does with empty polls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Idle {
    /// Polls on: least latency, a CPU that is always busy.
    Poll,
    /// Spins, then pauses, then sleeps for microseconds.
    #[default]
    Adaptive,
}

/// Tracking of conns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Conntrack {
    /// The most conns that each worker may have at once.
    #[serde(default = "u32_of::<1_000_000>", skip_serializing_if = "is_u32::<1_000_000>")]
    #[schema(default = 1_000_000)]
    pub max_connections: u32,
    /// The same of those that have an IPv6 side; as `max_connections` if not given. Their memory is reserved with the
    /// first service that needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connections_ipv6: Option<u32>,
    /// Idle times after which conns end.
    #[serde(default, skip_serializing_if = "is_default")]
    pub timeouts: Timeouts,
    /// How long a real server is taken to remember a closed TCP conn (its TIME_WAIT): as long a LIP
    /// port rests if the next conn from it might be taken for the old one.
    #[serde(default = "ms::<60_000>", skip_serializing_if = "is_ms::<60_000>")]
    pub rs_time_wait: Duration,
}

impl Conntrack {
    /// The most conns with an IPv6 side that each worker may have at once.
    pub fn max_connections_ipv6(&self) -> u32 {
        self.max_connections_ipv6.unwrap_or(self.max_connections)
    }
}

/// Idle times after which conns end, by protocol and state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Timeouts {
    /// TCP before the handshake is complete.
    #[serde(default = "ms::<30_000>", skip_serializing_if = "is_ms::<30_000>")]
    pub tcp_syn: Duration,
    /// TCP after it.
    #[serde(default = "ms::<900_000>", skip_serializing_if = "is_ms::<900_000>")]
    pub tcp_established: Duration,
    /// TCP after a FIN from either side.
    #[serde(default = "ms::<60_000>", skip_serializing_if = "is_ms::<60_000>")]
    pub tcp_closing: Duration,
    /// TCP after both FINs or a reset.
    #[serde(default = "ms::<5_000>", skip_serializing_if = "is_ms::<5_000>")]
    pub tcp_closed: Duration,
    /// UDP before there is a reply.
    #[serde(default = "ms::<30_000>", skip_serializing_if = "is_ms::<30_000>")]
    pub udp_oneway: Duration,
    /// UDP after it.
    #[serde(default = "ms::<300_000>", skip_serializing_if = "is_ms::<300_000>")]
    pub udp: Duration,
    /// ICMP queries.
    #[serde(default = "ms::<60_000>", skip_serializing_if = "is_ms::<60_000>")]
    pub icmp: Duration,
}

/// What is logged, and how.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// The least important events that are logged.
    #[serde(default, skip_serializing_if = "is_default")]
    pub level: LogLevel,
    /// The form that they are written in.
    #[serde(default, skip_serializing_if = "is_default")]
    pub format: LogFormat,
}

/// Importance of an event.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Something does not work.
    Error,
    /// Something may not work as meant.
    Warn,
    /// What an operator wants to know of.
    #[default]
    Info,
    /// What helps to find a fault.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The name, as in the file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people, on standard error.
    #[default]
    Human,
    /// One JSON object a line, on standard error.
    Json,
    /// Entries with fields, to systemd's journal.
    Journald,
}

/// How the daemon stops.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Shutdown {
    /// How long conns may go on after SIGTERM while new ones are refused; a second signal ends this.
    #[serde(default, skip_serializing_if = "is_default")]
    pub drain: Duration,
}

/// An interface of ours: a DPDK ethdev. Exactly one of `pci` and `device` is given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// PCI address, as in `0000:81:00.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pci: Option<String>,
    /// Any DPDK device string, as in `net_af_packet0,iface=eth1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// How many receive queues there are.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schema(value_type = String, example = "auto")]
    pub queues: Queues,
    /// Descriptors of each receive queue.
    #[serde(default = "u16_of::<1024>", skip_serializing_if = "is_u16::<1024>")]
    #[schema(default = 1024)]
    pub rx_descriptors: u16,
    /// Descriptors of each transmit queue.
    #[serde(default = "u16_of::<1024>", skip_serializing_if = "is_u16::<1024>")]
    #[schema(default = 1024)]
    pub tx_descriptors: u16,
    /// Largest IP packet in bytes.
    #[serde(default = "u16_of::<1500>", skip_serializing_if = "is_u16::<1500>")]
    #[schema(default = 1500)]
    pub mtu: u16,
    /// The kernel's interface to this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::kni::KniForm>)]
    pub kni: Option<Kni>,
}

/// How many receive queues an interface has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Queues {
    /// One for each worker, or as many as the NIC has if those are fewer.
    #[default]
    Auto,
    /// This many.
    Count(u16),
}

impl Serialize for Queues {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Count(count) => serializer.serialize_u16(*count),
        }
    }
}

impl<'de> Deserialize<'de> for Queues {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AutoOrCount;

        impl serde::de::Visitor<'_> for AutoOrCount {
            type Value = Queues;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`auto` or a number from 1 to 65535")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Queues, E> {
                let wrong = || E::invalid_value(serde::de::Unexpected::Str(text), &self);
                if text == "auto" { Ok(Queues::Auto) } else { Err(wrong()) }
            }

            fn visit_u64<E: serde::de::Error>(self, count: u64) -> Result<Queues, E> {
                let wrong = || E::invalid_value(serde::de::Unexpected::Unsigned(count), &self);
                match u16::try_from(count) {
                    Ok(count) if count != 0 => Ok(Queues::Count(count)),
                    _ => Err(wrong()),
                }
            }
        }

        deserializer.deserialize_any(AutoOrCount)
    }
}

/// An address of ours on an interface, which answers for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Address {
    /// The address and the length of its subnet's prefix; without one, the address alone.
    pub address: InterfaceAddress,
    /// The interface.
    pub dev: String,
    /// When the address is ours.
    #[serde(default, skip_serializing_if = "is_default")]
    pub active: Active,
}

/// When an address is ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Active {
    /// As long as it is configured.
    #[default]
    Always,
    /// Exactly while the kernel holds it on the interface's KNI.
    WithKernel,
}

/// A static route. There is one for each destination and metric.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Route {
    /// The destination: a prefix, or `default`, which is `::/0` with an IPv6 router.
    pub to: Prefix,
    /// The router; without one, the destinations are on the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "203.0.113.1")]
    pub via: Option<IpAddr>,
    /// The interface.
    pub dev: String,
    /// Of several routes to one destination, that with the lowest is taken.
    #[serde(default, skip_serializing_if = "is_default")]
    pub metric: u32,
    /// The address of ours that packets made here have as source on this route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "203.0.113.2")]
    pub src: Option<IpAddr>,
    /// Largest IP packet in bytes on this route; else the interface's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// Whether it leads to others or to us.
    #[serde(default, rename = "type", skip_serializing_if = "is_default")]
    pub route_type: RouteType,
}

impl Prefix {
    /// All of IPv6 in place of all of IPv4: for a `default` that is known to be of IPv6.
    #[must_use]
    pub fn or_default_v6(self) -> Self {
        let all_v4 = self.prefix_len() == 0 && self.address().is_ipv4();
        if all_v4 { Self::new(ipnet::Ipv6Net::default().into()) } else { self }
    }
}

impl Serialize for Route {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Route {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let route = Self::deserialize(deserializer)?;
        let is_v6 = [route.via, route.src].into_iter().flatten().any(|address| address.is_ipv6());
        let to = if is_v6 { route.to.or_default_v6() } else { route.to };
        Ok(Self { to, ..route })
    }
}

/// What a route leads to, in the words of `ip route`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RouteType {
    /// Other stations.
    #[default]
    Unicast,
    /// Ourselves: every address of the prefix is ours.
    Local,
}

/// A static neighbour.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Neighbour {
    /// Its IP address.
    #[schema(value_type = String, example = "203.0.113.1")]
    pub address: IpAddr,
    /// Its Ethernet address.
    #[schema(value_type = String, example = "02:00:00:00:00:01")]
    pub mac: MacAddr,
    /// The interface behind which it is.
    pub dev: String,
}

/// Local addresses (LIPs) on an interface towards the real servers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LocalPool {
    /// Addresses, ranges and prefixes.
    pub addresses: Vec<AddressRange>,
    /// The interface that answers for them.
    pub dev: String,
}

/// Real servers that several services may share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerGroup {
    /// The real servers.
    pub servers: Vec<Server>,
    /// How they are checked: one check, or a list of those that all must pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Health>)]
    pub health: Option<Checks>,
}
