//! What changes of services and servers with each conn: one worker's, by slot.

use std::net::IpAddr;
use std::sync::Arc;

use types::{Now, Slot};

use crate::chunks::{CHUNK_LEN, Chunk, Chunks};
use crate::quota::{Lease, Quota};
use crate::ranking::{Ranking, load};
use crate::service::{CellShape, Service};
use crate::sticky::Sticky;
use crate::totals::{Totals, Traffic};

/// Which worker of how many.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) worker: u16,
    pub(crate) workers: u16,
}

/// A worker's part of a server.
#[derive(Debug, Default)]
pub(crate) struct ServerCell {
    slot: Slot,
    /// Its index in the service that was seen last.
    pub(crate) index: u32,
    /// The slow start that is known to be over.
    pub(crate) warm: Option<u32>,
    pub(crate) lease: Lease,
    pub(crate) totals: Totals,
}

impl ServerCell {
    pub(crate) fn load(&self) -> u64 {
        load(self.totals.active, self.totals.inactive)
    }
}

/// Server cells by slot.
#[derive(Debug)]
pub(crate) struct ServerTable(Chunks<ServerCell>);

impl ServerTable {
    #[inline]
    pub(crate) fn of(&self, slot: Slot) -> Option<&ServerCell> {
        self.0.get(slot.index()).filter(|cell| cell.slot == slot && !slot.is_none())
    }

    #[inline]
    pub(crate) fn of_mut(&mut self, slot: Slot) -> Option<&mut ServerCell> {
        self.0.get_mut(slot.index()).filter(|cell| cell.slot == slot && !slot.is_none())
    }

    /// Sees a service's servers at their indices; the cell of a new one is set up in place.
    fn see(&mut self, service: &Service) {
        for (index, server) in (0u32..).zip(service.servers()) {
            let Some(cell) = self.0.get_mut(server.slot.index()) else { continue };
            if cell.slot.is_none() {
                *cell = ServerCell {
                    slot: server.slot,
                    lease: Lease::new(server.quota.clone()),
                    ..ServerCell::default()
                };
            }
            if cell.slot == server.slot {
                cell.index = index;
                cell.lease.change(server.limits.upper, cell.totals.conns());
            }
        }
    }
}

/// A worker's part of a service. Control makes it, as it allocates; it returns there to be freed.
#[derive(Debug)]
pub struct ServiceCell {
    slot: Slot,
    /// The compiled service that it was last brought up to date with.
    pub(crate) revision: u64,
    /// Where `rr` goes on in the list of usable servers.
    pub(crate) position: usize,
    pub(crate) ranking: Ranking,
    pub(crate) sticky: Sticky,
    pub(crate) lease: Lease,
    pub(crate) totals: Totals,
}

impl ServiceCell {
    /// A cell with room for a service, for one of the workers. A new one is needed when
    /// [`Service::shape`] changes; it takes over the counts of the one that it replaces.
    pub fn new(service: &Service, worker: u16, workers: u16) -> Box<Self> {
        let CellShape { ranked, v4, v6 } = service.shape();
        let place = Place { worker, workers };
        let usable = service.usable().len();
        Box::new(Self {
            slot: service.spec().slot,
            revision: 0,
            position: usable * usize::from(worker) / usize::from(workers.max(1)),
            ranking: Ranking::new(ranked as usize, place),
            sticky: Sticky::new(v4, v6),
            lease: Lease::new(service.spec().quota.clone()),
            totals: Totals::default(),
        })
    }

    /// The service that it is of.
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// Takes over what conns of the old cell depend on.
    fn replace(&mut self, old: &mut Self) {
        std::mem::swap(&mut self.lease, &mut old.lease);
        self.totals = std::mem::take(&mut old.totals);
        self.position = old.position;
        self.ranking.follow(&old.ranking);
        self.sticky.follow(&mut old.sticky);
    }

    /// Brings it up to date with a compiled service.
    pub(crate) fn update(
        &mut self,
        service: &Service,
        servers: &mut ServerTable,
        place: Place,
        now: Now,
    ) {
        self.revision = service.revision();
        self.sticky.configure(service.spec().persistence);
        self.lease.change(service.spec().max_connections, self.totals.conns());
        servers.see(service);
        self.ranking.rebuild(service, servers, place, now);
    }
}

/// Memory for the server cells of [`CHUNK_LEN`] slots.
#[derive(Debug)]
pub struct ServerChunk(Chunk<ServerCell>);

impl ServerChunk {
    /// Memory for slots from `number * CHUNK_LEN` on.
    pub fn new(number: usize) -> Self {
        Self(Chunk::new(number))
    }
}

/// Memory for naming the service cells of [`CHUNK_LEN`] slots.
#[derive(Debug)]
pub struct ServiceChunk(Chunk<Option<Box<ServiceCell>>>);

impl ServiceChunk {
    /// Memory for slots from `number * CHUNK_LEN` on.
    pub fn new(number: usize) -> Self {
        Self(Chunk::new(number))
    }
}

/// What is left of a retired server: the last counts, and what is control's to free.
#[derive(Debug)]
pub struct Retired {
    /// Counts of this worker.
    pub totals: Totals,
    /// Shared with other workers.
    pub quota: Option<Arc<Quota>>,
}

/// Why a cell cannot be retired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RetireError {
    /// There is no cell of this slot and generation.
    #[error("{0:?} has no cell here")]
    Absent(Slot),
    /// Conns still name it.
    #[error("{0:?} has {1} conns")]
    Busy(Slot, u32),
}

/// One worker's cells of all services and servers, and its place among the workers.
#[derive(Debug)]
pub struct Cells {
    pub(crate) services: Chunks<Option<Box<ServiceCell>>>,
    pub(crate) servers: ServerTable,
    pub(crate) place: Place,
    settled_servers: usize,
    settled_services: usize,
}

/// Sets of a persistence table that are swept when its service is settled.
const SETTLE_SETS: usize = 64;

impl Cells {
    /// No cells yet, for worker `worker` (from 0) of `workers`.
    pub fn new(worker: u16, workers: u16) -> Self {
        Self {
            services: Chunks::new(),
            servers: ServerTable(Chunks::new()),
            place: Place { worker, workers },
            settled_servers: 0,
            settled_services: 0,
        }
    }

    /// Makes room for slots below these numbers. It allocates: for control, before the worker runs.
    pub fn reserve(&mut self, services: usize, servers: usize) {
        for number in 0..services.div_ceil(CHUNK_LEN) {
            if !self.services.has(number) {
                self.services.add(Chunk::new(number));
            }
        }
        for number in 0..servers.div_ceil(CHUNK_LEN) {
            if !self.servers.0.has(number) {
                self.servers.0.add(Chunk::new(number));
            }
        }
    }

    /// Makes room for more servers; the chunk comes back if there is room already.
    pub fn add_server_chunk(&mut self, chunk: ServerChunk) -> Option<ServerChunk> {
        self.servers.0.add(chunk.0).map(ServerChunk)
    }

    /// Makes room for more services; the chunk comes back if there is room already.
    pub fn add_service_chunk(&mut self, chunk: ServiceChunk) -> Option<ServiceChunk> {
        self.services.add(chunk.0).map(ServiceChunk)
    }

    /// Puts in the cell of a service. What comes back is control's to free: the cell that it replaces, or
    /// the given one if there is no room for its slot.
    pub fn install(&mut self, mut cell: Box<ServiceCell>) -> Option<Box<ServiceCell>> {
        let Some(here) = self.services.get_mut(cell.slot.index()) else { return Some(cell) };
        if let Some(old) = here.as_mut().filter(|old| old.slot == cell.slot) {
            cell.replace(old);
        }
        here.replace(cell)
    }

    /// Brings the cells of a service and its servers up to date: they exist after this, limits that are new
    /// count the conns that are open. [`Cells::choose`] does it at the first conn; doing it with the change
    /// spares the client the wait.
    pub fn update(&mut self, service: &Service, now: Now) {
        let Self { services, servers, place, .. } = self;
        let Some(cell) = service_cell(services, service.spec().slot) else { return };
        if cell.revision != service.revision() {
            cell.update(service, servers, *place, now);
        }
    }

    /// Takes out the cell of a service that is gone; it has returned its part of the limit.
    ///
    /// # Errors
    /// If conns still name the service, or there is no such cell.
    pub fn retire_service(&mut self, slot: Slot) -> Result<Box<ServiceCell>, RetireError> {
        let cell = service_cell(&mut self.services, slot).ok_or(RetireError::Absent(slot))?;
        match cell.totals.conns() {
            0 => cell.lease.change(0, 0),
            conns => return Err(RetireError::Busy(slot, conns)),
        }
        let place = self.services.get_mut(slot.index());
        place.and_then(Option::take).ok_or(RetireError::Absent(slot))
    }

    /// Empties the cell of a server that is gone, for the slot's next generation.
    ///
    /// # Errors
    /// If conns still name the server, or there is no such cell (it was never seen, and has no counts).
    pub fn retire_server(&mut self, slot: Slot) -> Result<Retired, RetireError> {
        let cell = self.servers.of_mut(slot).ok_or(RetireError::Absent(slot))?;
        let totals = cell.totals;
        if totals.conns() > 0 {
            return Err(RetireError::Busy(slot, totals.conns()));
        }
        let quota = cell.lease.release(0);
        *cell = ServerCell::default();
        Ok(Retired { totals, quota })
    }

    /// A conn came without being chosen: from another node, or kept over a restart. Limits count it, but
    /// do not refuse it.
    pub fn adopted(&mut self, service: Slot, server: Slot, client: IpAddr, now: Now) {
        if let Some(cell) = self.servers.of_mut(server) {
            cell.lease.open_anyway();
        }
        if let Some(cell) = service_cell(&mut self.services, service) {
            cell.lease.open_anyway();
        }
        self.count_opened(service, server, client, now);
    }

    pub(crate) fn count_opened(&mut self, service: Slot, server: Slot, client: IpAddr, now: Now) {
        let mut of_service = service_cell(&mut self.services, service);
        if let Some(cell) = &mut of_service {
            cell.totals.opened();
            cell.sticky.opened(client, server, now);
        }
        if let Some(cell) = self.servers.of_mut(server) {
            cell.totals.opened();
            rank(of_service, cell);
        }
    }

    /// A conn is established: it counts as active.
    #[inline]
    pub fn established(&mut self, service: Slot, server: Slot) {
        self.count(service, server, Totals::established);
    }

    /// An established conn is closing: it counts as inactive again.
    #[inline]
    pub fn closing(&mut self, service: Slot, server: Slot) {
        self.count(service, server, Totals::closing);
    }

    /// A conn has gone; `active` says how it counted. Its part of the limits is free again.
    pub fn closed(&mut self, service: Slot, server: Slot, active: bool, client: IpAddr, now: Now) {
        let workers = u32::from(self.place.workers);
        let mut of_service = service_cell(&mut self.services, service);
        if let Some(cell) = &mut of_service {
            if cell.totals.closed(active) {
                cell.lease.close(workers);
            }
            cell.sticky.closed(client, server, now);
        }
        if let Some(cell) = self.servers.of_mut(server) {
            if cell.totals.closed(active) {
                cell.lease.close(workers);
            }
            rank(of_service, cell);
        }
    }

    /// A chosen conn did not come about: it is as if it had not been chosen, but for positions.
    pub fn abandoned(&mut self, service: Slot, server: Slot, client: IpAddr, now: Now) {
        self.closed(service, server, false, client, now);
        self.count(service, server, |totals| {
            totals.opened = totals.opened.saturating_sub(1);
            totals.refused += 1;
        });
    }

    /// Adds what a conn has sent since it was last added.
    pub fn add_traffic(&mut self, service: Slot, server: Slot, traffic: Traffic) {
        if let Some(cell) = service_cell(&mut self.services, service) {
            cell.totals.traffic += traffic;
        }
        if let Some(cell) = self.servers.of_mut(server) {
            cell.totals.traffic += traffic;
        }
    }

    #[inline]
    fn count(&mut self, service: Slot, server: Slot, change: impl Fn(&mut Totals)) {
        let mut of_service = service_cell(&mut self.services, service);
        if let Some(cell) = &mut of_service {
            change(&mut cell.totals);
        }
        if let Some(cell) = self.servers.of_mut(server) {
            change(&mut cell.totals);
            rank(of_service, cell);
        }
    }

    /// This worker's counts of a server; `None` if it has not seen it.
    pub fn server_totals(&self, slot: Slot) -> Option<Totals> {
        Some(self.servers.of(slot)?.totals)
    }

    /// This worker's counts of a service.
    pub fn service_totals(&self, slot: Slot) -> Option<Totals> {
        Some(self.service(slot)?.totals)
    }

    /// Clients that a service remembers here; walks its table.
    pub fn remembered_clients(&self, service: Slot, now: Now) -> usize {
        self.service(service).map_or(0, |cell| cell.sticky.len(now))
    }

    pub(crate) fn service(&self, slot: Slot) -> Option<&ServiceCell> {
        self.services.get(slot.index())?.as_deref().filter(|cell| cell.slot == slot)
    }

    /// Housekeeping for the next `budget` server slots and as many service slots: spare parts of limits go
    /// back for other workers, expired clients are forgotten. To be called now and then, a little at a time.
    pub fn settle(&mut self, budget: usize, now: Now) {
        let workers = u32::from(self.place.workers);
        for _ in 0..budget {
            if let Some(cell) = next(&mut self.servers.0, &mut self.settled_servers) {
                cell.lease.settle(workers);
            }
            if let Some(Some(cell)) = next(&mut self.services, &mut self.settled_services) {
                cell.lease.settle(workers);
                cell.sticky.sweep(SETTLE_SETS, now);
            }
        }
    }
}

/// The cell at the cursor, which goes on to the next that there is memory for.
fn next<'a, T>(chunks: &'a mut Chunks<T>, cursor: &mut usize) -> Option<&'a mut T> {
    let at = *cursor;
    *cursor += 1;
    if at % CHUNK_LEN == CHUNK_LEN - 1 {
        *cursor = chunks.chunk_from(*cursor / CHUNK_LEN)? * CHUNK_LEN;
    }
    chunks.get_mut(at)
}

/// The load of a server has changed: its rank in the service may, too.
#[inline]
fn rank(service: Option<&mut ServiceCell>, server: &ServerCell) {
    if let Some(service) = service {
        service.ranking.loaded(server.index as usize, server.slot, server.load());
    }
}

#[inline]
pub(crate) fn service_cell(
    services: &mut Chunks<Option<Box<ServiceCell>>>,
    slot: Slot,
) -> Option<&mut ServiceCell> {
    services.get_mut(slot.index())?.as_deref_mut().filter(|cell| cell.slot == slot)
}
