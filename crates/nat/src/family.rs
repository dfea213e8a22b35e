//! What rewriting does to the network header, a family at a time.

use flow::{Flow, FlowAddress};
use types::Verdict;
use wire::{checksum, chunk_at_mut};

/// An address whose packets are rewritten: `u32` IPv4's, `u128` IPv6's.
pub trait Family: FlowAddress {
    /// What exchanging an address does to a checksum over it.
    fn delta(old: Self, new: Self) -> u16;

    /// Takes one off the TTL or hop limit and writes the new addresses.
    ///
    /// # Errors
    /// [`Verdict::TtlExceeded`] with the packet unchanged; [`Verdict::Internal`] if there is no header.
    fn translate_l3(bytes: &mut [u8], at: usize, flow: &Flow<Self>) -> Result<(), Verdict>;
}

/// What one TTL less does to the IPv4 header's checksum.
pub(crate) const TTL_MINUS_ONE: u16 = checksum::delta_u16(0x0100, 0x0000);

impl Family for u32 {
    #[inline(always)]
    fn delta(old: Self, new: Self) -> u16 {
        checksum::delta_u32(old, new)
    }

    #[inline(always)]
    fn translate_l3(bytes: &mut [u8], at: usize, flow: &Flow) -> Result<(), Verdict> {
        let ip = chunk_at_mut::<20>(bytes, at).ok_or(Verdict::Internal)?;
        if ip[8] <= 1 {
            return Err(Verdict::TtlExceeded);
        }
        ip[8] -= 1;
        let delta = checksum::add(flow.l3_delta, TTL_MINUS_ONE);
        let sum = checksum::apply(u16::from_be_bytes([ip[10], ip[11]]), delta);
        [ip[10], ip[11]] = sum.to_be_bytes();
        [ip[12], ip[13], ip[14], ip[15]] = flow.new_src.to_be_bytes();
        [ip[16], ip[17], ip[18], ip[19]] = flow.new_dst.to_be_bytes();
        Ok(())
    }
}

impl Family for u128 {
    /// The high bits of mapped addresses sum up to 0xffff, which is 0 in one's complement: so this is
    /// right between families, too.
    #[inline(always)]
    fn delta(old: Self, new: Self) -> u16 {
        checksum::delta_u128(old, new)
    }

    #[inline(always)]
    fn translate_l3(bytes: &mut [u8], at: usize, flow: &Flow<Self>) -> Result<(), Verdict> {
        let ip = chunk_at_mut::<40>(bytes, at).ok_or(Verdict::Internal)?;
        if ip[7] <= 1 {
            return Err(Verdict::TtlExceeded);
        }
        ip[7] -= 1;
        write_addresses(ip, flow.new_src, flow.new_dst);
        Ok(())
    }
}

/// Writes both addresses of an IPv6 header, which has no checksum.
#[inline(always)]
pub(crate) fn write_addresses(ip: &mut [u8; 40], src: u128, dst: u128) {
    if let Some(field) = chunk_at_mut::<16>(ip, 8) {
        *field = src.to_be_bytes();
    }
    if let Some(field) = chunk_at_mut::<16>(ip, 24) {
        *field = dst.to_be_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::map_v4;

    #[test]
    fn ttl_delta_is_one_off_the_high_byte() {
        // RFC 1141's example: the checksum grows by 0x0100 as the TTL falls.
        assert_eq!(checksum::apply(0x1234, TTL_MINUS_ONE), 0x1334);
        assert_eq!(checksum::apply(0xff00, TTL_MINUS_ONE), 0x0001);
    }

    #[test]
    fn a_mapped_address_makes_the_difference_of_the_ipv4_one() {
        let (old, new) = (0x2001_0db8_0001_0002_0003_0004_0005_0006_u128, 0xc612_0079_u32);
        let words = old.to_be_bytes();
        let bytes = new.to_be_bytes();
        let expected = checksum::add(!checksum::sum(&words), checksum::sum(&bytes));
        assert_eq!(u128::delta(old, map_v4(new)) % 0xffff, expected % 0xffff);
        let (one, other) = (map_v4(0x0a00_0001), map_v4(0xcb00_710a));
        assert_eq!(u128::delta(one, other) % 0xffff, u32::delta(0x0a00_0001, 0xcb00_710a) % 0xffff);
    }
}
