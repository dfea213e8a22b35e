//! TCP options, changed in place.

use wire::checksum;

/// What to change in a packet's TCP options.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Edits {
    /// Added to TSval.
    pub tsval: u32,
    /// Added to TSecr.
    pub tsecr: u32,
    /// Added to both edges of each SACK block.
    pub sack: u32,
    /// Taken from the MSS, but not below [`MSS_FLOOR`].
    pub mss_less: u16,
    /// Overwrite options of kind 254 by no-operations.
    pub strip_toa: bool,
}

/// No MSS is reduced below this: what every IPv4 host must take (RFC 9293 §3.7.1).
const MSS_FLOOR: u16 = 536;

const END: u8 = 0;
const NOP: u8 = 1;
const MSS: u8 = 2;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;
/// The experimental kind that DPVS and LVS use for the client's address.
pub(crate) const TOA: u8 = 254;

/// The first four bytes of the layout that almost all stacks send: two no-operations, timestamps.
const ALIGNED_TIMESTAMPS: [u8; 4] = [NOP, NOP, TIMESTAMPS, 10];

/// A checksum difference gathered over several edits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum(u32);

impl Sum {
    pub(crate) fn of(delta: u16) -> Self {
        Self(u32::from(delta))
    }

    #[inline]
    pub(crate) fn add(&mut self, delta: u16) {
        self.0 += u32::from(delta);
    }

    /// Adds the difference of a field whose first byte stands at `offset`: at an odd one its bytes
    /// fall into the other halves of the sum's words (RFC 1071 §2 B).
    #[inline]
    pub(crate) fn add_at(&mut self, offset: usize, delta: u16) {
        self.add(if offset & 1 == 0 { delta } else { delta.swap_bytes() });
    }

    #[inline]
    pub(crate) fn fold(self) -> u16 {
        let once = (self.0 & 0xffff) + (self.0 >> 16);
        ((once & 0xffff) + (once >> 16)) as u16
    }
}

/// Changes `options` (which start at an even offset of the packet) and returns the difference to
/// their checksum. Options behind a malformed one are left as they are: the receiver will not
/// read them either.
#[inline]
pub(crate) fn edit(options: &mut [u8], edits: &Edits) -> Sum {
    let mut sum = Sum::default();
    if let Some((head, [])) = options.split_first_chunk_mut::<12>()
        && head.first_chunk::<4>() == Some(&ALIGNED_TIMESTAMPS)
    {
        shift(head, 4, edits.tsval, &mut sum);
        shift(head, 8, edits.tsecr, &mut sum);
        return sum;
    }
    edit_each(options, edits, &mut sum);
    sum
}

fn edit_each(options: &mut [u8], edits: &Edits, sum: &mut Sum) {
    let mut at = 0;
    // An option takes a byte at least, so this ends after the 40 that a header can have.
    while let Some(&kind) = options.get(at) {
        if kind == END {
            return;
        }
        if kind == NOP {
            at += 1;
            continue;
        }
        let Some(len) = options.get(at + 1).map(|len| usize::from(*len)) else { return };
        if len < 2 || at + len > options.len() {
            return;
        }
        match (kind, len) {
            (TIMESTAMPS, 10) => {
                shift(options, at + 2, edits.tsval, sum);
                shift(options, at + 6, edits.tsecr, sum);
            }
            (SACK, 10 | 18 | 26 | 34) if edits.sack != 0 => {
                for edge in (at + 2..at + len).step_by(4) {
                    shift(options, edge, edits.sack, sum);
                }
            }
            (MSS, 4) if edits.mss_less != 0 => lower_mss(options, at + 2, edits.mss_less, sum),
            (TOA, _) if edits.strip_toa => blank(options, at, len, sum),
            _ => {}
        }
        at += len;
    }
}

/// Adds to the 32-bit number at `at`.
#[inline]
pub(crate) fn shift(bytes: &mut [u8], at: usize, by: u32, sum: &mut Sum) {
    if by == 0 {
        return;
    }
    let Some(field) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<4>()) else {
        return;
    };
    let old = u32::from_be_bytes(*field);
    let new = old.wrapping_add(by);
    *field = new.to_be_bytes();
    sum.add_at(at, checksum::delta_u32(old, new));
}

fn lower_mss(bytes: &mut [u8], at: usize, by: u16, sum: &mut Sum) {
    let Some(field) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<2>()) else {
        return;
    };
    let old = u16::from_be_bytes(*field);
    let new = old.saturating_sub(by).max(MSS_FLOOR.min(old));
    *field = new.to_be_bytes();
    sum.add_at(at, checksum::delta_u16(old, new));
}

/// Lowers the MSS to at most `most`, and returns the difference to the checksum if it was above.
pub(crate) fn clamp_mss(options: &mut [u8], most: u16) -> Option<Sum> {
    let mut at = 0;
    // An option takes a byte at least, so this ends after the 40 that a header can have.
    while let Some(&kind) = options.get(at) {
        match kind {
            END => return None,
            NOP => at += 1,
            _ => {
                let len = usize::from(*options.get(at + 1)?);
                if len < 2 {
                    return None;
                }
                if (kind, len) == (MSS, 4) {
                    let field = options.get_mut(at + 2..at + 4)?.first_chunk_mut::<2>()?;
                    let old = u16::from_be_bytes(*field);
                    if old <= most {
                        return None;
                    }
                    *field = most.to_be_bytes();
                    let mut sum = Sum::default();
                    sum.add_at(at, checksum::delta_u16(old, most));
                    return Some(sum);
                }
                at += len;
            }
        }
    }
    None
}

pub(crate) fn blank(bytes: &mut [u8], at: usize, len: usize, sum: &mut Sum) {
    for (offset, byte) in bytes.iter_mut().enumerate().skip(at).take(len) {
        let (old, new) = (u16::from(*byte) << 8, u16::from(NOP) << 8);
        *byte = NOP;
        sum.add_at(offset, checksum::delta_u16(old, new));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One's complement sum of the bytes as words.
    fn plain(bytes: &[u8]) -> u16 {
        let mut sum = Sum::default();
        for (at, byte) in bytes.iter().enumerate() {
            sum.add_at(at, u16::from(*byte) << 8);
            sum = Sum(u32::from(sum.fold()));
        }
        sum.fold()
    }

    fn check(options: &[u8], edits: Edits, expected: &[u8]) {
        let mut changed = options.to_vec();
        let sum = edit(&mut changed, &edits);
        assert_eq!(changed, expected);
        let mut whole = Sum::of(plain(options));
        whole.add(sum.fold());
        // 0 and 0xffff are the same number in one's complement.
        assert_eq!(whole.fold() % 0xffff, plain(expected) % 0xffff, "{options:x?}");
    }

    #[test]
    fn timestamps_move_wherever_they_stand() {
        let edits = Edits { tsval: 0x0102_0304, tsecr: 0xffff_ffff, ..Edits::default() };
        check(
            &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
            edits,
            &[1, 1, 8, 10, 1, 2, 3, 5, 0, 0, 0, 1],
        );
        check(
            &[1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 0],
            edits,
            &[1, 8, 10, 1, 2, 3, 5, 0, 0, 0, 1, 0],
        );
    }

    #[test]
    fn sack_edges_move() {
        check(
            &[1, 1, 5, 10, 0, 0, 0, 9, 0, 0, 1, 0],
            Edits { sack: 1, ..Edits::default() },
            &[1, 1, 5, 10, 0, 0, 0, 10, 0, 0, 1, 1],
        );
    }

    #[test]
    fn mss_is_lowered_not_raised() {
        let edits = Edits { mss_less: 8, ..Edits::default() };
        check(&[2, 4, 0x05, 0xb4], edits, &[2, 4, 0x05, 0xac]);
        check(&[2, 4, 0x02, 0x18], edits, &[2, 4, 0x02, 0x18]);
        check(&[2, 4, 0x01, 0x00], edits, &[2, 4, 0x01, 0x00]);
    }

    #[test]
    fn an_mss_is_clamped_wherever_it_stands() {
        for lead in [&[][..], &[1], &[1, 1], &[3, 3, 7]] {
            let mut options = [lead, &[2, 4, 0x05, 0xb4, 0]].concat();
            let before = plain(&options);
            let sum = clamp_mss(&mut options, 1_400).unwrap();
            assert_eq!(options[lead.len()..], [2, 4, 0x05, 0x78, 0]);
            let mut whole = Sum::of(before);
            whole.add(sum.fold());
            assert_eq!(whole.fold() % 0xffff, plain(&options) % 0xffff);
            assert!(clamp_mss(&mut options, 1_400).is_none(), "never raised");
        }
        for malformed in [&[2u8, 0][..], &[2], &[2, 4, 5], &[0, 2, 4, 5, 180], &[9, 40, 1]] {
            assert!(clamp_mss(&mut malformed.to_vec(), 100).is_none());
        }
    }

    #[test]
    fn a_foreign_client_address_is_blanked() {
        let edits = Edits { strip_toa: true, ..Edits::default() };
        check(
            &[1, 254, 8, 1, 2, 3, 4, 5, 6, 2, 4, 5],
            edits,
            &[1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 4, 5],
        );
    }

    #[test]
    fn malformed_options_end_the_walk() {
        let edits = Edits { tsval: 1, sack: 1, mss_less: 8, strip_toa: true, ..Edits::default() };
        for options in [&[2u8, 0, 5, 180][..], &[2, 1], &[8, 10, 0], &[254], &[2, 40, 0, 0]] {
            check(options, edits, options);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_keep_their_sum(options: [u8; 40], len in 0usize..=40, sack: u32, tsval: u32) {
            let mut changed = options;
            let edits = Edits { sack, tsval, tsecr: tsval ^ sack, mss_less: 8, strip_toa: true };
            let sum = edit(&mut changed[..len], &edits);
            let mut whole = Sum::of(plain(&options[..len]));
            whole.add(sum.fold());
            proptest::prop_assert_eq!(whole.fold() % 0xffff, plain(&changed[..len]) % 0xffff);
        }
    }
}
