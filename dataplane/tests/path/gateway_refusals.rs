//! What a gateway does not do, and what it says then: no port left, more than a host may have, forged sources.

use nat::gateway::OnExhausted;
use nat::subscribers::Limits;
use testkit::{ip, pkt};
use types::{EthPortId, Verdict};

use crate::bed::{RS1, RS2, WANS};
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
