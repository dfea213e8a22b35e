//! `dpip route`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use api::{AddressInfo, DevQuery, Operation, Request, RouteInfo, RouteKey, RouteOrigin};
use config::{Prefix, Route, RouteType};

use super::super::dpvs::{Code, Message, route_bucket};
use super::super::missing;
use super::super::{Compat, Failure, Outcome, plainly};
use super::words::{Family, Line, Verb, absent, stray};
use super::{no_verb, replace_section};

pub(super) const HELP: &str = "\
Usage:
    dpip [ -6 ] route { show | help }
    dpip route flush dev IFNAME
    dpip [ -6 ] route { add | del | set } ROUTE
Parameters:
    ROUTE  := { ADDR/PLEN | ADDR | default } [ via ADDR ] [ dev IFNAME ] [ OPTIONS ]
    OPTIONS := [ scope { host | link | global } ] [ mtu MTU ] [ src ADDR ] [ metric NUM ] [ local ]
";

pub(super) fn run(compat: &mut Compat<'_>, line: &Line) -> Outcome {
    let v6 = line.family == Family::V6;
    let message = |v4: Message| if v6 { Message::ROUTE6 } else { v4 };
    match line.verb {
        Verb::Show => show(compat, line),
        Verb::Add | Verb::Set => {
            let wanted = Wanted::of(line)?;
            let route = wanted.route(compat)?;
            let (operation, message) = match line.verb {
                Verb::Add => {
                    let message = message(Message::ROUTE_ADD);
                    if is_connected(compat, &route) {
                        return Err(Failure::Refused(message, Code::Exist, None));
                    }
                    (Operation::RouteAdd, message)
                }
                _ => (Operation::RouteSet, message(Message::ROUTE_SET)),
            };
            plainly(compat.change(message, Request::new(operation).json(&route)))
        }
        Verb::Del => {
            let Wanted { to, metric, .. } = Wanted::of(line)?;
            let key = RouteKey { to: to.ok_or_else(|| absent("destination"))?, metric };
            let request = Request::new(Operation::RouteDelete).query(&key);
            plainly(compat.change(message(Message::ROUTE_DEL), request))
        }
        Verb::Flush => {
            let dev = Wanted::of(line)?.dev.ok_or_else(|| absent("dev"))?;
            let family = line.family;
            let message = if v6 { Message::ROUTE6_FLUSH } else { Message::ROUTE_FLUSH };
            replace_section(compat, message, "routes", |entry| {
                let text = |key: &str| entry.get(key).and_then(|value| value.as_str());
                let is_v6 = text("to").is_some_and(|to| to.contains(':'));
                text("dev") != Some(&dev) || !family.shows(is_v6)
            })
        }
        Verb::Help | Verb::Other => Err(no_verb(line)),
    }
}

/// The route that is named.
#[derive(Debug, Default)]
struct Wanted {
    to: Option<Prefix>,
    via: Option<IpAddr>,
    dev: Option<String>,
    mtu: Option<u16>,
    src: Option<IpAddr>,
    metric: Option<u32>,
    local: bool,
}

impl Wanted {
    fn of(line: &Line) -> Outcome<Self> {
        let mut wanted = Self::default();
        let mut fields = line.fields();
        while let Some(word) = fields.next() {
            match word {
                "via" => wanted.via = Some(fields.address(word)?),
                "dev" => wanted.dev = Some(fields.value(word)?.to_owned()),
                "mtu" => wanted.mtu = Some(fields.number(word)?),
                "src" => wanted.src = Some(fields.address(word)?),
                "metric" => wanted.metric = Some(fields.number(word)?),
                "local" => wanted.local = true,
                "scope" => match fields.value(word)? {
                    "host" => wanted.local = true,
                    "link" | "global" => {}
                    other => {
                        let what = format!("scope {other}");
                        return Err(Failure::not_supported(what, missing::SCOPE));
                    }
                },
                to if wanted.to.is_none() => wanted.to = Some(destination(to, line.family)?),
                other => return Err(stray(other)),
            }
        }
        Ok(wanted)
    }

    /// The same in full; without `dev`, the router's own subnet says by which interface.
    fn route(self, compat: &Compat<'_>) -> Outcome<Route> {
        let dev = match (self.dev, self.via) {
            (Some(dev), _) => dev,
            (None, Some(via)) => dev_of(compat, via)?.ok_or_else(|| absent("dev"))?,
            (None, None) => return Err(absent("dev")),
        };
        Ok(Route {
            to: self.to.ok_or_else(|| absent("destination"))?,
            via: self.via,
            dev,
            metric: self.metric.unwrap_or(0),
            src: self.src,
            mtu: self.mtu,
            route_type: if self.local { RouteType::Local } else { RouteType::Unicast },
        })
    }
}

/// DPVS has one route to the subnet of an address of ours, whoever adds it.
fn is_connected(compat: &Compat<'_>, route: &Route) -> bool {
    let query = DevQuery { dev: Some(route.dev.clone()) };
    let known: Result<Vec<RouteInfo>, _> =
        compat.client.send(Request::new(Operation::RouteList).query(&query));
    // That there is no such interface is told by what comes next.
    let known = known.unwrap_or_default();
    let same = |info: &RouteInfo| info.origin == RouteOrigin::Connected && info.to == route.to;
    route.metric == 0 && known.iter().any(same)
}

/// Bits beyond the length of a prefix are dropped, as DPVS does.
fn destination(text: &str, family: Family) -> Outcome<Prefix> {
    let text = match (text, family) {
        ("default", Family::V6) => "::/0",
        ("default", _) => "0.0.0.0/0",
        (text, _) => text,
    };
    let whole: config::InterfaceAddress = text.parse().map_err(|_| stray(text))?;
    Ok(Prefix::new(whole.net()))
}

fn dev_of(compat: &Compat<'_>, via: IpAddr) -> Outcome<Option<String>> {
    let routes: Vec<RouteInfo> = compat.ask(Request::new(Operation::RouteList))?;
    let on_link = routes.into_iter().filter(|route| {
        route.via.is_none()
            && route.route_type == RouteType::Unicast
            && route.to.net().contains(&via)
    });
    Ok(on_link.max_by_key(|route| route.to.prefix_len()).map(|route| route.dev))
}

fn show(compat: &mut Compat<'_>, line: &Line) -> Outcome {
    let v6 = line.family == Family::V6;
    let query = DevQuery { dev: Wanted::of(line)?.dev };
    let routes: Vec<RouteInfo> = compat.ask(Request::new(Operation::RouteList).query(&query))?;
    let addresses: Vec<AddressInfo> =
        compat.ask(Request::new(Operation::AddressList).query(&query))?;
    let mtu = |dev: &str| routes.iter().find(|route| route.dev == dev).map_or(1500, |r| r.mtu);
    // DPVS has a route to each address of ours, the newest first within a place of its table.
    let mut local: Vec<RouteInfo> = addresses
        .iter()
        .rev()
        .filter(|info| info.address.address().is_ipv6() == v6)
        .map(|info| RouteInfo {
            to: Prefix::new(info.address.address().into()),
            via: None,
            dev: info.dev.clone(),
            metric: 0,
            src: None,
            mtu: mtu(&info.dev),
            route_type: RouteType::Local,
            origin: RouteOrigin::Local,
        })
        .collect();
    local.sort_by_key(|route| if v6 { 0 } else { route_bucket(route.to.address()) });
    let mut others: Vec<RouteInfo> = Vec::new();
    for route in routes.into_iter().filter(|route| route.origin != RouteOrigin::Local) {
        // What is configured and follows from an address, too, is one route there.
        let same = |other: &RouteInfo| {
            (other.to, other.metric, &other.dev) == (route.to, route.metric, &route.dev)
        };
        if route.to.address().is_ipv6() == v6 && !others.iter().any(same) {
            others.push(route);
        }
    }
    others.sort_by_key(|route| std::cmp::Reverse(route.to.prefix_len()));
    let one = if v6 { line6 } else { line4 };
    let text: String = local.iter().chain(&others).map(one).collect();
    compat.print(&text)
}

fn scope(route: &RouteInfo) -> &'static str {
    match (route.route_type, route.via) {
        (RouteType::Local, _) => "host",
        (_, Some(_)) => "global",
        (_, None) => "link",
    }
}

fn line4(route: &RouteInfo) -> String {
    let or_none = |address: Option<IpAddr>| address.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    format!(
        "inet {}/{} via {} src {} dev {} mtu {} tos 0 scope {} metric {} proto auto \n",
        route.to.address(),
        route.to.prefix_len(),
        or_none(route.via),
        or_none(route.src),
        route.dev,
        route.mtu,
        scope(route),
        route.metric,
    )
}

fn line6(route: &RouteInfo) -> String {
    let to = if route.to.prefix_len() == 0 && route.to.address() == Ipv6Addr::UNSPECIFIED {
        "default".to_owned()
    } else {
        format!("{}/{}", route.to.address(), route.to.prefix_len())
    };
    let mut text = format!("inet6 {to}");
    for (word, address) in [("via", route.via), ("src", route.src)] {
        text.extend(address.map(|address| format!(" {word} {address}")));
    }
    text + &format!(" dev {} mtu {} scope {}\n", route.dev, route.mtu, scope(route))
}
