//! ICMP errors about conns with an IPv6 side: those of others, carried through the translation, and our own.

use testkit::{Decoded, PacketBuilder, pkt};

use crate::bed::{LAN_IP, LAN_IP6, Setup, Testbed, WAN_IP, WAN_IP6, station_of};
use crate::wide::{
    FOUR_TO_SIX, KINDS, Kind, SIX, SIX_TO_FOUR, WideConn, at, between, ends, inward,
};

/// What an error says, and what it quotes, whatever its family.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    icmp_type: u8,
    code: u8,
    rest: u32,
    /// The quoted packet's ends.
    quoted: (std::net::SocketAddr, std::net::SocketAddr),
}

fn said(packet: &Decoded) -> Said {
    use testkit::decoded::L4;
    use types::{Address as _, FlowKey6};
    let (icmp_type, code, rest, key) = match packet.l4() {
        L4::Icmp6(icmp) => (icmp.icmp_type, icmp.code, icmp.rest, packet.quoted6().key),
        L4::Icmp(icmp) => {
            (icmp.icmp_type, icmp.code, icmp.rest, FlowKey6::mapped(packet.quoted().key))
        }
        _ => panic!("no ICMP: {packet}"),
    };
    let end = |address: u128, l4_port| std::net::SocketAddr::new(address.to_ip(), l4_port);
    Said { icmp_type, code, rest, quoted: (end(key.src, key.sport), end(key.dst, key.dport)) }
}

/// An error of a router on the servers' side about what we sent there.
pub fn error_about(bed: &Testbed, kind: Kind, sent: &[u8], what: (u8, u8, u32)) -> PacketBuilder {
    let router = if kind.server6 { "fd00:18::fe" } else { "198.18.0.254" };
    let packet = pkt().eth(station_of(router), bed.snapshot.interfaces[bed.lan].mac);
    let packet = between(packet, router, kind.lip());
    let packet = match kind.server6 {
        true => packet.icmp6(what.0, what.1, what.2),
        false => packet.icmp(what.0, what.1, what.2),
    };
    packet.payload(&sent[14..])
}

#[test]
fn errors_from_the_servers_side_reach_the_client_in_its_words() {
    // Port unreachable, time exceeded, and what is too big for a link of 1300 bytes.
    let of_v4 = [(3, 3, 0), (11, 0, 0), (3, 4, 1300)];
    let of_v6 = [(1, 4, 0), (3, 0, 0), (2, 0, 1300)];
    for kind in KINDS {
        let sides = |six: bool| if six { of_v6 } else { of_v4 };
        for (told, expected) in sides(kind.server6).into_iter().zip(sides(kind.client6)) {
            let mut bed = kind.bed();
            let question = kind.by_client(&bed).udp(40_000, 53).payload_len(600);
            bed.receive(bed.wan, question);
            let sent = bed.take(bed.lan).remove(0);
            bed.settled();
            bed.receive(bed.lan, error_about(&bed, kind, sent.frame(), told));
            bed.expect("received+1 sent+1 icmp.translated+1");
            let packet = bed.one(bed.wan);
            let (vip, client) = (at(kind.vip(), 53), at(kind.client(), 40_000));
            assert_eq!((ends(&packet).0.ip(), ends(&packet).1.ip()), (vip.ip(), client.ip()));
            let said = said(&packet);
            assert_eq!((said.icmp_type, said.code), (expected.0, expected.1), "{kind:?}");
            assert_eq!(said.quoted, (client, vip), "{kind:?}");
            if told.2 != 0 {
                let grown = match kind {
                    SIX_TO_FOUR => 1320,
                    FOUR_TO_SIX => 1280,
                    _ => 1300,
                };
                assert_eq!(said.rest & 0xffff, grown, "{kind:?}");
            }
        }
    }
}

/// What the client's side says of the server's packets reaches the server.
#[test]
fn errors_from_the_clients_side_reach_the_server() {
    for kind in KINDS {
        let mut bed = kind.bed();
        let question = kind.by_client(&bed).udp(40_000, 53);
        let (lip, rs) = ends(&inward(&mut bed, question));
        let answer = kind.by_server(&bed, kind.servers()[0]).udp(53, lip.port()).payload_len(64);
        bed.receive(bed.lan, answer);
        let sent = bed.take(bed.wan).remove(0);
        bed.settled();
        let error = kind.by_client(&bed);
        let error = match kind.client6 {
            true => error.icmp6(1, 4, 0),
            false => error.icmp(3, 3, 0),
        };
        bed.receive(bed.wan, error.payload(&sent.frame()[14..]));
        bed.expect("received+1 sent+1 icmp.translated+1");
        let packet = bed.one(bed.lan);
        assert_eq!((ends(&packet).0.ip(), ends(&packet).1.ip()), (lip.ip(), rs.ip()));
        assert_eq!(said(&packet).quoted, (rs, lip), "{kind:?}");
    }
}

/// RFC 4443 §2.4 c: an error about a long packet is cut to what every link of IPv6 takes.
#[test]
fn a_long_error_fits_its_way_to_ipv6() {
    let kind = FOUR_TO_SIX;
    let mut bed = kind.bed();
    let question = kind.by_client(&bed).udp(40_000, 53);
    let (lip, rs) = ends(&inward(&mut bed, question));
    let answer = kind.by_server(&bed, kind.servers()[0]).udp(53, lip.port()).payload_len(1_440);
    bed.receive(bed.lan, answer);
    let sent = bed.take(bed.wan).remove(0);
    for df in [false, true] {
        let error = kind.by_client(&bed).icmp(3, 3, 0).payload(&sent.frame()[14..]);
        bed.settled();
        bed.receive(bed.wan, if df { error.df() } else { error });
        let packet = bed.one(bed.lan);
        assert_eq!(packet.ipv6().payload_len, 1_240);
        assert_eq!(said(&packet).quoted, (rs, lip));
        bed.expect("received+1 sent+1 icmp.translated+1");
    }
}

#[test]
fn a_quoted_segment_has_the_senders_own_numbers() {
    for kind in KINDS {
        let mut bed = kind.bed();
        let mut conn = WideConn::open(&mut bed, kind, 40_000);
        conn.server_sends(&mut bed, 10);
        conn.ack(&mut bed);
        let data = conn.by_client(&bed).psh().payload_len(900);
        bed.receive(bed.wan, data);
        let sent = bed.take(bed.lan).remove(0);
        let told = if kind.server6 { (2, 0, 1300) } else { (3, 4, 800) };
        bed.receive(bed.lan, error_about(&bed, kind, sent.frame(), told));
        let packet = bed.one(bed.wan);
        let seq = match kind.client6 {
            true => u32::from_be_bytes(packet.quoted6().l4[4..8].try_into().unwrap()),
            false => packet.quoted().seq,
        };
        assert_eq!(seq, conn.client_next, "{kind:?}");
    }
}

#[test]
fn forged_and_damaged_errors_end_here() {
    let mut bed = SIX.bed();
    let question = SIX.by_client(&bed).udp(40_000, 53).payload_len(64);
    bed.receive(bed.wan, question);
    let sent = bed.take(bed.lan).remove(0);
    bed.settled();
    let damaged = error_about(&bed, SIX, sent.frame(), (1, 4, 0)).bad_checksum();
    bed.receive(bed.lan, damaged);
    bed.expect("received+1 drop.bad-icmp+1");
    let to_another =
        between(error_about(&bed, SIX, sent.frame(), (1, 4, 0)), "fd00:18::fe", LAN_IP6);
    bed.receive(bed.lan, to_another);
    bed.expect("received+1 drop.bad-icmp+1");
    let mut unknown = sent.frame()[14..].to_vec();
    unknown[41] ^= 1;
    let about = error_about(&bed, SIX, sent.frame(), (1, 4, 0)).payload(&unknown);
    bed.receive(bed.lan, about);
    bed.expect("received+1 drop.icmp-no-conn+1");
}

/// Path MTU discovery through a VIP: what does not pass is told to its sender, in its own terms.
#[test]
fn what_is_too_big_is_told_with_room_for_the_headers() {
    // The option that shows the client needs room, too, and only the client's packets have it.
    for (kind, largest) in [(SIX, 1400), (SIX_TO_FOUR, 1420), (FOUR_TO_SIX, 1380)] {
        let mut bed = Setup { lan_mtu: 1400, ..kind.setup() }.build();
        let header = if kind.client6 { 48 } else { 28 };
        let datagram = |bed: &Testbed, len: u16| {
            kind.by_client(bed).udp(40_000, 53).df().payload_len(usize::from(len - header))
        };
        let fits = datagram(&bed, largest);
        inward(&mut bed, fits);
        bed.settled();
        bed.receive(bed.wan, datagram(&bed, largest + 1));
        let packet = bed.one(bed.wan);
        let ours = if kind.client6 { WAN_IP6 } else { WAN_IP };
        assert_eq!(ends(&packet).0.ip().to_string(), ours, "{kind:?}");
        let said = said(&packet);
        let what = if kind.client6 { (2, 0) } else { (3, 4) };
        assert_eq!((said.icmp_type, said.code), what, "{kind:?}");
        assert_eq!(said.rest, u32::from(largest), "{kind:?}");
        bed.expect("received+1 answered+1 generated+1 sent+1 answer.icmp-error+1");
    }
}

#[test]
fn the_last_hop_is_told_from_our_own_address() {
    for kind in KINDS {
        let mut bed = kind.bed();
        let mut conn = WideConn::open(&mut bed, kind, 40_000);
        conn.server_sends(&mut bed, 10);
        bed.settled();
        let what = |six: bool| if six { (3, 0) } else { (11, 0) };
        bed.receive(bed.wan, conn.by_client(&bed).ttl(1));
        let packet = bed.one(bed.wan);
        let ours = if kind.client6 { WAN_IP6 } else { WAN_IP };
        assert_eq!(ends(&packet).0.ip().to_string(), ours, "{kind:?}");
        let told = said(&packet);
        assert_eq!((told.icmp_type, told.code), what(kind.client6), "{kind:?}");
        bed.receive(bed.lan, conn.by_server(&bed).ttl(1));
        let packet = bed.one(bed.lan);
        let ours = if kind.server6 { LAN_IP6 } else { LAN_IP };
        assert_eq!(ends(&packet).0.ip().to_string(), ours, "{kind:?}");
        let told = said(&packet);
        assert_eq!((told.icmp_type, told.code), what(kind.server6), "{kind:?}");
    }
}
