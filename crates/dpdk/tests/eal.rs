//! What DPDK does for us on devices of its own, in one EAL, as a process can have only one.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use dpdk::{
    Eal, EalOptions, Error, EthPort, HugePages, L4Checksum, LogLevel, Mbuf, Mempool, MempoolConfig,
    PortConfig, Queues, RxQueue, TxQueue, current_lcore,
};
use types::{LcoreId, Packet};

static LOG: Mutex<Vec<(LogLevel, String)>> = Mutex::new(Vec::new());

fn keep(level: LogLevel, line: &str) {
    LOG.lock().unwrap().push((level, line.to_owned()));
}

fn pool(eal: &Eal, name: &str, mbufs: u32) -> Mempool {
    let config = MempoolConfig { name: name.into(), mbufs, cache: 32, ..MempoolConfig::default() };
    Mempool::new(eal, &config).unwrap()
}

fn slots(count: usize) -> Vec<Option<Mbuf>> {
    (0..count).map(|_| None).collect()
}

fn packet(pool: &Mempool, content: &[u8]) -> Mbuf {
    let mut packet = pool.allocate().unwrap();
    assert!(packet.append(content.len()));
    packet.bytes_mut().copy_from_slice(content);
    packet
}

/// Bytes that differ from their neighbours.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 256) as u8).collect()
}

/// A packet of segments that hold the parts.
fn chained(pool: &Mempool, parts: &[&[u8]]) -> Mbuf {
    let mut parts = parts.iter();
    let mut first = packet(pool, parts.next().unwrap());
    for part in parts {
        assert!(first.chain(packet(pool, part)));
    }
    first
}

/// The whole packet's bytes.
fn whole(mut packet: Mbuf) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let here = packet.bytes().len();
        bytes.extend_from_slice(packet.bytes());
        assert!(packet.trim(here));
        if packet.total_len() == 0 {
            return bytes;
        }
        assert!(packet.pull(1), "no room for the next byte");
    }
}

fn started(eal: &Eal, device: &str, pool: &Mempool) -> (EthPort, RxQueue, TxQueue) {
    let mut port = eal.probe(device).unwrap();
    let Queues { mut rx, mut tx } = port.configure(&PortConfig::default(), pool).unwrap();
    port.start().unwrap();
    let queues = (rx.pop().unwrap().claim().unwrap(), tx.pop().unwrap().claim().unwrap());
    (port, queues.0, queues.1)
}

#[test]
fn dpdk_as_we_use_it() {
    dpdk::set_log_sink(keep);
    refused_before_the_start();
    let options = EalOptions {
        worker_cpus: vec![0],
        main_cpus: vec![0],
        memory_mib: 128,
        huge_pages: HugePages::Off,
        devices: vec!["net_null0,size=100".into()],
        ..EalOptions::default()
    };
    let eal = Eal::start(&options).unwrap();
    assert!(!eal.uses_huge_pages());
    assert!(matches!(Eal::start(&options), Err(Error::Started)));
    let directory = eal.runtime_directory().to_owned();
    assert!(directory.is_dir());

    mempools(&eal);
    one_segment(&eal);
    many_segments(&eal);
    null_device(&eal);
    ring_device(&eal);
    pcap_device(&eal);
    stop_while_in_use(&eal);
    refused_devices(&eal);
    refused_configurations(&eal);
    lcores(&eal);
    registered_thread(&eal);

    LOG.lock().unwrap().clear();
    drop(eal);
    let log = LOG.lock().unwrap();
    assert!(!log.iter().any(|(level, _)| *level <= LogLevel::Warning), "{log:?}");
    assert!(!directory.exists(), "{} is left behind", directory.display());
}

fn refused_before_the_start() {
    let start = |options: EalOptions| Eal::start(&options).unwrap_err();
    let error = start(EalOptions { worker_cpus: vec![9999], ..EalOptions::default() });
    assert!(matches!(error, Error::NoSuchCpu { cpu: 9999, .. }), "{error}");
    let error = start(EalOptions { file_prefix: Some("a/b".into()), ..EalOptions::default() });
    assert!(matches!(error, Error::BadPrefix(_)), "{error}");
    let error = start(EalOptions { devices: vec!["ffff:ff:1f.7".into()], ..EalOptions::default() });
    assert!(matches!(error, Error::NoSuchPciDevice(_)), "{error}");
    let huge = HugePages::Required;
    let error =
        start(EalOptions { huge_pages: huge, memory_mib: u32::MAX, ..EalOptions::default() });
    assert!(matches!(error, Error::NoHugePages { .. }), "{error}");
}

fn mempools(eal: &Eal) {
    let pool = pool(eal, "counts", 255);
    assert_eq!((pool.size(), pool.available(), pool.in_use()), (255, 255, 0));
    let one = pool.allocate().unwrap();
    assert_eq!((pool.available(), pool.in_use()), (254, 1));
    assert_eq!((one.total_len(), one.segments(), one.headroom()), (0, 1, dpdk::HEADROOM));
    let mut rest = slots(254);
    assert!(pool.allocate_bulk(&mut rest));
    assert!(pool.allocate().is_none());
    assert!(!pool.allocate_bulk(&mut slots(1)));
    drop(one);
    assert!(!pool.allocate_bulk(&mut slots(2)), "all or nothing");
    rest[3] = None;
    Mbuf::free_burst(&mut rest);
    assert!(rest.iter().all(Option::is_none));
    assert_eq!(pool.in_use(), 0);

    let again = MempoolConfig { name: "counts".into(), ..MempoolConfig::default() };
    let error = Mempool::new(eal, &again).unwrap_err().to_string();
    assert!(error.contains("there is one of that name"), "{error}");
    let large = MempoolConfig { name: "large".into(), mbufs: 10_000_000, ..again };
    let error = Mempool::new(eal, &large).unwrap_err().to_string();
    assert!(error.contains("10000000 mbufs") && error.contains("too small"), "{error}");
    let cache = MempoolConfig { cache: 513, mbufs: 1024, ..large };
    assert!(Mempool::new(eal, &cache).unwrap_err().to_string().contains("at most 512"));
}

fn one_segment(eal: &Eal) {
    let pool = pool(eal, "one", 63);
    let bytes = pattern(100);
    let mut packet = packet(&pool, &bytes);
    assert_eq!(packet.bytes(), bytes);
    assert_eq!((packet.rss_hash(), packet.l4_checksum()), (None, L4Checksum::Unknown));
    packet.prefetch();
    assert!(packet.pull(0) && packet.pull(100) && !packet.pull(101));

    assert!(!packet.prepend(dpdk::HEADROOM + 1));
    assert!(packet.prepend(dpdk::HEADROOM));
    assert_eq!((packet.headroom(), packet.total_len()), (0, 100 + dpdk::HEADROOM));
    assert!(packet.trim(dpdk::HEADROOM + 10));
    assert_eq!(packet.bytes(), &bytes[10..]);
    assert!(!packet.trim(91));
    packet.truncate(90);
    assert_eq!(packet.total_len(), 90);
    packet.truncate(30);
    assert_eq!(packet.bytes(), &bytes[10..40]);

    let room = packet.tailroom();
    assert!(!packet.append(room + 1));
    assert!(packet.append(room));
    assert_eq!((packet.tailroom(), packet.total_len()), (0, 30 + room));
    packet.truncate(0);
    assert_eq!(packet.bytes(), b"");
    drop(packet);
    assert_eq!(pool.in_use(), 0);
}

fn many_segments(eal: &Eal) {
    let pool = pool(eal, "many", 63);
    let bytes = pattern(9000);
    let jumbo = || {
        chained(
            &pool,
            &[
                &bytes[..14],
                &[],
                &bytes[14..20],
                &bytes[20..2000],
                &bytes[2000..4000],
                &bytes[4000..6000],
                &bytes[6000..8000],
                &bytes[8000..],
            ],
        )
    };
    let mut packet = jumbo();
    assert_eq!((packet.segments(), packet.total_len(), packet.bytes().len()), (8, 9000, 14));
    assert!(!packet.append(1), "the end is in another segment");
    assert!(packet.pull(54));
    assert_eq!((packet.segments(), packet.total_len()), (6, 9000));
    assert_eq!(packet.bytes(), &bytes[..54]);
    assert!(!packet.pull(9001) && !packet.pull(4000), "too short, no room");
    assert_eq!((packet.segments(), packet.total_len(), packet.bytes().len()), (6, 9000, 54));
    assert!(packet.trim(14) && packet.prepend(14));
    assert_eq!(whole(packet), bytes);
    assert_eq!(pool.in_use(), 0);

    for len in [0, 1, 13, 14, 15, 20, 1999, 2000, 2001, 4000, 8001, 8999, 9000, 9001] {
        let mut packet = jumbo();
        packet.truncate(len);
        assert_eq!(packet.total_len(), len.min(9000));
        assert_eq!(whole(packet), &bytes[..len.min(9000)]);
        assert_eq!(pool.in_use(), 0, "truncated at {len}");
    }
}

fn null_device(eal: &Eal) {
    let pool = pool(eal, "null", 1023);
    let mut port = eal.port("net_null0").unwrap();
    assert!(matches!(eal.port("net_null0"), Err(Error::PortTaken(_))));
    let info = port.info().unwrap();
    assert_eq!(info.driver, "net_null");
    assert!(info.max_rx_queues >= 1 && info.max_mtu >= 1500);
    let Queues { mut rx, mut tx } = port.configure(&PortConfig::default(), &pool).unwrap();
    port.start().unwrap();
    assert!(matches!(port.start(), Err(Error::PortRunning(_))));
    assert!(port.is_started() && port.link().unwrap().up);
    assert_ne!(port.mac().unwrap().0, [0; 6]);
    let mut rx = rx.pop().unwrap().claim().unwrap();
    let mut tx = tx.pop().unwrap().claim().unwrap();
    let mut burst = slots(32);
    let before = pool.in_use();
    assert_eq!(rx.receive(&mut burst), 32);
    assert!(burst.iter().flatten().all(|packet| packet.total_len() == 100));
    assert_eq!(pool.in_use(), before + 32);
    // A gap ends the burst.
    burst[20] = None;
    assert_eq!(tx.transmit(&mut burst), 20);
    assert!(burst[..21].iter().all(Option::is_none) && burst[21..].iter().all(Option::is_some));
    Mbuf::free_burst(&mut burst);
    assert_eq!(pool.in_use(), before);
    let counted = port.statistics().unwrap();
    assert_eq!((counted.rx_packets, counted.tx_packets), (32, 20));
    without_segments(&port, &pool, &mut tx);
    let extended = port.extended_statistics().unwrap();
    assert!(extended.contains(&("rx_good_packets".to_owned(), 32)), "{extended:?}");
    port.reset_statistics().unwrap();
    assert_eq!(port.statistics().unwrap().rx_packets, 0);
    drop((rx, tx));
    port.close().unwrap();
    assert_eq!(pool.in_use(), 0);
    assert!(matches!(eal.port("net_null0"), Err(Error::NoSuchPort(_))));
}

/// A device that sends one segment gets one, and what is too long for that comes back.
fn without_segments(port: &EthPort, pool: &Mempool, tx: &mut TxQueue) {
    assert!(!port.sends_segments());
    let (bytes, before) = (pattern(1500), pool.in_use());
    let short = |len: usize| Some(chained(pool, &[&bytes[..20], &bytes[20..len]]));
    let long = || Some(chained(pool, &[&bytes, &bytes]));
    let mut burst = [long(), short(100), Some(packet(pool, &bytes)), long(), short(200)];
    assert_eq!(tx.transmit(&mut burst), 3);
    let left: Vec<_> = burst.iter().map(|slot| slot.as_ref().map(Packet::total_len)).collect();
    assert_eq!(left, [None, None, None, Some(3000), Some(3000)]);
    drop(burst);
    assert_eq!(pool.in_use(), before);
}

fn ring_device(eal: &Eal) {
    let pool = pool(eal, "ring", 8191);
    let (port, mut rx, mut tx) = started(eal, "net_ring0", &pool);
    let bytes = pattern(1400);
    let mut burst: Vec<_> = (60..124).map(|len| Some(packet(&pool, &bytes[..len]))).collect();
    assert_eq!(tx.transmit(&mut burst), 64);
    assert!(burst.iter().all(Option::is_none));
    assert_eq!(rx.receive(&mut burst), 64);
    for (packet, len) in burst.iter().flatten().zip(60..) {
        assert_eq!(packet.bytes(), &bytes[..len]);
    }
    Mbuf::free_burst(&mut burst);
    assert_eq!(pool.in_use(), 0);

    // Segments go through as they are.
    let mut jumbo = [Some(chained(&pool, &[&bytes[..100], &bytes[100..]]))];
    assert_eq!(tx.transmit(&mut jumbo), 1);
    assert_eq!(rx.receive(&mut jumbo), 1);
    let jumbo = jumbo[0].take().unwrap();
    assert_eq!(jumbo.segments(), if port.sends_segments() { 2 } else { 1 });
    assert_eq!(whole(jumbo), bytes);

    // The ring fills up; what it refuses comes back, in order, and is freed.
    let mut sent = 0;
    loop {
        let mut burst: Vec<_> = (60..124).map(|len| Some(packet(&pool, &bytes[..len]))).collect();
        let taken = tx.transmit(&mut burst);
        sent += taken;
        if taken < 64 {
            let left: Vec<_> = burst[taken..].iter().flatten().map(Packet::total_len).collect();
            assert_eq!(left, (60 + taken..124).collect::<Vec<_>>());
            assert_eq!(pool.in_use() as usize, sent + 64 - taken);
            break;
        }
    }
    assert_eq!(pool.in_use() as usize, sent);
    let mut burst = slots(64);
    while rx.receive(&mut burst) > 0 {
        Mbuf::free_burst(&mut burst);
    }
    assert_eq!(pool.in_use(), 0);
    drop((rx, tx));
    port.close().unwrap();
}

fn pcap_device(eal: &Eal) {
    let pool = pool(eal, "pcap", 511);
    let directory = tempfile::tempdir().unwrap();
    let (file, bytes) = (directory.path().join("out.pcap"), pattern(1000));
    let device = format!("net_pcap0,rx_pcap=/dev/null,tx_pcap={}", file.display());
    assert!(eal.probe(&device).is_err(), "an empty file is no capture");

    let device = format!("net_pcap0,tx_pcap={}", file.display());
    let (port, rx, mut tx) = started(eal, &device, &pool);
    let mut burst = [Some(chained(&pool, &[&bytes[..500], &bytes[500..]]))];
    assert_eq!(tx.transmit(&mut burst), 1);
    drop((rx, tx));
    port.close().unwrap();
    assert_eq!(pool.in_use(), 0);

    let device = format!("net_pcap1,rx_pcap={}", file.display());
    let (port, mut rx, tx) = started(eal, &device, &pool);
    let mut burst = slots(4);
    assert_eq!(rx.receive(&mut burst), 1);
    assert_eq!(whole(burst[0].take().unwrap()), bytes);
    drop((rx, tx));
    port.close().unwrap();
    assert_eq!(pool.in_use(), 0);
}

fn stop_while_in_use(eal: &Eal) {
    let pool = pool(eal, "stop", 511);
    let mut port = eal.probe("net_ring1").unwrap();
    let Queues { mut rx, tx } = port.configure(&PortConfig::default(), &pool).unwrap();
    let early = rx.pop().unwrap().claim();
    assert!(matches!(early, Err(Error::PortStopped(_))));
    let Queues { mut rx, tx: second } = port.configure(&PortConfig::default(), &pool).unwrap();
    port.start().unwrap();
    let stale = tx.into_iter().next().unwrap().claim();
    assert!(matches!(stale, Err(Error::StaleTicket { queue: 0, .. })));
    let queue = rx.pop().unwrap().claim().unwrap();
    let error = port.stop().unwrap_err();
    assert!(matches!(error, Error::QueuesInUse { queues: 1, .. }), "{error}");
    let again = port.configure(&PortConfig::default(), &pool).unwrap_err();
    assert!(matches!(again, Error::PortRunning(_)), "{again}");
    let ticket = queue.release();
    port.stop().unwrap();
    port.start().unwrap();
    drop(ticket.claim().unwrap());
    port.close().unwrap();
    let void = second.into_iter().next().unwrap().claim();
    assert!(matches!(void, Err(Error::PortStopped(_))));
}

fn refused_devices(eal: &Eal) {
    let refused = |device: &str| eal.probe(device).unwrap_err();
    for bad in ["", "net null", ",a=b"] {
        assert!(matches!(refused(bad), Error::BadDevice(_)), "{bad}");
    }
    let error = refused("net_nosuch0");
    let said = error.to_string();
    assert!(matches!(error, Error::Device { .. }), "{said}");
    assert!(said.contains("net_nosuch0") && said.contains("DPDK says"), "{said}");
    assert!(matches!(refused("net_null1,nonsense=1"), Error::Device { .. }));
    assert!(matches!(refused("ffff:ff:1f.7"), Error::PciAfterStart(_)));
    let _port = eal.probe("net_null2").unwrap();
    assert!(matches!(refused("net_null2"), Error::DeviceExists(_)));
}

fn refused_configurations(eal: &Eal) {
    let pool = pool(eal, "refused", 511);
    let mut port = eal.probe("net_null3").unwrap();
    let many = PortConfig { rx_queues: 60000, ..PortConfig::default() };
    let error = port.configure(&many, &pool).unwrap_err().to_string();
    assert!(error.contains("`net_null3`: 60000 RX queues asked for"), "{error}");
    let large = PortConfig { mtu: Some(9000), ..PortConfig::default() };
    let error = port.configure(&large, &pool).unwrap_err();
    assert!(matches!(error, Error::Mtu { wanted: 9000, max: 2022, .. }), "{error}");
    assert!(port.configure(&PortConfig::default(), &pool).is_ok());
}

fn lcores(eal: &Eal) {
    assert_eq!(current_lcore(), Some(LcoreId(0)));
    let worker = eal.lcores().next().unwrap();
    assert_eq!(eal.lcores().count(), 1);
    assert!(matches!(eal.launch(LcoreId(0), || ()), Err(Error::NoSuchLcore(0))));
    assert!(matches!(eal.launch(LcoreId(2), || ()), Err(Error::NoSuchLcore(2))));

    // A worker takes its queues along, and gives them back.
    let pool = pool(eal, "worker", 1023);
    let mut port = eal.probe("net_null4").unwrap();
    let Queues { mut rx, mut tx } = port.configure(&PortConfig::default(), &pool).unwrap();
    port.start().unwrap();
    let (rx, tx) = (rx.pop().unwrap(), tx.pop().unwrap());
    let work = move || {
        let (mut rx, mut tx) = (rx.claim().unwrap(), tx.claim().unwrap());
        let mut burst = slots(32);
        let mut sent = 0;
        while sent < 3200 {
            rx.receive(&mut burst);
            sent += tx.transmit(&mut burst);
        }
        (current_lcore(), sent, rx.release(), tx.release())
    };
    let (lcore, sent, _rx, _tx) = eal.launch(worker, work).unwrap().wait().unwrap();
    assert_eq!((lcore, sent), (Some(worker), 3200));
    port.close().unwrap();
    assert_eq!(pool.in_use(), 0);

    // One job at a time, and a panic ends the job only.
    static GO_ON: AtomicBool = AtomicBool::new(true);
    let spin = || {
        while GO_ON.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        panic!("on purpose");
    };
    let running = eal.launch(worker, spin).unwrap();
    assert!(matches!(eal.launch(worker, || ()), Err(Error::LcoreBusy(1))));
    GO_ON.store(false, Ordering::Relaxed);
    let panic = running.wait().unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"on purpose"));
    assert_eq!(eal.launch(worker, || 7).unwrap().wait().unwrap(), 7);
}

fn registered_thread(eal: &Eal) {
    let pool = pool(eal, "thread", 511);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert_eq!(current_lcore(), None);
            let packet = pool.allocate().unwrap();
            let registered = eal.register_thread().unwrap();
            assert_eq!(registered.lcore(), Some(LcoreId(2)));
            drop(packet);
            drop(registered);
            assert_eq!(current_lcore(), None);
        });
    });
    assert_eq!(pool.in_use(), 0);
}
