//! What would become of a packet: built, asked of the worker that owns its conn, told in words.

use std::net::IpAddr;

use api::{ErrorBody, ErrorCode, PacketDescription, PacketProtocol, Plan, StageDecision};
use nat::rules::RuleMatch;
use types::{Address as _, MacAddr, Proto, Verdict, WorkerId};
use wire::{
    Icmpv4, Icmpv6, Ipv4, Tcp, Udp, checksum, ethernet, icmpv4, icmpv6, ipv4, ipv6, tcp, udp,
};

use super::change::answer;
use super::{Control, Reply, State, not_found, unavailable};
use crate::path::explain::{Explanation, Outcome, Refusal};
use crate::path::gateway::Opening;
use crate::path::lane::Lane as _;
use crate::worker::link::{Command, Explain};

/// The source port of a packet that has none given, and the identifier of such an echo request.
const SOURCE_PORT: u16 = 40_000;
/// Where a packet that is asked about comes from.
const NEIGHBOUR: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
/// The longest Ethernet header, with a VLAN tag.
const L2_MAX: usize = 18;

impl Control {
    /// What would become of a packet, stage by stage. Nothing changes.
    ///
    /// # Errors
    /// If there can be no such packet, or a worker does not answer.
    pub async fn explain(&self, packet: PacketDescription) -> Reply<api::Explanation> {
        let (interface, mac) = {
            let state = self.state();
            let id = state.interface(&packet.dev).ok_or_else(|| {
                let message = format!("there is no interface `{}`", packet.dev);
                not_found("dev", &packet.dev, message)
            })?;
            let mac = state.snapshot.interfaces.get(usize::from(id.0)).map(|known| known.mac);
            (id, mac.unwrap_or_default())
        };
        let frame = build(&packet, mac)?;
        let (mut worker, mut asked) = (WorkerId(0), None);
        loop {
            let asked_now = Explain { interface, frame: frame.clone(), asked, explanation: None };
            let waiting = self.ask(worker, Command::Explain(Box::new(asked_now))).await?;
            let Command::Explain(told) = answer(worker, waiting).await? else {
                return Err(unavailable("a worker answered another question"));
            };
            let Some(told) = told.explanation else {
                return Err(unavailable("there is no packet buffer free"));
            };
            // What its conn meets only the worker that has it knows.
            match told.onward {
                None => return Ok(self.state().in_words(&told, worker)),
                Some((next, then)) => (worker, asked) = (next, Some(then)),
            }
        }
    }
}

fn invalid(field: &str, value: impl ToString, message: impl Into<String>) -> ErrorBody {
    let mut body = ErrorBody::new(ErrorCode::Invalid, message);
    body.error.field = Some(field.to_owned());
    body.error.value = Some(value.to_string());
    body
}

fn tcp_flags(letters: &str) -> Reply<u8> {
    letters.chars().try_fold(0, |flags, letter| {
        let flag = match letter.to_ascii_uppercase() {
            'S' => tcp::SYN,
            'A' => tcp::ACK,
            'F' => tcp::FIN,
            'R' => tcp::RST,
            'P' => tcp::PSH,
            'U' => tcp::URG,
            _ => {
                let message = format!("`{letters}` are no TCP flags; write letters of SAFRPU");
                return Err(invalid("tcp_flags", letters, message));
            }
        };
        Ok(flags | flag)
    })
}

/// Who owns a key, and who has its conn.
fn steered(owner: WorkerId, worker: WorkerId) -> String {
    let owner_owns = format!("worker {} owns the key", owner.0);
    if owner == worker {
        return owner_owns;
    }
    format!("{owner_owns}, worker {} has the conn", worker.0)
}

/// The packet as it would arrive.
fn build(packet: &PacketDescription, mac: MacAddr) -> Reply<Vec<u8>> {
    let PacketDescription { source, destination, .. } = *packet;
    if source.is_ipv4() != destination.is_ipv4() {
        let message = format!("{source} and {destination} are of different families");
        return Err(invalid("source", source, message));
    }
    let flags = tcp_flags(packet.tcp_flags.as_deref().unwrap_or("S"))?;
    let sport = packet.source_port.unwrap_or(SOURCE_PORT);
    let dport = match (packet.protocol, packet.destination_port) {
        (PacketProtocol::Icmp, _) => 0,
        (_, Some(0)) => return Err(invalid("destination_port", 0, "a port is 1 to 65535")),
        (_, Some(l4_port)) => l4_port,
        (_, None) => {
            return Err(invalid("destination_port", "", "`destination_port` is missing"));
        }
    };
    let (proto, l4_len) = match packet.protocol {
        PacketProtocol::Tcp => (Proto::Tcp, tcp::LEN),
        PacketProtocol::Udp => (Proto::Udp, udp::LEN),
        PacketProtocol::Icmp => (Proto::Icmp, icmpv4::LEN),
    };
    let payload = usize::from(packet.payload.unwrap_or(0));
    let too_long = || invalid("payload", payload, "the packet would be longer than 65535 bytes");
    let total_len = u16::try_from(ipv6::LEN + l4_len + payload).map_err(|_| too_long())?;
    let ends = Ends { mac, proto, sport, dport, flags, ttl: packet.ttl.unwrap_or(64), l4_len };
    let mut bytes = vec![0; L2_MAX + usize::from(total_len)];
    let headers = ends.headers(&mut bytes, (source, destination), l4_len + payload);
    let len = headers.and_then(|at| ends.transport(&mut bytes, at)).ok_or_else(too_long)?;
    bytes.truncate(len);
    Ok(bytes)
}

/// What of a packet is not in its IP header as that is usually made.
struct Ends {
    mac: MacAddr,
    proto: Proto,
    sport: u16,
    dport: u16,
    flags: u8,
    ttl: u8,
    l4_len: usize,
}

/// Where the transport stands, and what its checksum has of the header before it.
struct Transport {
    l4: usize,
    end: usize,
    is_ipv4: bool,
    pseudo: u16,
}

impl Ends {
    fn headers(&self, bytes: &mut [u8], ends: (IpAddr, IpAddr), len: usize) -> Option<Transport> {
        let protocol = self.proto.number();
        match ends {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let (source, destination) = (source.to_bits(), destination.to_bits());
                let l3 = ethernet::write(bytes, self.mac, NEIGHBOUR, 0, ethernet::IPV4)?;
                let total_len = (ipv4::LEN + len) as u16;
                ipv4::Repr { source, destination, protocol, tos: 0, total_len }.write(bytes, l3)?;
                let mut written = Ipv4::at_mut(bytes, l3)?;
                written.set_ttl(self.ttl);
                written.set_checksum(0);
                written.set_checksum(!checksum::sum_20(written.as_bytes()));
                let l4 = l3 + ipv4::LEN;
                let pseudo = checksum::pseudo_header(source, destination, protocol, len as u16);
                Some(Transport { l4, end: l4 + len, is_ipv4: true, pseudo })
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let (source, destination) = (source.to_bits(), destination.to_bits());
                let next = if self.proto == Proto::Icmp { icmpv6::PROTOCOL } else { protocol };
                let l3 = ethernet::write(bytes, self.mac, NEIGHBOUR, 0, ethernet::IPV6)?;
                let header = ipv6::Repr::new(source, destination, next, len as u16);
                ipv6::Repr { hop_limit: self.ttl, ..header }.write(bytes, l3)?;
                let l4 = l3 + ipv6::LEN;
                let pseudo = checksum::pseudo_header_v6(source, destination, next, len as u32);
                Some(Transport { l4, end: l4 + len, is_ipv4: false, pseudo })
            }
            _ => None,
        }
    }

    /// Returns where the frame ends.
    fn transport(&self, bytes: &mut [u8], at: Transport) -> Option<usize> {
        let Transport { l4, end, is_ipv4, pseudo } = at;
        let len = (end - l4) as u16;
        match self.proto {
            Proto::Tcp => {
                let mut segment = Tcp::at_mut(bytes, l4)?;
                segment.set_sport(self.sport);
                segment.set_dport(self.dport);
                segment.set_data_offset((self.l4_len / 4) as u8 * 16);
                segment.set_flags(self.flags);
                segment.set_window(u16::MAX);
                let sum = checksum::add(pseudo, checksum::sum(bytes.get(l4..end)?));
                Tcp::at_mut(bytes, l4)?.set_checksum(!sum);
            }
            Proto::Udp => {
                let mut datagram = Udp::at_mut(bytes, l4)?;
                datagram.set_sport(self.sport);
                datagram.set_dport(self.dport);
                datagram.set_datagram_len(len);
                let sum = checksum::add(pseudo, checksum::sum(bytes.get(l4..end)?));
                Udp::at_mut(bytes, l4)?.set_checksum(checksum::udp_never_zero(!sum));
            }
            Proto::Icmp if is_ipv4 => {
                let mut message = Icmpv4::at_mut(bytes, l4)?;
                message.set_icmp_type(icmpv4::ECHO_REQUEST);
                message.set_ident(self.sport);
                message.set_seq(1);
                let sum = checksum::checksum(bytes.get(l4..end)?);
                Icmpv4::at_mut(bytes, l4)?.set_checksum(sum);
            }
            Proto::Icmp => {
                let mut message = Icmpv6::at_mut(bytes, l4)?;
                message.set_icmp_type(icmpv6::ECHO_REQUEST);
                message.set_rest(u32::from(self.sport) << 16 | 1);
                let sum = checksum::add(pseudo, checksum::sum(bytes.get(l4..end)?));
                Icmpv6::at_mut(bytes, l4)?.set_checksum(!sum);
            }
        }
        Some(end)
    }
}

impl State {
    fn in_words(&self, told: &Explanation, worker: WorkerId) -> api::Explanation {
        let mut stages = Vec::new();
        let mut stage = |stage: &str, decision: String| {
            stages.push(StageDecision { stage: stage.to_owned(), decision });
        };
        stage("parse", told.key.to_string());
        match told.role {
            Some(role) => stage("admit", format!("the destination is ours: {}", role.name())),
            None => stage("admit", "the destination is not ours".to_owned()),
        }
        let (verdict, plan) = match told.outcome {
            Outcome::Answered => {
                stage("admit", "answered here".to_owned());
                (Verdict::Answered, None)
            }
            Outcome::Punted => {
                stage("admit", "the kernel has it, by the interface's KNI".to_owned());
                (Verdict::Punted, None)
            }
            Outcome::Refused { verdict, refusal } => {
                let told = match refusal {
                    Refusal::Silent => "the sender is not told",
                    Refusal::Reset => "the sender gets a reset",
                    Refusal::Error(_) => "the sender gets an ICMP error",
                };
                stage("open", format!("{}; {told}", verdict.help().trim_end_matches('.')));
                (verdict, None)
            }
            Outcome::Translated => {
                stage("steer", steered(told.owner, worker));
                if let Some(record) = &told.conn {
                    let (forward, reverse) = (&record.forward, &record.reverse);
                    stage(
                        "lookup",
                        format!(
                            "a packet of the conn from {} by {} to {}",
                            forward.source, reverse.destination, reverse.source
                        ),
                    );
                }
                (Verdict::Sent, None)
            }
            Outcome::OpensNat(opening) => {
                stage("steer", steered(told.owner, worker));
                stage("lookup", "of no conn".to_owned());
                stage("open", self.opening(opening));
                (Verdict::Sent, None)
            }
            Outcome::Forwarded { by } => {
                stage("steer", steered(told.owner, worker));
                stage("lookup", "of no conn".to_owned());
                stage("open", format!("{}: it is routed on unchanged", self.untranslated(by)));
                (Verdict::Sent, None)
            }
            Outcome::Opens { service, server, .. } => {
                stage("steer", steered(told.owner, worker));
                stage("lookup", "of no conn".to_owned());
                let plan = self.plan(told, service, server);
                if let Some(Ok(plan)) = &plan {
                    stage(
                        "open",
                        format!("service `{}` sends it to {}", plan.service, plan.server),
                    );
                    stage("egress", format!("by `{}` to {}", plan.dev, plan.next_hop));
                }
                match plan {
                    Some(Ok(plan)) => (Verdict::Sent, Some(plan)),
                    Some(Err(verdict)) => (verdict, None),
                    None => (Verdict::Internal, None),
                }
            }
        };
        api::Explanation {
            verdict: verdict.name().to_owned(),
            meaning: verdict.help().to_owned(),
            worker: told.owner.0,
            stages,
            plan,
        }
    }

    /// A rule of source NAT, for people.
    fn snat_rule(&self, index: usize) -> String {
        let name = self.config.snat.get_index(index).map_or("", |(name, _)| name.as_str());
        format!("rule {} of snat, `{name}`,", index + 1)
    }

    /// Why a packet keeps its source.
    fn untranslated(&self, by: Option<RuleMatch>) -> String {
        match by {
            None => "no rule of snat matches".to_owned(),
            Some(found) if found.excepted => format!("{} excepts it", self.snat_rule(found.index)),
            Some(found) => format!("{} accepts it", self.snat_rule(found.index)),
        }
    }

    fn opening(&self, opening: Opening) -> String {
        match opening {
            Opening::Out { rule, .. } => format!("{} translates its source", self.snat_rule(rule)),
            Opening::In => "a mapping leads it inside".to_owned(),
            Opening::Query => "another inside host has this identifier: it is asked".to_owned(),
            Opening::Forward { slot } => match self.gateway_names.rule(slot) {
                Some(rule) => format!("port forward `{}` leads it inside", rule.name),
                None => "a port forward leads it inside".to_owned(),
            },
        }
    }

    /// Where a new conn would go, or why it would not. `None` if the service has gone meanwhile.
    fn plan(
        &self,
        told: &Explanation,
        service: types::Slot,
        server: usize,
    ) -> Option<Result<Plan, Verdict>> {
        let found = self.snapshot.services.lookup(&told.key)?;
        if found.spec().slot != service {
            return None;
        }
        let server = found.servers().get(server)?;
        let spec = found.spec();
        let lip = match spec.mode {
            balance::Mode::FullNat if server.address.is_ipv4() => {
                spec.lips.first().map(|lip| lip.to_ip())
            }
            balance::Mode::FullNat => spec.lips_v6.first().map(|lip| lip.to_ip()),
            balance::Mode::Nat => Some(told.key.src.to_ip()),
        };
        let Some(lip) = lip else { return Some(Err(Verdict::NoLease)) };
        let address = u128::from_ip(server.address).unwrap_or_default();
        let Some(hop) = u128::hop(&self.snapshot.fib, address) else {
            return Some(Err(Verdict::NoRoute));
        };
        Some(Ok(Plan {
            service: spec.name.to_string(),
            server: server.endpoint(),
            lip,
            next_hop: hop.target,
            dev: self.name(hop.iface).to_owned(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use testkit::Decoded;

    use super::*;

    fn packet(json: serde_json::Value) -> PacketDescription {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn packets_are_built_as_described() {
        let described = |ends: (&str, &str), protocol: &str, payload: u16| {
            let packet = packet(serde_json::json!({
                "dev": "wan0", "protocol": protocol, "source": ends.0, "destination": ends.1,
                "destination_port": 80, "payload": payload, "ttl": 3,
            }));
            Decoded::check(&build(&packet, MacAddr([2; 6])).unwrap())
        };
        for (protocol, payload) in [("tcp", 0), ("udp", 3), ("icmp", 56)] {
            let decoded = described(("192.0.2.7", "203.0.113.10"), protocol, payload);
            assert_eq!(decoded.ipv4().ttl, 3, "{protocol}");
            let decoded = described(("2001:db8::7", "2001:db8::10"), protocol, payload);
            assert_eq!(decoded.ipv6().hop_limit, 3, "{protocol}");
        }
    }

    #[test]
    fn what_no_packet_can_have_is_refused_by_field() {
        let field = |change: serde_json::Value| {
            let mut json = serde_json::json!({
                "dev": "wan0", "source": "192.0.2.7", "destination": "203.0.113.10",
                "destination_port": 80,
            });
            let object = json.as_object_mut().unwrap();
            object.extend(change.as_object().unwrap().clone());
            build(&packet(json), MacAddr([2; 6])).unwrap_err().error.field.unwrap()
        };
        assert_eq!(field(serde_json::json!({"source": "2001:db8::1"})), "source");
        assert_eq!(field(serde_json::json!({"tcp_flags": "SX"})), "tcp_flags");
        assert_eq!(field(serde_json::json!({"destination_port": 0})), "destination_port");
        assert_eq!(field(serde_json::json!({"destination_port": null})), "destination_port");
        assert_eq!(field(serde_json::json!({"payload": 65535})), "payload");
    }
}
