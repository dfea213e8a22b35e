//! Comparing eight 16-bit tags at once.

/// A mask of the tags that equal `tag`: bit n stands for `tags[n]`.
#[inline(always)]
pub fn tag_match(tags: &[u16; 8], tag: u16) -> u8 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: SSE2 is baseline on x86_64.
    unsafe {
        sse2(tags, tag)
    }
    #[cfg(all(target_arch = "aarch64", target_feature = "neon", not(miri)))]
    // SAFETY: this body is compiled only where NEON is there.
    unsafe {
        neon(tags, tag)
    }
    #[cfg(any(
        miri,
        not(any(target_arch = "x86_64", all(target_arch = "aarch64", target_feature = "neon")))
    ))]
    {
        portable(tags, tag)
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[target_feature(enable = "sse2")]
#[inline]
fn sse2(tags: &[u16; 8], tag: u16) -> u8 {
    use core::arch::x86_64::{
        _mm_cmpeq_epi16, _mm_loadu_si128, _mm_movemask_epi8, _mm_packs_epi16, _mm_set1_epi16,
    };
    // SAFETY: `tags` is 16 readable bytes, and the load wants no alignment.
    let tags = unsafe { _mm_loadu_si128(tags.as_ptr().cast()) };
    // Equal lanes are -1 and stay so when packed to bytes; one bit of each is the mask.
    let equal = _mm_cmpeq_epi16(tags, _mm_set1_epi16(tag as i16));
    _mm_movemask_epi8(_mm_packs_epi16(equal, equal)) as u8
}

#[cfg(all(target_arch = "aarch64", target_feature = "neon", not(miri)))]
#[target_feature(enable = "neon")]
#[inline]
fn neon(tags: &[u16; 8], tag: u16) -> u8 {
    use core::arch::aarch64::{vaddvq_u16, vandq_u16, vceqq_u16, vdupq_n_u16, vld1q_u16};
    const BITS: [u16; 8] = [1, 2, 4, 8, 16, 32, 64, 128];
    // SAFETY: `tags` is 16 readable bytes, and the load wants no more than their alignment.
    let tags = unsafe { vld1q_u16(tags.as_ptr()) };
    // SAFETY: as above, of a constant.
    let bits = unsafe { vld1q_u16(BITS.as_ptr()) };
    vaddvq_u16(vandq_u16(vceqq_u16(tags, vdupq_n_u16(tag)), bits)) as u8
}

#[cfg(any(
    test,
    miri,
    not(any(target_arch = "x86_64", all(target_arch = "aarch64", target_feature = "neon")))
))]
fn portable(tags: &[u16; 8], tag: u16) -> u8 {
    tags.iter().enumerate().fold(0, |mask, (n, &each)| mask | u8::from(each == tag) << n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lane_alone_and_all_together() {
        for lane in 0..8 {
            let mut tags = [1, 2, 0x8000, 0x7fff, 0xff00, 0x00ff, 5, 6];
            tags[lane] = 0xffff;
            assert_eq!(tag_match(&tags, 0xffff), 1 << lane);
            assert_eq!(tag_match(&tags, 0), 0);
        }
        assert_eq!(tag_match(&[0; 8], 0), 0xff);
        assert_eq!(tag_match(&[0x8000; 8], 0x8000), 0xff);
    }

    #[test]
    fn the_vector_body_agrees_with_the_portable_one() {
        let mut state = 1u32;
        for _ in 0..10_000 {
            let tags: [u16; 8] = std::array::from_fn(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 16) as u16 & 3
            });
            for tag in 0..4 {
                assert_eq!(tag_match(&tags, tag), portable(&tags, tag), "{tags:?} {tag}");
            }
        }
    }
}
