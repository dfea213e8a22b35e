//! A slab's memory as a Vec, for Miri.

use super::{PageRequest, Pages, SlabError};
use crate::zeroable::{Zeroable, zero};

pub(super) struct Memory<T> {
    elements: Vec<T>,
}

impl<T: Zeroable> Memory<T> {
    pub(super) fn reserve(len: usize, _request: PageRequest) -> Result<Self, SlabError> {
        Ok(Self { elements: vec![zero(); len] })
    }

    pub(super) fn pages(&self) -> Pages {
        Pages::Small
    }

    pub(super) fn as_slice(&self) -> &[T] {
        &self.elements
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.elements
    }
}

pub(super) fn advise(_start: *const u8, _bytes: usize) {}
