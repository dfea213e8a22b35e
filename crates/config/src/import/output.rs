//! A configuration as text, section by section, with comments.

use std::collections::BTreeMap;

/// Sections in the order of the manual.
const ORDER: [&str; 13] = [
    "log",
    "workers",
    "conntrack",
    "interfaces",
    "bonds",
    "addresses",
    "routes",
    "local_address_pools",
    "server_groups",
    "services",
    "snat",
    "dnat",
    "forwarding",
];

/// Comments of a file that are about nothing in particular stand at the top of what comes of it.
#[derive(Debug)]
pub(super) struct Yaml {
    file: String,
    top: Vec<String>,
    sections: BTreeMap<&'static str, Vec<String>>,
}

impl Yaml {
    pub fn new(file: &str) -> Self {
        Self { file: file.to_owned(), top: Vec::new(), sections: BTreeMap::new() }
    }

    /// Comments that belong to no section.
    pub fn comments(&mut self, comments: &[String]) {
        self.top.extend(comments.iter().filter(|text| !text.is_empty()).cloned());
    }

    /// Adds lines to a section, indented by two, with comments above them.
    pub fn add(&mut self, section: &'static str, comments: &[String], lines: &[String]) {
        let all = self.sections.entry(section).or_default();
        let comments = comments.iter().filter(|text| !text.is_empty());
        all.extend(comments.map(|text| format!("  # {text}")));
        all.extend(lines.iter().map(|line| format!("  {line}")));
    }

    /// Adds one line to a section.
    pub fn line(&mut self, section: &'static str, line: impl Into<String>) {
        self.add(section, &[], &[line.into()]);
    }

    pub fn text(&self) -> String {
        let mut text = format!("# Made from {} by `dpctl import`.\n", self.file);
        for comment in &self.top {
            text.push_str(&format!("# {comment}\n"));
        }
        text.push_str("version: 1\n");
        for section in ORDER {
            let Some(lines) = self.sections.get(section) else { continue };
            text.push_str(&format!("{section}:\n"));
            for line in lines {
                text.push_str(&format!("{line}\n"));
            }
        }
        text
    }
}

/// A text as YAML takes it in a flow: in quotes, unless it is plain.
pub(super) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    let is_word = text.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(plain)
        && !matches!(
            text.to_ascii_lowercase().as_str(),
            "true" | "false" | "null" | "yes" | "no" | "on" | "off"
        );
    if is_word {
        return text.to_owned();
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A name that a thing may have here.
pub(super) fn name_of(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    text.chars().map(plain).take(crate::named::NAME_MAX).collect()
}
