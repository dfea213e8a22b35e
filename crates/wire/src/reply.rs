//! Packets of our own making: answers made in place of the question, and the few that begin anew.
//!
//! An answer goes back to the station that the question came from. What the functions here cannot
//! make they refuse (`false`, `None`); the packet is then only good for dropping.

mod arp;
mod echo;
mod error;
mod error6;
mod ndp;
mod reset;

use types::{Address, MacAddr, Packet};

pub use arp::{ARP_MAX_LEN, arp_announcement, arp_reply, arp_request};
pub use echo::{echo_reply, echo_reply6};
pub use error::{ErrorMessage, QUOTE_MAX, icmp_error, may_answer_with_error};
pub use error6::{QUOTE6_MAX, icmp6_error, may_answer_with_error6};
pub use ndp::neighbour_advertisement;
pub use reset::{
    RESET_MAX_LEN, RESET6_MAX_LEN, Reset, reset_reply, reset_reply6, write_reset, write_reset6,
};

use crate::{Ethernet, Parsed, ethernet};

/// The two stations of a frame in the order of its answer: destination, then source.
/// `None` if it was sent to a group, which cannot be a source.
#[inline]
fn answer_stations(bytes: &[u8]) -> Option<(MacAddr, MacAddr)> {
    let header = Ethernet::new_checked(bytes)?;
    let ours = header.destination();
    (!ours.is_multicast()).then(|| (header.source(), ours))
}

/// Cuts L2 and whatever is beyond `l3_len` bytes of the packet, and makes room of `extra` bytes and
/// for a new L2 header before it. Returns where L3 begins then.
#[inline]
fn reshape<P: Packet, A: Address>(
    packet: &mut P,
    parsed: &Parsed<A>,
    extra: usize,
    l3_len: usize,
) -> Option<usize> {
    let l3 = usize::from(parsed.l3);
    packet.truncate(l3.wrapping_add(l3_len));
    let new_l3 = if parsed.vlan == 0 {
        ethernet::LEN
    } else {
        ethernet::LEN.wrapping_add(ethernet::VLAN_LEN)
    };
    (packet.trim(l3) && packet.prepend(new_l3.wrapping_add(extra))).then_some(new_l3)
}
