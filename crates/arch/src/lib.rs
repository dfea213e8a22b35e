//! What depends on the processor: prefetch, tag compare, huge-page slabs, the cycle counter.
//!
//! Everything has a portable body, which Miri runs too; the rest of the workspace stays free of
//! `unsafe` because this crate keeps it.

mod cycles;
mod prefetch;
mod slab;
mod tags;
mod zeroable;

pub use cycles::{tsc, tsc_hz};
pub use prefetch::{prefetch_read, prefetch_write};
pub use slab::{HugeSlab, PageRequest, Pages, SlabError, advise_huge};
pub use tags::tag_match;
pub use zeroable::{Zeroable, zero};
