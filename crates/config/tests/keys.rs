//! The table of keys says what the schema does.

use std::collections::BTreeSet;

use config::{Config, KEYS, parse, to_yaml};
use serde_json::{Map, Value, json};
use utoipa::{PartialSchema, ToSchema};

/// The schema's leaves, as the table names them.
fn leaves(schema: &Value, schemas: &Map<String, Value>, path: &str, found: &mut BTreeSet<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap();
        return leaves(&schemas[name], schemas, path, found);
    }
    let choices = ["oneOf", "anyOf", "allOf"].iter().find_map(|key| schema[*key].as_array());
    if let Some(choices) = choices {
        let choices: Vec<_> = choices.iter().filter(|choice| choice["type"] != "null").collect();
        if choices.len() > 1 {
            found.insert(path.to_owned());
        }
        for choice in choices {
            leaves(choice, schemas, path, found);
        }
        return;
    }
    if let Some(properties) = schema["properties"].as_object() {
        for (key, property) in properties {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            leaves(property, schemas, &path, found);
        }
    } else if schema["additionalProperties"].is_object() {
        leaves(&schema["additionalProperties"], schemas, &format!("{path}.*"), found);
    } else if schema["items"].is_object() {
        let mut items = BTreeSet::new();
        leaves(&schema["items"], schemas, &format!("{path}[]"), &mut items);
        // A list of plain values is one key.
        if items.iter().all(|item| item == &format!("{path}[]")) {
            found.insert(path.to_owned());
        } else {
            found.extend(items);
        }
    } else {
        found.insert(path.to_owned());
    }
}

#[test]
fn the_table_has_every_key_and_no_other() {
    let mut schemas = Vec::new();
    Config::schemas(&mut schemas);
    let schemas: Map<String, Value> = schemas
        .into_iter()
        .map(|(name, schema)| (name, serde_json::to_value(schema).unwrap()))
        .collect();
    let schema = serde_json::to_value(Config::schema()).unwrap();
    let mut found = BTreeSet::new();
    leaves(&schema, &schemas, "", &mut found);
    let table: BTreeSet<_> = KEYS.iter().map(|key| key.path.to_owned()).collect();
    assert_eq!(table, found);
    assert_eq!(table.len(), KEYS.len(), "no key twice");
}

/// A configuration with everything that must be there, and one value of the test's at `path`.
fn with(path: &str, value: Option<&Value>) -> Config {
    let mut whole = json!({
        "interfaces": { "x": { "device": "net_null0" } },
        "addresses": [ { "address": "198.18.0.1/24", "dev": "x" } ],
        "routes": [ { "to": "default", "dev": "x" } ],
        "neighbours": [],
        "local_address_pools": {},
        "server_groups": { "x": {
            "servers": [ { "address": "198.18.0.2:80" } ],
            "health": { "type": "tcp", "flap_damping": { "hold": "5s" } },
        } },
        "services": { "x": {
            "vips": [ "203.0.113.1:80" ], "protocol": "udp",
            "servers": [ { "address": "198.18.0.2:80" } ],
            "persistence": { "timeout": "1m" }, "quorum": {},
        } },
        "snat": { "x": { "wan_addresses": [ { "address": "203.0.113.9" } ] } },
        "dnat": { "x": {
            "on": "203.0.113.9:22", "protocol": "tcp", "to": [ { "address": "198.18.0.2:22" } ],
        } },
        "forwarding": { "rules": { "x": { "action": "accept" } } },
    });
    if let Some(value) = value {
        let mut at = &mut whole;
        for key in path.replace("[]", ".0").replace('*', "x").split('.') {
            at = match key.parse::<usize>() {
                Ok(index) => &mut at[index],
                Err(_) => &mut at[key],
            };
        }
        *at = value.clone();
    }
    parse(&whole.to_string()).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn defaults_are_those_of_the_table() {
    for key in KEYS {
        let Some(default) = key.default else { continue };
        let value: Value = serde_yaml::from_str(default).unwrap();
        if key.path == "services.*.servers" {
            assert_eq!(value, json!([]));
            continue;
        }
        let (said, unsaid) = (with(key.path, Some(&value)), with(key.path, None));
        assert_eq!(to_yaml(&said).unwrap(), to_yaml(&unsaid).unwrap(), "{}", key.path);
    }
}
