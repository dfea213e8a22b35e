//! Cycles to time, and what is said of several measurements of one thing.

/// Nanoseconds of so many cycles.
pub fn to_ns(cycles: f64) -> f64 {
    cycles * 1e9 / arch::tsc_hz() as f64
}

/// Measurements of one thing.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// One more.
    pub fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The mean without what was measured while another program had the CPU: at least a millisecond,
    /// and a chunk takes some 20 µs. What the worker does now and then is in it.
    pub fn undisturbed_mean(&self) -> f64 {
        const DISTURBED: f64 = 8.0;
        let most = DISTURBED * self.median();
        let (sum, count) = self
            .0
            .iter()
            .filter(|value| **value <= most)
            .fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
        sum / f64::from(count)
    }

    /// The median; NaN without any.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The value below which a share of them lies.
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let at = (share * sorted.len().saturating_sub(1) as f64).round() as usize;
        sorted.get(at).copied().unwrap_or(f64::NAN)
    }
}
