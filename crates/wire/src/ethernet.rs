//! Ethernet II with at most one IEEE 802.1Q tag.

use types::MacAddr;

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// EtherType of an IEEE 802.1Q tag.
pub const VLAN: u16 = 0x8100;
/// Length of an IEEE 802.1Q tag in bytes.
pub const VLAN_LEN: usize = 4;

view! {
    /// An Ethernet header.
    Ethernet[14] {
        /// Destination address.
        destination, set_destination: mac @ 0;
        /// Source address.
        source, set_source: mac @ 6;
        /// EtherType of what follows, a tag or a packet.
        ether_type, set_ether_type: u16 @ 12;
    }
}

/// Writes an Ethernet header, with a tag if `vlan` is not 0, and returns its length: where L3 begins.
/// `None` if `bytes` are too short for it.
#[inline]
pub fn write(
    bytes: &mut [u8],
    destination: MacAddr,
    source: MacAddr,
    vlan: u16,
    ether_type: u16,
) -> Option<usize> {
    let len = if vlan == 0 { LEN } else { LEN.wrapping_add(VLAN_LEN) };
    let bytes = bytes.get_mut(..len)?;
    let mut header = Ethernet::new_checked_mut(bytes)?;
    header.set_destination(destination);
    header.set_source(source);
    if vlan == 0 {
        header.set_ether_type(ether_type);
    } else {
        header.set_ether_type(VLAN);
        let [vid_high, vid_low] = (vlan & 0x0fff).to_be_bytes();
        let [type_high, type_low] = ether_type.to_be_bytes();
        *crate::chunk_at_mut(bytes, LEN)? = [vid_high, vid_low, type_high, type_low];
    }
    Some(len)
}

/// Swaps source and destination, so that the frame goes back where it came from.
/// False if there is no header.
#[inline]
pub fn swap(bytes: &mut [u8]) -> bool {
    let Some(mut header) = Ethernet::new_checked_mut(bytes) else { return false };
    let (destination, source) = (header.destination(), header.source());
    header.set_destination(source);
    header.set_source(destination);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    view_tests!(Ethernet {
        destination, set_destination = MacAddr([1, 2, 3, 4, 5, 6]);
        source, set_source = MacAddr([7, 8, 9, 10, 11, 12]);
        ether_type, set_ether_type = 0x86dd_u16;
    });

    #[test]
    fn a_tag_is_written_and_both_stations_swap() {
        let (a, b) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
        let mut bytes = [0xa5; 20];
        assert_eq!(write(&mut bytes, a, b, 100, IPV4), Some(18));
        assert_eq!(bytes[12..], [0x81, 0, 0, 100, 8, 0, 0xa5, 0xa5]);
        assert!(swap(&mut bytes));
        assert_eq!(Ethernet::new_checked(&bytes).unwrap().destination(), b);
        assert_eq!(write(&mut bytes[..17], a, b, 100, IPV4), None);
        assert_eq!(write(&mut bytes[..14], a, b, 0, ARP), Some(14));
        assert!(!swap(&mut bytes[..13]));
    }
}
