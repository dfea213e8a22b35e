//! Large arrays of zeroes on huge pages, which cost nothing where they are not touched.

use std::io;

use crate::prefetch::{prefetch_read, prefetch_write};
use crate::zeroable::Zeroable;

#[cfg(not(miri))]
#[path = "slab/map.rs"]
mod memory;
#[cfg(miri)]
#[path = "slab/portable.rs"]
mod memory;

use memory::Memory;

/// What to ask the kernel for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PageRequest {
    /// Reserved huge pages if there are enough, else transparent ones.
    #[default]
    Auto,
    /// Reserved huge pages or nothing.
    Required,
    /// Pages of the usual size.
    Off,
}

/// What the kernel gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// Reserved pages of 1 GiB.
    Huge1G,
    /// Reserved pages of 2 MiB.
    Huge2M,
    /// Transparent huge pages, where the kernel finds some.
    Transparent,
    /// Pages of the usual size.
    Small,
}

/// Memory that the kernel did not give.
#[derive(Debug, thiserror::Error)]
#[error("cannot reserve {bytes} bytes{}: {source}", if *.huge { " of huge pages" } else { "" })]
pub struct SlabError {
    /// How much was asked for.
    pub bytes: usize,
    /// Whether it had to be huge pages.
    pub huge: bool,
    /// What the kernel said.
    pub source: io::Error,
}

/// Asks for transparent huge pages under memory that was just allocated and not touched, if it is large. Nothing
/// else changes.
pub fn advise_huge<T>(memory: &[T]) {
    memory::advise(memory.as_ptr().cast(), size_of_val(memory));
}

/// A fixed number of elements, zero at first. Pages that are never touched use no memory.
pub struct HugeSlab<T: Zeroable> {
    memory: Memory<T>,
}

impl<T: Zeroable> HugeSlab<T> {
    /// Reserves `len` elements.
    ///
    /// # Errors
    /// The kernel refuses, or has no huge pages though they are [`PageRequest::Required`].
    pub fn new(len: usize, request: PageRequest) -> Result<Self, SlabError> {
        Memory::reserve(len, request).map(|memory| Self { memory })
    }

    /// How many elements there are.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// True if there is none.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pages that hold them.
    pub fn pages(&self) -> Pages {
        self.memory.pages()
    }

    /// One element.
    #[inline(always)]
    pub fn get(&self, index: usize) -> Option<&T> {
        self.as_slice().get(index)
    }

    /// One element, to change it.
    #[inline(always)]
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.as_mut_slice().get_mut(index)
    }

    /// Asks the first line of an element into the cache; nothing happens beyond the end.
    #[inline(always)]
    pub fn prefetch(&self, index: usize) {
        if let Some(element) = self.get(index) {
            prefetch_read(element);
        }
    }

    /// As [`HugeSlab::prefetch`], to write.
    #[inline(always)]
    pub fn prefetch_write(&self, index: usize) {
        if let Some(element) = self.get(index) {
            prefetch_write(element);
        }
    }

    /// All elements.
    #[inline(always)]
    pub fn as_slice(&self) -> &[T] {
        self.memory.as_slice()
    }

    /// All elements, to change them.
    #[inline(always)]
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        self.memory.as_mut_slice()
    }
}

impl<T: Zeroable> std::fmt::Debug for HugeSlab<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HugeSlab").field("len", &self.len()).field("pages", &self.pages()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_zero_and_keep_what_is_written() {
        for request in [PageRequest::Auto, PageRequest::Off] {
            let mut slab = HugeSlab::<[u64; 8]>::new(1000, request).unwrap();
            assert_eq!(slab.len(), 1000);
            assert!(slab.as_slice().iter().all(|each| *each == [0; 8]));
            slab.get_mut(999).unwrap()[7] = 5;
            assert_eq!(slab.get(999).unwrap()[7], 5);
            assert!(slab.get(1000).is_none());
            slab.prefetch(999);
            slab.prefetch(1000);
            slab.prefetch_write(usize::MAX);
        }
    }

    #[test]
    fn none_is_fine() {
        let slab = HugeSlab::<u32>::new(0, PageRequest::Auto).unwrap();
        assert!(slab.is_empty());
        assert!(slab.get(0).is_none());
    }

    #[test]
    #[cfg(not(miri))]
    fn untouched_memory_costs_nothing() {
        let resident = || -> usize {
            let text = std::fs::read_to_string("/proc/self/statm").unwrap();
            text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
        };
        let before = resident();
        let mut slab = HugeSlab::<[u64; 8]>::new(16 << 20, PageRequest::Off).unwrap();
        slab.get_mut(8 << 20).unwrap()[0] = 1;
        assert!(resident() - before < 64 << 20, "1 GiB reserved, one page touched");
        assert_eq!(slab.as_slice().as_ptr() as usize % (2 << 20), 0);
    }

    #[test]
    #[cfg(not(miri))]
    fn too_much_is_an_error_that_says_how_much() {
        let error = HugeSlab::<u64>::new(usize::MAX / 8, PageRequest::Auto).unwrap_err();
        assert!(error.to_string().starts_with("cannot reserve "), "{error}");
        assert!(HugeSlab::<u64>::new(usize::MAX, PageRequest::Auto).is_err());
    }
}
