//! The health of real servers, as their checks find it.

use config::CheckType;
use serde::{Deserialize, Serialize};
use types::Endpoint;
use utoipa::{IntoParams, ToSchema};

/// What the checks say of a real server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ServerHealth {
    /// Nothing: there are none.
    #[default]
    Unchecked,
    /// It is well.
    Up,
    /// It is not, and takes no new conns.
    Inhibited,
    /// It is not, and is taken out of its service until it is.
    Removed,
}

impl ServerHealth {
    /// True if there are no checks.
    pub fn is_unchecked(&self) -> bool {
        *self == Self::Unchecked
    }
}

/// Chooses services.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HealthQuery {
    /// This one only; a rule of destination NAT as `dnat/NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

/// A service whose real servers are checked, or which has a quorum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceHealthInfo {
    /// Its name; of a rule of destination NAT `dnat/NAME`.
    pub service: String,
    /// What the servers that are up must weigh together.
    pub quorum: u32,
    /// So much less and it is lost, so much more and it is there again.
    pub hysteresis: u32,
    /// What they weigh now.
    pub weight_up: u32,
    /// Whether the quorum is lost.
    pub quorum_lost: bool,
    /// The server that serves while it is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "198.18.0.200:80")]
    pub sorry_server: Option<Endpoint>,
    /// Its real servers.
    pub servers: Vec<ServerHealthInfo>,
}

/// A real server with its checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerHealthInfo {
    /// Its address and port.
    #[schema(value_type = String, example = "198.18.0.121:80")]
    pub address: Endpoint,
    /// What the checks say of it.
    pub health: ServerHealth,
    /// Each of them.
    pub checks: Vec<CheckInfo>,
}

/// A check of a real server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckInfo {
    /// What is done.
    #[serde(rename = "type")]
    pub check: CheckType,
    /// The address that is asked, with the port if it has one.
    pub asked: String,
    /// The kernel's interface that it is asked by; the kernel chooses if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<String>,
    /// The address that it is asked from; the kernel chooses if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Whether it speaks for the server.
    pub up: bool,
    /// For how long, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
    /// Whether the last one passed; not given if it could not be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed: Option<bool>,
    /// What came of the last one, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How long ago that was, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_ms: Option<u64>,
    /// Checks made, retries among them.
    pub checks: u64,
    /// Those of them that failed.
    pub failures: u64,
    /// How often it changed its mind about the server.
    pub changes: u64,
    /// How long the server is still held down though it may be well, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_ms: Option<u64>,
}
