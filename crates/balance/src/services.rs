//! The map from VIP to service: immutable, in shared leaves, so that a change copies little.

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;

use types::{FlowKey, Proto};

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
    /// IPv4 VIP in host order.
    pub address: u32,
    /// The vport.
    pub l4_port: u16,
}

impl ServiceKey {
    /// Address, port and protocol in one number; the zone does not fit.
    fn bits(self) -> u64 {
        u64::from(self.address) << 24 | u64::from(self.l4_port) << 8 | self.proto as u64
    }

    #[inline]
    fn place(self) -> Place {
        let hash = hash(self.bits() ^ u64::from(self.zone) << 56, Use::ServiceMap);
        Place { hash, bits: self.bits(), zone: self.zone }
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}:{}", self.proto, Ipv4Addr::from(self.address), self.l4_port)?;
        if self.zone != 0 {
            write!(f, " zone {}", self.zone)?;
        }
        Ok(())
    }
}

/// Where a key stands: entries of a leaf are in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    hash: u64,
    bits: u64,
    zone: u16,
}

impl Place {
    fn branch(self) -> usize {
        (self.hash >> (64 - FANOUT_BITS)) as usize
    }

    fn leaf(self) -> usize {
        (self.hash >> (64 - 2 * FANOUT_BITS)) as usize % FANOUT
    }

    fn key(self) -> Option<ServiceKey> {
        Some(ServiceKey {
            zone: self.zone,
            proto: Proto::from_number(self.bits as u8)?,
            address: (self.bits >> 24) as u32,
            l4_port: (self.bits >> 8) as u16,
        })
    }
}

#[derive(Clone, Debug, Default)]
struct Leaf {
    places: Vec<Place>,
    services: Vec<Arc<Service>>,
}

impl Leaf {
    fn change(&mut self, place: Place, service: Option<Arc<Service>>) -> isize {
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

type Branch = [Arc<Leaf>; FANOUT];

/// All services by VIP. A clone is cheap; [`Services::with`] gives a changed copy.
#[derive(Clone, Debug)]
pub struct Services {
    root: Arc<[Arc<Branch>; FANOUT]>,
    len: usize,
}

impl Default for Services {
    fn default() -> Self {
        let leaf = Arc::<Leaf>::default();
        let branch: Arc<Branch> = Arc::new(std::array::from_fn(|_| leaf.clone()));
        Self { root: Arc::new(std::array::from_fn(|_| branch.clone())), len: 0 }
    }
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
        let mut changes = changes.into_iter();
        let Some((key, service)) = changes.next() else { return next };
        let root = Arc::make_mut(&mut next.root);
        let mut grown = 0;
        for (key, service) in std::iter::once((key, service)).chain(changes) {
            let place = key.place();
            let Some(branch) = root.get_mut(place.branch()) else { continue };
            let Some(leaf) = Arc::make_mut(branch).get_mut(place.leaf()) else { continue };
            grown += Arc::make_mut(leaf).change(place, service);
        }
        next.len = next.len.saturating_add_signed(grown);
        next
    }

    /// The service of a key.
    #[inline]
    pub fn find(&self, key: ServiceKey) -> Option<&Arc<Service>> {
        let place = key.place();
        let leaf = self.root.get(place.branch())?.get(place.leaf())?;
        let at = leaf.places.binary_search(&place).ok()?;
        leaf.services.get(at)
    }

    /// The service that a packet of this key is for.
    #[inline]
    pub fn lookup(&self, key: &FlowKey) -> Option<&Arc<Service>> {
        self.find(ServiceKey {
            zone: key.zone,
            proto: Proto::from_number(key.proto)?,
            address: key.dst,
            l4_port: key.dport,
        })
    }

    /// All services with their keys, in no order that means anything. A service of several VIPs
    /// comes once for each.
    pub fn iter(&self) -> impl Iterator<Item = (ServiceKey, &Arc<Service>)> {
        let leaves = self.root.iter().flat_map(|branch| branch.iter());
        leaves
            .flat_map(|leaf| leaf.places.iter().zip(&leaf.services))
            .filter_map(|(place, service)| Some((place.key()?, service)))
    }

    /// Zone and address of each VIP, each once, in order.
    pub fn vips(&self) -> Vec<(u16, u32)> {
        let mut vips: Vec<_> = self.iter().map(|(key, _)| (key.zone, key.address)).collect();
        vips.sort_unstable();
        vips.dedup();
        vips
    }

    /// Keys in the map.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
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
            ServiceKey { address: 1, ..base },
            ServiceKey { l4_port: 1, ..base },
        ] {
            assert!(map.find(other).is_none(), "{other}");
        }
        let packet =
            FlowKey { dst: base.address, dport: base.l4_port, proto: 6, ..FlowKey::default() };
        assert!(map.lookup(&packet).is_some());
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
