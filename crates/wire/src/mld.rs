//! Multicast listener discovery (RFC 3810): we tell that we listen to the groups in which neighbours ask
//! for our addresses, or a switch that snoops (RFC 4541) would not let their questions through.

use types::MacAddr;

use crate::extension::HOP_BY_HOP;
use crate::icmpv6::{self, Icmpv6};
use crate::ipv6::{self, Repr};
use crate::{Parsed6, chunk_at_mut, ethernet, ndp, verify_icmp6};

/// Groups of a report, at most: as many as fit into 1280 bytes.
pub const GROUPS_MAX: usize = 60;

/// Longest frame that is written here, in bytes.
pub const MAX_LEN: usize = ethernet::LEN
    + ethernet::VLAN_LEN
    + ipv6::LEN
    + OPTIONS_LEN
    + icmpv6::LEN
    + GROUPS_MAX * RECORD_LEN;

const _: () = assert!(MAX_LEN - ethernet::LEN - ethernet::VLAN_LEN <= ipv6::MIN_MTU as usize);

/// Hop-by-hop options with a router alert.
const OPTIONS_LEN: usize = 8;
/// A record without sources.
const RECORD_LEN: usize = 20;

/// Next header, length, router alert of value 0: multicast listener discovery (RFC 2711 §2.1), two bytes
/// of padding.
const ROUTER_ALERT: [u8; OPTIONS_LEN] = [icmpv6::PROTOCOL, 0, 5, 2, 0, 0, 1, 0];

/// What a report says of each of its groups (§5.2.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Change {
    /// We listen, whatever the source: the answer to a query.
    Listening = 2,
    /// We listen no longer.
    Leaves = 3,
    /// We listen from now on.
    Joins = 4,
}

/// Writes a report on `groups` from the link-local address `source`, or from `::` while there is none
/// (§5.2.13). Returns the frame's length; `None` if `bytes` are shorter, or without groups or with more
/// than [`GROUPS_MAX`].
pub fn write_report(
    bytes: &mut [u8],
    mac: MacAddr,
    vlan: u16,
    source: u128,
    change: Change,
    groups: &[u128],
) -> Option<usize> {
    if groups.is_empty() || groups.len() > GROUPS_MAX {
        return None;
    }
    let destination = ipv6::ALL_MLDV2_ROUTERS;
    let station = ipv6::multicast_mac(destination);
    let l3 = ethernet::write(bytes, station, mac, vlan, ethernet::IPV6)?;
    let options = l3.wrapping_add(ipv6::LEN);
    let l4 = options.wrapping_add(OPTIONS_LEN);
    let records = groups.len().wrapping_mul(RECORD_LEN);
    let len = OPTIONS_LEN.wrapping_add(icmpv6::LEN).wrapping_add(records);
    // §5: hop limit 1, router alert.
    let header = Repr { hop_limit: 1, ..Repr::new(source, destination, HOP_BY_HOP, len as u16) };
    header.write(bytes, l3)?;
    *chunk_at_mut(bytes, options)? = ROUTER_ALERT;
    let mut message = Icmpv6::at_mut(bytes, l4)?;
    message.set_icmp_type(icmpv6::MLDV2_REPORT);
    message.set_code(0);
    message.set_checksum(0);
    message.set_rest(groups.len() as u32);
    let mut at = l4.wrapping_add(icmpv6::LEN);
    for group in groups {
        *chunk_at_mut(bytes, at)? = [change as u8, 0, 0, 0];
        *chunk_at_mut(bytes, at.wrapping_add(4))? = group.to_be_bytes();
        at = at.wrapping_add(RECORD_LEN);
    }
    ndp::finish(bytes, l4, at, source, destination)?;
    Some(at)
}

/// A query for listeners (§5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// How long the answer may take, in milliseconds.
    pub max_delay_ms: u32,
    /// The group that is asked for; 0 for all.
    pub group: u128,
}

/// Reads a query of version 1 or 2 out of a parsed message that is wholly in `bytes`; `None` if it is none,
/// comes from beyond the link, or its checksum is wrong (§5.1.14, RFC 2710 §3).
pub fn read_query(bytes: &[u8], parsed: &Parsed6) -> Option<Query> {
    let is_query = parsed.icmp_type == icmpv6::MLD_QUERY
        && parsed.key.proto == icmpv6::PROTOCOL
        && parsed.ttl == 1
        && ipv6::is_link_local(parsed.key.src);
    if !is_query || verify_icmp6(bytes, parsed).is_err() {
        return None;
    }
    let message = bytes.get(usize::from(parsed.l4)..parsed.ip_end())?;
    let &[_, _, _, _, high, low, _, _] = crate::chunk_at::<8>(message, 0)?;
    let group = u128::from_be_bytes(*crate::chunk_at(message, icmpv6::LEN)?);
    let code = u16::from_be_bytes([high, low]);
    // §5.1.3: above 32,767 it is a number of mantissa and exponent; version 1 has none so high.
    let max_delay_ms = if code < 0x8000 {
        u32::from(code)
    } else {
        let exponent = u32::from(code >> 12 & 7).wrapping_add(3);
        (u32::from(code & 0x0fff) | 0x1000) << exponent
    };
    Some(Query { max_delay_ms, group })
}
