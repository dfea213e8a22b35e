//! Ports of WAN IPs that serve conns of one remote each, with how many they serve: as long as there is one, no mapping
//! may have the port, for a mapping is for all remotes.

use types::{KeyedHash, Proto};

use crate::mapping::Endpoint32;
use crate::table::Table;

/// A port that somebody has leased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Port {
    outside: Endpoint32,
    proto: Proto,
    /// Place of its WAN IP among the pool's.
    place: u16,
    leases: u32,
}

/// The ports of one worker.
pub(crate) struct SharedPorts {
    ports: Table<Port, 1>,
    keyed: KeyedHash,
}

impl SharedPorts {
    /// For so many leases; nothing is allocated later.
    pub(crate) fn new(max_leases: u32, seed: [u64; 2]) -> Self {
        Self { ports: Table::new(max_leases), keyed: KeyedHash::new(seed) }
    }

    /// Bytes that [`SharedPorts::new`] reserves.
    pub(crate) const fn reserved_bytes(max_leases: u32) -> u64 {
        Table::<Port, 1>::reserved_bytes(max_leases)
    }

    #[inline]
    fn find(&self, outside: Endpoint32, proto: Proto) -> (u64, Option<u32>) {
        let hash = self.keyed.hash(outside.to_bits(), proto.number().into());
        (hash, self.ports.find(0, hash, |port| port.outside == outside && port.proto == proto))
    }

    /// One lease more; false without room.
    #[inline]
    pub(crate) fn add(&mut self, outside: Endpoint32, proto: Proto, place: u16) -> bool {
        let (hash, found) = self.find(outside, proto);
        match found.and_then(|found| self.ports.get_mut(found)) {
            Some(port) => {
                port.leases += 1;
                true
            }
            None => self.ports.insert([hash], Port { outside, proto, place, leases: 1 }).is_some(),
        }
    }

    /// One lease less; if that was the last one, the place of the WAN IP whose port is free now.
    #[inline]
    pub(crate) fn remove(&mut self, outside: Endpoint32, proto: Proto) -> Option<u16> {
        let (hash, found) = self.find(outside, proto);
        let port = self.ports.get_mut(found?)?;
        port.leases = port.leases.saturating_sub(1);
        if port.leases > 0 {
            return None;
        }
        self.ports.remove([hash], found?).map(|port| port.place)
    }

    /// How many ports there are.
    #[cfg(test)]
    pub(crate) const fn len(&self) -> u32 {
        self.ports.len()
    }
}
