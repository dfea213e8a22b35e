//! Per-worker statistics and their merge.
//!
//! A worker counts into its own [`WorkerCounters`], plain numbers that nobody else sees, and copies
//! them from time to time into a [`Published`], from where any thread reads a consistent
//! [`Values`]. Values of several workers are added up, of two moments subtracted ([`Rates`]), and
//! checked: what came in must have ended somewhere ([`Ledger`]).
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod ledger;
mod names;
mod published;
mod rates;
mod values;
mod worker;

pub use ledger::Ledger;
pub use names::{Event, Gauge, Source};
pub use published::{Published, Reading};
pub use rates::{InterfaceRates, Rates};
pub use values::{BURST_BUCKETS, InterfaceCounters, Load, Values};
pub use worker::WorkerCounters;
