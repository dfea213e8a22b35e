//! The flow table: lookup, the conn slab, expiry, tracking and records.
//!
//! A worker owns one [`FlowTable`]. Time is an argument; nothing here knows a clock, a thread or
//! a packet buffer. Nothing is allocated after [`FlowTable::new`].
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::indexing_slicing
    )
)]

mod cold;
mod dirty;
mod expire;
mod flow;
mod hash;
mod index;
mod lists;
mod record;
mod redirect;
mod state;
mod table;
#[cfg(test)]
mod testing;
mod track;

pub use arch::{PageRequest, Pages};
pub use cold::{Cold, LeaseKind, NewCold};
pub use expire::{Budget, Due};
pub use flow::{ConnId, Flow, FlowAddress, FlowId, flags};
pub use record::{HeaderState, ImportError, Local, Record, RecordFlow};
pub use state::{Refresh, State, TimeoutSet, Timeouts};
pub use table::{
    Cursor, FlowTable, InsertError, MemoryPlan, Prepared, Removed, TableConfig, TableError,
};
pub use track::{Track, icmp, tcp, udp};
