//! The names of the schedulers.

use std::fmt;
use std::str::FromStr;

/// How a service picks the real server of a new conn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheduler {
    /// Round robin: one after the other, whatever their weights.
    Rr,
    /// Weighted round robin, interleaved: over a cycle of as many conns as the weights' sum, each
    /// server gets exactly its weight.
    Wrr,
    /// Weighted least conns: the smallest `(active * 256 + inactive) / weight`, as LVS has it.
    #[default]
    Wlc,
    /// Least conns: the smallest `active * 256 + inactive`, whatever the weights.
    Lc,
    /// Source hash: a table in which each server has places by its weight.
    Sh,
    /// Consistent hash: a ring in which a server that goes moves only its own clients.
    Conhash,
    /// Maglev hash: almost even shares, and few clients move when servers come and go.
    Mh,
}

impl Scheduler {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Rr, Self::Wrr, Self::Wlc, Self::Lc, Self::Sh, Self::Conhash, Self::Mh];

    /// The name in configuration files and commands.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rr => "rr",
            Self::Wrr => "wrr",
            Self::Wlc => "wlc",
            Self::Lc => "lc",
            Self::Sh => "sh",
            Self::Conhash => "conhash",
            Self::Mh => "mh",
        }
    }

    /// True for those that send a client by its address.
    pub const fn is_hash(self) -> bool {
        matches!(self, Self::Sh | Self::Conhash | Self::Mh)
    }

    /// True for those that keep their servers ranked in the worker's cell.
    pub(crate) const fn is_ranked(self) -> bool {
        matches!(self, Self::Wrr | Self::Wlc | Self::Lc)
    }
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What is no scheduler's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no scheduler; there are rr, wrr, wlc, lc, sh, conhash and mh")]
pub struct ParseSchedulerError(pub String);

impl FromStr for Scheduler {
    type Err = ParseSchedulerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|scheduler| scheduler.name() == text)
            .ok_or_else(|| ParseSchedulerError(text.to_owned()))
    }
}

/// What of a client the hashing schedulers look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HashBy {
    /// Its address: all its conns go to one server.
    #[default]
    Source,
    /// Its address and port: its conns are spread, each stays where it is.
    SourceAndPort,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for scheduler in Scheduler::ALL {
            assert_eq!(scheduler.name().parse(), Ok(scheduler));
        }
        assert_eq!("fo".parse::<Scheduler>(), Err(ParseSchedulerError("fo".into())));
    }
}
