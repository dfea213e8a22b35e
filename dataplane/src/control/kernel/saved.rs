//! The kernel's addresses, kept over a restart of the daemon: with the daemon its interfaces go.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

/// The file in the state directory.
const FILE: &str = "kernel-addresses.json";

/// Addresses by the name of the interface, by network namespace; that of the daemon is the empty one.
type Addresses = BTreeMap<String, BTreeMap<String, Vec<IpNet>>>;

/// What is kept of one network namespace.
#[derive(Debug)]
pub(super) struct Saved {
    path: PathBuf,
    netns: String,
    /// What the file has.
    kept: BTreeMap<String, Vec<IpNet>>,
}

impl Saved {
    /// What was kept in a state directory. A file that is not what was written is left alone until there
    /// is something else to write.
    pub(super) fn of(state_dir: PathBuf, netns: Option<&str>) -> Self {
        let (path, netns) = (state_dir.join(FILE), netns.unwrap_or_default().to_owned());
        let kept = read(&path).remove(&netns).unwrap_or_default();
        Self { path, netns, kept }
    }

    /// The addresses of an interface.
    pub(super) fn addresses(&self, name: &str) -> &[IpNet] {
        self.kept.get(name).map_or(&[], Vec::as_slice)
    }

    /// Keeps these instead, if they are others.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) fn replace(&mut self, now: &BTreeMap<&str, Vec<IpNet>>) -> io::Result<()> {
        let same = now.iter().all(|(name, addresses)| self.addresses(name) == addresses);
        if same {
            return Ok(());
        }
        for (name, addresses) in now {
            self.kept.insert((*name).to_owned(), addresses.clone());
        }
        let mut all = read(&self.path);
        all.insert(self.netns.clone(), self.kept.clone());
        write(&self.path, &all)
    }
}

fn read(path: &Path) -> Addresses {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Addresses::new(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "no addresses of the kernel are known");
            return Addresses::new();
        }
    };
    serde_json::from_slice(&text).unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), %error, "no addresses of the kernel are known");
        Addresses::new()
    })
}

/// Writes the file whole or not at all.
fn write(path: &Path, all: &Addresses) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut options = OpenOptions::new();
    let mut file: File =
        options.write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(&serde_json::to_vec_pretty(all)?)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_there_again_by_namespace_and_name() {
        let name = format!("dpnat-kernel-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let net = |text: &str| -> IpNet { text.parse().unwrap() };
        let mut here = Saved::of(dir.clone(), None);
        let mut edge = Saved::of(dir.clone(), Some("edge"));
        here.replace(&BTreeMap::from([("a", vec![net("198.18.0.5/24")])])).unwrap();
        edge.replace(&BTreeMap::from([("a", vec![net("198.18.0.6/24")])])).unwrap();
        assert_eq!(Saved::of(dir.clone(), None).addresses("a"), [net("198.18.0.5/24")]);
        assert_eq!(Saved::of(dir.clone(), Some("edge")).addresses("a"), [net("198.18.0.6/24")]);
        assert!(Saved::of(dir.clone(), None).addresses("b").is_empty());
        std::fs::write(dir.join(FILE), "{").unwrap();
        assert!(Saved::of(dir.clone(), None).addresses("a").is_empty());
        std::fs::remove_dir_all(dir).unwrap();
    }
}
