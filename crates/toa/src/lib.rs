//! `dptoa`, the agent that shows a real server its clients' addresses.
//!
//! Behind FullNAT a server's peer is the balancer. The balancer tells the client's address in TCP option 254;
//! programs of ours in the kernel read it and give it to whoever asks for the peer's name. What they do is in
//! `csrc/dptoa.bpf.c`; here they are loaded, attached and looked at.

mod balancers;
pub mod cli;

#[cfg(feature = "agent")]
mod agent;
#[cfg(feature = "agent")]
mod check;
#[cfg(feature = "agent")]
mod counters;
#[cfg(feature = "agent")]
mod error;
#[cfg(feature = "agent")]
mod kernel;
#[cfg(feature = "agent")]
mod link;
#[cfg(feature = "agent")]
mod pins;
#[cfg(feature = "agent")]
mod program;
#[cfg(feature = "agent")]
mod status;

pub use balancers::{Balancers, BalancersError};
#[cfg(feature = "agent")]
pub use counters::Counter;
#[cfg(feature = "agent")]
pub use program::{Build, main};
