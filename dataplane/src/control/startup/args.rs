//! The command line of `dpnatd`.

use std::path::PathBuf;

use clap::Parser;

/// A userspace L4 load balancer on DPDK.
#[derive(Clone, Debug, PartialEq, Eq, Parser)]
#[command(name = "dpnatd", version, about, long_about = None)]
pub struct Args {
    /// The configuration file.
    #[arg(long, short, value_name = "FILE", default_value = "/etc/dpnat/dpnat.yaml")]
    pub config: PathBuf,

    /// The Unix socket of the control API.
    #[arg(long, value_name = "PATH", env = api::SOCKET_VARIABLE, default_value = api::DEFAULT_SOCKET)]
    pub socket: PathBuf,

    /// The directory of what is kept over a restart: the node's secrets.
    #[arg(long, value_name = "DIR", env = "DPNAT_STATE", default_value = "/var/lib/dpnat")]
    pub state_dir: PathBuf,

    /// Checks the configuration, prints the memory plan, and exits.
    #[arg(long)]
    pub check: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_as_documented() {
        Args::command().debug_assert();
        let args =
            Args::try_parse_from(["dpnatd", "--config", "a.yaml", "--socket", "s", "--check"])
                .unwrap();
        assert_eq!(args.config, PathBuf::from("a.yaml"));
        assert_eq!(args.socket, PathBuf::from("s"));
        assert!(args.check);
        assert!(Args::try_parse_from(["dpnatd", "--sockte", "s"]).is_err());
    }
}
