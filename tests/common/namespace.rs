//! Network namespaces and the links between them.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Once, OnceLock};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::process::{Finished, run};

/// Where the daemon's worker runs.
pub const WORKER_CPU: usize = 1;

/// A network namespace, deleted with all that runs in it when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    cgroup: OnceLock<PathBuf>,
}

impl Namespace {
    /// Makes one whose kernel sends nothing of its own accord: no IPv6, loopback up.
    #[track_caller]
    pub fn create(name: String) -> Self {
        ip(&["netns", "add", &name]);
        let namespace = Self { name, cgroup: OnceLock::new() };
        namespace.sysctl("net.ipv6.conf.all.disable_ipv6", "1");
        namespace.sysctl("net.ipv6.conf.default.disable_ipv6", "1");
        namespace.ip(&["link", "set", "lo", "up"]);
        namespace
    }

    /// Deletes, once, what test runs that were killed had no time to delete. Their names say who they were.
    pub fn sweep() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            for line in ip(&["netns", "list"]).lines() {
                let name = line.split_whitespace().next().unwrap_or_default();
                let owner = name.strip_prefix("dpnat-").and_then(|rest| rest.split('-').next());
                let dead = |pid: &str| {
                    pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists()
                };
                if owner.is_some_and(dead) {
                    drop(Self { name: name.to_owned(), cgroup: OnceLock::new() });
                }
            }
        });
    }

    /// Its name, as `ip netns` lists it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// From now on commands in this namespace are in a cgroup, too.
    pub fn join(&self, cgroup: &Path) {
        self.cgroup.set(cgroup.to_owned()).expect("in one cgroup already");
    }

    /// A command in this namespace that dies with the test that starts it, and keeps away from the
    /// worker's CPU as long as there is another.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let all = thread::available_parallelism().map_or(1, usize::from);
        let others: Vec<String> = (0..all)
            .filter(|cpu| all == 1 || *cpu != WORKER_CPU)
            .map(|cpu| cpu.to_string())
            .collect();
        let mut command = self.bare_command("taskset");
        command.args(["-c", &others.join(",")]).arg(program.as_ref());
        command
    }

    /// The same on any CPU.
    pub fn bare_command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("ip");
        if let Some(cgroup) = self.cgroup.get() {
            // First the cgroup: in the namespace its file system is hidden.
            command = Command::new("sh");
            command.args(["-c", "echo $$ >\"$0\" && exec \"$@\""]);
            command.arg(cgroup.join("cgroup.procs")).arg("ip");
        }
        command.args(["netns", "exec", &self.name, "setpriv", "--pdeathsig", "KILL", "--"]);
        command.arg(program.as_ref());
        command
    }

    /// Runs a program in this namespace to its end.
    #[track_caller]
    pub fn run(&self, program: &str, arguments: &[&str]) -> Finished {
        run(self.command(program).args(arguments))
    }

    /// `ip` in this namespace, which must succeed; its output.
    #[track_caller]
    pub fn ip(&self, arguments: &[&str]) -> String {
        let mut all = vec!["-n", self.name.as_str()];
        all.extend_from_slice(arguments);
        ip(&all)
    }

    /// Sets a kernel variable of this namespace.
    #[track_caller]
    pub fn sysctl(&self, key: &str, value: &str) {
        self.run("sysctl", &["-qw", &format!("{key}={value}")]).ok();
    }

    /// The Ethernet address of an interface.
    #[track_caller]
    pub fn mac(&self, interface: &str) -> String {
        let text = self.ip(&["-j", "link", "show", "dev", interface]);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        value[0]["address"].as_str().unwrap().to_owned()
    }

    /// Runs `body` on a thread that stands in this namespace; sockets made there stay in it.
    pub fn enter<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        let file = File::open(format!("/run/netns/{}", self.name)).unwrap();
        thread::scope(|scope| {
            let thread = scope.spawn(move || {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                body()
            });
            match thread.join() {
                Ok(value) => value,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// A pair of linked interfaces, `here` in this namespace and `there` in the other, both up.
    ///
    /// A veth leaves checksums and segmentation to hardware that it does not have; the balancer would
    /// see packets that no wire carries. So that is turned off on both ends.
    #[track_caller]
    pub fn link(&self, here: &str, other: &Self, there: &str) {
        ip(&[
            "link",
            "add",
            here,
            "netns",
            &self.name,
            "type",
            "veth",
            "peer",
            "name",
            there,
            "netns",
            &other.name,
        ]);
        for (namespace, interface) in [(self, here), (other, there)] {
            namespace.run("ethtool", &["-K", interface, "tx", "off"]).ok();
            namespace.ip(&["link", "set", interface, "up"]);
        }
    }

    /// Processes that run in it.
    pub fn pids(&self) -> Vec<String> {
        ip(&["netns", "pids", &self.name]).lines().map(str::to_owned).collect()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let pids = run(Command::new("ip").args(["netns", "pids", &self.name]));
        for pid in pids.stdout.lines() {
            run(Command::new("kill").args(["-KILL", pid]));
        }
        run(Command::new("ip").args(["netns", "del", &self.name]));
    }
}

#[track_caller]
fn ip(arguments: &[&str]) -> String {
    run(Command::new("ip").args(arguments)).ok().stdout
}
