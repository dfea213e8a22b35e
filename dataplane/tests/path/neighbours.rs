//! ARP, and packets that wait for a next hop.

use dataplane::worker::link::Event;
use fib::{Heard, NextHopState};
use testkit::{PacketBuilder, ip, mac, pkt};
use types::{Address as _, EthPortId, MacAddr};

use crate::bed::{CLIENT, GATEWAY, LAN_IP, LIP, RS1, RS2, Setup, Testbed, VIP, WAN_IP, station};
use crate::conn::Conn;

fn unresolved() -> Testbed {
    Setup { resolved: false, ..Setup::default() }.build()
}

fn learned(interface: usize, address: &str, mac: MacAddr, how: Heard) -> Event {
    Event::Learned {
        interface: EthPortId(interface as u16),
        address: address.parse().unwrap(),
        mac,
        how,
    }
}

fn needed(interface: usize, address: &str) -> Event {
    Event::Needed { interface: EthPortId(interface as u16), address: address.parse().unwrap() }
}

#[test]
fn a_request_for_an_address_of_the_interface_is_answered() {
    let mut bed = Testbed::usual();
    let stations = [(bed.wan, WAN_IP, GATEWAY), (bed.wan, VIP, GATEWAY), (bed.lan, LIP, RS1)];
    for (interface, address, asker) in stations.into_iter().chain([(bed.lan, LAN_IP, RS1)]) {
        let ask = pkt().eth(station(asker), MacAddr::BROADCAST).arp_request(asker, address);
        bed.receive(interface, ask.padded());
        bed.expect("received+1 answered+1 generated+1 sent+1 answer.arp+1 told+1");
        assert_eq!(
            bed.told.last(),
            Some(&learned(interface, asker, station(asker), Heard::Request))
        );
        let sent = bed.one(interface);
        let (arp, ours) = (sent.arp(), bed.snapshot.interfaces[interface].mac);
        assert_eq!((arp.operation, arp.sender_mac, arp.sender_ip), (2, ours, ip(address)));
        assert_eq!((arp.target_mac, arp.target_ip), (station(asker), ip(asker)));
        assert_eq!((sent.eth_src, sent.eth_dst), (ours, station(asker)));
    }
}

#[test]
fn others_addresses_are_not_answered_for() {
    let mut bed = Testbed::usual();
    // The LIP is ours, but not here.
    for target in [LIP, "203.0.113.99"] {
        let ask = pkt().eth(station(GATEWAY), MacAddr::BROADCAST).arp_request(GATEWAY, target);
        bed.receive(bed.wan, ask);
        bed.expect("received+1 punted+1 told+1");
    }
    bed.nothing_sent();
}

#[test]
fn probes_replies_and_announcements() {
    let mut bed = Testbed::usual();
    // RFC 5227: who asks for a duplicate of its address tells nothing of itself.
    let probe = pkt().eth(mac(5), MacAddr::BROADCAST).arp_request("0.0.0.0", VIP);
    bed.receive(bed.wan, probe);
    bed.expect("received+1 answered+1 generated+1 sent+1 answer.arp+1");
    assert_eq!(bed.one(bed.wan).arp().sender_ip, ip(VIP));

    let ours = bed.snapshot.interfaces[bed.lan].mac;
    bed.receive(bed.lan, pkt().eth(station(RS1), ours).arp_reply(RS1, LAN_IP));
    bed.expect("received+1 punted+1 told+1");
    assert_eq!(bed.told[0], learned(bed.lan, RS1, station(RS1), Heard::Reply));

    let announcement = pkt().eth(mac(9), MacAddr::BROADCAST).arp_request(RS2, RS2);
    bed.receive(bed.lan, announcement);
    bed.expect("received+1 punted+1 told+1");
    assert_eq!(bed.told[1], learned(bed.lan, RS2, mac(9), Heard::Gratuitous));
    bed.nothing_sent();
}

#[test]
fn arp_that_is_none() {
    let mut bed = Testbed::usual();
    let ours = bed.snapshot.interfaces[bed.lan].mac;
    let bad: [PacketBuilder; 4] = [
        pkt().eth(mac(1), ours).arp(3, mac(1), RS1, ours, LAN_IP),
        pkt().eth(mac(1), ours).arp(1, MacAddr::BROADCAST, RS1, ours, LAN_IP),
        pkt().eth(mac(1), ours).arp(1, MacAddr::default(), RS1, ours, LAN_IP),
        pkt().eth(ours, ours).arp(1, ours, RS1, ours, LAN_IP),
    ];
    for packet in bad {
        bed.receive(bed.lan, packet);
        bed.expect("received+1 drop.bad-arp+1");
    }
    bed.nothing_sent();
}

#[test]
fn packets_wait_for_their_neighbour_and_leave_in_order() {
    let mut bed = unresolved();
    for payload in [b"1", b"2", b"3"] {
        bed.receive(bed.wan, bed.by_client().udp(5000, 53).payload(payload));
    }
    bed.expect(
        "received+3 held+3 conns+1 leases+1 conn.opened+1 neighbour.held+3 neighbour.asked+3 told+3",
    );
    assert_eq!(bed.told, [needed(bed.lan, RS1); 3]);
    bed.after_ms(100);
    bed.expect("");

    // Control asks; the slot is there, the address not yet.
    bed.control_turn();
    bed.settled();
    bed.receive(bed.wan, bed.by_client().udp(5000, 53).payload(b"4"));
    bed.expect("received+1 held+1 neighbour.held+1");

    let ours = bed.snapshot.interfaces[bed.lan].mac;
    bed.receive(bed.lan, pkt().eth(station(RS1), ours).arp_reply(RS1, LAN_IP));
    bed.control_turn();
    bed.settled();
    bed.after_ms(1);
    bed.expect("held-4 sent+4");
    let sent = bed.sent(bed.lan);
    let payloads: Vec<_> = sent.iter().map(|packet| packet.payload()).collect();
    assert_eq!(payloads, [b"1", b"2", b"3", b"4"]);
    assert!(sent.iter().all(|packet| packet.eth_dst == station(RS1)));
    bed.through(bed.wan, bed.by_client().udp(5000, 53).payload(b"5"), bed.lan);
    bed.expect("received+1 sent+1");
}

#[test]
fn few_wait_for_one_and_none_for_ever() {
    let mut bed = unresolved();
    for _ in 0..100 {
        bed.arrive(bed.wan, bed.by_client().udp(5000, 53));
    }
    bed.turn();
    bed.turn();
    let expected = "received+100 held+64 drop.no-neighbour+36 conns+1 leases+1 conn.opened+1";
    bed.expect(&format!("{expected} neighbour.held+64 neighbour.asked+100 told+100"));
    bed.after_ms(3_500);
    bed.expect("");
    bed.after_ms(1);
    bed.expect("held-64 drop.no-neighbour+64");
    bed.nothing_sent();
}

#[test]
fn nobody_answers() {
    let mut bed = unresolved();
    bed.receive(bed.wan, bed.by_client().udp(5000, 53));
    bed.control_turn();
    bed.settled();
    bed.live_ms(3_200, 100);
    bed.expect("held-1 drop.no-neighbour+1");
    let id = bed.snapshot.next_hops.find(EthPortId(bed.lan as u16), ip(RS1));
    assert_eq!(bed.snapshot.next_hops.read(id).state, NextHopState::Failed);
    // From now on the client is told at once, and control asks again.
    bed.receive(bed.wan, bed.by_client().udp(5000, 53));
    bed.expect("received+1 answered+1 generated+1 sent+1 answer.icmp-error+1");
    let told = bed.one(bed.wan);
    assert_eq!((told.icmp().icmp_type, told.icmp().code), (3, 1), "host unreachable");
    bed.live_ms(1_100, 100);
    assert_eq!(bed.snapshot.next_hops.read(id).state, NextHopState::Unresolved);
}

/// Three neighbours with all that may wait for each are resolved in the same moment.
#[test]
fn many_are_released_and_none_is_lost() {
    let setup = Setup { resolved: false, ..Setup::default() };
    let mut bed = setup.dns(|dns| dns.servers[0].address = "198.18.0.123".parse().unwrap()).build();
    for client_port in 1000..1128 {
        bed.receive(bed.wan, bed.by_client().udp(client_port, 53));
    }
    for client_port in 2000..2064 {
        bed.receive(bed.wan, bed.by_client().tcp(client_port, 80).syn());
    }
    assert_eq!(bed.workers[0].core.held_now(), 64 + 64 + 32);
    for server in [RS1, RS2, "198.18.0.123"] {
        bed.learn(bed.lan, server, station(server));
    }
    bed.settled();
    bed.after_ms(1);
    bed.expect("held-160 sent+160");
    assert_eq!(bed.take(bed.lan).len(), 160);
}

#[test]
fn a_new_address_of_a_neighbour_breaks_no_conn() {
    let mut bed = Testbed::usual();
    let conns: Vec<_> = (0..200).map(|n| Conn::open(&mut bed, 40_000 + n)).collect();
    bed.clock.advance_s(2);
    bed.learn(bed.lan, RS1, mac(0xaa));
    bed.learn(bed.wan, GATEWAY, mac(0xbb));
    bed.settled();
    for conn in &conns {
        let packet = conn.by_client(&bed);
        let expected = if conn.rs.0 == ip(RS1) { mac(0xaa) } else { station(RS2) };
        assert_eq!(conn.to_server(&mut bed, packet).eth_dst, expected);
        let packet = conn.by_server(&bed);
        assert_eq!(conn.to_client(&mut bed, packet).eth_dst, mac(0xbb));
    }
    bed.expect("received+400 sent+400 toa.inserted+200");
}

#[test]
fn another_gateway_takes_over_open_conns() {
    let mut bed = Testbed::usual();
    let mut conn = Conn::open(&mut bed, 40_000);
    bed.update_fib(|fib| fib.routes[0].via = "203.0.113.253".parse().ok());
    bed.learn(bed.wan, "203.0.113.253", mac(0xfd));
    assert_eq!(conn.server_sends(&mut bed, 10).eth_dst, mac(0xfd));
}

#[test]
fn a_neighbour_that_is_forgotten_is_asked_for_again() {
    let mut bed = Testbed::usual();
    let mut conn = Conn::open(&mut bed, 40_000);
    bed.neighbours.remove(EthPortId(bed.lan as u16), ip(RS1).to_ip());
    bed.settled();
    bed.receive(bed.wan, conn.by_client(&bed).payload(b"late"));
    bed.expect("received+1 held+1 toa.inserted+1 neighbour.held+1 neighbour.asked+1 told+1");
    bed.learn(bed.lan, RS1, mac(0xaa));
    bed.after_ms(1);
    assert_eq!(bed.one(bed.lan).eth_dst, mac(0xaa));
    assert_eq!(conn.client_sends(&mut bed, 10).eth_dst, mac(0xaa));
}

#[test]
fn no_way_out() {
    let mut bed = Setup { default_route: false, ..Setup::default() }.build();
    let conn = Conn::syn(&mut bed, 40_000);
    bed.settled();
    bed.receive(bed.lan, conn.by_server(&bed).syn());
    bed.expect("received+1 answered+1 generated+1 sent+1 answer.icmp-error+1");
    let told = bed.one(bed.lan);
    assert_eq!((told.icmp().icmp_type, told.icmp().code), (3, 0), "net unreachable");

    let mut bed = Setup { lan_up: false, ..Setup::default() }.build();
    bed.receive(bed.wan, bed.by_client().tcp(40_000, 80).syn());
    bed.expect("received+1 drop.link-down+1 conns+1 half-open+1 leases+1 conn.opened+1");
}

#[test]
fn what_the_nic_refuses_is_freed_and_counted() {
    let mut bed = Testbed::usual();
    bed.workers[0].io.room = 10;
    for _ in 0..64 {
        bed.arrive(bed.wan, bed.by_client().udp(5000, 53));
    }
    bed.turn();
    bed.expect("received+64 sent+10 drop.tx-full+54 conns+1 leases+1 conn.opened+1");
    bed.turn();
    bed.expect("");
    assert_eq!(bed.take(bed.lan).len(), 10);
}

#[test]
fn frames_for_other_stations_are_left_alone() {
    let mut bed = Testbed::usual();
    let syn = || pkt().ipv4(CLIENT, VIP).tcp(40_000, 80).syn();
    bed.receive(bed.wan, syn().eth(station(GATEWAY), mac(0x55)));
    bed.expect("received+1 drop.other-station+1");
    // RFC 1812 §5.3.4: what came by an Ethernet broadcast is not forwarded.
    bed.receive(bed.wan, syn().eth(station(GATEWAY), MacAddr::BROADCAST));
    bed.expect("received+1 drop.other-station+1");
    bed.nothing_sent();
}

/// Another node may have it by now: only who has us in its cache and asks us alone is answered.
#[test]
fn an_address_that_leaves_is_kept_by_those_who_know_it_here() {
    let mut bed = Testbed::usual();
    bed.update_fib(|fib| {
        for entry in fib.addresses.iter_mut().filter(|entry| entry.address == ip(VIP).to_ip()) {
            entry.role = fib::Role::Leaving;
        }
    });
    bed.settled();
    let ours = bed.snapshot.interfaces[bed.wan].mac;
    let ask = |to| {
        let asker = station(GATEWAY);
        pkt().arp(1, asker, GATEWAY, MacAddr::default(), VIP).eth(asker, to)
    };
    bed.receive(bed.wan, ask(MacAddr::BROADCAST));
    bed.expect("received+1 punted+1 told+1");
    bed.receive(bed.wan, ask(ours));
    bed.expect("received+1 answered+1 generated+1 sent+1 answer.arp+1 told+1");
    bed.settled();
    bed.receive(bed.wan, bed.by_client().echo_request(1, 1));
    bed.expect("received+1 drop.not-ours+1");
}
