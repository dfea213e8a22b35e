//! What goes up to the kernel by a KNI, how much of it, and what the kernel sends.

use std::sync::Arc;

use dataplane::snapshot::KernelSide;
use dataplane::worker::kernel::{KernelPacket, URGENT};
use testkit::{Buf, Decoded, PacketBuilder, ip, mac, pkt};
use types::{EthPortId, MacAddr};

use crate::bed::{CLIENT, GATEWAY, LAN_IP, LIP, RS1, Setup, Testbed, VIP, WAN_IP, station};
use crate::conn::Conn;

/// An address that only the kernel has.
const KERNEL: &str = "203.0.113.5";
/// 224.0.0.18 (RFC 9568 §5.1.1.2).
const VRRP: MacAddr = MacAddr([1, 0, 0x5e, 0, 0, 18]);
const WAN: EthPortId = EthPortId(0);
const LAN: EthPortId = EthPortId(1);

/// The kernel holds an address of its own, the interfaces' own ones, a VIP and a LIP, and listens to VRRP.
fn bed() -> Testbed {
    setup().build()
}

fn setup() -> Setup {
    let held = [(WAN, KERNEL), (WAN, WAN_IP), (WAN, VIP), (LAN, LAN_IP), (LAN, LIP)];
    let held = held.map(|(interface, address)| (interface, ip(address)));
    let kernel = Arc::new(KernelSide::new(held, [(WAN, VRRP)]));
    Setup { kni: true, kernel, ..Setup::default() }
}

impl Testbed {
    /// What has come to the kernel: by the urgent ring first.
    fn up(&mut self) -> Vec<KernelPacket<Buf>> {
        let pumps = self.pumps.iter_mut();
        let rings = pumps.flat_map(|pump| [&mut pump.urgent, &mut pump.bulk]);
        rings.flat_map(|ring| std::iter::from_fn(|| ring.pop().ok()).collect::<Vec<_>>()).collect()
    }

    fn to(&self, address: &str) -> PacketBuilder {
        let ours = self.snapshot.interfaces[self.wan].mac;
        pkt().eth(station(GATEWAY), ours).ipv4(CLIENT, address)
    }

    /// A packet arrives from outside and goes up as it came.
    #[track_caller]
    fn goes_up(&mut self, packet: PacketBuilder) {
        self.settled();
        let frame = packet.clone().build();
        self.receive(self.wan, packet);
        let up = self.up();
        assert_eq!(up.len(), 1, "went up");
        assert_eq!(up[0].interface, EthPortId(self.wan as u16));
        assert_eq!(up[0].packet.frame(), frame.frame());
        self.nothing_sent();
        self.expect("received+1 punted+1");
    }

    /// A packet arrives from outside and is counted so; the kernel does not see it.
    #[track_caller]
    fn stays(&mut self, packet: PacketBuilder, changes: &str) {
        self.settled();
        self.receive(self.wan, packet);
        assert!(self.up().is_empty(), "went up");
        self.sent(self.wan);
        self.expect(changes);
    }
}

#[test]
fn what_is_for_an_address_of_the_kernels_goes_up() {
    let mut bed = bed();
    for packet in [
        bed.to(KERNEL).tcp(40000, 22).syn(),
        bed.to(KERNEL).tcp(40000, 22).ack(7),
        bed.to(KERNEL).udp(40000, 123),
        bed.to(KERNEL).echo_request(1, 1),
        bed.to(KERNEL).echo_reply(1, 1),
        bed.to(KERNEL).protocol(47),
        bed.to(KERNEL).icmp(3, 3, 0).quote(&pkt().ipv4(KERNEL, CLIENT).udp(1, 2)),
        bed.to(KERNEL).udp(40000, 123).fragment(0, true),
    ] {
        bed.goes_up(packet);
    }
    // Where it comes in counts, as the KNI of another interface does not have the address.
    let ours = bed.snapshot.interfaces[bed.lan].mac;
    let elsewhere = pkt().eth(mac(9), ours).ipv4(RS1, KERNEL).udp(1, 123);
    bed.settled();
    bed.receive(bed.lan, elsewhere);
    bed.expect("received+1 drop.not-ours+1");
}

#[test]
fn on_an_interfaces_own_address_the_kernel_has_what_no_service_wants() {
    let mut bed = bed();
    for packet in [
        bed.to(WAN_IP).tcp(40000, 22).syn(),
        bed.to(WAN_IP).udp(40000, 123),
        bed.to(WAN_IP).echo_reply(1, 1),
        bed.to(WAN_IP).protocol(47),
        bed.to(WAN_IP).icmp(3, 3, 0).quote(&pkt().ipv4(WAN_IP, CLIENT).udp(1, 2)),
    ] {
        bed.goes_up(packet);
    }
    // Echo is answered here: one answer.
    bed.stays(
        bed.to(WAN_IP).echo_request(1, 1),
        "received+1 answered+1 generated+1 sent+1 answer.echo+1",
    );
}

#[test]
fn a_vip_or_lip_is_never_the_kernels_but_for_protocols_of_redundancy() {
    let mut bed = bed();
    bed.stays(bed.to(VIP).tcp(40000, 22).syn(), "received+1 drop.no-service+1");
    bed.stays(bed.to(VIP).protocol(47), "received+1 drop.unknown-protocol+1");
    bed.stays(bed.to(VIP).echo_reply(1, 1), "received+1 drop.no-conn+1");
    let mut conn = Conn::open(&mut bed, 40_000);
    conn.client_sends(&mut bed, 1);
    assert!(bed.up().is_empty());

    for packet in [
        bed.to(VIP).protocol(112),
        bed.to(VIP).protocol(89),
        bed.to(VIP).tcp(40000, 179).syn(),
        bed.to(VIP).tcp(179, 40000).ack(1),
        bed.to(VIP).udp(49152, 3784),
        bed.to(VIP).udp(49152, 4784),
    ] {
        bed.goes_up(packet);
    }
}

#[test]
fn groups_go_up_if_the_kernel_listens_to_them() {
    let mut bed = bed();
    let to = |group| pkt().eth(station(GATEWAY), group).ipv4(GATEWAY, "224.0.0.18");
    bed.goes_up(to(VRRP).protocol(112));
    bed.goes_up(to(MacAddr::BROADCAST).udp(68, 67));
    // Another protocol altogether, as LLDP.
    bed.goes_up(to(VRRP).ether_type(0x88cc));
    let other = MacAddr([1, 0, 0x5e, 0, 0, 5]);
    bed.stays(to(other).protocol(89), "received+1 drop.other-station+1");
    bed.stays(to(other).ether_type(0x88cc), "received+1 drop.unknown-ethertype+1");
    // Tagged frames are of VLANs, of which the kernel has its own interfaces.
    bed.stays(to(VRRP).vlan(7).protocol(112), "received+1 drop.unknown-vlan+1");
}

#[test]
fn arp_goes_up_as_far_as_the_kernel_needs_it() {
    let mut bed = bed();
    let ours = bed.snapshot.interfaces[bed.wan].mac;
    let (gateway, broadcast) = (station(GATEWAY), MacAddr::BROADCAST);
    let neighbour = "203.0.113.99";
    for packet in [
        // Who has an address of the kernel's: the kernel answers.
        pkt().eth(gateway, broadcast).arp_request(GATEWAY, KERNEL),
        pkt().eth(gateway, ours).arp_reply(GATEWAY, KERNEL),
        pkt().eth(gateway, ours).arp_reply(GATEWAY, WAN_IP),
        pkt().eth(gateway, broadcast).arp_request(GATEWAY, GATEWAY),
    ] {
        bed.settled();
        bed.receive(bed.wan, packet);
        assert_eq!(bed.up().len(), 1);
        bed.nothing_sent();
        bed.expect("received+1 punted+1 told+1");
    }
    // Ours we answer ourselves, whether the kernel holds them or not: one answer.
    for address in [WAN_IP, VIP] {
        bed.settled();
        bed.receive(bed.wan, pkt().eth(gateway, broadcast).arp_request(GATEWAY, address));
        assert!(bed.up().is_empty());
        assert_eq!(bed.sent(bed.wan).len(), 1);
    }
    bed.settled();
    bed.receive(bed.wan, pkt().eth(gateway, broadcast).arp_request(GATEWAY, neighbour));
    assert!(bed.up().is_empty(), "for somebody else");
}

#[test]
fn without_a_kni_nothing_goes_up() {
    let mut bed = Testbed::usual();
    bed.stays(bed.to(KERNEL).tcp(40000, 22).syn(), "received+1 drop.not-ours+1");
    let vrrp = pkt().eth(station(GATEWAY), VRRP).ipv4(GATEWAY, "224.0.0.18").protocol(112);
    bed.stays(vrrp, "received+1 drop.other-station+1");
}

#[test]
fn a_flood_for_the_kernel_is_cut_and_keeps_nothing_urgent_waiting() {
    let mut bed = bed();
    bed.clock.advance_ms(1000);
    bed.turn();
    bed.settled();
    let now = bed.now();
    // More than 100 ms hold, and more than the ring has room for.
    for sport in 10_000..20_000 {
        let packet = bed.to(KERNEL).udp(sport, 9).build();
        bed.arrive_raw(0, bed.wan, packet);
        bed.workers[0].turn(now);
    }
    bed.turn();
    bed.expect("received+10000 punted+1024 drop.punt-full+3976 drop.punt-limit+5000");
    let vrrp = || pkt().eth(station(GATEWAY), VRRP).ipv4(GATEWAY, "224.0.0.18").protocol(112);
    bed.receive(bed.wan, vrrp());
    bed.expect("received+1 punted+1");
    assert_eq!(
        bed.up().first().map(|up| up.packet.frame().to_vec()),
        Some(vrrp().build().frame().to_vec())
    );

    // Protocols have a limit, too.
    for _ in 0..2000 {
        bed.arrive(bed.wan, vrrp());
        bed.workers[0].turn(now);
    }
    bed.turn();
    let limited = 2000 - 999;
    let full = 999 - URGENT;
    bed.expect(&format!(
        "received+2000 punted+{URGENT} drop.punt-full+{full} drop.punt-limit+{limited}"
    ));
}

#[test]
fn what_the_kernel_sends_leaves_as_it_is() {
    let mut bed = bed();
    let gateway = station(GATEWAY);
    let ours = bed.snapshot.interfaces[bed.wan].mac;
    let answer = pkt().eth(ours, gateway).ipv4(KERNEL, CLIENT).tcp(22, 40000).syn().ack(1).build();
    let frame = answer.frame().to_vec();
    bed.settled();
    bed.pumps[0].down.push(KernelPacket { interface: WAN, packet: answer }).unwrap();
    bed.turn();
    let sent = bed.take(bed.wan);
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].frame(), frame);
    assert!(Decoded::of(&sent[0]).is_ok());
    bed.expect("from-kernel+1 sent+1");
}

#[test]
fn the_kernel_sends_nothing_where_there_is_no_link() {
    let mut bed = Setup { lan_up: false, ..setup() }.build();
    bed.settled();
    let packet = pkt().eth(mac(0x20), station(RS1)).ipv4(LAN_IP, RS1).udp(1, 2).build();
    bed.pumps[0].down.push(KernelPacket { interface: LAN, packet }).unwrap();
    bed.turn();
    bed.expect("from-kernel+1 drop.link-down+1");
    bed.nothing_sent();
}

#[test]
fn with_several_workers_each_gives_up_what_is_the_kernels() {
    let mut bed = Setup { workers: 3, ..setup() }.build();
    for sport in 0..30 {
        bed.receive(bed.wan, bed.to(KERNEL).udp(10_000 + sport, 9));
        bed.receive(bed.wan, bed.to(WAN_IP).udp(10_000 + sport, 9));
    }
    assert_eq!(bed.up().len(), 60);
    bed.nothing_sent();
}
