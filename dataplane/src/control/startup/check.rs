//! The memory that a configuration asks for, and whether there is so much.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use config::Config;
use flow::FlowTable;
use pool::LeaseConfig;
use pool::wan::AddressPorts;
use types::ClassSet;

use crate::control::compile::{Sizes, WideSizes, has_gateway, has_ipv6_service};

/// One line of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    what: &'static str,
    /// In bytes.
    each: u64,
    /// How many there are.
    count: u64,
}

/// The memory that a configuration reserves. Tables are reserved whole and touched as they fill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    parts: Vec<Part>,
    /// For all workers, in bytes.
    tables: u64,
    /// For DPDK, in bytes.
    dpdk: u64,
}

impl MemoryPlan {
    /// The plan of a configuration.
    pub fn new(config: &Config) -> Self {
        let max_connections = config.conntrack.max_connections;
        let workers = config.workers.cpus.len() as u64;
        let table = FlowTable::<u32>::plan(max_connections);
        let leases = pool::plan::<u32>(&LeaseConfig::new(max_connections, [0; 2]));
        let part = |what, each| Part { what, each, count: workers };
        let mut parts = vec![
            part("flow table: index", table.index),
            part("flow table: flows", table.flows),
            part("flow table: cold parts", table.cold),
            part("leases of LIP ports", leases.total_bytes() as u64),
        ];
        if has_ipv6_service(config) {
            let (table, leases) = WideSizes::of(config).reserved_bytes();
            parts.push(part("IPv6: flow table", table));
            parts.push(part("IPv6: leases of LIP ports", leases));
        }
        if has_gateway(config) {
            let sizes = Sizes { max_connections, seed: [0; 2] };
            parts.push(part("NAT: mappings and ports", sizes.reserved_bytes()));
            // All workers together have all ports.
            let each = AddressPorts::bytes(ClassSet::ALL) as u64;
            let count = wan_addresses(config).len() as u64;
            parts.push(Part { what: "NAT: ports of a WAN IP", each, count });
        }
        let tables = parts.iter().map(|part| part.each.saturating_mul(part.count)).sum();
        Self { parts, tables, dpdk: config.memory.as_bytes() }
    }

    /// All of it, in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.tables.saturating_add(self.dpdk)
    }

    /// What is missing of `available` bytes, with the way out.
    pub fn missing(&self, available: u64) -> Option<String> {
        let missing = self.total_bytes().checked_sub(available).filter(|missing| *missing > 0)?;
        Some(format!(
            "{} more memory would be needed: the plan is {}, there are {}; lower \
             conntrack.max_connections or memory",
            Mib(missing),
            Mib(self.total_bytes()),
            Mib(available)
        ))
    }
}

/// The WAN IPs that the configuration names.
fn wan_addresses(config: &Config) -> BTreeSet<IpAddr> {
    let rules = config.snat.iter().flat_map(|(_, rule)| config.wan_ranges(rule));
    let pools = rules.flat_map(|range| range.addresses());
    pools.chain(config.dnat.values().map(|rule| rule.on.address)).collect()
}

/// Bytes in MiB, rounded up.
struct Mib(u64);

impl fmt::Display for Mib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{} MiB", self.0.div_ceil(1 << 20)))
    }
}

impl fmt::Display for MemoryPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<28} {:>14} {:>14}", "memory", "each worker", "total")?;
        for Part { what, each, count } in &self.parts {
            let total = each.saturating_mul(*count);
            writeln!(f, "{what:<28} {:>14} {:>14}", Mib(*each), Mib(total))?;
        }
        writeln!(f, "{:<28} {:>14} {:>14}", "tables, all", "", Mib(self.tables))?;
        writeln!(f, "{:<28} {:>14} {:>14}", "DPDK: buffers and rings", "", Mib(self.dpdk))?;
        writeln!(f, "{:<28} {:>14} {:>14}", "all", "", Mib(self.total_bytes()))
    }
}

/// The machine's memory in bytes, huge pages included: all, and what is free now.
pub fn available_bytes() -> Option<(u64, u64)> {
    parse_meminfo(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

fn parse_meminfo(text: &str) -> Option<(u64, u64)> {
    let value = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let huge = value("HugePages_Free").unwrap_or(0) * value("Hugepagesize").unwrap_or(0);
    Some((value("MemTotal")? << 10, (value("MemAvailable")? + huge) << 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_grows_with_workers_and_conns() {
        let mut config = Config::default();
        config.conntrack.max_connections = 1000;
        let small = MemoryPlan::new(&config);
        config.conntrack.max_connections = 1_000_000;
        let large = MemoryPlan::new(&config);
        assert!(large.tables > 100 * small.tables);
        config.workers.cpus = "1-4".parse().unwrap();
        assert_eq!(MemoryPlan::new(&config).tables, 4 * large.tables);
        assert_eq!(large.dpdk, 512 << 20);
        let text = large.to_string();
        assert!(text.contains("flow table: flows") && text.contains("512 MiB"), "{text}");
        assert!(!text.contains("NAT:"), "{text}");
        let rule = "version: 1\nsnat: { all: { wan_addresses: [ 203.0.113.20-203.0.113.23 ] } }";
        let mut config = config::parse(rule).unwrap();
        config.conntrack.max_connections = 1_000_000;
        let gateway = MemoryPlan::new(&config);
        let text = gateway.to_string();
        assert!(text.contains("NAT: mappings and ports"), "{text}");
        let wans = gateway.parts.last().unwrap();
        assert_eq!((wans.what, wans.count), ("NAT: ports of a WAN IP", 4));
        let missing = large.missing(1 << 20).unwrap();
        assert!(missing.contains("more memory would be needed"), "{missing}");
        assert_eq!(large.missing(u64::MAX), None);
    }

    #[test]
    fn meminfo_is_read() {
        let text = "MemTotal: 4096 kB\nMemFree: 1 kB\nMemAvailable: 2048 kB\n\
                    HugePages_Free: 2\nHugepagesize: 2048 kB\n";
        assert_eq!(parse_meminfo(text), Some((4096 << 10, (2048 + 4096) << 10)));
        assert_eq!(parse_meminfo(""), None);
    }
}
