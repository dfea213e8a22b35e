//! Handlers of what is observed: conns, statistics, workers, explanations.

use api::{ConnectionQuery, CounterQuery, PacketDescription};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::extract::{Body, Params, answer, answer_large};
use crate::control::Control;

pub(super) async fn connections(
    State(control): State<Control>,
    Params(query): Params<ConnectionQuery>,
) -> Response {
    answer_large(control.connections(query).await).await
}

pub(super) async fn close_connections(
    State(control): State<Control>,
    Params(query): Params<ConnectionQuery>,
) -> Response {
    answer(StatusCode::OK, control.close_connections(query).await)
}

pub(super) async fn stats(State(control): State<Control>) -> Response {
    answer_large(control.stats().await).await
}

pub(super) async fn counters(
    State(control): State<Control>,
    Params(query): Params<CounterQuery>,
) -> Response {
    answer(StatusCode::OK, control.counters(&query))
}

pub(super) async fn workers(State(control): State<Control>) -> Response {
    answer(StatusCode::OK, Ok(control.workers()))
}

pub(super) async fn explain(
    State(control): State<Control>,
    Body(packet): Body<PacketDescription>,
) -> Response {
    answer(StatusCode::OK, control.explain(packet).await)
}
