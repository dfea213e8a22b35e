//! The commands of DPVS: `ipvsadm` and `dpip`, as their users type them.
//!
//! Called by one of these names, or as `dpctl ipvsadm …`, the program speaks that command's grammar
//! and prints what DPVS 1.10.2 prints, column for column: scripts cut these columns. What dpnat has no
//! counterpart for is refused by name, with what serves instead; it is never passed over in silence.

mod dpip;
mod dpvs;
mod ipvsadm;
mod missing;

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::{Path, PathBuf};

use api::client::blocking;
use api::{Client, ClientError, ErrorCode, Request, Warnings};
use serde::de::DeserializeOwned;

use crate::error::CtlError;
use crate::session::write;
use dpvs::{Code, Message};

pub(crate) use missing::MISSING;

/// Whose grammar is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Personality {
    /// `dpip`: devices, addresses, routes, neighbours.
    Dpip,
    /// `ipvsadm`: services, real servers, local addresses.
    Ipvsadm,
}

impl Personality {
    fn named(name: &OsStr) -> Option<Self> {
        match name.to_str()? {
            "dpip" => Some(Self::Dpip),
            "ipvsadm" => Some(Self::Ipvsadm),
            _ => None,
        }
    }

    /// That of a program called by this path.
    pub(crate) fn of_program(path: &OsStr) -> Option<Self> {
        Path::new(path).file_name().and_then(Self::named)
    }
}

/// A call of one of DPVS's commands.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    personality: Personality,
    socket: Option<PathBuf>,
    words: &'a [OsString],
}

impl<'a> Call<'a> {
    /// Of a program that has the command's name.
    pub(crate) fn new(personality: Personality, words: &'a [OsString]) -> Self {
        Self { personality, socket: None, words }
    }

    /// `dpctl [--socket PATH] ipvsadm|dpip …`, if that is what the words are.
    pub(crate) fn in_words(words: &'a [OsString]) -> Option<Self> {
        let (socket, words) = match words {
            [option, path, rest @ ..] if option == "--socket" => (Some(PathBuf::from(path)), rest),
            words => (None, words),
        };
        let (name, words) = words.split_first()?;
        Some(Self { personality: Personality::named(name)?, socket, words })
    }

    /// Does it. The exit code.
    pub(crate) fn run(self, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
        let Some(words) = self.words.iter().map(|word| word.to_str()).collect::<Option<Vec<_>>>()
        else {
            // Where even standard error is closed there is nobody left to tell.
            let _ = write(err, "an argument is no text\n");
            return 2;
        };
        let client = self.socket.map_or_else(Client::from_env, Client::new);
        let client = match blocking::Client::new(client) {
            Ok(client) => client,
            Err(error) => {
                let _ = write(err, &format!("epoll: {error}\n"));
                return 1;
            }
        };
        let mut compat = Compat { client, out, err };
        let done = match self.personality {
            Personality::Dpip => dpip::run(&mut compat, &words),
            Personality::Ipvsadm => ipvsadm::run(&mut compat, &words),
        };
        match done {
            Ok(()) => 0,
            Err(failure) => {
                let text = failure.text(self.personality);
                let _ = write(compat.err, &text);
                failure.exit_code(self.personality)
            }
        }
    }
}

/// What comes of a command.
type Outcome<T = ()> = Result<T, Failure>;

/// Why a command was not done.
#[derive(Debug)]
enum Failure {
    /// Not how the command is used: what is printed, and the exit code.
    Usage(String, u8),
    /// dpnat has no counterpart: for what, and what serves instead.
    NotSupported(String, &'static str),
    /// DPVS would refuse it: its message and code, and what the daemon says besides.
    Refused(Message, Code, Option<String>),
    /// Anything else.
    Other(CtlError),
}

impl Failure {
    /// A usage error of `ipvsadm`, which exits with 2.
    fn usage(text: impl Into<String>) -> Self {
        Self::Usage(format!("{}\n", text.into()), 2)
    }

    fn not_supported(what: impl Into<String>, instead: &'static str) -> Self {
        Self::NotSupported(what.into(), instead)
    }

    fn text(&self, personality: Personality) -> String {
        match self {
            Self::Usage(text, _) => text.clone(),
            Self::NotSupported(what, instead) => format!("not supported: {what}: {instead}\n"),
            Self::Refused(message, code, reason) => {
                let Message(number) = message;
                let line = format!(
                    "[sockopt_msg_recv] errcode set in socket msg#{number} header: {}({})\n",
                    code.text(),
                    code.number(),
                );
                let last = match (personality, reason) {
                    (_, Some(reason)) => reason.replace('\n', "\n  "),
                    // What `ipvsadm` makes of an error number that nobody has set.
                    (Personality::Ipvsadm, None) => "Success".to_owned(),
                    (Personality::Dpip, None) => format!("dpip: {}", code.text()),
                };
                format!("{line}{last}\n")
            }
            Self::Other(CtlError::Closed) => String::new(),
            Self::Other(error) => format!("error: {}\n", error.to_string().replace('\n', "\n  ")),
        }
    }

    fn exit_code(&self, personality: Personality) -> u8 {
        match self {
            Self::Usage(_, code) => *code,
            Self::NotSupported(..) => 1,
            // The negative number, as a process can give it back; `dpip` gives 1 for all.
            Self::Refused(_, code, _) => match personality {
                Personality::Ipvsadm => code.exit_code(),
                Personality::Dpip => 1,
            },
            Self::Other(error) => error.code(),
        }
    }
}

impl From<CtlError> for Failure {
    fn from(error: CtlError) -> Self {
        Self::Other(error)
    }
}

/// A command's means.
struct Compat<'a> {
    client: blocking::Client,
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
}

impl Compat<'_> {
    /// Asks the daemon for what is.
    fn ask<T: DeserializeOwned>(&self, request: Request) -> Outcome<T> {
        self.client.send(request).map_err(|error| Failure::Other(error.into()))
    }

    /// Asks the daemon for a change; a refusal is told as DPVS tells that of `message`.
    fn change(&self, message: Message, request: Request) -> Outcome {
        let answer: Result<Warnings, ClientError> = self.client.send(request);
        answer.map(drop).map_err(|error| refusal(message, error))
    }

    fn print(&mut self, text: &str) -> Outcome {
        Ok(write(self.out, text)?)
    }

    fn complain(&mut self, text: &str) -> Outcome {
        Ok(write(self.err, text)?)
    }
}

/// What DPVS would say of what the daemon says.
fn refusal(message: Message, error: ClientError) -> Failure {
    let ClientError::Refused(body) = &error else { return Failure::Other(error.into()) };
    let code = match body.error.code {
        ErrorCode::NotFound => Code::NotExist,
        ErrorCode::Conflict => Code::Exist,
        ErrorCode::Invalid | ErrorCode::BadRequest => Code::Inval,
        _ => return Failure::Other(error.into()),
    };
    Failure::Refused(message, code, Some(body.to_string()))
}

/// Where DPVS's own words say all of it, they are enough: a thing is there already, or is not.
fn plainly(outcome: Outcome) -> Outcome {
    outcome.map_err(|failure| match failure {
        Failure::Refused(message, Code::NotExist, _) => {
            Failure::Refused(message, Code::NotExist, None)
        }
        Failure::Refused(message, Code::Exist, Some(reason)) => {
            let same = reason.ends_with(" already")
                || ["there is a ", " is there twice"].iter().any(|words| reason.contains(words));
            Failure::Refused(message, Code::Exist, (!same).then_some(reason))
        }
        other => other,
    })
}
