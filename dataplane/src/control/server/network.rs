//! Handlers of addresses, routes, neighbours and links.

use api::{AddressKey, DevQuery, NeighbourKey, RouteKey};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use config::{Address, Neighbour, Route, Vlan};

use super::extract::{Body, Params, answer, answer_large};
use crate::control::Control;

pub(super) async fn addresses(
    State(control): State<Control>,
    Params(query): Params<DevQuery>,
) -> Response {
    answer_large(control.addresses(&query)).await
}

pub(super) async fn add_address(
    State(control): State<Control>,
    Body(address): Body<Address>,
) -> Response {
    answer(StatusCode::CREATED, control.add_address(address).await)
}

pub(super) async fn delete_address(
    State(control): State<Control>,
    Params(key): Params<AddressKey>,
) -> Response {
    answer(StatusCode::OK, control.delete_address(key).await)
}

pub(super) async fn routes(
    State(control): State<Control>,
    Params(query): Params<DevQuery>,
) -> Response {
    answer_large(control.routes(&query)).await
}

pub(super) async fn add_route(
    State(control): State<Control>,
    Body(route): Body<Route>,
) -> Response {
    answer(StatusCode::CREATED, control.add_route(route).await)
}

pub(super) async fn set_route(
    State(control): State<Control>,
    Body(route): Body<Route>,
) -> Response {
    answer(StatusCode::OK, control.set_route(route).await)
}

pub(super) async fn delete_route(
    State(control): State<Control>,
    Params(key): Params<RouteKey>,
) -> Response {
    answer(StatusCode::OK, control.delete_route(key).await)
}

pub(super) async fn neighbours(
    State(control): State<Control>,
    Params(query): Params<DevQuery>,
) -> Response {
    answer(StatusCode::OK, control.neighbours(&query))
}

pub(super) async fn add_neighbour(
    State(control): State<Control>,
    Body(neighbour): Body<Neighbour>,
) -> Response {
    answer(StatusCode::CREATED, control.add_neighbour(neighbour).await)
}

pub(super) async fn set_neighbour(
    State(control): State<Control>,
    Body(neighbour): Body<Neighbour>,
) -> Response {
    answer(StatusCode::OK, control.set_neighbour(neighbour).await)
}

pub(super) async fn delete_neighbour(
    State(control): State<Control>,
    Params(key): Params<NeighbourKey>,
) -> Response {
    answer(StatusCode::OK, control.delete_neighbour(key).await)
}

pub(super) async fn links(State(control): State<Control>) -> Response {
    answer(StatusCode::OK, Ok(control.links()))
}

pub(super) async fn link(State(control): State<Control>, Path(name): Path<String>) -> Response {
    answer(StatusCode::OK, control.link(&name))
}

pub(super) async fn add_vlan(
    State(control): State<Control>,
    Path(name): Path<String>,
    Body(vlan): Body<Vlan>,
) -> Response {
    answer(StatusCode::CREATED, control.add_vlan(name, vlan).await)
}

pub(super) async fn delete_vlan(
    State(control): State<Control>,
    Path(name): Path<String>,
) -> Response {
    answer(StatusCode::OK, control.delete_vlan(name).await)
}
