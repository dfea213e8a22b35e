//! Tables and conns for the tests of this crate.

use types::{FlowKey, Now, Proto};

use crate::{ConnId, Flow, FlowTable, NewCold, PageRequest, State, TableConfig, Timeouts};

/// A table whose seed is fixed.
pub(crate) fn table(max_connections: u32) -> FlowTable {
    table_of_seed(max_connections, 1)
}

pub(crate) fn table_of_seed(max_connections: u32, seed: u64) -> FlowTable {
    let (seed, timeouts) = ([seed, 7], Timeouts::default());
    let config = TableConfig { max_connections, seed, timeouts, pages: PageRequest::Off };
    FlowTable::new(config).unwrap()
}

/// Both flows of the n-th FullNAT conn: client, VIP, LIP and RS.
pub(crate) fn pair(proto: Proto, n: u32) -> (Flow, Flow) {
    let host = n / 50_000;
    let (client, cport) = (0x6440_0000 + host, (1024 + n % 50_000) as u16);
    let (vip, lip, rs) = (0xcb00_710a, 0xc612_0001 + host, 0xc612_0079);
    let (zone, proto_number) = (0, proto.number());
    let key =
        |src, sport, dst, dport| FlowKey { src, dst, sport, dport, zone, proto: proto_number };
    let arrives = [key(client, cport, vip, 80), key(rs, 8080, lip, cport)];
    let leaves = [arrives[1].reversed(), arrives[0].reversed()];
    let flow = |at: usize| Flow {
        state: State::opening(proto.number()),
        new_src: leaves[at].src,
        new_dst: leaves[at].dst,
        new_sport: leaves[at].sport,
        new_dport: leaves[at].dport,
        ..Flow::with_key(arrives[at])
    };
    (flow(0), flow(1))
}

/// Opens the first conn.
pub(crate) fn conn(table: &mut FlowTable, proto: Proto, now: Now) -> ConnId {
    let (forward, reverse) = pair(proto, 0);
    table.insert(forward, reverse, NewCold::default(), now).unwrap()
}
