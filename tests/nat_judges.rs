//! Proves of the NAT gateway by what others say of it that
//! - `turnutils_natdiscovery` finds the mapping and filtering that the rule is set to, and hairpinning;
//! - for the same flows it does what the Linux kernel does: the same hosts see the same addresses, and the
//!   same attempts fail with the same errors.

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::net::TcpStream;

use crate::common::{
    Arm, Daemon, Gateway, Load, Nginx, OUTSIDE, accept_one, connect, exchange, http_get, judged,
    listen, ping, stun_server, traceroute, udp,
};

#[test]
fn a_stun_server_finds_the_behaviour_that_is_set() {
    let Some(gateway) = Gateway::new(Arm::Two, Load::Light) else { return };
    let lab = &gateway.lab;
    let _server = stun_server(&gateway);
    let daemon = Daemon::start_with(lab, &gateway.config());
    // UDP of one kind on one address, and of the other kind on another.
    daemon.ctl.run(&["snat", "set", "office", "--wan", "203.0.113.20"]);
    for (mapping, filtering, expected_mapping, expected_filtering) in [
        (
            "endpoint-independent",
            "endpoint-independent",
            "Endpoint Independent",
            "Endpoint Independent",
        ),
        ("endpoint-independent", "address-dependent", "Endpoint Independent", "Address Dependent"),
        (
            "endpoint-independent",
            "address-and-port-dependent",
            "Endpoint Independent",
            "Address and Port Dependent",
        ),
        (
            "address-and-port-dependent",
            "address-and-port-dependent",
            "Address and Port Dependent",
            "Address and Port Dependent",
        ),
    ] {
        let wan = if mapping.starts_with("endpoint") { "203.0.113.20" } else { "203.0.113.21" };
        daemon.ctl.run(&[
            "snat",
            "set",
            "office",
            "--mapping",
            mapping,
            "--filtering",
            filtering,
            "--wan",
            wan,
        ]);
        let told = judged(&lab.servers[0], "-m", "10.0.0.5");
        let wanted = format!("NAT with {expected_mapping} Mapping!");
        assert!(told.contains(&wanted), "{mapping}, {filtering}: {told}");
        let told = judged(&lab.servers[0], "-f", "10.0.0.5");
        let wanted = format!("NAT with {expected_filtering} Filtering!");
        assert!(told.contains(&wanted), "{mapping}, {filtering}: {told}");
    }
    daemon.stop();
}

#[test]
fn a_stun_client_finds_hairpinning() {
    let Some(gateway) = Gateway::new(Arm::Two, Load::Light) else { return };
    let _server = stun_server(&gateway);
    let daemon = Daemon::start_with(&gateway.lab, &gateway.config());
    let told = judged(&gateway.lab.servers[0], "-H", "10.0.0.5");
    assert!(told.contains("successful hairpinning"), "{told}");
    daemon.ctl.run(&["snat", "set", "office", "--hairpin", "off"]);
    let told = judged(&gateway.lab.servers[0], "-H", "10.0.0.5");
    assert!(!told.contains("successful hairpinning"), "switched off: {told}");
    daemon.stop();
}

/// The kernel's way: addresses on the interfaces, forwarding, and a table of nftables for what
/// `conf/nat-gateway.yaml` says.
#[track_caller]
fn kernel_gateway(gateway: &Gateway) {
    let kernel = &gateway.lab.balancer;
    for address in ["203.0.113.2/24", "203.0.113.20/32"] {
        kernel.ip(&["addr", "add", address, "dev", "wan0"]);
    }
    kernel.ip(&["addr", "add", "10.0.0.1/24", "dev", "lan0"]);
    kernel.ip(&["route", "add", "default", "via", "203.0.113.1"]);
    kernel.ip(&["route", "add", "172.16.0.0/12", "via", "10.0.0.254"]);
    kernel.sysctl("net.ipv4.ip_forward", "1");
    kernel.sysctl("net.ipv4.icmp_ratelimit", "0");
    let rules = gateway.lab.path("rules.nft");
    std::fs::write(
        &rules,
        "table ip nat {
          chain out { type nat hook postrouting priority srcnat;
            ip daddr 100.64.0.0/10 return
            ip saddr 10.0.0.0/8 oifname wan0 meta l4proto != vrrp snat to 203.0.113.20
            ip saddr 172.16.0.0/12 oifname wan0 meta l4proto != vrrp snat to 203.0.113.20;
          }
          chain in { type nat hook prerouting priority dstnat;
            ip daddr 203.0.113.20 tcp dport 10106 dnat to 172.16.102.6:22
            ip daddr 203.0.113.20 udp dport 6000-6099 dnat to 10.0.0.5;
          }
        }\n",
    )
    .unwrap();
    kernel.run("nft", &["-f", rules.to_str().unwrap()]).ok();
}

/// What became of an attempt to connect.
fn outcome(attempt: &std::io::Result<TcpStream>) -> String {
    match attempt {
        Ok(stream) => format!("connected to {}", stream.peer_addr().unwrap()),
        Err(error) => format!("{:?}", error.kind()),
    }
}

/// Talks from inside and from outside; what each saw, a line for each case.
#[track_caller]
fn cases(gateway: &Gateway) -> String {
    let Gateway { lab, branch, .. } = gateway;
    let (host, outside) = (&lab.servers[0], &lab.client);
    let mut seen = String::new();
    let mut note = |case: &str, what: String| writeln!(seen, "{case}: {what}").unwrap();
    let _nginx = Nginx::start_in(lab, outside, "web", OUTSIDE[0]);

    let page = http_get(host, &format!("http://{}/", OUTSIDE[0]));
    note("tcp, source", page.rsplit_once(':').unwrap().0.to_owned());
    for port in [8080, 8081] {
        let refused = connect(host, &format!("192.0.2.80:{port}"));
        note("tcp, closed port", outcome(&refused));
    }
    note("tcp, no such host", outcome(&connect(host, "192.0.2.99:80")));
    note("tcp, no such net", outcome(&connect(host, "198.51.100.9:80")));
    let server = udp(outside, "192.0.2.81:53");
    let asker = udp(host, "0.0.0.0:0");
    let (peer, answerer) = exchange(&asker, &server, "192.0.2.81:53");
    note("udp, source", format!("{} {answerer}", peer.ip()));
    for remote in ["192.0.2.81:9", "198.51.100.9:9"] {
        let asker = udp(host, "0.0.0.0:0");
        asker.connect(remote).unwrap();
        asker.send(b"discard").unwrap();
        let error = asker.recv(&mut [0; 8]).map(|_| ErrorKind::Other).unwrap_or_else(|e| e.kind());
        note("udp, error", format!("{remote} {error:?}"));
    }
    note("icmp", ping(host, OUTSIDE[0], 5, &[]).to_string());
    note("icmp, 1400 bytes", ping(host, OUTSIDE[0], 5, &["-s", "1400", "-M", "do"]).to_string());
    note("icmp, nobody", ping(host, "192.0.2.99", 1, &[]).to_string());
    for by in ["-I", "-U", "-T"] {
        note("traceroute", traceroute(host, OUTSIDE[0], &[by]).join(" "));
    }
    let told = host.run("tracepath", &["-n", OUTSIDE[0]]).ok().stdout;
    note("path mtu", told.lines().last().unwrap().trim().to_owned());

    let excepted = udp(outside, "100.64.0.9:53");
    let (peer, answerer) = exchange(&asker, &excepted, "100.64.0.9:53");
    note("excepted, source", format!("{} {answerer}", peer.ip()));

    let ssh = listen(branch, "172.16.102.6:22");
    let forward = connect(outside, "203.0.113.20:10106");
    note("forward, tcp", format!("{} for {}", outcome(&forward), accept_one(&ssh).1.ip()));
    drop(ssh);
    note("forward, closed port", outcome(&connect(outside, "203.0.113.20:10106")));
    let server = udp(host, "10.0.0.5:6007");
    let asker = udp(outside, "192.0.2.80:0");
    let (peer, answerer) = exchange(&asker, &server, "203.0.113.20:6007");
    let same = peer == asker.local_addr().unwrap();
    note("forward, udp", format!("{answerer} own source {same}"));
    let asker = udp(outside, "192.0.2.80:0");
    asker.connect("203.0.113.20:6008").unwrap();
    asker.send(b"discard").unwrap();
    note("forward, udp error", format!("{:?}", asker.recv(&mut [0; 8]).unwrap_err().kind()));
    seen
}

#[test]
fn it_does_what_the_kernel_does() {
    let Some(gateway) = Gateway::new(Arm::Two, Load::Light) else { return };
    gateway.narrow(1400);
    kernel_gateway(&gateway);
    let by_kernel = cases(&gateway);
    drop(gateway);

    let Some(gateway) = Gateway::new(Arm::Two, Load::Light) else { return };
    gateway.narrow(1400);
    let daemon = Daemon::start_with(&gateway.lab, &gateway.config());
    daemon.ctl.run(&["snat", "set", "office", "--wan", "203.0.113.20"]);
    daemon.ctl.run(&[
        "dnat",
        "add",
        "media",
        "--on",
        "203.0.113.20:6000-6099",
        "--protocol",
        "udp",
        "--to",
        "10.0.0.5:6000-6099",
    ]);
    let by_us = cases(&gateway);
    assert!(by_kernel.lines().count() >= 20, "{by_kernel}");
    for (kernel, ours) in by_kernel.lines().zip(by_us.lines()) {
        assert_eq!(ours, kernel, "what the kernel does, in all:\n{by_kernel}\nand we:\n{by_us}");
    }
    assert_eq!(by_us, by_kernel);
    daemon.stop();
}
