//! Packets as an independent witness saw them.

use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use super::lab::Lab;
use super::namespace::Namespace;
use super::process::{Running, run};

/// tcpdump on one interface, read by tshark afterwards.
pub struct Capture {
    process: Running,
    file: PathBuf,
}

impl Capture {
    /// Starts capturing what `filter` (tcpdump's grammar) lets through, and waits until it does.
    #[track_caller]
    pub fn start(lab: &Lab, namespace: &Namespace, interface: &str, filter: &str) -> Self {
        let name = format!("{}-{interface}", namespace.name());
        let file = lab.path(&format!("{name}.pcap"));
        let mut command = namespace.command("tcpdump");
        command.args([
            "-i",
            interface,
            "-n",
            "-U",
            "--immediate-mode",
            "-B",
            "32768",
            "-s",
            "2048",
            "-Z",
            "root",
            "-w",
        ]);
        command.arg(&file).arg(filter);
        let mut process = Running::start(&mut command, &lab.dir, &format!("tcpdump-{name}"));
        process.wait_for_log("listening on", Duration::from_secs(20));
        Self { process, file }
    }

    /// Ends the capture. What passed before this call is in it.
    #[track_caller]
    pub fn stop(mut self) -> Captured {
        thread::sleep(Duration::from_millis(200));
        self.process.signal(Signal::INT);
        self.process.wait(Duration::from_secs(20));
        let log = self.process.log();
        assert!(log.contains("0 packets dropped by kernel"), "the capture has holes:\n{log}");
        Captured { file: self.file.clone() }
    }
}

/// A capture that is complete.
pub struct Captured {
    file: PathBuf,
}

impl Captured {
    /// The values of `fields` (tshark's names) of each packet that `filter` (tshark's grammar) selects.
    #[track_caller]
    pub fn fields(&self, filter: &str, fields: &[&str]) -> Vec<Vec<String>> {
        let mut command = Command::new("tshark");
        command.arg("-r").arg(&self.file).args([
            "-n",
            "-Y",
            filter,
            "-T",
            "fields",
            "-E",
            "separator=|",
        ]);
        // The checksums that the kernel and we wrote are judged by neither of us.
        for protocol in ["ip", "tcp", "udp"] {
            command.args(["-o", &format!("{protocol}.check_checksum:TRUE")]);
        }
        for field in fields {
            command.args(["-e", field]);
        }
        let out = run(&mut command).ok().stdout;
        out.lines().map(|line| line.split('|').map(str::to_owned).collect()).collect()
    }

    /// How many packets `filter` selects.
    #[track_caller]
    pub fn count(&self, filter: &str) -> usize {
        self.fields(filter, &["frame.number"]).len()
    }

    /// Fails if any checksum in it is wrong, or if there is nothing to judge.
    #[track_caller]
    pub fn assert_checksums(&self) {
        assert_ne!(self.count("ip || ipv6"), 0, "nothing captured in {}", self.file.display());
        // An ICMP error quotes the beginning of a packet: its TCP checksum cannot be judged.
        let wrong = self.fields(
            "ip.checksum.status == \"Bad\" || icmp.checksum.status == \"Bad\" || \
             icmpv6.checksum.status == \"Bad\" || \
             !icmp && !icmpv6 && (tcp.checksum.status == \"Bad\" || udp.checksum.status == \"Bad\")",
            &["frame.number", "ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "frame.protocols"],
        );
        assert!(wrong.is_empty(), "wrong checksums in {}: {wrong:?}", self.file.display());
    }
}
