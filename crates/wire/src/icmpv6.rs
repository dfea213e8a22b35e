//! The ICMPv6 header (RFC 4443).

use crate::checksum;

/// IANA protocol number.
pub const PROTOCOL: u8 = 58;

/// Type: destination unreachable.
pub const UNREACHABLE: u8 = 1;
/// Type: packet too big; the MTU is in the header.
pub const PACKET_TOO_BIG: u8 = 2;
/// Type: time exceeded.
pub const TIME_EXCEEDED: u8 = 3;
/// Type: parameter problem; the pointer is in the header.
pub const PARAMETER_PROBLEM: u8 = 4;
/// Type: echo request.
pub const ECHO_REQUEST: u8 = 128;
/// Type: answer to an echo request.
pub const ECHO_REPLY: u8 = 129;
/// Type: query of multicast listeners (RFC 3810).
pub const MLD_QUERY: u8 = 130;
/// Type: report of multicast listeners, version 1 (RFC 2710).
pub const MLD_REPORT: u8 = 131;
/// Type: a listener leaves, version 1 (RFC 2710).
pub const MLD_DONE: u8 = 132;
/// Type: router solicitation (RFC 4861).
pub const ROUTER_SOLICITATION: u8 = 133;
/// Type: router advertisement (RFC 4861).
pub const ROUTER_ADVERTISEMENT: u8 = 134;
/// Type: neighbour solicitation (RFC 4861).
pub const NEIGHBOUR_SOLICITATION: u8 = 135;
/// Type: neighbour advertisement (RFC 4861).
pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Type: redirect (RFC 4861).
pub const REDIRECT: u8 = 137;
/// Type: report of multicast listeners, version 2 (RFC 3810).
pub const MLDV2_REPORT: u8 = 143;

/// Code of [`UNREACHABLE`]: no route.
pub const NO_ROUTE: u8 = 0;
/// Code of [`UNREACHABLE`]: administratively prohibited.
pub const PROHIBITED: u8 = 1;
/// Code of [`UNREACHABLE`]: beyond the scope of the source address.
pub const BEYOND_SCOPE: u8 = 2;
/// Code of [`UNREACHABLE`]: address.
pub const ADDRESS_UNREACHABLE: u8 = 3;
/// Code of [`UNREACHABLE`]: port.
pub const PORT_UNREACHABLE: u8 = 4;
/// Code of [`PARAMETER_PROBLEM`]: a header field is wrong.
pub const WRONG_FIELD: u8 = 0;
/// Code of [`PARAMETER_PROBLEM`]: a next header that is not known.
pub const UNKNOWN_NEXT_HEADER: u8 = 1;
/// Code of [`PARAMETER_PROBLEM`]: an option that is not known.
pub const UNKNOWN_OPTION: u8 = 2;

view! {
    /// The first eight bytes of any ICMPv6 message.
    Icmpv6[8] {
        /// Type of the message.
        icmp_type, set_icmp_type: u8 @ 0;
        /// Code within the type.
        code, set_code: u8 @ 1;
        /// Checksum over pseudo header and message.
        checksum, set_checksum: u16 @ 2;
        /// What the type makes of these four bytes: the MTU, the pointer, or nothing.
        rest, set_rest: u32 @ 4;
        /// Identifier of an echo request or reply.
        ident, set_ident: u16 @ 4;
        /// Sequence number of an echo request or reply.
        seq, set_seq: u16 @ 6;
    }
}

impl<B: std::ops::DerefMut<Target = [u8; LEN]>> Icmpv6<B> {
    /// Adds a delta of [`checksum`] to the message's checksum (RFC 1624).
    #[inline(always)]
    pub fn adjust_checksum(&mut self, delta: u16) {
        self.set_checksum(checksum::apply(self.checksum(), delta));
    }
}

/// True for the types that report on another packet, quoted in them: those below 128 (RFC 4443 §2.1).
#[inline(always)]
pub const fn is_error(icmp_type: u8) -> bool {
    icmp_type < 128
}

/// True for the messages of neighbour discovery (RFC 4861), which come with hop limit 255 or are forged.
#[inline(always)]
pub const fn is_neighbour_discovery(icmp_type: u8) -> bool {
    matches!(icmp_type, ROUTER_SOLICITATION..=REDIRECT)
}

/// True for the messages of multicast listeners, which stay on the link.
#[inline(always)]
pub const fn is_mld(icmp_type: u8) -> bool {
    matches!(icmp_type, MLD_QUERY | MLD_REPORT | MLD_DONE | MLDV2_REPORT)
}

#[cfg(test)]
mod tests {
    use super::*;

    view_tests!(Icmpv6 {
        icmp_type, set_icmp_type = 128_u8;
        code, set_code = 4_u8;
        checksum, set_checksum = 0x0102_u16;
        rest, set_rest = 0x0102_0304_u32;
        ident, set_ident = 0x0102_u16;
        seq, set_seq = 0x0102_u16;
    });

    #[test]
    fn classes_of_types() {
        assert!([1, 2, 3, 4, 100, 127].into_iter().all(is_error));
        assert!(![128, 129, 135, 255].into_iter().any(is_error));
        assert!((133..=137).all(is_neighbour_discovery));
        assert!(![132, 138].into_iter().any(is_neighbour_discovery));
        assert!([130, 131, 132, 143].into_iter().all(is_mld));
    }
}
