//! The judge of a NAT's behaviour: coturn's STUN server and its client (RFC 5780).

use std::time::Duration;

use super::gateway::{Gateway, OUTSIDE};
use super::namespace::Namespace;
use super::process::{Running, wait_until};

/// A STUN server on two addresses and two ports, as RFC 5780 wants it.
#[track_caller]
pub fn stun_server(gateway: &Gateway) -> Running {
    let lab = &gateway.lab;
    let mut command = lab.client.command("turnserver");
    command.args(["-n", "--stun-only", "--no-tls", "--no-dtls", "--no-cli", "--log-file=stdout"]);
    command.args(["-L", OUTSIDE[0], "-L", OUTSIDE[1], "--listening-port=3478"]);
    command.args(["--alt-listening-port=3479", "--simple-log"]);
    command.arg(format!("--userdb={}", lab.path("turndb").display()));
    command.arg(format!("--pidfile={}", lab.path("turnserver.pid").display()));
    let mut process = Running::start(&mut command, &lab.dir, "turnserver");
    wait_until("the STUN server listens", Duration::from_secs(10), || {
        assert_eq!(process.ended(), None, "{}", process.log());
        let sockets = lab.client.run("ss", &["-Hlun"]).ok().stdout;
        OUTSIDE.iter().all(|address| {
            ["3478", "3479"].iter().all(|port| sockets.contains(&format!("{address}:{port}")))
        })
    });
    process
}

/// What the judge says about one behaviour: its last sentence about it.
#[track_caller]
pub fn judged(host: &Namespace, option: &str, local: &str) -> String {
    let arguments = [option, "-L", local, OUTSIDE[0]];
    let mut all = vec!["20", "turnutils_natdiscovery"];
    all.extend(arguments);
    host.run("timeout", &all).stdout
}
