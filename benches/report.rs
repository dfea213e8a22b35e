//! The results: told as they come, then written as JSON, as a table and as a plot.

use std::fmt::Write as _;
use std::path::Path;
use std::{fs, io};

use serde_json::{Value, json};

use crate::plot;

/// One result.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its name, which stays the same from version to version.
    pub name: String,
    /// The figure.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// What it is compared with, measured in the same run and in the same unit.
    pub baseline: Option<(String, f64)>,
}

impl Outcome {
    /// The figure in terms of the baseline's.
    pub fn ratio(&self) -> Option<f64> {
        self.baseline.as_ref().map(|(_, baseline)| self.value / baseline)
    }

    fn to_json(&self) -> Value {
        let baseline = self
            .baseline
            .as_ref()
            .map(|(name, value)| json!({ "name": name, "value": rounded(*value) }));
        json!({
            "name": self.name,
            "value": rounded(self.value),
            "unit": self.unit,
            "baseline": baseline,
            "ratio": self.ratio().map(rounded),
        })
    }
}

/// Four significant digits: more are not meant.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    let scale = 10f64.powi(3 - value.abs().log10().floor() as i32);
    (value * scale).round() / scale
}

/// All results of a run.
#[derive(Debug, Default)]
pub struct Report {
    /// In the order in which they came.
    pub outcomes: Vec<Outcome>,
}

impl Report {
    /// A result without a baseline.
    pub fn add(&mut self, name: &str, value: f64, unit: &'static str) {
        self.push(Outcome { name: name.to_owned(), value, unit, baseline: None });
    }

    /// A result beside its baseline.
    pub fn compare(&mut self, name: &str, value: f64, unit: &'static str, baseline: (&str, f64)) {
        let baseline = Some((baseline.0.to_owned(), baseline.1));
        self.push(Outcome { name: name.to_owned(), value, unit, baseline });
    }

    fn push(&mut self, outcome: Outcome) {
        let Outcome { name, value, unit, .. } = &outcome;
        print!("{name:<32} {:>9} {unit}", rounded(*value));
        if let (Some((name, value)), Some(ratio)) = (&outcome.baseline, outcome.ratio()) {
            print!("   {name} {}, ratio {ratio:.2}", rounded(*value));
        }
        println!();
        self.outcomes.push(outcome);
    }

    /// Writes `report.json`, `report.md` and `report.svg`.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        fs::create_dir_all(directory)?;
        let machine = machine();
        let results: Vec<_> = self.outcomes.iter().map(Outcome::to_json).collect();
        let text = json!({ "machine": machine, "results": results });
        fs::write(directory.join("report.json"), format!("{text:#}\n"))?;
        fs::write(directory.join("report.md"), self.table(&machine))?;
        fs::write(directory.join("report.svg"), plot::svg(&self.outcomes))
    }

    fn table(&self, machine: &str) -> String {
        let mut text = format!("{machine}\n\n| result | value | unit | baseline | ratio |\n");
        text.push_str("|---|---:|---|---|---:|\n");
        for outcome in &self.outcomes {
            let (name, value, unit) = (&outcome.name, rounded(outcome.value), outcome.unit);
            let baseline = outcome
                .baseline
                .as_ref()
                .map_or(String::new(), |(name, value)| format!("`{name}` {}", rounded(*value)));
            let ratio = outcome.ratio().map_or(String::new(), |ratio| format!("{ratio:.2}"));
            // Writing to a string cannot fail.
            let _ = writeln!(text, "| `{name}` | {value} | {unit} | {baseline} | {ratio} |");
        }
        text
    }
}

/// What it ran on, in one line.
fn machine() -> String {
    let read = |file| fs::read_to_string(file).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown CPU", |(_, model)| model);
    let cpus = cpu.lines().filter(|line| line.starts_with("processor")).count();
    let ghz = arch::tsc_hz() as f64 / 1e9;
    let memory = read("/proc/meminfo");
    let memory = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or("0 kB");
    let gib =
        memory.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) / (1 << 20) as f64;
    let huge = read("/proc/sys/vm/nr_hugepages");
    let kernel = read("/proc/sys/kernel/osrelease");
    let dpdk = dpdk::version();
    format!(
        "{model}, {cpus} CPUs, counter {ghz:.2} GHz, {gib:.0} GiB, {} huge pages of 2 MiB, Linux {}, {dpdk}",
        huge.trim(),
        kernel.trim(),
    )
}
