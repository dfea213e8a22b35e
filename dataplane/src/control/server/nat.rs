//! Handlers of what NAT and forwarding have counted and have in use.

use std::net::IpAddr;

use api::MappingQuery;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::extract::{Params, answer, answer_large, named};
use crate::control::Control;

pub(super) async fn snat_rules(State(control): State<Control>) -> Response {
    answer_large(control.snat_rules().await).await
}

pub(super) async fn snat_rule(
    State(control): State<Control>,
    Path(name): Path<String>,
) -> Response {
    answer(StatusCode::OK, control.snat_rule(&name).await)
}

pub(super) async fn mappings(
    State(control): State<Control>,
    Params(query): Params<MappingQuery>,
) -> Response {
    answer_large(control.mappings(query).await).await
}

pub(super) async fn subscriber(
    State(control): State<Control>,
    Path(address): Path<String>,
) -> Response {
    match named::<IpAddr>("address", &address) {
        Ok(address) => answer(StatusCode::OK, control.subscriber(address).await),
        Err(refused) => refused.into_response(),
    }
}

pub(super) async fn pools(State(control): State<Control>) -> Response {
    answer_large(control.wan_addresses().await).await
}

pub(super) async fn dnat_rules(State(control): State<Control>) -> Response {
    answer_large(control.dnat_rules().await).await
}

pub(super) async fn dnat_rule(
    State(control): State<Control>,
    Path(name): Path<String>,
) -> Response {
    answer(StatusCode::OK, control.dnat_rule(&name).await)
}

pub(super) async fn forwarding(State(control): State<Control>) -> Response {
    answer_large(control.forwarding().await).await
}
