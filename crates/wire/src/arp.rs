//! ARP for IPv4 over Ethernet (RFC 826).

/// Operation: who has the target address?
pub const REQUEST: u16 = 1;
/// Operation: the sender has its address.
pub const REPLY: u16 = 2;
/// Hardware type, protocol type and both lengths of Ethernet over IPv4, in one number.
pub(crate) const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];

view! {
    /// An ARP packet of Ethernet over IPv4.
    Arp[28] {
        /// Type of the link; 1 is Ethernet.
        hardware_type, set_hardware_type: u16 @ 0;
        /// Type of the protocol; 0x0800 is IPv4.
        protocol_type, set_protocol_type: u16 @ 2;
        /// Length of a hardware address in bytes.
        hardware_len, set_hardware_len: u8 @ 4;
        /// Length of a protocol address in bytes.
        protocol_len, set_protocol_len: u8 @ 5;
        /// [`REQUEST`] or [`REPLY`].
        operation, set_operation: u16 @ 6;
        /// The sender's Ethernet address.
        sender_mac, set_sender_mac: mac @ 8;
        /// The sender's IPv4 address; 0 in a probe (RFC 5227).
        sender_ip, set_sender_ip: u32 @ 14;
        /// The target's Ethernet address; of no meaning in a request.
        target_mac, set_target_mac: mac @ 18;
        /// The target's IPv4 address.
        target_ip, set_target_ip: u32 @ 24;
    }
}

#[cfg(test)]
mod tests {
    use types::MacAddr;

    use super::*;

    view_tests!(Arp {
        hardware_type, set_hardware_type = 0x0102_u16;
        protocol_type, set_protocol_type = 0x0800_u16;
        hardware_len, set_hardware_len = 6_u8;
        protocol_len, set_protocol_len = 4_u8;
        operation, set_operation = 0x0304_u16;
        sender_mac, set_sender_mac = MacAddr([1, 2, 3, 4, 5, 6]);
        sender_ip, set_sender_ip = 0x0102_0304_u32;
        target_mac, set_target_mac = MacAddr([1, 2, 3, 4, 5, 6]);
        target_ip, set_target_ip = 0x0102_0304_u32;
    });
}
