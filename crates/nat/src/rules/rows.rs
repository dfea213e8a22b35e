//! Bit maps of rules, and the tables that lead to them.

use std::collections::HashMap;

use types::EthPortId;

/// All bit maps, each once. A row begins with its summary: bit n of that says that word n of what
/// follows is not 0.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    words: Box<[u64]>,
    summary_len: usize,
    stride: usize,
}

/// Builds [`Rows`].
pub(super) struct Builder {
    words: Vec<u64>,
    known: HashMap<Vec<u64>, u32>,
    len: usize,
}

impl Builder {
    pub(super) fn new(entries: usize) -> Self {
        Self { words: Vec::new(), known: HashMap::new(), len: entries.div_ceil(64) }
    }

    /// An empty bit map.
    pub(super) fn blank(&self) -> Vec<u64> {
        vec![0; self.len]
    }

    /// The row of a bit map.
    pub(super) fn row(&mut self, bits: &[u64]) -> u32 {
        if let Some(&row) = self.known.get(bits) {
            return row;
        }
        let row = self.known.len() as u32;
        let mut summary = vec![0; self.len.div_ceil(64)];
        for (at, _) in bits.iter().enumerate().filter(|(_, word)| **word != 0) {
            set(&mut summary, at);
        }
        self.words.extend(summary);
        self.words.extend(bits);
        self.known.insert(bits.to_vec(), row);
        row
    }

    pub(super) fn finish(self) -> Rows {
        let summary_len = self.len.div_ceil(64);
        Rows { words: self.words.into(), summary_len, stride: summary_len + self.len }
    }
}

pub(super) fn set(bits: &mut [u64], at: usize) {
    if let Some(word) = bits.get_mut(at / 64) {
        *word |= 1 << (at % 64);
    }
}

pub(super) fn clear(bits: &mut [u64], at: usize) {
    if let Some(word) = bits.get_mut(at / 64) {
        *word &= !(1 << (at % 64));
    }
}

impl Rows {
    #[inline]
    fn row(&self, row: u32) -> &[u64] {
        let start = row as usize * self.stride;
        self.words.get(start..start + self.stride).unwrap_or(&[])
    }

    /// The first bit that all rows have.
    #[inline]
    pub(super) fn first_common(&self, rows: [u32; 7]) -> Option<usize> {
        let rows = rows.map(|row| self.row(row));
        let common = |at: usize| {
            rows.iter().fold(u64::MAX, |bits, row| bits & row.get(at).copied().unwrap_or(0))
        };
        for at in 0..self.summary_len {
            let mut summary = common(at);
            while summary != 0 {
                let word = at * 64 + summary.trailing_zeros() as usize;
                let bits = common(self.summary_len + word);
                if bits != 0 {
                    return Some(word * 64 + bits.trailing_zeros() as usize);
                }
                summary &= summary - 1;
            }
        }
        None
    }
}

/// From numbers to rows, by intervals.
#[derive(Clone, Debug)]
pub(super) struct Intervals {
    /// Where intervals begin, in order; the first is 0.
    starts: Box<[u32]>,
    rows: Box<[u32]>,
}

impl Intervals {
    pub(super) fn new(starts: Vec<u32>, rows: Vec<u32>) -> Self {
        Self { starts: starts.into(), rows: rows.into() }
    }

    #[inline]
    pub(super) fn row(&self, number: u32) -> u32 {
        let at = self.starts.partition_point(|&start| start <= number);
        self.rows.get(at.wrapping_sub(1)).copied().unwrap_or(0)
    }
}

/// From protocols to rows.
#[derive(Clone, Debug)]
pub(super) struct Protocols(pub(super) Box<[u32; 256]>);

impl Protocols {
    #[inline]
    pub(super) fn row(&self, proto: u8) -> u32 {
        self.0.get(usize::from(proto)).copied().unwrap_or(0)
    }
}

/// From interfaces to rows; those that no rule names share one.
#[derive(Clone, Debug)]
pub(super) struct Devices {
    pub(super) rows: Box<[u32]>,
    pub(super) other: u32,
}

impl Devices {
    #[inline]
    pub(super) fn row(&self, device: Option<EthPortId>) -> u32 {
        let named = device.and_then(|device| self.rows.get(usize::from(device.0)));
        named.copied().unwrap_or(self.other)
    }
}
