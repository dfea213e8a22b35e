//! What goes on all the time: rings, timers, links, the watchdog, and how late all that comes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};
use types::EthPortId;

use super::limited::Limited;
use super::statistics::LOOK;
use super::watchdog::Stall;
use super::{Control, State, neighbours};
use crate::snapshot::Interface;

/// Rings are looked at this often while something is under way or happens.
const BUSY: Duration = Duration::from_millis(1);
/// And this often while nothing does: the first packet to a new neighbour waits for so long.
const QUIET: Duration = Duration::from_millis(4);
/// Looks without a find before it is quiet.
const QUIET_AFTER: u32 = 50;
/// Neighbours age in steps of this.
const AGE: Duration = Duration::from_millis(100);
/// Links are looked at this often.
const LINKS: Duration = Duration::from_millis(250);
/// Workers are looked at this often.
const WATCH: Duration = Duration::from_millis(25);
/// Slots are asked back this often.
const RETIRE: Duration = Duration::from_millis(500);
/// LIPs that only open conns need are looked at this often.
const LINGER: Duration = Duration::from_secs(3);
/// Conns of earlier steering are looked for this often: it may mean to look at all conns.
const STRAYS: Duration = Duration::from_secs(10);

/// Ports of WAN IPs are looked at this often.
const WAN_PORTS: Duration = Duration::from_secs(5);

/// The control thread may come so late and no later.
pub const STALL_MAX: Duration = Duration::from_millis(20);

/// How late the control thread comes to what is due: its own stall.
#[derive(Debug, Default)]
pub(super) struct StallMeter {
    longest: Duration,
    /// The longest above [`STALL_MAX`] in this minute and the one before, with the minute's start.
    minutes: [(Option<Instant>, Duration); 2],
}

impl StallMeter {
    /// Something came this late.
    fn late(&mut self, by: Duration, now: Instant) {
        self.longest = self.longest.max(by);
        let [this, last] = &mut self.minutes;
        if this.0.is_none_or(|start| now.duration_since(start) >= Duration::from_secs(60)) {
            *last = *this;
            *this = (Some(now), Duration::ZERO);
        }
        this.1 = this.1.max(by);
    }

    /// The longest since the start.
    pub fn longest(&self) -> Duration {
        self.longest
    }

    /// The longest of about the last minute, if it was too long.
    pub fn recent(&self, now: Instant) -> Option<Duration> {
        let [this, last] = self.minutes;
        let fresh = |(start, by): (Option<Instant>, Duration)| {
            start.filter(|start| now.duration_since(*start) < Duration::from_secs(120)).map(|_| by)
        };
        fresh(this).max(fresh(last)).filter(|by| *by > STALL_MAX)
    }
}

impl Control {
    /// Starts all that goes on all the time. It ends with the runtime.
    pub fn run_tasks(&self) {
        tokio::spawn(self.clone().pump());
        tokio::spawn(self.clone().age());
        tokio::spawn(self.clone().watch());
        tokio::spawn(self.clone().watch_links());
        tokio::spawn(self.clone().count());
        tokio::spawn(self.clone().collect());
        tokio::spawn(self.clone().let_go());
        tokio::spawn(self.clone().forget());
        tokio::spawn(self.clone().look_at_wan_ports());
    }

    /// Takes what comes back from the workers.
    async fn pump(self) {
        let mut without = 0;
        loop {
            let now_ms = self.now_ms();
            let found = self.state().pump(now_ms);
            without = if found { 0 } else { without + 1 };
            let wait = if without < QUIET_AFTER { BUSY } else { QUIET };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.shared.sent.notified() => {
                    without = 0;
                    tokio::time::sleep(BUSY).await;
                }
            }
        }
    }

    async fn age(self) {
        let mut timer = interval(AGE);
        timer.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            timer.tick().await;
            let now_ms = self.now_ms();
            let renew = {
                let mut state = self.state();
                state.age(now_ms);
                state.neighbours.wants_generation()
            };
            if renew && let Err(error) = self.refresh(true).await {
                tracing::debug!(%error, "next hops could not be freed");
            }
        }
    }

    /// Looks whether workers come round, and how late it comes itself.
    async fn watch(self) {
        let mut timer = interval(WATCH);
        timer.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let (mut limited, mut own) =
            (Limited::new(5, Duration::from_secs(10)), Limited::new(3, Duration::from_secs(60)));
        loop {
            let due = timer.tick().await;
            let now = Instant::now();
            let late = now.saturating_duration_since(due.into_std());
            let mut state = self.state();
            state.stall.late(late, now);
            if late > STALL_MAX
                && let Some(unsaid) = own.pass(now)
            {
                tracing::warn!(late_ms = late.as_millis() as u64, unsaid, "control came late");
            }
            for worker in state.workers.ids() {
                let Some(reading) = state.workers.reading(worker) else { continue };
                let Some(stall) = state.watchdog.look(worker, &reading.values.load(), now) else {
                    continue;
                };
                let Some(unsaid) = limited.pass(now) else { continue };
                let worker = worker.0;
                match stall {
                    Stall::Began(for_) => {
                        let ms = for_.as_millis() as u64;
                        tracing::error!(worker, ms, unsaid, "worker does not come round");
                    }
                    Stall::Ended(after) => {
                        let ms = after.as_millis() as u64;
                        tracing::warn!(worker, ms, unsaid, "worker comes round again");
                    }
                    Stall::Passed(turn) => {
                        let ms = turn.as_millis() as u64;
                        tracing::warn!(worker, ms, unsaid, "worker took long for a round");
                    }
                }
            }
        }
    }

    async fn watch_links(self) {
        let mut timer = interval(LINKS);
        timer.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            timer.tick().await;
            let changed = self.state().look_at_links();
            if changed && let Err(error) = self.refresh(false).await {
                tracing::warn!(%error, "workers do not know yet of the change of a link");
            }
        }
    }

    async fn count(self) {
        let mut timer = interval(LOOK);
        timer.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            timer.tick().await;
            let mut state = self.state();
            let readings = state.workers.ids().filter_map(|id| state.workers.reading(id));
            let values = readings.map(|reading| reading.values).collect();
            state.history.look(values);
        }
    }

    async fn collect(self) {
        let mut timer = interval(RETIRE);
        timer.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            timer.tick().await;
            if let Err(error) = self.retire().await {
                tracing::debug!(%error, "slots could not be freed");
            }
            if let Err(error) = self.clear_left().await {
                tracing::debug!(%error, "what is left of WAN IPs could not be freed");
            }
        }
    }

    async fn let_go(self) {
        let mut timer = interval(LINGER);
        timer.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            timer.tick().await;
            if let Err(error) = self.let_addresses_go().await {
                tracing::debug!(%error, "local addresses could not be let go");
            }
        }
    }

    async fn look_at_wan_ports(self) {
        let mut timer = interval(WAN_PORTS);
        timer.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            timer.tick().await;
            if let Err(error) = self.watch_wan_ports().await {
                tracing::debug!(%error, "ports of WAN IPs could not be looked at");
            }
        }
    }

    async fn forget(self) {
        let mut timer = interval(STRAYS);
        timer.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            timer.tick().await;
            if let Err(error) = self.forget_earlier().await {
                tracing::debug!(%error, "earlier steering could not be forgotten");
            }
        }
    }
}

impl State {
    /// Takes what the workers have done and seen. True if there was anything.
    pub(super) fn pump(&mut self, now_ms: u64) -> bool {
        let Self { workers, neighbours, snapshot, frames, .. } = self;
        let found = workers.pump(|event| neighbours.saw(event, snapshot, now_ms, frames));
        neighbours::send(workers, frames);
        let waiting = workers.is_waiting();
        self.take_nat_log() || found || waiting
    }

    pub(super) fn age(&mut self, now_ms: u64) {
        let Self { workers, neighbours, snapshot, frames, .. } = self;
        neighbours.tick(snapshot, now_ms, frames);
        neighbours::send(workers, frames);
    }

    /// True if a link has come or gone, and the workers do not know yet.
    pub(super) fn look_at_links(&mut self) -> bool {
        let links: Vec<bool> =
            self.engine.interfaces().iter().map(|info| self.engine.link(info.id).up).collect();
        let same = self.started.iter().map(|interface| interface.up).eq(links.iter().copied());
        if same {
            // A change that the workers could not be told of is told again.
            return self.started != self.started_running;
        }
        let now = self.started.iter().zip(&links);
        for (interface, up) in now.clone().filter(|(interface, up)| interface.up != **up) {
            let dev = &*interface.name;
            if *up {
                tracing::info!(dev, "link is up");
            } else {
                tracing::warn!(dev, "link is down");
            }
        }
        for (place, (interface, up)) in (0..).zip(now.clone()) {
            if interface.up != *up {
                self.engine.set_carrier(EthPortId(place), *up);
            }
        }
        self.started = now
            .map(|(interface, up)| Interface { up: *up, ..interface.clone() })
            .collect::<Arc<_>>();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_told_for_a_minute_or_two() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut meter = StallMeter::default();
        meter.late(Duration::from_millis(19), start);
        assert_eq!(meter.recent(start), None);
        meter.late(Duration::from_millis(30), after(1));
        assert_eq!(meter.recent(after(2)), Some(Duration::from_millis(30)));
        meter.late(Duration::ZERO, after(61));
        assert_eq!(meter.recent(after(62)), Some(Duration::from_millis(30)));
        meter.late(Duration::ZERO, after(122));
        assert_eq!(meter.recent(after(123)), None);
        assert_eq!(meter.longest(), Duration::from_millis(30));
    }
}
