//! Routing between interfaces, and the log of what NAT does.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::defaults::is_default;
use crate::matching::Match;
use crate::named::{self, Ordered};

/// Which packets to others are routed from one interface to another.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Forwarding {
    /// What becomes of those that meet no rule.
    #[serde(default, skip_serializing_if = "is_default")]
    pub policy: ForwardingPolicy,
    /// Whether sources are checked against the routes (RFC 3704).
    #[serde(default, skip_serializing_if = "is_default")]
    pub reverse_path: ReversePath,
    /// Interfaces by which no sender is told why its packet was dropped, but that it was too big (RFC 5508 REQ-9, RFC
    /// 5382 REQ-4 a).
    #[serde(default, skip_serializing_if = "is_default")]
    pub silent: Vec<String>,
    /// Rules by name; the first that a packet meets decides.
    #[serde(default, deserialize_with = "named::ordered", skip_serializing_if = "is_default")]
    #[schema(value_type = std::collections::BTreeMap<String, ForwardingRule>)]
    pub rules: Ordered<ForwardingRule>,
}

/// What becomes of packets to others that meet no rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ForwardingPolicy {
    /// They are routed if there is a rule of source NAT or of forwarding, else dropped.
    #[default]
    Auto,
    /// They are routed.
    Accept,
    /// They are dropped.
    Drop,
}

/// Whether the source of a packet to others must have a route back (RFC 3704).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReversePath {
    /// It is not asked.
    #[default]
    Off,
    /// By any interface.
    Loose,
    /// By the interface that the packet came in by.
    Strict,
}

/// A rule of forwarding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForwardingRule {
    /// What it applies to. The policy decides on what is excepted.
    #[serde(default, rename = "match", skip_serializing_if = "is_default")]
    pub matches: Match,
    /// What is done with it.
    pub action: ForwardingAction,
}

/// What a rule of forwarding does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ForwardingAction {
    /// Routes the packet.
    Accept,
    /// Drops it.
    Drop,
    /// Drops it and says so: ICMP destination unreachable, administratively prohibited (RFC 1812
    /// section 5.2.7.1).
    Reject,
}

/// The log of what NAT does, one JSON object a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NatLog {
    /// The file.
    #[serde(default = "default_file", skip_serializing_if = "is_default_file")]
    #[schema(default = "/var/log/dpnat/nat.jsonl")]
    pub file: String,
    /// What is logged.
    #[serde(default, skip_serializing_if = "is_default")]
    pub events: NatEvents,
}

const DEFAULT_FILE: &str = "/var/log/dpnat/nat.jsonl";

fn default_file() -> String {
    DEFAULT_FILE.to_owned()
}

fn is_default_file(file: &str) -> bool {
    file == DEFAULT_FILE
}

/// What is logged of NAT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum NatEvents {
    /// Nothing.
    #[default]
    Off,
    /// Mappings as they come and go.
    Mappings,
    /// Conns as they begin and end.
    Sessions,
}
