//! Maps keyed by name, in which no name may stand twice.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, Visitor};

/// The longest name in bytes.
pub(crate) const NAME_MAX: usize = 63;

/// Why `name` is none, if so.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty() {
        Err("a name must not be empty".to_owned())
    } else if name.len() > NAME_MAX {
        Err(format!("the name is longer than {NAME_MAX} bytes"))
    } else if !name.bytes().all(fits) {
        Err(format!("the name `{name}` has other characters than letters, digits, `-`, `_`, `.`"))
    } else {
        Ok(())
    }
}

/// Reads a map whose names are valid and unique. Nothing (`services:` without a value) is empty.
pub(crate) fn map<'de, D, T>(deserializer: D) -> Result<BTreeMap<String, Arc<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_any(NamedMap(PhantomData))
}

/// Reads a list. Nothing (`routes:` without a value) is empty.
pub(crate) fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

struct NamedMap<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for NamedMap<T> {
    type Value = BTreeMap<String, Arc<T>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map keyed by name")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(BTreeMap::new())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut map = BTreeMap::new();
        while let Some(name) = access.next_key_seed(NewName(&map))? {
            let value = access.next_value()?;
            map.insert(name, Arc::new(value));
        }
        Ok(map)
    }
}

/// Reads a name that the map does not have yet: the error is then at the name.
struct NewName<'a, T>(&'a BTreeMap<String, T>);

impl<'de, T> DeserializeSeed<'de> for NewName<'_, T> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<T> Visitor<'_> for NewName<'_, T> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<String, E> {
        check_name(name).map_err(E::custom)?;
        if self.0.contains_key(name) {
            return Err(E::custom(format_args!("duplicate field `{name}`")));
        }
        Ok(name.to_owned())
    }
}
