//! TCP options: found in place, never copied.

use crate::chunk_at;

/// End of the list.
pub const END: u8 = 0;
/// Padding of one byte.
pub const NOP: u8 = 1;
/// Maximum segment size (RFC 9293 §3.7.1).
pub const MSS: u8 = 2;
/// Window scale (RFC 7323 §2).
pub const WINDOW_SCALE: u8 = 3;
/// Selective acknowledgment permitted (RFC 2018 §2).
pub const SACK_PERMITTED: u8 = 4;
/// Selective acknowledgment (RFC 2018 §3).
pub const SACK: u8 = 5;
/// Timestamps (RFC 7323 §3).
pub const TIMESTAMPS: u8 = 8;
/// The client's address and port, as FullNAT tells a real server (TOA; experimental, no RFC).
pub const TOA: u8 = 254;

/// Options in bytes, at most: what a data offset of 15 leaves.
pub const MAX_LEN: usize = 40;

/// Two NOPs and the kind and length of a timestamps option: how stacks begin most segments.
const NOP_NOP_TIMESTAMPS: [u8; 4] = [NOP, NOP, TIMESTAMPS, 10];

/// One option, NOPs left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpOption<'a> {
    /// Its kind.
    pub kind: u8,
    /// Where it begins (its kind byte), in bytes from the first option.
    pub offset: usize,
    /// What follows its kind and length.
    pub data: &'a [u8],
}

/// The options of a header one by one; ends at [`END`] and at the first that is malformed.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    options: &'a [u8],
    offset: usize,
}

/// Goes through `options`: the bytes between the fixed TCP header and the data.
#[inline]
pub fn iter(options: &[u8]) -> Iter<'_> {
    Iter { options, offset: 0 }
}

impl<'a> Iterator for Iter<'a> {
    type Item = TcpOption<'a>;

    #[inline]
    fn next(&mut self) -> Option<TcpOption<'a>> {
        // Each turn moves on by a byte or more, so there are at most as many as bytes.
        loop {
            let rest = self.options.get(self.offset..)?;
            let (&kind, rest) = rest.split_first()?;
            if kind == NOP {
                self.offset = self.offset.wrapping_add(1);
                continue;
            }
            let option = (kind != END).then(|| {
                let (&len, rest) = rest.split_first()?;
                let data = rest.get(..usize::from(len).checked_sub(2)?)?;
                Some(TcpOption { kind, offset: self.offset, data })
            });
            let option = option.flatten();
            self.offset = match option {
                Some(found) => found.offset.wrapping_add(2).wrapping_add(found.data.len()),
                None => self.options.len(),
            };
            return option;
        }
    }
}

/// A timestamps option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamps {
    /// Where TSval is, in bytes from the first option; TSecr is 4 further on.
    pub offset: usize,
    /// TSval, the sender's clock.
    pub value: u32,
    /// TSecr, the clock that it echoes; counts only with ACK.
    pub echo: u32,
}

impl Timestamps {
    #[inline(always)]
    fn at(options: &[u8], offset: usize) -> Option<Self> {
        let [a, b, c, d, e, f, g, h] = *chunk_at(options, offset)?;
        let (value, echo) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
        Some(Self { offset, value, echo })
    }
}

/// The timestamps option, if there is one.
#[inline]
pub fn find_timestamps(options: &[u8]) -> Option<Timestamps> {
    if options.first_chunk() == Some(&NOP_NOP_TIMESTAMPS) {
        return Timestamps::at(options, NOP_NOP_TIMESTAMPS.len());
    }
    let found = iter(options).find(|option| option.kind == TIMESTAMPS && option.data.len() == 8)?;
    Timestamps::at(options, found.offset.wrapping_add(2))
}

/// A maximum segment size option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mss {
    /// Where the number is, in bytes from the first option.
    pub offset: usize,
    /// The largest segment that the sender takes, in bytes.
    pub value: u16,
}

/// The maximum segment size option, if there is one.
#[inline]
pub fn find_mss(options: &[u8]) -> Option<Mss> {
    iter(options).find_map(|option| match (option.kind, option.data) {
        (MSS, &[high, low]) => Some(Mss {
            offset: option.offset.wrapping_add(2),
            value: u16::from_be_bytes([high, low]),
        }),
        _ => None,
    })
}

/// The edges of a SACK option: 32-bit sequence numbers, two for each block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SackEdges {
    /// Where the first edge is, in bytes from the first option.
    pub offset: usize,
    /// How many edges: 2 to 8, each 4 bytes.
    pub count: usize,
}

impl SackEdges {
    /// Where each edge is, in bytes from the first option.
    #[inline]
    pub fn offsets(self) -> impl Iterator<Item = usize> {
        (self.offset..).step_by(4).take(self.count)
    }
}

/// The edges of the SACK option, if there is one (RFC 2018 §3).
#[inline]
pub fn find_sack(options: &[u8]) -> Option<SackEdges> {
    iter(options).find_map(|option| {
        let blocks = option.data.len() / 8;
        let whole = option.data.len() % 8 == 0 && matches!(blocks, 1..=4);
        (option.kind == SACK && whole).then(|| SackEdges {
            offset: option.offset.wrapping_add(2),
            count: blocks.wrapping_mul(2),
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SYN: [u8; 20] = [2, 4, 0x05, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 3, 3, 7];

    #[test]
    fn the_options_of_a_linux_syn() {
        let kinds: Vec<_> = iter(&SYN).map(|option| (option.kind, option.offset)).collect();
        assert_eq!(kinds, [(MSS, 0), (SACK_PERMITTED, 4), (TIMESTAMPS, 6), (WINDOW_SCALE, 17)]);
        assert_eq!(find_mss(&SYN), Some(Mss { offset: 2, value: 1460 }));
        assert_eq!(find_timestamps(&SYN), Some(Timestamps { offset: 8, value: 1, echo: 2 }));
        assert_eq!(find_sack(&SYN), None);
    }

    #[test]
    fn the_common_layout_and_an_odd_one_are_found_alike() {
        let common = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
        let odd = [1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 0];
        assert_eq!(find_timestamps(&common), Some(Timestamps { offset: 4, value: 1, echo: 2 }));
        assert_eq!(find_timestamps(&odd), Some(Timestamps { offset: 3, value: 1, echo: 2 }));
        for len in 0..common.len() {
            assert_eq!(find_timestamps(&common[..len]), None);
        }
    }

    #[test]
    fn sack_edges_are_located() {
        let mut options = vec![1, 1, 5, 18];
        options.extend(0u8..16);
        let edges = find_sack(&options).unwrap();
        assert_eq!(edges.offsets().collect::<Vec<_>>(), [4, 8, 12, 16]);
        options[3] = 17;
        assert_eq!(find_sack(&options), None, "half a block");
    }

    #[test]
    fn malformed_options_end_the_list() {
        for bad in [&[2u8][..], &[2, 0, 0, 0], &[2, 1, 0, 0], &[2, 5, 0, 0], &[0, 2, 4, 5, 5]] {
            assert_eq!(iter(bad).count(), 0, "{bad:?}");
        }
        let mut after_bad = iter(&[1, 1, 2, 9, 2, 4, 0, 0]);
        assert_eq!(after_bad.next(), None);
        assert_eq!(after_bad.next(), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_gone_through(options in proptest::collection::vec(0u8..12, 0..=40)) {
            let mut end = 0;
            for option in iter(&options) {
                prop_assert!(option.offset >= end);
                end = option.offset + 2 + option.data.len();
                prop_assert!(end <= options.len());
            }
            if let Some(found) = find_timestamps(&options) {
                prop_assert!(found.offset + 8 <= options.len());
            }
            if let Some(found) = find_sack(&options) {
                prop_assert!(found.offsets().all(|offset| offset + 4 <= options.len()));
            }
        }
    }
}
