//! LIPs that were configured and are no longer: open conns need them to the end.

use std::collections::BTreeMap;

use fib::{FibConfig, Role};
use types::EthPortId;

/// A LIP that lingers. One that was configured again in between is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LingeringLip {
    /// The address in host order.
    pub address: u32,
    /// The snapshot that was the first without it.
    since: u64,
}

#[derive(Clone, Copy, Debug)]
struct Linger {
    iface: EthPortId,
    since: u64,
    /// No conn names it: it goes with the next plan.
    idle: bool,
}

/// The LIPs that linger, by address in host order.
#[derive(Clone, Debug, Default)]
pub(super) struct Lingering(BTreeMap<u32, Linger>);

impl Lingering {
    /// What lingers if nothing is configured in the snapshot of this generation: all LIPs of the
    /// running fib but the idle ones.
    pub fn next(&self, running: &FibConfig, generation: u64) -> Self {
        let lips = running.addresses.iter().filter(|entry| entry.role == Role::Lip);
        let lips = lips.filter_map(|entry| {
            let since = match self.0.get(&entry.address) {
                Some(known) if known.idle => return None,
                Some(known) => known.since,
                None => generation,
            };
            Some((entry.address, Linger { iface: entry.iface, since, idle: false }))
        });
        Self(lips.collect())
    }

    /// Keeps those that are wanted.
    pub fn retain(&mut self, mut wanted: impl FnMut(u32, EthPortId) -> bool) {
        self.0.retain(|address, lip| wanted(*address, lip.iface));
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True if the next plan leaves some out.
    pub fn has_idle(&self) -> bool {
        self.0.values().any(|lip| lip.idle)
    }

    pub fn list(&self) -> Vec<LingeringLip> {
        let lip =
            |(address, lip): (&u32, &Linger)| LingeringLip { address: *address, since: lip.since };
        self.0.iter().map(lip).collect()
    }

    /// No conn names these any more.
    pub fn let_go(&mut self, idle: &[LingeringLip]) {
        for LingeringLip { address, since } in idle {
            if let Some(lip) = self.0.get_mut(address).filter(|lip| lip.since == *since) {
                lip.idle = true;
            }
        }
    }
}
