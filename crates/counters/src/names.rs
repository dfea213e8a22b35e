//! What is counted besides verdicts.

use std::fmt;

macro_rules! names {
    ($(#[$meta:meta])* $enum:ident { $($(#[doc = $doc:literal])+ $name:ident = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $enum {
            $($(#[doc = $doc])+ $name,)*
        }

        impl $enum {
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

        impl fmt::Display for $enum {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }
    };
}

names! {
    /// Where packets begin: the left side of the ledger.
    Source {
        /// Packets taken from a NIC's receive queue.
        Received = "received",
        /// Packets that we made: replies, errors, resets, ARP requests.
        Generated = "generated",
        /// Packets taken from rings: another worker's, or our own, between two inside hosts of ours.
        FromRing = "from-ring",
        /// Packets that the kernel sends by a kernel interface.
        FromKernel = "from-kernel",
    }
}

names! {
    /// What may go down as well as up. Values of several workers add up; a difference keeps the later.
    Gauge {
        /// Packets held at the moment, waiting for a neighbour or for the first fragment.
        Held = "held",
        /// Conns in the flow table.
        Conns = "conns",
        /// Those of them that have an IPv6 side.
        Ipv6Conns = "conns-ipv6",
        /// Conns that are not established yet.
        HalfOpen = "conns-half-open",
        /// Redirects in the flow table: keys whose conn is on another worker.
        Redirects = "redirects",
        /// Ports of LIPs taken or resting.
        Leases = "leases",
        /// Generation of the snapshot that the worker runs.
        Generation = "generation",
    }
}

names! {
    /// What happens to packets and conns on the way, beside the verdict that ends a packet.
    Event {
        /// Conns opened.
        Opened = "conn.opened",
        /// Conns that ended by their protocol's own means.
        Closed = "conn.closed",
        /// Conns that ended by a timeout.
        Expired = "conn.expired",
        /// Conns that had to go because the table was full.
        Evicted = "conn.evicted",
        /// Packets routed on without a conn.
        Forwarded = "packet.forwarded",
        /// Records of the log of NAT for which there was no room.
        NatLogLost = "nat-log.lost",
        /// Conns that a newer SYN replaced.
        Reopened = "conn.reopened",
        /// Packets sent on to a worker that has their conn though it does not own their key, or may have it.
        Redirected = "packet.redirected",
        /// Ports that rest because the server may still remember their last conn.
        LeaseRested = "lease.rested",
        /// Packets that got the client's address as an option of TCP or IP.
        ToaInserted = "toa.inserted",
        /// Packets that had no room for the client's address.
        ToaLeftOut = "toa.left-out",
        /// Headers of the PROXY protocol sent to servers, once for each conn, and on each datagram that has one.
        ProxySent = "proxy.sent",
        /// Headers sent again, since the server had not acknowledged them or misses them.
        ProxyResent = "proxy.resent",
        /// Conns whose server has acknowledged the header.
        ProxyAcknowledged = "proxy.acknowledged",
        /// Headers of clients' own in whose place ours went.
        ProxyReplaced = "proxy.replaced",
        /// Headers of clients' own that were passed on.
        ProxyPassed = "proxy.passed",
        /// Conns that were reset because their server had never acknowledged the header.
        ProxyGivenUp = "proxy.given-up",
        /// ICMP errors translated and passed on.
        IcmpTranslated = "icmp.translated",
        /// Packets whose headers had to be copied together or moved.
        Copied = "packet.copied",
        /// Packets that were larger than their way out takes, and were cut into fragments.
        Fragmented = "packet.fragmented",
        /// Packets whose transport checksum the sender had left to an interface, and that got it here.
        ChecksumFinished = "packet.checksum-finished",
        /// Packets that waited for a neighbour.
        NeighbourHeld = "neighbour.held",
        /// Times that control was asked to resolve a neighbour.
        NeighbourAsked = "neighbour.asked",
        /// ARP requests answered.
        ArpAnswered = "answer.arp",
        /// Neighbour solicitations answered.
        NdAnswered = "answer.nd",
        /// Echo requests answered.
        EchoAnswered = "answer.echo",
        /// TCP resets made.
        ResetMade = "answer.reset",
        /// ICMP errors made.
        IcmpErrorMade = "answer.icmp-error",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_explained() {
        let names = [
            Source::ALL.iter().map(|s| (s.name(), s.help())).collect::<Vec<_>>(),
            Gauge::ALL.iter().map(|g| (g.name(), g.help())).collect(),
            Event::ALL.iter().map(|e| (e.name(), e.help())).collect(),
        ]
        .concat();
        let distinct: HashSet<_> = names.iter().map(|(name, _)| name).collect();
        assert_eq!(distinct.len(), names.len());
        assert!(names.iter().all(|(_, help)| help.ends_with('.')));
    }
}
