//! The engine on DPDK: EAL, interfaces, packet buffers and the lcores that workers run on.

mod buffers;
mod error;
mod kni;
mod queues;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use config::{Config, HugePages, Queues};
use dpdk::{Eal, EalOptions, EthPort, LcoreHandle, Mbuf, Mempool, PortConfig, RxTicket, TxTicket};
use types::EthPortId;

use crate::control::engine::{Buffers, Engine, InterfaceInfo, Link};
use crate::privileges;
use crate::worker::kernel::PumpEnd;
use crate::worker::{Worker, WorkerConfig};

use self::kni::Knis;
pub use buffers::BufferPlan;
pub use error::EngineError;
use queues::DpdkIo;

/// A worker that has not ended so long after it was told to will not end.
const END_WITHIN: Duration = Duration::from_secs(2);
/// Between two looks whether all workers have ended.
const END_LOOK: Duration = Duration::from_millis(5);

/// The interfaces and workers of this process on DPDK.
#[derive(Debug)]
pub struct DpdkEngine {
    // In the order in which they are let go: workers, kernel interfaces, interfaces, buffers, EAL.
    workers: Vec<LcoreHandle<Result<(), dpdk::Error>>>,
    knis: Knis,
    ports: Vec<EthPort>,
    pool: Option<Mempool>,
    eal: Option<Eal>,
    interfaces: Vec<InterfaceInfo>,
    cpus: Vec<u16>,
    tickets: Vec<Vec<(Option<RxTicket>, TxTicket)>>,
    // Each worker that runs holds one more of it.
    stop: Arc<AtomicBool>,
}

impl DpdkEngine {
    /// Starts EAL and all interfaces; no worker runs yet. Interfaces are numbered in the order of
    /// their names.
    ///
    /// # Errors
    /// What is missing, and how it can be had. Whatever was started is stopped again.
    pub fn start(config: &Config) -> Result<Self, EngineError> {
        let cpus = config.workers.cpus.cpus().to_vec();
        let plan = BufferPlan::new(config);
        plan.check(config)?;
        let eal = Eal::start(&eal_options(config, &cpus))?;
        let pool = Mempool::new(&eal, &plan.mempool())?;
        let mut engine = Self {
            workers: Vec::new(),
            knis: Knis::default(),
            ports: Vec::new(),
            pool: None,
            eal: None,
            interfaces: Vec::new(),
            tickets: cpus.iter().map(|_| Vec::new()).collect(),
            cpus,
            stop: Arc::default(),
        };
        for (name, interface) in &config.interfaces {
            let has_vlans = config.vlans.values().any(|vlan| vlan.link == *name);
            engine.add_interface(&eal, &pool, (name, interface), has_vlans)?;
        }
        for (name, vlan) in &config.vlans {
            engine.add_vlan(name, vlan)?;
        }
        engine.pool = Some(pool);
        engine.eal = Some(eal);
        Ok(engine)
    }

    fn add_interface(
        &mut self,
        eal: &Eal,
        pool: &Mempool,
        (name, interface): (&str, &config::Interface),
        has_vlans: bool,
    ) -> Result<(), EngineError> {
        let workers = self.cpus.len() as u16;
        let device = device_string(interface, workers);
        let port_name = device.split(',').next().unwrap_or_default();
        let mut port = eal.port(port_name)?;
        let info = port.info()?;
        let rx_queues = rx_queues(name, interface.queues, workers, &info)?;
        if workers > info.max_tx_queues {
            let (interface, most) = (name.to_owned(), info.max_tx_queues);
            return Err(EngineError::Workers { interface, workers, most });
        }
        let queues = port.configure(
            &PortConfig {
                rx_queues,
                tx_queues: workers,
                rx_descriptors: interface.rx_descriptors,
                tx_descriptors: interface.tx_descriptors,
                mtu: Some(interface.mtu),
                promiscuous: false,
                // Neighbours ask for IPv6 addresses at groups that come and go with them, and the kernel
                // listens to others.
                all_multicast: true,
                rss: rx_queues > 1,
                vlan_tags: has_vlans,
            },
            pool,
        )?;
        port.start()?;
        let (takes_tags, puts_tags) = (info.takes_vlan_tags(), info.puts_vlan_tags());
        let id = EthPortId(self.interfaces.len() as u16);
        let (mac, mtu) = (port.mac()?, port.mtu()?);
        let kni = match &interface.kni {
            Some(kni) => Some(self.knis.add(id, (name, &device), kni, (mac, mtu))?),
            None => None,
        };
        self.interfaces.push(InterfaceInfo {
            id,
            name: name.to_owned(),
            driver: info.driver,
            mac,
            mtu,
            rx_queues,
            tx_queues: workers,
            rx_descriptors: interface.rx_descriptors,
            tx_descriptors: interface.tx_descriptors,
            numa_node: info.numa_node,
            vlan: None,
            takes_tags: has_vlans && takes_tags,
            puts_tags: has_vlans && puts_tags,
            steering: steering(workers, rx_queues),
            kni,
            device,
        });
        let mut rx = queues.rx.into_iter();
        for (mine, tx) in self.tickets.iter_mut().zip(queues.tx) {
            mine.push((rx.next(), tx));
        }
        self.ports.push(port);
        Ok(())
    }

    /// Makes the kernel's interface to a VLAN, if it has one: all else of it is the workers'.
    fn add_vlan(&mut self, name: &str, vlan: &config::Vlan) -> Result<(), EngineError> {
        let found = self.interfaces.iter().find(|info| info.name == vlan.link);
        let (Some(kni), Some(link)) = (&vlan.kni, found) else { return Ok(()) };
        let link = link.clone();
        let id = EthPortId(self.interfaces.len() as u16);
        let kni = self.knis.add(id, (name, &link.device), kni, (link.mac, link.mtu))?;
        let (name, vlan) = (name.to_owned(), Some((vlan.id, link.id)));
        self.interfaces.push(InterfaceInfo { id, name, vlan, kni: Some(kni), ..link });
        Ok(())
    }

    /// Runs a worker on each lcore, in the order of the configured CPUs, and the pump of the kernel's
    /// interfaces if there are any.
    ///
    /// # Errors
    /// If an lcore or the pump cannot be started.
    pub fn launch(
        &mut self,
        workers: Vec<WorkerConfig<Mbuf>>,
        pumps: Vec<PumpEnd<Mbuf>>,
    ) -> Result<(), EngineError> {
        let (Some(eal), Some(pool)) = (&self.eal, &self.pool) else {
            return Err(EngineError::Stopped);
        };
        for info in &self.interfaces {
            self.knis.set_carrier(info.id, self.link(info.id).up);
        }
        self.knis.run(eal, pool, pumps)?;
        let lcores: Vec<_> = eal.lcores().filter(|lcore| lcore.0 > 0).collect();
        for ((config, tickets), lcore) in
            workers.into_iter().zip(self.tickets.drain(..)).zip(lcores)
        {
            let (pool, stop) = (pool.clone(), Arc::clone(&self.stop));
            let interfaces = tickets.len();
            let handle = eal.launch(lcore, move || {
                if let Err(error) = privileges::drop_of_worker() {
                    tracing::warn!(%error, "a worker keeps its capabilities");
                }
                let io = DpdkIo::claim(tickets, pool)?;
                Worker::new(config, io, interfaces).run(&stop);
                Ok(())
            })?;
            self.workers.push(handle);
        }
        Ok(())
    }

    /// Waits until no worker runs. A worker that hangs may use interfaces and buffers at any time, so
    /// that they cannot be taken down under it: the process ends instead.
    fn await_workers(&self) {
        let deadline = Instant::now() + END_WITHIN;
        while Arc::strong_count(&self.stop) > 1 {
            if Instant::now() >= deadline {
                let hung = Arc::strong_count(&self.stop) - 1;
                tracing::error!(hung, "workers do not end; the process ends without them");
                std::process::exit(1);
            }
            std::thread::sleep(END_LOOK);
        }
    }

    /// The device of an interface; that of its link for a VLAN.
    fn port(&self, interface: EthPortId) -> Option<&EthPort> {
        let info = self.interfaces.get(usize::from(interface.0))?;
        let device = info.vlan.map_or(interface, |(_, link)| link);
        self.ports.get(usize::from(device.0))
    }
}

/// How many queues are set up and polled, each by the worker of its number. What comes on them for
/// workers without one gets there over a ring.
fn rx_queues(
    name: &str,
    configured: Queues,
    workers: u16,
    info: &dpdk::DeviceInfo,
) -> Result<u16, EngineError> {
    let most = info.max_rx_queues;
    // Its sockets share what arrives whether they are polled or not.
    let all = info.driver == "net_af_packet";
    match configured {
        Queues::Auto if all && most > workers => {
            Err(EngineError::Unpolled { interface: name.to_owned(), has: most, polled: workers })
        }
        Queues::Auto => Ok(workers.min(most)),
        Queues::Count(count) if count > most => {
            Err(EngineError::Queues { interface: name.to_owned(), count, most })
        }
        Queues::Count(count) if count > workers || all && count < most => {
            let (has, polled) = if count > workers { (count, workers) } else { (most, count) };
            Err(EngineError::Unpolled { interface: name.to_owned(), has, polled })
        }
        Queues::Count(count) => Ok(count),
    }
}

/// Where answers to a LIP come home, and why so.
fn steering(workers: u16, rx_queues: u16) -> String {
    match (workers, rx_queues) {
        (1, _) => "one worker: it owns every key".to_owned(),
        (_, queues) if queues < workers => {
            format!("handoff: receive queues {queues}, workers {workers}")
        }
        _ => "handoff: the owner of a key gets its packets over a ring".to_owned(),
    }
}

/// DPDK's name of the device. An af_packet device has as many queues as it is told.
fn device_string(interface: &config::Interface, workers: u16) -> String {
    match (&interface.pci, &interface.device) {
        (Some(pci), _) => pci.clone(),
        (None, Some(device)) => {
            let is_af_packet = device.starts_with("net_af_packet");
            if is_af_packet && workers > 1 && !device.contains("qpairs=") {
                format!("{device},qpairs={workers}")
            } else {
                device.clone()
            }
        }
        (None, None) => String::new(),
    }
}

fn eal_options(config: &Config, cpus: &[u16]) -> EalOptions {
    EalOptions {
        worker_cpus: cpus.to_vec(),
        memory_mib: memory_mib(config),
        huge_pages: match config.hugepages {
            HugePages::Auto => dpdk::HugePages::Auto,
            HugePages::Required => dpdk::HugePages::Required,
            HugePages::Off => dpdk::HugePages::Off,
        },
        devices: config
            .interfaces
            .values()
            .map(|interface| device_string(interface, cpus.len() as u16))
            .collect(),
        extra_args: config.eal_args.clone(),
        ..EalOptions::default()
    }
}

fn memory_mib(config: &Config) -> u32 {
    u32::try_from(config.memory.as_bytes() >> 20).unwrap_or(u32::MAX)
}

impl Engine for DpdkEngine {
    fn interfaces(&self) -> &[InterfaceInfo] {
        &self.interfaces
    }

    fn cpus(&self) -> &[u16] {
        &self.cpus
    }

    fn version(&self) -> String {
        dpdk::version()
    }

    fn link(&self, interface: EthPortId) -> Link {
        let Some(Ok(link)) = self.port(interface).map(EthPort::link) else {
            return Link::default();
        };
        let full_duplex = link.up.then_some(link.full_duplex);
        Link { up: link.up, speed_mbps: link.speed_mbps, full_duplex }
    }

    fn statistics(&self, interface: EthPortId) -> api::LinkStats {
        let Some(Ok(counted)) = self.port(interface).map(EthPort::statistics) else {
            return api::LinkStats::default();
        };
        api::LinkStats {
            rx_packets: counted.rx_packets,
            rx_bytes: counted.rx_bytes,
            rx_missed: counted.rx_missed,
            rx_errors: counted.rx_errors,
            rx_no_buffer: counted.rx_no_mbuf,
            tx_packets: counted.tx_packets,
            tx_bytes: counted.tx_bytes,
            tx_errors: counted.tx_errors,
        }
    }

    fn set_carrier(&self, interface: EthPortId, carrier: bool) {
        self.knis.set_carrier(interface, carrier);
    }

    fn kni_statistics(&self, interface: EthPortId) -> api::KniStats {
        self.knis.statistics(interface)
    }

    fn buffers(&self) -> Buffers {
        self.pool.as_ref().map_or_else(Buffers::default, |pool| Buffers {
            total: u64::from(pool.size()),
            in_use: u64::from(pool.in_use()),
        })
    }

    fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.await_workers();
        for worker in self.workers.drain(..) {
            match worker.wait() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "a worker could not claim its queues"),
                Err(_) => tracing::error!("a worker panicked; its conns are lost"),
            }
        }
        self.knis.stop();
        self.tickets.clear();
        for port in self.ports.drain(..) {
            if let Err(error) = port.close() {
                tracing::warn!(%error, "an interface could not be closed");
            }
        }
        self.pool = None;
        self.eal = None;
    }
}

impl Drop for DpdkEngine {
    fn drop(&mut self) {
        self.stop();
    }
}
