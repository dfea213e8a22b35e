//! The daemon's main: everything in the order in which it starts and ends.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use config::{Config, Kni, Model, Warning};
use parking_lot::Mutex;
use steer::Steering;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Args, MemoryPlan, NodeSecrets, available_bytes, logging, worker_configs};
use crate::control::compile::Facts;
use crate::control::engine::{Engine, InterfaceInfo};
use crate::control::limited::Limited;
use crate::control::server::{Socket, serve};
use crate::control::{Control, ControlConfig, Groundwork};
use crate::engine::{BufferPlan, DpdkEngine};
use crate::privileges;
use crate::snapshot::{Interface, Wire};
use crate::worker::clock::{Clock, Epoch};

/// Why the daemon does not start or ends: one or more lines for people.
type Failure = String;

/// The longest name of an interface that the kernel takes, in bytes.
const KNI_NAME_MAX: usize = 15;
/// Conns are counted this often while they drain.
const DRAIN_LOOK: Duration = Duration::from_millis(20);
/// Between two tries to tell the workers that they drain.
const DRAIN_RETRY: Duration = Duration::from_millis(100);

/// Runs the daemon with the arguments of this process, until a signal ends it. `commit` is what it was
/// built from, as `version` tells.
pub fn run(commit: &'static str) -> ExitCode {
    let args = Args::parse();
    match start(&args, commit) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            for line in failure.lines() {
                eprintln!("dpnatd: {line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn start(args: &Args, commit: &'static str) -> Result<(), Failure> {
    privileges::bind().map_err(text)?;
    let (model, warnings) = load(&args.config)?;
    let cpus = super::cpus::check(&model.workers.cpus);
    let plan = MemoryPlan::new(&model);
    let whole = with_knis(&model, &implied_knis(&model));
    BufferPlan::new(&whole).check(&whole).map_err(text)?;
    if args.check {
        // A file may be checked on another machine than the one that it is for.
        if let Err(absent) = cpus {
            println!("warning: {absent}");
        }
        return check(&model, &warnings, &plan);
    }
    cpus?;
    if let Some((all, _)) = available_bytes()
        && let Some(missing) = plan.missing(all)
    {
        return Err(missing);
    }
    let log = logging::start(&model.log).map_err(text)?;
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()
        .map_err(text)?;
    let ended = runtime.block_on(daemon(args, commit, Arc::new(model), log));
    // A client that is still waited for on another thread does not hold up the end.
    runtime.shutdown_timeout(Duration::from_millis(100));
    ended
}

fn text(error: impl std::fmt::Display) -> Failure {
    error.to_string()
}

/// Reads, validates and compiles the file, all before an interface is touched.
fn load(path: &Path) -> Result<(Model, Vec<Warning>), Failure> {
    let read = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let file = path.display().to_string();
    let (model, warnings) = config::load(&read, &file).map_err(text)?;
    let steering = steering(&model, [0; 2])?;
    let refused = |error: config::ConfigError| format!("{file}: {error}");
    let facts = Facts::assumed(&model, steering).map_err(refused)?;
    let mut groundwork = Groundwork::new(&model, facts).map_err(refused)?;
    groundwork.try_out(Arc::new(model.clone())).map_err(refused)?;
    Ok((model, warnings))
}

fn steering(config: &Config, seed: [u64; 2]) -> Result<Arc<Steering>, Failure> {
    let workers = config.workers.cpus.len() as u16;
    let steering = Steering::new(workers, seed);
    steering.map(Arc::new).map_err(|error| format!("workers.cpus: {error}"))
}

fn check(model: &Model, warnings: &[Warning], plan: &MemoryPlan) -> Result<(), Failure> {
    print!("{plan}");
    let buffers = BufferPlan::new(&with_knis(model, &implied_knis(model)));
    println!(
        "DPDK needs {} MiB for {} packet buffers",
        buffers.bytes().div_ceil(1 << 20),
        buffers.buffers
    );
    for warning in warnings {
        println!("warning: {warning}");
    }
    if let Some((all, free)) = available_bytes() {
        if let Some(missing) = plan.missing(all) {
            return Err(missing);
        }
        if let Some(missing) = plan.missing(free) {
            println!("warning: of the memory that is free now, {missing}");
        }
    }
    println!(
        "the configuration is valid: workers {}, interfaces {}, services {}",
        model.workers.cpus.len(),
        model.interfaces.len(),
        model.services.len()
    );
    Ok(())
}

/// The signals that end the daemon or change it.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for one that ends the daemon.
    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Waits for one that ends the daemon, and reloads the file at each that asks for it.
    async fn serve(&mut self, control: &Control) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hang_up.recv() => tokio::select! {
                    () = reload(control) => {}
                    () = self.end() => return,
                },
            }
        }
    }
}

async fn reload(control: &Control) {
    match control.reload().await {
        Ok(changes) => {
            for warning in &changes.warnings {
                tracing::warn!("{warning}");
            }
            for path in &changes.at_restart {
                tracing::warn!(path, "this change takes effect at the next start");
            }
            tracing::info!(changes = changes.changes.len(), "file applied");
        }
        Err(error) => tracing::error!("the file was not applied: {error}"),
    }
    if let Err(error) = control.reopen_nat_log().await {
        tracing::error!("the log of NAT goes on in the old file: {error}");
    }
}

async fn daemon(
    args: &Args,
    commit: &'static str,
    model: Arc<Model>,
    log: logging::LogHandle,
) -> Result<(), Failure> {
    let begun = Instant::now();
    let mut signals = Signals::new().map_err(text)?;
    let socket = Socket::bind(&args.socket).map_err(text)?;
    let secrets = NodeSecrets::load(&args.state_dir).map_err(text)?;
    let implied = implied_knis(&model);
    let control = launch(args, commit, (&model, &implied), &secrets, log)?;
    let checker = health::Checker::start(|| {
        if let Err(error) = privileges::drop_of_checks() {
            tracing::warn!(%error, "the thread of the checks keeps its capabilities");
        }
    });
    control.check_servers(checker.map_err(text)?, implied.into_keys().collect());
    let nat_log = Path::new(&model.nat_log.file);
    let mut files = vec![args.config.as_path(), args.socket.as_path(), args.state_dir.as_path()];
    if model.nat_log.events != config::NatEvents::Off {
        files.push(nat_log);
    }
    privileges::drop_of_control(&files).map_err(text)?;
    control.run_tasks();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mut server = tokio::spawn(serve(socket, control.clone(), async {
        // Dropped or sent: both are the end.
        let _ = stopped.await;
    }));
    let started = control.start(Arc::clone(&model)).await.map_err(text);
    let started = started.and_then(|()| {
        let followed = control.follow_kernel(&args.state_dir);
        followed.map_err(|error| format!("the kernel's interfaces cannot be watched: {error}"))
    });
    if started.is_ok() {
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            socket = %args.socket.display(),
            ms = begun.elapsed().as_millis() as u64,
            "dpnatd serves"
        );
        signals.serve(&control).await;
        drain(&control, &mut signals).await;
    }
    drop(stop);
    tokio::select! {
        ended = &mut server => if let Err(error) = ended {
            tracing::error!(%error, "the API ended by a fault of ours");
        },
        () = signals.end() => {
            server.abort();
            // That it was cut off is known; only its socket is waited for.
            let _ = server.await;
        }
    }
    control.stop();
    tracing::info!("dpnatd has stopped");
    started
}

/// The KNIs of interfaces by which real servers are checked and that have none, by interface.
fn implied_knis(config: &Config) -> BTreeMap<String, Kni> {
    let mut implied = BTreeMap::new();
    for dev in config.checked_by() {
        let without = config.has_dev(dev) && !config.knis().any(|(_, name, _)| name == dev);
        let name = format!("{dev}.kni");
        if without && name.len() > KNI_NAME_MAX {
            tracing::warn!(
                "{dev}: servers are checked by it, and `{name}` is too long for a KNI; \
                 set `kni: {{ name: … }}`"
            );
        } else if without {
            implied.insert(dev.to_owned(), Kni { name, netns: None, persist: false });
        }
    }
    implied
}

fn with_knis(config: &Config, knis: &BTreeMap<String, Kni>) -> Config {
    let mut config = config.clone();
    for (dev, kni) in knis {
        if let Some(interface) = config.interfaces.get_mut(dev) {
            Arc::make_mut(interface).kni = Some(kni.clone());
        }
        if let Some(vlan) = config.vlans.get_mut(dev) {
            Arc::make_mut(vlan).kni = Some(kni.clone());
        }
    }
    config
}

/// Starts interfaces and workers.
fn launch(
    args: &Args,
    commit: &'static str,
    (model, implied): (&Arc<Model>, &BTreeMap<String, Kni>),
    secrets: &NodeSecrets,
    log: logging::LogHandle,
) -> Result<Control, Failure> {
    dpdk::set_log_sink(log_of_dpdk);
    let mut engine = DpdkEngine::start(&with_knis(model, implied)).map_err(text)?;
    let interfaces = engine.interfaces().iter();
    let interface = |info: &InterfaceInfo| Interface {
        name: info.name.as_str().into(),
        mac: info.mac,
        mtu: info.mtu,
        up: engine.link(info.id).up,
        kni: info.kni.is_some(),
        silent: false,
        wire: Wire {
            port: info.vlan.map_or(info.id, |(_, link)| link).0,
            vid: info.vlan.map_or(0, |(vid, _)| vid),
            nic_tags: info.puts_tags,
        },
    };
    let started = interfaces.map(interface).collect();
    let steering = steering(model, secrets.steering())?;
    let facts = Facts::new(model, started, steering, secrets.nat()).map_err(text)?;
    let groundwork = Groundwork::new(model, facts).map_err(text)?;
    let clock = Clock::new(Epoch::now());
    let (configs, workers, pumps) =
        worker_configs(model, groundwork.snapshot(), secrets, clock).map_err(text)?;
    engine.launch(configs, pumps).map_err(text)?;
    Ok(Control::new(ControlConfig {
        groundwork,
        file: args.config.clone(),
        commit,
        engine: Box::new(engine),
        workers,
        max_connections: model.conntrack.max_connections,
        clock,
        log,
    }))
}

/// Lines of DPDK that are logged in ten seconds: faults and warnings, and details.
static OF_DPDK: [Mutex<Limited>; 2] = [
    Mutex::new(Limited::new(20, Duration::from_secs(10))),
    Mutex::new(Limited::new(500, Duration::from_secs(10))),
];

/// DPDK's own lines: what it takes for worth a notice is detail to us.
fn log_of_dpdk(level: dpdk::LogLevel, line: &str) {
    let [grave, detail] = &OF_DPDK;
    let is_grave = matches!(level, dpdk::LogLevel::Error | dpdk::LogLevel::Warning);
    let passed = if is_grave { grave } else { detail }.lock().pass(Instant::now());
    let Some(unsaid) = passed else { return };
    match level {
        dpdk::LogLevel::Error => tracing::error!(target: "dpdk", unsaid, "{line}"),
        dpdk::LogLevel::Warning => tracing::warn!(target: "dpdk", unsaid, "{line}"),
        dpdk::LogLevel::Info | dpdk::LogLevel::Debug => {
            tracing::debug!(target: "dpdk", unsaid, "{line}");
        }
    }
}

/// Lets conns end by themselves for as long as is configured, or until another signal comes.
async fn drain(control: &Control, signals: &mut Signals) {
    let limit = Duration::from(control.config().shutdown.drain);
    if limit.is_zero() {
        return;
    }
    tokio::select! {
        () = drain_for(limit, control) => {}
        () = signals.end() => {
            tracing::warn!(conns = control.conns(), "ended by a second signal");
        }
    }
}

async fn drain_for(limit: Duration, control: &Control) {
    let deadline = tokio::time::Instant::now() + limit;
    tracing::info!(conns = control.conns(), limit_s = limit.as_secs(), "draining");
    if tokio::time::timeout_at(deadline, refuse_new(control)).await.is_err() {
        tracing::error!(conns = control.conns(), "new conns were not refused in time");
        return;
    }
    loop {
        tokio::time::sleep(DRAIN_LOOK).await;
        let conns = control.conns();
        if conns == 0 || tokio::time::Instant::now() >= deadline {
            tracing::info!(conns, "drained");
            return;
        }
    }
}

/// Tells the workers until all of them have heard: one that is stalled now may come round.
async fn refuse_new(control: &Control) {
    while let Err(error) = control.drain().await {
        tracing::warn!("new conns are not refused yet: {error}");
        tokio::time::sleep(DRAIN_RETRY).await;
    }
}
