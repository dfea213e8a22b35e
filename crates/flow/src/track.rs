//! What a packet does to the state of its conn; one file a protocol.

use types::Now;

use crate::flow::{FlowAddress, FlowId, flags};
use crate::state::State;
use crate::table::FlowTable;

pub mod icmp;
pub mod tcp;
pub mod udp;

/// What is to be done with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Track {
    /// Forward it.
    Pass,
    /// Forward it; it has changed the state of its conn.
    Moved {
        /// The state before.
        from: State,
        /// The state now.
        to: State,
    },
    /// It opens a new conn over an old one: remove that, and treat the packet as a miss.
    Reopen,
    /// Forward it as the extension of its conn says. Of TCP, nothing was tracked yet: see [`tcp::on_extended`].
    Extended,
    /// No conn expects it: drop it. Nothing was counted.
    Bad,
}

/// Counts a packet of a protocol whose only event is the first reply.
#[inline(always)]
fn count_reply<A: FlowAddress>(
    table: &mut FlowTable<A>,
    id: FlowId,
    ip_len: u16,
    now: Now,
    (from, to): (State, State),
) -> Track {
    let Some(flow) = table.flow_mut(id) else { return Track::Bad };
    flow.count(ip_len, now);
    if flow.state == from && id.dir() == types::Dir::Reverse {
        table.set_state(id.conn(), to, now);
        return Track::Moved { from, to };
    }
    if flow.has(flags::EXT) { Track::Extended } else { Track::Pass }
}
