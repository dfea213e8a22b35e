//! TAPs of the running kernel, each test in a network namespace of its own (root).

use std::io::{ErrorKind, Write as _};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{fs, io, panic, process, thread};

use kni::{Error, KernelInterface, Sent, Tap, TapConfig, netns};
use types::MacAddr;

/// The kernel's end, and what we play: the only other station there.
const MAC: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 1]);
const OUR_MAC: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 2]);
const KERNEL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OURS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

static SKIPPED: AtomicUsize = AtomicUsize::new(0);

/// Runs a test on a thread in a new network namespace, which goes with it; without the right to
/// have one, says so past libtest's capture.
fn isolated(test: impl FnOnce() + Send) {
    let run = || {
        // SAFETY: changes the namespace of this thread, which is ours, and no memory.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            return Err(format!("no network namespace to be had: {}", io::Error::last_os_error()));
        }
        if !Path::new("/dev/net/tun").exists() {
            return Err("no /dev/net/tun".to_owned());
        }
        test();
        Ok(())
    };
    let done = thread::scope(|scope| scope.spawn(run).join());
    if let Err(why) = done.unwrap_or_else(|payload| panic::resume_unwind(payload)) {
        let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
        let name = thread::current().name().unwrap_or_default().to_owned();
        let notice = format!("SKIPPED {name}: {why} ({count} skipped so far)\n");
        io::stderr().write_all(notice.as_bytes()).unwrap();
    }
}

fn config(name: &str) -> TapConfig {
    TapConfig { name: name.to_owned(), mac: MAC, mtu: 1500, netns: None, persist: false }
}

fn persistent(name: &str) -> TapConfig {
    TapConfig { persist: true, ..config(name) }
}

/// Runs a command in this thread's namespace; what it printed if it succeeded.
#[track_caller]
fn try_run(words: &str) -> Result<String, String> {
    let mut words = words.split_whitespace();
    let out = Command::new(words.next().unwrap()).args(words).output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    if out.status.success() { Ok(text(&out.stdout)) } else { Err(text(&out.stderr)) }
}

#[track_caller]
fn run(words: &str) -> String {
    try_run(words).unwrap_or_else(|error| panic!("{words}: {error}"))
}

/// What `ip` shows of an interface.
#[track_caller]
fn link(name: &str) -> String {
    run(&format!("ip -o link show dev {name}"))
}

fn exists(name: &str) -> bool {
    try_run(&format!("ip link show dev {name}")).is_ok()
}

#[track_caller]
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(5);
    while !condition() {
        assert!(Instant::now() < end, "after 5 s still not: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The next frame that `wanted` says yes to; the kernel sends others (IPv6 discovery), too.
#[track_caller]
fn receive(tap: &mut Tap, what: &str, wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut buffer = [0; 2048];
    let mut found = Vec::new();
    wait_until(what, || {
        while let Some(len) = tap.receive(&mut buffer).unwrap() {
            if wanted(&buffer[..len]) {
                found = buffer[..len].to_vec();
                return true;
            }
        }
        false
    });
    found
}

/// A TAP with the kernel's address, up and with carrier.
fn running(name: &str) -> Tap {
    let mut tap = Tap::create(&config(name)).unwrap();
    run(&format!("ip addr add {KERNEL}/24 dev {name}"));
    tap.set_up(true).unwrap();
    tap.set_carrier(true).unwrap();
    wait_until("has carrier", || link(name).contains("LOWER_UP"));
    tap
}

/// An ARP packet of ours (RFC 826) about [`OURS`] and [`KERNEL`]: 1 asks, 2 answers.
fn arp(operation: u8, target: MacAddr) -> Vec<u8> {
    let to = if operation == 1 { MacAddr::BROADCAST } else { target };
    let mut frame = [&to.0[..], &OUR_MAC.0, &[8, 6, 0, 1, 8, 0, 6, 4, 0, operation]].concat();
    frame.extend(OUR_MAC.0.iter().chain(&OURS.octets()));
    frame.extend(target.0.iter().chain(&KERNEL.octets()));
    frame
}

/// True for an ARP packet with this operation from the kernel's station to ours.
fn is_arp(frame: &[u8], operation: u8) -> bool {
    frame.len() >= 42
        && frame[12..22] == [8, 6, 0, 1, 8, 0, 6, 4, 0, operation]
        && frame[22..32] == [&MAC.0[..], &KERNEL.octets()].concat()
        && frame[38..42] == OURS.octets()
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

/// An ICMP echo message of ours to the kernel: type 8 asks, 0 answers.
fn echo(kind: u8, rest: &[u8]) -> Vec<u8> {
    let mut icmp = [&[kind, 0, 0, 0], rest].concat();
    let sum = checksum(&icmp).to_be_bytes();
    icmp[2..4].copy_from_slice(&sum);
    let length = u16::try_from(20 + icmp.len()).unwrap().to_be_bytes();
    let mut ip = [0x45, 0, length[0], length[1], 0, 0, 0x40, 0, 64, 1, 0, 0].to_vec();
    ip.extend(OURS.octets().iter().chain(&KERNEL.octets()));
    let sum = checksum(&ip).to_be_bytes();
    ip[10..12].copy_from_slice(&sum);
    [&MAC.0[..], &OUR_MAC.0, &[8, 0], &ip, &icmp].concat()
}

/// True for an ICMP message of this type from the kernel to us, checksums right.
fn is_echo(frame: &[u8], kind: u8) -> bool {
    frame.len() >= 42
        && frame[..14] == [&OUR_MAC.0[..], &MAC.0, &[8, 0]].concat()
        && frame[23] == 1
        && frame[26..34] == [KERNEL.octets(), OURS.octets()].concat()
        && frame[34] == kind
        && checksum(&frame[14..34]) == 0
        && checksum(&frame[34..]) == 0
}

#[test]
fn the_kernel_answers_arp_and_echo() {
    isolated(|| {
        let mut tap = running("t0.kni");
        assert_eq!(tap.send(&arp(1, MacAddr::default())).unwrap(), Sent::Taken);
        let answer = receive(&mut tap, "ARP answered", |frame| is_arp(frame, 2));
        assert_eq!(answer[32..38], OUR_MAC.0);
        let rest = b"\x12\x34\x00\x01payload of 20 bytes";
        let rest = &rest[..rest.len() & !1];
        assert_eq!(tap.send(&echo(8, rest)).unwrap(), Sent::Taken);
        let answer = receive(&mut tap, "echo answered", |frame| is_echo(frame, 0));
        assert_eq!(&answer[38..], rest);
    });
}

#[test]
fn the_kernels_ping_is_answered_by_us() {
    isolated(|| {
        let mut tap = running("t0.kni");
        let mut command = Command::new("ping");
        command.args(["-n", "-c", "3", "-W", "5", "-i", "0.01", &OURS.to_string()]);
        let mut ping = command.stdout(Stdio::null()).spawn().unwrap();
        receive(&mut tap, "ARP asked", |frame| is_arp(frame, 1));
        assert_eq!(tap.send(&arp(2, MAC)).unwrap(), Sent::Taken);
        for _ in 0..3 {
            let asked = receive(&mut tap, "echo asked", |frame| is_echo(frame, 8));
            assert_eq!(tap.send(&echo(0, &asked[38..])).unwrap(), Sent::Taken);
        }
        assert!(ping.wait().unwrap().success());
    });
}

#[test]
fn link_carrier_mtu_and_mac_are_what_ip_shows() {
    isolated(|| {
        let mut tap = Tap::create(&TapConfig { mtu: 9000, ..config("t0.kni") }).unwrap();
        assert_eq!(tap.name(), "t0.kni");
        let shown = link("t0.kni");
        assert!(shown.starts_with(&format!("{}: t0.kni: ", tap.index().unwrap())), "{shown}");
        assert!(shown.contains(" mtu 9000 ") && shown.contains(&MAC.to_string()), "{shown}");
        assert!(!shown.contains("UP"), "{shown}");
        tap.set_up(true).unwrap();
        let shown = link("t0.kni");
        assert!(shown.contains("NO-CARRIER") && shown.contains(",UP"), "{shown}");
        assert_eq!(tap.send(&arp(1, MacAddr::default())).unwrap(), Sent::Taken);
        tap.set_carrier(true).unwrap();
        wait_until("has carrier", || link("t0.kni").contains("LOWER_UP"));
        tap.set_carrier(false).unwrap();
        wait_until("has no carrier", || link("t0.kni").contains("NO-CARRIER"));
        tap.set_mtu(1400).unwrap();
        tap.set_mac(OUR_MAC).unwrap();
        let shown = link("t0.kni");
        assert!(shown.contains(" mtu 1400 ") && shown.contains(&OUR_MAC.to_string()), "{shown}");
        assert!(matches!(tap.set_mtu(67), Err(Error::BadMtu(67))));
        assert!(matches!(tap.set_mac(MacAddr::BROADCAST), Err(Error::BadMac(_))));
        tap.set_mtu(kni::MTU_MAX).expect("the kernel's bound is ours");
        tap.set_mtu(kni::MTU_MIN).expect("the kernel's bound is ours");
        tap.set_up(false).unwrap();
        assert!(!link("t0.kni").contains(",UP"));
    });
}

#[test]
fn settings_find_it_after_it_was_renamed() {
    isolated(|| {
        let mut tap = Tap::create(&config("t0.kni")).unwrap();
        run("ip link set t0.kni name other");
        tap.set_mtu(1300).unwrap();
        assert!(link("other").contains(" mtu 1300 "));
    });
}

#[test]
fn it_goes_when_dropped() {
    isolated(|| {
        let tap = Tap::create(&config("t0.kni")).unwrap();
        assert!(exists("t0.kni"));
        drop(tap);
        assert!(!exists("t0.kni"));
    });
}

#[test]
fn a_persistent_one_stays_and_is_taken_up() {
    isolated(|| {
        let mut tap = Tap::create(&persistent("t0.kni")).unwrap();
        run(&format!("ip addr add {KERNEL}/24 dev t0.kni"));
        tap.set_up(true).unwrap();
        tap.set_carrier(true).unwrap();
        wait_until("has carrier", || link("t0.kni").contains("LOWER_UP"));
        let index = tap.index().unwrap();
        drop(tap);
        wait_until("has no carrier", || link("t0.kni").contains("NO-CARRIER"));
        assert!(link("t0.kni").contains(",UP"));

        let mut tap =
            Tap::create(&TapConfig { mac: OUR_MAC, mtu: 1400, ..persistent("t0.kni") }).unwrap();
        assert_eq!(tap.index().unwrap(), index);
        let shown = link("t0.kni");
        assert!(shown.contains("NO-CARRIER") && shown.contains(",UP"), "{shown}");
        assert!(shown.contains(" mtu 1400 ") && shown.contains(&OUR_MAC.to_string()), "{shown}");
        let addresses = run("ip -o -4 addr show dev t0.kni");
        assert!(addresses.contains(&KERNEL.to_string()), "{addresses}");
        tap.set_persist(false).unwrap();
        drop(tap);
        assert!(!exists("t0.kni"));
    });
}

#[test]
fn a_taken_name_is_told_and_left_alone() {
    isolated(|| {
        for persist in [false, true] {
            let error = Tap::create(&TapConfig { persist, ..config("lo") }).unwrap_err();
            assert!(matches!(&error, Error::NameTaken { name } if name == "lo"), "{error}");
        }
        let held = Tap::create(&persistent("t0.kni")).unwrap();
        let error = Tap::create(&persistent("t0.kni")).unwrap_err();
        assert!(matches!(&error, Error::InUse { name } if name == "t0.kni"), "{error}");
        drop(held);
        let error = Tap::create(&config("t0.kni")).unwrap_err();
        assert!(matches!(&error, Error::NameTaken { name } if name == "t0.kni"), "{error}");
        assert!(error.to_string().contains("ip link delete t0.kni"), "{error}");
        assert!(exists("t0.kni"), "a persistent one is not ours to remove");
    });
}

#[test]
fn nothing_is_left_of_what_could_not_be_created() {
    isolated(|| {
        let bad = [
            TapConfig { mtu: 67, ..persistent("t0.kni") },
            TapConfig { mac: MacAddr::BROADCAST, ..persistent("t0.kni") },
            persistent("a-name-of-21-bytes-xx"),
        ];
        for config in bad {
            Tap::create(&config).unwrap_err();
        }
        assert_eq!(run("ip -o link").lines().count(), 1, "lo is alone");
    });
}

#[test]
fn frames_that_cannot_pass_are_told() {
    isolated(|| {
        let mut tap = Tap::create(&config("t0.kni")).unwrap();
        assert_eq!(tap.receive(&mut [0; 64]).unwrap(), None);
        assert_eq!(tap.send(&arp(1, MacAddr::default())).unwrap(), Sent::Down);
        assert_eq!(tap.send(&[0; 13]).unwrap_err().kind(), ErrorKind::InvalidInput);
        drop(tap);

        let mut tap = running("t0.kni");
        for long in [&[8; 300][..], &[8; 64]] {
            assert_eq!(tap.send(&echo(8, long)).unwrap(), Sent::Taken);
        }
        assert_eq!(tap.send(&arp(2, MAC)).unwrap(), Sent::Taken);
        // 64 bytes of ICMP are 102 of a frame: the first answer does not fit, the second just.
        let mut exact = [0; 102];
        let (mut too_long, mut fitting) = (0, 0);
        wait_until("both answered", || {
            match tap.receive(&mut exact) {
                Ok(Some(102)) if is_echo(&exact, 0) => fitting += 1,
                Ok(Some(42)) if is_arp(&exact, 1) => {
                    assert_eq!(tap.send(&arp(2, MAC)).unwrap(), Sent::Taken);
                }
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
                    too_long += 1;
                }
            }
            fitting == 1 && too_long >= 1
        });
    });
}

#[test]
fn one_that_was_removed_says_so() {
    isolated(|| {
        let mut tap = running("t0.kni");
        run("ip link delete t0.kni");
        let error = tap.receive(&mut [0; 64]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotConnected);
        assert_eq!(error.to_string(), "the kernel interface `t0.kni` was removed");
        let error = tap.send(&arp(1, MacAddr::default())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotConnected);
        assert!(matches!(tap.set_carrier(true), Err(Error::Removed { .. })));
        assert!(matches!(tap.set_up(true), Err(Error::Removed { .. })));
        assert!(matches!(tap.set_mtu(1500), Err(Error::Removed { .. })));
        assert!(matches!(tap.index(), Err(Error::Removed { .. })));
    });
}

/// A namespace with a name, as `ip netns` makes it; goes when dropped.
struct Named(String);

impl Named {
    fn new() -> Self {
        let name = format!("kni-test-{}", process::id());
        run(&format!("ip netns add {name}"));
        Self(name)
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        if let Err(error) = try_run(&format!("ip netns delete {}", self.0)) {
            eprintln!("{}: {error}", self.0);
        }
    }
}

#[test]
fn it_is_in_the_namespace_that_was_asked_for() {
    isolated(|| {
        let before = fs::read_link("/proc/thread-self/ns/net").unwrap();
        let named = Named::new();
        for place in [named.0.clone(), netns::path(&named.0).display().to_string()] {
            let config = TapConfig { netns: Some(place.clone()), ..config("t0.kni") };
            let mut tap = Tap::create(&config).unwrap();
            assert!(!exists("t0.kni"), "it is not here");
            tap.set_up(true).unwrap();
            tap.set_mtu(1400).unwrap();
            let shown = netns::within(&place, || link("t0.kni")).unwrap();
            assert!(shown.contains(",UP") && shown.contains(" mtu 1400 "), "{shown}");
            drop(tap);
            assert!(!netns::within(&place, || exists("t0.kni")).unwrap());
        }
        assert_eq!(fs::read_link("/proc/thread-self/ns/net").unwrap(), before, "we stayed");
        let absent = TapConfig { netns: Some("kni-absent".to_owned()), ..config("t0.kni") };
        assert!(matches!(Tap::create(&absent), Err(Error::NoNetns { .. })));
    });
}

/// Takes all capabilities from the calling thread.
fn without_capabilities() {
    // struct __user_cap_header_struct: version 3, this thread; then twice three words of data.
    let mut header = [0x2008_0522_u32, 0];
    let none = [0_u32; 6];
    // SAFETY: capset(2) reads a header, may write its version, and reads two data structs, which
    // these arrays are by size and layout; it changes what the calling thread may do only.
    let done = unsafe { libc::syscall(libc::SYS_capset, header.as_mut_ptr(), none.as_ptr()) };
    assert_eq!(done, 0, "{}", io::Error::last_os_error());
}

#[test]
fn a_missing_capability_is_named() {
    isolated(|| {
        let mut tap = running("t0.kni");
        let here = format!("/proc/self/task/{}/ns/net", thread_id());
        without_capabilities();
        let error = Tap::create(&config("t1.kni")).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("creating the TAP `t1.kni` needs CAP_NET_ADMIN"), "{text}");
        let elsewhere = TapConfig { netns: Some(here), ..config("t1.kni") };
        let text = Tap::create(&elsewhere).unwrap_err().to_string();
        assert!(text.contains("needs CAP_SYS_ADMIN"), "{text}");

        // The daemon drops capabilities after start-up: what a TAP does all the time needs none.
        tap.set_carrier(false).unwrap();
        tap.set_carrier(true).unwrap();
        assert_eq!(tap.send(&arp(1, MacAddr::default())).unwrap(), Sent::Taken);
        receive(&mut tap, "ARP answered", |frame| is_arp(frame, 2));
        assert!(matches!(tap.set_mtu(1400), Err(Error::Denied { .. })));
    });
}

fn thread_id() -> i32 {
    // SAFETY: has no precondition.
    unsafe { libc::gettid() }
}

#[test]
fn a_missing_driver_is_named() {
    isolated(|| {
        // SAFETY: changes the mounts and the working directory of this thread only.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNS) }, 0);
        run("mount --make-rprivate /");
        run("mount -t tmpfs none /dev/net");
        let error = Tap::create(&config("t0.kni")).unwrap_err();
        assert!(matches!(&error, Error::NoTun(source) if source.kind() == ErrorKind::NotFound));
        assert!(error.to_string().contains("modprobe tun"), "{error}");
    });
}

#[test]
fn tokio_waits_for_frames() {
    isolated(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let tap = running("t0.kni");
        assert!(tap.as_fd().try_clone_to_owned().is_ok());
        runtime.block_on(async {
            // SAFETY: a `Tap` keeps its descriptor open and the same; this one is not replaced.
            let mut tap = unsafe { tokio::io::unix::AsyncFd::register(tap) }.unwrap();
            assert_eq!(tap.get_mut().send(&arp(1, MacAddr::default())).unwrap(), Sent::Taken);
            let mut buffer = [0; 2048];
            let answered = async {
                loop {
                    let mut ready = tap.readable_mut().await.unwrap();
                    match ready.get_inner_mut().receive(&mut buffer).unwrap() {
                        Some(len) if is_arp(&buffer[..len], 2) => break,
                        Some(_) => {}
                        None => ready.clear_ready(),
                    }
                }
            };
            tokio::time::timeout(Duration::from_secs(5), answered).await.expect("a frame");
        });
    });
}
