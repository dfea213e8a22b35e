//! Checks of real servers: what is read, what holds for whom, and what is refused by name.

use config::{CheckType, Model, Server, Towards, load, to_yaml};

const BASE: &str = "
interfaces: { lan0: { device: net_null0 }, wan0: { device: net_null1 } }
addresses: [ { address: 198.18.0.1/24, dev: lan0 }, { address: 203.0.113.10/32, dev: wan0 } ]
routes: [ { to: 10.0.0.0/8, via: 198.18.0.254, dev: lan0 }, { to: 10.9.0.0/16, dev: wan0 } ]
local_address_pools: { lan: { addresses: [ 198.18.0.10 ], dev: lan0 } }
";

/// A service of these fields, with two servers of a group with that check.
fn text(check: &str, fields: &str) -> String {
    format!(
        "{BASE}server_groups:\n  web:\n    servers: [ {{ address: 198.18.0.2:80, weight: 3 }}, {{ address: \
         10.9.1.1:80 }} ]\n    health: {check}\nservices:\n  shop: {{ vips: [ 203.0.113.10:80 ], protocol: tcp, \
         servers: web, local_pool: lan{fields} }}\n"
    )
}

fn read(check: &str, fields: &str) -> (Model, Vec<String>) {
    let (model, warnings) = load(&text(check, fields), "it").unwrap_or_else(|e| panic!("{e}"));
    (model, warnings.iter().map(ToString::to_string).collect())
}

#[track_caller]
fn refused(check: &str, fields: &str, expected: &str) {
    let errors = load(&text(check, fields), "it").expect_err(expected).to_string();
    assert!(errors.contains(expected), "{errors}");
}

fn kinds(model: &Model, server: &Server) -> Vec<CheckType> {
    model.services["shop"].checks_of(server, model).iter().map(|check| check.kind).collect()
}

#[test]
fn the_innermost_check_holds() {
    let (model, warnings) = read("{ type: tcp }", "");
    assert_eq!(warnings, [] as [String; 0]);
    let group = &model.server_groups["web"].servers;
    assert_eq!(kinds(&model, &group[0]), [CheckType::Tcp]);
    let (model, _) = read("{ type: tcp }", ", health: [ { type: http }, { type: icmp } ]");
    assert_eq!(kinds(&model, &group[0]), [CheckType::Http, CheckType::Icmp]);
    let own = |health: &str| -> Server {
        let (model, _) = load(
            &format!("server_groups: {{ x: {{ servers: [ {{ address: 198.18.0.2:80, health: {health} }} ] }} }}"),
            "it",
        )
        .unwrap();
        model.server_groups["x"].servers[0].clone()
    };
    assert_eq!(kinds(&model, &own("{ type: dns }")), [CheckType::Dns]);
    assert_eq!(kinds(&model, &own("[]")), []);
}

#[test]
fn what_is_default_is_not_written_and_what_is_not_reads_back() {
    let whole = "[ { type: http, port: 8080, interval: 5s, timeout: 1s, retries: 2, retry_delay: 500ms, rise: 2, \
                 fall: 1, initial: down, on_failure: remove, flap_damping: { hold: 5s }, path: /x, host: a.example, \
                 status: [ 200-299, 404 ], digest: d36f8f9425c4a8000ad9c4a97185aca5, body: ^ok, body_not: no }, \
                 { type: udp, send: 00ff, reply: 0x }, { type: dns, name: a.example, record: AAAA }, \
                 { type: script, command: [ /bin/true, a b ], user: me } ]";
    let fields = ", check_source: 198.18.0.5, quorum: { weight: 3, hysteresis: 1 }, sorry_server: 198.18.0.9:80";
    let (model, _) = read(whole, fields);
    let yaml = to_yaml(&model).unwrap();
    let (again, _) = load(&yaml, "it").unwrap();
    assert_eq!(*again, *model);
    assert!(!yaml.contains("max:"), "{yaml}");
    let (model, _) =
        read("{ type: tcp, interval: 3s, timeout: 3s, rise: 1, fall: 3, on_failure: inhibit }", "");
    assert!(
        to_yaml(&model).unwrap().contains("health:\n      type: tcp\nservices"),
        "{}",
        to_yaml(&model).unwrap()
    );
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    for (check, expected) in [
        ("{ type: smtp }", "health.type: `smtp` is not `tcp`"),
        ("{ port: 80 }", "server_groups.web.health: `type` is missing"),
        ("{ type: tcp, port: 0 }", "health.port: port 0 is not one that can be asked"),
        ("{ type: tcp, interval: 0s }", "health.interval: 0s is not from 100ms to 1h"),
        ("{ type: tcp, timeout: 0s }", "health.timeout: 0s is not from 1ms to 1h"),
        ("{ type: tcp, rise: 0 }", "health.rise: 0 is not from 1 to 1000"),
        ("{ type: tcp, fall: 0 }", "health.fall: 0 is not from 1 to 1000"),
        ("{ type: tcp, retries: 101 }", "health.retries: 101 is not from 0 to 100"),
        ("{ type: tcp, path: / }", "health.path: `path` is of checks of type http and https"),
        ("{ type: icmp, port: 80 }", "health.port: a check of type icmp asks no port"),
        ("{ type: tcp, address: 224.0.0.1 }", "health.address: 224.0.0.1 is a multicast address"),
        ("{ type: http, path: health }", "health.path: `health` is not the path of a page"),
        ("{ type: http, host: 'a b' }", "health.host: `a b` is not the name of a host"),
        ("{ type: http, status: [ 99 ] }", "health.status: 99 is not from 100 to 599"),
        ("{ type: http, digest: abc }", "health.digest: `abc` is not an MD5 digest"),
        ("{ type: http, body: '(' }", "health.body: unclosed group"),
        ("{ type: http, body_not: '(?=a)' }", "health.body_not: look-around"),
        (
            "{ type: udp, send: abc }",
            "health.send: `abc` is not an even number of hexadecimal digits",
        ),
        ("{ type: udp, send: ax }", "health.send: `ax` is not an even"),
        ("{ type: udp, reply: some }", "health.reply: `some` is not an even number"),
        ("{ type: dns, name: a..b }", "health.name: `a..b` is not a domain name"),
        ("{ type: script }", "health.command: a check of type script needs"),
        ("{ type: script, command: [ true ] }", "health.command[0]: `true` is not the full path"),
        (
            "{ type: script, command: [ /bin/true ], user: '' }",
            "health.user: `` cannot be the name",
        ),
        ("{ type: tcp, flap_damping: { hold: 0s } }", "health.flap_damping.hold: 0s is no timeout"),
        (
            "{ type: tcp, flap_damping: { hold: 5s, max: 1s } }",
            "health.flap_damping.max: 1s is less than",
        ),
        ("[ { type: tcp }, { type: tcp, fall: 0 } ]", "health[1].fall: 0 is not from 1"),
    ] {
        refused(check, "", expected);
    }
    for (fields, expected) in [
        (", quorum: { weight: 5 }", "quorum.weight: 5 is more than all servers weigh together, 4"),
        (", quorum: { weight: 0 }", "quorum.weight: 0 is always there"),
        (
            ", quorum: { weight: 2, hysteresis: 2 }",
            "quorum.hysteresis: it must be less than the weight, 2",
        ),
        (
            ", sorry_server: 198.18.0.2:80",
            "sorry_server: 198.18.0.2:80 is a real server of the service already",
        ),
        (", sorry_server: 198.18.0.9:0", "sorry_server: 198.18.0.9:0: port 0"),
        (
            ", sorry_server: \"[fd00:18::9]:80\"",
            "sorry_server: it has no IPv6 LIP, and [fd00:18::9]:80 is IPv6",
        ),
        (", check_source: 198.18.0.10", "check_source: 198.18.0.10 is a VIP or LIP"),
        (", health: { type: tcp, port: 0 }", "services.shop.health.port: port 0"),
    ] {
        refused("{ type: tcp }", fields, expected);
    }
    let (_, warnings) = read("{ type: tcp, timeout: 4s }", "");
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("longer than the interval of 3s"), "{warnings:?}");
}

#[test]
fn a_groups_servers_remain_enough_for_all_who_have_it() {
    let (mut model, _) = read("{ type: tcp }", ", quorum: { weight: 4 }");
    let address = "10.9.1.1:80".parse().unwrap();
    let errors = model.delete_server("shop", address).unwrap_err();
    assert!(errors[0].to_string().contains("4 is more than all servers weigh"), "{}", errors[0]);
    model.add_server("shop", Server::new("198.18.0.3:80".parse().unwrap())).unwrap();
    model.delete_server("shop", address).unwrap();
    assert!(model.server_groups["web"].health.is_some(), "the group's check stays");
}

#[test]
fn the_way_to_a_server_is_that_of_the_longest_prefix() {
    let (model, _) = read("{ type: tcp }", "");
    let towards = Towards::new(&model);
    let leg = |address: &str| towards.leg(address.parse().unwrap());
    let router = "198.18.0.254".parse().ok();
    assert_eq!(leg("198.18.0.2"), Some(("lan0", None)));
    assert_eq!(leg("10.1.0.1"), Some(("lan0", router)));
    assert_eq!(leg("10.9.0.1"), Some(("wan0", None)));
    assert_eq!(leg("203.0.113.10"), None);
    let by = |fields| {
        read("{ type: tcp }", fields)
            .0
            .checked_by()
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(by(""), ["lan0", "wan0"]);
    assert_eq!(by(", check_source: 192.0.2.1"), [] as [&str; 0]);
    assert_eq!(by(", health: { type: tcp, address: 10.1.1.1 }"), ["lan0"]);
    assert_eq!(by(", health: { type: script, command: [ /bin/true ] }"), [] as [&str; 0]);
}
