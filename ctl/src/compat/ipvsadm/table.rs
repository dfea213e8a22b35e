//! The table of services as DPVS has it, made from what runs.

use std::net::IpAddr;

use api::{
    Operation, Request, ServerHealth, ServerInfo, ServiceInfo, ServiceQuery, SnatInfo, Traffic,
    WanAddressInfo,
};
use config::{Protocol, SnatAction, WanAddresses};
use types::{Endpoint, L4Port};

use super::super::dpvs::{Code, Message, service_bucket};
use super::super::{Compat, Failure, Outcome};
use super::matching::MatchRule;
use super::settings::{Key, Method, proxy_name, rule_scheduler};

/// A service of DPVS: one VIP, or one rule.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: Key,
    /// The name of the service or rule that it is made from.
    pub(super) name: String,
    /// The scheduler, and the flags behind it.
    pub(super) scheduler: String,
    pub(super) servers: Vec<Row>,
    pub(super) traffic: Traffic,
}

/// A real server of an entry.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) address: Endpoint,
    pub(super) method: Method,
    /// The weight by which it gets new conns; 0 if it is taken out.
    pub(super) weight: u16,
    pub(super) upper: u32,
    pub(super) lower: u32,
    pub(super) traffic: Traffic,
}

/// All of the table, or one entry of it.
///
/// # Errors
/// As DPVS refuses it if there is no such service.
pub(super) fn load(compat: &Compat<'_>, key: Option<&Key>) -> Outcome<Vec<Entry>> {
    let query = match key {
        None => ServiceQuery::default(),
        Some(Key::Service(protocol, vip)) => {
            ServiceQuery { vip: Some(*vip), protocol: Some(*protocol) }
        }
        Some(Key::Match(_)) => return rules(compat, key),
    };
    let services: Vec<ServiceInfo> =
        compat.ask(Request::new(Operation::ServiceList).query(&query))?;
    let mut entries: Vec<Entry> = services.iter().flat_map(of_service).collect();
    match key {
        Some(key) => {
            entries.retain(|entry| entry.key == *key);
            if entries.is_empty() {
                return Err(Failure::Refused(Message::SERVICE_GET, Code::NotExist, None));
            }
        }
        None => entries.extend(rules(compat, None)?),
    }
    Ok(entries)
}

fn rules(compat: &Compat<'_>, key: Option<&Key>) -> Outcome<Vec<Entry>> {
    let rules: Vec<SnatInfo> = compat.ask(Request::new(Operation::SnatList))?;
    let several = |rule: &SnatInfo| wan_addresses(rule).len() > 1;
    let pools: Vec<WanAddressInfo> = if rules.iter().any(several) {
        compat.ask(Request::new(Operation::SnatPools))?
    } else {
        Vec::new()
    };
    let mut entries: Vec<Entry> = rules.iter().flat_map(|rule| of_rule(rule, &pools)).collect();
    if let Some(key) = key {
        entries.retain(|entry| entry.key == *key);
        if entries.is_empty() {
            return Err(Failure::Refused(Message::SERVICE_GET, Code::NotExist, None));
        }
    }
    Ok(entries)
}

/// One entry for each VIP.
fn of_service(info: &ServiceInfo) -> impl Iterator<Item = Entry> {
    let method = Method::of_mode(info.config.mode);
    let out = |server: &&ServerInfo| server.leaving || server.health == ServerHealth::Removed;
    let configured = info.servers.iter().filter(|server| !out(server));
    let mut servers: Vec<Row> = configured
        .map(|server| Row {
            address: server.address,
            method,
            weight: if server.effective_weight == 0 { 0 } else { server.weight },
            upper: server.limits.upper.unwrap_or(0),
            lower: server.limits.lower.unwrap_or(0),
            traffic: server.traffic.clone(),
        })
        .collect();
    servers.sort_by_key(|row| (row.address.address, row.address.l4_port.0));
    let entry = |vip: &Endpoint| Entry {
        key: Key::Service(info.config.protocol, *vip),
        name: info.name.clone(),
        scheduler: flags(&info.config),
        servers: servers.clone(),
        traffic: info.traffic.clone(),
    };
    info.config.vips.iter().map(entry).collect::<Vec<_>>().into_iter()
}

/// The scheduler with the flags behind it, as in `wrr persistent 360 ops`.
fn flags(service: &config::Service) -> String {
    let mut text = service.scheduler.to_string();
    if service.scheduler.name() == "conhash" {
        text.push_str(" sip");
    }
    if let Some(persistence) = &service.persistence {
        text.push_str(&format!(" persistent {}", persistence.timeout.as_ms() / 1000));
        let v6 = service.vips.first().is_some_and(|vip| vip.address.is_ipv6());
        match (v6, persistence.prefix_of(v6)) {
            (false, 32) | (true, 128) => {}
            (true, prefix) => text.push_str(&format!(" mask {prefix}")),
            (false, prefix) => text.push_str(&format!(" mask {}", netmask(prefix))),
        }
    }
    if service.one_packet {
        text.push_str(" ops");
    }
    if let Some(seconds) = conn_timeout(service) {
        text.push_str(&format!(" conn-timeout {seconds}"));
    }
    if let Some(version) = proxy_name(service) {
        text.push_str(&format!(" pp{version}"));
    }
    text
}

/// A prefix's length as an IPv4 netmask.
pub(super) fn netmask(prefix: u16) -> std::net::Ipv4Addr {
    let bits = u32::MAX.checked_shl(32u32.saturating_sub(prefix.into())).unwrap_or(0);
    std::net::Ipv4Addr::from(bits)
}

/// The service's own idle time of established conns, seconds.
pub(super) fn conn_timeout(service: &config::Service) -> Option<u64> {
    let own = match service.protocol {
        Protocol::Tcp => service.timeouts.tcp_established,
        Protocol::Udp => service.timeouts.udp,
    };
    own.map(|timeout| timeout.as_ms() / 1000)
}

/// The WAN IPs of a rule with their weights; `0.0.0.0` stands for the interface's own.
fn wan_addresses(rule: &SnatInfo) -> Vec<(IpAddr, u16)> {
    of_pool(&rule.config)
}

/// The same of a configured rule.
pub(super) fn of_pool(rule: &config::SnatRule) -> Vec<(IpAddr, u16)> {
    match &rule.wan_addresses {
        WanAddresses::Interface => vec![(std::net::Ipv4Addr::UNSPECIFIED.into(), 1)],
        WanAddresses::Pool(ranges) => ranges
            .iter()
            .flat_map(|range| range.address.addresses().map(|address| (address, range.weight)))
            .collect(),
    }
}

fn of_rule(info: &SnatInfo, pools: &[WanAddressInfo]) -> Vec<Entry> {
    // Nothing of DPVS's lets packets through unchanged.
    if info.config.action == SnatAction::Accept {
        return Vec::new();
    }
    // All conns of NAT count as active here, and as inactive there.
    let inactive = |traffic: &Traffic| Traffic {
        active: 0,
        inactive: traffic.active + traffic.inactive,
        ..traffic.clone()
    };
    let wans = wan_addresses(info);
    let alone = wans.len() == 1;
    let taken = |address: IpAddr| {
        let pool = pools.iter().find(|pool| pool.address == address);
        pool.map_or(0, |pool| pool.ports.iter().map(|ports| u64::from(ports.taken)).sum())
    };
    let row = |(address, weight): (IpAddr, u16)| Row {
        address: Endpoint { address, l4_port: L4Port(0) },
        method: Method::Snat,
        weight,
        upper: 0,
        lower: 0,
        // What passed is counted by rule; of several WAN IPs only the ports in use are known.
        traffic: if alone {
            inactive(&info.traffic)
        } else {
            Traffic { inactive: taken(address), ..Traffic::default() }
        },
    };
    let servers: Vec<Row> = wans.into_iter().map(row).collect();
    let all = MatchRule::all_of(&info.config).into_iter();
    all.map(|rule| Entry {
        key: Key::Match(rule),
        name: info.name.clone(),
        scheduler: rule_scheduler(&info.config).to_owned(),
        servers: servers.clone(),
        traffic: inactive(&info.traffic),
    })
    .collect()
}

/// In the order of `-l`.
pub(super) fn sort(entries: &mut [Entry]) {
    entries.sort_by_key(|entry| entry.key.order());
}

/// In the order of DPVS's own table: services by hash, and rules behind them.
pub(super) fn sort_by_table<T>(entries: &mut [T], key: impl Fn(&T) -> &Key) {
    entries.sort_by_key(|entry| match key(entry) {
        Key::Service(_, vip) => {
            let (_, number, address, port) = key(entry).order();
            (false, service_bucket(vip.address, number), Some((address, port)))
        }
        Key::Match(_) => (true, 0, None),
    });
}
