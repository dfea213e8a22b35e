//! LIPs and VIPs that were configured and are no longer: open conns need them to the end.

use std::collections::BTreeMap;
use std::net::IpAddr;

use fib::{FibConfig, Role};
use types::EthPortId;

/// An address that lingers. One that was configured again in between is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lingerer {
    /// The address.
    pub address: IpAddr,
    /// [`Role::Lip`] or [`Role::Leaving`].
    pub role: Role,
    /// The snapshot that was the first without it.
    since: u64,
}

#[derive(Clone, Copy, Debug)]
struct Linger {
    iface: EthPortId,
    role: Role,
    since: u64,
    /// No conn names it: it goes with the next plan.
    idle: bool,
}

/// True for an address with no subnet around it.
pub(super) fn is_alone(entry: &fib::Address) -> bool {
    entry.prefix_len == if entry.address.is_ipv4() { 32 } else { 128 }
}

/// True for an address that is an interface's alone.
pub(super) fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// The addresses that linger.
#[derive(Clone, Debug, Default)]
pub(super) struct Lingering(BTreeMap<IpAddr, Linger>);

impl super::Compiler {
    /// LIPs and VIPs that are not configured any more, but stay ours for the conns that name them.
    pub fn lingering(&self) -> Vec<Lingerer> {
        self.fib_plan.lingering.list()
    }

    /// No conn names these any more: the next plan leaves them out.
    pub fn let_go(&mut self, idle: &[Lingerer]) {
        self.fib_plan.lingering.let_go(idle);
    }
}

impl Lingering {
    /// What lingers if nothing is configured in the snapshot of this generation: of the running fib all
    /// LIPs, and all that are or may have been VIPs, but the idle ones.
    pub fn next(&self, running: &FibConfig, generation: u64) -> Self {
        let all = running.addresses.iter().filter_map(|entry| {
            // No service is on a link-local address.
            if is_link_local(entry.address) {
                return None;
            }
            let role = match entry.role {
                Role::Lip => Role::Lip,
                Role::Vip | Role::Leaving => Role::Leaving,
                // Its service may have been removed before.
                Role::Local if is_alone(entry) => Role::Leaving,
                Role::Local | Role::WanIp | Role::RoutedWanIp => return None,
            };
            let since = match self.0.get(&entry.address) {
                Some(known) if known.idle => return None,
                Some(known) => known.since,
                None => generation,
            };
            Some((entry.address, Linger { iface: entry.iface, role, since, idle: false }))
        });
        Self(all.collect())
    }

    /// Keeps those that are wanted.
    pub fn retain(&mut self, mut wanted: impl FnMut(IpAddr, EthPortId, Role) -> bool) {
        self.0.retain(|address, entry| wanted(*address, entry.iface, entry.role));
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True if the next plan leaves some out.
    pub fn has_idle(&self) -> bool {
        self.0.values().any(|entry| entry.idle)
    }

    pub fn list(&self) -> Vec<Lingerer> {
        let one = |(address, entry): (&IpAddr, &Linger)| Lingerer {
            address: *address,
            role: entry.role,
            since: entry.since,
        };
        self.0.iter().map(one).collect()
    }

    /// No conn names these any more.
    pub fn let_go(&mut self, idle: &[Lingerer]) {
        for Lingerer { address, since, .. } in idle {
            if let Some(entry) = self.0.get_mut(address).filter(|entry| entry.since == *since) {
                entry.idle = true;
            }
        }
    }
}
