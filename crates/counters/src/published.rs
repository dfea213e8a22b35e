//! Counters as one worker shows them to other threads.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::values::{FIXED, InterfaceCounters, PER_INTERFACE, Values};

/// How often a reader tries for a consistent view before it takes what it sees: the writer needs
/// less than a microsecond, so only a writer that lost its processor in the middle is met so often.
const ATTEMPTS: usize = 1000;

/// Two cache lines, as processors fetch them in pairs: no line is shared with another worker's.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line([AtomicU64; 16]);

/// A sequence lock around a copy of a worker's counters. The worker stores without waiting and
/// without a read-modify-write; readers try again if they met a store.
#[derive(Debug)]
pub struct Published {
    sequence: Line,
    cells: Box<[Line]>,
    interfaces: usize,
}

/// What a reader got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The numbers.
    pub values: Values,
    /// True if they are of one moment; false if the worker stood still in the middle of a store, so
    /// that sums over them (the ledger) may be off.
    pub consistent: bool,
}

impl Published {
    /// All zero, for interfaces numbered below `interfaces`.
    pub(crate) fn new(interfaces: usize) -> Self {
        let lines = (FIXED + interfaces * PER_INTERFACE).div_ceil(16);
        Self {
            sequence: Line::default(),
            cells: (0..lines).map(|_| Line::default()).collect(),
            interfaces,
        }
    }

    fn sequence(&self) -> &AtomicU64 {
        let [sequence, ..] = &self.sequence.0;
        sequence
    }

    fn cells(&self) -> impl Iterator<Item = &AtomicU64> {
        self.cells.iter().flat_map(|line| &line.0)
    }

    /// To be called by one thread only.
    pub(crate) fn write(&self, values: &Values) {
        let sequence = self.sequence().load(Ordering::Relaxed);
        self.sequence().store(sequence.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        let interfaces = values.interfaces.iter().flat_map(|counters| counters.to_array());
        for (cell, value) in self.cells().zip(values.fixed.iter().copied().chain(interfaces)) {
            cell.store(value, Ordering::Relaxed);
        }
        self.sequence().store(sequence.wrapping_add(2), Ordering::Release);
    }

    /// The numbers as last published.
    pub fn read(&self) -> Reading {
        let mut values = Values::new(self.interfaces);
        for _ in 0..ATTEMPTS {
            let before = self.sequence().load(Ordering::Acquire);
            self.copy(&mut values);
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && self.sequence().load(Ordering::Relaxed) == before {
                return Reading { values, consistent: true };
            }
            std::hint::spin_loop();
        }
        Reading { values, consistent: false }
    }

    fn copy(&self, values: &mut Values) {
        let mut cells = self.cells().map(|cell| cell.load(Ordering::Relaxed));
        for (value, cell) in values.fixed.iter_mut().zip(&mut cells) {
            *value = cell;
        }
        for counters in &mut values.interfaces {
            let array = std::array::from_fn(|_| cells.next().unwrap_or(0));
            *counters = InterfaceCounters::from_array(array);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use types::{EthPortId, Verdict};

    use super::*;
    use crate::{Event, Gauge, Source, WorkerCounters};

    #[test]
    fn what_is_counted_can_be_read_once_published() {
        let mut worker = WorkerCounters::new(3);
        let published = worker.published();
        worker.began(Source::Received, 10);
        worker.ended(Verdict::Sent, 7);
        worker.ended(Verdict::Internal, 3);
        worker.add(Event::IcmpErrorMade, 2);
        worker.set(Gauge::Leases, 4);
        worker.received(EthPortId(2), 10, 1000);
        worker.sent(EthPortId(1), 7, 700);
        worker.sent(EthPortId(3), 7, 700);
        worker.looped(true, 900);
        worker.looped(false, 100);
        for packets in [0, 1, 2, 3, 63, 64, 1000] {
            worker.burst(packets);
        }
        assert_eq!(published.read().values, Values::new(3));
        worker.publish();
        let Reading { values, consistent } = published.read();
        assert!(consistent);
        assert_eq!(&values, worker.values());
        assert_eq!(values.source(Source::Received), 10);
        assert_eq!((values.verdict(Verdict::Sent), values.dropped()), (7, 3));
        assert_eq!((values.event(Event::IcmpErrorMade), values.gauge(Gauge::Leases)), (2, 4));
        assert_eq!(values.interface(EthPortId(2)).rx_bytes, 1000);
        assert_eq!(values.interface(EthPortId(1)).tx_packets, 7);
        assert_eq!(values.interface(EthPortId(3)), InterfaceCounters::default());
        let load = values.load();
        assert_eq!(load.bursts, [1, 2, 0, 0, 0, 1, 2]);
        assert_eq!((load.loops, load.busy_loops, load.max_loop_tsc), (2, 1, 900));
        assert!((load.busy() - 0.9).abs() < 1e-9);
    }

    #[test]
    fn a_reader_sees_one_moment() {
        let mut worker = WorkerCounters::new(1);
        let published = worker.published();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let (mut last, mut readings) = (0, 0);
                while !stop.load(Ordering::Relaxed) || readings == 0 {
                    let Reading { values, consistent } = published.read();
                    if !consistent {
                        continue;
                    }
                    let received = values.source(Source::Received);
                    assert_eq!(values.verdict(Verdict::Sent), received);
                    assert_eq!(values.interface(EthPortId(0)).tx_bytes, received);
                    assert!(received >= last);
                    (last, readings) = (received, readings + 1);
                }
                readings
            });
            for _ in 0..100_000 {
                worker.began(Source::Received, 1);
                worker.ended(Verdict::Sent, 1);
                worker.sent(EthPortId(0), 1, 1);
                worker.publish();
            }
            stop.store(true, Ordering::Relaxed);
            assert!(reader.join().unwrap() > 0);
        });
    }

    #[test]
    fn a_writer_that_stands_still_does_not_hold_up_readers() {
        let worker = WorkerCounters::new(1);
        let published = worker.published();
        published.sequence().store(1, Ordering::Relaxed);
        assert!(!published.read().consistent);
    }
}
