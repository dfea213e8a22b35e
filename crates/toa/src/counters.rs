//! What the programs in the kernel count.

use aya::maps::{Map, MapData, PerCpuArray};

use crate::error::ToaError;

/// A counter; its place in the kernel's array is that of `enum counter` in `csrc/dptoa.bpf.c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Connections whose client was learned.
    Learned,
    /// Connections from a balancer without option 254.
    NoOption,
    /// Connections from others.
    Untrusted,
    /// Clients that could not be kept.
    NoMemory,
    /// Names given.
    Answered,
    /// Names that an IPv4 socket cannot have.
    Unspeakable,
    /// Answers to the socket option.
    AnsweredSockopt,
    /// Datagrams that told their client.
    LearnedUdp,
    /// Senders of datagrams named.
    AnsweredUdp,
    /// Datagrams sent by a LIP.
    RepliedUdp,
    /// Clients that came by another LIP or port than before.
    MovedUdp,
}

impl Counter {
    /// All, in the kernel's order.
    pub const ALL: [Self; 11] = [
        Self::Learned,
        Self::NoOption,
        Self::Untrusted,
        Self::NoMemory,
        Self::Answered,
        Self::Unspeakable,
        Self::AnsweredSockopt,
        Self::LearnedUdp,
        Self::AnsweredUdp,
        Self::RepliedUdp,
        Self::MovedUdp,
    ];

    /// Its name in JSON and text.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Learned => "learned",
            Self::NoOption => "no-option",
            Self::Untrusted => "untrusted",
            Self::NoMemory => "no-memory",
            Self::Answered => "answered",
            Self::Unspeakable => "ipv6-on-ipv4-socket",
            Self::AnsweredSockopt => "answered-getsockopt",
            Self::LearnedUdp => "udp-learned",
            Self::AnsweredUdp => "udp-answered",
            Self::RepliedUdp => "udp-replied",
            Self::MovedUdp => "udp-moved",
        }
    }

    /// What it counts.
    pub const fn help(self) -> &'static str {
        match self {
            Self::Learned => "connections from a balancer whose client was learned",
            Self::NoOption => {
                "connections from a balancer without option 254: the peer stays the balancer"
            }
            Self::Untrusted => "connections from others: their peer is who they are",
            Self::NoMemory => {
                "connections whose client could not be kept: the peer stays the balancer"
            }
            Self::Answered => "times that a program asked for a peer and was told the client",
            Self::Unspeakable => {
                "times that the peer of an IPv4 socket was asked for whose client has IPv6"
            }
            Self::AnsweredSockopt => "times that the client was told by getsockopt()",
            Self::LearnedUdp => "datagrams from a balancer that told their client",
            Self::AnsweredUdp => "times that a program took a datagram and was told the client",
            Self::RepliedUdp => "datagrams to a client that were sent to the LIP by which it came",
            Self::MovedUdp => {
                "clients of a socket that came by another LIP or port than before: answers go the new way"
            }
        }
    }
}

/// Their values now, summed over all CPUs.
pub(crate) fn read(map: MapData) -> Result<Vec<(Counter, u64)>, ToaError> {
    let array: PerCpuArray<MapData, u64> = PerCpuArray::try_from(Map::PerCpuArray(map))?;
    let value = |(index, counter)| {
        let values = array.get(&index, 0)?;
        Ok((counter, values.iter().sum()))
    };
    (0u32..).zip(Counter::ALL).map(value).collect()
}
