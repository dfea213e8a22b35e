//! One TCP conn as both of its ends see it: what a test says is sent, and what must come of it.

use std::net::Ipv4Addr;

use testkit::{Decoded, PacketBuilder, ip};
use wire::tcp::{ACK, SYN};

use crate::bed::{CLIENT, Testbed, VIP};

/// The numbers that a client and a server begin with unless told otherwise.
pub const CLIENT_ISN: u32 = 1_000_000;
pub const SERVER_ISN: u32 = 0xffff_f000;

/// A conn of the service on `VIP:80`. Each packet that is sent through it is judged: addresses,
/// ports, sequence and ACK numbers.
#[derive(Clone, Debug)]
pub struct Conn {
    pub client: (u32, u16),
    pub lip: (u32, u16),
    pub rs: (u32, u16),
    /// The next number that the client sends, as it counts.
    pub client_next: u32,
    /// The next number that the server sends.
    pub server_next: u32,
    /// What the server sees the client's numbers ahead by.
    pub offset: u32,
}

impl Conn {
    /// The client's SYN has arrived at the server.
    #[track_caller]
    pub fn syn(bed: &mut Testbed, client_port: u16) -> Self {
        Self::syn_with(bed, client_port, |syn| syn.mss(1460))
    }

    /// A SYN with other options or another number.
    #[track_caller]
    pub fn syn_with(
        bed: &mut Testbed,
        client_port: u16,
        options: impl FnOnce(PacketBuilder) -> PacketBuilder,
    ) -> Self {
        let syn = options(bed.by_client().tcp(client_port, 80).syn().seq(CLIENT_ISN));
        let isn = Decoded::check(&syn.build()).tcp().seq;
        let sent = bed.through(bed.wan, syn, bed.lan);
        let (key, tcp) = (sent.key(), sent.tcp());
        assert_eq!(tcp.flags & (SYN | ACK), SYN, "{sent}");
        assert_eq!(sent.eth_dst, testkit::mac(key.dst as u8), "{sent}");
        Self {
            client: (ip(CLIENT), client_port),
            lip: (key.src, key.sport),
            rs: (key.dst, key.dport),
            client_next: isn.wrapping_add(1),
            server_next: SERVER_ISN,
            offset: tcp.seq.wrapping_sub(isn),
        }
    }

    /// A conn whose handshake is complete.
    #[track_caller]
    pub fn open(bed: &mut Testbed, client_port: u16) -> Self {
        let mut conn = Self::syn(bed, client_port);
        conn.syn_ack(bed);
        conn.ack(bed);
        conn
    }

    /// The server takes the conn.
    #[track_caller]
    pub fn syn_ack(&mut self, bed: &mut Testbed) -> Decoded {
        let packet = self.by_server(bed).syn().mss(1460);
        self.server_next = self.server_next.wrapping_add(1);
        self.to_client(bed, packet)
    }

    /// The client acknowledges all that the server has sent.
    #[track_caller]
    pub fn ack(&mut self, bed: &mut Testbed) -> Decoded {
        let packet = self.by_client(bed);
        self.to_server(bed, packet)
    }

    /// The server acknowledges all that the client has sent.
    #[track_caller]
    pub fn server_acks(&mut self, bed: &mut Testbed) -> Decoded {
        let packet = self.by_server(bed);
        self.to_client(bed, packet)
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

    #[track_caller]
    pub fn client_fin(&mut self, bed: &mut Testbed) -> Decoded {
        let packet = self.by_client(bed).fin();
        self.client_next = self.client_next.wrapping_add(1);
        self.to_server(bed, packet)
    }

    #[track_caller]
    pub fn server_fin(&mut self, bed: &mut Testbed) -> Decoded {
        let packet = self.by_server(bed).fin();
        self.server_next = self.server_next.wrapping_add(1);
        self.to_client(bed, packet)
    }

    /// Both close, the client first.
    #[track_caller]
    pub fn close(&mut self, bed: &mut Testbed) {
        self.client_fin(bed);
        self.server_fin(bed);
        self.ack(bed);
    }

    /// The client's next packet: an ACK of all.
    pub fn by_client(&self, bed: &Testbed) -> PacketBuilder {
        let packet = bed.by_client().ipv4(self.client.0, VIP).tcp(self.client.1, 80);
        packet.seq(self.client_next).ack(self.server_next)
    }

    /// The server's next packet: an ACK of all.
    pub fn by_server(&self, bed: &Testbed) -> PacketBuilder {
        let packet = bed.by_server(self.rs.0).ipv4(self.rs.0, self.lip.0);
        let packet = packet.tcp(self.rs.1, self.lip.1).seq(self.server_next);
        packet.ack(self.client_next.wrapping_add(self.offset))
    }

    /// Sends a packet of the client's, which must reach the server.
    #[track_caller]
    pub fn to_server(&self, bed: &mut Testbed, packet: PacketBuilder) -> Decoded {
        let before = Decoded::check(&packet.build());
        let sent = bed.through(bed.wan, packet, bed.lan);
        self.judge_to_server(&before, &sent);
        sent
    }

    #[track_caller]
    pub fn judge_to_server(&self, before: &Decoded, sent: &Decoded) {
        let key = sent.key();
        assert_eq!(((key.src, key.sport), (key.dst, key.dport)), (self.lip, self.rs), "{sent}");
        let (old, new) = (before.tcp(), sent.tcp());
        assert_eq!((new.flags, new.window, new.urgent), (old.flags, old.window, old.urgent));
        assert_eq!(new.seq, old.seq.wrapping_add(self.offset), "{sent}");
        assert_eq!(new.ack, old.ack, "{sent}");
        assert_eq!(before.payload(), sent.payload());
    }

    /// Sends a packet of the server's, which must reach the client.
    #[track_caller]
    pub fn to_client(&self, bed: &mut Testbed, packet: PacketBuilder) -> Decoded {
        let before = Decoded::check(&packet.build());
        let sent = bed.through(bed.lan, packet, bed.wan);
        self.judge_to_client(&before, &sent);
        sent
    }

    #[track_caller]
    pub fn judge_to_client(&self, before: &Decoded, sent: &Decoded) {
        let key = sent.key();
        let vip = (ip(VIP), 80);
        assert_eq!(((key.src, key.sport), (key.dst, key.dport)), (vip, self.client), "{sent}");
        let (old, new) = (before.tcp(), sent.tcp());
        assert_eq!((new.flags, new.window, new.urgent), (old.flags, old.window, old.urgent));
        let acked = if old.flags & ACK == 0 { old.ack } else { old.ack.wrapping_sub(self.offset) };
        assert_eq!((new.seq, new.ack), (old.seq, acked), "{sent}");
        assert_eq!(before.payload(), sent.payload());
    }

    /// Whose LIP, for messages.
    pub fn lip_text(&self) -> String {
        format!("{}:{}", Ipv4Addr::from(self.lip.0), self.lip.1)
    }
}
