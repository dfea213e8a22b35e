//! Packets owned by move: one `Mbuf`, one owner, freed when dropped.

use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use dpdk_sys::rte_mbuf;
use types::Packet;

use crate::mempool::HEADROOM;

/// A packet in DPDK's memory, of one or more segments.
///
/// It is the pointer that DPDK knows, so that a burst of `Option<Mbuf>` is what the drivers fill and
/// take. Fields are read and written in place, at the offsets that the C compiler gave.
#[derive(Debug)]
#[repr(transparent)]
pub struct Mbuf(NonNull<rte_mbuf>);

const _: () = assert!(size_of::<Option<Mbuf>>() == size_of::<*mut rte_mbuf>());

// SAFETY: a packet has one owner, and DPDK's mempools take it back on any thread. It is not `Sync`:
// its fields are read without any ordering.
unsafe impl Send for Mbuf {}

/// What the interface says of the checksum of a packet's transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum L4Checksum {
    /// Nothing.
    Unknown,
    /// It is right.
    Good,
    /// It is wrong.
    Bad,
    /// It was never completed (it holds the pseudo header's sum at most) because the packet has not
    /// been on a wire; the data are as the sender meant them.
    Unfinished,
}

/// A burst's slots as the array of pointers that DPDK fills and reads.
#[inline]
pub(crate) fn as_raw(packets: &mut [Option<Mbuf>]) -> *mut *mut rte_mbuf {
    // `Option` of a transparent `NonNull` has the layout of the pointer, `None` being null.
    packets.as_mut_ptr().cast()
}

impl Mbuf {
    /// Takes over a packet from DPDK.
    ///
    /// # Safety
    /// `packet` is a live mbuf, the first of its chain, with reference count 1, that nobody else
    /// frees or uses.
    pub(crate) unsafe fn from_raw(packet: NonNull<rte_mbuf>) -> Self {
        Self(packet)
    }

    /// Frees the packets of a burst at once and leaves `None`.
    #[inline]
    pub fn free_burst(packets: &mut [Option<Mbuf>]) {
        let Ok(count) = u32::try_from(packets.len()) else { return };
        let raw = as_raw(packets);
        // SAFETY: `raw` holds `count` owned packets or nulls, which DPDK passes over.
        unsafe { dpdk_sys::rte_pktmbuf_free_bulk(raw, count) };
        for packet in packets {
            // DPDK owned them in that call; the slots must not free them again.
            let _freed = ManuallyDrop::new(packet.take());
        }
    }

    /// What the interface says of the transport checksum.
    #[inline]
    pub fn l4_checksum(&self) -> L4Checksum {
        const GOOD: u64 = dpdk_sys::DPNAT_RX_L4_CKSUM_GOOD;
        const BAD: u64 = dpdk_sys::DPNAT_RX_L4_CKSUM_BAD;
        const NONE: u64 = dpdk_sys::DPNAT_RX_L4_CKSUM_NONE;
        match self.head().flags() & dpdk_sys::DPNAT_RX_L4_CKSUM_MASK {
            GOOD => L4Checksum::Good,
            BAD => L4Checksum::Bad,
            NONE => L4Checksum::Unfinished,
            _ => L4Checksum::Unknown,
        }
    }

    /// Number of segments.
    #[inline]
    pub fn segments(&self) -> u16 {
        self.head().segments()
    }

    /// Bytes free in front of the packet.
    #[inline]
    pub fn headroom(&self) -> usize {
        usize::from(self.head().data_off())
    }

    /// Bytes free behind the first segment.
    #[inline]
    pub fn tailroom(&self) -> usize {
        self.head().tailroom()
    }

    /// Puts the segments of `tail` behind this packet's. False, and `tail` freed, if the packet would
    /// get more segments or bytes than DPDK can count.
    pub fn chain(&mut self, tail: Mbuf) -> bool {
        let (head, more) = (self.head(), tail.head());
        let segments = head.segments().checked_add(more.segments());
        let length = head.packet_len().checked_add(more.packet_len());
        let (Some(segments), Some(length)) = (segments, length) else { return false };
        let mut last = head;
        while let Some(next) = last.next() {
            last = next;
        }
        last.set_next(ManuallyDrop::new(tail).0.as_ptr());
        head.set_segments(segments);
        head.set_packet_len(length);
        true
    }

    /// Copies what does not fit contiguously into one segment. False if it does not fit into the first
    /// one's buffer; it is unchanged then.
    pub(crate) fn linearize(&mut self) -> bool {
        // SAFETY: the packet is live, whole and owned here.
        unsafe { dpdk_sys::dpnat_linearize(self.0.as_ptr()) == 0 }
    }

    #[inline]
    fn head(&self) -> Segment {
        Segment(self.0)
    }

    /// Makes room for `len` bytes behind the first segment, moving its bytes back to the usual headroom
    /// if they stand behind it. False if that is not enough.
    #[cold]
    fn make_tailroom(&mut self, len: usize) -> bool {
        let head = self.head();
        let spare = usize::from(head.data_off()).saturating_sub(HEADROOM);
        if len > head.tailroom() + spare {
            return false;
        }
        if len > head.tailroom() {
            let from = head.data();
            head.set_data_off(HEADROOM as u16);
            // SAFETY: both ranges are within the first segment's buffer, the new one before the old.
            unsafe { std::ptr::copy(from, head.data(), usize::from(head.data_len())) };
        }
        true
    }

    /// Copies `missing` bytes from the following segments behind the first one's. Both room and bytes
    /// are there.
    #[cold]
    fn gather(&mut self, mut missing: usize) {
        let head = self.head();
        while missing > 0 {
            let Some(next) = head.next() else { return };
            let here = missing.min(usize::from(next.data_len()));
            let to = head.data().wrapping_add(usize::from(head.data_len()));
            // SAFETY: `pull` has checked that the first segment has room for `missing` bytes behind
            // its data, and `next` has `here` bytes of them; the buffers are different ones.
            unsafe { std::ptr::copy_nonoverlapping(next.data(), to, here) };
            head.set_data_len(head.data_len() + here as u16);
            next.set_data_off(next.data_off() + here as u16);
            next.set_data_len(next.data_len() - here as u16);
            missing -= here;
            if next.data_len() == 0 {
                head.set_next(next.next().map_or(std::ptr::null_mut(), |after| after.0.as_ptr()));
                head.set_segments(head.segments() - 1);
                // SAFETY: the segment was taken out of the chain, so it is owned here alone.
                unsafe { dpdk_sys::dpnat_free_segment(next.0.as_ptr()) };
            }
        }
    }

    #[cold]
    fn truncate_chain(&mut self, len: usize) {
        let head = self.head();
        let (mut last, mut before, mut kept) = (head, 0, 1);
        while before + usize::from(last.data_len()) < len {
            let Some(next) = last.next() else { return };
            before += usize::from(last.data_len());
            last = next;
            kept += 1;
        }
        last.set_data_len((len - before) as u16);
        let rest = last.next();
        last.set_next(std::ptr::null_mut());
        head.set_segments(kept);
        head.set_packet_len(len as u32);
        if let Some(rest) = rest {
            // SAFETY: the segments from `rest` on are out of the chain, so they are owned here alone;
            // freeing follows their links.
            unsafe { dpdk_sys::dpnat_free(rest.0.as_ptr()) };
        }
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the packet is live and owned here; all of its segments go with it.
        unsafe { dpdk_sys::dpnat_free(self.0.as_ptr()) };
    }
}

impl Packet for Mbuf {
    #[inline]
    fn bytes(&self) -> &[u8] {
        let head = self.head();
        // SAFETY: an mbuf's data lie within its buffer, which lives as long as the packet, was zeroed
        // when mapped, and is borrowed with the packet.
        unsafe { std::slice::from_raw_parts(head.data(), usize::from(head.data_len())) }
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        let head = self.head();
        // SAFETY: as in `bytes`; the packet is borrowed mutably, and nobody shares its buffer.
        unsafe { std::slice::from_raw_parts_mut(head.data(), usize::from(head.data_len())) }
    }

    #[inline]
    fn total_len(&self) -> usize {
        self.head().packet_len() as usize
    }

    #[inline]
    fn pull(&mut self, len: usize) -> bool {
        let here = usize::from(self.head().data_len());
        if len <= here {
            return true;
        }
        if len > self.total_len() || !self.make_tailroom(len - here) {
            return false;
        }
        self.gather(len - here);
        true
    }

    #[inline]
    fn prepend(&mut self, len: usize) -> bool {
        let head = self.head();
        if len > usize::from(head.data_off()) {
            return false;
        }
        head.set_data_off(head.data_off() - len as u16);
        head.set_data_len(head.data_len() + len as u16);
        head.set_packet_len(head.packet_len() + len as u32);
        true
    }

    #[inline]
    fn trim(&mut self, len: usize) -> bool {
        let head = self.head();
        if len > usize::from(head.data_len()) {
            return false;
        }
        head.set_data_off(head.data_off() + len as u16);
        head.set_data_len(head.data_len() - len as u16);
        head.set_packet_len(head.packet_len() - len as u32);
        true
    }

    #[inline]
    fn append(&mut self, len: usize) -> bool {
        let head = self.head();
        if head.segments() != 1 || len > head.tailroom() {
            return false;
        }
        head.set_data_len(head.data_len() + len as u16);
        head.set_packet_len(head.packet_len() + len as u32);
        true
    }

    #[inline]
    fn truncate(&mut self, len: usize) {
        let head = self.head();
        if len >= self.total_len() {
            return;
        }
        if head.segments() == 1 {
            head.set_data_len(len as u16);
            head.set_packet_len(len as u32);
        } else {
            self.truncate_chain(len);
        }
    }

    #[inline]
    fn rss_hash(&self) -> Option<u32> {
        let head = self.head();
        (head.flags() & dpdk_sys::DPNAT_RX_RSS_HASH != 0).then(|| head.rss_hash())
    }

    #[inline]
    fn l4_checksum_unfinished(&self) -> bool {
        self.l4_checksum() == L4Checksum::Unfinished
    }

    #[inline]
    fn tag(&self) -> Option<u16> {
        let head = self.head();
        let stripped = head.flags() & dpdk_sys::DPNAT_RX_VLAN_STRIPPED;
        (stripped == dpdk_sys::DPNAT_RX_VLAN_STRIPPED).then(|| head.vlan_tci())
    }

    #[inline]
    fn note_tag(&mut self, tci: u16) {
        let head = self.head();
        head.set_vlan_tci(tci);
        head.set_flags(head.flags() | dpdk_sys::DPNAT_RX_VLAN_STRIPPED);
    }

    #[inline]
    fn leave_tag_to_nic(&mut self, tci: u16) {
        let head = self.head();
        head.set_vlan_tci(tci);
        head.set_flags(head.flags() | dpdk_sys::DPNAT_TX_VLAN);
    }

    fn visit_segments(&self, mut visit: impl FnMut(&[u8])) {
        let mut segment = Some(self.head());
        while let Some(here) = segment {
            // SAFETY: a segment's data lie within its buffer, which lives as long as the packet, and
            // is borrowed with the packet.
            visit(unsafe { std::slice::from_raw_parts(here.data(), usize::from(here.data_len())) });
            segment = here.next();
        }
    }

    #[inline]
    fn prefetch(&self) {
        let data = self.head().data();
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: a hint that faults on no address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(data.cast()) };
        }
        #[cfg(target_arch = "aarch64")]
        // SAFETY: a hint that faults on no address and changes nothing.
        unsafe {
            std::arch::asm!("prfm pldl1keep, [{0}]", in(reg) data, options(nostack, readonly));
        }
    }
}

/// One segment of a live packet. It is made from an owned `Mbuf` for the length of a method and never
/// kept, so its pointer is valid and the packet's owner the only user.
#[derive(Clone, Copy)]
struct Segment(NonNull<rte_mbuf>);

macro_rules! fields {
    ($($name:ident, $set:ident: $kind:ty = $offset:ident;)*) => {$(
        #[inline]
        fn $name(self) -> $kind {
            let field = self.0.as_ptr().wrapping_byte_add(dpdk_sys::$offset as usize).cast::<$kind>();
            // SAFETY: the segment is live, and the C compiler says that the field is there.
            unsafe { field.read() }
        }

        #[inline]
        fn $set(self, value: $kind) {
            let field = self.0.as_ptr().wrapping_byte_add(dpdk_sys::$offset as usize).cast::<$kind>();
            // SAFETY: as above; the owner of the packet is the one who calls.
            unsafe { field.write(value) }
        }
    )*};
}

impl Segment {
    fields! {
        data_off, set_data_off: u16 = DPNAT_MBUF_DATA_OFF;
        data_len, set_data_len: u16 = DPNAT_MBUF_DATA_LEN;
        segments, set_segments: u16 = DPNAT_MBUF_NB_SEGS;
        packet_len, set_packet_len: u32 = DPNAT_MBUF_PKT_LEN;
        flags, set_flags: u64 = DPNAT_MBUF_OL_FLAGS;
        vlan_tci, set_vlan_tci: u16 = DPNAT_MBUF_VLAN_TCI;
        next_ptr, set_next: *mut rte_mbuf = DPNAT_MBUF_NEXT;
    }

    #[inline]
    fn read<T: Copy>(self, offset: u32) -> T {
        let field = self.0.as_ptr().wrapping_byte_add(offset as usize).cast::<T>();
        // SAFETY: the segment is live; callers give the field's own offset and type.
        unsafe { field.read() }
    }

    #[inline]
    fn rss_hash(self) -> u32 {
        self.read(dpdk_sys::DPNAT_MBUF_HASH_RSS)
    }

    #[inline]
    fn next(self) -> Option<Segment> {
        NonNull::new(self.next_ptr()).map(Segment)
    }

    #[inline]
    fn data(self) -> *mut u8 {
        let buffer: *mut u8 = self.read(dpdk_sys::DPNAT_MBUF_BUF_ADDR);
        buffer.wrapping_add(usize::from(self.data_off()))
    }

    #[inline]
    fn tailroom(self) -> usize {
        let buffer: u16 = self.read(dpdk_sys::DPNAT_MBUF_BUF_LEN);
        usize::from(buffer)
            .saturating_sub(usize::from(self.data_off()) + usize::from(self.data_len()))
    }
}
