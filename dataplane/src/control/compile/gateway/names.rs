//! Which slot is which rule's, and which place is which WAN IP's.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use types::Slot;

/// The section that a rule is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RuleKind {
    /// It translates sources.
    Snat,
    /// It is a port forward.
    Dnat,
    /// It says what is forwarded; no conn names it.
    Forwarding,
}

/// A rule, as conns are listed under it: `snat/office`, `dnat/ssh`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleName {
    /// The section that it is in.
    pub kind: RuleKind,
    /// Its name there.
    pub name: Arc<str>,
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let section = match self.kind {
            RuleKind::Snat => "snat",
            RuleKind::Dnat => "dnat",
            RuleKind::Forwarding => "forwarding",
        };
        write!(f, "{section}/{}", self.name)
    }
}

/// A WAN IP that workers have ports of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WanName {
    /// The address in host order.
    pub address: u32,
    /// Its place among [`pool::WanPorts`]' addresses.
    pub place: u16,
    /// The rules that have it; none if it is leaving.
    pub rules: Vec<RuleName>,
}

/// The rules and WAN IPs that run.
#[derive(Clone, Debug, Default)]
pub struct GatewayNames {
    rules: HashMap<Slot, RuleName>,
    slots: BTreeMap<RuleName, Slot>,
    wans: BTreeMap<u32, WanName>,
}

impl GatewayNames {
    pub(super) fn add_rule(&mut self, slot: Slot, name: RuleName) {
        self.slots.insert(name.clone(), slot);
        self.rules.insert(slot, name);
    }

    pub(super) fn add_wan(&mut self, wan: WanName) {
        self.wans.insert(wan.address, wan);
    }

    /// The rule of a slot; `None` if it is gone.
    pub fn rule(&self, slot: Slot) -> Option<&RuleName> {
        self.rules.get(&slot)
    }

    /// The slot of a rule. A port forward to several servers has none: it is a service.
    pub fn slot(&self, kind: RuleKind, name: &str) -> Option<Slot> {
        self.slots.get(&RuleName { kind, name: name.into() }).copied()
    }

    /// The slot of a rule by the name that its conns are listed under.
    pub fn listed(&self, name: &str) -> Option<Slot> {
        let (section, name) = name.split_once('/')?;
        let kind = match section {
            "snat" => RuleKind::Snat,
            "dnat" => RuleKind::Dnat,
            _ => return None,
        };
        self.slot(kind, name)
    }

    /// The slots of all rules, by name.
    pub fn slots(&self) -> impl Iterator<Item = (&RuleName, Slot)> {
        self.slots.iter().map(|(name, slot)| (name, *slot))
    }

    /// A WAN IP, by its address in host order.
    pub fn wan(&self, address: u32) -> Option<&WanName> {
        self.wans.get(&address)
    }

    /// All WAN IPs in their order, with those that are leaving.
    pub fn wans(&self) -> impl Iterator<Item = &WanName> {
        self.wans.values()
    }
}
