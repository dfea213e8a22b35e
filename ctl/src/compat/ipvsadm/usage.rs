//! Which options go with which command of `ipvsadm`, and its help.

use super::super::{Failure, Outcome};
use super::options::{Command, Opt, Words};

/// What selects a service.
const SERVICE: [Opt; 8] =
    [Opt::Tcp, Opt::Udp, Opt::Sctp, Opt::Icmp, Opt::Icmpv6, Opt::Fwmark, Opt::Match, Opt::Ipv6];

const SETTINGS: [Opt; 11] = [
    Opt::Scheduler,
    Opt::Persistent,
    Opt::Netmask,
    Opt::Engine,
    Opt::OnePacket,
    Opt::Synproxy,
    Opt::ConnTimeout,
    Opt::ProxyProtocol,
    Opt::ExpireQuiescent,
    Opt::DestCheck,
    Opt::HashTarget,
];

const SERVER: [Opt; 8] = [
    Opt::Gatewaying,
    Opt::Ipip,
    Opt::Fullnat,
    Opt::Snat,
    Opt::Masquerading,
    Opt::Weight,
    Opt::Upper,
    Opt::Lower,
];

const LIST: [Opt; 14] = [
    Opt::Numeric,
    Opt::Connection,
    Opt::Timeout,
    Opt::Daemon,
    Opt::Stats,
    Opt::Rate,
    Opt::Exact,
    Opt::Thresholds,
    Opt::PersistentConn,
    Opt::Sockpair,
    Opt::NoSort,
    Opt::Sort,
    Opt::Cpu,
    Opt::Connection,
];

/// What of options a command needs and what it may have.
struct Rule {
    /// Whether a service must be given (`Some(true)`), may be, or must not be (`None`).
    service: Option<bool>,
    needs: &'static [Opt],
    may_have: &'static [&'static [Opt]],
}

const fn rule(
    service: Option<bool>,
    needs: &'static [Opt],
    may_have: &'static [&'static [Opt]],
) -> Rule {
    Rule { service, needs, may_have }
}

const fn of(command: Command) -> Rule {
    use Command as C;
    match command {
        C::Add | C::Edit => rule(Some(true), &[], &[&SETTINGS, &[Opt::Quic]]),
        C::Delete => rule(Some(true), &[], &[]),
        C::Clear | C::Restore | C::Set | C::Help | C::Version => rule(None, &[], &[]),
        C::Save => rule(None, &[], &[&[Opt::Numeric]]),
        C::AddServer | C::EditServer => rule(Some(true), &[Opt::Server], &[&SERVER]),
        C::DeleteServer => rule(Some(true), &[Opt::Server], &[]),
        C::List => rule(Some(false), &[], &[&LIST]),
        C::Zero => rule(Some(false), &[], &[]),
        C::AddLaddr | C::DelLaddr => rule(Some(true), &[Opt::Laddr, Opt::Ifname], &[]),
        C::GetLaddr => rule(Some(false), &[], &[&[Opt::Numeric, Opt::Cpu]]),
        C::AddBlklst | C::DelBlklst => rule(Some(true), &[Opt::Blklst], &[]),
        C::AddWhtlst | C::DelWhtlst => rule(Some(true), &[Opt::Whtlst], &[]),
        C::GetBlklst | C::GetWhtlst => rule(Some(false), &[], &[&[Opt::Numeric]]),
        C::StartDaemon => rule(None, &[], &[&[Opt::McastInterface, Opt::SyncId]]),
        C::StopDaemon => rule(None, &[], &[]),
    }
}

/// Whether the options go with the command and with each other.
///
/// # Errors
/// In `ipvsadm`'s words.
pub(super) fn check(words: &Words) -> Outcome {
    let Rule { service, needs, may_have } = of(words.command);
    let name = words.command.name();
    for (option, _) in &words.options {
        let is_service = SERVICE.contains(option) && service.is_some();
        let allowed = is_service
            || needs.contains(option)
            || may_have.iter().any(|options| options.contains(option));
        if !allowed {
            let option = option.name();
            return Err(Failure::usage(format!(
                "Illegal '{option}' option with the '{name}' command"
            )));
        }
    }
    let selects = |option: &&Opt| **option != Opt::Ipv6 && words.has(**option);
    match (service, SERVICE.iter().filter(selects).count()) {
        (Some(true), 0) => return Err(needed("service-address", name)),
        (_, 2..) => return Err(Failure::usage("multiple service addresses specified")),
        _ => {}
    }
    if let Some(option) = needs.iter().find(|option| !words.has(**option)) {
        return Err(needed(option.name(), name));
    }
    let modes = [Opt::Gatewaying, Opt::Ipip, Opt::Fullnat, Opt::Snat, Opt::Masquerading];
    if modes.iter().filter(|mode| words.has(**mode)).count() > 1 {
        return Err(Failure::usage("multiple forwarding methods specified"));
    }
    if words.command == Command::List {
        list(words)?;
    }
    let takes_words =
        matches!(words.command, Command::Set | Command::StartDaemon | Command::StopDaemon);
    match words.rest.first().filter(|_| !takes_words) {
        Some(word) => Err(Failure::usage(format!("unexpected argument {word}"))),
        None => Ok(()),
    }
}

fn needed(option: &str, command: &str) -> Failure {
    let text = format!("You need to supply the '{option}' option for the '{command}' command");
    Failure::usage(text)
}

/// A list is of one kind.
fn list(words: &Words) -> Outcome {
    let kinds = [
        Opt::Connection,
        Opt::Stats,
        Opt::Rate,
        Opt::Thresholds,
        Opt::PersistentConn,
        Opt::Timeout,
        Opt::Daemon,
    ];
    let given: Vec<&str> =
        kinds.iter().filter(|kind| words.has(**kind)).map(|kind| kind.name()).collect();
    if let [first, second, ..] = given.as_slice() {
        let text = format!("options '{first}' and '{second}' conflict");
        return Err(Failure::usage(text));
    }
    if words.has(Opt::Sockpair) && !words.has(Opt::Connection) {
        return Err(Failure::usage("Illegal 'sockpair' option without the 'connection' option"));
    }
    Ok(())
}

/// Where help is.
pub(super) const HINT: &str = "Try `ipvsadm -h' or 'ipvsadm --help' for more information.";

/// What `ipvsadm -v` prints. Scripts look at the last number, which is that of the DPVS whose output is
/// kept to.
pub(super) const VERSION: &str = "ipvsadm v1.27 2008/5/15 (compiled with popt and IPVS v1.10.2)";

/// The help.
pub(super) const HELP: &str = "\
ipvsadm of dpnat: the commands of DPVS 1.10.2

SERVICE is one of
  -t, --tcp-service VIP[:PORT]      -u, --udp-service VIP[:PORT]
  -H, --match proto=tcp|udp|icmp,src-range=A-B[:P-Q],dst-range=A-B[:P-Q],iif=DEV,oif=DEV
  (IPv6: [VIP]:PORT; a name may stand for the address and for the port)

Commands:
  ipvsadm -A|-E SERVICE [-s SCHEDULER] [-p [SECONDS]] [-M MASK] [-o] [--conn-timeout SECONDS]
                        [--hash-target sip] [--proxy-protocol disable|v1|v2|v1-insecure|v2-insecure]
  ipvsadm -D SERVICE
  ipvsadm -a|-e SERVICE -r RS[:PORT] -b|-m|-J [-w WEIGHT] [-x UPPER] [-y LOWER]
  ipvsadm -d SERVICE -r RS[:PORT]
  ipvsadm -P|--add-laddr SERVICE -z LIP -F DEV
  ipvsadm -Q|--del-laddr SERVICE -z LIP -F DEV
  ipvsadm -G|--get-laddr [SERVICE]
  ipvsadm -L|-l [SERVICE] [-n] [-X] [--stats|--rate|--thresholds|--persistent-conn] [--nosort]
  ipvsadm -L|-l -c [-n] [--sockpair PROTO:SIP:SPORT:TIP:TPORT]
  ipvsadm -Z [SERVICE]
  ipvsadm -S [-n]
  ipvsadm -R
  ipvsadm -C
  ipvsadm -h | -v

SCHEDULER is rr, wrr, wlc (if not given), lc, conhash, mh or sh. A real server without a port has the
service's. What DPVS has and dpnat has not is refused by name; `dpctl compat` lists it.
";
