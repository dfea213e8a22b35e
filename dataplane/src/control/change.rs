//! One change: planned on a copy, given to the workers, answered when all of them run it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::{ErrorBody, ErrorCode, State as Phase, Warnings};
use config::{Model, Warning};
use tokio::sync::{OwnedMutexGuard, oneshot};
use types::WorkerId;

use super::compile::{Compiler, Gone, Plan, Request};
use super::{Control, Reply, State, unavailable};
use crate::snapshot::Snapshot;
use crate::worker::link::{Command, Update};

/// A worker that has not done a command after so long will not be waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks for room in a worker's ring.
const RING_WAIT: Duration = Duration::from_millis(1);
/// Configurations with more services or routes than this are compiled on another thread.
const INLINE_MAX: usize = 200;

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
        Ok(changed.await?.warnings)
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
        self.transact(Box::new(same), renew_fib).await.map(|_| ())
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
        let before = Arc::clone(compiler.config());
        let (interfaces, policy) = {
            let state = self.state();
            if let Some(worker) = state.watchdog.stalled() {
                return Err(unavailable(format!("worker {} does not come round", worker.0)));
            }
            (Arc::clone(&state.interfaces), state.policy)
        };
        let now = self.shared.clock.now();
        let plan = move |compiler: &mut Compiler| -> Reply<(Option<Plan>, Vec<Warning>)> {
            let before = Arc::clone(compiler.config());
            let (config, mut warnings) = next(&before)?;
            let running = compiler.snapshot();
            let same = running.interfaces == interfaces && running.policy == policy;
            if same && !renew_fib && running.generation > 0 && config == before {
                return Ok((None, warnings));
            }
            let request = Request { config, interfaces, policy, renew_fib, now };
            let plan = compiler.plan(request)?;
            warnings.extend(plan.warnings.iter().cloned());
            Ok((Some(plan), warnings))
        };
        let large =
            before.services.len() + before.routes.len() > INLINE_MAX || before.services.is_empty();
        let (mut compiler, planned) = if large {
            let work = move || {
                let mut compiler = compiler;
                let planned = plan(&mut compiler);
                (compiler, planned)
            };
            tokio::task::spawn_blocking(work).await.map_err(internal)?
        } else {
            let mut compiler = compiler;
            let planned = plan(&mut compiler);
            (compiler, planned)
        };
        let (plan, mut warnings) = planned?;
        if let Some(plan) = plan {
            if let Err(refused) = self.prepare(&plan).await {
                compiler.abandon(plan);
                return Err(refused);
            }
            warnings.extend(self.publish(&mut compiler, plan).await?);
        }
        let after = Arc::clone(compiler.config());
        let generation = compiler.snapshot().generation;
        Ok(Changed { before, after, warnings: Warnings { warnings, generation } })
    }

    /// Gives the workers what the plan's snapshot needs.
    async fn prepare(&self, plan: &Plan) -> Reply<()> {
        let workers: Vec<_> = self.state().workers.ids().collect();
        let mut done = Vec::new();
        for worker in workers {
            for portion in plan.prepare(worker.0) {
                let waiting = self.ask(worker, Command::Prepare(portion)).await?;
                done.push((worker, waiting));
            }
        }
        for (worker, waiting) in done {
            answer(worker, waiting).await?;
        }
        Ok(())
    }

    /// Makes the plan what runs: all workers are told at once, or none.
    async fn publish(&self, compiler: &mut Compiler, plan: Plan) -> Reply<Vec<Warning>> {
        let now_ms = self.now_ms();
        let deadline = Instant::now() + PATIENCE;
        let plan = loop {
            let told = self.state().tell_all(&plan);
            match told {
                Ok(told) => break Ok((plan, told)),
                Err(refused) if Instant::now() >= deadline => {
                    compiler.abandon(plan);
                    break Err(refused);
                }
                Err(_) => tokio::time::sleep(RING_WAIT).await,
            }
        };
        let (plan, told) = plan?;
        self.shared.sent.notify_one();
        let fib_generation = plan.snapshot.fib.generation();
        let before = Arc::clone(compiler.snapshot());
        let gone = compiler.commit(plan);
        self.state().committed(compiler, &before, gone, now_ms);
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
        Ok(warnings)
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

/// Freeing a large snapshot takes as long as making it.
fn free(old: Vec<Arc<Snapshot>>) {
    if old.iter().any(|snapshot| snapshot.services.len() > INLINE_MAX) {
        tokio::task::spawn_blocking(move || drop(old));
    }
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
        self.config = Arc::clone(compiler.config());
        self.retiring.add(gone, self.workers.len());
        self.neighbours.follow(&self.config, before, &self.snapshot, now_ms);
    }
}
