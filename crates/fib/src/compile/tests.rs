use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use types::Address as _;

use super::*;
use crate::snapshot::solicited_node;

const WAN: EthPortId = EthPortId(0);
const LAN: EthPortId = EthPortId(1);

fn ip(text: &str) -> u32 {
    text.parse::<Ipv4Addr>().unwrap().to_bits()
}

fn ip6(text: &str) -> u128 {
    text.parse::<std::net::Ipv6Addr>().unwrap().to_bits()
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn address(text: &str, iface: EthPortId, role: Role) -> Address {
    let net: IpNet = text.parse().unwrap();
    Address { address: net.addr(), prefix_len: net.prefix_len(), iface, role }
}

fn route(to: &str, via: Option<&str>, iface: EthPortId) -> Route {
    Route {
        prefix: to.parse().unwrap(),
        kind: RouteKind::Unicast,
        via: via.map(addr),
        iface,
        metric: 0,
        src: None,
        mtu: None,
        on_link: false,
    }
}

fn mac(iface: EthPortId) -> MacAddr {
    MacAddr([2, 0, 0x5e, 0, 0, iface.0 as u8])
}

fn interfaces() -> Vec<Interface> {
    let interface =
        |id, name: &str, mtu| Interface { id, name: name.into(), mac: mac(id), mtu, primary: None };
    vec![interface(LAN, "lan0", 9000), interface(WAN, "wan0", 1500)]
}

fn two_arm() -> FibConfig {
    FibConfig {
        interfaces: interfaces(),
        addresses: vec![
            address("203.0.113.10/32", WAN, Role::Vip),
            address("203.0.113.2/24", WAN, Role::Local),
            address("198.18.0.10/32", LAN, Role::Lip),
            address("198.18.0.1/24", LAN, Role::Local),
        ],
        routes: vec![
            route("0.0.0.0/0", Some("203.0.113.1"), WAN),
            route("10.0.0.0/8", Some("198.18.0.254"), LAN),
        ],
    }
}

fn error(change: impl FnOnce(&mut FibConfig)) -> String {
    let mut config = two_arm();
    change(&mut config);
    Fib::new(&config, 1).unwrap_err().to_string()
}

#[test]
fn two_arms() {
    let fib = Fib::new(&two_arm(), 7).unwrap();
    assert_eq!(fib.generation(), 7);
    let vip = Owner { role: Role::Vip, iface: WAN, local: false, answers: true };
    assert_eq!(fib.owner(ip("203.0.113.10")), Some(vip));
    assert_eq!(fib.owner(ip("203.0.113.11")), None);
    assert!(fib.answers(WAN, ip("203.0.113.10")));
    assert!(!fib.answers(LAN, ip("203.0.113.10")));

    let default = fib.route(ip("192.0.2.1")).unwrap();
    assert_eq!((default.iface, default.gateway), (WAN, Some(ip("203.0.113.1"))));
    assert_eq!(default.src, Some(ip("203.0.113.2")));
    let connected = fib.route(ip("198.18.0.77")).unwrap();
    assert_eq!((connected.iface, connected.gateway, connected.mtu), (LAN, None, 9000));
    assert_eq!(connected.target(5), 5);
    assert_eq!(fib.route(ip("10.1.2.3")).unwrap().target(5), ip("198.18.0.254"));
    assert_eq!(fib.route(ip("198.18.0.10")).unwrap().kind, RouteKind::Local);

    assert!(fib.is_broadcast(LAN, ip("198.18.0.255")));
    assert!(fib.is_broadcast(LAN, ip("198.18.0.0")));
    assert!(fib.is_broadcast(LAN, u32::MAX));
    assert!(!fib.is_broadcast(WAN, ip("198.18.0.255")));
    assert!(fib.is_on_link(LAN, ip("198.18.0.77")));
    assert!(!fib.is_on_link(WAN, ip("198.18.0.77")));
    assert!(!fib.is_on_link(LAN, ip("198.18.0.10")), "ours");
    assert!(!fib.is_on_link(WAN, ip("192.0.2.1")), "behind a gateway");
    assert_eq!(fib.mtu_floor(), 1500);
    assert_eq!(fib.icmp_source(LAN), Some(ip("198.18.0.1")));
    assert_eq!(fib.asking_source(WAN, ip("203.0.113.1")), Some(ip("203.0.113.2")));
}

#[test]
fn nothing_but_a_vip_and_a_gateway() {
    let config = FibConfig {
        interfaces: interfaces(),
        addresses: vec![address("203.0.113.10/32", WAN, Role::Vip)],
        routes: vec![route("0.0.0.0/0", Some("203.0.113.1"), WAN)],
    };
    let fib = Fib::new(&config, 1).unwrap();
    assert!(fib.is_on_link(WAN, ip("203.0.113.1")));
    assert!(!fib.is_on_link(WAN, ip("203.0.113.7")));
    assert_eq!(fib.asking_source(WAN, ip("203.0.113.1")), Some(ip("203.0.113.10")));
    assert_eq!(fib.icmp_source::<u32>(WAN), None, "a VIP is no source of errors");
    assert_eq!(fib.route(ip("8.8.8.8")).unwrap().src, None);
}

#[test]
fn the_interface_address_may_serve_as_well() {
    for other in [Role::Vip, Role::Lip, Role::WanIp] {
        for first in [Role::Local, other] {
            let mut config = two_arm();
            let second = if first == Role::Local { other } else { Role::Local };
            config.addresses =
                vec![address("198.18.0.1/24", LAN, first), address("198.18.0.1/24", LAN, second)];
            config.routes.clear();
            let fib = Fib::new(&config, 1).unwrap();
            let owner = Owner { role: other, iface: LAN, local: true, answers: true };
            assert_eq!(fib.owner(ip("198.18.0.1")), Some(owner));
            assert_eq!(fib.primary(LAN), Some(ip("198.18.0.1")));
        }
    }
}

#[test]
fn the_lowest_metric_counts_and_local_routes_are_ours() {
    let mut config = two_arm();
    config.routes = vec![
        Route { metric: 20, ..route("10.0.0.0/8", Some("198.18.0.2"), LAN) },
        Route { metric: 10, ..route("10.0.0.0/8", Some("198.18.0.3"), LAN) },
        Route { metric: 5, ..route("198.18.0.0/24", Some("203.0.113.1"), WAN) },
        Route { kind: RouteKind::Local, ..route("203.0.113.64/26", None, WAN) },
        Route {
            mtu: Some(1400),
            src: Some(addr("198.18.0.10")),
            ..route("10.1.0.0/16", None, LAN)
        },
    ];
    let fib = Fib::new(&config, 1).unwrap();
    assert_eq!(fib.route(ip("10.2.3.4")).unwrap().gateway, Some(ip("198.18.0.3")));
    assert_eq!(fib.route(ip("198.18.0.7")).unwrap().iface, LAN, "connected has metric 0");
    let any = Owner { role: Role::Local, iface: WAN, local: true, answers: true };
    assert_eq!(fib.owner(ip("203.0.113.65")), Some(any));
    assert!(fib.answers(WAN, ip("203.0.113.65")));
    let hinted = fib.route(ip("10.1.2.3")).unwrap();
    assert_eq!((hinted.mtu, hinted.src), (1400, Some(ip("198.18.0.10"))));
    assert!(fib.is_on_link(LAN, ip("10.1.2.3")));
    assert_eq!(fib.mtu_floor(), 1400);
}

/// Another node has it, or a router routes it here: it is ours, but nobody on the link is told so.
#[test]
fn a_wan_ip_that_is_routed_to_us_is_not_answered_for() {
    let before = Fib::new(&two_arm(), 1).unwrap();
    let mut config = two_arm();
    config.addresses.insert(0, address("203.0.113.20/32", WAN, Role::RoutedWanIp));
    let fib = Fib::new(&config, 2).unwrap();
    let owner = fib.owner(ip("203.0.113.20")).unwrap();
    assert_eq!((owner.role, owner.iface), (Role::WanIp, WAN));
    assert!(!fib.answers(WAN, ip("203.0.113.20")));
    assert_eq!(fib.addresses_since(&before).count(), 0);
    config.addresses[0].role = Role::WanIp;
    let answering = Fib::new(&config, 3).unwrap();
    assert!(answering.answers(WAN, ip("203.0.113.20")));
    let all: Vec<_> = answering.addresses_since(&fib).collect();
    assert_eq!(all, [(addr("203.0.113.20"), WAN)]);
    assert_eq!(fib.addresses_since(&answering).count(), 0);
    config.addresses = vec![address("203.0.113.20/32", WAN, Role::RoutedWanIp)];
    let alone = Fib::new(&config, 4).unwrap();
    assert_eq!(alone.asking_source(WAN, ip("203.0.113.1")), None, "nor told by asking");
}

#[test]
fn addresses_that_came_are_announced() {
    let old = Fib::new(&two_arm(), 1).unwrap();
    let mut config = two_arm();
    config.addresses.push(address("203.0.113.11/32", WAN, Role::Vip));
    config.addresses[0].iface = LAN;
    let new = Fib::new(&config, 2).unwrap();
    let mut came: Vec<_> = new.addresses_since(&old).collect();
    came.sort_unstable();
    assert_eq!(came, [(addr("203.0.113.10"), LAN), (addr("203.0.113.11"), WAN)]);
    assert_eq!(old.addresses_since(&old).count(), 0);
}

#[test]
fn wrong_addresses_are_named() {
    let with = |text, iface, role| error(|c| c.addresses.push(address(text, iface, role)));
    assert_eq!(
        with("203.0.113.10/32", WAN, Role::Lip),
        "203.0.113.10 is given twice: as VIP on `wan0` and as LIP on `wan0`"
    );
    assert_eq!(
        with("198.18.0.1/24", WAN, Role::Vip),
        "198.18.0.1 is given twice: as interface address on `lan0` and as VIP on `wan0`"
    );
    assert_eq!(
        with("198.18.0.9/24", WAN, Role::Vip),
        "prefix 198.18.0.0/24 is on two interfaces, `lan0` and `wan0`"
    );
    assert_eq!(
        with("192.0.2.1/24", EthPortId(9), Role::Vip),
        "address 192.0.2.1 is on an unknown interface (number 9)"
    );
    assert_eq!(
        with("127.0.0.1/8", LAN, Role::Local),
        "127.0.0.1 cannot be an address of ours: it is a loopback address"
    );
    assert_eq!(
        with("198.18.0.255/32", LAN, Role::Lip),
        "198.18.0.255 cannot be an address of ours: it is the first or last address of a prefix \
         on its interface"
    );
    assert_eq!(
        with("192.0.2.1/0", LAN, Role::Lip),
        "prefix length 0 of address 192.0.2.1 is not between 1 and 32"
    );
    assert_eq!(
        error(|c| c.interfaces[0].primary = Some(addr("198.18.0.10"))),
        "primary address 198.18.0.10 of `lan0` is not one of its own addresses"
    );
    assert_eq!(
        error(|c| c.interfaces[0].id = WAN),
        "interface `wan0` has number 0, which `lan0` has already"
    );
    assert_eq!(
        error(|c| c.interfaces[0].mtu = 67),
        "an MTU of 67 for interface `lan0` is below 68"
    );
    assert_eq!(
        error(|c| c.interfaces[0].id = EthPortId(16384)),
        "interface number 16384 is above 16383"
    );
}

#[test]
fn wrong_routes_are_named() {
    let with = |route: Route| error(|config| config.routes.push(route));
    assert_eq!(
        with(route("192.0.2.0/24", Some("198.18.1.1"), LAN)),
        "gateway 198.18.1.1 of the route to 192.0.2.0/24 is not on link of `lan0`"
    );
    let trusted = Route { on_link: true, ..route("192.0.2.0/24", Some("198.18.1.1"), LAN) };
    let mut config = two_arm();
    config.routes.push(trusted);
    assert!(Fib::new(&config, 1).unwrap().is_on_link(LAN, ip("198.18.1.1")));
    assert_eq!(
        with(route("192.0.2.0/24", Some("203.0.113.10"), WAN)),
        "gateway 203.0.113.10 of the route to 192.0.2.0/24 cannot be one: it is an address of ours"
    );
    assert_eq!(
        with(route("192.0.2.0/24", Some("203.0.113.255"), WAN)),
        "gateway 203.0.113.255 of the route to 192.0.2.0/24 cannot be one: it is a broadcast address"
    );
    assert_eq!(
        with(route("192.0.2.0/24", None, EthPortId(3))),
        "route to 192.0.2.0/24 goes by an unknown interface (number 3)"
    );
    assert_eq!(
        with(route("192.0.2.7/24", None, LAN)),
        "route to 192.0.2.7/24 has host bits set; write 192.0.2.0/24"
    );
    assert_eq!(
        with(route("10.0.0.0/8", Some("198.18.0.253"), LAN)),
        "two routes to 10.0.0.0/8 have metric 0"
    );
    assert_eq!(
        with(Route { src: Some(addr("192.0.2.1")), ..route("192.0.2.0/24", None, LAN) }),
        "source 192.0.2.1 of the route to 192.0.2.0/24 is not an address of ours"
    );
    assert_eq!(
        with(Route { kind: RouteKind::Local, ..route("192.0.2.0/24", Some("203.0.113.1"), WAN) }),
        "local route to 192.0.2.0/24 cannot have a gateway (203.0.113.1)"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn routes_agree_with_a_linear_model(
        routes in proptest::collection::vec((0u32..64, 8u8..=32, 0u32..3, 2u32..6), 0..60),
        probes in proptest::collection::vec(0u32..64, 30),
    ) {
        let mut config = two_arm();
        config.routes.clear();
        let mut model: Vec<(IpNet, u32, u32)> = Vec::new();
        for (bits, len, metric, via) in routes {
            let network = Ipv4Addr::from(0x0a00_0000 | bits << 18 | bits << 6 | bits);
            let prefix = IpNet::new_assert(network.into(), len).trunc();
            if model.iter().any(|known| (known.0, known.1) == (prefix, metric)) {
                continue;
            }
            let via = ip("198.18.0.0") + via;
            model.push((prefix, metric, via));
            let gateway = Ipv4Addr::from(via).to_string();
            config.routes.push(Route {
                metric,
                ..route(&prefix.to_string(), Some(&gateway), LAN)
            });
        }
        let fib = Fib::new(&config, 1).unwrap();
        for bits in probes {
            let dst = 0x0a00_0000 | bits << 18 | bits << 6 | bits;
            let best = model
                .iter()
                .filter(|(prefix, ..)| prefix.contains(&dst.to_ip()))
                .max_by_key(|(prefix, metric, _)| (prefix.prefix_len(), u32::MAX - metric));
            let found = fib.route(dst).and_then(|route| route.gateway);
            prop_assert_eq!(found, best.map(|best| best.2));
        }
    }
}

/// Both arms with both families.
fn dual() -> FibConfig {
    let mut config = two_arm();
    config.addresses.extend([
        address("2001:db8::10/128", WAN, Role::Vip),
        address("2001:db8::2/64", WAN, Role::Local),
        address("fd00:18::10/128", LAN, Role::Lip),
        address("fd00:18::1/64", LAN, Role::Local),
    ]);
    config.routes.push(route("::/0", Some("fe80::1"), WAN));
    config
}

#[test]
fn two_arms_of_both_families() {
    let fib = Fib::new(&dual(), 1).unwrap();
    let vip = Owner { role: Role::Vip, iface: WAN, local: false, answers: true };
    assert_eq!(fib.owner(ip6("2001:db8::10")), Some(vip));
    assert_eq!(fib.owner(ip6("fd00:18::10")).map(|owner| owner.role), Some(Role::Lip));
    assert_eq!(fib.owner(ip6("2001:db8::77")), None);
    assert!(fib.answers(WAN, ip6("2001:db8::10")) && !fib.answers(LAN, ip6("2001:db8::10")));

    let default = fib.route(ip6("2001:db8:1::1")).unwrap();
    assert_eq!((default.iface, default.gateway), (WAN, Some(ip6("fe80::1"))));
    assert_eq!(default.src, Some(ip6("2001:db8::2")));
    let connected = fib.route(ip6("fd00:18::77")).unwrap();
    assert_eq!((connected.iface, connected.gateway, connected.mtu), (LAN, None, 9000));
    assert_eq!(fib.route(ip6("fd00:18::10")).unwrap().kind, RouteKind::Local);
    assert_eq!(fib.route(ip("198.18.0.77")).unwrap().iface, LAN, "IPv4 is as it was");

    assert!(fib.is_on_link(LAN, ip6("fd00:18::77")) && !fib.is_on_link(WAN, ip6("fd00:18::77")));
    assert!(fib.is_on_link(WAN, ip6("fe80::1")) && fib.is_on_link(LAN, ip6("fe80::1")));
    assert!(!fib.is_on_link(LAN, ip6("ff02::1")));
    assert!(!fib.is_broadcast(LAN, ip6("fd00:18::")));
    assert_eq!(fib.icmp_source(LAN), Some(ip6("fd00:18::1")));
    assert_eq!(fib.asking_source(LAN, ip6("fd00:18::77")), Some(ip6("fd00:18::1")));
    assert_eq!(fib.asking_source(WAN, ip6("fe80::1")), fib.link_local(WAN));
}

#[test]
fn interfaces_with_ipv6_have_a_link_local_address() {
    let fib = Fib::new(&dual(), 1).unwrap();
    let own = ip6("fe80::5eff:fe00:1");
    assert_eq!(fib.link_local(LAN), Some(own));
    assert!(fib.answers(LAN, own) && !fib.answers(WAN, own));
    assert_eq!(fib.owner(own), None, "it may be several interfaces'");
    assert_eq!(fib.owner_on(LAN, own).map(|owner| owner.local), Some(true));
    assert!(!fib.is_on_link(LAN, own), "ours");

    let fib = Fib::new(&two_arm(), 1).unwrap();
    assert_eq!(fib.link_local(LAN), None);
    assert!(!fib.is_on_link(LAN, ip6("fe80::1")));

    let mut config = dual();
    config.addresses.push(address("fe80::53/64", LAN, Role::Local));
    config.addresses.push(address("fe80::53/64", WAN, Role::Local));
    let fib = Fib::new(&config, 1).unwrap();
    for iface in [LAN, WAN] {
        assert_eq!(fib.link_local(iface), Some(ip6("fe80::53")));
        assert!(fib.answers(iface, ip6("fe80::53")));
    }
    assert!(!fib.answers(LAN, own), "another was chosen");
    assert_eq!(
        fib.primary(LAN),
        Some(ip6("fd00:18::1")),
        "errors come from where they are routed to"
    );
}

#[test]
fn vlans_of_one_card_share_a_link_local_address() {
    let mut config = dual();
    config.interfaces[0].mac = mac(WAN);
    let fib = Fib::new(&config, 1).unwrap();
    let own = fib.link_local(WAN).unwrap();
    assert_eq!(fib.link_local(LAN), Some(own));
    assert!(fib.answers(LAN, own) && fib.answers(WAN, own));
}

#[test]
fn groups_are_those_at_which_others_ask() {
    let fib = Fib::new(&dual(), 1).unwrap();
    let expected = ["ff02::1:ff00:1", "ff02::1:ff00:10"].map(ip6);
    let groups: Vec<_> = fib.groups().into_iter().filter(|(iface, _)| *iface == LAN).collect();
    assert_eq!(groups, expected.map(|group| (LAN, group)));
    assert_eq!(solicited_node(ip6("4037::1:800:200e:8c6c")), ip6("ff02::1:ff0e:8c6c"));
}

#[test]
fn ipv6_addresses_that_came_are_announced() {
    let (old, new) = (Fib::new(&two_arm(), 1).unwrap(), Fib::new(&dual(), 2).unwrap());
    let mut came: Vec<_> = new.addresses_since(&old).collect();
    came.sort_unstable();
    let link_local = |iface| new.link_local(iface).unwrap().to_ip();
    let mut expected = vec![
        (addr("2001:db8::2"), WAN),
        (addr("2001:db8::10"), WAN),
        (link_local(WAN), WAN),
        (addr("fd00:18::1"), LAN),
        (addr("fd00:18::10"), LAN),
        (link_local(LAN), LAN),
    ];
    expected.sort_unstable();
    assert_eq!(came, expected);
}

#[test]
fn what_is_wrong_of_ipv6_is_named() {
    let with = |text: &str| error(|c| c.addresses.push(address(text, LAN, Role::Local)));
    let unusable = |text: &str, what: &str| {
        let shown = text.split('/').next().unwrap();
        let message = format!("{shown} cannot be an address of ours: it is {what}");
        assert_eq!(with(text), message);
    };
    unusable("::/64", "the unspecified address");
    unusable("::1/128", "the loopback address");
    unusable("ff02::1/128", "a multicast address");
    unusable("::ffff:10.0.0.1/128", "an IPv4 address in IPv6 form");
    let other = |via: &str| error(|c| c.routes.push(route("2001:db8:9::/48", Some(via), WAN)));
    assert_eq!(
        other("203.0.113.1"),
        "203.0.113.1 of the route to 2001:db8:9::/48 is of another family"
    );
    let narrow = |change: fn(&mut FibConfig)| {
        let mut config = dual();
        change(&mut config);
        Fib::new(&config, 1).unwrap_err().to_string()
    };
    assert_eq!(
        narrow(|c| c.interfaces[0].mtu = 1279),
        "an MTU of 1279 for interface `lan0`, which has fd00:18::10 is below 1280"
    );
    assert_eq!(
        narrow(|c| c.routes.push(route("2001:db8:9::/48", Some("fd00:19::1"), LAN))),
        "gateway fd00:19::1 of the route to 2001:db8:9::/48 is not on link of `lan0`"
    );
    assert_eq!(
        narrow(|c| c.addresses.push(address("fd00:18::10/128", WAN, Role::Vip))),
        "fd00:18::10 is given twice: as LIP on `lan0` and as VIP on `wan0`"
    );
    assert_eq!(
        narrow(|c| c.routes[2].via = Some(addr("2001:db8::10"))),
        "gateway 2001:db8::10 of the route to ::/0 cannot be one: it is an address of ours"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn wide_routes_agree_with_a_linear_model(
        routes in proptest::collection::vec((0u128..64, 8u8..=128, 0u32..3, 2u128..6), 0..60),
        probes in proptest::collection::vec(0u128..64, 30),
    ) {
        let mut config = dual();
        config.routes.clear();
        let place = |bits: u128| 0xfd01 << 112 | bits << 90 | bits << 60 | bits;
        let mut model: Vec<(IpNet, u32, u128)> = Vec::new();
        for (bits, len, metric, via) in routes {
            let prefix = IpNet::new_assert(place(bits).to_ip(), len).trunc();
            if model.iter().any(|known| (known.0, known.1) == (prefix, metric)) {
                continue;
            }
            let via = ip6("fd00:18::") + via;
            model.push((prefix, metric, via));
            let gateway = via.to_ip().to_string();
            let route = route(&prefix.to_string(), Some(&gateway), LAN);
            config.routes.push(Route { metric, on_link: true, ..route });
        }
        let fib = Fib::new(&config, 1).unwrap();
        for bits in probes {
            let best = model
                .iter()
                .filter(|(prefix, ..)| prefix.contains(&place(bits).to_ip()))
                .max_by_key(|(prefix, metric, _)| (prefix.prefix_len(), u32::MAX - metric));
            let found = fib.route(place(bits)).and_then(|route| route.gateway);
            prop_assert_eq!(found, best.map(|best| best.2));
        }
    }
}

fn build_time(routes: u32) -> Duration {
    let mut config = two_arm();
    config.routes.clear();
    for number in 0..routes {
        let prefix = IpNet::new_assert((0x0100_0000 + (number << 8)).to_ip(), 24);
        let via = (ip("198.18.0.20") + number % 200).to_ip();
        config.routes.push(Route { prefix, via: Some(via), ..route("0.0.0.0/0", None, LAN) });
    }
    let start = Instant::now();
    let fib = Fib::new(&config, 1).unwrap();
    let took = start.elapsed();
    let last = 0x0100_0000 + ((routes - 1) << 8) + 9;
    let gateway = fib.route(last).and_then(|route| route.gateway);
    assert_eq!(gateway, Some(ip("198.18.0.20") + (routes - 1) % 200));
    took
}

#[test]
fn big_tables_build_fast() {
    // Generous bounds: an unoptimised build on a busy machine is to pass as well.
    let (small, full) = (build_time(10_000), build_time(1_000_000));
    println!("10k routes: {small:?}, 1M routes: {full:?}");
    assert!(small < Duration::from_millis(250), "{small:?}");
    assert!(full < Duration::from_secs(10), "{full:?}");
}

/// Nanoseconds a lookup, of destinations that are not known before.
fn lookup_ns<A: IpNumber>(fib: &Fib, destinations: impl Fn(u64) -> A) -> f64 {
    const LOOKUPS: u64 = 200_000;
    let (start, mut found, mut state) = (Instant::now(), 0u64, 1u64);
    for _ in 0..LOOKUPS {
        // The next destination depends on what was found, as nothing is found ahead in a measurement.
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1 + found % 2);
        found += u64::from(fib.route(destinations(state >> 33)).is_some());
    }
    assert_eq!(found, LOOKUPS);
    start.elapsed().as_nanos() as f64 / LOOKUPS as f64
}

/// Prints what docs/decisions tells of; `cargo test --release -p fib -- --nocapture lookups`.
#[test]
fn lookups_find_a_route_to_all_in_small_and_full_tables() {
    let mut config = dual();
    let usual = Fib::new(&config, 1).unwrap();
    let v4 = |number: u64| ip("198.18.0.0") + number as u32 % 200;
    let v6 = |number: u64| ip6("fd00:18::") + u128::from(number % 200);
    println!("usual: {:.1} ns, IPv6 {:.1} ns", lookup_ns(&usual, v4), lookup_ns(&usual, v6));

    // As many as the Internet has of either, of the lengths that it has.
    for number in 0..200_000u32 {
        let len = [32, 36, 40, 44, 48, 48, 48, 48][number as usize % 8];
        let prefix = (0x2400_0000u128 + u128::from(number)) << 96 | u128::from(number) << 80;
        let prefix = IpNet::new_assert(prefix.to_ip(), len).trunc();
        config.routes.push(Route { prefix, ..route("::/0", Some("fe80::2"), WAN) });
    }
    let full = Fib::new(&config, 1).unwrap();
    let far =
        |number: u64| (0x2400_0000u128 + u128::from(number % 200_000)) << 96 | u128::from(number);
    println!("200k routes: IPv6 {:.1} ns", lookup_ns(&full, far));
}
