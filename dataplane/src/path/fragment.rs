//! Follows fragments: each gets from its packet's first one what is above IP, or waits for it. A part of
//! stage `parse`, on the worker where they arrive: all fragments of a packet come to the same one, since
//! what a NIC hashes of them is the addresses.

use nat::fragments::{End, First, PacketKey, Step};
use types::{BURST_MAX, Now, Packet, Verdict, map_v4};
use wire::{Ipv4, Kind, Parsed, Piece};

use crate::path::burst::{Burst, Mask, Meta, ones};
use crate::worker::Core;

/// Tracks the fragments of a burst: they go on, are kept, or end.
#[cold]
pub(super) fn track<P: Packet>(core: &mut Core<P>, burst: &mut Burst<P>, pieces: Mask, now: Now) {
    for at in ones(pieces & burst.live()) {
        let Some((packet, meta)) = burst.both(at) else { continue };
        let Some(header) = Ipv4::at(packet.bytes(), usize::from(meta.parsed.l3)) else {
            burst.end(at, Verdict::Internal);
            continue;
        };
        let piece = Piece::of_ipv4(header);
        let parsed = &mut meta.parsed;
        let len = parsed.ip_end().saturating_sub(usize::from(parsed.l4));
        let first = (piece.offset == 0).then(|| first_of(parsed));
        match core.fragments.track(&key_of(parsed, piece), piece, len, first, now) {
            Step::Pass(first) => follow(parsed, first),
            Step::Drop(verdict) => burst.end(at, verdict),
            Step::Wait(waiting) => {
                let kept = *burst.meta(at);
                let Some(packet) = burst.take(at) else { continue };
                if core.fragments.keep(waiting, (packet, kept), now).is_some() {
                    core.counters.ended(Verdict::NoFirstFragment, 1);
                }
            }
        }
    }
}

/// Fills a burst with fragments whose first one has come; those that have waited in vain end here.
#[cold]
pub(super) fn take_waited<P: Packet>(core: &mut Core<P>, burst: &mut Burst<P>) -> usize {
    let mut count = 0;
    while count < BURST_MAX {
        let Some(((packet, mut meta), end)) = core.fragments.take() else { break };
        match end {
            End::Pass(first) => {
                follow(&mut meta.parsed, first);
                burst.push(packet, meta);
                count += 1;
            }
            End::Drop(verdict) => core.counters.ended(verdict, 1),
        }
    }
    count
}

/// What identifies the packet that a fragment is of (RFC 791 §3.2).
fn key_of(parsed: &Parsed, piece: Piece) -> PacketKey {
    let key = parsed.key;
    PacketKey {
        src: map_v4(key.src),
        dst: map_v4(key.dst),
        ident: piece.ident,
        proto: key.proto,
        zone: key.zone,
    }
}

fn first_of(parsed: &Parsed) -> First {
    First {
        kind: parsed.kind,
        proto: parsed.key.proto,
        sport: parsed.key.sport,
        dport: parsed.key.dport,
        icmp_type: parsed.icmp_type,
    }
}

/// Gives a fragment the first one's tuple; the first one has it.
fn follow(parsed: &mut Parsed, first: First) {
    parsed.key.sport = first.sport;
    parsed.key.dport = first.dport;
    parsed.icmp_type = first.icmp_type;
    // What has no ports is the same in all of its fragments.
    if first.kind == Kind::OtherIp {
        parsed.kind = Kind::OtherIp;
    }
}

/// Whether a packet is the first of several fragments: nothing can be inserted into it then.
#[cold]
pub(super) fn is_first<P: Packet>(packet: &P, meta: &Meta) -> bool {
    Ipv4::at(packet.bytes(), usize::from(meta.parsed.l3))
        .is_some_and(|header| Piece::of_ipv4(header).more)
}
