//! End-to-end tests: real programs talk through a real `dpnatd` between network namespaces.
#![forbid(unsafe_code)]

mod common;
mod lab;
