//! Stage `track`: what each packet does to the state of its conn, and how conns end.

use balance::Traffic;
use counters::Event;
use flow::{ConnId, FlowId, LeaseKind, Removed, State, Track, flags, icmp, tcp, udp};
use nat::fullnat::is_one_packet;
use nat::reuse::Pair;
use pool::GroupKey;
use types::{Dir, Io, Now, Packet, Proto, Verdict};
use wire::{Kind, Parsed, Tcp, tcp_options};

use crate::path::burst::{Burst, ones};
use crate::path::lane::Lane;
use crate::path::{open, proxy, proxy_send, reply};
use crate::worker::Core;

/// Tracks all live packets.
#[inline]
pub fn track<I: Io, A: Lane>(
    core: &mut Core<I::Packet>,
    io: &mut I,
    burst: &mut Burst<I::Packet, A>,
    now: Now,
) {
    let mut left = burst.live();
    while let Some(at) = ones(left).next() {
        left &= left - 1;
        let meta = burst.meta(at);
        let Some(id) = meta.flow else {
            burst.end(at, Verdict::Internal);
            continue;
        };
        let ip_len = meta.parsed.ip_total_len;
        let tracked = match meta.parsed.kind {
            Kind::Tcp => track_tcp(core, burst.packet(at), &meta.parsed, id, now),
            Kind::Udp | Kind::OtherIp => udp::on_packet(A::table_mut(core), id, ip_len, now),
            // An error neither refreshes nor ends a conn (RFC 5508 REQ-6, RFC 5382 REQ-10).
            Kind::IcmpError => Track::Pass,
            Kind::Fragment => track_fragment(core, &meta.parsed, id, now),
            _ => icmp::on_packet(A::table_mut(core), id, ip_len, now),
        };
        let tracked = match tracked {
            Track::Extended if meta.parsed.kind == Kind::Tcp => {
                proxy::segment(core, io, burst, at, id, now)
            }
            other => other,
        };
        match tracked {
            Track::Pass => {}
            Track::Extended => proxy_send::datagram(core, burst, at, id, now),
            Track::Moved { from, to } => moved(core, burst, at, id, (from, to), now),
            Track::Reopen => {
                reopen(core, io, burst, at, id, now);
                left &= burst.live();
            }
            Track::Bad => burst.end(at, Verdict::BadState),
        }
    }
}

/// A fragment but the first counts, and keeps its conn; of TCP it tells nothing else.
#[cold]
fn track_fragment<P: Packet, A: Lane>(
    core: &mut Core<P>,
    parsed: &Parsed<A>,
    id: FlowId,
    now: Now,
) -> Track {
    let (proto, ip_len) = (parsed.key.proto, parsed.ip_total_len);
    match Proto::from_number(proto) {
        Some(Proto::Udp) => udp::on_packet(A::table_mut(core), id, ip_len, now),
        Some(Proto::Icmp) => icmp::on_packet(A::table_mut(core), id, ip_len, now),
        _ => {
            if let Some(flow) = A::table_mut(core).flow_mut(id) {
                flow.count(ip_len, now);
            }
            Track::Pass
        }
    }
}

#[inline(always)]
fn track_tcp<P: Packet, A: Lane>(
    core: &mut Core<P>,
    packet: Option<&P>,
    parsed: &Parsed<A>,
    id: FlowId,
    now: Now,
) -> Track {
    let Some(view) = view(packet, parsed) else { return Track::Bad };
    tcp::on_packet(A::table_mut(core), id, &view, now)
}

/// What tracking needs of a segment.
#[inline(always)]
pub(super) fn view<P: Packet, A: Lane>(
    packet: Option<&P>,
    parsed: &Parsed<A>,
) -> Option<tcp::TcpView> {
    let header = Tcp::at(packet?.bytes(), usize::from(parsed.l4))?;
    Some(tcp::TcpView {
        flags: parsed.tcp_flags,
        seq: header.seq(),
        ack: header.ack(),
        payload_len: parsed.payload_len() as u16,
        ip_len: parsed.ip_total_len,
    })
}

/// The options of a segment.
pub(super) fn tcp_options<'a, P: Packet, A: Lane>(
    packet: Option<&'a P>,
    parsed: &Parsed<A>,
) -> Option<&'a [u8]> {
    packet?.bytes().get(usize::from(parsed.l4) + wire::tcp::LEN..usize::from(parsed.payload))
}

/// A conn has another state: its servers' counts follow, and its end is noted for the lease.
#[cold]
fn moved<P: Packet, A: Lane>(
    core: &mut Core<P>,
    burst: &mut Burst<P, A>,
    at: usize,
    id: FlowId,
    (from, to): (State, State),
    now: Now,
) {
    let Some(cold) = A::table(core).cold(id.conn()) else { return };
    let (service, rs) = (cold.service(), cold.rs());
    if rs.is_none() {
        if let Err(verdict) = A::answered(core, id, to, now) {
            A::table_mut(core).set_state(id.conn(), from, now);
            burst.end(at, verdict);
        }
        return;
    }
    if from == State::UdpOneway && goes_alone::<P, A>(core, id) {
        // Nothing follows the answers of one packet: the conn goes on waiting as briefly as before.
        A::table_mut(core).set_state(id.conn(), from, now);
        return;
    }
    match (from.is_established(), to.is_established()) {
        (false, true) => core.cells.established(service, rs),
        (true, false) => core.cells.closing(service, rs),
        _ => {}
    }
    let parsed = &burst.meta(at).parsed;
    if to == State::Closed && parsed.tcp_flags & wire::tcp::RST != 0 {
        if let Some(forward) = A::table_mut(core).flow_mut(id.conn().forward()) {
            forward.flags |= flags::ENDED;
        }
    } else if to.is_closing() && id.dir() == Dir::Forward {
        note_timestamp(core, burst.packet(at), parsed, id, now);
    }
}

fn goes_alone<P: Packet, A: Lane>(core: &Core<P>, id: FlowId) -> bool {
    let forward = A::table(core).flow(id.conn().forward());
    forward.is_some_and(is_one_packet)
}

/// Remembers that the last timestamp sent to the real server is ahead of our clock: a SYN on the same
/// port would look old to it. That is for when the lease goes back, as the closed conn expires: before
/// that a client's clock seems ahead as often as not, by what its packets' delays differ.
fn note_timestamp<P: Packet, A: Lane>(
    core: &mut Core<P>,
    packet: Option<&P>,
    parsed: &Parsed<A>,
    id: FlowId,
    now: Now,
) {
    let Some(flow) = A::table(core).flow(id) else { return };
    let value = tcp_options(packet, parsed)
        .and_then(tcp_options::find_timestamps)
        .map(|timestamps| timestamps.value.wrapping_add(flow.ts_offset));
    let pair =
        Pair { lip: flow.new_src, lport: flow.new_sport, rs: flow.new_dst, rport: flow.new_dport };
    let closed_ms = A::table(core).timeouts(flow.timeout_class).of(State::Closed);
    let returned = Now { tick_ms: now.tick_ms.wrapping_add(closed_ms), ..now };
    let rest_ms = core.snapshot.policy.rs_time_wait_ms;
    let stale = flow.has(flags::ADJUST_TS)
        && value.is_some_and(|v| core.secrets.timestamp_is_stale(pair, v, returned, rest_ms));
    if let Some(twin) = A::table_mut(core).flow_mut(id.twin()).filter(|_| stale) {
        twin.flags |= flags::ENDED;
    }
}

/// A SYN begins a new conn where an old one is over.
#[cold]
fn reopen<I: Io, A: Lane>(
    core: &mut Core<I::Packet>,
    io: &mut I,
    burst: &mut Burst<I::Packet, A>,
    at: usize,
    id: FlowId,
    now: Now,
) {
    core.counters.add(Event::Reopened, 1);
    burst.meta_mut(at).flow = None;
    let kept = A::keep(core, id.conn());
    close::<I, A>(core, io, id.conn(), false, now);
    burst.end_of(id.conn(), Verdict::BadState);
    open::open_one(core, io, burst, at, now);
    A::let_go(core, kept, now);
    let meta = burst.meta(at);
    if let Some(id) = meta.flow {
        let parsed = meta.parsed;
        let tracked = match track_tcp(core, burst.packet(at), &parsed, id, now) {
            Track::Extended => proxy::segment(core, io, burst, at, id, now),
            other => other,
        };
        if tracked == Track::Bad {
            burst.end(at, Verdict::BadState);
        }
    }
}

/// Removes a conn and gives back all that it held; with `reset` both ends of a TCP conn are told.
#[cold]
pub(crate) fn close<I: Io, A: Lane>(
    core: &mut Core<I::Packet>,
    io: &mut I,
    conn: ConnId,
    reset: bool,
    now: Now,
) {
    fold_counts::<I::Packet, A>(core, conn);
    let Some(removed) = A::table_mut(core).remove(conn) else { return };
    if removed.forward.has(flags::EXT) {
        core.headers.remove(proxy::owner::<A>(conn));
    }
    let (service, rs) = (removed.cold.service(), removed.cold.rs());
    let reset = reset && can_be_reset(removed.forward.state);
    if rs.is_none() {
        if reset {
            reply::reset_ends(core, io, &removed, now);
        }
        A::release(core, &removed, now);
        return;
    }
    let active = removed.forward.state.is_established();
    core.cells.closed(service, rs, active, removed.reverse.new_dst.to_ip(), now);
    if reset {
        reply::reset_ends(core, io, &removed, now);
    }
    if removed.cold.lease() == LeaseKind::Lip {
        give_back(core, &removed, reset, now);
    }
}

/// Both ends may still hold the conn.
const fn can_be_reset(state: State) -> bool {
    !matches!(state, State::Closed | State::SynSent)
}

/// Gives the lease back; the port rests if the real server may still remember the conn and would not
/// take a SYN for newer (see [`nat::reuse`]).
fn give_back<P: Packet, A: Lane>(core: &mut Core<P>, removed: &Removed<A>, reset: bool, now: Now) {
    let Removed { forward, reverse, .. } = removed;
    let pair =
        Pair { lip: reverse.dst, lport: reverse.dport, rs: reverse.src, rport: reverse.sport };
    let remembered = forward.proto == Proto::Tcp.number()
        && forward.state != State::SynSent
        && !forward.has(flags::ENDED)
        && !reset;
    let rest_ms = core.snapshot.policy.rs_time_wait_ms;
    let rests = remembered
        && (forward.state != State::Closed
            || reverse.has(flags::ENDED)
            || core.secrets.sequence_is_stale(pair, reverse.last_ack, now, rest_ms));
    let until = rests.then(|| now.tick_ms.wrapping_add(rest_ms));
    if rests {
        core.counters.add(Event::LeaseRested, 1);
    }
    let group = GroupKey { lip: pair.lip, rs: pair.rs, rport: pair.rport, proto: forward.proto };
    let returned = A::give_back(&mut core.pools(), &group, pair.lport, until);
    debug_assert!(returned, "a conn's port is leased");
}

/// Adds what a conn has sent since the last time to its service's and real server's counts.
pub(crate) fn fold_counts<P: Packet, A: Lane>(core: &mut Core<P>, conn: ConnId) {
    let Some((service, rs)) = A::table(core).cold(conn).map(|cold| (cold.service(), cold.rs()))
    else {
        return;
    };
    if rs.is_none() {
        A::fold_rule_counts(core, conn, service);
        return;
    }
    let mut take = |id| A::table_mut(core).flow_mut(id).map_or((0, 0), |flow| flow.take_counts());
    let (forward_packets, forward_bytes) = take(conn.forward());
    let (reverse_packets, reverse_bytes) = take(conn.reverse());
    let traffic = Traffic {
        forward_packets: u64::from(forward_packets),
        forward_bytes,
        reverse_packets: u64::from(reverse_packets),
        reverse_bytes,
    };
    core.cells.add_traffic(service, rs, traffic);
}
