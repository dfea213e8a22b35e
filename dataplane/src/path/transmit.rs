//! Stage `transmit`: gives each interface what has been gathered for it.

use types::{BURST_MAX, EthPortId, Io, Packet, Verdict};

use crate::worker::Core;

/// Packets gathered for one interface, at most; a full buffer is flushed early.
pub const GATHERED_MAX: usize = 128;

/// Packets on their way to one interface.
#[derive(Debug)]
pub struct TxBuffer<P> {
    packets: [Option<P>; GATHERED_MAX],
    len: usize,
    bytes: u64,
}

impl<P> Default for TxBuffer<P> {
    fn default() -> Self {
        Self { packets: [const { None }; GATHERED_MAX], len: 0, bytes: 0 }
    }
}

impl<P: Packet> TxBuffer<P> {
    /// Adds a packet; gives it back if there is no place.
    #[inline]
    pub fn push(&mut self, packet: P) -> Result<(), P> {
        let Some(place) = self.packets.get_mut(self.len) else { return Err(packet) };
        self.bytes += packet.total_len() as u64;
        *place = Some(packet);
        self.len += 1;
        Ok(())
    }

    /// How many packets are gathered.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True without any.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Flushes early if what one burst sends might find no room: for senders of many packets at a time.
#[cold]
pub(super) fn keep_room<I: Io>(core: &mut Core<I::Packet>, io: &mut I) {
    if core.tx.iter().any(|gathered| gathered.len() >= GATHERED_MAX - BURST_MAX) {
        transmit(core, io);
    }
}

/// Flushes all interfaces. What an interface refuses is freed and counted: a packet that waited
/// would be late, and its sender slows down by the loss.
#[inline]
pub fn transmit<I: Io>(core: &mut Core<I::Packet>, io: &mut I) {
    for (index, buffer) in core.tx.iter_mut().enumerate() {
        if buffer.len == 0 {
            continue;
        }
        let Some(gathered) = buffer.packets.get_mut(..buffer.len) else { continue };
        let sent = io.transmit(index, gathered).min(buffer.len);
        let mut refused_bytes = 0;
        for place in gathered.iter_mut().skip(sent) {
            if let Some(packet) = place.take() {
                refused_bytes += packet.total_len() as u64;
            }
        }
        let refused = buffer.len - sent;
        let bytes = buffer.bytes.saturating_sub(refused_bytes);
        core.counters.sent(EthPortId(index as u16), sent as u64, bytes);
        core.counters.ended(Verdict::Sent, sent as u64);
        core.counters.ended(Verdict::TxFull, refused as u64);
        buffer.len = 0;
        buffer.bytes = 0;
    }
}
