//! `import`: files of DPVS and keepalived, turned into a configuration. The daemon is not asked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use config::import::{self, Importance, Imported, Knowledge, Loss, Source};

use crate::cli::{AcceptedLoss, ImportCommon, ImportVerb};
use crate::error::CtlError;
use crate::session::{Outcome, Session};
use crate::units;

pub(super) fn import(session: &mut Session<'_>, verb: &ImportVerb) -> Outcome {
    let (common, keepalived, imported) = match verb {
        ImportVerb::Dpvs(args) => {
            let knowledge = knowledge(&args.common, &[])?;
            let file = args.file.to_string_lossy();
            (&args.common, None, import::dpvs(&file, &read, &knowledge))
        }
        ImportVerb::Keepalived(args) => {
            let knowledge = knowledge(&args.common, &args.accept_loss)?;
            let file = args.file.to_string_lossy();
            let peer = args.peer.as_ref().map(|peer| peer.to_string_lossy());
            let imported = import::keepalived(&file, peer.as_deref(), &read, &knowledge);
            (&args.common, args.keepalived.as_ref(), imported)
        }
    };
    // Nothing is written unless all of it could be read.
    let Imported { yaml, keepalived: rest, remarks } =
        imported.map_err(|error| CtlError::Refused(error.to_string()))?;
    for remark in &remarks {
        if remark.importance != Importance::NotNeeded || session.options.statistics {
            session.remark(&remark.to_string())?;
        }
    }
    let skipped = remarks.iter().filter(|remark| remark.importance == Importance::NotNeeded);
    let skipped = skipped.count();
    if skipped > 0 && !session.options.statistics {
        let settings = units::count(skipped as u64, "setting");
        session.remark(&format!("{settings} not needed; -s lists them"))?;
    }
    match (rest, keepalived) {
        (Some(rest), Some(file)) => save(file, &rest)?,
        (Some(_), None) => {
            session.remark("VRRP stays keepalived's: --keepalived FILE writes a file for it")?;
        }
        (None, _) => {}
    }
    match &common.output {
        Some(file) => save(file, &yaml),
        None => session.text(&yaml),
    }
}

fn knowledge(common: &ImportCommon, losses: &[AcceptedLoss]) -> Result<Knowledge, CtlError> {
    let device = |text: &String| match text.split_once('=') {
        Some((name, device)) => Ok((name.to_owned(), device.to_owned())),
        None => Err(CtlError::usage(format!("`--device {text}`: expected NAME=DEVICE"))),
    };
    let devices: Result<BTreeMap<_, _>, _> = common.devices.iter().map(device).collect();
    let loss = |loss: &AcceptedLoss| match loss {
        AcceptedLoss::Acl => Loss::Acl,
        AcceptedLoss::Synproxy => Loss::SynProxy,
    };
    Ok(Knowledge { accepted: losses.iter().map(loss).collect(), devices: devices? })
}

fn save(file: &Path, text: &str) -> Outcome {
    std::fs::write(file, text)
        .map_err(|reason| CtlError::Io { file: file.display().to_string(), reason })
}

/// The files that a name stands for: beside the file that names it, with `*` and `?` in its last part.
fn read(name: &str, from: Option<&str>) -> Result<Vec<Source>, String> {
    let beside = from.and_then(|from| Path::new(from).parent()).unwrap_or(Path::new(""));
    let path = beside.join(name);
    let pattern = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let paths = if pattern.contains(['*', '?']) {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let entries = std::fs::read_dir(folder.unwrap_or(Path::new(".")));
        let entries = entries.map_err(|why| why.to_string())?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| matches(&pattern, name)).collect();
        names.sort();
        names.iter().map(|name| path.with_file_name(name)).collect()
    } else {
        vec![path]
    };
    let one = |path: PathBuf| {
        let text =
            std::fs::read_to_string(&path).map_err(|why| format!("{}: {why}", path.display()))?;
        Ok(Source { name: path.display().to_string(), text })
    };
    paths.into_iter().map(one).collect()
}

/// As a shell matches names.
fn matches(pattern: &str, name: &str) -> bool {
    match (pattern.chars().next(), name.chars().next()) {
        (None, None) => true,
        (Some('*'), _) => {
            let rest = &pattern[1..];
            name.char_indices().any(|(at, _)| matches(rest, &name[at..])) || matches(rest, "")
        }
        (Some(p), Some(c)) if p == '?' || p == c => {
            matches(&pattern[p.len_utf8()..], &name[c.len_utf8()..])
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, name, does) in [
            ("*.conf", "a.conf", true),
            ("*.conf", ".conf", true),
            ("*.conf", "a.conf~", false),
            ("vs-?.conf", "vs-1.conf", true),
            ("vs-?.conf", "vs-10.conf", false),
            ("*", "anything", true),
        ] {
            assert_eq!(matches(pattern, name), does, "{pattern} {name}");
        }
    }
}
