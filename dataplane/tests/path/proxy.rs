//! Headers of the PROXY protocol: where they go, what they make of numbers on both sides, and what becomes of them when
//! packets are lost, hurried or hostile.

use std::net::IpAddr;

use balance::{ClientAddress, ClientHeader, ServiceSpec};
use nat::proxy::{Header, Version};
use testkit::{Decoded, PacketBuilder};
use types::Proto;
use wire::tcp::{ACK, PSH, RST, SYN};

use crate::bed::{Setup, Testbed};
use crate::proxy_theirs::claimed;
use crate::records::import;
use crate::wide::{CLIENT_ISN, FOUR_TO_SIX, Kind, SERVER_ISN, SIX, SIX_TO_FOUR, WideConn, ends};

pub const FOUR: Kind = Kind { client6: false, server6: false };
pub const ALL: [Kind; 4] = [FOUR, SIX, SIX_TO_FOUR, FOUR_TO_SIX];
const PORT: u16 = 40_000;

pub fn setup(kind: Kind, change: impl FnOnce(&mut ServiceSpec)) -> Setup {
    kind.setup().shop(|shop| {
        shop.spec.client_address = ClientAddress::ProxyV2;
        change(&mut shop.spec);
    })
}

pub fn trusting(spec: &mut ServiceSpec) {
    spec.client_header = ClientHeader::Trust;
}

/// What says who the client of a conn is.
fn header(kind: Kind, version: Version, proto: Proto) -> Vec<u8> {
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    let vport = if proto == Proto::Tcp { 80 } else { 53 };
    let (client, vip) = (address(kind.client()), address(kind.vip()));
    Header::new(version, proto, (client, PORT), (vip, vport)).as_bytes().to_vec()
}

/// A conn whose server has taken it, and what its header is.
pub struct Talk {
    pub bed: Testbed,
    pub conn: WideConn,
    pub header: Vec<u8>,
}

impl Talk {
    pub fn with(setup: Setup, kind: Kind) -> Self {
        let version = match setup.shop.spec.client_address {
            ClientAddress::ProxyV1 => Version::V1,
            _ => Version::V2,
        };
        let header = header(kind, version, Proto::Tcp);
        let mut bed = setup.build();
        let mut conn = WideConn::syn(&mut bed, kind, PORT);
        let syn_ack = conn.by_server(&bed).syn().mss(1_400).window(60_000);
        conn.server_next = conn.server_next.wrapping_add(1);
        bed.receive(bed.lan, syn_ack);
        let sent = bed.one(bed.wan);
        let (tcp, len) = (sent.tcp(), header.len() as u16);
        assert_eq!((tcp.flags, tcp.ack), (SYN | ACK, CLIENT_ISN + 1), "{sent}");
        // The difference of the families' headers, and none for TOA.
        let mss = if kind == SIX_TO_FOUR { 1_380 } else { 1_400 };
        assert_eq!((tcp.window, tcp.mss), (60_000 - len, Some(mss)), "room for the header");
        bed.settled();
        Self { bed, conn, header }
    }

    pub fn new(kind: Kind) -> Self {
        Self::with(setup(kind, |_| ()), kind)
    }

    /// The handshake is over, and the header sent.
    pub fn open(kind: Kind) -> Self {
        let mut talk = Self::new(kind);
        talk.client(talk.conn.by_client(&talk.bed));
        talk.bed.settled();
        talk
    }

    pub fn len(&self) -> u32 {
        self.header.len() as u32
    }

    /// The number of the header's first byte.
    pub fn start(&self) -> u32 {
        (CLIENT_ISN + 1).wrapping_add(self.conn.offset)
    }

    pub fn end(&self) -> u32 {
        self.start().wrapping_add(self.len())
    }

    /// Packets of the client's arrive together; what goes to the server, and nothing else does.
    #[track_caller]
    pub fn clients(&mut self, packets: impl IntoIterator<Item = PacketBuilder>) -> Vec<Decoded> {
        let bed = &mut self.bed;
        packets.into_iter().for_each(|packet| bed.arrive(bed.wan, packet));
        bed.turn();
        self.taken_by_server()
    }

    #[track_caller]
    pub fn client(&mut self, packet: PacketBuilder) -> Vec<Decoded> {
        self.clients([packet])
    }

    #[track_caller]
    pub fn taken_by_server(&mut self) -> Vec<Decoded> {
        let sent = self.bed.sent(self.bed.lan);
        self.bed.nothing_sent();
        for packet in &sent {
            assert_eq!(ends(packet), (self.conn.lip, self.conn.rs), "{packet}");
        }
        sent
    }

    /// A packet of the server's; what comes of it at the client, and what goes to the server.
    #[track_caller]
    pub fn server(&mut self, packet: PacketBuilder) -> (Decoded, Vec<Decoded>) {
        self.bed.receive(self.bed.lan, packet);
        let back = self.bed.sent(self.bed.lan);
        (self.bed.one(self.bed.wan), back)
    }

    pub fn by_client(&self) -> PacketBuilder {
        self.conn.by_client(&self.bed)
    }

    pub fn by_server(&self, ack: u32) -> PacketBuilder {
        self.conn.by_server(&self.bed).ack(ack)
    }

    #[track_caller]
    pub fn is_header(&self, packet: &Decoded) {
        let tcp = packet.tcp();
        assert_eq!((tcp.flags, tcp.seq), (PSH | ACK, self.start()), "{packet}");
        assert_eq!(packet.payload(), self.header, "{packet}");
    }

    /// Lets time go, a millisecond a round; when what was sent, in milliseconds from now.
    pub fn while_ms(&mut self, ms: u64) -> Vec<(u64, Decoded)> {
        let mut sent = Vec::new();
        for elapsed in 1..=ms {
            self.bed.after_ms(1);
            sent.extend(self.bed.sent(self.bed.lan).into_iter().map(|packet| (elapsed, packet)));
        }
        sent
    }
}

/// Sequence number and payload of each.
pub fn data(packets: &[Decoded]) -> Vec<(u32, &[u8])> {
    packets.iter().map(|packet| (packet.tcp().seq, packet.payload())).collect()
}

#[test]
fn it_follows_the_handshakes_ack_in_a_segment_of_its_own() {
    for kind in ALL {
        for address in [ClientAddress::ProxyV1, ClientAddress::ProxyV2] {
            let mut talk = Talk::with(setup(kind, |spec| spec.client_address = address), kind);
            let sent = talk.client(talk.by_client().window(777));
            assert_eq!(data(&sent), [(talk.start(), &[][..]), (talk.start(), &talk.header[..])]);
            talk.is_header(&sent[1]);
            assert_eq!(
                (sent[1].tcp().ack, sent[1].tcp().window),
                (SERVER_ISN.wrapping_add(1), 777)
            );
            talk.bed.expect("received+1 generated+1 sent+2 half-open-1 proxy.sent+1");

            let (acked, _) = talk.server(talk.by_server(talk.end()).window(5_000));
            assert_eq!((acked.tcp().ack, acked.tcp().window), (CLIENT_ISN + 1, 5_000));
            talk.bed.expect("received+1 sent+1 proxy.acknowledged+1");
            let sent = talk.client(talk.by_client().psh().payload(b"GET"));
            assert_eq!(data(&sent), [(talk.end(), &b"GET"[..])]);
            let (acked, _) = talk.server(talk.by_server(talk.end().wrapping_add(3)));
            assert_eq!(acked.tcp().ack, CLIENT_ISN + 4);
            talk.bed.settled();

            assert!(talk.while_ms(3_000).is_empty(), "it is sent once");
            assert!(talk.bed.workers[0].core.headers.is_empty());
            let sent = talk.client(talk.by_client().seq(CLIENT_ISN + 4).psh().payload(b"more"));
            assert_eq!(data(&sent), [(talk.end().wrapping_add(3), &b"more"[..])]);
            let (acked, _) = talk.server(talk.by_server(talk.end().wrapping_add(7)));
            assert_eq!(acked.tcp().ack, CLIENT_ISN + 8);
            talk.bed.settled();
        }
    }
}

#[test]
fn data_that_comes_with_the_ack_or_right_behind_it_comes_after_it() {
    for kind in ALL {
        let mut talk = Talk::new(kind);
        let sent = talk.client(talk.by_client().psh().payload(b"GET"));
        assert_eq!(data(&sent), [(talk.start(), &talk.header[..]), (talk.end(), b"GET")]);
        let again = talk.client(talk.by_client().psh().payload(b"GET"));
        assert_eq!(data(&again), [(talk.end(), &b"GET"[..])]);

        let mut talk = Talk::new(kind);
        let sent = talk.clients([talk.by_client(), talk.by_client().psh().payload(b"GET")]);
        let expected =
            [(talk.start(), &[][..]), (talk.start(), &talk.header), (talk.end(), b"GET")];
        assert_eq!(data(&sent), expected);
    }
}

#[test]
fn it_is_sent_again_until_it_is_acknowledged() {
    for kind in [FOUR, SIX] {
        let mut talk = Talk::open(kind);
        talk.client(talk.by_client().psh().payload(b"GET").timestamps(77, 99));
        let sent = talk.while_ms(1_500);
        let times: Vec<_> = sent.iter().map(|(ms, _)| *ms).collect();
        assert_eq!(times, [200, 600, 1_400]);
        for (_, packet) in &sent {
            talk.is_header(packet);
        }
        talk.bed.expect("received+1 generated+3 sent+4 proxy.resent+3");
        let (acked, _) = talk.server(talk.by_server(talk.end()));
        assert_eq!(acked.tcp().ack, CLIENT_ISN + 1);
        assert!(talk.while_ms(5_000).is_empty());
    }
}

#[test]
fn a_server_that_never_acknowledges_it_is_given_up() {
    let mut talk = Talk::open(FOUR);
    let sent = talk.while_ms(60_000);
    let times: Vec<_> = sent.iter().map(|(ms, _)| *ms).collect();
    let retries = [200, 600, 1_400, 3_000, 6_200, 12_600, 25_400];
    assert_eq!(times[..7], retries);
    let (ms, reset) = &sent[7];
    assert_eq!((*ms, reset.tcp().flags, reset.tcp().seq), (51_000, RST, talk.start()));
    assert_eq!(sent.len(), 8);
    let to_client = talk.bed.one(talk.bed.wan);
    assert_eq!((to_client.tcp().flags, to_client.tcp().seq), (RST, SERVER_ISN.wrapping_add(1)));
    talk.bed.expect(
        "generated+9 sent+9 proxy.resent+7 proxy.given-up+1 answer.reset+2 conns-1 leases-1",
    );
}

/// Timestamps go with it if the two sides have them, and it carries the last ones.
#[test]
fn it_has_timestamps_where_the_client_has() {
    let mut bed = setup(FOUR, |_| ()).build();
    let syn = FOUR.by_client(&bed).tcp(PORT, 80).syn().seq(CLIENT_ISN).timestamps(1_000, 0);
    bed.receive(bed.wan, syn);
    let syn = bed.one(bed.lan);
    let (lip, rs) = ends(&syn);
    let (value, _) = syn.tcp().timestamps.unwrap();
    let answer = FOUR.by_server(&bed, &rs.ip().to_string()).tcp(rs.port(), lip.port());
    let answer = answer.syn().seq(5).ack(syn.tcp().seq + 1).timestamps(50, value);
    bed.receive(bed.lan, answer);
    bed.one(bed.wan);
    let ack = FOUR.by_client(&bed).tcp(PORT, 80).seq(CLIENT_ISN + 1).ack(6);
    bed.receive(bed.wan, ack.clone().timestamps(1_001, 50));
    let sent = bed.sent(bed.lan);
    assert_eq!(sent[1].tcp().timestamps, Some((value + 1, 50)));
    bed.receive(bed.wan, ack.psh().payload(b"x").timestamps(1_009, 51));
    bed.sent(bed.lan);
    bed.after_ms(200);
    assert_eq!(bed.one(bed.lan).tcp().timestamps, Some((value + 9, 51)));
}

#[test]
fn a_server_may_speak_first() {
    for kind in ALL {
        let mut talk = Talk::open(kind);
        // It has not got the header yet.
        let banner = talk.by_server(talk.start()).window(1_000).psh().payload(b"220");
        let (sent, _) = talk.server(banner);
        assert_eq!((sent.tcp().ack, sent.payload()), (CLIENT_ISN + 1, &b"220"[..]));
        assert_eq!(sent.tcp().window, 1_000 - talk.len() as u16);
        talk.conn.server_next = talk.conn.server_next.wrapping_add(3);
        let sent = talk.client(talk.by_client());
        assert_eq!(data(&sent), [(talk.end(), &[][..])]);
        assert_eq!(sent[0].tcp().ack, talk.conn.server_next);
        // What is sent again acknowledges what the client has by now.
        talk.bed.after_ms(200);
        let sent = talk.taken_by_server();
        talk.is_header(&sent[0]);
        assert_eq!(sent[0].tcp().ack, talk.conn.server_next);
    }
}

#[test]
fn what_the_server_acknowledges_of_it_the_client_does_not_see() {
    for kind in [FOUR, SIX_TO_FOUR] {
        let mut talk = Talk::open(kind);
        talk.client(talk.by_client().psh().payload(b"0123456789"));
        let (acked, back) = talk.server(talk.by_server(talk.start().wrapping_add(5)));
        assert_eq!((acked.tcp().ack, back.len()), (CLIENT_ISN + 1, 0));

        // It has what follows, and not the header, which is sent at once, but once only.
        let block = (talk.end(), talk.end().wrapping_add(10));
        let misses = talk.by_server(talk.start()).sack(&[block]);
        let (acked, back) = talk.server(misses.clone());
        assert_eq!(acked.tcp().ack, CLIENT_ISN + 1);
        assert_eq!(acked.tcp().sack, [(CLIENT_ISN + 1, CLIENT_ISN + 11)]);
        assert_eq!(back.len(), 1);
        talk.is_header(&back[0]);
        assert!(talk.server(misses).1.is_empty());

        // A second header has reached it: D-SACK (RFC 2883) is about nothing that the client has sent.
        let twice = talk.by_server(talk.end().wrapping_add(10)).sack(&[(talk.start(), talk.end())]);
        let (acked, _) = talk.server(twice);
        assert_eq!((acked.tcp().ack, &acked.tcp().sack), (CLIENT_ISN + 11, &vec![]));
        // What is late is seen as before.
        let (acked, _) = talk.server(talk.by_server(talk.start()));
        assert_eq!(acked.tcp().ack, CLIENT_ISN + 1);
    }
}

#[test]
fn a_server_without_room_gets_it_when_it_has_some() {
    let mut talk = Talk::open(FOUR);
    let (sent, back) = talk.server(talk.by_server(talk.start()).window(0));
    assert_eq!((sent.tcp().window, back.len()), (0, 0));
    let (sent, back) = talk.server(talk.by_server(talk.start()).window(4_000));
    assert_eq!(sent.tcp().window, 4_000 - talk.len() as u16);
    talk.is_header(&back[0]);
    assert_eq!(back.len(), 1);
}

#[test]
fn a_fin_waits_for_it_as_data_does() {
    for kind in [FOUR, SIX] {
        // With the very ACK that ends the handshake.
        let mut talk = Talk::new(kind);
        let sent = talk.client(talk.by_client().fin());
        assert_eq!(data(&sent), [(talk.start(), &talk.header[..]), (talk.end(), &[])]);
        talk.bed.settled();
        // The header alone is not the FIN.
        talk.server(talk.by_server(talk.end()).fin());
        let state = |talk: &Talk| talk.bed.records()[0].state;
        assert_eq!(state(&talk), flow::State::BothFin);
        let all = talk.by_server(talk.end().wrapping_add(1)).seq(SERVER_ISN.wrapping_add(2));
        let (acked, _) = talk.server(all);
        assert_eq!(acked.tcp().ack, CLIENT_ISN + 2);
        assert_eq!(state(&talk), flow::State::ForwardLastAck);
    }
}

#[test]
fn a_reset_ends_it_whether_it_has_arrived_or_not() {
    let mut talk = Talk::open(FOUR);
    let sent = talk.client(talk.by_client().rst());
    // The one is the number that a server expects that has not got the header, the other one the number after it.
    let numbers: Vec<_> =
        sent.iter().map(|reset| (reset.tcp().flags & RST, reset.tcp().seq)).collect();
    assert_eq!(numbers, [(RST, talk.start()), (RST, talk.end())]);
    assert!(talk.while_ms(1_000).is_empty(), "nothing is sent behind it");

    // Who guesses a number, even one that may be right, does not have the server told the one that is.
    for guessed in [0, CLIENT_ISN + 2, CLIENT_ISN + 1_000, CLIENT_ISN.wrapping_sub(1 << 30)] {
        let mut talk = Talk::open(FOUR);
        let sent = talk.client(talk.by_client().seq(guessed).rst());
        assert_eq!(sent.len(), 1, "{guessed}");
        assert_ne!(sent[0].tcp().seq, talk.start(), "{guessed}");
    }

    let mut talk = Talk::open(FOUR);
    talk.server(talk.by_server(talk.start()).flags(RST | ACK));
    assert!(talk.while_ms(1_000).is_empty());
    assert!(talk.bed.workers[0].core.headers.is_empty());
}

#[test]
fn nothing_comes_with_a_syn() {
    for kind in ALL {
        let mut bed = setup(kind, |_| ()).build();
        let syn = kind.by_client(&bed).tcp(PORT, 80).syn().seq(CLIENT_ISN).mss(1_440);
        let open = syn.tcp_options(&[34, 10, 1, 2, 3, 4, 5, 6, 7, 8]).payload(b"GET / at once");
        for _ in 0..2 {
            bed.receive(bed.wan, open.clone());
            let sent = bed.one(bed.lan);
            let mss = if kind == FOUR_TO_SIX { 1_420 } else { 1_440 };
            assert_eq!((sent.tcp().mss, sent.payload()), (Some(mss), &[][..]));
            assert!(!sent.tcp().options.contains(&34));
        }
    }
    // Without a header it may come.
    let mut bed = FOUR.bed();
    let syn = FOUR.by_client(&bed).tcp(PORT, 80).syn().tcp_options(&[34, 2, 1, 1]).payload(b"GET");
    bed.receive(bed.wan, syn);
    let sent = bed.one(bed.lan);
    assert_eq!((sent.payload(), sent.tcp().options[0]), (&b"GET"[..], 34));
}

#[test]
fn it_fits_where_data_hardly_does() {
    for kind in [FOUR, SIX] {
        let mtu = if kind.server6 { 1_280 } else { 576 };
        let narrow = Setup { lan_mtu: mtu, ipv6: kind.server6, ..setup(kind, |_| ()) };
        let mut talk = Talk::with(narrow, kind);
        let headers = if kind.server6 { 60 } else { 40 };
        let full = talk.by_client().psh().payload_len(usize::from(mtu) - headers);
        let sent = talk.client(full);
        assert_eq!(sent.len(), 2);
        talk.is_header(&sent[0]);
        assert_eq!(sent[1].payload().len(), usize::from(mtu) - headers, "nothing is merged");
    }
}

#[test]
fn a_conn_that_goes_takes_its_header_along() {
    let mut talk = Talk::open(FOUR);
    assert_eq!(talk.bed.workers[0].core.headers.len(), 1);
    talk.client(talk.by_client().rst());
    talk.bed.after_ms(200_000);
    talk.bed.live_ms(20_000, 100);
    assert!(talk.bed.workers[0].core.headers.is_empty());
    assert_eq!(talk.bed.workers[0].core.table.len(), 0);
}

/// A service that shows its clients in another way by then.
#[test]
fn a_service_may_leave_it_out_meanwhile() {
    let mut talk = Talk::new(FOUR);
    talk.bed.shop.spec.client_address = ClientAddress::None;
    let service = talk.bed.shop.compiled();
    let key = talk.bed.shop.key();
    talk.bed.update(|snapshot| snapshot.services = snapshot.services.with([(key, Some(service))]));
    assert_eq!(data(&talk.client(talk.by_client())), [(talk.start(), &[][..])]);
    let sent = talk.client(talk.by_client().psh().payload(b"GET"));
    assert_eq!(data(&sent), [(talk.start(), &b"GET"[..])]);
}

/// To a worker that has never seen it: a header that was lost is sent from there, and numbers go on as they were.
#[test]
fn it_moves_with_its_conn() {
    for (kind, trusts) in ALL.into_iter().flat_map(|kind| [(kind, false), (kind, true)]) {
        let with = || {
            setup(kind, |spec| {
                if trusts {
                    trusting(spec)
                }
            })
        };
        let mut talk = Talk::with(with(), kind);
        talk.client(talk.by_client());
        let record = talk.bed.records().pop().unwrap();
        let json = serde_json::to_string(&record).unwrap();
        let record: flow::Record = serde_json::from_str(&json).unwrap();
        let header = record.header.unwrap();
        assert_eq!((header.start, header.sent, header.version), (talk.start(), !trusts, 2));

        let mut other = with().build();
        import(&mut other, 0, &record).unwrap();
        std::mem::swap(&mut talk.bed, &mut other);
        talk.bed.settled();
        if trusts {
            let sent = talk.client(talk.by_client().psh().payload(b"GET"));
            assert_eq!(data(&sent), [(talk.start(), &talk.header[..]), (talk.end(), b"GET")]);
        } else {
            let sent = talk.while_ms(200);
            assert_eq!(sent.len(), 1);
            talk.is_header(&sent[0].1);
            let (acked, _) = talk.server(talk.by_server(talk.start()));
            assert_eq!(acked.tcp().ack, CLIENT_ISN + 1);
            let [line, _] = claimed();
            let sent = talk.client(talk.by_client().psh().payload([&line[..], b"GET"].concat()));
            assert_eq!(data(&sent), [(talk.end(), &b"GET"[..])]);
        }
        // Before the handshake is over there is nothing to move but that there will be one.
        let mut talk = Talk::with(with(), kind);
        let record = talk.bed.records().pop().unwrap();
        assert_eq!(record.header, None);
        let mut other = with().build();
        import(&mut other, 0, &record).unwrap();
        std::mem::swap(&mut talk.bed, &mut other);
        talk.bed.settled();
        let sent = talk.client(talk.by_client().psh().payload(b"GET"));
        assert_eq!(data(&sent), [(talk.start(), &talk.header[..]), (talk.end(), b"GET")]);
    }
}
