//! The chain of extension headers between an IPv6 header and the transport (RFC 8200 §4).

use types::Verdict;

use crate::ipv4::{self, Ipv4};
use crate::ipv6;
use crate::parse::{ParseError, missing};
use crate::view::chunk_at;

/// Next header: hop-by-hop options.
pub const HOP_BY_HOP: u8 = 0;
/// Next header: routing.
pub const ROUTING: u8 = 43;
/// Next header: fragment.
pub const FRAGMENT: u8 = 44;
/// Next header: encapsulated security payload, behind which nothing can be read.
pub const ESP: u8 = 50;
/// Next header: authentication (RFC 4302).
pub const AUTHENTICATION: u8 = 51;
/// Next header: there is none.
pub const NO_NEXT_HEADER: u8 = 59;
/// Next header: destination options.
pub const DESTINATION_OPTIONS: u8 = 60;

/// Extension headers of a packet, at most: RFC 8200 §4.1 names six that may stand before the transport,
/// two of one kind among them. More are nobody's but an attacker's (RFC 9098 §7.1).
pub const HEADERS_MAX: usize = 8;
/// Bytes of all extension headers of a packet, at most: what is longer has to be copied together on the
/// path, and hosts that drop long chains are common (RFC 7872).
pub const BYTES_MAX: usize = 512;

/// Length of a fragment header in bytes.
pub const FRAGMENT_LEN: usize = 8;

/// Length of the fixed part of an authentication header in bytes (RFC 4302 §2).
const AUTHENTICATION_LEN: usize = 12;

/// What a chain comes to. Offsets are in bytes from the start of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The header behind the last extension header.
    pub l4: usize,
    /// IANA number of that header. Of a fragment but the first it is what its first one begins with.
    pub proto: u8,
    /// The fragment header, if there is one.
    pub fragment: Option<usize>,
    /// There is an authentication header: it covers the addresses, so that no translation passes it.
    pub authenticated: bool,
}

/// What a fragment's header says, in either family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Piece {
    /// Identification: 16 bits of IPv4, 32 of IPv6.
    pub ident: u32,
    /// Where in the packet it belongs, in bytes; a multiple of 8.
    pub offset: u16,
    /// Others follow.
    pub more: bool,
}

impl Piece {
    /// Reads an IPv6 fragment header; `None` if it is not wholly in `bytes`.
    #[inline]
    pub fn at(bytes: &[u8], offset: usize) -> Option<Self> {
        let &[_, _, high, low, a, b, c, d] = chunk_at::<FRAGMENT_LEN>(bytes, offset)?;
        let field = u16::from_be_bytes([high, low]);
        let ident = u32::from_be_bytes([a, b, c, d]);
        Some(Self { ident, offset: field & !7, more: field & 1 != 0 })
    }

    /// Reads an IPv4 header.
    #[inline]
    pub fn of_ipv4<B: std::ops::Deref<Target = [u8; ipv4::LEN]>>(header: Ipv4<B>) -> Self {
        let field = header.fragment();
        Self {
            ident: header.ident().into(),
            offset: (field & ipv4::FRAGMENT_OFFSET) << 3,
            more: field & ipv4::MORE_FRAGMENTS != 0,
        }
    }

    /// True for what is not the whole packet. A header that says it is (RFC 6946) counts for nothing.
    pub const fn is_part(self) -> bool {
        self.more || self.offset != 0
    }

    /// Writes an IPv6 fragment header; `None` if it does not fit.
    pub fn write(&self, bytes: &mut [u8], offset: usize, next_header: u8) -> Option<()> {
        let [high, low] = (self.offset & !7 | u16::from(self.more)).to_be_bytes();
        let [a, b, c, d] = self.ident.to_be_bytes();
        *crate::chunk_at_mut(bytes, offset)? = [next_header, 0, high, low, a, b, c, d];
        Some(())
    }
}

/// Walks the chain of a packet whose headers are wholly in `bytes`: it begins behind the IPv6 header at `l3`
/// with a header of kind `first` and has to end before `end`.
///
/// # Errors
/// [`Verdict::BadExtension`] and [`Verdict::SourceRouted`], as the parser says them.
pub fn chain(bytes: &[u8], l3: usize, end: usize, first: u8) -> Result<Chain, Verdict> {
    walk(bytes, bytes.len(), l3, end, first).map_err(|error| match error {
        ParseError::Drop(verdict) => verdict,
        _ => Verdict::BadExtension,
    })
}

/// Walks the chain of a packet of `total_len` bytes that begins behind the IPv6 header at `l3` with a
/// header of kind `first` and has to end before `end`.
///
/// # Errors
/// [`ParseError::Pull`] if it goes on beyond `bytes`. [`Verdict::BadExtension`] if a header or an option
/// overruns, stands where it may not, or there are more than [`HEADERS_MAX`] or [`BYTES_MAX`];
/// [`Verdict::SourceRouted`] if a routing header has segments left (RFC 5095, RFC 8200 §4.4).
#[cold]
#[inline(never)]
pub(crate) fn walk(
    bytes: &[u8],
    total_len: usize,
    l3: usize,
    end: usize,
    first: u8,
) -> Result<Chain, ParseError> {
    const BROKEN: ParseError = ParseError::Drop(Verdict::BadExtension);
    let begin = l3.wrapping_add(ipv6::LEN);
    let mut chain = Chain { l4: begin, proto: first, fragment: None, authenticated: false };
    for _ in 0..=HEADERS_MAX {
        if !is_extension(chain.proto) {
            return Ok(chain);
        }
        let at = chain.l4;
        let fixed = at.wrapping_add(8);
        if fixed > end {
            return Err(BROKEN);
        }
        let head = chunk_at::<8>(bytes, at)
            .ok_or_else(|| missing(total_len, fixed, Verdict::BadExtension))?;
        let next = at.wrapping_add(header_len(chain.proto, head));
        if next > end || next.wrapping_sub(begin) > BYTES_MAX {
            return Err(BROKEN);
        }
        let header =
            bytes.get(at..next).ok_or_else(|| missing(total_len, next, Verdict::BadExtension))?;
        match chain.proto {
            // RFC 8200 §4.1: right behind the IPv6 header or nowhere.
            HOP_BY_HOP if at != begin => return Err(BROKEN),
            HOP_BY_HOP | DESTINATION_OPTIONS => check_options(header)?,
            ROUTING if head[3] != 0 => return Err(ParseError::Drop(Verdict::SourceRouted)),
            FRAGMENT if chain.fragment.is_some() => return Err(BROKEN),
            FRAGMENT => chain.fragment = Some(at),
            AUTHENTICATION if header.len() < AUTHENTICATION_LEN => return Err(BROKEN),
            AUTHENTICATION => chain.authenticated = true,
            _ => {}
        }
        (chain.proto, chain.l4) = (head[0], next);
        if chain.fragment == Some(at) && Piece::at(bytes, at).is_some_and(|piece| piece.offset != 0)
        {
            // No header follows but a piece of what another fragment begins.
            return Ok(chain);
        }
    }
    Err(BROKEN)
}

/// True for the headers that [`walk`] goes past.
#[inline(always)]
pub const fn is_extension(next_header: u8) -> bool {
    matches!(next_header, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS)
}

/// Length of an extension header in bytes, as its second byte says.
pub const fn header_len(kind: u8, head: &[u8; 8]) -> usize {
    let units = head[1] as usize;
    match kind {
        FRAGMENT => FRAGMENT_LEN,
        // RFC 4302 §2.2: in words, less two.
        AUTHENTICATION => units.wrapping_add(2).wrapping_mul(4),
        _ => units.wrapping_add(1).wrapping_mul(8),
    }
}

/// Every option of a header of options ends within it (RFC 8200 §4.2).
fn check_options(header: &[u8]) -> Result<(), ParseError> {
    const PAD1: u8 = 0;
    let mut options = header.get(2..).unwrap_or(&[]);
    // Each turn takes a byte or more of at most `BYTES_MAX`.
    while let Some((&kind, rest)) = options.split_first() {
        options = if kind == PAD1 {
            rest
        } else {
            rest.split_first()
                .and_then(|(&len, data)| data.get(usize::from(len)..))
                .ok_or(ParseError::Drop(Verdict::BadExtension))?
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fragment_header_round_trips() {
        let piece = Piece { ident: 0x0102_0304, offset: 1232, more: true };
        let mut bytes = [0xa5; 10];
        piece.write(&mut bytes, 1, 17).unwrap();
        assert_eq!(Piece::at(&bytes, 1), Some(piece));
        assert_eq!((bytes[0], bytes[1], bytes[9]), (0xa5, 17, 0xa5));
        assert_eq!(piece.write(&mut bytes, 3, 17), None);
        assert_eq!(Piece::at(&bytes, 3), None);
        assert!(piece.is_part() && !Piece::default().is_part());
    }
}
