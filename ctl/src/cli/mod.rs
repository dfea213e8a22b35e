//! The grammar of `dpctl`: its objects, verbs and options, as clap knows them.

mod daemon;
mod forwarding;
mod import;
mod nat;
mod network;
mod service;
mod values;

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};

pub use daemon::*;
pub use forwarding::*;
pub use import::*;
pub use nat::*;
pub use network::*;
pub use service::*;
pub use values::{AddressAndPort, ListOr, OrNone, TcpFlags, WanAddress};

const AFTER_HELP: &str = "\
Objects and verbs may be shortened as long as they stay unique: `dpctl addr`, `dpctl neigh li`. \
An object without a verb shows it; nothing at all shows the status. As with `ip`, options may be \
written as words: `dpctl address add 203.0.113.10/32 dev wan0`.

What is changed runs at once and is forgotten at the next start of the daemon, unless \
`dpctl config save` writes it to the file.

Exit status: 0 done, 1 refused, 2 usage, 3 not found, 4 the daemon cannot be reached, 5 conflict.

Examples:
  dpctl address add 203.0.113.10/32 dev wan0
  dpctl service add shop --vip 203.0.113.10:80 --protocol tcp --scheduler rr
  dpctl lip add shop 198.18.0.10-198.18.0.41 dev lan0
  dpctl server add shop 198.18.0.121:80 --weight 100
  dpctl server set shop 198.18.0.121:80 --admin drain
  dpctl snat add office --source 10.0.0.0/8 --out-dev wan0 --wan interface
  dpctl -s service show
  dpctl -j conn list --service shop | jq '.connections | length'
  dpctl explain --in wan0 --from 192.0.2.1 --to 203.0.113.10:80
  dpctl export -o shop.yaml
  dpctl apply -f shop.yaml --dry-run";

/// Shows and changes what dpnatd does.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "dpctl",
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
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Options of all commands")]
pub struct Options {
    /// Print JSON: what the control API answers
    #[arg(short, long, global = true)]
    pub json: bool,
    /// Print JSON with line breaks
    #[arg(short, long, global = true)]
    pub pretty: bool,
    /// Print statistics, too
    #[arg(short, long, visible_alias = "stats", global = true)]
    pub statistics: bool,
    /// Print one short line each, without a heading (-br works, too)
    #[arg(long, alias = "br", global = true, conflicts_with_all = ["json", "pretty"])]
    pub brief: bool,
    /// Only what has IPv4 addresses
    #[arg(short = '4', long, global = true, conflicts_with = "ipv6")]
    pub ipv4: bool,
    /// Only what has IPv6 addresses
    #[arg(short = '6', long, global = true)]
    pub ipv6: bool,
    /// The daemon's control socket [default: $DPNAT_SOCKET, or else /run/dpnat/dpnat.sock]
    #[arg(long, value_name = "PATH", global = true)]
    pub socket: Option<PathBuf>,
}

/// The objects, and the commands that have none.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// The daemon at a glance
    Status,
    /// Addresses of ours, for which an interface answers
    #[command(
        subcommand,
        after_help = "\
Examples:
  dpctl address add 203.0.113.10/32 dev wan0
  dpctl -br addr
  dpctl addr del 203.0.113.10/32"
    )]
    Address(AddressVerb),
    /// Routes
    #[command(
        subcommand,
        after_help = "\
Examples:
  dpctl route add default via 203.0.113.1 dev wan0
  dpctl route add 10.0.0.0/8 via 198.18.0.254 dev lan0 metric 10
  dpctl route del 10.0.0.0/8 metric 10"
    )]
    Route(RouteVerb),
    /// Neighbours: who has which Ethernet address
    #[command(
        subcommand,
        visible_alias = "neighbor",
        after_help = "\
Examples:
  dpctl neighbour add 198.18.0.121 lladdr 02:00:00:00:00:01 dev lan0
  dpctl neigh show dev lan0
  dpctl neigh del 198.18.0.121"
    )]
    Neighbour(NeighbourVerb),
    /// Interfaces
    #[command(
        subcommand,
        visible_alias = "interface",
        after_help = "\
Examples:
  dpctl -s link show wan0
  dpctl -br link
  dpctl link add wan0.100 link wan0 type vlan id 100
  dpctl link del wan0.100"
    )]
    Link(LinkVerb),
    /// Services: what clients connect to
    #[command(
        subcommand,
        visible_alias = "svc",
        after_help = "\
Examples:
  dpctl service add shop --vip 203.0.113.10:80 --protocol tcp --scheduler rr
  dpctl service set shop --scheduler mh --timeout tcp_established=2h
  dpctl service show shop
  dpctl service del shop --reset"
    )]
    Service(ServiceVerb),
    /// Real servers of a service
    #[command(
        subcommand,
        after_help = "\
Examples:
  dpctl server add shop 198.18.0.121:80 --weight 100
  dpctl server set shop 198.18.0.121:80 --admin drain
  dpctl server set shop 198.18.0.121:80 --weight 0
  dpctl server del shop 198.18.0.121:80 --reset"
    )]
    Server(ServerVerb),
    /// Local addresses (LIPs) of a service: the sources that its real servers see
    #[command(
        subcommand,
        after_help = "\
Examples:
  dpctl lip add shop 198.18.0.10-198.18.0.41 dev lan0
  dpctl lip show shop
  dpctl lip del shop 198.18.0.41"
    )]
    Lip(LipVerb),
    /// Health of real servers: who is up, and what the last check said
    #[command(
        subcommand,
        after_help = "\
Examples:
  dpctl health show
  dpctl health show shop
  dpctl -j health | jq '.[].servers[] | select(.health != \"up\")'"
    )]
    Health(HealthVerb),
    /// Source NAT: outside addresses in the place of inside ones
    #[command(
        subcommand,
        after_help = "\
Examples:
  dpctl snat add office --source 10.0.0.0/8 --out-dev wan0 \
--except-destination 100.64.0.0/10 --wan 203.0.113.20-203.0.113.27
  dpctl snat add all --out-dev wan0 --wan interface
  dpctl snat add partner --destination 192.0.2.0/24 --action accept --before office
  dpctl snat set office --filtering address-dependent --max-ports 2000
  dpctl snat mappings --inside 10.0.0.7
  dpctl snat subscriber 10.0.0.7
  dpctl snat pools"
    )]
    Snat(SnatVerb),
    /// Destination NAT: ports of ours that lead to inside servers
    #[command(
        subcommand,
        after_help = "\
Examples:
  dpctl dnat add ssh --on 203.0.113.20:10106 --protocol tcp --to 172.16.102.6:22
  dpctl dnat add media --on 203.0.113.20:6000-6099 --protocol udp --to 10.0.0.5:7000-7099
  dpctl dnat add web --on 203.0.113.20:80 --protocol tcp --to 10.0.0.5:80 --to 10.0.0.6:80
  dpctl dnat set ssh --source 192.0.2.0/24
  dpctl dnat del ssh"
    )]
    Dnat(DnatVerb),
    /// Routing between interfaces without NAT
    #[command(
        subcommand,
        after_help = "\
Examples:
  dpctl forwarding set --policy drop --reverse-path strict
  dpctl forwarding rule add lan --in-dev lan0 --source 10.0.0.0/8 --action accept
  dpctl forwarding rule add smb --destination-ports 445 --protocol tcp --action reject \
--before lan
  dpctl forwarding show"
    )]
    Forwarding(ForwardingVerb),
    /// Connections
    #[command(
        subcommand,
        visible_alias = "connection",
        after_help = "\
Examples:
  dpctl conn list --service shop --client 192.0.2.0/24 --state established
  dpctl -s conn list --limit 10
  dpctl conn del --server 198.18.0.121:80"
    )]
    Conn(ConnVerb),
    /// Totals since the start, or rates
    #[command(after_help = "\
Examples:
  dpctl stats
  dpctl stats --interval 1s --count 10
  dpctl -j stats | jq .connections.current")]
    Stats(StatsArgs),
    /// Counters since the start, each reason for a drop among them
    #[command(after_help = "\
Examples:
  dpctl counters --nonzero
  dpctl counters --worker 0")]
    Counters(CountersArgs),
    /// Workers: the poll loops
    Worker,
    /// Change what runs by a configuration file, as one transaction
    #[command(after_help = "\
Examples:
  dpctl apply -f shop.yaml --dry-run
  dpctl apply -f dpnat.yaml --prune
  dpctl export | sed s/weight:.1/weight:\\ 2/ | dpctl apply -f -")]
    Apply(ApplyArgs),
    /// How what runs differs from a configuration file
    #[command(after_help = "\
Examples:
  dpctl diff
  dpctl diff -f shop.yaml")]
    Diff(DiffArgs),
    /// Print the configuration that runs
    #[command(after_help = "\
Examples:
  dpctl export
  dpctl export -o dpnat.yaml
  dpctl export --json | jq .services")]
    Export(ExportArgs),
    /// The daemon's own configuration file
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Turn a configuration file of DPVS or keepalived into one of dpnat
    #[command(
        subcommand,
        after_help = "\
Examples:
  dpctl import dpvs /etc/dpvs.conf --device dpdk0=0000:81:00.0 -o dpnat.yaml
  dpctl import keepalived /etc/keepalived/keepalived.conf --keepalived vrrp.conf -o services.yaml
  dpctl -s import dpvs dpvs.conf > dpnat.yaml"
    )]
    Import(ImportVerb),
    /// What would become of a packet, and why
    #[command(after_help = "\
Examples:
  dpctl explain --in wan0 --from 192.0.2.1:40000 --to 203.0.113.10:80 --flags syn
  dpctl explain --in wan0 --from 192.0.2.1 --to 203.0.113.10 --protocol icmp")]
    Explain(ExplainArgs),
    /// What the daemon logs
    #[command(subcommand)]
    Log(LogVerb),
    /// What DPVS's commands have and dpnat has not, with what serves instead
    #[command(after_help = "\
`dpctl ipvsadm …` and `dpctl dpip …` are DPVS's own commands, in their own grammar; so is this program \
when it is called by one of these names.")]
    Compat,
    /// Versions of this program and of the daemon
    Version,
    /// Print completions for a shell
    #[command(after_help = "\
Examples:
  dpctl completion bash > /etc/bash_completion.d/dpctl
  dpctl completion fish > ~/.config/fish/completions/dpctl.fish")]
    Completion(CompletionArgs),
}

/// The grammar as one tree: for parsing, completions and man pages.
pub fn command() -> clap::Command {
    Cli::command()
}
