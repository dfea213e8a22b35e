//! The parser of the packet path: one pass over the headers of a frame, to its key and offsets.

use types::{Address, FlowKey, Verdict};

use crate::ethernet::{self, Ethernet};
use crate::icmpv4::{self, Icmpv4};
use crate::ipv4::{self, Ipv4};
use crate::{Arp, Tcp, Udp, arp, checksum, chunk_at, tcp, udp};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Version 4 and a header of five words: no options.
const PLAIN_IPV4: u8 = 0x45;

/// What a frame holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// An IP protocol that has no key of its own, or an ICMP message that is neither echo nor error.
    #[default]
    OtherIp,
    /// An ARP request or reply.
    Arp,
    /// A TCP segment.
    Tcp,
    /// A UDP datagram.
    Udp,
    /// An ICMP echo request.
    IcmpQuery,
    /// An ICMP echo reply.
    IcmpReply,
    /// An ICMP error; [`Parsed::inner`] tells what it is about.
    IcmpError,
}

/// Where everything is in a frame, and which flow it is of.
///
/// Offsets are in bytes from the start of the frame; lengths and numbers are in host order. `A` is the
/// address of the packet's family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parsed<A = u32> {
    /// The packet's own tuple. For echo both ports are the identifier, for ICMP errors and other
    /// protocols they are 0, for ARP the addresses are the sender's and the target's. Zone is 0.
    pub key: FlowKey<A>,
    /// ICMP errors only: the flow that would carry a reply to the quoted packet, as it arrives here.
    pub inner: FlowKey<A>,
    /// The IPv4 header, or the ARP packet.
    pub l3: u16,
    /// The header above IPv4.
    pub l4: u16,
    /// What follows the TCP, UDP or first eight bytes of the ICMP header; otherwise as `l4`.
    pub payload: u16,
    /// Length of the IPv4 packet as its header says; the frame may be longer by Ethernet's padding.
    pub ip_total_len: u16,
    /// ICMP errors only: the quoted IPv4 header.
    pub inner_l3: u16,
    /// ICMP errors only: what follows the quoted IPv4 header; at least eight bytes are there.
    pub inner_l4: u16,
    /// VLAN identifier of the frame's tag, 0 for none or a mere priority.
    pub vlan: u16,
    /// What the frame holds.
    pub kind: Kind,
    /// TCP only: the flags.
    pub tcp_flags: u8,
    /// Time to live on arrival.
    pub ttl: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// ICMP only: type.
    pub icmp_type: u8,
    /// ICMP only: code.
    pub icmp_code: u8,
    /// The packet must not be fragmented.
    pub dont_fragment: bool,
}

const _: () = assert!(size_of::<Parsed>() <= 64 && size_of::<Parsed<u128>>() <= 128);

impl<A: Address> Parsed<A> {
    /// The key by which the flow table is asked: an ICMP error goes by the packet that it quotes.
    #[inline(always)]
    pub fn lookup_key(&self) -> FlowKey<A> {
        if self.kind == Kind::IcmpError { self.inner } else { self.key }
    }

    /// Where the IPv4 packet ends, in bytes from the start of the frame.
    #[inline(always)]
    pub fn ip_end(&self) -> usize {
        usize::from(self.l3).wrapping_add(usize::from(self.ip_total_len))
    }

    /// Bytes from [`Parsed::payload`] to the end of the packet.
    #[inline(always)]
    pub fn payload_len(&self) -> usize {
        self.ip_end().saturating_sub(usize::from(self.payload))
    }
}

/// Why a frame was not parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// It ends here.
    Drop(Verdict),
    /// Headers stand beyond the first segment: parse again with so many bytes of the frame in it.
    Pull(u16),
}

/// Bytes up to `needed` are not in the first segment: they are in another one, or nowhere.
#[cold]
fn missing(total_len: usize, needed: usize, nowhere: Verdict) -> ParseError {
    match u16::try_from(needed) {
        Ok(len) if needed <= total_len => ParseError::Pull(len),
        _ => ParseError::Drop(nowhere),
    }
}

#[cold]
fn dropped(verdict: Verdict) -> Result<(), ParseError> {
    Err(ParseError::Drop(verdict))
}

/// Parses a frame of `total_len` bytes, the first of which are `bytes`.
///
/// On success `out` is written whole; on an error it holds anything. Checksums of TCP, UDP and ICMP
/// are not looked at: a wrong one passes through and stays wrong.
///
/// # Errors
/// [`ParseError::Pull`] if headers are not in `bytes` but further on in the frame, otherwise the
/// verdict on what is wrong.
#[inline(always)]
pub fn parse(bytes: &[u8], total_len: usize, out: &mut Parsed) -> Result<(), ParseError> {
    let Some(header) = Ethernet::new_checked(bytes) else {
        return Err(missing(total_len, ethernet::LEN, Verdict::Malformed));
    };
    let mut ether_type = header.ether_type();
    let mut l3 = ethernet::LEN;
    let mut vlan = 0;
    if ether_type == ethernet::VLAN {
        l3 = const { ethernet::LEN + ethernet::VLAN_LEN };
        let Some(&[vid_high, vid_low, type_high, type_low]) = chunk_at(bytes, ethernet::LEN) else {
            return Err(missing(total_len, l3, Verdict::Malformed));
        };
        vlan = u16::from_be_bytes([vid_high, vid_low]) & 0x0fff;
        ether_type = u16::from_be_bytes([type_high, type_low]);
    }
    let frame = Frame { bytes, total_len, l3, vlan };
    match ether_type {
        ethernet::IPV4 => frame.ipv4(out),
        ethernet::ARP => frame.arp(out),
        _ => dropped(Verdict::UnknownEtherType),
    }
}

/// A frame of which L2 has been read.
///
/// It is handed on by value, and `out` is written field by field: so the optimizer keeps the one in
/// registers and stores the other once. Built up in memory and copied, parsing takes twice as long.
#[derive(Clone, Copy)]
struct Frame<'a> {
    bytes: &'a [u8],
    total_len: usize,
    l3: usize,
    vlan: u16,
}

impl Frame<'_> {
    #[inline(always)]
    fn ipv4(self, out: &mut Parsed) -> Result<(), ParseError> {
        let Some(ip) = Ipv4::at(self.bytes, self.l3) else {
            let needed = self.l3.wrapping_add(ipv4::LEN);
            return Err(missing(self.total_len, needed, Verdict::Malformed));
        };
        let header_len = if ip.version_ihl() == PLAIN_IPV4 {
            if checksum::sum_20(ip.as_bytes()) != 0xffff {
                return dropped(Verdict::BadIpChecksum);
            }
            ipv4::LEN
        } else {
            self.unusual_header(ip)?
        };
        let ip_total_len = usize::from(ip.total_len());
        let l4 = self.l3.wrapping_add(header_len);
        // The frame may be longer: Ethernet pads to 60 bytes.
        if ip_total_len < header_len || ip_total_len > self.total_len.saturating_sub(self.l3) {
            return dropped(Verdict::BadIpHeader);
        }
        let fragment = ip.fragment();
        if fragment & (ipv4::MORE_FRAGMENTS | ipv4::FRAGMENT_OFFSET) != 0 {
            return dropped(Verdict::Fragment);
        }
        if ipv4::is_bad_source(ip.source()) {
            return dropped(Verdict::BadSource);
        }
        let proto = ip.protocol();
        out.key.src = ip.source();
        out.key.dst = ip.destination();
        out.key.sport = 0;
        out.key.dport = 0;
        out.key.zone = 0;
        out.key.proto = proto;
        out.inner = FlowKey::default();
        out.l3 = self.l3 as u16;
        out.l4 = l4 as u16;
        out.payload = l4 as u16;
        out.ip_total_len = ip_total_len as u16;
        out.inner_l3 = 0;
        out.inner_l4 = 0;
        out.vlan = self.vlan;
        out.kind = Kind::OtherIp;
        out.tcp_flags = 0;
        out.ttl = ip.ttl();
        out.tos = ip.tos();
        out.icmp_type = 0;
        out.icmp_code = 0;
        out.dont_fragment = fragment & ipv4::DONT_FRAGMENT != 0;
        let payload_len = ip_total_len.wrapping_sub(header_len);
        match proto {
            TCP => self.tcp(l4, payload_len, out),
            UDP => self.udp(l4, payload_len, out),
            ICMP => self.icmp(l4, payload_len, out),
            _ => Ok(()),
        }
    }

    /// A header that is not 20 bytes of version 4: with options, or broken. Returns its length.
    #[cold]
    #[inline(never)]
    fn unusual_header(self, ip: Ipv4<&[u8; ipv4::LEN]>) -> Result<usize, ParseError> {
        let header_len = ip.header_len();
        if ip.version_ihl() >> 4 != 4 || header_len < ipv4::LEN {
            return Err(ParseError::Drop(Verdict::BadIpHeader));
        }
        let end = self.l3.wrapping_add(header_len);
        let Some(header) = self.bytes.get(self.l3..end) else {
            return Err(missing(self.total_len, end, Verdict::BadIpHeader));
        };
        if checksum::sum(header) != 0xffff {
            return Err(ParseError::Drop(Verdict::BadIpChecksum));
        }
        check_options(header.get(ipv4::LEN..).unwrap_or(&[])).map_err(ParseError::Drop)?;
        Ok(header_len)
    }

    #[inline(always)]
    fn tcp(self, l4: usize, payload_len: usize, out: &mut Parsed) -> Result<(), ParseError> {
        let Some(header) = Tcp::at(self.bytes, l4) else {
            return Err(self.transport_missing(l4, payload_len, tcp::LEN));
        };
        let header_len = header.header_len();
        let flags = header.flags();
        let payload = l4.wrapping_add(header_len);
        let (sport, dport) = (header.sport(), header.dport());
        if header_len < tcp::LEN
            || header_len > payload_len
            || !tcp::flags_are_sane(flags)
            || sport == 0
            || dport == 0
        {
            return dropped(Verdict::BadTransport);
        }
        if payload > self.bytes.len() {
            return Err(missing(self.total_len, payload, Verdict::BadTransport));
        }
        out.kind = Kind::Tcp;
        out.key.sport = sport;
        out.key.dport = dport;
        out.tcp_flags = flags;
        out.payload = payload as u16;
        Ok(())
    }

    #[inline(always)]
    fn udp(self, l4: usize, payload_len: usize, out: &mut Parsed) -> Result<(), ParseError> {
        let Some(header) = Udp::at(self.bytes, l4) else {
            return Err(self.transport_missing(l4, payload_len, udp::LEN));
        };
        let len = usize::from(header.datagram_len());
        let (sport, dport) = (header.sport(), header.dport());
        // A datagram may be shorter than its packet: UDP options live there (RFC 9868 §8).
        if len < udp::LEN || len > payload_len || sport == 0 || dport == 0 {
            return dropped(Verdict::BadTransport);
        }
        out.kind = Kind::Udp;
        out.key.sport = sport;
        out.key.dport = dport;
        out.payload = l4.wrapping_add(udp::LEN) as u16;
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn icmp(self, l4: usize, payload_len: usize, out: &mut Parsed) -> Result<(), ParseError> {
        let Some(header) = Icmpv4::at(self.bytes, l4) else {
            return Err(self.transport_missing(l4, payload_len, icmpv4::LEN));
        };
        if payload_len < icmpv4::LEN {
            return dropped(Verdict::BadTransport);
        }
        out.icmp_type = header.icmp_type();
        out.icmp_code = header.code();
        out.payload = l4.wrapping_add(icmpv4::LEN) as u16;
        match out.icmp_type {
            icmpv4::ECHO_REQUEST | icmpv4::ECHO_REPLY => {
                out.key.sport = header.ident();
                out.key.dport = header.ident();
                out.kind = if out.icmp_type == icmpv4::ECHO_REQUEST {
                    Kind::IcmpQuery
                } else {
                    Kind::IcmpReply
                };
            }
            // RFC 6633 §3 and RFC 1812 §5.2.7.2: the one is obsolete, the other not for others.
            icmpv4::SOURCE_QUENCH | icmpv4::REDIRECT => return dropped(Verdict::BadIcmp),
            icmp_type if icmpv4::is_error(icmp_type) => {
                out.kind = Kind::IcmpError;
                self.quoted(out)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// The packet that an ICMP error quotes: at least its header and eight bytes (RFC 792).
    fn quoted(self, out: &mut Parsed) -> Result<(), ParseError> {
        const BROKEN: ParseError = ParseError::Drop(Verdict::BadIcmp);
        let inner_l3 = usize::from(out.payload);
        let end = out.ip_end();
        let need = |needed: usize| if needed <= end { Ok(needed) } else { Err(BROKEN) };

        let needed = need(inner_l3.wrapping_add(ipv4::LEN))?;
        let ip = Ipv4::at(self.bytes, inner_l3)
            .ok_or_else(|| missing(self.total_len, needed, Verdict::BadIcmp))?;
        let header_len = ip.header_len();
        if ip.version_ihl() >> 4 != 4
            || header_len < ipv4::LEN
            || ip.fragment() & ipv4::FRAGMENT_OFFSET != 0
        {
            return Err(BROKEN);
        }
        let inner_l4 = inner_l3.wrapping_add(header_len);
        let needed = need(inner_l4.wrapping_add(8))?;
        let start = chunk_at::<8>(self.bytes, inner_l4)
            .ok_or_else(|| missing(self.total_len, needed, Verdict::BadIcmp))?;
        let (sport, dport) = match ip.protocol() {
            TCP | UDP => {
                let &[a, b, c, d, ..] = start;
                (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
            }
            ICMP => {
                let &[icmp_type, _, _, _, a, b, ..] = start;
                // RFC 1122 §3.2.2: there is no error about an error.
                if !matches!(icmp_type, icmpv4::ECHO_REQUEST | icmpv4::ECHO_REPLY) {
                    return Err(BROKEN);
                }
                (u16::from_be_bytes([a, b]), u16::from_be_bytes([a, b]))
            }
            _ => (0, 0),
        };
        let quoted = FlowKey {
            src: ip.source(),
            dst: ip.destination(),
            sport,
            dport,
            zone: 0,
            proto: ip.protocol(),
        };
        out.inner = quoted.reversed();
        out.inner_l3 = inner_l3 as u16;
        out.inner_l4 = inner_l4 as u16;
        Ok(())
    }

    /// A transport header of `len` bytes that is not in the first segment.
    #[cold]
    fn transport_missing(self, l4: usize, payload_len: usize, len: usize) -> ParseError {
        if payload_len < len {
            return ParseError::Drop(Verdict::BadTransport);
        }
        missing(self.total_len, l4.wrapping_add(len), Verdict::BadTransport)
    }

    #[cold]
    #[inline(never)]
    fn arp(self, out: &mut Parsed) -> Result<(), ParseError> {
        let Some(header) = Arp::at(self.bytes, self.l3) else {
            let needed = self.l3.wrapping_add(arp::LEN);
            return Err(missing(self.total_len, needed, Verdict::Malformed));
        };
        let sender_mac = header.sender_mac();
        // RFC 1812 §3.3.2: nobody's address is a group's. A probe's sender has none yet (RFC 5227).
        if header.as_bytes().first_chunk() != Some(&arp::ETHERNET_IPV4)
            || !matches!(header.operation(), arp::REQUEST | arp::REPLY)
            || sender_mac.is_multicast()
            || sender_mac.is_zero()
            || header.sender_ip() != 0 && ipv4::is_bad_source(header.sender_ip())
        {
            return dropped(Verdict::BadArp);
        }
        *out = Parsed {
            key: FlowKey { src: header.sender_ip(), dst: header.target_ip(), ..FlowKey::default() },
            l3: self.l3 as u16,
            l4: self.l3 as u16,
            payload: self.l3 as u16,
            vlan: self.vlan,
            kind: Kind::Arp,
            ..Parsed::default()
        };
        Ok(())
    }
}

/// Refuses IPv4 options that are malformed or ask for source routing (RFC 7126 §4.3, §4.4).
fn check_options(mut options: &[u8]) -> Result<(), Verdict> {
    const END: u8 = 0;
    const NOP: u8 = 1;
    const LOOSE_SOURCE_ROUTE: u8 = 131;
    const STRICT_SOURCE_ROUTE: u8 = 137;

    // Each turn takes a byte or more of at most 40.
    while let Some((&kind, rest)) = options.split_first() {
        options = match kind {
            END => return Ok(()),
            NOP => rest,
            LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => return Err(Verdict::SourceRouted),
            _ => rest
                .first()
                .filter(|&&len| len >= 2)
                .and_then(|&len| options.get(usize::from(len)..))
                .ok_or(Verdict::BadIpHeader)?,
        };
    }
    Ok(())
}

/// Checks the checksum of a parsed ICMP message, all of it, and that of a quoted IPv4 header
/// (RFC 5508 REQ-3).
///
/// # Errors
/// [`ParseError::Pull`] if the message is not wholly in `bytes`, the verdict `BadIcmp` if the
/// checksum is wrong.
pub fn verify_icmp(bytes: &[u8], parsed: &Parsed) -> Result<(), ParseError> {
    let end = parsed.ip_end();
    let Some(message) = bytes.get(usize::from(parsed.l4)..end) else {
        return Err(missing(end, end, Verdict::BadIcmp));
    };
    // The quoted packet's own checksum stays unseen: it may be cut off (RFC 5508 REQ-3 c).
    let quoted = usize::from(parsed.inner_l3)..usize::from(parsed.inner_l4);
    let quoted = bytes.get(quoted).unwrap_or(&[]);
    let is_right =
        checksum::sum(message) == 0xffff && (quoted.is_empty() || checksum::sum(quoted) == 0xffff);
    if is_right { Ok(()) } else { dropped(Verdict::BadIcmp) }
}
