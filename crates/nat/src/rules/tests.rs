//! The classifier against the plain list of rules.

use proptest::prelude::*;

use super::*;

/// The rules read one after the other, as people read them.
fn linear(rules: &[Rule], query: &Query) -> Option<RuleMatch> {
    let with_ports = matches!(query.proto, 6 | 17);
    let in_any = |ranges: &[RangeInclusive<u32>], number: u32| {
        ranges.iter().any(|range| range.contains(&number))
    };
    let port_in = |ranges: &[RangeInclusive<u16>], l4_port: u16| {
        with_ports && ranges.iter().any(|range| range.contains(&l4_port))
    };
    rules.iter().enumerate().find_map(|(index, rule)| {
        let m = &rule.matching;
        let fits = (m.sources.is_empty() || in_any(&m.sources, query.src))
            && (m.destinations.is_empty() || in_any(&m.destinations, query.dst))
            && (m.protocols.is_empty() || m.protocols.contains(&query.proto))
            && (m.source_ports.is_empty() || port_in(&m.source_ports, query.sport))
            && (m.destination_ports.is_empty() || port_in(&m.destination_ports, query.dport))
            && m.in_dev.is_none_or(|dev| dev == query.in_dev)
            && (m.out_dev.is_none() || m.out_dev == query.out_dev);
        let x = &rule.except;
        let excepted = in_any(&x.sources, query.src)
            || in_any(&x.destinations, query.dst)
            || x.protocols.contains(&query.proto)
            || port_in(&x.source_ports, query.sport)
            || port_in(&x.destination_ports, query.dport)
            || x.in_dev == Some(query.in_dev)
            || (x.out_dev.is_some() && x.out_dev == query.out_dev);
        let action = if excepted { Action::Accept } else { rule.action };
        fits.then_some(RuleMatch { index, slot: rule.slot, action, excepted })
    })
}

fn address() -> impl Strategy<Value = u32> {
    prop_oneof![0..40_u32, Just(u32::MAX), Just(u32::MAX - 1), any::<u32>()]
}

fn l4_port() -> impl Strategy<Value = u16> {
    prop_oneof![0..20_u16, Just(u16::MAX), any::<u16>()]
}

fn matching() -> impl Strategy<Value = Match> {
    use prop::collection::vec;
    let range = || (address(), address()).prop_map(|(a, b)| a.min(b)..=a.max(b));
    let ports = || (l4_port(), l4_port()).prop_map(|(a, b)| a.min(b)..=a.max(b));
    let proto = prop_oneof![Just(1), Just(6), Just(17), Just(47), any::<u8>()];
    let dev = || prop::option::weighted(0.2, (0..3_u16).prop_map(EthPortId));
    let some = |len| 0..len;
    (
        vec(range(), some(3)),
        vec(range(), some(3)),
        vec(proto, some(3)),
        vec(ports(), some(2)),
        vec(ports(), some(2)),
        dev(),
        dev(),
    )
        .prop_map(
            |(sources, destinations, protocols, source_ports, destination_ports, i, o)| Match {
                sources,
                destinations,
                protocols,
                source_ports,
                destination_ports,
                in_dev: i,
                out_dev: o,
            },
        )
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let action = prop_oneof![Just(Action::Translate), Just(Action::Accept), Just(Action::Drop)];
    let except = prop_oneof![2 => Just(Match::default()), 1 => matching()];
    let rule = (matching(), except, action).prop_map(|(matching, except, action)| Rule {
        slot: Slot::NONE,
        matching,
        except,
        action,
    });
    prop::collection::vec(rule, 0..100).prop_map(|mut rules| {
        for (n, rule) in rules.iter_mut().enumerate() {
            rule.slot = Slot::new(n as u32, 1);
        }
        rules
    })
}

fn query() -> impl Strategy<Value = Query> {
    let proto = prop_oneof![Just(1), Just(6), Just(17), Just(47), any::<u8>()];
    let out = prop::option::of((0..4_u16).prop_map(EthPortId));
    (address(), address(), l4_port(), l4_port(), proto, 0..4_u16, out).prop_map(
        |(src, dst, sport, dport, proto, dev, out_dev)| Query {
            src,
            dst,
            sport,
            dport,
            proto,
            in_dev: EthPortId(dev),
            out_dev,
        },
    )
}

proptest! {
    #[test]
    fn finds_what_the_list_says(
        rules in rules(), queries in prop::collection::vec(query(), 1..60),
    ) {
        let compiled = Rules::new(&rules).unwrap();
        for query in queries {
            prop_assert_eq!(compiled.find(&query), linear(&rules, &query), "{:?}", query);
        }
    }
}

fn net(a: u8, b: u8, c: u8, len: u32) -> RangeInclusive<u32> {
    let first = u32::from_be_bytes([a, b, c, 0]);
    first..=first + ((1 << (32 - len)) - 1)
}

fn udp(src: u32, dst: u32) -> Query {
    let in_dev = EthPortId(0);
    Query { src, dst, sport: 1_024, dport: 53, proto: 17, in_dev, out_dev: Some(EthPortId(1)) }
}

#[test]
fn thousands_of_rules_find_the_first() {
    let rules: Vec<Rule> = (0..5_000_u32)
        .map(|n| {
            let [_, _, b, c] = n.to_be_bytes();
            let matching = Match { sources: vec![net(10, b, c, 24)], ..Match::default() };
            Rule { slot: Slot::new(n, 1), matching, ..Rule::default() }
        })
        .collect();
    let compiled = Rules::new(&rules).unwrap();
    for n in [0, 1, 63, 64, 4_095, 4_096, 4_999_u32] {
        let src = 0x0a00_0007 + n * 256;
        assert_eq!(compiled.find(&udp(src, 1)).map(|found| found.index), Some(n as usize));
    }
    assert_eq!(compiled.find(&udp(0x0a00_0000 + 5_000 * 256, 1)), None);
}

/// `-d 100.64.0.0/10 -j RETURN`, `! -p vrrp`, then `-s 10.0.0.0/8 -o wan0 -j MASQUERADE`.
/// RFC 6888 REQ-6: some destinations are not translated.
#[test]
fn rfc6888_req6_exceptions_pass_unchanged() {
    let matching =
        Match { sources: vec![net(10, 0, 0, 8)], out_dev: Some(EthPortId(1)), ..Match::default() };
    let except =
        Match { destinations: vec![net(100, 64, 0, 10)], protocols: vec![112], ..Match::default() };
    let slot = Slot::new(1, 1);
    let office = Rule { slot, matching, except, action: Action::Translate };
    let compiled = Rules::new(std::slice::from_ref(&office)).unwrap();
    let found = |query: Query| compiled.find(&query).map(|found| (found.action, found.excepted));
    let out = udp(0x0a01_0203, 0x0808_0808);
    assert_eq!(found(out), Some((Action::Translate, false)));
    assert_eq!(found(Query { dst: 0x6440_0001, ..out }), Some((Action::Accept, true)));
    assert_eq!(found(Query { proto: 112, ..out }), Some((Action::Accept, true)));
    assert_eq!(found(Query { out_dev: None, ..out }), None);
    assert_eq!(found(Query { src: 0xc0a8_0101, dst: 0x6440_0001, ..out }), None, "not its own");
}

#[test]
fn too_many_are_refused() {
    let rules = vec![Rule::default(); Rules::MAX + 1];
    assert_eq!(Rules::new(&rules).err(), Some(TooManyRules(Rules::MAX + 1)));
}
