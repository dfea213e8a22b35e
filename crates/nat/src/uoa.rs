//! The IP option that shows a real server the client of a datagram: that of DPVS's `uoa` in its mode `ipo`.
//!
//! Type 31, length 8, the client's port and IPv4 address, right behind the fixed IPv4 header. It goes with each
//! datagram of the client's that has room for it.

use types::{Packet, Verdict};
use wire::ipv4::{FRAGMENT_OFFSET, MORE_FRAGMENTS};
use wire::{checksum, chunk_at_mut};

use crate::options::Sum;
use crate::rewrite::Layout;
use crate::toa::Inserted;

/// Length of the option for an IPv4 client, in bytes.
pub const LEN: usize = 8;
/// Not copied into fragments, of class 0, number 31 (RFC 791 §3.1); assigned to nobody.
const UOA: u8 = 31;
/// An IPv4 header is 60 bytes at most.
const IP_HEADER_MAX: usize = 60;
const IP_HEADER_MIN: usize = 20;
const END: u8 = 0;
const NOP: u8 = 1;
const NOPS: [u8; IP_HEADER_MAX - IP_HEADER_MIN] = [NOP; IP_HEADER_MAX - IP_HEADER_MIN];

/// Inserts the option for `client` (address, port) into a translated datagram, if there is room for it in the
/// IPv4 header, within `mtu` and in memory, and if it is no fragment. One that the client itself has sent is
/// blanked in any case: no client can claim another's address.
///
/// # Errors
/// [`Verdict::Internal`] if the layout is not this packet's.
pub fn insert<P: Packet>(
    packet: &mut P,
    layout: Layout,
    client: (u32, u16),
    mtu: usize,
) -> Result<Inserted, Verdict> {
    let bytes = packet.bytes_mut();
    let ip = chunk_at_mut::<IP_HEADER_MIN>(bytes, layout.l3).ok_or(Verdict::Internal)?;
    let header_len = usize::from(ip[0] & 0x0f) * 4;
    let fragment = u16::from_be_bytes([ip[6], ip[7]]) & (MORE_FRAGMENTS | FRAGMENT_OFFSET) != 0;
    if header_len > IP_HEADER_MIN {
        blank(bytes, layout.l3, header_len)?;
    }
    let fits = header_len + LEN <= IP_HEADER_MAX && layout.ip_len + LEN <= mtu;
    if fragment || !fits || !packet.prepend(LEN) {
        return Ok(Inserted::NoRoom);
    }
    let bytes = packet.bytes_mut();
    let options_at = layout.l3 + IP_HEADER_MIN;
    if bytes.len() < options_at + LEN {
        return Err(Verdict::Internal);
    }
    bytes.copy_within(LEN..LEN + options_at, 0);
    let (address, l4_port) = client;
    let option = chunk_at_mut::<LEN>(bytes, options_at).ok_or(Verdict::Internal)?;
    let [a, b, c, d] = address.to_be_bytes();
    let [p, q] = l4_port.to_be_bytes();
    *option = [UOA, LEN as u8, p, q, a, b, c, d];

    let mut sum = Sum::of(u16::from_be_bytes([UOA, LEN as u8]));
    sum.add(l4_port);
    sum.add((address >> 16) as u16);
    sum.add(address as u16);
    let ip = chunk_at_mut::<IP_HEADER_MIN>(bytes, layout.l3).ok_or(Verdict::Internal)?;
    // The length of the header stands in the low half of the first byte, in words of four.
    let longer = ip[0] + LEN as u8 / 4;
    sum.add(checksum::delta_u16(u16::from_be_bytes([ip[0], 0]), u16::from_be_bytes([longer, 0])));
    ip[0] = longer;
    let old_len = u16::from_be_bytes([ip[2], ip[3]]);
    let new_len = old_len.wrapping_add(LEN as u16);
    sum.add(checksum::delta_u16(old_len, new_len));
    [ip[2], ip[3]] = new_len.to_be_bytes();
    let header_sum = u16::from_be_bytes([ip[10], ip[11]]);
    [ip[10], ip[11]] = checksum::apply(header_sum, sum.fold()).to_be_bytes();
    Ok(Inserted::Yes)
}

/// Writes NOPs over options 31 of the client's own. What is malformed ends the list, for the server as for us.
#[cold]
fn blank(bytes: &mut [u8], l3: usize, header_len: usize) -> Result<(), Verdict> {
    let header = bytes.get_mut(l3..l3 + header_len).ok_or(Verdict::Internal)?;
    let mut at = IP_HEADER_MIN;
    let mut sum = Sum::of(0);
    while let Some(&[kind, len]) = header.get(at..).and_then(<[u8]>::first_chunk) {
        match kind {
            END => break,
            NOP => {
                at += 1;
                continue;
            }
            _ => {}
        }
        let end = at + usize::from(len);
        let Some(option) = header.get_mut(at..end).filter(|_| len >= 2) else { break };
        if let (UOA, Some(nops)) = (kind, NOPS.get(..option.len())) {
            sum.add(checksum::delta_bytes(at, option, nops));
            option.copy_from_slice(nops);
        }
        at = end;
    }
    let ip = header.first_chunk_mut::<IP_HEADER_MIN>().ok_or(Verdict::Internal)?;
    let header_sum = u16::from_be_bytes([ip[10], ip[11]]);
    [ip[10], ip[11]] = checksum::apply(header_sum, sum.fold()).to_be_bytes();
    Ok(())
}
