//! TCP: the handshake, both halves of the close, resets and reuse.
//!
//! A middle box sees less than the ends do: what is not plausible is passed on for them to judge,
//! but changes nothing here (in the spirit of RFC 5961). The ACK number of the twin says how far
//! the receiver is; from a SYN or FIN on it is the number that acknowledges it, so that the ACK of
//! a FIN is known exactly without a field for it.
//!
//! A RST with the very number that the receiver expects ends a conn. With another that is plausible
//! the receiver may only challenge it (RFC 5961 §3.2), so who goes on speaking revives the conn. Behind
//! a NAT gateway ([`TimeoutSet::gateway`](crate::TimeoutSet::gateway)) any RST can be taken back so
//! (RFC 7857 §2.2).

use types::{Dir, Now};

use super::Track;
use crate::flow::{Flow, FlowAddress, FlowId, flags};
use crate::state::{List, State};
use crate::table::FlowTable;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// How far ahead of the last ACK the sequence number of a RST or FIN may be: the receive window
/// that Linux grows to by default is not larger. A blind RST hits it once in 1024 tries.
const AHEAD_MAX: i32 = 4 << 20;
/// How far ahead a FIN or an ACK number may be: the largest window there is (RFC 7323 §2.3). A forged FIN
/// ends a conn no sooner than its idle time would.
const WINDOW_MAX: i32 = 1 << 30;
/// How far behind: ACKs overtake each other, and a closed side resets with an old number.
const BEHIND_MAX: i32 = 64 << 10;
/// What a SYN may carry (RFC 7413), and the SYN|ACK acknowledge.
const SYN_DATA_MAX: u32 = 64 << 10;

/// What tracking needs of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpView {
    /// Control bits as in the header (RFC 9293 §3.1).
    pub flags: u8,
    /// Sequence number as it arrived.
    pub seq: u32,
    /// ACK number as it arrived.
    pub ack: u32,
    /// Bytes of payload.
    pub payload_len: u16,
    /// Bytes of the packet from the IP header on.
    pub ip_len: u16,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Syn,
    SynAck,
    Ack,
    Fin,
    Rst,
}

impl TcpView {
    /// Combinations that no TCP sends have no kind: RFC 9293 §3.10.7 drops what has neither ACK,
    /// SYN nor RST, and SYN goes with neither RST nor FIN.
    const fn kind(&self) -> Option<Kind> {
        match (self.flags & SYN != 0, self.flags & (FIN | RST), self.flags & ACK != 0) {
            (true, 0, false) => Some(Kind::Syn),
            (true, 0, true) => Some(Kind::SynAck),
            (true, _, _) => None,
            (false, RST, _) => Some(Kind::Rst),
            (false, FIN, true) => Some(Kind::Fin),
            (false, 0, true) => Some(Kind::Ack),
            (false, _, _) => None,
        }
    }
}

/// Takes note of a segment.
#[inline]
pub fn on_packet<A: FlowAddress>(
    table: &mut FlowTable<A>,
    id: FlowId,
    view: &TcpView,
    now: Now,
) -> Track {
    let Some(flow) = table.flow_mut(id) else { return Track::Bad };
    if flow.has(flags::EXT) {
        return Track::Extended;
    }
    on_extended(table, id, view, now)
}

/// Takes note of a segment, whether its conn has an extension or not.
#[inline(always)]
pub fn on_extended<A: FlowAddress>(
    table: &mut FlowTable<A>,
    id: FlowId,
    view: &TcpView,
    now: Now,
) -> Track {
    let Some(flow) = table.flow_mut(id) else { return Track::Bad };
    if flow.state == State::Established && view.flags & (SYN | FIN | RST | ACK) == ACK {
        flow.count(view.ip_len, now);
        let newer = note_ack(flow, view.ack);
        if flow.has(flags::TOA) {
            end_toa(table, id, view, newer);
        }
        return Track::Pass;
    }
    on_event(table, id, view, now)
}

/// The highest ACK number stays; one that is ahead of all that can be in flight is forged. True if it is this one.
#[inline(always)]
fn note_ack<A: FlowAddress>(flow: &mut Flow<A>, ack: u32) -> bool {
    let newer = (1..=WINDOW_MAX).contains(&distance(ack, flow.last_ack));
    flow.last_ack = if newer { ack } else { flow.last_ack };
    newer
}

/// The window of TOA: the server's flow loses the flag when it sends data, and then the client's by acknowledging
/// more than before. A number alone ends nothing: the client may make one up, in a segment that the server drops,
/// and would hide its address.
#[cold]
fn end_toa<A: FlowAddress>(table: &mut FlowTable<A>, id: FlowId, view: &TcpView, newer: bool) {
    let ends = match id.dir() {
        Dir::Reverse => view.payload_len > 0,
        Dir::Forward => newer && table.flow(id.twin()).is_some_and(|twin| !twin.has(flags::TOA)),
    };
    if let Some(flow) = table.flow_mut(id).filter(|_| ends) {
        flow.flags &= !flags::TOA;
    }
}

/// How far `to` is ahead of `from` in sequence space.
#[inline(always)]
const fn distance(to: u32, from: u32) -> i32 {
    to.wrapping_sub(from) as i32
}

/// All but data on an established conn.
fn on_event<A: FlowAddress>(
    table: &mut FlowTable<A>,
    id: FlowId,
    view: &TcpView,
    now: Now,
) -> Track {
    let (Some(own), Some(twin)) = (table.flow(id), table.flow(id.twin())) else {
        return Track::Bad;
    };
    let Some(kind) = view.kind() else { return Track::Bad };
    let gateway = table.timeouts(own.timeout_class).gateway;
    let segment = Segment { own, twin, view, kind, dir: id.dir(), gateway };
    let from = own.state;
    if kind == Kind::Syn && segment.reopens(table.is_due(id.conn(), now)) {
        return Track::Reopen;
    }
    let Some(to) = segment.next(from) else { return Track::Bad };
    let expected = segment.expected_ack(from, to);
    // Before the handshake is proven a wrong number would keep the right one out.
    let trusted = from != to || from.list() != Some(List::HalfOpen);
    if let Some(own) = table.flow_mut(id) {
        let seen = own.last_seen;
        own.count(view.ip_len, now);
        if kind == Kind::Rst && from == to {
            // It keeps nothing alive (RFC 7857 §7.1).
            own.last_seen = seen;
        }
        let toa = own.has(flags::TOA);
        if trusted && matches!(kind, Kind::SynAck | Kind::Ack | Kind::Fin) {
            let newer = note_ack(own, view.ack);
            // A SYN|ACK acknowledges no data; the flag still lowers its MSS.
            if toa && kind != Kind::SynAck {
                end_toa(table, id, view, newer);
            }
        }
    }
    if let (Some(expected), Some(twin)) = (expected, table.flow_mut(id.twin())) {
        twin.last_ack = expected;
        if kind == Kind::Fin && id.dir() == Dir::Reverse {
            twin.flags &= !flags::TOA;
        }
    }
    if from == to {
        return Track::Pass;
    }
    if from == State::Reset || to == State::Reset {
        note_end(table, id, to);
    }
    table.set_state(id.conn(), to, now);
    Track::Moved { from, to }
}

/// Notes that a RST ended the conn, or that it did not.
fn note_end<A: FlowAddress>(table: &mut FlowTable<A>, id: FlowId, to: State) {
    let conn = id.conn();
    for (id, ended) in [(conn.forward(), to.list() == Some(List::Closed)), (conn.reverse(), false)]
    {
        if let Some(flow) = table.flow_mut(id) {
            flow.flags = flow.flags & !flags::ENDED | if ended { flags::ENDED } else { 0 };
        }
    }
}

/// A segment and what is known of its conn.
struct Segment<'a, A> {
    own: &'a Flow<A>,
    twin: &'a Flow<A>,
    view: &'a TcpView,
    kind: Kind,
    dir: Dir,
    /// See [`TimeoutSet::gateway`](crate::TimeoutSet::gateway).
    gateway: bool,
}

impl<A: FlowAddress> Segment<'_, A> {
    /// Its sequence number as the receiver sees it, ahead of what the receiver acknowledged.
    fn ahead(&self) -> i32 {
        distance(self.own.translated_seq(self.view.seq), self.twin.last_ack)
    }

    /// True if the receiver may take a RST or FIN with this sequence number.
    fn is_plausible(&self) -> bool {
        let ahead_max = if self.kind == Kind::Fin { WINDOW_MAX } else { AHEAD_MAX };
        (-BEHIND_MAX..=ahead_max).contains(&self.ahead())
    }

    /// What a RST leads to.
    fn reset(&self, state: State) -> State {
        let open = matches!(
            state,
            State::Established | State::ForwardFin | State::ReverseFin | State::Reset
        );
        match (self.is_plausible(), open && (self.gateway || self.ahead() != 0)) {
            (false, _) => state,
            (true, true) => State::Reset,
            (true, false) => State::Closed,
        }
    }

    /// What goes on after a RST revives the conn, if its numbers are of it.
    fn in_reset(&self) -> State {
        let goes_on = matches!(self.kind, Kind::Ack | Kind::Fin)
            && self.is_plausible()
            && (-BEHIND_MAX..=AHEAD_MAX).contains(&self.ack_ahead());
        match self.kind {
            Kind::Fin if goes_on => self.in_open(State::Established),
            _ if goes_on => State::Established,
            _ => State::Reset,
        }
    }

    /// True if it acknowledges the other side's SYN or FIN, see [`Flow::last_ack`].
    fn acks_all(&self) -> bool {
        self.view.flags & ACK != 0 && distance(self.view.ack, self.own.last_ack) >= 0
    }

    /// True if it acknowledges the opener's SYN, and not more than that can carry.
    fn acks_syn(&self) -> bool {
        let acked = self.view.ack.wrapping_sub(self.own.last_ack);
        self.view.flags & ACK != 0 && (1..=1 + SYN_DATA_MAX).contains(&acked)
    }

    /// Asked of a SYN: one of the opener begins anew where nothing is left to say: RFC 9293 §3.10.7.4 allows it
    /// in TIME-WAIT if the sequence number is newer; a closed or overdue conn minds no number.
    fn reopens(&self, due: bool) -> bool {
        let over = match self.own.state {
            State::BothFin | State::ForwardLastAck | State::ReverseLastAck => self.ahead() >= 0,
            State::Closed => true,
            State::Reset => self.gateway || self.ahead() >= 0,
            _ => false,
        };
        self.dir == Dir::Forward && (over || due)
    }

    /// The state after it; `None` if it can never be valid.
    fn next(&self, state: State) -> Option<State> {
        Some(match state {
            State::SynSent => self.in_syn_sent()?,
            State::SynReceived => self.in_syn_received(),
            _ if self.kind == Kind::Rst => self.reset(state),
            State::Closed | State::Reset if self.begins_again() => State::SynReceived,
            State::Reset => self.in_reset(),
            State::Established | State::ForwardFin | State::ReverseFin => self.in_open(state),
            State::BothFin | State::ForwardLastAck | State::ReverseLastAck => {
                self.in_closing(state)
            }
            _ => state,
        })
    }

    /// True if the opener of a closed conn accepts the SYN that the other end has sent since (RFC 5382 REQ-5: what
    /// then is open lives as long as any). Before that the SYN, which anybody may forge, moves nothing but the number
    /// that acknowledges it.
    fn begins_again(&self) -> bool {
        self.gateway
            && (self.dir, self.kind) == (Dir::Forward, Kind::SynAck)
            && self.view.ack == self.own.last_ack
    }

    fn in_syn_sent(&self) -> Option<State> {
        let to = match (self.dir, self.kind) {
            // Only SYN of both sides can be answered so, and then the state is another.
            (Dir::Forward, Kind::SynAck) => return None,
            (Dir::Forward, Kind::Rst) if self.is_plausible() => State::Closed,
            (Dir::Reverse, Kind::SynAck) if self.acks_syn() => State::SynReceived,
            // Simultaneous open (RFC 9293 §3.5).
            (Dir::Reverse, Kind::Syn) => State::SynReceived,
            // Refused (RFC 9293 §3.10.7.3); a RST that does not acknowledge the SYN is forged.
            (Dir::Reverse, Kind::Rst) if self.acks_syn() => State::Closed,
            _ => State::SynSent,
        };
        Some(to)
    }

    fn in_syn_received(&self) -> State {
        // The opener proves that it saw the SYN of the other side. The other side speaks without
        // SYN only when it is established; its bare ACK of the SYN may be a challenge.
        let proven = match self.dir {
            Dir::Forward => self.acks_all() && self.ack_ahead() <= AHEAD_MAX,
            Dir::Reverse => self.view.payload_len > 0 || self.ack_ahead() > 0,
        };
        match (self.kind, self.dir) {
            (Kind::Rst, _) if self.is_plausible() => State::Closed,
            (Kind::Ack, _) if proven => State::Established,
            (Kind::Fin, Dir::Forward) if proven && self.is_plausible() => State::ForwardFin,
            (Kind::Fin, Dir::Reverse) if self.is_plausible() => State::ReverseFin,
            _ => State::SynReceived,
        }
    }

    fn ack_ahead(&self) -> i32 {
        distance(self.view.ack, self.own.last_ack)
    }

    fn in_open(&self, state: State) -> State {
        if self.kind != Kind::Fin || !self.is_plausible() {
            return state;
        }
        match (state, self.dir) {
            (State::Established, Dir::Forward) => State::ForwardFin,
            (State::Established, Dir::Reverse) => State::ReverseFin,
            (State::ForwardFin, Dir::Reverse) if self.acks_all() => State::ForwardLastAck,
            (State::ReverseFin, Dir::Forward) if self.acks_all() => State::ReverseLastAck,
            (State::ForwardFin, Dir::Reverse) | (State::ReverseFin, Dir::Forward) => State::BothFin,
            _ => state,
        }
    }

    fn in_closing(&self, state: State) -> State {
        if !matches!(self.kind, Kind::Ack | Kind::Fin) || !self.acks_all() {
            return state;
        }
        match (state, self.dir) {
            (State::BothFin, Dir::Forward) => State::ReverseLastAck,
            (State::BothFin, Dir::Reverse) => State::ForwardLastAck,
            (State::ForwardLastAck, Dir::Forward) | (State::ReverseLastAck, Dir::Reverse) => {
                State::Closed
            }
            _ => state,
        }
    }

    /// What will acknowledge this SYN or FIN, for the twin's [`Flow::last_ack`].
    fn expected_ack(&self, from: State, to: State) -> Option<u32> {
        let seq = self.own.translated_seq(self.view.seq);
        let half_open = matches!(from, State::SynSent | State::SynReceived);
        let ended = matches!(from, State::BothFin | State::ForwardLastAck | State::ReverseLastAck);
        match (self.kind, self.dir) {
            // The number before the one that acknowledges it: `acks_syn` tells how much more.
            (Kind::Syn, Dir::Forward) if from == State::SynSent => Some(seq),
            (Kind::SynAck, Dir::Forward) if from != to => Some(seq),
            (Kind::Syn, Dir::Reverse) if self.gateway && from.list() == Some(List::Closed) => {
                Some(seq.wrapping_add(1))
            }
            // A SYN cookie may be another one each time; the last is the one that counts.
            (Kind::Syn | Kind::SynAck, Dir::Reverse) if half_open && to != State::SynSent => {
                Some(seq.wrapping_add(1))
            }
            (Kind::Fin, _) if from != to && !ended => {
                Some(seq.wrapping_add(u32::from(self.view.payload_len)).wrapping_add(1))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
