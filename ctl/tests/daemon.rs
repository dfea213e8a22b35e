//! A daemon that answers with what it was given, and remembers what it was asked.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use api::{ErrorBody, Operation};
use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde_json::{Value, json};

/// What a run of `dpctl` came to.
#[derive(Debug)]
pub struct Finished {
    /// The exit code.
    pub code: u8,
    /// What it printed.
    pub out: String,
    /// What it complained about.
    pub err: String,
}

/// Runs `dpctl` with the words of a line, and a socket.
pub fn dpctl_at(socket: &str, line: &str, width: Option<u16>) -> Finished {
    let mut words: Vec<_> = vec!["--socket".into(), socket.into()];
    words.extend(line.split_whitespace().map(Into::into));
    let build = ctl::Build { version: "1.2.3", commit: "0123456789ab" };
    let terminal = ctl::Terminal { width, ..ctl::Terminal::default() };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = ctl::run(build, &words, terminal, &mut out, &mut err);
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Finished { code, out: text(out), err: text(err) }
}

type Asked = Arc<Mutex<Vec<String>>>;

/// The daemon. It ends with the test.
pub struct Daemon {
    dir: tempfile::TempDir,
    asked: Asked,
}

impl Daemon {
    /// One that answers every operation as an idle daemon would.
    pub fn new() -> Self {
        Self::answering(|operation, _| Ok(answer(operation)))
    }

    /// One that refuses everything.
    pub fn refusing(body: ErrorBody) -> Self {
        Self::answering(move |_, _| Err(body.clone()))
    }

    /// One that answers as it is told. The second argument is the request's query.
    pub fn answering(
        answer: impl Fn(Operation, &str) -> Result<Value, ErrorBody> + Send + Sync + 'static,
    ) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let asked = Asked::default();
        let listener =
            std::os::unix::net::UnixListener::bind(dir.path().join("sock")).expect("a socket");
        listener.set_nonblocking(true).expect("a socket that does not block");
        let (remembered, answer) = (Arc::clone(&asked), Arc::new(answer));
        let router = Router::new().fallback(move |request: Request| {
            let (remembered, answer) = (Arc::clone(&remembered), Arc::clone(&answer));
            async move { respond(request, &remembered, &*answer).await }
        });
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
            runtime.expect("a runtime").block_on(async {
                let listener = tokio::net::UnixListener::from_std(listener).expect("a listener");
                axum::serve(listener, router).await.expect("served");
            });
        });
        Self { dir, asked }
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("sock")
    }

    /// Runs `dpctl` with the words of a line.
    pub fn dpctl(&self, line: &str) -> Finished {
        dpctl_at(self.socket().to_str().expect("UTF-8"), line, None)
    }

    /// The same on a terminal so wide.
    pub fn dpctl_on_terminal(&self, line: &str, width: u16) -> Finished {
        dpctl_at(self.socket().to_str().expect("UTF-8"), line, Some(width))
    }

    /// What it was asked since the last call: method, path and query, body.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().expect("no panic while asked"))
    }
}

async fn respond(
    request: Request,
    remembered: &Mutex<Vec<String>>,
    answer: &(dyn Fn(Operation, &str) -> Result<Value, ErrorBody> + Send + Sync),
) -> impl IntoResponse + use<> {
    let (head, body) = request.into_parts();
    let body: Bytes = axum::body::to_bytes(body, usize::MAX).await.expect("a body");
    let line = format!("{} {} {}", head.method, head.uri, String::from_utf8_lossy(&body));
    remembered.lock().expect("no panic before").push(line.trim_end().to_owned());
    let operations = Operation::ALL.iter().filter(|operation| {
        let same = |(pattern, given): (&str, &str)| pattern == given || pattern.starts_with('{');
        operation.method().eq_ignore_ascii_case(head.method.as_str())
            && operation.path().split('/').count() == head.uri.path().split('/').count()
            && operation.path().split('/').zip(head.uri.path().split('/')).all(same)
    });
    // What a path says outright goes before what is named in it, as in the daemon.
    let operation = operations.min_by_key(|operation| operation.path().matches('{').count());
    let operation = *operation.unwrap_or_else(|| panic!("no operation for {}", head.uri));
    match answer(operation, head.uri.query().unwrap_or_default()) {
        Ok(Value::String(text)) => (StatusCode::OK, text),
        Ok(value) => (StatusCode::OK, value.to_string()),
        Err(body) => (
            StatusCode::from_u16(body.status()).expect("a status"),
            serde_json::to_string(&body).expect("JSON"),
        ),
    }
}

fn version() -> Value {
    json!({ "version": "1.2.3", "commit": "0123456789ab", "dpdk": "DPDK 24.11.3", "api": "v1" })
}

fn traffic(active: u64) -> Value {
    json!({
        "active": active, "inactive": 1, "connections": 202, "refused": 3,
        "in_packets": 75_423, "in_bytes": 110_000_000, "out_packets": 80_001, "out_bytes": 4_321,
    })
}

/// A service with two real servers and two LIPs.
pub fn service(name: &str) -> Value {
    json!({
        "name": name,
        "config": {
            "vips": ["203.0.113.10:80", "203.0.113.11:80"], "protocol": "tcp", "scheduler": "mh",
            "servers": "web", "local_pool": "lan",
            "timeouts": { "tcp_established": "2h" },
            "persistence": { "timeout": "5m", "prefix": 24 },
        },
        "servers": [
            { "address": "198.18.0.121:80", "weight": 100, "effective_weight": 100,
              "admin": "enabled", "limits": { "upper": 5000 }, "group": "web", "leaving": false,
              "traffic": traffic(7) },
            { "address": "198.18.0.122:80", "weight": 100, "effective_weight": 0,
              "admin": "drain", "limits": {}, "group": "web", "leaving": false,
              "traffic": traffic(0) },
        ],
        "lips": [
            { "address": "198.18.0.10", "dev": "lan0", "pool": "lan", "connections": 4 },
            { "address": "198.18.0.11", "dev": "lan0", "pool": "lan", "connections": 3 },
        ],
        "traffic": traffic(7),
    })
}

/// An interface.
fn link(name: &str, up: bool) -> Value {
    json!({
        "name": name, "device": format!("net_af_packet0,iface={name}"), "driver": "net_af_packet",
        "mac": "02:00:00:00:00:01", "mtu": 1500, "up": up,
        "speed_mbps": 10_000, "duplex": "full", "rx_queues": 1, "tx_queues": 2,
        "rx_descriptors": 1024, "tx_descriptors": 1024,
        "steering": "one worker: it owns every conn",
        "kni": {
            "name": format!("{name}.kni"), "netns": "edge", "addresses": ["198.18.0.5"],
            "stats": {
                "to_kernel_packets": 120, "to_kernel_dropped": 1, "from_kernel_packets": 1,
                "from_kernel_dropped": 0,
            },
        },
        "stats": {
            "rx_packets": 75_423, "rx_bytes": 110_000_000, "rx_missed": 1, "rx_errors": 2,
            "rx_no_buffer": 3, "tx_packets": 80_001, "tx_bytes": 4_321, "tx_errors": 4,
        },
    })
}

fn connection(number: u64) -> Value {
    json!({
        "protocol": "tcp", "state": "established", "service": "shop",
        "client": format!("192.0.2.7:{}", 50_000 + number), "vip": "203.0.113.10:80",
        "lip": format!("198.18.0.10:{}", 1024 + number), "server": "198.18.0.121:80",
        "worker": 0, "age_ms": 62_000, "idle_ms": 1_500, "expires_in_ms": 898_500,
    })
}

/// A page of conns, with a next one if `next`.
pub fn connections(numbers: std::ops::Range<u64>, next: Option<&str>) -> Value {
    json!({ "connections": numbers.map(connection).collect::<Vec<_>>(), "next": next })
}

/// A rule of source NAT with everything that it shows.
fn snat() -> Value {
    json!({
        "name": "office", "position": 2, "mappings": 5, "traffic": traffic(7),
        "accepted": 11, "dropped": 0, "exhausted": 4, "limited": 1, "filtered": 9,
        "config": {
            "match": {
                "source": ["10.0.0.0/8", "192.168.1.5-192.168.1.9"], "out_dev": "wan0",
                "except": { "destination": ["100.64.0.0/10"], "protocol": ["vrrp"] },
            },
            "wan_addresses": [
                "203.0.113.20-203.0.113.27", { "address": "203.0.113.40", "admin": "drain" },
            ],
            "limits": { "ports": 2000, "new_sessions_per_second": 50 },
            "mss_clamp": "path",
        },
    })
}

fn snat_accepting() -> Value {
    json!({
        "name": "partner", "position": 1, "mappings": 0, "traffic": traffic(0),
        "accepted": 800, "dropped": 0, "exhausted": 0, "limited": 0, "filtered": 0,
        "config": { "match": { "destination": ["192.0.2.0/24"] }, "action": "accept" },
    })
}

fn mapping(number: u64) -> Value {
    json!({
        "protocol": "udp", "inside": format!("10.0.0.7:{}", 50_000 + number),
        "outside": format!("203.0.113.20:{}", 1024 + number), "rule": "office",
        "connections": 2, "age_ms": 62_000, "worker": 0,
    })
}

/// A page of mappings, with a next one if `next`.
pub fn mappings(numbers: std::ops::Range<u64>, next: Option<&str>) -> Value {
    json!({ "mappings": numbers.map(mapping).collect::<Vec<_>>(), "next": next })
}

fn dnat(name: &str, to: Value) -> Value {
    json!({
        "name": name, "traffic": traffic(2), "exhausted": 1, "limited": 2, "filtered": 8,
        "config": {
            "on": "203.0.113.20:10106", "protocol": "tcp", "to": to, "source": ["192.0.2.0/24"],
        },
    })
}

/// A port forward to several servers.
pub fn web() -> Value {
    let server = |address: &str, weight: u16| {
        json!({ "address": address, "weight": weight, "effective_weight": weight,
                "admin": "enabled", "limits": {}, "leaving": false, "traffic": traffic(1) })
    };
    let mut web = dnat("web", json!(["10.0.0.5:80", { "address": "10.0.0.6:80", "weight": 2 }]));
    web["servers"] = json!([server("10.0.0.5:80", 1), server("10.0.0.6:80", 2)]);
    web
}

/// What the daemon answers about NAT.
fn nat(operation: Operation) -> Option<Value> {
    Some(match operation {
        Operation::SnatList => json!([snat_accepting(), snat()]),
        Operation::SnatGet => snat(),
        Operation::SnatMappings => mappings(0..2, None),
        Operation::SnatSubscriber => json!({
            "address": "10.0.0.7", "worker": 0,
            "usage": [{
                "rule": "office", "wan_address": "203.0.113.20", "ports": 12, "sessions": 40,
                "new_sessions_left": 48,
                "limits": { "ports": 2000, "new_sessions_per_second": 50 },
            }],
        }),
        Operation::SnatPools => json!([{
            "address": "203.0.113.20", "rules": ["office"], "weight": 1, "admin": "enabled",
            "leaving": false,
            "ports": [
                { "protocol": "tcp", "capacity": 64_512, "taken": 32_000, "resting": 256 },
                { "protocol": "udp", "capacity": 64_512, "taken": 0, "resting": 0 },
            ],
        }]),
        Operation::DnatList => json!([dnat("ssh", json!("172.16.102.6:22")), web()]),
        Operation::DnatGet => dnat("ssh", json!("172.16.102.6:22")),
        Operation::ForwardingGet => json!({
            "policy": "auto", "accepts": true, "reverse_path": "strict", "silent": ["wan0"],
            "forwarded": 75_423,
            "denied": 3, "reverse_path_drops": 1,
            "rules": [{
                "name": "smb", "position": 1, "packets": 3, "bytes": 180,
                "config": {
                    "match": { "protocol": ["tcp"], "destination_ports": [445] },
                    "action": "reject",
                },
            }],
        }),
        _ => return None,
    })
}

/// What an idle daemon answers.
pub fn answer(operation: Operation) -> Value {
    let done = json!({ "warnings": [], "generation": 13 });
    match operation {
        Operation::Status => json!({
            "version": version(), "state": "running", "pid": 1234, "uptime_ms": 192_000,
            "config_file": "/etc/dpnat/dpnat.yaml", "config_differs": true, "generation": 12,
            "workers": 1, "interfaces": 2, "interfaces_up": 1, "services": 1, "servers": 2,
            "connections": 7, "connections_ipv6": 2, "max_connections": 1_000_000,
            "max_connections_ipv6": 500_000,
            "problems": ["wan0 has no link"],
        }),
        Operation::Version => version(),
        Operation::ConfigGet => "version: 1\nservices:\n  shop: {}\n".into(),
        Operation::ConfigApply | Operation::ConfigDiff => json!({
            "changes": [
                { "path": "memory", "kind": "changed", "old": "512MiB", "new": "1GiB",
                  "effect": "restart" },
                { "path": "services.shop.scheduler", "kind": "changed", "old": "wlc", "new": "rr",
                  "effect": "new-connections" },
                { "path": "services.old", "kind": "removed", "effect": "live",
                  "old": { "vips": ["203.0.113.10:81"], "protocol": "udp" } },
                { "path": "services.shop.limits.max_connections", "kind": "added", "new": 10,
                  "effect": "live" },
            ],
            "warnings": [{ "path": "services.shop", "message": "has no real server" }],
            "at_restart": ["memory"], "generation": 13,
        }),
        Operation::ConfigSave => json!({ "path": "/etc/dpnat/dpnat.yaml", "bytes": 1536 }),
        Operation::AddressList => json!([
            { "address": "203.0.113.10/32", "dev": "wan0", "active": "always", "role": "vip" },
            { "address": "198.18.0.1/24", "dev": "lan0", "active": "always", "role": "local" },
            { "address": "2001:db8::1/64", "dev": "wan0", "active": "always", "role": "local" },
        ]),
        Operation::RouteList => json!([
            { "to": "default", "via": "203.0.113.1", "dev": "wan0", "metric": 0, "mtu": 1500,
              "origin": "static" },
            { "to": "198.18.0.0/24", "dev": "lan0", "metric": 0, "src": "198.18.0.1",
              "mtu": 1500, "origin": "connected" },
            { "to": "198.18.0.1/32", "dev": "lan0", "metric": 0, "mtu": 1500, "origin": "local" },
        ]),
        Operation::NeighbourList => json!([
            { "address": "203.0.113.1", "dev": "wan0", "mac": "02:00:00:00:00:01",
              "state": "reachable", "confirmed_ms_ago": 3_000 },
            { "address": "198.18.0.121", "dev": "lan0", "mac": "02:00:00:00:00:02",
              "state": "permanent" },
            { "address": "198.18.0.122", "dev": "lan0", "state": "failed",
              "confirmed_ms_ago": 120_000 },
        ]),
        Operation::LinkList => json!([link("lan0", true), link("wan0", false)]),
        Operation::LinkGet => link("wan0", true),
        Operation::ServiceList => json!([service("shop"), service("web-2")]),
        Operation::ServiceGet => service("shop"),
        Operation::ConnectionList => connections(0..2, None),
        Operation::ConnectionDelete => json!({ "closed": 7 }),
        Operation::Stats => stats(),
        Operation::CounterList => json!([
            { "name": "sent", "value": 80_001, "help": "Handed to the NIC, which took it." },
            { "name": "drop.no-service", "value": 3, "help":
              "To an address of ours, but for no service and nobody who listens." },
        ]),
        Operation::WorkerList => json!([{
            "id": 0, "cpu": 1, "generation": 12, "load": 0.255, "loops": 9_000_000,
            "loop_max_us": 812, "stalled": false, "connections": 7, "connections_ipv6": 2,
            "max_connections": 1_000_000, "max_connections_ipv6": 500_000,
            "leases": 7, "rx_packets": 155_424, "tx_packets": 155_000, "dropped": 3,
        }]),
        Operation::Explain => json!({
            "verdict": "sent", "meaning": "Handed to the NIC, which took it.", "worker": 0,
            "stages": [
                { "stage": "parse", "decision": "TCP SYN 192.0.2.1:40000 to 203.0.113.10:80" },
                { "stage": "lookup", "decision": "no conn has this key" },
                { "stage": "open", "decision": "service shop chooses 198.18.0.121:80" },
            ],
            "plan": { "service": "shop", "server": "198.18.0.121:80", "lip": "198.18.0.10",
                      "next_hop": "198.18.0.121", "dev": "lan0" },
        }),
        Operation::LogGet | Operation::LogSet => json!({ "level": "debug" }),
        other => nat(other).unwrap_or(done),
    }
}

/// Totals of an idle daemon.
fn stats() -> Value {
    let stats = |name: &str| link(name, true)["stats"].clone();
    json!({
        "uptime_ms": 192_000,
        "ledger": {
            "received": 155_424, "generated": 12, "from_rings": 0, "sent": 155_400, "dropped": 3,
            "punted": 5, "answered": 28, "handed": 0, "held": 0, "difference": 0,
        },
        "connections": {
            "current": 7, "current_ipv6": 0, "max": 1_000_000, "max_ipv6": 0,
            "half_open": 0, "established": 6, "closing": 1,
            "opened": 202, "closed": 190, "expired": 5, "evicted": 0, "removed": 0,
        },
        "interfaces": { "lan0": stats("lan0"), "wan0": stats("wan0") },
        "services": { "shop": traffic(7) },
    })
}
