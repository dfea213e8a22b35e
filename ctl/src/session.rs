//! What a command has while it runs: the daemon, the options and where it prints.

use std::io::{ErrorKind, Write};
use std::net::IpAddr;

use api::client::blocking;
use api::{ClientError, Request, Warnings};
use config::Prefix;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cli::Options;
use crate::error::CtlError;

/// What comes of a command.
pub(crate) type Outcome = Result<(), CtlError>;

/// A command's means.
pub(crate) struct Session<'a> {
    pub(crate) client: blocking::Client,
    pub(crate) options: &'a Options,
    /// How many characters fit a line; nothing if it is no terminal.
    pub(crate) width: Option<u16>,
    pub(crate) out: &'a mut dyn Write,
    pub(crate) err: &'a mut dyn Write,
}

impl Session<'_> {
    /// Asks the daemon.
    pub(crate) fn ask<T: DeserializeOwned>(&self, request: Request) -> Result<T, CtlError> {
        Ok(self.client.send(request)?)
    }

    /// Asks the daemon for a change. People hear of it only if there is something to say.
    pub(crate) fn change(&mut self, request: Request) -> Outcome {
        let answer: Warnings = self.ask(request)?;
        self.warn(&answer.warnings)?;
        if self.is_json() { self.json(&answer) } else { Ok(()) }
    }

    /// Prints what may not be meant.
    pub(crate) fn warn(&mut self, warnings: &[config::Warning]) -> Outcome {
        // In JSON they are part of the answer.
        let warnings = if self.is_json() { &[] } else { warnings };
        let text: String = warnings.iter().map(|w| format!("warning: {w}\n")).collect();
        write(self.err, &text)
    }

    /// Prints an answer, as JSON or for people.
    pub(crate) fn print<T: Serialize>(
        &mut self,
        answer: &T,
        people: impl FnOnce(&T, &Options) -> String,
    ) -> Outcome {
        if self.is_json() {
            return self.json(answer);
        }
        let text = people(answer, self.options);
        self.text(&text)
    }

    /// Prints JSON.
    pub(crate) fn json(&mut self, answer: &impl Serialize) -> Outcome {
        let text = if self.options.pretty {
            serde_json::to_string_pretty(answer)
        } else {
            serde_json::to_string(answer)
        };
        let text = text.map_err(|error| CtlError::usage(error.to_string()))?;
        self.text(&format!("{text}\n"))
    }

    /// Prints text.
    pub(crate) fn text(&mut self, text: &str) -> Outcome {
        write(self.out, text)
    }

    /// Prints a remark that is no part of the answer.
    pub(crate) fn remark(&mut self, text: &str) -> Outcome {
        write(self.err, &format!("{text}\n"))
    }

    pub(crate) const fn is_json(&self) -> bool {
        self.options.json || self.options.pretty
    }

    /// A destination as given: with `-6`, `default` is that of IPv6.
    pub(crate) fn destination(&self, to: Prefix) -> Prefix {
        if self.options.ipv6 { to.or_default_v6() } else { to }
    }

    /// True if `-4` and `-6` let it through.
    pub(crate) fn shows(&self, address: IpAddr) -> bool {
        match (self.options.ipv4, self.options.ipv6) {
            (true, _) => address.is_ipv4(),
            (_, true) => address.is_ipv6(),
            (false, false) => true,
        }
    }
}

/// Writes all of it at once.
pub(crate) fn write(to: &mut dyn Write, text: &str) -> Outcome {
    let written = to.write_all(text.as_bytes()).and_then(|()| to.flush());
    written.map_err(|reason| match reason.kind() {
        ErrorKind::BrokenPipe => CtlError::Closed,
        _ => CtlError::Io { file: "standard output".to_owned(), reason },
    })
}

/// Turns a refusal into one that names the file that was sent.
pub(crate) fn about_file(error: CtlError, file: &str) -> CtlError {
    match error {
        CtlError::Client(ClientError::Refused(body)) => {
            CtlError::File { file: file.to_owned(), body }
        }
        error => error,
    }
}
