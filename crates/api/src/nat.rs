//! Source NAT, destination NAT and forwarding as they run.

use std::net::IpAddr;

use config::{
    Admin, DnatRule, ForwardingPolicy, ForwardingRule, ReversePath, SnatRule, SubscriberLimits,
};
use serde::{Deserialize, Serialize};
use types::{Endpoint, Proto};
use utoipa::{IntoParams, ToSchema};

use crate::error::{ErrorBody, ErrorCode};
use crate::service::{ServerInfo, Traffic};

/// Where a rule is put among the others. Without either, one that is there keeps its place and a new
/// one comes last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RulePlace {
    /// Before the rule of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// At this position, from 1; last if there are fewer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u32>,
}

impl RulePlace {
    /// The place in the configuration's terms.
    ///
    /// # Errors
    /// If both are given, or the position is 0.
    pub fn place(&self) -> Result<config::Place, ErrorBody> {
        let refuse = |message: &str| Err(ErrorBody::new(ErrorCode::Invalid, message));
        match (&self.before, self.position) {
            (None, None) => Ok(config::Place::Same),
            (Some(name), None) => Ok(config::Place::Before(name.clone())),
            (None, Some(0)) => refuse("position 0: positions are counted from 1"),
            (None, Some(position)) => Ok(config::Place::Position(position as usize - 1)),
            (Some(_), Some(_)) => refuse("a rule has one place: give `before` or `position`"),
        }
    }
}

/// A rule of source NAT as it runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SnatInfo {
    /// Its name.
    pub name: String,
    /// Its position among the rules, from 1: the first that a packet meets decides.
    pub position: u32,
    /// How it is configured.
    pub config: SnatRule,
    /// Mappings now.
    pub mappings: u64,
    /// What passed; `in` is from those who open conns. All conns count as active.
    pub traffic: Traffic,
    /// Packets that it routed unchanged: excepted, or by `action: accept`.
    pub accepted: u64,
    /// Packets that it dropped, by `action: drop`.
    pub dropped: u64,
    /// New conns refused because no outside port was left.
    pub exhausted: u64,
    /// New conns refused by a limit of their inside address.
    pub limited: u64,
    /// Packets from outside refused by its filtering.
    pub filtered: u64,
}

/// Chooses mappings: those for which all that is given holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct MappingQuery {
    /// Of this rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Of this inside address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    #[schema(value_type = Option<String>)]
    pub inside: Option<IpAddr>,
    /// With this outside address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    #[schema(value_type = Option<String>)]
    pub outside: Option<IpAddr>,
    /// Of this protocol: `tcp`, `udp` or `icmp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    #[schema(value_type = Option<String>)]
    pub protocol: Option<Proto>,
    /// The most at once: 1,000 if not given and 10,000 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Where a list goes on: `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

impl MappingQuery {
    /// The limit of a list if none is given.
    pub const LIMIT_DEFAULT: u32 = 1_000;
    /// The highest limit of a list.
    pub const LIMIT_MAX: u32 = 10_000;
}

/// A mapping: an inside address and port, and what stands for them outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MappingInfo {
    /// `tcp`, `udp` or `icmp`.
    #[schema(value_type = String, example = "udp")]
    pub protocol: Proto,
    /// The inside address and port, or ICMP identifier.
    #[schema(value_type = String, example = "10.0.0.7:50312")]
    pub inside: Endpoint,
    /// The outside address and port, or ICMP identifier.
    #[schema(value_type = String, example = "203.0.113.20:50312")]
    pub outside: Endpoint,
    /// The rule; nothing if it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Conns that use it now.
    pub connections: u32,
    /// Milliseconds since it was made.
    pub age_ms: u64,
    /// The worker that owns it.
    pub worker: u16,
}

/// Some of the mappings that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MappingPage {
    /// In no order that means something.
    pub mappings: Vec<MappingInfo>,
    /// Give this as `cursor` for more; nothing if there are no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What an inside address takes of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SubscriberUsage {
    /// The rule.
    pub rule: String,
    /// The WAN IP that it keeps to; nothing if pooling is arbitrary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "203.0.113.20")]
    pub wan_address: Option<IpAddr>,
    /// Outside ports now.
    pub ports: u32,
    /// Conns now.
    pub sessions: u32,
    /// New conns that may be opened at once before the limit of those in a second bites; nothing
    /// without that limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_sessions_left: Option<u32>,
    /// The most that it may take.
    pub limits: SubscriberLimits,
}

/// An inside address as NAT sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SubscriberInfo {
    /// The address.
    #[schema(value_type = String, example = "10.0.0.7")]
    pub address: IpAddr,
    /// The worker that owns it.
    pub worker: u16,
    /// What it takes, rule by rule.
    pub usage: Vec<SubscriberUsage>,
}

/// The ports of a WAN IP, of one protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WanPortUsage {
    /// `tcp`, `udp` or `icmp`.
    #[schema(value_type = String, example = "udp")]
    pub protocol: Proto,
    /// Ports that may be taken.
    pub capacity: u32,
    /// Those that are taken now.
    pub taken: u32,
    /// Those that rest now after use.
    pub resting: u32,
}

/// A WAN IP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WanAddressInfo {
    /// The address.
    #[schema(value_type = String, example = "203.0.113.20")]
    pub address: IpAddr,
    /// The rules that have it.
    pub rules: Vec<String>,
    /// Its share of new mappings, as the first of these rules says.
    pub weight: u16,
    /// What the operator wants of it.
    pub admin: Admin,
    /// True if no rule has it any more, and only its old conns go on.
    pub leaving: bool,
    /// True if it is not ours now: as one that is active with the kernel, while the kernel does not hold it.
    #[serde(default)]
    pub absent: bool,
    /// Its ports by protocol.
    pub ports: Vec<WanPortUsage>,
}

/// A rule of destination NAT as it runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DnatInfo {
    /// Its name.
    pub name: String,
    /// How it is configured.
    pub config: DnatRule,
    /// Its servers, if it has several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<ServerInfo>,
    /// What passed. All conns count as active, but for those to several servers.
    pub traffic: Traffic,
    /// New conns refused because no port was left for a source that is exchanged.
    #[serde(default)]
    pub exhausted: u64,
    /// New conns refused because too many are unanswered, or by another port forward's.
    #[serde(default)]
    pub limited: u64,
    /// Packets of those who may not connect.
    #[serde(default)]
    pub filtered: u64,
}

/// Routing between interfaces as it runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ForwardingInfo {
    /// What becomes of packets that meet no rule.
    pub policy: ForwardingPolicy,
    /// Whether they are routed now: what `auto` comes to.
    pub accepts: bool,
    /// Whether sources are checked against the routes.
    pub reverse_path: ReversePath,
    /// Interfaces by which no sender is told why its packet was dropped, but that it was too big.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub silent: Vec<String>,
    /// The rules, in order.
    pub rules: Vec<ForwardingRuleInfo>,
    /// Packets routed without NAT.
    pub forwarded: u64,
    /// Packets dropped by a rule or the policy.
    pub denied: u64,
    /// Packets dropped because their source had no route back.
    pub reverse_path_drops: u64,
}

/// A rule of forwarding as it runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ForwardingRuleInfo {
    /// Its name.
    pub name: String,
    /// Its position among the rules, from 1: the first that a packet meets decides.
    pub position: u32,
    /// How it is configured.
    pub config: ForwardingRule,
    /// Packets that it let pass without NAT, or dropped; those of conns count with the conn's rule.
    pub packets: u64,
    /// Bytes of these.
    pub bytes: u64,
}
