//! Neighbour discovery (RFC 4861): IPv6's ARP, and what routers say of themselves.

use types::{MacAddr, Verdict};

use crate::icmpv6::{self, Icmpv6};
use crate::ipv6::{self, Repr};
use crate::{Kind, Parsed6, checksum, chunk_at, chunk_at_mut, ethernet, verify_icmp6};

/// Longest frame that is written here, in bytes: VLAN tag, a target and a link-layer address.
pub const MAX_LEN: usize =
    ethernet::LEN + ethernet::VLAN_LEN + ipv6::LEN + TARGETED_LEN + OPTION_LEN;

/// Hop limit of all messages: what comes from beyond the link has less (RFC 4861 §3.1).
pub const HOP_LIMIT: u8 = 255;

/// ICMPv6 header and target address.
const TARGETED_LEN: usize = 24;
/// Router advertisement without options.
const ADVERTISEMENT_LEN: usize = 16;
/// An option that tells an Ethernet address.
const OPTION_LEN: usize = 8;
/// Options of a message that are looked at; no message of use has more (RFC 4861 §4.6: ten kinds).
const OPTIONS_MAX: usize = 32;

const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;
const PREFIX_INFORMATION: u8 = 3;
const MTU: u8 = 5;

/// Flag of a neighbour advertisement: the sender is a router.
const ROUTER: u8 = 0x80;
/// Flag: it answers a solicitation.
const SOLICITED: u8 = 0x40;
/// Flag: it overrides what was known before.
const OVERRIDE: u8 = 0x20;

/// What a message says. Ethernet addresses are those of its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Who is a router here? (§4.1)
    RouterSolicitation {
        /// Where the asker is.
        source_mac: Option<MacAddr>,
    },
    /// A router is here (§4.2).
    RouterAdvertisement(RouterAdvertisement),
    /// Where is the target? (§4.3)
    NeighbourSolicitation {
        /// The address that is asked for.
        target: u128,
        /// Where the asker is; `None` if it tries whether the address is free (RFC 4862 §5.4).
        source_mac: Option<MacAddr>,
    },
    /// The target is here (§4.4).
    NeighbourAdvertisement {
        /// The address that is told of.
        target: u128,
        /// Where it is.
        target_mac: Option<MacAddr>,
        /// How it is to be taken.
        flags: AdvertisementFlags,
    },
    /// There is a better way (§4.5). We keep to our routes.
    Redirect,
}

/// How a neighbour advertisement is to be taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdvertisementFlags {
    /// The sender is a router.
    pub router: bool,
    /// It answers a solicitation, and so proves that the way there and back is whole.
    pub solicited: bool,
    /// It replaces another Ethernet address that is known.
    pub overrides: bool,
}

/// What a router says of itself and its link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouterAdvertisement {
    /// Hop limit that hosts are to use; 0 if it does not say.
    pub hop_limit: u8,
    /// How long it is a default router, in seconds; 0 if it is none.
    pub lifetime_s: u16,
    /// Where it is.
    pub source_mac: Option<MacAddr>,
    /// MTU of the link in bytes, if it says.
    pub mtu: Option<u32>,
    /// The first prefix that is on the link, with its length in bits.
    pub on_link: Option<(u128, u8)>,
}

/// Reads a message that `parse6` told to be one, and checks all that RFC 4861 §6.1 and §7.1 ask for but
/// the hop limit, which the parser has checked. The message is to be wholly in `bytes`.
///
/// # Errors
/// [`Verdict::BadNdp`].
pub fn read(bytes: &[u8], parsed: &Parsed6) -> Result<Message, Verdict> {
    let is_whole = parsed.kind == Kind::Ndp && parsed.icmp_code == 0;
    if !is_whole || verify_icmp6(bytes, parsed).is_err() {
        return Err(Verdict::BadNdp);
    }
    let message = bytes.get(usize::from(parsed.l4)..parsed.ip_end()).ok_or(Verdict::BadNdp)?;
    read_valid(message, parsed).ok_or(Verdict::BadNdp)
}

fn read_valid(message: &[u8], parsed: &Parsed6) -> Option<Message> {
    let (source, destination) = (parsed.key.src, parsed.key.dst);
    match parsed.icmp_type {
        icmpv6::ROUTER_SOLICITATION => {
            let source_mac = find_mac(message.get(icmpv6::LEN..)?, SOURCE_LINK_LAYER)?;
            // §6.1.1: nobody has no link-layer address to tell.
            (source != 0 || source_mac.is_none())
                .then_some(Message::RouterSolicitation { source_mac })
        }
        icmpv6::ROUTER_ADVERTISEMENT => {
            // §6.1.2.
            ipv6::is_link_local(source).then_some(())?;
            advertised(message).map(Message::RouterAdvertisement)
        }
        icmpv6::NEIGHBOUR_SOLICITATION => {
            let target = target_of(message)?;
            let source_mac = find_mac(message.get(TARGETED_LEN..)?, SOURCE_LINK_LAYER)?;
            // §7.1.1: who has no address yet asks the group of the target, and tells no Ethernet address.
            let is_probe = source == 0;
            let may =
                !is_probe || source_mac.is_none() && destination == ipv6::solicited_node(target);
            may.then_some(Message::NeighbourSolicitation { target, source_mac })
        }
        icmpv6::NEIGHBOUR_ADVERTISEMENT => {
            let target = target_of(message)?;
            let target_mac = find_mac(message.get(TARGETED_LEN..)?, TARGET_LINK_LAYER)?;
            let flags = *message.get(4)?;
            let flags = AdvertisementFlags {
                router: flags & ROUTER != 0,
                solicited: flags & SOLICITED != 0,
                overrides: flags & OVERRIDE != 0,
            };
            // §7.1.2: an answer goes to the asker alone.
            let may = source != 0 && !(flags.solicited && ipv6::is_multicast(destination));
            may.then_some(Message::NeighbourAdvertisement { target, target_mac, flags })
        }
        _ => {
            options(message.get(40..)?).all(|option| option.is_some()).then_some(Message::Redirect)
        }
    }
}

fn target_of(message: &[u8]) -> Option<u128> {
    let target = u128::from_be_bytes(*chunk_at::<16>(message, icmpv6::LEN)?);
    (!ipv6::is_multicast(target) && target != 0).then_some(target)
}

fn advertised(message: &[u8]) -> Option<RouterAdvertisement> {
    let &[_, _, _, _, hop_limit, _, high, low] = chunk_at::<8>(message, 0)?;
    let lifetime_s = u16::from_be_bytes([high, low]);
    let mut said = RouterAdvertisement { hop_limit, lifetime_s, ..RouterAdvertisement::default() };
    for option in options(message.get(ADVERTISEMENT_LEN..)?) {
        match option? {
            (SOURCE_LINK_LAYER, [_, _, mac @ ..]) => {
                said.source_mac = mac.first_chunk().map(|&mac| MacAddr(mac))
            }
            (MTU, option) => {
                said.mtu = chunk_at::<4>(option, 4).map(|mtu| u32::from_be_bytes(*mtu))
            }
            (PREFIX_INFORMATION, option) if said.on_link.is_none() => {
                let (len, flags) = (*option.get(2)?, *option.get(3)?);
                let prefix = u128::from_be_bytes(*chunk_at::<16>(option, 16)?);
                // §4.6.2: the flag L.
                said.on_link = (flags & 0x80 != 0 && len <= 128).then_some((prefix, len));
            }
            _ => {}
        }
    }
    Some(said)
}

/// The Ethernet address of the first option of a kind. `None` if any option is malformed.
fn find_mac(bytes: &[u8], kind: u8) -> Option<Option<MacAddr>> {
    let mut found = None;
    for option in options(bytes) {
        let (its_kind, option) = option?;
        if its_kind == kind && found.is_none() {
            found = chunk_at::<6>(option, 2).map(|&mac| MacAddr(mac));
        }
    }
    // Nobody's address is a group's, and an answer there would go to all.
    let usable = found.is_none_or(|mac| !mac.is_multicast() && !mac.is_zero());
    usable.then_some(found)
}

/// The options, kind and bytes; `None` in place of one that is malformed (§4.6), which is the last then.
fn options(mut bytes: &[u8]) -> impl Iterator<Item = Option<(u8, &[u8])>> {
    let mut left = OPTIONS_MAX;
    std::iter::from_fn(move || {
        let (&kind, rest) = bytes.split_first()?;
        left = left.saturating_sub(1);
        let len = rest.first().map_or(0, |&units| usize::from(units).wrapping_mul(8));
        let option = bytes.get(..len).filter(|option| !option.is_empty() && left > 0);
        bytes = if option.is_some() { bytes.get(len..).unwrap_or(&[]) } else { &[] };
        Some(option.map(|option| (kind, option)))
    })
}

/// Writes a frame that asks for `target`: its group, or the one station that had it last (§7.2.2, §7.3.3).
/// Returns its length; `None` if `bytes` are shorter.
pub fn write_solicitation(
    bytes: &mut [u8],
    mac: MacAddr,
    vlan: u16,
    source: u128,
    target: u128,
    last: Option<MacAddr>,
) -> Option<usize> {
    let group = ipv6::solicited_node(target);
    let (eth_destination, destination) =
        last.map_or((ipv6::multicast_mac(group), group), |last| (last, target));
    let frame = Targeted {
        stations: (eth_destination, mac),
        vlan,
        addresses: (source, destination),
        kind: (icmpv6::NEIGHBOUR_SOLICITATION, 0),
        target,
        // §4.3: nobody has no link-layer address to tell.
        option: (source != 0).then_some((SOURCE_LINK_LAYER, mac)),
    };
    frame.write(bytes)
}

/// Writes a frame that tells everyone that `target` is at `mac`, as gratuitous ARP does (§7.2.6).
/// Returns its length; `None` if `bytes` are shorter.
pub fn write_announcement(
    bytes: &mut [u8],
    mac: MacAddr,
    vlan: u16,
    target: u128,
) -> Option<usize> {
    let to = (ipv6::multicast_mac(ipv6::ALL_NODES), ipv6::ALL_NODES);
    let flags = AdvertisementFlags { router: true, solicited: false, overrides: true };
    write_advertisement(bytes, mac, vlan, to, target, flags)
}

/// Writes a frame that tells the station and address `to` that `target` is at `mac` (§4.4). Returns its
/// length; `None` if `bytes` are shorter.
pub fn write_advertisement(
    bytes: &mut [u8],
    mac: MacAddr,
    vlan: u16,
    to: (MacAddr, u128),
    target: u128,
    flags: AdvertisementFlags,
) -> Option<usize> {
    let bit = |flag: bool, bit: u8| if flag { bit } else { 0 };
    let flags = bit(flags.router, ROUTER)
        | bit(flags.solicited, SOLICITED)
        | bit(flags.overrides, OVERRIDE);
    let frame = Targeted {
        stations: (to.0, mac),
        vlan,
        addresses: (target, to.1),
        kind: (icmpv6::NEIGHBOUR_ADVERTISEMENT, flags),
        target,
        option: Some((TARGET_LINK_LAYER, mac)),
    };
    frame.write(bytes)
}

/// A solicitation or advertisement, to be written.
struct Targeted {
    /// Ethernet destination and source.
    stations: (MacAddr, MacAddr),
    vlan: u16,
    /// IPv6 source and destination.
    addresses: (u128, u128),
    /// Type, and flags of an advertisement.
    kind: (u8, u8),
    target: u128,
    option: Option<(u8, MacAddr)>,
}

impl Targeted {
    fn write(&self, bytes: &mut [u8]) -> Option<usize> {
        let (source, destination) = self.addresses;
        let l3 =
            ethernet::write(bytes, self.stations.0, self.stations.1, self.vlan, ethernet::IPV6)?;
        let l4 = l3.wrapping_add(ipv6::LEN);
        let len = TARGETED_LEN.wrapping_add(self.option.map_or(0, |_| OPTION_LEN));
        let end = l4.wrapping_add(len);
        let header = Repr {
            hop_limit: HOP_LIMIT,
            ..Repr::new(source, destination, icmpv6::PROTOCOL, len as u16)
        };
        header.write(bytes, l3)?;
        let mut message = Icmpv6::at_mut(bytes, l4)?;
        message.set_icmp_type(self.kind.0);
        message.set_code(0);
        message.set_checksum(0);
        message.set_rest(u32::from(self.kind.1) << 24);
        *chunk_at_mut(bytes, l4.wrapping_add(icmpv6::LEN))? = self.target.to_be_bytes();
        if let Some((kind, mac)) = self.option {
            let MacAddr([a, b, c, d, e, f]) = mac;
            *chunk_at_mut(bytes, l4.wrapping_add(TARGETED_LEN))? = [kind, 1, a, b, c, d, e, f];
        }
        finish(bytes, l4, end, source, destination)?;
        Some(end)
    }
}

/// Writes the checksum of the ICMPv6 message from `l4` to `end`.
pub(crate) fn finish(
    bytes: &mut [u8],
    l4: usize,
    end: usize,
    source: u128,
    destination: u128,
) -> Option<()> {
    let message = bytes.get(l4..end)?;
    let len = message.len() as u32;
    let pseudo = checksum::pseudo_header_v6(source, destination, icmpv6::PROTOCOL, len);
    let sum = checksum::add(pseudo, checksum::sum(message));
    Icmpv6::at_mut(bytes, l4)?.set_checksum(!sum);
    Some(())
}
