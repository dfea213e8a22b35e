//! One change: planned on a copy, given to the workers, answered when all of them run it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::{ErrorBody, ErrorCode, State as Phase, Warnings};
use config::{Model, Warning};
use tokio::sync::{OwnedMutexGuard, oneshot};
use types::WorkerId;

use super::compile::{Compiler, Gone, Plan, Request, policy};
use super::{Control, Reply, State, unavailable};
use crate::snapshot::Snapshot;
use crate::worker::link::{Command, Update};

/// A worker that has not done a command after so long will not be waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks for room in a worker's ring.
const RING_WAIT: Duration = Duration::from_millis(1);
/// Between two looks whether a stalled worker has come round.
const STALL_WAIT: Duration = Duration::from_millis(10);

/// What has changed.
#[derive(Debug)]
pub(super) struct Changed {
    /// The configuration before.
    pub before: Arc<Model>,
    /// The configuration after.
    pub after: Arc<Model>,
    /// What is allowed, but may not be meant.
    pub warnings: Warnings,
}

/// The next configuration, made from the one that runs.
type Next = Reply<(Arc<Model>, Vec<Warning>)>;

/// What makes it.
type Make = Box<dyn FnOnce(&Arc<Model>) -> Next + Send>;

impl Control {
    /// Changes one thing of a copy of what runs, and runs that.
    ///
    /// # Errors
    /// If it is refused. Nothing has changed then.
    pub(super) async fn edit(
        &self,
        edit: impl FnOnce(&mut Model) -> Reply<Vec<Warning>> + Send + 'static,
    ) -> Reply<Warnings> {
        let changed = self.change(move |before| {
            let mut after = Model::clone(before);
            let warnings = edit(&mut after)?;
            Ok((Arc::new(after), warnings))
        });
        let Changed { before, after, warnings } = changed.await?;
        free((before, after));
        Ok(warnings)
    }

    /// Runs what `next` makes of what runs.
    ///
    /// # Errors
    /// If it is refused. Nothing has changed then.
    pub(super) async fn change(
        &self,
        next: impl FnOnce(&Arc<Model>) -> Next + Send + 'static,
    ) -> Reply<Changed> {
        if self.state().phase == Phase::Draining {
            return Err(unavailable("the daemon is stopping"));
        }
        self.transact(Box::new(next), false).await
    }

    /// Runs the same configuration on links, policy or fib generation as they are now.
    ///
    /// # Errors
    /// If a worker does not answer.
    pub(super) async fn refresh(&self, renew_fib: bool) -> Reply<()> {
        let same = |before: &Arc<Model>| Ok((Arc::clone(before), Vec::new()));
        self.transact(Box::new(same), renew_fib).await.map(free)
    }

    /// Once begun it goes to its end, even if nobody waits for the answer any more.
    async fn transact(&self, next: Make, renew_fib: bool) -> Reply<Changed> {
        let control = self.clone();
        let transaction = async move {
            let compiler = Arc::clone(&control.shared.compiler).lock_owned().await;
            control.transaction(compiler, next, renew_fib).await
        };
        tokio::spawn(transaction).await.map_err(internal)?
    }

    async fn transaction(
        &self,
        compiler: OwnedMutexGuard<Compiler>,
        next: Make,
        renew_fib: bool,
    ) -> Reply<Changed> {
        self.await_stall().await?;
        let before = Arc::clone(compiler.config());
        let (started, kernel, policy, rulings) = {
            let state = self.state();
            let rulings = Arc::clone(state.health.rulings());
            (Arc::clone(&state.started), Arc::clone(&state.kernel), state.policy, rulings)
        };
        let now = self.shared.clock.now();
        let plan = move |mut compiler: OwnedMutexGuard<Compiler>| {
            let request =
                |config| Request { config, started, kernel, policy, rulings, renew_fib, now };
            let planned = planned(&mut compiler, next, request);
            (compiler, planned)
        };
        let (mut compiler, planned) = elsewhere(compiler, plan).await?;
        let (plan, mut warnings) = planned?;
        if let Some((plan, portions)) = plan {
            let prepared = match self.nat_log_for(&plan.config).await {
                Ok(switch) => self.prepare(portions).await.map(|()| switch),
                Err(refused) => Err(refused),
            };
            let switch = match prepared {
                Ok(switch) => switch,
                Err(refused) => {
                    compiler.abandon(plan);
                    return Err(refused);
                }
            };
            let (back, late) = self.publish(compiler, plan).await?;
            self.state().switch_nat_log(switch);
            compiler = back;
            warnings.extend(late);
            if let Err(error) = self.clear_gateway(&mut compiler).await {
                tracing::warn!(%error, "what is left of WAN IPs goes later");
            }
        }
        let after = Arc::clone(compiler.config());
        let generation = compiler.snapshot().generation;
        Ok(Changed { before, after, warnings: Warnings { warnings, generation } })
    }

    /// Waits for a worker that is stalled to come round.
    ///
    /// # Errors
    /// If it does not for long.
    async fn await_stall(&self) -> Reply<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let stalled = self.state().watchdog.stalled();
            let Some(worker) = stalled else { return Ok(()) };
            if Instant::now() >= deadline {
                return Err(unavailable(format!("worker {} does not come round", worker.0)));
            }
            tokio::time::sleep(STALL_WAIT).await;
        }
    }

    /// Gives the workers what the plan's snapshot needs.
    async fn prepare(&self, portions: Portions) -> Reply<()> {
        let mut done = Vec::new();
        for (worker, portions) in portions {
            for portion in portions {
                let waiting = self.ask(worker, portion).await?;
                done.push((worker, waiting));
            }
        }
        for (worker, waiting) in done {
            answer(worker, waiting).await?;
        }
        Ok(())
    }

    /// Makes the plan what runs: all workers are told at once, or none.
    async fn publish(
        &self,
        mut compiler: OwnedMutexGuard<Compiler>,
        plan: Plan,
    ) -> Reply<(OwnedMutexGuard<Compiler>, Vec<Warning>)> {
        let deadline = Instant::now() + PATIENCE;
        let told = loop {
            let told = self.state().tell_all(&plan);
            match told {
                Ok(told) => break told,
                Err(refused) if Instant::now() >= deadline => {
                    compiler.abandon(plan);
                    return Err(refused);
                }
                Err(_) => tokio::time::sleep(RING_WAIT).await,
            }
        };
        self.shared.sent.notify_one();
        let fib_generation = plan.snapshot.fib.generation();
        let before = Arc::clone(compiler.snapshot());
        let config = Arc::clone(compiler.config());
        let commit = move |mut compiler: OwnedMutexGuard<Compiler>| {
            let touched = plan.touched();
            let gone = compiler.commit(plan);
            (compiler, (gone, touched))
        };
        let (compiler, (gone, touched)) = elsewhere(compiler, commit).await?;
        self.state().committed(&compiler, &before, gone, self.now_ms());
        self.follow_health(&config, touched);
        let generation = compiler.snapshot().generation;
        tracing::debug!(generation, "configuration published");
        let level = compiler.config().log.level;
        if level != self.shared.log.configured() {
            self.shared.log.set_configured(level);
        }
        let mut warnings = Vec::new();
        let mut old = vec![before];
        for (worker, waiting) in told {
            match answer(worker, waiting).await {
                Ok(Command::Update(update)) => old.push(update.snapshot),
                Ok(_) => {}
                Err(error) => warnings.push(Warning {
                    path: format!("workers[{}]", worker.0),
                    message: format!("it does not run the change yet: {error}"),
                }),
            }
        }
        if warnings.is_empty() {
            self.state().neighbours.confirm(fib_generation);
        }
        free(old);
        Ok((compiler, warnings))
    }

    /// Tells a worker as soon as there is room for it.
    ///
    /// # Errors
    /// If there is none for long.
    pub(super) async fn ask(
        &self,
        worker: WorkerId,
        command: Command,
    ) -> Reply<oneshot::Receiver<Command>> {
        let deadline = Instant::now() + PATIENCE;
        let mut command = command;
        loop {
            let asked = self.state().workers.ask(worker, command);
            match asked {
                Ok(waiting) => {
                    self.shared.sent.notify_one();
                    return Ok(waiting);
                }
                Err((busy, _)) if Instant::now() >= deadline => {
                    return Err(unavailable(busy.to_string()));
                }
                Err((_, back)) => command = back,
            }
            tokio::time::sleep(RING_WAIT).await;
        }
    }
}

/// What a worker answers.
///
/// # Errors
/// If it does not for long, or has ended.
pub(super) async fn answer(
    worker: WorkerId,
    waiting: oneshot::Receiver<Command>,
) -> Reply<Command> {
    match tokio::time::timeout(PATIENCE, waiting).await {
        Ok(Ok(command)) => Ok(command),
        Ok(Err(_)) => Err(unavailable(format!("worker {} has ended", worker.0))),
        Err(_) => Err(unavailable(format!("worker {} does not answer", worker.0))),
    }
}

fn internal(error: tokio::task::JoinError) -> ErrorBody {
    tracing::error!(%error, "a change was broken off by a fault of ours");
    ErrorBody::new(ErrorCode::Internal, "a fault of the daemon; its log says more")
}

/// What each worker needs before it runs a plan.
type Portions = Vec<(WorkerId, Vec<Command>)>;

/// A plan with what the workers need for it, or none, and warnings.
type Planned = Reply<(Option<(Plan, Portions)>, Vec<Warning>)>;

/// Plans the next configuration; `None` if it is the one that runs.
fn planned(
    compiler: &mut Compiler,
    next: Make,
    request: impl FnOnce(Arc<Model>) -> Request,
) -> Planned {
    let before = Arc::clone(compiler.config());
    let (config, mut warnings) = next(&before)?;
    let request = request(config);
    let running = compiler.snapshot();
    let policy = policy(&request.config, request.policy);
    let same = *compiler.started() == request.started
        && running.kernel == request.kernel
        && running.policy == policy;
    let same = same && compiler.rulings() == &request.rulings;
    let nothing = same && !request.renew_fib && !compiler.forgets();
    if nothing && running.generation > 0 && request.config == before {
        return Ok((None, warnings));
    }
    let plan = compiler.plan(request)?;
    warnings.extend(plan.warnings.iter().cloned());
    let workers = (0..plan.snapshot.steering.workers()).map(WorkerId);
    match workers.map(|worker| Ok((worker, needed(&plan, worker)?))).collect() {
        Ok(portions) => Ok((Some((plan, portions)), warnings)),
        Err(refused) => {
            compiler.abandon(plan);
            Err(refused)
        }
    }
}

/// What one worker needs before it runs a plan.
fn needed(plan: &Plan, worker: WorkerId) -> Reply<Vec<Command>> {
    let gateway = plan.prepare_gateway(worker)?.into_iter();
    let gateway = gateway.map(|work| Command::Gateway(Box::new(work)));
    let wide = plan.wide_tables()?.map(Command::Wide);
    let cells = plan.prepare(worker.0).into_iter().map(Command::Prepare);
    Ok(cells.chain(gateway).chain(wide).collect())
}

/// Does on another thread what takes long with many services.
async fn elsewhere<A: Send + 'static, B: Send + 'static>(
    with: A,
    work: impl FnOnce(A) -> B + Send + 'static,
) -> Reply<B> {
    tokio::task::spawn_blocking(move || work(with)).await.map_err(internal)
}

/// Freeing something large takes as long as making it.
pub(super) fn free<T: Send + 'static>(old: T) {
    tokio::task::spawn_blocking(move || drop(old));
}

impl State {
    /// Tells all workers to run the plan's snapshot, or none if one has no room.
    fn tell_all(&mut self, plan: &Plan) -> Reply<Vec<(WorkerId, oneshot::Receiver<Command>)>> {
        let mut ids = self.workers.ids();
        if let Some(busy) = ids.find(|worker| !self.workers.has_room(*worker)) {
            return Err(unavailable(super::workers::Busy(busy).to_string()));
        }
        if plan.fib_changed {
            self.neighbours.publish(plan.snapshot.fib.generation());
        }
        let mut told = Vec::new();
        for worker in self.workers.ids() {
            let snapshot = Arc::clone(&plan.snapshot);
            let update = Update { snapshot, timeouts: plan.timeouts.clone() };
            match self.workers.ask(worker, Command::Update(Box::new(update))) {
                Ok(waiting) => told.push((worker, waiting)),
                Err((busy, _)) => return Err(unavailable(busy.to_string())),
            }
        }
        Ok(told)
    }

    /// The plan has become what runs.
    fn committed(&mut self, compiler: &Compiler, before: &Snapshot, gone: Gone, now_ms: u64) {
        self.snapshot = Arc::clone(compiler.snapshot());
        self.started_running = Arc::clone(compiler.started());
        self.config = Arc::clone(compiler.config());
        self.gateway_names = Arc::clone(compiler.gateway_names());
        self.max_connections.1 = compiler.max_connections_ipv6();
        self.retiring.add(gone, self.workers.len());
        self.neighbours.follow(&self.config, before, &self.snapshot, now_ms);
    }
}
