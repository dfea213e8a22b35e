//! ICMP queries: answered or not yet (RFC 5508 §3.2).

use types::Now;

use super::{Track, count_reply};
use crate::flow::{FlowAddress, FlowId};
use crate::state::State;
use crate::table::FlowTable;

/// Takes note of a query or reply of `ip_len` bytes, counted from its IP header.
#[inline]
pub fn on_packet<A: FlowAddress>(
    table: &mut FlowTable<A>,
    id: FlowId,
    ip_len: u16,
    now: Now,
) -> Track {
    count_reply(table, id, ip_len, now, (State::IcmpOneway, State::Icmp))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{conn, table};
    use types::Proto;

    #[test]
    fn the_first_reply_establishes() {
        let mut table = table(4);
        let conn = conn(&mut table, Proto::Icmp, Now::from_ms(0));
        assert_eq!(on_packet(&mut table, conn.forward(), 84, Now::from_ms(1)), Track::Pass);
        let moved = Track::Moved { from: State::IcmpOneway, to: State::Icmp };
        assert_eq!(on_packet(&mut table, conn.reverse(), 84, Now::from_ms(2)), moved);
        assert_eq!(on_packet(&mut table, conn.forward(), 84, Now::from_ms(3)), Track::Pass);
    }
}
