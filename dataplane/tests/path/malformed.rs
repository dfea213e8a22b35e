//! Hostile input: whatever arrives, nothing panics, each packet ends once, and no buffer stays.
//!
//! The testbed checks the latter after every turn.

use proptest::prelude::*;
use testkit::{Buf, PacketBuilder, pkt};
use types::MacAddr;

use crate::bed::{RS1, Setup, Testbed, VIP, station};
use crate::conn::Conn;

/// One frame of every kind, as it might arrive on both interfaces.
fn frames(bed: &mut Testbed) -> Vec<(usize, PacketBuilder)> {
    let mut conn = Conn::syn(bed, 40_000);
    conn.syn_ack(bed);
    let key = bed.through(bed.wan, bed.by_client().udp(5000, 53).payload(b"?"), bed.lan).key();
    let quoted = pkt().ipv4(key.src, key.dst).udp(key.sport, key.dport).payload(b"?");
    let (wan, lan) = (bed.wan, bed.lan);
    let gateway = station("203.0.113.254");
    vec![
        (wan, conn.by_client(bed).timestamps(1, 2).sack(&[(1, 2), (3, 4)]).payload(b"data")),
        (lan, conn.by_server(bed).mss(1460).timestamps(1, 2).payload(b"data")),
        (wan, bed.by_client().tcp(40_001, 80).syn().mss(1460).sack_permitted().window_scale(7)),
        (wan, bed.by_client().udp(5001, 53).payload(b"question")),
        (lan, bed.by_server(RS1).udp(53, key.sport).payload(b"answer")),
        (lan, bed.by_server(RS1).icmp(3, 4, 1300).quote(&quoted)),
        (wan, bed.by_client().echo_request(1, 2).payload(b"ping")),
        (wan, bed.by_client().ip_options(&[7, 7, 4, 0, 0, 0, 0]).udp(5001, 53)),
        (wan, bed.by_client().vlan(5).udp(5001, 53)),
        (wan, pkt().eth(gateway, MacAddr::BROADCAST).arp_request("203.0.113.254", VIP)),
        (wan, bed.by_client().protocol(47).payload(b"something else")),
    ]
}

#[test]
fn every_truncation_of_every_frame_is_dropped() {
    let mut bed = Testbed::usual();
    for (interface, packet) in frames(&mut bed) {
        let whole = packet.build();
        for len in 0..whole.frame().len() {
            for first_len in [len, len / 2] {
                bed.settled();
                let cut = Buf::new(&whole.frame()[..len]).segmented(first_len);
                let dropped = bed.values().dropped();
                bed.arrive_raw(0, interface, cut);
                bed.turn();
                bed.nothing_sent();
                assert_eq!(bed.values().dropped(), dropped + 1, "{len} bytes of {whole:?}");
            }
        }
    }
}

#[test]
fn lengths_that_lie_are_dropped_by_name() {
    let mut bed = Testbed::usual();
    let conn = Conn::open(&mut bed, 40_000);
    bed.settled();
    let by_client = bed.by_client();
    let (tcp, udp) = (conn.by_client(&bed).payload(b"12345678"), by_client.udp(5000, 53));
    let cases = [
        (tcp.clone().ip_total_len(47), "sent+1 toa.inserted+1"),
        (tcp.clone().ip_total_len(39), "drop.bad-transport+1"),
        (tcp.clone().ip_total_len(19), "drop.bad-ip-header+1"),
        (tcp.clone().ip_total_len(0), "drop.bad-ip-header+1"),
        (tcp.clone().ip_total_len(900), "drop.bad-ip-header+1"),
        (tcp.clone().tcp_header_words(4), "drop.bad-transport+1"),
        (tcp.clone().tcp_header_words(15), "drop.bad-transport+1"),
        (tcp.clone().ip_header_words(4), "drop.bad-ip-header+1"),
        (tcp.clone().ip_version(6), "drop.bad-ip-header+1"),
        (tcp.clone().bad_ip_checksum(), "drop.bad-ip-checksum+1"),
        (udp.clone().udp_len(7), "drop.bad-transport+1"),
        (udp.clone().udp_len(9), "drop.bad-transport+1"),
        (udp.clone().payload_len(3).fragment(0, true), "drop.bad-fragment+1"),
        (tcp.clone().fragment(8, false), "drop.bad-fragment+1"),
        (udp.clone().payload_len(0).ip_total_len(20).fragment(8, false), "drop.bad-fragment+1"),
        (udp.clone().ip_options(&[131, 3, 4]), "drop.source-routed+1"),
        (udp.clone().ipv4("127.0.0.1", VIP), "drop.bad-source+1"),
        (udp.clone().ipv4("224.0.0.1", VIP), "drop.bad-source+1"),
        (udp.clone().ipv4("0.0.0.0", VIP), "drop.bad-source+1"),
        (udp.clone().ipv4(VIP, VIP), "drop.bad-source+1"),
        (udp.clone().ether_type(0x86dd), "drop.malformed+1"),
        (udp.clone().ether_type(0x88cc), "drop.unknown-ethertype+1"),
    ];
    for (packet, expected) in cases {
        bed.receive(bed.wan, packet);
        bed.expect(&format!("received+1 {expected}"));
        bed.take(bed.lan);
    }
}

/// A frame of one kind with some bytes changed, so that it comes far.
fn damaged() -> impl Strategy<Value = (usize, Vec<(usize, u8)>, usize, bool)> {
    let changes = proptest::collection::vec((0usize..110, any::<u8>()), 0..6);
    (0usize..11, changes, 0usize..120, any::<bool>())
}

/// Makes the IPv4 header checksum right, so that what is behind it is looked at.
fn mend(frame: &mut [u8]) {
    let Some(header) = frame.get_mut(14..34) else { return };
    header[10..12].fill(0);
    let mut sum = 0u32;
    for pair in header.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair[1]);
    }
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn damaged_frames_end_once(bursts in proptest::collection::vec(damaged(), 1..200)) {
        let mut bed = Setup { max_connections: 8, ..Setup::default() }.build();
        let frames = frames(&mut bed);
        for (kind, changes, first_len, mended) in bursts {
            let (interface, packet) = &frames[kind];
            let mut frame = packet.build().frame().to_vec();
            for (at, byte) in changes {
                if let Some(place) = frame.get_mut(at) {
                    *place = byte;
                }
            }
            if mended {
                mend(&mut frame);
            }
            bed.arrive_raw(0, *interface, Buf::new(&frame).segmented(first_len));
            if kind % 3 == 0 {
                bed.turn();
            }
        }
        bed.turn();
        prop_assert_eq!(bed.workers[0].io.waiting(), 0);
    }

    #[test]
    fn garbage_is_dropped(frames in proptest::collection::vec(
        proptest::collection::vec(any::<u8>(), 0..200), 1..64,
    )) {
        let mut bed = Testbed::usual();
        let count = frames.len() as u64;
        for frame in frames {
            bed.arrive_raw(0, 0, Buf::new(&frame));
        }
        bed.turn();
        prop_assert_eq!(bed.values().dropped(), count);
        bed.nothing_sent();
    }
}
