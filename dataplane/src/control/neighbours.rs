//! Neighbours and announcements: what workers saw goes in, frames of ARP, neighbour discovery and multicast
//! listener discovery come out.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::Config;
use fib::{
    Announcement, Announcements, Fib, Membership, Memberships, NeighbourAction, NeighbourConfig,
    NextHops, Report,
};
use types::{Address as _, EthPortId, MacAddr, WorkerId};
use wire::mld::{self, Change};
use wire::ndp;
use wire::reply::{ARP_MAX_LEN, arp_announcement, arp_request};

use super::limited::Limited;
use super::workers::Workers;
use crate::snapshot::{Interface, Snapshot};
use crate::worker::link::{Command, Event, Outgoing};

/// Announcements sent at once, at most: ten times as many a second.
const ANNOUNCED_A_TICK: usize = 64;

/// Groups reported at once, at most: those of 16 frames.
const REPORTED_A_TICK: usize = 16 * mld::GROUPS_MAX;

/// A frame and the interface that it leaves by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub interface: EthPortId,
    pub bytes: Vec<u8>,
}

/// The neighbours of all interfaces.
#[derive(Debug)]
pub struct Neighbours {
    table: fib::Neighbours,
    announcements: Announcements,
    memberships: Memberships,
    actions: Vec<NeighbourAction>,
    conflicts: Limited,
    failures: Limited,
}

impl Neighbours {
    /// No neighbours. Nobody outside should know the secret: see [`fib::NextHopsWriter::new`].
    pub fn new(secret: [u64; 2]) -> Self {
        Self {
            table: fib::Neighbours::new(NeighbourConfig { secret, ..NeighbourConfig::default() }),
            announcements: Announcements::default(),
            memberships: Memberships::default(),
            actions: Vec::new(),
            conflicts: Limited::new(5, Duration::from_secs(10)),
            failures: Limited::new(10, Duration::from_secs(10)),
        }
    }

    /// What the workers get.
    pub fn next_hops(&self) -> Arc<NextHops> {
        self.table.next_hops()
    }

    /// All neighbours, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &fib::Neighbour> {
        self.table.iter()
    }

    /// Forgets a neighbour.
    pub(super) fn forget(&mut self, interface: EthPortId, address: IpAddr) {
        self.table.remove(interface, address);
    }

    /// To be called before workers are given a fib of this generation.
    pub(super) fn publish(&mut self, generation: u16) {
        self.table.publish(generation);
    }

    /// To be called when all workers run a fib of this generation.
    pub(super) fn confirm(&mut self, generation: u16) {
        self.table.confirm(generation);
    }

    /// True if a new generation of the fib would free many next hops.
    pub(super) fn wants_generation(&self) -> bool {
        self.table.wants_generation()
    }

    /// Another snapshot runs: new addresses are announced, static neighbours set, those that are not
    /// on link any more forgotten, and those of a link that went down as well.
    pub(super) fn follow(
        &mut self,
        config: &Config,
        before: &Snapshot,
        after: &Snapshot,
        now_ms: u64,
    ) {
        let fib = &after.fib;
        for (address, interface) in before.fib.addresses_since(fib) {
            self.announcements.cancel(interface, address);
        }
        for (address, interface) in fib.addresses_since(&before.fib) {
            self.announcements.add(interface, address, now_ms);
        }
        for (place, (old, new)) in (0..).zip(before.interfaces.iter().zip(&*after.interfaces)) {
            if old.up != new.up {
                self.link_changed(EthPortId(place), new, fib, now_ms);
            }
        }
        if !Arc::ptr_eq(&before.fib, fib) {
            self.table.fib_changed(fib);
            self.memberships.follow(fib, now_ms);
        }
        self.set_static(config, after, now_ms);
    }

    fn link_changed(&mut self, id: EthPortId, interface: &Interface, fib: &Fib, now_ms: u64) {
        if !interface.up {
            self.table.flush(id);
            return;
        }
        self.memberships.came_up(id, now_ms);
        let ours = fib.answering().filter(|(_, owner)| owner.iface == id);
        for (address, _) in ours.collect::<Vec<_>>() {
            self.announcements.add(id, address, now_ms);
        }
    }

    /// Makes the permanent neighbours those of the configuration.
    fn set_static(&mut self, config: &Config, snapshot: &Snapshot, now_ms: u64) {
        let interface = |name: &str| {
            let place = snapshot.interfaces.iter().position(|known| *known.name == *name)?;
            Some(EthPortId(place as u16))
        };
        let configured = config.neighbours.iter();
        let wanted: Vec<(EthPortId, IpAddr, MacAddr)> = configured
            .filter_map(|entry| Some((interface(&entry.dev)?, entry.address, entry.mac)))
            .collect();
        let stale: Vec<_> = self
            .table
            .iter()
            .filter(|known| known.state == fib::NeighbourState::Permanent)
            .filter(|known| {
                !wanted
                    .iter()
                    .any(|(iface, address, _)| (*iface, *address) == (known.iface, known.address))
            })
            .map(|known| (known.iface, known.address))
            .collect();
        for (iface, address) in stale {
            self.table.remove(iface, address);
        }
        for (iface, address, mac) in wanted {
            let known = self.table.find(iface, address);
            let set = known.is_some_and(|known| {
                known.state == fib::NeighbourState::Permanent && known.mac == Some(mac)
            });
            if set {
                continue;
            }
            if !snapshot.fib.has_neighbour(iface, address) {
                continue;
            }
            if let Err(error) = self.table.set_permanent(&snapshot.fib, iface, address, mac, now_ms)
            {
                tracing::warn!(%error, "static neighbour not set");
            }
        }
    }

    /// A worker saw something. What is to be sent for it is in `frames`.
    pub(super) fn saw(
        &mut self,
        event: Event,
        snapshot: &Snapshot,
        now_ms: u64,
        frames: &mut Vec<Frame>,
    ) {
        match event {
            Event::Learned { interface, address, mac, how } => {
                let learned = fib::Learned { iface: interface, address, mac, heard: how };
                self.table.learned(&snapshot.fib, learned, now_ms, &mut self.actions);
            }
            Event::Queried { interface, group, max_delay_ms } => {
                self.memberships.queried(interface, group, max_delay_ms, now_ms);
            }
            Event::Needed { interface, address } => {
                let needed =
                    self.table.needed(&snapshot.fib, interface, address, now_ms, &mut self.actions);
                if let Err(error) = needed
                    && let Some(unsaid) = self.failures.pass(Instant::now())
                {
                    tracing::warn!(%error, unsaid, "neighbour refused");
                }
            }
        }
        self.act(snapshot, frames);
    }

    /// Time passes: to be called ten times a second.
    pub(super) fn tick(&mut self, snapshot: &Snapshot, now_ms: u64, frames: &mut Vec<Frame>) {
        self.table.tick(&snapshot.fib, now_ms, &mut self.actions);
        self.act(snapshot, frames);
        for report in self.memberships.tick(now_ms, REPORTED_A_TICK) {
            frames.extend(reports(snapshot, &report));
        }
        for announcement in self.announcements.tick(now_ms, ANNOUNCED_A_TICK) {
            frames.extend(announce(snapshot, announcement));
        }
    }

    fn act(&mut self, snapshot: &Snapshot, frames: &mut Vec<Frame>) {
        for action in self.actions.drain(..) {
            match action {
                NeighbourAction::Ask { iface, target, source, to } => {
                    frames.extend(question(snapshot, iface, (source, target), to));
                }
                NeighbourAction::Resolved { address, mac, .. } => {
                    tracing::debug!(%address, %mac, "neighbour");
                }
                NeighbourAction::Failed { address, iface, .. } => {
                    if let Some(unsaid) = self.failures.pass(Instant::now()) {
                        let dev = name(snapshot, iface);
                        tracing::info!(%address, dev, unsaid, "neighbour does not answer");
                    }
                }
                NeighbourAction::Conflict { iface, address, mac } => {
                    if let Some(unsaid) = self.conflicts.pass(Instant::now()) {
                        let dev = name(snapshot, iface);
                        tracing::warn!(%address, %mac, dev, unsaid, "another station has our address");
                    }
                }
            }
        }
    }
}

/// Asks for a target.
fn question(
    snapshot: &Snapshot,
    interface: EthPortId,
    (source, target): (Option<IpAddr>, IpAddr),
    to: Option<MacAddr>,
) -> Option<Frame> {
    match (target, source) {
        (IpAddr::V4(target), source) => {
            let source = source.and_then(u32::from_ip).unwrap_or(0);
            write(snapshot, interface, ARP_MAX_LEN, |bytes, mac| {
                arp_request(bytes, mac, 0, source, target.into(), to)
            })
        }
        (IpAddr::V6(target), Some(IpAddr::V6(source))) => {
            write(snapshot, interface, ndp::MAX_LEN, |bytes, mac| {
                ndp::write_solicitation(bytes, mac, 0, source.into(), target.into(), to)
            })
        }
        // From nobody it would be a question whether the address is free.
        _ => None,
    }
}

/// Tells all that an address is here. With IPv6's first announcement others are asked whether they have it
/// (RFC 4862 §5.4.2); as RFC 4429 has it, we do not wait for the answer, nor does IPv4.
fn announce(snapshot: &Snapshot, announcement: Announcement) -> Vec<Frame> {
    let Announcement { iface, address, is_first } = announcement;
    let frames = match address {
        IpAddr::V4(address) => [
            None,
            write(snapshot, iface, ARP_MAX_LEN, |bytes, mac| {
                arp_announcement(bytes, mac, 0, address.into())
            }),
        ],
        IpAddr::V6(address) => {
            let address = address.into();
            let asked = is_first.then(|| {
                write(snapshot, iface, ndp::MAX_LEN, |bytes, mac| {
                    ndp::write_solicitation(bytes, mac, 0, 0, address, None)
                })
            });
            [
                asked.flatten(),
                write(snapshot, iface, ndp::MAX_LEN, |bytes, mac| {
                    ndp::write_announcement(bytes, mac, 0, address)
                }),
            ]
        }
    };
    frames.into_iter().flatten().collect()
}

/// Tells multicast routers and switches to which groups we listen.
fn reports(snapshot: &Snapshot, report: &Report) -> Vec<Frame> {
    let Report { iface, membership, groups } = report;
    let change = match membership {
        Membership::Listening => Change::Listening,
        Membership::Joined => Change::Joins,
        Membership::Left => Change::Leaves,
    };
    // RFC 3810 §5.2.13: where the last address went, so did the link-local one.
    let source = snapshot.fib.link_local(*iface).unwrap_or(0);
    let frame = |groups: &[u128]| {
        write(snapshot, *iface, mld::MAX_LEN, |bytes, mac| {
            mld::write_report(bytes, mac, 0, source, change, groups)
        })
    };
    groups.chunks(mld::GROUPS_MAX).filter_map(frame).collect()
}

fn name(snapshot: &Snapshot, interface: EthPortId) -> &str {
    snapshot.interfaces.get(usize::from(interface.0)).map_or("", |known| &known.name)
}

fn write(
    snapshot: &Snapshot,
    interface: EthPortId,
    max_len: usize,
    write: impl FnOnce(&mut [u8], MacAddr) -> Option<usize>,
) -> Option<Frame> {
    let mac = snapshot.interfaces.get(usize::from(interface.0))?.mac;
    let mut bytes = vec![0; max_len];
    let len = write(&mut bytes, mac)?;
    bytes.truncate(len);
    Some(Frame { interface, bytes })
}

/// Has the first worker send frames. What it has no room for is not sent; all are sent more than once.
pub(super) fn send(workers: &mut Workers, frames: &mut Vec<Frame>) {
    for Frame { interface, bytes } in frames.drain(..) {
        let outgoing = Box::new(Outgoing { interface, frame: bytes });
        if workers.tell(WorkerId(0), Command::Transmit(outgoing)).is_err() {
            tracing::debug!("no room for a frame of control's");
        }
    }
}
