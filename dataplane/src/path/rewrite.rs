//! Stage `rewrite`: replays each flow's stored rewrite on its packet.

use counters::Event;
use fib::{NextHopId, NextHopState};
use flow::{Flow, FlowId, LeaseKind, flags};
use nat::gateway::MssClamp;
use nat::proxy::Version;
use nat::rewrite::Layout;
use nat::{toa, uoa};
use types::{Now, Packet, Proto, Verdict};
use wire::icmpv4::{HOST_UNREACHABLE, NET_UNREACHABLE};
use wire::reply::ErrorMessage;
use wire::{Kind, Parsed};

use crate::path::burst::{Burst, Meta, ones};
use crate::path::egress::{self, Way};
use crate::path::lane::Lane;
use crate::path::proxy::header_of;
use crate::path::reply::{self, Refusal};
use crate::worker::Core;

/// Translates all live packets.
#[inline]
pub fn rewrite<P: Packet, A: Lane>(core: &mut Core<P>, burst: &mut Burst<P, A>, now: Now) {
    for at in ones(burst.live()) {
        if let Err(verdict) = rewrite_one(core, burst, at) {
            refused(core, burst, at, verdict, now);
        }
    }
}

#[inline(always)]
fn rewrite_one<P: Packet, A: Lane>(
    core: &mut Core<P>,
    burst: &mut Burst<P, A>,
    at: usize,
) -> Result<(), Verdict> {
    let (mut packet, mut meta) = burst.both(at).ok_or(Verdict::Internal)?;
    let id = meta.flow.ok_or(Verdict::Internal)?;
    let ident = A::next_ident(core);
    let mut flow = A::table(core).flow(id).ok_or(Verdict::Internal)?;
    let next_hop = NextHopId(flow.next_hop);
    if flow.fib_generation != core.snapshot.fib.generation() || next_hop.is_none() {
        reachable_anew::<P, A>(core, id)?;
        flow = A::table(core).flow(id).ok_or(Verdict::Internal)?;
    } else {
        is_up(core, next_hop)?;
    }
    let mut mtu = A::mtu_floor(&core.snapshot.fib);
    let len_after = A::len_after(packet, flow, &meta.parsed);
    if len_after > mtu {
        mtu = mtu_towards(core, flow.new_dst);
        if len_after > mtu {
            // It is translated as any other, and `egress` cuts it (RFC 4787 REQ-13 a).
            if !A::can_be_cut(packet, &meta.parsed, flow, mtu) {
                return Err(Verdict::TooBig);
            }
            burst.mark_oversized(at);
            (packet, meta) = burst.both(at).ok_or(Verdict::Internal)?;
        }
    }
    let layout = Layout::from(&meta.parsed);
    match meta.parsed.kind {
        Kind::IcmpError => return translate_error(core, packet, &meta.parsed, id),
        Kind::Fragment => return A::apply_to_fragment(packet, layout, flow),
        _ => {}
    }
    let forward = !flow.has(flags::REVERSE);
    let udp = flow.proto == Proto::Udp.number();
    if udp && forward && uoa::has_options(packet.bytes(), layout) && is_fullnat::<P, A>(core, id) {
        uoa::blank(packet, layout)?;
    }
    let shown = flow.has(flags::TOA) && forward;
    let cut = shown && A::is_first_fragment(packet, &meta.parsed);
    let mtu = usize::from(mtu);
    let outcome = A::apply(packet, layout, flow, shown && !cut, mtu, ident)?;
    if meta.parsed.tcp_flags & wire::tcp::SYN != 0 {
        A::clamp_mss(core, packet, id, layout);
    }
    let inserted = match shown && udp {
        // Of the one that each answer goes to: a conn of one packet has no flow with the client's key.
        true => match A::table(core).flow(id.twin()) {
            Some(back) => {
                let layout = A::layout_after(flow, layout);
                Some(uoa::insert(packet, layout, (back.new_dst, back.new_dport), mtu)?)
            }
            None => None,
        },
        false => outcome.toa,
    };
    match inserted {
        None if cut && !udp && meta.parsed.tcp_flags & (wire::tcp::SYN | wire::tcp::RST) == 0 => {
            core.counters.add(Event::ToaLeftOut, 1);
        }
        None => {}
        Some(toa::Inserted::Yes) => core.counters.add(Event::ToaInserted, 1),
        Some(toa::Inserted::NoRoom) => core.counters.add(Event::ToaLeftOut, 1),
    }
    Ok(())
}

/// Translates an ICMP error, which is about packets of the flow's twin.
#[cold]
fn translate_error<P: Packet, A: Lane>(
    core: &mut Core<P>,
    packet: &mut P,
    parsed: &Parsed<A>,
    id: FlowId,
) -> Result<(), Verdict> {
    let flow = A::table(core).flow(id).ok_or(Verdict::Internal)?;
    let inserted = inserted(core, id, flow);
    let full = inserted > 0 && A::leaves_no_room(packet, parsed, flow, inserted);
    A::translate_error(packet, parsed, flow, inserted, &core.snapshot.fib)?;
    core.counters.add(Event::IcmpTranslated, 1);
    if full && let Some(about) = A::table_mut(core).flow_mut(id.twin()) {
        // What shows the client would never get there; the handshake has shown it, if it could.
        about.flags &= !flags::TOA;
    }
    Ok(())
}

/// Whether the server takes the conn's packets for those of one of our LIPs.
#[cold]
fn is_fullnat<P: Packet, A: Lane>(core: &Core<P>, id: FlowId) -> bool {
    A::table(core).cold(id.conn()).is_some_and(|cold| cold.lease() == LeaseKind::Lip)
}

/// Lowers the MSS of a SYN as the conn's rule says.
#[cold]
pub(super) fn clamp_mss<P: Packet>(core: &Core<P>, packet: &mut P, id: FlowId, layout: Layout) {
    /// IPv4 and TCP headers without options (RFC 9293 §3.7.1).
    const HEADERS: u16 = 40;
    let Some(cold) = core.table.cold(id.conn()).filter(|cold| cold.rs().is_none()) else { return };
    let terms = core.snapshot.gateway.as_ref().and_then(|gateway| gateway.terms_of(cold.service()));
    let way = |id| core.table.flow(id).map_or(u16::MAX, |flow| mtu_towards(core, flow.new_dst));
    let most = match terms.map(|terms| terms.settings().mss_clamp) {
        None | Some(MssClamp::Off) => return,
        Some(MssClamp::Bytes(bytes)) => bytes,
        // Either way may be the narrower one, and both ends are to keep to it.
        Some(MssClamp::Path) => way(id).min(way(id.twin())).saturating_sub(HEADERS),
    };
    nat::rewrite::clamp_mss(packet, layout, most);
}

/// Whether there is a way to where the flow's packets go: seen before they are changed, so that their
/// sender can be told.
#[inline(always)]
fn is_up<P: Packet>(core: &Core<P>, next_hop: NextHopId) -> Result<(), Verdict> {
    if core.snapshot.next_hops.read(next_hop).state == NextHopState::Failed {
        // Control asks again while somebody wants to go there.
        core.snapshot.next_hops.mark_used(next_hop);
        return Err(Verdict::NoNeighbour);
    }
    Ok(())
}

/// The same for a flow whose way has to be looked up; it keeps it.
#[cold]
fn reachable_anew<P: Packet, A: Lane>(core: &mut Core<P>, id: FlowId) -> Result<(), Verdict> {
    let destination = A::table(core).flow(id).ok_or(Verdict::Internal)?.new_dst;
    let next_hop = match egress::resolve(core, destination) {
        Way::To(next_hop) => next_hop,
        Way::Wait(_) => return Ok(()),
        Way::None if A::loops_back(core, destination) => return Ok(()),
        Way::None => return Err(Verdict::NoRoute),
    };
    is_up(core, next_hop)?;
    let generation = core.snapshot.fib.generation();
    if let Some(flow) = A::table_mut(core).flow_mut(id) {
        flow.next_hop = next_hop.0;
        flow.fib_generation = generation;
    }
    Ok(())
}

/// What may be sent towards `destination`: the route's MTU, or its interface's.
#[cold]
pub(super) fn mtu_towards<P: Packet, A: Lane>(core: &Core<P>, destination: A) -> u16 {
    if A::loops_back(core, destination) {
        // Whoever has that port knows the way.
        return u16::MAX;
    }
    A::hop(&core.snapshot.fib, destination).map_or(u16::MAX, |hop| hop.mtu)
}

/// What we add to packets of the direction that an error is about: the client's address, for as long
/// as it is shown.
fn inserted<P: Packet, A: Lane>(core: &Core<P>, id: FlowId, flow: &Flow<A>) -> u16 {
    let about_forward = flow.has(flags::REVERSE);
    let Some(twin) = A::table(core).flow(id.twin()).filter(|_| about_forward) else { return 0 };
    match twin.proto == Proto::Udp.number() && twin.has(flags::EXT) {
        true => header_of(Version::V2, flow).len().into(),
        false if twin.has(flags::TOA) => shown_len(flow.proto, flow.new_dst, flow.src),
        false => 0,
    }
}

/// Length of what shows a client to a server, in bytes.
fn shown_len<A: Lane>(proto: u8, client: A, server: A) -> u16 {
    if proto == Proto::Udp.number() { uoa::len(client, server) } else { toa::len(client) }
}

/// A packet that cannot go on: its sender is told of a used-up TTL, of a size that does not pass, and of a
/// way that is not there (RFC 1812 §5.2.7.1).
#[cold]
fn refused<P: Packet, A: Lane>(
    core: &mut Core<P>,
    burst: &mut Burst<P, A>,
    at: usize,
    verdict: Verdict,
    now: Now,
) {
    let refusal = match verdict {
        Verdict::TtlExceeded => Refusal::Error(ErrorMessage::TIME_EXCEEDED),
        Verdict::NoNeighbour => Refusal::Error(ErrorMessage::unreachable(HOST_UNREACHABLE)),
        Verdict::NoRoute => Refusal::Error(ErrorMessage::unreachable(NET_UNREACHABLE)),
        Verdict::TooBig if burst.meta(at).parsed.dont_fragment => {
            let mtu = passing(core, burst.meta(at));
            Refusal::Error(ErrorMessage::fragmentation_needed(mtu))
        }
        _ => Refusal::Silent,
    };
    reply::refuse(core, burst, at, verdict, refusal, now);
}

/// The size that passes on a packet's way, with room for what we insert.
fn passing<P: Packet, A: Lane>(core: &Core<P>, meta: &Meta<A>) -> u16 {
    let Some(flow) = meta.flow.and_then(|id| A::table(core).flow(id)) else { return 0 };
    let shown = flow.has(flags::TOA) && !flow.has(flags::REVERSE);
    let back = meta.flow.and_then(|id| A::table(core).flow(id.twin())).filter(|_| shown);
    let added = back.map_or(0, |back| shown_len(flow.proto, back.new_dst, flow.new_dst));
    A::told_mtu(flow, mtu_towards(core, flow.new_dst).saturating_sub(added))
}
