//! Every packet of our own making, as etherparse reads it.

use proptest::prelude::*;
use testkit::{Buf, Decoded, PacketBuilder, ip, key, mac, pkt};
use types::{MacAddr, Packet, Proto};
use wire::reply::{self, ErrorMessage, Reset};
use wire::{icmpv4, tcp};

const OUR_MAC: u8 = 2;

fn all_frames(packet: PacketBuilder) -> [PacketBuilder; 3] {
    [packet.clone(), packet.clone().vlan(100), packet.padded()]
}

#[test]
fn arp_requests_are_answered_in_place() {
    for request in all_frames(pkt().eth(9, 0xff).arp_request("10.0.0.1", "10.0.0.2")) {
        let mut buf = request.build();
        let parsed = buf.parsed();
        assert!(reply::arp_reply(buf.bytes_mut(), &parsed, mac(OUR_MAC)));
        let decoded = Decoded::check(&buf);
        assert_eq!((decoded.eth_src, decoded.eth_dst), (mac(OUR_MAC), mac(9)));
        let arp = decoded.arp();
        assert_eq!((arp.operation, arp.sender_mac, arp.target_mac), (2, mac(OUR_MAC), mac(9)));
        assert_eq!((arp.sender_ip, arp.target_ip), (ip("10.0.0.2"), ip("10.0.0.1")));
        let parsed = buf.parsed();
        assert!(!reply::arp_reply(buf.bytes_mut(), &parsed, mac(OUR_MAC)), "a reply");
    }
    let mut other = pkt().tcp(1, 2).syn().build();
    let parsed = other.parsed();
    assert!(!reply::arp_reply(other.bytes_mut(), &parsed, mac(OUR_MAC)));
}

#[test]
fn arp_requests_of_our_own() {
    let mut bytes = [0xa5; reply::ARP_MAX_LEN];
    let (sender, target) = (ip("10.0.0.2"), ip("10.0.0.1"));
    let len = reply::arp_request(&mut bytes, mac(2), 0, sender, target, None).unwrap();
    let asked = Decoded::check(&bytes[..len]);
    assert_eq!((asked.eth_dst, asked.eth_src), (MacAddr::BROADCAST, mac(2)));
    assert_eq!(asked.to_string(), "arp who-has 10.0.0.1 tell 10.0.0.2");
    assert!(asked.arp().target_mac.is_zero());

    let len = reply::arp_request(&mut bytes, mac(2), 7, sender, target, Some(mac(9))).unwrap();
    let asked = Decoded::check(&bytes[..len]);
    assert_eq!((asked.eth_dst, asked.vlan, asked.arp().target_mac), (mac(9), Some(7), mac(9)));
    assert_eq!(len, reply::ARP_MAX_LEN);

    let len = reply::arp_announcement(&mut bytes, mac(2), 0, sender).unwrap();
    let told = Decoded::check(&bytes[..len]);
    assert_eq!((told.arp().sender_ip, told.arp().target_ip), (sender, sender));
    for short in 0..len {
        assert_eq!(reply::arp_announcement(&mut bytes[..short], mac(2), 0, sender), None);
    }
}

#[test]
fn pings_are_answered_in_place() {
    let ping = pkt().eth(9, OUR_MAC).ttl(3).tos(0x20).echo_request(7, 8).payload(b"odd");
    for request in all_frames(ping.clone().ip_options(&[148, 4, 0, 0])) {
        let mut buf = request.build();
        let parsed = buf.parsed();
        assert!(reply::echo_reply(buf.bytes_mut(), &parsed));
        let decoded = Decoded::check(&buf);
        assert_eq!((decoded.eth_src, decoded.eth_dst), (mac(OUR_MAC), mac(9)));
        assert_eq!(decoded.key(), parsed.key.reversed());
        assert_eq!((decoded.ipv4().ttl, decoded.ipv4().tos), (64, 0x20));
        let icmp = decoded.icmp();
        assert_eq!((icmp.icmp_type, icmp.ident(), icmp.seq()), (0, 7, 8));
        assert_eq!(decoded.payload(), b"odd");
        let parsed = buf.parsed();
        assert!(!reply::echo_reply(buf.bytes_mut(), &parsed), "a reply");
    }
    let mut wrong = ping.clone().bad_checksum().build();
    let parsed = wrong.parsed();
    assert!(wire::verify_icmp(&wrong, &parsed).is_err());
    assert!(reply::echo_reply(wrong.bytes_mut(), &parsed));
    assert!(!Decoded::of(&wrong).unwrap().icmp().checksum_ok, "stays wrong");

    let mut to_all = ping.eth(9, 0xff).build();
    to_all.frame_mut()[..6].fill(0xff);
    let parsed = to_all.parsed();
    assert!(!reply::echo_reply(to_all.bytes_mut(), &parsed));
}

#[test]
fn errors_quote_up_to_576_bytes() {
    for payload_len in [0, 1, 507, 508, 509, 1400] {
        let question = pkt().eth(9, OUR_MAC).ipv4("10.0.0.1", "10.0.0.2").tcp(1, 2).seq(77);
        for question in all_frames(question.payload_len(payload_len)) {
            let mut buf = question.build();
            let parsed = buf.parsed();
            let message = ErrorMessage::fragmentation_needed(1400);
            assert!(reply::may_answer_with_error(&buf, &parsed));
            assert!(reply::icmp_error(&mut buf, &parsed, message, ip("192.0.2.1")));
            let decoded = Decoded::check(&buf);
            assert_eq!((decoded.eth_src, decoded.eth_dst), (mac(OUR_MAC), mac(9)));
            let header = decoded.ipv4();
            assert_eq!((header.src, header.dst), (ip("192.0.2.1"), ip("10.0.0.1")));
            assert_eq!((header.tos, header.ttl), (0xc0, 64));
            assert_eq!(usize::from(header.total_len), (28 + 40 + payload_len).min(576));
            assert_eq!((decoded.icmp().icmp_type, decoded.icmp().code), (3, 4));
            assert_eq!(decoded.icmp().seq(), 1400);
            assert_eq!(decoded.quoted().key, key(Proto::Tcp, "10.0.0.1:1", "10.0.0.2:2"));
            assert!(decoded.quoted().ip_checksum_ok);
            assert_eq!(decoded.quoted().l4_checksum_ok, (payload_len <= 508).then_some(true));
            let parsed = buf.parsed();
            assert!(!reply::may_answer_with_error(&buf, &parsed), "an error about an error");
        }
    }
}

#[test]
fn errors_about_segmented_and_priority_tagged_frames() {
    let mut buf = pkt().vlan(0).udp(1, 2).payload_len(700).segmented(60).build();
    let parsed = buf.parsed();
    assert_eq!((parsed.vlan, parsed.l3), (0, 18));
    assert!(reply::icmp_error(&mut buf, &parsed, ErrorMessage::TIME_EXCEEDED, ip("192.0.2.1")));
    let decoded = Decoded::check(&buf);
    assert_eq!((decoded.vlan, decoded.ipv4().total_len), (None, 576));
    assert_eq!((decoded.icmp().icmp_type, decoded.icmp().code), (11, 0));

    let tight = pkt().udp(1, 2).build();
    let mut tight = Buf::with_room(&tight, 27, 0);
    let parsed = tight.parsed();
    let message = ErrorMessage::unreachable(icmpv4::PORT_UNREACHABLE);
    assert!(!reply::icmp_error(&mut tight, &parsed, message, 1), "no headroom");
}

#[test]
fn no_error_about_these() {
    let to_group = || pkt().eth(9, MacAddr::BROADCAST);
    for question in [
        pkt().icmp(3, 1, 0).quote(&pkt().udp(1, 2)),
        pkt().icmp(13, 0, 0),
        pkt().ipv4("10.0.0.1", "224.0.0.1").udp(1, 2),
        pkt().ipv4("10.0.0.1", "255.255.255.255").udp(1, 2),
        to_group().udp(1, 2),
        pkt().arp_request("10.0.0.1", "10.0.0.2"),
    ] {
        let mut buf = question.build();
        let parsed = buf.parsed();
        assert!(!reply::may_answer_with_error(&buf, &parsed), "{question:?}");
    }
    for question in [pkt().udp(1, 2), pkt().tcp(1, 2).syn(), pkt().echo_request(1, 2), pkt()] {
        let mut buf = question.build();
        let parsed = buf.parsed();
        assert!(reply::may_answer_with_error(&buf, &parsed), "{question:?}");
    }
    let mut buf = pkt().udp(1, 2).build();
    let parsed = buf.parsed();
    assert!(!reply::may_answer_with_error(&pkt().udp(1, 2).fragment(8, true).frame(), &parsed));
    assert!(!reply::may_answer_with_error(&buf[..30], &parsed), "no whole header");
    buf.frame_mut()[0] = 1;
    assert!(!reply::icmp_error(&mut buf, &parsed, ErrorMessage::TIME_EXCEEDED, 1));
}

#[test]
fn resets_answer_as_rfc_9293_says() {
    let segment = || pkt().eth(9, OUR_MAC).ipv4("10.0.0.1", "10.0.0.2").tcp(1, 2).seq(1000);
    for (question, seq, ack) in [
        (segment().syn().mss(1460), 0, Some(1001)),
        (segment().flags(tcp::FIN).payload_len(10), 0, Some(1011)),
        (segment().flags(tcp::PSH).payload_len(10), 0, Some(1010)),
        (segment().ack(5000).payload_len(10), 5000, None),
        (segment().syn().ack(5000), 5000, None),
    ] {
        for question in all_frames(question) {
            let mut buf = question.build();
            let parsed = buf.parsed();
            assert!(reply::reset_reply(&mut buf, &parsed));
            let decoded = Decoded::check(&buf);
            assert_eq!((decoded.eth_src, decoded.eth_dst), (mac(OUR_MAC), mac(9)));
            assert_eq!(decoded.key(), key(Proto::Tcp, "10.0.0.2:2", "10.0.0.1:1"));
            let tcp = decoded.tcp();
            let flags = if ack.is_some() { tcp::RST | tcp::ACK } else { tcp::RST };
            assert_eq!((tcp.flags, tcp.seq, tcp.ack), (flags, seq, ack.unwrap_or(0)));
            assert_eq!((decoded.ipv4().total_len, buf.total_len()), (40, parsed.l3 as usize + 40));
            let parsed = buf.parsed();
            assert!(!reply::reset_reply(&mut buf, &parsed), "a reset about a reset");
        }
    }
    let mut udp = pkt().udp(1, 2).build();
    let parsed = udp.parsed();
    assert!(!reply::reset_reply(&mut udp, &parsed));
}

proptest! {
    #[test]
    fn resets_have_right_checksums(src: u32, dst: u32, sport: u16, seq: u32, ack: Option<u32>) {
        let key = types::FlowKey { src, dst, sport, dport: 80, zone: 0, proto: 6 };
        let (eth_destination, eth_source) = (mac(1), mac(2));
        let reset = Reset { eth_destination, eth_source, vlan: 5, key, seq, ack };
        let mut bytes = [0xa5; reply::RESET_MAX_LEN];
        let len = reply::write_reset(&mut bytes, &reset).unwrap();
        prop_assert_eq!(len, bytes.len());
        let decoded = Decoded::check(&bytes);
        prop_assert_eq!((decoded.key(), decoded.tcp().seq), (key, seq));
        for short in 0..len {
            prop_assert_eq!(reply::write_reset(&mut bytes[..short], &reset), None);
        }
    }
}

proptest! {
    /// RFC 9293 §3.1, RFC 768: over pseudo header, header and data, however they are cut.
    #[test]
    fn an_unfinished_checksum_is_finished(
        payload in proptest::collection::vec(any::<u8>(), 0..300), first in 54_usize..400, udp: bool,
    ) {
        let packet = pkt().ipv4("10.0.0.1", "10.0.0.2");
        let whole = if udp { packet.udp(1, 2) } else { packet.tcp(1, 2) }.payload(&payload).build();
        let mut unfinished = whole.clone().with_unfinished_checksum();
        let parsed = unfinished.parsed();
        let mut unfinished = unfinished.segmented(first);
        wire::finish_l4_checksum(&mut unfinished, &parsed);
        prop_assert_eq!(unfinished.frame(), whole.frame());
    }
}

/// The one's complement has two zeros, and the answer to a ping of zeros is nothing but zeros.
#[test]
fn a_ping_of_zeros_is_answered_with_a_right_checksum() {
    let mut ping = pkt().ipv4("10.0.0.1", "10.0.0.2").echo_request(0, 0).payload([0; 3]).build();
    let parsed = ping.parsed();
    assert!(reply::echo_reply(ping.bytes_mut(), &parsed));
    Decoded::check(ping.frame());
}
