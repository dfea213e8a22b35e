//! Rules of NAT and of forwarding, changed one at a time.

use api::{ErrorBody, ErrorCode, Removal, RemovedConns, RulePlace, Warnings};
use config::{DnatRule, Forwarding, ForwardingRule, Ordered, SnatRule};

use super::compile::RuleKind;
use super::{Control, Reply, not_found};
use crate::worker::link::ConnFilter;

pub(super) fn no_rule(section: &str, name: &str) -> ErrorBody {
    not_found("name", name, format!("there is no {section} rule `{name}`"))
}

impl Control {
    /// Adds a rule of source NAT.
    ///
    /// # Errors
    /// If there is one of this name, or it cannot be.
    pub async fn add_snat(
        &self,
        name: String,
        place: RulePlace,
        rule: SnatRule,
    ) -> Reply<Warnings> {
        let place = place.place()?;
        self.edit(move |model| model.add_snat(&name, rule, &place).map_err(ErrorBody::from_config))
            .await
    }

    /// Adds a rule of source NAT, or takes the place of the one of that name.
    ///
    /// # Errors
    /// If it cannot be.
    pub async fn put_snat(
        &self,
        name: String,
        place: RulePlace,
        rule: SnatRule,
    ) -> Reply<Warnings> {
        let place = place.place()?;
        self.edit(move |model| model.put_snat(&name, rule, &place).map_err(ErrorBody::from_config))
            .await
    }

    /// Changes a rule of source NAT by a JSON merge patch (RFC 7396). Its conns go on.
    ///
    /// # Errors
    /// If there is none, or it cannot be.
    pub async fn set_snat(
        &self,
        name: String,
        place: RulePlace,
        patch: serde_json::Value,
    ) -> Reply<Warnings> {
        let place = place.place()?;
        self.edit(move |model| {
            let current = model.snat.get(&name).ok_or_else(|| no_rule("snat", &name))?;
            let rule = api::merge_patch(&**current, patch)?;
            model.put_snat(&name, rule, &place).map_err(ErrorBody::from_config)
        })
        .await
    }

    /// Removes a rule of source NAT; its conns go on while its WAN IPs are another's too, or are closed.
    ///
    /// # Errors
    /// If there is none.
    pub async fn delete_snat(&self, name: String, removal: Removal) -> Reply<Warnings> {
        let rule = (RuleKind::Snat, name.clone());
        let gone = self.edit(move |model| model.delete_snat(&name).map_err(ErrorBody::from_config));
        self.delete_rule(rule, removal, gone).await
    }

    /// Adds a rule of destination NAT.
    ///
    /// # Errors
    /// If there is one of this name, or it cannot be.
    pub async fn add_dnat(&self, name: String, rule: DnatRule) -> Reply<Warnings> {
        self.edit(move |model| model.add_dnat(&name, rule).map_err(ErrorBody::from_config)).await
    }

    /// Adds a rule of destination NAT, or takes the place of the one of that name.
    ///
    /// # Errors
    /// If it cannot be.
    pub async fn put_dnat(&self, name: String, rule: DnatRule) -> Reply<Warnings> {
        self.edit(move |model| model.put_dnat(&name, rule).map_err(ErrorBody::from_config)).await
    }

    /// Changes a rule of destination NAT by a JSON merge patch (RFC 7396). Its conns go on.
    ///
    /// # Errors
    /// If there is none, or it cannot be.
    pub async fn set_dnat(&self, name: String, patch: serde_json::Value) -> Reply<Warnings> {
        self.edit(move |model| {
            let current = model.dnat.get(&name).ok_or_else(|| no_rule("dnat", &name))?;
            let rule = api::merge_patch(&**current, patch)?;
            model.put_dnat(&name, rule).map_err(ErrorBody::from_config)
        })
        .await
    }

    /// Removes a rule of destination NAT; its conns go on or are closed.
    ///
    /// # Errors
    /// If there is none.
    pub async fn delete_dnat(&self, name: String, removal: Removal) -> Reply<Warnings> {
        let rule = (RuleKind::Dnat, name.clone());
        let gone = self.edit(move |model| model.delete_dnat(&name).map_err(ErrorBody::from_config));
        self.delete_rule(rule, removal, gone).await
    }

    async fn delete_rule(
        &self,
        (kind, name): (RuleKind, String),
        removal: Removal,
        gone: impl Future<Output = Reply<Warnings>>,
    ) -> Reply<Warnings> {
        let filter = {
            let state = self.state();
            let rule = state.gateway_names.slot(kind, &name);
            // A port forward to several servers is a service.
            let service = state.compiled(&format!("dnat/{name}"));
            let service = service.filter(|_| rule.is_none() && kind == RuleKind::Dnat);
            let service = service.map(|service| service.spec().slot);
            let filter = ConnFilter { rule, service, ..ConnFilter::default() };
            (rule.is_some() || service.is_some()).then_some(filter)
        };
        let mut warnings = gone.await?;
        if let (Some(filter), RemovedConns::Reset) = (filter, removal.connections) {
            let path = match kind {
                RuleKind::Snat => format!("snat.{name}"),
                RuleKind::Dnat => format!("dnat.{name}"),
                RuleKind::Forwarding => format!("forwarding.rules.{name}"),
            };
            warnings.warnings.extend(self.close_removed(filter, &path).await);
        }
        Ok(warnings)
    }

    /// Changes what of forwarding is no rule by a JSON merge patch (RFC 7396).
    ///
    /// # Errors
    /// If it cannot be.
    pub async fn set_forwarding(&self, patch: serde_json::Value) -> Reply<Warnings> {
        self.edit(move |model| {
            let rules = Ordered::default();
            let current = Forwarding { rules, ..model.forwarding.clone() };
            let settings: Forwarding = api::merge_patch(&current, patch)?;
            if !settings.rules.is_empty() {
                let message = "rules of forwarding are added and changed one by one";
                return Err(ErrorBody::new(ErrorCode::Invalid, message));
            }
            model.set_forwarding(settings).map_err(ErrorBody::from_config)
        })
        .await
    }

    /// Adds a rule of forwarding.
    ///
    /// # Errors
    /// If there is one of this name, or it cannot be.
    pub async fn add_forwarding_rule(
        &self,
        name: String,
        place: RulePlace,
        rule: ForwardingRule,
    ) -> Reply<Warnings> {
        let place = place.place()?;
        self.edit(move |model| {
            model.add_forwarding_rule(&name, rule, &place).map_err(ErrorBody::from_config)
        })
        .await
    }

    /// Adds a rule of forwarding, or takes the place of the one of that name.
    ///
    /// # Errors
    /// If it cannot be.
    pub async fn put_forwarding_rule(
        &self,
        name: String,
        place: RulePlace,
        rule: ForwardingRule,
    ) -> Reply<Warnings> {
        let place = place.place()?;
        self.edit(move |model| {
            model.put_forwarding_rule(&name, rule, &place).map_err(ErrorBody::from_config)
        })
        .await
    }

    /// Changes a rule of forwarding by a JSON merge patch (RFC 7396).
    ///
    /// # Errors
    /// If there is none, or it cannot be.
    pub async fn set_forwarding_rule(
        &self,
        name: String,
        place: RulePlace,
        patch: serde_json::Value,
    ) -> Reply<Warnings> {
        let place = place.place()?;
        self.edit(move |model| {
            let rules = &model.forwarding.rules;
            let current = rules.get(&name).ok_or_else(|| no_rule("forwarding", &name))?;
            let rule = api::merge_patch(&**current, patch)?;
            model.put_forwarding_rule(&name, rule, &place).map_err(ErrorBody::from_config)
        })
        .await
    }

    /// Removes a rule of forwarding.
    ///
    /// # Errors
    /// If there is none.
    pub async fn delete_forwarding_rule(&self, name: String) -> Reply<Warnings> {
        self.edit(move |model| model.delete_forwarding_rule(&name).map_err(ErrorBody::from_config))
            .await
    }
}
