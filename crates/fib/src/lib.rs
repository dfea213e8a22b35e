//! Addresses and their owners, routes, neighbours and next hops.
//!
//! Both families are here: what workers ask is generic over [`IpNumber`], what control says is in
//! [`std::net::IpAddr`].
//!
//! Three parts with three lives. A [`Fib`] is compiled by control from a [`FibConfig`], never
//! changes, and is part of the snapshot that workers read. [`NextHops`] is the one thing shared that
//! does change under the workers' eyes: Ethernet addresses in slots of one atomic word each, so that a
//! neighbour's new address needs no new snapshot. [`Neighbours`] is control's state machine that
//! fills these slots; it does no I/O and is told the time. [`Announcements`] says when to announce
//! addresses that have come, [`Memberships`] when to report the groups in which they are asked for.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod announce;
mod compile;
mod config;
mod directory;
mod lengths;
mod map;
mod memberships;
mod neighbour;
mod neighbours;
mod next_hop;
mod number;
mod owners;
mod snapshot;
mod trie;

pub use announce::{Announcement, Announcements};
pub use config::{Address, FibConfig, FibError, Interface, Role, Route, RouteKind};
pub use memberships::{Membership, Memberships, Report};
pub use neighbour::{
    Heard, Learned, Neighbour, NeighbourAction, NeighbourConfig, NeighbourError, NeighbourState,
};
pub use neighbours::Neighbours;
pub use next_hop::{NextHop, NextHopError, NextHopId, NextHopState, NextHops, NextHopsWriter};
pub use number::IpNumber;
pub use owners::Owner;
pub use snapshot::{Fib, RouteEntry, next_generation, solicited_node};
