//! What a service has of its own, or by the name of what it shares with others.

use std::fmt;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Server;
use crate::schema::LocalPool;

/// A service's real servers.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Servers {
    /// Those of a group, by name.
    Group(String),
    /// Its own.
    Inline(Vec<Server>),
}

impl Default for Servers {
    fn default() -> Self {
        Self::Inline(Vec::new())
    }
}

impl<'de> Deserialize<'de> for Servers {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct GroupOrList;

        impl<'de> serde::de::Visitor<'de> for GroupOrList {
            type Value = Servers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a server group or a list of servers")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Servers, E> {
                Ok(Servers::Group(name.to_owned()))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, list: A) -> Result<Servers, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Servers::Inline)
            }
        }

        deserializer.deserialize_any(GroupOrList)
    }
}

/// A service's local addresses.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Pool {
    /// Those of a pool, by name.
    Named(String),
    /// Its own.
    Inline(LocalPool),
}

impl<'de> Deserialize<'de> for Pool {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrPool;

        impl<'de> serde::de::Visitor<'de> for NameOrPool {
            type Value = Pool;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a local address pool or { addresses: […], dev: … }")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Pool, E> {
                Ok(Pool::Named(name.to_owned()))
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Pool, A::Error> {
                LocalPool::deserialize(MapAccessDeserializer::new(map)).map(Pool::Inline)
            }
        }

        deserializer.deserialize_any(NameOrPool)
    }
}
