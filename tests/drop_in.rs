//! Proves of DPVS's commands, called by their own names, that
//! - the IPv4 commands of a published DPVS set-up run as they are written there, section by section, and
//!   that ping and curl then get answers, from behind a router and on link;
//! - `addr show`, `route show`, `-ln` and `-G` then have the lines that it shows;
//! - what exists is refused with DPVS's text and exit status;
//! - rates of traffic are not nought;
//! - `ipvsadm -S | ipvsadm -C && ipvsadm -R` gives back the same configuration, names and pools too.

use std::io::Write;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::common::{Arm, Daemon, Lab, Load, Namespace, Nginx, connect, curl, ping};

/// Section 1.2 of the set-up: the commands, to be counted.
const SECTION_1_2: [&str; 7] = [
    "dpip addr add 10.0.96.204/32 dev dpdk2",
    "dpip route add 10.0.96.0/24 dev dpdk2",
    "dpip route add 192.168.229.0/24 dev dpdk0",
    "dpip route add default via 10.0.96.254 dev dpdk2",
    "ipvsadm -A -t 10.0.96.204:80 -s rr",
    "ipvsadm -a -t 10.0.96.204:80 -r 192.168.229.1 -b",
    "ipvsadm --add-laddr -z 192.168.229.204 -t 10.0.96.204:80 -F dpdk0",
];

/// What it shows then, in the layout of 1.10.2; addresses and routes in no order.
const SHOWN_1_2: [(&str, &[&str]); 4] = [
    (
        "dpip route show",
        &[
            "inet 192.168.229.204/32 via 0.0.0.0 src 0.0.0.0 dev dpdk0 mtu 1500 tos 0 scope host metric 0 proto auto",
            "inet 10.0.96.204/32 via 0.0.0.0 src 0.0.0.0 dev dpdk2 mtu 1500 tos 0 scope host metric 0 proto auto",
            "inet 10.0.96.0/24 via 0.0.0.0 src 0.0.0.0 dev dpdk2 mtu 1500 tos 0 scope link metric 0 proto auto",
            "inet 192.168.229.0/24 via 0.0.0.0 src 0.0.0.0 dev dpdk0 mtu 1500 tos 0 scope link metric 0 proto auto",
            "inet 0.0.0.0/0 via 10.0.96.254 src 0.0.0.0 dev dpdk2 mtu 1500 tos 0 scope global metric 0 proto auto",
        ],
    ),
    (
        "dpip addr show",
        &[
            "inet 192.168.229.204/32 scope global dpdk0",
            "     valid_lft forever preferred_lft forever",
            "inet 10.0.96.204/32 scope global dpdk2",
            "     valid_lft forever preferred_lft forever",
        ],
    ),
    (
        "ipvsadm -ln",
        &[
            "IP Virtual Server version 1.10.2 (size=0)",
            "Prot LocalAddress:Port Scheduler Flags",
            "  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn",
            "TCP  10.0.96.204:80 rr",
            "  -> 192.168.229.1:80             FullNat 1      0          0",
        ],
    ),
    (
        "ipvsadm -G",
        &[
            "VIP:VPORT            TOTAL    SNAT_IP              CONFLICTS  CONNS",
            "10.0.96.204:80       1",
            "                              192.168.229.204      0          0",
        ],
    ),
];

/// The IPv4 block of section 5.3, on interfaces of these names.
const SECTION_5_3_IPV4: [&str; 3] = [
    "dpip route add 10.0.96.0/24 dev bond2",
    "dpip route add 192.168.229.0/23 dev bond1",
    "dpip route add default via 10.0.96.254 dev bond2",
];

/// A client behind a router, the router on the VIP's link, and a server.
struct Setup {
    lab: Lab,
}

impl Setup {
    fn new(wan: &str, lan: &str) -> Option<Self> {
        let lab = Lab::unwired(Arm::Two, Load::Light)?;
        let [server, router] = &lab.servers;
        lab.plug(server, "eth0", "server");
        server.ip(&["addr", "add", "192.168.229.1/24", "dev", "eth0"]);
        lab.plug(&lab.balancer, lan, "lan");
        lab.balancer.link(wan, router, "eth0");
        router.ip(&["addr", "add", "10.0.96.254/24", "dev", "eth0"]);
        router.link("far", &lab.client, "eth0");
        router.ip(&["addr", "add", "172.16.0.254/24", "dev", "far"]);
        lab.client.ip(&["addr", "add", "172.16.0.1/24", "dev", "eth0"]);
        lab.client.ip(&["route", "add", "default", "via", "172.16.0.254"]);
        router.sysctl("net.ipv4.ip_forward", "1");
        for name in ["dpip", "ipvsadm"] {
            symlink(env!("CARGO_BIN_EXE_dpctl"), lab.path(name)).unwrap();
        }
        Some(Self { lab })
    }

    fn router(&self) -> &Namespace {
        &self.lab.servers[1]
    }

    /// Interfaces and nothing else.
    fn start(&self, wan: &str, lan: &str) -> Daemon<'_> {
        let config = json!({
            "version": 1, "memory": "128MiB", "hugepages": "off",
            "workers": { "cpus": "1", "idle": "adaptive" },
            "conntrack": { "max_connections": 65536 },
            "interfaces": {
                lan: { "device": self.lab.device(0, lan) }, wan: { "device": self.lab.device(1, wan) },
            },
        });
        Daemon::start(&self.lab, &config)
    }

    /// Runs a line by the name of its command. Exit code, standard output, standard error.
    fn run(&self, line: &str) -> (i32, String, String) {
        self.run_with(line, "")
    }

    fn run_with(&self, line: &str, input: &str) -> (i32, String, String) {
        let mut words = line.split_whitespace();
        let mut command = Command::new(self.lab.path(words.next().unwrap()));
        command.args(words).env("DPNAT_SOCKET", self.lab.path("dpnat.sock"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    #[track_caller]
    fn does(&self, line: &str) -> String {
        let (code, out, err) = self.run(line);
        assert_eq!((code, err.as_str()), (0, ""), "{line}");
        out
    }
}

fn trimmed(text: &str) -> Vec<&str> {
    text.lines().map(str::trim_end).collect()
}

#[test]
fn a_published_set_up_runs_as_it_is_written() {
    let Some(setup) = Setup::new("dpdk2", "dpdk0") else { return };
    let lab = &setup.lab;
    let nginx = Nginx::start_in(lab, &lab.servers[0], "rs1", "192.168.229.1");
    let daemon = setup.start("dpdk2", "dpdk0");
    for line in SECTION_1_2 {
        assert_eq!(setup.does(line), "", "{line}");
    }
    for (line, shown) in SHOWN_1_2 {
        let out = setup.does(line);
        let (mut ours, mut theirs) = (trimmed(&out), shown.to_vec());
        if line.starts_with("dpip") {
            ours.sort_unstable();
            theirs.sort_unstable();
        }
        assert_eq!(ours, theirs, "{line}");
    }
    // From behind the router, and on link.
    for client in [&lab.client, setup.router()] {
        assert_eq!(ping(client, "10.0.96.204", 4, &[]), 4);
        let answer = curl(client, &["http://10.0.96.204/"]).ok();
        assert!(answer.stdout.starts_with("rs1 "), "{answer:?}");
    }
    assert_eq!(nginx.requests().len(), 2);
    let links = setup.does("dpip link show");
    assert!(links.contains(": dpdk2: socket 0 mtu 1500 rx-queue 1 tx-queue 1"), "{links}");
    // An open conn is listed.
    let _open = connect(&lab.client, "10.0.96.204:80").unwrap();
    let conns = setup.does("ipvsadm -lnc");
    let open = |line: &str| line.starts_with("[1]tcp ") && line.contains(" 10.0.96.204:80 ");
    assert!(conns.lines().any(open), "{conns}");
    // Each of them once more: it exists.
    for line in SECTION_1_2 {
        let (code, out, err) = setup.run(line);
        let expected = if line.starts_with("dpip") { 1 } else { 253 };
        assert_eq!((code, out.as_str()), (expected, ""), "{line}: {err}");
        assert!(err.contains("already exist(-3)"), "{line}: {err}");
    }
    daemon.assert_whole();
}

#[test]
fn routes_of_a_published_set_up_with_keepalived() {
    let Some(setup) = Setup::new("bond2", "bond1") else { return };
    let daemon = setup.start("bond2", "bond1");
    for line in SECTION_5_3_IPV4 {
        assert_eq!(setup.does(line), "", "{line}");
    }
    assert_eq!(setup.does("dpip route show").lines().count(), 3);
    setup.does("dpip route flush dev bond2");
    assert_eq!(setup.does("dpip route show").lines().count(), 1);
    daemon.assert_whole();
}

#[test]
fn rates_are_those_of_the_traffic() {
    let Some(setup) = Setup::new("dpdk2", "dpdk0") else { return };
    let lab = &setup.lab;
    let _nginx = Nginx::start_in(lab, &lab.servers[0], "rs1", "192.168.229.1");
    let daemon = setup.start("dpdk2", "dpdk0");
    SECTION_1_2.iter().for_each(|line| drop(setup.does(line)));
    let done = AtomicBool::new(false);
    let rates = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                curl(&lab.client, &["http://10.0.96.204/"]).ok();
            }
        });
        let rates = setup.does("ipvsadm -ln --rate");
        done.store(true, Ordering::Relaxed);
        rates
    });
    let line = rates.lines().find(|line| line.starts_with("TCP  10.0.96.204:80")).unwrap();
    let numbers: Vec<u64> =
        line.split_whitespace().skip(2).map(|number| number.parse().unwrap()).collect();
    assert!(numbers.len() == 5 && numbers.iter().all(|number| *number > 0), "{rates}");
    setup.does("ipvsadm -Z");
    let stats = setup.does("ipvsadm -ln --stats");
    let line = stats.lines().find(|line| line.starts_with("TCP  10.0.96.204:80")).unwrap();
    assert_eq!(line.split_whitespace().nth(2), Some("0"), "{stats}");
    daemon.assert_whole();
}

#[test]
fn what_is_saved_is_restored_as_it_was() {
    let Some(setup) = Setup::new("dpdk2", "dpdk0") else { return };
    let daemon = setup.start("dpdk2", "dpdk0");
    SECTION_1_2.iter().for_each(|line| drop(setup.does(line)));
    for line in [
        "ipvsadm -A -u 10.0.96.204:53 -s conhash -p 60 -M 255.255.255.0 --conn-timeout 30",
        "ipvsadm -a -u 10.0.96.204:53 -r 192.168.229.1:53 -b -w 7 -x 100 -y 50",
        "dpip addr add 10.0.96.1/24 dev dpdk2 sapool",
        "ipvsadm -A -s rr -H proto=tcp,src-range=192.168.229.2-192.168.229.100,oif=dpdk2",
        "ipvsadm -a -H proto=tcp,src-range=192.168.229.2-192.168.229.100,oif=dpdk2 -r 10.0.96.1:0 -w 100 -J",
    ] {
        setup.does(line);
    }
    let round_trip = || {
        let before = daemon.ctl.run(&["export"]);
        let saved = setup.does("ipvsadm -Sn");
        setup.does("ipvsadm -C");
        assert_eq!(setup.does("ipvsadm -ln").lines().count(), 3);
        let (code, out, err) = setup.run_with("ipvsadm -R", &saved);
        assert_eq!((code, out.as_str(), err.as_str()), (0, "", ""), "{saved}");
        assert_eq!(daemon.ctl.run(&["export"]), before, "{saved}");
        saved
    };
    let saved = round_trip();
    assert!(!saved.contains("#dpnat"), "the commands say all of it: {saved}");
    // What DPVS's commands cannot say: a name, several VIPs, a pool, a rule with exceptions.
    let more = "local_address_pools: { lan: { addresses: [ 192.168.229.210-192.168.229.219 ], dev: dpdk0 } }\n\
        services: { shop: { vips: [ '10.0.96.205:80', '10.0.96.206:80' ], protocol: tcp, local_pool: lan, \
        servers: [ { address: '192.168.229.1:80', admin: drain } ], timeouts: { tcp_syn: 9s } } }\n\
        snat: { all: { match: { out_dev: dpdk2, except: { destination: [ 100.64.0.0/10 ] } }, \
        wan_addresses: [ 10.0.96.7 ] } }\n";
    std::fs::write(setup.lab.path("more.yaml"), more).unwrap();
    daemon.ctl.run(&["apply", "-f", setup.lab.path("more.yaml").to_str().unwrap()]);
    let saved = round_trip();
    assert!(saved.contains("#dpnat "), "{saved}");
    // A table that is not empty is left alone, and so is all of it if one line is wrong.
    let before = daemon.ctl.run(&["export"]);
    let (code, _, err) = setup.run_with("ipvsadm -R", &saved);
    assert_eq!(code, 253, "{err}");
    let wrong = "-A -t 10.0.96.209:80 -s rr\n-a -t 10.0.96.209:80 -r 192.168.229.1 -g\n";
    let (code, _, err) = setup.run_with("ipvsadm -R", wrong);
    assert_eq!(code, 1);
    assert!(err.starts_with("not supported: line 2: "), "{err}");
    assert_eq!(daemon.ctl.run(&["export"]), before);
    daemon.assert_whole();
}
