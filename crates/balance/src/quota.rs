//! Limits on conns that hold over all workers, leased to each in portions.
//!
//! `leased` counts what all workers hold, in use or spare, and never passes the upper limit, so what is
//! in use never does. A worker takes `max(1, remaining / (4 * workers))` at a time: far from the limit it
//! seldom touches the shared line; near it, or if the limit is small, each open and close is one atomic.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

/// The bounds of a number of conns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Limits {
    /// No new conns once there are so many; 0 is no limit.
    pub upper: u32,
    /// After that, none until there are fewer than this; 0 is three quarters of `upper`, as in LVS.
    pub lower: u32,
}

impl Limits {
    /// No limit.
    pub const NONE: Self = Self { upper: 0, lower: 0 };

    /// A limit at which conns are taken again as soon as one has gone.
    pub const fn plain(upper: u32) -> Self {
        Self { upper, lower: upper }
    }

    /// New conns are taken again below this many.
    pub const fn reopens_below(self) -> u32 {
        match self.lower {
            0 => self.upper - self.upper / 4,
            lower if lower < self.upper => lower,
            _ => self.upper,
        }
    }
}

/// What all workers together hold of one limit. Control creates it; workers share it.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Quota {
    leased: AtomicU32,
    /// The upper limit was reached, and the lower one has not been passed since.
    full: AtomicBool,
}

/// Each failed exchange means that another worker got its share; that many in a row do not happen.
const EXCHANGES_MAX: usize = 64;

impl Quota {
    /// Conns that workers hold or have set aside.
    pub fn leased(&self) -> u32 {
        self.leased.load(Relaxed)
    }

    /// True while the upper limit was reached and the lower one not passed since.
    pub fn is_full(&self) -> bool {
        self.full.load(Relaxed)
    }

    /// Would a worker without spare be given one?
    fn admits(&self, limits: Limits) -> bool {
        let leased = self.leased();
        leased < limits.upper && (!self.is_full() || leased < limits.reopens_below())
    }

    /// Takes a portion; 0 if there is none.
    fn take(&self, limits: Limits, workers: u32) -> u32 {
        let mut leased = self.leased();
        for _ in 0..EXCHANGES_MAX {
            if self.is_full() {
                if leased >= limits.reopens_below() {
                    return 0;
                }
                self.full.store(false, Relaxed);
            }
            let portion = portion(limits.upper, leased, workers).max(1);
            if leased >= limits.upper {
                self.full.store(true, Relaxed);
                return 0;
            }
            match self.leased.compare_exchange(leased, leased + portion, Relaxed, Relaxed) {
                Ok(_) => return portion,
                Err(now) => leased = now,
            }
        }
        0
    }

    /// Takes back what no conn used: the limit was not really reached.
    fn give_back_unused(&self, count: u32) {
        self.leased.fetch_sub(count, Relaxed);
        if self.is_full() {
            self.full.store(false, Relaxed);
        }
    }
}

/// What a worker may hold beyond its conns.
fn portion(upper: u32, leased: u32, workers: u32) -> u32 {
    upper.saturating_sub(leased) / workers.saturating_mul(4).max(1)
}

/// One worker's part of a [`Quota`].
#[derive(Debug, Default)]
pub(crate) struct Lease {
    quota: Option<Arc<Quota>>,
    /// The limit that `quota` counts this worker's conns for; 0: it does not.
    upper: u32,
    /// Held, but not in use.
    spare: u32,
}

impl Lease {
    pub(crate) fn new(quota: Arc<Quota>) -> Self {
        Self { quota: Some(quota), upper: 0, spare: 0 }
    }

    /// Would [`Lease::open`] say yes?
    #[inline]
    pub(crate) fn admits(&self, limits: Limits) -> bool {
        limits.upper == 0
            || (self.upper == limits.upper && self.spare > 0)
            || self.quota.as_ref().is_none_or(|quota| quota.admits(limits))
    }

    /// One more conn beyond the `conns` that this worker has; false if the limit forbids it.
    #[inline]
    pub(crate) fn open(&mut self, limits: Limits, conns: u32, workers: u32) -> bool {
        self.change(limits.upper, conns);
        if self.upper == 0 {
            return true;
        }
        let Some(quota) = self.quota.as_ref() else { return true };
        if self.spare == 0 {
            self.spare = quota.take(limits, workers);
        }
        if self.spare == 0 {
            return false;
        }
        self.spare -= 1;
        if self.spare == 0 && quota.leased() >= limits.upper {
            quota.full.store(true, Relaxed);
        }
        true
    }

    /// A conn came that no limit may refuse: one from another node, or kept over a restart.
    pub(crate) fn open_anyway(&mut self) {
        if self.upper == 0 {
            return;
        }
        if self.spare > 0 {
            self.spare -= 1;
        } else if let Some(quota) = self.quota.as_ref() {
            quota.leased.fetch_add(1, Relaxed);
        }
    }

    /// A conn has gone.
    #[inline]
    pub(crate) fn close(&mut self, workers: u32) {
        if self.upper == 0 {
            return;
        }
        let Some(quota) = self.quota.as_ref() else { return };
        let full = quota.is_full();
        if full && self.spare > 0 {
            quota.give_back_unused(self.spare);
            self.spare = 0;
        }
        let keep = if full { 0 } else { portion(self.upper, quota.leased(), workers) };
        let held = self.spare + 1;
        self.spare = held.min(keep);
        if held > self.spare {
            quota.leased.fetch_sub(held - self.spare, Relaxed);
        }
    }

    /// Gives back what is more than a portion, so that an idle worker does not starve another.
    pub(crate) fn settle(&mut self, workers: u32) {
        let Some(quota) = self.quota.as_ref() else { return };
        if self.spare == 0 {
            return;
        }
        let keep = portion(self.upper, quota.leased(), workers);
        if self.spare > keep {
            quota.give_back_unused(self.spare - keep);
            self.spare = keep;
        }
    }

    /// Another limit holds from now on; `conns` of this worker are open.
    #[inline]
    pub(crate) fn change(&mut self, upper: u32, conns: u32) {
        if self.upper == upper {
            return;
        }
        let Some(quota) = self.quota.as_ref() else { return };
        if self.spare > 0 {
            quota.give_back_unused(self.spare);
            self.spare = 0;
        }
        match (self.upper, upper) {
            (0, 1..) => _ = quota.leased.fetch_add(conns, Relaxed),
            (1.., 0) => _ = quota.leased.fetch_sub(conns, Relaxed),
            _ => {}
        }
        self.upper = upper;
    }

    /// Gives all back and hands out the shared part, whose memory is control's to free.
    pub(crate) fn release(&mut self, conns: u32) -> Option<Arc<Quota>> {
        self.change(0, conns);
        self.quota.take()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lower_defaults_to_three_quarters() {
        // LVS: conns * 4 < upper * 3.
        for upper in 1..200u32 {
            let reopens = Limits { upper, lower: 0 }.reopens_below();
            for conns in 0..=upper {
                assert_eq!(conns < reopens, conns * 4 < upper * 3, "{conns} of {upper}");
            }
        }
        assert_eq!(Limits { upper: 10, lower: 4 }.reopens_below(), 4);
        assert_eq!(Limits { upper: 10, lower: 40 }.reopens_below(), 10);
    }

    #[test]
    fn one_worker_stops_at_upper_and_goes_on_below_lower() {
        for upper in [1u32, 2, 4, 5, 100, 1000] {
            let limits = Limits { upper, lower: 0 };
            let mut lease = Lease::new(Arc::default());
            let mut conns = 0;
            while lease.open(limits, conns, 1) {
                conns += 1;
                assert!(conns <= upper);
            }
            assert_eq!(conns, upper);
            assert!(!lease.admits(limits));
            while conns > 0 {
                lease.close(1);
                conns -= 1;
                let may = conns < limits.reopens_below();
                assert_eq!(lease.admits(limits), may, "{conns} of {upper}");
                if may {
                    break;
                }
                assert!(!lease.open(limits, conns, 1));
            }
            assert!(lease.open(limits, conns, 1));
        }
    }

    #[test]
    fn an_idle_worker_gives_its_spare_to_a_busy_one() {
        let quota = Arc::<Quota>::default();
        let limits = Limits::plain(1000);
        let (mut idle, mut busy) = (Lease::new(quota.clone()), Lease::new(quota.clone()));
        assert!(idle.open(limits, 0, 2));
        let mut conns = 0;
        while busy.open(limits, conns, 2) {
            conns += 1;
        }
        assert!(conns < 999);
        idle.settle(2);
        while busy.open(limits, conns, 2) {
            conns += 1;
        }
        assert_eq!(conns, 999);
    }

    #[test]
    fn a_limit_set_later_counts_what_is_open() {
        let quota = Arc::<Quota>::default();
        let mut lease = Lease::new(quota.clone());
        for conns in 0..10 {
            assert!(lease.open(Limits::NONE, conns, 1));
        }
        assert_eq!(quota.leased(), 0);
        assert!(!lease.open(Limits::plain(10), 10, 1));
        assert_eq!(quota.leased(), 10);
        assert!(lease.open(Limits::plain(11), 10, 1));
        assert!(!lease.open(Limits::plain(5), 11, 1));
        assert!(lease.open(Limits::NONE, 11, 1));
        assert_eq!(quota.leased(), 0);
    }

    proptest! {
        #[test]
        fn never_exceeded_and_all_returned(
            workers in 1usize..9,
            upper in 1u32..400,
            lower in 0u32..400,
            steps in proptest::collection::vec((0usize..9, 0u8..8), 1..2000),
        ) {
            let quota = Arc::<Quota>::default();
            let limits = Limits { upper, lower };
            let mut leases: Vec<_> = (0..workers).map(|_| Lease::new(quota.clone())).collect();
            let mut conns = vec![0u32; workers];
            for (worker, action) in steps {
                let worker = worker % workers;
                let lease = &mut leases[worker];
                match action {
                    0..=4 => {
                        let may = lease.admits(limits);
                        let did = lease.open(limits, conns[worker], workers as u32);
                        prop_assert_eq!(may, did);
                        conns[worker] += u32::from(did);
                    }
                    5..=6 if conns[worker] > 0 => {
                        lease.close(workers as u32);
                        conns[worker] -= 1;
                    }
                    _ => lease.settle(workers as u32),
                }
                let open: u32 = conns.iter().sum();
                prop_assert!(open <= quota.leased());
                prop_assert!(quota.leased() <= upper);
            }
            for (lease, conns) in leases.iter_mut().zip(conns) {
                lease.release(conns);
            }
            prop_assert_eq!(quota.leased(), 0);
        }
    }
}
