//! The compiled addresses and routes that workers read.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use types::EthPortId;

use crate::compile;
use crate::config::{FibConfig, FibError, Role, RouteKind};
use crate::next_hop::{NextHopId, NextHops};
use crate::owners::{Owner, Owners};
use crate::trie::Trie;

/// Where packets to a prefix go. Equal ones are stored once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteEntry {
    /// To others, or to ourselves.
    pub kind: RouteKind,
    /// Where out.
    pub iface: EthPortId,
    /// Largest packet in bytes: the route's, not above the interface's.
    pub mtu: u16,
    /// Who passes it on; `None`: the destination is on link.
    pub gateway: Option<u32>,
    /// Source of what we send by ourselves: the route's hint, else the interface's own address of
    /// the prefix that holds the next hop, else the interface's primary one.
    pub src: Option<u32>,
}

impl RouteEntry {
    /// The address whose Ethernet address a packet to `dst` gets.
    #[inline(always)]
    pub fn target(&self, dst: u32) -> u32 {
        self.gateway.unwrap_or(dst)
    }
}

/// An immutable compiled set of addresses and routes.
///
/// What is asked per packet costs one probe of a table ([`Fib::owner`]) or four loads
/// ([`Fib::route`]); nothing here allocates or locks after [`Fib::new`].
#[derive(Debug)]
pub struct Fib {
    pub(crate) generation: u16,
    pub(crate) owners: Owners,
    pub(crate) trie: Trie,
    /// Leaf `n` of the trie is entry `n - 1`.
    pub(crate) entries: Box<[RouteEntry]>,
    /// There are routes of kind [`RouteKind::Local`] besides our addresses themselves.
    pub(crate) local_prefixes: bool,
    /// By interface number.
    pub(crate) links: Box<[Option<Link>]>,
    /// Sorted.
    pub(crate) gateways: Box<[(EthPortId, u32)]>,
    pub(crate) mtu_floor: u16,
}

/// What an interface has.
#[derive(Debug, Default)]
pub(crate) struct Link {
    pub(crate) name: String,
    pub(crate) mtu: u16,
    pub(crate) primary: Option<u32>,
    /// One for each connected prefix.
    pub(crate) connected: Vec<Connected>,
    /// The first address given, in whatever role.
    pub(crate) any: Option<u32>,
}

/// A prefix on link and the address of ours in it that comes first, an interface's own before others.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) prefix: Ipv4Net,
    pub(crate) address: u32,
    pub(crate) role: Role,
}

impl Link {
    /// The connected prefix with `address` in it, the longest of several.
    pub(crate) fn connected(&self, address: u32) -> Option<&Connected> {
        let address = Ipv4Addr::from(address);
        let holds = self.connected.iter().filter(|connected| connected.prefix.contains(&address));
        holds.max_by_key(|connected| connected.prefix.prefix_len())
    }

    /// True for the highest and the lowest address of a connected prefix, which RFC 1122 §3.3.6 both
    /// takes for broadcasts. Prefixes of 31 bits have none (RFC 3021 §2.2).
    #[inline]
    pub(crate) fn is_broadcast(&self, address: u32) -> bool {
        let address = Ipv4Addr::from(address);
        self.connected.iter().any(|Connected { prefix, .. }| {
            prefix.prefix_len() < 31
                && (address == prefix.broadcast() || address == prefix.network())
        })
    }

    /// Source of what we send by ourselves to `target` on this link.
    pub(crate) fn source(&self, target: u32) -> Option<u32> {
        let near = self.connected(target).filter(|connected| connected.role == Role::Local);
        near.map(|connected| connected.address).or(self.primary)
    }
}

/// The generation after `generation`. 0 is left out: flows that never looked up a next hop have it.
pub const fn next_generation(generation: u16) -> u16 {
    match generation.wrapping_add(1) {
        0 => 1,
        next => next,
    }
}

impl Fib {
    /// Compiles a configuration; `generation` differs from its predecessor's ([`next_generation`]).
    ///
    /// # Errors
    /// If something in the configuration cannot be or contradicts something else.
    pub fn new(config: &FibConfig, generation: u16) -> Result<Self, FibError> {
        compile::compile(config, generation)
    }

    /// What flows cache beside a next hop, to see that it may be outdated. Never 0 if control counts
    /// by [`next_generation`].
    #[inline(always)]
    pub fn generation(&self) -> u16 {
        self.generation
    }

    /// Whose address this is; `None` if it is not ours.
    #[inline(always)]
    pub fn owner(&self, dst: u32) -> Option<Owner> {
        match self.owners.find(dst) {
            None if self.local_prefixes => self.local_owner(dst),
            owner => owner,
        }
    }

    /// As whose address one counts that is in the prefix of a local route.
    #[cold]
    fn local_owner(&self, dst: u32) -> Option<Owner> {
        let route = self.route(dst).filter(|route| route.kind == RouteKind::Local)?;
        Some(Owner { role: Role::Local, iface: route.iface, local: true })
    }

    /// True if a question for `target` that came in on `iface` is to be answered: it is ours, and on
    /// that interface.
    #[inline]
    pub fn answers_arp(&self, iface: EthPortId, target: u32) -> bool {
        self.owner(target).is_some_and(|owner| owner.iface == iface)
    }

    /// True for the limited broadcast and for those of the interface's connected prefixes, the
    /// all-zeros form included.
    #[inline]
    pub fn is_broadcast(&self, iface: EthPortId, address: u32) -> bool {
        address == u32::MAX || self.link(iface).is_some_and(|link| link.is_broadcast(address))
    }

    /// The longest match for `dst`. Our own addresses match as [`RouteKind::Local`].
    #[inline]
    pub fn route(&self, dst: u32) -> Option<&RouteEntry> {
        self.entries.get((self.trie.find(dst) as usize).wrapping_sub(1))
    }

    /// The next hop of a packet to `dst` by `route`; [`NextHopId::NONE`] if control has to be asked
    /// to resolve `route.target(dst)` on `route.iface`.
    #[inline]
    pub fn next_hop(&self, next_hops: &NextHops, route: &RouteEntry, dst: u32) -> NextHopId {
        next_hops.find(route.iface, route.target(dst))
    }

    /// A packet that is no longer than this (bytes) fits every route and interface; for longer ones
    /// the route's own MTU has to be looked up.
    #[inline(always)]
    pub fn mtu_floor(&self) -> u16 {
        self.mtu_floor
    }

    /// The interface's MTU in bytes.
    #[inline]
    pub fn mtu(&self, iface: EthPortId) -> Option<u16> {
        self.link(iface).map(|link| link.mtu)
    }

    /// The interface's own primary address, if it has one.
    pub fn primary(&self, iface: EthPortId) -> Option<u32> {
        self.link(iface)?.primary
    }

    /// Source of ICMP errors sent out of `iface`: its own primary address, else that of the first
    /// interface that has one (RFC 1812 §4.3.2.4). Never a VIP, LIP or WAN IP that is only that.
    pub fn icmp_source(&self, iface: EthPortId) -> Option<u32> {
        let own = self.primary(iface);
        own.or_else(|| self.links.iter().flatten().find_map(|link| link.primary))
    }

    /// Source of ARP requests for `target` on `iface`: an address of the target's own prefix where
    /// there is one, an interface address before others, then any of the interface's.
    pub fn arp_source(&self, iface: EthPortId, target: u32) -> Option<u32> {
        let link = self.link(iface)?;
        let near = link.connected(target).map(|connected| connected.address);
        near.or(link.primary).or(link.any)
    }

    /// True if `address` may be a neighbour on `iface`: reached there without a gateway, or a gateway
    /// itself; not ours and no broadcast.
    pub fn is_on_link(&self, iface: EthPortId, address: u32) -> bool {
        if self.is_broadcast(iface, address) || self.owner(address).is_some() {
            return false;
        }
        let direct = |route: &RouteEntry| route.iface == iface && route.gateway.is_none();
        self.gateways.binary_search(&(iface, address)).is_ok()
            || self.route(address).is_some_and(direct)
    }

    /// All our addresses, in no order; local prefixes are not listed.
    pub fn addresses(&self) -> impl Iterator<Item = (u32, Owner)> + '_ {
        self.owners.iter()
    }

    /// The addresses that `older` does not have on the same interface: to be announced.
    pub fn addresses_since(&self, older: &Self) -> impl Iterator<Item = (u32, EthPortId)> {
        self.addresses().filter_map(|(address, owner)| {
            let before = older.owners.find(address).map(|owner| owner.iface);
            (before != Some(owner.iface)).then_some((address, owner.iface))
        })
    }

    /// The name of an interface, for messages.
    pub fn interface_name(&self, iface: EthPortId) -> Option<&str> {
        self.link(iface).map(|link| link.name.as_str())
    }

    #[inline(always)]
    fn link(&self, iface: EthPortId) -> Option<&Link> {
        self.links.get(usize::from(iface.0))?.as_ref()
    }
}
