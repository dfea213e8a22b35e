//! Which worker owns a key.
#![forbid(unsafe_code)]
