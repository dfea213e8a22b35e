//! The words of `ipvsadm`: options with their letters, which may be put together, and their values.

use super::super::{Failure, Outcome};

/// A command: the first option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Add,
    Edit,
    Delete,
    Clear,
    Restore,
    Save,
    AddServer,
    EditServer,
    DeleteServer,
    List,
    Zero,
    AddLaddr,
    DelLaddr,
    GetLaddr,
    AddBlklst,
    DelBlklst,
    GetBlklst,
    AddWhtlst,
    DelWhtlst,
    GetWhtlst,
    Set,
    StartDaemon,
    StopDaemon,
    Help,
    Version,
}

/// An option besides the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opt {
    Tcp,
    Udp,
    Sctp,
    Icmp,
    Icmpv6,
    Fwmark,
    Ipv6,
    Scheduler,
    Persistent,
    Netmask,
    Engine,
    Server,
    Gatewaying,
    Ipip,
    Fullnat,
    Snat,
    Masquerading,
    Weight,
    Upper,
    Lower,
    McastInterface,
    SyncId,
    Connection,
    Timeout,
    ConnTimeout,
    ProxyProtocol,
    Daemon,
    Stats,
    Rate,
    Exact,
    Thresholds,
    PersistentConn,
    Sockpair,
    NoSort,
    Sort,
    OnePacket,
    Numeric,
    Ifname,
    Synproxy,
    Match,
    HashTarget,
    Cpu,
    ExpireQuiescent,
    DestCheck,
    Laddr,
    Blklst,
    Whtlst,
    Quic,
}

/// Whether an option has a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    Nothing,
    Value,
    /// The next word, unless that begins with `-`.
    MayTake,
}

#[derive(Clone, Copy, Debug)]
enum Meaning {
    Command(Command),
    Option(Opt),
}

struct Known {
    long: &'static str,
    letter: Option<char>,
    takes: Takes,
    meaning: Meaning,
}

const fn command(long: &'static str, letter: Option<char>, command: Command) -> Known {
    Known { long, letter, takes: Takes::Nothing, meaning: Meaning::Command(command) }
}

const fn flag(long: &'static str, letter: Option<char>, option: Opt) -> Known {
    Known { long, letter, takes: Takes::Nothing, meaning: Meaning::Option(option) }
}

const fn value(long: &'static str, letter: Option<char>, option: Opt) -> Known {
    Known { long, letter, takes: Takes::Value, meaning: Meaning::Option(option) }
}

const KNOWN: [Known; 74] = [
    command("add-service", Some('A'), Command::Add),
    command("edit-service", Some('E'), Command::Edit),
    command("delete-service", Some('D'), Command::Delete),
    command("clear", Some('C'), Command::Clear),
    command("restore", Some('R'), Command::Restore),
    command("save", Some('S'), Command::Save),
    command("add-server", Some('a'), Command::AddServer),
    command("edit-server", Some('e'), Command::EditServer),
    command("delete-server", Some('d'), Command::DeleteServer),
    command("list", Some('L'), Command::List),
    command("list", Some('l'), Command::List),
    command("zero", Some('Z'), Command::Zero),
    command("add-laddr", Some('P'), Command::AddLaddr),
    command("del-laddr", Some('Q'), Command::DelLaddr),
    command("get-laddr", Some('G'), Command::GetLaddr),
    command("add-blklst", Some('U'), Command::AddBlklst),
    command("del-blklst", Some('V'), Command::DelBlklst),
    command("get-blklst", Some('B'), Command::GetBlklst),
    command("add-whtlst", Some('O'), Command::AddWhtlst),
    command("del-whtlst", Some('Y'), Command::DelWhtlst),
    command("get-whtlst", Some('W'), Command::GetWhtlst),
    command("set", None, Command::Set),
    command("start-daemon", None, Command::StartDaemon),
    command("stop-daemon", None, Command::StopDaemon),
    command("help", Some('h'), Command::Help),
    command("version", Some('v'), Command::Version),
    value("tcp-service", Some('t'), Opt::Tcp),
    value("udp-service", Some('u'), Opt::Udp),
    value("sctp-service", None, Opt::Sctp),
    value("icmp-service", Some('q'), Opt::Icmp),
    value("icmpv6-service", Some('1'), Opt::Icmpv6),
    value("fwmark-service", Some('f'), Opt::Fwmark),
    flag("ipv6", Some('6'), Opt::Ipv6),
    value("scheduler", Some('s'), Opt::Scheduler),
    Known {
        long: "persistent",
        letter: Some('p'),
        takes: Takes::MayTake,
        meaning: Meaning::Option(Opt::Persistent),
    },
    value("netmask", Some('M'), Opt::Netmask),
    value("pe", None, Opt::Engine),
    value("real-server", Some('r'), Opt::Server),
    flag("gatewaying", Some('g'), Opt::Gatewaying),
    flag("ipip", Some('i'), Opt::Ipip),
    flag("fullnat", Some('b'), Opt::Fullnat),
    flag("snat", Some('J'), Opt::Snat),
    flag("masquerading", Some('m'), Opt::Masquerading),
    value("weight", Some('w'), Opt::Weight),
    value("u-threshold", Some('x'), Opt::Upper),
    value("l-threshold", Some('y'), Opt::Lower),
    value("mcast-interface", None, Opt::McastInterface),
    value("syncid", None, Opt::SyncId),
    flag("connection", Some('c'), Opt::Connection),
    flag("timeout", None, Opt::Timeout),
    value("conn-timeout", None, Opt::ConnTimeout),
    value("proxy-protocol", None, Opt::ProxyProtocol),
    flag("daemon", None, Opt::Daemon),
    flag("stats", None, Opt::Stats),
    flag("rate", None, Opt::Rate),
    flag("exact", Some('X'), Opt::Exact),
    flag("thresholds", None, Opt::Thresholds),
    flag("persistent-conn", None, Opt::PersistentConn),
    value("sockpair", None, Opt::Sockpair),
    flag("nosort", None, Opt::NoSort),
    flag("sort", None, Opt::Sort),
    flag("ops", Some('o'), Opt::OnePacket),
    flag("numeric", Some('n'), Opt::Numeric),
    value("ifname", Some('F'), Opt::Ifname),
    value("synproxy", Some('j'), Opt::Synproxy),
    value("match", Some('H'), Opt::Match),
    value("hash-target", None, Opt::HashTarget),
    value("cpu", None, Opt::Cpu),
    flag("expire-quiescent", None, Opt::ExpireQuiescent),
    value("dest-check", None, Opt::DestCheck),
    value("laddr", Some('z'), Opt::Laddr),
    value("blklst", Some('k'), Opt::Blklst),
    value("whtlst", Some('2'), Opt::Whtlst),
    flag("quic", None, Opt::Quic),
];

impl Command {
    /// Its long option.
    pub(super) fn name(self) -> &'static str {
        let same = |known: &&Known| matches!(known.meaning, Meaning::Command(c) if c == self);
        KNOWN.iter().find(same).map_or("", |known| known.long)
    }
}

impl Opt {
    /// Its long option.
    pub(super) fn name(self) -> &'static str {
        let same = |known: &&Known| matches!(known.meaning, Meaning::Option(o) if o == self);
        KNOWN.iter().find(same).map_or("", |known| known.long)
    }
}

/// What was typed: the command, the options in their order with their values, and other words.
#[derive(Clone, Debug)]
pub(super) struct Words {
    pub(super) command: Command,
    pub(super) options: Vec<(Opt, Option<String>)>,
    pub(super) rest: Vec<String>,
}

impl Words {
    /// Reads words, the program's name not among them.
    ///
    /// # Errors
    /// In the words of the library by which `ipvsadm` reads options, or if the command is not first.
    pub(super) fn parse(words: &[&str]) -> Outcome<Self> {
        let mut reader = Reader { words, next: 0, found: Vec::new(), rest: Vec::new() };
        while let Some(word) = reader.take() {
            reader.word(word)?;
        }
        let mut found = reader.found.into_iter();
        let command = match found.next() {
            Some((Meaning::Command(command), _)) => command,
            // Alone it lists.
            None if reader.rest.is_empty() => Command::List,
            _ => return Err(Failure::usage(format!("{}\n{}", FIRST, super::usage::HINT))),
        };
        let mut options = Vec::new();
        for (meaning, value) in found {
            match meaning {
                Meaning::Option(option) => options.push((option, value)),
                Meaning::Command(other) if other == command && other == Command::Version => {}
                Meaning::Command(_) => {
                    return Err(Failure::usage("multiple commands specified"));
                }
            }
        }
        Ok(Self { command, options, rest: reader.rest })
    }

    pub(super) fn has(&self, option: Opt) -> bool {
        self.options.iter().any(|(given, _)| *given == option)
    }

    /// The value of an option; the last one if it is there several times.
    pub(super) fn value(&self, option: Opt) -> Option<&str> {
        let mut given = self.options.iter().rev().filter(|(given, _)| *given == option);
        given.next().and_then(|(_, value)| value.as_deref())
    }
}

const FIRST: &str = "the first option must be a command";

struct Reader<'a> {
    words: &'a [&'a str],
    next: usize,
    found: Vec<(Meaning, Option<String>)>,
    rest: Vec<String>,
}

impl<'a> Reader<'a> {
    fn take(&mut self) -> Option<&'a str> {
        let word = self.words.get(self.next).copied()?;
        self.next += 1;
        Some(word)
    }

    fn word(&mut self, word: &str) -> Outcome {
        if word == "--" {
            let rest = self.words.get(self.next..).unwrap_or_default();
            self.rest.extend(rest.iter().map(|word| (*word).to_owned()));
            self.next = self.words.len();
            return Ok(());
        }
        if let Some(long) = word.strip_prefix("--") {
            let (name, value) = long.split_once('=').map_or((long, None), |(n, v)| (n, Some(v)));
            let known = KNOWN.iter().find(|known| known.long == name);
            return self.option(word, known, value.map(str::to_owned));
        }
        let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
            self.rest.push(word.to_owned());
            return Ok(());
        };
        let mut rest = letters.chars();
        while let Some(letter) = rest.next() {
            let known = KNOWN.iter().find(|known| known.letter == Some(letter));
            let takes = known.map_or(Takes::Nothing, |known| known.takes);
            let value = match takes {
                Takes::Value if !rest.as_str().is_empty() => Some(rest.as_str()),
                _ => None,
            };
            let value = value.map(|value| value.strip_prefix('=').unwrap_or(value).to_owned());
            let ends = value.is_some();
            self.option(&format!("-{letter}"), known, value)?;
            if ends {
                break;
            }
        }
        Ok(())
    }

    fn option(&mut self, word: &str, known: Option<&Known>, value: Option<String>) -> Outcome {
        let bad = |why: &str| Failure::Usage(format!("{word}: {why}\n"), u8::MAX);
        let known = known.ok_or_else(|| bad("unknown option"))?;
        let value = match (known.takes, value) {
            (Takes::Nothing, Some(_)) => {
                return Err(bad("option does not take an argument"));
            }
            (Takes::Nothing, None) => None,
            (_, Some(value)) => Some(value),
            (Takes::Value, None) => {
                let next = self.take().ok_or_else(|| bad("missing argument"))?;
                Some(next.to_owned())
            }
            (Takes::MayTake, None) => {
                let next = self.words.get(self.next).filter(|next| !next.starts_with('-'));
                self.next += usize::from(next.is_some());
                next.map(|next| (*next).to_owned())
            }
        };
        self.found.push((known.meaning, value));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Words {
        Words::parse(&line.split_whitespace().collect::<Vec<_>>()).expect(line)
    }

    fn refused(line: &str) -> (String, u8) {
        match Words::parse(&line.split_whitespace().collect::<Vec<_>>()) {
            Err(Failure::Usage(text, code)) => (text, code),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn letters_go_together_and_values_may_be_attached() {
        for line in ["-lnc", "-l -n -c", "-L -nc", "--list --numeric --connection", "-ln -c"] {
            let words = parsed(line);
            assert_eq!(words.command, Command::List, "{line}");
            assert!(words.has(Opt::Numeric) && words.has(Opt::Connection), "{line}");
        }
        for line in ["-A -t 10.0.0.1:80", "-A -t10.0.0.1:80", "-At 10.0.0.1:80", "-At10.0.0.1:80"] {
            assert_eq!(parsed(line).value(Opt::Tcp), Some("10.0.0.1:80"), "{line}");
        }
        let words = parsed("--add-service --tcp-service=10.0.0.1:80 --conn-timeout 30");
        assert_eq!((words.command, words.value(Opt::ConnTimeout)), (Command::Add, Some("30")));
        assert_eq!(parsed("").command, Command::List);
    }

    #[test]
    fn persistence_takes_a_number_only_if_there_is_one() {
        assert_eq!(parsed("-A -t 1.1.1.1:1 -p 60 -s rr").value(Opt::Persistent), Some("60"));
        let words = parsed("-A -t 1.1.1.1:1 -p -s rr");
        assert!(words.has(Opt::Persistent));
        assert_eq!((words.value(Opt::Persistent), words.value(Opt::Scheduler)), (None, Some("rr")));
    }

    #[test]
    fn slips_are_told_as_the_original_tells_them() {
        let refusal = ("--sockpair: missing argument\n".to_owned(), 255);
        assert_eq!(refused("-ln --connection --sockpair"), refusal);
        assert_eq!(refused("-l --frobnicate"), ("--frobnicate: unknown option\n".to_owned(), 255));
        assert_eq!(refused("-l -K"), ("-K: unknown option\n".to_owned(), 255));
        assert_eq!(refused("-A -D").1, 2);
        assert_eq!(refused("-n -l").1, 2);
    }

    #[test]
    fn every_option_is_found_by_its_name_and_letter() {
        for (place, known) in KNOWN.iter().enumerate() {
            let same = |other: &Known| known.letter.is_some() && other.letter == known.letter;
            assert_eq!(KNOWN.iter().filter(|other| same(other)).count(), {
                usize::from(known.letter.is_some())
            });
            let first = KNOWN.iter().position(|other| other.long == known.long);
            assert!(first == Some(place) || known.long == "list", "{}", known.long);
        }
    }
}
