//! The parser of the packet path: one pass over the headers of a frame, to its key and offsets.
//!
//! Each family has a file of its own; the transport headers are the same for both.

use types::{Address, FlowKey, FlowKey6, Verdict};

use crate::ethernet::{self, Ethernet};
use crate::extension::Piece;
use crate::{Tcp, Udp, chunk_at, tcp, udp};

mod v4;
mod v6;

pub use v4::verify_icmp;
pub use v6::{parse6, verify_icmp6};

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;

/// Bytes of an IP packet behind its header, at most.
const REST_MAX: usize = 65_535;

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
    /// A message of IPv6's neighbour discovery: see [`crate::ndp`].
    Ndp,
    /// A fragment but the first of TCP, UDP or ICMP. Ports and ICMP type are the first one's, and 0 as
    /// long as nobody has remembered them.
    Fragment,
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
    /// The IP header, or the ARP packet.
    pub l3: u16,
    /// The header above IP, behind options and extension headers.
    pub l4: u16,
    /// What follows the TCP, UDP or first eight bytes of the ICMP header; otherwise as `l4`.
    pub payload: u16,
    /// Length of the IP packet, header included, as it says; the frame may be longer by Ethernet's padding.
    pub ip_total_len: u16,
    /// ICMP errors only: the quoted IP header.
    pub inner_l3: u16,
    /// ICMP errors only: the quoted transport header; at least eight bytes are there.
    pub inner_l4: u16,
    /// VLAN identifier of the frame's tag, 0 for none or a mere priority.
    pub vlan: u16,
    /// What the frame holds.
    pub kind: Kind,
    /// TCP only: the flags.
    pub tcp_flags: u8,
    /// Time to live or hop limit on arrival.
    pub ttl: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// ICMP only: type.
    pub icmp_type: u8,
    /// ICMP only: code.
    pub icmp_code: u8,
    /// The packet must not be fragmented; of IPv6, always.
    pub dont_fragment: bool,
}

/// The same of an IPv6 packet.
pub type Parsed6 = Parsed<u128>;

const _: () = assert!(size_of::<Parsed>() <= 64 && size_of::<Parsed6>() <= 128);

impl<A: Address> Parsed<A> {
    /// The key by which the flow table is asked: an ICMP error goes by the packet that it quotes.
    #[inline(always)]
    pub fn lookup_key(&self) -> FlowKey<A> {
        if self.kind == Kind::IcmpError { self.inner } else { self.key }
    }

    /// Where the IP packet ends, in bytes from the start of the frame.
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

impl Parsed {
    /// The same with IPv4-mapped addresses.
    pub const fn mapped(&self) -> Parsed6 {
        let (key, inner) = (FlowKey6::mapped(self.key), FlowKey6::mapped(self.inner));
        let Self { l3, l4, payload, ip_total_len, inner_l3, inner_l4, vlan, kind, .. } = *self;
        let Self { tcp_flags, ttl, tos, icmp_type, icmp_code, dont_fragment, .. } = *self;
        Parsed6 {
            key,
            inner,
            l3,
            l4,
            payload,
            ip_total_len,
            inner_l3,
            inner_l4,
            vlan,
            kind,
            tcp_flags,
            ttl,
            tos,
            icmp_type,
            icmp_code,
            dont_fragment,
        }
    }
}

impl Parsed6 {
    /// What is known of an IPv4 packet whose addresses were mapped; `None` of one of IPv6.
    pub fn unmapped(&self) -> Option<Parsed> {
        let key = self.key.unmapped()?;
        let inner = self.inner.unmapped().unwrap_or_default();
        let Self { l3, l4, payload, ip_total_len, inner_l3, inner_l4, vlan, kind, .. } = *self;
        let Self { tcp_flags, ttl, tos, icmp_type, icmp_code, dont_fragment, .. } = *self;
        Some(Parsed {
            key,
            inner,
            l3,
            l4,
            payload,
            ip_total_len,
            inner_l3,
            inner_l4,
            vlan,
            kind,
            tcp_flags,
            ttl,
            tos,
            icmp_type,
            icmp_code,
            dont_fragment,
        })
    }
}

/// Why a frame was not parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// It ends here.
    Drop(Verdict),
    /// Headers stand beyond the first segment: parse again with so many bytes of the frame in it.
    Pull(u16),
    /// It is a fragment. What is known of it is written all the same: of the first one everything, of
    /// others all but what stands above IP.
    Fragment,
    /// It is IPv6, whose parser is [`crate::parse6`]; nothing is written.
    Ipv6,
}

/// Bytes up to `needed` are not in the first segment: they are in another one, or nowhere.
#[cold]
pub(crate) fn missing(total_len: usize, needed: usize, nowhere: Verdict) -> ParseError {
    match u16::try_from(needed) {
        Ok(len) if needed <= total_len => ParseError::Pull(len),
        _ => ParseError::Drop(nowhere),
    }
}

#[cold]
pub(crate) fn dropped(verdict: Verdict) -> Result<(), ParseError> {
    Err(ParseError::Drop(verdict))
}

/// Parses a frame of `total_len` bytes, the first of which are `bytes`: IPv4 or ARP.
///
/// On success `out` is written whole; on an error it holds anything. Checksums of TCP, UDP and ICMP
/// are not looked at: a wrong one passes through and stays wrong.
///
/// # Errors
/// [`ParseError::Pull`] if headers are not in `bytes` but further on in the frame, `Fragment` and `Ipv6`
/// as they say, otherwise the verdict on what is wrong.
#[inline(always)]
pub fn parse(bytes: &[u8], total_len: usize, out: &mut Parsed) -> Result<(), ParseError> {
    let (frame, ether_type) = Frame::of(bytes, total_len)?;
    match ether_type {
        ethernet::IPV4 => frame.ipv4(out),
        ethernet::ARP => frame.arp(out),
        ethernet::IPV6 => Err(ParseError::Ipv6),
        _ => dropped(Verdict::UnknownEtherType),
    }
}

/// A frame of which L2 has been read.
///
/// It is handed on by value, and `out` is written field by field: so the optimizer keeps the one in
/// registers and stores the other once. Built up in memory and copied, parsing takes twice as long.
#[derive(Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) total_len: usize,
    pub(crate) l3: usize,
    pub(crate) vlan: u16,
}

impl<'a> Frame<'a> {
    /// Reads L2; returns the EtherType of what it carries, too.
    #[inline(always)]
    pub(crate) fn of(bytes: &'a [u8], total_len: usize) -> Result<(Self, u16), ParseError> {
        let Some(header) = Ethernet::new_checked(bytes) else {
            return Err(missing(total_len, ethernet::LEN, Verdict::Malformed));
        };
        let mut ether_type = header.ether_type();
        let mut l3 = ethernet::LEN;
        let mut vlan = 0;
        if ether_type == ethernet::VLAN {
            l3 = const { ethernet::LEN + ethernet::VLAN_LEN };
            let Some(&[vid_high, vid_low, type_high, type_low]) = chunk_at(bytes, ethernet::LEN)
            else {
                return Err(missing(total_len, l3, Verdict::Malformed));
            };
            vlan = u16::from_be_bytes([vid_high, vid_low]) & 0x0fff;
            ether_type = u16::from_be_bytes([type_high, type_low]);
        }
        Ok((Self { bytes, total_len, l3, vlan }, ether_type))
    }

    #[inline(always)]
    pub(crate) fn tcp<A: Address>(
        self,
        l4: usize,
        payload_len: usize,
        out: &mut Parsed<A>,
    ) -> Result<(), ParseError> {
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

    /// `rest_len` is how much of the datagram may be in other fragments.
    #[inline(always)]
    pub(crate) fn udp<A: Address>(
        self,
        l4: usize,
        payload_len: usize,
        rest_len: usize,
        out: &mut Parsed<A>,
    ) -> Result<(), ParseError> {
        let Some(header) = Udp::at(self.bytes, l4) else {
            return Err(self.transport_missing(l4, payload_len, udp::LEN));
        };
        let len = usize::from(header.datagram_len());
        let (sport, dport) = (header.sport(), header.dport());
        // A datagram may be shorter than its packet: UDP options live there (RFC 9868 §8).
        if len < udp::LEN || len > payload_len.wrapping_add(rest_len) || sport == 0 || dport == 0 {
            return dropped(Verdict::BadTransport);
        }
        out.kind = Kind::Udp;
        out.key.sport = sport;
        out.key.dport = dport;
        out.payload = l4.wrapping_add(udp::LEN) as u16;
        Ok(())
    }

    /// A transport header of `len` bytes that is not in the first segment.
    #[cold]
    pub(crate) fn transport_missing(self, l4: usize, payload_len: usize, len: usize) -> ParseError {
        if payload_len < len {
            return ParseError::Drop(Verdict::BadTransport);
        }
        missing(self.total_len, l4.wrapping_add(len), Verdict::BadTransport)
    }

    /// What a fragment may be at all: RFC 791 §3.2 and RFC 8200 §4.5 on lengths, RFC 1858 §3 on first
    /// ones whose TCP flags come with another.
    fn check_piece(self, piece: Piece, proto: u8, len: usize) -> Result<(), ParseError> {
        const TINY: u16 = 8;
        let whole_units = !piece.more || len.is_multiple_of(8);
        let fits = usize::from(piece.offset).wrapping_add(len) <= REST_MAX;
        if len == 0 || !whole_units || !fits || proto == TCP && piece.offset == TINY {
            return dropped(Verdict::BadFragment);
        }
        Ok(())
    }

    /// What a first fragment is, after its transport header was read: one that has not got all of it is
    /// made to be read by nobody (RFC 1858 §3, RFC 7112 §5), and an ICMP error in pieces quotes more than
    /// it may.
    fn read_of_first<A>(
        self,
        read: Result<(), ParseError>,
        out: &Parsed<A>,
    ) -> Result<(), ParseError> {
        match read {
            Err(ParseError::Drop(Verdict::BadTransport)) => dropped(Verdict::BadFragment),
            Ok(()) if matches!(out.kind, Kind::IcmpError | Kind::Ndp) => {
                dropped(Verdict::BadFragment)
            }
            Ok(()) => Err(ParseError::Fragment),
            error => error,
        }
    }
}
