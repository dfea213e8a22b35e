//! Why a command failed, and with which exit code.

use std::io;
use std::path::PathBuf;

use api::{ClientError, ErrorBody, ErrorCode, ErrorDetail};

/// Refused: by the daemon, or by the file system.
const REFUSED: u8 = 1;
/// Not how `dpctl` is used.
pub(crate) const USAGE: u8 = 2;
const NOT_FOUND: u8 = 3;
const UNREACHABLE: u8 = 4;
const CONFLICT: u8 = 5;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CtlError {
    /// The daemon did not do it.
    #[error(transparent)]
    Client(ClientError),
    /// The daemon is there, but not for this user.
    #[error(
        "{}: permission denied; dpctl is for root and the group `dpnat`: try `sudo dpctl`",
        .0.display()
    )]
    Permission(PathBuf),
    /// The daemon refused what is in a file.
    #[error("{}", in_file(.file, .body))]
    File {
        /// The file.
        file: String,
        /// What is wrong with it.
        body: ErrorBody,
    },
    /// A file cannot be read or written.
    #[error("{file}: {reason}")]
    Io {
        /// The file.
        file: String,
        /// What the kernel says.
        reason: io::Error,
    },
    /// A file is not what it should be.
    #[error("{0}")]
    Refused(String),
    /// The arguments make no sense together.
    #[error("{0}")]
    Usage(String),
    /// Nobody reads what is printed any more.
    #[error("the output is closed")]
    Closed,
}

/// Each thing that is wrong with a file, behind the file's name.
fn in_file(file: &str, body: &ErrorBody) -> String {
    let lines = std::iter::once(&*body.error).chain(&body.others);
    // With a line, an error begins with it, and the colon is of `file:line:column:`.
    let text = |error: &ErrorDetail| match error.line {
        Some(_) => format!("{file}:{error}"),
        None => format!("{file}: {error}"),
    };
    lines.map(text).collect::<Vec<_>>().join("\n")
}

impl CtlError {
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Client(ClientError::Refused(body)) | Self::File { body, .. } => {
                refused(body.error.code)
            }
            Self::Client(ClientError::Unreachable { .. } | ClientError::Timeout { .. })
            | Self::Permission(_) => UNREACHABLE,
            Self::Client(ClientError::Protocol { .. }) | Self::Io { .. } | Self::Refused(_) => {
                REFUSED
            }
            Self::Client(ClientError::Request { .. }) | Self::Usage(_) => USAGE,
            Self::Closed => 0,
        }
    }
}

impl From<ClientError> for CtlError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Unreachable { socket, reason }
                if reason.kind() == io::ErrorKind::PermissionDenied =>
            {
                Self::Permission(socket)
            }
            error => Self::Client(error),
        }
    }
}

const fn refused(code: ErrorCode) -> u8 {
    match code {
        ErrorCode::NotFound => NOT_FOUND,
        ErrorCode::Conflict => CONFLICT,
        ErrorCode::Unavailable => UNREACHABLE,
        ErrorCode::BadRequest
        | ErrorCode::Forbidden
        | ErrorCode::MethodNotAllowed
        | ErrorCode::TooLarge
        | ErrorCode::Invalid
        | ErrorCode::Internal => REFUSED,
    }
}
