//! What a frame says, told by etherparse and not by `wire`, so that the one tests the other.

use std::fmt;
use std::net::Ipv4Addr;

use etherparse::{LinkSlice, NetSlice, SlicedPacket};
use types::{FlowKey, FlowKey6, MacAddr};

mod ipv6;
mod read;

pub use ipv6::{Icmp6, Ipv6, Quoted6};

/// A frame, decoded. Numbers are in host order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Ethernet source.
    pub eth_src: MacAddr,
    /// Ethernet destination.
    pub eth_dst: MacAddr,
    /// Identifier of an IEEE 802.1Q tag.
    pub vlan: Option<u16>,
    /// What the frame carries.
    pub net: Net,
}

/// What Ethernet carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Net {
    /// ARP.
    Arp(Arp),
    /// IPv4.
    Ipv4(Ipv4),
    /// IPv6.
    Ipv6(Ipv6),
}

/// An ARP packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arp {
    /// 1 request, 2 reply.
    pub operation: u16,
    /// Who speaks.
    pub sender_mac: MacAddr,
    /// Who speaks.
    pub sender_ip: u32,
    /// Who is spoken to.
    pub target_mac: MacAddr,
    /// Who is spoken to, or looked for.
    pub target_ip: u32,
}

/// An IPv4 packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ipv4 {
    /// Source.
    pub src: u32,
    /// Destination.
    pub dst: u32,
    /// Protocol number.
    pub protocol: u8,
    /// Time to live.
    pub ttl: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// Identification.
    pub ident: u16,
    /// Do not fragment.
    pub df: bool,
    /// Length in bytes as the header says.
    pub total_len: u16,
    /// Options.
    pub options: Vec<u8>,
    /// The header checksum is right.
    pub checksum_ok: bool,
    /// What IPv4 carries.
    pub l4: L4,
    /// What the innermost header carries.
    pub payload: Vec<u8>,
}

/// What IP carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum L4 {
    /// TCP.
    Tcp(Tcp),
    /// UDP.
    Udp(Udp),
    /// ICMP.
    Icmp(Icmp),
    /// ICMPv6.
    Icmp6(Icmp6),
    /// Anything else, and fragments.
    Other,
}

/// A TCP header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// Flags, as `wire::tcp` names them.
    pub flags: u8,
    /// Window, not scaled.
    pub window: u16,
    /// Urgent pointer.
    pub urgent: u16,
    /// Option: maximum segment size.
    pub mss: Option<u16>,
    /// Option: window scale.
    pub window_scale: Option<u8>,
    /// Option: selective acknowledgment permitted.
    pub sack_permitted: bool,
    /// Option: timestamps, TSval and TSecr.
    pub timestamps: Option<(u32, u32)>,
    /// Option: blocks of selective acknowledgment.
    pub sack: Vec<(u32, u32)>,
    /// Option 254 (TOA): address and port.
    pub toa: Option<(u32, u16)>,
    /// The bytes of all options.
    pub options: Vec<u8>,
    /// The checksum is right.
    pub checksum_ok: bool,
}

/// A UDP header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Udp {
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// Length of header and data in bytes as the header says.
    pub len: u16,
    /// The checksum as it stands; 0 is none.
    pub checksum: u16,
    /// There is no checksum, or it is right.
    pub checksum_ok: bool,
}

/// An ICMP header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// Type.
    pub icmp_type: u8,
    /// Code.
    pub code: u8,
    /// The four bytes behind the checksum.
    pub rest: u32,
    /// The checksum is right.
    pub checksum_ok: bool,
    /// Errors only: the quoted packet.
    pub quoted: Option<Quoted>,
}

impl Icmp {
    /// Identifier of an echo.
    pub fn ident(&self) -> u16 {
        (self.rest >> 16) as u16
    }

    /// Sequence number of an echo, or MTU of an error.
    pub fn seq(&self) -> u16 {
        self.rest as u16
    }
}

/// The packet that an ICMP error quotes, as far as it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// The tuple of the quoted packet, as it was sent; ports are both the identifier for ICMP.
    pub key: FlowKey,
    /// Time to live.
    pub ttl: u8,
    /// Length in bytes as the quoted header says.
    pub total_len: u16,
    /// The quoted header's checksum is right.
    pub ip_checksum_ok: bool,
    /// Bytes four to eight of the quoted transport header: the sequence number of TCP.
    pub seq: u32,
    /// The quoted transport header and data, as much as there is.
    pub l4: Vec<u8>,
    /// Whether the quoted transport checksum is right; `None` if the quote is cut, or has none.
    pub l4_checksum_ok: Option<bool>,
}

impl Decoded {
    /// Decodes a frame; checksums may be wrong, lengths not.
    ///
    /// # Errors
    /// What etherparse says, or that it is neither ARP nor IP.
    pub fn of(frame: &[u8]) -> Result<Self, String> {
        let sliced = SlicedPacket::from_ethernet(frame).map_err(|error| error.to_string())?;
        let Some(LinkSlice::Ethernet2(link)) = &sliced.link else {
            return Err("no Ethernet header".to_owned());
        };
        let net = match &sliced.net {
            Some(NetSlice::Arp(arp)) => {
                let packet = arp.to_packet().try_eth_ipv4().map_err(|error| error.to_string())?;
                Net::Arp(read::arp(&packet))
            }
            Some(NetSlice::Ipv4(ip)) => {
                Net::Ipv4(read::ipv4(&ip.header(), ip.payload().payload, sliced.transport.as_ref()))
            }
            Some(NetSlice::Ipv6(ip)) => Net::Ipv6(ipv6::read(ip, sliced.transport.as_ref())),
            _ => return Err("neither ARP nor IP".to_owned()),
        };
        Ok(Self {
            eth_src: MacAddr(link.source()),
            eth_dst: MacAddr(link.destination()),
            vlan: sliced.vlan_ids().first().map(|id| id.value()),
            net,
        })
    }

    /// Decodes a frame in which everything must be right, all checksums too. Panics if it is not.
    #[track_caller]
    pub fn check(frame: &[u8]) -> Self {
        match Self::of(frame) {
            Ok(decoded) if decoded.checksums_ok() => decoded,
            Ok(decoded) => panic!("wrong checksum in {decoded:#?}"),
            Err(error) => panic!("{error}: {:?}", crate::Buf::new(frame)),
        }
    }

    /// True if the IPv4 checksum and the one above IP are right or, of UDP over IPv4, left out.
    pub fn checksums_ok(&self) -> bool {
        match &self.net {
            Net::Arp(_) => true,
            Net::Ipv4(ip) => ip.checksum_ok && l4_checksum_ok(&ip.l4),
            Net::Ipv6(ip) => l4_checksum_ok(&ip.l4),
        }
    }

    /// The ARP packet. Panics if it is none.
    #[track_caller]
    pub fn arp(&self) -> &Arp {
        match &self.net {
            Net::Arp(arp) => arp,
            _ => panic!("no ARP: {self}"),
        }
    }

    /// The IPv4 packet. Panics if it is none.
    #[track_caller]
    pub fn ipv4(&self) -> &Ipv4 {
        match &self.net {
            Net::Ipv4(ip) => ip,
            _ => panic!("no IPv4: {self}"),
        }
    }

    /// The IPv6 packet. Panics if it is none.
    #[track_caller]
    pub fn ipv6(&self) -> &Ipv6 {
        match &self.net {
            Net::Ipv6(ip) => ip,
            _ => panic!("no IPv6: {self}"),
        }
    }

    /// The header above IP. Panics if it is ARP.
    #[track_caller]
    pub fn l4(&self) -> &L4 {
        match &self.net {
            Net::Ipv4(ip) => &ip.l4,
            Net::Ipv6(ip) => &ip.l4,
            Net::Arp(_) => panic!("no IP: {self}"),
        }
    }

    /// The ICMPv6 header. Panics if there is none.
    #[track_caller]
    pub fn icmp6(&self) -> &Icmp6 {
        match self.l4() {
            L4::Icmp6(icmp) => icmp,
            _ => panic!("no ICMPv6: {self}"),
        }
    }

    /// The packet that an ICMPv6 error quotes. Panics if there is none.
    #[track_caller]
    pub fn quoted6(&self) -> &Quoted6 {
        match &self.icmp6().quoted {
            Some(quoted) => quoted,
            None => panic!("nothing quoted: {self}"),
        }
    }

    /// The packet's own tuple, zone 0. Panics if it is no IPv6.
    #[track_caller]
    pub fn key6(&self) -> FlowKey6 {
        self.ipv6().key()
    }

    /// The TCP header. Panics if there is none.
    #[track_caller]
    pub fn tcp(&self) -> &Tcp {
        match self.l4() {
            L4::Tcp(tcp) => tcp,
            _ => panic!("no TCP: {self}"),
        }
    }

    /// The UDP header. Panics if there is none.
    #[track_caller]
    pub fn udp(&self) -> &Udp {
        match self.l4() {
            L4::Udp(udp) => udp,
            _ => panic!("no UDP: {self}"),
        }
    }

    /// The ICMP header. Panics if there is none.
    #[track_caller]
    pub fn icmp(&self) -> &Icmp {
        match self.l4() {
            L4::Icmp(icmp) => icmp,
            _ => panic!("no ICMP: {self}"),
        }
    }

    /// The packet that an ICMP error quotes. Panics if there is none.
    #[track_caller]
    pub fn quoted(&self) -> &Quoted {
        match &self.icmp().quoted {
            Some(quoted) => quoted,
            None => panic!("nothing quoted: {self}"),
        }
    }

    /// What the innermost header carries. Panics if it is ARP.
    #[track_caller]
    pub fn payload(&self) -> &[u8] {
        match &self.net {
            Net::Ipv4(ip) => &ip.payload,
            Net::Ipv6(ip) => &ip.payload,
            Net::Arp(_) => panic!("no IP: {self}"),
        }
    }

    /// The packet's own tuple, zone 0. Panics if it is no IPv4.
    #[track_caller]
    pub fn key(&self) -> FlowKey {
        self.ipv4().key()
    }
}

impl Ipv4 {
    /// The packet's own tuple, zone 0; both ports are the identifier for ICMP echo.
    pub fn key(&self) -> FlowKey {
        let (sport, dport) = match &self.l4 {
            L4::Tcp(tcp) => (tcp.sport, tcp.dport),
            L4::Udp(udp) => (udp.sport, udp.dport),
            L4::Icmp(icmp) if matches!(icmp.icmp_type, 0 | 8) => (icmp.ident(), icmp.ident()),
            L4::Icmp(_) | L4::Icmp6(_) | L4::Other => (0, 0),
        };
        FlowKey { src: self.src, dst: self.dst, sport, dport, zone: 0, proto: self.protocol }
    }

    /// True if the checksum above IPv4 is right, left out or unknown.
    pub fn l4_checksum_ok(&self) -> bool {
        l4_checksum_ok(&self.l4)
    }
}

fn l4_checksum_ok(l4: &L4) -> bool {
    match l4 {
        L4::Tcp(tcp) => tcp.checksum_ok,
        L4::Udp(udp) => udp.checksum_ok,
        L4::Icmp(icmp) => icmp.checksum_ok,
        L4::Icmp6(icmp) => icmp.checksum_ok,
        L4::Other => true,
    }
}

/// As tcpdump would: one line, for assertions and failures.
impl fmt::Display for Decoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (l4, payload) = match &self.net {
            Net::Arp(arp) => {
                let (sender, target) =
                    (Ipv4Addr::from(arp.sender_ip), Ipv4Addr::from(arp.target_ip));
                return match arp.operation {
                    1 => write!(f, "arp who-has {target} tell {sender}"),
                    _ => write!(f, "arp {sender} is-at {}", arp.sender_mac),
                };
            }
            Net::Ipv4(ip) => {
                write!(f, "{}", ip.key())?;
                (&ip.l4, &ip.payload)
            }
            Net::Ipv6(ip) => {
                write!(f, "{}", ip.key())?;
                (&ip.l4, &ip.payload)
            }
        };
        match l4 {
            L4::Tcp(tcp) => {
                let letters = "FSRP.UEW".chars().enumerate();
                let flags: String = letters
                    .filter(|(bit, _)| tcp.flags >> bit & 1 != 0)
                    .map(|(_, letter)| letter)
                    .collect();
                write!(f, " [{flags}] seq {}", tcp.seq)?;
                if tcp.flags & 0x10 != 0 {
                    write!(f, " ack {}", tcp.ack)?;
                }
            }
            L4::Icmp(icmp) => {
                write!(f, " type {} code {}", icmp.icmp_type, icmp.code)?;
                if let Some(quoted) = &icmp.quoted {
                    write!(f, " about {}", quoted.key)?;
                }
            }
            L4::Icmp6(icmp) => {
                write!(f, " type {} code {}", icmp.icmp_type, icmp.code)?;
                if let Some(quoted) = &icmp.quoted {
                    write!(f, " about {}", quoted.key)?;
                }
            }
            L4::Udp(_) | L4::Other => {}
        }
        write!(f, " len {}", payload.len())
    }
}
