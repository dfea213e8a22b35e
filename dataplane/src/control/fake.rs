//! Control over real workers on interfaces in memory, turned by hand.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use config::{LogLevel, Model};
use steer::Steering;
use testkit::{Buf, Decoded, FakePorts};
use types::{EthPortId, MacAddr, WorkerId};

use super::compile::Facts;
use super::engine::{Buffers, Engine, InterfaceInfo, Link};
use super::startup::logging::LogHandle;
use super::startup::{NodeSecrets, worker_configs};
use super::{Control, ControlConfig, Groundwork};
use crate::snapshot::Interface;
use crate::worker::Worker;
use crate::worker::clock::{Clock, Epoch};
use crate::worker::link::ControlEnd;

/// Two interfaces, a service with two servers, and little memory.
pub const SHOP: &str = r#"
version: 1
workers: { cpus: "1-2" }
conntrack: { max_connections: 1000 }
interfaces:
  lan0: { device: "net_null1" }
  wan0: { device: "net_null0" }
addresses:
  - { address: 203.0.113.2/24, dev: wan0 }
  - { address: 203.0.113.10/32, dev: wan0 }
  - { address: 198.18.0.1/24, dev: lan0 }
routes:
  - { to: default, via: 203.0.113.1, dev: wan0 }
local_address_pools:
  lan: { addresses: [ 198.18.0.10-198.18.0.13 ], dev: lan0 }
services:
  shop:
    vips: [ "203.0.113.10:80" ]
    protocol: tcp
    scheduler: rr
    servers: [ { address: "198.18.0.121:80" }, { address: "198.18.0.122:80" } ]
    local_pool: lan
  shop-tls:
    vips: [ "203.0.113.10:443" ]
    protocol: tcp
    servers: [ { address: "198.18.0.121:443" } ]
    local_pool: lan
"#;

/// The numbers of its interfaces.
pub const LAN: EthPortId = EthPortId(0);
pub const WAN: EthPortId = EthPortId(1);

/// A configuration that must be valid.
pub fn model(text: &str) -> Arc<Model> {
    match config::load(text, "test.yaml") {
        Ok((model, _)) => Arc::new(model),
        Err(errors) => panic!("{errors}"),
    }
}

/// The interfaces of a configuration, all of them up, and its workers' steering.
pub fn facts(model: &Model) -> Facts {
    let workers = model.workers.cpus.len() as u16;
    let steering = Arc::new(Steering::new(workers, [7, 9]).unwrap());
    let assumed = Facts::assumed(model, Arc::clone(&steering)).unwrap();
    let interface = |(interface, n): (&Interface, u8)| Interface {
        mac: MacAddr([2, 0, 0, 0, 1, n]),
        ..interface.clone()
    };
    let started = assumed.started.iter().zip(0..).map(interface).collect();
    Facts::new(model, started, steering, [0; 2]).unwrap()
}

/// A worker without control.
pub struct FakeWorker {
    worker: Worker<FakePorts>,
    clock: Clock,
}

impl FakeWorker {
    pub fn new() -> (ControlEnd, Self) {
        let (mut ends, mut workers) = fake_workers(&model("workers: { cpus: \"1\" }"));
        (ends.remove(0), workers.remove(0))
    }

    /// Shows control its counters.
    pub fn publish(&mut self) {
        self.worker.publish();
    }

    /// As many rounds as it takes to do all that it was told.
    pub fn turn(&mut self) {
        for _ in 0..1000 {
            self.worker.turn(self.clock.now());
        }
    }
}

fn fake_workers(model: &Model) -> (Vec<ControlEnd>, Vec<FakeWorker>) {
    let groundwork = Groundwork::new(model, facts(model)).unwrap();
    workers_on(model, &groundwork, Clock::new(Epoch::now()))
}

fn workers_on(
    model: &Model,
    groundwork: &Groundwork,
    clock: Clock,
) -> (Vec<ControlEnd>, Vec<FakeWorker>) {
    let secrets = NodeSecrets::random().unwrap();
    let (configs, ends, _pumps) =
        worker_configs(model, groundwork.snapshot(), &secrets, clock).unwrap();
    let interfaces = model.interfaces.len();
    let worker = |config| FakeWorker {
        worker: Worker::new(config, FakePorts::new(interfaces), interfaces),
        clock,
    };
    (ends, configs.into_iter().map(worker).collect())
}

/// Interfaces that can be pulled.
#[derive(Debug)]
struct FakeEngine {
    interfaces: Vec<InterfaceInfo>,
    links: Arc<parking_lot::Mutex<Vec<bool>>>,
    carriers: Arc<parking_lot::Mutex<Vec<bool>>>,
}

impl Engine for FakeEngine {
    fn interfaces(&self) -> &[InterfaceInfo] {
        &self.interfaces
    }

    fn cpus(&self) -> &[u16] {
        &[1, 2]
    }

    fn version(&self) -> String {
        "none".to_owned()
    }

    fn link(&self, interface: EthPortId) -> Link {
        Link { up: self.links.lock()[usize::from(interface.0)], ..Link::default() }
    }

    fn statistics(&self, _: EthPortId) -> api::LinkStats {
        api::LinkStats::default()
    }

    fn set_carrier(&self, interface: EthPortId, carrier: bool) {
        self.carriers.lock()[usize::from(interface.0)] = carrier;
    }

    fn kni_statistics(&self, _: EthPortId) -> api::KniStats {
        api::KniStats::default()
    }

    fn buffers(&self) -> Buffers {
        Buffers { total: 100, in_use: 1 }
    }

    fn stop(&mut self) {}
}

/// Control with its workers.
pub struct Bench {
    pub control: Control,
    pub workers: Vec<FakeWorker>,
    /// Which links carry.
    pub links: Arc<parking_lot::Mutex<Vec<bool>>>,
    /// What the kernel is told of them.
    pub carriers: Arc<parking_lot::Mutex<Vec<bool>>>,
}

impl Bench {
    /// Started with a configuration.
    pub async fn start(text: &str) -> Self {
        let mut bench = Self::new(text);
        let (control, model) = (bench.control.clone(), model(text));
        bench.run(async move { control.start(model).await }).await.unwrap();
        bench
    }

    pub fn new(text: &str) -> Self {
        let model = model(text);
        let groundwork = Groundwork::new(&model, facts(&model)).unwrap();
        let clock = Clock::new(Epoch::now());
        let (ends, workers) = workers_on(&model, &groundwork, clock);
        let names = model.interfaces.keys().zip(0..);
        let interfaces: Vec<_> = names.map(|(name, id)| interface(name, EthPortId(id))).collect();
        let links = Arc::new(parking_lot::Mutex::new(vec![true; interfaces.len()]));
        let carriers = Arc::new(parking_lot::Mutex::new(vec![true; interfaces.len()]));
        let engine =
            FakeEngine { interfaces, links: Arc::clone(&links), carriers: Arc::clone(&carriers) };
        let file = std::env::temp_dir().join(format!("dpnat-{}.yaml", std::process::id()));
        let control = Control::new(ControlConfig {
            commit: "",
            groundwork,
            file,
            engine: Box::new(engine),
            workers: ends,
            max_connections: model.conntrack.max_connections,
            clock,
            log: LogHandle::detached(LogLevel::Info),
        });
        Self { control, workers, links, carriers }
    }

    /// Turns the workers and control until something is done.
    pub async fn run<T: Send + 'static>(
        &mut self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let task = tokio::spawn(work);
        while !task.is_finished() {
            self.turn();
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        task.await.unwrap()
    }

    /// One round of all.
    pub fn turn(&mut self) {
        for worker in &mut self.workers {
            worker.worker.turn(worker.clock.now());
        }
        let now_ms = self.control.now_ms();
        self.control.state().pump(now_ms);
    }

    /// A frame comes in at a worker.
    pub fn arrive(&mut self, worker: WorkerId, interface: EthPortId, packet: Buf) {
        let worker = &mut self.workers[usize::from(worker.0)].worker;
        worker.io.arrive(usize::from(interface.0), packet);
    }

    /// What the workers have sent on an interface, all checked.
    pub fn sent(&mut self, interface: EthPortId) -> Vec<Decoded> {
        let workers = self.workers.iter_mut();
        let sent = workers.flat_map(|fake| fake.worker.io.take_sent(usize::from(interface.0)));
        sent.map(|frame| Decoded::check(frame.frame())).collect()
    }
}

fn interface(name: &str, id: EthPortId) -> InterfaceInfo {
    InterfaceInfo {
        id,
        name: name.to_owned(),
        device: format!("net_null{}", id.0),
        driver: "net_null".to_owned(),
        mac: MacAddr([2, 0, 0, 0, 1, id.0 as u8]),
        mtu: 1500,
        rx_queues: 1,
        tx_queues: 1,
        rx_descriptors: 64,
        tx_descriptors: 64,
        numa_node: None,
        vlan: None,
        takes_tags: false,
        puts_tags: false,
        steering: "none".to_owned(),
        kni: None,
    }
}
