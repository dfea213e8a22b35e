//! Packets of our own that answer others: ARP, echo, resets, ICMP errors.
//!
//! An answer is made of the packet that it answers and leaves where that came in, to the station that
//! sent it: so it needs no route, no neighbour and no further memory.

use counters::{Event, Source};
use flow::{Flow, Removed, State};
use types::{EthPortId, Io, MacAddr, Now, Packet, Proto, Verdict};
use wire::reply::{ErrorMessage, RESET6_MAX_LEN, Reset};
use wire::{Parsed, Parsed6};

use crate::path::burst::Burst;
use crate::path::egress::{gather, send_routed};
use crate::path::forward;
use crate::path::lane::Lane;
use crate::path::transmit::keep_room;
use crate::snapshot::Snapshot;
use crate::worker::Core;
use crate::worker::bucket::Bucket;

/// What the sender of a refused packet is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing.
    Silent,
    /// A TCP reset.
    Reset,
    /// An ICMP error.
    Error(ErrorMessage),
}

impl Refusal {
    /// What is left of it on the interface that it leaves by: on a silent one no error, but for what finds the path's
    /// MTU (RFC 5508 REQ-9). Resets are what a service asks for.
    #[inline]
    pub fn by(self, snapshot: &Snapshot, interface: EthPortId) -> Self {
        match self {
            Self::Error(message) if snapshot.is_silent(interface) && !message.is_too_big() => {
                Self::Silent
            }
            told => told,
        }
    }
}

/// Bounds what we answer by ourselves, so that a flood of requests is no flood of answers.
#[derive(Debug, Default)]
pub struct ReplyLimit {
    echo: Bucket,
    errors: Bucket,
}

/// Echo replies a millisecond; those of a pinging monitor or two are far below.
const ECHO_A_MS: u32 = 100;
/// Resets and ICMP errors a millisecond, together: ten times Linux's `icmp_msgs_per_sec`.
const ERRORS_A_MS: u32 = 10;

impl ReplyLimit {
    /// Takes the right to send one reset or ICMP error.
    pub(super) fn may_tell(&mut self, now: Now) -> bool {
        self.errors.take(ERRORS_A_MS, now)
    }
}

/// Answers an ARP request: the address asked for is at `mac`.
pub(super) fn arp<P: Packet>(core: &mut Core<P>, burst: &mut Burst<P>, at: usize, mac: MacAddr) {
    let turned =
        |packet: &mut P, parsed: &Parsed| wire::reply::arp_reply(packet.bytes_mut(), parsed, mac);
    answer(core, burst, at, Event::ArpAnswered, Verdict::BadArp, turned);
}

/// Answers an echo request.
pub(super) fn echo<P: Packet>(core: &mut Core<P>, burst: &mut Burst<P>, at: usize, now: Now) {
    if !core.replies.echo.take(ECHO_A_MS, now) {
        burst.end(at, Verdict::ReplyLimit);
        return;
    }
    let turned =
        |packet: &mut P, parsed: &Parsed| wire::reply::echo_reply(packet.bytes_mut(), parsed);
    answer(core, burst, at, Event::EchoAnswered, Verdict::BadIcmp, turned);
}

/// Answers an ICMPv6 echo request to an address of ours.
pub(super) fn echo6<P: Packet>(
    core: &mut Core<P>,
    burst: &mut Burst<P, u128>,
    at: usize,
    now: Now,
) {
    if !core.replies.echo.take(ECHO_A_MS, now) {
        burst.end(at, Verdict::ReplyLimit);
        return;
    }
    let turned = |packet: &mut P, parsed: &Parsed6| {
        wire::reply::echo_reply6(packet.bytes_mut(), parsed, parsed.key.dst)
    };
    answer(core, burst, at, Event::EchoAnswered, Verdict::BadIcmp, turned);
}

/// Answers a neighbour solicitation: the address asked for is at `mac`.
pub(super) fn advertise<P: Packet>(
    core: &mut Core<P>,
    burst: &mut Burst<P, u128>,
    at: usize,
    (message, mac): (&wire::ndp::Message, MacAddr),
) {
    let turned = |packet: &mut P, parsed: &Parsed6| {
        wire::reply::neighbour_advertisement(packet, parsed, message, mac)
    };
    answer(core, burst, at, Event::NdAnswered, Verdict::NoRoom, turned);
}

/// Ends a live packet with `verdict`, or with an answer that says so.
#[cold]
pub(super) fn refuse<P: Packet, A: Lane>(
    core: &mut Core<P>,
    burst: &mut Burst<P, A>,
    at: usize,
    verdict: Verdict,
    refusal: Refusal,
    now: Now,
) {
    let meta = burst.meta(at);
    let parsed = meta.parsed;
    let interface = EthPortId(meta.interface);
    match refusal.by(&core.snapshot, interface) {
        Refusal::Silent => burst.end(at, verdict),
        Refusal::Reset if parsed.tcp_flags & wire::tcp::RST != 0 => burst.end(at, verdict),
        _ if !core.replies.may_tell(now) => burst.end(at, verdict),
        Refusal::Reset => {
            answer(core, burst, at, Event::ResetMade, verdict, A::reset_reply::<P>);
        }
        Refusal::Error(message) => {
            let fib = &core.snapshot.fib;
            let source = burst
                .packet(at)
                .and_then(|packet| A::error_source(fib, interface, packet, &parsed, message));
            match source {
                None => burst.end(at, verdict),
                Some(source) => {
                    let turned = |packet: &mut P, parsed: &Parsed<A>| {
                        A::icmp_error(packet, parsed, message, source)
                    };
                    answer(core, burst, at, Event::IcmpErrorMade, verdict, turned);
                }
            }
        }
    }
}

/// Turns a live packet into its answer and sends it back; `otherwise` is its verdict if it cannot
/// be turned.
fn answer<P: Packet, A: Lane>(
    core: &mut Core<P>,
    burst: &mut Burst<P, A>,
    at: usize,
    event: Event,
    otherwise: Verdict,
    turn: impl FnOnce(&mut P, &Parsed<A>) -> bool,
) {
    let Some((packet, meta)) = burst.both(at) else { return };
    let (interface, looped) = (EthPortId(meta.interface), meta.looped);
    if !turn(packet, &meta.parsed) {
        burst.end(at, otherwise);
        return;
    }
    let Some(packet) = burst.take(at) else { return };
    core.counters.ended(Verdict::Answered, 1);
    core.counters.began(Source::Generated, 1);
    core.counters.add(event, 1);
    if looped {
        forward::answer_looped(core, packet, interface);
    } else if let Some(verdict) = gather(core, interface, packet) {
        core.counters.ended(verdict, 1);
    }
}

/// Tells both ends of a TCP conn that is gone. Each reset carries the number that its receiver
/// expects next, as the receiver itself acknowledged it last (RFC 5961 §3.2).
pub(crate) fn reset_ends<I: Io, A: Lane>(
    core: &mut Core<I::Packet>,
    io: &mut I,
    removed: &Removed<A>,
    now: Now,
) {
    if removed.forward.proto != Proto::Tcp.number() {
        return;
    }
    // What arrives along a flow was sent by the one whom the reset goes to: it comes from where
    // that flow's packets go, as the sender knows it, and is numbered as the sender acknowledged.
    // An opener that has not finished the handshake may be a forged one: only the server waits for it.
    let forged = removed.forward.state == State::SynReceived;
    for flow in
        [(!forged).then_some(&removed.forward), Some(&removed.reverse)].into_iter().flatten()
    {
        if flow.last_ack != 0 {
            reset_sender(core, io, flow, now);
        }
    }
}

/// Tells the one whose packets arrive along a flow.
pub(super) fn reset_sender<I: Io, A: Lane>(
    core: &mut Core<I::Packet>,
    io: &mut I,
    flow: &Flow<A>,
    now: Now,
) {
    // Many conns may end in one round; what a burst sends besides still finds room.
    keep_room(core, io);
    let key = flow.key().reversed();
    let reset = Reset {
        eth_destination: MacAddr::default(),
        eth_source: MacAddr::default(),
        vlan: 0,
        key,
        seq: flow.last_ack,
        ack: None,
    };
    let write = |bytes: &mut [u8]| A::write_reset(bytes, &reset);
    send_made(core, io, (Event::ResetMade, RESET6_MAX_LEN), key.dst, write, now);
}

/// Sends a packet of our own by the route to `destination`: `write` makes it in as many bytes as are given, and says how
/// long it is.
pub(super) fn send_made<I: Io, A: Lane>(
    core: &mut Core<I::Packet>,
    io: &mut I,
    (event, room): (Event, usize),
    destination: A,
    write: impl FnOnce(&mut [u8]) -> Option<usize>,
    now: Now,
) {
    core.counters.began(Source::Generated, 1);
    let Some(mut packet) = io.allocate() else {
        core.counters.ended(Verdict::NoBuffer, 1);
        return;
    };
    let written = if packet.append(room) { write(packet.bytes_mut()) } else { None };
    let Some(len) = written else {
        core.counters.ended(Verdict::NoRoom, 1);
        return;
    };
    packet.truncate(len);
    core.counters.add(event, 1);
    send_routed(core, packet, destination, now);
}
