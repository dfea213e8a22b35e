//! Checks of real servers: what is asked, when, and what follows from the answers.
//!
//! [`Judge`], [`ruling`] and [`Ruling`] are pure: answers and times go in, and what becomes of a server or a
//! service comes out. [`Checker`] asks, on a thread of its own with one task for each [`Target`]; its sockets
//! are the kernel's.
#![forbid(unsafe_code)]

mod board;
mod checker;
mod judge;
mod probe;
mod ruling;

pub use board::{Change, Status};
pub use checker::Checker;
pub use judge::{Judge, Next, Rules};
pub use probe::{Outcome, Target, Way};
pub use ruling::{Member, Ruling, ruling};
