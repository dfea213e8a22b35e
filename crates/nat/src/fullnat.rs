//! What FullNAT decides for a conn: its two flows, with all that each packet's rewrite needs.

use flow::{Flow, flags};
use types::{FlowKey, Now, Proto};

use crate::Family;
use crate::reuse::{Pair, Secrets};
use crate::translate::translating;

/// What is known of a client's first packet.
#[derive(Clone, Copy, Debug)]
pub struct Opening<A = u32> {
    /// From the client to the VIP.
    pub key: FlowKey<A>,
    /// The client's initial sequence number, if TCP.
    pub sequence: u32,
    /// The client's first timestamp, if it offers them.
    pub timestamp: Option<u32>,
}

/// Whether the client's address is shown to the real server, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAddress {
    /// The TCP option of DPVS's `toa`.
    #[default]
    Toa,
    /// The IP option of DPVS's `uoa`, on datagrams.
    Option,
    /// The PROXY protocol's header.
    Proxy {
        /// Of datagrams, each has one; else the first.
        each: bool,
    },
    /// Not at all.
    None,
}

/// Zone of the forward flow of a conn that is for one packet of a client of IPv4, see [`hide`].
pub const ONE_PACKET_ZONE: u16 = u16::MAX;
/// The same of a client of IPv6.
pub const ONE_PACKET_ZONE_V6: u16 = u16::MAX - 1;

/// Gives the forward flow a key that no packet arrives with: so each packet of the client opens a conn of its own,
/// for its answers. It is that of the packet as it leaves, which is the conn's own; the family in which it arrives
/// is told by the zone.
pub fn hide<A: Family>(forward: &mut Flow<A>) {
    let zone = match forward.dst.to_ip().is_ipv4() {
        true => ONE_PACKET_ZONE,
        false => ONE_PACKET_ZONE_V6,
    };
    let FlowKey { src, dst, sport, dport, .. } = forward.new_key();
    (forward.src, forward.dst, forward.zone) = (src, dst, zone);
    (forward.sport, forward.dport) = (sport, dport);
}

/// Whether a conn is for one packet of its client, by its forward flow.
pub const fn is_one_packet<A>(forward: &Flow<A>) -> bool {
    matches!(forward.zone, ONE_PACKET_ZONE | ONE_PACKET_ZONE_V6)
}

/// The flows of a new conn, forward first: client to VIP becomes LIP to real server, and back.
///
/// For TCP the client's sequence numbers and timestamps are moved onto clocks of ours, so that the
/// port may soon serve the same real server again (see [`crate::reuse`]).
pub fn flows<A: Family>(
    opening: &Opening<A>,
    pair: Pair<A>,
    client_address: ClientAddress,
    secrets: &Secrets,
    now: Now,
) -> (Flow<A>, Flow<A>) {
    let key = opening.key;
    let answered = FlowKey {
        src: pair.rs,
        dst: pair.lip,
        sport: pair.rport,
        dport: pair.lport,
        zone: key.zone,
        proto: key.proto,
    };
    let mut forward = translating(key, answered.reversed());
    let mut reverse = translating(answered, key.reversed());
    reverse.flags |= flags::REVERSE;
    if key.proto == Proto::Tcp.number() {
        let offset = secrets.initial_sequence(pair, now).wrapping_sub(opening.sequence);
        forward.seq_offset = offset;
        reverse.seq_offset = offset;
        forward.flags |= flags::ADJUST_SEQ;
        reverse.flags |= flags::ADJUST_ACK;
        if let Some(timestamp) = opening.timestamp {
            let first = secrets.initial_timestamp(pair.lip, pair.rs, now);
            forward.ts_offset = first.wrapping_sub(timestamp);
            reverse.ts_offset = forward.ts_offset;
            forward.flags |= flags::ADJUST_TS;
            reverse.flags |= flags::ADJUST_TS;
        }
        let shown = match client_address {
            ClientAddress::Toa => flags::TOA,
            ClientAddress::Proxy { .. } => flags::EXT,
            ClientAddress::Option | ClientAddress::None => 0,
        };
        forward.flags |= shown;
        reverse.flags |= shown;
    } else if key.proto == Proto::Udp.number() {
        forward.flags |= match client_address {
            ClientAddress::Option => flags::TOA,
            ClientAddress::Proxy { each: true } => flags::EXT | flags::EACH,
            ClientAddress::Proxy { each: false } => flags::EXT,
            ClientAddress::Toa | ClientAddress::None => 0,
        };
    }
    (forward, reverse)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRETS: Secrets = Secrets { isn: [1, 2], timestamp: [3, 4] };

    #[test]
    fn flows_mirror_each_other() {
        let key = FlowKey {
            src: 0x0a00_0001_u32,
            dst: 0xcb00_710a,
            sport: 40_000,
            dport: 80,
            zone: 0,
            proto: 6,
        };
        let pair = Pair { lip: 0xc612_000a, lport: 1025, rs: 0xc612_0079, rport: 8080 };
        let opening = Opening { key, sequence: 7, timestamp: Some(9) };
        let now = Now::from_ms(1_000);
        let (forward, reverse) = flows(&opening, pair, ClientAddress::Toa, &SECRETS, now);
        assert_eq!(forward.key(), key);
        assert_eq!((forward.new_src, forward.new_sport), (pair.lip, pair.lport));
        assert_eq!((forward.new_dst, forward.new_dport), (pair.rs, pair.rport));
        assert_eq!((reverse.src, reverse.sport), (pair.rs, pair.rport));
        assert_eq!((reverse.dst, reverse.dport), (pair.lip, pair.lport));
        assert_eq!((reverse.new_src, reverse.new_sport), (key.dst, key.dport));
        assert_eq!((reverse.new_dst, reverse.new_dport), (key.src, key.sport));
        assert_eq!(forward.seq_offset.wrapping_add(7), SECRETS.initial_sequence(pair, now));
        assert_eq!(
            forward.ts_offset.wrapping_add(9),
            SECRETS.initial_timestamp(pair.lip, pair.rs, now)
        );
        assert_eq!(reverse.flags & flags::REVERSE, flags::REVERSE);
    }

    #[test]
    fn udp_needs_no_adjustment() {
        let key = FlowKey { src: 1_u32, dst: 2, sport: 3, dport: 4, zone: 0, proto: 17 };
        let pair = Pair { lip: 5, lport: 6, rs: 7, rport: 8 };
        let opening = Opening { key, sequence: 0, timestamp: None };
        let (forward, reverse) =
            flows(&opening, pair, ClientAddress::Toa, &SECRETS, Now::default());
        assert_eq!(forward.flags, 0);
        assert_eq!(reverse.flags, flags::REVERSE);
        let (forward, _) = flows(&opening, pair, ClientAddress::Option, &SECRETS, Now::default());
        assert_eq!(forward.flags, flags::TOA);
    }
}
