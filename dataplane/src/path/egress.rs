//! Stage `egress`: next hop, neighbour and Ethernet header.

use fib::{NextHop, NextHopId, NextHopState, RouteKind};
use types::{EthPortId, Io, MacAddr, Now, Packet, Verdict};
use wire::Ethernet;

use crate::path::burst::{Burst, ones};
use crate::path::lane::Lane;
use crate::path::transmit::{GATHERED_MAX, transmit};
use crate::path::vlan;
use crate::path::{oversized, proxy_send};
use crate::snapshot::Wire;
use crate::worker::Core;
use crate::worker::held::Waiting;
use crate::worker::link::Event;

/// Sends each live packet on its flow's way, or holds it until its next hop is resolved.
#[inline]
pub fn egress<I: Io, A: Lane>(
    core: &mut Core<I::Packet>,
    io: &mut I,
    burst: &mut Burst<I::Packet, A>,
    now: Now,
) {
    let (oversized, followed) = (burst.take_oversized(), burst.take_followed());
    for at in ones(burst.live()) {
        let flow = burst.meta(at).flow;
        egress_one(core, io, burst, at, oversized >> at & 1 != 0, now);
        if followed >> at & 1 != 0 {
            proxy_send::send_behind::<I, A>(core, io, flow, now);
        }
    }
}

#[inline(always)]
fn egress_one<I: Io, A: Lane>(
    core: &mut Core<I::Packet>,
    io: &mut I,
    burst: &mut Burst<I::Packet, A>,
    at: usize,
    is_oversized: bool,
    now: Now,
) {
    let Some(id) = burst.meta(at).flow else {
        burst.end(at, Verdict::Internal);
        return;
    };
    let generation = core.snapshot.fib.generation();
    let Some(flow) = A::table_mut(core).flow_mut(id) else {
        burst.end(at, Verdict::Internal);
        return;
    };
    if is_oversized {
        let destination = flow.new_dst;
        oversized::send(core, io, burst, at, destination, now);
        return;
    }
    let mut next_hop = NextHopId(flow.next_hop);
    if flow.fib_generation != generation || next_hop.is_none() {
        let destination = flow.new_dst;
        match resolve(core, destination) {
            Way::To(id_found) => next_hop = id_found,
            Way::Wait(waiting) => {
                hold(core, burst, at, waiting, now);
                return;
            }
            Way::None => {
                if !A::loops_back(core, destination) || !A::loop_back(core, burst, at) {
                    burst.end(at, Verdict::NoRoute);
                }
                return;
            }
        }
        if let Some(flow) = A::table_mut(core).flow_mut(id) {
            flow.next_hop = next_hop.0;
            flow.fib_generation = generation;
        }
    }
    let hop = core.snapshot.next_hops.read(next_hop);
    if hop.state == NextHopState::Resolved {
        core.snapshot.next_hops.mark_used(next_hop);
        let Some(packet) = burst.take(at) else { return };
        send(core, packet, hop);
    } else {
        let destination = A::table(core).flow(id).map(|flow| flow.new_dst).unwrap_or_default();
        unresolved(core, burst, at, (next_hop, hop), destination, now);
    }
}

/// Where a destination is reached.
pub(super) enum Way {
    /// By this next hop, whatever its state.
    To(NextHopId),
    /// By a neighbour that has no slot yet.
    Wait(Waiting),
    /// Not at all.
    None,
}

/// Looks a destination up: route, then the slot of gateway or destination.
#[cold]
pub(super) fn resolve<P: Packet, A: Lane>(core: &Core<P>, destination: A) -> Way {
    let Some(waiting) = neighbour(core, destination) else { return Way::None };
    let id = core.snapshot.next_hops.find_any(waiting.interface, waiting.address);
    if id.is_none() { Way::Wait(waiting) } else { Way::To(id) }
}

/// Whose Ethernet address a packet to `destination` needs; `None` without a route to others.
fn neighbour<P: Packet, A: Lane>(core: &Core<P>, destination: A) -> Option<Waiting> {
    let hop = A::hop(&core.snapshot.fib, destination)?;
    (hop.kind == RouteKind::Unicast)
        .then_some(Waiting { interface: hop.iface, address: hop.target })
}

/// The next hop is there but has no Ethernet address now.
#[cold]
fn unresolved<P: Packet, A: Lane>(
    core: &mut Core<P>,
    burst: &mut Burst<P, A>,
    at: usize,
    (id, hop): (NextHopId, NextHop),
    destination: A,
    now: Now,
) {
    core.snapshot.next_hops.mark_used(id);
    if hop.state == NextHopState::Failed {
        burst.end(at, Verdict::NoNeighbour);
        return;
    }
    // A vacant slot is another's soon; the flow looks up anew when its packet comes out of hold.
    let Some(waiting) = neighbour(core, destination) else {
        burst.end(at, Verdict::NoRoute);
        return;
    };
    if hop.state == NextHopState::Vacant
        && let Some(flow) = burst.meta(at).flow.and_then(|id| A::table_mut(core).flow_mut(id))
    {
        flow.next_hop = NextHopId::NONE.0;
    }
    hold(core, burst, at, waiting, now);
}

/// Keeps a live packet until its neighbour is resolved, as far as there is room.
#[cold]
fn hold<P: Packet, A: Lane>(
    core: &mut Core<P>,
    burst: &mut Burst<P, A>,
    at: usize,
    waiting: Waiting,
    now: Now,
) {
    let Some(packet) = burst.take(at) else { return };
    hold_packet(core, packet, waiting, now);
}

/// Keeps a packet until its neighbour is resolved; without room it is dropped and counted.
pub(crate) fn hold_packet<P: Packet>(core: &mut Core<P>, packet: P, waiting: Waiting, now: Now) {
    // Control may have missed it while its ring was full, so it is told until there is a slot.
    if core.snapshot.next_hops.find_any(waiting.interface, waiting.address).is_none() {
        let Waiting { interface, address } = waiting;
        // A full ring only delays: the next held packet tells it again.
        if core.told(Event::Needed { interface, address }) {
            core.counters.add(counters::Event::NeighbourAsked, 1);
        }
    }
    match core.held.push(packet, waiting, now) {
        Ok(()) => core.counters.add(counters::Event::NeighbourHeld, 1),
        Err(_refused) => core.counters.ended(Verdict::NoNeighbour, 1),
    }
}

/// Gives a packet its Ethernet header and puts it to those that leave on the hop's interface.
#[inline]
pub(crate) fn send<P: Packet>(core: &mut Core<P>, mut packet: P, hop: NextHop) {
    let verdict = match core.snapshot.interfaces.get(usize::from(hop.iface.0)) {
        Some(interface) if interface.up => {
            write_addresses(&mut packet, hop.mac, interface.mac);
            let wire = interface.wire;
            gather_on(core, hop.iface, wire, packet)
        }
        _ => Some(Verdict::LinkDown),
    };
    if let Some(verdict) = verdict {
        core.counters.ended(verdict, 1);
    }
}

/// Puts a finished frame to those that leave on an interface.
#[inline]
pub(crate) fn gather<P: Packet>(
    core: &mut Core<P>,
    interface: EthPortId,
    packet: P,
) -> Option<Verdict> {
    match core.snapshot.interfaces.get(usize::from(interface.0)).map(|ours| ours.wire) {
        Some(wire) => gather_on(core, interface, wire, packet),
        None => Some(Verdict::Internal),
    }
}

#[inline]
fn gather_on<P: Packet>(
    core: &mut Core<P>,
    interface: EthPortId,
    wire: Wire,
    mut packet: P,
) -> Option<Verdict> {
    if wire.vid != 0 && !vlan::put_in(core, interface, &mut packet, wire) {
        return Some(Verdict::NoRoom);
    }
    match core.tx.get_mut(usize::from(wire.port)).map(|buffer| buffer.push(packet)) {
        Some(Ok(())) => None,
        Some(Err(_refused)) => Some(Verdict::TxFull),
        // It went while the packet was under way.
        None => Some(Verdict::LinkDown),
    }
}

#[inline]
fn write_addresses<P: Packet>(packet: &mut P, destination: MacAddr, source: MacAddr) {
    if let Some(mut header) = Ethernet::new_checked_mut(packet.bytes_mut()) {
        header.set_destination(destination);
        header.set_source(source);
    }
}

/// Sends a packet of ours with its IP header complete, and before it an Ethernet header but for the stations,
/// by the route to `destination`.
pub(crate) fn send_routed<P: Packet, A: Lane>(
    core: &mut Core<P>,
    packet: P,
    destination: A,
    now: Now,
) {
    match resolve(core, destination) {
        Way::To(id) => {
            let hop = core.snapshot.next_hops.read(id);
            core.snapshot.next_hops.mark_used(id);
            match hop.state {
                NextHopState::Resolved => send(core, packet, hop),
                NextHopState::Failed => core.counters.ended(Verdict::NoNeighbour, 1),
                _ => match neighbour(core, destination) {
                    Some(waiting) => hold_packet(core, packet, waiting, now),
                    None => core.counters.ended(Verdict::NoRoute, 1),
                },
            }
        }
        Way::Wait(waiting) => hold_packet(core, packet, waiting, now),
        Way::None => core.counters.ended(Verdict::NoRoute, 1),
    }
}

/// Sends what waited for neighbours that are resolved by now, gives up what waited too long.
#[cold]
pub(crate) fn retry_held<I: Io>(core: &mut Core<I::Packet>, io: &mut I, now: Now) {
    let mut at = 0;
    while let Some((waiting, since)) = core.held.peek(at) {
        let id = core.snapshot.next_hops.find_any(waiting.interface, waiting.address);
        let hop = core.snapshot.next_hops.read(id);
        let given_up = hop.state == NextHopState::Failed || core.held.is_late(since, now);
        if hop.state != NextHopState::Resolved && !given_up {
            at += 1;
            continue;
        }
        if core.tx.iter().any(|gathered| gathered.len() == GATHERED_MAX) {
            transmit(core, io);
        }
        let Some(packet) = core.held.take(at) else { return };
        if given_up && hop.state != NextHopState::Resolved {
            core.counters.ended(Verdict::NoNeighbour, 1);
        } else {
            send(core, packet, hop);
        }
    }
}
