//! Turns the cycle counter into the time of a burst.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use types::Now;

/// A worker's clock. All workers' clocks are made from one [`Epoch`] and so agree.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start_tsc: u64,
    /// 64-ns steps from 1970 to the start.
    start: u64,
    /// 64-ns steps a cycle, in 2^-64: below one at any clock above 16 MHz.
    steps: u64,
}

/// A moment by the cycle counter and by the calendar.
///
/// Sequence numbers and timestamps go on from the calendar's time, so that they also do so over a restart.
#[derive(Clone, Copy, Debug)]
pub struct Epoch {
    tsc: u64,
    unix: Duration,
}

/// Length of a step of the sequence-number clock (RFC 9293 §3.4.1 asks for 4 µs or faster).
const STEP_NS: u128 = 64;
const STEPS_A_MS: u64 = 1_000_000 / STEP_NS as u64;

impl Epoch {
    /// Now. A calendar before 1970 counts as 1970.
    pub fn now() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { tsc: arch::tsc(), unix }
    }

    /// The calendar's time of a tick of the clocks made from this epoch, within 24 days of now.
    pub fn unix_of(&self, tick_ms: u32, now: Now) -> Duration {
        let hz = arch::tsc_hz().max(1);
        let cycles = u128::from(now.burst_tsc.wrapping_sub(self.tsc));
        let elapsed = Duration::from_nanos((cycles * 1_000_000_000 / u128::from(hz)) as u64);
        let age = now.tick_ms.wrapping_sub(tick_ms) as i32;
        let at = self.unix + elapsed;
        if age >= 0 {
            at.saturating_sub(Duration::from_millis(age as u64))
        } else {
            at + Duration::from_millis(u64::from(age.unsigned_abs()))
        }
    }
}

impl Clock {
    /// A clock that counts from `epoch` on.
    pub fn new(epoch: Epoch) -> Self {
        let hz = u128::from(arch::tsc_hz().max(1));
        let steps = (1_000_000_000u128 << 64) / (STEP_NS * hz);
        let start = (epoch.unix.as_nanos() / STEP_NS) as u64;
        Self { start_tsc: epoch.tsc, start, steps: u64::try_from(steps).unwrap_or(u64::MAX) }
    }

    /// The time by the cycle counter.
    #[inline]
    pub fn now(&self) -> Now {
        self.at(arch::tsc())
    }

    /// The time at which the cycle counter shows `tsc`.
    #[inline]
    pub fn at(&self, tsc: u64) -> Now {
        let cycles = tsc.wrapping_sub(self.start_tsc);
        let steps = ((u128::from(cycles) * u128::from(self.steps)) >> 64) as u64;
        let isn = self.start.wrapping_add(steps);
        Now { tick_ms: (isn / STEPS_A_MS) as u32, isn: isn as u32, burst_tsc: tsc }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_of_cycles_is_a_second() {
        let epoch = Epoch { tsc: 1_000, unix: Duration::from_secs(1_700_000_000) };
        let clock = Clock::new(epoch);
        let start = clock.at(1_000);
        let later = clock.at(1_000 + arch::tsc_hz());
        assert!(later.since(start.tick_ms).abs_diff(1_000) <= 1);
        assert!(later.isn.wrapping_sub(start.isn).abs_diff(15_625_000) <= 16);
        assert_eq!(epoch.unix_of(start.tick_ms, start).as_secs(), 1_700_000_000);
        let back = epoch.unix_of(start.tick_ms, later).as_millis();
        assert!(back.abs_diff(1_700_000_000_000) <= 2, "{back}");
    }
}
