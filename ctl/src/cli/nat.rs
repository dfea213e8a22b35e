//! Verbs of source NAT and destination NAT.

use std::net::IpAddr;

use clap::{Args, Subcommand};
use config::{
    AddressMatch, Duration, EndpointRange, Filtering, IpProtocol, Mapping, MssClamp, OnExhausted,
    Pooling, PortRange, PortSelection, Protocol, Refresh, Scheduler, SnatAction, SourceAddress,
};
use serde_json::{Map, Value, json};
use types::Proto;

use super::service::put;
use super::values::{ListOr, WanAddress, Weighted, mss_clamp, on_off, one_of, pair};

/// What is done with rules of source NAT.
#[derive(Clone, Debug, Subcommand)]
pub enum SnatVerb {
    /// Show them all in order, or one in full
    #[command(visible_alias = "list")]
    Show(RuleShow),
    /// Add one; last, unless a place is given
    Add(SnatArgs),
    /// Change one; its connections go on, but for those of a WAN IP that no rule has any more: drain it first, by `--wan ADDRESS,admin=drain`
    Set(SnatArgs),
    /// Remove one; its connections go on while another rule has their WAN IP, and end at once if none has
    #[command(visible_alias = "delete")]
    Del(RuleDel),
    /// Show mappings for which all that is given holds
    Mappings(MappingsArgs),
    /// Show what an inside address takes
    Subscriber(SubscriberArgs),
    /// Show WAN IPs and how many of their ports are taken
    Pools,
}

/// Chooses a rule.
#[derive(Clone, Debug, Args)]
pub struct RuleShow {
    /// This one, in full
    #[arg(value_name = "RULE")]
    pub name: Option<String>,
}

/// A rule that goes.
#[derive(Clone, Debug, Args)]
pub struct RuleDel {
    /// Its name
    #[arg(value_name = "RULE")]
    pub name: String,
    /// End its connections at once; both ends get a reset
    #[arg(long)]
    pub reset: bool,
}

/// Where a rule is put among the others; the first that a packet meets decides.
#[derive(Clone, Debug, Default, Args)]
pub struct PlaceArgs {
    /// Put it before this rule
    #[arg(long, value_name = "RULE", conflicts_with = "position")]
    pub before: Option<String>,
    /// Put it at this position, from 1
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub position: Option<u32>,
}

/// What a rule applies to. Lists are separated by commas, and `any` is the empty one.
#[derive(Clone, Debug, Default, Args)]
pub struct MatchArgs {
    /// Sources: addresses, ranges and prefixes, or `any`
    #[arg(long, value_name = "ADDRESSES")]
    pub source: Option<ListOr<AddressMatch>>,
    /// Destinations: addresses, ranges and prefixes, or `any`
    #[arg(long, value_name = "ADDRESSES")]
    pub destination: Option<ListOr<AddressMatch>>,
    /// Protocols by name or number, or `any`
    #[arg(long, value_name = "PROTOCOLS")]
    pub protocol: Option<ListOr<IpProtocol>>,
    /// Source ports and ranges, or `any`
    #[arg(long, value_name = "PORTS")]
    pub source_ports: Option<ListOr<PortRange>>,
    /// Destination ports and ranges, or `any`
    #[arg(long, value_name = "PORTS")]
    pub destination_ports: Option<ListOr<PortRange>>,
    /// The interface that packets come in by, or `any`
    #[arg(long, value_name = "INTERFACE")]
    pub in_dev: Option<String>,
    /// The interface that their route leaves by, or `any`
    #[arg(long, value_name = "INTERFACE")]
    pub out_dev: Option<String>,
    /// Sources that are left alone, or `none`
    #[arg(long, value_name = "ADDRESSES")]
    pub except_source: Option<ListOr<AddressMatch>>,
    /// Destinations that are left alone, or `none`
    #[arg(long, value_name = "ADDRESSES")]
    pub except_destination: Option<ListOr<AddressMatch>>,
    /// Protocols that are left alone, or `none`
    #[arg(long, value_name = "PROTOCOLS")]
    pub except_protocol: Option<ListOr<IpProtocol>>,
    /// Source ports that are left alone, or `none`
    #[arg(long, value_name = "PORTS")]
    pub except_source_ports: Option<ListOr<PortRange>>,
    /// Destination ports that are left alone, or `none`
    #[arg(long, value_name = "PORTS")]
    pub except_destination_ports: Option<ListOr<PortRange>>,
}

/// An interface; `any` is null.
fn dev(name: Option<&String>) -> Option<Option<&String>> {
    name.map(|name| (name != "any").then_some(name))
}

impl MatchArgs {
    /// The fields of `match` that are given.
    pub(super) fn fields(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        put(&mut fields, "source", self.source.as_ref());
        put(&mut fields, "destination", self.destination.as_ref());
        put(&mut fields, "protocol", self.protocol.as_ref());
        put(&mut fields, "source_ports", self.source_ports.as_ref());
        put(&mut fields, "destination_ports", self.destination_ports.as_ref());
        put(&mut fields, "in_dev", dev(self.in_dev.as_ref()));
        put(&mut fields, "out_dev", dev(self.out_dev.as_ref()));
        let mut except = Map::new();
        put(&mut except, "source", self.except_source.as_ref());
        put(&mut except, "destination", self.except_destination.as_ref());
        put(&mut except, "protocol", self.except_protocol.as_ref());
        put(&mut except, "source_ports", self.except_source_ports.as_ref());
        put(&mut except, "destination_ports", self.except_destination_ports.as_ref());
        put(&mut fields, "except", (!except.is_empty()).then_some(except));
        fields
    }
}

/// A rule of source NAT and what is set of it.
#[derive(Clone, Debug, Args)]
pub struct SnatArgs {
    /// Its name
    #[arg(value_name = "RULE")]
    pub name: String,
    /// Its place.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Its match.
    #[command(flatten)]
    pub matches: MatchArgs,
    /// What is done with what matches [default: translate]
    #[arg(long, value_parser = one_of::<SnatAction>(&["translate", "accept", "drop"]))]
    pub action: Option<SnatAction>,
    /// Outside addresses: addresses, ranges and prefixes, or `interface` for the interface's own; after a single one
    /// its share and what is wanted of it, as in `203.0.113.21,weight=2,admin=drain`; may be given several times
    #[arg(long = "wan", value_name = "ADDRESSES")]
    pub wan: Vec<Weighted<WanAddress>>,
    /// Which connections share an outside port [default: endpoint-independent]
    #[arg(long, value_parser = one_of::<Mapping>(
        &["endpoint-independent", "address-and-port-dependent"]))]
    pub mapping: Option<Mapping>,
    /// Who may send to a mapping from outside [default: endpoint-independent]
    #[arg(long, value_parser = one_of::<Filtering>(
        &["endpoint-independent", "address-dependent", "address-and-port-dependent"]))]
    pub filtering: Option<Filtering>,
    /// Which packets keep a connection from ending [default: both]
    #[arg(long, value_parser = one_of::<Refresh>(&["both", "outbound"]))]
    pub refresh: Option<Refresh>,
    /// Whether an inside address keeps to one outside address [default: paired]
    #[arg(long, value_parser = one_of::<Pooling>(&["paired", "arbitrary"]))]
    pub pooling: Option<Pooling>,
    /// In which order outside ports are taken [default: random]
    #[arg(long, value_parser = one_of::<PortSelection>(&["random", "sequential"]))]
    pub port_selection: Option<PortSelection>,
    /// The outside ports that are taken [default: 1024-65535]
    #[arg(long, value_name = "PORTS")]
    pub ports: Option<PortRange>,
    /// Keep an even port even and an odd one odd [default: off]
    #[arg(long, value_parser = on_off())]
    pub preserve_parity: Option<bool>,
    /// How long a freed outside port rests [default: 2m]
    #[arg(long, value_name = "DURATION")]
    pub port_rest: Option<Duration>,
    /// The most outside ports of an inside address; 0 is no limit
    #[arg(long, value_name = "NUMBER")]
    pub max_ports: Option<u32>,
    /// The most connections of an inside address; 0 is no limit
    #[arg(long, value_name = "NUMBER")]
    pub max_sessions: Option<u32>,
    /// The most new connections of an inside address in a second; 0 is no limit
    #[arg(long, value_name = "NUMBER")]
    pub new_sessions_per_second: Option<u32>,
    /// What an inside host gets if no outside port is left [default: drop]
    #[arg(long, value_parser = one_of::<OnExhausted>(&["drop", "icmp"]))]
    pub on_exhausted: Option<OnExhausted>,
    /// Lower the MSS of TCP handshakes: off, path or a number of bytes [default: off]
    #[arg(long, value_name = "off|path|BYTES", value_parser = mss_clamp)]
    pub mss_clamp: Option<MssClamp>,
    /// Let inside hosts reach each other by their outside addresses [default: on]
    #[arg(long, value_parser = on_off())]
    pub hairpin: Option<bool>,
    /// An idle time, as in tcp_established=3h; may be given several times
    #[arg(long = "timeout", value_name = "NAME=DURATION", value_parser = timeout)]
    pub timeouts: Vec<(String, Duration)>,
}

const TIMEOUTS: [&str; 7] =
    ["tcp_syn", "tcp_established", "tcp_closing", "tcp_closed", "udp_oneway", "udp", "icmp"];

fn timeout(text: &str) -> Result<(String, Duration), String> {
    let (name, value) = pair(text)?;
    let name = name.replace('-', "_");
    if !TIMEOUTS.contains(&name.as_str()) {
        return Err(format!("`{name}` is no timeout; there are {}", TIMEOUTS.join(", ")));
    }
    let value = value.parse().map_err(|error: config::ParseTextError| error.to_string())?;
    Ok((name, value))
}

fn timeouts(list: &[(String, Duration)]) -> Option<Map<String, Value>> {
    let fields: Map<_, _> = list.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    (!fields.is_empty()).then_some(fields)
}

impl SnatArgs {
    /// The fields of the API's rule that are given.
    pub fn fields(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        let matches = self.matches.fields();
        put(&mut fields, "match", (!matches.is_empty()).then_some(matches));
        put(&mut fields, "action", self.action);
        let wan: Vec<_> = self.wan.iter().flat_map(Weighted::values).collect();
        put(&mut fields, "wan_addresses", (!wan.is_empty()).then_some(wan));
        put(&mut fields, "mapping", self.mapping);
        put(&mut fields, "filtering", self.filtering);
        put(&mut fields, "refresh", self.refresh);
        put(&mut fields, "pooling", self.pooling);
        put(&mut fields, "port_selection", self.port_selection);
        put(&mut fields, "ports", self.ports);
        put(&mut fields, "preserve_parity", self.preserve_parity);
        put(&mut fields, "port_rest", self.port_rest);
        let mut limits = Map::new();
        put(&mut limits, "ports", self.max_ports);
        put(&mut limits, "sessions", self.max_sessions);
        put(&mut limits, "new_sessions_per_second", self.new_sessions_per_second);
        put(&mut fields, "limits", (!limits.is_empty()).then_some(limits));
        put(&mut fields, "on_exhausted", self.on_exhausted);
        put(&mut fields, "mss_clamp", self.mss_clamp);
        put(&mut fields, "hairpin", self.hairpin);
        put(&mut fields, "timeouts", timeouts(&self.timeouts));
        fields
    }
}

/// Chooses mappings.
#[derive(Clone, Debug, Args)]
pub struct MappingsArgs {
    /// Of this rule
    #[arg(long)]
    pub rule: Option<String>,
    /// Of this inside address
    #[arg(long, value_name = "ADDRESS")]
    pub inside: Option<IpAddr>,
    /// With this outside address
    #[arg(long, value_name = "ADDRESS")]
    pub outside: Option<IpAddr>,
    /// Of this protocol
    #[arg(long, value_parser = one_of::<Proto>(&["tcp", "udp", "icmp"]))]
    pub protocol: Option<Proto>,
    /// The most that are shown
    #[arg(long, value_name = "NUMBER", default_value_t = 1000,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// Where to go on: `next` of the JSON printed before
    #[arg(long, value_name = "TEXT")]
    pub cursor: Option<String>,
}

/// Names an inside address.
#[derive(Clone, Debug, Args)]
pub struct SubscriberArgs {
    /// The inside address
    #[arg(value_name = "ADDRESS")]
    pub address: IpAddr,
}

/// What is done with rules of destination NAT.
#[derive(Clone, Debug, Subcommand)]
pub enum DnatVerb {
    /// Show them all, or one in full
    #[command(visible_alias = "list")]
    Show(RuleShow),
    /// Add one
    Add(DnatAdd),
    /// Change one; its connections go on while a rule has the address that they came to, and end at once if none has
    Set(DnatSet),
    /// Remove one; its connections go on while a rule has the address that they came to, and end at once if none has
    #[command(visible_alias = "delete")]
    Del(RuleDel),
}

/// A new rule of destination NAT.
#[derive(Clone, Debug, Args)]
pub struct DnatAdd {
    /// Its name
    #[arg(value_name = "RULE")]
    pub name: String,
    /// The address and port of ours, or a range of ports, that is connected to
    #[arg(long, value_name = "ADDRESS:PORTS")]
    pub on: EndpointRange,
    /// The protocol
    #[arg(long, value_parser = one_of::<Protocol>(&["tcp", "udp"]))]
    pub protocol: Protocol,
    /// The server that it leads to, with as many ports; given several times, each connection gets one, by their
    /// shares, as in `10.0.0.5:80,weight=2,admin=drain`
    #[arg(long, value_name = "ADDRESS:PORTS", required = true)]
    pub to: Vec<Weighted<EndpointRange>>,
    /// All else.
    #[command(flatten)]
    pub settings: DnatSettings,
}

/// A rule of destination NAT that changes.
#[derive(Clone, Debug, Args)]
pub struct DnatSet {
    /// Its name
    #[arg(value_name = "RULE")]
    pub name: String,
    /// The address and port of ours, or a range of ports, that is connected to
    #[arg(long, value_name = "ADDRESS:PORTS")]
    pub on: Option<EndpointRange>,
    /// The protocol
    #[arg(long, value_parser = one_of::<Protocol>(&["tcp", "udp"]))]
    pub protocol: Option<Protocol>,
    /// The server that it leads to, with as many ports; given several times, each connection gets one, by their
    /// shares, as in `10.0.0.5:80,weight=2,admin=drain`
    #[arg(long, value_name = "ADDRESS:PORTS")]
    pub to: Vec<Weighted<EndpointRange>>,
    /// All else.
    #[command(flatten)]
    pub settings: DnatSettings,
}

/// What may be left out of a rule of destination NAT.
#[derive(Clone, Debug, Default, Args)]
pub struct DnatSettings {
    /// How one of several servers is chosen for a new connection [default: wlc]
    #[arg(long, value_parser = one_of::<Scheduler>(
        &["rr", "wrr", "wlc", "lc", "conhash", "mh", "sh"]))]
    pub scheduler: Option<Scheduler>,
    /// Who may connect: addresses, ranges and prefixes, or `any` [default: any]
    #[arg(long, value_name = "ADDRESSES")]
    pub source: Option<ListOr<AddressMatch>>,
    /// The interface that clients come in by, or `any` [default: any]
    #[arg(long, value_name = "INTERFACE")]
    pub in_dev: Option<String>,
    /// Which source address the server sees [default: auto]
    #[arg(long, value_parser = one_of::<SourceAddress>(&["auto", "keep", "translate"]))]
    pub source_address: Option<SourceAddress>,
    /// An idle time, as in tcp_established=3h; may be given several times
    #[arg(long = "timeout", value_name = "NAME=DURATION", value_parser = timeout)]
    pub timeouts: Vec<(String, Duration)>,
}

/// One target may have a range of ports; several, or one with a share, are a list.
fn target(to: &[Weighted<EndpointRange>]) -> Option<Value> {
    let mut values: Vec<Value> = to.iter().flat_map(Weighted::values).collect();
    match &mut values[..] {
        [] => None,
        [one] if one.is_string() => Some(one.take()),
        _ => Some(values.into()),
    }
}

impl DnatSettings {
    fn fields(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        put(&mut fields, "scheduler", self.scheduler);
        put(&mut fields, "source", self.source.as_ref());
        put(&mut fields, "in_dev", dev(self.in_dev.as_ref()));
        put(&mut fields, "source_address", self.source_address);
        put(&mut fields, "timeouts", timeouts(&self.timeouts));
        fields
    }
}

impl DnatAdd {
    /// The fields of the API's rule that are given.
    pub fn fields(&self) -> Map<String, Value> {
        let mut fields = self.settings.fields();
        put(&mut fields, "on", Some(self.on));
        put(&mut fields, "protocol", Some(self.protocol));
        put(&mut fields, "to", target(&self.to));
        fields
    }
}

impl DnatSet {
    /// The fields of the API's rule that are given.
    pub fn fields(&self) -> Map<String, Value> {
        let mut fields = self.settings.fields();
        put(&mut fields, "on", self.on);
        put(&mut fields, "protocol", self.protocol);
        put(&mut fields, "to", target(&self.to));
        fields
    }
}
