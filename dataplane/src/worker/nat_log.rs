//! What a worker tells of mappings and sessions of the gateway, for the log of NAT.

use nat::mapping::Endpoint32;
use types::Slot;

/// Records that control has not read yet, at most; more are a counted loss.
pub const RECORDS: usize = 16_384;

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An inside endpoint has got an outside endpoint.
    MappingCreated,
    /// It has it no more.
    MappingDeleted,
    /// A conn has been opened.
    SessionCreated,
    /// A conn has ended.
    SessionDeleted,
}

/// A mapping or session that begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatRecord {
    /// What happened.
    pub kind: Kind,
    /// When, in ticks.
    pub tick_ms: u32,
    /// IANA protocol number; without ports all ports are 0.
    pub proto: u8,
    /// The inside endpoint.
    pub inside: Endpoint32,
    /// How the outside knows it.
    pub outside: Endpoint32,
    /// With whom it speaks; of a mapping it says nothing.
    pub remote: Endpoint32,
    /// The rule or port forward.
    pub rule: Slot,
    /// Packets and bytes that it sent, at the end of a session.
    pub sent: (u32, u64),
    /// Packets and bytes that it got, at the end of a session.
    pub received: (u32, u64),
}
