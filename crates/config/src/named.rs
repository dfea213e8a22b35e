//! Maps keyed by name, in which no name may stand twice and the order may matter.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use indexmap::IndexMap;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde::{Serialize, Serializer};

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

/// Reads a map whose order matters.
pub(crate) fn ordered<'de, D, T>(deserializer: D) -> Result<Ordered<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_any(NamedMap(PhantomData))
}

/// Things by name whose order matters: of rules, the first decides.
#[derive(Debug)]
pub struct Ordered<T>(IndexMap<String, Arc<T>>);

impl<T> Ordered<T> {
    /// Puts a thing at its place: that of the one with its name, or else the end.
    pub fn put(&mut self, name: &str, value: Arc<T>) {
        self.0.insert(name.to_owned(), value);
    }

    /// Moves the thing of that name to `position`, counted from 0 without it; to the end if there are
    /// fewer.
    pub fn move_to(&mut self, name: &str, position: usize) {
        if let Some(from) = self.0.get_index_of(name) {
            self.0.move_index(from, position.min(self.0.len() - 1));
        }
    }

    /// Takes the thing of that name away; the others keep their order.
    pub fn remove(&mut self, name: &str) -> Option<Arc<T>> {
        self.0.shift_remove(name)
    }

    /// The names in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl<T> Clone for Ordered<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Ordered<T> {
    fn default() -> Self {
        Self(IndexMap::new())
    }
}

impl<T> Deref for Ordered<T> {
    type Target = IndexMap<String, Arc<T>>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<T> FromIterator<(String, Arc<T>)> for Ordered<T> {
    fn from_iter<I: IntoIterator<Item = (String, Arc<T>)>>(things: I) -> Self {
        Self(things.into_iter().collect())
    }
}

impl<'a, T> IntoIterator for &'a Ordered<T> {
    type Item = (&'a String, &'a Arc<T>);
    type IntoIter = indexmap::map::Iter<'a, String, Arc<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<T: PartialEq> PartialEq for Ordered<T> {
    /// An `IndexMap` leaves the order out of the comparison.
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().eq(other.0.iter())
    }
}

impl<T: Serialize> Serialize for Ordered<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter())
    }
}

/// Reads a list. Nothing (`routes:` without a value) is empty.
pub(crate) fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// What a map is read into.
trait Named<T>: Default {
    fn has(&self, name: &str) -> bool;
    fn add(&mut self, name: String, value: Arc<T>);
}

impl<T> Named<T> for BTreeMap<String, Arc<T>> {
    fn has(&self, name: &str) -> bool {
        self.contains_key(name)
    }

    fn add(&mut self, name: String, value: Arc<T>) {
        self.insert(name, value);
    }
}

impl<T> Named<T> for Ordered<T> {
    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn add(&mut self, name: String, value: Arc<T>) {
        self.0.insert(name, value);
    }
}

struct NamedMap<M, T>(PhantomData<(M, T)>);

impl<'de, M: Named<T>, T: Deserialize<'de>> Visitor<'de> for NamedMap<M, T> {
    type Value = M;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map keyed by name")
    }

    fn visit_unit<E: Error>(self) -> Result<M, E> {
        Ok(M::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<M, A::Error> {
        let mut map = M::default();
        while let Some(name) = access.next_key_seed(NewName(&map, PhantomData))? {
            let value = access.next_value()?;
            map.add(name, Arc::new(value));
        }
        Ok(map)
    }
}

/// Reads a name that the map does not have yet: the error is then at the name.
struct NewName<'a, M, T>(&'a M, PhantomData<T>);

impl<'de, M: Named<T>, T> DeserializeSeed<'de> for NewName<'_, M, T> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<M: Named<T>, T> Visitor<'_> for NewName<'_, M, T> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<String, E> {
        check_name(name).map_err(E::custom)?;
        if self.0.has(name) {
            return Err(E::custom(format_args!("duplicate field `{name}`")));
        }
        Ok(name.to_owned())
    }
}
