//! Services, their real servers and local addresses as they run.

use std::net::IpAddr;

use config::{AddressRange, Admin, Checks, Protocol, Server, ServerLimits, Service};
use serde::{Deserialize, Serialize};
use types::Endpoint;
use utoipa::{IntoParams, ToSchema};

use crate::health::ServerHealth;

/// What passed a service or a real server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Traffic {
    /// Conns now that count as active: established TCP, UDP with a reply.
    pub active: u64,
    /// The other conns now.
    pub inactive: u64,
    /// Conns opened since it was configured.
    pub connections: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Bytes of their IP packets.
    pub in_bytes: u64,
    /// Packets to clients.
    pub out_packets: u64,
    /// Bytes of their IP packets.
    pub out_bytes: u64,
    /// New conns that were refused. By a service: no real server, a limit, no LIP port. Of a real
    /// server those that were to have it and got no LIP port.
    pub refused: u64,
}

/// Chooses services: those for which all that is given holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ServiceQuery {
    /// With this VIP and port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    #[schema(value_type = Option<String>)]
    pub vip: Option<Endpoint>,
    /// Of this protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(inline)]
    pub protocol: Option<Protocol>,
}

/// A service as it runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServiceInfo {
    /// Its name.
    pub name: String,
    /// How it is configured.
    pub config: Service,
    /// Its real servers, also those of its group.
    pub servers: Vec<ServerInfo>,
    /// Its local addresses, also those of its pool.
    pub lips: Vec<LipInfo>,
    /// What passed.
    pub traffic: Traffic,
}

/// A real server of a service as it runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServerInfo {
    /// Its address and port.
    #[schema(value_type = String, example = "198.18.0.121:80")]
    pub address: Endpoint,
    /// The configured share of new conns.
    pub weight: u16,
    /// The share that it gets now: after slow start, what the operator wants, and what checks say.
    pub effective_weight: u16,
    /// What the operator wants of it.
    pub admin: Admin,
    /// What checks say of it.
    #[serde(default, skip_serializing_if = "ServerHealth::is_unchecked")]
    pub health: ServerHealth,
    /// True if it is none of the service's but serves while the quorum is lost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sorry: bool,
    /// The most conns that it may have.
    pub limits: ServerLimits,
    /// The group that it belongs to, if it is not the service's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// True if it is no longer configured, and only its old conns go on.
    pub leaving: bool,
    /// What passed.
    pub traffic: Traffic,
}

/// What is set of a real server; its address is in the path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerSettings {
    /// Its share of new conns; 1 if not given.
    #[serde(default = "one")]
    #[schema(default = 1)]
    pub weight: u16,
    /// What the operator wants of it.
    #[serde(default)]
    pub admin: Admin,
    /// The most conns that it may have.
    #[serde(default)]
    pub limits: ServerLimits,
    /// How it is checked, in the place of what its service or group says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub health: Option<Checks>,
}

const fn one() -> u16 {
    1
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            weight: one(),
            admin: Admin::default(),
            limits: ServerLimits::default(),
            health: None,
        }
    }
}

impl ServerSettings {
    /// The server that has them at `address`.
    pub fn at(self, address: Endpoint) -> Server {
        let Self { weight, admin, limits, health } = self;
        Server { address, weight, admin, limits, health }
    }
}

/// A local address of a service as it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LipInfo {
    /// The address.
    #[schema(value_type = String, example = "198.18.0.10")]
    pub address: IpAddr,
    /// The interface that answers for it.
    pub dev: String,
    /// The pool that it belongs to, if it is not the service's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Conns that use it now, of all services.
    pub connections: u64,
}

/// A local address as the clients of one VIP use it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LipUse {
    /// The service.
    pub service: String,
    /// Its VIP and port.
    #[schema(value_type = String, example = "203.0.113.10:80")]
    pub vip: Endpoint,
    /// The LIP.
    #[schema(value_type = String, example = "198.18.0.10")]
    pub address: IpAddr,
    /// The interface that answers for it.
    pub dev: String,
    /// Conns from clients of this VIP and port that use it now.
    pub connections: u64,
}

/// Local addresses that a service gets besides those it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewLip {
    /// An address, a range or a prefix.
    pub addresses: AddressRange,
    /// The interface that answers for them: that of the LIPs which the service has, or that in whose
    /// subnet they are, if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<String>,
}

/// What becomes of the conns of a service or real server that is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RemovedConns {
    /// They go on until they end; there are no new ones.
    #[default]
    Drain,
    /// They end at once; both ends of an established TCP conn get a reset.
    Reset,
}

/// How a service or real server is removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Removal {
    /// What becomes of its conns.
    #[serde(default)]
    #[param(inline)]
    pub connections: RemovedConns,
}
