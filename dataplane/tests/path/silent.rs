//! Interfaces by which nobody is told why a packet was dropped (`forwarding.silent`).

use dataplane::snapshot::Policy;
use testkit::ip;

use crate::bed::{CLIENT, GatewayPlan, RS1, Setup, Testbed, VIP, WAN_IP, WANS};

const REMOTE: &str = "192.0.2.80";

/// A gateway that tells inside hosts all, and outsiders as little as may be.
fn gateway() -> Testbed {
    let policy = Policy { reject_unserved: true, ..Policy::default() };
    let setup = Setup { policy, lan_mtu: 1_400, ..Setup::default() };
    let mut bed = setup.gateway(&GatewayPlan::default());
    let wan = bed.wan;
    bed.update(|snapshot| {
        let mut interfaces = snapshot.interfaces.to_vec();
        interfaces[wan].silent = true;
        snapshot.interfaces = interfaces.into();
    });
    bed.settled();
    bed
}

/// RFC 5508 REQ-9: a policy may keep errors of our own from leaving by an interface.
#[test]
fn rfc5508_req9_no_error_leaves_by_a_silent_interface() {
    let mut bed = gateway();
    let asked = bed.by_inside(RS1, REMOTE).udp(5_000, 53);
    let mapped = bed.through(bed.lan, asked, bed.wan).key().sport;
    bed.settled();
    for (packet, drop) in [
        (bed.by_outside(REMOTE, WANS[0]).ttl(1).udp(53, mapped), "ttl-exceeded"),
        (bed.by_outside(CLIENT, VIP).udp(1_000, 9), "no-service"),
        (bed.by_outside(CLIENT, WAN_IP).tcp(1_000, 9).syn(), "no-service"),
    ] {
        bed.receive(bed.wan, packet);
        bed.expect(&format!("received+1 drop.{drop}+1"));
        bed.nothing_sent();
    }
    // By the others they are told as ever.
    bed.receive(bed.lan, bed.by_inside(RS1, REMOTE).ttl(1).udp(5_000, 53));
    assert_eq!(bed.one(bed.lan).icmp().icmp_type, 11);
    // And the path's MTU is found by it, too.
    bed.settled();
    let large = bed.by_outside(REMOTE, WANS[0]).df().udp(53, mapped).payload_len(1_460);
    bed.receive(bed.wan, large);
    let told = bed.one(bed.wan);
    assert_eq!((told.icmp().icmp_type, told.icmp().code, told.icmp().rest), (3, 4, 1_400));
    assert_eq!(told.ipv4().dst, ip(REMOTE));
}

/// RFC 5382 REQ-4 a: an unexpected SYN is dropped without a word, even after six seconds.
#[test]
fn rfc5382_req4a_an_unexpected_syn_is_never_answered_where_silence_is_wanted() {
    let mut bed = gateway();
    bed.receive(bed.wan, bed.by_outside(CLIENT, WANS[0]).tcp(1_000, 2_000).syn());
    bed.expect("received+1 drop.no-mapping+1");
    bed.live_ms(20_000, 500);
    bed.nothing_sent();
    bed.settled();
}
