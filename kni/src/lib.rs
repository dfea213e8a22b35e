//! The kernel's interface to one of ours.
