//! Our programs and maps in the kernel.

use std::fs::File;
use std::io::{Error, ErrorKind};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Map, MapData, MapError};
use aya::programs::{
    CgroupSkb, CgroupSockAddr, CgroupSockopt, Program, ProgramError, ProgramFd, SockOps,
};
use aya::{Ebpf, EbpfError, EbpfLoader};
use ipnet::IpNet;

use crate::balancers;
use crate::error::ToaError;
use crate::link::Link;

/// What `csrc/dptoa.bpf.c` was compiled to, where the loader wants it: at an address of its alignment.
static OBJECT: &Aligned<[u8]> =
    &Aligned { align: [], bytes: *include_bytes!(concat!(env!("OUT_DIR"), "/dptoa.bpf.o")) };

#[repr(C)]
struct Aligned<T: ?Sized> {
    align: [u64; 0],
    bytes: T,
}

/// How many prefixes the table of balancers holds; the same number stands in `csrc/dptoa.bpf.c`.
const BALANCERS_MAX: usize = 1024;

/// The maps of UDP.
pub(crate) const UDP_MAPS: [&str; 2] = ["senders", "routes"];

/// A place in the kernel where a program of ours is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    /// A connection is established.
    Learn,
    /// The peer of an IPv4 socket is asked for.
    Name4,
    /// The peer of an IPv6 socket is asked for.
    Name6,
    /// A socket option is asked for.
    Sockopt,
    /// The sender of a datagram to an IPv4 socket is asked for.
    From4,
    /// The sender of a datagram to an IPv6 socket is asked for.
    From6,
    /// A datagram goes to an IPv4 address.
    Answer4,
    /// A datagram goes to an IPv6 address.
    Answer6,
    /// A datagram comes to a socket.
    Datagram,
}

impl Hook {
    /// Those that are always attached: first who answers, so that nothing is learned in vain.
    pub(crate) const NEEDED: [Self; 3] = [Self::Name4, Self::Name6, Self::Learn];
    /// Those of UDP, in the same order.
    pub(crate) const UDP: [Self; 5] =
        [Self::From4, Self::From6, Self::Answer4, Self::Answer6, Self::Datagram];
    /// All.
    pub(crate) const ALL: [Self; 9] = [
        Self::Name4,
        Self::Name6,
        Self::Learn,
        Self::Sockopt,
        Self::From4,
        Self::From6,
        Self::Answer4,
        Self::Answer6,
        Self::Datagram,
    ];

    /// The function in `csrc/dptoa.bpf.c`.
    const fn function(self) -> &'static str {
        match self {
            Self::Learn => "learn",
            Self::Name4 => "name4",
            Self::Name6 => "name6",
            Self::Sockopt => "sockopt",
            Self::From4 => "from4",
            Self::From6 => "from6",
            Self::Answer4 => "answer4",
            Self::Answer6 => "answer6",
            Self::Datagram => "datagram",
        }
    }

    /// The kernel's name of the place, and ours of the pin.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Learn => "sock_ops",
            Self::Name4 => "getpeername4",
            Self::Name6 => "getpeername6",
            Self::Sockopt => "getsockopt",
            Self::From4 => "recvmsg4",
            Self::From6 => "recvmsg6",
            Self::Answer4 => "sendmsg4",
            Self::Answer6 => "sendmsg6",
            Self::Datagram => "ingress",
        }
    }

    /// `enum bpf_attach_type` of linux/bpf.h.
    const fn attach_type(self) -> u32 {
        match self {
            Self::Datagram => 0,
            Self::Learn => 3,
            Self::Answer4 => 14,
            Self::Answer6 => 15,
            Self::From4 => 19,
            Self::From6 => 20,
            Self::Sockopt => 21,
            Self::Name4 => 29,
            Self::Name6 => 30,
        }
    }
}

/// The object, its maps made, its programs not yet loaded.
pub(crate) struct Kernel(Ebpf);

impl Kernel {
    /// Makes the maps, or takes those that are pinned, by their names and paths.
    ///
    /// `multipath`: whether connections of MPTCP are followed, too.
    pub(crate) fn open(
        multipath: bool,
        pinned: &[(&'static str, PathBuf)],
    ) -> Result<Self, ToaError> {
        let multipath = u32::from(multipath);
        let mut loader = EbpfLoader::new();
        loader.override_global("multipath", &multipath, true);
        for map in UDP_MAPS {
            // Where nothing is learned, no memory is wanted.
            if !pinned.iter().any(|(name, _)| *name == map) {
                loader.map_max_entries(map, 1);
            }
        }
        for (name, path) in pinned {
            loader.map_pin_path(name, path.as_path());
        }
        loader.load(&OBJECT.bytes).map(Self).map_err(refused)
    }

    /// Lets the verifier look at a program.
    pub(crate) fn load(&mut self, hook: Hook) -> Result<(), ToaError> {
        let loaded = match self.0.program_mut(hook.function()) {
            Some(Program::SockOps(program)) => SockOps::load(program),
            Some(Program::CgroupSockAddr(program)) => CgroupSockAddr::load(program),
            Some(Program::CgroupSockopt(program)) => CgroupSockopt::load(program),
            Some(Program::CgroupSkb(program)) => CgroupSkb::load(program),
            _ => Err(ProgramError::UnexpectedProgramType),
        };
        loaded.map_err(|error| ToaError::program(hook.name(), error))
    }

    /// Attaches a program that is loaded.
    pub(crate) fn attach(&self, hook: Hook, cgroup: &Cgroup) -> Result<Link, ToaError> {
        let program = hook.name();
        let fd = self.fd(hook).map_err(|error| ToaError::program(program, error))?;
        Link::create(fd.as_fd(), &cgroup.file, hook.attach_type())
            .map_err(|reason| ToaError::Attach { program, path: cgroup.path.clone(), reason })
    }

    fn fd(&self, hook: Hook) -> Result<&ProgramFd, ProgramError> {
        let program = self.0.program(hook.function());
        match program.ok_or(ProgramError::NotLoaded)? {
            Program::SockOps(program) => program.fd(),
            Program::CgroupSockAddr(program) => program.fd(),
            Program::CgroupSockopt(program) => program.fd(),
            Program::CgroupSkb(program) => program.fd(),
            _ => Err(ProgramError::UnexpectedProgramType),
        }
    }

    /// Says whom to believe. Only before anything is attached: an address is in or out at once.
    pub(crate) fn believe(&mut self, prefixes: &[IpNet]) -> Result<(), ToaError> {
        if prefixes.len() > BALANCERS_MAX {
            return Err(ToaError::TooManyBalancers(prefixes.len(), BALANCERS_MAX));
        }
        let map = self.0.map_mut("balancers").ok_or_else(|| missing("balancers"))?;
        let mut trie: LpmTrie<_, [u8; 16], u8> = LpmTrie::try_from(map)?;
        for prefix in prefixes {
            let (len, address) = balancers::key(*prefix);
            trie.insert(&Key::new(len, address), 1, 0)?;
        }
        Ok(())
    }

    /// Gives the table of balancers a name, which must not be there yet.
    pub(crate) fn pin_balancers(&self, path: &Path) -> Result<(), ToaError> {
        let map = self.0.map("balancers").ok_or_else(|| missing("balancers"))?;
        map.pin(path).map_err(|error| {
            let reason = Error::other(error);
            ToaError::Io { path: path.to_owned(), reason }
        })
    }
}

/// Whom the table under a path believes.
pub(crate) fn believed(path: &Path) -> Result<Vec<IpNet>, ToaError> {
    listed(Map::LpmTrie(MapData::from_pin(path)?))
}

fn listed(map: Map) -> Result<Vec<IpNet>, ToaError> {
    let trie: LpmTrie<_, [u8; 16], u8> = LpmTrie::try_from(map)?;
    let mut all = Vec::new();
    for key in trie.keys() {
        let key = key?;
        all.extend(balancers::prefix(key.prefix_len(), key.data()));
    }
    all.sort();
    Ok(all)
}

fn missing(name: &str) -> ToaError {
    MapError::InvalidName { name: name.to_owned() }.into()
}

/// Tells lack of privilege from all else.
fn refused(error: EbpfError) -> ToaError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(error) = cause {
        let kind = error.downcast_ref::<Error>().map(Error::kind);
        if kind == Some(ErrorKind::PermissionDenied) {
            return ToaError::Permission;
        }
        cause = error.source();
    }
    error.into()
}

/// A cgroup of version 2.
#[derive(Debug)]
pub(crate) struct Cgroup {
    /// Where it is.
    pub(crate) path: PathBuf,
    file: File,
}

/// `CGROUP2_SUPER_MAGIC` of linux/magic.h.
const CGROUP2: u64 = 0x6367_7270;

impl Cgroup {
    /// The one that is named, or else the root.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, ToaError> {
        let root = root();
        let path = match path {
            Some(path) => path.to_owned(),
            None => root.clone().ok_or(ToaError::NoCgroup)?,
        };
        let file = File::open(&path).map_err(ToaError::io(&path))?;
        if file_system(&file) != Some(CGROUP2) {
            let root = root.ok_or(ToaError::NoCgroup)?;
            return Err(ToaError::NotCgroup(path, root));
        }
        Ok(Self { path, file })
    }
}

/// The kind of file system that a file is on, as linux/magic.h numbers them.
pub(crate) fn file_system(file: &File) -> Option<u64> {
    rustix::fs::fstatfs(file).ok().and_then(|stat| u64::try_from(stat.f_type).ok())
}

fn root() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|line| mount_point(line, "cgroup2")).map(PathBuf::from)
}

/// Where a line of `/proc/self/mountinfo` says that a file system of a kind is mounted (proc(5)).
fn mount_point<'a>(line: &'a str, kind: &str) -> Option<&'a str> {
    let (mount, source) = line.split_once(" - ")?;
    (source.split(' ').next() == Some(kind)).then(|| mount.split(' ').nth(4)).flatten()
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    #[test]
    fn every_program_passes_the_verifier_with_every_switch() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: programs are loaded as root only");
            return;
        }
        for multipath in [false, true] {
            let mut kernel = Kernel::open(multipath, &[]).unwrap();
            for hook in Hook::ALL {
                kernel.load(hook).unwrap_or_else(|error| panic!("{multipath} {hook:?}: {error}"));
            }
        }
    }

    #[test]
    fn balancers_come_back_as_they_were_given() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: maps are made as root only");
            return;
        }
        let mut kernel = Kernel::open(false, &[]).unwrap();
        let some: Vec<IpNet> = ["198.18.0.10/31", "198.18.0.12/32", "2001:db8::/64"]
            .map(|net| net.parse().unwrap())
            .into();
        kernel.believe(&some).unwrap();
        let map = kernel.0.take_map("balancers").unwrap();
        assert_eq!(listed(map).unwrap(), some);
        let single = |index: usize| IpNet::from(IpAddr::from(Ipv4Addr::from_bits(index as u32)));
        let many: Vec<IpNet> = (0..=BALANCERS_MAX).map(single).collect();
        let error = kernel.believe(&many).unwrap_err().to_string();
        assert!(error.contains("1025 prefixes") && error.contains("1024"), "{error}");
    }

    #[test]
    fn a_mount_is_found_by_its_kind() {
        let hybrid =
            "35 25 0:29 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw";
        let pids = "36 25 0:30 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids";
        assert_eq!(mount_point(hybrid, "cgroup2"), Some("/sys/fs/cgroup/unified"));
        assert_eq!(mount_point(pids, "cgroup2"), None);
        assert_eq!(mount_point("", "cgroup2"), None);
    }
}
