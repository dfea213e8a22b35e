//! Virtual servers of keepalived, as services and rules of source NAT.

use std::collections::BTreeSet;

use types::Endpoint;

use super::checks::{self, CHECKS, Defaults};
use super::keepalived::{Groups, quoted_list};
use super::output::{Yaml, name_of};
use super::proxy::Proxy;
use super::tree::Node;
use super::{ImportError, Knowledge, Loss, Remarks};
use crate::service::{Protocol, Scheduler};
use crate::text::AddressRange;

/// Keys that nothing here needs.
const NOT_NEEDED: &[(&str, &str)] = &[
    ("omega", "nothing is called at the stop"),
    ("warmup", "checks are spread over their interval"),
    ("ha_suspend", "checks do not depend on VRRP here"),
    ("sorry_server_inhibit", "the sorry server is listed while it serves"),
    ("vip_bind_dev", "a VIP is on the interface of its address"),
    ("ip_family", "it follows from the addresses"),
];

pub(super) struct Services<'a> {
    groups: &'a Groups<'a>,
    knowledge: &'a Knowledge,
    /// Groups of VIPs that a service has.
    pub used: BTreeSet<String>,
    names: BTreeSet<String>,
}

/// What a virtual server has gathered.
#[derive(Debug, Default)]
struct Gathered {
    scheduler: Option<Scheduler>,
    kind: String,
    protocol: Option<Protocol>,
    pool: Option<String>,
    persistence: Option<u64>,
    prefix: Option<u16>,
    one_packet: bool,
    proxy: Option<Proxy>,
    timeout: Option<u64>,
    /// Real servers, each with its checks.
    servers: Vec<(String, Vec<String>)>,
    checks: Defaults,
    check_source: Option<String>,
    quorum: Option<u32>,
    hysteresis: u32,
    sorry_server: Option<String>,
    /// What all real servers weigh together.
    weight: u32,
    /// WAN IPs with their weights, if it is for source NAT.
    wans: Vec<String>,
    matches: Vec<String>,
    comments: Vec<String>,
}

impl Gathered {
    /// Real servers and their checks: those of the service, if all have the same.
    fn health(&self) -> Vec<String> {
        let list = |checks: &[String]| match checks {
            [one] => one.clone(),
            several => format!("[ {} ]", several.join(", ")),
        };
        let first = self.servers.first().map(|(_, checks)| checks);
        let same = first.filter(|first| self.servers.iter().all(|(_, checks)| checks == *first));
        let mut lines = Vec::new();
        if let Some(checks) = same.filter(|checks| !checks.is_empty()) {
            lines.push(format!("health: {}", list(checks)));
        }
        lines.extend(self.check_source.iter().map(|source| format!("check_source: \"{source}\"")));
        let quorum = self.quorum.unwrap_or(1);
        match self.hysteresis {
            0 if quorum == 1 => {}
            0 => lines.push(format!("quorum: {{ weight: {quorum} }}")),
            more => lines.push(format!("quorum: {{ weight: {quorum}, hysteresis: {more} }}")),
        }
        lines.extend(self.sorry_server.iter().map(|sorry| format!("sorry_server: \"{sorry}\"")));
        if !self.servers.is_empty() {
            lines.push("servers:".to_owned());
        }
        for (server, checks) in &self.servers {
            let own = match same {
                None if !checks.is_empty() => format!(", health: {}", list(checks)),
                _ => String::new(),
            };
            lines.push(format!("  - {{ {server}{own} }}"));
        }
        lines
    }
}

impl<'a> Services<'a> {
    pub fn new(groups: &'a Groups<'a>, knowledge: &'a Knowledge) -> Self {
        Self { groups, knowledge, used: BTreeSet::new(), names: BTreeSet::new() }
    }

    pub fn import(
        &mut self,
        node: &Node,
        yaml: &mut Yaml,
        remarks: &mut Remarks,
    ) -> Result<(), ImportError> {
        let mut gathered = Gathered { comments: node.comments.clone(), ..Gathered::default() };
        let port = match node.value() {
            Some("group" | "match") => None,
            _ => node.words.get(2).and_then(|port| port.parse().ok()),
        };
        let is_server = |child: &&Node| child.name() == "real_server";
        for child in node.children().iter().filter(|child| !is_server(child)) {
            gathered.comments.extend(child.comments.iter().cloned());
            self.key(child, port, &mut gathered, remarks)?;
        }
        for child in node.children().iter().filter(is_server) {
            gathered.comments.extend(child.comments.iter().cloned());
            self.server(child, port, &mut gathered, remarks)?;
        }
        gathered.comments.extend(node.last_comments.iter().cloned());
        if let Some(quorum) = gathered.quorum.filter(|quorum| *quorum > gathered.weight) {
            let message = format!(
                "`quorum {quorum}`: expected no more than all servers weigh, {}",
                gathered.weight
            );
            return Err(node.child("quorum").unwrap_or(node).wrong(message));
        }
        if gathered.kind == "SNAT" {
            return self.snat(node, &gathered, yaml);
        }
        let (name, vips) = self.vips(node)?;
        let lines = self.lines(node, &gathered, &vips)?;
        let name = self.unique(&name);
        let mut all = vec![format!("{name}:")];
        all.extend(lines.into_iter().map(|line| format!("  {line}")));
        yaml.add("services", &gathered.comments, &all);
        Ok(())
    }

    fn unique(&mut self, name: &str) -> String {
        let name = name_of(name);
        let mut tried = name.clone();
        let mut number = 2;
        while !self.names.insert(tried.clone()) {
            tried = format!("{name}-{number}");
            number += 1;
        }
        tried
    }

    /// The name and the VIPs of a virtual server.
    fn vips(&mut self, node: &Node) -> Result<(String, Vec<String>), ImportError> {
        let first = node.needed("`ADDRESS PORT` or `group NAME`")?;
        if first == "fwmark" {
            return Err(node.wrong("`virtual_server fwmark`: there are no marks; expected a VIP"));
        }
        if first != "group" {
            let port = node.words.get(2).map_or("", String::as_str);
            let vips = endpoints(node, first, port)?;
            return Ok((format!("{}-{port}", first.replace(':', "-")), vips));
        }
        let Some(name) = node.words.get(2) else {
            return Err(node.wrong("`virtual_server group` needs the name of a group"));
        };
        let Some(group) = self.groups.virtuals.get(name) else {
            let message = format!("there is no `virtual_server_group {name}`");
            return Err(node.wrong(message));
        };
        self.used.insert(name.clone());
        let mut vips = Vec::new();
        for entry in group.children() {
            if entry.name() == "fwmark" {
                return Err(entry.wrong("`fwmark`: there are no marks; expected `ADDRESS PORT`"));
            }
            vips.extend(endpoints(entry, entry.name(), entry.needed("a port")?)?);
        }
        if vips.is_empty() {
            return Err(
                group.wrong(format!("the group `{name}` is empty: expected `ADDRESS PORT`"))
            );
        }
        Ok((name.clone(), vips))
    }

    fn lines(
        &self,
        node: &Node,
        gathered: &Gathered,
        vips: &[String],
    ) -> Result<Vec<String>, ImportError> {
        let protocol = gathered.protocol.unwrap_or(Protocol::Tcp);
        let mut lines =
            vec![format!("vips: [ {} ]", quoted_list(vips)), format!("protocol: {protocol}")];
        if let Some(scheduler) = gathered.scheduler {
            lines.push(format!("scheduler: {scheduler}"));
        }
        match gathered.kind.as_str() {
            "FNAT" | "" => {}
            "NAT" => lines.push("mode: nat".to_owned()),
            other => {
                let message = format!(
                    "`lb_kind {other}`: real servers are reached by FNAT or NAT; expected one of these"
                );
                return Err(node.wrong(message));
            }
        }
        if let Some(pool) = &gathered.pool {
            lines.push(format!("local_pool: {}", name_of(pool)));
        }
        if let Some(seconds) = gathered.persistence {
            let prefix = gathered.prefix.map(|prefix| format!(", prefix: {prefix}"));
            let prefix = prefix.unwrap_or_default();
            lines.push(format!("persistence: {{ timeout: {seconds}s{prefix} }}"));
        }
        lines.extend(Proxy::lines(gathered.proxy, protocol, node)?);
        if gathered.one_packet {
            lines.push("one_packet: true".to_owned());
        }
        if let Some(seconds) = gathered.timeout {
            lines.push(match protocol {
                Protocol::Tcp => format!("timeouts: {{ tcp_established: {seconds}s }}"),
                Protocol::Udp => format!("timeouts: {{ udp: {seconds}s, udp_oneway: {seconds}s }}"),
            });
        }
        lines.extend(gathered.health());
        Ok(lines)
    }

    fn key(
        &self,
        node: &Node,
        port: Option<u16>,
        gathered: &mut Gathered,
        remarks: &mut Remarks,
    ) -> Result<(), ImportError> {
        let key = node.name();
        if gathered.checks.take(node)? {
            return Ok(());
        }
        if let Some((_, why)) = NOT_NEEDED.iter().find(|(name, _)| *name == key) {
            remarks.not_needed(&node.place, format!("{key}: {why}"));
            return Ok(());
        }
        match key {
            "lb_algo" | "lvs_sched" => {
                let name = node.needed("a scheduler")?;
                let known = Scheduler::ALL.into_iter().find(|known| known.name() == name);
                gathered.scheduler = Some(known.ok_or_else(|| {
                    let names = Scheduler::ALL.map(Scheduler::name).join(", ");
                    node.wrong(format!("`{key} {name}`: expected one of {names}"))
                })?);
            }
            "lb_kind" | "lvs_method" => {
                node.needed("FNAT, NAT or SNAT")?.clone_into(&mut gathered.kind);
            }
            "protocol" => {
                gathered.protocol = Some(match node.needed("TCP or UDP")? {
                    "TCP" | "tcp" => Protocol::Tcp,
                    "UDP" | "udp" => Protocol::Udp,
                    other => {
                        return Err(node.wrong(format!("`protocol {other}`: expected TCP or UDP")));
                    }
                });
            }
            "laddr_group_name" => {
                let name = node.needed("the name of a group")?;
                if !self.groups.local.contains_key(name) {
                    return Err(node.wrong(format!("there is no `local_address_group {name}`")));
                }
                gathered.pool = Some(name.to_owned());
            }
            "persistence_timeout" => {
                gathered.persistence = Some(match node.value() {
                    Some(_) => node.parsed("a number of seconds")?,
                    None => 360,
                });
            }
            "persistence_granularity" => gathered.prefix = Some(granularity(node)?),
            "proxy_protocol" => gathered.proxy = Proxy::of(node)?,
            "ops" => gathered.one_packet = true,
            "establish_timeout" | "conn_timeout" => {
                gathered.timeout = Some(node.parsed("a number of seconds")?);
            }
            "quorum" => gathered.quorum = Some(node.parsed("a weight")?),
            "hysteresis" => gathered.hysteresis = node.parsed("a weight")?,
            "sorry_server" => {
                let address = node.needed("the address of a server")?;
                let own = port.map(|port| port.to_string());
                let port = node.words.get(2).cloned().or(own).unwrap_or_default();
                gathered.sorry_server = Some(endpoint(node, address, &port)?.to_string());
            }
            "src-range" | "dst-range" | "iif" | "oif" => gathered.matches.push(matched(node)?),
            _ => return self.key_without(node, remarks),
        }
        Ok(())
    }

    /// What has no counterpart, or needs none.
    fn key_without(&self, node: &Node, remarks: &mut Remarks) -> Result<(), ImportError> {
        let key = node.name();
        match key {
            "hash_target" if node.value() == Some("sip") => {}
            "hash_target" => {
                remarks.warn(&node.place, "hash_target: clients are hashed by address")
            }
            "syn_proxy" => self.lost(node, Loss::SynProxy, "there is no SYN proxy yet", remarks)?,
            "daddr_group_name"
            | "waddr_group_name"
            | "blklst_addr_gname"
            | "whtlst_addr_gname"
            | "deny_address_group"
            | "allow_address_group" => {
                let why = "lists of a service's clients cannot be enforced yet";
                self.lost(node, Loss::Acl, why, remarks)?;
            }
            "expire_quiescent_conn"
            | "quic"
            | "bps"
            | "limit_proportion"
            | "sorry_server_lvs_method"
            | "dest_check" => {
                remarks.warn(&node.place, format!("{key}: it has no counterpart"));
            }
            "quorum_up" | "quorum_down" => {
                remarks.warn(&node.place, format!("{key}: nothing is called"));
            }
            _ => remarks.warn(&node.place, format!("{key}: it is not known")),
        }
        Ok(())
    }

    fn lost(
        &self,
        node: &Node,
        loss: Loss,
        why: &str,
        remarks: &mut Remarks,
    ) -> Result<(), ImportError> {
        let name = node.name();
        if !self.knowledge.accepted.contains(&loss) {
            let message = format!("{name}: {why}; --accept-loss {} goes on without", loss.name());
            return Err(node.wrong(message));
        }
        remarks.warn(&node.place, format!("{name}: {why}"));
        Ok(())
    }

    fn server(
        &self,
        node: &Node,
        port: Option<u16>,
        gathered: &mut Gathered,
        remarks: &mut Remarks,
    ) -> Result<(), ImportError> {
        let address = node.needed("the address of a real server")?;
        let given = node.words.get(2).and_then(|port| port.parse().ok());
        let (mut weight, mut limits) = (1u16, Vec::new());
        let (mut checks, mut defaults) = (Vec::new(), gathered.checks.clone());
        for child in node.children() {
            match child.name() {
                "weight" => weight = child.parsed("a weight from 0 to 65535")?,
                "uthreshold" => limits.push(("upper", child.parsed::<u32>("a number of conns")?)),
                "lthreshold" => limits.push(("lower", child.parsed::<u32>("a number of conns")?)),
                check if CHECKS.contains(&check) => checks.push(child),
                "notify_up" | "notify_down" => {
                    let message = format!("{}: nothing is called", child.name());
                    remarks.warn(&child.place, message);
                }
                _ if defaults.take(child)? => {}
                key => match NOT_NEEDED.iter().find(|(name, _)| *name == key) {
                    Some((_, why)) => {
                        remarks.not_needed(&child.place, format!("{key}: {why}"));
                    }
                    None => remarks.warn(&child.place, format!("{key}: it is not known")),
                },
            }
            gathered.comments.extend(child.comments.iter().cloned());
        }
        if gathered.kind == "SNAT" || given == Some(0) && port.is_none() {
            gathered.wans.push(format!("{{ address: \"{address}\", weight: {weight} }}"));
            return Ok(());
        }
        let port: u16 = given.filter(|port| *port > 0).or(port).ok_or_else(|| {
            node.wrong(format!("`real_server {address}`: expected a port from 1 to 65535"))
        })?;
        let endpoint = endpoint(node, address, &port.to_string())?;
        let mut text = format!("address: \"{endpoint}\", weight: {weight}");
        if !limits.is_empty() {
            let limits: Vec<String> = limits.iter().map(|(key, n)| format!("{key}: {n}")).collect();
            text.push_str(&format!(", limits: {{ {} }}", limits.join(", ")));
        }
        let mut health = Vec::new();
        for check in checks {
            health.extend(checks::import(check, &defaults, port, remarks)?);
            let Some(from) = checks::source(check) else { continue };
            let source: std::net::IpAddr = from.parsed("an address")?;
            let source = source.to_string();
            match &gathered.check_source {
                Some(other) if *other != source => {
                    let message = format!("bindto {source}: checks of a service come from {other}");
                    remarks.warn(&from.place, message);
                }
                _ => gathered.check_source = Some(source),
            }
        }
        gathered.weight += u32::from(weight);
        gathered.servers.push((text, health));
        Ok(())
    }

    fn snat(
        &mut self,
        node: &Node,
        gathered: &Gathered,
        yaml: &mut Yaml,
    ) -> Result<(), ImportError> {
        if gathered.wans.is_empty() {
            return Err(node.wrong("a virtual server of kind SNAT needs `real_server WAN-IP 0`"));
        }
        let protocol = gathered.protocol.map_or("tcp".to_owned(), |protocol| protocol.to_string());
        let mut matches = gathered.matches.clone();
        matches.push(format!("protocol: [ {protocol} ]"));
        let name = node.words.get(2).map_or("snat", String::as_str);
        let name = self.unique(&format!("{name}-{protocol}"));
        let line = format!(
            "{name}: {{ match: {{ {} }}, wan_addresses: [ {} ], pooling: arbitrary }}",
            matches.join(", "),
            gathered.wans.join(", "),
        );
        yaml.add("snat", &gathered.comments, &[line]);
        Ok(())
    }
}

/// The length of a prefix, given so or as a netmask.
fn granularity(node: &Node) -> Result<u16, ImportError> {
    let text = node.needed("a netmask or the length of a prefix")?;
    let bits = text.parse().ok().map(std::net::Ipv4Addr::to_bits);
    let of_mask = |bits: u32| {
        (bits.leading_ones() + bits.trailing_zeros() == 32).then(|| bits.leading_ones() as u16)
    };
    let length = match bits {
        Some(bits) => of_mask(bits),
        None => text.parse().ok(),
    };
    length.filter(|length| (1..=128).contains(length)).ok_or_else(|| {
        node.wrong(format!("`{} {text}`: expected a netmask or 1 to 128", node.name()))
    })
}

/// A condition of a rule.
fn matched(node: &Node) -> Result<String, ImportError> {
    let value = node.needed("a value")?;
    let range = |key: &str| -> Result<String, ImportError> {
        let (addresses, ports) = value.split_once(':').map_or((value, None), |(a, p)| (a, Some(p)));
        let _: AddressRange = addresses
            .parse()
            .map_err(|why: crate::text::ParseTextError| node.wrong(why.to_string()))?;
        let ports = ports.filter(|ports| *ports != "0-0" && *ports != "0");
        let ports = ports.map(|ports| format!(", {key}_ports: [ \"{ports}\" ]"));
        Ok(format!("{key}: [ \"{addresses}\" ]{}", ports.unwrap_or_default()))
    };
    match node.name() {
        "src-range" => range("source"),
        "dst-range" => range("destination"),
        "iif" => Ok(format!("in_dev: {value}")),
        _ => Ok(format!("out_dev: {value}")),
    }
}

/// An address, or a range whose last part is `-N`, with a port.
fn endpoints(node: &Node, address: &str, port: &str) -> Result<Vec<String>, ImportError> {
    let Some((first, last)) = address.split_once('-') else {
        return Ok(vec![endpoint(node, address, port)?.to_string()]);
    };
    // keepalived's ranges name the last number only.
    let whole = match first.rsplit_once('.') {
        Some((net, _)) if !last.contains('.') => format!("{first}-{net}.{last}"),
        _ => address.to_owned(),
    };
    let range: AddressRange =
        whole.parse().map_err(|why: crate::text::ParseTextError| node.wrong(why.to_string()))?;
    if range.count() > 4096 {
        return Err(node.wrong(format!("`{address}`: more than 4096 VIPs")));
    }
    range.addresses().map(|one| Ok(endpoint(node, &one.to_string(), port)?.to_string())).collect()
}

fn endpoint(node: &Node, address: &str, port: &str) -> Result<Endpoint, ImportError> {
    let text = if address.contains(':') {
        format!("[{address}]:{port}")
    } else {
        format!("{address}:{port}")
    };
    let found: Option<Endpoint> = text.parse().ok();
    found.filter(|found| found.l4_port.0 != 0).ok_or_else(|| {
        node.wrong(format!("`{address} {port}`: expected an address and a port from 1 to 65535"))
    })
}
