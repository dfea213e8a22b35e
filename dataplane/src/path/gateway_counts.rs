//! What rules of the gateway count: packets that they let pass or refuse, and what their conns have sent.

use flow::ConnId;
use nat::mapping::Endpoint32;
use nat::rules::{Query, RuleMatch};
use nat::state::Traffic;
use nat::{Gateway, NatState};
use types::{EthPortId, Packet, Slot, Verdict};

use crate::path::burst::Meta;
use crate::path::gateway::{query, query_to};
use crate::path::nat_log;
use crate::snapshot::{NatEvents, Snapshot};
use crate::worker::Core;

/// Adds what a conn of the gateway has sent since the last time to its rule's counts. While sessions are
/// logged it keeps its counts to its end, as far as its flows can count.
pub(super) fn fold_counts<P: Packet>(core: &mut Core<P>, conn: ConnId, slot: Slot) {
    let counted = |id| core.table.flow(id).map_or(0, |flow| flow.packets);
    if core.snapshot.policy.nat_log == NatEvents::Sessions
        && counted(conn.forward()).max(counted(conn.reverse())) < nat_log::COUNTED_MAX
    {
        return;
    }
    let mut take = |id| core.table.flow_mut(id).map_or((0, 0), |flow| flow.take_counts());
    let traffic = Traffic { forward: take(conn.forward()), reverse: take(conn.reverse()) };
    if let Some(nat) = &mut core.nat {
        nat.add_traffic(slot, &traffic);
    }
}

/// What rules are asked about a packet to nobody of ours.
fn query_of(snapshot: &Snapshot, meta: &Meta) -> Query {
    let out_dev = snapshot.fib.route(meta.parsed.key.dst).map(|route| route.iface);
    query(&meta.parsed.lookup_key(), EthPortId(meta.interface), out_dev)
}

/// Where a packet to a WAN IP goes on to, by a port forward or a mapping.
fn destination(gateway: &Gateway, nat: &NatState, meta: &Meta) -> Option<Endpoint32> {
    let key = &meta.parsed.key;
    let forward = gateway.forward(key, EthPortId(meta.interface));
    forward.map(|forward| forward.to(key.dport)).or_else(|| nat.inside_of(key))
}

/// Counts a packet that is only forwarded with the rules that let it pass: `by` is that of `snat`.
pub(super) fn count_forwarded<P: Packet>(core: &mut Core<P>, meta: &Meta, by: Option<RuleMatch>) {
    let Core { snapshot, nat, .. } = core;
    let (Some(gateway), Some(nat)) = (&snapshot.gateway, nat) else { return };
    let bytes = meta.parsed.ip_total_len;
    if let Some(rule) = by {
        nat.decided(rule.slot, true, bytes);
    }
    if gateway.has_filter()
        && let Some(rule) = gateway.filter_rule(&query_of(snapshot, meta))
    {
        nat.decided(rule.slot, true, bytes);
    }
}

/// Counts a packet that was refused with the rule that has refused it, if one has.
pub(super) fn count_refused<P: Packet>(core: &mut Core<P>, meta: &Meta, verdict: Verdict) {
    let Core { snapshot, nat, .. } = core;
    let (Some(gateway), Some(nat)) = (&snapshot.gateway, nat) else { return };
    let key = &meta.parsed.key;
    let rule = match (verdict, meta.role) {
        (Verdict::ForwardDenied, None) => gateway.filter_rule(&query_of(snapshot, meta)),
        (Verdict::ForwardDenied, Some(_)) => destination(gateway, nat, meta)
            .and_then(|to| gateway.filter_rule(&query_to(snapshot, meta, to))),
        (Verdict::NatDenied, None) => gateway.source_rule(&query_of(snapshot, meta)),
        (Verdict::NatDenied, Some(_)) => {
            let out_dev = snapshot.fib.owner(key.dst).map(|owner| owner.iface);
            gateway.source_rule(&query(key, EthPortId(meta.interface), out_dev))
        }
        (Verdict::Filtered | Verdict::Unanswered, Some(_)) => {
            match gateway.forward_on(key.dst, key.dport, key.proto) {
                Some(forward) => nat.count_refused(forward.terms().slot(), verdict),
                None => nat.refused_in(key, verdict),
            }
            return;
        }
        _ => return,
    };
    if let Some(rule) = rule {
        nat.decided(rule.slot, false, meta.parsed.ip_total_len);
    }
}
