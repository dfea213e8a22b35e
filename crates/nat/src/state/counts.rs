//! What is counted for each rule and port forward.

use types::Slot;

/// What was counted for a rule or port forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleCounts {
    /// Conns now.
    pub sessions: u32,
    /// Mappings now.
    pub mappings: u32,
    /// Conns opened.
    pub opened: u64,
    /// Packets from the openers.
    pub forward_packets: u64,
    /// Their bytes, from the IP header on.
    pub forward_bytes: u64,
    /// Packets to the openers.
    pub reverse_packets: u64,
    /// Their bytes, from the IP header on.
    pub reverse_bytes: u64,
    /// Conns refused because there was no free port.
    pub exhausted: u64,
    /// Packets that its filtering kept out.
    pub filtered: u64,
    /// Conns refused because a subscriber had enough.
    pub limited: u64,
    /// Packets that it let pass unchanged: excepted, or by its action.
    pub accepted: u64,
    /// Their bytes, from the IP header on.
    pub accepted_bytes: u64,
    /// Packets that it dropped by its action.
    pub dropped: u64,
    /// Their bytes, from the IP header on.
    pub dropped_bytes: u64,
}

impl std::ops::AddAssign for RuleCounts {
    fn add_assign(&mut self, other: Self) {
        self.sessions += other.sessions;
        self.mappings += other.mappings;
        self.opened += other.opened;
        self.forward_packets += other.forward_packets;
        self.forward_bytes += other.forward_bytes;
        self.reverse_packets += other.reverse_packets;
        self.reverse_bytes += other.reverse_bytes;
        self.exhausted += other.exhausted;
        self.filtered += other.filtered;
        self.limited += other.limited;
        self.accepted += other.accepted;
        self.accepted_bytes += other.accepted_bytes;
        self.dropped += other.dropped;
        self.dropped_bytes += other.dropped_bytes;
    }
}

/// Packets and bytes of a conn since they were taken last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// From the opener.
    pub forward: (u32, u64),
    /// To the opener.
    pub reverse: (u32, u64),
}

/// The counts of what stands at a slot's index, and whose they are.
#[derive(Clone, Copy, Default)]
pub(super) struct RuleCell {
    pub(super) slot: Slot,
    pub(super) counts: RuleCounts,
}
