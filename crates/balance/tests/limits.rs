//! Limits hold over all workers, whatever they do, and all that was taken comes back.

mod common;

use std::collections::VecDeque;
use std::sync::Barrier;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

use balance::{Cells, Limits, NoServer, Scheduler, Server, Service};
use common::{SERVICE, choose, client, compile, counts, servers, workers};
use proptest::prelude::*;
use types::Now;

fn limited(scheduler: Scheduler, limits: &[Limits], max_connections: u32) -> Service {
    let mut list = servers(&vec![1; limits.len()]);
    for (server, limits) in list.iter_mut().zip(limits) {
        server.limits = *limits;
    }
    compile(|spec| (spec.scheduler, spec.max_connections) = (scheduler, max_connections), list)
}

fn leased(service: &Service) -> u32 {
    let servers: u32 = service.servers().iter().map(|server| server.quota.leased()).sum();
    servers + service.spec().quota.leased()
}

fn close(cells: &mut Cells, service: &Service, index: usize) {
    cells.closed(SERVICE, service.servers()[index].slot, false, common::source(0), Now::default());
}

/// Retires all, after which nothing may be leased any more.
fn retire_all(all: &mut [Cells], service: &Service) {
    for cells in all {
        cells.retire_service(SERVICE).unwrap();
        for server in service.servers() {
            let _ = cells.retire_server(server.slot);
        }
    }
    assert_eq!(leased(service), 0);
}

#[test]
fn one_worker_fills_all_servers_to_the_last_conn() {
    for scheduler in Scheduler::ALL {
        let limits = [1, 10, 3, 100].map(Limits::plain);
        let service = limited(scheduler, &limits, 0);
        let mut all = workers(&service, 1);
        let cells = &mut all[0];
        assert_eq!(counts(cells, &service, 114), [1, 10, 3, 100], "{scheduler}");
        assert_eq!(choose(cells, &service, 1, Now::default()), Err(NoServer::Limit));
        assert_eq!(cells.service_totals(SERVICE).unwrap().refused, 1, "{scheduler}");
        close(cells, &service, 2);
        assert_eq!(choose(cells, &service, 1, Now::default()), Ok(2), "{scheduler}");
        for (index, limits) in limits.iter().enumerate() {
            for _ in 0..limits.upper {
                close(cells, &service, index);
            }
        }
        retire_all(&mut all, &service);
    }
}

#[test]
fn a_full_server_rests_until_it_is_below_lower() {
    for scheduler in Scheduler::ALL {
        let service = limited(scheduler, &[Limits { upper: 8, lower: 3 }, Limits::plain(40)], 0);
        let cells = &mut workers(&service, 1)[0];
        assert_eq!(counts(cells, &service, 48), [8, 40]);
        for conns in (3..8).rev() {
            close(cells, &service, 0);
            let refused = choose(cells, &service, conns, Now::default());
            assert_eq!(refused, Err(NoServer::Limit), "{scheduler} with {conns}");
        }
        close(cells, &service, 0);
        for client in 0..6 {
            assert_eq!(choose(cells, &service, client, Now::default()), Ok(0), "{scheduler}");
        }
        assert_eq!(choose(cells, &service, 0, Now::default()), Err(NoServer::Limit));
    }
}

#[test]
fn the_service_s_limit_holds_too() {
    let service = limited(Scheduler::Rr, &[Limits::NONE; 3], 10);
    let mut all = workers(&service, 2);
    let mut open = Vec::new();
    for conn in 0..100 {
        let worker = conn as usize % 2;
        if let Ok(index) = choose(&mut all[worker], &service, conn, Now::default()) {
            open.push((worker, index));
        }
        all[worker].settle(8, Now::default());
    }
    assert_eq!(open.len(), 10);
    for (worker, index) in open {
        close(&mut all[worker], &service, index);
    }
    retire_all(&mut all, &service);
}

#[test]
fn a_limit_changed_while_conns_are_open() {
    let build = |list: &[Server], upper| {
        let mut list = list.to_vec();
        list[0].limits = Limits::plain(upper);
        compile(|spec| spec.scheduler = Scheduler::Rr, list)
    };
    let list = servers(&[1]);
    let free = build(&list, 0);
    let mut all = workers(&free, 2);
    for cells in &mut all {
        assert_eq!(counts(cells, &free, 5), [5]);
    }
    for (upper, more) in [(8, 0), (10, 0), (11, 1), (0, 3), (14, 0), (15, 1)] {
        let service = build(&list, upper);
        for cells in &mut all {
            cells.update(&service, Now::default());
        }
        let cells = &mut all[0];
        let got = (0..3).filter(|&n| choose(cells, &service, n, Now::default()).is_ok()).count();
        assert_eq!(got, more, "limit {upper}");
    }
    for (cells, conns) in all.iter_mut().zip([10, 5]) {
        for _ in 0..conns {
            close(cells, &free, 0);
        }
    }
    retire_all(&mut all, &free);
}

#[test]
fn adopted_conns_count_but_are_not_refused() {
    let service = limited(Scheduler::Wlc, &[Limits::plain(2)], 0);
    let mut all = workers(&service, 1);
    let cells = &mut all[0];
    cells.update(&service, Now::default());
    for _ in 0..5 {
        cells.adopted(SERVICE, service.servers()[0].slot, common::source(1), Now::default());
    }
    assert_eq!(service.servers()[0].quota.leased(), 5);
    assert_eq!(choose(cells, &service, 1, Now::default()), Err(NoServer::Limit));
    for _ in 0..5 {
        close(cells, &service, 0);
    }
    assert_eq!(choose(cells, &service, 1, Now::default()), Ok(0));
    close(cells, &service, 0);
    retire_all(&mut all, &service);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn never_exceeded_by_any_interleaving(
        count in 1u16..7,
        scheduler in prop::sample::select(Scheduler::ALL.to_vec()),
        limits in proptest::collection::vec((0u32..40, 0u32..40), 1..6),
        max in 0u32..100,
        steps in proptest::collection::vec((0usize..8, 0u8..8, any::<u32>()), 1..600),
    ) {
        let limits: Vec<_> =
            limits.into_iter().map(|(upper, lower)| Limits { upper, lower }).collect();
        let service = limited(scheduler, &limits, max);
        let mut all = workers(&service, count);
        let mut open = vec![VecDeque::new(); usize::from(count)];
        let mut conns = vec![0u32; limits.len()];
        for (worker, action, number) in steps {
            let worker = worker % usize::from(count);
            let cells = &mut all[worker];
            match (action, open[worker].len()) {
                (0..=4, _) => {
                    if let Ok(index) = cells.choose(&service, &client(number), Now::default()) {
                        conns[index] += 1;
                        open[worker].push_back(index);
                    }
                }
                (5..=6, 1..) => {
                    let index = open[worker].pop_front().unwrap();
                    conns[index] -= 1;
                    close(cells, &service, index);
                }
                _ => cells.settle(8, Now::default()),
            }
            for (conns, limits) in conns.iter().zip(&limits) {
                prop_assert!(limits.upper == 0 || *conns <= limits.upper);
            }
            prop_assert!(max == 0 || conns.iter().sum::<u32>() <= max);
        }
        for (cells, open) in all.iter_mut().zip(open) {
            for index in open {
                close(cells, &service, index);
            }
        }
        retire_all(&mut all, &service);
    }
}

#[test]
fn never_exceeded_by_threads() {
    const WORKERS: u16 = 4;
    for scheduler in [Scheduler::Rr, Scheduler::Wlc, Scheduler::Mh] {
        let limits = [Limits::plain(7), Limits::plain(300), Limits { upper: 40, lower: 0 }];
        let service = limited(scheduler, &limits, 310);
        let mut all = workers(&service, WORKERS);
        let conns = [const { AtomicI64::new(0) }; 3];
        let (refused, exceeded) = (AtomicI64::new(0), AtomicI64::new(0));
        let barrier = Barrier::new(WORKERS.into());
        std::thread::scope(|scope| {
            for (worker, cells) in all.iter_mut().enumerate() {
                let (service, conns, barrier) = (&service, &conns, &barrier);
                let (refused, exceeded) = (&refused, &exceeded);
                scope.spawn(move || {
                    let mut open = VecDeque::new();
                    barrier.wait();
                    for number in 0..20_000u32 {
                        let source = number.wrapping_mul(2_654_435_761) + worker as u32;
                        match cells.choose(service, &client(source), Now::default()) {
                            Ok(index) => {
                                let now = conns[index].fetch_add(1, SeqCst) + 1;
                                let most = i64::from(service.servers()[index].limits.upper);
                                exceeded.fetch_add(i64::from(now > most), SeqCst);
                                open.push_back(index);
                            }
                            Err(_) => _ = refused.fetch_add(1, SeqCst),
                        }
                        while open.len() > 60 + number as usize % 50 {
                            let index = open.pop_front().unwrap();
                            conns[index].fetch_sub(1, SeqCst);
                            close(cells, service, index);
                        }
                        if number % 64 == 0 {
                            cells.settle(4, Now::default());
                        }
                    }
                    // All hold what they got, which is all there is, before any gives back.
                    barrier.wait();
                    for index in open {
                        conns[index].fetch_sub(1, SeqCst);
                        close(cells, service, index);
                    }
                });
            }
        });
        assert_eq!(exceeded.into_inner(), 0);
        assert!(refused.into_inner() > 0, "the limits were reached");
        retire_all(&mut all, &service);
    }
}
