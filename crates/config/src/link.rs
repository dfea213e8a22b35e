//! VLANs on interfaces, and what all kinds of interfaces have in common.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::{ConfigError, Path};
use crate::explain::suggest;
use crate::kni::{Kni, bad_name};
use crate::schema::Config;
use crate::validate::Checker;

/// Identifiers that a VLAN may have (IEEE 802.1Q table 9-2: 0 is none, 4095 is reserved).
const IDS: std::ops::RangeInclusive<u16> = 1..=4094;
/// As long as a kernel interface's name.
const INTERFACE_NAME_MAX: usize = 15;

/// A VLAN (IEEE 802.1Q) on an interface: an interface of its own, whose frames have its tag there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Vlan {
    /// The interface that carries its frames.
    pub link: String,
    /// Its identifier, 1 to 4094.
    pub id: u16,
    /// The kernel's interface to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::kni::KniForm>)]
    pub kni: Option<Kni>,
}

impl Config {
    /// The names that `dev` may be: of interfaces and VLANs.
    pub fn devs(&self) -> impl Iterator<Item = &str> {
        self.interfaces.keys().chain(self.vlans.keys()).map(String::as_str)
    }

    /// Whether there is an interface or VLAN of a name.
    pub fn has_dev(&self, name: &str) -> bool {
        self.interfaces.contains_key(name) || self.vlans.contains_key(name)
    }

    /// The KNIs with the sections and names of their interfaces.
    pub fn knis(&self) -> impl Iterator<Item = (&'static str, &str, &Kni)> {
        let interfaces = self.interfaces.iter();
        let interfaces = interfaces.map(|(name, entry)| ("interfaces", name, &entry.kni));
        let vlans = self.vlans.iter().map(|(name, entry)| ("vlans", name, &entry.kni));
        let all = interfaces.chain(vlans);
        all.filter_map(|(section, name, kni)| Some((section, name.as_str(), kni.as_ref()?)))
    }

    /// The section that an interface or VLAN of a name is in.
    pub(crate) fn section_of(&self, dev: &str) -> &'static str {
        if self.vlans.contains_key(dev) { "vlans" } else { "interfaces" }
    }
}

impl Checker<'_> {
    /// The name of an interface of whatever kind.
    pub(crate) fn interface_name(&mut self, path: &Path, name: &str) {
        self.name(path, name);
        if name.len() > INTERFACE_NAME_MAX {
            let message = format!("`{name}` is longer than {INTERFACE_NAME_MAX} bytes");
            self.invalid(path.clone(), name, message);
        }
    }

    pub(crate) fn kni(&mut self, path: &Path, kni: Option<&Kni>) {
        if let Some(kni) = kni
            && let Some(why) = bad_name(&kni.name)
        {
            let error = ConfigError::invalid(path.key("kni"), &kni.name, why);
            self.errors.push(error.hint("give it another one: `kni: { name: … }`"));
        }
    }

    pub(crate) fn vlans(&mut self) {
        let config = self.config;
        let mut seen = std::collections::HashMap::new();
        for (name, vlan) in &config.vlans {
            self.vlan(name, vlan);
            if let Some(first) = seen.insert((&vlan.link, vlan.id), name) {
                let message =
                    format!("`{first}` is the VLAN {} of `{}` already", vlan.id, vlan.link);
                self.conflict(Path::of("vlans").key(name).key("id"), vlan.id, message);
            }
        }
    }

    /// What a VLAN must be, but for others on its link.
    pub(crate) fn vlan(&mut self, name: &str, vlan: &Vlan) {
        let path = Path::of("vlans").key(name);
        self.interface_name(&path, name);
        if self.config.interfaces.contains_key(name) {
            let message = format!("there is an interface `{name}` already");
            self.conflict(path.clone(), name, message);
        }
        if !IDS.contains(&vlan.id) {
            let (low, high) = (IDS.start(), IDS.end());
            let message = format!("{} is not from {low} to {high}", vlan.id);
            self.invalid(path.key("id"), vlan.id, message);
        }
        self.kni(&path, vlan.kni.as_ref());
        let link = path.key("link");
        if self.config.vlans.contains_key(&vlan.link) {
            let message = format!("`{}` is a VLAN: there are none on others", vlan.link);
            self.invalid(link, &vlan.link, message);
        } else if !self.config.interfaces.contains_key(&vlan.link) {
            let error = ConfigError::invalid(
                link,
                &vlan.link,
                format!("there is no interface `{}`", vlan.link),
            );
            let links = self.config.interfaces.keys().map(String::as_str);
            self.errors.push(with_known(error, &vlan.link, links));
        }
    }
}

/// Hints at the name that was probably meant, or at the names that there are if they are few.
pub(crate) fn with_known<'n>(
    error: ConfigError,
    name: &str,
    known: impl Iterator<Item = &'n str>,
) -> ConfigError {
    let names: Vec<&str> = known.take(1_000).collect();
    match suggest(name, &names) {
        Some(meant) => error.hint(format!("did you mean `{meant}`?")),
        None if names.is_empty() => error,
        None if names.len() <= 8 => error.hint(format!("there are {}", names.join(", "))),
        None => error,
    }
}
