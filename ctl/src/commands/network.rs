//! Addresses, routes, neighbours and links.

use api::{
    AddressInfo, AddressKey, DevQuery, KniInfo, LinkInfo, NeighbourInfo, NeighbourKey, Operation,
    Request, RouteInfo, RouteKey, RouteOrigin, VlanTags,
};
use config::{RouteType, Vlan};

use crate::cli::{AddressVerb, LinkVerb, NeighbourVerb, Options, RouteArgs, RouteVerb};
use crate::output::{Table, details, name, optional};
use crate::session::{Outcome, Session};
use crate::units;

pub(super) fn address(session: &mut Session<'_>, verb: &AddressVerb) -> Outcome {
    match verb {
        AddressVerb::Show(on) => {
            let query = DevQuery { dev: on.dev.clone() };
            let request = Request::new(Operation::AddressList).query(&query);
            let mut list: Vec<AddressInfo> = session.ask(request)?;
            list.retain(|info| session.shows(info.address.address()));
            session.print(&list, |list, options| addresses(list, options))
        }
        AddressVerb::Add(new) => session.change(Request::new(Operation::AddressAdd).json(new)),
        AddressVerb::Del(old) => {
            let key = AddressKey { address: old.address, dev: old.dev.clone() };
            session.change(Request::new(Operation::AddressDelete).query(&key))
        }
    }
}

fn addresses(list: &[AddressInfo], options: &Options) -> String {
    if options.brief {
        let on_same_dev = |a: &AddressInfo, b: &AddressInfo| a.dev == b.dev;
        let line = |group: &[AddressInfo]| {
            let texts: Vec<_> = group.iter().map(|info| info.address.to_string()).collect();
            format!("{} {}\n", group.first().map_or("", |info| &info.dev), texts.join(" "))
        };
        let mut list = list.to_vec();
        list.sort_by(|a, b| a.dev.cmp(&b.dev));
        return list.chunk_by(on_same_dev).map(line).collect();
    }
    let mut table = Table::new(&["ADDRESS", "DEV", "ROLE", "ACTIVE"]);
    for info in list {
        table.row([
            info.address.to_string(),
            info.dev.clone(),
            info.role.clone(),
            name(&info.active),
        ]);
    }
    table.text("no addresses")
}

pub(super) fn route(session: &mut Session<'_>, verb: &RouteVerb) -> Outcome {
    match verb {
        RouteVerb::Show(which) => {
            let query = DevQuery { dev: which.dev.clone() };
            let request = Request::new(Operation::RouteList).query(&query);
            let mut list: Vec<RouteInfo> = session.ask(request)?;
            list.retain(|info| {
                session.shows(info.to.address()) && (which.all || info.origin != RouteOrigin::Local)
            });
            session.print(&list, |list, options| routes(list, options))
        }
        RouteVerb::Add(new) => {
            let new = RouteArgs { to: session.destination(new.to), ..new.clone() };
            session.change(Request::new(Operation::RouteAdd).json(&new))
        }
        RouteVerb::Set(new) => {
            let new = RouteArgs { to: session.destination(new.to), ..new.clone() };
            session.change(Request::new(Operation::RouteSet).json(&new))
        }
        RouteVerb::Del(old) => {
            let key = RouteKey { to: session.destination(old.to), metric: old.metric };
            session.change(Request::new(Operation::RouteDelete).query(&key))
        }
    }
}

fn routes(list: &[RouteInfo], options: &Options) -> String {
    if options.brief {
        let line = |info: &RouteInfo| {
            let local = if info.route_type == RouteType::Local { "local " } else { "" };
            let via = info.via.map(|via| format!(" via {via}")).unwrap_or_default();
            format!("{local}{}{via} dev {}\n", info.to, info.dev)
        };
        return list.iter().map(line).collect();
    }
    let mut table =
        Table::new(&["DESTINATION", "VIA", "DEV", ">METRIC", "SRC", ">MTU", "TYPE", "ORIGIN"]);
    for info in list {
        table.row([
            info.to.to_string(),
            optional(info.via.as_ref()),
            info.dev.clone(),
            info.metric.to_string(),
            optional(info.src.as_ref()),
            info.mtu.to_string(),
            name(&info.route_type),
            name(&info.origin),
        ]);
    }
    table.text("no routes")
}

pub(super) fn neighbour(session: &mut Session<'_>, verb: &NeighbourVerb) -> Outcome {
    match verb {
        NeighbourVerb::Show(on) => {
            let query = DevQuery { dev: on.dev.clone() };
            let request = Request::new(Operation::NeighbourList).query(&query);
            let mut list: Vec<NeighbourInfo> = session.ask(request)?;
            list.retain(|info| session.shows(info.address));
            session.print(&list, |list, options| neighbours(list, options))
        }
        NeighbourVerb::Add(new) => session.change(Request::new(Operation::NeighbourAdd).json(new)),
        NeighbourVerb::Set(new) => session.change(Request::new(Operation::NeighbourSet).json(new)),
        NeighbourVerb::Del(old) => {
            let key = NeighbourKey { address: old.address, dev: old.dev.clone() };
            session.change(Request::new(Operation::NeighbourDelete).query(&key))
        }
    }
}

fn neighbours(list: &[NeighbourInfo], options: &Options) -> String {
    if options.brief {
        let line = |info: &NeighbourInfo| {
            let mac = info.mac.map(|mac| format!(" {mac}")).unwrap_or_default();
            format!("{} {}{mac}\n", info.address, info.dev)
        };
        return list.iter().map(line).collect();
    }
    let mut table = Table::new(&["ADDRESS", "DEV", "LLADDR", "STATE", "CONFIRMED"]);
    for info in list {
        let ago = info.confirmed_ms_ago.map(|ms| format!("{} ago", units::duration(ms)));
        table.row([
            info.address.to_string(),
            info.dev.clone(),
            optional(info.mac.as_ref()),
            name(&info.state),
            ago.unwrap_or_default(),
        ]);
    }
    table.text("no neighbours")
}

pub(super) fn link(session: &mut Session<'_>, verb: &LinkVerb) -> Outcome {
    let which = match verb {
        LinkVerb::Show(which) => which,
        LinkVerb::Add(new) => {
            let vlan = Vlan { link: new.link.clone(), id: new.id, kni: None };
            let request = Request::new(Operation::VlanAdd).name("name", &new.name);
            return session.change(request.json(&vlan));
        }
        LinkVerb::Del(old) => {
            let request = Request::new(Operation::VlanDelete).name("name", &old.name);
            return session.change(request);
        }
    };
    if let Some(name) = which.name.as_ref().or(which.dev.as_ref()) {
        let request = Request::new(Operation::LinkGet).name("name", name);
        let info: LinkInfo = session.ask(request)?;
        return session.print(&info, |info, options| {
            if options.brief { links(std::slice::from_ref(info), options) } else { one_link(info) }
        });
    }
    let list: Vec<LinkInfo> = session.ask(Request::new(Operation::LinkList))?;
    session.print(&list, |list, options| links(list, options))
}

fn up_or_down(info: &LinkInfo) -> String {
    if info.up { "up" } else { "down" }.to_owned()
}

fn speed(info: &LinkInfo) -> String {
    info.speed_mbps
        .map(|mbps| units::bits_per_second(f64::from(mbps) * 1e6).replace(".0 ", " "))
        .unwrap_or_default()
}

fn links(list: &[LinkInfo], options: &Options) -> String {
    if options.brief {
        let line = |info: &LinkInfo| format!("{} {} {}\n", info.name, up_or_down(info), info.mac);
        return list.iter().map(line).collect();
    }
    let headings = ["NAME", "STATE", "SPEED", ">MTU", "MAC", "DRIVER", ">QUEUES"];
    let mut table = Table::new(&headings);
    for info in list {
        table.row([
            info.name.clone(),
            up_or_down(info),
            speed(info),
            info.mtu.to_string(),
            info.mac.to_string(),
            info.driver.clone(),
            format!("{}/{}", info.rx_queues, info.tx_queues),
        ]);
    }
    let text = table.text("no interfaces");
    if !options.statistics || list.is_empty() {
        return text;
    }
    let headings = ["NAME", ">RX-PKTS", ">RX", ">RX-LOST", ">TX-PKTS", ">TX", ">TX-LOST"];
    let mut table = Table::new(&headings);
    for info in list {
        let stats = &info.stats;
        table.row([
            info.name.clone(),
            stats.rx_packets.to_string(),
            units::bytes(stats.rx_bytes),
            (stats.rx_missed + stats.rx_errors + stats.rx_no_buffer).to_string(),
            stats.tx_packets.to_string(),
            units::bytes(stats.tx_bytes),
            stats.tx_errors.to_string(),
        ]);
    }
    format!("{text}\n{}", table.text(""))
}

fn one_link(info: &LinkInfo) -> String {
    let duplex = info.duplex.map(|duplex| format!(", {} duplex", name(&duplex)));
    let speed = format!("{}{}", speed(info), duplex.unwrap_or_default());
    let stats = &info.stats;
    let received = format!(
        "{}, {}; lost {} to full queues, {} broken, {} without buffer",
        units::count(stats.rx_packets, "packet"),
        units::bytes(stats.rx_bytes),
        stats.rx_missed,
        stats.rx_errors,
        stats.rx_no_buffer,
    );
    let sent = format!(
        "{}, {}; {} failed",
        units::count(stats.tx_packets, "packet"),
        units::bytes(stats.tx_bytes),
        stats.tx_errors,
    );
    let mut rows = vec![
        ("name", info.name.clone()),
        ("state", up_or_down(info)),
        ("speed", speed.trim_start_matches(", ").to_owned()),
        ("mac", info.mac.to_string()),
        ("mtu", format!("{} B", info.mtu)),
        ("device", info.device.clone()),
        ("driver", info.driver.clone()),
        ("rx queues", format!("{} of {} descriptors", info.rx_queues, info.rx_descriptors)),
        ("tx queues", format!("{} of {} descriptors", info.tx_queues, info.tx_descriptors)),
        ("NUMA node", optional(info.socket.as_ref())),
        ("vlan tags", vlan_tags(info.vlan_tags)),
        ("steering", info.steering.clone()),
        ("received", received),
        ("sent", sent),
    ];
    if let Some(vlan) = &info.vlan {
        rows.insert(1, ("vlan", format!("{} on {}", vlan.id, vlan.link)));
    }
    rows.extend(info.kni.iter().flat_map(kni));
    details(&rows)
}

/// Who takes tags of VLANs out of frames, and puts them in.
fn vlan_tags(tags: VlanTags) -> String {
    let by = |nic| if nic { "the device" } else { "the workers" };
    format!("taken out by {}, put in by {}", by(tags.taken_by_nic), by(tags.put_by_nic))
}

/// The kernel's interface to one of ours, and what passed it.
fn kni(kni: &KniInfo) -> [(&'static str, String); 3] {
    let netns = kni.netns.as_ref().map(|netns| format!(" in {netns}")).unwrap_or_default();
    let held: Vec<_> = kni.addresses.iter().map(ToString::to_string).collect();
    let held = if held.is_empty() { "no address".to_owned() } else { held.join(", ") };
    let passed = |packets: u64, dropped: u64| {
        format!("{}; {dropped} dropped", units::count(packets, "packet"))
    };
    let stats = &kni.stats;
    [
        ("kni", format!("{}{netns}: {held}", kni.name)),
        ("to kernel", passed(stats.to_kernel_packets, stats.to_kernel_dropped)),
        ("from kernel", passed(stats.from_kernel_packets, stats.from_kernel_dropped)),
    ]
}
