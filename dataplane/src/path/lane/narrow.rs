//! The narrow lane: conns of IPv4 alone, those of the NAT gateway among them.

use balance::ServiceSpec;
use fib::{Fib, Owner};
use flow::{ConnId, Flow, FlowId, FlowTable, LeaseKind, Removed, State, Timeouts};
use nat::icmp;
use nat::mapping::Endpoint32;
use nat::rewrite::{Layout, Outcome};
use nat::state::{Held, Kept};
use pool::{GroupKey, LeaseError};
use types::{
    Address as _, BURST_MAX, Dir, EthPortId, FlowKey, FlowKey6, Io, Now, Packet, Slot, Verdict,
    WorkerId,
};
use wire::Parsed;
use wire::reply::{ErrorMessage, Reset};
use wire::segment::Segment;

use super::{Hop, Lane, Pools};
use crate::path::burst::{Burst, Mask, Meta, ones};
use crate::path::gather::{self, Gathered};
use crate::path::open::Decision;
use crate::path::reply::Refusal;
use crate::path::rewrite::clamp_mss;
use crate::path::{
    endpoints, forward, fragment, gateway, gateway_counts, lips, open, oversized, punt, reply,
};
use crate::snapshot::{Second, Snapshot};
use crate::worker::Core;
use crate::worker::handoff::Handoff;
use crate::worker::kernel::PuntClass;

impl Lane for u32 {
    #[inline(always)]
    fn table<P>(core: &Core<P>) -> &FlowTable {
        &core.table
    }

    #[inline(always)]
    fn table_mut<P>(core: &mut Core<P>) -> &mut FlowTable {
        &mut core.table
    }

    #[inline(always)]
    fn parts<P>(core: &mut Core<P>) -> (&Snapshot, &mut FlowTable) {
        (&core.snapshot, &mut core.table)
    }

    #[inline(always)]
    fn handoff_mut<P>(core: &mut Core<P>) -> &mut Handoff<P> {
        &mut core.handoff
    }

    #[inline(always)]
    fn owner(fib: &Fib, address: Self) -> Option<Owner> {
        fib.owner(address)
    }

    #[inline]
    fn hop(fib: &Fib, address: Self) -> Option<Hop> {
        let route = fib.route(address)?;
        let target = route.target(address).to_ip();
        Some(Hop { kind: route.kind, iface: route.iface, mtu: route.mtu, target })
    }

    #[inline(always)]
    fn mtu_floor(fib: &Fib) -> u16 {
        fib.mtu_floor()
    }

    #[inline(always)]
    fn len_after<P: Packet>(_: &P, _: &Flow, parsed: &Parsed) -> u16 {
        parsed.ip_total_len
    }

    #[inline(always)]
    fn told_mtu(_: &Flow, mtu: u16) -> u16 {
        mtu
    }

    #[inline(always)]
    fn apply<P: Packet>(
        packet: &mut P,
        layout: Layout,
        flow: &Flow,
        show_client: bool,
        mtu: usize,
        _: u16,
    ) -> Result<Outcome, Verdict> {
        nat::rewrite::apply(packet, layout, flow, show_client, mtu)
    }

    fn apply_to_fragment<P: Packet>(
        packet: &mut P,
        layout: Layout,
        flow: &Flow,
    ) -> Result<(), Verdict> {
        nat::rewrite::apply_to_fragment(packet, layout, flow)
    }

    fn translate_error<P: Packet>(
        packet: &mut P,
        parsed: &Parsed,
        flow: &Flow,
        inserted: u16,
        _: &Fib,
    ) -> Result<(), Verdict> {
        icmp::translate(packet, Layout::from(parsed), flow, inserted)
    }

    fn can_be_cut<P: Packet>(packet: &P, parsed: &Parsed, _: &Flow, mtu: u16) -> bool {
        oversized::can_be_cut(packet, parsed.l3.into(), mtu)
    }

    #[inline]
    fn is_first_fragment<P: Packet>(packet: &P, parsed: &Parsed) -> bool {
        fragment::is_first(packet, parsed)
    }

    #[inline(always)]
    fn layout_after(_: &Flow, layout: Layout) -> Layout {
        layout
    }

    fn reset_reply<P: Packet>(packet: &mut P, parsed: &Parsed) -> bool {
        wire::reply::reset_reply(packet, parsed)
    }

    fn write_reset(bytes: &mut [u8], reset: &Reset) -> Option<usize> {
        wire::reply::write_reset(bytes, reset)
    }

    fn write_segment(bytes: &mut [u8], segment: &Segment<'_>) -> Option<usize> {
        wire::segment::write_segment(bytes, segment)
    }

    fn error_source<P: Packet>(
        fib: &Fib,
        interface: EthPortId,
        packet: &P,
        parsed: &Parsed,
        _: ErrorMessage,
    ) -> Option<Self> {
        let may = wire::reply::may_answer_with_error(packet.bytes(), parsed)
            && !fib.is_broadcast(interface, parsed.key.dst);
        let hinted = fib.route(parsed.key.src).and_then(|route| route.src);
        hinted.or_else(|| fib.icmp_source(interface)).filter(|_| may)
    }

    fn icmp_error<P: Packet>(
        packet: &mut P,
        parsed: &Parsed,
        message: ErrorMessage,
        source: Self,
    ) -> bool {
        wire::reply::icmp_error(packet, parsed, message, source)
    }

    #[inline]
    fn lease(
        pools: &mut Pools<'_>,
        spec: &ServiceSpec,
        next: &mut u32,
        group: GroupKey,
    ) -> Option<(Self, u16)> {
        let Pools { v4, classes, .. } = pools;
        lips::lease(&spec.lips, next, |lip| v4.take(&GroupKey { lip, ..group }, *classes))
    }

    fn take_exact(pools: &mut Pools<'_>, group: &GroupKey, l4_port: u16) -> Result<(), LeaseError> {
        pools.v4.take_exact(group, l4_port)
    }

    #[inline]
    fn give_back(pools: &mut Pools<'_>, group: &GroupKey, l4_port: u16, rest: Option<u32>) -> bool {
        pools.v4.give_back(group, l4_port, rest)
    }

    /// Those of conns that have an IPv6 side, and those that a service may send to an IPv6 server.
    #[inline]
    fn change_lanes<P: Packet>(core: &mut Core<P>, burst: &mut Burst<P>, misses: Mask) -> Mask {
        if core.wide.is_unused() { misses } else { change_wide(core, burst, misses) }
    }

    #[inline]
    fn unclaimed(snapshot: &Snapshot, meta: &Meta) -> Option<PuntClass> {
        punt::unclaimed(snapshot, meta)
    }

    #[inline]
    fn decide_nat<P: Packet>(core: &Core<P>, meta: &Meta) -> Option<Decision> {
        match (&core.snapshot.gateway, &core.nat) {
            (Some(gateway), Some(nat)) if gateway::is_gateways(&core.snapshot, meta) => {
                Some(open::decide_nat(&core.snapshot, gateway, nat, meta))
            }
            _ => None,
        }
    }

    #[inline]
    fn second(
        snapshot: &Snapshot,
        role: Option<fib::Role>,
        key: &FlowKey,
        in_dev: EthPortId,
    ) -> Option<Second> {
        snapshot.second(role, key, in_dev)
    }

    fn denied_to_server(
        snapshot: &Snapshot,
        meta: &Meta,
        (address, l4_port): (Self, u16),
    ) -> Option<(Verdict, Refusal, Slot)> {
        gateway::denied_to_server(snapshot, meta, Endpoint32::new(address, l4_port))
    }

    fn endpoint_redirect<P: Packet>(core: &Core<P>, key: &FlowKey) -> Option<WorkerId> {
        endpoints::redirect(core, key)
    }

    fn renew_endpoint<P: Packet>(core: &mut Core<P>, meta: &Meta, now: Now) {
        endpoints::renew_endpoint(core, meta, now);
    }

    fn forget_endpoint<P: Packet>(core: &mut Core<P>, key: &FlowKey) {
        endpoints::forget_endpoint(core, key);
    }

    fn has_mapping<P: Packet>(core: &Core<P>, meta: &Meta) -> bool {
        endpoints::has_mapping(core, meta)
    }

    /// There may still be conns that go by the port: those of one remote each.
    fn is_vacant<P: Packet>(core: &Core<P>, key: &FlowKey) -> bool {
        let outside = Endpoint32::new(key.dst, key.dport);
        let nat = core.nat.as_ref();
        nat.is_some_and(|nat| nat.mappings().find_outside(outside, key.proto).is_none())
    }

    fn loops_back<P: Packet>(core: &Core<P>, destination: Self) -> bool {
        forward::loops_back(core, destination)
    }

    fn loop_back<P: Packet>(core: &mut Core<P>, burst: &mut Burst<P>, at: usize) -> bool {
        forward::loop_back(core, burst, at)
    }

    #[inline]
    fn clamp_mss<P: Packet>(core: &Core<P>, packet: &mut P, id: FlowId, layout: Layout) {
        if core.nat.is_some() {
            clamp_mss(core, packet, id, layout);
        }
    }

    fn gather<P: Packet>(
        gathered: &mut Gathered,
        core: &mut Core<P>,
        burst: &mut Burst<P>,
        at: usize,
        opening: gateway::Opening,
        now: Now,
    ) {
        gathered.add(core, burst, at, opening, now);
    }

    #[inline]
    fn open_gathered<P: Packet>(
        gathered: &mut Gathered,
        core: &mut Core<P>,
        burst: &mut Burst<P>,
        now: Now,
    ) {
        gathered.commit(core, burst, now);
    }

    fn settle_nat<I: Io>(
        core: &mut Core<I::Packet>,
        io: &mut I,
        burst: &mut Burst<I::Packet>,
        at: usize,
        decision: Decision,
        now: Now,
    ) {
        match decision {
            Decision::OpenNat(opening) => gather::open(core, burst, at, opening, now),
            Decision::Forward { by } => {
                gateway_counts::count_forwarded(core, burst.meta(at), by);
                forward::forward(core, io, burst, at, now);
            }
            Decision::Echo => reply::echo(core, burst, at, now),
            Decision::HoldSyn { verdict } => {
                gateway_counts::count_refused(core, burst.meta(at), verdict);
                forward::hold_syn(core, burst, at, verdict, now);
            }
            Decision::Open { .. } | Decision::Punt(_) | Decision::Refuse { .. } => {
                burst.end(at, Verdict::Internal);
            }
        }
    }

    fn count_refused<P: Packet>(core: &mut Core<P>, meta: &Meta, verdict: Verdict) {
        gateway_counts::count_refused(core, meta, verdict);
    }

    fn answered<P: Packet>(
        core: &mut Core<P>,
        id: FlowId,
        to: State,
        now: Now,
    ) -> Result<(), Verdict> {
        if is_answered(core, id, to) { gateway::answered(core, id.conn(), now) } else { Ok(()) }
    }

    fn keep<P: Packet>(core: &mut Core<P>, conn: ConnId) -> Option<(Held, Kept)> {
        gateway::keep(core, conn)
    }

    fn let_go<P: Packet>(core: &mut Core<P>, kept: Option<(Held, Kept)>, now: Now) {
        gateway::let_go(core, kept, now);
    }

    fn release<P: Packet>(core: &mut Core<P>, removed: &Removed, now: Now) {
        gateway::release(core, removed, now);
    }

    #[inline]
    fn prefetch_release<P: Packet>(core: &Core<P>, conn: ConnId) -> Option<Held> {
        let (nat, gateway) = core.nat.as_ref().zip(core.snapshot.gateway.as_ref())?;
        let (forward, cold) = core.table.behind(conn)?;
        let held = Held::of(forward, cold);
        nat.prefetch_release(gateway, &held);
        Some(held)
    }

    #[inline]
    fn prefetch_mapping<P: Packet>(core: &Core<P>, held: &Held) {
        if let Some(nat) = &core.nat {
            nat.prefetch_mapping(held);
        }
    }

    fn fold_rule_counts<P: Packet>(core: &mut Core<P>, conn: ConnId, rule: Slot) {
        gateway_counts::fold_counts(core, conn, rule);
    }
}

/// Whether a conn of the gateway that was not answered is so by the packet that has moved it to a state. Through a port
/// forward a SYN|ACK is no answer yet: it goes to whomever the SYN named.
fn is_answered<P: Packet>(core: &Core<P>, id: FlowId, to: State) -> bool {
    if core.table.cold(id.conn()).is_some_and(|cold| cold.lease() == LeaseKind::Unanswered) {
        return id.dir() == Dir::Reverse && !to.is_closing();
    }
    let waits = core.table.flow(id).is_some_and(|f| f.timeout_class == Timeouts::UNANSWERED);
    waits && !to.is_opening() && !matches!(to, State::Closed | State::Reset)
}

/// Moves packets of conns with an IPv6 side to their lane: all lookups of the burst at once, as there.
#[inline(never)]
fn change_wide<P: Packet>(core: &mut Core<P>, burst: &mut Burst<P>, misses: Mask) -> Mask {
    let table = &core.wide.table;
    let mut keys = [FlowKey6::default(); BURST_MAX];
    let mut hashes = [0; BURST_MAX];
    let mut found = [None; BURST_MAX];
    let (mut ours, mut count) = (0, 0);
    for at in ones(misses) {
        let meta = burst.meta(at);
        // What is for nobody of ours is the gateway's, and that is one of IPv4.
        if meta.role.is_none() {
            continue;
        }
        if let (Some(key), Some(hash)) = (keys.get_mut(count), hashes.get_mut(count)) {
            *key = FlowKey6::mapped(meta.parsed.lookup_key());
            *hash = table.hash(key);
            table.prefetch_bucket(*hash);
            ours |= 1 << at;
            count += 1;
        }
    }
    if let (Some(keys), Some(hashes), Some(found)) =
        (keys.get(..count), hashes.get(..count), found.get_mut(..count))
    {
        table.lookup_burst(keys, hashes, found);
    }
    let mut stay = misses;
    for (at, found) in ones(ours).zip(found.into_iter().zip(hashes)) {
        if found.0.is_some() || may_open_wide(&core.snapshot, burst.meta(at)) {
            core.wide.change(burst, at, found);
            stay &= !(1 << at);
        }
    }
    stay
}

/// Whether a packet of IPv4 is for a service that may give it to a server of IPv6.
fn may_open_wide(snapshot: &Snapshot, meta: &Meta) -> bool {
    let service = snapshot.services.lookup(&meta.parsed.lookup_key());
    service.is_some_and(|service| service.has_ipv6_server())
}

/// Whether a packet that is of no conn of IPv4 is of one that has an IPv6 side, or may open one.
pub fn is_wide<P: Packet>(core: &Core<P>, meta: &Meta) -> bool {
    let key = meta.parsed.lookup_key();
    // What is for nobody of ours is the gateway's, and that is one of IPv4.
    !core.wide.is_unused()
        && meta.role.is_some()
        && (core.wide.has(&FlowKey6::mapped(key)) || may_open_wide(&core.snapshot, meta))
}
