//! Changes of what runs: one at a time, whole or not at all.

use config::{
    Address, Admin, Change, ChangeKind, Config, ConfigError, ErrorKind, Model, Neighbour, Overlay,
    Protocol, Route, Server, Service, diff, load, to_yaml,
};
use types::Endpoint;

const BASE: &str = "
memory: 1GiB
conntrack: { max_connections: 5000, timeouts: { udp: 10s } }
interfaces: { wan0: { device: net_null0 }, lan0: { device: net_null1 } }
addresses:
- { address: 203.0.113.10/24, dev: wan0 }
- { address: 198.18.0.1/24, dev: lan0 }
routes: [ { to: default, via: 203.0.113.1, dev: wan0, src: 198.18.0.1 } ]
local_address_pools: { lan: { addresses: [ 198.18.0.10-198.18.0.12 ], dev: lan0 } }
server_groups: { web: { servers: [ { address: 198.18.0.121:80 }, { address: 198.18.0.122:80 } ] } }
services:
  shop: { vips: [ 203.0.113.10:80 ], protocol: tcp, servers: web, local_pool: lan }
  tls: { vips: [ 203.0.113.10:443 ], protocol: tcp, servers: web, local_pool: lan }
  dns: { vips: [ 203.0.113.10:53 ], protocol: udp }
";

fn base() -> Model {
    load(BASE, "base").unwrap().0
}

fn endpoint(text: &str) -> Endpoint {
    text.parse().unwrap()
}

/// The change is refused so, and nothing has changed.
fn refused(
    kind: ErrorKind,
    text: &str,
    change: impl FnOnce(&mut Model) -> Result<Vec<config::Warning>, Vec<ConfigError>>,
) {
    let mut model = base();
    let errors = change(&mut model).expect_err(text);
    assert_eq!(errors[0].to_string(), text);
    assert_eq!(errors[0].kind, kind, "{text}");
    assert!(errors[0].value.is_some(), "{text}");
    assert_eq!(model, base(), "{text}");
    model.config().validate().unwrap();
}

#[test]
fn services_come_change_and_go() {
    let mut model = base();
    let service = Service::new(vec![endpoint("203.0.113.10:8080")], Protocol::Tcp);
    let warnings = model.add_service("alt", service.clone()).unwrap();
    assert_eq!(warnings.len(), 2, "no server, no LIP: {warnings:?}");
    let changed = Service { vips: vec![endpoint("203.0.113.10:8081")], ..service.clone() };
    model.set_service("alt", changed).unwrap();
    model.add_service("old-vip", service).unwrap();
    model.delete_service("alt").unwrap();
    model.delete_service("old-vip").unwrap();
    assert_eq!(model, base());
    refused(
        ErrorKind::Conflict,
        "services.shop: there is a service `shop`; change it with `set`",
        |m| m.add_service("shop", Service::new(vec![endpoint("203.0.113.10:81")], Protocol::Tcp)),
    );
    refused(
        ErrorKind::Conflict,
        "services.x.vips[0]: tcp 203.0.113.10:80 belongs to service `shop`",
        |m| m.add_service("x", Service::new(vec![endpoint("203.0.113.10:80")], Protocol::Tcp)),
    );
    refused(
        ErrorKind::Conflict,
        "services.tls.vips[0]: tcp 203.0.113.10:80 belongs to service `shop`",
        |m| m.set_service("tls", Service::new(vec![endpoint("203.0.113.10:80")], Protocol::Tcp)),
    );
    refused(
        ErrorKind::Conflict,
        "services.x.vips[0]: 198.18.0.11 is a LIP of local_address_pools.lan: it cannot be a VIP too",
        |m| m.add_service("x", Service::new(vec![endpoint("198.18.0.11:80")], Protocol::Tcp)),
    );
    refused(
        ErrorKind::Invalid,
        "services.x.vips[0]: [fe80::1]:80 is link-local: it means another host on each link",
        |m| m.add_service("x", Service::new(vec![endpoint("[fe80::1]:80")], Protocol::Tcp)),
    );
    refused(ErrorKind::NotFound, "services: there is no service `x`", |m| m.delete_service("x"));
}

#[test]
fn servers_of_a_group_change_for_all_who_use_it() {
    let mut model = base();
    let address = endpoint("198.18.0.123:80");
    model.add_server("shop", Server::new(address)).unwrap();
    assert_eq!(model.sharing_servers("shop"), ["shop", "tls"]);
    assert_eq!(model.services["tls"].resolved_servers(&model).len(), 3);
    let drained = Server { admin: Admin::Drain, weight: 7, ..Server::new(address) };
    model.set_server("tls", drained.clone()).unwrap();
    assert_eq!(model.server("shop", address).unwrap(), &drained);
    model.delete_server("shop", address).unwrap();
    assert_eq!(model, base());

    model.add_server("dns", Server::new(endpoint("198.18.0.9:53"))).unwrap();
    assert_eq!(model.sharing_servers("dns"), ["dns"]);
    model.delete_server("dns", endpoint("198.18.0.9:53")).unwrap();
    assert_eq!(model, base());
    refused(
        ErrorKind::Conflict,
        "server_groups.web.servers.address: there is a real server 198.18.0.121:80",
        |m| m.add_server("shop", Server::new(endpoint("198.18.0.121:80"))),
    );
    refused(
        ErrorKind::Invalid,
        "services.dns.servers[0].address: 198.18.0.9:0: port 0 is not one that can be connected to",
        |m| m.add_server("dns", Server::new(endpoint("198.18.0.9:0"))),
    );
    refused(
        ErrorKind::NotFound,
        "services.dns.servers: there is no real server 198.18.0.9:53",
        |m| m.delete_server("dns", endpoint("198.18.0.9:53")),
    );
}

#[test]
fn lips_come_and_go() {
    let mut model = base();
    let lip = |text: &str| text.parse().unwrap();
    model.add_lip("shop", "198.18.0.20-198.18.0.22".parse().unwrap(), None).unwrap();
    assert_eq!(model.sharing_pool("tls"), ["shop", "tls"]);
    model.delete_lip("shop", lip("198.18.0.21")).unwrap();
    let yaml = to_yaml(&model).unwrap();
    assert!(yaml.contains("- 198.18.0.20\n    - 198.18.0.22\n"), "{yaml}");
    model.delete_lip("tls", lip("198.18.0.20")).unwrap();
    model.delete_lip("tls", lip("198.18.0.22")).unwrap();
    assert_eq!(model, base());

    model.add_lip("dns", "198.18.0.30".parse().unwrap(), None).unwrap();
    assert_eq!(model.services["dns"].resolved_pool(&model).unwrap().dev, "lan0");
    let vip = Service::new(vec![endpoint("198.18.0.30:80")], Protocol::Tcp);
    assert!(model.add_service("x", vip.clone()).is_err());
    model.delete_lip("dns", lip("198.18.0.30")).unwrap();
    assert_eq!(model, base());
    model.add_service("x", vip).unwrap();

    refused(
        ErrorKind::Conflict,
        "local_address_pools.lan.addresses[1]: 203.0.113.10 is a VIP: it cannot be a LIP too",
        |m| m.add_lip("shop", "203.0.113.10".parse().unwrap(), None),
    );
    refused(
        ErrorKind::Conflict,
        "local_address_pools.lan.addresses[1]: 198.18.0.12 is there twice",
        |m| m.add_lip("shop", "198.18.0.12".parse().unwrap(), None),
    );
    refused(
        ErrorKind::Invalid,
        "services.dns.local_pool.dev: 192.0.2.1 is in the subnet of no interface, or of several; \
         name the interface with `dev`",
        |m| m.add_lip("dns", "192.0.2.1".parse().unwrap(), None),
    );
    refused(
        ErrorKind::Invalid,
        "services.shop.local_pool.dev: the LIPs of this service are on `lan0`, not on `wan0`",
        |m| m.add_lip("shop", "198.18.0.40".parse().unwrap(), Some("wan0")),
    );
    refused(
        ErrorKind::NotFound,
        "services.shop.local_pool: service `shop` has no LIP 198.18.0.99",
        |m| m.delete_lip("shop", lip("198.18.0.99")),
    );
}

#[test]
fn addresses_routes_and_neighbours_come_and_go() {
    let mut model = base();
    let address: Address = parse("{ address: 192.0.2.1/24, dev: lan0 }");
    model.add_address(address).unwrap();
    let route: Route = parse("{ to: 10.0.0.0/8, via: 192.0.2.254, dev: lan0 }");
    assert_eq!(model.add_route(route.clone()).unwrap(), []);
    model.set_route(Route { mtu: Some(1400), ..route.clone() }).unwrap();
    assert_eq!(model.routes.len(), 2);
    model.add_route(Route { metric: 5, ..route.clone() }).unwrap();
    let errors = model.delete_route(route.to, None).unwrap_err();
    assert_eq!(
        errors[0].to_string(),
        "routes: there are several routes to 10.0.0.0/8; name the metric"
    );
    model.delete_route(route.to, Some(5)).unwrap();
    model.delete_route(route.to, None).unwrap();
    let neighbour: Neighbour = parse("{ address: 192.0.2.7, mac: '02:00:00:00:00:07', dev: lan0 }");
    model.add_neighbour(neighbour.clone()).unwrap();
    assert!(model.add_neighbour(neighbour.clone()).is_err());
    model.set_neighbour(neighbour).unwrap();
    model.delete_neighbour("192.0.2.7".parse().unwrap(), Some("lan0")).unwrap();
    model.delete_address("192.0.2.1".parse().unwrap(), None).unwrap();
    assert_eq!(model, base());

    refused(ErrorKind::Conflict, "addresses[2].address: 198.18.0.1 is on `lan0` already", |m| {
        m.add_address(parse("{ address: 198.18.0.1/32, dev: wan0 }"))
    });
    refused(
        ErrorKind::Invalid,
        "addresses[2].dev: there is no interface `lan9`; did you mean `lan0`?",
        |m| m.add_address(parse("{ address: 192.0.2.1/24, dev: lan9 }")),
    );
    refused(
        ErrorKind::Conflict,
        "addresses[1]: the route to default has 198.18.0.1 as `src`",
        |m| m.delete_address("198.18.0.1".parse().unwrap(), None),
    );
    refused(ErrorKind::NotFound, "addresses: there is no address 198.18.0.1/25", |m| {
        m.delete_address("198.18.0.1/25".parse().unwrap(), None)
    });
    refused(ErrorKind::Conflict, "routes.to: there is a route to default with metric 0", |m| {
        m.add_route(parse("{ to: default, via: 203.0.113.2, dev: wan0 }"))
    });
    refused(ErrorKind::NotFound, "routes: there is no configured route to 10.0.0.0/8", |m| {
        m.delete_route("10.0.0.0/8".parse().unwrap(), None)
    });
    refused(
        ErrorKind::NotFound,
        "neighbours: there is no static neighbour 192.0.2.9 on `lan0`",
        |m| m.delete_neighbour("192.0.2.9".parse().unwrap(), Some("lan0")),
    );
}

#[test]
fn addresses_routes_and_neighbours_of_ipv6() {
    let mut model = base();
    model.add_address(parse("{ address: '2001:db8::1/64', dev: wan0 }")).unwrap();
    for dev in ["wan0", "lan0"] {
        model.add_address(parse(&format!("{{ address: 'fe80::53/64', dev: {dev} }}"))).unwrap();
    }
    let route: Route = parse("{ to: default, via: 'fe80::1', dev: wan0 }");
    assert_eq!(route.to.to_string(), "::/0", "beside an IPv6 router");
    assert_eq!(model.add_route(route.clone()).unwrap(), [], "beside that of IPv4");
    model.delete_route(route.to, None).unwrap();
    model
        .add_neighbour(parse("{ address: 'fe80::9', mac: '02:00:00:00:00:09', dev: lan0 }"))
        .unwrap();
    model.delete_neighbour("fe80::9".parse().unwrap(), None).unwrap();
    let errors = model.delete_address("fe80::53".parse().unwrap(), None).unwrap_err();
    assert_eq!(errors[0].to_string(), "addresses: fe80::53 is on several interfaces; name one");
    for dev in ["wan0", "lan0"] {
        model.delete_address("fe80::53".parse().unwrap(), Some(dev)).unwrap();
    }
    model.delete_address("2001:db8::1/64".parse().unwrap(), None).unwrap();
    assert_eq!(model, base());

    let address = |text: &'static str| move |m: &mut Model| m.add_address(parse(text));
    let route = |text: &'static str| move |m: &mut Model| m.add_route(parse(text));
    refused(
        ErrorKind::Invalid,
        "addresses[2].address: ::1 is a loopback address, not a host's",
        address("{ address: '::1/128', dev: lan0 }"),
    );
    refused(
        ErrorKind::Invalid,
        "addresses[2].address: ::ffff:10.0.0.1 is an IPv4 address in IPv6 form, not a host's",
        address("{ address: '::ffff:10.0.0.1/128', dev: lan0 }"),
    );
    refused(
        ErrorKind::Invalid,
        "routes[1].via: 198.18.0.254 is not of IPv6, as 2001:db8:9::/48 is",
        route("{ to: '2001:db8:9::/48', via: 198.18.0.254, dev: lan0 }"),
    );
    refused(
        ErrorKind::Invalid,
        "routes[1].to: fe80::/64 is link-local: it is on every link by itself",
        route("{ to: 'fe80::/64', dev: lan0 }"),
    );
    refused(
        ErrorKind::Invalid,
        "routes[1].mtu: 1279 is not from 1280 to 9600",
        route("{ to: '2001:db8:9::/48', via: 'fe80::1', dev: lan0, mtu: 1279 }"),
    );
}

#[test]
fn lips_of_ipv6_are_bounded_and_can_be_answered() {
    let pool = |range: &str| {
        let pools = "local_address_pools: { lan: { addresses: [ 198.18.0.10-198.18.0.12 ]";
        let wanted = format!("local_address_pools: {{ lan: {{ addresses: [ 198.18.0.10, {range} ]");
        let loaded = load(&BASE.replace(pools, &wanted), "base");
        loaded.map(|_| ()).map_err(|errors| format!("{errors:?}"))
    };
    assert_eq!(pool("'fd00::10-fd00::41', 'fd00:1::/113'"), Ok(()));
    for (range, why) in [
        ("'fd00::/64'", "18446744073709551617 addresses are more than the 65536 of a pool"),
        ("'fd00::9-fd00::1'", "ends before it begins"),
        ("'198.18.0.13-fd00::1'", "in another family"),
        ("'fe80::10'", "fe80::10 is link-local: real servers cannot answer to it"),
        ("'fd00::10', 'fd00::f-fd00::11'", "fd00::10 is there twice"),
    ] {
        let error = pool(range).unwrap_err();
        assert!(error.contains(why), "{range}: {error}");
    }
}

fn parse<T: serde::de::DeserializeOwned>(yaml: &str) -> T {
    serde_yaml::from_str(yaml).unwrap()
}

fn apply(text: &str, prune: bool) -> Config {
    let overlay = Overlay::parse(text, "new").unwrap();
    overlay.apply(&base(), prune).unwrap().0.into_config()
}

#[test]
fn apply_adds_and_replaces_by_name() {
    let text = "
conntrack: { timeouts: { tcp_syn: 1s } }
addresses: [ { address: 198.18.0.1/16, dev: lan0 }, { address: 203.0.113.11/32, dev: wan0 } ]
services:
  dns: { vips: [ 203.0.113.10:5353 ], protocol: udp }
  new: { vips: [ 203.0.113.11:80 ], protocol: tcp }
";
    let merged = apply(text, false);
    assert_eq!(merged.conntrack.max_connections, 5000, "kept");
    assert_eq!(merged.conntrack.timeouts.udp.as_ms(), 10_000, "kept");
    assert_eq!(merged.conntrack.timeouts.tcp_syn.as_ms(), 1_000);
    assert_eq!(merged.addresses.len(), 3);
    assert_eq!(merged.addresses[1].address.to_string(), "198.18.0.1/16");
    assert_eq!(merged.services.keys().collect::<Vec<_>>(), ["dns", "new", "shop", "tls"]);
    assert_eq!(merged.routes, base().routes);

    let pruned = apply(text, true);
    assert_eq!(pruned.memory, base().memory, "the text says nothing of it");
    assert_eq!(pruned.conntrack.max_connections, 1_000_000, "default");
    assert_eq!(pruned.addresses.len(), 2);
    assert_eq!(pruned.services.keys().collect::<Vec<_>>(), ["dns", "new"]);
    assert_eq!(pruned.server_groups, base().server_groups);
    assert!(apply("services: {}", true).services.is_empty());
    assert_eq!(apply("services: {}", false), *base().config());
    assert_eq!(apply("", true), *base().config());
}

#[test]
fn applying_what_runs_changes_nothing() {
    let yaml = to_yaml(&base()).unwrap();
    for prune in [false, true] {
        let same = apply(&yaml, prune);
        assert_eq!(same, *base().config());
        assert_eq!(diff(&base(), &same), []);
    }
}

#[test]
fn apply_refuses_with_the_place_in_its_text() {
    let overlay = Overlay::parse(
        "services:\n  x:\n    vips: [ 203.0.113.10:80 ]\n    protocol: tcp\n",
        "new",
    );
    let errors = overlay.unwrap().apply(&base(), false).unwrap_err();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].location.unwrap().to_string(), "3:13");
    let twice =
        "addresses: [ { address: 192.0.2.1/24, dev: lan0 }, { address: 192.0.2.1/24, dev: lan0 } ]";
    assert!(Overlay::parse(twice, "new").unwrap().apply(&base(), false).is_err());
    let errors = Overlay::parse("services:\n  x: { vip: 1 }\n", "new.yaml").unwrap_err();
    assert!(
        errors.to_string().starts_with("new.yaml:2:8: services.x.vip: unknown key"),
        "{errors}"
    );
    let gone = Overlay::parse("server_groups: {}", "new").unwrap();
    assert_eq!(gone.apply(&base(), true).unwrap_err().len(), 2, "two services need the group");
}

#[test]
fn differences_are_told_by_path() {
    let mut new = base();
    new.add_server("shop", Server::new(endpoint("198.18.0.123:80"))).unwrap();
    new.set_server("shop", Server { weight: 9, ..Server::new(endpoint("198.18.0.121:80")) })
        .unwrap();
    new.delete_server("shop", endpoint("198.18.0.122:80")).unwrap();
    new.delete_service("dns").unwrap();
    let tls = Service { evict_idle: true, ..(*new.services["tls"]).clone() };
    new.set_service("tls", tls).unwrap();
    let new = Overlay::parse("log: { level: debug }\nconntrack: { timeouts: { udp: 5m } }", "x")
        .unwrap()
        .apply(&new, false)
        .unwrap()
        .0;
    let told = |changes: Vec<Change>| -> Vec<String> {
        let text = |value: &Option<serde_json::Value>| {
            value.as_ref().map_or("-".to_owned(), ToString::to_string)
        };
        changes
            .iter()
            .map(|c| format!("{:?} {}: {} -> {}", c.kind, c.path, text(&c.old), text(&c.new)))
            .collect()
    };
    assert_eq!(
        told(diff(&base(), &new)),
        [
            r#"Changed conntrack.timeouts.udp: "10s" -> "5m""#,
            r#"Changed log.level: "info" -> "debug""#,
            r#"Changed server_groups.web.servers[198.18.0.121:80].weight: 1 -> 9"#,
            r#"Removed server_groups.web.servers[198.18.0.122:80]: {"address":"198.18.0.122:80"} -> -"#,
            r#"Added server_groups.web.servers[198.18.0.123:80]: - -> {"address":"198.18.0.123:80"}"#,
            r#"Removed services.dns: {"protocol":"udp","vips":["203.0.113.10:53"]} -> -"#,
            r#"Changed services.tls.evict_idle: false -> true"#,
        ]
    );
    let back = diff(&new, &base());
    assert_eq!(back.len(), 7);
    assert_eq!(back[3].kind, ChangeKind::Added);
    let effects: Vec<_> = back.iter().map(|change| format!("{:?}", change.effect)).collect();
    assert_eq!(effects[0], "Live");
    assert_eq!(effects[2], "NewConnections");
}

#[test]
fn a_hundred_thousand_services_are_no_trouble() {
    let mut config = base().into_config();
    for number in 0..100_000u32 {
        let vip = Endpoint::v4(0x0b00_0000 + number, 80);
        let service = Service::new(vec![vip], Protocol::Tcp);
        config.services.insert(format!("s{number}"), service.into());
    }
    let yaml = to_yaml(&config).unwrap();
    let start = std::time::Instant::now();
    let overlay = Overlay::parse(&yaml, "big").unwrap();
    let (mut model, warnings) = overlay.apply(&base(), true).unwrap();
    assert!(warnings.len() <= 100);
    assert_eq!(*model.config(), config);
    let applied = start.elapsed();
    let start = std::time::Instant::now();
    for number in 0..1_000u32 {
        let vip = Endpoint::v4(0x0c00_0000 + number, 80);
        model.add_service(&format!("t{number}"), Service::new(vec![vip], Protocol::Tcp)).unwrap();
    }
    let added = start.elapsed() / 1_000;
    let start = std::time::Instant::now();
    assert_eq!(diff(&config, &model).len(), 1_000);
    println!("applied in {applied:?}, one more in {added:?}, compared in {:?}", start.elapsed());
    assert!(added.as_millis() < 5, "{added:?}: adding one must not look at all");
}
