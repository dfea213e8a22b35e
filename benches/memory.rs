//! Memory for each conn: what is reserved, and what is in use once the table is full.

use types::Proto;

use crate::bed::{BedConfig, reserved_bytes};
use crate::established::Conns;
use crate::lab::Lab;
use crate::report::Report;
use crate::traffic::Form;

/// Memory of this process that is really there, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a process has a status");
    let kib = |name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0 kB");
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0)
    };
    (kib("VmRSS:") + kib("HugetlbPages:")) * 1024
}

/// Reserved and resident bytes of each of `conns` conns, and what else they take besides the table.
pub fn measure(report: &mut Report, name: &str, (form, besides): (Form, &str), conns: u32) {
    let each = f64::from(conns);
    let config = BedConfig { form, ..BedConfig::new(conns) };
    let (table, ports) = reserved_bytes(&config);
    report.add(name, (table + ports) as f64 / each, "bytes");
    report.add(&format!("{name}/table"), table as f64 / each, "bytes");
    report.add(&format!("{name}/{besides}"), ports as f64 / each, "bytes");
    let before = resident();
    let mut lab = Lab::new(&config);
    let filled = Conns::open(&mut lab, Proto::Udp, conns);
    let grown = resident().saturating_sub(before).saturating_sub(filled.bytes());
    report.add(&format!("{name}/resident"), grown as f64 / each, "bytes");
}
