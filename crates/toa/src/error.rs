//! Why `dptoa` could not do what it was asked, and with which exit code it ends.

use std::io;
use std::path::PathBuf;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;

/// Not done.
const REFUSED: u8 = 1;
/// Not how `dptoa` is used.
pub(crate) const USAGE: u8 = 2;
const UNREACHABLE: u8 = 4;
const CONFLICT: u8 = 5;

/// Why something was not done. Each says what was wrong, and what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ToaError {
    /// Not root.
    #[error(
        "the kernel does not let us load programs: run dptoa as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"
    )]
    Permission,
    /// No cgroup of version 2.
    #[error(
        "no cgroup2 file system is mounted: mount -t cgroup2 none /sys/fs/cgroup/unified, or name one by --cgroup"
    )]
    NoCgroup,
    /// A path that is no cgroup of version 2.
    #[error("{}: no cgroup of version 2; its root is {}", .0.display(), .1.display())]
    NotCgroup(PathBuf, PathBuf),
    /// A path that is on no bpf file system.
    #[error("{0}: on no bpf file system, so what is attached could not be found again: mount -t bpf bpf {1}, or name a directory on one by --pins", .path.display(), .mount.display())]
    NotBpf {
        /// The directory.
        path: PathBuf,
        /// Where one is to be mounted.
        mount: PathBuf,
    },
    /// Another one runs.
    #[error("{}: another dptoa runs with these pins; stop it, or give this one its own by --pins", .0.display())]
    Running(PathBuf),
    /// Nothing is attached.
    #[error("{}: no dptoa is attached; start one by dptoa run", .0.display())]
    Nothing(PathBuf),
    /// A file that cannot be read, or another system call on a path.
    #[error("{}: {reason}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel says.
        reason: io::Error,
    },
    /// A line of the file of balancers.
    #[error("{}:{line}: {reason}", .path.display())]
    BalancerFile {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of balancers without any.
    #[error("{}: no address in it, so nobody would be believed; write one LIP of the balancer a line", .0.display())]
    NoBalancer(PathBuf),
    /// More prefixes than the kernel's table has room for.
    #[error(
        "the balancers make {0} prefixes and the table has room for {1}: give prefixes instead of single addresses"
    )]
    TooManyBalancers(usize, usize),
    /// The verifier refuses a program.
    #[error(
        "the kernel refuses the program {program}: {reason}; dptoa check says what this kernel can do"
    )]
    Program {
        /// Its name.
        program: &'static str,
        /// What the kernel says.
        reason: String,
    },
    /// A program cannot be attached.
    #[error("{program} cannot be attached to {}: {reason}", .path.display())]
    Attach {
        /// Its name.
        program: &'static str,
        /// The cgroup.
        path: PathBuf,
        /// What the kernel says.
        reason: io::Error,
    },
    /// The object or its maps.
    #[error("the kernel refuses our maps: {0}")]
    Object(#[from] EbpfError),
    /// A map cannot be read or written.
    #[error("a map of ours cannot be used: {0}")]
    Map(#[from] MapError),
    /// Something is missing that `check` looks for.
    #[error("{0} of what dptoa needs is missing here; the lines above say what to do")]
    Missing(usize),
    /// Nobody reads what is printed any more.
    #[error("the output is closed")]
    Closed,
}

impl ToaError {
    /// The exit code.
    pub(crate) const fn code(&self) -> u8 {
        match self {
            Self::Nothing(_) => UNREACHABLE,
            Self::Running(_) => CONFLICT,
            Self::Closed => 0,
            _ => REFUSED,
        }
    }

    /// Of a system call on a path.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |reason| Self::Io { path, reason }
    }

    /// Of the verifier, with the end of its log, where it says why.
    pub(crate) fn program(program: &'static str, error: ProgramError) -> Self {
        match error {
            ProgramError::LoadError { io_error, .. }
                if io_error.kind() == io::ErrorKind::PermissionDenied
                    && !rustix::process::geteuid().is_root() =>
            {
                Self::Permission
            }
            ProgramError::LoadError { io_error, verifier_log } => {
                let log = verifier_log.to_string();
                let lines: Vec<_> = log.lines().filter(|line| !line.trim().is_empty()).collect();
                // The last line counts what was looked at, the one before says what was wrong.
                let why = lines.iter().rev().nth(1).or(lines.last()).copied().unwrap_or_default();
                Self::Program { program, reason: format!("{io_error} ({why})") }
            }
            other => Self::Program { program, reason: other.to_string() },
        }
    }
}
