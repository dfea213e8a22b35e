//! Packets that are only forwarded, and those that go from one port of our WAN IPs to another.

use counters::{Event, Source};
use fib::{Role, RouteKind};
use types::{EthPortId, Io, MacAddr, Now, Packet, Verdict, WorkerId};
use wire::icmpv4::PORT_UNREACHABLE;
use wire::reply::ErrorMessage;
use wire::{Ipv4, Parsed, checksum, ethernet};

use crate::path::burst::{Burst, Meta};
use crate::path::egress::send_routed;
use crate::path::oversized;
use crate::path::reply::{self, Refusal};
use crate::path::steer::{self, Asked};
use crate::worker::Core;

/// Sends a live packet on as it is, but for its TTL (RFC 1812 §5.3.1).
pub(super) fn forward<I: Io>(
    core: &mut Core<I::Packet>,
    io: &mut I,
    burst: &mut Burst<I::Packet>,
    at: usize,
    now: Now,
) {
    let parsed = burst.meta(at).parsed;
    let mtu = core.snapshot.fib.route(parsed.key.dst).map_or(0, |route| route.mtu);
    if parsed.ttl <= 1 {
        let refusal = Refusal::Error(ErrorMessage::TIME_EXCEEDED);
        reply::refuse(core, burst, at, Verdict::TtlExceeded, refusal, now);
        return;
    }
    let is_oversized = parsed.ip_total_len > mtu;
    let passes = !is_oversized
        || burst
            .packet(at)
            .is_some_and(|packet| oversized::can_be_cut(packet, parsed.l3.into(), mtu));
    if !passes {
        let refusal = if parsed.dont_fragment {
            Refusal::Error(ErrorMessage::fragmentation_needed(mtu))
        } else {
            Refusal::Silent
        };
        reply::refuse(core, burst, at, Verdict::TooBig, refusal, now);
        return;
    }
    let header = burst
        .both(at)
        .and_then(|(packet, _)| Ipv4::at_mut(packet.bytes_mut(), usize::from(parsed.l3)));
    let Some(mut header) = header else {
        burst.end(at, Verdict::Internal);
        return;
    };
    header.set_ttl(parsed.ttl - 1);
    header.adjust_checksum(checksum::delta_u16(0x0100, 0));
    core.counters.add(Event::Forwarded, 1);
    if is_oversized {
        oversized::send(core, io, burst, at, parsed.key.dst, now);
    } else if let Some(packet) = burst.take(at) {
        send_routed(core, packet, parsed.key.dst, now);
    }
}

/// A translated packet goes to a WAN IP of ours: it enters at the worker of that port, be it this one, as if it had
/// come in. True if it was one.
#[cold]
pub(super) fn loop_back<P: Packet>(core: &mut Core<P>, burst: &mut Burst<P>, at: usize) -> bool {
    let Some((packet, meta)) = burst.both(at) else { return false };
    // It is still on its way through us: both passes are one hop. Once only, so that its life is bounded.
    if !meta.looped
        && let Some(mut header) = Ipv4::at_mut(packet.bytes_mut(), usize::from(meta.parsed.l3))
    {
        let ttl = header.ttl();
        let sum = checksum::apply(header.checksum(), checksum::delta_u16(0, 0x0100));
        header.set_ttl(ttl.saturating_add(1));
        header.set_checksum(sum);
    }
    let Some((owner, entering)) = entrance(core, packet, meta.interface) else { return false };
    *meta = entering;
    steer::hand(core, burst, at, owner, entering.asked);
    core.handoff.ring(core.id);
    true
}

/// The worker that a packet for a port of a WAN IP of ours enters at, and what is known of it there.
fn entrance<P: Packet>(core: &Core<P>, packet: &P, interface: u16) -> Option<(WorkerId, Meta)> {
    let mut parsed = Parsed::default();
    wire::parse(packet.bytes(), packet.total_len(), &mut parsed).ok()?;
    let role = core.snapshot.fib.owner(parsed.key.dst).map(|owner| owner.role);
    let owner = core.snapshot.steering.owner(::steer::Role::Wan, &parsed.lookup_key());
    let asked = Asked::EVERYBODY;
    (role == Some(Role::WanIp))
        .then(|| (owner, Meta { parsed, interface, role, asked, looped: true, ..Meta::default() }))
}

/// An answer of ours to a packet that has come from another port of our WAN IPs: it goes back by the worker of that
/// one, which knows who has sent it.
#[cold]
pub(super) fn answer_looped<P: Packet>(core: &mut Core<P>, packet: P, interface: EthPortId) {
    let verdict = match entrance(core, &packet, interface.0) {
        None => Verdict::NoRoute,
        Some((owner, meta)) => match core.handoff.send(owner, packet, meta) {
            Ok(()) => Verdict::Handed,
            Err(_refused) => Verdict::HandoffFull,
        },
    };
    core.counters.ended(verdict, 1);
    core.handoff.ring(core.id);
}

/// Whether what goes to an address comes back to us: see [`loop_back`].
pub(super) fn loops_back<P: Packet>(core: &Core<P>, destination: u32) -> bool {
    core.snapshot.gateway.is_some()
        && core.snapshot.fib.owner(destination).is_some_and(|owner| owner.role == Role::WanIp)
}

/// Notes a SYN from outside that nobody expects; it ends without an answer for now (RFC 5382 REQ-4).
#[cold]
pub(super) fn hold_syn<P: Packet>(
    core: &mut Core<P>,
    burst: &mut Burst<P>,
    at: usize,
    verdict: Verdict,
    now: Now,
) {
    let Meta { parsed, looped, interface, .. } = *burst.meta(at);
    // One of an inside host that meets nobody is dropped; and so is one that nobody is to be told of (REQ-4 a).
    let silent = looped || core.snapshot.is_silent(EthPortId(interface));
    if let (Some(packet), Some(nat), false) = (burst.packet(at), &mut core.nat, silent) {
        let quote = packet.bytes().get(usize::from(parsed.l3)..parsed.ip_end());
        nat.hold_syn(&parsed.key, quote.unwrap_or_default(), now);
    }
    burst.end(at, verdict);
}

/// SYNs that one round looks at.
const SYNS: u32 = 16;

/// Answers SYNs that nobody expected for six seconds.
#[cold]
pub(crate) fn answer_syns<I: Io>(core: &mut Core<I::Packet>, io: &mut I, now: Now) {
    let mut budget = SYNS;
    loop {
        let Core { nat, table, .. } = core;
        let Some(nat) = nat else { return };
        let is_answered = |key: &types::FlowKey| table.lookup(key, table.hash(key)).is_some();
        let Some(syn) = nat.next_due_syn(now, &mut budget, is_answered) else { return };
        if !core.replies.may_tell(now) {
            continue;
        }
        core.counters.began(Source::Generated, 1);
        match io.allocate() {
            None => core.counters.ended(Verdict::NoBuffer, 1),
            Some(packet) => tell_unreachable(core, packet, syn.quote(), now),
        }
    }
}

/// Sends an ICMP port unreachable about a TCP packet that is gone but for its first bytes.
fn tell_unreachable<P: Packet>(core: &mut Core<P>, mut packet: P, quote: &[u8], now: Now) {
    let mut parsed = Parsed::default();
    let len = ethernet::LEN + quote.len();
    let written = packet.append(len) && {
        let (header, rest) = packet.bytes_mut().split_at_mut(ethernet::LEN);
        rest.copy_from_slice(quote);
        let none = MacAddr::default();
        ethernet::write(header, none, none, 0, ethernet::IPV4).is_some()
    };
    let key = Ipv4::at(packet.bytes(), ethernet::LEN)
        .map(|header| (header.source(), header.destination()));
    let told = written.then_some(key).flatten().and_then(|(src, dst)| {
        parsed.l3 = ethernet::LEN as u16;
        parsed.ip_total_len = quote.len() as u16;
        (parsed.key.src, parsed.key.dst) = (src, dst);
        let iface =
            core.snapshot.fib.route(src).filter(|route| route.kind == RouteKind::Unicast)?.iface;
        let source = core.snapshot.fib.icmp_source(EthPortId(iface.0))?;
        let message = ErrorMessage::unreachable(PORT_UNREACHABLE);
        wire::reply::icmp_error(&mut packet, &parsed, message, source).then_some(src)
    });
    match told {
        Some(destination) => {
            core.counters.add(Event::IcmpErrorMade, 1);
            send_routed(core, packet, destination, now);
        }
        None => core.counters.ended(Verdict::NoRoom, 1),
    }
}
