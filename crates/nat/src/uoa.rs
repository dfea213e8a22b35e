//! The IP option that shows a real server the client of a datagram: that of DPVS's `uoa` in its mode `ipo`.
//!
//! Type 31, length 8 or 20, the client's port and IPv4 or IPv6 address, right behind the fixed IPv4 header. Towards a
//! server of IPv6 it is a destination option of 18 bytes, the client's port and its address in 16 bytes, in a header of
//! its own right behind the fixed one. It goes with each datagram of the client's that has room for it.

use std::net::IpAddr;

use types::{Address, Packet, Verdict};
use wire::extension::{DESTINATION_OPTIONS, header_len, is_extension};
use wire::ipv4::{FRAGMENT_OFFSET, MORE_FRAGMENTS};
use wire::{checksum, chunk_at_mut, ipv6};

use crate::options::Sum;
use crate::rewrite::Layout;
use crate::toa::{self, Inserted};

/// Not copied into fragments, of class 0, number 31 (RFC 791 §3.1); assigned to nobody.
const UOA: u8 = 31;
/// An IPv4 header is 60 bytes at most.
const IP_HEADER_MAX: usize = 60;
const IP_HEADER_MIN: usize = 20;
const END: u8 = 0;
const NOP: u8 = 1;
const NOPS: [u8; IP_HEADER_MAX - IP_HEADER_MIN] = [NOP; IP_HEADER_MAX - IP_HEADER_MIN];

/// Of IPv6: for experiments; who does not know it skips it, and nobody changes it on the way (RFC 4727 §3, RFC 8200
/// §4.2).
const UOA6: u8 = 0x1e;
/// Length of the header of destination options in bytes: three units of eight.
const HEADER_LEN6: usize = 24;
const PAD_ONE: u8 = 0;
const PAD: u8 = 1;

/// Length of what shows a client to a server in a datagram, in bytes.
pub fn len<A: Address>(client: A, server: A) -> u16 {
    if server.to_ip().is_ipv4() { toa::len(client) } else { HEADER_LEN6 as u16 }
}

/// Inserts the option for `client` (address, port) into a translated datagram, if there is room for it in the
/// header, within `mtu` and in memory, and if it is no fragment. One of the client's own is to be gone before, by
/// [`blank`].
///
/// # Errors
/// [`Verdict::Internal`] if the layout is not this packet's.
pub fn insert<P: Packet, A: Address>(
    packet: &mut P,
    layout: Layout,
    client: (A, u16),
    mtu: usize,
) -> Result<Inserted, Verdict> {
    let first = packet.bytes().get(layout.l3).ok_or(Verdict::Internal)?;
    match first >> 4 {
        6 => insert_v6(packet, layout, client, mtu),
        _ => insert_v4(packet, layout, client, mtu),
    }
}

/// True if there is something between the fixed IP header and UDP's.
#[inline(always)]
pub fn has_options(bytes: &[u8], layout: Layout) -> bool {
    let len = layout.l4.wrapping_sub(layout.l3);
    match bytes.get(layout.l3).map(|first| first >> 4) {
        Some(6) => len != ipv6::LEN,
        _ => len != IP_HEADER_MIN,
    }
}

/// Makes padding of the options of this kind that the client itself has sent: no client can claim another's address.
/// All datagrams of a client's that a LIP passes on are to be without: a server believes LIPs, whichever service it
/// is. Nothing happens to a header without options.
///
/// # Errors
/// [`Verdict::Internal`] if the layout is not this packet's.
#[cold]
pub fn blank<P: Packet>(packet: &mut P, layout: Layout) -> Result<(), Verdict> {
    let bytes = packet.bytes_mut();
    let first = *bytes.get(layout.l3).ok_or(Verdict::Internal)?;
    if first >> 4 == 6 {
        let ip = chunk_at_mut::<{ ipv6::LEN }>(bytes, layout.l3).ok_or(Verdict::Internal)?;
        let next = ip[6];
        return blank_v6(bytes, layout, next);
    }
    match usize::from(first & 0x0f) * 4 {
        0..=IP_HEADER_MIN => Ok(()),
        header_len => blank_v4(bytes, layout.l3, header_len),
    }
}

fn insert_v4<P: Packet, A: Address>(
    packet: &mut P,
    layout: Layout,
    (address, l4_port): (A, u16),
    mtu: usize,
) -> Result<Inserted, Verdict> {
    let bytes = packet.bytes_mut();
    let ip = chunk_at_mut::<IP_HEADER_MIN>(bytes, layout.l3).ok_or(Verdict::Internal)?;
    let header_len = usize::from(ip[0] & 0x0f) * 4;
    let fragment = u16::from_be_bytes([ip[6], ip[7]]) & (MORE_FRAGMENTS | FRAGMENT_OFFSET) != 0;
    let mut option = [0; toa::LEN_V6 as usize];
    let len = toa::write(&mut option, UOA, address, l4_port)?;
    let option = option.get(..len).ok_or(Verdict::Internal)?;
    let fits = header_len + len <= IP_HEADER_MAX && layout.ip_len + len <= mtu;
    if fragment || !fits || !packet.prepend(len) {
        return Ok(Inserted::NoRoom);
    }
    let bytes = packet.bytes_mut();
    let options_at = layout.l3 + IP_HEADER_MIN;
    if bytes.len() < options_at + len {
        return Err(Verdict::Internal);
    }
    bytes.copy_within(len..len + options_at, 0);
    bytes.get_mut(options_at..options_at + len).ok_or(Verdict::Internal)?.copy_from_slice(option);

    let mut sum = Sum::of(checksum::sum(option));
    let ip = chunk_at_mut::<IP_HEADER_MIN>(bytes, layout.l3).ok_or(Verdict::Internal)?;
    // The length of the header stands in the low half of the first byte, in words of four.
    let longer = ip[0] + len as u8 / 4;
    sum.add(checksum::delta_u16(u16::from_be_bytes([ip[0], 0]), u16::from_be_bytes([longer, 0])));
    ip[0] = longer;
    let old_len = u16::from_be_bytes([ip[2], ip[3]]);
    let new_len = old_len.wrapping_add(len as u16);
    sum.add(checksum::delta_u16(old_len, new_len));
    [ip[2], ip[3]] = new_len.to_be_bytes();
    let header_sum = u16::from_be_bytes([ip[10], ip[11]]);
    [ip[10], ip[11]] = checksum::apply(header_sum, sum.fold()).to_be_bytes();
    Ok(Inserted::Yes)
}

/// A header of destination options between IPv6 and UDP. No checksum has anything of it.
fn insert_v6<P: Packet, A: Address>(
    packet: &mut P,
    layout: Layout,
    (address, l4_port): (A, u16),
    mtu: usize,
) -> Result<Inserted, Verdict> {
    let bytes = packet.bytes_mut();
    let ip = chunk_at_mut::<{ ipv6::LEN }>(bytes, layout.l3).ok_or(Verdict::Internal)?;
    let next = ip[6];
    // The option is the first thing behind the fixed header or nowhere: there the server looks for it.
    if is_extension(next) || layout.ip_len + HEADER_LEN6 > mtu || !packet.prepend(HEADER_LEN6) {
        return Ok(Inserted::NoRoom);
    }
    let bytes = packet.bytes_mut();
    let options_at = layout.l3 + ipv6::LEN;
    if bytes.len() < options_at + HEADER_LEN6 {
        return Err(Verdict::Internal);
    }
    bytes.copy_within(HEADER_LEN6..HEADER_LEN6 + options_at, 0);
    let octets = match address.to_ip() {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    };
    let header = chunk_at_mut::<HEADER_LEN6>(bytes, options_at).ok_or(Verdict::Internal)?;
    let [p, q] = l4_port.to_be_bytes();
    *header = [0; HEADER_LEN6];
    // The kind and length of the option count nothing of themselves; what is left is padding of two bytes.
    [header[0], header[1], header[2], header[3], header[4], header[5]] =
        [next, HEADER_LEN6 as u8 / 8 - 1, UOA6, 2 + octets.len() as u8, p, q];
    header[22] = PAD;
    *chunk_at_mut(header, 6).ok_or(Verdict::Internal)? = octets;
    let ip = chunk_at_mut::<{ ipv6::LEN }>(bytes, layout.l3).ok_or(Verdict::Internal)?;
    ip[6] = DESTINATION_OPTIONS;
    let new_len = u16::from_be_bytes([ip[4], ip[5]]).wrapping_add(HEADER_LEN6 as u16);
    [ip[4], ip[5]] = new_len.to_be_bytes();
    Ok(Inserted::Yes)
}

/// Makes padding of the client's own options of that kind, in whichever header: which one is the first that the
/// server sees is not known of a fragment.
fn blank_v6(bytes: &mut [u8], layout: Layout, first: u8) -> Result<(), Verdict> {
    let (mut kind, mut at) = (first, layout.l3 + ipv6::LEN);
    // Each turn goes at least eight bytes on in what the parser bounds to 512.
    while at < layout.l4 && is_extension(kind) {
        let head = chunk_at_mut::<8>(bytes, at).ok_or(Verdict::Internal)?;
        let (next, len) = (head[0], header_len(kind, head));
        if kind == DESTINATION_OPTIONS {
            blank_options_v6(bytes.get_mut(at + 2..at + len).ok_or(Verdict::Internal)?);
        }
        (kind, at) = (next, at + len);
    }
    Ok(())
}

fn blank_options_v6(options: &mut [u8]) {
    let mut at = 0;
    while let Some(&kind) = options.get(at) {
        if kind == PAD_ONE {
            at += 1;
            continue;
        }
        let Some(&len) = options.get(at + 1) else { return };
        let end = at + 2 + usize::from(len);
        let Some([kind, _, data @ ..]) = options.get_mut(at..end) else { return };
        if *kind == UOA6 {
            *kind = PAD;
            data.fill(0);
        }
        at = end;
    }
}

/// Writes NOPs over options 31 of the client's own. What is malformed ends the list, for the server as for us.
fn blank_v4(bytes: &mut [u8], l3: usize, header_len: usize) -> Result<(), Verdict> {
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
