//! Rules of source NAT, destination NAT and forwarding: order, merging, and what is refused.

use config::{Model, Overlay, Place, SnatRule, diff, load, to_yaml};

const BASE: &str = "\
interfaces: { wan0: { device: net_null0 }, lan0: { device: net_null1 }, dmz0: { device: net_null2 } }
addresses:
  - { address: 203.0.113.2/24, dev: wan0 }
  - { address: 203.0.113.10/32, dev: wan0 }
  - { address: 203.0.113.20/32, dev: wan0 }
  - { address: 10.0.0.1/24, dev: lan0 }
local_address_pools: { lan: { addresses: [ 10.0.0.100-10.0.0.103 ], dev: lan0 } }
services: { shop: { vips: [ \"203.0.113.10:80\" ], protocol: tcp, local_pool: lan, servers: [ { address: \"10.0.0.9:80\" } ] } }
";

fn model(rules: &str) -> (Model, Vec<String>) {
    let loaded = load(&format!("{BASE}{rules}"), "f");
    let (model, warnings) = loaded.unwrap_or_else(|errors| panic!("{rules}: {errors}"));
    (model, warnings.iter().map(ToString::to_string).collect())
}

#[test]
fn what_cannot_be_is_refused_with_key_value_and_way_out() {
    for (rules, says) in [
        ("snat: { a: { wan_addresses: [] } }", "snat.a.wan_addresses: the pool is empty"),
        ("snat: { a: {} }", "or `interface` for the interface's own"),
        (
            "snat: { a: { wan_addresses: [ 203.0.113.10 ] } }",
            "203.0.113.10 is a VIP: it cannot be a WAN IP too; give",
        ),
        (
            "snat: { a: { wan_addresses: [ 10.0.0.90-10.0.0.101 ] } }",
            "10.0.0.100 is a LIP of local_address_pools.lan: it cannot be a WAN IP too; take",
        ),
        (
            "snat: { a: { wan_addresses: [ 203.0.113.20, 203.0.113.20 ] } }",
            "snat.a.wan_addresses[1]: 203.0.113.20 is there twice",
        ),
        ("snat: { a: { wan_addresses: [ interface, 203.0.113.20 ] } }", "`interface` stands alone"),
        ("snat: { a: { wan_addresses: [ \"2001:db8::1\" ] } }", "IPv6 is not supported"),
        ("snat: { a: { wan_addresses: [ 224.0.0.1 ] } }", "224.0.0.1 is a multicast address"),
        (
            "snat: { a: { wan_addresses: [ 203.0.113.20 ], ports: 1024-65536 } }",
            "65536 is no port; ports go from 1 to 65535",
        ),
        (
            "snat: { a: { wan_addresses: [ 203.0.113.20 ], ports: 2000-1000 } }",
            "did you mean `1000-2000`?",
        ),
        ("snat: { a: { wan_addresses: [ 203.0.113.20 ], ports: 0-1000 } }", "0 is no port"),
        (
            "snat: { a: { wan_addresses: [ 203.0.113.20 ], match: { out_dev: wan1 } } }",
            "snat.a.match.out_dev: there is no interface `wan1`; did you mean `wan0`?",
        ),
        (
            "snat: { a: { wan_addresses: [ 203.0.113.20 ], match: { in_dev: x } } }",
            "snat.a.match.in_dev: there is no interface `x`",
        ),
        (
            "snat: { a: { wan_addresses: [ 203.0.113.20 ], match: { source: [ \"2001:db8::/32\" ] } } }",
            "snat.a.match.source[0]: 2001:db8::/32: IPv6 is not supported",
        ),
        (
            "snat: { a: { wan_addresses: [ 203.0.113.20 ], match: { protocol: [ icmp ], destination_ports: [ 80 ] } } }",
            "snat.a.match.protocol[0]: icmp has no ports here",
        ),
        (
            "snat: { a: { action: accept, wan_addresses: [ 203.0.113.20 ] } }",
            "unless `action` is `translate`",
        ),
        ("snat: { pools: { wan_addresses: [ 203.0.113.20 ] } }", "`pools` is a word of its own"),
        (
            "snat: { \"a b\": { wan_addresses: [ 203.0.113.20 ] } }",
            "the name `a b` has other characters",
        ),
        (
            "snat: { a: { wan_addresses: [ 203.0.113.20 ], timeouts: { udp: 0s } } }",
            "0s is no timeout",
        ),
        ("snat: { a: { wan_addresses: [ 203.0.113.20 ], mss_clamp: 5 } }", "5 is not from 28"),
        (
            "snat: { a: { wan_addresses: [ 203.0.113.20 ], match: { protocol: [ tcp ] } }, b: { wan_addresses: [ 203.0.113.20 ], mapping: address-and-port-dependent } }",
            "snat.b.mapping: 203.0.113.20 has mappings of the other kind by rule `a`",
        ),
        (
            "dnat: { a: { on: \"203.0.113.20:22-29\", protocol: tcp, to: \"10.0.0.5:22\" } }",
            "did you mean `10.0.0.5:22-29`?",
        ),
        (
            "dnat: { a: { on: \"203.0.113.20:22\", protocol: tcp, to: [] } }",
            "it needs a server to lead to",
        ),
        (
            "dnat: { a: { on: \"203.0.113.20:22-29\", protocol: tcp, to: [ \"10.0.0.5:22\" ] } }",
            "8 ports cannot lead to a list of servers",
        ),
        (
            "dnat: { a: { on: \"203.0.113.10:80\", protocol: tcp, to: \"10.0.0.5:80\" } }",
            "tcp 203.0.113.10:80 is a VIP of service `shop`; take",
        ),
        (
            "dnat: { a: { on: \"10.0.0.101:80\", protocol: tcp, to: \"10.0.0.5:80\" } }",
            "10.0.0.101 is a LIP",
        ),
        (
            "dnat: { a: { on: \"203.0.113.20:22\", protocol: tcp, to: \"203.0.113.20:22\" } }",
            "would lead to itself",
        ),
        (
            "dnat: { a: { on: \"203.0.113.20:22\", protocol: tcp, to: \"10.0.0.1:22\" } }",
            "dnat.a.to: 10.0.0.1 is an address of our own, and no server's; name the server itself",
        ),
        (
            "dnat: { a: { on: \"203.0.113.20:22\", protocol: tcp, to: \"10.0.0.101:22\" } }",
            "10.0.0.101 is a LIP of ours",
        ),
        (
            "dnat: { a: { on: \"203.0.113.20:22\", protocol: tcp, to: [ \"10.0.0.5:22\", \"203.0.113.10:22\" ] } }",
            "dnat.a.to[1]: 203.0.113.10 is an address of our own",
        ),
        (
            "snat: { a: { wan_addresses: [ 203.0.113.250-203.0.113.255 ] } }",
            "snat.a.wan_addresses[0]: 203.0.113.255 is the broadcast address of 203.0.113.0/24 on `wan0`, not a host's; take",
        ),
        (
            "snat: { a: { match: { out_dev: wan0 }, wan_addresses: [ 203.0.113.0 ] } }",
            "203.0.113.0 is the network address of 203.0.113.0/24 on `wan0`",
        ),
        (
            "dnat: { a: { on: \"203.0.113.255:22\", protocol: tcp, to: \"10.0.0.5:22\" } }",
            "dnat.a.on: 203.0.113.255 is the broadcast address of 203.0.113.0/24 on `wan0`",
        ),
        (
            "dnat: { a: { on: \"203.0.113.20:20-29\", protocol: tcp, to: \"10.0.0.5:20-29\" }, b: { on: \"203.0.113.20:22\", protocol: tcp, to: \"10.0.0.5:22\" } }",
            "dnat.b.on: tcp 203.0.113.20:22 leads elsewhere by rule `a` already; take another port",
        ),
        (
            "forwarding: { rules: { a: { match: { in_dev: x }, action: drop } } }",
            "forwarding.rules.a.match.in_dev: there is no interface `x`",
        ),
        ("nat_log: { file: nat.jsonl }", "nat_log.file: `nat.jsonl` is no absolute path"),
    ] {
        let text = format!("{BASE}{rules}\n");
        let error = load(&text, "f").err().unwrap_or_else(|| panic!("{rules} was taken"));
        let line = format!("f:{}:", BASE.lines().count() + 1);
        assert!(error.to_string().contains(says), "{rules}: {error}");
        assert!(error.to_string().starts_with(&line), "{rules}: {error}");
    }
}

#[test]
fn what_may_not_be_meant_is_warned_of() {
    for (rules, says) in [
        (
            "snat: { a: { match: { out_dev: dmz0 }, wan_addresses: [ interface ] } }",
            "`dmz0` has no address now",
        ),
        (
            "routes: [ { to: default, via: 192.0.2.1, dev: dmz0 } ]\nsnat: { a: { wan_addresses: [ interface ] } }",
            "`dmz0` has no address now",
        ),
        (
            "snat: { a: { wan_addresses: [ { address: 203.0.113.20, admin: drain }, { address: 203.0.113.2, weight: 0 } ] } }",
            "every address is drained, disabled or of weight 0",
        ),
        (
            "snat: { a: { wan_addresses: [ 203.0.113.20-203.0.113.27 ] } }",
            "no interface answers ARP for 203.0.113.21",
        ),
        (
            "snat: { a: { match: { source: [ 10.1.0.0/16 ], except: { source: [ 10.0.0.0/8 ] } }, wan_addresses: [ interface ] } }",
            "snat.a.match.except.source: it excepts everything",
        ),
        (
            "snat: { a: { match: { except: { destination: [ 0.0.0.0/1, 128.0.0.0/1 ] } }, wan_addresses: [ interface ] } }",
            "except.destination: it excepts everything",
        ),
        (
            "snat: { a: { match: { source: [ 10.0.0.0/8 ] }, action: accept }, b: { match: { source: [ 10.1.0.0/16, 10.9.9.9 ], protocol: [ tcp ] }, action: accept } }",
            "snat.b: it never applies: `a` comes first and matches all of it",
        ),
        (
            "snat: { a: { match: { destination_ports: [ 1-100 ] }, action: accept }, b: { match: { protocol: [ udp ], destination_ports: [ 53 ] }, action: accept } }",
            "snat.b: it never applies",
        ),
        (
            "snat: { a: { wan_addresses: [ interface ], timeouts: { udp: 30s } } }",
            "30s is less than the 2m of RFC 4787 REQ-5",
        ),
        (
            "snat: { a: { wan_addresses: [ interface ], mapping: address-and-port-dependent, port_rest: 1m } }",
            "snat.a.port_rest: `port_rest: 1m` has no effect with a mapping that is address-and-port-dependent: leave it out",
        ),
        (
            "snat: { a: { wan_addresses: [ interface ], mapping: address-and-port-dependent, port_selection: sequential } }",
            "snat.a.port_selection: `port_selection: sequential` has no effect",
        ),
        (
            "snat: { a: { wan_addresses: [ interface ], mapping: address-and-port-dependent, preserve_parity: true } }",
            "snat.a.preserve_parity: `preserve_parity: true` has no effect",
        ),
        (
            "snat: { a: { wan_addresses: [ 203.0.113.20 ], ports: 2000-2999 } }\ndnat: { b: { on: \"203.0.113.20:1024-4095\", protocol: tcp, to: \"10.0.0.5:1024-4095\" } }",
            "snat.a.ports: `dnat.b` has all tcp ports 2000-2999 of 203.0.113.20: nothing is translated to it; give",
        ),
        (
            "snat: { a: { match: { protocol: [ tcp ], except: { destination_ports: [ 1-65535 ] } }, wan_addresses: [ interface ] } }",
            "snat.a.match.except.destination_ports: it excepts everything that the rule matches",
        ),
        (
            "forwarding: { policy: drop }\nsnat: { a: { wan_addresses: [ interface ] } }",
            "the rules of `snat` get no packet",
        ),
    ] {
        let (_, warnings) = model(rules);
        assert!(warnings.iter().any(|warning| warning.contains(says)), "{rules}: {warnings:?}");
    }
    let (_, warnings) = model(
        "snat: { a: { match: { source: [ 10.1.0.0/16 ] }, action: accept }, b: { match: { source: [ 10.0.0.0/8 ] }, wan_addresses: [ interface ] }, c: { match: { out_dev: wan0 }, wan_addresses: [ interface ] } }",
    );
    assert_eq!(warnings, [""; 0], "rules that all apply");
    let (_, warnings) = model(
        "snat: { a: { match: { protocol: [ udp ] }, wan_addresses: [ 203.0.113.20 ], ports: 2000-2999 }, b: { match: { protocol: [ icmp ] }, wan_addresses: [ 203.0.113.20 ], port_rest: 0s, mapping: address-and-port-dependent } }\ndnat: { b: { on: \"203.0.113.20:1024-4095\", protocol: tcp, to: \"10.0.0.5:1024-4095\" } }",
    );
    assert_eq!(warnings, [""; 0], "of another protocol, and what is so in any case");
}

/// What the node itself is asked or answered there is dropped.
#[test]
fn masquerade_over_an_interface_with_a_kni_is_warned_of() {
    let rules = "snat: { a: { match: { out_dev: wan0 }, wan_addresses: [ interface ] } }";
    let with_kni = BASE.replace("net_null0 }", "net_null0, kni: wan0.kni }");
    let (_, warnings) = load(&format!("{with_kni}{rules}"), "f").unwrap();
    let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    assert!(
        warnings[0].contains("203.0.113.2 of `wan0`, which has a KNI, is a WAN IP"),
        "{warnings:?}"
    );
    assert_eq!(model(rules).1, [""; 0]);
    let other = rules.replace("interface", "203.0.113.20");
    assert_eq!(load(&format!("{with_kni}{other}"), "f").unwrap().1.len(), 0);
    // So it is if the address is named.
    for named in [
        "snat: { a: { wan_addresses: [ 203.0.113.1-203.0.113.3 ] } }",
        "dnat: { a: { on: \"203.0.113.2:80\", protocol: tcp, to: \"10.0.0.5:80\" } }",
    ] {
        let (_, warnings) = load(&format!("{with_kni}{named}"), "f").unwrap();
        let own = "203.0.113.2 of `wan0`, which has a KNI, is a WAN IP";
        let told = warnings.iter().filter(|warning| warning.to_string().contains(own));
        assert_eq!(told.count(), 1, "{named}: {warnings:?}");
    }
}

/// The address that masquerade takes is another after a change of the interface's: it is checked as if it were named.
#[test]
fn masquerade_takes_no_vip_when_addresses_change() {
    let rules = "snat: { all: { match: { out_dev: wan0 }, wan_addresses: [ interface ] } }";
    let (mut model, _) = model(rules);
    let of_wan0 = |model: &Model| model.primary_address("wan0").unwrap().to_string();
    let own = "203.0.113.2/24".parse().unwrap();
    let refused = model.delete_address("203.0.113.2".parse().unwrap(), None).unwrap_err();
    let told = refused[0].to_string();
    assert!(told.contains("203.0.113.10 is a VIP: it cannot be a WAN IP too"), "{told}");
    assert_eq!(of_wan0(&model), "203.0.113.2", "nothing has changed");
    let address =
        |text: &str| serde_json::from_value(serde_json::json!({ "address": text, "dev": "wan0" }));
    model.add_address(address("203.0.113.3/24").unwrap()).unwrap();
    assert_eq!(of_wan0(&model), "203.0.113.2", "the first one with a subnet");
    model.delete_address(own, None).unwrap();
    assert_eq!(of_wan0(&model), "203.0.113.3", "and not those without, VIPs among them");
    assert_eq!(load(&to_yaml(&model).unwrap(), "saved").map(|loaded| loaded.0), Ok(model));
}

/// A change of either side is told of, and of that only.
#[test]
fn a_forward_that_leaves_no_ports_is_told_of_when_it_comes() {
    let (mut model, _) =
        model("snat: { a: { wan_addresses: [ 203.0.113.20 ], ports: 2000-2999 } }");
    let mut add = |name: &str, on: &str, to: &str| {
        let rule = serde_json::json!({ "on": on, "protocol": "tcp", "to": to });
        let warnings = model.put_dnat(name, serde_json::from_value(rule).unwrap()).unwrap();
        warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(add("b", "203.0.113.20:2000-2998", "10.0.0.5:2000-2998"), [""; 0]);
    let told = add("b", "203.0.113.20:2000-2999", "10.0.0.5:2000-2999");
    assert!(told[0].contains("`dnat.b` has all tcp ports 2000-2999 of 203.0.113.20"), "{told:?}");
    assert_eq!(add("c", "203.0.113.20:22", "10.0.0.5:22"), [""; 0]);
}

fn names(model: &Model) -> Vec<&str> {
    model.snat.names().collect()
}

#[test]
fn rules_keep_their_order_and_are_put_where_they_are_wanted() {
    let accept = |source: &str| -> SnatRule {
        serde_json::from_value(serde_json::json!({
            "match": { "source": [ source ] }, "action": "accept",
        }))
        .unwrap()
    };
    let (mut model, _) = model("snat: { z: { action: accept }, a: { action: accept } }");
    assert_eq!(names(&model), ["z", "a"]);
    model.add_snat("m", accept("10.0.0.0/8"), &Place::Before("a".to_owned())).unwrap();
    model.add_snat("first", accept("10.1.0.0/16"), &Place::Position(0)).unwrap();
    model.add_snat("last", accept("10.2.0.0/16"), &Place::Position(99)).unwrap();
    assert_eq!(names(&model), ["first", "z", "m", "a", "last"]);
    model.put_snat("first", accept("10.3.0.0/16"), &Place::Before("last".to_owned())).unwrap();
    model.put_snat("m", accept("10.4.0.0/16"), &Place::Same).unwrap();
    assert_eq!(names(&model), ["z", "m", "a", "first", "last"]);
    let error = model.add_snat("m", accept("10.0.0.0/8"), &Place::Same).unwrap_err();
    assert_eq!(error[0].to_string(), "snat.m: there is a rule `m`; change it with `set`");
    let before = Place::Before("gone".to_owned());
    assert!(model.put_snat("m", accept("10.0.0.0/8"), &before).is_err());
    model.delete_snat("a").unwrap();
    assert!(model.delete_snat("a").is_err());
    assert_eq!(names(&model), ["z", "m", "first", "last"]);
    let yaml = to_yaml(&model).unwrap();
    let (again, _) = load(&yaml, "f").unwrap();
    assert_eq!(names(&again), ["z", "m", "first", "last"]);
}

#[test]
fn laying_over_keeps_places_and_pruning_takes_the_new_order() {
    let (base, _) = model("snat: { c: { action: accept }, a: { action: accept } }");
    let overlay =
        Overlay::parse("snat: { b: { action: drop }, a: { action: drop } }", "o").unwrap();
    let (merged, _) = overlay.apply(&base, false).unwrap();
    assert_eq!(names(&merged), ["c", "a", "b"]);
    let (pruned, _) = overlay.apply(&base, true).unwrap();
    assert_eq!(names(&pruned), ["b", "a"]);
    let (turned, _) = model("snat: { a: { action: accept }, c: { action: accept } }");
    assert!(base.config() != turned.config());
    let changes = diff(&base, &turned);
    assert_eq!(changes.len(), 1, "{changes:?}");
    assert_eq!(changes[0].path, "snat");
    assert_eq!(changes[0].new, Some(serde_json::json!(["a", "c"])));
}

#[test]
fn a_service_keeps_off_the_addresses_of_nat() {
    let rules = "snat: { a: { wan_addresses: [ 203.0.113.20 ] } }\n\
         dnat: { b: { on: \"203.0.113.2:8080\", protocol: tcp, to: \"10.0.0.5:80\" } }";
    let (mut model, _) = model(rules);
    let mut put = |vip: &str| {
        let mut service = (*model.services["shop"]).clone();
        service.vips = vec![vip.parse().unwrap()];
        model.set_service("shop", service).map_err(|errors| errors[0].to_string())
    };
    assert!(put("203.0.113.20:80").unwrap_err().contains("is a WAN IP of snat.a"));
    assert!(put("203.0.113.2:8080").unwrap_err().contains("leads inside by dnat.b"));
    put("203.0.113.2:8081").unwrap();
}
