//! Walks over a worker's conns that control asks for, a few conns each round.

use std::net::IpAddr;

use flow::{ConnId, Cursor};
use types::{Address as _, Io, Now, Packet};

use super::link::{ConnFilter, Scan, ScanAction};
use super::{Core, Worker, nat};
use crate::path::lane::Lane;
use crate::path::{close, state_of};

/// Places of the slab that one round looks at: 64 cold lines are about 6 µs.
const PLACES: u32 = 64;
/// Conns that one round closes: each may send two resets.
const CLOSED: u64 = 16;

impl<I: Io> Worker<I> {
    /// Goes on with the scan that is under way, or begins the next one.
    pub(super) fn scan(&mut self, now: Now) {
        if self.link.scan.is_none() {
            self.link.scan = self.link.scans.pop().ok();
        }
        let Some(mut scan) = self.link.scan.take() else { return };
        if self.scan_some(&mut scan, now) {
            // The ring has room for all scans that can be under way.
            let returned = self.link.scanned.push(scan).is_ok();
            debug_assert!(returned);
        } else {
            self.link.scan = Some(scan);
        }
    }

    /// True if the scan goes back: it is finished, or its room for records is full.
    fn scan_some(&mut self, scan: &mut Scan, now: Now) -> bool {
        if let ScanAction::Mappings(filter) = scan.action {
            return nat::scan_some(self.core.nat.as_deref(), scan, filter, PLACES);
        }
        if scan.wide {
            return self.scan_lane::<u128>(scan, now);
        }
        if !self.scan_lane::<u32>(scan, now) || !scan.finished {
            return scan.action == ScanAction::List && is_full(scan);
        }
        // What follows has a table, and so a cursor, of its own.
        scan.wide = true;
        scan.cursor = Cursor::default();
        scan.finished = self.core.wide.table.is_empty();
        scan.finished
    }

    /// The same for the conns of one lane.
    fn scan_lane<A: Lane>(&mut self, scan: &mut Scan, now: Now) -> bool {
        let (mut places, mut closed) = (PLACES, 0);
        let core = &mut self.core;
        loop {
            if scan.action == ScanAction::List && is_full(scan) {
                return true;
            }
            let Some(conn) = A::table(core).next_conn(&mut scan.cursor, &mut places) else { break };
            if !matches::<I::Packet, A>(core, conn, &scan.filter) {
                continue;
            }
            scan.matched += 1;
            match scan.action {
                ScanAction::List => list::<I::Packet, A>(core, conn, scan, now),
                ScanAction::Count | ScanAction::Mappings(_) => {}
                ScanAction::Close { reset } => {
                    close::<I, A>(core, &mut self.io, conn, reset, now);
                    closed += 1;
                    if closed == CLOSED {
                        break;
                    }
                }
            }
        }
        scan.finished = A::table(core).is_end(&scan.cursor);
        scan.finished
    }
}

fn is_full(scan: &Scan) -> bool {
    scan.records.len() == scan.records.capacity()
}

fn list<P: Packet, A: Lane>(core: &Core<P>, conn: ConnId, scan: &mut Scan, now: Now) {
    let table = A::table(core);
    let Some(mut record) = table.export(conn, now) else { return };
    record.header = state_of::<P, A>(core, conn);
    scan.records.push(record);
    if scan.rules.len() < scan.rules.capacity() {
        let cold = table.cold(conn).filter(|cold| cold.rs().is_none());
        scan.rules.push(cold.map(|cold| cold.service()).unwrap_or_default());
    }
}

/// Whether all conditions hold for a conn.
fn matches<P: Packet, A: Lane>(core: &Core<P>, conn: ConnId, filter: &ConnFilter) -> bool {
    let table = A::table(core);
    // The reverse flow names client, VIP and LIP in every mode.
    let (Some(flow), Some(cold)) = (table.flow(conn.reverse()), table.cold(conn)) else {
        return false;
    };
    let of_rule = cold.rs().is_none();
    filter.service.is_none_or(|slot| slot == cold.service() && !of_rule)
        && filter.rule.is_none_or(|slot| slot == cold.service() && of_rule)
        && (!filter.translated || of_rule)
        && filter.server.is_none_or(|slot| slot == cold.rs())
        && filter.client.is_none_or(|prefix| is_in(flow.new_dst, prefix))
        && filter.lip.is_none_or(|address| address == flow.dst.to_ip())
        && filter.vip.is_none_or(|address| address == flow.new_src.to_ip())
        && filter.client_port.is_none_or(|port| port == flow.new_dport)
        && filter.proto.is_none_or(|proto| proto.number() == flow.proto)
        && filter.state.is_none_or(|state| state == flow.state)
        && (!filter.stray || is_stray::<P, A>(core, conn))
}

/// Whether an address is in a prefix, which is of its family.
fn is_in<A: Lane>(address: A, (prefix, len): (IpAddr, u8)) -> bool {
    match (address.to_ip(), prefix) {
        (IpAddr::V4(address), IpAddr::V4(prefix)) => {
            address.to_bits().prefix(len) == prefix.to_bits().prefix(len)
        }
        (IpAddr::V6(address), IpAddr::V6(prefix)) => {
            address.to_bits().prefix(len) == prefix.to_bits().prefix(len)
        }
        _ => false,
    }
}

/// Whether steering has changed where packets of a conn go, and they are not steered to this worker any more.
fn is_stray<P: Packet, A: Lane>(core: &Core<P>, conn: ConnId) -> bool {
    let flows = [conn.forward(), conn.reverse()];
    flows.into_iter().filter_map(|id| A::table(core).flow(id)).any(|flow| {
        let key = flow.key();
        !core.snapshot.earlier.of(&key).is_empty() && core.snapshot.owner_of(&key) != core.id
    })
}
