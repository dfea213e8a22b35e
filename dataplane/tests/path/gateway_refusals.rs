//! What a gateway does not do, and what it says then: no port left, more than a host may have, forged sources.

use nat::gateway::{OnExhausted, SourceAddress};
use nat::rules::Match;
use nat::subscribers::Limits;
use testkit::{ip, pkt};
use types::{EthPortId, Proto, Verdict};

use crate::bed::{CLIENT, GatewayPlan, RS1, RS2, Testbed, WANS, inside_endpoint};
use crate::gateway::{OTHER, REMOTE, gateway, out, with};

#[test]
fn rfc6888_req11_exhaustion_is_told_and_nothing_live_goes() {
    let mut bed = with(|plan| {
        plan.settings.l4_ports = 5_000..=5_001;
        plan.settings.on_exhausted = OnExhausted::Prohibited;
    });
    let first = out(&mut bed, RS1, 1, REMOTE, 53).key();
    out(&mut bed, RS1, 2, REMOTE, 53);
    bed.settled();
    bed.receive(bed.lan, bed.by_inside(RS1, REMOTE).udp(3, 53));
    let told = bed.one(bed.lan);
    assert_eq!((told.icmp().icmp_type, told.icmp().code), (3, 13));
    assert_eq!(bed.rule_counts().exhausted, 1);
    let answer = bed.by_outside(REMOTE, WANS[0]).udp(53, first.sport);
    assert_eq!(bed.through(bed.wan, answer, bed.lan).key().dport, 1);
    // Without that option silently.
    let mut bed = with(|plan| plan.settings.l4_ports = 5_000..=5_000);
    out(&mut bed, RS1, 1, REMOTE, 53);
    bed.settled();
    bed.receive(bed.lan, bed.by_inside(RS1, REMOTE).udp(3, 53));
    bed.expect("received+1 drop.wan-exhausted+1");
}

#[test]
fn rfc6888_req4_a_subscriber_has_no_more_than_its_share() {
    let mut bed = with(|plan| plan.settings.limits = Limits { ports: 2, ..Limits::default() });
    for sport in [1, 2] {
        out(&mut bed, RS1, sport, REMOTE, 53);
    }
    bed.settled();
    bed.receive(bed.lan, bed.by_inside(RS1, REMOTE).udp(3, 53));
    bed.expect("received+1 drop.subscriber-limit+1");
    out(&mut bed, RS2, 1, REMOTE, 53);
    out(&mut bed, RS1, 2, OTHER, 53);
}

/// Who sends from outside in the name of an inside host gets no port of that one's, also where the reverse path is
/// not looked at.
#[test]
fn nobody_outside_is_translated_in_the_name_of_an_inside_host() {
    let lan = (ip("198.18.0.0")..=ip("198.18.0.255"), EthPortId(1));
    for sources in [vec![], vec![lan.0.clone()]] {
        let mut bed = with(|plan| {
            plan.topology.networks.push(lan.clone());
            plan.matching.sources = sources;
        });
        bed.settled();
        for packet in [
            bed.by_outside(RS1, REMOTE).udp(5_000, 53),
            bed.by_outside(RS1, REMOTE).protocol(47).payload("gre"),
            bed.by_outside(RS1, REMOTE).echo_request(77, 1),
        ] {
            bed.receive(bed.wan, packet);
            bed.expect("received+1 drop.bad-source+1");
        }
        assert_eq!((bed.mappings(), bed.rule_counts().opened), (0, 0));
        out(&mut bed, RS1, 5_000, REMOTE, 53);
    }
}

/// Also where no route but the default one leads to the source, which is that of remotes with two arms. With one, an
/// inside host may be there as well.
#[test]
fn a_source_that_only_the_default_route_leads_to_is_outside_with_two_arms() {
    let lan = (ip("198.18.0.0")..=ip("198.18.0.255"), EthPortId(1));
    for (two_arms, in_dev) in [(true, None), (true, Some(EthPortId(0))), (false, None)] {
        let mut bed = with(|plan| {
            if two_arms {
                plan.topology.networks.push(lan.clone());
            }
            plan.matching.sources = vec![ip("198.18.0.0")..=ip("198.19.255.255")];
            (plan.matching.in_dev, plan.matching.out_dev) = (in_dev, None);
        });
        bed.settled();
        bed.receive(bed.wan, bed.by_outside("198.19.7.7", REMOTE).udp(5_000, 53));
        if two_arms && in_dev.is_none() {
            bed.expect("received+1 drop.bad-source+1");
        } else {
            assert_eq!(bed.one(bed.wan).key().src, ip(WANS[0]), "two arms: {two_arms}");
        }
    }
}

#[test]
fn forged_sources_are_dropped_by_name() {
    use dataplane::snapshot::ReversePath;
    let mut bed = gateway();
    bed.update(|snapshot| snapshot.policy.reverse_path = ReversePath::Strict);
    bed.settled();
    // An inside source from outside.
    for to in [REMOTE, WANS[0]] {
        bed.receive(bed.wan, bed.by_outside(RS1, to).udp(1, 2));
        bed.expect("received+1 drop.reverse-path+1");
    }
    bed.receive(bed.wan, bed.by_outside(RS1, WANS[0]).protocol(47).payload("gre"));
    bed.expect("received+1 drop.reverse-path+1");
    bed.receive(bed.lan, bed.by_inside(WANS[0], REMOTE).udp(1, 2));
    assert_eq!(bed.values().verdict(Verdict::ReversePath), 4);
    bed.update(|snapshot| snapshot.policy.reverse_path = ReversePath::Off);
    bed.settled();
    bed.receive(bed.lan, bed.by_inside(WANS[0], REMOTE).udp(1, 2));
    bed.expect("received+1 drop.bad-source+1");
    // An error about a packet that its receiver has not sent.
    let quoted = pkt().ipv4(OTHER, REMOTE).udp(1, 2);
    bed.receive(bed.wan, bed.by_outside(REMOTE, WANS[0]).icmp(3, 3, 0).quote(&quoted));
    bed.expect("received+1 drop.bad-icmp+1");
    let quoted = pkt().ipv4(WANS[0], REMOTE).udp(1, 2);
    bed.receive(bed.wan, bed.by_outside(REMOTE, WANS[0]).icmp(3, 3, 0).quote(&quoted));
    bed.expect("received+1 drop.icmp-no-conn+1");
}

/// A gateway with two arms, as `change` makes it.
fn two_arms(change: impl FnOnce(&mut GatewayPlan)) -> Testbed {
    with(|plan| {
        let lan = ip("198.18.0.0")..=ip("198.18.0.255");
        plan.topology.networks.push((lan, EthPortId(1)));
        change(plan);
    })
}

/// Neither by a port forward nor to a mapping, although the reverse path is not looked at.
#[test]
fn nobody_outside_comes_in_by_a_wan_ip_in_the_name_of_an_inside_host() {
    let mut bed = two_arms(|plan| {
        plan.forward = Some((Proto::Tcp, 10_106..=10_106, inside_endpoint(22)));
        plan.source = SourceAddress::Keep;
    });
    let mapped = out(&mut bed, RS1, 5_000, REMOTE, 53).key().sport;
    bed.settled();
    for packet in [
        bed.by_outside(RS2, WANS[0]).tcp(1_000, 10_106).syn(),
        bed.by_outside(RS2, WANS[0]).udp(1_000, mapped),
        bed.by_outside(RS2, WANS[0]).protocol(47).payload("gre"),
    ] {
        bed.receive(bed.wan, packet);
        bed.expect("received+1 drop.bad-source+1");
    }
    // A remote does, and the inside host itself by the inside.
    let syn = bed.by_outside(CLIENT, WANS[0]).tcp(1_000, 10_106).syn();
    bed.through(bed.wan, syn, bed.lan);
    let hello = bed.by_inside(RS2, WANS[0]).udp(6_000, mapped);
    bed.through(bed.lan, hello, bed.lan);
}

/// A rule that names neither sources nor interfaces meets the answer, too.
#[test]
fn answers_to_what_was_excepted_come_in_as_they_are() {
    let cloud = "100.64.3.4";
    let mut bed = two_arms(|plan| {
        plan.matching = Match::default();
        plan.except = Match {
            destinations: vec![ip("100.64.0.0")..=ip("100.127.255.255")],
            ..Match::default()
        };
    });
    let question = bed.by_inside(RS1, cloud).udp(5_000, 53);
    assert_eq!(bed.through(bed.lan, question, bed.wan).key().src, ip(RS1));
    let answer = bed.by_outside(cloud, RS1).udp(53, 5_000);
    let came = bed.through(bed.wan, answer, bed.lan).key();
    assert_eq!((came.src, came.dst, came.dport), (ip(cloud), ip(RS1), 5_000));
    bed.settled();
    // Not in the name of another inside host.
    bed.receive(bed.wan, bed.by_outside(RS2, RS1).udp(53, 5_000));
    bed.expect("received+1 drop.bad-source+1");
    assert_eq!(bed.rule_counts().opened, 0);
}

/// Who stands on the link of the WAN IP is a remote with two arms: no rule without sources is for it.
#[test]
fn the_neighbours_of_the_wan_ip_do_not_use_the_gateway_as_a_relay() {
    let mut bed = two_arms(|plan| plan.matching = Match::default());
    bed.settled();
    bed.receive(bed.wan, bed.by_outside(crate::bed::GATEWAY, REMOTE).udp(5_000, 53));
    bed.expect("received+1 drop.bad-source+1");
    assert_eq!((bed.mappings(), bed.rule_counts().opened), (0, 0));
    out(&mut bed, RS1, 5_000, REMOTE, 53);
}

/// What another inside host opens to a mapping is that one's, and takes nothing of what its owner may open.
#[test]
fn an_inside_host_does_not_use_up_the_sessions_of_another() {
    let limits = Limits { sessions: 3, ..Limits::default() };
    let mut bed = with(|plan| plan.settings.limits = limits);
    let mapped = out(&mut bed, RS1, 5_000, REMOTE, 53).key().sport;
    for sport in 1..=3 {
        let hello = bed.by_inside(RS2, WANS[0]).udp(sport, mapped);
        bed.through(bed.lan, hello, bed.lan);
    }
    bed.settled();
    bed.receive(bed.lan, bed.by_inside(RS2, WANS[0]).udp(4, mapped));
    bed.expect("received+1 drop.subscriber-limit+1");
    for sport in [5_001, 5_002] {
        out(&mut bed, RS1, sport, REMOTE, 53);
    }
    // Without control, so that neighbours do not age.
    (0..70).for_each(|_| bed.after_ms(10_000));
    assert_eq!((bed.mappings(), bed.rule_counts().sessions), (0, 0));
    for sport in 1..=3 {
        out(&mut bed, RS1, sport, REMOTE, 53);
    }
}
