//! The packets: 60 bytes each (64 with the check sequence), of IPv6 80, from as many clients as are wanted.

use std::ops::RangeInclusive;

use testkit::{Decoded, PacketBuilder, pkt};
use types::MacAddr;

use crate::bed::{self, GATEWAY_MAC, OUR_MACS, RPORT, SERVERS, VIP, VPORT};

/// Length of every frame of IPv4.
pub const LEN: usize = 60;
/// The same of IPv6: its header is longer.
pub const LEN_V6: usize = LEN + 20;
/// What the worker does, and so who speaks with whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Clients speak with a VIP, servers with LIPs.
    FullNat,
    /// The same within IPv6.
    FullNat66,
    /// Clients of IPv6, servers of IPv4.
    Nat64,
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
            Self::FullNat | Self::FullNat66 | Self::Nat64 | Self::Snat | Self::SnatRules => {
                client(conn)
            }
            Self::Grid { hosts } => (FIRST_HOST + conn % hosts, 1_024 + (conn / hosts) as u16),
        }
    }

    /// The clients that a NAT gateway is there for.
    pub const fn clients(self) -> Option<RangeInclusive<u32>> {
        match self {
            Self::FullNat | Self::FullNat66 | Self::Nat64 => None,
            Self::Snat | Self::SnatRules => Some(FIRST_CLIENT..=FIRST_CLIENT + CLIENTS - 1),
            Self::Grid { hosts } => Some(FIRST_HOST..=FIRST_HOST + hosts - 1),
        }
    }
}

impl Form {
    /// Whether there is a side of IPv6.
    pub const fn is_wide(self) -> bool {
        matches!(self, Self::FullNat66 | Self::Nat64)
    }

    /// Whether a side has IPv6.
    pub const fn has_ipv6(self, side: Side) -> bool {
        match side {
            Side::Client => self.is_wide(),
            Side::Server => matches!(self, Self::FullNat66),
        }
    }

    /// Length of the frames that an interface sends.
    pub const fn len_at(self, interface: usize) -> usize {
        let side = if interface == bed::WAN { Side::Client } else { Side::Server };
        if self.has_ipv6(side) { LEN_V6 } else { LEN }
    }
}

/// The address of IPv6 that stands for one of IPv4: all are of one prefix.
pub const fn wide(address: u32) -> u128 {
    const PREFIX: u128 = 0x2001_0db8 << 96;
    PREFIX | address as u128
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

/// Where the low words of a frame's addresses stand, and its transport.
#[inline]
const fn places(is_v6: bool) -> (usize, usize, usize) {
    if is_v6 { (IP + 20, IP + 36, L4 + 20) } else { (IP + 12, IP + 16, L4) }
}

#[inline]
fn places_of(frame: &[u8]) -> (usize, usize, usize) {
    places(frame[IP] >> 4 == 6)
}

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
        let (source, destination, l4) = places_of(frame);
        *self = Self {
            local: word(frame, source),
            server: word(frame, destination),
            lport: half(frame, l4),
            sequence: word(frame, l4 + 4),
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

/// What a frame that went through is known by again: the IPv4 identification, or where there is IPv6 the first
/// bytes of the payload.
#[inline]
pub fn ident(frame: &[u8], form: Form) -> u16 {
    if form.is_wide() { half(frame, places_of(frame).2 + 8) } else { half(frame, IP + 4) }
}

/// Whom a frame is for: address and port.
#[inline]
pub fn destination(frame: &[u8]) -> (u32, u16) {
    (word(frame, IP + 16), half(frame, L4 + 2))
}

/// A frame but for what differs from conn to conn.
#[derive(Clone, Debug)]
pub struct Template {
    bytes: [u8; LEN_V6],
    len: usize,
    side: Side,
    is_tcp: bool,
    is_v6: bool,
    /// The identification is in the payload.
    is_marked: bool,
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
            Form::FullNat | Form::FullNat66 | Form::Nat64 => (VIP, VPORT),
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
    /// UDP of IPv4 with 18 bytes of payload.
    pub fn udp(side: Side) -> Self {
        Self::udp_of(Form::FullNat, side)
    }

    /// UDP with 18 bytes of payload.
    pub fn udp_of(form: Form, side: Side) -> Self {
        let payload = if form.is_wide() { [0; 18] } else { [0x5a; 18] };
        let packet = match form.has_ipv6(side) {
            true => framed(side).ipv6(wide(0), wide(0)),
            false => framed(side).ipv4(0, 0),
        };
        Self {
            is_marked: form.is_wide(),
            ..Self::new(packet.udp(0, 0).payload(payload), side, false)
        }
    }

    /// TCP.
    pub fn tcp(side: Side, what: Tcp) -> Self {
        let packet = framed(side).ipv4(0, 0).tcp(0, 0);
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
        let frame = packet.frame();
        let len = frame.len();
        let is_v6 = frame[IP] >> 4 == 6;
        let (_, _, l4) = places(is_v6);
        let mut bytes = [0; LEN_V6];
        bytes[..len].copy_from_slice(&frame);
        let checksum = l4 + Self::l4_checksum(is_tcp);
        bytes[checksum..checksum + 2].fill(0);
        // The pseudo header: protocol and length; the addresses come with each packet, but for their prefixes.
        let (end, proto, prefixes) = match is_v6 {
            true => (len, bytes[IP + 6], sum(&bytes[IP + 8..l4])),
            false => {
                bytes[IP + 10..IP + 12].fill(0);
                (IP + usize::from(half(&bytes, IP + 2)), bytes[IP + 9], 0)
            }
        };
        let pseudo = u32::from(proto) + (end - l4) as u32 + prefixes;
        let (ip_sum, l4_sum) = (sum(&bytes[IP..L4]), sum(&bytes[l4..end]) + pseudo);
        Self { bytes, len, side, is_tcp, is_v6, is_marked: false, ip_sum, l4_sum }
    }

    /// Length of the frame.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether clients send it.
    pub fn is_from_client(&self) -> bool {
        self.side == Side::Client
    }

    const fn l4_checksum(is_tcp: bool) -> usize {
        if is_tcp { 16 } else { 6 }
    }

    /// Writes the frame with right checksums.
    #[inline]
    pub fn write(&self, frame: &mut [u8], fields: &Fields) {
        let Some(frame) = frame.get_mut(..self.len) else { return };
        frame.copy_from_slice(&self.bytes[..self.len]);
        let mut put = |at: usize, bytes: &[u8]| frame[at..at + bytes.len()].copy_from_slice(bytes);
        let ((source, sport), (destination, dport)) = (fields.source, fields.destination);
        let (source_at, destination_at, l4_at) = places(self.is_v6);
        put(source_at, &source.to_be_bytes());
        put(destination_at, &destination.to_be_bytes());
        put(l4_at, &sport.to_be_bytes());
        put(l4_at + 2, &dport.to_be_bytes());
        let addresses = halves(source) + halves(destination);
        let mut l4_sum = self.l4_sum + addresses + u32::from(sport) + u32::from(dport);
        if self.is_tcp {
            put(l4_at + 4, &fields.sequence.to_be_bytes());
            put(l4_at + 8, &fields.ack.to_be_bytes());
            l4_sum += halves(fields.sequence) + halves(fields.ack);
        }
        let ident = u32::from(fields.ident);
        if self.is_marked {
            put(l4_at + 8, &fields.ident.to_be_bytes());
            l4_sum += ident;
        }
        if !self.is_v6 {
            put(IP + 4, &fields.ident.to_be_bytes());
            let ip_sum = folded(self.ip_sum + addresses + ident);
            put(IP + 10, &(!ip_sum).to_be_bytes());
        }
        // RFC 768: a sum of 0 is sent as all ones.
        let l4 = match !folded(l4_sum) {
            0 if !self.is_tcp => 0xffff,
            checksum => checksum,
        };
        put(l4_at + Self::l4_checksum(self.is_tcp), &l4.to_be_bytes());
    }
}

/// A server's Ethernet address does not matter: the path does not look at who sends.
fn framed(side: Side) -> PacketBuilder {
    let (from, to) = match side {
        Side::Client => (GATEWAY_MAC, OUR_MACS[bed::WAN]),
        Side::Server => (bed::server_mac(0), OUR_MACS[bed::LAN]),
    };
    pkt().eth(MacAddr(from.0), MacAddr(to.0))
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
