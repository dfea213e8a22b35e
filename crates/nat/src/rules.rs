//! Rules in their order, the first that matches counts; compiled so that thousands of them cost a
//! packet little.
//!
//! For each part of a packet (source, destination, protocol, ports, interfaces) a table tells which
//! rules it fits, as a bit map in the order of the rules; the first bit that all have in common is the
//! rule (Lakshman and Stiliadis' bit vectors). A summary of each bit map skips what is empty.

mod compile;
mod parts;
mod rows;
#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;

use types::{EthPortId, Slot};

use rows::{Devices, Intervals, Protocols, Rows};

/// What is to be done with a packet that a rule matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Action {
    /// Exchange its source for a WAN IP.
    #[default]
    Translate,
    /// Let it pass, unchanged.
    Accept,
    /// Drop it silently.
    Drop,
    /// Drop it and tell its sender.
    Reject,
}

/// What a rule asks of a packet. An empty list asks nothing.
///
/// Ports are TCP's and UDP's: who asks for them does not match other protocols.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// Source addresses in host order.
    pub sources: Vec<RangeInclusive<u32>>,
    /// Destination addresses in host order.
    pub destinations: Vec<RangeInclusive<u32>>,
    /// IANA protocol numbers.
    pub protocols: Vec<u8>,
    /// Source ports.
    pub source_ports: Vec<RangeInclusive<u16>>,
    /// Destination ports.
    pub destination_ports: Vec<RangeInclusive<u16>>,
    /// The interface that it came by.
    pub in_dev: Option<EthPortId>,
    /// The interface that it leaves by.
    pub out_dev: Option<EthPortId>,
}

/// A rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Names it for as long as it lives.
    pub slot: Slot,
    /// What it asks, all of it.
    pub matching: Match,
    /// What it excepts: a packet that fits any one of these parts passes unchanged, as with a
    /// `RETURN` before the rule.
    pub except: Match,
    /// What it does with the others.
    pub action: Action,
}

/// A packet, as far as rules are concerned. Numbers are in host order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// Source address.
    pub src: u32,
    /// Destination address.
    pub dst: u32,
    /// Source port; anything for protocols without ports.
    pub sport: u16,
    /// Destination port; anything for protocols without ports.
    pub dport: u16,
    /// IANA protocol number.
    pub proto: u8,
    /// The interface that it came by.
    pub in_dev: EthPortId,
    /// The interface that it will leave by, if there is a route.
    pub out_dev: Option<EthPortId>,
}

/// The rule that matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleMatch {
    /// Its number in the order of the configuration, from 0.
    pub index: usize,
    /// Its name.
    pub slot: Slot,
    /// What to do; [`Action::Accept`] for what it excepts.
    pub action: Action,
    /// It was an exception that fitted.
    pub excepted: bool,
}

/// Rules, compiled.
#[derive(Clone, Debug)]
pub struct Rules {
    entries: Box<[RuleMatch]>,
    rows: Rows,
    sources: Intervals,
    destinations: Intervals,
    source_ports: Intervals,
    destination_ports: Intervals,
    protocols: Protocols,
    in_devs: Devices,
    out_devs: Devices,
}

/// Too many rules: each exception counts as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} rules and exceptions: there can be {max} at most", max = Rules::MAX)]
pub struct TooManyRules(pub usize);

impl Rules {
    /// Rules and exceptions together, at most.
    pub const MAX: usize = 16_384;

    /// The first rule that matches.
    #[inline]
    pub fn find(&self, query: &Query) -> Option<RuleMatch> {
        if self.entries.is_empty() {
            return None;
        }
        let first = self.rows.first_common([
            self.sources.row(query.src),
            self.destinations.row(query.dst),
            self.protocols.row(query.proto),
            self.in_devs.row(Some(query.in_dev)),
            self.out_devs.row(query.out_dev),
            self.source_ports.row(query.sport.into()),
            self.destination_ports.row(query.dport.into()),
        ])?;
        self.entries.get(first).copied()
    }

    /// No rule at all.
    pub(crate) fn none() -> Self {
        Self::of(&[], &[])
    }

    /// True if there is no rule.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
