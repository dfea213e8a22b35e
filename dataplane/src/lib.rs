//! The daemon: worker loop, packet path and control thread.
//!
//! What a packet meets is in [`path`], one file a stage; who runs it is in [`worker`]; what it reads is
//! a [`snapshot::Snapshot`], which control makes.
#![forbid(unsafe_code)]

pub mod control;
#[cfg(feature = "dpdk")]
pub mod engine;
pub mod path;
#[cfg(feature = "dpdk")]
mod privileges;
pub mod snapshot;
pub mod worker;

#[cfg(feature = "dpdk")]
pub use control::startup::run;
