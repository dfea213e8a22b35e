//! Follows fragments: each gets from its packet's first one what is above IP, or waits for it. A part of
//! stage `parse`, on the worker where they arrive: all fragments of a packet come to the same one, since
//! what a NIC hashes of them is the addresses.

use nat::fragments::{End, First, Fragments, PacketKey, Step};
use types::{Address, BURST_MAX, Now, Packet, Verdict, map_v4};
use wire::{Ipv4, Ipv6, Kind, Parsed, Parsed6, Piece, extension};

use crate::path::burst::{Burst, Mask, Meta, ones};
use crate::path::lane::Lane;
use crate::worker::Core;

/// A family's fragments.
pub(super) trait Fragmented: Lane {
    /// Those that are under way.
    fn fragments<P>(core: &mut Core<P>) -> &mut Fragments<(P, Meta<Self>)>;

    /// What a fragment is, how many bytes of its packet it has, and which packet that is.
    fn piece_of(bytes: &[u8], parsed: &Parsed<Self>) -> Option<(Piece, usize, PacketKey)>;
}

impl Fragmented for u32 {
    fn fragments<P>(core: &mut Core<P>) -> &mut Fragments<(P, Meta)> {
        &mut core.fragments
    }

    /// RFC 791 §3.2.
    fn piece_of(bytes: &[u8], parsed: &Parsed) -> Option<(Piece, usize, PacketKey)> {
        let piece = Piece::of_ipv4(Ipv4::at(bytes, parsed.l3.into())?);
        let len = parsed.ip_end().saturating_sub(parsed.l4.into());
        let key = parsed.key;
        let packet = PacketKey {
            src: map_v4(key.src),
            dst: map_v4(key.dst),
            ident: piece.ident,
            proto: key.proto,
            zone: key.zone,
        };
        Some((piece, len, packet))
    }
}

impl Fragmented for u128 {
    fn fragments<P>(core: &mut Core<P>) -> &mut Fragments<(P, Meta<Self>)> {
        &mut core.wide.fragments
    }

    /// RFC 8200 §4.5: what is counted begins behind the fragment header.
    fn piece_of(bytes: &[u8], parsed: &Parsed6) -> Option<(Piece, usize, PacketKey)> {
        let l3 = usize::from(parsed.l3);
        let first = Ipv6::at(bytes, l3)?.next_header();
        let at = extension::chain(bytes, l3, parsed.ip_end(), first).ok()?.fragment?;
        let piece = Piece::at(bytes, at)?;
        let len = parsed.ip_end().saturating_sub(at + extension::FRAGMENT_LEN);
        let key = parsed.key;
        let packet =
            PacketKey { src: key.src, dst: key.dst, ident: piece.ident, proto: 0, zone: key.zone };
        Some((piece, len, packet))
    }
}

/// Tracks the fragments of a burst: they go on, are kept, or end.
#[cold]
pub(super) fn track<P: Packet, A: Fragmented>(
    core: &mut Core<P>,
    burst: &mut Burst<P, A>,
    pieces: Mask,
    now: Now,
) {
    for at in ones(pieces & burst.live()) {
        let Some((packet, meta)) = burst.both(at) else { continue };
        let parsed = &mut meta.parsed;
        let Some((piece, len, key)) = A::piece_of(packet.bytes(), parsed) else {
            burst.end(at, Verdict::Internal);
            continue;
        };
        let first = (piece.offset == 0).then(|| first_of(parsed));
        match A::fragments(core).track(&key, piece, len, first, now) {
            Step::Pass(first) => follow(parsed, first),
            Step::Drop(verdict) => burst.end(at, verdict),
            Step::Wait(waiting) => {
                let kept = *burst.meta(at);
                let Some(packet) = burst.take(at) else { continue };
                if A::fragments(core).keep(waiting, (packet, kept), now).is_some() {
                    core.counters.ended(Verdict::NoFirstFragment, 1);
                }
            }
        }
    }
}

/// Fills a burst with fragments whose first one has come; those that have waited in vain end here.
#[cold]
pub(super) fn take_waited<P: Packet, A: Fragmented>(
    core: &mut Core<P>,
    burst: &mut Burst<P, A>,
) -> usize {
    let mut count = 0;
    while count < BURST_MAX {
        let Some(((packet, mut meta), end)) = A::fragments(core).take() else { break };
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

fn first_of<A: Address>(parsed: &Parsed<A>) -> First {
    First {
        kind: parsed.kind,
        proto: parsed.key.proto,
        sport: parsed.key.sport,
        dport: parsed.key.dport,
        icmp_type: parsed.icmp_type,
    }
}

/// Gives a fragment the first one's tuple; the first one has it.
fn follow<A: Address>(parsed: &mut Parsed<A>, first: First) {
    // In IPv6 other headers may stand between the fragment's and the transport's.
    parsed.key.proto = first.proto;
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
pub(super) fn is_first<P: Packet>(packet: &P, parsed: &Parsed) -> bool {
    Ipv4::at(packet.bytes(), usize::from(parsed.l3))
        .is_some_and(|header| Piece::of_ipv4(header).more)
}

/// The same of IPv6.
pub(super) fn is_first6<P: Packet>(packet: &P, parsed: &Parsed6) -> bool {
    usize::from(parsed.l4) != usize::from(parsed.l3) + wire::ipv6::LEN
        && u128::piece_of(packet.bytes(), parsed).is_some_and(|(piece, ..)| piece.more)
}
