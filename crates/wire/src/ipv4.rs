//! The IPv4 header (RFC 791).

use crate::checksum;

/// Fragment field: more fragments follow.
pub const MORE_FRAGMENTS: u16 = 0x2000;
/// Fragment field: do not fragment.
pub const DONT_FRAGMENT: u16 = 0x4000;
/// Fragment field: offset of this fragment, in units of 8 bytes.
pub const FRAGMENT_OFFSET: u16 = 0x1fff;
/// TTL of packets of our own.
pub const DEFAULT_TTL: u8 = 64;

view! {
    /// The fixed part of an IPv4 header.
    Ipv4[20] {
        /// Version in the high nibble, header length in 32-bit words in the low one.
        version_ihl, set_version_ihl: u8 @ 0;
        /// DSCP and ECN.
        tos, set_tos: u8 @ 1;
        /// Length of the packet in bytes, header included.
        total_len, set_total_len: u16 @ 2;
        /// Identification of the fragments of one packet.
        ident, set_ident: u16 @ 4;
        /// Flags and fragment offset.
        fragment, set_fragment: u16 @ 6;
        /// Time to live.
        ttl, set_ttl: u8 @ 8;
        /// IANA protocol number.
        protocol, set_protocol: u8 @ 9;
        /// Checksum of the header.
        checksum, set_checksum: u16 @ 10;
        /// Source address.
        source, set_source: u32 @ 12;
        /// Destination address.
        destination, set_destination: u32 @ 16;
    }
}

impl<B: std::ops::Deref<Target = [u8; LEN]>> Ipv4<B> {
    /// Length of the header in bytes as it says itself, with options.
    #[inline(always)]
    pub fn header_len(&self) -> usize {
        usize::from(self.version_ihl() & 0x0f).wrapping_mul(4)
    }
}

impl<B: std::ops::DerefMut<Target = [u8; LEN]>> Ipv4<B> {
    /// Adds a delta of [`checksum`] to the header's checksum (RFC 1624).
    #[inline(always)]
    pub fn adjust_checksum(&mut self, delta: u16) {
        self.set_checksum(checksum::apply(self.checksum(), delta));
    }
}

/// A header without options, to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Source address.
    pub source: u32,
    /// Destination address.
    pub destination: u32,
    /// IANA protocol number.
    pub protocol: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// Length of the packet in bytes, header included.
    pub total_len: u16,
}

impl Repr {
    /// Writes the header at `offset` with its checksum; `None` if it does not fit. It is not to be
    /// fragmented and so needs no identification (RFC 6864 §4.1).
    #[inline]
    pub fn write(&self, bytes: &mut [u8], offset: usize) -> Option<()> {
        let mut header = Ipv4::at_mut(bytes, offset)?;
        header.set_version_ihl(0x45);
        header.set_tos(self.tos);
        header.set_total_len(self.total_len);
        header.set_ident(0);
        header.set_fragment(DONT_FRAGMENT);
        header.set_ttl(DEFAULT_TTL);
        header.set_protocol(self.protocol);
        header.set_checksum(0);
        header.set_source(self.source);
        header.set_destination(self.destination);
        header.set_checksum(!checksum::sum_20(header.as_bytes()));
        Some(())
    }
}

/// True for an address that no packet can come from: "this network", loopback, multicast and the
/// limited broadcast (RFC 1122 §3.2.1.3).
#[inline(always)]
pub const fn is_bad_source(address: u32) -> bool {
    !match address >> 24 {
        1..=126 | 128..=223 => true,
        240..=255 => address != u32::MAX,
        _ => false,
    }
}

/// True for multicast and the limited broadcast.
#[inline(always)]
pub const fn is_multicast_or_broadcast(address: u32) -> bool {
    address >> 28 == 0xe || address == u32::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    view_tests!(Ipv4 {
        version_ihl, set_version_ihl = 0x46_u8;
        tos, set_tos = 1_u8;
        total_len, set_total_len = 0x0102_u16;
        ident, set_ident = 0x0102_u16;
        fragment, set_fragment = 0x4001_u16;
        ttl, set_ttl = 64_u8;
        protocol, set_protocol = 6_u8;
        checksum, set_checksum = 0x0102_u16;
        source, set_source = 0x0102_0304_u32;
        destination, set_destination = 0x0102_0304_u32;
    });

    #[test]
    fn a_written_header_has_a_right_checksum() {
        let repr = Repr {
            source: 0x0a00_0001,
            destination: 0x0a00_0002,
            protocol: 6,
            tos: 0,
            total_len: 40,
        };
        let mut bytes = [0xa5; 24];
        repr.write(&mut bytes, 4).unwrap();
        assert_eq!(checksum::sum(&bytes[4..]), 0xffff);
        assert_eq!(repr.write(&mut bytes, 5), None);
        let mut header = Ipv4::at_mut(&mut bytes, 4).unwrap();
        assert_eq!(header.header_len(), 20);
        header.set_source(0x0b00_0001);
        header.adjust_checksum(checksum::delta_u32(0x0a00_0001, 0x0b00_0001));
        assert_eq!(checksum::sum(&bytes[4..]), 0xffff);
    }

    #[test]
    fn sources_that_no_host_may_have() {
        for bad in
            [[0, 0, 0, 0], [0, 1, 2, 3], [127, 0, 0, 1], [224, 0, 0, 1], [239, 1, 1, 1], [255; 4]]
        {
            assert!(is_bad_source(u32::from_be_bytes(bad)), "{bad:?}");
        }
        for good in [
            [1, 0, 0, 1],
            [10, 0, 0, 1],
            [126, 255, 255, 255],
            [128, 0, 0, 1],
            [223, 1, 1, 1],
            [240, 0, 0, 1],
        ] {
            assert!(!is_bad_source(u32::from_be_bytes(good)), "{good:?}");
        }
        assert!(is_multicast_or_broadcast(0xe000_0001));
        assert!(!is_multicast_or_broadcast(0xf000_0001));
    }
}
