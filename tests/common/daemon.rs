//! `dpnatd` in the balancer's namespace, and `dpctl` and plain HTTP on its socket.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::lab::Lab;
use super::process::{Finished, Running, run, wait_until};

/// Workers show their counts every 10 ms, and later on a busy machine: who asks at once is told old ones.
const PUBLISHED: Duration = Duration::from_millis(50);

/// The daemon's binary, as this build made it.
pub fn dpnatd() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_dpnatd"))
}

/// `dpctl` towards one socket.
#[derive(Clone, Debug)]
pub struct Ctl {
    socket: PathBuf,
}

impl Ctl {
    /// For the daemon at a socket, whether there is one or not.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Runs it, whatever comes of it.
    #[track_caller]
    pub fn try_run(&self, arguments: &[&str]) -> Finished {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dpctl"));
        run(command.args(arguments).env("DPNAT_SOCKET", &self.socket).env("COLUMNS", "120"))
    }

    /// Runs it; it must succeed. What it printed.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> String {
        self.try_run(arguments).ok().stdout
    }

    /// Runs it with `--json`; it must succeed. What it printed, parsed.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["--json"];
        all.extend_from_slice(arguments);
        let out = self.run(&all);
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error} in {out:?}"))
    }
}

/// An API request by curl: method, path, body. The status and the body of the answer.
#[track_caller]
pub fn api(socket: &Path, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "10", "-X", method, "--unix-socket"]).arg(socket);
    command.args(["-w", "\n%{http_code}", "-H", "Content-Type: application/json"]);
    if !body.is_empty() {
        command.args(["--data-binary", body]);
    }
    let out = run(command.arg(format!("http://dpnat{path}"))).ok().stdout;
    let (text, status) = out.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), text.to_owned())
}

/// A running daemon.
pub struct Daemon<'l> {
    lab: &'l Lab,
    process: Running,
    /// Its configuration file.
    pub file: PathBuf,
    /// Its control socket.
    pub socket: PathBuf,
    /// The CLI towards it.
    pub ctl: Ctl,
    buffers_in_use: u64,
    links: String,
}

impl<'l> Daemon<'l> {
    /// Starts it with a configuration and waits until it is ready.
    #[track_caller]
    pub fn start(lab: &'l Lab, config: &Value) -> Self {
        // JSON is YAML.
        Self::start_with(lab, &serde_json::to_string_pretty(config).unwrap())
    }

    /// The same with the text of a configuration.
    #[track_caller]
    pub fn start_with(lab: &'l Lab, config: &str) -> Self {
        fs::write(lab.path("dpnat.yaml"), config).unwrap();
        Self::start_again(lab)
    }

    /// Starts it with the file that is there.
    #[track_caller]
    pub fn start_again(lab: &'l Lab) -> Self {
        let file = lab.path("dpnat.yaml");
        let socket = lab.path("dpnat.sock");
        let links = lab.balancer.ip(&["-br", "link"]);
        let mut process = Running::start(&mut Self::command(lab), &lab.dir, "dpnatd");
        let start = Instant::now();
        while !Self::ready(&socket) {
            let ended = process.ended();
            assert_eq!(ended, None, "dpnatd ended at once:\n{}", process.log());
            assert!(start.elapsed() < Duration::from_secs(20), "not ready:\n{}", process.log());
            sleep(Duration::from_millis(10));
        }
        let ctl = Ctl::new(&socket);
        let mut daemon = Self { lab, process, file, socket, ctl, buffers_in_use: 0, links };
        // What is on its way at the moment, as an announcement is, has its buffer no longer than that.
        wait_until("no buffer is on its way", Duration::from_secs(3), || {
            let before = daemon.counter("buffers.in-use");
            sleep(Duration::from_millis(30));
            daemon.buffers_in_use = daemon.counter("buffers.in-use");
            daemon.buffers_in_use == before
        });
        daemon
    }

    /// The command that starts a daemon with the lab's file and socket.
    pub fn command(lab: &Lab) -> Command {
        let mut command = lab.balancer.bare_command(dpnatd());
        command.arg("--config").arg(lab.path("dpnat.yaml"));
        command.arg("--socket").arg(lab.path("dpnat.sock"));
        command.env("DPNAT_STATE", lab.path("state"));
        command
    }

    fn ready(socket: &Path) -> bool {
        socket.exists() && {
            let mut command = Command::new("curl");
            command.args(["-sf", "--max-time", "2", "--unix-socket"]).arg(socket);
            run(command.arg("http://dpnat/readyz")).code == 0
        }
    }

    /// The process.
    pub fn process(&mut self) -> &mut Running {
        &mut self.process
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// A counter by its name.
    #[track_caller]
    pub fn counter(&self, name: &str) -> u64 {
        sleep(PUBLISHED);
        let counters = self.ctl.json(&["counters"]);
        let counters = counters.as_array().expect("a list of counters");
        let counter = counters.iter().find(|counter| counter["name"] == name);
        counter.unwrap_or_else(|| panic!("no counter {name}"))["value"].as_u64().unwrap()
    }

    /// Conns that the daemon holds now.
    #[track_caller]
    pub fn conns(&self) -> u64 {
        sleep(PUBLISHED);
        self.ctl.json(&["stats"])["connections"]["current"].as_u64().expect("a count of conns")
    }

    /// Conns that it has opened since its start.
    #[track_caller]
    pub fn conns_opened(&self) -> u64 {
        sleep(PUBLISHED);
        self.ctl.json(&["stats"])["connections"]["opened"].as_u64().expect("a count of conns")
    }

    /// Changes the configuration file and asks for it by SIGHUP.
    #[track_caller]
    pub fn reload(&self, config: &Value) {
        fs::write(&self.file, serde_json::to_string_pretty(config).unwrap()).unwrap();
        self.process.signal(Signal::HUP);
    }

    /// Checks that it lost nothing, ends it by SIGTERM, and checks that it leaves nothing.
    #[track_caller]
    pub fn stop(mut self) {
        self.assert_whole();
        self.process.signal(Signal::TERM);
        let code = self.process.wait(Duration::from_secs(10));
        assert_eq!(code, 0, "dpnatd:\n{}", self.process.log());
        self.assert_gone();
    }

    /// Every packet has an end that is counted, and every buffer is back in its pool.
    #[track_caller]
    pub fn assert_whole(&self) {
        let limit = Duration::from_secs(3);
        wait_until("the ledger closes and all buffers are back", limit, || {
            let stats = self.ctl.json(&["stats"]);
            stats["ledger"]["difference"] == 0
                && self.counter("buffers.in-use") == self.buffers_in_use
        });
    }

    /// After its end: no socket, no process, no interface more than before.
    #[track_caller]
    pub fn assert_gone(&self) {
        assert!(!self.socket.exists(), "the socket is left behind");
        assert_eq!(self.lab.balancer.pids(), Vec::<String>::new(), "a process is left behind");
        let links = |text: &str| text.lines().map(name_of).collect::<Vec<_>>();
        assert_eq!(links(&self.lab.balancer.ip(&["-br", "link"])), links(&self.links));
    }
}

fn name_of(line: &str) -> String {
    line.split_whitespace().next().unwrap_or_default().to_owned()
}
