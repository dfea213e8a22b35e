//! What a worker has counted of a service or a server.

use std::ops::AddAssign;

/// Packets and bytes of conns, by direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// From clients.
    pub forward_packets: u64,
    /// From clients.
    pub forward_bytes: u64,
    /// To clients.
    pub reverse_packets: u64,
    /// To clients.
    pub reverse_bytes: u64,
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        self.forward_packets += other.forward_packets;
        self.forward_bytes += other.forward_bytes;
        self.reverse_packets += other.reverse_packets;
        self.reverse_bytes += other.reverse_bytes;
    }
}

/// Counts of a server or a service: of one worker, or added up over all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Established conns.
    pub active: u32,
    /// Other conns: opening or closing.
    pub inactive: u32,
    /// Conns ever opened.
    pub opened: u64,
    /// Conns that it was asked for and did not get.
    pub refused: u64,
    /// What conns have sent, as far as it has been added with [`Cells::add_traffic`].
    pub traffic: Traffic,
}

impl Totals {
    /// Conns now.
    pub const fn conns(&self) -> u32 {
        self.active.saturating_add(self.inactive)
    }

    pub(crate) fn opened(&mut self) {
        self.inactive += 1;
        self.opened += 1;
    }

    pub(crate) fn established(&mut self) {
        if self.inactive > 0 {
            self.inactive -= 1;
            self.active += 1;
        }
    }

    pub(crate) fn closing(&mut self) {
        if self.active > 0 {
            self.active -= 1;
            self.inactive += 1;
        }
    }

    /// False if there was none: a count that does not match is not made worse.
    pub(crate) fn closed(&mut self, active: bool) -> bool {
        let count = if active { &mut self.active } else { &mut self.inactive };
        let had = *count > 0;
        *count = count.saturating_sub(1);
        had
    }
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.active = self.active.saturating_add(other.active);
        self.inactive = self.inactive.saturating_add(other.inactive);
        self.opened += other.opened;
        self.refused += other.refused;
        self.traffic += other.traffic;
    }
}
