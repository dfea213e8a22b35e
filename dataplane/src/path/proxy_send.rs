//! Headers of the PROXY protocol as they are sent: as a segment, again when they are due, before a datagram.

use balance::ClientHeader;
use counters::Event;
use flow::{ConnId, Flow, FlowId, HeaderState, State, flags};
use nat::proxy::{self, Found, LEN_MAX, Place, Version};
use types::{Io, Now, Packet, Proto, Verdict};
use wire::Kind;
use wire::reply::ErrorMessage;
use wire::segment::{HEADERS_MAX, Segment};

use crate::path::burst::Burst;
use crate::path::lane::Lane;
use crate::path::proxy as conns;
use crate::path::proxy::{Terms, forget, header_of, move_on, owner, take_in};
use crate::path::proxy_theirs::{found, take_out};
use crate::path::reply::{self, Refusal};
use crate::path::rewrite::mtu_towards;
use crate::path::track::close;
use crate::path::transmit::keep_room;
use crate::worker::Core;
use crate::worker::headers::{Entry, Owner, Phase, SENT_MAX};

/// Sends a conn's header to its server, in a segment of its own.
pub(super) fn send<I: Io, A: Lane>(
    core: &mut Core<I::Packet>,
    io: &mut I,
    conn: ConnId,
    event: Event,
    now: Now,
) {
    let Some(&Entry { state, .. }) = core.headers.find(owner::<A>(conn)) else { return };
    let table = A::table(core);
    let (Some(forward), Some(reverse)) = (table.flow(conn.forward()), table.flow(conn.reverse()))
    else {
        return;
    };
    let key = forward.new_key();
    let header = header_of(conns::version_of(state.version), reverse);
    let HeaderState { start: seq, ack, window, timestamps, .. } = state;
    let segment = Segment { key, seq, ack, window, timestamps, payload: header.as_bytes() };
    let write = |bytes: &mut [u8]| A::write_segment(bytes, &segment);
    reply::send_made(core, io, (event, HEADERS_MAX + LEN_MAX), key.dst, write, now);
}

/// Sends the header of a conn behind a packet that has just gone.
#[cold]
pub(super) fn send_behind<I: Io, A: Lane>(
    core: &mut Core<I::Packet>,
    io: &mut I,
    flow: Option<FlowId>,
    now: Now,
) {
    if let Some(id) = flow {
        send::<I, A>(core, io, id.conn(), Event::ProxySent, now);
    }
}

/// Headers that one round looks at.
const DUE: usize = 32;

/// Does what is due for headers that are on their way.
#[cold]
pub(crate) fn tend_headers<I: Io>(core: &mut Core<I::Packet>, io: &mut I, now: Now) {
    for _ in 0..DUE {
        let Some((owner, phase)) = core.headers.next_due(now) else { return };
        keep_room(core, io);
        match owner.wide {
            true => tend::<I, u128>(core, io, owner, phase, now),
            false => tend::<I, u32>(core, io, owner, phase, now),
        }
    }
}

fn tend<I: Io, A: Lane>(
    core: &mut Core<I::Packet>,
    io: &mut I,
    owner: Owner,
    phase: Phase,
    now: Now,
) {
    let conn = owner.conn;
    let Some(state) = A::table(core).flow(conn.forward()).map(|flow| flow.state) else {
        core.headers.remove(owner);
        return;
    };
    match phase {
        Phase::Waiting => {
            let Some(entry) = core.headers.find_mut(owner) else { return };
            entry.state.sent = true;
            let len = entry.len;
            core.headers.enter(owner, Phase::Sent(1), now);
            move_on::<_, A>(core, conn, len.into());
            // A conn that a RST may have ended is left alone, until it goes on.
            if state != State::Reset {
                send::<I, A>(core, io, conn, Event::ProxySent, now);
            }
        }
        Phase::Sent(times) if times < SENT_MAX => {
            core.headers.enter(owner, Phase::Sent(times + 1), now);
            if let Some(entry) = core.headers.find_mut(owner) {
                entry.hurried = false;
            }
            if state != State::Reset {
                send::<I, A>(core, io, conn, Event::ProxyResent, now);
            }
        }
        Phase::Sent(_) => {
            core.counters.add(Event::ProxyGivenUp, 1);
            close::<I, A>(core, io, conn, true, now);
        }
        Phase::Listening | Phase::Settled => forget::<_, A>(core, conn),
    }
}

/// Goes on with the header of a conn that comes from elsewhere; false without room for it.
pub(crate) fn adopt<P: Packet, A: Lane>(
    core: &mut Core<P>,
    conn: ConnId,
    state: HeaderState,
    now: Now,
) -> bool {
    let Some(reverse) = A::table(core).flow(conn.reverse()) else { return false };
    let len = header_of(conns::version_of(state.version), reverse).len();
    let phase = match (state.sent, state.acknowledged, state.read) {
        (false, ..) => Phase::Waiting,
        (true, false, _) => Phase::Sent(1),
        (true, true, false) => Phase::Listening,
        (true, true, true) => Phase::Settled,
    };
    take_in::<_, A>(core, conn, phase, (len, state), now)
}

/// What another node has to know of a conn's header.
pub(crate) fn state_of<P: Packet, A: Lane>(core: &Core<P>, conn: ConnId) -> Option<HeaderState> {
    core.headers.find(owner::<A>(conn)).map(|entry| entry.state)
}

/// Puts a header before what a datagram of a client's carries.
#[cold]
pub(super) fn datagram<P: Packet, A: Lane>(
    core: &mut Core<P>,
    burst: &mut Burst<P, A>,
    at: usize,
    id: FlowId,
    now: Now,
) {
    let table = A::table(core);
    let flows = table.flow(id).zip(table.flow(id.twin()));
    let Some((forward, reverse)) = flows.map(|(forward, reverse)| (*forward, *reverse)) else {
        return;
    };
    let parsed = burst.meta(at).parsed;
    let whole = parsed.kind == Kind::Udp
        && burst.packet(at).is_some_and(|packet| !A::is_first_fragment(packet, &parsed));
    if !whole {
        // Its other fragments stand where they stand.
        burst.end(at, Verdict::NoRoom);
        return;
    }
    let client = conns::terms(core, &reverse).map(|Terms { client, .. }| client);
    // A datagram is whole or not at all.
    let theirs = match found(burst, at) {
        Found::Begun => Found::Nothing,
        found => found,
    };
    if let (Some(ClientHeader::Trust), Found::Whole(_)) = (client, theirs) {
        core.counters.add(Event::ProxyPassed, 1);
    } else {
        let header = header_of(Version::V2, &reverse);
        let done = put_before(core, burst, at, &forward, theirs, header.as_bytes());
        if let Err((verdict, refusal)) = done {
            reply::refuse(core, burst, at, verdict, refusal, now);
            return;
        }
        if theirs != Found::Nothing {
            core.counters.add(Event::ProxyReplaced, 1);
        }
        core.counters.add(Event::ProxySent, 1);
    }
    if !forward.has(flags::EACH)
        && let Some(flow) = A::table_mut(core).flow_mut(id)
    {
        flow.flags &= !flags::EXT;
    }
}

/// Takes a header of the client's own out of a datagram, and puts ours in.
fn put_before<P: Packet, A: Lane>(
    core: &Core<P>,
    burst: &mut Burst<P, A>,
    at: usize,
    forward: &Flow<A>,
    theirs: Found,
    header: &[u8],
) -> Result<(), (Verdict, Refusal)> {
    let silent = |verdict| (verdict, Refusal::Silent);
    let (packet, meta) = burst.both(at).ok_or(silent(Verdict::Internal))?;
    let len = header.len() as u16;
    let mtu = mtu_towards(core, forward.new_dst);
    let gone = if let Found::Whole(len) = theirs { len as u16 } else { 0 };
    let len_after = A::len_after(packet, forward, &meta.parsed);
    let len_after = len_after.saturating_add(len).saturating_sub(gone);
    if len_after > mtu && meta.parsed.dont_fragment {
        let told = A::told_mtu(forward, mtu.saturating_sub(len));
        let refusal = Refusal::Error(ErrorMessage::fragmentation_needed(told));
        return Err((Verdict::TooBig, refusal));
    }
    if let Found::Whole(len) = theirs {
        take_out(packet, &mut meta.parsed, len).map_err(silent)?;
    }
    proxy::insert(packet, Place::from(&meta.parsed), Proto::Udp, header).map_err(silent)?;
    meta.parsed.ip_total_len = meta.parsed.ip_total_len.saturating_add(len);
    Ok(())
}
