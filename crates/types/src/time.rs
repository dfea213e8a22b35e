//! Time as an argument: nothing below the daemon reads a clock.

/// The time of a burst, made once for all its packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since some start; wraps after 49 days, so compare by [`Now::since`].
    pub tick_ms: u32,
    /// The initial-sequence-number clock: one step each 64 ns (RFC 9293 §3.4.1 asks for 4 µs or faster).
    pub isn: u32,
    /// The cycle counter.
    pub burst_tsc: u64,
}

impl Now {
    /// The time `ms` milliseconds after the start, with all clocks in step.
    pub const fn from_ms(ms: u64) -> Self {
        Self { tick_ms: ms as u32, isn: (ms * 15_625) as u32, burst_tsc: ms * 1_000_000 }
    }

    /// Milliseconds from `tick_ms` to now; 0 for what is yet to come.
    #[inline(always)]
    pub const fn since(self, tick_ms: u32) -> u32 {
        let ms = self.tick_ms.wrapping_sub(tick_ms);
        if ms > i32::MAX as u32 { 0 } else { ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_survives_the_wrap() {
        let now = Now { tick_ms: 5, ..Now::default() };
        assert_eq!(now.since(u32::MAX - 4), 10);
        assert_eq!(now.since(6), 0);
    }
}
