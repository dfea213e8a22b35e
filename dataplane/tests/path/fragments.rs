//! Fragments: each gets what its packet's first one says, in any order, and floods harm nobody else.

use nat::fragments::{TIMEOUT_MS, WAITING_MAX};
use testkit::{Buf, Decoded, PacketBuilder, ip};
use wire::{Ipv4, ipv4};

use crate::bed::{CLIENT, GatewayPlan, LIP, RS1, Setup, Testbed, VIP, WANS};
use crate::conn::Conn;

use Side::{Lan, Wan};

/// A packet in pieces of `len` bytes behind the IPv4 header, as a host or router makes them.
pub fn pieces(packet: &PacketBuilder, len: usize) -> Vec<Buf> {
    let frame = packet.frame();
    let (headers, body) = frame.split_at(34);
    let count = body.len().div_ceil(len);
    let piece = |(n, bytes): (usize, &[u8])| {
        let mut frame = [headers, bytes].concat();
        let mut header = Ipv4::at_mut(&mut frame, 14).unwrap();
        let more = if n + 1 < count { ipv4::MORE_FRAGMENTS } else { 0 };
        header.set_fragment((n * len / 8) as u16 | more);
        finish(&mut header, 20 + bytes.len());
        Buf::new(&frame)
    };
    body.chunks(len).enumerate().map(piece).collect()
}

fn finish(header: &mut Ipv4<&mut [u8; 20]>, total_len: usize) {
    header.set_total_len(total_len as u16);
    header.set_checksum(0);
    let sum = wire::checksum::sum(header.as_bytes());
    header.set_checksum(!sum);
}

/// Puts pieces together as a host does; everything in the whole must be right.
#[track_caller]
pub fn whole(mut pieces: Vec<Buf>) -> Decoded {
    let field = |piece: &Buf| Ipv4::at(piece, 14).unwrap().fragment();
    pieces.sort_unstable_by_key(|piece| field(piece) & ipv4::FRAGMENT_OFFSET);
    let mut frame = pieces[0][..34].to_vec();
    for (n, piece) in pieces.iter().enumerate() {
        Decoded::check(piece);
        let offset = usize::from(field(piece) & ipv4::FRAGMENT_OFFSET) * 8;
        assert_eq!(offset, frame.len() - 34, "a gap before piece {n}");
        assert_eq!(field(piece) & ipv4::MORE_FRAGMENTS != 0, n + 1 < pieces.len());
        frame.extend(&piece[34..]);
    }
    let total_len = frame.len() - 14;
    let mut header = Ipv4::at_mut(&mut frame, 14).unwrap();
    header.set_fragment(0);
    finish(&mut header, total_len);
    Decoded::check(&frame)
}

/// The side that the clients are on, and the servers'.
#[derive(Clone, Copy)]
pub enum Side {
    Wan,
    Lan,
}

#[track_caller]
pub fn arrive(bed: &mut Testbed, side: Side, pieces: impl IntoIterator<Item = Buf>) {
    let interface = match side {
        Wan => bed.wan,
        Lan => bed.lan,
    };
    pieces.into_iter().for_each(|piece| bed.arrive_raw(0, interface, piece));
    bed.turn();
}

pub fn taken(bed: &mut Testbed, side: Side) -> Vec<Buf> {
    match side {
        Wan => bed.take(bed.wan),
        Lan => bed.take(bed.lan),
    }
}

fn question(bed: &Testbed) -> PacketBuilder {
    bed.by_client().ident(77).udp(5000, 53).payload_len(4000)
}

/// RFC 4787 REQ-14: through a VIP and back, in one burst or one by one.
#[test]
fn rfc4787_req14_a_datagram_in_pieces_goes_through_a_vip() {
    for at_once in [true, false] {
        let mut bed = Testbed::usual();
        let all = pieces(&question(&bed), 1480);
        if at_once {
            arrive(&mut bed, Wan, all);
        } else {
            all.into_iter().for_each(|piece| arrive(&mut bed, Wan, [piece]));
        }
        let sent = whole(taken(&mut bed, Lan));
        bed.expect("received+3 sent+3 conns+1 leases+1 conn.opened+1");
        let key = sent.key();
        assert_eq!((key.src, key.dst, key.dport), (ip(LIP), ip(RS1), 53));
        assert_eq!((sent.payload().len(), sent.ipv4().ident), (4000, 77));
        let answer = bed.by_server(RS1).udp(53, key.sport).payload_len(3000);
        arrive(&mut bed, Lan, pieces(&answer, 1000));
        let back = whole(taken(&mut bed, Wan));
        assert_eq!((back.key().src, back.key().dst), (ip(VIP), ip(CLIENT)));
        assert_eq!(back.key().dport, 5000);
        bed.expect("received+4 sent+4");
    }
}

#[test]
fn rfc4787_req14_early_pieces_wait_for_the_first() {
    let mut bed = Testbed::usual();
    let mut all = pieces(&question(&bed), 1480);
    all.reverse();
    let first = all.pop().unwrap();
    for (n, piece) in all.into_iter().enumerate() {
        arrive(&mut bed, Wan, [piece]);
        bed.expect("received+1 held+1");
        assert_eq!(bed.workers[0].core.held_now(), n as u64 + 1);
    }
    bed.nothing_sent();
    arrive(&mut bed, Wan, [first]);
    assert_eq!(whole(taken(&mut bed, Lan)).payload().len(), 4000);
    bed.expect("received+1 held-2 sent+3 conns+1 leases+1 conn.opened+1");
}

#[test]
fn what_waits_in_vain_ends() {
    let mut bed = Testbed::usual();
    let all = pieces(&question(&bed), 1480);
    arrive(&mut bed, Wan, all.into_iter().skip(1));
    bed.expect("received+2 held+2");
    // A round looks at a part of the places only.
    let rounds = |bed: &mut Testbed, ms| {
        bed.after_ms(ms);
        (0..16).for_each(|_| bed.turn());
    };
    rounds(&mut bed, TIMEOUT_MS.into());
    bed.expect("");
    rounds(&mut bed, 1);
    bed.expect("held-2 drop.no-first-fragment+2");
    bed.nothing_sent();
}

/// RFC 5722: neither what overlaps nor what follows it.
#[test]
fn rfc5722_overlapping_pieces_end_their_packet() {
    let mut bed = Testbed::usual();
    let all = pieces(&question(&bed), 1480);
    let forged = pieces(&question(&bed).payload_len(2000), 1488).remove(1);
    arrive(&mut bed, Wan, [all[0].clone(), all[0].clone()]);
    bed.expect("received+2 sent+1 drop.bad-fragment+1 conns+1 leases+1 conn.opened+1");
    // From 1488 on, and the one before ends at 1480: no overlap, but the next one is.
    arrive(&mut bed, Wan, [forged]);
    bed.expect("received+1 sent+1");
    arrive(&mut bed, Wan, [all[1].clone()]);
    arrive(&mut bed, Wan, [all[2].clone()]);
    bed.expect("received+2 drop.bad-fragment+2");
}

/// A later piece opens nothing: its first one was not let through.
#[test]
fn pieces_of_what_was_refused_are_refused() {
    let mut bed = Testbed::usual();
    let nobody = bed.by_client().udp(5000, 54).payload_len(4000);
    arrive(&mut bed, Wan, pieces(&nobody, 1480));
    let values = bed.values();
    let count = |verdict| values.verdict(verdict);
    let refused = count(types::Verdict::NoService) + count(types::Verdict::Answered);
    assert_eq!(refused, 3);
    bed.settled();
    assert_eq!(bed.workers[0].core.table.len(), 0);
}

/// RFC 4787 REQ-14 a.
#[test]
fn rfc4787_req14a_floods_of_pieces_harm_nobody_else() {
    let mut bed = Testbed::usual();
    let friends = pieces(&question(&bed), 1480);
    arrive(&mut bed, Wan, [friends[2].clone()]);
    // First ones from one host, and later ones without a first.
    for ident in 0..2_000 {
        let flood = bed.by_client().ipv4("198.51.100.66", VIP).ident(ident);
        bed.arrive(
            bed.wan,
            flood.clone().udp(1, 53).udp_len(2000).payload_len(16).fragment(0, true),
        );
        bed.arrive(
            bed.wan,
            flood.protocol(17).payload_len(16).ident(ident + 30_000).fragment(800, true),
        );
    }
    (0..70).for_each(|_| bed.turn());
    assert!(bed.workers[0].core.fragments.len() <= WAITING_MAX);
    bed.settled();
    arrive(&mut bed, Wan, friends[..2].to_vec());
    let sent: Vec<_> = taken(&mut bed, Lan);
    assert_eq!(whole(sent).payload().len(), 4000, "all three pieces");
    bed.after_ms(u64::from(TIMEOUT_MS) + 1);
    (0..70).for_each(|_| bed.turn());
    assert_eq!(bed.workers[0].core.fragments.len(), 0);
}

/// A large ping of a VIP: each piece is answered by itself, and the answer is whole.
#[test]
fn a_ping_in_pieces_is_answered() {
    for backwards in [false, true] {
        let mut bed = Testbed::usual();
        let ping = bed.by_client().ident(5).echo_request(7, 8).payload_len(4000);
        let mut all = pieces(&ping, 1480);
        if backwards {
            all.reverse();
        }
        arrive(&mut bed, Wan, all);
        let answer = whole(taken(&mut bed, Wan));
        assert_eq!((answer.key().src, answer.key().dst), (ip(VIP), ip(CLIENT)));
        let icmp = answer.icmp();
        assert_eq!((icmp.icmp_type, icmp.ident(), icmp.seq()), (0, 7, 8));
        assert_eq!(answer.payload().len(), 4000);
        bed.expect("received+3 answered+3 generated+3 answer.echo+3 sent+3");
    }
}

/// What a NAT gateway translates, it translates in pieces, too: UDP and ping, out and back.
#[test]
fn rfc4787_req14_a_gateway_translates_all_pieces() {
    let mut bed = Setup::default().gateway(&GatewayPlan::default());
    let remote = "192.0.2.80";
    for backwards in [false, true] {
        let order = |mut all: Vec<Buf>| {
            if backwards {
                all.reverse();
            }
            all
        };
        let question = bed.by_inside(RS1, remote).udp(5_000, 53).payload_len(4000);
        arrive(&mut bed, Lan, order(pieces(&question, 1480)));
        let sent = whole(taken(&mut bed, Wan));
        assert_eq!((sent.key().src, sent.key().dst), (ip(WANS[0]), ip(remote)));
        let answer = bed.by_outside(remote, WANS[0]).udp(53, sent.key().sport).payload_len(4000);
        arrive(&mut bed, Wan, order(pieces(&answer, 1480)));
        let back = whole(taken(&mut bed, Lan));
        assert_eq!((back.key().dst, back.key().dport), (ip(RS1), 5_000));

        let ping = bed.by_inside(RS1, remote).echo_request(9, 1).payload_len(4000);
        arrive(&mut bed, Lan, order(pieces(&ping, 1480)));
        let sent = whole(taken(&mut bed, Wan));
        assert_eq!((sent.key().src, sent.icmp().icmp_type), (ip(WANS[0]), 8));
        let ident = sent.icmp().ident();
        let answer = bed.by_outside(remote, WANS[0]).echo_reply(ident, 1).payload_len(4000);
        arrive(&mut bed, Wan, order(pieces(&answer, 1480)));
        let back = whole(taken(&mut bed, Lan));
        assert_eq!((back.key().dst, back.icmp().ident()), (ip(RS1), 9));
    }
    let stray = bed.by_outside(remote, WANS[0]).udp(53, 9).payload_len(2000);
    arrive(&mut bed, Wan, pieces(&stray, 1480));
    bed.nothing_sent();
}

/// TOA is not put into a segment in pieces, whose later ones it would not make room among: all else is as ever.
#[test]
fn a_segment_in_pieces_goes_through() {
    let mut bed = Testbed::usual();
    let conn = Conn::open(&mut bed, 40_000);
    bed.settled();
    let data = conn.by_client(&bed).psh().payload_len(1000);
    arrive(&mut bed, Wan, pieces(&data, 504));
    let sent = whole(taken(&mut bed, Lan));
    assert_eq!((sent.payload().len(), sent.tcp().toa), (1000, None));
    assert_eq!(sent.tcp().seq, conn.client_next.wrapping_add(conn.offset));
    bed.expect("received+3 sent+3 toa.left-out+1");
}

/// Pieces are parsed where they arrive and handed on with the first one's ports.
#[test]
fn several_workers_follow_pieces_to_the_owner() {
    let mut bed = Setup { workers: 2, ..Setup::default() }.build();
    for client_port in 6_000..6_040 {
        let question = bed.by_client().ident(client_port).udp(client_port, 53).payload_len(4000);
        let mut all = pieces(&question, 1480);
        all.rotate_left(usize::from(client_port) % 3);
        let worker = usize::from(client_port) % 2;
        all.into_iter().for_each(|piece| bed.arrive_raw(worker, bed.wan, piece));
        bed.turn();
        assert_eq!(whole(taken(&mut bed, Lan)).payload().len(), 4000);
    }
}
