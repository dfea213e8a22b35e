//! Stage `lookup`: finds each packet's flow, all lookups of the burst at once.

use types::{BURST_MAX, FlowKey, Now, Packet};

use crate::path::burst::{Burst, ones};
use crate::path::lane::Lane;
use crate::path::steer;
use crate::worker::Core;

/// Looks all live packets up, but for those that have been when they changed lanes; a miss leaves no flow. What a
/// redirect is found for goes to that worker.
#[inline]
pub fn lookup<P: Packet, A: Lane>(core: &mut Core<P>, burst: &mut Burst<P, A>, now: Now) {
    let table = A::table(core);
    let wanted = burst.live() & !burst.take_known();
    let mut keys = [FlowKey::default(); BURST_MAX];
    let mut hashes = [0; BURST_MAX];
    let mut found = [None; BURST_MAX];
    let mut count = 0;
    for (at, (key, hash)) in ones(wanted).zip(keys.iter_mut().zip(&mut hashes)) {
        *key = burst.meta(at).parsed.lookup_key();
        *hash = table.hash(key);
        table.prefetch_bucket(*hash);
        count += 1;
    }
    let (Some(keys), Some(hashes), Some(found)) =
        (keys.get(..count), hashes.get(..count), found.get_mut(..count))
    else {
        return;
    };
    table.lookup_burst(keys, hashes, found);
    for (at, (hash, flow)) in ones(wanted).zip(hashes.iter().zip(found)) {
        let meta = burst.meta_mut(at);
        meta.hash = *hash;
        meta.flow = *flow;
    }
    if table.redirects() != 0 {
        steer::follow_redirects(core, burst, now);
    }
}
