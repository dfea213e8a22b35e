//! A gateway of several workers does what one of a single worker does: mappings stay whole, and nothing is shared.
//!
//! Each packet arrives at whatever worker; all of them together behave as the model says, which knows of none.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use fib::{Route, RouteKind};
use nat::Gateway;
use nat::gateway::{Filtering, SourceAddress};
use nat::mapping::Endpoint32;
use nat::rules::Match;
use proptest::prelude::*;
use testkit::{Buf, Decoded, PacketBuilder, ip, mac, pkt};
use types::{EthPortId, FlowKey, Proto, Verdict};

use crate::bed::{GatewayPlan, LAN_IP, RS1, RS2, Setup, Testbed, WANS, inside_endpoint, station};

/// One worker shows that the tests are right.
const WORKERS: [u16; 4] = [1, 2, 3, 5];
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
/// Inside hosts; the first one is the server of the port forward.
const HOSTS: usize = 6;
/// Where the forwarded ports begin, and the server's.
const FORWARDED: u16 = 6_000;
const SERVED: u16 = 22;

type End = (u32, u16);

fn host(n: usize) -> u32 {
    if n == 0 { ip(RS1) } else { ip("198.18.0.100") + n as u32 }
}

fn remote(n: usize) -> u32 {
    ip("192.0.2.80") + n as u32
}

fn ends(key: &FlowKey) -> (End, End) {
    ((key.src, key.sport), (key.dst, key.dport))
}

/// A gateway with its inside hosts, whose packets arrive at any worker.
struct Site {
    bed: Testbed,
    arrivals: usize,
}

impl Site {
    fn new(setup: Setup, plan: &GatewayPlan) -> Self {
        let mut bed = setup.gateway(plan);
        for n in 0..HOSTS {
            bed.learn(bed.lan, &std::net::Ipv4Addr::from(host(n)).to_string(), mac(host(n) as u8));
        }
        bed.settled();
        Self { bed, arrivals: 0 }
    }

    fn of(workers: u16, plan: &GatewayPlan) -> Self {
        Self::new(Setup { workers, ..Setup::default() }, plan)
    }

    fn by_host(&self, src: u32, dst: u32) -> PacketBuilder {
        let lan = self.bed.snapshot.interfaces[self.bed.lan].mac;
        pkt().eth(mac(src as u8), lan).ipv4(src, dst)
    }

    fn by_remote(&self, src: u32, dst: u32) -> PacketBuilder {
        self.bed.by_client().ipv4(src, dst)
    }

    /// From inside or from outside, as the address says.
    fn by(&self, src: u32, dst: u32) -> (usize, PacketBuilder) {
        if src >> 8 == host(0) >> 8 {
            (self.bed.lan, self.by_host(src, dst))
        } else {
            (self.bed.wan, self.by_remote(src, dst))
        }
    }

    /// What leaves, and by which interface, when a packet has arrived somewhere.
    fn all(&mut self, from: usize, packet: Buf) -> Vec<(usize, Decoded)> {
        self.arrivals += 1;
        let worker = self.arrivals * 7 / 3 % self.bed.workers.len();
        self.bed.arrive_raw(worker, from, packet);
        self.bed.turn();
        let ports = self.bed.snapshot.interfaces.len();
        (0..ports)
            .flat_map(|port| self.bed.sent(port).into_iter().map(move |it| (port, it)))
            .collect()
    }

    /// What becomes of a packet: it passes, and that is one hop.
    #[track_caller]
    fn passes(&mut self, (from, packet): (usize, PacketBuilder)) -> Decoded {
        let packet = packet.build();
        let ttl = Decoded::check(&packet).ipv4().ttl;
        let mut left = self.all(from, packet);
        assert_eq!(left.len(), 1, "{left:#?}");
        let (port, sent) = left.remove(0);
        let inside = sent.ipv4().dst >> 8 == host(0) >> 8;
        assert_eq!(port, if inside { self.bed.lan } else { self.bed.wan }, "{sent}");
        assert_eq!(sent.ipv4().ttl, ttl - 1, "{sent}");
        sent
    }

    #[track_caller]
    fn is_dropped(&mut self, (from, packet): (usize, PacketBuilder)) {
        let left = self.all(from, packet.build());
        assert!(left.is_empty(), "{left:#?}");
    }

    #[track_caller]
    fn udp(&mut self, from: End, to: End) -> Decoded {
        let (port, packet) = self.by(from.0, to.0);
        self.passes((port, packet.udp(from.1, to.1).payload("hello")))
    }

    /// Who got a packet cannot take it: its sender hears of that, and of its own packet.
    #[track_caller]
    fn refuses(&mut self, got: &Decoded, sent: &FlowKey) {
        let key = got.key();
        let quoted = pkt().ipv4(key.src, key.dst);
        let quoted = match key.proto {
            ICMP => quoted.echo_request(key.sport, 1),
            TCP => quoted.tcp(key.sport, key.dport),
            _ => quoted.udp(key.sport, key.dport),
        };
        let (port, error) = self.by(key.dst, key.src);
        let told = self.passes((port, error.icmp(3, 3, 0).quote(&quoted)));
        assert_eq!(told.ipv4().dst, sent.src);
        assert_eq!(ends(&told.quoted().key), ends(sent), "{told}");
    }

    /// Mappings, which must be whole: none is on two workers.
    fn mappings(&self) -> HashMap<(u8, End), End> {
        let mut all = HashMap::new();
        for nat in self.bed.workers.iter().filter_map(|worker| worker.core.nat.as_ref()) {
            let (mut cursor, mut budget) = (0, u32::MAX);
            while let Some(mapping) = nat.mappings().next(&mut cursor, &mut budget) {
                let of = |end: Endpoint32| (end.address, end.l4_port);
                let before = all.insert((mapping.proto, of(mapping.inside)), of(mapping.outside));
                assert_eq!(before, None, "{mapping:?} twice");
            }
        }
        all
    }
}

/// What the inside and the outside have said so far.
#[derive(Default)]
struct Model {
    outside: HashMap<(u8, End), End>,
    /// Inside endpoints and whom they have sent to.
    spoken: HashSet<(u8, End, End)>,
    /// Clients of forwarded ports.
    clients: HashSet<(End, u16)>,
}

impl Model {
    /// The outside endpoint of an inside one, as it was seen: always the same, and nobody else's.
    #[track_caller]
    fn seen(&mut self, proto: u8, inside: End, outside: End) {
        assert_eq!(outside.0, ip(WANS[0]));
        if let Some(known) = self.outside.get(&(proto, inside)) {
            assert_eq!(*known, outside, "another one for {inside:?}");
            return;
        }
        let taken = self.outside.iter().any(|((of, _), end)| *of == proto && *end == outside);
        assert!(!taken, "{outside:?} is another's");
        self.outside.insert((proto, inside), outside);
    }

    /// Whether an inside endpoint takes packets from another one, whose outside endpoint is `from` if it has one.
    fn may_be_met(&self, filtering: Filtering, inside: End, from: Option<End>) -> bool {
        let address = (ip(WANS[0]), 0);
        match (filtering, from) {
            (Filtering::EndpointIndependent, _) => true,
            (Filtering::AddressDependent, _) => self.may_enter(filtering, inside, address),
            (Filtering::AddressAndPortDependent, from) => {
                from.is_some_and(|from| self.may_enter(filtering, inside, from))
            }
        }
    }

    fn may_enter(&self, filtering: Filtering, inside: End, from: End) -> bool {
        match filtering {
            Filtering::EndpointIndependent => true,
            Filtering::AddressDependent => self
                .spoken
                .iter()
                .any(|(proto, own, to)| (*proto, *own, to.0) == (UDP, inside, from.0)),
            Filtering::AddressAndPortDependent => self.spoken.contains(&(UDP, inside, from)),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// An inside host sends to a remote.
    Out(usize, u16, usize, u16),
    /// A remote sends to the outside endpoint of an inside one.
    In(usize, u16, usize, u16),
    /// An inside host sends to the outside endpoint of another one's.
    Meet(usize, u16, usize, u16),
    /// A remote sends to a forwarded port, and the server answers.
    Forwarded(usize, u16, u16),
    /// An inside host pings a remote.
    Ping(usize, u16, usize),
    /// A remote sends to a port that nobody has.
    Nobody(usize, u16),
}

fn step() -> impl Strategy<Value = Step> {
    // The server's own ports are among those that hosts send from.
    let own = || prop_oneof![5_000..5_003_u16, SERVED..SERVED + 2];
    prop_oneof![
        4 => (0..HOSTS, own(), 0..4_usize, 53..56_u16).prop_map(|(a, b, c, d)| Step::Out(a, b, c, d)),
        4 => (0..HOSTS, own(), 0..4_usize, 53..56_u16).prop_map(|(a, b, c, d)| Step::In(a, b, c, d)),
        3 => (0..HOSTS, own(), 0..HOSTS, own()).prop_map(|(a, b, c, d)| Step::Meet(a, b, c, d)),
        3 => (0..4_usize, 30_000..30_004_u16, 0..2_u16).prop_map(|(a, b, c)| Step::Forwarded(a, b, c)),
        1 => (0..HOSTS, 1..4_u16, 0..4_usize).prop_map(|(a, b, c)| Step::Ping(a, b, c)),
        1 => (0..4_usize, 40_000..60_000_u16).prop_map(|(a, b)| Step::Nobody(a, b)),
    ]
}

fn play(site: &mut Site, model: &mut Model, filtering: Filtering, step: Step, refused: bool) {
    let wan = ip(WANS[0]);
    let (sent, got) = match step {
        Step::Out(n, sport, to, dport) => {
            let (inside, to) = ((host(n), sport), (remote(to), dport));
            let got = site.udp(inside, to);
            let (outside, at) = ends(&got.key());
            assert_eq!(at, to);
            model.seen(UDP, inside, outside);
            model.spoken.insert((UDP, inside, to));
            ((inside, to), got)
        }
        Step::In(n, sport, from, rport) => {
            let (inside, from) = ((host(n), sport), (remote(from), rport));
            let Some(&outside) = model.outside.get(&(UDP, inside)) else { return };
            if !model.may_enter(filtering, inside, from) {
                let packet = site.by_remote(from.0, wan).udp(from.1, outside.1);
                site.is_dropped((site.bed.wan, packet));
                return;
            }
            let got = site.udp(from, outside);
            assert_eq!(ends(&got.key()), (from, inside));
            ((from, outside), got)
        }
        Step::Meet(n, sport, other, dport) => {
            let (inside, other) = ((host(n), sport), (host(other), dport));
            let Some(&to) = model.outside.get(&(UDP, other)) else { return };
            if inside.0 == other.0 {
                return;
            }
            // What is kept from coming in has gone out, and lets the other one's packets in.
            model.spoken.insert((UDP, inside, to));
            let own = model.outside.get(&(UDP, inside)).copied();
            if !model.may_be_met(filtering, other, own) {
                let before = site.mappings();
                let packet = site.by_host(inside.0, to.0).udp(inside.1, to.1);
                site.is_dropped((site.bed.lan, packet));
                let after = site.mappings();
                assert_eq!(after.len(), before.len() + usize::from(own.is_none()));
                model.seen(UDP, inside, after[&(UDP, inside)]);
                return;
            }
            let got = site.udp(inside, to);
            let (outside, at) = ends(&got.key());
            assert_eq!(at, other);
            model.seen(UDP, inside, outside);
            ((inside, to), got)
        }
        Step::Forwarded(from, rport, n) => {
            let (from, to) = ((remote(from), rport), (wan, FORWARDED + n));
            let got = site.udp(from, to);
            assert_eq!(ends(&got.key()), (from, (host(0), SERVED + n)));
            model.clients.insert((from, n));
            let answer = site.udp((host(0), SERVED + n), from);
            assert_eq!(ends(&answer.key()), (to, from));
            ((from, to), got)
        }
        Step::Ping(n, id, to) => {
            let (inside, to) = ((host(n), id), remote(to));
            let packet = site.by_host(inside.0, to).echo_request(id, 1);
            let got = site.passes((site.bed.lan, packet));
            let outside = (got.ipv4().src, got.icmp().ident());
            model.seen(ICMP, inside, outside);
            let answer = site.by_remote(to, wan).echo_reply(outside.1, 1);
            let back = site.passes((site.bed.wan, answer));
            assert_eq!((back.ipv4().dst, back.icmp().ident()), inside);
            ((inside, (to, id)), got)
        }
        Step::Nobody(from, dport) => {
            if model.outside.values().any(|end| end.1 == dport) {
                return;
            }
            let packet = site.by_remote(remote(from), wan).udp(53, dport);
            site.is_dropped((site.bed.wan, packet));
            return;
        }
    };
    if refused {
        let ((src, sport), (dst, dport)) = sent;
        let proto = got.key().proto;
        site.refuses(&got, &FlowKey { src, sport, dst, dport, proto, ..got.key() });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever inside hosts, remotes, clients and servers say, however it arrives: all workers together are one
    /// gateway.
    #[test]
    fn several_workers_are_one_gateway(
        steps in prop::collection::vec((step(), any::<bool>()), 1..60),
        filtering in prop_oneof![
            2 => Just(Filtering::EndpointIndependent),
            1 => Just(Filtering::AddressDependent),
            1 => Just(Filtering::AddressAndPortDependent),
        ],
        one_arm in any::<bool>(),
        arrivals in 0..30_usize,
    ) {
        let to = inside_endpoint(SERVED);
        let plan = GatewayPlan {
            forward: Some((Proto::Udp, FORWARDED..=FORWARDED + 1, to)),
            source: SourceAddress::Keep,
            ..GatewayPlan::default()
        };
        let plan = plan.settings(|settings| settings.filtering = filtering);
        for workers in WORKERS {
            let mut site = Site::new(Setup { workers, one_arm, ..Setup::default() }, &plan);
            site.arrivals = arrivals;
            let mut model = Model::default();
            for (step, refused) in &steps {
                play(&mut site, &mut model, filtering, *step, *refused);
            }
            prop_assert_eq!(site.mappings(), model.outside);
        }
    }
}

/// Also if the answering remotes are within the sources of a rule, or a rule has no sources.
#[test]
fn answers_come_home_whoever_sends_them() {
    for (sources, workers) in [vec![], vec![0..=u32::MAX]]
        .into_iter()
        .flat_map(|sources: Vec<_>| WORKERS.map(|workers| (sources.clone(), workers)))
    {
        let plan = GatewayPlan {
            matching: Match {
                sources: sources.clone(),
                out_dev: Some(EthPortId(0)),
                ..Match::default()
            },
            ..GatewayPlan::default()
        };
        for one_arm in [false, true] {
            let mut site = Site::new(Setup { workers, one_arm, ..Setup::default() }, &plan);
            for n in 0..30 {
                let (inside, to) = ((host(n % HOSTS), 5_000 + n as u16), (remote(n), 53));
                let out = site.udp(inside, to);
                let (outside, _) = ends(&out.key());
                assert_eq!(outside.0, ip(WANS[0]));
                let back = site.udp(to, outside);
                assert_eq!(ends(&back.key()), (to, inside), "{workers}, {sources:?}");
                let quoted = pkt().ipv4(outside.0, to.0).udp(outside.1, to.1);
                let error = site.by_remote(to.0, outside.0).icmp(3, 3, 0).quote(&quoted);
                let told = site.passes((site.bed.wan, error));
                assert_eq!(ends(&told.quoted().key), (inside, to));
            }
        }
    }
}

/// RFC 4787 REQ-9 with REQ-8: who filters is met by those that it has sent to, also if both are inside; and REQ-11:
/// whoever has which worker.
#[test]
fn rfc4787_req9_inside_hosts_punch_holes_whatever_the_filtering() {
    for (workers, filtering) in WORKERS.into_iter().flat_map(|workers| {
        [Filtering::AddressDependent, Filtering::AddressAndPortDependent]
            .map(|filtering| (workers, filtering))
    }) {
        let plan = GatewayPlan::default().settings(|settings| settings.filtering = filtering);
        for other in 1..HOSTS {
            let mut site = Site::of(workers, &plan);
            let (one, other) = ((host(0), 7_000), (host(other), 8_000));
            let (own, _) = ends(&site.udp(one, (remote(0), 53)).key());
            let (others, _) = ends(&site.udp(other, (remote(0), 53)).key());
            site.bed.settled();
            let first = site.by_host(one.0, others.0).udp(one.1, others.1);
            site.is_dropped((site.bed.lan, first));
            assert_eq!(site.bed.values().verdict(Verdict::Filtered), 1, "{workers} workers");
            for _ in 0..2 {
                let got = site.udp(other, own);
                assert_eq!(ends(&got.key()), (others, one), "{workers} workers");
                let sent =
                    FlowKey { src: other.0, sport: other.1, dst: own.0, dport: own.1, ..got.key() };
                site.refuses(&got, &sent);
                let got = site.udp(one, others);
                assert_eq!(ends(&got.key()), (own, other), "{workers} workers");
            }
            assert_eq!(site.bed.mappings(), 2);
            site.bed.live_ms(430_000, 10_000);
            assert_eq!((site.bed.mappings(), site.bed.rule_counts().sessions), (0, 0));
        }
    }
}

/// A TCP conn between inside hosts, by the outside endpoint of one of them.
#[test]
fn inside_hosts_connect_across_workers() {
    for workers in WORKERS {
        let mut site = Site::of(workers, &GatewayPlan::default());
        let tcp = |site: &mut Site, from: End, to: End, flags: u8, numbers: (u32, u32)| {
            let (port, packet) = site.by(from.0, to.0);
            let packet = packet.tcp(from.1, to.1).flags(flags).seq(numbers.0);
            site.passes((
                port,
                if flags & 0x10 != 0 { packet.ack(numbers.1).flags(flags) } else { packet },
            ))
        };
        for n in 0..12 {
            let (one, other) =
                ((host(n % HOSTS), 7_000), (host((n + 1 + n / HOSTS) % HOSTS), 8_000 + n as u16));
            let there = tcp(&mut site, other, (remote(0), 443), 0x02, (1, 0));
            let (outside, _) = ends(&there.key());
            let got = tcp(&mut site, one, outside, 0x02, (100, 0));
            let (own, at) = ends(&got.key());
            assert_eq!((own.0, at), (ip(WANS[0]), other));
            for (from, flags, numbers) in [
                (other, 0x12, (500, 101)),
                (one, 0x10, (101, 501)),
                (other, 0x18, (501, 101)),
                (one, 0x11, (101, 501)),
                (other, 0x11, (501, 102)),
                (one, 0x10, (102, 502)),
            ] {
                let (to, seen, at) =
                    if from == one { (outside, own, other) } else { (own, outside, one) };
                let got = tcp(&mut site, from, to, flags, numbers);
                assert_eq!(ends(&got.key()), (seen, at), "{workers} workers, {flags:#x}");
            }
        }
    }
}

/// What we say ourselves about a packet between inside hosts comes to its sender.
#[test]
fn errors_of_ours_reach_the_inside_host() {
    for workers in WORKERS {
        let mut site = Site::of(workers, &GatewayPlan::default());
        let narrow = |host: u32| Route {
            prefix: format!("{}/32", std::net::Ipv4Addr::from(host)).parse().unwrap(),
            kind: RouteKind::Unicast,
            via: None,
            iface: EthPortId(1),
            metric: 0,
            src: None,
            mtu: Some(600),
            on_link: true,
        };
        site.bed.update_fib(|fib| fib.routes.extend((0..HOSTS).map(|n| narrow(host(n)))));
        site.bed.settled();
        for n in 0..HOSTS {
            let (one, other) = ((host(n), 7_000), (host((n + 1) % HOSTS), 8_000));
            let there = site.udp(other, (remote(0), 53));
            let (outside, _) = ends(&there.key());
            site.udp(one, outside);
            let packet = |site: &Site| site.by_host(one.0, outside.0).udp(one.1, outside.1);
            let large = packet(&site).payload_len(800).df();
            let expired = packet(&site).ttl(1);
            for (packet, icmp_type, code) in [(large, 3, 4), (expired, 11, 0)] {
                let left = site.all(site.bed.lan, packet.build());
                let [(port, told)] = left.as_slice() else { panic!("{left:#?}") };
                assert_eq!(
                    (*port, told.ipv4().dst, told.ipv4().src),
                    (site.bed.lan, one.0, ip(LAN_IP))
                );
                assert_eq!((told.icmp().icmp_type, told.icmp().code), (icmp_type, code));
                assert_eq!(ends(&told.quoted().key), (one, outside), "{workers} workers");
                assert!(icmp_type != 3 || told.icmp().rest & 0xffff == 600);
            }
            let last = site.passes((site.bed.lan, packet(&site).ttl(2)));
            assert_eq!(last.ipv4().dst, other.0);
        }
    }
}

/// What an inside host sends to a port that nobody has takes nothing.
#[test]
fn meeting_nobody_takes_no_port() {
    for workers in WORKERS {
        let mut site = Site::of(workers, &GatewayPlan::default());
        for n in 0..40 {
            let packet = site.by_host(host(n % HOSTS), ip(WANS[0]));
            let packet = if n % 2 == 0 {
                packet.udp(5_000, 2_000 + n as u16)
            } else {
                packet.tcp(5_000, 2_000 + n as u16).syn()
            };
            site.is_dropped((site.bed.lan, packet));
        }
        assert_eq!((site.bed.mappings(), site.bed.wan_ports()), (0, 0), "{workers} workers");
        site.bed.after_ms(7_000);
        site.bed.nothing_sent();
    }
}

/// Every worker has ports of a narrow range, and none is wasted.
#[test]
fn a_narrow_range_is_divided_to_the_last_port() {
    for (workers, first, last) in
        [(1, 5_000, 5_000), (2, 5_001, 5_003), (3, 5_000, 5_005), (5, 6_003, 6_012)]
    {
        let plan = GatewayPlan::default().settings(|settings| settings.l4_ports = first..=last);
        let mut site = Site::of(workers, &plan);
        let mut seen = HashSet::new();
        for n in 0..200_u16 {
            let packet = site.by_host(host(usize::from(n) % HOSTS), remote(0)).udp(10_000 + n, 53);
            for (_, sent) in site.all(site.bed.lan, packet.build()) {
                assert!(
                    (first..=last).contains(&sent.key().sport) && seen.insert(sent.key().sport)
                );
            }
        }
        // All ports of those workers that have a host.
        let own = |n: usize| {
            let key = FlowKey { src: host(n), ..FlowKey::default() };
            let owner = site.bed.snapshot.steering.owner(steer::Role::Source, &key);
            site.bed.snapshot.steering.wan_classes_of(owner)
        };
        let expected: HashSet<u16> = (first..=last)
            .filter(|l4_port| (0..HOSTS).any(|n| own(n).contains_port(*l4_port)))
            .collect();
        assert_eq!(seen, expected, "{workers} workers");
    }
}

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
