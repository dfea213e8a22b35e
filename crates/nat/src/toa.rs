//! The TCP option that shows a real server its client: DPVS's and LVS's `toa`.
//!
//! Kind 254, length 8, the client's port and IPv4 address, right behind the fixed TCP header. It goes
//! with what the client sends until the server's first data is acknowledged (the handshake's ACK and
//! early data), never with SYN or RST.

use types::{Packet, Verdict};
use wire::{checksum, chunk_at_mut};

use crate::options::{Sum, TOA};
use crate::rewrite::Layout;

/// Length of the option for an IPv4 client, in bytes.
pub const LEN: usize = 8;
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

/// Inserts the option for `client` (address, port) into a translated packet, if there is room for it
/// in the TCP header, within `mtu` and in memory. No other option makes way.
///
/// # Errors
/// [`Verdict::Internal`] if the layout is not this packet's.
pub fn insert<P: Packet>(
    packet: &mut P,
    layout: Layout,
    client: (u32, u16),
    mtu: usize,
) -> Result<Inserted, Verdict> {
    let options_at = layout.l4 + TCP_HEADER_MIN;
    let header_len = {
        let offset = packet.bytes().get(layout.l4 + 12).ok_or(Verdict::Internal)?;
        usize::from(offset >> 4) * 4
    };
    if header_len + LEN > TCP_HEADER_MAX || layout.ip_len + LEN > mtu || !packet.prepend(LEN) {
        return Ok(Inserted::NoRoom);
    }
    let bytes = packet.bytes_mut();
    if bytes.len() < options_at + LEN {
        return Err(Verdict::Internal);
    }
    bytes.copy_within(LEN..LEN + options_at, 0);
    let (address, l4_port) = client;
    let option = chunk_at_mut::<LEN>(bytes, options_at).ok_or(Verdict::Internal)?;
    let [a, b, c, d] = address.to_be_bytes();
    let [p, q] = l4_port.to_be_bytes();
    *option = [TOA, LEN as u8, p, q, a, b, c, d];

    let mut sum = Sum::of(u16::from_be_bytes([TOA, LEN as u8]));
    sum.add(l4_port);
    sum.add((address >> 16) as u16);
    sum.add(address as u16);
    grow_headers(bytes, layout, sum)?;
    Ok(Inserted::Yes)
}

/// Adds the option's length to the IPv4 total length, the TCP data offset and the pseudo-header.
fn grow_headers(bytes: &mut [u8], layout: Layout, mut sum: Sum) -> Result<(), Verdict> {
    let ip = chunk_at_mut::<20>(bytes, layout.l3).ok_or(Verdict::Internal)?;
    let old_len = u16::from_be_bytes([ip[2], ip[3]]);
    let new_len = old_len.wrapping_add(LEN as u16);
    [ip[2], ip[3]] = new_len.to_be_bytes();
    let header_sum = u16::from_be_bytes([ip[10], ip[11]]);
    let length_delta = checksum::delta_u16(old_len, new_len);
    [ip[10], ip[11]] = checksum::apply(header_sum, length_delta).to_be_bytes();

    let tcp = chunk_at_mut::<TCP_HEADER_MIN>(bytes, layout.l4).ok_or(Verdict::Internal)?;
    let old_word = u16::from_be_bytes([tcp[12], tcp[13]]);
    let new_word = old_word.wrapping_add((LEN as u16 / 4) << 12);
    [tcp[12], tcp[13]] = new_word.to_be_bytes();
    sum.add(checksum::delta_u16(old_word, new_word));
    sum.add(length_delta);
    let tcp_sum = u16::from_be_bytes([tcp[16], tcp[17]]);
    [tcp[16], tcp[17]] = checksum::apply(tcp_sum, sum.fold()).to_be_bytes();
    Ok(())
}
