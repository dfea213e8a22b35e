//! The two topologies: a client, the balancer, two real servers, and the switch between them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;

use serde_json::{Value, json};

use super::namespace::{Namespace, WORKER_CPU};

/// How the balancer stands in the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arm {
    /// `wan0` towards the client, `lan0` towards the servers.
    Two,
    /// Clients' gateway, VIP, LIPs and servers on `lan0`.
    One,
}

/// Whether a test bears others beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Mostly waits; others may run at the same time.
    Light,
    /// Moves so much that others would disturb it, and it them.
    Heavy,
}

static MACHINE: RwLock<()> = RwLock::new(());
static LABS: AtomicUsize = AtomicUsize::new(0);
static SKIPPED: AtomicUsize = AtomicUsize::new(0);

enum Guard {
    Shared(#[expect(dead_code, reason = "held")] RwLockReadGuard<'static, ()>),
    Alone(#[expect(dead_code, reason = "held")] RwLockWriteGuard<'static, ()>),
}

/// Namespaces wired up, and a directory for what runs in them. See [`Lab::config`] for the addresses.
pub struct Lab {
    pub client: Namespace,
    pub balancer: Namespace,
    pub servers: [Namespace; 2],
    switch: Namespace,
    pub arm: Arm,
    pub dir: PathBuf,
    #[expect(dead_code, reason = "the machine is given back last")]
    guard: Guard,
}

/// Where the client is: on `wan0`'s network, or (one-arm) behind a gateway on `lan0`'s.
const CLIENT: [&str; 2] = ["203.0.113.100", "192.0.2.100"];
const VIP: [&str; 2] = ["203.0.113.10", "198.18.0.100"];

impl Lab {
    /// A lab, or `None` (said aloud) if namespaces cannot be made because we are not root.
    pub fn new(arm: Arm, load: Load) -> Option<Self> {
        let lab = Self::unwired(arm, load)?;
        lab.wire();
        Some(lab)
    }

    /// The same without links and addresses: for topologies of other files.
    pub fn unwired(arm: Arm, load: Load) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
            let test = thread::current().name().unwrap_or("test").to_owned();
            // Past the capture of the test harness: a skipped test must not look like a passed one.
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED {test}: network namespaces need root ({count} skipped so far)"
            );
            return None;
        }
        Namespace::sweep();
        let guard = match load {
            Load::Light => Guard::Shared(MACHINE.read().unwrap_or_else(|lock| lock.into_inner())),
            Load::Heavy => Guard::Alone(MACHINE.write().unwrap_or_else(|lock| lock.into_inner())),
        };
        let id = format!("dpnat-{}-{}", std::process::id(), LABS.fetch_add(1, Ordering::Relaxed));
        let namespace = |role: &str| Namespace::create(format!("{id}-{role}"));
        let dir = std::env::temp_dir().join(&id);
        std::fs::create_dir(&dir).unwrap();
        let switch = namespace("switch");
        // A switch that looks after multicast speaks by itself, and tests count frames.
        let quiet = ["mcast_snooping", "0"];
        let bridge = ["link", "add", "switch", "type", "bridge"];
        switch.ip(&[&bridge[..], &quiet[..]].concat());
        switch.ip(&["link", "set", "switch", "up"]);
        Some(Self {
            client: namespace("client"),
            balancer: namespace("balancer"),
            servers: [namespace("rs1"), namespace("rs2")],
            switch,
            arm,
            dir,
            guard,
        })
    }

    /// Links an interface of a namespace to the switch, where its name is `name`.
    pub fn plug(&self, namespace: &Namespace, interface: &str, name: &str) {
        namespace.link(interface, &self.switch, name);
        self.switch.ip(&["link", "set", name, "master", "switch"]);
    }

    fn wire(&self) {
        let plug = |namespace: &Namespace, interface: &str, name: &str| {
            self.plug(namespace, interface, name);
        };
        plug(&self.balancer, "lan0", "balancer");
        for (index, server) in self.servers.iter().enumerate() {
            plug(server, "eth0", &format!("rs{}", index + 1));
            let address = format!("{}/24", self.server_address(index));
            server.ip(&["addr", "add", &address, "dev", "eth0"]);
        }
        match self.arm {
            Arm::Two => {
                self.balancer.link("wan0", &self.client, "eth0");
                self.client.ip(&["addr", "add", "203.0.113.100/24", "dev", "eth0"]);
            }
            Arm::One => {
                // The client's namespace is its own gateway: its address is not on the wire's network,
                // and only the balancer has a route back to it.
                plug(&self.client, "eth0", "client");
                self.client.ip(&["addr", "add", "198.18.0.254/24", "dev", "eth0"]);
                self.client.ip(&["addr", "add", "192.0.2.100/32", "dev", "lo"]);
                self.client.ip(&[
                    "route",
                    "add",
                    "198.18.0.100",
                    "dev",
                    "eth0",
                    "src",
                    "192.0.2.100",
                ]);
            }
        }
    }

    /// The client's address.
    pub fn client_address(&self) -> &'static str {
        CLIENT[self.arm as usize]
    }

    /// The address of the service.
    pub fn vip(&self) -> &'static str {
        VIP[self.arm as usize]
    }

    /// The address of a real server, by its index.
    pub fn server_address(&self, index: usize) -> String {
        format!("198.18.0.{}", 121 + index)
    }

    /// The URL of a path at the service.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.vip())
    }

    /// The balancer's interface on the client's side, and the one on the servers' side.
    pub fn interfaces(&self) -> (&'static str, &'static str) {
        match self.arm {
            Arm::Two => ("wan0", "lan0"),
            Arm::One => ("lan0", "lan0"),
        }
    }

    /// A configuration: service `web`, VIP:80 over TCP to both servers in turn. A test changes what it
    /// is about.
    pub fn config(&self) -> Value {
        let (wan, lan) = self.interfaces();
        let mut interfaces = json!({});
        for (index, name) in [lan, wan].into_iter().enumerate() {
            interfaces[name] = json!({ "device": self.device(index, name) });
        }
        let mut addresses = vec![
            json!({ "address": format!("{}/32", self.vip()), "dev": wan }),
            json!({ "address": "198.18.0.1/24", "dev": lan }),
        ];
        let mut routes = Vec::new();
        match self.arm {
            Arm::Two => addresses.push(json!({ "address": "203.0.113.2/24", "dev": wan })),
            Arm::One => routes.push(json!({ "to": "default", "via": "198.18.0.254", "dev": lan })),
        }
        json!({
            "version": 1,
            "memory": "128MiB",
            "hugepages": "off",
            "workers": { "cpus": WORKER_CPU.to_string(), "idle": "adaptive" },
            "conntrack": { "max_connections": 65536 },
            "interfaces": interfaces,
            "addresses": addresses,
            "routes": routes,
            "local_address_pools": { "lan": { "addresses": ["198.18.0.10-198.18.0.13"], "dev": lan } },
            "services": { "web": {
                "vips": [format!("{}:80", self.vip())],
                "protocol": "tcp",
                "scheduler": "rr",
                "mode": "fullnat",
                "servers": [{ "address": "198.18.0.121:80" }, { "address": "198.18.0.122:80" }],
                "local_pool": "lan",
            } },
        })
    }

    /// A DPDK device on an interface, with room for more frames than by default (512): on a machine
    /// with two cores a worker may have to wait for its turn.
    pub fn device(&self, index: usize, interface: &str) -> String {
        format!("net_af_packet{index},iface={interface},framecnt=4096")
    }

    /// A path in the lab's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("kept for you to look at: {}", self.dir.display());
        } else {
            remove(&self.dir);
        }
    }
}

fn remove(dir: &Path) {
    if let Err(error) = std::fs::remove_dir_all(dir) {
        eprintln!("{}: {error}", dir.display());
    }
}
