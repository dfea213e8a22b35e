//! Redirects of inside endpoints whose mapping another worker has, since it was imported there.

use fib::Role;
use flow::FlowId;
use nat::gateway::Decision;
use types::{EthPortId, FlowKey, Now, Packet, WorkerId};

use crate::path::burst::Meta;
use crate::path::gateway::query;
use crate::snapshot::from_endpoint;
use crate::worker::Core;

/// Where all goes that the endpoint of a key sends.
pub(super) fn redirect<P: Packet>(core: &Core<P>, key: &FlowKey) -> Option<WorkerId> {
    redirect_of_endpoint(core, key).and_then(|id| core.table.flow(id)?.redirect())
}

/// The redirect of all that an inside endpoint sends whose mapping is another worker's, since it was imported there.
fn redirect_of_endpoint<P: Packet>(core: &Core<P>, key: &FlowKey) -> Option<FlowId> {
    core.nat.as_ref()?;
    let endpoint = from_endpoint(key);
    core.table.lookup(&endpoint, core.table.hash(&endpoint))
}

/// An endpoint whose conns go on keeps its mapping: so does the redirect to it.
pub(super) fn renew_endpoint<P: Packet>(core: &mut Core<P>, meta: &Meta, now: Now) {
    if let Some(id) = redirect_of_endpoint(core, &meta.parsed.lookup_key()) {
        core.table.follow_redirect(id, now);
    }
}

/// The worker that it names has no mapping any more.
pub(super) fn forget_endpoint<P: Packet>(core: &mut Core<P>, key: &FlowKey) {
    if let Some(id) = redirect_of_endpoint(core, key) {
        core.table.remove_redirect(id);
    }
}

/// Whether the sender of a packet that was redirected here has the mapping here by which it is to be translated.
pub(super) fn has_mapping<P: Packet>(core: &Core<P>, meta: &Meta) -> bool {
    let Core { snapshot, nat, .. } = core;
    let (Some(gateway), Some(nat)) = (&snapshot.gateway, nat) else { return false };
    let (key, in_dev) = (meta.parsed.lookup_key(), EthPortId(meta.interface));
    let found = match meta.role {
        None => {
            let out_dev = snapshot.fib.route(key.dst).map(|route| route.iface);
            gateway.decide_out(&query(&key, in_dev, out_dev))
        }
        Some(Role::WanIp) => {
            let out_dev = snapshot.fib.owner(key.dst).map(|owner| owner.iface);
            gateway.decide_source(&query(&key, in_dev, out_dev))
        }
        Some(_) => return false,
    };
    matches!(found, Decision::Translate(found) if nat.has_mapping(&key, found.slot))
}
