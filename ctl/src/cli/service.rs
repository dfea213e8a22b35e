//! Verbs of services, real servers, local addresses and conns.

use std::net::IpAddr;

use clap::{Args, Subcommand};
use config::{
    AddressRange, Admin, ClientAddress, ClientHeader, Datagrams, Duration, HashBy, OnNotSyn,
    Protocol, Refusal, Scheduler,
};
use serde_json::{Map, Value, json};
use types::{Endpoint, Proto};

use super::values::{OrNone, on_off, one_of, pair};

/// What is done with services.
#[derive(Clone, Debug, Subcommand)]
pub enum ServiceVerb {
    /// Show them all, or one in full
    #[command(visible_alias = "list")]
    Show(ServiceShow),
    /// Add one
    Add(ServiceAdd),
    /// Change one; its established connections go on
    Set(ServiceSet),
    /// Remove one; its connections go on until they end
    #[command(visible_alias = "delete")]
    Del(ServiceDel),
}

/// Chooses a service.
#[derive(Clone, Debug, Args)]
pub struct ServiceShow {
    /// This one, in full
    #[arg(value_name = "SERVICE")]
    pub name: Option<String>,
}

/// A new service.
#[derive(Clone, Debug, Args)]
pub struct ServiceAdd {
    /// Its name
    #[arg(value_name = "SERVICE")]
    pub name: String,
    /// A virtual address and port that clients connect to; may be given several times
    #[arg(long = "vip", value_name = "ADDRESS:PORT", required = true)]
    pub vips: Vec<Endpoint>,
    /// The protocol
    #[arg(long, value_parser = one_of::<Protocol>(&["tcp", "udp"]))]
    pub protocol: Protocol,
    /// All else.
    #[command(flatten)]
    pub settings: ServiceSettings,
}

/// A service that changes.
#[derive(Clone, Debug, Args)]
pub struct ServiceSet {
    /// Its name
    #[arg(value_name = "SERVICE")]
    pub name: String,
    /// All virtual addresses and ports that it shall have; may be given several times
    #[arg(long = "vip", value_name = "ADDRESS:PORT")]
    pub vips: Vec<Endpoint>,
    /// All else.
    #[command(flatten)]
    pub settings: ServiceSettings,
}

/// A service that goes.
#[derive(Clone, Debug, Args)]
pub struct ServiceDel {
    /// Its name
    #[arg(value_name = "SERVICE")]
    pub name: String,
    /// End its connections at once; both ends get a reset
    #[arg(long)]
    pub reset: bool,
}

/// What may be left out of a service.
#[derive(Clone, Debug, Default, Args)]
pub struct ServiceSettings {
    /// How a real server is chosen for a new connection [default: wlc]
    #[arg(long, value_parser = one_of::<Scheduler>(
        &["rr", "wrr", "wlc", "lc", "conhash", "mh", "sh"]))]
    pub scheduler: Option<Scheduler>,
    /// What conhash, mh and sh hash of the client [default: source]
    #[arg(long, value_parser = one_of::<HashBy>(&["source", "source-and-port"]))]
    pub hash_by: Option<HashBy>,
    /// How a real server learns the client's address [default: toa for TCP, none for UDP]
    #[arg(long, value_parser = one_of::<ClientAddress>(
        &["toa", "proxy-v1", "proxy-v2", "option", "none"]))]
    pub client_address: Option<ClientAddress>,
    /// What becomes of a PROXY protocol's header that the client itself sends [default: replace]
    #[arg(long, value_parser = one_of::<ClientHeader>(&["replace", "trust"]))]
    pub client_header: Option<ClientHeader>,
    /// Which datagrams of a connection have a header of the PROXY protocol [default: each]
    #[arg(long, value_parser = one_of::<Datagrams>(&["each", "first"]))]
    pub proxy_datagrams: Option<Datagrams>,
    /// The group whose real servers it has
    #[arg(long, value_name = "GROUP")]
    pub servers: Option<String>,
    /// The pool whose local addresses it has, or `none`
    #[arg(long, value_name = "POOL")]
    pub local_pool: Option<OrNone<String>>,
    /// An idle time of its own, as in tcp_established=2h, or `none`; may be given several times
    #[arg(long = "timeout", value_name = "NAME=DURATION", value_parser = timeout)]
    pub timeouts: Vec<(String, OrNone<Duration>)>,
    /// Send a client to the real server that it had so long before, or `none`
    #[arg(long, value_name = "DURATION")]
    pub persistence: Option<OrNone<Duration>>,
    /// Bits of the client's address that persistence looks at [default: 32]
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u16).range(1..=32))]
    pub persistence_prefix: Option<u16>,
    /// The same of clients with IPv6 [default: 128]
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u16).range(1..=128))]
    pub persistence_prefix_ipv6: Option<u16>,
    /// Choose a real server for each UDP datagram anew [default: off]
    #[arg(long, value_parser = on_off())]
    pub one_packet: Option<bool>,
    /// The most connections at once, or `none`
    #[arg(long, value_name = "NUMBER")]
    pub max_connections: Option<OrNone<u32>>,
    /// What a TCP packet gets that belongs to no connection and is no SYN [default: reset]
    #[arg(long, value_parser = one_of::<OnNotSyn>(&["drop", "reset"]))]
    pub on_not_syn: Option<OnNotSyn>,
    /// What a client gets if no real server takes it [default: unreachable]
    #[arg(long, value_parser = one_of::<Refusal>(&["drop", "reset", "unreachable"]))]
    pub on_no_server: Option<Refusal>,
    /// What a client gets if a limit is reached [default: drop]
    #[arg(long, value_parser = one_of::<Refusal>(&["drop", "reset", "unreachable"]))]
    pub on_limit: Option<Refusal>,
    /// Reset both ends of an established TCP connection that expires [default: on]
    #[arg(long, value_parser = on_off())]
    pub reset_on_expiry: Option<bool>,
    /// Let long idle connections go when the table is full [default: off]
    #[arg(long, value_parser = on_off())]
    pub evict_idle: Option<bool>,
    /// How long a new real server takes to come to its full weight [default: 0s]
    #[arg(long, value_name = "DURATION")]
    pub slow_start: Option<Duration>,
}

const TIMEOUTS: [&str; 6] =
    ["tcp_syn", "tcp_established", "tcp_closing", "tcp_closed", "udp_oneway", "udp"];

fn timeout(text: &str) -> Result<(String, OrNone<Duration>), String> {
    let (name, value) = pair(text)?;
    // People may write it as they write options.
    let name = name.replace('-', "_");
    if !TIMEOUTS.contains(&name.as_str()) {
        return Err(format!("`{name}` is no timeout; there are {}", TIMEOUTS.join(", ")));
    }
    Ok((name, value.parse()?))
}

/// Puts what is given into fields of the API.
pub(super) fn put(
    fields: &mut Map<String, Value>,
    name: &str,
    value: Option<impl serde::Serialize>,
) {
    if let Some(value) = value {
        fields.insert(name.to_owned(), json!(value));
    }
}

impl ServiceSettings {
    /// The fields of the API's service that are given; `none` is null.
    pub fn fields(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        put(&mut fields, "scheduler", self.scheduler);
        put(&mut fields, "hash_by", self.hash_by);
        put(&mut fields, "client_address", self.client_address);
        let mut proxy = Map::new();
        put(&mut proxy, "client_header", self.client_header);
        put(&mut proxy, "datagrams", self.proxy_datagrams);
        put(&mut fields, "proxy_protocol", (!proxy.is_empty()).then_some(proxy));
        put(&mut fields, "servers", self.servers.as_ref());
        put(&mut fields, "local_pool", self.local_pool.as_ref());
        let timeouts: Map<_, _> =
            self.timeouts.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        put(&mut fields, "timeouts", (!timeouts.is_empty()).then_some(timeouts));
        let mut persistence = Map::new();
        put(&mut persistence, "prefix", self.persistence_prefix);
        put(&mut persistence, "prefix_ipv6", self.persistence_prefix_ipv6);
        match self.persistence {
            Some(OrNone::None) => {
                fields.insert("persistence".to_owned(), Value::Null);
            }
            timeout => {
                put(&mut persistence, "timeout", timeout);
                put(&mut fields, "persistence", (!persistence.is_empty()).then_some(persistence));
            }
        }
        put(&mut fields, "one_packet", self.one_packet);
        let limits = self.max_connections.map(|most| json!({ "max_connections": most }));
        put(&mut fields, "limits", limits);
        put(&mut fields, "on_not_syn", self.on_not_syn);
        put(&mut fields, "on_no_server", self.on_no_server);
        put(&mut fields, "on_limit", self.on_limit);
        put(&mut fields, "reset_on_expiry", self.reset_on_expiry);
        put(&mut fields, "evict_idle", self.evict_idle);
        put(&mut fields, "slow_start", self.slow_start);
        fields
    }
}

/// What is done with real servers.
#[derive(Clone, Debug, Subcommand)]
pub enum ServerVerb {
    /// Show those of a service, or all
    #[command(visible_alias = "list")]
    Show(OfService),
    /// Add one; to the group, if the service has one
    Add(ServerArgs),
    /// Change one; that of the group, if the service has one
    Set(ServerArgs),
    /// Remove one; its connections go on until they end
    #[command(visible_alias = "delete")]
    Del(ServerDel),
}

/// Chooses a service.
#[derive(Clone, Debug, Args)]
pub struct OfService {
    /// The service [default: all]
    #[arg(value_name = "SERVICE")]
    pub service: Option<String>,
}

/// What is done with the health of real servers.
#[derive(Clone, Debug, Subcommand)]
pub enum HealthVerb {
    /// Show that of a service's real servers, or all
    #[command(visible_alias = "list")]
    Show(OfService),
}

/// A real server and what is set of it.
#[derive(Clone, Debug, Args)]
pub struct ServerArgs {
    /// The service
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// The server's address and port
    #[arg(value_name = "ADDRESS:PORT")]
    pub address: Endpoint,
    /// Its share of new connections; 0 means none, while old ones go on [default: 1]
    #[arg(long, value_name = "0-65535")]
    pub weight: Option<u16>,
    /// What is wanted of it: drain keeps clients with persistence, disabled does not
    #[arg(long, value_parser = one_of::<Admin>(&["enabled", "drain", "disabled"]))]
    pub admin: Option<Admin>,
    /// At this many connections it takes no new ones, or `none`
    #[arg(long, value_name = "NUMBER")]
    pub upper: Option<OrNone<u32>>,
    /// After that it takes new ones again when it has fewer than this, or `none`
    #[arg(long, value_name = "NUMBER")]
    pub lower: Option<OrNone<u32>>,
}

impl ServerArgs {
    /// The fields of the API's server that are given; `none` is null.
    pub fn fields(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        put(&mut fields, "weight", self.weight);
        put(&mut fields, "admin", self.admin);
        let mut limits = Map::new();
        put(&mut limits, "upper", self.upper);
        put(&mut limits, "lower", self.lower);
        put(&mut fields, "limits", (!limits.is_empty()).then_some(limits));
        fields
    }
}

/// A real server that goes.
#[derive(Clone, Debug, Args)]
pub struct ServerDel {
    /// The service
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// The server's address and port
    #[arg(value_name = "ADDRESS:PORT")]
    pub address: Endpoint,
    /// End its connections at once; both ends get a reset
    #[arg(long)]
    pub reset: bool,
}

/// What is done with local addresses.
#[derive(Clone, Debug, Subcommand)]
pub enum LipVerb {
    /// Show those of a service, or all
    #[command(visible_alias = "list")]
    Show(OfService),
    /// Add some; to the pool, if the service has one by name
    Add(LipAdd),
    /// Remove one; from the pool, if the service has one by name
    #[command(visible_alias = "delete")]
    Del(LipDel),
}

/// New local addresses.
#[derive(Clone, Debug, Args)]
pub struct LipAdd {
    /// The service
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// An address, a range or a prefix
    #[arg(value_name = "ADDRESSES")]
    pub addresses: AddressRange,
    /// The interface that answers for them [default: that of the service's other LIPs, or of their
    /// subnet]
    #[arg(long, value_name = "INTERFACE")]
    pub dev: Option<String>,
}

/// A local address that goes.
#[derive(Clone, Debug, Args)]
pub struct LipDel {
    /// The service
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// The address
    #[arg(value_name = "ADDRESS")]
    pub address: IpAddr,
}

/// What is done with conns.
#[derive(Clone, Debug, Subcommand)]
pub enum ConnVerb {
    /// Show those for which all that is given holds
    #[command(visible_alias = "list")]
    Show(ConnShow),
    /// End those for which all that is given holds; both ends of an established one get a reset
    #[command(visible_alias = "delete")]
    Del(ConnFilter),
}

/// Chooses conns to show.
#[derive(Clone, Debug, Args)]
pub struct ConnShow {
    /// Which.
    #[command(flatten)]
    pub filter: ConnFilter,
    /// The most that are shown
    #[arg(long, value_name = "NUMBER", default_value_t = 1000,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// Where to go on: `next` of the JSON printed before
    #[arg(long, value_name = "TEXT")]
    pub cursor: Option<String>,
}

/// Chooses conns.
#[derive(Clone, Debug, Args)]
pub struct ConnFilter {
    /// Of this service
    #[arg(long)]
    pub service: Option<String>,
    /// Of these clients: an address, a range or a prefix
    #[arg(long, value_name = "ADDRESSES")]
    pub client: Option<AddressRange>,
    /// To this virtual address
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub vip: Option<Endpoint>,
    /// From these local addresses: an address, a range or a prefix
    #[arg(long, value_name = "ADDRESSES")]
    pub lip: Option<AddressRange>,
    /// To this real server
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub server: Option<Endpoint>,
    /// Of this protocol
    #[arg(long, value_parser = one_of::<Proto>(&["tcp", "udp", "icmp"]))]
    pub protocol: Option<Proto>,
    /// In this state
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(STATES))]
    pub state: Option<String>,
    /// On this worker
    #[arg(long, value_name = "NUMBER")]
    pub worker: Option<u16>,
}

/// The states of conns, as the API has them.
pub const STATES: [&str; 9] = [
    "syn-sent",
    "syn-received",
    "established",
    "forward-fin",
    "reverse-fin",
    "both-fin",
    "closed",
    "oneway",
    "bidirectional",
];
