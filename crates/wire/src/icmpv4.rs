//! The ICMP header (RFC 792).

use crate::checksum;

/// Type: answer to an echo request.
pub const ECHO_REPLY: u8 = 0;
/// Type: destination unreachable.
pub const UNREACHABLE: u8 = 3;
/// Type: source quench, deprecated and to be ignored (RFC 6633).
pub const SOURCE_QUENCH: u8 = 4;
/// Type: redirect.
pub const REDIRECT: u8 = 5;
/// Type: echo request.
pub const ECHO_REQUEST: u8 = 8;
/// Type: time exceeded.
pub const TIME_EXCEEDED: u8 = 11;
/// Type: parameter problem.
pub const PARAMETER_PROBLEM: u8 = 12;

/// Code of [`UNREACHABLE`]: network.
pub const NET_UNREACHABLE: u8 = 0;
/// Code of [`UNREACHABLE`]: host.
pub const HOST_UNREACHABLE: u8 = 1;
/// Code of [`UNREACHABLE`]: port.
pub const PORT_UNREACHABLE: u8 = 3;
/// Code of [`UNREACHABLE`]: fragmentation needed; the MTU is in the header (RFC 1191 §4).
pub const FRAGMENTATION_NEEDED: u8 = 4;
/// Code of [`UNREACHABLE`]: administratively prohibited (RFC 1812 §5.2.7.1).
pub const PROHIBITED: u8 = 13;

view! {
    /// The first eight bytes of any ICMP message.
    Icmpv4[8] {
        /// Type of the message.
        icmp_type, set_icmp_type: u8 @ 0;
        /// Code within the type.
        code, set_code: u8 @ 1;
        /// Checksum over the whole message.
        checksum, set_checksum: u16 @ 2;
        /// What the type makes of these four bytes.
        rest, set_rest: u32 @ 4;
        /// Identifier of an echo request or reply.
        ident, set_ident: u16 @ 4;
        /// Sequence number of an echo request or reply, or next-hop MTU of an error (RFC 1191 §4).
        seq, set_seq: u16 @ 6;
    }
}

impl<B: std::ops::DerefMut<Target = [u8; LEN]>> Icmpv4<B> {
    /// Adds a delta of [`checksum`] to the message's checksum (RFC 1624).
    #[inline(always)]
    pub fn adjust_checksum(&mut self, delta: u16) {
        self.set_checksum(checksum::apply(self.checksum(), delta));
    }
}

/// True for the types that report on another packet, quoted in them.
#[inline(always)]
pub const fn is_error(icmp_type: u8) -> bool {
    matches!(icmp_type, UNREACHABLE | SOURCE_QUENCH | REDIRECT | TIME_EXCEEDED | PARAMETER_PROBLEM)
}

#[cfg(test)]
mod tests {
    use super::*;

    view_tests!(Icmpv4 {
        icmp_type, set_icmp_type = 8_u8;
        code, set_code = 4_u8;
        checksum, set_checksum = 0x0102_u16;
        rest, set_rest = 0x0102_0304_u32;
        ident, set_ident = 0x0102_u16;
        seq, set_seq = 0x0102_u16;
    });

    #[test]
    fn errors_are_told_from_queries() {
        assert!([3, 4, 5, 11, 12].into_iter().all(is_error));
        assert!(![0, 8, 13, 14, 255].into_iter().any(is_error));
    }

    #[test]
    fn checksum_follows_the_type() {
        let mut bytes = [8, 0, 0, 0, 1, 2, 3, 4];
        let sum = checksum::checksum(&bytes);
        let mut header = Icmpv4::new_checked_mut(&mut bytes).unwrap();
        header.set_checksum(sum);
        header.set_icmp_type(ECHO_REPLY);
        header.adjust_checksum(checksum::delta_u16(0x0800, 0));
        assert_eq!(checksum::sum(&bytes), 0xffff);
    }
}
