//! The command line: dpctl, which also speaks `dpip` and `ipvsadm`.
#![forbid(unsafe_code)]

pub mod cli;
pub mod words;

#[cfg(feature = "client")]
mod commands;
#[cfg(feature = "client")]
mod compat;
#[cfg(feature = "client")]
mod error;
#[cfg(feature = "client")]
mod output;
#[cfg(feature = "client")]
mod program;
#[cfg(feature = "client")]
mod session;
#[cfg(feature = "client")]
mod units;

#[cfg(feature = "client")]
pub use program::{Build, Terminal, main, run};
