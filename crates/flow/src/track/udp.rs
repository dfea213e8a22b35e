//! UDP: one-way until the first reply (RFC 4787 §4.3 leaves the timers to us).

use types::Now;

use super::{Track, count_reply};
use crate::flow::{FlowAddress, FlowId};
use crate::state::State;
use crate::table::FlowTable;

/// Takes note of a packet of `ip_len` bytes, counted from its IP header.
#[inline]
pub fn on_packet<A: FlowAddress>(
    table: &mut FlowTable<A>,
    id: FlowId,
    ip_len: u16,
    now: Now,
) -> Track {
    count_reply(table, id, ip_len, now, (State::UdpOneway, State::Udp))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{conn, table};
    use types::Proto;

    #[test]
    fn the_first_reply_establishes_and_only_that() {
        let mut table = table(4);
        let conn = conn(&mut table, Proto::Udp, Now::from_ms(0));
        let (forward, reverse) = (conn.forward(), conn.reverse());
        assert_eq!(on_packet(&mut table, forward, 100, Now::from_ms(1)), Track::Pass);
        assert_eq!(table.flow(forward).unwrap().state, State::UdpOneway);
        let moved = Track::Moved { from: State::UdpOneway, to: State::Udp };
        assert_eq!(on_packet(&mut table, reverse, 200, Now::from_ms(2)), moved);
        assert_eq!(on_packet(&mut table, reverse, 300, Now::from_ms(3)), Track::Pass);
        let (forward, reverse) = (table.flow(forward).unwrap(), table.flow(reverse).unwrap());
        assert_eq!((forward.packets, forward.bytes(), forward.last_seen), (1, 100, 1));
        assert_eq!((reverse.packets, reverse.bytes(), reverse.last_seen), (2, 500, 3));
        assert_eq!((forward.state, reverse.state), (State::Udp, State::Udp));
    }

    #[test]
    fn a_packet_of_no_conn_is_bad() {
        assert_eq!(on_packet(&mut table(1), FlowId(0), 1, Now::default()), Track::Bad);
        assert_eq!(on_packet(&mut table(1), FlowId(9), 1, Now::default()), Track::Bad);
    }
}
