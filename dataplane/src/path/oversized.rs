//! Cuts packets that are larger than their way out takes into fragments. A part of the stage that sends them.
//!
//! The packet's own buffer becomes the first fragment, so that it has one verdict as any other; the later ones
//! are packets of ours.

use counters::{Event, Source};
use types::{Io, Now, Packet, Verdict};
use wire::Cut;

use crate::path::burst::Burst;
use crate::path::egress::send_routed;
use crate::path::lane::Lane;
use crate::path::rewrite::mtu_towards;
use crate::path::transmit::keep_room;
use crate::worker::Core;

/// Fragments of one packet, at most: so many has the longest one, with any options, where the MTU is the 576
/// bytes that every host takes (RFC 791 §3.1). Narrower ways cut what is shorter.
const FRAGMENTS_MAX: usize = 128;
/// Those but the first.
const LATER_MAX: usize = FRAGMENTS_MAX - 1;

/// Whether the packet of IPv4 whose header is at `l3` may be cut, and into few enough fragments.
#[cold]
pub(super) fn can_be_cut<P: Packet>(packet: &P, l3: usize, mtu: u16) -> bool {
    cut_of(packet, l3, mtu).is_some()
}

fn cut_of<P: Packet>(packet: &P, l3: usize, mtu: u16) -> Option<Cut> {
    Cut::new(packet.bytes(), l3, mtu).filter(|cut| cut.later() <= LATER_MAX)
}

/// Sends a live packet, otherwise finished, in fragments by the route to `destination`: all of them, or none
/// if there are no buffers for all.
#[cold]
pub(super) fn send<I: Io, A: Lane>(
    core: &mut Core<I::Packet>,
    io: &mut I,
    burst: &mut Burst<I::Packet, A>,
    at: usize,
    destination: A,
    now: Now,
) {
    let Some(packet) = burst.packet(at) else { return };
    let mut later = [const { None }; LATER_MAX];
    let l3 = usize::from(burst.meta(at).parsed.l3);
    let cut = cut_of(packet, l3, mtu_towards(core, destination)).ok_or(Verdict::TooBig);
    let cut = match cut.and_then(|cut| write(io, packet, &cut, &mut later).map(|()| cut)) {
        Ok(cut) => cut,
        Err(verdict) => return burst.end(at, verdict),
    };
    let Some(mut packet) = burst.take(at) else { return };
    cut.shorten(&mut packet);
    core.counters.add(Event::Fragmented, 1);
    core.counters.began(Source::Generated, cut.later() as u64);
    for fragment in std::iter::once(packet).chain(later.into_iter().flatten()) {
        keep_room(core, io);
        send_routed(core, fragment, destination, now);
    }
}

/// Writes all fragments but the first.
fn write<I: Io>(
    io: &mut I,
    packet: &I::Packet,
    cut: &Cut,
    later: &mut [Option<I::Packet>; LATER_MAX],
) -> Result<(), Verdict> {
    for (n, place) in later.iter_mut().take(cut.later()).enumerate() {
        let mut fragment = io.allocate().ok_or(Verdict::NoBuffer)?;
        cut.write(packet, n, &mut fragment)?;
        if let Some(tci) = packet.tag() {
            fragment.note_tag(tci);
        }
        *place = Some(fragment);
    }
    Ok(())
}
