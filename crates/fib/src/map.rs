//! A map from addresses to numbers that is built once and read for every packet.

use crate::number::IpNumber;

/// Open addressing with linear probing, at most half full. An entry is an address and a value, 0 if
/// empty: eight bytes for IPv4, half a cache line for IPv6.
#[derive(Debug)]
pub struct Map<A> {
    entries: Box<[(A, u32)]>,
    shift: u32,
}

impl<A: IpNumber> Map<A> {
    /// The map of these; each address may come once, and no value may be 0.
    pub fn new(items: impl ExactSizeIterator<Item = (A, u32)>) -> Self {
        let bits = (items.len() * 2).next_power_of_two().max(16).trailing_zeros();
        let mut map = Self { entries: vec![(A::default(), 0); 1 << bits].into(), shift: 64 - bits };
        for (address, value) in items {
            debug_assert!(value != 0);
            let home = map.home(address);
            let mask = map.entries.len() - 1;
            let place = (0..=mask).map(|step| (home + step) & mask);
            for index in place {
                if let Some(entry @ (_, 0)) = map.entries.get_mut(index) {
                    *entry = (address, value);
                    break;
                }
            }
        }
        map
    }

    #[inline(always)]
    fn home(&self, address: A) -> usize {
        (address.spread() >> self.shift) as usize
    }

    /// The value of an address; 0 without one.
    #[inline(always)]
    pub fn find(&self, address: A) -> u32 {
        let mask = self.entries.len() - 1;
        let home = self.home(address);
        for step in 0..=mask {
            match self.entries.get((home + step) & mask) {
                Some((_, 0)) | None => break,
                Some((known, value)) if *known == address => return *value,
                _ => {}
            }
        }
        0
    }

    /// All that is in it, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (A, u32)> + '_ {
        self.entries.iter().filter(|(_, value)| *value != 0).copied()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn is_map_of<A: IpNumber>(
        model: &HashMap<A, u32>,
        probes: impl Iterator<Item = A>,
    ) -> Result<(), TestCaseError> {
        let map = Map::new(model.iter().map(|(address, value)| (*address, *value)));
        for address in probes {
            let expected = model.get(&address).copied().unwrap_or(0);
            prop_assert_eq!(map.find(address), expected);
        }
        prop_assert_eq!(&map.iter().collect::<HashMap<_, _>>(), model);
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn is_a_map(
            model in proptest::collection::hash_map(0u32..2000, 1u32.., 0..500),
            base in any::<u32>(),
            wide in any::<u128>(),
            shift in 0u32..100,
        ) {
            let near = model.iter().map(|(key, value)| (key.wrapping_add(base), *value)).collect();
            is_map_of(&near, (0..2500).map(|offset| base.wrapping_add(offset)))?;
            // Addresses of one subnet, and subnets of one provider.
            let key = |key: u32| wide.wrapping_add(u128::from(key) << shift);
            let wide = model.iter().map(|(number, value)| (key(*number), *value)).collect();
            is_map_of(&wide, (0..2500).map(key))?;
        }
    }

    /// How many places the longest search looks at.
    fn longest(map: &Map<u128>) -> usize {
        let mask = map.entries.len() - 1;
        let places = |address: u128| {
            let home = map.home(address);
            let found = |step: &usize| map.entries.get((home + step) & mask).unwrap().0 == address;
            (0..=mask).find(found).unwrap() + 1
        };
        map.iter().map(|(address, _)| places(address)).max().unwrap_or(0)
    }

    #[test]
    fn searches_are_short_for_addresses_as_people_give_them() {
        let base = 0x2001_0db8_0000_0000_0000_0000_0000_0000_u128;
        for shift in [0, 8, 16, 32, 48, 64, 72, 80] {
            let addresses = (0..65_536u32).map(|n| (base + (u128::from(n) << shift), 1));
            let longest = longest(&Map::new(addresses));
            assert!(longest <= 64, "{longest} places at shift {shift}");
        }
    }

    #[test]
    fn the_empty_map_has_nothing() {
        let map = Map::new(std::iter::empty::<(u128, u32)>().collect::<Vec<_>>().into_iter());
        assert_eq!((map.find(0), map.find(u128::MAX)), (0, 0));
    }
}
