//! What a worker has of conns with an IPv6 side: a table of their own, and the burst that their packets pass in.

use ::nat::fragments::Fragments;
use flow::{FlowId, FlowTable, PageRequest, TableConfig, TableError, Timeouts};
use pool::{LeaseConfig, LeaseConfigError, Leases};
use types::{FlowKey6, Packet};

use super::handoff::Handoff;
use crate::path::burst::{Burst, Meta};

/// The conns of a worker that have an IPv6 side, and the ports of IPv6 LIPs that they have leased.
#[derive(Debug)]
pub struct WideTables {
    /// The conns.
    pub table: FlowTable<u128>,
    /// The leases of IPv6 LIPs' ports.
    pub leases: Leases<u128>,
}

/// Why there are no such tables.
#[derive(Debug, thiserror::Error)]
pub enum WideError {
    /// The flow table cannot be made.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The pool of leases cannot be made.
    #[error(transparent)]
    Leases(#[from] LeaseConfigError),
}

impl WideTables {
    /// Tables for so many conns, which are reserved here. The seeds are those of table and leases.
    ///
    /// # Errors
    /// If there is no memory for them.
    pub fn new(
        max_connections: u32,
        seeds: [[u64; 2]; 2],
        timeouts: Timeouts,
        pages: PageRequest,
    ) -> Result<Self, WideError> {
        let [seed, leases] = seeds;
        let table = TableConfig { max_connections, seed, timeouts, pages };
        Ok(Self {
            table: FlowTable::new(table)?,
            leases: Leases::new(&LeaseConfig::new(max_connections, leases))?,
        })
    }

    /// Stands there until there is a service with an IPv6 side: it takes no memory to speak of.
    ///
    /// # Errors
    /// As [`WideTables::new`].
    pub fn placeholder(timeouts: Timeouts) -> Result<Self, WideError> {
        Self::new(PLACEHOLDER, [[0; 2]; 2], timeouts, PageRequest::Off)
    }
}

/// Conns of the placeholder.
const PLACEHOLDER: u32 = 1;

/// What it is made of.
pub struct WideConfig<P> {
    /// The conns and leases.
    pub tables: WideTables,
    /// The worker's ends of the rings between workers.
    pub handoff: Handoff<P, u128>,
}

/// The wide lane of a core.
pub struct Wide<P> {
    /// The conns.
    pub table: FlowTable<u128>,
    /// The leases of IPv6 LIPs' ports.
    pub leases: Leases<u128>,
    /// Rings to and from the other workers.
    pub handoff: Handoff<P, u128>,
    /// The fragments of IPv6 that are under way, and those that wait for their first one.
    pub fragments: Fragments<(P, Meta<u128>)>,
    /// Of the last packet that translation has made one of IPv4.
    pub(crate) ident: u16,
    /// There has been a service with an IPv6 side.
    used: bool,
    /// The packets that pass the stages together; none while a stage has it.
    pub(crate) burst: Option<Box<Burst<P, u128>>>,
}

impl<P: Packet> Wide<P> {
    /// Nothing yet.
    pub fn new(config: WideConfig<P>, seed: [u64; 2]) -> Self {
        let WideConfig { tables: WideTables { table, leases }, handoff } = config;
        let used = table.max_connections() > PLACEHOLDER;
        let fragments = Fragments::new(seed);
        // Workers share the addresses, and each begins somewhere else.
        let ident = seed[0] as u16;
        Self { table, leases, handoff, fragments, ident, used, burst: Some(Box::default()) }
    }

    /// True until there is a service with an IPv6 side: there can be no conn.
    #[inline]
    pub fn is_unused(&self) -> bool {
        !self.used
    }

    /// Takes tables in place of the placeholder; what is not needed any more comes back in their place.
    pub fn adopt(&mut self, tables: &mut WideTables) {
        if !self.used {
            self.used = true;
            for class in 0..u8::MAX {
                tables.table.set_timeouts(class, *self.table.timeouts(class));
            }
            std::mem::swap(&mut self.table, &mut tables.table);
            std::mem::swap(&mut self.leases, &mut tables.leases);
        }
    }

    /// Whether a conn or a redirect has this key.
    #[inline]
    pub fn has(&self, key: &FlowKey6) -> bool {
        let there = self.table.len() + self.table.redirects() > 0;
        there && self.table.lookup(key, self.table.hash(key)).is_some()
    }

    /// True if there are packets in the burst.
    #[inline]
    pub fn has_arrived(&self) -> bool {
        self.burst.as_ref().is_some_and(|burst| !burst.is_idle())
    }

    /// Takes a packet of IPv6 over from the burst in which it came in.
    #[inline]
    pub fn enter(&mut self, from: &mut Burst<P>, at: usize) {
        let interface = from.meta(at).interface;
        if let (Some(burst), Some(packet)) = (&mut self.burst, from.take(at)) {
            burst.push_received(packet, interface);
        }
    }

    /// Takes a packet of IPv4 over that is of no conn of IPv4, with what is known of it: its flow here, if there is
    /// one, and its key's hash.
    pub fn change(&mut self, from: &mut Burst<P>, at: usize, found: (Option<FlowId>, u64)) {
        let (flow, hash) = found;
        let meta = Meta { flow, hash, ..from.meta(at).mapped() };
        if let (Some(burst), Some(packet)) = (&mut self.burst, from.take(at)) {
            burst.push_known(packet, meta);
        }
    }
}
