//! LIPs that are gone from the configuration stay ours until no conn names them.

use types::WorkerId;

use super::{Control, Reply};
use crate::worker::link::{ConnFilter, Scan};

impl Control {
    /// Looks which LIPs that are not configured any more still have conns, and lets the others go.
    ///
    /// # Errors
    /// If a worker does not answer; the next round asks again.
    pub(super) async fn let_lips_go(&self) -> Reply<()> {
        let lingering = self.shared.compiler.lock().await.lingering();
        if lingering.is_empty() {
            return Ok(());
        }
        let mut idle = Vec::new();
        for lip in lingering {
            if !self.has_conns(lip.address).await? {
                idle.push(lip);
            }
        }
        if idle.is_empty() {
            return Ok(());
        }
        self.shared.compiler.lock().await.let_go(&idle);
        tracing::info!(addresses = idle.len(), "local addresses that were removed are idle now");
        self.refresh(true).await
    }

    /// Whether any worker has a conn by a LIP.
    async fn has_conns(&self, lip: u32) -> Reply<bool> {
        let workers: Vec<WorkerId> = self.state().workers.ids().collect();
        for worker in workers {
            let filter = ConnFilter { lip: Some(lip), ..ConnFilter::default() };
            // With room for one record the scan ends at the first conn.
            let scan = Scan { filter, records: Vec::with_capacity(1), ..Scan::default() };
            if !self.scan(worker, Box::new(scan)).await?.records.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
