//! What a match covers, to tell whether one covers another.

use std::net::IpAddr;

use crate::matching::{AddressMatch, Except, IpProtocol, Match, PortRange};

/// One bit for each protocol.
pub(crate) type Protocols = [u64; 4];

const ALL: Protocols = [u64::MAX; 4];

/// Disjoint intervals, ascending, none next to another.
type Intervals = Vec<(u32, u32)>;

/// What a match covers, without what it excepts: that does not come to a later rule either.
#[derive(Debug)]
pub(crate) struct Cover {
    source: Intervals,
    destination: Intervals,
    protocols: Protocols,
    /// Nothing, if ports are not asked for.
    source_ports: Intervals,
    destination_ports: Intervals,
    in_dev: Option<String>,
    out_dev: Option<String>,
}

impl Cover {
    pub fn of(matches: &Match) -> Self {
        let by_port = !matches.source_ports.is_empty() || !matches.destination_ports.is_empty();
        let with_ports = [IpProtocol::TCP, IpProtocol::UDP];
        Self {
            source: addresses(&matches.source),
            destination: addresses(&matches.destination),
            protocols: match matches.protocol.as_slice() {
                [] if by_port => protocols(&with_ports),
                [] => ALL,
                some => protocols(some),
            },
            source_ports: ports(&matches.source_ports),
            destination_ports: ports(&matches.destination_ports),
            in_dev: matches.in_dev.clone(),
            out_dev: matches.out_dev.clone(),
        }
    }

    /// The protocols, a bit each.
    pub const fn protocols(&self) -> Protocols {
        self.protocols
    }

    /// True if whatever `other` covers is covered by this, too.
    pub fn covers(&self, other: &Self) -> bool {
        let by_port = |own: &Intervals, others: &Intervals| {
            own.is_empty() || (!others.is_empty() && within(others, own))
        };
        let by_dev = |own: &Option<String>, others: &Option<String>| own.is_none() || own == others;
        by_dev(&self.in_dev, &other.in_dev)
            && by_dev(&self.out_dev, &other.out_dev)
            && subset(other.protocols, self.protocols)
            && within(&other.source, &self.source)
            && within(&other.destination, &self.destination)
            && by_port(&self.source_ports, &other.source_ports)
            && by_port(&self.destination_ports, &other.destination_ports)
    }

    /// The key of `except` that covers everything, if one does.
    pub fn all_excepted(&self, except: &Except) -> Option<&'static str> {
        let by_address = |own: &Intervals, excepted: &[AddressMatch]| {
            !excepted.is_empty() && within(own, &addresses(excepted))
        };
        // Of protocols that have ports every packet has one, from 1.
        let all = vec![(1, u32::from(u16::MAX))];
        let has_ports = subset(self.protocols, protocols(&[IpProtocol::TCP, IpProtocol::UDP]));
        let by_port = |own: &Intervals, excepted: &[PortRange]| {
            let own = if own.is_empty() && has_ports { &all } else { own };
            !own.is_empty() && !excepted.is_empty() && within(own, &ports(excepted))
        };
        [
            ("source", by_address(&self.source, &except.source)),
            ("destination", by_address(&self.destination, &except.destination)),
            (
                "protocol",
                !except.protocol.is_empty() && subset(self.protocols, protocols(&except.protocol)),
            ),
            ("source_ports", by_port(&self.source_ports, &except.source_ports)),
            ("destination_ports", by_port(&self.destination_ports, &except.destination_ports)),
        ]
        .into_iter()
        .find_map(|(key, all)| all.then_some(key))
    }
}

fn subset(some: Protocols, all: Protocols) -> bool {
    some.iter().zip(all).all(|(some, all)| some & !all == 0)
}

fn protocols(list: &[IpProtocol]) -> Protocols {
    let mut bits = [0; 4];
    for protocol in list {
        let number = usize::from(protocol.number());
        bits[number / 64] |= 1 << (number % 64);
    }
    bits
}

/// Those of a list; all, if it is empty. IPv6 is refused elsewhere.
fn addresses(list: &[AddressMatch]) -> Intervals {
    if list.is_empty() {
        return vec![(0, u32::MAX)];
    }
    let bits = |range: &AddressMatch| match (range.first(), range.last()) {
        (IpAddr::V4(first), IpAddr::V4(last)) => Some((first.to_bits(), last.to_bits())),
        _ => None,
    };
    merged(list.iter().filter_map(bits).collect())
}

fn ports(list: &[PortRange]) -> Intervals {
    merged(list.iter().map(|range| (range.first().into(), range.last().into())).collect())
}

fn merged(mut list: Intervals) -> Intervals {
    list.sort_unstable();
    let mut merged: Intervals = Vec::with_capacity(list.len());
    for (first, last) in list {
        match merged.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    merged
}

/// True if each of `some` is in one of `all`.
fn within(some: &Intervals, all: &Intervals) -> bool {
    some.iter().all(|(first, last)| {
        let next = all.partition_point(|(begin, _)| begin <= first);
        next.checked_sub(1).is_some_and(|at| all[at].1 >= *last)
    })
}
