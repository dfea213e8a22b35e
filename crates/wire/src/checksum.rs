//! The Internet checksum (RFC 1071), whole and by difference (RFC 1624).
//!
//! A *sum* is the one's-complement sum of 16-bit words; the *checksum* in a header is its complement.
//! A *delta* is the sum of what an edit adds to a header: `!old + new`, over all that it changes.
//! Deltas add up by [`add`], in any order, and are given to a header's checksum by [`apply`].

/// The one's-complement sum of two sums or deltas.
#[inline(always)]
pub const fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum.wrapping_add(carry as u16)
}

/// Folds a sum of words of 16 or 32 bits into 16 bits.
#[inline(always)]
const fn fold(sum: u64) -> u16 {
    fold_33((sum & 0xffff_ffff).wrapping_add(sum >> 32))
}

/// [`fold`] for sums that fit into 33 bits. 33 -> 17 -> 16 bits: each step keeps the sum modulo
/// 0xffff, and none makes 0 of a sum that is not.
#[inline(always)]
const fn fold_33(sum: u64) -> u16 {
    let sum = (sum & 0xffff).wrapping_add(sum >> 16 & 0xffff).wrapping_add(sum >> 32);
    add(sum as u16, (sum >> 16) as u16)
}

/// The sum of bytes, the first of them in a high half; an odd last one is padded with zero.
#[inline]
pub fn sum(bytes: &[u8]) -> u16 {
    // Words of 32 bits in the machine's own order into 64 bits: no carry is lost below 16 GiB, the
    // loop vectorizes, and swapping the result once is as good as swapping each word (RFC 1071 §2).
    let (words, tail) = bytes.as_chunks::<4>();
    let mut total = 0u64;
    for word in words {
        total = total.wrapping_add(u64::from(u32::from_ne_bytes(*word)));
    }
    let last = match *tail {
        [a] => [a, 0, 0, 0],
        [a, b] => [a, b, 0, 0],
        [a, b, c] => [a, b, c, 0],
        _ => [0; 4],
    };
    u16::from_be(fold(total.wrapping_add(u64::from(u32::from_ne_bytes(last)))))
}

/// The sum of an IPv4 header without options, unrolled: 0xffff if its checksum is right.
#[inline(always)]
pub const fn sum_20(header: &[u8; 20]) -> u16 {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t] = *header;
    let first = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
    let second = u64::from_ne_bytes([i, j, k, l, m, n, o, p]);
    let third = u32::from_ne_bytes([q, r, s, t]);
    let (sum, carry) = first.overflowing_add(second);
    let (sum, carry_too) = sum.overflowing_add(third as u64);
    let halves = (sum & 0xffff_ffff).wrapping_add(sum >> 32);
    u16::from_be(fold_33(halves.wrapping_add(carry as u64).wrapping_add(carry_too as u64)))
}

/// The checksum of bytes in which the checksum field is 0.
#[inline]
pub fn checksum(bytes: &[u8]) -> u16 {
    !sum(bytes)
}

/// The sum of the IPv4 pseudo header (RFC 9293 §3.1, RFC 768); `len` is that of header and data.
#[inline]
pub const fn pseudo_header(source: u32, destination: u32, protocol: u8, len: u16) -> u16 {
    let addresses = (source as u64).wrapping_add(destination as u64);
    fold(addresses.wrapping_add(protocol as u64).wrapping_add(len as u64))
}

/// The sum of the IPv6 pseudo header (RFC 8200 §8.1); `len` is that of the upper-layer header and data,
/// `next_header` the upper layer's own number, whatever extension headers stand before it.
#[inline]
pub const fn pseudo_header_v6(source: u128, destination: u128, next_header: u8, len: u32) -> u16 {
    let addresses = add(sum_u128(source), sum_u128(destination));
    add(addresses, fold((next_header as u64).wrapping_add(len as u64)))
}

/// The sum of 128 bits at an even offset.
#[inline(always)]
pub const fn sum_u128(value: u128) -> u16 {
    let halves = (value as u64 as u128).wrapping_add(value >> 64);
    let (low, carry) = (halves as u64, (halves >> 64) as u64);
    fold((low & 0xffff_ffff).wrapping_add(low >> 32).wrapping_add(carry))
}

/// The checksum of a UDP datagram as it is sent: 0xffff where it is 0, which would say none (RFC 768).
#[inline(always)]
pub const fn udp_never_zero(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

/// The delta of a 16-bit word at an even offset.
#[inline(always)]
pub const fn delta_u16(old: u16, new: u16) -> u16 {
    add(!old, new)
}

/// The delta of 32 bits at an even offset.
#[inline(always)]
pub const fn delta_u32(old: u32, new: u32) -> u16 {
    fold((!old as u64).wrapping_add(new as u64))
}

/// The delta of 128 bits at an even offset.
#[inline(always)]
pub const fn delta_u128(old: u128, new: u128) -> u16 {
    add(!sum_u128(old), sum_u128(new))
}

/// The delta of bytes that replace as many others at `offset` of what is summed, be it even or odd.
#[inline]
pub fn delta_bytes(offset: usize, old: &[u8], new: &[u8]) -> u16 {
    debug_assert_eq!(old.len(), new.len());
    at_offset(offset, add(!sum(old), sum(new)))
}

/// The sum or delta of words as they count at `offset`: at an odd one the halves change places
/// (RFC 1071 §2).
#[inline(always)]
pub const fn at_offset(offset: usize, delta: u16) -> u16 {
    if offset & 1 == 0 { delta } else { delta.swap_bytes() }
}

/// The checksum after an edit of a delta: `HC' = ~(~HC + delta)` (RFC 1624 eqn. 3).
#[inline(always)]
pub const fn apply(checksum: u16, delta: u16) -> u16 {
    !add(!checksum, delta)
}

/// [`apply`] for UDP over IPv4: no checksum (0) stays none, and a result of 0 is sent as 0xffff.
#[inline(always)]
pub const fn apply_udp(checksum: u16, delta: u16) -> u16 {
    if checksum == 0 { 0 } else { udp_never_zero(apply(checksum, delta)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 1071 by the letter.
    fn naive(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    #[test]
    fn rfc_1071_example() {
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
    }

    #[test]
    fn rfc_1624_example() {
        // §4: a header whose sum is 0xcd7a + 0x5555 becomes 0x3285; the result is 0, not 0xffff.
        assert_eq!(apply(0xdd2f, delta_u16(0x5555, 0x3285)), 0x0000);
    }

    #[test]
    fn folding_survives_the_largest_sums() {
        assert_eq!(fold(0), 0);
        assert_eq!(fold(u64::MAX), 0xffff);
        assert_eq!(fold(0xffff_ffff), 0xffff);
        assert_eq!(fold(0x1_0000), 1);
        let ones = vec![0xff; 65_535];
        assert_eq!(sum(&ones), naive(&ones));
    }

    #[test]
    fn udp_zero_rules() {
        assert_eq!(apply_udp(0, 0x1234), 0);
        assert_eq!(apply_udp(0xdd2f, delta_u16(0x5555, 0x3285)), 0xffff);
        assert_eq!(apply_udp(0xffff, delta_u16(7, 7)), 0xffff);
    }

    /// Bytes in which the edges 0 and 0xffff are common.
    fn edgy(len: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(prop_oneof![Just(0u8), Just(0xffu8), any::<u8>()], len)
    }

    proptest! {
        #[test]
        fn sum_is_rfc_1071(bytes in edgy(0..200), skip in 0usize..4) {
            let bytes = bytes.get(skip..).unwrap_or(&[]);
            prop_assert_eq!(sum(bytes), naive(bytes));
            if let Some(header) = bytes.first_chunk() {
                prop_assert_eq!(sum_20(header), naive(header));
            }
        }

        #[test]
        fn pseudo_header_is_the_sum_of_its_bytes(src: u32, dst: u32, protocol: u8, len: u16) {
            let mut bytes = [&src.to_be_bytes()[..], &dst.to_be_bytes()].concat();
            bytes.extend([0, protocol]);
            bytes.extend(len.to_be_bytes());
            prop_assert_eq!(pseudo_header(src, dst, protocol, len), naive(&bytes));
        }

        #[test]
        fn the_ipv6_pseudo_header_is_the_sum_of_its_bytes(
            src: u128, dst: u128, next_header: u8, len: u32,
        ) {
            let mut bytes = [&src.to_be_bytes()[..], &dst.to_be_bytes()].concat();
            bytes.extend(len.to_be_bytes());
            bytes.extend([0, 0, 0, next_header]);
            prop_assert_eq!(pseudo_header_v6(src, dst, next_header, len), naive(&bytes));
            prop_assert_eq!(sum_u128(src), naive(&src.to_be_bytes()));
            let both = add(sum_u128(src), delta_u128(src, dst));
            prop_assert_eq!(both % 0xffff, sum_u128(dst) % 0xffff);
        }

        #[test]
        fn incremental_equals_full(
            mut bytes in edgy(8..80),
            edits in proptest::collection::vec((any::<usize>(), edgy(1..9)), 1..6),
        ) {
            // A header is never all zero: its version, data offset or length is not.
            bytes[0] = 0x45;
            let mut incremental = checksum(&bytes);
            let mut total = 0;
            for (at, new) in edits {
                let at = 1 + at % (bytes.len() - 1);
                let len = new.len().min(bytes.len() - at);
                let delta = delta_bytes(at, &bytes[at..at + len], &new[..len]);
                bytes[at..at + len].copy_from_slice(&new[..len]);
                incremental = apply(incremental, delta);
                total = add(total, delta);
                prop_assert_eq!(incremental, checksum(&bytes));
            }
        }

        #[test]
        fn deltas_add_up(hc: u16, old: [u16; 2], new: [u16; 2]) {
            let join = |[a, b]: [u16; 2]| u32::from(a) << 16 | u32::from(b);
            let single = delta_u32(join(old), join(new));
            let parts = add(delta_u16(old[0], new[0]), delta_u16(old[1], new[1]));
            prop_assert_eq!(single % 0xffff, parts % 0xffff);
            prop_assert_eq!(apply(hc, single) % 0xffff, apply(hc, parts) % 0xffff);
            prop_assert_ne!(apply_udp(hc | 1, single), 0);
        }
    }
}
