//! What to rewrite, and how.
#![forbid(unsafe_code)]
