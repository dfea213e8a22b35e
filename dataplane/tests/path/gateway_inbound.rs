//! What comes from outside, and what forwarding and ICMP make of it: who may open what, and how long it lasts.

use nat::gateway::{Filtering, Forwarding, SourceAddress};
use nat::rules::{Action, Match, Rule};
use nat::state::UNANSWERED_MAX;
use nat::subscribers::Limits;
use testkit::{Decoded, ip, pkt};
use types::{EthPortId, Proto, Slot, Verdict};

use crate::bed::{
    ALSO, CLIENT, FORWARD, GATEWAY, GatewayPlan, RS1, RS2, RULE, Setup, Testbed, WANS,
    inside_endpoint,
};

const REMOTE: &str = "192.0.2.80";

fn with(change: impl FnOnce(&mut GatewayPlan)) -> Testbed {
    let mut plan = GatewayPlan::default();
    change(&mut plan);
    Setup::default().gateway(&plan)
}

fn out(bed: &mut Testbed, host: &str, sport: u16) -> u16 {
    let packet = bed.by_inside(host, REMOTE).udp(sport, 53);
    bed.through(bed.lan, packet, bed.wan).key().sport
}

fn knock(bed: &mut Testbed, sport: u16, mapped: u16) -> Option<Decoded> {
    bed.receive(bed.wan, bed.by_outside(CLIENT, WANS[0]).udp(sport, mapped));
    bed.sent(bed.lan).pop()
}

/// Without control, so that neighbours do not age.
fn wait(bed: &mut Testbed, seconds: u32) {
    (0..seconds).for_each(|_| bed.after_ms(1_000));
}

/// Its address is one that the rule translates, but it is not where inside is.
#[test]
fn an_outsider_within_the_sources_of_a_rule_is_an_outsider() {
    for workers in [1, 3] {
        let mut plan = GatewayPlan {
            matching: Match { sources: vec![0..=u32::MAX], ..Match::default() },
            ..GatewayPlan::default()
        };
        let lan = ip("198.18.0.0")..=ip("198.18.0.255");
        plan.topology.networks.push((lan, EthPortId(1)));
        let mut bed = Setup { workers, ..Setup::default() }.gateway(&plan);
        let mapped = out(&mut bed, RS1, 5_000);
        let came = knock(&mut bed, 1_000, mapped).unwrap().key();
        assert_eq!((came.src, came.sport), (ip(CLIENT), 1_000));
        assert_eq!((came.dst, came.dport), (ip(RS1), 5_000));
        bed.settled();
        bed.receive(bed.wan, bed.by_outside(CLIENT, WANS[0]).udp(1_000, mapped ^ 1));
        assert_eq!(bed.values().verdict(Verdict::NoMapping), 1);
        assert_eq!(bed.mappings(), 1, "it has got no mapping of its own");
        let answer = bed.by_inside(RS1, CLIENT).udp(5_000, 1_000);
        assert_eq!(bed.through(bed.lan, answer, bed.wan).key().sport, mapped);
    }
}

#[test]
fn a_rule_that_names_nobody_hairpins_what_comes_from_inside() {
    let mut bed = with(|plan| plan.matching = Match::default());
    let mapped = out(&mut bed, RS1, 5_000);
    let hello = bed.by_inside(RS2, WANS[0]).udp(6_000, mapped);
    bed.receive(bed.lan, hello);
    let met = bed.one(bed.lan).key();
    assert_eq!((met.src, met.dst, met.dport), (ip(WANS[0]), ip(RS1), 5_000));
}

/// RFC 4787 §12: many knock, and the inside host goes on as before.
#[test]
fn rfc4787_req6_strangers_neither_use_up_a_session_nor_keep_a_mapping() {
    let limits = Limits { sessions: 2, ..Limits::default() };
    let mut bed = with(|plan| plan.settings.limits = limits);
    let mapped = out(&mut bed, RS1, 5_000);
    for n in 0..UNANSWERED_MAX {
        assert!(knock(&mut bed, 1_000 + n, mapped).is_some());
    }
    bed.settled();
    assert!(knock(&mut bed, 999, mapped).is_none());
    bed.expect("received+1 drop.unanswered+1");
    assert_eq!(bed.rule_counts().limited, 1);
    out(&mut bed, RS1, 5_001);
    // Nobody has answered for half a minute, whatever comes.
    for _ in 0..40 {
        bed.live_ms(1_000, 1_000);
        knock(&mut bed, 1_000, mapped);
    }
    assert_eq!(bed.rule_counts().sessions, 3, "both of the host's, and one that knocks again");
    // The mapping ends five minutes after the inside host has sent, however many knock.
    for n in 0..40_u16 {
        bed.live_ms(10_000, 5_000);
        knock(&mut bed, 2_000 + n, mapped);
    }
    assert_eq!(bed.mappings(), 0);
    bed.settled();
    assert!(knock(&mut bed, 3_000, mapped).is_none());
    bed.expect("received+1 drop.no-mapping+1");
}

#[test]
fn an_answered_conn_from_outside_is_one_as_others_are() {
    let limits = Limits { sessions: 2, ..Limits::default() };
    let mut bed = with(|plan| plan.settings.limits = limits);
    let mapped = out(&mut bed, RS1, 5_000);
    knock(&mut bed, 1_000, mapped).unwrap();
    knock(&mut bed, 1_001, mapped).unwrap();
    let answer = |bed: &Testbed, to| bed.by_inside(RS1, CLIENT).udp(5_000, to);
    bed.through(bed.lan, answer(&bed, 1_000), bed.wan);
    bed.settled();
    bed.receive(bed.lan, answer(&bed, 1_001));
    bed.expect("received+1 drop.subscriber-limit+1");
    assert_eq!(bed.rule_counts().limited, 1);
    // Two minutes later there is the one that was answered, and it keeps the mapping.
    wait(&mut bed, 200);
    bed.through(bed.wan, bed.by_outside(CLIENT, WANS[0]).udp(1_000, mapped), bed.lan);
    wait(&mut bed, 200);
    assert_eq!((bed.rule_counts().sessions, bed.mappings()), (1, 1));
    let back = bed.through(bed.lan, answer(&bed, 1_000), bed.wan).key();
    assert_eq!(back.sport, mapped);
    wait(&mut bed, 700);
    assert_eq!((bed.rule_counts().sessions, bed.mappings()), (0, 0));
}

#[test]
fn a_tcp_conn_from_outside_waits_for_its_answer() {
    let mut bed = with(|_| {});
    let syn = bed.by_inside(RS1, REMOTE).tcp(5_000, 443).syn().seq(1);
    let mapped = bed.through(bed.lan, syn, bed.wan).key().sport;
    for sport in [1_000, 1_001] {
        let syn = bed.by_outside(CLIENT, WANS[0]).tcp(sport, mapped).syn().seq(7);
        bed.through(bed.wan, syn, bed.lan);
    }
    let answer = bed.by_inside(RS1, CLIENT).tcp(5_000, 1_000).syn().seq(70).ack(8);
    bed.through(bed.lan, answer, bed.wan);
    let refused = bed.by_inside(RS1, CLIENT).tcp(5_000, 1_001).rst().seq(0).ack(8);
    bed.through(bed.lan, refused, bed.wan);
    wait(&mut bed, 45);
    assert_eq!(bed.rule_counts().sessions, 2, "who was turned away is gone, who was not is there");
    let ack = bed.by_outside(CLIENT, WANS[0]).tcp(1_000, mapped).seq(8).ack(71);
    assert_eq!(bed.through(bed.wan, ack, bed.lan).key().dport, 5_000);
}

#[test]
fn what_is_filtered_is_counted_with_its_rule() {
    let mut bed = with(|plan| {
        plan.settings.filtering = Filtering::AddressAndPortDependent;
        plan.forward = Some((Proto::Udp, 7_000..=7_000, inside_endpoint(7)));
        plan.source = SourceAddress::Translate;
    });
    let mapped = out(&mut bed, RS1, 5_000);
    assert!(knock(&mut bed, 1_000, mapped).is_none());
    let syn = bed.by_outside(CLIENT, WANS[0]).tcp(1_000, mapped).syn();
    bed.receive(bed.wan, syn);
    assert_eq!(bed.rule_counts().filtered, 1, "another protocol's port is nobody's");
    // What stands for a client towards the server is not for others.
    let came = knock(&mut bed, 1_000, 7_000).unwrap().key();
    assert_eq!(came.src, ip(WANS[0]));
    bed.settled();
    bed.receive(bed.wan, bed.by_outside(REMOTE, WANS[0]).udp(1, came.sport));
    bed.expect("received+1 drop.filtered+1");
    assert_eq!(bed.counts_of(FORWARD).filtered, 1);
    assert_eq!(bed.counts_of(RULE).filtered, 1);
}

#[test]
fn two_ports_to_one_server_are_told_apart() {
    let connect = |bed: &mut Testbed, l4_port| {
        let syn = bed.by_outside(CLIENT, WANS[0]).tcp(1_000, l4_port).syn().seq(1);
        bed.receive(bed.wan, syn);
    };
    let mut bed = Setup::default().gateway(&GatewayPlan::two_forwards());
    connect(&mut bed, 10_106);
    assert_eq!(bed.one(bed.lan).key().src, ip(CLIENT));
    bed.settled();
    connect(&mut bed, 10_206);
    bed.expect("received+1 drop.forward-taken+1");
    assert_eq!(bed.counts_of(ALSO).limited, 1);

    let plan = GatewayPlan { source: SourceAddress::Auto, ..GatewayPlan::two_forwards() };
    let mut bed = Setup::default().gateway(&plan);
    for (l4_port, src) in [(10_106, CLIENT), (10_206, WANS[0])] {
        connect(&mut bed, l4_port);
        let sent = bed.one(bed.lan).key();
        assert_eq!(sent.src, ip(src));
        let reply = bed.by_inside(RS1, src).tcp(22, sent.sport).syn().seq(9).ack(2);
        assert_eq!(bed.through(bed.lan, reply, bed.wan).key().sport, l4_port);
    }
}

/// As a packet is forwarded, so are errors about it, in both directions.
#[test]
fn errors_about_what_is_only_forwarded_are_forwarded() {
    let excepted = "100.64.3.4";
    let mut bed = with(|plan| {
        plan.except = Match {
            destinations: vec![ip("100.64.0.0")..=ip("100.127.255.255")],
            protocols: vec![112],
            ..Match::default()
        };
    });
    let by_address = pkt().ipv4(RS1, excepted).udp(5_000, 53);
    let by_protocol = pkt().ipv4(RS1, REMOTE).protocol(112).payload("12345678");
    for quoted in [by_address, by_protocol] {
        let error = bed.by_outside(GATEWAY, RS1).icmp(11, 0, 0).quote(&quoted);
        let told = bed.through(bed.wan, error, bed.lan);
        assert_eq!((told.ipv4().src, told.ipv4().dst), (ip(GATEWAY), ip(RS1)));
    }
    let by_address = pkt().ipv4(excepted, RS1).udp(53, 5_000);
    let by_protocol = pkt().ipv4(REMOTE, RS1).protocol(112).payload("12345678");
    for (quoted, to) in [(by_address, excepted), (by_protocol, REMOTE)] {
        let error = bed.by_inside(RS1, to).icmp(3, 3, 0).quote(&quoted);
        let told = bed.through(bed.lan, error, bed.wan);
        assert_eq!((told.ipv4().src, told.ipv4().dst), (ip(RS1), ip(to)));
    }
    bed.settled();
    // Of a conn that would be translated there is none.
    let quoted = pkt().ipv4(REMOTE, RS1).udp(53, 5_000);
    bed.receive(bed.lan, bed.by_inside(RS1, REMOTE).icmp(3, 3, 0).quote(&quoted));
    bed.expect("received+1 drop.icmp-no-conn+1");
}

/// As iptables does, whose FORWARD sees what PREROUTING has made of the destination.
#[test]
fn forwarding_decides_about_what_is_led_inside() {
    const IN: Slot = Slot::new(900, 1);
    let to_server = Match {
        destinations: vec![ip(RS1)..=ip(RS1)],
        destination_ports: vec![22..=22],
        out_dev: Some(EthPortId(1)),
        ..Match::default()
    };
    let outward =
        Match { in_dev: Some(EthPortId(1)), out_dev: Some(EthPortId(0)), ..Match::default() };
    let rule = |slot, matching, action| Rule { slot, matching, action, except: Match::default() };
    let policy = |action| Forwarding {
        rules: vec![
            rule(IN, to_server.clone(), action),
            rule(Slot::new(901, 1), outward.clone(), Action::Accept),
        ],
        policy: Action::Drop,
    };
    for (action, passes) in [(Action::Accept, true), (Action::Drop, false), (Action::Reject, false)]
    {
        let mut bed = with(|plan| {
            plan.forward = Some((Proto::Tcp, 10_106..=10_106, inside_endpoint(22)));
            plan.forwarding = policy(action);
        });
        assert!(bed.begin(IN));
        let syn = bed.by_outside(CLIENT, WANS[0]).tcp(1_000, 10_106).syn().seq(1);
        bed.settled();
        bed.receive(bed.wan, syn);
        if passes {
            assert_eq!(bed.one(bed.lan).key().dst, ip(RS1));
            let reply = bed.by_inside(RS1, CLIENT).tcp(22, 1_000).syn().seq(9).ack(2);
            assert_eq!(bed.through(bed.lan, reply, bed.wan).key().sport, 10_106);
        } else {
            assert_eq!(bed.counts_of(IN).dropped, 1);
            let told = bed.sent(bed.wan).pop().map(|told| told.icmp().code);
            assert_eq!(told, (action == Action::Reject).then_some(13));
        }
        // A mapping leads inside by the same rules: this one to a port that none accepts.
        let mapped = out(&mut bed, RS1, 5_000);
        bed.settled();
        assert!(knock(&mut bed, 1_000, mapped).is_none());
        bed.expect("received+1 drop.forward-denied+1");
        let answer = bed.by_outside(REMOTE, WANS[0]).udp(53, mapped);
        bed.through(bed.wan, answer, bed.lan);
    }
}

/// RFC 7857 §12: a query from inside for another inside host's identifier finds that host.
#[test]
fn rfc7857_12_pings_of_inside_hosts_are_hairpinned() {
    let mut bed = with(|_| {});
    let ping = bed.by_inside(RS1, REMOTE).echo_request(77, 1);
    let mapped = bed.through(bed.lan, ping, bed.wan).icmp().ident();
    bed.receive(bed.lan, bed.by_inside(RS2, WANS[0]).echo_request(mapped, 5).payload("?"));
    let asked = bed.one(bed.lan);
    assert_eq!((asked.ipv4().src, asked.ipv4().dst), (ip(WANS[0]), ip(RS1)));
    assert_eq!((asked.icmp().ident(), asked.icmp().seq()), (77, 5));
    bed.receive(bed.lan, bed.by_inside(RS1, WANS[0]).echo_reply(77, 5).payload("!"));
    let told = bed.one(bed.lan);
    assert_eq!((told.ipv4().src, told.ipv4().dst), (ip(WANS[0]), ip(RS2)));
    assert_eq!(told.icmp().ident(), mapped);
    bed.settled();
    // Another identifier is nobody's, and from outside each is: the WAN IP answers itself.
    bed.receive(bed.lan, bed.by_inside(RS2, WANS[0]).echo_request(mapped ^ 1, 1));
    bed.expect("received+1 answered+1 generated+1 sent+1 answer.echo+1");
    bed.sent(bed.lan);
    bed.receive(bed.wan, bed.by_outside(CLIENT, WANS[0]).echo_request(mapped, 1));
    bed.expect("received+1 answered+1 generated+1 sent+1 answer.echo+1");
    bed.sent(bed.wan);
    bed.live_ms(200_000, 5_000);
    assert_eq!((bed.rule_counts().sessions, bed.mappings()), (0, 0));
}

/// RFC 5382 REQ-10, RFC 4787 REQ-12, RFC 5508 REQ-6, RFC 7857 §7.1.
#[test]
fn an_error_neither_ends_nor_refreshes_what_a_gateway_translates() {
    for (is_tcp, idle_ms) in [(false, 300_000), (true, 7_440_000)] {
        let mut bed = with(|_| {});
        let mapped = if is_tcp {
            let syn = bed.by_inside(RS1, REMOTE).tcp(5_000, 53).syn().seq(1);
            let mapped = bed.through(bed.lan, syn, bed.wan).key().sport;
            let reply = bed.by_outside(REMOTE, WANS[0]).tcp(53, mapped).syn().seq(9).ack(2);
            bed.through(bed.wan, reply, bed.lan);
            let ack = bed.by_inside(RS1, REMOTE).tcp(5_000, 53).seq(2).ack(10);
            bed.through(bed.lan, ack, bed.wan);
            mapped
        } else {
            let mapped = out(&mut bed, RS1, 5_000);
            let answer = bed.by_outside(REMOTE, WANS[0]).udp(53, mapped);
            bed.through(bed.wan, answer, bed.lan);
            mapped
        };
        (0..(idle_ms - 100_000) / 10_000).for_each(|_| bed.after_ms(10_000));
        let quote = |packet: testkit::PacketBuilder, sport, dport| {
            if is_tcp { packet.tcp(sport, dport) } else { packet.udp(sport, dport) }
        };
        let sent = quote(pkt().ipv4(WANS[0], REMOTE), mapped, 53);
        let error = bed.by_outside(GATEWAY, WANS[0]).icmp(3, 1, 0).quote(&sent);
        assert_eq!(bed.through(bed.wan, error, bed.lan).ipv4().dst, ip(RS1));
        let got = quote(pkt().ipv4(REMOTE, RS1), 53, 5_000);
        let error = bed.by_inside(RS1, REMOTE).icmp(3, 3, 0).quote(&got);
        assert_eq!(bed.through(bed.lan, error, bed.wan).ipv4().src, ip(WANS[0]));
        assert_eq!((bed.rule_counts().sessions, bed.mappings()), (1, 1), "tcp: {is_tcp}");
        (0..11).for_each(|_| bed.after_ms(10_000));
        assert_eq!((bed.rule_counts().sessions, bed.mappings()), (0, 0), "tcp: {is_tcp}");
    }
}
