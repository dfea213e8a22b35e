//! A gateway of several workers does what one of a single worker does: mappings stay whole, and nothing is shared.
//!
//! Each packet arrives at whatever worker; all of them together behave as the model says, which knows of none.

use std::collections::{HashMap, HashSet};

use fib::{Route, RouteKind};
use nat::gateway::{Filtering, SourceAddress};
use nat::rules::Match;
use proptest::prelude::*;
use testkit::{ip, pkt};
use types::{EthPortId, FlowKey, Proto, Verdict};

use crate::bed::{GatewayPlan, LAN_IP, Setup, WANS, inside_endpoint};
use crate::gateway_site::{
    End, FORWARDED, HOSTS, ICMP, SERVED, Site, UDP, WORKERS, ends, host, remote,
};

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
