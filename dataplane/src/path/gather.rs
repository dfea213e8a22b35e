//! Conns of the gateway from inside, gathered so that memory answers for several of them at once.

use types::{BURST_MAX, Now, Packet};

use crate::path::burst::{Burst, Mask};
use crate::path::gateway::{self, Opening, Reserved};
use crate::path::reply;
use crate::worker::Core;

/// Conns that are gathered: enough to have all loads under way that a CPU can have.
const AHEAD: usize = 8;

/// The conns of a burst that open next, and which keys there were.
#[derive(Default)]
pub struct Gathered {
    chosen: [Option<(usize, Opening)>; AHEAD],
    count: usize,
    seen: Seen,
}

impl Gathered {
    /// Opens a conn for a packet, now or with others.
    pub(super) fn add<P: Packet>(
        &mut self,
        core: &mut Core<P>,
        burst: &mut Burst<P>,
        at: usize,
        opening: Opening,
        now: Now,
    ) {
        let meta = burst.meta(at);
        let (key, hash) = (meta.parsed.key, meta.hash);
        // Only what goes from inside to nobody of ours cannot be the other direction of one of these.
        let rule = match opening {
            Opening::Out { rule, .. } if meta.role.is_none() => Some(rule),
            _ => None,
        };
        if rule.is_none() || self.seen.notes(hash) {
            // A packet before it in the burst may have opened the conn.
            self.commit(core, burst, now);
            if let Some(flow) = core.table.lookup(&key, hash) {
                burst.meta_mut(at).flow = Some(flow);
                return;
            }
        }
        let Some(rule) = rule else {
            self.seen.all();
            return open(core, burst, at, opening, now);
        };
        let gateway = core.snapshot.gateway.as_ref();
        if let (Some(nat), Some(terms)) = (&core.nat, gateway.and_then(|g| g.terms(rule))) {
            nat.prefetch_out(terms, &key, self.count as u32);
        }
        if let Some(place) = self.chosen.get_mut(self.count) {
            *place = Some((at, opening));
            self.count += 1;
        }
        if self.count == AHEAD || core.table.room() as usize <= self.count {
            self.commit(core, burst, now);
        }
    }

    /// Asks for where the mappings of several conns will be entered: by now it is known which ports are free.
    fn prefetch<P: Packet>(&self, core: &Core<P>, burst: &Burst<P>) {
        let (Some(nat), Some(gateway)) = (&core.nat, &core.snapshot.gateway) else { return };
        if self.count < 2 {
            return;
        }
        for ((at, opening), ahead) in self.chosen.iter().flatten().zip(0..) {
            if let Opening::Out { rule, out_dev, .. } = *opening
                && let Some(terms) = gateway.terms(rule)
            {
                nat.prefetch_made(terms, &burst.meta(*at).parsed.key, out_dev, ahead);
            }
        }
    }

    /// Opens all that are gathered.
    pub(super) fn commit<P: Packet>(&mut self, core: &mut Core<P>, burst: &mut Burst<P>, now: Now) {
        self.prefetch(core, burst);
        let mut reserved: [Option<Reserved>; AHEAD] = Default::default();
        for (chosen, place) in self.chosen.iter_mut().take(self.count).zip(&mut reserved) {
            let Some((at, opening)) = chosen.take() else { continue };
            match gateway::reserve(core, burst.meta(at), opening, now) {
                Ok(conn) => {
                    *place = Some(conn);
                    *chosen = Some((at, opening));
                }
                Err((verdict, refusal)) => reply::refuse(core, burst, at, verdict, refusal, now),
            }
        }
        for (chosen, conn) in self.chosen.iter_mut().take(self.count).zip(&reserved) {
            if let (Some((at, _)), Some(conn)) = (chosen.take(), conn) {
                insert(core, burst, at, conn, now);
            }
        }
        self.count = 0;
    }
}

/// Opens the conn of one packet.
pub(super) fn open<P: Packet>(
    core: &mut Core<P>,
    burst: &mut Burst<P>,
    at: usize,
    opening: Opening,
    now: Now,
) {
    match gateway::reserve(core, burst.meta(at), opening, now) {
        Ok(conn) => insert(core, burst, at, &conn, now),
        Err((verdict, refusal)) => reply::refuse(core, burst, at, verdict, refusal, now),
    }
}

fn insert<P: Packet>(
    core: &mut Core<P>,
    burst: &mut Burst<P>,
    at: usize,
    conn: &Reserved,
    now: Now,
) {
    match gateway::insert(core, conn, now) {
        Ok(flow) => burst.meta_mut(at).flow = Some(flow),
        Err((verdict, refusal)) => reply::refuse(core, burst, at, verdict, refusal, now),
    }
}

/// Words of [`Seen`].
const SEEN: usize = 4;

/// Keys of a burst that have been opened, or are pending: one bit for each of 256 ends of hashes.
#[derive(Default)]
pub(super) struct Seen([Mask; SEEN]);

impl Seen {
    /// Whether a packet before it in the burst may have had the same key; notes this one.
    pub(super) fn notes(&mut self, hash: u64) -> bool {
        let Some(word) = self.0.get_mut(hash as usize / BURST_MAX % SEEN) else { return true };
        let bit = 1 << (hash as usize % BURST_MAX);
        let seen = *word & bit != 0;
        *word |= bit;
        seen
    }

    /// From now on each key may be one that has been opened.
    pub(super) const fn all(&mut self) {
        self.0 = [Mask::MAX; SEEN];
    }
}
