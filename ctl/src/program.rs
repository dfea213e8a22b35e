//! The program: from arguments to an exit code.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use api::Client;
use api::client::blocking;
use clap::FromArgMatches;

use crate::cli::{Cli, command};
use crate::commands;
use crate::compat::{Call, Personality};
use crate::error::{CtlError, USAGE};
use crate::session::{Session, write};
use crate::words;

/// What this program was built from.
#[derive(Clone, Copy, Debug)]
pub struct Build {
    /// The version, as in `0.1.0`.
    pub version: &'static str,
    /// The commit; empty if not known.
    pub commit: &'static str,
}

impl Build {
    /// As in `0.1.0 (f58bc52b0a1c)`.
    pub(crate) fn text(self) -> String {
        match self.commit {
            "" => self.version.to_owned(),
            commit => format!("{} ({commit})", self.version),
        }
    }
}

/// What is known of standard output and standard error.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terminal {
    /// How many characters fit a line; nothing if standard output is no terminal.
    pub width: Option<u16>,
    /// Whether help may be coloured.
    pub coloured_output: bool,
    /// Whether errors may be coloured.
    pub coloured_errors: bool,
}

impl Terminal {
    fn detect() -> Self {
        let out = std::io::stdout();
        let columns = || std::env::var("COLUMNS").ok()?.parse().ok().filter(|&width| width > 0);
        let size = || rustix::termios::tcgetwinsize(&out).ok().map(|size| size.ws_col);
        let width = out
            .is_terminal()
            .then(|| columns().or_else(size).filter(|&width| width > 0).unwrap_or(80));
        // https://no-color.org
        let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self {
            width,
            coloured_output: colours && width.is_some(),
            coloured_errors: colours && std::io::stderr().is_terminal(),
        }
    }
}

/// Runs `dpctl` with the arguments of the process; called as `dpip` or `ipvsadm`, that command of DPVS.
pub fn main(build: Build) -> ExitCode {
    let mut words = std::env::args_os();
    let program = words.next().unwrap_or_default();
    let words: Vec<OsString> = words.collect();
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    if let Some(personality) = Personality::of_program(&program) {
        return ExitCode::from(Call::new(personality, &words).run(&mut out, &mut err));
    }
    ExitCode::from(run(build, &words, Terminal::detect(), &mut out, &mut err))
}

/// Runs `dpctl` with `words`, its name not among them. The exit code.
pub fn run(
    build: Build,
    words: &[OsString],
    terminal: Terminal,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    if let Some(call) = Call::in_words(words) {
        return call.run(out, err);
    }
    let grammar = command().version(build.text());
    let words = match words::expand(&grammar, words) {
        Ok(words) => words,
        Err(error) => {
            // Where even standard error is closed there is nobody left to tell.
            let _ = write(err, &format!("error: {error}; see `dpctl help`\n"));
            return USAGE;
        }
    };
    let name = std::iter::once(OsString::from("dpctl"));
    let parsed = grammar
        .try_get_matches_from(name.chain(words))
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return refuse(&error, terminal, out, err),
    };
    match execute(build, &cli, terminal, out, err) {
        Ok(()) => 0,
        Err(error) => {
            let code = error.code();
            if !matches!(error, CtlError::Closed) {
                let text = error.to_string().replace('\n', "\nerror: ");
                let _ = write(err, &format!("error: {text}\n"));
            }
            code
        }
    }
}

/// Prints what clap has to say: a refusal, or help.
fn refuse(error: &clap::Error, terminal: Terminal, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let text = |coloured: bool| match coloured {
        true => error.render().ansi().to_string(),
        false => error.render().to_string(),
    };
    let _ = if error.use_stderr() {
        write(err, &text(terminal.coloured_errors))
    } else {
        write(out, &text(terminal.coloured_output))
    };
    u8::try_from(error.exit_code()).unwrap_or(USAGE)
}

fn execute(
    build: Build,
    cli: &Cli,
    terminal: Terminal,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), CtlError> {
    let client = cli.options.socket.clone().map_or_else(Client::from_env, Client::new);
    let client = blocking::Client::new(client)
        .map_err(|reason| CtlError::Io { file: "epoll".to_owned(), reason })?;
    let mut session = Session { client, options: &cli.options, width: terminal.width, out, err };
    commands::run(&mut session, build, &cli.command)
}
