//! A destination and its ports: few are listed in the group itself, more are in bit maps.

use types::Address;

use crate::chunks::{join, split};

/// Ports that a group lists before it needs bit maps.
pub(crate) const LISTED_MAX: usize = 8;
/// With so few it lists them again: half of the others, so that a few ports more or less do not
/// make it go to and fro.
pub(crate) const LISTED_AGAIN: u32 = 4;

/// What ports are taken for. Each key has all ports of the range to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupKey<A = u32> {
    /// The address of ours that the ports belong to, in host order.
    pub lip: A,
    /// The real server's address, in host order.
    pub rs: A,
    /// The real server's port.
    pub rport: u16,
    /// IANA protocol number.
    pub proto: u8,
}

/// How many ports of a group are not free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Taken.
    pub taken: u32,
    /// Given back, but not yet to be taken again.
    pub resting: u32,
}

/// What a port of a group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Free,
    Taken,
    Resting,
}

/// Where the ports of a group are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// So many in its list.
    Listed(u8),
    /// In chunks.
    Mapped,
    /// In chunks, and some class has no port left.
    MappedWithFull,
}

/// A destination with at least one port taken or resting.
pub(crate) struct Group<A> {
    lip: A,
    rs: A,
    rport: u16,
    proto: u8,
    pub(crate) taken: u16,
    pub(crate) resting: u16,
    /// The position after the last one that was searched for.
    pub(crate) cursor: u16,
    /// The cursor moved after the first lease.
    pub(crate) moved: bool,
    /// Of listed ports, which ones rest.
    rests: u8,
    /// [`MAPPED`], [`MAPPED_WITH_FULL`], or how many ports are listed.
    listed: u8,
    /// Positions of the listed ports; else the classes that have ports in chunks, one bit each.
    ports: [u32; LISTED_MAX / 2],
}

const MAPPED: u8 = LISTED_MAX as u8 + 1;
const MAPPED_WITH_FULL: u8 = MAPPED + 1;

impl<A: Address> Group<A> {
    /// A group with its first port taken.
    pub(crate) const fn new(key: &GroupKey<A>, position: u16, cursor: u16) -> Self {
        let GroupKey { lip, rs, rport, proto } = *key;
        let ports = [position as u32, 0, 0, 0];
        let (taken, resting, moved, rests, listed) = (1, 0, false, 0, 1);
        Self { lip, rs, rport, proto, taken, resting, cursor, moved, rests, listed, ports }
    }

    #[inline(always)]
    pub(crate) const fn key(&self) -> GroupKey<A> {
        GroupKey { lip: self.lip, rs: self.rs, rport: self.rport, proto: self.proto }
    }

    #[inline(always)]
    pub(crate) fn is_of(&self, key: &GroupKey<A>) -> bool {
        (self.lip == key.lip)
            & (self.rs == key.rs)
            & (self.rport == key.rport)
            & (self.proto == key.proto)
    }

    pub(crate) const fn usage(&self) -> Usage {
        Usage { taken: self.taken as u32, resting: self.resting as u32 }
    }

    #[inline(always)]
    pub(crate) const fn place(&self) -> Place {
        match self.listed {
            MAPPED => Place::Mapped,
            MAPPED_WITH_FULL => Place::MappedWithFull,
            listed => Place::Listed(listed),
        }
    }

    /// All ports are in chunks from now on; none is yet.
    pub(crate) const fn map(&mut self) {
        self.listed = MAPPED;
        self.rests = 0;
        self.ports = [0; LISTED_MAX / 2];
    }

    /// All ports are listed from now on; none is yet.
    pub(crate) const fn unmap(&mut self) {
        self.listed = 0;
        self.rests = 0;
        self.ports = [0; LISTED_MAX / 2];
    }

    /// Notes whether any class is without a free port.
    pub(crate) const fn set_any_full(&mut self, any: bool) {
        self.listed = if any { MAPPED_WITH_FULL } else { MAPPED };
    }

    /// Of a mapped group, the classes that have ports.
    pub(crate) const fn classes(&self) -> u128 {
        join(&self.ports)
    }

    pub(crate) const fn set_class(&mut self, class: u8, populated: bool) {
        let bit = 1 << class;
        let classes = self.classes();
        self.ports = split(if populated { classes | bit } else { classes & !bit });
    }

    /// The listed positions; those behind the end of the list are 0.
    #[inline(always)]
    pub(crate) fn positions(&self) -> [u16; LISTED_MAX] {
        let [a, b, c, d] = self.ports;
        let high = |word: u32| (word >> 16) as u16;
        [a as u16, high(a), b as u16, high(b), c as u16, high(c), d as u16, high(d)]
    }

    fn set_position(&mut self, index: usize, position: u16) {
        if let Some(word) = self.ports.get_mut(index / 2) {
            let shift = index % 2 * 16;
            *word = *word & !(0xffff << shift) | u32::from(position) << shift;
        }
    }

    /// Where a position stands in the list.
    #[inline]
    pub(crate) fn index_of(&self, position: u16) -> Option<usize> {
        self.positions().into_iter().take(self.listed.into()).position(|listed| listed == position)
    }

    /// What the port at a position is, if the ports are listed.
    pub(crate) fn listed_state(&self, position: u16) -> State {
        match self.index_of(position) {
            None => State::Free,
            Some(index) if self.rests >> index & 1 != 0 => State::Resting,
            Some(_) => State::Taken,
        }
    }

    /// Which of the listed ports rest.
    pub(crate) const fn rests(&self) -> u8 {
        self.rests
    }

    /// Adds a position to a list that is not full.
    #[inline]
    pub(crate) fn list(&mut self, position: u16, rests: bool) {
        let index = usize::from(self.listed);
        self.set_position(index, position);
        self.rests |= u8::from(rests) << index;
        self.listed += 1;
    }

    /// A listed port rests.
    pub(crate) fn rest(&mut self, position: u16) {
        if let Some(index) = self.index_of(position) {
            self.rests |= 1 << index;
        }
    }

    /// Takes a position off the list; the last one comes into its place.
    pub(crate) fn unlist(&mut self, position: u16) {
        let Some(index) = self.index_of(position) else { return };
        let last = usize::from(self.listed) - 1;
        let Some(&moved) = self.positions().get(last) else { return };
        self.set_position(index, moved);
        let last_rests = self.rests >> last & 1;
        self.rests &= !(1 << last);
        if index != last {
            self.rests = self.rests & !(1 << index) | last_rests << index;
        }
        self.listed -= 1;
    }
}
