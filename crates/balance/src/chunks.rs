//! A table by slot index that grows by chunks from outside, never by itself.

use types::Slot;

/// Cells in a chunk.
pub const CHUNK_LEN: usize = 1024;

/// Memory for the cells of `CHUNK_LEN` slots in a row.
#[derive(Debug)]
pub(crate) struct Chunk<T> {
    number: usize,
    cells: Box<[T]>,
}

impl<T: Default> Chunk<T> {
    pub(crate) fn new(number: usize) -> Self {
        Self { number, cells: (0..CHUNK_LEN).map(|_| T::default()).collect() }
    }
}

/// Cells of all slots below the chunks' end.
#[derive(Debug)]
pub(crate) struct Chunks<T> {
    root: Box<[Option<Box<[T]>>]>,
}

impl<T> Chunks<T> {
    pub(crate) fn new() -> Self {
        Self { root: (0..Slot::MAX / CHUNK_LEN).map(|_| None).collect() }
    }

    /// Puts a chunk into its place; it comes back if the place is taken or none.
    pub(crate) fn add(&mut self, chunk: Chunk<T>) -> Option<Chunk<T>> {
        match self.root.get_mut(chunk.number) {
            Some(place @ None) => {
                *place = Some(chunk.cells);
                None
            }
            _ => Some(chunk),
        }
    }

    pub(crate) fn has(&self, number: usize) -> bool {
        matches!(self.root.get(number), Some(Some(_)))
    }

    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        self.root.get(index / CHUNK_LEN)?.as_ref()?.get(index % CHUNK_LEN)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.root.get_mut(index / CHUNK_LEN)?.as_mut()?.get_mut(index % CHUNK_LEN)
    }

    /// The next chunk that exists, from `number` on and round, with its number.
    pub(crate) fn chunk_from(&self, number: usize) -> Option<usize> {
        (number..self.root.len()).chain(0..number).find(|&number| self.has(number))
    }
}
