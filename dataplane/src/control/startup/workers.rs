//! What each worker begins with: its tables, its links, and an empty configuration.

use std::sync::Arc;

use balance::Cells;
use config::{Config, HugePages};
use counters::WorkerCounters;
use flow::{FlowTable, PageRequest, TableConfig, TableError, Timeouts};
use pool::{LeaseConfig, LeaseConfigError, Leases};
use types::WorkerId;

use super::secrets::{NodeSecrets, random};
use crate::control::compile::timeout_set;
use crate::snapshot::{INTERFACES_SPARE, Snapshot};
use crate::worker::WorkerConfig;
use crate::worker::clock::Clock;
use crate::worker::handoff::Handoff;
use crate::worker::idle::Idle;
use crate::worker::kernel::{PumpEnd, kernel_link};
use crate::worker::link::{ControlEnd, link};
use crate::worker::wide::{WideConfig, WideError, WideTables};

/// Why the workers cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A flow table cannot be made.
    #[error("conntrack.max_connections: {0}")]
    Table(#[from] TableError),
    /// The tables of conns with an IPv6 side cannot be made.
    #[error("conntrack.max_connections_ipv6: {0}")]
    Wide(#[from] WideError),
    /// A pool of leases cannot be made.
    #[error("conntrack.max_connections: {0}")]
    Leases(#[from] LeaseConfigError),
    /// The system has no random numbers.
    #[error("no random numbers: {0}")]
    Random(#[from] std::io::Error),
}

/// What workers are made of, and the ends of the links to them: control's and the pump's, one each a worker.
pub type WorkerParts<P> = (Vec<WorkerConfig<P>>, Vec<ControlEnd>, Vec<PumpEnd<P>>);

/// The workers of a configuration, and control's and the pump's ends of the links to them. Their tables
/// are reserved here.
///
/// # Errors
/// If there is no memory for a table.
pub fn worker_configs<P>(
    config: &Config,
    snapshot: &Arc<Snapshot>,
    secrets: &NodeSecrets,
    clock: Clock,
) -> Result<WorkerParts<P>, StartError> {
    let workers = snapshot.steering.workers();
    let max_connections = config.conntrack.max_connections;
    let timeouts = Timeouts::new(timeout_set(&config.conntrack.timeouts));
    let (mut configs, mut ends, mut pumps) = (Vec::new(), Vec::new(), Vec::new());
    let has_kni = snapshot.interfaces.iter().any(|interface| interface.kni);
    let rings = Handoff::mesh(usize::from(workers)).into_iter();
    let rings = rings.zip(Handoff::mesh(usize::from(workers)));
    for (id, (handoff, wide)) in (0..workers).zip(rings) {
        let counters = WorkerCounters::new(snapshot.interfaces.len() + INTERFACES_SPARE);
        let (control_end, worker_end) = link(counters.published());
        ends.push(control_end);
        let (kernel, pump) = kernel_link(has_kni);
        pumps.push(pump);
        configs.push(WorkerConfig {
            id: WorkerId(id),
            snapshot: Arc::clone(snapshot),
            table: FlowTable::new(TableConfig {
                max_connections,
                seed: random()?,
                timeouts: timeouts.clone(),
                pages: pages(config.hugepages),
            })?,
            leases: Leases::new(&LeaseConfig::new(max_connections, random()?))?,
            wide: WideConfig { tables: WideTables::placeholder(timeouts.clone())?, handoff: wide },
            cells: Cells::new(id, workers),
            secrets: secrets.of_workers(),
            handoff,
            kernel,
            counters,
            link: worker_end,
            clock,
            idle: match config.workers.idle {
                config::Idle::Poll => Idle::Poll,
                config::Idle::Adaptive => Idle::Adaptive,
            },
        });
    }
    Ok((configs, ends, pumps))
}

const fn pages(configured: HugePages) -> PageRequest {
    match configured {
        HugePages::Auto => PageRequest::Auto,
        HugePages::Required => PageRequest::Required,
        HugePages::Off => PageRequest::Off,
    }
}
