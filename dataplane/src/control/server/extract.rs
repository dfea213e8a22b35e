//! Requests and answers in the API's own manner: every refusal is an [`ErrorBody`].

use std::time::Duration;

use api::{ErrorBody, ErrorCode};
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::control::Reply;

/// How long a client may take for the body of a request.
const BODY_WITHIN: Duration = Duration::from_secs(30);

/// An [`ErrorBody`] as an answer.
#[derive(Debug)]
pub(super) struct Refused(pub ErrorBody);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status()).unwrap_or(StatusCode::BAD_REQUEST);
        (status, axum::Json(self.0)).into_response()
    }
}

/// What may be large: written on another thread, so that nobody else waits for it.
pub(super) async fn answer_large<T: Serialize + Send + 'static>(reply: Reply<T>) -> Response {
    let value = match reply {
        Ok(value) => value,
        Err(error) => return Refused(error).into_response(),
    };
    large("application/json", move || serde_json::to_string(&value)).await
}

/// The same of a text that is yet to be written.
pub(super) async fn large<E: std::fmt::Display + Send + 'static>(
    media_type: &'static str,
    write: impl FnOnce() -> Result<String, E> + Send + 'static,
) -> Response {
    let refused = |error: String| Refused(ErrorBody::new(ErrorCode::Internal, error));
    match tokio::task::spawn_blocking(write).await {
        Ok(Ok(written)) => text(media_type, written),
        Ok(Err(error)) => refused(error.to_string()).into_response(),
        Err(error) => refused(error.to_string()).into_response(),
    }
}

/// What an operation comes to, as an answer of the given status or a refusal.
pub(super) fn answer<T: Serialize>(status: StatusCode, reply: Reply<T>) -> Response {
    match reply {
        Ok(value) => (status, axum::Json(value)).into_response(),
        Err(error) => Refused(error).into_response(),
    }
}

/// A text of the given type.
pub(super) fn text(content_type: &'static str, text: String) -> Response {
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
}

fn bad_request(message: impl std::fmt::Display) -> Refused {
    Refused(ErrorBody::new(ErrorCode::BadRequest, message.to_string()))
}

/// The parameters behind the `?`.
#[derive(Debug)]
pub(super) struct Params<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        Query::try_from_uri(&parts.uri)
            .map(|Query(params)| Self(params))
            .map_err(|rejection| bad_request(rejection.body_text()))
    }
}

/// All of a body. A client that does not end it would hold its place for ever.
async fn whole<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Refused> {
    let bytes = tokio::time::timeout(BODY_WITHIN, Bytes::from_request(request, state)).await;
    let bytes = bytes.map_err(|_| {
        bad_request(format_args!("the body did not come within {} s", BODY_WITHIN.as_secs()))
    })?;
    bytes.map_err(|rejection| {
        let code = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => ErrorCode::TooLarge,
            _ => ErrorCode::BadRequest,
        };
        Refused(ErrorBody::new(code, rejection.body_text()))
    })
}

/// A body in JSON.
#[derive(Debug)]
pub(super) struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        let bytes = whole(request, state).await?;
        api::from_json(&bytes).map(Self).map_err(Refused)
    }
}

/// A body of text, as configurations are.
#[derive(Debug)]
pub(super) struct Text(pub String);

impl<S: Send + Sync> FromRequest<S> for Text {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        let bytes = whole(request, state).await?;
        String::from_utf8(bytes.into()).map(Self).map_err(bad_request)
    }
}

/// What a path names, of its type.
pub(super) fn named<T: std::str::FromStr>(what: &str, text: &str) -> Result<T, Refused>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| {
        let mut body = ErrorBody::new(ErrorCode::BadRequest, error.to_string());
        body.error.field = Some(what.to_owned());
        body.error.value = Some(text.to_owned());
        Refused(body)
    })
}
