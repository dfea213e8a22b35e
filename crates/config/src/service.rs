//! Services and their real servers.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use types::{Endpoint, Proto};
use utoipa::ToSchema;

use crate::defaults::{is_default, is_true, is_u16, u16_of, yes};
use crate::health::{Checks, Quorum};
use crate::schema::{Config, LocalPool, Timeouts};
use crate::text::Duration;

mod own;

pub use own::{Pool, Servers};

/// A service: what clients connect to, and where that goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// The virtual addresses (VIPs) with their ports.
    #[schema(value_type = Vec<String>, example = json!(["203.0.113.10:80"]))]
    pub vips: Vec<Endpoint>,
    /// The protocol.
    pub protocol: Protocol,
    /// How a real server is chosen for a new conn.
    #[serde(default, skip_serializing_if = "is_default")]
    pub scheduler: Scheduler,
    /// What conhash, mh and sh hash of the client.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hash_by: HashBy,
    /// How packets are rewritten.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mode: Mode,
    /// How a real server learns the client's address: `toa` for TCP and `none` for UDP if not given; `option` is for UDP,
    /// `proxy-v1` for TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_address: Option<ClientAddress>,
    /// More about headers of the PROXY protocol, where they show the client.
    #[serde(default, skip_serializing_if = "is_default")]
    pub proxy_protocol: ProxyProtocol,
    /// The real servers: the name of a group, or a list.
    #[serde(default, skip_serializing_if = "is_default")]
    pub servers: Servers,
    /// The local addresses (LIPs): the name of a pool, or one that is this service's alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_pool: Option<Pool>,
    /// Idle times that differ from those of `conntrack`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub timeouts: ServiceTimeouts,
    /// Sends a client's conns to the real server that it had before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistence: Option<Persistence>,
    /// Chooses a real server for each UDP datagram anew.
    #[serde(default, skip_serializing_if = "is_default")]
    pub one_packet: bool,
    /// The most that the service may take.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: Limits,
    /// What becomes of a TCP packet that belongs to no conn and is no SYN.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_not_syn: OnNotSyn,
    /// What a client gets if no real server takes new conns.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_no_server: Refusal,
    /// What a client gets if a limit is reached.
    #[serde(default = "Refusal::drop", skip_serializing_if = "Refusal::is_drop")]
    pub on_limit: Refusal,
    /// Resets both ends of an established TCP conn that expires.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    #[schema(default = true)]
    pub reset_on_expiry: bool,
    /// Lets long idle established conns go when the table is full.
    #[serde(default, skip_serializing_if = "is_default")]
    pub evict_idle: bool,
    /// How long a new real server takes to come to its full weight; 0 is at once.
    #[serde(default, skip_serializing_if = "is_default")]
    pub slow_start: Duration,
    /// How its real servers are checked: as of a group, in the place of what its group says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub health: Option<Checks>,
    /// The address that checks come from; one of the interface's KNI if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "198.18.0.5")]
    pub check_source: Option<IpAddr>,
    /// How much of it must be well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quorum: Option<Quorum>,
    /// Serves while the quorum is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "198.18.0.200:80")]
    pub sorry_server: Option<Endpoint>,
}

impl Service {
    /// A service with nothing but its VIPs and protocol; everything else is default.
    pub fn new(vips: Vec<Endpoint>, protocol: Protocol) -> Self {
        Self {
            vips,
            protocol,
            scheduler: Scheduler::default(),
            hash_by: HashBy::default(),
            mode: Mode::default(),
            client_address: None,
            proxy_protocol: ProxyProtocol::default(),
            servers: Servers::default(),
            local_pool: None,
            timeouts: ServiceTimeouts::default(),
            persistence: None,
            one_packet: false,
            limits: Limits::default(),
            on_not_syn: OnNotSyn::default(),
            on_no_server: Refusal::default(),
            on_limit: Refusal::drop(),
            reset_on_expiry: true,
            evict_idle: false,
            slow_start: Duration::ZERO,
            health: None,
            check_source: None,
            quorum: None,
            sorry_server: None,
        }
    }

    /// How real servers learn the client's address, the default resolved.
    pub fn client_address(&self) -> ClientAddress {
        self.client_address.unwrap_or(match (self.mode, self.protocol) {
            (Mode::Fullnat, Protocol::Tcp) => ClientAddress::Toa,
            (Mode::Fullnat, Protocol::Udp) | (Mode::Nat, _) => ClientAddress::None,
        })
    }

    /// The real servers, from the group if it has one; none if there is no such group.
    pub fn resolved_servers<'a>(&'a self, config: &'a Config) -> &'a [Server] {
        match &self.servers {
            Servers::Inline(servers) => servers,
            Servers::Group(name) => config.server_groups.get(name).map_or(&[], |g| &g.servers),
        }
    }

    /// The pool of local addresses, by name or its own.
    pub fn resolved_pool<'a>(&'a self, config: &'a Config) -> Option<&'a LocalPool> {
        match self.local_pool.as_ref()? {
            Pool::Inline(pool) => Some(pool),
            Pool::Named(name) => config.local_address_pools.get(name).map(Arc::as_ref),
        }
    }

    /// Idle times, those of `conntrack` where the service has none of its own.
    pub fn resolved_timeouts(&self, conntrack: &Timeouts) -> Timeouts {
        let own = &self.timeouts;
        Timeouts {
            tcp_syn: own.tcp_syn.unwrap_or(conntrack.tcp_syn),
            tcp_established: own.tcp_established.unwrap_or(conntrack.tcp_established),
            tcp_closing: own.tcp_closing.unwrap_or(conntrack.tcp_closing),
            tcp_closed: own.tcp_closed.unwrap_or(conntrack.tcp_closed),
            udp_oneway: own.udp_oneway.unwrap_or(conntrack.udp_oneway),
            udp: own.udp.unwrap_or(conntrack.udp),
            icmp: conntrack.icmp,
        }
    }
}

/// A protocol that has services.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl From<Protocol> for Proto {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::Tcp,
            Protocol::Udp => Self::Udp,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Proto::from(*self).fmt(f)
    }
}

/// How a real server is chosen for a new conn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scheduler {
    /// Round robin.
    Rr,
    /// Round robin by weight.
    Wrr,
    /// Fewest conns, by weight.
    #[default]
    Wlc,
    /// Fewest conns.
    Lc,
    /// Consistent hash of the client.
    Conhash,
    /// Maglev hash of the client.
    Mh,
    /// Hash of the client's address.
    Sh,
}

impl Scheduler {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Rr, Self::Wrr, Self::Wlc, Self::Lc, Self::Conhash, Self::Mh, Self::Sh];

    /// The name, as in the file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rr => "rr",
            Self::Wrr => "wrr",
            Self::Wlc => "wlc",
            Self::Lc => "lc",
            Self::Conhash => "conhash",
            Self::Mh => "mh",
            Self::Sh => "sh",
        }
    }

    /// True if it hashes the client, so that `hash_by` matters.
    pub const fn hashes(self) -> bool {
        matches!(self, Self::Conhash | Self::Mh | Self::Sh)
    }
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What is hashed of the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HashBy {
    /// Its address.
    #[default]
    Source,
    /// Its address and port.
    SourceAndPort,
}

/// How packets are rewritten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Both addresses: real servers see a LIP as source.
    #[default]
    Fullnat,
    /// The destination: real servers see the client as source, and their answers must come back by
    /// this machine.
    Nat,
}

/// How a real server learns the client's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClientAddress {
    /// By TCP option 254.
    Toa,
    /// By the PROXY protocol's text, of TCP.
    ProxyV1,
    /// By the PROXY protocol's binary header.
    ProxyV2,
    /// By IP option 31, on datagrams.
    Option,
    /// Not at all.
    None,
}

impl ClientAddress {
    /// The name, as in the file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Toa => "toa",
            Self::ProxyV1 => "proxy-v1",
            Self::ProxyV2 => "proxy-v2",
            Self::Option => "option",
            Self::None => "none",
        }
    }

    /// True for headers of the PROXY protocol.
    pub const fn is_proxy(self) -> bool {
        matches!(self, Self::ProxyV1 | Self::ProxyV2)
    }
}

/// More about headers of the PROXY protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProxyProtocol {
    /// What becomes of a header that the client itself sends.
    #[serde(default, skip_serializing_if = "is_default")]
    pub client_header: ClientHeader,
    /// Which datagrams of a UDP conn have a header.
    #[serde(default, skip_serializing_if = "is_default")]
    pub datagrams: Datagrams,
}

/// What becomes of a PROXY protocol's header that a client itself sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientHeader {
    /// Ours goes in its place: a client cannot claim another's address.
    #[default]
    Replace,
    /// It is passed on as it is: the service's clients are proxies of ours.
    Trust,
}

/// Which datagrams of a UDP conn have a header of the PROXY protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Datagrams {
    /// All that the client sends.
    #[default]
    Each,
    /// The first one only.
    First,
}

/// What becomes of a TCP packet that belongs to no conn and is no SYN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnNotSyn {
    /// It is dropped.
    Drop,
    /// A reset answers it.
    #[default]
    Reset,
}

/// What a client gets that cannot be served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Refusal {
    /// Nothing.
    Drop,
    /// A TCP reset.
    Reset,
    /// ICMP destination unreachable, port unreachable (RFC 792).
    #[default]
    Unreachable,
}

impl Refusal {
    const fn drop() -> Self {
        Self::Drop
    }

    fn is_drop(&self) -> bool {
        *self == Self::Drop
    }
}

/// Idle times of a service that differ from those of `conntrack`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceTimeouts {
    /// TCP before the handshake is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_syn: Option<Duration>,
    /// TCP after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_established: Option<Duration>,
    /// TCP after a FIN from either side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_closing: Option<Duration>,
    /// TCP after both FINs or a reset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_closed: Option<Duration>,
    /// UDP before there is a reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub udp_oneway: Option<Duration>,
    /// UDP after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub udp: Option<Duration>,
}

/// Sends a client's conns to the real server that it had before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Persistence {
    /// How long after a client's last conn.
    pub timeout: Duration,
    /// Length in bits of the source prefix whose IPv4 clients are taken for one.
    #[serde(default = "u16_of::<32>", skip_serializing_if = "is_u16::<32>")]
    #[schema(default = 32)]
    pub prefix: u16,
    /// The same of IPv6 clients.
    #[serde(default = "u16_of::<128>", skip_serializing_if = "is_u16::<128>")]
    #[schema(default = 128)]
    pub prefix_ipv6: u16,
}

impl Persistence {
    /// The prefix of a family's clients.
    pub const fn prefix_of(&self, v6: bool) -> u16 {
        if v6 { self.prefix_ipv6 } else { self.prefix }
    }
}

/// The most that a service may take.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Conns at once, over all workers; no limit if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
}

/// A real server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Its address and port.
    #[schema(value_type = String, example = "198.18.0.121:80")]
    pub address: Endpoint,
    /// Its share of new conns; 0 means none, while old ones go on.
    #[serde(default = "u16_of::<1>", skip_serializing_if = "is_u16::<1>")]
    #[schema(default = 1)]
    pub weight: u16,
    /// What the operator wants of it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub admin: Admin,
    /// The most that it may take.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: ServerLimits,
    /// How it is checked: as of a group, in the place of what its service or group says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub health: Option<Checks>,
}

impl Server {
    /// A server of weight 1 without limits.
    pub fn new(address: Endpoint) -> Self {
        Self {
            address,
            weight: 1,
            admin: Admin::default(),
            limits: ServerLimits::default(),
            health: None,
        }
    }
}

/// What the operator wants of a real server, apart from its weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Admin {
    /// It takes conns.
    #[default]
    Enabled,
    /// It takes no new conns, but those of clients that persistence remembers; old ones go on.
    Drain,
    /// It takes no new conns at all; old ones go on.
    Disabled,
}

impl fmt::Display for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Enabled => "enabled",
            Self::Drain => "drain",
            Self::Disabled => "disabled",
        })
    }
}

/// Thresholds of a real server's conns, counted over all workers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerLimits {
    /// At this many it takes no new ones; no limit if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper: Option<u32>,
    /// After that it takes new ones again when it has fewer than this; `upper` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lower: Option<u32>,
}
