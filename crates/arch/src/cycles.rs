//! The cycle counter and how fast it counts.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long the counter is compared with the monotonic clock, once a process.
const CALIBRATION: Duration = Duration::from_millis(10);

/// The cycle counter: constant rate, not serialising, about 20 cycles to read.
#[inline(always)]
pub fn tsc() -> u64 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: every x86_64 has the counter, and Linux lets user space read it.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    {
        let count: u64;
        // SAFETY: Linux lets user space read the virtual counter; nothing else changes.
        unsafe {
            core::arch::asm!("mrs {0}, cntvct_el0", out(reg) count, options(nomem, nostack));
        }
        count
    }
    #[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
    {
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed().as_nanos() as u64
    }
}

/// Steps of [`tsc`] a second. The first call takes about 10 ms.
pub fn tsc_hz() -> u64 {
    static HZ: OnceLock<u64> = OnceLock::new();
    *HZ.get_or_init(|| {
        let (start, first) = (Instant::now(), tsc());
        let mut elapsed = start.elapsed();
        while elapsed < CALIBRATION {
            std::hint::spin_loop();
            elapsed = start.elapsed();
        }
        let steps = tsc().wrapping_sub(first);
        (u128::from(steps) * 1_000_000_000 / elapsed.as_nanos().max(1)) as u64
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_goes_forward_at_its_rate() {
        let hz = tsc_hz();
        assert!(hz > 1_000_000, "{hz}");
        let (start, first) = (Instant::now(), tsc());
        while start.elapsed() < Duration::from_millis(5) {}
        let ms = (tsc() - first) * 1000 / hz;
        assert!(ms >= 4, "{ms}");
    }
}
