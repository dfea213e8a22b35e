//! Packets that are still out when all else is dropped keep their memory.

use std::sync::Mutex;

use dpdk::{Eal, EalOptions, HugePages, LogLevel, Mempool, MempoolConfig};
use types::Packet;

static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

#[test]
fn packets_outlive_pool_and_eal() {
    dpdk::set_log_sink(|level, line| {
        if level <= LogLevel::Warning {
            LOG.lock().unwrap().push(line.to_owned());
        }
    });
    let options =
        EalOptions { memory_mib: 32, huge_pages: HugePages::Off, ..EalOptions::default() };
    let eal = Eal::start(&options).unwrap();
    let directory = eal.runtime_directory().to_owned();
    let config = MempoolConfig { mbufs: 255, cache: 0, ..MempoolConfig::default() };
    let pool = Mempool::new(&eal, &config).unwrap();
    let mut packet = pool.allocate().unwrap();
    assert!(packet.append(3));
    packet.bytes_mut().copy_from_slice(b"abc");
    drop(pool);
    drop(eal);
    assert_eq!(packet.bytes(), b"abc");
    let log = LOG.lock().unwrap().join("\n");
    assert!(log.contains("mempool `mbufs` is dropped with 1 mbufs out"), "{log}");
    assert!(log.contains("stays until the process ends"), "{log}");
    assert!(!directory.exists(), "{} is left behind", directory.display());
}
