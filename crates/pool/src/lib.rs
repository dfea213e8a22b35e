//! Leases of ports and ICMP identifiers.
#![forbid(unsafe_code)]
