//! `ipvsadm -lc` and `ipvsadm -G`: conns, and the local addresses that they use.

use std::net::IpAddr;

use api::{
    Connection, ConnectionPage, ConnectionQuery, ConnectionState, LipUse, Operation, Request,
};
use config::Protocol;
use types::{Endpoint, L4Port, Proto};

use super::super::dpvs::{Code, Message};
use super::super::{Compat, Failure, Outcome};
use super::address::Style;
use super::options::{Opt, Words};
use super::settings::Key;
use super::table;

/// ICMP echo request, as DPVS shows it where others have a port.
const ECHO: u16 = 8;

pub(super) fn list(compat: &mut Compat<'_>, words: &Words) -> Outcome {
    let mut query =
        ConnectionQuery { limit: Some(ConnectionQuery::LIMIT_MAX), ..Default::default() };
    let pair = words.value(Opt::Sockpair).map(SocketPair::parse).transpose()?;
    if let Some(SocketPair { protocol, source, target }) = pair {
        query.protocol = Some(protocol);
        query.client = Some(source.address.into());
        query.vip = Some(target);
    } else if let Some(Key::Service(protocol, vip)) = Key::of(words)? {
        query.protocol = Some(protocol.into());
        query.vip = Some(vip);
    }
    let style = Style::new(words.has(Opt::Numeric));
    loop {
        let request = Request::new(Operation::ConnectionList).query(&query);
        let page: ConnectionPage = compat.ask(request)?;
        let wanted = |conn: &&Connection| pair.is_none_or(|pair| pair.source == conn.client);
        let text: String =
            page.connections.iter().filter(wanted).map(|conn| line(conn, &style)).collect();
        compat.print(&text)?;
        match page.next {
            Some(next) => query.cursor = Some(next),
            None => return Ok(()),
        }
    }
}

/// `PROTO:SIP:SPORT:TIP:TPORT`; of IPv6 in brackets.
#[derive(Clone, Copy, Debug)]
struct SocketPair {
    protocol: Proto,
    source: Endpoint,
    target: Endpoint,
}

impl SocketPair {
    fn parse(text: &str) -> Outcome<Self> {
        let wrong = || Failure::usage(format!("illegal socket pair specified: `{text}`"));
        let (protocol, rest) = text.split_once(':').ok_or_else(wrong)?;
        let protocol = match protocol {
            "tcp" => Proto::Tcp,
            "udp" => Proto::Udp,
            _ => return Err(wrong()),
        };
        // The end of the first address and port is the third colon, but for those in brackets.
        let mut depth = 0;
        let mut colons = rest.char_indices().filter(|(_, c)| {
            depth += i32::from(*c == '[') - i32::from(*c == ']');
            *c == ':' && depth == 0
        });
        let (middle, _) = colons.nth(1).ok_or_else(wrong)?;
        let source = rest[..middle].parse().map_err(|_| wrong())?;
        let target = rest[middle + 1..].parse().map_err(|_| wrong())?;
        Ok(Self { protocol, source, target })
    }
}

fn line(conn: &Connection, style: &Style) -> String {
    let (name, protocol) = match conn.protocol {
        Proto::Tcp => ("tcp", Protocol::Tcp),
        Proto::Udp => ("udp", Protocol::Udp),
        Proto::Icmp => ("icmp", Protocol::Udp),
    };
    let [first, second, third, fourth] = ends(conn).map(|end| style.endpoint(end, protocol));
    let timeout = format!("{}s", conn.expires_in_ms.div_ceil(1000));
    let state = state(conn);
    // DPVS's workers are counted from 1: its number 0 is the control plane.
    let worker = conn.worker + 1;
    format!(
        "[{worker}]{name:<3} {timeout:<6} {state:<11} {first:<18} {second:<18} {third:<18} {fourth}\n"
    )
}

/// Client, VIP, local address and real server as DPVS has them. Of source NAT it takes the outside's view:
/// the remote is the client, the WAN IP the VIP, and the inside host the server.
fn ends(conn: &Connection) -> [Endpoint; 4] {
    let Connection { client, vip, lip, server, .. } = conn;
    if vip != server {
        return [*client, *vip, *lip, *server];
    }
    let mut remote = *server;
    if conn.protocol == Proto::Icmp {
        remote.l4_port = L4Port(ECHO);
    }
    [remote, *lip, remote, *client]
}

fn state(conn: &Connection) -> &'static str {
    match (conn.protocol, conn.state) {
        (Proto::Icmp, _) => "ICMP_NORMAL",
        (_, ConnectionState::SynSent | ConnectionState::SynReceived) => "SYN_RECV",
        (_, ConnectionState::Established) => "TCP_EST",
        (_, ConnectionState::ForwardFin) => "CLOSE_WAIT",
        (_, ConnectionState::ReverseFin) => "FIN_WAIT",
        (_, ConnectionState::BothFin) => "TIME_WAIT",
        (_, ConnectionState::Closed) => "TCP_CLOSE",
        (_, ConnectionState::Oneway) => "UDP_ONEWAY",
        (_, ConnectionState::Bidirectional) => "UDP_NORM",
    }
}

/// `ipvsadm -G`.
pub(super) fn laddrs(compat: &mut Compat<'_>, words: &Words) -> Outcome {
    let key = Key::of(words)?;
    let mut entries = table::load(compat, key.as_ref())?;
    if key.is_some() && entries.is_empty() {
        return Err(Failure::Refused(Message::SERVICE_GET, Code::NotExist, None));
    }
    table::sort_by_table(&mut entries, |entry| &entry.key);
    let mut uses: Vec<LipUse> = compat.ask(Request::new(Operation::LipUseList))?;
    uses.sort_by_key(|lip| (lip.vip.address, lip.vip.l4_port.0, lip.address));
    let style = Style::new(true);
    let mut text = format!(
        "{:<20} {:<8} {:<20} {:<10} {:<10}\n",
        "VIP:VPORT", "TOTAL", "SNAT_IP", "CONFLICTS", "CONNS",
    );
    for entry in &entries {
        let (vip, lips): (Endpoint, Vec<&LipUse>) = match &entry.key {
            Key::Service(_, vip) => {
                let at = (vip.address, vip.l4_port.0);
                let start = uses.partition_point(|lip| (lip.vip.address, lip.vip.l4_port.0) < at);
                let here = uses[start..].iter().take_while(|lip| lip.vip == *vip);
                // TCP and UDP of one VIP and port are two services.
                (*vip, here.filter(|lip| lip.service == entry.name).collect())
            }
            Key::Match(_) => (Endpoint::v4(0, 0), Vec::new()),
        };
        let vip = style.endpoint(vip, Protocol::Tcp);
        text.push_str(&format!("{vip:<20} {:<8} \n", lips.len()));
        for lip in lips {
            let (address, conns): (IpAddr, u64) = (lip.address, lip.connections);
            text.push_str(&format!(
                "{:<20} {:<8} {:<20} {:<10} {conns:<10}\n",
                "",
                "",
                address.to_string(),
                0,
            ));
        }
    }
    compat.print(&text)
}
