//! The client's address as a TCP option, and the MSS that makes room for it.

use balance::ClientAddress;
use testkit::{Buf, Decoded, PacketBuilder};
use types::Packet;

use crate::bed::{GatewayPlan, Plan, RS1, Setup, Testbed};
use crate::conn::Conn;
use crate::fragments::{pieces, whole};
use crate::gateway::REMOTE;

/// [`CLIENT`](crate::bed::CLIENT) and the port of the conns below.
const SHOWN: Option<(u32, u16)> = Some((u32::from_be_bytes([198, 51, 100, 7]), 40_000));

#[test]
fn it_is_shown_until_the_servers_first_data_is_acknowledged() {
    let mut bed = Testbed::usual();
    let mut conn = Conn::syn(&mut bed, 40_000);
    conn.syn_ack(&mut bed);
    assert_eq!(conn.ack(&mut bed).tcp().toa, SHOWN, "the handshake's ACK");
    assert_eq!(conn.client_sends(&mut bed, 100).tcp().toa, SHOWN, "early data");
    assert_eq!(conn.client_sends(&mut bed, 100).tcp().toa, SHOWN, "more of it");
    conn.server_acks(&mut bed);
    assert_eq!(conn.client_sends(&mut bed, 100).tcp().toa, SHOWN, "an ACK is no data");
    conn.server_sends(&mut bed, 300);
    let again = conn.by_client(&bed).seq(conn.client_next - 100).ack(conn.server_next - 300);
    assert_eq!(conn.to_server(&mut bed, again).tcp().toa, SHOWN, "does not acknowledge it");
    bed.settled();
    assert_eq!(conn.ack(&mut bed).tcp().toa, None);
    assert_eq!(conn.client_sends(&mut bed, 100).tcp().toa, None);
    bed.expect("received+2 sent+2");
}

/// As DPVS has it: right behind the 20 bytes, before all other options, `fe 08 port address`.
#[test]
fn its_bytes_are_those_of_dpvs() {
    let mut bed = Testbed::usual();
    let mut conn = Conn::syn(&mut bed, 40_000);
    conn.syn_ack(&mut bed);
    let request = conn.by_client(&bed).timestamps(1, 2).psh().payload(b"GET");
    bed.receive(bed.wan, request);
    let sent = bed.take(bed.lan);
    let frame = sent[0].frame();
    assert_eq!(frame[46] >> 4, 10, "40 bytes of TCP header");
    assert_eq!(frame[54..62], [0xfe, 8, 0x9c, 0x40, 198, 51, 100, 7]);
    assert_eq!(frame[62..66], [1, 1, 8, 10]);
    assert_eq!(&frame[74..], b"GET");
}

#[test]
fn neither_syn_nor_reset_has_it() {
    let mut bed = Testbed::usual();
    let mut conn = Conn::syn(&mut bed, 40_000);
    let again = conn.by_client(&bed).flags(2).seq(conn.client_next - 1).mss(1460);
    assert_eq!(bed.through(bed.wan, again, bed.lan).tcp().toa, None, "a SYN sent again");
    conn.syn_ack(&mut bed);
    conn.ack(&mut bed);
    let reset = conn.by_client(&bed).rst();
    assert_eq!(conn.to_server(&mut bed, reset).tcp().toa, None);
}

#[test]
fn a_clients_own_is_blanked() {
    let mut bed = Testbed::usual();
    let own = |packet: PacketBuilder| packet.toa("6.6.6.6", 666);
    let mut conn = Conn::syn_with(&mut bed, 40_000, own);
    conn.syn_ack(&mut bed);
    let ack = own(conn.by_client(&bed));
    let sent = conn.to_server(&mut bed, ack);
    assert_eq!(sent.tcp().toa, SHOWN);
    assert_eq!(sent.tcp().options[8..], [1; 8]);
}

/// Whatever service it comes by, in whichever segment: servers believe a LIP, not a service.
#[test]
fn a_clients_own_reaches_no_server() {
    let own = |packet: PacketBuilder| packet.toa("6.6.6.6", 666);
    let hides = |shop: &mut Plan| shop.spec.client_address = ClientAddress::None;
    for (setup, is_shown) in [(Setup::default(), true), (Setup::default().shop(hides), false)] {
        let mut bed = setup.build();
        let mut conn = Conn::syn(&mut bed, 40_000);
        conn.syn_ack(&mut bed);
        // The server drops it, as for its checksum, and what it acknowledges has never been sent.
        let forged = conn.by_client(&bed).ack(conn.server_next.wrapping_add(5));
        conn.to_server(&mut bed, forged);
        let ack = own(conn.by_client(&bed));
        let sent = conn.to_server(&mut bed, ack);
        assert_eq!(sent.tcp().toa, SHOWN.filter(|_| is_shown));
        assert_eq!(sent.tcp().options[if is_shown { 8 } else { 0 }..], [1; 8]);
        conn.server_sends(&mut bed, 100);
        conn.ack(&mut bed);
        let later = own(conn.by_client(&bed)).payload_len(10);
        assert_eq!(conn.to_server(&mut bed, later).tcp().options, [1; 8]);
    }
}

/// The first fragment of a segment gets no option, and keeps none.
#[test]
fn a_clients_own_is_blanked_in_a_fragment() {
    let mut bed = Testbed::usual();
    let mut conn = Conn::syn(&mut bed, 40_000);
    conn.syn_ack(&mut bed);
    bed.settled();
    let segment = conn.by_client(&bed).toa("6.6.6.6", 666).payload_len(100);
    for piece in pieces(&segment, 64) {
        bed.arrive_raw(0, bed.wan, piece);
    }
    bed.turn();
    let sent = whole(bed.take(bed.lan));
    assert_eq!(sent.tcp().options, [1; 8]);
    bed.expect("received+2 sent+2 half-open-1 toa.left-out+1");
}

#[test]
fn what_is_the_gateways_keeps_its_options() {
    let mut bed = Setup::default().gateway(&GatewayPlan::default());
    let syn = bed.by_inside(RS1, REMOTE).tcp(40_000, 80).syn().toa("6.6.6.6", 666);
    let sent = bed.through(bed.lan, syn, bed.wan);
    assert_eq!(sent.tcp().toa.map(|(_, sport)| sport), Some(666));
}

#[test]
fn it_stays_out_where_there_is_no_room() {
    let mut bed = Testbed::usual();
    let mut conn = Conn::syn(&mut bed, 40_000);
    conn.syn_ack(&mut bed);
    bed.settled();
    let full_header = conn.by_client(&bed).tcp_options(&[1; 36]);
    assert_eq!(conn.to_server(&mut bed, full_header).tcp().toa, None);
    let full_packet = conn.by_client(&bed).payload_len(1453);
    assert_eq!(conn.to_server(&mut bed, full_packet).tcp().toa, None);
    let fits = conn.by_client(&bed).payload_len(1452);
    assert_eq!(conn.to_server(&mut bed, fits).tcp().toa, SHOWN);
    bed.expect("received+3 sent+3 half-open-1 toa.left-out+2 toa.inserted+1");

    let tight = Buf::with_room(conn.by_client(&bed).build().frame(), 7, 0);
    assert_eq!(tight.total_len(), 54);
    bed.arrive_raw(0, bed.wan, tight);
    bed.turn();
    assert_eq!(bed.one(bed.lan).tcp().toa, None);
    bed.expect("received+1 sent+1 toa.left-out+1");
}

#[test]
fn a_service_may_leave_it_out() {
    let setup = Setup::default().shop(|shop| shop.spec.client_address = ClientAddress::None);
    let mut bed = setup.build();
    let mut conn = Conn::syn_with(&mut bed, 40_000, |syn| syn.mss(1460));
    assert_eq!(conn.syn_ack(&mut bed).tcp().mss, Some(1460));
    let ack = conn.by_client(&bed).payload_len(1460);
    let sent = conn.to_server(&mut bed, ack);
    assert_eq!((sent.tcp().toa, sent.ipv4().total_len), (None, 1500));
}

#[test]
fn the_mss_is_lowered_never_raised_and_towards_the_client_only() {
    for (servers, clients) in
        [(1460, 1452), (9000, 8992), (544, 536), (540, 536), (536, 536), (48, 48)]
    {
        let mut bed = Testbed::usual();
        let conn = Conn::syn_with(&mut bed, 40_000, |syn| syn.mss(servers));
        let syn_ack = conn.by_server(&bed).syn().mss(servers).window_scale(7).sack_permitted();
        let sent = conn.to_client(&mut bed, syn_ack.clone());
        let tcp = sent.tcp();
        assert_eq!((tcp.mss, tcp.window_scale), (Some(clients), Some(7)), "{servers}");
        assert_eq!(conn.to_client(&mut bed, syn_ack).tcp().mss, Some(clients), "sent again");
    }
    let mut bed = Testbed::usual();
    let syn = bed.by_client().tcp(40_000, 80).syn().mss(1460);
    assert_eq!(bed.through(bed.wan, syn, bed.lan).tcp().mss, Some(1460));
}

/// What a datagram to the server has behind its IPv4 header's twenty bytes.
fn ip_options(frame: &[u8]) -> &[u8] {
    &frame[34..14 + usize::from(frame[14] & 15) * 4]
}

#[test]
fn a_datagram_shows_it_as_an_ip_option() {
    const OPTION: [u8; 8] = [31, 8, 0x9c, 0x40, 198, 51, 100, 7];
    for one_packet in [false, true] {
        let setup = Setup::default().dns(|dns| {
            dns.spec.client_address = ClientAddress::Option;
            dns.spec.one_packet = one_packet;
        });
        let mut bed = setup.build();
        let sent = |bed: &mut Testbed, payload: usize| {
            let datagram = bed.by_client().udp(40_000, 53).payload_len(payload);
            bed.receive(bed.wan, datagram);
            bed.take(bed.lan).pop().expect("it goes on")
        };
        for payload in [0, 5, 1464] {
            let packet = sent(&mut bed, payload);
            assert_eq!(ip_options(packet.frame()), OPTION, "{one_packet} {payload}");
            assert!(Decoded::check(packet.frame()).udp().checksum_ok);
        }
        // One that would not fit any more goes without.
        let packet = sent(&mut bed, 1465);
        assert!(ip_options(packet.frame()).is_empty());
        bed.settled();
    }
    // Nothing is shown if nobody asked for it, not what the client itself says of it either.
    let mut bed = Testbed::usual();
    let datagram = bed.by_client().udp(40_000, 53).payload_len(5);
    bed.receive(bed.wan, datagram.clone());
    assert!(ip_options(bed.take(bed.lan)[0].frame()).is_empty());
    bed.receive(bed.wan, datagram.ip_options(&[31, 8, 0, 9, 6, 6, 6, 6]));
    let sent = bed.take(bed.lan).remove(0);
    assert_eq!(ip_options(sent.frame()), [1; 8]);
    Decoded::check(sent.frame());
}
