//! FIFO lists of conns that are not established and of redirects, one for each timeout class.
//!
//! All conns of a list have the same timeout, so its head is due first. A packet does not move its
//! conn: at the head it is seen whether there was one, and the conn goes back to the tail then. So
//! a conn expires after its timeout, and before twice that.

use types::Now;

use crate::cold::Cold;
use crate::flow::{ConnId, Flow, FlowAddress};
use crate::state::List;
use crate::table::{FlowTable, NONE};

const CLASSES: usize = 256;
const QUEUES: usize = List::ALL.len() * CLASSES;
const WORDS: usize = QUEUES / 64;

#[derive(Clone, Copy, Debug)]
struct Queue {
    head: u32,
    tail: u32,
    /// When the head is to be looked at.
    due_ms: u32,
    len: u32,
}

/// Heads and tails of all lists.
#[derive(Debug)]
pub(crate) struct Lists {
    queues: Box<[Queue; QUEUES]>,
    /// Bit n: queue n has conns.
    active: [u64; WORDS],
    /// The queue to look at next.
    cursor: usize,
    /// A queue was left before its head was known not to be due.
    unfinished: bool,
    /// The tick for which all queues were looked at.
    done_ms: Option<u32>,
}

/// A list of one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct QueueId(usize);

impl QueueId {
    const fn new(list: List, class: u8) -> Self {
        Self(list as usize * CLASSES + class as usize)
    }

    fn list(self) -> List {
        List::ALL.get(self.0 / CLASSES).copied().unwrap_or(List::HalfOpen)
    }
}

impl Lists {
    pub(crate) fn new() -> Self {
        let none = Queue { head: NONE, tail: NONE, due_ms: 0, len: 0 };
        let (active, queues) = ([0; WORDS], Box::new([none; QUEUES]));
        Self { queues, active, cursor: 0, unfinished: false, done_ms: None }
    }

    fn queue(&self, id: QueueId) -> Option<&Queue> {
        self.queues.get(id.0)
    }

    fn queue_mut(&mut self, id: QueueId) -> Option<&mut Queue> {
        self.queues.get_mut(id.0)
    }

    fn set_active(&mut self, id: QueueId, active: bool) {
        if let Some(word) = self.active.get_mut(id.0 / 64) {
            let bit = 1 << (id.0 % 64);
            *word = if active { *word | bit } else { *word & !bit };
        }
    }

    /// The first queue from `from` on that has conns.
    fn next_active(&self, from: usize) -> Option<QueueId> {
        let mut below = from % 64;
        for (n, word) in self.active.iter().enumerate().skip(from / 64) {
            let word = word >> below << below;
            if word != 0 {
                return Some(QueueId(n * 64 + word.trailing_zeros() as usize));
            }
            below = 0;
        }
        None
    }

    /// A queue whose head is due; the same one until it is not.
    fn next_due(&mut self, now: Now) -> Option<QueueId> {
        if self.done_ms == Some(now.tick_ms) {
            return None;
        }
        for _ in 0..2 {
            while let Some(id) = self.next_active(self.cursor) {
                let due = |queue: &Queue| now.tick_ms.wrapping_sub(queue.due_ms) as i32 >= 0;
                if self.queue(id).is_some_and(due) {
                    self.cursor = id.0;
                    return Some(id);
                }
                self.cursor = id.0 + 1;
            }
            self.cursor = 0;
            if !std::mem::take(&mut self.unfinished) {
                self.done_ms = Some(now.tick_ms);
                return None;
            }
        }
        None
    }

    /// The head of the list that is due first among all classes that may go.
    pub(crate) fn first_due(
        &self,
        list: List,
        now: Now,
        may_go: impl Fn(u8) -> bool,
    ) -> Option<ConnId> {
        let mut best: Option<&Queue> = None;
        let mut from = QueueId::new(list, 0).0;
        while let Some(id) = self.next_active(from).filter(|id| id.list() == list) {
            let left = |queue: &Queue| queue.due_ms.wrapping_sub(now.tick_ms) as i32;
            if let Some(queue) = self.queue(id)
                && may_go((id.0 % CLASSES) as u8)
                && best.is_none_or(|best| left(queue) < left(best))
            {
                best = Some(queue);
            }
            from = id.0 + 1;
        }
        best.map(|queue| ConnId(queue.head))
    }
}

impl<A: FlowAddress> FlowTable<A> {
    /// How many conns are half-open TCP ones.
    pub fn half_open(&self) -> u32 {
        self.listed(List::HalfOpen)
    }

    fn listed(&self, list: List) -> u32 {
        let first = QueueId::new(list, 0).0;
        self.lists.queues.iter().skip(first).take(CLASSES).map(|queue| queue.len).sum()
    }

    fn queue_of(&self, conn: ConnId, list: List) -> QueueId {
        QueueId::new(list, self.flow(conn.forward()).map_or(0, |flow| flow.timeout_class))
    }

    fn list_timeout(&self, id: QueueId) -> u32 {
        id.list().timeout_ms(self.timeouts.class((id.0 % CLASSES) as u8))
    }

    /// Puts a conn at the tail of a list, or of none; out of the one that it is in.
    pub(crate) fn enlist(&mut self, conn: ConnId, list: Option<List>, now: Now) {
        self.delist(conn);
        let Some(list) = list else { return };
        let id = self.queue_of(conn, list);
        let Some(tail) = self.lists.queue(id).map(|queue| queue.tail) else { return };
        if let Some(cold) = self.cold.get_mut(conn.0 as usize) {
            cold.set_list(Some(list));
            cold.prev = tail;
            cold.next = NONE;
            cold.listed_ms = now.tick_ms;
        }
        if let Some(cold) = self.cold.get_mut(tail as usize) {
            cold.next = conn.0;
        }
        let due_ms = now.tick_ms.wrapping_add(self.list_timeout(id));
        if let Some(queue) = self.lists.queue_mut(id) {
            queue.tail = conn.0;
            queue.len += 1;
            if tail == NONE {
                queue.head = conn.0;
                queue.due_ms = due_ms;
                self.lists.set_active(id, true);
            }
        }
    }

    /// Takes a conn out of the list that it is in.
    pub(crate) fn delist(&mut self, conn: ConnId) {
        let Some(cold) = self.cold.get_mut(conn.0 as usize) else { return };
        let Some(list) = cold.list() else { return };
        let (prev, next) = (cold.prev, cold.next);
        cold.set_list(None);
        let id = self.queue_of(conn, list);
        let timeout_ms = self.list_timeout(id);
        if let Some(cold) = self.cold.get_mut(prev as usize) {
            cold.next = next;
        }
        let mut next_listed_ms = 0;
        if let Some(cold) = self.cold.get_mut(next as usize) {
            cold.prev = prev;
            next_listed_ms = cold.listed_ms;
        }
        let Some(queue) = self.lists.queue_mut(id) else { return };
        queue.len -= 1;
        if next == NONE {
            queue.tail = prev;
        }
        if prev == NONE {
            queue.head = next;
            queue.due_ms = next_listed_ms.wrapping_add(timeout_ms);
            if next == NONE {
                self.lists.set_active(id, false);
            }
        }
    }

    /// The head of a list that has been idle for its timeout. Each head that is looked at counts
    /// against `budget`; those that were seen since go back to the tail.
    pub(crate) fn next_due_in_lists(&mut self, now: Now, budget: &mut u32) -> Option<ConnId> {
        while *budget > 0 {
            let id = self.lists.next_due(now)?;
            *budget -= 1;
            if *budget == 0 {
                // The next call begins with another list: none waits for another to be empty.
                self.lists.cursor = id.0 + 1;
                self.lists.unfinished = true;
            }
            let conn = ConnId(self.lists.queue(id)?.head);
            if self.idle_ms(conn, now) >= self.list_timeout(id) {
                self.look_ahead(conn);
                return Some(conn);
            }
            self.enlist(conn, Some(id.list()), now);
        }
        None
    }

    /// Asks for what the removal of the next two conns of a list will touch: that of the next one
    /// finds all of it in the cache, if its flows were asked for while the one before was removed.
    #[inline]
    fn look_ahead(&self, conn: ConnId) {
        let next = |conn: ConnId| self.cold.get(conn.0 as usize).map(|cold| ConnId(cold.next));
        let Some(first) = next(conn) else { return };
        for id in [first.forward(), first.reverse()] {
            if let Some(flow) = self.flow(id) {
                self.prefetch_bucket(self.hash(&flow.key()));
            }
        }
        let Some(second) = next(first) else { return };
        self.prefetch_cold(second);
        self.prefetch_flow(second.forward());
        self.prefetch_flow(second.reverse());
    }

    /// The conn that stands behind one in its list: what is known of it comes prefetched if that one was given by
    /// [`FlowTable::next_due`].
    #[inline]
    pub fn behind(&self, conn: ConnId) -> Option<(&Flow<A>, &Cold)> {
        let next = ConnId(self.cold.get(conn.0 as usize)?.next);
        Some((self.flow(next.forward())?, self.cold.get(next.0 as usize)?))
    }

    /// Works out anew when the heads of a class are due, after its timeouts have changed.
    pub(crate) fn reset_due(&mut self, class: u8) {
        self.lists.done_ms = None;
        for list in List::ALL {
            let id = QueueId::new(list, class);
            let timeout_ms = self.list_timeout(id);
            let head = self.lists.queue(id).map_or(NONE, |queue| queue.head);
            let Some(listed_ms) = self.cold.get(head as usize).map(|cold| cold.listed_ms) else {
                continue;
            };
            if let Some(queue) = self.lists.queue_mut(id) {
                queue.due_ms = listed_ms.wrapping_add(timeout_ms);
            }
        }
    }
}
