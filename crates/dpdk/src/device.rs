//! Device strings: what they name, and whether that can be had at all.

use std::fs;
use std::path::Path;

use crate::Error;
use crate::ffi::c_string;

/// Whether the string names a PCI device (`0000:81:00.0` or `81:00.0`, with arguments or not).
pub(crate) fn is_pci(device: &str) -> bool {
    pci_address(device).is_some()
}

/// The PCI address in full, `0000:81:00.0`.
fn pci_address(device: &str) -> Option<String> {
    let address = device.split(',').next()?;
    let (bus, function) = address.rsplit_once('.')?;
    let hex =
        |text: &str, len: usize| text.len() == len && text.chars().all(|c| c.is_ascii_hexdigit());
    let mut parts = bus.rsplit(':');
    let (slot, bus, domain) = (parts.next()?, parts.next()?, parts.next().unwrap_or("0000"));
    let whole = hex(slot, 2) && hex(bus, 2) && (4..=8).contains(&domain.len());
    let whole = whole && hex(domain, domain.len()) && hex(function, 1) && parts.next().is_none();
    whole.then(|| format!("{domain}:{bus}:{slot}.{function}").to_lowercase())
}

/// The name that the device's interface will have in DPDK.
pub(crate) fn port_name(device: &str) -> Result<String, Error> {
    if let Some(address) = pci_address(device) {
        return Ok(address);
    }
    let name = device.split(',').next().unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    match !name.is_empty() && name.len() < 64 && name.chars().all(plain) {
        true => Ok(name.to_owned()),
        false => Err(Error::BadDevice(device.to_owned())),
    }
}

/// Refuses a device that cannot work, in words that DPDK's log does not have.
pub(crate) fn check(device: &str) -> Result<(), Error> {
    let name = port_name(device)?;
    if is_pci(device) {
        return match Path::new("/sys/bus/pci/devices").join(&name).exists() {
            true => Ok(()),
            false => Err(Error::NoSuchPciDevice(name)),
        };
    }
    if let Some((capability, number)) = needed_capability(&name)
        && !has_capability(number)
    {
        return Err(Error::NotPrivileged { device: device.to_owned(), capability });
    }
    // Of these the interface has to exist; of others, such as net_tap, `iface` is one to be made.
    if name.starts_with("net_af_packet") || name.starts_with("net_af_xdp") {
        let given = device.split(',').find_map(|part| part.trim().strip_prefix("iface="));
        let interface = given.unwrap_or_default();
        if !interface_exists(interface) {
            return Err(Error::NoSuchInterface {
                device: device.to_owned(),
                interface: interface.to_owned(),
            });
        }
    }
    Ok(())
}

/// What else there is to say of a PCI device that DPDK did not take.
pub(crate) fn hint(device: &str) -> String {
    let Some(address) = pci_address(device) else { return String::new() };
    let driver = Path::new("/sys/bus/pci/devices").join(&address).join("driver");
    let driver = fs::read_link(driver)
        .ok()
        .and_then(|link| link.file_name().map(|name| name.to_string_lossy().into_owned()));
    match driver.as_deref() {
        None => format!("; no driver is bound to it (`dpdk-devbind.py --bind=vfio-pci {address}`)"),
        Some("vfio-pci" | "uio_pci_generic" | "igb_uio") => {
            "; DPDK has no driver for it, or the process may not open its group in /dev/vfio".into()
        }
        Some(driver) => format!(
            "; the kernel's driver {driver} holds it (`dpdk-devbind.py --bind=vfio-pci {address}`)"
        ),
    }
}

fn needed_capability(name: &str) -> Option<(&'static str, u32)> {
    const NET_ADMIN: (&str, u32) = ("CAP_NET_ADMIN", 12);
    const NET_RAW: (&str, u32) = ("CAP_NET_RAW", 13);
    match name.trim_end_matches(|c: char| c.is_ascii_digit()) {
        "net_af_packet" => Some(NET_RAW),
        "net_tap" | "net_tun" | "net_af_xdp" => Some(NET_ADMIN),
        _ => None,
    }
}

/// Whether the capability is in the process's effective set.
fn has_capability(number: u32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    // Where it cannot be known, DPDK's own error has to do.
    set.is_none_or(|set| set >> number & 1 == 1)
}

fn interface_exists(name: &str) -> bool {
    // SAFETY: the name is a terminated string that lives through the call.
    !name.is_empty() && unsafe { libc::if_nametoindex(c_string(name).as_ptr()) } != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_interfaces() {
        assert_eq!(port_name("0000:81:00.0").unwrap(), "0000:81:00.0");
        assert_eq!(port_name("81:0A.1,representor=0").unwrap(), "0000:81:0a.1");
        assert_eq!(port_name("net_af_packet0,iface=lan0").unwrap(), "net_af_packet0");
        for bad in ["", ",iface=x", "net null", "81:00", "a/b"] {
            assert!(matches!(port_name(bad), Err(Error::BadDevice(_))), "{bad}");
        }
    }

    #[test]
    fn devices_that_cannot_be_are_told_apart() {
        let error = check("net_af_packet0,iface=nosuch").unwrap_err();
        let as_root =
            matches!(&error, Error::NoSuchInterface { interface, .. } if interface == "nosuch");
        assert!(as_root || matches!(error, Error::NotPrivileged { .. }), "{error}");
        assert!(matches!(check("ffff:ff:1f.7"), Err(Error::NoSuchPciDevice(_))));
        check("net_null0").unwrap();
    }
}
