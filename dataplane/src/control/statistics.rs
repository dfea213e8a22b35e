//! What has been counted: status, totals, counters, workers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::{
    ConnectionTotals, Counter, CounterQuery, Ledger, State as Phase, Stats, Status, WorkerInfo,
};
use counters::{Event, Gauge, Source, Values};
use types::{EthPortId, Slot, Verdict, WorkerId};

use super::change::answer;
use super::nat::log::NatLog;
use super::services::{Running, SlotTotals, traffic};
use super::{Control, Reply, State, blocking, not_found};
use crate::worker::link::{Command, ITEMS_MAX, Totals};

/// Loads are of the time between two looks this far apart.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// What the workers had counted at the last look, for rates.
#[derive(Debug, Default)]
pub(super) struct History {
    then: Vec<Values>,
    /// The share of busy time of each worker between the last two looks.
    loads: Vec<f64>,
}

impl History {
    /// To be called each [`LOOK`].
    pub fn look(&mut self, values: Vec<Values>) {
        self.loads = values
            .iter()
            .zip(&self.then)
            .map(|(now, then)| now.since(then).load().busy())
            .collect();
        self.then = values;
    }

    fn load(&self, worker: WorkerId) -> f64 {
        self.loads.get(usize::from(worker.0)).copied().unwrap_or(0.0)
    }
}

impl Control {
    /// The daemon at a glance.
    ///
    /// # Errors
    /// None but a fault of ours.
    pub async fn status(&self) -> Reply<Status> {
        self.look_at_file().await;
        let running = self.state().running();
        let look = move || {
            let config = &running.config;
            let services = config.services.values();
            let servers = services.map(|service| service.resolved_servers(config).len()).sum();
            Ok((config.services.len(), servers, running.without_server()))
        };
        let (services, servers, without): (usize, usize, Vec<String>) = blocking(look).await?;
        let version = self.version();
        let state = self.state();
        let up = state.here().filter(|(_, interface)| interface.up).count();
        let conns = state.conns();
        let mut problems = state.problems(Instant::now());
        problems.extend(without);
        Ok(Status {
            version,
            state: state.phase,
            pid: std::process::id(),
            uptime_ms: self.now_ms(),
            config_file: self.shared.file.display().to_string(),
            config_differs: state.file.differs,
            generation: state.snapshot.generation,
            workers: state.workers.len() as u32,
            interfaces: state.here().count() as u32,
            interfaces_up: up as u32,
            services: services as u32,
            servers: servers as u32,
            connections: conns.all,
            connections_ipv6: conns.ipv6,
            max_connections: conns.max,
            max_connections_ipv6: conns.max_ipv6,
            problems,
        })
    }

    /// Totals since the start.
    ///
    /// # Errors
    /// If a worker does not answer.
    pub async fn stats(&self) -> Reply<Stats> {
        let running = self.state().running();
        let (services, slots) = blocking(move || {
            let names = running.config.services.keys();
            let slot = |name: &String| Some((name.clone(), running.compiled(name)?.spec().slot));
            let services: Vec<_> = names.filter_map(slot).collect();
            let slots = services.iter().map(|(_, slot)| *slot).collect();
            Ok((services, slots))
        })
        .await?;
        let totals = self.totals(slots, Vec::new()).await?;
        let (totals, services) = blocking(move || {
            let one = |(name, slot)| (name, traffic(totals.services.get(&slot)));
            let services = services.into_iter().map(one).collect();
            Ok((totals, services))
        })
        .await?;
        let state = self.state();
        let interfaces = state.here();
        let interfaces: BTreeMap<_, _> =
            interfaces.map(|(id, info)| (info.name.to_string(), state.link_stats(id))).collect();
        Ok(Stats {
            uptime_ms: self.now_ms(),
            ledger: state.ledger(),
            connections: state.connection_totals(&totals),
            interfaces,
            services,
        })
    }

    /// Counters since the start, each drop reason among them.
    ///
    /// # Errors
    /// If there is no such worker.
    pub fn counters(&self, query: &CounterQuery) -> Reply<Vec<Counter>> {
        let state = self.state();
        let values = match query.worker {
            None => state.merged(),
            Some(number) => match state.workers.reading(WorkerId(number)) {
                Some(reading) => reading.values,
                None => {
                    let message = format!("there is no worker {number}");
                    return Err(not_found("worker", number, message));
                }
            },
        };
        let mut all = named(&values);
        if query.worker.is_none() {
            all.extend(state.own_counters());
        }
        all.retain(|counter| !query.nonzero || counter.value != 0);
        Ok(all)
    }

    /// The poll loops.
    pub fn workers(&self) -> Vec<WorkerInfo> {
        let state = self.state();
        state.workers.ids().filter_map(|id| state.worker_info(id)).collect()
    }

    /// Counts of services and servers over all workers.
    pub(super) async fn totals(
        &self,
        services: Vec<Slot>,
        servers: Vec<Slot>,
    ) -> Reply<SlotTotals> {
        let workers: Vec<_> = self.state().workers.ids().collect();
        let zero = |slots: &[Slot]| slots.iter().map(|slot| (*slot, Default::default())).collect();
        let mut waiting = Vec::new();
        for worker in workers {
            let services = services.chunks(ITEMS_MAX);
            let services =
                services.map(|slots| Totals { services: zero(slots), ..Totals::default() });
            let servers = servers.chunks(ITEMS_MAX);
            let servers = servers.map(|slots| Totals { servers: zero(slots), ..Totals::default() });
            for totals in services.chain(servers) {
                let asked = self.ask(worker, Command::Totals(Box::new(totals))).await?;
                waiting.push((worker, asked));
            }
        }
        let mut sum = SlotTotals::default();
        for (worker, asked) in waiting {
            let Command::Totals(counted) = answer(worker, asked).await? else { continue };
            add(&mut sum.services, counted.services);
            add(&mut sum.servers, counted.servers);
        }
        Ok(sum)
    }
}

fn add(sum: &mut HashMap<Slot, balance::Totals>, counted: Vec<(Slot, balance::Totals)>) {
    for (slot, totals) in counted {
        *sum.entry(slot).or_default() += totals;
    }
}

/// All counters with their names.
fn named(values: &Values) -> Vec<Counter> {
    let counter = |name: &str, value, help: &str| Counter {
        name: name.to_owned(),
        value,
        help: help.to_owned(),
    };
    let sources = Source::ALL.iter().map(|s| counter(s.name(), values.source(*s), s.help()));
    let verdicts = Verdict::ALL.iter().map(|v| counter(v.name(), values.verdict(*v), v.help()));
    let events = Event::ALL.iter().map(|e| counter(e.name(), values.event(*e), e.help()));
    let gauges = Gauge::ALL.iter().map(|g| counter(g.name(), values.gauge(*g), g.help()));
    sources.chain(verdicts).chain(events).chain(gauges).collect()
}

impl Running {
    /// Services whose real servers all take no conns, as problems.
    fn without_server(&self) -> Vec<String> {
        let has_none = |(name, service): &(&String, &Arc<config::Service>)| {
            !service.resolved_servers(&self.config).is_empty()
                && self.compiled(name).is_some_and(|compiled| compiled.usable().is_empty())
        };
        let without = self.config.services.iter().filter(has_none);
        let problem = |(name, _)| format!("service `{name}` has no real server that takes conns");
        without.map(problem).collect()
    }
}

/// Conns of all workers, and the most that there may be.
struct Conns {
    all: u64,
    ipv6: u64,
    max: u64,
    max_ipv6: u64,
}

impl State {
    /// The counters of all workers together.
    pub(super) fn merged(&self) -> Values {
        let mut sum = Values::new(self.snapshot.interfaces.len());
        for reading in self.workers.ids().filter_map(|id| self.workers.reading(id)) {
            sum.merge(&reading.values);
        }
        sum
    }

    /// What control itself counts.
    fn own_counters(&self) -> Vec<Counter> {
        let stalls = self.workers.ids().map(|id| self.watchdog.stalls(id)).sum();
        let stall_us = self.stall.longest().as_micros() as u64;
        let buffers = self.engine.buffers();
        let short = self.wan_watch.crossed();
        let counter = |name: &str, value, help: &str| Counter {
            name: name.to_owned(),
            value,
            help: help.to_owned(),
        };
        vec![
            counter(
                "worker.stalls",
                stalls,
                "Times that a worker did not come round within 100 ms.",
            ),
            counter(
                "control.stall-max-us",
                stall_us,
                "The longest time that the control thread came late, in microseconds.",
            ),
            counter("buffers.total", buffers.total, "Packet buffers that there are."),
            counter("buffers.in-use", buffers.in_use, "Packet buffers in use."),
            counter(
                "wan.ports-80",
                short[0],
                "Times that 80 % of the ports of a WAN IP and protocol came to be in use.",
            ),
            counter(
                "wan.ports-95",
                short[1],
                "Times that 95 % of the ports of a WAN IP and protocol came to be in use.",
            ),
        ]
    }

    fn ledger(&self) -> Ledger {
        let counted = counters::Ledger::of(&self.merged());
        Ledger {
            received: counted.received,
            generated: counted.generated,
            from_rings: counted.from_rings,
            from_kernel: counted.from_kernel,
            sent: counted.sent,
            dropped: counted.dropped,
            punted: counted.punted,
            answered: counted.answered,
            handed: counted.handed,
            held: counted.held,
            difference: i64::try_from(counted.difference()).unwrap_or(i64::MAX),
        }
    }

    fn conns(&self) -> Conns {
        let (values, workers) = (self.merged(), self.workers.len() as u64);
        let (max, max_ipv6) = self.max_connections;
        Conns {
            all: values.gauge(Gauge::Conns),
            ipv6: values.gauge(Gauge::Ipv6Conns),
            max: u64::from(max) * workers,
            max_ipv6: u64::from(max_ipv6) * workers,
        }
    }

    fn connection_totals(&self, totals: &SlotTotals) -> ConnectionTotals {
        let values = self.merged();
        let Conns { all: current, ipv6: current_ipv6, max, max_ipv6 } = self.conns();
        let half_open = values.gauge(Gauge::HalfOpen);
        let established = totals.services.values().map(|totals| u64::from(totals.active)).sum();
        ConnectionTotals {
            current,
            current_ipv6,
            max,
            max_ipv6,
            half_open,
            established,
            closing: current.saturating_sub(half_open).saturating_sub(established),
            opened: values.event(Event::Opened),
            closed: values.event(Event::Closed),
            expired: values.event(Event::Expired),
            evicted: values.event(Event::Evicted),
            removed: self.conns_removed,
        }
    }

    fn worker_info(&self, id: WorkerId) -> Option<WorkerInfo> {
        let values = self.workers.reading(id)?.values;
        let load = values.load();
        let per_us = (arch::tsc_hz() / 1_000_000).max(1);
        // What passes a VLAN passes its link.
        let ports = self.started.iter().zip(values.interfaces());
        let ports = ports.filter(|(interface, _)| interface.wire.vid == 0);
        let sum = |count: fn(&counters::InterfaceCounters) -> u64| {
            ports.clone().map(|(_, counted)| count(counted)).sum()
        };
        Some(WorkerInfo {
            id: id.0,
            cpu: self.engine.cpus().get(usize::from(id.0)).copied().unwrap_or_default(),
            generation: values.gauge(Gauge::Generation),
            load: self.history.load(id),
            loops: load.loops,
            loop_max_us: load.max_loop_tsc / per_us,
            stalled: self.watchdog.is_stalled(id),
            connections: values.gauge(Gauge::Conns),
            connections_ipv6: values.gauge(Gauge::Ipv6Conns),
            max_connections: self.max_connections.0.into(),
            max_connections_ipv6: self.max_connections.1.into(),
            leases: values.gauge(Gauge::Leases),
            rx_packets: sum(|interface| interface.rx_packets),
            tx_packets: sum(|interface| interface.tx_packets),
            dropped: values.dropped(),
        })
    }

    /// What an operator should look at.
    fn problems(&self, now: Instant) -> Vec<String> {
        let mut problems = Vec::new();
        if self.phase == Phase::Draining {
            problems.push("the daemon is stopping: it takes no new conns".to_owned());
        }
        for id in self.workers.ids() {
            let stalls = self.watchdog.stalls(id);
            if self.watchdog.is_stalled(id) {
                problems.push(format!("worker {} does not come round", id.0));
            } else if stalls > 0 {
                let times = if stalls == 1 { "once".to_owned() } else { format!("{stalls} times") };
                problems.push(format!(
                    "worker {} did not come round within 100 ms, {times} since the start",
                    id.0
                ));
            }
        }
        if let Some(stall) = self.stall.recent(now) {
            let ms = stall.as_millis();
            problems.push(format!("the control thread came {ms} ms late in the last minute"));
        }
        for (interface, place) in self.started.iter().zip(0..) {
            if !interface.up && interface.wire.vid == 0 {
                problems.push(format!("the link of `{}` is down", self.name(EthPortId(place))));
            }
        }
        problems.extend(self.wan_watch.problems());
        problems.extend(self.nat_log.as_ref().and_then(NatLog::problem));
        problems
    }
}
