//! IPv6 to addresses of ours: neighbour discovery, echo, and what multicast routers ask.

use dataplane::worker::link::Event;
use fib::{Address, Heard, Role};
use testkit::{Buf, mac, pkt};
use types::{EthPortId, MacAddr};
use wire::ndp::{self, AdvertisementFlags, Message};
use wire::{Parsed6, parse6};

use crate::bed::Testbed;

const VIP6: u128 = 0x2001_0db8_0000_0000_0000_0000_0000_0010;
const OWN6: u128 = 0x2001_0db8_0000_0000_0000_0000_0000_0002;
const HOST6: u128 = 0x2001_0db8_0000_0000_0000_0000_0000_0100;
const HOST: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x64]);
const ALL_NODES: u128 = 0xff02 << 112 | 1;

fn ip6(number: u128) -> std::net::IpAddr {
    std::net::Ipv6Addr::from_bits(number).into()
}

/// The usual testbed with IPv6 addresses on `wan0`.
fn bed() -> Testbed {
    let mut bed = Testbed::usual();
    let iface = EthPortId(bed.wan as u16);
    bed.update_fib(|fib| {
        fib.addresses.extend([(VIP6, 128, Role::Vip), (OWN6, 64, Role::Local)].map(
            |(address, prefix_len, role)| Address {
                address: ip6(address),
                prefix_len,
                iface,
                role,
            },
        ));
    });
    bed.settled();
    bed
}

fn receive(bed: &mut Testbed, frame: &[u8]) {
    bed.arrive_raw(0, bed.wan, Buf::new(frame));
    bed.turn();
}

fn frame(write: impl FnOnce(&mut [u8]) -> Option<usize>) -> Vec<u8> {
    let mut bytes = vec![0; 1500];
    let len = write(&mut bytes).unwrap();
    bytes.truncate(len);
    bytes
}

fn question(source: u128, target: u128, last: Option<MacAddr>) -> Vec<u8> {
    frame(|bytes| ndp::write_solicitation(bytes, HOST, 0, source, target, last))
}

fn answer(flags: AdvertisementFlags, to: (MacAddr, u128), target: u128) -> Vec<u8> {
    frame(|bytes| ndp::write_advertisement(bytes, HOST, 0, to, target, flags))
}

fn learned(bed: &Testbed, address: u128, how: Heard) -> Event {
    let interface = EthPortId(bed.wan as u16);
    Event::Learned { interface, address: ip6(address), mac: HOST, how }
}

/// The one advertisement that was sent: Ethernet and IPv6 destination, target, Ethernet address, solicited.
#[track_caller]
fn advertised(bed: &mut Testbed) -> (MacAddr, u128, u128, MacAddr, bool) {
    let sent = bed.take(bed.wan);
    let [frame] = &*sent else { panic!("{} frames", sent.len()) };
    let mut parsed = Parsed6::default();
    parse6(frame.frame(), frame.frame().len(), &mut parsed).unwrap();
    let message = ndp::read(frame.frame(), &parsed).unwrap();
    let Message::NeighbourAdvertisement { target, target_mac, flags } = message else {
        panic!("{message:?}")
    };
    assert_eq!((parsed.ttl, flags.overrides), (255, true));
    let to = wire::Ethernet::new_checked(frame.frame()).unwrap().destination();
    (to, parsed.key.dst, target, target_mac.unwrap(), flags.solicited)
}

#[test]
fn solicitations_for_our_addresses_are_answered_and_told() {
    let mut bed = bed();
    let ours = bed.snapshot.interfaces[bed.wan].mac;
    let local = bed.snapshot.fib.link_local(EthPortId(bed.wan as u16)).unwrap();
    for target in [VIP6, OWN6, local] {
        for last in [None, Some(ours)] {
            receive(&mut bed, &question(HOST6, target, last));
            bed.expect("received+1 answered+1 generated+1 sent+1 answer.nd+1 told+1");
            assert_eq!(bed.told.last(), Some(&learned(&bed, HOST6, Heard::Request)));
            assert_eq!(advertised(&mut bed), (HOST, HOST6, target, ours, true));
        }
    }
}

#[test]
fn rfc4861_7_2_4_who_tries_our_address_is_told_with_all_others() {
    let mut bed = bed();
    let ours = bed.snapshot.interfaces[bed.wan].mac;
    receive(&mut bed, &question(0, VIP6, None));
    bed.expect("received+1 answered+1 generated+1 sent+1 answer.nd+1");
    let all = MacAddr([0x33, 0x33, 0, 0, 0, 1]);
    assert_eq!(advertised(&mut bed), (all, ALL_NODES, VIP6, ours, false));
}

#[test]
fn others_addresses_are_not_answered_for() {
    let mut bed = bed();
    receive(&mut bed, &question(HOST6, HOST6 + 7, None));
    bed.expect("received+1 drop.not-ours+1");
    // Ours, but not on this interface.
    let frame = question(HOST6, VIP6, None);
    bed.arrive_raw(0, bed.lan, Buf::new(&frame));
    bed.turn();
    bed.expect("received+1 drop.not-ours+1");
    bed.nothing_sent();
    // One that has an address of ours is told of, whatever it asks for.
    receive(&mut bed, &question(VIP6, HOST6 + 7, None));
    bed.expect("received+1 drop.not-ours+1 told+1");
    assert_eq!(bed.told.last(), Some(&learned(&bed, VIP6, Heard::Gratuitous)));
}

#[test]
fn advertisements_are_told_by_what_they_are_worth() {
    let mut bed = bed();
    let ours = bed.snapshot.interfaces[bed.wan].mac;
    let all = (MacAddr([0x33, 0x33, 0, 0, 0, 1]), ALL_NODES);
    let flags = |solicited, overrides| AdvertisementFlags { router: false, solicited, overrides };
    for (flags, to, how) in [
        (flags(true, true), (ours, OWN6), Heard::Reply),
        (flags(true, false), (ours, OWN6), Heard::WeakReply),
        (flags(false, true), all, Heard::Gratuitous),
    ] {
        receive(&mut bed, &answer(flags, to, HOST6));
        bed.expect("received+1 punted+1 told+1");
        assert_eq!(bed.told.last(), Some(&learned(&bed, HOST6, how)));
    }
    receive(&mut bed, &answer(flags(false, false), all, HOST6));
    bed.expect("received+1 drop.not-ours+1");
    receive(&mut bed, &answer(flags(false, false), all, VIP6));
    bed.expect("received+1 punted+1 told+1");
    assert_eq!(bed.told.last(), Some(&learned(&bed, VIP6, Heard::Gratuitous)));
    bed.nothing_sent();
}

#[test]
fn discovery_from_beyond_the_link_is_dropped() {
    let mut bed = bed();
    let mut forged = question(HOST6, VIP6, None);
    forged[14 + 7] = 254;
    receive(&mut bed, &forged);
    bed.expect("received+1 drop.bad-ndp+1");
    let mut damaged = question(HOST6, VIP6, None);
    *damaged.last_mut().unwrap() ^= 1;
    receive(&mut bed, &damaged);
    bed.expect("received+1 drop.bad-ndp+1");
    bed.nothing_sent();
}

#[test]
fn echo_is_answered() {
    let mut bed = bed();
    let ours = bed.snapshot.interfaces[bed.wan].mac;
    let local = bed.snapshot.fib.link_local(EthPortId(bed.wan as u16)).unwrap();
    for target in [VIP6, OWN6, local] {
        let ping = pkt().eth(HOST, ours).ipv6(HOST6, target).echo_request6(7, 1);
        bed.receive(bed.wan, ping.payload(b"abcdefg"));
        bed.expect("received+1 answered+1 generated+1 sent+1 answer.echo+1");
        let sent = bed.one(bed.wan);
        assert_eq!((sent.eth_src, sent.eth_dst), (ours, HOST));
        let (ip, echo) = (sent.ipv6(), sent.icmp6());
        assert_eq!((ip.src, ip.dst), (target, HOST6));
        assert_eq!((echo.icmp_type, echo.ident(), echo.seq()), (129, 7, 1));
        assert!(sent.checksums_ok());
        assert_eq!(sent.payload(), b"abcdefg");
    }
    bed.receive(bed.wan, pkt().eth(HOST, mac(9)).ipv6(HOST6, VIP6).echo_request6(7, 1));
    bed.expect("received+1 drop.other-station+1");
    bed.receive(bed.wan, pkt().eth(HOST, ours).ipv6(HOST6, VIP6 + 1).echo_request6(7, 1));
    bed.expect("received+1 drop.not-ours+1");
    bed.receive(bed.wan, pkt().eth(HOST, ours).ipv6(HOST6, OWN6).echo_reply6(7, 1));
    bed.expect("received+1 drop.no-conn+1");
    bed.receive(bed.wan, pkt().eth(HOST, ours).ipv6(HOST6, OWN6).tcp(1000, 80));
    bed.expect("received+1 drop.no-service+1");
}

#[test]
fn queries_for_listeners_are_told() {
    let mut bed = bed();
    let router = 0xfe80 << 112 | 1;
    for group in [0, fib::solicited_node(VIP6)] {
        let query = pkt()
            .eth(HOST, MacAddr([0x33, 0x33, 0, 0, 0, 1]))
            .ipv6(router, ALL_NODES)
            .ttl(1)
            .options_header(0, &[5, 2, 0, 0])
            .icmp6(130, 0, 1000 << 16)
            .payload([&group.to_be_bytes()[..], &[2, 125, 0, 0]].concat());
        bed.receive(bed.wan, query);
        bed.expect("received+1 punted+1 told+1");
        let interface = EthPortId(bed.wan as u16);
        assert_eq!(bed.told.last(), Some(&Event::Queried { interface, group, max_delay_ms: 1000 }));
    }
    bed.nothing_sent();
}
