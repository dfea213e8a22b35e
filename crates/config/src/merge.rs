//! A configuration that is laid over another: `apply`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use crate::error::{ConfigError, ErrorKind, FileErrors, Path, Segment};
use crate::explain::explain_serde;
use crate::forwarding::Forwarding;
use crate::model::Model;
use crate::named::Ordered;
use crate::parse::{from_yaml, is_blank, locate_all, parse};
use crate::schema::Config;
use crate::validate::is_link_local;

/// Sections of things that have a name or an address; all others are settings.
pub(crate) const NAMED: [&str; 10] = [
    "interfaces",
    "vlans",
    "addresses",
    "routes",
    "neighbours",
    "local_address_pools",
    "server_groups",
    "services",
    "snat",
    "dnat",
];

/// What is named within the section of settings `forwarding`.
const RULES: &str = "rules";

/// Some sections of a configuration, and which ones they are.
#[derive(Clone, Debug)]
pub struct Overlay {
    text: String,
    config: Config,
    settings: Map<String, Value>,
    named: BTreeSet<String>,
}

impl Overlay {
    /// Reads sections in YAML or JSON.
    ///
    /// # Errors
    /// The first thing that is wrong with their form, with line and column.
    pub fn parse(text: &str, file: &str) -> Result<Self, FileErrors> {
        let config = parse(text)
            .map_err(|error| FileErrors { file: file.to_owned(), errors: vec![error] })?;
        let sections: Sections =
            if is_blank(text) { Ok(Sections::default()) } else { from_yaml(text) }
                .map_err(|error| FileErrors { file: file.to_owned(), errors: vec![error] })?;
        let Sections { settings, named } = sections;
        Ok(Self { text: text.to_owned(), config, settings, named })
    }

    /// `base` with these sections over it. Things of one name or address are replaced and new ones
    /// added; settings change key by key. With `prune`, each section that is here becomes equal to
    /// what is here, so that things not named in it go.
    ///
    /// # Errors
    /// All that is wrong with the outcome. Errors in what this text has come with line and column.
    pub fn apply(
        &self,
        base: &Config,
        prune: bool,
    ) -> Result<(Model, Vec<crate::Warning>), Vec<ConfigError>> {
        let merged = self.merge(base, prune).map_err(|error| vec![error])?;
        Model::new(merged).map_err(|mut errors| {
            // Positions in merged lists are not those of the text.
            let (mut told, mut other): (Vec<_>, Vec<_>) = errors.drain(..).partition(|error| {
                let list = |s: &Segment| matches!(s, Segment::Key(key) if is_list(key));
                prune || !error.path.segments().first().is_some_and(list)
            });
            locate_all(&self.text, &mut told);
            told.append(&mut other);
            told
        })
    }

    /// The outcome of [`Overlay::apply`], unchecked.
    ///
    /// # Errors
    /// None that the types of the sections allow.
    pub fn merge(&self, base: &Config, prune: bool) -> Result<Config, ConfigError> {
        let mut merged = self.settings(base, prune)?;
        let new = &self.config;
        let take = |section: &str| prune && self.named.contains(section);
        merged.interfaces = by_name(&base.interfaces, &new.interfaces, take("interfaces"));
        merged.vlans = by_name(&base.vlans, &new.vlans, take("vlans"));
        merged.addresses = by_key(&base.addresses, &new.addresses, take("addresses"), |entry| {
            let address = entry.address.address();
            // A link-local one may be on each interface.
            (address, is_link_local(address).then(|| entry.dev.clone()))
        });
        merged.routes =
            by_key(&base.routes, &new.routes, take("routes"), |route| (route.to, route.metric));
        merged.neighbours =
            by_key(&base.neighbours, &new.neighbours, take("neighbours"), |neighbour| {
                (neighbour.address, neighbour.dev.clone())
            });
        merged.local_address_pools = by_name(
            &base.local_address_pools,
            &new.local_address_pools,
            take("local_address_pools"),
        );
        merged.server_groups =
            by_name(&base.server_groups, &new.server_groups, take("server_groups"));
        merged.services = by_name(&base.services, &new.services, take("services"));
        merged.snat = in_order(&base.snat, &new.snat, take("snat"));
        merged.dnat = by_name(&base.dnat, &new.dnat, take("dnat"));
        merged.forwarding.rules =
            in_order(&base.forwarding.rules, &new.forwarding.rules, take("forwarding"));
        Ok(merged)
    }

    /// The settings of the outcome, without the named sections.
    fn settings(&self, base: &Config, prune: bool) -> Result<Config, ConfigError> {
        let mut value = settings_value(base)?;
        for (key, new) in &self.settings {
            if prune {
                value.insert(key.clone(), new.clone());
            } else {
                lay_over(value.entry(key.clone()).or_insert(Value::Null), new);
            }
        }
        serde_path_to_error::deserialize(Value::Object(value))
            .map_err(|error| explain_serde(error.path().into(), &error.inner().to_string()))
    }
}

fn is_list(section: &str) -> bool {
    matches!(section, "addresses" | "routes" | "neighbours")
}

/// The settings of a configuration, without the named sections.
pub(crate) fn settings_value(config: &Config) -> Result<Map<String, Value>, ConfigError> {
    let settings = Config {
        version: config.version,
        memory: config.memory,
        hugepages: config.hugepages,
        eal_args: config.eal_args.clone(),
        workers: config.workers.clone(),
        conntrack: config.conntrack.clone(),
        log: config.log.clone(),
        shutdown: config.shutdown.clone(),
        nat_log: config.nat_log.clone(),
        forwarding: Forwarding { rules: Ordered::default(), ..config.forwarding.clone() },
        interfaces: BTreeMap::new(),
        vlans: BTreeMap::new(),
        addresses: Vec::new(),
        routes: Vec::new(),
        neighbours: Vec::new(),
        local_address_pools: BTreeMap::new(),
        server_groups: BTreeMap::new(),
        services: BTreeMap::new(),
        snat: Ordered::default(),
        dnat: BTreeMap::new(),
    };
    match serde_json::to_value(settings) {
        Ok(Value::Object(mut object)) => {
            object.retain(|key, _| !NAMED.contains(&key.as_str()));
            Ok(object)
        }
        Ok(_) => Ok(Map::new()),
        Err(error) => {
            let message = format!("cannot be written: {error}");
            Err(ConfigError::new(ErrorKind::Invalid, Path::root(), message))
        }
    }
}

fn lay_over(target: &mut Value, new: &Value) {
    match (target, new) {
        (Value::Object(target), Value::Object(new)) => {
            for (key, value) in new {
                lay_over(target.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (target, new) => *target = new.clone(),
    }
}

fn by_name<T: PartialEq>(
    base: &BTreeMap<String, Arc<T>>,
    new: &BTreeMap<String, Arc<T>>,
    prune: bool,
) -> BTreeMap<String, Arc<T>> {
    let mut merged = if prune { BTreeMap::new() } else { base.clone() };
    for (name, value) in new {
        // What is equal stays the same part, which compares by its pointer later on.
        let same = base.get(name).filter(|old| *old == value);
        merged.insert(name.clone(), same.unwrap_or(value).clone());
    }
    merged
}

/// Those that are there keep their place, and new ones come after them.
fn in_order<T: PartialEq>(base: &Ordered<T>, new: &Ordered<T>, prune: bool) -> Ordered<T> {
    let mut merged = if prune { Ordered::default() } else { base.clone() };
    for (name, value) in new {
        let same = base.get(name).filter(|old| *old == value);
        merged.put(name, same.unwrap_or(value).clone());
    }
    merged
}

fn by_key<T: Clone, K: Ord>(base: &[T], new: &[T], prune: bool, key: impl Fn(&T) -> K) -> Vec<T> {
    if prune {
        return new.to_vec();
    }
    let mut merged = base.to_vec();
    let mut positions: BTreeMap<K, usize> =
        merged.iter().enumerate().map(|(position, entry)| (key(entry), position)).collect();
    for entry in new {
        // A second one of the same key is added, for the check to find.
        match positions.remove(&key(entry)) {
            Some(position) => merged[position] = entry.clone(),
            None => merged.push(entry.clone()),
        }
    }
    merged
}

/// Which sections a text has, and the settings as they stand there.
#[derive(Default)]
struct Sections {
    settings: Map<String, Value>,
    named: BTreeSet<String>,
}

impl<'de> Deserialize<'de> for Sections {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;

        impl<'de> Visitor<'de> for Keys {
            type Value = Sections;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of sections")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Sections, A::Error> {
                let mut sections = Sections::default();
                while let Some(key) = map.next_key::<String>()? {
                    if NAMED.contains(&key.as_str()) {
                        map.next_value::<IgnoredAny>()?;
                        sections.named.insert(key);
                    } else {
                        let mut value: Value = map.next_value()?;
                        if key == "forwarding" {
                            value.as_object_mut().map(|settings| settings.remove(RULES));
                            sections.named.insert(key.clone());
                        }
                        sections.settings.insert(key, value);
                    }
                }
                Ok(sections)
            }
        }

        deserializer.deserialize_map(Keys)
    }
}
