//! VLANs: frames with a tag are those of the VLAN's interface, whatever becomes of them.

use dataplane::worker::link::{Command, Event, Outgoing};
use fib::Heard;
use testkit::{Buf, Decoded, PacketBuilder, ip, mac, pkt};
use types::{Address as _, EthPortId, MacAddr};
use wire::tcp::{RST, SYN};

use crate::bed::{CLIENT, GATEWAY, LAN_IP, LIP, RS1, Setup, Testbed, VIP, station};

/// The VLAN of the servers.
const VID: u16 = 100;
/// The device that carries it.
const LAN: usize = 1;
/// Priority 5 (IEEE 802.1Q §9.6) and the indicator that it may be dropped.
const URGENT: u16 = 0xb000;

fn bed() -> Testbed {
    Setup { lan_vlan: Some((VID, false)), ..Setup::default() }.build()
}

/// A frame with the tag that it has on the wire.
fn tagged(packet: PacketBuilder, tci: u16) -> Buf {
    let mut frame = packet.frame();
    let [high, low] = tci.to_be_bytes();
    frame.splice(12..12, [0x81, 0x00, high, low]);
    Buf::new(&frame)
}

impl Testbed {
    fn arrives(&mut self, interface: usize, frame: Buf) {
        self.arrive_raw(0, interface, frame);
        self.turn();
    }

    /// The one frame that has left by a device: its tag, if it has one, and the rest.
    #[track_caller]
    fn one_with_tag(&mut self, port: usize) -> (Option<u16>, Decoded) {
        let sent = self.take(port);
        assert_eq!(sent.len(), 1, "{sent:?}");
        self.nothing_sent();
        let frame = &sent[0];
        let tci = u16::from_be_bytes([frame[14], frame[15]]);
        let is_tagged = frame[12..14] == [0x81, 0x00];
        // Etherparse must find the same.
        let decoded = Decoded::check(frame);
        assert_eq!(decoded.vlan, is_tagged.then_some(tci & 0x0fff));
        (is_tagged.then_some(tci), decoded)
    }
}

#[test]
fn a_conn_goes_from_an_interface_without_tags_to_a_vlan_and_back() {
    let mut bed = bed();
    let syn = bed.by_client().tcp(40_000, 80).syn().seq(1).mss(1460);
    bed.arrives(bed.wan, syn.build());
    bed.expect("received+1 sent+1 conns+1 half-open+1 leases+1 conn.opened+1");
    let (tag, to_server) = bed.one_with_tag(LAN);
    assert_eq!((tag, to_server.eth_dst, to_server.eth_src), (Some(VID), station(RS1), mac(0x20)));
    let key = to_server.key();
    assert_eq!((key.src, key.dst, key.dport), (ip(LIP), ip(RS1), 8080));

    let seq = to_server.tcp().seq;
    let syn_ack = bed.by_server(RS1).tcp(8080, key.sport).syn().seq(7).ack(seq.wrapping_add(1));
    bed.arrives(LAN, tagged(syn_ack, VID));
    bed.expect("received+1 sent+1");
    let (tag, to_client) = bed.one_with_tag(bed.wan);
    assert_eq!((tag, to_client.eth_dst), (None, station(GATEWAY)));
    assert_eq!((to_client.key().src, to_client.tcp().flags & SYN), (ip(VIP), SYN));
    let counted = bed.values().interface(EthPortId(bed.lan as u16));
    assert_eq!((counted.rx_packets, counted.tx_packets), (1, 1));
    let counted = bed.values().interface(EthPortId(LAN as u16));
    assert_eq!((counted.rx_packets, counted.tx_packets), (1, 1));
}

#[test]
fn the_nic_does_it_where_it_can() {
    let mut bed = Setup { lan_vlan: Some((VID, true)), ..Setup::default() }.build();
    bed.arrives(bed.wan, bed.by_client().udp(5_000, 53).payload(b"?").build());
    let sent = bed.take(LAN);
    assert_eq!(sent[0].tag_for_nic(), Some(VID));
    let key = Decoded::check(&sent[0]).key();
    let answer = bed.by_server(RS1).udp(53, key.sport).payload(b"!").build();
    bed.arrives(LAN, answer.with_tag(VID));
    let sent = bed.take(bed.wan);
    assert_eq!((Decoded::check(&sent[0]).payload(), sent[0].tag_for_nic()), (&b"!"[..], None));
    bed.expect("received+2 sent+2 conns+1 leases+1 conn.opened+1");
    // Of another VLAN, of none, and with a second tag behind the one that the NIC took.
    let answer = || bed_answer(key.sport);
    bed.arrives(LAN, answer().build().with_tag(VID + 1));
    bed.expect("received+1 drop.unknown-vlan+1");
    bed.arrives(LAN, tagged(answer(), VID).with_tag(VID));
    bed.expect("received+1 drop.unknown-ethertype+1");
    bed.nothing_sent();
}

fn bed_answer(l4_port: u16) -> PacketBuilder {
    pkt().eth(station(RS1), mac(0x20)).ipv4(RS1, LIP).udp(53, l4_port).payload(b"!")
}

#[test]
fn priorities_are_kept() {
    let mut bed = bed();
    // From no VLAN at all (§6.9.1), and from one to where there are no tags.
    bed.arrives(bed.wan, tagged(bed.by_client().udp(5_000, 53), URGENT));
    let (tag, to_server) = bed.one_with_tag(LAN);
    assert_eq!(tag, Some(URGENT | VID));
    bed.arrives(LAN, tagged(bed_answer(to_server.key().sport), URGENT | VID));
    assert_eq!(bed.one_with_tag(bed.wan).0, None);
    // An answer of our own is as urgent as the question.
    let ping = || pkt().eth(station(RS1), mac(0x20)).ipv4(RS1, LAN_IP).echo_request(1, 1);
    bed.arrives(LAN, tagged(ping(), URGENT | VID));
    assert_eq!(bed.one_with_tag(LAN).0, Some(URGENT | VID));
    bed.arrives(LAN, ping().build().with_tag(0x2000 | VID));
    assert_eq!(bed.one_with_tag(LAN).0, Some(0x2000 | VID));
}

#[test]
fn priorities_outlast_cutting() {
    let vlan = Some((VID, false));
    let mut bed = Setup { lan_mtu: 600, lan_vlan: vlan, ..Setup::default() }.build();
    bed.arrives(bed.wan, tagged(bed.by_client().udp(5_000, 53).payload_len(1_000), URGENT));
    let sent = bed.take(LAN);
    assert_eq!(sent.len(), 2);
    for frame in sent {
        assert_eq!(frame[12..16], [0x81, 0x00, 0xb0, 100]);
    }
}

#[test]
fn tags_of_others_are_dropped_by_name() {
    let mut bed = bed();
    let packet = || bed_answer(5_000);
    for tci in [VID + 1, URGENT | 1, 4095] {
        bed.arrives(LAN, tagged(packet(), tci));
        bed.expect("received+1 drop.unknown-vlan+1");
    }
    // The same tag on another device is another VLAN.
    bed.arrives(bed.wan, tagged(bed.by_client().udp(5_000, 53), VID));
    bed.expect("received+1 drop.unknown-vlan+1");
    // One tag only.
    let mut twice = tagged(packet(), VID).frame().to_vec();
    twice.splice(12..12, [0x81, 0x00, 0, VID as u8]);
    bed.arrives(LAN, Buf::new(&twice));
    bed.expect("received+1 drop.unknown-ethertype+1");
    bed.nothing_sent();
}

#[test]
fn headers_in_pieces_are_put_together() {
    let mut bed = bed();
    for first_len in [0, 1, 12, 13, 14, 16, 18, 20] {
        let question = bed.by_client().udp(5_000, 53).payload(b"?");
        bed.arrives(bed.wan, question.build());
        let (_, to_server) = bed.one_with_tag(LAN);
        let answer = tagged(bed_answer(to_server.key().sport), VID).segmented(first_len);
        bed.arrives(LAN, answer);
        assert_eq!(bed.one_with_tag(bed.wan).1.payload(), b"!", "{first_len}");
    }
}

#[test]
fn addresses_of_a_vlan_are_not_those_of_its_link() {
    let mut bed = bed();
    let lan = EthPortId(bed.lan as u16);
    let ask = || pkt().eth(station(RS1), MacAddr::BROADCAST).arp_request(RS1, LAN_IP).padded();
    bed.arrives(LAN, tagged(ask(), VID));
    bed.expect("received+1 answered+1 generated+1 sent+1 answer.arp+1 told+1");
    let (tag, answer) = bed.one_with_tag(LAN);
    assert_eq!(
        (tag, answer.arp().sender_mac, answer.eth_dst),
        (Some(VID), mac(0x20), station(RS1))
    );
    let learned = |interface| Event::Learned {
        interface,
        address: ip(RS1).to_ip(),
        mac: station(RS1),
        how: Heard::Request,
    };
    assert_eq!(bed.told.last(), Some(&learned(lan)));
    // Without the tag it is the link's, which has no address.
    bed.arrives(LAN, ask().build());
    bed.expect("received+1 punted+1 told+1");
    bed.nothing_sent();
}

#[test]
fn what_we_make_has_the_tag() {
    let mut bed = bed();
    bed.arrives(bed.wan, bed.by_client().tcp(40_000, 80).syn().seq(1).build());
    let (_, syn) = bed.one_with_tag(LAN);
    let seq = syn.tcp().seq.wrapping_add(1);
    let expired = pkt().eth(station(RS1), mac(0x20)).ipv4(RS1, LIP).ttl(1);
    let expired = expired.tcp(8080, syn.key().sport).syn().seq(7).ack(seq);
    bed.arrives(LAN, tagged(expired, VID));
    let (tag, error) = bed.one_with_tag(LAN);
    assert_eq!((tag, error.icmp().icmp_type), (Some(VID), 11));
    // The server is told that its conn has expired.
    let answer = bed.by_server(RS1).tcp(8080, syn.key().sport).syn().seq(7).ack(seq);
    bed.arrives(LAN, tagged(answer, VID));
    bed.settled();
    bed.after_ms(40_000);
    let (tag, reset) = bed.one_with_tag(LAN);
    assert_eq!((tag, reset.tcp().flags & RST), (Some(VID), RST));
    // Control's own frames: it writes them without a tag.
    bed.settled();
    let frame = pkt().eth(mac(0x20), MacAddr::BROADCAST).arp_request(LAN_IP, RS1).frame();
    let interface = EthPortId(bed.lan as u16);
    bed.command(0, Command::Transmit(Box::new(Outgoing { interface, frame })));
    bed.expect("generated+1 sent+1");
    let (tag, asked) = bed.one_with_tag(LAN);
    assert_eq!((tag, asked.arp().target_ip), (Some(VID), ip(RS1)));
}

#[test]
fn a_packet_without_room_for_a_tag_ends_by_name() {
    let mut bed = bed();
    let frame = bed.by_client().udp(5_000, 53).frame();
    bed.arrives(bed.wan, Buf::with_room(&frame, 3, 64));
    bed.expect("received+1 drop.no-room+1 conns+1 leases+1 conn.opened+1");
    bed.nothing_sent();
}

#[test]
fn clients_may_come_by_vlans_too() {
    // One arm: clients, VIP, LIP and servers are all on one VLAN.
    let mut bed = Setup { one_arm: true, lan_vlan: Some((VID, false)), ..Setup::default() }.build();
    bed.arrives(0, tagged(bed.by_client().udp(5_000, 53).payload(b"?"), VID));
    let (tag, to_server) = bed.one_with_tag(0);
    assert_eq!((tag, to_server.key().dst), (Some(VID), ip(RS1)));
    bed.arrives(0, tagged(bed_answer(to_server.key().sport), VID));
    let (tag, to_client) = bed.one_with_tag(0);
    assert_eq!((tag, to_client.key().dst, to_client.payload()), (Some(VID), ip(CLIENT), &b"!"[..]));
    bed.expect("received+2 sent+2 conns+1 leases+1 conn.opened+1");
}

#[test]
fn a_vlan_that_goes_takes_its_tag_along() {
    let mut bed = bed();
    bed.arrives(bed.wan, bed.by_client().udp(5_000, 53).build());
    let l4_port = bed.one_with_tag(LAN).1.key().sport;
    bed.settled();
    let lan = bed.lan;
    bed.update(|snapshot| {
        let mut interfaces = snapshot.interfaces.to_vec();
        interfaces[lan].wire = dataplane::snapshot::Wire::NONE;
        interfaces[lan].up = false;
        snapshot.vlans = std::sync::Arc::new(dataplane::snapshot::Vlans::of(&interfaces));
        snapshot.interfaces = interfaces.into();
    });
    bed.arrives(LAN, tagged(bed_answer(l4_port), VID));
    bed.expect("received+1 drop.unknown-vlan+1");
    bed.arrives(bed.wan, bed.by_client().udp(5_000, 53).build());
    bed.expect("received+1 drop.link-down+1");
    bed.nothing_sent();
}
