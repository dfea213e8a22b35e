//! What happens in a second, from two moments.

use std::time::Duration;

use types::{EthPortId, Verdict};

use crate::names::{Event, Source};
use crate::values::{Load, Values};

/// Traffic of an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct InterfaceRates {
    /// Packets received in a second.
    pub rx_packets_per_s: f64,
    /// Bits received in a second, without preamble, checksum and gap.
    pub rx_bits_per_s: f64,
    /// Packets sent in a second.
    pub tx_packets_per_s: f64,
    /// Bits sent in a second, without preamble, checksum and gap.
    pub tx_bits_per_s: f64,
}

/// Counters of a stretch of time, by the second.
#[derive(Clone, Debug)]
pub struct Rates {
    difference: Values,
    seconds: f64,
}

impl Rates {
    /// What happened from `earlier` to `later`, which lie `interval` apart. All rates are 0 if that is
    /// no time at all.
    pub fn between(earlier: &Values, later: &Values, interval: Duration) -> Self {
        Self { difference: later.since(earlier), seconds: interval.as_secs_f64() }
    }

    /// Packets that ended so.
    pub fn verdict(&self, verdict: Verdict) -> f64 {
        self.per_second(self.difference.verdict(verdict))
    }

    /// Packets that began so.
    pub fn source(&self, source: Source) -> f64 {
        self.per_second(self.difference.source(source))
    }

    /// How often this happened.
    pub fn event(&self, event: Event) -> f64 {
        self.per_second(self.difference.event(event))
    }

    /// Packets dropped, for whatever reason.
    pub fn dropped(&self) -> f64 {
        self.per_second(self.difference.dropped())
    }

    /// What passed an interface.
    pub fn interface(&self, iface: EthPortId) -> InterfaceRates {
        let counters = self.difference.interface(iface);
        InterfaceRates {
            rx_packets_per_s: self.per_second(counters.rx_packets),
            rx_bits_per_s: self.per_second(counters.rx_bytes) * 8.0,
            tx_packets_per_s: self.per_second(counters.tx_packets),
            tx_bits_per_s: self.per_second(counters.tx_bytes) * 8.0,
        }
    }

    /// How busy the worker was meanwhile.
    pub fn load(&self) -> Load {
        self.difference.load()
    }

    fn per_second(&self, count: u64) -> f64 {
        if self.seconds > 0.0 { count as f64 / self.seconds } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WorkerCounters;

    #[test]
    fn rates_are_by_the_second() {
        let mut worker = WorkerCounters::new(1);
        worker.ended(Verdict::Sent, 5);
        let earlier = worker.values().clone();
        worker.ended(Verdict::Sent, 10);
        worker.ended(Verdict::NoRoute, 1);
        worker.add(Event::Opened, 3);
        worker.began(Source::Received, 11);
        worker.received(EthPortId(0), 11, 1100);
        let rates = Rates::between(&earlier, worker.values(), Duration::from_millis(500));
        assert_eq!(rates.verdict(Verdict::Sent), 20.0);
        assert_eq!((rates.dropped(), rates.event(Event::Opened)), (2.0, 6.0));
        assert_eq!(rates.source(Source::Received), 22.0);
        assert_eq!(rates.interface(EthPortId(0)).rx_bits_per_s, 17600.0);
        assert_eq!(rates.load().loops, 0);
        let none = Rates::between(&earlier, worker.values(), Duration::ZERO);
        assert_eq!(none.verdict(Verdict::Sent), 0.0);
    }
}
