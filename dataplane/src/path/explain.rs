//! What would happen to a packet: the stages up to `decide`, on a copy, changing nothing.

use flow::Record;
use nat::mapping::Endpoint32;
use nat::rules::RuleMatch;
use types::{Address, Io, Now, Packet, Slot, Verdict, WorkerId};
use wire::{Kind, ParseError, Parsed};

use crate::path::burst::Meta;
use crate::path::gateway::{Opening, denied_to_server, passes_reverse_path};
use crate::path::gateway_wan::may_hairpin_query;
use crate::path::open::{Decision, decide};
pub use crate::path::reply::Refusal;
use crate::path::steer::Asked;
use crate::path::{parse, punt, steer};
use crate::worker::Core;
use crate::worker::link::Explain;

/// What a packet would meet, stage by stage.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// What `parse` reads.
    pub parsed: Parsed,
    /// What `admit` takes the destination for; `None` if it is not ours.
    pub role: Option<fib::Role>,
    /// Who owns the key, by `steer`.
    pub owner: WorkerId,
    /// The worker that it goes on to, and which ones have been asked then.
    pub onward: Option<(WorkerId, Asked)>,
    /// The conn that `lookup` finds.
    pub conn: Option<Record>,
    /// What comes of it.
    pub outcome: Outcome,
}

/// What comes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is of the conn, and is translated.
    Translated,
    /// It opens a conn.
    Opens {
        /// The service.
        service: Slot,
        /// The real server that would get it now, as an index of the service's.
        server: usize,
        /// Its slot.
        server_slot: Slot,
    },
    /// It opens a conn of SNAT or of a port forward.
    OpensNat(Opening),
    /// It is routed on as it is.
    Forwarded {
        /// The rule of `snat` that says so, if one does.
        by: Option<RuleMatch>,
    },
    /// It is answered by us.
    Answered,
    /// It goes up to the kernel.
    Punted,
    /// It ends, or its sender is told so.
    Refused {
        /// Why.
        verdict: Verdict,
        /// What the sender is told.
        refusal: Refusal,
    },
}

/// Takes a frame through the stages without any effect. `None` if there is no packet buffer for it.
pub fn explain<I: Io>(
    core: &Core<I::Packet>,
    io: &mut I,
    asked: &Explain,
    now: Now,
) -> Option<Explanation> {
    let mut packet = io.allocate()?;
    if !packet.append(asked.frame.len()) {
        return None;
    }
    packet.bytes_mut().copy_from_slice(&asked.frame);
    Some(explain_packet(core, &mut packet, asked, now))
}

fn explain_packet<P: Packet>(
    core: &Core<P>,
    packet: &mut P,
    request: &Explain,
    now: Now,
) -> Explanation {
    let interface = request.interface;
    let mut meta = Meta { interface: interface.0, ..Meta::default() };
    let ours = core.snapshot.interfaces.get(usize::from(interface.0));
    let parsed = parse::parse_one(packet, &mut meta, ours);
    let mut explanation = Explanation {
        parsed: meta.parsed,
        role: None,
        owner: core.id,
        onward: None,
        conn: None,
        outcome: Outcome::Answered,
    };
    let refused = |verdict| Outcome::Refused { verdict, refusal: Refusal::Silent };
    match parsed {
        Ok(()) => {}
        // Others go where the first one of their packet went, which is not known here.
        Err(ParseError::Fragment) if meta.parsed.kind != Kind::Fragment => {}
        Err(ParseError::Drop(verdict)) => {
            explanation.outcome = refused(verdict);
            return explanation;
        }
        Err(ParseError::Pull(_)) => {
            explanation.outcome = refused(Verdict::Malformed);
            return explanation;
        }
        Err(ParseError::Fragment) => {
            explanation.outcome = refused(Verdict::NoFirstFragment);
            return explanation;
        }
        Err(ParseError::Ipv6) => {
            explanation.outcome = refused(Verdict::UnknownEtherType);
            return explanation;
        }
    }
    let owner = core.snapshot.fib.owner(meta.parsed.key.dst);
    meta.role = owner.map(|owner| owner.role);
    explanation.role = meta.role;
    match (meta.parsed.kind, owner) {
        (Kind::Arp, _) => {
            let ours = core.snapshot.fib.answers(interface, meta.parsed.key.dst);
            if !ours {
                explanation.outcome = refused(Verdict::NotOurs);
            }
            return explanation;
        }
        (_, None) if punt::of_kernel(&core.snapshot, &meta).is_some() => {
            explanation.outcome = Outcome::Punted;
            return explanation;
        }
        (_, None) if core.snapshot.gateway.is_none() => {
            explanation.outcome = refused(Verdict::NotOurs);
            return explanation;
        }
        (_, None) if !passes_reverse_path(&core.snapshot, meta.parsed.key.src, interface) => {
            explanation.outcome = refused(Verdict::ReversePath);
            return explanation;
        }
        (_, None) => {}
        (_, Some(owner))
            if owner.role == fib::Role::WanIp
                && !passes_reverse_path(&core.snapshot, meta.parsed.key.src, interface) =>
        {
            explanation.outcome = refused(Verdict::ReversePath);
            return explanation;
        }
        (Kind::IcmpQuery, Some(owner)) if owner.role == fib::Role::Leaving => {
            explanation.outcome = refused(Verdict::NotOurs);
            return explanation;
        }
        (Kind::IcmpQuery, _) if may_hairpin_query(&core.snapshot, &meta) => {}
        (Kind::IcmpQuery, _) => return explanation,
        (Kind::IcmpReply | Kind::OtherIp, Some(owner))
            if punt::of_ours(&core.snapshot, &meta, owner.role).is_some() =>
        {
            explanation.outcome = Outcome::Punted;
            return explanation;
        }
        (_, Some(owner)) if owner.role == fib::Role::WanIp => {}
        (Kind::IcmpReply, _) => {
            explanation.outcome = refused(Verdict::NoConn);
            return explanation;
        }
        (Kind::OtherIp, _) => {
            explanation.outcome = refused(Verdict::UnknownProtocol);
            return explanation;
        }
        _ => {}
    }
    explanation.owner = steer::owner(&core.snapshot, &meta);
    explanation.onward = steer::onward(core, &meta, request.asked);
    explanation.outcome = outcome(core, &meta, &mut explanation.conn, now);
    explanation
}

fn outcome<P: Packet>(core: &Core<P>, meta: &Meta, conn: &mut Option<Record>, now: Now) -> Outcome {
    let key = meta.parsed.lookup_key();
    let found = core.table.lookup(&key, core.table.hash(&key));
    if let Some(record) = found.and_then(|id| core.table.export(id.conn(), now)) {
        *conn = Some(record);
        return Outcome::Translated;
    }
    let service = match decide(core, meta) {
        Decision::Refuse { verdict, refusal } => return Outcome::Refused { verdict, refusal },
        Decision::HoldSyn { verdict } => {
            return Outcome::Refused { verdict, refusal: Refusal::Silent };
        }
        Decision::Punt(_) => return Outcome::Punted,
        Decision::Forward { by } => return Outcome::Forwarded { by },
        Decision::OpenNat(opening) => return Outcome::OpensNat(opening),
        Decision::Echo => return Outcome::Answered,
        Decision::Open { service } => service,
    };
    let found = core.snapshot.services.lookup(&key);
    let Some(compiled) = found else {
        return Outcome::Refused { verdict: Verdict::Internal, refusal: Refusal::Silent };
    };
    match core.cells.pick(compiled, &key, now) {
        Ok(server) => {
            let rs = compiled.servers().get(server);
            let to = rs.and_then(|rs| Some(Endpoint32::new(u32::from_ip(rs.address)?, rs.l4_port)));
            match to.and_then(|to| denied_to_server(&core.snapshot, meta, to)) {
                Some((verdict, refusal, _)) => Outcome::Refused { verdict, refusal },
                None => {
                    let server_slot = rs.map_or(Slot::NONE, |rs| rs.slot);
                    Outcome::Opens { service, server, server_slot }
                }
            }
        }
        Err(none) => {
            let (verdict, refusal) = super::open::refused(compiled, none);
            Outcome::Refused { verdict, refusal }
        }
    }
}
