//! The WAN IPs of a rule.

use types::EthPortId;

/// A WAN IP of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wan {
    /// Its place among [`pool::WanPorts`]' addresses.
    pub place: u16,
    /// The address in host order.
    pub address: u32,
    /// Its share of the subscribers, as against the others'.
    pub weight: u16,
    /// It gets no new mappings.
    pub draining: bool,
    /// It is not here now, but on another node: it gets no new conns either.
    pub withheld: bool,
}

impl Wan {
    pub(super) const fn takes_new(&self) -> bool {
        !self.draining && !self.withheld && self.weight != 0
    }
}

/// Where a rule's WAN IPs come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WanSource {
    /// Any of these.
    Addresses(Vec<Wan>),
    /// The one of the interface that a packet leaves by (masquerade).
    Interface(Vec<(EthPortId, Wan)>),
}
