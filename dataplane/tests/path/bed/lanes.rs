//! What both lanes of a worker have, together or one by one.

use dataplane::path::lane::Lane;
use dataplane::worker::{Core, Worker};
use flow::{Cold, ConnId, Cursor, State};
use testkit::{Buf, FakePorts};

/// A count of either lane, together.
pub(super) fn both(narrow: u32, wide: u32) -> u64 {
    u64::from(narrow) + u64::from(wide)
}

/// The ports that a worker has leased, of both families.
pub(super) fn leases(worker: &Worker<FakePorts>) -> pool::Usage {
    let (v4, v6) = (worker.core.leases.totals(), worker.core.wide.leases.totals());
    pool::Usage { taken: v4.taken + v6.taken, resting: v4.resting + v6.resting }
}

/// All conns of a lane.
pub(super) fn conn_ids<A: Lane>(core: &Core<Buf>) -> impl Iterator<Item = ConnId> {
    let (mut cursor, mut budget) = (Cursor::default(), u32::MAX);
    std::iter::from_fn(move || A::table(core).next_conn(&mut cursor, &mut budget))
}

/// The cold parts and the states of all conns of a lane.
pub(super) fn conns<A: Lane>(core: &Core<Buf>) -> impl Iterator<Item = (Cold, State)> {
    conn_ids::<A>(core).map(|conn| {
        let table = A::table(core);
        let state = table.flow(conn.forward()).expect("a live conn").state;
        (*table.cold(conn).expect("a live conn"), state)
    })
}
