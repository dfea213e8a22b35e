//! Carries an ICMPv6 error through the translation of the packet that it is about, as [`crate::icmp`]
//! does for IPv4.

use flow::Flow;
use types::{Packet, Verdict};
use wire::{checksum, chunk_at, chunk_at_mut};

use crate::Family;
use crate::family::write_addresses;
use crate::icmp::translate_inner_l4;
use crate::options::Sum;
use crate::rewrite::Layout;

const PACKET_TOO_BIG: u8 = 2;
/// The MTU that every IPv6 link has (RFC 8200 §5); what is told is not reduced below it.
const MTU_FLOOR: u32 = 1_280;

/// Translates an ICMPv6 error that arrives along `flow`, in place. `layout.l4` is the offset of the ICMPv6
/// header, `inner` are those of the quoted IPv6 and transport headers. `inserted` is what we had added to
/// the quoted packet, in bytes: a "packet too big" promises that much less to the sender.
///
/// The checksum is to have been verified; it is changed by the difference.
///
/// # Errors
/// [`Verdict::TtlExceeded`] with the packet unchanged; [`Verdict::BadIcmp`] if the quote is cut off
/// within its ports.
pub fn translate<P: Packet>(
    packet: &mut P,
    layout: Layout,
    (inner_l3, inner_l4): (usize, usize),
    flow: &Flow<u128>,
    inserted: u16,
) -> Result<(), Verdict> {
    let bytes = packet.bytes_mut();
    let end = layout.l3.saturating_add(layout.ip_len).min(bytes.len());
    let bytes = bytes.get_mut(..end).ok_or(Verdict::Internal)?;
    if inner_l4 < inner_l3 + 40 || chunk_at::<8>(bytes, inner_l4).is_none() {
        return Err(Verdict::BadIcmp);
    }
    let mut sum = Sum::default();
    translate_outer(bytes, layout.l3, flow, &mut sum)?;
    let ip = chunk_at_mut::<40>(bytes, inner_l3).ok_or(Verdict::BadIcmp)?;
    // The flow's new destination sent it to the flow's new source.
    exchange_addresses(ip, flow.new_dst, flow.new_src, &mut sum);
    translate_inner_l4(bytes, inner_l4, flow, &mut sum)?;
    let icmp = chunk_at_mut::<8>(bytes, layout.l4).ok_or(Verdict::Internal)?;
    if icmp[0] == PACKET_TOO_BIG {
        let old = u32::from_be_bytes([icmp[4], icmp[5], icmp[6], icmp[7]]);
        let new = old.saturating_sub(inserted.into()).max(MTU_FLOOR.min(old));
        [icmp[4], icmp[5], icmp[6], icmp[7]] = new.to_be_bytes();
        sum.add(checksum::delta_u32(old, new));
    }
    let changed = checksum::apply(u16::from_be_bytes([icmp[2], icmp[3]]), sum.fold());
    [icmp[2], icmp[3]] = changed.to_be_bytes();
    Ok(())
}

/// The source becomes our side's address if the flow exchanges its own: a router behind us has none that
/// the other side could make sense of. The pseudo header is a part of the message's checksum.
fn translate_outer(
    bytes: &mut [u8],
    at: usize,
    flow: &Flow<u128>,
    sum: &mut Sum,
) -> Result<(), Verdict> {
    let ip = chunk_at_mut::<40>(bytes, at).ok_or(Verdict::Internal)?;
    if ip[7] <= 1 {
        return Err(Verdict::TtlExceeded);
    }
    ip[7] -= 1;
    let (old_src, _) = addresses(ip);
    let new_src = if flow.new_src == flow.src { old_src } else { flow.new_src };
    exchange_addresses(ip, new_src, flow.new_dst, sum);
    Ok(())
}

fn exchange_addresses(ip: &mut [u8; 40], src: u128, dst: u128, sum: &mut Sum) {
    let (old_src, old_dst) = addresses(ip);
    sum.add(u128::delta(old_src, src));
    sum.add(u128::delta(old_dst, dst));
    write_addresses(ip, src, dst);
}

fn addresses(ip: &[u8; 40]) -> (u128, u128) {
    let address = |at| chunk_at::<16>(ip, at).map_or(0, |bytes| u128::from_be_bytes(*bytes));
    (address(8), address(24))
}
