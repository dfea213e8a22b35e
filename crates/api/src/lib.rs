//! The control API's types, its client and its OpenAPI description.
#![forbid(unsafe_code)]

mod body;
pub mod client;
mod connection;
mod declare;
mod error;
mod explain;
mod health;
mod nat;
mod network;
mod operation;
mod service;
mod status;

pub use body::{from_json, merge_patch};
pub use client::{Client, ClientError, Request};
pub use connection::{
    Connection, ConnectionPage, ConnectionQuery, ConnectionState, ConnectionsClosed,
};
pub use error::{ErrorBody, ErrorCode, ErrorDetail};
pub use explain::{Explanation, PacketDescription, PacketProtocol, Plan, StageDecision};
pub use health::{CheckInfo, HealthQuery, ServerHealth, ServerHealthInfo, ServiceHealthInfo};
pub use nat::{
    DnatInfo, ForwardingInfo, ForwardingRuleInfo, MappingInfo, MappingPage, MappingQuery,
    RulePlace, SnatInfo, SubscriberInfo, SubscriberUsage, WanAddressInfo, WanPortUsage,
};
pub use network::{
    AddressInfo, AddressKey, DevQuery, Duplex, KniInfo, KniStats, LinkInfo, LinkStats,
    NeighbourInfo, NeighbourKey, NeighbourState, RouteInfo, RouteKey, RouteOrigin, VlanInfo,
    VlanTags,
};
pub use operation::{Operation, openapi, openapi_json};
pub use service::{
    LipInfo, LipUse, NewLip, Removal, RemovedConns, ServerInfo, ServerSettings, ServiceInfo,
    ServiceQuery, Traffic,
};
pub use status::{
    ApplyQuery, Changes, ConfigFormat, ConfigQuery, ConnectionTotals, Counter, CounterQuery,
    Ledger, LogSettings, Saved, State, Stats, Status, Version, Warnings, WorkerInfo,
};

/// The socket that the daemon listens on if it is not told another.
pub const DEFAULT_SOCKET: &str = "/run/dpnat/dpnat.sock";

/// The environment variable that names another socket.
pub const SOCKET_VARIABLE: &str = "DPNAT_SOCKET";

/// The largest request body in bytes: a configuration of 100,000 services fits several times.
pub const BODY_MAX: usize = 256 << 20;
