//! `dpip addr`.

use std::collections::HashMap;
use std::net::IpAddr;

use api::{
    AddressInfo, AddressKey, DevQuery, LipUse, Operation, Request, ServiceInfo, WanAddressInfo,
    WorkerInfo,
};
use config::{Active, Address, InterfaceAddress};
use serde_json::json;

use super::super::dpvs::{Message, address_bucket};
use super::super::missing;
use super::super::{Compat, Failure, Outcome, plainly};
use super::words::{Line, Verb, absent, stray};
use super::{apply, no_verb, replace_section};

pub(super) const HELP: &str = "\
Usage:
    dpip addr show [ dev STRING ]
    dpip addr { add | set } ADDR[/PLEN] dev STRING [ broadcast ADDR ] [ scope global ] [ sapool ]
    dpip addr del ADDR[/PLEN] dev STRING
    dpip addr flush dev STRING
    dpip addr help
-s shows how many ports of local addresses and WAN IPs are taken, -v the same for each lcore.
";

/// Ports of a LIP that conns to one real server and port may take.
const LIP_PORTS: u64 = 64_512;

pub(super) fn run(compat: &mut Compat<'_>, line: &Line) -> Outcome {
    match line.verb {
        Verb::Show => show(compat, line),
        Verb::Add => {
            let body = Wanted::of(line)?.entry()?;
            let request = Request::new(Operation::AddressAdd).json(&body);
            plainly(compat.change(Message::ADDRESS_ADD, request))
        }
        Verb::Set => {
            let body = json!({ "addresses": [Wanted::of(line)?.entry()?] });
            plainly(apply(compat, Message::ADDRESS_SET, false, &body))
        }
        Verb::Del => {
            let Wanted { address, dev } = Wanted::of(line)?;
            let key = AddressKey { address: address.ok_or_else(|| absent("address"))?, dev };
            let request = Request::new(Operation::AddressDelete).query(&key);
            plainly(compat.change(Message::ADDRESS_DEL, request))
        }
        Verb::Flush => {
            let dev = Wanted::of(line)?.dev.ok_or_else(|| absent("dev"))?;
            let other = |entry: &serde_json::Map<String, serde_json::Value>| {
                entry.get("dev").and_then(serde_json::Value::as_str) != Some(&dev)
            };
            replace_section(compat, Message::ADDRESS_FLUSH, "addresses", other)
        }
        Verb::Help | Verb::Other => Err(no_verb(line)),
    }
}

/// The address that is named.
struct Wanted {
    address: Option<InterfaceAddress>,
    dev: Option<String>,
}

impl Wanted {
    fn of(line: &Line) -> Outcome<Self> {
        let mut wanted = Self { address: None, dev: None };
        let mut fields = line.fields();
        while let Some(word) = fields.next() {
            match word {
                "dev" => wanted.dev = Some(fields.value(word)?.to_owned()),
                // The broadcast address is that of the subnet; every LIP and WAN IP has ports.
                "broadcast" => drop(fields.address(word)?),
                "sapool" => {}
                "scope" if matches!(fields.value(word)?, "global" | "0") => {}
                "scope" | "valid_lft" | "prefered_lft" | "preferred_lft" => {
                    let forever = word != "scope" && fields.value(word)? == "forever";
                    if !forever {
                        return Err(Failure::not_supported(word, missing::LIFETIME));
                    }
                }
                address if wanted.address.is_none() => {
                    wanted.address = Some(address.parse().map_err(|_| stray(address))?);
                }
                other => return Err(stray(other)),
            }
        }
        Ok(wanted)
    }

    fn entry(self) -> Outcome<Address> {
        Ok(Address {
            address: self.address.ok_or_else(|| absent("address"))?,
            dev: self.dev.ok_or_else(|| absent("dev"))?,
            active: Active::Always,
        })
    }
}

fn show(compat: &mut Compat<'_>, line: &Line) -> Outcome {
    let query = DevQuery { dev: Wanted::of(line)?.dev };
    let mut list: Vec<AddressInfo> =
        compat.ask(Request::new(Operation::AddressList).query(&query))?;
    list.retain(|info| line.family.shows(info.address.address().is_ipv6()));
    // The newest first within a place of DPVS's table.
    list.reverse();
    list.sort_by_key(|info| address_bucket(info.address.address()));
    let ports = if line.stats || line.verbose { ports(compat, &list)? } else { HashMap::new() };
    let text = |lcore: Option<u16>| -> String {
        let one = |info: &AddressInfo| lines(info, lcore, ports.get(&info.address.address()));
        list.iter().map(one).collect()
    };
    if !line.verbose {
        return compat.print(&text(None));
    }
    // Each lcore has a table of its own there, the control plane's being number 0.
    let workers: Vec<WorkerInfo> = compat.ask(Request::new(Operation::WorkerList))?;
    let all: String = (0..=workers.len() as u16).map(|lcore| text(Some(lcore))).collect();
    compat.print(&all)
}

fn lines(info: &AddressInfo, lcore: Option<u16>, ports: Option<&Ports>) -> String {
    let address = info.address.address();
    let family = if address.is_ipv4() { "inet" } else { "inet6" };
    let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let scope = if link_local { "link" } else { "global" };
    let lcore = lcore.map(|lcore| format!("[{lcore:02}] ")).unwrap_or_default();
    let ports = ports.map(|Ports { used, free, missed }| {
        format!(" sa_used {used} sa_free {free} sa_miss {missed}")
    });
    format!(
        "{lcore}{family} {}/{} scope {scope} {}\n     valid_lft forever preferred_lft forever{}\n",
        address,
        info.address.prefix_len(),
        info.dev,
        ports.unwrap_or_default(),
    )
}

/// Ports of an address that is the source of others' packets.
#[derive(Clone, Copy, Debug, Default)]
struct Ports {
    used: u64,
    free: u64,
    missed: u64,
}

fn ports(compat: &Compat<'_>, list: &[AddressInfo]) -> Outcome<HashMap<IpAddr, Ports>> {
    let mut ports: HashMap<IpAddr, Ports> = HashMap::new();
    let has = |role: &str| list.iter().any(|info| info.role == role);
    if has("lip") {
        let services: Vec<ServiceInfo> = compat.ask(Request::new(Operation::ServiceList))?;
        for service in &services {
            // A port serves each real server once more.
            let servers = service.servers.len() as u64;
            let missed: u64 = service.servers.iter().map(|server| server.traffic.refused).sum();
            for lip in &service.lips {
                let of = ports.entry(lip.address).or_default();
                of.free += servers * LIP_PORTS;
                of.missed += missed;
            }
        }
        let uses: Vec<LipUse> = compat.ask(Request::new(Operation::LipUseList))?;
        for lip in uses {
            let of = ports.entry(lip.address).or_default();
            of.used += lip.connections;
            of.free = of.free.saturating_sub(lip.connections);
        }
    }
    if has("wan") {
        let pools: Vec<WanAddressInfo> = compat.ask(Request::new(Operation::SnatPools))?;
        for pool in pools {
            let of = ports.entry(pool.address).or_default();
            for usage in &pool.ports {
                of.used += u64::from(usage.taken);
                let busy = usage.taken.saturating_add(usage.resting);
                of.free += u64::from(usage.capacity.saturating_sub(busy));
            }
        }
    }
    Ok(ports)
}
