//! `ipvsadm -l`: the table in DPVS's columns.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use api::Traffic;
use config::Protocol;
use types::Endpoint;

use super::super::missing;
use super::super::{Compat, Failure, Outcome};
use super::address::Style;
use super::options::{Opt, Words};
use super::settings::Key;
use super::table::{self, Entry, Row};

/// What the list has besides addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Usual,
    Stats,
    Rate,
    Thresholds,
}

/// Between the two looks that rates are made of.
const RATE_INTERVAL: Duration = Duration::from_secs(1);

pub(super) fn list(compat: &mut Compat<'_>, words: &Words) -> Outcome {
    for (option, instead) in [
        (Opt::Timeout, missing::SET),
        (Opt::Daemon, missing::DAEMON),
        (Opt::PersistentConn, missing::PERSISTENT_CONN),
    ] {
        if words.has(option) {
            return Err(Failure::not_supported(format!("--{}", option.name()), instead));
        }
    }
    if words.has(Opt::Connection) {
        return super::conns::list(compat, words);
    }
    let kind =
        [(Opt::Stats, Kind::Stats), (Opt::Rate, Kind::Rate), (Opt::Thresholds, Kind::Thresholds)]
            .into_iter()
            .find(|(option, _)| words.has(*option))
            .map_or(Kind::Usual, |(_, kind)| kind);
    let key = Key::of(words)?;
    let mut entries = table::load(compat, key.as_ref())?;
    if kind == Kind::Rate {
        entries = rates(compat, key.as_ref(), &entries)?;
    }
    if words.has(Opt::NoSort) {
        table::sort_by_table(&mut entries, |entry| &entry.key);
    } else {
        table::sort(&mut entries);
    }
    let style = Style::new(words.has(Opt::Numeric));
    let exact = words.has(Opt::Exact);
    // One service alone has no line with the version.
    let mut text = if key.is_none() { TITLE.to_owned() } else { String::new() };
    text.push_str(&heading(kind));
    for entry in &entries {
        text.push_str(&lines(entry, kind, &style, exact));
    }
    compat.print(&text)
}

/// Scripts look at the version, which is that of the DPVS whose output is kept to.
const TITLE: &str = "IP Virtual Server version 1.10.2 (size=0)\n";

fn heading(kind: Kind) -> String {
    let of = |columns: [&str; 5]| {
        let mut text = format!("{:<33}", "Prot LocalAddress:Port");
        columns.iter().for_each(|column| text.push_str(&format!(" {column:>8}")));
        text + "\n  -> RemoteAddress:Port\n"
    };
    match kind {
        Kind::Usual => "Prot LocalAddress:Port Scheduler Flags\n  \
             -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n"
            .to_owned(),
        Kind::Stats => of(["Conns", "InPkts", "OutPkts", "InBytes", "OutBytes"]),
        Kind::Rate => of(["CPS", "InPPS", "OutPPS", "InBPS", "OutBPS"]),
        Kind::Thresholds => format!(
            "{:<33} {:<10} {:<10} {:<10} {:<10}\n  -> RemoteAddress:Port\n",
            "Prot LocalAddress:Port", "Uthreshold", "Lthreshold", "ActiveConn", "InActConn",
        ),
    }
}

fn lines(entry: &Entry, kind: Kind, style: &Style, exact: bool) -> String {
    let (title, protocol) = match &entry.key {
        Key::Service(protocol, vip) => {
            let name = protocol.to_string().to_uppercase();
            (format!("{name:<4} {}", style.endpoint(*vip, *protocol)), *protocol)
        }
        Key::Match(rule) => (format!("MATCH {}", rule.listed()), Protocol::Tcp),
    };
    let mut text = match kind {
        Kind::Usual => format!("{title} {}\n", entry.scheduler),
        Kind::Stats | Kind::Rate => format!("{title:<33}{}\n", numbers(&entry.traffic, exact)),
        Kind::Thresholds => format!("{title:<33}\n"),
    };
    for row in &entry.servers {
        let address = style.endpoint(row.address, protocol);
        text.push_str(&line(row, &address, kind, exact));
    }
    text
}

fn line(row: &Row, address: &str, kind: Kind, exact: bool) -> String {
    let Row { weight, upper, lower, traffic, .. } = row;
    let Traffic { active, inactive, .. } = traffic;
    let mut text = format!("  -> {address:<28}");
    let written = match kind {
        Kind::Usual => {
            let method = row.method.listed();
            writeln!(text, " {method:<7} {weight:<6} {active:<10} {inactive:<10}")
        }
        Kind::Stats | Kind::Rate => writeln!(text, "{}", numbers(traffic, exact)),
        Kind::Thresholds => writeln!(text, " {upper:<10} {lower:<10} {active:<10} {inactive:<10}"),
    };
    debug_assert!(written.is_ok(), "a string takes everything");
    text
}

fn numbers(traffic: &Traffic, exact: bool) -> String {
    [
        traffic.connections,
        traffic.in_packets,
        traffic.out_packets,
        traffic.in_bytes,
        traffic.out_bytes,
    ]
    .map(|number| format!(" {}", number_text(number, exact)))
    .concat()
}

/// In eight columns, if need be with K, M, G or T for thousands.
fn number_text(number: u64, exact: bool) -> String {
    const FULL: u64 = 100_000_000;
    if exact || number < FULL {
        return format!("{number:>8}");
    }
    let mut scaled = number;
    for unit in ['K', 'M', 'G'] {
        scaled /= 1000;
        // A column less for the unit.
        if scaled < FULL {
            return format!("{scaled:>7}{unit}");
        }
    }
    format!("{:>7}T", scaled / 1000)
}

/// Looks again after a while, and makes what was counted since into rates.
fn rates(compat: &Compat<'_>, key: Option<&Key>, before: &[Entry]) -> Outcome<Vec<Entry>> {
    let began = Instant::now();
    std::thread::sleep(RATE_INTERVAL);
    let mut after = table::load(compat, key)?;
    let elapsed_ms = (began.elapsed().as_millis() as u64).max(1);
    let old: HashMap<&Key, &Entry> = before.iter().map(|entry| (&entry.key, entry)).collect();
    for entry in &mut after {
        let known = old.get(&entry.key);
        per_second(&mut entry.traffic, known.map(|known| &known.traffic), elapsed_ms);
        let rows: HashMap<Endpoint, &Row> =
            known.iter().flat_map(|known| &known.servers).map(|row| (row.address, row)).collect();
        for row in &mut entry.servers {
            let known = rows.get(&row.address).map(|row| &row.traffic);
            per_second(&mut row.traffic, known, elapsed_ms);
        }
    }
    Ok(after)
}

/// What came new has no rate yet.
fn per_second(now: &mut Traffic, before: Option<&Traffic>, elapsed_ms: u64) {
    let same = now.clone();
    let before = before.unwrap_or(&same);
    for (now, before) in [
        (&mut now.connections, before.connections),
        (&mut now.in_packets, before.in_packets),
        (&mut now.out_packets, before.out_packets),
        (&mut now.in_bytes, before.in_bytes),
        (&mut now.out_bytes, before.out_bytes),
    ] {
        let grown = now.saturating_sub(before);
        *now = (u128::from(grown) * 1000).div_ceil(u128::from(elapsed_ms)) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_columns() {
        for (number, text) in [
            (0, "       0"),
            (99_999_999, "99999999"),
            (100_000_000, " 100000K"),
            (123_456_789_012, "  123456M"),
            (u64::MAX, "18446744T"),
        ] {
            assert_eq!(number_text(number, false).trim(), text.trim(), "{number}");
        }
        assert_eq!(number_text(123_456_789, true), "123456789");
        assert_eq!(number_text(5, false).len(), 8);
    }

    #[test]
    fn rates_are_of_what_was_counted_since() {
        let before = Traffic { connections: 10, in_bytes: 1000, ..Traffic::default() };
        let mut now = Traffic { connections: 30, in_bytes: 1001, ..Traffic::default() };
        per_second(&mut now, Some(&before), 2000);
        assert_eq!((now.connections, now.in_bytes, now.out_bytes), (10, 1, 0));
        let mut new = Traffic { connections: 30, ..Traffic::default() };
        per_second(&mut new, None, 1000);
        assert_eq!(new.connections, 0);
    }
}
