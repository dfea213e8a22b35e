//! Stage `open`: what misses the flow table opens a conn, or is refused by name.
//!
//! `decide` reads only, and is also what `explain` shows; `commit` then takes the server, the lease
//! and the place in the table.

use std::net::IpAddr;

use balance::{Mode, NoServer, OnNotSyn, Service};
use counters::Event;
use fib::Role;
use flow::{ConnId, Flow, InsertError, LeaseKind, NewCold, Prepared, State};
use nat::fullnat::{Opening, flows, hide};
use nat::reuse::Pair;
use nat::rules::RuleMatch;
use nat::{Gateway, NatState, translate};
use pool::GroupKey;
use types::{EthPortId, FlowKey, Io, Now, Packet, Proto, Slot, Verdict};
use wire::icmpv4::PORT_UNREACHABLE;
use wire::reply::ErrorMessage;
use wire::{Kind, Parsed, Tcp, tcp, tcp_options};

use crate::path::burst::{Burst, Mask, Meta, ones};
use crate::path::gather::{Gathered, Seen};
use crate::path::lane::{Lane, Pools};
use crate::path::reply::{self, Refusal};
use crate::path::track::close;
use crate::path::{gateway, gateway_wan, proxy, punt, steer};
use crate::snapshot::Snapshot;
use crate::worker::kernel::PuntClass;
use crate::worker::{Core, LIP_CURSORS};

/// What is to become of a packet that is of no conn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It opens a conn of this service.
    Open {
        /// The service.
        service: Slot,
    },
    /// It opens a conn of a rule of `snat`, or of a port forward.
    OpenNat(gateway::Opening),
    /// It is the kernel's.
    Punt(PuntClass),
    /// It is routed on as it is; there is no conn.
    Forward {
        /// The rule of `snat` that says so, if one does.
        by: Option<RuleMatch>,
    },
    /// We answer it, as an echo request to an address of ours.
    Echo,
    /// It is a SYN that nobody expects: it is answered only if that is so for six seconds.
    HoldSyn {
        /// Why nobody expects it.
        verdict: Verdict,
    },
    /// It is refused.
    Refuse {
        /// Why.
        verdict: Verdict,
        /// What its sender is told.
        refusal: Refusal,
    },
}

/// Opens conns for the packets that have no flow.
#[inline]
pub fn open<I: Io, A: Lane>(
    core: &mut Core<I::Packet>,
    io: &mut I,
    burst: &mut Burst<I::Packet, A>,
    now: Now,
) {
    let mut misses: Mask = 0;
    for at in ones(burst.live()) {
        if burst.meta(at).flow.is_none() {
            misses |= 1 << at;
        }
    }
    if misses != 0 {
        let misses = A::change_lanes(core, burst, misses);
        let misses = steer::ask_others(core, burst, misses, now);
        open_missed(core, io, burst, misses, now);
    }
}

/// A conn that has its server and its lease, and goes into the table next.
struct Pending<A> {
    /// Its packet.
    at: usize,
    conn: Prepared<A>,
    cold: NewCold,
    client: IpAddr,
    /// The LIP's port, if it needs one.
    lease: Option<(GroupKey<A>, u16)>,
    on_limit: Refusal,
}

/// The pending conns of a burst: memory answers for all of them at once.
struct Ahead<A> {
    pending: [Option<Pending<A>>; AHEAD],
    count: usize,
    seen: Seen,
}

/// Conns that are pending at once: enough to have all loads under way that a CPU can have.
const AHEAD: usize = 8;

impl<A> Default for Ahead<A> {
    fn default() -> Self {
        Self { pending: [const { None }; AHEAD], count: 0, seen: Seen::default() }
    }
}

impl<A: Lane> Ahead<A> {
    /// Puts all pending conns into the table.
    fn commit<P: Packet>(&mut self, core: &mut Core<P>, burst: &mut Burst<P, A>, now: Now) {
        for place in self.pending.iter_mut().take(self.count) {
            if let Some(pending) = place {
                commit_pending(core, burst, pending, now);
            }
            *place = None;
        }
        self.count = 0;
    }
}

/// Two passes: the first one decides, the second one reserves and commits.
fn open_missed<I: Io, A: Lane>(
    core: &mut Core<I::Packet>,
    io: &mut I,
    burst: &mut Burst<I::Packet, A>,
    misses: Mask,
    now: Now,
) {
    let mut opening: Mask = 0;
    let mut gathered = Gathered::default();
    for at in ones(misses) {
        match decide(core, burst.meta(at)) {
            Decision::Open { .. } => opening |= 1 << at,
            Decision::OpenNat(nat) => A::gather(&mut gathered, core, burst, at, nat, now),
            other => settle(core, io, burst, at, other, now),
        }
    }
    A::open_gathered(&mut gathered, core, burst, now);
    let mut ahead = Ahead::default();
    for at in ones(opening) {
        let (key, hash) = (burst.meta(at).parsed.key, burst.meta(at).hash);
        if ahead.seen.notes(hash) {
            // A packet before it in the burst may have opened the conn.
            ahead.commit(core, burst, now);
            if let Some(flow) = A::table(core).lookup(&key, hash) {
                burst.meta_mut(at).flow = Some(flow);
                continue;
            }
        }
        if ahead.count >= AHEAD || A::table(core).room() as usize <= ahead.count {
            ahead.commit(core, burst, now);
        }
        let Some(place) = ahead.pending.get_mut(ahead.count) else { continue };
        reserve_packet(core, io, burst, (at, now), place);
        ahead.count += usize::from(place.is_some());
    }
    ahead.commit(core, burst, now);
}

/// Does what was decided about a packet that opens nothing.
fn settle<I: Io, A: Lane>(
    core: &mut Core<I::Packet>,
    io: &mut I,
    burst: &mut Burst<I::Packet, A>,
    at: usize,
    decision: Decision,
    now: Now,
) {
    match decision {
        Decision::Punt(class) => punt::punt(core, burst, at, class, now),
        Decision::Refuse { verdict, refusal } => {
            A::count_refused(core, burst.meta(at), verdict);
            reply::refuse(core, burst, at, verdict, refusal, now);
        }
        Decision::Open { .. } => burst.end(at, Verdict::Internal),
        Decision::OpenNat(_)
        | Decision::Forward { .. }
        | Decision::Echo
        | Decision::HoldSyn { .. } => A::settle_nat(core, io, burst, at, decision, now),
    }
}

/// Decides about one packet whose conn was over, and opens a new one for it.
pub(super) fn open_one<I: Io, A: Lane>(
    core: &mut Core<I::Packet>,
    io: &mut I,
    burst: &mut Burst<I::Packet, A>,
    at: usize,
    now: Now,
) {
    burst.meta_mut(at).flow = None;
    match decide(core, burst.meta(at)) {
        Decision::Open { .. } => {
            let mut pending = None;
            reserve_packet(core, io, burst, (at, now), &mut pending);
            if let Some(pending) = &pending {
                commit_pending(core, burst, pending, now);
            }
        }
        other => settle(core, io, burst, at, other, now),
    }
}

/// Takes what the conn of a packet needs but its place in the table; refuses it without that.
fn reserve_packet<I: Io, A: Lane>(
    core: &mut Core<I::Packet>,
    io: &mut I,
    burst: &mut Burst<I::Packet, A>,
    (at, now): (usize, Now),
    pending: &mut Option<Pending<A>>,
) {
    if burst.meta(at).parsed.kind == Kind::Fragment {
        burst.end(at, Verdict::NoFirstFragment);
        return;
    }
    let opening = opening_of(burst.packet(at), &burst.meta(at).parsed);
    if A::table(core).is_full() {
        match make_room(core, io, &opening.key, now) {
            Ok(evicted) => burst.end_of(evicted, Verdict::TableFull),
            Err((verdict, refusal)) => {
                reply::refuse(core, burst, at, verdict, refusal, now);
                return;
            }
        }
    }
    let meta = *burst.meta(at);
    if let Err((verdict, refusal)) = reserve(core, &opening, (at, &meta), now, pending) {
        reply::refuse(core, burst, at, verdict, refusal, now);
    }
}

/// What is to become of a packet without a flow; changes nothing.
#[inline]
pub fn decide<P: Packet, A: Lane>(core: &Core<P>, meta: &Meta<A>) -> Decision {
    if let Some(class) = A::unclaimed(&core.snapshot, meta) {
        return Decision::Punt(class);
    }
    A::decide_nat(core, meta).unwrap_or_else(|| decide_served(&core.snapshot, meta))
}

/// What is not for a service: to a WAN IP, or to nobody of ours.
pub(super) fn decide_nat(
    snapshot: &Snapshot,
    gateway: &Gateway,
    nat: &NatState,
    meta: &Meta,
) -> Decision {
    match meta.role {
        Some(_) if meta.asked.is_vacant() => {
            Decision::Refuse { verdict: Verdict::NoMapping, refusal: Refusal::Silent }
        }
        Some(_) => gateway_wan::decide_wan(snapshot, gateway, nat, meta),
        None => gateway::decide_transit(snapshot, gateway, meta),
    }
}

/// What is for a service, or would be.
#[inline]
fn decide_served<A: Lane>(snapshot: &Snapshot, meta: &Meta<A>) -> Decision {
    let parsed = &meta.parsed;
    if parsed.kind == Kind::IcmpError {
        return Decision::Refuse { verdict: Verdict::IcmpNoConn, refusal: Refusal::Silent };
    }
    if meta.role == Some(Role::Lip) {
        return of_no_conn(meta);
    }
    if A::owner(&snapshot.fib, parsed.key.src).is_some() {
        return Decision::Refuse { verdict: Verdict::BadSource, refusal: Refusal::Silent };
    }
    let service = snapshot.services.lookup(&parsed.key);
    let Some(service) = service.filter(|_| meta.role != Some(Role::Leaving)) else {
        return unserved(snapshot, meta);
    };
    let spec = service.spec();
    if spec.proto == Proto::Tcp && !is_opening_syn(parsed.tcp_flags) {
        let refusal = match spec.on_not_syn {
            OnNotSyn::Drop => Refusal::Silent,
            OnNotSyn::Reset => Refusal::Reset,
        };
        return Decision::Refuse { verdict: Verdict::NotSyn, refusal };
    }
    if snapshot.policy.stopping {
        return Decision::Refuse { verdict: Verdict::Stopping, refusal: Refusal::Silent };
    }
    Decision::Open { service: spec.slot }
}

/// A real server speaks of a conn that is gone here. A reset with the number that it expects ends it
/// there, too: one that we sent before may have had an older number (RFC 5961 §3.2).
fn of_no_conn<A>(meta: &Meta<A>) -> Decision {
    let acknowledges = meta.parsed.kind == Kind::Tcp && meta.parsed.tcp_flags & tcp::ACK != 0;
    let refusal = if acknowledges { Refusal::Reset } else { Refusal::Silent };
    Decision::Refuse { verdict: Verdict::NoConn, refusal }
}

/// Nobody serves it: as a host would say, or silently.
#[cold]
fn unserved<A>(snapshot: &Snapshot, meta: &Meta<A>) -> Decision {
    let refusal = match meta.parsed.kind {
        _ if !snapshot.policy.reject_unserved => Refusal::Silent,
        _ if snapshot.is_silent(EthPortId(meta.interface)) => Refusal::Silent,
        Kind::Tcp => Refusal::Reset,
        Kind::Udp => Refusal::Error(ErrorMessage::unreachable(PORT_UNREACHABLE)),
        _ => Refusal::Silent,
    };
    Decision::Refuse { verdict: Verdict::NoService, refusal }
}

/// True for the first packet of a handshake (RFC 9293 §3.5).
#[inline]
pub const fn is_opening_syn(tcp_flags: u8) -> bool {
    tcp_flags & (tcp::SYN | tcp::ACK | tcp::RST | tcp::FIN) == tcp::SYN
}

/// What the flows of a new conn begin with.
fn opening_of<P: Packet, A: Lane>(packet: Option<&P>, parsed: &Parsed<A>) -> Opening<A> {
    let mut opening = Opening { key: parsed.key, sequence: 0, timestamp: None };
    if parsed.kind == Kind::Tcp
        && let Some(packet) = packet
        && let Some(header) = Tcp::at(packet.bytes(), usize::from(parsed.l4))
    {
        opening.sequence = header.seq();
        let options =
            usize::from(parsed.l4) + tcp::LEN..usize::from(parsed.l4) + header.header_len();
        opening.timestamp = packet
            .bytes()
            .get(options)
            .and_then(tcp_options::find_timestamps)
            .map(|timestamps| timestamps.value);
    }
    opening
}

/// Takes a server and a lease.
fn reserve<P: Packet, A: Lane>(
    core: &mut Core<P>,
    opening: &Opening<A>,
    (at, meta): (usize, &Meta<A>),
    now: Now,
    pending: &mut Option<Pending<A>>,
) -> Result<(), (Verdict, Refusal)> {
    let Core { snapshot, leases, wide, cells, classes, next_lip, secrets, nat, .. } = core;
    let mut hash = meta.hash;
    let Some(service) = snapshot.services.lookup(&opening.key) else {
        return Err((Verdict::Internal, Refusal::Silent));
    };
    let spec = service.spec();
    let index = cells.choose(service, &opening.key, now).map_err(|none| refused(service, none))?;
    let server = service.servers().get(index).ok_or((Verdict::Internal, Refusal::Silent))?;
    let (key, client) = (opening.key, opening.key.src.to_ip());
    let Some(rs) = A::from_ip(server.address) else {
        cells.abandoned(spec.slot, server.slot, client, now);
        return Err((Verdict::Internal, Refusal::Silent));
    };
    let group = GroupKey { lip: A::default(), rs, rport: server.l4_port, proto: key.proto };
    let (mut forward, reverse, lease) = if spec.mode == Mode::Nat {
        let to = (rs, server.l4_port);
        if let Some((verdict, refusal, rule)) = A::denied_to_server(snapshot, meta, to) {
            cells.abandoned(spec.slot, server.slot, client, now);
            if let Some(nat) = nat {
                nat.decided(rule, false, meta.parsed.ip_total_len);
            }
            return Err((verdict, refusal));
        }
        let new_key = FlowKey { dst: rs, dport: server.l4_port, ..key };
        let (forward, reverse) = translate::flows(key, new_key);
        (forward, reverse, None)
    } else {
        let next = next_lip.get_mut(spec.slot.index() % LIP_CURSORS);
        let mut pools = Pools { v4: leases, v6: &mut wide.leases, classes: *classes };
        let leased = next.and_then(|next| A::lease(&mut pools, spec, next, group));
        let Some((lip, lport)) = leased else {
            cells.abandoned(spec.slot, server.slot, client, now);
            return Err((Verdict::NoLease, refusal(spec.on_limit)));
        };
        let pair = Pair { lip, lport, rs, rport: server.l4_port };
        let client_address = proxy::client_address(spec);
        let (forward, reverse) = flows(opening, pair, client_address, secrets, now);
        (forward, reverse, Some((GroupKey { lip, ..group }, lport)))
    };
    forward.state = State::opening(spec.proto.number());
    forward.timeout_class = spec.timeout_class;
    let (service, rs) = (spec.slot, server.slot);
    let (on_limit, one_packet) = (refusal(spec.on_limit), spec.one_packet);
    let table = A::table(core);
    if one_packet {
        hide(&mut forward);
        hash = table.hash(&forward.key());
    }
    let kind = if lease.is_some() { LeaseKind::Lip } else { LeaseKind::None };
    let cold = NewCold { service, rs, lease: kind };
    *pending = Some(Pending {
        at,
        conn: table.prepare(forward, reverse, cold, hash),
        cold,
        client,
        lease,
        on_limit,
    });
    Ok(())
}

/// Takes a place in the table; without one, what was reserved goes back.
fn commit_pending<P: Packet, A: Lane>(
    core: &mut Core<P>,
    burst: &mut Burst<P, A>,
    pending: &Pending<A>,
    now: Now,
) {
    let Pending { at, conn, cold, client, lease, on_limit } = pending;
    let error = match A::table_mut(core).insert_prepared(conn, now) {
        Ok(conn) => {
            core.counters.add(Event::Opened, 1);
            burst.meta_mut(*at).flow = Some(conn.forward());
            return;
        }
        Err(error) => error,
    };
    if let Some((group, lport)) = lease {
        A::give_back(&mut core.pools(), group, *lport, None);
    }
    core.cells.abandoned(cold.service, cold.rs, *client, now);
    let (verdict, refusal) = match error {
        InsertError::Full => (Verdict::TableFull, *on_limit),
        InsertError::Exists(_) => (Verdict::BadState, Refusal::Silent),
    };
    reply::refuse(core, burst, *at, verdict, refusal, now);
}

/// The table is full: the conn that is missed least goes, if there is one, and is returned.
#[cold]
fn make_room<I: Io, A: Lane>(
    core: &mut Core<I::Packet>,
    io: &mut I,
    key: &FlowKey<A>,
    now: Now,
) -> Result<ConnId, (Verdict, Refusal)> {
    let (snapshot, table) = A::parts(core);
    let services = &snapshot.services;
    let on_limit = services.lookup(key).map_or(Refusal::Silent, |s| refusal(s.spec().on_limit));
    let may_evict_idle = |forward: &Flow<A>| {
        services.lookup(&forward.key()).is_some_and(|service| service.spec().evict_idle)
    };
    match table.victim(now, may_evict_idle) {
        Some(conn) => {
            core.counters.add(Event::Evicted, 1);
            close::<I, A>(core, io, conn, true, now);
            Ok(conn)
        }
        None => Err((Verdict::TableFull, on_limit)),
    }
}

#[cold]
pub(super) fn refused(service: &Service, none: NoServer) -> (Verdict, Refusal) {
    match none {
        NoServer::None => (Verdict::NoRealServer, refusal(service.spec().on_no_server)),
        NoServer::Limit => (Verdict::ConnLimit, refusal(service.spec().on_limit)),
    }
}

const fn refusal(configured: balance::Refusal) -> Refusal {
    match configured {
        balance::Refusal::Drop => Refusal::Silent,
        balance::Refusal::Reset => Refusal::Reset,
        balance::Refusal::Unreachable => {
            Refusal::Error(ErrorMessage::unreachable(PORT_UNREACHABLE))
        }
    }
}
