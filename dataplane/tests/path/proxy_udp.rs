//! Headers of the PROXY protocol on datagrams.

use std::net::IpAddr;

use balance::{ClientAddress, ClientHeader, ServiceSpec};
use nat::proxy::{Header, Version};
use testkit::{Decoded, PacketBuilder};
use types::Proto;

use crate::bed::{Setup, Testbed};
use crate::wide::{FOUR_TO_SIX, Kind, SIX, SIX_TO_FOUR, at, ends};

const FOUR: Kind = Kind { client6: false, server6: false };
const ALL: [Kind; 4] = [FOUR, SIX, SIX_TO_FOUR, FOUR_TO_SIX];
const PORT: u16 = 40_000;

fn setup(kind: Kind, change: impl FnOnce(&mut ServiceSpec)) -> Setup {
    kind.setup().dns(|dns| {
        dns.spec.client_address = ClientAddress::ProxyV2;
        change(&mut dns.spec);
    })
}

fn header(kind: Kind) -> Vec<u8> {
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    let ends = [(address(kind.client()), PORT), (address(kind.vip()), 53)];
    Header::new(Version::V2, Proto::Udp, ends[0], ends[1]).as_bytes().to_vec()
}

fn question(kind: Kind, bed: &Testbed) -> PacketBuilder {
    kind.by_client(bed).udp(PORT, 53)
}

#[track_caller]
fn asked(bed: &mut Testbed, packet: PacketBuilder) -> Decoded {
    bed.receive(bed.wan, packet);
    bed.one(bed.lan)
}

#[test]
fn each_datagram_has_one_or_the_first() {
    let both = ALL.into_iter().flat_map(|kind| [(kind, true, false), (kind, false, false)]);
    // Each datagram opens a conn of its own.
    let alone = ALL.map(|kind| (kind, false, true));
    for (kind, each, one_packet) in both.chain(alone) {
        let mut bed = setup(kind, |spec| {
            (spec.each_datagram, spec.one_packet) = (each, one_packet);
        })
        .build();
        for n in 0..3_usize {
            // Odd lengths too, and none.
            let payload = vec![b'x'; n * 3];
            let packet = question(kind, &bed).payload(&payload);
            let sent = asked(&mut bed, packet);
            let has_one = each || one_packet || n == 0;
            let expected = if has_one { [&header(kind)[..], &payload].concat() } else { payload };
            assert_eq!(sent.payload(), expected, "{kind:?} {each} {n}");
            let (lip, rs) = ends(&sent);
            let answer = kind.by_server(&bed, &rs.ip().to_string()).udp(53, lip.port());
            bed.receive(bed.lan, answer.payload(b"answer"));
            let back = bed.one(bed.wan);
            assert_eq!(ends(&back), (at(kind.vip(), 53), at(kind.client(), PORT)));
            assert_eq!(back.payload(), b"answer");
        }
        let values = bed.values();
        let headers = if each || one_packet { 3 } else { 1 };
        assert_eq!(values.event(counters::Event::ProxySent), headers);
    }
}

#[test]
fn a_clients_own_is_replaced_or_trusted() {
    let (claimed, garbage) = {
        let ends = [("6.6.6.6".parse().unwrap(), 1), ("9.9.9.9".parse().unwrap(), 2)];
        let mut bytes = Header::new(Version::V2, Proto::Udp, ends[0], ends[1]).as_bytes().to_vec();
        // With a TLV of an odd length.
        bytes[15] += 4;
        bytes.extend(b"\x02\0\x01s");
        (bytes.clone(), bytes[..20].to_vec())
    };
    for (kind, trust) in ALL.into_iter().flat_map(|kind| [(kind, false), (kind, true)]) {
        let mut bed = setup(kind, |spec| {
            spec.client_header = if trust { ClientHeader::Trust } else { ClientHeader::Replace };
        })
        .build();
        let theirs = [&claimed[..], b"question"].concat();
        let packet = question(kind, &bed).payload(&theirs);
        let sent = asked(&mut bed, packet);
        let ours = [&header(kind)[..], b"question"].concat();
        assert_eq!(sent.payload(), if trust { &theirs } else { &ours }, "{kind:?}");
        // Version 1 is of TCP.
        for data in [&garbage[..], b"PROXY UNKNOWN\r\nquestion"] {
            let packet = question(kind, &bed).payload(data);
            let sent = asked(&mut bed, packet);
            assert_eq!(sent.payload(), [&header(kind)[..], data].concat());
        }
    }
}

#[test]
fn no_checksum_stays_none() {
    let mut bed = setup(FOUR, |_| ()).build();
    let packet = question(FOUR, &bed).payload(b"question").no_checksum();
    bed.receive(bed.wan, packet);
    let frame = bed.take(bed.lan).pop().unwrap();
    assert_eq!(frame.frame()[40..42], [0, 0]);
    assert!(Decoded::check(frame.frame()).payload().ends_with(b"question"));
}

#[test]
fn what_does_not_fit_is_told_the_size_that_does() {
    // The largest payload that fits with the header of 28 bytes, of 1500 bytes.
    let most = 1_500 - 20 - 8 - 28;
    let mut bed = setup(FOUR, |_| ()).build();
    let fits = question(FOUR, &bed).df().payload_len(most);
    assert_eq!(asked(&mut bed, fits).payload().len(), most + 28);
    let not = question(FOUR, &bed).df().payload_len(most + 1);
    bed.settled();
    bed.receive(bed.wan, not);
    let told = bed.one(bed.wan);
    let icmp = told.icmp();
    assert_eq!((icmp.icmp_type, icmp.code, icmp.rest), (3, 4, 1_500 - 28));
    bed.expect("received+1 generated+1 sent+1 answered+1 answer.icmp-error+1");
    // Without DF it goes in two.
    let cut = question(FOUR, &bed).payload_len(most + 8);
    bed.receive(bed.wan, cut);
    assert_eq!(bed.take(bed.lan).len(), 2);
}

#[test]
fn one_in_fragments_does_not_pass_without() {
    for kind in [FOUR, SIX] {
        let mut bed = setup(kind, |_| ()).build();
        let first = question(kind, &bed).udp_len(8 + 64 + 16).payload_len(64);
        let second = kind.by_client(&bed).protocol(17).payload_len(16);
        let [first, second] = match kind.client6 {
            true => [first.fragment6(0, true, 7), second.fragment6(72, false, 7)],
            false => [first.ident(7).fragment(0, true), second.ident(7).fragment(72, false)],
        };
        bed.receive(bed.wan, first);
        bed.receive(bed.wan, second);
        bed.nothing_sent();
        assert_eq!(bed.values().verdict(types::Verdict::NoRoom), 2, "{kind:?}");
    }
}

/// A router on the way has no room for what the client would have sent.
#[test]
fn an_icmp_error_tells_the_client_the_size_that_it_may_have() {
    let mut bed = setup(FOUR, |_| ()).build();
    let packet = question(FOUR, &bed).df().payload_len(1_400);
    bed.receive(bed.wan, packet);
    let sent = bed.take(bed.lan).pop().unwrap();
    let (lip, rs) = ends(&Decoded::check(sent.frame()));
    let quoted = testkit::pkt()
        .ipv4(&*lip.ip().to_string(), &*rs.ip().to_string())
        .df()
        .udp(lip.port(), rs.port())
        .payload_len(1_428);
    let router = bed.by_server("198.18.0.99").ipv4("198.18.0.99", &*lip.ip().to_string());
    bed.receive(bed.lan, router.icmp(3, 4, 1_300).quote(&quoted));
    let told = bed.one(bed.wan);
    assert_eq!(told.icmp().rest, 1_300 - 28);
}
