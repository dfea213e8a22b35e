//! What is wrong with a configuration, and where.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// Where something is in a configuration: `services.shop.vips[0]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path(Vec<Segment>);

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Segment {
    /// Into a map, by key.
    Key(String),
    /// Into a list, from 0.
    Index(usize),
}

impl Path {
    /// The whole configuration.
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// The path of a section.
    pub fn of(section: &str) -> Self {
        Self::root().key(section)
    }

    /// The path of what `key` names in it.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        let mut path = self.clone();
        path.0.push(Segment::Key(key.to_owned()));
        path
    }

    /// The path of what stands at `index` of it, from 0.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        let mut path = self.clone();
        path.0.push(Segment::Index(index));
        path
    }

    /// The value there, if there is one.
    pub fn find<'a>(&self, whole: &'a Value) -> Option<&'a Value> {
        self.0.iter().try_fold(whole, |value, segment| match segment {
            Segment::Key(key) => value.get(key),
            Segment::Index(index) => value.get(index),
        })
    }

    pub(crate) fn segments(&self) -> &[Segment] {
        &self.0
    }

    pub(crate) fn parent(&self) -> Option<Self> {
        let (_, parent) = self.0.split_last()?;
        Some(Self(parent.to_vec()))
    }
}

impl From<&serde_path_to_error::Path> for Path {
    fn from(path: &serde_path_to_error::Path) -> Self {
        use serde_path_to_error::Segment as Serde;
        let segments = path.iter().filter_map(|segment| match segment {
            Serde::Seq { index } => Some(Segment::Index(*index)),
            Serde::Map { key } => Some(Segment::Key(key.clone())),
            Serde::Enum { .. } | Serde::Unknown => None,
        });
        Self(segments.collect())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Key(key) if position == 0 => f.write_str(key)?,
                Segment::Key(key) => write!(f, ".{key}")?,
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// A place in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location {
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// What kind of thing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// No YAML, an unknown key, a value of the wrong type.
    Syntax,
    /// Of the right type, but it cannot be.
    Invalid,
    /// There is no such thing.
    NotFound,
    /// There is one already, or something else needs it.
    Conflict,
}

/// One thing that is wrong with a configuration or a change of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// What kind of thing.
    pub kind: ErrorKind,
    /// Where.
    pub path: Path,
    /// The value found there.
    pub value: Option<String>,
    /// What is wrong, with the value in it.
    pub message: String,
    /// The way out, if there is one to name.
    pub hint: Option<String>,
    /// Where in the file, if it comes from one.
    pub location: Option<Location>,
}

impl ConfigError {
    /// With a path and a message only.
    pub fn new(kind: ErrorKind, path: Path, message: impl Into<String>) -> Self {
        Self { kind, path, value: None, message: message.into(), hint: None, location: None }
    }

    /// A value that cannot be.
    pub fn invalid(path: Path, value: impl ToString, message: impl Into<String>) -> Self {
        Self { value: Some(value.to_string()), ..Self::new(ErrorKind::Invalid, path, message) }
    }

    /// A value that something else has or needs.
    pub fn conflict(path: Path, value: impl ToString, message: impl Into<String>) -> Self {
        Self { value: Some(value.to_string()), ..Self::new(ErrorKind::Conflict, path, message) }
    }

    /// A thing that is not there.
    pub fn not_found(path: Path, value: impl ToString, message: impl Into<String>) -> Self {
        Self { value: Some(value.to_string()), ..Self::new(ErrorKind::NotFound, path, message) }
    }

    /// Adds the way out.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.segments().is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        self.hint.iter().try_for_each(|hint| write!(f, "; {hint}"))
    }
}

impl std::error::Error for ConfigError {}

/// All that is wrong with a file. Each line names the file, line and column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileErrors {
    /// The file's name.
    pub file: String,
    /// What is wrong, by line.
    pub errors: Vec<ConfigError>,
}

impl fmt::Display for FileErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{}:", self.file)?;
            if let Some(location) = error.location {
                write!(f, "{location}:")?;
            }
            write!(f, " {error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for FileErrors {}

/// What is allowed, but may not be meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Warning {
    /// Where, as in `services.shop`.
    pub path: String,
    /// What and why, for people.
    pub message: String,
}

impl Warning {
    pub(crate) fn new(path: &Path, message: impl Into<String>) -> Self {
        Self { path: path.to_string(), message: message.into() }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}
