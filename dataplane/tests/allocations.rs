//! A worker allocates nothing on the way of a packet: not on a hit, not on a miss, not when conns end.
//!
//! The testbed is that of the path tests; its own queues have their room before anything is counted.

// The testbed has more than this test needs.
#[allow(dead_code)]
#[path = "path/bed/mod.rs"]
mod bed;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bed::{RS1, Setup, Testbed};
use dataplane::snapshot::{NatEvents, Policy};
use dataplane::worker::link::{Scan, ScanAction};
use testkit::Buf;

/// The system's allocator, counting what this thread asks of it.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that is ending has no counter any more.
    let _gone = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`, which is that of `System` too.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System` by `alloc` or `realloc` above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: as for `dealloc`.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `work` allocates.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1u64)))), 1);
}

/// Lets these packets arrive, and counts what the worker allocates in handling them.
fn handling(bed: &mut Testbed, interface: usize, packets: Vec<Buf>) -> u64 {
    for worker in &mut bed.workers {
        worker.io.reserve(512);
    }
    for packet in packets {
        bed.arrive_raw(0, interface, packet);
    }
    let now = bed.now();
    let worker = &mut bed.workers[0];
    let count = allocations(|| {
        for _ in 0..4 {
            worker.turn(now);
        }
    });
    // The testbed collects, checks the ledger and takes its own room.
    bed.turn();
    count
}

fn syns(bed: &Testbed, ports: std::ops::Range<u16>) -> Vec<Buf> {
    ports.map(|port| bed.by_client().tcp(port, 80).syn().timestamps(1, 0).build()).collect()
}

#[test]
fn neither_hits_nor_misses_allocate() {
    let mut bed = Testbed::usual();
    let (wan, lan) = (bed.wan, bed.lan);
    let opening = syns(&bed, 10_000..10_100);
    assert_eq!(handling(&mut bed, wan, opening), 0, "opening");
    let sent = bed.sent(lan);
    assert_eq!(sent.len(), 100);

    let answers: Vec<Buf> = sent
        .iter()
        .map(|syn| {
            let (key, isn) = (syn.key(), syn.tcp().seq);
            let answer = bed.by_server(key.dst).tcp(8080, key.sport).syn().seq(1);
            answer.ack(isn.wrapping_add(1)).mss(1460).build()
        })
        .collect();
    assert_eq!(handling(&mut bed, lan, answers), 0, "answering");
    let acks = |payload| {
        let ack = |port| bed.by_client().tcp(port, 80).seq(1).ack(2).payload_len(payload).build();
        (10_000..10_100).map(ack).collect::<Vec<Buf>>()
    };
    let (first, more) = (acks(0), acks(100));
    assert_eq!(handling(&mut bed, wan, first), 0, "establishing, with the client's address");
    assert_eq!(handling(&mut bed, wan, more), 0, "data");
    assert_eq!(bed.workers[0].core.table.len(), 100);

    let questions = (1_000..1_100).map(|port| bed.by_client().udp(port, 53).build()).collect();
    assert_eq!(handling(&mut bed, wan, questions), 0, "UDP");
    assert_eq!(bed.sent(lan).len(), 300);
}

#[test]
fn neither_refusals_nor_replies_allocate() {
    let mut bed = Setup { max_connections: 16, ..Setup::default() }.build();
    let wan = bed.wan;
    let packets = vec![
        bed.by_client().tcp(1, 80).ack(1).build(),
        bed.by_client().tcp(1, 81).syn().build(),
        bed.by_client().echo_request(1, 1).build(),
        bed.by_client().ttl(1).udp(1, 53).build(),
        bed.by_client().udp(1, 53).bad_ip_checksum().build(),
        bed.by_client().udp(2, 53).segmented(20).build(),
        Buf::new(&[1, 2, 3]),
        testkit::pkt()
            .eth(testkit::mac(9), types::MacAddr::BROADCAST)
            .arp_request(RS1, bed::VIP)
            .build(),
    ];
    assert_eq!(handling(&mut bed, wan, packets), 0);
    // Each SYN in excess evicts one that is half-open.
    let opening = syns(&bed, 20_000..20_100);
    assert_eq!(handling(&mut bed, wan, opening), 0, "evicting");
}

#[test]
fn waiting_for_a_neighbour_does_not_allocate() {
    let mut bed = Setup { resolved: false, ..Setup::default() }.build();
    let wan = bed.wan;
    let opening = syns(&bed, 10_000..10_200);
    assert_eq!(handling(&mut bed, wan, opening), 0);
    assert_eq!(bed.workers[0].core.held_now(), 128);
    bed.clock.advance_s(4);
    assert_eq!(handling(&mut bed, wan, Vec::new()), 0, "giving up");
    assert_eq!(bed.workers[0].core.held_now(), 0);
}

#[test]
fn neither_expiry_nor_scans_allocate() {
    let mut bed = Testbed::usual();
    let wan = bed.wan;
    let opening = syns(&bed, 10_000..10_200);
    handling(&mut bed, wan, opening);
    for action in [ScanAction::Count, ScanAction::List] {
        let scan = Scan { action, records: Vec::with_capacity(300), ..Scan::default() };
        bed.control[0].scans.push(Box::new(scan)).unwrap();
        assert_eq!(handling(&mut bed, wan, Vec::new()), 0, "{action:?}");
        assert!(bed.control[0].scanned.pop().unwrap().finished);
    }
    bed.clock.advance_s(31);
    assert_eq!(handling(&mut bed, wan, Vec::new()), 0, "expiry");
    assert_eq!(bed.workers[0].core.table.len(), 0);
}

#[test]
fn a_nat_gateway_does_not_allocate() {
    for nat_log in [NatEvents::Off, NatEvents::Mappings, NatEvents::Sessions] {
        gateway_does_not_allocate(Policy { nat_log, ..Policy::default() });
    }
}

fn gateway_does_not_allocate(policy: Policy) {
    const REMOTE: &str = "192.0.2.80";
    let logged = if policy.nat_log == NatEvents::Off { 0 } else { 200 };
    let mut bed = Setup { policy, ..Setup::default() }.gateway(&bed::GatewayPlan::default());
    let (wan, lan) = (bed.wan, bed.lan);
    let question = |bed: &Testbed, port| bed.by_inside(RS1, REMOTE).udp(port, 53).build();
    let questions: Vec<Buf> = (1_000..1_100).map(|port| question(&bed, port)).collect();
    assert_eq!(handling(&mut bed, lan, questions.clone()), 0, "opening");
    let sent = bed.sent(wan);
    assert_eq!(sent.len(), 100);
    let answers = sent.iter().map(|sent| {
        let key = sent.key();
        bed.by_outside(REMOTE, bed::WANS[0]).udp(53, key.sport).build()
    });
    let answers = answers.collect();
    assert_eq!(handling(&mut bed, wan, answers), 0, "answering");
    assert_eq!(handling(&mut bed, lan, questions), 0, "going on");
    assert_eq!(bed.sent(wan).len(), 100);
    let strangers =
        (1..50).map(|port| bed.by_outside(bed::CLIENT, bed::WANS[0]).tcp(port, 9).syn());
    let strangers = strangers.map(|packet| packet.build()).collect();
    assert_eq!(handling(&mut bed, wan, strangers), 0, "holding SYNs, and refusing them");
    // Packets of our own are the testbed's to make, which does allocate.
    bed.clock.advance_s(7);
    handling(&mut bed, lan, Vec::new());
    bed.clock.advance_s(700);
    assert_eq!(handling(&mut bed, lan, Vec::new()), 0, "expiry");
    bed.clock.advance_s(1);
    for _ in 0..10 {
        bed.turn();
    }
    assert_eq!(bed.mappings(), 0);
    assert_eq!(bed.control[0].nat_log.slots(), logged);
}
