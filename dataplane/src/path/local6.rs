//! Stage `admit` of the wide burst: neighbour discovery, echo, and the queries of multicast routers are answered
//! here.
//!
//! Neighbour discovery is to IPv6 what ARP is to IPv4, and is done as that is: questions are answered here,
//! from the snapshot, and control hears who spoke. What arrives from beyond the link has passed a router
//! and has another hop limit than 255: the parser ends it (RFC 4861 §3.1).

use fib::{Heard, Role};
use types::{Address as _, EthPortId, MacAddr, Now, Packet, Verdict};
use wire::ndp::{AdvertisementFlags, Message};
use wire::{Ethernet, Kind, Parsed6, icmpv6};

use crate::path::burst::{Burst, ones};
use crate::path::reply;
use crate::worker::Core;
use crate::worker::link::Event;

/// Lets through what is for a VIP or a LIP, answers what we answer, ends the rest.
#[inline]
pub(super) fn admit<P: Packet>(core: &mut Core<P>, burst: &mut Burst<P, u128>, now: Now) {
    for at in ones(burst.live()) {
        let parsed = &burst.meta(at).parsed;
        match core.snapshot.fib.owner(parsed.key.dst) {
            Some(owner) if is_carried(parsed) => burst.meta_mut(at).role = Some(owner.role),
            _ => unusual(core, burst, at, now),
        }
    }
}

/// Whether it is of what services carry, or a later piece of that.
#[inline(always)]
fn is_carried(parsed: &Parsed6) -> bool {
    matches!(parsed.kind, Kind::Tcp | Kind::Udp)
        || parsed.kind == Kind::Fragment && parsed.key.proto != icmpv6::PROTOCOL
}

/// What is neither TCP nor UDP, or to no address of ours that others know.
#[cold]
fn unusual<P: Packet>(core: &mut Core<P>, burst: &mut Burst<P, u128>, at: usize, now: Now) {
    let parsed = burst.meta(at).parsed;
    // What ends here is small: it may as well be in one piece.
    if !burst.both(at).is_some_and(|(packet, _)| packet.pull(parsed.ip_end())) {
        burst.end(at, Verdict::NoRoom);
    } else if wire::ipv6::is_multicast(parsed.key.dst) {
        to_group(core, burst, at, &parsed);
    } else {
        to_address(core, burst, at, &parsed, now);
    }
}

/// Ethernet destination and source.
fn station<P: Packet>(packet: &P) -> Option<(MacAddr, MacAddr)> {
    let header = Ethernet::new_checked(packet.bytes())?;
    Some((header.destination(), header.source()))
}

/// Neighbours and multicast routers speak to groups, and nobody else to us.
fn to_group<P: Packet>(
    core: &mut Core<P>,
    burst: &mut Burst<P, u128>,
    at: usize,
    parsed: &Parsed6,
) {
    if parsed.kind == Kind::Ndp {
        discover(core, burst, at, parsed);
        return;
    }
    let query = burst.packet(at).and_then(|packet| wire::mld::read_query(packet.bytes(), parsed));
    let Some(wire::mld::Query { max_delay_ms, group }) = query else {
        burst.end(at, Verdict::NotOurs);
        return;
    };
    let interface = EthPortId(burst.meta(at).interface);
    let told = core.told(Event::Queried { interface, group, max_delay_ms });
    burst.end(at, if told { Verdict::Punted } else { Verdict::PuntFull });
}

fn to_address<P: Packet>(
    core: &mut Core<P>,
    burst: &mut Burst<P, u128>,
    at: usize,
    parsed: &Parsed6,
    now: Now,
) {
    let interface = EthPortId(burst.meta(at).interface);
    let role = core.snapshot.fib.owner_on(interface, parsed.key.dst).map(|owner| owner.role);
    let verdict = match (parsed.kind, role) {
        (_, None) => Verdict::NotOurs,
        (Kind::Ndp, _) => return discover(core, burst, at, parsed),
        // Who moved the address elsewhere wants no answer of ours.
        (Kind::IcmpQuery, Some(Role::Leaving)) => Verdict::NotOurs,
        (Kind::IcmpQuery, _) => return reply::echo6(core, burst, at, now),
        (Kind::IcmpReply, _) => Verdict::NoConn,
        (Kind::IcmpError, role) => return check_error(burst, at, role),
        (Kind::Fragment, role) if parsed.key.proto == icmpv6::PROTOCOL => {
            match (parsed.icmp_type, role) {
                (icmpv6::ECHO_REQUEST, Some(Role::Leaving)) => Verdict::NotOurs,
                (icmpv6::ECHO_REQUEST, _) => return reply::echo6(core, burst, at, now),
                _ => Verdict::NoConn,
            }
        }
        (Kind::Tcp | Kind::Udp | Kind::Fragment, role) => {
            burst.meta_mut(at).role = role;
            return;
        }
        (Kind::OtherIp | Kind::Arp, _) => Verdict::UnknownProtocol,
    };
    burst.end(at, verdict);
}

/// Ends an ICMPv6 error that is forged or damaged.
fn check_error<P: Packet>(burst: &mut Burst<P, u128>, at: usize, role: Option<Role>) {
    let Some((packet, meta)) = burst.both(at) else { return };
    meta.role = role;
    // It goes to whom the quoted packet came from, or it is forged.
    let to_sender = meta.parsed.inner.dst == meta.parsed.key.dst;
    if !to_sender || wire::verify_icmp6(packet.bytes(), &meta.parsed).is_err() {
        burst.end(at, Verdict::BadIcmp);
    }
}

/// A message of neighbour discovery.
fn discover<P: Packet>(
    core: &mut Core<P>,
    burst: &mut Burst<P, u128>,
    at: usize,
    parsed: &Parsed6,
) {
    let packet = burst.packet(at);
    let message = packet.map(|packet| (wire::ndp::read(packet.bytes(), parsed), station(packet)));
    match message {
        Some((Ok(message), Some((_, from)))) => match message {
            Message::NeighbourSolicitation { source_mac, .. } => {
                asked(core, burst, at, parsed, (&message, source_mac));
            }
            Message::NeighbourAdvertisement { target, target_mac, flags } => {
                told_of(core, burst, at, target, (target_mac, from), flags);
            }
            // Our routes are configured, and so are our addresses.
            Message::RouterSolicitation { .. }
            | Message::RouterAdvertisement(_)
            | Message::Redirect => burst.end(at, Verdict::NotOurs),
        },
        Some((Err(verdict), _)) => burst.end(at, verdict),
        _ => burst.end(at, Verdict::Internal),
    }
}

/// Answers a question for an address of this interface; tells control who asks.
fn asked<P: Packet>(
    core: &mut Core<P>,
    burst: &mut Burst<P, u128>,
    at: usize,
    parsed: &Parsed6,
    (message, source_mac): (&Message, Option<MacAddr>),
) {
    let &Message::NeighbourSolicitation { target, .. } = message else { return };
    let interface = EthPortId(burst.meta(at).interface);
    let ours = core.snapshot.interfaces.get(usize::from(interface.0)).map(|ours| ours.mac);
    let Some(ours) = ours.filter(|ours| source_mac != Some(*ours)) else {
        burst.end(at, Verdict::BadNdp);
        return;
    };
    // One that leaves may be another node's by now. Who knows it here already and asks us alone may keep it
    // for its open conns.
    let is_probe = !wire::ipv6::is_multicast(parsed.key.dst);
    let owner = core.snapshot.fib.owner_on(interface, target);
    let for_us = owner
        .is_some_and(|owner| owner.iface == interface && (owner.role != Role::Leaving || is_probe));
    let asker = parsed.key.src;
    let claims_ours = core.snapshot.fib.answers(interface, asker);
    let heard = if for_us { Heard::Request } else { Heard::Gratuitous };
    // Who has no address yet tells nothing of itself; who asks others tells what control need not know, unless
    // it is that it has an address of ours.
    if let Some(mac) = source_mac.filter(|_| asker != 0 && (for_us || claims_ours)) {
        core.told(Event::Learned { interface, address: asker.to_ip(), mac, how: heard });
    }
    if for_us {
        reply::advertise(core, burst, at, (message, ours));
    } else {
        burst.end(at, Verdict::NotOurs);
    }
}

/// A neighbour says where an address is.
fn told_of<P: Packet>(
    core: &mut Core<P>,
    burst: &mut Burst<P, u128>,
    at: usize,
    target: u128,
    (target_mac, from): (Option<MacAddr>, MacAddr),
    flags: AdvertisementFlags,
) {
    let interface = EthPortId(burst.meta(at).interface);
    let ours = core.snapshot.interfaces.get(usize::from(interface.0)).map(|ours| ours.mac);
    // An answer to a question that went to one station need not say where that is (RFC 4861 §4.4).
    let mac = target_mac.unwrap_or(from);
    if Some(mac) == ours {
        burst.end(at, Verdict::BadNdp);
        return;
    }
    let is_known = target_mac.is_some();
    let how = match flags {
        AdvertisementFlags { solicited: true, overrides: true, .. } if is_known => Heard::Reply,
        AdvertisementFlags { solicited: true, .. } => Heard::WeakReply,
        AdvertisementFlags { overrides: true, .. } if is_known => Heard::Gratuitous,
        // It changes nothing that is known (§7.2.5), unless it is that an address is ours.
        _ if core.snapshot.fib.answers(interface, target) => Heard::Gratuitous,
        _ => {
            burst.end(at, Verdict::NotOurs);
            return;
        }
    };
    let told = core.told(Event::Learned { interface, address: target.to_ip(), mac, how });
    burst.end(at, if told { Verdict::Punted } else { Verdict::PuntFull });
}
