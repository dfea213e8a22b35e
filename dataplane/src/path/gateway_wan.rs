//! What is decided about packets to a WAN IP that have no flow: a port forward, a mapping, or another inside host's.

use fib::Role;
use nat::gateway::Decision as Verdicts;
use nat::mapping::Endpoint32;
use nat::{Gateway, NatState};
use types::{EthPortId, FlowKey, Verdict};
use wire::Kind;

use crate::path::burst::Meta;
use crate::path::gateway::{Opening, drop, is_forged, opens, opens_to, prohibit, query};
use crate::path::open::{Decision, is_opening_syn};
use crate::snapshot::Snapshot;

/// What is to become of a packet to a WAN IP.
pub(super) fn decide_wan(
    snapshot: &Snapshot,
    gateway: &Gateway,
    nat: &NatState,
    meta: &Meta,
) -> Decision {
    let parsed = &meta.parsed;
    let key = &parsed.key;
    let in_dev = EthPortId(meta.interface);
    if parsed.kind == Kind::IcmpError {
        return drop(Verdict::IcmpNoConn);
    }
    if !meta.looped {
        let out_dev = snapshot.fib.owner(key.dst).map(|owner| owner.iface);
        if snapshot.fib.owner(key.src).is_some()
            || is_forged(snapshot, gateway, key.src, in_dev)
                && !gateway.is_inside(key.src, in_dev, out_dev)
        {
            return drop(Verdict::BadSource);
        }
        if let Some(forward) = gateway.forward(key, in_dev) {
            let opening = Opening::Forward { slot: forward.terms().slot() };
            return opens_to(snapshot, gateway, meta, opening, forward.to(key.dport));
        }
        if gateway.has_forward(key.dst, key.dport, key.proto) {
            return drop(Verdict::Filtered);
        }
        if let Some(decision) = decide_hairpin(snapshot, gateway, nat, meta) {
            return decision;
        }
    }
    match (nat.may_accept(key), nat.inside_of(key)) {
        _ if parsed.kind == Kind::IcmpQuery => Decision::Echo,
        (Ok(_), Some(to)) => opens_to(snapshot, gateway, meta, Opening::In, to),
        (Ok(_), None) => drop(Verdict::Internal),
        (Err(verdict), _) if parsed.kind == Kind::Tcp && is_opening_syn(parsed.tcp_flags) => {
            Decision::HoldSyn { verdict }
        }
        (Err(verdict), _) => drop(verdict),
    }
}

/// What is to become of a packet to a WAN IP that comes from inside; `None` if it does not, or no rule
/// would translate it.
fn decide_hairpin(
    snapshot: &Snapshot,
    gateway: &Gateway,
    nat: &NatState,
    meta: &Meta,
) -> Option<Decision> {
    let key = &meta.parsed.key;
    let in_dev = EthPortId(meta.interface);
    // It would leave by the interface of the WAN IP if that were another host's.
    let out_dev = snapshot.fib.owner(key.dst).map(|owner| owner.iface);
    if !gateway.is_inside(key.src, in_dev, out_dev) {
        return None;
    }
    let found = match gateway.decide_source(&query(key, in_dev, out_dev)) {
        Verdicts::Forward(_) => return None,
        Verdicts::Drop(verdict) => return Some(drop(verdict)),
        Verdicts::Reject(verdict) => return Some(prohibit(verdict)),
        Verdicts::Translate(found) => found,
    };
    let to = nat.inside_of(key);
    let opening = if meta.parsed.kind != Kind::IcmpQuery {
        Opening::Out { rule: found.index, slot: found.slot, out_dev }
    } else if to.is_some_and(|to| is_answered_here(snapshot, key, to))
        && gateway.terms(found.index).is_some_and(|terms| terms.settings().hairpin)
    {
        Opening::Query
    } else {
        return Some(Decision::Echo);
    };
    Some(match to {
        Some(to) => opens_to(snapshot, gateway, meta, opening, to),
        None => opens(snapshot, meta, opening),
    })
}

/// Whether the reply to a hairpinned query, which has the inside host's own identifier, comes to where the query is.
fn is_answered_here(snapshot: &Snapshot, key: &FlowKey, to: Endpoint32) -> bool {
    let owner = |key| snapshot.steering.owner(steer::Role::Wan, key);
    owner(&FlowKey { dport: to.l4_port, ..*key }) == owner(key)
}

/// True if an ICMP query to a WAN IP may be for another inside host. Others are answered by us.
pub(super) fn may_hairpin_query(snapshot: &Snapshot, meta: &Meta) -> bool {
    let (key, in_dev) = (&meta.parsed.key, EthPortId(meta.interface));
    let owner = snapshot.fib.owner(key.dst).filter(|owner| owner.role == Role::WanIp);
    let gateway = snapshot.gateway.as_ref();
    owner
        .zip(gateway)
        .is_some_and(|(owner, gateway)| gateway.is_inside(key.src, in_dev, Some(owner.iface)))
}
