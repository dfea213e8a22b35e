//! The configuration: applied, compared, exported and saved.

use std::io::Read;
use std::path::Path;

use api::{ApplyQuery, Changes, ConfigFormat, ConfigQuery, Operation, Request, Saved};
use config::{Change, ChangeKind, Effect};
use serde_json::Value;

use crate::cli::{ApplyArgs, ConfigVerb, DiffArgs};
use crate::error::CtlError;
use crate::session::{Outcome, Session, about_file};
use crate::units;

/// A file's name for messages, and its text.
fn read(file: &Path) -> Result<(String, String), CtlError> {
    if file == Path::new("-") {
        let name = "standard input".to_owned();
        let mut text = String::new();
        return match std::io::stdin().read_to_string(&mut text) {
            Ok(_) => Ok((name, text)),
            Err(reason) => Err(CtlError::Io { file: name, reason }),
        };
    }
    let name = file.display().to_string();
    match std::fs::read_to_string(file) {
        Ok(text) => Ok((name, text)),
        Err(reason) => Err(CtlError::Io { file: name, reason }),
    }
}

pub(super) fn apply(session: &mut Session<'_>, args: &ApplyArgs) -> Outcome {
    let (name, text) = read(&args.file)?;
    let query = ApplyQuery { prune: args.prune, dry_run: args.dry_run };
    let request = Request::new(Operation::ConfigApply).query(&query).yaml(text);
    let changes: Changes = session.ask(request).map_err(|error| about_file(error, &name))?;
    session.warn(&changes.warnings)?;
    let verb = if args.dry_run { "would change" } else { "changed" };
    session.print(&changes, |changes, _| {
        let mut text = lines(changes);
        text.push_str(&match changes.changes.len() {
            0 => "nothing to change\n".to_owned(),
            number => format!("{} {verb}\n", units::count(number as u64, "value")),
        });
        text
    })
}

pub(super) fn diff(session: &mut Session<'_>, args: &DiffArgs) -> Outcome {
    let query = ApplyQuery { prune: args.prune, dry_run: true };
    let mut request = Request::new(Operation::ConfigDiff).query(&query);
    let mut name = None;
    if let Some(file) = &args.file {
        let (file, text) = read(file)?;
        name = Some(file);
        request = request.yaml(text);
    }
    let changes: Changes = session.ask(request).map_err(|error| match &name {
        Some(name) => about_file(error, name),
        None => error,
    })?;
    session.warn(&changes.warnings)?;
    session.print(&changes, |changes, _| match changes.changes.len() {
        0 => "no difference\n".to_owned(),
        _ => lines(changes),
    })
}

/// `+` what is added, `-` what is removed, `~` what is changed.
fn lines(changes: &Changes) -> String {
    let line = |change: &Change| {
        let Change { path, kind, old, new, effect } = change;
        let when = match effect {
            Effect::Live => "",
            Effect::NewConnections => "  (for new connections)",
            Effect::Restart => "  (at the next start)",
        };
        match kind {
            ChangeKind::Added => format!("+ {path}{}{when}\n", behind(new.as_ref())),
            ChangeKind::Removed => format!("- {path}{}{when}\n", behind(old.as_ref())),
            ChangeKind::Changed => {
                let new = new.as_ref().map(short).unwrap_or_default();
                format!("~ {path}{} -> {new}{when}\n", behind(old.as_ref()))
            }
        }
    };
    changes.changes.iter().map(line).collect()
}

fn behind(value: Option<&Value>) -> String {
    value.map(|value| format!(": {}", short(value))).unwrap_or_default()
}

/// A value in one line, as in the file.
fn short(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) if list.is_empty() => "[]".to_owned(),
        Value::Array(list) => {
            format!("[ {} ]", list.iter().map(short).collect::<Vec<_>>().join(", "))
        }
        Value::Object(map) if map.is_empty() => "{}".to_owned(),
        Value::Object(map) => {
            let fields: Vec<_> = map.iter().map(|(k, v)| format!("{k}: {}", short(v))).collect();
            format!("{{ {} }}", fields.join(", "))
        }
        other => other.to_string(),
    }
}

pub(super) fn export(session: &mut Session<'_>, output: Option<&Path>) -> Outcome {
    let format = if session.is_json() { ConfigFormat::Json } else { ConfigFormat::Yaml };
    let request = Request::new(Operation::ConfigGet).query(&ConfigQuery { format });
    let mut text = session.client.text(request)?;
    if session.options.pretty {
        let value: Value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        text = format!("{value:#}");
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    match output {
        None => session.text(&text),
        Some(file) => std::fs::write(file, text)
            .map_err(|reason| CtlError::Io { file: file.display().to_string(), reason }),
    }
}

pub(super) fn config(session: &mut Session<'_>, verb: ConfigVerb) -> Outcome {
    match verb {
        ConfigVerb::Show => export(session, None),
        ConfigVerb::Save => {
            let saved: Saved = session.ask(Request::new(Operation::ConfigSave))?;
            session.print(&saved, |saved, _| {
                format!("wrote {} to {}\n", units::bytes(saved.bytes), saved.path)
            })
        }
    }
}
