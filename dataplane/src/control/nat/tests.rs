//! What control tells of NAT, over real workers.

use api::{MappingPage, MappingQuery};
use testkit::pkt;
use types::{MacAddr, WorkerId};

use crate::control::fake::{Bench, LAN, SHOP, WAN};

const OFFICE: &str = r#"
snat:
  guests: { match: { source: [ 198.18.0.64/26 ] }, action: drop }
  office:
    match: { source: [ 198.18.0.0/24 ], out_dev: wan0, except: { destination: [ 100.64.0.0/10 ] } }
    wan_addresses: [ { address: 203.0.113.20, weight: 3 } ]
    limits: { ports: 5, new_sessions_per_second: 100 }
forwarding:
  rules:
    no-mail: { match: { destination_ports: [ "25" ] }, action: drop }
    private: { match: { destination: [ 100.64.0.0/10 ] }, action: accept }
neighbours:
  - { address: 203.0.113.1, mac: "02:00:00:00:00:fe", dev: wan0 }
"#;

/// A SYN of an inside host comes in; true if anything leaves.
fn syn(bench: &mut Bench, from: &str, port: u16, to: &str, dport: u16) -> bool {
    let mac = bench.control.state().snapshot.interfaces[0].mac;
    let packet = pkt().eth(MacAddr([2, 0, 0, 0, 0, 9]), mac).ipv4(from, to);
    bench.arrive(WorkerId(0), LAN, packet.tcp(port, dport).syn().build());
    (0..4).for_each(|_| bench.turn());
    let sent = bench.sent(WAN);
    sent.iter().any(|sent| sent.eth_dst == MacAddr([2, 0, 0, 0, 0, 0xfe]))
}

async fn bench() -> Bench {
    Bench::start(&format!("{SHOP}{OFFICE}")).await
}

async fn page(bench: &mut Bench, query: MappingQuery) -> MappingPage {
    let control = bench.control.clone();
    bench.run(async move { control.mappings(query).await }).await.unwrap()
}

#[tokio::test]
async fn rules_count_what_they_did() {
    let mut bench = bench().await;
    for port in 40_000..40_007 {
        assert_eq!(syn(&mut bench, "198.18.0.50", port, "192.0.2.9", 443), port < 40_005);
    }
    assert!(syn(&mut bench, "198.18.0.50", 40_000, "100.64.0.1", 80));
    assert!(!syn(&mut bench, "198.18.0.50", 40_000, "192.0.2.9", 25));
    assert!(!syn(&mut bench, "198.18.0.65", 40_000, "192.0.2.9", 80));
    let control = bench.control.clone();
    let rules = bench.run(async move { control.snat_rules().await }).await.unwrap();
    let [guests, office] = &rules[..] else { panic!("{rules:?}") };
    assert_eq!((guests.position, guests.dropped, guests.accepted), (1, 1, 0));
    assert_eq!((office.position, office.dropped, office.accepted), (2, 0, 1));
    assert_eq!((office.mappings, office.limited), (5, 2));
    let traffic = &office.traffic;
    assert_eq!((traffic.active, traffic.connections, traffic.refused), (5, 5, 2));
    let control = bench.control.clone();
    let one = bench.run(async move { control.snat_rule("office").await }).await.unwrap();
    assert_eq!((one.position, one.mappings), (2, 5));
    let control = bench.control.clone();
    let none = bench.run(async move { control.snat_rule("nobody").await }).await.unwrap_err();
    assert_eq!(none.status(), 404);

    bench.workers.iter_mut().for_each(|worker| worker.publish());
    let control = bench.control.clone();
    let forwarding = bench.run(async move { control.forwarding().await }).await.unwrap();
    let [mail, private] = &forwarding.rules[..] else { panic!("{forwarding:?}") };
    assert_eq!((mail.packets, private.packets, private.position), (1, 1, 2));
    assert!(mail.bytes >= 40 && private.bytes >= 40);
    assert!(forwarding.accepts);
    assert_eq!((forwarding.forwarded, forwarding.denied), (1, 1));
}

#[tokio::test]
async fn mappings_come_by_pages_and_by_what_is_asked() {
    let mut bench = bench().await;
    for (host, ports) in [("198.18.0.50", 0..5), ("198.18.0.51", 5..7), ("198.18.0.52", 7..9)] {
        for port in ports {
            assert!(syn(&mut bench, host, 40_000 + port, "192.0.2.9", 443));
        }
    }
    let all = page(&mut bench, MappingQuery::default()).await;
    assert_eq!((all.mappings.len(), all.next), (9, None));
    let mapping = &all.mappings[0];
    assert_eq!(mapping.rule.as_deref(), Some("office"));
    assert_eq!(mapping.outside.address.to_string(), "203.0.113.20");
    assert_eq!(mapping.connections, 1);

    let mut paged = Vec::new();
    let mut query = MappingQuery { limit: Some(2), ..MappingQuery::default() };
    loop {
        let page = page(&mut bench, query.clone()).await;
        assert!(page.mappings.len() <= 2);
        paged.extend(page.mappings.iter().map(|mapping| mapping.inside));
        query.cursor = page.next;
        if query.cursor.is_none() {
            break;
        }
    }
    let mut inside: Vec<_> = all.mappings.iter().map(|mapping| mapping.inside).collect();
    inside.sort();
    paged.sort();
    assert_eq!(paged, inside);

    let of_host = MappingQuery {
        inside: Some("198.18.0.51".parse().unwrap()),
        rule: Some("office".to_owned()),
        ..MappingQuery::default()
    };
    assert_eq!(page(&mut bench, of_host).await.mappings.len(), 2);
    let udp = MappingQuery { protocol: Some(types::Proto::Udp), ..MappingQuery::default() };
    assert_eq!(page(&mut bench, udp).await.mappings.len(), 0);
    let control = bench.control.clone();
    let nobody = MappingQuery { rule: Some("nobody".to_owned()), ..MappingQuery::default() };
    let error = bench.run(async move { control.mappings(nobody).await }).await.unwrap_err();
    assert_eq!(error.status(), 404);
}

#[tokio::test]
async fn a_subscriber_is_asked_of_its_worker() {
    let mut bench = bench().await;
    for host in ["198.18.0.50", "198.18.0.51", "198.18.0.52", "198.18.0.53"] {
        for port in 40_000..40_003 {
            assert!(syn(&mut bench, host, port, "192.0.2.9", 443));
        }
        let control = bench.control.clone();
        let address = host.parse().unwrap();
        let told = bench.run(async move { control.subscriber(address).await }).await.unwrap();
        let [usage] = &told.usage[..] else { panic!("{told:?}") };
        assert_eq!((&*usage.rule, usage.ports, usage.sessions), ("office", 3, 3));
        assert_eq!(usage.wan_address, Some("203.0.113.20".parse().unwrap()));
        assert_eq!(usage.limits.ports, 5);
        assert!((97..=100).contains(&usage.new_sessions_left.unwrap()));
    }
    // What has no ports may be on any worker, by its remote; it is all one host's.
    let mac = bench.control.state().snapshot.interfaces[0].mac;
    for n in 0..8 {
        let packet = pkt().eth(MacAddr([2, 0, 0, 0, 0, 9]), mac);
        let packet = packet.ipv4("198.18.0.54", &*format!("192.0.2.{n}")).protocol(47);
        bench.arrive(WorkerId(0), LAN, packet.payload("gre").build());
        (0..4).for_each(|_| bench.turn());
    }
    let control = bench.control.clone();
    let all = async move { control.connections(Default::default()).await };
    let conns = bench.run(all).await.unwrap().connections;
    let of_host = conns.iter().filter(|conn| conn.client.address.to_string() == "198.18.0.54");
    let workers: std::collections::BTreeSet<u16> = of_host.map(|conn| conn.worker).collect();
    assert_eq!(workers.len(), 2);
    let control = bench.control.clone();
    let address = "198.18.0.54".parse().unwrap();
    let told = bench.run(async move { control.subscriber(address).await }).await.unwrap();
    assert_eq!(told.usage.iter().map(|usage| usage.sessions).collect::<Vec<_>>(), [8]);
    let control = bench.control.clone();
    let address = "198.18.0.99".parse().unwrap();
    let told = bench.run(async move { control.subscriber(address).await }).await.unwrap();
    assert!(told.usage.is_empty());
    let control = bench.control.clone();
    let v6 = "2001:db8::1".parse().unwrap();
    assert!(bench.run(async move { control.subscriber(v6).await }).await.is_err());
}

#[tokio::test]
async fn pools_tell_the_ports_of_all_workers() {
    let mut bench = bench().await;
    for host in ["198.18.0.50", "198.18.0.51", "198.18.0.52"] {
        assert!(syn(&mut bench, host, 40_000, "192.0.2.9", 443));
    }
    let control = bench.control.clone();
    let pools = bench.run(async move { control.wan_addresses().await }).await.unwrap();
    let [wan] = &pools[..] else { panic!("{pools:?}") };
    assert_eq!((wan.address.to_string(), wan.weight), ("203.0.113.20".to_owned(), 3));
    assert_eq!((&wan.rules[..], wan.leaving), (&["office".to_owned()][..], false));
    let taken: Vec<_> = wan.ports.iter().map(|ports| ports.taken).collect();
    assert_eq!(taken, [3, 0, 0]);
    assert!(wan.ports.iter().all(|ports| ports.capacity > 60_000 && ports.resting == 0));
    let control = bench.control.clone();
    bench.run(async move { control.watch_wan_ports().await }).await.unwrap();
    assert_eq!(bench.control.state().wan_watch.crossed(), [0, 0]);
}

/// It is a service inside, and a rule as all others to whoever looks.
#[tokio::test]
async fn a_port_forward_to_several_servers_counts_and_ends_as_any() {
    let web = r#"
dnat:
  web:
    on: "203.0.113.20:8080"
    protocol: tcp
    to: [ "198.18.0.121:80", "198.18.0.122:80" ]
    scheduler: rr
    timeouts: { tcp_syn: 100s }
"#;
    let mut bench = Bench::start(&format!("{SHOP}{OFFICE}{web}")).await;
    let mac = bench.control.state().snapshot.interfaces[1].mac;
    for port in 40_000..40_004 {
        let syn = pkt().eth(MacAddr([2, 0, 0, 0, 0, 0xfe]), mac);
        let syn = syn.ipv4("192.0.2.9", "203.0.113.20").tcp(port, 8080).syn();
        bench.arrive(WorkerId(0), WAN, syn.build());
        (0..4).for_each(|_| bench.turn());
    }
    let control = bench.control.clone();
    let rules = bench.run(async move { control.dnat_rules().await }).await.unwrap();
    let control = bench.control.clone();
    let one = bench.run(async move { control.dnat_rule("web").await }).await.unwrap();
    for rule in rules.iter().chain([&one]) {
        assert_eq!((&*rule.name, rule.traffic.connections), ("web", 4));
        let of_servers: Vec<_> =
            rule.servers.iter().map(|server| server.traffic.connections).collect();
        assert_eq!(of_servers, [2, 2]);
    }
    assert_eq!(rules.len(), 1);
    let control = bench.control.clone();
    let service = bench.run(async move { control.service("dnat/web").await }).await;
    assert_eq!(service.unwrap_err().status(), 404, "of `service` it is none");

    let control = bench.control.clone();
    let list = async move { control.connections(Default::default()).await };
    let conns = bench.run(list).await.unwrap().connections;
    assert_eq!(conns.len(), 4);
    for conn in &conns {
        assert_eq!(conn.service.as_deref(), Some("dnat/web"));
        let whole = conn.idle_ms + conn.expires_in_ms;
        assert!((99_000..=100_000).contains(&whole), "{conn:?}");
    }
    let control = bench.control.clone();
    let reset = api::Removal { connections: api::RemovedConns::Reset };
    let gone = async move { control.delete_dnat("web".to_owned(), reset).await };
    assert!(bench.run(gone).await.unwrap().warnings.is_empty());
    let control = bench.control.clone();
    let list = async move { control.connections(Default::default()).await };
    assert!(bench.run(list).await.unwrap().connections.is_empty());
}
