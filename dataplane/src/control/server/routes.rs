//! Every operation of the API and what of control answers it.

use api::{ErrorBody, ErrorCode, Operation};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{self, MethodFilter, MethodRouter};

use super::extract::Refused;
use super::{daemon, nat, network, observe, rules, services};
use crate::control::Control;

/// The router of all operations.
pub fn router(control: Control) -> Router {
    let mut router = Router::new();
    for operation in Operation::ALL {
        router = router.route(operation.path(), handler(*operation));
    }
    router
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(api::BODY_MAX))
        .with_state(control)
}

async fn no_such_path() -> Refused {
    let mut body = ErrorBody::new(ErrorCode::NotFound, "there is no such path");
    body.error.hint = Some("GET /openapi.json lists all of them".to_owned());
    Refused(body)
}

async fn no_such_method() -> Refused {
    let message = "the path does not have this method";
    let mut body = ErrorBody::new(ErrorCode::MethodNotAllowed, message);
    body.error.hint = Some("GET /openapi.json lists all of them".to_owned());
    Refused(body)
}

fn method(operation: Operation) -> MethodFilter {
    match operation.method() {
        "post" => MethodFilter::POST,
        "put" => MethodFilter::PUT,
        "patch" => MethodFilter::PATCH,
        "delete" => MethodFilter::DELETE,
        _ => MethodFilter::GET,
    }
}

fn handler(operation: Operation) -> MethodRouter<Control> {
    use Operation as O;
    let on = method(operation);
    match operation {
        O::Status => routing::on(on, daemon::status),
        O::Version => routing::on(on, daemon::version),
        O::LogGet => routing::on(on, daemon::log),
        O::LogSet => routing::on(on, daemon::set_log),
        O::OpenApi => routing::on(on, daemon::open_api),
        O::Health => routing::on(on, daemon::health),
        O::Ready => routing::on(on, daemon::ready),
        O::ConfigGet => routing::on(on, daemon::config),
        O::ConfigApply => routing::on(on, daemon::apply),
        O::ConfigDiff => routing::on(on, daemon::diff),
        O::ConfigSave => routing::on(on, daemon::save),
        O::AddressList => routing::on(on, network::addresses),
        O::AddressAdd => routing::on(on, network::add_address),
        O::AddressDelete => routing::on(on, network::delete_address),
        O::RouteList => routing::on(on, network::routes),
        O::RouteAdd => routing::on(on, network::add_route),
        O::RouteSet => routing::on(on, network::set_route),
        O::RouteDelete => routing::on(on, network::delete_route),
        O::NeighbourList => routing::on(on, network::neighbours),
        O::NeighbourAdd => routing::on(on, network::add_neighbour),
        O::NeighbourSet => routing::on(on, network::set_neighbour),
        O::NeighbourDelete => routing::on(on, network::delete_neighbour),
        O::LinkList => routing::on(on, network::links),
        O::LinkGet => routing::on(on, network::link),
        O::VlanAdd => routing::on(on, network::add_vlan),
        O::VlanDelete => routing::on(on, network::delete_vlan),
        O::ServiceList => routing::on(on, services::services),
        O::ServiceGet => routing::on(on, services::service),
        O::ServiceAdd => routing::on(on, services::add_service),
        O::ServiceSet => routing::on(on, services::set_service),
        O::ServiceDelete => routing::on(on, services::delete_service),
        O::ServerList => routing::on(on, services::servers),
        O::ServerAdd => routing::on(on, services::add_server),
        O::ServerSet => routing::on(on, services::set_server),
        O::ServerDelete => routing::on(on, services::delete_server),
        O::LipList => routing::on(on, services::lips),
        O::LipAdd => routing::on(on, services::add_lips),
        O::LipDelete => routing::on(on, services::delete_lip),
        O::LipUseList => routing::on(on, services::lip_uses),
        O::ServiceZero => routing::on(on, services::zero),
        O::SnatAdd => routing::on(on, rules::add_snat),
        O::SnatPut => routing::on(on, rules::put_snat),
        O::SnatSet => routing::on(on, rules::set_snat),
        O::SnatDelete => routing::on(on, rules::delete_snat),
        O::DnatAdd => routing::on(on, rules::add_dnat),
        O::DnatPut => routing::on(on, rules::put_dnat),
        O::DnatSet => routing::on(on, rules::set_dnat),
        O::DnatDelete => routing::on(on, rules::delete_dnat),
        O::ForwardingSet => routing::on(on, rules::set_forwarding),
        O::ForwardingRuleAdd => routing::on(on, rules::add_forwarding_rule),
        O::ForwardingRulePut => routing::on(on, rules::put_forwarding_rule),
        O::ForwardingRuleSet => routing::on(on, rules::set_forwarding_rule),
        O::ForwardingRuleDelete => routing::on(on, rules::delete_forwarding_rule),
        O::SnatList => routing::on(on, nat::snat_rules),
        O::SnatGet => routing::on(on, nat::snat_rule),
        O::SnatMappings => routing::on(on, nat::mappings),
        O::SnatSubscriber => routing::on(on, nat::subscriber),
        O::SnatPools => routing::on(on, nat::pools),
        O::DnatList => routing::on(on, nat::dnat_rules),
        O::DnatGet => routing::on(on, nat::dnat_rule),
        O::ForwardingGet => routing::on(on, nat::forwarding),
        O::HealthList => routing::on(on, services::server_health),
        O::ConnectionList => routing::on(on, observe::connections),
        O::ConnectionDelete => routing::on(on, observe::close_connections),
        O::Stats => routing::on(on, observe::stats),
        O::CounterList => routing::on(on, observe::counters),
        O::WorkerList => routing::on(on, observe::workers),
        O::Explain => routing::on(on, observe::explain),
    }
}
