//! Proves that
//! - the kernel is reached by its own address on a KNI, and reaches others from there: ping, TCP, both
//!   directions, while FullNAT goes on; MAC and MTU are those of the interface;
//! - each question has one answer: the kernel's stack sees nothing that comes in by the interface under a
//!   device of DPDK, and does so again when the daemon has ended;
//! - an address shared by the path and the kernel works in both directions;
//! - addresses of the kernel are there again after a restart, and nothing is left behind without one;
//! - stock keepalived moves a VIP between two daemons, there and back: at any time one of them answers for
//!   it, and conns that are opened after each move work;
//! - a flood for the kernel is cut, and conns through the balancer do not notice.

use std::fs;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::common::{
    Arm, Capture, Ctl, Daemon, Lab, Load, Namespace, Nginx, Running, Wrk, dpnatd, http_get,
    iperf3_client, iperf3_server, ping, wait_until,
};

/// The kernel's own address on `wan0.kni`.
const KERNEL: &str = "203.0.113.5";
const SOON: Duration = Duration::from_secs(5);

fn with_kni(lab: &Lab) -> Value {
    let mut config = lab.config();
    config["interfaces"]["wan0"]["kni"] = json!("wan0.kni");
    config
}

/// Gives the kernel an address, and waits until the daemon knows.
#[track_caller]
fn hold(lab: &Lab, daemon: &Daemon<'_>, address: &str) {
    lab.balancer.ip(&["addr", "add", &format!("{address}/24"), "dev", "wan0.kni"]);
    await_held(&lab.balancer, daemon, address);
}

#[track_caller]
fn await_held(namespace: &Namespace, daemon: &Daemon<'_>, address: &str) {
    // The kernel takes up to a second to act on a carrier.
    wait_until("the KNI carries", SOON, || {
        let name = namespace.ip(&["-o", "addr", "show", "to", address]);
        let name = name.split_whitespace().nth(1).unwrap_or("lo").to_owned();
        let link = namespace.ip(&["link", "show", "dev", &name]);
        link.contains("LOWER_UP") && !link.contains("state DOWN")
    });
    wait_until("the daemon knows what the kernel holds", SOON, || {
        let link = daemon.ctl.json(&["link", "show", "wan0"]);
        link["kni"]["addresses"].as_array().unwrap().contains(&json!(address))
    });
    // It is told before the workers run it.
    thread::sleep(Duration::from_millis(100));
}

#[test]
fn the_kernel_is_reached_and_reaches_others() {
    let Some(lab) = Lab::new(Arm::Two, Load::Heavy) else { return };
    let _nginx = Nginx::start_all(&lab);
    let daemon = Daemon::start(&lab, &with_kni(&lab));
    hold(&lab, &daemon, KERNEL);
    assert_eq!(lab.balancer.mac("wan0.kni"), lab.balancer.mac("wan0"));
    let link = lab.balancer.ip(&["link", "show", "wan0.kni"]);
    assert!(link.contains("mtu 1500") && link.contains("LOWER_UP"), "{link}");

    let capture = Capture::start(&lab, &lab.client, "eth0", "arp or icmp");
    lab.client.ip(&["neigh", "flush", "dev", "eth0"]);
    assert_eq!(ping(&lab.client, KERNEL, 20, &[]), 20);
    // From the kernel outwards, too.
    assert_eq!(ping(&lab.balancer, lab.client_address(), 20, &["-I", KERNEL]), 20);
    let captured = capture.stop();
    let answers = captured
        .fields(&format!("arp.opcode == 2 && arp.src.proto_ipv4 == {KERNEL}"), &["arp.src.hw_mac"]);
    assert!(!answers.is_empty() && answers.iter().all(|row| row[0] == lab.balancer.mac("wan0")));
    let asked = captured.count(&format!("arp.opcode == 1 && arp.dst.proto_ipv4 == {KERNEL}"));
    assert!(answers.len() <= asked, "{} answers to {asked} questions", answers.len());
    assert_eq!(captured.count("icmp.type == 0"), 40, "one reply to each request");

    // TCP both ways, and FullNAT besides.
    let _server = iperf3_server(&lab, &lab.balancer);
    let told = iperf3_client(&lab.client, KERNEL, &["-n", "20M"]);
    assert!(told["end"]["sum_sent"]["bytes"].as_u64().unwrap() >= 20 << 20);
    let _server = iperf3_server(&lab, &lab.client);
    iperf3_client(&lab.balancer, lab.client_address(), &["-n", "20M", "-B", KERNEL]);
    assert!(http_get(&lab.client, &lab.url("/")).starts_with("rs"));

    // The path's own address: the kernel has what is not the path's.
    hold(&lab, &daemon, "203.0.113.2");
    assert_eq!(ping(&lab.client, "203.0.113.2", 5, &[]), 5);
    assert_eq!(ping(&lab.balancer, lab.client_address(), 5, &["-I", "203.0.113.2"]), 5);
    let _server = iperf3_server(&lab, &lab.balancer);
    iperf3_client(&lab.client, "203.0.113.2", &["-n", "1M"]);

    // What it is said to be is what it is.
    let shown = daemon.ctl.run(&["link", "show", "wan0"]);
    assert!(shown.contains("wan0.kni: 203.0.113.2, 203.0.113.5"), "{shown}");
    let (from, to) = ("203.0.113.100:4000", "203.0.113.5:22");
    let told = daemon.ctl.run(&["explain", "--in", "wan0", "--from", from, "--to", to]);
    assert!(told.contains("the kernel has it"), "{told}");
    daemon.stop();
}

#[test]
fn the_kernels_addresses_outlast_a_restart_and_nothing_else_does() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let daemon = Daemon::start(&lab, &with_kni(&lab));
    hold(&lab, &daemon, KERNEL);
    // One that floats between nodes may be another's by now.
    hold(&lab, &daemon, "203.0.113.6");
    daemon.stop();
    // The interface under DPDK is the kernel's again.
    assert_eq!(ping(&lab.client, KERNEL, 1, &["-W", "1"]), 0);
    lab.balancer.ip(&["addr", "add", "203.0.113.7/24", "dev", "wan0"]);
    assert_eq!(ping(&lab.client, "203.0.113.7", 3, &[]), 3);
    lab.balancer.ip(&["addr", "del", "203.0.113.7/24", "dev", "wan0"]);

    let daemon = Daemon::start_again(&lab);
    await_held(&lab.balancer, &daemon, KERNEL);
    assert_eq!(ping(&lab.client, KERNEL, 3, &[]), 3);
    let addresses = lab.balancer.ip(&["addr", "show", "dev", "wan0.kni"]);
    assert!(!addresses.contains("203.0.113.6"), "{addresses}");
    daemon.stop();
}

#[test]
fn a_kni_may_be_in_another_namespace_and_may_persist() {
    let Some(lab) = Lab::new(Arm::Two, Load::Light) else { return };
    let mut config = lab.config();
    let netns = lab.servers[1].name();
    config["interfaces"]["wan0"]["kni"] =
        json!({ "name": "edge0", "netns": netns, "persist": true });
    let daemon = Daemon::start(&lab, &config);
    lab.servers[1].ip(&["addr", "add", &format!("{KERNEL}/24"), "dev", "edge0"]);
    await_held(&lab.servers[1], &daemon, KERNEL);
    assert_eq!(ping(&lab.client, KERNEL, 3, &[]), 3);
    let shown = daemon.ctl.run(&["link", "show", "wan0"]);
    assert!(shown.contains(&format!("edge0 in {netns}: {KERNEL}")), "{shown}");
    daemon.stop();
    let left = lab.servers[1].ip(&["addr", "show", "dev", "edge0"]);
    assert!(left.contains("NO-CARRIER") && left.contains(KERNEL), "{left}");
    let daemon = Daemon::start_again(&lab);
    await_held(&lab.servers[1], &daemon, KERNEL);
    assert_eq!(ping(&lab.client, KERNEL, 3, &[]), 3);
    daemon.stop();
    lab.servers[1].ip(&["link", "del", "edge0"]);
}

#[test]
fn a_flood_for_the_kernel_hurts_no_conn() {
    let Some(lab) = Lab::new(Arm::Two, Load::Heavy) else { return };
    let _nginx = Nginx::start_all(&lab);
    let daemon = Daemon::start(&lab, &with_kni(&lab));
    hold(&lab, &daemon, KERNEL);
    let socket = lab.client.enter(|| UdpSocket::bind("203.0.113.100:0").unwrap());
    socket.set_broadcast(true).unwrap();
    let stop = AtomicBool::new(false);
    let (wrk, replies) = thread::scope(|scope| {
        scope.spawn(|| {
            // To the kernel, and to all: of the latter it gets 2,000 a second.
            while !stop.load(Ordering::Relaxed) {
                for to in [KERNEL, "203.0.113.255"] {
                    // A full buffer of the sender's is no matter.
                    let _ = socket.send_to(&[0; 64], (to, 9));
                }
            }
        });
        let wrk = Wrk::run(&lab.client, 8, 4, &[&lab.url("/quiet")]);
        let replies = ping(&lab.client, KERNEL, 20, &[]);
        stop.store(true, Ordering::Relaxed);
        (wrk, replies)
    });
    assert_eq!(wrk.errors, Vec::<String>::new());
    assert!(wrk.requests > 100, "{wrk:?}");
    assert!(replies > 0, "the kernel is cut off");
    assert!(daemon.counter("drop.punt-limit") > 0, "there was no flood");
    assert_eq!(daemon.counter("drop.tx-full"), 0);
    daemon.stop();
}

/// One of two daemons on one network, with a keepalived beside it.
struct Node<'l> {
    lab: &'l Lab,
    namespace: &'l Namespace,
    name: &'static str,
    priority: u32,
    ctl: Ctl,
    daemon: Running,
}

const VIP: &str = "198.18.0.100";

impl<'l> Node<'l> {
    fn start(lab: &'l Lab, namespace: &'l Namespace, number: u32) -> Self {
        let name = ["first", "second"][number as usize];
        lab.plug(namespace, "lan0", name);
        let own = format!("198.18.0.{}/24", 1 + number);
        let lips = format!("198.18.0.{0}0-198.18.0.{0}3", 1 + number);
        let mut config = lab.config();
        config["interfaces"] =
            json!({ "lan0": { "device": lab.device(0, "lan0"), "kni": "lan0.kni" } });
        config["addresses"] = json!([
            { "address": own, "dev": "lan0" },
            { "address": format!("{VIP}/32"), "dev": "lan0", "active": "with-kernel" },
        ]);
        config["routes"] = json!([]);
        config["local_address_pools"]["lan"] = json!({ "addresses": [lips], "dev": "lan0" });
        config["services"]["web"]["vips"] = json!([format!("{VIP}:80")]);
        let path = |suffix: &str| lab.path(&format!("{name}.{suffix}"));
        fs::write(path("yaml"), config.to_string()).unwrap();
        let mut command = namespace.bare_command(dpnatd());
        command.arg("--config").arg(path("yaml")).arg("--socket").arg(path("sock"));
        command.env("DPNAT_STATE", path("state"));
        let mut daemon = Running::start(&mut command, &lab.dir, name);
        daemon.wait_for_log("dpnatd serves", Duration::from_secs(20));
        // keepalived speaks from an address of the node's own.
        let own = format!("198.18.0.{}/24", 3 + number);
        namespace.ip(&["addr", "add", &own, "dev", "lan0.kni"]);
        let ctl = Ctl::new(&path("sock"));
        Self { lab, namespace, name, priority: 150 - 50 * number, ctl, daemon }
    }

    fn path(&self, suffix: &str) -> PathBuf {
        self.lab.path(&format!("{}.{suffix}", self.name))
    }

    /// Debian's keepalived with nothing but a VIP to move.
    fn keepalived(&self) -> Running {
        let priority = self.priority;
        let conf = format!(
            "global_defs {{\n  vrrp_version 3\n}}\nvrrp_instance vip {{\n  state BACKUP\n  \
             interface lan0.kni\n  virtual_router_id 51\n  priority {priority}\n  advert_int 0.2\n  \
             virtual_ipaddress {{\n    {VIP}/32 dev lan0.kni\n  }}\n}}\n"
        );
        fs::write(self.path("keepalived.conf"), conf).unwrap();
        let mut command = self.namespace.command("keepalived");
        command.args(["--dont-fork", "--log-console", "--log-detail", "--vrrp"]);
        command.arg("--use-file").arg(self.path("keepalived.conf"));
        command.arg("--pid").arg(self.path("keepalived.pid"));
        command.arg("--vrrp_pid").arg(self.path("vrrp.pid"));
        Running::start(&mut command, &self.lab.dir, &format!("keepalived-{}", self.name))
    }

    fn mac(&self) -> String {
        self.namespace.mac("lan0")
    }

    fn has_vip(&self) -> bool {
        let list = self.ctl.json(&["address", "show"]);
        let mut entries = list.as_array().unwrap().iter();
        entries.any(|entry| entry["address"] == format!("{VIP}/32") && entry["role"] == "vip")
    }

    fn stop(mut self) {
        self.daemon.signal(Signal::TERM);
        assert_eq!(self.daemon.wait(Duration::from_secs(10)), 0, "{}", self.daemon.log());
        let links = self.namespace.ip(&["-br", "link"]);
        assert!(!links.contains("lan0.kni"), "{links}");
    }
}

/// The VIP is with `owner`: asked ten times, one answer each, and a service behind it.
#[track_caller]
fn serves(lab: &Lab, owner: &Node<'_>) {
    wait_until("the VIP has moved", Duration::from_secs(10), || owner.has_vip());
    let told = lab.client.run("arping", &["-d", "-i", "eth0", "-c", "10", "-W", "0.05", VIP]);
    assert_eq!(told.code, 0, "{}\n{}", told.stdout, told.stderr);
    assert!(told.stdout.contains(&owner.mac()), "{}", told.stdout);
    lab.client.ip(&["neigh", "flush", "dev", "eth0"]);
    for _ in 0..4 {
        assert!(http_get(&lab.client, &format!("http://{VIP}/")).starts_with("rs"));
    }
}

#[test]
fn stock_keepalived_moves_a_vip_and_nobody_answers_twice() {
    let Some(lab) = Lab::unwired(Arm::One, Load::Heavy) else { return };
    lab.plug(&lab.client, "eth0", "client");
    lab.client.ip(&["addr", "add", "198.18.0.200/24", "dev", "eth0"]);
    let server = &lab.servers[0];
    lab.plug(server, "eth0", "rs1");
    server.ip(&["addr", "add", "198.18.0.121/24", "dev", "eth0"]);
    server.ip(&["addr", "add", "198.18.0.122/24", "dev", "eth0"]);
    let _nginx = Nginx::start(&lab, 0);
    let first = Node::start(&lab, &lab.balancer, 0);
    let second = Node::start(&lab, &lab.servers[1], 1);
    assert!(!first.has_vip() && !second.has_vip());

    let capture = Capture::start(&lab, &lab.client, "eth0", "arp or vrrp");
    let mut keepalived = first.keepalived();
    let other = second.keepalived();
    serves(&lab, &first);
    assert!(!second.has_vip());
    // Ordered down it says so; dropped it is missed.
    keepalived.signal(Signal::TERM);
    keepalived.wait(Duration::from_secs(10));
    serves(&lab, &second);
    assert!(!first.has_vip());
    let keepalived = first.keepalived();
    serves(&lab, &first);
    assert!(!second.has_vip());
    let captured = capture.stop();

    // Whoever spoke for the VIP, in order: each node for a time, and never one amid the other's.
    let spoke =
        captured.fields(&format!("arp.src.proto_ipv4 == {VIP}"), &["arp.src.hw_mac", "eth.src"]);
    assert!(spoke.iter().all(|row| row[0] == row[1]), "{spoke:?}");
    let mut turns: Vec<&str> = spoke.iter().map(|row| row[0].as_str()).collect();
    turns.dedup();
    assert_eq!(turns, [&first.mac(), &second.mac(), &first.mac()], "{spoke:?}");
    assert!(captured.count("vrrp") > 10);
    drop((keepalived, other));
    first.stop();
    second.stop();
}
