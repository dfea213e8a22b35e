//! Stage `admit`: is it for an address of ours, or of the kernel's? ARP and echo are answered here.

use fib::{Heard, Role};
use types::{Address as _, EthPortId, Now, Packet, Proto, Verdict};
use wire::{Arp, Ethernet, Kind, arp, icmpv4};

use crate::path::burst::{Burst, ones};
use crate::path::{gateway, gateway_wan, punt, reply};
use crate::snapshot::ReversePath;
use crate::worker::Core;
use crate::worker::kernel::PuntClass;
use crate::worker::link::Event;

/// Lets through what is for a VIP or a LIP, answers what we answer, ends the rest.
#[inline]
pub fn admit<P: Packet>(core: &mut Core<P>, burst: &mut Burst<P>, now: Now) {
    let forwards = core.snapshot.gateway.is_some();
    for at in ones(burst.live()) {
        let meta = burst.meta(at);
        match core.snapshot.fib.owner(meta.parsed.key.dst) {
            Some(owner) if matches!(meta.parsed.kind, Kind::Tcp | Kind::Udp) => {
                if owner.role != Role::WanIp || !is_forged(core, burst, at) {
                    burst.meta_mut(at).role = Some(owner.role);
                }
            }
            None if meta.parsed.kind != Kind::Arp => others(core, burst, at, forwards, now),
            owner => unusual(core, burst, at, owner.map(|owner| owner.role), now),
        }
    }
}

/// What is for nobody of ours: the kernel's, or to be forwarded.
#[inline]
fn others<P: Packet>(
    core: &mut Core<P>,
    burst: &mut Burst<P>,
    at: usize,
    forwards: bool,
    now: Now,
) {
    if let Some(class) = punt::of_kernel(&core.snapshot, burst.meta(at)) {
        punt::punt(core, burst, at, class, now);
    } else if forwards {
        transit(core, burst, at);
    } else {
        burst.end(at, Verdict::NotOurs);
    }
}

/// What is for nobody of ours, where packets are forwarded.
#[inline]
fn transit<P: Packet>(core: &mut Core<P>, burst: &mut Burst<P>, at: usize) {
    burst.meta_mut(at).role = None;
    if is_forged(core, burst, at) {
        return;
    }
    let meta = burst.meta(at);
    match meta.parsed.kind {
        Kind::IcmpError => check_error(burst, at),
        // Neither query nor error: of the others none passes (RFC 5508 REQ-11).
        Kind::OtherIp if meta.parsed.key.proto == Proto::Icmp.number() => {
            burst.end(at, Verdict::BadIcmp);
        }
        _ => {}
    }
}

/// Whether a packet cannot have come from its source by this interface, if that is to be judged (RFC 3704);
/// it ends then.
#[inline]
fn is_forged<P: Packet>(core: &Core<P>, burst: &mut Burst<P>, at: usize) -> bool {
    let meta = burst.meta(at);
    let (src, in_dev) = (meta.parsed.key.src, EthPortId(meta.interface));
    let forged = core.snapshot.policy.reverse_path != ReversePath::Off
        && !gateway::passes_reverse_path(&core.snapshot, src, in_dev);
    if forged {
        burst.end(at, Verdict::ReversePath);
    }
    forged
}

/// Ends an ICMP error that is forged or damaged.
fn check_error<P: Packet>(burst: &mut Burst<P>, at: usize) {
    let Some((packet, meta)) = burst.both(at) else { return };
    // It goes to whom the quoted packet came from (RFC 1122 §3.2.2), or it is forged.
    let to_sender = meta.parsed.inner.dst == meta.parsed.key.dst;
    // RFC 5508 REQ-3: an error that was damaged on its way is dropped.
    let pulled = packet.pull(meta.parsed.ip_end());
    if !to_sender || !pulled || wire::verify_icmp(packet.bytes(), &meta.parsed).is_err() {
        burst.end(at, Verdict::BadIcmp);
    }
}

/// What is neither TCP nor UDP for an address of ours.
#[cold]
fn unusual<P: Packet>(
    core: &mut Core<P>,
    burst: &mut Burst<P>,
    at: usize,
    role: Option<Role>,
    now: Now,
) {
    match (burst.meta(at).parsed.kind, role) {
        (Kind::Arp, _) => answer_arp(core, burst, at, now),
        (_, Some(Role::WanIp)) if is_forged(core, burst, at) => {}
        (_, None) => burst.end(at, Verdict::NotOurs),
        (Kind::IcmpError, Some(role)) => {
            burst.meta_mut(at).role = Some(role);
            check_error(burst, at);
        }
        // Who moved the address elsewhere wants no answer of ours.
        (Kind::IcmpQuery, Some(Role::Leaving)) => burst.end(at, Verdict::NotOurs),
        (Kind::IcmpQuery, Some(Role::WanIp))
            if gateway_wan::may_hairpin_query(&core.snapshot, burst.meta(at)) =>
        {
            burst.meta_mut(at).role = role;
        }
        (Kind::IcmpQuery, _) => reply::echo(core, burst, at, now),
        (Kind::IcmpReply, Some(Role::WanIp)) => burst.meta_mut(at).role = role,
        (Kind::OtherIp, Some(Role::WanIp))
            if punt::of_ours(&core.snapshot, burst.meta(at), Role::WanIp).is_none()
                && burst.meta(at).parsed.key.proto != Proto::Icmp.number() =>
        {
            burst.meta_mut(at).role = role;
        }
        (Kind::Fragment, Some(role)) => piece(core, burst, at, role, now),
        (Kind::IcmpReply, Some(role)) => {
            let class = punt::of_ours(&core.snapshot, burst.meta(at), role);
            punt_or_end(core, burst, at, class, (Verdict::NoConn, now));
        }
        (_, Some(role)) => {
            let class = punt::of_ours(&core.snapshot, burst.meta(at), role);
            punt_or_end(core, burst, at, class, (Verdict::UnknownProtocol, now));
        }
    }
}

/// Gives a packet to the kernel if that is for it, ends it otherwise.
fn punt_or_end<P: Packet>(
    core: &mut Core<P>,
    burst: &mut Burst<P>,
    at: usize,
    class: Option<PuntClass>,
    (otherwise, now): (Verdict, Now),
) {
    match class {
        Some(class) => punt::punt(core, burst, at, class, now),
        None => burst.end(at, otherwise),
    }
}

/// A fragment but the first, for an address of ours: as its first one, of which it has the tuple.
fn piece<P: Packet>(core: &mut Core<P>, burst: &mut Burst<P>, at: usize, role: Role, now: Now) {
    let parsed = &burst.meta(at).parsed;
    if parsed.key.proto != Proto::Icmp.number() {
        burst.meta_mut(at).role = Some(role);
        return;
    }
    match (parsed.icmp_type, role) {
        (icmpv4::ECHO_REQUEST, Role::Leaving) => burst.end(at, Verdict::NotOurs),
        (icmpv4::ECHO_REQUEST, _) => reply::echo(core, burst, at, now),
        (_, Role::WanIp) => burst.meta_mut(at).role = Some(role),
        _ => burst.end(at, Verdict::NoConn),
    }
}

fn is_to_one_station<P: Packet>(packet: &P) -> bool {
    Ethernet::new_checked(packet.bytes()).is_some_and(|header| !header.destination().is_multicast())
}

/// Answers a request for an address of this interface; tells control, and the kernel if it has to know,
/// who spoke.
fn answer_arp<P: Packet>(core: &mut Core<P>, burst: &mut Burst<P>, at: usize, now: Now) {
    let meta = burst.meta(at);
    let interface = EthPortId(meta.interface);
    let ours = core.snapshot.interfaces.get(usize::from(meta.interface)).map(|ours| ours.mac);
    let header = burst
        .packet(at)
        .and_then(|packet| Arp::at(packet.bytes(), usize::from(meta.parsed.l3)))
        .map(|header| (header.sender_ip(), header.sender_mac(), header.operation()));
    let (Some(ours), Some((sender, mac, operation))) = (ours, header) else {
        burst.end(at, Verdict::Internal);
        return;
    };
    if mac.is_multicast() || mac.is_zero() || mac == ours {
        burst.end(at, Verdict::BadArp);
        return;
    }
    let asked = core.snapshot.fib.owner(meta.parsed.key.dst);
    // One that leaves may be another node's by now. Who knows it here already and asks us alone
    // (RFC 1122 §2.3.2.1) may keep it for its open conns.
    let is_probe = || burst.packet(at).is_some_and(is_to_one_station);
    let for_us = core.snapshot.fib.answers(interface, meta.parsed.key.dst)
        && (asked.is_none_or(|asked| asked.role != Role::Leaving) || is_probe());
    let how = match operation {
        arp::REPLY if for_us => Heard::Reply,
        arp::REQUEST if for_us => Heard::Request,
        _ => Heard::Gratuitous,
    };
    // A sender of 0.0.0.0 probes for duplicates (RFC 5227) and tells nothing of itself.
    let told =
        sender == 0 || core.told(Event::Learned { interface, address: sender.to_ip(), mac, how });
    match how {
        Heard::Request => reply::arp(core, burst, at, ours),
        _ if punt::wants_arp(core, burst, at) => {
            punt::punt(core, burst, at, PuntClass::Neighbour, now);
        }
        _ if told => burst.end(at, Verdict::Punted),
        _ => burst.end(at, Verdict::PuntFull),
    }
}
