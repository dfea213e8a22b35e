//! The compiled addresses and routes that workers read.

use std::collections::BTreeSet;
use std::net::IpAddr;

use types::{Address as _, EthPortId};

use crate::compile;
use crate::config::{FibConfig, FibError, Role, RouteKind};
use crate::next_hop::{NextHopId, NextHops};
use crate::number::sealed::Family;
use crate::number::{IpNumber, Match, by_family};
use crate::owners::{Owner, Owners};

/// Where packets to a prefix go. Equal ones are stored once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteEntry<A = u32> {
    /// To others, or to ourselves.
    pub kind: RouteKind,
    /// Where out.
    pub iface: EthPortId,
    /// Largest packet in bytes: the route's, not above the interface's.
    pub mtu: u16,
    /// Who passes it on; `None`: the destination is on link.
    pub gateway: Option<A>,
    /// Source of what we send by ourselves: the route's hint, else the interface's own address of
    /// the prefix that holds the next hop, else the interface's primary one.
    pub src: Option<A>,
}

impl<A: Copy> RouteEntry<A> {
    /// The address whose Ethernet address a packet to `dst` gets.
    #[inline(always)]
    pub fn target(&self, dst: A) -> A {
        match self.gateway {
            Some(gateway) => gateway,
            None => dst,
        }
    }
}

/// An immutable compiled set of addresses and routes of both families.
///
/// What is asked per packet costs one probe of a table ([`Fib::owner`]), and of routes ([`Fib::route`])
/// four loads for IPv4 and as many probes for IPv6 as the logarithm of the count of different prefix
/// lengths; nothing here allocates or locks after [`Fib::new`].
#[derive(Debug)]
pub struct Fib {
    pub(crate) generation: u16,
    /// By interface number.
    pub(crate) links: Box<[Option<Link>]>,
    pub(crate) v4: Part<u32>,
    pub(crate) v6: Part<u128>,
}

/// What is the same for both families of an interface.
#[derive(Debug)]
pub struct Link {
    pub name: String,
    pub mtu: u16,
}

/// Addresses and routes of one family.
#[derive(Debug)]
pub struct Part<A: Family> {
    /// All but link-local ones.
    pub owners: Owners<A>,
    pub routes: A::Routes,
    /// Leaf `n` of the routes is entry `n - 1`.
    pub entries: Box<[RouteEntry<A>]>,
    /// That of the route to everything.
    pub default: Option<RouteEntry<A>>,
    /// There are routes of kind [`RouteKind::Local`] besides our addresses themselves.
    pub local_prefixes: bool,
    /// By interface number.
    pub links: Box<[LinkPart<A>]>,
    /// Sorted.
    pub gateways: Box<[(EthPortId, A)]>,
    pub mtu_floor: u16,
}

/// What an interface has of one family.
#[derive(Debug)]
pub struct LinkPart<A> {
    pub primary: Option<A>,
    /// One for each connected prefix.
    pub connected: Vec<Connected<A>>,
    /// The first address given, in whatever role.
    pub any: Option<A>,
    /// Link-local addresses, the one that we speak from first.
    pub link_local: Vec<(A, Owner)>,
}

impl<A> Default for LinkPart<A> {
    fn default() -> Self {
        Self { primary: None, connected: Vec::new(), any: None, link_local: Vec::new() }
    }
}

/// A prefix on link and the address of ours in it that comes first, an interface's own before others.
#[derive(Debug)]
pub struct Connected<A> {
    pub network: A,
    pub prefix_len: u8,
    pub address: A,
    pub role: Role,
}

impl<A: IpNumber> LinkPart<A> {
    /// The connected prefix with `address` in it, the longest of several.
    pub fn connected(&self, address: A) -> Option<&Connected<A>> {
        let holds =
            |connected: &&Connected<A>| address.prefix(connected.prefix_len) == connected.network;
        self.connected.iter().filter(holds).max_by_key(|connected| connected.prefix_len)
    }

    /// True for the highest and the lowest address of a connected prefix, if they are broadcasts.
    #[inline]
    pub fn is_broadcast(&self, address: A) -> bool {
        let of = |connected: &Connected<A>| {
            address.is_broadcast_of(connected.network, connected.prefix_len)
        };
        self.connected.iter().any(of)
    }

    /// Source of what we send by ourselves to `target` on this link.
    pub fn source(&self, target: A) -> Option<A> {
        let near = self.connected(target).filter(|connected| connected.role == Role::Local);
        near.map(|connected| connected.address).or(self.primary)
    }

    fn link_local(&self) -> Option<A> {
        self.link_local.first().map(|(address, _)| *address)
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

    /// Whose address this is; `None` if it is not ours, or link-local.
    #[inline(always)]
    pub fn owner<A: IpNumber>(&self, dst: A) -> Option<Owner> {
        let part = A::part(self);
        match part.owners.find(dst) {
            None if part.local_prefixes => self.local_owner(dst),
            owner => owner,
        }
    }

    /// As whose address one counts that is in the prefix of a local route.
    #[cold]
    fn local_owner<A: IpNumber>(&self, dst: A) -> Option<Owner> {
        let route = self.route(dst).filter(|route| route.kind == RouteKind::Local)?;
        Some(Owner { role: Role::Local, iface: route.iface, local: true, answers: true })
    }

    /// Whose address this is for what came in on `iface`: of link-local ones, which may be on several
    /// interfaces, the one there.
    #[inline]
    pub fn owner_on<A: IpNumber>(&self, iface: EthPortId, dst: A) -> Option<Owner> {
        if !dst.is_link_local() {
            return self.owner(dst);
        }
        let known = self.part_of::<A>(iface)?.link_local.iter().find(|known| known.0 == dst);
        known.map(|(_, owner)| *owner)
    }

    /// The same for an address of either family.
    pub fn owner_of(&self, iface: EthPortId, address: IpAddr) -> Option<Owner> {
        by_family!(address, number => self.owner_on(iface, number))
    }

    /// True if a question for `target` that came in on `iface` is to be answered: it is ours, and on
    /// that interface.
    #[inline]
    pub fn answers<A: IpNumber>(&self, iface: EthPortId, target: A) -> bool {
        self.owner_on(iface, target).is_some_and(|owner| owner.iface == iface && owner.answers)
    }

    /// True for the limited broadcast and for those of the interface's connected prefixes, the
    /// all-zeros form included. IPv6 has none.
    #[inline]
    pub fn is_broadcast<A: IpNumber>(&self, iface: EthPortId, address: A) -> bool {
        address.is_limited_broadcast()
            || self.part_of(iface).is_some_and(|link| link.is_broadcast(address))
    }

    /// The longest match for `dst`. Our own addresses match as [`RouteKind::Local`]; link-local ones do
    /// not match.
    #[inline]
    pub fn route<A: IpNumber>(&self, dst: A) -> Option<&RouteEntry<A>> {
        let part = A::part(self);
        part.entries.get((part.routes.find(dst) as usize).wrapping_sub(1))
    }

    /// True if packets by this route go where the default route sends all else.
    #[inline]
    pub fn is_as_default<A: IpNumber>(&self, route: &RouteEntry<A>) -> bool {
        A::part(self).default.as_ref() == Some(route)
    }

    /// The next hop of a packet to `dst` by `route`; [`NextHopId::NONE`] if control has to be asked
    /// to resolve `route.target(dst)` on `route.iface`.
    #[inline]
    pub fn next_hop<A: IpNumber>(
        &self,
        next_hops: &NextHops,
        route: &RouteEntry<A>,
        dst: A,
    ) -> NextHopId {
        next_hops.find(route.iface, route.target(dst))
    }

    /// A packet that is no longer than this (bytes) fits every IPv4 route and every interface; for longer
    /// ones the route's own MTU has to be looked up.
    #[inline(always)]
    pub fn mtu_floor(&self) -> u16 {
        self.v4.mtu_floor
    }

    /// The same of a family.
    #[inline(always)]
    pub fn mtu_floor_of<A: IpNumber>(&self) -> u16 {
        A::part(self).mtu_floor
    }

    /// The interface's MTU in bytes.
    #[inline]
    pub fn mtu(&self, iface: EthPortId) -> Option<u16> {
        self.link(iface).map(|link| link.mtu)
    }

    /// The interface's own primary address, if it has one.
    pub fn primary<A: IpNumber>(&self, iface: EthPortId) -> Option<A> {
        self.part_of(iface)?.primary
    }

    /// The link-local address that we speak from on an interface; one without IPv6 has none.
    pub fn link_local(&self, iface: EthPortId) -> Option<u128> {
        self.part_of::<u128>(iface)?.link_local()
    }

    /// Source of ICMP errors sent out of `iface`: its own primary address, else that of the first
    /// interface that has one (RFC 1812 §4.3.2.4, RFC 4443 §2.2). Never a VIP, LIP or WAN IP that is only
    /// that, nor a link-local address, which would not come back from elsewhere.
    pub fn icmp_source<A: IpNumber>(&self, iface: EthPortId) -> Option<A> {
        let own = self.primary(iface);
        own.or_else(|| A::part(self).links.iter().find_map(|link| link.primary))
    }

    /// Source of questions for `target` on `iface`: an address of the target's own prefix where there is
    /// one, an interface address before others, then any of the interface's. A link-local target is asked
    /// from the link-local address.
    pub fn asking_source<A: IpNumber>(&self, iface: EthPortId, target: A) -> Option<A> {
        let link = self.part_of::<A>(iface)?;
        if target.is_link_local() {
            return link.link_local();
        }
        let near = link.connected(target).map(|connected| connected.address);
        near.or(link.primary).or(link.any).or_else(|| link.link_local())
    }

    /// True if `address` may be a neighbour on `iface`: reached there without a gateway, or a gateway
    /// itself, or link-local where IPv6 is spoken; not ours and no broadcast.
    pub fn is_on_link<A: IpNumber>(&self, iface: EthPortId, address: A) -> bool {
        if self.is_broadcast(iface, address)
            || address.unusable().is_some()
            || self.owner_on(iface, address).is_some()
        {
            return false;
        }
        if address.is_link_local() {
            return self.part_of::<A>(iface).is_some_and(|link| !link.link_local.is_empty());
        }
        let direct = |route: &RouteEntry<A>| route.iface == iface && route.gateway.is_none();
        A::part(self).gateways.binary_search(&(iface, address)).is_ok()
            || self.route(address).is_some_and(direct)
    }

    /// The same for an address of either family.
    pub fn has_neighbour(&self, iface: EthPortId, address: IpAddr) -> bool {
        by_family!(address, number => self.is_on_link(iface, number))
    }

    /// All our addresses, in no order; local prefixes are not listed.
    pub fn addresses(&self) -> impl Iterator<Item = (IpAddr, Owner)> + '_ {
        let v4 = self.v4.owners.iter().map(|(address, owner)| (address.to_ip(), owner));
        let v6 = self.v6.owners.iter();
        let link_local = self.v6.links.iter().flat_map(|link| link.link_local.iter().copied());
        v4.chain(v6.chain(link_local).map(|(address, owner)| (address.to_ip(), owner)))
    }

    /// The addresses that answer, and do not in `older` on the same interface: to be announced.
    pub fn addresses_since(&self, older: &Self) -> impl Iterator<Item = (IpAddr, EthPortId)> {
        self.answering().filter_map(|(address, owner)| {
            let before = older.owner_listed(owner.iface, address).filter(|owner| owner.answers);
            (before.map(|owner| owner.iface) != Some(owner.iface)).then_some((address, owner.iface))
        })
    }

    /// All our addresses that the links are told of.
    pub fn answering(&self) -> impl Iterator<Item = (IpAddr, Owner)> + '_ {
        self.addresses().filter(|(_, owner)| owner.answers)
    }

    /// Whose an address is, if it is listed; not by a local route.
    fn owner_listed(&self, iface: EthPortId, address: IpAddr) -> Option<Owner> {
        match address {
            IpAddr::V4(address) => self.v4.owners.find(address.to_bits()),
            IpAddr::V6(address) if address.is_unicast_link_local() => {
                self.owner_on(iface, address.to_bits())
            }
            IpAddr::V6(address) => self.v6.owners.find(address.to_bits()),
        }
    }

    /// The solicited-node groups of our addresses: where others ask for them (RFC 4291 §2.7.1).
    pub fn groups(&self) -> BTreeSet<(EthPortId, u128)> {
        let group = |(address, owner): (IpAddr, Owner)| {
            Some((owner.iface, solicited_node(u128::of(address)?)))
        };
        self.addresses().filter_map(group).collect()
    }

    /// The name of an interface, for messages.
    pub fn interface_name(&self, iface: EthPortId) -> Option<&str> {
        self.link(iface).map(|link| link.name.as_str())
    }

    #[inline(always)]
    fn link(&self, iface: EthPortId) -> Option<&Link> {
        self.links.get(usize::from(iface.0))?.as_ref()
    }

    #[inline(always)]
    fn part_of<A: IpNumber>(&self, iface: EthPortId) -> Option<&LinkPart<A>> {
        A::part(self).links.get(usize::from(iface.0))
    }
}

/// The group at which an address is asked for: ff02::1:ff00:0/104 and its last 24 bits (RFC 4291 §2.7.1).
pub const fn solicited_node(address: u128) -> u128 {
    0xff02_0000_0000_0000_0000_0001_ff00_0000 | address & 0xff_ffff
}
