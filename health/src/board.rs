//! What is known of each target, for whoever wants to see it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::probe::{Outcome, Target};

/// What is known of a target.
#[derive(Clone, Debug)]
pub struct Status {
    /// Whether it is up.
    pub up: bool,
    /// Since when.
    pub since: Instant,
    /// What came of the last check; nothing before the first.
    pub last: Option<(Outcome, Instant)>,
    /// Checks that were made, retries among them.
    pub checks: u64,
    /// Those of them that failed.
    pub failures: u64,
    /// How often it went up or down.
    pub changes: u64,
    /// Until when it stays down though it may pass.
    pub held_until: Option<Instant>,
}

/// A target has come up or gone down.
#[derive(Clone, Debug)]
pub struct Change {
    /// The target.
    pub target: Arc<Target>,
    /// Whether it is up now.
    pub up: bool,
    /// Why.
    pub reason: String,
}

/// What the checker and its owner share.
#[derive(Debug, Default)]
pub(crate) struct Board {
    pub inner: Mutex<Inner>,
    pub changed: Notify,
}

#[derive(Debug, Default)]
pub(crate) struct Inner {
    pub targets: HashMap<Arc<Target>, Status>,
    pub changes: Vec<Change>,
}

impl Board {
    /// A target that is new.
    pub fn add(&self, target: &Arc<Target>, up: bool, now: Instant) {
        let status = Status {
            up,
            since: now,
            last: None,
            checks: 0,
            failures: 0,
            changes: 0,
            held_until: None,
        };
        self.inner.lock().targets.insert(Arc::clone(target), status);
    }

    /// A check is done.
    pub fn done(
        &self,
        target: &Arc<Target>,
        outcome: Outcome,
        up: bool,
        held_until: Option<Instant>,
    ) {
        let now = Instant::now();
        let mut inner = self.inner.lock();
        let Inner { targets, changes, .. } = &mut *inner;
        // It may be gone since.
        let Some(status) = targets.get_mut(target) else { return };
        status.checks += 1;
        status.failures += u64::from(matches!(outcome, Outcome::Failed(_)));
        status.held_until = held_until;
        if status.up != up {
            (status.up, status.since) = (up, now);
            status.changes += 1;
            let target = Arc::clone(target);
            changes.push(Change { target, up, reason: outcome.to_string() });
            self.changed.notify_one();
        }
        status.last = Some((outcome, now));
    }
}
