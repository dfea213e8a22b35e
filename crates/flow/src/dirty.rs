//! The FIFO of conns that have changed since they were told to whoever keeps records.
//!
//! It is linked through the cold parts: each conn stands in it once at most, and a place stays in
//! it when its conn goes, so that removing costs nothing here.

use crate::flow::{ConnId, FlowAddress};
use crate::table::{FlowTable, NONE};

/// Places of conns that are gone, skipped in one call.
const SKIP_MAX: u32 = 64;

#[derive(Debug)]
pub(crate) struct Dirty {
    head: u32,
    tail: u32,
    len: u32,
}

impl Dirty {
    pub(crate) const fn new() -> Self {
        Self { head: NONE, tail: NONE, len: 0 }
    }
}

impl<A: FlowAddress> FlowTable<A> {
    /// How many places stand in the FIFO; those of conns that are gone count until skipped.
    pub const fn dirty_len(&self) -> u32 {
        self.dirty.len
    }

    /// The conn that changed first and was not popped since. After `None` there may be more while
    /// [`FlowTable::dirty_len`] is not 0: a call skips few places of conns that are gone.
    pub fn pop_dirty(&mut self) -> Option<ConnId> {
        for _ in 0..SKIP_MAX {
            let conn = ConnId(self.dirty.head);
            let cold = self.cold.get_mut(conn.0 as usize)?;
            cold.set_dirty(false);
            self.dirty.head = cold.dirty_next;
            self.dirty.len -= 1;
            if self.dirty.head == NONE {
                self.dirty.tail = NONE;
            }
            // What has taken the place of a conn that is gone may be a redirect.
            if self.is_conn(conn) {
                return Some(conn);
            }
        }
        None
    }

    /// Notes that a conn has changed: the next version, and a place in the FIFO.
    pub(crate) fn mark_dirty(&mut self, conn: ConnId) {
        let Some(cold) = self.cold.get_mut(conn.0 as usize) else { return };
        cold.bump();
        if cold.is_dirty() {
            return;
        }
        cold.set_dirty(true);
        cold.dirty_next = NONE;
        let tail = std::mem::replace(&mut self.dirty.tail, conn.0);
        match self.cold.get_mut(tail as usize) {
            Some(cold) => cold.dirty_next = conn.0,
            None => self.dirty.head = conn.0,
        }
        self.dirty.len += 1;
    }
}
