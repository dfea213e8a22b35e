//! Picks the real server of a new conn.

use std::net::IpAddr;

use types::{Address, FlowKey, Now};

use crate::cells::{Cells, Place, ServerCell, ServerTable, ServiceCell, service_cell};
use crate::hash::{Use, hash};
use crate::quota::Limits;
use crate::ranking::{Phase, load, weight};
use crate::scheduler::Scheduler;
use crate::service::{Server, Service};

/// Why there is no server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoServer {
    /// None takes new conns.
    None,
    /// Those that do are at their limit, or the service is.
    Limit,
}

/// Servers looked at for one conn by `rr`, `wrr`, `wlc` and `lc`; with more than this at their limit, the
/// conn is refused, and the next one goes on from there.
const TRIES_MAX: usize = 256;

/// Places looked at by the hashing schedulers, before they take what there is.
const PLACES_MAX: usize = 64;

/// Another worker may take the last of a limit between look and take; more often than this in a row
/// there is none.
const RACES_MAX: usize = 4;

/// What of a packet decides about its server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    pub(crate) address: IpAddr,
    pub(crate) l4_port: u16,
}

impl<A: Address> From<&FlowKey<A>> for Client {
    #[inline]
    fn from(key: &FlowKey<A>) -> Self {
        Self { address: key.src.to_ip(), l4_port: key.sport }
    }
}

/// What was found, and what taking it changes.
#[derive(Clone, Copy)]
struct Found {
    index: usize,
    /// Where `rr` goes on.
    position: Option<usize>,
}

/// All that a decision reads.
struct View<'a> {
    service: &'a Service,
    cell: &'a ServiceCell,
    servers: &'a ServerTable,
    /// The cells are older than the service: servers may have none yet.
    behind: bool,
    now: Now,
}

impl Cells {
    /// Which server a new conn would get; nothing changes. For `wrr`, `wlc` and `lc` it looks at all servers:
    /// it is for people who ask, not for packets.
    ///
    /// # Errors
    /// If there is no server for it.
    pub fn pick<A: Address>(
        &self,
        service: &Service,
        key: &FlowKey<A>,
        now: Now,
    ) -> Result<usize, NoServer> {
        let client = &Client::from(key);
        let spec = service.spec();
        let cell = self.service(spec.slot).ok_or(NoServer::None)?;
        if service.takes_none() {
            return Err(NoServer::None);
        }
        if !cell.lease.admits(Limits::plain(spec.max_connections)) {
            return Err(NoServer::Limit);
        }
        let behind = cell.revision != service.revision();
        let view = View { service, cell, servers: &self.servers, behind, now };
        if let Some(index) = view.remembered(client) {
            return Ok(index);
        }
        let found = if cell.ranking.has_room(service) {
            view.ranked(self.place)
        } else {
            view.unranked(client).map(|found| found.index)
        };
        found.ok_or(nobody(service))
    }

    /// Gives a new conn its server, as an index of [`Service::servers`]. The conn counts as opened (inactive), and
    /// against the limits: [`Cells::closed`] or [`Cells::abandoned`] has to follow.
    ///
    /// # Errors
    /// If there is no server for it.
    #[inline]
    pub fn choose<A: Address>(
        &mut self,
        service: &Service,
        key: &FlowKey<A>,
        now: Now,
    ) -> Result<usize, NoServer> {
        let client = &Client::from(key);
        let spec = service.spec();
        let Self { services, servers, place, .. } = self;
        let cell = service_cell(services, spec.slot).ok_or(NoServer::None)?;
        if cell.revision != service.revision() {
            cell.update(service, servers, *place, now);
        }
        if service.takes_none() {
            cell.totals.refused += 1;
            return Err(NoServer::None);
        }
        let (limits, conns) = (Limits::plain(spec.max_connections), cell.totals.conns());
        let workers = u32::from(place.workers);
        if !cell.lease.open(limits, conns, workers) {
            cell.totals.refused += 1;
            return Err(NoServer::Limit);
        }
        let view = View { service, cell, servers, behind: false, now };
        let found = match view.remembered(client) {
            Some(index) if take(service, servers, index, workers, now) => Some(index),
            _ if cell.ranking.holds(service) => ranked(service, cell, servers, workers, now),
            _ => unranked(service, cell, servers, client, workers, now),
        };
        let Some((index, server)) = found.and_then(|i| Some((i, service.servers().get(i)?))) else {
            cell.lease.close(workers);
            cell.totals.refused += 1;
            return Err(nobody(service));
        };
        self.count_opened(spec.slot, server.slot, client.address, now);
        Ok(index)
    }
}

/// Why none was found.
#[cold]
fn nobody(service: &Service) -> NoServer {
    if service.usable().is_empty() { NoServer::None } else { NoServer::Limit }
}

/// Takes one of a server's conns, if its limit has one left.
#[inline]
fn take(
    service: &Service,
    servers: &mut ServerTable,
    index: usize,
    workers: u32,
    now: Now,
) -> bool {
    let Some(server) = service.servers().get(index) else { return false };
    let Some(cell) = servers.of_mut(server.slot) else { return false };
    if let Some(start) = server.slow_start
        && server.warming(cell.warm, now).is_none()
    {
        cell.warm = Some(start.from_tick_ms);
    }
    cell.lease.open(server.limits, cell.totals.conns(), workers)
}

/// `wrr`, `wlc`, `lc`: the best ranked that has one left.
fn ranked(
    service: &Service,
    cell: &mut ServiceCell,
    servers: &mut ServerTable,
    workers: u32,
    now: Now,
) -> Option<usize> {
    cell.ranking.revisit(service, servers, now);
    for _ in 0..TRIES_MAX {
        let place = cell.ranking.best()?;
        let index = cell.ranking.index_of(place);
        if take(service, servers, index, workers, now) {
            cell.ranking.taken(place);
            return Some(index);
        }
        cell.ranking.block(place);
    }
    None
}

/// The others, which decide by reading only.
fn unranked(
    service: &Service,
    cell: &mut ServiceCell,
    servers: &mut ServerTable,
    client: &Client,
    workers: u32,
    now: Now,
) -> Option<usize> {
    for _ in 0..RACES_MAX {
        let view = View { service, cell, servers, behind: false, now };
        let Some(found) = view.unranked(client) else {
            // All that were looked at are at their limits: the next conn looks at others.
            cell.position = cell.position.wrapping_add(TRIES_MAX);
            return None;
        };
        if take(service, servers, found.index, workers, now) {
            cell.position = found.position.unwrap_or(cell.position);
            return Some(found.index);
        }
    }
    None
}

impl View<'_> {
    fn server(&self, index: usize) -> Option<&Server> {
        self.service.servers().get(index)
    }

    fn warm(&self, server: &Server) -> Option<u32> {
        self.servers.of(server.slot).and_then(|cell| cell.warm)
    }

    /// Has its limit one left?
    #[inline]
    fn has_room(&self, server: &Server) -> bool {
        let admits = |cell: &ServerCell| cell.lease.admits(server.limits);
        self.servers.of(server.slot).map_or(self.behind, admits)
    }

    /// Does it take new conns, and has its limit one left?
    #[inline]
    fn admits(&self, server: &Server) -> bool {
        server.takes_new() && self.has_room(server)
    }

    /// While a server warms up it takes only its part of what comes to it, told apart by `lot`.
    #[inline]
    fn is_warm_for(&self, server: &Server, lot: u64) -> bool {
        match server.slow_start.and_then(|_| server.warming(self.warm(server), self.now)) {
            None => true,
            Some((elapsed, duration)) => {
                let lot = hash(lot ^ u64::from(server.slot.to_bits()) << 32, Use::SlowStart) >> 32;
                lot * u64::from(duration) < u64::from(elapsed) << 32
            }
        }
    }

    /// The server that the client had, if it still takes its conns.
    #[inline]
    fn remembered(&self, client: &Client) -> Option<usize> {
        self.service.spec().persistence?;
        let slot = self.cell.sticky.find(client.address, self.now)?;
        let index = match self.behind {
            false => self.servers.of(slot)?.index as usize,
            true => self.service.servers().iter().position(|server| server.slot == slot)?,
        };
        self.server(index)
            .filter(|server| server.slot == slot && server.takes_remembered())
            .is_some_and(|server| self.has_room(server))
            .then_some(index)
    }

    fn unranked(&self, client: &Client) -> Option<Found> {
        match self.service.hashed(client) {
            Some((hash, servers)) => self.hashed(hash, servers),
            None => self.round_robin(self.cell.position, self.cell.totals.opened),
        }
    }

    /// The first on the client's list that can take it. If none can among so many places, all that can
    /// are asked in turn, from a place that is the client's too.
    fn hashed(&self, hash: u64, servers: impl Iterator<Item = usize>) -> Option<Found> {
        let takes = |&index: &usize| {
            self.server(index)
                .is_some_and(|server| self.admits(server) && self.is_warm_for(server, hash))
        };
        match servers.take(PLACES_MAX).find(takes) {
            Some(index) => Some(Found { index, position: None }),
            None => {
                let found = self.round_robin(hash as u32 as usize, hash)?;
                Some(Found { position: None, ..found })
            }
        }
    }

    /// The next that can take it. If all that can are warming up, the next of those: somebody must.
    fn round_robin(&self, position: usize, lot: u64) -> Option<Found> {
        let usable = self.service.usable();
        let first = if position < usable.len() { position } else { position % usable.len().max(1) };
        let mut warming = None;
        let mut at = first;
        for _ in 0..usable.len().min(TRIES_MAX) {
            let index = *usable.get(at)? as usize;
            let next = if at + 1 == usable.len() { 0 } else { at + 1 };
            let found = Found { index, position: Some(next) };
            if let Some(server) = self.server(index).filter(|server| self.admits(server)) {
                if self.is_warm_for(server, lot) {
                    return Some(found);
                }
                warming = warming.or(Some(found));
            }
            at = next;
        }
        warming
    }

    /// What the ranking would give, found by looking at all.
    fn ranked(&self, place: Place) -> Option<usize> {
        let scheduler = self.service.spec().scheduler;
        let len = self.service.servers().len();
        let phase = Phase::of_worker(place);
        let first = match scheduler {
            Scheduler::Wrr => 0,
            _ => len * usize::from(place.worker) / usize::from(place.workers.max(1)),
        };
        let ratio = |index: usize| {
            let server = self.server(index).filter(|server| self.admits(server))?;
            let full = weight(scheduler, server, self.warm(server), self.now);
            let entry = self.cell.ranking.entry(index);
            let num = match scheduler {
                Scheduler::Wrr if !self.behind && entry.weight == full => entry.num.into(),
                Scheduler::Wrr if !self.behind => self.cell.ranking.next_turn(entry, full).into(),
                Scheduler::Wrr => phase.first_turn(index as u64, full, len as u64).into(),
                _ => {
                    let totals = self.servers.of(server.slot).map(|c| c.totals).unwrap_or_default();
                    load(totals.active, totals.inactive).into()
                }
            };
            Some((num, u128::from(full), index))
        };
        (first..len)
            .chain(0..first)
            .filter_map(ratio)
            .min_by(|(num, weight, _), (other, other_weight, _)| {
                (num * other_weight).cmp(&(other * weight))
            })
            .map(|(_, _, index)| index)
    }
}
