//! Leases of ports and ICMP identifiers: of LIPs for each destination, of WAN IPs for all.
//!
//! A LIP's port serves many destinations at once, so what is leased is a port *in a group*: (LIP,
//! RS:rport, protocol). A group takes memory only while ports of it are taken or rest: 48 bytes
//! for up to eight ports, then as much for each chunk of 128 ports in bit maps. Ports are kept in class order and
//! a cursor goes round, so that a freed port waits for as long as there are others.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod chunks;
mod config;
mod group;
mod hash;
mod leases;
mod positions;
mod records;
mod table;
#[cfg(test)]
mod tests;
pub mod wan;

pub use config::{LeaseConfig, LeaseConfigError, MemoryPlan, plan};
pub use group::{GroupKey, Usage};
pub use leases::{LeaseError, Leases, Within};
pub use wan::WanPorts;
