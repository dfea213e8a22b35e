//! End to end over memif: a generator on one CPU, dpnat's worker or testpmd on the other.
//!
//! Each of them is a process of its own, because DPDK allows one EAL a process.

mod generator;
mod peer;
mod worker;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use dpdk::{
    Eal, EalOptions, EthPort, Mempool, MempoolConfig, PortConfig, RxQueue, RxTicket, TxQueue,
    TxTicket,
};

use crate::report::Report;
use peer::{Process, Throughput};

/// What the processes are told.
#[derive(Args, Clone, Debug)]
pub struct Orders {
    /// The directory of the sockets
    #[arg(long, hide = true, default_value = ".")]
    directory: PathBuf,
    /// Conns
    #[arg(long, hide = true, default_value_t = 0)]
    conns: u32,
    /// Seconds to measure
    #[arg(long, hide = true, default_value_t = 5)]
    seconds: u32,
}

/// Why a run was not possible.
pub type Failure = Box<dyn std::error::Error>;

/// What a process of this program can be.
pub const GENERATOR: &str = "memif-generator";
/// See [`GENERATOR`].
pub const WORKER: &str = "memif-worker";

/// Runs as one of the processes.
pub fn serve(what: &str, orders: &Orders, cpu: u16) -> Result<(), Failure> {
    match what {
        GENERATOR => generator::run(orders, other(cpu)),
        _ => worker::run(orders, cpu),
    }
}

/// The generator's CPU.
const fn other(cpu: u16) -> u16 {
    if cpu == 0 { 1 } else { 0 }
}

/// Packets a second, and cycles for each, beside testpmd on the same devices.
pub fn measure(
    report: &mut Report,
    sizes: &[(&str, u32)],
    seconds: u32,
    cpu: u16,
) -> Result<(), Failure> {
    let testpmd = run(cpu, seconds, 1_000_000, |directory| Process::testpmd(directory, cpu))?;
    for (size, conns) in sizes {
        let dpnat = run(cpu, seconds, *conns, |directory| Process::worker(directory, *conns, cpu))?;
        if dpnat.lost > 0 {
            eprintln!("memif/fullnat44-udp/{size}: {} packets were lost", dpnat.lost);
        }
        let name = format!("memif/fullnat44-udp/{size}");
        report.compare(&name, dpnat.mpps, "Mpps", ("testpmd/5tswap", testpmd.mpps));
        let baseline = ("testpmd/5tswap/cycles", testpmd.cycles);
        report.compare(&format!("memif/cycles/{size}"), dpnat.cycles, "cycles", baseline);
    }
    Ok(())
}

fn run(
    cpu: u16,
    seconds: u32,
    conns: u32,
    peer: impl FnOnce(&Path) -> Result<Process, Failure>,
) -> Result<Throughput, Failure> {
    let directory = tempfile::tempdir()?;
    let generator = Process::generator(directory.path(), conns, seconds, cpu)?;
    await_sockets(directory.path())?;
    let peer = peer(directory.path())?;
    peer::throughput(generator, peer)
}

/// Waits until the generator listens: memif's client tries once.
fn await_sockets(directory: &Path) -> Result<(), Failure> {
    for _ in 0..1_000 {
        std::thread::sleep(Duration::from_millis(10));
        if (0..2).all(|interface| socket(directory, interface).exists()) {
            // A moment passes between a socket's file and its listening.
            std::thread::sleep(Duration::from_millis(50));
            return Ok(());
        }
    }
    Err("the generator has no sockets after 10 s".into())
}

fn socket(directory: &Path, interface: usize) -> PathBuf {
    directory.join(format!("{interface}.sock"))
}

/// The device string of one of the two interfaces, for a server or a client of the socket.
fn device(directory: &Path, interface: usize, role: &str) -> String {
    let socket = socket(directory, interface);
    // 2^11 descriptors a ring: more than are ever under way.
    format!(
        "net_memif{interface},role={role},id={interface},socket={},socket-abstract=no,rsize=11,\
         mac=02:00:00:00:00:0{}",
        socket.display(),
        interface + 1,
    )
}

/// DPDK with both interfaces, their links not up yet.
struct Interfaces {
    // In the order in which they are let go.
    tickets: Vec<(RxTicket, TxTicket)>,
    ports: Vec<EthPort>,
    pool: Mempool,
    eal: Eal,
}

impl Interfaces {
    fn open(directory: &Path, role: &str, main: u16, workers: &[u16]) -> Result<Self, Failure> {
        let eal = Eal::start(&EalOptions {
            main_cpus: vec![main],
            worker_cpus: workers.to_vec(),
            memory_mib: 128,
            devices: (0..2).map(|interface| device(directory, interface, role)).collect(),
            // That there are neither secondary processes nor pages of 1 GiB is as it should be.
            extra_args: ["pmd.net.memif:critical", "lib.eal:error"]
                .map(|level| format!("--log-level={level}"))
                .to_vec(),
            ..EalOptions::default()
        })?;
        let pool = Mempool::new(&eal, &MempoolConfig::default())?;
        let (mut ports, mut tickets) = (Vec::new(), Vec::new());
        for interface in 0..2 {
            let mut port = eal.port(&format!("net_memif{interface}"))?;
            let config = PortConfig { rss: false, ..PortConfig::default() };
            let mut queues = port.configure(&config, &pool)?;
            port.start()?;
            tickets.extend(queues.rx.pop().zip(queues.tx.pop()));
            ports.push(port);
        }
        Ok(Self { tickets, ports, pool, eal })
    }

    /// Waits until both links are up.
    fn connect(&self) -> Result<(), Failure> {
        for _ in 0..1_000 {
            let up = self.ports.iter().filter(|port| port.link().is_ok_and(|link| link.up)).count();
            if up == self.ports.len() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err("nobody has connected to the interfaces for 10 s".into())
    }
}

/// Both interfaces' queues, on the thread that polls them.
struct Sides(Vec<(RxQueue, TxQueue)>);

impl Sides {
    fn claim(tickets: Vec<(RxTicket, TxTicket)>) -> Result<Self, dpdk::Error> {
        let claim = |(rx, tx): (RxTicket, TxTicket)| Ok((rx.claim()?, tx.claim()?));
        tickets.into_iter().map(claim).collect::<Result<_, _>>().map(Self)
    }
}
