//! The headers of IPv6's fragments (RFC 8200 §4.5): the fixed one and the fragment header.

use super::{Family, HEADERS_MAX, Headers};
use crate::extension::{FRAGMENT, FRAGMENT_LEN, Piece};
use crate::ipv6::{self, Ipv6};

/// Bytes of both.
const LEN: usize = ipv6::LEN.wrapping_add(FRAGMENT_LEN);

/// `None` if the fragment header is not right behind the fixed one.
pub fn read(bytes: &[u8], l3: usize) -> Option<Headers> {
    let view = Ipv6::at(bytes, l3).filter(|view| view.next_header() == FRAGMENT)?;
    let piece = Piece::at(bytes, l3.checked_add(ipv6::LEN)?)?;
    let mut later = [0; HEADERS_MAX];
    later.get_mut(..LEN)?.copy_from_slice(bytes.get(l3..l3.checked_add(LEN)?)?);
    let total_len = ipv6::LEN.checked_add(view.payload_len().into())?;
    Some(Headers { family: Family::V6, len: LEN, total_len, piece, later, later_len: LEN })
}

/// Writes what is a fragment's own into headers that are otherwise complete. `total_len` counts all of them.
pub fn finish(headers: &mut [u8], total_len: u16, piece: Piece) -> Option<()> {
    let proto = *headers.get(ipv6::LEN)?;
    Ipv6::at_mut(headers, 0)?.set_payload_len(total_len.checked_sub(ipv6::LEN as u16)?);
    piece.write(headers, ipv6::LEN, proto)
}
