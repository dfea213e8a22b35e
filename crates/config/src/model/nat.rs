//! Changes of the rules of source NAT, destination NAT and forwarding, one at a time.

use std::sync::Arc;

use super::{Model, Outcome, refuse};
use crate::dnat::DnatRule;
use crate::error::{ConfigError, Path};
use crate::forwarding::{Forwarding, ForwardingRule};
use crate::named::Ordered;
use crate::snat::SnatRule;
use crate::validate::Checker;

/// Where a rule is put among the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// Where the one of its name is; a new one comes last.
    #[default]
    Same,
    /// Before the rule of this name.
    Before(String),
    /// At this position, from 0; last if there are fewer.
    Position(usize),
}

impl Model {
    /// Adds a rule of source NAT.
    ///
    /// # Errors
    /// Conflict if there is one of that name, not found if there is none to put it before, and what is
    /// wrong with it.
    pub fn add_snat(&mut self, name: &str, rule: SnatRule, place: &Place) -> Outcome {
        is_new("snat", name, self.snat.contains_key(name))?;
        self.put_snat(name, rule, place)
    }

    /// Adds a rule of source NAT, or takes the place of the one of that name.
    ///
    /// # Errors
    /// Not found if there is none to put it before, and what is wrong with it.
    pub fn put_snat(&mut self, name: &str, rule: SnatRule, place: &Place) -> Outcome {
        let rules = placed(&Path::of("snat"), &self.snat, name, rule, place)?;
        let mut checker = Checker::new(&self.config);
        checker.snat(&rules, &self.index, Some(name));
        let warnings = checker.finish()?;
        self.config.snat = rules;
        self.index.set_wan_addresses(&self.config);
        Ok(warnings)
    }

    /// Removes a rule of source NAT.
    ///
    /// # Errors
    /// Not found.
    pub fn delete_snat(&mut self, name: &str) -> Outcome {
        if self.config.snat.remove(name).is_none() {
            return refuse(no_rule("snat", name));
        }
        self.index.set_wan_addresses(&self.config);
        Ok(Vec::new())
    }

    /// Adds a rule of destination NAT.
    ///
    /// # Errors
    /// Conflict if there is one of that name, and what is wrong with it.
    pub fn add_dnat(&mut self, name: &str, rule: DnatRule) -> Outcome {
        is_new("dnat", name, self.dnat.contains_key(name))?;
        self.put_dnat(name, rule)
    }

    /// Adds a rule of destination NAT, or takes the place of the one of that name.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn put_dnat(&mut self, name: &str, rule: DnatRule) -> Outcome {
        let mut rules = self.dnat.clone();
        rules.insert(name.to_owned(), Arc::new(rule));
        let mut checker = Checker::new(&self.config);
        checker.dnat(&rules, &self.index, Some(name));
        let warnings = checker.finish()?;
        self.config.dnat = rules;
        self.index.set_dnat(&self.config);
        Ok(warnings)
    }

    /// Removes a rule of destination NAT.
    ///
    /// # Errors
    /// Not found.
    pub fn delete_dnat(&mut self, name: &str) -> Outcome {
        if self.config.dnat.remove(name).is_none() {
            return refuse(no_rule("dnat", name));
        }
        self.index.set_dnat(&self.config);
        Ok(Vec::new())
    }

    /// Sets what becomes of packets to others; the rules stay.
    ///
    /// # Errors
    /// An interface that is not there.
    pub fn set_forwarding(&mut self, settings: Forwarding) -> Outcome {
        let rules = self.forwarding.rules.clone();
        self.check_forwarding(Forwarding { rules, ..settings }, None)
    }

    /// Adds a rule of forwarding.
    ///
    /// # Errors
    /// Conflict if there is one of that name, not found if there is none to put it before, and what is
    /// wrong with it.
    pub fn add_forwarding_rule(
        &mut self,
        name: &str,
        rule: ForwardingRule,
        place: &Place,
    ) -> Outcome {
        is_new("forwarding", name, self.forwarding.rules.contains_key(name))?;
        self.put_forwarding_rule(name, rule, place)
    }

    /// Adds a rule of forwarding, or takes the place of the one of that name.
    ///
    /// # Errors
    /// Not found if there is none to put it before, and what is wrong with it.
    pub fn put_forwarding_rule(
        &mut self,
        name: &str,
        rule: ForwardingRule,
        place: &Place,
    ) -> Outcome {
        let path = Path::of("forwarding").key("rules");
        let rules = placed(&path, &self.forwarding.rules, name, rule, place)?;
        self.check_forwarding(Forwarding { rules, ..self.forwarding.clone() }, Some(name))
    }

    fn check_forwarding(&mut self, forwarding: Forwarding, only: Option<&str>) -> Outcome {
        let mut checker = Checker::new(&self.config);
        checker.forwarding(&forwarding, only);
        let warnings = checker.finish()?;
        self.config.forwarding = forwarding;
        Ok(warnings)
    }

    /// Removes a rule of forwarding.
    ///
    /// # Errors
    /// Not found.
    pub fn delete_forwarding_rule(&mut self, name: &str) -> Outcome {
        match self.config.forwarding.rules.remove(name) {
            Some(_) => Ok(Vec::new()),
            None => refuse(no_rule("forwarding", name)),
        }
    }
}

fn is_new(section: &str, name: &str, there: bool) -> Result<(), Vec<ConfigError>> {
    if !there {
        return Ok(());
    }
    let path = Path::of(section).key(name);
    let error = ConfigError::conflict(path, name, format!("there is a rule `{name}`"));
    refuse(error.hint("change it with `set`"))
}

fn no_rule(section: &str, name: &str) -> ConfigError {
    let message = format!("there is no {section} rule `{name}`");
    ConfigError::not_found(Path::of(section), name, message)
}

/// The rules with this one at its place.
fn placed<T>(
    path: &Path,
    rules: &Ordered<T>,
    name: &str,
    rule: T,
    place: &Place,
) -> Result<Ordered<T>, Vec<ConfigError>> {
    let mut rules = rules.clone();
    rules.put(name, Arc::new(rule));
    match place {
        Place::Same => {}
        Place::Position(position) => rules.move_to(name, *position),
        Place::Before(other) => {
            let others = rules.names().filter(|rule| *rule != name);
            let Some(position) = others.into_iter().position(|rule| rule == other) else {
                let message = format!("there is no other rule `{other}` to put it before");
                return refuse(ConfigError::not_found(path.key(name), other, message));
            };
            rules.move_to(name, position);
        }
    }
    Ok(rules)
}
