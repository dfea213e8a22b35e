//! `dptoa` for the real servers of a lab, in a cgroup and on a bpf file system of their own.
//!
//! The agent sees cgroups of the whole machine, so none of this touches the root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::lab::Lab;
use super::process::{Finished, Running, run, wait_until};

/// The agent's binary, as this build made it.
pub fn dptoa() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_dptoa"))
}

/// A cgroup with all that runs in the servers' namespaces, and a place for pins.
pub struct Agent<'l> {
    lab: &'l Lab,
    /// The cgroup.
    pub cgroup: PathBuf,
    bpf: PathBuf,
    process: Option<Running>,
}

impl<'l> Agent<'l> {
    /// Makes the cgroup and puts the servers' namespaces in it. Nothing is attached yet.
    #[track_caller]
    pub fn new(lab: &'l Lab) -> Self {
        sweep();
        let name = lab.dir.file_name().unwrap();
        let agent =
            Self { lab, cgroup: cgroup_root().join(name), bpf: lab.path("bpf"), process: None };
        fs::create_dir(&agent.cgroup).unwrap();
        fs::create_dir(&agent.bpf).unwrap();
        run(Command::new("mount").args(["-t", "bpf", "bpf"]).arg(&agent.bpf)).ok();
        lab.servers.iter().for_each(|server| server.join(&agent.cgroup));
        agent
    }

    /// Its command line up to what it is to do.
    pub fn command(&self) -> Command {
        let mut command = Command::new(dptoa());
        command.arg("--pins").arg(self.bpf.join("dptoa"));
        command
    }

    /// The command line that runs it for the servers' cgroup.
    pub fn run_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.command();
        command.arg("run").arg("--cgroup").arg(&self.cgroup).args(arguments);
        command
    }

    /// Runs it until it is attached.
    #[track_caller]
    pub fn start(&mut self, arguments: &[&str]) {
        self.start_command(&mut self.run_command(arguments));
    }

    /// The same, by a command line.
    #[track_caller]
    pub fn start_command(&mut self, command: &mut Command) {
        let mut process = Running::start(command, &self.lab.dir, "dptoa");
        process.wait_for_log("attached to", Duration::from_secs(10));
        self.process = Some(process);
    }

    /// The running process.
    pub fn process(&mut self) -> &mut Running {
        self.process.as_mut().expect("it was started")
    }

    /// Ends it by SIGTERM.
    #[track_caller]
    pub fn stop(&mut self) {
        let mut process = self.process.take().expect("it was started");
        process.signal(Signal::TERM);
        assert_eq!(process.wait(Duration::from_secs(10)), 0, "{}", process.log());
    }

    /// Ends it so that it can do nothing about it.
    #[track_caller]
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("it was started");
        process.signal(Signal::KILL);
        process.wait(Duration::from_secs(10));
    }

    /// Makes it start anew by SIGHUP.
    #[track_caller]
    pub fn start_anew(&mut self) {
        let process = self.process();
        let before = process.log().matches("attached to").count();
        process.signal(Signal::HUP);
        wait_until("it is attached anew", Duration::from_secs(10), || {
            process.log().matches("attached to").count() > before
        });
    }

    /// `dptoa status`, whatever comes of it.
    #[track_caller]
    pub fn try_status(&self) -> Finished {
        run(self.command().arg("status"))
    }

    /// `dptoa --json status`.
    #[track_caller]
    pub fn status(&self) -> Value {
        let out = run(self.command().args(["--json", "status"])).ok().stdout;
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error} in {out:?}"))
    }

    /// One of its counters.
    #[track_caller]
    pub fn counter(&self, name: &str) -> u64 {
        self.status()["counters"][name].as_u64().unwrap_or_else(|| panic!("no counter {name}"))
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        drop(self.process.take());
        clean(&self.cgroup, &self.bpf);
    }
}

/// Ends what runs in a cgroup, removes it, and unmounts the pins, by which all is detached.
fn clean(cgroup: &Path, bpf: &Path) {
    let _ = fs::write(cgroup.join("cgroup.kill"), "1");
    for _ in 0..200 {
        if fs::remove_dir(cgroup).is_ok() || !cgroup.exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    run(Command::new("umount").arg(bpf));
}

/// Removes what test runs that were killed had no time to remove.
fn sweep() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for entry in fs::read_dir(cgroup_root()).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap_or_default();
            let owner = name.strip_prefix("dpnat-").and_then(|rest| rest.split('-').next());
            let dead =
                |pid: &str| pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists();
            if owner.is_some_and(dead) {
                clean(&entry.path(), &std::env::temp_dir().join(&name).join("bpf"));
            }
        }
    });
}

fn cgroup_root() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
    mount.expect("a cgroup2 file system").split(' ').nth(1).unwrap().into()
}
