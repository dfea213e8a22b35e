//! Which conns are due, and which one goes when the table is full.

use types::Now;

use crate::flow::{ConnId, Flow, FlowAddress};
use crate::state::{List, Refresh, TimeoutSet};
use crate::table::FlowTable;

/// The time in which the sweep goes once through the slab, at the fastest.
const SWEEP_MS: u64 = 4_000;
/// Established conns looked at to find one that has been idle for long.
const VICTIM_PROBES: u32 = 32;

/// How much one turn of the worker may look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Heads of lists.
    pub heads: u32,
    /// Places of the slab.
    pub places: u32,
}

/// What [`FlowTable::next_due`] comes upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Idle for its timeout: to be removed.
    Expired(ConnId),
    /// Alive, and packets were counted since [`Flow::take_counts`](crate::Flow::take_counts).
    Counted(ConnId),
}

/// Where the sweep is.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    next: u32,
    /// Places that may be looked at now, times [`SWEEP_MS`].
    credit: u64,
    tick_ms: u32,
    victim_next: u32,
}

impl<A: FlowAddress> FlowTable<A> {
    /// The next conn that is due, or whose counts can be taken. To be called until `None`, once
    /// a turn; an expired conn has to be removed before the next call. Redirects go by themselves.
    pub fn next_due(&mut self, now: Now, budget: &mut Budget) -> Option<Due> {
        while let Some(conn) = self.next_due_in_lists(now, &mut budget.heads) {
            if !self.remove_redirect(conn.forward()) {
                return Some(Due::Expired(conn));
            }
        }
        self.sweep(now, &mut budget.places)
    }

    /// Goes on through the slab: the whole of it in [`SWEEP_MS`] or more.
    fn sweep(&mut self, now: Now, budget: &mut u32) -> Option<Due> {
        let places = u64::from(self.fresh);
        let elapsed_ms = u64::from(now.since(self.sweep.tick_ms)).min(SWEEP_MS);
        self.sweep.tick_ms = now.tick_ms;
        self.sweep.credit = (self.sweep.credit + elapsed_ms * places).min(SWEEP_MS * places);
        while *budget > 0 && self.sweep.credit >= SWEEP_MS {
            *budget -= 1;
            self.sweep.credit -= SWEEP_MS;
            let conn = ConnId(self.sweep.next);
            self.sweep.next = (conn.0 + 1) % self.fresh.max(1);
            let (Some(forward), Some(reverse)) =
                (self.flow(conn.forward()), self.flow(conn.reverse()))
            else {
                continue;
            };
            let counted = forward.packets | reverse.packets != 0;
            if forward.state.list().is_none() && self.is_due(conn, now) {
                return Some(Due::Expired(conn));
            }
            if counted {
                return Some(Due::Counted(conn));
            }
        }
        None
    }

    /// Milliseconds since the last packet that keeps a conn alive.
    #[inline]
    pub fn idle_ms(&self, conn: ConnId, now: Now) -> u32 {
        let (forward, reverse) = (self.flow(conn.forward()), self.flow(conn.reverse()));
        // A redirect has one flow only.
        let since =
            |flow: Option<&Flow<A>>| flow.map_or(u32::MAX, |flow| now.since(flow.last_seen));
        let outbound = |flow: Option<&Flow<A>>| flow.is_some_and(|flow| flow.new_src != flow.src);
        let class = forward.map_or(0, |forward| forward.timeout_class);
        match self.timeouts.class(class).refresh {
            Refresh::Outbound if outbound(forward) != outbound(reverse) => {
                since(if outbound(forward) { forward } else { reverse })
            }
            Refresh::Both | Refresh::Outbound => since(forward).min(since(reverse)),
            Refresh::Never => {
                self.cold.get(conn.0 as usize).map_or(u32::MAX, |cold| now.since(cold.listed_ms))
            }
        }
    }

    /// How long a conn may be idle in its state; 0 if there is none.
    #[inline]
    pub fn timeout_ms(&self, conn: ConnId) -> u32 {
        let timeout = |flow: &Flow<A>| self.timeouts.class(flow.timeout_class).of(flow.state);
        self.flow(conn.forward()).map_or(0, timeout)
    }

    /// True if a conn has been idle for its timeout.
    #[inline]
    pub fn is_due(&self, conn: ConnId, now: Now) -> bool {
        self.idle_ms(conn, now) >= self.timeout_ms(conn)
    }

    /// How long conns of a class may be idle.
    pub fn timeouts(&self, class: u8) -> &TimeoutSet {
        self.timeouts.class(class)
    }

    /// Changes how long conns of a class may be idle, those that are open too.
    pub fn set_timeouts(&mut self, class: u8, timeouts: TimeoutSet) {
        self.timeouts.set(class, timeouts);
        self.reset_due(class);
    }

    /// The conn to remove so that another finds room: one that is half-open or has no reply yet,
    /// else one that is closed or closing, else an established one that may go by its
    /// forward flow and that has been idle for a quarter of its timeout at least. None of those whose
    /// timeouts are a NAT gateway's is, whatever its state.
    pub fn victim(
        &mut self,
        now: Now,
        may_evict_idle: impl Fn(&Flow<A>) -> bool,
    ) -> Option<ConnId> {
        const ORDER: [List; 6] = [
            List::HalfOpen,
            List::UdpOneway,
            List::IcmpOneway,
            List::Closed,
            List::Closing,
            List::HalfClosed,
        ];
        // None of a NAT gateway's goes for another (RFC 6888 REQ-11).
        let may_go = |class| !self.timeouts.class(class).gateway;
        ORDER
            .into_iter()
            .find_map(|list| self.lists.first_due(list, now, may_go))
            .or_else(|| self.idle_victim(now, may_evict_idle))
    }

    fn idle_victim(
        &mut self,
        now: Now,
        may_evict_idle: impl Fn(&Flow<A>) -> bool,
    ) -> Option<ConnId> {
        let mut best = None;
        for _ in 0..VICTIM_PROBES.min(self.fresh) {
            let conn = ConnId(self.sweep.victim_next);
            self.sweep.victim_next = (conn.0 + 1) % self.fresh;
            if !self.is_conn(conn) {
                continue;
            }
            let Some(state) = self.flow(conn.forward()).map(|flow| flow.state) else { continue };
            let idle_ms = self.idle_ms(conn, now);
            let long = state.list().is_none()
                && idle_ms >= self.timeout_ms(conn) / 4
                && best.is_none_or(|(best_ms, _)| idle_ms > best_ms);
            if long && self.flow(conn.forward()).is_some_and(&may_evict_idle) {
                best = Some((idle_ms, conn));
            }
        }
        best.map(|(_, conn)| conn)
    }
}

#[cfg(test)]
mod tests;
