//! What rules ask, as sets.

use std::ops::RangeInclusive;

use types::EthPortId;

/// A set of numbers: intervals in order that neither overlap nor touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spans(Vec<(u32, u32)>);

impl Spans {
    /// The union of ranges; everything up to `max` if there is none.
    pub(super) fn of(ranges: &[RangeInclusive<u32>], max: u32) -> Self {
        if ranges.is_empty() {
            return Self(vec![(0, max)]);
        }
        let mut spans: Vec<(u32, u32)> =
            ranges.iter().filter(|r| !r.is_empty()).map(|r| (*r.start(), *r.end())).collect();
        spans.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::with_capacity(spans.len());
        for (first, last) in spans {
            match merged.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => {
                    before.1 = before.1.max(last);
                }
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }

    pub(super) fn as_slice(&self) -> &[(u32, u32)] {
        &self.0
    }

    fn and(&self, other: &Self) -> Self {
        let mut common = Vec::new();
        for &(first, last) in &self.0 {
            let start = other.0.partition_point(|span| span.1 < first);
            let overlapping = other.0.iter().skip(start).take_while(|span| span.0 <= last);
            common.extend(overlapping.map(|span| (first.max(span.0), last.min(span.1))));
        }
        Self(common)
    }
}

/// What one rule or exception asks. Interfaces: `None` is none at all, `Some(None)` any.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    pub(super) sources: Spans,
    pub(super) destinations: Spans,
    pub(super) source_ports: Spans,
    pub(super) destination_ports: Spans,
    pub(super) protocols: [u128; 2],
    pub(super) in_dev: Option<Option<EthPortId>>,
    pub(super) out_dev: Option<Option<EthPortId>>,
}

type Device = Option<Option<EthPortId>>;

fn both(one: Device, other: Device) -> Device {
    match (one?, other?) {
        (None, any) | (any, None) => Some(any),
        (Some(one), Some(other)) => (one == other).then_some(Some(one)),
    }
}

impl Parts {
    pub(super) fn and(&self, other: &Self) -> Self {
        let ([a, b], [c, d]) = (self.protocols, other.protocols);
        Self {
            sources: self.sources.and(&other.sources),
            destinations: self.destinations.and(&other.destinations),
            source_ports: self.source_ports.and(&other.source_ports),
            destination_ports: self.destination_ports.and(&other.destination_ports),
            protocols: [a & c, b & d],
            in_dev: both(self.in_dev, other.in_dev),
            out_dev: both(self.out_dev, other.out_dev),
        }
    }

    pub(super) fn has_protocol(&self, proto: usize) -> bool {
        let half = self.protocols.get(proto / 128).copied().unwrap_or(0);
        half >> (proto % 128) & 1 != 0
    }
}
