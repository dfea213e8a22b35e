//! The daemon itself: status, version, workers, log; and the completions of this program.

use api::{LogSettings, Operation, Request, Status, Version, WorkerInfo};
use clap_complete::Shell;
use serde_json::json;

use crate::cli::{CompletionArgs, LogVerb, Options, command};
use crate::error::CtlError;
use crate::output::{Table, details, name};
use crate::program::Build;
use crate::session::{Outcome, Session};
use crate::units;

fn daemon(version: &Version) -> String {
    let commit = match version.commit.as_str() {
        "" => String::new(),
        commit => format!(" ({commit})"),
    };
    format!("{}{commit}, {}, API {}", version.version, version.dpdk, version.api)
}

pub(super) fn status(session: &mut Session<'_>) -> Outcome {
    let status: Status = session.ask(Request::new(Operation::Status))?;
    session.print(&status, status_text)
}

fn status_text(status: &Status, options: &Options) -> String {
    let state = name(&status.state);
    let conns = units::Conns {
        all: status.connections,
        ipv6: status.connections_ipv6,
        max: status.max_connections,
        max_ipv6: status.max_connections_ipv6,
    };
    if options.brief {
        return format!("{state} {}\n", conns.brief());
    }
    let saved = match status.config_differs {
        Some(true) => "differs from what runs: see `dpctl diff`",
        Some(false) => "the same as what runs",
        None => "cannot be read",
    };
    let (interfaces, up) = (u64::from(status.interfaces), status.interfaces_up);
    let interfaces = format!("{}, {up} up", units::count(interfaces, "interface"));
    let servers = units::count(u64::from(status.servers), "real server");
    let services = units::count(u64::from(status.services), "service");
    let up = units::duration(status.uptime_ms);
    let mut lines = vec![
        ("dpnatd", daemon(&status.version)),
        ("state", format!("{state}, pid {}, up {up}", status.pid)),
        ("file", format!("{}: {saved}", status.config_file)),
        ("generation", status.generation.to_string()),
        ("serving", format!("{services} with {servers}")),
        ("on", format!("{interfaces}; {}", units::count(u64::from(status.workers), "worker"))),
        ("connections", conns.text()),
    ];
    lines.extend(status.problems.iter().map(|problem| ("problem", problem.clone())));
    details(&lines)
}

pub(super) fn version(session: &mut Session<'_>, build: Build) -> Outcome {
    // One's own version is of use even without a daemon.
    if !session.is_json() {
        session.text(&format!("dpctl   {}\n", build.text()))?;
    }
    let answer: Version = session.ask(Request::new(Operation::Version))?;
    if session.is_json() {
        let own = json!({ "version": build.version, "commit": build.commit });
        return session.json(&json!({ "dpctl": own, "dpnatd": answer }));
    }
    session.text(&format!("dpnatd  {}\n", daemon(&answer)))
}

pub(super) fn worker(session: &mut Session<'_>) -> Outcome {
    let list: Vec<WorkerInfo> = session.ask(Request::new(Operation::WorkerList))?;
    session.print(&list, |list, options| workers(list, options))
}

fn workers(list: &[WorkerInfo], options: &Options) -> String {
    let state = |info: &WorkerInfo| if info.stalled { "stalled" } else { "running" }.to_owned();
    let load = |info: &WorkerInfo| format!("{:.0}%", info.load * 100.0);
    if options.brief {
        let line = |info: &WorkerInfo| format!("{} {} {}\n", info.id, state(info), load(info));
        return list.iter().map(line).collect();
    }
    let headings =
        [">ID", ">CPU", "STATE", ">LOAD", ">CONNS", ">LEASES", ">RX-PKTS", ">TX-PKTS", ">DROPPED"];
    let mut table = Table::new(&headings);
    for info in list {
        table.row([
            info.id.to_string(),
            info.cpu.to_string(),
            state(info),
            load(info),
            info.connections.to_string(),
            info.leases.to_string(),
            info.rx_packets.to_string(),
            info.tx_packets.to_string(),
            info.dropped.to_string(),
        ]);
    }
    let text = table.text("no workers");
    if !options.statistics || list.is_empty() {
        return text;
    }
    let headings = [">ID", ">GENERATION", ">ROUNDS", ">LONGEST", ">MAX-CONNS", ">MAX-IPV6"];
    let mut table = Table::new(&headings);
    for info in list {
        table.row([
            info.id.to_string(),
            info.generation.to_string(),
            info.loops.to_string(),
            format!("{} us", info.loop_max_us),
            info.max_connections.to_string(),
            info.max_connections_ipv6.to_string(),
        ]);
    }
    format!("{text}\n{}", table.text(""))
}

pub(super) fn log(session: &mut Session<'_>, verb: LogVerb) -> Outcome {
    let request = match verb {
        LogVerb::Show => Request::new(Operation::LogGet),
        LogVerb::Level(to) => {
            Request::new(Operation::LogSet).json(&LogSettings { level: to.level })
        }
    };
    let settings: LogSettings = session.ask(request)?;
    session.print(&settings, |settings, _| format!("level {}\n", settings.level))
}

pub(super) fn completion(session: &mut Session<'_>, args: &CompletionArgs) -> Outcome {
    let shell: Shell = args.shell.parse().map_err(CtlError::Usage)?;
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "dpctl", &mut script);
    session.text(&String::from_utf8_lossy(&script))
}
