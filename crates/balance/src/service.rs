//! A service as workers see it: immutable, compiled by control, shared by all.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use types::{Address, Endpoint, L4Port, Now, Proto, Slot};

use crate::choose::Client;
use crate::hash::{Use, hash};
use crate::quota::{Limits, Quota};
use crate::scheduler::{HashBy, Scheduler};
use crate::table::{Member, Table, TableCache};

/// Real servers that a service can have: the hash tables name them in 16 bits.
pub const SERVERS_MAX: usize = 65_535;

/// What the operator wants of a server, kept apart from its weight and health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Admin {
    /// It serves.
    #[default]
    Enabled,
    /// No new clients: conns go on, and a client that is remembered comes back as long as it is.
    Drain,
    /// No new conns, not even of clients that are remembered; those it has go on.
    Disabled,
}

/// A server that came up takes its full share only after a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowStart {
    /// When it was added or came up, in [`Now::tick_ms`].
    pub from_tick_ms: u32,
    /// How long its share grows, in milliseconds.
    pub duration_ms: u32,
}

/// A real server of one service.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its own place among all servers; two services never share one.
    pub slot: Slot,
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub l4_port: u16,
    /// Configured weight; 0 takes no new conns.
    pub weight: u16,
    /// The operator's wish.
    pub admin: Admin,
    /// What the health checks say.
    pub healthy: bool,
    /// Bounds of its conns over all workers.
    pub limits: Limits,
    /// Counts its conns against `limits`; one for the life of the slot.
    pub quota: Arc<Quota>,
    /// Set while its share grows, `None` otherwise.
    pub slow_start: Option<SlowStart>,
}

impl Server {
    /// An enabled, healthy server of weight 1 without limits.
    pub fn new<A: Address>(slot: Slot, address: A, l4_port: u16) -> Self {
        Self {
            slot,
            address: address.to_ip(),
            l4_port,
            weight: 1,
            admin: Admin::Enabled,
            healthy: true,
            limits: Limits::NONE,
            quota: Arc::default(),
            slow_start: None,
        }
    }

    /// Its address and port.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint { address: self.address, l4_port: L4Port(self.l4_port) }
    }

    /// Does it take new conns, limits aside?
    #[inline]
    pub fn takes_new(&self) -> bool {
        self.weight > 0 && self.admin == Admin::Enabled && self.healthy
    }

    /// Does it take new conns of clients that persistence sends to it, limits aside? Also with weight 0.
    #[inline]
    pub fn takes_remembered(&self) -> bool {
        self.admin != Admin::Disabled && self.healthy
    }

    /// Milliseconds of slow start that are over and that there are; `None` once it is through.
    /// `warm` is the start that is known to be over, as the tick wraps after weeks.
    #[inline]
    pub(crate) fn warming(&self, warm: Option<u32>, now: Now) -> Option<(u32, u32)> {
        let start = self.slow_start?;
        let elapsed = now.since(start.from_tick_ms);
        (elapsed < start.duration_ms && warm != Some(start.from_tick_ms))
            .then_some((elapsed, start.duration_ms))
    }

    /// `weight` as far as slow start lets it have it; at least 1.
    #[inline]
    pub(crate) fn warmed(&self, weight: u32, warm: Option<u32>, now: Now) -> u32 {
        match self.warming(warm, now) {
            None => weight,
            Some((elapsed, duration)) => {
                ((u64::from(weight) * u64::from(elapsed) / u64::from(duration)) as u32).max(1)
            }
        }
    }
}

/// What a first TCP packet that is no SYN gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnNotSyn {
    /// Nothing.
    #[default]
    Drop,
    /// A reset.
    Reset,
}

/// What a client gets that cannot be served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing.
    #[default]
    Drop,
    /// A TCP reset.
    Reset,
    /// An ICMP error: port unreachable.
    Unreachable,
}

/// How a real server learns the client's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAddress {
    /// By TCP option 254.
    #[default]
    Toa,
    /// By IP option 31, on datagrams.
    Option,
    /// By the PROXY protocol's text, of TCP.
    ProxyV1,
    /// By the PROXY protocol's binary header.
    ProxyV2,
    /// Not at all.
    None,
}

/// What becomes of a PROXY protocol's header that a client itself sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientHeader {
    /// Ours goes in its place.
    #[default]
    Replace,
    /// It is passed on, and ours is left out.
    Trust,
}

/// A client comes back to the server that it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persistence {
    /// For how long after its last conn began or ended, in milliseconds.
    pub timeout_ms: u32,
    /// Which IPv4 clients.
    pub v4: Remembered,
    /// Which IPv6 clients.
    pub v6: Remembered,
}

/// Which clients of a family are remembered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// Sources that are equal in so many bits are one client.
    pub prefix_len: u8,
    /// How many, by each worker; the longest idle one is forgotten for a new one.
    pub capacity: u32,
}

impl Persistence {
    /// The prefix by which clients of a family are told apart.
    #[inline]
    pub fn prefix_len(&self, client: IpAddr) -> u8 {
        if client.is_ipv4() { self.v4.prefix_len } else { self.v6.prefix_len }
    }
}

/// How packets of a service are rewritten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Both addresses: a real server sees a LIP.
    #[default]
    FullNat,
    /// The destination: a real server sees the client, and its replies come by us.
    Nat,
}

/// All that is configured of a service but its servers.
#[derive(Clone, Debug)]
pub struct ServiceSpec {
    /// Its place among all services.
    pub slot: Slot,
    /// Its name.
    pub name: Arc<str>,
    /// Its protocol.
    pub proto: Proto,
    /// How packets are rewritten.
    pub mode: Mode,
    /// How it picks servers.
    pub scheduler: Scheduler,
    /// What hashing schedulers look at.
    pub hash_by: HashBy,
    /// IPv4 LIPs in host order: the sources towards IPv4 servers.
    pub lips: Arc<[u32]>,
    /// IPv6 LIPs in host order: the sources towards IPv6 servers.
    pub lips_v6: Arc<[u128]>,
    /// What a first packet that is no SYN gets.
    pub on_not_syn: OnNotSyn,
    /// What a client gets while no server takes new conns.
    pub on_no_server: Refusal,
    /// What a client gets while a limit is reached.
    pub on_limit: Refusal,
    /// How servers learn the client's address.
    pub client_address: ClientAddress,
    /// What becomes of a client's own header of the PROXY protocol.
    pub client_header: ClientHeader,
    /// Each datagram gets a header of the PROXY protocol, not only the first.
    pub each_datagram: bool,
    /// The service's class in the table of timeouts.
    pub timeout_class: u8,
    /// Set if clients come back to their servers.
    pub persistence: Option<Persistence>,
    /// Each UDP packet is scheduled on its own.
    pub one_packet: bool,
    /// Both ends get a reset when an established conn expires.
    pub reset_on_expiry: bool,
    /// Both ends get a reset when a conn's server is removed.
    pub reset_on_removal: bool,
    /// Long idle conns may be ended to make room.
    pub evict_idle: bool,
    /// Conns at most over all workers; 0 is no limit.
    pub max_connections: u32,
    /// Counts against `max_connections`; one for the life of the slot.
    pub quota: Arc<Quota>,
}

impl ServiceSpec {
    /// A service with defaults and without LIPs.
    pub fn new(slot: Slot, name: impl Into<Arc<str>>, proto: Proto) -> Self {
        Self {
            slot,
            name: name.into(),
            proto,
            mode: Mode::default(),
            scheduler: Scheduler::default(),
            hash_by: HashBy::default(),
            lips: Arc::default(),
            lips_v6: Arc::default(),
            on_not_syn: OnNotSyn::default(),
            on_no_server: Refusal::default(),
            on_limit: Refusal::default(),
            client_address: ClientAddress::default(),
            client_header: ClientHeader::default(),
            each_datagram: true,
            timeout_class: 0,
            persistence: None,
            one_packet: false,
            reset_on_expiry: true,
            reset_on_removal: false,
            evict_idle: false,
            max_connections: 0,
            quota: Arc::default(),
        }
    }
}

/// Why a service cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// More than [`SERVERS_MAX`].
    #[error("service `{service}` has {count} servers; {SERVERS_MAX} are the most")]
    TooManyServers {
        /// The service's name.
        service: Arc<str>,
        /// Its servers.
        count: usize,
    },
    /// A prefix longer than an address.
    #[error(
        "service `{service}`: persistence by a prefix of {prefix_len} bits; {most} are the most"
    )]
    PrefixLen {
        /// The service's name.
        service: Arc<str>,
        /// The length.
        prefix_len: u8,
        /// Bits of an address.
        most: u8,
    },
}

/// What a worker's cell of a service has room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CellShape {
    /// Servers that can be ranked; 0 for schedulers that rank none.
    pub ranked: u32,
    /// IPv4 clients that can be remembered.
    pub v4: Remembered,
    /// IPv6 clients that can be remembered.
    pub v6: Remembered,
}

/// A compiled service.
#[derive(Debug)]
pub struct Service {
    spec: ServiceSpec,
    servers: Box<[Server]>,
    /// Indices of the servers that take new conns.
    usable: Box<[u32]>,
    /// The table's rank of a server to its index.
    order: Box<[u16]>,
    table: Option<Arc<Table>>,
    /// A real server has an IPv6 address.
    has_ipv6: bool,
    revision: u64,
}

impl Service {
    /// Compiles a service; hash tables come from `tables` if an equal set of servers has one.
    ///
    /// # Errors
    /// If there are too many servers or the persistence prefix is longer than an address.
    pub fn new(
        spec: ServiceSpec,
        servers: Vec<Server>,
        tables: &mut TableCache,
    ) -> Result<Self, BuildError> {
        // 0 is the revision of a cell that has seen none.
        static REVISION: AtomicU64 = AtomicU64::new(1);
        if servers.len() > SERVERS_MAX {
            let count = servers.len();
            return Err(BuildError::TooManyServers { service: spec.name, count });
        }
        if let Some(Persistence { v4, v6, .. }) = spec.persistence {
            for (prefix_len, most) in [(v4.prefix_len, u32::BITS), (v6.prefix_len, u128::BITS)] {
                if prefix_len > most as u8 {
                    let (service, most) = (spec.name, most as u8);
                    return Err(BuildError::PrefixLen { service, prefix_len, most });
                }
            }
        }
        let usable = (0u32..).zip(&servers).filter(|(_, s)| s.takes_new()).map(|(i, _)| i);
        let usable = usable.collect();
        let (order, table) = if spec.scheduler.is_hash() {
            let (order, members) = members(&servers);
            (order, tables.table(spec.scheduler, members))
        } else {
            (Box::default(), None)
        };
        let revision = REVISION.fetch_add(1, Relaxed);
        let has_ipv6 = servers.iter().any(|server| server.address.is_ipv6());
        Ok(Self { spec, servers: servers.into(), usable, order, table, has_ipv6, revision })
    }

    /// What is configured.
    #[inline]
    pub fn spec(&self) -> &ServiceSpec {
        &self.spec
    }

    /// The real servers; [`crate::Cells::choose`] gives an index of these.
    #[inline]
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// True if a real server has an IPv6 address.
    #[inline]
    pub fn has_ipv6_server(&self) -> bool {
        self.has_ipv6
    }

    /// Indices of the servers that take new conns, limits aside.
    #[inline]
    pub fn usable(&self) -> &[u32] {
        &self.usable
    }

    /// True if no server takes new conns, not even of clients that are remembered.
    #[inline]
    pub(crate) fn takes_none(&self) -> bool {
        self.usable.is_empty() && self.spec.persistence.is_none()
    }

    /// What a worker's cell for it must have room for.
    pub fn shape(&self) -> CellShape {
        let ranked = match self.spec.scheduler.is_ranked() {
            true => self.servers.len().next_power_of_two().max(8) as u32,
            false => 0,
        };
        let none = Remembered::default();
        let (v4, v6) = self.spec.persistence.map_or((none, none), |p| (p.v4, p.v6));
        CellShape { ranked, v4, v6 }
    }

    /// Another number for each compiled service.
    #[inline]
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// The servers to try for a client, best first, without end, with the hash that ranks them.
    #[inline]
    pub(crate) fn hashed(
        &self,
        client: &Client,
    ) -> Option<(u64, impl Iterator<Item = usize> + '_)> {
        let client = match (self.spec.hash_by, client.address) {
            (HashBy::Source, IpAddr::V4(address)) => u64::from(u32::from(address)),
            (HashBy::SourceAndPort, IpAddr::V4(address)) => with_port(address, client.l4_port),
            (HashBy::Source, IpAddr::V6(address)) => hash_address(address, 0),
            (HashBy::SourceAndPort, IpAddr::V6(address)) => hash_address(address, client.l4_port),
        };
        let (hash, ranks) = self.table.as_deref()?.ranks(client);
        let index = |rank| self.order.get(usize::from(rank)).map_or(0, |&index| usize::from(index));
        Some((hash, ranks.map(index)))
    }
}

/// An IPv4 address and a port in one number.
fn with_port(address: Ipv4Addr, l4_port: u16) -> u64 {
    u64::from(u32::from(address)) << 16 | u64::from(l4_port)
}

/// An IPv6 address and a port by their hash: they are too long for one number.
fn hash_address(address: Ipv6Addr, l4_port: u16) -> u64 {
    let bits = u128::from(address);
    let high = hash((bits >> 64) as u64 ^ u64::from(l4_port) << 48, Use::Address);
    hash(bits as u64 ^ high, Use::Address)
}

/// Servers with a weight in an order that all nodes agree on, whatever the configuration's, whether up
/// or not: while one is down its clients go elsewhere and nobody else moves.
fn members(servers: &[Server]) -> (Box<[u16]>, Vec<Member>) {
    let mut members: Vec<_> = (0u16..)
        .zip(servers)
        .filter(|(_, server)| server.weight > 0)
        .map(|(index, server)| {
            let identity = match server.address {
                IpAddr::V4(address) => with_port(address, server.l4_port),
                IpAddr::V6(address) => hash_address(address, server.l4_port),
            };
            (Member { identity, weight: server.weight }, index)
        })
        .collect();
    members.sort_unstable_by_key(|(member, index)| (member.identity, *index));
    (members.iter().map(|(_, index)| *index).collect(), members.iter().map(|(m, _)| *m).collect())
}
