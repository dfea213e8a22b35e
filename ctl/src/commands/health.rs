//! Health of real servers.

use api::{CheckInfo, HealthQuery, Operation, Request, ServerHealthInfo, ServiceHealthInfo};

use crate::cli::{HealthVerb, Options};
use crate::output::{Table, name};
use crate::session::{Outcome, Session};
use crate::units;

pub(super) fn health(session: &mut Session<'_>, verb: &HealthVerb) -> Outcome {
    let HealthVerb::Show(which) = verb;
    let query = HealthQuery { service: which.service.clone() };
    let request = Request::new(Operation::HealthList).query(&query);
    let list: Vec<ServiceHealthInfo> = session.ask(request)?;
    session.print(&list, |list, options| show(list, options))
}

fn show(list: &[ServiceHealthInfo], options: &Options) -> String {
    let servers = || list.iter().flat_map(|info| info.servers.iter().map(move |s| (info, s)));
    if options.brief {
        let line = |(info, server): (&ServiceHealthInfo, &ServerHealthInfo)| {
            format!("{} {} {}\n", info.service, server.address, name(&server.health))
        };
        return servers().map(line).collect();
    }
    let headings = ["SERVICE", "SERVER", "STATE", ">SINCE", "CHECK", "ASKED", ">AGO", "LAST"];
    let mut table = Table::new(&headings);
    for (info, server) in servers() {
        let (service, address) = (info.service.clone(), server.address.to_string());
        let state = name(&server.health);
        if server.checks.is_empty() {
            let [a, b, c, d, e] = Default::default();
            table.row([service.clone(), address.clone(), state.clone(), a, b, c, d, e]);
        }
        for check in &server.checks {
            let state = if check.up { "up" } else { state.as_str() };
            table.row([
                service.clone(),
                address.clone(),
                state.to_owned(),
                check.since_ms.map(units::duration).unwrap_or_default(),
                check.check.to_string(),
                asked(check),
                check.last_ms.map(units::duration).unwrap_or_default(),
                last(check),
            ]);
        }
    }
    let mut text = table.text("nothing is checked");
    if options.statistics && !list.is_empty() {
        text.push('\n');
        text.push_str(&statistics(list));
    }
    for info in list.iter().filter(|info| info.quorum > 1 || info.quorum_lost) {
        text.push_str(&format!("\n{}", quorum(info)));
    }
    text
}

fn asked(check: &CheckInfo) -> String {
    match (&check.dev, &check.source) {
        (Some(dev), _) => format!("{} by {dev}", check.asked),
        (None, Some(source)) => format!("{} from {source}", check.asked),
        (None, None) => check.asked.clone(),
    }
}

/// What came of the last check, and what keeps the server as it is in spite of it.
fn last(check: &CheckInfo) -> String {
    let Some(reason) = &check.reason else { return "not checked yet".to_owned() };
    let unknown = if check.passed.is_none() { "no check: " } else { "" };
    let held = check.held_ms.map(|ms| format!(", held down for {}", units::duration(ms)));
    format!("{unknown}{reason}{}", held.unwrap_or_default())
}

fn statistics(list: &[ServiceHealthInfo]) -> String {
    let headings = ["SERVICE", "SERVER", "CHECK", ">CHECKS", ">FAILED", ">CHANGES"];
    let mut table = Table::new(&headings);
    for info in list {
        for server in &info.servers {
            for check in &server.checks {
                table.row([
                    info.service.clone(),
                    server.address.to_string(),
                    check.check.to_string(),
                    check.checks.to_string(),
                    check.failures.to_string(),
                    check.changes.to_string(),
                ]);
            }
        }
    }
    table.text("nothing is checked")
}

fn quorum(info: &ServiceHealthInfo) -> String {
    let ServiceHealthInfo { service, quorum, weight_up, .. } = info;
    let state = if info.quorum_lost { "lost" } else { "there" };
    let sorry = match info.sorry_server.filter(|_| info.quorum_lost) {
        Some(sorry) => format!("; {sorry} serves instead"),
        None => String::new(),
    };
    format!("{service}: quorum {state}, {weight_up} of {quorum}{sorry}\n")
}
