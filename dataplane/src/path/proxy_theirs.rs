//! Headers of the PROXY protocol that clients themselves send: found, taken out, or let through where they are trusted.

use counters::Event;
use flow::tcp::TcpView;
use flow::{ConnId, Flow};
use nat::proxy::{self, Found, Place};
use types::{Io, Now, Packet, Proto, Verdict};
use wire::tcp::FIN;
use wire::{Kind, Parsed, Udp};

use crate::path::burst::Burst;
use crate::path::lane::Lane;
use crate::path::proxy::{forget, mend_fin, move_on, owner};
use crate::path::proxy_send;
use crate::worker::Core;
use crate::worker::headers::{Entry, Phase};

/// Takes bytes out of a segment's payload; its sequence number stays.
pub(super) fn take_out<P: Packet, A: Lane>(
    packet: &mut P,
    parsed: &mut Parsed<A>,
    len: usize,
) -> Result<(), Verdict> {
    if len == 0 {
        return Ok(());
    }
    if A::is_first_fragment(packet, parsed) {
        // Its other fragments stand where they stand.
        return Err(Verdict::NoRoom);
    }
    let end = end_of(packet, parsed);
    if packet.bytes().len() < end && !packet.pull(end) {
        return Err(Verdict::NoRoom);
    }
    let proto = if parsed.key.proto == Proto::Udp.number() { Proto::Udp } else { Proto::Tcp };
    proxy::cut(packet, Place { end, ..Place::from(&*parsed) }, proto, len)?;
    parsed.ip_total_len = parsed.ip_total_len.saturating_sub(len as u16);
    Ok(())
}

/// Where a packet's payload ends: a datagram may be shorter than its packet (RFC 9868 §8).
fn end_of<P: Packet, A: Lane>(packet: &P, parsed: &Parsed<A>) -> usize {
    let l4 = usize::from(parsed.l4);
    match Udp::at(packet.bytes(), l4).filter(|_| parsed.key.proto == Proto::Udp.number()) {
        Some(header) => parsed.ip_end().min(l4 + usize::from(header.datagram_len())),
        None => parsed.ip_end(),
    }
}

/// What a packet's payload begins with.
pub(super) fn found<P: Packet, A: Lane>(burst: &mut Burst<P, A>, at: usize) -> Found {
    let Some((packet, meta)) = burst.both(at) else { return Found::Nothing };
    let (from, end) = (usize::from(meta.parsed.payload), end_of(packet, &meta.parsed));
    if packet.bytes().len() < end && !packet.pull(end) {
        return Found::Nothing;
    }
    let find = if meta.parsed.kind == Kind::Tcp { proxy::find } else { proxy::find_binary };
    packet.bytes().get(from..end).map_or(Found::Nothing, find)
}

/// A segment of a client that may send a header of its own.
pub(super) fn while_waiting<I: Io, A: Lane>(
    core: &mut Core<I::Packet>,
    io: &mut I,
    burst: &mut Burst<I::Packet, A>,
    at: usize,
    forward: &Flow<A>,
    view: &TcpView,
    now: Now,
) -> Result<(), Verdict> {
    let id = burst.meta(at).flow.ok_or(Verdict::Internal)?;
    let (conn, owner) = (id.conn(), owner::<A>(id.conn()));
    if view.payload_len == 0 && view.flags & FIN == 0 {
        return Ok(());
    }
    let entry = core.headers.find_mut(owner).ok_or(Verdict::Internal)?;
    if forward.translated_seq(view.seq) != entry.state.start {
        // What follows its first bytes cannot go before it is known what they are.
        return Err(Verdict::BadState);
    }
    if view.payload_len > 0 && found(burst, at) != Found::Nothing {
        core.counters.add(Event::ProxyPassed, 1);
        forget::<_, A>(core, conn);
        return Ok(());
    }
    (entry.state.sent, entry.state.read) = (true, true);
    let len = entry.len;
    core.headers.enter(owner, Phase::Sent(1), now);
    move_on::<_, A>(core, conn, len.into());
    proxy_send::send::<I, A>(core, io, conn, Event::ProxySent, now);
    mend_fin(core, conn, forward, view);
    Ok(())
}

/// Takes a header of the client's own out of what it sends, whenever it sends it.
pub(super) fn take_theirs<P: Packet, A: Lane>(
    core: &mut Core<P>,
    burst: &mut Burst<P, A>,
    at: usize,
    conn: ConnId,
    view: &TcpView,
) -> Result<(), Verdict> {
    let offset = A::table(core).flow(conn.forward()).map(|flow| flow.seq_offset);
    let seq = offset.ok_or(Verdict::Internal)?.wrapping_add(view.seq);
    let entry = core.headers.find_mut(owner::<A>(conn)).ok_or(Verdict::Internal)?;
    if view.payload_len == 0 {
        return Ok(());
    }
    // Counted from the client's first byte.
    let position = seq.wrapping_sub(first_number(entry)) as i32;
    // A probe of what has arrived long ago: its byte is none of the client's first ones.
    let is_probe = position.saturating_add(view.payload_len.into()) <= 0;
    let unread = !entry.state.read && !is_probe;
    if unread && position != 0 {
        // What follows its first bytes cannot go before it is known what they are.
        return Err(Verdict::BadState);
    }
    let theirs = if unread { found(burst, at) } else { Found::Nothing };
    if let (Found::Whole(_), Some(packet)) = (theirs, burst.packet(at))
        && A::is_first_fragment(packet, &burst.meta(at).parsed)
    {
        return Err(Verdict::NoRoom);
    }
    entry.state.read |= unread;
    if let Found::Whole(len) = theirs {
        entry.state.taken = len as u16;
        core.counters.add(Event::ProxyReplaced, 1);
        move_on::<_, A>(core, conn, (len as u32).wrapping_neg());
    }
    // What is before its first byte would be read in the place of a header that the server misses.
    let taken = core.headers.find(owner::<A>(conn)).map_or(0, |entry| entry.state.taken);
    let left = i32::from(taken).saturating_sub(position);
    if left <= 0 {
        return Ok(());
    }
    let len = (left as u32).min(view.payload_len.into());
    let (packet, meta) = burst.both(at).ok_or(Verdict::Internal)?;
    take_out(packet, &mut meta.parsed, len as usize)?;
    // With nothing left it asks the server for an ACK, as the client waits for one: by a number that is known.
    let is_empty = len == u32::from(view.payload_len) && view.flags & FIN == 0;
    let by = len.wrapping_sub(u32::from(is_empty));
    proxy::shift_sequence(packet.bytes_mut(), meta.parsed.l4.into(), by)
}

/// What the client's first byte is counted as towards the server, be it taken out or not.
pub(super) const fn first_number(entry: &Entry) -> u32 {
    entry.end().wrapping_sub(entry.state.taken as u32)
}
