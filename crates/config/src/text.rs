//! Values as people write them: durations, sizes, prefixes, address ranges and CPU sets.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

/// Why a text is not the value that it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseTextError(String);

impl ParseTextError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for ParseTextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ParseTextError {}

/// Serialises a type by its `Display` and `FromStr`, and describes it as a string with an example.
macro_rules! as_text {
    ($name:ident, $expected:literal, $example:literal) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;

                impl serde::de::Visitor<'_> for Text {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str(concat!($expected, " such as `", $example, "`"))
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }

                    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<$name, E> {
                        self.visit_str(&number.to_string())
                    }
                }

                deserializer.deserialize_any(Text)
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .description(Some(concat!("Text: ", $expected, ".")))
                    .examples([serde_json::Value::from($example)])
                    .into()
            }
        }

        impl utoipa::ToSchema for $name {
            fn name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
        }
    };
}

pub(crate) use as_text;

as_text!(Duration, "a duration with a unit (ms, s, m, h)", "30s");
as_text!(Size, "a size with a unit (KiB, MiB, GiB, TiB)", "512MiB");
as_text!(Prefix, "a destination prefix or `default`", "10.0.0.0/8");
as_text!(InterfaceAddress, "an address with its prefix length", "198.18.0.1/24");
as_text!(AddressRange, "an address, a range or a prefix", "198.18.0.10-198.18.0.41");
as_text!(CpuSet, "a set of CPUs", "1-8,17");

/// A length of time in whole milliseconds: `500ms`, `3s`, `5m`, `2h`. 0 needs no unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Duration(u64);

const DURATION_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Duration {
    /// None at all.
    pub const ZERO: Self = Self(0);

    /// From milliseconds.
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms)
    }

    /// From seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds * 1_000)
    }

    /// In milliseconds.
    pub const fn as_ms(self) -> u64 {
        self.0
    }

    /// True for no time at all.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl From<Duration> for std::time::Duration {
    fn from(duration: Duration) -> Self {
        Self::from_millis(duration.0)
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.pad("0s");
        }
        let whole = DURATION_UNITS.iter().find(|(_, ms)| self.0.is_multiple_of(*ms));
        let (unit, ms) = whole.unwrap_or(&("ms", 1));
        f.pad(&format!("{}{unit}", self.0 / ms))
    }
}

impl FromStr for Duration {
    type Err = ParseTextError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        with_unit(text, &DURATION_UNITS).map(Self).ok_or_else(|| {
            ParseTextError::new(format!(
                "`{text}` is not a duration; write a whole number and ms, s, m or h, as in `30s`"
            ))
        })
    }
}

/// A size in bytes: `64KiB`, `512MiB`, `2GiB`, `1TiB`, `1500B`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Size(u64);

const SIZE_UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl Size {
    /// From bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// From units of 2^20 bytes.
    pub const fn from_mib(mib: u64) -> Self {
        Self(mib << 20)
    }

    /// In bytes.
    pub const fn as_bytes(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = SIZE_UNITS.iter().find(|(_, b)| self.0 != 0 && self.0.is_multiple_of(*b));
        let (unit, bytes) = whole.unwrap_or(&("B", 1));
        f.pad(&format!("{}{unit}", self.0 / bytes))
    }
}

impl FromStr for Size {
    type Err = ParseTextError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        with_unit(text, &SIZE_UNITS).map(Self).ok_or_else(|| {
            ParseTextError::new(format!(
                "`{text}` is not a size; write a whole number and KiB, MiB, GiB or TiB, as in \
                 `512MiB`"
            ))
        })
    }
}

/// A whole number and one of the units; a bare 0 is 0.
fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    if unit.is_empty() {
        return (number == 0).then_some(0);
    }
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*factor)
}

/// A destination prefix whose host bits are 0; `default` is `0.0.0.0/0`, and `::/0` where what stands beside
/// it is IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix(IpNet);

impl Prefix {
    /// The prefix that holds `net`'s address.
    pub fn new(net: IpNet) -> Self {
        Self(net.trunc())
    }

    /// Its lowest address.
    pub fn address(self) -> IpAddr {
        self.0.addr()
    }

    /// Its length in bits.
    pub fn prefix_len(self) -> u8 {
        self.0.prefix_len()
    }

    /// As a network.
    pub fn net(self) -> IpNet {
        self.0
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == 0 && self.address().is_ipv4() {
            f.pad("default")
        } else {
            f.pad(&self.0.to_string())
        }
    }
}

impl FromStr for Prefix {
    type Err = ParseTextError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "default" {
            return Ok(Self(IpNet::V4(ipnet::Ipv4Net::default())));
        }
        let net = parse_net(text).ok_or_else(|| {
            ParseTextError::new(format!(
                "`{text}` is not a prefix; write `default`, an address, or one with its length, \
                 as in `10.0.0.0/8`"
            ))
        })?;
        if net.trunc() != net {
            return Err(ParseTextError::new(format!(
                "`{text}` has bits set beyond its length; did you mean `{}`?",
                net.trunc()
            )));
        }
        Ok(Self(net))
    }
}

fn parse_net(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// An address of ours and the length of its subnet's prefix; without one, the address alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceAddress(IpNet);

impl InterfaceAddress {
    /// The address and the subnet around it.
    pub const fn new(net: IpNet) -> Self {
        Self(net)
    }

    /// The address.
    pub fn address(self) -> IpAddr {
        self.0.addr()
    }

    /// The length of the subnet's prefix in bits.
    pub fn prefix_len(self) -> u8 {
        self.0.prefix_len()
    }

    /// The address together with its subnet.
    pub fn net(self) -> IpNet {
        self.0
    }
}

impl fmt::Display for InterfaceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.to_string())
    }
}

impl FromStr for InterfaceAddress {
    type Err = ParseTextError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_net(text).map(Self).ok_or_else(|| {
            ParseTextError::new(format!(
                "`{text}` is not an address with its prefix length, such as `198.18.0.1/24`"
            ))
        })
    }
}

/// One address or several in a row: `198.18.0.10`, `198.18.0.10-198.18.0.41`, `198.18.0.0/28`.
///
/// A prefix means all its addresses, the first and the last too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressRange {
    first: IpAddr,
    last: IpAddr,
}

impl AddressRange {
    /// The addresses from `first` to `last`, both in it; `None` if they are not in that order or of
    /// two families.
    pub fn new(first: IpAddr, last: IpAddr) -> Option<Self> {
        (first.is_ipv4() == last.is_ipv4() && first <= last).then_some(Self { first, last })
    }

    /// The lowest address.
    pub const fn first(self) -> IpAddr {
        self.first
    }

    /// The highest address.
    pub const fn last(self) -> IpAddr {
        self.last
    }

    /// True if the address is in it.
    pub fn contains(self, address: IpAddr) -> bool {
        address.is_ipv4() == self.first.is_ipv4() && self.first <= address && address <= self.last
    }

    /// How many addresses it has; `u128::MAX` stands for all of IPv6.
    pub fn count(self) -> u128 {
        (to_bits(self.last) - to_bits(self.first)).saturating_add(1)
    }

    /// Its addresses, lowest first.
    pub fn addresses(self) -> impl Iterator<Item = IpAddr> {
        let v4 = self.first.is_ipv4();
        (to_bits(self.first)..=to_bits(self.last)).map(move |bits| from_bits(bits, v4))
    }

    /// What is left of it without `address`: nothing, one range or two.
    pub fn without(self, address: IpAddr) -> Vec<Self> {
        if !self.contains(address) {
            return vec![self];
        }
        let (v4, bits) = (address.is_ipv4(), to_bits(address));
        let mut left = Vec::new();
        if self.first < address {
            left.push(Self { first: self.first, last: from_bits(bits - 1, v4) });
        }
        if address < self.last {
            left.push(Self { first: from_bits(bits + 1, v4), last: self.last });
        }
        left
    }
}

impl From<IpAddr> for AddressRange {
    fn from(address: IpAddr) -> Self {
        Self { first: address, last: address }
    }
}

fn to_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn from_bits(bits: u128, v4: bool) -> IpAddr {
    if v4 {
        // The bits of an IPv4 address are its low 32.
        IpAddr::V4(Ipv4Addr::from_bits(bits as u32))
    } else {
        IpAddr::V6(Ipv6Addr::from_bits(bits))
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            self.first.fmt(f)
        } else {
            f.pad(&format!("{}-{}", self.first, self.last))
        }
    }
}

impl FromStr for AddressRange {
    type Err = ParseTextError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || {
            ParseTextError::new(format!(
                "`{text}` is not an address, a range such as `198.18.0.10-198.18.0.41` or a \
                 prefix such as `198.18.0.0/28` or `fd00::/120`"
            ))
        };
        if let Some((first, last)) = text.split_once('-') {
            let first = first.trim().parse().map_err(|_| error())?;
            let last = last.trim().parse().map_err(|_| error())?;
            return Self::new(first, last).ok_or_else(|| {
                ParseTextError::new(format!("`{text}` ends before it begins, or in another family"))
            });
        }
        let net = parse_net(text).ok_or_else(error)?.trunc();
        Ok(Self { first: net.network(), last: net.broadcast() })
    }
}

/// CPUs as the kernel writes sets of them: `1-8,17`. Never empty; ascending.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CpuSet(Vec<u16>);

impl CpuSet {
    /// No CPU may have this number or a higher one.
    pub const LIMIT: u16 = 1024;

    /// The CPUs, lowest first.
    pub fn cpus(&self) -> &[u16] {
        &self.0
    }

    /// How many there are: one worker each.
    #[expect(clippy::len_without_is_empty, reason = "there is no empty set")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl Default for CpuSet {
    /// CPU 1: 0 is left to the kernel and the control thread.
    fn default() -> Self {
        Self(vec![1])
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, run) in self.0.chunk_by(|a, b| a + 1 == *b).enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match run {
                [one] => write!(f, "{comma}{one}")?,
                [first, .., last] => write!(f, "{comma}{first}-{last}")?,
                [] => {}
            }
        }
        Ok(())
    }
}

impl FromStr for CpuSet {
    type Err = ParseTextError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || {
            ParseTextError::new(format!(
                "`{text}` is not a set of CPUs; write numbers and ranges as in `1-8,17`"
            ))
        };
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let first: u16 = first.trim().parse().map_err(|_| error())?;
            let last: u16 = last.trim().parse().map_err(|_| error())?;
            if first > last {
                return Err(error());
            }
            if last >= Self::LIMIT {
                return Err(ParseTextError::new(format!(
                    "CPU {last} is beyond the highest possible, {}",
                    Self::LIMIT - 1
                )));
            }
            cpus.extend(first..=last);
        }
        cpus.sort_unstable();
        if let Some(twice) = cpus.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(ParseTextError::new(format!("CPU {} is in `{text}` twice", twice[0])));
        }
        Ok(Self(cpus))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn same<T: FromStr<Err = ParseTextError> + fmt::Display>(
        text: &str,
        canonical: &str,
    ) {
        let value = text.parse::<T>().unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(value.to_string(), canonical);
    }

    pub(crate) fn refused<T: FromStr<Err = ParseTextError>>(texts: &[&str]) {
        for text in texts {
            let error = text.parse::<T>().err().unwrap_or_else(|| panic!("`{text}` was taken"));
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn durations() {
        same::<Duration>("500ms", "500ms");
        same::<Duration>("3000ms", "3s");
        same::<Duration>("90s", "90s");
        same::<Duration>("900s", "15m");
        same::<Duration>("2h", "2h");
        same::<Duration>("0", "0s");
        refused::<Duration>(&["", "3", "s", "3 s", "-3s", "1.5s", "3d", "99999999999999999999h"]);
        refused::<Duration>(&["9999999999999999999h"]);
    }

    #[test]
    fn sizes() {
        same::<Size>("512MiB", "512MiB");
        same::<Size>("2048MiB", "2GiB");
        same::<Size>("1500B", "1500B");
        same::<Size>("0", "0B");
        refused::<Size>(&["", "512", "512M", "2gib", "1e3MiB", "99999999TiB"]);
    }

    #[test]
    fn prefixes() {
        same::<Prefix>("default", "default");
        same::<Prefix>("0.0.0.0/0", "default");
        same::<Prefix>("10.0.0.0/8", "10.0.0.0/8");
        same::<Prefix>("10.0.0.1", "10.0.0.1/32");
        refused::<Prefix>(&["", "10.0.0.0/33", "10.0.0.1/8", "any"]);
    }

    #[test]
    fn ranges() {
        same::<AddressRange>("198.18.0.10", "198.18.0.10");
        same::<AddressRange>("198.18.0.10-198.18.0.41", "198.18.0.10-198.18.0.41");
        same::<AddressRange>("198.18.0.0/30", "198.18.0.0-198.18.0.3");
        refused::<AddressRange>(&["", "198.18.0.9-198.18.0.1", "198.18.0.9-fe80::1", "x-y"]);
        let range: AddressRange = "198.18.0.0/30".parse().unwrap();
        assert_eq!(range.count(), 4);
        assert_eq!(range.addresses().count(), 4);
        let texts = |address: &str| {
            let left = range.without(address.parse().unwrap());
            left.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(texts("198.18.0.0"), ["198.18.0.1-198.18.0.3"]);
        assert_eq!(texts("198.18.0.1"), ["198.18.0.0", "198.18.0.2-198.18.0.3"]);
        assert_eq!(texts("198.18.0.3"), ["198.18.0.0-198.18.0.2"]);
        assert_eq!(texts("198.18.0.4"), ["198.18.0.0-198.18.0.3"]);
        let all: AddressRange = "::/0".parse().unwrap();
        assert_eq!(all.count(), u128::MAX);
    }

    #[test]
    fn cpu_sets() {
        same::<CpuSet>("1", "1");
        same::<CpuSet>("1-8,17", "1-8,17");
        same::<CpuSet>("3,1,2", "1-3");
        refused::<CpuSet>(&["", "a", "8-1", "1,,2", "1-2,2", "-1"]);
        assert!("1024".parse::<CpuSet>().is_err());
    }
}
