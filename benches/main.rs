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
mod open_close;
mod plot;
mod probe;
mod report;
mod stats;
mod traffic;

use std::path::PathBuf;

use clap::Parser;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use types::Proto;

use report::Report;

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
    for (proto, name) in [(Proto::Udp, "fullnat44-udp"), (Proto::Tcp, "fullnat44-tcp")] {
        for (size, conns) in SIZES {
            if wanted(&format!("path/{name}/{size}")) {
                allocated += established(&mut report, arguments.quick, proto, (name, size), conns);
            }
        }
    }
    if wanted("path/open-close-tcp") {
        allocated += open_close(&mut report, arguments.quick);
    }
    if wanted("path/allocations") {
        report.add("path/allocations", allocated as f64, "allocations");
    }
    if wanted("memory") {
        memory::measure(&mut report, 1_000_000);
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

fn established(
    report: &mut Report,
    quick: bool,
    proto: Proto,
    (name, size): (&str, &str),
    conns: u32,
) -> u64 {
    let (rounds, chunks) = if quick { (9, 256) } else { (31, 512) };
    let mut lab = established::lab_for(conns);
    let filled = established::Conns::open(&mut lab, proto, conns);
    let measured = filled.measure(&mut lab, rounds, chunks);
    let probe = format!("probe/two-lines/{size}");
    let baseline = (probe.as_str(), measured.probe.median());
    report.compare(&format!("path/{name}/{size}"), measured.path.median(), "ns", baseline);
    measured.allocations
}

fn open_close(report: &mut Report, quick: bool) -> u64 {
    let (rounds, chunks) = if quick { (9, 64) } else { (31, 128) };
    let (size, conns) = SIZES[2];
    let mut lab = open_close::lab_for(conns);
    let measured = open_close::measure(&mut lab, conns, rounds, chunks);
    report.add(&format!("path/open-close-tcp/{size}"), measured.open_close.median(), "ns");
    report.add(&format!("path/open-tcp/{size}"), measured.open.median(), "ns");
    measured.allocations
}
