//! Notices workers that do not come round.

use std::time::{Duration, Instant};

use types::WorkerId;

/// A worker that has not come round for so long is stalled.
pub const STALL: Duration = Duration::from_millis(100);

/// One worker's progress, as control saw it.
#[derive(Clone, Copy, Debug)]
struct Progress {
    loops: u64,
    max_loop_tsc: u64,
    /// When it was last seen to have come round.
    at: Instant,
    /// When control last looked.
    looked: Instant,
    stalled: bool,
    stalls: u64,
}

/// What has happened to a worker since control last looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stall {
    /// It has not come round for this long, and still does not.
    Began(Duration),
    /// It comes round again.
    Ended(Duration),
    /// It was away for this long and came back between two looks.
    Passed(Duration),
}

/// Watches the loop counters of all workers.
#[derive(Debug)]
pub struct Watchdog {
    workers: Vec<Progress>,
    tsc_hz: u64,
}

impl Watchdog {
    /// For so many workers; `tsc_hz` is the rate of the cycle counter.
    pub fn new(workers: usize, tsc_hz: u64, now: Instant) -> Self {
        let start =
            Progress { loops: 0, max_loop_tsc: 0, at: now, looked: now, stalled: false, stalls: 0 };
        Self { workers: vec![start; workers], tsc_hz: tsc_hz.max(1) }
    }

    /// To be called for each worker several times in [`STALL`], with what it has counted.
    ///
    /// The time in which control itself did not look is not held against the worker.
    pub fn look(&mut self, worker: WorkerId, load: &counters::Load, now: Instant) -> Option<Stall> {
        let tsc_hz = self.tsc_hz;
        let progress = self.workers.get_mut(usize::from(worker.0))?;
        let late = now.duration_since(progress.looked).saturating_sub(STALL / 2);
        progress.looked = now;
        progress.at += late;
        let away = now.saturating_duration_since(progress.at);
        let longest = std::mem::replace(&mut progress.max_loop_tsc, load.max_loop_tsc);
        if load.loops == progress.loops {
            if away < STALL || progress.stalled {
                return None;
            }
            progress.stalled = true;
            progress.stalls += 1;
            return Some(Stall::Began(away));
        }
        progress.loops = load.loops;
        progress.at = now;
        if std::mem::take(&mut progress.stalled) {
            return Some(Stall::Ended(away));
        }
        let micros = u128::from(load.max_loop_tsc) * 1_000_000 / u128::from(tsc_hz);
        let turn = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
        if load.max_loop_tsc > longest && turn >= STALL {
            progress.stalls += 1;
            return Some(Stall::Passed(turn));
        }
        None
    }

    /// True while this worker has not come round for [`STALL`].
    pub fn is_stalled(&self, worker: WorkerId) -> bool {
        self.workers.get(usize::from(worker.0)).is_some_and(|progress| progress.stalled)
    }

    /// The first worker that is stalled.
    pub fn stalled(&self) -> Option<WorkerId> {
        let place = self.workers.iter().position(|progress| progress.stalled)?;
        Some(WorkerId(place as u16))
    }

    /// How often workers were stalled since the start.
    pub fn stalls(&self, worker: WorkerId) -> u64 {
        self.workers.get(usize::from(worker.0)).map_or(0, |progress| progress.stalls)
    }
}

#[cfg(test)]
mod tests {
    use counters::Load;

    use super::*;

    const WORKER: WorkerId = WorkerId(0);

    struct Bench {
        watchdog: Watchdog,
        now: Instant,
        load: Load,
    }

    impl Bench {
        fn new() -> Self {
            let now = Instant::now();
            let watchdog = Watchdog::new(1, 1_000_000_000, now);
            Self { watchdog, now, load: Load::default() }
        }

        fn after(&mut self, ms: u64, loops: u64) -> Option<Stall> {
            self.now += Duration::from_millis(ms);
            self.load.loops += loops;
            self.watchdog.look(WORKER, &self.load, self.now)
        }
    }

    #[test]
    fn a_worker_that_does_not_come_round_is_noticed_once() {
        let mut bench = Bench::new();
        assert_eq!(bench.after(40, 1), None);
        assert_eq!(bench.after(40, 0), None);
        assert_eq!(bench.after(40, 0), None);
        assert_eq!(bench.after(40, 0), Some(Stall::Began(Duration::from_millis(120))));
        assert!(bench.watchdog.is_stalled(WORKER));
        assert_eq!(bench.after(40, 0), None);
        assert_eq!(bench.after(40, 1), Some(Stall::Ended(Duration::from_millis(200))));
        assert_eq!(bench.watchdog.stalled(), None);
        assert_eq!(bench.watchdog.stalls(WORKER), 1);
        assert_eq!(bench.after(40, 0), None);
    }

    #[test]
    fn controls_own_absence_is_not_held_against_a_worker() {
        let mut bench = Bench::new();
        assert_eq!(bench.after(1000, 0), None, "it may have come round just before");
        assert_eq!(bench.after(40, 0), None);
        assert_eq!(bench.after(40, 0), Some(Stall::Began(Duration::from_millis(130))));
    }

    #[test]
    fn a_long_turn_between_two_looks_is_noticed_too() {
        let mut bench = Bench::new();
        bench.load.max_loop_tsc = 150_000_000;
        assert_eq!(bench.after(20, 5), Some(Stall::Passed(Duration::from_millis(150))));
        assert_eq!(bench.after(20, 5), None);
        assert_eq!(bench.watchdog.stalls(WORKER), 1);
        assert!(!bench.watchdog.is_stalled(WORKER));
    }
}
