//! Values of what a file leaves out, and the question whether a value is just that.

use serde::Deserialize;
use serde::de::value::{Error, MapDeserializer};

use crate::forwarding::NatLog;
use crate::schema::{Config, Conntrack, Timeouts};
use crate::snat::{NatTimeouts, SnatRule};
use crate::text::Duration;

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

pub(crate) const fn u16_of<const N: u16>() -> u16 {
    N
}

pub(crate) fn is_u16<const N: u16>(value: &u16) -> bool {
    *value == N
}

pub(crate) const fn u32_of<const N: u32>() -> u32 {
    N
}

pub(crate) fn is_u32<const N: u32>(value: &u32) -> bool {
    *value == N
}

pub(crate) const fn ms<const N: u64>() -> Duration {
    Duration::from_ms(N)
}

pub(crate) fn is_ms<const N: u64>(value: &Duration) -> bool {
    value.as_ms() == N
}

pub(crate) const fn yes() -> bool {
    true
}

pub(crate) fn is_true(value: &bool) -> bool {
    *value
}

/// What an empty section means.
fn empty<'de, T: Deserialize<'de>>() -> T {
    let nothing = MapDeserializer::<_, Error>::new(std::iter::empty::<(&str, &str)>());
    T::deserialize(nothing).expect("every key of this section has a default")
}

macro_rules! default_is_empty {
    ($($section:ty),*) => {$(
        impl Default for $section {
            /// What an empty section means.
            fn default() -> Self {
                empty()
            }
        }
    )*};
}

default_is_empty!(Config, Conntrack, Timeouts, NatLog, NatTimeouts, SnatRule);
