//! A token bucket: so many a millisecond, and at most what comes in over 100 ms at once.

use types::Now;

/// Counts what may still be done.
#[derive(Debug, Default)]
pub struct Bucket {
    left: u32,
    filled_ms: u32,
}

impl Bucket {
    /// Takes one; the bucket holds what comes in over 100 ms.
    pub fn take(&mut self, a_ms: u32, now: Now) -> bool {
        // Not `since`: whatever the tick at the start, the bucket fills.
        let elapsed = now.tick_ms.wrapping_sub(self.filled_ms).min(100);
        if elapsed > 0 {
            self.left = (self.left + elapsed * a_ms).min(100 * a_ms);
            self.filled_ms = now.tick_ms;
        }
        let taken = self.left > 0;
        self.left -= u32::from(taken);
        taken
    }
}
