//! What is open goes on when port forwards come, change and go, on any number of workers.

use std::collections::HashSet;
use std::sync::Arc;

use nat::Gateway;
use nat::gateway::SourceAddress;
use nat::mapping::Endpoint32;
use testkit::ip;
use types::Proto;

use crate::bed::{GatewayPlan, RS1, RS2, Setup, WANS, inside_endpoint, station};
use crate::gateway_site::{End, FORWARDED, HOSTS, SERVED, Site, UDP, WORKERS, ends, host, remote};

/// With another configuration of port forwards; what of earlier ones is to be remembered, as control does it.
fn change(site: &mut Site, plan: &GatewayPlan, mut between: impl FnMut(&mut Site)) {
    let gateway: Arc<Gateway> = Arc::new(plan.gateway());
    let services = site.bed.snapshot.services.clone();
    let earlier = site.bed.snapshot.earlier_after(&services, [], Some(&gateway));
    let before = Arc::clone(&site.bed.snapshot);
    let mut snapshot = dataplane::snapshot::Snapshot::clone(&before);
    snapshot.generation += 1;
    (snapshot.gateway, snapshot.earlier) = (Some(gateway), earlier);
    site.bed.snapshot = Arc::new(snapshot);
    for worker in 0..site.bed.workers.len() {
        site.bed.update_worker(worker);
        between(site);
    }
}

#[test]
fn open_conns_outlive_the_change_and_the_end_of_their_forward() {
    let to = |server: &str| Endpoint32::new(ip(server), SERVED);
    let plan =
        |forward| GatewayPlan { forward, source: SourceAddress::Keep, ..GatewayPlan::default() };
    let forwards = [
        Some((Proto::Tcp, FORWARDED..=FORWARDED + 9, to(RS1))),
        Some((Proto::Tcp, FORWARDED..=FORWARDED + 9, to(RS2))),
        None,
        Some((Proto::Tcp, FORWARDED + 2..=FORWARDED + 4, to(RS2))),
        Some((Proto::Tcp, FORWARDED..=FORWARDED + 9, to(RS1))),
    ];
    for workers in WORKERS {
        let mut site = Site::of(workers, &plan(forwards[0].clone()));
        // Each: client, forwarded port, server.
        let mut conns: Vec<(End, End, End)> = Vec::new();
        let go_on = |site: &mut Site, conns: &[(End, End, End)]| {
            for (client, on, server) in conns {
                let there = site.by_remote(client.0, on.0).tcp(client.1, on.1).seq(2).ack(10);
                let got = site.passes((site.bed.wan, there));
                assert_eq!(ends(&got.key()), (*client, *server), "{workers} workers");
                let back = site.by_host(server.0, client.0).tcp(server.1, client.1).seq(10).ack(2);
                let got = site.passes((site.bed.lan, back));
                assert_eq!(ends(&got.key()), (*on, *client), "{workers} workers");
            }
        };
        for (turn, forward) in (0..).zip(&forwards) {
            if turn > 0 {
                change(&mut site, &plan(forward.clone()), |site| go_on(site, &conns));
            }
            let Some((_, l4_ports, to)) = forward else { continue };
            for n in 0..10_u16 {
                let dport = FORWARDED + n;
                if !l4_ports.contains(&dport) {
                    continue;
                }
                let (client, on) =
                    ((remote(n.into()), 30_000 + turn * 100 + n), (ip(WANS[0]), dport));
                let server = (to.address, to.l4_port + dport - l4_ports.start());
                let syn = site.by_remote(client.0, on.0).tcp(client.1, on.1).syn().seq(1);
                let got = site.passes((site.bed.wan, syn));
                assert_eq!(ends(&got.key()), (client, server));
                let back = site
                    .by_host(server.0, client.0)
                    .tcp(server.1, client.1)
                    .flags(0x12)
                    .seq(9)
                    .ack(2);
                assert_eq!(
                    ends(&site.passes((site.bed.lan, back.flags(0x12))).key()),
                    (on, client)
                );
                conns.push((client, on, server));
            }
            go_on(&mut site, &conns);
        }
        assert_eq!(conns.len(), 33);
    }
}

/// A port becomes a forward's that a mapping has: who speaks by the mapping goes on.
#[test]
fn a_mapping_outlives_a_forward_on_its_port() {
    for workers in WORKERS {
        let mut site = Site::of(workers, &GatewayPlan::default());
        let mut conns = Vec::new();
        for n in 0..10 {
            let (inside, to) = ((host(n % HOSTS), 5_000 + n as u16), (remote(n), 53));
            let (outside, _) = ends(&site.udp(inside, to).key());
            conns.push((inside, outside, to));
        }
        for (n, (inside, outside, to)) in (1_000..).zip(conns) {
            let forward = Some((Proto::Udp, outside.1..=outside.1, inside_endpoint(SERVED)));
            change(
                &mut site,
                &GatewayPlan { forward, source: SourceAddress::Keep, ..GatewayPlan::default() },
                |_| (),
            );
            assert_eq!(ends(&site.udp(to, outside).key()), (to, inside));
            assert_eq!(ends(&site.udp(inside, to).key()), (outside, to));
            let client = (remote(90), n);
            assert_eq!(ends(&site.udp(client, outside).key()).1, (host(0), SERVED));
        }
    }
}

/// A server of a service in NAT mode that sends from the same port itself has one mapping, as other hosts have.
#[test]
fn a_server_of_a_service_has_one_mapping_of_its_own() {
    for workers in WORKERS {
        let nat = |plan: &mut crate::bed::Plan| {
            plan.spec.mode = balance::Mode::Nat;
            plan.spec.lips = [].into();
        };
        let servers = [RS1, RS2].map(|server| (ip(server), 53, UDP)).to_vec();
        let plan = GatewayPlan { servers, ..GatewayPlan::default() };
        let setup = Setup { workers, ..Setup::default() }.shop(nat).dns(nat);
        let mut site = Site::new(setup, &plan);
        site.bed.learn(site.bed.lan, RS2, station(RS2));
        let mut seen = HashSet::new();
        for n in 0..30 {
            let (client, vip) = ((remote(n), 40_000), (ip(crate::bed::VIP), 53));
            let (_, server) = ends(&site.udp(client, vip).key());
            assert_eq!(ends(&site.udp(server, client).key()), (vip, client), "{workers} workers");
            let to = (remote(n), 99);
            let (outside, _) = ends(&site.udp((ip(RS1), 53), to).key());
            seen.insert(outside);
            assert_eq!(ends(&site.udp(to, outside).key()), (to, (ip(RS1), 53)));
        }
        assert_eq!((seen.len(), site.bed.mappings()), (1, 1), "{workers} workers");
    }
}
