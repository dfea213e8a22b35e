//! The words of `dpip`: options anywhere, then an object, a verb, and pairs of a word and its value.

use std::net::IpAddr;

use super::super::{Failure, Outcome};

/// What is done with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Show,
    Add,
    Del,
    Set,
    Flush,
    Help,
    /// Another one of DPVS's: create, destroy, replace, test, enable, disable.
    Other,
}

/// Of which family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Family {
    #[default]
    Any,
    V4,
    V6,
}

/// What was typed.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) object: String,
    pub(super) verb: Verb,
    pub(super) family: Family,
    pub(super) stats: bool,
    pub(super) verbose: bool,
    pub(super) help: bool,
    pub(super) version: bool,
    /// Seconds between two looks.
    pub(super) interval_s: Option<u64>,
    /// How many looks.
    pub(super) count: Option<u64>,
    /// What stands behind the verb.
    pub(super) rest: Vec<String>,
}

fn bad(text: String) -> Failure {
    Failure::Usage(text + "\n", 1)
}

impl Line {
    /// Reads words, the program's name not among them.
    ///
    /// # Errors
    /// If an option or a verb is none.
    pub(super) fn parse(words: &[&str]) -> Outcome<Self> {
        let mut line = Self {
            object: String::new(),
            verb: Verb::Show,
            family: Family::Any,
            stats: false,
            verbose: false,
            help: false,
            version: false,
            interval_s: None,
            count: None,
            rest: Vec::new(),
        };
        let mut plain = Vec::new();
        let mut words = words.iter().copied();
        while let Some(word) = words.next() {
            match word.strip_prefix("--") {
                Some(long) => line.long(long, &mut words)?,
                None => match word.strip_prefix('-').filter(|letters| !letters.is_empty()) {
                    Some(letters) => line.letters(letters, &mut words)?,
                    None => plain.push(word.to_owned()),
                },
            }
        }
        if line.count.is_some() && line.interval_s.is_none() {
            return Err(bad("-c needs -i".to_owned()));
        }
        let mut plain = plain.into_iter();
        line.object = plain.next().unwrap_or_default();
        line.rest = plain.collect();
        if let Some(word) = line.rest.first() {
            line.verb = verb(word).ok_or_else(|| {
                bad(format!("invalid command `{word}`; see `dpip {} help`", line.object))
            })?;
            line.rest.remove(0);
        }
        Ok(line)
    }

    fn long<'a>(&mut self, long: &str, words: &mut impl Iterator<Item = &'a str>) -> Outcome {
        let (name, value) = long.split_once('=').map_or((long, None), |(n, v)| (n, Some(v)));
        let mut value = || value.or_else(|| words.next()).unwrap_or_default().to_owned();
        match name {
            "verbose" => self.verbose = true,
            "help" => self.help = true,
            "version" => self.version = true,
            "stats" => self.stats = true,
            "color" | "force" => {}
            "family" => self.family(&value())?,
            "interval" => self.interval_s = Some(number(&value())?),
            "count" => self.count = Some(number(&value())?),
            _ => return Err(bad(format!("invalid option `--{name}`"))),
        }
        Ok(())
    }

    fn letters<'a>(&mut self, letters: &str, words: &mut impl Iterator<Item = &'a str>) -> Outcome {
        let mut rest = letters.chars();
        while let Some(letter) = rest.next() {
            match letter {
                'v' => self.verbose = true,
                'h' => self.help = true,
                'V' => self.version = true,
                '4' => self.family = Family::V4,
                '6' => self.family = Family::V6,
                's' => self.stats = true,
                'C' | 'F' => {}
                'f' | 'i' | 'c' => {
                    let attached = rest.as_str();
                    let value = match attached {
                        "" => words.next().unwrap_or_default(),
                        attached => attached,
                    };
                    match letter {
                        'f' => self.family(value)?,
                        'i' => self.interval_s = Some(number(value)?),
                        _ => self.count = Some(number(value)?),
                    }
                    return Ok(());
                }
                _ => return Err(bad(format!("invalid option `-{letter}`"))),
            }
        }
        Ok(())
    }

    fn family(&mut self, name: &str) -> Outcome {
        self.family = match name {
            "inet" => Family::V4,
            "inet6" => Family::V6,
            _ => return Err(bad(format!("invalid family `{name}`: inet or inet6"))),
        };
        Ok(())
    }

    /// A reader of what stands behind the verb.
    pub(super) fn fields(&self) -> Fields<'_> {
        Fields { rest: self.rest.iter() }
    }
}

fn number(text: &str) -> Outcome<u64> {
    let found = text.parse().ok().filter(|number| *number > 0);
    found.ok_or_else(|| bad(format!("invalid number `{text}`")))
}

fn verb(word: &str) -> Option<Verb> {
    Some(match word {
        "show" | "list" => Verb::Show,
        "add" => Verb::Add,
        "del" => Verb::Del,
        "set" | "change" => Verb::Set,
        "flush" => Verb::Flush,
        "help" => Verb::Help,
        "create" | "destroy" | "enable" | "disable" | "replace" | "test" => Verb::Other,
        _ => return None,
    })
}

/// Words behind a verb, read one by one.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    rest: std::slice::Iter<'a, String>,
}

impl<'a> Fields<'a> {
    pub(super) fn next(&mut self) -> Option<&'a str> {
        self.rest.next().map(String::as_str)
    }

    /// The word behind `key`.
    ///
    /// # Errors
    /// If there is none.
    pub(super) fn value(&mut self, key: &str) -> Outcome<&'a str> {
        self.next().ok_or_else(|| bad(format!("missing value for `{key}`")))
    }

    /// The same as an address.
    ///
    /// # Errors
    /// If there is none.
    pub(super) fn address(&mut self, key: &str) -> Outcome<IpAddr> {
        let value = self.value(key)?;
        value.parse().map_err(|_| bad(format!("invalid {key} `{value}`")))
    }

    /// The same as a number.
    ///
    /// # Errors
    /// If there is none that fits.
    pub(super) fn number<T: std::str::FromStr>(&mut self, key: &str) -> Outcome<T> {
        let value = self.value(key)?;
        value.parse().map_err(|_| bad(format!("invalid {key} `{value}`")))
    }
}

/// A word that does not belong there.
pub(super) fn stray(word: &str) -> Failure {
    bad(format!("invalid parameter `{word}`"))
}

/// Something is not there.
pub(super) fn absent(what: &str) -> Failure {
    bad(format!("missing {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Line {
        Line::parse(&line.split_whitespace().collect::<Vec<_>>()).expect(line)
    }

    #[test]
    fn options_stand_anywhere() {
        for line in ["-s -v link show dpdk0", "link -sv show dpdk0", "link show dpdk0 -s --verbose"]
        {
            let line = parsed(line);
            assert!(line.stats && line.verbose);
            assert_eq!((line.object.as_str(), line.verb), ("link", Verb::Show));
            assert_eq!(line.rest, ["dpdk0"]);
        }
        assert_eq!(parsed("route -6 add default via 2001::1 dev bond2").family, Family::V6);
        assert_eq!(parsed("-f inet6 route show").family, Family::V6);
        let line = parsed("-s link show -i 3 -c 5 dpdk0");
        assert_eq!((line.interval_s, line.count), (Some(3), Some(5)));
        assert_eq!(parsed("neigh list").verb, Verb::Show);
        assert_eq!(parsed("addr").verb, Verb::Show);
    }

    #[test]
    fn slips_are_refused() {
        for line in ["-x addr", "addr frobnicate", "-f ip addr", "-c 3 link show", "-i 0 link show"]
        {
            let words: Vec<&str> = line.split_whitespace().collect();
            assert!(matches!(Line::parse(&words), Err(Failure::Usage(_, 1))), "{line}");
        }
    }
}
