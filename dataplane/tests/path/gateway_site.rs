//! A gateway whose packets arrive at any of its workers, with the hosts behind it and what each of them sees.

use std::collections::HashMap;

use nat::mapping::Endpoint32;
use testkit::{Buf, Decoded, PacketBuilder, ip, mac, pkt};
use types::FlowKey;

use crate::bed::{GatewayPlan, RS1, Setup, Testbed};

/// One worker shows that the tests are right.
pub const WORKERS: [u16; 4] = [1, 2, 3, 5];
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMP: u8 = 1;
/// Inside hosts; the first one is the server of the port forward.
pub const HOSTS: usize = 6;
/// Where the forwarded ports begin, and the server's.
pub const FORWARDED: u16 = 6_000;
pub const SERVED: u16 = 22;

pub type End = (u32, u16);

pub fn host(n: usize) -> u32 {
    if n == 0 { ip(RS1) } else { ip("198.18.0.100") + n as u32 }
}

pub fn remote(n: usize) -> u32 {
    ip("192.0.2.80") + n as u32
}

pub fn ends(key: &FlowKey) -> (End, End) {
    ((key.src, key.sport), (key.dst, key.dport))
}

/// A gateway with its inside hosts, whose packets arrive at any worker.
pub struct Site {
    pub bed: Testbed,
    pub arrivals: usize,
}

impl Site {
    pub fn new(setup: Setup, plan: &GatewayPlan) -> Self {
        let mut site = Self { bed: setup.gateway(plan), arrivals: 0 };
        site.learn_hosts();
        site.bed.settled();
        site
    }

    /// Control hears of all inside hosts.
    pub fn learn_hosts(&mut self) {
        for n in 0..HOSTS {
            let host = host(n);
            let address = std::net::Ipv4Addr::from(host).to_string();
            self.bed.learn(self.bed.lan, &address, mac(host as u8));
        }
    }

    pub fn of(workers: u16, plan: &GatewayPlan) -> Self {
        Self::new(Setup { workers, ..Setup::default() }, plan)
    }

    pub fn by_host(&self, src: u32, dst: u32) -> PacketBuilder {
        let lan = self.bed.snapshot.interfaces[self.bed.lan].mac;
        pkt().eth(mac(src as u8), lan).ipv4(src, dst)
    }

    pub fn by_remote(&self, src: u32, dst: u32) -> PacketBuilder {
        self.bed.by_client().ipv4(src, dst)
    }

    /// From inside or from outside, as the address says.
    pub fn by(&self, src: u32, dst: u32) -> (usize, PacketBuilder) {
        if src >> 8 == host(0) >> 8 {
            (self.bed.lan, self.by_host(src, dst))
        } else {
            (self.bed.wan, self.by_remote(src, dst))
        }
    }

    /// What leaves, and by which interface, when a packet has arrived somewhere.
    pub fn all(&mut self, from: usize, packet: Buf) -> Vec<(usize, Decoded)> {
        self.arrivals += 1;
        let worker = self.arrivals * 7 / 3 % self.bed.workers.len();
        self.bed.arrive_raw(worker, from, packet);
        self.bed.turn();
        let ports = self.bed.snapshot.interfaces.len();
        (0..ports)
            .flat_map(|port| self.bed.sent(port).into_iter().map(move |it| (port, it)))
            .collect()
    }

    /// What becomes of a packet: it passes, and that is one hop.
    #[track_caller]
    pub fn passes(&mut self, (from, packet): (usize, PacketBuilder)) -> Decoded {
        let packet = packet.build();
        let ttl = Decoded::check(&packet).ipv4().ttl;
        let mut left = self.all(from, packet);
        assert_eq!(left.len(), 1, "{left:#?}");
        let (port, sent) = left.remove(0);
        let inside = sent.ipv4().dst >> 8 == host(0) >> 8;
        assert_eq!(port, if inside { self.bed.lan } else { self.bed.wan }, "{sent}");
        assert_eq!(sent.ipv4().ttl, ttl - 1, "{sent}");
        sent
    }

    #[track_caller]
    pub fn is_dropped(&mut self, (from, packet): (usize, PacketBuilder)) {
        let left = self.all(from, packet.build());
        assert!(left.is_empty(), "{left:#?}");
    }

    #[track_caller]
    pub fn udp(&mut self, from: End, to: End) -> Decoded {
        let (port, packet) = self.by(from.0, to.0);
        self.passes((port, packet.udp(from.1, to.1).payload("hello")))
    }

    /// Who got a packet cannot take it: its sender hears of that, and of its own packet.
    #[track_caller]
    pub fn refuses(&mut self, got: &Decoded, sent: &FlowKey) {
        let key = got.key();
        let quoted = pkt().ipv4(key.src, key.dst);
        let quoted = match key.proto {
            ICMP => quoted.echo_request(key.sport, 1),
            TCP => quoted.tcp(key.sport, key.dport),
            _ => quoted.udp(key.sport, key.dport),
        };
        let (port, error) = self.by(key.dst, key.src);
        let told = self.passes((port, error.icmp(3, 3, 0).quote(&quoted)));
        assert_eq!(told.ipv4().dst, sent.src);
        assert_eq!(ends(&told.quoted().key), ends(sent), "{told}");
    }

    /// Mappings, which must be whole: none is on two workers.
    pub fn mappings(&self) -> HashMap<(u8, End), End> {
        let mut all = HashMap::new();
        for nat in self.bed.workers.iter().filter_map(|worker| worker.core.nat.as_ref()) {
            let (mut cursor, mut budget) = (0, u32::MAX);
            while let Some(mapping) = nat.mappings().next(&mut cursor, &mut budget) {
                let of = |end: Endpoint32| (end.address, end.l4_port);
                let before = all.insert((mapping.proto, of(mapping.inside)), of(mapping.outside));
                assert_eq!(before, None, "{mapping:?} twice");
            }
        }
        all
    }
}
