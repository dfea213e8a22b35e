//! Keeps repetitive events from filling the log.

use std::time::{Duration, Instant};

/// Lets a few events of one kind pass in a time, and counts the others.
#[derive(Debug)]
pub struct Limited {
    every: Duration,
    burst: u32,
    since: Option<Instant>,
    passed: u32,
    suppressed: u64,
}

impl Limited {
    /// Lets `burst` events pass in each `every`.
    pub const fn new(burst: u32, every: Duration) -> Self {
        Self { every, burst, since: None, passed: 0, suppressed: 0 }
    }

    /// `Some` if an event at this time may be logged, with the number of those that were not since
    /// the last one that was.
    pub fn pass(&mut self, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now.duration_since(since) >= self.every) {
            self.since = Some(now);
            self.passed = 0;
        }
        if self.passed == self.burst {
            self.suppressed += 1;
            return None;
        }
        self.passed += 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_pass_and_the_others_are_counted() {
        let mut limited = Limited::new(2, Duration::from_secs(1));
        let start = Instant::now();
        let passed: Vec<_> = (0..10).map(|_| limited.pass(start)).collect();
        assert_eq!(passed.iter().flatten().count(), 2);
        let later = start + Duration::from_secs(1);
        assert_eq!(limited.pass(later), Some(8));
        assert_eq!(limited.pass(later), Some(0));
        assert_eq!(limited.pass(later), None);
    }
}
