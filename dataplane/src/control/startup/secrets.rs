//! The node's secrets: kept over a restart, so that sequence numbers and timestamps go on.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nat::Secrets;
use serde::{Deserialize, Serialize};

/// The file in the state directory.
const FILE: &str = "secrets.json";

/// What this node knows and nobody else may.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSecrets {
    /// For initial sequence numbers.
    isn: [u64; 2],
    /// For timestamps.
    timestamp: [u64; 2],
    /// For the division of keys among workers.
    steering: [u64; 2],
}

impl std::fmt::Debug for NodeSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NodeSecrets(..)")
    }
}

/// Why there are no secrets.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// The state directory or the file cannot be used.
    #[error("cannot keep state in {directory}: {error}; name a directory with --state-dir")]
    Io {
        /// The state directory.
        directory: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The file is not what was written.
    #[error("{path} is damaged ({error}); remove it to have new secrets")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: serde_json::Error,
    },
}

impl NodeSecrets {
    /// Reads the secrets of a state directory, or makes new ones there.
    ///
    /// # Errors
    /// If the directory cannot be used, or the file is damaged.
    pub fn load(directory: &Path) -> Result<Self, SecretsError> {
        let refused = |error| SecretsError::Io { directory: directory.to_owned(), error };
        let path = directory.join(FILE);
        match std::fs::read(&path) {
            Ok(text) => Self::read(&text, path),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                DirBuilder::new().recursive(true).mode(0o750).create(directory).map_err(refused)?;
                let new = Self::random().map_err(refused)?;
                if new.keep(&path).map_err(refused)? {
                    return Ok(new);
                }
                // Another daemon was faster.
                let text = std::fs::read(&path).map_err(refused)?;
                Self::read(&text, path)
            }
            Err(error) => Err(refused(error)),
        }
    }

    fn read(text: &[u8], path: PathBuf) -> Result<Self, SecretsError> {
        serde_json::from_slice(text).map_err(|error| SecretsError::Damaged { path, error })
    }

    /// New ones, kept nowhere.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub fn random() -> io::Result<Self> {
        Ok(Self { isn: random()?, timestamp: random()?, steering: random()? })
    }

    /// Writes the file whole, readable for its owner only; false if there is one already.
    fn keep(&self, path: &Path) -> io::Result<bool> {
        let beside = path.with_extension(format!("{}.new", std::process::id()));
        let mut options = OpenOptions::new();
        let written = (|| {
            let mut file =
                options.write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            file.sync_all()?;
            match std::fs::hard_link(&beside, path) {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
                Err(error) => Err(error),
            }
        })();
        let removed = std::fs::remove_file(&beside);
        written.and_then(|kept| removed.map(|()| kept))
    }

    /// What workers need.
    pub fn of_workers(&self) -> Secrets {
        Secrets { isn: self.isn, timestamp: self.timestamp }
    }

    /// What the draws of WAN IPs need: two secrets in one, so that neither is told by it.
    pub fn nat(&self) -> [u64; 2] {
        let [a, b] = self.isn;
        let [c, d] = self.timestamp;
        [a ^ c.rotate_left(32), b ^ d.rotate_left(32)]
    }

    /// What the division of keys among workers needs.
    pub fn steering(&self) -> [u64; 2] {
        self.steering
    }
}

/// Two random numbers of the system's.
pub(in crate::control) fn random() -> io::Result<[u64; 2]> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let bits = u128::from_ne_bytes(bytes);
    Ok([bits as u64, (bits >> 64) as u64])
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn secrets_stay_the_same_and_are_nobody_elses() {
        let directory = std::env::temp_dir().join(format!("dpnat-secrets-{}", std::process::id()));
        let first = NodeSecrets::load(&directory).unwrap();
        assert_eq!(NodeSecrets::load(&directory).unwrap(), first);
        let path = directory.join(FILE);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1, "nothing beside it");
        assert!(!NodeSecrets::random().unwrap().keep(&path).unwrap(), "there is one");
        assert_eq!(NodeSecrets::load(&directory).unwrap(), first);
        std::fs::write(&path, "{}").unwrap();
        assert!(matches!(NodeSecrets::load(&directory), Err(SecretsError::Damaged { .. })));
        std::fs::remove_dir_all(&directory).unwrap();
        std::fs::write(&directory, "a file").unwrap();
        assert!(matches!(NodeSecrets::load(&directory), Err(SecretsError::Io { .. })));
        std::fs::remove_file(&directory).unwrap();
    }
}
