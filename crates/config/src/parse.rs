//! A configuration as text: reading it with the place of each error, and writing it.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::error::{ConfigError, ErrorKind, FileErrors, Location, Path, Segment, Warning};
use crate::explain::explain_serde;
use crate::model::Model;
use crate::schema::Config;

/// Each place is found by reading the file again; more than this would take too long.
const LOCATED_MAX: usize = 50;

/// Reads and checks a file. `file` is its name in messages.
///
/// # Errors
/// All that is wrong, each with line and column; but only the first thing if the form is wrong.
pub fn load(text: &str, file: &str) -> Result<(Model, Vec<Warning>), FileErrors> {
    let result = parse(text).map_err(|error| vec![error]).and_then(Model::new);
    result.map_err(|mut errors| {
        locate_all(text, &mut errors);
        // Those without a place come last.
        errors.sort_by_key(|error| (error.location.is_none(), error.location));
        FileErrors { file: file.to_owned(), errors }
    })
}

/// Reads a configuration in YAML (or JSON, which is YAML too) without checking what its values mean.
///
/// # Errors
/// The first thing that is wrong, with line and column.
pub fn parse(text: &str) -> Result<Config, ConfigError> {
    if is_blank(text) {
        return Ok(Config::default());
    }
    from_yaml(text)
}

/// Reads any part of the schema.
pub(crate) fn from_yaml<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, ConfigError> {
    serde_path_to_error::deserialize(serde_yaml::Deserializer::from_str(text)).map_err(|error| {
        let path = Path::from(error.path());
        let (message, location) = message_of(error.inner(), &path);
        let mut error = explain_serde(path, &message);
        error.location = location;
        if message.starts_with("duplicate field") {
            // A map of fixed keys has told where it begins.
            error.location = locate(text, &error.path, 1).or(location);
        }
        error
    })
}

/// True if there is nothing but comments.
pub(crate) fn is_blank(text: &str) -> bool {
    text.lines()
        .map(str::trim)
        .all(|line| line.is_empty() || line.starts_with('#') || line == "---")
}

/// What is wrong, without the path and the place that the YAML parser puts around it.
fn message_of(error: &serde_yaml::Error, path: &Path) -> (String, Option<Location>) {
    let mut message = error.to_string();
    let Some(place) = error.location() else { return (message, None) };
    let suffix = format!(" at line {} column {}", place.line(), place.column());
    if message.ends_with(&suffix) {
        message.truncate(message.len() - suffix.len());
    }
    let mut prefix = Some(path.clone());
    while let Some(path) = prefix {
        if let Some(rest) = message.strip_prefix(&format!("{path}: ")) {
            message = rest.to_owned();
            break;
        }
        prefix = path.parent();
    }
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    (message, Some(Location { line: number(place.line()), column: number(place.column()) }))
}

/// Finds the place of each error that has none yet.
pub(crate) fn locate_all(text: &str, errors: &mut [ConfigError]) {
    let nowhere = errors.iter_mut().filter(|error| error.location.is_none());
    for error in nowhere.take(LOCATED_MAX) {
        error.location = locate(text, &error.path, 0);
    }
}

/// The place of what a path names, or of the nearest thing around it that the text has. Its last key
/// is passed `skip` times.
fn locate(text: &str, path: &Path, skip: usize) -> Option<Location> {
    let mut path = path.clone();
    while !path.segments().is_empty() {
        let yaml = serde_yaml::Deserializer::from_str(text);
        if let Err(error) = (Finder { segments: path.segments(), skip }).deserialize(yaml)
            && error.to_string().contains(HERE)
        {
            return message_of(&error, &path).1;
        }
        path = path.parent()?;
    }
    None
}

/// The error by which the parser is made to tell a place; no text can have it.
const HERE: &str = "\u{0}here";

/// Goes down a path and fails where it ends: at its last key, or at its last item.
#[derive(Clone, Copy)]
struct Finder<'a> {
    segments: &'a [Segment],
    skip: usize,
}

impl<'de> DeserializeSeed<'de> for Finder<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Finder<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HERE)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((segment, rest)) = self.segments.split_first() else {
            return Err(A::Error::custom(HERE));
        };
        let Segment::Key(wanted) = segment else {
            return IgnoredAny.visit_map(map).map(drop);
        };
        let mut skip = self.skip;
        loop {
            let here = rest.is_empty() && skip == 0;
            match map.next_key_seed(KeyFinder { wanted, here })? {
                Some(true) if rest.is_empty() => {
                    skip -= 1;
                    map.next_value::<IgnoredAny>()?;
                }
                Some(true) => map.next_value_seed(Finder { segments: rest, skip })?,
                Some(false) => drop(map.next_value::<IgnoredAny>()?),
                None => return Ok(()),
            }
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Some((segment, rest)) = self.segments.split_first() else {
            return Err(A::Error::custom(HERE));
        };
        let Segment::Index(wanted) = segment else {
            return IgnoredAny.visit_seq(seq).map(drop);
        };
        for _ in 0..*wanted {
            if seq.next_element::<IgnoredAny>()?.is_none() {
                return Ok(());
            }
        }
        seq.next_element_seed(Finder { segments: rest, skip: self.skip })?;
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        if self.segments.is_empty() { Err(E::custom(HERE)) } else { Ok(()) }
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.visit_str("")
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.visit_str("")
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.visit_str("")
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.visit_str("")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.visit_str("")
    }
}

/// Says whether a key is the wanted one, and fails there if the path ends here.
struct KeyFinder<'a> {
    wanted: &'a str,
    here: bool,
}

impl<'de> DeserializeSeed<'de> for KeyFinder<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeyFinder<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<bool, E> {
        let found = key == self.wanted;
        if found && self.here { Err(E::custom(HERE)) } else { Ok(found) }
    }
}

/// Writes a configuration in YAML: sections in the order of the schema, things by name, and nothing
/// that is default. Reading it gives the same configuration.
///
/// # Errors
/// None that a configuration can cause; those of the writer are passed on.
pub fn to_yaml(config: &Config) -> Result<String, ConfigError> {
    serde_yaml::to_string(config).map_err(|error| unwritable(&error))
}

/// The same in JSON, on one line for each value.
///
/// # Errors
/// None that a configuration can cause; those of the writer are passed on.
pub fn to_json(config: &Config) -> Result<String, ConfigError> {
    let text = serde_json::to_string_pretty(config).map_err(|error| unwritable(&error))?;
    Ok(text + "\n")
}

fn unwritable(error: &dyn fmt::Display) -> ConfigError {
    ConfigError::new(ErrorKind::Invalid, Path::root(), format!("cannot be written: {error}"))
}
