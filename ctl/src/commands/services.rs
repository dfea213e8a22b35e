//! Services, their real servers and local addresses.

use std::collections::BTreeMap;

use api::{
    LipInfo, NewLip, Operation, Removal, RemovedConns, Request, ServerHealth, ServerInfo,
    ServiceInfo, Traffic,
};
use config::{Admin, ClientHeader, Datagrams, Pool, Servers};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::cli::{LipVerb, Options, ServerVerb, ServiceVerb};
use crate::error::CtlError;
use crate::output::{Table, details, name, optional};
use crate::session::{Outcome, Session};
use crate::units;

fn removal(reset: bool) -> Removal {
    Removal { connections: if reset { RemovedConns::Reset } else { RemovedConns::Drain } }
}

/// A change that changes nothing is a slip of the fingers.
pub(super) fn something(
    fields: Map<String, Value>,
    options: &str,
) -> Result<Map<String, Value>, CtlError> {
    if fields.is_empty() {
        return Err(CtlError::usage(format!("nothing to change: give {options}")));
    }
    Ok(fields)
}

pub(super) fn service(session: &mut Session<'_>, verb: &ServiceVerb) -> Outcome {
    match verb {
        ServiceVerb::Show(which) => match &which.name {
            Some(name) => {
                let info = one(session, name)?;
                session.print(&info, one_service)
            }
            None => {
                let list = all(session)?;
                session.print(&list, |list, options| services(list, options))
            }
        },
        ServiceVerb::Add(new) => {
            let mut fields = new.settings.fields();
            fields.insert("vips".to_owned(), json!(new.vips));
            fields.insert("protocol".to_owned(), json!(new.protocol));
            let request = Request::new(Operation::ServiceAdd).name("name", &new.name);
            session.change(request.json(&fields))
        }
        ServiceVerb::Set(change) => {
            let mut fields = change.settings.fields();
            if !change.vips.is_empty() {
                fields.insert("vips".to_owned(), json!(change.vips));
            }
            let fields = something(fields, "--scheduler, --vip or another option")?;
            let request = Request::new(Operation::ServiceSet).name("name", &change.name);
            session.change(request.json(&fields))
        }
        ServiceVerb::Del(old) => {
            let request = Request::new(Operation::ServiceDelete).name("name", &old.name);
            session.change(request.query(&removal(old.reset)))
        }
    }
}

fn one(session: &Session<'_>, name: &str) -> Result<ServiceInfo, CtlError> {
    session.ask(Request::new(Operation::ServiceGet).name("name", name))
}

/// All services that have a VIP of the wanted family.
fn all(session: &Session<'_>) -> Result<Vec<ServiceInfo>, CtlError> {
    let mut list: Vec<ServiceInfo> = session.ask(Request::new(Operation::ServiceList))?;
    list.retain(|info| info.config.vips.iter().any(|vip| session.shows(vip.address)));
    Ok(list)
}

fn vips(info: &ServiceInfo) -> String {
    info.config.vips.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// The first VIP, and how many more there are.
fn first_vip(info: &ServiceInfo) -> String {
    match info.config.vips.as_slice() {
        [] => String::new(),
        [one] => one.to_string(),
        [first, more @ ..] => format!("{first} +{}", more.len()),
    }
}

/// Real servers that take new conns, of all that are configured.
fn serving(info: &ServiceInfo) -> String {
    let configured = info.servers.iter().filter(|server| !server.leaving && !server.sorry);
    let taking = configured.clone().filter(|server| server.effective_weight > 0);
    format!("{}/{}", taking.count(), configured.count())
}

fn services(list: &[ServiceInfo], options: &Options) -> String {
    if options.brief {
        let line =
            |info: &ServiceInfo| format!("{} {} {}\n", info.name, info.config.protocol, vips(info));
        return list.iter().map(line).collect();
    }
    let headings = ["NAME", "L4", "VIP", "SCHEDULER", ">SERVERS", ">LIPS", ">ACTIVE", ">OPENED"];
    let mut table = Table::new(&headings);
    for info in list {
        table.row([
            info.name.clone(),
            info.config.protocol.to_string(),
            first_vip(info),
            info.config.scheduler.to_string(),
            serving(info),
            info.lips.len().to_string(),
            info.traffic.active.to_string(),
            info.traffic.connections.to_string(),
        ]);
    }
    let text = table.text("no services");
    if !options.statistics || list.is_empty() {
        return text;
    }
    let mut table = Table::new(&["NAME", ">REFUSED", ">IN-PKTS", ">IN", ">OUT-PKTS", ">OUT"]);
    for info in list {
        let [refused, in_packets, in_bytes, out_packets, out_bytes] = traffic(&info.traffic);
        table.row([info.name.clone(), refused, in_packets, in_bytes, out_packets, out_bytes]);
    }
    format!("{text}\n{}", table.text(""))
}

pub(super) fn traffic(traffic: &Traffic) -> [String; 5] {
    [
        traffic.refused.to_string(),
        traffic.in_packets.to_string(),
        units::bytes(traffic.in_bytes),
        traffic.out_packets.to_string(),
        units::bytes(traffic.out_bytes),
    ]
}

fn one_service(info: &ServiceInfo, options: &Options) -> String {
    if options.brief {
        return services(std::slice::from_ref(info), options);
    }
    let config = &info.config;
    let group = match &config.servers {
        Servers::Group(group) => format!(" of group {group}"),
        Servers::Inline(_) => String::new(),
    };
    let pool = match &config.local_pool {
        Some(Pool::Named(pool)) => format!(" of pool {pool}"),
        Some(Pool::Inline(_)) | None => String::new(),
    };
    let lips: u64 = info.lips.iter().map(|lip| lip.connections).sum();
    let persistence = config.persistence.as_ref();
    let v6 = config.vips.first().is_some_and(|vip| vip.address.is_ipv6());
    let persistence = persistence.map(|p| format!("{} by /{}", p.timeout, p.prefix_of(v6)));
    let most = config.limits.max_connections;
    let traffic = &info.traffic;
    let mut text = details(&[
        ("service", info.name.clone()),
        ("vips", config.vips.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")),
        ("protocol", config.protocol.to_string()),
        ("mode", name(&config.mode)),
        ("scheduler", scheduler(info)),
        ("client address", client_address(config)),
        ("persistence", persistence.unwrap_or_default()),
        ("max connections", optional(most.as_ref())),
        ("timeouts", timeouts(info)),
        ("not a SYN", name(&config.on_not_syn)),
        ("no server", name(&config.on_no_server)),
        ("limit reached", name(&config.on_limit)),
        ("servers", format!("{} take new connections{group}", serving(info))),
        (
            "lips",
            format!("{}{pool}, used by {}", info.lips.len(), units::count(lips, "connection")),
        ),
        (
            "connections",
            format!(
                "{} active, {} inactive, {} opened, {} refused",
                traffic.active, traffic.inactive, traffic.connections, traffic.refused,
            ),
        ),
        ("in", amount(traffic.in_packets, traffic.in_bytes)),
        ("out", amount(traffic.out_packets, traffic.out_bytes)),
    ]);
    text.push('\n');
    text.push_str(&servers_of(&info.name, &info.servers, options));
    text
}

/// The real servers of one service.
pub(super) fn servers_of(service: &str, list: &[ServerInfo], options: &Options) -> String {
    servers(&of(service, list), options, false)
}

pub(super) fn amount(packets: u64, bytes: u64) -> String {
    format!("{}, {}", units::count(packets, "packet"), units::bytes(bytes))
}

fn scheduler(info: &ServiceInfo) -> String {
    if info.config.scheduler.hashes() {
        format!("{} by {}", info.config.scheduler, name(&info.config.hash_by))
    } else {
        info.config.scheduler.to_string()
    }
}

/// The service's own.
/// How real servers learn the client's address.
fn client_address(config: &config::Service) -> String {
    let how = config.client_address();
    let more = &config.proxy_protocol;
    let trust = how.is_proxy() && more.client_header == ClientHeader::Trust;
    let first = how.is_proxy() && more.datagrams == Datagrams::First;
    let trust = if trust { ", a client's own header is passed on" } else { "" };
    let first = if first { ", on the first datagram" } else { "" };
    format!("{}{trust}{first}", how.name())
}

fn timeouts(info: &ServiceInfo) -> String {
    let own: BTreeMap<String, String> = serde_json::to_value(&info.config.timeouts)
        .and_then(serde_json::from_value)
        .unwrap_or_default();
    own.iter().map(|(name, time)| format!("{name}={time}")).collect::<Vec<_>>().join(" ")
}

/// Something of a service, with the service's name.
#[derive(Serialize)]
struct Of<'a, T> {
    service: &'a str,
    #[serde(flatten)]
    info: &'a T,
}

fn of<'a, T>(service: &'a str, list: &'a [T]) -> Vec<Of<'a, T>> {
    list.iter().map(|info| Of { service, info }).collect()
}

/// The services that are asked for: one, or all.
fn chosen(session: &Session<'_>, name: Option<&str>) -> Result<Vec<ServiceInfo>, CtlError> {
    match name {
        Some(name) => Ok(vec![one(session, name)?]),
        None => session.ask(Request::new(Operation::ServiceList)),
    }
}

pub(super) fn server(session: &mut Session<'_>, verb: &ServerVerb) -> Outcome {
    let at = |operation, service: &str, address: &types::Endpoint| {
        Request::new(operation).name("name", service).name("address", &address.to_string())
    };
    match verb {
        ServerVerb::Show(which) => {
            let list = chosen(session, which.service.as_deref())?;
            let mut rows: Vec<_> =
                list.iter().flat_map(|info| of(&info.name, &info.servers)).collect();
            rows.retain(|row| session.shows(row.info.address.address));
            let of_several = which.service.is_none();
            session.print(&rows, |rows, options| servers(rows, options, of_several))
        }
        ServerVerb::Add(new) => {
            session.change(at(Operation::ServerAdd, &new.service, &new.address).json(&new.fields()))
        }
        ServerVerb::Set(change) => {
            let fields = something(change.fields(), "--weight, --admin, --upper or --lower")?;
            session.change(at(Operation::ServerSet, &change.service, &change.address).json(&fields))
        }
        ServerVerb::Del(old) => session.change(
            at(Operation::ServerDelete, &old.service, &old.address).query(&removal(old.reset)),
        ),
    }
}

/// What an operator should know of a server besides its weight.
fn state(info: &ServerInfo) -> String {
    match info.health {
        _ if info.leaving => "leaving".to_owned(),
        _ if info.sorry => "sorry".to_owned(),
        ServerHealth::Inhibited | ServerHealth::Removed if info.admin == Admin::Enabled => {
            name(&info.health)
        }
        _ => info.admin.to_string(),
    }
}

/// Real servers; the service of each, if they are of several.
fn servers(list: &[Of<'_, ServerInfo>], options: &Options, of_several: bool) -> String {
    if options.brief {
        let line = |row: &Of<'_, ServerInfo>| {
            let info = row.info;
            format!("{} {} {} {}\n", row.service, info.address, info.weight, state(info))
        };
        return list.iter().map(line).collect();
    }
    let mut table = Table::new(&[
        "SERVICE",
        "SERVER",
        ">WEIGHT",
        ">NOW",
        "STATE",
        ">LIMIT",
        ">ACTIVE",
        ">INACTIVE",
        ">OPENED",
    ]);
    for Of { service, info } in list {
        table.row([
            (*service).to_owned(),
            info.address.to_string(),
            info.weight.to_string(),
            info.effective_weight.to_string(),
            state(info),
            optional(info.limits.upper.as_ref()),
            info.traffic.active.to_string(),
            info.traffic.inactive.to_string(),
            info.traffic.connections.to_string(),
        ]);
    }
    if !of_several {
        table.remove_column(0);
    }
    let text = table.text("no real servers");
    if !options.statistics || list.is_empty() {
        return text;
    }
    format!("{text}\n{}", servers_traffic(list, of_several))
}

fn servers_traffic(list: &[Of<'_, ServerInfo>], of_several: bool) -> String {
    let headings = ["SERVICE", "SERVER", ">REFUSED", ">IN-PKTS", ">IN", ">OUT-PKTS", ">OUT"];
    let mut table = Table::new(&headings);
    for Of { service, info } in list {
        let [refused, in_packets, in_bytes, out_packets, out_bytes] = traffic(&info.traffic);
        let (service, address) = ((*service).to_owned(), info.address.to_string());
        table.row([service, address, refused, in_packets, in_bytes, out_packets, out_bytes]);
    }
    if !of_several {
        table.remove_column(0);
    }
    table.text("")
}

pub(super) fn lip(session: &mut Session<'_>, verb: &LipVerb) -> Outcome {
    match verb {
        LipVerb::Show(which) => {
            let list = chosen(session, which.service.as_deref())?;
            let mut rows: Vec<_> =
                list.iter().flat_map(|info| of(&info.name, &info.lips)).collect();
            rows.retain(|row| session.shows(row.info.address));
            session.print(&rows, |rows, options| lips(rows, options))
        }
        LipVerb::Add(new) => {
            let body = NewLip { addresses: new.addresses, dev: new.dev.clone() };
            let request = Request::new(Operation::LipAdd).name("name", &new.service);
            session.change(request.json(&body))
        }
        LipVerb::Del(old) => {
            let request = Request::new(Operation::LipDelete)
                .name("name", &old.service)
                .name("address", &old.address.to_string());
            session.change(request)
        }
    }
}

fn lips(list: &[Of<'_, LipInfo>], options: &Options) -> String {
    if options.brief {
        let line = |row: &Of<'_, LipInfo>| {
            format!("{} {} {}\n", row.service, row.info.address, row.info.dev)
        };
        return list.iter().map(line).collect();
    }
    let mut table = Table::new(&["SERVICE", "ADDRESS", "DEV", "POOL", ">CONNECTIONS"]);
    for row in list {
        table.row([
            row.service.to_owned(),
            row.info.address.to_string(),
            row.info.dev.clone(),
            optional(row.info.pool.as_ref()),
            row.info.connections.to_string(),
        ]);
    }
    table.text("no local addresses")
}
