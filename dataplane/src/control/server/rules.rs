//! Handlers of changes of the rules of NAT and forwarding.

use api::{Removal, RulePlace};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use config::{DnatRule, ForwardingRule, SnatRule};
use serde_json::Value;

use super::extract::{Body, Params, answer};
use crate::control::Control;

pub(super) async fn add_snat(
    State(control): State<Control>,
    Path(name): Path<String>,
    Params(place): Params<RulePlace>,
    Body(rule): Body<SnatRule>,
) -> Response {
    answer(StatusCode::CREATED, control.add_snat(name, place, rule).await)
}

pub(super) async fn put_snat(
    State(control): State<Control>,
    Path(name): Path<String>,
    Params(place): Params<RulePlace>,
    Body(rule): Body<SnatRule>,
) -> Response {
    answer(StatusCode::OK, control.put_snat(name, place, rule).await)
}

pub(super) async fn set_snat(
    State(control): State<Control>,
    Path(name): Path<String>,
    Params(place): Params<RulePlace>,
    Body(patch): Body<Value>,
) -> Response {
    answer(StatusCode::OK, control.set_snat(name, place, patch).await)
}

pub(super) async fn delete_snat(
    State(control): State<Control>,
    Path(name): Path<String>,
    Params(removal): Params<Removal>,
) -> Response {
    answer(StatusCode::OK, control.delete_snat(name, removal).await)
}

pub(super) async fn add_dnat(
    State(control): State<Control>,
    Path(name): Path<String>,
    Body(rule): Body<DnatRule>,
) -> Response {
    answer(StatusCode::CREATED, control.add_dnat(name, rule).await)
}

pub(super) async fn put_dnat(
    State(control): State<Control>,
    Path(name): Path<String>,
    Body(rule): Body<DnatRule>,
) -> Response {
    answer(StatusCode::OK, control.put_dnat(name, rule).await)
}

pub(super) async fn set_dnat(
    State(control): State<Control>,
    Path(name): Path<String>,
    Body(patch): Body<Value>,
) -> Response {
    answer(StatusCode::OK, control.set_dnat(name, patch).await)
}

pub(super) async fn delete_dnat(
    State(control): State<Control>,
    Path(name): Path<String>,
    Params(removal): Params<Removal>,
) -> Response {
    answer(StatusCode::OK, control.delete_dnat(name, removal).await)
}

pub(super) async fn set_forwarding(
    State(control): State<Control>,
    Body(patch): Body<Value>,
) -> Response {
    answer(StatusCode::OK, control.set_forwarding(patch).await)
}

pub(super) async fn add_forwarding_rule(
    State(control): State<Control>,
    Path(name): Path<String>,
    Params(place): Params<RulePlace>,
    Body(rule): Body<ForwardingRule>,
) -> Response {
    answer(StatusCode::CREATED, control.add_forwarding_rule(name, place, rule).await)
}

pub(super) async fn put_forwarding_rule(
    State(control): State<Control>,
    Path(name): Path<String>,
    Params(place): Params<RulePlace>,
    Body(rule): Body<ForwardingRule>,
) -> Response {
    answer(StatusCode::OK, control.put_forwarding_rule(name, place, rule).await)
}

pub(super) async fn set_forwarding_rule(
    State(control): State<Control>,
    Path(name): Path<String>,
    Params(place): Params<RulePlace>,
    Body(patch): Body<Value>,
) -> Response {
    answer(StatusCode::OK, control.set_forwarding_rule(name, place, patch).await)
}

pub(super) async fn delete_forwarding_rule(
    State(control): State<Control>,
    Path(name): Path<String>,
) -> Response {
    answer(StatusCode::OK, control.delete_forwarding_rule(name).await)
}
