//! The program: from arguments to an exit code.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use clap::FromArgMatches;
use serde::Serialize;

use crate::cli::{Cli, Command, command};
use crate::error::{ToaError, USAGE};
use crate::{agent, check, status};

/// What this program was built from.
#[derive(Clone, Copy, Debug)]
pub struct Build {
    /// The version, as in `0.1.0`.
    pub version: &'static str,
    /// The commit; empty if not known.
    pub commit: &'static str,
}

impl Build {
    fn text(self) -> String {
        match self.commit {
            "" => self.version.to_owned(),
            commit => format!("{} ({commit})", self.version),
        }
    }
}

/// Where it writes to, and how.
pub(crate) struct Output<'a> {
    json: bool,
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
}

impl Output<'_> {
    /// Writes a value as JSON or as text.
    pub(crate) fn print(&mut self, value: &impl Serialize, text: &str) -> Result<(), ToaError> {
        let json = || serde_json::to_string(value).map(|line| line + "\n");
        let written = match self.json {
            true => json().map_err(Into::into).and_then(|line| self.out.write_all(line.as_bytes())),
            false => self.out.write_all(text.as_bytes()),
        };
        written.and_then(|()| self.out.flush()).map_err(|reason| match reason.kind() {
            ErrorKind::BrokenPipe => ToaError::Closed,
            _ => ToaError::io("standard output")(reason),
        })
    }

    /// Writes what went wrong.
    pub(crate) fn complain(&mut self, text: &str) {
        // Where even standard error is closed there is nobody left to tell.
        let _ = writeln!(self.err, "error: {text}");
    }
}

/// Lines whose columns stand below each other.
pub(crate) fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// Runs `dptoa` with the arguments of the process.
pub fn main(build: Build) -> ExitCode {
    let grammar = command().version(build.text());
    let parsed = grammar.try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE));
        }
    };
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    let mut output = Output { json: cli.options.json, out: &mut out, err: &mut err };
    let pins = &cli.options.pins;
    let done = match &cli.command {
        Command::Run(run) => agent::run(pins, run, &mut output),
        Command::Status => status::status(pins, &mut output),
        Command::Check(check) => check::check(pins, check.cgroup.as_deref(), &mut output),
    };
    let Err(error) = done else { return ExitCode::SUCCESS };
    if !matches!(error, ToaError::Closed) {
        output.complain(&error.to_string());
    }
    ExitCode::from(error.code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let rows = [["a", "1", "x"], ["longer", "1000", ""]].map(|row| row.map(str::to_owned));
        assert_eq!(columns(&rows), "a       1     x\nlonger  1000\n");
    }
}
