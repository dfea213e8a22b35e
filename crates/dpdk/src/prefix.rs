//! The claim on a file prefix: one EAL a prefix, and nothing left behind.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::Error;

/// A lock on `<runtime directory>/dpdk/<prefix>/config`, the file that DPDK's primary processes lock
/// too. EAL itself, started without shared configuration, would not notice another one.
#[derive(Debug)]
pub(crate) struct PrefixLock {
    directory: PathBuf,
    file: File,
}

impl PrefixLock {
    /// Takes the prefix for this process.
    pub(crate) fn take(prefix: &str) -> Result<Self, Error> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if prefix.is_empty()
            || prefix.len() > 64
            || prefix.starts_with('.')
            || !prefix.chars().all(allowed)
        {
            return Err(Error::BadPrefix(prefix.to_owned()));
        }
        let directory = runtime_directory().join("dpdk").join(prefix);
        let failed =
            |path: &Path, source| Error::RuntimeDirectory { path: path.to_owned(), source };
        let path = directory.join("config");
        loop {
            fs::create_dir_all(&directory).map_err(|e| failed(&directory, e))?;
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path);
            let file = match file {
                Ok(file) => file,
                // The holder has just gone and taken the directory along.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(failed(&path, e)),
            };
            if let Err(e) = lock(&file, libc::F_SETLK) {
                return match e.raw_os_error() {
                    Some(libc::EAGAIN | libc::EACCES) => {
                        let pid = holder(&file).unwrap_or(0);
                        Err(Error::PrefixInUse { prefix: prefix.to_owned(), pid })
                    }
                    _ => Err(failed(&path, e)),
                };
            }
            if is_at(&file, &path) {
                return Ok(Self { directory, file });
            }
        }
    }

    /// The directory that DPDK and we keep for the prefix.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for PrefixLock {
    fn drop(&mut self) {
        let path = self.directory.join("config");
        if is_at(&self.file, &path) {
            // Nobody is harmed by what cannot be removed, and there is nobody to tell.
            let _ = fs::remove_file(&path);
            let _ = fs::remove_dir(&self.directory);
        }
    }
}

/// Where DPDK keeps its runtime files: the same rule as its `eal_create_runtime_dir`.
fn runtime_directory() -> PathBuf {
    if let Some(directory) = std::env::var_os("RUNTIME_DIRECTORY") {
        return directory.into();
    }
    // SAFETY: has no precondition.
    if unsafe { libc::getuid() } == 0 {
        return "/var/run".into();
    }
    std::env::var_os("XDG_RUNTIME_DIR").map_or_else(|| "/tmp".into(), PathBuf::from)
}

/// Whether the open file is still the one under that name.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(named)) => open.ino() == named.ino() && open.dev() == named.dev(),
        _ => false,
    }
}

fn whole_file() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

fn lock(file: &File, command: libc::c_int) -> io::Result<libc::flock> {
    let mut range = whole_file();
    // SAFETY: the descriptor is open and `range` is a flock that the kernel may write to.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut range) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(range),
    }
}

fn holder(file: &File) -> Option<i32> {
    lock(file, libc::F_GETLK).ok().map(|range| range.l_pid).filter(|&pid| pid > 0)
}
