//! IPv6.

use types::{FlowKey6, Verdict};

use super::{Frame, Kind, ParseError, Parsed6, REST_MAX, TCP, UDP, dropped, missing};
use crate::extension::{self, Chain, Piece};
use crate::icmpv6::{self, Icmpv6};
use crate::ipv6::{self, Ipv6};
use crate::{checksum, chunk_at, ethernet};

/// Parses a frame of `total_len` bytes, the first of which are `bytes`: IPv6.
///
/// On success `out` is written whole; on an error it holds anything. Checksums of TCP, UDP and ICMPv6
/// are not looked at: a wrong one passes through and stays wrong.
///
/// # Errors
/// As [`crate::parse`]; frames of other EtherTypes are [`Verdict::UnknownEtherType`].
#[inline(always)]
pub fn parse6(bytes: &[u8], total_len: usize, out: &mut Parsed6) -> Result<(), ParseError> {
    let (frame, ether_type) = Frame::of(bytes, total_len)?;
    if ether_type != ethernet::IPV6 {
        return dropped(Verdict::UnknownEtherType);
    }
    frame.ipv6(out)
}

impl Frame<'_> {
    #[inline(always)]
    fn ipv6(self, out: &mut Parsed6) -> Result<(), ParseError> {
        let l4 = self.l3.wrapping_add(ipv6::LEN);
        let Some(ip) = Ipv6::at(self.bytes, self.l3) else {
            return Err(missing(self.total_len, l4, Verdict::Malformed));
        };
        let first_word = ip.first_word();
        let ip_total_len = usize::from(ip.payload_len()).wrapping_add(ipv6::LEN);
        // The frame may be longer: Ethernet pads to 60 bytes. A jumbogram (RFC 2675) says 0 and has none
        // of the lengths that follow; what is longer than 65,535 with its header cannot be told here.
        if first_word >> 28 != 6
            || ip_total_len > self.total_len.saturating_sub(self.l3)
            || ip_total_len > REST_MAX
        {
            return dropped(Verdict::BadIpHeader);
        }
        let proto = ip.next_header();
        let source = ip.source();
        if ipv6::is_bad_source(source) || source == 0 && proto != icmpv6::PROTOCOL && proto != 0 {
            return dropped(Verdict::BadSource);
        }
        out.key.src = source;
        out.key.dst = ip.destination();
        out.key.sport = 0;
        out.key.dport = 0;
        out.key.zone = 0;
        out.key.proto = proto;
        out.inner = FlowKey6::default();
        out.l3 = self.l3 as u16;
        out.l4 = l4 as u16;
        out.payload = l4 as u16;
        out.ip_total_len = ip_total_len as u16;
        out.inner_l3 = 0;
        out.inner_l4 = 0;
        out.vlan = self.vlan;
        out.kind = Kind::OtherIp;
        out.tcp_flags = 0;
        out.ttl = ip.hop_limit();
        out.tos = (first_word >> 20) as u8;
        out.icmp_type = 0;
        out.icmp_code = 0;
        out.dont_fragment = true;
        let payload_len = ip_total_len.wrapping_sub(ipv6::LEN);
        match proto {
            TCP => self.tcp(l4, payload_len, out),
            UDP => self.udp6(l4, payload_len, 0, out),
            icmpv6::PROTOCOL => self.icmp6(l4, payload_len, out),
            _ => self.extended(ip_total_len, out),
        }
    }

    /// What has extension headers, or a transport that is none of ours.
    #[cold]
    #[inline(never)]
    fn extended(self, ip_total_len: usize, out: &mut Parsed6) -> Result<(), ParseError> {
        let end = self.l3.wrapping_add(ip_total_len);
        let chain = extension::walk(self.bytes, self.total_len, self.l3, end, out.key.proto)?;
        let Chain { l4, proto, fragment, authenticated } = chain;
        out.key.proto = proto;
        out.l4 = l4 as u16;
        out.payload = l4 as u16;
        if out.key.src == 0 && proto != icmpv6::PROTOCOL {
            return dropped(Verdict::BadSource);
        }
        let payload_len = end.saturating_sub(l4);
        let piece =
            fragment.and_then(|at| Piece::at(self.bytes, at)).filter(|piece| piece.is_part());
        if let Some((piece, at)) = piece.zip(fragment) {
            // What has an offset is counted from the fragment header on, not from the transport.
            let begin = at.wrapping_add(extension::FRAGMENT_LEN);
            self.check_piece(piece, proto, end.saturating_sub(begin))?;
            if piece.offset != 0 {
                out.kind = Kind::Fragment;
                return Err(ParseError::Fragment);
            }
        }
        // No rewriting of ours passes what authenticates its addresses (RFC 4302 §3.3.3.1).
        if authenticated {
            return Ok(());
        }
        let rest_len = if piece.is_some() { REST_MAX } else { 0 };
        let read = match proto {
            TCP => self.tcp(l4, payload_len, out),
            UDP => self.udp6(l4, payload_len, rest_len, out),
            icmpv6::PROTOCOL => self.icmp6(l4, payload_len, out),
            _ => Ok(()),
        };
        if piece.is_some() { self.read_of_first(read, out) } else { read }
    }

    /// RFC 8200 §8.1: there is no UDP without a checksum, but for tunnels, which end elsewhere.
    #[inline(always)]
    fn udp6(
        self,
        l4: usize,
        payload_len: usize,
        rest_len: usize,
        out: &mut Parsed6,
    ) -> Result<(), ParseError> {
        self.udp(l4, payload_len, rest_len, out)?;
        match chunk_at::<2>(self.bytes, l4.wrapping_add(6)) {
            Some(&[0, 0]) => dropped(Verdict::NoChecksum),
            _ => Ok(()),
        }
    }

    #[cold]
    #[inline(never)]
    fn icmp6(self, l4: usize, payload_len: usize, out: &mut Parsed6) -> Result<(), ParseError> {
        let Some(header) = Icmpv6::at(self.bytes, l4) else {
            return Err(self.transport_missing(l4, payload_len, icmpv6::LEN));
        };
        if payload_len < icmpv6::LEN {
            return dropped(Verdict::BadTransport);
        }
        out.icmp_type = header.icmp_type();
        out.icmp_code = header.code();
        out.payload = l4.wrapping_add(icmpv6::LEN) as u16;
        match out.icmp_type {
            icmpv6::ECHO_REQUEST | icmpv6::ECHO_REPLY => {
                out.key.sport = header.ident();
                out.key.dport = header.ident();
                out.kind = if out.icmp_type == icmpv6::ECHO_REQUEST {
                    Kind::IcmpQuery
                } else {
                    Kind::IcmpReply
                };
            }
            icmpv6::UNREACHABLE..=icmpv6::PARAMETER_PROBLEM => {
                out.kind = Kind::IcmpError;
                self.quoted6(out)?;
            }
            // Errors of a kind that nobody has defined say nothing that could be told to others.
            icmp_type if icmpv6::is_error(icmp_type) => return dropped(Verdict::BadIcmp),
            // RFC 4861 §6.1, §7.1: from another link, and so forged; in fragments never (RFC 6980).
            icmp_type if icmpv6::is_neighbour_discovery(icmp_type) => {
                if out.ttl != 255 {
                    return dropped(Verdict::BadNdp);
                }
                out.kind = Kind::Ndp;
            }
            _ => {}
        }
        // Only solicitations and what listeners say may come from nobody (RFC 4861 §4, RFC 3810 §5.2.13).
        let nobody_may = out.kind == Kind::Ndp || icmpv6::is_mld(out.icmp_type);
        if out.key.src == 0 && !nobody_may {
            return dropped(Verdict::BadSource);
        }
        Ok(())
    }

    /// The packet that an ICMPv6 error quotes: as much of it as fits (RFC 4443 §2.4 c), and for us its
    /// headers and eight bytes of its transport.
    fn quoted6(self, out: &mut Parsed6) -> Result<(), ParseError> {
        const BROKEN: ParseError = ParseError::Drop(Verdict::BadIcmp);
        let inner_l3 = usize::from(out.payload);
        let end = out.ip_end();
        let need = |needed: usize| if needed <= end { Ok(needed) } else { Err(BROKEN) };

        let needed = need(inner_l3.wrapping_add(ipv6::LEN))?;
        let ip = Ipv6::at(self.bytes, inner_l3)
            .ok_or_else(|| missing(self.total_len, needed, Verdict::BadIcmp))?;
        if ip.first_word() >> 28 != 6 {
            return Err(BROKEN);
        }
        let (mut proto, mut inner_l4) = (ip.next_header(), needed);
        if extension::is_extension(proto) {
            let chain = extension::walk(self.bytes, self.total_len, inner_l3, end, proto);
            let chain = chain.map_err(|error| match error {
                ParseError::Drop(_) => BROKEN,
                other => other,
            })?;
            let is_later = chain
                .fragment
                .and_then(|at| Piece::at(self.bytes, at))
                .is_some_and(|piece| piece.offset != 0);
            if is_later {
                return Err(BROKEN);
            }
            (proto, inner_l4) = (chain.proto, chain.l4);
        }
        let needed = need(inner_l4.wrapping_add(8))?;
        let start = chunk_at::<8>(self.bytes, inner_l4)
            .ok_or_else(|| missing(self.total_len, needed, Verdict::BadIcmp))?;
        let &[a, b, c, d, e, f, ..] = start;
        let (sport, dport) = match proto {
            TCP | UDP => (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])),
            // RFC 4443 §2.4 e: there is no error about an error.
            icmpv6::PROTOCOL if matches!(a, icmpv6::ECHO_REQUEST | icmpv6::ECHO_REPLY) => {
                (u16::from_be_bytes([e, f]), u16::from_be_bytes([e, f]))
            }
            icmpv6::PROTOCOL => return Err(BROKEN),
            _ => (0, 0),
        };
        let quoted =
            FlowKey6 { src: ip.source(), dst: ip.destination(), sport, dport, zone: 0, proto };
        out.inner = quoted.reversed();
        out.inner_l3 = inner_l3 as u16;
        out.inner_l4 = inner_l4 as u16;
        Ok(())
    }
}

/// Checks the checksum of a parsed ICMPv6 message, all of it (RFC 4443 §2.3).
///
/// # Errors
/// [`ParseError::Pull`] if the message is not wholly in `bytes`, the verdict `BadIcmp` if the
/// checksum is wrong.
pub fn verify_icmp6(bytes: &[u8], parsed: &Parsed6) -> Result<(), ParseError> {
    let end = parsed.ip_end();
    let Some(message) = bytes.get(usize::from(parsed.l4)..end) else {
        return Err(missing(end, end, Verdict::BadIcmp));
    };
    let pseudo = checksum::pseudo_header_v6(
        parsed.key.src,
        parsed.key.dst,
        icmpv6::PROTOCOL,
        message.len() as u32,
    );
    if checksum::add(pseudo, checksum::sum(message)) == 0xffff {
        Ok(())
    } else {
        dropped(Verdict::BadIcmp)
    }
}
