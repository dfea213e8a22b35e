//! The numbers themselves, added up and subtracted.

use types::{BURST_MAX, EthPortId, Verdict};

use crate::names::{Event, Gauge, Source};

/// Bursts are counted by size: 1, 2 to 3, 4 to 7 and so on up to [`BURST_MAX`].
pub const BURST_BUCKETS: usize = BURST_MAX.ilog2() as usize + 1;

const SOURCES: usize = Verdict::COUNT;
const EVENTS: usize = SOURCES + Source::COUNT;
const LOOPS: usize = EVENTS + Event::COUNT;
const BUSY_LOOPS: usize = LOOPS + 1;
const LOOP_TSC: usize = LOOPS + 2;
const BUSY_TSC: usize = LOOPS + 3;
const BURSTS: usize = LOOPS + 4;
/// What lies below only grows.
const GAUGES: usize = BURSTS + BURST_BUCKETS;
const MAX_LOOP_TSC: usize = GAUGES + Gauge::COUNT;
pub(crate) const FIXED: usize = MAX_LOOP_TSC + 1;

/// How many numbers an interface has.
pub(crate) const PER_INTERFACE: usize = 4;

/// What passed an interface, as one worker or all of them saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterfaceCounters {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received, from Ethernet header to payload.
    pub rx_bytes: u64,
    /// Packets that the NIC took.
    pub tx_packets: u64,
    /// Bytes that the NIC took.
    pub tx_bytes: u64,
}

impl InterfaceCounters {
    pub(crate) const fn to_array(self) -> [u64; PER_INTERFACE] {
        [self.rx_packets, self.rx_bytes, self.tx_packets, self.tx_bytes]
    }

    pub(crate) const fn from_array(array: [u64; PER_INTERFACE]) -> Self {
        let [rx_packets, rx_bytes, tx_packets, tx_bytes] = array;
        Self { rx_packets, rx_bytes, tx_packets, tx_bytes }
    }

    fn zip(self, other: Self, f: impl Fn(u64, u64) -> u64) -> Self {
        let (a, b) = (self.to_array(), other.to_array());
        let mut both = [0; PER_INTERFACE];
        for (both, (a, b)) in both.iter_mut().zip(a.into_iter().zip(b)) {
            *both = f(a, b);
        }
        Self::from_array(both)
    }
}

/// How busy a worker is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Turns of the loop.
    pub loops: u64,
    /// Turns that found something to do.
    pub busy_loops: u64,
    /// Cycles of all turns.
    pub loop_tsc: u64,
    /// Cycles of the busy turns.
    pub busy_tsc: u64,
    /// The longest turn since the start, in cycles; of several workers the longest of all.
    pub max_loop_tsc: u64,
    /// Bursts that were not empty, by the binary logarithm of their size.
    pub bursts: [u64; BURST_BUCKETS],
}

impl Load {
    /// The share of busy cycles, 0 to 1.
    pub fn busy(&self) -> f64 {
        if self.loop_tsc == 0 { 0.0 } else { self.busy_tsc as f64 / self.loop_tsc as f64 }
    }
}

/// All counters of one worker, or of several added up, at one moment or over some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Values {
    pub(crate) fixed: [u64; FIXED],
    pub(crate) interfaces: Box<[InterfaceCounters]>,
}

impl Values {
    /// All zero, for interfaces numbered below `interfaces`.
    pub fn new(interfaces: usize) -> Self {
        Self {
            fixed: [0; FIXED],
            interfaces: vec![InterfaceCounters::default(); interfaces].into(),
        }
    }

    /// Packets that ended so.
    pub fn verdict(&self, verdict: Verdict) -> u64 {
        self.fixed(verdict as usize)
    }

    /// Packets that began so.
    pub fn source(&self, source: Source) -> u64 {
        self.fixed(SOURCES + source as usize)
    }

    /// How often this happened.
    pub fn event(&self, event: Event) -> u64 {
        self.fixed(EVENTS + event as usize)
    }

    /// How many there are.
    pub fn gauge(&self, gauge: Gauge) -> u64 {
        self.fixed(GAUGES + gauge as usize)
    }

    /// What passed an interface; zeros for an unknown one.
    pub fn interface(&self, iface: EthPortId) -> InterfaceCounters {
        self.interfaces.get(usize::from(iface.0)).copied().unwrap_or_default()
    }

    /// The interfaces, by number.
    pub fn interfaces(&self) -> &[InterfaceCounters] {
        &self.interfaces
    }

    /// How busy the worker was.
    pub fn load(&self) -> Load {
        let mut bursts = [0; BURST_BUCKETS];
        for (bucket, bursts) in bursts.iter_mut().enumerate() {
            *bursts = self.fixed(BURSTS + bucket);
        }
        Load {
            loops: self.fixed(LOOPS),
            busy_loops: self.fixed(BUSY_LOOPS),
            loop_tsc: self.fixed(LOOP_TSC),
            busy_tsc: self.fixed(BUSY_TSC),
            max_loop_tsc: self.fixed(MAX_LOOP_TSC),
            bursts,
        }
    }

    /// Packets dropped, for whatever reason.
    pub fn dropped(&self) -> u64 {
        let drops = Verdict::ALL.iter().filter(|verdict| verdict.is_drop());
        drops.map(|verdict| self.verdict(*verdict)).sum()
    }

    /// Adds another worker's, of the same moment.
    pub fn merge(&mut self, other: &Self) {
        for (index, (mine, theirs)) in self.fixed.iter_mut().zip(other.fixed).enumerate() {
            *mine =
                if index == MAX_LOOP_TSC { (*mine).max(theirs) } else { mine.wrapping_add(theirs) };
        }
        if self.interfaces.len() < other.interfaces.len() {
            let mut longer = other.interfaces.clone();
            std::mem::swap(&mut self.interfaces, &mut longer);
            self.merge_interfaces(&longer);
        } else {
            self.merge_interfaces(&other.interfaces);
        }
    }

    fn merge_interfaces(&mut self, others: &[InterfaceCounters]) {
        for (mine, theirs) in self.interfaces.iter_mut().zip(others) {
            *mine = mine.zip(*theirs, u64::wrapping_add);
        }
    }

    /// What was counted since `earlier`; gauges and the longest turn stay as they are now.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut difference = self.clone();
        for (index, (now, then)) in difference.fixed.iter_mut().zip(earlier.fixed).enumerate() {
            if index < GAUGES {
                *now = now.wrapping_sub(then);
            }
        }
        for (now, then) in difference.interfaces.iter_mut().zip(&earlier.interfaces) {
            *now = now.zip(*then, u64::wrapping_sub);
        }
        difference
    }

    fn fixed(&self, index: usize) -> u64 {
        self.fixed.get(index).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn add(&mut self, index: usize, n: u64) {
        if let Some(cell) = self.fixed.get_mut(index) {
            *cell = cell.wrapping_add(n);
        }
    }

    #[inline(always)]
    pub(crate) fn add_verdict(&mut self, verdict: Verdict, n: u64) {
        self.add(verdict as usize, n);
    }

    #[inline(always)]
    pub(crate) fn add_source(&mut self, source: Source, n: u64) {
        self.add(SOURCES + source as usize, n);
    }

    #[inline(always)]
    pub(crate) fn add_event(&mut self, event: Event, n: u64) {
        self.add(EVENTS + event as usize, n);
    }

    #[inline(always)]
    pub(crate) fn set_gauge(&mut self, gauge: Gauge, n: u64) {
        if let Some(cell) = self.fixed.get_mut(GAUGES + gauge as usize) {
            *cell = n;
        }
    }

    #[inline(always)]
    pub(crate) fn add_loop(&mut self, busy: bool, tsc: u64) {
        self.add(LOOPS, 1);
        self.add(LOOP_TSC, tsc);
        if busy {
            self.add(BUSY_LOOPS, 1);
            self.add(BUSY_TSC, tsc);
        }
        if let Some(longest) = self.fixed.get_mut(MAX_LOOP_TSC) {
            *longest = tsc.max(*longest);
        }
    }

    #[inline(always)]
    pub(crate) fn add_burst(&mut self, packets: usize) {
        if packets != 0 {
            self.add(BURSTS + (packets.ilog2() as usize).min(BURST_BUCKETS - 1), 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values() -> impl Strategy<Value = Values> {
        let numbers = proptest::collection::vec(0u64..1 << 40, FIXED);
        let interfaces = proptest::collection::vec(any::<[u32; PER_INTERFACE]>(), 0..4);
        (numbers, interfaces).prop_map(|(numbers, interfaces)| Values {
            fixed: numbers.try_into().unwrap(),
            interfaces: interfaces
                .into_iter()
                .map(|array| InterfaceCounters::from_array(array.map(u64::from)))
                .collect(),
        })
    }

    proptest! {
        #[test]
        fn order_of_merging_does_not_matter(a in values(), b in values(), c in values()) {
            let merged = |list: [&Values; 3]| {
                let mut sum = Values::new(0);
                list.into_iter().for_each(|values| sum.merge(values));
                sum
            };
            prop_assert_eq!(merged([&a, &b, &c]), merged([&c, &a, &b]));
        }

        #[test]
        fn a_difference_is_what_was_added(a in values(), mut b in values()) {
            b.interfaces = a.interfaces.clone();
            let mut later = a.clone();
            later.merge(&b);
            let difference = later.since(&a);
            for verdict in Verdict::ALL {
                prop_assert_eq!(difference.verdict(*verdict), b.verdict(*verdict));
            }
            for event in Event::ALL {
                prop_assert_eq!(difference.event(*event), b.event(*event));
            }
            for gauge in Gauge::ALL {
                prop_assert_eq!(difference.gauge(*gauge), later.gauge(*gauge));
            }
            prop_assert_eq!(difference.interfaces(), b.interfaces());
            prop_assert_eq!(difference.load().bursts, b.load().bursts);
            prop_assert_eq!(difference.load().max_loop_tsc, later.load().max_loop_tsc);
        }
    }
}
