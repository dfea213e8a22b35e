//! Redirects: entries that name the worker which has the conn of a key.
//!
//! A redirect takes the place of a conn, of which it uses the forward flow. The reverse flow is free, so
//! that nothing which is asked of both flows takes it for a conn.

use types::{FlowKey, Now, WorkerId};

use crate::cold::NewCold;
use crate::flow::{Flow, FlowAddress, FlowId, flags};
use crate::state::{List, State};
use crate::table::{FlowTable, InsertError};

impl<A: FlowAddress> FlowTable<A> {
    /// How many redirects there are.
    #[inline(always)]
    pub const fn redirects(&self) -> u32 {
        self.redirects
    }

    /// Sends packets with this key to another worker from now on, until none has come for as long as a conn
    /// of this timeout class may be idle in any state. One that is there is changed.
    ///
    /// # Errors
    /// [`InsertError::Full`] without a place, [`InsertError::Exists`] if a conn has the key.
    pub fn insert_redirect(
        &mut self,
        key: FlowKey<A>,
        to: WorkerId,
        timeout_class: u8,
        now: Now,
    ) -> Result<(), InsertError> {
        let hash = self.hash(&key);
        if let Some(id) = self.lookup(&key, hash)
            && !self.remove_redirect(id)
        {
            return Err(InsertError::Exists(Some(id)));
        }
        let place = self.take_place().ok_or(InsertError::Full)?;
        if !self.index.insert(hash, place.forward().0) {
            self.give_place(place);
            return Err(InsertError::Full);
        }
        if let Some(flow) = self.flows.get_mut(place.forward().0 as usize) {
            *flow = Flow {
                state: State::Established,
                flags: flags::REDIRECT,
                new_dport: to.0,
                last_seen: now.tick_ms,
                timeout_class,
                ..Flow::with_key(key)
            };
        }
        if let Some(cold) = self.cold.get_mut(place.0 as usize) {
            cold.open(NewCold::default(), now);
        }
        self.redirects += 1;
        self.enlist(place, Some(List::Redirect), now);
        Ok(())
    }

    /// The worker that a redirect names, `None` if this flow is none. It was of use, and stays.
    #[inline]
    pub fn follow_redirect(&mut self, id: FlowId, now: Now) -> Option<WorkerId> {
        let flow = self.flow_mut(id)?;
        let to = flow.redirect()?;
        flow.last_seen = now.tick_ms;
        Some(to)
    }

    /// Removes a redirect; false if this flow is none.
    pub fn remove_redirect(&mut self, id: FlowId) -> bool {
        let Some(flow) = self.flow(id).filter(|flow| flow.has(flags::REDIRECT)) else {
            return false;
        };
        let hash = self.hash(&flow.key());
        self.delist(id.conn());
        let found = self.index.remove(hash, id.0);
        debug_assert!(found, "a redirect is in the index");
        if let Some(flow) = self.flows.get_mut(id.0 as usize) {
            flow.state = State::Free;
        }
        self.give_place(id.conn());
        self.redirects -= 1;
        true
    }

    /// Removes the redirect of a key; whom it named, and its timeout class.
    pub(crate) fn take_redirect(&mut self, key: &FlowKey<A>) -> Option<(WorkerId, u8)> {
        let id = self.lookup(key, self.hash(key))?;
        let flow = self.flow(id)?;
        let redirect = (flow.redirect()?, flow.timeout_class);
        self.remove_redirect(id).then_some(redirect)
    }
}

#[cfg(test)]
mod tests;
