//! The nouns that all parts share: addresses by role, keys, directions, time and verdicts.
//!
//! Everything here is plain data in host byte order; network order never leaves the `wire` crate.
//! Words are those of `docs/glossary.md`.
#![forbid(unsafe_code)]

mod address;
mod class;
mod family;
mod io;
mod key;
mod keyed_hash;
mod packet;
mod slot;
mod time;
mod verdict;

pub use address::{Endpoint, Lip, MacAddr, ParseEndpointError, ParseMacError, RsAddr, Vip, WanIp};
pub use class::{ClassSet, PORT_CLASSES, port_class};
pub use family::{Address, map_v4, unmap_v4};
pub use io::Io;
pub use key::{Dir, FlowKey, FlowKey6, IcmpId, L4Port, Proto, Zone};
pub use keyed_hash::KeyedHash;
pub use packet::Packet;
pub use slot::{Slot, SlotAllocator};
pub use time::Now;
pub use verdict::Verdict;

/// Identifies an interface of ours (an ethdev, a bond or a VLAN on one); dense from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EthPortId(pub u16);

/// Identifies a DPDK lcore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LcoreId(pub u16);

/// Identifies a worker; dense from 0, one for each lcore that polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub u16);

/// Packets that pass the stages together, at most.
pub const BURST_MAX: usize = 64;
