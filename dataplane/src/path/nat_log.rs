//! Records of mappings and sessions of the gateway, if they are to be logged.

use flow::LeaseKind;
use nat::NatState;
use nat::mapping::{Endpoint32, Mapping};
use nat::state::{Held, Traffic};
use types::{Now, Packet};

use crate::snapshot::NatEvents;
use crate::worker::Core;
use crate::worker::nat_log::{Kind, NatRecord};

/// Packets of a conn that are counted before they have to be added to the rule's: half of what its flow can
/// count.
pub(super) const COUNTED_MAX: u32 = 1 << 31;

/// The outside endpoint that a conn's source has, if it is translated.
fn source(held: &Held) -> Option<Endpoint32> {
    let outside = Endpoint32::new(held.new_key.src, held.new_key.sport);
    (held.key.src != held.new_key.src).then_some(outside)
}

/// The mappings of a conn's source and destination, if it has such.
fn mappings<P: Packet>(core: &Core<P>, held: &Held) -> [Option<Mapping>; 2] {
    let shared = matches!(held.lease, LeaseKind::Mapping | LeaseKind::Unanswered);
    let Some(nat) = core.nat.as_ref().filter(|_| shared) else { return [None; 2] };
    let translated = held.key.dst != held.new_key.dst;
    let target = translated.then(|| Endpoint32::new(held.key.dst, held.key.dport));
    // A hairpinned query has a WAN IP for source, but no port of its own.
    let source = source(held).filter(|_| held.lease == LeaseKind::Mapping);
    [source, target].map(|outside| {
        let id = nat.mappings().find_outside(outside?, held.key.proto)?;
        nat.mappings().get(id).copied()
    })
}

/// A record of a conn, seen from its inside end.
fn record(kind: Kind, held: &Held, now: Now) -> NatRecord {
    let (key, new_key) = (&held.key, &held.new_key);
    let (inside, outside, remote) = match source(held) {
        Some(outside) => {
            let inside = Endpoint32::new(key.src, key.sport);
            (inside, outside, Endpoint32::new(key.dst, key.dport))
        }
        None => (
            Endpoint32::new(new_key.dst, new_key.dport),
            Endpoint32::new(key.dst, key.dport),
            Endpoint32::new(key.src, key.sport),
        ),
    };
    NatRecord {
        kind,
        tick_ms: now.tick_ms,
        proto: key.proto,
        inside,
        outside,
        remote,
        rule: held.slot,
        sent: (0, 0),
        received: (0, 0),
    }
}

/// A record of a mapping, which names no remote (RFC 6888 REQ-12).
fn of_mapping(kind: Kind, mapping: &Mapping, now: Now) -> NatRecord {
    NatRecord {
        kind,
        tick_ms: now.tick_ms,
        proto: mapping.proto,
        inside: mapping.inside,
        outside: mapping.outside,
        remote: Endpoint32::default(),
        rule: mapping.rule,
        sent: (0, 0),
        received: (0, 0),
    }
}

/// Whether a conn has an outside endpoint that no mapping stands for: one for its remote only.
fn has_own_source(held: &Held) -> bool {
    matches!(held.lease, LeaseKind::None | LeaseKind::Wan) && source(held).is_some()
}

/// A conn of the gateway has got what it needs, and so perhaps a new mapping.
pub(super) fn reserved<P: Packet>(core: &mut Core<P>, held: &Held, now: Now) {
    if core.snapshot.policy.nat_log != NatEvents::Mappings {
        return;
    }
    if has_own_source(held) {
        let record = record(Kind::MappingCreated, held, now);
        core.log_nat(NatRecord { remote: Endpoint32::default(), ..record });
        return;
    }
    let [source, _] = mappings(core, held);
    // The conn that is its first one has made it, unless remotes kept its place.
    if let Some(mapping) = source.filter(|mapping| mapping.conns == 1 && mapping.unanswered == 0) {
        core.log_nat(of_mapping(Kind::MappingCreated, &mapping, now));
    }
}

/// A conn has come from elsewhere, perhaps with a mapping: whoever reads this log has not seen it begin.
pub(crate) fn imported<P: Packet>(core: &mut Core<P>, held: &Held, now: Now) {
    match core.snapshot.policy.nat_log {
        NatEvents::Off => {}
        NatEvents::Sessions => opened(core, held, now),
        NatEvents::Mappings if has_own_source(held) => reserved(core, held, now),
        NatEvents::Mappings => {
            let is_first = |mapping: &Mapping| mapping.conns == 1 && mapping.unanswered == 0;
            for mapping in mappings(core, held).iter().flatten().filter(|found| is_first(found)) {
                core.log_nat(of_mapping(Kind::MappingCreated, mapping, now));
            }
        }
    }
}

/// The mappings that a conn may take along: to be asked before it gives back what it holds.
pub(super) fn before_release<P: Packet>(core: &Core<P>, held: &Held) -> [Option<Mapping>; 2] {
    match core.snapshot.policy.nat_log {
        NatEvents::Mappings => mappings(core, held),
        NatEvents::Off | NatEvents::Sessions => [None; 2],
    }
}

/// A conn has given back what it held, of which these were mappings.
pub(super) fn released<P: Packet>(
    core: &mut Core<P>,
    held: &Held,
    before: [Option<Mapping>; 2],
    now: Now,
) {
    if core.snapshot.policy.nat_log != NatEvents::Mappings {
        return;
    }
    if has_own_source(held) {
        let record = record(Kind::MappingDeleted, held, now);
        core.log_nat(NatRecord { remote: Endpoint32::default(), ..record });
        return;
    }
    for mapping in before.iter().flatten() {
        let find = |nat: &NatState| nat.mappings().find_outside(mapping.outside, mapping.proto);
        if core.nat.as_deref().and_then(find).is_none() {
            core.log_nat(of_mapping(Kind::MappingDeleted, mapping, now));
        }
    }
}

/// A conn that has got what it needs does not come to be: its mapping goes again if it was the first one.
pub(super) fn abandoned<P: Packet>(core: &mut Core<P>, held: &Held, now: Now) {
    if core.snapshot.policy.nat_log != NatEvents::Mappings {
        return;
    }
    if has_own_source(held) {
        let record = record(Kind::MappingDeleted, held, now);
        core.log_nat(NatRecord { remote: Endpoint32::default(), ..record });
        return;
    }
    let [source, _] = mappings(core, held);
    if let Some(mapping) = source.filter(|mapping| mapping.conns == 1 && mapping.unanswered == 0) {
        core.log_nat(of_mapping(Kind::MappingDeleted, &mapping, now));
    }
}

/// A conn has been opened.
pub(super) fn opened<P: Packet>(core: &mut Core<P>, held: &Held, now: Now) {
    if core.snapshot.policy.nat_log == NatEvents::Sessions {
        core.log_nat(record(Kind::SessionCreated, held, now));
    }
}

/// A conn has ended.
pub(super) fn ended<P: Packet>(core: &mut Core<P>, held: &Held, traffic: &Traffic, now: Now) {
    if core.snapshot.policy.nat_log == NatEvents::Sessions {
        let Traffic { forward, reverse } = *traffic;
        let (sent, received) =
            if source(held).is_some() { (forward, reverse) } else { (reverse, forward) };
        let record = record(Kind::SessionDeleted, held, now);
        core.log_nat(NatRecord { sent, received, ..record });
    }
}
