//! The TCP option that shows a real server its client: DPVS's and LVS's `toa`.
//!
//! Kind 254, length 8 or 20, the client's port and its IPv4 or IPv6 address, right behind the fixed TCP
//! header. It goes with what the client sends until the server's first data is acknowledged (the
//! handshake's ACK and early data), never with SYN or RST. A client's own never passes, on no segment of FullNAT's.

use std::net::IpAddr;

use types::{Address, Packet, Verdict};
use wire::{checksum, chunk_at_mut};

use crate::options::{Sum, TOA};
use crate::rewrite::Layout;

/// Length of the option for an IPv4 client, in bytes.
pub const LEN: u16 = 8;
/// Length of the option for an IPv6 client, in bytes.
pub const LEN_V6: u16 = 20;
/// A TCP header is 60 bytes at most (RFC 9293 §3.1).
const TCP_HEADER_MAX: usize = 60;
const TCP_HEADER_MIN: usize = 20;

/// What became of the option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It is in.
    Yes,
    /// The header, the way out or the packet's memory has no room for it; the packet is unchanged.
    NoRoom,
}

/// Length of the option for a client, in bytes.
#[inline(always)]
pub fn len<A: Address>(client: A) -> u16 {
    if client.to_ip().is_ipv4() { LEN } else { LEN_V6 }
}

/// Inserts the option for `client` (address, port) into a translated packet, if there is room for it
/// in the TCP header, within `mtu` and in memory. No other option makes way.
///
/// # Errors
/// [`Verdict::Internal`] if the layout is not this packet's.
pub fn insert<P: Packet, A: Address>(
    packet: &mut P,
    layout: Layout,
    (address, l4_port): (A, u16),
    mtu: usize,
) -> Result<Inserted, Verdict> {
    let mut option = [0; LEN_V6 as usize];
    let len = write(&mut option, TOA, address, l4_port)?;
    let option = option.get(..len).ok_or(Verdict::Internal)?;
    let options_at = layout.l4 + TCP_HEADER_MIN;
    let header_len = {
        let offset = packet.bytes().get(layout.l4 + 12).ok_or(Verdict::Internal)?;
        usize::from(offset >> 4) * 4
    };
    if header_len + len > TCP_HEADER_MAX || layout.ip_len + len > mtu || !packet.prepend(len) {
        return Ok(Inserted::NoRoom);
    }
    let bytes = packet.bytes_mut();
    if bytes.len() < options_at + len {
        return Err(Verdict::Internal);
    }
    bytes.copy_within(len..len + options_at, 0);
    bytes.get_mut(options_at..options_at + len).ok_or(Verdict::Internal)?.copy_from_slice(option);
    grow_headers(bytes, layout, len as u16, Sum::of(checksum::sum(option)))?;
    Ok(Inserted::Yes)
}

/// Writes an option of a kind: its length, which is returned, port and address.
#[inline(always)]
pub(crate) fn write<A: Address>(
    option: &mut [u8; LEN_V6 as usize],
    kind: u8,
    address: A,
    l4_port: u16,
) -> Result<usize, Verdict> {
    let len = usize::from(len(address));
    let [p, q] = l4_port.to_be_bytes();
    *chunk_at_mut::<4>(option, 0).ok_or(Verdict::Internal)? = [kind, len as u8, p, q];
    match address.to_ip() {
        IpAddr::V4(address) => {
            *chunk_at_mut(option, 4).ok_or(Verdict::Internal)? = address.octets();
        }
        IpAddr::V6(address) => {
            *chunk_at_mut(option, 4).ok_or(Verdict::Internal)? = address.octets();
        }
    }
    Ok(len)
}

/// Adds the option's length to that of the IP packet, to the TCP data offset and to the pseudo-header.
fn grow_headers(bytes: &mut [u8], layout: Layout, len: u16, mut sum: Sum) -> Result<(), Verdict> {
    let is_ipv6 = bytes.get(layout.l3).ok_or(Verdict::Internal)? >> 4 == 6;
    let ip = chunk_at_mut::<20>(bytes, layout.l3).ok_or(Verdict::Internal)?;
    let length_delta = if is_ipv6 {
        // It counts what follows the header, and so do the pseudo header's 32 bits.
        let old_len = u16::from_be_bytes([ip[4], ip[5]]);
        let new_len = old_len.wrapping_add(len);
        [ip[4], ip[5]] = new_len.to_be_bytes();
        checksum::delta_u16(old_len, new_len)
    } else {
        let old_len = u16::from_be_bytes([ip[2], ip[3]]);
        let new_len = old_len.wrapping_add(len);
        [ip[2], ip[3]] = new_len.to_be_bytes();
        let length_delta = checksum::delta_u16(old_len, new_len);
        let header_sum = u16::from_be_bytes([ip[10], ip[11]]);
        [ip[10], ip[11]] = checksum::apply(header_sum, length_delta).to_be_bytes();
        length_delta
    };
    let tcp = chunk_at_mut::<TCP_HEADER_MIN>(bytes, layout.l4).ok_or(Verdict::Internal)?;
    let old_word = u16::from_be_bytes([tcp[12], tcp[13]]);
    let new_word = old_word.wrapping_add((len / 4) << 12);
    [tcp[12], tcp[13]] = new_word.to_be_bytes();
    sum.add(checksum::delta_u16(old_word, new_word));
    sum.add(length_delta);
    let tcp_sum = u16::from_be_bytes([tcp[16], tcp[17]]);
    [tcp[16], tcp[17]] = checksum::apply(tcp_sum, sum.fold()).to_be_bytes();
    Ok(())
}
