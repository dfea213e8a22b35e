//! The configuration file: schema, validation, merge and difference.
#![forbid(unsafe_code)]

mod cover;
mod defaults;
mod diff;
mod dnat;
mod error;
mod explain;
mod forwarding;
mod health;
pub mod import;
mod index;
mod keys;
mod kni;
mod link;
mod matching;
mod merge;
mod model;
mod named;
mod parse;
mod schema;
mod service;
mod snat;
mod text;
mod validate;
mod validate_health;
mod validate_nat;
mod validate_service;
mod validate_wan;

pub use diff::{Change, ChangeKind, diff};
pub use dnat::{DnatRule, DnatTarget, SourceAddress};
pub use error::{ConfigError, ErrorKind, FileErrors, Location, Path, Warning};
pub use explain::explain_serde;
pub use forwarding::{
    Forwarding, ForwardingAction, ForwardingPolicy, ForwardingRule, NatEvents, NatLog, ReversePath,
};
pub use health::{
    CheckType, Checks, DnsRecord, FlapDamping, Health, Initial, OnFailure, Quorum, Towards,
    hex_pattern,
};
pub use keys::{Effect, KEYS, Key, markdown};
pub use kni::Kni;
pub use link::Vlan;
pub use matching::{AddressMatch, EndpointRange, Except, IpProtocol, Match, PortRange};
pub use merge::Overlay;
pub use model::{Model, Place};
pub use named::Ordered;
pub use parse::{load, parse, to_json, to_yaml};
pub use schema::{
    Active, Address, Config, Conntrack, HugePages, Idle, Interface, LocalPool, Log, LogFormat,
    LogLevel, Neighbour, Queues, Route, RouteType, ServerGroup, Shutdown, Timeouts, Workers,
};
pub use service::{
    Admin, ClientAddress, ClientHeader, Datagrams, HashBy, Limits, Mode, OnNotSyn, Persistence,
    Pool, Protocol, ProxyProtocol, Refusal, Scheduler, Server, ServerLimits, Servers, Service,
    ServiceTimeouts,
};
pub use snat::{
    Filtering, Mapping, MssClamp, NatTimeouts, OnExhausted, Pooling, PortSelection, Refresh,
    SnatAction, SnatRule, SubscriberLimits, WanAddresses, WanRange,
};
pub use text::{AddressRange, CpuSet, Duration, InterfaceAddress, ParseTextError, Prefix, Size};
