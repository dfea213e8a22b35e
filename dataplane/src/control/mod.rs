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
pub mod engine;
mod explain;
mod gateway;
mod health;
#[cfg(feature = "dpdk")]
mod kernel;
mod limited;
mod lingering;
mod nat;
mod neighbours;
mod network;
mod retire;
mod rules;
pub mod server;
mod services;
pub mod startup;
mod statistics;
mod strays;
mod tasks;
mod watchdog;
mod workers;
mod zeroed;

#[cfg(test)]
mod fake;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use api::{ErrorBody, ErrorCode, LogSettings, State as Phase, Version};
use config::{Config, ConfigError, Model};
use parking_lot::Mutex;
use tokio::sync::Notify;
use types::Now;

use self::health::Health;
use self::nat::WanWatch;
use self::nat::log::NatLog;
use crate::snapshot::{Interface, KernelSide, Policy, Snapshot};
use crate::worker::clock::Clock;
use crate::worker::link::ControlEnd;
use compile::{Compiler, Facts, GatewayNames};
use configuration::FileState;
use engine::Engine;
use neighbours::{Frame, Neighbours};
use retire::Retiring;
use startup::logging::LogHandle;
use statistics::History;
use tasks::StallMeter;
use watchdog::Watchdog;
use workers::Workers;
use zeroed::Zeroed;

/// What an operation comes to: its answer, or why it was refused.
pub type Reply<T> = Result<T, ErrorBody>;

/// What is there before any worker runs: nothing but interfaces.
#[derive(Debug)]
pub struct Groundwork {
    compiler: Compiler,
    neighbours: Neighbours,
}

impl Groundwork {
    /// For these interfaces; `config` gives what cannot change before the next start.
    ///
    /// # Errors
    /// If the interfaces cannot be what they are configured to be.
    pub fn new(config: &Config, facts: Facts) -> Result<Self, ConfigError> {
        let neighbours = Neighbours::new(facts.nat_seed);
        let compiler = Compiler::new(config, facts, neighbours.next_hops())?;
        Ok(Self { compiler, neighbours })
    }

    /// Compiles a configuration and forgets it: says whether it can be.
    ///
    /// # Errors
    /// If it cannot.
    pub fn try_out(&mut self, config: Arc<Model>) -> Result<(), ConfigError> {
        let before = self.compiler.snapshot();
        let request = compile::Request {
            config,
            started: Arc::clone(self.compiler.started()),
            kernel: Arc::clone(&before.kernel),
            policy: before.policy,
            rulings: Arc::default(),
            renew_fib: false,
            now: Now::default(),
        };
        let plan = self.compiler.plan(request)?;
        self.compiler.abandon(plan);
        Ok(())
    }

    /// What workers begin with.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        self.compiler.snapshot()
    }
}

/// What control is made of.
#[derive(Debug)]
pub struct ControlConfig {
    /// What the workers have begun with.
    pub groundwork: Groundwork,
    /// The file that the configuration comes from, which `save` writes.
    pub file: PathBuf,
    /// The commit that the daemon was built from; empty if nobody knows.
    pub commit: &'static str,
    /// The running interfaces and workers.
    pub engine: Box<dyn Engine>,
    /// The links to the workers, by their numbers.
    pub workers: Vec<ControlEnd>,
    /// The most conns of IPv4 alone that each worker takes.
    pub max_connections: u32,
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
    commit: &'static str,
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
    config: Arc<Model>,
    /// What runs, as compiled.
    snapshot: Arc<Snapshot>,
    /// The rules of NAT and WAN IPs that run.
    gateway_names: Arc<GatewayNames>,
    /// The interfaces that were started, with their links as they are now: what shall run.
    started: Arc<[Interface]>,
    /// The same as it runs.
    started_running: Arc<[Interface]>,
    /// What the kernel has on their KNIs now: what shall run.
    kernel: Arc<KernelSide>,
    /// What holds for all services from now on: what shall run.
    policy: Policy,
    /// The most conns of IPv4 alone that each worker takes, and of those with an IPv6 side.
    max_connections: (u32, u32),
    clock: Clock,
    neighbours: Neighbours,
    /// Frames to be sent; empty between two rounds.
    frames: Vec<Frame>,
    retiring: Retiring,
    /// What is taken off the counts of services.
    zeroed: Zeroed,
    /// Conns that an operator has ended.
    conns_removed: u64,
    watchdog: Watchdog,
    history: History,
    stall: StallMeter,
    wan_watch: WanWatch,
    health: Health,
    /// The log of NAT, if there is one.
    nat_log: Option<NatLog>,
    phase: Phase,
    file: FileState,
}

impl Control {
    /// Control over interfaces and workers that have no configuration yet, which
    /// [`Control::start`] gives them.
    pub fn new(config: ControlConfig) -> Self {
        let ControlConfig {
            groundwork,
            file,
            commit,
            engine,
            workers,
            max_connections,
            clock,
            log,
        } = config;
        let Groundwork { compiler, neighbours } = groundwork;
        let started = Instant::now();
        let snapshot = Arc::clone(compiler.snapshot());
        let state = State {
            engine,
            watchdog: Watchdog::new(workers.len(), arch::tsc_hz(), started),
            workers: Workers::new(workers),
            config: Arc::clone(compiler.config()),
            gateway_names: Arc::clone(compiler.gateway_names()),
            started: Arc::clone(compiler.started()),
            started_running: Arc::clone(compiler.started()),
            kernel: Arc::clone(&snapshot.kernel),
            // As a host does, so that a mistyped port is told from a dead balancer.
            policy: Policy { reject_unserved: true, ..Policy::default() },
            snapshot,
            max_connections: (max_connections, 0),
            clock,
            neighbours,
            frames: Vec::new(),
            retiring: Retiring::default(),
            zeroed: Zeroed::default(),
            conns_removed: 0,
            history: History::default(),
            stall: StallMeter::default(),
            wan_watch: WanWatch::default(),
            health: Health::default(),
            nat_log: None,
            phase: Phase::Starting,
            file: FileState::default(),
        };
        let shared = Shared {
            compiler: Arc::new(tokio::sync::Mutex::new(compiler)),
            state: Mutex::new(state),
            sent: Notify::new(),
            file,
            commit,
            started,
            clock,
            log,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Gives the workers their first configuration; the daemon works from then on.
    ///
    /// # Errors
    /// If the configuration is refused, or a worker does not take it.
    pub async fn start(&self, config: Arc<Model>) -> Reply<()> {
        let changed = self.change(move |_| Ok((config, Vec::new()))).await?;
        change::free(changed);
        self.state().phase = Phase::Running;
        Ok(())
    }

    /// Takes no new conns and no changes from now on; open conns go on.
    ///
    /// # Errors
    /// If a worker does not answer.
    pub async fn drain(&self) -> Reply<()> {
        {
            let mut state = self.state();
            state.phase = Phase::Draining;
            state.policy.stopping = true;
        }
        self.refresh(false).await
    }

    /// Conns now, over all workers.
    pub fn conns(&self) -> u64 {
        self.state().merged().gauge(counters::Gauge::Conns)
    }

    /// Ends workers and interfaces. Nothing is left behind.
    pub fn stop(&self) {
        let mut state = self.state();
        state.engine.stop();
        state.end_nat_log();
    }

    /// The versions of the daemon and of what it is made of.
    pub fn version(&self) -> Version {
        Version {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: self.shared.commit.to_owned(),
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

    fn state(&self) -> parking_lot::MutexGuard<'_, State> {
        self.shared.state.lock()
    }

    /// Milliseconds since the start: the clock of neighbours and announcements.
    fn now_ms(&self) -> u64 {
        self.shared.started.elapsed().as_millis() as u64
    }
}

/// Runs on another thread what may take long.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Reply<T> + Send + 'static) -> Reply<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| ErrorBody::new(ErrorCode::Internal, error.to_string()))?
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

#[cfg(test)]
mod tests;
