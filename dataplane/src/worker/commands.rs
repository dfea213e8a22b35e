//! What control asks of a worker, done between bursts.

use std::net::IpAddr;

use balance::RetireError;
use counters::{Gauge, Source};
use flow::{ImportError, InsertError, LeaseKind, Record};
use pool::GroupKey;
use types::{Io, Now, Packet, Verdict};

use super::Worker;
use super::link::{Command, Import, Outgoing, Prepare, Retire, Totals, Update};
use crate::path::egress;
use crate::path::explain::explain;

/// Commands that one round does.
const COMMANDS: usize = 4;

impl<I: Io> Worker<I> {
    /// Does what control asks, a few at a time; each goes back when it is done.
    pub(super) fn commands(&mut self, now: Now) {
        for _ in 0..COMMANDS {
            let Ok(mut command) = self.link.commands.pop() else { return };
            match &mut command {
                Command::Prepare(prepare) => self.prepare(prepare),
                Command::Update(update) => self.update(update),
                Command::Retire(retire) => self.retire(retire),
                Command::Transmit(outgoing) => self.transmit(outgoing),
                Command::Explain(asked) => {
                    asked.explanation = explain(&self.core, &mut self.io, asked, now);
                }
                Command::Totals(totals) => self.totals(totals),
                Command::Import(import) => import.result = self.import(import, now),
            }
            // The ring has room for all commands that can be under way.
            let returned = self.link.done.push(command).is_ok();
            debug_assert!(returned);
        }
    }

    /// What is replaced, or finds no room, goes back in place of what came.
    fn prepare(&mut self, prepare: &mut Prepare) {
        let cells = &mut self.core.cells;
        for place in &mut prepare.service_chunks {
            *place = place.take().and_then(|chunk| cells.add_service_chunk(chunk));
        }
        for place in &mut prepare.server_chunks {
            *place = place.take().and_then(|chunk| cells.add_server_chunk(chunk));
        }
        for place in &mut prepare.cells {
            *place = place.take().and_then(|cell| cells.install(cell));
        }
    }

    fn update(&mut self, update: &mut Update) {
        let core = &mut self.core;
        std::mem::swap(&mut core.snapshot, &mut update.snapshot);
        core.classes = core.snapshot.steering.classes_of(core.id);
        for (class, timeouts) in &update.timeouts {
            core.table.set_timeouts(*class, *timeouts);
        }
        core.counters.set(Gauge::Generation, core.snapshot.generation);
    }

    fn retire(&mut self, retire: &mut Retire) {
        let Retire { services, servers, cells, retired } = retire;
        services.retain(|slot| match self.core.cells.retire_service(*slot) {
            Ok(cell) if cells.len() < cells.capacity() => {
                cells.push(cell);
                false
            }
            Ok(cell) => {
                // Without room it stays, for control to ask again.
                self.core.cells.install(cell);
                true
            }
            Err(RetireError::Absent(_)) => false,
            Err(RetireError::Busy(..)) => true,
        });
        servers.retain(|slot| {
            if retired.len() == retired.capacity() {
                return true;
            }
            match self.core.cells.retire_server(*slot) {
                Ok(left) => {
                    retired.push((*slot, left));
                    false
                }
                Err(RetireError::Absent(_)) => false,
                Err(RetireError::Busy(..)) => true,
            }
        });
    }

    fn transmit(&mut self, outgoing: &Outgoing) {
        let core = &mut self.core;
        core.counters.began(Source::Generated, 1);
        let Some(mut packet) = self.io.allocate() else {
            core.counters.ended(Verdict::NoBuffer, 1);
            return;
        };
        let verdict = if packet.append(outgoing.frame.len()) {
            packet.bytes_mut().copy_from_slice(&outgoing.frame);
            egress::gather(core, outgoing.interface, packet)
        } else {
            Some(Verdict::NoRoom)
        };
        if let Some(verdict) = verdict {
            core.counters.ended(verdict, 1);
        }
    }

    fn totals(&mut self, totals: &mut Totals) {
        let cells = &self.core.cells;
        for (slot, totals) in &mut totals.services {
            *totals = cells.service_totals(*slot).unwrap_or_default();
        }
        for (slot, totals) in &mut totals.servers {
            *totals = cells.server_totals(*slot).unwrap_or_default();
        }
    }

    /// Opens the conn of a record: its port is leased, its server counts it.
    fn import(&mut self, import: &Import, now: Now) -> Result<(), Verdict> {
        let Import { record, local, .. } = import;
        let core = &mut self.core;
        let leased = leased_for(record).ok_or(Verdict::Malformed)?;
        if record.lease == LeaseKind::Lip {
            core.leases.take_exact(&leased.0, leased.1).map_err(|_| Verdict::NoLease)?;
        }
        match core.table.import(record, *local, now) {
            Ok(conn) => {
                let client = core.table.flow(conn.reverse()).map_or(0, |flow| flow.new_dst);
                core.cells.adopted(local.service, local.rs, client, now);
                if record.state.is_established() {
                    core.cells.established(local.service, local.rs);
                }
                Ok(())
            }
            Err(error) => {
                if record.lease == LeaseKind::Lip {
                    core.leases.give_back(&leased.0, leased.1, None);
                }
                Err(match error {
                    ImportError::Insert(InsertError::Full) => Verdict::TableFull,
                    ImportError::Insert(InsertError::Exists(_)) => Verdict::BadState,
                    ImportError::State { .. } | ImportError::Family(_) => Verdict::Malformed,
                })
            }
        }
    }
}

/// The port that a FullNAT record has leased: answers arrive at it.
fn leased_for(record: &Record) -> Option<(GroupKey, u16)> {
    let (lip, rs) = (record.reverse.destination, record.reverse.source);
    let (IpAddr::V4(lip_address), IpAddr::V4(rs_address)) = (lip.address, rs.address) else {
        return None;
    };
    let group = GroupKey {
        lip: lip_address.into(),
        rs: rs_address.into(),
        rport: rs.l4_port.0,
        proto: record.proto.number(),
    };
    Some((group, lip.l4_port.0))
}
