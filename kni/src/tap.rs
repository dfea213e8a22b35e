//! A TAP device as the kernel's interface.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;

use types::MacAddr;

use crate::sys::{self, IfReq, Request};
use crate::{Error, KernelInterface, Sent, netns};

/// The longest name of a kernel interface, in bytes.
pub const NAME_MAX: usize = libc::IFNAMSIZ - 1;

/// The smallest MTU of a TAP, in bytes (RFC 791 3.2: every host forwards 68 bytes).
pub const MTU_MIN: u16 = 68;

/// The largest MTU of a TAP, in bytes: 65535 with the Ethernet header.
pub const MTU_MAX: u16 = 65521;

/// An Ethernet header's length.
const HEADER: usize = 14;

/// What a TAP is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapConfig {
    /// Its name: at most [`NAME_MAX`] bytes.
    pub name: String,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// Its MTU in bytes, from [`MTU_MIN`] to [`MTU_MAX`].
    pub mtu: u16,
    /// The network namespace that it is in, a name of `ip netns` or a path; none is the caller's.
    pub netns: Option<String>,
    /// Whether it stays when it is dropped or the process ends, with its addresses, routes and
    /// the sockets on it, and is taken up by the next [`Tap::create`] with `persist`.
    pub persist: bool,
}

/// A TAP device and our end of it. It goes when this is dropped, unless it is to persist; then
/// it loses its carrier.
///
/// Receiving, sending and the carrier need no capability once it exists; the other settings need
/// `CAP_NET_ADMIN`.
///
/// Its descriptor becomes readable when a frame waits, and is the same one as long as the `Tap`
/// lives, which is what tokio's `AsyncFd` asks for. There, read until
/// [`KernelInterface::receive`] gives `None`, then clear the guard's readiness.
#[derive(Debug)]
pub struct Tap {
    name: String,
    tun: File,
    /// A socket in the interface's namespace, for settings.
    socket: UnixDatagram,
}

impl Tap {
    /// Creates the interface, down and without carrier; or, with `persist`, takes up the one of
    /// that name that persists and leaves it up or down as it was.
    ///
    /// # Errors
    /// [`Error`] names what is wrong or missing; nothing new is left behind then.
    pub fn create(config: &TapConfig) -> Result<Self, Error> {
        check_name(&config.name)?;
        check_mac(config.mac)?;
        check_mtu(config.mtu)?;
        let (tun, socket) = match &config.netns {
            Some(netns) => netns::within(netns, open)??,
            None => open()?,
        };
        attach(&tun, &socket, config)?;
        let mut tap = Self { name: config.name.clone(), tun, socket };
        // Older kernels do not know IFF_NO_CARRIER and attach with carrier.
        tap.set_carrier(false)?;
        sys::no_offload(tap.tun.as_fd())
            .map_err(|source| tap.error("turning offloads off", source))?;
        tap.set_mac(config.mac)?;
        tap.set_mtu(config.mtu)?;
        tap.set_persist(config.persist)?;
        Ok(tap)
    }

    /// Changes whether the interface stays when this is dropped.
    ///
    /// # Errors
    /// [`Error::Removed`] or [`Error::Kernel`].
    pub fn set_persist(&mut self, persist: bool) -> Result<(), Error> {
        sys::set_persist(self.tun.as_fd(), persist)
            .map_err(|source| self.error("setting persistence", source))
    }

    /// A request about the interface by the name that it has now: it may have been renamed.
    fn request(&self) -> Result<IfReq, Error> {
        let mut request = IfReq::new(&self.name);
        match sys::interface(self.tun.as_fd(), Request::Attached, &mut request) {
            Ok(()) => Ok(request),
            Err(source) => Err(self.error("asking for the name", source)),
        }
    }

    /// Makes a request about the interface.
    fn ask(&self, what: &str, request: Request, argument: &mut IfReq) -> Result<(), Error> {
        sys::interface(self.socket.as_fd(), request, argument)
            .map_err(|source| self.error(what, source))
    }

    fn error(&self, what: &str, source: io::Error) -> Error {
        match source.raw_os_error() {
            Some(libc::EBADFD | libc::ENODEV) => Error::Removed { name: self.name.clone() },
            _ => Error::from_kernel(format!("{what} of `{}`", self.name), source),
        }
    }

    /// An error of reading or writing frames.
    fn frame_error(&self, source: io::Error) -> io::Error {
        match source.raw_os_error() {
            Some(libc::EBADFD) => {
                io::Error::new(ErrorKind::NotConnected, Error::Removed { name: self.name.clone() })
            }
            _ => source,
        }
    }
}

impl KernelInterface for Tap {
    fn name(&self) -> &str {
        &self.name
    }

    fn index(&self) -> Result<u32, Error> {
        let mut request = self.request()?;
        self.ask("asking for the index", Request::Index, &mut request)?;
        Ok(request.index().cast_unsigned())
    }

    fn receive(&mut self, frame: &mut [u8]) -> io::Result<Option<usize>> {
        let room = frame.len();
        // The kernel cuts a frame without a word; one that reaches this byte was longer.
        let mut beyond = [0];
        let mut parts = [IoSliceMut::new(frame), IoSliceMut::new(&mut beyond)];
        match (&self.tun).read_vectored(&mut parts) {
            Ok(len) if len > room => Err(io::Error::new(
                ErrorKind::InvalidData,
                format!("a frame from `{}` was longer than {room} bytes", self.name),
            )),
            Ok(len) => Ok(Some(len)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(self.frame_error(error)),
        }
    }

    fn send(&mut self, frame: &[u8]) -> io::Result<Sent> {
        if frame.len() < HEADER {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                format!("{} bytes are shorter than an Ethernet header", frame.len()),
            ));
        }
        match (&self.tun).write(frame) {
            Ok(len) => {
                debug_assert_eq!(len, frame.len(), "a TAP takes a frame whole or not at all");
                Ok(Sent::Taken)
            }
            Err(error) => match error.raw_os_error() {
                Some(libc::EIO) => Ok(Sent::Down),
                Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => Ok(Sent::Full),
                _ => Err(self.frame_error(error)),
            },
        }
    }

    fn set_carrier(&mut self, carrier: bool) -> Result<(), Error> {
        sys::set_carrier(self.tun.as_fd(), carrier)
            .map_err(|source| self.error("setting the carrier", source))
    }

    fn set_up(&mut self, up: bool) -> Result<(), Error> {
        let mut request = self.request()?;
        self.ask("asking for the flags", Request::Flags, &mut request)?;
        let others = request.flags() & !libc::IFF_UP;
        request.set_flags(if up { others | libc::IFF_UP } else { others });
        self.ask("bringing up or down", Request::SetFlags, &mut request)
    }

    fn set_mtu(&mut self, mtu: u16) -> Result<(), Error> {
        check_mtu(mtu)?;
        let mut request = self.request()?;
        request.set_mtu(mtu);
        self.ask("setting the MTU", Request::SetMtu, &mut request)
    }

    fn set_mac(&mut self, mac: MacAddr) -> Result<(), Error> {
        check_mac(mac)?;
        let mut request = self.request()?;
        self.ask("asking for the MAC address", Request::Mac, &mut request)?;
        // Setting even the same one would make the kernel forget the neighbours there.
        if request.mac() == mac {
            return Ok(());
        }
        request.set_mac(mac);
        self.ask("setting the MAC address", Request::SetMac, &mut request)
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tun.as_fd()
    }
}

impl AsRawFd for Tap {
    fn as_raw_fd(&self) -> RawFd {
        self.tun.as_raw_fd()
    }
}

/// The driver's descriptor and a socket, both of the namespace that the calling thread is in.
fn open() -> Result<(File, UnixDatagram), Error> {
    let tun = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")
        .map_err(Error::NoTun)?;
    let socket = UnixDatagram::unbound()
        .map_err(|source| Error::Kernel { what: "opening a socket".to_owned(), source })?;
    Ok((tun, socket))
}

/// Creates the TAP, or takes up the one that persists.
fn attach(tun: &File, socket: &UnixDatagram, config: &TapConfig) -> Result<(), Error> {
    let name = config.name.clone();
    let mut flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_NO_CARRIER;
    if !config.persist {
        // Else dropping ours could remove a persistent TAP of somebody else.
        flags |= libc::IFF_TUN_EXCL;
    }
    let mut request = IfReq::new(&name);
    request.set_flags(flags);
    let Err(source) = sys::interface(tun.as_fd(), Request::Attach, &mut request) else {
        return Ok(());
    };
    // EINVAL says that the interface is none to attach to, and other things, too.
    let exists = || {
        let mut request = IfReq::new(&name);
        sys::interface(socket.as_fd(), Request::Index, &mut request).is_ok()
    };
    Err(match source.raw_os_error() {
        Some(libc::EBUSY) if config.persist => Error::InUse { name },
        Some(libc::EBUSY | libc::EEXIST) => Error::NameTaken { name },
        Some(libc::EINVAL) if exists() => Error::NameTaken { name },
        _ => Error::from_kernel(format!("creating the TAP `{name}`"), source),
    })
}

/// The kernel's rules for names (`dev_valid_name`), and no `%`, which would be a pattern.
fn check_name(name: &str) -> Result<(), Error> {
    if name.len() > NAME_MAX {
        return Err(Error::NameTooLong { name: name.to_owned() });
    }
    let allowed = |byte: u8| byte.is_ascii_graphic() && !b"/:%".contains(&byte);
    if matches!(name, "" | "." | "..") || !name.bytes().all(allowed) {
        return Err(Error::BadName { name: name.to_owned() });
    }
    Ok(())
}

fn check_mac(mac: MacAddr) -> Result<(), Error> {
    if mac.is_zero() || mac.is_multicast() { Err(Error::BadMac(mac)) } else { Ok(()) }
}

fn check_mtu(mtu: u16) -> Result<(), Error> {
    if (MTU_MIN..=MTU_MAX).contains(&mtu) { Ok(()) } else { Err(Error::BadMtu(mtu)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_kernels() {
        for name in ["a", "wan0.kni", "bond2.kni", "vlan100@x", "fifteen-bytes-x"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", ".", "..", "a/b", "a:b", "a b", "a\tb", "a\0b", "kni%d", "größe"] {
            let error = check_name(name).unwrap_err();
            assert!(matches!(error, Error::BadName { .. }), "{error}");
        }
        let error = check_name("sixteen-bytes-xy").unwrap_err();
        assert_eq!(
            error.to_string(),
            "`sixteen-bytes-xy` is too long for a kernel interface: 16 bytes, at most 15; give it \
             a shorter name (`kni: { name: … }`)"
        );
    }

    #[test]
    fn what_no_interface_can_have_is_refused() {
        for mac in [MacAddr([0; 6]), MacAddr::BROADCAST, MacAddr([1, 0, 0x5e, 0, 0, 18])] {
            assert!(matches!(check_mac(mac), Err(Error::BadMac(named)) if named == mac));
        }
        for mtu in [0, MTU_MIN - 1, MTU_MAX + 1, u16::MAX] {
            assert!(matches!(check_mtu(mtu), Err(Error::BadMtu(named)) if named == mtu));
        }
        assert!(check_mtu(MTU_MIN).is_ok() && check_mtu(MTU_MAX).is_ok());
    }
}
