//! Bindings to DPDK and one shim of burst-level helpers.
//!
//! Only the `dpdk` crate uses this one, and does not hand its items on.
#![allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unused_qualifications,
    clippy::all,
    clippy::multiple_unsafe_ops_per_block,
    clippy::undocumented_unsafe_blocks,
    reason = "generated code: names and shapes are DPDK's, documented at doc.dpdk.org"
)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
