//! What a worker does besides packets, a little each round: expiry, rests, housekeeping.

use counters::Event;
use flow::{Budget, ConnId, Due, State};
use types::{Io, Now};

use super::Worker;
use crate::path::lane::Lane;
use crate::path::{answer_syns, close, fold_counts, tend_headers};

/// Heads of lists, and places of the slab, that one round looks at.
const HEADS: u32 = 64;
const PLACES: u32 = 256;
/// Rests that one round ends.
const RESTS: usize = 64;
/// Housekeeping of cells: so many slots, so often.
const SETTLED: usize = 16;
const SETTLE_MS: u32 = 5;

/// When things were done last, in ticks.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    held_at: u32,
    settled_at: u32,
}

impl Sweep {
    /// True once in so many milliseconds.
    pub(super) fn held_due(&mut self, now: Now, every_ms: u32) -> bool {
        is_due(&mut self.held_at, now, every_ms)
    }
}

/// True, and noted in `last_ms`, once in so many milliseconds. The difference is taken modulo 2^32 and not
/// by [`Now::since`], for which half of all first ticks would lie ahead of 0.
pub(super) fn is_due(last_ms: &mut u32, now: Now, every_ms: u32) -> bool {
    let due = now.tick_ms.wrapping_sub(*last_ms) >= every_ms;
    if due {
        *last_ms = now.tick_ms;
    }
    due
}

impl<I: Io> Worker<I> {
    /// Closes what has been idle for its timeout, ends rests, gives back spare parts of limits.
    pub(super) fn expire(&mut self, now: Now) {
        self.expire_lane::<u32>(now);
        self.expire_lane::<u128>(now);
        if !self.core.headers.is_empty() {
            tend_headers(&mut self.core, &mut self.io, now);
        }
        self.core.leases.tick(now, RESTS);
        self.core.wide.leases.tick(now, RESTS);
        if let Some(nat) = &mut self.core.nat {
            nat.tick(now, RESTS);
            answer_syns(&mut self.core, &mut self.io, now);
        }
        if is_due(&mut self.sweep.settled_at, now, SETTLE_MS) {
            self.core.cells.settle(SETTLED, now);
        }
    }

    fn expire_lane<A: Lane>(&mut self, now: Now) {
        let mut budget = Budget { heads: HEADS, places: PLACES };
        while let Some(due) = A::table_mut(&mut self.core).next_due(now, &mut budget) {
            match due {
                Due::Counted(conn) => fold_counts::<I::Packet, A>(&mut self.core, conn),
                Due::Expired(conn) => self.expired::<A>(conn, now),
            }
        }
    }

    /// A conn has been idle for its timeout. A closed one is gone for both ends; of an established one
    /// they are told if the service wants it, and so is the server that waits for the end of a handshake.
    fn expired<A: Lane>(&mut self, conn: ConnId, now: Now) {
        let core = &mut self.core;
        let Some(forward) = A::table(core).flow(conn.forward()) else { return };
        let state = forward.state;
        let resets = (state.is_established() || state == State::SynReceived)
            && core
                .snapshot
                .services
                .lookup(&forward.key())
                .is_some_and(|service| service.spec().reset_on_expiry);
        let ended = matches!(state, State::Closed | State::Reset);
        // What the next one holds is asked for as this one is closed: first what leads to its mapping.
        let next = A::prefetch_release(core, conn);
        let event = if ended { Event::Closed } else { Event::Expired };
        core.counters.add(event, 1);
        close::<I, A>(core, &mut self.io, conn, resets, now);
        if let Some(held) = &next {
            A::prefetch_mapping(&self.core, held);
        }
    }
}
