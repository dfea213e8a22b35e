//! One check of one server.

mod dns;
mod http;
mod icmp;
mod script;
mod socket;
mod tls;
mod udp;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use config::{CheckType, Health};
use tokio::time::timeout;
use types::{Endpoint, L4Port};

/// How the kernel reaches a server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Way {
    /// From this address.
    pub source: Option<IpAddr>,
    /// By this interface of the kernel's.
    pub device: Option<String>,
    /// In this network namespace, a name or a path.
    pub netns: Option<String>,
}

/// A server that is checked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Its address and port.
    pub server: Endpoint,
    /// How it is checked.
    pub check: Arc<Health>,
    /// How it is reached.
    pub way: Way,
}

impl Target {
    /// The address and port that are asked; port 0 where there is none.
    pub fn asked(&self) -> Endpoint {
        let address = self.check.address.unwrap_or(self.server.address);
        let l4_port = match self.check.kind {
            CheckType::Icmp | CheckType::Script => L4Port(0),
            _ => self.check.port.map_or(self.server.l4_port, L4Port),
        };
        Endpoint { address, l4_port }
    }

    fn socket_address(&self) -> SocketAddr {
        let asked = self.asked();
        SocketAddr::new(asked.address, asked.l4_port.0)
    }
}

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server is well: what it answered.
    Passed(String),
    /// It is not: why.
    Failed(String),
    /// Nobody knows, since the check could not be made: why. The server stays what it was.
    Unknown(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Passed(text) | Self::Failed(text) | Self::Unknown(text)) = self;
        f.write_str(text)
    }
}

/// What keeps a check from passing.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The server.
    Server(String),
    /// This machine.
    Local(String),
}

impl Fault {
    fn server(text: impl Into<String>) -> Self {
        Self::Server(text.into())
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        use rustix::io::Errno;
        let text = plain(&error);
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(
                Errno::MFILE
                | Errno::NFILE
                | Errno::NOBUFS
                | Errno::NOMEM
                | Errno::ADDRNOTAVAIL
                | Errno::ADDRINUSE
                | Errno::NODEV
                | Errno::PERM
                | Errno::ACCESS
                | Errno::AFNOSUPPORT
                | Errno::AGAIN
                | Errno::NETDOWN,
            ) => Self::Local(text),
            _ => Self::Server(text),
        }
    }
}

/// An error without its number.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((text, _)) => lower(text),
        None => lower(&text),
    }
}

fn lower(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |c| c.to_lowercase().chain(letters).collect())
}

/// What the server answered that passed.
pub(crate) type Answer = Result<String, Fault>;

/// Makes the check, once.
pub(crate) async fn probe(target: &Target) -> Outcome {
    let limit = target.check.timeout.into();
    let asked = async {
        match target.check.kind {
            CheckType::Tcp => tcp(target).await,
            CheckType::Http => http::ask(target, None).await,
            CheckType::Https => http::ask(target, Some(tls::connector())).await,
            CheckType::Udp => udp::ask(target).await,
            CheckType::Icmp => icmp::ask(target).await,
            CheckType::Dns => dns::ask(target).await,
            CheckType::Script => script::run(target).await,
        }
    };
    match timeout(limit, asked).await {
        Ok(Ok(answer)) => Outcome::Passed(answer),
        Ok(Err(Fault::Server(why))) => Outcome::Failed(why),
        Ok(Err(Fault::Local(why))) => Outcome::Unknown(why),
        // Where silence is what is hoped for, it was.
        Err(_) if udp::may_be_silent(&target.check) => Outcome::Passed("not refused".to_owned()),
        Err(_) => Outcome::Failed(format!("no answer in {}", target.check.timeout)),
    }
}

async fn tcp(target: &Target) -> Answer {
    drop(socket::connect(target).await?);
    Ok("connected".to_owned())
}
