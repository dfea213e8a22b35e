//! What would happen to a packet: the stages up to `decide`, on a copy, changing nothing.

use flow::Record;
use nat::rules::RuleMatch;
use types::{EthPortId, FlowKey6, Io, Now, Packet, Slot, Verdict, WorkerId};
use wire::{Kind, ParseError};

use crate::path::burst::Meta;
use crate::path::gateway::{Opening, passes_reverse_path};
use crate::path::gateway_wan::may_hairpin_query;
use crate::path::lane::{Lane, is_wide};
use crate::path::open::{Decision, decide};
pub use crate::path::reply::Refusal;
use crate::path::steer::Asked;
use crate::path::{parse, parse6, punt, steer};
use crate::worker::Core;
use crate::worker::link::Explain;

/// What a packet would meet, stage by stage.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The tuple that `parse` reads; of IPv4 with mapped addresses.
    pub key: FlowKey6,
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
    let ours = core.snapshot.interfaces.get(usize::from(interface.0));
    let mut meta = Meta { interface: interface.0, ..Meta::default() };
    let parsed = parse::parse_one(packet, &mut meta, ours);
    let mut explanation = Explanation {
        key: FlowKey6::mapped(meta.parsed.key),
        role: None,
        owner: core.id,
        onward: None,
        conn: None,
        outcome: Outcome::Answered,
    };
    if parsed == Err(ParseError::Ipv6) {
        let mut meta = Meta { interface: interface.0, ..Meta::default() };
        let parsed = parse6::parse_one(packet, &mut meta, ours);
        explanation.key = meta.parsed.key;
        match refused_by_parse(parsed, meta.parsed.kind).or_else(|| admit6(core, &mut meta)) {
            Some(outcome) => explanation.outcome = outcome,
            None => explanation.go_on(core, &meta, request, now),
        }
        explanation.role = meta.role;
        return explanation;
    }
    match refused_by_parse(parsed, meta.parsed.kind).or_else(|| admit(core, &mut meta)) {
        Some(outcome) => explanation.outcome = outcome,
        None => {
            let key = meta.parsed.lookup_key();
            let found = core.table.lookup(&key, core.table.hash(&key));
            if found.is_none() && is_wide(core, &meta) {
                explanation.go_on(core, &meta.mapped(), request, now);
            } else {
                explanation.go_on(core, &meta, request, now);
            }
        }
    }
    explanation.role = meta.role;
    explanation
}

const fn refused(verdict: Verdict) -> Outcome {
    Outcome::Refused { verdict, refusal: Refusal::Silent }
}

/// How a packet ends that `parse` does not let through.
fn refused_by_parse(parsed: Result<(), ParseError>, kind: Kind) -> Option<Outcome> {
    match parsed {
        Ok(()) => None,
        // Others go where the first one of their packet went, which is not known here.
        Err(ParseError::Fragment) if kind != Kind::Fragment => None,
        Err(ParseError::Drop(verdict)) => Some(refused(verdict)),
        Err(ParseError::Pull(_)) => Some(refused(Verdict::Malformed)),
        Err(ParseError::Fragment) => Some(refused(Verdict::NoFirstFragment)),
        Err(ParseError::Ipv6) => Some(refused(Verdict::UnknownEtherType)),
    }
}

/// How a packet of IPv4 ends in `admit`; `None` if it goes on.
fn admit<P: Packet>(core: &Core<P>, meta: &mut Meta) -> Option<Outcome> {
    let interface = EthPortId(meta.interface);
    let owner = core.snapshot.fib.owner(meta.parsed.key.dst);
    meta.role = owner.map(|owner| owner.role);
    let forged = || !passes_reverse_path(&core.snapshot, meta.parsed.key.src, interface);
    match (meta.parsed.kind, owner) {
        (Kind::Arp, _) => Some(match core.snapshot.fib.answers(interface, meta.parsed.key.dst) {
            true => Outcome::Answered,
            false => refused(Verdict::NotOurs),
        }),
        (_, None) if punt::of_kernel(&core.snapshot, meta).is_some() => Some(Outcome::Punted),
        (_, None) if core.snapshot.gateway.is_none() => Some(refused(Verdict::NotOurs)),
        (_, None) if forged() => Some(refused(Verdict::ReversePath)),
        (_, None) => None,
        (_, Some(owner)) if owner.role == fib::Role::WanIp && forged() => {
            Some(refused(Verdict::ReversePath))
        }
        (Kind::IcmpQuery, Some(owner)) if owner.role == fib::Role::Leaving => {
            Some(refused(Verdict::NotOurs))
        }
        (Kind::IcmpQuery, _) if may_hairpin_query(&core.snapshot, meta) => None,
        (Kind::IcmpQuery, _) => Some(Outcome::Answered),
        (Kind::IcmpReply | Kind::OtherIp, Some(owner))
            if punt::of_ours(&core.snapshot, meta, owner.role).is_some() =>
        {
            Some(Outcome::Punted)
        }
        (_, Some(owner)) if owner.role == fib::Role::WanIp => None,
        (Kind::IcmpReply, _) => Some(refused(Verdict::NoConn)),
        (Kind::OtherIp, _) => Some(refused(Verdict::UnknownProtocol)),
        _ => None,
    }
}

/// The same of IPv6.
fn admit6<P: Packet>(core: &Core<P>, meta: &mut Meta<u128>) -> Option<Outcome> {
    let owner = core.snapshot.fib.owner_on(EthPortId(meta.interface), meta.parsed.key.dst);
    meta.role = owner.map(|owner| owner.role);
    match (meta.parsed.kind, meta.role) {
        (_, None) | (Kind::IcmpQuery, Some(fib::Role::Leaving)) => Some(refused(Verdict::NotOurs)),
        (Kind::IcmpQuery | Kind::Ndp, _) => Some(Outcome::Answered),
        (Kind::IcmpReply, _) => Some(refused(Verdict::NoConn)),
        (Kind::OtherIp | Kind::Arp, _) => Some(refused(Verdict::UnknownProtocol)),
        (Kind::Tcp | Kind::Udp | Kind::IcmpError | Kind::Fragment, _) => None,
    }
}

impl Explanation {
    /// What the stages from `steer` on would do.
    fn go_on<P: Packet, A: Lane>(
        &mut self,
        core: &Core<P>,
        meta: &Meta<A>,
        request: &Explain,
        now: Now,
    ) {
        self.owner = steer::owner(&core.snapshot, meta);
        self.onward = steer::onward(core, meta, request.asked);
        self.outcome = outcome(core, meta, &mut self.conn, now);
        if let Outcome::Refused { refusal, .. } = &mut self.outcome {
            *refusal = refusal.by(&core.snapshot, EthPortId(meta.interface));
        }
    }
}

fn outcome<P: Packet, A: Lane>(
    core: &Core<P>,
    meta: &Meta<A>,
    conn: &mut Option<Record>,
    now: Now,
) -> Outcome {
    let key = meta.parsed.lookup_key();
    let table = A::table(core);
    let found = table.lookup(&key, table.hash(&key));
    if let Some(record) = found.and_then(|id| table.export(id.conn(), now)) {
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
            let to = rs.and_then(|rs| Some((A::from_ip(rs.address)?, rs.l4_port)));
            match to.and_then(|to| A::denied_to_server(&core.snapshot, meta, to)) {
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
