//! A worker's life by choices: packets from clients and servers, time, other configurations. The
//! testbed checks after each turn that every packet has ended once and every buffer is accounted
//! for; here is checked that what leaves is right, and that all conns end.

use std::collections::{HashMap, HashSet};

use balance::{Admin, Scheduler};
use dataplane::worker::link::{ConnFilter, Scan, ScanAction};
use testkit::decoded::{L4, Net};
use testkit::{Buf, Decoded, PacketBuilder, pkt};
use types::{FlowKey, MacAddr, Proto};

use crate::bed::{
    CLIENT, GATEWAY, LAN_IP, LIP, ONE_ARM_GATEWAY, RS1, RS2, Setup, Testbed, VIP, WAN_IP, station,
};
use crate::choices::Choices;
use crate::parse::mend;

/// Steps of one life, at most: a slow input finds no more than several fast ones.
const STEPS_MAX: usize = 200;
/// Frames that servers may answer, the last ones.
const SEEN_MAX: usize = 16;
/// After so many turns without a packet, so far apart, no conn is left, whatever its state.
const END_TURNS: usize = 32;
const END_STEP_MS: u64 = 500_000;

/// Two bytes of choices for the testbed, then steps.
pub fn path(input: &[u8]) {
    let mut choices = Choices::new(input);
    let mut life = Life::begin(&mut choices);
    for _ in 0..STEPS_MAX {
        let Some(step) = choices.next() else { break };
        life.step(step, &mut choices);
    }
    life.end();
}

/// A testbed, and what is remembered to go on with.
struct Life {
    bed: Testbed,
    /// What servers were sent, by key and numbers, for answers to it.
    seen: Vec<Seen>,
    /// Identifications of arrived packets in which something is wrong, which then stays wrong.
    wrong: HashSet<u16>,
    /// The same of those that quote a packet which is right.
    quoting: HashMap<u16, Option<bool>>,
    ident: u16,
}

/// A packet that has left towards a server.
#[derive(Clone, Copy)]
struct Seen {
    key: FlowKey,
    seq: u32,
}

impl Life {
    fn begin(choices: &mut Choices<'_>) -> Self {
        let (flags, limits) = (choices.byte(), choices.byte());
        let flag = |bit: u8| flags >> bit & 1 != 0;
        let usual = Setup::default();
        let scheduler = Scheduler::ALL[usize::from(limits >> 4) % Scheduler::ALL.len()];
        let setup = Setup {
            one_arm: flag(0),
            workers: if flag(1) { 2 } else { 1 },
            resolved: !flag(2),
            default_route: !flag(3),
            lan_mtu: if flag(4) { 576 } else { usual.lan_mtu },
            l4_ports: if flag(5) { 1024..=1027 } else { usual.l4_ports.clone() },
            max_connections: [64, 4, 8, 4096][usize::from(limits & 3)],
            ..usual
        };
        let setup = setup.shop(|shop| {
            shop.spec.scheduler = scheduler;
            shop.spec.evict_idle = flag(6);
            shop.spec.max_connections = if limits & 4 != 0 { 3 } else { 0 };
        });
        let setup = setup.dns(|dns| {
            dns.spec.scheduler = scheduler;
            dns.spec.one_packet = flag(7);
        });
        let bed = setup.build();
        let (wrong, quoting) = Default::default();
        Self { bed, seen: Vec::new(), wrong, quoting, ident: 0 }
    }

    fn step(&mut self, step: u8, choices: &mut Choices<'_>) {
        let (wan, lan) = (self.bed.wan, self.bed.lan);
        match step & 15 {
            0 => self.packet(wan, by_client_tcp(&self.bed, choices), step, choices),
            1 => self.packet(lan, self.by_server_tcp(choices), step, choices),
            2 => {
                let (sport, len) = (5000 + u16::from(choices.byte() & 7), choices.byte());
                let packet = self.bed.by_client().udp(sport, choices.one_of(&[53, 80, 1]));
                self.packet(wan, packet.payload_len(len.into()), step, choices);
            }
            3 => self.packet(lan, self.by_server_udp(choices), step, choices),
            4 => {
                let (interface, packet) = self.icmp_error(choices);
                self.packet(interface, packet, step, choices);
            }
            5 => {
                let to = choices.one_of(&[VIP, LIP, WAN_IP, LAN_IP, CLIENT]);
                let packet = self.bed.by_client().ipv4(CLIENT, to).payload(choices.take(3));
                let number = choices.number();
                let packet = match choices.byte() & 3 {
                    0 => packet.echo_reply(number, 1),
                    1 => packet.icmp(choices.byte(), 0, 0),
                    _ => packet.echo_request(number, 1),
                };
                self.packet(wan, packet, step, choices);
            }
            6 => {
                let interface = choices.one_of(&[wan, lan]);
                self.packet(interface, arp(choices), step, choices);
            }
            7 => {
                let len = usize::from(choices.byte());
                let mut frame = choices.take(len).to_vec();
                mend(&mut frame);
                self.arrive(choices.one_of(&[wan, lan]), Buf::new(&frame), choices);
            }
            8 => self.pass(choices.one_of(&[0, 1, 10, 100, 1000, 4000, 60_000, 900_000])),
            9 => self.bed.control_turn(),
            10 | 11 => self.configure(choices),
            12 => {
                let room = choices.one_of(&[usize::MAX, 0, 1, 3]);
                let buffers = choices.one_of(&[usize::MAX, 0, 1]);
                for worker in &mut self.bed.workers {
                    (worker.io.room, worker.io.buffers) = (room, buffers);
                }
            }
            13 => self.close_some(choices),
            _ => self.turn(),
        }
    }

    /// Lets a packet arrive, some bytes of it changed if bit 4 of the step says so; it is handled
    /// at once unless bit 5 does.
    fn packet(
        &mut self,
        interface: usize,
        packet: PacketBuilder,
        step: u8,
        choices: &mut Choices<'_>,
    ) {
        self.ident = self.ident.wrapping_add(1);
        let mut buf = packet.ident(self.ident).build();
        if step & 16 != 0 {
            for _ in 0..1 + (choices.byte() & 3) {
                let (at, byte) = (usize::from(choices.byte()), choices.byte());
                if let Some(place) = buf.frame_mut().get_mut(at) {
                    *place = byte;
                }
            }
            if choices.byte() & 1 != 0 {
                mend(buf.frame_mut());
            }
        }
        if step & 64 != 0 {
            buf = buf.segmented(choices.byte().into());
        }
        self.arrive(interface, buf, choices);
        if step & 32 == 0 {
            self.turn();
        }
    }

    fn arrive(&mut self, interface: usize, buf: Buf, choices: &mut Choices<'_>) {
        let ident = Decoded::of(&buf).map(|decoded| match decoded.net {
            Net::Ipv4(ip) => {
                let right = ip.checksum_ok && ip.l4_checksum_ok();
                let quoted = match ip.l4 {
                    L4::Icmp(icmp) => icmp.quoted,
                    _ => None,
                };
                let quoted = quoted.filter(|quoted| right && quoted.ip_checksum_ok);
                (ip.ident, right, quoted.map(|quoted| quoted.l4_checksum_ok))
            }
            Net::Arp(_) => (0, true, None),
            Net::Ipv6(_) => panic!("IPv6 out of IPv4"),
        });
        match ident {
            Ok((ident, true, Some(l4_right))) => _ = self.quoting.insert(ident, l4_right),
            Ok((_, true, None)) => {}
            Ok((ident, false, _)) => _ = self.wrong.insert(ident),
            Err(_) => {
                // What etherparse does not read may pass nevertheless.
                let l3 = if buf.get(12..14) == Some(&[0x81, 0]) { 18 } else { 14 };
                if let Some(ident) = buf.get(l3 + 4..l3 + 6) {
                    self.wrong.insert(u16::from_be_bytes([ident[0], ident[1]]));
                }
            }
        }
        let workers = self.bed.workers.len();
        let worker = if workers > 1 { usize::from(choices.byte()) % workers } else { 0 };
        self.bed.arrive_raw(worker, interface, buf);
    }

    fn turn(&mut self) {
        self.bed.turn();
        self.judge();
    }

    fn pass(&mut self, ms: u64) {
        self.bed.after_ms(ms);
        self.judge();
    }

    /// What has left is right, if what came was.
    fn judge(&mut self) {
        for interface in 0..self.bed.snapshot.interfaces.len() {
            for frame in self.bed.take(interface) {
                let Ok(sent) = Decoded::of(&frame) else {
                    let ident = u16::from_be_bytes([frame[18], frame[19]]);
                    assert!(self.wrong.contains(&ident), "what nobody can read: {frame:?}");
                    continue;
                };
                assert_eq!(sent.eth_src, self.bed.snapshot.interfaces[interface].mac, "{sent}");
                let Net::Ipv4(ip) = &sent.net else { continue };
                assert!(ip.checksum_ok && ip.ttl > 0, "{sent:#?}");
                if self.wrong.contains(&ip.ident) {
                    continue;
                }
                assert!(ip.l4_checksum_ok(), "{sent:#?}");
                if let (L4::Icmp(icmp), Some(l4_right)) = (&ip.l4, self.quoting.get(&ip.ident)) {
                    let quoted = icmp.quoted.as_ref().expect("a quote stays one");
                    assert!(quoted.ip_checksum_ok, "{sent:#?}");
                    assert_eq!(quoted.l4_checksum_ok, *l4_right, "{sent:#?}");
                }
                self.remember(&sent, ip.src == testkit::ip(LIP));
            }
        }
    }

    fn remember(&mut self, sent: &Decoded, to_server: bool) {
        if !to_server {
            return;
        }
        let seq = match &sent.ipv4().l4 {
            L4::Tcp(tcp) => tcp.seq,
            L4::Udp(_) => 0,
            _ => return,
        };
        if self.seen.len() == SEEN_MAX {
            self.seen.remove(0);
        }
        self.seen.push(Seen { key: sent.key(), seq });
    }

    fn one_seen(&self, proto: Proto, choices: &mut Choices<'_>) -> Option<Seen> {
        let of_proto = |seen: &&Seen| seen.key.proto == proto.number();
        let count = self.seen.iter().filter(of_proto).count().max(1);
        let back = usize::from(choices.byte()) % count;
        self.seen.iter().rev().filter(of_proto).nth(back).copied()
    }

    fn by_server_tcp(&self, choices: &mut Choices<'_>) -> PacketBuilder {
        let Some(Seen { key, seq }) = self.one_seen(Proto::Tcp, choices) else {
            return self.bed.by_server(RS1).tcp(8080, 1024).ack(1);
        };
        let packet = self.bed.by_server(key.dst).ipv4(key.dst, key.src).tcp(key.dport, key.sport);
        let ack = seq.wrapping_add(1).wrapping_add(u32::from(choices.byte() & 3) * 1000);
        with_flags(packet.ack(ack), choices)
    }

    fn by_server_udp(&self, choices: &mut Choices<'_>) -> PacketBuilder {
        let Some(Seen { key, .. }) = self.one_seen(Proto::Udp, choices) else {
            return self.bed.by_server(RS2).udp(53, 1024);
        };
        let packet = self.bed.by_server(key.dst).ipv4(key.dst, key.src);
        let packet = packet.udp(key.dport, key.sport).payload_len(choices.byte().into());
        if choices.byte() & 1 != 0 { packet.no_checksum() } else { packet }
    }

    /// About something that was sent, from the server's side or the client's.
    fn icmp_error(&self, choices: &mut Choices<'_>) -> (usize, PacketBuilder) {
        let proto = choices.one_of(&[Proto::Tcp, Proto::Udp]);
        let (icmp_type, code) = choices.one_of(&[(3, 1), (3, 4), (11, 0), (12, 0), (3, 3), (5, 0)]);
        let mtu = u32::from(choices.number());
        let by_server = choices.byte() & 1 == 0;
        let (interface, packet, src, dst, sport, dport) = match self.one_seen(proto, choices) {
            Some(Seen { key, .. }) if by_server => {
                let packet = self.bed.by_server(RS1);
                (self.bed.lan, packet, key.src, key.dst, key.sport, key.dport)
            }
            _ => {
                let (vip, client) = (testkit::ip(VIP), testkit::ip(CLIENT));
                let ports = if proto == Proto::Tcp { (80, 40_000) } else { (53, 5000) };
                (self.bed.wan, self.bed.by_client(), vip, client, ports.0, ports.1)
            }
        };
        let inner = pkt().ipv4(src, dst).payload_len(choices.byte().into());
        let inner = match proto {
            Proto::Tcp => inner.tcp(sport, dport).ack(choices.number().into()),
            _ => inner.udp(sport, dport),
        };
        let packet = packet.icmp(icmp_type, code, mtu);
        let short = choices.byte() & 1 != 0;
        (interface, if short { packet.quote_short(&inner) } else { packet.quote(&inner) })
    }

    /// Another configuration of the few that there are.
    fn configure(&mut self, choices: &mut Choices<'_>) {
        let (bed, at) = (&mut self.bed, usize::from(choices.byte()));
        match choices.byte() % 8 {
            0 => bed.remove_shop(),
            1 => bed.change_shop(|shop| {
                let count = shop.servers.len().max(1);
                if let Some(server) = shop.servers.get_mut(at % count) {
                    server.weight = u16::from(server.weight == 0);
                }
            }),
            2 => bed.change_shop(|shop| {
                let count = shop.servers.len().max(1);
                if let Some(server) = shop.servers.get_mut(at % count) {
                    server.admin = [Admin::Enabled, Admin::Drain, Admin::Disabled][at % 3];
                }
            }),
            3 => bed.change_shop(|shop| {
                if shop.servers.len() > 1 {
                    shop.servers.pop();
                }
            }),
            4 => bed.change_shop(|shop| {
                shop.spec.scheduler = Scheduler::ALL[at % Scheduler::ALL.len()];
            }),
            5 => bed.update_fib(|fib| fib.routes.clear()),
            6 => bed.update_fib(|fib| {
                if fib.addresses.len() > 1 {
                    fib.addresses.swap_remove(at % fib.addresses.len());
                }
            }),
            _ => bed.update(|snapshot| {
                snapshot.policy.stopping = at & 1 != 0;
                snapshot.policy.reject_unserved = at & 2 != 0;
            }),
        }
        self.judge();
    }

    fn close_some(&mut self, choices: &mut Choices<'_>) {
        let worker = usize::from(choices.byte()) % self.bed.workers.len();
        let port = choices.one_of(&[None, Some(40_000), Some(40_001), Some(5000)]);
        let filter = ConnFilter { client_port: port, ..ConnFilter::default() };
        let action = ScanAction::Close { reset: choices.byte() & 1 != 0 };
        self.bed.scan(worker, Scan { filter, action, ..Scan::default() });
        self.judge();
    }

    /// Nothing comes any more: all conns end, and nothing is held.
    fn end(mut self) {
        for worker in &mut self.bed.workers {
            (worker.io.room, worker.io.buffers) = (usize::MAX, usize::MAX);
        }
        while self.bed.workers.iter().any(|worker| worker.io.waiting() > 0) {
            self.turn();
        }
        for _ in 0..END_TURNS {
            self.pass(END_STEP_MS);
            self.bed.control_turn();
            if self.is_over() {
                return;
            }
        }
        let records = self.bed.records();
        panic!("after {END_TURNS} turns of {END_STEP_MS} ms there are {records:#?}");
    }

    fn is_over(&self) -> bool {
        self.bed.workers.iter().all(|worker| {
            let core = &worker.core;
            core.table.is_empty() && core.held_now() == 0 && core.leases.totals().taken == 0
        })
    }
}

fn by_client_tcp(bed: &Testbed, choices: &mut Choices<'_>) -> PacketBuilder {
    let sport = 40_000 + u16::from(choices.byte() & 7);
    let packet = bed.by_client().tcp(sport, choices.one_of(&[80, 80, 80, 81]));
    let seq = u32::from(choices.byte()) << 24 | u32::from(choices.byte() & 3);
    with_flags(packet.seq(seq), choices)
}

/// Flags, options and payload by choice.
fn with_flags(packet: PacketBuilder, choices: &mut Choices<'_>) -> PacketBuilder {
    const FLAGS: [u8; 8] = [0x02, 0x10, 0x12, 0x11, 0x04, 0x14, 0x18, 0x00];
    let (flags, options) = (choices.byte(), choices.byte());
    let flags = if flags & 128 != 0 { flags } else { FLAGS[usize::from(flags & 7)] };
    let mut packet = packet.flags(flags);
    if options & 1 != 0 {
        packet = packet.mss(choices.number());
    }
    if options & 2 != 0 {
        packet = packet.timestamps(choices.number().into(), choices.number().into());
    }
    if options & 4 != 0 {
        packet = packet.sack(&[(1000, choices.number().into())]);
    }
    if options & 8 != 0 {
        packet = packet.toa(VIP, 1);
    }
    if options & 16 != 0 {
        packet = packet.ttl(choices.byte());
    }
    if options & 32 != 0 {
        packet = packet.df();
    }
    let long = if options & 64 != 0 { 1400 } else { 0 };
    packet.payload_len(if options & 128 != 0 { long + usize::from(choices.byte()) } else { 0 })
}

fn arp(choices: &mut Choices<'_>) -> PacketBuilder {
    const ADDRESSES: [&str; 8] =
        [GATEWAY, ONE_ARM_GATEWAY, RS1, RS2, VIP, LIP, WAN_IP, "198.18.0.77"];
    let (sender, target) = (choices.one_of(&ADDRESSES), choices.one_of(&ADDRESSES));
    let packet = pkt().eth(station(sender), MacAddr::BROADCAST);
    match choices.byte() & 3 {
        0 => packet.arp_request(sender, target),
        1 => packet.arp_request(sender, sender),
        _ => packet.arp_reply(sender, target),
    }
}
