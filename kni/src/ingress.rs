//! Keeps the kernel's own stack away from what comes in by an interface of its.
//!
//! A device of DPDK on an interface of the kernel (`net_af_packet`) gets a copy of each frame, and the
//! kernel's stack the other one. Where the kernel has a KNI besides, it would answer twice. So a program of two
//! instructions drops the second copy, behind where sockets of packets take theirs (`tcx`, Linux 6.6). It is
//! attached by a descriptor, and goes with it, however the process ends.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::Error;

const PROG_LOAD: libc::c_int = 5;
const LINK_CREATE: libc::c_int = 28;
const SCHED_CLS: u32 = 3;
const TCX_INGRESS: u32 = 46;

/// An instruction of BPF (`struct bpf_insn`): operation, registers, offset, number.
type Instruction = (u8, u8, i16, i32);

/// `return TC_ACT_SHOT`: r0 = 2, exit.
const DROP_ALL: [[u8; 8]; 2] = [instruction((0xb7, 0, 0, 2)), instruction((0x95, 0, 0, 0))];

const fn instruction((operation, registers, offset, number): Instruction) -> [u8; 8] {
    let ([a, b], [c, d, e, f]) = (offset.to_ne_bytes(), number.to_ne_bytes());
    [operation, registers, a, b, c, d, e, f]
}

/// What `BPF_PROG_LOAD` takes; the kernel reads zeros behind it.
#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
}

/// What `BPF_LINK_CREATE` takes; the kernel reads zeros behind it.
#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// While it lives, the kernel's stack gets nothing that comes in by the interface.
#[derive(Debug)]
pub struct IngressDrop {
    _link: OwnedFd,
}

impl IngressDrop {
    /// Begins at an interface of the caller's network namespace.
    ///
    /// # Errors
    /// [`Error::Ingress`]: there is no such interface, a capability is missing (`CAP_BPF` and
    /// `CAP_NET_ADMIN`), or the kernel is older than Linux 6.6.
    pub fn attach(interface: &str) -> Result<Self, Error> {
        let attached = index(interface).and_then(|index| link(load()?, index));
        attached
            .map(|link| Self { _link: link })
            .map_err(|source| Error::Ingress { name: interface.to_owned(), source })
    }
}

fn index(interface: &str) -> io::Result<u32> {
    let name = CString::new(interface)?;
    // SAFETY: the name is terminated and only read.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// Has the kernel check and take the program.
fn load() -> io::Result<OwnedFd> {
    let request = ProgLoad {
        prog_type: SCHED_CLS,
        insn_cnt: DROP_ALL.len() as u32,
        insns: DROP_ALL.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
    };
    // SAFETY: BPF_PROG_LOAD reads the request, and by it the program and the terminated licence, all of
    // which live as long as the call; what it returns is a new descriptor.
    unsafe { bpf(PROG_LOAD, &request) }
}

fn link(program: OwnedFd, index: u32) -> io::Result<OwnedFd> {
    let request = LinkCreate {
        prog_fd: program.as_raw_fd().cast_unsigned(),
        target_ifindex: index,
        attach_type: TCX_INGRESS,
        flags: 0,
    };
    // SAFETY: BPF_LINK_CREATE reads the request only; the program is open; what it returns is a new
    // descriptor.
    unsafe { bpf(LINK_CREATE, &request) }
}

/// The system call bpf(2).
///
/// # Safety
/// `request` is what `command` takes, its pointers are valid for the call, and the command returns a new
/// descriptor.
unsafe fn bpf<T>(command: libc::c_int, request: &T) -> io::Result<OwnedFd> {
    let request: *const T = request;
    // SAFETY: the caller upholds what the command asks for; the kernel reads no more than the size given.
    let returned = unsafe { libc::syscall(libc::SYS_bpf, command, request, size_of::<T>()) };
    let descriptor = i32::try_from(returned).ok().filter(|descriptor| *descriptor >= 0);
    let descriptor = descriptor.ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just made it, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
