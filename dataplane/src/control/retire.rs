//! Services and real servers that are gone: their slots are free once no conn names them.

use std::collections::HashMap;

use types::{Slot, WorkerId};

use super::change::answer;
use super::compile::{Gone, GoneServer};
use super::{Control, Reply};
use crate::worker::link::{Command, ITEMS_MAX, Retire};

/// A real server whose old conns go on.
pub(super) type Leaving = GoneServer;

/// Slots that are gone from what runs, with the workers that still have something of them.
#[derive(Debug, Default)]
pub(super) struct Retiring {
    services: HashMap<Slot, WorkerSet>,
    servers: HashMap<Slot, (GoneServer, WorkerSet)>,
    rules: HashMap<Slot, WorkerSet>,
}

/// Bit n is worker n: there are at most 128.
#[derive(Clone, Copy, Debug)]
struct WorkerSet(u128);

impl WorkerSet {
    /// The first so many.
    fn all(workers: usize) -> Self {
        Self((0..workers).fold(0, |set, worker| set | 1 << worker))
    }

    const fn has(self, worker: WorkerId) -> bool {
        self.0 >> worker.0 & 1 != 0
    }

    fn remove(&mut self, worker: WorkerId) {
        self.0 &= !(1 << worker.0);
    }
}

const _: () = assert!(steer::MAX_WORKERS as u32 <= u128::BITS);

impl Retiring {
    /// What has gone from what so many workers run.
    pub fn add(&mut self, gone: Gone, workers: usize) {
        let all = WorkerSet::all(workers);
        self.services.extend(gone.services.into_iter().map(|slot| (slot, all)));
        self.rules.extend(gone.rules.into_iter().map(|slot| (slot, all)));
        let servers = gone.servers.into_iter();
        self.servers.extend(servers.map(|server| (server.slot, (server, all))));
    }

    /// Real servers that services had, and whose conns go on.
    pub fn leaving(&self) -> impl Iterator<Item = &Leaving> {
        self.servers.values().map(|(server, _)| server)
    }

    /// True if nothing is left to do.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && self.servers.is_empty() && self.rules.is_empty()
    }

    /// What a worker is to give back, in portions.
    fn wanted(&self, worker: WorkerId) -> Vec<Retire> {
        let services = self.services.iter().filter(|(_, waiting)| waiting.has(worker));
        let services: Vec<Slot> = services.map(|(slot, _)| *slot).collect();
        let servers = self.servers.iter().filter(|(_, (_, waiting))| waiting.has(worker));
        let servers: Vec<Slot> = servers.map(|(slot, _)| *slot).collect();
        let services = services.chunks(ITEMS_MAX).map(|slots| Retire {
            services: slots.to_vec(),
            cells: Vec::with_capacity(slots.len()),
            ..Retire::default()
        });
        let servers = servers.chunks(ITEMS_MAX).map(|slots| Retire {
            servers: slots.to_vec(),
            retired: Vec::with_capacity(slots.len()),
            ..Retire::default()
        });
        services.chain(servers).collect()
    }

    /// Rules whose slots a worker has not given back.
    fn wanted_rules(&self, worker: WorkerId) -> Vec<Slot> {
        let rules = self.rules.iter().filter(|(_, waiting)| waiting.has(worker));
        rules.map(|(slot, _)| *slot).collect()
    }

    /// No conn of a worker names these rules any more. Those that no worker's does come back.
    fn returned_rules(&mut self, worker: WorkerId, rules: &[Slot]) -> Vec<Slot> {
        let mut free = Vec::new();
        for slot in rules {
            let Some(waiting) = self.rules.get_mut(slot) else { continue };
            waiting.remove(worker);
            if waiting.0 == 0 {
                self.rules.remove(slot);
                free.push(*slot);
            }
        }
        free
    }

    /// A worker has nothing of these any more. Those that no worker has anything of come back.
    fn returned(
        &mut self,
        worker: WorkerId,
        services: &[Slot],
        servers: &[Slot],
    ) -> (Vec<Slot>, Vec<Slot>) {
        let (mut free_services, mut free_servers) = (Vec::new(), Vec::new());
        for slot in services {
            let Some(waiting) = self.services.get_mut(slot) else { continue };
            waiting.remove(worker);
            if waiting.0 == 0 {
                self.services.remove(slot);
                free_services.push(*slot);
            }
        }
        for slot in servers {
            let Some((_, waiting)) = self.servers.get_mut(slot) else { continue };
            waiting.remove(worker);
            if waiting.0 == 0 {
                self.servers.remove(slot);
                free_servers.push(*slot);
            }
        }
        (free_services, free_servers)
    }
}

impl Control {
    /// Asks the workers for what is gone, and frees the slots that none of them has any more.
    ///
    /// # Errors
    /// If a worker does not answer; the next round asks again.
    pub(super) async fn retire(&self) -> Reply<()> {
        if self.state().retiring.is_empty() {
            return Ok(());
        }
        let (mut services, mut servers) = (Vec::new(), Vec::new());
        // What has come back before a worker fails to answer is not asked for again.
        let asked = self.retire_into(&mut services, &mut servers).await;
        if !services.is_empty() || !servers.is_empty() {
            self.shared.compiler.lock().await.give_back(&services, &servers);
        }
        asked?;
        self.retire_rules().await
    }

    async fn retire_rules(&self) -> Reply<()> {
        let workers: Vec<_> = self.state().workers.ids().collect();
        for worker in workers {
            let wanted = self.state().retiring.wanted_rules(worker);
            let idle = self.idle_rules(worker, &wanted).await?;
            let free = self.state().retiring.returned_rules(worker, &idle);
            if !free.is_empty() {
                self.shared.compiler.lock().await.give_back_rules(&free);
            }
        }
        Ok(())
    }

    async fn retire_into(&self, services: &mut Vec<Slot>, servers: &mut Vec<Slot>) -> Reply<()> {
        let workers: Vec<_> = self.state().workers.ids().collect();
        for worker in workers {
            let wanted = self.state().retiring.wanted(worker);
            for retire in wanted {
                let asked = (retire.services.clone(), retire.servers.clone());
                let waiting = self.ask(worker, Command::Retire(Box::new(retire))).await?;
                let Command::Retire(back) = answer(worker, waiting).await? else { continue };
                let gone = |asked: Vec<Slot>, kept: &[Slot]| -> Vec<Slot> {
                    asked.into_iter().filter(|slot| !kept.contains(slot)).collect()
                };
                let (a, b) = (gone(asked.0, &back.services), gone(asked.1, &back.servers));
                let free = self.state().retiring.returned(worker, &a, &b);
                services.extend(free.0);
                servers.extend(free.1);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::Endpoint;

    #[test]
    fn a_slot_is_free_when_the_last_worker_has_returned_it() {
        let mut retiring = Retiring::default();
        let (service, server) = (Slot::new(1, 1), Slot::new(9, 2));
        let gone =
            GoneServer { service: "shop".into(), address: Endpoint::v4(1, 80), slot: server };
        let gone = Gone { services: vec![service], servers: vec![gone], ..Gone::default() };
        retiring.add(gone, 2);
        assert_eq!(retiring.leaving().count(), 1);
        assert_eq!(retiring.wanted(WorkerId(0)).len(), 2);
        assert_eq!(retiring.returned(WorkerId(0), &[service], &[server]), (vec![], vec![]));
        assert!(retiring.wanted(WorkerId(0)).is_empty());
        let free = retiring.returned(WorkerId(1), &[], &[server]);
        assert_eq!(free, (vec![], vec![server]));
        assert_eq!(retiring.leaving().count(), 0);
        assert_eq!(retiring.wanted(WorkerId(1)).len(), 1);
        assert_eq!(retiring.returned(WorkerId(1), &[service], &[]).0, [service]);
        assert!(retiring.is_empty());
    }
}
