//! Handlers of services, their real servers and their LIPs.

use std::net::IpAddr;

use api::{HealthQuery, NewLip, Removal, ServerSettings, ServiceQuery};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use config::Service;
use types::Endpoint;

use super::extract::{Body, Params, answer, answer_large, named};
use crate::control::Control;

pub(super) async fn services(
    State(control): State<Control>,
    Params(query): Params<ServiceQuery>,
) -> Response {
    answer_large(control.services(&query).await).await
}

pub(super) async fn server_health(
    State(control): State<Control>,
    Params(query): Params<HealthQuery>,
) -> Response {
    answer_large(control.server_health(query.service.as_deref()).await).await
}

pub(super) async fn zero(
    State(control): State<Control>,
    Params(query): Params<ServiceQuery>,
) -> Response {
    answer(StatusCode::OK, control.zero_services(&query).await)
}

pub(super) async fn lip_uses(State(control): State<Control>) -> Response {
    answer_large(control.lip_uses().await).await
}

pub(super) async fn service(State(control): State<Control>, Path(name): Path<String>) -> Response {
    answer(StatusCode::OK, control.service(&name).await)
}

pub(super) async fn add_service(
    State(control): State<Control>,
    Path(name): Path<String>,
    Body(service): Body<Service>,
) -> Response {
    answer(StatusCode::CREATED, control.add_service(name, service).await)
}

pub(super) async fn set_service(
    State(control): State<Control>,
    Path(name): Path<String>,
    Body(patch): Body<serde_json::Value>,
) -> Response {
    answer(StatusCode::OK, control.set_service(name, patch).await)
}

pub(super) async fn delete_service(
    State(control): State<Control>,
    Path(name): Path<String>,
    Params(removal): Params<Removal>,
) -> Response {
    answer(StatusCode::OK, control.delete_service(name, removal).await)
}

pub(super) async fn servers(State(control): State<Control>, Path(name): Path<String>) -> Response {
    answer(StatusCode::OK, control.servers(&name).await)
}

pub(super) async fn add_server(
    State(control): State<Control>,
    Path((name, address)): Path<(String, String)>,
    Body(settings): Body<ServerSettings>,
) -> Response {
    match named::<Endpoint>("address", &address) {
        Ok(address) => {
            answer(StatusCode::CREATED, control.add_server(name, address, settings).await)
        }
        Err(refused) => refused.into_response(),
    }
}

pub(super) async fn set_server(
    State(control): State<Control>,
    Path((name, address)): Path<(String, String)>,
    Body(patch): Body<serde_json::Value>,
) -> Response {
    match named::<Endpoint>("address", &address) {
        Ok(address) => answer(StatusCode::OK, control.set_server(name, address, patch).await),
        Err(refused) => refused.into_response(),
    }
}

pub(super) async fn delete_server(
    State(control): State<Control>,
    Path((name, address)): Path<(String, String)>,
    Params(removal): Params<Removal>,
) -> Response {
    match named::<Endpoint>("address", &address) {
        Ok(address) => answer(StatusCode::OK, control.delete_server(name, address, removal).await),
        Err(refused) => refused.into_response(),
    }
}

pub(super) async fn lips(State(control): State<Control>, Path(name): Path<String>) -> Response {
    answer(StatusCode::OK, control.lips(&name).await)
}

pub(super) async fn add_lips(
    State(control): State<Control>,
    Path(name): Path<String>,
    Body(new): Body<NewLip>,
) -> Response {
    answer(StatusCode::CREATED, control.add_lips(name, new).await)
}

pub(super) async fn delete_lip(
    State(control): State<Control>,
    Path((name, address)): Path<(String, String)>,
) -> Response {
    match named::<IpAddr>("address", &address) {
        Ok(address) => answer(StatusCode::OK, control.delete_lip(name, address).await),
        Err(refused) => refused.into_response(),
    }
}
