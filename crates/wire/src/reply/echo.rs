//! Answers to ping.

use crate::{
    Ethernet, Icmpv4, Icmpv6, Ipv4, Ipv6, Kind, Parsed, Parsed6, checksum, icmpv4, icmpv6, ipv4,
    ipv6,
};

/// Turns an ICMP echo request into its reply (RFC 792; RFC 1122 §3.2.2.6: data and TOS come back).
///
/// The checksum is updated, not computed: a wrong one stays wrong. Fragments of a request become those of
/// its reply, each by itself. False if it is no echo request or was sent to an Ethernet group.
#[inline]
pub fn echo_reply(bytes: &mut [u8], parsed: &Parsed) -> bool {
    turn_round(bytes, parsed).is_some()
}

fn turn_round(bytes: &mut [u8], parsed: &Parsed) -> Option<()> {
    let (destination, source) = super::answer_stations(bytes)?;
    match parsed.kind {
        Kind::IcmpQuery => turn_message(bytes, usize::from(parsed.l4))?,
        Kind::Fragment if parsed.icmp_type == icmpv4::ECHO_REQUEST => {}
        _ => return None,
    }

    let mut ip = Ipv4::at_mut(bytes, usize::from(parsed.l3))?;
    let (asker, asked) = (ip.source(), ip.destination());
    let ttls = [ip.ttl(), ipv4::DEFAULT_TTL].map(|ttl| u16::from_be_bytes([ttl, 0]));
    // The addresses change places, which their sum does not see.
    ip.set_source(asked);
    ip.set_destination(asker);
    ip.set_ttl(ipv4::DEFAULT_TTL);
    ip.adjust_checksum(checksum::delta_u16(ttls[0], ttls[1]));

    let mut header = Ethernet::new_checked_mut(bytes)?;
    header.set_destination(destination);
    header.set_source(source);
    Some(())
}

fn turn_message(bytes: &mut [u8], at: usize) -> Option<()> {
    let mut message = Icmpv4::at_mut(bytes, at)?;
    let code = u16::from(message.code());
    let request = u16::from_be_bytes([icmpv4::ECHO_REQUEST, 0]) | code;
    let reply = u16::from_be_bytes([icmpv4::ECHO_REPLY, 0]) | code;
    message.set_icmp_type(icmpv4::ECHO_REPLY);
    message.adjust_checksum(checksum::delta_u16(request, reply));
    // 0 would be wrong for a message that is nothing but zeros, and 0xffff is right for every one.
    let never_zero = checksum::udp_never_zero(message.checksum());
    message.set_checksum(never_zero);
    Some(())
}

/// Turns an ICMPv6 echo request into its reply from `source`, which is the address asked unless that is a
/// group's (RFC 4443 §4.2); otherwise as [`echo_reply`].
#[inline]
pub fn echo_reply6(bytes: &mut [u8], parsed: &Parsed6, source: u128) -> bool {
    turn_round6(bytes, parsed, source).is_some()
}

fn turn_round6(bytes: &mut [u8], parsed: &Parsed6, source: u128) -> Option<()> {
    let (eth_destination, eth_source) = super::answer_stations(bytes)?;
    match parsed.kind {
        Kind::IcmpQuery => turn_message6(bytes, parsed, source)?,
        // The first one has the checksum of the whole.
        Kind::Fragment if parsed.icmp_type == icmpv6::ECHO_REQUEST => {}
        _ => return None,
    }

    let mut ip = Ipv6::at_mut(bytes, usize::from(parsed.l3))?;
    let asker = ip.source();
    ip.set_source(source);
    ip.set_destination(asker);
    ip.set_hop_limit(ipv6::DEFAULT_HOP_LIMIT);

    let mut header = Ethernet::new_checked_mut(bytes)?;
    header.set_destination(eth_destination);
    header.set_source(eth_source);
    Some(())
}

fn turn_message6(bytes: &mut [u8], parsed: &Parsed6, source: u128) -> Option<()> {
    let mut message = Icmpv6::at_mut(bytes, usize::from(parsed.l4))?;
    let code = u16::from(message.code());
    let request = u16::from_be_bytes([icmpv6::ECHO_REQUEST, 0]) | code;
    let reply = u16::from_be_bytes([icmpv6::ECHO_REPLY, 0]) | code;
    message.set_icmp_type(icmpv6::ECHO_REPLY);
    // The addresses change places, which the pseudo header's sum does not see.
    let delta = checksum::add(
        checksum::delta_u16(request, reply),
        checksum::delta_u128(parsed.key.dst, source),
    );
    message.adjust_checksum(delta);
    Some(())
}
