//! The command line: dpctl.
#![forbid(unsafe_code)]
