//! Whole packets of conns with an IPv6 side through their flows, judged by etherparse and by what DPVS sent.

use std::net::IpAddr;

use flow::{Flow, flags};
use nat::fullnat::{ClientAddress, Opening, flows};
use nat::nat64::{ErrorLayout, Mtus};
use nat::reuse::Pair;
use nat::rewrite::{Layout, Outcome};
use nat::wide::{self, Sides};
use nat::{Secrets, toa};
use proptest::prelude::*;
use testkit::decoded::Net;
use testkit::{Buf, Decoded, PacketBuilder, pkt};
use types::{Address, FlowKey6, Now, Packet, Proto, Verdict};
use wire::Parsed;

const SECRETS: Secrets = Secrets { isn: [1, 2], timestamp: [3, 4] };
const MTUS: Mtus = Mtus { v4: 1500, v6: 1500 };
const MTU: usize = 1500;

/// Client, VIP, LIP and real server of a conn, with the port of each.
#[derive(Clone, Copy)]
struct Ends([(&'static str, u16); 4]);

/// Those of `reference/pcaps/rs-v6-fnat-tcp-toa.pcap`.
const SIX: Ends = Ends([
    ("2001:db8:1::2", 41_064),
    ("2001:db8:1::100", 80),
    ("2001:db8:2::200", 1_027),
    ("2001:db8:2::2", 8_080),
]);
/// Those of `reference/pcaps/rs-nat64-tcp-toa.pcap`.
const SIX_TO_FOUR: Ends = Ends([
    ("2001:db8:1::2", 34_678),
    ("2001:db8:1::100", 80),
    ("192.168.100.201", 1_027),
    ("192.168.100.2", 8_080),
]);
const FOUR_TO_SIX: Ends = Ends([
    ("10.0.0.2", 60_942),
    ("10.0.0.100", 80),
    ("2001:db8:2::200", 1_027),
    ("2001:db8:2::2", 8_080),
]);
const ALL: [Ends; 3] = [SIX, SIX_TO_FOUR, FOUR_TO_SIX];

fn number(text: &str) -> u128 {
    u128::from_ip(text.parse().unwrap()).unwrap()
}

impl Ends {
    fn pair(self) -> Pair<u128> {
        let [.., (lip, lport), (rs, rport)] = self.0;
        Pair { lip: number(lip), lport, rs: number(rs), rport }
    }

    /// The flows of a conn whose client began with sequence number 1000 and timestamp 50.
    fn conn(self, proto: Proto) -> (Flow<u128>, Flow<u128>) {
        let [(client, sport), (vip, dport), ..] = self.0;
        let (src, dst, proto) = (number(client), number(vip), proto.number());
        let key = FlowKey6 { src, dst, sport, dport, zone: 0, proto };
        let opening = Opening { key, sequence: 1000, timestamp: Some(50) };
        let now = Now::from_ms(77_000);
        flows(&opening, self.pair(), ClientAddress::Toa, &SECRETS, now)
    }

    fn packet(self, from: usize, to: usize) -> PacketBuilder {
        let [from, to] = [self.0[from].0, self.0[to].0];
        match from.parse().unwrap() {
            IpAddr::V4(_) => pkt().ipv4(from, to).df(),
            IpAddr::V6(_) => pkt().ipv6(from, to),
        }
    }

    fn by_client(self) -> PacketBuilder {
        self.packet(0, 1).ttl(64)
    }

    fn by_server(self) -> PacketBuilder {
        self.packet(3, 2).ttl(64)
    }

    fn to_server(self, builder: PacketBuilder) -> PacketBuilder {
        builder.tcp(self.0[0].1, self.0[1].1)
    }

    fn to_client(self, builder: PacketBuilder) -> PacketBuilder {
        builder.tcp(self.0[3].1, self.0[2].1)
    }
}

/// Where the headers of a packet stand, and those of what it quotes.
fn layout(packet: &mut Buf) -> ErrorLayout {
    if packet.bytes()[12..14] == [0x08, 0x00] {
        ErrorLayout::from(&packet.parsed())
    } else {
        let parsed: Parsed<u128> = packet.parsed6();
        ErrorLayout::from(&parsed)
    }
}

fn translated(builder: &PacketBuilder, flow: &Flow<u128>) -> Result<(Buf, Outcome), Verdict> {
    let mut packet = builder.build();
    let Layout { l3, l4, ip_len } = layout(&mut packet).outer;
    let shown = flow.has(flags::TOA) && !flow.has(flags::REVERSE);
    let at = Layout { l3, l4, ip_len };
    let outcome = wide::apply(&mut packet, at, flow, shown, MTU, 7)?;
    let inserted = match outcome.toa {
        Some(toa::Inserted::Yes) => usize::from(toa::len(flow.src)),
        _ => 0,
    };
    let now = layout(&mut packet).outer;
    assert_eq!(now.ip_len, Sides::of(flow).len_after(at) + inserted);
    Ok((packet, outcome))
}

fn sent(builder: &PacketBuilder, flow: &Flow<u128>) -> Decoded {
    Decoded::check(translated(builder, flow).unwrap().0.frame())
}

/// The tuple, IPv4 addresses mapped, and the TTL or hop limit.
fn tuple(decoded: &Decoded) -> (FlowKey6, u8) {
    match &decoded.net {
        Net::Ipv6(ip) => (decoded.key6(), ip.hop_limit),
        _ => (decoded.key().into(), decoded.ipv4().ttl),
    }
}

#[test]
fn a_syn_gets_our_numbers_and_its_answer_the_clients() {
    for ends in ALL {
        let (forward, reverse) = ends.conn(Proto::Tcp);
        let syn = ends.to_server(ends.by_client()).syn().seq(1000).mss(1440).timestamps(50, 0);
        let at_server = sent(&syn, &forward);
        assert_eq!(tuple(&at_server), (forward.new_key(), 63));
        let tcp = at_server.tcp();
        let now = Now::from_ms(77_000);
        assert_eq!(tcp.seq, SECRETS.initial_sequence(ends.pair(), now));
        let Pair { lip, rs, .. } = ends.pair();
        assert_eq!(tcp.timestamps, Some((SECRETS.initial_timestamp(lip, rs, now), 0)));
        // RFC 7915 §4: what the header grows is not the payload's any more.
        let to_six = Sides::of(&forward) == Sides::FourToSix;
        assert_eq!(tcp.mss, Some(if to_six { 1420 } else { 1440 }));

        let (ack, echo) = (tcp.seq.wrapping_add(1), tcp.timestamps.unwrap().0);
        let answer = ends.to_client(ends.by_server()).syn().seq(9_000).ack(ack).mss(1440);
        let at_client = sent(&answer.timestamps(7, echo), &reverse);
        assert_eq!(tuple(&at_client), (reverse.new_key(), 63));
        let tcp = at_client.tcp();
        assert_eq!((tcp.seq, tcp.ack, tcp.timestamps), (9_000, 1_001, Some((7, 50))));
        // Room for the client's address, and for a longer header towards an IPv6 client.
        let less = match Sides::of(&forward) {
            Sides::Six => 20,
            Sides::SixToFour => 20 + 20,
            Sides::FourToSix | Sides::Four => 8,
        };
        assert_eq!(tcp.mss, Some(1440 - less));
    }
}

/// The handshake's ACK and the first data as DPVS sent them: 20 bytes of TCP header, then `fe 14 port
/// address`, also to an IPv4 server; of an IPv4 client `fe 08 port address`.
#[test]
fn the_clients_address_stands_where_dpvs_puts_it() {
    let six = |port: [u8; 2]| {
        let address = number("2001:db8:1::2").to_be_bytes();
        [&[0xfe, 0x14][..], &port, &address].concat()
    };
    let four = [0xfe, 0x08, 0xee, 0x0e, 0x0a, 0x00, 0x00, 0x02].to_vec();
    let cases = [
        (SIX, 74, six([0xa0, 0x68])),
        (SIX_TO_FOUR, 54, six([0x87, 0x76])),
        (FOUR_TO_SIX, 74, four),
    ];
    for (ends, options_at, option) in cases {
        let (forward, _) = ends.conn(Proto::Tcp);
        for payload in [0, 81] {
            let ack = ends.to_server(ends.by_client()).seq(1001).ack(5).payload_len(payload);
            let (packet, outcome) = translated(&ack, &forward).unwrap();
            assert_eq!(outcome.toa, Some(toa::Inserted::Yes));
            let frame = packet.frame();
            assert_eq!(frame[options_at..options_at + option.len()], option);
            assert_eq!(usize::from(frame[options_at - 8] >> 4) * 4, 20 + option.len());
            assert_eq!(Decoded::check(frame).payload().len(), payload);
        }
        let full = ends.to_server(ends.by_client()).ack(5).tcp_options(&[1; 36]);
        assert_eq!(translated(&full, &forward).unwrap().1.toa, Some(toa::Inserted::NoRoom));
        let reset = ends.to_server(ends.by_client()).rst().seq(1001);
        assert_eq!(translated(&reset, &forward).unwrap().1.toa, None);
        // What the client says of itself by that option is nothing but its own word.
        let forged = ends.to_server(ends.by_client()).syn().toa("6.6.6.6", 666);
        assert_eq!(sent(&forged, &forward).tcp().options[..8], [1; 8]);
    }
}

#[test]
fn datagrams_go_there_and_back() {
    for ends in ALL {
        let (forward, reverse) = ends.conn(Proto::Udp);
        let [(_, sport), (_, dport), (_, lport), (_, rport)] = ends.0;
        for payload in ["", "odd", "even"] {
            let question = ends.by_client().udp(sport, dport).payload(payload);
            let at_server = sent(&question, &forward);
            assert_eq!(
                (tuple(&at_server).0, at_server.payload()),
                (forward.new_key(), payload.as_bytes())
            );
            let answer = ends.by_server().udp(rport, lport).payload(payload);
            let at_client = sent(&answer, &reverse);
            assert_eq!(
                (tuple(&at_client).0, at_client.payload()),
                (reverse.new_key(), payload.as_bytes())
            );
        }
        let last = ends.by_client().ttl(1).udp(sport, dport);
        assert_eq!(translated(&last, &forward).unwrap_err(), Verdict::TtlExceeded);
    }
}

/// RFC 7915 §4.5: IPv6 asks for a checksum, and only what comes without one is summed.
#[test]
fn a_datagram_without_checksum_gets_one_on_its_way_to_ipv6() {
    let (forward, _) = FOUR_TO_SIX.conn(Proto::Udp);
    let question = FOUR_TO_SIX.by_client().udp(60_942, 80).payload("abc");
    assert!(!translated(&question, &forward).unwrap().1.summed);
    let (packet, outcome) = translated(&question.no_checksum(), &forward).unwrap();
    assert!(outcome.summed);
    assert_eq!(Decoded::check(packet.frame()).payload(), b"abc");
}

/// A router between us and the server, and one between us and the client, say that a packet is too big.
#[test]
fn path_mtu_discovery_works_through_every_pair_of_families() {
    for ends in ALL {
        let (forward, reverse) = ends.conn(Proto::Tcp);
        let shown = toa::len(forward.src);
        let segment = ends.to_server(ends.by_client()).seq(1_500).ack(77).payload_len(100);
        let on_its_way = translated(&segment, &forward).unwrap().0;
        let router = if ends.0[3].0.contains(':') { "2001:db8:2::1" } else { "192.168.100.1" };
        let told = too_big(router, ends.0[2].0, &on_its_way, 1_400);
        let at_client = error(&told, &reverse, shown);
        let quoted = Quote::of(&at_client);
        assert_eq!(quoted.key, forward.key());
        assert_eq!((quoted.seq, quoted.source), (1_500, number(ends.0[1].0)));
        let header = match Sides::of(&forward) {
            Sides::Six | Sides::Four => 0,
            Sides::SixToFour => 20,
            Sides::FourToSix => -20,
        };
        assert_eq!(quoted.mtu, 1_400 + header - i32::from(shown), "{:?}", Sides::of(&forward));

        let answer =
            ends.to_client(ends.by_server()).seq(8_000).ack(forward.seq_offset.wrapping_add(2_000));
        let on_its_way = translated(&answer.payload_len(100), &reverse).unwrap().0;
        let router = if ends.0[0].0.contains(':') { "2001:db8:1::1" } else { "10.0.0.1" };
        let told = too_big(router, ends.0[1].0, &on_its_way, 1_400);
        let quoted = Quote::of(&error(&told, &forward, 0));
        assert_eq!((quoted.key, quoted.source), (reverse.key(), ends.pair().lip));
        assert_eq!(quoted.ack, forward.seq_offset.wrapping_add(2_000));
        assert_eq!(quoted.mtu, 1_400 - header);
    }
}

/// An error about a frame that we have sent.
fn too_big(router: &str, to: &str, about: &Buf, mtu: u32) -> Buf {
    let quote = &about.frame()[14..];
    let message = match router.parse().unwrap() {
        IpAddr::V4(_) => pkt().ipv4(router, to).icmp(3, 4, mtu),
        IpAddr::V6(_) => pkt().ipv6(router, to).icmp6(2, 0, mtu),
    };
    message.payload(quote).build()
}

fn error(told: &Buf, flow: &Flow<u128>, inserted: u16) -> Decoded {
    let mut packet = told.clone();
    let at = layout(&mut packet);
    wide::translate_error(&mut packet, at, flow, inserted, MTUS).unwrap();
    let mut last = told.clone();
    let hop_limit_at = if last.bytes()[12..14] == [0x08, 0x00] { 14 + 8 } else { 14 + 7 };
    last.bytes_mut()[hop_limit_at] = 1;
    let refused = wide::translate_error(&mut last, at, flow, inserted, MTUS);
    assert_eq!(refused, Err(Verdict::TtlExceeded));
    Decoded::check(packet.frame())
}

/// What an error tells.
struct Quote {
    source: u128,
    key: FlowKey6,
    mtu: i32,
    seq: u32,
    ack: u32,
}

impl Quote {
    fn of(told: &Decoded) -> Self {
        let (key, l4, mtu, source) = match &told.net {
            Net::Ipv6(ip) => {
                let quoted = told.quoted6();
                (quoted.key, quoted.l4.clone(), told.icmp6().rest, ip.src)
            }
            _ => {
                let quoted = told.quoted();
                let source = types::map_v4(told.ipv4().src);
                (quoted.key.into(), quoted.l4.clone(), told.icmp().rest & 0xffff, source)
            }
        };
        let word = |at: usize| u32::from_be_bytes(l4[at..at + 4].try_into().unwrap());
        Self { source, key, mtu: mtu as i32, seq: word(4), ack: word(8) }
    }
}

proptest! {
    /// Whatever a segment holds: its checksum is right, its payload is the same, and the server's echo of its
    /// numbers comes back as the client's own.
    #[test]
    fn numbers_that_a_server_echoes_come_back_as_they_were(
        which in 0..ALL.len(),
        seq: u32,
        tsval: u32,
        edges: [u32; 2],
        payload in proptest::collection::vec(any::<u8>(), 0..200),
        window: u16,
    ) {
        let ends = ALL[which];
        let (forward, reverse) = ends.conn(Proto::Tcp);
        let data = ends.to_server(ends.by_client()).seq(seq).ack(7).psh().window(window);
        let at_server = sent(&data.timestamps(tsval, 9).payload(&payload), &forward);
        prop_assert_eq!(tuple(&at_server), (forward.new_key(), 63));
        prop_assert_eq!(at_server.payload(), &payload[..]);
        let tcp = at_server.tcp();
        prop_assert_eq!((tcp.ack, tcp.window), (7, window));
        let seen = |number: u32| forward.translated_seq(number);
        prop_assert_eq!(tcp.seq, seen(seq));

        let echo = tcp.timestamps.unwrap().0;
        let [left, right] = edges.map(seen);
        let answer = ends.to_client(ends.by_server()).seq(5).ack(tcp.seq).timestamps(3, echo);
        let at_client = sent(&answer.sack(&[(left, right)]).payload(&payload), &reverse);
        prop_assert_eq!(tuple(&at_client), (reverse.new_key(), 63));
        let tcp = at_client.tcp();
        prop_assert_eq!((tcp.seq, tcp.ack, tcp.timestamps), (5, seq, Some((3, tsval))));
        prop_assert_eq!(&tcp.sack, &[(edges[0], edges[1])]);
        prop_assert_eq!(at_client.payload(), &payload[..]);
    }
}
