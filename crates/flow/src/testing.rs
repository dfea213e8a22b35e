//! Tables and conns for the tests of this crate.

use types::{FlowKey, Now, Proto, map_v4};

use crate::{
    ConnId, Flow, FlowAddress, FlowTable, NewCold, PageRequest, State, TableConfig, Timeouts,
};

/// Addresses that the tests' conns have.
pub(crate) trait TestAddress: FlowAddress {
    /// Client, VIP, LIP and real server of the n-th conn.
    fn ends(n: u32) -> [Self; 4];
}

/// As many clients have one LIP.
const HOST: u32 = 50_000;

impl TestAddress for u32 {
    fn ends(n: u32) -> [Self; 4] {
        [0x6440_0000 + n / HOST, 0xcb00_710a, 0xc612_0001 + n / HOST, 0xc612_0079]
    }
}

impl TestAddress for u128 {
    /// In turn all is IPv6, the client's side is, or the server's.
    fn ends(n: u32) -> [Self; 4] {
        let six = |address: u32| 0x2001_0db8 << 96 | Self::from(address);
        let [client, vip, lip, rs] = u32::ends(n);
        match n % 3 {
            0 => [six(client), six(vip), six(lip), six(rs)],
            1 => [six(client), six(vip), map_v4(lip), map_v4(rs)],
            _ => [map_v4(client), map_v4(vip), six(lip), six(rs)],
        }
    }
}

/// Runs tests that are generic over the address for both.
macro_rules! for_both {
    ($($name:ident)*) => {
        mod narrow {
            $(#[test] fn $name() { super::$name::<u32>(); })*
        }
        mod wide {
            $(#[test] fn $name() { super::$name::<u128>(); })*
        }
    };
}
pub(crate) use for_both;

/// A table whose seed is fixed.
pub(crate) fn table(max_connections: u32) -> FlowTable {
    table_of_seed(max_connections, 1)
}

pub(crate) fn table_of_seed<A: FlowAddress>(max_connections: u32, seed: u64) -> FlowTable<A> {
    let (seed, timeouts) = ([seed, 7], Timeouts::default());
    let config = TableConfig { max_connections, seed, timeouts, pages: PageRequest::Off };
    FlowTable::new(config).unwrap()
}

/// Both flows of the n-th FullNAT conn: client, VIP, LIP and RS.
pub(crate) fn pair<A: TestAddress>(proto: Proto, n: u32) -> (Flow<A>, Flow<A>) {
    let cport = (1024 + n % HOST) as u16;
    let [client, vip, lip, rs] = A::ends(n);
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
