//! Every packet ends once: the equation that is checked after each run.

use std::fmt;

use types::Verdict;

use crate::names::{Gauge, Source};
use crate::values::Values;

/// Both sides of *received + generated + from rings + from kernel = sent + dropped + punted + answered +
/// handed + held*. A request that becomes its own reply counts as answered, and the reply as generated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// From NICs.
    pub received: u64,
    /// Made by us.
    pub generated: u64,
    /// From other workers.
    pub from_rings: u64,
    /// From the kernel.
    pub from_kernel: u64,
    /// Taken by NICs.
    pub sent: u64,
    /// Dropped, for all reasons together.
    pub dropped: u64,
    /// Given to control or the kernel interface.
    pub punted: u64,
    /// Ended with a reply of ours.
    pub answered: u64,
    /// Given to other workers.
    pub handed: u64,
    /// Waiting at the moment.
    pub held: u64,
}

impl Ledger {
    /// The ledger of these counters. They must count from the start: of a difference of two moments
    /// the packets held at the earlier one are missing.
    pub fn of(values: &Values) -> Self {
        Self {
            received: values.source(Source::Received),
            generated: values.source(Source::Generated),
            from_rings: values.source(Source::FromRing),
            from_kernel: values.source(Source::FromKernel),
            sent: values.verdict(Verdict::Sent),
            dropped: values.dropped(),
            punted: values.verdict(Verdict::Punted),
            answered: values.verdict(Verdict::Answered),
            handed: values.verdict(Verdict::Handed),
            held: values.gauge(Gauge::Held),
        }
    }

    /// Packets that came in and did not end (above 0), or ended more than once (below): 0.
    pub const fn difference(&self) -> i128 {
        let began = self.received as i128
            + self.generated as i128
            + self.from_rings as i128
            + self.from_kernel as i128;
        let ended = self.sent as i128
            + self.dropped as i128
            + self.punted as i128
            + self.answered as i128
            + self.handed as i128
            + self.held as i128;
        began - ended
    }

    /// Packets between workers, of counters of all workers together.
    pub const fn in_rings(&self) -> u64 {
        self.handed.saturating_sub(self.from_rings)
    }

    /// True if nothing is missing and nothing too much.
    pub const fn closes(&self) -> bool {
        self.difference() == 0
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { received, generated, from_rings, from_kernel, .. } = self;
        let Self { sent, dropped, punted, answered, handed, held, .. } = self;
        write!(f, "received {received} + generated {generated} + from rings {from_rings}")?;
        write!(f, " + from kernel {from_kernel} = ")?;
        write!(f, "sent {sent} + dropped {dropped} + punted {punted} + answered {answered}")?;
        write!(f, " + handed {handed} + held {held}")?;
        match self.difference() {
            0 => Ok(()),
            difference => write!(f, ", off by {difference}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WorkerCounters;

    #[test]
    fn closes_whatever_the_verdicts() {
        let mut worker = WorkerCounters::new(0);
        for (n, verdict) in (1u64..).zip(Verdict::ALL) {
            worker.began(Source::ALL[n as usize % Source::COUNT], n);
            worker.ended(*verdict, n);
        }
        worker.began(Source::Received, 5);
        worker.set(Gauge::Held, 5);
        assert!(Ledger::of(worker.values()).closes());
        worker.ended(Verdict::NoRoute, 2);
        let ledger = Ledger::of(worker.values());
        assert_eq!(ledger.difference(), -2);
        assert!(ledger.to_string().ends_with("+ held 5, off by -2"), "{ledger}");
    }

    #[test]
    fn packets_in_rings_are_found_over_all_workers() {
        let (mut one, mut other) = (WorkerCounters::new(0), WorkerCounters::new(0));
        one.began(Source::Received, 10);
        one.ended(Verdict::Handed, 10);
        other.began(Source::FromRing, 7);
        other.ended(Verdict::Sent, 7);
        let mut all = one.values().clone();
        all.merge(other.values());
        let ledger = Ledger::of(&all);
        assert!(ledger.closes());
        assert_eq!(ledger.in_rings(), 3);
    }
}
