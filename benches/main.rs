//! The benchmarks: what a packet, a conn and its memory cost; see docs/benchmarks.md.
//!
//! One program. Without arguments it measures everything in this process; it also is the program
//! that runs under callgrind.
#![deny(unsafe_code)]

mod allocations;
mod bed;
mod callgrind;
mod established;
mod frame;
mod lab;
mod memif;
mod memory;
mod nat;
mod open_close;
mod plot;
mod probe;
mod report;
mod sessions;
mod stats;
mod traffic;

use std::path::PathBuf;

use clap::Parser;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use types::Proto;

use report::Report;
use traffic::Form;

#[global_allocator]
static ALLOCATOR: allocations::Counting = allocations::Counting;

/// Measures dpnat.
#[derive(Debug, Parser)]
struct Arguments {
    /// Fewer rounds, in about a minute
    #[arg(long)]
    quick: bool,
    /// Only results whose names begin so
    #[arg(long, default_value = "")]
    only: String,
    /// Where report.json, report.md and report.svg go
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// The CPU to measure on
    #[arg(long, default_value_t = 1)]
    cpu: u16,
    /// Do this work once, for callgrind
    #[arg(long, hide = true)]
    work: Option<String>,
    /// Be this process of the measurements over memif
    #[arg(long, hide = true)]
    serve: Option<String>,
    #[command(flatten)]
    orders: memif::Orders,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// The sizes at which packets are measured.
const SIZES: [(&str, u32); 3] = [("1k", 1_000), ("100k", 100_000), ("1M", 1_000_000)];

fn main() {
    let arguments = Arguments::parse();
    if let Some(work) = &arguments.work {
        callgrind::work(work);
        return;
    }
    if let Some(what) = &arguments.serve {
        memif::serve(what, &arguments.orders, arguments.cpu).expect("memif works");
        return;
    }
    let mut report = Report::default();
    let all = sched_getaffinity(None);
    bind(arguments.cpu);
    let wanted = |name: &str| name.starts_with(&arguments.only) || arguments.only.starts_with(name);
    let mut allocated = 0;
    for (proto, rows) in ESTABLISHED {
        for (size, conns) in SIZES {
            let rows: Vec<Row> = rows.iter().filter(|row| row.has(conns)).copied().collect();
            if rows.iter().any(|row| wanted(&format!("path/{}/{size}", row.name))) {
                allocated += established(&mut report, arguments.quick, (proto, &rows), size, conns);
            }
        }
    }
    if wanted("path/open-close-tcp") || wanted("path/open-close-snat-tcp") {
        allocated += open_close(&mut report, arguments.quick);
    }
    // The largest one takes more memory than most machines have to spare: only if it is named.
    let (largest, usual) = HOSTS.split_last().expect("there are some");
    for &hosts in usual {
        if wanted(&format!("path/snat44-sessions/{}", hosts * sessions::PORTS)) {
            sessions::measure(&mut report, hosts);
        }
    }
    if arguments.only == format!("path/snat44-sessions/{}", largest * sessions::PORTS) {
        sessions::measure(&mut report, *largest);
    }
    if wanted("path/allocations") {
        report.add("path/allocations", allocated as f64, "allocations");
    }
    if wanted("memory") {
        let (full_nat, snat) = ((Form::FullNat, "leases"), (Form::Snat, "mappings"));
        memory::measure(&mut report, "memory/ipv4", full_nat, 1_000_000);
        memory::measure(&mut report, "memory/snat44", snat, 1_000_000);
        let wide = (Form::FullNat66, "leases");
        memory::measure(&mut report, "memory/ipv6", wide, 1_000_000);
    }
    if wanted("instructions") {
        callgrind::measure(&mut report);
    }
    if wanted("memif") {
        // The processes choose their CPUs among those that they inherit.
        if let Ok(all) = &all {
            let _ = sched_setaffinity(None, all);
        }
        let seconds = if arguments.quick { 2 } else { 9 };
        if let Err(error) = memif::measure(&mut report, &SIZES, seconds, arguments.cpu) {
            eprintln!("memif: {error}");
        }
    }
    report.write(&arguments.out).expect("the report can be written");
    assert_eq!(allocated, 0, "the packet path has allocated");
}

/// Keeps this thread on one CPU, as a worker is.
fn bind(cpu: u16) {
    let mut set = CpuSet::new();
    set.set(cpu.into());
    if let Err(error) = sched_setaffinity(None, &set) {
        eprintln!("CPU {cpu}: {error}; measuring on any");
    }
}

/// What is measured of packets of established conns.
#[derive(Clone, Copy)]
struct Row {
    name: &'static str,
    form: Form,
    /// The row that it is compared with; none: the probe.
    baseline: Option<&'static str>,
}

impl Row {
    /// Whether it is measured at this size.
    fn has(&self, conns: u32) -> bool {
        !self.form.is_wide() || conns == SIZES[2].1
    }
}

const fn row(name: &'static str, form: Form, baseline: Option<&'static str>) -> Row {
    Row { name, form, baseline }
}

/// A protocol, and what is measured of it alternately.
const ESTABLISHED: [(Proto, &[Row]); 2] = [
    (
        Proto::Udp,
        &[
            row("fullnat44-udp", Form::FullNat, None),
            row("snat44-udp", Form::Snat, Some("fullnat44-udp")),
            row("snat44-4k-rules-udp", Form::SnatRules, Some("snat44-udp")),
            row("fullnat66-udp", Form::FullNat66, Some("fullnat44-udp")),
            row("nat64-udp", Form::Nat64, Some("fullnat44-udp")),
        ],
    ),
    (Proto::Tcp, &[row("fullnat44-tcp", Form::FullNat, None)]),
];
const FORMS: [Form; 3] = [Form::FullNat, Form::Snat, Form::SnatRules];
/// Hosts of the grid of sessions.
const HOSTS: [u32; 3] = [1_024, 16_384, 262_144];

fn established(
    report: &mut Report,
    quick: bool,
    (proto, rows): (Proto, &[Row]),
    size: &str,
    conns: u32,
) -> u64 {
    let (rounds, chunks) = if quick { (9, 256) } else { (31, 512) };
    let forms: Vec<Form> = rows.iter().map(|row| row.form).collect();
    let measured = established::measure(&forms, (proto, conns), rounds, chunks);
    let values = || rows.iter().zip(measured.paths.iter().map(|path| path.median()));
    for (row, value) in values() {
        let of = |name: &str| values().find(|(row, _)| row.name == name);
        let baseline = match row.baseline.and_then(of) {
            Some((row, value)) => (format!("path/{}/{size}", row.name), value),
            None => (format!("probe/two-lines/{size}"), measured.probe.median()),
        };
        let name = format!("path/{}/{size}", row.name);
        report.compare(&name, value, "ns", (baseline.0.as_str(), baseline.1));
    }
    measured.allocations
}

fn open_close(report: &mut Report, quick: bool) -> u64 {
    let (rounds, chunks) = if quick { (9, 64) } else { (31, 128) };
    let (size, conns) = SIZES[2];
    let [full_nat, snat, rules] = open_close::measure(FORMS, conns, rounds, chunks);
    let all = [
        ("open-close", full_nat.open_close.median(), snat.open_close.median()),
        ("open", full_nat.open.median(), snat.open.median()),
    ];
    for (what, value, snat) in all {
        let name = format!("path/{what}-tcp/{size}");
        report.add(&name, value, "ns");
        report.compare(&format!("path/{what}-snat-tcp/{size}"), snat, "ns", (&name, value));
    }
    let (name, value) = (format!("path/open-snat-tcp/{size}"), snat.open.median());
    let many = format!("path/open-snat-4k-rules-tcp/{size}");
    report.compare(&many, rules.open.median(), "ns", (&name, value));
    full_nat.allocations + snat.allocations + rules.allocations
}
