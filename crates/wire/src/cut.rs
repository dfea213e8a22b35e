//! Cuts an IPv4 packet into fragments (RFC 791 §3.2).

use std::ops::Range;

use types::{Packet, Verdict};

use crate::checksum;
use crate::ipv4::{self, FRAGMENT_OFFSET, Ipv4, MORE_FRAGMENTS};

/// Bytes of an IPv4 header, at most: fifteen words.
const HEADER_MAX: usize = 60;
/// Options: the end of all, padding, and what goes into every fragment (RFC 791 §3.1).
const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
const COPIED: u8 = 0x80;

/// How a packet is cut: its own buffer keeps the first fragment, the later ones need buffers of their own.
///
/// A fragment is cut as a whole packet is. All have the packet's identification, as RFC 791 asks: it is the
/// sender that makes it unique (RFC 6864 §4.3).
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    l3: usize,
    header_len: usize,
    total_len: u16,
    /// Flags and offset of the packet.
    fragment: u16,
    /// The later ones' header with their options, but for length, offset and checksum.
    header: [u8; HEADER_MAX],
    later_header_len: usize,
    /// Bytes behind the header: of the first fragment, and of each later one but the last.
    first: usize,
    step: usize,
}

impl Cut {
    /// The cuts of the packet at `l3` of a frame, whose IPv4 header is wholly in `bytes`, into fragments of
    /// `mtu` bytes at most. `None` if the packet may not be fragmented, the header is broken, or the
    /// fragments would have no room for data.
    pub fn new(bytes: &[u8], l3: usize, mtu: u16) -> Option<Self> {
        let view = Ipv4::at(bytes, l3)?;
        let (header_len, total_len, fragment) =
            (view.header_len(), view.total_len(), view.fragment());
        let options = bytes.get(l3.checked_add(ipv4::LEN)?..l3.checked_add(header_len)?)?;
        let mut header = [0; HEADER_MAX];
        let later_header_len = write_header(&mut header, view.as_bytes(), options)?;
        let units = |header_len: usize| usize::from(mtu).saturating_sub(header_len) & !7;
        let cut = Self {
            l3,
            header_len,
            total_len,
            fragment,
            header,
            later_header_len,
            first: units(header_len),
            step: units(later_header_len),
        };
        let offset = usize::from(fragment & FRAGMENT_OFFSET) << 3;
        let fits = offset.checked_add(cut.data_len())? <= usize::from(u16::MAX);
        (cut.first > 0 && fits && fragment & ipv4::DONT_FRAGMENT == 0).then_some(cut)
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
        let headers_len = self.l3.wrapping_add(self.later_header_len);
        if !into.append(headers_len.wrapping_add(data.len())) {
            return Err(Verdict::NoRoom);
        }
        let (headers, body) =
            into.bytes_mut().split_at_mut_checked(headers_len).ok_or(Verdict::Internal)?;
        let (before, header) = headers.split_at_mut_checked(self.l3).ok_or(Verdict::Internal)?;
        before.copy_from_slice(from.bytes().get(..self.l3).ok_or(Verdict::Internal)?);
        header.copy_from_slice(self.header.get(..header.len()).ok_or(Verdict::Internal)?);
        let last = data.end == self.data_len();
        let more = if last { self.fragment & MORE_FRAGMENTS } else { MORE_FRAGMENTS };
        let offset = (self.fragment & FRAGMENT_OFFSET).wrapping_add((data.start >> 3) as u16);
        let mut view = Ipv4::at_mut(header, 0).ok_or(Verdict::Internal)?;
        view.set_total_len(self.later_header_len.wrapping_add(data.len()) as u16);
        view.set_fragment(offset | more);
        view.set_checksum(0);
        let sum = checksum::checksum(header);
        Ipv4::at_mut(header, 0).ok_or(Verdict::Internal)?.set_checksum(sum);
        let start = self.l3.wrapping_add(self.header_len);
        let range = start.wrapping_add(data.start)..start.wrapping_add(data.end);
        if copy(from, range, body) { Ok(()) } else { Err(Verdict::Internal) }
    }

    /// Makes the packet the first one of its fragments.
    pub fn shorten<P: Packet>(&self, packet: &mut P) {
        let Some(mut view) = Ipv4::at_mut(packet.bytes_mut(), self.l3) else { return };
        let total_len = self.header_len.wrapping_add(self.first.min(self.data_len()));
        let more = if self.later() > 0 { MORE_FRAGMENTS } else { 0 };
        let fragment = self.fragment | more;
        let len = checksum::delta_u16(self.total_len, total_len as u16);
        let delta = checksum::add(len, checksum::delta_u16(self.fragment, fragment));
        view.set_total_len(total_len as u16);
        view.set_fragment(fragment);
        view.adjust_checksum(delta);
        packet.truncate(self.l3.wrapping_add(total_len));
    }

    /// Bytes behind the packet's header.
    fn data_len(&self) -> usize {
        usize::from(self.total_len).saturating_sub(self.header_len)
    }

    /// What a later fragment has of the data.
    fn data_of(&self, later: usize) -> Option<Range<usize>> {
        let start = self.first.checked_add(self.step.checked_mul(later)?)?;
        let end = start.checked_add(self.step)?.min(self.data_len());
        (start < end).then_some(start..end)
    }
}

/// Writes the header of later fragments: with those options only that are to be copied, and their length
/// made whole words. Returns its length.
fn write_header(
    into: &mut [u8; HEADER_MAX],
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
