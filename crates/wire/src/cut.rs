//! Cuts a packet into fragments (RFC 791 §3.2, RFC 8200 §4.5).

use std::ops::Range;

use types::{Packet, Verdict};

use crate::extension::Piece;

mod v4;
mod v6;

/// Bytes of the headers that all fragments have, at most: fifteen words of IPv4. Those of IPv6 are 48.
const HEADERS_MAX: usize = 60;

/// What a family says of a packet that may be cut.
#[derive(Clone, Copy, Debug)]
struct Headers {
    family: Family,
    /// The packet's own, which its first fragment keeps, in bytes.
    len: usize,
    /// The packet with them.
    total_len: usize,
    /// What the packet is a fragment of, if it is one.
    piece: Piece,
    /// Those of the later ones, but for length, offset and checksum.
    later: [u8; HEADERS_MAX],
    later_len: usize,
}

#[derive(Clone, Copy, Debug)]
enum Family {
    V4,
    V6,
}

/// How a packet is cut: its own buffer keeps the first fragment, the later ones need buffers of their own.
///
/// A fragment is cut as a whole packet is. All have the packet's identification, as RFC 791 asks: it is the
/// sender that makes it unique (RFC 6864 §4.3).
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    l3: usize,
    headers: Headers,
    /// Bytes behind the headers: of the first fragment, and of each later one but the last.
    first: usize,
    step: usize,
}

impl Cut {
    /// The cuts of the packet at `l3` of a frame, whose headers are wholly in `bytes`, into fragments of
    /// `mtu` bytes at most. `None` if the packet may not be fragmented, a header is broken, or the
    /// fragments would have no room for data.
    ///
    /// IPv6 is fragmented by its sender only: such a packet has a fragment header right behind the fixed one.
    pub fn new(bytes: &[u8], l3: usize, mtu: u16) -> Option<Self> {
        let headers = match bytes.get(l3)? >> 4 {
            6 => v6::read(bytes, l3)?,
            _ => v4::read(bytes, l3)?,
        };
        let units = |len: usize| usize::from(mtu).saturating_sub(len) & !7;
        let (first, step) = (units(headers.len), units(headers.later_len));
        let cut = Self { l3, headers, first, step };
        let end = usize::from(headers.piece.offset).checked_add(cut.data_len())?;
        (first > 0 && end <= usize::from(u16::MAX)).then_some(cut)
    }

    /// How many fragments follow the first one.
    pub fn later(&self) -> usize {
        self.data_len().saturating_sub(self.first).div_ceil(self.step)
    }

    /// Writes a later fragment, counted from 0, with the bytes that stand before the IP header in `from`,
    /// the whole packet, to the end of `into`, which is empty.
    ///
    /// # Errors
    /// [`Verdict::NoRoom`] if it does not fit into `into`; [`Verdict::Internal`] if `from` is not the packet
    /// that was given to [`Cut::new`], or has no such fragment.
    pub fn write<P: Packet>(&self, from: &P, later: usize, into: &mut P) -> Result<(), Verdict> {
        let data = self.data_of(later).ok_or(Verdict::Internal)?;
        let Headers { len, later_len, .. } = self.headers;
        let headers_len = self.l3.wrapping_add(later_len);
        if !into.append(headers_len.wrapping_add(data.len())) {
            return Err(Verdict::NoRoom);
        }
        let (headers, body) =
            into.bytes_mut().split_at_mut_checked(headers_len).ok_or(Verdict::Internal)?;
        let (before, header) = headers.split_at_mut_checked(self.l3).ok_or(Verdict::Internal)?;
        before.copy_from_slice(from.bytes().get(..self.l3).ok_or(Verdict::Internal)?);
        self.write_headers(header, &data).ok_or(Verdict::Internal)?;
        let start = self.l3.wrapping_add(len);
        let range = start.wrapping_add(data.start)..start.wrapping_add(data.end);
        if copy(from, range, body) { Ok(()) } else { Err(Verdict::Internal) }
    }

    /// Writes the headers of the fragment that has such a part of the data.
    fn write_headers(&self, into: &mut [u8], data: &Range<usize>) -> Option<()> {
        let Headers { family, piece, later, later_len, .. } = &self.headers;
        into.copy_from_slice(later.get(..into.len())?);
        let piece = Piece {
            offset: piece.offset.wrapping_add(data.start as u16),
            more: piece.more || data.end != self.data_len(),
            ..*piece
        };
        let total_len = later_len.wrapping_add(data.len()) as u16;
        match family {
            Family::V4 => v4::finish(into, total_len, piece),
            Family::V6 => v6::finish(into, total_len, piece),
        }
    }

    /// Makes the packet the first one of its fragments.
    pub fn shorten<P: Packet>(&self, packet: &mut P) {
        let Headers { family, len, piece, .. } = self.headers;
        let total_len = len.wrapping_add(self.first.min(self.data_len()));
        let piece = Piece { more: piece.more || self.later() > 0, ..piece };
        let Some(header) = packet.bytes_mut().get_mut(self.l3..) else { return };
        let shortened = match family {
            Family::V4 => v4::shorten(header, total_len as u16, piece),
            Family::V6 => v6::finish(header, total_len as u16, piece),
        };
        if shortened.is_some() {
            packet.truncate(self.l3.wrapping_add(total_len));
        }
    }

    /// Bytes behind the packet's headers.
    fn data_len(&self) -> usize {
        self.headers.total_len.saturating_sub(self.headers.len)
    }

    /// What a later fragment has of the data.
    fn data_of(&self, later: usize) -> Option<Range<usize>> {
        let start = self.first.checked_add(self.step.checked_mul(later)?)?;
        let end = start.checked_add(self.step)?.min(self.data_len());
        (start < end).then_some(start..end)
    }
}

/// Copies a range of the frame, over all of its segments; false if it is not there.
fn copy<P: Packet>(from: &P, range: Range<usize>, mut into: &mut [u8]) -> bool {
    let mut at = 0_usize;
    from.visit_segments(|bytes| {
        let next = at.saturating_add(bytes.len());
        let first = range.start.clamp(at, next).saturating_sub(at);
        let last = range.end.clamp(at, next).saturating_sub(at);
        let here = bytes.get(first..last).unwrap_or_default();
        let len = here.len();
        if let Some((place, rest)) = std::mem::take(&mut into).split_at_mut_checked(len) {
            place.copy_from_slice(here);
            into = rest;
        }
        at = next;
    });
    into.is_empty()
}
