//! Sizes and identifications of packets with an IPv6 side: room for what shows their client.

use balance::ClientAddress;
use testkit::Decoded;
use wire::Ipv4;

use crate::bed::{Plan, Setup};
use crate::wide::{FOUR_TO_SIX, SIX, SIX_TO_FOUR, WideConn, inward};

/// What is told of an MTU leaves room for the mark: 24 bytes in IPv6, whoever the client is.
#[test]
fn what_is_too_big_is_told_with_room_for_the_mark() {
    let shows = |dns: &mut Plan| dns.spec.client_address = ClientAddress::Option;
    for (kind, ours, routers) in
        [(SIX, 1376, 1276), (FOUR_TO_SIX, 1356, 1256), (SIX_TO_FOUR, 1400, 1300)]
    {
        let mut bed = Setup { lan_mtu: 1400, ..kind.setup().dns(shows) }.build();
        let header = if kind.client6 { 48 } else { 28 };
        let datagram = kind.by_client(&bed).udp(40_000, 53).df();
        bed.receive(bed.wan, datagram.clone().payload_len(1_440 - header));
        let told = bed.one(bed.wan);
        assert_eq!(rest_of(&told), ours, "{kind:?}");
        bed.receive(bed.wan, datagram.payload_len(1_000));
        let sent = bed.take(bed.lan).remove(0);
        let error = crate::wide_errors::error_about(
            &bed,
            kind,
            sent.frame(),
            if kind.server6 { (2, 0, 1_300) } else { (3, 4, 1_300) },
        );
        bed.receive(bed.lan, error);
        assert_eq!(rest_of(&bed.one(bed.wan)), routers.max(if kind == SIX { 1_280 } else { 0 }));
    }
}

fn rest_of(error: &Decoded) -> u32 {
    use testkit::decoded::L4;
    match error.l4() {
        L4::Icmp6(icmp) => icmp.rest,
        L4::Icmp(icmp) => icmp.rest & 0xffff,
        _ => panic!("no error: {error}"),
    }
}

/// RFC 8201 §4: nobody sends less than 1280 bytes, so what shows the client makes way.
#[test]
fn the_smallest_mtu_of_ipv6_is_enough() {
    let mut bed = Setup { lan_mtu: 1_280, ..SIX.setup() }.build();
    let conn = WideConn::open(&mut bed, SIX, 40_000);
    let segment =
        |bed: &crate::bed::Testbed, len: usize| conn.by_client(bed).psh().payload_len(len);
    let long = segment(&bed, 1_400);
    bed.receive(bed.wan, long);
    assert_eq!(rest_of(&bed.one(bed.wan)), 1_280);
    bed.settled();
    let full = segment(&bed, 1_220);
    assert_eq!(inward(&mut bed, full).tcp().options, [0_u8; 0]);
    bed.expect("received+1 sent+1 toa.left-out+1");

    // A router behind us has it, and our own way is wider: from then on nothing is inserted.
    let mut bed = SIX.bed();
    let conn = WideConn::open(&mut bed, SIX, 40_000);
    let full = conn.by_client(&bed).psh().payload_len(1_220);
    bed.receive(bed.wan, full.clone());
    let sent = bed.take(bed.lan).remove(0);
    assert_eq!(sent.frame().len(), 14 + 1_300);
    let error = crate::wide_errors::error_about(&bed, SIX, sent.frame(), (2, 0, 1_290));
    bed.receive(bed.lan, error);
    assert_eq!(rest_of(&bed.one(bed.wan)), 1_280);
    assert_eq!(inward(&mut bed, full).tcp().options, [0_u8; 0]);
}

/// RFC 6864 §4.1: packets between the same two addresses, of whichever conns, are told apart when they are fragmented.
#[test]
fn what_may_be_fragmented_has_an_identification_of_its_own() {
    let mut bed = SIX_TO_FOUR.bed();
    let mut idents = std::collections::HashSet::new();
    for n in 0..3 {
        for client_port in 40_000..40_020 {
            let datagram = SIX_TO_FOUR.by_client(&bed).udp(client_port, 53).payload_len(n);
            bed.receive(bed.wan, datagram);
            let sent = bed.take(bed.lan).remove(0);
            let header = Ipv4::at(sent.frame(), 14).unwrap();
            assert_eq!(header.fragment(), 0);
            assert!(idents.insert(header.ident()), "{n} {client_port}");
        }
    }
}

/// RFC 1191 §7: what a router that tells no MTU may have is less than what the sender's packet was, without what we put in.
#[test]
fn an_mtu_that_was_not_told_is_guessed_below_what_the_sender_sent() {
    let mut bed = SIX_TO_FOUR.bed();
    let conn = WideConn::open(&mut bed, SIX_TO_FOUR, 40_000);
    let full = conn.by_client(&bed).psh().payload_len(1_440);
    bed.receive(bed.wan, full);
    let sent = bed.take(bed.lan).remove(0);
    assert_eq!(sent.frame().len(), 14 + 1_500, "20 bytes less, 20 more");
    let error = crate::wide_errors::error_about(&bed, SIX_TO_FOUR, sent.frame(), (3, 4, 0));
    bed.receive(bed.lan, error);
    assert_eq!(rest_of(&bed.one(bed.wan)), 1_280);
}
