//! What remotes may take through port forwards, and what is left for inside hosts then.

use nat::gateway::SourceAddress;
use testkit::ip;
use types::{Proto, Verdict};

use crate::bed::{
    CLIENT, FORWARD, GatewayPlan, RS1, RS2, TIMEOUT_CLASS, Testbed, WANS, inside_endpoint,
};
use crate::gateway::{REMOTE, out, with};

const SSH: u16 = 10_106;

fn forward(source: SourceAddress, change: impl FnOnce(&mut GatewayPlan)) -> Testbed {
    with(|plan| {
        plan.forward = Some((Proto::Tcp, SSH..=SSH, inside_endpoint(22)));
        plan.source = source;
        change(plan);
    })
}

fn syn(bed: &mut Testbed, sport: u16) {
    bed.receive(bed.wan, bed.by_outside(CLIENT, WANS[0]).tcp(sport, SSH).syn().seq(1));
}

/// The server's SYN|ACK, which a forged SYN gets as well.
fn accept(bed: &mut Testbed, client: &str, sport: u16) {
    let reply = bed.by_inside(RS1, client).tcp(22, sport).syn().seq(9).ack(2);
    bed.through(bed.lan, reply, bed.wan);
}

#[test]
fn strangers_do_not_fill_the_table_through_a_port_forward() {
    let mut bed = forward(SourceAddress::Keep, |plan| plan.max_mappings = 64);
    syn(&mut bed, 1);
    bed.sent(bed.lan);
    accept(&mut bed, CLIENT, 1);
    let proof = bed.by_outside(CLIENT, WANS[0]).tcp(1, SSH).seq(2).ack(10);
    bed.through(bed.wan, proof, bed.lan);
    // An eighth of 64, of which the server answers some.
    for sport in 1_000..1_008 {
        syn(&mut bed, sport);
        bed.sent(bed.lan);
        if sport & 1 == 0 {
            accept(&mut bed, CLIENT, sport);
        }
    }
    bed.settled();
    syn(&mut bed, 2_000);
    bed.expect("received+1 drop.unanswered+1");
    assert_eq!((bed.counts_of(FORWARD).sessions, bed.counts_of(FORWARD).limited), (9, 1));
    out(&mut bed, RS2, 5_000, REMOTE, 53);
    // However much they send, half a minute later they are gone; who has proven to be there is not.
    for _ in 0..4 {
        bed.after_ms(8_000);
        syn(&mut bed, 1_000);
        bed.sent(bed.lan);
    }
    bed.after_ms(1_000);
    assert_eq!(bed.counts_of(FORWARD).sessions, 2, "and one that has come again");
    let more = bed.by_outside(CLIENT, WANS[0]).tcp(1, SSH).seq(2).ack(10).payload("ls");
    assert_eq!(bed.through(bed.wan, more, bed.lan).key().dport, 22);
    let timeouts = bed.workers[0].core.table.timeouts(TIMEOUT_CLASS).tcp_established_ms;
    assert!(timeouts > 3_600_000);
    (0..180).for_each(|_| bed.after_ms(10_000));
    assert_eq!(bed.counts_of(FORWARD).sessions, 1);
}

/// A datagram and its answer, and what the server turns away at once.
#[test]
fn what_is_answered_through_a_port_forward_lives_on_and_what_is_refused_does_not() {
    let mut bed = forward(SourceAddress::Keep, |plan| {
        plan.also = Some((Proto::Udp, 53..=53, inside_endpoint(53)));
    });
    let question = |bed: &Testbed| bed.by_outside(CLIENT, WANS[0]).udp(1, 53);
    bed.through(bed.wan, question(&bed), bed.lan);
    let answer = bed.by_inside(RS1, CLIENT).udp(53, 1);
    bed.through(bed.lan, answer, bed.wan);
    syn(&mut bed, 1_000);
    bed.sent(bed.lan);
    let refused = bed.by_inside(RS1, CLIENT).tcp(22, 1_000).rst().seq(0).ack(2);
    bed.through(bed.lan, refused, bed.wan);
    for _ in 0..60 {
        bed.after_ms(1_000);
    }
    assert_eq!(bed.counts_of(FORWARD).sessions, 0);
    assert_eq!(bed.counts_of(crate::bed::ALSO).sessions, 1);
    bed.through(bed.wan, question(&bed), bed.lan);
}

#[test]
fn clients_of_port_forwards_leave_half_of_the_ports_to_inside_hosts() {
    let mut bed = forward(SourceAddress::Translate, |plan| {
        plan.settings.l4_ports = 5_000..=5_007;
    });
    for sport in 1_000..1_004 {
        syn(&mut bed, sport);
        assert_eq!(bed.one(bed.lan).key().src, ip(WANS[0]));
    }
    bed.settled();
    syn(&mut bed, 1_004);
    bed.expect("received+1 drop.wan-exhausted+1");
    for sport in 1..=4 {
        let syn = bed.by_inside(RS2, REMOTE).tcp(sport, 443).syn().seq(1);
        bed.through(bed.lan, syn, bed.wan);
    }
    assert_eq!(bed.values().verdict(Verdict::WanExhausted), 1);
    // Nobody was answered: the ports are free again, without a rest.
    for _ in 0..32 {
        bed.after_ms(1_000);
    }
    assert_eq!((bed.counts_of(FORWARD).sessions, bed.wan_ports()), (0, 4));
    syn(&mut bed, 1_004);
    let sent = bed.one(bed.lan).key();
    assert_eq!(sent.src, ip(WANS[0]));
    let reply = bed.by_inside(RS1, WANS[0]).tcp(22, sent.sport).syn().seq(9).ack(2);
    assert_eq!(bed.through(bed.lan, reply, bed.wan).key().sport, SSH);
}
