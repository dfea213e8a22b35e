//! Changes of the addresses of ours, one at a time.

use super::{Model, Outcome, refuse, shortest};
use crate::error::{ConfigError, Path};
use crate::schema::Address;
use crate::text::InterfaceAddress;
use crate::validate::{Checker, is_link_local};

impl Model {
    /// Adds an address to an interface.
    ///
    /// # Errors
    /// Conflict if it is there already, and what is wrong with it.
    pub fn add_address(&mut self, entry: Address) -> Outcome {
        let path = Path::of("addresses").index(self.addresses.len());
        let address = entry.address.address();
        // A link-local one may be on each interface.
        let other = self.addresses.iter().find(|other| {
            other.address.address() == address
                && (!is_link_local(address) || other.dev == entry.dev)
        });
        if let Some(Address { dev, .. }) = other {
            let message = format!("{address} is on `{dev}` already");
            return refuse(ConfigError::conflict(path.key("address"), entry.address, message));
        }
        let mut checker = Checker::new(&self.config);
        checker.address(&path, &entry);
        let mut warnings = checker.finish()?;
        self.config.addresses.push(entry);
        self.index.add_address(address);
        match self.masquerades() {
            Ok(more) => warnings.extend(more),
            Err(errors) => {
                self.config.addresses.pop();
                self.index.remove_address(address);
                self.index.set_wan_addresses(&self.config);
                return Err(errors);
            }
        }
        Ok(warnings)
    }

    /// Whether rules of source NAT that take interfaces' addresses can have those that there are now.
    fn masquerades(&mut self) -> Outcome {
        self.index.set_wan_addresses(&self.config);
        let mut checker = Checker::new(&self.config);
        checker.masquerades(&self.index);
        checker.finish()
    }

    /// Removes an address. The length of its prefix is compared if it is not that of one address.
    ///
    /// # Errors
    /// Not found, or conflict if a route has it as source, or masquerade would be left with one that cannot be.
    pub fn delete_address(&mut self, key: InterfaceAddress, dev: Option<&str>) -> Outcome {
        let path = Path::of("addresses");
        let whole = key.prefix_len() == key.net().max_prefix_len();
        let found = self.addresses.iter().position(|entry| {
            entry.address.address() == key.address()
                && (whole || entry.address == key)
                && dev.is_none_or(|dev| dev == entry.dev)
        });
        let same = |entry: &&Address| entry.address.address() == key.address();
        if dev.is_none() && self.addresses.iter().filter(same).count() > 1 {
            let message = format!("{} is on several interfaces", key.address());
            let error = ConfigError::conflict(path, key, message).hint("name one");
            return refuse(error);
        }
        let Some(position) = found else {
            let on = dev.map(|dev| format!(" on `{dev}`")).unwrap_or_default();
            let message = format!("there is no address {}{on}", shortest(key));
            return refuse(ConfigError::not_found(path, key, message));
        };
        if let Some(route) = self.routes.iter().find(|route| route.src == Some(key.address())) {
            let message = format!("the route to {} has {} as `src`", route.to, key.address());
            return refuse(ConfigError::conflict(path.index(position), key, message));
        }
        let entry = self.config.addresses.remove(position);
        self.index.remove_address(key.address());
        let checked = self.masquerades();
        if checked.is_err() {
            self.config.addresses.insert(position, entry);
            self.index.add_address(key.address());
            self.index.set_wan_addresses(&self.config);
        }
        checked
    }
}
