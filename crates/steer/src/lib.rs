//! Which worker owns a key: one pure function of the snapshot, the same on every worker.
//!
//! A worker writes only what it owns, so both directions of a conn must come to one worker. Forward
//! packets go by a hash of their key; the worker that opens the conn leases a port of its own
//! classes, and replies go by the class of that port. Behind a NAT gateway the inside address
//! decides in both ways: outgoing packets go by a hash of it, and what comes back to a WAN IP by the
//! class of the port, of which the owner of the inside address has leased one of its own. A port that
//! is forwarded is the owner's of the inside server that it leads to.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod earlier;

pub use earlier::{Destination, Earlier};

use types::{Address, ClassSet, FlowKey, KeyedHash, PORT_CLASSES, WorkerId, port_class};

/// Workers that keys can be divided among: each needs a port class of its own.
pub const MAX_WORKERS: u16 = PORT_CLASSES as u16;

/// By what the destination of a packet decides who owns it.
///
/// What is sent to our other addresses (echo, ARP) is answered where it arrives and is not steered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A VIP: a hash of the whole key.
    Vip,
    /// A VIP of a service with persistence: the source prefix, so that all conns of a client
    /// meet the same template. A length above that of an address counts as that.
    VipPersistent {
        /// Length of the source prefix in bits.
        prefix_len: u8,
    },
    /// A LIP: the class of the destination port.
    Lip,
    /// By its source address alone: what a subscriber sends, and what a client sends to a server
    /// that sees its address.
    Source,
    /// By its destination address alone, so that [`Role::Source`] of a packet and this one of its
    /// answer have the same owner.
    Destination,
    /// A WAN IP: the class of the destination port, see [`Steering::wan_classes_of`].
    Wan,
    /// By this address alone, whatever the key: a port of a WAN IP that leads to an inside server.
    Of(u32),
}

/// Why there is no steering among so many workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} workers: there must be 1 to {MAX_WORKERS}")]
pub struct WorkerCountError(pub u16);

/// The division of all keys among the workers; immutable, a part of the snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steering {
    workers: u16,
    keyed: KeyedHash,
    class_owners: [u8; PORT_CLASSES],
    wan_owners: [u8; PORT_CLASSES],
}

impl Steering {
    /// Divides among `workers`. The same numbers give the same division in every process; the seed
    /// is secret, so that nobody can aim all of a VIP's conns at one worker.
    ///
    /// # Errors
    /// No worker at all, or more than [`MAX_WORKERS`].
    pub fn new(workers: u16, seed: [u64; 2]) -> Result<Self, WorkerCountError> {
        if workers == 0 || workers > MAX_WORKERS {
            return Err(WorkerCountError(workers));
        }
        // Class modulo workers: for a power of two it is a mask of the port, one flow rule each.
        let class_owners = std::array::from_fn(|class| (class as u16 % workers) as u8);
        // In turn the even ones, and then the odd ones: as evenly as can be, and each has both kinds.
        let in_turn = |class: usize| class / 2 + class % 2 * (PORT_CLASSES / 2);
        let wan_owners = std::array::from_fn(|class| (in_turn(class) as u16 % workers) as u8);
        Ok(Self { workers, keyed: KeyedHash::new(seed), class_owners, wan_owners })
    }

    /// How many workers there are.
    pub const fn workers(&self) -> u16 {
        self.workers
    }

    /// The worker that owns `key`, as it arrives. For an ICMP error it is the inner packet's key,
    /// turned so that it reads as if it arrived.
    #[inline]
    pub fn owner<A: Address>(&self, role: Role, key: &FlowKey<A>) -> WorkerId {
        if self.workers == 1 {
            return WorkerId(0);
        }
        // A packet of IPv4 has one owner, whichever lane its conn is in.
        if A::BITS > u32::BITS as u8
            && let Some(narrow) = A::narrow(key)
        {
            return self.owner(role, &narrow);
        }
        match role {
            Role::Vip => self.share(self.keyed.hash_key(key)),
            Role::VipPersistent { prefix_len } => {
                self.share(self.hash_source(key.src.prefix(prefix_len), key.zone.into()))
            }
            Role::Lip => self.owner_of_class(port_class(key.dport)),
            Role::Source => self.owner_of_address(key.src, key.zone),
            Role::Destination => self.owner_of_address(key.dst, key.zone),
            Role::Wan => self.owner_of_wan_class(port_class(key.dport)),
            Role::Of(address) => self.owner_of_address(address, key.zone),
        }
    }

    /// The classes whose ports this worker leases; none if there is no such worker.
    pub fn classes_of(&self, worker: WorkerId) -> ClassSet {
        (0..PORT_CLASSES as u8)
            .filter(|&class| self.owner_of_class(class) == worker)
            .fold(ClassSet::NONE, ClassSet::with)
    }

    /// The classes of WAN IPs' ports that this worker leases; none if there is no such worker.
    ///
    /// Neighbouring ports are of different workers, so that a narrow range has some of each; and up to 64
    /// workers have both even and odd ones, for parity to be kept (RFC 4787 REQ-4).
    pub fn wan_classes_of(&self, worker: WorkerId) -> ClassSet {
        (0..PORT_CLASSES as u8)
            .filter(|&class| self.owner_of_wan_class(class) == worker)
            .fold(ClassSet::NONE, ClassSet::with)
    }

    /// Bit 16 and up are those of no prefix of [`Role::VipPersistent`]: the hash is another one.
    #[inline(always)]
    fn owner_of_address<A: Address>(&self, address: A, zone: u16) -> WorkerId {
        self.share(self.hash_source(address, u64::from(zone) | 1 << 16))
    }

    #[inline(always)]
    fn owner_of_wan_class(&self, class: u8) -> WorkerId {
        WorkerId(self.wan_owners.get(usize::from(class)).copied().unwrap_or(0).into())
    }

    #[inline(always)]
    fn owner_of_class(&self, class: u8) -> WorkerId {
        WorkerId(self.class_owners.get(usize::from(class)).copied().unwrap_or(0).into())
    }

    #[inline(always)]
    fn hash_source<A: Address>(&self, address: A, rest: u64) -> u64 {
        let bits = address.to_bits();
        let hash = self.keyed.hash(bits as u64, rest);
        // An address of IPv4 has but the low half.
        if A::BITS > 64 { self.keyed.hash(hash, (bits >> 64) as u64) } else { hash }
    }

    /// The upper half of a hash, scaled to the number of workers.
    #[inline(always)]
    fn share(&self, hash: u64) -> WorkerId {
        WorkerId((((hash >> 32) * u64::from(self.workers)) >> 32) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn steering(workers: u16) -> Steering {
        Steering::new(workers, [7, 9]).unwrap()
    }

    /// Keys as a client farm makes them: neighbouring addresses and ports, one VIP.
    fn keys() -> impl Iterator<Item = FlowKey> {
        (0..200_u32).flat_map(|host| {
            (0..500_u16).map(move |conn| FlowKey {
                src: 0x0a00_0000 + host,
                dst: 0xcb00_710a,
                sport: 32_768 + conn,
                dport: 80,
                zone: 0,
                proto: 6,
            })
        })
    }

    #[test]
    fn there_must_be_a_class_for_every_worker() {
        assert_eq!(Steering::new(0, [0; 2]), Err(WorkerCountError(0)));
        assert_eq!(Steering::new(129, [0; 2]), Err(WorkerCountError(129)));
        assert!(Steering::new(128, [0; 2]).is_ok());
    }

    #[test]
    fn classes_are_shared_evenly_and_wholly() {
        for workers in 1..=MAX_WORKERS {
            let steering = steering(workers);
            let shares: Vec<ClassSet> =
                (0..workers).map(|worker| steering.classes_of(WorkerId(worker))).collect();
            let counts = shares.iter().map(|share| share.count());
            let (least, most) = (counts.clone().min().unwrap(), counts.clone().max().unwrap());
            assert!(least >= 1 && most - least <= 1, "{workers} workers: {least} to {most}");
            assert_eq!(counts.sum::<u32>(), 128);
            assert_eq!(shares.iter().fold(0, |all, share| all | share.0), u128::MAX);
            assert_eq!(steering.classes_of(WorkerId(workers)), ClassSet::NONE);
        }
    }

    #[test]
    fn ports_of_wan_ips_are_shared_evenly_and_wholly() {
        for workers in 1..=MAX_WORKERS {
            let steering = steering(workers);
            let shares: Vec<ClassSet> =
                (0..workers).map(|worker| steering.wan_classes_of(WorkerId(worker))).collect();
            let counts = shares.iter().map(|share| share.count());
            let (least, most) = (counts.clone().min().unwrap(), counts.clone().max().unwrap());
            assert!(least >= 1 && most - least <= 1, "{workers} workers: {least} to {most}");
            assert_eq!(counts.sum::<u32>(), 128);
            assert_eq!(shares.iter().fold(0, |all, share| all | share.0), u128::MAX);
            assert_eq!(steering.wan_classes_of(WorkerId(workers)), ClassSet::NONE);
            let both = |share: &ClassSet| {
                [ClassSet::EVEN, ClassSet::ODD].iter().all(|kind| share.and(*kind).count() > 0)
            };
            assert!(workers > 64 || shares.iter().all(both), "{workers} workers");
        }
    }

    /// Twice as many ports as workers are enough, wherever they begin but for one place in 128.
    #[test]
    fn a_narrow_range_has_ports_of_every_worker() {
        for workers in 1..=64 {
            let steering = steering(workers);
            for first in (0..128 - 2 * workers + 1).chain(1_024..1_024 + 128 - 2 * workers + 1) {
                let owner =
                    |dport| steering.owner(Role::Wan, &FlowKey { dport, ..<FlowKey>::default() });
                let mut owners: Vec<_> = (first..first + 2 * workers).map(owner).collect();
                owners.sort_unstable();
                owners.dedup();
                assert_eq!(owners.len(), usize::from(workers), "{workers} from {first} on");
            }
        }
    }

    #[test]
    fn a_power_of_two_of_workers_is_a_mask_of_the_port() {
        let steering = steering(8);
        for dport in [1_024, 40_001, 65_535] {
            let key: FlowKey = FlowKey { dport, ..FlowKey::default() };
            assert_eq!(steering.owner(Role::Lip, &key), WorkerId(dport & 7));
            assert_eq!(steering.owner(Role::Wan, &key), WorkerId(dport >> 1 & 7));
        }
    }

    #[test]
    fn conns_spread_evenly() {
        for workers in [2, 3, 7, 16, 33, 128] {
            for role in [Role::Vip, Role::VipPersistent { prefix_len: 32 }, Role::Source] {
                let steering = steering(workers);
                let mut counts = vec![0_u32; workers.into()];
                let total = match role {
                    Role::Vip => {
                        keys().for_each(|key| {
                            counts[usize::from(steering.owner(role, &key).0)] += 1;
                        });
                        100_000.0
                    }
                    _ => {
                        for src in 0..50_000_u32 {
                            let key = FlowKey { src: 0x0a00_0000 + src, ..FlowKey::default() };
                            counts[usize::from(steering.owner(role, &key).0)] += 1;
                        }
                        50_000.0
                    }
                };
                let expected = total / f64::from(workers);
                let chi_square: f64 = counts
                    .iter()
                    .map(|&count| (f64::from(count) - expected).powi(2) / expected)
                    .sum();
                // Mean n - 1, variance 2 (n - 1): five standard deviations.
                let freedom = f64::from(workers) - 1.0;
                let bound = freedom + 5.0 * (2.0 * freedom).sqrt();
                assert!(chi_square < bound, "{workers} workers, {role:?}: {chi_square} > {bound}");
            }
        }
    }

    #[test]
    fn wide_conns_spread_evenly() {
        let steering = steering(16);
        for role in [Role::Vip, Role::VipPersistent { prefix_len: 64 }, Role::Source] {
            let mut counts = [0_u32; 16];
            for n in 0..32_000_u128 {
                let (dst, sport) = (5, n as u16);
                let src = 0x2001_0db8 << 96 | n << 64;
                let key = FlowKey { src, dst, sport, dport: 80, zone: 0, proto: 6 };
                counts[usize::from(steering.owner(role, &key).0)] += 1;
            }
            let even = counts.iter().all(|count| (1_750..2_250).contains(count));
            assert!(even, "{role:?}: {counts:?} of 2000 each");
        }
    }

    #[test]
    fn the_seed_decides() {
        let (one, other) = (Steering::new(4, [1, 2]).unwrap(), Steering::new(4, [1, 3]).unwrap());
        let same =
            keys().filter(|key| one.owner(Role::Vip, key) == other.owner(Role::Vip, key)).count();
        assert!((23_000..27_000).contains(&same), "{same} of 100000 keys alike");
        let zero = Steering::new(4, [0, 0]).unwrap();
        let owned = keys().filter(|key| zero.owner(Role::Vip, key) == WorkerId(0)).count();
        assert!((24_000..26_000).contains(&owned), "a zero seed spreads too: {owned}");
    }

    fn any_key() -> impl Strategy<Value = FlowKey> {
        any::<(u32, u32, u16, u16, u16, u8)>().prop_map(|(src, dst, sport, dport, zone, proto)| {
            FlowKey { src, dst, sport, dport, zone, proto }
        })
    }

    /// The same key with addresses whose other bits differ, too.
    fn widen(key: FlowKey) -> FlowKey<u128> {
        let FlowKey { src, dst, sport, dport, zone, proto } = key;
        let wide = |address: u32| u128::from(address) << 96 | u128::from(address.reverse_bits());
        FlowKey { src: wide(src), dst: wide(dst), sport, dport, zone, proto }
    }

    fn any_role() -> impl Strategy<Value = Role> {
        prop_oneof![
            Just(Role::Vip),
            Just(Role::Lip),
            Just(Role::Source),
            Just(Role::Destination),
            Just(Role::Wan),
            any::<u32>().prop_map(Role::Of),
            any::<u8>().prop_map(|prefix_len| Role::VipPersistent { prefix_len }),
        ]
    }

    proptest! {
        #[test]
        fn one_worker_owns_everything(key in any_key(), role in any_role()) {
            prop_assert_eq!(steering(1).owner(role, &key), WorkerId(0));
            prop_assert_eq!(steering(1).owner(role, &widen(key)), WorkerId(0));
            prop_assert_eq!(steering(1).classes_of(WorkerId(0)), ClassSet::ALL);
            prop_assert_eq!(steering(1).wan_classes_of(WorkerId(0)), ClassSet::ALL);
        }

        #[test]
        fn the_owner_is_one_of_the_workers_and_always_the_same(
            key in any_key(), role in any_role(), workers in 1..=MAX_WORKERS, seed in any::<[u64; 2]>(),
        ) {
            let here = Steering::new(workers, seed).unwrap();
            let there = Steering::new(workers, seed).unwrap();
            prop_assert!(here.owner(role, &key).0 < workers);
            prop_assert_eq!(here.owner(role, &key), there.owner(role, &key));
        }

        #[test]
        fn a_reply_comes_home(key in any_key(), workers in 1..=MAX_WORKERS) {
            let steering = steering(workers);
            let owner = steering.owner(Role::Lip, &key);
            prop_assert!(steering.classes_of(owner).contains_port(key.dport));
            prop_assert_eq!(steering.owner(Role::Lip, &widen(key)), owner);
            let owner = steering.owner(Role::Wan, &key);
            prop_assert!(steering.wan_classes_of(owner).contains_port(key.dport));
        }

        #[test]
        fn an_answer_goes_to_the_owner_of_what_it_answers(
            key in any_key(), workers in 1..=MAX_WORKERS,
        ) {
            let steering = steering(workers);
            let owner = steering.owner(Role::Source, &key);
            prop_assert_eq!(steering.owner(Role::Destination, &key.reversed()), owner);
            let other = FlowKey { dst: !key.dst, sport: !key.sport, proto: 47, ..key };
            prop_assert_eq!(steering.owner(Role::Source, &other), owner);
            prop_assert_eq!(steering.owner(Role::Of(key.src), &other), owner);
            let (key, other) = (widen(key), widen(other));
            let owner = steering.owner(Role::Source, &key);
            prop_assert_eq!(steering.owner(Role::Destination, &key.reversed()), owner);
            prop_assert_eq!(steering.owner(Role::Source, &other), owner);
        }

        #[test]
        fn a_prefix_stays_together(
            key in any_key(), other in any_key(), prefix_len in 0_u8..=40, workers in 1..=MAX_WORKERS,
        ) {
            let host_bits = u64::from(32_u8.saturating_sub(prefix_len));
            let hosts = ((1_u64 << host_bits) - 1) as u32;
            let neighbour = FlowKey { src: key.src & !hosts | other.src & hosts, zone: key.zone, ..other };
            let role = Role::VipPersistent { prefix_len };
            let steering = steering(workers);
            prop_assert_eq!(steering.owner(role, &key), steering.owner(role, &neighbour));
        }

        #[test]
        fn a_long_prefix_stays_together(
            key in any_key(), other in any::<u128>(), prefix_len in 0_u8..=140, workers in 1..=MAX_WORKERS,
        ) {
            let key = widen(key);
            let hosts = u128::MAX.checked_shr(prefix_len.into()).unwrap_or(0);
            let neighbour = FlowKey { src: key.src & !hosts | other & hosts, sport: 1, ..key };
            let role = Role::VipPersistent { prefix_len };
            let steering = steering(workers);
            prop_assert_eq!(steering.owner(role, &key), steering.owner(role, &neighbour));
        }
    }
}
