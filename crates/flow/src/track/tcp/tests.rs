//! A case for each transition, told by segments.

use super::*;
use crate::NewCold;
use crate::flow::ConnId;
use crate::testing::{pair, table};
use types::Proto;

const F: Dir = Dir::Forward;
const R: Dir = Dir::Reverse;
const SA: u8 = SYN | ACK;
const FA: u8 = FIN | ACK;
/// What FullNAT adds to the opener's sequence numbers here.
const OFFSET: u32 = 0x8000_0000;
const CLIENT: u32 = 1000;
const SERVER: u32 = 0xffff_ff00;

struct Talk {
    table: FlowTable,
    conn: ConnId,
    now: Now,
}

impl Talk {
    /// A conn that was just opened, its SYN not yet tracked.
    fn new() -> Self {
        let mut table = table(4);
        let (forward, reverse) = pair(Proto::Tcp, 0);
        let forward = Flow { seq_offset: OFFSET, flags: flags::ADJUST_SEQ | flags::TOA, ..forward };
        let reverse = Flow { seq_offset: OFFSET, flags: flags::ADJUST_ACK | flags::TOA, ..reverse };
        let now = Now::from_ms(1000);
        let conn = table.insert(forward, reverse, NewCold::default(), now).unwrap();
        Self { table, conn, now }
    }

    fn send_data(&mut self, dir: Dir, flags: u8, seq: u32, ack: u32, len: u16) -> Track {
        let id = if dir == F { self.conn.forward() } else { self.conn.reverse() };
        let view = TcpView { flags, seq, ack, payload_len: len, ip_len: 40 + len };
        on_packet(&mut self.table, id, &view, self.now)
    }

    fn send(&mut self, dir: Dir, flags: u8, seq: u32, ack: u32) -> Track {
        self.send_data(dir, flags, seq, ack, 0)
    }

    fn state(&self) -> State {
        let state = self.table.flow(self.conn.forward()).unwrap().state;
        assert_eq!(self.table.flow(self.conn.reverse()).unwrap().state, state);
        state
    }

    #[track_caller]
    fn expect(&mut self, dir: Dir, flags: u8, seq: u32, ack: u32, to: State) -> &mut Self {
        self.expect_data(dir, flags, seq, ack, 0, to)
    }

    #[track_caller]
    fn expect_data(
        &mut self,
        dir: Dir,
        flags: u8,
        seq: u32,
        ack: u32,
        len: u16,
        to: State,
    ) -> &mut Self {
        let from = self.state();
        let expected = if from == to { Track::Pass } else { Track::Moved { from, to } };
        assert_eq!(self.send_data(dir, flags, seq, ack, len), expected);
        assert_eq!(self.state(), to);
        self
    }

    fn syn_sent() -> Self {
        let mut talk = Self::new();
        talk.expect(F, SYN, CLIENT, 0, State::SynSent);
        talk
    }

    fn syn_received() -> Self {
        let mut talk = Self::syn_sent();
        talk.expect(R, SA, SERVER, CLIENT + 1 + OFFSET, State::SynReceived);
        talk
    }

    fn established() -> Self {
        let mut talk = Self::syn_received();
        talk.expect(F, ACK, CLIENT + 1, SERVER.wrapping_add(1), State::Established);
        talk
    }

    fn last_ack(&self, dir: Dir) -> u32 {
        let id = if dir == F { self.conn.forward() } else { self.conn.reverse() };
        self.table.flow(id).unwrap().last_ack
    }

    fn has_toa(&self) -> bool {
        self.table.flow(self.conn.forward()).unwrap().has(flags::TOA)
    }
}

#[test]
fn a_handshake_establishes_and_sets_the_window_of_toa() {
    let mut talk = Talk::established();
    assert_eq!(talk.last_ack(F), SERVER.wrapping_add(1));
    assert_eq!(talk.last_ack(R), CLIENT + 1 + OFFSET);
    let seen = SERVER.wrapping_add(1);
    talk.expect_data(F, ACK, CLIENT + 1, seen, 100, State::Established);
    assert!(talk.has_toa(), "the server has sent nothing yet");
    talk.expect_data(R, ACK, seen, CLIENT + 101 + OFFSET, 500, State::Established);
    talk.expect(F, ACK, CLIENT + 101, seen.wrapping_add(500), State::Established);
    assert!(!talk.has_toa(), "its first data is acknowledged");
    talk.expect(F, ACK, CLIENT + 101, seen, State::Established);
    assert_eq!(talk.last_ack(F), seen.wrapping_add(500), "an old ACK changes nothing");
}

/// What the server drops of them, as for their checksum, would else hide the client from it.
#[test]
fn numbers_of_the_clients_alone_do_not_end_the_window_of_toa() {
    let seen = SERVER.wrapping_add(1);
    let mut talk = Talk::syn_received();
    talk.expect(F, ACK, CLIENT + 1, seen.wrapping_add(5), State::Established);
    talk.expect(F, ACK, CLIENT + 1, seen.wrapping_add(6), State::Established);
    assert!(talk.has_toa());
    talk.expect(F, FA, CLIENT + 1, seen.wrapping_add(7), State::ForwardFin);
    talk.expect(F, ACK, CLIENT + 2, seen.wrapping_add(8), State::ForwardFin);
    assert!(talk.has_toa(), "nor does a FIN of its own");
    talk.expect_data(R, ACK, seen, CLIENT + 1 + OFFSET, 20, State::ForwardFin);
    talk.expect(F, ACK, CLIENT + 2, seen.wrapping_add(20), State::ForwardFin);
    assert!(!talk.has_toa());
}

#[test]
fn a_syn_and_a_syn_ack_may_come_again() {
    let mut talk = Talk::syn_sent();
    talk.expect(F, SYN, CLIENT, 0, State::SynSent);
    talk.expect(R, SA, SERVER, CLIENT + 1 + OFFSET, State::SynReceived);
    talk.expect(F, SYN, CLIENT, 0, State::SynReceived);
    // Another cookie: the one that the client answers is the last.
    talk.expect(R, SA, 77, CLIENT + 1 + OFFSET, State::SynReceived);
    talk.expect(F, ACK, CLIENT + 1, 78, State::Established);
    talk.expect(R, SA, 77, CLIENT + 1 + OFFSET, State::Established);
    talk.expect(F, SYN, CLIENT, 0, State::Established);
}

#[test]
fn a_syn_ack_of_another_syn_changes_nothing() {
    for ack in [CLIENT + OFFSET, CLIENT + 1, CLIENT + OFFSET - 5, CLIENT + OFFSET + 70_000] {
        let mut talk = Talk::syn_sent();
        talk.expect(R, SA, SERVER, ack, State::SynSent);
        talk.expect(R, ACK, SERVER, ack, State::SynSent);
        talk.expect(R, SA, SERVER, CLIENT + 1 + OFFSET, State::SynReceived);
    }
}

#[test]
fn a_syn_may_carry_data() {
    let mut talk = Talk::new();
    talk.expect_data(F, SYN, CLIENT, 0, 200, State::SynSent);
    talk.expect(R, SA, SERVER, CLIENT + 201 + OFFSET, State::SynReceived);
    // The server may answer it before the handshake's last ACK (RFC 7413).
    let (seq, ack) = (SERVER.wrapping_add(1), CLIENT + 201 + OFFSET);
    talk.expect_data(R, ACK, seq, ack, 900, State::Established);
}

#[test]
fn both_may_open_at_once() {
    let mut talk = Talk::syn_sent();
    talk.expect(R, SYN, SERVER, 0, State::SynReceived);
    talk.expect(F, SA, CLIENT, SERVER.wrapping_add(1), State::SynReceived);
    talk.expect(R, ACK, SERVER.wrapping_add(1), CLIENT + 1 + OFFSET, State::Established);
    let mut talk = Talk::syn_sent();
    talk.expect(R, SYN, SERVER, 0, State::SynReceived);
    talk.expect(R, SA, SERVER, CLIENT + 1 + OFFSET, State::SynReceived);
    talk.expect(F, ACK, CLIENT + 1, SERVER.wrapping_add(1), State::Established);
}

#[test]
fn data_before_the_handshake_is_done_passes_and_changes_nothing() {
    let mut talk = Talk::syn_sent();
    talk.expect_data(F, ACK, CLIENT + 1, 5, 10, State::SynSent);
    talk.expect(R, SA, SERVER, CLIENT + 1 + OFFSET, State::SynReceived);
    // Whoever did not see the SYN|ACK cannot establish.
    talk.expect_data(F, ACK, CLIENT + 1, 0x1234_5678, 10, State::SynReceived);
    talk.expect(F, FA, CLIENT + 1, 0x1234_5678, State::SynReceived);
    // A challenge ACK of the server does not, either.
    talk.expect(R, ACK, SERVER.wrapping_add(1), CLIENT + 1 + OFFSET, State::SynReceived);
    talk.expect(F, ACK, CLIENT + 1, SERVER.wrapping_add(1), State::Established);
}

#[test]
fn a_lost_last_ack_is_made_up_for_by_data() {
    let mut talk = Talk::syn_received();
    let ack = SERVER.wrapping_add(1);
    talk.expect_data(F, ACK, CLIENT + 1, ack, 300, State::Established);
    let mut talk = Talk::syn_received();
    talk.expect(F, FA, CLIENT + 1, ack, State::ForwardFin);
    let mut talk = Talk::syn_received();
    talk.expect(R, FA, SERVER.wrapping_add(1), CLIENT + 1 + OFFSET, State::ReverseFin);
}

#[test]
fn a_close_by_the_client_takes_three_segments() {
    let mut talk = Talk::established();
    let (c, s) = (CLIENT + 1, SERVER.wrapping_add(1));
    talk.expect(F, FA, c, s, State::ForwardFin);
    talk.expect(R, FA, s, c + 1 + OFFSET, State::ForwardLastAck);
    talk.expect(F, ACK, c + 1, s.wrapping_add(1), State::Closed);
}

#[test]
fn a_close_by_the_server_takes_four_with_data_between() {
    let mut talk = Talk::established();
    let (c, s) = (CLIENT + 1, SERVER.wrapping_add(1));
    talk.expect_data(R, FA, s, c + OFFSET, 1000, State::ReverseFin);
    assert!(!talk.has_toa());
    talk.expect(F, ACK, c, s.wrapping_add(1001), State::ReverseFin);
    talk.expect_data(F, ACK, c, s.wrapping_add(1001), 50, State::ReverseFin);
    talk.expect_data(F, FA, c + 50, s.wrapping_add(1001), 7, State::ReverseLastAck);
    talk.expect(R, ACK, s.wrapping_add(1001), c + 50 + OFFSET, State::ReverseLastAck);
    talk.expect(R, ACK, s.wrapping_add(1001), c + 58 + OFFSET, State::Closed);
}

#[test]
fn both_may_close_at_once() {
    for first in [F, R] {
        let mut talk = Talk::established();
        let (c, s) = (CLIENT + 1, SERVER.wrapping_add(1));
        talk.expect(F, FA, c, s, State::ForwardFin);
        talk.expect(R, FA, s, c + OFFSET, State::BothFin);
        if first == F {
            talk.expect(F, ACK, c + 1, s.wrapping_add(1), State::ReverseLastAck);
            talk.expect(R, ACK, s.wrapping_add(1), c + 1 + OFFSET, State::Closed);
        } else {
            talk.expect(R, ACK, s.wrapping_add(1), c + 1 + OFFSET, State::ForwardLastAck);
            talk.expect(F, ACK, c + 1, s.wrapping_add(1), State::Closed);
        }
    }
}

#[test]
fn a_fin_may_come_again_and_data_before_it_too() {
    let mut talk = Talk::established();
    let (c, s) = (CLIENT + 1, SERVER.wrapping_add(1));
    talk.expect_data(F, FA, c, s, 20, State::ForwardFin);
    talk.expect_data(F, FA, c, s, 20, State::ForwardFin);
    talk.expect_data(F, ACK, c, s, 20, State::ForwardFin);
    talk.expect(R, FA, s, c + 21 + OFFSET, State::ForwardLastAck);
    talk.expect(R, FA, s, c + 21 + OFFSET, State::ForwardLastAck);
    talk.expect_data(F, FA, c, s, 20, State::ForwardLastAck);
    talk.expect(F, ACK, c + 21, s.wrapping_add(1), State::Closed);
    talk.expect(R, FA, s, c + 21 + OFFSET, State::Closed);
    talk.expect(F, ACK, c + 21, s.wrapping_add(1), State::Closed);
}

#[test]
fn the_other_half_stays_open_for_long_data() {
    for (dir, other, half) in [(F, R, State::ForwardFin), (R, F, State::ReverseFin)] {
        let mut talk = Talk::established();
        let (c, s) = (CLIENT + 1, SERVER.wrapping_add(1));
        let (seq, ack) = if dir == F { (c, s) } else { (s, c + OFFSET) };
        talk.expect(dir, FA, seq, ack, half);
        let (mut sent, acked) =
            if other == F { (c, s.wrapping_add(1)) } else { (s, c + 1 + OFFSET) };
        for _ in 0..100 {
            talk.now = Now::from_ms(u64::from(talk.now.tick_ms) + 30_000);
            assert!(!talk.table.is_due(talk.conn, talk.now));
            talk.expect_data(other, ACK, sent, acked, 1400, half);
            sent = sent.wrapping_add(1400);
        }
    }
}

#[test]
fn a_reset_closes_if_its_number_is_plausible() {
    let s = SERVER.wrapping_add(1);
    for (dir, seq) in [(F, CLIENT + 1), (R, s)] {
        Talk::established().expect(dir, RST, seq, 0, State::Closed);
    }
    let plausible = [(F, CLIENT + 90_000), (F, CLIENT), (R, s.wrapping_add(4 << 20))];
    for (dir, seq) in plausible {
        Talk::established().expect(dir, RST, seq, 0, State::Reset);
        Talk::syn_received().expect(dir, RST | ACK, seq, 0, State::Closed);
        let mut talk = Talk::established();
        talk.expect(F, FA, CLIENT + 1, s, State::ForwardFin);
        talk.expect(dir, RST, seq, 0, State::Reset);
        talk.expect(dir, RST, seq, 0, State::Reset);
        talk.expect(F, RST, CLIENT + 2, 0, State::Closed);
    }
    let implausible = [(F, CLIENT + OFFSET), (F, CLIENT + (5 << 20)), (R, s.wrapping_sub(70_000))];
    for (dir, seq) in implausible {
        Talk::established().expect(dir, RST, seq, 0, State::Established);
        Talk::syn_received().expect(dir, RST, seq, 0, State::SynReceived);
    }
}

#[test]
fn a_server_refuses_with_a_reset_that_acknowledges_the_syn() {
    Talk::syn_sent().expect(R, RST | ACK, 0, CLIENT + 1 + OFFSET, State::Closed);
    Talk::syn_sent().expect(R, RST | ACK, 0, CLIENT + 5 + (70 << 10), State::SynSent);
    Talk::syn_sent().expect(R, RST, CLIENT, 0, State::SynSent);
    Talk::syn_sent().expect(F, RST, CLIENT + 1, 0, State::Closed);
    Talk::syn_sent().expect(F, RST, CLIENT + OFFSET, 0, State::SynSent);
}

fn ended(talk: &Talk) -> bool {
    talk.table.flow(talk.conn.forward()).unwrap().has(flags::ENDED)
}

/// RFC 5961 §3.2: the receiver challenges such a RST, so a forged one must not shorten the conn's life.
#[test]
fn rfc5961_a_challenged_reset_is_forgotten() {
    let (c, s) = (CLIENT + 1, SERVER.wrapping_add(1));
    let reset = || {
        let mut talk = Talk::established();
        talk.expect(F, RST, c + 5_000, 0, State::Reset);
        assert!(ended(&talk));
        talk
    };
    let mut challenged = reset();
    challenged.expect(R, ACK, s, c + OFFSET, State::Established);
    assert!(!ended(&challenged));
    reset().expect_data(F, ACK, c, s, 100, State::Established);
    reset().expect_data(F, FA, c, s, 100, State::ForwardFin);
    let mut meant = reset();
    meant.expect(R, ACK, s, c + OFFSET, State::Established);
    meant.expect(F, RST, c, 0, State::Closed);
    // What is not of the conn revives nothing.
    reset().expect_data(F, ACK, c + OFFSET, s, 100, State::Reset);
    reset().expect_data(F, ACK, c, s ^ OFFSET, 100, State::Reset);
    assert_eq!(reset().send(F, SYN, c + 9, 0), Track::Reopen);
    reset().expect(F, SYN, c - 9, 0, State::Reset);
}

/// A conn of a NAT gateway.
fn gateway() -> Talk {
    let mut talk = Talk::established();
    talk.table.set_timeouts(0, crate::TimeoutSet::GATEWAY);
    talk
}

/// RFC 7857 §2.2: a RST makes the session transitory for four minutes; data brings it back.
#[test]
fn rfc7857_2_2_data_revives_a_reset_session() {
    let (c, s) = (CLIENT + 1, SERVER.wrapping_add(1));
    let mut talk = gateway();
    talk.expect(R, RST, s, 0, State::Reset);
    assert_eq!(talk.table.timeout_ms(talk.conn), 240_000);
    talk.expect_data(F, ACK, c, s, 10, State::Established);
    assert_eq!(talk.table.timeout_ms(talk.conn), 7_440_000);
    talk.expect(R, RST, s, 0, State::Reset);
    talk.expect(R, RST, s, 0, State::Reset);
    assert_eq!(talk.send(F, SYN, 5, 0), Track::Reopen);
}

/// RFC 7857 §7.1: RSTs keep nothing alive, whatever the state and whoever sends them.
#[test]
fn rfc7857_7_1_a_reset_does_not_refresh() {
    let s = SERVER.wrapping_add(1);
    let later =
        |talk: &mut Talk, ms: u64| talk.now = Now::from_ms(u64::from(talk.now.tick_ms) + ms);
    let mut talk = gateway();
    talk.expect(R, RST, s, 0, State::Reset);
    for _ in 0..3 {
        later(&mut talk, 60_000);
        talk.expect(R, RST, s, 0, State::Reset);
    }
    assert!(!talk.table.is_due(talk.conn, talk.now));
    later(&mut talk, 60_000);
    assert!(talk.table.is_due(talk.conn, talk.now), "four minutes after the first one");
    // One that nobody would take, on an open session.
    let mut talk = gateway();
    later(&mut talk, 7_439_000);
    talk.expect(R, RST, s.wrapping_add(1 << 30), 0, State::Established);
    later(&mut talk, 1_000);
    assert!(talk.table.is_due(talk.conn, talk.now));
}

/// RFC 5382 §5: a session is open until both sides have sent FIN, then it is transitory.
#[test]
fn rfc5382_req5_half_closed_sessions_live_as_open_ones() {
    let (c, s) = (CLIENT + 1, SERVER.wrapping_add(1));
    for (dir, to) in [(F, State::ForwardFin), (R, State::ReverseFin)] {
        let mut talk = gateway();
        let (seq, ack) = if dir == F { (c, s) } else { (s, c + OFFSET) };
        talk.expect(dir, FA, seq, ack, to);
        talk.now = Now::from_ms(u64::from(talk.now.tick_ms) + 7_439_999);
        assert!(!talk.table.is_due(talk.conn, talk.now));
        assert_eq!(talk.table.victim(talk.now, |_| false), None, "nothing makes room for others");
        let (other, seq, ack) =
            if dir == F { (R, s, c + 1 + OFFSET) } else { (F, c, s.wrapping_add(1)) };
        talk.send(other, FA, seq, ack);
        assert_eq!(talk.table.timeout_ms(talk.conn), 240_000);
    }
}

/// RFC 5382 REQ-2 a: both SYNs may cross, whichever comes first.
#[test]
fn rfc5382_req2a_simultaneous_open_behind_a_gateway() {
    let mut talk = Talk::new();
    talk.table.set_timeouts(0, crate::TimeoutSet::GATEWAY);
    talk.expect(F, SYN, CLIENT, 0, State::SynSent);
    talk.expect(R, SYN, SERVER, 0, State::SynReceived);
    assert_eq!(talk.table.timeout_ms(talk.conn), 240_000);
    talk.expect(F, SA, CLIENT, SERVER.wrapping_add(1), State::SynReceived);
    talk.expect(R, SA, SERVER, CLIENT + 1 + OFFSET, State::SynReceived);
    talk.expect(F, ACK, CLIENT + 1, SERVER.wrapping_add(1), State::Established);
}

/// RFC 5382 REQ-5: a session that the other end opens between the same endpoints lives as long as any other; who
/// forges its SYN prolongs nothing.
#[test]
fn rfc5382_req5_the_other_end_may_open_anew_behind_a_gateway() {
    let (c, s) = (CLIENT + 1, SERVER.wrapping_add(1));
    let ended = |gateway: bool, last: State| {
        let mut talk = Talk::established();
        if gateway {
            talk.table.set_timeouts(0, crate::TimeoutSet::GATEWAY);
        }
        if last == State::Reset {
            talk.expect(R, RST, s, 0, last);
        } else {
            talk.expect(F, FA, c, s, State::ForwardFin);
            talk.expect(R, FA, s, c + 1 + OFFSET, State::ForwardLastAck);
            talk.expect(F, ACK, c + 1, s.wrapping_add(1), State::Closed);
        }
        talk
    };
    let (theirs, ours) = (0x1234_5678, 0x9abc_def0_u32);
    for last in [State::Closed, State::Reset] {
        let mut talk = ended(true, last);
        talk.expect(F, SA, ours, 1, last);
        talk.expect(R, SYN, theirs + 99, 0, last);
        talk.expect_data(R, ACK, theirs + 100, ours, 10, last);
        talk.expect(R, SYN, theirs, 0, last);
        talk.expect(F, SA, ours, theirs + 1, State::SynReceived);
        talk.expect(F, SA, ours, theirs + 1, State::SynReceived);
        talk.expect(R, ACK, theirs + 1, (ours + 1).wrapping_add(OFFSET), State::Established);
        assert_eq!(talk.table.timeout_ms(talk.conn), 7_440_000);
        talk.expect_data(F, ACK, ours + 1, theirs + 1, 10, State::Established);
        talk.expect(R, FA, theirs + 1, (ours + 11).wrapping_add(OFFSET), State::ReverseFin);
    }
    let mut talk = ended(false, State::Closed);
    talk.expect(R, SYN, theirs, 0, State::Closed);
    talk.expect(F, SA, ours, theirs + 1, State::Closed);
}

#[test]
fn data_passes_after_a_reset() {
    let mut talk = Talk::established();
    talk.expect(R, RST, SERVER.wrapping_add(1), 0, State::Closed);
    talk.expect_data(F, ACK, CLIENT + 1, SERVER.wrapping_add(1), 10, State::Closed);
}

#[test]
fn a_fin_with_an_implausible_number_changes_nothing() {
    let s = SERVER.wrapping_add(1);
    Talk::established().expect(F, FA, CLIENT + OFFSET, s, State::Established);
    Talk::established().expect(R, FA, s ^ OFFSET, CLIENT + 1 + OFFSET, State::Established);
}

#[test]
fn a_newer_syn_opens_anew_where_all_is_said() {
    let (c, s) = (CLIENT + 1, SERVER.wrapping_add(1));
    let closing = || {
        let mut talk = Talk::established();
        talk.expect(F, FA, c, s, State::ForwardFin);
        talk.expect(R, FA, s, c + 1 + OFFSET, State::ForwardLastAck);
        talk
    };
    assert_eq!(closing().send(F, SYN, c + 50_000, 0), Track::Reopen);
    closing().expect(F, SYN, CLIENT, 0, State::ForwardLastAck);
    closing().expect(R, SYN, s.wrapping_add(9), 0, State::ForwardLastAck);
    let mut closed = closing();
    closed.expect(F, ACK, c + 1, s.wrapping_add(1), State::Closed);
    assert_eq!(closed.send(F, SYN, 5, 0), Track::Reopen);
    closed.expect(R, SYN, 5, 0, State::Closed);
    let mut reset = Talk::established();
    reset.expect(R, RST, s, 0, State::Closed);
    assert_eq!(reset.send(F, SYN, CLIENT, 0), Track::Reopen);
    assert_eq!(reset.state(), State::Closed, "the caller removes it");
}

#[test]
fn a_syn_on_an_open_conn_is_for_the_server_to_judge_unless_it_is_overdue() {
    let mut talk = Talk::established();
    talk.expect(F, SYN, 0x7777_7777, 0, State::Established);
    let start = u64::from(talk.now.tick_ms);
    talk.now = Now::from_ms(start + 899_999);
    talk.expect(R, SYN, 0x7777_7777, 0, State::Established);
    talk.now = Now::from_ms(start + 899_999 + 900_000);
    assert_eq!(talk.send(F, SYN, 0x7777_7777, 0), Track::Reopen);
}

#[test]
fn what_no_tcp_sends_is_bad_and_not_counted() {
    for bits in [0, FIN, SYN | FIN, SYN | RST, SA | FIN, RST | FIN, RST | FIN | ACK, 0x08] {
        for mut talk in [Talk::syn_sent(), Talk::established()] {
            let before = *talk.table.flow(talk.conn.forward()).unwrap();
            talk.now = Now::from_ms(5000);
            assert_eq!(talk.send(F, bits, CLIENT + 1, SERVER.wrapping_add(1)), Track::Bad);
            assert_eq!(*talk.table.flow(talk.conn.forward()).unwrap(), before, "{bits:#x}");
        }
    }
    assert_eq!(Talk::syn_sent().send(F, SA, CLIENT, 1), Track::Bad);
}

#[test]
fn data_of_an_established_conn_touches_its_own_flow_only() {
    let mut talk = Talk::established();
    let twin = *talk.table.flow(talk.conn.reverse()).unwrap();
    let cold = *talk.table.cold(talk.conn).unwrap();
    talk.now = Now::from_ms(7000);
    talk.expect_data(F, ACK | 8, CLIENT + 1, SERVER.wrapping_add(1), 99, State::Established);
    assert_eq!(*talk.table.flow(talk.conn.reverse()).unwrap(), twin);
    assert_eq!(*talk.table.cold(talk.conn).unwrap(), cold);
    let own = talk.table.flow(talk.conn.forward()).unwrap();
    assert_eq!((own.last_seen, own.packets, own.bytes()), (7000, 3, 40 + 40 + 139));
}
