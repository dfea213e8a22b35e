//! Conns that show a server its client by the PROXY protocol: what is done with their packets besides tracking them.
//!
//! The header is a segment of its own. It follows the ACK that ends the handshake, and takes the numbers that the
//! client's first bytes would have had: what the client sends is moved on by its length, and to the client the
//! server acknowledges nothing of it. [`Headers`](crate::worker::headers::Headers) keep what is on its way.

use balance::{ClientAddress, ClientHeader, ServiceSpec};
use counters::Event;
use flow::tcp::{TcpView, on_extended};
use flow::{ConnId, Flow, FlowId, HeaderState, State, Track, flags};
use nat::fullnat;
use nat::proxy::{self, Header, Version};
use types::{Dir, Io, Now, Packet, Proto, Verdict};
use wire::tcp::{ACK, FIN, RST, SYN};
use wire::{Tcp, tcp_options};

use crate::path::burst::Burst;
use crate::path::lane::Lane;
use crate::path::proxy_theirs::{first_number, take_out, take_theirs, while_waiting};
use crate::path::{proxy_send, reply, track};
use crate::worker::Core;
use crate::worker::headers::{Entry, Owner, Phase};

/// How a service's conns show their client, as their flows have it.
pub(super) fn client_address(spec: &ServiceSpec) -> fullnat::ClientAddress {
    match spec.client_address {
        ClientAddress::Toa => fullnat::ClientAddress::Toa,
        ClientAddress::Option => fullnat::ClientAddress::Option,
        ClientAddress::ProxyV1 | ClientAddress::ProxyV2 => {
            fullnat::ClientAddress::Proxy { each: spec.each_datagram }
        }
        ClientAddress::None => fullnat::ClientAddress::None,
    }
}

/// What the service of a conn says about its header.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    pub version: Version,
    pub client: ClientHeader,
}

/// The same by the conn's reverse flow, which names client and VIP in every mode; `None` if there is to be none.
pub(super) fn terms<P: Packet, A: Lane>(core: &Core<P>, reverse: &Flow<A>) -> Option<Terms> {
    let service = core.snapshot.services.lookup(&reverse.new_key().reversed())?;
    let spec = service.spec();
    let version = match spec.client_address {
        ClientAddress::ProxyV1 => Version::V1,
        ClientAddress::ProxyV2 => Version::V2,
        ClientAddress::Toa | ClientAddress::Option | ClientAddress::None => return None,
    };
    Some(Terms { version, client: spec.client_header })
}

/// The header of a conn.
pub(super) fn header_of<A: Lane>(version: Version, reverse: &Flow<A>) -> Header {
    let proto = Proto::from_number(reverse.proto).unwrap_or(Proto::Tcp);
    let client = (reverse.new_dst.to_ip(), reverse.new_dport);
    Header::new(version, proto, client, (reverse.new_src.to_ip(), reverse.new_sport))
}

/// A version by its number in records.
pub(super) const fn version_of(number: u8) -> Version {
    if number == 1 { Version::V1 } else { Version::V2 }
}

/// The name under which a conn's header is kept.
pub(super) fn owner<A: Lane>(conn: ConnId) -> Owner {
    Owner { conn, wide: A::BITS > u32::BITS as u8 }
}

/// Nothing more is to be done for a conn's header.
pub(crate) fn forget<P: Packet, A: Lane>(core: &mut Core<P>, conn: ConnId) {
    for id in [conn.forward(), conn.reverse()] {
        if let Some(flow) = A::table_mut(core).flow_mut(id) {
            flow.flags &= !flags::EXT;
        }
    }
    core.headers.remove(owner::<A>(conn));
}

/// What the client sends is so many bytes further on in what the server reads.
pub(super) fn move_on<P: Packet, A: Lane>(core: &mut Core<P>, conn: ConnId, by: u32) {
    for id in [conn.forward(), conn.reverse()] {
        if let Some(flow) = A::table_mut(core).flow_mut(id) {
            flow.seq_offset = flow.seq_offset.wrapping_add(by);
        }
    }
}

/// A segment of a conn with a header that is not tracked yet.
#[cold]
pub(super) fn segment<I: Io, A: Lane>(
    core: &mut Core<I::Packet>,
    io: &mut I,
    burst: &mut Burst<I::Packet, A>,
    at: usize,
    id: FlowId,
    now: Now,
) -> Track {
    let conn = id.conn();
    let reverse = A::table(core).flow(conn.reverse()).copied();
    let parsed = burst.meta(at).parsed;
    let (Some(before), Some(view)) = (reverse, track::view(burst.packet(at), &parsed)) else {
        return Track::Bad;
    };
    if id.dir() == Dir::Forward && view.flags & (SYN | RST) == 0 {
        // Before it is tracked: it comes again as if it had never been here.
        if is_cut_off::<_, A>(core, conn) {
            return Track::Bad;
        }
        if !has_room::<_, A>(core, conn) {
            burst.end(at, Verdict::TableFull);
            return Track::Pass;
        }
    }
    let tracked = on_extended(A::table_mut(core), id, &view, now);
    if matches!(tracked, Track::Bad | Track::Reopen) {
        return tracked;
    }
    let done = match (id.dir(), view.flags & SYN != 0) {
        (Dir::Forward, true) => strip_syn(core, burst, at, conn, &view),
        (Dir::Reverse, true) => leave_room(core, burst, at, &before),
        (Dir::Forward, false) => from_client(core, io, burst, at, &before, &view, now),
        (Dir::Reverse, false) => from_server(core, io, burst, at, conn, &view, now),
    };
    if A::table(core).flow(id).is_some_and(|flow| flow.state == State::Closed) {
        cut_off::<_, A>(core, conn);
    }
    if let Err(verdict) = done {
        burst.end(at, verdict);
    }
    tracked
}

/// A conn is closed, here at least: whether the server has got the header is not known, and it may take what a RST was
/// to end for open (RFC 5961 §3.2). It gets nothing of the client's any more but what may open or end a conn.
fn cut_off<P: Packet, A: Lane>(core: &mut Core<P>, conn: ConnId) {
    let owner = owner::<A>(conn);
    if core.headers.find(owner).is_some_and(|entry| !entry.state.acknowledged) {
        core.headers.remove(owner);
    }
}

/// True if a conn is closed whose header has not arrived for all that is known.
fn is_cut_off<P: Packet, A: Lane>(core: &Core<P>, conn: ConnId) -> bool {
    let state = A::table(core).flow(conn.forward()).map(|flow| flow.state);
    state == Some(State::Closed) && core.headers.find(owner::<A>(conn)).is_none()
}

/// True if a conn has a header on its way, or there is room for it.
fn has_room<P: Packet, A: Lane>(core: &Core<P>, conn: ConnId) -> bool {
    let headers = &core.headers;
    !headers.is_full() || headers.victim().is_some() || headers.find(owner::<A>(conn)).is_some()
}

/// What comes with a SYN would come before the header: the server is not asked to take it. One that is late has the
/// number that it had.
fn strip_syn<P: Packet, A: Lane>(
    core: &Core<P>,
    burst: &mut Burst<P, A>,
    at: usize,
    conn: ConnId,
    view: &TcpView,
) -> Result<(), Verdict> {
    let (packet, meta) = burst.both(at).ok_or(Verdict::Internal)?;
    if let Some(entry) = core.headers.find(owner::<A>(conn)).filter(|entry| entry.state.sent) {
        let moved = u32::from(entry.len).wrapping_sub(entry.state.taken.into());
        proxy::shift_sequence(packet.bytes_mut(), meta.parsed.l4.into(), moved.wrapping_neg())?;
    }
    proxy::strip_fast_open(packet.bytes_mut(), meta.parsed.l4.into())?;
    take_out(packet, &mut meta.parsed, view.payload_len.into())
}

/// The server has room for so much, and the header takes of it, of which a SYN|ACK acknowledges nothing.
fn leave_room<P: Packet, A: Lane>(
    core: &Core<P>,
    burst: &mut Burst<P, A>,
    at: usize,
    reverse: &Flow<A>,
) -> Result<(), Verdict> {
    let id = burst.meta(at).flow.ok_or(Verdict::Internal)?;
    let entry = core.headers.find(owner::<A>(id.conn()));
    let (packet, meta) = burst.both(at).ok_or(Verdict::Internal)?;
    if let Some(entry) = entry.filter(|entry| entry.state.sent) {
        return proxy::hide(packet.bytes_mut(), meta.parsed.l4.into(), entry.end());
    }
    let Some(Terms { version, .. }) = terms(core, reverse) else { return Ok(()) };
    let len = header_of(version, reverse).len();
    proxy::shrink_window(packet.bytes_mut(), meta.parsed.l4.into(), len.into())
}

/// The window that a segment advertises, not scaled.
fn window<P: Packet, A: Lane>(burst: &Burst<P, A>, at: usize) -> u16 {
    let l4 = usize::from(burst.meta(at).parsed.l4);
    burst.packet(at).and_then(|packet| Tcp::at(packet.bytes(), l4)).map_or(0, |tcp| tcp.window())
}

/// A segment of the client's, tracked already. `before` is the reverse flow as it was then.
fn from_client<I: Io, A: Lane>(
    core: &mut Core<I::Packet>,
    io: &mut I,
    burst: &mut Burst<I::Packet, A>,
    at: usize,
    before: &Flow<A>,
    view: &TcpView,
    now: Now,
) -> Result<(), Verdict> {
    let id = burst.meta(at).flow.ok_or(Verdict::Internal)?;
    let (conn, owner) = (id.conn(), owner::<A>(id.conn()));
    let forward = *A::table(core).flow(id).ok_or(Verdict::Internal)?;
    let is_reset = view.flags & RST != 0;
    let begins = core.headers.find(owner).is_none();
    let over = matches!(forward.state, State::Closed | State::Reset);
    if begins && is_reset {
        return Ok(());
    }
    if begins && (over || forward.state.is_opening()) {
        // Which number ends the handshake is for the server to say (SYN cookies have several): it would take this one
        // for its end, without a header.
        return Err(Verdict::BadState);
    }
    if begins && !begin(core, conn, before, now)? {
        return Ok(());
    }
    note(core, burst, at, &forward, view);
    let entry = *core.headers.find(owner).ok_or(Verdict::Internal)?;
    if is_reset {
        let expected = first_number(&entry) == forward.seq_offset.wrapping_add(view.seq);
        if entry.state.sent && !entry.state.acknowledged && expected {
            // Whether the header has arrived is not known, and only the very number that is expected ends
            // the server's side (RFC 5961 §3.2): this one, or the client's. Who does not know the client's
            // ends nothing.
            let has_some = (entry.end().wrapping_sub(before.last_ack) as i32) > 0;
            let last_ack = if has_some { before.last_ack } else { entry.state.start };
            reply::reset_sender(core, io, &Flow { last_ack, ..*before }, now);
        }
        return Ok(());
    }
    if !entry.state.sent {
        return while_waiting(core, io, burst, at, &forward, view, now);
    }
    let seq = forward.seq_offset.wrapping_add(view.seq);
    if begins {
        if view.payload_len == 0 && view.flags & FIN == 0 && seq == entry.state.start {
            // The handshake's ACK goes first, as the client has sent it.
            let (packet, meta) = burst.both(at).ok_or(Verdict::Internal)?;
            let back = u32::from(entry.len).wrapping_neg();
            proxy::shift_sequence(packet.bytes_mut(), meta.parsed.l4.into(), back)?;
            burst.mark_followed(at);
            return Ok(());
        }
        proxy_send::send::<I, A>(core, io, conn, Event::ProxySent, now);
    }
    take_theirs(core, burst, at, conn, view)?;
    mend_fin(core, conn, &forward, view);
    settle::<_, A>(core, conn, now);
    Ok(())
}

/// Takes up the header of a conn whose handshake is complete. False if its service has none any more.
fn begin<P: Packet, A: Lane>(
    core: &mut Core<P>,
    conn: ConnId,
    before: &Flow<A>,
    now: Now,
) -> Result<bool, Verdict> {
    let Some(Terms { version, client }) = terms(core, before) else {
        forget::<_, A>(core, conn);
        return Ok(false);
    };
    let len = header_of(version, before).len();
    let sent = client == ClientHeader::Replace;
    let version = if version == Version::V1 { 1 } else { 2 };
    let state = HeaderState { version, start: before.last_ack, sent, ..HeaderState::default() };
    let phase = if sent { Phase::Sent(1) } else { Phase::Waiting };
    if !take_in::<_, A>(core, conn, phase, (len, state), now) {
        return Err(Verdict::TableFull);
    }
    if sent {
        move_on::<_, A>(core, conn, len.into());
    }
    Ok(true)
}

/// Keeps a header; another one that is of no use any more may go for it. False without room.
pub(super) fn take_in<P: Packet, A: Lane>(
    core: &mut Core<P>,
    conn: ConnId,
    phase: Phase,
    header: (u8, HeaderState),
    now: Now,
) -> bool {
    if core.headers.is_full()
        && let Some(victim) = core.headers.victim()
    {
        match victim.wide {
            true => forget::<_, u128>(core, victim.conn),
            false => forget::<_, u32>(core, victim.conn),
        }
    }
    core.headers.insert(owner::<A>(conn), phase, header, now)
}

/// Remembers what a header that is sent again has to say besides.
fn note<P: Packet, A: Lane>(
    core: &mut Core<P>,
    burst: &Burst<P, A>,
    at: usize,
    forward: &Flow<A>,
    view: &TcpView,
) {
    let id = burst.meta(at).flow.map(|id| owner::<A>(id.conn()));
    let Some(entry) = id.and_then(|owner| core.headers.find_mut(owner)) else { return };
    let is_late = entry.state.window != 0 && (view.ack.wrapping_sub(entry.state.ack) as i32) < 0;
    if view.flags & (ACK | RST) != ACK || is_late {
        return;
    }
    let timestamps = track::tcp_options(burst.packet(at), &burst.meta(at).parsed)
        .and_then(tcp_options::find_timestamps)
        .map(|found| (found.value.wrapping_add(forward.ts_offset), found.echo));
    (entry.state.ack, entry.state.timestamps) = (view.ack, timestamps);
    entry.state.window = window(burst, at);
}

/// A FIN was tracked before it was known how far what it ends has to be moved.
pub(super) fn mend_fin<P: Packet, A: Lane>(
    core: &mut Core<P>,
    conn: ConnId,
    tracked: &Flow<A>,
    view: &TcpView,
) {
    let offset = A::table(core).flow(conn.forward()).map_or(0, |flow| flow.seq_offset);
    let end = view.seq.wrapping_add(u32::from(view.payload_len)).wrapping_add(1);
    if view.flags & FIN != 0
        && let Some(reverse) = A::table_mut(core).flow_mut(conn.reverse())
        && reverse.last_ack == tracked.seq_offset.wrapping_add(end)
    {
        reverse.last_ack = offset.wrapping_add(end);
    }
}

/// When the header is acknowledged and the client's first bytes are known, nothing more is to come.
fn settle<P: Packet, A: Lane>(core: &mut Core<P>, conn: ConnId, now: Now) {
    let owner = owner::<A>(conn);
    let Some(&Entry { state, .. }) = core.headers.find(owner) else { return };
    let phase = core.headers.find(owner).map(Entry::phase);
    let next = match (state.acknowledged, state.read) {
        (false, _) => return,
        (true, false) => Phase::Listening,
        (true, true) => Phase::Settled,
    };
    if phase != Some(next) {
        core.headers.enter(owner, next, now);
    }
}

/// A segment of the server's, tracked already.
fn from_server<I: Io, A: Lane>(
    core: &mut Core<I::Packet>,
    io: &mut I,
    burst: &mut Burst<I::Packet, A>,
    at: usize,
    conn: ConnId,
    view: &TcpView,
    now: Now,
) -> Result<(), Verdict> {
    let Some(entry) = core.headers.find_mut(owner::<A>(conn)) else { return Ok(()) };
    if !entry.state.sent {
        return Ok(());
    }
    let end = entry.end();
    let acknowledges = view.flags & ACK != 0;
    if acknowledges && end.wrapping_sub(view.ack) as i32 <= 0 {
        if !std::mem::replace(&mut entry.state.acknowledged, true) {
            core.counters.add(Event::ProxyAcknowledged, 1);
            settle::<_, A>(core, conn, now);
        }
    } else if acknowledges && !entry.state.acknowledged {
        let had_no_room = std::mem::replace(&mut entry.no_room, window(burst, at) == 0);
        let options = track::tcp_options(burst.packet(at), &burst.meta(at).parsed);
        let misses = options.is_some_and(|options| {
            tcp_options::iter(options).any(|option| option.kind == tcp_options::SACK)
        });
        // It has room again, or has what follows the header and not the header.
        let hurry = had_no_room && !entry.no_room || misses && !entry.hurried;
        entry.hurried |= misses;
        if hurry {
            proxy_send::send::<I, A>(core, io, conn, Event::ProxyResent, now);
        }
    }
    let (packet, meta) = burst.both(at).ok_or(Verdict::Internal)?;
    proxy::hide(packet.bytes_mut(), meta.parsed.l4.into(), end)
}
