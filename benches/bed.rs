//! The configuration under test: two interfaces, one service for UDP and one for TCP, 16 servers, 16 LIPs. Of IPv6 all
//! addresses are those of IPv4 behind one prefix.

use std::net::IpAddr;
use std::sync::Arc;

use ::nat::NatState;
use balance::{Cells, Scheduler, Server, ServiceCell, ServiceKey, ServiceSpec, Services};
use counters::WorkerCounters;
use dataplane::snapshot::{Interface, Policy, Snapshot, Wire};
use dataplane::worker::clock::{Clock, Epoch};
use dataplane::worker::handoff::Handoff;
use dataplane::worker::idle::Idle;
use dataplane::worker::kernel::kernel_link;
use dataplane::worker::link::{ControlEnd, link};
use dataplane::worker::wide::{WideConfig, WideTables};
use dataplane::worker::{Worker, WorkerConfig};
use fib::{Address, Fib, FibConfig, NextHopState, NextHopsWriter, Role, Route, RouteKind};
use flow::{FlowTable, PageRequest, TableConfig, TimeoutSet, Timeouts};
use pool::wan::AddressPorts;
use pool::{LeaseConfig, Leases};
use steer::Steering;
use types::{Address as _, EthPortId, Io, MacAddr, Proto, Slot, WorkerId};

use crate::nat;
use crate::traffic::{Form, Side, wide};

/// The interface towards the clients, and its name.
pub const WAN: usize = 0;
/// The interface towards the servers.
pub const LAN: usize = 1;
/// Our Ethernet addresses, by interface.
pub const OUR_MACS: [MacAddr; 2] = [MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2])];
/// The gateway towards the clients.
pub const GATEWAY_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xfe]);
/// The VIP of both services.
pub const VIP: u32 = u32::from_be_bytes([203, 0, 113, 10]);
/// Their port.
pub const VPORT: u16 = 80;
/// The servers' port.
pub const RPORT: u16 = 8_080;
/// LIPs, and servers: each pair of them has room for 64,512 conns.
pub const LIPS: u32 = 16;
/// See [`LIPS`].
pub const SERVERS: u32 = 16;

const GATEWAY: u32 = u32::from_be_bytes([192, 0, 2, 254]);
const WAN_ADDRESS: u32 = u32::from_be_bytes([192, 0, 2, 1]);
// RFC 2544 §C.2.2 keeps 198.18.0.0/15 for benchmarks: its lower half for clients, the upper for us.
const LAN_ADDRESS: u32 = u32::from_be_bytes([198, 19, 0, 1]);
const FIRST_LIP: u32 = u32::from_be_bytes([198, 19, 1, 0]);
const FIRST_SERVER: u32 = u32::from_be_bytes([198, 19, 2, 1]);
const FIRST_WAN_IP: u32 = u32::from_be_bytes([198, 19, 16, 0]);
const MTU: u16 = 1_500;
// The same each time: counted instructions are to be the same, too.
pub const SEED: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03];

/// A WAN IP.
pub const fn wan_ip(number: u32) -> u32 {
    FIRST_WAN_IP + number
}

/// The address of a LIP.
const fn lip(number: u32) -> u32 {
    FIRST_LIP + number
}

/// The address of a server.
pub const fn server(number: u32) -> u32 {
    FIRST_SERVER + number
}

/// The Ethernet address of a server.
pub const fn server_mac(number: u32) -> MacAddr {
    MacAddr([2, 0, 0, 1, 0, number as u8])
}

/// How a bed differs from the defaults.
#[derive(Clone, Copy, Debug)]
pub struct BedConfig {
    /// Conns that fit.
    pub max_connections: u32,
    /// Timeouts of all conns.
    pub timeouts: TimeoutSet,
    /// Huge pages for tables.
    pub pages: PageRequest,
    /// What the worker does.
    pub form: Form,
}

impl BedConfig {
    /// The daemon's defaults with room for so many conns.
    pub fn new(max_connections: u32) -> Self {
        let timeouts = TimeoutSet::default();
        Self { max_connections, timeouts, pages: PageRequest::Auto, form: Form::FullNat }
    }
}

/// Bytes that a worker reserves for so many conns: flow table, and leases of ports or mappings.
pub fn reserved_bytes(config: &BedConfig) -> (u64, u64) {
    let leases = LeaseConfig::new(config.max_connections, SEED);
    let ports = match config.form {
        Form::FullNat | Form::Nat64 => pool::plan::<u32>(&leases).total_bytes() as u64,
        Form::FullNat66 => pool::plan::<u128>(&leases).total_bytes() as u64,
        form => {
            let classes = steering().wan_classes_of(WorkerId(0));
            let maps = u64::from(nat::wans(form)) * AddressPorts::bytes(classes) as u64;
            NatState::reserved_bytes(&nat::config(config, classes)) + maps
        }
    };
    let table = match config.form.is_wide() {
        true => FlowTable::<u128>::plan(config.max_connections).total(),
        false => FlowTable::<u32>::plan(config.max_connections).total(),
    };
    (table, ports)
}

fn steering() -> Steering {
    Steering::new(1, SEED).expect("one worker")
}

/// A worker with this configuration, its control end and its clock.
pub fn worker<I: Io>(config: &BedConfig, io: I) -> (Worker<I>, ControlEnd, Clock) {
    let services = [(Proto::Udp, 0), (Proto::Tcp, 1)]
        .map(|(proto, n)| Arc::new(service(proto, n, config.form)));
    let counters = WorkerCounters::new(2);
    let (control, link) = link(counters.published());
    let clock = Clock::new(Epoch::now());
    let max_connections = if config.form.is_wide() { 1 } else { config.max_connections };
    let mut table = FlowTable::new(TableConfig {
        max_connections,
        seed: SEED,
        timeouts: Timeouts::new(config.timeouts),
        pages: config.pages,
    })
    .expect("memory for the flow table");
    table.set_timeouts(nat::TIMEOUT_CLASS, nat::timeouts(config));
    let leases = match config.form {
        Form::FullNat | Form::Nat64 => config.max_connections,
        _ => 1,
    };
    let snapshot = snapshot(&services, config.form);
    let nat = snapshot
        .gateway
        .as_ref()
        .map(|_| nat::state(&nat::config(config, snapshot.steering.wan_classes_of(WorkerId(0)))));
    let config = WorkerConfig {
        id: WorkerId(0),
        snapshot: Arc::new(snapshot),
        table,
        leases: Leases::new(&LeaseConfig::new(leases, SEED)).expect("leases"),
        wide: WideConfig {
            tables: wide_tables(config),
            handoff: Handoff::mesh(1).pop().expect("one worker"),
        },
        cells: cells(&services),
        secrets: ::nat::Secrets { isn: SEED, timestamp: SEED },
        handoff: Handoff::mesh(1).pop().expect("one worker"),
        kernel: kernel_link(false).0,
        counters,
        link,
        clock,
        idle: Idle::Poll,
    };
    let mut worker = Worker::new(config, io, 2);
    worker.core.nat = nat;
    (worker, control, clock)
}

fn wide_tables(config: &BedConfig) -> WideTables {
    let timeouts = Timeouts::new(config.timeouts);
    let tables = match config.form.is_wide() {
        true => WideTables::new(config.max_connections, [SEED; 2], timeouts, config.pages),
        false => WideTables::placeholder(timeouts),
    };
    tables.expect("memory for the flow table")
}

/// An address as it is of a side.
fn of_side(form: Form, side: Side, address: u32) -> IpAddr {
    if form.has_ipv6(side) { wide(address).to_ip() } else { address.to_ip() }
}

fn service(proto: Proto, number: u32, form: Form) -> balance::Service {
    let mut spec = ServiceSpec::new(Slot::new(number, 1), proto.to_string(), proto);
    spec.scheduler = Scheduler::Rr;
    match form.has_ipv6(Side::Server) {
        true => spec.lips_v6 = (0..LIPS).map(|n| wide(lip(n))).collect(),
        false => spec.lips = (0..LIPS).map(lip).collect(),
    }
    let server = |n| {
        let (slot, address) = (Slot::new(number * SERVERS + n, 1), server(n));
        match form.has_ipv6(Side::Server) {
            true => Server::new(slot, wide(address), RPORT),
            false => Server::new(slot, address, RPORT),
        }
    };
    let servers = (0..SERVERS).map(server).collect();
    balance::Service::new(spec, servers, &mut balance::TableCache::default()).expect("a service")
}

fn cells(services: &[Arc<balance::Service>]) -> Cells {
    let mut cells = Cells::new(0, 1);
    cells.reserve(services.len(), services.len() * SERVERS as usize);
    for service in services {
        assert!(cells.install(ServiceCell::new(service, 0, 1)).is_none());
    }
    cells
}

fn snapshot(services: &[Arc<balance::Service>], form: Form) -> Snapshot {
    let mut next_hops = NextHopsWriter::new(64, [1, 2]);
    let mut resolve = |side, address: u32, mac| {
        let iface = EthPortId(if side == Side::Client { WAN } else { LAN } as u16);
        let id = match form.has_ipv6(side) {
            true => next_hops.insert(iface, wide(address)),
            false => next_hops.insert(iface, address),
        };
        let id = id.expect("room for next hops");
        next_hops.set(id, iface, NextHopState::Resolved, mac);
    };
    resolve(Side::Client, GATEWAY, GATEWAY_MAC);
    for n in 0..SERVERS {
        resolve(Side::Server, server(n), server_mac(n));
    }
    let by_key = services.iter().map(|service| {
        let proto = service.spec().proto;
        let key = ServiceKey {
            zone: 0,
            proto,
            address: of_side(form, Side::Client, VIP),
            l4_port: VPORT,
        };
        (key, Some(Arc::clone(service)))
    });
    let interface = |((name, mac), port): ((&str, MacAddr), u16)| Interface {
        name: name.into(),
        mac,
        mtu: MTU,
        up: true,
        kni: false,
        silent: false,
        wire: Wire::untagged(port),
    };
    Snapshot {
        generation: 1,
        services: Services::default().with(by_key),
        fib: Arc::new(Fib::new(&fib_config(form), 1).expect("a sound configuration")),
        next_hops: next_hops.shared(),
        steering: Arc::new(steering()),
        earlier: Arc::default(),
        gateway: nat::gateway(form).map(Arc::new),
        interfaces: ["wan0", "lan0"].into_iter().zip(OUR_MACS).zip(0..).map(interface).collect(),
        vlans: Arc::default(),
        kernel: Arc::default(),
        policy: Policy::default(),
    }
}

fn fib_config(form: Form) -> FibConfig {
    let (wan, lan) = (EthPortId(WAN as u16), EthPortId(LAN as u16));
    let interface = |id, name: &str, mac| fib::Interface {
        id,
        name: name.into(),
        mac,
        mtu: MTU,
        primary: None,
    };
    let address = |side, address: u32, prefix_len: u8, iface, role| Address {
        address: of_side(form, side, address),
        prefix_len: if form.has_ipv6(side) { 96 + prefix_len } else { prefix_len },
        iface,
        role,
    };
    let (clients, servers) = (Side::Client, Side::Server);
    let mut addresses = vec![
        address(clients, WAN_ADDRESS, 24, wan, Role::Local),
        address(clients, VIP, 32, wan, Role::Vip),
        address(servers, LAN_ADDRESS, 16, lan, Role::Local),
    ];
    addresses.extend((0..LIPS).map(|n| address(servers, lip(n), 32, lan, Role::Lip)));
    let wans = 0..nat::wans(form);
    addresses.extend(wans.map(|n| address(servers, wan_ip(n), 32, lan, Role::WanIp)));
    let prefix = match form.has_ipv6(clients) {
        true => ipnet::Ipv6Net::default().into(),
        false => ipnet::Ipv4Net::default().into(),
    };
    let default = Route {
        prefix,
        kind: RouteKind::Unicast,
        via: Some(of_side(form, clients, GATEWAY)),
        iface: wan,
        metric: 0,
        src: None,
        mtu: None,
        on_link: false,
    };
    let interfaces =
        vec![interface(wan, "wan0", OUR_MACS[WAN]), interface(lan, "lan0", OUR_MACS[LAN])];
    FibConfig { interfaces, addresses, routes: vec![default] }
}
