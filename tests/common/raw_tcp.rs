//! A TCP client made by hand, for handshakes whose options no kernel would send.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::namespace::Namespace;

const SYN: u8 = 0x02;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

/// One connection from a namespace, by a raw socket of either family.
pub struct RawTcp {
    socket: Socket,
    from: SocketAddr,
    to: SocketAddr,
    sequence: u32,
    acknowledged: u32,
}

impl RawTcp {
    /// Keeps the kernel of a namespace from resetting connections that it does not know.
    #[track_caller]
    pub fn silence(namespace: &Namespace) {
        let rules = "add table inet raw_tcp; \
            add chain inet raw_tcp out { type filter hook output priority 0; }; \
            add rule inet raw_tcp out tcp flags rst drop";
        namespace.run("nft", &[rules]).ok();
    }

    /// Sends a SYN and waits for the answer.
    #[track_caller]
    pub fn open(namespace: &Namespace, from: &str, to: &str) -> Self {
        let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
        let socket = namespace.enter(|| {
            let domain = if from.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
            let socket = Socket::new(domain, Type::RAW, Some(Protocol::TCP)).unwrap();
            let mut address = from;
            address.set_port(0);
            socket.bind(&address.into()).unwrap_or_else(|error| panic!("{from}: {error}"));
            socket
        });
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut client = Self { socket, from, to, sequence: 1000, acknowledged: 0 };
        client.send(SYN, &[2, 4, 0x05, 0xb4], b"");
        client.sequence += 1;
        let (flags, sequence, _) = client.receive();
        assert_eq!(flags & (SYN | ACK), SYN | ACK, "no SYN-ACK");
        client.acknowledged = sequence.wrapping_add(1);
        client
    }

    /// Sends an acknowledgment, with options (padded by zeros) and data.
    pub fn ack(&mut self, options: &[u8], data: &[u8]) {
        let flags = if data.is_empty() { ACK } else { ACK | PSH };
        self.send(flags, options, data);
        self.sequence = self.sequence.wrapping_add(data.len() as u32);
    }

    /// The first data that the other side sends.
    #[track_caller]
    pub fn read(&mut self) -> String {
        loop {
            let (_, _, data) = self.receive();
            if !data.is_empty() {
                return String::from_utf8(data).unwrap();
            }
        }
    }

    fn send(&self, flags: u8, options: &[u8], data: &[u8]) {
        let mut segment = Vec::new();
        segment.extend(self.from.port().to_be_bytes());
        segment.extend(self.to.port().to_be_bytes());
        segment.extend(self.sequence.to_be_bytes());
        segment.extend(self.acknowledged.to_be_bytes());
        let words = 5 + options.len().div_ceil(4) as u8;
        segment.extend([words << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
        segment.extend(options);
        segment.resize(usize::from(words) * 4, 0);
        segment.extend(data);
        let sum = self.checksum(&segment).to_be_bytes();
        segment[16..18].copy_from_slice(&sum);
        let mut to = self.to;
        to.set_port(0);
        self.socket.send_to(&segment, &SockAddr::from(to)).unwrap();
    }

    /// Flags, sequence number and data of the next segment of this connection.
    #[track_caller]
    fn receive(&mut self) -> (u8, u32, Vec<u8>) {
        let mut buffer = [0; 2048];
        loop {
            let len = std::io::Read::read(&mut self.socket, &mut buffer).expect("no answer");
            // With the IPv4 header, without the IPv6 one.
            let head = if self.from.is_ipv4() { usize::from(buffer[0] & 15) * 4 } else { 0 };
            let segment = &buffer[head..len];
            let at = |offset: usize| u16::from_be_bytes([segment[offset], segment[offset + 1]]);
            if at(0) != self.to.port() || at(2) != self.from.port() {
                continue;
            }
            let sequence = u32::from(at(4)) << 16 | u32::from(at(6));
            let data = segment[usize::from(segment[12] >> 4) * 4..].to_vec();
            return (segment[13], sequence, data);
        }
    }

    fn checksum(&self, segment: &[u8]) -> u16 {
        let octets = |address: SocketAddr| match address.ip() {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let pseudo = [octets(self.from), octets(self.to)].concat();
        let words = pseudo.chunks(2).chain(segment.chunks(2));
        let word =
            |bytes: &[u8]| u64::from(bytes[0]) << 8 | u64::from(bytes.get(1).copied().unwrap_or(0));
        let mut sum: u64 = words.map(word).sum::<u64>() + 6 + segment.len() as u64;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }
}
