//! What the daemon may do of what root may: less once it has started.
//!
//! Capabilities are a thread's own. Threads inherit them, so the main thread's are those of all that are
//! made after it has dropped some; workers drop theirs themselves.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::io;
use rustix::thread::{self, CapabilitySet, CapabilitySets};

/// What interfaces, kernel interfaces and their namespaces, and memory for devices need later on.
const LATER: CapabilitySet = CapabilitySet::NET_ADMIN
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SYS_ADMIN)
    .union(CapabilitySet::IPC_LOCK);

/// What checks of real servers need: raw sockets, sockets bound to interfaces of the kernel, other namespaces;
/// and for scripts, to become their user and to end them.
const CHECKS: CapabilitySet = CapabilitySet::NET_RAW
    .union(CapabilitySet::SYS_ADMIN)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::KILL);

/// No program that is started from here gets more privileges than this thread and those that it makes.
///
/// # Errors
/// If the kernel says no.
pub fn bind() -> io::Result<()> {
    thread::set_no_new_privs(true)
}

/// Drops what control does not need any more. `files` are written or read again later, with others in
/// their directories: where they are another user's, permissions have to be overridden.
///
/// # Errors
/// If the kernel says no.
pub fn drop_of_control(files: &[&Path]) -> io::Result<()> {
    let own = rustix::process::geteuid().as_raw();
    let is_ours = |path: &Path| std::fs::metadata(path).is_ok_and(|found| found.uid() == own);
    let with_directory = |path: &&Path| {
        let whole = path.canonicalize().unwrap_or_default();
        is_ours(&whole) && whole.parent().is_none_or(is_ours)
    };
    let ours = files.iter().all(with_directory);
    drop_to(if ours { LATER } else { LATER.union(CapabilitySet::DAC_OVERRIDE) })
}

/// Drops what the thread of the checks does not need.
///
/// # Errors
/// If the kernel says no.
pub fn drop_of_checks() -> io::Result<()> {
    drop_to(CHECKS)
}

/// Drops all: a worker touches what is open.
///
/// # Errors
/// If the kernel says no.
pub fn drop_of_worker() -> io::Result<()> {
    drop_to(CapabilitySet::empty())
}

fn drop_to(kept: CapabilitySet) -> io::Result<()> {
    let now = thread::capabilities(None)?;
    let sets = CapabilitySets {
        effective: now.effective & kept,
        permitted: now.permitted & kept,
        inheritable: CapabilitySet::empty(),
    };
    thread::set_capabilities(None, sets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_is_gone_and_the_rest_is_kept() {
        let before = thread::capabilities(None).unwrap();
        let dropped = std::thread::spawn(|| {
            drop_of_control(&[]).unwrap();
            let control = thread::capabilities(None).unwrap();
            drop_of_worker().unwrap();
            (control, thread::capabilities(None).unwrap())
        });
        let (control, worker) = dropped.join().unwrap();
        assert_eq!(control.permitted, before.permitted & LATER);
        assert_eq!(control.effective, before.effective & LATER);
        assert!(worker.permitted.is_empty() && worker.effective.is_empty());
        assert_eq!(thread::capabilities(None).unwrap(), before, "of other threads nothing");
    }
}
