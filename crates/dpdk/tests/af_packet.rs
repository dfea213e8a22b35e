//! Frames through `net_af_packet` on a pair of veth interfaces, in a network namespace of their own.

use std::process::Command;
use std::time::{Duration, Instant};

use dpdk::{Eal, EalOptions, Error, HugePages, Mbuf, Mempool, MempoolConfig, PortConfig, Queues};
use types::Packet;

/// Moves this thread into a new network namespace with `left` and `right` joined; false without the right.
fn new_namespace() -> bool {
    // SAFETY: changes the calling thread's namespace only.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        return false;
    }
    let ip = |args: &str| {
        let status = Command::new("ip").args(args.split(' ')).status().expect("ip runs");
        assert!(status.success(), "ip {args}");
    };
    ip("link add name left type veth peer name right");
    for name in ["left", "right"] {
        // No router solicitations among the frames that are counted.
        ip(&format!("link set {name} addrgenmode none"));
        ip(&format!("link set {name} up"));
    }
    true
}

fn frame(pool: &Mempool, from: [u8; 6], to: [u8; 6], number: usize) -> Mbuf {
    let mut packet = pool.allocate().unwrap();
    assert!(packet.append(60 + number * 40));
    let bytes = packet.bytes_mut();
    bytes.fill(number as u8);
    bytes[..6].copy_from_slice(&to);
    bytes[6..12].copy_from_slice(&from);
    // An EtherType for local experiments (IEEE 802, annex).
    bytes[12..14].copy_from_slice(&[0x88, 0xb5]);
    packet
}

#[test]
fn frames_cross_a_veth_pair() {
    if !new_namespace() {
        eprintln!("SKIPPED: frames_cross_a_veth_pair needs root to make a network namespace");
        return;
    }
    let options = EalOptions {
        memory_mib: 64,
        huge_pages: HugePages::Off,
        devices: vec!["net_af_packet0,iface=left".into(), "net_af_packet1,iface=right".into()],
        ..EalOptions::default()
    };
    let nowhere = EalOptions { devices: vec!["net_af_packet0,iface=c".into()], ..options.clone() };
    let error = Eal::start(&nowhere).unwrap_err();
    assert!(matches!(&error, Error::NoSuchInterface { interface, .. } if interface == "c"));

    let eal = Eal::start(&options).unwrap();
    let config = MempoolConfig { mbufs: 2047, ..MempoolConfig::default() };
    let pool = Mempool::new(&eal, &config).unwrap();
    let open = |name: &str| {
        let mut port = eal.port(name).unwrap();
        let config = PortConfig { mtu: Some(1500), promiscuous: true, ..PortConfig::default() };
        let Queues { mut rx, mut tx } = port.configure(&config, &pool).unwrap();
        port.start().unwrap();
        let (rx, tx) = (rx.pop().unwrap().claim().unwrap(), tx.pop().unwrap().claim().unwrap());
        (port, rx, tx)
    };
    let (a, a_rx, mut a_tx) = open("net_af_packet0");
    let (b, mut b_rx, b_tx) = open("net_af_packet1");
    assert_eq!((a.mtu().unwrap(), a.is_promiscuous()), (1500, true));
    assert!(a.link().unwrap().up);
    let (from, to) = (a.mac().unwrap().0, b.mac().unwrap().0);
    assert_ne!(from, to);

    let mut burst: Vec<_> = (0..32).map(|i| Some(frame(&pool, from, to, i))).collect();
    assert_eq!(a_tx.transmit(&mut burst), 32);
    let (mut received, deadline) = (0, Instant::now() + Duration::from_secs(5));
    while received < 32 {
        assert!(Instant::now() < deadline, "{received} of 32 frames arrived");
        let mut burst: [Option<Mbuf>; 8] = Default::default();
        let count = b_rx.receive(&mut burst);
        for packet in burst.iter().flatten().take(count) {
            let sent = frame(&pool, from, to, received);
            assert_eq!(packet.bytes(), sent.bytes());
            received += 1;
        }
    }
    assert_eq!(b.statistics().unwrap().rx_packets, 32);
    drop((a_rx, a_tx, b_rx, b_tx));
    a.close().unwrap();
    b.close().unwrap();
    assert_eq!(pool.in_use(), 0);
    let directory = eal.runtime_directory().to_owned();
    drop((pool, eal));
    assert!(!directory.exists());
}
