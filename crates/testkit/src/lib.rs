//! What tests speak in: packets built and decoded, time moved by hand, counters compared by name.
//!
//! ```
//! use testkit::{Decoded, pkt};
//!
//! let syn = pkt().ipv4("198.51.100.7", "203.0.113.10").tcp(40_000, 80).syn().seq(1).mss(1460).build();
//! let decoded = Decoded::check(&syn);
//! assert_eq!(decoded.to_string(), "tcp 198.51.100.7:40000 > 203.0.113.10:80 [S] seq 1 len 0");
//! assert_eq!(decoded.tcp().mss, Some(1460));
//! ```
//!
//! A dev-dependency only. Everything here panics with a readable message where a test is at fault.
#![forbid(unsafe_code)]

mod address;
mod buf;
mod builder;
mod clock;
pub mod decoded;
mod ledger;
mod pcap;
mod port;

pub use address::{ToIp, ToIp6, ToMac, ip, ip6, key, key6, mac};
pub use buf::Buf;
pub use builder::{PacketBuilder, pkt};
pub use clock::FakeClock;
pub use decoded::Decoded;
pub use ledger::Ledger;
pub use pcap::PcapWriter;
pub use port::FakePorts;
