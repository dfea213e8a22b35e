//! What workers need before they run a plan's snapshot.

use std::sync::Arc;

use balance::{ServerChunk, ServiceCell, ServiceChunk};
use config::ConfigError;
use types::WorkerId;

use super::Plan;
use crate::worker::link::{GatewayWork, ITEMS_MAX, Prepare};

impl Plan {
    /// The names of the services that it changes.
    pub fn touched(&self) -> Vec<String> {
        self.services.iter().map(|(name, _)| name.clone()).collect()
    }

    /// What a worker's NAT state needs before it runs the snapshot, in portions.
    ///
    /// # Errors
    /// If it cannot have such a state.
    pub fn prepare_gateway(&self, worker: WorkerId) -> Result<Vec<GatewayWork>, ConfigError> {
        match &self.gateway {
            Some(next) => next.prepare(&self.sizes, &self.snapshot.steering, worker),
            None => Ok(Vec::new()),
        }
    }

    /// What a worker needs before it runs the snapshot, in portions.
    pub fn prepare(&self, worker: u16) -> Vec<Box<Prepare>> {
        let workers = self.snapshot.steering.workers();
        let mut portions: Vec<Box<Prepare>> = Vec::new();
        if !self.service_chunks.is_empty() || !self.server_chunks.is_empty() {
            portions.push(Box::new(Prepare {
                service_chunks: self
                    .service_chunks
                    .clone()
                    .map(ServiceChunk::new)
                    .map(Some)
                    .collect(),
                server_chunks: self.server_chunks.clone().map(ServerChunk::new).map(Some).collect(),
                cells: Vec::new(),
            }));
        }
        for services in self.cells.chunks(ITEMS_MAX) {
            let cell = |service: &Arc<_>| Some(ServiceCell::new(service, worker, workers));
            let cells = services.iter().map(cell).collect();
            portions.push(Box::new(Prepare { cells, ..Prepare::default() }));
        }
        portions
    }
}
