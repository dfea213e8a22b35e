//! How VIPs and forwarded ports were steered before is remembered until no conn from then needs it.

use std::collections::BTreeMap;
use std::sync::Arc;

use counters::Gauge;
use steer::{Destination, Earlier};
use types::WorkerId;

use super::{Control, Reply};
use crate::worker::link::{ConnFilter, Scan};

/// Records that one scan brings back at a time.
const RECORDS: usize = 256;

/// Destinations, with the snapshot that changed their steering last.
type Destinations = BTreeMap<Destination, u64>;

impl Control {
    /// Looks which of them still have conns on workers that only earlier steering leads to, and forgets
    /// how the others were steered.
    ///
    /// # Errors
    /// If a worker does not answer; the next round asks again.
    pub(super) async fn forget_earlier(&self) -> Reply<()> {
        let (workers, mut idle, earlier) = {
            let state = self.state();
            let workers: Vec<WorkerId> = state.workers.ids().collect();
            let readings = workers.iter().map(|id| state.workers.reading(*id));
            let generation =
                readings.map(|it| it.map_or(0, |it| it.values.gauge(Gauge::Generation)));
            // What a worker does not run yet, no conn can be judged by.
            let oldest = generation.min().unwrap_or(0);
            let earlier = Arc::clone(&state.snapshot.earlier);
            let idle: Destinations = earlier.iter().filter(|(_, since)| *since <= oldest).collect();
            (workers, idle, earlier)
        };
        for worker in workers {
            self.keep_strays(worker, &earlier, &mut idle).await?;
        }
        if idle.is_empty() {
            return Ok(());
        }
        tracing::info!(endpoints = idle.len(), "no conn needs their earlier steering any more");
        self.shared.compiler.lock().await.forget_earlier(idle.into_iter().collect());
        self.refresh(false).await
    }

    /// Takes those out of `idle` that have conns on this worker; ends as soon as none is left.
    async fn keep_strays(
        &self,
        worker: WorkerId,
        earlier: &Earlier,
        idle: &mut Destinations,
    ) -> Reply<()> {
        let filter = ConnFilter { stray: true, ..ConnFilter::default() };
        let mut scan = Box::new(Scan { filter, ..Scan::default() });
        scan.records.reserve_exact(RECORDS);
        while !idle.is_empty() && !scan.finished {
            scan.records.clear();
            scan = self.scan(worker, scan).await?;
            let keys = scan.records.iter().filter_map(|record| record.keys::<u128>().ok());
            for key in keys.flatten() {
                if let Some(destination) = earlier.first(&(&key).into()) {
                    idle.remove(&destination);
                }
            }
        }
        Ok(())
    }
}
