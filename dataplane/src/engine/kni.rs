//! The kernel's interfaces to ours, and the thread that moves packets to and from them.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use ::kni::{IngressDrop, KernelInterface, Sent, Tap, TapConfig};
use dpdk::{Eal, Mbuf, Mempool};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use types::{EthPortId, MacAddr, Packet};

use super::EngineError;
use crate::control::engine::Kni;
use crate::privileges;
use crate::worker::kernel::{KernelPacket, PumpEnd};

/// Packets of one ring or interface in a row.
const BURST: usize = 64;
/// Longest frame of any MTU, with two VLAN tags.
const FRAME_MAX: usize = 9600 + 22;
/// The shortest sleep when there is nothing to do, and the longest: workers make no system call, so they
/// cannot wake the pump.
const SLEEP_MIN_US: u64 = 20;
const SLEEP_MAX_US: u64 = 500;

/// All kernel interfaces.
#[derive(Debug, Default)]
pub(super) struct Knis {
    /// Until the pump has them.
    taps: Vec<Tap>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<(), dpdk::Error>>>,
    /// Interfaces of the kernel that are ours, while we are here.
    drops: Vec<IngressDrop>,
}

/// What the pump and control share.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    ends: Vec<End>,
}

/// What is known of one kernel interface.
#[derive(Debug)]
struct End {
    interface: EthPortId,
    carrier: AtomicBool,
    to_kernel: AtomicU64,
    to_kernel_dropped: AtomicU64,
    from_kernel: AtomicU64,
    from_kernel_dropped: AtomicU64,
}

impl Shared {
    fn end(&self, interface: EthPortId) -> Option<&End> {
        self.ends.iter().find(|end| end.interface == interface)
    }
}

impl Knis {
    /// Makes the kernel's interface to one of ours, up and without carrier.
    ///
    /// # Errors
    /// If the kernel refuses it.
    pub(super) fn add(
        &mut self,
        interface: EthPortId,
        (name, device): (&str, &str),
        kni: &config::Kni,
        (mac, mtu): (MacAddr, u16),
    ) -> Result<Kni, EngineError> {
        let refused = |source| EngineError::Kni { interface: name.to_owned(), source };
        let config::Kni { name, netns, persist } = kni.clone();
        let config = TapConfig { name, mac, mtu, netns, persist };
        let mut tap = Tap::create(&config).map_err(refused)?;
        tap.set_up(true).map_err(refused)?;
        let index = tap.index().map_err(refused)?;
        if let Some(under) = kernels_own(device) {
            match IngressDrop::attach(under) {
                Ok(drop) => self.drops.push(drop),
                Err(error) => tracing::warn!("{error}"),
            }
        }
        self.taps.push(tap);
        let end = End {
            interface,
            carrier: AtomicBool::new(false),
            to_kernel: AtomicU64::new(0),
            to_kernel_dropped: AtomicU64::new(0),
            from_kernel: AtomicU64::new(0),
            from_kernel_dropped: AtomicU64::new(0),
        };
        // Nobody else has it before the pump runs.
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.ends.push(end);
        }
        let TapConfig { name, netns, .. } = config;
        Ok(Kni { name, netns, index })
    }

    /// Starts the pump, if there is anything for it to do.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub(super) fn run(
        &mut self,
        eal: &Eal,
        pool: &Mempool,
        workers: Vec<PumpEnd<Mbuf>>,
    ) -> Result<(), EngineError> {
        if self.taps.is_empty() {
            return Ok(());
        }
        let taps = self.taps.drain(..).map(|tap| Running { tap, carrier: false, gone: false });
        let pump = Pump {
            taps: taps.collect(),
            shared: Arc::clone(&self.shared),
            workers,
            pool: pool.clone(),
            frame: vec![0; FRAME_MAX],
        };
        let thread = eal.spawn("kni", move || {
            if let Err(error) = privileges::drop_of_worker() {
                tracing::warn!(%error, "the thread of the kernel's interfaces keeps its capabilities");
            }
            pump.run();
        });
        self.thread = Some(thread.map_err(EngineError::Pump)?);
        Ok(())
    }

    /// Tells the kernel whether there is a link.
    pub(super) fn set_carrier(&self, interface: EthPortId, carrier: bool) {
        if let Some(end) = self.shared.end(interface) {
            end.carrier.store(carrier, Ordering::Relaxed);
        }
    }

    /// What passed the KNI of an interface.
    pub(super) fn statistics(&self, interface: EthPortId) -> api::KniStats {
        let Some(end) = self.shared.end(interface) else { return api::KniStats::default() };
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        api::KniStats {
            to_kernel_packets: load(&end.to_kernel),
            to_kernel_dropped: load(&end.to_kernel_dropped),
            from_kernel_packets: load(&end.from_kernel),
            from_kernel_dropped: load(&end.from_kernel_dropped),
        }
    }

    /// Ends the pump; the interfaces go, or stay without carrier if they are to persist.
    pub(super) fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::error!(%error, "the kernel's interfaces were not served")
                }
                Err(_) => tracing::error!("the thread of the kernel's interfaces panicked"),
            }
        }
        self.taps.clear();
        self.drops.clear();
    }
}

/// The interface of the kernel that a device of DPDK shares with it, if it does.
fn kernels_own(device: &str) -> Option<&str> {
    let arguments = device.strip_prefix("net_af_packet")?;
    arguments.split(',').find_map(|argument| argument.strip_prefix("iface="))
}

/// The thread that moves packets.
struct Pump {
    taps: Vec<Running>,
    shared: Arc<Shared>,
    workers: Vec<PumpEnd<Mbuf>>,
    pool: Mempool,
    /// The frame that is under way.
    frame: Vec<u8>,
}

struct Running {
    tap: Tap,
    carrier: bool,
    /// Somebody deleted it.
    gone: bool,
}

impl Pump {
    fn run(mut self) {
        let mut sleep_us = SLEEP_MIN_US;
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.apply_carriers();
            let busy = self.up() | self.down();
            sleep_us = if busy { SLEEP_MIN_US } else { (sleep_us * 2).min(SLEEP_MAX_US) };
            if !busy {
                self.sleep(sleep_us);
            }
        }
        for running in self.taps.iter_mut().filter(|running| !running.gone) {
            // One that persists is to say that nobody is behind it.
            if let Err(error) = running.tap.set_carrier(false) {
                tracing::warn!(%error, "a kernel interface keeps its carrier");
            }
        }
    }

    fn apply_carriers(&mut self) {
        for (running, end) in self.taps.iter_mut().zip(&self.shared.ends) {
            let wanted = end.carrier.load(Ordering::Relaxed);
            if wanted != running.carrier && !running.gone {
                running.carrier = wanted;
                if let Err(error) = running.tap.set_carrier(wanted) {
                    tracing::warn!(%error, "the kernel was not told of a link");
                }
            }
        }
    }

    /// Gives the kernel what the workers have for it. True if there was anything.
    fn up(&mut self) -> bool {
        let Self { taps, shared, workers, frame, .. } = self;
        let mut busy = false;
        let mut pass = |packet: KernelPacket<Mbuf>| {
            busy = true;
            let place = shared.ends.iter().position(|end| end.interface == packet.interface);
            let ends =
                place.and_then(|place| Some((taps.get_mut(place)?, shared.ends.get(place)?)));
            let Some((running, end)) = ends else { return };
            let counter = match running.give(&packet.packet, frame) {
                true => &end.to_kernel,
                false => &end.to_kernel_dropped,
            };
            counter.fetch_add(1, Ordering::Relaxed);
        };
        for worker in workers.iter_mut() {
            std::iter::from_fn(|| worker.urgent.pop().ok()).take(BURST).for_each(&mut pass);
        }
        for worker in workers.iter_mut() {
            std::iter::from_fn(|| worker.bulk.pop().ok()).take(BURST).for_each(&mut pass);
        }
        busy
    }

    /// Gives workers what the kernel sends, each interface to one, so that order is kept. True if there
    /// was anything.
    fn down(&mut self) -> bool {
        let mut busy = false;
        let workers = self.workers.len().max(1);
        for (running, end) in self.taps.iter_mut().zip(&self.shared.ends) {
            let place = usize::from(end.interface.0) % workers;
            let Some(worker) = self.workers.get_mut(place) else { continue };
            for _ in 0..BURST {
                let Some(len) = running.take(&mut self.frame) else { break };
                busy = true;
                let interface = end.interface;
                let packet = packet_of(&self.pool, self.frame.get(..len).unwrap_or_default());
                let passed = packet.is_some_and(|packet| {
                    worker.down.push(KernelPacket { interface, packet }).is_ok()
                });
                let counter = if passed { &end.from_kernel } else { &end.from_kernel_dropped };
                counter.fetch_add(1, Ordering::Relaxed);
            }
        }
        busy
    }

    /// Sleeps until the kernel sends something, or for so long.
    fn sleep(&self, us: u64) {
        let here = self.taps.iter().filter(|running| !running.gone);
        let mut waiting: Vec<_> =
            here.map(|running| PollFd::new(&running.tap, PollFlags::IN)).collect();
        let timeout = Timespec { tv_sec: 0, tv_nsec: us as i64 * 1000 };
        if poll(&mut waiting, Some(&timeout)).is_err() {
            // Interrupted, or something is wrong with the descriptors: never spin on that.
            std::thread::sleep(Duration::from_micros(us));
        }
    }
}

impl Running {
    /// Gives the kernel a packet; false if it did not take it.
    fn give(&mut self, packet: &Mbuf, frame: &mut Vec<u8>) -> bool {
        if self.gone {
            return false;
        }
        let sent = if packet.segments() == 1 {
            self.tap.send(packet.bytes())
        } else {
            frame.clear();
            packet.visit_segments(|segment| frame.extend_from_slice(segment));
            let sent = self.tap.send(frame);
            frame.resize(FRAME_MAX, 0);
            sent
        };
        match sent {
            Ok(sent) => sent == Sent::Taken,
            Err(error) => {
                self.failed(&error);
                false
            }
        }
    }

    /// The length of the next frame of the kernel.
    fn take(&mut self, frame: &mut [u8]) -> Option<usize> {
        if self.gone {
            return None;
        }
        match self.tap.receive(frame) {
            Ok(len) => len,
            Err(error) => {
                self.failed(&error);
                None
            }
        }
    }

    fn failed(&mut self, error: &std::io::Error) {
        if error.kind() == ErrorKind::NotConnected {
            self.gone = true;
            tracing::error!(%error, "restart the daemon to have it again");
        }
    }
}

/// A packet of these bytes, of as many segments as it takes; none without buffers.
fn packet_of(pool: &Mempool, bytes: &[u8]) -> Option<Mbuf> {
    let mut whole: Option<Mbuf> = None;
    for part in bytes.chunks(usize::from(pool.room())) {
        let mut segment = pool.allocate()?;
        if !segment.append(part.len()) {
            return None;
        }
        segment.bytes_mut().copy_from_slice(part);
        match &mut whole {
            None => whole = Some(segment),
            Some(packet) => {
                if !packet.chain(segment) {
                    return None;
                }
            }
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_interface_is_named_by_the_device() {
        assert_eq!(kernels_own("net_af_packet0,iface=lan0,framecnt=4096"), Some("lan0"));
        assert_eq!(kernels_own("net_af_packet1,qpairs=2,iface=eth1"), Some("eth1"));
        assert_eq!(kernels_own("net_tap0,iface=lan0"), None);
        assert_eq!(kernels_own("0000:81:00.0"), None);
    }
}
