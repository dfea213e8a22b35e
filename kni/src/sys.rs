//! The kernel's requests on TUN/TAP descriptors and interfaces, with typed arguments.

use std::ffi::{c_char, c_int, c_short, c_ulong};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};

use types::MacAddr;

/// A request that takes an [`IfReq`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Request {
    /// On a TUN descriptor: attach to the TAP of this name with these flags, or create it.
    Attach,
    /// On a TUN descriptor: the name of the attached TAP.
    Attached,
    /// The interface's index.
    Index,
    /// The interface's flags.
    Flags,
    /// Set the interface's flags.
    SetFlags,
    /// The interface's MAC address.
    Mac,
    /// Set the interface's MAC address.
    SetMac,
    /// Set the interface's MTU.
    SetMtu,
}

impl Request {
    const fn code(self) -> libc::Ioctl {
        match self {
            Self::Attach => libc::TUNSETIFF,
            Self::Attached => libc::TUNGETIFF,
            Self::Index => libc::SIOCGIFINDEX as libc::Ioctl,
            Self::Flags => libc::SIOCGIFFLAGS as libc::Ioctl,
            Self::SetFlags => libc::SIOCSIFFLAGS as libc::Ioctl,
            Self::Mac => libc::SIOCGIFHWADDR as libc::Ioctl,
            Self::SetMac => libc::SIOCSIFHWADDR as libc::Ioctl,
            Self::SetMtu => libc::SIOCSIFMTU as libc::Ioctl,
        }
    }
}

/// An interface's name with one value of it (`struct ifreq`).
pub(crate) struct IfReq(libc::ifreq);

impl IfReq {
    /// For the interface of this name; what is longer than the kernel's longest is cut.
    pub(crate) fn new(name: &str) -> Self {
        // SAFETY: `ifreq` is integers, arrays of them and a pointer; all zeros is a value of it.
        let mut request = Self(unsafe { mem::zeroed() });
        let room = libc::IFNAMSIZ - 1;
        for (to, from) in request.0.ifr_name.iter_mut().zip(name.bytes().take(room)) {
            *to = from as c_char;
        }
        request
    }

    pub(crate) fn index(&self) -> c_int {
        // SAFETY: all bytes of the union are initialised, and any are an integer.
        unsafe { self.0.ifr_ifru.ifru_ifindex }
    }

    /// The 16 flag bits.
    pub(crate) fn flags(&self) -> c_int {
        // SAFETY: as in `index`.
        let flags: c_short = unsafe { self.0.ifr_ifru.ifru_flags };
        c_int::from(flags.cast_unsigned())
    }

    /// Sets the flags: the low 16 bits, all that there are.
    pub(crate) fn set_flags(&mut self, flags: c_int) {
        self.0.ifr_ifru.ifru_flags = flags as c_short;
    }

    pub(crate) fn mac(&self) -> MacAddr {
        // SAFETY: as in `index`; the address is integers and arrays of them.
        let address = unsafe { self.0.ifr_ifru.ifru_hwaddr };
        let [a, b, c, d, e, f, ..] = address.sa_data.map(|octet| octet as u8);
        MacAddr([a, b, c, d, e, f])
    }

    pub(crate) fn set_mac(&mut self, mac: MacAddr) {
        let mut sa_data = [0; 14];
        for (to, from) in sa_data.iter_mut().zip(mac.0) {
            *to = from as c_char;
        }
        self.0.ifr_ifru.ifru_hwaddr = libc::sockaddr { sa_family: libc::ARPHRD_ETHER, sa_data };
    }

    pub(crate) fn set_mtu(&mut self, mtu: u16) {
        self.0.ifr_ifru.ifru_mtu = c_int::from(mtu);
    }
}

/// Makes a request; the answer is in `argument`.
pub(crate) fn interface(
    fd: BorrowedFd<'_>,
    request: Request,
    argument: &mut IfReq,
) -> io::Result<()> {
    // SAFETY: every `Request` reads and writes one `ifreq` (netdevice(7), the kernel's
    // tuntap.rst), which `argument` is for the length of the call; `fd` is open.
    result(unsafe { libc::ioctl(fd.as_raw_fd(), request.code(), &raw mut argument.0) })
}

/// Makes the attached TAP outlive its descriptor, or not.
pub(crate) fn set_persist(tun: BorrowedFd<'_>, persist: bool) -> io::Result<()> {
    let value = c_ulong::from(persist);
    // SAFETY: TUNSETPERSIST takes its argument by value; `tun` is open.
    result(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETPERSIST, value) })
}

/// Takes all offloads from the attached TAP: frames come whole and with their checksums.
pub(crate) fn no_offload(tun: BorrowedFd<'_>) -> io::Result<()> {
    let none: c_ulong = 0;
    // SAFETY: TUNSETOFFLOAD takes its argument by value; `tun` is open.
    result(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETOFFLOAD, none) })
}

/// Sets the carrier of the attached TAP.
pub(crate) fn set_carrier(tun: BorrowedFd<'_>, carrier: bool) -> io::Result<()> {
    let value = c_int::from(carrier);
    // SAFETY: TUNSETCARRIER reads one int, which `value` is for the length of the call; `tun` is
    // open.
    result(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETCARRIER, &raw const value) })
}

fn result(returned: c_int) -> io::Result<()> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_carry_what_is_set() {
        let mut request = IfReq::new("sixteen-bytes-xy");
        let name: Vec<u8> = request.0.ifr_name.iter().map(|&byte| byte as u8).collect();
        assert_eq!(name, b"sixteen-bytes-x\0", "the last byte ends the name");
        assert_eq!((request.index(), request.flags()), (0, 0));
        request.set_flags(libc::IFF_TUN_EXCL | libc::IFF_TAP);
        assert_eq!(request.flags(), 0x8002, "the highest bit is a flag, not a sign");
        let mac = MacAddr([0x02, 0xff, 0x80, 0, 0x7f, 1]);
        request.set_mac(mac);
        assert_eq!(request.mac(), mac);
    }
}
