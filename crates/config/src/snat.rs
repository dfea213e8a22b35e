//! Source NAT: rules that put an outside address in the place of many inside ones.

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::defaults::{is_default, is_ms, is_true, is_u16, ms, u16_of, yes};
use crate::matching::{Match, PortRange};
use crate::schema::Timeouts;
use crate::service::Admin;
use crate::text::{AddressRange, Duration};

/// A rule of source NAT. The first whose match a packet meets decides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SnatRule {
    /// What it applies to.
    #[serde(default, rename = "match", skip_serializing_if = "is_default")]
    pub matches: Match,
    /// What is done with it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub action: SnatAction,
    /// The outside addresses (WAN IPs), or `interface` for the one of the interface that a packet
    /// leaves by (masquerade).
    #[serde(default, skip_serializing_if = "is_default")]
    #[schema(value_type = Vec<WanItem>)]
    pub wan_addresses: WanAddresses,
    /// Whether all conns from one inside address and port share an outside one (RFC 4787 REQ-1).
    #[serde(default, skip_serializing_if = "is_default")]
    pub mapping: Mapping,
    /// Who may send to a mapping from outside (RFC 4787 REQ-8).
    #[serde(default, skip_serializing_if = "is_default")]
    pub filtering: Filtering,
    /// Which packets keep a conn, and its mapping, from ending (RFC 4787 REQ-6, RFC 7857 §7).
    #[serde(default, skip_serializing_if = "is_default")]
    pub refresh: Refresh,
    /// Whether an inside address keeps to one WAN IP (RFC 4787 REQ-2).
    #[serde(default, skip_serializing_if = "is_default")]
    pub pooling: Pooling,
    /// In which order outside ports are taken.
    #[serde(default, skip_serializing_if = "is_default")]
    pub port_selection: PortSelection,
    /// The outside ports and ICMP identifiers that are taken.
    #[serde(default = "PortRange::unprivileged", skip_serializing_if = "is_unprivileged")]
    pub ports: PortRange,
    /// Keeps an even port even and an odd one odd (RFC 4787 REQ-4).
    #[serde(default, skip_serializing_if = "is_default")]
    pub preserve_parity: bool,
    /// How long a freed outside port is not taken again (RFC 6888 REQ-8).
    #[serde(default = "ms::<120_000>", skip_serializing_if = "is_ms::<120_000>")]
    pub port_rest: Duration,
    /// The most that each inside address may take (RFC 6888 REQ-4).
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: SubscriberLimits,
    /// What an inside host gets if there is no outside port left.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_exhausted: OnExhausted,
    /// Lowers the MSS of TCP handshakes that pass.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schema(value_type = String, example = "path")]
    pub mss_clamp: MssClamp,
    /// Lets inside hosts reach each other by their outside addresses (RFC 4787 REQ-9).
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    #[schema(default = true)]
    pub hairpin: bool,
    /// Idle times after which conns end, and mappings with the last of them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub timeouts: NatTimeouts,
}

fn is_unprivileged(ports: &PortRange) -> bool {
    *ports == PortRange::unprivileged()
}

/// What a rule of source NAT does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SnatAction {
    /// Puts a WAN IP in the place of the source.
    #[default]
    Translate,
    /// Routes the packet unchanged, as `-j RETURN` and `-j ACCEPT` do.
    Accept,
    /// Drops it.
    Drop,
}

/// The outside addresses of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum WanAddresses {
    /// The primary address of the interface that a packet leaves by: masquerade.
    Interface,
    /// These.
    Pool(Vec<WanRange>),
}

impl Default for WanAddresses {
    fn default() -> Self {
        Self::Pool(Vec::new())
    }
}

/// WAN IPs in a row that have the same part of new mappings.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WanRange {
    /// An address, a range or a prefix.
    pub address: AddressRange,
    /// The share of new mappings of each address; 0 means none.
    #[serde(default = "u16_of::<1>", skip_serializing_if = "is_u16::<1>")]
    #[schema(default = 1)]
    pub weight: u16,
    /// What the operator wants of them: `drain` and `disabled` take no new mappings.
    #[serde(default, skip_serializing_if = "is_default")]
    pub admin: Admin,
}

impl From<AddressRange> for WanRange {
    fn from(address: AddressRange) -> Self {
        Self { address, weight: 1, admin: Admin::default() }
    }
}

const INTERFACE: &str = "interface";

/// WAN IPs as they are written: `interface`, or addresses, plain if they are nothing else.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = WanAddress)]
enum WanItem {
    /// An address, a range, a prefix, or `interface`.
    Plain(String),
    /// With a share of its own.
    Range(WanRange),
}

impl From<&WanRange> for WanItem {
    fn from(range: &WanRange) -> Self {
        if WanRange::from(range.address) == *range {
            Self::Plain(range.address.to_string())
        } else {
            Self::Range(range.clone())
        }
    }
}

impl<'de> Deserialize<'de> for WanItem {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrMap;

        impl<'de> serde::de::Visitor<'de> for WordOrMap {
            type Value = WanItem;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(
                    "`interface`, an address, a range, a prefix or { address: …, weight: … }",
                )
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<WanItem, E> {
                if text == INTERFACE {
                    return Ok(WanItem::Plain(text.to_owned()));
                }
                let range: AddressRange = text.parse().map_err(E::custom)?;
                Ok(WanItem::Range(range.into()))
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<WanItem, A::Error> {
                WanRange::deserialize(MapAccessDeserializer::new(map)).map(WanItem::Range)
            }
        }

        deserializer.deserialize_any(WordOrMap)
    }
}

impl Serialize for WanAddresses {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Interface => serializer.collect_seq([INTERFACE]),
            Self::Pool(ranges) => serializer.collect_seq(ranges.iter().map(WanItem::from)),
        }
    }
}

impl<'de> Deserialize<'de> for WanAddresses {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;

        impl<'de> serde::de::Visitor<'de> for List {
            type Value = WanAddresses;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of addresses, or [ interface ]")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                list: A,
            ) -> Result<WanAddresses, A::Error> {
                let items = Vec::<WanItem>::deserialize(SeqAccessDeserializer::new(list))?;
                if matches!(items.as_slice(), [WanItem::Plain(_)]) {
                    return Ok(WanAddresses::Interface);
                }
                let ranges = items.into_iter().map(|item| match item {
                    WanItem::Range(range) => Ok(range),
                    WanItem::Plain(_) => Err(serde::de::Error::custom(
                        "`interface` stands alone: no other address can be beside it",
                    )),
                });
                ranges.collect::<Result<_, _>>().map(WanAddresses::Pool)
            }
        }

        deserializer.deserialize_any(List)
    }
}

/// Which conns share an outside address and port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mapping {
    /// All from one inside address and port, whoever they go to.
    #[default]
    EndpointIndependent,
    /// None: each has its own, which other conns to other remotes may have too.
    AddressAndPortDependent,
}

/// Who may send to a mapping from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Filtering {
    /// Anybody.
    #[default]
    EndpointIndependent,
    /// Addresses that the inside host has sent to.
    AddressDependent,
    /// Addresses and ports that it has sent to.
    AddressAndPortDependent,
}

/// Which packets keep a conn from ending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Refresh {
    /// Those of either side. Who only ever sends from outside, and is not answered, keeps nothing.
    #[default]
    Both,
    /// Those of the inside host.
    Outbound,
}

/// Whether an inside address keeps to one WAN IP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// All its mappings have the same.
    #[default]
    Paired,
    /// Each has any.
    Arbitrary,
}

/// In which order outside ports are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PortSelection {
    /// At random, so that they are hard to guess (RFC 6056).
    #[default]
    Random,
    /// One after the other.
    Sequential,
}

/// What an inside host gets if there is no outside port left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnExhausted {
    /// Nothing.
    #[default]
    Drop,
    /// ICMP destination unreachable, administratively prohibited (RFC 6888 REQ-4).
    Icmp,
}

/// Whether the MSS of TCP handshakes is lowered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MssClamp {
    /// Never.
    #[default]
    Off,
    /// To what fits the MTU of the way out.
    Path,
    /// To at most so many bytes.
    Bytes(u16),
}

impl Serialize for MssClamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_str("off"),
            Self::Path => serializer.serialize_str("path"),
            Self::Bytes(bytes) => serializer.serialize_u16(*bytes),
        }
    }
}

impl<'de> Deserialize<'de> for MssClamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrBytes;

        impl serde::de::Visitor<'_> for WordOrBytes {
            type Value = MssClamp;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`off`, `path` or a number of bytes from 1 to 65535")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<MssClamp, E> {
                match text {
                    "off" => Ok(MssClamp::Off),
                    "path" => Ok(MssClamp::Path),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_u64<E: serde::de::Error>(self, bytes: u64) -> Result<MssClamp, E> {
                match u16::try_from(bytes) {
                    Ok(bytes) if bytes != 0 => Ok(MssClamp::Bytes(bytes)),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Unsigned(bytes), &self)),
                }
            }
        }

        deserializer.deserialize_any(WordOrBytes)
    }
}

/// The most that each inside address may take of a rule; 0 is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubscriberLimits {
    /// Outside ports at once.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ports: u32,
    /// Conns at once.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sessions: u32,
    /// New conns in a second.
    #[serde(default, skip_serializing_if = "is_default")]
    pub new_sessions_per_second: u32,
}

/// Idle times after which conns of NAT end, by protocol and state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NatTimeouts {
    /// TCP before the handshake is complete (RFC 5382 REQ-5).
    #[serde(default = "ms::<240_000>", skip_serializing_if = "is_ms::<240_000>")]
    pub tcp_syn: Duration,
    /// TCP after it: 2 hours and 4 minutes (RFC 5382 REQ-5).
    #[serde(default = "ms::<7_440_000>", skip_serializing_if = "is_ms::<7_440_000>")]
    pub tcp_established: Duration,
    /// TCP after a FIN from either side.
    #[serde(default = "ms::<240_000>", skip_serializing_if = "is_ms::<240_000>")]
    pub tcp_closing: Duration,
    /// TCP after both FINs or a reset (RFC 7857 section 2.2).
    #[serde(default = "ms::<240_000>", skip_serializing_if = "is_ms::<240_000>")]
    pub tcp_closed: Duration,
    /// UDP before there is a reply (RFC 4787 REQ-5).
    #[serde(default = "ms::<300_000>", skip_serializing_if = "is_ms::<300_000>")]
    pub udp_oneway: Duration,
    /// UDP after it (RFC 4787 REQ-5).
    #[serde(default = "ms::<300_000>", skip_serializing_if = "is_ms::<300_000>")]
    pub udp: Duration,
    /// ICMP queries (RFC 5508 REQ-2).
    #[serde(default = "ms::<60_000>", skip_serializing_if = "is_ms::<60_000>")]
    pub icmp: Duration,
}

impl From<&NatTimeouts> for Timeouts {
    fn from(timeouts: &NatTimeouts) -> Self {
        Self {
            tcp_syn: timeouts.tcp_syn,
            tcp_established: timeouts.tcp_established,
            tcp_closing: timeouts.tcp_closing,
            tcp_closed: timeouts.tcp_closed,
            udp_oneway: timeouts.udp_oneway,
            udp: timeouts.udp,
            icmp: timeouts.icmp,
        }
    }
}
