//! A NAT gateway in the testbed: the servers' network is the inside, the clients' the outside.

use std::ops::RangeInclusive;
use std::sync::Arc;

use fib::{Address, FibConfig, Role};
use flow::TimeoutSet;
use nat::gateway::{
    ForwardConfig, Forwarding, GatewayConfig, Settings, SourceAddress, Topology, Wan, WanSource,
};
use nat::mapping::Endpoint32;
use nat::rules::{Action, Match, Rule};
use nat::state::NatConfig;
use nat::{Gateway, NatState};
use pool::wan::AddressPorts;
use testkit::{PacketBuilder, ip, pkt};
use types::{EthPortId, Proto, Slot};

use super::{RS1, Setup, Testbed, station};

/// The WAN IPs, at places 0 and 1.
pub const WANS: [&str; 2] = ["203.0.113.20", "203.0.113.21"];
/// The slot of the only rule of `snat`, and of the only port forward.
pub const RULE: Slot = Slot::new(1000, 1);
pub const FORWARD: Slot = Slot::new(1001, 1);
/// The slot of the second port forward.
pub const ALSO: Slot = Slot::new(1002, 1);
/// Timeouts of the gateway's conns.
pub const TIMEOUT_CLASS: u8 = 9;

/// What the gateway does: one rule for all of the inside network, and perhaps a port forward.
#[derive(Clone)]
pub struct GatewayPlan {
    pub matching: Match,
    pub except: Match,
    pub action: Action,
    pub settings: Settings,
    /// Of this protocol, on these ports of the first WAN IP, to this endpoint.
    pub forward: Option<(Proto, RangeInclusive<u16>, Endpoint32)>,
    /// A second one, to the same place.
    pub also: Option<(Proto, RangeInclusive<u16>, Endpoint32)>,
    pub source: SourceAddress,
    /// Servers of services in NAT mode: address, port, protocol.
    pub servers: Vec<(u32, u16, u8)>,
    pub forwarding: Forwarding,
    pub topology: Topology,
    pub max_mappings: u32,
}

impl Default for GatewayPlan {
    fn default() -> Self {
        let wan = |place: u16| Wan {
            place,
            address: ip(WANS[usize::from(place)]),
            weight: 1,
            draining: false,
            withheld: false,
        };
        Self {
            matching: Match {
                sources: vec![ip("198.18.0.0")..=ip("198.18.0.255")],
                out_dev: Some(EthPortId(0)),
                ..Match::default()
            },
            except: Match::default(),
            action: Action::Translate,
            settings: Settings {
                wans: WanSource::Addresses(vec![wan(0)]),
                timeout_class: TIMEOUT_CLASS,
                ..Settings::default()
            },
            forward: None,
            also: None,
            source: SourceAddress::Auto,
            servers: Vec::new(),
            forwarding: Forwarding { rules: Vec::new(), policy: Action::Accept },
            topology: Topology {
                wans: WANS.map(|wan| (ip(wan), EthPortId(0))).to_vec(),
                networks: vec![(0..=u32::MAX, EthPortId(0))],
            },
            max_mappings: 1024,
        }
    }
}

impl GatewayPlan {
    pub fn settings(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// Two port forwards to one endpoint of a server that sees its clients.
    pub fn two_forwards() -> Self {
        Self {
            forward: Some((Proto::Tcp, 10_106..=10_106, inside_endpoint(22))),
            also: Some((Proto::Tcp, 10_206..=10_206, inside_endpoint(22))),
            source: SourceAddress::Keep,
            ..Self::default()
        }
    }

    pub fn gateway(&self) -> Gateway {
        let rule = Rule {
            slot: RULE,
            matching: self.matching.clone(),
            except: self.except.clone(),
            action: self.action,
        };
        let first = self.forward.iter().map(|forward| (FORWARD, forward));
        let forwards = first.chain(self.also.iter().map(|also| (ALSO, also)));
        let forwards = forwards.map(|(slot, (proto, l4_ports, to))| ForwardConfig {
            slot,
            address: ip(WANS[0]),
            l4_ports: l4_ports.clone(),
            proto: proto.number(),
            to: *to,
            sources: Vec::new(),
            in_dev: None,
            source: self.source,
            settings: self.settings.clone(),
        });
        Gateway::new(GatewayConfig {
            rules: vec![(rule, self.settings.clone())],
            forwards: forwards.collect(),
            servers: self.servers.clone(),
            forwarding: self.forwarding.clone(),
            topology: self.topology.clone(),
        })
        .unwrap()
    }

    pub(super) fn addresses(fib: &mut FibConfig) {
        fib.addresses.extend(WANS.map(|address| Address {
            address: address.parse().unwrap(),
            prefix_len: 32,
            iface: EthPortId(0),
            role: Role::WanIp,
        }));
    }
}

impl Setup {
    /// The testbed as a NAT gateway, too.
    pub fn gateway(self, plan: &GatewayPlan) -> Testbed {
        let mut bed = Setup { wan_ips: true, ..self }.build();
        let gateway = Arc::new(plan.gateway());
        for worker in &mut bed.workers {
            let core = &mut worker.core;
            let classes = core.snapshot.steering.wan_classes_of(core.id);
            let mut nat = NatState::new(&NatConfig {
                classes,
                max_addresses: 4,
                max_mappings: plan.max_mappings,
                max_peers: 1024,
                max_subscribers: 256,
                max_leases: 4096,
                max_resting: 4096,
                max_rules: 1024,
                max_held_syns: 16,
                seed: [5, 6],
                worker: core.id.0,
            })
            .unwrap();
            for (place, address) in WANS.iter().enumerate() {
                let place = place as u16;
                assert!(nat.wan_mut().add(place, Box::new(AddressPorts::new(classes))).is_ok());
                for (proto, l4_ports) in gateway.reserved(ip(*address)) {
                    for l4_port in l4_ports {
                        nat.wan_mut().reserve(place, proto, l4_port, true);
                    }
                }
            }
            assert!([RULE, FORWARD, ALSO].iter().all(|slot| nat.begin(*slot)));
            core.nat = Some(Box::new(nat));
            core.table.set_timeouts(TIMEOUT_CLASS, TimeoutSet::GATEWAY);
        }
        bed.update(|snapshot| snapshot.gateway = Some(gateway));
        bed.settled();
        bed
    }
}

impl Testbed {
    /// A packet of an inside host, as it sends it to its gateway.
    pub fn by_inside(&self, host: &str, remote: &str) -> PacketBuilder {
        pkt().eth(station(host), self.snapshot.interfaces[self.lan].mac).ipv4(host, remote)
    }

    /// A packet from outside, as our router sends it.
    pub fn by_outside(&self, remote: &str, to: &str) -> PacketBuilder {
        self.by_client().ipv4(remote, to)
    }

    /// Mappings of all workers.
    pub fn mappings(&self) -> u32 {
        self.workers.iter().filter_map(|w| Some(w.core.nat.as_ref()?.mappings().len())).sum()
    }

    /// Ports of all WAN IPs that are taken or rest.
    pub fn wan_ports(&self) -> u32 {
        let states = self.workers.iter().filter_map(|worker| worker.core.nat.as_ref());
        let of = |nat: &NatState| {
            [Proto::Tcp, Proto::Udp, Proto::Icmp]
                .into_iter()
                .flat_map(|proto| [0, 1].map(|place| nat.wan().usage(place, proto)))
                .map(|usage| usage.taken + usage.resting)
                .sum::<u32>()
        };
        states.map(|nat| of(nat)).sum()
    }

    /// Begins the counts of another rule.
    pub fn begin(&mut self, slot: Slot) -> bool {
        self.workers.iter_mut().all(|w| w.core.nat.as_mut().is_some_and(|nat| nat.begin(slot)))
    }

    /// What the rule has counted.
    pub fn rule_counts(&self) -> nat::state::RuleCounts {
        self.counts_of(RULE)
    }

    /// What a rule or port forward has counted.
    pub fn counts_of(&self, slot: Slot) -> nat::state::RuleCounts {
        let mut all = nat::state::RuleCounts::default();
        for nat in self.workers.iter().filter_map(|worker| worker.core.nat.as_ref()) {
            all += nat.counts(slot);
        }
        all
    }
}

/// An endpoint of the inside network.
pub fn inside_endpoint(l4_port: u16) -> Endpoint32 {
    Endpoint32::new(ip(RS1), l4_port)
}
