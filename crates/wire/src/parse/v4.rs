//! IPv4 and ARP.

use types::{FlowKey, Verdict};

use super::{Frame, Kind, ParseError, Parsed, REST_MAX, TCP, UDP, dropped, missing};
use crate::extension::Piece;
use crate::icmpv4::{self, Icmpv4};
use crate::ipv4::{self, Ipv4};
use crate::{Arp, arp, checksum, chunk_at};

const ICMP: u8 = 1;

/// Version 4 and a header of five words: no options.
const PLAIN_IPV4: u8 = 0x45;

impl Frame<'_> {
    #[inline(always)]
    pub(super) fn ipv4(self, out: &mut Parsed) -> Result<(), ParseError> {
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
        if fragment & (ipv4::MORE_FRAGMENTS | ipv4::FRAGMENT_OFFSET) != 0 {
            return self.fragment4(Piece::of_ipv4(ip), l4, payload_len, out);
        }
        match proto {
            TCP => self.tcp(l4, payload_len, out),
            UDP => self.udp(l4, payload_len, 0, out),
            ICMP => self.icmp4(l4, payload_len, out),
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

    /// A fragment: of the first one as much is read as of a whole packet.
    #[cold]
    #[inline(never)]
    fn fragment4(
        self,
        piece: Piece,
        l4: usize,
        payload_len: usize,
        out: &mut Parsed,
    ) -> Result<(), ParseError> {
        let proto = out.key.proto;
        self.check_piece(piece, proto, payload_len)?;
        if piece.offset != 0 {
            out.kind = Kind::Fragment;
            return Err(ParseError::Fragment);
        }
        let read = match proto {
            TCP => self.tcp(l4, payload_len, out),
            UDP => self.udp(l4, payload_len, REST_MAX, out),
            ICMP => self.icmp4(l4, payload_len, out),
            _ => Ok(()),
        };
        self.read_of_first(read, out)
    }

    #[cold]
    #[inline(never)]
    fn icmp4(self, l4: usize, payload_len: usize, out: &mut Parsed) -> Result<(), ParseError> {
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

    #[cold]
    #[inline(never)]
    pub(super) fn arp(self, out: &mut Parsed) -> Result<(), ParseError> {
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
