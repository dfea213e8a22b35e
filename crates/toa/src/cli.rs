//! The grammar of `dptoa`, as clap knows it.

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::balancers::Balancers;

const AFTER_HELP: &str = "\
Nothing has to be changed in the servers' programs: accept() and getpeername() give the client's address and \
port. A connection of IPv6 to a program that listens on IPv4 only keeps the balancer's; such a program must \
listen on `[::]` for both families, or ask by getsockopt() (see --getsockopt).

Ended by SIGTERM, dptoa takes its programs out of the kernel. When it is killed or asked by SIGHUP to start \
anew, they stay, and no connection loses its client.

Exit status: 0 done, 1 refused, 2 usage, 4 nothing is attached (status), 5 another dptoa runs.

Examples:
  dptoa check
  dptoa run --balancer 198.18.0.10-198.18.0.13 --balancer 2001:db8:1::/64
  dptoa --json status | jq .counters";

/// Shows a real server its clients' addresses
#[derive(Clone, Debug, Parser)]
#[command(
    name = "dptoa",
    version,
    after_help = AFTER_HELP,
    subcommand_required = true,
    max_term_width = 100,
)]
pub struct Cli {
    /// What holds for all commands.
    #[command(flatten)]
    pub options: Options,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// What holds for all commands.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of all commands")]
pub struct Options {
    /// Print JSON
    #[arg(short, long, global = true)]
    pub json: bool,
    /// Where what stays in the kernel is found again: a directory on a bpf file system
    #[arg(long, value_name = "PATH", global = true, default_value = "/sys/fs/bpf/dptoa")]
    pub pins: PathBuf,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Attach to the kernel and stay until SIGTERM
    Run(Run),
    /// What is attached, whom it believes, and its counters
    Status,
    /// What this kernel can do, and what is missing
    Check(Check),
}

/// How to run.
#[derive(Clone, Debug, Args)]
pub struct Run {
    /// A LIP of the balancer, a prefix or a range of them; from all others option 254 is not believed (may be
    /// given several times)
    #[arg(long = "balancer", value_name = "ADDRESS", required_unless_present = "balancer_file")]
    pub balancers: Vec<Balancers>,
    /// A file with one such address, prefix or range a line; read again on SIGHUP
    #[arg(long, value_name = "FILE")]
    pub balancer_file: Option<PathBuf>,
    /// The cgroup (version 2) whose programs see their clients [default: the root, that is all]
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<PathBuf>,
    /// Answer DPVS's socket option, too (SOL_IP 4096: the IPv6 client of an IPv4 socket); makes each
    /// getsockopt() of all programs a little slower
    #[arg(long)]
    pub getsockopt: bool,
    /// Datagrams, too (services of the balancer with `client_address: option`); makes each packet to a
    /// program a little slower
    #[arg(long)]
    pub udp: bool,
}

/// What to check.
#[derive(Clone, Debug, Args)]
pub struct Check {
    /// The cgroup (version 2) to check [default: the root]
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<PathBuf>,
}

/// The grammar.
pub fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn without_a_balancer_nobody_is_believed_so_it_is_refused() {
        let error = Cli::try_parse_from(["dptoa", "run"]).unwrap_err().to_string();
        assert!(error.contains("--balancer <ADDRESS>"), "{error}");
        let error = Cli::try_parse_from(["dptoa", "run", "--balancer", "198.18.0.1/24"]);
        assert!(error.unwrap_err().to_string().contains("198.18.0.0/24"));
    }
}
