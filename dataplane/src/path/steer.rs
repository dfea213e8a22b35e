//! Stage `steer`: hands packets to the worker that owns their key.

use fib::Role;
use types::{Packet, Verdict, WorkerId};

use crate::path::burst::{Burst, Meta, ones};
use crate::snapshot::Snapshot;
use crate::worker::Core;

/// Keeps what this worker owns and puts the rest into the owners' rings.
#[inline]
pub fn steer<P: Packet>(core: &mut Core<P>, burst: &mut Burst<P>) {
    if core.snapshot.steering.workers() == 1 {
        return;
    }
    for at in ones(burst.live()) {
        let owner = owner(&core.snapshot, burst.meta(at));
        if owner == core.id {
            continue;
        }
        let meta = *burst.meta(at);
        let Some(packet) = burst.take(at) else { continue };
        let verdict = match core.handoff.send(owner, packet, meta) {
            Ok(()) => Verdict::Handed,
            Err(_refused) => Verdict::HandoffFull,
        };
        core.counters.ended(verdict, 1);
    }
    core.handoff.ring(core.id);
}

/// The worker that owns a packet's key.
pub(super) fn owner(snapshot: &Snapshot, meta: &Meta) -> WorkerId {
    let key = meta.parsed.lookup_key();
    let role = match meta.role {
        Some(Role::Lip) => steer::Role::Lip,
        _ => match snapshot.services.lookup(&key).and_then(|service| service.spec().persistence) {
            Some(persistence) => steer::Role::VipPersistent { prefix_len: persistence.prefix_len },
            None => steer::Role::Vip,
        },
    };
    snapshot.steering.owner(role, &key)
}
