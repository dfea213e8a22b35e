//! VLANs added and removed.

use std::sync::Arc;

use super::{Model, Outcome, refuse};
use crate::error::{ConfigError, Path};
use crate::link::Vlan;

impl Model {
    /// Adds a VLAN.
    ///
    /// # Errors
    /// Conflict if there is one of its name, or of its identifier on its link, and what is wrong with it.
    pub fn add_vlan(&mut self, name: &str, vlan: Vlan) -> Outcome {
        if self.vlans.contains_key(name) {
            let message = format!("there is a VLAN `{name}`");
            return refuse(ConfigError::conflict(Path::of("vlans").key(name), name, message));
        }
        let same = |other: &&Arc<Vlan>| other.link == vlan.link && other.id == vlan.id;
        if let Some((first, _)) = self.vlans.iter().find(|(_, other)| same(other)) {
            let message = format!("`{first}` is the VLAN {} of `{}` already", vlan.id, vlan.link);
            return refuse(ConfigError::conflict(Path::of("vlans").key(name), vlan.id, message));
        }
        let mut config = self.config.clone();
        config.vlans.insert(name.to_owned(), Arc::new(vlan));
        self.replace(config)
    }

    /// Removes a VLAN.
    ///
    /// # Errors
    /// Not found, or conflict if something is on it.
    pub fn delete_vlan(&mut self, name: &str) -> Outcome {
        let path = Path::of("vlans").key(name);
        let mut config = self.config.clone();
        if config.vlans.remove(name).is_none() {
            let message = format!("there is no VLAN `{name}`");
            return refuse(ConfigError::not_found(path, name, message));
        }
        let needed = |errors: Vec<ConfigError>| {
            let by = errors.first().map(|error| error.path.to_string()).unwrap_or_default();
            let error = ConfigError::conflict(path, name, format!("`{name}` is needed by {by}"));
            vec![error.hint("remove that first")]
        };
        self.replace(config).map_err(needed)
    }

    fn replace(&mut self, config: crate::Config) -> Outcome {
        let (model, warnings) = Self::new(config)?;
        *self = model;
        Ok(warnings)
    }
}
