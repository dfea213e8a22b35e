//! What ICMP and ICMPv6 messages say, in the words of the other (RFC 7915 §4.2, §5.2).

use wire::{icmpv4, icmpv6, ipv6};

use super::{DIFFERENCE, Mtus};

/// Type, code and the four bytes behind the checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub icmp_type: u8,
    pub code: u8,
    pub rest: u32,
}

/// MTUs that links have had (RFC 1191 §7), for routers that do not tell theirs.
const PLATEAUS: [u16; 11] =
    [65_535, 32_000, 17_914, 8_166, 4_352, 2_002, 1_492, 1_006, 508, 296, 68];

/// The MTU that every IPv4 link has (RFC 791 §3.2).
const IPV4_MIN_MTU: u16 = 68;

/// An IPv4 error in the words of ICMPv6; `None` if it has no word for it (RFC 7915 §4.2).
/// `quoted_len` is the length of the quoted packet, as that says itself.
pub(super) fn error_to_v6(said: Said, quoted_len: u16, mtus: Mtus) -> Option<Said> {
    let Said { icmp_type, code, rest } = said;
    let to = |icmp_type, code, rest| Some(Said { icmp_type, code, rest });
    match (icmp_type, code) {
        (icmpv4::UNREACHABLE, 0 | 1 | 5..=8 | 11 | 12) => {
            to(icmpv6::UNREACHABLE, icmpv6::NO_ROUTE, 0)
        }
        // Protocol unreachable: it is the next header that is not known.
        (icmpv4::UNREACHABLE, 2) => {
            to(icmpv6::PARAMETER_PROBLEM, icmpv6::UNKNOWN_NEXT_HEADER, NEXT_HEADER_AT)
        }
        (icmpv4::UNREACHABLE, icmpv4::PORT_UNREACHABLE) => {
            to(icmpv6::UNREACHABLE, icmpv6::PORT_UNREACHABLE, 0)
        }
        (icmpv4::UNREACHABLE, icmpv4::FRAGMENTATION_NEEDED) => {
            to(icmpv6::PACKET_TOO_BIG, 0, mtu_to_v6(rest as u16, quoted_len, mtus).into())
        }
        (icmpv4::UNREACHABLE, 9 | 10 | icmpv4::PROHIBITED | 15) => {
            to(icmpv6::UNREACHABLE, icmpv6::PROHIBITED, 0)
        }
        (icmpv4::TIME_EXCEEDED, _) => to(icmpv6::TIME_EXCEEDED, code, 0),
        (icmpv4::PARAMETER_PROBLEM, 0 | 2) => {
            let pointer = pointer_to_v6((rest >> 24) as u8)?;
            to(icmpv6::PARAMETER_PROBLEM, icmpv6::WRONG_FIELD, pointer.into())
        }
        // Host precedence violation, redirects, source quench and all that is obsolete.
        _ => None,
    }
}

/// An ICMPv6 error in the words of ICMP; `None` if it has no word for it (RFC 7915 §5.2).
pub(super) fn error_to_v4(said: Said, mtus: Mtus) -> Option<Said> {
    let Said { icmp_type, code, rest } = said;
    let to = |icmp_type, code, rest| Some(Said { icmp_type, code, rest });
    match (icmp_type, code) {
        (
            icmpv6::UNREACHABLE,
            icmpv6::NO_ROUTE | icmpv6::BEYOND_SCOPE | icmpv6::ADDRESS_UNREACHABLE,
        ) => to(icmpv4::UNREACHABLE, icmpv4::HOST_UNREACHABLE, 0),
        // Host administratively prohibited.
        (icmpv6::UNREACHABLE, icmpv6::PROHIBITED) => to(icmpv4::UNREACHABLE, 10, 0),
        (icmpv6::UNREACHABLE, icmpv6::PORT_UNREACHABLE) => {
            to(icmpv4::UNREACHABLE, icmpv4::PORT_UNREACHABLE, 0)
        }
        (icmpv6::PACKET_TOO_BIG, _) => {
            let told = u16::try_from(rest).unwrap_or(u16::MAX).saturating_sub(DIFFERENCE);
            let mtu = told.min(mtus.v4).min(mtus.v6.saturating_sub(DIFFERENCE)).max(IPV4_MIN_MTU);
            to(icmpv4::UNREACHABLE, icmpv4::FRAGMENTATION_NEEDED, mtu.into())
        }
        (icmpv6::TIME_EXCEEDED, _) => to(icmpv4::TIME_EXCEEDED, code, 0),
        (icmpv6::PARAMETER_PROBLEM, icmpv6::WRONG_FIELD) => {
            let pointer = pointer_to_v4(rest)?;
            to(icmpv4::PARAMETER_PROBLEM, 0, u32::from(pointer) << 24)
        }
        // Protocol unreachable.
        (icmpv6::PARAMETER_PROBLEM, icmpv6::UNKNOWN_NEXT_HEADER) => to(icmpv4::UNREACHABLE, 2, 0),
        _ => None,
    }
}

/// RFC 7915 §4.2: no more than passes on either side, as it counts on the other; what was not told is
/// guessed from what did not pass. No IPv6 host goes below 1280.
fn mtu_to_v6(told: u16, quoted_len: u16, mtus: Mtus) -> u16 {
    let told = match told {
        0 => plateau_below(quoted_len),
        told => told,
    };
    told.saturating_add(DIFFERENCE)
        .min(mtus.v6)
        .min(mtus.v4.saturating_add(DIFFERENCE))
        .max(ipv6::MIN_MTU)
}

/// What an IPv4 router that tells no MTU may have, when a packet of so many bytes did not pass (RFC 1191 §7).
pub(crate) fn plateau_below(len: u16) -> u16 {
    PLATEAUS.into_iter().find(|plateau| *plateau < len).unwrap_or(IPV4_MIN_MTU)
}

/// Where the IPv6 header has its next header.
const NEXT_HEADER_AT: u32 = 6;

/// RFC 7915 §4.2, figure 3: where the field of IPv4 is in IPv6.
const fn pointer_to_v6(pointer: u8) -> Option<u8> {
    match pointer {
        // Version and header length; TOS.
        0 | 1 => Some(pointer),
        // Total length.
        2 | 3 => Some(4),
        // Time to live.
        8 => Some(7),
        // Protocol.
        9 => Some(6),
        // Source, destination.
        12..=15 => Some(8),
        16..=19 => Some(24),
        _ => None,
    }
}

/// RFC 7915 §5.2, figure 6: where the field of IPv6 is in IPv4.
const fn pointer_to_v4(pointer: u32) -> Option<u8> {
    match pointer {
        0 | 1 => Some(pointer as u8),
        // Payload length.
        4 | 5 => Some(2),
        6 => Some(9),
        7 => Some(8),
        8..=23 => Some(12),
        24..=39 => Some(16),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MTUS: Mtus = Mtus { v4: 1500, v6: 1500 };

    fn said(icmp_type: u8, code: u8, rest: u32) -> Said {
        Said { icmp_type, code, rest }
    }

    /// Every type and code of ICMP: what is not in the table has no translation.
    #[test]
    fn rfc7915_4_2_every_error_of_icmp() {
        for icmp_type in 0..=255_u8 {
            for code in 0..=255_u8 {
                let expected = match (icmp_type, code) {
                    (3, 0 | 1 | 5 | 6 | 7 | 8 | 11 | 12) => Some(said(1, 0, 0)),
                    (3, 2) => Some(said(4, 1, 6)),
                    (3, 3) => Some(said(1, 4, 0)),
                    (3, 4) => Some(said(2, 0, 1420)),
                    (3, 9 | 10 | 13 | 15) => Some(said(1, 1, 0)),
                    (11, code) => Some(said(3, code, 0)),
                    // The pointer of 1400 is byte 0 of four.
                    (12, 0 | 2) => Some(said(4, 0, 0)),
                    _ => None,
                };
                let translated = error_to_v6(said(icmp_type, code, 1400), 1500, MTUS);
                assert_eq!(translated, expected, "{icmp_type}/{code}");
            }
        }
    }

    #[test]
    fn rfc7915_5_2_every_error_of_icmpv6() {
        for icmp_type in 0..=255_u8 {
            for code in 0..=255_u8 {
                let expected = match (icmp_type, code) {
                    (1, 0 | 2 | 3) => Some(said(3, 1, 0)),
                    (1, 1) => Some(said(3, 10, 0)),
                    (1, 4) => Some(said(3, 3, 0)),
                    (2, _) => Some(said(3, 4, 68)),
                    (3, code) => Some(said(11, code, 0)),
                    (4, 0) => Some(said(12, 0, 9 << 24)),
                    (4, 1) => Some(said(3, 2, 0)),
                    _ => None,
                };
                let translated = error_to_v4(said(icmp_type, code, 6), MTUS);
                assert_eq!(translated, expected, "{icmp_type}/{code}");
            }
        }
    }

    #[test]
    fn rfc7915_4_2_and_5_2_pointers_of_parameter_problems() {
        let to_v6: Vec<_> =
            (0..=20).map(|at| error_to_v6(said(12, 0, at << 24), 0, MTUS)).collect();
        let expected = [0, 1, 4, 4, 99, 99, 99, 99, 7, 6, 99, 99, 8, 8, 8, 8, 24, 24, 24, 24, 99];
        for (said, expected) in to_v6.iter().zip(expected) {
            assert_eq!(said.map_or(99, |said| said.rest), expected);
        }
        for at in 0..=41 {
            let expected = match at {
                0 | 1 => Some(at),
                4 | 5 => Some(2),
                6 => Some(9),
                7 => Some(8),
                8..=23 => Some(12),
                24..=39 => Some(16),
                _ => None,
            };
            let pointer = error_to_v4(said(4, 0, at), MTUS).map(|said| said.rest >> 24);
            assert_eq!(pointer, expected, "{at}");
        }
    }

    #[test]
    fn rfc7915_4_2_and_5_2_mtus_count_the_header_and_never_more_than_passes() {
        let to_v6 = |told, quoted_len, v4, v6| {
            error_to_v6(said(3, 4, told), quoted_len, Mtus { v4, v6 }).unwrap().rest
        };
        assert_eq!(to_v6(1400, 1500, 1500, 1500), 1420);
        assert_eq!(to_v6(1500, 9000, 9000, 9000), 1520);
        assert_eq!(to_v6(1500, 9000, 9000, 1500), 1500);
        assert_eq!(to_v6(9000, 9000, 1400, 9000), 1420);
        assert_eq!(to_v6(576, 1500, 1500, 1500), 1280);
        // Not told: the plateau below the packet that did not pass.
        assert_eq!(to_v6(0, 9000, 9000, 9000), 8166 + 20);
        assert_eq!(to_v6(0, 1500, 1500, 1500), 1500);
        assert_eq!(to_v6(0, 1492, 1500, 1500), 1280);
        assert_eq!(to_v6(0, 0, 1500, 1500), 1280);

        let to_v4 = |told, v4, v6| error_to_v4(said(2, 0, told), Mtus { v4, v6 }).unwrap().rest;
        assert_eq!(to_v4(1400, 1500, 1500), 1380);
        assert_eq!(to_v4(1500, 1400, 9000), 1400);
        assert_eq!(to_v4(9000, 9000, 1500), 1480);
        assert_eq!(to_v4(u32::MAX, 9000, 9000), 8980);
        assert_eq!(to_v4(0, 1500, 1500), 68);
    }
}
