//! The header of the PROXY protocol, that shows a server its client in what the server reads: written and found.
//!
//! By haproxy's `proxy-protocol.txt`: version 1 is a line of text, version 2 is binary, and both name the client and
//! the address that it has connected to. The same function finds one that a client itself has sent.

use std::fmt::Write as _;
use std::net::IpAddr;

use types::Proto;
use wire::chunk_at;

mod edit;

pub use edit::{cut, hide, insert, shift_sequence, shrink_window, strip_fast_open};

/// Longest header of ours in bytes: a line with two IPv6 addresses and ports in full.
pub const LEN_MAX: usize = 104;
/// Longest line of version 1 in bytes, its end included (§2.1).
const LINE_MAX: usize = 107;
/// What version 2 begins with (§2.2).
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// What version 1 begins with (§2.1).
const WORD: &[u8] = b"PROXY ";
/// Signature, version and command, family and protocol, and the length of what follows.
const FIXED: usize = 16;
/// Two addresses and two ports.
const ADDRESSES_V4: usize = 12;
const ADDRESSES_V6: usize = 36;

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Text, of TCP only.
    V1,
    /// Binary.
    V2,
}

/// A header of ours.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    bytes: [u8; LEN_MAX],
    len: u8,
}

impl Header {
    /// The header that says: this client has connected to this address of ours. If the two are of different families
    /// it says that nothing is known.
    pub fn new(version: Version, proto: Proto, client: (IpAddr, u16), vip: (IpAddr, u16)) -> Self {
        let mut header = Self { bytes: [0; LEN_MAX], len: 0 };
        match version {
            Version::V1 => header.write_line(client, vip),
            Version::V2 => header.write_binary(proto, client, vip),
        }
        header
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// How long it is, in bytes.
    pub const fn len(&self) -> u8 {
        self.len
    }

    /// None is empty.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn put(&mut self, bytes: &[u8]) {
        let at = usize::from(self.len);
        if let Some(place) = self.bytes.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
            self.len += bytes.len() as u8;
        }
    }

    /// §2.1.
    fn write_line(&mut self, client: (IpAddr, u16), vip: (IpAddr, u16)) {
        let family = match (client.0, vip.0) {
            (IpAddr::V4(_), IpAddr::V4(_)) => "TCP4",
            (IpAddr::V6(_), IpAddr::V6(_)) => "TCP6",
            _ => return self.put(b"PROXY UNKNOWN\r\n"),
        };
        let ((source, sport), (destination, dport)) = (client, vip);
        // There is room for the longest.
        let written = write!(self, "PROXY {family} {source} {destination} {sport} {dport}\r\n");
        debug_assert!(written.is_ok());
    }

    /// §2.2.
    fn write_binary(&mut self, proto: Proto, client: (IpAddr, u16), vip: (IpAddr, u16)) {
        let transport = if proto == Proto::Udp { 2 } else { 1 };
        self.put(&SIGNATURE);
        // Version 2, command PROXY.
        self.put(&[0x21]);
        let ports = [client.1.to_be_bytes(), vip.1.to_be_bytes()];
        match (client.0, vip.0) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                self.put(&[0x10 | transport, 0, ADDRESSES_V4 as u8]);
                self.put(&source.octets());
                self.put(&destination.octets());
                self.put(ports.as_flattened());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                self.put(&[0x20 | transport, 0, ADDRESSES_V6 as u8]);
                self.put(&source.octets());
                self.put(&destination.octets());
                self.put(ports.as_flattened());
            }
            _ => self.put(&[0, 0, 0]),
        }
    }
}

impl std::fmt::Write for Header {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let before = self.len;
        self.put(text.as_bytes());
        if usize::from(self.len - before) == text.len() { Ok(()) } else { Err(std::fmt::Error) }
    }
}

/// What the first bytes of a client are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// No header, or one that breaks the protocol's rules.
    Nothing,
    /// A header of so many bytes, what is attached to it included.
    Whole(usize),
    /// What begins like one whose end is not here.
    Begun,
}

/// Looks for a header at the start of what a client has sent.
///
/// It is looked for in one segment or datagram: a sender has to send it in one (§2), so what is less than its first
/// word is none.
pub fn find(payload: &[u8]) -> Found {
    if payload.starts_with(WORD) { find_line(payload) } else { find_binary(payload) }
}

/// The same for version 2 alone, as on datagrams.
pub fn find_binary(payload: &[u8]) -> Found {
    if !payload.starts_with(&SIGNATURE) {
        return Found::Nothing;
    }
    let Some(&[command, family, high, low]) = chunk_at(payload, SIGNATURE.len()) else {
        return Found::Begun;
    };
    let len = usize::from(u16::from_be_bytes([high, low]));
    // §2.2: version 2, commands LOCAL and PROXY; whatever else is there than addresses follows them.
    let needed = match (command, family) {
        (0x20, _) | (0x21, 0x00) => 0,
        (0x21, 0x11 | 0x12) => ADDRESSES_V4,
        (0x21, 0x21 | 0x22) => ADDRESSES_V6,
        (0x21, 0x31 | 0x32) => 216,
        _ => return Found::Nothing,
    };
    match len >= needed {
        true if payload.len() >= FIXED + len => Found::Whole(FIXED + len),
        true => Found::Begun,
        false => Found::Nothing,
    }
}

fn find_line(payload: &[u8]) -> Found {
    let within = payload.get(..LINE_MAX).unwrap_or(payload);
    let Some(end) = within.windows(2).position(|pair| pair == b"\r\n") else {
        return if payload.len() < LINE_MAX { Found::Begun } else { Found::Nothing };
    };
    let line = within.get(..end).and_then(|line| std::str::from_utf8(line).ok());
    match line.is_some_and(is_line) {
        true => Found::Whole(end + 2),
        false => Found::Nothing,
    }
}

/// Whether a line without its end is one of version 1.
fn is_line(line: &str) -> bool {
    let mut words = line.split(' ').skip(1);
    let family = words.next();
    if family == Some("UNKNOWN") {
        // The receiver ignores what follows.
        return true;
    }
    let (Some(source), Some(destination)) = (words.next(), words.next()) else { return false };
    let addresses = [source, destination].map(str::parse::<IpAddr>);
    let right = matches!(
        (family, addresses),
        (Some("TCP4"), [Ok(IpAddr::V4(_)), Ok(IpAddr::V4(_))])
            | (Some("TCP6"), [Ok(IpAddr::V6(_)), Ok(IpAddr::V6(_))])
    );
    let is_port = |word: &str| {
        word.bytes().all(|digit| digit.is_ascii_digit()) && word.parse::<u16>().is_ok()
    };
    let ports = [words.next(), words.next()];
    right && ports.iter().all(|port| port.is_some_and(is_port)) && words.next().is_none()
}

/// Where the transport header and the payload of a packet stand, and where the packet ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Offset of the IP header.
    pub l3: usize,
    /// Offset of the transport header.
    pub l4: usize,
    /// Offset of what follows it.
    pub payload: usize,
    /// Offset of what is behind the IP packet.
    pub end: usize,
}

impl<A: types::Address> From<&wire::Parsed<A>> for Place {
    fn from(parsed: &wire::Parsed<A>) -> Self {
        Self {
            l3: parsed.l3.into(),
            l4: parsed.l4.into(),
            payload: parsed.payload.into(),
            end: parsed.ip_end(),
        }
    }
}

#[cfg(test)]
mod tests;
