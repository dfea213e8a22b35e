//! The kernel's interface to one of ours (KNI).

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A kernel interface: its name, or `{ name, netns, persist }`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kni {
    /// Its name in the kernel.
    pub name: String,
    /// The network namespace that it is in: a name of `ip netns` or a path; the daemon's own if not given.
    pub netns: Option<String>,
    /// Whether it stays, without carrier, when the daemon ends.
    pub persist: bool,
}

/// How it is written.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum KniForm {
    /// By its name alone.
    Name(String),
    /// In full.
    Whole(WholeKni),
}

/// A kernel interface, written in full.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WholeKni {
    /// Its name in the kernel.
    pub name: String,
    /// The network namespace that it is in: a name of `ip netns` or a path; the daemon's own if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<String>,
    /// Whether it stays, without carrier, when the daemon ends.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub persist: bool,
}

impl Serialize for Kni {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { name, netns, persist } = self.clone();
        match (&netns, persist) {
            (None, false) => KniForm::Name(name),
            _ => KniForm::Whole(WholeKni { name, netns, persist }),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Kni {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrWhole;

        impl<'de> serde::de::Visitor<'de> for NameOrWhole {
            type Value = Kni;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a kernel interface or { name: …, netns: …, persist: … }")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Kni, E> {
                Ok(Kni { name: name.to_owned(), netns: None, persist: false })
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Kni, A::Error> {
                let whole = WholeKni::deserialize(MapAccessDeserializer::new(map))?;
                let WholeKni { name, netns, persist } = whole;
                Ok(Kni { name, netns, persist })
            }
        }

        deserializer.deserialize_any(NameOrWhole)
    }
}

/// Why the kernel would not take a name, if so (its `dev_valid_name`; a `%` would be a pattern).
pub(crate) fn bad_name(name: &str) -> Option<String> {
    const NAME_MAX: usize = 15;
    if name.len() > NAME_MAX {
        return Some(format!("`{name}` is longer than the {NAME_MAX} bytes that the kernel takes"));
    }
    let fits = |byte: u8| byte.is_ascii_graphic() && !b"/:%".contains(&byte);
    let is_sound = !matches!(name, "" | "." | "..") && name.bytes().all(fits);
    (!is_sound).then(|| format!("`{name}` cannot be the name of a kernel interface"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_alone_stays_one_and_the_rest_is_kept() {
        for text in ["wan0.kni", "{ name: k0, netns: edge }", "{ name: k0, persist: true }"] {
            let kni: Kni = serde_yaml::from_str(text).unwrap();
            let written = serde_yaml::to_string(&kni).unwrap();
            assert_eq!(serde_yaml::from_str::<Kni>(&written).unwrap(), kni);
            assert_eq!(written.contains("name:"), text.contains("name:"), "{written}");
        }
        let error = serde_yaml::from_str::<Kni>("{ name: k0, nets: edge }").unwrap_err();
        assert!(error.to_string().contains("nets"), "{error}");
        assert!(serde_yaml::from_str::<Kni>("7").is_err());
    }

    #[test]
    fn names_are_the_kernels() {
        assert_eq!(bad_name("fifteen-bytes-x"), None);
        for name in ["", "..", "a/b", "a b", "kni%d", "sixteen-bytes-xy"] {
            assert!(bad_name(name).is_some(), "{name}");
        }
    }
}
