//! What a testbed is made of: addresses, services, servers and limits.

use std::net::{IpAddr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use balance::{
    Cells, Persistence, Remembered, Scheduler, Server, Service, ServiceCell, ServiceKey,
    ServiceSpec, Services, TableCache,
};
use dataplane::snapshot::{Interface, KernelSide, Policy, Snapshot, Vlans, Wire};
use dataplane::worker::clock::{Clock, Epoch};
use dataplane::worker::handoff::Handoff;
use dataplane::worker::idle::Idle;
use dataplane::worker::kernel::{PumpEnd, kernel_link};
use dataplane::worker::link::{ControlEnd, link};
use dataplane::worker::wide::{WideConfig, WideTables};
use dataplane::worker::{Worker, WorkerConfig};
use fib::{Address, Fib, FibConfig, NeighbourConfig, Neighbours, Role, Route, RouteKind};
use flow::{FlowTable, PageRequest, TableConfig, TimeoutSet, Timeouts};
use nat::Secrets;
use pool::{LeaseConfig, Leases};
use steer::Steering;
use testkit::{Buf, FakePorts, ip, mac};
use types::{Address as _, EthPortId, MacAddr, Proto, Slot, WorkerId};

use super::{GatewayPlan, Testbed};

pub const CLIENT: &str = "198.51.100.7";
pub const VIP: &str = "203.0.113.10";
/// The router behind which the clients are; the interface that leads there is [`WAN_IP`].
pub const GATEWAY: &str = "203.0.113.254";
pub const WAN_IP: &str = "203.0.113.1";
pub const LAN_IP: &str = "198.18.0.1";
/// With one arm the gateway is on the servers' network.
pub const ONE_ARM_GATEWAY: &str = "198.18.0.254";
pub const LIP: &str = "198.18.0.10";
pub const RS1: &str = "198.18.0.121";
pub const RS2: &str = "198.18.0.122";
/// The same of IPv6; they are there with [`Setup::ipv6`].
pub const CLIENT6: &str = "2001:db8:51::7";
pub const VIP6: &str = "2001:db8:cb::10";
pub const GATEWAY6: &str = "2001:db8:cb::fe";
pub const WAN_IP6: &str = "2001:db8:cb::1";
pub const LAN_IP6: &str = "fd00:18::1";
pub const LIP6: &str = "fd00:18::10";
pub const RS1_6: &str = "fd00:18::121";
pub const RS2_6: &str = "fd00:18::122";
pub const SHOP: Slot = Slot::new(1, 1);
pub const DNS: Slot = Slot::new(2, 1);

pub const SECRETS: Secrets = Secrets { isn: [1, 2], timestamp: [3, 4] };

/// The station of an address on link: `02:00:00:00:00:` and its last byte.
pub fn station(address: &str) -> MacAddr {
    mac(ip(address) as u8)
}

/// The number of an IPv6 address.
pub fn ip6(address: &str) -> u128 {
    address.parse::<Ipv6Addr>().unwrap().to_bits()
}

/// The station of an address of either family.
pub fn station_of(address: &str) -> MacAddr {
    match address.parse().unwrap() {
        IpAddr::V4(address) => mac(address.octets()[3]),
        IpAddr::V6(address) => mac(address.octets()[15]),
    }
}

/// Clients are remembered for a minute, by a prefix of so many bits.
pub fn persistence(prefix_len: u8) -> Persistence {
    let clients = Remembered { prefix_len, capacity: 128 };
    Persistence { timeout_ms: 60_000, v4: clients, v6: clients }
}

/// A service and its servers.
#[derive(Clone)]
pub struct Plan {
    pub vip: IpAddr,
    pub vport: u16,
    pub spec: ServiceSpec,
    pub servers: Vec<Server>,
}

impl Plan {
    /// A service that takes its servers in turn: `RS1` and `RS2`, both at `rport`.
    pub fn new(slot: Slot, name: &str, proto: Proto, vport: u16, rport: u16) -> Self {
        let spec = ServiceSpec {
            scheduler: Scheduler::Rr,
            lips: Arc::new([ip(LIP)]),
            ..ServiceSpec::new(slot, name, proto)
        };
        let servers = [RS1, RS2].into_iter().enumerate().map(|(n, address)| {
            let slot = Slot::new(slot.index() as u32 * 16 + n as u32, 1);
            Server::new(slot, ip(address), rport)
        });
        Self { vip: VIP.parse().unwrap(), vport, spec, servers: servers.collect() }
    }

    pub fn key(&self) -> ServiceKey {
        let proto = self.spec.proto;
        ServiceKey { zone: 0, proto, address: self.vip, l4_port: self.vport }
    }

    /// On another VIP, with these servers at the port that those before have, and LIPs of both families.
    pub fn between(&mut self, vip: &str, servers: &[&str]) {
        self.vip = vip.parse().unwrap();
        let (first, l4_port) = (self.servers[0].slot.index() as u32, self.servers[0].l4_port);
        self.servers = (first..)
            .zip(servers)
            .map(|(index, address)| {
                let address = u128::from_ip(address.parse().unwrap()).unwrap();
                Server::new(Slot::new(index, 1), address, l4_port)
            })
            .collect();
        self.spec.lips_v6 = Arc::new([ip6(LIP6)]);
    }

    pub fn compiled(&self) -> Arc<Service> {
        let tables = &mut TableCache::default();
        Arc::new(Service::new(self.spec.clone(), self.servers.clone(), tables).unwrap())
    }
}

/// Says what is not as usual; [`Setup::build`] makes the testbed.
///
/// Usual is: `wan0` with the clients' gateway, `lan0` with two servers, a TCP service `shop` on
/// `VIP:80` with servers at 8080, a UDP service `dns` on `VIP:53`, all neighbours known, one worker.
#[derive(Clone)]
pub struct Setup {
    pub one_arm: bool,
    pub workers: u16,
    pub max_connections: u32,
    /// Of all hashes.
    pub seed: u64,
    pub start_ms: u64,
    pub timeouts: TimeoutSet,
    pub wan_mtu: u16,
    pub lan_mtu: u16,
    pub lan_up: bool,
    pub l4_ports: RangeInclusive<u16>,
    pub policy: Policy,
    pub shop: Plan,
    pub dns: Plan,
    /// Neighbours are known from the start.
    pub resolved: bool,
    pub default_route: bool,
    /// Both interfaces have a KNI.
    pub kni: bool,
    /// What the kernel has on them.
    pub kernel: Arc<KernelSide>,
    /// The servers are on this VLAN of `lan0` instead of on `lan0` itself, and the NIC inserts tags or not.
    pub lan_vlan: Option<(u16, bool)>,
    /// With the WAN IPs of a NAT gateway, see [`Setup::gateway`].
    pub wan_ips: bool,
    /// With IPv6 on both interfaces.
    pub ipv6: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            one_arm: false,
            workers: 1,
            max_connections: 4096,
            seed: 7,
            // In the upper half of the tick's range, and soon round: whoever forgets that ticks wrap
            // fails in every test.
            start_ms: u64::from(u32::MAX) - 60_000,
            timeouts: TimeoutSet::default(),
            wan_mtu: 1500,
            lan_mtu: 1500,
            lan_up: true,
            l4_ports: 1024..=65_535,
            policy: Policy::default(),
            shop: Plan::new(SHOP, "shop", Proto::Tcp, 80, 8080),
            dns: Plan::new(DNS, "dns", Proto::Udp, 53, 53),
            resolved: true,
            default_route: true,
            kni: false,
            kernel: Arc::default(),
            lan_vlan: None,
            wan_ips: false,
            ipv6: false,
        }
    }
}

impl Setup {
    pub fn shop(mut self, change: impl FnOnce(&mut Plan)) -> Self {
        change(&mut self.shop);
        self
    }

    pub fn dns(mut self, change: impl FnOnce(&mut Plan)) -> Self {
        change(&mut self.dns);
        self
    }

    fn interfaces(&self) -> Vec<Interface> {
        let interface = |(name, port): (&str, u16), address, mtu, up| Interface {
            name: name.into(),
            mac: station(address),
            mtu,
            up,
            kni: self.kni,
            silent: false,
            wire: Wire::untagged(port),
        };
        let wan0 = interface(("wan0", 0), WAN_IP, self.wan_mtu, true);
        let lan_port = u16::from(!self.one_arm);
        let lan0 = interface(("lan0", lan_port), LAN_IP, self.lan_mtu, self.lan_up);
        let lan0 = Interface { mac: mac(0x20), ..lan0 };
        let vlan = self.lan_vlan.map(|(vid, nic_tags)| Interface {
            name: "lan0.vlan".into(),
            wire: Wire { vid, nic_tags, ..lan0.wire },
            ..lan0.clone()
        });
        let ports = if self.one_arm { vec![lan0] } else { vec![wan0, lan0] };
        ports.into_iter().chain(vlan).collect()
    }

    /// Where clients and servers are, among the interfaces.
    fn sides(&self) -> (usize, usize) {
        let ports = if self.one_arm { 1 } else { 2 };
        let lan = if self.lan_vlan.is_some() { ports } else { ports - 1 };
        (if self.one_arm { lan } else { 0 }, lan)
    }

    fn fib_config(&self, (wan, lan): (usize, usize)) -> FibConfig {
        let (wan, lan) = (EthPortId(wan as u16), EthPortId(lan as u16));
        let interfaces = self.interfaces().into_iter().enumerate().map(|(n, interface)| {
            let id = EthPortId(n as u16);
            fib::Interface {
                id,
                name: interface.name.to_string(),
                mac: interface.mac,
                mtu: interface.mtu,
                primary: None,
            }
        });
        let address = |text: &str, prefix_len, iface, role| Address {
            address: text.parse().unwrap(),
            prefix_len,
            iface,
            role,
        };
        let mut addresses =
            vec![address(LAN_IP, 24, lan, Role::Local), address(VIP, 32, wan, Role::Vip)];
        if !self.one_arm {
            addresses.push(address(WAN_IP, 24, wan, Role::Local));
        }
        let lips: std::collections::BTreeSet<u32> =
            self.shop.spec.lips.iter().chain(self.dns.spec.lips.iter()).copied().collect();
        addresses.extend(lips.into_iter().map(|lip| Address {
            address: lip.to_ip(),
            prefix_len: 32,
            iface: lan,
            role: Role::Lip,
        }));
        let gateway = if self.one_arm { ONE_ARM_GATEWAY } else { GATEWAY };
        let default = Route {
            prefix: "0.0.0.0/0".parse().unwrap(),
            kind: RouteKind::Unicast,
            via: gateway.parse().ok(),
            iface: wan,
            metric: 0,
            src: None,
            mtu: None,
            on_link: false,
        };
        let routes = if self.default_route { vec![default] } else { vec![] };
        let mut config = FibConfig { interfaces: interfaces.collect(), addresses, routes };
        if self.wan_ips {
            GatewayPlan::addresses(&mut config);
        }
        if self.ipv6 {
            self.add_ipv6(&mut config, (wan, lan));
        }
        config
    }

    fn add_ipv6(&self, config: &mut FibConfig, (wan, lan): (EthPortId, EthPortId)) {
        let address = |text: &str, prefix_len, iface, role| Address {
            address: text.parse().unwrap(),
            prefix_len,
            iface,
            role,
        };
        config.addresses.extend([
            address(WAN_IP6, 64, wan, Role::Local),
            address(LAN_IP6, 64, lan, Role::Local),
            address(VIP6, 128, wan, Role::Vip),
            address(LIP6, 128, lan, Role::Lip),
        ]);
        config.routes.push(Route {
            prefix: "::/0".parse().unwrap(),
            kind: RouteKind::Unicast,
            via: GATEWAY6.parse().ok(),
            iface: wan,
            metric: 0,
            src: None,
            mtu: None,
            on_link: false,
        });
    }

    pub fn build(self) -> Testbed {
        let (wan, lan) = self.sides();
        let fib_config = self.fib_config((wan, lan));
        let plans = [&self.shop, &self.dns];
        let services = plans.map(|plan| (plan.key(), Some(plan.compiled())));
        let neighbours = Neighbours::new(NeighbourConfig::default());
        let seed = [self.seed, !self.seed];
        let snapshot = Arc::new(Snapshot {
            generation: 1,
            services: Services::default().with(services.clone()),
            fib: Arc::new(Fib::new(&fib_config, 1).unwrap()),
            next_hops: neighbours.next_hops(),
            steering: Arc::new(Steering::new(self.workers, seed).unwrap()),
            earlier: Arc::default(),
            gateway: None,
            vlans: Arc::new(Vlans::of(&self.interfaces())),
            interfaces: self.interfaces().into(),
            kernel: Arc::clone(&self.kernel),
            policy: self.policy,
        });
        let compiled: Vec<_> = services.into_iter().filter_map(|(_, service)| service).collect();
        let rings = Handoff::mesh(usize::from(self.workers)).into_iter();
        let rings = rings.zip(Handoff::mesh(usize::from(self.workers)));
        let (mut workers, mut control, mut pumps) = (Vec::new(), Vec::new(), Vec::new());
        for (id, rings) in (0..self.workers).zip(rings) {
            let (worker, end, pump) = self.worker(id, &snapshot, &compiled, rings);
            workers.push(worker);
            control.push(end);
            pumps.push(pump);
        }
        let plans = (self.shop.clone(), self.dns.clone());
        let ends = (workers, control, pumps);
        let mut bed = Testbed::new(ends, neighbours, snapshot, fib_config, (wan, lan), plans);
        bed.clock = testkit::FakeClock::at_ms(self.start_ms);
        if self.resolved {
            let gateway = if self.one_arm { ONE_ARM_GATEWAY } else { GATEWAY };
            bed.learn(wan, gateway, station(gateway));
            for server in [RS1, RS2] {
                bed.learn(lan, server, station(server));
            }
            if self.ipv6 {
                bed.learn(wan, GATEWAY6, station_of(GATEWAY6));
                for server in [RS1_6, RS2_6] {
                    bed.learn(lan, server, station_of(server));
                }
            }
        }
        bed
    }

    fn worker(
        &self,
        id: u16,
        snapshot: &Arc<Snapshot>,
        services: &[Arc<Service>],
        (handoff, wide): (Handoff<Buf>, Handoff<Buf, u128>),
    ) -> (Worker<FakePorts>, ControlEnd, PumpEnd<Buf>) {
        let interfaces = snapshot.interfaces.len() - usize::from(self.lan_vlan.is_some());
        let counters = counters::WorkerCounters::new(snapshot.interfaces.len());
        let (control, end) = link(counters.published());
        let mut cells = Cells::new(id, self.workers);
        cells.reserve(1, 1);
        for service in services {
            assert!(cells.install(ServiceCell::new(service, id, self.workers)).is_none());
        }
        let seed = [self.seed ^ u64::from(id) << 32, !self.seed];
        let table = TableConfig {
            max_connections: self.max_connections,
            seed,
            timeouts: Timeouts::new(self.timeouts),
            pages: PageRequest::Off,
        };
        let leases = LeaseConfig {
            l4_ports: self.l4_ports.clone(),
            ..LeaseConfig::new(self.max_connections, seed)
        };
        let (wide_table, wide_leases) = (table.clone(), leases.clone());
        let wide = WideConfig {
            tables: WideTables {
                table: FlowTable::new(wide_table).unwrap(),
                leases: Leases::new(&wide_leases).unwrap(),
            },
            handoff: wide,
        };
        let (kernel, pump) = kernel_link(self.kni);
        let config = WorkerConfig {
            id: WorkerId(id),
            snapshot: Arc::clone(snapshot),
            table: FlowTable::new(table).unwrap(),
            leases: Leases::new(&leases).unwrap(),
            wide,
            cells,
            secrets: SECRETS,
            handoff,
            kernel,
            counters,
            link: end,
            clock: Clock::new(Epoch::now()),
            idle: Idle::Poll,
        };
        (Worker::new(config, FakePorts::new(snapshot.interfaces.len()), interfaces), control, pump)
    }
}
