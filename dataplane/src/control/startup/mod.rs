//! From the command line to a running daemon, and to its end.

mod args;
mod check;
pub mod logging;
mod secrets;
mod workers;

#[cfg(feature = "dpdk")]
mod cpus;
#[cfg(feature = "dpdk")]
mod run;

pub use args::Args;
pub use check::{MemoryPlan, available_bytes};
#[cfg(feature = "dpdk")]
pub use run::run;
pub(super) use secrets::random;
pub use secrets::{NodeSecrets, SecretsError};
pub use workers::{StartError, worker_configs};
