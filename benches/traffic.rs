//! The packets: 60 bytes each (64 with the check sequence), from as many clients as are wanted.

use std::ops::RangeInclusive;

use testkit::{Decoded, PacketBuilder, pkt};
use types::MacAddr;

use crate::bed::{self, GATEWAY_MAC, OUR_MACS, RPORT, SERVERS, VIP, VPORT};

/// Length of every frame.
pub const LEN: usize = 60;
/// What the worker does, and so who speaks with whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Clients speak with a VIP, servers with LIPs.
    FullNat,
    /// The same clients speak with the servers, which see WAN IPs.
    Snat,
    /// Likewise, by the last of 4,096 rules.
    SnatRules,
    /// Likewise, with other clients: so many, with one port after the other.
    Grid {
        /// Clients.
        hosts: u32,
    },
}

impl Form {
    /// Address and port of a conn's client.
    #[inline]
    pub const fn client(self, conn: u32) -> (u32, u16) {
        match self {
            Self::FullNat | Self::Snat | Self::SnatRules => client(conn),
            Self::Grid { hosts } => (FIRST_HOST + conn % hosts, 1_024 + (conn / hosts) as u16),
        }
    }

    /// The clients that a NAT gateway is there for.
    pub const fn clients(self) -> Option<RangeInclusive<u32>> {
        match self {
            Self::FullNat => None,
            Self::Snat | Self::SnatRules => Some(FIRST_CLIENT..=FIRST_CLIENT + CLIENTS - 1),
            Self::Grid { hosts } => Some(FIRST_HOST..=FIRST_HOST + hosts - 1),
        }
    }
}

/// The first host of the grid.
const FIRST_HOST: u32 = u32::from_be_bytes([10, 0, 0, 0]);
/// Client addresses, from 198.18.0.0 on.
const CLIENTS: u32 = 1_024;
const FIRST_CLIENT: u32 = u32::from_be_bytes([198, 18, 0, 0]);
/// Ports of a client: all that RFC 4814 §4.5 wants to be drawn from.
const PORTS: u32 = 65_536 - 1_024;

const IP: usize = 14;
const L4: usize = 34;

/// Scrambles a number: the same number gives the same one.
#[inline]
pub const fn mix(number: u32) -> u32 {
    let mut x = number.wrapping_add(0x9e37_79b9);
    x = (x ^ (x >> 16)).wrapping_mul(0x21f0_aaad);
    x = (x ^ (x >> 15)).wrapping_mul(0x735a_2d97);
    x ^ (x >> 15)
}

/// Random numbers (xorshift*), the same ones in each run.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Begins anew.
    pub const fn new() -> Self {
        Self(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`.
    #[inline]
    pub fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let word = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        ((word * u64::from(bound)) >> 32) as u32
    }
}

/// Address and port of a conn's client: another one for each of 66 million conns, with
/// pseudorandom ports (RFC 4814 §4).
#[inline]
const fn client(conn: u32) -> (u32, u16) {
    // The step has no factor in common with the number of ports, so all of them come up.
    const STEP: u64 = 25_411;
    let (address, nth) = (conn % CLIENTS, conn / CLIENTS);
    let port = (nth as u64 * STEP + mix(address) as u64) % PORTS as u64;
    (FIRST_CLIENT + address, 1_024 + port as u16)
}

/// Where a server sends its packets of a conn, and what it has to know of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The LIP or WAN IP.
    pub local: u32,
    /// The server's address.
    pub server: u32,
    /// The port of the LIP or WAN IP.
    pub lport: u16,
    /// What the client's sequence number became.
    pub sequence: u32,
}

impl Answer {
    /// Reads the first frame of a conn that arrived at a server.
    #[inline]
    pub fn learn(&mut self, frame: &[u8]) {
        if self.lport != 0 {
            return;
        }
        *self = Self {
            local: word(frame, IP + 12),
            server: word(frame, IP + 16),
            lport: half(frame, L4),
            sequence: word(frame, L4 + 4),
        };
    }
}

#[inline]
fn word(frame: &[u8], at: usize) -> u32 {
    u32::from(half(frame, at)) << 16 | u32::from(half(frame, at + 2))
}

#[inline]
fn half(frame: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([frame[at], frame[at + 1]])
}

/// The IPv4 identification, by which a frame that went through is known again.
#[inline]
pub fn ident(frame: &[u8]) -> u16 {
    half(frame, IP + 4)
}

/// Whom a frame is for: address and port.
#[inline]
pub fn destination(frame: &[u8]) -> (u32, u16) {
    (word(frame, IP + 16), half(frame, L4 + 2))
}

/// A frame but for what differs from conn to conn.
#[derive(Clone, Debug)]
pub struct Template {
    bytes: [u8; LEN],
    side: Side,
    is_tcp: bool,
    ip_sum: u32,
    l4_sum: u32,
}

/// What differs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fields {
    /// Address and port.
    pub source: (u32, u16),
    /// Address and port.
    pub destination: (u32, u16),
    /// The IPv4 identification.
    pub ident: u16,
    /// TCP's sequence number.
    pub sequence: u32,
    /// TCP's acknowledgment number.
    pub ack: u32,
}

impl Fields {
    /// From a client to the VIP, or to a server.
    #[inline]
    pub fn request(form: Form, conn: u32) -> Self {
        let destination = match form {
            Form::FullNat => (VIP, VPORT),
            Form::Snat | Form::SnatRules | Form::Grid { .. } => {
                (bed::server(mix(conn) % SERVERS), RPORT)
            }
        };
        Self { source: form.client(conn), destination, ..Self::default() }
    }

    /// From a server to a LIP or WAN IP.
    #[inline]
    pub fn reply(answer: Answer) -> Self {
        Self {
            source: (answer.server, RPORT),
            destination: (answer.local, answer.lport),
            ..Self::default()
        }
    }
}

/// Flags of a TCP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tcp {
    /// SYN with an MSS.
    Syn,
    /// SYN and ACK with an MSS.
    SynAck,
    /// ACK alone.
    Ack,
    /// ACK with 6 bytes of data.
    Data,
    /// ACK and FIN.
    FinAck,
}

/// The two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Towards the VIP or a server.
    Client,
    /// Towards a LIP or WAN IP.
    Server,
}

impl Template {
    /// UDP with 18 bytes of payload.
    pub fn udp(side: Side) -> Self {
        Self::new(addressed(side).udp(0, 0).payload([0x5a; 18]), side, false)
    }

    /// TCP.
    pub fn tcp(side: Side, what: Tcp) -> Self {
        let packet = addressed(side).tcp(0, 0);
        let packet = match what {
            Tcp::Syn => packet.syn().mss(1_460),
            Tcp::SynAck => packet.syn().ack(0).mss(1_460),
            Tcp::Ack => packet.ack(0),
            Tcp::Data => packet.ack(0).psh().payload([0x5a; 6]),
            Tcp::FinAck => packet.ack(0).fin(),
        };
        Self::new(packet.padded(), side, true)
    }

    fn new(packet: PacketBuilder, side: Side, is_tcp: bool) -> Self {
        let mut bytes: [u8; LEN] = packet.frame().try_into().expect("60 bytes");
        bytes[IP + 10..IP + 12].fill(0);
        let checksum = Self::l4_checksum(is_tcp);
        bytes[checksum..checksum + 2].fill(0);
        let end = IP + usize::from(half(&bytes, IP + 2));
        // The pseudo header: protocol and length; the addresses come with each packet.
        let pseudo = u32::from(bytes[IP + 9]) + (end - L4) as u32;
        let (ip_sum, l4_sum) = (sum(&bytes[IP..L4]), sum(&bytes[L4..end]) + pseudo);
        Self { bytes, side, is_tcp, ip_sum, l4_sum }
    }

    /// Whether clients send it.
    pub fn is_from_client(&self) -> bool {
        self.side == Side::Client
    }

    const fn l4_checksum(is_tcp: bool) -> usize {
        L4 + if is_tcp { 16 } else { 6 }
    }

    /// Writes the frame with right checksums.
    #[inline]
    pub fn write(&self, frame: &mut [u8], fields: &Fields) {
        let Some(frame) = frame.first_chunk_mut::<LEN>() else { return };
        let ((source, sport), (destination, dport)) = (fields.source, fields.destination);
        *frame = self.bytes;
        frame[IP + 4..IP + 6].copy_from_slice(&fields.ident.to_be_bytes());
        frame[IP + 12..IP + 16].copy_from_slice(&source.to_be_bytes());
        frame[IP + 16..IP + 20].copy_from_slice(&destination.to_be_bytes());
        frame[L4..L4 + 2].copy_from_slice(&sport.to_be_bytes());
        frame[L4 + 2..L4 + 4].copy_from_slice(&dport.to_be_bytes());
        let addresses = halves(source) + halves(destination);
        let mut l4_sum = self.l4_sum + addresses + u32::from(sport) + u32::from(dport);
        if self.is_tcp {
            frame[L4 + 4..L4 + 8].copy_from_slice(&fields.sequence.to_be_bytes());
            frame[L4 + 8..L4 + 12].copy_from_slice(&fields.ack.to_be_bytes());
            l4_sum += halves(fields.sequence) + halves(fields.ack);
        }
        let ip_sum = folded(self.ip_sum + addresses + u32::from(fields.ident));
        frame[IP + 10..IP + 12].copy_from_slice(&(!ip_sum).to_be_bytes());
        // RFC 768: a sum of 0 is sent as all ones.
        let l4 = match !folded(l4_sum) {
            0 if !self.is_tcp => 0xffff,
            checksum => checksum,
        };
        let at = Self::l4_checksum(self.is_tcp);
        frame[at..at + 2].copy_from_slice(&l4.to_be_bytes());
    }
}

/// A server's Ethernet address does not matter: the path does not look at who sends.
fn addressed(side: Side) -> PacketBuilder {
    let (from, to) = match side {
        Side::Client => (GATEWAY_MAC, OUR_MACS[bed::WAN]),
        Side::Server => (bed::server_mac(0), OUR_MACS[bed::LAN]),
    };
    pkt().eth(MacAddr(from.0), MacAddr(to.0)).ipv4(0, 0)
}

const fn halves(word: u32) -> u32 {
    (word >> 16) + (word & 0xffff)
}

fn sum(bytes: &[u8]) -> u32 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let last = rest.first().map_or(0, |last| u32::from(*last) << 8);
    pairs.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))).sum::<u32>() + last
}

const fn folded(mut sum: u32) -> u16 {
    sum = halves(sum);
    sum = halves(sum);
    sum as u16
}

/// Panics if a frame is not what it should be, in the eyes of an independent decoder.
pub fn check(frame: &[u8]) {
    Decoded::check(frame);
}
