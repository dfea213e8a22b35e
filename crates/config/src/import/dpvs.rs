//! `dpvs.conf`: devices, workers, tables and times.

use super::output::{Yaml, quoted};
use super::tree::Node;
use super::{ImportError, Knowledge, Remarks};
use crate::keys;

/// Settings that nothing here needs: the block's name, the key's, and why.
const NOT_NEEDED: &[(&str, &str, &str)] = &[
    ("global_defs", "log_file", "the daemon logs to standard error or the journal"),
    ("global_defs", "log_with_timestamp", "every event has its time"),
    ("global_defs", "log_async_mode", "no packet waits for the log"),
    ("global_defs", "log_async_pool_size", "no packet waits for the log"),
    ("global_defs", "pdump", "`dpctl explain` and counters by reason show what becomes of packets"),
    ("global_defs", "kni", "an interface has a KNI if it is configured"),
    ("netif_defs", "pktpool_size", "buffers are counted by queues and rings"),
    ("netif_defs", "pktpool_cache", "DPDK's own value is taken"),
    ("netif_defs", "fdir_mode", "replies find their worker without Flow Director"),
    ("rx", "max_burst_size", "bursts are of a fixed size"),
    ("rx", "rss", "RSS is over addresses and ports wherever the NIC can do it"),
    ("tx", "max_burst_size", "bursts are of a fixed size"),
    ("tx", "queue_number", "every worker has a transmit queue of its own"),
    ("tx", "mbuf_fast_free", "it is used where it may be"),
    ("fdir", "mode", "replies find their worker without Flow Director"),
    ("fdir", "pballoc", "replies find their worker without Flow Director"),
    ("fdir", "status", "replies find their worker without Flow Director"),
    ("fdir", "filter", "replies find their worker without Flow Director"),
    ("device", "promisc_mode", "interfaces take what they need"),
    ("device", "allmulticast", "interfaces take what they need"),
    ("bonding", "numa_node", "memory is on the node of the workers"),
    ("worker", "port", "queue n of every interface is worker n's"),
    ("worker", "isol_rx_cpu_ids", "workers receive for themselves"),
    ("worker", "isol_rxq_ring_sz", "workers receive for themselves"),
    ("worker", "icmp_redirect_core", "ICMP errors go to the worker of their conn"),
    ("timer_defs", "schedule_interval", "conns expire from lists by state"),
    ("neigh_defs", "unres_queue_length", "the queue has a fixed length"),
    ("neigh_defs", "timeout", "neighbours are asked again as RFC 4861 says"),
    ("ipset_defs", "ipset_hash_pool_size", "there are no sets of addresses"),
    ("ipv4_defs", "default_ttl", "it is 64, as in DPVS"),
    ("ipv4_defs", "fragment", "fragments are followed in memory of fixed size"),
    ("ipv6_defs", "addr_gen_mode", "link-local addresses are made from the MAC address"),
    ("ipv6_defs", "stable_secret", "link-local addresses are made from the MAC address"),
    ("ipv6_defs", "route6", "routes of both families are in one table"),
    ("ctrl_defs", "lcore_msg", "workers are told by rings of fixed size"),
    ("ctrl_defs", "ipc_msg", "the control socket is set by `--socket` or DPNAT_SOCKET"),
    ("conn", "conn_pool_cache", "tables are reserved at start"),
    ("conn", "conn_init_timeout", "a conn's first state has a time of its own"),
    ("conn", "expire_quiescent_template", "persistence leaves servers that take no conns"),
    ("conn", "fast_xmit_close", "next hops are looked up once for each conn"),
    ("conn", "xmit_ttl", "the TTL is decremented, as RFC 1812 says"),
    ("conn", "redirect", "packets always find the worker of their conn"),
    ("tcp", "synproxy", "it is a setting of SYN proxies, which services ask for"),
    ("sa_pool", "pool_hash_size", "a port is free towards each server by itself"),
    ("sa_pool", "flow_enable", "replies find their worker without rules in the NIC"),
];

/// Blocks of blocks: what is in them is looked at by its own name.
const GROUPS: [&str; 13] = [
    "global_defs",
    "netif_defs",
    "worker_defs",
    "timer_defs",
    "neigh_defs",
    "ipset_defs",
    "ipv4_defs",
    "ipv6_defs",
    "ctrl_defs",
    "ipvs_defs",
    "conn",
    "udp",
    "tcp",
];

pub(super) fn import(
    nodes: &[Node],
    knowledge: &Knowledge,
    yaml: &mut Yaml,
    remarks: &mut Remarks,
) -> Result<(), ImportError> {
    let mut import = Import {
        knowledge,
        yaml,
        remarks,
        cpus: Vec::new(),
        pool: None,
        times: Times::default(),
        forwards: false,
    };
    for node in nodes {
        import.yaml.comments(&node.comments);
        import.group(node)?;
    }
    import.finish();
    Ok(())
}

/// A device or bond number n is the n-th; DPVS counts devices from 0.
fn placeholder(name: &str) -> String {
    let digits: String = name.chars().filter(char::is_ascii_digit).collect();
    let number = digits.parse::<u8>().unwrap_or(0);
    format!("0000:{number:02x}:00.0")
}

/// Idle times in seconds, as far as the file gives them.
#[derive(Debug, Default)]
struct Times {
    values: Vec<(&'static str, u64)>,
}

impl Times {
    /// Of several of DPVS's states that are one here, the longest counts.
    fn longest(&mut self, key: &'static str, seconds: u64) {
        match self.values.iter_mut().find(|(known, _)| *known == key) {
            Some((_, known)) => *known = seconds.max(*known),
            None => self.values.push((key, seconds)),
        }
    }
}

struct Import<'a> {
    knowledge: &'a Knowledge,
    yaml: &'a mut Yaml,
    remarks: &'a mut Remarks,
    /// CPUs of workers.
    cpus: Vec<u16>,
    /// Conns of all workers of a NUMA node.
    pool: Option<u64>,
    times: Times,
    forwards: bool,
}

impl Import<'_> {
    fn group(&mut self, node: &Node) -> Result<(), ImportError> {
        if node.block.is_none() {
            return Err(node.wrong(format!(
                "`{}`: expected a block such as `netif_defs {{ … }}`",
                node.name()
            )));
        }
        for child in node.children() {
            // These keep their comments beside what comes of them.
            if !matches!(child.name(), "device" | "bonding") {
                self.yaml.comments(&child.comments);
            }
            self.statement(node, child)?;
        }
        self.yaml.comments(&node.last_comments);
        Ok(())
    }

    fn statement(&mut self, parent: &Node, node: &Node) -> Result<(), ImportError> {
        let (block, key) = (parent.name(), node.name());
        let reason = NOT_NEEDED.iter().find(|(of, name, _)| (*of, *name) == (block, key));
        if let Some((.., why)) = reason {
            self.remarks.not_needed(&node.place, format!("{key}: {why}"));
            return Ok(());
        }
        match (block, key) {
            ("netif_defs", "device") => return self.device(node),
            ("netif_defs", "bonding") => return self.bond(node),
            ("worker_defs", "worker") => return self.worker(node),
            ("global_defs", "log_level") => self.log_level(node)?,
            ("conn", "conn_pool_size") => self.pool = Some(node.parsed("a number")?),
            ("tcp" | "udp", "timeout") => self.timeouts(block, node)?,
            ("ipv4_defs" | "ipv6_defs", "forwarding") => self.forwards |= on(node)?,
            ("global_defs", "lldp") => self.lost_if_on(node, "there is no LLDP")?,
            ("ipv6_defs", "disable") => {
                self.lost_if_on(node, "IPv6 is there where addresses of it are")?;
            }
            ("udp", "defence_udp_drop") | ("tcp", "defence_tcp_drop") => {
                self.lost_if_on(
                    node,
                    "what a VIP does not serve is answered, within a rate limit",
                )?;
            }
            ("udp", "uoa_mode") => {
                let why = "servers are not told the clients of UDP services";
                self.remarks.warn(&node.place, format!("{key}: {why}"));
            }
            ("udp", "uoa_max_trail") => {
                let number: u32 = node.parsed("a number")?;
                if number > 0 {
                    let why = "servers are not told the clients of UDP services";
                    self.remarks.warn(&node.place, format!("{key}: {why}"));
                }
            }
            (_, group) if GROUPS.contains(&group) && node.block.is_some() => {
                return self.group(node);
            }
            _ => {
                let message = format!("{key}: it is no key of `{block}` of DPVS 1.7 to 1.10");
                self.remarks.warn(&node.place, message);
            }
        }
        Ok(())
    }

    fn lost_if_on(&mut self, node: &Node, why: &str) -> Result<(), ImportError> {
        if on(node)? {
            self.remarks.warn(&node.place, format!("{}: {why}", node.name()));
        } else {
            self.remarks.not_needed(&node.place, format!("{}: it is off", node.name()));
        }
        Ok(())
    }

    fn log_level(&mut self, node: &Node) -> Result<(), ImportError> {
        let level = match node.needed("a level")? {
            "EMERG" | "ALERT" | "CRIT" | "ERR" | "ERROR" => "error",
            "WARNING" | "WARN" => "warn",
            "NOTICE" | "INFO" => "info",
            "DEBUG" => "debug",
            other => {
                let expected = "expected EMERG, ALERT, CRIT, ERR, WARNING, NOTICE, INFO or DEBUG";
                return Err(node.wrong(format!("`log_level {other}`: {expected}")));
            }
        };
        self.yaml.line("log", format!("level: {level}"));
        Ok(())
    }

    fn device(&mut self, node: &Node) -> Result<(), ImportError> {
        let name = node.needed("the name of a device")?;
        let mut fields = Vec::new();
        let mut comments = node.comments.clone();
        match self.knowledge.devices.get(name) {
            Some(device) if is_pci(device) => fields.push(format!("pci: \"{device}\"")),
            Some(device) => fields.push(format!("device: {}", quoted(device))),
            None => {
                comments.push(format!(
                    "`dpdk-devbind.py --status` has the PCI address of {name}; this one stands for it."
                ));
                fields.push(format!("pci: \"{}\"", placeholder(name)));
            }
        }
        for child in node.children() {
            match child.name() {
                "rx" | "tx" | "fdir" => {
                    for key in child.children() {
                        comments.extend(key.comments.iter().cloned());
                        self.queue(child, key, &mut fields)?;
                    }
                }
                "mtu" => fields.push(format!("mtu: {}", child.parsed::<u16>("a number of bytes")?)),
                "kni_name" => self.kni(child, &mut fields)?,
                _ => self.statement(node, child)?,
            }
            comments.extend(child.comments.iter().cloned());
            comments.extend(child.last_comments.iter().cloned());
        }
        comments.extend(node.last_comments.iter().cloned());
        let line = format!("{name}: {{ {} }}", fields.join(", "));
        self.yaml.add("interfaces", &comments, &[line]);
        Ok(())
    }

    fn queue(
        &mut self,
        block: &Node,
        key: &Node,
        fields: &mut Vec<String>,
    ) -> Result<(), ImportError> {
        match (block.name(), key.name()) {
            ("rx", "queue_number") => {
                let queues: u16 = key.parsed("a number of queues")?;
                // More than there are workers are of no use; `auto` is one for each.
                if queues > 0 && queues < 16 {
                    fields.push(format!("queues: {queues}"));
                } else {
                    self.remarks.not_needed(&key.place, "queue_number: each worker has a queue");
                }
            }
            (side @ ("rx" | "tx"), "descriptor_number") => {
                fields.push(format!("{side}_descriptors: {}", key.parsed::<u16>("a number")?));
            }
            _ => self.statement(block, key)?,
        }
        Ok(())
    }

    /// The name of the kernel's interface.
    fn kni(&mut self, node: &Node, fields: &mut Vec<String>) -> Result<(), ImportError> {
        let name = node.needed("the name of a kernel interface")?;
        if keys::key("interfaces.*.kni").is_some() {
            fields.push(format!("kni: {name}"));
        } else {
            let message = format!("kni_name {name}: this version has no kernel interfaces");
            self.remarks.warn(&node.place, message);
        }
        Ok(())
    }

    fn bond(&mut self, node: &Node) -> Result<(), ImportError> {
        let name = node.needed("the name of a bond")?;
        let (mut members, mut fields) = (Vec::new(), Vec::new());
        let mut comments = node.comments.clone();
        for child in node.children() {
            match child.name() {
                "mode" => {
                    let mode: u8 = child.parsed("a mode from 0 to 6")?;
                    if mode > 6 {
                        return Err(child.wrong(format!("`mode {mode}`: expected 0 to 6")));
                    }
                    fields.push(format!("mode: {mode}"));
                }
                "slave" => members.push(child.needed("the name of a device")?.to_owned()),
                "primary" => {
                    fields.push(format!("primary: {}", child.needed("the name of a device")?));
                }
                "kni_name" => {
                    let kni = child.needed("the name of a kernel interface")?;
                    fields.push(format!("kni: {kni}"));
                }
                "options" => {
                    let why = "LACP frames have a queue of their own where the NIC can do it";
                    self.remarks.not_needed(&child.place, format!("options: {why}"));
                }
                _ => self.statement(node, child)?,
            }
            comments.extend(child.comments.iter().cloned());
        }
        if members.is_empty() {
            return Err(node.wrong(format!("`bonding {name}`: expected `slave DEVICE`")));
        }
        fields.insert(0, format!("members: [ {} ]", members.join(", ")));
        let line = format!("{name}: {{ {} }}", fields.join(", "));
        if keys::key("bonds.*.members").is_some() {
            self.yaml.add("bonds", &comments, &[line]);
        } else {
            self.remarks.warn(&node.place, format!("bonding {name}: this version has no bonds"));
            self.yaml.comments(&comments);
            self.yaml.comments(&[format!("bonds: {{ {line} }}")]);
        }
        Ok(())
    }

    fn worker(&mut self, node: &Node) -> Result<(), ImportError> {
        let kind = node.child("type");
        let kind = kind.map_or(Ok("slave"), |node| node.needed("master, slave or kni"))?;
        let cpu = node.child("cpu_id").map(|cpu| cpu.parsed::<u16>("a number")).transpose()?;
        match (kind, cpu) {
            ("master", _) => {
                let why = "control runs on a CPU that no worker has";
                self.remarks.not_needed(&node.place, format!("worker of type master: {why}"));
            }
            ("kni", _) => {
                let why = "kernel interfaces are served by a thread of their own";
                self.remarks.not_needed(&node.place, format!("worker of type kni: {why}"));
            }
            ("slave", Some(cpu)) => self.cpus.push(cpu),
            ("slave", None) => return Err(node.wrong("a worker needs `cpu_id`")),
            (other, _) => {
                let message = format!("`type {other}`: expected master, slave or kni");
                return Err(node.wrong(message));
            }
        }
        for child in node.children() {
            if !matches!(child.name(), "type" | "cpu_id") {
                self.statement(node, child)?;
            }
            self.yaml.comments(&child.comments);
        }
        Ok(())
    }

    fn timeouts(&mut self, protocol: &str, node: &Node) -> Result<(), ImportError> {
        for child in node.children() {
            let seconds: u64 = child.parsed("a number of seconds")?;
            let key = match (protocol, child.name()) {
                ("tcp", "established") => "tcp_established",
                ("tcp", "syn_sent" | "syn_recv" | "synack") => "tcp_syn",
                ("tcp", "fin_wait" | "close_wait" | "last_ack") => "tcp_closing",
                ("tcp", "time_wait" | "close") => "tcp_closed",
                ("udp", "oneway") => "udp_oneway",
                ("udp", "normal") => "udp",
                ("tcp", "none" | "listen" | "last") | ("udp", "last") => {
                    let why = "no conn is in such a state";
                    self.remarks.not_needed(&child.place, format!("{}: {why}", child.name()));
                    continue;
                }
                (_, other) => {
                    let message = format!("{other}: it is no state of {protocol}");
                    self.remarks.warn(&child.place, message);
                    continue;
                }
            };
            self.times.longest(key, seconds);
        }
        Ok(())
    }

    fn finish(&mut self) {
        if !self.cpus.is_empty() {
            self.cpus.sort_unstable();
            let cpus: Vec<String> = self.cpus.iter().map(u16::to_string).collect();
            self.yaml.line("workers", format!("cpus: \"{}\"", cpus.join(",")));
        }
        if let Some(pool) = self.pool {
            // DPVS's pool is of all workers of a NUMA node, dpnat's of each.
            let each = pool.div_ceil(self.cpus.len().max(1) as u64);
            self.yaml.line("conntrack", format!("max_connections: {each}"));
        }
        if !self.times.values.is_empty() {
            let times = self.times.values.iter();
            let times: Vec<String> = times.map(|(key, s)| format!("{key}: {s}s")).collect();
            self.yaml.line("conntrack", format!("timeouts: {{ {} }}", times.join(", ")));
        }
        if self.forwards {
            self.yaml.line("forwarding", "policy: accept");
        }
    }
}

/// What a switch says; alone it means on.
fn on(node: &Node) -> Result<bool, ImportError> {
    match node.value().unwrap_or("on") {
        "on" | "enable" | "<enable>" => Ok(true),
        "off" | "disable" | "<disable>" => Ok(false),
        other => {
            let message = format!("`{} {other}`: expected on or off", node.name());
            Err(node.wrong(message))
        }
    }
}

pub(super) fn is_pci(device: &str) -> bool {
    device.contains(':') && !device.contains(',') && !device.starts_with("net_")
}
