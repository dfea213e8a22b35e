//! Mappings: which inside endpoint has which port of a WAN IP, whoever it speaks with.

use types::{KeyedHash, Now, Slot};

use crate::gateway::Filtering;
use crate::subscribers::SubscriberId;
use crate::table::Table;

/// An IPv4 endpoint in host order. For ICMP the port is the identifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint32 {
    /// The address.
    pub address: u32,
    /// The port.
    pub l4_port: u16,
}

impl Endpoint32 {
    /// From both.
    pub const fn new(address: u32, l4_port: u16) -> Self {
        Self { address, l4_port }
    }

    pub(crate) const fn to_bits(self) -> u64 {
        (self.address as u64) << 16 | self.l4_port as u64
    }
}

/// A mapping: its place, until it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MappingId(pub(crate) u32);

/// An inside endpoint and its outside endpoint. It lives while conns use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The inside endpoint.
    pub inside: Endpoint32,
    /// The WAN IP and its port.
    pub outside: Endpoint32,
    /// The rule that it belongs to.
    pub rule: Slot,
    /// Conns that use it, and for which it lives.
    pub conns: u32,
    /// Conns from outside that the inside endpoint has not answered: they keep its place, but without
    /// others they are the last.
    pub unanswered: u16,
    /// Tick of its making, milliseconds.
    pub created_ms: u32,
    /// Whose it is.
    pub subscriber: SubscriberId,
    /// How long its port is to rest, milliseconds.
    pub rest_ms: u32,
    /// Zone of the inside endpoint.
    pub zone: u16,
    /// Place of the WAN IP among the pool's.
    pub place: u16,
    /// IANA protocol number.
    pub proto: u8,
    /// Which remotes may answer.
    pub filtering: Filtering,
    /// It stands for a client of a port forward.
    pub leads_in: bool,
}

/// A remote that conns of a mapping speak with: who may send to it under address-dependent filtering.
struct Peer {
    mapping: MappingId,
    remote: u32,
    conns: u32,
}

/// The mappings of one worker.
pub struct Mappings {
    /// By inside, by outside.
    entries: Table<Mapping, 2>,
    peers: Table<Peer, 1>,
    keyed: KeyedHash,
}

const INSIDE: usize = 0;
const OUTSIDE: usize = 1;

impl Mappings {
    /// For so many mappings and peers of mappings; nothing is allocated later.
    pub fn new(max_mappings: u32, max_peers: u32, seed: [u64; 2]) -> Self {
        Self {
            entries: Table::new(max_mappings),
            peers: Table::new(max_peers),
            keyed: KeyedHash::new(seed),
        }
    }

    /// Bytes that [`Mappings::new`] reserves.
    pub const fn reserved_bytes(max_mappings: u32, max_peers: u32) -> u64 {
        Table::<Mapping, 2>::reserved_bytes(max_mappings)
            + Table::<Peer, 1>::reserved_bytes(max_peers)
    }

    #[inline]
    fn inside_hash(&self, inside: Endpoint32, proto: u8, zone: u16, rule: Slot) -> u64 {
        let rest = u64::from(rule.to_bits()) << 24 | u64::from(zone) << 8 | u64::from(proto);
        self.keyed.hash(inside.to_bits(), rest)
    }

    #[inline]
    fn outside_hash(&self, outside: Endpoint32, proto: u8) -> u64 {
        self.keyed.hash(outside.to_bits(), u64::from(proto) | 1 << 63)
    }

    /// Asks what [`Mappings::find_inside`] reads first into the cache.
    #[inline]
    pub fn prefetch_inside(&self, inside: Endpoint32, proto: u8, zone: u16, rule: Slot) {
        self.entries.prefetch(INSIDE, self.inside_hash(inside, proto, zone, rule));
    }

    /// Asks what [`Mappings::find_outside`] reads first into the cache.
    #[inline]
    pub fn prefetch_outside(&self, outside: Endpoint32, proto: u8) {
        self.entries.prefetch(OUTSIDE, self.outside_hash(outside, proto));
    }

    /// Asks for the mapping of an outside endpoint itself, some time after [`Mappings::prefetch_outside`].
    #[inline]
    pub fn prefetch_mapping(&self, outside: Endpoint32, proto: u8) {
        self.entries.prefetch_first(OUTSIDE, self.outside_hash(outside, proto));
    }

    /// The mapping of an inside endpoint under a rule, on a WAN IP whose place will do. There is one, but for endpoints
    /// that leave by several interfaces' addresses, or whose rule has lost the WAN IP.
    #[inline]
    pub fn find_inside(
        &self,
        inside: Endpoint32,
        proto: u8,
        zone: u16,
        rule: Slot,
        will_do: impl Fn(u16) -> bool,
    ) -> Option<MappingId> {
        let hash = self.inside_hash(inside, proto, zone, rule);
        let found = self.entries.find(INSIDE, hash, |entry| {
            entry.inside == inside
                && entry.proto == proto
                && entry.zone == zone
                && entry.rule == rule
                && will_do(entry.place)
        });
        found.map(MappingId)
    }

    /// The mapping that has an outside endpoint.
    #[inline]
    pub fn find_outside(&self, outside: Endpoint32, proto: u8) -> Option<MappingId> {
        let hash = self.outside_hash(outside, proto);
        let wanted = |entry: &Mapping| entry.outside == outside && entry.proto == proto;
        self.entries.find(OUTSIDE, hash, wanted).map(MappingId)
    }

    /// A mapping.
    #[inline]
    pub fn get(&self, id: MappingId) -> Option<&Mapping> {
        self.entries.get(id.0)
    }

    /// Adds a mapping whose outside endpoint has none; `None` if there is no room.
    pub fn insert(&mut self, mapping: Mapping) -> Option<MappingId> {
        let hashes = self.hashes(&mapping);
        self.entries.insert(hashes, mapping).map(MappingId)
    }

    fn hashes(&self, mapping: &Mapping) -> [u64; 2] {
        let Mapping { inside, outside, proto, zone, rule, .. } = *mapping;
        [self.inside_hash(inside, proto, zone, rule), self.outside_hash(outside, proto)]
    }

    /// One more conn uses it, which speaks with `remote`. False without room to remember the remote.
    pub fn hold(&mut self, id: MappingId, remote: u32) -> bool {
        let Some(filtering) = self.get(id).map(|mapping| mapping.filtering) else { return false };
        if filtering == Filtering::AddressDependent && !self.add_peer(id, remote) {
            return false;
        }
        if let Some(mapping) = self.entries.get_mut(id.0) {
            mapping.conns += 1;
        }
        true
    }

    /// One conn less uses it. The mapping, if that was the last one: it is gone.
    pub fn release(&mut self, id: MappingId, remote: u32) -> Option<Mapping> {
        let mapping = self.entries.get_mut(id.0)?;
        mapping.conns = mapping.conns.saturating_sub(1);
        let mapping = *mapping;
        if mapping.filtering == Filtering::AddressDependent {
            self.remove_peer(id, remote);
        }
        self.drop_unused(id)
    }

    /// One more conn from outside leads to it, or one less that is still unanswered.
    pub(crate) fn count_unanswered(&mut self, id: MappingId, more: bool) {
        if let Some(mapping) = self.entries.get_mut(id.0) {
            mapping.unanswered = match more {
                true => mapping.unanswered.saturating_add(1),
                false => mapping.unanswered.saturating_sub(1),
            };
        }
    }

    /// Removes a mapping that no conn uses.
    pub(crate) fn drop_unused(&mut self, id: MappingId) -> Option<Mapping> {
        let unused = |mapping: &&Mapping| mapping.conns == 0 && mapping.unanswered == 0;
        let mapping = *self.get(id).filter(unused)?;
        let hashes = self.hashes(&mapping);
        self.entries.remove(hashes, id.0)
    }

    #[inline]
    fn find_peer(&self, mapping: MappingId, remote: u32) -> (u64, Option<u32>) {
        let hash = self.keyed.hash(u64::from(mapping.0) << 32 | u64::from(remote), 1 << 62);
        let wanted = |peer: &Peer| peer.mapping == mapping && peer.remote == remote;
        (hash, self.peers.find(0, hash, wanted))
    }

    /// True if a conn of the mapping speaks with this address.
    #[inline]
    pub fn has_peer(&self, mapping: MappingId, remote: u32) -> bool {
        self.find_peer(mapping, remote).1.is_some()
    }

    fn add_peer(&mut self, mapping: MappingId, remote: u32) -> bool {
        let (hash, place) = self.find_peer(mapping, remote);
        match place.and_then(|place| self.peers.get_mut(place)) {
            Some(peer) => {
                peer.conns += 1;
                true
            }
            None => self.peers.insert([hash], Peer { mapping, remote, conns: 1 }).is_some(),
        }
    }

    fn remove_peer(&mut self, mapping: MappingId, remote: u32) {
        let (hash, place) = self.find_peer(mapping, remote);
        let Some(place) = place else { return };
        if let Some(peer) = self.peers.get_mut(place) {
            peer.conns = peer.conns.saturating_sub(1);
            if peer.conns == 0 {
                self.peers.remove([hash], place);
            }
        }
    }

    /// How many there are.
    pub const fn len(&self) -> u32 {
        self.entries.len()
    }

    /// True if there is none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many peers of mappings are remembered.
    pub const fn peers(&self) -> u32 {
        self.peers.len()
    }

    /// The next mapping at or after a place, and where to go on; so that all can be walked in portions
    /// of `budget` places. Those that are made meanwhile may be missed.
    pub fn next(&self, cursor: &mut u32, budget: &mut u32) -> Option<Mapping> {
        while *budget > 0 && *cursor < self.entries.high_water() {
            *budget -= 1;
            *cursor += 1;
            if let Some(mapping) = self.entries.get(*cursor - 1) {
                return Some(*mapping);
            }
        }
        None
    }

    /// How long it has been there, milliseconds.
    pub const fn age_ms(mapping: &Mapping, now: Now) -> u32 {
        now.since(mapping.created_ms)
    }
}
