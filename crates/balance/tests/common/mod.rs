//! A service on one or more workers, for tests.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::net::IpAddr;

use balance::{Cells, NoServer, Server, Service, ServiceCell, ServiceSpec, TableCache};
use types::{Address, FlowKey, Now, Proto, Slot};

pub const SERVICE: Slot = Slot::new(3, 1);

pub fn servers(weights: &[u16]) -> Vec<Server> {
    (0u32..)
        .zip(weights)
        .map(|(i, &weight)| Server {
            weight,
            ..Server::new(Slot::new(i, 1), 0x0a00_0000 + i, 8080)
        })
        .collect()
}

pub fn compile(spec: impl Fn(&mut ServiceSpec), servers: Vec<Server>) -> Service {
    let mut plain = ServiceSpec::new(SERVICE, "shop", Proto::Tcp);
    spec(&mut plain);
    Service::new(plain, servers, &mut TableCache::default()).unwrap()
}

pub fn workers(service: &Service, workers: u16) -> Vec<Cells> {
    let worker = |worker| {
        let mut cells = Cells::new(worker, workers);
        cells.reserve(8, service.servers().len().max(1));
        assert!(cells.install(ServiceCell::new(service, worker, workers)).is_none());
        cells
    };
    (0..workers).map(worker).collect()
}

pub fn client(number: u32) -> FlowKey {
    FlowKey { src: number, sport: (number % 60_000) as u16, proto: 6, ..FlowKey::default() }
}

/// Chooses, after making sure that `pick` says the same.
pub fn choose(
    cells: &mut Cells,
    service: &Service,
    number: u32,
    now: Now,
) -> Result<usize, NoServer> {
    let picked = cells.pick(service, &client(number), now);
    let chosen = cells.choose(service, &client(number), now);
    assert_eq!(picked, chosen, "client {number}");
    chosen
}

/// How many of `conns` clients each server gets.
pub fn counts(cells: &mut Cells, service: &Service, conns: u32) -> Vec<u32> {
    let mut counts = vec![0; service.servers().len()];
    for number in 0..conns {
        counts[choose(cells, service, number, Now::default()).unwrap()] += 1;
    }
    counts
}

/// The address of a client.
pub fn source(number: u32) -> IpAddr {
    client(number).src.to_ip()
}
