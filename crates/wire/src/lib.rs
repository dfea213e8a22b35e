//! Header views, checksums, the parser of the packet path and builders of replies.
//!
//! Everything works in place on byte slices, in host order on our side and network order in the
//! bytes; nothing here allocates or panics, whatever the bytes are.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

#[macro_use]
mod view;

pub mod arp;
pub mod checksum;
mod cut;
pub mod ethernet;
pub mod extension;
pub mod icmpv4;
pub mod icmpv6;
pub mod ipv4;
pub mod ipv6;
pub mod mld;
pub mod ndp;
mod parse;
pub mod reply;
pub mod segment;
pub mod tcp;
pub mod tcp_options;
pub mod udp;
mod unfinished;

pub use arp::Arp;
pub use cut::Cut;
pub use ethernet::Ethernet;
pub use extension::Piece;
pub use icmpv4::Icmpv4;
pub use icmpv6::Icmpv6;
pub use ipv4::Ipv4;
pub use ipv6::Ipv6;
pub use parse::{Kind, ParseError, Parsed, Parsed6, parse, parse6, verify_icmp, verify_icmp6};
pub use tcp::Tcp;
pub use udp::Udp;
pub use unfinished::{finish_l4_checksum, finish_l4_checksum6};
pub use view::{chunk_at, chunk_at_mut};
