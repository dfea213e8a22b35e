//! Any request of the control API: its path, its query and its body as the types they must be, each
//! written and read again.

use std::fmt::{Debug, Display};
use std::net::IpAddr;
use std::str::FromStr;

use api::*;
use config::{Address, AddressRange, Neighbour, Route, Service};
use serde::Serialize;
use serde::de::DeserializeOwned;
use types::Endpoint;

/// The service that patches are of.
const SHOP: &[u8] = br#"{ "vips": ["203.0.113.10:80"], "protocol": "tcp", "servers": "web",
    "local_pool": "lan", "limits": { "max_connections": 9 }, "persistence": { "timeout": "5m" } }"#;

/// A request as it is on the wire without headers: `put /v1/routes?prune=true`, a line feed, a body.
pub fn proto(input: &[u8]) {
    let head_len = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (head, body) = input.split_at(head_len);
    let body = body.strip_prefix(b"\n").unwrap_or(body);
    let Ok(head) = std::str::from_utf8(head) else { return };
    let (method, target) = head.split_once(' ').unwrap_or((head, ""));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let asked = |operation: &&Operation| {
        operation.method() == method && names(operation.path(), path).is_some()
    };
    let Some(operation) = Operation::ALL.iter().find(asked) else { return };
    for name in names(operation.path(), path).unwrap_or_default() {
        text_again::<Endpoint>(name);
        text_again::<IpAddr>(name);
        text_again::<AddressRange>(name);
    }
    asked_with(*operation, query, body);
    answered_with(*operation, body);
}

/// What a path names where its template has braces; `None` if it is not of that template.
fn names<'a>(template: &str, path: &'a str) -> Option<Vec<&'a str>> {
    let (template, path) = (template.split('/'), path.split('/'));
    if template.clone().count() != path.clone().count() {
        return None;
    }
    let mut names = Vec::new();
    for (wanted, found) in template.zip(path) {
        match wanted.starts_with('{') {
            true if !found.is_empty() => names.push(found),
            false if wanted == found => {}
            _ => return None,
        }
    }
    Some(names)
}

fn asked_with(operation: Operation, query: &str, body: &[u8]) {
    use Operation as O;
    match operation {
        O::ConfigGet => query_again::<ConfigQuery>(query),
        O::ConfigApply | O::ConfigDiff => {
            query_again::<ApplyQuery>(query);
            crate::conf(body);
        }
        O::AddressList | O::RouteList | O::NeighbourList => query_again::<DevQuery>(query),
        O::AddressAdd => body_again::<Address>(body),
        O::AddressDelete => query_again::<AddressKey>(query),
        O::RouteAdd | O::RouteSet => body_again::<Route>(body),
        O::RouteDelete => query_again::<RouteKey>(query),
        O::NeighbourAdd | O::NeighbourSet => body_again::<Neighbour>(body),
        O::NeighbourDelete => query_again::<NeighbourKey>(query),
        O::ServiceAdd => body_again::<Service>(body),
        O::ServiceDelete | O::ServerDelete => query_again::<Removal>(query),
        O::ServiceSet => patched(&from_json::<Service>(SHOP).expect("a service"), body),
        O::ServerAdd => body_again::<ServerSettings>(body),
        O::ServerSet => patched(&ServerSettings::default(), body),
        O::LipAdd => body_again::<NewLip>(body),
        O::ConnectionList | O::ConnectionDelete => query_again::<ConnectionQuery>(query),
        O::CounterList => query_again::<CounterQuery>(query),
        O::Explain => body_again::<PacketDescription>(body),
        O::LogSet => body_again::<LogSettings>(body),
        _ => {}
    }
}

/// What a daemon of another version might answer.
fn answered_with(operation: Operation, body: &[u8]) {
    use Operation as O;
    match operation {
        O::Status => body_again::<Status>(body),
        O::Version => body_again::<Version>(body),
        O::ConfigApply | O::ConfigDiff => body_again::<Changes>(body),
        O::ConfigSave => body_again::<Saved>(body),
        O::LinkGet => body_again::<LinkInfo>(body),
        O::ServiceGet => body_again::<ServiceInfo>(body),
        O::ServiceDelete | O::ServerDelete | O::LipDelete => body_again::<Warnings>(body),
        O::ConnectionList => body_again::<ConnectionPage>(body),
        O::ConnectionDelete => body_again::<ConnectionsClosed>(body),
        O::Stats => body_again::<Stats>(body),
        O::Explain => body_again::<Explanation>(body),
        _ => body_again::<ErrorBody>(body),
    }
}

fn body_again<T: Debug + PartialEq + Serialize + DeserializeOwned>(body: &[u8]) {
    match from_json::<T>(body) {
        Ok(value) => {
            let written = serde_json::to_vec(&value).expect("what was read can be written");
            assert_eq!(from_json::<T>(&written).as_ref(), Ok(&value));
        }
        Err(refused) => refusal(&refused),
    }
}

fn query_again<T: Debug + PartialEq + Serialize + DeserializeOwned>(query: &str) {
    let Ok(value) = serde_urlencoded::from_str::<T>(query) else { return };
    let written = serde_urlencoded::to_string(&value).expect("what was read can be written");
    assert_eq!(serde_urlencoded::from_str::<T>(&written).as_ref(), Ok(&value), "{written}");
}

fn text_again<T: Debug + Display + FromStr + PartialEq>(text: &str) {
    let Ok(value) = text.parse::<T>() else { return };
    let written = value.to_string();
    assert_eq!(written.parse::<T>().ok().as_ref(), Some(&value), "{written}");
}

/// A patch makes something that can be written, and made twice it is made once (RFC 7396).
fn patched<T: Debug + PartialEq + Serialize + DeserializeOwned>(base: &T, body: &[u8]) {
    let Ok(patch) = from_json::<serde_json::Value>(body) else { return };
    match merge_patch(base, patch.clone()) {
        Ok(value) => {
            assert_eq!(merge_patch(&value, patch).as_ref(), Ok(&value));
            body_again::<T>(&serde_json::to_vec(&value).expect("what was read can be written"));
        }
        Err(refused) => refusal(&refused),
    }
}

/// Every refusal is an error of the client's, says what is wrong, and reaches it as it is.
fn refusal(refused: &ErrorBody) {
    assert_eq!(refused.status(), 400, "{refused}");
    assert!(!refused.error.message.is_empty());
    let written = serde_json::to_vec(refused).expect("a refusal can be written");
    assert_eq!(serde_json::from_slice::<ErrorBody>(&written).as_ref().ok(), Some(refused));
}
