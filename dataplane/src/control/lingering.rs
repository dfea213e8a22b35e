//! LIPs and VIPs that are gone from the configuration stay ours until no conn names them.

use types::WorkerId;

use super::compile::Lingerer;
use super::{Control, Reply};
use crate::worker::link::{ConnFilter, Scan};

impl Control {
    /// Looks which addresses that are not configured any more still have conns, and lets the others go.
    ///
    /// # Errors
    /// If a worker does not answer; the next round asks again.
    pub(super) async fn let_addresses_go(&self) -> Reply<()> {
        let lingering = self.shared.compiler.lock().await.lingering();
        if lingering.is_empty() {
            return Ok(());
        }
        let mut idle = Vec::new();
        for address in lingering {
            if !self.has_conns(address).await? {
                idle.push(address);
            }
        }
        if idle.is_empty() {
            return Ok(());
        }
        self.shared.compiler.lock().await.let_go(&idle);
        tracing::info!(addresses = idle.len(), "addresses that were removed are idle now");
        self.refresh(true).await
    }

    /// Whether any worker has a conn that names an address.
    async fn has_conns(&self, address: Lingerer) -> Reply<bool> {
        let (name, none) = (Some(address.address), ConnFilter::default());
        let filter = match address.role {
            fib::Role::Lip => ConnFilter { lip: name, ..none },
            _ => ConnFilter { vip: name, ..none },
        };
        let workers: Vec<WorkerId> = self.state().workers.ids().collect();
        for worker in workers {
            // With room for one record the scan ends at the first conn.
            let scan = Scan { filter, records: Vec::with_capacity(1), ..Scan::default() };
            if !self.scan(worker, Box::new(scan)).await?.records.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
