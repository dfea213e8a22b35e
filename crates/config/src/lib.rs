//! The configuration file: schema, validation, merge and difference.
#![forbid(unsafe_code)]
