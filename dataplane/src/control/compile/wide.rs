//! The tables that workers get with the first service that has an IPv6 side.

use config::{Config, ConfigError, ErrorKind, HugePages, Path, Service};
use flow::{FlowTable, PageRequest, Timeouts};
use pool::LeaseConfig;

use super::{Compiler, Plan, refuse};
use crate::control::startup::random;
use crate::worker::wide::WideTables;

/// How large they are; it does not change before the next start.
#[derive(Clone, Copy, Debug)]
pub struct WideSizes {
    max_connections: u32,
    pages: PageRequest,
}

impl WideSizes {
    /// As configured.
    pub fn of(config: &Config) -> Self {
        let pages = match config.hugepages {
            HugePages::Auto => PageRequest::Auto,
            HugePages::Required => PageRequest::Required,
            HugePages::Off => PageRequest::Off,
        };
        Self { max_connections: config.conntrack.max_connections_ipv6(), pages }
    }

    /// Bytes that a worker reserves: flow table, and leases of ports.
    pub fn reserved_bytes(self) -> (u64, u64) {
        let table = FlowTable::<u128>::plan(self.max_connections).total();
        let leases = pool::plan::<u128>(&LeaseConfig::new(self.max_connections, [0; 2]));
        (table, leases.total_bytes() as u64)
    }

    fn reserve(self) -> Result<WideTables, ConfigError> {
        let Self { max_connections, pages } = self;
        let missing = |why: String| {
            let path = Path::of("conntrack").key("max_connections_ipv6");
            let message = format!("the tables for conns with an IPv6 side: {why}");
            let hint = Some("set it lower, and restart the daemon".to_owned());
            ConfigError { hint, ..refuse(ErrorKind::Invalid, path, max_connections, message) }
        };
        let seed = || random().map_err(|error| missing(error.to_string()));
        // The worker gives them the timeouts that it has.
        WideTables::new(max_connections, [seed()?, seed()?], Timeouts::default(), pages)
            .map_err(|error| missing(error.to_string()))
    }
}

/// Whether a configuration has a service with an IPv6 side.
pub fn has_ipv6_service(config: &Config) -> bool {
    config.services.values().any(|service| has_ipv6(service, config))
}

/// Whether a service has an IPv6 side: a VIP, a real server, or the one that serves while the quorum is lost.
pub fn has_ipv6(service: &Service, config: &Config) -> bool {
    let servers = service.resolved_servers(config).iter().map(|server| server.address);
    let all = service.vips.iter().copied().chain(servers).chain(service.sorry_server);
    all.into_iter().any(|endpoint| endpoint.address.is_ipv6())
}

impl Compiler {
    /// The most conns with an IPv6 side of each worker; 0 as long as they have no tables for them.
    pub fn max_connections_ipv6(&self) -> u32 {
        if self.wide_pending { 0 } else { self.wide.max_connections }
    }
}

impl Plan {
    /// The tables that each worker needs before it runs the plan, if it has none.
    ///
    /// # Errors
    /// If there is no memory for them.
    pub fn wide_tables(&self) -> Result<Option<Box<WideTables>>, ConfigError> {
        self.wide.map(|sizes| sizes.reserve().map(Box::new)).transpose()
    }
}
