//! The daemon's Unix socket: one daemon a path, and nothing left behind.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

use super::trust::Trusted;

/// For root and the group `dpnat`.
const MODE: u32 = 0o660;

/// A listening socket, held by a lock beside it. Both files go when it is dropped.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    lock_path: PathBuf,
    _lock: File,
}

/// Who has connected.
#[derive(Debug)]
pub(super) enum Peer {
    /// One whom the daemon obeys.
    Trusted(UnixStream),
    /// Another one; the connection is closed.
    Untrusted {
        /// Its user.
        uid: u32,
        /// Its group.
        gid: u32,
    },
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another daemon has it.
    #[error(
        "another dpnatd (process {pid}) serves {path}; stop it, or give this one a socket of its \
         own with --socket"
    )]
    Busy {
        /// The socket.
        path: PathBuf,
        /// The other daemon.
        pid: String,
    },
    /// The path holds something that is not a socket.
    #[error("{0} is there and is no socket; remove it, or name another with --socket")]
    NotASocket(PathBuf),
    /// The system says no.
    #[error("cannot listen on {path}: {error}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// What it says.
        error: io::Error,
    },
}

impl Socket {
    /// Listens at `path`. A socket that a dead daemon left there is replaced.
    ///
    /// # Errors
    /// If a living daemon has it, or the system says no.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let io_error = |error| SocketError::Io { path: path.to_owned(), error };
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(io_error)?;
        }
        let mut lock_path = path.as_os_str().to_owned();
        lock_path.push(".lock");
        let lock_path = PathBuf::from(lock_path);
        let lock = lock(&lock_path, path)?;
        match std::fs::symlink_metadata(path) {
            Ok(found) if !std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()) => {
                return Err(SocketError::NotASocket(path.to_owned()));
            }
            Ok(_) => std::fs::remove_file(path).map_err(io_error)?,
            Err(_) => {}
        }
        let listener = UnixListener::bind(path).map_err(io_error)?;
        let trusted = Trusted::here();
        std::fs::set_permissions(path, Permissions::from_mode(MODE)).map_err(io_error)?;
        if let Some(group) = trusted.group() {
            std::os::unix::fs::chown(path, None, Some(group)).map_err(io_error)?;
        }
        Ok(Self { listener, path: path.to_owned(), lock_path, _lock: lock })
    }

    /// The next client. Who is in the group is looked up each time, so that it may change.
    pub(super) async fn accept(&self) -> io::Result<Peer> {
        let (stream, _) = self.listener.accept().await?;
        let peer = stream.peer_cred()?;
        let (uid, gid) = (peer.uid(), peer.gid());
        // Root is so on any machine, and asks most often.
        if uid == 0 || Trusted::here().allows(uid, gid) {
            return Ok(Peer::Trusted(stream));
        }
        Ok(Peer::Untrusted { uid, gid })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        for path in [&self.path, &self.lock_path] {
            if let Err(error) = std::fs::remove_file(path) {
                tracing::warn!(path = %path.display(), %error, "cannot be removed");
            }
        }
    }
}

/// Takes the lock file and writes our number into it.
fn lock(lock_path: &Path, path: &Path) -> Result<File, SocketError> {
    let io_error = |error| SocketError::Io { path: path.to_owned(), error };
    let open = || {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).open(lock_path)
    };
    let mut file = open().map_err(io_error)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid).map_err(io_error)?;
            return Err(SocketError::Busy { path: path.to_owned(), pid: pid.trim().to_owned() });
        }
        Err(TryLockError::Error(error)) => return Err(io_error(error)),
    }
    file.set_len(0).map_err(io_error)?;
    file.rewind().map_err(io_error)?;
    writeln!(file, "{}", std::process::id()).map_err(io_error)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_second_daemon_is_refused_and_nothing_is_left() {
        let directory = std::env::temp_dir().join(format!("dpnat-socket-{}", std::process::id()));
        let path = directory.join("a.sock");
        let first = Socket::bind(&path).unwrap();
        let error = Socket::bind(&path).unwrap_err();
        assert!(
            matches!(&error, SocketError::Busy { pid, .. } if *pid == std::process::id().to_string()),
            "{error}"
        );
        drop(first);
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);

        // What a killed daemon leaves is no hindrance.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        drop(Socket::bind(&path).unwrap());

        std::fs::write(&path, "a file").unwrap();
        assert!(matches!(Socket::bind(&path), Err(SocketError::NotASocket(_))));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
