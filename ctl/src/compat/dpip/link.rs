//! `dpip link`.

use std::fmt::Write as _;
use std::thread::sleep;
use std::time::Duration;

use api::{Counter, CounterQuery, LinkInfo, LinkStats, Operation, Request, WorkerInfo};

use super::super::dpvs::{Code, Message};
use super::super::missing;
use super::super::{Compat, Failure, Outcome};
use super::no_verb;
use super::words::{Line, Verb, stray};

pub(super) const HELP: &str = "\
Usage:
    dpip link show [ NIC-NAME ]
    dpip -v link show [ NIC-NAME ]
    dpip -s link show [ -i INTERVAL ] [ -c COUNT ] [ NIC-NAME ]
    dpip link show { cpu | cpuN }
    dpip -s link show [ -i INTERVAL ] [ -c COUNT ] { cpu | cpuN }
";

pub(super) fn run(compat: &mut Compat<'_>, line: &Line) -> Outcome {
    match line.verb {
        Verb::Show => {}
        Verb::Set | Verb::Add | Verb::Del => {
            let what = format!("link {}", line.rest.join(" "));
            return Err(Failure::not_supported(what.trim_end(), missing::LINK_SET));
        }
        _ => return Err(no_verb(line)),
    }
    let mut fields = line.fields();
    let name = match fields.next() {
        Some("dev") => Some(fields.value("dev")?),
        name => name,
    };
    match fields.next() {
        Some("status") => return Err(Failure::not_supported("status", missing::BOND)),
        Some(other) => return Err(stray(other)),
        None => {}
    }
    match name.and_then(|name| name.strip_prefix("cpu")) {
        Some(number) => cpus(compat, line, number),
        None => links(compat, line, name),
    }
}

/// The interfaces with their numbers.
fn load(compat: &Compat<'_>, name: Option<&str>) -> Outcome<Vec<(usize, LinkInfo)>> {
    let links: Vec<LinkInfo> = compat.ask(Request::new(Operation::LinkList))?;
    let mut links: Vec<_> = (1..).zip(links).collect();
    if let Some(name) = name {
        links.retain(|(_, link)| link.name == name);
        if links.is_empty() {
            return Err(Failure::Refused(Message::LINK_GET, Code::NoDev, None));
        }
    }
    Ok(links)
}

fn links(compat: &mut Compat<'_>, line: &Line, name: Option<&str>) -> Outcome {
    let links = load(compat, name)?;
    if let (true, Some(interval_s)) = (line.stats, line.interval_s) {
        return rates(compat, line, name, &links, interval_s);
    }
    let buffers = if line.stats { buffers(compat)? } else { (0, 0) };
    let mut text = String::new();
    for (number, link) in &links {
        text.push_str(&basic(*number, link));
        if line.stats {
            text.push_str(&statistics(&link.stats, buffers));
        }
        if line.verbose {
            text.push_str(&details(link));
        }
    }
    compat.print(&text)
}

fn basic(number: usize, link: &LinkInfo) -> String {
    format!(
        "{number}: {}: socket {} mtu {} rx-queue {} tx-queue {}\n    \
         {} {} Mbps {}-duplex auto-nego \n    addr {} \n",
        link.name,
        link.socket.unwrap_or(0),
        link.mtu,
        link.rx_queues,
        link.tx_queues,
        if link.up { "UP" } else { "DOWN" },
        link.speed_mbps.unwrap_or(0),
        match link.duplex {
            Some(api::Duplex::Half) => "half",
            Some(api::Duplex::Full) | None => "full",
        },
        link.mac.to_string().to_uppercase(),
    )
}

/// Names and values below them, in columns as wide as DPVS has them.
fn columns(width: usize, names: &[&str], values: &[String]) -> String {
    let mut text = String::new();
    for cells in [names.to_vec(), values.iter().map(String::as_str).collect()] {
        text.push_str("    ");
        for cell in cells {
            // A string takes everything.
            let _ = write!(text, "{cell:<width$}");
        }
        text.push('\n');
    }
    text
}

fn numbers<const N: usize>(numbers: [u64; N]) -> Vec<String> {
    numbers.map(|number| number.to_string()).to_vec()
}

fn statistics(stats: &LinkStats, (free, used): (u64, u64)) -> String {
    let LinkStats { rx_packets, tx_packets, rx_bytes, tx_bytes, .. } = *stats;
    let LinkStats { rx_errors, tx_errors, rx_missed, rx_no_buffer, .. } = *stats;
    [
        columns(
            20,
            &["ipackets", "opackets", "ibytes", "obytes"],
            &numbers([rx_packets, tx_packets, rx_bytes, tx_bytes]),
        ),
        columns(
            20,
            &["ierrors", "oerrors", "imissed", "rx_nombuf"],
            &numbers([rx_errors, tx_errors, rx_missed, rx_no_buffer]),
        ),
        columns(20, &["mbuf-avail", "mbuf-inuse"], &numbers([free, used])),
    ]
    .concat()
}

/// Packet buffers: free and in use.
fn buffers(compat: &Compat<'_>) -> Outcome<(u64, u64)> {
    let request = Request::new(Operation::CounterList).query(&CounterQuery::default());
    let counters: Vec<Counter> = compat.ask(request)?;
    let value = |name: &str| {
        counters.iter().find(|counter| counter.name == name).map_or(0, |counter| counter.value)
    };
    let (total, used) = (value("buffers.total"), value("buffers.in-use"));
    Ok((total.saturating_sub(used), used))
}

/// What drivers tell DPVS and dpnat does not pass on is a dash.
fn details(link: &LinkInfo) -> String {
    let none = || "-".to_owned();
    let pci = if link.device.contains(':') && !link.device.contains(',') {
        link.device.clone()
    } else {
        "vdev".to_owned()
    };
    let driver = columns(32, &["pci_addr", "driver_name"], &[pci, link.driver.clone()]);
    let rows: [([&str; 4], [String; 4]); 6] = [
        (
            ["if_index", "min_rx_bufsize", "max_rx_pktlen", "max_mac_addrs"],
            [none(), none(), (u32::from(link.mtu) + 18).to_string(), none()],
        ),
        (
            ["max_rx_queues", "max_tx_queues", "max_hash_addrs", "max_vfs"],
            [link.rx_queues.to_string(), link.tx_queues.to_string(), none(), none()],
        ),
        (
            ["max_vmdq_pools", "rx_ol_capa", "tx_ol_capa", "reta_size"],
            [none(), none(), none(), none()],
        ),
        (
            ["hash_key_size", "flowtype_rss_ol", "vmdq_que_base", "vmdq_que_num"],
            [none(), none(), none(), none()],
        ),
        (
            ["rx_desc_max", "rx_desc_min", "rx_desc_align", "vmdq_pool_base"],
            [link.rx_descriptors.to_string(), none(), none(), none()],
        ),
        (
            ["tx_desc_max", "tx_desc_min", "tx_desc_align", "speed_capa"],
            [link.tx_descriptors.to_string(), none(), none(), none()],
        ),
    ];
    let rows: String = rows.iter().map(|(names, values)| columns(16, names, values)).collect();
    // Queue n of every interface is worker n's, who is number n + 1 there.
    let queues = (0..link.rx_queues).map(|n| {
        let (queues, cpus) = (format!("rx{n}-tx{n}"), format!("cpu{}-cpu{}", n + 1, n + 1));
        format!("    {queues:<12}{cpus:<25}\n")
    });
    let queues: String = queues.collect();
    format!("{driver}{rows}    Queue Configuration:\n{queues}    HW mcast list:\n")
}

/// Rates, a look each interval.
fn rates(
    compat: &mut Compat<'_>,
    line: &Line,
    name: Option<&str>,
    links: &[(usize, LinkInfo)],
    interval_s: u64,
) -> Outcome {
    let mut before: Vec<LinkStats> = links.iter().map(|(_, link)| link.stats.clone()).collect();
    for _ in 0..line.count.unwrap_or(u64::MAX) {
        sleep(Duration::from_secs(interval_s));
        let now = load(compat, name)?;
        let mut text = String::new();
        for ((number, link), old) in now.iter().zip(&before) {
            text.push_str(&basic(*number, link));
            let new = &link.stats;
            let rate = |new: u64, old: u64| new.saturating_sub(old) / interval_s;
            text.push_str(&columns(
                16,
                &["ipackets/pps", "opackets/pps", "ibytes/Bps", "obytes/Bps"],
                &numbers([
                    rate(new.rx_packets, old.rx_packets),
                    rate(new.tx_packets, old.tx_packets),
                    rate(new.rx_bytes, old.rx_bytes),
                    rate(new.tx_bytes, old.tx_bytes),
                ]),
            ));
            text.push_str(&columns(
                16,
                &["ierrors/pps", "oerrors/pps", "imissed/pps", "rx_nombuf/pps"],
                &numbers([
                    rate(new.rx_errors, old.rx_errors),
                    rate(new.tx_errors, old.tx_errors),
                    rate(new.rx_missed, old.rx_missed),
                    rate(new.rx_no_buffer, old.rx_no_buffer),
                ]),
            ));
        }
        compat.print(&text)?;
        before = now.into_iter().map(|(_, link)| link.stats).collect();
    }
    Ok(())
}

/// `link show cpu`, `cpuN`: the control plane is number 0, worker n is number n + 1.
fn cpus(compat: &mut Compat<'_>, line: &Line, number: &str) -> Outcome {
    let only: Option<u16> = match number {
        "" => None,
        number => Some(number.parse().map_err(|_| stray(&format!("cpu{number}")))?),
    };
    let mut left = line.count.unwrap_or(if line.interval_s.is_some() { u64::MAX } else { 1 });
    loop {
        let workers: Vec<WorkerInfo> = compat.ask(Request::new(Operation::WorkerList))?;
        let links: Vec<LinkInfo> = compat.ask(Request::new(Operation::LinkList))?;
        if only.is_some_and(|only| usize::from(only) > workers.len()) {
            return Err(Failure::Refused(Message::LINK_GET, Code::NotExist, None));
        }
        let mut text = String::new();
        if only.is_none_or(|only| only == 0) {
            text.push_str("<< Controll Plane >>\n1: cpu0: socket 0\n    queues none\n");
            if line.stats {
                text.push_str(&cpu_statistics(None));
            }
        }
        if only != Some(0) {
            text.push_str("<< Data Plane >>\n");
        }
        for worker in &workers {
            let cpu = worker.id + 1;
            if only.is_some_and(|only| only != cpu) {
                continue;
            }
            text.push_str(&format!("{}: cpu{cpu}: socket 0\n    queues ", cpu + 1));
            text.push_str(&queues(worker.id, &links));
            if line.stats {
                text.push_str(&cpu_statistics(Some(worker)));
            }
        }
        compat.print(&text)?;
        left -= 1;
        match line.interval_s {
            Some(seconds) if left > 0 => sleep(Duration::from_secs(seconds)),
            _ => return Ok(()),
        }
    }
}

fn queues(worker: u16, links: &[LinkInfo]) -> String {
    let of = |link: &LinkInfo| {
        let rx = (worker < link.rx_queues).then(|| format!("{}:rx{worker}", link.name));
        let tx = (worker < link.tx_queues).then(|| format!("{}:tx{worker}", link.name));
        rx.into_iter().chain(tx)
    };
    let names: String = links.iter().flat_map(of).map(|name| format!("{name:<15} ")).collect();
    if names.is_empty() { "none\n".to_owned() } else { names + "\n" }
}

/// What is not counted by worker is a dash.
fn cpu_statistics(worker: Option<&WorkerInfo>) -> String {
    let none = || "-".to_owned();
    let of = |value: fn(&WorkerInfo) -> u64| worker.map_or_else(none, |w| value(w).to_string());
    [
        columns(
            20,
            &["lcore_loop", "pktburst", "zpktburst", "fpktburst"],
            &[of(|worker| worker.loops), none(), none(), none()],
        ),
        columns(
            20,
            &["z2hpktburst", "h2fpktburst", "dropped"],
            &[none(), none(), of(|worker| worker.dropped)],
        ),
        columns(
            20,
            &["ipackets", "ibytes", "opackets", "obytes"],
            &[of(|worker| worker.rx_packets), none(), of(|worker| worker.tx_packets), none()],
        ),
    ]
    .concat()
}
