//! The control side: what runs, how it is changed, and what is told about it.
//!
//! [`Control`] is the one object that the API's handlers, signals and timers share. All of it lives
//! on the main thread's runtime; only compiling goes to another thread, when it is much. A change is
//! one transaction: a copy of the configuration is changed, validated and compiled, the workers get
//! what they need and then the new snapshot, and the answer comes when all of them run it. If
//! anything is refused, nothing has happened.

mod change;
pub mod compile;
mod configuration;
mod connections;
mod edit;
pub mod engine;
mod explain;
mod limited;
mod model;
mod neighbours;
mod network;
mod retire;
pub mod server;
mod services;
pub mod startup;
mod statistics;
mod tasks;
mod watchdog;
mod workers;

#[cfg(test)]
mod fake;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::{ErrorBody, ErrorCode, LogSettings, State as Phase, Version};
use config::Config;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::control::change::Rollout;
use crate::control::compile::{Compiler, Facts};
use crate::control::engine::Engine;
use crate::control::neighbours::Neighbours;
use crate::control::retire::Retiring;
use crate::control::startup::logging::LogHandle;
use crate::control::statistics::History;
use crate::control::tasks::StallMeter;
use crate::control::watchdog::Watchdog;
use crate::control::workers::Workers;
use crate::snapshot::Snapshot;
use crate::worker::clock::Clock;
use crate::worker::link::ControlEnd;

/// What an operation comes to: its answer, or why it was refused.
pub type Reply<T> = Result<T, ErrorBody>;

/// What control is made of.
#[derive(Debug)]
pub struct ControlConfig {
    /// The configuration that the daemon was started with.
    pub config: Arc<Config>,
    /// The file that it comes from, which `save` writes.
    pub file: PathBuf,
    /// The interfaces, as far as workers need to know them, and the steering.
    pub facts: Facts,
    /// The running interfaces and workers.
    pub engine: Box<dyn Engine>,
    /// The links to the workers, by their numbers.
    pub workers: Vec<ControlEnd>,
    /// The workers' clock.
    pub clock: Clock,
    /// Changes what is logged.
    pub log: LogHandle,
}

/// The daemon as it is controlled. Copies are the same daemon.
#[derive(Clone, Debug)]
pub struct Control {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Held by the one change that is under way.
    compiler: Arc<tokio::sync::Mutex<Compiler>>,
    /// Everything else. Never held over an `await`.
    state: Mutex<State>,
    /// Something was sent to a worker: look soon for what comes back.
    sent: Notify,
    file: PathBuf,
    started: Instant,
    clock: Clock,
    log: LogHandle,
}

/// What changes while the daemon runs.
#[derive(Debug)]
struct State {
    engine: Box<dyn Engine>,
    workers: Workers,
    /// What runs, as configured.
    config: Arc<Config>,
    /// What runs, as compiled.
    snapshot: Arc<Snapshot>,
    neighbours: Neighbours,
    retiring: Retiring,
    watchdog: Watchdog,
    history: History,
    stall: StallMeter,
    phase: Phase,
    /// Whether what runs differs from the file, as of the last look at it.
    file_differs: Option<bool>,
}

impl Control {
    /// Control over interfaces and workers that have no configuration yet, which
    /// [`Control::start`] gives them.
    ///
    /// # Errors
    /// If the interfaces cannot be what they are configured to be.
    pub fn new(config: ControlConfig) -> Reply<Self> {
        let neighbours = Neighbours::new();
        let ControlConfig { config, file, facts, engine, workers, clock, log } = config;
        let compiler = Compiler::new(&config, facts, neighbours.next_hops())?;
        let now = Instant::now();
        let state = State {
            engine,
            watchdog: Watchdog::new(workers.len(), arch::tsc_hz(), now),
            history: History::new(now),
            workers: Workers::new(workers),
            config: Arc::clone(compiler.config()),
            snapshot: Arc::clone(compiler.snapshot()),
            neighbours,
            retiring: Retiring::default(),
            stall: StallMeter::default(),
            phase: Phase::Starting,
            file_differs: Some(false),
        };
        let shared = Shared {
            compiler: Arc::new(tokio::sync::Mutex::new(compiler)),
            state: Mutex::new(state),
            sent: Notify::new(),
            file,
            started: now,
            clock,
            log,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Gives the workers their first configuration; the daemon works from then on. The tasks of
    /// [`Control::run_tasks`] must run.
    ///
    /// # Errors
    /// If the configuration is refused, or a worker does not take it.
    pub async fn start(&self, config: Arc<Config>) -> Reply<()> {
        self.roll_out(Rollout::Config(config)).await?;
        self.state().phase = Phase::Running;
        Ok(())
    }

    /// The versions of the daemon and of what it is made of.
    pub fn version(&self) -> Version {
        Version {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: option_env!("DPNAT_COMMIT").unwrap_or_default().to_owned(),
            dpdk: self.state().engine.version(),
            api: "v1".to_owned(),
        }
    }

    /// What is logged now.
    pub fn log_settings(&self) -> LogSettings {
        LogSettings { level: self.shared.log.level() }
    }

    /// Changes what is logged, until the next start or change.
    pub fn set_log(&self, settings: LogSettings) -> LogSettings {
        self.shared.log.set_level(settings.level);
        tracing::info!(level = %settings.level, "log level changed");
        self.log_settings()
    }

    /// Whether the daemon serves.
    ///
    /// # Errors
    /// If it is starting or stopping, or a worker does not come round.
    pub fn ready(&self) -> Reply<()> {
        let state = self.state();
        match (state.phase, state.watchdog.stalled()) {
            (Phase::Starting, _) => Err(unavailable("the daemon is starting")),
            (Phase::Draining, _) => Err(unavailable("the daemon is stopping")),
            (Phase::Running, Some(worker)) => {
                Err(unavailable(format!("worker {} does not come round", worker.0)))
            }
            (Phase::Running, None) => Ok(()),
        }
    }

    /// Since the start.
    pub fn uptime(&self) -> Duration {
        self.shared.started.elapsed()
    }

    fn state(&self) -> parking_lot::MutexGuard<'_, State> {
        self.shared.state.lock()
    }

    /// Milliseconds since the start: the clock of neighbours and announcements.
    fn now_ms(&self) -> u64 {
        self.shared.started.elapsed().as_millis() as u64
    }
}

/// A refusal for the time being.
fn unavailable(message: impl Into<String>) -> ErrorBody {
    ErrorBody::new(ErrorCode::Unavailable, message)
}

/// A thing that is not there.
fn not_found(field: &str, value: impl ToString, message: impl Into<String>) -> ErrorBody {
    let mut body = ErrorBody::new(ErrorCode::NotFound, message);
    body.error.field = Some(field.to_owned());
    body.error.value = Some(value.to_string());
    body
}
