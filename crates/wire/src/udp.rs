//! The UDP header (RFC 768).

use crate::checksum;

view! {
    /// A UDP header.
    Udp[8] {
        /// Source port.
        sport, set_sport: u16 @ 0;
        /// Destination port.
        dport, set_dport: u16 @ 2;
        /// Length of header and data in bytes.
        datagram_len, set_datagram_len: u16 @ 4;
        /// Checksum over pseudo header, header and data; 0 says that there is none.
        checksum, set_checksum: u16 @ 6;
    }
}

impl<B: std::ops::DerefMut<Target = [u8; LEN]>> Udp<B> {
    /// Adds a delta of [`checksum`] to the datagram's checksum; none stays none.
    #[inline(always)]
    pub fn adjust_checksum(&mut self, delta: u16) {
        self.set_checksum(checksum::apply_udp(self.checksum(), delta));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    view_tests!(Udp {
        sport, set_sport = 0x0102_u16;
        dport, set_dport = 0x0102_u16;
        datagram_len, set_datagram_len = 0x0102_u16;
        checksum, set_checksum = 0x0102_u16;
    });

    #[test]
    fn no_checksum_stays_none() {
        let mut bytes = [0; 8];
        Udp::new_checked_mut(&mut bytes).unwrap().adjust_checksum(0x1234);
        assert_eq!(bytes, [0; 8]);
    }
}
