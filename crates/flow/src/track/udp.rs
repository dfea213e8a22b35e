//! UDP: one-way until the first reply (RFC 4787 §4.3 leaves the timers to us).

use types::Now;

use super::{Track, count_reply};
use crate::flow::FlowId;
use crate::state::State;
use crate::table::FlowTable;

/// Takes note of a packet of `ip_len` bytes, counted from its IP header.
#[inline]
pub fn on_packet(table: &mut FlowTable, id: FlowId, ip_len: u16, now: Now) -> Track {
    count_reply(table, id, ip_len, now, (State::UdpOneway, State::Udp))
}
