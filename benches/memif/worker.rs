//! dpnat's worker on memif, told by lines what to do: a line asks for its counters, the end stops it.

use std::io::{BufRead, stdin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;

use dpdk::{Mbuf, Mempool};
use types::{Io, Verdict};

use super::{Failure, Interfaces, Orders, Sides};
use crate::bed::{self, BedConfig};

/// The queues of both interfaces.
struct Queues {
    sides: Sides,
    pool: Mempool,
}

impl Io for Queues {
    type Packet = Mbuf;

    #[inline]
    fn receive(&mut self, interface: usize, into: &mut [Option<Mbuf>]) -> usize {
        self.sides.0.get_mut(interface).map_or(0, |(rx, _)| rx.receive(into))
    }

    #[inline]
    fn transmit(&mut self, interface: usize, packets: &mut [Option<Mbuf>]) -> usize {
        self.sides.0.get_mut(interface).map_or(0, |(_, tx)| tx.transmit(packets))
    }

    #[inline]
    fn allocate(&mut self) -> Option<Mbuf> {
        self.pool.allocate()
    }
}

/// Runs until the end of standard input.
pub fn run(orders: &Orders, cpu: u16) -> Result<(), Failure> {
    let mut interfaces = Interfaces::open(&orders.directory, "client", super::other(cpu), &[cpu])?;
    interfaces.connect()?;
    let config = BedConfig::new(orders.conns.max(1_000_000));
    let (tickets, pool) = (std::mem::take(&mut interfaces.tickets), interfaces.pool.clone());
    let stop = Arc::new(AtomicBool::new(false));
    let (told, published) = sync_channel(1);
    let lcore = interfaces.eal.lcores().next().ok_or("no lcore")?;
    let stopped = Arc::clone(&stop);
    let handle = interfaces.eal.launch(lcore, move || -> Result<(), dpdk::Error> {
        let io = Queues { sides: Sides::claim(tickets)?, pool };
        let (mut worker, control, _clock) = bed::worker(&config, io);
        // Nobody listens only if the main thread has gone.
        let _ = told.send(Arc::clone(&control.published));
        worker.run(&stopped);
        Ok(())
    })?;
    let published = published.recv()?;
    for _line in stdin().lock().lines() {
        let reading = published.read();
        let load = reading.values.load();
        let sent = reading.values.verdict(Verdict::Sent);
        println!("{sent} {}", load.busy_tsc);
    }
    for verdict in Verdict::ALL.iter().filter(|verdict| verdict.is_drop()) {
        let count = published.read().values.verdict(*verdict);
        if count > 0 {
            eprintln!("dropped: {} {count}", verdict.name());
        }
    }
    stop.store(true, Ordering::Relaxed);
    handle.wait().map_err(|_| "the worker has panicked")??;
    Ok(())
}
