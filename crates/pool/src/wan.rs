//! Ports of WAN IPs, each for one inside endpoint only (RFC 4787 REQ-3, RFC 5382 REQ-7).
//!
//! Other than a LIP's, a port of a WAN IP is open to any remote, so it cannot serve two. A worker
//! owns whole classes of ports of each address; they are bit maps, even and odd ports apart. A port
//! that is given back rests, so that nobody gets what was meant for the one before (RFC 6888 REQ-8).

mod map;
mod rests;
#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;

use types::{ClassSet, Now, Proto};

use crate::group::Usage;
use crate::hash::Secrets;
use map::{Layout, Map, Place};
use rests::{Rest, Rests};

/// Ports below it are a range of their own (RFC 4787 REQ-3 a).
const WELL_KNOWN_END: u16 = 1_024;

/// The size of one worker's WAN ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WanConfig {
    /// The classes of ports that are this worker's.
    pub classes: ClassSet,
    /// Places for addresses.
    pub max_addresses: u16,
    /// Ports that rest at once; if there are more, the one that would end first ends its rest early.
    pub max_resting: u32,
    /// Secret of the random order (RFC 6888 REQ-15 asks for ports that are hard to guess).
    pub seed: [u64; 2],
}

/// In what order ports are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The next free one after a random one (RFC 6056 §3.3.1).
    #[default]
    Random,
    /// One after the other.
    Sequential,
}

/// Which port is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// The inside port or identifier, whose parity and range may be kept.
    pub like: u16,
    /// The ports to choose from.
    pub range: RangeInclusive<u16>,
    /// In what order.
    pub order: Order,
    /// Even for even, odd for odd (RFC 4787 REQ-4), or none at all.
    pub keep_parity: bool,
    /// Below 1024 for below 1024 and the others for the others (RFC 4787 REQ-3 a), as far as the
    /// range has any.
    pub keep_range: bool,
}

impl Want {
    /// Bounds of the range, the upper one included; `None` if it is empty.
    fn bounds(&self) -> Option<(u16, u16)> {
        let (first, last) = (*self.range.start(), *self.range.end());
        let (low, high) = if self.like < WELL_KNOWN_END {
            (first, last.min(WELL_KNOWN_END - 1))
        } else {
            (first.max(WELL_KNOWN_END), last)
        };
        let (first, last) =
            if self.keep_range && low <= high { (low, high) } else { (first, last) };
        (first <= last).then_some((first, last))
    }

    /// Whether the port is to be odd; and what else will do.
    #[inline]
    const fn parities(&self, drawn: u64) -> (bool, Option<bool>) {
        if self.keep_parity {
            (self.like & 1 != 0, None)
        } else {
            (drawn & 1 != 0, Some(drawn & 1 == 0))
        }
    }
}

/// Why a port is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WanError {
    /// Every port that would do is taken, rests or is reserved.
    #[error("no free port on this address")]
    Exhausted,
    /// The port asked for is taken.
    #[error("the port is taken")]
    Taken,
    /// The port asked for rests.
    #[error("the port rests")]
    Resting,
    /// The port asked for is kept for a port forward.
    #[error("the port is reserved")]
    Reserved,
    /// The port asked for is leased for some remotes.
    #[error("the port is leased for some remotes")]
    Shared,
    /// The port asked for is of a class that is not this worker's.
    #[error("the port is not this worker's")]
    NotOurs,
    /// Nothing stands at this place.
    #[error("there is no such address")]
    NoAddress,
}

/// One worker's ports of one address; control makes it, the worker gives it back when it is gone.
#[derive(Clone, Debug)]
pub struct AddressPorts {
    classes: ClassSet,
    /// TCP, UDP, ICMP identifiers.
    maps: [Map; 3],
}

impl AddressPorts {
    /// All ports of these classes, free.
    pub fn new(classes: ClassSet) -> Self {
        Self { classes, maps: std::array::from_fn(|_| Map::new(classes)) }
    }

    /// Bytes that it takes.
    pub const fn bytes(classes: ClassSet) -> usize {
        size_of::<Self>() + 3 * 4 * classes.count() as usize * 512 / 8
    }
}

const fn map_index(proto: Proto) -> usize {
    match proto {
        Proto::Tcp => 0,
        Proto::Udp => 1,
        Proto::Icmp => 2,
    }
}

struct Address {
    ports: Option<Box<AddressPorts>>,
    /// Counts what stood here, so that rests of another address are told apart.
    generation: u16,
}

/// The ports of WAN IPs that one worker has taken. Addresses stand at places from 0.
pub struct WanPorts {
    layout: Layout,
    addresses: Box<[Address]>,
    resting: Rests,
    secrets: Secrets,
    drawn: u64,
    rests_cut_short: u64,
}

impl WanPorts {
    /// Without any address; nothing is allocated later.
    pub fn new(config: &WanConfig) -> Self {
        let none = || Address { ports: None, generation: 0 };
        Self {
            layout: Layout::new(config.classes),
            addresses: (0..config.max_addresses).map(|_| none()).collect(),
            resting: Rests::new(config.max_resting),
            secrets: Secrets::new(config.seed),
            drawn: 0,
            rests_cut_short: 0,
        }
    }

    /// Bytes that [`WanPorts::new`] reserves for rests.
    pub const fn reserved_bytes(max_resting: u32) -> u64 {
        Rests::reserved_bytes(max_resting)
    }

    /// The classes that are this worker's.
    pub const fn classes(&self) -> ClassSet {
        self.layout.classes()
    }

    /// Puts an address at a place that has none.
    ///
    /// # Errors
    /// The ports come back if the place is taken or none, or if they are of other classes.
    pub fn add(&mut self, at: u16, ports: Box<AddressPorts>) -> Result<(), Box<AddressPorts>> {
        let fits = ports.classes == self.classes();
        match self.addresses.get_mut(usize::from(at)) {
            Some(address) if address.ports.is_none() && fits => {
                address.ports = Some(ports);
                address.generation = address.generation.wrapping_add(1);
                Ok(())
            }
            _ => Err(ports),
        }
    }

    /// Takes an address out; what is still taken of it needs not be given back.
    pub fn remove(&mut self, at: u16) -> Option<Box<AddressPorts>> {
        self.addresses.get_mut(usize::from(at))?.ports.take()
    }

    /// Asks for where the next random port will be searched for; `ahead` others will be taken before.
    #[inline]
    pub fn prefetch(&self, at: u16, proto: Proto, want: &Want, ahead: u32) {
        let (Some((first, last)), Some(map)) = (want.bounds(), self.map(at, proto)) else { return };
        let drawn = self.draw(self.drawn.wrapping_add(1 + u64::from(ahead)));
        let parities = want.parities(drawn);
        let search = Search { map, layout: &self.layout, first, last, parities };
        map.prefetch(search.random(drawn));
    }

    /// The port that a call of [`WanPorts::take`] in random order is going to take if `ahead` others come before: a
    /// guess, as what those take is not known.
    #[inline]
    pub fn peek(&self, at: u16, proto: Proto, want: &Want, ahead: u32) -> Option<u16> {
        let (first, last) = want.bounds()?;
        let map = self.map(at, proto)?;
        let drawn = self.draw(self.drawn.wrapping_add(1 + u64::from(ahead)));
        let parities = want.parities(drawn);
        let search = Search { map, layout: &self.layout, first, last, parities };
        search.after_random(drawn).map(|place| self.layout.l4_port(place))
    }

    /// Asks for what giving a port back reads first.
    #[inline]
    pub fn prefetch_port(&self, at: u16, proto: Proto, l4_port: u16) {
        if let Some((map, place)) = self.map(at, proto).zip(self.layout.place(l4_port)) {
            map.prefetch(place);
        }
    }

    #[inline]
    fn draw(&self, count: u64) -> u64 {
        self.secrets.chunk(count as u32, (count >> 32) as u16)
    }

    /// Takes a free port. The cost is the same for the first one and the last one.
    ///
    /// # Errors
    /// [`WanError::Exhausted`] and [`WanError::NoAddress`].
    #[inline]
    pub fn take(&mut self, at: u16, proto: Proto, want: &Want) -> Result<u16, WanError> {
        let (first, last) = want.bounds().ok_or(WanError::Exhausted)?;
        self.drawn = self.drawn.wrapping_add(1);
        let drawn = self.draw(self.drawn);
        let Self { layout, addresses, .. } = self;
        let map = map_mut(addresses, at, proto).ok_or(WanError::NoAddress)?;
        let parities = want.parities(drawn);
        let search = Search { map, layout, first, last, parities };
        let place = match want.order {
            Order::Random => search.after_random(drawn),
            Order::Sequential => search.after_cursor(),
        };
        let place = place.ok_or(WanError::Exhausted)?;
        let l4_port = layout.l4_port(place);
        map.occupy(place);
        map.cursor = u32::from(l4_port) + 1;
        Ok(l4_port)
    }

    /// Takes this very port, for a conn that comes from elsewhere.
    ///
    /// # Errors
    /// All but [`WanError::Exhausted`].
    pub fn take_exact(&mut self, at: u16, proto: Proto, l4_port: u16) -> Result<(), WanError> {
        let place = self.layout.place(l4_port).ok_or(WanError::NotOurs)?;
        let map = map_mut(&mut self.addresses, at, proto).ok_or(WanError::NoAddress)?;
        if map.is_taken(place) {
            return Err(WanError::Taken);
        }
        if map.is_resting(place) {
            return Err(WanError::Resting);
        }
        if map.is_reserved(place) {
            return Err(WanError::Reserved);
        }
        if map.is_shared(place) {
            return Err(WanError::Shared);
        }
        map.occupy(place);
        Ok(())
    }

    /// Gives a port back, to be taken again at once or, with `rest_until_ms`, from that tick on.
    ///
    /// False if the port is not taken; nothing has changed then.
    #[inline]
    pub fn give_back(
        &mut self,
        at: u16,
        proto: Proto,
        l4_port: u16,
        rest_until_ms: Option<u32>,
    ) -> bool {
        let Some(place) = self.layout.place(l4_port) else { return false };
        let rest_until_ms = rest_until_ms.filter(|_| self.resting.has_room());
        if !self.map(at, proto).is_some_and(|map| map.is_taken(place)) {
            return false;
        }
        if rest_until_ms.is_some() && self.resting.is_full() {
            let first = self.resting.pop();
            self.end_rest(first);
            self.rests_cut_short += 1;
        }
        if let Some(map) = map_mut(&mut self.addresses, at, proto) {
            map.give_back(place, rest_until_ms.is_some());
        }
        let generation = self.addresses.get(usize::from(at)).map_or(0, |a| a.generation);
        if let Some(until_ms) = rest_until_ms {
            self.resting.push(Rest { until_ms, address: at, generation, l4_port, proto });
        }
        true
    }

    /// Ends the rests that are over, at most `budget` of them; how many there were.
    pub fn tick(&mut self, now: Now, budget: usize) -> usize {
        let mut ended = 0;
        while ended < budget
            && let Some(rest) = self.resting.pop_over(now)
        {
            self.end_rest(Some(rest));
            ended += 1;
        }
        ended
    }

    fn end_rest(&mut self, rest: Option<Rest>) {
        let Some(rest) = rest else { return };
        let Some(place) = self.layout.place(rest.l4_port) else { return };
        let same = |address: &Address| address.generation == rest.generation;
        if self.addresses.get(usize::from(rest.address)).is_some_and(same)
            && let Some(map) = map_mut(&mut self.addresses, rest.address, rest.proto)
        {
            map.end_rest(place);
        }
    }

    /// Keeps a port for a port forward, or gives it free for mappings again. One that is taken stays
    /// so until it is given back. False if the port or its address is not here.
    pub fn reserve(&mut self, at: u16, proto: Proto, l4_port: u16, reserved: bool) -> bool {
        let Some(place) = self.layout.place(l4_port) else { return false };
        let map = map_mut(&mut self.addresses, at, proto);
        map.map(|map| map.reserve(place, reserved)).is_some()
    }

    /// True if a port may be leased for one remote: it is here, and neither a mapping nor a port forward has it.
    #[inline]
    pub fn is_open(&self, at: u16, proto: Proto, l4_port: u16) -> bool {
        let place = self.layout.place(l4_port);
        place.zip(self.map(at, proto)).is_some_and(|(place, map)| map.is_open(place))
    }

    /// Keeps a port from mappings as long as it is leased for remotes, each for itself: what came to it might be meant
    /// for either.
    #[inline]
    pub fn share(&mut self, at: u16, proto: Proto, l4_port: u16, shared: bool) {
        let Some(place) = self.layout.place(l4_port) else { return };
        if let Some(map) = map_mut(&mut self.addresses, at, proto) {
            map.share(place, shared);
        }
    }

    /// Counts a taken port that stands for a remote, or one less.
    pub fn count_led_in(&mut self, at: u16, proto: Proto, more: bool) {
        if let Some(map) = map_mut(&mut self.addresses, at, proto) {
            map.led_in = if more { map.led_in + 1 } else { map.led_in.saturating_sub(1) };
        }
    }

    /// Taken ports of an address that stand for remotes.
    #[inline]
    pub fn led_in(&self, at: u16, proto: Proto) -> u32 {
        self.map(at, proto).map_or(0, |map| map.led_in)
    }

    /// What is taken and rests of an address.
    pub fn usage(&self, at: u16, proto: Proto) -> Usage {
        self.map(at, proto)
            .map(|map| Usage { taken: map.taken, resting: map.resting })
            .unwrap_or_default()
    }

    /// Ports of an address that are this worker's and not reserved.
    pub fn capacity(&self, at: u16, proto: Proto) -> u32 {
        self.map(at, proto).map_or(0, Map::capacity)
    }

    /// Ports that rest, of all addresses.
    pub fn resting(&self) -> usize {
        self.resting.len()
    }

    /// Rests that ended before their time because too many ports rested.
    pub const fn rests_cut_short(&self) -> u64 {
        self.rests_cut_short
    }

    fn map(&self, at: u16, proto: Proto) -> Option<&Map> {
        self.addresses.get(usize::from(at))?.ports.as_ref()?.maps.get(map_index(proto))
    }
}

#[inline]
fn map_mut(addresses: &mut [Address], at: u16, proto: Proto) -> Option<&mut Map> {
    addresses.get_mut(usize::from(at))?.ports.as_mut()?.maps.get_mut(map_index(proto))
}

/// The upper half of a number, scaled to as many as there are.
#[inline]
const fn scaled(drawn: u64, (from, to): (u32, u32)) -> u32 {
    from + (((drawn >> 32) * to.saturating_sub(from) as u64) >> 32) as u32
}

/// A search for a free port from `first` to `last`.
struct Search<'a> {
    map: &'a Map,
    layout: &'a Layout,
    first: u16,
    last: u16,
    /// Whether odd; and what else will do.
    parities: (bool, Option<bool>),
}

impl Search<'_> {
    /// The range among the owned ports of a parity.
    #[inline]
    fn bounds(&self, odd: bool) -> (u32, u32) {
        let end = self.layout.below(u32::from(self.last) + 1, odd);
        (self.layout.below(self.first.into(), odd), end)
    }

    /// Where a search begins.
    #[inline]
    fn random(&self, drawn: u64) -> Place {
        let odd = self.parities.0;
        Place { odd, at: scaled(drawn, self.bounds(odd)) }
    }

    fn after_random(&self, drawn: u64) -> Option<Place> {
        let search = |odd| {
            let (from, to) = self.bounds(odd);
            let at = scaled(drawn, (from, to));
            self.map.next_free(odd, at, to).or_else(|| self.map.next_free(odd, from, at))
        };
        let (odd, other) = self.parities;
        search(odd).or_else(|| search(other?))
    }

    fn after_cursor(&self) -> Option<Place> {
        self.lowest_from(self.map.cursor).or_else(|| self.lowest_from(0))
    }

    /// The lowest free port not below this number.
    fn lowest_from(&self, l4_port: u32) -> Option<Place> {
        let search = |odd| {
            let (from, to) = self.bounds(odd);
            self.map.next_free(odd, from.max(self.layout.below(l4_port, odd)), to)
        };
        let (odd, other) = self.parities;
        let found = search(odd).into_iter().chain(other.and_then(search));
        found.min_by_key(|&place| self.layout.l4_port(place))
    }
}
