//! Packets that wait until their next hop's Ethernet address is known.

use std::net::IpAddr;

use types::{EthPortId, Now, Packet};

/// Packets that wait, at most; RFC 1122 §2.3.2.2 asks for one a neighbour at least.
pub const HELD_MAX: usize = 512;
/// Packets that wait for one neighbour, at most.
const HELD_FOR_ONE: usize = 64;
/// How long one waits: the neighbour is asked three times in it, a second apart.
const WAIT_MS: u32 = 3_500;

/// A neighbour that a packet waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The interface that leads there.
    pub interface: EthPortId,
    /// The gateway's or the destination's address.
    pub address: IpAddr,
}

/// The packets that wait, in the order in which they came.
#[derive(Debug)]
pub struct Held<P> {
    packets: Vec<(P, Waiting, u32)>,
}

impl<P> Default for Held<P> {
    fn default() -> Self {
        Self { packets: Vec::with_capacity(HELD_MAX) }
    }
}

impl<P: Packet> Held<P> {
    /// Keeps a packet; gives it back without room for it.
    pub fn push(&mut self, packet: P, waiting: Waiting, now: Now) -> Result<(), P> {
        let for_it = self.packets.iter().filter(|(_, other, _)| *other == waiting).count();
        if self.packets.len() == HELD_MAX || for_it >= HELD_FOR_ONE {
            return Err(packet);
        }
        self.packets.push((packet, waiting, now.tick_ms));
        Ok(())
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// True if none waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// What the packet at a place waits for, and since when.
    pub fn peek(&self, at: usize) -> Option<(Waiting, u32)> {
        self.packets.get(at).map(|(_, waiting, since)| (*waiting, *since))
    }

    /// Whether one that came at `since` has waited too long.
    pub fn is_late(&self, since: u32, now: Now) -> bool {
        now.since(since) > WAIT_MS
    }

    /// Takes the packet at a place; those behind it move up.
    pub fn take(&mut self, at: usize) -> Option<P> {
        (at < self.packets.len()).then(|| self.packets.remove(at).0)
    }
}
