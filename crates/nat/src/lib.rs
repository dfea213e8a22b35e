//! What to rewrite, and how.
//!
//! `fullnat` decides once, when a conn opens, and writes its two flows; `rewrite` replays a flow on
//! each packet, `wide` one that has an IPv6 side. `toa`, `uoa` and `proxy` show the real server its client, `icmp` carries errors back through the
//! translation, `reuse` says when a LIP's port may serve the same real server again.
//!
//! `nat64` translates between the families.
//!
//! Checksums are only ever changed by the difference (RFC 1624), so that a wrong one stays wrong.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod family;
pub mod fragments;
pub mod fullnat;
pub mod gateway;
pub mod icmp;
pub mod icmp6;
pub mod mapping;
pub mod nat64;
mod options;
pub mod proxy;
pub mod reuse;
pub mod rewrite;
pub mod rules;
mod shared;
pub mod state;
pub mod subscribers;
mod table;
pub mod toa;
pub mod translate;
pub mod uoa;
pub mod wide;

pub use family::Family;
pub use gateway::Gateway;
pub use reuse::Secrets;
pub use state::NatState;
