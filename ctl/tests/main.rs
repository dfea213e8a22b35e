//! `dpctl` as users meet it: what it prints, what it asks the daemon, and its exit codes.
#![forbid(unsafe_code)]

mod abbreviations;
mod daemon;
mod golden;
mod grammar;
