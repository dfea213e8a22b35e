//! What the end-to-end tests share: namespaces, processes in them, and the programs that talk.
//!
//! A test makes a [`Lab`], starts servers and a [`Daemon`] in it, and lets clients talk. Everything is
//! undone by `Drop`, also when the test panics; what it wrote is kept then, and its place is printed.

use std::fs;
use std::path::{Path, PathBuf};

mod agent;
mod capture;
mod daemon;
mod gateway;
mod lab;
mod namespace;
mod process;
mod raw_tcp;
mod servers;
mod sockets;
mod stun;
mod tags;
mod tools;

pub use agent::{Agent, dptoa};
pub use capture::{Capture, Captured};
pub use daemon::{Ctl, Daemon, api, dpnatd};
pub use gateway::{Gateway, OUTSIDE};
pub use lab::{Arm, Lab, Load};
pub use namespace::Namespace;
pub use process::{Running, run, wait_until};
pub use raw_tcp::RawTcp;
pub use servers::{Nginx, Who, haproxy};
pub use sockets::{abort, accept_one, connect, connect_from, exchange, listen, udp};
pub use stun::{judged, stun_server};
pub use tags::tag;
pub use tools::{
    Injector, Wrk, curl, http_get, iperf3_client, iperf3_server, ping, sha256, traceroute,
};

/// Adds the files with an extension below a folder.
pub fn files(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|is| is == extension) {
            found.push(path);
        }
    }
}
