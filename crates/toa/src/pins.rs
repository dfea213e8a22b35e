//! What stays in the kernel, by name: so the next dptoa finds it, and nothing is lost between two of them.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::ToaError;
use crate::kernel::{Hook, Kernel, UDP_MAPS, file_system};
use crate::link::Link;

/// `BPF_FS_MAGIC` of linux/magic.h.
const BPF_FS: u64 = 0xcafe_4a11;
/// The number goes up when `struct client` changes, so that an old table is not taken for a new one.
const CLIENTS: &str = "clients-1";
/// The same for `enum counter`.
const COUNTERS: &str = "counters-2";
const BALANCERS: &str = "balancers";

/// A directory on a bpf file system, held by at most one running dptoa.
#[derive(Debug)]
pub(crate) struct Pins {
    dir: PathBuf,
    /// Locked as long as it is open.
    #[expect(dead_code, reason = "held")]
    lock: File,
}

impl Pins {
    /// Says whether a directory is, or could be made, where pins can be.
    pub(crate) fn possible(dir: &Path) -> Result<(), ToaError> {
        let parent = dir.parent().unwrap_or(dir);
        let looked_at = if dir.exists() { dir } else { parent };
        let file = File::open(looked_at).map_err(ToaError::io(looked_at))?;
        if file_system(&file) != Some(BPF_FS) {
            return Err(ToaError::NotBpf { path: dir.to_owned(), mount: parent.to_owned() });
        }
        Ok(())
    }

    /// Makes the directory if it is not there, and takes hold of it.
    pub(crate) fn hold(dir: &Path) -> Result<Self, ToaError> {
        Self::possible(dir)?;
        if !dir.exists() {
            fs::create_dir(dir).map_err(ToaError::io(dir))?;
        }
        let lock = File::open(dir).map_err(ToaError::io(dir))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir: dir.to_owned(), lock }),
            Err(TryLockError::WouldBlock) => Err(ToaError::Running(dir.to_owned())),
            Err(TryLockError::Error(error)) => Err(ToaError::io(dir)(error)),
        }
    }

    /// The maps that stay, and where: the clients of open connections, the counters, and what is known of
    /// datagrams.
    pub(crate) fn maps(&self, udp: bool) -> Vec<(&'static str, PathBuf)> {
        let always = [("clients", CLIENTS.to_owned()), ("counters", COUNTERS.to_owned())];
        let of_udp = UDP_MAPS.iter().filter(|_| udp).map(|name| (*name, format!("{name}-2")));
        always.into_iter().chain(of_udp).map(|(name, pin)| (name, self.dir.join(pin))).collect()
    }

    /// Puts what is attached now in the place of what an earlier dptoa left, and detaches that. Both ran for a
    /// moment, with the same clients, so nobody saw a gap.
    pub(crate) fn take_over(
        &self,
        kernel: &Kernel,
        links: &[(Hook, Link)],
    ) -> Result<(), ToaError> {
        self.replace(BALANCERS, |path| kernel.pin_balancers(path))?;
        for hook in Hook::ALL {
            let path = self.dir.join(hook.name());
            let earlier = Link::open(&path);
            match links.iter().find(|(of, _)| *of == hook) {
                Some((_, link)) => {
                    self.replace(hook.name(), |path| link.pin(path).map_err(ToaError::io(path)))?;
                }
                None => remove(&path)?,
            }
            if let Ok(earlier) = earlier {
                detach(&earlier);
            }
        }
        Ok(())
    }

    fn replace(
        &self,
        name: &str,
        pin: impl FnOnce(&Path) -> Result<(), ToaError>,
    ) -> Result<(), ToaError> {
        let (path, new) = (self.dir.join(name), self.dir.join(format!("{name}-new")));
        // Of one that was killed just here.
        remove(&new)?;
        pin(&new)?;
        fs::rename(&new, &path).map_err(ToaError::io(path))
    }

    /// Detaches everything. The clients of open connections stay for the next dptoa, each until its connection
    /// ends.
    pub(crate) fn detach(&self, links: &[(Hook, Link)]) -> Result<(), ToaError> {
        links.iter().rev().for_each(|(_, link)| detach(link));
        let names = Hook::ALL.iter().rev().map(|hook| hook.name());
        names.chain([BALANCERS]).try_for_each(|name| remove(&self.dir.join(name)))
    }
}

/// Detaches at once where Linux can (5.9); elsewhere that comes with the end of the name and of the process.
fn detach(link: &Link) {
    let _ = link.detach();
}

fn remove(path: &Path) -> Result<(), ToaError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(ToaError::io(path)(error)),
        _ => Ok(()),
    }
}

/// What a look at such a directory tells; nobody has to hold it for that.
#[derive(Debug)]
pub(crate) struct Look {
    /// Whether a dptoa runs.
    pub(crate) running: bool,
    /// Where something is attached.
    pub(crate) hooks: Vec<Hook>,
    /// The table of those who are believed.
    pub(crate) balancers: PathBuf,
    /// The counters.
    pub(crate) counters: PathBuf,
}

impl Look {
    /// Looks.
    ///
    /// # Errors
    /// If nothing is attached.
    pub(crate) fn at(dir: &Path) -> Result<Self, ToaError> {
        let file = match File::open(dir) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(ToaError::Nothing(dir.to_owned()));
            }
            Err(error) => return Err(ToaError::io(dir)(error)),
        };
        // Shared, so that two who look do not take each other for one that runs.
        let running = matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
        let hooks = Hook::ALL.into_iter().filter(|hook| dir.join(hook.name()).exists());
        let hooks: Vec<_> = hooks.collect();
        if hooks.is_empty() {
            return Err(ToaError::Nothing(dir.to_owned()));
        }
        let (balancers, counters) = (dir.join(BALANCERS), dir.join(COUNTERS));
        Ok(Self { running, hooks, balancers, counters })
    }
}
