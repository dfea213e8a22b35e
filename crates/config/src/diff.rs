//! What differs between two configurations.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::keys::{self, Effect};
use crate::merge::settings_value;
use crate::named::Ordered;
use crate::schema::Config;

/// How a value differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// The new configuration has it only.
    Added,
    /// The old configuration has it only.
    Removed,
    /// Both have it, with different values.
    Changed,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    /// Where, as in `services.shop.servers[198.18.0.121:80].weight`.
    pub path: String,
    /// How.
    pub kind: ChangeKind,
    /// The old value, a default too; nothing if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<Value>,
    /// The new value, a default too; nothing if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<Value>,
    /// When it takes effect.
    pub effect: Effect,
}

/// What must change in `old` for it to be `new`, by path. Named things are compared by name, the
/// items of lists by their address or destination. Parts that both share cost nothing.
pub fn diff(old: &Config, new: &Config) -> Vec<Change> {
    let mut changes = Changes(Vec::new());
    let settings = |config| settings_value(config).unwrap_or_default();
    changes.fields("", "", &settings(old), &settings(new));
    changes.by_name("interfaces", &old.interfaces, &new.interfaces);
    changes.by_name("vlans", &old.vlans, &new.vlans);
    changes.by_key("addresses", &old.addresses, &new.addresses, |entry| entry.address.to_string());
    changes.by_key("routes", &old.routes, &new.routes, |route| match route.metric {
        0 => route.to.to_string(),
        metric => format!("{} metric {metric}", route.to),
    });
    changes.by_key("neighbours", &old.neighbours, &new.neighbours, |neighbour| {
        format!("{} {}", neighbour.address, neighbour.dev)
    });
    let pools = (&old.local_address_pools, &new.local_address_pools);
    changes.by_name("local_address_pools", pools.0, pools.1);
    changes.by_name("server_groups", &old.server_groups, &new.server_groups);
    changes.by_name("services", &old.services, &new.services);
    changes.in_order("snat", &old.snat, &new.snat);
    changes.by_name("dnat", &old.dnat, &new.dnat);
    changes.in_order("forwarding.rules", &old.forwarding.rules, &new.forwarding.rules);
    changes.0
}

struct Changes(Vec<Change>);

impl Changes {
    fn by_name<T: PartialEq + Serialize>(
        &mut self,
        section: &str,
        old: &BTreeMap<String, Arc<T>>,
        new: &BTreeMap<String, Arc<T>>,
    ) {
        let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for name in names {
            let (old, new) = (old.get(name), new.get(name));
            let same = match (old, new) {
                (Some(old), Some(new)) => Arc::ptr_eq(old, new) || old == new,
                _ => false,
            };
            if !same {
                let (old, new) = (old.map(to_value), new.map(to_value));
                let pattern = format!("{section}.*");
                self.whole(&format!("{section}.{name}"), &pattern, old.as_ref(), new.as_ref());
            }
        }
    }

    /// Besides what differs by name, the order if it is not the one that adding and removing give.
    fn in_order<T: PartialEq + Serialize>(
        &mut self,
        section: &str,
        old: &Ordered<T>,
        new: &Ordered<T>,
    ) {
        let by_name = |things: &Ordered<T>| -> BTreeMap<String, Arc<T>> {
            things.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
        };
        self.by_name(section, &by_name(old), &by_name(new));
        let kept = old.names().filter(|name| new.contains_key(*name));
        let added = new.names().filter(|name| !old.contains_key(*name));
        if !kept.chain(added).eq(new.names()) {
            let names = |things: &Ordered<T>| Some(to_value(things.names().collect::<Vec<_>>()));
            self.leaf(section, section, names(old), names(new));
        }
    }

    fn by_key<T: PartialEq + Serialize>(
        &mut self,
        section: &str,
        old: &[T],
        new: &[T],
        key: impl Fn(&T) -> String,
    ) {
        if old == new {
            return;
        }
        let keyed = |list: &[T]| -> BTreeMap<String, Value> {
            list.iter().map(|entry| (key(entry), to_value(entry))).collect()
        };
        self.keyed(section, section, &keyed(old), &keyed(new));
    }

    fn keyed(
        &mut self,
        path: &str,
        pattern: &str,
        old: &BTreeMap<String, Value>,
        new: &BTreeMap<String, Value>,
    ) {
        let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for key in keys {
            let (path, pattern) = (format!("{path}[{key}]"), format!("{pattern}[]"));
            self.whole(&path, &pattern, old.get(key), new.get(key));
        }
    }

    /// A thing that is compared by its fields only if both have it.
    fn whole(&mut self, path: &str, pattern: &str, old: Option<&Value>, new: Option<&Value>) {
        match (old, new) {
            (Some(Value::Object(old)), Some(Value::Object(new))) => {
                self.fields(path, pattern, old, new);
            }
            _ => self.leaf(path, pattern, old.cloned(), new.cloned()),
        }
    }

    fn fields(
        &mut self,
        path: &str,
        pattern: &str,
        old: &Map<String, Value>,
        new: &Map<String, Value>,
    ) {
        let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for key in keys {
            let join = |to: &str| if to.is_empty() { key.clone() } else { format!("{to}.{key}") };
            self.field(&join(path), &join(pattern), old.get(key), new.get(key));
        }
    }

    fn field(&mut self, path: &str, pattern: &str, old: Option<&Value>, new: Option<&Value>) {
        let none = Map::new();
        let default = keys::key(pattern).and_then(|key| key.default).and_then(from_text);
        let (old, new) = (old.or(default.as_ref()), new.or(default.as_ref()));
        match (old, new) {
            (Some(Value::Object(old)), Some(Value::Object(new))) => {
                self.fields(path, pattern, old, new);
            }
            // A section that is left out has all its defaults.
            (None, Some(Value::Object(new))) if keys::key(pattern).is_none() => {
                self.fields(path, pattern, &none, new);
            }
            (Some(Value::Object(old)), None) if keys::key(pattern).is_none() => {
                self.fields(path, pattern, old, &none);
            }
            (Some(Value::Array(old)), Some(Value::Array(new))) => {
                match (addressed(old), addressed(new)) {
                    (Some(old), Some(new)) => self.keyed(path, pattern, &old, &new),
                    _ => {
                        self.leaf(path, pattern, Some(old.clone().into()), Some(new.clone().into()))
                    }
                }
            }
            _ => self.leaf(path, pattern, old.cloned(), new.cloned()),
        }
    }

    fn leaf(&mut self, path: &str, pattern: &str, old: Option<Value>, new: Option<Value>) {
        let kind = match (&old, &new) {
            (None, Some(_)) => ChangeKind::Added,
            (Some(_), None) => ChangeKind::Removed,
            (Some(old), Some(new)) if old != new => ChangeKind::Changed,
            _ => return,
        };
        let of_kernel =
            |value: &Option<Value>| value.as_ref().is_some_and(|value| value.get("kni").is_some());
        // The kernel's interfaces are made at the start; a VLAN without one comes and goes at any time.
        let effect = match pattern {
            "vlans.*" if !of_kernel(&old) && !of_kernel(&new) => Effect::Live,
            _ => keys::effect(pattern),
        };
        self.0.push(Change { path: path.to_owned(), kind, old, new, effect });
    }
}

/// Items by their address, if all are objects with one.
fn addressed(list: &[Value]) -> Option<BTreeMap<String, Value>> {
    list.iter()
        .map(|item| Some((item.get("address")?.as_str()?.to_owned(), item.clone())))
        .collect()
}

fn to_value(value: impl Serialize) -> Value {
    // A part of a configuration has no keys but strings, and so can be a value.
    serde_json::to_value(value).unwrap_or(Value::Null)
}

fn from_text(text: &str) -> Option<Value> {
    serde_yaml::from_str(text).ok()
}
