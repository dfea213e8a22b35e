//! Ports of WAN IPs against a model, and what the RFCs ask of them.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;

const TCP: Proto = Proto::Tcp;
const UDP: Proto = Proto::Udp;

fn config(classes: ClassSet) -> WanConfig {
    WanConfig { classes, max_addresses: 2, max_resting: 8, seed: [3, 5] }
}

fn ports(classes: ClassSet) -> WanPorts {
    let mut ports = WanPorts::new(&config(classes));
    ports.add(0, Box::new(AddressPorts::new(classes))).unwrap();
    ports
}

fn want(like: u16) -> Want {
    let order = Order::Random;
    Want { like, range: 1_024..=65_535, order, keep_parity: false, keep_range: false }
}

fn at(ms: u64) -> Now {
    Now::from_ms(ms)
}

/// RFC 4787 REQ-3: no port serves two, up to the last one.
#[test]
fn rfc4787_req3_every_port_once() {
    for order in [Order::Random, Order::Sequential] {
        let mut ports = ports(ClassSet::ALL);
        let want = Want { order, ..want(5_000) };
        let taken: HashSet<u16> = (0..64_512).map(|_| ports.take(0, UDP, &want).unwrap()).collect();
        assert_eq!(taken.len(), 64_512);
        assert!(taken.iter().all(|&l4_port| l4_port >= 1_024));
        assert_eq!(ports.take(0, UDP, &want), Err(WanError::Exhausted));
        assert!(ports.take(0, TCP, &want).is_ok(), "each protocol has its own");
        assert_eq!(ports.usage(0, UDP), Usage { taken: 64_512, resting: 0 });
    }
}

/// RFC 4787 REQ-3 a: the range of the port is kept, if the pool has it.
#[test]
fn rfc4787_req3a_the_range_is_kept() {
    let mut ports = ports(ClassSet::ALL);
    let want = Want { keep_range: true, range: 1..=65_535, ..want(123) };
    for _ in 0..1_023 {
        assert!((1..=1_023).contains(&ports.take(0, UDP, &want).unwrap()));
    }
    assert_eq!(ports.take(0, UDP, &want), Err(WanError::Exhausted), "REQ-11: no other way then");
    let above = Want { like: 1_024, ..want.clone() };
    assert!(ports.take(0, UDP, &above).unwrap() >= 1_024);
    let without = Want { range: 2_000..=2_001, ..want };
    assert!(ports.take(0, UDP, &without).is_ok());
}

/// RFC 4787 REQ-4: even for even, odd for odd.
#[test]
fn rfc4787_req4_parity_is_kept() {
    for (like, order) in [(5_000, Order::Random), (5_001, Order::Sequential)] {
        let mut ports = ports(ClassSet::ALL);
        let want = Want { keep_parity: true, range: 2_000..=2_999, order, ..want(like) };
        for _ in 0..500 {
            assert_eq!(ports.take(0, UDP, &want).unwrap() % 2, like % 2);
        }
        assert_eq!(ports.take(0, UDP, &want), Err(WanError::Exhausted));
    }
}

/// RFC 6888 REQ-8: a port that was given back is not taken for a while.
#[test]
fn rfc6888_req8_ports_rest() {
    let mut ports = ports(ClassSet::ALL);
    let want = Want { range: 4_000..=4_000, ..want(9) };
    assert_eq!(ports.take(0, TCP, &want), Ok(4_000));
    assert!(ports.give_back(0, TCP, 4_000, Some(120_000)));
    assert!(!ports.give_back(0, TCP, 4_000, None), "twice");
    assert_eq!(ports.usage(0, TCP), Usage { taken: 0, resting: 1 });
    assert_eq!(ports.tick(at(119_999), 10), 0);
    assert_eq!(ports.take(0, TCP, &want), Err(WanError::Exhausted));
    assert_eq!(ports.take_exact(0, TCP, 4_000), Err(WanError::Resting));
    assert_eq!(ports.tick(at(120_000), 10), 1);
    assert_eq!(ports.take(0, TCP, &want), Ok(4_000));
}

/// Rules have rests of their own, and ports of one worker rest side by side.
#[test]
fn a_long_rest_holds_up_no_short_one() {
    let mut ports = ports(ClassSet::ALL);
    let port = |l4_port| Want { range: l4_port..=l4_port, ..want(9) };
    for (l4_port, until_ms) in [(4_000, 3_600_000), (4_001, 1_000), (4_002, 60_000), (4_003, 500)] {
        assert_eq!(ports.take(0, TCP, &port(l4_port)), Ok(l4_port));
        assert!(ports.give_back(0, TCP, l4_port, Some(until_ms)));
    }
    assert_eq!(ports.tick(at(1_000), 10), 2);
    for l4_port in [4_001, 4_003] {
        assert_eq!(ports.take(0, TCP, &port(l4_port)), Ok(l4_port));
    }
    assert_eq!(ports.take(0, TCP, &port(4_002)), Err(WanError::Exhausted));
    assert_eq!((ports.tick(at(60_000), 10), ports.resting()), (1, 1));
}

#[test]
fn too_many_rests_end_early_and_are_counted() {
    let mut ports = ports(ClassSet::ALL);
    let want = Want { order: Order::Sequential, range: 2_000..=2_009, ..want(0) };
    for _ in 0..10 {
        let l4_port = ports.take(0, UDP, &want).unwrap();
        assert!(ports.give_back(0, UDP, l4_port, Some(1_000)));
    }
    assert_eq!((ports.resting(), ports.rests_cut_short()), (8, 2));
    assert_eq!(ports.take(0, UDP, &want), Ok(2_000), "the one that rested for longest");
}

/// RFC 6888 REQ-15: which port comes next is not to be guessed.
#[test]
fn rfc6888_req15_ports_are_spread() {
    let mut ports = ports(ClassSet::ALL);
    let taken: Vec<u16> = (0..2_000).map(|_| ports.take(0, UDP, &want(7)).unwrap()).collect();
    let near = taken.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) < 64).count();
    assert!(near < 20, "{near} of 2000 next to the one before");
    for quarter in 0..4 {
        let range = 1_024 + quarter * 16_128..1_024 + (quarter + 1) * 16_128;
        let share = taken.iter().filter(|&&port| range.contains(&u32::from(port))).count();
        assert!((420..580).contains(&share), "{share}");
    }
    let mut other = WanPorts::new(&WanConfig { seed: [3, 6], ..config(ClassSet::ALL) });
    other.add(0, Box::new(AddressPorts::new(ClassSet::ALL))).unwrap();
    assert_ne!(other.take(0, UDP, &want(7)), Ok(taken[0]));
}

/// What is looked ahead for is what comes, as long as nothing else happens.
#[test]
fn a_peek_tells_the_next_port() {
    let mut ports = ports(ClassSet::ALL);
    for n in 0..1_000 {
        let want = Want { keep_parity: n % 2 == 0, ..want(n) };
        let peeked = ports.peek(0, UDP, &want, 0);
        assert_eq!(ports.take(0, UDP, &want).ok(), peeked);
    }
    #[expect(clippy::reversed_empty_ranges, reason = "an empty one is what is tried")]
    let full = Want { range: 8..=7, ..want(1) };
    assert_eq!((ports.peek(0, UDP, &full, 0), ports.peek(1, UDP, &want(1), 0)), (None, None));
}

#[test]
fn in_order_means_the_next_number() {
    let mut ports = ports(ClassSet::ALL);
    let want = Want { order: Order::Sequential, range: 1_500..=1_503, ..want(0) };
    let mut next = || ports.take(0, TCP, &want);
    assert_eq!([next(), next(), next()], [Ok(1_500), Ok(1_501), Ok(1_502)]);
    assert!(ports.give_back(0, TCP, 1_500, None));
    assert_eq!(ports.take(0, TCP, &want), Ok(1_503), "round, not from the start");
    assert_eq!(ports.take(0, TCP, &want), Ok(1_500));
}

#[test]
fn workers_share_an_address_without_a_word() {
    // Pairs of ports in turn.
    let sets = [ClassSet(u128::MAX / 15 * 3), ClassSet(u128::MAX / 15 * 12)];
    let mut all = HashSet::new();
    for set in sets {
        let mut ports = ports(set);
        while let Ok(l4_port) = ports.take(0, UDP, &want(1)) {
            assert!(set.contains_port(l4_port));
            assert!(all.insert(l4_port));
        }
        assert_eq!(ports.capacity(0, UDP), 32_768);
        let foreign = if set.contains_port(5_000) { 5_002 } else { 5_000 };
        assert_eq!(ports.take_exact(0, UDP, foreign), Err(WanError::NotOurs));
    }
    assert_eq!(all.len(), 64_512);
}

#[test]
fn reserved_ports_are_never_taken() {
    let mut ports = ports(ClassSet::ALL);
    let want = Want { range: 8_080..=8_081, order: Order::Sequential, ..want(0) };
    assert!(ports.reserve(0, TCP, 8_080, true));
    assert!(ports.reserve(0, TCP, 8_080, true), "twice is once");
    assert_eq!(ports.capacity(0, TCP), 65_535);
    assert_eq!(ports.take_exact(0, TCP, 8_080), Err(WanError::Reserved));
    assert_eq!(ports.take(0, TCP, &want), Ok(8_081));
    assert!(ports.reserve(0, TCP, 8_081, true));
    assert!(ports.give_back(0, TCP, 8_081, None));
    assert_eq!(ports.take(0, TCP, &want), Err(WanError::Exhausted), "reserved while it was taken");
    assert!(ports.reserve(0, TCP, 8_080, false));
    assert_eq!(ports.take(0, TCP, &want), Ok(8_080));
    assert!(!ports.reserve(1, TCP, 8_080, true));
}

#[test]
fn shared_ports_are_no_mappings() {
    let mut ports = ports(ClassSet::ALL);
    let want = Want { range: 8_080..=8_081, order: Order::Sequential, ..want(0) };
    assert!(ports.is_open(0, TCP, 8_080));
    ports.share(0, TCP, 8_080, true);
    ports.share(0, TCP, 8_080, true);
    assert!(ports.is_open(0, TCP, 8_080), "for other remotes");
    assert_eq!(ports.take_exact(0, TCP, 8_080), Err(WanError::Shared));
    assert_eq!(ports.take(0, TCP, &want), Ok(8_081));
    assert_eq!(ports.take(0, TCP, &want), Err(WanError::Exhausted));
    ports.share(0, TCP, 8_080, false);
    assert_eq!(ports.take(0, TCP, &want), Ok(8_080));
    assert!(!ports.is_open(0, TCP, 8_080));
    assert!(ports.give_back(0, TCP, 8_080, Some(9)));
    assert!(!ports.is_open(0, TCP, 8_080), "it rests");
    ports.tick(at(9), 1);
    assert!(ports.reserve(0, TCP, 8_080, true));
    assert!(!ports.is_open(0, TCP, 8_080) && !ports.is_open(1, TCP, 8_090));
}

#[test]
fn an_address_that_goes_takes_its_rests_along() {
    let mut ports = ports(ClassSet::ALL);
    ports.take_exact(0, UDP, 3_000).unwrap();
    ports.take_exact(0, UDP, 3_001).unwrap();
    assert!(ports.give_back(0, UDP, 3_000, Some(100)));
    assert!(ports.remove(0).is_some());
    assert!(!ports.give_back(0, UDP, 3_001, None));
    assert_eq!(ports.take(0, UDP, &want(1)), Err(WanError::NoAddress));
    ports.add(0, Box::new(AddressPorts::new(ClassSet::ALL))).unwrap();
    ports.take_exact(0, UDP, 3_000).unwrap();
    assert_eq!(ports.tick(at(100), 10), 1);
    assert_eq!(ports.take_exact(0, UDP, 3_000), Err(WanError::Taken), "another's rest");
    assert!(ports.add(0, Box::new(AddressPorts::new(ClassSet::ALL))).is_err(), "there is one");
    assert!(ports.add(1, Box::new(AddressPorts::new(ClassSet(1)))).is_err(), "others' classes");
    assert!(ports.add(9, Box::new(AddressPorts::new(ClassSet::ALL))).is_err());
}

#[derive(Clone, Debug)]
enum Step {
    Take(bool, u16, u16, u16, bool),
    Exact(u16),
    Back(prop::sample::Index, bool),
    Reserve(u16, bool),
    Tick(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<bool>(), any::<u16>(), 0..1_400_u16, 0..80_u16, any::<bool>())
            .prop_map(|(seq, like, first, len, parity)| Step::Take(seq, like, first, len, parity)),
        1 => (0..1_400_u16).prop_map(Step::Exact),
        3 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(n, rest)| Step::Back(n, rest)),
        1 => (0..1_400_u16, any::<bool>()).prop_map(|(port, on)| Step::Reserve(port, on)),
        1 => (0..300_u16).prop_map(Step::Tick),
    ]
}

proptest! {
    /// Never twice, never a resting, reserved or foreign one, and none only if there is none.
    #[test]
    fn behaves_as_a_set_of_ports(steps in prop::collection::vec(step(), 1..300), classes in any::<u128>()) {
        let classes = ClassSet(classes);
        let mut ports = ports(classes);
        let (mut taken, mut resting) = (Vec::<u16>::new(), Vec::<(u16, u32)>::new());
        let mut reserved = HashMap::<u16, ()>::new();
        let mut now = 0_u32;
        for step in steps {
            let is_free = |port: u16, taken: &[u16], resting: &[(u16, u32)]| {
                classes.contains_port(port) && !taken.contains(&port)
                    && !resting.iter().any(|rest| rest.0 == port)
            };
            match step {
                Step::Take(sequential, like, first, len, parity) => {
                    let order = if sequential { Order::Sequential } else { Order::Random };
                    let range = first..=first + len;
                    let want =
                        Want { like, range: range.clone(), order, keep_parity: parity, keep_range: false };
                    let fits = |port: u16| {
                        is_free(port, &taken, &resting)
                            && !reserved.contains_key(&port)
                            && (!parity || port % 2 == like % 2)
                    };
                    match ports.take(0, UDP, &want) {
                        Ok(port) => {
                            prop_assert!(range.contains(&port) && fits(port), "{port}");
                            taken.push(port);
                        }
                        Err(error) => {
                            prop_assert_eq!(error, WanError::Exhausted);
                            prop_assert!(!range.clone().any(fits));
                        }
                    }
                }
                Step::Exact(port) => {
                    let free = is_free(port, &taken, &resting) && !reserved.contains_key(&port);
                    prop_assert_eq!(ports.take_exact(0, UDP, port).is_ok(), free);
                    if free {
                        taken.push(port);
                    }
                }
                Step::Back(index, rest) if !taken.is_empty() => {
                    let port = taken.swap_remove(index.index(taken.len()));
                    let until = rest.then_some(now + 100);
                    if rest && resting.len() == 8 {
                        resting.remove(0);
                    }
                    prop_assert!(ports.give_back(0, UDP, port, until));
                    if let Some(until) = until {
                        resting.push((port, until));
                    }
                }
                Step::Back(..) => {}
                Step::Reserve(port, on) => {
                    if ports.reserve(0, UDP, port, on) {
                        if on { reserved.insert(port, ()); } else { reserved.remove(&port); }
                    }
                }
                Step::Tick(ms) => {
                    now += u32::from(ms);
                    ports.tick(at(now.into()), usize::MAX);
                    resting.retain(|rest| rest.1 > now);
                }
            }
            let usage = Usage { taken: taken.len() as u32, resting: resting.len() as u32 };
            prop_assert_eq!(ports.usage(0, UDP), usage);
            let owned = classes.count() * 512 - reserved.len() as u32;
            prop_assert_eq!(ports.capacity(0, UDP), owned);
        }
    }
}
