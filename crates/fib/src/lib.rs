//! Addresses and their owners, routes, neighbours and next hops.
#![forbid(unsafe_code)]
