//! The body of every answer that is not a success.

use std::fmt;

use config::{ConfigError, ErrorKind};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The body of every answer with a status of 400 or more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// What is wrong; the first of it, if it is several things.
    pub error: Box<ErrorDetail>,
    /// What else is wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<ErrorDetail>,
}

impl ErrorBody {
    /// With one error in it.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        ErrorDetail {
            code,
            field: None,
            value: None,
            message: message.into(),
            hint: None,
            line: None,
            column: None,
        }
        .into()
    }

    /// With several errors; their code is the first one's.
    pub fn from_config(errors: impl IntoIterator<Item = ConfigError>) -> Self {
        let mut details = errors.into_iter().map(ErrorDetail::from);
        let first = details.next();
        match first {
            Some(error) => Self { error: Box::new(error), others: details.collect() },
            None => Self::new(ErrorCode::Internal, "refused without a reason"),
        }
    }

    /// The HTTP status.
    pub const fn status(&self) -> u16 {
        self.error.code.status()
    }
}

impl From<ErrorDetail> for ErrorBody {
    fn from(error: ErrorDetail) -> Self {
        Self { error: Box::new(error), others: Vec::new() }
    }
}

impl From<ConfigError> for ErrorBody {
    fn from(error: ConfigError) -> Self {
        ErrorDetail::from(error).into()
    }
}

impl fmt::Display for ErrorBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)?;
        self.others.iter().try_for_each(|other| write!(f, "\n{other}"))
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorDetail {
    /// What kind of thing.
    pub code: ErrorCode,
    /// Where in the request or the configuration, as in `services.shop.vips[0]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The value found there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What is wrong with it, for people.
    pub message: String,
    /// The way out, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The line of a file that was sent, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The column, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
}

impl fmt::Display for ErrorDetail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, "{line}:{column}: ")?;
        }
        if let Some(field) = &self.field {
            write!(f, "{field}: ")?;
        }
        f.write_str(&self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

impl From<ConfigError> for ErrorDetail {
    fn from(error: ConfigError) -> Self {
        let code = match error.kind {
            ErrorKind::Syntax => ErrorCode::BadRequest,
            ErrorKind::Invalid => ErrorCode::Invalid,
            ErrorKind::NotFound => ErrorCode::NotFound,
            ErrorKind::Conflict => ErrorCode::Conflict,
        };
        let path = error.path.to_string();
        Self {
            code,
            field: (!path.is_empty()).then_some(path),
            value: error.value,
            message: error.message,
            hint: error.hint,
            line: error.location.map(|location| location.line),
            column: error.location.map(|location| location.column),
        }
    }
}

/// What kind of thing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// 400: not JSON or YAML, an unknown field, a value of the wrong type.
    BadRequest,
    /// 403: not for this user.
    Forbidden,
    /// 404: there is no such thing.
    NotFound,
    /// 405: the path does not know this method.
    MethodNotAllowed,
    /// 409: there is one already, or something else needs it.
    Conflict,
    /// 413: the body is larger than any that is taken.
    TooLarge,
    /// 422: of the right type, but it cannot be.
    Invalid,
    /// 500: a fault of the daemon.
    Internal,
    /// 503: not now: the daemon is starting or stopping, or a worker does not answer.
    Unavailable,
}

impl ErrorCode {
    /// The HTTP status.
    pub const fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::Invalid => 422,
            Self::Internal => 500,
            Self::Unavailable => 503,
        }
    }
}
