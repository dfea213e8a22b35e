//! Attaching a program to a cgroup so that it stays: a link of the kernel, and a name for it on a bpf file
//! system.
//!
//! aya makes such links, but gives out no file descriptor of one for `getsockopt`; so all are made here.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// `enum bpf_cmd` of linux/bpf.h.
const BPF_OBJ_PIN: libc::c_int = 6;
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_LINK_DETACH: libc::c_int = 34;

/// What `bpf(BPF_LINK_CREATE)` reads: the beginning of `union bpf_attr`.
#[repr(C)]
struct LinkCreate {
    program: i32,
    target: i32,
    attach_type: u32,
    flags: u32,
}

/// What `bpf(BPF_OBJ_PIN)` and `bpf(BPF_OBJ_GET)` read.
#[repr(C)]
struct ObjectPin {
    path: u64,
    object: i32,
    flags: u32,
}

/// What `bpf(BPF_LINK_DETACH)` reads.
#[repr(C)]
struct LinkDetach {
    link: i32,
}

/// A program that is attached as long as this is open or pinned.
#[derive(Debug)]
pub(crate) struct Link(OwnedFd);

impl Link {
    /// Attaches a program beside whatever else is attached there.
    pub(crate) fn create(
        program: BorrowedFd<'_>,
        cgroup: &File,
        attach_type: u32,
    ) -> io::Result<Self> {
        // No flag: a link never takes another's place.
        let attr = LinkCreate {
            program: program.as_raw_fd(),
            target: cgroup.as_raw_fd(),
            attach_type,
            flags: 0,
        };
        // SAFETY: LinkCreate is what the kernel reads for this command (linux/bpf.h), plain numbers of that
        // size; it takes what is behind as zero. Both descriptors are open: they are borrowed here.
        let fd = unsafe { bpf(BPF_LINK_CREATE, &attr) }?;
        // SAFETY: the kernel has just opened it for us, and nobody else knows it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The one that has this name.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let attr = ObjectPin { path: path.as_ptr() as u64, object: 0, flags: 0 };
        // SAFETY: ObjectPin is what the kernel reads for this command (linux/bpf.h); `path` ends with a zero and
        // lives until the call is over.
        let fd = unsafe { bpf(BPF_OBJ_GET, &attr) }?;
        // SAFETY: the kernel has just opened it for us, and nobody else knows it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Gives it a name, which must not be there yet.
    pub(crate) fn pin(&self, path: &Path) -> io::Result<()> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let attr = ObjectPin { path: path.as_ptr() as u64, object: self.0.as_raw_fd(), flags: 0 };
        // SAFETY: ObjectPin is what the kernel reads for this command (linux/bpf.h); `path` ends with a zero and
        // lives until the call is over; the descriptor is ours.
        unsafe { bpf(BPF_OBJ_PIN, &attr) }?;
        Ok(())
    }

    /// Detaches it now. Closed and without a name it would be detached, too, but at the kernel's leisure.
    pub(crate) fn detach(&self) -> io::Result<()> {
        let attr = LinkDetach { link: self.0.as_raw_fd() };
        // SAFETY: LinkDetach is what the kernel reads for this command (linux/bpf.h); the descriptor is ours.
        unsafe { bpf(BPF_LINK_DETACH, &attr) }?;
        Ok(())
    }
}

/// # Safety
/// `attr` must be what `command` reads, and what it points to must live.
unsafe fn bpf<T>(command: libc::c_int, attr: &T) -> io::Result<i32> {
    // SAFETY: the kernel reads size_of::<T>() bytes of `attr`, a reference; the caller answers for what is in
    // them.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr, size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(io::Error::other)
}
