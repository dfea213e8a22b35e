//! The networks of `conf/nat-gateway.yaml` and `conf/nat-gateway-one-arm.yaml`: inside hosts, the gateway,
//! the router above it, and a host in the Internet.

use std::fs;
use std::path::Path;

use super::capture::Captured;
use super::lab::{Arm, Lab, Load};
use super::namespace::Namespace;

/// The addresses of the two inside hosts, by [`Arm`].
const INSIDE: [[&str; 2]; 2] = [["10.0.0.5", "10.0.0.6"], ["192.168.1.204", "192.168.1.201"]];
/// The addresses of the host in the Internet.
pub const OUTSIDE: [&str; 2] = ["192.0.2.80", "192.0.2.81"];

/// A gateway's network.
///
/// Two-arm: inside hosts on `lan0`'s link, and behind a router there `branch`, which is 172.16.102.6; one-arm:
/// all of them and the router on one link, `branch` is the stand-by. The outside host is behind the
/// router. It also has addresses that rules except: 100.64.0.9 and 10.8.0.8.
///
/// The router knows the way to inside addresses, so that nothing hides an untranslated packet.
pub struct Gateway {
    /// Of the company that provides the way out.
    pub router: Namespace,
    /// The inside router with a host behind it; one-arm: the stand-by, which does nothing.
    pub branch: Namespace,
    /// The outside host is `client`, the gateway `balancer`, and the inside hosts are `servers`.
    pub lab: Lab,
}

impl Gateway {
    /// A network, or `None` (said aloud) if we are not root.
    pub fn new(arm: Arm, load: Load) -> Option<Self> {
        let lab = Lab::unwired(arm, load)?;
        let beside = |role: &str| Namespace::create(lab.client.name().replace("client", role));
        let gateway = Self { router: beside("router"), branch: beside("branch"), lab };
        gateway.wire_inside();
        gateway.wire_outside();
        Some(gateway)
    }

    fn wire_inside(&self) {
        let Self { router, branch, lab } = self;
        let inside = INSIDE[lab.arm as usize];
        for (index, host) in lab.servers.iter().enumerate() {
            lab.plug(host, "eth0", &format!("host{index}"));
            host.ip(&["addr", "add", &format!("{}/24", inside[index]), "dev", "eth0"]);
        }
        lab.plug(branch, "eth0", "branch");
        match lab.arm {
            Arm::Two => {
                lab.plug(&lab.balancer, "lan0", "gateway");
                lab.balancer.link("wan0", router, "eth0");
                router.ip(&["addr", "add", "203.0.113.1/24", "dev", "eth0"]);
                branch.ip(&["addr", "add", "10.0.0.254/24", "dev", "eth0"]);
                branch.ip(&["addr", "add", "172.16.102.6/32", "dev", "lo"]);
                branch.ip(&["route", "add", "default", "via", "10.0.0.1", "src", "172.16.102.6"]);
                lab.servers.iter().for_each(|host| {
                    host.ip(&["route", "add", "default", "via", "10.0.0.1"]);
                });
            }
            Arm::One => {
                lab.plug(&lab.balancer, "eth0", "gateway");
                lab.plug(router, "eth0", "router");
                router.ip(&["addr", "add", "192.168.1.253/24", "dev", "eth0"]);
                branch.ip(&["addr", "add", "192.168.1.203/24", "dev", "eth0"]);
                lab.servers[0].ip(&["route", "add", "default", "via", "192.168.1.200"]);
            }
        }
    }

    fn wire_outside(&self) {
        let (router, outside) = (&self.router, &self.lab.client);
        router.link("far", outside, "eth0");
        router.ip(&["addr", "add", "192.0.2.1/24", "dev", "far"]);
        for address in OUTSIDE {
            outside.ip(&["addr", "add", &format!("{address}/24"), "dev", "eth0"]);
        }
        outside.ip(&["route", "add", "default", "via", "192.0.2.1"]);
        for address in ["100.64.0.9", "10.8.0.8"] {
            outside.ip(&["addr", "add", &format!("{address}/32"), "dev", "lo"]);
            router.ip(&["route", "add", address, "via", OUTSIDE[0]]);
        }
        if self.lab.arm == Arm::Two {
            for network in ["10.0.0.0/24", "172.16.0.0/12"] {
                router.ip(&["route", "add", network, "via", "203.0.113.2"]);
            }
        }
        router.sysctl("net.ipv4.ip_forward", "1");
        // Traceroute asks faster than this allows.
        router.sysctl("net.ipv4.icmp_ratelimit", "0");
        outside.sysctl("net.ipv4.icmp_ratelimit", "0");
        router.sysctl("net.ipv4.conf.all.send_redirects", "0");
        router.sysctl("net.ipv4.conf.eth0.send_redirects", "0");
    }

    /// The configuration of the topology as it is in `conf/`, with as little memory as a test needs.
    pub fn config(&self) -> String {
        let name = match self.lab.arm {
            Arm::Two => "nat-gateway.yaml",
            Arm::One => "nat-gateway-one-arm.yaml",
        };
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf").join(name);
        let text = fs::read_to_string(file).unwrap();
        // Room for more frames than by default, see `Lab::device`.
        let devices = ["wan0", "lan0", "eth0"].iter().fold(text, |text, name| {
            text.replace(&format!("iface={name}\""), &format!("iface={name},framecnt=4096\""))
        });
        format!(
            "{devices}\nmemory: 128MiB\nhugepages: off\nconntrack: {{ max_connections: 65536 }}\n"
        )
    }

    /// The same for two workers, each with a queue of every interface.
    pub fn config_of_two(&self) -> String {
        let config = self.config().replace("framecnt=4096", "framecnt=4096,qpairs=2");
        assert!(config.contains("cpus: \"1\"") && config.contains("qpairs"), "{config}");
        config.replace("cpus: \"1\"", "cpus: \"0-1\"")
    }

    /// The inside hosts' addresses.
    pub fn inside(&self) -> [&'static str; 2] {
        INSIDE[self.lab.arm as usize]
    }

    /// The address that the outside sees.
    pub fn is_wan_address(&self, address: &str) -> bool {
        match self.lab.arm {
            Arm::Two => ["203.0.113.20", "203.0.113.21"].contains(&address),
            Arm::One => address == "192.168.1.200",
        }
    }

    /// Fails if a packet outside has an inside address, also in what an ICMP error quotes.
    #[track_caller]
    pub fn assert_nothing_inside(&self, captured: &Captured) {
        let filter = match self.lab.arm {
            Arm::Two => "ip.addr == 10.0.0.0/8 || ip.addr == 172.16.0.0/12",
            Arm::One => "ip.addr == 192.168.1.204",
        };
        let rows = captured.fields(filter, &["frame.number", "ip.src", "ip.dst", "_ws.col.info"]);
        assert!(rows.is_empty(), "inside addresses outside: {rows:?}");
    }

    /// Makes the link between the router and the outside host a narrow one.
    pub fn narrow(&self, mtu: u16) {
        let mtu = mtu.to_string();
        self.router.ip(&["link", "set", "far", "mtu", &mtu]);
        self.lab.client.ip(&["link", "set", "eth0", "mtu", &mtu]);
    }
}
