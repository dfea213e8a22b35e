//! What would become of a packet, and why.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use types::Endpoint;
use utoipa::ToSchema;

/// The protocol of a packet that is asked about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PacketProtocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// ICMP echo request.
    Icmp,
}

/// A packet that is asked about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PacketDescription {
    /// The interface that it arrives on.
    pub dev: String,
    /// Its protocol.
    #[serde(default)]
    pub protocol: PacketProtocol,
    /// Its source address.
    #[schema(value_type = String, example = "192.0.2.7")]
    pub source: IpAddr,
    /// Its source port, or the identifier of an echo request; 40000 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_port: Option<u16>,
    /// Its destination address.
    #[schema(value_type = String, example = "203.0.113.10")]
    pub destination: IpAddr,
    /// Its destination port; not for ICMP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_port: Option<u16>,
    /// TCP flags, of the letters `SAFRPU`; `S` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_flags: Option<String>,
    /// Its time to live; 64 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u8>,
    /// Length of its payload in bytes; 0 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<u16>,
}

/// What one stage of the packet path decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StageDecision {
    /// The stage, as in `lookup`.
    pub stage: String,
    /// What it decided and why, for people.
    pub decision: String,
}

/// Where a new conn would go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Plan {
    /// The service.
    pub service: String,
    /// The real server.
    #[schema(value_type = String, example = "198.18.0.121:80")]
    pub server: Endpoint,
    /// The LIP.
    #[schema(value_type = String, example = "198.18.0.10")]
    pub lip: IpAddr,
    /// The next hop towards the real server.
    #[schema(value_type = String, example = "198.18.0.121")]
    pub next_hop: IpAddr,
    /// The interface that it would leave by.
    pub dev: String,
}

/// What would become of a packet. Nothing has changed by asking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// The verdict that it would end with, by the name of its counter.
    pub verdict: String,
    /// One sentence on what that means.
    pub meaning: String,
    /// The worker that owns its conn.
    pub worker: u16,
    /// What each stage decided, in order, up to the one where it ends.
    pub stages: Vec<StageDecision>,
    /// Where it would go, if it opened a conn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
}
