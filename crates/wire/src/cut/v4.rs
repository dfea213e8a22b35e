//! The headers of IPv4's fragments (RFC 791 §3.2).

use super::{Family, HEADERS_MAX, Headers};
use crate::checksum;
use crate::extension::Piece;
use crate::ipv4::{self, Ipv4, MORE_FRAGMENTS};

/// Options: the end of all, padding, and what goes into every fragment (RFC 791 §3.1).
const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
const COPIED: u8 = 0x80;

/// `None` if the packet may not be fragmented or its header is broken.
pub fn read(bytes: &[u8], l3: usize) -> Option<Headers> {
    let view = Ipv4::at(bytes, l3)?;
    let len = view.header_len();
    let options = bytes.get(l3.checked_add(ipv4::LEN)?..l3.checked_add(len)?)?;
    let mut later = [0; HEADERS_MAX];
    let later_len = write_header(&mut later, view.as_bytes(), options)?;
    let (total_len, piece) = (view.total_len().into(), Piece::of_ipv4(view));
    let may = view.fragment() & ipv4::DONT_FRAGMENT == 0;
    may.then_some(Headers { family: Family::V4, len, total_len, piece, later, later_len })
}

/// Writes what is a fragment's own into a header that is otherwise complete.
pub fn finish(header: &mut [u8], total_len: u16, piece: Piece) -> Option<()> {
    let mut view = Ipv4::at_mut(header, 0)?;
    view.set_total_len(total_len);
    view.set_fragment(field(piece));
    view.set_checksum(0);
    let sum = checksum::checksum(header);
    Ipv4::at_mut(header, 0)?.set_checksum(sum);
    Some(())
}

/// The same in a header whose checksum is to change by the difference.
pub fn shorten(header: &mut [u8], total_len: u16, piece: Piece) -> Option<()> {
    let mut view = Ipv4::at_mut(header, 0)?;
    let fragment = view.fragment() | field(piece);
    let len = checksum::delta_u16(view.total_len(), total_len);
    let delta = checksum::add(len, checksum::delta_u16(view.fragment(), fragment));
    view.set_total_len(total_len);
    view.set_fragment(fragment);
    view.adjust_checksum(delta);
    Some(())
}

fn field(piece: Piece) -> u16 {
    piece.offset >> 3 | if piece.more { MORE_FRAGMENTS } else { 0 }
}

/// Writes the header of later fragments: with those options only that are to be copied, and their length
/// made whole words. Returns its length.
fn write_header(
    into: &mut [u8; HEADERS_MAX],
    fixed: &[u8; ipv4::LEN],
    mut options: &[u8],
) -> Option<usize> {
    into.get_mut(..ipv4::LEN)?.copy_from_slice(fixed);
    let mut len = ipv4::LEN;
    while let [kind, rest @ ..] = options {
        match *kind {
            END_OF_OPTIONS => break,
            NO_OPERATION => options = rest,
            kind => {
                let option = options.get(..usize::from(*rest.first()?).max(2))?;
                options = options.get(option.len()..)?;
                if kind & COPIED != 0 {
                    let end = len.checked_add(option.len())?;
                    into.get_mut(len..end)?.copy_from_slice(option);
                    len = end;
                }
            }
        }
    }
    // What is left over of the last word is END_OF_OPTIONS already.
    let len = len.next_multiple_of(4);
    Ipv4::at_mut(into, 0)?.set_version_ihl(0x40 | (len >> 2) as u8);
    Some(len)
}
