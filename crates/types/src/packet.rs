//! A packet as the path sees it, whoever owns its memory.

/// A frame in memory that can grow and shrink at both ends.
///
/// The daemon's body is a DPDK mbuf, that of tests and benches a plain buffer, so that the same code
/// runs on both. A packet is owned by one place at a time; dropping it frees it.
pub trait Packet: Sized {
    /// The first segment. It holds all headers once [`Packet::pull`] has been asked for them.
    fn bytes(&self) -> &[u8];

    /// The first segment, writable.
    fn bytes_mut(&mut self) -> &mut [u8];

    /// Length of the whole frame in bytes, over all segments.
    fn total_len(&self) -> usize;

    /// Makes the first `len` bytes of the frame contiguous, copying if they are not.
    /// False if the frame is shorter than that or there is no room; it is unchanged then.
    fn pull(&mut self, len: usize) -> bool;

    /// Grows the frame by `len` bytes at its head. The new bytes hold anything.
    /// False without headroom; it is unchanged then.
    fn prepend(&mut self, len: usize) -> bool;

    /// Cuts `len` bytes off the head. False if the first segment is shorter; it is unchanged then.
    fn trim(&mut self, len: usize) -> bool;

    /// Grows the frame by `len` bytes at its end. The new bytes hold anything.
    /// False without tailroom or if there is more than one segment; it is unchanged then.
    fn append(&mut self, len: usize) -> bool;

    /// Cuts the frame at `len` bytes. Nothing happens if it is not longer.
    fn truncate(&mut self, len: usize);

    /// The Toeplitz hash that the NIC computed, if it says so.
    fn rss_hash(&self) -> Option<u32> {
        None
    }

    /// True if the sender left the transport checksum to the interface: the field holds the sum of the
    /// pseudo header only, as a virtual machine or container on the same host sends it.
    fn l4_checksum_unfinished(&self) -> bool {
        false
    }

    /// The tag of the frame (tag control information of IEEE 802.1Q: priority and VLAN) that is in the
    /// frame no more: the NIC took it out, or [`Packet::note_tag`] has kept it.
    fn tag(&self) -> Option<u16> {
        None
    }

    /// Keeps a tag that was taken out of the frame.
    fn note_tag(&mut self, tci: u16);

    /// Has the NIC put a tag into the frame as it leaves. Only where the NIC does that.
    fn leave_tag_to_nic(&mut self, tci: u16);

    /// Shows all segments in their order.
    fn visit_segments(&self, mut visit: impl FnMut(&[u8])) {
        visit(self.bytes());
    }

    /// Asks the memory of the first bytes into the cache.
    fn prefetch(&self) {}
}
