//! SNAT, port forwards and forwarding on a real worker.

use fib::{Route, RouteKind};
use nat::gateway::{Filtering, MappingKind, MssClamp, SourceAddress};
use nat::mapping::Endpoint32;
use nat::rules::Match;
use testkit::{Decoded, ip, pkt};
use types::{EthPortId, Proto, Verdict};

use crate::bed::{
    CLIENT, GATEWAY, GatewayPlan, LAN_IP, RS1, RS2, Setup, Testbed, WAN_IP, WANS, inside_endpoint,
    station,
};

pub const REMOTE: &str = "192.0.2.80";
pub const OTHER: &str = "192.0.2.81";

pub fn gateway() -> Testbed {
    Setup::default().gateway(&GatewayPlan::default())
}

pub fn with(change: impl FnOnce(&mut GatewayPlan)) -> Testbed {
    let mut plan = GatewayPlan::default();
    change(&mut plan);
    Setup::default().gateway(&plan)
}

/// Sends a datagram out; as it leaves.
pub fn out(bed: &mut Testbed, host: &str, sport: u16, remote: &str, dport: u16) -> Decoded {
    let packet = bed.by_inside(host, remote).udp(sport, dport).payload("question");
    bed.through(bed.lan, packet, bed.wan)
}

#[test]
fn a_datagram_goes_out_and_its_answer_comes_back() {
    let mut bed = gateway();
    let sent = out(&mut bed, RS1, 5_000, REMOTE, 53).key();
    assert_eq!((sent.src, sent.dst, sent.dport), (ip(WANS[0]), ip(REMOTE), 53));
    assert!(sent.sport >= 1_024);
    bed.expect("received+1 sent+1 conn.opened+1 conns+1");
    let answer = bed.by_outside(REMOTE, WANS[0]).udp(53, sent.sport).payload("answer");
    let back = bed.through(bed.wan, answer, bed.lan).key();
    assert_eq!((back.src, back.sport), (ip(REMOTE), 53));
    assert_eq!((back.dst, back.dport), (ip(RS1), 5_000));
    bed.expect("received+1 sent+1");
    assert_eq!((bed.mappings(), bed.wan_ports()), (1, 1));

    bed.live_ms(310_000, 10_000);
    assert_eq!(bed.mappings(), 0);
    assert_eq!(bed.rule_counts().sessions, 0);
    assert_eq!(bed.rule_counts().forward_packets, 1);
    assert_eq!(bed.wan_ports(), 1, "the port rests (RFC 6888 REQ-8)");
    bed.live_ms(130_000, 10_000);
    assert_eq!(bed.wan_ports(), 0);
}

/// RFC 4787 REQ-1, RFC 5382 REQ-1: one mapping for all remotes; REQ-8: and any may answer.
#[test]
fn rfc4787_req1_a_mapping_is_for_all_remotes() {
    let mut bed = gateway();
    let first = out(&mut bed, RS1, 5_000, REMOTE, 53).key();
    let second = out(&mut bed, RS1, 5_000, OTHER, 99).key();
    assert_eq!((first.src, first.sport), (second.src, second.sport));
    assert_eq!(bed.mappings(), 1);
    let third = out(&mut bed, RS1, 5_001, REMOTE, 53).key();
    assert_ne!(first.sport, third.sport);
    assert_eq!(first.src, third.src, "paired: RFC 4787 REQ-2");

    let stranger = bed.by_outside(CLIENT, WANS[0]).udp(1, first.sport);
    let back = bed.through(bed.wan, stranger, bed.lan).key();
    assert_eq!((back.src, back.dst, back.dport), (ip(CLIENT), ip(RS1), 5_000));
    let answer = bed.by_inside(RS1, CLIENT).udp(5_000, 1);
    let sent = bed.through(bed.lan, answer, bed.wan).key();
    assert_eq!((sent.src, sent.sport), (ip(WANS[0]), first.sport));
}

#[test]
fn rfc4787_req8_filtering_is_as_the_rule_says() {
    for (filtering, same_address, stranger) in [
        (Filtering::EndpointIndependent, true, true),
        (Filtering::AddressDependent, true, false),
        (Filtering::AddressAndPortDependent, false, false),
    ] {
        let mut bed = with(|plan| plan.settings.filtering = filtering);
        let mapped = out(&mut bed, RS1, 5_000, REMOTE, 53).key().sport;
        for (remote, passes) in [(REMOTE, same_address), (CLIENT, stranger)] {
            bed.settled();
            bed.receive(bed.wan, bed.by_outside(remote, WANS[0]).udp(54, mapped));
            if passes {
                bed.expect("received+1 sent+1 conns+1 conn.opened+1");
            } else {
                bed.expect("received+1 drop.filtered+1");
            }
        }
    }
}

#[test]
fn address_and_port_dependent_mapping_gives_each_remote_another_conn() {
    let mut bed = with(|plan| {
        plan.settings.mapping = MappingKind::AddressAndPortDependent;
        plan.settings.filtering = Filtering::AddressAndPortDependent;
    });
    let first = out(&mut bed, RS1, 5_000, REMOTE, 53).key();
    out(&mut bed, RS1, 5_000, OTHER, 53);
    assert_eq!(bed.mappings(), 0);
    let answer = bed.by_outside(REMOTE, WANS[0]).udp(53, first.sport);
    assert_eq!(bed.through(bed.wan, answer, bed.lan).key().dport, 5_000);
    bed.settled();
    bed.receive(bed.wan, bed.by_outside(CLIENT, WANS[0]).udp(53, first.sport));
    bed.expect("received+1 drop.no-mapping+1");
}

#[test]
fn a_tcp_conn_from_syn_to_fin() {
    let mut bed = gateway();
    let syn = bed.by_inside(RS1, REMOTE).tcp(40_000, 443).syn().seq(100).mss(1460).timestamps(7, 0);
    let sent = bed.through(bed.lan, syn, bed.wan);
    let wan_port = sent.key().sport;
    assert_eq!((sent.tcp().seq, sent.tcp().timestamps), (100, Some((7, 0))), "numbers stay");
    assert_eq!(sent.tcp().mss, Some(1460));
    let syn_ack = bed.by_outside(REMOTE, WANS[0]).tcp(443, wan_port).syn().seq(900).ack(101);
    assert_eq!(bed.through(bed.wan, syn_ack, bed.lan).key().dst, ip(RS1));
    let ack = bed.by_inside(RS1, REMOTE).tcp(40_000, 443).seq(101).ack(901);
    bed.through(bed.lan, ack, bed.wan);
    // RFC 5382 REQ-5: it lives for two hours and four minutes.
    // No control meanwhile, so that neighbours do not age.
    (0..7_400).for_each(|_| bed.after_ms(1_000));
    let data = bed.by_inside(RS1, REMOTE).tcp(40_000, 443).seq(101).ack(901).payload("late");
    assert_eq!(bed.through(bed.lan, data, bed.wan).key().sport, wan_port);
    let fin = bed.by_outside(REMOTE, WANS[0]).tcp(443, wan_port).fin().seq(901).ack(105);
    bed.through(bed.wan, fin, bed.lan);
    let fin = bed.by_inside(RS1, REMOTE).tcp(40_000, 443).fin().seq(105).ack(902);
    bed.through(bed.lan, fin, bed.wan);
    let last = bed.by_outside(REMOTE, WANS[0]).tcp(443, wan_port).seq(902).ack(106);
    bed.through(bed.wan, last, bed.lan);
    bed.live_ms(600_000, 10_000);
    assert_eq!((bed.mappings(), bed.wan_ports()), (0, 0));
    bed.receive(bed.lan, bed.by_inside(RS1, REMOTE).tcp(40_000, 443).seq(106).ack(902));
    assert_eq!(bed.values().verdict(Verdict::NotSyn), 1);
}

/// Opens a TCP conn from inside and closes it by both sides; its port outside.
fn talk(bed: &mut Testbed, sport: u16, isn: u32) -> u16 {
    let by_host = |bed: &Testbed| bed.by_inside(RS1, REMOTE).tcp(sport, 443);
    let syn = by_host(bed).syn().seq(isn);
    let wan_port = bed.through(bed.lan, syn, bed.wan).key().sport;
    let by_remote = |bed: &Testbed| bed.by_outside(REMOTE, WANS[0]).tcp(443, wan_port);
    let syn_ack = by_remote(bed).syn().seq(900).ack(isn + 1);
    bed.through(bed.wan, syn_ack, bed.lan);
    let fin = by_host(bed).fin().seq(isn + 1).ack(901);
    bed.through(bed.lan, fin, bed.wan);
    let fin = by_remote(bed).fin().seq(901).ack(isn + 2);
    bed.through(bed.wan, fin, bed.lan);
    let last = by_host(bed).seq(isn + 2).ack(902);
    bed.through(bed.lan, last, bed.wan);
    wan_port
}

/// RFC 5382 REQ-1: also if its only conn ends as the next one begins.
#[test]
fn rfc5382_req1_a_mapping_outlives_the_conn_that_is_opened_anew() {
    let mut bed = gateway();
    let first = talk(&mut bed, 40_000, 100);
    for isn in [1_000_000, 7] {
        bed.after_ms(10_000);
        assert_eq!(talk(&mut bed, 40_000, isn), first);
        assert_eq!((bed.mappings(), bed.wan_ports(), bed.rule_counts().sessions), (1, 1, 1));
    }
    assert_eq!(bed.rule_counts().opened, 3);
    bed.live_ms(300_000, 10_000);
    assert_eq!((bed.mappings(), bed.rule_counts().sessions), (0, 0));
    assert_eq!(bed.wan_ports(), 1, "the port rests");
}

/// RFC 5382 REQ-1, REQ-8: between inside hosts, too, a conn that is opened anew has the mappings of the one before.
#[test]
fn rfc5382_req8_a_hairpinned_conn_is_opened_anew_by_the_same_mappings() {
    let plan = GatewayPlan::default();
    for workers in [1, 2, 3] {
        let mut bed = Setup { workers, ..Setup::default() }.gateway(&plan);
        let syn = bed.by_inside(RS2, REMOTE).tcp(8_000, 443).syn().seq(1);
        let outside = bed.through(bed.lan, syn, bed.wan).key().sport;
        let mut own = None;
        for isn in [100, 1_000_000, 7] {
            let first = bed.by_inside(RS1, WANS[0]).tcp(7_000, outside).syn().seq(isn);
            bed.receive(bed.lan, first);
            let key = bed.one(bed.lan).key();
            assert_eq!((key.dst, key.dport), (ip(RS2), 8_000), "{workers} workers");
            assert_eq!(*own.get_or_insert((key.src, key.sport)), (key.src, key.sport));
            let by_one = |bed: &Testbed| bed.by_inside(RS1, WANS[0]).tcp(7_000, outside);
            let by_other = |bed: &Testbed| bed.by_inside(RS2, WANS[0]).tcp(8_000, key.sport);
            for packet in [
                by_other(&bed).syn().seq(900).ack(isn + 1),
                by_one(&bed).seq(isn + 1).ack(901),
                by_one(&bed).fin().seq(isn + 1).ack(901),
                by_other(&bed).fin().seq(901).ack(isn + 2),
                by_one(&bed).seq(isn + 2).ack(902),
            ] {
                bed.receive(bed.lan, packet);
                let key = bed.one(bed.lan).key();
                assert_eq!(key.src, ip(WANS[0]), "{workers} workers");
            }
            assert_eq!(bed.mappings(), 2, "{workers} workers");
            bed.after_ms(10_000);
        }
        bed.live_ms(9_000_000, 30_000);
        assert_eq!((bed.mappings(), bed.rule_counts().sessions), (0, 0), "{workers} workers");
    }
}

/// RFC 5382 REQ-5: the remote opens the next session by the same ports, and it lives as long as any.
#[test]
fn rfc5382_req5_a_session_that_the_remote_opens_anew_is_no_closed_one() {
    let mut bed = gateway();
    let wan_port = talk(&mut bed, 40_000, 100);
    let by_remote = |bed: &Testbed| bed.by_outside(REMOTE, WANS[0]).tcp(443, wan_port);
    let by_host = |bed: &Testbed| bed.by_inside(RS1, REMOTE).tcp(40_000, 443);
    let syn = by_remote(&bed).syn().seq(5_000);
    bed.through(bed.wan, syn, bed.lan);
    let syn_ack = by_host(&bed).syn().seq(77).ack(5_001);
    bed.through(bed.lan, syn_ack, bed.wan);
    let ack = by_remote(&bed).seq(5_001).ack(78);
    bed.through(bed.wan, ack, bed.lan);
    (0..7_400).for_each(|_| bed.after_ms(1_000));
    let data = by_host(&bed).seq(78).ack(5_001).payload("late");
    assert_eq!(bed.through(bed.lan, data, bed.wan).key().sport, wan_port);
}

/// RFC 5508 REQ-1: queries get another identifier, and their replies the old one.
#[test]
fn rfc5508_req1_a_ping_goes_out_and_comes_back() {
    let mut bed = gateway();
    let ping = bed.by_inside(RS1, REMOTE).echo_request(77, 1).payload("ping");
    let sent = bed.through(bed.lan, ping, bed.wan);
    let ident = (sent.icmp().rest >> 16) as u16;
    assert_eq!((sent.ipv4().src, sent.icmp().rest & 0xffff), (ip(WANS[0]), 1));
    let reply = bed.by_outside(REMOTE, WANS[0]).echo_reply(ident, 1).payload("ping");
    let back = bed.through(bed.wan, reply, bed.lan);
    assert_eq!((back.ipv4().dst, back.icmp().rest), (ip(RS1), 77 << 16 | 1));
    // RFC 5508 REQ-1 a: the identifier is for all remotes.
    let ping = bed.by_inside(RS1, OTHER).echo_request(77, 2);
    assert_eq!((bed.through(bed.lan, ping, bed.wan).icmp().rest >> 16) as u16, ident);
    bed.settled();
    bed.receive(bed.wan, bed.by_outside(REMOTE, WANS[0]).echo_reply(ident ^ 1, 1));
    bed.expect("received+1 drop.no-mapping+1");
    bed.receive(bed.wan, bed.by_outside(REMOTE, WANS[0]).echo_request(1, 1));
    bed.expect("received+1 answered+1 generated+1 sent+1 answer.echo+1");
}

/// Traceroute from inside: our own address first, then the routers'.
#[test]
fn rfc5508_req4_routers_are_seen_by_their_own_addresses() {
    let mut bed = gateway();
    bed.receive(bed.lan, bed.by_inside(RS1, REMOTE).ttl(1).udp(40_000, 33_434));
    let first = bed.one(bed.lan);
    assert_eq!((first.ipv4().src, first.icmp().icmp_type), (ip(LAN_IP), 11));
    let sent = bed.by_inside(RS1, REMOTE).ttl(2).udp(40_000, 33_435);
    let sent = bed.through(bed.lan, sent, bed.wan).key();
    let quoted = pkt().ipv4(sent.src, sent.dst).ttl(1).udp(sent.sport, sent.dport);
    let error = bed.by_outside(GATEWAY, WANS[0]).icmp(11, 0, 0).quote(&quoted);
    let told = bed.through(bed.wan, error, bed.lan);
    assert_eq!((told.ipv4().src, told.ipv4().dst), (ip(GATEWAY), ip(RS1)));
    let inner = told.quoted().key;
    assert_eq!((inner.src, inner.sport), (ip(RS1), 40_000));
}

/// RFC 4787 REQ-9, 9 a: by their outside endpoints, from the sender's own.
#[test]
fn rfc4787_req9_inside_hosts_meet_by_their_outside_endpoints() {
    for workers in [1, 2, 3] {
        let mut bed = Setup { workers, ..Setup::default() }.gateway(&GatewayPlan::default());
        for n in 0..20 {
            let (here, there) = (6_000 + n, 7_000 + n);
            let one = out(&mut bed, RS1, here, REMOTE, 53).key();
            let other = out(&mut bed, RS2, there, REMOTE, 53).key();
            bed.settled();
            let hello = bed.by_inside(RS1, WANS[0]).udp(here, other.sport).payload("hello");
            bed.receive(bed.lan, hello);
            let met = bed.one(bed.lan);
            assert_eq!((met.key().src, met.key().sport), (ip(WANS[0]), one.sport), "{workers}");
            assert_eq!((met.key().dst, met.key().dport), (ip(RS2), there));
            let answer = bed.by_inside(RS2, WANS[0]).udp(there, one.sport).payload("you too");
            bed.receive(bed.lan, answer);
            let back = bed.one(bed.lan).key();
            assert_eq!((back.src, back.sport), (ip(WANS[0]), other.sport));
            assert_eq!((back.dst, back.dport), (ip(RS1), here));
        }
    }
}

/// Both directions of each conn meet at one worker, and mappings stay whole.
#[test]
fn several_workers_share_nothing() {
    let mut bed = Setup { workers: 3, ..Setup::default() }.gateway(&GatewayPlan::default());
    for host in 1..=30_u32 {
        let host = std::net::Ipv4Addr::from(ip("198.18.0.100") + host).to_string();
        bed.learn(bed.lan, &host, station(&host));
        let mut seen = None;
        for dport in [53, 54, 55] {
            let sent = out(&mut bed, &host, 5_000, REMOTE, dport).key();
            assert_eq!(*seen.get_or_insert(sent.sport), sent.sport);
            let answer = bed.by_outside(REMOTE, WANS[0]).udp(dport, sent.sport);
            assert_eq!(bed.through(bed.wan, answer, bed.lan).key().dst, ip(host.as_str()));
        }
    }
    assert_eq!(bed.mappings(), 30);
    let shares: Vec<_> = bed.workers.iter().map(|worker| worker.core.table.len()).collect();
    assert!(shares.iter().all(|share| *share > 0), "{shares:?}");
}

#[test]
fn what_is_excepted_is_routed_unchanged_both_ways() {
    let excepted = "100.64.3.4";
    let mut bed = with(|plan| {
        plan.except = Match {
            destinations: vec![ip("100.64.0.0")..=ip("100.127.255.255")],
            protocols: vec![112],
            ..Match::default()
        };
    });
    let packet = bed.by_inside(RS1, excepted).udp(5_000, 53).payload("as it is");
    let sent = bed.through(bed.lan, packet, bed.wan);
    assert_eq!((sent.key().src, sent.key().sport), (ip(RS1), 5_000));
    bed.expect("received+1 sent+1 packet.forwarded+1");
    let answer = bed.by_outside(excepted, RS1).udp(53, 5_000);
    assert_eq!(bed.through(bed.wan, answer, bed.lan).key().src, ip(excepted));
    bed.expect("received+1 sent+1 packet.forwarded+1");
    let vrrp = bed.by_inside(RS1, REMOTE).protocol(112).payload("vrrp");
    assert_eq!(bed.through(bed.lan, vrrp, bed.wan).ipv4().src, ip(RS1));
    bed.settled();
    bed.receive(bed.lan, bed.by_inside(RS1, excepted).ttl(1).udp(5_000, 53));
    assert_eq!(bed.one(bed.lan).icmp().icmp_type, 11);
    bed.receive(bed.lan, bed.by_inside(RS1, "224.0.0.18").protocol(112));
    assert_eq!(bed.values().verdict(Verdict::NotOurs), 1, "multicast stays on its link");
}

#[test]
fn protocols_without_ports_go_by_their_addresses() {
    for workers in [1, 3] {
        let mut bed = Setup { workers, ..Setup::default() }.gateway(&GatewayPlan::default());
        let packet = bed.by_inside(RS1, REMOTE).protocol(47).payload("gre");
        assert_eq!(bed.through(bed.lan, packet, bed.wan).ipv4().src, ip(WANS[0]));
        let answer = bed.by_outside(REMOTE, WANS[0]).protocol(47).payload("gre");
        assert_eq!(bed.through(bed.wan, answer, bed.lan).ipv4().dst, ip(RS1));
        bed.settled();
        // Nothing would tell the answers of two hosts apart.
        bed.receive(bed.lan, bed.by_inside(RS2, REMOTE).protocol(47).payload("gre"));
        assert_eq!(bed.values().verdict(Verdict::WanExhausted), 1);
        // No inside host is meant by a WAN IP alone.
        bed.receive(bed.lan, bed.by_inside(RS2, WANS[0]).protocol(47).payload("gre"));
        assert_eq!(bed.values().verdict(Verdict::NoMapping), 1);
        assert_eq!(bed.rule_counts().sessions, 1);
    }
}

#[test]
fn a_port_forward_leads_inside_and_back() {
    for (workers, source) in
        [(1, SourceAddress::Keep), (3, SourceAddress::Keep), (3, SourceAddress::Translate)]
    {
        let plan = GatewayPlan {
            forward: Some((Proto::Tcp, 10_106..=10_109, inside_endpoint(22))),
            source,
            ..GatewayPlan::default()
        };
        let mut bed = Setup { workers, ..Setup::default() }.gateway(&plan);
        for n in 0..4_u16 {
            let syn = bed.by_outside(CLIENT, WANS[0]).tcp(30_000 + n, 10_106 + n).syn().seq(1);
            let sent = bed.through(bed.wan, syn, bed.lan).key();
            assert_eq!((sent.dst, sent.dport), (ip(RS1), 22 + n));
            if source == SourceAddress::Keep {
                assert_eq!((sent.src, sent.sport), (ip(CLIENT), 30_000 + n));
            } else {
                assert_eq!(sent.src, ip(WANS[0]));
            }
            let peer = std::net::Ipv4Addr::from(sent.src).to_string();
            let reply = bed.by_inside(RS1, &peer).tcp(22 + n, sent.sport).syn().seq(9).ack(2);
            let back = bed.through(bed.lan, reply, bed.wan).key();
            assert_eq!((back.src, back.sport), (ip(WANS[0]), 10_106 + n));
            assert_eq!((back.dst, back.dport), (ip(CLIENT), 30_000 + n));
        }
        // From inside the server would answer its neighbour directly: so it sees us.
        if source == SourceAddress::Translate {
            continue;
        }
        let plan = GatewayPlan { source: SourceAddress::Auto, ..plan };
        let mut bed = Setup { workers, ..Setup::default() }.gateway(&plan);
        let syn = bed.by_inside(RS2, WANS[0]).tcp(30_000, 10_106).syn().seq(1);
        bed.receive(bed.lan, syn);
        let sent = bed.one(bed.lan).key();
        assert_eq!((sent.src, sent.dst, sent.dport), (ip(WANS[0]), ip(RS1), 22));
        bed.receive(bed.lan, bed.by_inside(RS1, WANS[0]).tcp(22, sent.sport).syn().seq(9).ack(2));
        let back = bed.one(bed.lan).key();
        assert_eq!((back.src, back.sport, back.dst), (ip(WANS[0]), 10_106, ip(RS2)));
    }
}

/// The server's answers must come by us: where they would not, it sees us instead of the client.
#[test]
fn a_server_sees_the_client_unless_it_would_answer_past_us() {
    const ROUTER: &str = "198.18.0.250";
    const BEHIND: [&str; 2] = ["10.7.0.1", "10.7.0.2"];
    for (server, client, past_us) in [
        (RS1, RS2, true),
        (RS1, BEHIND[0], false),
        (BEHIND[0], RS2, true),
        (BEHIND[0], BEHIND[1], true),
    ] {
        let to = Endpoint32::new(ip(server), 22);
        let mut bed = with(|plan| {
            plan.forward = Some((Proto::Tcp, 10_106..=10_106, to));
            plan.source = SourceAddress::Auto;
        });
        bed.update_fib(|fib| {
            fib.routes.push(Route {
                prefix: "10.7.0.0/24".parse().unwrap(),
                kind: RouteKind::Unicast,
                via: ROUTER.parse().ok(),
                on_link: false,
                iface: EthPortId(1),
                metric: 0,
                src: None,
                mtu: None,
            });
        });
        bed.learn(bed.lan, ROUTER, station(ROUTER));
        let syn = bed.by_inside(RS2, WANS[0]).ipv4(client, WANS[0]).tcp(30_000, 10_106).syn();
        bed.receive(bed.lan, syn);
        let sent = bed.one(bed.lan).key();
        assert_eq!((sent.dst, sent.dport), (ip(server), 22));
        let seen = if past_us { WANS[0] } else { client };
        assert_eq!(sent.src, ip(seen), "{client} to {server}");
    }
}

/// RFC 5382 REQ-4: silence for six seconds, then port unreachable; none if the inside host meant to
/// meet that SYN.
#[test]
fn rfc5382_req4_an_unexpected_syn_is_answered_late() {
    let mut bed = gateway();
    bed.receive(bed.wan, bed.by_outside(CLIENT, WANS[0]).tcp(1_000, 2_000).syn());
    bed.expect("received+1 drop.no-mapping+1");
    bed.after_ms(5_900);
    bed.nothing_sent();
    bed.after_ms(200);
    let told = bed.one(bed.wan);
    assert_eq!((told.icmp().icmp_type, told.icmp().code), (3, 3));
    assert_eq!((told.ipv4().src, told.ipv4().dst), (ip(WAN_IP), ip(CLIENT)));
    bed.expect("generated+1 sent+1 answer.icmp-error+1");
}

#[test]
fn the_mss_is_clamped_both_ways() {
    let setup = Setup { wan_mtu: 1_400, ..Setup::default() };
    let plan = GatewayPlan::default().settings(|settings| settings.mss_clamp = MssClamp::Path);
    let mut bed = setup.gateway(&plan);
    let syn = bed.by_inside(RS1, REMOTE).tcp(40_000, 443).syn().seq(1).mss(1_460);
    let sent = bed.through(bed.lan, syn, bed.wan);
    assert_eq!(sent.tcp().mss, Some(1_360));
    let answer = bed.by_outside(REMOTE, WANS[0]).tcp(443, sent.key().sport).syn().seq(5).ack(2);
    assert_eq!(bed.through(bed.wan, answer.mss(1_460), bed.lan).tcp().mss, Some(1_360));
}
