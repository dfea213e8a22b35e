use std::net::Ipv6Addr;

use proptest::prelude::*;

use super::*;
use crate::config::{Address, FibConfig, Interface, Role, Route, RouteKind};
use crate::next_hop::NextHop;

const LAN: EthPortId = EthPortId(1);
const OURS: IpAddr = v4(0xc612_0001);
const RS: IpAddr = v4(0xc612_0079);
const GATEWAY: IpAddr = v4(0xc612_00fe);
const OURS6: IpAddr = v6(0xfd00_0018 << 96 | 1);
const RS6: IpAddr = v6(0xfd00_0018 << 96 | 0x79);
const ROUTER6: IpAddr = v6(0xfe80 << 112 | 0xfe);
const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

const fn v4(number: u32) -> IpAddr {
    IpAddr::V4(std::net::Ipv4Addr::from_bits(number))
}

const fn v6(number: u128) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from_bits(number))
}

/// A host of the subnet of [`OURS`].
fn host(number: u32) -> IpAddr {
    v4(0xc612_0001 + number)
}

fn fib() -> Fib {
    let route = Route {
        prefix: "0.0.0.0/0".parse().unwrap(),
        kind: RouteKind::Unicast,
        via: Some(GATEWAY),
        iface: LAN,
        metric: 0,
        src: None,
        mtu: None,
        on_link: false,
    };
    let (id, name) = (LAN, "lan0".to_owned());
    let config = FibConfig {
        interfaces: vec![Interface { id, name, mac: MacAddr::default(), mtu: 1500, primary: None }],
        addresses: [(OURS, 24), (OURS6, 64)]
            .map(|(address, prefix_len)| Address {
                address,
                prefix_len,
                iface: LAN,
                role: Role::Local,
            })
            .into(),
        routes: vec![route],
    };
    Fib::new(&config, 1).unwrap()
}

/// Neighbours with a clock, the actions of each call kept apart.
struct Bench {
    fib: Fib,
    neighbours: Neighbours,
    shared: Arc<NextHops>,
    now_ms: u64,
}

impl Bench {
    fn new() -> Self {
        Self::with(NeighbourConfig { capacity: 1000, ..NeighbourConfig::default() })
    }

    fn with(config: NeighbourConfig) -> Self {
        let neighbours = Neighbours::new(config);
        let shared = neighbours.next_hops();
        Self { fib: fib(), neighbours, shared, now_ms: 10_000 }
    }

    fn needed(&mut self, address: IpAddr) -> Result<Vec<NeighbourAction>, NeighbourError> {
        let mut actions = Vec::new();
        self.neighbours.needed(&self.fib, LAN, address, self.now_ms, &mut actions)?;
        Ok(actions)
    }

    fn learned(&mut self, address: IpAddr, mac: MacAddr, heard: Heard) -> Vec<NeighbourAction> {
        let mut actions = Vec::new();
        let learned = Learned { iface: LAN, address, mac, heard };
        self.neighbours.learned(&self.fib, learned, self.now_ms, &mut actions);
        actions
    }

    /// Lets time pass in steps of 100 ms; what was done, with the time since the call.
    fn pass(&mut self, ms: u64) -> Vec<(u64, NeighbourAction)> {
        let (start, mut all) = (self.now_ms, Vec::new());
        while self.now_ms < start + ms {
            self.now_ms += 100;
            let mut actions = Vec::new();
            self.neighbours.tick(&self.fib, self.now_ms, &mut actions);
            all.extend(actions.into_iter().map(|action| (self.now_ms - start, action)));
        }
        all
    }

    fn pass_in_use(&mut self, ms: u64) -> Vec<(u64, NeighbourAction)> {
        let (start, mut all) = (self.now_ms, Vec::new());
        while self.now_ms < start + ms {
            let id = find(&self.shared, RS);
            self.shared.mark_used(id);
            let offset = self.now_ms - start;
            all.extend(self.pass(100).into_iter().map(|(at, action)| (at + offset, action)));
        }
        all
    }

    fn state(&self) -> NeighbourState {
        self.neighbours.find(LAN, RS).unwrap().state
    }

    fn slot(&self) -> NextHop {
        self.shared.read(find(&self.shared, RS))
    }
}

fn find(next_hops: &NextHops, address: IpAddr) -> NextHopId {
    by_family!(address, number => next_hops.find(LAN, number))
}

fn ask(to: Option<MacAddr>) -> NeighbourAction {
    NeighbourAction::Ask { iface: LAN, target: RS, source: Some(OURS), to }
}

#[test]
fn three_questions_then_failed_then_again_when_wanted() {
    let mut bench = Bench::new();
    assert_eq!(bench.needed(RS).unwrap(), [ask(None)]);
    assert_eq!(bench.needed(RS).unwrap(), [], "asked already");
    assert_eq!(bench.slot().state, NextHopState::Unresolved);
    let id = find(&bench.shared, RS);
    let failed = NeighbourAction::Failed { id, iface: LAN, address: RS };
    assert_eq!(bench.pass(3000), [(1000, ask(None)), (2000, ask(None)), (3000, failed)]);
    assert_eq!(bench.slot().state, NextHopState::Failed);
    assert_eq!(bench.pass(5000), [], "nobody wants it");
    bench.shared.mark_used(id);
    let again = bench.pass(1100);
    assert_eq!(again.first().unwrap().1, ask(None));
    assert_eq!(bench.slot().state, NextHopState::Unresolved);
    assert_eq!(bench.learned(RS, MAC, Heard::Reply).len(), 1);
    assert_eq!(bench.slot(), NextHop { mac: MAC, iface: LAN, state: NextHopState::Resolved });
}

#[test]
fn the_unused_are_forgotten() {
    let mut bench = Bench::new();
    bench.needed(RS).unwrap();
    bench.learned(RS, MAC, Heard::Reply);
    assert_eq!(bench.state(), NeighbourState::Reachable);
    assert_eq!(bench.pass(130_000), []);
    assert_eq!(bench.neighbours.find(LAN, RS), None);
    assert_eq!(bench.slot().state, NextHopState::Vacant);
    assert_eq!(bench.neighbours.counts(LAN).learned, 0);
}

#[test]
fn the_used_are_asked_and_stay() {
    let mut bench = Bench::new();
    bench.needed(RS).unwrap();
    bench.learned(RS, MAC, Heard::Reply);
    for _ in 0..5 {
        let mut asked = None;
        while asked.is_none() {
            asked = bench.pass_in_use(100).pop();
            assert_eq!(bench.slot().state, NextHopState::Resolved);
        }
        assert_eq!(asked.unwrap().1, ask(Some(MAC)));
        assert_eq!(bench.state(), NeighbourState::Probe);
        assert_eq!(bench.learned(RS, MAC, Heard::Reply), []);
        assert_eq!(bench.state(), NeighbourState::Reachable);
    }
}

#[test]
fn one_that_went_silent_is_asked_by_broadcast_before_it_fails() {
    let mut bench = Bench::new();
    bench.learned(RS, MAC, Heard::Request);
    assert_eq!(bench.state(), NeighbourState::Stale);
    let mut actions = bench.pass_in_use(12_000).into_iter().map(|(_, action)| action);
    for to in [Some(MAC), Some(MAC), Some(MAC), None, None, None] {
        assert_eq!(actions.next(), Some(ask(to)));
    }
    assert!(matches!(actions.next(), Some(NeighbourAction::Failed { .. })));
}

#[test]
fn a_new_card_answers_the_broadcast_and_no_packet_is_lost() {
    let mut bench = Bench::new();
    bench.learned(RS, MAC, Heard::Request);
    while bench.pass_in_use(100).last().is_none_or(|(_, action)| *action != ask(None)) {
        assert_eq!(bench.slot().state, NextHopState::Resolved);
    }
    let id = find(&bench.shared, RS);
    let resolved = NeighbourAction::Resolved { id, iface: LAN, address: RS, mac: OTHER };
    assert_eq!(bench.learned(RS, OTHER, Heard::Reply), [resolved]);
    assert_eq!(bench.slot().mac, OTHER);
}

#[test]
fn gratuitous_arp_changes_the_known_and_makes_no_new_ones() {
    let mut bench = Bench::new();
    assert_eq!(bench.learned(RS, MAC, Heard::Gratuitous), []);
    assert_eq!(bench.learned(RS, MAC, Heard::Reply), [], "nobody asked");
    assert_eq!(bench.neighbours.iter().count(), 0);
    bench.needed(RS).unwrap();
    bench.learned(RS, MAC, Heard::Reply);
    assert_eq!(bench.learned(RS, OTHER, Heard::Reply), [], "the first answer counts");
    assert_eq!(bench.learned(RS, OTHER, Heard::Gratuitous).len(), 1);
    assert_eq!((bench.slot().mac, bench.state()), (OTHER, NeighbourState::Stale));
}

#[test]
fn the_permanent_stay_as_they_are() {
    let mut bench = Bench::new();
    let set = bench.neighbours.set_permanent(&bench.fib, LAN, RS, MAC, bench.now_ms);
    assert!(set.is_ok());
    assert_eq!(bench.learned(RS, OTHER, Heard::Gratuitous), []);
    assert_eq!(bench.pass(200_000), []);
    bench.neighbours.flush(LAN);
    assert_eq!(bench.slot().mac, MAC);
    assert!(bench.neighbours.remove(LAN, RS));
    assert!(!bench.neighbours.remove(LAN, RS));
    assert_eq!(bench.slot().state, NextHopState::Vacant);
    let set = bench.neighbours.set_permanent(&bench.fib, LAN, RS, MacAddr::BROADCAST, bench.now_ms);
    assert_eq!(set, Err(NeighbourError::Mac(MacAddr::BROADCAST)));
}

#[test]
fn strangers_and_impostors_are_not_believed() {
    let mut bench = Bench::new();
    let stranger = v4(0x0808_0808);
    assert_eq!(bench.learned(stranger, MAC, Heard::Request), []);
    let error = bench.needed(stranger).unwrap_err().to_string();
    assert_eq!(error, "8.8.8.8 is not on link of interface 1");
    assert!(bench.needed(OURS).is_err());
    assert!(bench.needed(v4(0xc612_00ff)).is_err(), "broadcast");
    let conflict = NeighbourAction::Conflict { iface: LAN, address: OURS, mac: MAC };
    assert_eq!(bench.learned(OURS, MAC, Heard::Gratuitous), [conflict]);
    assert_eq!(bench.learned(RS, MacAddr::BROADCAST, Heard::Request), []);
    assert_eq!(bench.learned(RS, MacAddr::default(), Heard::Request), []);
    assert_eq!(bench.neighbours.iter().count(), 0);
}

#[test]
fn limits_hold_and_the_last_quarter_is_for_the_wanted() {
    let mut bench = Bench::with(NeighbourConfig {
        capacity: 1000,
        per_interface: 40,
        unresolved_per_interface: 4,
        ..NeighbourConfig::default()
    });
    for number in 2..100 {
        bench.learned(host(number), MAC, Heard::Request);
    }
    assert_eq!(bench.neighbours.counts(LAN).learned, 30);
    for number in 100..104 {
        bench.needed(host(number)).unwrap();
    }
    assert_eq!(
        bench.needed(host(104)).unwrap_err().to_string(),
        "no room for neighbour 198.18.0.105: interface 1 has 4 neighbours that do not answer"
    );
    bench.pass(2000);
    assert!(bench.neighbours.counts(LAN).learned < 40, "the unused went early");
}

#[test]
fn what_is_off_link_after_a_change_is_forgotten() {
    let mut bench = Bench::new();
    bench.learned(RS, MAC, Heard::Request);
    bench.learned(GATEWAY, MAC, Heard::Request);
    bench.neighbours.fib_changed(&bench.fib);
    assert_eq!(bench.neighbours.iter().count(), 2);
    let empty = Fib::new(&FibConfig::default(), 2).unwrap();
    bench.neighbours.fib_changed(&empty);
    assert_eq!(bench.neighbours.iter().count(), 0);
}

#[test]
fn ipv6_neighbours_are_asked_from_an_address_of_their_own_kind() {
    let mut bench = Bench::new();
    let link_local = bench.fib.link_local(LAN).map(|address| address.to_ip());
    for (target, source) in [(RS6, Some(OURS6)), (ROUTER6, link_local)] {
        let ask = NeighbourAction::Ask { iface: LAN, target, source, to: None };
        assert_eq!(bench.needed(target).unwrap(), [ask]);
        assert_eq!(bench.shared.read(find(&bench.shared, target)).state, NextHopState::Unresolved);
        assert_eq!(bench.learned(target, MAC, Heard::Reply).len(), 1);
        assert_eq!(bench.shared.read(find(&bench.shared, target)).mac, MAC);
    }
    let stranger = v6(0x2001_0db8 << 96 | 1);
    let error = bench.needed(stranger).unwrap_err().to_string();
    assert_eq!(error, "2001:db8::1 is not on link of interface 1");
    let conflict = NeighbourAction::Conflict { iface: LAN, address: OURS6, mac: MAC };
    assert_eq!(bench.learned(OURS6, MAC, Heard::Gratuitous), [conflict]);
}

#[test]
fn an_advertisement_without_override_changes_no_known_address() {
    let mut bench = Bench::new();
    bench.needed(RS6).unwrap();
    let state =
        |bench: &Bench| bench.neighbours.find(LAN, RS6).map(|known| (known.state, known.mac));
    assert_eq!(bench.learned(RS6, MAC, Heard::WeakReply).len(), 1, "nothing was known");
    assert_eq!(state(&bench), Some((NeighbourState::Reachable, Some(MAC))));
    bench.pass(2000);
    assert_eq!(bench.learned(RS6, OTHER, Heard::WeakReply), []);
    assert_eq!(state(&bench), Some((NeighbourState::Stale, Some(MAC))));
    assert_eq!(bench.learned(RS6, OTHER, Heard::WeakReply), []);
    assert_eq!(state(&bench), Some((NeighbourState::Stale, Some(MAC))));
    assert_eq!(bench.learned(RS6, OTHER, Heard::Gratuitous).len(), 1);
    assert_eq!(state(&bench), Some((NeighbourState::Stale, Some(OTHER))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn slots_and_counts_agree_with_the_record(
        steps in proptest::collection::vec((0u8..7, 2u32..40, 0u64..4000), 0..150),
    ) {
        let mut bench = Bench::with(NeighbourConfig {
            capacity: 64,
            per_interface: 20,
            unresolved_per_interface: 5,
            ..NeighbourConfig::default()
        });
        let mut generation = 1;
        for (what, number, ms) in steps {
            let address = host(number);
            match what {
                0 => { let _ = bench.needed(address); }
                1 => { bench.learned(address, MAC, Heard::Request); }
                2 => { bench.learned(address, OTHER, Heard::Reply); }
                3 => { bench.learned(address, OTHER, Heard::Gratuitous); }
                4 => { bench.neighbours.remove(LAN, address); }
                5 => bench.shared.mark_used(find(&bench.shared, address)),
                _ => { bench.pass(ms); }
            }
            if bench.neighbours.wants_generation() {
                generation += 1;
                bench.neighbours.publish(generation);
                bench.neighbours.confirm(generation);
            }
            let entries: Vec<_> = bench.neighbours.iter().copied().collect();
            for entry in &entries {
                prop_assert_eq!(find(&bench.shared, entry.address), entry.id);
                let slot = bench.shared.read(entry.id);
                let resolved = slot.state == NextHopState::Resolved;
                prop_assert_eq!(resolved.then_some(slot.mac), entry.mac);
            }
            let incomplete =
                entries.iter().filter(|entry| entry.state == NeighbourState::Incomplete);
            let counts = bench.neighbours.counts(LAN);
            prop_assert_eq!(counts.learned, entries.len());
            prop_assert_eq!(counts.incomplete, incomplete.count());
            prop_assert!(counts.learned <= 20 && counts.incomplete <= 5);
        }
    }
}
