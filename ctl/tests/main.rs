//! `dpctl` as users meet it: what it prints, what it asks the daemon, and its exit codes.
#![forbid(unsafe_code)]

mod abbreviations;
mod daemon;
mod drop_in;
mod drop_in_changes;
mod golden;
mod grammar;
mod import;
