//! The configuration file: schema, validation, merge and difference.
#![forbid(unsafe_code)]

mod defaults;
mod diff;
mod error;
mod explain;
mod named;
mod schema;
mod service;
mod text;

pub use diff::{Change, ChangeKind};
pub use error::{ConfigError, ErrorKind, FileErrors, Location, Path, Warning};
pub use explain::{Explained, explain_serde};
pub use schema::{
    Active, Address, Config, Conntrack, HugePages, Idle, Interface, LocalPool, Log, LogFormat,
    LogLevel, Neighbour, Queues, Route, ServerGroup, Shutdown, Timeouts, Workers,
};
pub use service::{
    Admin, ClientAddress, HashBy, Limits, Mode, OnNotSyn, Persistence, Pool, Protocol, Refusal,
    Scheduler, Server, ServerLimits, Servers, Service, ServiceTimeouts,
};
pub use text::{AddressRange, CpuSet, Duration, InterfaceAddress, ParseTextError, Prefix, Size};
