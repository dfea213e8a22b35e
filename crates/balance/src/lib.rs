//! Services, real servers and schedulers.
//!
//! A [`Service`] is immutable and shared by all workers; [`Services`] finds it by VIP. What changes
//! with each conn (positions, counts, quotas, persistence) lives in the [`Cells`] of one worker, by
//! slot. Control allocates: services, tables, cells. A worker calls [`Cells::choose`] and the counting
//! calls, which neither allocate nor lock; the only shared writes are portions of limits.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod cells;
mod choose;
mod chunks;
mod hash;
mod quota;
mod ranking;
mod scheduler;
mod service;
mod services;
mod sticky;
mod table;
mod totals;
mod tournament;

pub use cells::{Cells, RetireError, Retired, ServerChunk, ServiceCell, ServiceChunk};
pub use choose::NoServer;
pub use chunks::CHUNK_LEN;
pub use quota::{Limits, Quota};
pub use scheduler::{HashBy, ParseSchedulerError, Scheduler};
pub use service::{
    Admin, BuildError, CellShape, ClientAddress, ClientHeader, Mode, OnNotSyn, Persistence,
    Refusal, Remembered, SERVERS_MAX, Server, Service, ServiceSpec, SlowStart,
};
pub use services::{ServiceKey, Services};
pub use table::TableCache;
pub use totals::{Totals, Traffic};
