//! The habits of `ip`: turns what people type into what the grammar says in full.
//!
//! - Objects and verbs may be shortened as long as they are unique.
//! - An object without a verb is shown; nothing at all is the status.
//! - Options of a verb may be written as words: `dev wan0` is `--dev wan0`.
//! - `-br`, `-json` and the like are long options.

use std::ffi::{OsStr, OsString};

use clap::{Arg, Command};

/// Why a word is no object or verb.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WordError {
    /// It is the beginning of none.
    Unknown {
        /// The word.
        word: String,
        /// `object` or `verb`.
        kind: &'static str,
        /// What there is.
        known: Vec<String>,
    },
    /// It is the beginning of several.
    Ambiguous {
        /// The word.
        word: String,
        /// Those.
        candidates: Vec<String>,
    },
}

impl std::fmt::Display for WordError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown { word, kind, known } => {
                write!(f, "`{word}` is no {kind}; there are {}", list(known, "and"))
            }
            Self::Ambiguous { word, candidates } => {
                write!(f, "`{word}` is ambiguous: it may be {}", list(candidates, "or"))
            }
        }
    }
}

impl std::error::Error for WordError {}

fn list(words: &[String], last: &str) -> String {
    match words {
        [] => "none".to_owned(),
        [one] => one.clone(),
        [first @ .., end] => format!("{} {last} {end}", first.join(", ")),
    }
}

/// The one that `word` names or begins. Each candidate has a name, and other names of the same.
///
/// # Errors
/// If it begins none, or several.
pub fn unabbreviate<'a>(
    word: &str,
    kind: &'static str,
    candidates: &[(&'a str, Vec<&str>)],
) -> Result<&'a str, WordError> {
    let names = |(name, others): &(&'a str, Vec<&str>), test: &dyn Fn(&str) -> bool| {
        test(name) || others.iter().any(|other| test(other))
    };
    if let Some((name, _)) = candidates.iter().find(|c| names(c, &|name| name == word)) {
        return Ok(name);
    }
    let begins = |name: &str| !word.is_empty() && name.starts_with(word);
    let found: Vec<_> = candidates.iter().filter(|c| names(c, &begins)).collect();
    let owned = |(name, _): &(&str, _)| (*name).to_owned();
    match found.as_slice() {
        [(name, _)] => Ok(name),
        [] => Err(WordError::Unknown {
            word: word.to_owned(),
            kind,
            known: candidates.iter().map(owned).collect(),
        }),
        several => Err(WordError::Ambiguous {
            word: word.to_owned(),
            candidates: several.iter().map(|candidate| owned(candidate)).collect(),
        }),
    }
}

/// Rewrites arguments, without the program's name, into those that `root` parses.
///
/// # Errors
/// If a word that should be an object or a verb is none.
pub fn expand(root: &Command, words: &[OsString]) -> Result<Vec<OsString>, WordError> {
    let mut root = root.clone();
    root.build();
    let mut expander = Expander {
        root: &root,
        command: &root,
        out: Vec::with_capacity(words.len() + 2),
        positionals: 0,
        help: false,
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--" {
            expander.default_verb();
            expander.out.push(word.clone());
            break;
        }
        if expander.word(word)? {
            expander.out.extend(words.next().cloned());
        }
    }
    if !expander.help {
        expander.default_verb();
    }
    expander.out.extend(words.cloned());
    Ok(expander.out)
}

struct Expander<'a> {
    root: &'a Command,
    command: &'a Command,
    out: Vec<OsString>,
    /// How many words of the command's own have come.
    positionals: usize,
    /// Somebody asks for help, so that nothing is done.
    help: bool,
}

impl<'a> Expander<'a> {
    /// Takes a word; true if the next one is its value.
    fn word(&mut self, word: &OsStr) -> Result<bool, WordError> {
        let Some(text) = word.to_str() else {
            self.out.push(word.to_owned());
            return Ok(false);
        };
        if text.len() > 1 && text.starts_with('-') {
            return Ok(self.option(text));
        }
        if self.command.has_subcommands() {
            return self.descend(text).map(|()| false);
        }
        Ok(self.plain(text))
    }

    fn option(&mut self, text: &str) -> bool {
        let text = self.long(text);
        let is_help = matches!(text.as_str(), "-h" | "--help" | "-V" | "--version");
        self.help |= is_help;
        let mut found = self.find(&text);
        if found.is_none() && !is_help {
            // It is no option of all commands: one of the verb that is left out.
            self.default_verb();
            found = self.find(&text);
        }
        self.out.push(text.into());
        found.is_some_and(|wants_value| wants_value)
    }

    /// `-br` and `-json` as `--br` and `--json`.
    fn long(&self, text: &str) -> String {
        let is_long = text.strip_prefix('-').is_some_and(|name| {
            name.len() > 1 && self.root.get_arguments().any(|arg| has_long(arg, name))
        });
        if is_long { format!("-{text}") } else { text.to_owned() }
    }

    /// Whether an option of this command, or of all, wants the next word as its value.
    fn find(&self, text: &str) -> Option<bool> {
        let own = self.command.get_arguments();
        let mut options = own.chain(self.root.get_arguments().filter(|arg| arg.is_global_set()));
        if let Some(long) = text.strip_prefix("--") {
            let (name, value) = long.split_once('=').map_or((long, None), |(n, v)| (n, Some(v)));
            let arg = options.find(|arg| has_long(arg, name))?;
            return Some(value.is_none() && arg.get_action().takes_values());
        }
        let options: Vec<&Arg> = options.collect();
        let mut letters = text[1..].chars();
        while let Some(letter) = letters.next() {
            let arg = options.iter().find(|arg| arg.get_short() == Some(letter))?;
            if arg.get_action().takes_values() {
                // The rest of the word is the value, if there is any.
                return Some(letters.next().is_none());
            }
        }
        Some(false)
    }

    fn descend(&mut self, word: &str) -> Result<(), WordError> {
        let kind = if std::ptr::eq(self.command, self.root) { "object" } else { "verb" };
        let candidates: Vec<_> = self
            .command
            .get_subcommands()
            .map(|command| (command.get_name(), command.get_all_aliases().collect()))
            .collect();
        let name = unabbreviate(word, kind, &candidates)?;
        self.out.push(name.into());
        if name == "help" {
            self.help = true;
        } else if let Some(command) = self.command.find_subcommand(name) {
            self.command = command;
        }
        Ok(())
    }

    /// A word of the command itself: a positional argument, or an option's name.
    fn plain(&mut self, text: &str) -> bool {
        let positionals = || self.command.get_positionals();
        let required = positionals().filter(|arg| arg.is_required_set()).count();
        if self.positionals >= required {
            let mut options = self.command.get_opts();
            if let Some(arg) = options.find(|arg| !arg.is_global_set() && has_long(arg, text)) {
                self.out.push(format!("--{text}").into());
                return arg.get_action().takes_values();
            }
            let flag = self.command.get_arguments().find(|arg| {
                !arg.is_global_set() && !arg.get_action().takes_values() && has_long(arg, text)
            });
            if flag.is_some_and(|flag| flag.get_id() != "help") {
                self.out.push(format!("--{text}").into());
                return false;
            }
        }
        let is_shown = matches!(text, "show" | "list") && !self.is_verb();
        if is_shown && positionals().next().is_none() {
            // `stats show` is `stats`: there is nothing else to do with them.
            return false;
        }
        self.positionals += 1;
        self.out.push(text.into());
        false
    }

    /// True for a verb of an object, and false for an object without verbs.
    fn is_verb(&self) -> bool {
        !self.root.get_subcommands().any(|command| std::ptr::eq(command, self.command))
    }

    fn default_verb(&mut self) {
        let name = if std::ptr::eq(self.command, self.root) { "status" } else { "show" };
        if let Some(command) = self.command.find_subcommand(name) {
            self.out.push(name.into());
            self.command = command;
        }
    }
}

fn has_long(arg: &Arg, name: &str) -> bool {
    let aliases = || arg.get_all_aliases().unwrap_or_default();
    arg.get_long() == Some(name) || aliases().contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(line: &str) -> Result<String, WordError> {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let expanded = expand(&crate::cli::command(), &words)?;
        Ok(expanded.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" "))
    }

    #[track_caller]
    fn becomes(line: &str, full: &str) {
        assert_eq!(expanded(line).as_deref(), Ok(full), "{line}");
        assert_eq!(expanded(full).as_deref(), Ok(full), "in full already: {full}");
    }

    #[test]
    fn objects_and_verbs_are_completed() {
        becomes("", "status");
        becomes("-j", "-j status");
        becomes("addr", "address show");
        becomes("neigh l", "neighbour show");
        becomes("neighbor show", "neighbour show");
        becomes("svc", "service show");
        becomes("server list", "server show");
        becomes("servi a shop", "service add shop");
        becomes("r d default", "route del default");
        becomes("route replace default", "route set default");
        becomes("service delete shop", "service del shop");
        becomes("stats show", "stats");
        becomes("counters list --nonzero", "counters --nonzero");
        becomes("conn --service shop", "conn show --service shop");
        becomes("-s conn --limit 5", "-s conn show --limit 5");
    }

    #[test]
    fn options_may_be_words() {
        becomes("address add 203.0.113.10/32 dev wan0", "address add 203.0.113.10/32 --dev wan0");
        becomes(
            "route add default via 203.0.113.1 dev wan0 metric 5",
            "route add default --via 203.0.113.1 --dev wan0 --metric 5",
        );
        becomes("neigh add 198.18.0.1 lladdr 02::1", "neighbour add 198.18.0.1 --lladdr 02::1");
        becomes("link show dev wan0", "link show --dev wan0");
        becomes("conn list client server", "conn show --client server");
        becomes("server del shop 1.2.3.4:5 reset", "server del shop 1.2.3.4:5 --reset");
        becomes("explain in wan0", "explain --in wan0");
    }

    #[test]
    fn names_come_before_options() {
        becomes("service add vip --vip 1.2.3.4:5", "service add vip --vip 1.2.3.4:5");
        becomes("service show servers", "service show servers");
        becomes("server add weight 1.2.3.4:5 weight 7", "server add weight 1.2.3.4:5 --weight 7");
        becomes("apply -f prune", "apply -f prune");
        becomes("conn show --service show", "conn show --service show");
    }

    #[test]
    fn options_stand_anywhere() {
        becomes("-br addr", "--br address show");
        becomes("-json -p lip show", "--json -p lip show");
        becomes("--socket status addr", "--socket status address show");
        becomes("--socket=x addr", "--socket=x address show");
        becomes("addr -4 show", "address -4 show");
        becomes("-js stats", "-js stats");
    }

    #[test]
    fn help_is_not_shown_for_the_default_verb() {
        becomes("help neigh", "help neighbour");
        becomes("help servi a", "help service add");
        becomes("service --help", "service --help");
        becomes("-h", "-h");
        becomes("lip a -h", "lip add -h");
    }

    #[test]
    fn what_is_not_unique_is_refused_with_the_candidates() {
        let refused = |line: &str| expanded(line).unwrap_err().to_string();
        assert_eq!(refused("a"), "`a` is ambiguous: it may be address or apply");
        let candidates = "`s` is ambiguous: it may be status, service, server, snat or stats";
        assert_eq!(refused("s"), candidates);
        assert_eq!(refused("service s"), "`s` is ambiguous: it may be show or set");
        assert_eq!(refused("link wan0"), "`wan0` is no verb; there are show, add, del and help",);
        assert!(refused("frobnicate").starts_with("`frobnicate` is no object; there are status, "));
        assert!(expanded("addr ''").is_err());
    }

    #[test]
    fn what_is_no_text_is_left_alone() {
        use std::os::unix::ffi::OsStringExt;
        let word = OsString::from_vec(vec![b'-', b'f', 0xff]);
        let words = ["apply".into(), word.clone()];
        assert_eq!(expand(&crate::cli::command(), &words).unwrap(), words);
    }
}
