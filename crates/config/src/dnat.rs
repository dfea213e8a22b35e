//! Destination NAT: addresses and ports of ours that lead to inside servers.

use std::fmt;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::{Deserialize, Serialize};
use types::Endpoint;
use utoipa::ToSchema;

use crate::defaults::is_default;
use crate::matching::{AddressMatch, EndpointRange};
use crate::service::{Protocol, Scheduler, Server};
use crate::snat::NatTimeouts;

/// An address and ports of ours, and the servers that they lead to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DnatRule {
    /// The address and ports that are connected to.
    pub on: EndpointRange,
    /// The protocol.
    pub protocol: Protocol,
    /// Where that leads: an address with as many ports as `on` has, or a list of servers.
    #[schema(value_type = Written)]
    pub to: DnatTarget,
    /// How one of several servers is chosen for a new conn.
    #[serde(default, skip_serializing_if = "is_default")]
    pub scheduler: Scheduler,
    /// Who may connect; anybody if empty.
    #[serde(default, skip_serializing_if = "is_default")]
    pub source: Vec<AddressMatch>,
    /// Only by this interface; by any if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_dev: Option<String>,
    /// Which source address the server sees.
    #[serde(default, skip_serializing_if = "is_default")]
    pub source_address: SourceAddress,
    /// Idle times after which conns end.
    #[serde(default, skip_serializing_if = "is_default")]
    pub timeouts: NatTimeouts,
}

impl DnatRule {
    /// A rule with nothing but its addresses and protocol; everything else is default.
    pub fn new(on: EndpointRange, protocol: Protocol, to: DnatTarget) -> Self {
        Self {
            on,
            protocol,
            to,
            scheduler: Scheduler::default(),
            source: Vec::new(),
            in_dev: None,
            source_address: SourceAddress::default(),
            timeouts: NatTimeouts::default(),
        }
    }
}

/// Which source address a server sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SourceAddress {
    /// The client's, but the address of ours if the client is on the server's own link: else the
    /// server would answer it directly.
    #[default]
    Auto,
    /// The client's, always.
    Keep,
    /// The address of ours, always.
    Translate,
}

/// Where a rule of destination NAT leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DnatTarget {
    /// To one server; port by port if there is a range.
    One(EndpointRange),
    /// To several, of which each conn gets one.
    Servers(Vec<Server>),
}

/// The target as it is written.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = DnatTarget)]
enum Written {
    /// One server.
    One(EndpointRange),
    /// Several.
    Servers(Vec<TargetItem>),
}

/// A server of a list as it is written: plain if it is nothing but an endpoint.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = DnatServer)]
enum TargetItem {
    /// Its address and port.
    Plain(String),
    /// With a weight or limits.
    Full(Server),
}

/// A server of a list as it is read.
struct Item(Server);

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrMap;

        impl<'de> serde::de::Visitor<'de> for TextOrMap {
            type Value = Item;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address with its port or { address: …, weight: … }")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Item, E> {
                let address: Endpoint = text.parse().map_err(E::custom)?;
                Ok(Item(Server::new(address)))
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Item, A::Error> {
                Server::deserialize(MapAccessDeserializer::new(map)).map(Item)
            }
        }

        deserializer.deserialize_any(TextOrMap)
    }
}

impl Serialize for DnatTarget {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let item = |server: &Server| {
            let plain = Server::new(server.address) == *server;
            if plain {
                TargetItem::Plain(server.address.to_string())
            } else {
                TargetItem::Full(server.clone())
            }
        };
        let written = match self {
            Self::One(to) => Written::One(*to),
            Self::Servers(servers) => Written::Servers(servers.iter().map(item).collect()),
        };
        written.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for DnatTarget {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrList;

        impl<'de> serde::de::Visitor<'de> for TextOrList {
            type Value = DnatTarget;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address with its ports or a list of servers")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<DnatTarget, E> {
                text.parse().map(DnatTarget::One).map_err(E::custom)
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                list: A,
            ) -> Result<DnatTarget, A::Error> {
                let items = Vec::<Item>::deserialize(SeqAccessDeserializer::new(list))?;
                Ok(DnatTarget::Servers(items.into_iter().map(|item| item.0).collect()))
            }
        }

        deserializer.deserialize_any(TextOrList)
    }
}
