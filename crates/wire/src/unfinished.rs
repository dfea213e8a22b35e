//! Finishes a transport checksum that its sender left to an interface.

use types::{Address, Packet};

use crate::checksum::{add, at_offset, pseudo_header, pseudo_header_v6, sum, udp_never_zero};
use crate::{Kind, Parsed, Parsed6, chunk_at_mut};

/// Writes the TCP or UDP checksum over the whole packet, over all of its segments.
///
/// What the field holds does not matter. Nothing happens to packets of other kinds, or if the headers
/// are not in the first segment.
pub fn finish_l4_checksum<P: Packet>(packet: &mut P, parsed: &Parsed) {
    let key = parsed.key;
    finish(packet, parsed, |len| pseudo_header(key.src, key.dst, key.proto, len));
}

/// [`finish_l4_checksum`] for IPv6.
pub fn finish_l4_checksum6<P: Packet>(packet: &mut P, parsed: &Parsed6) {
    let key = parsed.key;
    finish(packet, parsed, |len| pseudo_header_v6(key.src, key.dst, key.proto, len.into()));
}

fn finish<P: Packet, A: Address>(
    packet: &mut P,
    parsed: &Parsed<A>,
    pseudo_header: impl FnOnce(u16) -> u16,
) {
    let start = usize::from(parsed.l4);
    let field = match parsed.kind {
        Kind::Tcp => start.saturating_add(16),
        Kind::Udp => start.saturating_add(6),
        _ => return,
    };
    let bytes = packet.bytes_mut();
    let Some(checksum) = chunk_at_mut::<2>(bytes, field) else { return };
    *checksum = [0, 0];
    // A datagram may end before its packet does (RFC 9868 §5), and has no more than itself in its checksum.
    let end = match (parsed.kind, chunk_at_mut::<2>(bytes, start.saturating_add(4))) {
        (Kind::Udp, Some(len)) => start.saturating_add(usize::from(u16::from_be_bytes(*len))),
        _ => parsed.ip_end(),
    };
    let end = end.min(parsed.ip_end());
    let length = end.saturating_sub(start) as u16;
    let mut total = pseudo_header(length);
    let mut at = 0_usize;
    packet.visit_segments(|bytes| {
        let next = at.saturating_add(bytes.len());
        let from = start.clamp(at, next);
        let to = end.clamp(at, next);
        let here = bytes.get(from.saturating_sub(at)..to.saturating_sub(at)).unwrap_or_default();
        total = add(total, at_offset(from.saturating_sub(start), sum(here)));
        at = next;
    });
    let value = match parsed.kind {
        Kind::Udp => udp_never_zero(!total),
        _ => !total,
    };
    if let Some(checksum) = chunk_at_mut::<2>(packet.bytes_mut(), field) {
        *checksum = value.to_be_bytes();
    }
}
