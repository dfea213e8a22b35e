//! Asks all targets, each in a task of its own, on a thread of its own.
//!
//! The first check of a target is at some moment of its interval that its name says, and the others follow at
//! whole intervals after it: so checks are spread evenly, whatever was configured when.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::sleep_until;

use crate::board::{Board, Change, Status};
use crate::judge::{Judge, Next, Rules};
use crate::probe::{Outcome, Target, probe};

/// Checks that are under way at once: each has a socket.
const AT_ONCE: usize = 16_384;
/// Files that are left to the rest of the daemon.
const OTHER_FILES: u64 = 512;

/// What is to be checked, and whether it is taken to be up where it was not checked before.
type Wanted = HashMap<Arc<Target>, bool>;

/// The thread that checks.
#[derive(Debug)]
pub struct Checker {
    board: Arc<Board>,
    targets: Option<mpsc::UnboundedSender<Wanted>>,
    thread: Option<JoinHandle<()>>,
}

impl Checker {
    /// Starts it, with nothing to check. `begin` runs first on its thread, whose privileges it may drop.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub fn start(begin: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let board = Arc::<Board>::default();
        let (sender, receiver) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let room = Arc::new(Semaphore::new(room()));
        let shared = Arc::clone(&board);
        let run = move || {
            begin();
            runtime.block_on(follow(shared, room, receiver));
            // A socket that is being made in another namespace is not waited for.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("health".to_owned()).spawn(run)?;
        Ok(Self { board, targets: Some(sender), thread: Some(thread) })
    }

    /// Checks these from now on. Those that were checked before go on as they are; of new ones, it is said
    /// whether they are taken to be up.
    pub fn check(&self, targets: HashMap<Arc<Target>, bool>) {
        if let Some(sender) = &self.targets {
            // Without a receiver the thread has ended, and with it the daemon.
            let _ = sender.send(targets);
        }
    }

    /// What has come up or gone down since the last call; waits until something has.
    pub async fn changes(&self) -> Vec<Change> {
        loop {
            let changes = std::mem::take(&mut self.board.inner.lock().changes);
            if !changes.is_empty() {
                return changes;
            }
            self.board.changed.notified().await;
        }
    }

    /// What is known of a target; `None` before it is looked at.
    pub fn status(&self, target: &Arc<Target>) -> Option<Status> {
        self.board.inner.lock().targets.get(target).cloned()
    }

    /// What is known of all targets.
    pub fn all(&self) -> HashMap<Arc<Target>, Status> {
        self.board.inner.lock().targets.clone()
    }
}

impl Drop for Checker {
    fn drop(&mut self) {
        self.targets = None;
        if let Some(thread) = self.thread.take() {
            // That it panicked has been told by its message.
            let _ = thread.join();
        }
    }
}

/// How many checks may have a socket at once: what this process may open, as far as it can be raised.
fn room() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let wanted = AT_ONCE as u64 + OTHER_FILES;
    let most = limit.maximum.unwrap_or(u64::MAX).min(wanted);
    let now = limit.current.unwrap_or(u64::MAX);
    let raised = Rlimit { current: Some(most), maximum: limit.maximum };
    let have = if now < most && setrlimit(Resource::Nofile, raised).is_ok() { most } else { now };
    (have.saturating_sub(OTHER_FILES) as usize).clamp(64, AT_ONCE)
}

/// Keeps a task for each target until nobody wants any more.
async fn follow(
    board: Arc<Board>,
    room: Arc<Semaphore>,
    mut receiver: mpsc::UnboundedReceiver<Wanted>,
) {
    let start = Instant::now();
    let mut tasks: HashMap<Arc<Target>, AbortHandle> = HashMap::new();
    while let Some(wanted) = receiver.recv().await {
        tasks.retain(|target, task| {
            let keep = wanted.contains_key(target);
            if !keep {
                task.abort();
                board.inner.lock().targets.remove(target);
            }
            keep
        });
        for (target, up) in wanted {
            if tasks.contains_key(&target) {
                continue;
            }
            board.add(&target, up, Instant::now());
            let task = ask(Arc::clone(&target), up, Arc::clone(&board), Arc::clone(&room), start);
            tasks.insert(target, tokio::spawn(task).abort_handle());
        }
    }
}

/// Asks one target for ever.
async fn ask(
    target: Arc<Target>,
    up: bool,
    board: Arc<Board>,
    room: Arc<Semaphore>,
    start: Instant,
) {
    let check = &target.check;
    let interval = Duration::from(check.interval);
    let retry_delay = Duration::from(check.retry_delay);
    let mut judge = Judge::new(Rules::from(&**check), up);
    let mut due = Instant::now() + phase(&target, interval);
    loop {
        sleep_until(due.into()).await;
        let Ok(permit) = room.acquire().await else { return };
        let outcome = probe(&target).await;
        drop(permit);
        let now = Instant::now();
        let now_ms = now.duration_since(start).as_millis() as u64;
        let next = match &outcome {
            Outcome::Passed(_) => judge.take(true, now_ms),
            Outcome::Failed(_) => judge.take(false, now_ms),
            Outcome::Unknown(_) => Next::Interval,
        };
        let held = judge.held_until_ms().map(|ms| start + Duration::from_millis(ms));
        board.done(&target, outcome, judge.is_up(), held);
        due = match next {
            Next::Retry => now + retry_delay,
            Next::Interval => after(due, interval, now),
        };
    }
}

/// The next whole interval after the one that was due, and not in the past.
fn after(due: Instant, interval: Duration, now: Instant) -> Instant {
    let passed = now.saturating_duration_since(due).as_nanos();
    let intervals = passed / interval.as_nanos().max(1) + 1;
    due + interval * u32::try_from(intervals).unwrap_or(u32::MAX)
}

/// At which moment of the interval a target is asked.
fn phase(target: &Target, interval: Duration) -> Duration {
    let mut hasher = DefaultHasher::new();
    target.hash(&mut hasher);
    let interval_us = interval.as_micros().max(1) as u64;
    Duration::from_micros(hasher.finish() % interval_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_keep_to_their_moments() {
        let (due, interval) = (Instant::now(), Duration::from_secs(3));
        assert_eq!(after(due, interval, due + Duration::from_millis(5)), due + interval);
        assert_eq!(after(due, interval, due + interval), due + interval * 2);
        assert_eq!(after(due, interval, due + Duration::from_secs(8)), due + interval * 3);
    }
}
