//! What runs as a whole: status, configuration, totals, counters, workers and the log.

use std::collections::BTreeMap;

use config::{Change, LogLevel, Warning};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::network::LinkStats;
use crate::service::Traffic;

/// The version of the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Version {
    /// Of dpnat, as in `0.1.0`.
    pub version: String,
    /// The commit that it was built from; empty if not known.
    pub commit: String,
    /// Of DPDK, as in `DPDK 24.11.3`.
    pub dpdk: String,
    /// Of this API: `v1`.
    pub api: String,
}

/// What the daemon is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not all workers run yet.
    Starting,
    /// Works.
    Running,
    /// Takes no new conns and lets the others go on for a while.
    Draining,
}

/// The daemon at a glance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Its version.
    pub version: Version,
    /// What it is about.
    pub state: State,
    /// Its process id.
    pub pid: u32,
    /// Milliseconds since it started.
    pub uptime_ms: u64,
    /// The configuration file that it was started with.
    pub config_file: String,
    /// Whether what runs differs from that file; unknown if the file cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_differs: Option<bool>,
    /// The generation of the configuration that runs; each change is one more.
    pub generation: u64,
    /// How many workers there are.
    pub workers: u32,
    /// How many interfaces there are.
    pub interfaces: u32,
    /// How many of them have a link.
    pub interfaces_up: u32,
    /// How many services there are.
    pub services: u32,
    /// How many real servers they have.
    pub servers: u32,
    /// Conns now.
    pub connections: u64,
    /// Those of them that have an IPv6 side.
    pub connections_ipv6: u64,
    /// The most conns of IPv4 alone that all workers take together.
    pub max_connections: u64,
    /// The same of those that have an IPv6 side; 0 until there is a service that has one.
    pub max_connections_ipv6: u64,
    /// What an operator should look at, for people; nothing if all is well.
    pub problems: Vec<String>,
}

/// How a configuration is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ConfigFormat {
    /// YAML, as in the file.
    #[default]
    Yaml,
    /// JSON of the same structure.
    Json,
}

/// Asks for the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ConfigQuery {
    /// How it is written.
    #[serde(default)]
    #[param(inline)]
    pub format: ConfigFormat,
}

/// How a configuration that is sent changes the running one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ApplyQuery {
    /// Makes the sections that are sent equal to what is sent, instead of adding to them.
    #[serde(default)]
    pub prune: bool,
    /// Says what would change and changes nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// What has changed, would change, or differs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Changes {
    /// In the order of their paths; empty if there is no difference.
    pub changes: Vec<Change>,
    /// What is allowed, but may not be meant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
    /// Paths whose change takes effect at the next start only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub at_restart: Vec<String>,
    /// The generation of the configuration that runs now.
    pub generation: u64,
}

/// What is allowed, but may not be meant; the answer to most changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Warnings {
    /// Empty if there is nothing to say.
    #[serde(default)]
    pub warnings: Vec<Warning>,
    /// The generation of the configuration that runs now.
    pub generation: u64,
}

/// The file was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Saved {
    /// Its path.
    pub path: String,
    /// Its length in bytes.
    pub bytes: u64,
}

/// Every packet and where it went, over all workers:
/// `received + generated + from_rings + from_kernel = sent + dropped + punted + answered + handed + held`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ledger {
    /// Packets taken from the NICs.
    pub received: u64,
    /// Packets made here: replies, requests, resets.
    pub generated: u64,
    /// Packets taken from other workers' rings.
    pub from_rings: u64,
    /// Packets that the kernel sends by a kernel interface.
    #[serde(default)]
    pub from_kernel: u64,
    /// Packets that the NICs took.
    pub sent: u64,
    /// Packets dropped, for whatever reason; the counters name them.
    pub dropped: u64,
    /// Packets given to the control thread or the kernel.
    pub punted: u64,
    /// Packets that ended here with a reply of ours.
    pub answered: u64,
    /// Packets given to another worker.
    pub handed: u64,
    /// Packets that wait now, for a neighbour or for transmission.
    pub held: u64,
    /// What the two sides differ by; 0 whenever no packet is on its way.
    pub difference: i64,
}

/// Conns, over all workers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConnectionTotals {
    /// Now.
    pub current: u64,
    /// Those of them that have an IPv6 side.
    pub current_ipv6: u64,
    /// The most of IPv4 alone that are taken.
    pub max: u64,
    /// The most with an IPv6 side; 0 until there is a service that has one.
    pub max_ipv6: u64,
    /// TCP conns now whose handshake is not complete, UDP and ICMP ones without a reply.
    pub half_open: u64,
    /// Established ones now.
    pub established: u64,
    /// Those now that are closing or closed.
    pub closing: u64,
    /// Opened since the start.
    pub opened: u64,
    /// Ended by the two ends since the start.
    pub closed: u64,
    /// Ended by being idle since the start.
    pub expired: u64,
    /// Ended for lack of room since the start.
    pub evicted: u64,
    /// Ended by an operator since the start.
    pub removed: u64,
}

/// Totals since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Stats {
    /// Milliseconds since the start.
    pub uptime_ms: u64,
    /// Where the packets went.
    pub ledger: Ledger,
    /// Conns.
    pub connections: ConnectionTotals,
    /// Each interface, by name.
    pub interfaces: BTreeMap<String, LinkStats>,
    /// Each service, by name.
    pub services: BTreeMap<String, Traffic>,
}

/// Chooses counters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CounterQuery {
    /// Of this worker only; else the sum over all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<u16>,
    /// Leaves out those that are 0.
    #[serde(default)]
    pub nonzero: bool,
}

/// A counter since the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Counter {
    /// Its name, as in `drop.no-service`.
    pub name: String,
    /// How often; packets if the name is a verdict's.
    pub value: u64,
    /// One sentence on what it means.
    pub help: String,
}

/// A poll loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WorkerInfo {
    /// Its number, from 0.
    pub id: u16,
    /// The CPU that it runs on.
    pub cpu: u16,
    /// The generation of the configuration that it reads.
    pub generation: u64,
    /// Part of the time in which it had packets, of the last second; from 0 to 1.
    pub load: f64,
    /// Rounds of its loop since the start.
    pub loops: u64,
    /// The longest round in microseconds since the start, of the worker's own CPU time.
    pub loop_max_us: u64,
    /// True while it has not come round within 100 ms.
    pub stalled: bool,
    /// Its conns now.
    pub connections: u64,
    /// Those of them that have an IPv6 side.
    pub connections_ipv6: u64,
    /// The most conns of IPv4 alone that it takes.
    pub max_connections: u64,
    /// The most with an IPv6 side; 0 until there is a service that has one.
    pub max_connections_ipv6: u64,
    /// LIP ports that it has leased now.
    pub leases: u64,
    /// Packets it took from the NICs since the start.
    pub rx_packets: u64,
    /// Packets the NICs took from it since the start.
    pub tx_packets: u64,
    /// Packets it dropped since the start.
    pub dropped: u64,
}

/// What is logged now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogSettings {
    /// The least important events that are logged, until the next start or change.
    pub level: LogLevel,
}
