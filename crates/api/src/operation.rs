//! What can be asked of the daemon: the table of methods and paths, and the OpenAPI document of it.

use std::fmt;

use config::{
    Address, Config, DnatRule, ForwardingRule, Neighbour, Route, Service, SnatRule, Vlan,
};
use utoipa::OpenApi;

use crate::connection::{ConnectionPage, ConnectionQuery, ConnectionsClosed};
use crate::declare::operations;
use crate::error::ErrorBody;
use crate::explain::{Explanation, PacketDescription};
use crate::health::{HealthQuery, ServiceHealthInfo};
use crate::nat::{
    DnatInfo, ForwardingInfo, MappingPage, MappingQuery, RulePlace, SnatInfo, SubscriberInfo,
    WanAddressInfo,
};
use crate::network::{
    AddressInfo, AddressKey, DevQuery, LinkInfo, NeighbourInfo, NeighbourKey, RouteInfo, RouteKey,
};
use crate::service::{
    LipInfo, LipUse, NewLip, Removal, ServerInfo, ServerSettings, ServiceInfo, ServiceQuery,
};
use crate::status::{
    ApplyQuery, Changes, ConfigQuery, Counter, CounterQuery, LogSettings, Saved, Stats, Status,
    Version, Warnings, WorkerInfo,
};

/// The answers to what is refused; every operation has them.
#[derive(utoipa::IntoResponses)]
#[expect(dead_code, reason = "the document only is made from it")]
enum Refused {
    /// Not JSON or YAML, an unknown field, or a value of the wrong type.
    #[response(status = 400)]
    BadRequest(ErrorBody),
    /// There is no such thing.
    #[response(status = 404)]
    NotFound(ErrorBody),
    /// There is one already, or something else needs it.
    #[response(status = 409)]
    Conflict(ErrorBody),
    /// Of the right type, but it cannot be.
    #[response(status = 422)]
    Invalid(ErrorBody),
    /// Not now: the daemon is starting or stopping.
    #[response(status = 503)]
    Unavailable(ErrorBody),
}

operations! {
    /// The daemon at a glance.
    Status status = get "/v1/status" "daemon" {
        responses((status = 200, description = "The status.", body = Status), Refused)
    }
    /// The versions of the daemon and of what it is made of.
    Version version = get "/v1/version" "daemon" {
        responses((status = 200, description = "The versions.", body = Version), Refused)
    }
    /// The configuration that runs. Applying it changes nothing.
    ConfigGet config_get = get "/v1/config" "config" {
        params(ConfigQuery),
        responses(
            (status = 200, description = "The configuration.", content(
                (String = "application/yaml"), (Config = "application/json"),
            )),
            Refused,
        )
    }
    /// Changes what runs by a configuration in YAML or JSON, as one transaction.
    ConfigApply config_apply = post "/v1/config/apply" "config" {
        params(ApplyQuery),
        request_body(description = "Sections of a configuration, in YAML or JSON.", content(
            (String = "application/yaml"), (Config = "application/json"),
        )),
        responses((status = 200, description = "What has changed.", body = Changes), Refused)
    }
    /// What applying a configuration would change; without a body, how what runs differs from the file.
    ConfigDiff config_diff = post "/v1/config/diff" "config" {
        params(ApplyQuery),
        request_body(description = "Sections of a configuration, in YAML or JSON, or nothing.",
            content((String = "application/yaml"), (Config = "application/json"))),
        responses((status = 200, description = "The differences.", body = Changes), Refused)
    }
    /// Writes the configuration that runs to the file.
    ConfigSave config_save = post "/v1/config/save" "config" {
        responses((status = 200, description = "It was written.", body = Saved), Refused)
    }
    /// Addresses of ours.
    AddressList address_list = get "/v1/addresses" "network" {
        params(DevQuery),
        responses((status = 200, description = "The addresses.", body = [AddressInfo]), Refused)
    }
    /// Adds an address to an interface.
    AddressAdd address_add = post "/v1/addresses" "network" {
        request_body = Address,
        responses((status = 201, description = "It was added.", body = Warnings), Refused)
    }
    /// Removes an address.
    AddressDelete address_delete = delete "/v1/addresses" "network" {
        params(AddressKey),
        responses((status = 200, description = "It was removed.", body = Warnings), Refused)
    }
    /// Routes, configured and implied.
    RouteList route_list = get "/v1/routes" "network" {
        params(DevQuery),
        responses((status = 200, description = "The routes.", body = [RouteInfo]), Refused)
    }
    /// Adds a route.
    RouteAdd route_add = post "/v1/routes" "network" {
        request_body = Route,
        responses((status = 201, description = "It was added.", body = Warnings), Refused)
    }
    /// Adds a route, or takes the place of the one with the same destination and metric.
    RouteSet route_set = put "/v1/routes" "network" {
        request_body = Route,
        responses((status = 200, description = "It is set.", body = Warnings), Refused)
    }
    /// Removes a route.
    RouteDelete route_delete = delete "/v1/routes" "network" {
        params(RouteKey),
        responses((status = 200, description = "It was removed.", body = Warnings), Refused)
    }
    /// Neighbours, learned and configured.
    NeighbourList neighbour_list = get "/v1/neighbours" "network" {
        params(DevQuery),
        responses((status = 200, description = "The neighbours.", body = [NeighbourInfo]), Refused)
    }
    /// Adds a static neighbour.
    NeighbourAdd neighbour_add = post "/v1/neighbours" "network" {
        request_body = Neighbour,
        responses((status = 201, description = "It was added.", body = Warnings), Refused)
    }
    /// Adds a static neighbour, or takes the place of the one with the same address.
    NeighbourSet neighbour_set = put "/v1/neighbours" "network" {
        request_body = Neighbour,
        responses((status = 200, description = "It is set.", body = Warnings), Refused)
    }
    /// Removes a static neighbour, or forgets a learned one.
    NeighbourDelete neighbour_delete = delete "/v1/neighbours" "network" {
        params(NeighbourKey),
        responses((status = 200, description = "It was removed.", body = Warnings), Refused)
    }
    /// Interfaces with their state and statistics.
    LinkList link_list = get "/v1/links" "network" {
        responses((status = 200, description = "The interfaces.", body = [LinkInfo]), Refused)
    }
    /// One interface.
    LinkGet link_get = get "/v1/links/{name}" "network" {
        params(("name" = String, Path, description = "The interface.")),
        responses((status = 200, description = "The interface.", body = LinkInfo), Refused)
    }
    /// Adds a VLAN to an interface.
    VlanAdd vlan_add = post "/v1/vlans/{name}" "network" {
        params(("name" = String, Path, description = "The new VLAN.")),
        request_body = Vlan,
        responses((status = 201, description = "It was added.", body = Warnings), Refused)
    }
    /// Removes a VLAN.
    VlanDelete vlan_delete = delete "/v1/vlans/{name}" "network" {
        params(("name" = String, Path, description = "The VLAN.")),
        responses((status = 200, description = "It was removed.", body = Warnings), Refused)
    }
    /// Services with their real servers, LIPs and traffic.
    ServiceList service_list = get "/v1/services" "services" {
        params(ServiceQuery),
        responses((status = 200, description = "The services.", body = [ServiceInfo]), Refused)
    }
    /// One service.
    ServiceGet service_get = get "/v1/services/{name}" "services" {
        params(("name" = String, Path, description = "The service.")),
        responses((status = 200, description = "The service.", body = ServiceInfo), Refused)
    }
    /// Adds a service.
    ServiceAdd service_add = post "/v1/services/{name}" "services" {
        params(("name" = String, Path, description = "The new service.")),
        request_body = Service,
        responses((status = 201, description = "It was added.", body = Warnings), Refused)
    }
    /// Changes a service: a JSON merge patch (RFC 7396). Its established conns go on.
    ServiceSet service_set = patch "/v1/services/{name}" "services" {
        params(("name" = String, Path, description = "The service.")),
        request_body(content = serde_json::Value, content_type = "application/merge-patch+json",
            description = "Fields of Service that change; null makes one default."),
        responses((status = 200, description = "It was changed.", body = Warnings), Refused)
    }
    /// Removes a service.
    ServiceDelete service_delete = delete "/v1/services/{name}" "services" {
        params(("name" = String, Path, description = "The service."), Removal),
        responses((status = 200, description = "It was removed.", body = Warnings), Refused)
    }
    /// Real servers of a service.
    ServerList server_list = get "/v1/services/{name}/servers" "services" {
        params(("name" = String, Path, description = "The service.")),
        responses((status = 200, description = "The real servers.", body = [ServerInfo]), Refused)
    }
    /// Adds a real server; to the group, if the service has one.
    ServerAdd server_add = post "/v1/services/{name}/servers/{address}" "services" {
        params(
            ("name" = String, Path, description = "The service."),
            ("address" = String, Path, description = "The new server's address and port."),
        ),
        request_body = ServerSettings,
        responses((status = 201, description = "It was added.", body = Warnings), Refused)
    }
    /// Changes a real server: a JSON merge patch (RFC 7396); that of the group, if the service has one.
    ServerSet server_set = patch "/v1/services/{name}/servers/{address}" "services" {
        params(
            ("name" = String, Path, description = "The service."),
            ("address" = String, Path, description = "The server's address and port."),
        ),
        request_body(content = serde_json::Value, content_type = "application/merge-patch+json",
            description = "Fields of ServerSettings that change; null makes one default."),
        responses((status = 200, description = "It was changed.", body = Warnings), Refused)
    }
    /// Removes a real server; from the group, if the service has one.
    ServerDelete server_delete = delete "/v1/services/{name}/servers/{address}" "services" {
        params(
            ("name" = String, Path, description = "The service."),
            ("address" = String, Path, description = "The server's address and port."),
            Removal,
        ),
        responses((status = 200, description = "It was removed.", body = Warnings), Refused)
    }
    /// Local addresses of a service.
    LipList lip_list = get "/v1/services/{name}/lips" "services" {
        params(("name" = String, Path, description = "The service.")),
        responses((status = 200, description = "The LIPs.", body = [LipInfo]), Refused)
    }
    /// Adds local addresses; to the pool, if the service has one by name.
    LipAdd lip_add = post "/v1/services/{name}/lips" "services" {
        params(("name" = String, Path, description = "The service.")),
        request_body = NewLip,
        responses((status = 201, description = "They were added.", body = Warnings), Refused)
    }
    /// Removes a local address; from the pool, if the service has one by name.
    LipDelete lip_delete = delete "/v1/services/{name}/lips/{address}" "services" {
        params(
            ("name" = String, Path, description = "The service."),
            ("address" = String, Path, description = "The LIP."),
        ),
        responses((status = 200, description = "It was removed.", body = Warnings), Refused)
    }
    /// Local addresses of all services, with the conns of each VIP that use them.
    LipUseList lip_use_list = get "/v1/lips" "services" {
        responses((status = 200, description = "The LIPs.", body = [LipUse]), Refused)
    }
    /// Lets the counts of services and their real servers begin anew; conns that are open stay counted.
    ServiceZero service_zero = post "/v1/services" "services" {
        params(ServiceQuery),
        responses((status = 200, description = "They begin anew.", body = Warnings), Refused)
    }
    /// Rules of source NAT in order, with what passed them.
    SnatList snat_list = get "/v1/snat" "nat" {
        responses((status = 200, description = "The rules.", body = [SnatInfo]), Refused)
    }
    /// One rule of source NAT.
    SnatGet snat_get = get "/v1/snat/{name}" "nat" {
        params(("name" = String, Path, description = "The rule.")),
        responses((status = 200, description = "The rule.", body = SnatInfo), Refused)
    }
    /// Adds a rule of source NAT; at the end if no place is given.
    SnatAdd snat_add = post "/v1/snat/{name}" "nat" {
        params(("name" = String, Path, description = "The rule."), RulePlace),
        request_body = SnatRule,
        responses((status = 201, description = "It was added.", body = Warnings), Refused)
    }
    /// Adds a rule of source NAT, or takes the place of the one of that name.
    SnatPut snat_put = put "/v1/snat/{name}" "nat" {
        params(("name" = String, Path, description = "The rule."), RulePlace),
        request_body = SnatRule,
        responses((status = 200, description = "It is set.", body = Warnings), Refused)
    }
    /// Changes a rule of source NAT: a JSON merge patch (RFC 7396). Its conns go on.
    SnatSet snat_set = patch "/v1/snat/{name}" "nat" {
        params(("name" = String, Path, description = "The rule."), RulePlace),
        request_body(content = serde_json::Value, content_type = "application/merge-patch+json",
            description = "Fields of SnatRule that change; null makes one default."),
        responses((status = 200, description = "It was changed.", body = Warnings), Refused)
    }
    /// Removes a rule of source NAT.
    SnatDelete snat_delete = delete "/v1/snat/{name}" "nat" {
        params(("name" = String, Path, description = "The rule."), Removal),
        responses((status = 200, description = "It was removed.", body = Warnings), Refused)
    }
    /// Mappings, a page at a time.
    SnatMappings snat_mappings = get "/v1/snat/mappings" "nat" {
        params(MappingQuery),
        responses((status = 200, description = "Some mappings.", body = MappingPage), Refused)
    }
    /// An inside address: what it takes of each rule.
    SnatSubscriber snat_subscriber = get "/v1/snat/subscribers/{address}" "nat" {
        params(("address" = String, Path, description = "The inside address.")),
        responses((status = 200, description = "The address.", body = SubscriberInfo), Refused)
    }
    /// WAN IPs and how many of their ports are taken.
    SnatPools snat_pools = get "/v1/snat/pools" "nat" {
        responses((status = 200, description = "The WAN IPs.", body = [WanAddressInfo]), Refused)
    }
    /// Rules of destination NAT, with what passed them.
    DnatList dnat_list = get "/v1/dnat" "nat" {
        responses((status = 200, description = "The rules.", body = [DnatInfo]), Refused)
    }
    /// One rule of destination NAT.
    DnatGet dnat_get = get "/v1/dnat/{name}" "nat" {
        params(("name" = String, Path, description = "The rule.")),
        responses((status = 200, description = "The rule.", body = DnatInfo), Refused)
    }
    /// Adds a rule of destination NAT.
    DnatAdd dnat_add = post "/v1/dnat/{name}" "nat" {
        params(("name" = String, Path, description = "The rule.")),
        request_body = DnatRule,
        responses((status = 201, description = "It was added.", body = Warnings), Refused)
    }
    /// Adds a rule of destination NAT, or takes the place of the one of that name.
    DnatPut dnat_put = put "/v1/dnat/{name}" "nat" {
        params(("name" = String, Path, description = "The rule.")),
        request_body = DnatRule,
        responses((status = 200, description = "It is set.", body = Warnings), Refused)
    }
    /// Changes a rule of destination NAT: a JSON merge patch (RFC 7396). Its conns go on.
    DnatSet dnat_set = patch "/v1/dnat/{name}" "nat" {
        params(("name" = String, Path, description = "The rule.")),
        request_body(content = serde_json::Value, content_type = "application/merge-patch+json",
            description = "Fields of DnatRule that change; null makes one default."),
        responses((status = 200, description = "It was changed.", body = Warnings), Refused)
    }
    /// Removes a rule of destination NAT.
    DnatDelete dnat_delete = delete "/v1/dnat/{name}" "nat" {
        params(("name" = String, Path, description = "The rule."), Removal),
        responses((status = 200, description = "It was removed.", body = Warnings), Refused)
    }
    /// Routing between interfaces, and its rules in order.
    ForwardingGet forwarding_get = get "/v1/forwarding" "nat" {
        responses((status = 200, description = "Policy and rules.", body = ForwardingInfo), Refused)
    }
    /// Changes how packets are routed between interfaces: a JSON merge patch (RFC 7396).
    ForwardingSet forwarding_set = patch "/v1/forwarding" "nat" {
        request_body(content = serde_json::Value, content_type = "application/merge-patch+json",
            description = "`policy`, `reverse_path` and `silent`, if they change; null makes one default."),
        responses((status = 200, description = "It was changed.", body = Warnings), Refused)
    }
    /// Adds a rule of forwarding; at the end if no place is given.
    ForwardingRuleAdd forwarding_rule_add = post "/v1/forwarding/rules/{name}" "nat" {
        params(("name" = String, Path, description = "The rule."), RulePlace),
        request_body = ForwardingRule,
        responses((status = 201, description = "It was added.", body = Warnings), Refused)
    }
    /// Adds a rule of forwarding, or takes the place of the one of that name.
    ForwardingRulePut forwarding_rule_put = put "/v1/forwarding/rules/{name}" "nat" {
        params(("name" = String, Path, description = "The rule."), RulePlace),
        request_body = ForwardingRule,
        responses((status = 200, description = "It is set.", body = Warnings), Refused)
    }
    /// Changes a rule of forwarding: a JSON merge patch (RFC 7396).
    ForwardingRuleSet forwarding_rule_set = patch "/v1/forwarding/rules/{name}" "nat" {
        params(("name" = String, Path, description = "The rule."), RulePlace),
        request_body(content = serde_json::Value, content_type = "application/merge-patch+json",
            description = "Fields of ForwardingRule that change; null makes one default."),
        responses((status = 200, description = "It was changed.", body = Warnings), Refused)
    }
    /// Removes a rule of forwarding.
    ForwardingRuleDelete forwarding_rule_delete = delete "/v1/forwarding/rules/{name}" "nat" {
        params(("name" = String, Path, description = "The rule.")),
        responses((status = 200, description = "It was removed.", body = Warnings), Refused)
    }
    /// The health of real servers: who is up, and what the last check said.
    HealthList health_list = get "/v1/health" "services" {
        params(HealthQuery),
        responses((status = 200, description = "The health.", body = [ServiceHealthInfo]), Refused)
    }
    /// Conns, a page at a time.
    ConnectionList connection_list = get "/v1/connections" "connections" {
        params(ConnectionQuery),
        responses((status = 200, description = "Some conns.", body = ConnectionPage), Refused)
    }
    /// Ends conns at once; both ends of an established TCP conn get a reset. A filter is needed.
    ConnectionDelete connection_delete = delete "/v1/connections" "connections" {
        params(ConnectionQuery),
        responses((status = 200, description = "How many.", body = ConnectionsClosed), Refused)
    }
    /// Totals since the start.
    Stats stats = get "/v1/stats" "statistics" {
        responses((status = 200, description = "The totals.", body = Stats), Refused)
    }
    /// Counters since the start, each drop reason among them.
    CounterList counter_list = get "/v1/counters" "statistics" {
        params(CounterQuery),
        responses((status = 200, description = "The counters.", body = [Counter]), Refused)
    }
    /// The poll loops.
    WorkerList worker_list = get "/v1/workers" "statistics" {
        responses((status = 200, description = "The workers.", body = [WorkerInfo]), Refused)
    }
    /// What would become of a packet, stage by stage. Changes nothing.
    Explain explain = post "/v1/explain" "statistics" {
        request_body = PacketDescription,
        responses((status = 200, description = "The decision.", body = Explanation), Refused)
    }
    /// What is logged.
    LogGet log_get = get "/v1/log" "daemon" {
        responses((status = 200, description = "The settings.", body = LogSettings), Refused)
    }
    /// Changes what is logged, until the next start.
    LogSet log_set = put "/v1/log" "daemon" {
        request_body = LogSettings,
        responses((status = 200, description = "The settings.", body = LogSettings), Refused)
    }
    /// This document.
    OpenApi open_api = get "/openapi.json" "daemon" {
        responses((status = 200, description = "An OpenAPI document.", body = serde_json::Value))
    }
    /// Whether the daemon lives: the control thread answers.
    Health health = get "/healthz" "daemon" {
        responses(
            (status = 200, description = "It does.", body = String, content_type = "text/plain"),
        )
    }
    /// Whether the daemon serves: all workers run, and it is not stopping.
    Ready ready = get "/readyz" "daemon" {
        responses(
            (status = 200, description = "It does.", body = String, content_type = "text/plain"),
            (status = 503, description = "It does not.", body = ErrorBody),
        )
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method().to_ascii_uppercase(), self.path())
    }
}

/// The OpenAPI document.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// The OpenAPI document as the daemon serves it and as `docs/openapi.json` has it.
pub fn openapi_json() -> String {
    let mut text = openapi().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_document_has_the_operations_and_no_others() {
        let document = serde_json::to_value(openapi()).unwrap();
        let mut described = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                described.insert(format!("{} {path}", method.to_ascii_uppercase()));
                assert!(operation["responses"].is_object(), "{method} {path}");
                let summary = operation["summary"].as_str().unwrap();
                assert!(summary.len() > 5, "{method} {path}");
            }
        }
        let declared: BTreeSet<_> = Operation::ALL.iter().map(ToString::to_string).collect();
        assert_eq!(described, declared);
        assert_eq!(declared.len(), Operation::ALL.len(), "no method and path twice");
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = serde_json::to_value(openapi()).unwrap();
        let mut left = vec![&document];
        while let Some(value) = left.pop() {
            match value {
                serde_json::Value::Object(object) => {
                    if let Some(reference) = object.get("$ref").and_then(|r| r.as_str()) {
                        let pointer = reference.strip_prefix('#').unwrap();
                        assert!(document.pointer(pointer).is_some(), "{reference}");
                    }
                    left.extend(object.values());
                }
                serde_json::Value::Array(array) => left.extend(array),
                _ => {}
            }
        }
    }

    #[test]
    fn the_committed_document_is_that_of_the_code() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
        if std::env::var_os("UPDATE_OPENAPI").is_some() {
            std::fs::write(path, openapi_json()).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            committed == openapi_json(),
            "docs/openapi.json is old: run `UPDATE_OPENAPI=1 cargo test -p api`"
        );
    }
}
