//! `import`: files of DPVS and keepalived.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// What is imported.
#[derive(Clone, Debug, Subcommand)]
pub enum ImportVerb {
    /// A dpvs.conf: devices, workers, tables and times
    Dpvs(ImportDpvs),
    /// A keepalived.conf, DPVS's or the usual one: services, local addresses, NAT rules of its scripts, addresses
    Keepalived(ImportKeepalived),
}

/// A `dpvs.conf`.
#[derive(Clone, Debug, Args)]
pub struct ImportDpvs {
    /// The file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// What comes of it
    #[command(flatten)]
    pub common: ImportCommon,
}

/// A `keepalived.conf`.
#[derive(Clone, Debug, Args)]
pub struct ImportKeepalived {
    /// The file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// What comes of it
    #[command(flatten)]
    pub common: ImportCommon,
    /// Write what stays for a stock keepalived, the VRRP part, to this file
    #[arg(long, value_name = "FILE")]
    pub keepalived: Option<PathBuf>,
    /// The other node's file: what only one of both may have is compared
    #[arg(long, value_name = "FILE")]
    pub peer: Option<PathBuf>,
    /// Go on without what cannot be enforced yet
    #[arg(long, value_enum, value_delimiter = ',', value_name = "LOSS")]
    pub accept_loss: Vec<AcceptedLoss>,
}

/// What holds for all files.
#[derive(Clone, Debug, Args)]
pub struct ImportCommon {
    /// Write the configuration to this file instead of printing it
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// The PCI address or DPDK device string of an interface
    #[arg(long = "device", value_name = "NAME=DEVICE")]
    pub devices: Vec<String>,
}

/// What may be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AcceptedLoss {
    /// Deny and allow lists of services
    Acl,
    /// SYN proxies
    Synproxy,
}
