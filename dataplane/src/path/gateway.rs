//! What SNAT, port forwards and plain forwarding decide about packets that have no flow, and how their conns
//! open and end.
//!
//! On the hit path such a conn is like any other. A packet that is only forwarded has no conn at all.

use counters::Event;
use fib::{Role, RouteEntry, RouteKind};
use flow::{ConnId, Flow, FlowId, InsertError, LeaseKind, NewCold, Prepared, Removed, Timeouts};
use nat::gateway::{Decision as Verdicts, OnExhausted, SourceAddress};
use nat::mapping::Endpoint32;
use nat::rules::Query;
use nat::state::{Held, Kept, Out, Traffic};
use nat::{Gateway, translate};
use types::{EthPortId, FlowKey, Now, Packet, Slot, Verdict};
use wire::icmpv4::{NET_UNREACHABLE, PROHIBITED};
use wire::reply::ErrorMessage;
use wire::{Kind, ipv4};

use crate::path::burst::Meta;
use crate::path::nat_log;
use crate::path::open::{Decision, is_opening_syn};
use crate::path::reply::Refusal;
use crate::snapshot::Snapshot;
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
    /// An ICMP query from inside to the mapping of another inside host's (RFC 7857 §12).
    Query,
    /// Through a port forward.
    Forward {
        /// Its slot.
        slot: Slot,
    },
}

/// Drops a packet without a word.
pub(super) const fn drop(verdict: Verdict) -> Decision {
    Decision::Refuse { verdict, refusal: Refusal::Silent }
}

/// Drops a packet and tells its sender that it is not allowed (RFC 1812 §5.2.7.1, RFC 5508 REQ-8).
pub(super) const fn prohibit(verdict: Verdict) -> Decision {
    let message = ErrorMessage::unreachable(PROHIBITED);
    Decision::Refuse { verdict, refusal: Refusal::Error(message) }
}

pub(super) fn query(key: &FlowKey, in_dev: EthPortId, out_dev: Option<EthPortId>) -> Query {
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
    // An error goes as the answers do of the conn that it is about.
    match gateway.decide_out(&query(&parsed.lookup_key(), in_dev, out_dev)) {
        Verdicts::Forward(by) => Decision::Forward { by },
        Verdicts::Drop(verdict) => drop(verdict),
        Verdicts::Reject(verdict) => prohibit(verdict),
        Verdicts::Translate(_)
            if !comes_from_inside(snapshot, gateway, key.src, in_dev, out_dev) =>
        {
            // An answer to what was excepted comes in as it is. In the name of an inside host it would take what that
            // one may have, and out again it would be a remote's that uses us as a relay.
            let comes_in = gateway.is_outer(in_dev) && !gateway.is_outer(route.iface);
            if comes_in && !is_forged(snapshot, gateway, key.src, in_dev) {
                Decision::Forward { by: None }
            } else {
                drop(Verdict::BadSource)
            }
        }
        Verdicts::Translate(found) => {
            let opening = Opening::Out { rule: found.index, slot: found.slot, out_dev };
            opens(snapshot, meta, opening)
        }
    }
}

/// Whether a packet that is to be translated comes from inside: as the rules tell or, with one arm, by the way that leads
/// back to its source. With two arms remotes are by that way, the neighbours of the WAN IP among them.
fn comes_from_inside(
    snapshot: &Snapshot,
    gateway: &Gateway,
    src: u32,
    in_dev: EthPortId,
    out_dev: Option<EthPortId>,
) -> bool {
    let goes_back = |route: &RouteEntry| route.iface == in_dev;
    gateway.is_inside(src, in_dev, out_dev)
        || gateway.has_one_arm() && snapshot.fib.route(src).is_some_and(goes_back)
}

/// Whether a packet that came where remotes are has the source of an inside host: with two arms the way to that one is
/// another.
pub(super) fn is_forged(
    snapshot: &Snapshot,
    gateway: &Gateway,
    src: u32,
    in_dev: EthPortId,
) -> bool {
    let leads_in = |route: &RouteEntry| {
        route.kind == RouteKind::Unicast
            && !gateway.is_outer(route.iface)
            && !snapshot.fib.is_as_default(route)
    };
    !gateway.has_one_arm()
        && gateway.is_outer(in_dev)
        && snapshot.fib.route(src).is_some_and(leads_in)
}

/// Addresses that stay on their link or host (RFC 1812 §4.2.2.11, §5.3.4, RFC 3927 §2.6.2).
const fn is_forwardable(key: &FlowKey) -> bool {
    const fn is_local(address: u32) -> bool {
        address >> 24 == 127 || address >> 24 == 0 || address >> 16 == 0xa9fe
    }
    !ipv4::is_multicast_or_broadcast(key.dst) && !is_local(key.dst) && !is_local(key.src)
}

/// Whether a packet may be the first one of a conn that leads to an inside endpoint: rules of forwarding are
/// asked for that one, as if it had come to it.
pub(super) fn opens_to(
    snapshot: &Snapshot,
    gateway: &Gateway,
    meta: &Meta,
    opening: Opening,
    to: Endpoint32,
) -> Decision {
    if gateway.forwards_all() {
        return opens(snapshot, meta, opening);
    }
    match gateway.denied(&query_to(snapshot, meta, to)) {
        Some(Verdicts::Drop(verdict)) => drop(verdict),
        Some(Verdicts::Reject(verdict)) => prohibit(verdict),
        _ => opens(snapshot, meta, opening),
    }
}

/// What rules of forwarding say about a packet that a port forward leads to one of several servers: such a forward is a
/// service on a WAN IP. The rule, too, if one keeps the packet from passing.
pub(super) fn denied_to_server(
    snapshot: &Snapshot,
    meta: &Meta,
    to: Endpoint32,
) -> Option<(Verdict, Refusal, Slot)> {
    let gateway = snapshot.gateway.as_ref().filter(|gateway| !gateway.forwards_all())?;
    if meta.role != Some(Role::WanIp) {
        return None;
    }
    let query = query_to(snapshot, meta, to);
    let slot = gateway.filter_rule(&query).map_or(Slot::NONE, |rule| rule.slot);
    match gateway.denied(&query)? {
        Verdicts::Reject(verdict) => {
            let message = ErrorMessage::unreachable(PROHIBITED);
            Some((verdict, Refusal::Error(message), slot))
        }
        Verdicts::Drop(verdict) => Some((verdict, Refusal::Silent, slot)),
        Verdicts::Forward(_) | Verdicts::Translate(_) => None,
    }
}

/// What rules of forwarding are asked about a packet that goes to an inside endpoint.
pub(super) fn query_to(snapshot: &Snapshot, meta: &Meta, to: Endpoint32) -> Query {
    let out_dev = snapshot.fib.route(to.address).map(|route| route.iface);
    let key = FlowKey { dst: to.address, dport: to.l4_port, ..meta.parsed.key };
    query(&key, EthPortId(meta.interface), out_dev)
}

/// Whether a packet may be the first one of a conn.
pub(super) fn opens(snapshot: &Snapshot, meta: &Meta, opening: Opening) -> Decision {
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
        Opening::In | Opening::Query => Slot::NONE,
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
        Opening::In => nat.accept_in(&key),
        Opening::Query => nat.accept_query(&key),
        Opening::Forward { slot } => match gateway.forward_of(slot) {
            None => Err(Verdict::Internal),
            Some(forward) => {
                let reply = forward.translated(&key).reversed();
                // By another forward to the same server: its answers could not be told apart.
                let taken = table.lookup(&reply, table.hash(&reply)).is_some();
                let translate = match forward.source() {
                    SourceAddress::Keep => false,
                    SourceAddress::Translate => true,
                    SourceAddress::Auto => taken || speak_past_us(snapshot, key.src, reply.src),
                };
                if taken && !translate {
                    nat.count_refused(slot, Verdict::ForwardTaken);
                    Err(Verdict::ForwardTaken)
                } else {
                    nat.open_forward(forward, &key, translate, now)
                }
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
    let class = |terms: &nat::gateway::Terms| terms.settings().timeout_class;
    forward.timeout_class = match opening {
        Opening::Out { rule, .. } => gateway.terms(rule).map_or(0, class),
        Opening::In | Opening::Query | Opening::Forward { .. } => Timeouts::UNANSWERED,
    };
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
    nat_log::abandoned(core, &reserved.held, now);
    if let Some(nat) = &mut core.nat {
        nat.abandon(&reserved.held, now);
    }
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
    let mappings = nat_log::before_release(core, &held);
    if let Some(nat) = &mut core.nat {
        nat.release(&held, now);
    }
    nat_log::released(core, &held, mappings, now);
}

/// Keeps the mappings of a conn of the gateway that another one follows at once, see [`let_go`].
pub(super) fn keep<P: Packet>(core: &mut Core<P>, conn: ConnId) -> Option<(Held, Kept)> {
    let Core { table, nat, .. } = core;
    let (forward, cold) = table.flow(conn.forward()).zip(table.cold(conn))?;
    let held = Held::of(forward, cold);
    let kept = nat.as_mut().filter(|_| cold.rs().is_none())?.keep(&held);
    (!kept.is_empty()).then_some((held, kept))
}

/// Lets the mappings of a conn go that is gone; the one that follows it has them if it came to be.
pub(super) fn let_go<P: Packet>(core: &mut Core<P>, kept: Option<(Held, Kept)>, now: Now) {
    let Some((held, kept)) = kept else { return };
    let mappings = nat_log::before_release(core, &held);
    if let Some(nat) = &mut core.nat {
        nat.let_go(&kept, now);
    }
    nat_log::released(core, &held, mappings, now);
}

/// A conn that a remote has opened to a mapping or through a port forward is answered: from now on it is one as
/// others are.
///
/// # Errors
/// If it is one more than the inside host may have: the packet does not pass then, and the conn stays as it is.
#[cold]
pub(super) fn answered<P: Packet>(
    core: &mut Core<P>,
    conn: ConnId,
    now: Now,
) -> Result<(), Verdict> {
    let Core { snapshot, table, nat, .. } = core;
    let (Some(gateway), Some(nat)) = (&snapshot.gateway, nat) else { return Ok(()) };
    let Some((forward, cold)) = table.flow(conn.forward()).zip(table.cold(conn)) else {
        return Err(Verdict::Internal);
    };
    let held = Held::of(forward, cold);
    let lease = if held.pending {
        nat.forward_answered();
        held.lease
    } else if held.key.src != held.new_key.src {
        // A hairpinned query, which ends soon in any case.
        return Ok(());
    } else {
        nat.answered(gateway, &held, now)?;
        LeaseKind::Mapping
    };
    let terms = gateway.terms_of(held.slot);
    let class = terms.map_or(0, |terms| terms.settings().timeout_class);
    table.resettle(conn, lease, class, now);
    Ok(())
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
