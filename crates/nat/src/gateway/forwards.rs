//! Port forwards (DNAT): which endpoint of ours leads where.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use types::{EthPortId, FlowKey, Slot};

use super::{Filtering, Settings, Terms};
use crate::mapping::Endpoint32;

/// Whose address a server behind a port forward sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SourceAddress {
    /// The client's, unless the client is on the server's own link: it would be answered past us.
    #[default]
    Auto,
    /// The client's.
    Keep,
    /// The WAN IP's.
    Translate,
}

/// A port forward, as configured.
#[derive(Clone, Debug)]
pub struct ForwardConfig {
    /// Names it for as long as it lives.
    pub slot: Slot,
    /// The address of ours, in host order.
    pub address: u32,
    /// Its ports; `0..=0` for protocols without.
    pub l4_ports: RangeInclusive<u16>,
    /// IANA protocol number.
    pub proto: u8,
    /// Where the first port leads; the others to those after it.
    pub to: Endpoint32,
    /// Who may use it; all if there is none.
    pub sources: Vec<RangeInclusive<u32>>,
    /// The interface that packets come by; any if there is none.
    pub in_dev: Option<EthPortId>,
    /// Whose address the server sees.
    pub source: SourceAddress,
    /// Timeouts, the MSS, and on which ports of the WAN IP a translated source is leased.
    pub settings: Settings,
}

/// A port forward.
#[derive(Clone, Debug)]
pub struct Forward {
    pub(crate) address: u32,
    pub(crate) l4_ports: RangeInclusive<u16>,
    pub(crate) proto: u8,
    to: Endpoint32,
    sources: Box<[RangeInclusive<u32>]>,
    in_dev: Option<EthPortId>,
    source: SourceAddress,
    pub(crate) terms: Terms,
}

impl Forward {
    fn new(config: ForwardConfig) -> Self {
        // What stands for a client is for its server only.
        let filtering = Filtering::AddressAndPortDependent;
        let settings = Settings { filtering, ..config.settings };
        Self {
            address: config.address,
            l4_ports: config.l4_ports,
            proto: config.proto,
            to: config.to,
            sources: config.sources.into(),
            in_dev: config.in_dev,
            source: config.source,
            terms: Terms { leads_in: true, ..Terms::new(config.slot, settings) },
        }
    }

    /// Where a packet to this port of the WAN IP leads.
    #[inline]
    pub fn to(&self, l4_port: u16) -> Endpoint32 {
        let step = l4_port.wrapping_sub(*self.l4_ports.start());
        Endpoint32::new(self.to.address, self.to.l4_port.wrapping_add(step))
    }

    /// A packet as the server sees it if it sees the client.
    #[inline]
    pub fn translated(&self, key: &FlowKey) -> FlowKey {
        let to = self.to(key.dport);
        FlowKey { dst: to.address, dport: to.l4_port, ..*key }
    }

    /// Whose address the server sees.
    #[inline]
    pub const fn source(&self) -> SourceAddress {
        self.source
    }

    /// The address of the server that it leads to.
    #[inline]
    pub const fn inside(&self) -> u32 {
        self.to.address
    }

    /// True if the same packets are the same server's by this one and by another.
    pub fn leads_as(&self, other: &Self) -> bool {
        (self.inside(), self.in_dev, &self.sources)
            == (other.inside(), other.in_dev, &other.sources)
    }

    /// Its slot and settings.
    #[inline]
    pub const fn terms(&self) -> &Terms {
        &self.terms
    }

    fn is_for(&self, src: u32) -> bool {
        self.sources.is_empty() || self.sources.iter().any(|sources| sources.contains(&src))
    }

    fn admits(&self, src: u32, in_dev: EthPortId) -> bool {
        self.is_for(src) && self.in_dev.is_none_or(|dev| dev == in_dev)
    }
}

/// Ports of one address and protocol that the same forwards are on.
#[derive(Clone, Debug)]
struct Span {
    address: u32,
    proto: u8,
    first: u16,
    last: u16,
    /// In their order.
    forwards: Box<[u32]>,
}

/// All port forwards.
#[derive(Clone, Debug)]
pub(super) struct Forwards {
    all: Box<[Forward]>,
    /// In order of address, protocol and ports; they do not overlap.
    spans: Box<[Span]>,
    by_slot: Box<[(Slot, u32)]>,
}

impl Forwards {
    pub(super) fn new(configs: Vec<ForwardConfig>) -> Self {
        let all: Box<[Forward]> = configs.into_iter().map(Forward::new).collect();
        let mut by_slot: Vec<_> =
            all.iter().enumerate().map(|(n, forward)| (forward.terms.slot(), n as u32)).collect();
        by_slot.sort_unstable();
        let groups: BTreeSet<(u32, u8)> =
            all.iter().map(|forward| (forward.address, forward.proto)).collect();
        let spans = groups.into_iter().flat_map(|group| spans(&all, group)).collect();
        Self { all, spans, by_slot: by_slot.into() }
    }

    pub(super) fn all(&self) -> &[Forward] {
        &self.all
    }

    #[inline]
    fn span(&self, address: u32, l4_port: u16, proto: u8) -> Option<&Span> {
        let wanted = (address, proto, l4_port);
        let at = self.spans.partition_point(|s| (s.address, s.proto, s.first) <= wanted);
        let span = self.spans.get(at.checked_sub(1)?)?;
        let fits = span.address == address && span.proto == proto && l4_port <= span.last;
        fits.then_some(span)
    }

    #[inline]
    fn of_span<'a>(&'a self, span: &'a Span) -> impl Iterator<Item = &'a Forward> {
        span.forwards.iter().filter_map(|at| self.all.get(*at as usize))
    }

    #[inline]
    pub(super) fn find(&self, key: &FlowKey, in_dev: EthPortId) -> Option<&Forward> {
        let span = self.span(key.dst, key.dport, key.proto)?;
        self.of_span(span).find(|forward| forward.admits(key.src, in_dev))
    }

    /// The one that a packet is of; if it may use none as it comes, what its conn may have come by: an error
    /// about that, or a packet of it, may take another interface.
    #[inline]
    pub(super) fn towards(&self, key: &FlowKey, in_dev: EthPortId) -> Option<&Forward> {
        let span = self.span(key.dst, key.dport, key.proto)?;
        let all = || self.of_span(span);
        let admits = all().find(|forward| forward.admits(key.src, in_dev));
        admits.or_else(|| all().find(|forward| forward.is_for(key.src))).or_else(|| all().next())
    }

    pub(super) fn on_all(
        &self,
        address: u32,
        l4_port: u16,
        proto: u8,
    ) -> impl Iterator<Item = &Forward> {
        self.span(address, l4_port, proto).into_iter().flat_map(|span| self.of_span(span))
    }

    /// Address, protocol and ports of each span.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (u32, u8, RangeInclusive<u16>)> + '_ {
        self.spans.iter().map(|span| (span.address, span.proto, span.first..=span.last))
    }

    /// The first forward that is on an endpoint, whoever may use it.
    pub(super) fn on(&self, address: u32, l4_port: u16, proto: u8) -> Option<&Forward> {
        let first = *self.span(address, l4_port, proto)?.forwards.first()?;
        self.all.get(first as usize)
    }

    #[inline]
    pub(super) fn is_on(&self, address: u32, l4_port: u16, proto: u8) -> bool {
        self.span(address, l4_port, proto).is_some()
    }

    pub(super) fn of(&self, slot: Slot) -> Option<&Forward> {
        let at = self.by_slot.binary_search_by_key(&slot, |entry| entry.0).ok()?;
        self.by_slot.get(at).and_then(|entry| self.all.get(entry.1 as usize))
    }
}

/// The spans of one address and protocol, cut wherever a forward begins or ends.
fn spans(all: &[Forward], (address, proto): (u32, u8)) -> Vec<Span> {
    let of_group = || {
        let numbered = all.iter().enumerate();
        numbered.filter(move |(_, f)| f.address == address && f.proto == proto)
    };
    let cuts: BTreeSet<u32> = of_group()
        .flat_map(|(_, f)| [u32::from(*f.l4_ports.start()), u32::from(*f.l4_ports.end()) + 1])
        .collect();
    let ends = cuts.iter().skip(1);
    let pieces = cuts.iter().zip(ends).map(|(&first, &end)| (first as u16, (end - 1) as u16));
    let pieces = pieces.map(|(first, last)| {
        let covering = of_group().filter(|(_, f)| f.l4_ports.contains(&first));
        let forwards = covering.map(|(n, _)| n as u32).collect();
        Span { address, proto, first, last, forwards }
    });
    pieces.filter(|span| !span.forwards.is_empty()).collect()
}

/// Endpoints whose replies name clients' own addresses.
#[derive(Clone, Debug)]
pub(super) struct Servers(Box<[(u32, u16, u8)]>);

impl Servers {
    pub(super) fn new(mut all: Vec<(u32, u16, u8)>) -> Self {
        all.sort_unstable();
        all.dedup();
        Self(all.into())
    }

    #[inline]
    pub(super) fn has(&self, address: u32, l4_port: u16, proto: u8) -> bool {
        self.0.binary_search(&(address, l4_port, proto)).is_ok()
    }
}
