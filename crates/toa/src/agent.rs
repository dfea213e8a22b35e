//! The agent itself: attach, stay, detach.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use ipnet::IpNet;
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::balancers::Balancers;
use crate::cli::Run;
use crate::error::ToaError;
use crate::kernel::{Cgroup, Hook, Kernel};
use crate::link::Link;
use crate::pins::Pins;
use crate::program::Output;

/// What is attached where.
type Links = Vec<(Hook, Link)>;

/// What is attached, for people and programs.
#[derive(Debug, Serialize)]
struct Attached {
    cgroup: String,
    hooks: Vec<&'static str>,
    balancers: Vec<IpNet>,
    mptcp: bool,
}

impl Attached {
    fn text(&self) -> String {
        let balancers: Vec<_> = self.balancers.iter().map(ToString::to_string).collect();
        format!(
            "attached to {} ({}), believing {}{}\n",
            self.cgroup,
            self.hooks.join(", "),
            balancers.join(", "),
            if self.mptcp {
                ""
            } else {
                "; MPTCP connections keep the balancer's address (Linux 5.19 can)"
            }
        )
    }
}

/// Attaches, and stays until it is told to end.
pub(crate) fn run(pins: &Path, run: &Run, output: &mut Output<'_>) -> Result<(), ToaError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let runtime = runtime.map_err(ToaError::io("epoll"))?;
    runtime.block_on(async {
        // Before anything is attached: from here on SIGTERM detaches.
        let mut signals = Signals::new().map_err(ToaError::io("signalfd"))?;
        let balancers = all_balancers(run)?;
        let pins = Pins::hold(pins)?;
        let (attached, links) = attach(&pins, run, balancers)?;
        output.print(&attached, &attached.text())?;
        // systemd takes a service that does not tell for started at once; one that is not systemd's asks nothing.
        if let Some(path) = std::env::var_os("NOTIFY_SOCKET") {
            notify(&path).map_err(ToaError::io(path))?;
        }
        loop {
            if signals.next().await == Wanted::End {
                return pins.detach(&links);
            }
            // What would be refused after the start is found before it.
            let problem = match all_balancers(run) {
                Ok(_) => start_anew().to_string(),
                Err(error) => error.to_string(),
            };
            output.complain(&format!("going on as before: {problem}"));
        }
    })
}

/// Loads, fills, attaches, in this order: nothing is attached by halves.
fn attach(pins: &Pins, run: &Run, balancers: Vec<IpNet>) -> Result<(Attached, Links), ToaError> {
    let cgroup = Cgroup::open(run.cgroup.as_deref())?;
    let hooks = hooks(run);
    let (mut kernel, mptcp) = load(pins, run.udp, &hooks)?;
    kernel.believe(&balancers)?;
    let mut links = Vec::new();
    for hook in hooks {
        links.push((hook, kernel.attach(hook, &cgroup)?));
    }
    pins.take_over(&kernel, &links)?;
    let hooks = links.iter().map(|(hook, _)| hook.name()).collect();
    Ok((Attached { cgroup: cgroup.path.display().to_string(), hooks, balancers, mptcp }, links))
}

fn hooks(run: &Run) -> Vec<Hook> {
    let sockopt = run.getsockopt.then_some(Hook::Sockopt);
    let udp = Hook::UDP.into_iter().filter(|_| run.udp);
    Hook::NEEDED.into_iter().chain(sockopt).chain(udp).collect()
}

/// With MPTCP if the kernel can, without if not.
fn load(pins: &Pins, udp: bool, hooks: &[Hook]) -> Result<(Kernel, bool), ToaError> {
    let maps = pins.maps(udp);
    let load = |multipath| {
        let mut kernel = Kernel::open(multipath, &maps)?;
        hooks.iter().try_for_each(|hook| kernel.load(*hook))?;
        Ok((kernel, multipath))
    };
    load(true).or_else(|error| match error {
        ToaError::Program { .. } => load(false),
        error => Err(error),
    })
}

fn all_balancers(run: &Run) -> Result<Vec<IpNet>, ToaError> {
    let mut all: Vec<IpNet> = Vec::new();
    all.extend(run.balancers.iter().flat_map(Balancers::prefixes));
    if let Some(path) = &run.balancer_file {
        let text = fs::read_to_string(path).map_err(ToaError::io(path))?;
        for (index, line) in text.lines().enumerate() {
            let entry = line.split('#').next().unwrap_or_default().trim();
            if entry.is_empty() {
                continue;
            }
            let balancers: Balancers = entry.parse().map_err(|error| ToaError::BalancerFile {
                path: path.clone(),
                line: index + 1,
                reason: ToString::to_string(&error),
            })?;
            all.extend(balancers.prefixes());
        }
        if all.is_empty() {
            return Err(ToaError::NoBalancer(path.clone()));
        }
    }
    all.sort();
    all.dedup();
    Ok(all)
}

/// Runs the program that now lies where this one was started from, with the same arguments and number. What is
/// attached stays meanwhile. Comes back only if it cannot.
fn start_anew() -> io::Error {
    let mut words = std::env::args_os();
    let program = words.next().unwrap_or_else(|| OsString::from("dptoa"));
    Command::new(program).args(words).exec()
}

/// Tells systemd (sd_notify(3)) that the service is up.
fn notify(path: &OsString) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    socket.send_to_addr(b"READY=1", &address).map(|_| ())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    End,
    StartAnew,
}

struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Wanted {
        tokio::select! {
            _ = self.term.recv() => Wanted::End,
            _ = self.int.recv() => Wanted::End,
            _ = self.hup.recv() => Wanted::StartAnew,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Result<Vec<String>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("balancers");
        fs::write(&path, text).unwrap();
        let run = Run {
            balancers: vec![],
            balancer_file: Some(path),
            cgroup: None,
            getsockopt: false,
            udp: false,
        };
        let all = all_balancers(&run).map_err(|error| error.to_string())?;
        Ok(all.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_file_of_balancers() {
        let text = "# ours\n198.18.0.10-198.18.0.11 # a pair\n\n198.18.0.10/31\n 2001:db8::/64\n";
        assert_eq!(file(text).unwrap(), ["198.18.0.10/31", "2001:db8::/64"]);
        let error = file("198.18.0.10\nlan0\n").unwrap_err();
        assert!(error.contains("balancers:2: lan0 is no address"), "{error}");
        let error = file("# none yet\n").unwrap_err();
        assert!(error.contains("no address in it"), "{error}");
    }
}
