//! What can go wrong with a kernel interface, said so that the way out is in the message.

use std::io;
use std::path::PathBuf;

use types::MacAddr;

use crate::{MTU_MAX, MTU_MIN, NAME_MAX};

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel has no room for the name.
    #[error(
        "`{name}` is too long for a kernel interface: {} bytes, at most {NAME_MAX}; give it a \
         shorter name (`kni: {{ name: … }}`)",
        name.len()
    )]
    NameTooLong {
        /// The name.
        name: String,
    },
    /// The kernel allows no interface of that name.
    #[error(
        "`{name}` cannot be a kernel interface's name: it must be visible ASCII characters \
         without `/`, `:` and `%`, and not `.` or `..`"
    )]
    BadName {
        /// The name.
        name: String,
    },
    /// No single station has that address.
    #[error("{0} cannot be an interface's MAC address: it is zero or a group's")]
    BadMac(MacAddr),
    /// No TAP can have that MTU.
    #[error("MTU {0} is not from {MTU_MIN} to {MTU_MAX}")]
    BadMtu(u16),
    /// The kernel's TUN/TAP driver cannot be reached.
    #[error(
        "/dev/net/tun cannot be opened: {0}; `modprobe tun` provides it, and a container must be \
         given it (`--device /dev/net/tun`)"
    )]
    NoTun(#[source] io::Error),
    /// A capability is missing.
    #[error("{what} needs {capability}: run as root or with that capability")]
    Denied {
        /// What was to be done.
        what: String,
        /// The capability.
        capability: &'static str,
    },
    /// There is an interface of that name, and it is not one to take up.
    #[error(
        "the kernel already has an interface `{name}`; give this one another name (`kni: {{ name: \
         … }}`) or remove the other (`ip link delete {name}`). `persist: true` takes up a \
         persistent TAP that no process holds"
    )]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The persistent TAP to take up is held by a process.
    #[error("another process holds the TAP `{name}`; stop it or give this one another name")]
    InUse {
        /// The name.
        name: String,
    },
    /// The network namespace cannot be opened.
    #[error("no network namespace {}: {source}; `ip netns add` makes one", path.display())]
    NoNetns {
        /// Its file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is there, but it is no network namespace.
    #[error("{} is not a network namespace", path.display())]
    NotNetns {
        /// The file.
        path: PathBuf,
    },
    /// The kernel's stack cannot be kept away from an interface.
    #[error(
        "the kernel's stack cannot be kept away from `{name}` ({source}): it may answer there for \
         addresses of the KNI; this needs Linux 6.6 or newer, `CAP_BPF` and `CAP_NET_ADMIN`"
    )]
    Ingress {
        /// The interface.
        name: String,
        /// Why not.
        source: io::Error,
    },
    /// Somebody deleted the interface while we held it.
    #[error("the kernel interface `{name}` was removed")]
    Removed {
        /// Its name.
        name: String,
    },
    /// The kernel refused for another reason.
    #[error("{what}: {source}")]
    Kernel {
        /// What was to be done.
        what: String,
        /// Why not.
        source: io::Error,
    },
}

impl Error {
    /// From what the kernel said to something that needs `CAP_NET_ADMIN`.
    pub(crate) fn from_kernel(what: String, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::Denied { what, capability: "CAP_NET_ADMIN" },
            _ => Self::Kernel { what, source },
        }
    }
}
