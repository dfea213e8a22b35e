//! What a worker does with polls that find nothing.

use std::time::Duration;

/// How a worker idles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Idle {
    /// Polls on: lowest latency, a core of its own.
    Poll,
    /// Polls on for a while, then pauses, then sleeps for microseconds.
    #[default]
    Adaptive,
}

/// Empty polls before the first pause, and before the first sleep.
const SPIN: u32 = 256;
const PAUSE: u32 = 2_048;
/// The first sleep, and the longest: it bounds the delay of a packet that ends a quiet time.
const SLEEP_MIN_US: u64 = 10;
const SLEEP_MAX_US: u64 = 200;

/// Counts empty polls in a row.
#[derive(Debug, Default)]
pub struct Idler {
    how: Idle,
    empty: u32,
    sleep_us: u64,
}

impl Idler {
    /// Idles in the given way.
    pub fn new(how: Idle) -> Self {
        Self { how, empty: 0, sleep_us: SLEEP_MIN_US }
    }

    /// To be told after each loop whether it found anything to do.
    #[inline]
    pub fn looped(&mut self, busy: bool) {
        if busy || self.how == Idle::Poll {
            self.empty = 0;
            self.sleep_us = SLEEP_MIN_US;
            return;
        }
        self.empty = self.empty.saturating_add(1);
        if self.empty <= SPIN {
            return;
        }
        if self.empty <= PAUSE {
            std::hint::spin_loop();
            return;
        }
        std::thread::sleep(Duration::from_micros(self.sleep_us));
        self.sleep_us = (self.sleep_us * 2).min(SLEEP_MAX_US);
    }
}
