//! Next hops: Ethernet addresses in slots that workers read while control changes them.
//!
//! Control is the only writer, through [`NextHopsWriter`]; workers hold an `Arc` of [`NextHops`] and
//! only load, but for a flag that says a slot is in use. Nobody locks, nobody makes a read-modify-write.
//!
//! - A slot is one 64-bit word: Ethernet address, interface and state. A load gives all of them as they
//!   belong together, so a neighbour's new address takes effect with the next packet.
//! - The directory from (interface, IPv4 address) to slot has open addressing and linear probing; an
//!   entry is one 64-bit word as well: interface, address and slot number. So a reader sees an entry
//!   whole or not at all. The slot's word is written before the entry (release, acquire).
//! - What is removed leaves a tombstone, so that a reader that walks past finds what lies behind.
//!   Tombstones at the end of a run become empty at once; others are taken by later inserts.
//! - A flow caches the slot number with the generation of the [`crate::Fib`] in which it found it, and
//!   looks up anew when the generation differs from its worker's snapshot's or when the slot
//!   is [`NextHopState::Vacant`]. Removing turns the slot vacant, but its number goes to no other
//!   next hop until every worker runs a snapshot with a later generation: then no flow can pass the
//!   comparison with the old number, and the entry was gone before anyone could look it up in the
//!   new generation. Control says so by [`NextHopsWriter::publish`] (before it publishes a snapshot) and
//!   [`NextHopsWriter::confirm`] (when the workers have taken it); generation 0 is no snapshot's, so a
//!   flow that never looked up has 0.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use types::{EthPortId, MacAddr};

/// Names a slot of [`NextHops`]; what a flow caches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NextHopId(pub u16);

impl NextHopId {
    /// Names none.
    pub const NONE: Self = Self(0);

    /// True for [`NextHopId::NONE`].
    #[inline(always)]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}

/// What a worker may do with a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NextHopState {
    /// Gone, or never there: look up anew.
    Vacant,
    /// Being resolved: hold the packet.
    Unresolved,
    /// The Ethernet address is known: send.
    Resolved,
    /// Nobody answered: drop; [`NextHops::mark_used`] makes control try again.
    Failed,
}

/// A slot as loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// The neighbour's Ethernet address; zero unless resolved.
    pub mac: MacAddr,
    /// The interface that leads there.
    pub iface: EthPortId,
    /// What may be done with it.
    pub state: NextHopState,
}

impl NextHop {
    const VACANT: Self =
        Self { mac: MacAddr([0; 6]), iface: EthPortId(0), state: NextHopState::Vacant };

    const fn to_bits(self) -> u64 {
        let state = match self.state {
            NextHopState::Vacant => 0,
            NextHopState::Unresolved => 1,
            NextHopState::Resolved => 2,
            NextHopState::Failed => 3,
        };
        self.mac.to_bits() << 16 | ((self.iface.0 & INTERFACE_MAX) as u64) << 2 | state
    }

    #[inline(always)]
    const fn from_bits(bits: u64) -> Self {
        let state = match bits & 3 {
            0 => NextHopState::Vacant,
            1 => NextHopState::Unresolved,
            2 => NextHopState::Resolved,
            _ => NextHopState::Failed,
        };
        let iface = EthPortId((bits >> 2) as u16 & INTERFACE_MAX);
        Self { mac: MacAddr::from_bits(bits >> 16), iface, state }
    }
}

/// Why there is no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NextHopError {
    /// All slots are held, or wait for the next generation.
    #[error("no room for next hop {address}: all {capacity} next hops are in use")]
    Full {
        /// The address.
        address: Ipv4Addr,
        /// How many there are.
        capacity: u16,
    },
    /// An interface number that does not fit a slot.
    #[error("interface number {} is above {INTERFACE_MAX}", .0.0)]
    Interface(EthPortId),
}

/// Largest interface number: 14 bits are left in a slot.
pub(crate) const INTERFACE_MAX: u16 = (1 << 14) - 1;

/// An entry lies at most so far from its home. At half load the longest run of 131,072 places is
/// about 60; what does not fit is refused as if the table were full.
const PROBE_MAX: usize = 128;

/// No entry's upper 48 bits: its interface is above [`INTERFACE_MAX`].
const TOMBSTONE: u64 = 0xffff_ffff_ffff_0000;

#[derive(Debug, Default)]
#[repr(align(16))]
struct SlotCell {
    word: AtomicU64,
    used: AtomicBool,
}

/// The slots and their directory, as workers see them.
#[derive(Debug)]
pub struct NextHops {
    slots: Box<[SlotCell]>,
    directory: Box<[AtomicU64]>,
    shift: u32,
}

impl NextHops {
    fn new(capacity: u16) -> Self {
        let bits = (usize::from(capacity) * 2).next_power_of_two().max(16).trailing_zeros();
        Self {
            slots: (0..=capacity).map(|_| SlotCell::default()).collect(),
            directory: (0..1usize << bits).map(|_| AtomicU64::new(0)).collect(),
            shift: 64 - bits,
        }
    }

    /// The slot; vacant for [`NextHopId::NONE`].
    #[inline(always)]
    pub fn read(&self, id: NextHopId) -> NextHop {
        match self.slots.get(usize::from(id.0)) {
            Some(slot) => NextHop::from_bits(slot.word.load(Ordering::Relaxed)),
            None => NextHop::VACANT,
        }
    }

    /// Tells control that packets go this way, or would if it were resolved. Stores only if nobody
    /// has said so since control last looked, so it may be called for each packet.
    #[inline(always)]
    pub fn mark_used(&self, id: NextHopId) {
        if let Some(slot) = self.slots.get(usize::from(id.0))
            && !slot.used.load(Ordering::Relaxed)
        {
            slot.used.store(true, Ordering::Relaxed);
        }
    }

    /// The slot of a neighbour; [`NextHopId::NONE`] if control has to be asked for one.
    #[inline]
    pub fn find(&self, iface: EthPortId, address: u32) -> NextHopId {
        let key = key(iface, address);
        for index in self.places(key) {
            match self.load(index) {
                0 => break,
                entry if entry >> 16 == key => return NextHopId(entry as u16),
                _ => {}
            }
        }
        NextHopId::NONE
    }

    /// How many next hops there can be.
    pub fn capacity(&self) -> u16 {
        (self.slots.len() - 1) as u16
    }

    /// The places where an entry of this key may be, in order.
    #[inline(always)]
    fn places(&self, key: u64) -> impl Iterator<Item = usize> + use<> {
        let mask = self.directory.len() - 1;
        let home = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize;
        (0..PROBE_MAX.min(mask + 1)).map(move |step| (home + step) & mask)
    }

    #[inline(always)]
    fn load(&self, index: usize) -> u64 {
        self.directory.get(index).map_or(0, |entry| entry.load(Ordering::Acquire))
    }

    fn store(&self, index: usize, entry: u64) {
        if let Some(place) = self.directory.get(index) {
            place.store(entry, Ordering::Release);
        }
    }
}

#[inline(always)]
const fn key(iface: EthPortId, address: u32) -> u64 {
    (iface.0 as u64) << 32 | address as u64
}

/// The one who may change [`NextHops`]: control.
#[derive(Debug)]
pub struct NextHopsWriter {
    table: Arc<NextHops>,
    fresh: u16,
    free: VecDeque<u16>,
    /// Removed since the last generation was published.
    removed: Vec<u16>,
    /// Waiting until the workers have taken the generation before which they were removed.
    waiting: VecDeque<(u16, Vec<u16>)>,
}

impl NextHopsWriter {
    /// An empty table of so many next hops.
    pub fn new(capacity: u16) -> Self {
        Self {
            table: Arc::new(NextHops::new(capacity)),
            fresh: 0,
            free: VecDeque::new(),
            removed: Vec::new(),
            waiting: VecDeque::new(),
        }
    }

    /// What the workers get.
    pub fn shared(&self) -> Arc<NextHops> {
        Arc::clone(&self.table)
    }

    /// The slot that a neighbour has; [`NextHopId::NONE`] without one.
    pub fn find(&self, iface: EthPortId, address: u32) -> NextHopId {
        self.table.find(iface, address)
    }

    /// The slot of a neighbour: the one it has, or a new one, unresolved.
    ///
    /// # Errors
    /// If all slots are held, or the interface's number is too large.
    pub fn insert(&mut self, iface: EthPortId, address: u32) -> Result<NextHopId, NextHopError> {
        if iface.0 > INTERFACE_MAX {
            return Err(NextHopError::Interface(iface));
        }
        let id = self.table.find(iface, address);
        if !id.is_none() {
            return Ok(id);
        }
        let key = key(iface, address);
        let full = NextHopError::Full { address: address.into(), capacity: self.table.capacity() };
        let place = self.table.places(key).find(|index| self.table.load(*index) as u16 == 0);
        let (Some(place), Some(id)) = (place, self.take()) else { return Err(full) };
        self.set(NextHopId(id), iface, NextHopState::Unresolved, MacAddr::default());
        self.table.store(place, key << 16 | u64::from(id));
        Ok(NextHopId(id))
    }

    fn take(&mut self) -> Option<u16> {
        if let Some(id) = self.free.pop_front() {
            return Some(id);
        }
        if self.fresh == self.table.capacity() {
            return None;
        }
        self.fresh += 1;
        Some(self.fresh)
    }

    /// Writes a slot that [`NextHopsWriter::insert`] gave.
    pub fn set(&mut self, id: NextHopId, iface: EthPortId, state: NextHopState, mac: MacAddr) {
        if let Some(slot) = self.table.slots.get(usize::from(id.0)) {
            slot.word.store(NextHop { mac, iface, state }.to_bits(), Ordering::Relaxed);
        }
    }

    /// True if a worker has marked the slot since the last call.
    pub fn take_used(&mut self, id: NextHopId) -> bool {
        let Some(slot) = self.table.slots.get(usize::from(id.0)) else { return false };
        let used = slot.used.load(Ordering::Relaxed);
        if used {
            slot.used.store(false, Ordering::Relaxed);
        }
        used
    }

    /// Removes a neighbour; its slot turns vacant and is given to no other before the next generation.
    pub fn remove(&mut self, iface: EthPortId, address: u32) -> Option<NextHopId> {
        let id = Some(self.table.find(iface, address)).filter(|id| !id.is_none())?;
        let key = key(iface, address);
        let entry = key << 16 | u64::from(id.0);
        let place = self.table.places(key).find(|index| self.table.load(*index) == entry)?;
        self.table.store(place, TOMBSTONE);
        self.sweep_tombstones(place);
        self.set(id, EthPortId(0), NextHopState::Vacant, MacAddr::default());
        self.take_used(id);
        self.removed.push(id.0);
        Some(id)
    }

    /// Empties the tombstones from `place` backwards if no run goes on behind it.
    fn sweep_tombstones(&mut self, place: usize) {
        let mask = self.table.directory.len() - 1;
        if self.table.load((place + 1) & mask) != 0 {
            return;
        }
        for step in 0..=mask {
            let index = place.wrapping_sub(step) & mask;
            if self.table.load(index) != TOMBSTONE {
                return;
            }
            self.table.store(index, 0);
        }
    }

    /// To be called before a snapshot with this generation, not used before, is published.
    pub fn publish(&mut self, generation: u16) {
        if !self.removed.is_empty() {
            self.waiting.push_back((generation, std::mem::take(&mut self.removed)));
        }
    }

    /// To be called when every worker runs a snapshot with this generation or a later one.
    pub fn confirm(&mut self, generation: u16) {
        // Serial number comparison (RFC 1982 §3.2): generations wrap.
        while let Some((published, _)) = self.waiting.front()
            && generation.wrapping_sub(*published) < 1 << 15
        {
            let (_, ids) = self.waiting.pop_front().unwrap_or_default();
            self.free.extend(ids);
        }
    }

    /// True if so many slots wait for a generation that control should publish one.
    pub fn wants_generation(&self) -> bool {
        self.removed.len() >= usize::from(self.table.capacity()).div_ceil(4)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const WAN: EthPortId = EthPortId(0);
    const LAN: EthPortId = EthPortId(INTERFACE_MAX);

    #[test]
    fn a_slot_is_one_word() {
        let mut writer = NextHopsWriter::new(8);
        let reader = writer.shared();
        assert_eq!(reader.find(LAN, 7), NextHopId::NONE);
        assert_eq!(reader.read(NextHopId::NONE), NextHop::VACANT);
        let id = writer.insert(LAN, 7).unwrap();
        assert_eq!(writer.insert(LAN, 7), Ok(id));
        assert_eq!(reader.find(LAN, 7), id);
        assert_eq!(reader.find(WAN, 7), NextHopId::NONE);
        assert_eq!(reader.read(id).state, NextHopState::Unresolved);
        let mac = MacAddr([0xfe, 2, 3, 4, 5, 0xff]);
        writer.set(id, LAN, NextHopState::Resolved, mac);
        assert_eq!(reader.read(id), NextHop { mac, iface: LAN, state: NextHopState::Resolved });
        assert!(!writer.take_used(id));
        reader.mark_used(id);
        assert!(writer.take_used(id));
        assert!(!writer.take_used(id));
    }

    #[test]
    fn a_slot_waits_for_the_next_generation() {
        let mut writer = NextHopsWriter::new(1);
        let reader = writer.shared();
        let id = writer.insert(WAN, 1).unwrap();
        assert_eq!(writer.remove(WAN, 1), Some(id));
        assert_eq!(writer.remove(WAN, 1), None);
        assert_eq!(reader.read(id).state, NextHopState::Vacant);
        let full = NextHopError::Full { address: Ipv4Addr::new(0, 0, 0, 2), capacity: 1 };
        assert_eq!(writer.insert(WAN, 2), Err(full));
        assert!(writer.wants_generation());
        writer.confirm(u16::MAX);
        assert_eq!(writer.insert(WAN, 2), Err(full), "removed after that generation began");
        writer.publish(1);
        assert!(!writer.wants_generation());
        writer.confirm(u16::MAX);
        assert_eq!(writer.insert(WAN, 2), Err(full), "not all workers have taken it");
        writer.confirm(2);
        assert_eq!(writer.insert(WAN, 2), Ok(id));
    }

    #[test]
    fn all_of_65535_slots_can_be_held() {
        let mut writer = NextHopsWriter::new(u16::MAX);
        let reader = writer.shared();
        for host in 0..u32::from(u16::MAX) {
            writer.insert(WAN, 0x0a00_0000 | host).unwrap();
        }
        assert!(writer.insert(WAN, 0x0b00_0000).is_err());
        for host in 0..u32::from(u16::MAX) {
            assert!(!reader.find(WAN, 0x0a00_0000 | host).is_none());
        }
    }

    #[test]
    fn readers_find_what_stays_while_others_come_and_go() {
        let mut writer = NextHopsWriter::new(64);
        let stays: Vec<_> = (0..16).map(|n| (n * 7, writer.insert(WAN, n * 7).unwrap())).collect();
        for (address, id) in &stays {
            writer.set(*id, WAN, NextHopState::Resolved, MacAddr::from_bits(u64::from(*address)));
        }
        let reader = writer.shared();
        std::thread::scope(|scope| {
            let reading = scope.spawn(|| {
                for _ in 0..20_000 {
                    for (address, id) in &stays {
                        assert_eq!(reader.find(WAN, *address), *id);
                        assert_eq!(reader.read(*id).mac.to_bits(), u64::from(*address));
                    }
                }
            });
            let mut generation = 1;
            while !reading.is_finished() {
                generation = crate::next_generation(generation);
                let address = 1000 + u32::from(generation) * 13 % 31;
                if writer.remove(LAN, address).is_none() {
                    writer.insert(LAN, address).unwrap();
                }
                writer.publish(generation);
                writer.confirm(generation);
            }
        });
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_directory_is_a_map(
            steps in proptest::collection::vec((any::<bool>(), 0u16..3, 0u32..40), 0..400),
        ) {
            let mut writer = NextHopsWriter::new(64);
            let reader = writer.shared();
            let mut model = HashMap::new();
            let mut generation = 1;
            for (add, iface, address) in steps {
                let iface = EthPortId(iface);
                if add {
                    match writer.insert(iface, address) {
                        Ok(id) => {
                            let held = model.iter().find(|(_, other)| **other == id);
                            prop_assert!(held.is_none_or(|(key, _)| *key == (iface, address)));
                            model.insert((iface, address), id);
                        }
                        Err(_) => prop_assert!(!model.contains_key(&(iface, address))),
                    }
                } else {
                    prop_assert_eq!(writer.remove(iface, address), model.remove(&(iface, address)));
                }
                if writer.wants_generation() {
                    generation += 1;
                    writer.publish(generation);
                    writer.confirm(generation);
                }
                for ((iface, address), id) in &model {
                    prop_assert_eq!(reader.find(*iface, *address), *id);
                }
            }
            for (iface, address) in model.keys() {
                writer.remove(*iface, *address);
            }
            let left = reader.directory.iter().filter(|e| e.load(Ordering::Relaxed) as u16 != 0);
            prop_assert_eq!(left.count(), 0);
        }
    }
}
