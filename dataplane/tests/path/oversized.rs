//! Packets that are larger than their way out takes: cut into fragments where the sender allows it, whatever
//! is done to them besides (RFC 4787 REQ-13 a, RFC 1812 §5.2.6).

use balance::ClientAddress;
use testkit::{Buf, Decoded, PacketBuilder, ip};
use types::Proto;
use wire::{Ipv4, Ipv6};

use crate::bed::{CLIENT, GatewayPlan, LIP, RS1, Setup, Testbed, VIP, WANS, inside_endpoint};
use crate::conn::Conn;
use crate::fragments::Side::{self, Lan, Wan};
use crate::fragments::{arrive, pieces, taken, whole};
use crate::wide::{FOUR_TO_SIX, WideConn, at, ends};

const REMOTE: &str = "192.0.2.80";

/// Both ways out take so much.
const MTU: u16 = 1_000;

fn narrow() -> Setup {
    Setup { wan_mtu: MTU, lan_mtu: MTU, ..Setup::default() }
}

/// What a side has got, none larger than it may be.
#[track_caller]
fn sent(bed: &mut Testbed, side: Side) -> Vec<Buf> {
    let fragments = taken(bed, side);
    for fragment in &fragments {
        assert!(Ipv4::at(fragment, 14).unwrap().total_len() <= MTU);
    }
    fragments
}

#[track_caller]
fn through(bed: &mut Testbed, from: Side, packet: PacketBuilder) -> Decoded {
    arrive(bed, from, [packet.build()]);
    let to = match from {
        Wan => Lan,
        Lan => Wan,
    };
    whole(sent(bed, to))
}

#[test]
fn rfc4787_req13a_what_goes_through_a_vip_is_cut() {
    let mut bed = narrow().build();
    let question = bed.by_client().ident(77).udp(5_000, 53).payload_len(2_000);
    let asked = through(&mut bed, Wan, question);
    assert_eq!((asked.key().src, asked.key().dst), (ip(LIP), ip(RS1)));
    assert_eq!((asked.payload().len(), asked.ipv4().ident, asked.ipv4().ttl), (2_000, 77, 63));
    bed.expect("received+1 generated+2 sent+3 packet.fragmented+1 conns+1 leases+1 conn.opened+1");
    let answer = bed.by_server(RS1).udp(53, asked.key().sport).payload_len(1_000);
    let back = through(&mut bed, Lan, answer);
    assert_eq!((back.key().src, back.key().dst), (ip(VIP), ip(CLIENT)));
    bed.expect("received+1 generated+1 sent+2 packet.fragmented+1");
    // A segment in which the client would be shown has no room for that.
    let conn = Conn::open(&mut bed, 40_000);
    bed.settled();
    let segment = conn.by_client(&bed).psh().payload_len(1_200);
    let data = through(&mut bed, Wan, segment);
    assert_eq!((data.payload().len(), data.tcp().toa), (1_200, None));
    assert_eq!(data.tcp().seq, conn.client_next.wrapping_add(conn.offset));
}

#[test]
fn rfc4787_req13a_a_gateway_cuts_what_it_translates() {
    let plan = GatewayPlan {
        forward: Some((Proto::Udp, 10_053..=10_053, inside_endpoint(53))),
        ..GatewayPlan::default()
    };
    let mut bed = narrow().gateway(&plan);
    let ping = bed.by_inside(RS1, REMOTE).ident(5).echo_request(7, 8).payload_len(1_400);
    let out = through(&mut bed, Lan, ping);
    assert_eq!((out.key().src, out.ipv4().ident, out.payload().len()), (ip(WANS[0]), 5, 1_400));
    let pong = bed.by_outside(REMOTE, WANS[0]).echo_reply(out.icmp().ident(), 8).payload_len(1_400);
    let back = through(&mut bed, Wan, pong);
    assert_eq!((back.key().dst, back.icmp().ident()), (ip(RS1), 7));

    let question = bed.by_outside(REMOTE, WANS[0]).udp(4_000, 10_053).payload_len(1_200);
    let led = through(&mut bed, Wan, question);
    assert_eq!((led.key().dst, led.key().dport, led.payload().len()), (ip(RS1), 53, 1_200));

    // Fragments are cut again.
    bed.settled();
    let datagram = bed.by_inside(RS1, REMOTE).udp(6_000, 53).payload_len(4_000);
    arrive(&mut bed, Lan, pieces(&datagram, 1_480));
    assert_eq!(whole(sent(&mut bed, Wan)).payload().len(), 4_000);
    bed.expect("received+3 generated+3 sent+6 packet.fragmented+3 conns+1 conn.opened+1");
}

#[test]
fn rfc1812_5_2_6_what_is_only_forwarded_is_cut() {
    let mut bed = narrow().gateway(&GatewayPlan::default());
    let other = bed.by_inside("198.18.1.7", REMOTE).protocol(47).payload([7_u8; 1_200]).ttl(9);
    bed.receive(bed.lan, other.clone());
    let fragments = sent(&mut bed, Wan);
    bed.expect("received+1 generated+1 sent+2 packet.forwarded+1 packet.fragmented+1");
    let lens: Vec<_> = fragments.iter().map(|fragment| fragment.frame().len() - 34).collect();
    assert_eq!(lens, [976, 224]);
    for fragment in &fragments {
        assert_eq!(Decoded::check(fragment).ipv4().ttl, 8);
    }
    // Who does not want it is told what passes.
    bed.receive(bed.lan, other.df());
    let told = bed.one(bed.lan);
    assert_eq!((told.icmp().icmp_type, told.icmp().code), (3, 4));
    assert_eq!(told.icmp().rest & 0xffff, u32::from(MTU));
    bed.expect("received+1 answered+1 generated+1 sent+1 answer.icmp-error+1");
}

/// All fragments go or none: a part of them is of no use to anybody.
#[test]
fn without_buffers_for_all_fragments_none_goes() {
    let mut bed = narrow().build();
    let question = bed.by_client().udp(5_000, 53).payload_len(2_000);
    bed.workers[0].io.buffers = 1;
    bed.receive(bed.wan, question.clone());
    bed.expect("received+1 drop.no-buffer+1 conns+1 leases+1 conn.opened+1");
    bed.nothing_sent();
    bed.workers[0].io.buffers = 2;
    bed.receive(bed.wan, question);
    assert_eq!(whole(sent(&mut bed, Lan)).payload().len(), 2_000);
}

/// A burst of the longest packets: none of their fragments finds the queue full, and those of another size
/// keep their places among them.
#[test]
fn a_burst_of_the_longest_packets_leaves_in_order() {
    let mut bed = Setup { lan_mtu: 576, ..Setup::default() }.build();
    for ident in 0..20 {
        bed.arrive(bed.wan, bed.by_client().ident(ident).udp(5_000, 53).payload_len(65_507));
        bed.arrive(bed.wan, bed.by_client().ident(ident).udp(5_000, 53).payload_len(9));
    }
    bed.turn();
    bed.expect(
        "received+40 generated+2360 sent+2400 packet.fragmented+20 conns+1 leases+1 conn.opened+1",
    );
    let mut sent = bed.take(bed.lan).into_iter();
    for ident in 0..20 {
        let long = whole(sent.by_ref().take(119).collect());
        assert_eq!((long.payload().len(), long.ipv4().ident), (65_507, ident));
        assert_eq!(Decoded::check(&sent.next().unwrap()).payload().len(), 9);
    }
}

/// What would be cut into too many fragments is not.
#[test]
fn fragments_of_a_packet_are_bounded() {
    let mut bed = Setup { lan_mtu: 68, ..Setup::default() }.build();
    bed.receive(bed.wan, bed.by_client().udp(5_000, 53).payload_len(128 * 48 - 8));
    assert_eq!(bed.take(bed.lan).len(), 128);
    bed.settled();
    bed.receive(bed.wan, bed.by_client().udp(5_000, 53).payload_len(128 * 48 - 7));
    bed.expect("received+1 drop.too-big+1");
}

/// Fragments wait for a neighbour as other packets do.
#[test]
fn fragments_wait_for_their_neighbour() {
    let mut bed = Setup { resolved: false, ..narrow() }.build();
    bed.receive(bed.wan, bed.by_client().udp(5_000, 53).payload_len(1_500));
    bed.expect(
        "received+1 generated+1 held+2 neighbour.held+2 neighbour.asked+2 told+2 packet.fragmented+1 \
         conns+1 leases+1 conn.opened+1",
    );
}

/// The same within IPv6: fragments of this identification, none larger than the MTU, put together.
#[track_caller]
fn whole6(mut fragments: Vec<Buf>, mtu: u16, ident: u32) -> Decoded {
    let piece = |fragment: &Buf| Decoded::of(fragment).unwrap().ipv6().fragment.unwrap();
    fragments.sort_unstable_by_key(|fragment| piece(fragment).1);
    let mut frame = fragments[0][..54].to_vec();
    let protocol = fragments[0][54];
    for (n, fragment) in fragments.iter().enumerate() {
        let place = (ident, (frame.len() - 54) as u16, n + 1 < fragments.len());
        assert_eq!(piece(fragment), place, "fragment {n}");
        let header = Ipv6::at(fragment, 14).unwrap();
        assert!(header.payload_len() + 40 <= mtu, "{} bytes", header.payload_len());
        assert_eq!(usize::from(header.payload_len()) + 54, fragment.len());
        frame.extend(&fragment[62..]);
    }
    let payload_len = (frame.len() - 54) as u16;
    let mut header = Ipv6::at_mut(&mut frame, 14).unwrap();
    header.set_payload_len(payload_len);
    header.set_next_header(protocol);
    Decoded::check(&frame)
}

#[test]
fn rfc7915_4_what_may_be_fragmented_is_cut_on_its_way_to_ipv6() {
    let kind = FOUR_TO_SIX;
    let mut bed = Setup { lan_mtu: 1400, ..kind.setup() }.build();
    let datagram = |bed: &Testbed| kind.by_client(bed).ident(77).ttl(9).tos(0xb8).udp(5_000, 53);
    for (packet, len) in [
        (datagram(&bed), 3_000),
        (datagram(&bed).no_checksum(), 1_353),
        (datagram(&bed).ip_options(&[1, 148, 4, 0, 0, 1, 1, 1]), 2_000),
        (datagram(&bed).segmented(100), 1_400),
    ] {
        bed.settled();
        bed.receive(bed.wan, packet.payload_len(len));
        let sent = whole6(bed.take(bed.lan), 1_400, 77);
        assert_eq!(ends(&sent).1, at(kind.servers()[0], 53));
        assert_eq!((sent.payload().len(), sent.ipv6().hop_limit), (len, 8));
        assert_eq!(sent.ipv6().traffic_class, 0xb8);
        let later = (len + 8).div_ceil(1_352) - 1;
        let first = if len == 3_000 { " conns+1 leases+1 conn.opened+1" } else { "" };
        bed.expect(&format!(
            "received+1 generated+{later} sent+{} packet.fragmented+1{first}",
            later + 1
        ));
    }
    // What fits is no fragment.
    let fits = datagram(&bed).payload_len(1_352);
    bed.receive(bed.wan, fits);
    assert_eq!(bed.one(bed.lan).ipv6().fragment, None);

    // A segment in which the client would be shown has no room for that.
    let conn = WideConn::open(&mut bed, kind, 40_000);
    bed.settled();
    bed.receive(bed.wan, conn.by_client(&bed).ident(5).psh().payload_len(1_400));
    let sent = whole6(bed.take(bed.lan), 1_400, 5);
    assert_eq!((sent.payload().len(), sent.tcp().toa), (1_400, None));
    assert_eq!(sent.tcp().seq, conn.client_next.wrapping_add(conn.offset));
    bed.expect("received+1 generated+1 sent+2 packet.fragmented+1 toa.left-out+1");
}

/// Their headers count, too: a fragment's of IPv6 is 28 bytes longer than one of IPv4.
#[test]
fn rfc7915_4_fragments_are_cut_again_on_their_way_to_ipv6() {
    let mut bed = FOUR_TO_SIX.bed();
    let datagram = FOUR_TO_SIX.by_client(&bed).ident(9).udp(5_000, 53).payload_len(4_000);
    for (len, cut) in [(1_480, 2), (1_456, 2), (1_448, 0)] {
        bed.settled();
        arrive(&mut bed, Wan, pieces(&datagram, len));
        let sent = whole6(bed.take(bed.lan), 1_500, 9);
        assert_eq!(sent.payload().len(), 4_000, "{len}");
        let first = if len == 1_480 { " conns+1 leases+1 conn.opened+1" } else { "" };
        let cuts = if cut > 0 {
            format!(" generated+{cut} packet.fragmented+{cut}")
        } else {
            String::new()
        };
        bed.expect(&format!("received+3 sent+{}{cuts}{first}", 3 + cut));
    }
}

/// A mark of the client does not fit into what is cut, and nobody else's stays in it.
#[test]
fn a_datagram_that_is_cut_on_its_way_to_ipv6_shows_no_client() {
    let shows = |dns: &mut crate::bed::Plan| dns.spec.client_address = ClientAddress::Option;
    let mut bed = FOUR_TO_SIX.setup().dns(shows).build();
    let datagram = FOUR_TO_SIX.by_client(&bed).ident(3).udp(5_000, 53).payload_len(1_472);
    bed.receive(bed.wan, datagram);
    assert_eq!(whole6(bed.take(bed.lan), 1_500, 3).payload().len(), 1_472);
    bed.expect(
        "received+1 generated+1 sent+2 packet.fragmented+1 toa.left-out+1 conns+1 leases+1 conn.opened+1",
    );
}
