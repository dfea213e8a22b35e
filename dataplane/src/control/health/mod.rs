//! Health of real servers: what is checked, and what becomes of services by it.
//!
//! The configuration says what is checked; the checker, on its own thread, says who is up; the rulings that
//! follow are a part of what is compiled, and never of what is configured or saved.

mod show;
mod targets;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ::health::{Change, Checker, Member, Target, ruling};
use config::{Admin, Model, OnFailure};
use types::{Endpoint, Slot};

use super::compile::Rulings;
use super::{Control, State};
use crate::worker::link::ConnFilter;

/// Between two tries to tell the workers.
const RETRY: Duration = Duration::from_millis(100);

/// What is checked, and what follows from it.
#[derive(Debug, Default)]
pub(super) struct Health {
    checker: Option<Arc<Checker>>,
    /// Services with anything to be checked, by name; rules of destination NAT as `dnat/NAME`.
    services: HashMap<String, Watched>,
    /// The services of each target.
    users: HashMap<Arc<Target>, BTreeSet<String>>,
    /// What the checker was told to check.
    known: HashSet<Arc<Target>>,
    /// Targets that are down.
    down: HashSet<Arc<Target>>,
    /// Interfaces whose KNI is there for checks only.
    implied: BTreeSet<String>,
    rulings: Arc<Rulings>,
}

/// A service that is checked.
#[derive(Debug, Default)]
struct Watched {
    servers: Vec<Checked>,
    quorum: (u32, u32),
    lost: bool,
}

/// A real server of a service.
#[derive(Debug)]
struct Checked {
    server: Endpoint,
    weight: u16,
    admin: Admin,
    targets: Vec<Arc<Target>>,
}

impl Checked {
    /// What becomes of it if it is down: what the strictest of its failed checks says.
    fn down(&self, down: &HashSet<Arc<Target>>) -> Option<OnFailure> {
        let failed = self.targets.iter().filter(|target| down.contains(*target));
        let wanted = failed.map(|target| target.check.on_failure);
        wanted.reduce(|a, b| if a == OnFailure::Remove { a } else { b })
    }
}

impl Watched {
    fn members(&self, down: &HashSet<Arc<Target>>) -> Vec<Member> {
        let member = |checked: &Checked| Member {
            server: checked.server,
            weight: if checked.admin == Admin::Enabled { checked.weight } else { 0 },
            down: checked.down(down),
        };
        self.servers.iter().map(member).collect()
    }
}

impl Health {
    /// What the state of real servers makes of services now.
    pub fn rulings(&self) -> &Arc<Rulings> {
        &self.rulings
    }

    /// Whether an interface's KNI is there for checks only.
    pub fn is_implied(&self, dev: &str) -> bool {
        self.implied.contains(dev)
    }

    /// Judges these services anew.
    fn judge<'a>(&mut self, names: impl IntoIterator<Item = &'a String>) {
        let Self { services, down, rulings, .. } = self;
        for name in names {
            let found = services.get_mut(name).map(|watched| {
                let found = ruling(&watched.members(down), watched.quorum, watched.lost);
                watched.lost = found.lost;
                found
            });
            let found = found.filter(|ruling| !ruling.is_empty());
            if rulings.get(name).map(Arc::as_ref) == found.as_ref() {
                continue;
            }
            let rulings = Arc::make_mut(rulings);
            match found {
                Some(found) => _ = rulings.insert(name.clone(), Arc::new(found)),
                None => _ = rulings.remove(name),
            }
        }
    }

    /// Takes what has changed; the services that are concerned are judged.
    fn changed(&mut self, changes: &[Change]) {
        let mut names = BTreeSet::new();
        for change in changes {
            match change.up {
                true => _ = self.down.remove(&change.target),
                // One that nobody wants any more may still have been asked.
                false if self.users.contains_key(&change.target) => {
                    self.down.insert(Arc::clone(&change.target));
                }
                false => {}
            }
            names.extend(self.users.get(&change.target).into_iter().flatten().cloned());
        }
        self.judge(&names);
    }
}

impl Control {
    /// Checks real servers from now on. KNIs of the interfaces named are there for checks only.
    pub fn check_servers(&self, checker: Checker, implied: BTreeSet<String>) {
        let checker = Arc::new(checker);
        {
            let mut state = self.state();
            state.health.checker = Some(Arc::clone(&checker));
            state.health.implied = implied;
        }
        tokio::spawn(self.clone().watch_servers(checker));
    }

    async fn watch_servers(self, checker: Arc<Checker>) {
        loop {
            let changes = checker.changes().await;
            for Change { target, up, reason } in &changes {
                let (server, check) = (target.server, target.check.kind);
                if *up {
                    tracing::info!(%server, %check, reason, "real server is up");
                } else {
                    tracing::warn!(%server, %check, reason, "real server is down");
                }
            }
            let leaving = {
                let mut state = self.state();
                let before = Arc::clone(&state.health.rulings);
                state.health.changed(&changes);
                state.tell_of_quorums(&before);
                state.removed_since(&before)
            };
            self.run_rulings().await;
            for server in leaving {
                let filter = ConnFilter { server: Some(server), ..ConnFilter::default() };
                if let Some(left) = self.close_removed(filter, "health").await {
                    tracing::warn!("{left}");
                }
            }
        }
    }

    /// Has the workers run what follows from the state of real servers now.
    async fn run_rulings(&self) {
        while let Err(error) = self.refresh(false).await {
            tracing::warn!(%error, "workers do not know yet which real servers are down");
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Another configuration runs, in which these services have changed.
    pub(super) fn follow_health(&self, before: &Arc<Model>, touched: Vec<String>) {
        let differs = self.state().retarget(before, touched);
        if differs {
            let control = self.clone();
            tokio::spawn(async move { control.run_rulings().await });
        }
    }

    /// The kernel holds other addresses: checks may go other ways.
    #[cfg(feature = "dpdk")]
    pub(super) fn reroute_checks(&self) {
        let differs = self.state().retarget_all();
        if differs {
            let control = self.clone();
            tokio::spawn(async move { control.run_rulings().await });
        }
    }
}

impl State {
    fn tell_of_quorums(&self, before: &Rulings) {
        let lost =
            |rulings: &Rulings, name: &str| rulings.get(name).is_some_and(|ruling| ruling.lost);
        for (name, watched) in &self.health.services {
            match (lost(before, name), watched.lost) {
                (false, true) => tracing::warn!(service = name, "quorum is lost"),
                (true, false) => tracing::info!(service = name, "quorum is there again"),
                _ => {}
            }
        }
    }

    /// Servers that go because they are down, by their slots.
    fn removed_since(&self, before: &Rulings) -> Vec<Slot> {
        let mut slots = Vec::new();
        for (name, ruling) in self.health.rulings.iter() {
            let was = before.get(name);
            let gone = ruling.down.iter().filter(|(server, what)| {
                **what == OnFailure::Remove
                    && was.is_none_or(|was| was.down.get(server) != Some(*what))
            });
            for (server, _) in gone {
                let servers = self.compiled(name).into_iter().flat_map(|service| service.servers());
                let same = servers.filter(|found| found.endpoint() == *server);
                slots.extend(same.map(|found| found.slot));
            }
        }
        slots
    }

    /// Whether the kernel holds an IPv4 address on the KNI of an interface.
    fn kernel_has(&self, interface: types::EthPortId, address: Option<IpAddr>) -> bool {
        let mut held = self.kernel.addresses().filter(|(on, _)| *on == interface);
        held.any(|(_, found)| address.map_or(found.is_ipv4(), |wanted| wanted == found))
    }
}
