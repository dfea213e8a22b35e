//! Handlers of the daemon itself and of its configuration.

use api::{ApplyQuery, ConfigFormat, ConfigQuery, LogSettings};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::extract::{Body, Params, Refused, Text, answer, answer_large, large, text};
use crate::control::Control;

pub(super) async fn status(State(control): State<Control>) -> Response {
    answer(StatusCode::OK, control.status().await)
}

pub(super) async fn version(State(control): State<Control>) -> Response {
    answer(StatusCode::OK, Ok(control.version()))
}

pub(super) async fn log(State(control): State<Control>) -> Response {
    answer(StatusCode::OK, Ok(control.log_settings()))
}

pub(super) async fn set_log(
    State(control): State<Control>,
    Body(settings): Body<LogSettings>,
) -> Response {
    answer(StatusCode::OK, Ok(control.set_log(settings)))
}

pub(super) async fn open_api() -> Response {
    text("application/json", api::openapi_json())
}

pub(super) async fn health() -> Response {
    text("text/plain", "ok\n".to_owned())
}

pub(super) async fn ready(State(control): State<Control>) -> Response {
    match control.ready() {
        Ok(()) => text("text/plain", "ok\n".to_owned()),
        Err(error) => Refused(error).into_response(),
    }
}

pub(super) async fn config(
    State(control): State<Control>,
    Params(query): Params<ConfigQuery>,
) -> Response {
    let config = control.config();
    match query.format {
        ConfigFormat::Json => {
            large("application/json", move || serde_json::to_string(config.config())).await
        }
        ConfigFormat::Yaml => large("application/yaml", move || config::to_yaml(&config)).await,
    }
}

/// An empty body asks how what runs differs from the file.
pub(super) async fn diff(
    State(control): State<Control>,
    Params(query): Params<ApplyQuery>,
    Text(sent): Text,
) -> Response {
    let sent = (!sent.trim().is_empty()).then_some(sent);
    answer_large(control.diff(sent, query).await).await
}

pub(super) async fn apply(
    State(control): State<Control>,
    Params(query): Params<ApplyQuery>,
    Text(sent): Text,
) -> Response {
    answer_large(control.apply(sent, query).await).await
}

pub(super) async fn save(State(control): State<Control>) -> Response {
    answer(StatusCode::OK, control.save().await)
}
