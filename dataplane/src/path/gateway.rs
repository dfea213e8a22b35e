//! What SNAT, port forwards and plain forwarding decide about packets that have no flow, and how their conns
//! open and end.
//!
//! On the hit path such a conn is like any other. A packet that is only forwarded has no conn at all.

use counters::Event;
use fib::{Role, RouteKind};
use flow::{ConnId, Flow, FlowId, InsertError, NewCold, Prepared, Removed};
use nat::gateway::{Decision as Verdicts, OnExhausted, SourceAddress};
use nat::rules::{Query, RuleMatch};
use nat::state::{Held, Out, Traffic};
use nat::{Gateway, NatState, translate};
use types::{EthPortId, FlowKey, Now, Packet, Slot, Verdict};
use wire::icmpv4::{NET_UNREACHABLE, PROHIBITED};
use wire::reply::ErrorMessage;
use wire::{Kind, ipv4};

use crate::path::burst::Meta;
use crate::path::nat_log;
use crate::path::open::{Decision, is_opening_syn};
use crate::path::reply::Refusal;
use crate::snapshot::{NatEvents, Snapshot};
use crate::worker::Core;

/// How a conn of the gateway opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// From inside: its source gets a WAN IP, by the rule of this index.
    Out {
        /// The rule's number in the order of the configuration.
        rule: usize,
        /// Its slot.
        slot: Slot,
        /// The interface that the packet leaves by.
        out_dev: Option<EthPortId>,
    },
    /// From outside to a mapping.
    In,
    /// Through a port forward.
    Forward {
        /// Its slot.
        slot: Slot,
    },
}

/// Drops a packet without a word.
const fn drop(verdict: Verdict) -> Decision {
    Decision::Refuse { verdict, refusal: Refusal::Silent }
}

/// Drops a packet and tells its sender that it is not allowed (RFC 1812 §5.2.7.1, RFC 5508 REQ-8).
const fn prohibit(verdict: Verdict) -> Decision {
    let message = ErrorMessage::unreachable(PROHIBITED);
    Decision::Refuse { verdict, refusal: Refusal::Error(message) }
}

fn query(key: &FlowKey, in_dev: EthPortId, out_dev: Option<EthPortId>) -> Query {
    let FlowKey { src, dst, sport, dport, proto, .. } = *key;
    Query { src, dst, sport, dport, proto, in_dev, out_dev }
}

/// What is to become of a packet to nobody of ours.
pub(super) fn decide_transit(snapshot: &Snapshot, gateway: &Gateway, meta: &Meta) -> Decision {
    let parsed = &meta.parsed;
    let key = &parsed.key;
    let in_dev = EthPortId(meta.interface);
    if snapshot.fib.owner(key.src).is_some() {
        return drop(Verdict::BadSource);
    }
    if !is_forwardable(key) || snapshot.fib.is_broadcast(in_dev, key.dst) {
        return drop(Verdict::NotOurs);
    }
    let route = snapshot.fib.route(key.dst).filter(|route| route.kind == RouteKind::Unicast);
    let Some(route) = route else {
        let message = ErrorMessage::unreachable(NET_UNREACHABLE);
        return Decision::Refuse { verdict: Verdict::NoRoute, refusal: Refusal::Error(message) };
    };
    if snapshot.fib.is_broadcast(route.iface, key.dst) {
        return drop(Verdict::NotOurs);
    }
    let out_dev = Some(route.iface);
    match gateway.decide_out(&query(key, in_dev, out_dev)) {
        Verdicts::Forward(by) => Decision::Forward { by },
        Verdicts::Drop(verdict) => drop(verdict),
        Verdicts::Reject(verdict) => prohibit(verdict),
        Verdicts::Translate(found) => {
            let opening = Opening::Out { rule: found.index, slot: found.slot, out_dev };
            opens(snapshot, meta, opening)
        }
    }
}

/// Addresses that stay on their link or host (RFC 1812 §4.2.2.11, §5.3.4, RFC 3927 §2.6.2).
const fn is_forwardable(key: &FlowKey) -> bool {
    const fn is_local(address: u32) -> bool {
        address >> 24 == 127 || address >> 24 == 0 || address >> 16 == 0xa9fe
    }
    !ipv4::is_multicast_or_broadcast(key.dst) && !is_local(key.dst) && !is_local(key.src)
}

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
        if snapshot.fib.owner(key.src).is_some() {
            return drop(Verdict::BadSource);
        }
        if let Some(forward) = gateway.forward(key, in_dev) {
            return opens(snapshot, meta, Opening::Forward { slot: forward.terms().slot() });
        }
        if gateway.has_forward(key.dst, key.dport, key.proto) {
            return drop(Verdict::Filtered);
        }
        if gateway.is_inside(key.src, in_dev) {
            // It would leave by the interface of the WAN IP if that were another host's.
            let out_dev = snapshot.fib.owner(key.dst).map(|owner| owner.iface);
            match gateway.decide_source(&query(key, in_dev, out_dev)) {
                Verdicts::Forward(_) => {}
                Verdicts::Drop(verdict) => return drop(verdict),
                Verdicts::Reject(verdict) => return prohibit(verdict),
                Verdicts::Translate(found) => {
                    let opening = Opening::Out { rule: found.index, slot: found.slot, out_dev };
                    return opens(snapshot, meta, opening);
                }
            }
        }
    }
    match nat.may_accept(key) {
        Ok(_) => opens(snapshot, meta, Opening::In),
        Err(verdict) if parsed.kind == Kind::Tcp && is_opening_syn(parsed.tcp_flags) => {
            Decision::HoldSyn { verdict }
        }
        Err(verdict) => drop(verdict),
    }
}

/// Whether a packet may be the first one of a conn.
fn opens(snapshot: &Snapshot, meta: &Meta, opening: Opening) -> Decision {
    match meta.parsed.kind {
        Kind::IcmpError => drop(Verdict::IcmpNoConn),
        Kind::IcmpReply => drop(Verdict::NoConn),
        Kind::Tcp if !is_opening_syn(meta.parsed.tcp_flags) => drop(Verdict::NotSyn),
        _ if snapshot.policy.stopping => drop(Verdict::Stopping),
        _ => Decision::OpenNat(opening),
    }
}

/// A conn that has what it needs but its place in the table.
pub(super) struct Reserved {
    held: Held,
    conn: Prepared,
}

/// Takes what a conn of the gateway needs, and asks for what its insert touches.
pub(super) fn reserve<P: Packet>(
    core: &mut Core<P>,
    meta: &Meta,
    opening: Opening,
    now: Now,
) -> Result<Reserved, (Verdict, Refusal)> {
    if meta.parsed.kind == Kind::Fragment {
        return Err((Verdict::NoFirstFragment, Refusal::Silent));
    }
    let key = meta.parsed.key;
    let Core { snapshot, table, nat, .. } = core;
    let (Some(gateway), Some(nat)) = (&snapshot.gateway, nat) else {
        return Err((Verdict::Internal, Refusal::Silent));
    };
    let slot = match opening {
        Opening::Out { slot, .. } | Opening::Forward { slot } => slot,
        Opening::In => Slot::NONE,
    };
    if table.is_full() {
        // Nothing that is there has to go for it (RFC 6888 REQ-11).
        return Err((Verdict::TableFull, exhausted(gateway, slot)));
    }
    let held = match opening {
        Opening::Out { rule, out_dev, .. } => {
            let out = Out { key: &key, rule, out_dev };
            nat.open_out(gateway, &out, |key| table.lookup(key, table.hash(key)).is_some(), now)
        }
        Opening::In => nat.accept_in(gateway, &key, now),
        Opening::Forward { slot } => match gateway.forward_of(slot) {
            None => Err(Verdict::Internal),
            Some(forward) => {
                let to = forward.to(key.dport).address;
                let translate = match forward.source() {
                    SourceAddress::Keep => false,
                    SourceAddress::Translate => true,
                    SourceAddress::Auto => speak_past_us(snapshot, key.src, to),
                };
                nat.open_forward(forward, &key, translate, now)
            }
        },
    };
    let held = held.map_err(|verdict| match verdict {
        Verdict::WanExhausted | Verdict::SubscriberLimit | Verdict::TableFull => {
            (verdict, exhausted(gateway, slot))
        }
        verdict => (verdict, Refusal::Silent),
    })?;
    let (mut forward, reverse) = translate::flows(held.key, held.new_key);
    let terms = match opening {
        Opening::Out { rule, .. } => gateway.terms(rule),
        Opening::In | Opening::Forward { .. } => gateway.terms_of(held.slot),
    };
    forward.timeout_class = terms.map_or(0, |terms| terms.settings().timeout_class);
    let cold = NewCold { service: held.slot, rs: Slot::NONE, lease: held.lease };
    let conn = table.prepare(forward, reverse, cold, meta.hash);
    nat_log::reserved(core, &held, now);
    Ok(Reserved { held, conn })
}

/// Takes a place in the table; without one, what was reserved goes back.
pub(super) fn insert<P: Packet>(
    core: &mut Core<P>,
    reserved: &Reserved,
    now: Now,
) -> Result<FlowId, (Verdict, Refusal)> {
    let error = match core.table.insert_prepared(&reserved.conn, now) {
        Ok(conn) => {
            core.counters.add(Event::Opened, 1);
            nat_log::opened(core, &reserved.held, now);
            return Ok(conn.forward());
        }
        Err(error) => error,
    };
    give_back(core, &reserved.held, now);
    let silent = Refusal::Silent;
    Err(match (error, &core.snapshot.gateway) {
        (InsertError::Exists(_), _) => (Verdict::BadState, silent),
        (InsertError::Full, None) => (Verdict::TableFull, silent),
        (InsertError::Full, Some(gateway)) => {
            (Verdict::TableFull, exhausted(gateway, reserved.held.slot))
        }
    })
}

/// Whether a server's answers to a client would not come by us: the client is on the link that leads to
/// the server, or both are behind the same router there.
fn speak_past_us(snapshot: &Snapshot, client: u32, server: u32) -> bool {
    let way = |address| {
        let route = snapshot.fib.route(address)?;
        (route.kind == RouteKind::Unicast).then(|| (route.iface, route.target(address)))
    };
    let (Some((here, client_hop)), Some((there, server_hop))) = (way(client), way(server)) else {
        return false;
    };
    here == there && (client_hop == client || client_hop == server_hop)
}

/// What a sender is told for whom there is no port or room.
fn exhausted(gateway: &Gateway, slot: Slot) -> Refusal {
    match gateway.terms_of(slot).map(|terms| terms.settings().on_exhausted) {
        Some(OnExhausted::Prohibited) => Refusal::Error(ErrorMessage::unreachable(PROHIBITED)),
        Some(OnExhausted::Drop) | None => Refusal::Silent,
    }
}

/// A conn of the gateway is gone: its ports and mappings go back.
pub(super) fn release<P: Packet>(core: &mut Core<P>, removed: &Removed, now: Now) {
    let held = Held::of(&removed.forward, &removed.cold);
    let counts = |flow: &Flow| (flow.packets, flow.bytes());
    let traffic = Traffic { forward: counts(&removed.forward), reverse: counts(&removed.reverse) };
    if let Some(nat) = &mut core.nat {
        nat.add_traffic(held.slot, &traffic);
    }
    nat_log::ended(core, &held, &traffic, now);
    give_back(core, &held, now);
}

/// Gives back what a conn holds.
fn give_back<P: Packet>(core: &mut Core<P>, held: &Held, now: Now) {
    let mappings = nat_log::before_release(core, held);
    if let Some(nat) = &mut core.nat {
        nat.release(held, now);
    }
    nat_log::released(core, held, mappings, now);
}

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

/// What rules are asked about a packet that has no flow.
fn query_of(snapshot: &Snapshot, meta: &Meta) -> Query {
    let key = &meta.parsed.key;
    let out_dev = match meta.role {
        Some(_) => snapshot.fib.owner(key.dst).map(|owner| owner.iface),
        None => snapshot.fib.route(key.dst).map(|route| route.iface),
    };
    query(key, EthPortId(meta.interface), out_dev)
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

/// Counts a packet that a rule has denied with the rule, unless it was the policy.
pub(super) fn count_denied<P: Packet>(core: &mut Core<P>, meta: &Meta, verdict: Verdict) {
    let Core { snapshot, nat, .. } = core;
    let (Some(gateway), Some(nat)) = (&snapshot.gateway, nat) else { return };
    let query = query_of(snapshot, meta);
    let rule = match verdict {
        Verdict::ForwardDenied => gateway.filter_rule(&query),
        _ => gateway.source_rule(&query),
    };
    if let Some(rule) = rule {
        nat.decided(rule.slot, false, meta.parsed.ip_total_len);
    }
}

/// Whether the source of a packet is where it came from (RFC 3704 §2).
pub(super) fn passes_reverse_path(snapshot: &Snapshot, src: u32, in_dev: EthPortId) -> bool {
    use crate::snapshot::ReversePath;
    let route = || snapshot.fib.route(src).filter(|route| route.kind == RouteKind::Unicast);
    match snapshot.policy.reverse_path {
        ReversePath::Off => true,
        ReversePath::Loose => route().is_some(),
        ReversePath::Strict => route().is_some_and(|route| route.iface == in_dev),
    }
}

/// Whether a packet is for the gateway: to nobody of ours, or to a WAN IP and for no service there. A port
/// forward to several servers is a service.
#[inline]
pub(super) fn is_gateways(snapshot: &Snapshot, meta: &Meta) -> bool {
    match meta.role {
        None => true,
        Some(Role::WanIp) => {
            meta.parsed.kind == Kind::IcmpError
                || snapshot.services.lookup(&meta.parsed.key).is_none()
        }
        Some(_) => false,
    }
}
