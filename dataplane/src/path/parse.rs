//! Stage `parse`: reads L2, L3 and L4 once, to the flow key and the offsets that all others use.

use types::{Now, Packet, Verdict};
use wire::{Ethernet, ParseError};

use crate::path::burst::{Burst, Mask, Meta, ones};
use crate::path::{fragment, punt, vlan};
use crate::snapshot::Interface;
use crate::worker::Core;

/// So many packets ahead the headers are asked into the cache.
const AHEAD: usize = 6;

/// Parses all packets of the burst. Those of IPv6 change to the wide one, where they are parsed next.
#[inline]
pub fn parse<P: Packet>(core: &mut Core<P>, burst: &mut Burst<P>, now: Now) {
    let mut pieces: Mask = 0;
    let mut refused: Mask = 0;
    let snapshot = &core.snapshot;
    let mut ipv6: Mask = 0;
    for at in 0..AHEAD {
        prefetch(burst, at);
    }
    for at in ones(burst.live()) {
        prefetch(burst, at + AHEAD);
        let Some((packet, meta)) = burst.both(at) else { continue };
        if vlan::is_tagged(packet)
            && let Err(verdict) = vlan::take_out(&snapshot.vlans, &mut core.counters, packet, meta)
        {
            burst.end(at, verdict);
            continue;
        }
        let interface = snapshot.interfaces.get(usize::from(meta.interface));
        let result = match parse_one(packet, meta, interface) {
            Err(ParseError::Pull(len)) => {
                core.counters.add(counters::Event::Copied, 1);
                pull_and_parse(packet, meta, interface, usize::from(len))
            }
            other => other,
        };
        match result {
            // Everything from here on changes checksums by differences, so there must be one.
            Ok(()) if packet.l4_checksum_unfinished() => {
                wire::finish_l4_checksum(packet, &meta.parsed);
                core.counters.add(counters::Event::ChecksumFinished, 1);
            }
            Ok(()) => {}
            Err(ParseError::Drop(_)) if interface.is_some_and(|ours| ours.kni) => {
                refused |= 1 << at;
            }
            Err(ParseError::Fragment) if punt::of_kernel_only(snapshot, meta) => refused |= 1 << at,
            Err(ParseError::Drop(verdict)) => burst.end(at, verdict),
            Err(ParseError::Pull(_)) => burst.end(at, Verdict::Malformed),
            Err(ParseError::Fragment) => pieces |= 1 << at,
            Err(ParseError::Ipv6) => ipv6 |= 1 << at,
        }
    }
    if pieces != 0 {
        fragment::track(core, burst, pieces, now);
    }
    for at in ones(ipv6) {
        core.wide.enter(burst, at);
    }
    for at in ones(refused) {
        punt::refused(core, burst, at, now);
    }
}

#[inline(always)]
fn prefetch<P: Packet>(burst: &Burst<P>, at: usize) {
    if let Some(packet) = burst.packet(at) {
        packet.prefetch();
    }
}

/// Parses one packet; what is addressed to another station ends here.
#[inline(always)]
pub(super) fn parse_one<P: Packet>(
    packet: &P,
    meta: &mut Meta,
    interface: Option<&Interface>,
) -> Result<(), ParseError> {
    let bytes = packet.bytes();
    let read = wire::parse(bytes, packet.total_len(), &mut meta.parsed);
    if !matches!(read, Ok(()) | Err(ParseError::Fragment)) {
        return read;
    }
    if usize::from(meta.parsed.l3) != wire::ethernet::LEN {
        return Err(ParseError::Drop(Verdict::UnknownEtherType));
    }
    let to_us = Ethernet::new_checked(bytes).zip(interface).is_some_and(|(header, interface)| {
        let destination = header.destination();
        // RFC 1812 §5.3.4: what came by an Ethernet group is not forwarded.
        destination == interface.mac
            || meta.parsed.kind == wire::Kind::Arp && destination.is_multicast()
    });
    if to_us { read } else { Err(ParseError::Drop(Verdict::OtherStation)) }
}

/// No packet has more headers than Ethernet, IPv4, ICMP and a quoted pair of headers.
const PULLS: usize = 6;

/// Headers that are spread over segments are copied together.
#[cold]
pub(super) fn pull_and_parse<P: Packet>(
    packet: &mut P,
    meta: &mut Meta,
    interface: Option<&Interface>,
    len: usize,
) -> Result<(), ParseError> {
    pull(packet, len, PULLS, |packet| parse_one(packet, meta, interface))
}

/// Copies headers together until they can be parsed, `pulls` times at most. Each time asks for more than the one before.
pub(super) fn pull<P: Packet>(
    packet: &mut P,
    mut len: usize,
    pulls: usize,
    mut parse_one: impl FnMut(&P) -> Result<(), ParseError>,
) -> Result<(), ParseError> {
    for _ in 0..pulls {
        if !packet.pull(len) {
            return Err(ParseError::Drop(Verdict::NoRoom));
        }
        match parse_one(packet) {
            Err(ParseError::Pull(more)) if usize::from(more) > len => len = usize::from(more),
            other => return other,
        }
    }
    Err(ParseError::Drop(Verdict::Malformed))
}
