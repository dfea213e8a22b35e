//! Instructions: what a fixed number of packets costs, counted by callgrind and so always the same.

use std::path::Path;
use std::process::Command;

use types::Proto;

use crate::bed::BedConfig;
use crate::established::Conns;
use crate::lab::{CHUNK, Lab};
use crate::open_close::{CLOSED_MS, Churn};
use crate::report::Report;
use crate::traffic::{Form, Random};

/// Conns in the table; callgrind does not know caches, so few are enough.
const CONNS: u32 = 1_024;
/// Chunks of packets that are counted.
const CHUNKS: u32 = 16;
/// The function in which callgrind counts.
const COUNTED: &str = "*lab::counted_turns*";

/// What can be counted: its name, and how many things are counted.
const WORK: [(&str, &str, u32); 11] = [
    ("fullnat44-udp", "instructions", CHUNKS * CHUNK as u32),
    ("fullnat44-tcp", "instructions", CHUNKS * CHUNK as u32),
    ("fullnat66-udp", "instructions", CHUNKS * CHUNK as u32),
    ("nat64-udp", "instructions", CHUNKS * CHUNK as u32),
    ("open-tcp", "instructions", CHUNKS * CHUNK as u32),
    ("open-close-tcp", "instructions", CHUNKS * CHUNK as u32),
    ("snat44-udp", "instructions", CHUNKS * CHUNK as u32),
    ("snat44-4k-rules-udp", "instructions", CHUNKS * CHUNK as u32),
    ("open-snat-tcp", "instructions", CHUNKS * CHUNK as u32),
    ("open-snat-4k-rules-tcp", "instructions", CHUNKS * CHUNK as u32),
    ("open-close-snat-tcp", "instructions", CHUNKS * CHUNK as u32),
];

/// Does the work once.
pub fn work(what: &str) {
    let mut config = BedConfig::new(1 << 16);
    config.timeouts.tcp_closed_ms = CLOSED_MS;
    config.form = match what {
        "fullnat66-udp" => Form::FullNat66,
        "nat64-udp" => Form::Nat64,
        rules if rules.contains("4k-rules") => Form::SnatRules,
        snat if snat.contains("snat") => Form::Snat,
        _ => Form::FullNat,
    };
    let mut lab = Lab::new(&config);
    let mut random = Random::new();
    match what {
        "fullnat44-udp"
        | "fullnat44-tcp"
        | "fullnat66-udp"
        | "nat64-udp"
        | "snat44-udp"
        | "snat44-4k-rules-udp" => {
            let proto = if what.ends_with("udp") { Proto::Udp } else { Proto::Tcp };
            let conns = Conns::open(&mut lab, proto, CONNS);
            lab.counted = true;
            for _ in 0..CHUNKS {
                conns.put_chunk(&mut lab, &mut random);
                lab.run();
                lab.collect_checked();
            }
        }
        "open-tcp" | "open-snat-tcp" | "open-snat-4k-rules-tcp" => {
            let mut churn = Churn::beside(0);
            lab.counted = true;
            for _ in 0..CHUNKS {
                churn.open(&mut lab);
            }
        }
        _ => {
            let mut churn = Churn::beside(0);
            // With each chunk of conns goes the one before it, so that as many expire as open.
            churn.chunk(&mut lab);
            lab.counted = true;
            for _ in 0..CHUNKS {
                lab.pass_ms(CLOSED_MS + 1);
                churn.chunk(&mut lab);
            }
            let left = lab.worker.core.table.len();
            assert_eq!(left as usize, CHUNK, "all but the last chunk have expired");
        }
    }
    lab.all_through();
}

/// Counts everything by running this program under valgrind.
pub fn measure(report: &mut Report) {
    for (what, unit, count) in WORK {
        match counted(what) {
            Ok(all) => {
                let each = all as f64 / f64::from(count);
                report.add(&format!("instructions/{what}"), each, unit);
            }
            Err(error) => eprintln!("instructions/{what}: {error}"),
        }
    }
}

fn counted(what: &str) -> Result<u64, String> {
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let file = directory.path().join("callgrind.out");
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no"])
        .arg(format!("--toggle-collect={COUNTED}"))
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(program)
        .args(["--work", what])
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    total(&file).ok_or_else(|| "callgrind has counted nothing".to_owned())
}

fn total(file: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = |key| text.lines().find_map(|line| line.strip_prefix(key));
    line("summary:").or_else(|| line("totals:"))?.trim().parse().ok()
}
