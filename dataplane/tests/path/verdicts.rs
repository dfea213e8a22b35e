//! Every verdict has a case that ends a packet so, or a reason why there is none.

use std::sync::Arc;

use balance::Limits;
use dataplane::snapshot::{KernelSide, Policy, ReversePath};
use dataplane::worker::handoff::RING;
use dataplane::worker::link::{Command, Outgoing};
use nat::gateway::{Filtering, Forwarding};
use nat::rules::Action;
use testkit::{Buf, PacketBuilder, mac, pkt};
use types::{EthPortId, Verdict};

use crate::bed::{CLIENT, GatewayPlan, RS1, Setup, Testbed, VIP, WAN_IP, WANS};
use crate::conn::Conn;

enum Case {
    /// Brings a testbed to where the verdict's counter has gone up.
    Made(fn() -> Testbed),
    /// No packet ends so.
    Never(&'static str),
}

fn usual(packet: impl FnOnce(&Testbed) -> PacketBuilder) -> Testbed {
    on(Setup::default(), packet)
}

fn on(setup: Setup, packet: impl FnOnce(&Testbed) -> PacketBuilder) -> Testbed {
    let mut bed = setup.build();
    let packet = packet(&bed);
    bed.receive(bed.wan, packet);
    bed
}

fn transmitted(frame: &[u8], buffers: usize) -> Testbed {
    let mut bed = Testbed::usual();
    bed.workers[0].io.buffers = buffers;
    let outgoing = Outgoing { interface: EthPortId(0), frame: frame.to_vec() };
    bed.command(0, Command::Transmit(Box::new(outgoing)));
    bed
}

fn on_two_workers(packets: usize) -> Testbed {
    let mut bed = Setup { workers: 2, ..Setup::default() }.build();
    let now = bed.now();
    for client_port in 10_000..10_000 + packets as u16 {
        let packet = bed.by_client().udp(client_port, 53).build();
        bed.arrive_raw(0, bed.wan, packet);
        bed.workers[0].turn(now);
    }
    bed.turn();
    bed
}

fn overheard(packets: usize) -> Testbed {
    let mut bed = Testbed::usual();
    let now = bed.now();
    for _ in 0..packets {
        let announcement = pkt().eth(mac(9), types::MacAddr::BROADCAST).arp_request(RS1, RS1);
        bed.arrive(bed.lan, announcement);
        bed.workers[0].turn(now);
    }
    bed.turn();
    bed
}

/// Datagrams to an address that the kernel holds.
fn for_kernel(packets: u16) -> Testbed {
    let kernel = KernelSide::new([(EthPortId(0), testkit::ip(WAN_IP))], []);
    let mut bed = Setup { kni: true, kernel: Arc::new(kernel), ..Setup::default() }.build();
    let now = bed.now();
    for sport in 10_000..10_000 + packets {
        let packet = bed.by_client().ipv4(CLIENT, WAN_IP).udp(sport, 9).build();
        bed.arrive_raw(0, bed.wan, packet);
        bed.workers[0].turn(now);
    }
    bed.turn();
    bed
}

/// Datagrams from these ports of an inside host.
fn from_inside(setup: Setup, plan: &GatewayPlan, ports: &[u16]) -> Testbed {
    let mut bed = setup.gateway(plan);
    for &sport in ports {
        bed.receive(bed.lan, bed.by_inside(RS1, CLIENT).udp(sport, 53));
    }
    bed
}

/// A match, so that a new verdict does not compile without its case.
fn case(verdict: Verdict) -> Case {
    use Case::{Made, Never};
    match verdict {
        Verdict::Sent => Made(|| usual(|bed| bed.by_client().udp(1, 53))),
        Verdict::Handed => Made(|| on_two_workers(50)),
        Verdict::Punted => Made(|| overheard(1)),
        Verdict::Answered => Made(|| usual(|bed| bed.by_client().echo_request(1, 1))),
        Verdict::Malformed => Made(|| {
            let mut bed = Testbed::usual();
            bed.arrive_raw(0, 0, Buf::new(&[0; 13]));
            bed.turn();
            bed
        }),
        Verdict::UnknownEtherType => Made(|| usual(|bed| bed.by_client().ether_type(0x88cc))),
        Verdict::UnknownVlan => Made(|| usual(|bed| bed.by_client().vlan(5).udp(1, 53))),
        Verdict::BadArp => Made(|| {
            usual(|bed| {
                pkt().eth(mac(1), bed.snapshot.interfaces[0].mac).arp(9, mac(1), RS1, mac(2), VIP)
            })
        }),
        Verdict::OtherStation => Made(|| usual(|_| pkt().eth(mac(1), mac(0x55)).udp(1, 53))),
        Verdict::BadIpHeader => Made(|| usual(|bed| bed.by_client().udp(1, 53).ip_total_len(9))),
        Verdict::BadIpChecksum => {
            Made(|| usual(|bed| bed.by_client().udp(1, 53).bad_ip_checksum()))
        }
        Verdict::BadSource => {
            Made(|| usual(|bed| bed.by_client().ipv4("127.0.0.1", VIP).udp(1, 53)))
        }
        Verdict::SourceRouted => {
            Made(|| usual(|bed| bed.by_client().udp(1, 53).ip_options(&[137, 3, 4])))
        }
        Verdict::BadExtension | Verdict::NoChecksum | Verdict::BadNdp | Verdict::Untranslatable => {
            Never("IPv6 ends before it is parsed")
        }
        Verdict::BadTransport => Made(|| usual(|bed| bed.by_client().udp(1, 53).udp_len(3))),
        Verdict::NoFirstFragment => Made(|| {
            let mut bed = usual(|bed| bed.by_client().udp(1, 53).fragment(8, true));
            bed.after_ms(2_001);
            // A round looks at a part of the places only.
            (0..16).for_each(|_| bed.turn());
            bed
        }),
        Verdict::BadFragment => {
            Made(|| usual(|bed| bed.by_client().udp(1, 53).payload_len(3).fragment(0, true)))
        }
        Verdict::UnknownProtocol => Made(|| usual(|bed| bed.by_client().protocol(47))),
        Verdict::NotOurs => {
            Made(|| usual(|bed| bed.by_client().ipv4("192.0.2.1", "192.0.2.2").udp(1, 53)))
        }
        Verdict::NoService => Made(|| usual(|bed| bed.by_client().udp(1, 54))),
        Verdict::ReplyLimit => Made(|| {
            let mut bed = Testbed::usual();
            for _ in 0..20_000 {
                bed.arrive(bed.wan, bed.by_client().echo_request(1, 1));
            }
            (0..320).for_each(|_| bed.turn());
            bed
        }),
        Verdict::NotSyn => Made(|| usual(|bed| bed.by_client().tcp(1, 80).ack(1))),
        Verdict::BadState => Made(|| {
            let mut bed = Testbed::usual();
            let conn = Conn::syn(&mut bed, 40_000);
            bed.receive(bed.wan, conn.by_client(&bed).syn());
            bed
        }),
        Verdict::NoRealServer => Made(|| {
            on(Setup::default().dns(|dns| dns.servers.clear()), |bed| bed.by_client().udp(1, 53))
        }),
        Verdict::NoLease => Made(|| {
            let setup = Setup { l4_ports: 5000..=5000, ..Setup::default() };
            let mut bed = setup.build();
            for client_port in 1..4 {
                bed.receive(bed.wan, bed.by_client().udp(client_port, 53));
            }
            bed
        }),
        Verdict::ConnLimit => Made(|| {
            let setup = Setup::default().dns(|dns| {
                dns.servers.iter_mut().for_each(|server| server.limits = Limits::plain(1));
            });
            let mut bed = setup.build();
            for client_port in 1..4 {
                bed.receive(bed.wan, bed.by_client().udp(client_port, 53));
            }
            bed
        }),
        Verdict::TableFull => Made(|| {
            let mut bed = Setup { max_connections: 1, ..Setup::default() }.build();
            Conn::open(&mut bed, 40_000);
            bed.receive(bed.wan, bed.by_client().udp(1, 53));
            bed
        }),
        Verdict::Stopping => Made(|| {
            let mut bed = Testbed::usual();
            bed.update(|snapshot| snapshot.policy.stopping = true);
            bed.receive(bed.wan, bed.by_client().udp(1, 53));
            bed
        }),
        Verdict::NoConn => Made(|| {
            let mut bed = Testbed::usual();
            bed.receive(bed.lan, bed.by_server(RS1).udp(53, 5000));
            bed
        }),
        Verdict::IcmpNoConn => Made(|| {
            let quoted = pkt().ipv4(VIP, "198.51.100.7").udp(53, 5000);
            usual(|bed| bed.by_client().icmp(3, 3, 0).quote(&quoted))
        }),
        Verdict::BadIcmp => Made(|| usual(|bed| bed.by_client().icmp(5, 0, 0))),
        Verdict::TtlExceeded => Made(|| {
            let quoted = pkt().ipv4(VIP, "198.51.100.7").udp(53, 1);
            let mut bed = usual(|bed| bed.by_client().udp(1, 53));
            bed.receive(bed.wan, bed.by_client().ttl(1).icmp(3, 3, 0).quote(&quoted));
            bed
        }),
        Verdict::TooBig => Made(|| {
            // It may be fragmented, but not into so many.
            let setup = Setup { lan_mtu: 68, ..Setup::default() };
            on(setup, |bed| bed.by_client().udp(1, 53).payload_len(7000))
        }),
        Verdict::NoRoute => Made(|| {
            // No error is sent about an error.
            let mut bed = Setup { default_route: false, ..Setup::default() }.build();
            let question = bed.by_client().udp(5000, 53);
            bed.receive(bed.wan, question);
            let asked = bed.one(bed.lan).key();
            let quoted = pkt().ipv4(asked.src, asked.dst).udp(asked.sport, asked.dport);
            bed.receive(bed.lan, bed.by_server(asked.dst).icmp(3, 3, 0).quote(&quoted));
            bed
        }),
        Verdict::NoNeighbour => Made(|| {
            let setup = Setup { resolved: false, ..Setup::default() };
            let mut bed = on(setup, |bed| bed.by_client().udp(1, 53));
            bed.after_ms(4_000);
            bed
        }),
        Verdict::LinkDown => Made(|| {
            on(Setup { lan_up: false, ..Setup::default() }, |bed| bed.by_client().udp(1, 53))
        }),
        Verdict::TxFull => Made(|| {
            let mut bed = Testbed::usual();
            bed.workers[0].io.room = 0;
            bed.receive(bed.wan, bed.by_client().udp(1, 53));
            bed
        }),
        Verdict::HandoffFull => Made(|| on_two_workers(3 * RING)),
        Verdict::PuntFull => Made(|| overheard(5000)),
        Verdict::PuntLimit => Made(|| for_kernel(6000)),
        Verdict::NoBuffer => Made(|| transmitted(&[0; 60], 0)),
        Verdict::NoRoom => Made(|| transmitted(&[0; 5000], 1)),
        Verdict::NoMapping => Made(|| {
            let mut bed = Setup::default().gateway(&GatewayPlan::default());
            bed.receive(bed.wan, bed.by_outside(CLIENT, WANS[0]).udp(1, 2));
            bed
        }),
        Verdict::Filtered => Made(|| {
            let plan = GatewayPlan::default()
                .settings(|s| s.filtering = Filtering::AddressAndPortDependent);
            let mut bed = from_inside(Setup::default(), &plan, &[1]);
            let mapped = bed.one(bed.wan).key().sport;
            bed.receive(bed.wan, bed.by_outside(CLIENT, WANS[0]).udp(9, mapped));
            bed
        }),
        Verdict::Unanswered => Made(|| {
            let mut bed = from_inside(Setup::default(), &GatewayPlan::default(), &[1]);
            let mapped = bed.one(bed.wan).key().sport;
            for sport in 0..=nat::state::UNANSWERED_MAX {
                bed.receive(bed.wan, bed.by_outside(CLIENT, WANS[0]).udp(1_000 + sport, mapped));
            }
            bed
        }),
        Verdict::ForwardTaken => Made(|| {
            let mut bed = Setup::default().gateway(&GatewayPlan::two_forwards());
            for l4_port in [10_106, 10_206] {
                let syn = bed.by_outside(CLIENT, WANS[0]).tcp(1_000, l4_port).syn();
                bed.receive(bed.wan, syn);
            }
            bed
        }),
        Verdict::WanExhausted => Made(|| {
            let plan = GatewayPlan::default().settings(|s| s.l4_ports = 5_000..=5_000);
            from_inside(Setup::default(), &plan, &[1, 2])
        }),
        Verdict::SubscriberLimit => Made(|| {
            let limits = nat::subscribers::Limits { sessions: 1, ..Default::default() };
            let plan = GatewayPlan::default().settings(|s| s.limits = limits);
            from_inside(Setup::default(), &plan, &[1, 2])
        }),
        Verdict::NatDenied => Made(|| {
            let plan = GatewayPlan { action: Action::Drop, ..GatewayPlan::default() };
            from_inside(Setup::default(), &plan, &[1])
        }),
        Verdict::ForwardDenied => Made(|| {
            let forwarding = Forwarding { rules: Vec::new(), policy: Action::Drop };
            let plan = GatewayPlan { forwarding, ..GatewayPlan::default() };
            from_inside(Setup::default(), &plan, &[1])
        }),
        Verdict::ReversePath => Made(|| {
            let policy = Policy { reverse_path: ReversePath::Strict, ..Policy::default() };
            let setup = Setup { policy, ..Setup::default() };
            let mut bed = setup.gateway(&GatewayPlan::default());
            bed.receive(bed.wan, bed.by_outside(RS1, CLIENT).udp(1, 2));
            bed
        }),
        Verdict::Internal => Never("a fault of ours: the testbed fails where one is counted"),
    }
}

#[test]
fn every_verdict_has_a_case() {
    for &verdict in Verdict::ALL {
        match case(verdict) {
            Case::Made(make) => {
                let mut bed = make();
                assert!(bed.values().verdict(verdict) > 0, "{verdict} is not made");
                bed.settled();
            }
            Case::Never(reason) => println!("{verdict} has no case: {reason}"),
        }
    }
}
