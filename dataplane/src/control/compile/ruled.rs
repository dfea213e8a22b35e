//! What the state of real servers makes of the services that are configured.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use balance::Server;
use config::{ConfigError, OnFailure};
use health::Ruling;
use types::Endpoint;

use super::Compiler;
use super::services::{Build, take};

/// Rulings on services, by name; a service that is as it is configured has none.
pub type Rulings = BTreeMap<String, Arc<Ruling>>;

impl Compiler {
    /// What the services that run are compiled by.
    pub fn rulings(&self) -> &Arc<Rulings> {
        &self.rulings
    }
}

impl Build<'_> {
    /// What becomes of a real server that is down.
    pub(super) fn down(&self, server: Endpoint) -> Option<OnFailure> {
        self.ruling?.down.get(&server).copied()
    }

    /// Whether a real server takes conns as far as its health goes.
    pub(super) fn is_healthy(&self, server: Endpoint) -> bool {
        let lost = self.ruling.is_some_and(|ruling| ruling.lost);
        self.down(server).is_none() && !(lost && self.service.sorry_server.is_some())
    }

    /// The server that serves instead of all others, while it does.
    pub(super) fn sorry(
        &mut self,
        known: &HashMap<Endpoint, &Server>,
    ) -> Result<Option<Server>, ConfigError> {
        let lost = self.ruling.is_some_and(|ruling| ruling.lost);
        let Some(sorry) = self.service.sorry_server.filter(|_| lost) else { return Ok(None) };
        if let Some(known) = known.get(&sorry) {
            return Ok(Some(Server::clone(known)));
        }
        let path = self.path().key("sorry_server");
        let address = self.address(sorry.address, || path.clone())?;
        let slots = &mut self.compiler.server_slots;
        let slot = take(slots, &mut self.taken.servers, || path)?;
        Ok(Some(Server::new(slot, address, sorry.l4_port.0)))
    }
}
