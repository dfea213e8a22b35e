//! Proves of the gateways in `conf/nat-gateway.yaml` (two-arm) and `conf/nat-gateway-one-arm.yaml` that
//! - an inside host can ping, ask DNS, fetch, upload 100 MB and measure by iperf3, TCP and UDP; what leaves has
//!   a WAN IP and right checksums, and no inside address is seen outside, not even in an ICMP error;
//! - traceroute shows the gateway's own address first, and then the routers' own;
//! - small MTUs are found, beyond the gateway and its own; the MSS is clamped to them;
//! - an idle TCP conn lives on when shorter timers have ended what is not established;
//! - hosts of one subnet speak to each other as ever, and are sent no ICMP redirect.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

use crate::common::{
    Arm, Capture, Daemon, Gateway, Load, Nginx, OUTSIDE, Running, accept_one, connect, curl,
    exchange, http_get, iperf3_client, iperf3_server, listen, ping, sha256, traceroute, udp,
    wait_until,
};

#[test]
fn an_inside_host_uses_the_internet_two_arm() {
    an_inside_host_uses_the_internet(Arm::Two);
}

#[test]
fn an_inside_host_uses_the_internet_one_arm() {
    an_inside_host_uses_the_internet(Arm::One);
}

fn an_inside_host_uses_the_internet(arm: Arm) {
    let Some(gateway) = Gateway::new(arm, Load::Light) else { return };
    let lab = &gateway.lab;
    let (host, outside) = (&lab.servers[0], &lab.client);
    let _nginx = Nginx::start_in(lab, outside, "web", OUTSIDE[0]);
    let mut command = outside.command("dnsmasq");
    command.args(["-k", "-C", "/dev/null", "-u", "root", "--log-facility=-", "--no-resolv"]);
    command.args(["--no-hosts", "--no-daemon", "--address=/example.test/192.0.2.7"]);
    let mut dns = Running::start(&mut command, &lab.dir, "dnsmasq");
    dns.wait_for_log("started", Duration::from_secs(20));
    let daemon = Daemon::start_with(lab, &gateway.config());
    let inner = Capture::start(lab, host, "eth0", "ip");
    let outer = Capture::start(lab, outside, "eth0", "ip");

    assert_eq!(ping(host, OUTSIDE[0], 20, &[]), 20);
    assert_eq!(ping(host, OUTSIDE[1], 5, &["-s", "1400"]), 5);
    for _ in 0..5 {
        let seen = http_get(host, &format!("http://{}/", OUTSIDE[0]));
        let seen = seen.trim().strip_prefix("web ").unwrap().split(':').next().unwrap();
        assert!(gateway.is_wan_address(seen), "the server sees {seen}");
    }
    for transport in ["+notcp", "+tcp"] {
        let server = format!("@{}", OUTSIDE[1]);
        let answer = host.run("dig", &["+short", transport, "+timeout=5", &server, "example.test"]);
        assert_eq!(answer.ok().stdout, "192.0.2.7\n", "{transport}");
    }
    // Nobody listens: the error comes back to the socket that asked.
    let socket = udp(host, "0.0.0.0:0");
    socket.connect((OUTSIDE[0], 9)).unwrap();
    socket.send(b"discard").unwrap();
    let error = socket.recv(&mut [0; 8]).expect_err("nobody is there");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{error}");

    let (inner, outer) = (inner.stop(), outer.stop());
    inner.assert_checksums();
    outer.assert_checksums();
    gateway.assert_nothing_inside(&outer);
    assert_ne!(outer.count("icmp.type == 3 && icmp.code == 3"), 0);
    assert_eq!(inner.count("icmp.type == 5"), 0, "an ICMP redirect");
    let rules = daemon.ctl.json(&["snat", "show"]);
    let rule = rules.as_array().unwrap().last().unwrap();
    assert!(rule["mappings"].as_u64() >= Some(4), "{rule}");
    daemon.stop();
}

#[test]
fn large_transfers_two_arm() {
    large_transfers(Arm::Two);
}

#[test]
fn large_transfers_one_arm() {
    large_transfers(Arm::One);
}

fn large_transfers(arm: Arm) {
    let Some(gateway) = Gateway::new(arm, Load::Heavy) else { return };
    let lab = &gateway.lab;
    let (host, outside) = (&lab.servers[0], &lab.client);
    let nginx = Nginx::start_in(lab, outside, "web", OUTSIDE[0]);
    let daemon = Daemon::start_with(lab, &gateway.config());
    // Only what must not be there.
    let leaks = Capture::start(lab, outside, "eth0", "net 10.0.0.0/8 or host 192.168.1.204");

    let file = lab.path("100MB");
    std::io::copy(&mut File::open("/dev/urandom").unwrap().take(100_000_000), &mut {
        File::create(&file).unwrap()
    })
    .unwrap();
    let url = format!("http://{}/uploads/100MB", OUTSIDE[0]);
    curl(host, &["-T", file.to_str().unwrap(), &url]).ok();
    let uploaded = nginx.files.join("uploads/100MB");
    assert_eq!(sha256(&uploaded), sha256(&file));
    fs::rename(uploaded, nginx.files.join("files/100MB")).unwrap();
    let copy = lab.path("copy");
    let url = format!("http://{}/files/100MB", OUTSIDE[0]);
    curl(host, &["-o", copy.to_str().unwrap(), &url]).ok();
    assert_eq!(sha256(&copy), sha256(&file));

    for arguments in [&["-t", "1"][..], &["-t", "1", "-R"], &["-t", "1", "-P", "4"]] {
        let _server = iperf3_server(lab, outside);
        let summary = iperf3_client(host, OUTSIDE[1], arguments);
        let received = summary["end"]["sum_received"]["bytes"].as_u64();
        assert!(received > Some(1_000_000), "{arguments:?}: {}", summary["end"]);
    }
    let _server = iperf3_server(lab, outside);
    let summary = iperf3_client(host, OUTSIDE[0], &["-u", "-b", "20M", "-l", "1200", "-t", "1"]);
    let sum = &summary["end"]["sum"];
    assert!(sum["packets"].as_u64() > Some(1_000), "{summary}");
    assert!(sum["lost_percent"].as_f64().unwrap() < 5.0, "{sum}");
    assert_eq!(leaks.stop().count("ip"), 0);
    daemon.stop();
}

#[test]
fn traceroute_shows_every_hop_by_its_own_address() {
    for arm in [Arm::Two, Arm::One] {
        let Some(gateway) = Gateway::new(arm, Load::Light) else { return };
        let lab = &gateway.lab;
        let _nginx = Nginx::start_in(lab, &lab.client, "web", OUTSIDE[0]);
        let daemon = Daemon::start_with(lab, &gateway.config());
        let hops = match arm {
            Arm::Two => ["10.0.0.1", "203.0.113.1", OUTSIDE[0]],
            Arm::One => ["192.168.1.202", "192.168.1.253", OUTSIDE[0]],
        };
        for by in [&["-I"][..], &["-U", "-p", "33434"], &["-T", "-p", "80"], &[]] {
            assert_eq!(traceroute(&lab.servers[0], OUTSIDE[0], by), hops, "{by:?}");
        }
        daemon.stop();
    }
}

#[test]
fn small_mtus_are_found_beyond_and_at_the_gateway() {
    for (arm, beyond) in [(Arm::Two, true), (Arm::One, true), (Arm::Two, false)] {
        let Some(gateway) = Gateway::new(arm, Load::Light) else { return };
        let lab = &gateway.lab;
        let (host, outside) = (&lab.servers[0], &lab.client);
        let mut config = gateway.config().replace("mss_clamp: path", "mss_clamp: off");
        if beyond {
            gateway.narrow(1300);
        } else {
            config = config
                .replace("iface=wan0,framecnt=4096\"", "iface=wan0,framecnt=4096\", mtu: 1300");
        }
        let nginx = Nginx::start_in(lab, outside, "web", OUTSIDE[0]);
        let daemon = Daemon::start_with(lab, &config);
        let inner = Capture::start(lab, host, "eth0", "icmp");
        let told = host.run("tracepath", &["-n", OUTSIDE[0]]).ok().stdout;
        assert!(told.contains("pmtu 1300"), "{told}");
        host.ip(&["route", "flush", "cache"]);
        if !beyond {
            pings_are_cut(&gateway);
        }
        let file = lab.path("1MB");
        fs::write(&file, vec![0xa5; 1 << 20]).unwrap();
        let url = format!("http://{}/uploads/1MB", OUTSIDE[0]);
        curl(host, &["-m", "10", "-T", file.to_str().unwrap(), &url]).ok();
        assert_eq!(sha256(&nginx.files.join("uploads/1MB")), sha256(&file));
        let inner = inner.stop();
        inner.assert_checksums();
        let rows = inner.fields("icmp.type == 3 && icmp.code == 4", &["ip.src", "icmp.mtu"]);
        let teller = match (arm, beyond) {
            (Arm::Two, true) => "203.0.113.1",
            (Arm::One, _) => "192.168.1.253",
            (Arm::Two, false) => "10.0.0.1",
        };
        assert!(!rows.is_empty());
        for row in rows {
            // The outer source is who tells; the inner one is the host itself again.
            assert_eq!(row[0], format!("{teller},{}", gateway.inside()[0]));
            assert_eq!(row[1], "1300");
        }
        daemon.stop();
    }
}

/// RFC 4787 REQ-13 a: who lets its packets be cut is not told of a small MTU.
fn pings_are_cut(gateway: &Gateway) {
    let lab = &gateway.lab;
    let outer = Capture::start(lab, &lab.client, "eth0", "icmp");
    // Answers are not: they are sent whole, and too large for our interface.
    let size = ["-c", "2", "-i", "0.2", "-W", "1", "-s", "1400", "-M", "dont", OUTSIDE[0]];
    let _unanswered = lab.servers[0].run("ping", &size);
    let outer = outer.stop();
    let towards = format!("ip.flags.mf == 1 && ip.dst == {}", OUTSIDE[0]);
    let cut = outer.fields(&towards, &["ip.len"]);
    assert_eq!(cut.len(), 2, "{cut:?}");
    let whole = outer.fields("icmp.type == 8", &["ip.len"]);
    assert_eq!(whole.len(), 2, "tshark has put both together: {whole:?}");
}

#[test]
fn the_mss_is_clamped_to_the_way_out() {
    let Some(gateway) = Gateway::new(Arm::Two, Load::Light) else { return };
    let lab = &gateway.lab;
    let config = gateway
        .config()
        .replace("iface=wan0,framecnt=4096\"", "iface=wan0,framecnt=4096\", mtu: 1400");
    let _nginx = Nginx::start_in(lab, &lab.client, "web", OUTSIDE[0]);
    let daemon = Daemon::start_with(lab, &config);
    let inner = Capture::start(lab, &lab.servers[0], "eth0", "tcp");
    let outer = Capture::start(lab, &lab.client, "eth0", "tcp");
    http_get(&lab.servers[0], &format!("http://{}/", OUTSIDE[0]));
    let (inner, outer) = (inner.stop(), outer.stop());
    outer.assert_checksums();
    inner.assert_checksums();
    let mss = |captured: &crate::common::Captured| {
        let mut all = captured.fields("tcp.flags.syn == 1", &["tcp.options.mss_val"]).concat();
        all.sort();
        all
    };
    assert_eq!(mss(&inner), ["1360", "1460"], "the host's own, and that of the answer");
    assert_eq!(mss(&outer), ["1360", "1460"]);
    daemon.stop();
}

#[test]
fn an_idle_connection_outlives_the_short_timers() {
    let Some(gateway) = Gateway::new(Arm::Two, Load::Light) else { return };
    let lab = &gateway.lab;
    let (host, outside) = (&lab.servers[0], &lab.client);
    let daemon = Daemon::start_with(lab, &gateway.config());
    let short = "tcp_syn=1s tcp_closing=1s tcp_closed=1s udp=1s udp_oneway=1s icmp=1s";
    let mut change = vec!["snat", "set", "office"];
    short.split(' ').for_each(|timeout| change.extend(["--timeout", timeout]));
    daemon.ctl.run(&change);

    let listener = listen(outside, "192.0.2.80:22");
    let mut client = connect(host, "192.0.2.80:22").unwrap();
    let (mut server, _) = accept_one(&listener);
    let (asker, answerer) = (udp(host, "0.0.0.0:0"), udp(outside, "192.0.2.80:53"));
    exchange(&asker, &answerer, "192.0.2.80:53");
    assert_eq!(ping(host, OUTSIDE[0], 1, &[]), 1);
    wait_until("all three are counted", Duration::from_secs(3), || daemon.conns_opened() >= 3);
    wait_until("all but TCP are forgotten", Duration::from_secs(8), || daemon.conns() == 1);
    thread::sleep(Duration::from_secs(2));
    let mut got = [0; 4];
    client.write_all(b"echo").unwrap();
    server.read_exact(&mut got).unwrap();
    server.write_all(&got).unwrap();
    client.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"echo");
    let mappings = daemon.ctl.json(&["snat", "mappings"]);
    assert_eq!(mappings["mappings"].as_array().unwrap().len(), 1, "{mappings}");
    drop((client, server));
    wait_until("TCP is forgotten", Duration::from_secs(8), || daemon.conns() == 0);
    daemon.stop();
}

/// All hosts of the seed are on one wire. A packet from one to another comes by the gateway only if a
/// host's routes are odd; then it is passed on as it is.
#[test]
fn a_subnet_speaks_within_itself_as_ever() {
    let Some(gateway) = Gateway::new(Arm::One, Load::Light) else { return };
    let lab = &gateway.lab;
    let (host, jump) = (&lab.servers[0], &lab.servers[1]);
    let daemon = Daemon::start_with(lab, &gateway.config());
    let seen = Capture::start(lab, host, "eth0", "icmp");
    for neighbour in ["192.168.1.201", "192.168.1.203", "192.168.1.253"] {
        assert_eq!(ping(host, neighbour, 3, &[]), 3, "{neighbour}");
    }
    // The gateway itself, by its own address and by the one that floats.
    for address in ["192.168.1.202", "192.168.1.200"] {
        assert_eq!(ping(jump, address, 3, &[]), 3, "{address}");
    }
    assert_eq!(daemon.conns(), 0);
    host.ip(&["route", "add", "192.168.1.201/32", "via", "192.168.1.200"]);
    let (asker, answerer) = (udp(host, "0.0.0.0:0"), udp(jump, "192.168.1.201:53"));
    let (peer, _) = exchange(&asker, &answerer, "192.168.1.201:53");
    assert_eq!(peer.ip().to_string(), "192.168.1.204", "not translated");
    assert_ne!(daemon.counter("packet.forwarded"), 0);
    assert_eq!(daemon.conns(), 0);
    let outside = udp(&lab.client, "192.0.2.80:53");
    let (peer, _) = exchange(&asker, &outside, "192.0.2.80:53");
    assert_eq!(peer.ip().to_string(), "192.168.1.200", "to the Internet it is");
    assert_eq!(seen.stop().count("icmp.type == 5"), 0, "an ICMP redirect");
    daemon.stop();
}
