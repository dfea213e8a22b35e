//! The packet builder: any frame in one expression, right unless told to be wrong.

use types::MacAddr;
use wire::{icmpv4, tcp, tcp_options};

use crate::{ToIp, ToMac};

mod assemble;
mod ipv6;

use ipv6::Ip6;

/// Begins a frame; see [`PacketBuilder`].
pub fn pkt() -> PacketBuilder {
    PacketBuilder::default()
}

/// A frame that is being described. Calls may come in any order, except that [`tcp`](Self::tcp),
/// [`udp`](Self::udp) and the like begin their header anew. Lengths and checksums are computed at
/// the end, over everything; the methods that say so make them lie.
#[derive(Clone, Debug)]
pub struct PacketBuilder {
    source: MacAddr,
    destination: MacAddr,
    vlan: Option<u16>,
    ether_type: Option<u16>,
    ip: Ip,
    ip6: Option<Ip6>,
    l4: L4,
    payload: Vec<u8>,
    min_len: usize,
    trailer: usize,
    first_len: Option<usize>,
    rss_hash: Option<u32>,
}

#[derive(Clone, Debug)]
struct Ip {
    source: u32,
    destination: u32,
    version: u8,
    header_words: Option<u8>,
    tos: u8,
    total_len: Option<u16>,
    ident: u16,
    fragment: u16,
    ttl: u8,
    protocol: Option<u8>,
    bad_checksum: bool,
    options: Vec<u8>,
}

#[derive(Clone, Debug)]
enum L4 {
    None,
    Arp([u8; 28]),
    Tcp(Tcp),
    Udp(Udp),
    Icmp(Icmp),
    Icmp6(Icmp),
}

#[derive(Clone, Debug, Default)]
struct Tcp {
    sport: u16,
    dport: u16,
    seq: u32,
    ack: u32,
    flags: Option<u8>,
    window: u16,
    urgent: u16,
    header_words: Option<u8>,
    options: Vec<u8>,
    bad_checksum: bool,
}

#[derive(Clone, Debug, Default)]
struct Udp {
    sport: u16,
    dport: u16,
    len: Option<u16>,
    no_checksum: bool,
    bad_checksum: bool,
}

#[derive(Clone, Debug, Default)]
struct Icmp {
    icmp_type: u8,
    code: u8,
    rest: u32,
    bad_checksum: bool,
}

impl Default for PacketBuilder {
    fn default() -> Self {
        Self {
            source: 1.to_mac(),
            destination: 2.to_mac(),
            vlan: None,
            ether_type: None,
            ip: Ip {
                source: "198.51.100.7".to_ip(),
                destination: "203.0.113.10".to_ip(),
                version: 4,
                header_words: None,
                tos: 0,
                total_len: None,
                ident: 0,
                fragment: 0,
                ttl: 64,
                protocol: None,
                bad_checksum: false,
                options: Vec::new(),
            },
            ip6: None,
            l4: L4::None,
            payload: Vec::new(),
            min_len: 0,
            trailer: 0,
            first_len: None,
            rss_hash: None,
        }
    }
}

/// Ethernet and the frame as a whole.
impl PacketBuilder {
    /// The stations: from `02:00:00:00:00:01` to `…:02` if not called.
    pub fn eth(mut self, source: impl ToMac, destination: impl ToMac) -> Self {
        (self.source, self.destination) = (source.to_mac(), destination.to_mac());
        self
    }

    /// An IEEE 802.1Q tag.
    pub fn vlan(mut self, id: u16) -> Self {
        self.vlan = Some(id);
        self
    }

    /// Another EtherType than what the packet is of.
    pub fn ether_type(mut self, ether_type: u16) -> Self {
        self.ether_type = Some(ether_type);
        self
    }

    /// Padded with zeros to 60 bytes, as Ethernet does.
    pub fn padded(mut self) -> Self {
        self.min_len = 60;
        self
    }

    /// So many bytes of 0x5a behind the packet, which do not belong to it.
    pub fn trailer(mut self, len: usize) -> Self {
        self.trailer = len;
        self
    }

    /// In several segments, the first of which has so many bytes.
    pub fn segmented(mut self, first_len: usize) -> Self {
        self.first_len = Some(first_len);
        self
    }

    /// With a hash of the NIC's.
    pub fn rss_hash(mut self, hash: u32) -> Self {
        self.rss_hash = Some(hash);
        self
    }

    /// What the innermost header carries.
    pub fn payload(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.payload = bytes.as_ref().to_vec();
        self
    }

    /// A payload of so many bytes that tell their place.
    pub fn payload_len(mut self, len: usize) -> Self {
        self.payload = (0..len).map(|index| (index % 251) as u8).collect();
        self
    }
}

/// IPv4.
impl PacketBuilder {
    /// Source and destination; from 198.51.100.7 to 203.0.113.10 if not called.
    pub fn ipv4(mut self, source: impl ToIp, destination: impl ToIp) -> Self {
        (self.ip.source, self.ip.destination) = (source.to_ip(), destination.to_ip());
        self
    }

    /// Time to live; 64 if not called.
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ip.ttl = ttl;
        self
    }

    /// DSCP and ECN.
    pub fn tos(mut self, tos: u8) -> Self {
        self.ip.tos = tos;
        self
    }

    /// Identification.
    pub fn ident(mut self, ident: u16) -> Self {
        self.ip.ident = ident;
        self
    }

    /// Do not fragment.
    pub fn df(mut self) -> Self {
        self.ip.fragment |= wire::ipv4::DONT_FRAGMENT;
        self
    }

    /// A fragment from byte `offset`, a multiple of 8, and whether `more` follow.
    pub fn fragment(mut self, offset: u16, more: bool) -> Self {
        assert_eq!(offset % 8, 0, "fragments begin at multiples of 8");
        self.ip.fragment = (offset / 8) | if more { wire::ipv4::MORE_FRAGMENTS } else { 0 };
        self
    }

    /// Protocol number; that of the header above if not called, 253 (experiments) without one.
    pub fn protocol(mut self, number: u8) -> Self {
        self.ip.protocol = Some(number);
        self
    }

    /// Options; padded with zeros to a multiple of 4.
    pub fn ip_options(mut self, options: &[u8]) -> Self {
        self.ip.options = options.to_vec();
        self.ip.options.resize(options.len().next_multiple_of(4), 0);
        self
    }

    /// A version that may be wrong.
    pub fn ip_version(mut self, version: u8) -> Self {
        self.ip.version = version;
        self
    }

    /// A header length in 32-bit words that may be wrong.
    pub fn ip_header_words(mut self, words: u8) -> Self {
        self.ip.header_words = Some(words);
        self
    }

    /// A total length that may be wrong.
    pub fn ip_total_len(mut self, len: u16) -> Self {
        self.ip.total_len = Some(len);
        self
    }

    /// A wrong header checksum.
    pub fn bad_ip_checksum(mut self) -> Self {
        self.ip.bad_checksum = true;
        self
    }
}

/// TCP.
impl PacketBuilder {
    /// A TCP header. Window 65535; ACK alone if no flag is asked for.
    pub fn tcp(mut self, sport: u16, dport: u16) -> Self {
        self.l4 = L4::Tcp(Tcp { sport, dport, window: 65_535, ..Tcp::default() });
        self
    }

    fn in_tcp(mut self, edit: impl FnOnce(&mut Tcp)) -> Self {
        match &mut self.l4 {
            L4::Tcp(tcp) => edit(tcp),
            other => panic!("call .tcp(sport, dport) first, not after {other:?}"),
        }
        self
    }

    fn flag(self, flag: u8) -> Self {
        self.in_tcp(|tcp| *tcp.flags.get_or_insert(0) |= flag)
    }

    fn option(self, bytes: &[u8]) -> Self {
        self.in_tcp(|tcp| tcp.options.extend(bytes))
    }

    /// An option whose data are wanted on a multiple of 4, as stacks place them.
    fn aligned_option(self, kind: u8, data: &[u8]) -> Self {
        self.in_tcp(|tcp| {
            while tcp.options.len() % 4 != 2 {
                tcp.options.push(tcp_options::NOP);
            }
            tcp.options.extend([kind, data.len() as u8 + 2]);
            tcp.options.extend(data);
        })
    }

    /// The flag SYN.
    pub fn syn(self) -> Self {
        self.flag(tcp::SYN)
    }

    /// The flag FIN.
    pub fn fin(self) -> Self {
        self.flag(tcp::FIN)
    }

    /// The flag RST.
    pub fn rst(self) -> Self {
        self.flag(tcp::RST)
    }

    /// The flag PSH.
    pub fn psh(self) -> Self {
        self.flag(tcp::PSH)
    }

    /// The flag ACK and its number.
    pub fn ack(self, number: u32) -> Self {
        self.in_tcp(|tcp| tcp.ack = number).flag(tcp::ACK)
    }

    /// Exactly these flags, be they none.
    pub fn flags(self, flags: u8) -> Self {
        self.in_tcp(|tcp| tcp.flags = Some(flags))
    }

    /// Sequence number; 0 if not called.
    pub fn seq(self, number: u32) -> Self {
        self.in_tcp(|tcp| tcp.seq = number)
    }

    /// Window, not scaled.
    pub fn window(self, window: u16) -> Self {
        self.in_tcp(|tcp| tcp.window = window)
    }

    /// The flag URG and its pointer.
    pub fn urgent(self, pointer: u16) -> Self {
        self.in_tcp(|tcp| tcp.urgent = pointer).flag(tcp::URG)
    }

    /// Option: maximum segment size.
    pub fn mss(self, mss: u16) -> Self {
        let [high, low] = mss.to_be_bytes();
        self.option(&[tcp_options::MSS, 4, high, low])
    }

    /// Option: window scale.
    pub fn window_scale(self, shift: u8) -> Self {
        self.option(&[tcp_options::NOP, tcp_options::WINDOW_SCALE, 3, shift])
    }

    /// Option: selective acknowledgment permitted.
    pub fn sack_permitted(self) -> Self {
        self.option(&[tcp_options::SACK_PERMITTED, 2])
    }

    /// Option: timestamps, TSval and TSecr.
    pub fn timestamps(self, value: u32, echo: u32) -> Self {
        let data = [value.to_be_bytes(), echo.to_be_bytes()].concat();
        self.aligned_option(tcp_options::TIMESTAMPS, &data)
    }

    /// Option: selective acknowledgment of blocks, each from its left edge to its right.
    pub fn sack(self, blocks: &[(u32, u32)]) -> Self {
        let data: Vec<u8> = blocks
            .iter()
            .flat_map(|(left, right)| [left.to_be_bytes(), right.to_be_bytes()].concat())
            .collect();
        self.aligned_option(tcp_options::SACK, &data)
    }

    /// Option: TOA, the client's address and port.
    pub fn toa(self, client: impl ToIp, sport: u16) -> Self {
        self.option(&[tcp_options::TOA, 8])
            .option(&sport.to_be_bytes())
            .option(&client.to_ip().to_be_bytes())
    }

    /// These bytes as options; what is not a multiple of 4 is padded with NOPs at the end.
    pub fn tcp_options(self, bytes: &[u8]) -> Self {
        self.option(bytes)
    }

    /// A data offset in 32-bit words that may be wrong.
    pub fn tcp_header_words(self, words: u8) -> Self {
        self.in_tcp(|tcp| tcp.header_words = Some(words))
    }
}

/// UDP, ICMP and ARP.
impl PacketBuilder {
    /// A UDP header.
    pub fn udp(mut self, sport: u16, dport: u16) -> Self {
        self.l4 = L4::Udp(Udp { sport, dport, ..Udp::default() });
        self
    }

    fn in_udp(mut self, edit: impl FnOnce(&mut Udp)) -> Self {
        match &mut self.l4 {
            L4::Udp(udp) => edit(udp),
            other => panic!("call .udp(sport, dport) first, not after {other:?}"),
        }
        self
    }

    /// UDP without checksum.
    pub fn no_checksum(self) -> Self {
        self.in_udp(|udp| udp.no_checksum = true)
    }

    /// A UDP length that may be wrong.
    pub fn udp_len(self, len: u16) -> Self {
        self.in_udp(|udp| udp.len = Some(len))
    }

    /// An ICMP echo request.
    pub fn echo_request(self, ident: u16, seq: u16) -> Self {
        self.icmp(icmpv4::ECHO_REQUEST, 0, u32::from(ident) << 16 | u32::from(seq))
    }

    /// An ICMP echo reply.
    pub fn echo_reply(self, ident: u16, seq: u16) -> Self {
        self.icmp(icmpv4::ECHO_REPLY, 0, u32::from(ident) << 16 | u32::from(seq))
    }

    /// Any ICMP message: type, code and the four bytes behind the checksum.
    pub fn icmp(mut self, icmp_type: u8, code: u8, rest: u32) -> Self {
        self.l4 = L4::Icmp(Icmp { icmp_type, code, rest, bad_checksum: false });
        self
    }

    /// The payload of an ICMP error: the IP packet of another description, all of it.
    pub fn quote(self, inner: &PacketBuilder) -> Self {
        let packet = inner.ip_packet();
        self.payload(packet)
    }

    /// The payload of an ICMP error: the IP headers of another description and eight bytes.
    pub fn quote_short(self, inner: &PacketBuilder) -> Self {
        let mut packet = inner.ip_packet();
        packet.truncate(inner.l3_len() + 8);
        self.payload(packet)
    }

    /// A wrong TCP, UDP or ICMP checksum.
    pub fn bad_checksum(mut self) -> Self {
        match &mut self.l4 {
            L4::Tcp(tcp) => tcp.bad_checksum = true,
            L4::Udp(udp) => udp.bad_checksum = true,
            L4::Icmp(icmp) | L4::Icmp6(icmp) => icmp.bad_checksum = true,
            other => panic!("{other:?} has no checksum"),
        }
        self
    }

    /// An ARP request, sent to all: who has `target`? The sender's MAC is the frame's source.
    pub fn arp_request(mut self, sender: impl ToIp, target: impl ToIp) -> Self {
        self.destination = MacAddr::BROADCAST;
        let source = self.source;
        self.arp(1, source, sender, MacAddr::default(), target)
    }

    /// An ARP reply: `sender` is at the frame's source. The target's MAC is the frame's destination.
    pub fn arp_reply(self, sender: impl ToIp, target: impl ToIp) -> Self {
        let (source, destination) = (self.source, self.destination);
        self.arp(2, source, sender, destination, target)
    }

    /// Any ARP packet. Call [`eth`](Self::eth) before.
    pub fn arp(
        mut self,
        operation: u16,
        sender_mac: impl ToMac,
        sender: impl ToIp,
        target_mac: impl ToMac,
        target: impl ToIp,
    ) -> Self {
        let mut bytes = vec![0, 1, 8, 0, 6, 4];
        bytes.extend(operation.to_be_bytes());
        bytes.extend(sender_mac.to_mac().0);
        bytes.extend(sender.to_ip().to_be_bytes());
        bytes.extend(target_mac.to_mac().0);
        bytes.extend(target.to_ip().to_be_bytes());
        self.l4 = L4::Arp(bytes.try_into().expect("28 bytes"));
        self
    }
}
