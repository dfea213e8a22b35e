//! The configuration file: schema, validation, merge and difference.
#![forbid(unsafe_code)]

mod defaults;
mod named;
mod schema;
mod service;
mod text;

pub use schema::{
    Active, Address, Config, Conntrack, HugePages, Idle, Interface, LocalPool, Log, LogFormat,
    LogLevel, Neighbour, Queues, Route, ServerGroup, Shutdown, Timeouts, Workers,
};
pub use service::{
    Admin, ClientAddress, HashBy, Limits, Mode, OnNotSyn, Persistence, Pool, Protocol, Refusal,
    Scheduler, Server, ServerLimits, Servers, Service, ServiceTimeouts,
};
pub use text::{AddressRange, CpuSet, Duration, InterfaceAddress, ParseTextError, Prefix, Size};
