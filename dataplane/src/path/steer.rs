//! Stage `steer`: hands packets to the worker that owns their key, and on to the one that has their conn.

use counters::Event;
use types::{EthPortId, Now, Packet, Verdict, WorkerId};

use crate::path::burst::{Burst, Mask, Meta, ones};
use crate::path::lane::Lane;
use crate::snapshot::Snapshot;
use crate::worker::Core;

/// Which workers have been asked for a packet's conn. It only ever grows, so no packet goes round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// It is where the running snapshot steers it to, and nobody else has been asked.
    here: bool,
    /// A redirect has been followed; no other one will be.
    redirected: bool,
    /// So many of those who owned the key before, oldest first.
    earlier: u8,
    /// The one that owns the packet's source, see [`Snapshot::second`].
    source: bool,
    /// Whose port of a WAN IP it is for knows of no mapping: it may be of a conn, but opens none.
    vacant: bool,
    /// All; where it is now it ends or opens a conn.
    all: bool,
}

impl Asked {
    const HERE: Self = Self {
        here: true,
        redirected: false,
        earlier: 0,
        source: false,
        vacant: false,
        all: false,
    };
    const NOBODY: Self = Self { here: false, ..Self::HERE };
    /// It stays where it is handed.
    pub(super) const EVERYBODY: Self = Self { all: true, ..Self::NOBODY };

    /// The port of a WAN IP that it is for is nobody's.
    pub(super) const fn is_vacant(self) -> bool {
        self.vacant
    }
}

/// Keeps what this worker owns and puts the rest into the owners' rings.
#[inline]
pub fn steer<P: Packet, A: Lane>(core: &mut Core<P>, burst: &mut Burst<P, A>) {
    if core.snapshot.steering.workers() == 1 {
        return;
    }
    for at in ones(burst.live()) {
        let owner = owner(&core.snapshot, burst.meta(at));
        if owner == core.id {
            burst.meta_mut(at).asked = Asked::HERE;
        } else {
            hand(core, burst, at, owner, Asked::NOBODY);
        }
    }
    let id = core.id;
    A::handoff_mut(core).ring(id);
}

/// Gives a packet away; who calls it rings afterwards.
#[inline]
pub(super) fn hand<P: Packet, A: Lane>(
    core: &mut Core<P>,
    burst: &mut Burst<P, A>,
    at: usize,
    to: WorkerId,
    asked: Asked,
) {
    let meta = Meta { asked, ..*burst.meta(at) };
    let Some(packet) = burst.take(at) else { return };
    let verdict = match A::handoff_mut(core).send(to, packet, meta) {
        Ok(()) => Verdict::Handed,
        Err(_refused) => Verdict::HandoffFull,
    };
    core.counters.ended(verdict, 1);
}

/// The worker that owns a packet's key.
pub(super) fn owner<A: Lane>(snapshot: &Snapshot, meta: &Meta<A>) -> WorkerId {
    snapshot.owner(meta.role, &meta.parsed.lookup_key(), EthPortId(meta.interface))
}

/// Hands over what `lookup` found a redirect for. A packet that comes back tells that the redirect's conn is
/// gone: so goes the redirect.
#[cold]
pub(super) fn follow_redirects<P: Packet, A: Lane>(
    core: &mut Core<P>,
    burst: &mut Burst<P, A>,
    now: Now,
) {
    for at in ones(burst.live()) {
        let meta = burst.meta(at);
        let (asked, flow) = (meta.asked, meta.flow);
        let Some((id, to)) = flow.and_then(|id| Some((id, A::table(core).flow(id)?.redirect()?)))
        else {
            continue;
        };
        if !asked.redirected {
            A::table_mut(core).follow_redirect(id, now);
            A::renew_endpoint(core, burst.meta(at), now);
            core.counters.add(Event::Redirected, 1);
            hand(core, burst, at, to, Asked { here: false, redirected: true, ..asked });
        } else if asked.all {
            A::table_mut(core).remove_redirect(id);
            burst.forget(id);
        } else {
            burst.meta_mut(at).flow = None;
        }
    }
    let id = core.id;
    A::handoff_mut(core).ring(id);
}

/// Hands packets that are of no conn here to those who may have it, see [`next`]. The others come back.
#[inline]
pub(super) fn ask_others<P: Packet, A: Lane>(
    core: &mut Core<P>,
    burst: &mut Burst<P, A>,
    misses: Mask,
    now: Now,
) -> Mask {
    if core.snapshot.steering.workers() == 1 {
        return misses;
    }
    let mut here = misses;
    for at in ones(misses) {
        let meta = burst.meta(at);
        if A::table(core).redirects() != 0 {
            if meta.asked.redirected && meta.asked.all {
                let key = meta.parsed.lookup_key();
                A::forget_endpoint(core, &key);
            } else if !meta.asked.redirected {
                let meta = *meta;
                A::renew_endpoint(core, &meta, now);
            }
        }
        let meta = burst.meta(at);
        if let Some((worker, asked)) = next(core, meta) {
            here &= !(1 << at);
            core.counters.add(Event::Redirected, 1);
            hand(core, burst, at, worker, asked);
        }
    }
    if here != misses {
        let id = core.id;
        A::handoff_mut(core).ring(id);
    }
    here
}

/// Where a packet goes on that is of no conn of this worker's: to the workers that owned its key before, one
/// after the other, to the one that owns its source if that may have the conn, then to where it is to end or to
/// open a conn. `None` if that is here.
///
/// Workers take up a new snapshot one after the other. Those on the way may run different ones and name different
/// owners, so each role is asked in its turn, whether or not it names the owner: a role keeps its place in the
/// list, and who runs the older snapshot ends with the owner that the newer one's list ends with.
#[inline]
pub(super) fn next<P: Packet, A: Lane>(
    core: &Core<P>,
    meta: &Meta<A>,
) -> Option<(WorkerId, Asked)> {
    let (snapshot, me) = (&core.snapshot, core.id);
    let mut asked = Asked { here: false, ..meta.asked };
    if asked.all {
        return None;
    }
    let key = meta.parsed.lookup_key();
    if A::table(core).redirects() != 0
        && !asked.redirected
        && let Some(to) = A::endpoint_redirect(core, &key)
    {
        return Some((to, Asked { redirected: true, ..asked }));
    }
    if asked.redirected && A::has_mapping(core, meta) {
        return None;
    }
    let second = A::second(snapshot, meta.role, &key, EthPortId(meta.interface));
    if meta.asked.here && snapshot.earlier.is_empty() && second.is_none() {
        return None;
    }
    for role in snapshot.earlier.of(&key).iter().skip(asked.earlier.into()) {
        asked.earlier = asked.earlier.saturating_add(1);
        let worker = snapshot.steering.owner(*role, &key);
        if worker != me {
            return Some((worker, asked));
        }
    }
    let owner = owner(snapshot, meta);
    if let Some(second) = second.filter(|_| !asked.source) {
        asked.source = true;
        asked.vacant = owner == me && meta.role.is_some() && A::is_vacant(core, &key);
        if second.worker != me {
            return Some((second.worker, asked));
        }
    }
    let opens = second.filter(|second| second.opens);
    let end = opens.map_or(owner, |second| second.worker);
    // Back at the port's owner it is as any other packet.
    let vacant = asked.vacant && opens.is_some();
    (end != me).then_some((end, Asked { all: true, vacant, ..asked }))
}

/// Where a packet goes on from here that `explain` is asked about; changes nothing. `asked` is `None` for one
/// that comes in here.
pub(super) fn onward<P: Packet, A: Lane>(
    core: &Core<P>,
    meta: &Meta<A>,
    asked: Option<Asked>,
) -> Option<(WorkerId, Asked)> {
    let asked = match (asked, owner(&core.snapshot, meta)) {
        (Some(asked), _) => asked,
        (None, owner) if owner == core.id => Asked::HERE,
        (None, owner) => return Some((owner, Asked::NOBODY)),
    };
    let key = meta.parsed.lookup_key();
    let table = A::table(core);
    let found = table.lookup(&key, table.hash(&key)).and_then(|id| table.flow(id));
    match found.map(|flow| flow.redirect()) {
        Some(None) => None,
        Some(Some(to)) if !asked.redirected => {
            Some((to, Asked { here: false, redirected: true, ..asked }))
        }
        Some(Some(_)) | None => next(core, &Meta { asked, ..*meta }),
    }
}
