//! The flow table: lookup, the conn slab, expiry, tracking and records.
#![forbid(unsafe_code)]
