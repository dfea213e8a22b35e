//! How a packet ends.

use std::fmt;

macro_rules! verdicts {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)*) => {
        /// The end of a packet, and the index of its counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Verdict {
            $($(#[doc = $doc])+ $name,)*
        }

        impl Verdict {
            /// All of them, in the order of their counters.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name of the counter.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// One sentence on what it means, for people.
            pub const fn help(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($doc),+).trim_ascii(),)*
                }
            }
        }
    };
}

verdicts! {
    /// Handed to the NIC, which took it.
    Sent = "sent",
    /// Put into a ring: another worker's, which owns its key or has its conn, or our own, between two inside hosts of ours.
    Handed = "handed",
    /// Given to the control thread or to the kernel interface.
    Punted = "punted",
    /// Ended here with a reply of ours: ARP, echo, reset or an ICMP error.
    Answered = "answered",

    /// Frame shorter than its headers, or longer than any we can send.
    Malformed = "drop.malformed",
    /// EtherType that is neither IPv4 nor ARP.
    UnknownEtherType = "drop.unknown-ethertype",
    /// Frame with the tag of a VLAN that no interface of ours is on.
    UnknownVlan = "drop.unknown-vlan",
    /// ARP packet that is not Ethernet over IPv4, or whose fields contradict each other.
    BadArp = "drop.bad-arp",
    /// Sent to another station's Ethernet address.
    OtherStation = "drop.other-station",
    /// IP header with a wrong version, header length or total length.
    BadIpHeader = "drop.bad-ip-header",
    /// IPv4 header with a wrong checksum.
    BadIpChecksum = "drop.bad-ip-checksum",
    /// IP source that cannot be: multicast, broadcast, loopback, unspecified or our own, or an inside host's from outside.
    BadSource = "drop.bad-source",
    /// Source-routed packet (RFC 7126 advises to drop them), or a routing header with segments left (RFC 5095).
    SourceRouted = "drop.source-routed",
    /// IPv6 extension headers or options that overrun, are too many, or stand where they may not.
    BadExtension = "drop.bad-extension",
    /// TCP, UDP or ICMP header that does not fit its packet or contradicts itself.
    BadTransport = "drop.bad-transport",
    /// IPv6 datagram without UDP checksum (RFC 8200 section 8.1).
    NoChecksum = "drop.no-checksum",
    /// Neighbour discovery from another link, or whose fields contradict each other (RFC 4861).
    BadNdp = "drop.bad-ndp",
    /// Fragment whose first one did not come in time or was not let through, or that found no room to wait for it.
    NoFirstFragment = "drop.no-first-fragment",
    /// Fragment that overlaps others, is longer than any packet, or parts the transport header (RFC 1858).
    BadFragment = "drop.bad-fragment",
    /// IP protocol that no address of ours speaks.
    UnknownProtocol = "drop.unknown-protocol",

    /// Destination that is no address of ours.
    NotOurs = "drop.not-ours",
    /// To an address of ours, but for no service and nobody who listens.
    NoService = "drop.no-service",
    /// Answer that the rate limit of replies of ours left out.
    ReplyLimit = "drop.reply-limit",

    /// First packet of a TCP conn that is no SYN.
    NotSyn = "drop.not-syn",
    /// Packet that no conn expects in its state.
    BadState = "drop.bad-state",
    /// Service without a real server that takes new conns.
    NoRealServer = "drop.no-real-server",
    /// No free port on any LIP towards the real server.
    NoLease = "drop.no-lease",
    /// Limit of the service's or the real server's conns reached.
    ConnLimit = "drop.conn-limit",
    /// Flow table full, and nothing in it may be evicted.
    TableFull = "drop.table-full",
    /// The daemon is stopping and takes no new conns.
    Stopping = "drop.stopping",
    /// To a LIP, but of no conn.
    NoConn = "drop.no-conn",
    /// ICMP error whose inner packet is of no conn.
    IcmpNoConn = "drop.icmp-no-conn",
    /// ICMP error of a type that does not pass, or with a broken inner packet or checksum.
    BadIcmp = "drop.bad-icmp",

    /// What has no translation to the other family: another protocol than TCP, UDP and ICMP, a type of ICMP, fragments of it (RFC 7915).
    Untranslatable = "drop.untranslatable",
    /// To a WAN IP, but no mapping has this port.
    NoMapping = "drop.no-mapping",
    /// To a mapping, from a remote that the rule's filtering keeps out.
    Filtered = "drop.filtered",
    /// To a mapping or through a port forward that has as many conns from outside as may be left unanswered.
    Unanswered = "drop.unanswered",
    /// To a port forward whose server has a conn with this client already, by another port of ours.
    ForwardTaken = "drop.forward-taken",
    /// No free port on any WAN IP of the rule.
    WanExhausted = "drop.wan-exhausted",
    /// Limit of an inside address's ports, sessions or new sessions a second reached.
    SubscriberLimit = "drop.subscriber-limit",
    /// A rule of `snat` says to drop it.
    NatDenied = "drop.nat-denied",
    /// The policy or a rule of `forwarding` does not let it through.
    ForwardDenied = "drop.forward-denied",
    /// Its source is not reached by the interface that it came from (RFC 3704).
    ReversePath = "drop.reverse-path",

    /// TTL used up.
    TtlExceeded = "drop.ttl-exceeded",
    /// Larger than the way out takes, and not to be fragmented, or into too many.
    TooBig = "drop.too-big",
    /// No route to the destination.
    NoRoute = "drop.no-route",
    /// The next hop did not answer in time, or too many packets waited for it.
    NoNeighbour = "drop.no-neighbour",
    /// Interface that is down or gone.
    LinkDown = "drop.link-down",

    /// The NIC's transmit queue is full.
    TxFull = "drop.tx-full",
    /// The ring to the worker that owns the key is full.
    HandoffFull = "drop.handoff-full",
    /// The ring to the control thread or to the kernel interface is full.
    PuntFull = "drop.punt-full",
    /// For the kernel, but more of its kind than the kernel interface is given.
    PuntLimit = "drop.punt-limit",
    /// No packet buffer left for a reply or a copy.
    NoBuffer = "drop.no-buffer",
    /// No room in the packet for what had to be inserted.
    NoRoom = "drop.no-room",
    /// A fault of ours; please report it.
    Internal = "drop.internal",
}

impl Verdict {
    /// True if the packet went nowhere.
    pub const fn is_drop(self) -> bool {
        !matches!(self, Self::Sent | Self::Handed | Self::Punted | Self::Answered)
    }

    /// The verdict of a counter's name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|verdict| verdict.name() == name)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_say_drop() {
        for (index, verdict) in Verdict::ALL.iter().enumerate() {
            assert_eq!(*verdict as usize, index);
            assert_eq!(Verdict::from_name(verdict.name()), Some(*verdict));
            assert_eq!(verdict.is_drop(), verdict.name().starts_with("drop."));
            assert!(verdict.help().ends_with('.'), "{verdict}");
        }
    }
}
