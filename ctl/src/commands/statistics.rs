//! Totals, rates and counters.

use std::collections::BTreeMap;
use std::time::Duration;

use api::{Counter, CounterQuery, LinkStats, Operation, Request, Stats, Traffic};
use serde::Serialize;

use crate::cli::{CountersArgs, StatsArgs};
use crate::error::CtlError;
use crate::output::{Table, details};
use crate::session::{Outcome, Session};
use crate::units;

pub(super) fn counters(session: &mut Session<'_>, args: &CountersArgs) -> Outcome {
    let query = CounterQuery { worker: args.worker, nonzero: args.nonzero };
    let request = Request::new(Operation::CounterList).query(&query);
    let list: Vec<Counter> = session.ask(request)?;
    let width = session.width;
    session.print(&list, |list, options| {
        if options.brief {
            return list.iter().map(|c| format!("{} {}\n", c.name, c.value)).collect();
        }
        let mut table = Table::new(&["COUNTER", ">VALUE", "MEANING"]);
        for counter in list {
            let Counter { name, value, help } = counter;
            table.row([name.clone(), value.to_string(), help.clone()]);
        }
        table.wrapped(width)
    })
}

pub(super) fn stats(session: &mut Session<'_>, args: &StatsArgs) -> Outcome {
    let Some(interval) = args.interval else {
        let stats = ask(session)?;
        return session.print(
            &stats,
            |stats, options| {
                if options.brief { brief(stats) } else { totals(stats) }
            },
        );
    };
    if interval.is_zero() {
        return Err(CtlError::usage("--interval 0s: rates need some time, as in 1s"));
    }
    let mut before = ask(session)?;
    let mut left = args.count;
    while left != Some(0) {
        std::thread::sleep(Duration::from(interval));
        let now = ask(session)?;
        let rates = Rates::between(&before, &now);
        session.print(&rates, |rates, _| format!("{}\n", rates.text()))?;
        before = now;
        left = left.map(|left| left - 1);
    }
    Ok(())
}

fn ask(session: &Session<'_>) -> Result<Stats, CtlError> {
    session.ask(Request::new(Operation::Stats))
}

fn brief(stats: &Stats) -> String {
    let Stats { ledger, connections, .. } = stats;
    format!(
        "{} connections, {} opened; packets received {}, sent {}, dropped {}\n",
        connections.current, connections.opened, ledger.received, ledger.sent, ledger.dropped,
    )
}

fn totals(stats: &Stats) -> String {
    let conns = &stats.connections;
    let there = units::Conns {
        all: conns.current,
        ipv6: conns.current_ipv6,
        max: conns.max,
        max_ipv6: conns.max_ipv6,
    };
    let ledger = &stats.ledger;
    let mut text = details(&[
        ("up", units::duration(stats.uptime_ms)),
        (
            "connections",
            format!(
                "{}: {} half open, {} established, {} closing",
                there.text(),
                conns.half_open,
                conns.established,
                conns.closing,
            ),
        ),
        (
            "since start",
            format!(
                "{} opened, {} closed, {} expired, {} evicted, {} removed",
                conns.opened, conns.closed, conns.expired, conns.evicted, conns.removed,
            ),
        ),
        (
            "packets in",
            format!(
                "{} received, {} generated, {} from rings, {} from the kernel",
                ledger.received, ledger.generated, ledger.from_rings, ledger.from_kernel,
            ),
        ),
        (
            "packets out",
            format!(
                "{} sent, {} dropped, {} punted, {} answered, {} handed, {} held",
                ledger.sent,
                ledger.dropped,
                ledger.punted,
                ledger.answered,
                ledger.handed,
                ledger.held,
            ),
        ),
        ("difference", ledger.difference.to_string()),
    ]);
    text.push('\n');
    text.push_str(&interface_totals(&stats.interfaces));
    if !stats.services.is_empty() {
        text.push('\n');
        text.push_str(&service_totals(&stats.services));
    }
    text
}

fn interface_totals(interfaces: &BTreeMap<String, LinkStats>) -> String {
    let headings = ["INTERFACE", ">RX-PKTS", ">RX", ">RX-LOST", ">TX-PKTS", ">TX", ">TX-LOST"];
    let mut table = Table::new(&headings);
    for (name, stats) in interfaces {
        table.row([
            name.clone(),
            stats.rx_packets.to_string(),
            units::bytes(stats.rx_bytes),
            (stats.rx_missed + stats.rx_errors + stats.rx_no_buffer).to_string(),
            stats.tx_packets.to_string(),
            units::bytes(stats.tx_bytes),
            stats.tx_errors.to_string(),
        ]);
    }
    table.text("no interfaces")
}

fn service_totals(services: &BTreeMap<String, Traffic>) -> String {
    let headings =
        ["SERVICE", ">ACTIVE", ">OPENED", ">REFUSED", ">IN-PKTS", ">IN", ">OUT-PKTS", ">OUT"];
    let mut table = Table::new(&headings);
    for (name, traffic) in services {
        table.row([
            name.clone(),
            traffic.active.to_string(),
            traffic.connections.to_string(),
            traffic.refused.to_string(),
            traffic.in_packets.to_string(),
            units::bytes(traffic.in_bytes),
            traffic.out_packets.to_string(),
            units::bytes(traffic.out_bytes),
        ]);
    }
    table.text("no services")
}

/// What happened a second between two looks.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Rates {
    /// Milliseconds between the two, by the daemon's clock.
    interval_ms: u64,
    /// Conns at the second.
    connections: u64,
    opened_per_s: f64,
    received_per_s: f64,
    sent_per_s: f64,
    dropped_per_s: f64,
    interfaces: BTreeMap<String, LinkRates>,
    services: BTreeMap<String, ServiceRates>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct LinkRates {
    rx_packets_per_s: f64,
    rx_bits_per_s: f64,
    tx_packets_per_s: f64,
    tx_bits_per_s: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct ServiceRates {
    opened_per_s: f64,
    refused_per_s: f64,
    in_packets_per_s: f64,
    in_bits_per_s: f64,
    out_packets_per_s: f64,
    out_bits_per_s: f64,
}

impl Rates {
    fn between(before: &Stats, now: &Stats) -> Self {
        // A daemon that started anew counts from 0: then all of it happened since its start.
        let restarted = now.uptime_ms < before.uptime_ms;
        let nothing = Stats::default();
        let before = if restarted { &nothing } else { before };
        let interval_ms = (now.uptime_ms - before.uptime_ms).max(1);
        let rate =
            |old: u64, new: u64| new.saturating_sub(old) as f64 * 1000.0 / interval_ms as f64;
        let link = |(name, new): (&String, &LinkStats)| {
            let old = before.interfaces.get(name).cloned().unwrap_or_default();
            let rates = LinkRates {
                rx_packets_per_s: rate(old.rx_packets, new.rx_packets),
                rx_bits_per_s: 8.0 * rate(old.rx_bytes, new.rx_bytes),
                tx_packets_per_s: rate(old.tx_packets, new.tx_packets),
                tx_bits_per_s: 8.0 * rate(old.tx_bytes, new.tx_bytes),
            };
            (name.clone(), rates)
        };
        let service = |(name, new): (&String, &Traffic)| {
            let old = before.services.get(name).cloned().unwrap_or_default();
            let rates = ServiceRates {
                opened_per_s: rate(old.connections, new.connections),
                refused_per_s: rate(old.refused, new.refused),
                in_packets_per_s: rate(old.in_packets, new.in_packets),
                in_bits_per_s: 8.0 * rate(old.in_bytes, new.in_bytes),
                out_packets_per_s: rate(old.out_packets, new.out_packets),
                out_bits_per_s: 8.0 * rate(old.out_bytes, new.out_bytes),
            };
            (name.clone(), rates)
        };
        Self {
            interval_ms,
            connections: now.connections.current,
            opened_per_s: rate(before.connections.opened, now.connections.opened),
            received_per_s: rate(before.ledger.received, now.ledger.received),
            sent_per_s: rate(before.ledger.sent, now.ledger.sent),
            dropped_per_s: rate(before.ledger.dropped, now.ledger.dropped),
            interfaces: now.interfaces.iter().map(link).collect(),
            services: now.services.iter().map(service).collect(),
        }
    }

    fn text(&self) -> String {
        let mut text = format!(
            "{} connections, opened {}; packets received {}, sent {}, dropped {}\n",
            self.connections,
            units::per_second(self.opened_per_s),
            units::per_second(self.received_per_s),
            units::per_second(self.sent_per_s),
            units::per_second(self.dropped_per_s),
        );
        let mut table = Table::new(&["NAME", ">OPENED", ">IN-PKTS", ">IN", ">OUT-PKTS", ">OUT"]);
        for (name, rates) in &self.interfaces {
            table.row([
                name.clone(),
                String::new(),
                units::per_second(rates.rx_packets_per_s),
                units::bits_per_second(rates.rx_bits_per_s),
                units::per_second(rates.tx_packets_per_s),
                units::bits_per_second(rates.tx_bits_per_s),
            ]);
        }
        for (name, rates) in &self.services {
            table.row([
                name.clone(),
                units::per_second(rates.opened_per_s),
                units::per_second(rates.in_packets_per_s),
                units::bits_per_second(rates.in_bits_per_s),
                units::per_second(rates.out_packets_per_s),
                units::bits_per_second(rates.out_bits_per_s),
            ]);
        }
        text.push_str(&table.text("no interfaces"));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(uptime_ms: u64, opened: u64, rx_bytes: u64) -> Stats {
        let mut stats = Stats { uptime_ms, ..Stats::default() };
        stats.connections.opened = opened;
        stats.interfaces.insert("wan0".into(), LinkStats { rx_bytes, ..LinkStats::default() });
        stats
    }

    #[test]
    fn rates_are_by_the_daemons_clock() {
        let rates = Rates::between(&stats(10_000, 100, 1_000), &stats(12_000, 150, 2_000));
        assert_eq!((rates.interval_ms, rates.opened_per_s), (2_000, 25.0));
        assert_eq!(rates.interfaces["wan0"].rx_bits_per_s, 4_000.0);
    }

    #[test]
    fn a_daemon_that_started_anew_counts_from_nothing() {
        let rates = Rates::between(&stats(10_000, 100, 1_000), &stats(500, 10, 0));
        assert_eq!((rates.interval_ms, rates.opened_per_s), (500, 20.0));
    }

    #[test]
    fn no_time_is_no_infinity() {
        let rates = Rates::between(&stats(10_000, 100, 0), &stats(10_000, 100, 0));
        assert_eq!(rates.opened_per_s, 0.0);
    }
}
