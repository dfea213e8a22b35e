//! Source NAT and destination NAT.

use api::{
    DnatInfo, MappingInfo, MappingPage, MappingQuery, Operation, Removal, RemovedConns, Request,
    RulePlace, SnatInfo, SubscriberInfo, WanAddressInfo,
};
use config::{Admin, DnatTarget, Match, SnatAction, WanAddresses, WanRange};
use serde_json::{Map, Value};

use super::services::something;
use crate::cli::{DnatVerb, MappingsArgs, Options, PlaceArgs, RuleDel, SnatVerb};
use crate::error::CtlError;
use crate::output::{Table, details, name, optional};
use crate::session::{Outcome, Session};
use crate::units;

pub(super) fn rule(operation: Operation, name: &str) -> Request {
    Request::new(operation).name("name", name)
}

pub(super) fn placed(operation: Operation, name: &str, place: &PlaceArgs) -> Request {
    let PlaceArgs { before, position } = place;
    rule(operation, name).query(&RulePlace { before: before.clone(), position: *position })
}

/// A rule that only moves changes, too.
pub(super) fn changed(
    fields: Map<String, Value>,
    place: &PlaceArgs,
) -> Result<Map<String, Value>, CtlError> {
    if place.before.is_some() || place.position.is_some() {
        return Ok(fields);
    }
    something(fields, "--source, --action, --before or another option")
}

fn removed(operation: Operation, old: &RuleDel) -> Request {
    let connections = if old.reset { RemovedConns::Reset } else { RemovedConns::Drain };
    rule(operation, &old.name).query(&Removal { connections })
}

pub(super) fn snat(session: &mut Session<'_>, verb: &SnatVerb) -> Outcome {
    match verb {
        SnatVerb::Show(which) => match &which.name {
            Some(name) => {
                let info: SnatInfo = session.ask(rule(Operation::SnatGet, name))?;
                session.print(&info, one_snat)
            }
            None => {
                let list: Vec<SnatInfo> = session.ask(Request::new(Operation::SnatList))?;
                session.print(&list, |list, options| snats(list, options))
            }
        },
        SnatVerb::Add(new) => {
            session.change(placed(Operation::SnatAdd, &new.name, &new.place).json(&new.fields()))
        }
        SnatVerb::Set(change) => {
            let fields = changed(change.fields(), &change.place)?;
            session.change(placed(Operation::SnatSet, &change.name, &change.place).json(&fields))
        }
        SnatVerb::Del(old) => session.change(removed(Operation::SnatDelete, old)),
        SnatVerb::Mappings(which) => mappings(session, which),
        SnatVerb::Subscriber(which) => {
            let address = which.address.to_string();
            let request = Request::new(Operation::SnatSubscriber).name("address", &address);
            let info: SubscriberInfo = session.ask(request)?;
            session.print(&info, subscriber)
        }
        SnatVerb::Pools => {
            let mut list: Vec<WanAddressInfo> = session.ask(Request::new(Operation::SnatPools))?;
            list.retain(|info| session.shows(info.address));
            session.print(&list, |list, options| pools(list, options))
        }
    }
}

fn list(items: &[impl ToString], nothing: &str) -> String {
    match items {
        [] => nothing.to_owned(),
        some => some.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
    }
}

/// The first of a list, and how many more there are.
fn first(items: &[impl ToString]) -> String {
    match items {
        [] => "any".to_owned(),
        [one] => one.to_string(),
        [first, more @ ..] => format!("{} +{}", first.to_string(), more.len()),
    }
}

/// The outside addresses, or what is done instead.
fn outside(info: &SnatInfo) -> String {
    match (&info.config.action, &info.config.wan_addresses) {
        (SnatAction::Translate, WanAddresses::Interface) => "interface".to_owned(),
        (SnatAction::Translate, WanAddresses::Pool(ranges)) => {
            let count: u128 = ranges.iter().map(|range| range.address.count()).sum();
            let first = optional(ranges.first().map(|range| range.address.first()).as_ref());
            if count > 1 { format!("{first} +{}", count - 1) } else { first }
        }
        (action, _) => name(action),
    }
}

fn snats(list: &[SnatInfo], options: &Options) -> String {
    if options.brief {
        let line = |info: &SnatInfo| {
            let source = first(&info.config.matches.source);
            format!("{} {} {source} {}\n", info.position, info.name, outside(info))
        };
        return list.iter().map(line).collect();
    }
    let headings = ["#", "NAME", "SOURCE", "OUT-DEV", "TO", ">MAPPINGS", ">ACTIVE", ">OPENED"];
    let mut table = Table::new(&headings);
    for info in list {
        table.row([
            info.position.to_string(),
            info.name.clone(),
            first(&info.config.matches.source),
            info.config.matches.out_dev.clone().unwrap_or_else(|| "any".to_owned()),
            outside(info),
            info.mappings.to_string(),
            info.traffic.active.to_string(),
            info.traffic.connections.to_string(),
        ]);
    }
    let text = table.text("no rules of source NAT");
    if !options.statistics || list.is_empty() {
        return text;
    }
    let headings =
        ["NAME", ">EXCEPTED", ">DROPPED", ">EXHAUSTED", ">LIMITED", ">FILTERED", ">IN", ">OUT"];
    let mut table = Table::new(&headings);
    for info in list {
        table.row([
            info.name.clone(),
            info.accepted.to_string(),
            info.dropped.to_string(),
            info.exhausted.to_string(),
            info.limited.to_string(),
            info.filtered.to_string(),
            units::bytes(info.traffic.in_bytes),
            units::bytes(info.traffic.out_bytes),
        ]);
    }
    format!("{text}\n{}", table.text(""))
}

/// What a match asks for, one name and value each; what it does not ask for is left out.
fn matched(matches: &Match) -> String {
    let except = &matches.except;
    let dev = |dev: &Option<String>| dev.iter().cloned().collect::<Vec<_>>();
    [
        ("source", list(&matches.source, "")),
        ("destination", list(&matches.destination, "")),
        ("protocol", list(&matches.protocol, "")),
        ("source-ports", list(&matches.source_ports, "")),
        ("destination-ports", list(&matches.destination_ports, "")),
        ("in-dev", list(&dev(&matches.in_dev), "")),
        ("out-dev", list(&dev(&matches.out_dev), "")),
        ("except-source", list(&except.source, "")),
        ("except-destination", list(&except.destination, "")),
        ("except-protocol", list(&except.protocol, "")),
        ("except-source-ports", list(&except.source_ports, "")),
        ("except-destination-ports", list(&except.destination_ports, "")),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .map(|(name, value)| format!("{name} {value}"))
    .collect::<Vec<_>>()
    .join(" ")
}

pub(super) fn all_if_empty(matches: &Match) -> String {
    let text = matched(matches);
    if text.is_empty() { "everything".to_owned() } else { text }
}

fn refused(exhausted: u64, limited: u64, filtered: u64) -> String {
    format!("{exhausted} for lack of ports, {limited} by limits, {filtered} filtered")
}

/// WAN IPs as `--wan` takes them.
fn wan_range(range: &WanRange) -> String {
    let weight = (range.weight != 1).then(|| format!(",weight={}", range.weight));
    let admin = (range.admin != Admin::Enabled).then(|| format!(",admin={}", range.admin));
    let (weight, admin) = (weight.unwrap_or_default(), admin.unwrap_or_default());
    format!("{}{weight}{admin}", range.address)
}

fn one_snat(info: &SnatInfo, options: &Options) -> String {
    if options.brief {
        return snats(std::slice::from_ref(info), options);
    }
    let (config, traffic) = (&info.config, &info.traffic);
    let limit = |what: &str, limit: u32| (limit != 0).then(|| format!("{limit} {what}"));
    let limits = [
        limit("ports", config.limits.ports),
        limit("sessions", config.limits.sessions),
        limit("new sessions a second", config.limits.new_sessions_per_second),
    ];
    let limits: Vec<_> = limits.into_iter().flatten().collect();
    let wan = match &config.wan_addresses {
        WanAddresses::Interface => "interface".to_owned(),
        WanAddresses::Pool(ranges) => ranges.iter().map(wan_range).collect::<Vec<_>>().join(" "),
    };
    details(&[
        ("rule", format!("{} (number {})", info.name, info.position)),
        ("matches", all_if_empty(&config.matches)),
        ("action", name(&config.action)),
        ("wan addresses", wan),
        ("mapping", name(&config.mapping)),
        ("filtering", name(&config.filtering)),
        ("refresh", name(&config.refresh)),
        ("pooling", name(&config.pooling)),
        (
            "ports",
            format!(
                "{}, {}, rest {}",
                config.ports,
                name(&config.port_selection),
                config.port_rest
            ),
        ),
        ("limits", limits.join(", ")),
        ("no port left", name(&config.on_exhausted)),
        ("mss clamp", name(&config.mss_clamp)),
        ("mappings", info.mappings.to_string()),
        (
            "connections",
            format!(
                "{} active, {} inactive, {} opened",
                traffic.active, traffic.inactive, traffic.connections
            ),
        ),
        ("refused", refused(info.exhausted, info.limited, info.filtered)),
        ("unchanged", units::count(info.accepted, "packet")),
        ("dropped", units::count(info.dropped, "packet")),
        ("in", super::services::amount(traffic.in_packets, traffic.in_bytes)),
        ("out", super::services::amount(traffic.out_packets, traffic.out_bytes)),
    ])
}

fn mappings(session: &mut Session<'_>, which: &MappingsArgs) -> Outcome {
    let mut query = MappingQuery {
        rule: which.rule.clone(),
        inside: which.inside,
        outside: which.outside,
        protocol: which.protocol,
        limit: None,
        cursor: which.cursor.clone(),
    };
    let most = which.limit as usize;
    let mut all = MappingPage::default();
    loop {
        // At least 1 is asked for: the loop ends when there are as many as wanted.
        let missing = most.saturating_sub(all.mappings.len());
        let limit = u32::try_from(missing).unwrap_or(u32::MAX);
        query.limit = Some(limit.min(MappingQuery::LIMIT_MAX));
        let page: MappingPage = session.ask(Request::new(Operation::SnatMappings).query(&query))?;
        let shown = page.mappings.into_iter().filter(|info| session.shows(info.inside.address));
        all.mappings.extend(shown.take(missing));
        all.next = page.next;
        if all.next.is_none() || all.mappings.len() >= most {
            break;
        }
        query.cursor.clone_from(&all.next);
    }
    session.print(&all, |all, options| mapping_table(&all.mappings, options))?;
    if all.next.is_some() && !session.is_json() {
        return session.remark(&format!(
            "these are the first {most}; there are more: choose them, or give --limit"
        ));
    }
    Ok(())
}

fn mapping_table(list: &[MappingInfo], options: &Options) -> String {
    if options.brief {
        let line =
            |info: &MappingInfo| format!("{} {} {}\n", info.protocol, info.inside, info.outside);
        return list.iter().map(line).collect();
    }
    let mut table = Table::new(&["L4", "INSIDE", "OUTSIDE", "RULE", ">CONNS", ">AGE", ">WORKER"]);
    for info in list {
        table.row([
            info.protocol.to_string(),
            info.inside.to_string(),
            info.outside.to_string(),
            info.rule.clone().unwrap_or_default(),
            info.connections.to_string(),
            units::duration(info.age_ms),
            info.worker.to_string(),
        ]);
    }
    if !options.statistics {
        table.remove_column(6);
    }
    table.text("no mappings")
}

fn subscriber(info: &SubscriberInfo, options: &Options) -> String {
    if options.brief {
        let line = |usage: &api::SubscriberUsage| {
            format!("{} {} {} {}\n", info.address, usage.rule, usage.ports, usage.sessions)
        };
        return info.usage.iter().map(line).collect();
    }
    let of = |taken: u32, most: u32| match most {
        0 => taken.to_string(),
        most => format!("{taken}/{most}"),
    };
    let mut table = Table::new(&["RULE", "WAN IP", ">PORTS", ">SESSIONS", ">NEW LEFT"]);
    for usage in &info.usage {
        table.row([
            usage.rule.clone(),
            optional(usage.wan_address.as_ref()),
            of(usage.ports, usage.limits.ports),
            of(usage.sessions, usage.limits.sessions),
            optional(usage.new_sessions_left.as_ref()),
        ]);
    }
    format!("{} on worker {}\n{}", info.address, info.worker, table.text("takes nothing now"))
}

fn pools(list: &[WanAddressInfo], options: &Options) -> String {
    let percent = |usage: &api::WanPortUsage| match usage.capacity {
        0 => 0,
        capacity => u64::from(usage.taken + usage.resting) * 100 / u64::from(capacity),
    };
    if options.brief {
        let line = |info: &WanAddressInfo| {
            let usage: String = info
                .ports
                .iter()
                .map(|usage| format!(" {}={}%", usage.protocol, percent(usage)))
                .collect();
            format!("{}{usage}\n", info.address)
        };
        return list.iter().map(line).collect();
    }
    let mut table = Table::new(&[
        "WAN IP",
        "STATE",
        ">WEIGHT",
        "RULES",
        "L4",
        ">TAKEN",
        ">RESTING",
        ">CAPACITY",
        ">USED",
    ]);
    for info in list {
        let state = match (info.leaving, info.absent) {
            (true, _) => "leaving".to_owned(),
            (_, true) => "absent".to_owned(),
            _ => info.admin.to_string(),
        };
        for usage in &info.ports {
            table.row([
                info.address.to_string(),
                state.clone(),
                info.weight.to_string(),
                info.rules.join(","),
                usage.protocol.to_string(),
                usage.taken.to_string(),
                usage.resting.to_string(),
                usage.capacity.to_string(),
                format!("{}%", percent(usage)),
            ]);
        }
    }
    table.text("no WAN IPs")
}

pub(super) fn dnat(session: &mut Session<'_>, verb: &DnatVerb) -> Outcome {
    match verb {
        DnatVerb::Show(which) => match &which.name {
            Some(name) => {
                let info: DnatInfo = session.ask(rule(Operation::DnatGet, name))?;
                session.print(&info, one_dnat)
            }
            None => {
                let mut list: Vec<DnatInfo> = session.ask(Request::new(Operation::DnatList))?;
                list.retain(|info| session.shows(info.config.on.address));
                session.print(&list, |list, options| dnats(list, options))
            }
        },
        DnatVerb::Add(new) => {
            session.change(rule(Operation::DnatAdd, &new.name).json(&new.fields()))
        }
        DnatVerb::Set(change) => {
            let fields = something(change.fields(), "--on, --to or another option")?;
            session.change(rule(Operation::DnatSet, &change.name).json(&fields))
        }
        DnatVerb::Del(old) => session.change(removed(Operation::DnatDelete, old)),
    }
}

fn target(info: &DnatInfo) -> Vec<String> {
    match &info.config.to {
        DnatTarget::One(to) => vec![to.to_string()],
        DnatTarget::Servers(servers) => {
            servers.iter().map(|server| server.address.to_string()).collect()
        }
    }
}

fn dnats(list: &[DnatInfo], options: &Options) -> String {
    if options.brief {
        let line = |info: &DnatInfo| {
            let config = &info.config;
            format!("{} {} {} {}\n", info.name, config.protocol, config.on, target(info).join(","))
        };
        return list.iter().map(line).collect();
    }
    let mut table = Table::new(&["NAME", "L4", "ON", "TO", "SOURCE", ">ACTIVE", ">OPENED"]);
    for info in list {
        table.row([
            info.name.clone(),
            info.config.protocol.to_string(),
            info.config.on.to_string(),
            first(&target(info)),
            first(&info.config.source),
            info.traffic.active.to_string(),
            info.traffic.connections.to_string(),
        ]);
    }
    let text = table.text("no rules of destination NAT");
    if !options.statistics || list.is_empty() {
        return text;
    }
    let headings = [
        "NAME",
        ">REFUSED",
        ">EXHAUSTED",
        ">LIMITED",
        ">FILTERED",
        ">IN-PKTS",
        ">IN",
        ">OUT-PKTS",
        ">OUT",
    ];
    let mut table = Table::new(&headings);
    for info in list {
        let [refused, in_packets, in_bytes, out_packets, out_bytes] =
            super::services::traffic(&info.traffic);
        let refusals = [info.exhausted, info.limited, info.filtered].map(|count| count.to_string());
        let [exhausted, limited, filtered] = refusals;
        table.row([
            info.name.clone(),
            refused,
            exhausted,
            limited,
            filtered,
            in_packets,
            in_bytes,
            out_packets,
            out_bytes,
        ]);
    }
    format!("{text}\n{}", table.text(""))
}

fn one_dnat(info: &DnatInfo, options: &Options) -> String {
    if options.brief {
        return dnats(std::slice::from_ref(info), options);
    }
    let (config, traffic) = (&info.config, &info.traffic);
    let several = matches!(config.to, DnatTarget::Servers(_));
    let mut text = details(&[
        ("rule", info.name.clone()),
        ("on", format!("{} {}", config.protocol, config.on)),
        ("to", target(info).join(" ")),
        ("scheduler", if several { config.scheduler.to_string() } else { String::new() }),
        ("source", list(&config.source, "any")),
        ("in dev", optional(config.in_dev.as_ref())),
        ("source address", name(&config.source_address)),
        (
            "connections",
            format!(
                "{} active, {} inactive, {} opened, {} refused",
                traffic.active, traffic.inactive, traffic.connections, traffic.refused
            ),
        ),
        ("refused", refused(info.exhausted, info.limited, info.filtered)),
        ("in", super::services::amount(traffic.in_packets, traffic.in_bytes)),
        ("out", super::services::amount(traffic.out_packets, traffic.out_bytes)),
    ]);
    if several {
        text.push('\n');
        text.push_str(&super::services::servers_of(&info.name, &info.servers, options));
    }
    text
}
