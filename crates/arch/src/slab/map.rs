//! A slab's memory as an anonymous mapping of its own.

use std::io;
use std::marker::PhantomData;
use std::ptr::NonNull;

use super::{PageRequest, Pages, SlabError};
use crate::zeroable::Zeroable;

const MIB2: usize = 2 << 20;
const GIB1: usize = 1 << 30;
const SMALL: usize = 4096;

pub(super) struct Memory<T> {
    start: NonNull<T>,
    len: usize,
    mapped: usize,
    pages: Pages,
    elements: PhantomData<T>,
}

// SAFETY: the mapping is private to this value, as a Vec's buffer is.
unsafe impl<T: Send> Send for Memory<T> {}
// SAFETY: `&Memory` gives out `&T` only.
unsafe impl<T: Sync> Sync for Memory<T> {}

impl<T: Zeroable> Memory<T> {
    const ALIGNED: () = assert!(align_of::<T>() <= SMALL, "a mapping starts at a page");

    pub(super) fn reserve(len: usize, request: PageRequest) -> Result<Self, SlabError> {
        let () = Self::ALIGNED;
        let error =
            |bytes, source| SlabError { bytes, huge: request == PageRequest::Required, source };
        // A Rust slice may not be larger than isize::MAX bytes.
        let bytes = len
            .checked_mul(size_of::<T>())
            .filter(|&bytes| bytes <= isize::MAX as usize - GIB1)
            .ok_or_else(|| error(usize::MAX, io::ErrorKind::OutOfMemory.into()))?
            .max(1);
        let (start, mapped, pages) = map(bytes, request).map_err(|source| error(bytes, source))?;
        Ok(Self { start: start.cast(), len, mapped, pages, elements: PhantomData })
    }

    pub(super) fn pages(&self) -> Pages {
        self.pages
    }

    #[inline(always)]
    pub(super) fn as_slice(&self) -> &[T] {
        // SAFETY: `start` is page-aligned, `len` elements of it are mapped, live as long as `self`
        // and hold valid values: zeroes (`Zeroable`) or what was written through `as_mut_slice`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    #[inline(always)]
    pub(super) fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: as in `as_slice`; `&mut self` makes this the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl<T> Drop for Memory<T> {
    fn drop(&mut self) {
        unmap(self.start.as_ptr().cast(), self.mapped);
    }
}

/// Maps at least `bytes`: their start, how much was mapped, and of what pages.
fn map(bytes: usize, request: PageRequest) -> io::Result<(NonNull<u8>, usize, Pages)> {
    if request == PageRequest::Off {
        return map_aligned(bytes).map(|(start, mapped)| (start, mapped, Pages::Small));
    }
    // A GiB page is taken only if rounding up wastes less than an eighth.
    let gib = bytes.next_multiple_of(GIB1);
    if gib - bytes <= bytes / 8
        && let Ok(start) = map_anonymous(gib, libc::MAP_HUGETLB | libc::MAP_HUGE_1GB)
    {
        return Ok((start, gib, Pages::Huge1G));
    }
    let mib = bytes.next_multiple_of(MIB2);
    if request == PageRequest::Required || bytes >= MIB2 / 2 {
        match map_anonymous(mib, libc::MAP_HUGETLB | libc::MAP_HUGE_2MB) {
            Ok(start) => return Ok((start, mib, Pages::Huge2M)),
            Err(error) if request == PageRequest::Required => return Err(error),
            Err(_) => {}
        }
    }
    let (start, mapped) = map_aligned(bytes)?;
    let pages =
        if bytes >= MIB2 && advise_huge(start, mapped) { Pages::Transparent } else { Pages::Small };
    Ok((start, mapped, pages))
}

/// Small pages; the start is where a huge page may start if there is room for one.
fn map_aligned(bytes: usize) -> io::Result<(NonNull<u8>, usize)> {
    if bytes < MIB2 {
        let mapped = bytes.next_multiple_of(SMALL);
        return Ok((map_anonymous(mapped, 0)?, mapped));
    }
    let mapped = bytes.next_multiple_of(MIB2);
    let all = map_anonymous(mapped + MIB2, 0)?;
    let head = all.as_ptr().align_offset(MIB2);
    let start = all.as_ptr().wrapping_add(head);
    unmap(all.as_ptr(), head);
    unmap(start.wrapping_add(mapped), MIB2 - head);
    NonNull::new(start).map(|start| (start, mapped)).ok_or_else(io::Error::last_os_error)
}

fn map_anonymous(bytes: usize, flags: i32) -> io::Result<NonNull<u8>> {
    // SAFETY: a new anonymous private mapping at an address of the kernel's choice touches no
    // memory that Rust knows of.
    let start = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags,
            -1,
            0,
        )
    };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(start.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

fn unmap(start: *mut u8, bytes: usize) {
    if bytes > 0 {
        // SAFETY: the callers pass whole pages of a mapping of theirs that nothing refers to.
        unsafe { libc::munmap(start.cast(), bytes) };
    }
}

/// See [`super::advise_huge`].
pub(super) fn advise(start: *const u8, bytes: usize) {
    let head = start.align_offset(SMALL).min(bytes);
    let whole = (bytes - head) / SMALL * SMALL;
    if let Some(start) = NonNull::new(start.wrapping_add(head).cast_mut())
        && whole >= MIB2
    {
        // Without them it is slower, and nothing else.
        let _ = advise_huge(start, whole);
    }
}

fn advise_huge(start: NonNull<u8>, bytes: usize) -> bool {
    // SAFETY: the pages are mapped, and this advice changes no content.
    unsafe { libc::madvise(start.as_ptr().cast(), bytes, libc::MADV_HUGEPAGE) == 0 }
}
