//! The map from VIP to service: immutable, in shared leaves, so that a change copies little.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use types::{Address, FlowKey, Proto};

use crate::hash::{Use, hash};
use crate::service::Service;

/// Branches of the root, and leaves of a branch: two small arrays are copied for a change.
const FANOUT: usize = 64;
const FANOUT_BITS: u32 = FANOUT.trailing_zeros();

/// Where clients find a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    /// Zone of the VIP.
    pub zone: u16,
    /// Its protocol.
    pub proto: Proto,
    /// The VIP.
    pub address: IpAddr,
    /// The vport.
    pub l4_port: u16,
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.proto, SocketAddr::new(self.address, self.l4_port))?;
        if self.zone != 0 {
            write!(f, " zone {}", self.zone)?;
        }
        Ok(())
    }
}

/// Where a key stands: entries of a leaf are in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place<A> {
    hash: u64,
    address: A,
    /// Zone, port and protocol.
    rest: u64,
}

impl<A: Address> Place<A> {
    #[inline]
    fn new(zone: u16, proto: Proto, address: A, l4_port: u16) -> Self {
        let rest = u64::from(zone) << 24 | u64::from(l4_port) << 8 | proto as u64;
        let bits = address.to_bits();
        let mut place = hash((bits as u64) << 24 ^ rest ^ rest << 32, Use::ServiceMap);
        if A::BITS > 32 {
            place = hash(place ^ (bits >> 40) as u64, Use::ServiceMap);
            place = hash(place ^ (bits >> 104) as u64, Use::ServiceMap);
        }
        Self { hash: place, address, rest }
    }

    fn branch(self) -> usize {
        (self.hash >> (64 - FANOUT_BITS)) as usize
    }

    fn leaf(self) -> usize {
        (self.hash >> (64 - 2 * FANOUT_BITS)) as usize % FANOUT
    }

    fn key(self) -> Option<ServiceKey> {
        Some(ServiceKey {
            zone: (self.rest >> 24) as u16,
            proto: Proto::from_number(self.rest as u8)?,
            address: self.address.to_ip(),
            l4_port: (self.rest >> 8) as u16,
        })
    }
}

#[derive(Clone, Debug)]
struct Leaf<A> {
    places: Vec<Place<A>>,
    services: Vec<Arc<Service>>,
}

impl<A: Address> Leaf<A> {
    fn change(&mut self, place: Place<A>, service: Option<Arc<Service>>) -> isize {
        match (self.places.binary_search(&place), service) {
            (Ok(at), Some(service)) => {
                if let Some(here) = self.services.get_mut(at) {
                    *here = service;
                }
                0
            }
            (Ok(at), None) => {
                self.places.remove(at);
                self.services.remove(at);
                -1
            }
            (Err(at), Some(service)) => {
                self.places.insert(at, place);
                self.services.insert(at, service);
                1
            }
            (Err(_), None) => 0,
        }
    }
}

type Branch<A> = [Arc<Leaf<A>>; FANOUT];

/// The services of one family's VIPs.
#[derive(Clone, Debug)]
struct Map<A> {
    root: Arc<[Arc<Branch<A>>; FANOUT]>,
    len: usize,
}

impl<A> Default for Map<A> {
    fn default() -> Self {
        let leaf = Arc::new(Leaf { places: Vec::new(), services: Vec::new() });
        let branch: Arc<Branch<A>> = Arc::new(std::array::from_fn(|_| leaf.clone()));
        Self { root: Arc::new(std::array::from_fn(|_| branch.clone())), len: 0 }
    }
}

impl<A: Address> Map<A> {
    fn change(&mut self, place: Place<A>, service: Option<Arc<Service>>) {
        let root = Arc::make_mut(&mut self.root);
        let Some(branch) = root.get_mut(place.branch()) else { return };
        let Some(leaf) = Arc::make_mut(branch).get_mut(place.leaf()) else { return };
        let grown = Arc::make_mut(leaf).change(place, service);
        self.len = self.len.saturating_add_signed(grown);
    }

    #[inline]
    fn find(&self, place: Place<A>) -> Option<&Arc<Service>> {
        let leaf = self.root.get(place.branch())?.get(place.leaf())?;
        let at = leaf.places.binary_search(&place).ok()?;
        leaf.services.get(at)
    }

    fn iter(&self) -> impl Iterator<Item = (ServiceKey, &Arc<Service>)> {
        let leaves = self.root.iter().flat_map(|branch| branch.iter());
        leaves
            .flat_map(|leaf| leaf.places.iter().zip(&leaf.services))
            .filter_map(|(place, service)| Some((place.key()?, service)))
    }
}

/// All services by VIP. A clone is cheap; [`Services::with`] gives a changed copy.
#[derive(Clone, Debug, Default)]
pub struct Services {
    v4: Map<u32>,
    v6: Map<u128>,
}

impl Services {
    /// This map with some services put or, with `None`, removed. What does not change is shared: one
    /// change among 100,000 copies two arrays of pointers and some two dozen entries.
    #[must_use]
    pub fn with(
        &self,
        changes: impl IntoIterator<Item = (ServiceKey, Option<Arc<Service>>)>,
    ) -> Self {
        let mut next = self.clone();
        for (key, service) in changes {
            let ServiceKey { zone, proto, address, l4_port } = key;
            match address {
                IpAddr::V4(vip) => {
                    next.v4.change(Place::new(zone, proto, vip.into(), l4_port), service);
                }
                IpAddr::V6(vip) => {
                    next.v6.change(Place::new(zone, proto, vip.into(), l4_port), service);
                }
            }
        }
        next
    }

    /// The service of a key.
    #[inline]
    pub fn find(&self, key: ServiceKey) -> Option<&Arc<Service>> {
        let ServiceKey { zone, proto, address, l4_port } = key;
        match address {
            IpAddr::V4(vip) => self.v4.find(Place::new(zone, proto, vip.into(), l4_port)),
            IpAddr::V6(vip) => self.v6.find(Place::new(zone, proto, vip.into(), l4_port)),
        }
    }

    /// The service that a packet of this key is for.
    #[inline]
    pub fn lookup<A: Address>(&self, key: &FlowKey<A>) -> Option<&Arc<Service>> {
        self.find(ServiceKey {
            zone: key.zone,
            proto: Proto::from_number(key.proto)?,
            address: key.dst.to_ip(),
            l4_port: key.dport,
        })
    }

    /// All services with their keys, in no order that means anything. A service of several VIPs
    /// comes once for each.
    pub fn iter(&self) -> impl Iterator<Item = (ServiceKey, &Arc<Service>)> {
        self.v4.iter().chain(self.v6.iter())
    }

    /// Zone and address of each VIP, each once, in order.
    pub fn vips(&self) -> Vec<(u16, IpAddr)> {
        let mut vips: Vec<_> = self.iter().map(|(key, _)| (key.zone, key.address)).collect();
        vips.sort_unstable();
        vips.dedup();
        vips
    }

    /// Keys in the map.
    pub fn len(&self) -> usize {
        self.v4.len + self.v6.len
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Instant;

    use proptest::prelude::*;
    use types::Slot;

    use super::*;
    use crate::{Server, ServiceSpec, TableCache};

    fn service(number: u32, servers: u32) -> Arc<Service> {
        let spec = ServiceSpec::new(Slot::new(number, 1), format!("s{number}"), Proto::Tcp);
        let servers = (0..servers)
            .map(|i| Server::new(Slot::new(number * servers + i, 1), 0x0a00_0000 + i, 80))
            .collect();
        Arc::new(Service::new(spec, servers, &mut TableCache::default()).unwrap())
    }

    fn key(number: u32) -> ServiceKey {
        let (address, l4_port) = (0xcb00_0000 + number / 7, (number % 7) as u16 + 80);
        // Every other address is an IPv6 one, where bits differ that IPv4 does not have.
        let wide = u128::from(address) << 96 | u128::from(address.reverse_bits());
        let address = if address % 2 == 0 { address.to_ip() } else { wide.to_ip() };
        ServiceKey { zone: 0, proto: Proto::Tcp, address, l4_port }
    }

    #[test]
    fn building_and_changing_many_is_quick() {
        let start = Instant::now();
        let all = Services::default().with((0..10_000).map(|n| (key(n), Some(service(n, 10)))));
        let bulk = start.elapsed();
        assert_eq!((all.len(), all.vips().len()), (10_000, 10_000usize.div_ceil(7)));

        let shared = service(0, 10);
        let large = Services::default().with((0..100_000).map(|n| (key(n), Some(shared.clone()))));
        let start = Instant::now();
        for n in 0..100 {
            let changed = large.with([(key(n), Some(shared.clone()))]);
            assert_eq!(changed.len(), 100_000);
        }
        let each = start.elapsed() / 100;
        // Bounds are far above what is measured (0.1 s and 2 us on two busy cores), for loaded machines.
        assert!(bulk.as_millis() < 1000, "{bulk:?}");
        assert!(each.as_micros() < 500, "{each:?}");
        println!("10,000 services in {bulk:?}; one of 100,000 replaced in {each:?}");
    }

    #[test]
    fn keys_differ_in_every_field() {
        let one = service(1, 1);
        let base = key(1);
        let map = Services::default().with([(base, Some(one))]);
        assert!(map.find(base).is_some());
        for other in [
            ServiceKey { zone: 1, ..base },
            ServiceKey { proto: Proto::Udp, ..base },
            ServiceKey { address: "2001:db8::1".parse().unwrap(), ..base },
            ServiceKey { address: 1_u32.to_ip(), ..base },
            ServiceKey { l4_port: 1, ..base },
        ] {
            assert!(map.find(other).is_none(), "{other}");
        }
        let dst = u32::from_ip(base.address).unwrap();
        let packet = FlowKey { dst, dport: base.l4_port, proto: 6, ..FlowKey::default() };
        assert!(map.lookup(&packet).is_some());
        assert!(map.lookup(&types::FlowKey6::mapped(packet)).is_some(), "as it is in a wide burst");
        assert!(map.lookup(&FlowKey { proto: 50, ..packet }).is_none());
    }

    proptest! {
        #[test]
        fn behaves_like_a_map_and_old_copies_stay(
            changes in proptest::collection::vec((0u32..40, any::<bool>()), 1..100),
        ) {
            let services: Vec<_> = (0..40).map(|n| service(n, 0)).collect();
            let mut model = BTreeMap::new();
            let mut map = Services::default();
            for (number, put) in changes {
                let (old, old_len) = (map.clone(), model.len());
                map = map.with([(key(number), put.then(|| services[number as usize].clone()))]);
                if put { model.insert(key(number), number); } else { model.remove(&key(number)); }
                prop_assert_eq!(old.len(), old_len);
                prop_assert_eq!(old.iter().count(), old_len);
                let mut all: Vec<_> = map
                    .iter()
                    .map(|(key, service)| (key, service.spec().slot.index() as u32))
                    .collect();
                all.sort();
                prop_assert_eq!(all, model.iter().map(|(k, n)| (*k, *n)).collect::<Vec<_>>());
                for number in 0..40 {
                    prop_assert_eq!(map.find(key(number)).is_some(), model.contains_key(&key(number)));
                }
            }
        }
    }
}
