//! A clock that only tests move.

use types::Now;

/// Time that stands still until it is told to move.
#[derive(Clone, Copy, Debug, Default)]
pub struct FakeClock {
    ms: u64,
}

impl FakeClock {
    /// A clock at 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// A clock at `ms` milliseconds; near `u32::MAX` the tick wraps soon.
    pub fn at_ms(ms: u64) -> Self {
        Self { ms }
    }

    /// The time.
    pub fn now(&self) -> Now {
        Now::from_ms(self.ms)
    }

    /// Milliseconds since 0, not wrapped.
    pub fn ms(&self) -> u64 {
        self.ms
    }

    /// Moves on by `ms` milliseconds and returns the time.
    pub fn advance_ms(&mut self, ms: u64) -> Now {
        self.ms += ms;
        self.now()
    }

    /// Moves on by `s` seconds and returns the time.
    pub fn advance_s(&mut self, s: u64) -> Now {
        self.advance_ms(s * 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_moves_by_hand() {
        let mut clock = FakeClock::at_ms(u64::from(u32::MAX));
        let before = clock.now();
        assert_eq!(clock.now(), before);
        let after = clock.advance_s(1);
        assert_eq!(after.since(before.tick_ms), 1000, "over the wrap");
        assert_eq!(clock.ms(), u64::from(u32::MAX) + 1000);
    }
}
