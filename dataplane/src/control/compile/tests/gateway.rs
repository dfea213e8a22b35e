//! What rules of NAT and forwarding become, what they keep over a change, and what is left of them.

use nat::gateway::{Decision, MappingKind, WanSource};
use nat::rules::Query;
use types::{FlowKey, WorkerId};

use super::*;
use crate::worker::link::GatewayWork;

/// Masquerade on `wan0` with an exception, after a pool for one host.
const OFFICE: &str = r#"
snat:
  host:
    match: { source: [ 10.0.0.7 ], out_dev: wan0 }
    wan_addresses: [ 203.0.113.20-203.0.113.21, { address: 203.0.113.40, weight: 2, admin: drain } ]
    mapping: address-and-port-dependent
  office:
    match: { source: [ 10.0.0.0/8 ], out_dev: wan0, except: { destination: [ 100.64.0.0/10 ] } }
    wan_addresses: [ interface ]
dnat:
  ssh: { on: "203.0.113.22:6000-6003", protocol: tcp, to: "198.18.0.6:22-25" }
"#;

fn ip(address: &str) -> u32 {
    address.parse::<std::net::Ipv4Addr>().unwrap().to_bits()
}

fn office() -> Bench {
    Bench::new(&format!("{SHOP}{OFFICE}"))
}

fn gateway(bench: &Bench) -> Arc<nat::Gateway> {
    bench.compiler.snapshot().gateway.clone().unwrap()
}

fn slot(bench: &Bench, kind: RuleKind, name: &str) -> Slot {
    bench.compiler.gateway_names().slot(kind, name).unwrap()
}

fn place(bench: &Bench, address: &str) -> u16 {
    bench.compiler.gateway_names().wan(ip(address)).unwrap().place
}

fn query(src: &str, dst: &str) -> Query {
    let (src, dst) = (ip(src), ip(dst));
    Query { src, dst, sport: 40_000, dport: 80, proto: 6, in_dev: LAN, out_dev: Some(WAN) }
}

/// All that the first worker is to do before, merged.
fn work(plan: &Plan) -> GatewayWork {
    let mut all = GatewayWork::default();
    for work in plan.prepare_gateway(WorkerId(0)).unwrap() {
        all.state = all.state.or(work.state);
        all.begun.extend(work.begun);
        all.wans.extend(work.wans);
        all.ports = all.ports.or(work.ports);
    }
    all
}

#[test]
fn without_a_rule_nothing_is_forwarded_and_nothing_shipped() {
    let mut bench = Bench::new(SHOP);
    assert!(bench.compiler.snapshot().gateway.is_none());
    let (plan, _) = bench.edit(|model| _ = model.delete_service("shop").unwrap());
    assert!(plan.prepare_gateway(WorkerId(0)).unwrap().is_empty());
}

#[test]
fn rules_are_found_in_their_order_by_their_slots() {
    let bench = office();
    let gateway = gateway(&bench);
    let Decision::Translate(host) = gateway.decide_out(&query("10.0.0.7", "192.0.2.1")) else {
        panic!()
    };
    assert_eq!((host.index, host.slot), (0, slot(&bench, RuleKind::Snat, "host")));
    let Decision::Translate(office) = gateway.decide_out(&query("10.0.0.8", "192.0.2.1")) else {
        panic!()
    };
    assert_eq!((office.index, office.slot), (1, slot(&bench, RuleKind::Snat, "office")));
    let Decision::Forward(Some(excepted)) = gateway.decide_out(&query("10.0.0.8", "100.64.0.1"))
    else {
        panic!()
    };
    assert!(excepted.excepted);
    assert_eq!(gateway.decide_out(&query("198.18.0.5", "192.0.2.1")), Decision::Forward(None));
    let names = bench.compiler.gateway_names();
    assert_eq!(names.rule(host.slot).unwrap().to_string(), "snat/host");
}

#[test]
fn settings_are_those_of_the_rule() {
    let bench = office();
    let gateway = gateway(&bench);
    let host = gateway.terms(0).unwrap().settings();
    assert_eq!(host.mapping, MappingKind::AddressAndPortDependent);
    let WanSource::Addresses(wans) = &host.wans else { panic!() };
    let told: Vec<_> = wans.iter().map(|wan| (wan.address, wan.weight, wan.draining)).collect();
    let (a, b, c) = (ip("203.0.113.20"), ip("203.0.113.21"), ip("203.0.113.40"));
    assert_eq!(told, [(a, 1, false), (b, 1, false), (c, 2, true)]);
    let WanSource::Interface(wans) = &gateway.terms(1).unwrap().settings().wans else { panic!() };
    assert_eq!(wans.len(), 1);
    assert_eq!((wans[0].0, wans[0].1.address), (WAN, ip("203.0.113.2")));
    assert_eq!(gateway.place_of(ip("203.0.113.2")), Some(place(&bench, "203.0.113.2")));
}

#[test]
fn timeouts_are_a_class_of_the_gateways() {
    let mut bench = Bench::new(SHOP);
    let (plan, _) = bench.apply(model(&format!("{SHOP}{OFFICE}"))).unwrap();
    let class = gateway(&bench).terms(0).unwrap().settings().timeout_class;
    assert_ne!(class, 0);
    let [(changed, set)] = plan.timeouts[..] else { panic!("{:?}", plan.timeouts) };
    assert!(changed == class && set.gateway);
    assert_eq!((set.tcp_established_ms, set.tcp_syn_ms, set.udp_ms), (7_440_000, 240_000, 300_000));
    assert_eq!(gateway(&bench).terms(1).unwrap().settings().timeout_class, class, "equal ones");
}

#[test]
fn wan_ips_are_ours() {
    let bench = office();
    let role = |address: &str| {
        let owner = bench.compiler.snapshot().fib.owner(ip(address));
        owner.map(|owner| (owner.role, owner.iface))
    };
    for address in ["203.0.113.2", "203.0.113.20", "203.0.113.40", "203.0.113.22"] {
        assert_eq!(role(address), Some((fib::Role::WanIp, WAN)), "{address}");
    }
    assert_eq!(role("203.0.113.10"), Some((fib::Role::Vip, WAN)));
    // Of those that no interface has, the link is not told: they are routed to us, or another node has them.
    let answers = |address: &str| bench.compiler.snapshot().fib.answers(WAN, ip(address));
    assert!(answers("203.0.113.2") && !answers("203.0.113.20") && !answers("203.0.113.22"));
}

/// A WAN IP that another node has: nothing new is translated to it, and what comes back finds its mappings.
#[test]
fn wan_ips_that_the_kernel_does_not_hold_take_no_new_conns() {
    let floating = "addresses:\n  - { address: 203.0.113.20/32, dev: wan0, active: with-kernel }\n  \
                    - { address: 203.0.113.22/32, dev: wan0, active: with-kernel }\n";
    let text = format!("{SHOP}{OFFICE}").replace("addresses:\n", floating);
    let text = text.replace("  wan0: {", "  wan0: { kni: wan0.kni,");
    let mut bench = Bench::new(&text);
    let withheld = |bench: &Bench| {
        let gateway = gateway(bench);
        let WanSource::Addresses(wans) = &gateway.terms(0).unwrap().settings().wans else {
            panic!()
        };
        assert_eq!(gateway.place_of(ip("203.0.113.20")), Some(place(bench, "203.0.113.20")));
        wans.iter().map(|wan| wan.withheld).collect::<Vec<_>>()
    };
    assert_eq!(withheld(&bench), [true, false, false]);
    bench.kernel(&[(WAN, ip("203.0.113.20"))]);
    assert_eq!(withheld(&bench), [false, false, false]);
    bench.kernel(&[]);
    assert_eq!(withheld(&bench), [true, false, false]);
}

#[test]
fn interfaces_that_are_to_be_silent_are() {
    let text = format!("{SHOP}vlans: {{ office: {{ link: wan0, id: 7 }} }}\n");
    let mut bench = Bench::new(&format!("{text}forwarding: {{ silent: [ wan0 ] }}\n"));
    let silent = |bench: &Bench| {
        let all = bench.compiler.snapshot().interfaces.iter();
        all.map(|interface| interface.silent).collect::<Vec<_>>()
    };
    assert_eq!(silent(&bench), [false, true, false]);
    bench.apply(model(&format!("{text}forwarding: {{ silent: [ office ] }}\n"))).unwrap();
    assert_eq!(silent(&bench), [false, false, true]);
}

#[test]
fn ports_are_freed_around_those_that_stay_kept() {
    let kept = |first, last| Kept { place: 1, proto: 6, first, last };
    let left = |others: &[Kept]| {
        let left = kept(10, 20).without(others);
        left.iter().map(|kept| (kept.first, kept.last)).collect::<Vec<_>>()
    };
    assert_eq!(left(&[]), [(10, 20)]);
    assert_eq!(left(&[kept(12, 13), kept(1, 10)]), [(11, 11), (14, 20)]);
    assert_eq!(left(&[kept(15, 15), kept(16, 99), kept(14, 14)]), [(10, 13)]);
    assert_eq!(left(&[kept(1, 65_535)]), []);
    assert_eq!(
        left(&[Kept { place: 2, ..kept(1, 99) }, Kept { proto: 17, ..kept(1, 99) }]),
        [(10, 20)]
    );
}

#[test]
fn a_port_forward_keeps_its_ports() {
    let mut bench = Bench::new(SHOP);
    let (plan, _) = bench.apply(model(&format!("{SHOP}{OFFICE}"))).unwrap();
    let work = work(&plan);
    assert!(work.state.is_some());
    assert_eq!(work.begun.len(), 3);
    assert_eq!(work.wans.len(), 5);
    let ports = work.ports.unwrap();
    assert_eq!((ports.place, ports.l4_ports), (place(&bench, "203.0.113.22"), 6000..=6003));
    let key = FlowKey { dst: ip("203.0.113.22"), dport: 6001, proto: 6, ..FlowKey::default() };
    let forward = gateway(&bench).forward(&key, WAN).cloned().unwrap();
    assert_eq!(forward.to(6001).l4_port, 23);
    assert_eq!(forward.terms().slot(), slot(&bench, RuleKind::Dnat, "ssh"));
}

/// The source that a forward translates takes of the same ports as the rule that has the WAN IP.
#[test]
fn a_port_forward_goes_by_the_rule_that_has_its_wan_ip() {
    let with = OFFICE.replace(
        "mapping: address-and-port-dependent",
        "ports: 600-50000\n    port_rest: 7s\n    mss_clamp: 1300\n    \
         mapping: address-and-port-dependent",
    );
    let on = |address: &str| {
        let bench = Bench::new(&format!("{SHOP}{}", with.replace("203.0.113.22:", address)));
        let key = FlowKey { dport: 6001, proto: 6, ..FlowKey::default() };
        let key = FlowKey { dst: ip(address.trim_end_matches(':')), ..key };
        gateway(&bench).forward(&key, WAN).unwrap().terms().settings().clone()
    };
    let shared = on("203.0.113.21:");
    assert_eq!(shared.mapping, MappingKind::AddressAndPortDependent);
    assert_eq!((shared.l4_ports, shared.keep_range, shared.rest_ms), (600..=50_000, true, 7_000));
    assert_eq!(shared.mss_clamp, nat::gateway::MssClamp::Bytes(1_300));
    let own = on("203.0.113.22:");
    let usual = nat::gateway::Settings::default();
    assert_eq!((own.l4_ports, own.rest_ms), (usual.l4_ports, usual.rest_ms));
    assert_eq!((own.mapping, own.mss_clamp), (usual.mapping, usual.mss_clamp));
}

#[test]
fn a_rule_keeps_its_slot_while_it_lives() {
    let mut bench = office();
    let before = slot(&bench, RuleKind::Snat, "office");
    let (old, kept) = (place(&bench, "203.0.113.20"), place(&bench, "203.0.113.2"));
    let (plan, gone) = bench.edit(|model| {
        let rule = config::SnatRule::clone(&model.snat["office"]);
        model.put_snat("office", rule, &config::Place::Position(0)).unwrap();
        model.delete_snat("host").unwrap();
    });
    assert_eq!(slot(&bench, RuleKind::Snat, "office"), before);
    assert_eq!(gateway(&bench).terms(0).unwrap().slot(), before);
    assert_eq!(gone.rules.len(), 1);
    assert!(work(&plan).state.is_none() && work(&plan).begun.is_empty());
    assert_eq!(place(&bench, "203.0.113.2"), kept);
    assert_eq!(old, place(&bench, "203.0.113.20"), "until its conns are closed");
    let left = bench.compiler.gateway_leftovers();
    assert_eq!(left.wans.len(), 3);
    assert!(left.wans.contains(&(ip("203.0.113.20"), old)));
    assert!(bench.compiler.gateway_names().wan(ip("203.0.113.20")).unwrap().rules.is_empty());
    for (address, _) in left.wans {
        bench.compiler.wan_removed(address);
    }
    assert!(bench.compiler.gateway_leftovers().wans.is_empty());
    bench.compiler.give_back_rules(&gone.rules);
}

#[test]
fn masquerade_follows_the_address_of_the_interface() {
    let mut bench = office();
    let text = format!("{SHOP}{OFFICE}").replace("203.0.113.2/24", "203.0.113.3/24");
    bench.apply(model(&text)).unwrap();
    let gateway = gateway(&bench);
    let WanSource::Interface(wans) = &gateway.terms(1).unwrap().settings().wans else { panic!() };
    assert_eq!(wans[0].1.address, ip("203.0.113.3"));
    let left = bench.compiler.gateway_leftovers().wans;
    assert_eq!(left.iter().map(|wan| wan.0).collect::<Vec<_>>(), [ip("203.0.113.2")]);
}

#[test]
fn ports_that_another_forward_keeps_stay_kept() {
    let mut bench = office();
    let text = format!("{SHOP}{OFFICE}").replace("6000-6003", "6002").replace(":22-25", ":22");
    bench.apply(model(&text)).unwrap();
    let kept = bench.compiler.gateway_leftovers().kept;
    let [(gone, still)] = &kept[..] else { panic!("{kept:?}") };
    assert_eq!(gone.l4_ports(), 6000..=6003);
    assert_eq!(still.iter().map(Kept::l4_ports).collect::<Vec<_>>(), [6002..=6002]);
    bench.compiler.ports_freed(gone);
    assert!(bench.compiler.gateway_leftovers().kept.is_empty());
}

/// A worker did not answer: those that did keep ports for a forward that is not to be.
#[test]
fn ports_of_a_forward_that_is_refused_are_given_up() {
    let mut bench = office();
    assert!(bench.compiler.gateway_leftovers().kept.is_empty());
    let more =
        format!("{SHOP}{OFFICE}").replace("6000-6003", "5998-6003").replace(":22-25", ":20-25");
    let plan = bench.compiler.plan(bench.request(model(&more))).unwrap();
    bench.compiler.abandon(plan);
    let kept = bench.compiler.gateway_leftovers().kept;
    let [(gone, still)] = &kept[..] else { panic!("{kept:?}") };
    assert_eq!(gone.l4_ports(), 5998..=6003);
    assert_eq!(still.iter().map(Kept::l4_ports).collect::<Vec<_>>(), [6000..=6003]);
    bench.compiler.ports_freed(gone);
    assert!(bench.compiler.gateway_leftovers().kept.is_empty());

    // Once it is made after all, nothing is left to be given up.
    let plan = bench.compiler.plan(bench.request(model(&more))).unwrap();
    bench.compiler.abandon(plan);
    bench.apply(model(&more)).unwrap();
    let kept = bench.compiler.gateway_leftovers().kept;
    assert_eq!(kept.iter().map(|kept| kept.0.l4_ports()).collect::<Vec<_>>(), [6000..=6003]);
    bench.compiler.ports_freed(&kept[0].0);
    let plan = bench.compiler.plan(bench.request(model(SHOP))).unwrap();
    bench.compiler.abandon(plan);
    assert!(bench.compiler.gateway_leftovers().kept.is_empty());
}

#[test]
fn once_there_was_a_gateway_there_is_one() {
    let mut bench = office();
    bench.apply(model(SHOP)).unwrap();
    let gateway = gateway(&bench);
    assert!(matches!(gateway.decide_out(&query("10.0.0.7", "192.0.2.1")), Decision::Drop(_)));
    assert_eq!(bench.compiler.gateway_leftovers().wans.len(), 5);
}

#[test]
fn what_does_not_concern_it_leaves_it_alone() {
    let mut bench = office();
    let before = gateway(&bench);
    let (plan, _) = bench.edit(|model| {
        model.add_server("shop", server("198.18.0.123:80")).unwrap();
    });
    assert!(Arc::ptr_eq(&before, &gateway(&bench)));
    assert!(plan.prepare_gateway(WorkerId(0)).unwrap().is_empty());
}

#[test]
fn forwarding_alone_makes_a_router() {
    let text = format!("{SHOP}forwarding: {{ policy: accept, reverse_path: strict }}\n");
    let bench = Bench::new(&text);
    assert_eq!(
        gateway(&bench).decide_out(&query("10.0.0.7", "192.0.2.1")),
        Decision::Forward(None)
    );
    let policy = bench.compiler.snapshot().policy;
    assert_eq!(policy.reverse_path, crate::snapshot::ReversePath::Strict);
}

/// A service in NAT mode, and a port forward to several servers.
const NAT: &str = r#"
  web:
    vips: [ "203.0.113.10:81" ]
    protocol: tcp
    mode: nat
    servers: [ { address: "198.18.0.130:8080" } ]
dnat:
  mail: { on: "203.0.113.22:25", protocol: tcp, to: [ "198.18.0.131:25", "198.18.0.132:25" ] }
"#;

#[test]
fn replies_of_servers_in_nat_mode_are_known() {
    let mut bench = Bench::new(&format!("{SHOP}{NAT}"));
    assert_eq!(bench.service(81).spec().mode, balance::Mode::Nat);
    let all = [("198.18.0.130", 8080), ("198.18.0.131", 25), ("198.18.0.132", 25)];
    for (server, l4_port) in all {
        assert!(gateway(&bench).is_server(ip(server), l4_port, 6), "{server}");
    }
    assert!(!gateway(&bench).is_server(ip("198.18.0.121"), 80, 6), "FullNAT");
    let mail = bench.at("203.0.113.22", 25).unwrap();
    assert_eq!((&*mail.spec().name, mail.servers().len()), ("dnat/mail", 2));
    let owner = bench.compiler.snapshot().fib.owner(ip("203.0.113.22")).unwrap();
    assert_eq!(owner.role, fib::Role::WanIp);

    // Conns may still name what is gone.
    let (_, gone) = bench.edit(|model| _ = model.delete_dnat("mail").unwrap());
    assert!(bench.at("203.0.113.22", 25).is_none());
    assert!(gateway(&bench).is_server(ip("198.18.0.131"), 25, 6));
    let slots: Vec<Slot> = gone.servers.iter().map(|gone| gone.slot).collect();
    bench.compiler.give_back(&gone.services, &slots);
    bench.edit(|model| _ = model.delete_service("web").unwrap());
    assert!(!gateway(&bench).is_server(ip("198.18.0.131"), 25, 6));
}

#[test]
fn several_servers_are_for_everybody() {
    let mut bench = Bench::new(SHOP);
    let text =
        format!("{SHOP}{NAT}").replace("protocol: tcp, to", "protocol: tcp, in_dev: wan0, to");
    let refused = bench.apply(model(&text)).unwrap_err();
    assert_eq!(refused.path.to_string(), "dnat.mail.in_dev");
}

/// Two workers: each needs a port, and one of each parity if that is kept.
#[test]
fn a_range_that_leaves_a_worker_without_ports_is_refused() {
    let mut bench = office();
    let mut edit = |ports: &str, parity| {
        let config = bench.compiler.config();
        let mut model = Model::clone(config);
        let mut rule = config::SnatRule::clone(model.snat.get("office").unwrap());
        (rule.ports, rule.preserve_parity) = (ports.parse().unwrap(), parity);
        model.put_snat("office", rule, &config::Place::default()).unwrap();
        bench.apply(Arc::new(model)).map(|_| ())
    };
    for (ports, parity, refused) in [
        ("5000-5000", false, Some("5000 has 1 ports for 2 workers")),
        ("5001-5003", false, None),
        ("5000-5002", true, Some("5000-5002 has 1 odd ports for 2 workers")),
        ("5000-5003", true, None),
    ] {
        let told = edit(ports, parity).err().map(|error| error.to_string());
        match refused {
            None => assert_eq!(told, None, "{ports}"),
            Some(words) => {
                assert!(told.as_ref().is_some_and(|told| told.contains(words)), "{told:?}")
            }
        }
    }
}

/// What was steered by a port forward goes on where it is.
#[test]
fn how_forwarded_ports_were_steered_is_remembered() {
    let mut bench = office();
    let earlier = |bench: &Bench, dport| {
        let key = FlowKey { dst: ip("203.0.113.22"), dport, proto: 6, ..FlowKey::default() };
        bench.compiler.snapshot().earlier.of(&key).to_vec()
    };
    let by = |server| steer::Role::Of(ip(server));
    assert!(bench.compiler.snapshot().earlier.is_empty());
    bench.edit(|model| _ = model.delete_snat("host").unwrap());
    assert!(bench.compiler.snapshot().earlier.is_empty(), "another rule");
    bench.edit(|model| {
        let mut rule = config::DnatRule::clone(model.dnat.get("ssh").unwrap());
        rule.on.ports = "6002-6005".parse().unwrap();
        _ = model.put_dnat("ssh", rule).unwrap();
    });
    assert_eq!(earlier(&bench, 6_001), [by("198.18.0.6")], "gone");
    assert!(earlier(&bench, 6_002).is_empty(), "led to the same server");
    assert_eq!(earlier(&bench, 6_005), [steer::Role::Wan], "added");
    bench.edit(|model| _ = model.delete_dnat("ssh").unwrap());
    assert_eq!(earlier(&bench, 6_005), [steer::Role::Wan, by("198.18.0.6")]);
    assert_eq!(earlier(&bench, 6_003), [by("198.18.0.6")]);
}
