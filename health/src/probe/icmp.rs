//! An echo request, and the reply to it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use socket2::{Protocol, Type};
use tokio::net::UdpSocket;

use super::{Answer, Target, socket};

/// ICMP's header of echo messages: type, code, checksum, identifier, sequence number (RFC 792, RFC 4443).
const HEADER: usize = 8;
const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;
const V6_ECHO_REQUEST: u8 = 128;
const V6_ECHO_REPLY: u8 = 129;

pub(super) async fn ask(target: &Target) -> Answer {
    // All sockets hear all replies of the server: each request has its own number.
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed) ^ std::process::id() << 16;
    let to = target.socket_address();
    let v4 = to.is_ipv4();
    let protocol = if v4 { Protocol::ICMPV4 } else { Protocol::ICMPV6 };
    let socket = socket::open(&target.way, to, Type::RAW, Some(protocol))?;
    socket.connect(&SocketAddr::new(to.ip(), 0).into())?;
    // What sends and receives on a connected socket is the same, whatever its kind.
    let socket = UdpSocket::from_std(socket.into())?;
    socket.send(&request(v4, number)).await?;
    let mut packet = [0; 256];
    loop {
        let len = socket.recv(&mut packet).await?;
        if is_reply(packet.get(..len).unwrap_or_default(), v4, number) {
            return Ok("answered".to_owned());
        }
    }
}

fn request(v4: bool, number: u32) -> [u8; HEADER] {
    let [a, b, c, d] = number.to_be_bytes();
    let kind = if v4 { ECHO_REQUEST } else { V6_ECHO_REQUEST };
    // Of ICMPv6, the kernel makes the checksum: it covers the addresses.
    let sum = if v4 { checksum([kind, 0, 0, 0, a, b, c, d]) } else { 0 };
    let [high, low] = sum.to_be_bytes();
    [kind, 0, high, low, a, b, c, d]
}

/// RFC 1071.
fn checksum(header: [u8; HEADER]) -> u16 {
    let (words, _) = header.as_chunks::<2>();
    let sum: u32 = words.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// A packet of IPv4 comes with its header, one of IPv6 without.
fn is_reply(packet: &[u8], v4: bool, number: u32) -> bool {
    let skip = if v4 { packet.first().map_or(0, |first| usize::from(first & 15) * 4) } else { 0 };
    let kind = if v4 { ECHO_REPLY } else { V6_ECHO_REPLY };
    let header = packet.get(skip..).and_then(<[u8]>::first_chunk::<HEADER>);
    header.is_some_and(|[found, code, _, _, number_found @ ..]| {
        (*found, *code) == (kind, 0) && *number_found == number.to_be_bytes()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_its_sum_and_only_its_reply_is_taken() {
        let request = request(true, 0x1234_5678);
        assert_eq!(checksum(request), 0, "a sum over itself is none");
        assert_eq!(request, [8, 0, 0x8f, 0x53, 0x12, 0x34, 0x56, 0x78]);
        let mut reply = [0x45; 28];
        reply[20..].copy_from_slice(&[0, 0, 0x97, 0x53, 0x12, 0x34, 0x56, 0x78]);
        assert!(is_reply(&reply, true, 0x1234_5678));
        assert!(!is_reply(&reply, true, 0x1234_5679));
        assert!(!is_reply(&reply[..27], true, 0x1234_5678) && !is_reply(&[], true, 0));
        assert!(is_reply(&[129, 0, 0, 0, 0, 0, 0, 1], false, 1));
        assert!(!is_reply(&[128, 0, 0, 0, 0, 0, 0, 1], false, 1));
    }
}
