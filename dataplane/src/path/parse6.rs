//! Stage `parse` of the wide burst: what came as IPv6.

use counters::Event;
use types::{Now, Packet, Verdict};
use wire::{Ethernet, ParseError, Parsed6};

use crate::path::burst::{Burst, Mask, Meta, ones};
use crate::path::fragment;
use crate::path::parse::pull;
use crate::snapshot::Interface;
use crate::worker::Core;

/// No packet has more headers than Ethernet, IPv6 and its extensions, ICMPv6 and a quoted packet's.
const PULLS: usize = 8;

/// Parses all packets of the burst.
pub(super) fn parse<P: Packet>(core: &mut Core<P>, burst: &mut Burst<P, u128>, now: Now) {
    let mut pieces: Mask = 0;
    for at in ones(burst.live()) {
        let Some((packet, meta)) = burst.both(at) else { continue };
        let interface = core.snapshot.interfaces.get(usize::from(meta.interface));
        let result = match parse_one(packet, meta, interface) {
            Err(ParseError::Pull(len)) => {
                core.counters.add(Event::Copied, 1);
                pull_and_parse(packet, meta, interface, usize::from(len))
            }
            other => other,
        };
        match result {
            // Everything from here on changes checksums by differences, so there must be one.
            Ok(()) if packet.l4_checksum_unfinished() => {
                wire::finish_l4_checksum6(packet, &meta.parsed);
                core.counters.add(Event::ChecksumFinished, 1);
            }
            Ok(()) => {}
            Err(ParseError::Drop(verdict)) => burst.end(at, verdict),
            Err(ParseError::Fragment) => pieces |= 1 << at,
            Err(ParseError::Pull(_) | ParseError::Ipv6) => burst.end(at, Verdict::Malformed),
        }
    }
    if pieces != 0 {
        fragment::track(core, burst, pieces, now);
    }
}

/// Parses one packet; what is for another station ends here.
pub(super) fn parse_one<P: Packet>(
    packet: &P,
    meta: &mut Meta<u128>,
    interface: Option<&Interface>,
) -> Result<(), ParseError> {
    let read = wire::parse6(packet.bytes(), packet.total_len(), &mut meta.parsed);
    if !matches!(read, Ok(()) | Err(ParseError::Fragment)) {
        return read;
    }
    if usize::from(meta.parsed.l3) != wire::ethernet::LEN {
        return Err(ParseError::Drop(Verdict::UnknownEtherType));
    }
    if is_to_us(packet, &meta.parsed, interface) {
        read
    } else {
        Err(ParseError::Drop(Verdict::OtherStation))
    }
}

/// Whether a frame is for us: to our station, or to a group of IPv6's by one of Ethernet's.
fn is_to_us<P: Packet>(packet: &P, parsed: &Parsed6, interface: Option<&Interface>) -> bool {
    let Some(header) = Ethernet::new_checked(packet.bytes()) else { return false };
    let destination = header.destination();
    interface.is_some_and(|ours| ours.mac == destination)
        || destination.is_multicast() && wire::ipv6::is_multicast(parsed.key.dst)
}

/// Headers that are spread over segments are copied together.
#[cold]
pub(super) fn pull_and_parse<P: Packet>(
    packet: &mut P,
    meta: &mut Meta<u128>,
    interface: Option<&Interface>,
    len: usize,
) -> Result<(), ParseError> {
    pull(packet, len, PULLS, |packet| parse_one(packet, meta, interface))
}
