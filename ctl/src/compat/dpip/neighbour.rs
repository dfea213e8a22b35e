//! `dpip neigh`.

use std::net::IpAddr;

use api::{DevQuery, NeighbourInfo, NeighbourKey, NeighbourState, Operation, Request};
use config::Neighbour;
use types::MacAddr;

use super::super::dpvs::Message;
use super::super::{Compat, Outcome, plainly};
use super::no_verb;
use super::words::{Line, Verb, absent, stray};

pub(super) const HELP: &str = "\
Usage:
    dpip neigh show [ dev STRING ]
    dpip neigh { add | del } ADDR lladdr MAC dev STRING
    dpip neigh help
";

pub(super) fn run(compat: &mut Compat<'_>, line: &Line) -> Outcome {
    let Wanted { address, mac, dev } = Wanted::of(line)?;
    match line.verb {
        Verb::Show => show(compat, line, dev),
        Verb::Add => {
            let neighbour = Neighbour {
                address: address.ok_or_else(|| absent("address"))?,
                mac: mac.ok_or_else(|| absent("lladdr"))?,
                dev: dev.ok_or_else(|| absent("dev"))?,
            };
            let request = Request::new(Operation::NeighbourAdd).json(&neighbour);
            plainly(compat.change(Message::NEIGHBOUR_ADD, request))
        }
        Verb::Del => {
            let key = NeighbourKey { address: address.ok_or_else(|| absent("address"))?, dev };
            let request = Request::new(Operation::NeighbourDelete).query(&key);
            plainly(compat.change(Message::NEIGHBOUR_DEL, request))
        }
        _ => Err(no_verb(line)),
    }
}

/// The neighbour that is named.
#[derive(Default)]
struct Wanted {
    address: Option<IpAddr>,
    mac: Option<MacAddr>,
    dev: Option<String>,
}

impl Wanted {
    fn of(line: &Line) -> Outcome<Self> {
        let mut wanted = Self::default();
        let mut fields = line.fields();
        while let Some(word) = fields.next() {
            match word {
                "lladdr" => wanted.mac = Some(fields.number(word)?),
                "dev" => wanted.dev = Some(fields.value(word)?.to_owned()),
                address if wanted.address.is_none() => {
                    wanted.address = Some(address.parse().map_err(|_| stray(address))?);
                }
                other => return Err(stray(other)),
            }
        }
        Ok(wanted)
    }
}

fn show(compat: &mut Compat<'_>, line: &Line, dev: Option<String>) -> Outcome {
    let request = Request::new(Operation::NeighbourList).query(&DevQuery { dev });
    let mut list: Vec<NeighbourInfo> = compat.ask(request)?;
    list.retain(|info| line.family.shows(info.address.is_ipv6()));
    let text: String = list.iter().map(one).collect();
    compat.print(&text)
}

fn one(info: &NeighbourInfo) -> String {
    let (state, is_static) = match info.state {
        NeighbourState::Incomplete => ("SEND", ""),
        NeighbourState::Reachable => ("REACHABLE", ""),
        NeighbourState::Stale => ("STALE", ""),
        NeighbourState::Delay => ("DELAY", ""),
        NeighbourState::Probe => ("PROBE", ""),
        NeighbourState::Failed => ("NONE", ""),
        NeighbourState::Permanent => ("REACHABLE", "static"),
    };
    let address = info.address.to_string();
    let mac = match info.mac {
        Some(mac) => format!("mac: {}", mac.to_string().to_lowercase()),
        // As DPVS spells it.
        None => "mac:incomplate".to_owned(),
    };
    // All workers see the same; the first one is number 1 there.
    format!(
        "ip: {address:<48} {mac}   state: {state:<12}  dev: {}  core: 1  {is_static}\n",
        info.dev
    )
}
