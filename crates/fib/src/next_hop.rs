//! Next hops: Ethernet addresses in slots that workers read while control changes them.
//!
//! Control is the only writer, through [`NextHopsWriter`]; workers hold an `Arc` of [`NextHops`] and
//! only load, but for a flag that says a slot is in use. Nobody locks, nobody makes a read-modify-write.
//!
//! - A slot is one 64-bit word: Ethernet address, interface and state. A load gives all of them as they
//!   belong together, so a neighbour's new address takes effect with the next packet.
//! - Directories lead from interface and address to the slot, one for each family. An entry of IPv4's holds
//!   the whole key. That of IPv6's holds a keyed hash of it, and the address stands beside the slot: it is
//!   written before the entry, and not again before the slot is another's. The slot's word, too, is
//!   written before the entry (release, acquire).
//! - A flow caches the slot number with the generation of the [`crate::Fib`] in which it found it, and
//!   looks up anew when the generation differs from its worker's snapshot's or when the slot
//!   is [`NextHopState::Vacant`]. Removing turns the slot vacant, but its number goes to no other
//!   next hop until every worker runs a snapshot with a later generation: then no flow can pass the
//!   comparison with the old number, and the entry was gone before anyone could look it up in the
//!   new generation. Control says so by [`NextHopsWriter::publish`] (before it publishes a snapshot) and
//!   [`NextHopsWriter::confirm`] (when the workers have taken it); generation 0 is no snapshot's, so a
//!   flow that never looked up has 0.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use types::{EthPortId, KeyedHash, MacAddr};

use crate::directory::{Directory, KEY_MASK};
use crate::number::{IpNumber, by_family};

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
        address: IpAddr,
        /// How many there are.
        capacity: u16,
    },
    /// An interface number that does not fit a slot.
    #[error("interface number {} is above {INTERFACE_MAX}", .0.0)]
    Interface(EthPortId),
}

/// Largest interface number: 14 bits are left in a slot.
pub(crate) const INTERFACE_MAX: u16 = (1 << 14) - 1;

#[derive(Debug, Default)]
#[repr(align(16))]
struct SlotCell {
    word: AtomicU64,
    used: AtomicBool,
}

/// An IPv6 address in two words.
#[derive(Debug, Default)]
struct WideCell([AtomicU64; 2]);

impl WideCell {
    #[inline(always)]
    fn load(&self) -> u128 {
        let [high, low] = &self.0;
        u128::from(high.load(Ordering::Relaxed)) << 64 | u128::from(low.load(Ordering::Relaxed))
    }

    fn store(&self, address: u128) {
        let [high, low] = &self.0;
        high.store((address >> 64) as u64, Ordering::Relaxed);
        low.store(address as u64, Ordering::Relaxed);
    }
}

/// The slots and their directories, as workers see them.
#[derive(Debug)]
pub struct NextHops {
    slots: Box<[SlotCell]>,
    v4: Directory,
    v6: Directory,
    /// By slot, the address of an IPv6 neighbour.
    wide: Box<[WideCell]>,
    hash: KeyedHash,
}

impl NextHops {
    fn new(capacity: u16, secret: [u64; 2]) -> Self {
        Self {
            slots: (0..=capacity).map(|_| SlotCell::default()).collect(),
            v4: Directory::new(capacity),
            v6: Directory::new(capacity),
            wide: (0..=capacity).map(|_| WideCell::default()).collect(),
            hash: KeyedHash::new(secret),
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
    pub fn find<A: IpNumber>(&self, iface: EthPortId, address: A) -> NextHopId {
        NextHopId(address.find_slot(self, iface))
    }

    /// The same for an address of either family.
    pub fn find_any(&self, iface: EthPortId, address: IpAddr) -> NextHopId {
        by_family!(address, number => self.find(iface, number))
    }

    #[inline(always)]
    pub(crate) fn find_v4(&self, iface: EthPortId, address: u32) -> u16 {
        self.v4.find(key(iface, address), |_| true)
    }

    pub(crate) fn enter_v4(&self, iface: EthPortId, address: u32, slot: u16) -> bool {
        self.v4.enter(key(iface, address), slot)
    }

    pub(crate) fn leave_v4(&self, iface: EthPortId, address: u32, slot: u16) -> bool {
        self.v4.leave(key(iface, address), slot)
    }

    #[inline]
    pub(crate) fn find_v6(&self, iface: EthPortId, address: u128) -> u16 {
        // A link-local address may be several neighbours: each slot has its interface.
        self.v6.find(self.wide_key(iface, address), |slot| {
            let here = self.wide.get(usize::from(slot)).is_some_and(|wide| wide.load() == address);
            here && self.read(NextHopId(slot)).iface == iface
        })
    }

    pub(crate) fn enter_v6(&self, iface: EthPortId, address: u128, slot: u16) -> bool {
        if let Some(wide) = self.wide.get(usize::from(slot)) {
            wide.store(address);
        }
        self.v6.enter(self.wide_key(iface, address), slot)
    }

    pub(crate) fn leave_v6(&self, iface: EthPortId, address: u128, slot: u16) -> bool {
        self.v6.leave(self.wide_key(iface, address), slot)
    }

    /// A keyed hash: stations choose their addresses, and shall not find such as collide.
    #[inline(always)]
    fn wide_key(&self, iface: EthPortId, address: u128) -> u64 {
        let (high, low) = ((address >> 64) as u64, address as u64);
        self.hash.hash(high ^ u64::from(iface.0), low) & KEY_MASK
    }

    /// How many next hops there can be.
    pub fn capacity(&self) -> u16 {
        (self.slots.len() - 1) as u16
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
    /// An empty table of so many next hops. Who does not know the secret cannot make addresses whose places
    /// collide.
    pub fn new(capacity: u16, secret: [u64; 2]) -> Self {
        Self {
            table: Arc::new(NextHops::new(capacity, secret)),
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
    pub fn find<A: IpNumber>(&self, iface: EthPortId, address: A) -> NextHopId {
        self.table.find(iface, address)
    }

    /// The same for an address of either family.
    pub fn find_any(&self, iface: EthPortId, address: IpAddr) -> NextHopId {
        self.table.find_any(iface, address)
    }

    /// The slot of a neighbour: the one it has, or a new one, unresolved.
    ///
    /// # Errors
    /// If all slots are held, or the interface's number is too large.
    pub fn insert<A: IpNumber>(
        &mut self,
        iface: EthPortId,
        address: A,
    ) -> Result<NextHopId, NextHopError> {
        if iface.0 > INTERFACE_MAX {
            return Err(NextHopError::Interface(iface));
        }
        let id = self.table.find(iface, address);
        if !id.is_none() {
            return Ok(id);
        }
        let full = NextHopError::Full { address: address.to_ip(), capacity: self.table.capacity() };
        let Some(id) = self.take() else { return Err(full) };
        self.set(NextHopId(id), iface, NextHopState::Unresolved, MacAddr::default());
        if !address.enter(&self.table, iface, id) {
            self.set(NextHopId(id), EthPortId(0), NextHopState::Vacant, MacAddr::default());
            self.free.push_front(id);
            return Err(full);
        }
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
    pub fn remove<A: IpNumber>(&mut self, iface: EthPortId, address: A) -> Option<NextHopId> {
        let id = Some(self.table.find(iface, address)).filter(|id| !id.is_none())?;
        if !address.leave(&self.table, iface, id.0) {
            return None;
        }
        self.set(id, EthPortId(0), NextHopState::Vacant, MacAddr::default());
        self.take_used(id);
        self.removed.push(id.0);
        Some(id)
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
    use types::Address as _;

    use super::*;

    const SECRET: [u64; 2] = [7, 9];
    const WAN: EthPortId = EthPortId(0);
    const LAN: EthPortId = EthPortId(INTERFACE_MAX);

    fn wide(host: u32) -> u128 {
        0xfe80 << 112 | u128::from(host)
    }

    #[test]
    fn one_link_local_address_is_another_neighbour_on_each_interface() {
        let mut writer = NextHopsWriter::new(8, SECRET);
        let (wan, lan) =
            (writer.insert(WAN, wide(1)).unwrap(), writer.insert(LAN, wide(1)).unwrap());
        assert_ne!(wan, lan);
        assert_eq!((writer.find(WAN, wide(1)), writer.find(LAN, wide(1))), (wan, lan));
        assert_eq!(writer.remove(WAN, wide(1)), Some(wan));
        assert_eq!(writer.find(WAN, wide(1)), NextHopId::NONE);
        assert_eq!(writer.find(LAN, wide(1)), lan);
    }

    #[test]
    fn a_slot_is_one_word() {
        let mut writer = NextHopsWriter::new(8, SECRET);
        let reader = writer.shared();
        assert_eq!(reader.find(LAN, 7u32), NextHopId::NONE);
        assert_eq!(reader.read(NextHopId::NONE), NextHop::VACANT);
        let id = writer.insert(LAN, 7u32).unwrap();
        assert_eq!(writer.insert(LAN, 7u32), Ok(id));
        assert_eq!(reader.find(LAN, 7u32), id);
        assert_eq!(reader.find(WAN, 7u32), NextHopId::NONE);
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
        let mut writer = NextHopsWriter::new(1, SECRET);
        let reader = writer.shared();
        let id = writer.insert(WAN, 1u32).unwrap();
        assert_eq!(writer.remove(WAN, 1u32), Some(id));
        assert_eq!(writer.remove(WAN, 1u32), None);
        assert_eq!(reader.read(id).state, NextHopState::Vacant);
        let full = NextHopError::Full { address: 2u32.to_ip(), capacity: 1 };
        assert_eq!(writer.insert(WAN, 2u32), Err(full));
        assert!(writer.wants_generation());
        writer.confirm(u16::MAX);
        assert_eq!(writer.insert(WAN, 2u32), Err(full), "removed after that generation began");
        writer.publish(1);
        assert!(!writer.wants_generation());
        writer.confirm(u16::MAX);
        assert_eq!(writer.insert(WAN, 2u32), Err(full), "not all workers have taken it");
        writer.confirm(2);
        assert_eq!(writer.insert(WAN, 2u32), Ok(id));
    }

    #[test]
    fn all_of_65535_slots_can_be_held() {
        let mut writer = NextHopsWriter::new(u16::MAX, SECRET);
        let reader = writer.shared();
        for host in 0..u32::from(u16::MAX) / 2 {
            writer.insert(WAN, 0x0a00_0000 | host).unwrap();
            writer.insert(WAN, wide(host)).unwrap();
        }
        writer.insert(WAN, 0x0b00_0001u32).unwrap();
        assert!(writer.insert(WAN, 0x0b00_0002u32).is_err());
        assert!(writer.insert(WAN, wide(u32::MAX)).is_err());
        for host in 0..u32::from(u16::MAX) / 2 {
            assert!(!reader.find(WAN, 0x0a00_0000 | host).is_none());
            assert!(!reader.find(WAN, wide(host)).is_none());
        }
    }

    #[test]
    fn readers_find_what_stays_while_others_come_and_go() {
        let mut writer = NextHopsWriter::new(128, SECRET);
        let mut stays: Vec<(u32, NextHopId, NextHopId)> = Vec::new();
        for address in (0..16).map(|n| n * 7) {
            let ids = [writer.insert(WAN, address), writer.insert(WAN, wide(address))];
            let [id, id6] = ids.map(Result::unwrap);
            for id in [id, id6] {
                let mac = MacAddr::from_bits(u64::from(address));
                writer.set(id, WAN, NextHopState::Resolved, mac);
            }
            stays.push((address, id, id6));
        }
        let reader = writer.shared();
        std::thread::scope(|scope| {
            let reading = scope.spawn(|| {
                for _ in 0..20_000 {
                    for (address, id, id6) in &stays {
                        assert_eq!(reader.find(WAN, *address), *id);
                        assert_eq!(reader.find(WAN, wide(*address)), *id6);
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
                if writer.remove(LAN, wide(address)).is_none() {
                    writer.insert(LAN, wide(address)).unwrap();
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
            is_a_map(&steps, |host| host)?;
            is_a_map(&steps, wide)?;
        }
    }

    fn is_a_map<A: IpNumber>(
        steps: &[(bool, u16, u32)],
        address: fn(u32) -> A,
    ) -> Result<(), TestCaseError> {
        let mut writer = NextHopsWriter::new(64, SECRET);
        let reader = writer.shared();
        let mut model = HashMap::new();
        let mut generation = 1;
        for (add, iface, host) in steps {
            let (iface, address) = (EthPortId(*iface), address(*host));
            if *add {
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
        prop_assert_eq!((reader.v4.len(), reader.v6.len()), (0, 0));
        Ok(())
    }
}
