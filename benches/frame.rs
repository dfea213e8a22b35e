//! Packets in memory that is used again and again, and interfaces that pass them on.

use types::{Io, Packet};

/// Bytes before a new frame, as an mbuf has them.
const HEADROOM: usize = 128;
/// Bytes of a frame and of the room behind it.
const ROOM: usize = 256;
/// Packets that an interface gives at once.
pub const BURST: usize = 32;

/// A frame; one pointer, as an mbuf is.
pub struct Frame(Box<Memory>);

/// The descriptor in a line of its own, then the buffer.
#[repr(C)]
struct Memory {
    head: Head,
    bytes: [u8; HEADROOM + ROOM],
}

#[repr(C, align(64))]
struct Head {
    start: usize,
    len: usize,
}

impl Frame {
    /// An empty frame.
    pub fn new() -> Self {
        let head = Head { start: HEADROOM, len: 0 };
        Self(Box::new(Memory { head, bytes: [0; HEADROOM + ROOM] }))
    }

    /// Empties the frame and gives `len` bytes to write into.
    pub fn reset(&mut self, len: usize) -> &mut [u8] {
        self.0.head = Head { start: HEADROOM, len };
        self.bytes_mut()
    }
}

impl Packet for Frame {
    #[inline]
    fn bytes(&self) -> &[u8] {
        let Head { start, len } = self.0.head;
        self.0.bytes.get(start..start + len).unwrap_or_default()
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        let Head { start, len } = self.0.head;
        self.0.bytes.get_mut(start..start + len).unwrap_or_default()
    }

    fn note_tag(&mut self, _: u16) {}

    fn leave_tag_to_nic(&mut self, _: u16) {}

    #[inline]
    fn total_len(&self) -> usize {
        self.0.head.len
    }

    #[inline]
    fn pull(&mut self, len: usize) -> bool {
        len <= self.0.head.len
    }

    #[inline]
    fn prepend(&mut self, len: usize) -> bool {
        let head = &mut self.0.head;
        let Some(start) = head.start.checked_sub(len) else { return false };
        *head = Head { start, len: head.len + len };
        true
    }

    #[inline]
    fn trim(&mut self, len: usize) -> bool {
        let head = &mut self.0.head;
        let Some(rest) = head.len.checked_sub(len) else { return false };
        *head = Head { start: head.start + len, len: rest };
        true
    }

    #[inline]
    fn append(&mut self, len: usize) -> bool {
        let head = &mut self.0.head;
        let fits = head.start + head.len + len <= HEADROOM + ROOM;
        head.len += if fits { len } else { 0 };
        fits
    }

    #[inline]
    fn truncate(&mut self, len: usize) {
        self.0.head.len = self.0.head.len.min(len);
    }

    #[inline]
    fn prefetch(&self) {
        arch::prefetch_read(&self.0.bytes[HEADROOM]);
    }
}

/// Two interfaces: what is put into `arrived` is received, the last one first; what the worker
/// transmits is found in `sent`, in its order. Nothing is copied, allocated or freed.
#[derive(Default)]
pub struct Wire {
    /// To be received, by interface.
    pub arrived: [Vec<Frame>; 2],
    /// Transmitted, by interface.
    pub sent: [Vec<Frame>; 2],
}

impl Wire {
    /// With room for so many frames at every place.
    pub fn new(frames: usize) -> Self {
        let room = || [Vec::with_capacity(frames), Vec::with_capacity(frames)];
        Self { arrived: room(), sent: room() }
    }

    /// True while something waits to be received.
    #[inline]
    pub fn is_waiting(&self) -> bool {
        !(self.arrived[0].is_empty() && self.arrived[1].is_empty())
    }
}

impl Io for Wire {
    type Packet = Frame;

    #[inline]
    fn receive(&mut self, interface: usize, into: &mut [Option<Frame>]) -> usize {
        let Some(arrived) = self.arrived.get_mut(interface) else { return 0 };
        let count = arrived.len().min(BURST).min(into.len());
        let rest = arrived.len() - count;
        for (place, frame) in into.iter_mut().zip(arrived.drain(rest..)) {
            *place = Some(frame);
        }
        count
    }

    #[inline]
    fn transmit(&mut self, interface: usize, packets: &mut [Option<Frame>]) -> usize {
        let Some(sent) = self.sent.get_mut(interface) else { return 0 };
        sent.extend(packets.iter_mut().map_while(Option::take));
        packets.len()
    }

    fn allocate(&mut self) -> Option<Frame> {
        None
    }
}
