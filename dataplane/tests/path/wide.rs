//! Services with an IPv6 side: all four pairs of a client's family and a server's, by packets and the ledger.

use std::net::{IpAddr, SocketAddr};

use balance::ClientAddress;
use testkit::decoded::Net;
use testkit::{Decoded, PacketBuilder, pkt};
use types::{Address as _, FlowKey6};
use wire::tcp::ACK;

use crate::bed::{
    CLIENT, CLIENT6, GATEWAY, GATEWAY6, LIP, LIP6, Plan, RS1, RS1_6, RS2, RS2_6, Setup, Testbed,
    VIP, VIP6, station_of,
};

/// A client's family and a server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    pub client6: bool,
    pub server6: bool,
}

pub const SIX: Kind = Kind { client6: true, server6: true };
pub const SIX_TO_FOUR: Kind = Kind { client6: true, server6: false };
pub const FOUR_TO_SIX: Kind = Kind { client6: false, server6: true };
pub const KINDS: [Kind; 3] = [SIX, SIX_TO_FOUR, FOUR_TO_SIX];

pub const CLIENT_ISN: u32 = 1_000_000;
pub const SERVER_ISN: u32 = 0xffff_f000;

impl Kind {
    pub fn client(self) -> &'static str {
        if self.client6 { CLIENT6 } else { CLIENT }
    }

    pub fn vip(self) -> &'static str {
        if self.client6 { VIP6 } else { VIP }
    }

    pub fn lip(self) -> &'static str {
        if self.server6 { LIP6 } else { LIP }
    }

    pub fn servers(self) -> [&'static str; 2] {
        if self.server6 { [RS1_6, RS2_6] } else { [RS1, RS2] }
    }

    /// Length of the TCP option that shows the client.
    pub fn shown(self) -> u16 {
        if self.client6 { 20 } else { 8 }
    }

    /// Both services of the usual testbed are of this kind.
    pub fn setup(self) -> Setup {
        Setup { ipv6: true, ..Setup::default() }
            .shop(|shop| shop.between(self.vip(), &self.servers()))
            .dns(|dns| dns.between(self.vip(), &self.servers()))
    }

    pub fn bed(self) -> Testbed {
        self.setup().build()
    }

    /// A packet of the client to the VIP, as the gateway sends it.
    pub fn by_client(self, bed: &Testbed) -> PacketBuilder {
        let gateway = if self.client6 { GATEWAY6 } else { GATEWAY };
        let packet = pkt().eth(station_of(gateway), bed.snapshot.interfaces[bed.wan].mac);
        between(packet, self.client(), self.vip())
    }

    /// A packet of a server to the LIP.
    pub fn by_server(self, bed: &Testbed, server: &str) -> PacketBuilder {
        let packet = pkt().eth(station_of(server), bed.snapshot.interfaces[bed.lan].mac);
        between(packet, server, self.lip())
    }
}

/// A packet from here to there, of the family that they have.
pub fn between(packet: PacketBuilder, source: &str, destination: &str) -> PacketBuilder {
    match source.parse().unwrap() {
        IpAddr::V4(_) => packet.ipv4(source, destination),
        IpAddr::V6(_) => packet.ipv6(source, destination),
    }
}

/// Source and destination.
pub fn ends(packet: &Decoded) -> (SocketAddr, SocketAddr) {
    let key = match &packet.net {
        Net::Ipv4(ip) => FlowKey6::mapped(ip.key()),
        Net::Ipv6(ip) => ip.key(),
        Net::Arp(_) => panic!("no IP: {packet}"),
    };
    (SocketAddr::new(key.src.to_ip(), key.sport), SocketAddr::new(key.dst.to_ip(), key.dport))
}

pub fn at(address: &str, l4_port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), l4_port)
}

/// Time to live or hop limit, and TOS or traffic class.
fn ttl_and_tos(packet: &Decoded) -> (u8, u8) {
    match &packet.net {
        Net::Ipv4(ip) => (ip.ttl, ip.tos),
        Net::Ipv6(ip) => (ip.hop_limit, ip.traffic_class),
        Net::Arp(_) => panic!("no IP: {packet}"),
    }
}

/// Sends a packet that must leave at once on `out`, as nothing else does; the packet as it leaves.
#[track_caller]
fn through(bed: &mut Testbed, interface: usize, packet: PacketBuilder, out: usize) -> Decoded {
    let arrived = packet.build();
    let before = Decoded::of(&arrived).unwrap();
    bed.arrive_raw(0, interface, arrived);
    bed.turn();
    let sent = bed.one(out);
    let (ttl, tos) = ttl_and_tos(&before);
    assert_eq!(ttl_and_tos(&sent), (ttl - 1, tos), "{sent}");
    assert_eq!(sent.payload(), before.payload(), "{sent}");
    assert_eq!(sent.eth_src, bed.snapshot.interfaces[out].mac, "{sent}");
    if let (Net::Ipv6(old), Net::Ipv6(new)) = (&before.net, &sent.net) {
        assert_eq!(new.flow_label, old.flow_label, "{sent}");
    }
    sent
}

/// A packet from the clients' side to the servers'.
#[track_caller]
pub fn inward(bed: &mut Testbed, packet: PacketBuilder) -> Decoded {
    through(bed, bed.wan, packet, bed.lan)
}

/// A packet from the servers' side to the clients'.
#[track_caller]
pub fn outward(bed: &mut Testbed, packet: PacketBuilder) -> Decoded {
    through(bed, bed.lan, packet, bed.wan)
}

/// A TCP conn of the shop as its two ends see it.
#[derive(Clone, Debug)]
pub struct WideConn {
    pub kind: Kind,
    pub client_port: u16,
    pub lip: SocketAddr,
    pub rs: SocketAddr,
    pub client_next: u32,
    pub server_next: u32,
    /// What the server sees the client's numbers ahead by.
    pub offset: u32,
}

impl WideConn {
    #[track_caller]
    pub fn syn(bed: &mut Testbed, kind: Kind, client_port: u16) -> Self {
        let syn = kind.by_client(bed).tcp(client_port, 80).syn().seq(CLIENT_ISN).mss(1440);
        let sent = inward(bed, syn);
        let (lip, rs) = ends(&sent);
        assert_eq!(lip.ip().to_string(), kind.lip(), "{sent}");
        assert!(kind.servers().contains(&&*rs.ip().to_string()), "{sent}");
        assert_eq!(sent.eth_dst, station_of(&rs.ip().to_string()), "{sent}");
        let offset = sent.tcp().seq.wrapping_sub(CLIENT_ISN);
        let (client_next, server_next) = (CLIENT_ISN + 1, SERVER_ISN);
        Self { kind, client_port, lip, rs, client_next, server_next, offset }
    }

    #[track_caller]
    pub fn open(bed: &mut Testbed, kind: Kind, client_port: u16) -> Self {
        let mut conn = Self::syn(bed, kind, client_port);
        conn.syn_ack(bed, 1460);
        conn.ack(bed);
        conn
    }

    #[track_caller]
    pub fn syn_ack(&mut self, bed: &mut Testbed, mss: u16) -> Decoded {
        let packet = self.by_server(bed).syn().mss(mss);
        self.server_next = self.server_next.wrapping_add(1);
        self.to_client(bed, packet)
    }

    /// The client acknowledges all that the server has sent.
    #[track_caller]
    pub fn ack(&mut self, bed: &mut Testbed) -> Decoded {
        let packet = self.by_client(bed);
        self.to_server(bed, packet)
    }

    #[track_caller]
    pub fn client_sends(&mut self, bed: &mut Testbed, len: usize) -> Decoded {
        let packet = self.by_client(bed).psh().payload_len(len);
        self.client_next = self.client_next.wrapping_add(len as u32);
        self.to_server(bed, packet)
    }

    #[track_caller]
    pub fn server_sends(&mut self, bed: &mut Testbed, len: usize) -> Decoded {
        let packet = self.by_server(bed).psh().payload_len(len);
        self.server_next = self.server_next.wrapping_add(len as u32);
        self.to_client(bed, packet)
    }

    /// Both close, the client first.
    #[track_caller]
    pub fn close(&mut self, bed: &mut Testbed) {
        let fin = self.by_client(bed).fin();
        self.client_next = self.client_next.wrapping_add(1);
        self.to_server(bed, fin);
        let fin = self.by_server(bed).fin();
        self.server_next = self.server_next.wrapping_add(1);
        self.to_client(bed, fin);
        let ack = self.by_client(bed);
        self.to_server(bed, ack);
    }

    /// The client's next packet: an ACK of all.
    pub fn by_client(&self, bed: &Testbed) -> PacketBuilder {
        let packet = self.kind.by_client(bed).tcp(self.client_port, 80);
        packet.seq(self.client_next).ack(self.server_next)
    }

    /// The server's next packet: an ACK of all.
    pub fn by_server(&self, bed: &Testbed) -> PacketBuilder {
        let packet = self.kind.by_server(bed, &self.rs.ip().to_string());
        let packet = packet.tcp(self.rs.port(), self.lip.port()).seq(self.server_next);
        packet.ack(self.client_next.wrapping_add(self.offset))
    }

    #[track_caller]
    pub fn to_server(&self, bed: &mut Testbed, packet: PacketBuilder) -> Decoded {
        let before = Decoded::check(&packet.build());
        let sent = inward(bed, packet);
        assert_eq!(ends(&sent), (self.lip, self.rs), "{sent}");
        let (old, new) = (before.tcp(), sent.tcp());
        assert_eq!((new.flags, new.window), (old.flags, old.window), "{sent}");
        assert_eq!((new.seq, new.ack), (old.seq.wrapping_add(self.offset), old.ack), "{sent}");
        sent
    }

    #[track_caller]
    pub fn to_client(&self, bed: &mut Testbed, packet: PacketBuilder) -> Decoded {
        let before = Decoded::check(&packet.build());
        let sent = outward(bed, packet);
        let (vip, client) = (at(self.kind.vip(), 80), at(self.kind.client(), self.client_port));
        assert_eq!(ends(&sent), (vip, client), "{sent}");
        let (old, new) = (before.tcp(), sent.tcp());
        assert_eq!((new.flags, new.window), (old.flags, old.window), "{sent}");
        let acked = if old.flags & ACK == 0 { old.ack } else { old.ack.wrapping_sub(self.offset) };
        assert_eq!((new.seq, new.ack), (old.seq, acked), "{sent}");
        sent
    }
}

#[test]
fn datagrams_go_both_ways() {
    for kind in KINDS {
        let mut bed = kind.bed();
        let question = kind.by_client(&bed).udp(40_000, 53).tos(0xb8).payload(b"which");
        let sent = inward(&mut bed, question);
        let (lip, rs) = ends(&sent);
        assert_eq!((lip.ip().to_string(), rs), (kind.lip().to_owned(), at(kind.servers()[0], 53)));
        bed.expect("received+1 sent+1 conn.opened+1 conns+1 leases+1");
        let answer = kind.by_server(&bed, kind.servers()[0]).udp(53, lip.port()).tos(3);
        let sent = outward(&mut bed, answer.payload(b"this"));
        assert_eq!(ends(&sent), (at(kind.vip(), 53), at(kind.client(), 40_000)));
        bed.expect("received+1 sent+1");
        bed.after_ms(301_000);
        bed.live_ms(10_000, 100);
        bed.expect("conn.expired+1 conns-1 leases-1");
    }
}

#[test]
fn a_datagram_shows_its_client_to_a_server_of_either_family() {
    for kind in KINDS {
        let shows = |dns: &mut Plan| dns.spec.client_address = ClientAddress::Option;
        let mut bed = kind.setup().dns(shows).build();
        // The second one fills its way, unless IPv4's header leaves the option just its room.
        for (len, is_shown) in [(5, true), (1452, !kind.server6)] {
            let datagram = kind.by_client(&bed).udp(40_000, 53).payload_len(len);
            bed.receive(bed.wan, datagram);
            let sent = bed.take(bed.lan).remove(0);
            let decoded = Decoded::check(sent.frame());
            assert_eq!(decoded.payload().len(), len, "{kind:?}");
            let port = 40_000_u16.to_be_bytes();
            let client = match at(kind.client(), 0).ip() {
                IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                IpAddr::V6(address) => address.octets(),
            };
            let mark = match (kind.server6, is_shown) {
                (_, false) => vec![],
                (true, _) => [&[17, 2, 0x1e, 18], &port[..], &client, &[1, 0]].concat(),
                (false, _) => [&[31, 20], &port[..], &client].concat(),
            };
            let behind = if kind.server6 { 54 } else { 34 };
            let udp = sent.frame().len() - len - 8;
            assert_eq!(sent.frame()[behind..udp], mark, "{kind:?}");
        }
        let toa = if kind.server6 { "toa.inserted+1 toa.left-out+1" } else { "toa.inserted+2" };
        bed.expect(&format!("received+2 sent+2 conn.opened+1 conns+1 leases+1 {toa}"));
    }
}

/// RFC 7915 §4.5: IPv6 has no datagrams without a checksum.
#[test]
fn a_datagram_without_a_checksum_gets_one_on_its_way_to_ipv6() {
    let mut bed = FOUR_TO_SIX.bed();
    for len in [0, 1, 1400] {
        let datagram = FOUR_TO_SIX.by_client(&bed).udp(40_000, 53).no_checksum().payload_len(len);
        let sent = inward(&mut bed, datagram);
        assert!(sent.udp().checksum != 0 && sent.udp().checksum_ok);
    }
}

#[test]
fn a_conn_opens_carries_data_and_closes() {
    for kind in KINDS {
        let mut bed = kind.bed();
        let mut conn = WideConn::syn(&mut bed, kind, 40_000);
        bed.expect("received+1 sent+1 conn.opened+1 conns+1 half-open+1 leases+1");
        // A header that grows and the client's address take from what the server may send.
        let grown = if kind == SIX_TO_FOUR { 20 } else { 0 };
        let sent = conn.syn_ack(&mut bed, 1460);
        assert_eq!(sent.tcp().mss, Some(1460 - kind.shown() - grown), "{kind:?}");
        let sent = conn.ack(&mut bed);
        let shown = shown(kind, 40_000);
        assert_eq!(sent.tcp().options, shown, "{kind:?}");
        bed.expect("received+2 sent+2 half-open-1 toa.inserted+1");
        assert_eq!(conn.client_sends(&mut bed, 100).tcp().options, shown);
        conn.server_sends(&mut bed, 1400);
        assert_eq!(conn.client_sends(&mut bed, 100).tcp().options, [0_u8; 0], "it has been seen");
        conn.close(&mut bed);
        bed.settled();
        bed.live_ms(10_000, 100);
        bed.expect("conn.closed+1 conns-1 leases-1");
    }
}

/// The option as DPVS writes it: kind, length, port, address.
fn shown(kind: Kind, l4_port: u16) -> Vec<u8> {
    let address = match kind.client().parse().unwrap() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let [p, q] = l4_port.to_be_bytes();
    [vec![254, kind.shown() as u8, p, q], address].concat()
}

#[test]
fn a_clients_own_option_does_not_reach_the_server() {
    for kind in KINDS {
        let mut bed = kind.bed();
        let mut conn = WideConn::syn(&mut bed, kind, 40_000);
        conn.syn_ack(&mut bed, 1460);
        let ack = conn.by_client(&bed).toa("6.6.6.6", 666);
        let sent = conn.to_server(&mut bed, ack);
        let options = &sent.tcp().options;
        assert_eq!(options[..usize::from(kind.shown())], shown(kind, 40_000), "{kind:?}");
        assert_eq!(options[usize::from(kind.shown())..], [1; 8], "{kind:?}");
    }
}

/// Timestamps and SACK blocks are moved as with IPv4.
#[test]
fn numbers_in_options_move_with_the_conn() {
    for kind in KINDS {
        let mut bed = kind.bed();
        let syn = kind.by_client(&bed).tcp(40_000, 80).syn().seq(CLIENT_ISN).timestamps(77, 0);
        let sent = inward(&mut bed, syn);
        let (lip, rs) = ends(&sent);
        let (first, _) = sent.tcp().timestamps.unwrap();
        let offset = sent.tcp().seq.wrapping_sub(CLIENT_ISN);
        let acked = CLIENT_ISN.wrapping_add(1).wrapping_add(offset);
        let answer = kind.by_server(&bed, &rs.ip().to_string()).tcp(rs.port(), lip.port());
        let syn_ack = answer.clone().syn().seq(5).ack(acked).timestamps(9, first);
        let sent = outward(&mut bed, syn_ack);
        assert_eq!(sent.tcp().timestamps, Some((9, 77)), "{kind:?}");
        let (from, to) = (acked.wrapping_add(100), acked.wrapping_add(200));
        let gap = answer.seq(6).ack(acked).sack(&[(from, to)]);
        let sent = outward(&mut bed, gap);
        assert_eq!(sent.tcp().sack, [(CLIENT_ISN + 101, CLIENT_ISN + 201)], "{kind:?}");
    }
}

#[test]
fn an_expired_conn_ends_with_resets_to_both() {
    for kind in KINDS {
        let mut bed = kind.bed();
        let mut conn = WideConn::open(&mut bed, kind, 40_000);
        conn.server_sends(&mut bed, 10);
        conn.ack(&mut bed);
        bed.settled();
        bed.after_ms(901_000);
        bed.live_ms(10_000, 100);
        bed.expect("conn.expired+1 conns-1 leases-1 generated+2 answer.reset+2 sent+2");
        let (client, server) = (bed.sent(bed.wan), bed.sent(bed.lan));
        assert_eq!(ends(&client[0]), (at(kind.vip(), 80), at(kind.client(), 40_000)));
        assert_eq!(ends(&server[0]), (conn.lip, conn.rs));
        assert_eq!((client[0].tcp().seq, server[0].tcp().seq), {
            (conn.server_next, conn.client_next.wrapping_add(conn.offset))
        });
    }
}

#[test]
fn a_packet_waits_for_its_neighbour() {
    for kind in KINDS {
        let mut bed = Setup { resolved: false, ..kind.setup() }.build();
        bed.receive(bed.wan, kind.by_client(&bed).udp(40_000, 53).payload(b"?"));
        bed.expect("received+1 held+1 neighbour.held+1 neighbour.asked+1 told+1 conn.opened+1 conns+1 leases+1");
        let server = kind.servers()[0];
        bed.learn(bed.lan, server, station_of(server));
        bed.after_ms(10);
        let sent = bed.one(bed.lan);
        assert_eq!((ends(&sent).1, sent.eth_dst), (at(server, 53), station_of(server)));
        bed.expect("held-1 sent+1");
    }
}

#[test]
fn what_opens_no_conn_is_refused_by_name() {
    for kind in [SIX, SIX_TO_FOUR] {
        let mut bed = kind.bed();
        bed.receive(bed.wan, kind.by_client(&bed).tcp(40_000, 80).ack(1));
        bed.expect("received+1 drop.not-syn+1");
        bed.receive(bed.wan, kind.by_client(&bed).tcp(40_000, 81).syn());
        bed.expect("received+1 drop.no-service+1");
        let stray = kind.by_server(&bed, kind.servers()[0]).tcp(8080, 2_000).ack(1);
        bed.receive(bed.lan, stray);
        let sent = bed.one(bed.lan);
        assert_eq!(ends(&sent), (at(kind.lip(), 2_000), at(kind.servers()[0], 8080)));
        bed.expect("received+1 answered+1 generated+1 sent+1 answer.reset+1");
        bed.change_shop(|shop| shop.servers.clear());
        bed.receive(bed.wan, kind.by_client(&bed).tcp(40_000, 80).syn());
        bed.expect("received+1 drop.no-real-server+1");
        // In the name of an address of ours.
        let forged = between(kind.by_client(&bed), VIP6, VIP6).udp(40_000, 53);
        bed.receive(bed.wan, forged);
        bed.expect("received+1 drop.bad-source+1");
    }
}

/// A service may have servers of both families, if it has LIPs of both: its conns stand in one table.
#[test]
fn servers_of_both_families_take_turns() {
    for client6 in [true, false] {
        let kind = Kind { client6, server6: true };
        let setup = kind.setup().dns(|dns| dns.between(kind.vip(), &[RS1_6, RS1]));
        let mut bed = setup.build();
        for n in 0..8 {
            let server = [RS1_6, RS1][usize::from(n % 2)];
            let question = kind.by_client(&bed).udp(40_000 + n, 53).payload(b"?");
            let sent = inward(&mut bed, question);
            let (lip, rs) = ends(&sent);
            assert_eq!(rs, at(server, 53), "{kind:?} {n}");
            let kind = Kind { server6: n % 2 == 0, ..kind };
            let answer = kind.by_server(&bed, server).udp(53, lip.port()).payload(b"!");
            let sent = outward(&mut bed, answer);
            assert_eq!(ends(&sent), (at(kind.vip(), 53), at(kind.client(), 40_000 + n)));
        }
        bed.expect("received+16 sent+16 conn.opened+8 conns+8 leases+8");
    }
}

/// An IPv4 LIP has each port once towards a server, whoever the clients are.
#[test]
fn clients_of_both_families_share_the_ports_of_a_lip() {
    let setup = Setup { ipv6: true, l4_ports: 2_000..=2_001, ..Setup::default() };
    let setup = setup.dns(|dns| dns.between(VIP6, &[RS1]));
    let mut bed = setup.shop(|shop| shop.between(VIP, &[RS1])).build();
    // Of the same server and port, for clients of IPv4.
    bed.change_shop(|shop| {
        shop.vport = 53;
        shop.spec.proto = types::Proto::Udp;
        shop.servers[0].l4_port = 53;
    });
    let mut used = Vec::new();
    for (kind, client_port) in [(SIX_TO_FOUR, 1), (Kind { client6: false, server6: false }, 2)] {
        let question = kind.by_client(&bed).udp(client_port, 53);
        used.push(ends(&inward(&mut bed, question)).0.port());
    }
    used.sort_unstable();
    assert_eq!(used, [2_000, 2_001]);
    bed.settled();
    bed.receive(bed.wan, SIX_TO_FOUR.by_client(&bed).udp(3, 53));
    bed.expect("received+1 drop.no-lease+1");
}
