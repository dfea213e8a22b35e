//! Keeps the mappings of a conn that ends, until the one that follows it has them.

use flow::LeaseKind;
use types::Now;

use super::{Held, NatState};
use crate::mapping::MappingId;

/// Mappings that are kept though their conn is gone: from [`NatState::keep`] to [`NatState::let_go`].
#[derive(Debug, Default)]
#[must_use = "they are held until they are let go"]
pub struct Kept([Option<(MappingId, u32)>; 2]);

impl Kept {
    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

impl NatState {
    /// Keeps the mappings that a conn holds, over its end: a conn that begins at once between the same endpoints
    /// has them again (RFC 4787 REQ-1, RFC 5382 REQ-1).
    pub fn keep(&mut self, held: &Held) -> Kept {
        if held.lease != LeaseKind::Mapping {
            return Kept::default();
        }
        let Held { key, new_key, .. } = held;
        let outside = (key.src != new_key.src).then(|| held.outside_source());
        let source = outside.and_then(|outside| self.mappings.find_outside(outside, key.proto));
        let target = if key.dst == new_key.dst { None } else { self.target_of(held) };
        let of = [source.map(|id| (id, key.dst)), target.map(|id| (id, new_key.src))];
        Kept(of.map(|kept| kept.filter(|&(id, remote)| self.mappings.hold(id, remote))))
    }

    /// Lets mappings go; those that nobody else holds are gone, and their ports rest.
    pub fn let_go(&mut self, kept: &Kept, now: Now) {
        for (id, remote) in kept.0.iter().copied().flatten() {
            let Some(gone) = self.mappings.release(id, remote) else { continue };
            self.subscribers.leave(gone.subscriber, 0, 1);
            self.mapping_gone(Some(gone), true, now);
        }
    }
}
