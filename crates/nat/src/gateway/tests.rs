//! What the snapshot's part says of packets.

use super::*;
use crate::mapping::Endpoint32;
use crate::rules::Match;

const LAN: EthPortId = EthPortId(0);
const OUT: EthPortId = EthPortId(1);
const WAN: u32 = 0xcb00_7114;

fn rule(slot: u32, matching: Match, action: Action) -> Rule {
    Rule { slot: Slot::new(slot, 1), matching, except: Match::default(), action }
}

fn wan(place: u16) -> Wan {
    Wan { place, address: WAN + u32::from(place), weight: 1, draining: false, withheld: false }
}

fn forward(
    slot: u32,
    l4_ports: RangeInclusive<u16>,
    sources: Vec<RangeInclusive<u32>>,
) -> ForwardConfig {
    ForwardConfig {
        slot: Slot::new(slot, 1),
        address: WAN,
        l4_ports,
        proto: 6,
        to: Endpoint32::new(0x0a00_0005, 7_000),
        sources,
        in_dev: None,
        source: SourceAddress::Auto,
        settings: Settings::default(),
    }
}

fn gateway(rules: Vec<Rule>, forwards: Vec<ForwardConfig>, policy: Action) -> Gateway {
    gateway_in(Topology::default(), rules, forwards, policy)
}

fn gateway_in(
    topology: Topology,
    rules: Vec<Rule>,
    forwards: Vec<ForwardConfig>,
    policy: Action,
) -> Gateway {
    let settings = Settings { wans: WanSource::Addresses(vec![wan(3)]), ..Settings::default() };
    let rules = rules.into_iter().map(|rule| (rule, settings.clone())).collect();
    let servers = vec![(0x0a00_0009, 80, 6)];
    let pass = Match { protocols: vec![1], ..Match::default() };
    let forwarding = Forwarding { rules: vec![rule(9, pass, Action::Accept)], policy };
    Gateway::new(GatewayConfig { rules, forwards, servers, forwarding, topology }).unwrap()
}

fn query(src: u32, proto: u8) -> Query {
    Query { src, dst: 1, sport: 9, dport: 9, proto, in_dev: LAN, out_dev: Some(OUT) }
}

fn key(src: u32, dport: u16) -> FlowKey {
    FlowKey { src, dst: WAN, sport: 4_000, dport, zone: 0, proto: 6 }
}

#[test]
fn forwarding_comes_before_translation() {
    let office = Match { sources: vec![0x0a00_0000..=0x0aff_ffff], ..Match::default() };
    let bad = Match { sources: vec![0x0b00_0000..=0x0bff_ffff], ..Match::default() };
    let rules = vec![rule(1, office, Action::Translate), rule(2, bad, Action::Drop)];
    let open = gateway(rules.clone(), Vec::new(), Action::Accept);
    let translated = open.decide_out(&query(0x0a00_0001, 6));
    assert!(matches!(translated, Decision::Translate(found) if found.index == 0));
    assert_eq!(open.decide_out(&query(0x0b00_0001, 6)), Decision::Drop(Verdict::NatDenied));
    assert_eq!(open.decide_out(&query(0x0c00_0001, 6)), Decision::Forward(None));
    let closed = gateway(rules, Vec::new(), Action::Reject);
    let refused = closed.decide_out(&query(0x0a00_0001, 6));
    assert_eq!(refused, Decision::Reject(Verdict::ForwardDenied));
    assert!(matches!(closed.decide_out(&query(0x0a00_0001, 1)), Decision::Translate(_)));
    assert_eq!((open.place_of(WAN + 3), open.place_of(WAN)), (Some(3), None));
    let terms = open.terms_of(Slot::new(2, 1)).unwrap();
    assert_eq!(terms.slot(), open.terms(1).unwrap().slot());
    assert!(open.terms_of(Slot::new(2, 2)).is_none(), "an older generation");
}

#[test]
fn port_forwards_lead_port_by_port() {
    let friends = vec![0xc633_6400..=0xc633_64ff];
    let forwards = vec![forward(5, 6_050..=6_059, friends), forward(4, 6_000..=6_099, Vec::new())];
    let gateway = gateway(Vec::new(), forwards, Action::Accept);
    let lead = |src, dport| {
        let found = gateway.forward(&key(src, dport), LAN)?;
        Some((found.terms().slot().index(), found.to(dport).l4_port))
    };
    assert_eq!(lead(0xc633_6401, 6_000), Some((4, 7_000)));
    assert_eq!(lead(0xc633_6401, 6_050), Some((5, 7_000)));
    assert_eq!(lead(0x0808_0808, 6_050), Some((4, 7_050)), "not a friend");
    assert_eq!(lead(0x0808_0808, 6_099), Some((4, 7_099)));
    assert_eq!([5_999, 6_100].map(|dport| lead(1, dport)), [None; 2]);
    assert_eq!(gateway.leads_to(&key(1, 6_099), LAN), Some(0x0a00_0005));
    assert_eq!(gateway.leads_to(&key(1, 6_100), LAN), None);
    let on = |dport| {
        gateway
            .forwards_on(WAN, dport, 6)
            .iter()
            .map(|f| f.terms().slot().index())
            .collect::<Vec<_>>()
    };
    assert_eq!((on(6_049), on(6_050), on(6_100)), (vec![4], vec![5, 4], vec![]));
    let ranges: Vec<_> = gateway.forwarded().map(|(.., l4_ports)| l4_ports).collect();
    assert_eq!(ranges, [6_000..=6_049, 6_050..=6_059, 6_060..=6_099]);
    assert!(gateway.forward(&FlowKey { proto: 17, ..key(1, 6_000) }, LAN).is_none());
    assert!(gateway.has_forward(WAN, 6_055, 6) && !gateway.has_forward(WAN, 6_100, 6));
    for (address, l4_port, is) in
        [(0x0a00_0005, 7_000, false), (0x0a00_0009, 80, true), (0x0a00_0009, 81, false)]
    {
        assert_eq!(gateway.is_server(address, l4_port, 6), is, "{l4_port}");
    }
    assert!(!gateway.is_server(0x0a00_0009, 80, 17));
    assert_eq!(gateway.reserved(WAN).count(), 2);
    assert!(gateway.terms_of(Slot::new(4, 1)).is_some());
}

/// What lies where with two arms; with one, all of it is on the outer interface.
fn topology(arms: u16) -> Topology {
    let lan = if arms == 2 { LAN } else { OUT };
    Topology {
        wans: vec![(WAN + 3, OUT)],
        networks: vec![(0..=u32::MAX, OUT), (0x0a00_0000..=0x0a00_00ff, lan)],
    }
}

#[test]
fn inside_is_where_rules_and_interfaces_say_that_sources_are() {
    const HOST: u32 = 0x0a00_0001;
    /// Within the sources, but not in the network that is inside.
    const AWAY: u32 = 0x0a09_0001;
    const REMOTE: u32 = 0x0808_0808;
    let sources = || vec![0x0a00_0000..=0x0aff_ffff];
    let any = Match::default;
    let named = Match { sources: sources(), ..any() };
    let by_out = Match { out_dev: Some(OUT), ..named.clone() };
    let by_in = Match { in_dev: Some(LAN), ..any() };
    let by_in_named = Match { in_dev: Some(OUT), ..named.clone() };
    for (arms, matching, from_lan, from_out) in [
        // Each: host, one who is within the sources but elsewhere, remote; by the inner and the outer interface.
        (2, any(), [true, true, true], [false, false, false]),
        (2, named.clone(), [true, true, false], [false, false, false]),
        (2, by_out.clone(), [true, true, false], [false, false, false]),
        (2, by_in, [true, true, true], [false, false, false]),
        (1, any(), [true, true, true], [false, false, false]),
        (1, named, [true, true, false], [true, true, false]),
        (1, by_out, [true, true, false], [true, true, false]),
        (2, by_in_named, [false, false, false], [true, true, false]),
    ] {
        let rules = vec![rule(1, matching.clone(), Action::Translate)];
        let gateway = gateway_in(topology(arms), rules, Vec::new(), Action::Accept);
        for (dev, expected) in [(LAN, from_lan), (OUT, from_out)] {
            let found = [HOST, AWAY, REMOTE].map(|src| gateway.is_inside(src, dev, Some(OUT)));
            assert_eq!(found, expected, "{arms} arms, {matching:?}, by {dev:?}");
        }
    }
    for arms in [1, 2] {
        let rules = vec![rule(1, Match { out_dev: Some(OUT), ..any() }, Action::Translate)];
        let gateway = gateway_in(topology(arms), rules, Vec::new(), Action::Accept);
        assert_eq!(gateway.has_one_arm(), arms == 1);
    }
    let none = gateway_in(topology(2), Vec::new(), Vec::new(), Action::Accept);
    assert!(!none.is_inside(HOST, LAN, Some(OUT)));
    let leave = vec![rule(1, any(), Action::Accept)];
    let leave = gateway_in(topology(2), leave, Vec::new(), Action::Accept);
    assert!(!leave.is_inside(HOST, LAN, Some(OUT)), "who is not translated has no mappings");
}

/// A rule that takes any interface's own address: outside is where everything else is.
#[test]
fn inside_of_masquerade_is_what_comes_by_another_interface_than_the_wan_ips() {
    let wans = WanSource::Interface(vec![(LAN, wan(0)), (OUT, wan(1))]);
    let settings = Settings { wans, ..Settings::default() };
    let config = GatewayConfig {
        rules: vec![(rule(1, Match::default(), Action::Translate), settings)],
        forwards: Vec::new(),
        servers: Vec::new(),
        forwarding: Forwarding { rules: Vec::new(), policy: Action::Accept },
        topology: topology(2),
    };
    let gateway = Gateway::new(config).unwrap();
    assert!(gateway.is_inside(0x0a00_0001, LAN, Some(OUT)));
    assert!(!gateway.is_inside(0x0808_0808, OUT, Some(OUT)));
    assert!(!gateway.is_inside(0x0a00_0001, LAN, Some(LAN)), "of the link itself");
}

#[test]
fn masquerade_takes_the_address_of_the_way_out() {
    let wans = WanSource::Interface(vec![(LAN, wan(0)), (OUT, wan(1))]);
    let terms = Terms::new(Slot::new(1, 1), Settings { wans, ..Settings::default() });
    let by = |dev| terms.candidates(7, dev).map(|wan| wan.place).collect::<Vec<_>>();
    assert_eq!(by(Some(OUT)), [1]);
    assert_eq!(by(Some(LAN)), [0]);
    assert!(by(None).is_empty() && by(Some(EthPortId(9))).is_empty());
}

/// Two servers share a port: who is whose, also by another interface and whoever may use none.
#[test]
fn a_forwarded_port_is_its_servers_whoever_comes() {
    let lan_only = ForwardConfig { in_dev: Some(LAN), ..forward(5, 80..=80, vec![1..=9]) };
    let other = ForwardConfig {
        to: Endpoint32::new(0x0a00_0006, 80),
        sources: vec![20..=29],
        ..forward(6, 80..=80, Vec::new())
    };
    let gateway = gateway(Vec::new(), vec![lan_only, other], Action::Accept);
    for (src, by, to) in [(1, LAN, 5), (1, OUT, 5), (20, LAN, 6), (20, OUT, 6), (99, OUT, 5)] {
        assert_eq!(gateway.leads_to(&key(src, 80), by), Some(0x0a00_0000 + to), "{src} by {by:?}");
    }
    assert!(
        gateway.forward(&key(1, 80), OUT).is_none() && gateway.forward(&key(99, 80), LAN).is_none()
    );
}
