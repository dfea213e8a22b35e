//! Answers to neighbour solicitations.

use types::{MacAddr, Packet};

use crate::ndp::{self, AdvertisementFlags, Message};
use crate::{Ethernet, Parsed6, ipv6};

/// Turns a neighbour solicitation into the advertisement that answers it: `target` is at `mac`
/// (RFC 4861 §7.2.4). `message` is what [`ndp::read`] says of it.
///
/// False, and the packet may be spoilt, if it is none or there is no room.
#[must_use]
pub fn neighbour_advertisement<P: Packet>(
    packet: &mut P,
    parsed: &Parsed6,
    message: &Message,
    mac: MacAddr,
) -> bool {
    turn(packet, parsed, message, mac).is_some()
}

fn turn<P: Packet>(
    packet: &mut P,
    parsed: &Parsed6,
    message: &Message,
    mac: MacAddr,
) -> Option<()> {
    let &Message::NeighbourSolicitation { target, source_mac } = message else { return None };
    let asker = parsed.key.src;
    let asking = Ethernet::new_checked(packet.bytes())?.source();
    // Who tries whether the address is free has none to be answered at: all are told (§7.2.4).
    let (to, solicited) = if asker == 0 {
        ((ipv6::multicast_mac(ipv6::ALL_NODES), ipv6::ALL_NODES), false)
    } else {
        ((source_mac.unwrap_or(asking), asker), true)
    };
    let flags = AdvertisementFlags { router: true, solicited, overrides: true };
    let mut frame = [0; ndp::MAX_LEN];
    let len = ndp::write_advertisement(&mut frame, mac, parsed.vlan, to, target, flags)?;
    let frame = frame.get(..len)?;
    packet.truncate(len);
    let missing = len.saturating_sub(packet.total_len());
    if missing > 0 && !packet.append(missing) || !packet.pull(len) {
        return None;
    }
    packet.bytes_mut().get_mut(..len)?.copy_from_slice(frame);
    Some(())
}
