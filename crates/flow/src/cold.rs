//! What of a conn its packets do not need.

use arch::{zeroable_enum, zeroable_struct};
use serde::{Deserialize, Serialize};
use types::{Now, Slot};

use crate::state::List;

zeroable_enum! {
    /// What is leased for a conn, to be given back when it closes.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum LeaseKind {
        /// Nothing.
        #[default]
        None,
        /// A LIP's port: `forward.new_src` and `new_sport`, towards `new_dst` and `new_dport`.
        Lip,
        /// Mappings that other conns may share: of the source, if `forward` exchanges it, and of
        /// the destination, if `forward` exchanges that and it is not a fixed one.
        Mapping,
        /// A WAN IP's port towards one remote: `forward.new_src` and `new_sport`, towards
        /// `new_dst` and `new_dport`. The destination may be a mapping besides.
        Wan,
        /// Nothing but a share of what a remote may open: the conn leads to a mapping whose inside
        /// endpoint has not answered it yet, and keeps nothing of it alive.
        Unanswered,
    }
}

/// What the opener of a conn gives for its cold part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NewCold {
    /// The service that matched.
    pub service: Slot,
    /// The real server chosen.
    pub rs: Slot,
    /// What was leased.
    pub lease: LeaseKind,
}

const LIST_MASK: u8 = 0x0f;
const DIRTY: u8 = 0x80;

zeroable_struct! {
    /// The cold part of a conn: whom it belongs to, and where it stands in lists. 32 bytes.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[repr(C, align(32))]
    pub struct Cold {
        service: u32,
        rs: u32,
        created_ms: u32,
        /// When it was put into its list, milliseconds.
        pub(crate) listed_ms: u32,
        pub(crate) prev: u32,
        /// The next in its list, or the next free place.
        pub(crate) next: u32,
        pub(crate) dirty_next: u32,
        version: u16,
        lease: LeaseKind,
        marks: u8,
    }
}

const _: () = assert!(size_of::<Cold>() == 32);

impl Cold {
    /// The service that matched.
    #[inline]
    pub const fn service(&self) -> Slot {
        Slot::from_bits(self.service)
    }

    /// The real server chosen.
    #[inline]
    pub const fn rs(&self) -> Slot {
        Slot::from_bits(self.rs)
    }

    /// What is leased for it.
    #[inline]
    pub const fn lease(&self) -> LeaseKind {
        self.lease
    }

    /// Tick of its opening, milliseconds.
    #[inline]
    pub const fn created_ms(&self) -> u32 {
        self.created_ms
    }

    /// Counts its transitions, from 1; wraps.
    #[inline]
    pub const fn version(&self) -> u16 {
        self.version
    }

    /// Begins a conn. Its place in the dirty FIFO outlives the conn before it.
    pub(crate) fn open(&mut self, new: NewCold, now: Now) {
        self.service = new.service.to_bits();
        self.rs = new.rs.to_bits();
        self.lease = new.lease;
        self.created_ms = now.tick_ms;
        self.version = 0;
        self.marks &= DIRTY;
    }

    pub(crate) fn set_lease(&mut self, lease: LeaseKind) {
        self.lease = lease;
    }

    pub(crate) fn bump(&mut self) {
        self.version = self.version.wrapping_add(1);
    }

    pub(crate) fn restore(&mut self, version: u16, created_ms: u32) {
        self.version = version;
        self.created_ms = created_ms;
    }

    pub(crate) const fn is_dirty(&self) -> bool {
        self.marks & DIRTY != 0
    }

    pub(crate) fn set_dirty(&mut self, dirty: bool) {
        self.marks = self.marks & !DIRTY | if dirty { DIRTY } else { 0 };
    }

    /// The list that it stands in.
    pub(crate) fn list(&self) -> Option<List> {
        let number = usize::from(self.marks & LIST_MASK);
        number.checked_sub(1).and_then(|number| List::ALL.get(number).copied())
    }

    pub(crate) fn set_list(&mut self, list: Option<List>) {
        let number = match list {
            Some(list) => list as u8 + 1,
            None => 0,
        };
        self.marks = self.marks & !LIST_MASK | number;
    }
}
