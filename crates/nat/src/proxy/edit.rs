//! What a header of the PROXY protocol makes to be changed in packets: bytes put in and taken out, numbers moved.

use types::{Packet, Proto, Verdict};
use wire::{checksum, chunk_at_mut, tcp, tcp_options};

use super::Place;
use crate::options::{self, Sum};

/// TCP Fast Open (RFC 7413).
const FAST_OPEN: u8 = 34;

/// Takes the first `len` bytes of the payload out, with no number changed but lengths and checksums. The whole packet
/// has to be in its first segment.
///
/// # Errors
/// [`Verdict::Internal`] if the place is not this packet's.
pub fn cut<P: Packet>(
    packet: &mut P,
    place: Place,
    proto: Proto,
    len: usize,
) -> Result<(), Verdict> {
    let bytes = packet.bytes_mut();
    let old = bytes.get(place.payload..place.end).ok_or(Verdict::Internal)?;
    let (out, rest) = old.split_at_checked(len).ok_or(Verdict::Internal)?;
    // Behind an odd number of bytes the rest falls into the other halves of the sum's words.
    let mut sum = Sum::of(!checksum::sum(out));
    if len & 1 == 1 {
        let rest = checksum::sum(rest);
        sum.add(!rest.swap_bytes());
        sum.add(rest);
    }
    change_lengths(bytes, place, proto, (len as u16).wrapping_neg(), sum)?;
    bytes.copy_within(..place.payload, len);
    if packet.trim(len) { Ok(()) } else { Err(Verdict::Internal) }
}

/// Puts `data`, an even number of bytes, before the payload.
///
/// # Errors
/// [`Verdict::NoRoom`] without room in memory, the packet is unchanged then; [`Verdict::Internal`] if the place is not
/// this packet's.
pub fn insert<P: Packet>(
    packet: &mut P,
    place: Place,
    proto: Proto,
    data: &[u8],
) -> Result<(), Verdict> {
    debug_assert!(data.len().is_multiple_of(2));
    if !packet.prepend(data.len()) {
        return Err(Verdict::NoRoom);
    }
    let bytes = packet.bytes_mut();
    let behind = place.payload + data.len();
    if bytes.len() < behind {
        return Err(Verdict::Internal);
    }
    bytes.copy_within(data.len()..behind, 0);
    bytes.get_mut(place.payload..behind).ok_or(Verdict::Internal)?.copy_from_slice(data);
    change_lengths(bytes, place, proto, data.len() as u16, Sum::of(checksum::sum(data)))
}

/// Adds to the lengths of IP packet and datagram. `sum` is what the payload's change makes.
fn change_lengths(
    bytes: &mut [u8],
    place: Place,
    proto: Proto,
    by: u16,
    mut sum: Sum,
) -> Result<(), Verdict> {
    let ip = chunk_at_mut::<20>(bytes, place.l3).ok_or(Verdict::Internal)?;
    let field = if ip[0] >> 4 == 6 { 4 } else { 2 };
    let is_v4 = field == 2;
    let length = chunk_at_mut::<2>(ip, field).ok_or(Verdict::Internal)?;
    let old = u16::from_be_bytes(*length);
    let new = old.wrapping_add(by);
    *length = new.to_be_bytes();
    // The length of the pseudo header changes by as much.
    let delta = checksum::delta_u16(old, new);
    sum.add(delta);
    if is_v4 {
        let header = u16::from_be_bytes([ip[10], ip[11]]);
        [ip[10], ip[11]] = checksum::apply(header, delta).to_be_bytes();
    }
    if proto == Proto::Udp {
        let udp = chunk_at_mut::<8>(bytes, place.l4).ok_or(Verdict::Internal)?;
        let old = u16::from_be_bytes([udp[4], udp[5]]);
        let new = old.wrapping_add(by);
        [udp[4], udp[5]] = new.to_be_bytes();
        sum.add(checksum::delta_u16(old, new));
        let old = u16::from_be_bytes([udp[6], udp[7]]);
        [udp[6], udp[7]] = checksum::apply_udp(old, sum.fold()).to_be_bytes();
        return Ok(());
    }
    change_checksum(bytes, place.l4, sum)
}

fn change_checksum(bytes: &mut [u8], l4: usize, sum: Sum) -> Result<(), Verdict> {
    let tcp = chunk_at_mut::<20>(bytes, l4).ok_or(Verdict::Internal)?;
    let changed = checksum::apply(u16::from_be_bytes([tcp[16], tcp[17]]), sum.fold());
    [tcp[16], tcp[17]] = changed.to_be_bytes();
    Ok(())
}

/// Adds to the sequence number of a segment.
///
/// # Errors
/// [`Verdict::Internal`] if there is no segment.
pub fn shift_sequence(bytes: &mut [u8], l4: usize, by: u32) -> Result<(), Verdict> {
    let mut sum = Sum::default();
    let tcp = chunk_at_mut::<20>(bytes, l4).ok_or(Verdict::Internal)?;
    options::shift(tcp, 4, by, &mut sum);
    change_checksum(bytes, l4, sum)
}

/// Takes `by` off the window that is advertised, but not more than there is.
///
/// # Errors
/// [`Verdict::Internal`] if there is no segment.
pub fn shrink_window(bytes: &mut [u8], l4: usize, by: u16) -> Result<(), Verdict> {
    let tcp = chunk_at_mut::<20>(bytes, l4).ok_or(Verdict::Internal)?;
    let old = u16::from_be_bytes([tcp[14], tcp[15]]);
    let new = old.saturating_sub(by);
    [tcp[14], tcp[15]] = new.to_be_bytes();
    change_checksum(bytes, l4, Sum::of(checksum::delta_u16(old, new)))
}

/// Makes numbers that acknowledge nothing behind `edge` acknowledge all before it: the ACK number and the edges of SACK
/// blocks. A block of which nothing is left goes. What the window is ahead of the ACK number then it is shortened by.
///
/// # Errors
/// [`Verdict::Internal`] if there is no segment.
pub fn hide(bytes: &mut [u8], l4: usize, edge: u32) -> Result<(), Verdict> {
    let tcp = chunk_at_mut::<20>(bytes, l4).ok_or(Verdict::Internal)?;
    let header_len = usize::from(tcp[12] >> 4) * 4;
    let mut sum = Sum::default();
    let ack = u32::from_be_bytes([tcp[8], tcp[9], tcp[10], tcp[11]]);
    let missing = ahead(edge, ack);
    if tcp[13] & tcp::ACK != 0 && missing > 0 {
        options::shift(tcp, 8, missing as u32, &mut sum);
        // How the window is scaled is not known here: what is taken off is enough, however it is.
        let old = u16::from_be_bytes([tcp[14], tcp[15]]);
        let new = old.saturating_sub(u16::try_from(missing).unwrap_or(u16::MAX));
        [tcp[14], tcp[15]] = new.to_be_bytes();
        sum.add(checksum::delta_u16(old, new));
    }
    if header_len > 20 {
        let options = bytes.get_mut(l4 + 20..l4 + header_len).ok_or(Verdict::Internal)?;
        sum.add(hide_blocks(options, edge));
    }
    change_checksum(bytes, l4, sum)
}

/// How far one number is ahead of another.
const fn ahead(of: u32, from: u32) -> i32 {
    of.wrapping_sub(from) as i32
}

/// The SACK blocks of a segment behind `edge`; the difference to the checksum.
fn hide_blocks(options: &mut [u8], edge: u32) -> u16 {
    let found = tcp_options::iter(options)
        .find(|option| option.kind == tcp_options::SACK && option.data.len() % 8 == 0)
        .map(|option| (option.offset, option.data.len()));
    let Some((at, len)) = found else { return 0 };
    let Some(option) = options.get_mut(at..at + 2 + len) else { return 0 };
    let mut new = [tcp_options::NOP; tcp_options::MAX_LEN];
    let mut end = 2;
    for block in option.get(2..).unwrap_or_default().as_chunks::<8>().0 {
        let [a, b, c, d, e, f, g, h] = *block;
        let edges = [u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])];
        let [left, right] = edges.map(|number| if ahead(edge, number) > 0 { edge } else { number });
        if left != right
            && let Some(place) = chunk_at_mut::<8>(&mut new, end)
        {
            let [a, b, c, d] = left.to_be_bytes();
            let [e, f, g, h] = right.to_be_bytes();
            *place = [a, b, c, d, e, f, g, h];
            end += 8;
        }
    }
    if end > 2 {
        [new[0], new[1]] = [tcp_options::SACK, end as u8];
    }
    let Some(new) = new.get(..option.len()) else { return 0 };
    let delta = checksum::delta_bytes(at, option, new);
    option.copy_from_slice(new);
    delta
}

/// Overwrites options of TCP Fast Open: what a client sends with its SYN would come before any header.
///
/// # Errors
/// [`Verdict::Internal`] if there is no segment.
pub fn strip_fast_open(bytes: &mut [u8], l4: usize) -> Result<(), Verdict> {
    let tcp = chunk_at_mut::<20>(bytes, l4).ok_or(Verdict::Internal)?;
    let header_len = usize::from(tcp[12] >> 4) * 4;
    if header_len <= 20 {
        return Ok(());
    }
    let options = bytes.get_mut(l4 + 20..l4 + header_len).ok_or(Verdict::Internal)?;
    let mut sum = Sum::default();
    let find = |options: &[u8]| {
        tcp_options::iter(options)
            .find(|option| option.kind == FAST_OPEN)
            .map(|option| (option.offset, option.data.len() + 2))
    };
    // Each turn leaves one less.
    while let Some((at, len)) = find(options) {
        options::blank(options, at, len, &mut sum);
    }
    change_checksum(bytes, l4, sum)
}
