//! What a worker counts into.

use std::sync::Arc;

use types::{EthPortId, Verdict};

use crate::names::{Event, Gauge, Source};
use crate::published::Published;
use crate::values::Values;

/// A worker's own counters. Nobody else sees them before [`WorkerCounters::publish`].
#[derive(Debug)]
pub struct WorkerCounters {
    values: Values,
    published: Arc<Published>,
}

impl WorkerCounters {
    /// All zero, for interfaces numbered below `interfaces`; what concerns others is not counted.
    pub fn new(interfaces: usize) -> Self {
        Self { values: Values::new(interfaces), published: Arc::new(Published::new(interfaces)) }
    }

    /// Where other threads read.
    pub fn published(&self) -> Arc<Published> {
        Arc::clone(&self.published)
    }

    /// The numbers as they are now.
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// Packets begin: to be called for each that comes in or is made.
    #[inline(always)]
    pub fn began(&mut self, source: Source, packets: u64) {
        self.values.add_source(source, packets);
    }

    /// Packets end: to be called for each, once.
    #[inline(always)]
    pub fn ended(&mut self, verdict: Verdict, packets: u64) {
        self.values.add_verdict(verdict, packets);
    }

    /// Something happened `n` times.
    #[inline(always)]
    pub fn add(&mut self, event: Event, n: u64) {
        self.values.add_event(event, n);
    }

    /// There are now `n`.
    #[inline(always)]
    pub fn set(&mut self, gauge: Gauge, n: u64) {
        self.values.set_gauge(gauge, n);
    }

    /// Packets came from an interface; `bytes` without preamble and checksum.
    #[inline(always)]
    pub fn received(&mut self, iface: EthPortId, packets: u64, bytes: u64) {
        if let Some(counters) = self.values.interfaces.get_mut(usize::from(iface.0)) {
            counters.rx_packets = counters.rx_packets.wrapping_add(packets);
            counters.rx_bytes = counters.rx_bytes.wrapping_add(bytes);
        }
    }

    /// An interface took packets; `bytes` without preamble and checksum.
    #[inline(always)]
    pub fn sent(&mut self, iface: EthPortId, packets: u64, bytes: u64) {
        if let Some(counters) = self.values.interfaces.get_mut(usize::from(iface.0)) {
            counters.tx_packets = counters.tx_packets.wrapping_add(packets);
            counters.tx_bytes = counters.tx_bytes.wrapping_add(bytes);
        }
    }

    /// A turn of the loop is over, after so many cycles.
    #[inline(always)]
    pub fn looped(&mut self, busy: bool, tsc: u64) {
        self.values.add_loop(busy, tsc);
    }

    /// A queue or ring gave so many packets; 0 is not counted.
    #[inline(always)]
    pub fn burst(&mut self, packets: usize) {
        self.values.add_burst(packets);
    }

    /// Shows the numbers to other threads. Costs a store for each of them (about 80, and 4 for an
    /// interface): for once a millisecond, not for each burst.
    pub fn publish(&self) {
        self.published.write(&self.values);
    }
}
