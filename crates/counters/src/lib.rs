//! Per-worker statistics and their merge.
#![forbid(unsafe_code)]
