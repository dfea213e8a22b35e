//! What services, real servers and pools must hold.

use std::collections::HashSet;
use std::net::IpAddr;

use types::Endpoint;

use crate::error::Path;
use crate::index::Index;
use crate::schema::{Conntrack, LocalPool};
use crate::service::{
    ClientAddress, ClientHeader, Datagrams, HashBy, Mode, Pool, Protocol, ProxyProtocol, Refusal,
    Server, Servers, Service, ServiceTimeouts,
};
use crate::validate::{Checker, is_link_local};

/// A conn is named by 31 bits less what the largest machine has memory for.
const MAX_CONNECTIONS: u32 = 1 << 28;
/// A pool has at most this many addresses: a /16.
pub(crate) const POOL_MAX: u128 = 65_536;
/// A service has at most this many VIPs.
const VIPS_MAX: usize = 4_096;
/// A service or group has at most this many real servers; Maglev's largest table has room for them.
const SERVERS_MAX: usize = 4_096;

impl Checker<'_> {
    /// True if nothing is wrong with the service among those of the index.
    pub fn service(&mut self, name: &str, service: &Service, index: &Index) -> bool {
        let before = self.errors.len();
        let path = Path::of("services").key(name);
        self.name(&path, name);
        self.vips(&path, name, service, index);
        self.service_servers(&path, service, index);
        self.service_pool(&path, service, index);
        self.service_timeouts(&path.key("timeouts"), &service.timeouts);
        self.policies(&path, service);
        self.service_health(&path, service, index);
        self.only_ipv4(&path, service);
        if let Some(persistence) = &service.persistence {
            let path = path.key("persistence");
            self.timeout(path.key("timeout"), persistence.timeout);
            self.within(path.key("prefix"), persistence.prefix, 1, 32);
            self.within(path.key("prefix_ipv6"), persistence.prefix_ipv6, 1, 128);
        }
        if let Some(0) = service.limits.max_connections {
            let path = path.key("limits").key("max_connections");
            self.invalid(path, 0, "0 would refuse every conn; leave it out for no limit");
        }
        if !service.slow_start.is_zero() {
            self.timeout(path.key("slow_start"), service.slow_start);
        }
        self.errors.len() == before
    }

    /// How many conns there may be.
    pub fn max_connections(&mut self, path: &Path, conntrack: &Conntrack) {
        let (max, wide) = (conntrack.max_connections, conntrack.max_connections_ipv6);
        for (key, max) in [("max_connections", max), ("max_connections_ipv6", wide.unwrap_or(1))] {
            self.within(path.key(key), max, 1, MAX_CONNECTIONS);
        }
    }

    fn vips(&mut self, path: &Path, name: &str, service: &Service, index: &Index) {
        let list = path.key("vips");
        if service.vips.is_empty() || service.vips.len() > VIPS_MAX {
            let count = service.vips.len();
            let message = format!("{count} VIPs: a service has from 1 to {VIPS_MAX}");
            self.invalid(list.clone(), count, message);
        }
        let mut seen = HashSet::new();
        for (position, vip) in service.vips.iter().enumerate() {
            let path = list.index(position);
            if !self.endpoint(&path, *vip) {
                continue;
            }
            if !seen.insert(vip) {
                self.conflict(path.clone(), vip, format!("{vip} is there twice"));
            }
            if let Some(owner) = index.vip_owner(service.protocol, *vip).filter(|o| *o != name) {
                let message = format!("{} {vip} belongs to service `{owner}`", service.protocol);
                self.conflict(path.clone(), vip, message);
            }
            if let Some(lip) = index.lip(vip.address) {
                let message =
                    format!("{} is a LIP of {}: it cannot be a VIP too", vip.address, lip.owner);
                self.conflict(path.clone(), vip.address, message);
            }
            if let Some(rule) = index.wan_owner(vip.address) {
                let message =
                    format!("{} is a WAN IP of snat.{rule}: it cannot be a VIP too", vip.address);
                self.conflict(path.clone(), vip.address, message);
            }
            if let Some(rule) = index.dnat_owner(service.protocol, *vip) {
                let message = format!("{} {vip} leads inside by dnat.{rule}", service.protocol);
                self.conflict(path.clone(), vip, message);
            }
            if !index.is_configured(vip.address) {
                let message =
                    format!("no interface answers for {}: it is none of `addresses`", vip.address);
                self.warn(&path, message);
            }
        }
    }

    /// True if it is an address of a host and a port; else an error is noted.
    pub fn endpoint(&mut self, path: &Path, endpoint: Endpoint) -> bool {
        if !self.unicast(path, endpoint.address) {
            return false;
        }
        if is_link_local(endpoint.address) {
            let message = format!("{endpoint} is link-local: it means another host on each link");
            self.invalid(path.clone(), endpoint, message);
            return false;
        }
        if endpoint.l4_port.0 == 0 {
            let message = format!("{endpoint}: port 0 is not one that can be connected to");
            self.invalid(path.clone(), endpoint, message);
            return false;
        }
        true
    }

    fn service_servers(&mut self, path: &Path, service: &Service, index: &Index) {
        let list = path.key("servers");
        match &service.servers {
            Servers::Group(name) => {
                self.reference(list, "server group", name, &self.config.server_groups);
            }
            Servers::Inline(servers) => self.servers(&list, servers),
        }
        let servers = service.resolved_servers(self.config);
        if servers.is_empty() {
            self.warn(path, "it has no real server yet");
        }
        if let Some(server) = servers.iter().find(|server| {
            let address = server.address.address;
            index.is_configured(address) || index.lip(address).is_some() || index.is_vip(address)
        }) {
            self.warn(path, format!("real server {} is an address of ours", server.address));
        }
        self.families(path, service, servers);
    }

    /// What there is for IPv4 only.
    fn only_ipv4(&mut self, path: &Path, service: &Service) {
        let servers = service.resolved_servers(self.config);
        let servers = servers.iter().map(|server| server.address).chain(service.sorry_server);
        let mut all = service.vips.iter().copied().chain(servers);
        let Some(endpoint) = all.find(|endpoint| endpoint.address.is_ipv6()) else { return };
        if service.mode == Mode::Nat {
            let message =
                format!("mode nat is for IPv4 only, and {endpoint} is IPv6: take fullnat");
            self.invalid(path.key("mode"), "nat", message);
        }
    }

    /// A server is reached from a LIP of its own family.
    fn families(&mut self, path: &Path, service: &Service, servers: &[Server]) {
        let Some(pool) = service.resolved_pool(self.config) else { return };
        if service.mode == Mode::Nat {
            return;
        }
        for (family, v4) in [("IPv4", true), ("IPv6", false)] {
            let has_lip = pool.addresses.iter().any(|range| range.first().is_ipv4() == v4);
            let servers = servers.iter().map(|server| ("servers", server.address));
            let sorry = service.sorry_server.map(|address| ("sorry_server", address));
            let server = servers.chain(sorry).find(|(_, server)| server.address.is_ipv4() == v4);
            if let Some((key, address)) = server.filter(|_| !has_lip) {
                let message = format!(
                    "it has no {family} LIP, and {address} is {family}: add one to its pool"
                );
                self.invalid(path.key(key), address, message);
            }
        }
    }

    /// A list of real servers.
    pub fn servers(&mut self, list: &Path, servers: &[Server]) {
        if servers.len() > SERVERS_MAX {
            let count = servers.len();
            self.invalid(
                list.clone(),
                count,
                format!("{count} servers are more than {SERVERS_MAX}"),
            );
        }
        let mut seen = HashSet::new();
        for (position, server) in servers.iter().enumerate() {
            let path = list.index(position);
            self.server(&path, server);
            if !seen.insert(server.address) {
                let message = format!("{} is there twice", server.address);
                self.conflict(path.key("address"), server.address, message);
            }
        }
    }

    /// A real server.
    pub fn server(&mut self, path: &Path, server: &Server) {
        self.endpoint(&path.key("address"), server.address);
        self.checks(&path.key("health"), server.health.as_ref());
        let limits = path.key("limits");
        match (server.limits.upper, server.limits.lower) {
            (Some(0), _) => {
                let message = "0 would refuse every conn; set `weight: 0` or `admin: disabled`";
                self.invalid(limits.key("upper"), 0, message);
            }
            (Some(upper), Some(lower)) if lower > upper => {
                let message = format!("{lower} is more than `upper`, {upper}");
                self.invalid(limits.key("lower"), lower, message);
            }
            (None, Some(lower)) => {
                self.invalid(limits.key("lower"), lower, "it means nothing without `upper`");
            }
            _ => {}
        }
    }

    fn service_pool(&mut self, path: &Path, service: &Service, index: &Index) {
        let at = path.key("local_pool");
        match &service.local_pool {
            Some(_) if service.mode == Mode::Nat => {
                let message = "mode nat keeps the client's address: leave the LIPs out";
                self.invalid(at, name_of_pool(service), message);
            }
            None if service.mode == Mode::Nat => {}
            None => self.warn(path, "it has no LIP yet: real servers cannot be reached"),
            Some(Pool::Named(name)) => {
                let pools = &self.config.local_address_pools;
                self.reference(at, "local address pool", name, pools);
            }
            Some(Pool::Inline(pool)) => {
                self.pool(&at, pool, index);
                for (position, range) in pool.addresses.iter().enumerate() {
                    if let Some(vip) = service.vips.iter().find(|v| range.contains(v.address)) {
                        let message =
                            format!("{} is a VIP of this service: it cannot be a LIP", vip.address);
                        let path = at.key("addresses").index(position);
                        self.conflict(path, vip.address, message);
                    }
                }
            }
        }
    }

    /// True if nothing is wrong with the pool among the addresses of the index.
    pub fn pool(&mut self, path: &Path, pool: &LocalPool, index: &Index) -> bool {
        let before = self.errors.len();
        let list = path.key("addresses");
        self.dev(path, &pool.dev);
        let count = pool.addresses.iter().fold(0u128, |sum, r| sum.saturating_add(r.count()));
        if count == 0 {
            self.invalid(list.clone(), "[]", "the pool is empty: it needs an address");
        }
        let mut fits = count <= POOL_MAX;
        if !fits {
            let message = format!("{count} addresses are more than the {POOL_MAX} of a pool");
            self.invalid(list.clone(), count, message);
        }
        for (position, range) in pool.addresses.iter().enumerate() {
            let path = list.index(position);
            let (first, last) = (range.first(), range.last());
            fits &= self.unicast(&path, first) && (first == last || self.unicast(&path, last));
            if let Some(local) = [first, last].into_iter().find(|address| is_link_local(*address)) {
                let message = format!("{local} is link-local: real servers cannot answer to it");
                self.invalid(path, local, message);
                fits = false;
            }
        }
        if pool.addresses.iter().any(|range| range.first().is_ipv6()) {
            self.carries_ipv6(path, &pool.dev);
        }
        if fits {
            self.lips(&list, pool, index);
        }
        self.errors.len() == before
    }

    fn lips(&mut self, list: &Path, pool: &LocalPool, index: &Index) {
        let mut seen: HashSet<IpAddr> = HashSet::new();
        for (position, range) in pool.addresses.iter().enumerate() {
            for address in range.addresses() {
                let path = || list.index(position);
                if !seen.insert(address) {
                    self.conflict(path(), address, format!("{address} is there twice"));
                }
                if index.is_vip(address) {
                    let message = format!("{address} is a VIP: it cannot be a LIP too");
                    self.conflict(path(), address, message);
                }
                if let Some(rule) = index.wan_owner(address) {
                    let message =
                        format!("{address} is a WAN IP of snat.{rule}: it cannot be a LIP too");
                    self.conflict(path(), address, message);
                }
                if let Some(rule) = index.dnat_on(address) {
                    let message =
                        format!("{address} leads inside by dnat.{rule}: it cannot be a LIP");
                    self.conflict(path(), address, message);
                }
                if let Some(other) = index.lip(address).filter(|lip| *lip.dev != *pool.dev) {
                    let message = format!(
                        "{address} is a LIP on `{}` already, by {}",
                        other.dev, other.owner
                    );
                    self.conflict(path(), address, message);
                }
            }
        }
    }

    fn service_timeouts(&mut self, path: &Path, timeouts: &ServiceTimeouts) {
        let ServiceTimeouts { tcp_syn, tcp_established, tcp_closing, tcp_closed, udp_oneway, udp } =
            timeouts;
        for (key, timeout) in [
            ("tcp_syn", tcp_syn),
            ("tcp_established", tcp_established),
            ("tcp_closing", tcp_closing),
            ("tcp_closed", tcp_closed),
            ("udp_oneway", udp_oneway),
            ("udp", udp),
        ] {
            if let Some(timeout) = timeout {
                self.timeout(path.key(key), *timeout);
            }
        }
    }

    fn policies(&mut self, path: &Path, service: &Service) {
        if service.hash_by != HashBy::default() && !service.scheduler.hashes() {
            let message = format!("scheduler {} does not hash", service.scheduler);
            self.warn(&path.key("hash_by"), message);
        }
        if service.one_packet && service.persistence.is_some() {
            let message = "one_packet chooses a server each time, persistence does not";
            self.invalid(path.key("one_packet"), true, message);
        }
        self.client_address(path, service);
        if service.protocol == Protocol::Tcp {
            if service.one_packet {
                self.invalid(path.key("one_packet"), true, "one_packet is for UDP only");
            }
            return;
        }
        for (key, refusal) in
            [("on_no_server", service.on_no_server), ("on_limit", service.on_limit)]
        {
            if refusal == Refusal::Reset {
                self.invalid(path.key(key), "reset", "UDP has no reset; `unreachable` is like it");
            }
        }
    }
}

impl Checker<'_> {
    fn client_address(&mut self, path: &Path, service: &Service) {
        let shown = service.client_address.filter(|how| *how != ClientAddress::None);
        let message = match (service.mode, service.protocol, shown) {
            (_, _, None) => None,
            (Mode::Nat, ..) => {
                Some("mode nat keeps the client's address: real servers see it as source")
            }
            (_, Protocol::Tcp, Some(ClientAddress::Option)) => {
                Some("option is for UDP only; of TCP, toa shows the client")
            }
            (_, Protocol::Udp, Some(ClientAddress::Toa)) => {
                Some("toa is for TCP only; of UDP, option shows the client")
            }
            (_, Protocol::Udp, Some(ClientAddress::ProxyV1)) => {
                Some("proxy-v1 is for TCP only; of UDP, proxy-v2 shows the client")
            }
            _ => None,
        };
        if let (Some(how), Some(message)) = (shown, message) {
            self.invalid(path.key("client_address"), how.name(), message);
        }
        let own = path.key("proxy_protocol");
        let is_shown = shown.is_some_and(ClientAddress::is_proxy);
        let ProxyProtocol { client_header, datagrams } = service.proxy_protocol;
        let none = |value| {
            format!("{value}: there is no header, client_address is neither proxy-v1 nor proxy-v2")
        };
        if client_header == ClientHeader::Trust && !is_shown {
            self.invalid(own.key("client_header"), "trust", none("trust"));
        }
        if datagrams == Datagrams::First && !is_shown {
            self.invalid(own.key("datagrams"), "first", none("first"));
        } else if datagrams == Datagrams::First && service.protocol == Protocol::Tcp {
            self.invalid(own.key("datagrams"), "first", "first: TCP has no datagrams");
        }
    }
}

/// What stands as `local_pool`, as far as one word goes.
fn name_of_pool(service: &Service) -> &str {
    match &service.local_pool {
        Some(Pool::Named(name)) => name,
        Some(Pool::Inline(pool)) => &pool.dev,
        None => "",
    }
}
