//! Neighbours, routers and listeners of IPv6: what is read of them, what is refused, and what we ask and tell ourselves.

use testkit::{Buf, Decoded, PacketBuilder, ip6, mac, pkt};
use types::{MacAddr, Packet, Verdict};
use wire::mld::{self, Change};
use wire::ndp::{self, AdvertisementFlags, Message};
use wire::{Kind, extension, icmpv6, ipv6, reply};

const A: &str = "2001:db8::1";
const B: &str = "2001:db8:1::2";

/// A solicitation as a host sends it.
fn solicitation(source: &str, option: Option<MacAddr>) -> PacketBuilder {
    let group = ipv6::solicited_node(ip6(B));
    let option = option.map_or_else(Vec::new, |mac| [&[1, 1], &mac.0[..]].concat());
    pkt()
        .eth(mac(9), ipv6::multicast_mac(group))
        .ipv6(ip6(source), group)
        .ttl(255)
        .icmp6(icmpv6::NEIGHBOUR_SOLICITATION, 0, 0)
        .payload([&ip6(B).to_be_bytes()[..], &option].concat())
}

fn read(packet: &PacketBuilder) -> Result<Message, Verdict> {
    let mut buf = packet.build();
    let parsed = buf.parsed6();
    assert_eq!(parsed.kind, Kind::Ndp);
    ndp::read(&buf, &parsed)
}

#[test]
fn rfc4861_7_1_1_solicitations_are_validated() {
    let asked = |source_mac| Message::NeighbourSolicitation { target: ip6(B), source_mac };
    assert_eq!(read(&solicitation(A, Some(mac(9)))), Ok(asked(Some(mac(9)))));
    assert_eq!(read(&solicitation(A, None)), Ok(asked(None)));
    assert_eq!(read(&solicitation("::", None)), Ok(asked(None)));
    let bad = Err(Verdict::BadNdp);
    assert_eq!(read(&solicitation("::", Some(mac(9)))), bad);
    assert_eq!(read(&solicitation(A, Some(MacAddr::BROADCAST))), bad);
    assert_eq!(read(&solicitation(A, None).bad_checksum()), bad);
    assert_eq!(read(&solicitation(A, None).payload([0; 16])), bad);
    assert_eq!(read(&solicitation(A, None).payload(ip6("ff02::1").to_be_bytes())), bad);
    assert_eq!(read(&solicitation(A, None).payload([1; 15])), bad);
    let options =
        |bytes: &[u8]| solicitation(A, None).payload([&ip6(B).to_be_bytes()[..], bytes].concat());
    for option in [&[1, 0, 0, 0, 0, 0, 0, 0][..], &[1, 2, 0, 0, 0, 0, 0, 0], &[1]] {
        assert_eq!(read(&options(option)), bad, "{option:?}");
    }
    assert_eq!(read(&options(&[14, 1, 0, 0, 0, 0, 0, 0])), Ok(asked(None)), "a nonce");
    assert_eq!(read(&solicitation(A, None).icmp6(135, 1, 0)), bad);
    assert_eq!(read(&solicitation("::", None).ipv6("::", B)), bad);
}

#[test]
fn rfc4861_6_1_2_routers_are_read() {
    let mut options = vec![1, 1, 2, 0, 0, 0, 0, 9, 5, 1, 0, 0, 0, 0, 5, 0xdc];
    options.extend([3, 4, 64, 0xc0, 0, 0, 0, 9, 0, 0, 0, 9, 0, 0, 0, 0]);
    options.extend(ip6("2001:db8:5::").to_be_bytes());
    let advertisement = |source: &str, options: &[u8]| {
        pkt()
            .ipv6(source, "ff02::1")
            .ttl(255)
            .icmp6(icmpv6::ROUTER_ADVERTISEMENT, 0, 0x4000_0708)
            .payload([&[0; 8], options].concat())
    };
    let Ok(Message::RouterAdvertisement(said)) = read(&advertisement("fe80::9", &options)) else {
        panic!("no advertisement");
    };
    assert_eq!((said.hop_limit, said.lifetime_s, said.mtu), (64, 1800, Some(1500)));
    assert_eq!((said.source_mac, said.on_link), (Some(mac(9)), Some((ip6("2001:db8:5::"), 64))));
    assert_eq!(read(&advertisement(A, &options)), Err(Verdict::BadNdp));
    assert_eq!(read(&advertisement("fe80::9", &[3, 1, 0, 0, 0, 0, 0, 0])), Err(Verdict::BadNdp));
    let solicitation = |source: &str| {
        pkt().ipv6(source, "ff02::2").ttl(255).icmp6(133, 0, 0).payload([1, 1, 2, 0, 0, 0, 0, 9])
    };
    let asked = Message::RouterSolicitation { source_mac: Some(mac(9)) };
    assert_eq!(read(&solicitation("fe80::9")), Ok(asked));
    assert_eq!(read(&solicitation("::")), Err(Verdict::BadNdp));
    let redirect = pkt().ipv6("fe80::9", A).ttl(255).icmp6(137, 0, 0).payload([0; 32]);
    assert_eq!(read(&redirect), Ok(Message::Redirect));
}

#[test]
fn rfc4861_7_2_4_solicitations_are_answered_in_place() {
    for (question, to, solicited) in [
        (solicitation(A, Some(mac(9))), ip6(A), true),
        (solicitation(A, None), ip6(A), true),
        (solicitation("::", None), ipv6::ALL_NODES, false),
    ] {
        for question in [question.clone(), question.clone().vlan(100), question.segmented(60)] {
            let mut buf = question.build();
            let parsed = buf.parsed6();
            assert!(buf.pull(parsed.ip_end()));
            let message = ndp::read(&buf, &parsed).unwrap();
            // Several segments cannot grow, but this question fits its answer or is whole by now.
            assert!(reply::neighbour_advertisement(&mut buf, &parsed, &message, mac(2)));
            let told = Decoded::check(&buf);
            assert_eq!((told.key6().src, told.key6().dst), (ip6(B), to));
            assert_eq!((told.eth_src, told.ipv6().hop_limit), (mac(2), 255));
            let station = if solicited { mac(9) } else { ipv6::multicast_mac(to) };
            assert_eq!(told.eth_dst, station);
            let parsed = buf.parsed6();
            let flags = AdvertisementFlags { router: true, solicited, overrides: true };
            let answer =
                Message::NeighbourAdvertisement { target: ip6(B), target_mac: Some(mac(2)), flags };
            assert_eq!(ndp::read(&buf, &parsed), Ok(answer));
            assert!(!reply::neighbour_advertisement(&mut buf, &parsed, &answer, mac(2)));
        }
    }
}

#[test]
fn what_we_ask_and_tell_neighbours() {
    let mut bytes = [0xa5; ndp::MAX_LEN];
    let len = ndp::write_solicitation(&mut bytes, mac(2), 7, ip6(B), ip6(A), None).unwrap();
    assert_eq!(len, ndp::MAX_LEN);
    let group = ipv6::solicited_node(ip6(A));
    let asked = Decoded::check(&bytes);
    assert_eq!((asked.eth_dst, asked.vlan), (ipv6::multicast_mac(group), Some(7)));
    assert_eq!((asked.key6().src, asked.key6().dst), (ip6(B), group));
    let mut buf = Buf::new(&bytes);
    let parsed = buf.parsed6();
    let message = Message::NeighbourSolicitation { target: ip6(A), source_mac: Some(mac(2)) };
    assert_eq!(ndp::read(&buf, &parsed), Ok(message));

    let len = ndp::write_solicitation(&mut bytes, mac(2), 0, ip6(B), ip6(A), Some(mac(9))).unwrap();
    let asked = Decoded::check(&bytes[..len]);
    assert_eq!((asked.eth_dst, asked.key6().dst), (mac(9), ip6(A)));
    let len = ndp::write_solicitation(&mut bytes, mac(2), 0, 0, ip6(B), None).unwrap();
    let mut probe = Buf::new(&bytes[..len]);
    let parsed = probe.parsed6();
    let message = Message::NeighbourSolicitation { target: ip6(B), source_mac: None };
    assert_eq!(ndp::read(&probe, &parsed), Ok(message));

    let len = ndp::write_announcement(&mut bytes, mac(2), 0, ip6(B)).unwrap();
    let told = Decoded::check(&bytes[..len]);
    assert_eq!((told.key6().dst, told.eth_dst), (ipv6::ALL_NODES, mac([0x33, 0x33, 0, 0, 0, 1])));
    for short in 0..len {
        assert_eq!(ndp::write_announcement(&mut bytes[..short], mac(2), 0, ip6(B)), None);
    }
}

#[test]
fn rfc3810_5_2_reports_name_our_groups() {
    let groups: Vec<u128> = (1..=61).map(ipv6::solicited_node).collect();
    let mut bytes = [0xa5; mld::MAX_LEN];
    let write = |bytes: &mut [u8], groups: &[u128]| {
        mld::write_report(bytes, mac(2), 5, ip6("fe80::2"), Change::Joins, groups)
    };
    assert_eq!(write(&mut bytes, &groups), None, "more than fit");
    assert_eq!(write(&mut bytes, &[]), None);
    let len = write(&mut bytes, &groups[..60]).unwrap();
    assert_eq!(len, mld::MAX_LEN);
    let told = Decoded::check(&bytes);
    assert_eq!((told.key6().dst, told.ipv6().hop_limit), (ip6("ff02::16"), 1));
    assert_eq!((told.ipv6().extensions, told.icmp6().icmp_type, told.icmp6().rest), (1, 143, 60));
    assert_eq!(told.payload()[20..24], [4, 0, 0, 0]);
    assert_eq!(told.payload()[24..40], groups[1].to_be_bytes());
    for short in 0..len {
        assert_eq!(write(&mut bytes[..short], &groups[..60]), None);
    }
}

#[test]
fn queries_for_listeners_are_read() {
    let query = |source: &str, ttl: u8, code: u16| {
        pkt()
            .ipv6(source, "ff02::1")
            .ttl(ttl)
            .options_header(extension::HOP_BY_HOP, &[5, 2, 0, 0])
            .icmp6(icmpv6::MLD_QUERY, 0, u32::from(code) << 16)
            .payload([0; 20])
    };
    let read = |packet: &PacketBuilder| {
        let mut buf = packet.build();
        let parsed = buf.parsed6();
        mld::read_query(&buf, &parsed)
    };
    for (code, max_delay_ms) in
        [(10_000, 10_000), (0x7fff, 32_767), (0x8000, 32_768), (0xffff, 8_387_584)]
    {
        assert_eq!(read(&query("fe80::9", 1, code)), Some(mld::Query { max_delay_ms, group: 0 }));
    }
    for wrong in [
        query(A, 1, 0),
        query("fe80::9", 2, 0),
        query("fe80::9", 1, 0).bad_checksum(),
        query("fe80::9", 1, 0).payload([0; 12]),
        query("fe80::9", 1, 0).icmp6(131, 0, 0),
    ] {
        assert_eq!(read(&wrong), None);
    }
}
