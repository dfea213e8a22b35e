//! From rules as configured to tables.

use std::ops::RangeInclusive;

use types::{EthPortId, Proto};

use super::parts::{Parts, Spans};
use super::rows::{Builder, Devices, Intervals, Protocols, clear, set};
use super::{Action, Match, Rule, RuleMatch, Rules, TooManyRules};

impl Rules {
    /// Compiles rules; the first has the first say.
    ///
    /// # Errors
    /// More than [`Rules::MAX`] rules and exceptions.
    pub fn new(rules: &[Rule]) -> Result<Self, TooManyRules> {
        let (mut entries, mut parts) = (Vec::new(), Vec::new());
        for (index, rule) in rules.iter().enumerate() {
            let own = Parts::of(&rule.matching);
            let slot = rule.slot;
            for except in exceptions(&rule.except) {
                entries.push(RuleMatch { index, slot, action: Action::Accept, excepted: true });
                parts.push(own.and(&Parts::of(&except)));
            }
            entries.push(RuleMatch { index, slot, action: rule.action, excepted: false });
            parts.push(own);
        }
        if entries.len() > Self::MAX {
            return Err(TooManyRules(entries.len()));
        }
        Ok(Self::of(&entries, &parts))
    }

    /// The tables of entries and what each asks.
    pub(super) fn of(entries: &[RuleMatch], parts: &[Parts]) -> Self {
        let mut builder = Builder::new(entries.len());
        let sources = intervals(&mut builder, parts, |parts| &parts.sources);
        let destinations = intervals(&mut builder, parts, |parts| &parts.destinations);
        let source_ports = intervals(&mut builder, parts, |parts| &parts.source_ports);
        let destination_ports = intervals(&mut builder, parts, |parts| &parts.destination_ports);
        let protocols = protocols(&mut builder, parts);
        let in_devs = devices(&mut builder, parts, |parts| parts.in_dev);
        let out_devs = devices(&mut builder, parts, |parts| parts.out_dev);
        Self {
            entries: entries.into(),
            rows: builder.finish(),
            sources,
            destinations,
            source_ports,
            destination_ports,
            protocols,
            in_devs,
            out_devs,
        }
    }
}

/// Each part of an exception by itself.
fn exceptions(except: &Match) -> Vec<Match> {
    let Match { sources, destinations, protocols, source_ports, destination_ports, .. } =
        except.clone();
    let any = Match::default;
    [
        Match { sources, ..any() },
        Match { destinations, ..any() },
        Match { protocols, ..any() },
        Match { source_ports, ..any() },
        Match { destination_ports, ..any() },
        Match { in_dev: except.in_dev, ..any() },
        Match { out_dev: except.out_dev, ..any() },
    ]
    .into_iter()
    .filter(|part| *part != any())
    .collect()
}

impl Parts {
    fn of(matching: &Match) -> Self {
        let wide = |ranges: &[RangeInclusive<u16>]| {
            let ranges: Vec<_> =
                ranges.iter().map(|r| u32::from(*r.start())..=u32::from(*r.end())).collect();
            Spans::of(&ranges, u16::MAX.into())
        };
        let mut protocols = [0u128; 2];
        for proto in &matching.protocols {
            if let Some(half) = protocols.get_mut(usize::from(proto / 128)) {
                *half |= 1 << (proto % 128);
            }
        }
        if matching.protocols.is_empty() {
            protocols = [u128::MAX; 2];
        }
        if !matching.source_ports.is_empty() || !matching.destination_ports.is_empty() {
            let with_ports = 1 << Proto::Tcp.number() | 1 << Proto::Udp.number();
            protocols = [protocols.first().copied().unwrap_or(0) & with_ports, 0];
        }
        Self {
            sources: Spans::of(&matching.sources, u32::MAX),
            destinations: Spans::of(&matching.destinations, u32::MAX),
            source_ports: wide(&matching.source_ports),
            destination_ports: wide(&matching.destination_ports),
            protocols,
            in_dev: Some(matching.in_dev),
            out_dev: Some(matching.out_dev),
        }
    }
}

/// One sweep over where the intervals of all rules begin and end.
fn intervals(
    builder: &mut Builder,
    parts: &[Parts],
    spans: impl Fn(&Parts) -> &Spans,
) -> Intervals {
    let mut edges: Vec<(u32, bool, usize)> = Vec::new();
    for (entry, parts) in parts.iter().enumerate() {
        for &(first, last) in spans(parts).as_slice() {
            edges.push((first, true, entry));
            if let Some(after) = last.checked_add(1) {
                edges.push((after, false, entry));
            }
        }
    }
    // An entry's own spans do not touch each other, so ends may come before beginnings.
    edges.sort_unstable();
    let (mut starts, mut rows, mut bits) = (Vec::new(), Vec::new(), builder.blank());
    let mut edges = edges.into_iter().peekable();
    let mut at = 0;
    loop {
        while let Some((_, begins, entry)) = edges.next_if(|edge| edge.0 == at) {
            if begins { set(&mut bits, entry) } else { clear(&mut bits, entry) }
        }
        let row = builder.row(&bits);
        if rows.last() != Some(&row) {
            starts.push(at);
            rows.push(row);
        }
        let Some(next) = edges.peek() else { break };
        at = next.0;
    }
    Intervals::new(starts, rows)
}

fn protocols(builder: &mut Builder, parts: &[Parts]) -> Protocols {
    let mut rows = Box::new([0; 256]);
    for (proto, row) in rows.iter_mut().enumerate() {
        let mut bits = builder.blank();
        for (entry, _) in parts.iter().enumerate().filter(|(_, parts)| parts.has_protocol(proto)) {
            set(&mut bits, entry);
        }
        *row = builder.row(&bits);
    }
    Protocols(rows)
}

fn devices(
    builder: &mut Builder,
    parts: &[Parts],
    device: impl Fn(&Parts) -> Option<Option<EthPortId>>,
) -> Devices {
    let mut row = |wanted: Option<EthPortId>| {
        let mut bits = builder.blank();
        for (entry, parts) in parts.iter().enumerate() {
            let fits = device(parts).is_some_and(|named| named.is_none() || named == wanted);
            if fits {
                set(&mut bits, entry);
            }
        }
        builder.row(&bits)
    };
    let named = parts.iter().filter_map(|parts| device(parts).flatten());
    let len = named.map(|device| usize::from(device.0) + 1).max().unwrap_or(0);
    let rows = (0..len).map(|number| row(Some(EthPortId(number as u16)))).collect();
    Devices { rows, other: row(None) }
}
