//! TCP segments of our own that carry data.

use types::{FlowKey, MacAddr, Proto};

use crate::{Tcp, checksum, chunk_at_mut, ethernet, ipv4, ipv6, tcp, tcp_options};

/// Two NOPs and the timestamps, as stacks begin most segments.
const TIMESTAMPS_LEN: usize = 12;

/// Longest frame of a segment in bytes, without its data.
pub const HEADERS_MAX: usize = ethernet::LEN + ipv6::LEN + tcp::LEN + TIMESTAMPS_LEN;

/// A segment that is to be sent, with PSH and ACK.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a, A = u32> {
    /// The tuple.
    pub key: FlowKey<A>,
    /// Sequence number of the first byte.
    pub seq: u32,
    /// The number that is acknowledged.
    pub ack: u32,
    /// The window, scaled as agreed.
    pub window: u16,
    /// TSval and TSecr, if both sides have agreed on timestamps.
    pub timestamps: Option<(u32, u32)>,
    /// The data.
    pub payload: &'a [u8],
}

/// Writes a segment behind an Ethernet header without stations, and returns the frame's length in bytes; `None` if `bytes`
/// are shorter.
pub fn write_segment(bytes: &mut [u8], segment: &Segment<'_>) -> Option<usize> {
    let none = MacAddr::default();
    let l3 = ethernet::write(bytes, none, none, 0, ethernet::IPV4)?;
    let (source, destination, protocol) = (segment.key.src, segment.key.dst, Proto::Tcp.number());
    let len = segment.len()?;
    let total_len = len.checked_add(ipv4::LEN as u16)?;
    ipv4::Repr { source, destination, protocol, tos: 0, total_len }.write(bytes, l3)?;
    let pseudo = checksum::pseudo_header(source, destination, protocol, len);
    segment.write(bytes, l3.wrapping_add(ipv4::LEN), pseudo)
}

/// [`write_segment`] for IPv6.
pub fn write_segment6(bytes: &mut [u8], segment: &Segment<'_, u128>) -> Option<usize> {
    let none = MacAddr::default();
    let l3 = ethernet::write(bytes, none, none, 0, ethernet::IPV6)?;
    let (source, destination, protocol) = (segment.key.src, segment.key.dst, Proto::Tcp.number());
    let len = segment.len()?;
    ipv6::Repr::new(source, destination, protocol, len).write(bytes, l3)?;
    let pseudo = checksum::pseudo_header_v6(source, destination, protocol, len.into());
    segment.write(bytes, l3.wrapping_add(ipv6::LEN), pseudo)
}

impl<A> Segment<'_, A> {
    const fn header_len(&self) -> usize {
        if self.timestamps.is_some() { tcp::LEN + TIMESTAMPS_LEN } else { tcp::LEN }
    }

    /// Of header and data.
    fn len(&self) -> Option<u16> {
        u16::try_from(self.header_len().checked_add(self.payload.len())?).ok()
    }

    /// The segment, of which `pseudo` is the sum of the pseudo header. Returns its end.
    fn write(&self, bytes: &mut [u8], l4: usize, pseudo: u16) -> Option<usize> {
        let mut header = Tcp::at_mut(bytes, l4)?;
        header.set_sport(self.key.sport);
        header.set_dport(self.key.dport);
        header.set_seq(self.seq);
        header.set_ack(self.ack);
        header.set_data_offset((self.header_len() as u8) << 2);
        header.set_flags(tcp::PSH | tcp::ACK);
        header.set_window(self.window);
        header.set_checksum(0);
        header.set_urgent(0);
        if let Some((value, echo)) = self.timestamps {
            let options = chunk_at_mut::<TIMESTAMPS_LEN>(bytes, l4.wrapping_add(tcp::LEN))?;
            let [a, b, c, d] = value.to_be_bytes();
            let [e, f, g, h] = echo.to_be_bytes();
            let (nop, kind) = (tcp_options::NOP, tcp_options::TIMESTAMPS);
            *options = [nop, nop, kind, 10, a, b, c, d, e, f, g, h];
        }
        let data = l4.wrapping_add(self.header_len());
        let end = data.wrapping_add(self.payload.len());
        bytes.get_mut(data..end)?.copy_from_slice(self.payload);
        let sum = checksum::add(pseudo, checksum::sum(bytes.get(l4..end)?));
        Tcp::at_mut(bytes, l4)?.set_checksum(!sum);
        Some(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums of the whole segment with its pseudo header.
    #[test]
    fn sums_and_lengths_are_right() {
        let payload = b"PROXY UNKNOWN\r\n!";
        for timestamps in [None, Some((7, 9))] {
            let mut bytes = [0xa5; 200];
            let key = FlowKey {
                src: 0x0a00_0001,
                dst: 0x0a00_0002,
                sport: 3,
                dport: 4,
                zone: 0,
                proto: 6,
            };
            let segment = Segment { key, seq: 5, ack: 6, window: 7, timestamps, payload };
            let end = write_segment(&mut bytes, &segment).unwrap();
            let mut parsed = crate::Parsed::default();
            crate::parse(&bytes[..end], end, &mut parsed).unwrap();
            assert_eq!((parsed.key, parsed.ip_end()), (key, end));
            assert_eq!(&bytes[usize::from(parsed.payload)..end], payload);
            let l4 = usize::from(parsed.l4);
            let pseudo = checksum::pseudo_header(key.src, key.dst, 6, (end - l4) as u16);
            assert_eq!(checksum::add(pseudo, checksum::sum(&bytes[l4..end])), 0xffff);
            let found = tcp_options::find_timestamps(&bytes[l4 + 20..usize::from(parsed.payload)]);
            assert_eq!(found.map(|found| (found.value, found.echo)), timestamps);

            let key =
                FlowKey { src: 1 << 100, dst: 2 << 100, sport: 3, dport: 4, zone: 0, proto: 6 };
            let segment = Segment { key, seq: 5, ack: 6, window: 7, timestamps, payload };
            let end = write_segment6(&mut bytes, &segment).unwrap();
            let mut parsed = crate::Parsed6::default();
            crate::parse6(&bytes[..end], end, &mut parsed).unwrap();
            assert_eq!((parsed.key, parsed.ip_end()), (key, end));
            let l4 = usize::from(parsed.l4);
            let pseudo = checksum::pseudo_header_v6(key.src, key.dst, 6, (end - l4) as u32);
            assert_eq!(checksum::add(pseudo, checksum::sum(&bytes[l4..end])), 0xffff);
            for short in 0..end {
                assert_eq!(write_segment6(&mut bytes[..short], &segment), None);
            }
        }
    }
}
