//! Whether the CPUs that workers are to run on are there, and may be used.

use std::ops::RangeInclusive;

use config::CpuSet;

/// # Errors
/// If a CPU does not exist or this process may not run on it; those that it may are named.
pub fn check(wanted: &CpuSet) -> Result<(), String> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let status = read("/proc/self/status");
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    compare(wanted, &read("/sys/devices/system/cpu/online"), allowed.unwrap_or_default())
}

/// `online` and `allowed` as the kernel writes them, `0-3,8`; what cannot be read forbids nothing.
fn compare(wanted: &CpuSet, online: &str, allowed: &str) -> Result<(), String> {
    let (there, may) = (ranges(online), ranges(allowed));
    let has = |ranges: &[RangeInclusive<u16>], cpu| {
        ranges.is_empty() || ranges.iter().any(|range| range.contains(cpu))
    };
    let names = |cpus: Vec<&u16>| {
        let list: Vec<_> = cpus.iter().map(|cpu| cpu.to_string()).collect();
        let (noun, verb) = if list.len() == 1 { ("CPU", "is") } else { ("CPUs", "are") };
        format!("workers.cpus: {noun} {} {verb}", list.join(", "))
    };
    let absent: Vec<_> = wanted.cpus().iter().filter(|cpu| !has(&there, cpu)).collect();
    if !absent.is_empty() {
        return Err(format!("{} not there; there are {}", names(absent), online.trim()));
    }
    let forbidden: Vec<_> = wanted.cpus().iter().filter(|cpu| !has(&may, cpu)).collect();
    if !forbidden.is_empty() {
        return Err(format!(
            "{} not allowed by the affinity of this process (taskset, cgroup); allowed are {}",
            names(forbidden),
            allowed.trim()
        ));
    }
    Ok(())
}

fn ranges(text: &str) -> Vec<RangeInclusive<u16>> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
    };
    text.split(',').filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_that_cannot_be_are_named_with_those_that_can() {
        let refused = |cpus: &str, online, allowed| {
            compare(&cpus.parse().unwrap(), online, allowed).unwrap_err()
        };
        assert_eq!(compare(&"1-3,8".parse().unwrap(), "0-3,8\n", "\t1-8\n"), Ok(()));
        assert_eq!(compare(&"1-3,8".parse().unwrap(), "", ""), Ok(()));
        assert_eq!(
            refused("1,4-5", "0-3\n", "\t0-3\n"),
            "workers.cpus: CPUs 4, 5 are not there; there are 0-3"
        );
        assert_eq!(
            refused("1-2", "0-3\n", "\t0,2-3\n"),
            "workers.cpus: CPU 1 is not allowed by the affinity of this process (taskset, cgroup); \
             allowed are 0,2-3"
        );
    }
}
