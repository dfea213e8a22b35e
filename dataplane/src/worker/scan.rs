//! Walks over a worker's conns that control asks for, a few conns each round.

use flow::ConnId;
use types::{Io, Now, Packet};

use super::link::{ConnFilter, Scan, ScanAction};
use super::{Core, Worker, nat};
use crate::path::close;

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
        let (mut places, mut closed) = (PLACES, 0);
        let core = &mut self.core;
        if let ScanAction::Mappings(filter) = scan.action {
            return nat::scan_some(core.nat.as_deref(), scan, filter, places);
        }
        loop {
            if scan.action == ScanAction::List && scan.records.len() == scan.records.capacity() {
                return true;
            }
            let Some(conn) = core.table.next_conn(&mut scan.cursor, &mut places) else { break };
            if !matches(core, conn, &scan.filter) {
                continue;
            }
            scan.matched += 1;
            match scan.action {
                ScanAction::List => list(core, conn, scan, now),
                ScanAction::Count | ScanAction::Mappings(_) => {}
                ScanAction::Close { reset } => {
                    close(core, &mut self.io, conn, reset, now);
                    closed += 1;
                    if closed == CLOSED {
                        break;
                    }
                }
            }
        }
        scan.finished = core.table.is_end(&scan.cursor);
        scan.finished
    }
}

fn list<P: Packet>(core: &Core<P>, conn: ConnId, scan: &mut Scan, now: Now) {
    let Some(record) = core.table.export(conn, now) else { return };
    scan.records.push(record);
    if scan.rules.len() < scan.rules.capacity() {
        let cold = core.table.cold(conn).filter(|cold| cold.rs().is_none());
        scan.rules.push(cold.map(|cold| cold.service()).unwrap_or_default());
    }
}

/// Whether all conditions hold for a conn.
fn matches<P: Packet>(core: &Core<P>, conn: ConnId, filter: &ConnFilter) -> bool {
    let table = &core.table;
    // The reverse flow names client, VIP and LIP in every mode.
    let (Some(flow), Some(cold)) = (table.flow(conn.reverse()), table.cold(conn)) else {
        return false;
    };
    let is_client = |(prefix, len): (u32, u8)| {
        let host_bits = 32_u32.saturating_sub(len.into());
        (u64::from(prefix ^ flow.new_dst)) >> host_bits == 0
    };
    let of_rule = cold.rs().is_none();
    filter.service.is_none_or(|slot| slot == cold.service() && !of_rule)
        && filter.rule.is_none_or(|slot| slot == cold.service() && of_rule)
        && (!filter.translated || of_rule)
        && filter.server.is_none_or(|slot| slot == cold.rs())
        && filter.client.is_none_or(is_client)
        && filter.lip.is_none_or(|address| address == flow.dst)
        && filter.vip.is_none_or(|address| address == flow.new_src)
        && filter.client_port.is_none_or(|port| port == flow.new_dport)
        && filter.proto.is_none_or(|proto| proto.number() == flow.proto)
        && filter.state.is_none_or(|state| state == flow.state)
        && (!filter.stray || is_stray(core, conn))
}

/// Whether steering has changed where packets of a conn go, and they are not steered to this worker any more.
fn is_stray<P: Packet>(core: &Core<P>, conn: ConnId) -> bool {
    [conn.forward(), conn.reverse()].into_iter().filter_map(|id| core.table.flow(id)).any(|flow| {
        let key = flow.key();
        !core.snapshot.earlier.of(&key).is_empty() && core.snapshot.owner_of(&key) != core.id
    })
}
