//! ARP packets.

use types::MacAddr;

use crate::{Arp, Kind, Parsed, arp, ethernet};

/// Longest frame that is written here, in bytes.
pub const ARP_MAX_LEN: usize = 46;

/// Turns an ARP request into its reply: the address asked for is at `mac`. False if it is none.
#[inline]
pub fn arp_reply(bytes: &mut [u8], parsed: &Parsed, mac: MacAddr) -> bool {
    if parsed.kind != Kind::Arp {
        return false;
    }
    let Some(mut header) = Arp::at_mut(bytes, usize::from(parsed.l3)) else { return false };
    if header.operation() != arp::REQUEST {
        return false;
    }
    let (asker_mac, asker_ip) = (header.sender_mac(), header.sender_ip());
    header.set_operation(arp::REPLY);
    header.set_sender_mac(mac);
    header.set_sender_ip(header.target_ip());
    header.set_target_mac(asker_mac);
    header.set_target_ip(asker_ip);
    let Some(mut header) = ethernet::Ethernet::new_checked_mut(bytes) else { return false };
    header.set_destination(asker_mac);
    header.set_source(mac);
    true
}

/// Writes a frame that asks who has `target_ip`: everyone, or the one station that had it last
/// (RFC 1122 §2.3.2.1). Returns its length; `None` if `bytes` are shorter.
pub fn arp_request(
    bytes: &mut [u8],
    mac: MacAddr,
    vlan: u16,
    sender_ip: u32,
    target_ip: u32,
    target_mac: Option<MacAddr>,
) -> Option<usize> {
    let destination = target_mac.unwrap_or(MacAddr::BROADCAST);
    let l3 = ethernet::write(bytes, destination, mac, vlan, ethernet::ARP)?;
    *crate::chunk_at_mut(bytes, l3)? = arp::ETHERNET_IPV4;
    let mut header = Arp::at_mut(bytes, l3)?;
    header.set_operation(arp::REQUEST);
    header.set_sender_mac(mac);
    header.set_sender_ip(sender_ip);
    header.set_target_mac(target_mac.unwrap_or_default());
    header.set_target_ip(target_ip);
    Some(l3.wrapping_add(arp::LEN))
}

/// Writes a frame that tells everyone that `address` is at `mac` (gratuitous ARP: an announcement
/// by RFC 5227 §2.3). Returns its length; `None` if `bytes` are shorter.
pub fn arp_announcement(bytes: &mut [u8], mac: MacAddr, vlan: u16, address: u32) -> Option<usize> {
    arp_request(bytes, mac, vlan, address, address, None)
}
