//! Bit maps of ports in chunks that exist only while a bit in them is set.

/// The chunk whose bit n is set if all ports of class n are occupied comes after those of ports.
pub(crate) const FULL: u16 = 512;

/// 128 ports of one class of one group.
pub(crate) struct Chunk {
    occupied: [u32; 4],
    resting: [u32; 4],
    owner: u32,
}

impl Chunk {
    /// A chunk of a group with its first port taken.
    pub(crate) const fn new(owner: u32, bit: u8) -> Self {
        Self { occupied: split(1 << bit), resting: [0; 4], owner }
    }

    pub(crate) const fn owner(&self) -> u32 {
        self.owner
    }

    /// Ports that are taken or rest.
    #[inline(always)]
    pub(crate) const fn occupied(&self) -> u128 {
        join(&self.occupied)
    }

    /// Those of them that rest.
    #[inline(always)]
    pub(crate) const fn resting(&self) -> u128 {
        join(&self.resting)
    }

    /// Occupies a port; what is occupied then.
    #[inline(always)]
    pub(crate) const fn set(&mut self, bit: u8) -> u128 {
        let occupied = self.occupied() | 1 << bit;
        self.occupied = split(occupied);
        occupied
    }

    /// An occupied port rests.
    pub(crate) const fn rest(&mut self, bit: u8) {
        self.resting = split(self.resting() | 1 << bit);
    }

    /// Frees a port; what is occupied still.
    #[inline(always)]
    pub(crate) const fn clear(&mut self, bit: u8) -> u128 {
        let occupied = self.occupied() & !(1 << bit);
        self.occupied = split(occupied);
        self.resting = split(self.resting() & !(1 << bit));
        occupied
    }
}

#[inline(always)]
pub(crate) const fn join(words: &[u32; 4]) -> u128 {
    let [a, b, c, d] = *words;
    a as u128 | (b as u128) << 32 | (c as u128) << 64 | (d as u128) << 96
}

#[inline(always)]
pub(crate) const fn split(bits: u128) -> [u32; 4] {
    [bits as u32, (bits >> 32) as u32, (bits >> 64) as u32, (bits >> 96) as u32]
}
