//! The pool against a plain map, and what it promises on order, cost and memory.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::IpAddr;

use proptest::prelude::*;
use types::{Address, ClassSet, Now, PORT_CLASSES};

use crate::{GroupKey, LeaseConfig, LeaseConfigError, LeaseError, Leases, Usage, Within, plan};

const SEED: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];

/// All ports of the default range.
const DEFAULT_PORTS: u32 = 64_512;

fn key<A: Address>(number: u32) -> GroupKey<A> {
    let address = |low: u32| {
        let wide = IpAddr::V6((0x2001_0db8_u128 << 96 | u128::from(low) << 60).into());
        A::from_ip(wide).or(A::from_ip(low.to_ip())).unwrap()
    };
    GroupKey { lip: address(0xc612_0001), rs: address(0xc612_0100 + number), rport: 80, proto: 6 }
}

fn pool(config: &LeaseConfig) -> Leases {
    Leases::new(config).unwrap()
}

fn at(tick_ms: u32) -> Now {
    Now { tick_ms, ..Now::default() }
}

fn assert_empty<A: Address>(leases: &Leases<A>) {
    assert_eq!(leases.totals(), Usage::default());
    assert_eq!(leases.group_count(), 0);
    assert_eq!(leases.bytes_in_use(), 0, "no chunk is left without a port");
}

/// Class, then port: the order in which a group goes round.
fn order(l4_port: u16) -> (u16, u16) {
    (l4_port % 128, l4_port / 128)
}

#[derive(Default)]
struct ModelGroup {
    /// Port: whether it rests.
    occupied: BTreeMap<u16, bool>,
    /// The port leased last, once `take` gave one.
    last: Option<u16>,
}

struct Model {
    config: LeaseConfig,
    groups: HashMap<u32, ModelGroup>,
    resting: VecDeque<(u32, u16, u32)>,
    taken: u32,
}

impl Model {
    fn expected(&self, group: u32, classes: ClassSet) -> Result<Vec<u16>, LeaseError> {
        if self.taken == self.config.max_leases {
            return Err(LeaseError::Full);
        }
        let entry = self.groups.get(&group);
        let mut free: Vec<u16> = (self.config.l4_ports.clone())
            .filter(|&l4_port| classes.contains_port(l4_port))
            .filter(|l4_port| entry.is_none_or(|entry| !entry.occupied.contains_key(l4_port)))
            .collect();
        free.sort_by_key(|&l4_port| order(l4_port));
        match entry.and_then(|entry| entry.last) {
            _ if free.is_empty() => Err(LeaseError::Exhausted),
            Some(last) => {
                let after = free.iter().find(|&&l4_port| order(l4_port) > order(last));
                Ok(vec![*after.unwrap_or(&free[0])])
            }
            None => Ok(free),
        }
    }

    fn free(&mut self, group: u32, l4_port: u16) {
        let entry = self.groups.get_mut(&group).unwrap();
        entry.occupied.remove(&l4_port).unwrap();
        if entry.occupied.is_empty() {
            self.groups.remove(&group);
        }
    }

    fn end_oldest_rest(&mut self) {
        let (group, l4_port, _) = self.resting.pop_front().unwrap();
        self.free(group, l4_port);
    }

    fn state(&self, group: u32, l4_port: u16) -> Option<bool> {
        self.groups.get(&group)?.occupied.get(&l4_port).copied()
    }

    fn usage(&self, group: u32) -> Usage {
        let Some(entry) = self.groups.get(&group) else { return Usage::default() };
        let resting = entry.occupied.values().filter(|&&rests| rests).count() as u32;
        Usage { taken: entry.occupied.len() as u32 - resting, resting }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Take { group: u32, classes: u128 },
    TakeExact { group: u32, l4_port: u16 },
    GiveBack { group: u32, nth: usize, rest_ms: Option<u32> },
    GiveBackAny { group: u32, l4_port: u16, rest_ms: Option<u32> },
    Advance { ms: u32, budget: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let group = 0_u32..6;
    let rest = prop::option::of(Just(60));
    let classes = prop_oneof![4 => Just(u128::MAX), 2 => any::<u128>(), 1 => (0_u32..128).prop_map(|n| 1_u128 << n)];
    let step = prop_oneof![
        8 => (group.clone(), classes).prop_map(|(group, classes)| Step::Take { group, classes }),
        1 => (group.clone(), 990_u16..1_300)
            .prop_map(|(group, l4_port)| Step::TakeExact { group, l4_port }),
        5 => (group.clone(), any::<usize>(), rest.clone())
            .prop_map(|(group, nth, rest_ms)| Step::GiveBack { group, nth, rest_ms }),
        1 => (group, 990_u16..1_300, rest)
            .prop_map(|(group, l4_port, rest_ms)| Step::GiveBackAny { group, l4_port, rest_ms }),
        1 => (0_u32..40, 0_usize..8).prop_map(|(ms, budget)| Step::Advance { ms, budget }),
    ];
    prop::collection::vec(step, 0..600)
}

fn run<A: Address>(leases: &mut Leases<A>, model: &mut Model, steps: Vec<Step>) {
    // Just before the wrap of the ticks.
    let mut now = u32::MAX - 300;
    for step in steps {
        match step {
            Step::Take { group, classes } => {
                let expected = model.expected(group, ClassSet(classes));
                match (leases.take(&key(group), ClassSet(classes)), expected) {
                    (Ok(l4_port), Ok(candidates)) => {
                        assert!(candidates.contains(&l4_port), "{l4_port} not in {candidates:?}");
                        let entry = model.groups.entry(group).or_default();
                        assert_eq!(entry.occupied.insert(l4_port, false), None, "leased twice");
                        entry.last = Some(l4_port);
                        model.taken += 1;
                    }
                    (got, expected) => assert_eq!(got.err(), expected.err()),
                }
            }
            Step::TakeExact { group, l4_port } => {
                let expected = match model.state(group, l4_port) {
                    _ if !model.config.l4_ports.contains(&l4_port) => Err(LeaseError::OutOfRange),
                    Some(false) => Err(LeaseError::Taken),
                    Some(true) => Err(LeaseError::Resting),
                    None if model.taken == model.config.max_leases => Err(LeaseError::Full),
                    None => Ok(()),
                };
                assert_eq!(leases.take_exact(&key(group), l4_port), expected);
                if expected.is_ok() {
                    model.groups.entry(group).or_default().occupied.insert(l4_port, false);
                    model.taken += 1;
                }
            }
            Step::GiveBack { group, nth, rest_ms } => {
                let Some(entry) = model.groups.get(&group) else { continue };
                let nth = nth % entry.occupied.len();
                let l4_port = *entry.occupied.keys().nth(nth).unwrap();
                give_back(leases, model, group, l4_port, rest_ms.map(|ms| now.wrapping_add(ms)));
            }
            Step::GiveBackAny { group, l4_port, rest_ms } => {
                give_back(leases, model, group, l4_port, rest_ms.map(|ms| now.wrapping_add(ms)));
            }
            Step::Advance { ms, budget } => {
                now = now.wrapping_add(ms);
                let mut ended = 0;
                while ended < budget
                    && model.resting.front().is_some_and(|rest| now.wrapping_sub(rest.2) < 1 << 31)
                {
                    model.end_oldest_rest();
                    ended += 1;
                }
                assert_eq!(leases.tick(at(now), budget), ended);
            }
        }
        for group in 0..6 {
            assert_eq!(leases.usage(&key(group)), model.usage(group));
        }
        let resting = model.resting.len() as u32;
        assert_eq!(leases.totals(), Usage { taken: model.taken, resting });
        assert_eq!(leases.group_count(), model.groups.len());
    }
}

fn give_back<A: Address>(
    leases: &mut Leases<A>,
    model: &mut Model,
    group: u32,
    l4_port: u16,
    until: Option<u32>,
) {
    let taken = model.state(group, l4_port) == Some(false);
    assert_eq!(leases.give_back(&key(group), l4_port, until), taken);
    if !taken {
        return;
    }
    model.taken -= 1;
    match until {
        Some(until) if model.config.max_resting > 0 => {
            if model.resting.len() == model.config.max_resting as usize {
                model.end_oldest_rest();
            }
            model.groups.get_mut(&group).unwrap().occupied.insert(l4_port, true);
            model.resting.push_back((group, l4_port, until));
        }
        _ => model.free(group, l4_port),
    }
}

fn run_all<A: Address>(config: &LeaseConfig, steps: Vec<Step>) {
    let mut leases = Leases::<A>::new(config).unwrap();
    let (groups, resting) = (HashMap::new(), VecDeque::new());
    let mut model = Model { config: config.clone(), groups, resting, taken: 0 };
    run(&mut leases, &mut model, steps);

    // All of it comes back, and nothing is left.
    for (group, entry) in model.groups {
        for (l4_port, rests) in entry.occupied {
            assert_eq!(leases.give_back(&key(group), l4_port, None), !rests);
        }
    }
    leases.tick(at(1_000_000), usize::MAX);
    assert_empty(&leases);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn behaves_as_a_map(
        steps in steps(),
        max_leases in 0_u32..260,
        max_resting in 0_u32..24,
        last in prop_oneof![Just(1_000_u16), Just(1_007), Just(1_040), Just(1_290)],
        seed in any::<[u64; 2]>(),
    ) {
        let config = LeaseConfig { max_leases, max_resting, l4_ports: 1_000..=last, seed };
        run_all::<u32>(&config, steps.clone());
        run_all::<u128>(&config, steps);
    }

    #[test]
    fn order_does_not_depend_on_which_ports_are_taken(
        holds in prop::collection::vec(0_u32..DEFAULT_PORTS, 0..300),
    ) {
        // Long-lived conns stay where they are while the cursor goes round past them.
        let mut leases = pool(&LeaseConfig::new(1_000, SEED));
        let mut held = HashSet::new();
        for hold in holds {
            let l4_port = 1_024 + hold as u16;
            prop_assert_eq!(leases.take_exact(&key(0), l4_port).is_ok(), held.insert(l4_port));
        }
        let mut previous: Option<u16> = None;
        let mut wraps = 0;
        for _ in 0..DEFAULT_PORTS as usize - held.len() {
            let l4_port = leases.take(&key(0), ClassSet::ALL).unwrap();
            prop_assert!(!held.contains(&l4_port));
            wraps += u32::from(previous.is_some_and(|previous| order(l4_port) < order(previous)));
            previous = Some(l4_port);
            leases.give_back(&key(0), l4_port, None);
        }
        prop_assert!(wraps <= 1, "every free port once before one comes again");
    }
}

#[test]
fn takes_to_the_last_port_at_the_same_cost() {
    let mut leases = pool(&LeaseConfig::new(DEFAULT_PORTS, SEED));
    let mut seen = HashSet::new();
    let mut costs = Vec::new();
    for _ in 0..DEFAULT_PORTS {
        let before = leases.probes();
        assert!(seen.insert(leases.take(&key(0), ClassSet::ALL).unwrap()));
        costs.push(leases.probes() - before);
    }
    // The last ports, one here and one there: a worst case for a search.
    for round in 0..2_000_u32 {
        let victim = 1_024 + (round * 40_503 % DEFAULT_PORTS) as u16;
        assert!(leases.give_back(&key(0), victim, None));
        let before = leases.probes();
        assert_eq!(leases.take(&key(0), ClassSet::ALL), Ok(victim));
        costs.push(leases.probes() - before);
    }
    let worst = *costs.iter().max().unwrap();
    // 1 group, 4 chunks to the end of a class, 4 in the next, 1 to mark, 4 to see a full class;
    // each may stand behind a few others in its chain.
    assert!(worst <= 40, "{worst} entries looked at for one port");
    let mean = |costs: &[u64]| costs.iter().sum::<u64>() as f64 / costs.len() as f64;
    let (first, last) = (mean(&costs[..2_000]), mean(&costs[costs.len() - 2_000..]));
    assert!(last < first * 4.0, "{last} entries looked at instead of {first}");

    let mut exhausted =
        pool(&LeaseConfig { l4_ports: 5_000..=5_999, ..LeaseConfig::new(2_000, SEED) });
    for _ in 0..1_000 {
        exhausted.take(&key(0), ClassSet::ALL).unwrap();
    }
    let before = exhausted.probes();
    assert_eq!(exhausted.take(&key(0), ClassSet::ALL), Err(LeaseError::Exhausted));
    assert!(exhausted.probes() - before <= 4, "refusing is cheap too");
    assert!(exhausted.take(&key(1), ClassSet::ALL).is_ok(), "another destination has its own");
}

#[test]
fn workers_share_all_ports_without_waste() {
    for workers in [1_usize, 2, 3, 10, 33, 128] {
        let mut seen = HashSet::new();
        for worker in 0..workers {
            let classes = (worker..PORT_CLASSES)
                .step_by(workers)
                .fold(ClassSet::NONE, |set, class| set.with(class as u8));
            let mut leases = pool(&LeaseConfig::new(DEFAULT_PORTS + 1, SEED));
            let capacity = leases.capacity(classes);
            for _ in 0..capacity {
                let l4_port = leases.take(&key(7), classes).unwrap();
                assert!(classes.contains_port(l4_port) && l4_port >= 1_024);
                assert!(seen.insert(l4_port));
            }
            assert_eq!(leases.take(&key(7), classes), Err(LeaseError::Exhausted));
        }
        assert_eq!(seen.len() as u32, DEFAULT_PORTS);
    }
}

#[test]
fn a_freed_port_comes_last_even_if_its_group_went() {
    // One conn at a time, or five: the group vanishes and returns, the round goes on.
    for (at_once, classes) in [(1, ClassSet::ALL), (5, ClassSet::ALL), (1, ClassSet(1 << 77))] {
        let mut leases = pool(&LeaseConfig::new(100, SEED));
        let capacity = leases.capacity(classes) as usize;
        let mut recent = VecDeque::new();
        let mut recent_set = HashSet::new();
        for _ in 0..2 * capacity / at_once {
            let ports: Vec<u16> =
                (0..at_once).map(|_| leases.take(&key(3), classes).unwrap()).collect();
            for l4_port in ports {
                assert!(recent_set.insert(l4_port), "{l4_port} comes again too early");
                recent.push_back(l4_port);
                if recent.len() == capacity - at_once {
                    recent_set.remove(&recent.pop_front().unwrap());
                }
                assert!(leases.give_back(&key(3), l4_port, None));
            }
            assert_empty(&leases);
        }
    }
}

#[test]
fn groups_begin_where_nobody_can_guess() {
    let firsts: HashSet<u16> = (0..100)
        .map(|seed| pool(&LeaseConfig::new(10, [seed, 1])).take(&key(0), ClassSet::ALL).unwrap())
        .collect();
    assert!(firsts.len() > 95, "only {} first ports of 100 seeds", firsts.len());
}

#[test]
fn rests_to_the_tick_across_the_wrap() {
    let config = LeaseConfig { l4_ports: 2_000..=2_001, ..LeaseConfig::new(10, SEED) };
    let mut leases = pool(&config);
    let first = leases.take(&key(0), ClassSet::ALL).unwrap();
    leases.take(&key(0), ClassSet::ALL).unwrap();
    let start = u32::MAX - 10;
    assert!(leases.give_back(&key(0), first, Some(start.wrapping_add(60_000))));
    assert_eq!(leases.usage(&key(0)), Usage { taken: 1, resting: 1 });
    for waited in [0, 5, 11, 30_000, 59_999] {
        assert_eq!(leases.tick(at(start.wrapping_add(waited)), 64), 0, "{waited} ms");
        assert_eq!(leases.take(&key(0), ClassSet::ALL), Err(LeaseError::Exhausted));
        assert_eq!(leases.take_exact(&key(0), first), Err(LeaseError::Resting));
        assert!(!leases.give_back(&key(0), first, None), "given back twice");
    }
    assert_eq!(leases.tick(at(start.wrapping_add(60_000)), 0), 0, "no budget");
    assert_eq!(leases.tick(at(start.wrapping_add(60_000)), 64), 1);
    assert_eq!(leases.take(&key(0), ClassSet::ALL), Ok(first));
    assert_eq!(leases.rests_cut_short(), 0);
}

#[test]
fn too_many_rests_end_the_oldest_early() {
    let config = LeaseConfig { max_resting: 3, ..LeaseConfig::new(20, SEED) };
    let mut leases = pool(&config);
    let ports: Vec<u16> = (0..10).map(|_| leases.take(&key(0), ClassSet::ALL).unwrap()).collect();
    for &l4_port in &ports {
        assert!(leases.give_back(&key(0), l4_port, Some(60_000)));
    }
    assert_eq!(leases.totals(), Usage { taken: 0, resting: 3 });
    assert_eq!(leases.rests_cut_short(), 7);
    assert_eq!(leases.take_exact(&key(0), ports[6]), Ok(()));
    assert_eq!(leases.take_exact(&key(0), ports[7]), Err(LeaseError::Resting));
}

#[test]
fn resting_ports_never_keep_a_lease_from_being_taken() {
    // As many leases and rests as there is room for, each in another group.
    let config = LeaseConfig { max_resting: 500, ..LeaseConfig::new(2_000, SEED) };
    let mut leases = pool(&config);
    for number in 0..500 {
        let l4_port = leases.take(&key(number), ClassSet::ALL).unwrap();
        assert!(leases.give_back(&key(number), l4_port, Some(60_000)));
    }
    for number in 500..2_500 {
        assert!(leases.take(&key(number), ClassSet::ALL).is_ok());
    }
    assert_eq!(leases.totals(), Usage { taken: 2_000, resting: 500 });
    assert_eq!(leases.take(&key(9_999), ClassSet::ALL), Err(LeaseError::Full));
    assert_eq!(leases.take(&key(0), ClassSet::ALL), Err(LeaseError::Full));
    assert_eq!(leases.take_exact(&key(9_999), 5_000), Err(LeaseError::Full));
}

#[test]
fn a_chunk_for_every_port_is_there_when_all_are_scattered() {
    // Nine ports a group, each in a chunk of its own, a third of them resting.
    let config = LeaseConfig { max_resting: 300, ..LeaseConfig::new(900, SEED) };
    let mut leases = pool(&config);
    let scattered: Vec<u16> = (0..9).map(|class| 20_000 + 129 * class).collect();
    for number in 0..133 {
        for (index, &l4_port) in scattered.iter().enumerate() {
            leases.take_exact(&key(number), l4_port).unwrap();
            if index % 3 == 0 && leases.totals().resting < 300 {
                assert!(leases.give_back(&key(number), l4_port, Some(1)));
            }
        }
        assert!(leases.totals().taken <= 900);
    }
    assert_eq!(leases.totals(), Usage { taken: 897, resting: 300 });
    for number in 0..133 {
        for &l4_port in &scattered {
            leases.give_back(&key(number), l4_port, None);
        }
    }
    leases.tick(at(1), usize::MAX);
    assert_empty(&leases);
}

#[test]
fn the_reserve_is_enough_for_groups_that_have_lost_most_of_their_ports() {
    // A group with chunks needs more records than it has ports: nine ports make it have them, and
    // five are the fewest with which it does. Also of ranges with a single port in each class.
    for l4_ports in [1_024..=65_535, 4_992..=5_119, 4_992..=5_247] {
        let config = LeaseConfig { max_resting: 100, l4_ports, ..LeaseConfig::new(400, SEED) };
        let mut leases = pool(&config);
        let scattered: Vec<u16> = (0..9).map(|class| 4_992 + 14 * class).collect();
        let fill = |leases: &mut Leases, number: u32, left: usize| {
            for &l4_port in &scattered {
                leases.take_exact(&key(number), l4_port).unwrap();
            }
            for &l4_port in &scattered[left..] {
                assert!(leases.give_back(&key(number), l4_port, None));
            }
            assert_eq!(leases.usage(&key(number)).taken, left as u32);
        };
        for number in 0..20 {
            fill(&mut leases, number, 5);
            for &l4_port in &scattered[..5] {
                assert!(leases.give_back(&key(number), l4_port, Some(1)));
            }
        }
        assert_eq!(leases.totals(), Usage { taken: 0, resting: 100 });
        for number in 20..99 {
            fill(&mut leases, number, 5);
        }
        // The rest in groups of one, to the last lease.
        for number in 0..5 {
            assert!(leases.take(&key(1_000 + number), ClassSet::ALL).is_ok());
        }
        assert_eq!(leases.totals(), Usage { taken: 400, resting: 100 });
        for number in 20..99 {
            for &l4_port in &scattered[..5] {
                assert!(leases.give_back(&key(number), l4_port, None));
            }
        }
        for number in 0..5 {
            let key = key(1_000 + number);
            let l4_port = (0..=u16::MAX).find(|&port| leases.give_back(&key, port, None));
            assert!(l4_port.is_some());
        }
        leases.tick(at(1), usize::MAX);
        assert_empty(&leases);
    }
}

#[test]
fn a_group_lists_its_ports_again_when_few_are_left() {
    let mut leases = pool(&LeaseConfig::new(100, SEED));
    let ports: Vec<u16> = (0..100).map(|_| leases.take(&key(0), ClassSet::ALL).unwrap()).collect();
    assert!(leases.give_back(&key(0), ports[99], Some(1)));
    for &l4_port in &ports[3..99] {
        assert!(leases.give_back(&key(0), l4_port, None));
    }
    assert_eq!(leases.usage(&key(0)), Usage { taken: 3, resting: 1 });
    assert_eq!(leases.bytes_in_use(), 48 + 12, "a group and a rest, no chunk");
    assert_eq!(leases.take_exact(&key(0), ports[99]), Err(LeaseError::Resting));
    assert_eq!(leases.take_exact(&key(0), ports[1]), Err(LeaseError::Taken));
    assert_eq!(leases.take_exact(&key(0), ports[50]), Ok(()));
}

#[test]
fn thousands_of_groups_keep_to_themselves() {
    let mut leases = pool(&LeaseConfig::new(200_000, SEED));
    let mut taken: HashMap<u32, HashSet<u16>> = HashMap::new();
    for round in 0..20 {
        for number in 0..5_000 {
            if (number * 7 + round) % 3 == 0 {
                continue;
            }
            let l4_port = leases.take(&key(number), ClassSet::ALL).unwrap();
            assert!(taken.entry(number).or_default().insert(l4_port));
        }
    }
    assert_eq!(leases.group_count(), 5_000);
    let walked: u32 = (0..leases.group_places())
        .filter_map(|place| leases.group_at(place))
        .map(|(key, usage)| {
            assert_eq!(usage, leases.usage(&key));
            usage.taken
        })
        .sum();
    assert_eq!(walked, leases.totals().taken);
    for (number, ports) in taken {
        assert_eq!(leases.usage(&key(number)).taken as usize, ports.len());
        for l4_port in ports {
            assert!(leases.give_back(&key(number), l4_port, None));
            assert!(!leases.give_back(&key(number), l4_port, None));
        }
    }
    assert_empty(&leases);
}

#[test]
fn memory_is_what_the_book_says() {
    let mut dense = pool(&LeaseConfig::new(DEFAULT_PORTS, SEED));
    for _ in 0..DEFAULT_PORTS {
        dense.take(&key(0), ClassSet::ALL).unwrap();
    }
    let bits = dense.bytes_in_use() as f64 * 8.0 / f64::from(DEFAULT_PORTS);
    assert!(bits < 3.1, "{bits:.2} bits a port at density");

    let mut sparse = pool(&LeaseConfig::new(10_000, SEED));
    for number in 0..10_000 {
        sparse.take(&key(number), ClassSet::ALL).unwrap();
    }
    let bytes = sparse.bytes_in_use() / 10_000;
    assert_eq!(bytes, 48, "each port in another group");

    let plan = plan::<u32>(&LeaseConfig::new(1_000_000, SEED));
    assert!(plan.total_bytes() < 76_000_000, "{plan:?}");
}

#[test]
fn nonsense_is_refused() {
    #[expect(clippy::reversed_empty_ranges)]
    let empty = LeaseConfig { l4_ports: 10..=9, ..LeaseConfig::new(10, SEED) };
    assert_eq!(<Leases>::new(&empty).err(), Some(LeaseConfigError::NoPorts(10, 9)));
    let huge = LeaseConfig::new(u32::MAX, SEED);
    assert!(matches!(<Leases>::new(&huge).err(), Some(LeaseConfigError::TooMany(_))));
    let mut none = pool(&LeaseConfig::new(0, SEED));
    assert_eq!(none.take(&key(0), ClassSet::ALL), Err(LeaseError::Full));
    let mut some = pool(&LeaseConfig::new(1, SEED));
    assert_eq!(some.take(&key(0), ClassSet::NONE), Err(LeaseError::Exhausted));
    assert!(!some.give_back(&key(0), 5_000, None));
}

proptest! {
    /// Two rules share a destination, each with a range of its own: each gets what is free of it, and no more.
    #[test]
    fn ports_are_taken_within_a_range(
        ranges in prop::collection::vec((1_000..1_400_u16, 0..400_u16), 2),
        takes in prop::collection::vec((0..2_usize, any::<bool>()), 1..400),
        classes in any::<u128>(),
    ) {
        let classes = ClassSet(classes);
        let mut leases = pool(&LeaseConfig { l4_ports: 1..=65_535, ..LeaseConfig::new(1_000, SEED) });
        let ranges: Vec<_> = ranges.iter().map(|(first, len)| *first..=*first + *len).collect();
        let mut taken = Vec::new();
        for (n, back) in takes {
            if back && !taken.is_empty() {
                prop_assert!(leases.give_back(&key(0), taken.remove(taken.len() / 2), None));
                continue;
            }
            let within = Within::new(&ranges[n]);
            let fits = |l4_port: &u16| classes.contains_port(*l4_port);
            prop_assert_eq!(within.count(classes) as usize, ranges[n].clone().filter(fits).count());
            match leases.take_within(&key(0), classes, &within) {
                Ok(l4_port) => {
                    prop_assert!(ranges[n].contains(&l4_port) && fits(&l4_port));
                    prop_assert!(!taken.contains(&l4_port));
                    taken.push(l4_port);
                }
                Err(error) => {
                    prop_assert_eq!(error, LeaseError::Exhausted);
                    prop_assert!(ranges[n].clone().filter(fits).all(|l4_port| taken.contains(&l4_port)));
                }
            }
        }
    }
}
