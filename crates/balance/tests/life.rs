//! Cells over the life of services, servers and clients.

mod common;

use balance::{
    Admin, BuildError, Cells, NoServer, Persistence, Remembered, RetireError, Scheduler, Server,
    ServerChunk, Service, ServiceCell, ServiceChunk, ServiceSpec, TableCache, Totals, Traffic,
};
use common::{SERVICE, choose, client, compile, counts, servers, workers};
use types::{Now, Proto, Slot};

const CLIENTS: Remembered = Remembered { prefix_len: 24, capacity: 1024 };
const STICKY: Persistence = Persistence { timeout_ms: 10_000, v4: CLIENTS, v6: CLIENTS };

fn rr(spec: &mut ServiceSpec) {
    (spec.scheduler, spec.persistence) = (Scheduler::Rr, Some(STICKY));
}

fn sticky(scheduler: Scheduler, weights: &[u16]) -> Service {
    compile(|spec| (spec.scheduler, spec.persistence) = (scheduler, Some(STICKY)), servers(weights))
}

#[test]
fn a_client_comes_back_to_its_server_and_is_forgotten() {
    for scheduler in [Scheduler::Rr, Scheduler::Wrr, Scheduler::Wlc] {
        let service = sticky(scheduler, &[1; 5]);
        let cells = &mut workers(&service, 1)[0];
        let home: Vec<_> =
            (0..5).map(|net| choose(cells, &service, net << 8, Now::from_ms(0)).unwrap()).collect();
        for round in 0..10 {
            for net in 0..5 {
                let now = Now::from_ms(round * 2000);
                let again = choose(cells, &service, net << 8 | round as u32, now).unwrap();
                assert_eq!(again, home[net as usize], "{scheduler}");
                cells.closed(
                    SERVICE,
                    service.servers()[again].slot,
                    false,
                    common::source(net << 8),
                    now,
                );
            }
        }
        assert_eq!(cells.remembered_clients(SERVICE, Now::from_ms(18_000)), 5);
        for net in 0..5 {
            let slot = service.servers()[home[net as usize]].slot;
            cells.closed(SERVICE, slot, false, common::source(net << 8), Now::from_ms(18_000));
        }
        assert_eq!(cells.remembered_clients(SERVICE, Now::from_ms(27_999)), 5);
        assert_eq!(cells.remembered_clients(SERVICE, Now::from_ms(28_000)), 0);
    }
}

#[test]
fn a_draining_server_keeps_its_clients_and_gets_no_others() {
    let drain: fn(&mut Server) = |server| server.admin = Admin::Drain;
    for change in [drain, |server| server.weight = 0] {
        for scheduler in Scheduler::ALL {
            let rule = |spec: &mut ServiceSpec| {
                (spec.scheduler, spec.persistence) = (scheduler, Some(STICKY));
            };
            let service = sticky(scheduler, &[1; 3]);
            let cells = &mut workers(&service, 1)[0];
            let home = choose(cells, &service, 7, Now::default()).unwrap();
            let mut list = servers(&[1; 3]);
            change(&mut list[home]);
            let drained = compile(rule, list);
            assert_eq!(choose(cells, &drained, 7, Now::default()), Ok(home), "{scheduler}");
            for net in 1..20 {
                let other = choose(cells, &drained, net << 8, Now::default()).unwrap();
                assert_ne!(other, home, "{scheduler}");
            }

            // Also when it is the last: the others are out of service.
            let mut list = servers(&[1; 3]);
            list.iter_mut().for_each(|server| server.admin = Admin::Disabled);
            (list[home].admin, list[home].weight) = (Admin::Enabled, 1);
            change(&mut list[home]);
            let last = compile(rule, list);
            assert_eq!(choose(cells, &last, 7, Now::default()), Ok(home), "{scheduler}");
            let stranger = choose(cells, &last, 99 << 8, Now::default());
            assert_eq!(stranger, Err(NoServer::None), "{scheduler}");

            // The template ends with its time.
            let slot = service.servers()[home].slot;
            for _ in 0..3 {
                cells.closed(SERVICE, slot, false, common::source(7), Now::default());
            }
            let later = Now::from_ms(u64::from(STICKY.timeout_ms));
            assert_eq!(choose(cells, &last, 7, later), Err(NoServer::None), "{scheduler}");

            let mut list = servers(&[1; 3]);
            list[home].healthy = false;
            change(&mut list[home]);
            let down = compile(rule, list);
            assert_ne!(cells.choose(&down, &client(7), Now::default()), Ok(home), "{scheduler}");
        }
    }
}

#[test]
fn a_client_whose_server_is_disabled_gets_another_and_stays_there() {
    let service = sticky(Scheduler::Rr, &[1; 3]);
    let cells = &mut workers(&service, 1)[0];
    let first = choose(cells, &service, 7, Now::default()).unwrap();
    let mut list = servers(&[1; 3]);
    list[first].admin = Admin::Disabled;
    let drained = compile(rr, list);
    let second = choose(cells, &drained, 7, Now::default()).unwrap();
    assert_ne!(first, second);
    for _ in 0..5 {
        assert_eq!(choose(cells, &drained, 7, Now::default()), Ok(second));
    }
    assert_eq!(choose(cells, &service, 7, Now::default()), Ok(second), "also when it is back");
}

#[test]
fn clients_are_remembered_when_servers_come_go_and_move() {
    let service = sticky(Scheduler::Rr, &[1; 3]);
    let mut cells = workers(&service, 1).remove(0);
    let home = choose(&mut cells, &service, 7, Now::default()).unwrap();
    let slot = service.servers()[home].slot;
    let mut list = servers(&[1; 20]);
    list.reverse();
    let larger = compile(rr, list);
    assert_eq!(larger.shape(), service.shape());
    let again = choose(&mut cells, &larger, 7, Now::default()).unwrap();
    assert_eq!(larger.servers()[again].slot, slot);

    // Another scheduler needs another cell; the clients move into it.
    let wlc = sticky(Scheduler::Wlc, &[1; 3]);
    assert_ne!(wlc.shape(), service.shape());
    assert!(cells.install(ServiceCell::new(&wlc, 0, 1)).is_some());
    assert_eq!(choose(&mut cells, &wlc, 7, Now::default()), Ok(home));
    assert_eq!(cells.service_totals(SERVICE).unwrap().conns(), 3);
}

#[test]
fn a_cell_that_is_too_small_still_serves() {
    let small = compile(|spec| spec.scheduler = Scheduler::Wlc, servers(&[1; 2]));
    let large = compile(|spec| spec.scheduler = Scheduler::Wlc, servers(&[1; 100]));
    let mut cells = workers(&large, 1).remove(0);
    cells.install(ServiceCell::new(&small, 0, 1));
    assert_eq!(counts(&mut cells, &large, 200), [2; 100]);
    cells.install(ServiceCell::new(&large, 0, 1));
    assert_eq!(counts(&mut cells, &large, 300), [3; 100]);
}

#[test]
fn counts_follow_a_conn_s_life() {
    let service = compile(|_| {}, servers(&[1]));
    let cells = &mut workers(&service, 1)[0];
    let slot = service.servers()[0].slot;
    let now = Now::default();
    let totals = |cells: &Cells| {
        let server = cells.server_totals(slot).unwrap();
        assert_eq!(Some(server), cells.service_totals(SERVICE));
        (server.active, server.inactive, server.opened)
    };
    cells.choose(&service, &client(1), now).unwrap();
    assert_eq!(totals(cells), (0, 1, 1));
    cells.established(SERVICE, slot);
    assert_eq!(totals(cells), (1, 0, 1));
    cells.closing(SERVICE, slot);
    assert_eq!(totals(cells), (0, 1, 1));
    cells.choose(&service, &client(2), now).unwrap();
    cells.abandoned(SERVICE, slot, common::source(2), now);
    assert_eq!(totals(cells), (0, 1, 1));
    let traffic = Traffic { forward_packets: 3, forward_bytes: 180, ..Traffic::default() };
    cells.add_traffic(SERVICE, slot, traffic);
    cells.add_traffic(SERVICE, slot, traffic);
    cells.closed(SERVICE, slot, false, common::source(1), now);
    assert_eq!(totals(cells), (0, 0, 1));
    let mut merged = Totals::default();
    merged += cells.server_totals(slot).unwrap();
    merged += cells.server_totals(slot).unwrap();
    assert_eq!((merged.opened, merged.traffic.forward_bytes), (2, 720));
    // One more close than there were conns does no harm.
    cells.closed(SERVICE, slot, true, common::source(1), now);
    assert_eq!(totals(cells), (0, 0, 1));
}

#[test]
fn cells_are_retired_when_no_conn_names_them() {
    let service = compile(|_| {}, servers(&[1]));
    let cells = &mut workers(&service, 1)[0];
    let slot = service.servers()[0].slot;
    let next = Slot::new(slot.index() as u32, slot.generation() + 1);
    cells.choose(&service, &client(1), Now::default()).unwrap();
    assert_eq!(cells.retire_server(slot).unwrap_err(), RetireError::Busy(slot, 1));
    assert_eq!(cells.retire_service(SERVICE).unwrap_err(), RetireError::Busy(SERVICE, 1));
    assert_eq!(cells.retire_server(next).unwrap_err(), RetireError::Absent(next));
    assert_eq!(cells.server_totals(next), None);
    assert_eq!(cells.server_totals(Slot::NONE), None);
    cells.closed(SERVICE, slot, false, common::source(1), Now::default());
    assert_eq!(cells.retire_server(slot).unwrap().totals.opened, 1);
    assert_eq!(cells.retire_service(SERVICE).unwrap().slot(), SERVICE);
    assert_eq!(cells.server_totals(slot), None);
    // Late news of what is gone is ignored.
    cells.established(SERVICE, slot);
    cells.closed(SERVICE, slot, true, common::source(1), Now::default());

    let mut list = servers(&[1]);
    list[0].slot = next;
    let reborn = compile(|_| {}, list);
    cells.install(ServiceCell::new(&reborn, 0, 1));
    choose(cells, &reborn, 1, Now::default()).unwrap();
    assert_eq!(cells.server_totals(next).unwrap().opened, 1);
}

#[test]
fn room_comes_by_chunks() {
    let mut list = servers(&[1; 2]);
    list[1].slot = Slot::new(5000, 1);
    let service = compile(|spec| spec.scheduler = Scheduler::Rr, list);
    let mut cells = Cells::new(0, 1);
    let cell = cells.install(ServiceCell::new(&service, 0, 1)).expect("no room yet");
    assert!(cells.add_service_chunk(ServiceChunk::new(0)).is_none());
    assert!(cells.add_service_chunk(ServiceChunk::new(0)).is_some(), "there is room already");
    assert!(cells.add_service_chunk(ServiceChunk::new(usize::MAX)).is_some(), "there is no such");
    assert!(cells.install(cell).is_none());
    for number in [0, 5000 / balance::CHUNK_LEN] {
        assert!(cells.add_server_chunk(ServerChunk::new(number)).is_none());
    }
    assert_eq!(counts(&mut cells, &service, 10), [5, 5]);
    cells.settle(20_000, Now::default());
}

#[test]
fn what_cannot_be_compiled() {
    let build = |spec, servers| Service::new(spec, servers, &mut TableCache::default());
    let mut spec = ServiceSpec::new(SERVICE, "shop", Proto::Tcp);
    let v4 = Remembered { prefix_len: 33, ..CLIENTS };
    spec.persistence = Some(Persistence { v4, ..STICKY });
    let error = build(spec, Vec::new()).unwrap_err();
    assert_eq!(error, BuildError::PrefixLen { service: "shop".into(), prefix_len: 33, most: 32 });
    let spec = ServiceSpec::new(SERVICE, "shop", Proto::Tcp);
    let error = build(spec, servers(&vec![1; 65_536])).unwrap_err();
    assert_eq!(error.to_string(), "service `shop` has 65536 servers; 65535 are the most");
}
