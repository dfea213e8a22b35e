//! The words of [`crate::Neighbours`]: what it is told, what it answers, what it knows.

use std::net::IpAddr;

use types::{EthPortId, MacAddr};

use crate::next_hop::{NextHopError, NextHopId};

/// Times and limits of [`crate::Neighbours`], the same for both families; the defaults are Linux's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeighbourConfig {
    /// Next hops in all.
    pub capacity: u16,
    /// Learned neighbours of one interface. Above three quarters of it the unused ones go early.
    pub per_interface: usize,
    /// Neighbours of one interface that are being asked for: what a scan through us can cause.
    pub unresolved_per_interface: usize,
    /// A confirmed neighbour is taken as reachable for 0.5 to 1.5 of this (RFC 4861 §6.3.2).
    pub base_reachable_ms: u64,
    /// Between two questions.
    pub retrans_ms: u64,
    /// After which time in use a stale neighbour is asked.
    pub delay_ms: u64,
    /// After which time without use a stale or failed one is forgotten.
    pub gc_stale_ms: u64,
    /// Questions by broadcast, or to the solicited-node group, before giving up.
    pub broadcast_probes: u8,
    /// Questions to the known address before asking all.
    pub unicast_probes: u8,
    /// Nobody outside should know it: see [`crate::NextHopsWriter::new`].
    pub secret: [u64; 2],
}

impl Default for NeighbourConfig {
    fn default() -> Self {
        Self {
            capacity: u16::MAX,
            per_interface: 4096,
            unresolved_per_interface: 256,
            base_reachable_ms: 30_000,
            retrans_ms: 1000,
            delay_ms: 5000,
            gc_stale_ms: 60_000,
            broadcast_probes: 3,
            unicast_probes: 3,
            secret: [0; 2],
        }
    }
}

/// What is known of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NeighbourState {
    /// Asked for, never heard of.
    Incomplete,
    /// Has answered lately.
    Reachable,
    /// Has not answered lately, and is not used.
    Stale,
    /// Stale, and in use again: will be asked soon.
    Delay,
    /// Being asked.
    Probe,
    /// Has not answered.
    Failed,
    /// Set by the operator.
    Permanent,
}

impl NeighbourState {
    /// The name as `ip neighbour` prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Incomplete => "INCOMPLETE",
            Self::Reachable => "REACHABLE",
            Self::Stale => "STALE",
            Self::Delay => "DELAY",
            Self::Probe => "PROBE",
            Self::Failed => "FAILED",
            Self::Permanent => "PERMANENT",
        }
    }
}

/// A neighbour, for lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The slot that workers use.
    pub id: NextHopId,
    /// The interface that it is reached by.
    pub iface: EthPortId,
    /// Its address.
    pub address: IpAddr,
    /// Its Ethernet address, as far as known.
    pub mac: Option<MacAddr>,
    /// What is known of it.
    pub state: NeighbourState,
    /// When packets last went to it, to a second.
    pub used_ms: u64,
    /// When it last answered, or was set.
    pub confirmed_ms: u64,
    /// When the state changes, unless something is heard.
    pub(crate) deadline_ms: u64,
    /// Questions asked in this state.
    pub(crate) probes: u8,
}

/// How a packet told us of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It asked for an address of ours: an ARP request, a neighbour solicitation.
    Request,
    /// It answered us: an ARP reply, a solicited neighbour advertisement.
    Reply,
    /// It answered us, but what is known counts more: a solicited advertisement without the override flag
    /// (RFC 4861 §7.2.5).
    WeakReply,
    /// It announced itself, by an ARP packet whose sender and target address are the same or by an
    /// unsolicited advertisement with the override flag; or it spoke to others.
    Gratuitous,
}

/// What a packet says of its sender. Those with our own Ethernet address are not to be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Learned {
    /// Where it arrived.
    pub iface: EthPortId,
    /// The neighbour's address.
    pub address: IpAddr,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// How.
    pub heard: Heard,
}

/// What control has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourAction {
    /// Send an ARP request or a neighbour solicitation.
    Ask {
        /// Where.
        iface: EthPortId,
        /// For whom.
        target: IpAddr,
        /// From which address of ours, of the same family; none if the interface has none (RFC 5227 §1.1).
        source: Option<IpAddr>,
        /// To whom; `None`: to all.
        to: Option<MacAddr>,
    },
    /// Packets may go, to a new or changed Ethernet address.
    Resolved {
        /// The slot, already written.
        id: NextHopId,
        /// Where.
        iface: EthPortId,
        /// Whose.
        address: IpAddr,
        /// The Ethernet address.
        mac: MacAddr,
    },
    /// Nobody answered: what is held for it is to be dropped.
    Failed {
        /// The slot, already written.
        id: NextHopId,
        /// Where.
        iface: EthPortId,
        /// Whose.
        address: IpAddr,
    },
    /// Another station claims an address of ours.
    Conflict {
        /// Where.
        iface: EthPortId,
        /// Which.
        address: IpAddr,
        /// The other station.
        mac: MacAddr,
    },
}

/// Why a neighbour is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NeighbourError {
    /// Neither in a prefix on link nor a gateway; or ours.
    #[error("{address} is not on link of interface {}", .iface.0)]
    NotOnLink {
        /// The interface.
        iface: EthPortId,
        /// The address.
        address: IpAddr,
    },
    /// A limit of the interface is reached.
    #[error("no room for neighbour {address}: interface {} has {limit} {what}", .iface.0)]
    Limit {
        /// The interface.
        iface: EthPortId,
        /// The address.
        address: IpAddr,
        /// The limit.
        limit: usize,
        /// Of what.
        what: &'static str,
    },
    /// An Ethernet address that no station has.
    #[error("{0} is not the address of one station")]
    Mac(MacAddr),
    /// No slot.
    #[error(transparent)]
    NextHop(#[from] NextHopError),
}
