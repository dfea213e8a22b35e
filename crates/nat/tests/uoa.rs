//! The client of a datagram towards servers of IPv6, and a client of IPv6 towards those of IPv4.

use nat::rewrite::Layout;
use nat::toa::Inserted;
use nat::uoa;
use testkit::decoded::Net;
use testkit::{Decoded, PacketBuilder, pkt};
use types::Address;

const MTU: usize = 1500;
const DESTINATION_OPTIONS: u8 = 60;
/// `2001:db8::7`, port 0x1234, as they stand in the option.
const CLIENT: (&str, u16) = ("2001:db8::7", 0x1234);
const MARK: [u8; 20] =
    [0x1e, 18, 0x12, 0x34, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
/// The same of another client.
const FORGED: [u8; 20] =
    [0x1e, 18, 0x12, 0x35, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8];

/// Shows a client to a server of IPv6, and no other one; the frame, and what became of the option.
fn shown(builder: PacketBuilder, client: &str, mtu: usize) -> (Vec<u8>, Inserted) {
    let mut packet = builder.build();
    let frame = packet.frame();
    let payload_len = usize::from(u16::from_be_bytes([frame[18], frame[19]]));
    let mut parsed = wire::Parsed6::default();
    let _ = wire::parse6(frame, frame.len(), &mut parsed);
    let at = Layout { l3: 14, l4: parsed.l4.into(), ip_len: 40 + payload_len };
    let client = u128::from_ip(client.parse().unwrap()).unwrap();
    if uoa::has_options(packet.frame(), at) {
        uoa::blank(&mut packet, at).unwrap();
    }
    let inserted = uoa::insert(&mut packet, at, (client, CLIENT.1), mtu).unwrap();
    (packet.frame().to_vec(), inserted)
}

fn datagram() -> PacketBuilder {
    pkt().ipv6("2001:db8:2::200", "2001:db8:2::2").udp(1_027, 53).payload(b"ping")
}

#[test]
fn an_ipv6_client_stands_right_behind_the_fixed_header() {
    let (frame, inserted) = shown(datagram(), CLIENT.0, MTU);
    assert_eq!(inserted, Inserted::Yes);
    assert_eq!(frame[14 + 6], DESTINATION_OPTIONS);
    assert_eq!(frame[54..56], [17, 2]);
    assert_eq!(frame[56..76], MARK);
    assert_eq!(frame[76..78], [1, 0], "two bytes of padding");
    let decoded = Decoded::check(&frame);
    assert_eq!((decoded.udp().sport, decoded.udp().dport), (1_027, 53));
    assert_eq!(decoded.payload(), b"ping");
    let Net::Ipv6(ip) = &decoded.net else { panic!("{decoded}") };
    assert_eq!((ip.extensions, usize::from(ip.payload_len)), (1, 24 + 12));
    assert_eq!(wire::parse6(&frame, frame.len(), &mut wire::Parsed6::default()), Ok(()));
}

#[test]
fn an_ipv4_client_is_a_mapped_address_there() {
    let (frame, inserted) = shown(datagram(), "192.0.2.1", MTU);
    assert_eq!(inserted, Inserted::Yes);
    assert_eq!(frame[60..76], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1]);
    Decoded::check(&frame);
}

#[test]
fn without_room_it_stays_out() {
    let exactly = 40 + 12 + 24;
    assert_eq!(shown(datagram(), CLIENT.0, exactly).1, Inserted::Yes);
    for (builder, mtu) in [
        (datagram(), exactly - 1),
        // The server looks behind the fixed header only, and fragments are for nobody to change.
        (datagram().options_header(0, &[]), MTU),
        (datagram().payload_len(64).fragment6(0, true, 7), MTU),
    ] {
        let before = builder.build().frame().to_vec();
        assert_eq!(shown(builder, CLIENT.0, mtu), (before, Inserted::NoRoom));
    }
}

#[test]
fn no_client_claims_anothers_address() {
    let padding = |option: &[u8]| {
        let mut blanked = option.to_vec();
        blanked.fill(0);
        blanked[..2].copy_from_slice(&[1, option.len() as u8 - 2]);
        blanked
    };
    let begins = |frame: &[u8], at: usize, option: &[u8]| frame[at..at + option.len()] == *option;
    let own = |builder: PacketBuilder| builder.options_header(DESTINATION_OPTIONS, &FORGED);
    // Alone, behind other headers, and where a fragment hides it until the server has put it together.
    for (builder, at) in [
        (own(datagram()), 56),
        (own(datagram().options_header(0, &[])), 64),
        (own(datagram().fragment6(0, true, 7)).payload_len(32), 64),
    ] {
        assert!(begins(builder.build().frame(), at, &FORGED));
        let (frame, inserted) = shown(builder, CLIENT.0, MTU);
        assert_eq!(inserted, Inserted::NoRoom);
        assert!(begins(&frame, at, &padding(&FORGED)), "{:?}", &frame[54..]);
    }
    // Behind others, and what ends in the middle of one.
    let mixed = [&[0, 1, 1, 0, 5, 2, 0, 0][..], &FORGED].concat();
    let (frame, _) = shown(datagram().options_header(DESTINATION_OPTIONS, &mixed), CLIENT.0, MTU);
    assert_eq!(frame[56..64], mixed[..8]);
    assert!(begins(&frame, 64, &padding(&FORGED)));
    for malformed in [&[0x1e][..], &[0x1e, 200, 0, 0], &[0, 0, 0, 0, 0, 0x1e]] {
        shown(datagram().options_header(DESTINATION_OPTIONS, malformed), CLIENT.0, MTU);
    }
}

/// DPVS's `uoa` has 20 bytes for such a client, in IPv4 as in its header of its own.
#[test]
fn an_ipv6_client_of_an_ipv4_server() {
    let mut packet =
        pkt().ipv4("192.168.100.201", "192.168.100.2").udp(1_027, 53).payload(b"ping").build();
    let at = Layout { l3: 14, l4: 34, ip_len: 32 };
    let client = u128::from_ip(CLIENT.0.parse().unwrap()).unwrap();
    for (mtu, inserted) in [(51, Inserted::NoRoom), (52, Inserted::Yes)] {
        assert_eq!(uoa::insert(&mut packet, at, (client, CLIENT.1), mtu), Ok(inserted));
    }
    assert_eq!(packet.frame()[34..36], [31, 20]);
    assert_eq!(packet.frame()[36..54], MARK[2..]);
    let decoded = Decoded::check(packet.frame());
    assert_eq!((decoded.ipv4().total_len, decoded.payload()), (52, &b"ping"[..]));
}
