//! The TCP header (RFC 9293 §3.1).

use crate::checksum;

/// Flag: no more data from the sender.
pub const FIN: u8 = 0x01;
/// Flag: synchronize sequence numbers.
pub const SYN: u8 = 0x02;
/// Flag: reset the connection.
pub const RST: u8 = 0x04;
/// Flag: push.
pub const PSH: u8 = 0x08;
/// Flag: the acknowledgment field counts.
pub const ACK: u8 = 0x10;
/// Flag: the urgent pointer counts.
pub const URG: u8 = 0x20;
/// Flag: ECN echo (RFC 3168).
pub const ECE: u8 = 0x40;
/// Flag: congestion window reduced (RFC 3168).
pub const CWR: u8 = 0x80;

/// Longest header in bytes, options included.
pub const MAX_LEN: usize = 60;

view! {
    /// The fixed part of a TCP header.
    Tcp[20] {
        /// Source port.
        sport, set_sport: u16 @ 0;
        /// Destination port.
        dport, set_dport: u16 @ 2;
        /// Sequence number.
        seq, set_seq: u32 @ 4;
        /// Acknowledgment number; counts only with [`ACK`].
        ack, set_ack: u32 @ 8;
        /// Header length in 32-bit words in the high nibble.
        data_offset, set_data_offset: u8 @ 12;
        /// Flags.
        flags, set_flags: u8 @ 13;
        /// Window, not scaled.
        window, set_window: u16 @ 14;
        /// Checksum over pseudo header, header and data.
        checksum, set_checksum: u16 @ 16;
        /// Urgent pointer.
        urgent, set_urgent: u16 @ 18;
    }
}

impl<B: std::ops::Deref<Target = [u8; LEN]>> Tcp<B> {
    /// Length of the header in bytes as it says itself, with options.
    #[inline(always)]
    pub fn header_len(&self) -> usize {
        usize::from(self.data_offset() >> 4).wrapping_mul(4)
    }
}

impl<B: std::ops::DerefMut<Target = [u8; LEN]>> Tcp<B> {
    /// Adds a delta of [`checksum`] to the segment's checksum (RFC 1624).
    #[inline(always)]
    pub fn adjust_checksum(&mut self, delta: u16) {
        self.set_checksum(checksum::apply(self.checksum(), delta));
    }
}

/// True for flags that a segment may have: some, and SYN neither with FIN nor with RST.
#[inline(always)]
pub const fn flags_are_sane(flags: u8) -> bool {
    /// One bit for each combination of the six classic flags.
    const SANE: u64 = {
        let mut sane = 0u64;
        let mut flags = 1u8;
        while flags < 64 {
            if flags & SYN == 0 || flags & (FIN | RST) == 0 {
                sane |= 1 << flags;
            }
            flags += 1;
        }
        sane
    };
    SANE >> (flags & 0x3f) & 1 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    view_tests!(Tcp {
        sport, set_sport = 0x0102_u16;
        dport, set_dport = 0x0102_u16;
        seq, set_seq = 0x0102_0304_u32;
        ack, set_ack = 0x0102_0304_u32;
        data_offset, set_data_offset = 0x50_u8;
        flags, set_flags = SYN | ACK;
        window, set_window = 0x0102_u16;
        checksum, set_checksum = 0x0102_u16;
        urgent, set_urgent = 0x0102_u16;
    });

    #[test]
    fn insane_flags_are_told() {
        for bad in [0, SYN | FIN, SYN | RST, SYN | ACK | FIN, SYN | RST | ACK, ECE | CWR, 0xff] {
            assert!(!flags_are_sane(bad), "{bad:#x}");
        }
        for good in
            [SYN, SYN | ACK, SYN | ECE | CWR, ACK, FIN | ACK, RST, RST | ACK, FIN, PSH | ACK | URG]
        {
            assert!(flags_are_sane(good), "{good:#x}");
        }
    }

    #[test]
    fn checksum_follows_a_port() {
        let mut bytes = [0x11u8; 20];
        let before = checksum::sum(&bytes);
        let mut header = Tcp::new_checked_mut(&mut bytes).unwrap();
        header.set_sport(0x2233);
        header.adjust_checksum(checksum::delta_u16(0x1111, 0x2233));
        assert_eq!(checksum::sum(&bytes), before);
        assert_eq!(Tcp::new_checked(&bytes).unwrap().header_len(), 4);
    }
}
