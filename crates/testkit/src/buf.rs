//! A packet in a plain buffer.

use std::fmt;
use std::ops::Deref;

use types::Packet;
use wire::{ParseError, Parsed, Parsed6};

/// Bytes before a new frame, as an mbuf has them.
const HEADROOM: usize = 128;
/// Bytes behind a new frame.
const TAILROOM: usize = 512;

/// A frame with headroom and tailroom, as one segment or as if it were several.
///
/// It is one buffer in truth; of a frame of several segments [`Packet::bytes`] shows only the first.
/// It dereferences to the *whole* frame, so that tests may look at it and write into it.
#[derive(Clone, PartialEq, Eq)]
pub struct Buf {
    memory: Vec<u8>,
    start: usize,
    len: usize,
    first_len: usize,
    rss_hash: Option<u32>,
    l4_checksum_unfinished: bool,
    tag: Option<u16>,
    tag_for_nic: Option<u16>,
}

impl Buf {
    /// A frame of one segment.
    pub fn new(frame: &[u8]) -> Self {
        Self::with_room(frame, HEADROOM, TAILROOM)
    }

    /// A frame of one segment with so many bytes before and behind it.
    pub fn with_room(frame: &[u8], headroom: usize, tailroom: usize) -> Self {
        // 0xa5 and not 0, so that a byte that nobody wrote is seen.
        let mut memory = vec![0xa5; headroom + frame.len() + tailroom];
        memory[headroom..][..frame.len()].copy_from_slice(frame);
        let len = frame.len();
        Self {
            memory,
            start: headroom,
            len,
            first_len: len,
            rss_hash: None,
            l4_checksum_unfinished: false,
            tag: None,
            tag_for_nic: None,
        }
    }

    /// The same frame in several segments, the first of which has `first_len` bytes.
    #[must_use]
    pub fn segmented(mut self, first_len: usize) -> Self {
        self.first_len = first_len.min(self.len);
        self
    }

    /// The same frame with a hash of the NIC's.
    #[must_use]
    pub fn with_rss_hash(mut self, hash: u32) -> Self {
        self.rss_hash = Some(hash);
        self
    }

    /// The same frame as a NIC gives it that has taken a tag out of it.
    #[must_use]
    pub fn with_tag(mut self, tci: u16) -> Self {
        self.tag = Some(tci);
        self
    }

    /// The tag that the NIC is to put into the frame, if it is to.
    pub fn tag_for_nic(&self) -> Option<u16> {
        self.tag_for_nic
    }

    /// The same frame, its transport checksum left to the interface: it is that of the pseudo header.
    ///
    /// Panics if it is neither TCP nor UDP.
    #[must_use]
    pub fn with_unfinished_checksum(mut self) -> Self {
        let is_v6 = self.frame().get(12..14) == Some(&[0x86, 0xdd]);
        let (kind, l4, sum) = if is_v6 {
            let parsed = self.clone().parsed6();
            let length = parsed.ip_end() - usize::from(parsed.l4);
            let key = parsed.key;
            let sum = wire::checksum::pseudo_header_v6(key.src, key.dst, key.proto, length as u32);
            (parsed.kind, parsed.l4, sum)
        } else {
            let parsed = self.clone().parsed();
            let length = parsed.ip_end() - usize::from(parsed.l4);
            let key = parsed.key;
            let sum = wire::checksum::pseudo_header(key.src, key.dst, key.proto, length as u16);
            (parsed.kind, parsed.l4, sum)
        };
        let field = usize::from(l4)
            + match kind {
                wire::Kind::Tcp => 16,
                wire::Kind::Udp => 6,
                other => panic!("{other:?} has no checksum to be left"),
            };
        self.frame_mut()[field..][..2].copy_from_slice(&sum.to_be_bytes());
        self.l4_checksum_unfinished = true;
        self
    }

    /// True if the frame is in several segments.
    pub fn is_segmented(&self) -> bool {
        self.first_len < self.len
    }

    /// Free bytes before the frame.
    pub fn headroom(&self) -> usize {
        self.start
    }

    /// Free bytes behind the frame.
    pub fn tailroom(&self) -> usize {
        self.memory.len() - self.start - self.len
    }

    /// The whole frame, over all segments.
    pub fn frame(&self) -> &[u8] {
        &self.memory[self.start..][..self.len]
    }

    /// The whole frame, writable.
    pub fn frame_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..][..self.len]
    }

    /// What `wire::parse` says of the frame, pulling as the path does. Panics if it is refused.
    pub fn parsed(&mut self) -> Parsed {
        self.pulling(wire::parse).unwrap_or_else(|error| panic!("{error:?}: {self:?}"))
    }

    /// What `wire::parse6` says of the frame, pulling as the path does. Panics if it is refused.
    pub fn parsed6(&mut self) -> Parsed6 {
        self.pulling(wire::parse6).unwrap_or_else(|error| panic!("{error:?}: {self:?}"))
    }

    /// The same of a fragment. Panics if it is none.
    pub fn parsed_fragment(&mut self) -> Parsed {
        let mut parsed = Parsed::default();
        match self.pulling_into(wire::parse, &mut parsed) {
            Err(ParseError::Fragment) => parsed,
            other => panic!("no fragment but {other:?}: {self:?}"),
        }
    }

    /// The same of an IPv6 fragment. Panics if it is none.
    pub fn parsed_fragment6(&mut self) -> Parsed6 {
        let mut parsed = Parsed6::default();
        match self.pulling_into(wire::parse6, &mut parsed) {
            Err(ParseError::Fragment) => parsed,
            other => panic!("no fragment but {other:?}: {self:?}"),
        }
    }

    fn pulling<T: Default>(
        &mut self,
        parse: impl Fn(&[u8], usize, &mut T) -> Result<(), ParseError>,
    ) -> Result<T, ParseError> {
        let mut parsed = T::default();
        self.pulling_into(parse, &mut parsed).map(|()| parsed)
    }

    fn pulling_into<T>(
        &mut self,
        parse: impl Fn(&[u8], usize, &mut T) -> Result<(), ParseError>,
        parsed: &mut T,
    ) -> Result<(), ParseError> {
        loop {
            match parse(self.bytes(), self.total_len(), parsed) {
                Err(ParseError::Pull(len)) => assert!(self.pull(len.into()), "pull {len}"),
                other => return other,
            }
        }
    }
}

impl Packet for Buf {
    fn bytes(&self) -> &[u8] {
        &self.memory[self.start..][..self.first_len]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..][..self.first_len]
    }

    fn total_len(&self) -> usize {
        self.len
    }

    fn pull(&mut self, len: usize) -> bool {
        if len > self.len {
            return false;
        }
        self.first_len = self.first_len.max(len);
        true
    }

    fn prepend(&mut self, len: usize) -> bool {
        let Some(start) = self.start.checked_sub(len) else { return false };
        self.memory[start..self.start].fill(0xa5);
        self.start = start;
        self.len += len;
        self.first_len += len;
        true
    }

    fn trim(&mut self, len: usize) -> bool {
        if len > self.first_len {
            return false;
        }
        self.start += len;
        self.len -= len;
        self.first_len -= len;
        true
    }

    fn append(&mut self, len: usize) -> bool {
        if self.is_segmented() || len > self.tailroom() {
            return false;
        }
        let end = self.start + self.len;
        self.memory[end..][..len].fill(0xa5);
        self.len += len;
        self.first_len += len;
        true
    }

    fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        self.first_len = self.first_len.min(len);
    }

    fn rss_hash(&self) -> Option<u32> {
        self.rss_hash
    }

    fn l4_checksum_unfinished(&self) -> bool {
        self.l4_checksum_unfinished
    }

    fn tag(&self) -> Option<u16> {
        self.tag
    }

    fn note_tag(&mut self, tci: u16) {
        self.tag = Some(tci);
    }

    fn leave_tag_to_nic(&mut self, tci: u16) {
        self.tag_for_nic = Some(tci);
    }

    fn visit_segments(&self, mut visit: impl FnMut(&[u8])) {
        let (first, rest) = self.frame().split_at(self.first_len);
        visit(first);
        visit(rest);
    }
}

impl Deref for Buf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.frame()
    }
}

impl AsRef<[u8]> for Buf {
    fn as_ref(&self) -> &[u8] {
        self.frame()
    }
}

impl From<&[u8]> for Buf {
    fn from(frame: &[u8]) -> Self {
        Self::new(frame)
    }
}

impl fmt::Debug for Buf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buf({} bytes", self.len)?;
        if self.is_segmented() {
            write!(f, ", {} in the first segment", self.first_len)?;
        }
        f.write_str(")")?;
        for (line, bytes) in self.frame().chunks(16).enumerate() {
            write!(f, "\n  {:04x}:", line * 16)?;
            for byte in bytes {
                write!(f, " {byte:02x}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_move_and_refuse() {
        let mut buf = Buf::with_room(&[1, 2, 3, 4], 2, 1);
        assert!(buf.prepend(2) && !buf.prepend(1));
        assert_eq!(buf.frame(), [0xa5, 0xa5, 1, 2, 3, 4]);
        assert!(buf.trim(3) && !buf.trim(4));
        assert!(buf.append(1) && !buf.append(1));
        assert_eq!(buf.frame(), [2, 3, 4, 0xa5]);
        buf.truncate(9);
        buf.truncate(2);
        assert_eq!((buf.frame(), buf.total_len()), (&[2, 3][..], 2));
        assert_eq!((buf.headroom(), buf.tailroom()), (3, 2));
    }

    #[test]
    fn several_segments_show_the_first() {
        let mut buf = Buf::new(&[1, 2, 3, 4]).segmented(2);
        assert_eq!((buf.bytes(), buf.total_len()), (&[1, 2][..], 4));
        assert!(!buf.trim(3), "beyond the first segment");
        assert!(!buf.append(1), "not the last segment");
        assert!(buf.prepend(1));
        assert!(!buf.pull(6));
        assert!(buf.pull(4));
        assert_eq!(buf.bytes(), [0xa5, 1, 2, 3]);
        buf.truncate(3);
        assert!(!buf.is_segmented() && buf.append(1));
        assert_eq!(buf.with_rss_hash(7).rss_hash(), Some(7));
    }
}
