//! Classes of ports: the units in which ports of a LIP and of a WAN IP are shared among workers.

/// How many classes there are.
pub const PORT_CLASSES: usize = 128;

/// The class of a port: its low 7 bits. All classes have equally many ports, and a power of two
/// of workers can be told apart by masking the port, as a NIC's flow rules do.
#[inline(always)]
pub const fn port_class(l4_port: u16) -> u8 {
    (l4_port & (PORT_CLASSES as u16 - 1)) as u8
}

/// A set of port classes: bit n is class n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClassSet(pub u128);

impl ClassSet {
    /// No class.
    pub const NONE: Self = Self(0);

    /// Every class: what a lone worker has.
    pub const ALL: Self = Self(u128::MAX);

    /// Those of even ports.
    pub const EVEN: Self = Self(u128::MAX / 3);

    /// Those of odd ports.
    pub const ODD: Self = Self(!Self::EVEN.0);

    /// The set with one class more; only the low 7 bits of `class` count.
    #[must_use]
    pub const fn with(self, class: u8) -> Self {
        Self(self.0 | 1 << (class & 127))
    }

    /// The classes that are in both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// True if the class of this port is in the set.
    #[inline(always)]
    pub const fn contains_port(self, l4_port: u16) -> bool {
        self.0 >> port_class(l4_port) & 1 != 0
    }

    /// How many classes are in the set.
    pub const fn count(self) -> u32 {
        self.0.count_ones()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_has_the_ports_of_its_low_bits() {
        let set = ClassSet::NONE.with(0).with(127);
        assert_eq!(set.count(), 2);
        let ports = (0..=u16::MAX).filter(|&l4_port| set.contains_port(l4_port)).count();
        assert_eq!(ports, 2 * 65_536 / PORT_CLASSES);
        assert!(ClassSet::EVEN.contains_port(1_024) && ClassSet::ODD.contains_port(1_023));
        assert_eq!(set.and(ClassSet::ODD), ClassSet::NONE.with(127));
        assert!(set.contains_port(1_024) && set.contains_port(1_151) && !set.contains_port(1_025));
    }
}
