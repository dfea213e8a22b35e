//! ICMP queries: answered or not yet (RFC 5508 §3.2).

use types::Now;

use super::{Track, count_reply};
use crate::flow::FlowId;
use crate::state::State;
use crate::table::FlowTable;

/// Takes note of a query or reply of `ip_len` bytes, counted from its IP header.
#[inline]
pub fn on_packet(table: &mut FlowTable, id: FlowId, ip_len: u16, now: Now) -> Track {
    count_reply(table, id, ip_len, now, (State::IcmpOneway, State::Icmp))
}
