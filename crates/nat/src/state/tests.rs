//! What the RFCs ask of mappings, told by conns.

use std::collections::{HashMap, HashSet};

use pool::wan::AddressPorts;
use proptest::prelude::*;
use types::Packet as _;

use super::inbound::UNANSWERED_MAX;
use super::*;
use crate::gateway::{
    Filtering, ForwardConfig, Forwarding, GatewayConfig, MappingKind, Pooling, Settings,
    SourceAddress, Topology, Wan, WanSource,
};
use crate::rules::{Action, Match, Rule};
use crate::subscribers::Limits;
use crate::translate;

const A: u32 = 0x0a00_0005;
const B: u32 = 0x0a00_0006;
const WAN: u32 = 0xcb00_7114;
const REMOTE: u32 = 0xc633_6407;
const OTHER: u32 = 0xc633_6408;
const RULE: Slot = Slot::new(1, 1);
const SSH: Slot = Slot::new(2, 1);

struct Bed {
    gateway: Gateway,
    state: NatState,
    now: Now,
}

fn wan(place: u16) -> Wan {
    Wan { place, address: WAN + u32::from(place), weight: 1, draining: false, withheld: false }
}

fn settings(addresses: u16) -> Settings {
    Settings {
        wans: WanSource::Addresses((0..addresses).map(wan).collect()),
        ..Settings::default()
    }
}

fn gateway(settings: Settings) -> Gateway {
    let matching = Match { sources: vec![0x0a00_0000..=0x0aff_ffff], ..Match::default() };
    let rule = Rule { slot: RULE, matching, except: Match::default(), action: Action::Translate };
    let forward = ForwardConfig {
        slot: SSH,
        address: WAN,
        l4_ports: 10_100..=10_109,
        proto: 6,
        to: Endpoint32::new(B, 2_200),
        sources: Vec::new(),
        in_dev: None,
        source: SourceAddress::Keep,
        settings: self::settings(1),
    };
    Gateway::new(GatewayConfig {
        rules: vec![(rule, settings)],
        forwards: vec![forward],
        servers: vec![(0x0a00_0009, 80, 6)],
        forwarding: Forwarding { rules: Vec::new(), policy: Action::Accept },
        topology: Topology::default(),
    })
    .unwrap()
}

fn config(classes: ClassSet) -> NatConfig {
    NatConfig {
        classes,
        max_addresses: 4,
        max_mappings: 4_096,
        max_peers: 64,
        max_subscribers: 256,
        max_leases: 256,
        max_resting: 64,
        max_rules: 8,
        max_held_syns: 2,
        seed: [7, 9],
        worker: 0,
    }
}

impl Bed {
    fn of(settings: Settings, classes: ClassSet) -> Self {
        let mut state = NatState::new(&config(classes)).unwrap();
        for place in 0..4 {
            assert!(state.wan_mut().add(place, Box::new(AddressPorts::new(classes))).is_ok());
        }
        assert!(state.begin(RULE) && state.begin(SSH) && !state.begin(Slot::new(8, 1)));
        Self { gateway: gateway(settings), state, now: Now::from_ms(1_000) }
    }

    fn new(settings: Settings) -> Self {
        Self::of(settings, ClassSet::ALL)
    }

    fn open(&mut self, key: FlowKey) -> Result<Held, Verdict> {
        self.open_by(None, key)
    }

    fn open_by(&mut self, out_dev: Option<EthPortId>, key: FlowKey) -> Result<Held, Verdict> {
        let out = Out { key: &key, rule: 0, out_dev };
        self.state.open_out(&self.gateway, &out, |_| false, self.now)
    }

    fn accept(&mut self, key: FlowKey) -> Result<Held, Verdict> {
        let may = self.state.may_accept(&key).map(|_| ());
        let held = self.state.accept_in(&key);
        assert_eq!(may, held.map(|_| ()), "what is decided is what is done");
        held
    }

    /// The inside host answers; what the conn holds then.
    fn answer(&mut self, held: &Held) -> Result<Held, Verdict> {
        self.state.answered(&self.gateway, held, self.now)?;
        Ok(Held { lease: LeaseKind::Mapping, ..*held })
    }

    fn close(&mut self, held: &Held) -> bool {
        self.state.release(held, self.now)
    }

    /// Nothing is held by anyone.
    fn assert_empty(&self) {
        let state = &self.state;
        assert!(state.mappings.is_empty() && state.subscribers.is_empty());
        assert_eq!((state.mappings.peers(), state.leases.totals().taken), (0, 0));
        assert_eq!(state.shared.len(), 0);
        assert_eq!(state.unanswered, 0);
        for place in 0..4 {
            for proto in [Proto::Tcp, Proto::Udp, Proto::Icmp] {
                assert_eq!(state.wan.usage(place, proto).taken, 0);
            }
        }
        assert_eq!((state.counts(RULE).sessions, state.counts(SSH).sessions), (0, 0));
    }
}

fn udp(src: u32, sport: u16, dst: u32, dport: u16) -> FlowKey {
    FlowKey { src, dst, sport, dport, zone: 0, proto: 17 }
}

/// RFC 4787 REQ-1, RFC 5382 REQ-1: one outside endpoint for all remotes.
#[test]
fn rfc4787_req1_mapping_is_endpoint_independent() {
    for proto in [6, 17] {
        let mut bed = Bed::new(settings(1));
        let first = bed.open(FlowKey { proto, ..udp(A, 5_000, REMOTE, 53) }).unwrap();
        let second = bed.open(FlowKey { proto, ..udp(A, 5_000, OTHER, 99) }).unwrap();
        assert_eq!(first.outside_source(), second.outside_source());
        assert_eq!(first.new_key.src, WAN);
        assert_eq!((first.lease, first.slot), (LeaseKind::Mapping, RULE));
        let another = bed.open(FlowKey { proto, ..udp(A, 5_001, REMOTE, 53) }).unwrap();
        assert_ne!(first.outside_source(), another.outside_source());
        assert!(!bed.close(&first), "the second one uses it still");
        assert!(bed.close(&second) && bed.close(&another));
        bed.assert_empty();
        assert_eq!(bed.state.counts(RULE).opened, 3);
    }
}

/// RFC 5508 REQ-1 a: the same for the identifiers of queries.
#[test]
fn rfc5508_req1a_identifiers_are_mapped_for_all_remotes() {
    let mut bed = Bed::new(settings(1));
    let ping = |dst| FlowKey { proto: 1, ..udp(A, 77, dst, 77) };
    let (one, other) = (bed.open(ping(REMOTE)).unwrap(), bed.open(ping(OTHER)).unwrap());
    assert_eq!(one.new_key.sport, other.new_key.sport);
    assert_eq!(one.new_key.sport, one.new_key.dport, "the identifier stands in both places");
    let (forward, reverse) = translate::flows(one.key, one.new_key);
    assert_eq!((reverse.sport, reverse.new_dport), (forward.new_sport, 77));
    assert!(!bed.close(&one) && bed.close(&other));
    bed.assert_empty();
}

/// RFC 4787 REQ-2, RFC 6888 REQ-2: all of one inside address has one WAN IP, whatever the protocol.
#[test]
fn rfc4787_req2_pooling_is_paired() {
    let mut bed = Bed::new(settings(4));
    let mut used = HashSet::new();
    for host in 0..40 {
        let mut of_host = HashSet::new();
        for (proto, sport) in [(6, 1), (17, 2), (1, 3), (6, 4), (17, 5)] {
            let held = bed.open(FlowKey { proto, ..udp(A + host, sport, REMOTE, 53) }).unwrap();
            of_host.insert(held.new_key.src);
        }
        assert_eq!(of_host.len(), 1);
        used.extend(of_host);
    }
    assert_eq!(used.len(), 4, "and the hosts use all of them");
    let mut bed = Bed::new(Settings { pooling: Pooling::Arbitrary, ..settings(4) });
    let of_host: HashSet<u32> =
        (0..40).map(|n| bed.open(udp(A, n, REMOTE, 53)).unwrap().new_key.src).collect();
    assert_eq!(of_host.len(), 4);
}

/// RFC 6888 REQ-2, RFC 7857 §4: over rules, too, as for protocols whose filtering differs.
#[test]
fn rfc7857_4_rules_with_the_same_addresses_pair_them_alike() {
    const UDP: Slot = Slot::new(3, 1);
    let rule = |slot, proto| {
        let matching = Match { protocols: vec![proto], ..Match::default() };
        Rule { slot, matching, except: Match::default(), action: Action::Translate }
    };
    let mut bed = Bed::new(settings(1));
    assert!(bed.state.begin(UDP));
    bed.gateway = Gateway::new(GatewayConfig {
        rules: vec![(rule(RULE, 6), settings(4)), (rule(UDP, 17), settings(4))],
        forwards: Vec::new(),
        servers: Vec::new(),
        forwarding: Forwarding { rules: Vec::new(), policy: Action::Accept },
        topology: Topology::default(),
    })
    .unwrap();
    let mut used = HashSet::new();
    for host in 0..40 {
        let seen = [(0, 6), (1, 17)].map(|(rule, proto)| {
            let key = FlowKey { proto, ..udp(A + host, 5_000, REMOTE, 53) };
            let out = Out { key: &key, rule, out_dev: None };
            bed.state.open_out(&bed.gateway, &out, |_| false, bed.now).unwrap().new_key.src
        });
        assert_eq!(seen[0], seen[1]);
        used.insert(seen[0]);
    }
    assert_eq!(used.len(), 4);
}

#[test]
fn a_draining_address_gets_no_new_mappings_and_weights_count() {
    let wans = |draining| vec![Wan { draining, ..wan(0) }, Wan { weight: 3, ..wan(1) }];
    let with =
        |draining| Settings { wans: WanSource::Addresses(wans(draining)), ..Settings::default() };
    let mut bed = Bed::new(with(false));
    let held: Vec<Held> =
        (0..200).map(|host| bed.open(udp(A + host, 1, REMOTE, 53)).unwrap()).collect();
    let first = held.iter().filter(|held| held.new_key.src == WAN).count();
    assert!((30..70).contains(&first), "{first} of 200, a quarter expected");
    let stays = held.iter().find(|held| held.new_key.src == WAN).unwrap();
    bed.gateway = gateway(with(true));
    let src = stays.key.src;
    assert_eq!(
        bed.open(udp(src, 1, OTHER, 9)).unwrap().new_key.src,
        WAN,
        "a mapping that is there"
    );
    assert_eq!(bed.open(udp(src, 2, OTHER, 9)).unwrap().new_key.src, WAN + 1);
}

/// An inside endpoint that goes on sending is no reason to keep to an address that its rule has lost.
#[test]
fn new_conns_have_none_of_the_addresses_that_the_rule_has_lost_or_that_are_elsewhere() {
    let withheld = |wan| Wan { withheld: true, ..wan };
    for wans in [vec![wan(1)], vec![wan(1), withheld(wan(0))]] {
        let mut bed = Bed::new(settings(1));
        let held = bed.open(udp(A, 5_000, REMOTE, 53)).unwrap();
        assert_eq!(held.new_key.src, WAN);
        let wans = WanSource::Addresses(wans);
        bed.gateway = gateway(Settings { wans, ..Settings::default() });
        let moved = bed.open(udp(A, 5_000, OTHER, 53)).unwrap();
        assert_eq!(moved.new_key.src, WAN + 1);
        let more = bed.open(udp(A, 5_000, OTHER, 54)).unwrap();
        assert_eq!(more.outside_source(), moved.outside_source(), "and keep to the other one");
        let back = bed.accept(udp(REMOTE, 54, WAN, held.new_key.sport)).unwrap();
        assert_eq!(back.new_key.dst, A, "what is open goes on until it is closed");
        assert!(bed.close(&moved) != bed.close(&more));
        bed.close(&back);
        bed.close(&held);
        bed.assert_empty();
    }
}

/// Masquerade over two interfaces: what leaves by one has its address, though the endpoint speaks by the other, too.
#[test]
fn each_interface_has_mappings_of_its_own() {
    let by = |dev| Some(EthPortId(dev));
    let wans = || WanSource::Interface(vec![(EthPortId(3), wan(0)), (EthPortId(4), wan(1))]);
    let masquerade = || Settings { wans: wans(), ..Settings::default() };
    let mut bed = Bed::new(masquerade());
    let mut held = Vec::new();
    for (n, dev) in [3, 4, 3, 4, 4, 3].into_iter().enumerate() {
        let key = udp(A, 5_000, REMOTE + n as u32, 53);
        held.push(bed.open_by(by(dev), key).unwrap());
        assert_eq!(held[n].new_key.src, WAN + u32::from(dev) - 3);
    }
    assert_eq!(bed.state.mappings.len(), 2, "one for all remotes by each");
    let mut moved = Bed::new(masquerade());
    for held in &held {
        moved.state.adopt(&moved.gateway, held, moved.now).unwrap();
    }
    let more = moved.open_by(by(4), udp(A, 5_000, OTHER + 99, 53)).unwrap();
    assert_eq!(more.outside_source(), held[1].outside_source());
    moved.close(&more);
    for bed in [&mut bed, &mut moved] {
        held.iter().for_each(|held| {
            bed.close(held);
        });
        bed.assert_empty();
    }
}

/// RFC 4787 REQ-8, RFC 5382 REQ-3: who may send to a mapping, as the rule says.
#[test]
fn rfc4787_req8_filtering_is_as_configured() {
    use Filtering::{AddressAndPortDependent, AddressDependent, EndpointIndependent};
    let same_address = Err(Verdict::Filtered);
    for (filtering, from_peer, from_other) in [
        (EndpointIndependent, Ok(()), Ok(())),
        (AddressDependent, Ok(()), Err(Verdict::Filtered)),
        (AddressAndPortDependent, same_address, Err(Verdict::Filtered)),
    ] {
        let mut bed = Bed::new(Settings { filtering, ..settings(1) });
        let held = bed.open(udp(A, 5_000, REMOTE, 53)).unwrap();
        let to = held.outside_source();
        let inward = |src, sport| udp(src, sport, to.address, to.l4_port);
        let peer = bed.accept(inward(REMOTE, 99));
        assert_eq!(peer.map(|_| ()), from_peer, "{filtering:?}");
        if let Ok(accepted) = peer {
            assert_eq!((accepted.new_key.dst, accepted.new_key.dport), (A, 5_000));
            assert_eq!((accepted.new_key.src, accepted.new_key.sport), (REMOTE, 99));
            bed.close(&accepted);
        }
        assert_eq!(bed.accept(inward(OTHER, 99)).map(|_| ()), from_other, "{filtering:?}");
        let unmapped = udp(REMOTE, 53, WAN, to.l4_port ^ 1);
        assert_eq!(bed.accept(unmapped), Err(Verdict::NoMapping));
    }
}

#[test]
fn a_peer_is_one_while_conns_speak_with_it() {
    let filtering = Filtering::AddressDependent;
    let mut bed = Bed::new(Settings { filtering, ..settings(1) });
    let keeps = bed.open(udp(A, 5_000, OTHER, 1)).unwrap();
    let held = [53, 54].map(|dport| bed.open(udp(A, 5_000, REMOTE, dport)).unwrap());
    let to = keeps.outside_source();
    let inward = udp(REMOTE, 99, to.address, to.l4_port);
    bed.close(&held[0]);
    assert!(bed.state.may_accept(&inward).is_ok());
    bed.close(&held[1]);
    assert_eq!(bed.accept(inward), Err(Verdict::Filtered));
    assert_eq!(bed.state.counts(RULE).filtered, 1);
    bed.close(&keeps);
    bed.assert_empty();
}

/// RFC 4787 REQ-9 and 9 a, RFC 5382 REQ-8: inside hosts reach each other by outside endpoints, and see
/// those only.
#[test]
fn rfc4787_req9_hairpinning_in_one_conn() {
    let mut bed = Bed::new(settings(1));
    let b = bed.open(udp(B, 6_000, REMOTE, 53)).unwrap();
    let outside = b.outside_source();
    let held = bed.open(udp(A, 5_000, outside.address, outside.l4_port)).unwrap();
    assert_eq!((held.new_key.dst, held.new_key.dport), (B, 6_000));
    assert_eq!(held.new_key.src, WAN);
    assert_ne!(held.new_key.sport, 5_000);
    assert!(!bed.close(&b), "the hairpin uses its mapping");
    let again = bed.open(udp(A, 5_000, outside.address, outside.l4_port)).unwrap();
    bed.close(&held);
    assert!(bed.close(&again));
    bed.assert_empty();
    let nowhere = bed.open(udp(A, 5_000, outside.address, outside.l4_port));
    assert_eq!(nowhere, Err(Verdict::NoMapping));
    bed.assert_empty();
    let mut without = Bed::new(Settings { hairpin: false, ..settings(1) });
    let b = without.open(udp(B, 6_000, REMOTE, 53)).unwrap().outside_source();
    assert_eq!(without.open(udp(A, 5_000, b.address, b.l4_port)), Err(Verdict::Filtered));
}

#[test]
fn a_hairpin_to_another_workers_port_goes_out() {
    let mut bed = Bed::of(settings(1), ClassSet(u128::MAX / 3));
    let foreign = 2_561;
    let held = bed.open(udp(A, 5_000, WAN, foreign)).unwrap();
    assert_eq!((held.new_key.dst, held.new_key.dport), (WAN, foreign));
    assert!(bed.state.wan.classes().contains_port(held.new_key.sport));
    assert!(bed.close(&held));
    bed.assert_empty();
}

/// RFC 6888 REQ-4 and 5: a subscriber has so many ports, conns, and new conns a second.
#[test]
fn rfc6888_req4_and_5_subscribers_are_limited() {
    let with = |limits| Bed::new(Settings { limits, ..settings(1) });
    let limited = Err(Verdict::SubscriberLimit);
    let mut bed = with(Limits { ports: 2, ..Limits::default() });
    let first = bed.open(udp(A, 1, REMOTE, 53)).unwrap();
    bed.open(udp(A, 2, REMOTE, 53)).unwrap();
    assert_eq!(bed.open(udp(A, 3, REMOTE, 53)), limited);
    assert!(bed.open(udp(A, 1, OTHER, 53)).is_ok(), "no port more");
    assert!(bed.open(udp(B, 3, REMOTE, 53)).is_ok(), "another subscriber");
    let mut bed = with(Limits { sessions: 2, ..Limits::default() });
    let held = bed.open(first.key).unwrap();
    bed.open(udp(A, 1, OTHER, 53)).unwrap();
    assert_eq!(bed.open(udp(A, 1, OTHER, 54)), limited);
    let to = held.outside_source();
    let inward = udp(OTHER, 1, to.address, to.l4_port);
    let accepted = bed.accept(inward).unwrap();
    assert_eq!(bed.answer(&accepted), limited, "those from outside count when they are answered");
    bed.close(&accepted);
    assert_eq!(bed.state.counts(RULE).limited, 2);
    bed.close(&held);
    assert!(bed.open(udp(A, 1, OTHER, 54)).is_ok());
    let mut bed = with(Limits { new_sessions_per_second: 10, ..Limits::default() });
    for n in 0..10 {
        bed.open(udp(A, n, REMOTE, 53)).unwrap();
    }
    assert_eq!(bed.open(udp(A, 10, REMOTE, 53)), limited);
    bed.now = Now::from_ms(1_100);
    assert!(bed.open(udp(A, 10, REMOTE, 53)).is_ok());
    assert_eq!(bed.open(udp(A, 11, REMOTE, 53)), limited);
}

/// RFC 6888 REQ-11: without a free port nothing that is there goes.
#[test]
fn rfc6888_req11_exhaustion_evicts_nothing() {
    let mut bed = Bed::new(Settings { l4_ports: 2_000..=2_003, ..settings(1) });
    let held: Vec<Held> = (0..4).map(|n| bed.open(udp(A, n, REMOTE, 53)).unwrap()).collect();
    assert_eq!(bed.open(udp(A, 9, REMOTE, 53)), Err(Verdict::WanExhausted));
    assert_eq!(bed.open(udp(B, 9, REMOTE, 53)), Err(Verdict::WanExhausted));
    assert_eq!((bed.state.counts(RULE).exhausted, bed.state.mappings.len()), (2, 4));
    assert!(bed.open(udp(A, 0, OTHER, 1)).is_ok());
    assert_eq!(held.iter().map(Held::outside_source).collect::<HashSet<_>>().len(), 4);
    assert_eq!(bed.state.subscribers.len(), 1);
}

/// RFC 6888 REQ-8: 120 s until a port is another's.
#[test]
fn rfc6888_req8_a_port_rests_two_minutes() {
    let mut bed = Bed::new(Settings { l4_ports: 2_000..=2_000, ..settings(1) });
    let held = bed.open(udp(A, 1, REMOTE, 53)).unwrap();
    assert!(bed.close(&held));
    bed.assert_empty();
    for (ms, free) in [(120_999, false), (121_000, true)] {
        bed.now = Now::from_ms(ms);
        bed.state.tick(bed.now, 10);
        assert_eq!(bed.open(udp(B, 1, REMOTE, 53)).is_ok(), free);
    }
}

/// Address-and-port-dependent mapping: one port serves many remotes, and only those.
#[test]
fn ports_for_one_remote_each_are_of_ones_own_classes() {
    let classes = ClassSet(u128::MAX / 15 * 3);
    let mapping = MappingKind::AddressAndPortDependent;
    let mut bed = Bed::of(Settings { mapping, l4_ports: 1_024..=2_047, ..settings(1) }, classes);
    bed.gateway = gateway(Settings { mapping, l4_ports: 1_024..=2_047, ..settings(1) });
    let mut held = Vec::new();
    for remote in 0..3 {
        for host in 0..64 {
            held.push(bed.open(udp(A + host, 1, REMOTE + remote, 53)).unwrap());
        }
    }
    let ends: HashSet<_> = held.iter().map(|h| (h.outside_source(), h.new_key.dst)).collect();
    assert_eq!(ends.len(), 192, "none twice towards one remote");
    assert!(held.iter().all(|h| (1_024..=2_047).contains(&h.new_key.sport)));
    assert!(held.iter().all(|h| classes.contains_port(h.new_key.sport)));
    assert!(held.iter().all(|h| h.lease == LeaseKind::Wan));
    let to = held[0].outside_source();
    let inward = udp(OTHER, 53, to.address, to.l4_port);
    assert_eq!(bed.accept(inward), Err(Verdict::NoMapping));
    let pings = [77, 77].map(|id| FlowKey { proto: 1, ..udp(A, id, REMOTE, id) });
    let pings = pings.map(|key| bed.open(key).unwrap());
    assert_ne!(pings[0].new_key.sport, pings[1].new_key.sport);
    held.extend(pings);
    for held in held {
        assert!(!bed.close(&held));
    }
    bed.assert_empty();
}

#[test]
fn a_protocol_without_ports_has_a_remote_for_itself() {
    let mut bed = Bed::new(settings(1));
    let key = FlowKey { proto: 47, ..udp(A, 0, REMOTE, 0) };
    let held = bed.open(key).unwrap();
    assert_eq!((held.new_key.src, held.lease), (WAN, LeaseKind::None));
    let out = Out { key: &FlowKey { src: B, ..key }, rule: 0, out_dev: None };
    let taken = |reply: &FlowKey| *reply == held.new_key.reversed();
    let second = bed.state.open_out(&bed.gateway, &out, taken, bed.now);
    assert_eq!(second, Err(Verdict::WanExhausted));
    bed.close(&held);
    bed.assert_empty();
}

#[test]
fn a_port_forward_leads_inside_with_and_without_the_clients_address() {
    let mut bed = Bed::new(settings(1));
    let tcp = FlowKey { proto: 6, ..udp(REMOTE, 4_000, WAN, 10_106) };
    let forward = bed.gateway.forward(&tcp, EthPortId(0)).unwrap().clone();
    let keeps = bed.state.open_forward(&forward, &tcp, false, bed.now).unwrap();
    assert_eq!(keeps.new_key, FlowKey { dst: B, dport: 2_206, ..tcp });
    assert_eq!((keeps.lease, keeps.slot), (LeaseKind::None, SSH));
    let other = FlowKey { sport: 4_001, ..tcp };
    let hides = bed.state.open_forward(&forward, &other, true, bed.now).unwrap();
    assert_eq!((hides.new_key.src, hides.new_key.dst, hides.lease), (WAN, B, LeaseKind::Mapping));
    assert_eq!(bed.state.counts(SSH).sessions, 2);
    bed.close(&keeps);
    assert!(bed.close(&hides));
    bed.assert_empty();
}

/// RFC 5382 REQ-4: an unexpected SYN is silent for six seconds, and for good if by then it has a conn.
#[test]
fn rfc5382_req4_unexpected_syns_wait_six_seconds() {
    let mut bed = Bed::new(settings(1));
    let syns = [1, 2, 3].map(|sport| FlowKey { proto: 6, ..udp(REMOTE, sport, WAN, 9) });
    let packet = testkit::pkt().ipv4("198.51.100.7", "203.0.113.20").tcp(1, 9).syn().build();
    let ip = &packet.bytes()[14..];
    let held = syns.map(|key| bed.state.hold_syn(&key, ip, bed.now));
    assert_eq!(held, [true, true, false], "bounded");
    let answered = |key: &FlowKey| key.sport == 1;
    let mut due = |ms| bed.state.next_due_syn(Now::from_ms(ms), &mut 10, answered);
    assert_eq!(due(6_999), None);
    let syn = due(7_000).unwrap();
    assert_eq!((syn.key, syn.quote()), (syns[1], ip));
    assert_eq!(due(7_000), None);
}

#[test]
fn an_adopted_conn_has_the_ports_that_it_had() {
    let mut old = Bed::new(settings(4));
    let b = old.open(udp(B, 6_000, REMOTE, 53)).unwrap();
    let to = b.outside_source();
    let hairpin = old.open(udp(A, 5_000, to.address, to.l4_port)).unwrap();
    let inward = old.accept(udp(OTHER, 9, to.address, to.l4_port)).unwrap();
    let mut new = Bed::new(settings(4));
    assert_eq!(new.state.adopt(&new.gateway, &inward, new.now), Err(AdoptError::NoMapping));
    new.assert_empty();
    let inward = old.answer(&inward).unwrap();
    for order in [[b, hairpin, inward], [inward, b, hairpin], [hairpin, inward, b]] {
        let mut new = Bed::new(settings(4));
        for held in &order {
            new.state.adopt(&new.gateway, held, new.now).unwrap();
        }
        assert_eq!((new.state.mappings.len(), new.state.counts(RULE).sessions), (2, 3));
        let more = new.open(udp(B, 6_000, OTHER, 1)).unwrap();
        assert_eq!(more.outside_source(), to);
        let stolen = Held { key: FlowKey { src: A + 9, ..b.key }, ..b };
        let refused = new.state.adopt(&new.gateway, &stolen, new.now);
        assert_eq!(refused, Err(AdoptError::Conflict));
        for held in order.iter().chain([&more]) {
            new.close(held);
        }
        new.assert_empty();
    }
}

/// RFC 4787 REQ-6 and §12, RFC 7857 §7: who sends from outside neither takes what the inside host may have nor
/// keeps its mapping.
#[test]
fn rfc4787_req6_outsiders_neither_exhaust_a_subscriber_nor_keep_its_mappings() {
    let limits = Limits { sessions: 2, new_sessions_per_second: 5, ..Limits::default() };
    let mut bed = Bed::new(Settings { limits, ..settings(1) });
    let own = bed.open(udp(A, 5_000, REMOTE, 53)).unwrap();
    let to = own.outside_source();
    let tried: Vec<Held> = (0..UNANSWERED_MAX)
        .map(|n| bed.accept(udp(OTHER, n, to.address, to.l4_port)).unwrap())
        .collect();
    let more = udp(OTHER, 9_999, to.address, to.l4_port);
    assert_eq!(bed.accept(more), Err(Verdict::Unanswered));
    assert_eq!(bed.state.counts(RULE).limited, 1);
    let id = bed.state.subscribers.find(A, 0, RULE).unwrap();
    let subscriber = *bed.state.subscribers.get(id).unwrap();
    assert_eq!((subscriber.sessions, subscriber.unanswered), (1, UNANSWERED_MAX));
    let second = bed.open(udp(A, 5_000, OTHER, 53)).unwrap();
    bed.close(&second);

    let answered = bed.answer(&tried[0]).unwrap();
    assert_eq!(bed.answer(&tried[1]), Err(Verdict::SubscriberLimit));
    bed.close(&own);
    assert!(
        !bed.close(&answered),
        "what is left has not been answered, and it was the last that was"
    );
    assert_eq!(bed.accept(more), Err(Verdict::NoMapping), "it takes no more");
    let b = bed.open(udp(B, 1, to.address, to.l4_port));
    assert_eq!(b, Err(Verdict::NoMapping), "from inside neither");
    // The inside host may go on with it.
    let again = bed.open(udp(A, 5_000, REMOTE, 53)).unwrap();
    assert_eq!(again.outside_source(), to);
    bed.close(&again);
    for held in &tried[1..] {
        let gone = bed.close(held);
        assert_eq!(gone, *held == tried[usize::from(UNANSWERED_MAX) - 1]);
    }
    bed.assert_empty();
}

#[test]
fn all_unanswered_conns_together_have_a_share() {
    let mut bed = Bed::new(settings(1));
    let share = config(ClassSet::ALL).max_mappings / inbound::UNANSWERED_SHARE;
    let hosts = share / u32::from(UNANSWERED_MAX) + 1;
    let mut accepted = 0;
    for host in 0..hosts {
        let to = bed.open(udp(A + host, 5_000, REMOTE, 53)).unwrap().outside_source();
        for n in 0..UNANSWERED_MAX {
            accepted += u32::from(bed.accept(udp(OTHER, n, to.address, to.l4_port)).is_ok());
        }
    }
    assert_eq!(accepted, share);
}

/// Refused is refused: no port rests, no conn of this second is used up.
#[test]
fn what_is_refused_takes_nothing() {
    let limits = Limits { sessions: 1, new_sessions_per_second: 2, ..Limits::default() };
    let mut bed = Bed::new(Settings { limits, l4_ports: 2_000..=2_001, ..settings(1) });
    let b = bed.open(udp(B, 6_000, REMOTE, 53)).unwrap().outside_source();
    let first = bed.open(udp(A, 5_000, b.address, b.l4_port)).unwrap();
    for n in 1..5 {
        let refused = bed.open(udp(A, 5_000 + n, b.address, b.l4_port));
        assert_eq!(refused, Err(Verdict::SubscriberLimit));
    }
    bed.state.abandon(&first, bed.now);
    assert_eq!(bed.state.wan.resting(), 0);
    let held = bed.open(udp(A, 5_000, REMOTE, 53)).unwrap();
    bed.state.abandon(&held, bed.now);
    assert_eq!(bed.state.wan.resting(), 0);
    assert_eq!(bed.state.counts(RULE).opened, 1);
    assert!(bed.open(udp(A, 5_001, REMOTE, 53)).is_ok());
}

/// RFC 4787 REQ-9 with REQ-8: who sends to a mapping that filters has sent, and so may be answered.
#[test]
fn rfc4787_req9_to_a_mapping_that_filters_it_goes_as_to_the_outside() {
    use Filtering::{AddressAndPortDependent, AddressDependent};
    for filtering in [AddressDependent, AddressAndPortDependent] {
        let mut bed = Bed::new(Settings { filtering, ..settings(1) });
        let b = bed.open(udp(B, 6_000, REMOTE, 53)).unwrap();
        let to = b.outside_source();
        let a = bed.open(udp(A, 5_000, to.address, to.l4_port)).unwrap();
        assert_eq!((a.new_key.dst, a.new_key.dport), (to.address, to.l4_port));
        assert_eq!(bed.accept(a.new_key), Err(Verdict::Filtered), "its packet comes in no further");
        let own = a.outside_source();
        let back = bed.open(udp(B, 6_000, own.address, own.l4_port)).unwrap();
        assert_eq!(back.new_key, a.new_key.reversed(), "which is what the first conn's reply is");
        for held in [a, b, back] {
            bed.close(&held);
        }
        bed.assert_empty();
    }
}

/// For one host, and of another protocol than TCP and UDP: any WAN IP of the rule will do, but none of ours is a remote.
#[test]
fn protocols_without_ports_try_all_addresses_and_lead_to_none_of_ours() {
    let mut bed = Bed::new(settings(4));
    let gre = |src, dst| FlowKey { proto: 47, ..udp(src, 0, dst, 0) };
    let mut taken: Vec<FlowKey> = Vec::new();
    for host in 0..5 {
        let key = gre(A + host, REMOTE);
        let out = Out { key: &key, rule: 0, out_dev: None };
        let is_taken = |reply: &FlowKey| taken.contains(reply);
        match bed.state.open_out(&bed.gateway, &out, is_taken, bed.now) {
            Ok(held) => taken.push(held.new_key.reversed()),
            Err(verdict) => assert_eq!((host, verdict), (4, Verdict::WanExhausted)),
        }
    }
    assert_eq!(taken.len(), 4);
    assert_eq!(bed.open(gre(A, WAN)), Err(Verdict::NoMapping));
}

#[test]
fn nobody_is_refused_while_a_wan_ip_has_ports() {
    let mut wans = settings(40);
    wans.l4_ports = 2_000..=2_000;
    let mut state =
        NatState::new(&NatConfig { max_addresses: 40, ..config(ClassSet::ALL) }).unwrap();
    for place in 0..40 {
        let ports = Box::new(AddressPorts::new(ClassSet::ALL));
        assert!(state.wan_mut().add(place, ports).is_ok());
    }
    let mut bed = Bed { gateway: gateway(wans), state, now: Now::from_ms(1_000) };
    for host in 0..40 {
        assert!(bed.open(udp(A + host, 1, REMOTE, 53)).is_ok(), "{host}");
    }
    assert_eq!(bed.open(udp(A + 40, 1, REMOTE, 53)), Err(Verdict::WanExhausted));
}

/// A port that a forward is on is no port of a conn's, for any remote.
#[test]
fn ports_for_one_remote_each_are_none_of_a_forwards() {
    let mapping = MappingKind::AddressAndPortDependent;
    let mut bed = Bed::new(Settings { mapping, l4_ports: 9_728..=10_239, ..settings(1) });
    for l4_port in 9_728..=9_997 {
        bed.state.wan_mut().reserve(0, Proto::Tcp, l4_port, true);
    }
    let mut of_udp = 0;
    for n in 0..40 {
        let tcp = FlowKey { proto: 6, ..udp(A, n, REMOTE + u32::from(n), 443) };
        let held = bed.open(tcp).unwrap();
        assert!(held.new_key.sport > 9_997, "{}", held.new_key.sport);
        let held = bed.open(FlowKey { proto: 17, ..tcp }).unwrap();
        of_udp += u32::from(held.new_key.sport <= 9_997);
    }
    assert!(of_udp > 0, "of another protocol they are free");
}

/// RFC 6888 REQ-5: also what has no ports.
#[test]
fn rfc6888_req5_protocols_without_ports_are_limited() {
    let limits = Limits { sessions: 2, ..Limits::default() };
    let mut bed = Bed::new(Settings { limits, ..settings(1) });
    let gre = |dst| FlowKey { proto: 47, ..udp(A, 0, dst, 0) };
    let held = [REMOTE, OTHER].map(|dst| bed.open(gre(dst)).unwrap());
    assert_eq!(bed.open(gre(OTHER + 1)), Err(Verdict::SubscriberLimit));
    assert_eq!(bed.state.counts(RULE).limited, 1);
    bed.close(&held[0]);
    let third = bed.open(gre(OTHER + 1)).unwrap();
    let mut new = Bed::new(settings(1));
    new.state.adopt(&new.gateway, &third, new.now).unwrap();
    assert_eq!(new.state.subscribers.len(), 1);
    new.close(&third);
    new.assert_empty();
    bed.close(&third);
    bed.close(&held[1]);
    bed.assert_empty();
}

/// What stands for a client towards a server is for that server only, and is not the forward's own port.
#[test]
fn a_forwards_source_is_nobodys_mapping() {
    let mut bed = Bed::new(settings(1));
    let tcp = FlowKey { proto: 6, ..udp(REMOTE, 4_000, WAN, 10_106) };
    // From before there was a forward, the inside host itself has this port.
    let own = bed.open(FlowKey { proto: 6, ..udp(A, 5_000, OTHER, 80) }).unwrap();
    let forward = bed.gateway.forward(&tcp, EthPortId(0)).unwrap().clone();
    let held = bed.state.open_forward(&forward, &tcp, true, bed.now).unwrap();
    let to = held.outside_source();
    let stranger = FlowKey { proto: 6, ..udp(OTHER, 9, to.address, to.l4_port) };
    assert_eq!(bed.accept(stranger), Err(Verdict::Filtered));
    let mixed = Held { key: FlowKey { dport: own.new_key.sport, ..held.key }, ..held };
    assert!(bed.close(&mixed));
    assert_eq!(bed.state.mappings.len(), 1, "the inside host's own stays");
    bed.close(&own);
    bed.assert_empty();
}

/// RFC 7857 §12: by the identifier that the WAN IP has for it.
#[test]
fn rfc7857_12_queries_are_hairpinned() {
    let mut bed = Bed::new(settings(1));
    let ping = |src, dst, id| FlowKey { proto: 1, ..udp(src, id, dst, id) };
    let b = bed.open(ping(B, REMOTE, 77)).unwrap();
    let to = b.new_key.sport;
    let held = bed.state.accept_query(&ping(A, WAN, to)).unwrap();
    assert_eq!(held.new_key, ping(WAN, B, 77));
    let (_, reverse) = translate::flows(held.key, held.new_key);
    assert_eq!((reverse.key(), reverse.new_key()), (ping(B, WAN, 77), ping(WAN, A, to)));
    assert!(bed.close(&b) ^ bed.close(&held));
    bed.assert_empty();
    assert_eq!(bed.state.accept_query(&ping(A, WAN, to)), Err(Verdict::NoMapping));
}

#[derive(Clone, Debug)]
enum Step {
    Out(u8, u8, u8),
    In(u8, u8),
    Close(prop::sample::Index),
    Adopt(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6_u8, 0..3_u8, 0..4_u8).prop_map(|(host, port, remote)| Step::Out(host, port, remote)),
        2 => (any::<u8>(), 0..4_u8).prop_map(|(which, remote)| Step::In(which, remote)),
        3 => any::<prop::sample::Index>().prop_map(Step::Close),
        1 => any::<prop::sample::Index>().prop_map(Step::Adopt),
    ]
}

proptest! {
    /// Whatever is opened and closed in whatever order: one inside endpoint has one outside endpoint,
    /// no two share one, each lives as long as its conns, and at the end nothing is held.
    #[test]
    fn behaves_as_a_map_of_endpoints(
        steps in prop::collection::vec(step(), 0..120), filtering in 0..3_u8, ports in 1..12_u16,
    ) {
        let filtering = match filtering {
            0 => Filtering::EndpointIndependent,
            1 => Filtering::AddressDependent,
            _ => Filtering::AddressAndPortDependent,
        };
        let rest_ms = 0;
        let range = 2_000..=2_000 + ports - 1;
        let mut bed = Bed::new(Settings { filtering, rest_ms, l4_ports: range, ..settings(2) });
        let mut open: Vec<Held> = Vec::new();
        let mut model: HashMap<Endpoint32, (Endpoint32, u32)> = HashMap::new();
        for step in steps {
            match step {
                Step::Out(host, port, remote) => {
                    let key = udp(A + u32::from(host), port.into(), REMOTE + u32::from(remote), 53);
                    let inside = Endpoint32::new(key.src, key.sport);
                    if let Ok(held) = bed.open(key) {
                        let entry = model.entry(inside).or_insert((held.outside_source(), 0));
                        prop_assert_eq!(entry.0, held.outside_source());
                        entry.1 += 1;
                        open.push(held);
                    } else {
                        prop_assert!(!model.contains_key(&inside));
                    }
                }
                Step::In(which, remote) => {
                    let to = Endpoint32::new(WAN + u32::from(which % 2), 2_000 + u16::from(which) / 2);
                    let from = REMOTE + u32::from(remote);
                    let inside = model.iter_mut().find(|entry| entry.1.0 == to);
                    let speaks = open.iter().any(|held| {
                        (held.outside_source() == to && held.key.dst == from)
                            || (Endpoint32::new(held.key.dst, held.key.dport) == to && held.key.src == from)
                    });
                    let passes = match filtering {
                        Filtering::EndpointIndependent => true,
                        Filtering::AddressDependent => speaks,
                        Filtering::AddressAndPortDependent => false,
                    };
                    match (bed.accept(udp(from, 99, to.address, to.l4_port)), inside) {
                        (Ok(held), Some((inside, entry))) => {
                            prop_assert!(passes);
                            prop_assert_eq!(Endpoint32::new(held.new_key.dst, held.new_key.dport), *inside);
                            entry.1 += 1;
                            open.push(bed.answer(&held).unwrap());
                        }
                        (Err(verdict), inside) => {
                            let expected = if inside.is_some() { Verdict::Filtered } else { Verdict::NoMapping };
                            prop_assert_eq!(verdict, expected);
                            prop_assert!(inside.is_none() || !passes);
                        }
                        (Ok(_), None) => prop_assert!(false, "there is no such mapping"),
                    }
                }
                Step::Close(index) | Step::Adopt(index) if !open.is_empty() => {
                    let at = index.index(open.len());
                    let held = open[at];
                    let outward = held.key.src != held.new_key.src;
                    let inside = if outward {
                        Endpoint32::new(held.key.src, held.key.sport)
                    } else {
                        Endpoint32::new(held.new_key.dst, held.new_key.dport)
                    };
                    let entry = model.get_mut(&inside).unwrap();
                    if matches!(step, Step::Adopt(_)) {
                        prop_assert_eq!(bed.state.adopt(&bed.gateway, &held, bed.now), Ok(()));
                        entry.1 += 1;
                        open.push(held);
                    } else {
                        entry.1 -= 1;
                        prop_assert_eq!(bed.close(&held), entry.1 == 0);
                        if entry.1 == 0 {
                            model.remove(&inside);
                        }
                        open.swap_remove(at);
                    }
                }
                Step::Close(_) | Step::Adopt(_) => {}
            }
            prop_assert_eq!(bed.state.mappings.len() as usize, model.len());
            prop_assert_eq!(bed.state.counts(RULE).sessions as usize, open.len());
            let outside: HashSet<_> = model.values().map(|entry| entry.0).collect();
            prop_assert_eq!(outside.len(), model.len());
        }
        for held in open {
            bed.close(&held);
        }
        bed.assert_empty();
    }

    /// However often rules change their mapping, what comes to a port is meant for one: all of its conns are of one
    /// inside endpoint's, or each of them is with another remote.
    #[test]
    fn a_port_is_of_one_kind_while_anybody_has_it(
        steps in prop::collection::vec((any::<bool>(), step()), 0..160), ports in 1..6_u16,
    ) {
        let settings = Settings { rest_ms: 0, l4_ports: 2_000..=2_000 + ports - 1, ..settings(1) };
        let shared = MappingKind::AddressAndPortDependent;
        let kinds = [gateway(settings.clone()), gateway(Settings { mapping: shared, ..settings.clone() })];
        let mut bed = Bed::new(settings);
        let mut open: Vec<Held> = Vec::new();
        for (dependent, step) in steps {
            bed.gateway = kinds[usize::from(dependent)].clone();
            match step {
                Step::Out(host, port, remote) => {
                    let key = udp(A + u32::from(host), port.into(), REMOTE + u32::from(remote), 53);
                    open.extend(bed.open(key));
                }
                Step::Close(index) if !open.is_empty() => {
                    bed.close(&open.swap_remove(index.index(open.len())));
                }
                Step::Adopt(index) if !open.is_empty() => {
                    let held = open.swap_remove(index.index(open.len()));
                    bed.close(&held);
                    prop_assert_eq!(bed.state.adopt(&bed.gateway, &held, bed.now), Ok(()));
                    open.push(held);
                }
                Step::In(..) | Step::Close(_) | Step::Adopt(_) => {}
            }
            for (n, a) in open.iter().enumerate() {
                for b in open.iter().skip(n + 1).filter(|b| b.outside_source() == a.outside_source()) {
                    prop_assert_eq!(a.lease, b.lease);
                    match a.lease {
                        LeaseKind::Mapping => prop_assert_eq!((a.key.src, a.key.sport), (b.key.src, b.key.sport)),
                        _ => prop_assert_ne!(a.new_key.dst, b.new_key.dst),
                    }
                }
            }
        }
        for held in open {
            bed.close(&held);
        }
        bed.assert_empty();
        bed.gateway = kinds[0].clone();
        let held = bed.open(udp(A, 1, REMOTE, 1)).unwrap();
        prop_assert!(bed.close(&held));
    }
}
