//! The configuration file: schema, validation, merge and difference.
#![forbid(unsafe_code)]

mod defaults;
mod diff;
mod error;
mod explain;
mod index;
mod keys;
mod merge;
mod model;
mod named;
mod parse;
mod schema;
mod service;
mod text;
mod validate;
mod validate_service;

pub use diff::{Change, ChangeKind, diff};
pub use error::{ConfigError, ErrorKind, FileErrors, Location, Path, Warning};
pub use explain::explain_serde;
pub use keys::{Effect, KEYS, Key, markdown};
pub use merge::Overlay;
pub use model::Model;
pub use parse::{load, parse, to_json, to_yaml};
pub use schema::{
    Active, Address, Config, Conntrack, HugePages, Idle, Interface, LocalPool, Log, LogFormat,
    LogLevel, Neighbour, Queues, Route, ServerGroup, Shutdown, Timeouts, Workers,
};
pub use service::{
    Admin, ClientAddress, HashBy, Limits, Mode, OnNotSyn, Persistence, Pool, Protocol, Refusal,
    Scheduler, Server, ServerLimits, Servers, Service, ServiceTimeouts,
};
pub use text::{AddressRange, CpuSet, Duration, InterfaceAddress, ParseTextError, Prefix, Size};
