//! Classes and blocks of ports: the units in which ports of a LIP and of a WAN IP are shared among
//! workers.

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

    /// The set with one class more; only the low 7 bits of `class` count.
    #[must_use]
    pub const fn with(self, class: u8) -> Self {
        Self(self.0 | 1 << (class & 127))
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

/// How many blocks there are.
pub const PORT_BLOCKS: usize = 128;

/// Ports in a block, neighbours of each other.
pub const PORT_BLOCK_LEN: u16 = 512;

/// The block of a port: its high 7 bits. Each has even and odd ports, and is either below 1024 or
/// not: so that parity and range can be kept within what a worker owns (RFC 4787 REQ-3 and 4).
#[inline(always)]
pub const fn port_block(l4_port: u16) -> u8 {
    (l4_port / PORT_BLOCK_LEN) as u8
}

/// A set of port blocks: bit n is block n, of the ports from 512 n on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BlockSet(pub u128);

impl BlockSet {
    /// No block.
    pub const NONE: Self = Self(0);

    /// Every block: what a lone worker has.
    pub const ALL: Self = Self(u128::MAX);

    /// The set with one block more; only the low 7 bits of `block` count.
    #[must_use]
    pub const fn with(self, block: u8) -> Self {
        Self(self.0 | 1 << (block & 127))
    }

    /// True if the block of this port is in the set.
    #[inline(always)]
    pub const fn contains_port(self, l4_port: u16) -> bool {
        self.0 >> port_block(l4_port) & 1 != 0
    }

    /// How many blocks are in the set.
    pub const fn count(self) -> u32 {
        self.0.count_ones()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_has_neighbouring_ports() {
        let set = BlockSet::NONE.with(2).with(127);
        assert_eq!(set.count(), 2);
        let ports: Vec<u16> = (0..=u16::MAX).filter(|&port| set.contains_port(port)).collect();
        let expected: Vec<u16> = (1_024..1_536).chain(65_024..=65_535).collect();
        assert_eq!(ports, expected);
        assert_eq!(PORT_BLOCKS * usize::from(PORT_BLOCK_LEN), 65_536);
    }

    #[test]
    fn a_class_has_the_ports_of_its_low_bits() {
        let set = ClassSet::NONE.with(0).with(127);
        assert_eq!(set.count(), 2);
        let ports = (0..=u16::MAX).filter(|&l4_port| set.contains_port(l4_port)).count();
        assert_eq!(ports, 2 * 65_536 / PORT_CLASSES);
        assert!(set.contains_port(1_024) && set.contains_port(1_151) && !set.contains_port(1_025));
    }
}
