//! Services, real servers and schedulers.
#![forbid(unsafe_code)]
