//! The programs that people use to try a load balancer, and what they say.

use std::net::IpAddr;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::lab::Lab;
use super::namespace::Namespace;
use super::process::{Finished, Running, run, wait_until};

/// `curl` with arguments added to those that make it quiet and bounded.
#[track_caller]
pub fn curl(namespace: &Namespace, arguments: &[&str]) -> Finished {
    let mut all = vec!["-sS", "--fail", "--connect-timeout", "5", "--max-time", "60"];
    all.extend_from_slice(arguments);
    namespace.run("curl", &all)
}

/// The body at a URL, over a connection of its own.
#[track_caller]
pub fn http_get(namespace: &Namespace, url: &str) -> String {
    curl(namespace, &["-H", "Connection: close", url]).ok().stdout
}

/// SHA-256 of a file, in hexadecimal.
#[track_caller]
pub fn sha256(file: &Path) -> String {
    let out = run(Command::new("sha256sum").arg(file)).ok().stdout;
    out.split_whitespace().next().unwrap().to_owned()
}

/// What `wrk` counted.
#[derive(Debug)]
pub struct Wrk {
    pub requests: u64,
    /// Its lines on socket errors and on answers other than 2xx and 3xx; empty if there were none.
    pub errors: Vec<String>,
}

impl Wrk {
    /// `connections` at once for `seconds`, from one thread.
    #[track_caller]
    pub fn run(namespace: &Namespace, connections: u32, seconds: u32, arguments: &[&str]) -> Self {
        let (connections, seconds) = (format!("-c{connections}"), format!("-d{seconds}s"));
        let mut all = vec!["-t1", &connections, &seconds, "--timeout", "30s"];
        all.extend_from_slice(arguments);
        let out = namespace.run("wrk", &all).ok().stdout;
        let line = out.lines().find(|line| line.contains(" requests in ")).expect("a summary");
        let requests = line.split_whitespace().next().unwrap().parse().unwrap();
        let errors = out
            .lines()
            .filter(|line| line.contains("Socket errors") || line.contains("Non-2xx"))
            .map(str::to_owned)
            .collect();
        Self { requests, errors }
    }
}

/// `iperf3 -s` in a namespace, for one client.
#[track_caller]
pub fn iperf3_server(lab: &Lab, namespace: &Namespace) -> Running {
    let mut command = namespace.command("iperf3");
    command.args(["-s", "-1", "--forceflush"]);
    let mut process =
        Running::start(&mut command, &lab.dir, &format!("iperf3-{}", namespace.name()));
    process.wait_for_log("Server listening", Duration::from_secs(20));
    process
}

/// The summary of `iperf3 -c`, as its JSON gives it.
#[track_caller]
pub fn iperf3_client(namespace: &Namespace, vip: &str, arguments: &[&str]) -> Value {
    let mut all = vec!["-J", "-c", vip, "--connect-timeout", "5000"];
    all.extend_from_slice(arguments);
    let out = namespace.run("iperf3", &all).ok().stdout;
    serde_json::from_str(&out).unwrap()
}

/// Replies to `count` echo requests sent quickly.
#[track_caller]
pub fn ping(namespace: &Namespace, address: &str, count: u32, arguments: &[&str]) -> u32 {
    let count = count.to_string();
    let mut all = vec!["-n", "-q", "-c", &count, "-i", "0.01", "-W", "2"];
    all.extend_from_slice(arguments);
    all.push(address);
    let out = namespace.run("ping", &all).stdout;
    let received = out.split(", ").find_map(|part| part.strip_suffix(" received"));
    received.unwrap_or_else(|| panic!("no summary in {out:?}")).parse().unwrap()
}

/// The addresses that `traceroute` sees, hop by hop; `*` where nobody answered.
#[track_caller]
pub fn traceroute(namespace: &Namespace, address: &str, arguments: &[&str]) -> Vec<String> {
    let mut all = vec!["-n", "-q", "3", "-w", "2", "-m", "5"];
    all.extend_from_slice(arguments);
    all.push(address);
    let out = namespace.run("traceroute", &all).ok().stdout;
    let hop = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        words.find(|word| word.parse::<IpAddr>().is_ok()).unwrap_or("*").to_owned()
    };
    out.lines().skip(1).map(hop).collect()
}

/// Puts frames on an interface byte for byte, as no socket of the kernel would.
pub struct Injector {
    socket: UnixDatagram,
    path: PathBuf,
    #[expect(dead_code, reason = "runs as long as the injector lives")]
    process: Running,
}

impl Injector {
    /// Opens `interface` of a namespace for injection.
    #[track_caller]
    pub fn start(lab: &Lab, namespace: &Namespace, interface: &str) -> Self {
        let path = lab.path(&format!("{interface}.inject"));
        let mut command = namespace.command("socat");
        command.args(["-u", "-b", "65536"]);
        command.arg(format!("UNIX-RECV:{}", path.display())).arg(format!("INTERFACE:{interface}"));
        let process =
            Running::start(&mut command, &lab.dir, &format!("socat-{}", namespace.name()));
        wait_until("socat listens", Duration::from_secs(20), || path.exists());
        Self { socket: UnixDatagram::unbound().unwrap(), path, process }
    }

    /// Sends one frame.
    #[track_caller]
    pub fn send(&self, frame: &[u8]) {
        self.socket.send_to(frame, &self.path).unwrap();
    }
}
