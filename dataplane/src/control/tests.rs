//! Whole changes over real workers.

use std::time::Duration;

use api::{ApplyQuery, DevQuery, ErrorCode, Removal, ServerSettings};
use config::Server;
use serde_json::json;
use testkit::pkt;
use types::{MacAddr, WorkerId};

use super::fake::{Bench, LAN, SHOP, WAN};
use super::*;

fn generation(bench: &Bench) -> u64 {
    bench.control.state().snapshot.generation
}

#[tokio::test]
async fn a_change_runs_on_all_workers_when_it_is_answered() {
    let mut bench = Bench::start(SHOP).await;
    assert!(bench.control.ready().is_ok());
    let control = bench.control.clone();
    let settings = ServerSettings { weight: 5, ..ServerSettings::default() };
    let address = "198.18.0.123:80".parse().unwrap();
    let add = async move { control.add_server("shop".into(), address, settings).await };
    let warnings = bench.run(add).await.unwrap();
    assert_eq!(warnings.generation, generation(&bench));
    bench.turn();
    let control = bench.control.clone();
    let shop = bench.run(async move { control.service("shop").await }).await.unwrap();
    assert_eq!(shop.servers.len(), 3);
    assert_eq!(shop.servers[2].weight, 5);
    assert_eq!(shop.lips.len(), 4);
    for worker in bench.control.workers() {
        tokio::time::sleep(Duration::from_millis(15)).await;
        bench.turn();
        assert_eq!(worker.max_connections, 1000);
    }
    assert!(bench.control.workers().iter().all(|info| info.generation == warnings.generation));
}

/// The table of conns with an IPv6 side has a size of its own, and is there from the first service on that needs it.
#[tokio::test]
async fn the_most_conns_are_shown_by_family() {
    let sizes = "max_connections: 1000, max_connections_ipv6: 500";
    let mut bench = Bench::start(&SHOP.replace("max_connections: 1000", sizes)).await;
    for (vip, ipv6) in [("203.0.113.10:81", 0), ("[2001:db8::10]:81", 500)] {
        let control = bench.control.clone();
        let shown = async move {
            let service = config::Service::new(vec![vip.parse().unwrap()], config::Protocol::Tcp);
            control.add_service(format!("s{ipv6}"), service).await.unwrap();
            (control.status().await.unwrap(), control.stats().await.unwrap().connections)
        };
        let (status, totals) = bench.run(shown).await;
        assert_eq!((status.max_connections, status.max_connections_ipv6), (2000, 2 * ipv6));
        assert_eq!((totals.max, totals.max_ipv6), (2000, 2 * ipv6));
        let workers = bench.control.workers();
        assert!(workers.iter().all(|it| it.max_connections_ipv6 == ipv6));
    }
}

#[tokio::test]
async fn what_is_refused_changes_nothing() {
    let mut bench = Bench::start(SHOP).await;
    let (before, config) = (generation(&bench), bench.control.config());
    let control = bench.control.clone();
    let refused = bench
        .run(async move {
            let patch = json!({"weight": 65536});
            let address = "198.18.0.121:80".parse().unwrap();
            let wrong = control.set_server("shop".into(), address, patch).await.unwrap_err();
            let none = control.delete_service("nothing".into(), Removal::default()).await;
            let twice = control
                .add_service("shop".into(), control.config().services["shop"].as_ref().clone())
                .await;
            let text = "addresses: [ { address: 203.0.113.9/32, dev: nowhere } ]";
            let dev = control.apply(text.into(), ApplyQuery::default()).await.unwrap_err();
            [wrong, none.unwrap_err(), twice.unwrap_err(), dev]
        })
        .await;
    let codes = refused.each_ref().map(|body| body.error.code);
    let expected =
        [ErrorCode::BadRequest, ErrorCode::NotFound, ErrorCode::Conflict, ErrorCode::Invalid];
    assert_eq!(codes, expected, "{refused:?}");
    assert_eq!(refused[0].error.field.as_deref(), Some("weight"));
    assert_eq!(generation(&bench), before);
    assert!(Arc::ptr_eq(&config, &bench.control.config()));
}

#[tokio::test]
async fn applying_what_runs_is_no_change() {
    let mut bench = Bench::start(SHOP).await;
    let before = generation(&bench);
    let control = bench.control.clone();
    let changes = bench
        .run(async move {
            let text = config::to_yaml(&control.config()).unwrap();
            let prune = ApplyQuery { prune: true, dry_run: false };
            control.apply(text, prune).await
        })
        .await
        .unwrap();
    assert!(changes.changes.is_empty(), "{changes:?}");
    assert_eq!(generation(&bench), before);
}

#[tokio::test]
async fn a_stalled_worker_refuses_changes_and_readiness() {
    let mut bench = Bench::start(SHOP).await;
    {
        let mut state = bench.control.state();
        let load = state.workers.reading(WorkerId(1)).unwrap().values.load();
        let now = Instant::now();
        for step in 0..6 {
            let at = now + Duration::from_millis(40 * step);
            state.watchdog.look(WorkerId(1), &load, at);
        }
    }
    let before = generation(&bench);
    let control = bench.control.clone();
    let refused = bench
        .run(async move { control.delete_service("shop".into(), Removal::default()).await })
        .await
        .unwrap_err();
    assert_eq!(refused.error.code, ErrorCode::Unavailable);
    assert_eq!(refused.error.message, "worker 1 does not come round");
    assert!(bench.control.ready().is_err());
    assert_eq!(generation(&bench), before);
    // Nobody turns the workers: what they are asked stays in their rings.
    let query = api::ConnectionQuery { worker: Some(1), ..api::ConnectionQuery::default() };
    let stalled = bench.control.connections(query).await.unwrap_err();
    assert_eq!(stalled.error.message, "worker 1 does not come round");
    let control = bench.control.clone();
    let status = bench.run(async move { control.status().await }).await.unwrap();
    assert!(status.problems.iter().any(|p| p.contains("worker 1")), "{:?}", status.problems);
}

#[tokio::test]
async fn slots_of_what_is_gone_are_free_when_the_workers_returned_them() {
    let mut bench = Bench::start(SHOP).await;
    let control = bench.control.clone();
    bench
        .run(async move {
            let address = "198.18.0.121:80".parse().unwrap();
            control.delete_server("shop".into(), address, Removal::default()).await.unwrap();
            control.delete_service("shop-tls".into(), Removal::default()).await.unwrap();
        })
        .await;
    assert!(!bench.control.state().retiring.is_empty());
    let control = bench.control.clone();
    bench.run(async move { control.retire().await }).await.unwrap();
    assert!(bench.control.state().retiring.is_empty());
}

#[tokio::test]
async fn new_addresses_are_announced_and_neighbours_asked() {
    let mut bench = Bench::start(SHOP).await;
    let now_ms = bench.control.now_ms();
    bench.control.state().age(now_ms);
    for _ in 0..5 {
        bench.turn();
    }
    let announced: Vec<_> = bench.sent(WAN).iter().map(|frame| frame.arp().sender_ip).collect();
    assert_eq!(announced.len(), 2, "the interface's own and the VIP");
    assert_eq!(bench.sent(LAN).len(), 5, "the interface's own and four LIPs");

    // A client's SYN: the server's Ethernet address is needed.
    let mac = bench.control.state().started[1].mac;
    let gateway = MacAddr([2, 0, 0, 0, 0, 1]);
    for worker in [WorkerId(0), WorkerId(1)] {
        let syn =
            pkt().eth(gateway, mac).ipv4("198.51.100.7", "203.0.113.10").tcp(40_000, 80).syn();
        bench.arrive(worker, WAN, syn.build());
    }
    for _ in 0..5 {
        bench.turn();
    }
    let asked = bench.sent(LAN);
    assert!(!asked.is_empty());
    assert!([0xc612_0079, 0xc612_007a].contains(&asked[0].arp().target_ip));
    let known = bench.control.neighbours(&DevQuery::default()).unwrap();
    assert_eq!(known.len(), 1);
    assert_eq!(known[0].dev, "lan0");
    assert_eq!(known[0].state, api::NeighbourState::Incomplete);
}

#[tokio::test]
async fn a_link_that_goes_down_is_told_to_the_workers() {
    let mut bench = Bench::start(SHOP).await;
    bench.links.lock()[1] = false;
    assert!(bench.control.state().look_at_links());
    let control = bench.control.clone();
    bench.run(async move { control.refresh(false).await }).await.unwrap();
    assert!(!bench.control.state().snapshot.interfaces[1].up);
    assert_eq!(*bench.carriers.lock(), [true, false], "and to the kernel");
    assert!(!bench.control.link("wan0").unwrap().up);
    assert!(bench.control.link("lan0").unwrap().up);
    assert_eq!(bench.control.link("nowhere").unwrap_err().error.code, ErrorCode::NotFound);
}

#[tokio::test]
async fn a_vip_that_is_gone_stays_ours_until_its_conns_are_closed() {
    let mut bench = Bench::start(SHOP).await;
    let mac = bench.control.state().started[1].mac;
    let gateway = MacAddr([2, 0, 0, 0, 0, 1]);
    let syn = |port: u16| {
        pkt().eth(gateway, mac).ipv4("198.51.100.7", "203.0.113.10").tcp(port, 80).syn().build()
    };
    bench.arrive(WorkerId(0), WAN, syn(40_000));
    for _ in 0..5 {
        bench.turn();
    }
    let control = bench.control.clone();
    let vip = u32::from_be_bytes([203, 0, 113, 10]);
    let owner = move |control: &Control| control.state().snapshot.fib.owner(vip).map(|o| o.role);
    bench
        .run(async move {
            let address = "203.0.113.10/32".parse().unwrap();
            control.delete_address(api::AddressKey { address, dev: None }).await.unwrap();
            assert_eq!(owner(&control), Some(fib::Role::Leaving));
            control.let_addresses_go().await.unwrap();
            assert_eq!(owner(&control), Some(fib::Role::Leaving), "it has a conn");
        })
        .await;
    bench.arrive(WorkerId(0), WAN, syn(40_001));
    bench.arrive(WorkerId(1), WAN, syn(40_002));
    for _ in 0..5 {
        bench.turn();
    }
    let control = bench.control.clone();
    bench
        .run(async move {
            let chosen = api::ConnectionQuery {
                protocol: Some(types::Proto::Tcp),
                ..api::ConnectionQuery::default()
            };
            let closed = control.close_connections(chosen).await.unwrap().closed;
            assert_eq!(closed, 1, "nothing new begins");
            control.let_addresses_go().await.unwrap();
            assert_eq!(owner(&control), None);
        })
        .await;
}

#[tokio::test]
async fn draining_refuses_changes_and_tells_the_workers() {
    let mut bench = Bench::start(SHOP).await;
    let control = bench.control.clone();
    bench.run(async move { control.drain().await }).await.unwrap();
    assert!(bench.control.state().snapshot.policy.stopping);
    let control = bench.control.clone();
    let server = Server::new("198.18.0.9:80".parse().unwrap());
    let refused = bench
        .run(async move {
            control.add_server("shop".into(), server.address, ServerSettings::default()).await
        })
        .await
        .unwrap_err();
    assert_eq!(refused.error.message, "the daemon is stopping");
    assert_eq!(bench.control.conns(), 0);
}

#[tokio::test]
async fn a_lip_that_is_gone_stays_ours_until_its_conns_are_closed() {
    let mut bench = Bench::start(SHOP).await;
    let mac = bench.control.state().started[1].mac;
    let gateway = MacAddr([2, 0, 0, 0, 0, 1]);
    let syn = pkt().eth(gateway, mac).ipv4("198.51.100.7", "203.0.113.10").tcp(40_000, 80).syn();
    bench.arrive(WorkerId(0), WAN, syn.build());
    for _ in 0..5 {
        bench.turn();
    }
    let control = bench.control.clone();
    bench
        .run(async move {
            let mut named = Vec::new();
            let look = |record: &flow::Record| named.push(record.reverse.destination.address);
            control.for_each_conn(Default::default(), look).await.unwrap();
            let [used] = named[..] else { panic!("{named:?}") };
            let lips = control.lips("shop").await.unwrap().into_iter().map(|lip| lip.address);
            let unused = lips.clone().find(|lip| *lip != used).unwrap();
            let owner = |lip| {
                let std::net::IpAddr::V4(lip) = lip else { panic!("{lip}") };
                control.state().snapshot.fib.owner(lip.to_bits()).map(|owner| owner.role)
            };
            for lip in [used, unused] {
                control.delete_lip("shop".into(), lip).await.unwrap();
                assert_eq!(owner(lip), Some(fib::Role::Lip));
            }
            control.let_addresses_go().await.unwrap();
            assert_eq!((owner(used), owner(unused)), (Some(fib::Role::Lip), None));
            let removal = Removal { connections: api::RemovedConns::Reset };
            control.delete_service("shop".into(), removal).await.unwrap();
            assert_eq!(owner(used), Some(fib::Role::Lip));
            control.let_addresses_go().await.unwrap();
            assert_eq!(owner(used), None);
            assert_eq!(control.stats().await.unwrap().connections.removed, 1);
        })
        .await;
}

/// Conns of both directions at whatever worker, by way of a VIP whose steering has changed.
#[tokio::test]
async fn earlier_steering_is_remembered_until_its_conns_are_closed() {
    let neighbours = ["198.18.0.121", "198.18.0.122"].map(|server| {
        format!("  - {{ address: {server}, mac: \"02:00:00:00:00:79\", dev: lan0 }}\n")
    });
    let mut bench = Bench::start(&format!("{SHOP}neighbours:\n{}", neighbours.concat())).await;
    bench.sent(LAN);
    let ports = 40_000..40_020;
    let earlier = |bench: &Bench| bench.control.state().snapshot.earlier.iter().count();
    for client_port in ports.clone() {
        assert_eq!(through(&mut bench, client_port, 0x02), 1, "a SYN opens");
    }
    let patch = json!({"persistence": {"timeout": "60s", "prefix": 24}});
    let control = bench.control.clone();
    bench.run(async move { control.set_service("shop".into(), patch).await }).await.unwrap();
    assert_eq!(earlier(&bench), 1);
    for client_port in ports.clone() {
        assert_eq!(through(&mut bench, client_port, 0x10), 1, "its conn goes on");
    }
    let owners = explained(&mut bench, ports.clone()).await;
    assert!(owners.iter().any(|told| told.ends_with("has the conn")), "{owners:?}");
    assert!(owners.iter().any(|told| told.ends_with("owns the key")), "{owners:?}");
    published(&mut bench).await;
    let control = bench.control.clone();
    bench.run(async move { control.forget_earlier().await }).await.unwrap();
    assert_eq!(earlier(&bench), 1, "conns need it");

    let control = bench.control.clone();
    let all = api::ConnectionQuery { protocol: Some(types::Proto::Tcp), ..Default::default() };
    let closed = bench.run(async move { control.close_connections(all).await }).await.unwrap();
    assert_eq!(closed.closed, 20);
    bench.sent(WAN);
    bench.sent(LAN);
    let control = bench.control.clone();
    bench.run(async move { control.forget_earlier().await }).await.unwrap();
    assert_eq!(earlier(&bench), 0);
    for client_port in ports {
        assert_eq!(through(&mut bench, client_port, 0x02), 1);
    }
}

/// Who is told to own and to have the conns of these ports.
async fn explained(bench: &mut Bench, ports: std::ops::Range<u16>) -> Vec<String> {
    let mut owners = Vec::new();
    for client_port in ports {
        let packet = json!({
            "dev": "wan0", "protocol": "tcp", "tcp_flags": "A",
            "source": "198.51.100.7", "source_port": client_port,
            "destination": "203.0.113.10", "destination_port": 80,
        });
        let packet = serde_json::from_value(packet).unwrap();
        let control = bench.control.clone();
        let told = bench.run(async move { control.explain(packet).await }).await.unwrap();
        assert_eq!(told.verdict, "sent", "{told:?}");
        let steered = told.stages.into_iter().find(|stage| stage.stage == "steer");
        owners.push(steered.unwrap().decision);
    }
    owners
}

/// The workers say what they run now and then.
async fn published(bench: &mut Bench) {
    tokio::time::sleep(Duration::from_millis(15)).await;
    bench.turn();
}

/// A segment of a client arrives at the first worker; how many leave for the servers.
fn through(bench: &mut Bench, client_port: u16, flags: u8) -> usize {
    let mac = bench.control.state().snapshot.interfaces[1].mac;
    let packet = pkt().eth(MacAddr([2, 0, 0, 0, 0, 9]), mac).ipv4("198.51.100.7", "203.0.113.10");
    let packet = packet.tcp(client_port, 80).flags(flags).seq(5);
    bench.arrive(WorkerId(0), WAN, packet.build());
    (0..4).for_each(|_| bench.turn());
    let sent = bench.sent(LAN);
    sent.iter().filter(|sent| sent.eth_dst == MacAddr([2, 0, 0, 0, 0, 0x79])).count()
}

/// Masquerade of one inside network, which is on the servers' link.
const OFFICE: &str = r#"
snat:
  office: { match: { source: [ 198.18.0.0/24 ], out_dev: wan0 }, wan_addresses: [ 203.0.113.20 ] }
neighbours:
  - { address: 203.0.113.1, mac: "02:00:00:00:00:fe", dev: wan0 }
"#;

/// A SYN of an inside host arrives at the first worker; from whom it leaves, if it does.
fn masqueraded(bench: &mut Bench, port: u16) -> Option<std::net::Ipv4Addr> {
    let mac = bench.control.state().snapshot.interfaces[0].mac;
    let packet = pkt().eth(MacAddr([2, 0, 0, 0, 0, 9]), mac).ipv4("198.18.0.50", "192.0.2.9");
    bench.arrive(WorkerId(0), LAN, packet.tcp(port, 443).syn().build());
    (0..4).for_each(|_| bench.turn());
    let sent = bench.sent(WAN);
    let sent = sent.iter().find(|sent| sent.eth_dst == MacAddr([2, 0, 0, 0, 0, 0xfe]))?;
    Some(sent.ipv4().src.into())
}

async fn apply(bench: &mut Bench, text: String) {
    let control = bench.control.clone();
    let prune = ApplyQuery { prune: true, dry_run: false };
    bench.run(async move { control.apply(text, prune).await }).await.unwrap();
    bench.sent(WAN);
}

async fn listed(bench: &mut Bench) -> Vec<api::Connection> {
    let control = bench.control.clone();
    let all = async move { control.connections(Default::default()).await };
    bench.run(all).await.unwrap().connections
}

#[tokio::test]
async fn a_rule_of_snat_translates_and_its_conns_are_listed_under_it() {
    let mut bench = Bench::start(SHOP).await;
    assert_eq!(masqueraded(&mut bench, 40_000), None);
    apply(&mut bench, format!("{SHOP}{OFFICE}")).await;
    assert_eq!(masqueraded(&mut bench, 40_000), Some([203, 0, 113, 20].into()));
    let conns = listed(&mut bench).await;
    let [conn] = &conns[..] else { panic!("{conns:?}") };
    assert_eq!(conn.service.as_deref(), Some("snat/office"));
    assert_eq!(conn.client.to_string(), "198.18.0.50:40000");
    assert_eq!(conn.server.to_string(), "192.0.2.9:443");
    assert_eq!(conn.lip.address.to_string(), "203.0.113.20");
    let of = |service: &str| api::ConnectionQuery {
        service: Some(service.to_owned()),
        ..api::ConnectionQuery::default()
    };
    let (office, shop) = (of("snat/office"), of("shop"));
    let control = bench.control.clone();
    bench
        .run(async move {
            assert_eq!(control.close_connections(shop).await.unwrap().closed, 0);
            assert_eq!(control.close_connections(office).await.unwrap().closed, 1);
        })
        .await;
}

#[tokio::test]
async fn conns_of_a_wan_ip_that_is_gone_are_closed_and_its_rule_is_forgotten() {
    let mut bench = Bench::start(&format!("{SHOP}{OFFICE}")).await;
    for port in 40_000..40_010 {
        assert!(masqueraded(&mut bench, port).is_some());
    }
    let other = OFFICE.replace("203.0.113.20", "203.0.113.21");
    apply(&mut bench, format!("{SHOP}{other}")).await;
    assert!(listed(&mut bench).await.is_empty());
    assert_eq!(bench.control.state().conns_removed, 10);
    assert_eq!(masqueraded(&mut bench, 40_000), Some([203, 0, 113, 21].into()));
    let names = Arc::clone(&bench.control.state().gateway_names);
    assert_eq!(names.wans().count(), 2, "as of the last change");

    // The rule goes, and its conn with its address; then its slot is free.
    apply(&mut bench, "snat: {}".to_owned()).await;
    assert!(listed(&mut bench).await.is_empty());
    assert!(!bench.control.state().retiring.is_empty());
    let control = bench.control.clone();
    bench.run(async move { control.retire().await }).await.unwrap();
    assert!(bench.control.state().retiring.is_empty());
    assert_eq!(masqueraded(&mut bench, 40_000), None);
}

#[tokio::test]
async fn explain_names_the_rule() {
    let mut bench = Bench::start(&format!("{SHOP}{OFFICE}")).await;
    let packet = json!({
        "dev": "lan0", "protocol": "tcp", "source": "198.18.0.50",
        "destination": "192.0.2.9", "destination_port": 443,
    });
    let packet = serde_json::from_value(packet).unwrap();
    let control = bench.control.clone();
    let told = bench.run(async move { control.explain(packet).await }).await.unwrap();
    assert_eq!(told.verdict, "sent");
    assert!(told.stages.iter().any(|stage| stage.decision.contains("`office`")), "{told:?}");
}
