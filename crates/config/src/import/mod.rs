//! Configuration files of DPVS and keepalived, turned into this format.
//!
//! What has a counterpart is translated, what is not needed is listed with the reason, and what is lost
//! is a warning or, if its loss is not to be passed over, an error. Every message has a file and a line,
//! and comments stay beside what they are about. Files are read by a function that is passed in.

mod checks;
mod dpvs;
mod iptables;
mod keepalived;
mod output;
mod proxy;
mod services;
mod tree;
mod vrrp;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub use tree::{Read, Source};

use output::Yaml;

/// A line of a file that was imported.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file's name.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Why nothing came of an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportError {
    /// Where.
    pub place: Place,
    /// What is wrong, and what was expected.
    pub message: String,
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

impl std::error::Error for ImportError {}

impl ImportError {
    fn new(place: &Place, message: impl Into<String>) -> Self {
        Self { place: place.clone(), message: message.into() }
    }
}

/// How much a remark matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Importance {
    /// It is not needed here, and why.
    NotNeeded,
    /// Something to know or to do.
    Note,
    /// It is lost.
    Warning,
}

/// A remark on a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// How much it matters.
    pub importance: Importance,
    /// Where.
    pub place: Place,
    /// For people.
    pub message: String,
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.importance {
            Importance::NotNeeded => "not needed",
            Importance::Note => "note",
            Importance::Warning => "warning",
        };
        write!(f, "{}: {kind}: {}", self.place, self.message)
    }
}

/// What an import comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// The configuration.
    pub yaml: String,
    /// What stays of keepalived: its VRRP part, for one that is not DPVS's.
    pub keepalived: Option<String>,
    /// Remarks, by file and line.
    pub remarks: Vec<Remark>,
}

/// What may be lost only if it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// Deny and allow lists.
    Acl,
    /// SYN proxies.
    SynProxy,
}

impl Loss {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Acl, Self::SynProxy];

    /// The name, as on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Acl => "acl",
            Self::SynProxy => "synproxy",
        }
    }
}

/// What is known besides the file.
#[derive(Clone, Debug, Default)]
pub struct Knowledge {
    /// What may be lost.
    pub accepted: BTreeSet<Loss>,
    /// PCI addresses or device strings of interfaces by name.
    pub devices: BTreeMap<String, String>,
}

/// What is remarked while a file is read.
#[derive(Debug, Default)]
struct Remarks(Vec<Remark>);

impl Remarks {
    fn add(&mut self, importance: Importance, place: &Place, message: impl Into<String>) {
        self.0.push(Remark { importance, place: place.clone(), message: message.into() });
    }

    fn not_needed(&mut self, place: &Place, message: impl Into<String>) {
        self.add(Importance::NotNeeded, place, message);
    }

    fn note(&mut self, place: &Place, message: impl Into<String>) {
        self.add(Importance::Note, place, message);
    }

    fn warn(&mut self, place: &Place, message: impl Into<String>) {
        self.add(Importance::Warning, place, message);
    }

    fn sorted(mut self) -> Vec<Remark> {
        self.0.sort_by(|a, b| a.place.cmp(&b.place));
        self.0
    }
}

/// Imports a `dpvs.conf`.
///
/// # Errors
/// The first thing that cannot be read, with its place and what was expected.
pub fn dpvs(file: &str, read: Read<'_>, knowledge: &Knowledge) -> Result<Imported, ImportError> {
    let nodes = tree::parse(file, tree::Grammar::Dpvs, read)?;
    let mut remarks = Remarks::default();
    let mut yaml = Yaml::new(file);
    dpvs::import(&nodes, knowledge, &mut yaml, &mut remarks)?;
    Ok(Imported { yaml: yaml.text(), keepalived: None, remarks: remarks.sorted() })
}

/// Imports a `keepalived.conf`, DPVS's or the usual one. `peer` is that of the other node, if it is known:
/// what only one of two may have is then compared.
///
/// # Errors
/// The first thing that cannot be read or may not be lost, with its place and what was expected.
pub fn keepalived(
    file: &str,
    peer: Option<&str>,
    read: Read<'_>,
    knowledge: &Knowledge,
) -> Result<Imported, ImportError> {
    let nodes = tree::parse(file, tree::Grammar::Keepalived, read)?;
    let peer = peer.map(|peer| tree::parse(peer, tree::Grammar::Keepalived, read)).transpose()?;
    let mut remarks = Remarks::default();
    let mut yaml = Yaml::new(file);
    let rest = keepalived::import(&nodes, knowledge, read, &mut yaml, &mut remarks)?;
    if let Some(peer) = &peer {
        keepalived::compare(&nodes, peer, &mut remarks);
    }
    Ok(Imported { yaml: yaml.text(), keepalived: rest, remarks: remarks.sorted() })
}
