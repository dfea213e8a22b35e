//! Work in another network namespace, while the caller stays in its own.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::panic;
use std::path::{Path, PathBuf};
use std::thread;

use crate::Error;

/// Where `ip netns` keeps the namespaces that have a name.
const NAMED: &str = "/var/run/netns";

/// The file of a namespace: what has a `/` is a path, all else a name of `ip netns`.
pub fn path(netns: &str) -> PathBuf {
    if netns.contains('/') { PathBuf::from(netns) } else { Path::new(NAMED).join(netns) }
}

/// Runs `work` on a thread in the namespace, given by name or path, and waits for it. Sockets
/// that it opens stay in that namespace wherever they are used.
///
/// # Errors
/// [`Error::NoNetns`], [`Error::NotNetns`], [`Error::Denied`] (`CAP_SYS_ADMIN`), or
/// [`Error::Kernel`] if no thread can be had.
pub fn within<T: Send>(netns: &str, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
    let path = path(netns);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(source) => return Err(Error::NoNetns { path, source }),
    };
    // A thread of its own, which ends here: the caller's could be left behind in the namespace.
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("netns".to_owned());
        let running = thread.spawn_scoped(scope, || enter(&file).map(|()| work()));
        let running = running
            .map_err(|source| Error::Kernel { what: "starting a thread".to_owned(), source })?;
        let done = running.join().unwrap_or_else(|payload| panic::resume_unwind(payload));
        done.map_err(|source| match source.raw_os_error() {
            Some(libc::EINVAL) => Error::NotNetns { path },
            Some(libc::EPERM) => Error::Denied {
                what: format!("entering network namespace {}", path.display()),
                capability: "CAP_SYS_ADMIN",
            },
            _ => Error::Kernel { what: format!("entering {}", path.display()), source },
        })
    })
}

/// Moves the calling thread.
fn enter(namespace: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open; the call changes what the kernel keeps for this thread and
    // no memory of ours. That the thread is not the caller's is upheld by `within`.
    match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths_are_told_apart() {
        assert_eq!(path("edge"), Path::new("/var/run/netns/edge"));
        assert_eq!(path("/proc/self/ns/net"), Path::new("/proc/self/ns/net"));
        assert_eq!(path("./edge"), Path::new("./edge"));
    }

    #[test]
    fn what_is_no_namespace_is_named() {
        let missing = within("kni-no-such-namespace", || ()).unwrap_err();
        assert!(matches!(missing, Error::NoNetns { .. }), "{missing}");
        assert!(missing.to_string().contains("/var/run/netns/kni-no-such-namespace"), "{missing}");
        let other = within("/dev/null", || ()).unwrap_err();
        assert!(matches!(other, Error::NotNetns { .. }), "{other}");
    }
}
