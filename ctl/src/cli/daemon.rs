//! Verbs of the configuration, statistics, the log, and questions about packets.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use config::{Duration, LogLevel};

use super::values::{AddressAndPort, TcpFlags, one_of};

/// How statistics are shown.
#[derive(Clone, Debug, Default, Args)]
pub struct StatsArgs {
    /// Print rates, each over this time, instead of totals
    #[arg(short, long, value_name = "DURATION")]
    pub interval: Option<Duration>,
    /// Print so many rates and end
    #[arg(short, long, value_name = "NUMBER", requires = "interval",
        value_parser = clap::value_parser!(u32).range(1..))]
    pub count: Option<u32>,
}

/// Chooses counters.
#[derive(Clone, Debug, Default, Args)]
pub struct CountersArgs {
    /// Leave out those that are 0
    #[arg(long)]
    pub nonzero: bool,
    /// Of this worker only; else the sum over all
    #[arg(long, value_name = "NUMBER")]
    pub worker: Option<u16>,
}

/// A file that changes what runs.
#[derive(Clone, Debug, Args)]
pub struct ApplyArgs {
    /// The file, in YAML or JSON; `-` reads standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// Make the sections that the file has equal to it, instead of adding to them
    #[arg(long)]
    pub prune: bool,
    /// Say what would change and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// A file that is compared with what runs.
#[derive(Clone, Debug, Args)]
pub struct DiffArgs {
    /// The file, in YAML or JSON; `-` reads standard input [default: the daemon's own]
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// What `apply --prune` would change
    #[arg(long, requires = "file")]
    pub prune: bool,
}

/// Where the configuration goes.
#[derive(Clone, Debug, Args)]
pub struct ExportArgs {
    /// Write to this file [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// What is done with the daemon's own configuration file.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum ConfigVerb {
    /// Print the configuration that runs
    Show,
    /// Write the configuration that runs to the daemon's file
    Save,
}

/// A packet that is asked about.
#[derive(Clone, Debug, Args)]
pub struct ExplainArgs {
    /// The interface that it arrives on
    #[arg(long = "in", value_name = "INTERFACE")]
    pub dev: String,
    /// Its source, with the port or without
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    pub from: AddressAndPort,
    /// Its destination; the port only for TCP and UDP
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    pub to: AddressAndPort,
    /// Its protocol
    #[arg(long, default_value = "tcp",
        value_parser = clap::builder::PossibleValuesParser::new(["tcp", "udp", "icmp"]))]
    pub protocol: String,
    /// Its TCP flags, as in syn,ack or SA [default: syn]
    #[arg(long)]
    pub flags: Option<TcpFlags>,
    /// Its time to live [default: 64]
    #[arg(long, value_name = "0-255")]
    pub ttl: Option<u8>,
    /// Length of its payload [default: 0]
    #[arg(long, value_name = "BYTES")]
    pub payload: Option<u16>,
}

/// What is done with the log.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum LogVerb {
    /// Show what is logged
    Show,
    /// Log events from this importance on, until the next start
    #[command(visible_alias = "set")]
    Level(LevelArgs),
}

/// An importance.
#[derive(Clone, Copy, Debug, Args)]
pub struct LevelArgs {
    /// The least important events that are logged
    #[arg(value_parser = one_of::<LogLevel>(&["error", "warn", "info", "debug", "trace"]))]
    pub level: LogLevel,
}

/// A shell.
#[derive(Clone, Debug, Args)]
pub struct CompletionArgs {
    /// The shell
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(
        ["bash", "elvish", "fish", "powershell", "zsh"]))]
    pub shell: String,
}
