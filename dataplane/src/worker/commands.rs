//! What control asks of a worker, done between bursts.

use balance::RetireError;
use counters::{Gauge, Source};
use flow::{ImportError, InsertError, LeaseKind, Local, Record, Timeouts};
use nat::state::{AdoptError, Held};
use pool::GroupKey;
use types::{Address as _, FlowKey, FlowKey6, Io, Now, Packet, Verdict, WorkerId};

use super::link::{
    Command, Import, Outgoing, Prepare, Redirect, Redirects, Refused, Retire, Totals, Update,
};
use super::{Core, Worker};
use crate::path::egress;
use crate::path::explain::explain;
use crate::path::lane::Lane;
use crate::path::{adopt, nat_log};
use crate::snapshot::Home;

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
                Command::Redirect(redirect) => redirect.result = self.redirect(redirect, now),
                Command::Gateway(work) => self.change_gateway(work),
                Command::Wide(tables) => self.core.wide.adopt(tables),
                Command::ReadNat(reading) => self.read_nat(reading),
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
            core.wide.table.set_timeouts(*class, *timeouts);
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
    fn import(&mut self, import: &Import, now: Now) -> Result<Redirects, Refused> {
        let Import { record, local, .. } = import;
        let core = &mut self.core;
        let home = core.snapshot.home(record)?;
        if home.worker != core.id {
            return Err(Refused::BelongsTo(home.worker.0));
        }
        if record.rs.is_none() {
            return self.import_nat(import, &home, now);
        }
        let wide = !record.is_ipv4();
        // What the client sends, whatever zone the forward flow is hidden in.
        let key = match wide {
            false => FlowKey6::mapped(self.import_served::<u32>(import, now)?),
            true => self.import_served::<u128>(import, now)?,
        };
        let core = &mut self.core;
        // The cells of servers come into being with the first look at their service.
        if let Some(service) = core.snapshot.services.lookup(&key) {
            core.cells.update(service, now);
        }
        core.cells.adopted(local.service, local.rs, key.src.to_ip(), now);
        if record.state.is_established() {
            core.cells.established(local.service, local.rs);
        }
        Ok(redirects(&home, local.timeout_class, wide, (key, FlowKey6::default())))
    }

    /// Puts the conn of a service into its lane, with its lease; the key of the client's packets.
    fn import_served<A: Lane>(&mut self, import: &Import, now: Now) -> Result<FlowKey<A>, Refused> {
        let Import { record, local, .. } = import;
        let core = &mut self.core;
        let lease = leased_for::<A>(record)?;
        if let Some((group, l4_port)) = &lease {
            A::take_exact(&mut core.pools(), group, *l4_port)?;
        }
        let mut opened = A::table_mut(core).import(record, *local, now);
        if let (Ok(conn), Some(header)) = (&opened, record.header)
            && !adopt::<_, A>(core, *conn, header, now)
        {
            A::table_mut(core).remove(*conn);
            opened = Err(InsertError::Full.into());
        }
        match opened {
            Ok(conn) => {
                let reverse = A::table(core).flow(conn.reverse());
                Ok(reverse.map(|flow| flow.new_key().reversed()).unwrap_or_default())
            }
            Err(error) => {
                if let Some((group, l4_port)) = &lease {
                    A::give_back(&mut core.pools(), group, *l4_port, None);
                }
                Err(error.into())
            }
        }
    }

    /// Opens the conn of a rule of NAT or of a port forward: its mapping, or its port, is as it was.
    fn import_nat(&mut self, import: &Import, home: &Home, now: Now) -> Result<Redirects, Refused> {
        let Import { record, local, .. } = import;
        let Core { id, snapshot, table, nat, .. } = &mut self.core;
        let (Some(gateway), Some(nat)) = (&snapshot.gateway, nat) else {
            return Err(AdoptError::NoRule.into());
        };
        let [forward, reverse] = record.keys::<u32>()?;
        if record.is_between_mappings()
            && !gateway.has_forward(forward.dst, forward.dport, forward.proto)
        {
            let second = snapshot.steering.owner(steer::Role::Wan, &forward);
            if second != *id {
                return Err(Refused::PortOf(second.0));
            }
        }
        let leads_in = gateway.forward_of(local.service).is_some();
        let unanswered =
            record.lease == LeaseKind::Unanswered || leads_in && record.state.is_opening();
        let timeout_class = if unanswered { Timeouts::UNANSWERED } else { local.timeout_class };
        let conn = table.import(record, Local { timeout_class, ..*local }, now)?;
        let held = table.flow(conn.forward()).zip(table.cold(conn));
        let adopted = held
            .map(|(forward, cold)| Held::of(forward, cold))
            .ok_or(AdoptError::Conflict)
            .and_then(|held| nat.adopt(gateway, &held, now).map(|()| held));
        match adopted {
            Ok(held) => nat_log::imported(&mut self.core, &held, now),
            Err(error) => {
                table.remove(conn);
                return Err(error.into());
            }
        }
        let keys = (FlowKey6::mapped(forward), FlowKey6::mapped(reverse));
        Ok(redirects(home, local.timeout_class, false, keys))
    }

    fn redirect(&mut self, redirect: &Redirect, now: Now) -> Result<(), Refused> {
        let Redirect { at, key, wide, to, timeout_class, .. } = *redirect;
        let core = &mut self.core;
        if at != core.id {
            return Err(Refused::BelongsTo(at.0));
        }
        if to == core.id || to.0 >= core.snapshot.steering.workers() {
            return Err(Refused::NoWorker(to.0));
        }
        match key.unmapped().filter(|_| !wide) {
            Some(key) => core.table.insert_redirect(key, to, timeout_class, now)?,
            None => core.wide.table.insert_redirect(key, to, timeout_class, now)?,
        }
        Ok(())
    }
}

/// Who else has to know of an imported conn: the keys are those of the opener's packets and of those to the opener.
fn redirects(
    home: &Home,
    timeout_class: u8,
    wide: bool,
    (forward, reverse): (FlowKey6, FlowKey6),
) -> Redirects {
    let redirect = |(at, key): (WorkerId, FlowKey6)| {
        let result = Err(Refused::Pending);
        Redirect { at, key, wide, to: home.worker, timeout_class, result }
    };
    let answers = home.answers.map(|at| (at, reverse));
    let inside = home.inside.map(|(at, key)| (at, FlowKey6::mapped(key)));
    let of = [home.redirect.map(|at| (at, forward)), answers, inside];
    Redirects(of.map(|wanted| wanted.map(redirect)))
}

/// The port that a FullNAT record has leased: answers arrive at it.
fn leased_for<A: Lane>(record: &Record) -> Result<Option<(GroupKey<A>, u16)>, ImportError> {
    let [_, reverse] = record.keys()?;
    let FlowKey { src: rs, dst: lip, sport: rport, proto, .. } = reverse;
    let group = GroupKey { lip, rs, rport, proto };
    Ok((record.lease == LeaseKind::Lip).then_some((group, reverse.dport)))
}
