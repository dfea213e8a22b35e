//! Carries an ICMP error through the translation of the packet that it is about (RFC 5508 §4).
//!
//! An error travels along the flow that would carry answers to the packet it quotes. So it gets that
//! flow's destination, and the quoted packet, which goes the other way, gets the flow's addresses
//! exchanged. Its source becomes our side's address too if the flow exchanges its source: a router
//! behind us has no address that the other side could make sense of (RFC 5508 REQ-5 c). Else it stays,
//! so that those behind a NAT gateway see the routers on their way.

use flow::{Flow, flags};
use types::{Packet, Proto, Verdict};
use wire::{checksum, chunk_at, chunk_at_mut};

use crate::Family;
use crate::family::TTL_MINUS_ONE;
use crate::options::{self, Sum};
use crate::rewrite::{Layout, deltas};

const DESTINATION_UNREACHABLE: u8 = 3;
const FRAGMENTATION_NEEDED: u8 = 4;
const ICMP_HEADER: usize = 8;
/// The MTU that every IPv4 link has (RFC 791 §3.2); what is told is not reduced below it.
const MTU_FLOOR: u16 = 68;

/// Translates an ICMP error that arrives along `flow`, in place. `layout.l4` is the offset of the
/// ICMP header. `inserted` is what we had added to the quoted packet, in bytes: a "fragmentation
/// needed" promises that much less to the sender.
///
/// The ICMP checksum is to have been verified (RFC 5508 REQ-3); it is changed by the difference.
///
/// # Errors
/// [`Verdict::TtlExceeded`] with the packet unchanged; [`Verdict::BadIcmp`] if the quote is cut off
/// within its ports.
pub fn translate<P: Packet>(
    packet: &mut P,
    layout: Layout,
    flow: &Flow,
    inserted: u16,
) -> Result<(), Verdict> {
    let bytes = packet.bytes_mut();
    let end = layout.l3.saturating_add(layout.ip_len).min(bytes.len());
    let bytes = bytes.get_mut(..end).ok_or(Verdict::Internal)?;
    let inner_l3 = layout.l4 + ICMP_HEADER;
    let inner = chunk_at::<20>(bytes, inner_l3).ok_or(Verdict::BadIcmp)?;
    let inner_l4 = inner_l3 + usize::from(inner[0] & 0x0f) * 4;
    if inner_l4 < inner_l3 + 20 || chunk_at::<8>(bytes, inner_l4).is_none() {
        return Err(Verdict::BadIcmp);
    }

    translate_outer(bytes, layout.l3, flow)?;
    let mut sum = Sum::default();
    translate_inner_l3(bytes, inner_l3, flow, &mut sum)?;
    match Proto::from_number(flow.proto) {
        Some(Proto::Tcp | Proto::Udp) => translate_inner_l4(bytes, inner_l4, flow, &mut sum)?,
        Some(Proto::Icmp) => translate_inner_query(bytes, inner_l4, flow, &mut sum)?,
        // Nothing above IPv4 depends on the addresses, as far as we know.
        None => {}
    }
    let icmp = chunk_at_mut::<ICMP_HEADER>(bytes, layout.l4).ok_or(Verdict::Internal)?;
    if [icmp[0], icmp[1]] == [DESTINATION_UNREACHABLE, FRAGMENTATION_NEEDED] {
        let old = u16::from_be_bytes([icmp[6], icmp[7]]);
        // 0 comes from a router older than RFC 1191 and stays 0.
        let new = if old == 0 { 0 } else { old.saturating_sub(inserted).max(MTU_FLOOR.min(old)) };
        [icmp[6], icmp[7]] = new.to_be_bytes();
        sum.add(checksum::delta_u16(old, new));
    }
    let changed = checksum::apply(u16::from_be_bytes([icmp[2], icmp[3]]), sum.fold());
    [icmp[2], icmp[3]] = changed.to_be_bytes();
    Ok(())
}

fn translate_outer(bytes: &mut [u8], at: usize, flow: &Flow) -> Result<(), Verdict> {
    let ip = chunk_at_mut::<20>(bytes, at).ok_or(Verdict::Internal)?;
    if ip[8] <= 1 {
        return Err(Verdict::TtlExceeded);
    }
    ip[8] -= 1;
    let old_src = u32::from_be_bytes([ip[12], ip[13], ip[14], ip[15]]);
    let old_dst = u32::from_be_bytes([ip[16], ip[17], ip[18], ip[19]]);
    let new_src = if flow.new_src == flow.src { old_src } else { flow.new_src };
    let mut sum = Sum::of(TTL_MINUS_ONE);
    sum.add(checksum::delta_u32(old_src, new_src));
    sum.add(checksum::delta_u32(old_dst, flow.new_dst));
    [ip[12], ip[13], ip[14], ip[15]] = new_src.to_be_bytes();
    [ip[16], ip[17], ip[18], ip[19]] = flow.new_dst.to_be_bytes();
    let changed = checksum::apply(u16::from_be_bytes([ip[10], ip[11]]), sum.fold());
    [ip[10], ip[11]] = changed.to_be_bytes();
    Ok(())
}

/// The quoted header: the flow's new destination sent it to the flow's new source.
fn translate_inner_l3(
    bytes: &mut [u8],
    at: usize,
    flow: &Flow,
    sum: &mut Sum,
) -> Result<(), Verdict> {
    let ip = chunk_at_mut::<20>(bytes, at).ok_or(Verdict::Internal)?;
    let old_src = u32::from_be_bytes([ip[12], ip[13], ip[14], ip[15]]);
    let old_dst = u32::from_be_bytes([ip[16], ip[17], ip[18], ip[19]]);
    [ip[12], ip[13], ip[14], ip[15]] = flow.new_dst.to_be_bytes();
    [ip[16], ip[17], ip[18], ip[19]] = flow.new_src.to_be_bytes();
    let addresses = checksum::add(
        checksum::delta_u32(old_src, flow.new_dst),
        checksum::delta_u32(old_dst, flow.new_src),
    );
    let old_sum = u16::from_be_bytes([ip[10], ip[11]]);
    let new_sum = checksum::apply(old_sum, addresses);
    [ip[10], ip[11]] = new_sum.to_be_bytes();
    sum.add(addresses);
    sum.add(checksum::delta_u16(old_sum, new_sum));
    Ok(())
}

/// The quoted identifier (RFC 5508 REQ-4, REQ-5); its checksum is of the whole query, and changes by
/// the difference.
fn translate_inner_query(
    bytes: &mut [u8],
    at: usize,
    flow: &Flow,
    sum: &mut Sum,
) -> Result<(), Verdict> {
    let icmp = chunk_at_mut::<8>(bytes, at).ok_or(Verdict::BadIcmp)?;
    let old_id = u16::from_be_bytes([icmp[4], icmp[5]]);
    let old_sum = u16::from_be_bytes([icmp[2], icmp[3]]);
    let id_delta = checksum::delta_u16(old_id, flow.new_dport);
    let new_sum = checksum::apply(old_sum, id_delta);
    [icmp[4], icmp[5]] = flow.new_dport.to_be_bytes();
    [icmp[2], icmp[3]] = new_sum.to_be_bytes();
    sum.add(id_delta);
    sum.add(checksum::delta_u16(old_sum, new_sum));
    Ok(())
}

/// The quoted ports, and as far as they are quoted the sequence numbers and the checksum.
pub(crate) fn translate_inner_l4<A: Family>(
    bytes: &mut [u8],
    at: usize,
    flow: &Flow<A>,
    sum: &mut Sum,
) -> Result<(), Verdict> {
    let l4_ports = chunk_at_mut::<4>(bytes, at).ok_or(Verdict::BadIcmp)?;
    let old_sport = u16::from_be_bytes([l4_ports[0], l4_ports[1]]);
    let old_dport = u16::from_be_bytes([l4_ports[2], l4_ports[3]]);
    [l4_ports[0], l4_ports[1]] = flow.new_dport.to_be_bytes();
    [l4_ports[2], l4_ports[3]] = flow.new_sport.to_be_bytes();
    let mut edits = Sum::default();
    edits.add(checksum::delta_u16(old_sport, flow.new_dport));
    edits.add(checksum::delta_u16(old_dport, flow.new_sport));

    let checksum_at = translate_quoted_numbers(bytes, at, flow, &mut edits);
    sum.add(edits.fold());

    let pseudo_header = deltas(flow.key().reversed(), flow.new_key().reversed()).l3;
    if let Some(field) = chunk_at_mut::<2>(bytes, checksum_at) {
        let delta = checksum::add(edits.fold(), pseudo_header);
        let old = u16::from_be_bytes(*field);
        let new = if flow.proto == Proto::Tcp.number() {
            checksum::apply(old, delta)
        } else {
            checksum::apply_udp(old, delta)
        };
        *field = new.to_be_bytes();
        sum.add(checksum::delta_u16(old, new));
    }
    Ok(())
}

/// The numbers of a quoted TCP header at `at`; where its checksum stands, or that of UDP.
pub(crate) fn translate_quoted_numbers<A>(
    bytes: &mut [u8],
    at: usize,
    flow: &Flow<A>,
    edits: &mut Sum,
) -> usize {
    if flow.proto != Proto::Tcp.number() {
        return at + 6;
    }
    // Along the reverse flow the quoted packet is one that we sent to the real server with its
    // sequence number moved; along the forward flow one whose acknowledgement was moved back.
    if flow.flags & flags::ADJUST_ACK != 0 {
        options::shift(bytes, at + 4, flow.seq_offset.wrapping_neg(), edits);
    }
    let acknowledges = bytes.get(at + 13).is_some_and(|flags| flags & 0x10 != 0);
    if flow.flags & flags::ADJUST_SEQ != 0 && acknowledges {
        options::shift(bytes, at + 8, flow.seq_offset, edits);
    }
    at + 16
}
