//! The states of a conn, and how long it may be idle in each.

use arch::zeroable_enum;
use serde::{Deserialize, Serialize};
use types::Proto;

zeroable_enum! {
    /// What a conn has seen so far.
    #[derive(
        Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
    )]
    #[serde(rename_all = "kebab-case")]
    pub enum State {
        /// Not a conn: a free place in the slab.
        #[default]
        Free,
        /// TCP: the opener's SYN.
        SynSent,
        /// TCP: SYN of both sides, the opener's ACK is missing.
        SynReceived,
        /// TCP: data flows.
        Established,
        /// TCP: the opener has sent FIN.
        ForwardFin,
        /// TCP: the other side has sent FIN.
        ReverseFin,
        /// TCP: FIN of both sides, neither acknowledged.
        BothFin,
        /// TCP: FIN of both sides, the opener has still to acknowledge.
        ForwardLastAck,
        /// TCP: FIN of both sides, the other side has still to acknowledge.
        ReverseLastAck,
        /// TCP: closed by both sides, or for good by RST.
        Closed,
        /// TCP: a RST was seen, which may not have ended it: who goes on speaking revives it.
        Reset,
        /// UDP: no reply yet.
        UdpOneway,
        /// UDP: packets of both sides.
        Udp,
        /// ICMP query: no reply yet.
        IcmpOneway,
        /// ICMP query: answered.
        Icmp,
    }
}

/// A FIFO that conns stand in until they are due, by state and timeout class; and one of redirects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum List {
    HalfOpen,
    UdpOneway,
    IcmpOneway,
    Closing,
    HalfClosed,
    Closed,
    Redirect,
}

impl List {
    pub(crate) const ALL: [Self; 7] = [
        Self::HalfOpen,
        Self::UdpOneway,
        Self::IcmpOneway,
        Self::Closing,
        Self::HalfClosed,
        Self::Closed,
        Self::Redirect,
    ];

    /// How long what stands in it may be idle, the same for all of it.
    pub(crate) fn timeout_ms(self, timeouts: &TimeoutSet) -> u32 {
        match self {
            Self::HalfOpen => timeouts.of(State::SynSent),
            Self::UdpOneway => timeouts.of(State::UdpOneway),
            Self::IcmpOneway => timeouts.of(State::IcmpOneway),
            Self::Closing => timeouts.of(State::BothFin),
            Self::HalfClosed => timeouts.of(State::ForwardFin),
            Self::Closed => timeouts.of(State::Closed),
            Self::Redirect => timeouts.longest(),
        }
    }
}

impl State {
    /// The state of a conn that its first packet opens. IP protocols without ports (GRE, ESP) are
    /// tracked as UDP is, with its timeouts.
    #[inline]
    pub const fn opening(protocol: u8) -> Self {
        match Proto::from_number(protocol) {
            Some(Proto::Tcp) => Self::SynSent,
            Some(Proto::Icmp) => Self::IcmpOneway,
            Some(Proto::Udp) | None => Self::UdpOneway,
        }
    }

    /// The protocol whose state this is; `None` for [`State::Free`].
    pub const fn proto(self) -> Option<Proto> {
        match self {
            Self::Free => None,
            Self::UdpOneway | Self::Udp => Some(Proto::Udp),
            Self::IcmpOneway | Self::Icmp => Some(Proto::Icmp),
            _ => Some(Proto::Tcp),
        }
    }

    /// True if both sides have spoken and none has ended: what a scheduler counts as active.
    #[inline]
    pub const fn is_established(self) -> bool {
        matches!(self, Self::Established | Self::Udp | Self::Icmp)
    }

    /// True until both sides have spoken, and the opener of a TCP conn has proven that it hears the other one.
    #[inline]
    pub const fn is_opening(self) -> bool {
        matches!(self.list(), Some(List::HalfOpen | List::UdpOneway | List::IcmpOneway))
    }

    /// True from the first FIN or RST on.
    #[inline]
    pub const fn is_closing(self) -> bool {
        matches!(self.list(), Some(List::Closing | List::HalfClosed | List::Closed))
    }

    /// The list that conns of this state stand in; established ones stand in none.
    #[inline]
    pub(crate) const fn list(self) -> Option<List> {
        match self {
            Self::Free | Self::Established | Self::Udp | Self::Icmp => None,
            Self::SynSent | Self::SynReceived => Some(List::HalfOpen),
            Self::UdpOneway => Some(List::UdpOneway),
            Self::IcmpOneway => Some(List::IcmpOneway),
            Self::ForwardFin | Self::ReverseFin => Some(List::HalfClosed),
            Self::BothFin | Self::ForwardLastAck | Self::ReverseLastAck => Some(List::Closing),
            Self::Closed | Self::Reset => Some(List::Closed),
        }
    }
}

/// Which packets keep a conn alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Refresh {
    /// Those of both sides (RFC 4787 REQ-6 a).
    #[default]
    Both,
    /// Those whose source is exchanged: they come from inside (RFC 4787 REQ-6). If neither side's is,
    /// those of both.
    Outbound,
    /// None: it lasts for its timeout, however much is sent.
    Never,
}

/// How long conns of one class may be idle, by state. Milliseconds, at most
/// [`TimeoutSet::MAX_MS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeoutSet {
    /// TCP until the handshake is complete.
    pub tcp_syn_ms: u32,
    /// TCP while data flows.
    pub tcp_established_ms: u32,
    /// TCP from the first FIN on; of a [`TimeoutSet::gateway`] from the second.
    pub tcp_closing_ms: u32,
    /// TCP after both FINs are acknowledged, or after RST.
    pub tcp_closed_ms: u32,
    /// UDP before a reply.
    pub udp_oneway_ms: u32,
    /// UDP.
    pub udp_ms: u32,
    /// ICMP queries.
    pub icmp_ms: u32,
    /// TCP by the rules of NAT gateways: a conn is open until both sides have sent FIN (RFC 5382 §5),
    /// and any RST only makes it transitory (RFC 7857 §2.2).
    pub gateway: bool,
    /// Which packets count.
    pub refresh: Refresh,
}

impl Default for TimeoutSet {
    fn default() -> Self {
        Self {
            tcp_syn_ms: 30_000,
            tcp_established_ms: 900_000,
            tcp_closing_ms: 60_000,
            tcp_closed_ms: 5_000,
            udp_oneway_ms: 30_000,
            udp_ms: 300_000,
            icmp_ms: 60_000,
            gateway: false,
            refresh: Refresh::Both,
        }
    }
}

impl TimeoutSet {
    /// About 12 days: half of what ticks of 32 bits can tell apart.
    pub const MAX_MS: u32 = 1 << 30;

    /// As RFC 5382 REQ-5, RFC 4787 REQ-5 and RFC 5508 REQ-2 ask of a NAT gateway.
    pub const GATEWAY: Self = Self {
        tcp_syn_ms: 240_000,
        tcp_established_ms: 7_440_000,
        tcp_closing_ms: 240_000,
        tcp_closed_ms: 240_000,
        udp_oneway_ms: 300_000,
        udp_ms: 300_000,
        icmp_ms: 60_000,
        gateway: true,
        refresh: Refresh::Both,
    };

    /// Of conns that a remote has opened to a mapping or through a port forward, until the inside host answers:
    /// half a minute, in which a SYN is sent again four times.
    pub const UNANSWERED: Self = Self {
        tcp_syn_ms: 30_000,
        tcp_established_ms: 30_000,
        tcp_closing_ms: 30_000,
        tcp_closed_ms: 30_000,
        udp_oneway_ms: 30_000,
        udp_ms: 30_000,
        icmp_ms: 30_000,
        gateway: true,
        refresh: Refresh::Never,
    };

    /// The timeout of a state; longer ones count as [`TimeoutSet::MAX_MS`].
    #[inline]
    pub fn of(&self, state: State) -> u32 {
        let ms = match state {
            State::Free => 0,
            State::SynSent | State::SynReceived => self.tcp_syn_ms,
            State::Established => self.tcp_established_ms,
            State::ForwardFin | State::ReverseFin if self.gateway => self.tcp_established_ms,
            State::ForwardFin
            | State::ReverseFin
            | State::BothFin
            | State::ForwardLastAck
            | State::ReverseLastAck => self.tcp_closing_ms,
            State::Closed | State::Reset => self.tcp_closed_ms,
            State::UdpOneway => self.udp_oneway_ms,
            State::Udp => self.udp_ms,
            State::IcmpOneway | State::Icmp => self.icmp_ms,
        };
        ms.min(Self::MAX_MS)
    }

    /// The longest that a conn may be idle in any state.
    pub fn longest(&self) -> u32 {
        State::ALL.iter().map(|state| self.of(*state)).max().unwrap_or(0)
    }
}

/// The timeouts of all 256 classes. A service with timeouts of its own has a class of its own; the last one
/// is [`Timeouts::UNANSWERED`].
#[derive(Clone, Debug)]
pub struct Timeouts {
    classes: Box<[TimeoutSet; 256]>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self::new(TimeoutSet::default())
    }
}

impl Timeouts {
    /// The class of [`TimeoutSet::UNANSWERED`].
    pub const UNANSWERED: u8 = u8::MAX;

    /// The same for every other class.
    pub fn new(all: TimeoutSet) -> Self {
        let mut timeouts = Self { classes: Box::new([all; 256]) };
        timeouts.set(Self::UNANSWERED, TimeoutSet::UNANSWERED);
        timeouts
    }

    /// Those of one class.
    #[inline]
    pub fn class(&self, class: u8) -> &TimeoutSet {
        // A `u8` cannot miss 256 places; the first one stands in for what cannot happen.
        let [first, ..] = &*self.classes;
        self.classes.get(usize::from(class)).unwrap_or(first)
    }

    /// Changes those of one class.
    pub fn set(&mut self, class: u8, timeouts: TimeoutSet) {
        if let Some(each) = self.classes.get_mut(usize::from(class)) {
            *each = timeouts;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_a_protocol_and_a_timeout_but_free() {
        let set = TimeoutSet::default();
        for &state in State::ALL {
            assert_eq!(state.proto().is_none(), state == State::Free);
            assert_eq!(set.of(state) == 0, state == State::Free);
        }
    }

    #[test]
    fn conns_in_one_list_have_one_timeout() {
        for set in [TimeoutSet { icmp_ms: 7, ..TimeoutSet::default() }, TimeoutSet::GATEWAY] {
            for &a in State::ALL {
                for &b in State::ALL {
                    if a.list().is_some() && a.list() == b.list() {
                        assert_eq!(set.of(a), set.of(b), "{a:?} {b:?}");
                    }
                }
            }
        }
        let set = TimeoutSet { icmp_ms: 7, ..TimeoutSet::default() };
        for list in State::ALL.iter().filter_map(|state| state.list().zip(Some(set.of(*state)))) {
            assert_eq!(list.0.timeout_ms(&set), list.1);
        }
        assert_eq!(List::Redirect.timeout_ms(&set), set.tcp_established_ms);
    }

    #[test]
    fn protocols_without_ports_are_tracked_as_udp() {
        for &proto in &[Proto::Tcp, Proto::Udp, Proto::Icmp] {
            assert_eq!(State::opening(proto.number()).proto(), Some(proto));
        }
        assert_eq!([47, 50, 132].map(State::opening), [State::UdpOneway; 3]);
    }

    /// RFC 5382 REQ-5: 2 h 4 min while open, also with one FIN, and 4 min in transition. RFC 4787 REQ-5:
    /// 2 min at least, 5 recommended. RFC 5508 REQ-2: 60 s at least.
    #[test]
    fn rfc5382_req5_timers_of_a_gateway() {
        let set = TimeoutSet::GATEWAY;
        for state in [State::Established, State::ForwardFin, State::ReverseFin] {
            assert!(set.of(state) >= (2 * 60 + 4) * 60_000);
        }
        let transitory = [State::SynSent, State::SynReceived, State::BothFin, State::Reset];
        for state in transitory.into_iter().chain([State::ForwardLastAck, State::Closed]) {
            assert!(set.of(state) >= 4 * 60_000);
        }
        assert_eq!([State::UdpOneway, State::Udp].map(|state| set.of(state)), [300_000; 2]);
        assert_eq!([State::IcmpOneway, State::Icmp].map(|state| set.of(state)), [60_000; 2]);
    }

    #[test]
    fn a_class_changes_alone() {
        let mut timeouts = Timeouts::default();
        timeouts.set(254, TimeoutSet { udp_ms: u32::MAX, ..TimeoutSet::default() });
        assert_eq!(timeouts.class(254).of(State::Udp), TimeoutSet::MAX_MS);
        assert_eq!(timeouts.class(253), &TimeoutSet::default());
        assert_eq!(timeouts.class(Timeouts::UNANSWERED), &TimeoutSet::UNANSWERED);
    }
}
