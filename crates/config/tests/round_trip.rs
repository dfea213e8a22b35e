//! Whatever a configuration holds is written and read back as it was.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use config::*;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use types::{Endpoint, L4Port, MacAddr};

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-zA-Z0-9_.-]{1,12}", Just("null".into()), Just("1".into()), Just("no".into())]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[ -~]{0,16}", Just("true".into()), Just("0x10".into()), Just("a: b # c".into())]
}

fn ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
        any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
    ]
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    (ip(), any::<u16>()).prop_map(|(address, port)| Endpoint { address, l4_port: L4Port(port) })
}

fn duration() -> impl Strategy<Value = Duration> {
    prop_oneof![0..100_000u64, (0..100u64).prop_map(|hours| hours * 3_600_000)]
        .prop_map(Duration::from_ms)
}

fn range() -> impl Strategy<Value = AddressRange> {
    (any::<u32>(), any::<u32>()).prop_map(|(a, b)| {
        let address = |bits| IpAddr::V4(Ipv4Addr::from_bits(bits));
        AddressRange::new(address(a.min(b)), address(a.max(b))).unwrap()
    })
}

fn net() -> impl Strategy<Value = ipnet::IpNet> {
    (ip(), 0..=32u8).prop_map(|(address, len)| ipnet::IpNet::new(address, len).unwrap())
}

fn pool() -> impl Strategy<Value = LocalPool> {
    (vec(range(), 0..3), name()).prop_map(|(addresses, dev)| LocalPool { addresses, dev })
}

fn server() -> impl Strategy<Value = Server> {
    let admin = prop_oneof![Just(Admin::Enabled), Just(Admin::Drain), Just(Admin::Disabled)];
    let weight = prop_oneof![Just(1), any::<u16>()];
    (endpoint(), weight, admin, option::of(any::<u32>()), option::of(any::<u32>())).prop_map(
        |(address, weight, admin, upper, lower)| Server {
            address,
            weight,
            admin,
            limits: ServerLimits { upper, lower },
            health: None,
        },
    )
}

fn refusal() -> impl Strategy<Value = Refusal> {
    prop_oneof![Just(Refusal::Drop), Just(Refusal::Reset), Just(Refusal::Unreachable)]
}

fn service() -> impl Strategy<Value = Service> {
    let servers = prop_oneof![
        name().prop_map(Servers::Group),
        vec(server(), 0..3).prop_map(Servers::Inline),
    ];
    let local_pool =
        option::of(prop_oneof![name().prop_map(Pool::Named), pool().prop_map(Pool::Inline)]);
    let timeout = || option::of(duration());
    let persistence =
        option::of((duration(), any::<u16>(), any::<u16>()).prop_map(
            |(timeout, prefix, prefix_ipv6)| Persistence { timeout, prefix, prefix_ipv6 },
        ));
    (
        (vec(endpoint(), 0..3), any::<bool>(), 0..Scheduler::ALL.len(), any::<bool>()),
        (servers, local_pool, persistence, any::<[bool; 7]>()),
        (timeout(), timeout(), timeout(), timeout(), timeout(), timeout()),
        (option::of(0_usize..5), option::of(any::<u32>()), refusal(), refusal(), duration()),
    )
        .prop_map(|(basic, links, timeouts, rest)| {
            let (vips, tcp, scheduler, by_port) = basic;
            let (servers, local_pool, persistence, flags) = links;
            let (client, max_connections, on_no_server, on_limit, slow_start) = rest;
            Service {
                vips,
                protocol: if tcp { Protocol::Tcp } else { Protocol::Udp },
                scheduler: Scheduler::ALL[scheduler],
                hash_by: if by_port { HashBy::SourceAndPort } else { HashBy::Source },
                mode: if flags[4] { Mode::Nat } else { Mode::Fullnat },
                client_address: client.map(|how| {
                    [
                        ClientAddress::Toa,
                        ClientAddress::ProxyV1,
                        ClientAddress::ProxyV2,
                        ClientAddress::Option,
                        ClientAddress::None,
                    ][how]
                }),
                proxy_protocol: ProxyProtocol {
                    client_header: if flags[5] {
                        ClientHeader::Trust
                    } else {
                        ClientHeader::Replace
                    },
                    datagrams: if flags[6] { Datagrams::First } else { Datagrams::Each },
                },
                servers,
                local_pool,
                timeouts: ServiceTimeouts {
                    tcp_syn: timeouts.0,
                    tcp_established: timeouts.1,
                    tcp_closing: timeouts.2,
                    tcp_closed: timeouts.3,
                    udp_oneway: timeouts.4,
                    udp: timeouts.5,
                },
                persistence,
                one_packet: flags[0],
                limits: Limits { max_connections },
                on_not_syn: if flags[1] { OnNotSyn::Drop } else { OnNotSyn::Reset },
                on_no_server,
                on_limit,
                reset_on_expiry: flags[2],
                evict_idle: flags[3],
                slow_start,
                health: None,
                check_source: None,
                quorum: None,
                sorry_server: None,
            }
        })
}

fn vlan() -> impl Strategy<Value = Vlan> {
    let kni = option::of(name().prop_map(|name| Kni { name, netns: None, persist: false }));
    (name(), any::<u16>(), kni).prop_map(|(link, id, kni)| Vlan { link, id, kni })
}

fn interface() -> impl Strategy<Value = Interface> {
    let queues = prop_oneof![Just(Queues::Auto), (1..=u16::MAX).prop_map(Queues::Count)];
    let kni = (text(), option::of(text()), any::<bool>());
    let kni = option::of(kni.prop_map(|(name, netns, persist)| Kni { name, netns, persist }));
    (option::of(text()), option::of(text()), queues, any::<[u16; 3]>(), kni).prop_map(
        |(pci, device, queues, [rx_descriptors, tx_descriptors, mtu], kni)| Interface {
            pci,
            device,
            queues,
            rx_descriptors,
            tx_descriptors,
            mtu,
            kni,
        },
    )
}

fn route() -> impl Strategy<Value = Route> {
    let route_type = prop_oneof![Just(RouteType::Unicast), Just(RouteType::Local)];
    (net(), option::of(ip()), name(), any::<u32>(), option::of(ip()), option::of(any::<u16>()))
        .prop_flat_map(move |route| (Just(route), route_type.clone()))
        .prop_map(|((to, via, dev, metric, src, mtu), route_type)| {
            let to = Prefix::new(to);
            // A default route by IPv6 is read as IPv6's.
            let is_v6 = [via, src].iter().flatten().any(IpAddr::is_ipv6);
            let to = if is_v6 { to.or_default_v6() } else { to };
            Route { to, via, dev, metric, src, mtu, route_type }
        })
}

fn settings() -> impl Strategy<Value = Config> {
    let hugepages =
        prop_oneof![Just(HugePages::Auto), Just(HugePages::Required), Just(HugePages::Off)];
    let cpus = proptest::collection::btree_set(0..CpuSet::LIMIT, 1..6).prop_map(|cpus| {
        let cpus: Vec<_> = cpus.iter().map(ToString::to_string).collect();
        cpus.join(",").parse::<CpuSet>().unwrap()
    });
    let log = (0..5usize, 0..3usize).prop_map(|(level, format)| Log {
        level: [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace]
            [level],
        format: [LogFormat::Human, LogFormat::Json, LogFormat::Journald][format],
    });
    let timeouts = (duration(), duration(), duration()).prop_map(|(tcp_syn, udp, icmp)| Timeouts {
        tcp_syn,
        udp,
        icmp,
        ..Timeouts::default()
    });
    (
        (any::<u64>(), hugepages, vec(text(), 0..3), cpus, any::<bool>()),
        (any::<u32>(), any::<Option<u32>>(), timeouts, duration(), log, duration()),
    )
        .prop_map(
            |(
                (memory, hugepages, eal_args, cpus, poll),
                (max, wide, timeouts, rest, log, drain),
            )| {
                Config {
                    memory: Size::from_bytes(memory),
                    hugepages,
                    eal_args,
                    workers: Workers { cpus, idle: if poll { Idle::Poll } else { Idle::Adaptive } },
                    conntrack: Conntrack {
                        max_connections: max,
                        max_connections_ipv6: wide,
                        timeouts,
                        rs_time_wait: rest,
                    },
                    log,
                    shutdown: Shutdown { drain },
                    ..Config::default()
                }
            },
        )
}

fn address_match() -> impl Strategy<Value = AddressMatch> {
    prop_oneof![
        range().prop_map(AddressMatch::from),
        (any::<u32>(), 0..=32u8).prop_map(|(bits, len)| {
            let net = ipnet::Ipv4Net::new(Ipv4Addr::from_bits(bits), len).unwrap().trunc();
            net.to_string().parse().unwrap()
        }),
    ]
}

fn ports() -> impl Strategy<Value = PortRange> {
    (1..=u16::MAX, 1..=u16::MAX).prop_map(|(a, b)| PortRange::new(a.min(b), a.max(b)).unwrap())
}

fn protocols() -> impl Strategy<Value = Vec<IpProtocol>> {
    vec(any::<u8>().prop_map(IpProtocol::new), 0..3)
}

fn matches() -> impl Strategy<Value = Match> {
    let addresses = || vec(address_match(), 0..2);
    let groups = || (addresses(), addresses(), protocols(), vec(ports(), 0..2), vec(ports(), 0..2));
    (groups(), groups(), option::of(name()), option::of(name())).prop_map(
        |(own, except, in_dev, out_dev)| Match {
            source: own.0,
            destination: own.1,
            protocol: own.2,
            source_ports: own.3,
            destination_ports: own.4,
            in_dev,
            out_dev,
            except: Except {
                source: except.0,
                destination: except.1,
                protocol: except.2,
                source_ports: except.3,
                destination_ports: except.4,
            },
        },
    )
}

fn nat_timeouts() -> impl Strategy<Value = NatTimeouts> {
    (duration(), duration(), duration()).prop_map(|(tcp_established, udp, icmp)| NatTimeouts {
        tcp_established,
        udp,
        icmp,
        ..NatTimeouts::default()
    })
}

fn snat() -> impl Strategy<Value = SnatRule> {
    let wan = (range(), prop_oneof![Just(1), any::<u16>()], any::<bool>()).prop_map(
        |(address, weight, drain)| WanRange {
            address,
            weight,
            admin: if drain { Admin::Drain } else { Admin::Enabled },
        },
    );
    let wan_addresses =
        prop_oneof![Just(WanAddresses::Interface), vec(wan, 0..3).prop_map(WanAddresses::Pool),];
    let mss_clamp = prop_oneof![
        Just(MssClamp::Off),
        Just(MssClamp::Path),
        (1..=u16::MAX).prop_map(MssClamp::Bytes),
    ];
    (matches(), wan_addresses, mss_clamp, ports(), any::<[u32; 3]>(), nat_timeouts(), any::<u8>())
        .prop_map(|(matches, wan_addresses, mss_clamp, ports, limits, timeouts, bits)| {
            let bit = |n: u8| bits >> n & 1 == 1;
            SnatRule {
                matches,
                action: if bit(0) { SnatAction::Accept } else { SnatAction::Translate },
                wan_addresses,
                mapping: if bit(1) {
                    Mapping::AddressAndPortDependent
                } else {
                    Mapping::EndpointIndependent
                },
                filtering: if bit(2) {
                    Filtering::AddressDependent
                } else {
                    Filtering::EndpointIndependent
                },
                refresh: if bit(2) { Refresh::Outbound } else { Refresh::Both },
                pooling: if bit(3) { Pooling::Arbitrary } else { Pooling::Paired },
                port_selection: if bit(4) {
                    PortSelection::Sequential
                } else {
                    PortSelection::Random
                },
                ports,
                preserve_parity: bit(5),
                limits: SubscriberLimits {
                    ports: limits[0],
                    sessions: limits[1],
                    new_sessions_per_second: limits[2],
                },
                on_exhausted: if bit(6) { OnExhausted::Icmp } else { OnExhausted::Drop },
                mss_clamp,
                hairpin: bit(7),
                timeouts,
                ..SnatRule::default()
            }
        })
}

fn dnat() -> impl Strategy<Value = DnatRule> {
    let endpoints =
        || (ip(), ports()).prop_map(|(address, ports)| EndpointRange { address, ports });
    let to = prop_oneof![
        endpoints().prop_map(DnatTarget::One),
        vec(server(), 0..3).prop_map(DnatTarget::Servers),
    ];
    let rest = (vec(address_match(), 0..2), option::of(name()), nat_timeouts());
    (endpoints(), any::<bool>(), to, rest).prop_map(|(on, tcp, to, (source, in_dev, timeouts))| {
        let protocol = if tcp { Protocol::Tcp } else { Protocol::Udp };
        let source_address = if tcp { SourceAddress::Keep } else { SourceAddress::Auto };
        DnatRule { source, in_dev, timeouts, source_address, ..DnatRule::new(on, protocol, to) }
    })
}

fn forwarding() -> impl Strategy<Value = Forwarding> {
    let action = prop_oneof![
        Just(ForwardingAction::Accept),
        Just(ForwardingAction::Drop),
        Just(ForwardingAction::Reject),
    ];
    let rule = (matches(), action).prop_map(|(matches, action)| ForwardingRule { matches, action });
    let silent = vec(name(), 0..3);
    (any::<bool>(), any::<bool>(), silent, rules(rule)).prop_map(|(drop, strict, silent, rules)| {
        Forwarding {
            policy: if drop { ForwardingPolicy::Drop } else { ForwardingPolicy::Auto },
            reverse_path: if strict { ReversePath::Strict } else { ReversePath::Off },
            silent,
            rules,
        }
    })
}

/// Rules in any order.
fn rules<T: std::fmt::Debug>(rule: impl Strategy<Value = T>) -> impl Strategy<Value = Ordered<T>> {
    vec((name(), rule.prop_map(Arc::new)), 0..4).prop_map(|rules| rules.into_iter().collect())
}

fn shared<T>(map: BTreeMap<String, T>) -> BTreeMap<String, Arc<T>> {
    map.into_iter().map(|(name, value)| (name, Arc::new(value))).collect()
}

fn config() -> impl Strategy<Value = Config> {
    let address = (net(), name()).prop_map(|(net, dev)| Address {
        address: InterfaceAddress::new(net),
        dev,
        active: Active::Always,
    });
    let neighbour = (ip(), any::<u64>(), name()).prop_map(|(address, mac, dev)| Neighbour {
        address,
        mac: MacAddr::from_bits(mac & 0xffff_ffff_ffff),
        dev,
    });
    let group = vec(server(), 0..3).prop_map(|servers| ServerGroup { servers, health: None });
    (
        settings(),
        (
            btree_map(name(), interface(), 0..3),
            btree_map(name(), vlan(), 0..3),
            vec(address, 0..3),
            vec(route(), 0..3),
        ),
        (vec(neighbour, 0..3), btree_map(name(), pool(), 0..3), btree_map(name(), group, 0..3)),
        btree_map(name(), service(), 0..4),
        (rules(snat()), btree_map(name(), dnat(), 0..3), forwarding(), any::<bool>()),
    )
        .prop_map(
            |(
                settings,
                (interfaces, vlans, addresses, routes),
                (neighbours, pools, groups),
                services,
                (snat, dnat, forwarding, log),
            )| {
                let events = if log { NatEvents::Sessions } else { NatEvents::Off };
                Config {
                    nat_log: NatLog { events, ..NatLog::default() },
                    snat,
                    dnat: shared(dnat),
                    forwarding,
                    interfaces: shared(interfaces),
                    vlans: shared(vlans),
                    addresses,
                    routes,
                    neighbours,
                    local_address_pools: shared(pools),
                    server_groups: shared(groups),
                    services: shared(services),
                    ..settings
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn as_yaml_and_json(config in config()) {
        let yaml = to_yaml(&config).unwrap();
        prop_assert_eq!(&parse(&yaml).unwrap(), &config, "{}", yaml);
        let json = to_json(&config).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Config>(&json).unwrap(), &config);
        prop_assert_eq!(&parse(&json).unwrap(), &config, "{}", json);
        prop_assert!(diff(&config, &parse(&yaml).unwrap()).is_empty());
    }

    #[test]
    fn applying_with_prune_gives_what_was_applied(a in config(), b in config()) {
        let overlay = Overlay::parse(&to_yaml(&b).unwrap(), "b").unwrap();
        let pruned = overlay.merge(&a, true).unwrap();
        for change in diff(&pruned, &b) {
            // A setting that is default in b is not in its text, and so stays a's.
            let setting = !change.path.contains(['[', '.']) || ["workers.", "conntrack.", "log.", "shutdown.", "nat_log.", "forwarding."]
                .iter().any(|section| change.path.starts_with(section));
            prop_assert!(setting, "{:?}", change);
        }
        prop_assert_eq!(diff(&a, &b).is_empty(), a == b);
    }

    #[test]
    fn garbage_is_an_error_and_nothing_worse(text in "[ -~\\n]{0,80}") {
        let _ = load(&text, "garbage");
        let _ = Overlay::parse(&text, "garbage");
    }
}
