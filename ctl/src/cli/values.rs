//! Values of arguments that are neither of clap nor of the configuration.

use std::net::IpAddr;
use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use config::{AddressRange, Admin, MssClamp};
use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};
use types::Endpoint;

use super::service::put;

/// Parses one of the names that `T` has in the configuration.
pub(super) fn one_of<T>(names: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: DeserializeOwned + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names).try_map(|name| serde_json::from_value(Value::String(name)))
}

/// Parses `on` or `off`.
pub(super) fn on_off() -> impl TypedValueParser<Value = bool> {
    PossibleValuesParser::new(["on", "off"]).map(|text| text == "on")
}

/// A value, or `none` to have none. In JSON `none` is `null`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrNone<T> {
    /// This.
    Some(T),
    /// Nothing.
    None,
}

impl<T: FromStr> FromStr for OrNone<T>
where
    T::Err: std::fmt::Display,
{
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::None);
        }
        text.parse().map(Self::Some).map_err(|error: T::Err| format!("{error}; or write `none`"))
    }
}

impl<T: Serialize> Serialize for OrNone<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Some(value) => serializer.serialize_some(value),
            Self::None => serializer.serialize_none(),
        }
    }
}

/// Values with commas between them, or `any` or `none` for no value: the empty list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListOr<T>(pub Vec<T>);

impl<T: FromStr> FromStr for ListOr<T>
where
    T::Err: std::fmt::Display,
{
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if matches!(text, "any" | "none") {
            return Ok(Self(Vec::new()));
        }
        let parse = |item: &str| item.trim().parse().map_err(|error: T::Err| error.to_string());
        text.split(',').map(parse).collect::<Result<_, _>>().map(Self)
    }
}

impl<T: Serialize> Serialize for ListOr<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// What may stand for a source outside: addresses, or `interface` for the interface's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WanAddress {
    /// The primary address of the interface that a packet leaves by.
    Interface,
    /// These.
    Addresses(AddressRange),
}

impl FromStr for WanAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "interface" {
            return Ok(Self::Interface);
        }
        let range: Result<AddressRange, _> = text.parse();
        range.map(Self::Addresses).map_err(|error| format!("{error}; or write `interface`"))
    }
}

impl Serialize for WanAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Interface => serializer.serialize_str("interface"),
            Self::Addresses(range) => range.serialize(serializer),
        }
    }
}

/// Addresses with commas between them; after a single one, its weight and what the operator wants of it:
/// `192.0.2.1,weight=3,admin=drain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weighted<T>(Vec<Share<T>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Share<T> {
    address: T,
    weight: u16,
    admin: Admin,
}

impl<T: FromStr> FromStr for Weighted<T>
where
    T::Err: std::fmt::Display,
{
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let items = text.split(',').map(str::trim);
        let (settings, addresses): (Vec<_>, Vec<_>) = items.partition(|item| item.contains('='));
        let share = |item: &str| match item.parse() {
            Ok(address) => Ok(Share { address, weight: 1, admin: Admin::Enabled }),
            Err(error) => Err(T::Err::to_string(&error)),
        };
        let mut shares = addresses.into_iter().map(share).collect::<Result<Vec<_>, _>>()?;
        match &mut shares[..] {
            _ if settings.is_empty() => {}
            [share] => settings.iter().try_for_each(|setting| share.set(setting))?,
            _ => {
                return Err("weight and admin are of one address: give the option once more for \
                            each other one"
                    .to_owned());
            }
        }
        Ok(Self(shares))
    }
}

impl<T> Share<T> {
    fn set(&mut self, setting: &str) -> Result<(), String> {
        let (name, value) = pair(setting)?;
        match &*name {
            "weight" => {
                let refused = |_| format!("`{value}` is not a weight; weights go from 0 to 65535");
                self.weight = value.parse().map_err(refused)?;
            }
            "admin" => {
                let admin = serde_json::from_value(Value::from(&*value));
                let refused = |_| format!("`{value}` is not one of enabled, drain and disabled");
                self.admin = admin.map_err(refused)?;
            }
            _ => return Err(format!("`{name}` is neither weight nor admin")),
        }
        Ok(())
    }
}

impl<T: Serialize> Weighted<T> {
    /// What stands for them in a list of the API: the address alone if it is nothing else.
    pub(super) fn values(&self) -> impl Iterator<Item = Value> {
        self.0.iter().map(|Share { address, weight, admin }| {
            let mut fields = Map::new();
            put(&mut fields, "weight", (*weight != 1).then_some(weight));
            put(&mut fields, "admin", (*admin != Admin::Enabled).then_some(admin));
            if fields.is_empty() {
                return json!(address);
            }
            put(&mut fields, "address", Some(address));
            Value::from(fields)
        })
    }
}

/// Parses `off`, `path` or a number of bytes.
pub(super) fn mss_clamp(text: &str) -> Result<MssClamp, String> {
    match (text, text.parse()) {
        ("off", _) => Ok(MssClamp::Off),
        ("path", _) => Ok(MssClamp::Path),
        (_, Ok(bytes)) if bytes != 0 => Ok(MssClamp::Bytes(bytes)),
        _ => Err(format!("`{text}` is not off, path or a number of bytes from 1 to 65535")),
    }
}

/// An address with a port or without one: `192.0.2.1:40000`, `192.0.2.1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressAndPort {
    /// The address.
    pub address: IpAddr,
    /// The port, if there is one.
    pub l4_port: Option<u16>,
}

impl FromStr for AddressAndPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return Ok(Self { address, l4_port: None });
        }
        let endpoint: Endpoint = text.parse().map_err(|_| {
            format!("`{text}` is not an address, with a port or without, such as 192.0.2.1:40000")
        })?;
        Ok(Self { address: endpoint.address, l4_port: Some(endpoint.l4_port.0) })
    }
}

/// TCP flags: `syn,ack`, `SA` or `none`. Kept as letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpFlags(pub String);

const FLAGS: [(&str, char); 6] =
    [("syn", 'S'), ("ack", 'A'), ("fin", 'F'), ("rst", 'R'), ("psh", 'P'), ("urg", 'U')];

impl FromStr for TcpFlags {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(String::new()));
        }
        if !text.is_empty() && text.chars().all(|c| FLAGS.iter().any(|(_, letter)| *letter == c)) {
            return Ok(Self(text.to_owned()));
        }
        let letter = |name: &str| {
            let found = FLAGS.iter().find(|(flag, _)| flag.eq_ignore_ascii_case(name));
            found.map(|(_, letter)| *letter).ok_or_else(|| {
                format!("`{name}` is no TCP flag; there are syn, ack, fin, rst, psh and urg")
            })
        };
        text.split([',', '|', '+']).map(letter).collect::<Result<_, _>>().map(Self)
    }
}

/// `name=value`.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err(format!("`{text}` is not a name and a value with `=` between them")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_names_or_letters() {
        for (text, letters) in
            [("syn", "S"), ("syn,ack", "SA"), ("SYN|ACK", "SA"), ("SA", "SA"), ("none", "")]
        {
            assert_eq!(text.parse(), Ok(TcpFlags(letters.to_owned())), "{text}");
        }
        for text in ["", "sin", "syn,", "X"] {
            assert!(text.parse::<TcpFlags>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_port_may_be_left_out() {
        let parse = |text: &str| text.parse::<AddressAndPort>();
        assert_eq!(parse("192.0.2.1:1").unwrap().l4_port, Some(1));
        assert_eq!(parse("192.0.2.1").unwrap().l4_port, None);
        assert_eq!(parse("2001:db8::1").unwrap().l4_port, None);
        assert_eq!(parse("[2001:db8::1]:9").unwrap().l4_port, Some(9));
        assert!(parse("192.0.2.1:65536").unwrap_err().contains("192.0.2.1:65536"));
    }

    #[test]
    fn addresses_may_have_weights() {
        let values = |text: &str| -> Result<Value, String> {
            let items: Weighted<WanAddress> = text.parse()?;
            Ok(items.values().collect())
        };
        assert_eq!(values("interface"), Ok(json!(["interface"])));
        assert_eq!(
            values("192.0.2.1, 192.0.2.4/30"),
            Ok(json!(["192.0.2.1", "192.0.2.4-192.0.2.7"]))
        );
        let item = json!({ "address": "192.0.2.1-192.0.2.3", "weight": 5, "admin": "drain" });
        assert_eq!(values("192.0.2.1-192.0.2.3,weight=5,admin=drain"), Ok(json!([item])));
        assert_eq!(values("192.0.2.1,weight=1,admin=enabled"), Ok(json!(["192.0.2.1"])));
        for (text, told) in [
            ("192.0.2.1,192.0.2.2,weight=5", "are of one address: give the option once more"),
            ("weight=5", "are of one address"),
            ("192.0.2.1,weight=65536", "`65536` is not a weight"),
            ("192.0.2.1,weight=", "is not a name and a value"),
            ("192.0.2.1,admin=off", "`off` is not one of enabled, drain and disabled"),
            ("192.0.2.1,drain=yes", "`drain` is neither weight nor admin"),
            ("192.0.2.1,drain", "`drain` is not an address"),
        ] {
            let error = values(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }

    #[test]
    fn none_is_null() {
        let value: OrNone<u32> = "none".parse().unwrap();
        assert_eq!(serde_json::to_value(value).unwrap(), Value::Null);
        let value: OrNone<u32> = "7".parse().unwrap();
        assert_eq!(serde_json::to_value(value).unwrap(), 7);
        assert!("x".parse::<OrNone<u32>>().unwrap_err().ends_with("; or write `none`"));
    }
}
