//! Addresses, ports and numbers as `ipvsadm` takes and prints them.

use std::net::{IpAddr, Ipv6Addr, ToSocketAddrs};

use types::{Endpoint, L4Port};

use super::super::{Failure, Outcome};
use config::Protocol;

/// Names of ports, as the system has them.
#[derive(Debug, Default)]
pub(super) struct PortNames {
    entries: Vec<(String, u16, String)>,
}

impl PortNames {
    /// Those of `/etc/services`; none if there is no such file.
    pub(super) fn of_system() -> Self {
        Self::read(&std::fs::read_to_string("/etc/services").unwrap_or_default())
    }

    fn read(text: &str) -> Self {
        let entry = |line: &str| {
            let line = line.split('#').next()?;
            let mut words = line.split_whitespace();
            let name = words.next()?;
            let (port, protocol) = words.next()?.split_once('/')?;
            Some((name.to_owned(), port.parse().ok()?, protocol.to_owned()))
        };
        Self { entries: text.lines().filter_map(entry).collect() }
    }

    /// The number of a port by its name.
    fn number(&self, name: &str, protocol: &str) -> Option<u16> {
        let mut named = self.entries.iter().filter(|(n, _, p)| n == name && p == protocol);
        named.next().map(|(_, port, _)| *port)
    }

    /// A port's name, or else its number.
    fn name(&self, port: u16, protocol: &str) -> String {
        let mut known = self.entries.iter().filter(|(_, p, of)| *p == port && of == protocol);
        known.next().map_or_else(|| port.to_string(), |(name, ..)| name.clone())
    }
}

/// How addresses and ports are printed.
#[derive(Debug)]
pub(super) struct Style {
    /// Nothing if numbers stay numbers.
    names: Option<PortNames>,
}

impl Style {
    /// With numbers, or with the system's names of ports.
    pub(super) fn new(numeric: bool) -> Self {
        Self { names: (!numeric).then(PortNames::of_system) }
    }

    /// An address and a port; of IPv6 in brackets.
    pub(super) fn endpoint(&self, endpoint: Endpoint, protocol: Protocol) -> String {
        let Endpoint { address, l4_port } = endpoint;
        let port = match &self.names {
            Some(names) => names.name(l4_port.0, &protocol.to_string()),
            None => l4_port.0.to_string(),
        };
        match address {
            IpAddr::V4(v4) => format!("{v4}:{port}"),
            IpAddr::V6(v6) => format!("[{v6}]:{port}"),
        }
    }
}

/// Reads `HOST[:PORT]` or `[V6]:PORT`; the port is `default` if it is left out.
///
/// # Errors
/// If it is none.
pub(super) fn endpoint(text: &str, protocol: Protocol, default: u16) -> Outcome<Endpoint> {
    let wrong = |what: &str| Failure::usage(format!("illegal {what} [:]port specified: `{text}`"));
    let (host, port) = split(text).ok_or_else(|| wrong("address"))?;
    let port = match port {
        None => default,
        Some(port) => port
            .parse()
            .ok()
            .or_else(|| PortNames::of_system().number(port, &protocol.to_string()))
            .ok_or_else(|| wrong("address"))?,
    };
    let address = address(host).ok_or_else(|| wrong("virtual server address"))?;
    Ok(Endpoint { address, l4_port: L4Port(port) })
}

fn split(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return match rest {
            "" => Some((host, None)),
            rest => Some((host, Some(rest.strip_prefix(':')?))),
        };
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Some((text, None));
    }
    match text.rsplit_once(':') {
        Some((host, port)) => Some((host, Some(port))),
        None => Some((text, None)),
    }
}

/// An address, or the first that a name stands for.
fn address(host: &str) -> Option<IpAddr> {
    host.parse().ok().or_else(|| {
        let is_name = host.chars().any(|c| c.is_ascii_alphabetic());
        let mut found = is_name.then(|| (host, 0).to_socket_addrs().ok()).flatten()?;
        found.next().map(|found| found.ip())
    })
}

/// An address without a port.
///
/// # Errors
/// If it is none.
pub(super) fn plain(text: &str, what: &str) -> Outcome<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    address(bare)
        .ok_or_else(|| Failure::usage(format!("illegal {what} address specified: `{text}`")))
}

/// A number in bounds.
///
/// # Errors
/// If it is none.
pub(super) fn number(text: &str, what: &str, least: u32, most: u32) -> Outcome<u32> {
    let found = text.parse().ok().filter(|number| (least..=most).contains(number));
    found.ok_or_else(|| Failure::usage(format!("illegal {what} specified: `{text}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_may_stand_with_and_without_ports() {
        let read = |text: &str| endpoint(text, Protocol::Tcp, 7).map(|e| e.to_string()).ok();
        for (text, read_as) in [
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("10.0.0.1", "10.0.0.1:7"),
            ("[2001::201]:80", "[2001::201]:80"),
            ("[2001::201]", "[2001::201]:7"),
            ("2001::201", "[2001::201]:7"),
        ] {
            assert_eq!(read(text).as_deref(), Some(read_as), "{text}");
        }
        for text in ["", "10.0.0:80", "10.0.0.1:", "10.0.0.1:65536", "[2001::201", "[::1]80"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn ports_have_names() {
        let names = PortNames::read("# x\nhttp 80/tcp www\ndomain\t53/udp # y\nbad\n");
        assert_eq!(names.number("http", "tcp"), Some(80));
        assert_eq!((names.name(53, "udp"), names.name(53, "tcp")), ("domain".into(), "53".into()));
        let style = Style { names: Some(names) };
        let vip = "[2001::201]:80".parse().unwrap();
        assert_eq!(style.endpoint(vip, Protocol::Tcp), "[2001::201]:http");
    }
}
