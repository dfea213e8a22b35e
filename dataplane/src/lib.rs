//! The daemon: worker loop, packet path and control thread.
#![forbid(unsafe_code)]
